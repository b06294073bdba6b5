//! What the programs of an archive call things, also where nothing is computed for a name any more.

use std::{collections::BTreeSet, path::Path};

use ondine_graph::{Bytes, Context, Result, archive::Archive, file::parse};
use serde_json::Value;

use crate::source::calls;

/// The names of all nodes, of their values, and of all modules that are called (`layers.0`, `layers.0@1` in the second
/// call), whatever becomes of them when the archive is imported.
///
/// # Errors
/// If the file is no whole archive.
pub fn names(path: &Path) -> Result<BTreeSet<String>> {
    let read = || -> Result<_> {
        let archive = Archive::read(&Bytes::map(path)?)?;
        let mut names = BTreeSet::new();
        for path in archive.paths().filter(|path| path.starts_with("models/") && path.ends_with(".json")) {
            gather(&parse(archive.expect(path)?).at(|| path)?, &mut names);
        }
        Ok(names)
    };
    read().at(|| path.display().to_string())
}

fn gather(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("name", Value::String(name)) => drop(names.insert(name.clone())),
                    ("nn_module_stack", Value::String(stack)) => {
                        names.extend(calls(stack).iter().map(ToString::to_string));
                    }
                    _ => gather(value, names),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| gather(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_values_and_modules_have_names() {
        let program = serde_json::json!({"nodes": [{
            "name": "linear_1",
            "outputs": [{"as_tensor": {"name": "linear_1_out"}}],
            "metadata": {"nn_module_stack": "L__self__,,M;L__self__b@1,b,Sequential", "stack_trace": "name"},
        }]});
        let mut names = BTreeSet::new();
        gather(&program, &mut names);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["b@1", "linear_1", "linear_1_out"]);
    }
}
