//! `ondine models`: what can be drawn with, and where it is.

use anyhow::bail;
use clap::{Args, Subcommand};
use ondine::{folders, genmoji, model::installed};
use serde_json::json;

use crate::output;

/// List the models at hand, or say where they are.
#[derive(Args)]
pub(super) struct Models {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the models at hand
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the folder that models are looked for in, or the place of one model
    Path {
        /// The model
        name: Option<String>,
    },
}

impl Models {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::List { json } => list(json),
            Action::Path { name } => path(name.as_deref()),
        }
    }
}

fn list(as_json: bool) -> anyhow::Result<()> {
    let mut rows = vec![(genmoji::NAME.to_owned(), "built in".to_owned())];
    rows.extend(installed().into_iter().map(|(name, path)| (name, path.display().to_string())));
    if as_json {
        let models: Vec<_> = rows.iter().map(|(name, place)| json!({"name": name, "place": place})).collect();
        output::json(&json!({ "models": models }));
    } else {
        rows.iter().for_each(|(name, place)| output::line(format_args!("{name:24} {place}")));
    }
    Ok(())
}

fn path(name: Option<&str>) -> anyhow::Result<()> {
    match name {
        None => match folders::models() {
            Some(folder) => output::line(folder.display()),
            None => bail!("there is no home folder; set ONDINE_MODELS to the folder of your models"),
        },
        Some(genmoji::NAME) => output::line("built in"),
        Some(name) => match installed().into_iter().find(|(known, _)| known == name) {
            Some((_, path)) => output::line(path.display()),
            None => bail!("there is no model `{name}`; see `ondine models list`"),
        },
    }
    Ok(())
}
