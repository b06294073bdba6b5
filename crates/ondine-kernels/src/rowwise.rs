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
    math,
    norm::{GroupApply, GroupMoments, LayerNormRows, RmsNormRows},
    quant::{DequantizeRows, QuantizeRows, QuantizeWeights},
    reduce::{ArgmaxRows, ReducePanels},
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

/// The type in which numbers of a type are computed, lane by lane.
pub trait Lane: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// The type in which many lanes are summed.
    type Total: Total<Lane = Self>;

    /// The smallest of all, for maxima to start from.
    #[doc(hidden)]
    const LOWEST: Self;
    /// The largest of all, for minima to start from.
    #[doc(hidden)]
    const HIGHEST: Self;

    #[doc(hidden)]
    fn total(self) -> Self::Total;
    #[doc(hidden)]
    fn is_nan(self) -> bool;
    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
    #[doc(hidden)]
    fn sub(self, other: Self) -> Self;
    #[doc(hidden)]
    fn mul(self, other: Self) -> Self;
    #[doc(hidden)]
    fn div(self, other: Self) -> Self;
    #[doc(hidden)]
    fn pow(self, other: Self) -> Self;

    /// The smaller, or NaN if either is NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn least(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }

    /// The larger, or NaN if either is NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn greatest(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }
}

/// The type in which many lanes are summed.
pub trait Total: Copy + Default + Send + Sync + 'static {
    /// The type of the lanes.
    type Lane: Lane<Total = Self>;

    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
    #[doc(hidden)]
    fn divide(self, count: usize) -> Self;
    #[doc(hidden)]
    fn lane(self) -> Self::Lane;
}

impl Lane for f32 {
    type Total = f64;

    const LOWEST: Self = Self::NEG_INFINITY;
    const HIGHEST: Self = Self::INFINITY;

    #[inline(always)]
    fn total(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self / other
    }
    #[inline(always)]
    fn pow(self, other: Self) -> Self {
        if other == 2.0 { self * self } else { self.powf(other) }
    }
}

impl Total for f64 {
    type Lane = f32;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn divide(self, count: usize) -> Self {
        self / count as Self
    }
    #[inline(always)]
    fn lane(self) -> f32 {
        self as f32
    }
}

/// A sum of integers, modulo the size of their type.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntegerTotal<T>(T);

macro_rules! integer_lane {
    ($($type:ty),+) => {$(
        impl Lane for $type {
            type Total = IntegerTotal<$type>;

            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            #[inline(always)]
            fn total(self) -> Self::Total {
                IntegerTotal(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn pow(self, other: Self) -> Self {
                match (self, u32::try_from(other)) {
                    (_, Ok(exponent)) => self.wrapping_pow(exponent),
                    (1, Err(_)) => 1,
                    (-1, Err(_)) => 1 - 2 * (other & 1),
                    (_, Err(_)) => 0,
                }
            }
        }

        impl Total for IntegerTotal<$type> {
            type Lane = $type;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(self.0.wrapping_add(other.0))
            }
            #[inline(always)]
            fn divide(self, count: usize) -> Self {
                Self(<$type>::try_from(count).map_or(0, |count| Lane::div(self.0, count)))
            }
            #[inline(always)]
            fn lane(self) -> $type {
                self.0
            }
        }
    )+};
}

integer_lane!(i32, i64);

/// An element type of arithmetic: `f32`, `bf16`, `i64` or `i32`.
pub trait Number: Copy + Default + Send + Sync + 'static {
    /// The type in which it is computed.
    type Lane: Lane;

    /// The number, ready to be computed with.
    #[doc(hidden)]
    fn widen(self) -> Self::Lane;

    /// The nearest number of this type, ties to even.
    #[doc(hidden)]
    fn narrow(lane: Self::Lane) -> Self;

    #[doc(hidden)]
    fn number(kernels: &RowwiseKernels) -> &NumberKernels<Self>;
}

/// A floating-point element type that is computed in `f32`: `f32` or `bf16`.
pub trait Float: Number<Lane = f32> {
    /// Lets `fill` write `f32` numbers, then stores them in `out`: by way of `scratch`, which has at least as many
    /// elements, unless this is `f32` already.
    #[doc(hidden)]
    fn stage(out: &mut [Self], scratch: &mut [f32], fill: impl FnOnce(&mut [f32]));

    #[doc(hidden)]
    fn float(kernels: &RowwiseKernels) -> &FloatKernels<Self>;
}

macro_rules! number {
    ($type:ident, $lane:ty, $widen:expr, $narrow:expr) => {
        impl Number for $type {
            type Lane = $lane;

            #[inline(always)]
            fn widen(self) -> $lane {
                $widen(self)
            }
            #[inline(always)]
            fn narrow(lane: $lane) -> Self {
                $narrow(lane)
            }
            fn number(kernels: &RowwiseKernels) -> &NumberKernels<Self> {
                &kernels.numbers.$type
            }
        }
    };
}

number!(f32, f32, std::convert::identity, std::convert::identity);
number!(i64, i64, std::convert::identity, std::convert::identity);
number!(i32, i32, std::convert::identity, std::convert::identity);
number!(bf16, f32, bf16_to_f32, bf16_from_f32);

impl Float for f32 {
    #[inline(always)]
    fn stage(out: &mut [Self], _scratch: &mut [f32], fill: impl FnOnce(&mut [f32])) {
        fill(out);
    }

    fn float(kernels: &RowwiseKernels) -> &FloatKernels<Self> {
        &kernels.f32
    }
}

impl Float for bf16 {
    #[inline(always)]
    fn stage(out: &mut [Self], scratch: &mut [f32], fill: impl FnOnce(&mut [f32])) {
        let scratch = &mut scratch[..out.len()];
        fill(scratch);
        for (out, &value) in out.iter_mut().zip(&*scratch) {
            *out = bf16_from_f32(value);
        }
    }

    fn float(kernels: &RowwiseKernels) -> &FloatKernels<Self> {
        &kernels.bf16
    }
}

#[inline(always)]
pub(crate) fn bf16_to_f32(value: bf16) -> f32 {
    math::bf16_value(value.to_bits())
}

#[inline(always)]
pub(crate) fn bf16_from_f32(value: f32) -> bf16 {
    bf16::from_bits(math::bf16_bits(value))
}

/// All of `x`, each passed through `map`, combined: every [`LANES`]-th in order, then these results in pairs.
#[inline(always)]
pub(crate) fn fold<T: Number>(
    x: &[T],
    start: T::Lane,
    combine: impl Fn(T::Lane, T::Lane) -> T::Lane,
    map: impl Fn(T::Lane) -> T::Lane,
) -> T::Lane {
    let mut lanes = [start; LANES];
    for x in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = combine(*lane, map(x.widen()));
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        for (low, &high) in low.iter_mut().zip(&*high) {
            *low = combine(*low, high);
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of all of `x`, each passed through `map`: no number takes part in more than [`RUN`] + 7 additions before
/// the sum is carried on in the wider type.
#[inline(always)]
pub(crate) fn sum<T: Number>(x: &[T], map: impl Fn(T::Lane) -> T::Lane + Copy) -> <T::Lane as Lane>::Total {
    x.chunks(RUN * LANES).fold(Default::default(), |total: <T::Lane as Lane>::Total, x| {
        total.add(fold(x, T::Lane::default(), T::Lane::add, map).total())
    })
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
    f32: FloatKernels<f32>,
    bf16: FloatKernels<bf16>,
    numbers: Numbers,
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
}

impl<T: Number> NumberKernels<T> {
    const fn of<E: Enter>() -> Self {
        Self {
            binary: |kernel| E::enter(kernel),
            compare: |kernel| E::enter(kernel),
            reduce: |kernel| E::enter(kernel),
        }
    }
}

struct Numbers {
    f32: NumberKernels<f32>,
    bf16: NumberKernels<bf16>,
    i64: NumberKernels<i64>,
    i32: NumberKernels<i32>,
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
