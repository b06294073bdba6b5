use ondine_graph::ErrorKind;

use super::*;

/// A file in the making.
#[derive(Default)]
struct File(Vec<u8>);

impl File {
    fn new(tensors: u64, pairs: u64) -> Self {
        Self(MAGIC.to_vec()).u32(3).u64(tensors).u64(pairs)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn tensor(self, name: &str, sizes: &[u64], id: u32, offset: u64) -> Self {
        let file = self.text(name).u32(sizes.len() as u32);
        sizes.iter().fold(file, |file, &size| file.u64(size)).u32(id).u64(offset)
    }

    fn data(mut self, bytes: &[u8]) -> Bytes {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.0.extend(bytes);
        Bytes::from(&*self.0)
    }
}

/// A file of one text, one list, a matrix of f32 and one of blocks.
fn good() -> Bytes {
    let file = File::new(2, 2).text("general.architecture").u32(8).text("llama");
    let file = file.text("a.list").u32(9).u32(4).u64(2).u32(7).u32(8);
    let file = file.tensor("plain.weight", &[2, 3], 0, 0).tensor("blocks.weight", &[32, 2], 8, 32);
    let mut data = vec![0; 32 + 2 * 34];
    data[4..8].copy_from_slice(&1.5_f32.to_le_bytes());
    // A scale of 1 and the code 3 in the second row.
    data[32 + 34..][..3].copy_from_slice(&[0, 0x3c, 3]);
    file.data(&data)
}

#[test]
fn metadata_and_tensors_are_what_was_written() {
    let gguf = Gguf::parse("x.gguf", &good()).unwrap();
    assert_eq!(gguf.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.list("a.list").unwrap().unwrap(), [Value::Integer(7), Value::Integer(8)]);
    assert_eq!(gguf.size("none").unwrap(), None);
    assert_eq!(gguf.integer("a.list").unwrap_err().to_string(), "x.gguf: `a.list` is no integer");
    let plain = gguf.weights.expect("plain.weight", &[3, 2]).unwrap();
    assert_eq!(plain.dtype, DType::F32);
    assert_eq!(gguf.weights.to_f32("plain.weight").unwrap()[..3], [0.0, 1.5, 0.0]);
    gguf.weights.expect("blocks.weight", &[2, 32]).unwrap();
    let values = gguf.weights.to_f32("blocks.weight").unwrap();
    assert_eq!((values.len(), values[32]), (64, 3.0));
    assert_eq!(gguf.weights.paths().count(), 2);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = good();
    for len in 0..whole.len() {
        let error = Gguf::parse("x.gguf", &whole.slice(0, len).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("x.gguf: "), "{len}: {error}");
        assert_eq!(error.kind(), ErrorKind::Format, "{len}: {error}");
    }
}

#[test]
fn a_file_that_lies_is_refused() {
    let kinds = [
        (File::new(1 << 60, 0), ErrorKind::Format),
        (File::new(0, 1).text("a").u32(9).u32(8).u64(1 << 50), ErrorKind::Format),
        (File::new(0, 2).text("a").u32(4).u32(1).text("a").u32(4).u32(1), ErrorKind::Format),
        (File::new(0, 1).text("general.alignment").u32(4).u32(3), ErrorKind::Format),
        (File::new(1, 0).tensor("w", &[u64::MAX / 4, 8], 0, 0), ErrorKind::Format),
        (File::new(1, 0).tensor("w", &[31], 8, 0), ErrorKind::Format),
        (File::new(1, 0).tensor("w", &[1], 0, u64::MAX), ErrorKind::Format),
        (File::new(2, 0).tensor("w", &[1], 0, 0).tensor("w", &[1], 0, 0), ErrorKind::Format),
        (File::new(1, 0).tensor("w", &[256], 16, 0), ErrorKind::Unsupported),
        (File(MAGIC.to_vec()).u32(1).u64(0).u64(0), ErrorKind::Unsupported),
        (File(MAGIC.to_vec()).u32(3 << 24).u64(0).u64(0), ErrorKind::Unsupported),
    ];
    for (index, (file, kind)) in kinds.into_iter().enumerate() {
        let error = Gguf::parse("x.gguf", &file.data(&[0; 64])).unwrap_err();
        assert_eq!(error.kind(), kind, "{index}: {error}");
    }
    let nested = (0..1000).fold(File::new(0, 1).text("a").u32(9), |file, _| file.u32(9).u64(1)).u32(4).u64(0);
    assert!(Gguf::parse("x.gguf", &nested.data(&[])).unwrap_err().to_string().contains("deep"));
}
