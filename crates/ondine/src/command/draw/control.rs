//! Pictures that steer a drawing.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use ondine_image::{
    codec::Picture,
    edges,
    pipeline::{Size, TextToImage},
    request::{Control, Request},
};
use ondine_models::{Network, Source, open_control};
use ondine_runtime::NDArray;

use crate::output;

/// Networks that steer.
#[derive(Args, Debug)]
pub(super) struct Controls {
    /// Steer the drawing by a picture through a ControlNet, a folder as diffusers saves it or a file; behind them may
    /// stand scale=0.8, start=0.0, end=0.6 (shares of the steps), and canny, which steers by the picture's edges
    #[arg(long = "control", value_name = "NET,PICTURE[,scale=N]", value_parser = parse)]
    controls: Vec<Given>,
}

/// What is given of one.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    network: PathBuf,
    picture: PathBuf,
    scale: f32,
    start: f64,
    end: f64,
    canny: bool,
}

/// Slopes from which a pixel is an edge, and from which it is one beside another: those of other tools.
const CANNY: [u32; 2] = [100, 200];

fn parse(text: &str) -> Result<Given, String> {
    let mut parts = text.split(',');
    let (Some(network), Some(picture)) = (parts.next(), parts.next().filter(|picture| !picture.is_empty())) else {
        return Err(
            "write a network and a picture with a comma between, such as canny.safetensors,house.png".to_owned()
        );
    };
    let mut given =
        Given { network: network.into(), picture: picture.into(), scale: 1.0, start: 0.0, end: 1.0, canny: false };
    for part in parts {
        let number = |value: &str| match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("{part:?} holds no number")),
        };
        match part.split_once('=') {
            Some(("scale", value)) => given.scale = number(value)? as f32,
            Some(("start", value)) => given.start = number(value)?,
            Some(("end", value)) => given.end = number(value)?,
            None if part == "canny" => given.canny = true,
            _ => return Err(format!("{part:?} is none of scale=N, start=N, end=N and canny")),
        }
    }
    if !((0.0..=1.0).contains(&given.start) && given.start < given.end && given.end <= 1.0) {
        return Err(format!(
            "it steers from {} to {}; give shares of the steps, the first below the second",
            given.start, given.end
        ));
    }
    Ok(given)
}

impl Controls {
    /// Adds the networks to the model.
    pub(super) fn add(&self, model: &mut TextToImage) -> anyhow::Result<()> {
        for Given { network: path, .. } in &self.controls {
            let network = if path.is_file() {
                open_control(path, model.denoiser())?
            } else {
                Network::open(&Source::folder(path)?, "", None)?
            };
            let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
            let name = whole.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            model.add_control(&name, network)?;
        }
        Ok(())
    }

    /// Reads the pictures into a request, at the size to draw.
    pub(super) fn begin(&self, request: &mut Request, model: &TextToImage, quiet: bool) -> anyhow::Result<()> {
        for (number, given) in self.controls.iter().enumerate() {
            let path = &given.picture;
            let opened = Picture::read(&super::bytes(path)?).with_context(|| path.display().to_string())?;
            let mut notes: Vec<String> = opened.changes.iter().map(|&change| change.to_owned()).collect();
            let own = model.size_for(opened.picture.width as usize, opened.picture.height as usize);
            let size = Size { width: request.width.unwrap_or(own.width), height: request.height.unwrap_or(own.height) };
            (request.width, request.height) = (Some(size.width), Some(size.height));
            if (size.width, size.height) != (opened.picture.width as usize, opened.picture.height as usize) {
                let Picture { width, height, .. } = opened.picture;
                notes.push(format!("scaled from {width}x{height} to {}x{}", size.width, size.height));
            }
            let mut picture = opened.picture.resized(u32::try_from(size.width)?, u32::try_from(size.height)?)?;
            if given.canny {
                let [low, high] = CANNY;
                let found = edges::canny(&picture.rgb, size.width, low, high);
                let share = found.iter().filter(|&&edge| edge > 0).count() as f64 / found.len().max(1) as f64;
                notes.push(format!("steers by its edges, {:.0} % of the pixels", 100.0 * share));
                picture.rgb = found.into_iter().flat_map(|edge| [edge; 3]).collect();
            }
            let image = NDArray::new(&[1, 3, size.height, size.width], &picture.planes())?;
            let Given { scale, start, end, .. } = *given;
            request.controls.push(Control { network: number, image, scale, start, end });
            if !quiet && !notes.is_empty() {
                output::remark(format_args!("{}: {}", Path::display(path), notes.join(", ")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_with_pictures_and_how_they_steer() {
        let given = parse("canny/,a b.png,scale=0.5,end=0.6,canny").unwrap();
        assert_eq!((given.network.to_str(), given.picture.to_str()), (Some("canny/"), Some("a b.png")));
        assert_eq!((given.scale, given.start, given.end, given.canny), (0.5, 0.0, 0.6, true));
        for text in ["", "net", "net,", "net,a.png,scale=x", "net,a.png,edges", "net,a.png,start=1", "net,a.png,end=2"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
