//! Developer tasks: `cargo xtask tidy` checks the shape of the repository, `cargo xtask instructions` the work of the
//! kernels; `cargo xtask licenses` gathers the notices that the program carries, `cargo xtask dist` builds it to be
//! handed on.

mod dist;
mod instructions;
mod licenses;
mod tidy;

use std::{env, path::Path, process::ExitCode};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let well = match arguments[..] {
        ["tidy"] => tidy(&root)?,
        ["tidy", folder] => tidy(Path::new(folder))?,
        ["floors"] => floors(&root)?,
        ["floors", folder] => floors(Path::new(folder))?,
        ["instructions"] => instructions::run(false)?,
        ["instructions", "--write"] => instructions::run(true)?,
        ["licenses"] => licenses::write(&root).map(|()| true)?,
        ["licenses", "--check"] => licences(&root)?,
        ["dist", folder] => dist::run(&root, Path::new(folder)).map(|()| true)?,
        _ => {
            eprintln!(
                "usage: cargo xtask tidy [FOLDER] | floors [FOLDER] | instructions [--write] | \
                 licenses [--check] | dist FOLDER"
            );
            return Ok(ExitCode::from(2));
        }
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks a checkout of the repository: the one that this program was built from, or another.
fn tidy(root: &Path) -> anyhow::Result<bool> {
    let findings = tidy::repository(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        eprintln!("tidy: {} to repair", findings.len());
    }
    Ok(findings.is_empty())
}

/// Says which packages the notices lack or have too many.
fn licences(root: &Path) -> anyhow::Result<bool> {
    let differences = licenses::differences(root)?;
    differences.iter().for_each(|difference| println!("{difference}; run `cargo xtask licenses`"));
    Ok(differences.is_empty())
}

/// Shows where rooms could stand, for whoever adds one to `floors.toml`.
fn floors(root: &Path) -> anyhow::Result<bool> {
    print!("{}", tidy::lowest_floors(root)?);
    Ok(true)
}
