//! Arrays as files of numpy: `.npy`, versions 1 to 3, little-endian and row-major.

use std::path::Path;

use half::{bf16, f16};

use crate::{
    bytes::Bytes,
    dtype::DType,
    error::{Context, Result, fail},
    ndarray::{Element, NDArray, element_count},
};

impl NDArray {
    /// Reads a `.npy` file.
    ///
    /// # Errors
    /// If the file is no such file, or its elements are of another type.
    pub fn read_npy(path: &Path) -> Result<Self> {
        parse(&Bytes::map(path)?).at(|| path.display().to_string())
    }

    /// The same numbers as elements of type `dtype`: floating-point numbers as any floating-point type, which may round
    /// them, pairs along a last dimension of two as complex numbers, integers as whatever holds them.
    ///
    /// # Errors
    /// If numbers would be lost: from floating point to integers, or integers to smaller ones that do not hold them.
    pub fn convert(&self, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        let shape = self.shape();
        match (self.dtype(), dtype) {
            (DType::C64, _) => fail!(Shape, "complex numbers cannot become {dtype}"),
            (_, DType::C64) => return self.complex(),
            (_, DType::F32) => return Self::new(shape, &self.to_f32()),
            (_, DType::F64) => {
                let numbers: Vec<f64> = match self.integers() {
                    Some(integers) => integers.iter().map(|&x| x as f64).collect(),
                    None => self.to_f32().into_iter().map(f64::from).collect(),
                };
                return Self::new(shape, &numbers);
            }
            (DType::F64 | DType::F32, DType::F16) => {
                return Self::new(shape, &self.to_f32().into_iter().map(f16::from_f32).collect::<Vec<_>>());
            }
            (DType::F64 | DType::F32, DType::BF16) => {
                return Self::new(shape, &self.to_f32().into_iter().map(bf16::from_f32).collect::<Vec<_>>());
            }
            _ => {}
        }
        let Some(integers) = self.integers() else {
            fail!(Shape, "numbers of type {} cannot become {dtype}", self.dtype());
        };
        match dtype {
            DType::I64 => self.whole::<i64>(&integers),
            DType::I32 => self.whole::<i32>(&integers),
            DType::I16 => self.whole::<i16>(&integers),
            DType::I8 => self.whole::<i8>(&integers),
            DType::U64 => self.whole::<u64>(&integers),
            DType::U32 => self.whole::<u32>(&integers),
            DType::U16 => self.whole::<u16>(&integers),
            DType::U8 => self.whole::<u8>(&integers),
            DType::Bool => {
                let bytes: Vec<u8> = integers.iter().map(|&x| u8::from(x != 0)).collect();
                Self::from_bytes(dtype, shape, &bytes)
            }
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::C64 => {
                fail!(Shape, "numbers of type {} cannot become {dtype}", self.dtype())
            }
        }
    }

    /// The elements, if they are integers or truth values.
    fn integers(&self) -> Option<Vec<i128>> {
        fn wide<T: Element + Into<i128>>(bytes: &[u8]) -> Vec<i128> {
            bytemuck::cast_slice::<_, T>(bytes).iter().map(|&x| x.into()).collect()
        }
        let bytes = self.bytes();
        Some(match self.dtype() {
            DType::I64 => wide::<i64>(bytes),
            DType::I32 => wide::<i32>(bytes),
            DType::I16 => wide::<i16>(bytes),
            DType::I8 => wide::<i8>(bytes),
            DType::U64 => wide::<u64>(bytes),
            DType::U32 => wide::<u32>(bytes),
            DType::U16 => wide::<u16>(bytes),
            DType::U8 | DType::Bool => wide::<u8>(bytes),
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::C64 => return None,
        })
    }

    fn whole<T: Element + TryFrom<i128>>(&self, integers: &[i128]) -> Result<Self> {
        match integers.iter().map(|&x| T::try_from(x).ok()).collect::<Option<Vec<_>>>() {
            Some(integers) => Self::new(self.shape(), &integers),
            None => fail!(Shape, "numbers too large for {}", T::DTYPE),
        }
    }

    /// Real numbers, or pairs of parts along a last dimension of two, as complex ones; that dimension tells pairs.
    fn complex(&self) -> Result<Self> {
        match self.shape() {
            [shape @ .., 2] if self.dtype().is_float() => {
                Self::from_bytes(DType::C64, shape, bytemuck::cast_slice(&self.to_f32()))
            }
            _ => fail!(Shape, "{} numbers of shape {:?} are no complex ones", self.dtype(), self.shape()),
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
    let dtype = match code.trim_start_matches(['<', '|', '=']) {
        "f4" => DType::F32,
        "f8" => DType::F64,
        "c8" => DType::C64,
        "i2" => DType::I16,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i1" => DType::I8,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => fail!(Unsupported, "elements of type `{code}`"),
    };
    let Some(data) = element_count(&shape).and_then(|n| n.checked_mul(dtype.size())).and_then(|len| data.get(..len))
    else {
        fail!(Format, "{} bytes do not fill shape {shape:?}", data.len());
    };
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
        assert!(parse(&file("<c16", "(1,)", &[0; 16])).is_err());
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
