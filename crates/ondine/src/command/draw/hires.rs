//! Large pictures in two goes: small first, where a model composes well, then enlarged and drawn over.

use clap::Args;
use ondine_image::{
    codec::Picture,
    pipeline::{Pictures, Size, TextToImage},
    request::{Init, Request},
};
use ondine_runtime::NDArray;

use super::enlarge::Enlarger;

/// A second go.
#[derive(Args, Debug)]
pub(super) struct Hires {
    /// Draw the picture, enlarge it so many times (1.1 to 8) and draw over it; --upscale names a network that enlarges
    /// it, without one it is scaled
    #[arg(long = "hires", value_name = "TIMES", value_parser = parse_times)]
    hires: Option<f64>,

    /// How much of the enlarged picture is drawn anew, 0 to 1
    #[arg(long = "hires-strength", value_name = "0..1", default_value_t = 0.5, requires = "hires")]
    hires_strength: f64,
}

fn parse_times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(times) if (1.1..=8.0).contains(&times) => Ok(times),
        _ => Err("give a number from 1.1 to 8".to_owned()),
    }
}

impl Hires {
    /// True if there is a second go.
    pub(super) fn asked(&self) -> bool {
        self.hires.is_some()
    }

    /// The request of the second go, for the pictures of the first.
    pub(super) fn request(
        &self,
        first: &Pictures,
        request: &Request,
        model: &TextToImage,
        enlarger: Option<&Enlarger>,
    ) -> anyhow::Result<Request> {
        let Size { width, height } = first.size();
        let times = self.hires.unwrap_or(1.0);
        let factor = model.latent_factor();
        let side = |pixels: usize| ((pixels as f64 * times / factor as f64).round() as usize).max(1) * factor;
        let (columns, rows) = (side(width), side(height));
        let mut planes = Vec::new();
        for i in 0..first.count() {
            let mut picture: Picture = first.picture(i)?;
            if let Some(enlarger) = enlarger {
                picture = enlarger.enlarge(&picture)?;
            }
            planes.extend(picture.resized(u32::try_from(columns)?, u32::try_from(rows)?)?.planes());
        }
        let image = NDArray::new(&[first.count(), 3, rows, columns], &planes)?;
        let mut controls = request.controls.clone();
        for control in &mut controls {
            let small =
                Picture::from_planes(control.image.view::<f32>()?, u32::try_from(width)?, u32::try_from(height)?)?;
            let large = small.resized(u32::try_from(columns)?, u32::try_from(rows)?)?;
            control.image = NDArray::new(&[1, 3, rows, columns], &large.planes())?;
        }
        Ok(Request {
            init: Some(Init { image, mask: None }),
            strength: Some(self.hires_strength),
            width: Some(columns),
            height: Some(rows),
            noise: None,
            controls,
            ..request.clone()
        })
    }
}
