//! Convolution as a product whose rows are gathered where they lie: no copy of the input is made.

use std::ops::Range;

use crate::{
    arch::Isa,
    gemm::{
        Epilogue, Input, Output, check_rows,
        drive::{Product, Rows, Table},
        epilogue::{EpilogueCall, Target},
        micro::{MAX_WIDTH, WORD},
        weights::{PackedWeights, WeightShape, WeightType},
    },
    math::bf16_value,
    quant::RowScale,
    rowwise::RowKernel,
    table::Kernels,
    threads::Pool,
};

/// The shape of a convolution over `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Number of images.
    pub batch: usize,
    /// Height of the input, before it is doubled.
    pub height: usize,
    /// Width of the input, before it is doubled.
    pub width: usize,
    /// Channels of the input, or of two inputs that are concatenated; the second may be 0.
    pub channels: [usize; 2],
    /// Outputs of the weights.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step along height and width.
    pub stride: [usize; 2],
    /// Zeros around the input: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Distance between the taps of the kernel.
    pub dilation: [usize; 2],
    /// Independent groups of channels.
    pub groups: usize,
    /// True if the input is first doubled in height and width by repetition.
    pub upsample: bool,
}

impl ConvShape {
    /// Height and width of the result.
    ///
    /// # Panics
    /// If the kernel is larger than the padded input or a stride is 0.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        let [top, bottom, left, right] = self.padding;
        let double = if self.upsample { 2 } else { 1 };
        [(self.height, top + bottom, 0), (self.width, left + right, 1)].map(|(size, padding, axis)| {
            let span = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let room = (double * size + padding).checked_sub(span);
            room.expect("the kernel is larger than the padded input") / self.stride[axis] + 1
        })
    }

    /// The shape of the weights, `[outputs, channels / groups, kernel height * kernel width]`.
    #[must_use]
    pub fn weights(&self, dtype: WeightType) -> WeightShape {
        let &Self { channels, outputs, kernel: [height, width], groups, .. } = self;
        WeightShape { dtype, outputs, channels, taps: height * width, groups, glu: false }
    }

    fn pads(&self) -> bool {
        self.padding.iter().any(|&zeros| zeros > 0)
    }
}

/// A convolution to compute.
#[derive(Clone, Copy, Debug)]
pub struct ConvProblem<'a> {
    /// The shape.
    pub shape: ConvShape,
    /// One input, or two to be concatenated along the channels; both of one type and, if quantized, of one scale.
    pub inputs: &'a [Input<'a>],
    /// Packed for the tier that computes, with the shape [`ConvShape::weights`].
    pub weights: PackedWeights<'a>,
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
pub fn conv2d(pool: &Pool, kernels: &Kernels, problem: &ConvProblem<'_>, mut out: Output<'_>) {
    let &ConvProblem { shape, inputs, weights, epilogue, out_stride } = problem;
    let dtype = weights.shape().dtype;
    let expected = WeightShape { glu: weights.shape().glu, ..shape.weights(dtype) };
    assert_eq!(*weights.shape(), expected, "weights of {shape:?}");
    check_inputs(&shape, inputs, dtype);
    let out_size = shape.out_size();
    let rows = shape.batch * out_size[0] * out_size[1];
    check_rows("output", out.len(), rows, weights.shape().columns(), out_stride);
    weights.check(kernels);
    epilogue.check(&weights, rows);
    let zeros = zero_rows(&shape, &inputs[0], dtype);
    let source = Pixels::new(&shape, inputs, dtype, out_size, &zeros);
    if weights.shape().is_depthwise() {
        let depthwise = Depthwise { kernels, source, weights, epilogue: &epilogue, out: out.target(), out_stride };
        return depthwise.run(pool, rows, inputs[0]);
    }
    Product {
        kernels: &kernels.gemm,
        weights,
        rows,
        source,
        scales: inputs[0].scales(rows),
        epilogue: &epilogue,
        residual: epilogue.residual.map(|residual| residual.source()),
        out: out.target(),
        out_stride,
    }
    .run(pool);
}

fn check_inputs(shape: &ConvShape, inputs: &[Input<'_>], dtype: WeightType) {
    let pixels = shape.batch * shape.height * shape.width;
    assert!(inputs.len() == if shape.channels[1] == 0 { 1 } else { 2 }, "{} inputs for {shape:?}", inputs.len());
    for (input, channels) in inputs.iter().zip(shape.channels) {
        assert_eq!(input.weight_type(), dtype, "type of the input");
        assert!(!matches!(input, Input::Rows8(_)), "pixels with a scale beside each");
        assert_eq!(input.len(), pixels * channels, "input of {shape:?}");
    }
    if let &[Input::U8 { scales: first, .. }, Input::U8 { scales: second, .. }] = inputs {
        assert_eq!(first, second, "scales of the two inputs differ");
    }
    if let &Input::U8 { scales, .. } = &inputs[0] {
        let same_place = shape.kernel == [1; 2] && shape.stride == [1; 2] && !shape.pads() && !shape.upsample;
        let by_image = !scales.is_empty() && shape.batch.is_multiple_of(scales.len());
        assert!(same_place || by_image, "{} scales for {} images", scales.len(), shape.batch);
    }
}

/// A row of zeros for the padding, or of what stands for zero in each scale; without padding, nothing.
fn zero_rows(shape: &ConvShape, input: &Input<'_>, dtype: WeightType) -> Vec<Vec<u32>> {
    if !shape.pads() {
        return Vec::new();
    }
    let words = shape.channels.map(|channels| channels.div_ceil(dtype.per_word())).into_iter().max().unwrap_or(0);
    match input {
        Input::U8 { scales, .. } => {
            scales.iter().map(|scale| vec![u32::from_ne_bytes([scale.zero as u8; WORD]); words]).collect()
        }
        Input::F32(_) | Input::Bf16(_) | Input::Rows8(_) => vec![vec![0; words]],
    }
}

/// The pixels that the kernel covers, as rows.
struct Pixels<'a> {
    shape: ConvShape,
    out_size: [usize; 2],
    /// The first pixel of each input.
    first: [*const u8; 2],
    element: usize,
    zeros: &'a [Vec<u32>],
}

// SAFETY: the addresses are those of slices that the caller of the convolution holds.
unsafe impl Sync for Pixels<'_> {}

impl<'a> Pixels<'a> {
    fn new(
        shape: &ConvShape,
        inputs: &[Input<'_>],
        dtype: WeightType,
        out_size: [usize; 2],
        zeros: &'a [Vec<u32>],
    ) -> Self {
        let first = [inputs[0].pointer(), inputs.last().map_or(std::ptr::null(), Input::pointer)];
        Self { shape: *shape, out_size, first, element: dtype.activation_bytes(), zeros }
    }

    /// The zeros for an image.
    fn zeros(&self, image: usize) -> *const u8 {
        let per_scale = (self.shape.batch / self.zeros.len().max(1)).max(1);
        self.zeros.get(image / per_scale).map_or(std::ptr::null(), |row| row.as_ptr().cast())
    }
}

impl Rows for Pixels<'_> {
    fn locate(&self, group: usize, input: usize, rows: Range<usize>, table: &mut Table<'_>) {
        let &ConvShape { height, width, kernel, stride, padding, dilation, groups, upsample, .. } = &self.shape;
        let channels = self.shape.channels[input];
        let double = usize::from(upsample);
        let (pixel, shift) = (channels * self.element, group * (channels / groups) * self.element);
        // Coordinates left of or above the input wrap around and fail the comparison.
        let inside = |at: usize, tap: usize, axis: usize, size: usize| {
            let place = (at * stride[axis] + tap * dilation[axis]).wrapping_sub(padding[2 * axis]);
            (place < size << double).then_some(place >> double)
        };
        let [out_height, out_width] = self.out_size;
        let (mut x, rest) = (rows.start % out_width, rows.start / out_width);
        let (mut y, mut image) = (rest % out_height, rest / out_height);
        for row in 0..rows.len() {
            let zeros = self.zeros(image);
            for tap_y in 0..kernel[0] {
                let line = inside(y, tap_y, 0, height).map(|line| (image * height + line) * width);
                for tap_x in 0..kernel[1] {
                    let place = line.zip(inside(x, tap_x, 1, width));
                    let pointer = place
                        .map_or(zeros, |(line, place)| self.first[input].wrapping_add((line + place) * pixel + shift));
                    table.set(row, tap_y * kernel[1] + tap_x, pointer);
                }
            }
            x += 1;
            if x == out_width {
                (x, y) = (0, y + 1);
            }
            if y == out_height {
                (y, image) = (0, image + 1);
            }
        }
    }
}

/// Pixels that one call of the depthwise kernel computes.
const DEPTHWISE_ROWS: usize = 8;

/// A convolution in which each output sees one channel.
struct Depthwise<'a> {
    kernels: &'a Kernels,
    source: Pixels<'a>,
    weights: PackedWeights<'a>,
    epilogue: &'a Epilogue<'a>,
    out: Target,
    out_stride: usize,
}

// SAFETY: the addresses are those of slices that the caller of the convolution holds, and no two tasks write the same
// elements.
unsafe impl Sync for Depthwise<'_> {}

impl Depthwise<'_> {
    fn run(&self, pool: &Pool, rows: usize, input: Input<'_>) {
        let taps = self.weights.shape().taps;
        let scales = input.scales(rows);
        let rows_per_task = self.source.out_size[1].next_multiple_of(DEPTHWISE_ROWS);
        pool.run(rows.div_ceil(rows_per_task), &|task| {
            let mut pointers = vec![std::ptr::null(); taps * DEPTHWISE_ROWS];
            let end = rows.min((task + 1) * rows_per_task);
            for first in (task * rows_per_task..end).step_by(DEPTHWISE_ROWS) {
                let count = DEPTHWISE_ROWS.min(end - first);
                let mut table = Table::new(&mut pointers, taps, DEPTHWISE_ROWS);
                self.source.locate(0, 0, first..first + count, &mut table);
                let mut scale = [RowScale { scale: 1.0, zero: 0 }; DEPTHWISE_ROWS];
                if let Some(scales) = scales {
                    (0..count).for_each(|i| scale[i] = scales.of(first + i));
                }
                self.tile(&pointers, &scale, first, count, input.weight_type());
            }
        });
    }

    fn tile(&self, pointers: &[*const u8], scales: &[RowScale; 8], first: usize, count: usize, dtype: WeightType) {
        let shape = self.weights.shape();
        for column in (0..shape.outputs).step_by(MAX_WIDTH) {
            let columns = MAX_WIDTH.min(shape.outputs - column);
            let mut sums = [0; DEPTHWISE_ROWS * MAX_WIDTH];
            (self.kernels.gemm.depthwise)(DepthwiseTile {
                pointers,
                count,
                dtype,
                scales,
                weights: &self.weights.depthwise()[column..],
                outputs: shape.outputs,
                multiplier: shape.outputs / shape.groups,
                column,
                columns,
                sums: &mut sums,
            });
            let mut bias = [0.0; MAX_WIDTH];
            if let Some(from) = self.epilogue.bias {
                bias[..columns].copy_from_slice(&from[column..column + columns]);
            }
            let at = |stride: usize| first * stride + column;
            let stride = self.epilogue.residual_stride;
            // SAFETY: the caller of the convolution checked the lengths of residual and output.
            let (residual, out) = unsafe {
                let residual = self.epilogue.residual.map(|from| (from.source().add(at(stride)), stride));
                (residual, (self.out.add(at(self.out_stride)), self.out_stride))
            };
            (self.kernels.gemm.epilogue)(&EpilogueCall {
                sums: &sums,
                width: MAX_WIDTH,
                rows: count,
                columns,
                results: columns,
                dequantize: None,
                bias: &bias,
                activation: self.epilogue.activation,
                gate: 0,
                residual,
                out,
            });
        }
    }
}

/// A few pixels times up to [`MAX_WIDTH`] outputs of a depthwise convolution.
pub(crate) struct DepthwiseTile<'a> {
    /// Of each tap, [`DEPTHWISE_ROWS`] pixels.
    pointers: &'a [*const u8],
    count: usize,
    dtype: WeightType,
    scales: &'a [RowScale; DEPTHWISE_ROWS],
    /// `[taps, outputs]`, from the first output on.
    weights: &'a [f32],
    outputs: usize,
    /// Outputs per channel.
    multiplier: usize,
    /// The first output.
    column: usize,
    columns: usize,
    /// Row `i` at `i * MAX_WIDTH`, f32.
    sums: &'a mut [u32; DEPTHWISE_ROWS * MAX_WIDTH],
}

impl RowKernel for DepthwiseTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut values = [0.0; MAX_WIDTH];
        for row in 0..self.count {
            let mut sums = [0.0; MAX_WIDTH];
            for (tap, pointers) in self.pointers.chunks_exact(DEPTHWISE_ROWS).enumerate() {
                self.read(pointers[row], self.scales[row], &mut values);
                let weights = &self.weights[tap * self.outputs..][..self.columns];
                for ((sum, &value), &weight) in sums.iter_mut().zip(&values).zip(weights) {
                    *sum = I::mul_add(value, weight, *sum);
                }
            }
            for (word, sum) in self.sums[row * MAX_WIDTH..][..MAX_WIDTH].iter_mut().zip(sums) {
                *word = sum.to_bits();
            }
        }
    }
}

impl DepthwiseTile<'_> {
    /// The channels that the outputs see, of the pixel at `pointer`.
    #[inline(always)]
    fn read(&self, pointer: *const u8, RowScale { scale, zero }: RowScale, values: &mut [f32; MAX_WIDTH]) {
        match self.dtype {
            WeightType::F32 => self.gather(pointer.cast::<f32>(), values, |value| value),
            WeightType::Bf16 => self.gather(pointer.cast::<u16>(), values, bf16_value),
            WeightType::S8 => self.gather(pointer, values, |value| scale * (i32::from(value) - zero) as f32),
        }
    }

    #[inline(always)]
    fn gather<T: Copy>(&self, pixel: *const T, values: &mut [f32; MAX_WIDTH], number: impl Fn(T) -> f32) {
        for (index, value) in values.iter_mut().enumerate().take(self.columns) {
            let output = self.column + index;
            let channel = if self.multiplier == 1 { output } else { output / self.multiplier };
            // SAFETY: `channel` is below the channels of the pixel, or of the row of zeros.
            *value = number(unsafe { pixel.add(channel).read_unaligned() });
        }
    }
}
