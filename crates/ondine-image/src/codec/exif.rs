//! Exif data, as far as pictures of these tools have it: the infotext as user comment.

use super::{PARAMETERS, Picture};

/// Directories begin behind the header; each has one entry of 12 bytes, a count before it and a link after it.
const HEADER: u32 = 8;
const DIRECTORY: u32 = 2 + 12 + 4;
/// The tag of the directory that the user comment is in, and its own.
const EXIF_POINTER: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;

/// The infotext as Exif data: a TIFF header, and in its Exif directory the user comment, in UTF-16 or, where that takes
/// more than `most` bytes, in UTF-8, which takes half of it for most texts.
pub(super) fn of(picture: &Picture, most: usize) -> Option<Vec<u8>> {
    let text = picture.text(PARAMETERS)?;
    let wide = b"UNICODE\0".iter().copied().chain(text.encode_utf16().flat_map(u16::to_be_bytes));
    let mut comment: Vec<u8> = wide.collect();
    if comment.len() + (HEADER + 2 * DIRECTORY) as usize > most {
        let code: &[u8; 8] = if text.is_ascii() { b"ASCII\0\0\0" } else { &[0; 8] };
        comment = [code, text.as_bytes()].concat();
    }
    let directory = |tag: u16, kind: u16, count: u32, value: u32| {
        let entry = [tag.to_be_bytes(), kind.to_be_bytes()].concat();
        [&[0, 1], &entry[..], &count.to_be_bytes(), &value.to_be_bytes(), &[0; 4]].concat()
    };
    let (long, undefined) = (4, 7);
    let main = directory(EXIF_POINTER, long, 1, HEADER + DIRECTORY);
    let exif = directory(USER_COMMENT, undefined, u32::try_from(comment.len()).ok()?, HEADER + 2 * DIRECTORY);
    Some([b"MM\0*".as_slice(), &HEADER.to_be_bytes(), &main, &exif, &comment].concat())
}

/// The user comment of Exif data, if there is one.
pub(super) fn comment(exif: &[u8]) -> Option<String> {
    let data = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let tiff = Tiff { data, big: data.starts_with(b"MM") };
    let main = tiff.long(4)?;
    let directory = tiff.entry(main, EXIF_POINTER).and_then(|entry| tiff.long(entry + 8))?;
    let entry = tiff.entry(directory, USER_COMMENT)?;
    let (count, at) = (tiff.long(entry + 4)?, tiff.long(entry + 8)?);
    let comment = data.get(at..at.checked_add(count)?)?;
    let Some(text) = comment.strip_prefix(b"UNICODE\0") else {
        let plain = comment.strip_prefix(b"ASCII\0\0\0").or_else(|| comment.strip_prefix(&[0; 8])).unwrap_or(comment);
        return Some(String::from_utf8_lossy(plain).trim_end_matches('\0').to_owned());
    };
    // Some programs write it in the order of the file, some always with the high byte first: a text has few letters
    // whose number ends in zero.
    let read = |big: bool| -> String {
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        String::from_utf16_lossy(&text.chunks_exact(2).map(unit).collect::<Vec<_>>())
    };
    let plain = |text: &str| text.chars().filter(char::is_ascii).count();
    let (big, little) = (read(true), read(false));
    Some(if plain(&big) >= plain(&little) { big } else { little })
}

/// Numbers and directories of a TIFF file.
struct Tiff<'a> {
    data: &'a [u8],
    big: bool,
}

impl Tiff<'_> {
    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.data.get(at..)?.first_chunk().copied()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let bytes = self.data.get(at..)?.first_chunk().copied()?;
        usize::try_from(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }).ok()
    }

    /// Where the entry of a tag stands in the directory at `at`.
    fn entry(&self, at: usize, tag: u16) -> Option<usize> {
        let count = usize::from(self.short(at)?);
        (0..count).map(|i| at + 2 + 12 * i).find(|&entry| self.short(entry) == Some(tag))
    }
}
