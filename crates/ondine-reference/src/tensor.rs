//! Tensors of the loops: floating-point numbers as [`Real`]s, integers and truth values as they are.

use half::{bf16, f16};
use ondine_graph::{DType, Error, ErrorKind, NDArray, Result, element_count};

use crate::number::{Real, round};

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<R = f64> {
    dtype: DType,
    shape: Vec<usize>,
    elements: Elements<R>,
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements<R> {
    /// Of a floating-point type.
    Real(Vec<R>),
    /// Of an integer type, or truth values as 0 and 1.
    Integer(Vec<i64>),
}

impl<R> Elements<R> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Real(numbers) => numbers.len(),
            Self::Integer(numbers) => numbers.len(),
        }
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An error of [`ErrorKind::Shape`].
pub(crate) fn misfit(message: String) -> Error {
    Error::new(ErrorKind::Shape, message)
}

impl<R: Real> Tensor<R> {
    /// A tensor of a floating-point type; its elements are held as the type holds them.
    ///
    /// # Errors
    /// If the type is none of them, or the number of elements does not fit.
    pub fn real(dtype: DType, shape: &[usize], numbers: Vec<R>) -> Result<Self> {
        let numbers = numbers.into_iter().map(|number| number.held(dtype)).collect();
        Self::new(dtype, shape, Elements::Real(numbers))
    }

    /// A tensor of an integer type or of truth values; of each element the low bits are kept.
    ///
    /// # Errors
    /// If the type is none of them, or the number of elements does not fit.
    pub fn integer(dtype: DType, shape: &[usize], numbers: Vec<i64>) -> Result<Self> {
        let numbers = numbers.into_iter().map(|number| wrap(number, dtype)).collect();
        Self::new(dtype, shape, Elements::Integer(numbers))
    }

    /// A tensor of elements that its type holds.
    ///
    /// # Errors
    /// If they are of the wrong kind, or their number does not fit.
    pub fn new(dtype: DType, shape: &[usize], elements: Elements<R>) -> Result<Self> {
        if element_count(shape) != Some(elements.len()) {
            return Err(misfit(format!("{} elements do not fill shape {shape:?}", elements.len())));
        }
        if dtype.is_float() != matches!(elements, Elements::Real(_)) {
            return Err(misfit(format!("elements that are none of type {dtype}")));
        }
        Ok(Self { dtype, shape: shape.to_vec(), elements })
    }

    /// The numbers of an array, each exact.
    #[must_use]
    pub fn from_array(array: &NDArray) -> Self {
        Self::from_bytes(array.dtype(), array.shape(), array.bytes())
    }

    /// The numbers that little-endian bytes stand for, of any alignment.
    ///
    /// # Panics
    /// If the bytes do not fill the shape.
    #[must_use]
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Self {
        let real = |numbers: Vec<f64>| Elements::Real(numbers.into_iter().map(R::exact).collect());
        let elements = match dtype {
            DType::F32 => real(words(bytes).map(|word| f32::from_le_bytes(word).into()).collect()),
            DType::F16 => real(words(bytes).map(|word| f16::from_le_bytes(word).to_f64()).collect()),
            DType::BF16 => real(words(bytes).map(|word| bf16::from_le_bytes(word).to_f64()).collect()),
            DType::I64 => Elements::Integer(words(bytes).map(i64::from_le_bytes).collect()),
            DType::I32 => Elements::Integer(words(bytes).map(|word| i32::from_le_bytes(word).into()).collect()),
            DType::I8 => Elements::Integer(words(bytes).map(|word| i8::from_le_bytes(word).into()).collect()),
            DType::U8 | DType::Bool => Elements::Integer(bytes.iter().map(|&byte| byte.into()).collect()),
            DType::F64 => real(words(bytes).map(f64::from_le_bytes).collect()),
            // Of complex numbers and the largest integers the bits are kept.
            DType::U64 | DType::C64 => Elements::Integer(words(bytes).map(i64::from_le_bytes).collect()),
            DType::I16 => Elements::Integer(words(bytes).map(|word| i16::from_le_bytes(word).into()).collect()),
            DType::U16 => Elements::Integer(words(bytes).map(|word| u16::from_le_bytes(word).into()).collect()),
            DType::U32 => Elements::Integer(words(bytes).map(|word| u32::from_le_bytes(word).into()).collect()),
        };
        assert_eq!(element_count(shape), Some(elements.len()), "{} bytes of {dtype}, {shape:?}", bytes.len());
        Self { dtype, shape: shape.to_vec(), elements }
    }

    /// The elements as little-endian bytes, rounded to the type.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match (&self.elements, self.dtype) {
            (Elements::Real(numbers), DType::F16) => {
                numbers.iter().flat_map(|x| f16::from_f64(x.value()).to_le_bytes()).collect()
            }
            (Elements::Real(numbers), DType::BF16) => {
                numbers.iter().flat_map(|x| bf16::from_f64(x.value()).to_le_bytes()).collect()
            }
            (Elements::Real(numbers), DType::F64) => numbers.iter().flat_map(|x| x.value().to_le_bytes()).collect(),
            (Elements::Real(numbers), _) => numbers.iter().flat_map(|x| (x.value() as f32).to_le_bytes()).collect(),
            (Elements::Integer(numbers), dtype) => {
                numbers.iter().flat_map(|x| x.to_le_bytes().into_iter().take(dtype.size())).collect()
            }
        }
    }

    /// The tensor as an array, rounded to the type.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn to_array(&self) -> Result<NDArray> {
        NDArray::from_bytes(self.dtype, &self.shape, &self.to_bytes())
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    #[must_use]
    pub fn elements(&self) -> &Elements<R> {
        &self.elements
    }

    /// The elements of a floating-point type.
    ///
    /// # Errors
    /// If they are of another.
    pub fn reals(&self) -> Result<&[R]> {
        match &self.elements {
            Elements::Real(numbers) => Ok(numbers),
            Elements::Integer(_) => Err(misfit(format!("needs floating-point numbers, got {}", self.dtype))),
        }
    }

    /// The elements of an integer type, or truth values.
    ///
    /// # Errors
    /// If they are of another.
    pub fn integers(&self) -> Result<&[i64]> {
        match &self.elements {
            Elements::Integer(numbers) => Ok(numbers),
            Elements::Real(_) => Err(misfit(format!("needs integers, got {}", self.dtype))),
        }
    }

    /// Element `index` as a number that tells whether it is 0.
    #[must_use]
    pub fn is_true(&self, index: usize) -> bool {
        match &self.elements {
            Elements::Real(numbers) => numbers[index].value() != 0.0,
            Elements::Integer(numbers) => numbers[index] != 0,
        }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// If their number does not fit.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        Self::new(self.dtype, shape, self.elements.clone())
    }

    /// The same numbers as a device may hold them in a floating-point type; no others.
    #[must_use]
    pub fn held(&self, dtype: DType) -> Self {
        match &self.elements {
            Elements::Real(numbers) if dtype.is_float() => {
                let numbers = numbers.iter().map(|number| number.held(dtype)).collect();
                Self { dtype: self.dtype, shape: self.shape.clone(), elements: Elements::Real(numbers) }
            }
            _ => self.clone(),
        }
    }

    /// The same numbers in another floating-point type, as a device may hold them.
    ///
    /// # Errors
    /// If they are no floating-point numbers, or the type is none.
    pub fn typed(&self, dtype: DType) -> Result<Self> {
        Self::real(dtype, &self.shape, self.reals()?.to_vec())
    }

    /// The same numbers, of which each may be off by what `error` says of it.
    #[must_use]
    pub fn off(&self, error: impl Fn(usize) -> f64) -> Self {
        let mut tensor = self.clone();
        if let Elements::Real(numbers) = &mut tensor.elements {
            numbers.iter_mut().enumerate().for_each(|(i, number)| *number = number.off(error(i)));
        }
        tensor
    }

    /// A tensor of elements of `sources`, of which the first gives the type: each place is a source and an element of
    /// it, or nothing, which is 0.
    pub(crate) fn pick(
        sources: &[&Self],
        shape: &[usize],
        places: impl IntoIterator<Item = Option<(usize, usize)>>,
    ) -> Result<Self> {
        let dtype = sources.first().map_or(DType::F32, |source| source.dtype);
        let elements = if dtype.is_float() {
            let sources = sources.iter().map(|source| source.reals()).collect::<Result<Vec<_>>>()?;
            let at = |place: Option<(usize, usize)>| place.map_or(R::exact(0.0), |(i, at)| sources[i][at]);
            Elements::Real(places.into_iter().map(at).collect())
        } else {
            let sources = sources.iter().map(|source| source.integers()).collect::<Result<Vec<_>>>()?;
            let at = |place: Option<(usize, usize)>| place.map_or(0, |(i, at)| sources[i][at]);
            Elements::Integer(places.into_iter().map(at).collect())
        };
        Self::new(dtype, shape, elements)
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

/// The integer that the low bits of a number are in `dtype`.
pub(crate) fn wrap(number: i64, dtype: DType) -> i64 {
    match dtype {
        DType::I32 => i64::from(number as i32),
        DType::I8 => i64::from(number as i8),
        DType::U8 => i64::from(number as u8),
        DType::I16 => i64::from(number as i16),
        DType::U16 => i64::from(number as u16),
        DType::U32 => i64::from(number as u32),
        DType::Bool => i64::from(number != 0),
        DType::I64 | DType::U64 | DType::C64 => number,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => number,
    }
}

/// A number as a cast makes it of another: see [`crate::evaluate`].
pub(crate) fn cast_real<R: Real>(number: R, dtype: DType) -> Cast<R> {
    let number = number.map(0.0, |x| round(x, DType::F32));
    // Truncated; what lies outside becomes the nearest end, and what is no number 0.
    let clamped = |low: f64, high: f64| Cast::Integer(number.value().trunc().clamp(low, high) as i64);
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => Cast::Real(number.map(0.0, |x| round(x, dtype))),
        DType::I64 => Cast::Integer(number.value() as i64),
        DType::I32 => clamped(i32::MIN.into(), i32::MAX.into()),
        DType::I8 => clamped(i8::MIN.into(), i8::MAX.into()),
        DType::U8 => clamped(0.0, u8::MAX.into()),
        DType::I16 => clamped(i16::MIN.into(), i16::MAX.into()),
        DType::U16 => clamped(0.0, u16::MAX.into()),
        DType::U32 => clamped(0.0, u32::MAX.into()),
        DType::U64 => Cast::Integer((number.value() as u64).cast_signed()),
        DType::C64 => Cast::Integer(0),
        DType::Bool => Cast::Integer((number.value() != 0.0).into()),
    }
}

/// What a cast yields.
pub(crate) enum Cast<R> {
    Real(R),
    Integer(i64),
}
