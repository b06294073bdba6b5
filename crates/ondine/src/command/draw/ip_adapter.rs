//! Pictures that are prompts beside the text.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use ondine_image::{
    codec::Picture,
    infotext::{Infotext, told::ToldPrompt},
    pipeline::TextToImage,
    request::{ImagePrompt, Request},
};
use ondine_models::{Network, Pipeline, Source, ip_adapter::IpAdapter, lora::Applied};

use super::bytes;
use crate::{output, report::usage};

/// IP-Adapters.
#[derive(Args, Debug, Default)]
pub(super) struct IpAdapters {
    /// Draw what a picture shows, too, through this IP-Adapter (.safetensors, .bin; plain or plus, of Stable Diffusion
    /// 1 and XL); several times for several pictures
    #[arg(long = "ip-adapter", value_name = "FILE", requires = "ip_images")]
    ip_files: Vec<PathBuf>,

    /// The picture (PNG, JPEG, WebP) that the IP-Adapter shows the model; one for each --ip-adapter
    #[arg(long = "ip-image", value_name = "PICTURE", requires = "ip_files")]
    ip_images: Vec<PathBuf>,

    /// How much it counts beside the prompt, 0 not at all; one for all, or one for each --ip-adapter [default: what the
    /// picture of --from tells, else 0.6]
    #[arg(long = "ip-scale", value_name = "N", allow_negative_numbers = true)]
    ip_scales: Vec<f32>,

    /// Folder of the picture encoder (CLIPVisionModelWithProjection) that the IP-Adapter was trained with [default:
    /// image_encoder beside its file or in the folder above, else that of the model]
    #[arg(long = "ip-encoder", value_name = "FOLDER", requires = "ip_files")]
    ip_encoder: Option<PathBuf>,
}

/// How much a picture counts beside the prompt if nobody says.
const USUAL_SCALE: f32 = 0.6;
/// What files of IP-Adapters end with.
const ENDS: [&str; 4] = ["safetensors", "bin", "pt", "pth"];

/// What the folder of a picture encoder is called.
const ENCODER: &str = "image_encoder";

impl IpAdapters {
    /// The adapters that the text of the picture `path` tells of, with the scales that are asked for; their files are
    /// looked for here and beside the picture, unless they are given. None if it tells of none, or they shall not
    /// count.
    ///
    /// # Errors
    /// If a file is neither given nor found.
    pub(super) fn recalled(&self, text: &Infotext, path: &Path) -> anyhow::Result<Option<Self>> {
        let told = ToldPrompt::all(text);
        let unwanted = !self.ip_scales.is_empty() && self.ip_scales.iter().all(|&scale| scale == 0.0);
        if told.is_empty() || unwanted && self.ip_files.is_empty() {
            return Ok(None);
        }
        let scales = match &self.ip_scales[..] {
            [] => told.iter().map(|told| told.weight).collect(),
            given => given.to_vec(),
        };
        let given = Self { ip_scales: scales, ip_encoder: self.ip_encoder.clone(), ..Self::default() };
        if !self.ip_files.is_empty() {
            // Other adapters than those of the picture count as they do by themselves.
            let same = self.ip_files.len() == told.len() || !self.ip_scales.is_empty();
            let (ip_files, ip_images) = (self.ip_files.clone(), self.ip_images.clone());
            return Ok(same.then_some(Self { ip_files, ip_images, ..given }));
        }
        let folders = [PathBuf::new(), path.parent().map(Path::to_path_buf).unwrap_or_default()];
        let found = |names: &[String]| {
            let files = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
            files.into_iter().find(|file| file.is_file())
        };
        let mut all = given;
        for ToldPrompt { model, image, .. } in &told {
            let names: Vec<String> = ENDS.iter().map(|end| format!("{model}.{end}")).collect();
            // Names that lead elsewhere are not followed: a picture may come from anybody.
            let plain = |name: &str| !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref());
            let files = plain(model).then(|| found(&names)).flatten();
            let images = plain(image).then(|| found(std::slice::from_ref(image))).flatten();
            let (Some(file), Some(picture)) = (files, images) else {
                let image = if image.is_empty() { "a picture".to_owned() } else { format!("the picture {image:?}") };
                usage!(
                    "{}: drawn with the IP-Adapter {model:?} and {image}, which are not both here or beside it; give \
                     them with --ip-adapter FILE --ip-image PICTURE, or draw without by --ip-scale 0",
                    path.display()
                );
            };
            all.ip_files.push(file);
            all.ip_images.push(picture);
        }
        Ok(Some(all))
    }

    /// Adds the adapters to the model; tells what became of each.
    pub(super) fn add(&self, pipeline: &Pipeline, model: &mut TextToImage) -> anyhow::Result<Vec<Applied>> {
        let (files, images) = (self.ip_files.len(), self.ip_images.len());
        if files != images {
            usage!("{files} IP-Adapters and {images} pictures for them: give one --ip-image for each --ip-adapter");
        }
        if files > 0 && self.ip_scales.len() > 1 && self.ip_scales.len() != files {
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
            let scale = self.ip_scales.get(number).or(self.ip_scales.first()).copied().unwrap_or(USUAL_SCALE);
            request.image_prompts.push(ImagePrompt { image, scale, name: file_name(path) });
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

/// The name of a file, without its folder.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_picture_tells_of_is_found_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("drawn.png");
        let text = |image: &str, model: &str| {
            let told = ToldPrompt { model: model.to_owned(), image: image.to_owned(), weight: 0.25 };
            let extra = vec![("IP-Adapter 0".to_owned(), told.to_string())];
            Infotext { extra, ..Infotext::default() }
        };
        let none = IpAdapters::default();
        assert!(none.recalled(&Infotext::default(), &from).unwrap().is_none());
        let error = none.recalled(&text("cat.png", "plus"), &from).unwrap_err().to_string();
        assert!(error.contains("\"plus\" and the picture \"cat.png\"") && error.contains("--ip-image"), "{error}");
        for name in ["plus.bin", "cat.png"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = none.recalled(&text("cat.png", "plus"), &from).unwrap().unwrap();
        let at = |name: &str| vec![folder.path().join(name)];
        assert_eq!((found.ip_files, found.ip_images, found.ip_scales), (at("plus.bin"), at("cat.png"), vec![0.25]));
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        for (image, model) in [("../cat.png", "plus"), ("cat.png", "../plus"), ("", "plus")] {
            assert!(none.recalled(&text(image, model), &inner.join("x.png")).is_err(), "{image} {model}");
        }
        let without = IpAdapters { ip_scales: vec![0.0], ..IpAdapters::default() };
        assert!(without.recalled(&text("cat.png", "plus"), &from).unwrap().is_none());
        let given = IpAdapters { ip_files: at("a"), ip_images: at("b"), ..IpAdapters::default() };
        let found = given.recalled(&text("cat.png", "plus"), &from).unwrap().unwrap();
        assert_eq!((found.ip_files, found.ip_scales), (at("a"), vec![0.25]));
        let louder = IpAdapters { ip_scales: vec![0.9], ..IpAdapters::default() };
        assert_eq!(louder.recalled(&text("cat.png", "plus"), &from).unwrap().unwrap().ip_scales, [0.9]);
    }
}
