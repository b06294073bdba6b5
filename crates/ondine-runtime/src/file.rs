//! Writing files so that nobody ever sees half of one.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::error::{Context, Result};

/// Writes a file beside `path`, makes sure that it is on the disk, and renames it to `path`.
///
/// # Errors
/// If the file cannot be written, or `write` fails; nothing is left then, and an older file stays.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}-{count}.part", std::process::id()));
    let result = write_and_rename(&aside, path, write);
    if result.is_err() {
        // The file may not even exist; the error that matters is the first.
        let _ = fs::remove_file(&aside);
    }
    result.at(|| path.display().to_string())
}

fn write_and_rename(aside: &Path, path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(aside)?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    drop(file);
    Ok(fs::rename(aside, path)?)
}
