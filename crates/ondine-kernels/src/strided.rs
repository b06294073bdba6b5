//! Operands read through strides: broadcasting, slicing and reordering without a copy.

use std::ops::Range;

/// An operand of element-by-element work: element `[i, j, ..]` is `data[i * strides[0] + j * strides[1] + ..]`.
///
/// Stride 0 repeats a dimension; [`broadcast_strides`] gives the strides of numpy's broadcasting.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// The distance between neighbours along each dimension, in elements.
    pub strides: &'a [usize],
}

/// The strides of a dense row-major array of this shape.
#[must_use]
pub fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The strides with which a dense array of shape `from` is read as one of shape `to`: missing leading dimensions
/// and dimensions of size 1 repeat.
///
/// # Panics
/// If `from` has more dimensions than `to`, or another size than `to` where it is not 1.
#[must_use]
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    assert!(from.len() <= to.len(), "{from:?} does not broadcast to {to:?}");
    let added = to.len() - from.len();
    let mut strides = vec![0; added];
    for ((stride, &size), &wanted) in dense_strides(from).into_iter().zip(from).zip(&to[added..]) {
        assert!(size == wanted || size == 1, "{from:?} does not broadcast to {to:?}");
        strides.push(if size == 1 { 0 } else { stride });
    }
    strides
}

/// A walk over a shape in row-major order that knows where `N` operands stand, in as few dimensions as can be.
#[derive(Clone, Debug)]
pub(crate) struct Walk<const N: usize> {
    /// Sizes, at least one; the last is the length of a row.
    pub(crate) sizes: Vec<usize>,
    /// Strides of the operands along each dimension.
    pub(crate) strides: Vec<[usize; N]>,
}

impl<const N: usize> Walk<N> {
    /// # Panics
    /// If an operand has not one stride per dimension.
    pub(crate) fn new(shape: &[usize], operands: [&[usize]; N]) -> Self {
        assert!(
            operands.iter().all(|strides| strides.len() == shape.len()),
            "an operand has not one stride per dimension"
        );
        let mut walk = Self { sizes: Vec::new(), strides: Vec::new() };
        for (axis, &size) in shape.iter().enumerate() {
            let strides = operands.map(|strides| strides[axis]);
            match (walk.sizes.last_mut(), walk.strides.last_mut()) {
                _ if size == 1 => {}
                (Some(outer), Some(last)) if *last == strides.map(|stride| stride * size) => {
                    *outer *= size;
                    *last = strides;
                }
                _ => {
                    walk.sizes.push(size);
                    walk.strides.push(strides);
                }
            }
        }
        if walk.sizes.is_empty() {
            walk.sizes.push(1);
            walk.strides.push([1; N]);
        }
        walk
    }

    /// Number of elements walked over.
    pub(crate) fn len(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The strides along a row.
    #[inline(always)]
    pub(crate) fn row_strides(&self) -> [usize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// The rows, or parts of rows, that make up `elements`.
    pub(crate) fn rows(&self, elements: Range<usize>) -> Rows<'_, N> {
        let outer = self.sizes.len() - 1;
        let mut index = vec![0; outer];
        let mut offsets = [0; N];
        let (mut row, column) = (elements.start / self.sizes[outer].max(1), elements.start % self.sizes[outer].max(1));
        for axis in (0..outer).rev() {
            index[axis] = row % self.sizes[axis];
            row /= self.sizes[axis];
            for (offset, stride) in offsets.iter_mut().zip(self.strides[axis]) {
                *offset += index[axis] * stride;
            }
        }
        Rows { walk: self, index, offsets, column, done: 0, len: elements.len() }
    }
}

/// Iterates over rows: the elements of each, counted from the first walked over, and where the operands start.
pub(crate) struct Rows<'a, const N: usize> {
    walk: &'a Walk<N>,
    index: Vec<usize>,
    offsets: [usize; N],
    column: usize,
    done: usize,
    len: usize,
}

impl<const N: usize> Rows<'_, N> {
    /// Moves to the start of the next row.
    fn advance(&mut self) {
        self.column = 0;
        for (axis, index) in self.index.iter_mut().enumerate().rev() {
            let (size, strides) = (self.walk.sizes[axis], self.walk.strides[axis]);
            *index += 1;
            for (offset, stride) in self.offsets.iter_mut().zip(strides) {
                *offset += stride;
            }
            if *index < size {
                return;
            }
            *index = 0;
            for (offset, stride) in self.offsets.iter_mut().zip(strides) {
                *offset -= stride * size;
            }
        }
    }
}

impl<const N: usize> Iterator for Rows<'_, N> {
    type Item = (Range<usize>, [usize; N]);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.len {
            return None;
        }
        let last = self.walk.sizes.len() - 1;
        let end = self.len.min(self.done + self.walk.sizes[last] - self.column);
        let mut starts = self.offsets;
        for (start, stride) in starts.iter_mut().zip(self.walk.strides[last]) {
            *start += self.column * stride;
        }
        let row = (self.done..end, starts);
        self.done = end;
        self.advance();
        Some(row)
    }
}
