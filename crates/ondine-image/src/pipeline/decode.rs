//! From latents to pixels.

use ondine_graph::{NDArray, Result, fail};
use ondine_models::LatentSpace;
use ondine_runtime::{Function, State};

/// Pictures `[count, 3, height, width]` in 0..1, decoded one by one from latents `[count, channels, height', width']`.
pub(super) fn decode(decoder: &Function, latents: &NDArray, space: LatentSpace) -> Result<Vec<f32>> {
    let LatentSpace { scaling, shift, .. } = space;
    let [count, sizes @ ..] = latents.shape() else { fail!(Shape, "latents without a shape") };
    let each = latents.len() / count.max(&1);
    let shape: Vec<_> = std::iter::once(1).chain(sizes.iter().copied()).collect();
    let mut state = State::frugal();
    let mut images = Vec::new();
    for latents in latents.view::<f32>()?.chunks(each.max(1)) {
        let unscaled: Vec<f32> = latents.iter().map(|x| x / scaling + shift).collect();
        let sample = decoder.run(&[("latents", &NDArray::new(&shape, &unscaled)?)], &mut state)?.take("sample")?;
        images.extend(sample.view::<f32>()?.iter().map(|x| (x / 2.0 + 0.5).clamp(0.0, 1.0)));
    }
    Ok(images)
}
