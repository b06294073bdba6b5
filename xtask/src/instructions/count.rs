//! Counting the instructions of a program: by valgrind, which runs it on a processor of its own without AVX-512, or by
//! perf, which asks the real one, if the system lets it.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, bail, ensure};

/// The budgets of one tier, or what was counted, by kernel.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    Valgrind,
    Perf,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valgrind => "valgrind",
            Self::Perf => "perf",
        })
    }
}

impl Counter {
    /// Those that work here.
    pub(crate) fn available() -> Vec<Self> {
        let runs = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        let valgrind = runs(Command::new("valgrind").arg("--version"));
        let perf = perf(Path::new("true"), &[], "generic").is_ok_and(|count| count.is_some());
        [(valgrind, Self::Valgrind), (perf, Self::Perf)]
            .into_iter()
            .filter(|(there, _)| *there)
            .map(|(_, c)| c)
            .collect()
    }
}

/// The program with the kernels.
pub(crate) struct Program {
    path: PathBuf,
    kernels: Vec<String>,
}

/// How it says that the processor lacks a tier.
const UNSUPPORTED: i32 = 3;

impl Program {
    /// Builds it, as programs that ship are built.
    pub(crate) fn build(root: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root).args([
            "bench",
            "--quiet",
            "-p",
            "ondine-kernels",
            "--bench",
            "instructions",
            "--",
            "--path",
        ]);
        let output = command.stderr(Stdio::inherit()).output().context("cargo")?;
        ensure!(output.status.success(), "the kernels to count do not build");
        let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let list = Command::new(&path).arg("--list").output().with_context(|| path.display().to_string())?;
        let kernels = String::from_utf8(list.stdout)?.lines().map(str::to_owned).collect();
        Ok(Self { path, kernels })
    }

    /// Intrinsics that are compiled as functions, or none if nothing here lists the symbols of a program.
    pub(crate) fn intrinsics(&self) -> anyhow::Result<Option<Vec<String>>> {
        let Ok(output) = Command::new("nm").arg("--demangle").arg(&self.path).output() else { return Ok(None) };
        ensure!(output.status.success(), "nm: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Some(intrinsics(&String::from_utf8_lossy(&output.stdout))))
    }

    /// The instructions of each kernel, or none if this counter cannot run the tier.
    pub(crate) fn count(&self, counter: Counter, tier: &str) -> anyhow::Result<Option<Counts>> {
        match counter {
            Counter::Valgrind => self.by_valgrind(tier),
            Counter::Perf => self.by_perf(tier),
        }
    }

    /// One run per kernel, of which only the function that is counted is collected.
    fn by_valgrind(&self, tier: &str) -> anyhow::Result<Option<Counts>> {
        let file = std::env::temp_dir().join(format!("ondine-instructions-{}", std::process::id()));
        let mut counts = Counts::new();
        for kernel in &self.kernels {
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--toggle-collect=*counted*"]);
            command.arg(format!("--callgrind-out-file={}", file.display())).arg(&self.path).args(["--only", kernel]);
            let output = command.env("ONDINE_CPU", tier).output().context("valgrind")?;
            let there = finished(&output, "valgrind")?;
            let count = there.then(|| total(&file)).transpose();
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
            let Some(count) = count? else { return Ok(None) };
            counts.insert(kernel.clone(), count);
        }
        Ok(Some(counts))
    }

    /// Two runs per kernel: the difference is what the further calls took.
    fn by_perf(&self, tier: &str) -> anyhow::Result<Option<Counts>> {
        let mut counts = Counts::new();
        for kernel in &self.kernels {
            let run = |repeat: &str| perf(&self.path, &["--only", kernel, "--repeat", repeat], tier);
            let (Some(once), Some(often)) = (run("1")?, run("11")?) else { return Ok(None) };
            counts.insert(kernel.clone(), often.saturating_sub(once) / 10);
        }
        Ok(Some(counts))
    }
}

/// The intrinsics among the symbols of a program. Those by which the standard library finds out what the processor can
/// do may be functions.
fn intrinsics(symbols: &str) -> Vec<String> {
    let names = symbols.lines().filter_map(|line| line.splitn(3, ' ').nth(2));
    let detects = |name: &str| ["::cpuid::", "::xsave::"].iter().any(|module| name.contains(module));
    names.filter(|name| name.contains("core_arch::") && !detects(name)).map(str::to_owned).collect()
}

/// True if the program ran, false if the processor lacks the tier.
fn finished(output: &Output, counter: &str) -> anyhow::Result<bool> {
    match output.status.code() {
        Some(0) => Ok(true),
        Some(UNSUPPORTED) => Ok(false),
        _ => bail!("{counter}: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// The instructions in the file that valgrind wrote.
fn total(path: &Path) -> anyhow::Result<u64> {
    let place = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(place)?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")));
    total.and_then(|total| total.trim().parse().ok()).with_context(place)
}

/// The instructions of a process outside the system, or none if the processor lacks the tier or does not count.
fn perf(program: &Path, arguments: &[&str], tier: &str) -> anyhow::Result<Option<u64>> {
    let mut command = Command::new("perf");
    command.args(["stat", "--field-separator=,", "--event=instructions:u", "--"]).arg(program).args(arguments);
    let output = command.env("ONDINE_CPU", tier).env("LC_ALL", "C").output().context("perf")?;
    Ok(if finished(&output, "perf")? { perf_count(&String::from_utf8_lossy(&output.stderr)) } else { None })
}

/// The first field of the line of the event; it is no number if the event is not counted here.
fn perf_count(text: &str) -> Option<u64> {
    text.lines().find(|line| line.contains("instructions:u"))?.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intrinsics_that_are_functions_are_found() {
        let symbols = "\
            0000000000000000 T ondine_kernels::gemm::gemm\n\
            0000000000000010 t core::core_arch::x86::avx::_mm256_add_ps\n\
            0000000000000020 t core::core_arch::x86::xsave::_xgetbv\n\
                             U memcpy\n";
        assert_eq!(intrinsics(symbols), ["core::core_arch::x86::avx::_mm256_add_ps"]);
    }

    #[test]
    fn perf_tells_a_number_or_that_it_has_none() {
        assert_eq!(perf_count("149837,,instructions:u,512300,100.00,,\n"), Some(149_837));
        assert_eq!(perf_count("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(perf_count(""), None);
    }
}
