//! Functions that are rounded once: computed in float64 and stored as float32.

/// The natural logarithm.
pub(super) fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// The exponential.
pub(super) fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// `exp(x) - 1`.
pub(super) fn expm1(x: f32) -> f32 {
    f64::from(x).exp_m1() as f32
}
