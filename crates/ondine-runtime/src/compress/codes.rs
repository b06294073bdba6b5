//! The codes of a matrix, and the numbers that they stand for.

use half::f16;

/// F16 loses digits below this, so smaller scales and tables are F32.
pub(super) const LEAST_HALF: f32 = 1.0 / 8192.0;

/// The codes of a matrix, one per element, and the numbers that they stand for.
#[derive(Clone)]
pub(super) struct Codes {
    pub(super) codes: Vec<u8>,
    pub(super) levels: Levels,
    /// Elements of a row with one scale, or rows with one table.
    pub(super) group: usize,
    /// True if the numbers of `levels` are F16.
    pub(super) half: bool,
    /// What the codes stand for.
    pub(super) values: Vec<f32>,
}

/// See [`Codes`].
#[derive(Clone)]
pub(super) enum Levels {
    Integers { scales: Vec<f32>, zeros: Option<Vec<f32>> },
    Palette(Vec<f32>),
}

/// The smallest F16 that is not below `x`, which is none of the largest.
pub(super) fn half_above(x: f32) -> f32 {
    let half = f16::from_f32(x);
    if half.to_f32() < x { f16::from_bits(half.to_bits() + 1).to_f32() } else { half.to_f32() }
}

/// Scales or tables as F16 if that keeps their digits, and whether it does.
pub(super) fn halved(mut values: Vec<f32>) -> (Vec<f32>, bool) {
    let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    // A table has small numbers beside large ones, which need not keep more digits than these.
    let half = largest == 0.0 || (LEAST_HALF..f16::MAX.to_f32()).contains(&largest);
    if half {
        values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32());
    }
    (values, half)
}
