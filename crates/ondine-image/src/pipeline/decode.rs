//! From latents to pixels.

use ondine_graph::{NDArray, Result, fail};
use ondine_models::LatentSpace;
use ondine_runtime::{Function, State};

use super::part::Terms;

/// Pictures `[count, 3, height, width]` in 0..1, decoded one by one from latents `[count, channels, height', width']`.
pub(super) fn decode(
    decoder: &Function,
    latents: &NDArray,
    space: &LatentSpace,
    terms: &Terms<'_>,
) -> Result<Vec<f32>> {
    let [count, sizes @ ..] = latents.shape() else { fail!(Shape, "latents without a shape") };
    let each = latents.len() / count.max(&1);
    let shape: Vec<_> = std::iter::once(1).chain(sizes.iter().copied()).collect();
    let plane = each / space.channels.max(1);
    // Weights that stay for the next drawing are not let go of.
    let mut state = if terms.keep { State::default() } else { State::frugal() };
    let mut images = Vec::new();
    for latents in latents.view::<f32>()?.chunks(each.max(1)) {
        let planes = latents.chunks(plane.max(1)).zip(space.scaling.iter().zip(&space.shift));
        let unscaled: Vec<f32> =
            planes.flat_map(|(plane, (scaling, shift))| plane.iter().map(move |x| x / scaling + shift)).collect();
        let sample = decoder
            .run_until(&[("latents", &NDArray::new(&shape, &unscaled)?)], &mut state, terms.wish)?
            .take("sample")?;
        images.extend(sample.view::<f32>()?.iter().map(|x| (x / 2.0 + 0.5).clamp(0.0, 1.0)));
    }
    Ok(images)
}
