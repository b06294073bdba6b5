//! The numbers that the loops compute with: as exact as f64, or with a bound of what a device may be off by.

use half::{bf16, f16};
use ondine_graph::DType;

/// What one operation of a device may be off by, relative to its result: twice the rounding of f32, so that it may take
/// two where a formula has one (a product with a reciprocal for a quotient).
pub const UNIT: f64 = f32::EPSILON as f64;

/// What is smaller may be 0 on a device.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// [`UNIT`]s by which an elementary function may be off.
pub const ELEMENTARY: f64 = 4.0;

/// A number of the loops.
///
/// Each method that computes says what it computes; [`Bounded`] adds what a device of 32 bits may be off by.
pub trait Real: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// A number that is known exactly.
    fn exact(value: f64) -> Self;

    /// The number.
    fn value(self) -> f64;

    /// What a device's number may be off by.
    fn error(self) -> f64;

    /// The same number, of which a device may be off by another `error`.
    fn off(self, error: f64) -> Self;

    /// `self + other`
    fn plus(self, other: Self) -> Self;

    /// `self * other`
    fn times(self, other: Self) -> Self;

    /// `function(self)`, which a device computes to so many [`UNIT`]s.
    fn map(self, units: f64, function: impl Fn(f64) -> f64) -> Self;

    /// The sum, in whatever order a device adds.
    fn sum(terms: impl IntoIterator<Item = Self>) -> Self;

    /// The sum of products.
    fn dot(a: &[Self], b: &[Self]) -> Self {
        Self::sum(a.iter().zip(b).map(|(a, b)| a.times(*b)))
    }

    /// `self - other`
    fn minus(self, other: Self) -> Self {
        self.plus(other.negated())
    }

    /// `-self`
    fn negated(self) -> Self {
        self.map(0.0, |x| -x)
    }

    /// `self / other`
    fn over(self, other: Self) -> Self {
        if other.error() == 0.0 {
            return self.map(1.0, |x| x / other.value());
        }
        // To the first order, as everywhere.
        let quotient = self.map(1.0, |x| x / other.value());
        quotient.off((self.value() / other.value() / other.value()).abs() * other.error())
    }

    /// The larger; NaN if either is.
    fn larger(self, other: Self) -> Self {
        let chosen = if self.value() > other.value() || self.value().is_nan() { self } else { other };
        // Where both are near each other, a device may choose the other one.
        chosen.off((self.error().max(other.error()) - chosen.error()).max(0.0))
    }

    /// The smaller; NaN if either is.
    fn smaller(self, other: Self) -> Self {
        self.negated().larger(other.negated()).negated()
    }

    /// As a device holds it in `dtype`: as it is where the type has it, else off by its rounding.
    fn held(self, dtype: DType) -> Self {
        let known = round(self.value(), dtype) == self.value() && self.error() == 0.0;
        if known || !self.value().is_finite() {
            self
        } else {
            self.off(half_unit(dtype) * (self.value().abs() + self.error()) + half_step(dtype))
        }
    }
}

impl Real for f64 {
    fn exact(value: f64) -> Self {
        value
    }

    fn value(self) -> f64 {
        self
    }

    fn error(self) -> f64 {
        0.0
    }

    fn off(self, _error: f64) -> Self {
        self
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn times(self, other: Self) -> Self {
        self * other
    }

    fn map(self, _units: f64, function: impl Fn(f64) -> f64) -> Self {
        function(self)
    }

    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        terms.into_iter().sum()
    }

    fn dot(a: &[Self], b: &[Self]) -> Self {
        // Several sums at once, which need not wait for each other.
        const LANES: usize = 8;
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
        }
        sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
    }
}

/// A number and what a device that computes in f32 may be off by: error analysis that runs along with the computation
/// (Wilkinson 1986).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// The number.
    pub value: f64,
    /// The largest error.
    pub error: f64,
}

impl Bounded {
    fn new(value: f64, error: f64, units: f64) -> Self {
        let rounds = units != 0.0 && value.is_finite();
        Self { value, error: if rounds { error + units * UNIT * value.abs() + TINY } else { error } }
    }

    /// True if a device may yield `found` for this number in `dtype`.
    #[must_use]
    pub fn allows(self, found: f64, dtype: DType) -> bool {
        if self.value.is_nan() {
            return found.is_nan();
        }
        let most = largest(dtype);
        if found.is_infinite() {
            // What is too large for the type is infinite, which it may be by an error.
            return found.signum() == self.value.signum() && self.value.abs() + self.error > most;
        }
        if self.value.is_infinite() {
            return false;
        }
        (found - self.value).abs() <= self.error
    }
}

impl Real for Bounded {
    fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    fn value(self) -> f64 {
        self.value
    }

    fn error(self) -> f64 {
        self.error
    }

    fn off(self, error: f64) -> Self {
        Self { error: self.error + error, ..self }
    }

    fn plus(self, other: Self) -> Self {
        // Nothing is rounded where one of them is nothing.
        let units = if self.value == 0.0 || other.value == 0.0 { 0.0 } else { 1.0 };
        Self::new(self.value + other.value, self.error + other.error, units)
    }

    fn times(self, other: Self) -> Self {
        // One factor may be infinite where the other is 0.
        let part = |size: f64, error: f64| if size == 0.0 || error == 0.0 { 0.0 } else { size.abs() * error };
        let error = part(self.value, other.error) + part(other.value, self.error) + part(self.error, other.error);
        Self::new(self.value * other.value, error, 1.0)
    }

    fn map(self, units: f64, function: impl Fn(f64) -> f64) -> Self {
        let value = function(self.value);
        let reach = |x: f64| (function(x) - value).abs();
        let error = if self.error == 0.0 || !value.is_finite() {
            0.0
        } else {
            reach(self.value + self.error).max(reach(self.value - self.error))
        };
        Self::new(value, error, units)
    }

    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        let (mut count, mut sum, mut size) = (0.0, Self::exact(0.0), 0.0);
        for term in terms {
            count += 1.0;
            sum.value += term.value;
            sum.error += term.error;
            size += term.value.abs();
        }
        if count > 1.0 && size.is_finite() {
            sum.error += UNIT * count * size;
        }
        sum
    }
}

/// The nearest number of a floating-point type, ties to even; of other types the number as it is.
#[must_use]
pub(crate) fn round(value: f64, dtype: DType) -> f64 {
    match dtype {
        // A device computes in 32 bits what is told in 64.
        DType::F32 | DType::F64 => f64::from(value as f32),
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => value,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::C64 => value,
    }
}

/// What rounding to a type is off by at most, relative to the number.
fn half_unit(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F64 => UNIT / 2.0,
        // They may be rounded to f32 before.
        DType::F16 => 1.001 / 2048.0,
        DType::BF16 => 1.001 / 256.0,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => 0.0,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::C64 => 0.0,
    }
}

/// Half the distance of the smallest numbers of a floating-point type.
fn half_step(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F64 => TINY / 2_f64.powi(24),
        DType::F16 => 2_f64.powi(-25),
        DType::BF16 => TINY / 2_f64.powi(8),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => 0.0,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::C64 => 0.0,
    }
}

/// The largest finite number of a floating-point type.
fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::MAX.to_f64(),
        DType::BF16 => bf16::MAX.to_f64(),
        DType::F32 | DType::F64 => f32::MAX.into(),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => f64::MAX,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::C64 => f64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_up_as_rounding_does() {
        let third = Bounded::exact(1.0).over(Bounded::exact(3.0));
        assert!(third.error > UNIT / 6.0 && third.error < UNIT);
        let sum = Bounded::sum([third; 9]);
        assert!((sum.error - 9.0 * (third.error + UNIT * 3.0)).abs() < 1e-9 * sum.error);
        assert_eq!(Bounded::sum([Bounded::exact(0.1)]).error, 0.0);
        assert_eq!(Bounded::exact(0.5).held(DType::BF16).error, 0.0);
        assert!(Bounded::exact(0.3).held(DType::BF16).error > Bounded::exact(0.3).held(DType::F32).error);
        assert_eq!(Bounded { value: 2.9, error: 0.2 }.map(0.0, f64::floor).error, 1.0);
        let near = Bounded { value: 1.0, error: 0.5 }.larger(Bounded::exact(1.2));
        assert_eq!((near.value, near.error), (1.2, 0.5));
    }

    #[test]
    fn what_is_not_finite_is_allowed_where_it_belongs() {
        let (nan, inf) = (Bounded::exact(f64::NAN), Bounded::exact(f64::INFINITY));
        assert!(nan.allows(f64::NAN, DType::F32) && !nan.allows(0.0, DType::F32));
        assert!(inf.allows(f64::INFINITY, DType::F32) && !inf.allows(f64::NEG_INFINITY, DType::F32));
        assert!(!inf.allows(f64::from(f32::MAX), DType::F32) && !inf.allows(f64::NAN, DType::F32));
        assert!(Bounded::exact(1e39).allows(f64::INFINITY, DType::F32));
        assert!(!Bounded::exact(1e38).allows(f64::INFINITY, DType::F32));
        assert!(!Bounded::exact(1.0).allows(f64::NAN, DType::F32));
    }
}
