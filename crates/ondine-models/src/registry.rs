//! The architectures by class name.

use ondine_graph::{Result, fail};

use crate::{
    architecture::Architecture,
    autoencoder::{deep, kl, squares, tiny},
    bert, clip_text, clip_vision, flux, flux2, image_projection, sana, sd3, t5, transformer, unet, upscaler, z_image,
};

/// Every architecture but the language models with a head, which [`transformer::ARCHITECTURES`] lists.
pub const ARCHITECTURES: &[Architecture] = &[
    clip_text::ARCHITECTURE,
    clip_text::WITH_PROJECTION,
    clip_vision::ARCHITECTURE,
    image_projection::ARCHITECTURE,
    image_projection::PLUS,
    bert::ARCHITECTURE,
    t5::ARCHITECTURE,
    transformer::QWEN3,
    transformer::GEMMA2,
    unet::ARCHITECTURE,
    unet::control::ARCHITECTURE,
    sd3::ARCHITECTURE,
    flux::ARCHITECTURE,
    flux2::ARCHITECTURE,
    z_image::ARCHITECTURE,
    sana::ARCHITECTURE,
    kl::ARCHITECTURE,
    squares::ARCHITECTURE,
    tiny::ARCHITECTURE,
    deep::ARCHITECTURE,
    upscaler::DENSE,
    upscaler::COMPACT,
];

/// The architecture of `class`.
///
/// # Errors
/// If there is none of that class.
pub fn find(class: &str) -> Result<&'static Architecture> {
    let all = || ARCHITECTURES.iter().chain(transformer::ARCHITECTURES);
    match all().find(|architecture| architecture.class == class) {
        Some(architecture) => Ok(architecture),
        None => {
            let known: Vec<_> = all().map(|architecture| architecture.class).collect();
            fail!(Unsupported, "class `{class}` is not supported; supported: {}", known.join(", "))
        }
    }
}
