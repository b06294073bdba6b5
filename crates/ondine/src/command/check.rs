//! `ondine check`: whether the files of models are as they were written, every byte of them.

use std::path::Path;

use clap::Args;
use ondine::model::{self, Opened, find};
use ondine_models::Pipeline;
use ondine_runtime::{Device, Specialized};
use serde_json::json;

use crate::output;

/// Read the files of models and compare them with the sums that were written with them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine check model.pt2 model.ondine model.built
  ondine cache check                                 the same for the cache of packed weights

Archives of torch.export.save, folders of `ondine import` and files of `ondine build` hold sums of all their bytes. Sums of
weights are looked at when weights are packed, which is not at every start: this looks at all of them. Folders as
diffusers and transformers save them hold no sums: only what their files say of themselves is compared with their sizes.")]
pub(super) struct Check {
    /// Models: archives, folders, files of `ondine build`, names
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut checked = Vec::new();
        for model in &self.models {
            let sums = check(model)?;
            if !self.json {
                let what = if sums { "whole" } else { "of the right size; its files hold no sums to compare with" };
                output::line(format_args!("{model}: {what}"));
            }
            checked.push(json!({"model": model, "sums": sums}));
        }
        if self.json {
            output::json(&json!({"whole": checked}));
        }
        Ok(())
    }
}

/// Fails if the model is not as it was written; yields whether it has sums to tell.
fn check(model: &str) -> anyhow::Result<bool> {
    let path = Path::new(model);
    if Specialized::is_file(path) {
        Specialized::check_file(path)?;
        return Ok(true);
    }
    if ondine_pt2::is_archive(path) {
        ondine_pt2::check(path)?;
    }
    if let Some(source) = find(model).ok().filter(|source| source.exists("model_index.json")) {
        let pipeline = Pipeline::open(source)?;
        for component in &pipeline.components {
            if ondine_models::registry::find(&component.class).is_ok() {
                pipeline.network(&component.name)?;
            }
        }
        return Ok(false);
    }
    match model::open(model, &Device::cpu(None)?)? {
        Opened::Asset(asset) => {
            asset.weights().check_seals()?;
            Ok(asset.weights().is_sealed() || ondine_pt2::is_archive(path))
        }
        Opened::Specialized(_) => Ok(true),
    }
}
