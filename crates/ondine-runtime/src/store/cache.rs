//! The specialization cache: packed weights kept between starts, so that the second start maps them.
//!
//! Each entry is one file, named by the hash of everything it depends on. Entries are written aside, put on the
//! disk and renamed, so a half-written one is never seen; two processes that write the same entry both win. An entry
//! whose header, constants or length are not what was written is removed and made anew. What the files of an asset hold
//! is hashed once and remembered together with their size and time of change.

use std::{
    fs,
    io::{BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::store::packed::{About, PackedFile};
use ondine_graph::{
    Bytes, Context, Result, fail,
    file::{UNFINISHED, is_abandoned, write_named, write_whole},
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
    limit: Option<u64>,
}

/// One entry: the packed weights of an asset.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// Its name, which is a hash of what it depends on.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When a specialization last took it.
    pub used: SystemTime,
    /// What it holds, or why it is no use any more.
    pub about: Result<About, String>,
}

/// How old a file under way must be for its writer to have come to the lock.
const FRESH: Duration = Duration::from_secs(2);

/// How much of both ends of a part of the program tells it from others.
const ENDS: usize = 4096;

/// Something in the program that places in it are told from, which differ from run to run.
static LANDMARK: [u8; 1] = [0];

const EXTENSION: &str = "packed";
const MEMO: &str = "hash";
/// What is left of a disk for others.
const SPARED: u64 = 1 << 30;

/// How much a cache may hold that holds `held` bytes of a disk with `free` more.
fn room(limit: u64, held: u64, free: u64) -> u64 {
    limit.min(held.saturating_add(free).saturating_sub(SPARED))
}

/// The file of the limit that [`Cache::set_limit`] keeps, in bytes.
const LIMIT: &str = "limit";

/// What a file was when its contents were hashed.
#[derive(Serialize, Deserialize, PartialEq)]
struct Memo {
    path: PathBuf,
    len: u64,
    modified_ns: u128,
    hash: String,
}

impl Cache {
    /// The limit unless [`Cache::set_limit`] has set another: 20 GiB.
    pub const DEFAULT_LIMIT: u64 = 20 << 30;

    /// A cache in `folder`, which is made when the first entry is written.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), limit: None }
    }

    /// The same cache with another limit on the total size of its entries, in bytes, for this process.
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Where the entries are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The limit on the total size of the entries, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        let kept = || fs::read_to_string(self.folder.join(LIMIT)).ok()?.trim().parse().ok();
        self.limit.or_else(kept).unwrap_or(Self::DEFAULT_LIMIT)
    }

    /// Keeps a limit in the folder, for every process from now on, and removes what exceeds it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_limit(&self, limit: u64) -> Result<()> {
        fs::create_dir_all(&self.folder).at(|| self.folder.display().to_string())?;
        write_whole(&self.folder.join(LIMIT), |file| Ok(writeln!(file, "{limit}")?))?;
        self.evict(0);
        Ok(())
    }

    /// All entries, the one used last first.
    #[must_use]
    pub fn entries(&self) -> Vec<CacheEntry> {
        let mut entries: Vec<_> = self.files(EXTENSION).filter_map(CacheEntry::of).collect();
        entries.sort_by(|a, b| (b.used, &a.name).cmp(&(a.used, &b.name)));
        entries
    }

    /// Removes an entry; a process that has it mapped keeps it until it ends.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, entry: &CacheEntry) -> Result<()> {
        match fs::remove_file(&entry.path) {
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.at(|| entry.path.display().to_string()),
        }
    }

    /// Removes everything: entries, hashes, what other processes that are gone left, and the folder, unless it keeps a
    /// limit. What somebody is writing at the moment stays.
    ///
    /// # Errors
    /// If an entry cannot be removed.
    pub fn clear(&self) -> Result<()> {
        self.entries().iter().try_for_each(|entry| self.remove(entry))?;
        let left = self.files(UNFINISHED).filter(|path| is_abandoned(path, Duration::ZERO)).chain(self.files(MEMO));
        for path in left.collect::<Vec<_>>() {
            // Somebody else may have removed it meanwhile.
            let _ = fs::remove_file(path);
        }
        // It stays where something is in it.
        let _ = fs::remove_dir(&self.folder);
        Ok(())
    }

    /// Removes what killed processes left, and hashes of files that are gone.
    pub fn sweep(&self) {
        let gone = |path: &PathBuf| {
            let memo = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Memo>(&text).ok());
            memo.is_none_or(|memo| !memo.path.exists())
        };
        let left = self.files(UNFINISHED).filter(|path| is_abandoned(path, FRESH)).chain(self.files(MEMO).filter(gone));
        for path in left.collect::<Vec<_>>() {
            // Somebody else may have removed it meanwhile.
            let _ = fs::remove_file(path);
        }
    }

    /// Removes what is remembered of files too, and the folder if nothing is left in it: with the entries removed, and
    /// no limit set, all that a cache ever wrote.
    pub fn forget(&self) {
        self.sweep();
        for path in self.files(MEMO).collect::<Vec<_>>() {
            // Somebody else may have removed it meanwhile.
            let _ = fs::remove_file(path);
        }
        // It stays if it holds anything.
        let _ = fs::remove_dir(&self.folder);
    }

    fn files(&self, extension: &'static str) -> impl Iterator<Item = PathBuf> {
        let listing = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        listing.filter(move |path| path.extension().is_some_and(|found| found == extension))
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    /// The entry `key`, mapped, if it is there and whole; one that is not is removed.
    #[must_use]
    pub(crate) fn get(&self, key: Digest) -> Option<(PackedFile, Bytes)> {
        let path = self.path(key);
        let bytes = Bytes::map(&path).ok()?;
        let Ok(file) = PackedFile::read(&bytes) else {
            // If it cannot be removed it is written over.
            let _ = fs::remove_file(&path);
            return None;
        };
        touch(&path);
        Some((file, bytes))
    }

    /// Writes the entry `key` of `len` bytes and maps it; older entries make room.
    pub(crate) fn put(
        &self,
        key: Digest,
        len: u64,
        write: impl FnOnce(&mut BufWriter<fs::File>) -> Result<()>,
    ) -> Result<(PackedFile, Bytes)> {
        let limit = self.limit();
        if len > limit {
            fail!(Io, "{len} bytes are more than the cache may hold ({limit})");
        }
        fs::create_dir_all(&self.folder).at(|| self.folder.display().to_string())?;
        if !self.evict(len) {
            fail!(Io, "{len} bytes would leave less than 1 GiB of the disk free");
        }
        let path = self.path(key);
        write_named(&path, write)?;
        touch(&path);
        let bytes = Bytes::map(&path)?;
        Ok((PackedFile::read(&bytes)?, bytes))
    }

    /// Removes what nobody needs, and the entries used longest ago until `coming` more bytes fit the limit and the
    /// disk. True if they do then.
    fn evict(&self, coming: u64) -> bool {
        self.sweep();
        let mut entries = Vec::new();
        for path in self.files(EXTENSION) {
            let Ok(meta) = path.metadata() else { continue };
            entries.push((meta.modified().unwrap_or(UNIX_EPOCH), meta.len(), path));
        }
        entries.sort();
        let held = entries.iter().map(|entry| entry.1).sum::<u64>();
        let free = fs4::available_space(&self.folder).unwrap_or(u64::MAX);
        let room = room(self.limit(), held, free);
        let mut total = held.saturating_add(coming);
        for (_, len, path) in entries {
            if total <= room {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= len;
            }
        }
        total <= room
    }

    /// The hash of what `bytes` holds; for an unchanged file or program it is remembered from the last time.
    pub(crate) fn content_hash(&self, bytes: &Bytes) -> blake3::Hash {
        let Some((memo_path, mut memo)) = self.memo(bytes) else {
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
        let _ = write_whole(&memo_path, |file| Ok(file.write_all(&text)?));
        hash
    }

    /// Where the hash of bytes is remembered, and what the file that holds them is now.
    fn memo(&self, bytes: &Bytes) -> Option<(PathBuf, Memo)> {
        let program = || bytes.is_static().then(std::env::current_exe)?.ok();
        let path = bytes.file().map(Path::to_path_buf).or_else(program)?.canonicalize().ok()?;
        let meta = path.metadata().ok()?;
        let modified_ns = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let mut name = blake3::Hasher::new();
        name.update(path.as_os_str().as_encoded_bytes());
        if bytes.is_static() {
            // One of many parts of the program: told by its place and by its ends.
            let place = bytes.as_ptr().addr().wrapping_sub(LANDMARK.as_ptr().addr());
            name.update(format!(" {place} {}", bytes.len()).as_bytes());
            name.update(&bytes[..bytes.len().min(ENDS)]).update(&bytes[bytes.len().saturating_sub(ENDS)..]);
        }
        let name = name.finalize().to_hex();
        let memo = Memo { path, len: meta.len(), modified_ns, hash: String::new() };
        Some((self.folder.join(format!("{name}.{MEMO}")), memo))
    }
}

impl CacheEntry {
    fn of(path: PathBuf) -> Option<Self> {
        let meta = path.metadata().ok()?;
        let name = path.file_stem()?.to_str()?.to_owned();
        let about = Bytes::map(&path).and_then(|bytes| PackedFile::read(&bytes)).map(|file| file.header.about);
        let (bytes, used) = (meta.len(), meta.modified().unwrap_or(UNIX_EPOCH));
        Some(Self { name, path, bytes, used, about: about.map_err(|error| error.to_string()) })
    }

    /// Reads the whole entry and compares it with the hash that was written with it.
    ///
    /// # Errors
    /// If it is not what was written, or cannot be read.
    pub fn check(&self) -> Result<()> {
        let bytes = Bytes::map(&self.path)?;
        PackedFile::read(&bytes).and_then(|file| file.check()).at(|| self.path.display().to_string())
    }
}

/// Makes now the time of change, which is the time of last use; failing to do so only ages the entry. A file system's
/// own clock may lag behind by a few milliseconds, and then a new entry would look older than one just used.
fn touch(path: &Path) {
    if let Ok(file) = fs::File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        options::Precision,
        store::packed::{Front, Header},
    };

    fn digest(name: &str) -> Digest {
        Digest(blake3::hash(name.as_bytes()))
    }

    fn put(cache: &Cache, name: &str) -> Result<u64> {
        let about = About {
            model: name.to_owned(),
            functions: vec!["main".to_owned()],
            precision: Precision::F32,
            tier: "generic".to_owned(),
            engine: "0".to_owned(),
        };
        let front = Front::new(Header::new(about, &[]), &[]).unwrap();
        let len = front.file_bytes(0);
        let result = cache.put(digest(name), len, |file| front.write(file, |_| Ok(())));
        std::thread::sleep(Duration::from_millis(10));
        result.map(|_| len)
    }

    fn models(cache: &Cache) -> Vec<String> {
        cache.entries().into_iter().map(|entry| entry.about.map_or("broken".to_owned(), |about| about.model)).collect()
    }

    #[test]
    fn a_cache_does_not_fill_the_disk() {
        let gib = |count: u64| count << 30;
        assert_eq!(room(gib(20), gib(3), gib(100)), gib(20));
        assert_eq!(room(gib(20), gib(3), gib(5)), gib(7));
        assert_eq!(room(gib(20), gib(3), 0), gib(2));
        assert_eq!(room(gib(20), 0, 0), 0);
        assert_eq!(room(gib(20), gib(3), u64::MAX), gib(20));
    }

    #[test]
    fn the_entry_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let len = put(&cache, "a").unwrap();
        cache.set_limit(5 * len / 2).unwrap();
        put(&cache, "b").unwrap();
        assert!(cache.get(digest("a")).is_some());
        put(&cache, "c").unwrap();
        assert_eq!(models(&cache), ["c", "a"]);
        // Whoever opens the folder next has the same limit.
        let cache = Cache::new(folder.path());
        assert_eq!(cache.limit(), 5 * len / 2);
        cache.set_limit(len).unwrap();
        assert_eq!(models(&cache), ["c"]);
        cache.set_limit(len - 1).unwrap();
        assert!(put(&cache, "d").is_err() && models(&cache).is_empty());
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let result = cache.put(digest("a"), 9, |file| {
            file.write_all(b"half")?;
            ondine_graph::fail!(Io, "no space left")
        });
        assert!(result.is_err() && cache.get(digest("a")).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_processes_left_goes_and_what_is_under_way_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let old = SystemTime::now() - Duration::from_secs(60);
        let part = |name: &str| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
            file
        };
        drop(part(".left.1-0.part"));
        let under_way = part(".other.2-0.part");
        under_way.try_lock().unwrap();
        put(&cache, "a").unwrap();
        let names: Vec<_> = cache.files(UNFINISHED).map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, [".other.2-0.part"]);
    }

    #[test]
    fn clearing_leaves_what_others_write_and_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        put(&cache, "a").unwrap();
        let weights = folder.path().join("weights");
        fs::write(&weights, "x").unwrap();
        cache.content_hash(&Bytes::map(&weights).unwrap());
        let part = |name: &str| fs::File::create(cache.folder().join(name)).unwrap();
        drop(part(".left.1-0.part"));
        let under_way = part(".other.2-0.part");
        under_way.try_lock().unwrap();
        cache.clear().unwrap();
        let names =
            || -> Vec<_> { fs::read_dir(cache.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        assert_eq!(names(), [".other.2-0.part"]);
        drop(under_way);
        cache.set_limit(100).unwrap();
        cache.clear().unwrap();
        assert_eq!((names(), cache.limit()), (vec![LIMIT.into()], 100));
        fs::remove_file(cache.folder().join(LIMIT)).unwrap();
        cache.clear().unwrap();
        assert!(!cache.folder().exists());
        cache.clear().unwrap();
    }

    #[test]
    fn damaged_entries_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        put(&cache, "a").unwrap();
        let path = cache.path(digest("a"));
        let whole = fs::read(&path).unwrap();
        for at in [0, 8, 20, 60, 100] {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, flipped).unwrap();
            assert_eq!(models(&cache), ["broken"], "{at}");
            assert!(cache.get(digest("a")).is_none() && !path.exists(), "{at}");
        }
        for len in [0, 7, 30, 500, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(cache.get(digest("a")).is_none(), "{len}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(cache.get(digest("a")).is_some() && cache.entries()[0].check().is_ok());
    }

    #[test]
    fn parts_of_the_program_are_told_apart() {
        static PARTS: [u8; 20_000] = [7; 20_000];
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        for (from, to) in [(0, 10_000), (0, 10_000), (10_000, 20_000), (0, 20_000), (0, 10)] {
            let bytes = Bytes::from_static(&PARTS[from..to]);
            assert_eq!(cache.content_hash(&bytes), blake3::hash(&bytes));
        }
        assert_eq!(cache.files(MEMO).count(), 4);
        cache.sweep();
        assert_eq!(cache.files(MEMO).count(), 4, "the program is still there");
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
        fs::remove_file(&path).unwrap();
        cache.sweep();
        assert_eq!(cache.files(MEMO).count(), 0);
    }
}
