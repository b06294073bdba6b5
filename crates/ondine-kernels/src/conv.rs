//! Convolution as a product whose rows are gathered where they lie: no copy of the input is made.

use std::ops::Range;

use crate::{
    depthwise::Depthwise,
    gemm::{
        Epilogue, Input, Output, check_rows,
        drive::{Product, Rows, Table},
        micro::WORD,
        weights::{PackedWeights, WeightShape, WeightType},
    },
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
    /// Height and width of the result; 0 where the kernel is larger than the padded input.
    ///
    /// # Panics
    /// If a stride is 0.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        let [top, bottom, left, right] = self.padding;
        let double = if self.upsample { 2 } else { 1 };
        [(self.height, top + bottom, 0), (self.width, left + right, 1)].map(|(size, padding, axis)| {
            let span = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = size.saturating_mul(double).saturating_add(padding);
            padded.checked_sub(span).map_or(0, |room| room / self.stride[axis] + 1)
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
pub(crate) struct Pixels<'a> {
    shape: ConvShape,
    pub(crate) out_size: [usize; 2],
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

    /// The pixels of a row of the result for which all taps in a line of the kernel meet the input, at a constant
    /// distance from one pixel to the next.
    pub(crate) fn inner(&self) -> Range<usize> {
        let &ConvShape { width, kernel, stride, padding, dilation, upsample, .. } = &self.shape;
        let span = (kernel[1].max(1) - 1) * dilation[1];
        let room = (width + padding[2]).saturating_sub(span);
        let end = if upsample { 0 } else { room.div_ceil(stride[1]).min(self.out_size[1]) };
        padding[2].div_ceil(stride[1]).min(end)..end
    }

    /// Bytes from what a tap meets for one of [`Pixels::inner`] to the next.
    pub(crate) fn step(&self) -> usize {
        self.shape.stride[1] * self.shape.channels[0] * self.element
    }

    /// Bytes of one channel that the kernel covers for some pixels of a line of the result.
    pub(crate) fn bytes_under(&self, pixels: usize) -> usize {
        let ConvShape { kernel, stride, dilation, .. } = self.shape;
        kernel[0].max(1) * ((pixels - 1) * stride[1] + (kernel[1].max(1) - 1) * dilation[1] + 1) * self.element
    }

    /// True if a tap meets the input at some of the places along an axis.
    fn meets_along(&self, axis: usize, mut places: Range<usize>, tap: usize) -> bool {
        let ConvShape { height, width, stride, padding, dilation, upsample, .. } = self.shape;
        let size = [height, width][axis] << usize::from(upsample);
        places.any(|at| (at * stride[axis] + tap * dilation[axis]).wrapping_sub(padding[2 * axis]) < size)
    }

    /// What taps of a pixel of the result meet in the padding.
    pub(crate) fn zeros_of(&self, pixel: usize) -> *const u8 {
        self.zeros(pixel / (self.out_size[0] * self.out_size[1]).max(1))
    }

    /// The zeros for an image.
    fn zeros(&self, image: usize) -> *const u8 {
        let per_scale = (self.shape.batch / self.zeros.len().max(1)).max(1);
        self.zeros.get(image / per_scale).map_or(std::ptr::null(), |row| row.as_ptr().cast())
    }
}

impl Rows for Pixels<'_> {
    fn meets(&self, rows: &Range<usize>, tap: usize) -> bool {
        let ConvShape { kernel, .. } = self.shape;
        let [height, width] = self.out_size;
        let (first, last) = (rows.start / width, (rows.end - 1) / width);
        // The lines of one image, or all.
        let lines = if first / height == last / height { first % height..last % height + 1 } else { 0..height };
        self.meets_along(0, lines, tap / kernel[1]) && self.meets_along(1, 0..width, tap % kernel[1])
    }

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
        let (inner, step) = (self.inner(), stride[1] * pixel);
        let mut row = 0;
        while row < rows.len() {
            let zeros = self.zeros(image);
            // Of a tile in the middle of a line, all rows meet the input a constant distance apart.
            let whole = table.tile(row).filter(|tile| inner.contains(&x) && x + tile <= inner.end);
            let whole = whole.filter(|tile| row + tile <= rows.len());
            let mut table = table.row(row);
            for tap_y in 0..kernel[0] {
                let line = inside(y, tap_y, 0, height).map(|line| (image * height + line) * width);
                for tap_x in 0..kernel[1] {
                    let place = line.zip(inside(x, tap_x, 1, width));
                    let pointer = place
                        .map_or(zeros, |(line, place)| self.first[input].wrapping_add((line + place) * pixel + shift));
                    let tap = tap_y * kernel[1] + tap_x;
                    if whole.is_some() {
                        table.fill(tap, pointer, if line.is_some() { step } else { 0 });
                    } else {
                        table.set(tap, pointer);
                    }
                }
            }
            row += whole.unwrap_or(1);
            x += whole.unwrap_or(1);
            if x == out_width {
                (x, y) = (0, y + 1);
            }
            if y == out_height {
                (y, image) = (0, image + 1);
            }
        }
    }
}
