//! Writing files so that nobody ever sees half of one.

use std::{
    collections::BTreeSet,
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Context, Error, ErrorKind, Result, fail};

/// Writes a file beside `path`, makes sure that it is on the disk, and renames it to `path`.
///
/// Links are followed, and a file that was there passes its permissions on. What is no regular file (a device, a pipe)
/// is written through to.
///
/// # Errors
/// If the file cannot be written, or `write` fails; nothing is left then, and an older file stays.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    Place::of(path).and_then(|place| place.write(write, true, false).map(|_| ())).at(|| path.display().to_string())
}

/// Like [`write_whole`], for a folder that is swept of what [`is_abandoned`]: the file has a name, by which people see
/// that something is under way, from the beginning on.
///
/// # Errors
/// As [`write_whole`].
pub fn write_named(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    Place::of(path).and_then(|place| place.write(write, true, true).map(|_| ())).at(|| path.display().to_string())
}

/// Like [`write_whole`], but leaves alone what is at `path` already: yields false then.
///
/// # Errors
/// As [`write_whole`].
pub fn write_new(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    Place::of(path).and_then(|place| place.write(write, false, false)).at(|| path.display().to_string())
}

/// Finds out that [`write_whole`] could not write to `path`, before there is anything to write.
///
/// # Errors
/// If it could not.
pub fn check_writable(path: &Path) -> Result<()> {
    let check = || -> Result<()> {
        if let Place::File { target, .. } = Place::of(path)? {
            Aside::create(&target, false)?;
        }
        Ok(())
    };
    check().at(|| path.display().to_string())
}

/// True if there is something at `path` that is neither file nor folder, such as a device or a pipe: what is written to
/// it goes through.
#[must_use]
pub fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

/// Where the bytes of a file go.
enum Place {
    /// To a device or a pipe, which stays what it is.
    Through(PathBuf),
    /// To a file of this name, which is no link, and which has these permissions if it is there.
    File { target: PathBuf, permissions: Option<Permissions> },
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        match path.metadata() {
            Ok(meta) if meta.is_dir() => fail!(Io, "is a folder; name a file in it"),
            Ok(_) if is_special(path) => Ok(Self::Through(path.to_path_buf())),
            Ok(meta) => {
                // Renaming asks nobody: whoever may not write the file may not replace it either.
                File::options().write(true).open(path)?;
                Ok(Self::File { target: followed(path)?, permissions: Some(meta.permissions()) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::File { target: followed(path)?, permissions: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Yields false if there is a file that is not to be replaced.
    fn write(self, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>, replace: bool, named: bool) -> Result<bool> {
        let buffered = |file| BufWriter::with_capacity(1 << 20, file);
        match self {
            Self::Through(path) => {
                let mut file = buffered(File::options().write(true).open(path)?);
                write(&mut file)?;
                file.flush()?;
                Ok(true)
            }
            Self::File { target, permissions } => {
                let aside = Aside::create(&target, named)?;
                if let Some(permissions) = permissions {
                    aside.file.set_permissions(permissions)?;
                }
                let mut file = buffered(aside.file.try_clone()?);
                write(&mut file)?;
                file.flush()?;
                aside.file.sync_all()?;
                Ok(aside.place(&target, replace)?)
            }
        }
    }
}

/// The name that links lead to from `path`, whether a file has it yet or not.
fn followed(path: &Path) -> Result<PathBuf> {
    const LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(path),
        }
    }
    fail!(Io, "is a link that leads nowhere; remove it")
}

/// A file under way, which is gone when this is dropped.
struct Aside {
    file: File,
    /// Its name, if it needs one: a process that is killed leaves nothing where it does not.
    name: Option<Unfinished>,
}

impl Aside {
    fn create(target: &Path, named: bool) -> io::Result<Self> {
        let (file, name) = match (!named).then(|| nameless(target)).flatten() {
            Some(file) => (file, None),
            None => {
                let name = Unfinished::new(target);
                (File::create(&name.0)?, Some(name))
            }
        };
        // Where files have no locks, what a killed process leaves stays until somebody removes it.
        let _ = file.try_lock();
        Ok(Self { file, name })
    }

    /// Gives the file its name; if that is another's which is not to be replaced, yields false.
    fn place(self, target: &Path, replace: bool) -> io::Result<bool> {
        let there = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|()| true),
        };
        let name = match self.name {
            None if !replace => return there(link(&self.file, target)),
            None => {
                let name = Unfinished::new(target);
                link(&self.file, &name.0)?;
                name
            }
            Some(name) => name,
        };
        if !replace {
            // Some file systems know no second names; there, a moment remains in which another may come first.
            return match fs::hard_link(&name.0, target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !target.exists() => {
                    fs::rename(&name.0, target).map(|()| true)
                }
                result => there(result),
            };
        }
        match fs::rename(&name.0, target) {
            // A file that is mounted by itself, as containers do it, keeps its place: it is written anew.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => fs::copy(&name.0, target).map(|_| true),
            // The lock goes with the file, after it has its name.
            result => result.map(|()| true),
        }
    }
}

/// A file in the folder of `target` that has no name yet, where the system has such files.
#[cfg(target_os = "linux")]
fn nameless(target: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).ok()?;
    File::options().write(true).custom_flags(flags).open(folder).ok()
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> Option<File> {
    None
}

/// Gives a [`nameless`] file a name that no other has.
#[cfg(target_os = "linux")]
fn link(file: &File, name: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What this process has under way under a name of its own.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The name of something under way, which is removed with this if it is still there.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(target: &Path) -> Self {
        let name = aside(target);
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        Self(name)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove(&self.0);
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes what this process has under way, for one that is about to end without returning.
pub fn discard_unfinished() {
    for name in &*UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) {
        remove(name);
    }
}

/// Removes a file or folder that may not exist; the error that matters came before.
fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
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
    let write = || -> Result<()> {
        let path = &followed(path)?;
        if path.symlink_metadata().is_ok() && !may_go(path) {
            fail!(Io, "is there already; remove it or choose another name");
        }
        let (new, old) = (Unfinished::new(path), aside(path));
        fs::create_dir(&new.0)?;
        write(&new.0)?;
        // Two renames, since a folder cannot be put in the place of another: between them there is none.
        if path.exists() {
            fs::rename(path, &old)?;
        }
        fs::rename(&new.0, path).or_else(|error| fs::rename(&old, path).and(Err(error)))?;
        // The old folder has served; if it cannot be removed, the new one is there all the same.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    };
    write().at(|| path.display().to_string())
}

/// The extension of files under way.
pub const UNFINISHED: &str = "part";

/// True if the file under way at `path` was left by a process that is gone: writers hold a lock on theirs.
///
/// A file that is younger than `age` may be one whose writer has not come to the lock yet.
pub fn is_abandoned(path: &Path, age: Duration) -> bool {
    let found = path.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    found.is_some_and(|found| found >= age) && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) -> Result<()> {
        write_whole(path, |file| Ok(file.write_all(text.as_bytes())?))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_there_stays_if_writing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        put(&path, "old").unwrap();
        let failing = |file: &mut BufWriter<File>| {
            file.write_all(b"new")?;
            fail!(Io, "nothing more")
        };
        assert!(write_whole(&path, failing).is_err() && write_new(&path, failing).is_ok_and(|written| !written));
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), names(folder.path())),
            ("old", vec!["file".to_owned()])
        );
        assert!(write_new(&folder.path().join("new"), |file| Ok(file.write_all(b"new")?)).unwrap());
        assert!(put(folder.path(), "x").unwrap_err().to_string().ends_with("is a folder; name a file in it"));
        assert_eq!(names(folder.path()), ["file", "new"]);
    }

    #[test]
    fn files_have_names_only_when_they_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, |file| {
            file.write_all(b"half")?;
            let seen = names(folder.path());
            assert!(seen.iter().all(|name| name.ends_with(UNFINISHED)), "{seen:?}");
            // A signal may end the process here.
            discard_unfinished();
            assert_eq!(names(folder.path()), Vec::<String>::new());
            Ok(())
        })
        .ok();
        check_writable(&path).unwrap();
        assert!(names(folder.path()).iter().all(|name| name == "file"));
        assert!(check_writable(&folder.path().join("nowhere/file")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_stay_devices() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        put(&at("inner/file"), "old").unwrap();
        fs::set_permissions(at("inner/file"), Permissions::from_mode(0o640)).unwrap();
        symlink("inner/file", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        symlink("inner/later", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        put(&at("second"), "new").unwrap();
        put(&at("dangling"), "late").unwrap();
        assert!(put(&at("round"), "x").is_err());
        assert_eq!(fs::read_to_string(at("inner/file")).unwrap(), "new");
        assert_eq!(fs::metadata(at("inner/file")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(at("inner/later")).unwrap(), "late");
        assert!(["link", "second", "dangling"].iter().all(|name| at(name).is_symlink()));
        check_writable(Path::new("/dev/null")).unwrap();
        put(Path::new("/dev/null"), "x").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
}
