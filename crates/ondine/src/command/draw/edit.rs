//! Pictures to begin with: what they are scaled to, where they are drawn anew, and how they grow.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use ondine_image::{
    codec::{Picture, read::Gray},
    pipeline::{Size, TextToImage},
    request::{Init, Request},
};
use ondine_runtime::NDArray;

use crate::{output, report::usage};

/// A picture to begin with.
#[derive(Args, Debug)]
pub(super) struct Edit {
    /// Begin with this picture (PNG, JPEG, WebP) instead of noise alone; it is scaled to --width and --height if they
    /// are given, and if its size is far from the model's
    #[arg(long, value_name = "FILE", visible_alias = "init-image")]
    init: Option<PathBuf>,

    /// Draw only where this picture is white; gray is mixed, and where it is black nothing changes
    #[arg(long, value_name = "FILE", requires = "init")]
    mask: Option<PathBuf>,

    /// Draw where the mask is black instead
    #[arg(long, requires = "mask")]
    invert_mask: bool,

    /// Make the edges of the mask soft, by this many pixels
    #[arg(long, value_name = "PIXELS", requires = "init", default_value_t = 0.0)]
    mask_blur: f32,

    /// Make the picture larger and draw what is new: pixels for all sides, or left=N,right=N,top=N,bottom=N
    #[arg(long, value_name = "SIDES", requires = "init", value_parser = parse_sides, conflicts_with = "mask")]
    outpaint: Option<Sides>,
}

/// Pixels to add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sides {
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

/// The most pixels to add at a side.
const MOST: u32 = 4096;

fn parse_sides(text: &str) -> Result<Sides, String> {
    let number = |text: &str| match text.trim().parse::<u32>() {
        Ok(pixels) if pixels <= MOST => Ok(pixels),
        _ => Err(format!("{text:?} is no number of pixels up to {MOST}")),
    };
    if !text.contains('=') {
        let all = number(text)?;
        return Ok(Sides { left: all, right: all, top: all, bottom: all });
    }
    let mut sides = Sides::default();
    for part in text.split(',') {
        let Some((side, pixels)) = part.split_once('=') else { return Err(format!("{part:?} is not like left=64")) };
        let pixels = number(pixels)?;
        match side.trim() {
            "left" => sides.left = pixels,
            "right" => sides.right = pixels,
            "top" => sides.top = pixels,
            "bottom" => sides.bottom = pixels,
            other => return Err(format!("{other:?} is no side; write left, right, top or bottom")),
        }
    }
    Ok(sides)
}

impl Edit {
    /// True if there is a picture to begin with.
    pub(super) fn begins(&self) -> bool {
        self.init.is_some()
    }

    /// Reads the pictures, before a model is opened.
    pub(super) fn read(&self) -> anyhow::Result<Option<Beginning>> {
        let Some(path) = &self.init else { return Ok(None) };
        let opened = Picture::read(&bytes(path)?).with_context(|| path.display().to_string())?;
        let mut notes: Vec<String> = opened.changes.iter().map(|&change| change.to_owned()).collect();
        let (mut picture, mut mask) = (opened.picture, None);
        if let Some(path) = &self.mask {
            let mut read = Gray::read(&bytes(path)?).with_context(|| path.display().to_string())?;
            if self.invert_mask {
                read.values.iter_mut().for_each(|value| *value = 255 - *value);
            }
            if (read.width, read.height) != (picture.width, picture.height) {
                let shape = |width: u32, height: u32| f64::from(width) / f64::from(height);
                let (mask_shape, own) = (shape(read.width, read.height), shape(picture.width, picture.height));
                if (mask_shape / own - 1.0).abs() > 0.02 {
                    usage!(
                        "{}: the mask has {}x{} pixels, the picture {}x{}: they must be of one shape",
                        path.display(),
                        read.width,
                        read.height,
                        picture.width,
                        picture.height
                    );
                }
                notes.push(format!("the mask is scaled from {}x{}", read.width, read.height));
                read = read.resized(picture.width, picture.height);
            }
            if read.values.iter().all(|&value| value == 0) {
                usage!(
                    "{}: the mask is black everywhere, so nothing would be drawn; --invert-mask turns it round",
                    path.display()
                );
            }
            mask = Some(read);
        }
        if let Some(sides) = self.outpaint {
            let (larger, new) = extend(&picture, sides);
            (picture, mask) = (larger, Some(new));
        }
        if self.mask_blur > 0.0 {
            mask = mask.map(|mask| mask.blurred(self.mask_blur / 2.0));
        }
        Ok(Some(Beginning { name: path.display().to_string(), picture, mask, notes }))
    }
}

/// The bytes of a picture; a file of more than a GiB is none.
pub(in crate::command) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let length = path.metadata().with_context(|| path.display().to_string())?.len();
    anyhow::ensure!(length <= 1 << 30, "{}: {length} bytes are too many for a picture", path.display());
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// The picture with its edges drawn out, and what of it is new.
fn extend(picture: &Picture, sides: Sides) -> (Picture, Gray) {
    let (width, height) = (picture.width + sides.left + sides.right, picture.height + sides.top + sides.bottom);
    let (mut rgb, mut new) = (Vec::new(), Vec::new());
    for y in 0..height {
        for x in 0..width {
            let inside = |at: u32, before: u32, size: u32| at.checked_sub(before).filter(|&at| at < size);
            let (own_x, own_y) = (inside(x, sides.left, picture.width), inside(y, sides.top, picture.height));
            let clamp = |at: u32, before: u32, size: u32| at.saturating_sub(before).min(size - 1);
            let from = clamp(y, sides.top, picture.height) * picture.width + clamp(x, sides.left, picture.width);
            rgb.extend_from_slice(&picture.rgb[3 * from as usize..3 * from as usize + 3]);
            new.push(if own_x.is_some() && own_y.is_some() { 0 } else { 255 });
        }
    }
    (Picture { width, height, rgb, texts: picture.texts.clone() }, Gray { width, height, values: new })
}

/// A picture to begin with, read.
pub(super) struct Beginning {
    name: String,
    picture: Picture,
    mask: Option<Gray>,
    notes: Vec<String>,
}

impl Beginning {
    /// Puts it into a request, at the size that is asked for or that suits the model.
    pub(super) fn begin(mut self, request: &mut Request, model: &TextToImage, quiet: bool) -> anyhow::Result<()> {
        let (width, height) = (self.picture.width as usize, self.picture.height as usize);
        let usual = model.size_for(width, height);
        let size = Size { width: request.width.unwrap_or(usual.width), height: request.height.unwrap_or(usual.height) };
        if (size.width, size.height) != (width, height) {
            self.notes.push(format!("scaled from {width}x{height} to {}x{}", size.width, size.height));
        }
        let (columns, rows) = (u32::try_from(size.width)?, u32::try_from(size.height)?);
        let picture = self.picture.resized(columns, rows)?;
        let shape = [1, 3, size.height, size.width];
        let mask = self.mask.map(|mask| mask.resized(columns, rows));
        let mask = mask.map(|mask| {
            let values: Vec<f32> = mask.values.iter().map(|&value| f32::from(value) / 255.0).collect();
            NDArray::new(&[1, 1, size.height, size.width], &values)
        });
        request.init = Some(Init { image: NDArray::new(&shape, &picture.planes())?, mask: mask.transpose()? });
        (request.width, request.height) = (Some(size.width), Some(size.height));
        if !quiet && !self.notes.is_empty() {
            output::remark(format_args!("{}: {}", self.name, self.notes.join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_read() {
        assert_eq!(parse_sides("64").unwrap(), Sides { left: 64, right: 64, top: 64, bottom: 64 });
        assert_eq!(parse_sides("left=8, top=16").unwrap(), Sides { left: 8, top: 16, ..Sides::default() });
        for text in ["", "left", "left=x", "up=3", "left=-1", "5000", "left=1,,"] {
            assert!(parse_sides(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pictures_grow_at_their_edges() {
        let picture = Picture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6], texts: Vec::new() };
        let (larger, new) = extend(&picture, Sides { left: 1, bottom: 1, ..Sides::default() });
        assert_eq!((larger.width, larger.height), (3, 2));
        assert_eq!(larger.rgb[..9], [1, 2, 3, 1, 2, 3, 4, 5, 6]);
        assert_eq!(new.values, [255, 0, 0, 255, 255, 255]);
    }
}
