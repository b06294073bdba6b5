//! Pictures to begin with: their latents, where they are drawn anew, and what denoisers take beside the latents.

use ondine_graph::{NDArray, Result, fail};
use ondine_models::LatentSpace;
use ondine_runtime::{Function, State};

use super::{beside::Beside, parameters::Parameters, part::Terms};
use crate::{
    noise::NoiseSource,
    request::{Init, Request},
};

/// What a drawing begins with besides noise.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// Latents of the pictures to begin with, `[count, channels, height, width]`, scaled for diffusion.
    pub(super) original: Option<Vec<f32>>,
    /// The share of each latent that is drawn anew, `[height, width]`.
    pub(super) mask: Option<Vec<f32>>,
    /// For each picture what the denoiser takes beside its latents, `[beside, height, width]`.
    pub(super) beside: Option<Vec<Vec<f32>>>,
    /// The latents of pictures that the denoiser looks at, `[1, channels, height, width]` each.
    pub(super) references: Vec<NDArray>,
    /// The noise of the seed, if what is drawn before it needed the generators.
    pub(super) noise: Vec<f32>,
}

/// Encodes pictures, in the order of draws that the pipelines of diffusers have: the posterior of the pictures, the
/// noise, the posterior of the pictures without what is drawn anew.
pub(super) struct Encoder<'a> {
    pub(super) function: Function,
    pub(super) space: &'a LatentSpace,
    pub(super) terms: &'a Terms<'a>,
    pub(super) count: usize,
}

impl Encoder<'_> {
    /// The latents of each of `pictures` `[n, 3, height, width]` in -1..1, repeated to the number of pictures to draw:
    /// drawn from the posterior, or its mean if there is no noise; shifted and scaled, or as they are.
    fn latents(
        &self,
        pictures: &[Vec<f32>],
        size: [usize; 2],
        noise: Option<&mut dyn NoiseSource>,
        scale: bool,
    ) -> Result<Vec<f32>> {
        let channels = self.space.channels;
        let mut state = State::default();
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        let mut plane = 0;
        for picture in pictures {
            let sample = NDArray::new(&[1, self.space.colors, size[0], size[1]], picture)?;
            let mut outputs = self.function.run_until(&[("sample", &sample)], &mut state, self.terms.wish)?;
            // An autoencoder without a posterior yields the latents themselves.
            if let Ok(latents) = outputs.take("latents") {
                plane = latents.len() / channels.max(1);
                means.push(latents.view::<f32>()?.to_vec());
                continue;
            }
            let moments = outputs.take("moments")?;
            let (mean, log) = moments.view::<f32>()?.split_at(moments.len() / 2);
            plane = mean.len() / channels.max(1);
            means.push(mean.to_vec());
            deviations.push(log.iter().map(|log| (0.5 * log.clamp(-30.0, 20.0)).exp()).collect::<Vec<f32>>());
        }
        let each = means.first().map_or(0, Vec::len);
        let mut latents: Vec<f32> = (0..self.count).flat_map(|i| means[i % means.len()].iter().copied()).collect();
        if let (Some(noise), false) = (noise, deviations.is_empty()) {
            let mut draw = vec![0.0; latents.len()];
            noise.normal(&mut draw);
            for (i, (latents, draw)) in latents.chunks_mut(each.max(1)).zip(draw.chunks(each.max(1))).enumerate() {
                let deviation = &deviations[i % deviations.len()];
                for ((x, n), deviation) in latents.iter_mut().zip(draw).zip(deviation) {
                    *x += deviation * n;
                }
            }
        }
        if scale {
            for (i, plane) in latents.chunks_mut(plane.max(1)).enumerate() {
                let (scaling, shift) = (self.space.scaling[i % channels], self.space.shift[i % channels]);
                plane.iter_mut().for_each(|x| *x = (*x - shift) * scaling);
            }
        }
        Ok(latents)
    }
}

impl Encoder<'_> {
    /// The latents of a picture to look at, `[1, 3, height, width]` in 0..1: the mean of the posterior.
    fn reference(&self, picture: &NDArray) -> Result<NDArray> {
        let [_, _, height, width] = *picture.shape() else { fail!(Shape, "a picture without height and width") };
        let pixels: Vec<f32> = picture.view::<f32>()?.iter().map(|x| 2.0 * x - 1.0).collect();
        let one = Encoder { function: self.function.clone(), count: 1, ..*self };
        let latents = one.latents(&[pixels], [height, width], None, true)?;
        let [height, width] = [height, width].map(|side| side / self.space.factor);
        NDArray::new(&[1, self.space.channels, height, width], &latents)
    }
}

/// The picture to begin with of a request, or none for a denoiser that needs one and can be given a gray one.
fn pictures(init: Option<&Init>, size: [usize; 2]) -> Result<Vec<Vec<f32>>> {
    let Some(init) = init else { return Ok(vec![vec![0.0; 3 * size[0] * size[1]]]) };
    let each = 3 * size[0] * size[1];
    Ok(init.image.view::<f32>()?.chunks(each).map(|picture| picture.iter().map(|x| 2.0 * x - 1.0).collect()).collect())
}

/// Makes what a drawing begins with; the generators are drawn from as in diffusers.
pub(super) fn start(
    encoder: &Encoder<'_>,
    request: &Request,
    parameters: &Parameters,
    noise: &mut dyn NoiseSource,
) -> Result<Start> {
    let size = [parameters.size.height, parameters.size.width];
    let [channels, height, width] = parameters.latents;
    let shape = [height, width];
    let all = request.count * channels * height * width;
    let init = request.init.as_ref();
    let pixels = pictures(init, size)?;
    let mask = init.and_then(|init| init.mask.as_ref()).map(|mask| mask.view::<f32>()).transpose()?;
    let mut start = Start::default();
    let beside = parameters.beside;
    // An inpainting denoiser at full strength begins with noise alone, and no picture is drawn from.
    let needed = match beside {
        Beside::Nothing => init.is_some(),
        Beside::MaskAndPicture => init.is_some() && parameters.first > 0,
        Beside::PictureAndPixels(_) => init.is_some(),
        Beside::Picture => false,
    };
    if needed {
        start.original = Some(encoder.latents(&pixels, size, Some(&mut *noise), true)?);
    }
    for picture in &request.references {
        start.references.push(encoder.reference(picture)?);
    }
    start.noise = vec![0.0; all];
    noise.normal(&mut start.noise);
    match beside {
        Beside::Nothing => {
            if mask.is_some() {
                // Pipelines for inpainting encode the rest of the picture, too, if only for other denoisers.
                noise.normal(&mut vec![0.0; all]);
            }
            start.mask = mask.map(|mask| at_latents(mask, size, shape));
        }
        Beside::MaskAndPicture | Beside::PictureAndPixels(_) => {
            let whole = vec![1.0; size[0] * size[1]];
            let mask: Vec<f32> = mask.unwrap_or(&whole).iter().map(|&x| f32::from(u8::from(x >= 0.5))).collect();
            let without = |picture: &Vec<f32>| -> Vec<f32> {
                picture.iter().enumerate().map(|(i, x)| if mask[i % mask.len()] < 0.5 { *x } else { 0.0 }).collect()
            };
            let rest: Vec<_> = pixels.iter().map(without).collect();
            let latents = encoder.latents(&rest, size, Some(noise), true)?;
            let (before, after) = match beside {
                Beside::PictureAndPixels(factor) => (vec![], pixels_by_latent(&mask, factor, shape)),
                _ => (at_latents(&mask, size, shape), vec![]),
            };
            let all = latents.chunks(channels * height * width);
            start.beside = Some(all.map(|latents| [before.as_slice(), latents, after.as_slice()].concat()).collect());
        }
        Beside::Picture => {
            let latents = encoder.latents(&pixels, size, None, false)?;
            start.beside = Some(latents.chunks(channels * height * width).map(<[f32]>::to_vec).collect());
        }
    }
    Ok(start)
}

/// A mask at the size of the latents: of one with nothing between 0 and 1 the first pixel of each block, as diffusers
/// takes it; of a soft one the mean.
fn at_latents(mask: &[f32], [rows, columns]: [usize; 2], [height, width]: [usize; 2]) -> Vec<f32> {
    let (tall, wide) = (rows / height.max(1), columns / width.max(1));
    let soft = mask.iter().any(|&x| x > 0.0 && x < 1.0);
    let block = |y: usize, x: usize| {
        let pixel = |i: usize, j: usize| mask[(y * tall + i) * columns + x * wide + j];
        if !soft {
            return pixel(0, 0);
        }
        let sum: f32 = (0..tall).flat_map(|i| (0..wide).map(move |j| (i, j))).map(|(i, j)| pixel(i, j)).sum();
        sum / (tall * wide) as f32
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| block(y, x)).collect()
}

/// The pixels of a mask by latent: `[factor * factor, height, width]`, those of a latent row by row.
fn pixels_by_latent(mask: &[f32], factor: usize, [height, width]: [usize; 2]) -> Vec<f32> {
    let columns = width * factor;
    let places = (0..factor * factor).map(|place| (place / factor, place % factor));
    let plane = |(i, j): (usize, usize)| {
        let pixel = move |at: usize| (at / width * factor + i) * columns + at % width * factor + j;
        (0..height * width).map(move |at| mask[pixel(at)])
    };
    places.flat_map(plane).collect()
}

/// Puts what is not drawn anew back into the pictures, `[count, 3, height, width]` in 0..1: pixels that the mask leaves
/// out have the value that they had, to the bit.
pub(super) fn put_back(images: &mut [f32], init: &Init) -> Result<()> {
    let Some(mask) = &init.mask else { return Ok(()) };
    let (mask, original) = (mask.view::<f32>()?, init.image.view::<f32>()?);
    let each = 3 * mask.len();
    if mask.is_empty() || original.len() < each {
        fail!(Shape, "a mask of another size than the picture");
    }
    for (i, image) in images.chunks_mut(each).enumerate() {
        let at = (i % (original.len() / each)) * each;
        for (j, x) in image.iter_mut().enumerate() {
            let share = mask[j % mask.len()];
            if share <= 0.0 {
                *x = original[at + j];
            } else if share < 1.0 {
                *x = share * *x + (1.0 - share) * original[at + j];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_masks_are_sampled_and_soft_ones_averaged() {
        let mut mask = vec![0.0; 16];
        mask[0] = 1.0;
        mask[11] = 1.0;
        assert_eq!(at_latents(&mask, [4, 4], [2, 2]), [1.0, 0.0, 0.0, 0.0]);
        mask[1] = 0.5;
        assert_eq!(at_latents(&mask, [4, 4], [2, 2]), [0.375, 0.0, 0.0, 0.25]);
    }

    #[test]
    fn pixels_of_a_latent_are_channels() {
        let mask: Vec<f32> = (0..24_u8).map(f32::from).collect();
        let planes = pixels_by_latent(&mask, 2, [2, 3]);
        assert_eq!(planes[..6], [0.0, 2.0, 4.0, 12.0, 14.0, 16.0]);
        assert_eq!(planes[6..12], [1.0, 3.0, 5.0, 13.0, 15.0, 17.0]);
        assert_eq!(planes[18..], [7.0, 9.0, 11.0, 19.0, 21.0, 23.0]);
    }

    #[test]
    fn pixels_outside_the_mask_come_back() {
        let image = NDArray::new(&[1, 3, 1, 2], &[0.1_f32, 0.2, 0.3, 0.4, 0.5, 0.6]).unwrap();
        let init = Init { image, mask: Some(NDArray::new(&[1, 1, 1, 2], &[0.0_f32, 0.5]).unwrap()) };
        let mut drawn = vec![1.0; 12];
        put_back(&mut drawn, &init).unwrap();
        assert_eq!(drawn[..2], [0.1, 0.6]);
        assert_eq!(drawn[6..8], [0.1, 0.6]);
    }
}
