//! Fourier transforms as products with matrices, of sizes split into factors; complex numbers are a last dimension of
//! 2.

use ondine_graph::{Binary, DType, Dim, NDArray, Op, Result, Scatter, fail};

use super::{
    complex::product,
    product::matmul,
    rule::{Rule, one},
};
use crate::{
    builder::{Builder, Tensor, check_list, inverse},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("fft_fft", transform).complex(),
    Rule::new("fft_ifft", transform).complex(),
    Rule::new("fft_rfft", transform).complex(),
    Rule::new("fft_irfft", transform).complex(),
    Rule::new("fft_fft2", transform).complex(),
    Rule::new("fft_ifft2", transform).complex(),
    Rule::new("fft_rfft2", transform).complex(),
    Rule::new("fft_irfft2", transform).complex(),
    Rule::new("fft_fftn", transform).complex(),
    Rule::new("fft_ifftn", transform).complex(),
    Rule::new("fft_rfftn", transform).complex(),
    Rule::new("fft_irfftn", transform).complex(),
    Rule::new("fft_hfft", transform).complex(),
    Rule::new("fft_ihfft", transform).complex(),
    Rule::new("fft_hfft2", transform).complex(),
    Rule::new("fft_ihfft2", transform).complex(),
    Rule::new("fft_hfftn", transform).complex(),
    Rule::new("fft_ihfftn", transform).complex(),
    Rule::new("_fft_r2c", raw_transform).complex(),
    Rule::new("_fft_c2c", raw_transform).complex(),
    Rule::new("_fft_c2r", raw_transform).complex(),
    Rule::new("fft_fftshift", shift).complex(),
    Rule::new("fft_ifftshift", shift).complex(),
    Rule::new("fft_fftfreq", frequencies).complex(),
    Rule::new("fft_rfftfreq", frequencies).complex(),
    Rule::new("stft", stft).complex(),
    Rule::new("istft", istft).complex(),
    Rule::new("hann_window", named_window),
    Rule::new("hamming_window", named_window),
    Rule::new("blackman_window", named_window),
];

/// A transform of so many elements is one product; larger ones are split.
const DIRECT: usize = 64;

const LARGEST: usize = 1 << 20;

/// Whether a real tensor becomes complex: a part of zeros beside it.
fn as_complex(builder: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let x = builder.cast(x, DType::F32)?;
    let mut shape = builder.shape(&x);
    shape.push(1.into());
    let x = builder.reshape(&x, &shape)?;
    let zero = builder.number(0.0, DType::F32)?;
    let zeros = builder.expand(&zero, &shape)?;
    builder.concat(&[&x, &zeros], shape.len() - 1)
}

fn part(builder: &mut Builder, x: &Tensor, index: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    let part = builder.slice(x, last, &index.into(), &(index + 1).into())?;
    builder.without(&part, last)
}

/// What is along `axis`, cut or continued by zeros to `size`.
fn fitted(builder: &mut Builder, x: &Tensor, axis: usize, size: usize) -> Result<Tensor> {
    let Some(there) = builder.dim(x, axis).fixed() else { fail!(Unsupported, "a Fourier transform of unknown size") };
    if size <= there {
        return builder.slice(x, axis, &0.into(), &size.into());
    }
    let mut amounts = vec![[0; 2]; x.rank()];
    amounts[x.axes[axis]] = [0, size - there];
    let value = builder.graph.push(Op::Pad { amounts }, &[x.value])?;
    Ok(Tensor { value, axes: x.axes.clone() })
}

/// The cosine and sine of the angle of `k` of `n` equal parts of a circle.
fn turn(k: usize, n: usize, sign: f64) -> [f64; 2] {
    let angle = sign * 2.0 * std::f64::consts::PI * (k % n) as f64 / n as f64;
    [angle.cos(), angle.sin()]
}

/// The transform of complex `x` along `axis`, not scaled; `sign` is -1 forward and 1 back.
fn along(builder: &mut Builder, x: &Tensor, axis: usize, sign: f64) -> Result<Tensor> {
    let Some(n) = builder.dim(x, axis).fixed().filter(|n| (1..=LARGEST).contains(n)) else {
        fail!(Unsupported, "a Fourier transform of an unknown, empty or very large dimension");
    };
    let rank = x.rank();
    let order: Vec<usize> = (0..rank - 1).filter(|&other| other != axis).chain([axis, rank - 1]).collect();
    let moved = Builder::permuted(x, &order);
    let shape = builder.shape(&moved);
    let rows = shape[..rank - 2].iter().fold(Dim::from(1), |product, dim| &product * dim);
    let flat = builder.reshape(&moved, &[rows, n.into(), 2.into()])?;
    let result = last(builder, &flat, n, sign)?;
    let result = builder.reshape(&result, &shape)?;
    Ok(Builder::permuted(&result, &inverse(&order)))
}

/// The transform of `[rows, n, 2]` along the middle dimension.
fn last(builder: &mut Builder, x: &Tensor, n: usize, sign: f64) -> Result<Tensor> {
    let rows = builder.dim(x, 0);
    let factor = (2..=DIRECT).rev().find(|factor| n.is_multiple_of(*factor)).unwrap_or(1);
    if n <= DIRECT || factor == 1 {
        if n > 1 << 11 {
            fail!(Unsupported, "a Fourier transform of {n} elements, which has no small factor");
        }
        let entry = |row: usize, column: usize| {
            let [c, s] = turn((row / 2) * (column / 2), n, sign);
            (match (row % 2, column % 2) {
                (0, 0) | (1, 1) => c,
                (0, _) => s,
                _ => -s,
            }) as f32
        };
        let matrix: Vec<f32> = (0..2 * n).flat_map(|row| (0..2 * n).map(move |column| entry(row, column))).collect();
        let matrix = builder.graph.constant(NDArray::new(&[2 * n, 2 * n], &matrix)?);
        let matrix = builder.plain(matrix);
        let x = builder.reshape(x, &[rows.clone(), (2 * n).into()])?;
        let y = matmul(builder, &x, &matrix)?;
        return builder.reshape(&y, &[rows, n.into(), 2.into()]);
    }
    // Cooley and Tukey: element `a + factor * b` is transformed over b, turned, then transformed over a.
    let rest = n / factor;
    let split = builder.reshape(x, &[rows.clone(), rest.into(), factor.into(), 2.into()])?;
    let split = Builder::permuted(&split, &[0, 2, 1, 3]);
    let inner = builder.reshape(&split, &[&rows * factor, rest.into(), 2.into()])?;
    let inner = last(builder, &inner, rest, sign)?;
    let inner = builder.reshape(&inner, &[rows.clone(), factor.into(), rest.into(), 2.into()])?;
    let turns: Vec<f32> =
        (0..factor).flat_map(|a| (0..rest).flat_map(move |k| turn(a * k, n, sign).map(|value| value as f32))).collect();
    let turns = builder.graph.constant(NDArray::new(&[1, factor, rest, 2], &turns)?);
    let turns = builder.plain(turns);
    let turned = product(builder, &inner, &turns)?;
    let outer = Builder::permuted(&turned, &[0, 2, 1, 3]);
    let outer = builder.reshape(&outer, &[&rows * rest, factor.into(), 2.into()])?;
    let outer = last(builder, &outer, factor, sign)?;
    let outer = builder.reshape(&outer, &[rows.clone(), rest.into(), factor.into(), 2.into()])?;
    let outer = Builder::permuted(&outer, &[0, 2, 1, 3]);
    builder.reshape(&outer, &[rows, n.into(), 2.into()])
}

/// What a transform over `count` elements in all is multiplied by.
fn scale(norm: Option<&str>, forward: bool, count: f64) -> Result<f64> {
    Ok(match (norm, forward) {
        (Some("ortho"), _) => 1.0 / count.sqrt(),
        (None | Some("backward"), true) | (Some("forward"), false) => 1.0,
        (None | Some("backward"), false) | (Some("forward"), true) => 1.0 / count,
        (Some(other), _) => fail!(Unsupported, "the norm `{other}` of a Fourier transform"),
    })
}

/// The first half of a spectrum of real numbers, `[.., n / 2 + 1, 2]` along `axis`, as all of it.
fn mirrored(builder: &mut Builder, x: &Tensor, axis: usize, n: usize) -> Result<Tensor> {
    let half = n / 2 + 1;
    let x = fitted(builder, x, axis, half)?;
    let count = n - half;
    if count == 0 {
        return Ok(x);
    }
    let indices = builder.range(&count.into(), -1, &count.into())?;
    let rest = builder.take(&x, axis, &indices)?;
    let signs = builder.graph.constant(NDArray::new(&[2], &[1.0_f32, -1.0])?);
    let signs = builder.plain(signs);
    let rest = builder.binary(Binary::Mul, &rest, &signs)?;
    builder.concat(&[&x, &rest], axis)
}

fn transform(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let complex = call.is_complex("self");
    let rank = x.rank() - usize::from(complex);
    let several = call.op.ends_with('2') || call.op.ends_with('n');
    let axes = match (several, call.has("dim")) {
        (true, true) => call.axes("dim", x.rank())?,
        (true, false) if call.op.ends_with('2') => vec![rank - 2, rank - 1],
        (true, false) => (0..rank).collect(),
        (false, _) => vec![call.axis("dim", -1, x.rank())?],
    };
    let any = |names: &[&str]| names.iter().any(|name| call.op.starts_with(name));
    let inverse = any(&["fft_ifft", "fft_irfft", "fft_ihfft"]);
    let one_sided = any(&["fft_rfft", "fft_ihfft"]);
    let real_result = any(&["fft_irfft", "fft_hfft"]);
    let given = if several { call.integers("s", &[])? } else { call.integers("n", &[])? };
    let mut sizes = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let last = i + 1 == axes.len();
        let there = builder.dim(&x, axis).fixed();
        let size = match (given.get(i).copied(), there) {
            (Some(size @ 1..), _) => usize::try_from(size).ok(),
            (_, Some(there)) if real_result && last => there.checked_sub(1).map(|half| 2 * half),
            (_, there) => there,
        };
        let Some(size) = size.filter(|size| (1..=LARGEST).contains(size)) else {
            fail!(Unsupported, "a Fourier transform of an unknown, empty or very large dimension");
        };
        sizes.push(size);
    }
    let count: f64 = sizes.iter().map(|&size| size as f64).product();
    let scale = scale(call.text("norm"), !inverse, count)?;
    let x = if complex { x } else { as_complex(builder, &x)? };
    one(spectrum(builder, x, &axes, &sizes, &Kind { inverse, one_sided, real_result, scale })?)
}

struct Kind {
    inverse: bool,
    one_sided: bool,
    real_result: bool,
    scale: f64,
}

/// The transform of complex `x` over `axes`, of which the last is the one-sided one.
fn spectrum(builder: &mut Builder, mut x: Tensor, axes: &[usize], sizes: &[usize], kind: &Kind) -> Result<Tensor> {
    let sign = if kind.inverse { 1.0 } else { -1.0 };
    for (i, (&axis, &size)) in axes.iter().zip(sizes).enumerate() {
        let last = i + 1 == axes.len();
        if kind.real_result && last {
            x = mirrored(builder, &x, axis, size)?;
        } else {
            x = fitted(builder, &x, axis, size)?;
        }
        x = along(builder, &x, axis, sign)?;
        if kind.one_sided && last {
            x = builder.slice(&x, axis, &0.into(), &(size / 2 + 1).into())?;
        }
    }
    if kind.real_result {
        x = part(builder, &x, 0)?;
    }
    Call::scale(builder, &x, kind.scale)
}

/// The transforms that the above decompose into; `normalization` is 0 for none, 1 for the root, 2 for all.
fn raw_transform(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let x = call.tensor("self")?;
    let axes = call.axes("dim", x.rank())?;
    let real_result = call.op == "_fft_c2r";
    let inverse = real_result || call.op == "_fft_c2c" && !call.flag("forward", true)?;
    let one_sided = call.op == "_fft_r2c" && call.flag("onesided", true)?;
    let mut sizes = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let last = real_result && i + 1 == axes.len();
        let size =
            if last { usize::try_from(call.integer("last_dim_size", 0)?).ok() } else { builder.dim(&x, axis).fixed() };
        let Some(size) = size.filter(|size| (1..=LARGEST).contains(size)) else {
            fail!(Unsupported, "a Fourier transform of an unknown, empty or very large dimension");
        };
        sizes.push(size);
    }
    let count: f64 = sizes.iter().map(|&size| size as f64).product();
    let scale = match call.integer("normalization", 0)? {
        0 => 1.0,
        1 => 1.0 / count.sqrt(),
        _ => 1.0 / count,
    };
    let x = if call.is_complex("self") { x } else { as_complex(builder, &x)? };
    one(spectrum(builder, x, &axes, &sizes, &Kind { inverse, one_sided, real_result, scale })?)
}

/// Zero frequency in the middle, or back at the start.
fn shift(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let rank = x.rank() - usize::from(call.is_complex("self"));
    let axes = if call.has("dim") { call.axes("dim", x.rank())? } else { (0..rank).collect() };
    for axis in axes {
        let size = builder.dim(&x, axis);
        let Some(n) = size.fixed() else { fail!(Unsupported, "a shift of an unknown size") };
        let cut = if call.op == "fft_fftshift" { n.div_ceil(2) } else { n / 2 };
        let (head, tail) =
            (builder.slice(&x, axis, &0.into(), &cut.into())?, builder.slice(&x, axis, &cut.into(), &size)?);
        x = builder.concat(&[&tail, &head], axis)?;
    }
    one(x)
}

fn frequencies(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (n, step) = (call.integer("n", 1)?.clamp(1, 1 << 24), call.float("d", 1.0)?);
    let value = |i: i64| (i as f64 / (n as f64 * step)) as f32;
    let values: Vec<f32> = if call.op == "fft_rfftfreq" {
        (0..=n / 2).map(value).collect()
    } else {
        (0..n).map(|i| value(if i < (n + 1) / 2 { i } else { i - n })).collect()
    };
    let values = builder.graph.constant(NDArray::new(&[values.len()], &values)?);
    one(builder.plain(values))
}

/// The window of a transform over time, in the middle of `size` elements.
fn window(builder: &mut Builder, call: &Call<'_>, size: usize) -> Result<Tensor> {
    let given = call.integer("win_length", size as i64)?;
    let length = usize::try_from(given).unwrap_or(0);
    if length > size || length == 0 {
        fail!(Shape, "a window of {length} for a transform of {size}");
    }
    let window = match call.try_tensor("window")? {
        Some(window) => builder.cast(&window, DType::F32)?,
        None => {
            let unit = builder.number(1.0, DType::F32)?;
            builder.expand(&unit, &[length.into()])?
        }
    };
    let left = (size - length) / 2;
    let amounts = vec![[left, size - length - left]];
    let value = builder.dense(&window)?;
    let value = builder.graph.push(Op::Pad { amounts }, &[value])?;
    Ok(builder.plain(value))
}

/// Size of the transform and distance of its windows.
fn steps(call: &Call<'_>) -> Result<[usize; 2]> {
    let size = usize::try_from(call.integer("n_fft", 0)?).unwrap_or(0);
    let hop = usize::try_from(call.integer("hop_length", size as i64 / 4)?).unwrap_or(0);
    if size == 0 || hop == 0 || size > 1 << 16 {
        fail!(Shape, "windows of {size} every {hop}");
    }
    Ok([size, hop])
}

/// Fourier transforms of windows: `[.., frequencies, windows]`.
fn stft(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.float_tensor(builder, "self")?;
    let [size, hop] = steps(call)?;
    let unbatched = x.rank() == 1;
    if unbatched {
        let shape = [Dim::from(1), builder.dim(&x, 0)];
        x = builder.reshape(&x, &shape)?;
    }
    if x.rank() != 2 || call.flag("center", false)? && call.overload == "center" {
        fail!(Unsupported, "stft of rank {}, or centered by the operator itself", x.rank());
    }
    let Some(count) = builder.dim(&x, 1).fixed().and_then(|n| n.checked_sub(size)).map(|room| room / hop + 1) else {
        fail!(Unsupported, "stft of an unknown length, or one shorter than its window");
    };
    check_list(&[count, size])?;
    let indices: Vec<i64> = (0..count).flat_map(|i| (0..size).map(move |j| (i * hop + j) as i64)).collect();
    let indices = builder.graph.constant(NDArray::new(&[indices.len()], &indices)?);
    let indices = builder.plain(indices);
    let frames = builder.take(&x, 1, &indices)?;
    let batch = builder.dim(&x, 0);
    let frames = builder.reshape(&frames, &[batch, count.into(), size.into()])?;
    let window = window(builder, call, size)?;
    let frames = builder.binary(Binary::Mul, &frames, &window)?;
    let frames = as_complex(builder, &frames)?;
    let scale = if call.flag("normalized", false)? { 1.0 / (size as f64).sqrt() } else { 1.0 };
    let kind = Kind { inverse: false, one_sided: call.flag("onesided", true)?, real_result: false, scale };
    let y = spectrum(builder, frames, &[2], &[size], &kind)?;
    let y = Builder::permuted(&y, &[0, 2, 1, 3]);
    one(if unbatched { builder.without(&y, 0)? } else { y })
}

/// The inverse of `stft`: windows added up, divided by what their windows add up to.
fn istft(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut x = call.tensor("self")?;
    let [size, hop] = steps(call)?;
    let unbatched = x.rank() == 3;
    if unbatched {
        let shape: Vec<Dim> = std::iter::once(Dim::from(1)).chain(builder.shape(&x)).collect();
        x = builder.reshape(&x, &shape)?;
    }
    if x.rank() != 4 || call.flag("return_complex", false)? || !call.flag("onesided", true)? {
        fail!(Unsupported, "istft of two-sided or complex signals");
    }
    let (batch, Some(count)) = (builder.dim(&x, 0), builder.dim(&x, 2).fixed()) else {
        fail!(Unsupported, "istft of an unknown number of windows");
    };
    let x = Builder::permuted(&x, &[0, 2, 1, 3]);
    let scale = if call.flag("normalized", false)? { (size as f64).sqrt() } else { 1.0 } / size as f64;
    let kind = Kind { inverse: true, one_sided: false, real_result: true, scale };
    let frames = spectrum(builder, x, &[2], &[size], &kind)?;
    let window = window(builder, call, size)?;
    let frames = builder.binary(Binary::Mul, &frames, &window)?;
    let square = builder.binary(Binary::Mul, &window, &window)?;
    let square = builder.expand(&square, &[1.into(), count.into(), size.into()])?;
    check_list(&[count, size, hop])?;
    let length = size + hop * count.saturating_sub(1);
    let places: Vec<i64> = (0..count).flat_map(|i| (0..size).map(move |j| (i * hop + j) as i64)).collect();
    let places = builder.graph.constant(NDArray::new(&[places.len()], &places)?);
    let places = builder.plain(places);
    let mut sums = Vec::new();
    for (rows, frames) in [(batch, frames), (Dim::from(1), square)] {
        let zero = builder.number(0.0, DType::F32)?;
        let base = builder.expand(&zero, &[rows.clone(), length.into()])?;
        let frames = builder.reshape(&frames, &[rows, (count * size).into()])?;
        sums.push(builder.scatter_rows(Scatter::Add, &base, 1, &places, &frames)?);
    }
    let start = if call.flag("center", true)? { size / 2 } else { 0 };
    let out = call.out_shape(0)?;
    let Some(wanted) = out.last().and_then(Dim::fixed) else { fail!(Unsupported, "istft of an unknown length") };
    let mut cut = Vec::new();
    for sum in &sums {
        let end = length.min(start + wanted);
        let part = builder.slice(sum, 1, &start.into(), &end.into())?;
        cut.push(fitted(builder, &part, 1, wanted)?);
    }
    let y = builder.binary(Binary::Div, &cut[0], &cut[1])?;
    one(if unbatched { builder.without(&y, 0)? } else { y })
}

fn named_window(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let length = usize::try_from(call.integer("window_length", 1)?).unwrap_or(0).min(1 << 24);
    let periodic = call.flag("periodic", true)?;
    let span = if periodic { length } else { length.saturating_sub(1) }.max(1) as f64;
    let shares = match call.op {
        "hann_window" => [0.5, 0.5, 0.0],
        "hamming_window" => {
            let alpha = call.float("alpha", 0.54)?;
            [alpha, call.float("beta", 0.46)?, 0.0]
        }
        _ => [0.42, 0.5, 0.08],
    };
    let value = |i: usize| {
        let angle = 2.0 * std::f64::consts::PI * i as f64 / span;
        (shares[0] - shares[1] * angle.cos() + shares[2] * (2.0 * angle).cos()) as f32
    };
    let values: Vec<f32> = (0..length).map(value).collect();
    let array = builder.graph.constant(NDArray::new(&[length], &values)?);
    one(builder.plain(array))
}
