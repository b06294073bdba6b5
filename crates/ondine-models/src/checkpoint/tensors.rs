//! The tensors of a part: their shapes, and the names and forms that they have in diffusers.

use ondine_graph::{
    AlignedBytes, DType, Result, Tensor, Weights,
    encoding::{ENCODING, Levels, PARTS, SCALE},
    fail,
};
use serde_json::Value;

/// The shape of a tensor, if there is one with at least a dimension; of one in few bits that of its numbers.
pub(super) fn shape(weights: &Weights, path: &str) -> Option<Vec<usize>> {
    let stored = &weights.get(path)?.shape;
    let encoded = weights.encoding(path).ok().flatten();
    let shape = encoded.map_or_else(|| stored.clone(), |encoding| encoding.shape);
    (!shape.is_empty()).then_some(shape)
}

/// How beginnings of names change; the longest that fits counts.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// Names that begin with `from` begin with `to` instead.
    pub(super) fn prefix(&mut self, from: String, to: String) {
        self.0.push((from, to));
    }

    /// As [`Names::prefix`], for each pair.
    pub(super) fn prefixes(&mut self, pairs: &[(&str, &str)]) {
        self.0.extend(pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
    }

    /// Gives all tensors their new names.
    pub(super) fn apply(&mut self, weights: &mut Weights) -> Result<()> {
        // Sorted, the names that fit are neighbours of the place where a name would stand.
        self.0.sort();
        weights.rename(|name| self.found(name))
    }

    fn found(&self, name: &str) -> Option<String> {
        let end = self.0.partition_point(|(from, _)| &**from <= name);
        let (from, to) = self.0[..end].iter().rev().find(|(from, _)| name.starts_with(&**from))?;
        Some(format!("{to}{}", &name[from.len()..]))
    }
}

/// Drops sides of 1 behind the first two dimensions: a 1x1 convolution as the linear layer that it is.
pub(super) fn linear(weights: &mut Weights, path: &str) {
    let Some(shape) = shape(weights, path).filter(|shape| matches!(shape[..], [_, _, 1, 1] | [_, _, 1])) else {
        return;
    };
    let Some(tensor) = weights.get(path).cloned() else { return };
    let header = format!("{path}{ENCODING}");
    if let Some(found) = weights.get(&header) {
        let header_of_matrix = with_shape(found, &shape[..2]);
        weights.insert(&header, header_of_matrix);
    }
    // What is encoded may be stored as rows of bytes.
    let stored = tensor.shape[..2.min(tensor.shape.len())].to_vec();
    weights.insert(path, Tensor { shape: stored, ..tensor });
}

/// The numbers of a tensor in single precision, for those that are rewritten.
fn numbers(weights: &Weights, path: &str) -> Result<(Vec<f32>, Vec<usize>)> {
    match shape(weights, path) {
        Some(shape) => Ok((weights.to_f32(path)?.into_owned(), shape)),
        None => fail!(Missing, "tensor `{path}` is missing"),
    }
}

fn insert(weights: &mut Weights, path: &str, file: &std::sync::Arc<str>, shape: &[usize], values: &[f32]) {
    let mut bytes = AlignedBytes::zeroed(4 * values.len());
    for (out, value) in bytes.as_mut_slice().chunks_exact_mut(4).zip(values) {
        out.copy_from_slice(&value.to_le_bytes());
    }
    let tensor = Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: bytes.into(), file: file.clone() };
    weights.insert(path, tensor);
}

/// Cuts a tensor into three of a third of its rows each, which get names of their own.
pub(super) fn split_in_three(weights: &mut Weights, path: &str, names: &[String; 3]) -> Result<()> {
    let rows = shape(weights, path).map_or(0, |shape| shape[0]);
    if !rows.is_multiple_of(3) {
        fail!(Shape, "`{path}` of {rows} rows is not queries, keys and values");
    }
    let parts: Vec<_> = names.iter().map(|name| (name.clone(), rows / 3)).collect();
    split_rows(weights, path, &parts)
}

/// Cuts a tensor into parts of so many rows each, which get names of their own; blocks of rows and numbers of 8 bits
/// stay as they are. What is not there is not cut.
pub(super) fn split_rows(weights: &mut Weights, path: &str, parts: &[(String, usize)]) -> Result<()> {
    let Some(tensor) = weights.get(path).cloned() else { return Ok(()) };
    let shape = shape(weights, path).unwrap_or_default();
    let rows: usize = parts.iter().map(|(_, rows)| rows).sum();
    if rows == 0 || shape.first() != Some(&rows) {
        fail!(Shape, "{}: `{path}` {shape:?} is no whole of {rows} rows", tensor.file);
    }
    let encoding = weights.encoding(path)?;
    let by_rows = |levels| matches!(levels, Levels::Blocks(_) | Levels::Floats { .. });
    let by_rows = encoding.as_ref().is_some_and(|encoding| by_rows(encoding.levels));
    let header = weights.get(&format!("{path}{ENCODING}")).cloned().filter(|_| by_rows);
    let scale = weights.get(&format!("{path}{SCALE}")).cloned().filter(|_| by_rows);
    let decoded = if encoding.is_some() && !by_rows { Some(numbers(weights, path)?.0) } else { None };
    weights.remove_encoding(path);
    weights.retain(|name| name != path);
    let mut start = 0;
    for (name, count) in parts {
        let part = [&[*count], &shape[1..]].concat();
        match &decoded {
            Some(values) => {
                let row = values.len() / rows;
                insert(weights, name, &tensor.file, &part, &values[start * row..(start + count) * row]);
            }
            None => {
                // Encoded, what they stand for is said beside them; a scale is of each row, or of all.
                weights.insert(name, rows_of(&tensor, path, start..start + count, rows)?);
                if let Some(header) = &header {
                    weights.insert(&format!("{name}{ENCODING}"), with_shape(header, &part));
                }
                if let Some(scale) = &scale {
                    let own = if scale.shape.first() == Some(&rows) { start..start + count } else { 0..1 };
                    let all = scale.shape.first().copied().unwrap_or(1);
                    weights.insert(&format!("{name}{SCALE}"), rows_of(scale, path, own, all)?);
                }
            }
        }
        start += count;
    }
    Ok(())
}

/// Some of all the rows of a tensor, as it is stored.
fn rows_of(tensor: &Tensor, path: &str, own: std::ops::Range<usize>, all: usize) -> Result<Tensor> {
    let row = tensor.bytes.len() / all;
    let Some(bytes) = tensor.bytes.slice(own.start * row, own.len() * row) else {
        fail!(Format, "`{path}` is not whole")
    };
    let shape = [&[own.len()], &tensor.shape[1..]].concat();
    Ok(Tensor { shape, bytes, ..tensor.clone() })
}

/// The header of an encoded weight, which lists bits, group and shape, for another shape.
fn with_shape(header: &Tensor, shape: &[usize]) -> Tensor {
    const SIZES: usize = 16;
    let mut bytes = AlignedBytes::zeroed(SIZES + 8 * shape.len());
    let (fixed, sizes) = bytes.as_mut_slice().split_at_mut(SIZES);
    if let Some(first) = header.bytes.get(..SIZES) {
        fixed.copy_from_slice(first);
    }
    for (place, size) in sizes.as_chunks_mut::<8>().0.iter_mut().zip(shape) {
        *place = (*size as i64).to_le_bytes();
    }
    Tensor { shape: vec![2 + shape.len()], bytes: bytes.into(), ..header.clone() }
}

/// Gives a tensor another name, with all that belongs to it.
pub(super) fn rename_with(weights: &mut Weights, from: &str, to: &str) -> Result<()> {
    weights.rename(|name| {
        let rest = name.strip_prefix(from)?;
        (rest.is_empty() || PARTS.contains(&rest)).then(|| format!("{to}{rest}"))
    })
}

/// Swaps the first and the second half of the rows of a tensor, which gets another name. What is not there is not
/// swapped.
pub(super) fn swap_halves(weights: &mut Weights, path: &str, name: &str) -> Result<()> {
    let Some(tensor) = weights.get(path).cloned() else { return Ok(()) };
    let Some(shape) = shape(weights, path).filter(|shape| shape[0] % 2 == 0) else {
        fail!(Shape, "{}: `{path}` is not two halves", tensor.file);
    };
    let one_scale = weights.get(&format!("{path}{SCALE}")).is_none_or(|scale| scale.shape.first() == Some(&1));
    let floats = weights.floats(path).is_some() && one_scale;
    if weights.is_encoded(path) && !floats {
        let (mut values, _) = numbers(weights, path)?;
        let half = values.len() / 2;
        values.rotate_left(half);
        weights.remove_encoding(path);
        weights.retain(|other| other != path);
        insert(weights, name, &tensor.file, &shape, &values);
        return Ok(());
    }
    let mut bytes = AlignedBytes::zeroed(tensor.bytes.len());
    let (first, second) = tensor.bytes.split_at(tensor.bytes.len() / 2);
    bytes.as_mut_slice()[..second.len()].copy_from_slice(second);
    bytes.as_mut_slice()[second.len()..].copy_from_slice(first);
    weights.insert(path, Tensor { bytes: bytes.into(), ..tensor });
    rename_with(weights, path, name)
}

/// Swaps the dimensions of a matrix, which gets another name.
pub(super) fn transpose(weights: &mut Weights, path: &str, name: &str) -> Result<()> {
    let Some(file) = weights.get(path).map(|tensor| tensor.file.clone()) else { return Ok(()) };
    let (values, shape) = numbers(weights, path)?;
    let [rows, columns] = shape[..] else { fail!(Shape, "{file}: `{path}` {shape:?} is no matrix") };
    let swapped: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(row, column)| values[row * columns + column])
        .collect();
    weights.remove_encoding(path);
    weights.retain(|other| other != path);
    insert(weights, name, &file, &[columns, rows], &swapped);
    Ok(())
}

/// How many tensors there are under names counted from 0.
pub(super) fn count(weights: &Weights, path: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|&i| weights.get(&path(i)).is_some()).count()
}

/// The sizes of a tensor that there must be.
pub(super) fn sizes(weights: &Weights, path: &str) -> Result<Vec<usize>> {
    match shape(weights, path) {
        Some(shape) => Ok(shape),
        None => fail!(Missing, "the transformer has no `{path}`; is the file whole?"),
    }
}

/// The columns of a matrix that there must be.
pub(super) fn columns(weights: &Weights, path: &str) -> Result<usize> {
    Ok(sizes(weights, path)?.get(1).copied().unwrap_or(0))
}

/// A size that a config says.
pub(super) fn size_of(config: Option<&Value>, option: &str) -> Option<usize> {
    usize::try_from(config?.get(option)?.as_u64()?).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use ondine_graph::{Float8, block::Block, encoding::BLOCKS};

    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        let values: Vec<u8> = (0..shape.iter().product::<usize>()).flat_map(|i| (i as f32).to_le_bytes()).collect();
        Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: values.as_slice().into(), file: "memory".into() }
    }

    #[test]
    fn the_longest_beginning_counts() {
        let mut names = Names::default();
        for (from, to) in [("a.", "x."), ("a.1.", "y."), ("a.10.", "z."), ("b.", "w.")] {
            names.prefix(from.to_owned(), to.to_owned());
        }
        names.0.sort();
        for (name, new) in [
            ("a.1.w", Some("y.w")),
            ("a.10.w", Some("z.w")),
            ("a.2.w", Some("x.2.w")),
            ("a.100.w", Some("x.100.w")),
            ("c", None),
        ] {
            assert_eq!(names.found(name).as_deref(), new, "{name}");
        }
    }

    #[test]
    fn rows_in_blocks_stay_in_blocks() {
        // Two rows of one block of Q8_0 each: a scale in half precision and 32 numbers.
        let block = |scale: u16, number: i8| [&scale.to_le_bytes()[..], &number.to_le_bytes().repeat(32)].concat();
        let (one, half) = (0x3c00, 0x3800);
        let bytes = [block(one, 3), block(half, -4)].concat();
        let header: Vec<u8> =
            [BLOCKS as i64 + i64::from(Block::Q8_0.id()), 32, 2, 32].iter().flat_map(|n| n.to_le_bytes()).collect();
        let tensor = |dtype, shape: &[usize], bytes: &[u8]| Tensor {
            dtype,
            shape: shape.to_vec(),
            bytes: bytes.into(),
            file: "memory".into(),
        };
        let mut weights = Weights::default();
        weights.insert("w", tensor(DType::U8, &[2, 34], &bytes));
        weights.insert("w.encoding", tensor(DType::I64, &[4], &header));
        split_rows(&mut weights, "w", &[("a".to_owned(), 1), ("b".to_owned(), 1)]).unwrap();
        assert!(weights.is_encoded("b") && weights.get("w").is_none() && weights.get("w.encoding").is_none());
        assert_eq!(shape(&weights, "b"), Some(vec![1, 32]));
        assert_eq!((&*weights.to_f32("a").unwrap(), &*weights.to_f32("b").unwrap()), (&[3.0; 32][..], &[-2.0; 32][..]));
    }

    #[test]
    fn numbers_of_8_bits_stay_so() {
        // 1, -2, 0.5, 4
        let floats = |scales: &[f32], shape: &[usize]| {
            let mut weights = Weights::default();
            let codes = (&[0x38, 0xc0, 0x30, 0x48_u8][..]).into();
            weights.insert_floats("w", Float8::E4M3, shape, codes, &"memory".into()).unwrap();
            if !scales.is_empty() {
                weights.scale_floats("w", scales).unwrap();
            }
            weights
        };
        let parts = [("a".to_owned(), 3), ("b".to_owned(), 1)];
        for (scales, first, last) in [
            (&[][..], [1.0, -2.0, 0.5], 4.0),
            (&[2.0], [2.0, -4.0, 1.0], 8.0),
            (&[1.0, 2.0, 3.0, -1.0], [1.0, -4.0, 1.5], -4.0),
        ] {
            let mut weights = floats(scales, &[4, 1, 1]);
            split_rows(&mut weights, "w", &parts).unwrap();
            assert_eq!((&*weights.to_f32("a").unwrap(), &*weights.to_f32("b").unwrap()), (&first[..], &[last][..]));
            assert_eq!((weights.floats("a"), shape(&weights, "b")), (Some(Float8::E4M3), Some(vec![1, 1, 1])));
            assert_eq!(weights.paths().count(), 2);

            let mut weights = floats(scales, &[4, 1, 1]);
            linear(&mut weights, "w");
            weights.expect("w", &[4, 1]).unwrap();
            swap_halves(&mut weights, "w", "swapped").unwrap();
            assert_eq!(*weights.to_f32("swapped").unwrap(), [first[2], last, first[0], first[1]]);
            assert_eq!((weights.paths().count(), weights.floats("swapped").is_some()), (1, scales.len() < 2));
        }
    }

    #[test]
    fn rows_are_cut_and_matrices_swapped() {
        let mut weights = Weights::default();
        weights.insert("in_proj", tensor(&[6, 2]));
        split_in_three(&mut weights, "in_proj", &["q", "k", "v"].map(str::to_owned)).unwrap();
        assert_eq!(&*weights.to_f32("k").unwrap(), [4.0, 5.0, 6.0, 7.0]);
        assert!(weights.get("in_proj").is_none());
        weights.insert("fused", tensor(&[4, 1]));
        split_rows(&mut weights, "fused", &[("a".to_owned(), 1), ("b".to_owned(), 3)]).unwrap();
        assert_eq!(
            (&*weights.to_f32("a").unwrap(), &*weights.to_f32("b").unwrap()),
            (&[0.0][..], &[1.0, 2.0, 3.0][..])
        );
        swap_halves(&mut weights, "q", "swapped_q").unwrap();
        assert_eq!(&*weights.to_f32("swapped_q").unwrap(), [2.0, 3.0, 0.0, 1.0]);
        weights.insert("odd", tensor(&[4, 2]));
        assert!(split_in_three(&mut weights, "odd", &["q", "k", "v"].map(str::to_owned)).is_err());
        transpose(&mut weights, "odd", "swapped").unwrap();
        assert_eq!(weights.get("swapped").unwrap().shape, [2, 4]);
        assert_eq!(&*weights.to_f32("swapped").unwrap(), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    }
}
