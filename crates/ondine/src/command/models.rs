//! `ondine models`: what can be drawn with, and where it is.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use ondine::genmoji;
use ondine_models::Source;
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
        output::line(json!({ "models": models }));
    } else {
        rows.iter().for_each(|(name, place)| output::line(format_args!("{name:24} {place}")));
    }
    Ok(())
}

fn path(name: Option<&str>) -> anyhow::Result<()> {
    match name {
        None => match folder() {
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

/// The model that `name` means: a built-in one, a path, or a folder of the models folder.
pub(super) fn find(name: &str) -> anyhow::Result<Source> {
    let path = Path::new(name);
    if name == genmoji::NAME && !path.exists() {
        return Ok(genmoji::source());
    }
    if path.is_dir() {
        return Ok(Source::Folder(path.to_path_buf()));
    }
    if path.is_file() {
        bail!("{name}: single-file models cannot be read yet; give the folder that diffusers saves");
    }
    match installed().into_iter().find(|(known, _)| known == name) {
        Some((_, path)) => Ok(Source::Folder(path)),
        None => bail!("{name}: there is no such model or folder; see `ondine models list`"),
    }
}

/// Where models are looked for: `$ONDINE_MODELS`, else the user's data folder.
fn folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("ONDINE_MODELS").or_else(|| {
        let base = if cfg!(windows) {
            from("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            from("HOME").map(|home| home.join("Library/Application Support"))
        } else {
            from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")))
        };
        base.map(|base| base.join("ondine/models"))
    })
}

/// The folders of the models folder that hold a model, by name.
fn installed() -> Vec<(String, PathBuf)> {
    let listing = folder().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = listing.into_iter().flatten().flatten().map(|entry| entry.path());
    let models = paths.filter(|path| path.join("model_index.json").is_file());
    let mut named: Vec<_> =
        models.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path.clone()))).collect();
    named.sort();
    named
}
