//! What belongs to an installed program: manual pages, completions, licences, and nothing that stays behind.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The program in a home of its own.
fn ondine(home: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondine"));
    for variable in ["ONDINE_CACHE", "ONDINE_MODELS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    command.args(words).current_dir(home).env("HOME", home).output().unwrap()
}

fn printed(home: &Path, words: &[&str]) -> String {
    let output = ondine(home, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_has_a_manual_page() {
    let home = tempfile::tempdir().unwrap();
    assert!(printed(home.path(), &["man"]).contains(".TH ondine 1"));
    printed(home.path(), &["man", "share/man1"]);
    let page = |name: &str| fs::read_to_string(home.path().join("share/man1").join(name)).unwrap();
    assert!(page("ondine.1").contains("ondine\\-draw(1)"));
    assert!(page("ondine-draw.1").contains("guidance\\-rescale"));
    for command in
        ["run", "inspect", "profile", "compare", "compress", "build", "import", "models", "bench", "cache-clear"]
    {
        assert!(page(&format!("ondine-{command}.1")).contains(".TH"), "{command}");
    }
}

#[test]
fn shells_are_told_the_options() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(home.path(), &["completions", shell]);
        assert!(script.contains("guidance-rescale") && script.contains("compress"), "{shell}");
    }
    assert_eq!(ondine(home.path(), &["completions", "tcl"]).status.code(), Some(2));
}

#[test]
fn licences_are_inside() {
    let home = tempfile::tempdir().unwrap();
    let text = printed(home.path(), &["licenses"]);
    for part in ["Apache-2.0 or MIT", "all-MiniLM-L6-v2", "\ntokenizers ", "Permission is hereby granted"] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
#[cfg(unix)]
fn nothing_stays_behind_but_the_cache_and_that_can_be_cleared() {
    let home = tempfile::tempdir().unwrap();
    let picture = home.path().join("cat.png").display().to_string();
    printed(home.path(), &["draw", "red heart", "--steps", "1", "-o", &picture, "--quiet"]);
    let left = || {
        let mut left: Vec<_> = walk(home.path()).collect();
        left.sort();
        left
    };
    let cache = if cfg!(target_os = "macos") { "Library/Caches/ondine" } else { ".cache/ondine" };
    assert!(left().iter().all(|path| path == "cat.png" || path.starts_with(cache)), "{:?}", left());
    assert!(left().len() > 1);
    printed(home.path(), &["cache", "clear"]);
    assert_eq!(left(), ["cat.png"]);
    assert!(!home.path().join(cache).exists());
}

/// The files below a folder.
fn walk(root: &Path) -> impl Iterator<Item = String> + '_ {
    let mut open = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().map(move |path| path.strip_prefix(root).unwrap().display().to_string())
}
