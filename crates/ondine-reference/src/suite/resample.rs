//! Cases of windows folded and of feature maps at other sizes.

use ondine_graph::{DType, Fold, Interpolation, Kernel, Op, Pooling, Resample, Window};

use super::{case::Case, every::every};

every!(RESAMPLES: Resample = [Resample::Nearest, Resample::Bilinear]);
every!(KERNELS: Kernel = [Kernel::Nearest, Kernel::NearestExact, Kernel::Linear, Kernel::Cubic]);
every!(FOLDS: Fold = [Fold::Max, Fold::Average]);

fn resizes(floats: &[DType]) -> Vec<Case> {
    let sizes: [([usize; 4], [usize; 2]); 8] = [
        ([1, 1, 1, 1], [3, 2]),
        ([2, 3, 5, 7], [6, 10]),
        ([1, 4, 4, 3], [8, 8]),
        ([1, 7, 9, 2], [3, 4]),
        ([1, 5, 6, 17], [13, 1]),
        ([2, 2, 3, 33], [2, 3]),
        ([0, 2, 2, 3], [4, 4]),
        ([1, 3, 10, 1], [7, 33]),
    ];
    let mut cases = Vec::new();
    for (&how, &dtype) in RESAMPLES.iter().flat_map(|how| floats.iter().map(move |dtype| (how, dtype))) {
        for (x, [height, width]) in sizes {
            let op = Op::Resize { how, height: height.into(), width: width.into() };
            cases.push(Case::of(op, &[(dtype, &x)]));
        }
    }
    cases
}

fn interpolations() -> Vec<Case> {
    let sizes: [(&[usize], usize, usize); 8] = [
        (&[7], 0, 17),
        (&[1], 0, 5),
        (&[3, 33, 2], 1, 65),
        (&[2, 17, 3], 1, 7),
        (&[2, 5, 1], 1, 5),
        (&[2, 3, 9], 2, 4),
        (&[64, 1], 0, 3),
        (&[3, 4], 1, 1),
    ];
    let mut cases = Vec::new();
    for (&kernel, (shape, axis, size)) in KERNELS.iter().flat_map(|kernel| sizes.map(|sizes| (kernel, sizes))) {
        for (align_corners, antialias) in [(false, false), (true, false), (false, true)] {
            for scale in [None, Some(size as f64 / shape[axis] as f64 * 1.01)] {
                let how = Interpolation { kernel, align_corners, scale, antialias };
                cases.push(Case::of(Op::Interpolate { axis, size: size.into(), how }, &[(DType::F32, shape)]));
            }
        }
    }
    cases.push(Case::refused("nothing resampled", |case| {
        let x = case.random(DType::F32, &[2, 0]);
        let how = Interpolation { kernel: Kernel::Linear, align_corners: false, scale: None, antialias: false };
        case.push(Op::Interpolate { axis: 1, size: 3.into(), how }, &[x])
    }));
    cases
}

/// A window of so many elements, its step, its padding and its dilation.
fn sliding([kernel, stride, padding, dilation]: [usize; 4], ceil: bool, counted: bool) -> Window {
    Window::Sliding { kernel, stride, padding, dilation, ceil, counted }
}

fn pools() -> Vec<Case> {
    let mut cases = Vec::new();
    for (&fold, (ceil, counted)) in FOLDS
        .iter()
        .flat_map(|fold| [(false, false), (false, true), (true, false), (true, true)].map(|choice| (fold, choice)))
    {
        let windows: [(&[usize], Vec<[usize; 4]>); 6] = [
            (&[2, 7, 3], vec![[3, 2, 1, 1]]),
            (&[1, 17, 2], vec![[2, 2, 0, 1]]),
            (&[1, 5, 6, 3], vec![[2, 2, 0, 1], [3, 1, 1, 1]]),
            (&[2, 9, 8, 1], vec![[3, 2, 1, 2], [2, 3, 1, 1]]),
            (&[1, 3, 4, 5, 2], vec![[2, 1, 0, 1], [3, 2, 1, 1], [2, 2, 1, 2]]),
            (&[0, 4, 4, 3], vec![[2, 2, 0, 1], [2, 2, 0, 1]]),
        ];
        for (shape, sizes) in windows {
            let windows = sizes.into_iter().map(|sizes| sliding(sizes, ceil, counted)).collect();
            cases.push(Case::of(Op::Pool(Pooling { fold, windows, divisor: None }), &[(DType::F32, shape)]));
        }
    }
    let adaptive: [(&[usize], &[usize]); 4] =
        [(&[1, 7, 3], &[3]), (&[2, 5, 6, 2], &[2, 6]), (&[1, 9, 1, 4], &[4, 1]), (&[1, 3, 5, 7, 2], &[1, 2, 3])];
    for (&fold, (shape, counts)) in FOLDS.iter().flat_map(|fold| adaptive.map(|sizes| (fold, sizes))) {
        let windows = counts.iter().map(|&count| Window::Adaptive(count.into())).collect();
        cases.push(Case::of(Op::Pool(Pooling { fold, windows, divisor: None }), &[(DType::F32, shape)]));
    }
    let windows = vec![sliding([2, 2, 0, 1], false, true), sliding([2, 1, 0, 1], false, true)];
    let divided = Pooling { fold: Fold::Average, windows, divisor: Some(3) };
    cases.push(Case::of(Op::Pool(divided), &[(DType::F32, &[1, 4, 5, 3])]));
    cases
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    [resizes(floats), interpolations(), pools()].into_iter().flatten().collect()
}
