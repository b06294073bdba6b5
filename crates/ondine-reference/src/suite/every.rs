//! Lists that the compiler keeps whole.

/// Lists all values of a type; does not compile if one is missing.
macro_rules! every {
    ($name:ident: $type:ty = [$($value:path),+ $(,)?]) => {
        pub(super) const $name: &[$type] = &[$($value),+];
        const _: fn($type) = |value| match value { $($value)|+ => {} };
    };
}
pub(super) use every;
