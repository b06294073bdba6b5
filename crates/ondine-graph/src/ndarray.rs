//! Dense n-dimensional arrays: what goes into a function and comes out of it.

use std::fmt;

use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};

use crate::{
    aligned::AlignedBytes,
    dtype::DType,
    error::{Result, fail},
};

/// A Rust type that is an element type of arrays.
pub trait Element: NoUninit + AnyBitPattern + Copy {
    /// The element type it stands for.
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),+) => { $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })+ };
}
element!(f32 => F32, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8);
element!(f64 => F64, i16 => I16, u16 => U16, u32 => U32, u64 => U64);

/// A dense array in row-major order, its data aligned to 64 bytes.
///
/// Elements are of one [`DType`]; the Rust types that stand for them are those of [`Element`], and booleans are bytes
/// of 0 and 1. An array of rank 0 holds one number.
///
/// ```
/// use ondine_graph::{DType, NDArray};
///
/// # fn main() -> ondine_graph::Result<()> {
/// let mut x = NDArray::new(&[2, 3], &[0_i64, 1, 2, 3, 4, 5])?;
/// assert_eq!((x.dtype(), x.shape(), x.len()), (DType::I64, &[2, 3][..], 6));
/// x.view_mut::<i64>()?[0] = 7;
/// assert_eq!(x.permute(&[1, 0])?.view::<i64>()?, [7, 3, 1, 4, 2, 5]);
/// assert_eq!(x.reshape(&[6])?.to_f32()[..2], [7.0, 1.0]);
/// assert!(NDArray::new(&[2, 3], &[1.0_f32]).is_err(), "six numbers are wanted");
/// assert!(NDArray::scalar(1.0_f32).view::<i64>().is_err(), "it holds F32");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct NDArray {
    dtype: DType,
    shape: Vec<usize>,
    data: AlignedBytes,
}

/// The product of `shape`, unless it overflows.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

impl NDArray {
    /// An array of zeros.
    ///
    /// # Errors
    /// If its size overflows, or there is no such memory.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self> {
        let Some(bytes) = element_count(shape).and_then(|n| n.checked_mul(dtype.size())) else {
            fail!(Shape, "an array of shape {shape:?} is too large");
        };
        Ok(Self { dtype, shape: shape.to_vec(), data: AlignedBytes::try_zeroed(bytes)? })
    }

    /// An array of `values` in row-major order.
    ///
    /// # Errors
    /// If the number of values is not the product of `shape`.
    pub fn new<T: Element>(shape: &[usize], values: &[T]) -> Result<Self> {
        Self::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(values))
    }

    /// An array whose little-endian elements are the first of `data`, which may be longer.
    ///
    /// # Errors
    /// If there are too few bytes for `shape`.
    pub fn from_aligned(dtype: DType, shape: &[usize], mut data: AlignedBytes) -> Result<Self> {
        match element_count(shape).and_then(|n| n.checked_mul(dtype.size())) {
            Some(len) if len <= data.len => data.len = len,
            _ => fail!(Shape, "{} bytes of {dtype} do not fill shape {shape:?}", data.len),
        }
        Ok(Self { dtype, shape: shape.to_vec(), data })
    }

    /// An array whose little-endian elements are `bytes`.
    ///
    /// # Errors
    /// If the number of bytes does not fit `shape`.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self> {
        let mut array = Self::zeros(dtype, shape)?;
        if array.data.len != bytes.len() {
            fail!(Shape, "{} bytes of {dtype} do not fill shape {shape:?}", bytes.len());
        }
        array.data.as_mut_slice().copy_from_slice(bytes);
        Ok(array)
    }

    /// A rank-0 array.
    pub fn scalar<T: Element>(value: T) -> Self {
        let mut data = AlignedBytes::zeroed(size_of::<T>());
        data.as_mut_slice().copy_from_slice(bytemuck::bytes_of(&value));
        Self { dtype: T::DTYPE, shape: Vec::new(), data }
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes, slowest dimension first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len / self.dtype.size()
    }

    /// True if a dimension is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.len == 0
    }

    /// The elements as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.data.as_slice()
    }

    /// The elements as bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.data.as_mut_slice()
    }

    /// The elements.
    ///
    /// # Errors
    /// If they are not of type `T`.
    pub fn view<T: Element>(&self) -> Result<&[T]> {
        if self.dtype != T::DTYPE {
            fail!(Shape, "the array holds {}, not {}", self.dtype, T::DTYPE);
        }
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    /// The elements, to be written.
    ///
    /// # Errors
    /// If they are not of type `T`.
    pub fn view_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        if self.dtype != T::DTYPE {
            fail!(Shape, "the array holds {}, not {}", self.dtype, T::DTYPE);
        }
        Ok(bytemuck::cast_slice_mut(self.bytes_mut()))
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(mut self, shape: &[usize]) -> Result<Self> {
        if element_count(shape) != Some(self.len()) {
            fail!(Shape, "{} elements do not fill shape {shape:?}", self.len());
        }
        self.shape = shape.to_vec();
        Ok(self)
    }

    /// The array with its dimensions in another order: dimension `i` of the result is dimension `axes[i]` of this one.
    ///
    /// # Errors
    /// If `axes` does not name every dimension once.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.shape.len()) {
            fail!(Shape, "{axes:?} is no order of the dimensions of shape {:?}", self.shape);
        }
        let size = self.dtype.size();
        let mut strides = vec![size; axes.len()];
        for axis in (1..axes.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
        let mut result = Self::zeros(self.dtype, &shape)?;
        let (mut index, mut at) = (vec![0; axes.len()], 0);
        for element in result.data.as_mut_slice().chunks_exact_mut(size) {
            element.copy_from_slice(&self.bytes()[at..at + size]);
            for axis in (0..axes.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                at -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        Ok(result)
    }

    /// The elements as f32, whatever their type; of complex numbers both parts, one after the other.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let bytes = self.bytes();
        match self.dtype {
            DType::F32 | DType::C64 => bytemuck::cast_slice(bytes).to_vec(),
            DType::F64 => bytemuck::cast_slice::<_, f64>(bytes).iter().map(|&x| x as f32).collect(),
            DType::I16 => bytemuck::cast_slice::<_, i16>(bytes).iter().map(|&x| f32::from(x)).collect(),
            DType::U16 => bytemuck::cast_slice::<_, u16>(bytes).iter().map(|&x| f32::from(x)).collect(),
            DType::U32 => bytemuck::cast_slice::<_, u32>(bytes).iter().map(|&x| x as f32).collect(),
            DType::U64 => bytemuck::cast_slice::<_, u64>(bytes).iter().map(|&x| x as f32).collect(),
            DType::F16 => bytemuck::cast_slice::<_, f16>(bytes).iter().map(|x| x.to_f32()).collect(),
            DType::BF16 => bytemuck::cast_slice::<_, bf16>(bytes).iter().map(|x| x.to_f32()).collect(),
            DType::I64 => bytemuck::cast_slice::<_, i64>(bytes).iter().map(|&x| x as f32).collect(),
            DType::I32 => bytemuck::cast_slice::<_, i32>(bytes).iter().map(|&x| x as f32).collect(),
            DType::I8 => bytemuck::cast_slice::<_, i8>(bytes).iter().map(|&x| f32::from(x)).collect(),
            DType::U8 | DType::Bool => bytes.iter().map(|&x| f32::from(x)).collect(),
        }
    }
}

/// Equal in shape, type and every bit.
impl PartialEq for NDArray {
    fn eq(&self, other: &Self) -> bool {
        (self.dtype(), self.shape(), self.bytes()) == (other.dtype(), other.shape(), other.bytes())
    }
}

impl fmt::Debug for NDArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NDArray({}, {:?})", self.dtype, self.shape)
    }
}
