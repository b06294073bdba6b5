//! Ways to make steps cheaper.

use ondine_graph::{Result, fail};

/// A way to make steps cheaper, for pictures that are nearly the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speedup {
    /// About half of the steps are forecast from the others: [`crate::forecast`].
    Spectrum,
    /// The deep maps of the U-Net are kept for some steps, and its outermost blocks run alone (Ma et al. 2023).
    DeepCache,
}

impl Speedup {
    /// All of them by name.
    pub const NAMES: [(&'static str, Self); 2] = [("spectrum", Self::Spectrum), ("deepcache", Self::DeepCache)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, speedup)| *speedup == self).map_or("", |(name, _)| name)
    }

    /// The one of this name, or none for `none`.
    ///
    /// # Errors
    /// Any other name.
    pub fn parse(name: &str) -> Result<Option<Self>> {
        match Self::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, speedup)) => Ok(Some(*speedup)),
            None if name == "none" => Ok(None),
            None => fail!(Argument, "speedup {name:?} is not known; known are none, spectrum, deepcache"),
        }
    }
}
