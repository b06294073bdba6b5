//! `cargo xtask licenses`: the licence notices of every package that the program is made of, in a file that it carries.
//!
//! The packages are those that `Cargo.lock` leads to from `ondine`, for all systems, without those of tests alone.
//! Their texts are read where cargo keeps the sources, which `cargo fetch` fills first; the check looks at names and
//! versions only, and needs neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use toml::{Table, Value};

/// Where the notices lie.
const FILE: &str = "crates/ondine/assets/licenses.txt";

/// Beginnings of the names of files that hold licences and notices.
const NOTICES: &[&str] = &["copying", "copyright", "licence", "license", "notice", "unlicense"];

/// The place of a text among those of the file.
fn heading(number: usize) -> String {
    format!("[{number}] {}", "-".repeat(70))
}

/// A package of somebody else, by name and version.
type Package = (String, String);

/// Gathers the notices, and writes them.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let fetched = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["fetch", "--locked"])
        .current_dir(root)
        .status()?;
    ensure!(fetched.success(), "cargo cannot fetch the sources");
    let mut numbers = BTreeMap::<String, usize>::new();
    let mut texts = Vec::new();
    let mut list = String::new();
    for (name, version) in packages(root)? {
        let folder = source(&name, &version)?;
        let licence = licence(&folder).with_context(|| folder.display().to_string())?;
        let mut places = Vec::new();
        for text in notices(&folder)? {
            let next = texts.len() + 1;
            let number = *numbers.entry(words(&text)).or_insert(next);
            if number == next {
                texts.push(text);
            }
            places.push(number.to_string());
        }
        let places = if places.is_empty() { "no text of its own".to_owned() } else { places.join(", ") };
        writeln!(list, "{name} {version}: {licence} [{places}]")?;
    }
    let mut all = format!(
        "The program is made of these packages of others, on one system or another. Each stands with its licence and the\n\
         numbers of the texts that it comes with, which follow. Of several licences, any one may be chosen. The standard\n\
         library of Rust is part of it too: MIT OR Apache-2.0, The Rust Project Contributors.\n\n{list}"
    );
    for (index, text) in texts.iter().enumerate() {
        write!(all, "\n{}\n\n{text}", heading(index + 1))?;
    }
    fs::write(root.join(FILE), all)?;
    Ok(())
}

/// Packages that the file lacks or has too many, each as a line.
pub(crate) fn differences(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root.join(FILE)).context(FILE)?;
    let listed: BTreeSet<Package> = listed(&text).collect();
    let wanted = packages(root)?;
    let missing = wanted.difference(&listed).map(|(name, version)| format!("{name} {version} is missing"));
    let extra = listed.difference(&wanted).map(|(name, version)| format!("{name} {version} is not used any more"));
    Ok(missing.chain(extra).collect())
}

/// The packages that the file lists.
fn listed(text: &str) -> impl Iterator<Item = Package> {
    let lines = text.lines().skip_while(|line| !line.is_empty()).skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        Some((name.to_owned(), rest.split_once(':')?.0.to_owned()))
    })
}

/// The packages of others that the program may be linked from.
fn packages(root: &Path) -> anyhow::Result<BTreeSet<Package>> {
    let lock: Table = fs::read_to_string(root.join("Cargo.lock"))?.parse()?;
    let entries = lock.get("package").and_then(Value::as_array).context("Cargo.lock has no packages")?;
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut known = BTreeMap::<String, Vec<&Value>>::new();
    for entry in entries {
        known.entry(text(entry, "name").context("a package without a name")?).or_default().push(entry);
    }
    let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec!["ondine".to_owned()]);
    while let Some(reference) = open.pop() {
        if !seen.insert(reference.clone()) {
            continue;
        }
        // `name`, or `name version` where several versions are locked.
        let mut parts = reference.split(' ');
        let (name, version) = (parts.next().unwrap_or_default(), parts.next());
        let fits = |entry: &&&Value| version.is_none_or(|version| text(entry, "version").as_deref() == Some(version));
        let Some(entry) = known.get(name).and_then(|entries| entries.iter().find(fits)) else {
            bail!("Cargo.lock has no package {reference}");
        };
        let dependencies = entry.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        let dependencies = dependencies.filter_map(Value::as_str).map(str::to_owned);
        if entry.get("source").is_some() {
            found.insert((name.to_owned(), text(entry, "version").context("a package without a version")?));
            open.extend(dependencies);
        } else {
            let linked = linked(&root.join("crates").join(name))?;
            open.extend(dependencies.filter(|other| linked.contains(other.split(' ').next().unwrap_or_default())));
        }
    }
    Ok(found)
}

/// The names of what a crate of ours links outside of its tests.
fn linked(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = folder.join("Cargo.toml");
    let manifest: Table = fs::read_to_string(&path).with_context(|| path.display().to_string())?.parse()?;
    let mut tables: Vec<&Table> = vec![&manifest];
    if let Some(systems) = manifest.get("target").and_then(Value::as_table) {
        tables.extend(systems.values().filter_map(Value::as_table));
    }
    let dependencies = tables.iter().filter_map(|table| table.get("dependencies").and_then(Value::as_table));
    Ok(dependencies.flat_map(|table| table.keys().cloned()).collect())
}

/// Where cargo keeps the source of a package.
fn source(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let sources = home.context("there is no home folder; set CARGO_HOME")?.join("registry/src");
    for registry in fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
        let folder = registry?.path().join(format!("{name}-{version}"));
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    bail!("{}: no source of {name} {version}", sources.display())
}

/// The expression in which a package names its licences.
fn licence(folder: &Path) -> anyhow::Result<String> {
    let manifest: Table = fs::read_to_string(folder.join("Cargo.toml"))?.parse()?;
    let package = manifest.get("package").context("no package")?;
    let text = |key: &str| package.get(key).and_then(Value::as_str);
    let licence = text("license").or(text("license-file")).context("the package names no licence")?;
    let authors = package.get("authors").and_then(Value::as_array).into_iter().flatten();
    let authors: Vec<_> =
        authors.filter_map(Value::as_str).map(|author| author.split(" <").next().unwrap_or(author)).collect();
    // Authors stand for the notice where there is none.
    let by = if authors.is_empty() { String::new() } else { format!(", by {}", authors.join(", ")) };
    Ok(licence.replace('/', " OR ") + &by)
}

/// The texts of licences and notices that a package comes with, in the order of their names.
fn notices(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NOTICES.iter().any(|beginning| name.starts_with(beginning)) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&text).replace('\u{c}', "");
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        Ok(lines.join("\n").trim_matches('\n').to_owned() + "\n")
    };
    paths.iter().map(read).collect()
}

/// A text as its words alone: copies differ in how lines break.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_file_lists_what_is_locked() {
        let differences = differences(&root()).unwrap();
        assert!(differences.is_empty(), "run `cargo xtask licenses`:\n{}", differences.join("\n"));
    }

    #[test]
    fn every_text_that_is_named_is_there() {
        let text = fs::read_to_string(root().join(FILE)).unwrap();
        for line in text.lines().filter(|line| line.ends_with(']') && line.contains(": ")) {
            let places = line.rsplit_once('[').unwrap().1.trim_end_matches(']');
            for place in places.split(", ").filter(|place| *place != "no text of its own") {
                assert!(text.contains(&heading(place.parse().unwrap())), "{line}");
            }
        }
        assert!(listed(&text).count() > 100);
    }

    #[test]
    fn what_tests_alone_need_is_not_carried() {
        let packages = packages(&root()).unwrap();
        let has = |name: &str| packages.iter().any(|(known, _)| known == name);
        assert!(has("clap") && has("tokenizers") && has("windows-sys") && !has("proptest") && !has("ondine-graph"));
    }
}
