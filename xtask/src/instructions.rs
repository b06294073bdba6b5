//! `cargo xtask instructions`: how many instructions the main kernels take, beside what they may take.
//!
//! Times differ from hour to hour, instructions do not: a kernel that needs a tenth more than its budget has changed.
//! The kernels are those of `crates/ondine-kernels/benches/instructions.rs`, the budgets lie in
//! `benches/instructions.toml`, by processor, tier and kernel.
//!
//! It also looks for intrinsics that are compiled as functions: they are called where something was not inlined and so
//! lost the features of its tier, which yields the same bits several times slower.

mod count;

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::Context;

use count::{Counter, Counts, Program};

/// Budgets by processor, then by tier.
type Budgets = BTreeMap<String, BTreeMap<String, Counts>>;

const FILE: &str = "benches/instructions.toml";
const TIERS: [&str; 5] = ["generic", "avx2", "avx2-vnni", "avx512-vnni", "avx512"];
/// How much more than the budget is too much, in percent: compilers differ by less.
const TOLERANCE: u64 = 10;

/// Counts and compares, or with `write` makes the counts the new budgets; true if all is well.
pub(crate) fn run(write: bool) -> anyhow::Result<bool> {
    let counters = Counter::available();
    if counters.is_empty() {
        println!("skipped: neither perf nor valgrind here");
        return Ok(true);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(FILE);
    let mut budgets: Budgets = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).context(FILE)?,
        Err(_) if write => Budgets::new(),
        Err(error) => return Err(error).context(FILE),
    };
    let program = Program::build(&root)?;
    let tiers = budgets.entry(std::env::consts::ARCH.to_owned()).or_default();
    let mut findings = called(program.intrinsics()?);
    for tier in TIERS {
        let Some((counter, counts)) = count(&program, &counters, tier)? else {
            println!("{tier}: not counted, since nothing here can");
            continue;
        };
        println!("{tier}: {} kernels counted by {counter}", counts.len());
        if write {
            tiers.insert(tier.to_owned(), counts);
        } else {
            let compared = compare(tier, tiers.get(tier).unwrap_or(&Counts::new()), &counts);
            findings.extend(compared.iter().map(|finding| format!("{FILE}: {finding}")));
        }
    }
    if write {
        fs::write(&path, text(&budgets)).context(FILE)?;
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(findings.is_empty())
}

/// What is to be said of intrinsics that are compiled as functions.
fn called(intrinsics: Option<Vec<String>>) -> Vec<String> {
    let Some(intrinsics) = intrinsics else {
        println!("whether intrinsics are inlined: not checked, there is no nm here");
        return Vec::new();
    };
    let finding = |name: String| {
        format!("{name} is compiled as a function; inline all that calls it (closures too) into what enters the tier")
    };
    intrinsics.into_iter().map(finding).collect()
}

/// What the first counter that can run a tier finds.
fn count(program: &Program, counters: &[Counter], tier: &str) -> anyhow::Result<Option<(Counter, Counts)>> {
    for &counter in counters {
        if let Some(counts) = program.count(counter, tier)? {
            return Ok(Some((counter, counts)));
        }
    }
    Ok(None)
}

/// What exceeds its budget or has none.
fn compare(tier: &str, budgets: &Counts, counts: &Counts) -> Vec<String> {
    let mut findings = Vec::new();
    for (kernel, &count) in counts {
        match budgets.get(kernel) {
            None => findings.push(format!("{kernel} has no budget for {tier}; run `cargo xtask instructions --write`")),
            Some(&budget) if count * 100 > budget * (100 + TOLERANCE) => findings.push(format!(
                "{kernel} takes {count} instructions on {tier}, {:.0} % more than its {budget}; make it leaner, or say why \
                 it must be so and run `cargo xtask instructions --write`",
                100.0 * (count as f64 / budget as f64 - 1.0)
            )),
            Some(_) => {}
        }
    }
    let gone = budgets.keys().filter(|kernel| !counts.contains_key(*kernel));
    findings.extend(gone.map(|kernel| format!("{kernel} has a budget for {tier} but does not exist; remove the line")));
    findings
}

/// The file.
fn text(budgets: &Budgets) -> String {
    let mut text = String::from(
        "# Instructions of the main kernels, one call each on a small shape, one thread.\n\
         # Written by `cargo xtask instructions --write`, checked by `cargo xtask instructions`.\n",
    );
    for (processor, tiers) in budgets {
        for (tier, counts) in tiers {
            let _ = writeln!(text, "\n[{processor}.{tier}]");
            for (kernel, count) in counts {
                let _ = writeln!(text, "{kernel} = {count}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        list.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_tenth_more_is_too_much() {
        let budgets = counts(&[("a", 1000), ("b", 1000)]);
        assert!(compare("x", &budgets, &counts(&[("a", 1100), ("b", 10)])).is_empty());
        let findings = compare("x", &budgets, &counts(&[("a", 1101), ("c", 1)]));
        let begins = ["a takes 1101 instructions on x, 10 % more", "c has no budget", "b has a budget"];
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().zip(begins).all(|(finding, begin)| finding.starts_with(begin)), "{findings:?}");
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let budgets = Budgets::from([("cpu".to_owned(), BTreeMap::from([("tier".to_owned(), counts(&[("a", 1)]))]))]);
        assert_eq!(toml::from_str::<Budgets>(&text(&budgets)).unwrap(), budgets);
    }
}
