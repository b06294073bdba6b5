//! A built file (`Specialized::save`) as an input of three parts: header, constants, packed weights. Lengths and hashes
//! are made right when it is written.

use serde_json::{Map, Value, json};

use crate::bundle;

const MAGIC_BYTES: usize = 8;
const HASH: usize = 32;
/// Constants begin at a multiple of this, packed weights at one of [`PAGE`].
const LINE: usize = 64;
const PAGE: usize = 4096;
/// Files are not made larger than this, whatever their header says.
const MAX_PACKED: usize = 1 << 22;

/// The parts of a built file as an input; none if it is none.
#[must_use]
pub fn parts(file: &[u8]) -> Option<Vec<u8>> {
    let length = file.get(MAGIC_BYTES..)?.first_chunk().copied().map(u64::from_le_bytes)?;
    let begin = MAGIC_BYTES + 8 + HASH;
    let header = file.get(begin..)?.get(..usize::try_from(length).ok()?)?;
    let about: Value = serde_json::from_slice(header).ok()?;
    let constants = (begin + header.len()).next_multiple_of(LINE);
    let len = usize::try_from(about.get("constants_bytes")?.as_u64()?).ok()?;
    let packed = (constants + len).next_multiple_of(PAGE);
    let packed = file.get(packed..file.len().checked_sub(HASH)?)?;
    Some(bundle::join(&[&file[..MAGIC_BYTES], header, file.get(constants..)?.get(..len)?, packed]))
}

/// The file that an input describes.
#[must_use]
pub fn file(data: &[u8]) -> Vec<u8> {
    let [magic, header, constants, packed] = bundle::split(data);
    let mut header = header.to_vec();
    let mut packed = packed.to_vec();
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(&header) {
        fields.insert("constants_bytes".to_owned(), json!(constants.len()));
        fields.insert("constants_hash".to_owned(), json!(blake3::hash(constants).to_hex().to_string()));
        if let Some(bytes) = packed_bytes(&fields).filter(|&bytes| bytes <= MAX_PACKED) {
            packed.resize(bytes, 0);
        }
        header = Value::Object(fields).to_string().into_bytes();
    }
    let mut file = magic.to_vec();
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(blake3::hash(&header).as_bytes());
    file.extend(&header);
    file.resize(file.len().next_multiple_of(LINE), 0);
    file.extend(constants);
    file.resize(file.len().next_multiple_of(PAGE), 0);
    file.extend(&packed);
    file.extend(blake3::hash(&packed).as_bytes());
    file
}

/// Where the last of the packed weights ends.
fn packed_bytes(header: &Map<String, Value>) -> Option<usize> {
    let Some(last) = header.get("entries")?.as_array()?.last() else { return Some(0) };
    let number = |key| usize::try_from(last.get(key)?.as_u64()?).ok();
    number("offset")?.checked_add(number("len")?)
}
