//! Convolution as a product whose rows are gathered where they lie: no copy of the input is made.

use crate::{
    arch::dot::{WORD, WeightType},
    cpu::Cpu,
    depthwise::Depthwise,
    gemm::{
        drive::{Gemm, PanelWeights},
        operand::{Epilogue, Input, Output, check_rows},
        weights::WeightShape,
    },
    pixels::{ConvShape, Pixels},
};

#[cfg(test)]
mod coded_suite;
#[cfg(test)]
mod suite;

/// A convolution to compute.
#[derive(Clone, Copy, Debug)]
pub struct ConvProblem<'a> {
    /// The shape.
    pub shape: ConvShape,
    /// One input, or two to be concatenated along the channels; both of one type and, if quantized, of one scale.
    pub inputs: &'a [Input<'a>],
    /// Packed for the tier that computes, with the shape [`ConvShape::weights`].
    pub weights: PanelWeights<'a>,
    /// What happens to the product before it is stored. A row is a pixel.
    pub epilogue: Epilogue<'a>,
    /// Elements from one pixel of the result to the next, at least its channels.
    pub out_stride: usize,
}

/// Computes a convolution.
///
/// The scales of quantized inputs may differ from image to image, and from pixel to pixel only if the kernel has one
/// tap and the stride is 1.
///
/// # Panics
/// If the inputs' type is not that of the weights, if the weights have another shape, or if a slice has the wrong
/// length.
pub fn conv2d(cpu: &Cpu, problem: &ConvProblem<'_>, mut out: Output<'_>) {
    let &ConvProblem { shape, inputs, weights, epilogue, out_stride } = problem;
    let dtype = weights.shape().dtype;
    let expected = WeightShape { glu: weights.shape().glu, ..shape.weights(dtype) };
    assert_eq!(*weights.shape(), expected, "weights of {shape:?}");
    let zeros = zero_rows(&shape, inputs, dtype);
    let source = Pixels::new(&shape, inputs, dtype, &zeros);
    let rows = shape.batch * source.out_size[0] * source.out_size[1];
    check_rows("output", out.len(), rows, weights.shape().columns(), out_stride);
    epilogue.check_shape(shape.outputs, weights.shape().columns(), rows);
    if let PanelWeights::Words(packed) = weights {
        packed.check(cpu);
    }
    if let PanelWeights::Words(weights) = weights
        && weights.shape().is_depthwise()
    {
        let depthwise = Depthwise { cpu, source, weights, epilogue: &epilogue, out: out.target(), out_stride };
        // SAFETY: residual and output have been checked to hold the rows.
        return unsafe { depthwise.run(rows, inputs[0]) };
    }
    let gemm = Gemm {
        cpu,
        weights,
        rows,
        source,
        scales: inputs[0].scales(rows),
        epilogue: &epilogue,
        residual: epilogue.residual.map(|residual| residual.source()),
        columns: None,
        out: out.target(),
        out_stride,
    };
    // SAFETY: pixels have the channels of the weights; residual and output have been checked to hold the rows.
    unsafe { gemm.run() };
}

/// A row of zeros for the padding, or of what stands for zero in each scale; without padding, nothing.
fn zero_rows(shape: &ConvShape, inputs: &[Input<'_>], dtype: WeightType) -> Vec<Vec<u32>> {
    if !shape.pads() {
        return Vec::new();
    }
    let words = shape.channels.map(|channels| channels.div_ceil(dtype.per_word())).into_iter().max().unwrap_or(0);
    match inputs.first() {
        Some(Input::U8 { scales, .. }) => {
            scales.iter().map(|scale| vec![u32::from_ne_bytes([scale.zero as u8; WORD]); words]).collect()
        }
        _ => vec![vec![0; words]],
    }
}
