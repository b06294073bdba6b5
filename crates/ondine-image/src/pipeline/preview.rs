//! Pictures on the way: colours that are a linear map of latents, fitted to the model's own decoder.

use ondine_graph::{NDArray, Result};
use ondine_models::LatentSpace;
use ondine_runtime::Function;

use super::{decode::decode, part::Terms};
use crate::{
    codec::Picture,
    noise::{NoiseSource, TorchCpu},
};

/// Sides of the latents that are decoded once.
const SIDE: usize = 16;
/// Sides of the patches of one value in them: decoders look at what stands around a latent.
const PATCH: usize = 4;
/// How much latents differ within a patch.
const GRAIN: f32 = 0.25;
/// What keeps the fit from following latents that say nothing of colours.
const PENALTY: f64 = 1e-2;

/// What latents look like.
#[derive(Clone, Debug)]
pub(super) struct Colours {
    /// For red, green and blue the weight of each channel, and what is added.
    weights: [Vec<f64>; 3],
    factor: usize,
}

impl Colours {
    /// Fits the map to what a decoder makes of latents drawn by chance.
    pub(super) fn fit(decoder: &Function, space: &LatentSpace, terms: &Terms<'_>) -> Result<Self> {
        let (channels, plane) = (space.channels, SIDE * SIDE);
        let mut noise = TorchCpu::new(0);
        let per_side = SIDE / PATCH;
        let mut patches = vec![0.0; channels * per_side * per_side];
        let mut latents = vec![0.0; channels * plane];
        noise.normal(&mut patches);
        noise.normal(&mut latents);
        for (i, latent) in latents.iter_mut().enumerate() {
            let (channel, y, x) = (i / plane, i % plane / SIDE, i % SIDE);
            *latent = *latent * GRAIN + patches[(channel * per_side + y / PATCH) * per_side + x / PATCH];
        }
        let array = NDArray::new(&[1, channels, SIDE, SIDE], &latents)?;
        let picture = decode(decoder, &array, space, &Terms { keep: true, ..*terms })?;
        let samples: Vec<Vec<f64>> = (0..plane)
            .map(|at| (0..channels).map(|c| f64::from(latents[c * plane + at])).chain([1.0]).collect())
            .collect();
        let weights = [0, 1, 2].map(|colour| {
            let seen: Vec<f64> = (0..plane).map(|at| mean(&picture, colour, at, space.factor)).collect();
            least_squares(&samples, &seen)
        });
        Ok(Self { weights, factor: space.factor })
    }

    /// What the first of latents `[count, channels, height, width]` look like, at the size of the picture.
    pub(super) fn picture(&self, latents: &[f32], [channels, height, width]: [usize; 3]) -> Result<Picture> {
        let plane = height * width;
        let mut planes = Vec::with_capacity(3 * plane);
        for weights in &self.weights {
            planes.extend((0..plane).map(|at| {
                let terms = (0..channels).map(|c| weights[c] * f64::from(latents[c * plane + at]));
                (terms.sum::<f64>() + weights[channels]) as f32
            }));
        }
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let small = Picture::from_planes(&planes, side(width), side(height))?;
        small.resized(side(width * self.factor), side(height * self.factor))
    }
}

/// The mean of a colour over the pixels of a latent.
fn mean(picture: &[f32], colour: usize, at: usize, factor: usize) -> f64 {
    let width = SIDE * factor;
    let first = (colour * width + at / SIDE * factor) * width + at % SIDE * factor;
    let rows = (0..factor)
        .map(|y| picture[first + y * width..first + y * width + factor].iter().map(|&x| f64::from(x)).sum::<f64>());
    rows.sum::<f64>() / (factor * factor) as f64
}

/// The weights of the columns whose sum is closest to the values, by the normal equations.
fn least_squares(samples: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let count = samples.first().map_or(0, Vec::len);
    let mut rows: Vec<Vec<f64>> = (0..count)
        .map(|i| {
            let with = |other: &dyn Fn(usize) -> f64| {
                samples.iter().enumerate().map(|(k, row)| row[i] * other(k)).sum::<f64>()
            };
            let penalty = |j: usize| if i == j { PENALTY * samples.len() as f64 } else { 0.0 };
            (0..count).map(|j| with(&|k| samples[k][j]) + penalty(j)).chain([with(&|k| values[k])]).collect()
        })
        .collect();
    for i in 0..count {
        let pivot = rows[i].clone();
        for row in rows.iter_mut().enumerate().filter_map(|(j, row)| (j != i).then_some(row)) {
            let factor = row[i] / pivot[i];
            row.iter_mut().zip(&pivot).skip(i).for_each(|(x, above)| *x -= factor * above);
        }
    }
    (0..count).map(|i| rows[i][count] / rows[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_map_is_found_again() {
        let wanted = [0.3, -0.2, 0.5];
        let samples: Vec<Vec<f64>> =
            (0..64).map(|i| vec![(f64::from(i) * 1.7).sin(), (f64::from(i) * 0.9).cos(), 1.0]).collect();
        let values: Vec<f64> = samples.iter().map(|row| row.iter().zip(wanted).map(|(a, b)| a * b).sum()).collect();
        let found = least_squares(&samples, &values);
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.02), "{found:?}");
    }

    #[test]
    fn latents_become_colours() {
        let weights = [vec![0.5, 0.25], vec![0.0, 0.5], vec![-0.5, 0.75]];
        let colours = Colours { weights, factor: 1 };
        let picture = colours.picture(&[0.0, 0.0, 1.0, 1.0], [1, 2, 2]).unwrap();
        assert_eq!((picture.width, picture.height), (2, 2));
        assert_eq!(picture.rgb[..3], [64, 128, 191]);
        assert_eq!(picture.rgb[picture.rgb.len() - 3..], [191, 128, 64]);
    }
}
