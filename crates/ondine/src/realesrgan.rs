//! The network that ships inside the program to make pictures larger: `realesr-animevideov3` of Real-ESRGAN (Wang et
//! al. 2021), four times as wide and high.
//!
//! Its card is `assets/realesrgan/README.md`.

use ondine_graph::{Bytes, Result};
use ondine_models::{Network, upscaler_of};
use ondine_runtime::Weights;

use crate::embedded::embedded;

/// The name of the network on the command line and in pictures.
pub const NAME: &str = "realesr-animevideov3";

/// The network.
///
/// # Errors
/// None that the tests would not have met.
pub fn network() -> Result<Network> {
    let name = format!("built-in {NAME}");
    let weights = Weights::from_safetensors(&name, &Bytes::from_static(embedded!("realesrgan/model.safetensors")))?;
    upscaler_of(&name, weights)
}
