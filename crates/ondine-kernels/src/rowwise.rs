//! What the row-wise kernels share: element types, sums, the tables of each tier, the split over threads.
//!
//! A kernel is written once, as a [`RowKernel`]: a struct of slices whose `run` is generic over the instruction set,
//! made of plain loops over slices that the compiler turns into vector code. What is folded is folded into
//! [`LANES`] accumulators side by side. [`Enter`] compiles the kernel with the features of an instruction set, and
//! [`RowwiseKernels`] holds the entries of one tier.
//!
//! Work is cut into pieces whose size never depends on the number of threads, so results do not either.

use std::{fmt, sync::Mutex};

use half::{bf16, f16};

use crate::{
    arch::{Generic, Isa},
    binary::{BinaryMap, CompareMap},
    convert::{FromHub, Scalar, ToHub, ToTruth},
    elementwise::{GluRows, UnaryMap},
    norm::{GroupApply, GroupMoments, LayerNormRows, RmsNormRows},
    number::{Float, Lane, Number, Total},
    quant::{DequantizeRows, QuantizeBeside, QuantizeRows, QuantizeWeights},
    reduce::{ArgmaxRows, ReducePanels, ReduceWhole},
    resize::BilinearRows,
    softmax::SoftmaxRows,
    table::Kernels,
    threads::Pool,
};

/// Accumulators of a fold: independent of each other, so that they fill vector registers and hide their latency.
pub(crate) const LANES: usize = 128;

/// Elements of a [`Float::stage`], about: they stay in the first-level cache.
pub(crate) const STAGE: usize = 1024;

/// Elements of a piece of work, about: smaller work stays on the calling thread.
pub(crate) const GRAIN: usize = 1 << 15;

/// All of `x`, each passed through `map`, combined: every [`LANES`]-th in order, then these results in pairs.
#[inline(always)]
pub(crate) fn fold<T: Number, A: Copy>(
    x: &[T],
    start: A,
    combine: impl Fn(A, A) -> A + Copy,
    map: impl Fn(T::Lane) -> A,
) -> A {
    let mut lanes = [start; LANES];
    for x in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = combine(*lane, map(x.widen()));
        }
    }
    fold_lanes(&lanes, combine)
}

/// All lanes combined in pairs.
#[inline(always)]
pub(crate) fn fold_lanes<L: Copy>(lanes: &[L; LANES], combine: impl Fn(L, L) -> L + Copy) -> L {
    #[inline(always)]
    fn halved<L: Copy, const HALF: usize>(lanes: &[L], combine: impl Fn(L, L) -> L) -> [L; HALF] {
        let mut half = [lanes[0]; HALF];
        for (half, (&low, &high)) in half.iter_mut().zip(lanes.iter().zip(&lanes[HALF..])) {
            *half = combine(low, high);
        }
        half
    }
    let lanes: [L; 64] = halved(lanes, combine);
    let lanes: [L; 32] = halved(&lanes, combine);
    let lanes: [L; 16] = halved(&lanes, combine);
    let lanes: [L; 8] = halved(&lanes, combine);
    let lanes: [L; 4] = halved(&lanes, combine);
    let lanes: [L; 2] = halved(&lanes, combine);
    combine(lanes[0], lanes[1])
}

/// The sum of all of `x`, each passed through `map`: no number takes part in more than [`RUN`] + 7 additions before
/// the sum is carried on in the wider type.
#[inline(always)]
pub(crate) fn sum<T: Number>(x: &[T], map: impl Fn(T::Lane) -> T::Lane + Copy) -> <T::Lane as Lane>::Total {
    x.chunks(RUN * LANES).fold(Default::default(), |total: <T::Lane as Lane>::Total, x| {
        total.add(fold(x, T::Lane::default(), T::Lane::add, map).total())
    })
}

/// The largest of `x`: NaN if there is one, the lowest number if there is none.
#[inline(always)]
pub(crate) fn max<T: Number>(x: &[T]) -> T::Lane {
    T::Lane::ranked(fold(x, T::Lane::LOWEST.rank_nan_high(), Ord::max, T::Lane::rank_nan_high))
}

/// The smallest of `x`: NaN if there is one, the highest number if there is none.
#[inline(always)]
pub(crate) fn min<T: Number>(x: &[T]) -> T::Lane {
    T::Lane::ranked(fold(x, T::Lane::HIGHEST.rank_nan_low(), Ord::min, T::Lane::rank_nan_low))
}

/// Numbers added to one accumulator before it is carried on in the wider type.
pub(crate) const RUN: usize = 32;

/// A kernel written once for every instruction set. `run` and all that it calls are `#[inline(always)]`, so that
/// they are compiled with the features of the tier that enters it.
pub(crate) trait RowKernel {
    /// What it yields.
    type Output;

    /// Does the work.
    fn run<I: Isa>(self) -> Self::Output;
}

/// A way into kernels with the processor features of one instruction set.
pub(crate) trait Enter: 'static {
    /// Runs `kernel`. Only the table of a tier that the processor has leads here.
    fn enter<K: RowKernel>(kernel: K) -> K::Output;
}

impl Enter for Generic {
    fn enter<K: RowKernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Enter, RowKernel};
    use crate::arch::{Avx2, Avx512};

    impl Enter for Avx2 {
        fn enter<K: RowKernel>(kernel: K) -> K::Output {
            #[target_feature(enable = "avx2,fma,f16c")]
            fn inner<K: RowKernel>(kernel: K) -> K::Output {
                kernel.run::<Avx2>()
            }
            // SAFETY: only the table of a tier that the processor has refers to this function.
            unsafe { inner(kernel) }
        }
    }

    impl Enter for Avx512 {
        fn enter<K: RowKernel>(kernel: K) -> K::Output {
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn inner<K: RowKernel>(kernel: K) -> K::Output {
                kernel.run::<Avx512>()
            }
            // SAFETY: only the table of a tier that the processor has refers to this function.
            unsafe { inner(kernel) }
        }
    }
}

/// The row-wise kernels of one tier.
pub struct RowwiseKernels {
    pub(crate) f32: FloatKernels<f32>,
    pub(crate) bf16: FloatKernels<bf16>,
    pub(crate) numbers: Numbers,
    pub(crate) scalars: Scalars,
}

impl fmt::Debug for RowwiseKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowwiseKernels").finish_non_exhaustive()
    }
}

/// The kernels of one floating-point type.
#[doc(hidden)]
pub struct FloatKernels<T: Float> {
    pub(crate) unary: fn(UnaryMap<'_, T>),
    pub(crate) glu: fn(GluRows<'_, T>),
    pub(crate) softmax: fn(SoftmaxRows<'_, T>),
    pub(crate) argmax: fn(ArgmaxRows<'_, T>),
    pub(crate) layer_norm: fn(LayerNormRows<'_, T>),
    pub(crate) rms_norm: fn(RmsNormRows<'_, T>),
    pub(crate) group_moments: fn(GroupMoments<'_, T>),
    pub(crate) group_apply: fn(GroupApply<'_, T>),
    pub(crate) bilinear: fn(BilinearRows<'_, T>),
    pub(crate) quantize: fn(QuantizeRows<'_, T>),
    pub(crate) quantize_beside: fn(QuantizeBeside<'_, T>),
    pub(crate) quantize_weights: fn(QuantizeWeights<'_, T>),
    pub(crate) dequantize: fn(DequantizeRows<'_, T>),
}

impl<T: Float> FloatKernels<T> {
    const fn of<E: Enter>() -> Self {
        Self {
            unary: |kernel| E::enter(kernel),
            glu: |kernel| E::enter(kernel),
            softmax: |kernel| E::enter(kernel),
            argmax: |kernel| E::enter(kernel),
            layer_norm: |kernel| E::enter(kernel),
            rms_norm: |kernel| E::enter(kernel),
            group_moments: |kernel| E::enter(kernel),
            group_apply: |kernel| E::enter(kernel),
            bilinear: |kernel| E::enter(kernel),
            quantize: |kernel| E::enter(kernel),
            quantize_beside: |kernel| E::enter(kernel),
            quantize_weights: |kernel| E::enter(kernel),
            dequantize: |kernel| E::enter(kernel),
        }
    }
}

/// The kernels of one type of arithmetic.
#[doc(hidden)]
pub struct NumberKernels<T: Number> {
    pub(crate) binary: fn(BinaryMap<'_, T>),
    pub(crate) compare: fn(CompareMap<'_, T>),
    pub(crate) reduce: fn(ReducePanels<'_, T>),
    pub(crate) reduce_whole: fn(ReduceWhole<'_, T>),
}

impl<T: Number> NumberKernels<T> {
    const fn of<E: Enter>() -> Self {
        Self {
            binary: |kernel| E::enter(kernel),
            compare: |kernel| E::enter(kernel),
            reduce: |kernel| E::enter(kernel),
            reduce_whole: |kernel| E::enter(kernel),
        }
    }
}

pub(crate) struct Numbers {
    pub(crate) f32: NumberKernels<f32>,
    pub(crate) bf16: NumberKernels<bf16>,
    pub(crate) i64: NumberKernels<i64>,
    pub(crate) i32: NumberKernels<i32>,
}

/// The conversions of one element type.
#[doc(hidden)]
pub struct ScalarKernels<T: Scalar> {
    pub(crate) to_f32: fn(ToHub<'_, T, f32>),
    pub(crate) from_f32: fn(FromHub<'_, T, f32>),
    pub(crate) to_i64: fn(ToHub<'_, T, i64>),
    pub(crate) from_i64: fn(FromHub<'_, T, i64>),
    pub(crate) to_truth: fn(ToTruth<'_, T>),
}

impl<T: Scalar> ScalarKernels<T> {
    const fn of<E: Enter>() -> Self {
        Self {
            to_f32: |kernel| E::enter(kernel),
            from_f32: |kernel| E::enter(kernel),
            to_i64: |kernel| E::enter(kernel),
            from_i64: |kernel| E::enter(kernel),
            to_truth: |kernel| E::enter(kernel),
        }
    }
}

pub(crate) struct Scalars {
    pub(crate) f32: ScalarKernels<f32>,
    pub(crate) f16: ScalarKernels<f16>,
    pub(crate) bf16: ScalarKernels<bf16>,
    pub(crate) i64: ScalarKernels<i64>,
    pub(crate) i32: ScalarKernels<i32>,
    pub(crate) i8: ScalarKernels<i8>,
    pub(crate) u8: ScalarKernels<u8>,
}

impl RowwiseKernels {
    /// Runs on any processor.
    pub(crate) const GENERIC: Self = Self::of::<Generic>();

    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const AVX2: Self = Self::of::<crate::arch::Avx2>();

    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const AVX512: Self = Self::of::<crate::arch::Avx512>();

    const fn of<E: Enter>() -> Self {
        Self {
            f32: FloatKernels::of::<E>(),
            bf16: FloatKernels::of::<E>(),
            numbers: Numbers {
                f32: NumberKernels::of::<E>(),
                bf16: NumberKernels::of::<E>(),
                i64: NumberKernels::of::<E>(),
                i32: NumberKernels::of::<E>(),
            },
            scalars: Scalars {
                f32: ScalarKernels::of::<E>(),
                f16: ScalarKernels::of::<E>(),
                bf16: ScalarKernels::of::<E>(),
                i64: ScalarKernels::of::<E>(),
                i32: ScalarKernels::of::<E>(),
                i8: ScalarKernels::of::<E>(),
                u8: ScalarKernels::of::<E>(),
            },
        }
    }
}

impl Kernels {
    /// The floating-point kernels for elements of type `T`.
    pub(crate) fn float<T: Float>(&self) -> &FloatKernels<T> {
        T::float(&self.rowwise)
    }

    /// The arithmetic kernels for elements of type `T`.
    pub(crate) fn number<T: Number>(&self) -> &NumberKernels<T> {
        T::number(&self.rowwise)
    }
}

/// Rows of `width` elements that make up one piece of work.
pub(crate) fn piece_rows(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// Calls `body` once for each piece, with its index, on the threads of `pool`; a single piece stays on this thread.
pub(crate) fn for_pieces<P: Send>(pool: &Pool, pieces: Vec<P>, body: impl Fn(usize, P) + Sync) {
    if pieces.len() <= 1 {
        pieces.into_iter().enumerate().for_each(|(index, piece)| body(index, piece));
        return;
    }
    let pieces: Vec<Mutex<Option<P>>> = pieces.into_iter().map(|piece| Mutex::new(Some(piece))).collect();
    pool.run(pieces.len(), &|index| {
        let piece = pieces[index].lock().ok().and_then(|mut piece| piece.take());
        if let Some(piece) = piece {
            body(index, piece);
        }
    });
}

/// Calls `body` with pieces of `out`, each of `rows` rows of `width` elements (the last may have fewer), and the
/// index of its first row.
pub(crate) fn for_rows<T: Send>(
    pool: &Pool,
    out: &mut [T],
    width: usize,
    rows: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let pieces = out.chunks_mut((width * rows).max(1)).collect();
    for_pieces(pool, pieces, |index, piece| body(index * rows, piece));
}
