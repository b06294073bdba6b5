//! Operators that imported networks need beyond those of our own: plain loops on every tier.

use ondine_kernels as k;

use super::{
    enums::{elementary, fold},
    movement::wide_indices,
    operand::{Operand, Target, dispatch},
    processor::Processor,
};
use ondine_graph::{
    Binary, DType, Dim, Elementary, Error, ErrorKind, Interpolation, Pooling, Result, Scan, Scatter, Sources, fail,
};

/// Calls `$body` with `$T` being an unsigned type of the element's size: for what moves elements unchanged.
macro_rules! dispatch_integers {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        dispatch!(
            $op,
            $dtype,
            [I64 => i64, I32 => i32, I16 => i16, I8 => i8, U64 => u64, U32 => u32, U16 => u16, U8 => u8, Bool => u8],
            $T => $body
        )
    };
}

pub(super) fn function(function: Elementary, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let of = elementary(function).of();
    dispatch!("arithmetic", x.dtype, [F32 => f32], T => k::map(device.cpu.pool(), of, x.view::<T>(), out.view::<T>()))
}

/// The functions of two numbers that are rare, on any type.
pub(super) fn rare_binary(
    op: Binary,
    a: Operand<'_>,
    b: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let (a_strides, b_strides) = (k::broadcast_strides(a.shape, out.shape), k::broadcast_strides(b.shape, out.shape));
    let shape = out.shape;
    macro_rules! zip {
        ($T:ty, $function:expr) => {{
            let a = k::Strided { data: a.view::<$T>(), strides: &a_strides };
            let b = k::Strided { data: b.view::<$T>(), strides: &b_strides };
            k::zip(device.cpu.pool(), $function, shape, a, b, out.view::<$T>());
        }};
    }
    match op {
        Binary::And => dispatch_integers!("and", a.dtype, T => zip!(T, |a: T, b: T| a & b)),
        Binary::Or => dispatch_integers!("or", a.dtype, T => zip!(T, |a: T, b: T| a | b)),
        Binary::Xor => dispatch_integers!("xor", a.dtype, T => zip!(T, |a: T, b: T| a ^ b)),
        Binary::Atan2 => dispatch!("atan2", a.dtype, [F32 => f32], T => zip!(T, |a: T, b: T| a.atan2(b))),
        Binary::Fmod if a.dtype == DType::F32 => {
            zip!(f32, |a: f32, b: f32| a % b);
            Ok(())
        }
        Binary::Remainder if a.dtype == DType::F32 => {
            zip!(f32, |a: f32, b: f32| {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            });
            Ok(())
        }
        Binary::FloorDiv if a.dtype == DType::F32 => {
            zip!(f32, |a: f32, b: f32| (a / b).floor());
            Ok(())
        }
        // A division by zero has no integer result: it yields 0 rather than ending the program.
        Binary::Fmod => dispatch!("fmod", a.dtype, [I64 => i64, I32 => i32], T => {
            zip!(T, |a: T, b: T| if b == 0 { 0 } else { a.wrapping_rem(b) });
        }),
        Binary::Remainder => dispatch!("remainder", a.dtype, [I64 => i64, I32 => i32], T => {
            zip!(T, |a: T, b: T| {
                let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
                if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            });
        }),
        Binary::FloorDiv => dispatch!("division", a.dtype, [I64 => i64, I32 => i32], T => {
            zip!(T, |a: T, b: T| {
                let (quotient, rest) = if b == 0 { (0, 0) } else { (a.wrapping_div(b), a.wrapping_rem(b)) };
                if rest != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
            });
        }),
        _ => fail!(Unsupported, "{op:?} of {}", a.dtype),
    }
}

pub(super) fn range(start: &Dim, step: i64, out: &mut Target<'_>) -> Result<()> {
    let Some(start) = start.constant() else { fail!(Shape, "a range that begins at {start}, which is not bound") };
    for (i, value) in (0_i64..).zip(out.view::<i64>()) {
        *value = start.wrapping_add(i.wrapping_mul(step));
    }
    Ok(())
}

/// Numbers that are combined; integers wrap around.
trait Combine: Copy {
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// The larger; no number if either is none.
    fn larger(self, other: Self) -> Self;
    /// The smaller; no number if either is none.
    fn smaller(self, other: Self) -> Self;
}

impl Combine for f32 {
    const ONE: Self = 1.0;

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn times(self, other: Self) -> Self {
        self * other
    }

    fn larger(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    fn smaller(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
}

macro_rules! combine_integers {
    ($($integer:ty),+) => {$(
        impl Combine for $integer {
            const ONE: Self = 1;

            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            fn larger(self, other: Self) -> Self {
                self.max(other)
            }

            fn smaller(self, other: Self) -> Self {
                self.min(other)
            }
        }
    )+};
}
combine_integers!(i64, i32);

fn index_error(error: k::IndexError) -> Error {
    Error::new(ErrorKind::Shape, error.to_string())
}

pub(super) fn take(
    axis: usize,
    x: Operand<'_>,
    indices: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let indices = wide_indices(indices)?;
    let inner = x.shape[axis + 1..].iter().product::<usize>() * x.dtype.size();
    k::take(device.cpu.pool(), [x.shape[axis], inner], x.bytes, &indices, out.bytes).map_err(index_error)
}

/// With `in_place`, the result holds `x` already.
pub(super) fn scatter(how: Scatter, inputs: &[Operand<'_>], in_place: bool, out: &mut Target<'_>) -> Result<()> {
    let [x, indices, rows] = inputs else { fail!(Shape, "scatter takes 3 inputs") };
    let indices = wide_indices(*indices)?;
    if !in_place {
        out.bytes.copy_from_slice(x.bytes);
    }
    let width: usize = x.shape[1..].iter().product();
    if how == Scatter::Replace {
        let width = width * x.dtype.size();
        return k::scatter_rows(width, &indices, rows.bytes, out.bytes, |_, new| new).map_err(index_error);
    }
    dispatch!("scatter", x.dtype, [F32 => f32, I64 => i64, I32 => i32], T => {
        let (values, out) = (rows.view::<T>(), out.view::<T>());
        match how {
            Scatter::Replace => k::scatter_rows(width, &indices, values, out, |_, new| new),
            Scatter::Add => k::scatter_rows(width, &indices, values, out, T::plus),
            Scatter::Multiply => k::scatter_rows(width, &indices, values, out, T::times),
            Scatter::Max => k::scatter_rows(width, &indices, values, out, T::larger),
            Scatter::Min => k::scatter_rows(width, &indices, values, out, T::smaller),
        }
        .map_err(index_error)?;
    })
}

pub(super) fn scan(axis: usize, how: Scan, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let size = [x.shape[axis], x.shape[axis + 1..].iter().product()];
    let pool = device.cpu.pool();
    if x.dtype == DType::F32 {
        let (x, out) = (x.view::<f32>(), out.view());
        let narrow = |total: f64| total as f32;
        match how {
            Scan::Sum => k::scan(pool, size, x, out, 0.0, |sum, x| sum + f64::from(x), narrow),
            Scan::Product => k::scan(pool, size, x, out, 1.0, |product, x| product * f64::from(x), narrow),
            // Behind what is no number there is none.
            Scan::Max => k::scan(
                pool,
                size,
                x,
                out,
                f64::NEG_INFINITY,
                |m, x| if m.is_nan() || x.is_nan() { f64::NAN } else { m.max(x.into()) },
                narrow,
            ),
            Scan::Min => k::scan(
                pool,
                size,
                x,
                out,
                f64::INFINITY,
                |m, x| if m.is_nan() || x.is_nan() { f64::NAN } else { m.min(x.into()) },
                narrow,
            ),
        }
        return Ok(());
    }
    dispatch!("accumulation", x.dtype, [I64 => i64, I32 => i32], T => {
        let (x, out) = (x.view::<T>(), out.view::<T>());
        match how {
            Scan::Sum => k::scan(pool, size, x, out, 0, T::wrapping_add, |total| total),
            Scan::Product => k::scan(pool, size, x, out, 1, T::wrapping_mul, |total| total),
            Scan::Max => k::scan(pool, size, x, out, T::MIN, Ord::max, |total| total),
            Scan::Min => k::scan(pool, size, x, out, T::MAX, Ord::min, |total| total),
        }
    })
}

pub(super) fn argsort(descending: bool, x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let size = [x.shape.last().copied().unwrap_or(1), out.shape.last().copied().unwrap_or(1)];
    if size[1] > size[0] {
        fail!(Shape, "the first {} of {} elements", size[1], size[0]);
    }
    dispatch!("sorting", x.dtype, [F32 => f32, I64 => i64, I32 => i32, U8 => u8, Bool => u8], T => {
        k::argsort(device.cpu.pool(), size, descending, x.view::<T>(), out.view());
    })
}

pub(super) fn product(axes: &[usize], x: Operand<'_>, out: &mut Target<'_>) -> Result<()> {
    let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
        out.bytes.copy_from_slice(x.bytes);
        return Ok(());
    };
    let (size, inner) =
        (x.shape[first..=last].iter().product::<usize>(), x.shape[last + 1..].iter().product::<usize>());
    dispatch!("product", x.dtype, [F32 => f32, I64 => i64], T => {
        let x = x.view::<T>();
        for (index, value) in out.view::<T>().iter_mut().enumerate() {
            let start = index / inner * size * inner + index % inner;
            *value = (0..size).map(|row| x[start + row * inner]).fold(T::ONE, T::times);
        }
    })
}

pub(super) fn pool(
    pooling: &Pooling,
    axes: &[k::Windows; 3],
    x: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let channels = x.shape[x.shape.len() - 1];
    if out.bytes.is_empty() {
        return Ok(());
    }
    dispatch!("pooling", x.dtype, [F32 => f32], T => {
        k::pool_windows(&device.cpu, fold(pooling.fold), axes, channels, x.view::<T>(), out.view::<T>());
    })
}

/// The sources of a resampled dimension, as the kernels take them.
///
/// # Errors
/// If there is nothing to resample.
pub(super) fn sources(how: Interpolation, from: usize, to: usize) -> Result<k::Sources> {
    if from == 0 {
        fail!(Shape, "an empty dimension cannot be resampled");
    }
    let Sources { outputs, weights } = how.sources(from, to);
    Ok(k::Sources { outputs, weights })
}

pub(super) fn interpolate(
    axis: usize,
    sources: &k::Sources,
    x: Operand<'_>,
    out: &mut Target<'_>,
    device: &Processor,
) -> Result<()> {
    let (from, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    if out.bytes.is_empty() {
        return Ok(());
    }
    dispatch!("interpolation", x.dtype, [F32 => f32], T => {
        k::resample(device.cpu.pool(), [from, inner], sources, x.view::<T>(), out.view::<T>());
    })
}

pub(super) fn solve(inputs: &[Operand<'_>], out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let [a, b] = inputs else { fail!(Shape, "equations take 2 inputs") };
    let size = [b.shape[b.shape.len() - 2], b.shape[b.shape.len() - 1]];
    dispatch!("equations", a.dtype, [F32 => f32], T => {
        k::solve(device.cpu.pool(), size, a.view::<T>(), b.view(), out.view());
    })
}

pub(super) fn cholesky(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let n = x.shape.last().copied().unwrap_or(0);
    dispatch!("a factor", x.dtype, [F32 => f32], T => k::cholesky(device.cpu.pool(), n, x.view::<T>(), out.view()))
}

pub(super) fn determinant(x: Operand<'_>, out: &mut Target<'_>, device: &Processor) -> Result<()> {
    let n = x.shape.last().copied().unwrap_or(0);
    dispatch!("determinant", x.dtype, [F32 => f32], T => k::determinant(device.cpu.pool(), n, x.view::<T>(), out.view()))
}
