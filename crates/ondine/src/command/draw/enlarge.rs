//! How pictures become larger once they are drawn.

use std::path::Path;

use clap::Args;
use ondine::{model, realesrgan};
use ondine_image::{
    codec::Picture,
    infotext::Infotext,
    pipeline::{MemoryPlan, Size, StagePlan},
    upscale::{Tiles, Upscaler},
};
use ondine_runtime::{Cache, Device, Precision};

use crate::{memory::besides, report::usage};

/// Which network makes pictures larger.
#[derive(Args, Debug)]
pub(super) struct Enlarge {
    /// Make the picture larger, as `ondine upscale` does: four times by the built-in network, by one of the ESRGAN
    /// family in a file, or by none; in the precision of --precision, else in that of `ondine upscale` [default: what
    /// suits the model: built in for the built-in one, else none]
    #[arg(long, value_name = "FILE|none", num_args = 0..=1, default_missing_value = realesrgan::NAME)]
    upscale: Option<String>,
}

/// The word for no network.
const NONE: &str = "none";
/// Keys of A1111 for what was done to a finished picture.
const TIMES: &str = "Postprocess upscale by";
const NETWORK: &str = "Postprocess upscaler";

impl Enlarge {
    /// The network to take, if any: the one that is asked for, that a picture tells of, or that the model likes.
    pub(super) fn choose<'a>(&'a self, told: Option<&'a str>, usual: Option<&'a str>) -> Option<&'a str> {
        self.upscale.as_deref().or(told).or(usual).filter(|name| *name != NONE)
    }

    /// What a picture tells of the network that made it larger, and whether that cannot be had again. One of this
    /// program that tells of none was made by none.
    pub(super) fn recalled(&self, text: &Infotext) -> (Option<&'static str>, bool) {
        let named = text.extra.iter().find(|(key, _)| key == NETWORK).map(|(_, name)| name.as_str());
        let own = text.version.as_deref().is_some_and(|version| version.starts_with("Ondine "));
        match named {
            Some(realesrgan::NAME) => (Some(realesrgan::NAME), false),
            Some(_) => (None, self.upscale.is_none()),
            None => (own.then_some(NONE), false),
        }
    }
}

/// A network that makes pictures of one size larger.
pub(super) struct Enlarger {
    upscaler: Upscaler,
    name: String,
    tiles: Tiles,
    size: Size,
    memory: StagePlan,
}

impl Enlarger {
    /// Prepares the network of this name, in tiles that `limit` has room for.
    pub(super) fn new(
        name: &str,
        size: Size,
        precision: Precision,
        device: Device,
        cache: Option<Cache>,
        limit: Option<u64>,
    ) -> anyhow::Result<Self> {
        let upscaler = Upscaler::new(&model::upscaler(name)?, precision, device, cache)?;
        let mut tiles = Tiles::default();
        let mut memory = upscaler.memory(size.width, size.height, tiles)?;
        if let Some(limit) = limit {
            let room = limit.saturating_sub(besides());
            while memory.weights + memory.workspace > room {
                tiles.side /= 2;
                if tiles.side <= 4 * tiles.border {
                    usage!("--memory has no room for the network that makes the picture larger; give --upscale none");
                }
                memory = upscaler.memory(size.width, size.height, tiles)?;
            }
        }
        let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { upscaler, name: stem, tiles, size, memory })
    }

    /// The plan of a drawing with this behind it.
    pub(super) fn added_to(&self, plan: &MemoryPlan) -> MemoryPlan {
        let mut plan = plan.clone();
        plan.stages.push(self.memory.clone());
        plan
    }

    /// Floating-point operations for one picture.
    pub(super) fn flops(&self) -> anyhow::Result<u64> {
        Ok(self.upscaler.flops(self.size.width, self.size.height, self.tiles)?)
    }

    /// The picture, larger.
    pub(super) fn enlarge(&self, picture: &Picture) -> anyhow::Result<Picture> {
        Ok(self.upscaler.enlarge(picture, self.tiles, &mut |_, _| {})?)
    }

    /// The size of a picture once it is larger.
    pub(super) fn size(&self, Size { width, height }: Size) -> Size {
        let scale = self.upscaler.scale();
        Size { width: width * scale, height: height * scale }
    }

    /// The network's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes into the text of a picture that it was made larger.
    pub(super) fn note(&self, text: &mut Infotext) {
        text.extra.push((TIMES.to_owned(), self.upscaler.scale().to_string()));
        text.extra.push((NETWORK.to_owned(), self.name.clone()));
    }
}
