//! Pictures that are prompts beside the text.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use ondine_image::{
    codec::Picture,
    pipeline::TextToImage,
    request::{ImagePrompt, Request},
};
use ondine_models::{Network, Pipeline, Source, ip_adapter::IpAdapter, lora::Applied};

use super::bytes;
use crate::{output, report::usage};

/// IP-Adapters.
#[derive(Args, Debug)]
pub(super) struct IpAdapters {
    /// Draw what a picture shows, too, through this IP-Adapter (.safetensors, .bin; plain or plus, of Stable Diffusion
    /// 1 and XL); several times for several pictures
    #[arg(long = "ip-adapter", value_name = "FILE", requires = "ip_images")]
    ip_files: Vec<PathBuf>,

    /// The picture (PNG, JPEG, WebP) that the IP-Adapter shows the model; one for each --ip-adapter
    #[arg(long = "ip-image", value_name = "PICTURE", requires = "ip_files")]
    ip_images: Vec<PathBuf>,

    /// How much it counts beside the prompt, 0 not at all; one for all, or one for each --ip-adapter
    #[arg(long = "ip-scale", value_name = "N", default_value = "0.6", allow_negative_numbers = true)]
    ip_scales: Vec<f32>,

    /// Folder of the picture encoder (CLIPVisionModelWithProjection) that the IP-Adapter was trained with [default:
    /// image_encoder beside its file or in the folder above, else that of the model]
    #[arg(long = "ip-encoder", value_name = "FOLDER", requires = "ip_files")]
    ip_encoder: Option<PathBuf>,
}

/// What the folder of a picture encoder is called.
const ENCODER: &str = "image_encoder";

impl IpAdapters {
    /// Adds the adapters to the model; tells what became of each.
    pub(super) fn add(&self, pipeline: &Pipeline, model: &mut TextToImage) -> anyhow::Result<Vec<Applied>> {
        let (files, images) = (self.ip_files.len(), self.ip_images.len());
        if files != images {
            usage!("{files} IP-Adapters and {images} pictures for them: give one --ip-image for each --ip-adapter");
        }
        if files > 0 && self.ip_scales.len() != 1 && self.ip_scales.len() != files {
            usage!("{} numbers of --ip-scale for {files} IP-Adapters: give one, or one for each", self.ip_scales.len());
        }
        if let Some(scale) = self.ip_scales.iter().find(|scale| !scale.is_finite()) {
            usage!("--ip-scale {scale}: give a number such as 0.6");
        }
        let mut applied = Vec::new();
        for file in &self.ip_files {
            let adapter = IpAdapter::open(file)?;
            applied.push(model.add_ip_adapter(adapter, self.encoder(file, pipeline)?)?);
        }
        Ok(applied)
    }

    /// The encoder of pictures for an adapter.
    fn encoder(&self, file: &Path, pipeline: &Pipeline) -> anyhow::Result<Network> {
        if let Some(folder) = &self.ip_encoder {
            return Ok(Network::open(&Source::folder(folder)?, "", None)?);
        }
        let beside = file.parent().map(|folder| folder.join(ENCODER));
        let above = file.parent().and_then(Path::parent).map(|folder| folder.join(ENCODER));
        if let Some(folder) = [beside, above].into_iter().flatten().find(|folder| folder.is_dir()) {
            return Ok(Network::open(&Source::folder(&folder)?, "", None)?);
        }
        if pipeline.get(ENCODER).is_some() {
            return Ok(pipeline.network(ENCODER)?);
        }
        bail!(
            "{}: there is no folder `{ENCODER}` beside it; name that of the picture encoder with --ip-encoder FOLDER",
            file.display()
        );
    }

    /// Reads the pictures into a request.
    pub(super) fn begin(&self, request: &mut Request, model: &TextToImage, quiet: bool) -> anyhow::Result<()> {
        for (number, path) in self.ip_images.iter().enumerate() {
            let name = path.display();
            let opened = Picture::read(&bytes(path)?).with_context(|| name.to_string())?;
            let image = model.image_prompt(number, &opened.picture).with_context(|| name.to_string())?;
            let scale = self.ip_scales.get(number).or(self.ip_scales.first()).copied().unwrap_or_default();
            request.image_prompts.push(ImagePrompt { image, scale });
            let mut notes: Vec<String> = opened.changes.iter().map(|&change| change.to_owned()).collect();
            if opened.picture.width != opened.picture.height {
                notes.push("the square in its middle is looked at".to_owned());
            }
            if !quiet && !notes.is_empty() {
                output::remark(format_args!("{name}: {}", notes.join(", ")));
            }
        }
        Ok(())
    }
}
