//! The specialization cache: packed weights kept between starts, so that the second start maps them.
//!
//! Each entry is one file, named by the hash of everything it depends on. Entries are written aside, put on the
//! disk and renamed, so a half-written one is never seen; two processes that write the same entry both win. What
//! the files of an asset hold is hashed once and remembered together with their size and time of change.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    bytes::Bytes,
    error::{Context, Result},
    file::write_whole,
};

/// A hash that names an entry or the contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub(crate) blake3::Hash);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_hex().as_str())
    }
}

/// A folder of entries with a limit on their total size.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
}

const EXTENSION: &str = "packed";

/// What a file was when its contents were hashed.
#[derive(Serialize, Deserialize, PartialEq)]
struct Memo {
    path: PathBuf,
    len: u64,
    modified_ns: u128,
    hash: String,
}

impl Cache {
    /// The size limit of [`Cache::new`]: 20 GiB.
    pub const DEFAULT_LIMIT: u64 = 20 << 30;

    /// A cache in `folder`, which is made when the first entry is written.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), limit: Self::DEFAULT_LIMIT }
    }

    /// The same cache with another limit on the total size of its entries, in bytes.
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Where the entries are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    /// The entry `key`, mapped, if it is there.
    #[must_use]
    pub(crate) fn get(&self, key: Digest) -> Option<Bytes> {
        let path = self.path(key);
        let bytes = Bytes::map(&path).ok().filter(|bytes| !bytes.is_empty())?;
        // The time of change is the time of last use, for eviction; failing to set it only ages the entry.
        if let Ok(file) = fs::File::options().append(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(bytes)
    }

    /// Writes the entry `key` and maps it; older entries make room.
    pub(crate) fn put(
        &self,
        key: Digest,
        len: u64,
        write: impl FnOnce(&mut std::io::BufWriter<fs::File>) -> Result<()>,
    ) -> Result<Bytes> {
        fs::create_dir_all(&self.folder).at(|| self.folder.display().to_string())?;
        self.evict(len);
        let path = self.path(key);
        write_whole(&path, write)?;
        Bytes::map(&path)
    }

    /// Removes what a killed process left, and the entries used longest ago until `coming` more bytes fit the limit.
    fn evict(&self, coming: u64) {
        let Ok(listing) = fs::read_dir(&self.folder) else { return };
        let mut entries = Vec::new();
        for entry in listing.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let modified = meta.modified().unwrap_or(UNIX_EPOCH);
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                let old = modified.elapsed().is_ok_and(|age| age.as_secs() > 24 * 3600);
                if old {
                    // Somebody else may have removed it meanwhile.
                    let _ = fs::remove_file(path);
                }
            } else if path.extension().is_some_and(|extension| extension == EXTENSION) {
                entries.push((modified, meta.len(), path));
            }
        }
        entries.sort();
        let mut total = entries.iter().map(|entry| entry.1).sum::<u64>().saturating_add(coming);
        for (_, len, path) in entries {
            if total <= self.limit {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
    }

    /// The hash of what `bytes` holds; for an unchanged file it is remembered from the last time.
    pub(crate) fn content_hash(&self, bytes: &Bytes) -> blake3::Hash {
        let Some((memo_path, mut memo)) = bytes.file().and_then(|path| self.memo(path)) else {
            return blake3::hash(bytes);
        };
        let known = fs::read(&memo_path).ok().and_then(|text| serde_json::from_slice::<Memo>(&text).ok());
        if let Some(known) = known {
            memo.hash.clone_from(&known.hash);
            if let (true, Ok(hash)) = (known == memo, blake3::Hash::from_hex(&known.hash)) {
                return hash;
            }
        }
        let hash = blake3::hash(bytes);
        memo.hash = hash.to_hex().to_string();
        // Not remembering costs the next start the hashing, nothing else.
        let _ = fs::create_dir_all(&self.folder);
        let text = serde_json::to_vec(&memo).unwrap_or_default();
        let _ = write_whole(&memo_path, |file| Ok(std::io::Write::write_all(file, &text)?));
        hash
    }

    /// Where the hash of a file is remembered, and what the file is now.
    fn memo(&self, path: &Path) -> Option<(PathBuf, Memo)> {
        let path = path.canonicalize().ok()?;
        let meta = path.metadata().ok()?;
        let modified_ns = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
        let memo = Memo { path, len: meta.len(), modified_ns, hash: String::new() };
        Some((self.folder.join(format!("{name}.hash")), memo))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn digest(name: &str) -> Digest {
        Digest(blake3::hash(name.as_bytes()))
    }

    fn put(cache: &Cache, name: &str, len: usize) {
        cache.put(digest(name), len as u64, |file| Ok(file.write_all(&vec![1; len])?)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }

    #[test]
    fn the_entry_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path()).with_limit(250);
        put(&cache, "a", 100);
        put(&cache, "b", 100);
        assert!(cache.get(digest("a")).is_some());
        put(&cache, "c", 100);
        let there = ["a", "b", "c"].map(|name| cache.get(digest(name)).is_some());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let result = cache.put(digest("a"), 9, |file| {
            file.write_all(b"half")?;
            crate::error::fail!(Io, "no space left")
        });
        assert!(result.is_err() && cache.get(digest("a")).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let path = folder.path().join("weights");
        let mut hashes = Vec::new();
        for contents in ["one", "one", "three"] {
            fs::write(&path, contents).unwrap();
            hashes.push(cache.content_hash(&Bytes::map(&path).unwrap()));
        }
        assert!(hashes[0] == hashes[1] && hashes[1] != hashes[2]);
    }
}
