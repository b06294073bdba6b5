//! The architectures by class name.

use ondine_graph::{Result, fail};

use crate::{
    architecture::Architecture,
    autoencoder::{kl, tiny},
    bert, clip_text, unet,
};

/// Every architecture.
pub const ARCHITECTURES: &[Architecture] = &[
    clip_text::ARCHITECTURE,
    clip_text::WITH_PROJECTION,
    bert::ARCHITECTURE,
    unet::ARCHITECTURE,
    kl::ARCHITECTURE,
    tiny::ARCHITECTURE,
];

/// The architecture of `class`.
///
/// # Errors
/// If it is none of [`ARCHITECTURES`].
pub fn find(class: &str) -> Result<&'static Architecture> {
    match ARCHITECTURES.iter().find(|architecture| architecture.class == class) {
        Some(architecture) => Ok(architecture),
        None => {
            let known: Vec<_> = ARCHITECTURES.iter().map(|architecture| architecture.class).collect();
            fail!(Unsupported, "class `{class}` is not supported; supported: {}", known.join(", "))
        }
    }
}
