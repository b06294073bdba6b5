//! Pictures that a model looks at beside the one that it draws.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use ondine_image::{
    codec::Picture,
    pipeline::{Size, TextToImage},
    request::Request,
};
use ondine_runtime::NDArray;

use super::bytes;
use crate::output;

/// Pictures to look at.
#[derive(Args, Debug)]
pub(super) struct References {
    /// Let the model look at this picture (PNG, JPEG, WebP) and draw what the prompt says of it, as FLUX.1 Kontext and
    /// FLUX.2 can; several times for several pictures, without --width and --height as large as the first
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
}

impl References {
    /// Reads the pictures and puts them into a request, at the sizes at which the model looks at them.
    pub(super) fn begin(&self, request: &mut Request, model: &TextToImage, quiet: bool) -> anyhow::Result<()> {
        for path in &self.reference {
            let name = path.display();
            let opened = Picture::read(&bytes(path)?).with_context(|| name.to_string())?;
            let mut notes: Vec<String> = opened.changes.iter().map(|&change| change.to_owned()).collect();
            let picture = opened.picture;
            let (columns, rows) = (picture.width, picture.height);
            let Size { width, height } = model.reference_size(columns as usize, rows as usize);
            let scaled = picture.resized(u32::try_from(width)?, u32::try_from(height)?)?;
            if (scaled.width, scaled.height) != (columns, rows) {
                notes.push(format!("scaled from {columns}x{rows} to {width}x{height}"));
            }
            request.references.push(NDArray::new(&[1, 3, height, width], &scaled.planes())?);
            if !quiet && !notes.is_empty() {
                output::remark(format_args!("{name}: {}", notes.join(", ")));
            }
        }
        Ok(())
    }
}
