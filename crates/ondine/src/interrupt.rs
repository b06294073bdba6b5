//! Ctrl-C: the running function stops before its next operator; a second one ends the process at once.

use anyhow::Context;
use ondine_runtime::Cancel;

/// Turns interrupts into a wish to stop.
pub(crate) fn listen() -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    let wish = cancel.clone();
    ctrlc::set_handler(move || {
        if wish.is_closed() {
            std::process::exit(130);
        }
        wish.close();
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}
