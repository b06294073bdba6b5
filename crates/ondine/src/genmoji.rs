//! The picture model that ships inside the program: emoji from text, 128 x 128 pixels, which
//! [`realesrgan`](crate::realesrgan) makes four times as wide and high.
//!
//! Its model card is `assets/genmoji/README.md`; the recipe that made it is in `training/genmoji`.

use ondine_models::Source;

use crate::embedded::embedded;

/// The name of the model on the command line.
pub const NAME: &str = "genmoji";

/// Embeds the files of the model, each under its name.
macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, embedded!(concat!("genmoji/", $path)))),+]
    };
}

/// The files of the model, as a diffusers folder has them.
static FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// The model, to be opened like any folder.
#[must_use]
pub fn source() -> Source {
    Source::Embedded(FILES)
}
