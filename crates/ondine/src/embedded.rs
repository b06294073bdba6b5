//! Files that are part of the program.

/// A file at an address that its tensors can be read from in place.
#[repr(C, align(64))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);

/// The bytes of a file of `assets`; the alignment is what `include_bytes!` alone does not promise.
macro_rules! embedded {
    ($path:expr) => {{
        static FILE: &$crate::embedded::Aligned<[u8]> =
            &$crate::embedded::Aligned(*include_bytes!(concat!("../assets/", $path)));
        &FILE.0
    }};
}

pub(crate) use embedded;
