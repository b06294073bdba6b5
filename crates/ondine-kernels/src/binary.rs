//! Functions of two or three operands, element by element, with broadcasting.

use crate::{
    arch::Isa,
    rowwise::{BLOCK, GRAIN, Lane, Number, RowKernel, for_rows, store},
    strided::{Strided, Walk},
    table::Kernels,
    threads::Pool,
};

/// A function of two numbers.
///
/// Integers wrap around; their division truncates toward zero, and a division by zero yields zero, as does a
/// negative power of anything but 1 and -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The smaller; NaN if either is NaN.
    Min,
    /// The larger; NaN if either is NaN.
    Max,
    /// `a` to the power of `b`.
    Pow,
}

/// A comparison of two numbers; false if either is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `a == b`
    Equal,
    /// `a < b`
    Less,
}

/// `out = op(a, b)` for every element of a dense array of the given shape.
///
/// Fastest where along the last dimension an operand is dense or repeated; dimensions that are dense in both
/// operands are joined first, so same shapes, scalars, vectors over the last dimension and `[outer, 1, inner]`
/// against `[outer, mid, inner]` all run at the speed of memory.
///
/// # Panics
/// If `out` has not as many elements as `shape`, an operand has not one stride per dimension, or ends too early.
pub fn binary<T: Number>(
    pool: &Pool,
    kernels: &Kernels,
    op: Binary,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    let walk = Walk::new(shape, [a.strides, b.strides]);
    assert_eq!(out.len(), walk.len(), "the output has not the elements of shape {shape:?}");
    for_rows(pool, out, 1, GRAIN, |first, out| {
        (kernels.number::<T>().binary)(BinaryMap { op, walk: &walk, first, a: a.data, b: b.data, out });
    });
}

/// `out = op(a, b)` as 0 or 1, for every element of a dense array of the given shape.
///
/// # Panics
/// As [`binary`].
pub fn compare<T: Number>(
    pool: &Pool,
    kernels: &Kernels,
    op: Comparison,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [u8],
) {
    let walk = Walk::new(shape, [a.strides, b.strides]);
    assert_eq!(out.len(), walk.len(), "the output has not the elements of shape {shape:?}");
    for_rows(pool, out, 1, GRAIN, |first, out| {
        (kernels.number::<T>().compare)(CompareMap { op, walk: &walk, first, a: a.data, b: b.data, out });
    });
}

/// `a` where `condition` is not 0, else `b`, for every element of a dense array of the given shape. Elements are
/// groups of `size` bytes, whatever their type; strides count elements.
///
/// # Panics
/// If `size` is not 1, 2, 4 or 8, `out` has not `size` bytes for each element of `shape`, or an operand has not one
/// stride per dimension, or ends too early.
pub fn select(
    pool: &Pool,
    size: usize,
    shape: &[usize],
    condition: Strided<'_, u8>,
    a: Strided<'_, u8>,
    b: Strided<'_, u8>,
    out: &mut [u8],
) {
    match size {
        1 => select_sized::<1>(pool, shape, condition, a, b, out),
        2 => select_sized::<2>(pool, shape, condition, a, b, out),
        4 => select_sized::<4>(pool, shape, condition, a, b, out),
        8 => select_sized::<8>(pool, shape, condition, a, b, out),
        _ => panic!("elements of {size} bytes"),
    }
}

fn select_sized<const SIZE: usize>(
    pool: &Pool,
    shape: &[usize],
    condition: Strided<'_, u8>,
    a: Strided<'_, u8>,
    b: Strided<'_, u8>,
    out: &mut [u8],
) {
    let walk = Walk::new(shape, [condition.strides, a.strides, b.strides]);
    assert_eq!(out.len(), walk.len() * SIZE, "the output has not the elements of shape {shape:?}");
    let (a, b) = (a.data.as_chunks::<SIZE>().0, b.data.as_chunks::<SIZE>().0);
    let [condition_stride, a_stride, b_stride] = walk.row_strides();
    for_rows(pool, out.as_chunks_mut::<SIZE>().0, 1, GRAIN, |first, out| {
        for (row, [condition_start, a_start, b_start]) in walk.rows(first..first + out.len()) {
            let out = &mut out[row];
            if [condition_stride, a_stride, b_stride] == [1; 3] {
                let condition = &condition.data[condition_start..][..out.len()];
                let sides = a[a_start..][..out.len()].iter().zip(&b[b_start..][..out.len()]);
                for ((value, &condition), (a, b)) in out.iter_mut().zip(condition).zip(sides) {
                    *value = if condition != 0 { *a } else { *b };
                }
                continue;
            }
            for (i, value) in out.iter_mut().enumerate() {
                let holds = condition.data[condition_start + i * condition_stride] != 0;
                *value = if holds { a[a_start + i * a_stride] } else { b[b_start + i * b_stride] };
            }
        }
    });
}

/// A piece of [`binary`]: the elements from `first` on, as many as `out` has.
pub(crate) struct BinaryMap<'a, T> {
    op: Binary,
    walk: &'a Walk<2>,
    first: usize,
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> RowKernel for BinaryMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let [a_stride, b_stride] = self.walk.row_strides();
        for (row, [mut a, mut b]) in self.walk.rows(self.first..self.first + self.out.len()) {
            for out in self.out[row].chunks_mut(BLOCK) {
                let left = fetch(self.a, a, a_stride, out.len());
                let right = fetch(self.b, b, b_stride, out.len());
                store(&binary_block(self.op, &left, &right, out.len()), out);
                a += BLOCK * a_stride;
                b += BLOCK * b_stride;
            }
        }
    }
}

/// A piece of [`compare`]: the elements from `first` on, as many as `out` has.
pub(crate) struct CompareMap<'a, T> {
    op: Comparison,
    walk: &'a Walk<2>,
    first: usize,
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [u8],
}

impl<T: Number> RowKernel for CompareMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let [a_stride, b_stride] = self.walk.row_strides();
        for (row, [mut a, mut b]) in self.walk.rows(self.first..self.first + self.out.len()) {
            for out in self.out[row].chunks_mut(BLOCK) {
                let left = fetch(self.a, a, a_stride, out.len());
                let right = fetch(self.b, b, b_stride, out.len());
                let truths: [u8; BLOCK] = match self.op {
                    Comparison::Equal => std::array::from_fn(|i| u8::from(left[i] == right[i])),
                    Comparison::Less => std::array::from_fn(|i| u8::from(left[i] < right[i])),
                };
                out.copy_from_slice(&truths[..out.len()]);
                a += BLOCK * a_stride;
                b += BLOCK * b_stride;
            }
        }
    }
}

/// `len` elements from `start` on, `stride` apart.
#[inline(always)]
fn fetch<T: Number>(data: &[T], start: usize, stride: usize, len: usize) -> [T::Lane; BLOCK] {
    match stride {
        1 => crate::rowwise::load(&data[start..start + len], T::Lane::default()),
        0 => [data[start].widen(); BLOCK],
        _ => {
            let mut block = [T::Lane::default(); BLOCK];
            for (lane, value) in block.iter_mut().zip(data[start..].iter().step_by(stride)).take(len) {
                *lane = value.widen();
            }
            block
        }
    }
}

#[inline(always)]
fn binary_block<L: Lane>(op: Binary, a: &[L; BLOCK], b: &[L; BLOCK], len: usize) -> [L; BLOCK] {
    match op {
        Binary::Add => zip(a, b, L::add),
        Binary::Sub => zip(a, b, L::sub),
        Binary::Mul => zip(a, b, L::mul),
        Binary::Div => zip(a, b, L::div),
        Binary::Min => zip(a, b, L::least),
        Binary::Max => zip(a, b, L::greatest),
        Binary::Pow => {
            let mut block = *a;
            for (lane, &exponent) in block.iter_mut().zip(b).take(len) {
                *lane = lane.pow(exponent);
            }
            block
        }
    }
}

#[inline(always)]
fn zip<L: Lane>(a: &[L; BLOCK], b: &[L; BLOCK], op: impl Fn(L, L) -> L) -> [L; BLOCK] {
    let mut block = *a;
    for (lane, &other) in block.iter_mut().zip(b) {
        *lane = op(*lane, other);
    }
    block
}
