//! Functions of two or three operands, element by element, with broadcasting.

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    number::{Lane, Number},
    rowwise::{GRAIN, for_rows},
    strided::{Strided, Walk},
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
    /// `a` where it is above zero, else `a * b`.
    Prelu,
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
pub fn binary<T: Number>(cpu: &Cpu, op: Binary, shape: &[usize], a: Strided<'_, T>, b: Strided<'_, T>, out: &mut [T]) {
    let walk = Walk::new(shape, [a.strides, b.strides]);
    assert_eq!(out.len(), walk.len(), "the output has not the elements of shape {shape:?}");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        cpu.enter(BinaryMap { op, pair: Pair { walk: &walk, first, a: a.data, b: b.data }, out });
    });
}

/// `out = op(a, b)` as 0 or 1, for every element of a dense array of the given shape.
///
/// # Panics
/// As [`binary`].
pub fn compare<T: Number>(
    cpu: &Cpu,
    op: Comparison,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [u8],
) {
    let walk = Walk::new(shape, [a.strides, b.strides]);
    assert_eq!(out.len(), walk.len(), "the output has not the elements of shape {shape:?}");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        cpu.enter(CompareMap { op, pair: Pair { walk: &walk, first, a: a.data, b: b.data }, out });
    });
}

/// `a` where `condition` is not 0, else `b`, for every element of a dense array of the given shape. Elements are
/// groups of `size` bytes, whatever their type; strides count elements.
///
/// # Panics
/// If `size` is not 1, 2, 4 or 8, `out` has not `size` bytes for each element of `shape`, or an operand has not one
/// stride per dimension, or ends too early.
#[expect(clippy::panic, reason = "said in its documentation")]
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

/// Two operands of a piece of work: the elements from `first` on.
struct Pair<'a, T> {
    walk: &'a Walk<2>,
    first: usize,
    a: &'a [T],
    b: &'a [T],
}

impl<T: Number> Pair<'_, T> {
    /// `out = function(a, b)`
    #[inline(always)]
    fn map<O>(&self, out: &mut [O], function: impl Fn(T::Lane, T::Lane) -> O + Copy) {
        let strides = self.walk.row_strides();
        for (row, [a, b]) in self.walk.rows(self.first..self.first + out.len()) {
            map_row(strides, &self.a[a..], &self.b[b..], &mut out[row], function);
        }
    }
}

#[inline(always)]
fn map_row<T: Number, O>(
    strides: [usize; 2],
    a: &[T],
    b: &[T],
    out: &mut [O],
    function: impl Fn(T::Lane, T::Lane) -> O,
) {
    match strides {
        [1, 1] => {
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = function(a.widen(), b.widen());
            }
        }
        [1, 0] => {
            let b = b[0].widen();
            for (out, a) in out.iter_mut().zip(a) {
                *out = function(a.widen(), b);
            }
        }
        [0, 1] => {
            let a = a[0].widen();
            for (out, b) in out.iter_mut().zip(b) {
                *out = function(a, b.widen());
            }
        }
        [a_stride, b_stride] => {
            for (i, out) in out.iter_mut().enumerate() {
                *out = function(a[i * a_stride].widen(), b[i * b_stride].widen());
            }
        }
    }
}

/// A piece of [`binary`].
pub(crate) struct BinaryMap<'a, T> {
    op: Binary,
    pair: Pair<'a, T>,
    out: &'a mut [T],
}

impl<T: Number> Kernel for BinaryMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { op, pair, out } = self;
        match op {
            Binary::Add => pair.map(out, |a, b| T::narrow(a.add(b))),
            Binary::Sub => pair.map(out, |a, b| T::narrow(a.sub(b))),
            Binary::Mul => pair.map(out, |a, b| T::narrow(a.mul(b))),
            Binary::Div => pair.map(out, |a, b| T::narrow(a.div(b))),
            Binary::Min => pair.map(out, |a, b| T::narrow(a.least(b))),
            Binary::Max => pair.map(out, |a, b| T::narrow(a.greatest(b))),
            Binary::Pow => pair.map(out, |a, b| T::narrow(a.pow(b))),
            Binary::Prelu => pair.map(out, |a, b| T::narrow(a.rectified(b))),
        }
    }
}

/// A piece of [`compare`].
pub(crate) struct CompareMap<'a, T> {
    op: Comparison,
    pair: Pair<'a, T>,
    out: &'a mut [u8],
}

impl<T: Number> Kernel for CompareMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { op, pair, out } = self;
        match op {
            Comparison::Equal => pair.map(out, |a, b| u8::from(a == b)),
            Comparison::Less => pair.map(out, |a, b| u8::from(a < b)),
        }
    }
}
