//! Where pictures go: files that are named, files that are not, or standard output.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use ondine_image::codec::{Picture, format::Format};
use ondine_runtime::file::{check_writable, is_special, write_new, write_whole};

use crate::{output, report::usage};

/// The name of a picture for which none is given.
const UNNAMED: &str = "ondine.png";

/// What names standard output.
const STANDARD_OUTPUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Where pictures go.
#[derive(Debug)]
pub(super) enum Destination {
    /// To a file of this name, whether there is one or not; a number is added if there are several pictures.
    Named(PathBuf, Format),
    /// To `ondine.png`, or the first of `ondine-2.png`, `ondine-3.png` and so on that is not there yet.
    Unnamed,
    /// To standard output.
    Stream,
}

impl Destination {
    /// What `--output` asks for. Whether that can be written to is known before anything is drawn.
    pub(super) fn new(output: Option<&Path>, count: usize) -> anyhow::Result<Self> {
        let Some(path) = output else {
            check_writable(&free(count, 0))?;
            return Ok(Self::Unnamed);
        };
        if path == Path::new("-") || STANDARD_OUTPUT.iter().any(|name| path == Path::new(name)) {
            if count > 1 {
                usage!("standard output takes one picture, not {count}; name a file");
            }
            ensure!(!output::is_terminal(), "standard output is a terminal; name a file, or redirect it to one");
            return Ok(Self::Stream);
        }
        ensure!(!path.is_dir(), "{}: is a folder; name a file in it", path.display());
        if is_special(path) {
            return Ok(Self::Named(path.to_path_buf(), Format::of(path).unwrap_or_default()));
        }
        let format = match Format::of(path) {
            Ok(format) => format,
            Err(error) => usage!("{error}"),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "{}: there is no folder {}; make it first", path.display(), folder.display());
        check_writable(path)?;
        Ok(Self::Named(path.to_path_buf(), format))
    }

    /// True if pictures go to standard output, which then is for nothing else.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream)
    }

    /// True if it is this file.
    pub(super) fn is(&self, path: &Path) -> bool {
        matches!(self, Self::Named(own, _) if is_same(own, path))
    }

    /// What pictures are written as.
    pub(super) fn format(&self) -> Format {
        match self {
            Self::Named(_, format) => *format,
            Self::Unnamed | Self::Stream => Format::Png,
        }
    }

    /// Writes picture `index` of `count`; yields its file. Whatever fails, none is half-written.
    pub(super) fn write(&self, picture: &Picture, index: usize, count: usize, quiet: bool) -> anyhow::Result<PathBuf> {
        let mut bytes = Vec::new();
        picture.write(self.format(), &mut bytes)?;
        match self {
            Self::Stream => {
                output::bytes(&bytes);
                Ok("-".into())
            }
            Self::Named(path, _) => {
                let path = if is_special(path) { path.clone() } else { numbered(path, index, count) };
                let there = path.is_file();
                write_whole(&path, |file| Ok(file.write_all(&bytes)?))?;
                if there && !quiet {
                    output::remark(format_args!("{}: a file of this name was replaced", path.display()));
                }
                Ok(path)
            }
            Self::Unnamed => {
                let mut path = free(count, index);
                // Somebody else may be drawing here, too.
                while !write_new(&path, |file| Ok(file.write_all(&bytes)?))? {
                    path = free(count, index);
                }
                Ok(path)
            }
        }
    }
}

/// True if two paths are one file, whether it is there or not; devices may take several.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    !is_special(one) && (one == other || whole(one).is_some_and(|one| whole(other) == Some(one)))
}

/// The first name for picture `index` of `count` that no file has.
fn free(count: usize, index: usize) -> PathBuf {
    let one = Path::new(UNNAMED);
    if count == 1 && one.symlink_metadata().is_err() {
        return one.to_path_buf();
    }
    let mut number = if count == 1 { 1 } else { index };
    loop {
        let path = numbered(one, number, usize::MAX);
        if path.symlink_metadata().is_err() {
            return path;
        }
        number += 1;
    }
}

/// `cat.png` stays, or becomes `cat-1.png`, `cat-2.png`, ... for several pictures.
fn numbered(path: &Path, index: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(|| "png".into(), |extension| extension.to_string_lossy());
    path.with_file_name(format!("{stem}-{}.{extension}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_are_numbered() {
        assert_eq!(numbered(Path::new("a/cat.png"), 0, 1), Path::new("a/cat.png"));
        assert_eq!(numbered(Path::new("a/cat.png"), 1, 2), Path::new("a/cat-2.png"));
        assert_eq!(numbered(Path::new("cat"), 0, 2), Path::new("cat-1.png"));
    }

    #[test]
    fn names_say_where_pictures_go() {
        let of = |name: &str, count| Destination::new(Some(Path::new(name)), count);
        for name in ["a.gif", "a.tar.gz", "-"] {
            let error = of(name, 2).unwrap_err();
            assert!(error.is::<crate::report::BadUsage>(), "{name}: {error}");
        }
        let named = Destination::Named("x/../a.png".into(), Format::Png);
        assert!(
            named.is(Path::new("x/../a.png"))
                && !named.is(Path::new("b.png"))
                && !Destination::Stream.is(Path::new("-"))
        );
        assert!(
            is_same(Path::new("./a.png"), Path::new("a.png"))
                && !is_same(Path::new("/dev/null"), Path::new("/dev/null"))
        );
        assert!(of("nowhere/a.png", 1).unwrap_err().to_string().contains("there is no folder nowhere"));
        assert!(matches!(of("/dev/null", 2), Ok(Destination::Named(_, Format::Png))) || cfg!(not(unix)));
    }
}
