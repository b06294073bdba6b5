//! Windows folded, and feature maps at other sizes.

use ondine_graph::{Fold, Interpolation, Kernel, Pooling, Resample, Result, Window};

use crate::{
    index::{around, count, map_indices, position, strides},
    number::Real,
    tensor::{Tensor, misfit},
};

/// Places are numbers of f32, as PyTorch's: which element is the nearest depends on it.
pub(super) fn resize<R: Real>(how: Resample, x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let (kernel, align_corners, scale, antialias) = match how {
        Resample::Nearest => (Kernel::Nearest, false, None, false),
        Resample::Bilinear => (Kernel::Linear, false, None, false),
    };
    let how = Interpolation { kernel, align_corners, scale, antialias };
    let mut between = x.shape().to_vec();
    between[1] = shape[1];
    let tall = interpolate(1, how, x, &between)?;
    interpolate(2, how, &tall, shape)
}

pub(super) fn interpolate<R: Real>(
    axis: usize,
    how: Interpolation,
    x: &Tensor<R>,
    shape: &[usize],
) -> Result<Tensor<R>> {
    let [outer, from, inner] = around(x.shape(), axis);
    if from == 0 && count(shape) > 0 {
        return Err(misfit("an empty dimension cannot be resampled".into()));
    }
    let numbers = x.reals()?;
    let sources: Vec<Vec<(usize, R)>> = (0..shape[axis]).map(|i| sources(how, i, [from, shape[axis]])).collect();
    let blocks = (0..outer).flat_map(|block| sources.iter().map(move |sources| (block, sources)));
    let out = blocks.flat_map(|(block, sources)| {
        (0..inner).map(move |column| {
            let terms = sources.iter().map(|&(at, share)| (numbers[(block * from + at) * inner + column], share));
            match sources[..] {
                [(at, _)] => numbers[(block * from + at) * inner + column],
                _ => R::sum(terms.map(|(x, share)| x.times(share))),
            }
        })
    });
    let out = out.collect();
    if matches!(how.kernel, Kernel::Nearest | Kernel::NearestExact) {
        return Tensor::new(x.dtype(), shape, crate::Elements::Real(out));
    }
    Tensor::real(x.dtype(), shape, out)
}

/// Elements of a dimension from one of the resampled one to the next, a number of f32.
fn scale(how: Interpolation, [from, to]: [usize; 2]) -> f32 {
    match how.scale {
        _ if how.align_corners && to > 1 => (from - 1) as f32 / (to - 1) as f32,
        _ if how.align_corners => 0.0,
        Some(scale) if scale > 0.0 => (1.0 / scale) as f32,
        _ => from as f32 / to as f32,
    }
}

/// The elements that make up element `i`, each with its share.
fn sources<R: Real>(how: Interpolation, i: usize, [from, to]: [usize; 2]) -> Vec<(usize, R)> {
    let scale = scale(how, [from, to]);
    let inside = |at: f32| (at.max(0.0) as usize).min(from - 1);
    let place = if how.align_corners { i as f32 * scale } else { (i as f32 + 0.5) * scale - 0.5 };
    match how.kernel {
        Kernel::Nearest => vec![(inside((i as f32 * scale).floor()), R::exact(1.0))],
        Kernel::NearestExact => vec![(inside(((i as f32 + 0.5) * scale).floor()), R::exact(1.0))],
        Kernel::Linear | Kernel::Cubic if how.antialias => spread(how.kernel, i, scale, from),
        Kernel::Linear => {
            let place = place.max(0.0);
            let low = inside(place.floor());
            let share = R::exact((place - low as f32).min(1.0).into());
            // Behind the last element is the last element.
            vec![(low, R::exact(1.0).minus(share)), ((low + 1).min(from - 1), share)]
        }
        Kernel::Cubic => {
            let low = place.floor();
            let tap = |tap: f32| (inside(low + tap), cubic(f64::from(place - low - tap).abs(), -0.75));
            [-1.0, 0.0, 1.0, 2.0].map(tap).to_vec()
        }
    }
}

/// Elements under a kernel that is as wide as the distance of the new ones, at least.
fn spread<R: Real>(kernel: Kernel, i: usize, scale: f32, from: usize) -> Vec<(usize, R)> {
    let reach = if kernel == Kernel::Cubic { 2.0 } else { 1.0 };
    let stretch = scale.max(1.0);
    let (support, center) = (reach * stretch, scale * (i as f32 + 0.5));
    let first = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(from);
    let weight = |at: usize| {
        let distance = ((at as f32 - center + 0.5) / stretch).abs();
        match kernel {
            Kernel::Cubic => cubic(distance.into(), -0.5),
            _ => R::exact(1.0 - f64::from(distance)).larger(R::exact(0.0)).off(crate::number::UNIT),
        }
    };
    let weights: Vec<R> = (first..end).map(weight).collect();
    let total = R::sum(weights.iter().copied());
    (first..end).zip(weights).map(|(at, weight)| (at, weight.over(total))).collect()
}

/// Cubic convolution (Keys 1981).
fn cubic<R: Real>(distance: f64, a: f64) -> R {
    let [one, two, three] = [1, 2, 3].map(|power| distance.powi(power));
    let weight = if distance <= 1.0 {
        (a + 2.0) * three - (a + 3.0) * two + 1.0
    } else if distance < 2.0 {
        a * three - 5.0 * a * two + 8.0 * a * one - 4.0 * a
    } else {
        0.0
    };
    // Terms of up to 12 cancel.
    R::exact(weight).off(16.0 * crate::number::UNIT)
}

/// The elements of a window along one dimension, and what its sum is divided by.
fn window(window: &Window, i: usize, [size, count]: [usize; 2]) -> (Vec<usize>, usize) {
    match *window {
        Window::Adaptive(_) => {
            let elements: Vec<usize> = (i * size / count..((i + 1) * size).div_ceil(count)).collect();
            let divisor = elements.len();
            (elements, divisor)
        }
        Window::Sliding { kernel, stride, padding, dilation, counted, .. } => {
            let taps = (0..kernel).map(|tap| i * stride + tap * dilation);
            let elements: Vec<usize> = taps.filter_map(|at| at.checked_sub(padding)).filter(|&at| at < size).collect();
            // What reaches beyond the padding never counts.
            let covered = (i * stride + kernel).min(size + 2 * padding) - i * stride;
            let divisor = if counted { covered } else { elements.len() };
            (elements, divisor.max(1))
        }
    }
}

pub(super) fn pool<R: Real>(pooling: &Pooling, x: &Tensor<R>, shape: &[usize]) -> Result<Tensor<R>> {
    let (numbers, own, channel) = (x.reals()?, strides(x.shape()), shape.len() - 1);
    let numbers = map_indices(shape, |index| {
        let windows: Vec<_> = (pooling.windows.iter().enumerate())
            .map(|(i, of)| window(of, index[i + 1], [x.shape()[i + 1], shape[i + 1]]))
            .collect();
        let sizes: Vec<usize> = windows.iter().map(|(elements, _)| elements.len()).collect();
        let start = index[0] * own[0] + index[channel];
        let elements = map_indices(&sizes, |at| {
            let places: Vec<usize> = at.iter().zip(&windows).map(|(&i, (elements, _))| elements[i]).collect();
            numbers[start + position(&places, &own[1..])]
        });
        match pooling.fold {
            Fold::Max => elements.into_iter().fold(R::exact(f64::NEG_INFINITY), |most, x| x.larger(most)),
            Fold::Average => {
                let divisor = pooling.divisor.unwrap_or_else(|| windows.iter().map(|(_, divisor)| divisor).product());
                R::sum(elements).over(R::exact(divisor as f64))
            }
        }
    });
    Tensor::real(x.dtype(), shape, numbers)
}
