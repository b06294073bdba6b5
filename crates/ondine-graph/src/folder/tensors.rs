//! Safetensors files whose tensors all begin at multiples of a cache line.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::{
    bytes::Bytes,
    dtype::DType,
    error::{Error, ErrorKind, Result, fail},
    ndarray::{NDArray, element_count},
    weights::{Tensor, Weights},
};

const ALIGNMENT: usize = 64;

/// What names of tensors begin with that only fill up: the format allows no gaps.
const FILLER: &str = "#filler.";

/// A tensor to write.
pub struct Piece<'a> {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its sizes.
    pub shape: &'a [usize],
    /// Its elements, row-major and little-endian.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// A whole array under a name.
    #[must_use]
    pub fn of(name: String, array: &'a NDArray) -> Self {
        Self { name, dtype: array.dtype(), shape: array.shape(), bytes: array.bytes() }
    }
}

/// Writes a safetensors file of `pieces`; those that fill whole lines come first, so that few fillers are needed.
pub fn write(mut pieces: Vec<Piece<'_>>, out: &mut impl Write) -> Result<()> {
    pieces.sort_by_key(|piece| !piece.bytes.len().is_multiple_of(ALIGNMENT));
    let mut header = Map::new();
    let mut position = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let end = position + piece.bytes.len();
        let entry = json!({"dtype": piece.dtype.name(), "shape": piece.shape, "data_offsets": [position, end]});
        header.insert(piece.name.clone(), entry);
        position = end.next_multiple_of(ALIGNMENT);
        if position > end {
            let entry = json!({"dtype": "U8", "shape": [position - end], "data_offsets": [end, position]});
            header.insert(format!("{FILLER}{index}"), entry);
        }
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
    header.resize((header.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for piece in &pieces {
        out.write_all(piece.bytes)?;
        out.write_all(&[0; ALIGNMENT][..piece.bytes.len().next_multiple_of(ALIGNMENT) - piece.bytes.len()])?;
    }
    Ok(())
}

/// The tensors of a file without what only fills up.
pub fn read(name: &str, bytes: &Bytes) -> Result<Weights> {
    let mut weights = Weights::from_safetensors(name, bytes)?;
    weights.retain(|path| !path.starts_with(FILLER));
    Ok(weights)
}

/// The arrays `0`, `1`, ... of a file.
pub fn read_arrays(name: &str, bytes: &Bytes) -> Result<Vec<NDArray>> {
    let weights = read(name, bytes)?;
    (0..weights.iter().count()).map(|index| weights.array(&index.to_string())).collect()
}

/// A tensor whose bytes are a range of another's.
#[derive(Debug, Serialize, Deserialize)]
pub struct View {
    of: Arc<str>,
    /// In bytes.
    offset: usize,
    dtype: DType,
    shape: Vec<usize>,
}

/// Tells the tensors apart into those that have bytes of their own and those that share others'.
pub fn shared(weights: &Weights) -> (Vec<Piece<'_>>, BTreeMap<Arc<str>, View>) {
    let mut tensors: Vec<(usize, &Arc<str>, &Tensor)> =
        weights.iter().map(|(path, tensor)| (tensor.bytes.as_ptr().addr(), path, tensor)).collect();
    // A range comes before those inside it; of equal ones the first by name is the owner.
    tensors.sort_by(|a, b| (a.0, b.2.bytes.len(), a.1).cmp(&(b.0, a.2.bytes.len(), b.1)));
    let (mut owners, mut views) = (Vec::new(), BTreeMap::new());
    let mut last: Option<(usize, &Arc<str>, usize)> = None;
    for (address, path, tensor) in tensors {
        let len = tensor.bytes.len();
        match last {
            Some((start, owner, whole)) if len > 0 && address - start + len <= whole => {
                let (of, offset, shape) = (owner.clone(), address - start, tensor.shape.clone());
                views.insert(path.clone(), View { of, offset, dtype: tensor.dtype, shape });
            }
            _ => {
                owners.push(Piece {
                    name: path.to_string(),
                    dtype: tensor.dtype,
                    shape: &tensor.shape,
                    bytes: &tensor.bytes,
                });
                last = Some((address, path, len)).filter(|_| len > 0).or(last);
            }
        }
    }
    owners.sort_by(|a, b| a.name.cmp(&b.name));
    (owners, views)
}

/// Adds tensors that share the bytes of others.
pub fn restore(weights: &mut Weights, views: BTreeMap<Arc<str>, View>) -> Result<()> {
    let mut tensors = Vec::with_capacity(views.len());
    for (path, view) in views {
        let Some(owner) = weights.get(&view.of) else {
            fail!(Missing, "`{path}` is part of `{}`, which is missing", view.of)
        };
        let len = element_count(&view.shape).and_then(|count| count.checked_mul(view.dtype.size()));
        let Some(bytes) = len.and_then(|len| owner.bytes.slice(view.offset, len)) else {
            fail!(Format, "`{path}` of shape {:?} reaches beyond `{}`", view.shape, view.of);
        };
        tensors.push((path, Tensor { dtype: view.dtype, shape: view.shape, bytes, file: owner.file.clone() }));
    }
    for (path, tensor) in tensors {
        if weights.get(&path).is_some() {
            fail!(Format, "tensor `{path}` is there twice");
        }
        weights.insert(&path, tensor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(bytes: &Bytes, start: usize, count: usize) -> Tensor {
        let bytes = bytes.slice(start, 4 * count).unwrap();
        Tensor { dtype: DType::F32, shape: vec![count], bytes, file: "memory".into() }
    }

    #[test]
    fn tensors_are_aligned_and_shared_bytes_are_written_once() {
        let numbers: Vec<u8> = (0..100_u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let all = Bytes::from(&*numbers);
        let mut weights = Weights::default();
        for (path, start, count) in
            [("whole", 0, 50), ("part", 16, 3), ("same", 0, 50), ("odd", 200, 7), ("none", 0, 0)]
        {
            weights.insert(path, tensor(&all, start, count));
        }
        weights.insert("lines", tensor(&all, 236, 16));
        let (owners, views) = shared(&weights);
        assert_eq!(owners.iter().map(|piece| &*piece.name).collect::<Vec<_>>(), ["lines", "none", "odd", "same"]);
        let mut file = Vec::new();
        write(owners, &mut file).unwrap();
        let mut read = read("x", &Bytes::from(&*file)).unwrap();
        restore(&mut read, views).unwrap();
        for (path, tensor) in weights.iter() {
            let found = read.get(path).unwrap();
            assert_eq!((&found.shape, &*found.bytes), (&tensor.shape, &*tensor.bytes), "{path}");
            let aligned = found.bytes.as_ptr().addr().is_multiple_of(ALIGNMENT);
            assert!(aligned || &**path == "part", "{path}");
        }
        assert_eq!(read.iter().count(), weights.iter().count());
        assert!(file.len() < 1200, "{}", file.len());
    }

    #[test]
    fn views_beyond_their_owner_are_refused() {
        let mut weights = Weights::default();
        weights.insert("w", tensor(&Bytes::from(&[0; 64][..]), 0, 16));
        for (of, offset, count) in [("w", 64, 1), ("w", usize::MAX, 1), ("w", 0, usize::MAX), ("v", 0, 1)] {
            let view = View { of: of.into(), offset, dtype: DType::F32, shape: vec![count] };
            assert!(restore(&mut weights.clone(), BTreeMap::from([("part".into(), view)])).is_err());
        }
    }
}
