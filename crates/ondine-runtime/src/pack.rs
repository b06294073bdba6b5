//! Packing: the weights of an asset in the forms that a backend asked for.

use std::io::Write;

use ondine_graph::{AlignedBytes, Asset, Bytes, Context, Result, fail};

use crate::{
    backend::{Backend, Source},
    evaluate::weight_numbers,
    lowered::Entry,
};

/// Bytes of all packed weights.
pub(crate) fn total(entries: &[Entry]) -> usize {
    entries.last().map_or(0, |last| last.offset + last.len)
}

/// Packs all weights into memory.
///
/// # Errors
/// If a tensor of the checkpoint cannot be read or was altered, or there is no such memory.
pub(crate) fn pack_in_memory(asset: &Asset, entries: &[Entry], backend: &dyn Backend) -> Result<Bytes> {
    asset.weights().check_seals()?;
    let mut bytes = AlignedBytes::try_zeroed(total(entries))?;
    let all = bytes.as_mut_slice();
    for entry in entries {
        pack(asset, entry, &mut all[entry.offset..entry.offset + entry.len], backend)?;
    }
    Ok(bytes.into())
}

/// Writes packed weights one by one, so that only one at a time is in memory.
///
/// # Errors
/// As [`pack_in_memory`], and if they cannot be written.
pub(crate) fn write_packed(
    asset: &Asset,
    entries: &[Entry],
    backend: &dyn Backend,
    file: &mut impl Write,
) -> Result<()> {
    asset.weights().check_seals()?;
    let mut position = 0;
    let mut buffer = AlignedBytes::default();
    for entry in entries {
        file.write_all(&[0; 64][..entry.offset - position])?;
        buffer.resize(entry.len);
        // Packing skips what only fills up; a file must not depend on what came before.
        buffer.as_mut_slice().fill(0);
        pack(asset, entry, buffer.as_mut_slice(), backend)?;
        file.write_all(buffer.as_slice())?;
        position = entry.offset + entry.len;
    }
    Ok(())
}

/// A copy of packed weights with other numbers in some of them, by their paths.
///
/// # Errors
/// If one cannot be packed, or there is no such memory.
pub(crate) fn repacked(
    packed: &Bytes,
    entries: &[Entry],
    weights: &[(&str, &[f32])],
    backend: &dyn Backend,
) -> Result<Bytes> {
    let mut bytes = AlignedBytes::try_zeroed(packed.len())?;
    bytes.as_mut_slice().copy_from_slice(packed);
    for entry in entries {
        let Some((_, values)) = weights.iter().find(|(path, _)| *path == &*entry.path) else { continue };
        let out = &mut bytes.as_mut_slice()[entry.offset..entry.offset + entry.len];
        backend.pack(&entry.form, &entry.shape, &Source::Numbers(values), out)?;
    }
    Ok(bytes.into())
}

fn pack(asset: &Asset, entry: &Entry, out: &mut [u8], backend: &dyn Backend) -> Result<()> {
    let path = &entry.path;
    asset.check(path, &entry.shape)?;
    if backend.takes_codes(&entry.form) {
        match asset.weights().encoded(path)? {
            Some(encoded) => backend.pack(&entry.form, &entry.shape, &Source::Codes(&encoded), out).at(|| path)?,
            None => fail!(Format, "weight `{path}` has no codes"),
        }
    } else {
        let numbers = weight_numbers(asset, path)?;
        backend.pack(&entry.form, &entry.shape, &Source::Numbers(&numbers), out).at(|| path)?;
    }
    // The checkpoint is not read again: its pages need not stay.
    if let Some(tensor) = asset.weights().get(path) {
        tensor.bytes.forget();
    }
    Ok(())
}
