//! Convolutions, channels last.

use ondine_graph::{Conv2d, Epilogue, Result};

use super::product::Finish;
use crate::{
    index::map_indices,
    number::Real,
    tensor::{Tensor, misfit},
};

/// How much larger the products of a tile of Winograd's algorithm may be than those of a result, which share their
/// rounding: along each axis the product of a pixel with a tap that a result does not hold takes part once whole and
/// twice by half.
const SPREAD: f64 = 4.0;

/// The sizes of a convolution.
struct Sizes<'a> {
    conv: Conv2d,
    height: usize,
    width: usize,
    channels: usize,
    /// `[out, in / groups, height, width]`
    weight: &'a [usize],
}

impl Sizes<'_> {
    /// The channels of a group at a place of the padded, doubled input; none in the padding.
    fn pixel<'x, R>(&self, x: &'x [R], image: usize, [y, x_]: [usize; 2], group: usize) -> Option<&'x [R]> {
        let double = if self.conv.upsample { 2 } else { 1 };
        let y = y.checked_sub(self.conv.padding[0]).filter(|&y| y < double * self.height)? / double;
        let x_ = x_.checked_sub(self.conv.padding[2]).filter(|&x| x < double * self.width)? / double;
        let start = ((image * self.height + y) * self.width + x_) * self.channels + group * self.weight[1];
        Some(&x[start..][..self.weight[1]])
    }

    /// True if a device may compute tiles of results at once.
    fn has_tiles(&self) -> bool {
        let Conv2d { stride, dilation, groups, .. } = self.conv;
        self.weight[2..] == [3, 3] && stride == [1; 2] && dilation == [1; 2] && groups == 1
    }
}

pub(super) fn conv2d<R: Real>(
    conv: Conv2d,
    epilogue: Epilogue,
    inputs: &[&Tensor<R>],
    shape: &[usize],
) -> Result<Tensor<R>> {
    let [x, weight, ..] = inputs else { return Err(misfit("a convolution takes an input and a weight".into())) };
    let (&[_, height, width, channels], &[outputs, each, tall, wide]) = (x.shape(), weight.shape()) else {
        return Err(misfit(format!("a convolution of rank {}", x.shape().len())));
    };
    let sizes = Sizes { conv, height, width, channels, weight: weight.shape() };
    let (numbers, own) = (x.reals()?, weight.reals()?);
    // The channels of each tap in a row, as those of a pixel are.
    let taps = map_indices(&[outputs, tall, wide, each], |index| {
        let &[output, tap_y, tap_x, channel] = index else { return R::exact(0.0) };
        own[((output * each + channel) * tall + tap_y) * wide + tap_x]
    });
    let at = |index: &[usize]| {
        let &[image, y, x, output] = index else { return R::exact(0.0) };
        let group = output / (outputs / conv.groups).max(1);
        R::sum((0..tall * wide).filter_map(|tap| {
            let place = [
                y * conv.stride[0] + tap / wide * conv.dilation[0],
                x * conv.stride[1] + tap % wide * conv.dilation[1],
            ];
            let pixel = sizes.pixel(numbers, image, place, group)?;
            Some(R::dot(pixel, &taps[(output * tall * wide + tap) * each..][..each]))
        }))
    };
    let mut sums = map_indices(shape, at);
    if sizes.has_tiles() {
        let most = sums.iter().fold(0.0, |most: f64, sum| most.max(sum.error()));
        sums.iter_mut().for_each(|sum| *sum = sum.off(SPREAD * most));
    }
    Tensor::real(x.dtype(), shape, Finish::new(epilogue, inputs)?.finish(sums, outputs))
}
