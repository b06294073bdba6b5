//! The picture model that ships inside the program: emoji from text, 128 x 128 pixels.
//!
//! Its model card is `assets/genmoji/README.md`; the recipe that made it is in `training/genmoji`.

use ondine_models::Source;

/// The name of the model on the command line.
pub const NAME: &str = "genmoji";

/// A file of the model at an address that its tensors can be read from in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// Embeds a file; the alignment is what `include_bytes!` alone does not promise.
macro_rules! embed {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, {
            static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!("../assets/genmoji/", $path)));
            &FILE.0
        })),+]
    };
}

/// The files of the model, as a diffusers folder has them.
static FILES: &[(&str, &[u8])] = embed![
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
