//! The innermost loop for few columns: lanes along the inner dimension.
//!
//! A panel is at least one vector wide, so that with three columns of sixteen [`tile`](crate::gemm::micro::tile) would
//! multiply filling most of the time. Here the words of a row meet those of one column lane by lane, and the lanes are
//! added at the end: as the last layer of a decoder asks, which makes three colours of many channels.

use crate::{
    arch::{
        dot::{Dot, Tile, WeightType},
        enter::RawKernel,
        isa::Isa,
        vector::MAX_LANES,
    },
    gemm::{micro::MicroCall, weights::WeightShape},
};

/// The most columns of a group that count as few.
const MOST: usize = 4;

/// The columns of a group if they are few, and if the words that a row has in a tap are whole vectors.
pub(crate) fn narrow(shape: &WeightShape, Tile { lanes, .. }: Tile) -> Option<usize> {
    let columns = shape.outputs / shape.groups;
    let whole = (0..2).all(|input| shape.words(input).is_multiple_of(lanes));
    (columns <= MOST && !shape.glu && whole).then_some(columns)
}

/// Fills `apart` with the words of the first `columns` columns of a panel, one column behind the other.
///
/// # Safety
/// The panel has `words` times `stride` words, and at least as many columns.
pub(crate) unsafe fn columns_apart(
    panel: *const u32,
    words: usize,
    stride: usize,
    columns: usize,
    apart: &mut Vec<u32>,
) {
    apart.clear();
    for column in 0..columns {
        // SAFETY: the caller vouches for the words of all columns.
        apart.extend((0..words).map(|word| unsafe { panel.add(word * stride + column).read() }));
    }
}

/// A [`MicroCall`] whose panel holds its columns one behind the other; of each row's sums the first `columns` are
/// written.
pub(crate) struct NarrowCall {
    pub(crate) call: MicroCall,
    /// Number of columns, at least one and at most [`MOST`].
    pub(crate) columns: usize,
}

impl RawKernel for &NarrowCall {
    type Output = ();

    /// See [`NarrowCall`]; the words of a run are whole vectors.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says, and what a tier enters has its instructions.
        unsafe {
            match self.call.dtype {
                WeightType::F32 => self.multiply::<I::F32>(),
                WeightType::Bf16 => self.multiply::<I::Bf16>(),
                WeightType::S8 => self.multiply::<I::S8>(),
            }
        }
    }
}

impl NarrowCall {
    /// Multiplies with the tile of that many columns.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn multiply<D: Dot>(&self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.columns {
                1 => self.rows::<D, 1>(),
                2 => self.rows::<D, 2>(),
                3 => self.rows::<D, 3>(),
                _ => self.rows::<D, MOST>(),
            }
        }
    }

    /// Multiplies two rows at a time.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn rows<D: Dot, const C: usize>(&self) {
        let pairs = self.call.count / 2;
        // SAFETY: as the caller says.
        unsafe {
            for pair in 0..pairs {
                self.tile::<D, 2, C>(2 * pair);
            }
            if self.call.count > 2 * pairs {
                self.tile::<D, 1, C>(2 * pairs);
            }
        }
    }

    /// The tile of `R` rows from `first` on and `C` columns.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn tile<D: Dot, const R: usize, const C: usize>(&self, first: usize) {
        let MicroCall { rows, stride, offset, runs, words, panel, sums: out, sum_stride, clear, .. } = self.call;
        // SAFETY: the caller vouches for the pointers and the instruction set.
        unsafe {
            let mut sums = [[D::zero(); C]; R];
            if !clear {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        let mut lanes = [0; MAX_LANES];
                        lanes[0] = *out.add((first + i) * sum_stride + j);
                        *sum = D::load_sum(lanes.as_ptr());
                    }
                }
            }
            for run in 0..runs {
                let mut left = [std::ptr::null(); R];
                for (i, left) in left.iter_mut().enumerate() {
                    *left = (*rows.add(run * stride + first + i)).add(offset).cast::<u32>();
                }
                let panel = panel.add(run * words);
                for word in (0..words).step_by(D::LANES) {
                    for (left, sums) in left.iter().zip(&mut sums) {
                        for (j, sum) in sums.iter_mut().enumerate() {
                            let column = panel.add(j * runs * words + word);
                            *sum = D::dot_along(*sum, left.wrapping_add(word).cast(), column);
                        }
                    }
                }
            }
            for (i, row) in sums.into_iter().enumerate() {
                for (j, sum) in row.into_iter().enumerate() {
                    *out.add((first + i) * sum_stride + j) = D::total(sum);
                }
            }
        }
    }
}
