//! `ondine import`: a model as a folder of graphs and aligned weights.

use crate::output;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use ondine::model::{self, Opened};
use ondine_models::CONFIG;
use ondine_runtime::{Device, file::write_whole};
use serde_json::json;

/// Keep a model as a folder that any machine opens at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine import model.pt2
  ondine import stable-diffusion-v1-5/unet -o unet.ondine
  ondine import genmoji/unet --json")]
pub(super) struct Import {
    /// Model: an archive of torch.export.save, or the folder of one network
    model: String,

    /// Folder to write; an older import there is replaced [default: the model's name with .ondine]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Opened::Asset(asset) = model::open(&self.model, &Device::cpu(None)?)? else {
            bail!("{}: built for one kind of processor; import what it was built from", self.model);
        };
        let output = match self.output {
            Some(output) => output,
            None => default_output(&self.model)?,
        };
        asset.save(&output)?;
        keep_config(&self.model, &output)?;
        let output = output.display().to_string();
        if self.json {
            let functions: Vec<_> = asset.functions().keys().map(ToString::to_string).collect();
            output::json(&json!({"folder": output, "functions": functions, "parameters": asset.parameters()}));
        } else {
            output::line(output);
        }
        Ok(())
    }
}

/// Puts the config of a network beside the asset that was made of it, so that a pipeline can take it as a part.
pub(super) fn keep_config(model: &str, asset: &Path) -> anyhow::Result<()> {
    let Some(config) = model::config(model) else { return Ok(()) };
    write_whole(&asset.join(CONFIG), |file| Ok(file.write_all(config.as_bytes())?))?;
    Ok(())
}

/// `models/net.pt2` becomes `net.ondine`, here.
fn default_output(model: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(model);
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let stem = stem.with_context(|| format!("{model}: name the folder with --output"))?;
    let output = PathBuf::from(stem).with_extension("ondine");
    if output == path {
        bail!("{model}: is imported already; name another folder with --output");
    }
    Ok(output)
}
