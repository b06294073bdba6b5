//! Cases of convolutions.

use ondine_graph::{Activation, Conv2d, DType, Epilogue, Op};

use super::{case::Case, elementwise::ACTIVATIONS};

/// A convolution of `x` `[batch, height, width, channels]` with so many outputs and such a kernel.
fn convolution(conv: Conv2d, epilogue: Epilogue, x: [usize; 4], outputs: usize, kernel: [usize; 2]) -> Case {
    Case::new(format!("{conv:?} {epilogue:?} of {x:?} to {outputs}, kernel {kernel:?}"), |case| {
        let weight = [outputs, x[3] / conv.groups, kernel[0], kernel[1]];
        let mut inputs = vec![case.random(DType::F32, &x), case.weight(&weight)?];
        if epilogue.bias {
            inputs.push(case.weight(&[outputs])?);
        }
        if epilogue.residual {
            let along = |axis: usize| {
                let size = if conv.upsample { 2 } else { 1 } * x[axis + 1];
                let padded = size + conv.padding[2 * axis] + conv.padding[2 * axis + 1];
                (padded - (kernel[axis] - 1) * conv.dilation[axis] - 1) / conv.stride[axis] + 1
            };
            inputs.push(case.random(DType::F32, &[x[0], along(0), along(1), outputs]));
        }
        case.push(Op::Conv2d(conv, epilogue), &inputs)
    })
}

pub(super) fn cases() -> Vec<Case> {
    let plain = Conv2d::default();
    let (none, full) =
        (Epilogue::default(), Epilogue { bias: true, activation: Activation::Silu, gate: false, residual: true });
    let sizes = [
        (plain, [1, 1, 1, 1], 1, [1, 1]),
        (plain, [2, 5, 7, 3], 2, [1, 1]),
        (Conv2d::same(3), [1, 7, 5, 3], 17, [3, 3]),
        (Conv2d::same(3), [2, 9, 8, 33], 5, [3, 3]),
        // Large enough for tiles.
        (Conv2d::same(3), [1, 17, 18, 40], 33, [3, 3]),
        (Conv2d { upsample: true, ..Conv2d::same(3) }, [1, 9, 9, 34], 17, [3, 3]),
        (Conv2d { upsample: true, ..Conv2d::same(3) }, [2, 3, 2, 5], 7, [3, 3]),
        (Conv2d { stride: [2, 2], ..Conv2d::same(3) }, [1, 9, 7, 4], 6, [3, 3]),
        (Conv2d { stride: [2, 1], padding: [0, 1, 2, 0], ..plain }, [2, 6, 5, 3], 4, [2, 3]),
        (Conv2d { dilation: [2, 3], padding: [2, 2, 3, 3], ..plain }, [1, 7, 9, 5], 3, [3, 3]),
        (Conv2d { groups: 2, ..Conv2d::same(3) }, [1, 5, 5, 8], 6, [3, 3]),
        (Conv2d { groups: 17, ..Conv2d::same(3) }, [2, 5, 6, 17], 17, [3, 3]),
        (Conv2d { groups: 5, stride: [2, 3], ..Conv2d::same(5) }, [1, 7, 11, 5], 10, [5, 5]),
        (Conv2d { padding: [0, 0, 3, 3], ..plain }, [1, 3, 9, 2], 65, [1, 7]),
        (Conv2d { padding: [9; 4], ..plain }, [1, 2, 2, 3], 2, [2, 2]),
        (Conv2d { stride: [4, 4], ..plain }, [1, 8, 8, 3], 16, [4, 4]),
        (Conv2d::same(3), [0, 4, 4, 3], 2, [3, 3]),
    ];
    let mut cases = Vec::new();
    for (conv, x, outputs, kernel) in sizes {
        cases.extend([none, full].map(|epilogue| convolution(conv, epilogue, x, outputs, kernel)));
    }
    for &activation in ACTIVATIONS {
        let epilogue = Epilogue { bias: true, activation, ..none };
        cases.push(convolution(Conv2d::same(3), epilogue, [1, 4, 5, 6], 7, [3, 3]));
    }
    cases
}
