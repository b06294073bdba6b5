//! Bounds of what can be asked for, and what is taken where nobody says.

/// The share of a variation's noise that is mixed in if it is not said.
pub(super) const DEFAULT_VARIATION: f64 = 0.1;

/// The largest prompt, in bytes; encoders read a few hundred.
pub(super) const MAX_PROMPT: usize = 16 << 10;
/// The largest side of a picture in pixels.
pub(crate) const MAX_SIDE: usize = 16 << 10;
