//! Elements moved, not computed: reordered, cut, joined, padded, repeated, looked up.
//!
//! These functions see bytes; an element is `size` of them, whatever its type.

use std::{error, fmt, ops::Range};

use crate::{
    rowwise::{GRAIN, for_pieces, for_rows, piece_rows},
    strided::{Walk, broadcast_strides, dense_strides},
    threads::Pool,
};

/// Sides of the squares in which [`permute`] transposes.
const TILE: usize = 16;

/// The most bytes that are copied as one element.
const LARGEST_ELEMENT: usize = 16;

/// Copies `x` with its dimensions reordered: dimension `i` of the result is dimension `axes[i]` of `x`.
///
/// # Panics
/// If `axes` is no permutation of the dimensions of `shape`, `size` is not 1, 2, 4 or 8, or a length does not fit.
pub fn permute(pool: &Pool, size: usize, shape: &[usize], axes: &[usize], x: &[u8], out: &mut [u8]) {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..shape.len()), "{axes:?} is no permutation of the dimensions of {shape:?}");
    let strides = dense_strides(shape);
    let [shape, strides] = [shape, &strides].map(|list| axes.iter().map(|&axis| list[axis]).collect::<Vec<_>>());
    copy_view(pool, size, &shape, &strides, x, out);
}

/// Copies `x`, of shape `from`, repeated to shape `to` by numpy's rules.
///
/// # Panics
/// If `from` does not broadcast to `to`, `size` is not 1, 2, 4 or 8, or a length does not fit.
pub fn expand(pool: &Pool, size: usize, from: &[usize], to: &[usize], x: &[u8], out: &mut [u8]) {
    copy_view(pool, size, to, &broadcast_strides(from, to), x, out);
}

/// Copies the part of `x` that lies in `range` along `axis`.
///
/// # Panics
/// If there is no such part, `size` is not 1, 2, 4 or 8, or a length does not fit.
pub fn slice(pool: &Pool, size: usize, shape: &[usize], axis: usize, range: Range<usize>, x: &[u8], out: &mut [u8]) {
    assert!(range.start <= range.end && range.end <= shape[axis], "{range:?} of dimension {axis} of {shape:?}");
    let strides = dense_strides(shape);
    let mut shape = shape.to_vec();
    shape[axis] = range.len();
    let start = (range.start * strides[axis] * size).min(x.len());
    copy_view(pool, size, &shape, &strides, &x[start..], out);
}

/// Copies `x` with zero bytes around it: `amounts` elements before and after, for each dimension.
///
/// # Panics
/// If there is not one amount per dimension, or a length does not fit.
pub fn pad(pool: &Pool, size: usize, shape: &[usize], amounts: &[[usize; 2]], x: &[u8], out: &mut [u8]) {
    assert_eq!(shape.len(), amounts.len(), "not one amount per dimension");
    let target: Vec<usize> = shape.iter().zip(amounts).map(|(size, [before, after])| before + size + after).collect();
    assert_eq!(x.len(), shape.iter().product::<usize>() * size, "the input is not of shape {shape:?}");
    assert_eq!(out.len(), target.iter().product::<usize>() * size, "the output is not of shape {target:?}");
    let outer = amounts.iter().rposition(|&amount| amount != [0, 0]).unwrap_or(0);
    // Everything after the last padded dimension moves in one run.
    let inner = shape.get(outer..).map_or(1, |inner| inner.iter().product::<usize>()) * size;
    let width = target.get(outer..).map_or(1, |inner| inner.iter().product::<usize>()) * size;
    let before = shape.get(outer + 1..).map_or(size, |rest| rest.iter().product::<usize>() * size)
        * amounts.get(outer).map_or(0, |amount| amount[0]);
    for_rows(pool, out, width, piece_rows(width), |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let Some(row) = unpadded(row, &shape[..outer], &target[..outer], &amounts[..outer]) else {
                out.fill(0);
                continue;
            };
            out[..before].fill(0);
            out[before..before + inner].copy_from_slice(&x[row * inner..][..inner]);
            out[before + inner..].fill(0);
        }
    });
}

/// The row of the input that becomes row `row` of the padded output, if any.
fn unpadded(mut row: usize, shape: &[usize], target: &[usize], amounts: &[[usize; 2]]) -> Option<usize> {
    let (mut source, mut stride) = (0, 1);
    for ((&size, &padded), [before, _]) in shape.iter().zip(target).zip(amounts).rev() {
        let index = (row % padded).checked_sub(*before).filter(|&index| index < size)?;
        row /= padded;
        source += index * stride;
        stride *= size;
    }
    Some(source)
}

/// Joins arrays: `out` is `outer` times a block of each part, one after the other.
///
/// To join along dimension `axis`, `outer` is the product of the dimensions before it.
///
/// # Panics
/// If a part is not `outer` blocks, or `out` not as long as all parts.
pub fn concat(pool: &Pool, outer: usize, parts: &[&[u8]], out: &mut [u8]) {
    let width = parts.iter().map(|part| part.len()).sum::<usize>() / outer.max(1);
    assert!(parts.iter().all(|part| part.len().is_multiple_of(outer.max(1))), "a part is not {outer} blocks");
    assert_eq!(out.len(), width * outer, "the output is not as long as all parts");
    if out.is_empty() {
        return;
    }
    let rows = piece_rows(width);
    for_rows(pool, out, width, rows, |first, out| {
        let count = out.len() / width;
        let mut offset = 0;
        for part in parts {
            let block = part.len() / outer;
            let part = &part[first * block..][..count * block];
            match block {
                0 => {}
                1 => place::<1>(part, 1, offset, width, out),
                2 => place::<2>(part, 2, offset, width, out),
                4 => place::<4>(part, 4, offset, width, out),
                8 => place::<8>(part, 8, offset, width, out),
                16 => place::<16>(part, 16, offset, width, out),
                _ => place::<0>(part, block, offset, width, out),
            }
            offset += block;
        }
    });
}

/// Copies blocks, of `N` bytes unless that is 0, to `offset` in each of the rows of `out`, of `width` bytes.
fn place<const N: usize>(part: &[u8], block: usize, offset: usize, width: usize, out: &mut [u8]) {
    let block = if N == 0 { block } else { N };
    for (block, out) in part.chunks_exact(block).zip(out.chunks_exact_mut(width)) {
        out[offset..][..block.len()].copy_from_slice(block);
    }
}

/// An index that is not in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexError {
    /// The index.
    pub index: i64,
    /// Where it stands in the list of indices.
    pub position: usize,
    /// Number of rows of the table.
    pub rows: usize,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} at position {} is not in a table of {} rows", self.index, self.position, self.rows)
    }
}

impl error::Error for IndexError {}

/// Copies rows of `table`, of `width` bytes each, to `out`, in the order of `indices`.
///
/// # Errors
/// If an index is negative or not below the number of rows; `out` is then as it was.
///
/// # Panics
/// If `table` is not rows of `width` bytes, or `out` is not one for each index.
pub fn gather_rows(pool: &Pool, width: usize, table: &[u8], indices: &[i64], out: &mut [u8]) -> Result<(), IndexError> {
    assert!(width > 0 && table.len().is_multiple_of(width), "the table is not rows of {width} bytes");
    assert_eq!(out.len(), width * indices.len(), "the output is not {} rows of {width} bytes", indices.len());
    let rows = check_indices(indices, table.len() / width)?;
    for_rows(pool, out, width, piece_rows(width), |first, out| {
        for (row, out) in rows[first..].iter().zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&table[row * width..][..width]);
        }
    });
    Ok(())
}

/// Copies one row of each batch element: `out[b] = x[b, indices[b]]`, where `x` is `[batch, rows, width]` bytes.
///
/// # Errors
/// If an index is negative or not below `rows`; `out` is then as it was.
///
/// # Panics
/// If `x` or `out` do not have the length of their shapes.
pub fn take_row(rows: usize, width: usize, x: &[u8], indices: &[i64], out: &mut [u8]) -> Result<(), IndexError> {
    assert_eq!(x.len(), indices.len() * rows * width, "the input is not [{}, {rows}, {width}] bytes", indices.len());
    assert_eq!(out.len(), indices.len() * width, "the output is not [{}, {width}] bytes", indices.len());
    for (batch, row) in check_indices(indices, rows)?.into_iter().enumerate() {
        out[batch * width..][..width].copy_from_slice(&x[(batch * rows + row) * width..][..width]);
    }
    Ok(())
}

/// Indices of a table of `rows` rows.
///
/// # Errors
/// If one is negative or not below `rows`.
pub fn check_indices(indices: &[i64], rows: usize) -> Result<Vec<usize>, IndexError> {
    let check = |(position, &index)| {
        let row = usize::try_from(index).ok().filter(|&row| row < rows);
        row.ok_or(IndexError { index, position, rows })
    };
    indices.iter().enumerate().map(check).collect()
}

/// Copies to `out`, dense and of the given shape, the elements of `x` that the strides lead to.
#[expect(clippy::panic, reason = "elements are of 1, 2, 4 or 8 bytes")]
fn copy_view(pool: &Pool, size: usize, shape: &[usize], strides: &[usize], x: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), shape.iter().product::<usize>() * size, "the output is not of shape {shape:?}");
    assert!(matches!(size, 1 | 2 | 4 | 8), "elements of {size} bytes");
    let (shape, strides, size) = as_large_elements(shape, strides, size);
    let (shape, strides) = (&shape, &strides);
    match size {
        1 => copy_sized::<1>(pool, shape, strides, x, out),
        2 => copy_sized::<2>(pool, shape, strides, x, out),
        4 => copy_sized::<4>(pool, shape, strides, x, out),
        8 => copy_sized::<8>(pool, shape, strides, x, out),
        16 => copy_sized::<16>(pool, shape, strides, x, out),
        _ => panic!("elements of {size} bytes"),
    }
}

/// Shape, strides and size of elements where a short dense last dimension, as of the squares of a pixel shuffle, is one
/// element.
fn as_large_elements(shape: &[usize], strides: &[usize], size: usize) -> (Vec<usize>, Vec<usize>, usize) {
    let mut view = (shape.to_vec(), strides.to_vec(), size);
    if let ([sizes @ .., count], [steps @ .., 1]) = (shape, strides)
        && count.is_power_of_two()
        && count * size <= LARGEST_ELEMENT
        && steps.iter().all(|step| step.is_multiple_of(*count))
        && !sizes.is_empty()
    {
        view = (sizes.to_vec(), steps.iter().map(|step| step / count).collect(), size * count);
    }
    view
}

fn copy_sized<const SIZE: usize>(pool: &Pool, shape: &[usize], strides: &[usize], x: &[u8], out: &mut [u8]) {
    let walk = Walk::new(shape, [strides]);
    let (x, out) = (x.as_chunks::<SIZE>().0, out.as_chunks_mut::<SIZE>().0);
    if let Some(transposition) = Transposition::of(&walk) {
        transposition.run(pool, x, out);
        return;
    }
    let [stride] = walk.row_strides();
    for_rows(pool, out, 1, GRAIN, |first, out| {
        for (row, [start]) in walk.rows(first..first + out.len()) {
            let out = &mut out[row];
            match stride {
                1 => out.copy_from_slice(&x[start..][..out.len()]),
                0 => out.fill(x[start]),
                _ => {
                    for (out, x) in out.iter_mut().zip(x[start..].iter().step_by(stride)) {
                        *out = *x;
                    }
                }
            }
        }
    });
}

/// A view whose rows are strided while another dimension is dense: both are walked in squares, so that each cache
/// line is read once.
struct Transposition {
    /// Sizes and strides of the dimensions before the dense one.
    outer: Walk<1>,
    /// Size of the dense dimension.
    dense: usize,
    /// Dimensions between the dense one and the last.
    middle: Walk<1>,
    /// Size and stride of the last dimension.
    last: (usize, usize),
}

/// A few planes, such as the colours of a picture, `stride` elements apart: the elements of each place side by side.
fn interleave<const SIZE: usize, const PLANES: usize>(x: &[[u8; SIZE]], stride: usize, out: &mut [[u8; SIZE]]) {
    let (places, _) = out.as_chunks_mut::<PLANES>();
    let planes: [_; PLANES] = std::array::from_fn(|plane| &x[plane * stride..][..places.len()]);
    for (index, place) in places.iter_mut().enumerate() {
        *place = std::array::from_fn(|plane| planes[plane][index]);
    }
}

impl Transposition {
    fn of(walk: &Walk<1>) -> Option<Self> {
        let last = walk.sizes.len() - 1;
        let dense = walk.strides[..last].iter().position(|&stride| stride == [1])?;
        let part = |range: Range<usize>| {
            let strides: Vec<usize> = walk.strides[range.clone()].iter().map(|&[stride]| stride).collect();
            Walk::new(&walk.sizes[range], [&strides])
        };
        (walk.strides[last] != [0]).then(|| Self {
            outer: part(0..dense),
            dense: walk.sizes[dense],
            middle: part(dense + 1..last),
            last: (walk.sizes[last], walk.strides[last][0]),
        })
    }

    fn run<const SIZE: usize>(&self, pool: &Pool, x: &[[u8; SIZE]], out: &mut [[u8; SIZE]]) {
        let slab = self.middle.len() * self.last.0;
        if out.is_empty() {
            return;
        }
        let slabs = piece_rows(slab).next_multiple_of(TILE);
        let starts = self.outer.rows(0..self.outer.len()).flat_map(|(row, [start])| {
            let [stride] = self.outer.row_strides();
            (0..row.len()).map(move |i| start + i * stride)
        });
        let images = starts.zip(out.chunks_exact_mut(self.dense * slab));
        let pieces = images.flat_map(|(start, image)| {
            let pieces = image.chunks_mut(slabs * slab).enumerate();
            pieces.map(move |(index, piece)| (start + index * slabs, piece))
        });
        for_pieces(pool, pieces.collect(), |_, (start, out)| self.piece(&x[start..], out));
    }

    /// Some neighbours along the dense dimension.
    fn piece<const SIZE: usize>(&self, x: &[[u8; SIZE]], out: &mut [[u8; SIZE]]) {
        let (len, stride) = self.last;
        match (self.middle.len(), len) {
            (1, 2) => return interleave::<SIZE, 2>(x, stride, out),
            (1, 3) => return interleave::<SIZE, 3>(x, stride, out),
            (1, 4) => return interleave::<SIZE, 4>(x, stride, out),
            _ => {}
        }
        let slab = self.middle.len() * len;
        let [step] = self.middle.row_strides();
        for (row, [start]) in self.middle.rows(0..self.middle.len()) {
            for (index, middle) in row.enumerate() {
                let x = &x[start + index * step..];
                for first in (0..out.len() / slab).step_by(TILE) {
                    let out = &mut out[first * slab..];
                    let count = TILE.min(out.len() / slab);
                    for column in (0..len).step_by(TILE) {
                        let tile = Tile { rows: count, columns: TILE.min(len - column), stride, slab };
                        tile.copy(&x[column * stride + first..], &mut out[middle * len + column..]);
                    }
                }
            }
        }
    }
}

/// A square to be transposed: element `[column, row]` of the input, with `stride`, is `[row, column]` of the output.
struct Tile {
    rows: usize,
    columns: usize,
    stride: usize,
    slab: usize,
}

impl Tile {
    fn copy<const SIZE: usize>(&self, x: &[[u8; SIZE]], out: &mut [[u8; SIZE]]) {
        if self.rows < TILE || self.columns < TILE {
            for row in 0..self.rows {
                for column in 0..self.columns {
                    out[row * self.slab + column] = x[column * self.stride + row];
                }
            }
            return;
        }
        let mut tile = [[[0; SIZE]; TILE]; TILE];
        for (column, line) in tile.iter_mut().enumerate() {
            line.copy_from_slice(&x[column * self.stride..][..TILE]);
        }
        for row in 0..TILE {
            let out = &mut out[row * self.slab..][..TILE];
            for (out, line) in out.iter_mut().zip(&tile) {
                *out = line[row];
            }
        }
    }
}
