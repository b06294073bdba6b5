//! Archives of `torch.export.save`: the program becomes a [`Graph`](ondine_graph::Graph), tensors are mapped where they
//! lie.
//!
//! ```no_run
//! # fn main() -> ondine_graph::Result<()> {
//! let asset = ondine_pt2::open("model.pt2".as_ref())?;
//! for (name, value) in asset.function("model")?.inputs() {
//!     println!("{name}: {}", asset.function("model")?.shape(*value));
//! }
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod builder;
mod call;
mod codes;
mod expr;
mod formula;
mod freeze;
mod names;
mod program;
mod rules;
mod schema;
mod source;
mod target;
mod tensors;
mod types;

use std::{path::Path, sync::Arc};

use ondine_graph::{Asset, Bytes, Context, Error, ErrorKind, Result, Weights, archive::Archive, fail, recipe::Recipes};

pub use names::names;

/// True if the file looks like an archive of `torch.export.save`, by its first bytes and what it holds.
#[must_use]
pub fn is_archive(path: &Path) -> bool {
    let Ok(bytes) = Bytes::map(path) else { return false };
    bytes.starts_with(b"PK\x03\x04")
        && Archive::read(&bytes).is_ok_and(|archive| archive.get("archive_format").is_some())
}

/// Reads an archive and compares every entry with the sum that was written with it.
///
/// # Errors
/// If the file is no whole archive, or an entry is not as it was written.
pub fn check(path: &Path) -> Result<()> {
    let name = path.display().to_string();
    let archive = Archive::read(&Bytes::map(path)?).at(|| &name)?;
    let seals = archive.paths().filter_map(|entry| archive.seal(entry, entry));
    seals.collect::<Vec<_>>().iter().try_for_each(|seal| seal.check()).at(|| &name)
}

/// Maps an archive; each of its models becomes a function of that name (`model`, if the exporter chose).
///
/// Inputs have the names of the program's arguments, nested ones joined by `_`; results are `output_0` and so on, in
/// the order in which nested results are flattened. Buffers that the program changes are states. Nothing that is
/// pickled is opened.
///
/// # Errors
/// If the file is no whole archive, its schema is of another version, or an operator is not known; all such
/// operators are named with their module and Python line.
pub fn open(path: &Path) -> Result<Asset> {
    let name = path.display().to_string();
    read(&name, &Bytes::map(path)?).at(|| &name)
}

/// As [`open`], but nothing that the program computes in a call goes into the weights of something else, such as the
/// statistics of a batch normalization: every node keeps a value of its own, to be compared
/// (by a runtime that prepares it as written).
///
/// # Errors
/// As [`open`].
pub fn open_as_written(path: &Path) -> Result<Asset> {
    let name = path.display().to_string();
    import(&name, &Bytes::map(path)?, freeze::Fold::Nothing).at(|| &name)
}

/// As [`open`], of bytes; `name` stands for them in messages.
///
/// # Errors
/// As [`open`].
pub fn read(name: &str, bytes: &Bytes) -> Result<Asset> {
    import(name, bytes, freeze::Fold::Channels)
}

fn import(name: &str, bytes: &Bytes, fold: freeze::Fold) -> Result<Asset> {
    let archive = Archive::read(bytes)?;
    let models: Vec<&str> =
        archive.paths().filter_map(|path| path.strip_prefix("models/")?.strip_suffix(".json")).collect();
    if models.is_empty() {
        fail!(Format, "the archive holds no models/*.json; is it from torch.export.save?");
    }
    if archive.get("byteorder").is_some_and(|order| !order.starts_with(b"little")) {
        fail!(Unsupported, "the archive was written on a big-endian machine");
    }
    let file: Arc<str> = name.into();
    let (mut functions, mut weights, mut recipes) = (Vec::new(), Weights::default(), Recipes::default());
    for model in models {
        let path = format!("models/{model}.json");
        archive.read_entry(&path)?;
        let text = archive.expect(&path)?;
        let place = || format!("models/{model}.json");
        let program: schema::Program =
            serde_json::from_slice(text).map_err(|error| Error::new(ErrorKind::Format, error.to_string())).at(place)?;
        let schema::Version { major, minor } = program.schema_version;
        if major != schema::MAJOR {
            let torch = &program.torch_version;
            fail!(Unsupported, "schema {major}.{minor} (torch {torch}); version {} is read", schema::MAJOR);
        }
        let tensors = tensors::Tensors::read(&archive, model, &file)?;
        let graph = program::import(&program, &tensors)?;
        let mut tensors = tensors.into_weights();
        let graph = freeze::freeze(&graph, &mut tensors, &mut recipes, fold)?;
        weights.merge(tensors)?;
        functions.push((model.to_owned(), graph));
    }
    Asset::with_recipes(file, functions, weights, recipes)
}
