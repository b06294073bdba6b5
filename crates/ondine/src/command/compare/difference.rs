//! How far two tensors are apart.

use ondine_runtime::{DType, NDArray};
use serde_json::{Value, json};

/// What is still taken as equal.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    /// As a share of the largest magnitude of the reference.
    pub(super) relative: f64,
    pub(super) absolute: f64,
    /// The least ratio of signal to noise, in decibels.
    pub(super) psnr: Option<f64>,
}

/// How far a tensor is from its reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    /// The largest difference of two elements.
    pub(super) largest: f64,
    /// Where it is, and both elements there.
    at: Vec<usize>,
    pair: [f64; 2],
    /// The largest finite magnitude of the reference.
    peak: f64,
    /// The square root of the mean square of the differences.
    rms: f64,
    /// The same of the reference itself.
    signal: f64,
    /// Elements that are finite in one of the two only, or other infinities.
    wild: usize,
    /// Elements of integers, which differ if they are not equal.
    exact: bool,
    /// Both shapes, if they differ: then nothing else is known.
    pub(super) shapes: Option<[Vec<usize>; 2]>,
}

impl Difference {
    /// Compares element by element; both must be in the same order of dimensions.
    pub(super) fn of(found: &NDArray, wanted: &NDArray) -> Self {
        let exact = !found.dtype().is_float() && !wanted.dtype().is_float();
        let mut difference = Self {
            largest: 0.0,
            at: Vec::new(),
            pair: [0.0; 2],
            peak: 0.0,
            rms: 0.0,
            signal: 0.0,
            wild: 0,
            exact,
            shapes: None,
        };
        if found.shape() != wanted.shape() {
            difference.shapes = Some([found.shape().to_vec(), wanted.shape().to_vec()]);
            return difference;
        }
        let (mut squares, mut signal, mut position) = (0.0, 0.0, 0);
        for (i, (a, b)) in numbers(found).into_iter().zip(numbers(wanted)).enumerate() {
            if b.is_finite() {
                difference.peak = difference.peak.max(b.abs());
                signal += b * b;
            }
            if a == b || a.is_nan() && b.is_nan() {
                continue;
            }
            let apart = (a - b).abs();
            if apart.is_finite() {
                squares += apart * apart;
            } else {
                difference.wild += 1;
            }
            if (difference.wild == 1 && !apart.is_finite()) || (difference.wild == 0 && apart > difference.largest) {
                (difference.largest, difference.pair, position) = (apart, [a, b], i);
            }
        }
        let count = found.len().max(1) as f64;
        difference.rms = (squares / count).sqrt();
        difference.signal = (signal / count).sqrt();
        difference.at = place(position, found.shape());
        difference
    }

    /// True if the difference is more than is tolerated.
    pub(super) fn parts(&self, tolerance: Tolerance) -> bool {
        if self.shapes.is_some() || self.wild > 0 {
            return true;
        }
        if self.exact {
            return self.largest > 0.0;
        }
        self.largest > tolerance.absolute + tolerance.relative * self.peak
            || tolerance.psnr.is_some_and(|least| self.psnr() < least)
    }

    /// The largest difference as a share of the largest magnitude.
    pub(super) fn of_peak(&self) -> f64 {
        if self.largest == 0.0 { 0.0 } else { self.largest / self.peak }
    }

    /// The length of the difference as a share of the length of the reference.
    pub(super) fn relative(&self) -> f64 {
        match (self.wild, self.rms) {
            (1.., _) => f64::INFINITY,
            (_, 0.0) => 0.0,
            (_, rms) => rms / self.signal,
        }
    }

    /// The peak of the reference beside the root mean square of the differences, in decibels.
    pub(super) fn psnr(&self) -> f64 {
        match (self.wild, self.rms) {
            (1.., _) => f64::NEG_INFINITY,
            (_, 0.0) => f64::INFINITY,
            (_, rms) => 20.0 * (self.peak / rms).log10(),
        }
    }

    /// What a person reads in a table.
    pub(super) fn columns(&self) -> String {
        match &self.shapes {
            Some([found, wanted]) => format!("shape {found:?} instead of {wanted:?}"),
            None if self.largest == 0.0 => format!("{:>9} {:>9} {:>9}", "0", "0", "equal"),
            None => format!("{:9.2e} {:9.2e} {:6.1} dB", self.largest, self.of_peak(), self.psnr()),
        }
    }

    /// What a person reads about one tensor.
    pub(super) fn describe(&self) -> String {
        match &self.shapes {
            Some([found, wanted]) => format!("its shape is {found:?} instead of {wanted:?}"),
            None => format!(
                "{:e} instead of {:e} at {:?}, {:.2e} of the peak; PSNR {:.1} dB",
                self.pair[0],
                self.pair[1],
                self.at,
                self.of_peak(),
                self.psnr()
            ),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        // JSON has no infinity; what cannot be told is null.
        json!({
            "max_difference": self.largest,
            "at": self.at,
            "found": self.pair[0],
            "wanted": self.pair[1],
            "peak": self.peak,
            "of_peak": self.of_peak(),
            "relative": self.relative(),
            "psnr_db": self.psnr(),
            "nonfinite_mismatches": self.wild,
            "shapes": self.shapes,
        })
    }
}

/// The elements; integers of 64 bits are rounded beyond 2^53 only.
fn numbers(array: &NDArray) -> Vec<f64> {
    match array.view::<i64>() {
        Ok(integers) if array.dtype() == DType::I64 => integers.iter().map(|&x| x as f64).collect(),
        _ => array.to_f32().into_iter().map(f64::from).collect(),
    }
}

/// The index of an element by its position.
pub(super) fn place(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, &size) in index.iter_mut().zip(shape).rev() {
        *index = position % size.max(1);
        position /= size.max(1);
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[f32]) -> NDArray {
        NDArray::new(&[2, values.len() / 2], values).unwrap()
    }

    #[test]
    fn the_largest_difference_is_found_where_it_is() {
        let difference = Difference::of(&array(&[1.0, 2.0, 3.5, 4.0]), &array(&[1.0, 2.1, 3.0, 4.0]));
        assert_eq!((difference.largest, &difference.at[..], difference.pair), (0.5, &[1, 0][..], [3.5, 3.0]));
        assert!((difference.of_peak() - 0.125).abs() < 1e-9);
        let rms = ((0.1_f64.powi(2) + 0.25) / 4.0).sqrt();
        assert!((difference.psnr() - 20.0 * (4.0 / rms).log10()).abs() < 1e-4);
        let tolerance = |relative, psnr| Tolerance { relative, absolute: 0.0, psnr };
        assert!(difference.parts(tolerance(0.12, None)) && !difference.parts(tolerance(0.13, None)));
        assert!(difference.parts(tolerance(0.13, Some(30.0))));
    }

    #[test]
    fn equal_infinities_and_nans_are_equal_and_others_part() {
        let tolerance = Tolerance { relative: 1e9, absolute: 1e9, psnr: None };
        let same = [f32::NAN, f32::INFINITY, 1.0, 2.0];
        assert_eq!(Difference::of(&array(&same), &array(&same)).psnr(), f64::INFINITY);
        let nan = Difference::of(&array(&same), &array(&[0.0, f32::INFINITY, 1.0, 2.0]));
        assert!(nan.parts(tolerance) && nan.wild == 1 && nan.at == [0, 0]);
        let sign = Difference::of(&array(&same), &array(&[f32::NAN, f32::NEG_INFINITY, 1.0, 2.0]));
        assert!(sign.parts(tolerance) && sign.at == [0, 1]);
    }

    #[test]
    fn integers_are_equal_or_not_and_shapes_must_fit() {
        let tolerance = Tolerance { relative: 1.0, absolute: 10.0, psnr: None };
        let integers = |values: &[i64]| NDArray::new(&[2], values).unwrap();
        assert!(Difference::of(&integers(&[1, 2]), &integers(&[1, 3])).parts(tolerance));
        assert!(!Difference::of(&integers(&[1, 2]), &integers(&[1, 2])).parts(tolerance));
        assert!(Difference::of(&integers(&[1, 2]), &array(&[1.0, 2.0])).parts(tolerance));
    }
}
