//! Weights that are floating-point numbers of 8 bits: see [`encoding`](crate::encoding) for what is kept of them.

use std::sync::Arc;

use half::f16;

use super::{Tensor, Weights, encoded::MAX_RANK};
use crate::{
    bytes::Bytes,
    dtype::DType,
    encoding::{ENCODING, FLOATS, Levels, SCALE},
    error::{Result, fail},
    float8::Float8,
    ndarray::element_count,
};

impl Weights {
    /// Adds or replaces a tensor of floating-point numbers of 8 bits, row-major.
    ///
    /// # Errors
    /// If there are not as many bytes as the shape has elements.
    pub fn insert_floats(
        &mut self,
        path: &str,
        format: Float8,
        shape: &[usize],
        bytes: Bytes,
        file: &Arc<str>,
    ) -> Result<()> {
        if element_count(shape) != Some(bytes.len()) {
            fail!(Format, "tensor `{path}` of shape {shape:?} does not fit its {} bytes of {format}", bytes.len());
        }
        let tensor = |dtype, shape: &[usize], bytes| Tensor { dtype, shape: shape.to_vec(), bytes, file: file.clone() };
        let Some(&rows) = shape.first().filter(|_| !bytes.is_empty() && shape.len() <= MAX_RANK) else {
            // What has no rows to say something of is kept as the same numbers in a type of more bits.
            self.insert(path, tensor(DType::F16, shape, widened(format, &bytes)));
            return Ok(());
        };
        let header = header(format, rows, shape);
        self.insert(&format!("{path}{ENCODING}"), tensor(DType::I64, &[shape.len() + 2], header));
        self.insert(path, tensor(DType::U8, shape, bytes));
        Ok(())
    }

    /// The type of a tensor of floating-point numbers of 8 bits, if it is one.
    #[must_use]
    pub fn floats(&self, path: &str) -> Option<Float8> {
        match self.encoding(path).ok()??.levels {
            Levels::Floats { format, .. } => Some(format),
            Levels::Integers { .. } | Levels::Palette | Levels::Blocks(_) => None,
        }
    }

    /// Says by what a tensor of floating-point numbers of 8 bits is multiplied: all of it, or each row by a scale of
    /// its own.
    ///
    /// # Errors
    /// If it is no such tensor, has a scale already, or there are as many scales as neither has.
    pub fn scale_floats(&mut self, path: &str, scales: &[f32]) -> Result<()> {
        let (Some(encoding), Some(tensor)) = (self.encoding(path)?, self.get(path)) else {
            fail!(Format, "`{path}` holds no numbers of 8 bits that a scale could be for");
        };
        let (file, rows) = (tensor.file.clone(), encoding.shape[0]);
        let Levels::Floats { format, scaled: false } = encoding.levels else {
            fail!(Format, "{file}: `{path}` holds no numbers of 8 bits without a scale");
        };
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            fail!(Format, "{file}: a scale of `{path}` is {scale}, no finite number; copy the file again");
        }
        if scales.len() != 1 && scales.len() != rows {
            let (given, shape) = (scales.len(), &encoding.shape);
            fail!(Shape, "{file}: `{path}` {shape:?} has {given} scales; there is one for all of it, or for each row");
        }
        let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let scale = Tensor {
            dtype: DType::F32,
            shape: vec![scales.len(), 1],
            bytes: bytes.as_slice().into(),
            file: file.clone(),
        };
        let shape = vec![encoding.shape.len() + 2];
        let header = header(format, if scales.len() == 1 { rows } else { 1 }, &encoding.shape);
        self.insert(&format!("{path}{SCALE}"), scale);
        self.insert(&format!("{path}{ENCODING}"), Tensor { dtype: DType::I64, shape, bytes: header, file });
        Ok(())
    }

    /// Gives all tensors of floating-point numbers of 8 bits a type of more bits, for readers of single tensors: F16,
    /// which holds the same numbers, or F32, if there are scales.
    ///
    /// # Errors
    /// If parts of one do not fit each other.
    pub fn widen_floats(&mut self) -> Result<()> {
        let paths: Vec<Arc<str>> = self.paths().cloned().collect();
        for path in paths {
            let Some(encoding) = self.encoding(&path)? else { continue };
            let (Levels::Floats { format, scaled }, Some(tensor)) = (encoding.levels, self.get(&path)) else {
                continue;
            };
            let (dtype, bytes) = if scaled {
                let numbers = self.to_f32(&path)?;
                (DType::F32, Bytes::from(bytemuck::cast_slice::<f32, u8>(&numbers)))
            } else {
                (DType::F16, widened(format, &tensor.bytes))
            };
            let tensor = Tensor { dtype, shape: encoding.shape, bytes, file: tensor.file.clone() };
            self.remove_encoding(&path);
            self.insert(&path, tensor);
        }
        Ok(())
    }
}

/// The header of an encoded weight.
fn header(format: Float8, group: usize, shape: &[usize]) -> Bytes {
    let numbers = [FLOATS + format.id(), group].into_iter().chain(shape.iter().copied());
    let bytes: Vec<u8> = numbers.flat_map(|number| (number as i64).to_le_bytes()).collect();
    bytes.as_slice().into()
}

/// The numbers as F16.
fn widened(format: Float8, codes: &[u8]) -> Bytes {
    let halves: [[u8; 2]; 256] = format.numbers().map(|number| f16::from_f32(number).to_le_bytes());
    let bytes: Vec<u8> = codes.iter().flat_map(|&code| halves[usize::from(code)]).collect();
    bytes.as_slice().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, -2, 0.5, 4, 448, -0.001953125
    const CODES: [u8; 6] = [0x38, 0xc0, 0x30, 0x48, 0x7e, 0x81];

    fn weights(shape: &[usize], codes: &[u8]) -> Weights {
        let mut weights = Weights::default();
        weights.insert_floats("w", Float8::E4M3, shape, codes.into(), &"file".into()).unwrap();
        weights
    }

    #[test]
    fn scales_are_of_all_or_of_rows() {
        let plain = weights(&[3, 2], &CODES);
        assert_eq!(*plain.to_f32("w").unwrap(), [1.0, -2.0, 0.5, 4.0, 448.0, -0.001_953_125]);
        assert_eq!((plain.paths().count(), plain.floats("w")), (1, Some(Float8::E4M3)));
        plain.expect("w", &[3, 2]).unwrap();

        let mut one = plain.clone();
        one.scale_floats("w", &[0.5]).unwrap();
        assert_eq!(*one.to_f32("w").unwrap(), [0.5, -1.0, 0.25, 2.0, 224.0, -0.000_976_562_5]);
        assert_eq!(one.paths().count(), 1);

        let mut rows = plain.clone();
        rows.scale_floats("w", &[2.0, 3.0, -1.0]).unwrap();
        assert_eq!(*rows.to_f32("w").unwrap(), [2.0, -4.0, 1.5, 12.0, -448.0, 0.001_953_125]);
        rows.rename(|_| Some("renamed".to_owned())).unwrap();
        assert_eq!(rows.to_f32("renamed").unwrap()[3], 12.0);
        assert_eq!(rows.iter().count(), 3);

        for (scales, word) in [(&[1.0, 2.0][..], "2 scales"), (&[f32::NAN], "no finite number"), (&[], "0 scales")] {
            let error = plain.clone().scale_floats("w", scales).unwrap_err().to_string();
            assert!(error.starts_with("file: ") && error.contains(word), "{error}");
        }
        assert!(one.scale_floats("w", &[1.0]).unwrap_err().to_string().contains("without a scale"));
    }

    #[test]
    fn numbers_are_the_same_in_more_bits() {
        for scale in [None, Some(0.1_f32)] {
            let mut weights = weights(&[2, 3], &CODES);
            if let Some(scale) = scale {
                weights.scale_floats("w", &[scale]).unwrap();
            }
            let numbers = weights.to_f32("w").unwrap().into_owned();
            weights.widen_floats().unwrap();
            let dtype = if scale.is_some() { DType::F32 } else { DType::F16 };
            let tensor = weights.get("w").unwrap();
            assert_eq!((tensor.dtype, &tensor.shape[..], weights.iter().count()), (dtype, &[2, 3][..], 1));
            assert_eq!(*weights.to_f32("w").unwrap(), numbers);
        }
    }

    #[test]
    fn what_has_no_rows_is_kept_as_it_is() {
        for (shape, codes) in [(&[][..], &[0x38_u8][..]), (&[0], &[]), (&[1; 9], &[0x38])] {
            let weights = weights(shape, codes);
            assert_eq!((weights.get("w").unwrap().dtype, weights.iter().count()), (DType::F16, 1), "{shape:?}");
            assert_eq!(weights.to_f32("w").unwrap()[..], vec![1.0; codes.len()], "{shape:?}");
        }
        let mut weights = Weights::default();
        let error = weights.insert_floats("w", Float8::E5M2, &[3], Bytes::from(&[0_u8; 2][..]), &"file".into());
        assert!(error.unwrap_err().to_string().contains("does not fit its 2 bytes of F8_E5M2"));
    }
}
