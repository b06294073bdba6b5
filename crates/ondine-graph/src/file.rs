//! Writing files so that nobody ever sees half of one.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Context, Error, ErrorKind, Result};

/// Writes a file beside `path`, makes sure that it is on the disk, and renames it to `path`.
///
/// # Errors
/// If the file cannot be written, or `write` fails; nothing is left then, and an older file stays.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let aside = aside(path);
    let result = write_and_rename(&aside, path, write);
    if result.is_err() {
        // The file may not even exist; the error that matters is the first.
        let _ = fs::remove_file(&aside);
    }
    result.at(|| path.display().to_string())
}

/// A name beside `path` that no other writer takes.
fn aside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{count}.{UNFINISHED}", std::process::id()))
}

/// Writes a folder beside `path` and renames it to `path`, where another folder may be if `may_go` says so.
///
/// # Errors
/// If something else is at `path`, the folder cannot be written, or `write` fails; nothing is left then, and an older
/// folder stays.
pub fn write_folder(
    path: &Path,
    may_go: impl FnOnce(&Path) -> bool,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let place = || path.display().to_string();
    if path.symlink_metadata().is_ok() && !may_go(path) {
        return Err(Error::new(ErrorKind::Io, "is there already; remove it or choose another name")).at(place);
    }
    let (new, old) = (aside(path), aside(path));
    let written = fs::create_dir(&new).map_err(Error::from).and_then(|()| write(&new));
    let result = written.and_then(|()| {
        // Two renames, since a folder cannot be put in the place of another: between them there is none.
        if path.exists() {
            fs::rename(path, &old)?;
        }
        fs::rename(&new, path).or_else(|error| fs::rename(&old, path).and(Err(error)))?;
        // The old folder has served; if it cannot be removed, the new one is there all the same.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    });
    if result.is_err() {
        // It may not even exist; the error that matters is the first.
        let _ = fs::remove_dir_all(&new);
    }
    result.at(place)
}

/// The extension of files under way.
pub const UNFINISHED: &str = "part";

/// True if the file under way at `path` was left by a process that is gone: writers hold a lock on theirs.
pub fn is_abandoned(path: &Path) -> bool {
    let age = path.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    // A fresh file may be one whose writer has not come to the lock yet.
    age.is_some_and(|age| age.as_secs() >= 2) && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn write_and_rename(aside: &Path, path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let file = File::create(aside)?;
    // Where files have no locks, what a killed process leaves stays until somebody removes it.
    let _ = file.try_lock();
    let mut file = BufWriter::with_capacity(1 << 20, file);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    // The lock goes with the file, after it has its name.
    Ok(fs::rename(aside, path)?)
}

/// A value as JSON.
///
/// # Errors
/// If it holds what JSON cannot.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
}

/// A value from JSON.
///
/// # Errors
/// If the text is no JSON of such a value.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))
}
