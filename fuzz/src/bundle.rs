//! Several files as one input: their bytes, with a line between each two.
//!
//! A mark between them stays where it is when the fuzzer puts bytes in or takes some out; lengths would not.

use std::{fs, path::PathBuf, process};

/// What stands between two files.
const MARK: &[u8] = b"\n====\n";

/// The files of an input; those that are not there are empty.
#[must_use]
pub fn split<const N: usize>(mut data: &[u8]) -> [&[u8]; N] {
    let mut files = [&[][..]; N];
    for (index, file) in files.iter_mut().enumerate() {
        let mark = data.windows(MARK.len()).position(|window| window == MARK).filter(|_| index + 1 < N);
        *file = &data[..mark.unwrap_or(data.len())];
        data = mark.map_or(&[], |mark| &data[mark + MARK.len()..]);
    }
    files
}

/// One input of several files.
#[must_use]
pub fn join(files: &[&[u8]]) -> Vec<u8> {
    files.join(MARK)
}

/// A place for files that are read by their path, which only this process knows.
///
/// # Panics
/// If the temporary folder cannot be written.
#[must_use]
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ondine-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_again() {
        let files: [&[u8]; 3] = [b"a\n", b"", b"c\n====\nd"];
        assert_eq!(split::<3>(&join(&files)), files);
        assert_eq!(split::<2>(b"a"), [&b"a"[..], b""]);
    }
}
