//! The pixels that a convolution meets, as rows of a product: where they lie, so that no copy of the input is made.

use std::ops::Range;

use crate::{
    arch::dot::WeightType,
    gemm::{
        operand::Input,
        rows::{Rows, Table},
        weights::WeightShape,
    },
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

    pub(super) fn pads(&self) -> bool {
        self.padding.iter().any(|&zeros| zeros > 0)
    }
}

fn check_inputs(shape: &ConvShape, inputs: &[Input<'_>], dtype: WeightType) {
    let pixels = shape.batch * shape.height * shape.width;
    assert!(inputs.len() == if shape.channels[1] == 0 { 1 } else { 2 }, "{} inputs for {shape:?}", inputs.len());
    for (input, channels) in inputs.iter().zip(shape.channels) {
        assert_eq!(input.weight_type(), dtype, "type of the input");
        assert!(!matches!(input, Input::Rows8(_) | Input::Blocks(_)), "pixels with a scale beside each");
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

/// The pixels that the kernel covers, as rows.
pub(crate) struct Pixels<'a> {
    shape: ConvShape,
    pub(crate) out_size: [usize; 2],
    /// The first pixel of each input.
    first: [*const u8; 2],
    element: usize,
    zeros: &'a [Vec<u32>],
}

// SAFETY: the addresses are those of slices that are borrowed and only read.
unsafe impl Sync for Pixels<'_> {}

impl<'a> Pixels<'a> {
    /// The pixels of some inputs; `zeros` is what taps meet in the padding, rows of the channels for as many images
    /// each.
    ///
    /// # Panics
    /// If the inputs' type is not `dtype`, or a slice has the wrong length.
    pub(crate) fn new(shape: &ConvShape, inputs: &[Input<'a>], dtype: WeightType, zeros: &'a [Vec<u32>]) -> Self {
        check_inputs(shape, inputs, dtype);
        let channels = shape.channels.into_iter().max().unwrap_or(0);
        let wide = zeros.iter().all(|row| row.len() >= channels.div_ceil(dtype.per_word()));
        assert!(wide && zeros.is_empty() != shape.pads(), "zeros of {shape:?}");
        let out_size = shape.out_size();
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

// SAFETY: `new` has checked that the inputs have all pixels, and the padding all channels; what taps meet is one of
// them.
unsafe impl Rows for Pixels<'_> {
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
