//! Where things of this user lie that outlive a run.

use std::path::PathBuf;

use etcetera::{BaseStrategy, base_strategy::choose_native_strategy};

/// Where caches live: `$ONDINE_CACHE`, else in the user's cache folder.
#[must_use]
pub fn caches() -> Option<PathBuf> {
    given("ONDINE_CACHE").or_else(|| Some(choose_native_strategy().ok()?.cache_dir().join("ondine")))
}

/// Where models are looked for: `$ONDINE_MODELS`, else in the user's data folder.
#[must_use]
pub fn models() -> Option<PathBuf> {
    given("ONDINE_MODELS").or_else(|| {
        let folders = choose_native_strategy().ok()?;
        // The data folder of Windows roams with its user, over networks: no place for gigabytes.
        let base = if cfg!(windows) { folders.cache_dir() } else { folders.data_dir() };
        Some(base.join("ondine/models"))
    })
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
