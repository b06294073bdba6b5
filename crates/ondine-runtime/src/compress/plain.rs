//! Tensors of plain numbers.

use ondine_graph::{Bytes, DType, Tensor};

/// Numbers as a tensor of F32.
pub(super) fn plain_tensor(values: &[f32], shape: &[usize]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: Bytes::from(&*bytes), file: "computed".into() }
}
