//! Arrays as files of numpy: `.npy`, versions 1 to 3, little-endian and row-major.

use std::path::Path;

use crate::{
    bytes::Bytes,
    dtype::DType,
    error::{Context, Result, fail},
    ndarray::{NDArray, element_count},
};

impl NDArray {
    /// Reads a `.npy` file; numbers of 64 bits with a point become F32.
    ///
    /// # Errors
    /// If the file is no such file, or its elements are of another type.
    pub fn read_npy(path: &Path) -> Result<Self> {
        parse(&Bytes::map(path)?).at(|| path.display().to_string())
    }

    /// The same numbers as elements of type `dtype`.
    ///
    /// # Errors
    /// If numbers would be lost: from floating point to integers, or integers to smaller ones that do not hold them.
    pub fn convert(&self, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        if dtype == DType::F32 {
            return Self::new(self.shape(), &self.to_f32());
        }
        let integers = match self.dtype() {
            DType::I64 => bytemuck::cast_slice::<_, i64>(self.bytes()).to_vec(),
            DType::I32 => bytemuck::cast_slice::<_, i32>(self.bytes()).iter().map(|&x| x.into()).collect(),
            DType::U8 | DType::Bool => self.bytes().iter().map(|&x| x.into()).collect(),
            _ => fail!(Shape, "numbers of type {} cannot become {dtype}", self.dtype()),
        };
        match dtype {
            DType::I64 => Self::new(self.shape(), &integers),
            DType::I32 => match integers.iter().map(|&x| i32::try_from(x).ok()).collect::<Option<Vec<_>>>() {
                Some(integers) => Self::new(self.shape(), &integers),
                None => fail!(Shape, "numbers too large for {dtype}"),
            },
            DType::Bool => {
                let bytes: Vec<u8> = integers.iter().map(|&x| u8::from(x != 0)).collect();
                Self::from_bytes(dtype, self.shape(), &bytes)
            }
            _ => fail!(Shape, "numbers of type {} cannot become {dtype}", self.dtype()),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<NDArray> {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else { fail!(Format, "no .npy file") };
    if &magic[..6] != b"\x93NUMPY" {
        fail!(Format, "no .npy file");
    }
    let header = if magic[6] == 1 {
        rest.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest))
    } else {
        rest.split_first_chunk::<4>().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest))
    };
    let Some((header, data)) = header.and_then(|(len, rest)| rest.split_at_checked(len)) else {
        fail!(Format, "the header is cut off");
    };
    let header = String::from_utf8_lossy(header);
    if field(&header, "fortran_order").is_none_or(|order| !order.starts_with("False")) {
        fail!(Unsupported, "an array in column-major order; save numpy.ascontiguousarray of it");
    }
    let code = field(&header, "descr").unwrap_or_default().trim_start_matches('\'');
    let code = code.split('\'').next().unwrap_or_default();
    let Some(shape) = shape(&header) else { fail!(Format, "a header without a shape") };
    let (dtype, double) = match code.trim_start_matches(['<', '|', '=']) {
        "f4" => (DType::F32, false),
        "f8" => (DType::F32, true),
        "f2" => (DType::F16, false),
        "i8" => (DType::I64, false),
        "i4" => (DType::I32, false),
        "i1" => (DType::I8, false),
        "u1" => (DType::U8, false),
        "b1" => (DType::Bool, false),
        _ => fail!(Unsupported, "elements of type `{code}`"),
    };
    let size = if double { 8 } else { dtype.size() };
    let Some(data) = element_count(&shape).and_then(|n| n.checked_mul(size)).and_then(|len| data.get(..len)) else {
        fail!(Format, "{} bytes do not fill shape {shape:?}", data.len());
    };
    if double {
        let values: Vec<f32> = data.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect();
        return NDArray::new(&shape, &values);
    }
    NDArray::from_bytes(dtype, &shape, data)
}

/// What follows a key of the header, a Python dict.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let (inside, _) = field(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let len = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", len.as_slice(), header.as_bytes(), data].concat()
    }

    #[test]
    fn arrays_are_read() {
        let data: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let array = parse(&file("<f4", "(1, 2)", &data)).unwrap();
        assert_eq!((array.shape(), array.view::<f32>().unwrap()), ([1, 2].as_slice(), [1.5, -2.0].as_slice()));
        let scalar = parse(&file("<i8", "()", &7_i64.to_le_bytes())).unwrap();
        assert_eq!(scalar.view::<i64>().unwrap(), [7]);
    }

    #[test]
    fn broken_files_are_errors() {
        let good = file("<f4", "(2,)", &[0; 8]);
        assert!((0..good.len()).all(|len| parse(&good[..len]).is_err()));
        assert!(parse(&file("<c8", "(1,)", &[0; 8])).is_err());
        assert!(parse(&file("<f4", "(99999999999999999999,)", &[])).is_err());
    }

    #[test]
    fn numbers_change_type_where_nothing_is_lost() {
        let array = NDArray::new(&[2], &[1_i64, 0]).unwrap();
        assert_eq!(array.convert(DType::I32).unwrap().view::<i32>().unwrap(), [1, 0]);
        assert_eq!(array.convert(DType::Bool).unwrap().bytes(), [1, 0]);
        assert!(NDArray::new(&[1], &[i64::MAX]).unwrap().convert(DType::I32).is_err());
        assert!(NDArray::new(&[1], &[0.5_f32]).unwrap().convert(DType::I64).is_err());
    }
}
