//! Zip files whose entries are stored, so that tensors are read in place: what PyTorch saves, and DDUF.

use std::collections::BTreeMap;

use crate::{
    bytes::Bytes,
    error::{Result, fail},
    weights::seal::{Seal, Sum},
};

/// The entries of a zip file by their path.
#[derive(Debug)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// The bytes of an entry, and their sum if the writer took one.
#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    sum: Option<Sum>,
}

/// Marks the end of the directory, 22 bytes and a comment.
const END: &[u8; 4] = b"PK\x05\x06";
/// Points to the 64-bit end of the directory, 20 bytes before the end.
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const END64: &[u8; 4] = b"PK\x06\x06";
const RECORD: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";

/// The most entries that are read; real archives have one per tensor.
const MAX_ENTRIES: u64 = 1 << 20;

impl Archive {
    /// Reads the directory of a zip file that PyTorch wrote, where everything lies in one folder, named like the file
    /// was then: paths are those inside it.
    ///
    /// # Errors
    /// As [`Archive::read_whole`], and if two folders hold the same path.
    pub fn read(bytes: &Bytes) -> Result<Self> {
        Self::read_named(bytes, |name| name.split_once('/').map_or(name, |(_, inside)| inside))
    }

    /// Reads the directory of a zip file; the entries are ranges of `bytes`.
    ///
    /// # Errors
    /// If the file is no whole zip file, or an entry is compressed, encrypted, doubled or outside the file.
    pub fn read_whole(bytes: &Bytes) -> Result<Self> {
        Self::read_named(bytes, |name| name)
    }

    fn read_named(bytes: &Bytes, path: impl Fn(&str) -> &str) -> Result<Self> {
        let (mut at, count) = directory(bytes)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let record = Fields { bytes, start: at };
            if record.get(0, 4) != Some(RECORD) {
                fail!(Format, "the directory of the archive is damaged at byte {at}; copy or write it again");
            }
            let (name_len, extra_len, comment_len) = (record.u16(28)?, record.u16(30)?, record.u16(32)?);
            let Some(name) = record.get(46, name_len) else { fail!(Format, "the directory of the archive is cut off") };
            let name = String::from_utf8_lossy(name).into_owned();
            let entry = entry(bytes, &record, name_len, extra_len, &name)?;
            if entries.insert(path(&name).to_owned(), entry).is_some() {
                fail!(Format, "the archive holds `{name}` twice");
            }
            at = at.saturating_add(46 + name_len + extra_len + comment_len);
        }
        Ok(Self { entries })
    }

    /// The entry at `path`, if there is one, as it is: whoever has read it may look at its [`Archive::seal`].
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Bytes> {
        self.entries.get(path).map(|entry| &entry.bytes)
    }

    /// The entry at `path`, read whole, if there is one.
    ///
    /// # Errors
    /// If the bytes are not those that were written.
    pub fn read_entry(&self, path: &str) -> Result<Option<&Bytes>> {
        self.seal(path, path).map_or(Ok(()), |seal| seal.check())?;
        Ok(self.get(path))
    }

    /// The seal on the entry at `path`, which messages call `place`, if it has one.
    #[must_use]
    pub fn seal(&self, path: &str, place: &str) -> Option<Seal> {
        let entry = self.entries.get(path)?;
        Some(Seal::new(place, entry.bytes.clone(), entry.sum?))
    }

    /// The entry at `path`.
    ///
    /// # Errors
    /// If there is none.
    pub fn expect(&self, path: &str) -> Result<&Bytes> {
        match self.get(path) {
            Some(bytes) => Ok(bytes),
            None => fail!(Missing, "the archive has no `{path}`; is it from torch.export.save?"),
        }
    }

    /// The paths of all entries, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

/// Where the directory begins, and how many records it has.
fn directory(bytes: &Bytes) -> Result<(usize, u64)> {
    let first = bytes.len().saturating_sub(22 + usize::from(u16::MAX));
    let tail = &bytes[first..];
    let Some(end) = tail.windows(22).rposition(|window| window.starts_with(END)) else {
        fail!(Format, "no zip archive, or not all of it ({} bytes); copy or export it again", bytes.len());
    };
    let end = first + end;
    let fields = Fields { bytes, start: end };
    let (count, start) = (fields.u16(10)? as u64, fields.u32(16)?);
    let locator = Fields { bytes, start: end.saturating_sub(20) };
    let (start, count) = if end >= 20 && locator.get(0, 4) == Some(LOCATOR) {
        let wide = Fields { bytes, start: index(locator.u64(8)?)? };
        if wide.get(0, 4) != Some(END64) {
            fail!(Format, "the end of the archive is damaged; export it again");
        }
        (wide.u64(48)?, wide.u64(32)?)
    } else {
        (start, count)
    };
    if count > MAX_ENTRIES {
        fail!(Format, "an archive of {count} entries");
    }
    Ok((index(start)?, count))
}

/// The entry that a record of the directory describes.
fn entry(bytes: &Bytes, record: &Fields<'_>, name_len: usize, extra_len: usize, name: &str) -> Result<Entry> {
    // None was taken where it is 0, as good as always.
    let sum = u32::try_from(record.u32(16)?).ok().filter(|&sum| sum != 0).map(Sum::Crc32);
    if record.u16(10)? != 0 {
        fail!(Unsupported, "`{name}` is compressed, and is read only as it is; write it again without compression");
    }
    if record.u16(8)? & 1 != 0 {
        fail!(Unsupported, "`{name}` is encrypted");
    }
    let (mut packed, mut size, mut local) = (record.u32(20)?, record.u32(24)?, record.u32(42)?);
    let mut extra = Fields { bytes, start: record.start.saturating_add(46 + name_len) };
    let end = extra.start.saturating_add(extra_len);
    while extra.start.saturating_add(4) <= end {
        let (tag, len) = (extra.u16(0)?, extra.u16(2)?);
        if tag == 1 {
            // What does not fit 32 bits, in this order.
            let mut at = 4;
            for value in [&mut size, &mut packed, &mut local] {
                if *value == u64::from(u32::MAX) {
                    *value = extra.u64(at)?;
                    at += 8;
                }
            }
        }
        extra.start = extra.start.saturating_add(4 + len);
    }
    if packed != size {
        fail!(Format, "`{name}` is stored but has two sizes, {packed} and {size}");
    }
    let header = Fields { bytes, start: index(local)? };
    if header.get(0, 4) != Some(LOCAL) {
        fail!(Format, "`{name}` is not where the archive says; copy or export it again");
    }
    let start = header.start.saturating_add(30 + header.u16(26)? + header.u16(28)?);
    match bytes.slice(start, index(size)?) {
        Some(bytes) => Ok(Entry { bytes, sum }),
        None => fail!(Format, "`{name}` of {size} bytes reaches beyond the end of the file; copy it again"),
    }
}

fn index(value: u64) -> Result<usize> {
    match usize::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => fail!(Format, "the archive is too large for this machine"),
    }
}

/// Little-endian numbers at offsets from `start`.
struct Fields<'a> {
    bytes: &'a Bytes,
    start: usize,
}

impl<'a> Fields<'a> {
    fn get(&self, offset: usize, len: usize) -> Option<&'a [u8]> {
        let start = self.start.checked_add(offset)?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    fn number<const N: usize>(&self, offset: usize) -> Result<[u8; N]> {
        match self.get(offset, N).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => Ok(bytes),
            None => fail!(Format, "the archive is cut off; copy or export it again"),
        }
    }

    fn u16(&self, offset: usize) -> Result<usize> {
        self.number(offset).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn u32(&self, offset: usize) -> Result<u64> {
        self.number(offset).map(|bytes| u64::from(u32::from_le_bytes(bytes)))
    }

    fn u64(&self, offset: usize) -> Result<u64> {
        self.number(offset).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stored zip file with these entries, aligned as torch aligns them.
    pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Bytes {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in entries {
            let (local, name) = (file.len() as u32, format!("m/{name}"));
            let size = (data.len() as u32).to_le_bytes();
            let padding = (64 - (file.len() + 30 + name.len()) % 64) % 64;
            let head = [LOCAL.as_slice(), &[0; 14], &size, &size, &(name.len() as u16).to_le_bytes()].concat();
            file.extend(
                [&head, (padding as u16).to_le_bytes().as_slice(), name.as_bytes(), &vec![0; padding]].concat(),
            );
            file.extend_from_slice(data);
            let record = [RECORD.as_slice(), &[0; 16], &size, &size, &(name.len() as u16).to_le_bytes(), &[0; 12]];
            directory.extend([record.concat().as_slice(), &local.to_le_bytes(), name.as_bytes()].concat());
        }
        let (start, count) = (file.len() as u32, (entries.len() as u16).to_le_bytes());
        let len = (directory.len() as u32).to_le_bytes();
        let end = [END.as_slice(), &[0; 4], &count, &count, &len, &start.to_le_bytes(), &[0; 2]].concat();
        Bytes::from([file, directory, end].concat().as_slice())
    }

    #[test]
    fn entries_are_found_where_they_lie() {
        let archive = Archive::read(&zip(&[("a", b"hello"), ("data/b", &[7; 100]), ("empty", b"")])).unwrap();
        assert_eq!(&**archive.expect("a").unwrap(), b"hello");
        assert_eq!(&**archive.expect("data/b").unwrap(), [7; 100]);
        assert_eq!(archive.paths().collect::<Vec<_>>(), ["a", "data/b", "empty"]);
        assert!(archive.expect("c").is_err());
    }

    #[test]
    fn altered_entries_are_told() {
        let mut bytes = zip(&[("a", b"hello")]).to_vec();
        let record = bytes.windows(4).position(|window| window == RECORD).unwrap();
        bytes[record + 16..record + 20].copy_from_slice(&0x3610_A686_u32.to_le_bytes());
        let read =
            |bytes: &[u8]| Archive::read(&Bytes::from(bytes)).unwrap().read_entry("a").map(|entry| entry.is_some());
        assert!(read(&bytes).unwrap());
        let at = bytes.windows(5).position(|window| window == b"hello").unwrap();
        bytes[at] ^= 1;
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.starts_with("a: the bytes are not those that were written"), "{error}");
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let whole = zip(&[("a", &[1; 64]), ("b", &[2; 64])]);
        for len in 0..whole.len() {
            assert!(Archive::read(&whole.slice(0, len).unwrap()).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(at in 0_usize..400, value in any::<u8>()) {
            let mut bytes = zip(&[("a", &[1; 64]), ("b", &[2; 64])]).to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Archive::read(&Bytes::from(bytes.as_slice()));
        }
    }
}
