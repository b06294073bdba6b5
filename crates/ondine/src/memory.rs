//! The memory of this process, where the system tells.

use std::fs;

/// A figure of this process in bytes. Only Linux tells.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// The most bytes that were resident since the process began, or since [`forget_peak`].
pub(crate) fn peak_rss() -> Option<u64> {
    status("VmHWM")
}

/// The bytes that are resident now: memory of the process itself, and pages of files, which cost nothing to let go.
pub(crate) fn resident() -> Option<[u64; 2]> {
    Some([status("RssAnon")?, status("RssFile")?])
}

/// Lets [`peak_rss`] begin anew, if the system can.
pub(crate) fn forget_peak() {
    // Without it the figure is too large, which is the safe side.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_now_once_forgotten() {
        drop(std::hint::black_box(vec![1_u8; 200 << 20]));
        let before = peak_rss().unwrap();
        forget_peak();
        let after = peak_rss().unwrap();
        assert!(before > 200 << 20 && after < before, "{before} {after}");
    }
}
