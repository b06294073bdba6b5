//! The two memories, and the way from one to the other.

use ondine_graph::Op;

/// The memory that the program shares with the device.
pub(super) const HOST: u8 = 0;

/// The device's own memory.
pub(super) const OWN: u8 = 1;

/// The name of the operator that brings an argument into the device's own memory.
pub(super) const UPLOAD: &str = "upload";

/// True of the operator that does it.
pub(super) fn is_upload(op: &Op) -> bool {
    matches!(op, Op::Native(native) if &*native.name == UPLOAD)
}
