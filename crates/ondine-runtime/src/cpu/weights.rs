//! How weights are packed.

use half::bf16;
use serde::{Deserialize, Serialize};

use crate::{device::Device, op::Op, specialize::{Options, Precision}};

/// The form in which an operator reads a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Format {
    /// Row-major f32.
    Plain,
}

/// The form in which input `position` of `op` is read.
pub(crate) fn format(op: &Op, position: usize, options: Options) -> Format {
    let _ = (op, position, options);
    Format::Plain
}

/// Bytes of a packed weight.
pub(crate) fn packed_bytes(format: Format, shape: &[usize], device: &Device) -> usize {
    let _ = (format, device);
    shape.iter().product::<usize>() * 4
}

/// Packs a weight.
pub(crate) fn pack(format: Format, shape: &[usize], values: &[f32], out: &mut [u8], device: &Device) {
    let _ = (format, shape, device);
    bytemuck::cast_slice_mut(out).copy_from_slice(values);
}
