//! Where the networks of a model come from, if not from the model itself.

use std::path::{Path, PathBuf};

use clap::Args;

/// Networks and configs from elsewhere.
#[derive(Args, Debug)]
pub(super) struct Parts {
    /// Take a network of the model from elsewhere, such as unet=small.ondine of `ondine compress`, or a file that
    /// holds it
    #[arg(long = "part", value_name = "NAME=PATH", value_parser = parse_part)]
    parts: Vec<(String, PathBuf)>,

    /// Take the autoencoder from this file or folder
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,

    /// Take the U-Net from this file or folder
    #[arg(long, value_name = "PATH")]
    unet: Option<PathBuf>,

    /// Take the transformer from this file or folder
    #[arg(long, value_name = "PATH")]
    transformer: Option<PathBuf>,

    /// Take the text encoder from this file or folder
    #[arg(long, value_name = "PATH", visible_alias = "clip-l")]
    text_encoder: Option<PathBuf>,

    /// Take the second text encoder from this file or folder
    #[arg(long = "text-encoder-2", value_name = "PATH", visible_alias = "clip-g")]
    text_encoder_2: Option<PathBuf>,

    /// Take the third text encoder from this file or folder
    #[arg(long = "text-encoder-3", value_name = "PATH")]
    text_encoder_3: Option<PathBuf>,

    /// Configs of a checkpoint in one file that is not built like others: a folder as diffusers saves it
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
}

impl Parts {
    /// The folder of configs.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The networks that come from elsewhere, by name.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (&str, &Path)> {
        let named = [
            ("vae", &self.vae),
            ("unet", &self.unet),
            ("transformer", &self.transformer),
            ("text_encoder", &self.text_encoder),
            ("text_encoder_2", &self.text_encoder_2),
            ("text_encoder_3", &self.text_encoder_3),
        ];
        let named = named.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)));
        self.parts.iter().map(|(name, path)| (name.as_str(), path.as_path())).chain(named)
    }
}

fn parse_part(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("write the name of a network and a folder or file, such as unet=small.ondine".to_owned()),
    }
}
