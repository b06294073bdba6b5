//! `cargo xtask dist`: the program as it is handed on, with manual pages and completions, and without the paths of the
//! machine that built it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

/// Shells whose completions are written, and how their files are called.
const SHELLS: [(&str, &str); 4] =
    [("bash", "ondine.bash"), ("fish", "ondine.fish"), ("zsh", "_ondine"), ("powershell", "ondine.ps1")];

/// Builds the program for release into `folder`.
pub(crate) fn run(root: &Path, folder: &Path) -> anyhow::Result<()> {
    let root = root.canonicalize()?;
    let home = env::home_dir().context("there is no home folder")?;
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("dist");
    // Later ones win: what lies deeper is named last.
    let renamed = [(home.as_path(), "home"), (cargo_home.as_path(), "cargo"), (root.as_path(), "ondine")];
    let flags: Vec<String> =
        renamed.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--package", "ondine", "--target-dir"])
        .arg(&target)
        // Flags that are given this way may hold blanks.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .current_dir(&root)
        .status()?;
    ensure!(built.success(), "the program cannot be built");
    let name = format!("ondine{}", env::consts::EXE_SUFFIX);
    let program = folder.join(&name);
    fs::create_dir_all(folder.join("completions")).with_context(|| folder.display().to_string())?;
    fs::copy(target.join("release").join(&name), &program).with_context(|| program.display().to_string())?;
    if let Some(path) = paths_inside(&fs::read(&program)?, &renamed.map(|(from, _)| from.display().to_string())) {
        bail!("{}: holds the path {path} of this machine", program.display());
    }
    let ask = |arguments: &[&str]| -> anyhow::Result<Vec<u8>> {
        let output = Command::new(&program).args(arguments).output()?;
        ensure!(output.status.success(), "{name} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    for (shell, file) in SHELLS {
        fs::write(folder.join("completions").join(file), ask(&["completions", shell])?)?;
    }
    let pages = folder.join("man1");
    ask(&["man", &pages.to_string_lossy()])?;
    fs::write(folder.join("LICENSES.txt"), ask(&["licenses"])?)?;
    Ok(())
}

/// The first of `paths` that stands in a file.
fn paths_inside<'a>(file: &[u8], paths: &'a [String]) -> Option<&'a String> {
    paths.iter().find(|path| path.len() > 1 && file.windows(path.len()).any(|bytes| bytes == path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_between_other_bytes() {
        let paths = ["/a/b".to_owned(), "/".to_owned()];
        assert_eq!(paths_inside(b"\0x/a/b/c.rs\0", &paths), Some(&paths[0]));
        assert_eq!(paths_inside(b"\0x/a/c.rs\0", &paths), None);
    }
}
