//! What kernels are handed: operands as bytes, and where the result goes.

use bytemuck::{cast_slice, cast_slice_mut};

use ondine_graph::{DType, Element};

use super::form::Format;

/// An operand of a kernel: plain row-major elements, or a packed weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    /// None, if the result lies there and is changed.
    pub(crate) bytes: &'a [u8],
    /// How the bytes are packed, if it is a weight.
    pub(crate) format: Option<Format>,
}

impl<'a> Operand<'a> {
    /// The elements.
    pub(super) fn view<T: Element>(&self) -> &'a [T] {
        // No bytes have no address to speak of, which then need not be aligned.
        if self.bytes.is_empty() { &[] } else { cast_slice(self.bytes) }
    }
}

/// The result of a kernel, to be written whole.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a mut [u8],
}

impl Target<'_> {
    /// The elements.
    pub(super) fn view<T: Element>(&mut self) -> &mut [T] {
        if self.bytes.is_empty() { &mut [] } else { cast_slice_mut(self.bytes) }
    }
}

/// Calls `$body` with `$T` being the Rust type of `$dtype`, which must be one of those listed.
macro_rules! dispatch {
    ($op:expr, $dtype:expr, [$($variant:ident => $rust:ty),+], $T:ident => $body:expr) => {
        match $dtype {
            $(ondine_graph::DType::$variant => { type $T = $rust; $body; Ok::<(), ondine_graph::Error>(()) })+
            other => ondine_graph::fail!(Unsupported, "{} of {other} numbers", $op),
        }
    };
}
pub(super) use dispatch;
