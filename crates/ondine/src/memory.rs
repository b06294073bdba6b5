//! The memory of this process, and what it could still have, where the system tells.

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

/// The bytes that this process can still have before the system refuses, or ends something: what the machine has left,
/// what its container has, and what the process itself may have (`ulimit -v`). Only Linux tells.
pub(crate) fn available() -> Option<u64> {
    let file = |path: &str| fs::read_to_string(path).ok();
    let machine = file("/proc/meminfo").and_then(|text| free_of_machine(&text));
    // The second and the first version of control groups, as a container sees its own.
    let groups =
        [("/sys/fs/cgroup", ["max", "current"]), ("/sys/fs/cgroup/memory", ["limit_in_bytes", "usage_in_bytes"])];
    let container = groups.into_iter().find_map(|(folder, [most, current])| {
        let group = |name: &str| file(&format!("{folder}/memory.{name}"));
        free_of_container(&group(most)?, &group(current)?, &group("stat")?)
    });
    let process = || Some(address_space(&file("/proc/self/limits")?)?.saturating_sub(status("VmSize")?));
    [machine, container, process()].into_iter().flatten().min()
}

/// Of the text of `/proc/meminfo`.
fn free_of_machine(text: &str) -> Option<u64> {
    let find = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    Some(find("MemAvailable")? + find("SwapFree").unwrap_or(0))
}

/// Of the texts of a control group: what it may have, has, and what of that are pages of files, which can go. A group
/// without a limit says `max`.
fn free_of_container(most: &str, current: &str, stat: &str) -> Option<u64> {
    let most: u64 = most.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let file = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")).and_then(|n| n.trim().parse().ok());
    Some(most.saturating_sub(current.saturating_sub(file.unwrap_or(0))))
}

/// The limit on the addresses of a process in the text of `/proc/self/limits`, if there is one.
fn address_space(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// About the bytes that this process takes at most besides the weights and the workspace of a plan: what is resident
/// before these are, and what the code, buffers and results of a call add to it.
pub(crate) fn besides() -> u64 {
    /// Measured with the built-in model and with small networks: code that is read while it runs, the largest weight
    /// while it is packed, pictures and other results.
    const LATER: u64 = 24 << 20;
    resident().map_or(0, |[anonymous, file]| anonymous + file) + LATER
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
    fn what_is_left_is_read_off_the_system_s_texts() {
        assert_eq!(free_of_machine("MemTotal: 9 kB\nMemAvailable:    5 kB\nSwapFree:  2 kB\n"), Some(7 * 1024));
        assert_eq!(free_of_machine("MemTotal: 9 kB\n"), None);
        assert_eq!(free_of_container("100\n", "70\n", "anon 20\ninactive_file 30\n"), Some(60));
        assert_eq!(free_of_container("max\n", "70\n", ""), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax address space         4096   unlimited   bytes\n";
        assert_eq!(address_space(limits), Some(4096));
        assert_eq!(address_space("Max address space         unlimited   unlimited   bytes"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_peak_is_that_of_now_once_forgotten() {
        drop(std::hint::black_box(vec![1_u8; 200 << 20]));
        let before = peak_rss().unwrap();
        forget_peak();
        let after = peak_rss().unwrap();
        assert!(before > 200 << 20 && after < before, "{before} {after}");
    }
}
