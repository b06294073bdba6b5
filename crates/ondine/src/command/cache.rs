//! `ondine cache`: what the cache of packed weights holds, how much it may hold, and whether it is whole.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use ondine::folders;
use ondine_runtime::{Cache, CacheEntry};
use serde_json::{Value, json};

use crate::{output, report::usage};

use super::{
    bytes::{megabytes, parse_bytes},
    running::packed_weights,
};

/// Show and limit the cache of packed weights.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine cache list
  ondine cache limit 5GB
  ondine cache clear 3f9a02c1d4e7

The cache is in $ONDINE_CACHE, by default in the user's cache folder. What was used longest ago goes first when it is full.")]
pub(super) struct CacheCommand {
    #[command(subcommand)]
    action: Action,

    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List the entries, the one used last first
    List,
    /// Remove entries
    Clear {
        /// Names from `ondine cache list`, or their beginnings [default: all]
        #[arg(value_name = "ENTRY")]
        entries: Vec<String>,
    },
    /// Show the most that the cache may hold, or set it for good
    Limit {
        /// Size, such as 5GB
        #[arg(value_name = "SIZE", value_parser = parse_bytes)]
        limit: Option<u64>,
    },
    /// Read all entries, compare them with what was written, and remove those that differ
    Check,
}

/// What people see of a name, which is enough to tell entries apart.
const SHOWN: usize = 12;

impl CacheCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let cache = packed_weights().context("there is no home folder; set ONDINE_CACHE to a folder")?;
        match &self.action {
            Action::List => self.list(&cache),
            Action::Clear { entries } => self.clear(&cache, entries)?,
            Action::Limit { limit } => {
                if let Some(limit) = limit {
                    cache.set_limit(*limit)?;
                }
                self.say(&json!({"limit_bytes": cache.limit()}), &megabytes(cache.limit()));
            }
            Action::Check => self.check(&cache)?,
        }
        Ok(())
    }

    fn say(&self, facts: &Value, line: &str) {
        if self.json {
            output::json(facts);
        } else {
            output::line(line);
        }
    }

    fn list(&self, cache: &Cache) {
        let entries = cache.entries();
        let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if self.json {
            let facts = json!({
                "folder": cache.folder().display().to_string(),
                "limit_bytes": cache.limit(),
                "bytes": total,
                "entries": entries.iter().map(facts).collect::<Vec<_>>(),
            });
            output::json(&facts);
            return;
        }
        for entry in &entries {
            let size = megabytes(entry.bytes);
            let age = age(entry.used);
            let what = match &entry.about {
                Ok(about) => {
                    format!("{} ({}), {}, {}", about.model, about.functions.join(", "), about.precision, about.tier)
                }
                Err(_) => "of no use any more".to_owned(),
            };
            output::line(format_args!("{:.SHOWN$}  {size:>8}  {age:>8}  {what}", entry.name));
        }
        output::line(format_args!(
            "{} of {} in {}",
            megabytes(total),
            megabytes(cache.limit()),
            cache.folder().display()
        ));
    }

    fn clear(&self, cache: &Cache, names: &[String]) -> anyhow::Result<()> {
        let entries = cache.entries();
        let mut chosen: Vec<&CacheEntry> = Vec::new();
        for name in names {
            let found: Vec<_> = entries.iter().filter(|entry| entry.name.starts_with(name)).collect();
            match found[..] {
                [entry] => chosen.push(entry),
                [] => bail!("there is no entry `{name}`; see `ondine cache list`"),
                _ => usage!("`{name}` is the beginning of {} entries; write more of the name", found.len()),
            }
        }
        if names.is_empty() {
            chosen = entries.iter().collect();
            cache.clear()?;
            if let Some(parent) = cache.folder().parent() {
                // What else is in it, such as the models of `ondine bench`, stays.
                let _ = std::fs::remove_dir(parent);
            }
        }
        let mut freed = 0;
        for entry in &chosen {
            cache.remove(entry)?;
            freed += entry.bytes;
        }
        if names.is_empty() {
            cache.forget();
            // A folder that the user chose stays, even if nothing is in it.
            if let Some(folder) = folders::caches().filter(|_| std::env::var_os("ONDINE_CACHE").is_none()) {
                let _ = std::fs::remove_dir(folder);
            }
        } else {
            cache.sweep();
        }
        let removed: Vec<_> = chosen.iter().map(|entry| &entry.name).collect();
        self.say(
            &json!({"removed": removed, "freed_bytes": freed}),
            &format!("removed {}, {}", removed.len(), megabytes(freed)),
        );
        Ok(())
    }

    fn check(&self, cache: &Cache) -> anyhow::Result<()> {
        let (mut whole, mut removed) = (0, Vec::new());
        for entry in cache.entries() {
            match entry.check() {
                Ok(()) => whole += 1,
                Err(error) => {
                    cache.remove(&entry)?;
                    output::remark(format_args!("removed: {error}"));
                    removed.push(entry.name);
                }
            }
        }
        self.say(&json!({"whole": whole, "removed": removed}), &format!("{whole} whole, {} removed", removed.len()));
        Ok(())
    }
}

fn facts(entry: &CacheEntry) -> Value {
    let used = entry.used.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    json!({
        "name": entry.name,
        "bytes": entry.bytes,
        "used_unix_seconds": used,
        "about": entry.about.as_ref().ok(),
        "error": entry.about.as_ref().err(),
    })
}

/// How long ago, in the largest unit.
fn age(time: SystemTime) -> String {
    let seconds = time.elapsed().map_or(0, |age| age.as_secs());
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}
