//! Values of a call by the names of the program, and which of a reference's tensors stand for the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ondine_runtime::{Graph, Moment, NDArray, Named, Outputs, Result, Tap, Value, Weights, compress};

use super::difference::Difference;

/// Keeps the values that it is asked for.
pub(super) struct Recorder<'a> {
    wanted: &'a dyn Fn(&Named) -> bool,
    pub(super) values: Vec<(Named, NDArray)>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(wanted: &'a dyn Fn(&Named) -> bool) -> Self {
        Self { wanted, values: Vec::new() }
    }
}

impl Tap for Recorder<'_> {
    fn look(&mut self, moment: &Moment<'_>) -> Result<()> {
        for named in moment.named().filter(|named| (self.wanted)(named)) {
            self.values.push((named.clone(), moment.named_array(named)?));
        }
        Ok(())
    }
}

/// The tensors to compare with, by name.
pub(super) enum Reference {
    File(Weights),
    Call(HashMap<String, NDArray>),
}

impl Reference {
    pub(super) fn get(&self, name: &str) -> Result<Option<NDArray>> {
        match self {
            Self::File(weights) if weights.get(name).is_some() => weights.array(name).map(Some),
            Self::File(_) => Ok(None),
            Self::Call(values) => Ok(values.get(name).cloned()),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::File(weights) => weights.paths().map(|name| name.to_string()).collect(),
            Self::Call(values) => values.keys().cloned().collect(),
        };
        names.sort();
        names
    }

    /// The results of a call and the values on its way.
    pub(super) fn of(values: Vec<(Named, NDArray)>, outputs: &Outputs) -> Self {
        let outputs = outputs.iter().map(|(name, array)| (name.to_string(), array.clone()));
        Self::Call(values.into_iter().map(|(named, array)| (named.name.to_string(), array)).chain(outputs).collect())
    }
}

/// For names of the graph, what they are called in a reference: the same, or the module whose result they are.
pub(super) fn partners(graph: &Graph, names: &[String]) -> BTreeMap<String, Vec<String>> {
    let nodes: HashSet<&str> = graph.named().iter().map(|named| &*named.name).collect();
    let mut last = HashMap::<&str, &Named>::new();
    for named in graph.named() {
        match named.origin.as_deref() {
            Some(origin) => last.extend(origin.modules.iter().map(|call| (&**call, named))),
            None => last.extend(above(&named.scope).map(|path| (path, named))),
        }
    }
    // A name can be both that of a node and that of a module: what the other names are decides.
    let count = |known: &dyn Fn(&str) -> bool| names.iter().filter(|name| known(name)).count();
    let by_module = count(&|name| last.contains_key(name)) > count(&|name| nodes.contains(name));
    let mut partners = BTreeMap::<String, Vec<String>>::new();
    for name in names {
        let module = last.get(name.as_str()).map(|named| named.name.to_string());
        let node = nodes.contains(name.as_str()).then(|| name.clone());
        if let Some(own) = if by_module { module.or(node) } else { node.or(module) } {
            partners.entry(own).or_default().push(name.clone());
        }
    }
    partners
}

/// One value beside its reference.
pub(super) struct Row {
    /// What it is called in the reference.
    pub(super) name: String,
    pub(super) named: Named,
    pub(super) difference: Difference,
}

/// Compares values while they are computed.
pub(super) struct Comparison<'a> {
    pub(super) reference: &'a Reference,
    pub(super) partners: &'a BTreeMap<String, Vec<String>>,
    pub(super) rows: Vec<Row>,
}

impl Tap for Comparison<'_> {
    fn look(&mut self, moment: &Moment<'_>) -> Result<()> {
        for named in moment.named() {
            for name in self.partners.get(&*named.name).into_iter().flatten() {
                let Some(wanted) = self.reference.get(name)? else { continue };
                let difference = Difference::of(&moment.named_array(named)?, &wanted);
                self.rows.push(Row { name: name.clone(), named: named.clone(), difference });
            }
        }
        Ok(())
    }
}

/// Which of the names of a reference that have no value here belong to nothing in the model, whose `names` these are.
///
/// Modules that hand on what they are given leave nothing in a program: part of a module that is there, or with the
/// same value as something else in the reference.
pub(super) fn strangers<'a>(
    absent: &[&'a String],
    names: &BTreeSet<String>,
    reference: &Reference,
) -> Result<Vec<&'a String>> {
    let mut strangers = Vec::new();
    for &name in absent {
        let path = name.split('@').next().unwrap_or(name);
        let known = |path: &str| names.contains(path) || names.contains(&format!("{path}@1"));
        // The tensors of a tuple are numbered below the module or node.
        let whole = path.rsplit_once('.').filter(|(_, last)| last.parse::<usize>().is_ok()).map(|(whole, _)| whole);
        let parent = path.rsplit_once('.').map(|(parent, _)| parent);
        if [Some(name.as_str()), Some(path), whole, parent].into_iter().flatten().any(known) {
            continue;
        }
        let Some(value) = reference.get(name)? else { continue };
        let mut same = false;
        for other in reference.names().iter().filter(|other| *other != name) {
            same = same || reference.get(other)?.is_some_and(|other| other == value);
        }
        if !same {
            strangers.push(name);
        }
    }
    Ok(strangers)
}

/// The rows whose operators add most error to what they are given, with both errors, the worst first.
pub(super) fn culprits<'a>(graph: &Graph, rows: &'a [Row]) -> Vec<(&'a Row, f64, f64)> {
    let own: HashMap<Value, &Row> = rows.iter().map(|row| (row.named.value, row)).collect();
    // For each value its own error, or the largest one that goes into it.
    let mut errors: Vec<f64> = Vec::with_capacity(graph.nodes().len());
    let mut found = Vec::new();
    for (value, node) in graph.values() {
        let given = node.inputs.iter().map(|input| errors[input.index()]).fold(0.0, f64::max);
        errors.push(match own.get(&value) {
            Some(row) => {
                let error = row.difference.relative();
                found.push((*row, given, error));
                error
            }
            None => given,
        });
    }
    found.retain(|(_, given, error)| error > given);
    found.sort_by(|(_, a, b), (_, c, d)| (d - c).total_cmp(&(b - a)));
    found
}

/// A module and those that it is in.
pub(super) fn above(scope: &str) -> impl Iterator<Item = &str> {
    let parents = scope.match_indices('.').map(|(end, _)| &scope[..end]);
    parents.chain([scope]).filter(|path| !path.is_empty())
}

/// True if `pattern` names a node, a module, or one above it; `*` stands for anything.
pub(super) fn matches(pattern: &str, named: &Named) -> bool {
    compress::matches(pattern, &named.name) || above(&named.scope).any(|path| compress::matches(pattern, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_nodes_modules_and_what_is_below() {
        let mut graph = Graph::new();
        graph.enter("blocks.1.conv");
        let x = graph.scalar(1.0);
        graph.name("conv2d_3", x, Vec::new());
        let named = &graph.named()[0];
        for pattern in ["conv2d_3", "conv2d*", "blocks.1", "blocks", "*.conv", "blocks.*.conv", "*"] {
            assert!(matches(pattern, named), "{pattern}");
        }
        for pattern in ["conv2d", "block", "blocks.2", "conv", "blocks.*.norm"] {
            assert!(!matches(pattern, named), "{pattern}");
        }
    }

    #[test]
    fn a_module_stands_for_its_last_value() {
        let mut graph = Graph::new();
        let x = graph.scalar(1.0);
        for (scope, name) in [("norm.inner", "mul"), ("norm", "add"), ("head", "norm"), ("", "relu")] {
            graph.enter(scope);
            graph.name(name, x, Vec::new());
        }
        let own = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            partners(&graph, &names).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(own(&["norm", "norm.inner", "head"]), ["add", "mul", "norm"]);
        assert_eq!(own(&["norm", "add", "relu"]), ["add", "norm", "relu"]);
    }
}
