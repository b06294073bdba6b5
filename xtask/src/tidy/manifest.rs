//! The manifests of the packages.

use toml::{Table, Value};

use super::tree::{File, Tree};

/// A package of the repository.
pub(super) struct Manifest<'a> {
    pub(super) file: &'a File,
    /// Its name.
    pub(super) package: String,
    pub(super) table: Table,
}

/// A package that another one names.
pub(super) struct Dependency {
    pub(super) name: String,
    /// Where the manifest names it.
    pub(super) line: usize,
    pub(super) optional: bool,
    /// Only tests, benchmarks and examples see it.
    pub(super) development: bool,
}

/// The manifests of all packages. One that does not parse is cargo's to complain about.
pub(super) fn manifests(tree: &Tree) -> Vec<Manifest<'_>> {
    let files = tree.files().filter(|file| file.name() == "Cargo.toml");
    files
        .filter_map(|file| {
            let table: Table = file.text.parse().ok()?;
            let package = table.get("package")?.get("name")?.as_str()?.to_owned();
            Some(Manifest { file, package, table })
        })
        .collect()
}

impl Manifest<'_> {
    /// What it names, for every target and kind of build.
    pub(super) fn dependencies(&self) -> Vec<Dependency> {
        let targets = self.table.get("target").and_then(Value::as_table).into_iter().flatten();
        let tables = targets.filter_map(|(_, table)| table.as_table()).chain([&self.table]);
        let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
        let of_table = |table: &Table| -> Vec<Dependency> {
            let of_kind = |kind: &&str| {
                let entries = table.get(*kind).and_then(Value::as_table).into_iter().flatten();
                let dependencies = entries.map(|(key, value)| self.dependency(key, value, *kind == "dev-dependencies"));
                dependencies.collect::<Vec<_>>()
            };
            kinds.iter().flat_map(of_kind).collect()
        };
        tables.flat_map(of_table).collect()
    }

    fn dependency(&self, key: &str, value: &Value, development: bool) -> Dependency {
        let name = value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned();
        let optional = value.get("optional").and_then(Value::as_bool).unwrap_or(false);
        let declares = |line: &str| {
            let rest =
                line.trim_start().strip_prefix(key).or_else(|| line.split_once(&format!(".{key}]")).map(|_| "="));
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        };
        let line = self.file.lines().find(|(_, line)| declares(line)).map_or(1, |(number, _)| number);
        Dependency { name, line, optional, development }
    }
}
