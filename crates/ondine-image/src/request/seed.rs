//! Seeds as people write them.

use ondine_graph::{Result, fail};

/// A seed that nobody knows beforehand, of 32 bits as other tools have them.
#[must_use]
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Its keys come from the system's own randomness.
    RandomState::new().hash_one(0) >> 32
}

/// The seed that a person writes: a whole number, or `-1` or `random` for one of [`random_seed`].
///
/// # Errors
/// If it is neither.
pub fn parse_seed(text: &str) -> Result<u64> {
    match text {
        "-1" | "random" => Ok(random_seed()),
        text => match text.parse() {
            Ok(seed) => Ok(seed),
            Err(_) => fail!(Argument, "write a whole number from 0 to {}, or -1 for a random one", u64::MAX),
        },
    }
}
