//! From the program of an archive to a [`Graph`]: names, aliases and in-place changes become plain data flow.
//!
//! An un-decomposed export speaks of memory: a view shares it, an operator with a trailing underscore changes it. Here
//! a tensor is a path of views from a *base*; a change rewrites the base through the path, and other paths from the
//! same base are walked again when they are next read.

mod control;
mod guards;
mod memory;
mod names;
mod results;
mod vmap;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ondine_graph::{Context, DType, Dim, Error, ErrorKind, Graph, Result, fail};

use self::names::{Program, run};
use crate::{
    builder::Builder,
    call::{Item, output_names},
    rules::{self, sharing::Memory},
    schema::{self, Argument, InputSpec, OutputSpec, SymArgument},
    source,
    target::{is_control, split_target},
    tensors::{Strided, Tensors},
    types::{dim_of, told_of},
};

/// The graph of a program.
///
/// # Errors
/// If it has operators that are not known, all of which are named, or one that cannot be lowered.
pub(super) fn import(program: &schema::Program, tensors: &Tensors) -> Result<Graph> {
    let module = &program.graph_module;
    check_operators(&module.graph)?;
    let mut import = Program {
        builder: Builder::default(),
        items: HashMap::new(),
        paths: HashMap::new(),
        bases: Vec::new(),
        inner: false,
    };
    import.ranges(program)?;
    import.inputs(module, tensors)?;
    import.guards(program)?;
    import.nodes(&module.graph)?;
    import.outputs(module)?;
    Ok(import.builder.graph)
}

/// Names all operators that there is no rule for.
fn check_operators(graph: &schema::Graph) -> Result<()> {
    let mut missing = Vec::new();
    collect_missing(graph, &mut missing);
    if missing.is_empty() {
        return Ok(());
    }
    let kinds: BTreeSet<_> = missing.iter().map(|(target, _)| target).collect();
    let mut text = format!("{} operators are not known: ", kinds.len());
    for kind in kinds {
        let nodes: Vec<_> = missing.iter().filter(|(target, _)| target == kind).collect();
        let places = nodes.iter().take(3).map(|(_, place)| place.as_str()).collect::<Vec<_>>().join(", ");
        let more = if nodes.len() > 3 { format!(" and {} more", nodes.len() - 3) } else { String::new() };
        text.push_str(&format!("{} ({places}{more}); ", kind.trim_start_matches("torch.ops.")));
    }
    let mut text = text.trim_end_matches("; ").to_owned();
    if let Some((target, _)) = missing.iter().find(|(target, _)| !split_target(target).0.contains('.')) {
        text.push_str(rules::advice(split_target(target).0));
    }
    Err(Error::new(ErrorKind::Unsupported, text))
}

fn collect_missing(graph: &schema::Graph, missing: &mut Vec<(String, String)>) {
    for node in &graph.nodes {
        let (op, _, _) = split_target(&node.target);
        if rules::rule(op).is_none() {
            missing.push((node.target.clone(), source::place(node)));
        }
        for input in &node.inputs {
            if let Argument::AsGraph(inner) = &input.arg {
                collect_missing(&inner.graph, missing);
            }
        }
    }
}

/// Placeholders whose memory the program changes, and buffers that its signature says are changed.
fn mutated<'a>(module: &'a schema::GraphModule) -> BTreeSet<Arc<str>> {
    let mut root: HashMap<&'a str, &'a str> = HashMap::new();
    let mut mutated = BTreeSet::new();
    for node in &module.graph.nodes {
        let (op, _, in_place) = split_target(&node.target);
        let out = node.inputs.iter().filter(|input| input.name == "out");
        let out = out.flat_map(|input| source::names(&input.arg));
        let first = || node.inputs.first().into_iter().flat_map(|input| source::names(&input.arg));
        let origin = |root: &HashMap<&'a str, &'a str>, name: &'a Arc<str>| root.get(&**name).copied().unwrap_or(name);
        let changed: Vec<_> =
            if in_place && !rules::renames(op) { first().chain(out).collect() } else { out.collect() };
        mutated.extend(changed.iter().map(|name| Arc::<str>::from(origin(&root, name))));
        if !changed.is_empty() || in_place || rules::memory(&module.graph, node) != Memory::Own {
            let source = changed.first().copied().or_else(|| first().next());
            if let Some(source) = source.map(|source| origin(&root, source)) {
                output_names(node).into_iter().flatten().for_each(|name| {
                    root.insert(name, source);
                });
            }
        }
    }
    let changed = module.signature.output_specs.iter().filter_map(|spec| match spec {
        OutputSpec::BufferMutation { buffer_name, .. } => Some(buffer_name),
        _ => None,
    });
    mutated.extend(changed.filter_map(|name| buffer_argument(module, name)));
    mutated
}

/// The placeholder of a buffer.
fn buffer_argument(module: &schema::GraphModule, buffer: &str) -> Option<Arc<str>> {
    module.signature.input_specs.iter().find_map(|spec| match spec {
        InputSpec::Buffer { arg, buffer_name } if buffer_name == buffer => Some(arg.name.clone()),
        _ => None,
    })
}

/// The argument and the name of a stored tensor.
fn stored_name(spec: &InputSpec) -> Option<(&schema::Name, &str)> {
    match spec {
        InputSpec::Parameter { arg, parameter_name: path }
        | InputSpec::Buffer { arg, buffer_name: path }
        | InputSpec::TensorConstant { arg, tensor_constant_name: path } => Some((arg, path)),
        _ => None,
    }
}

impl<'a> Program<'a> {
    fn inputs(&mut self, module: &schema::GraphModule, tensors: &Tensors) -> Result<()> {
        self.states(module, tensors)?;
        for spec in &module.signature.input_specs {
            if let Some((arg, path)) = stored_name(spec)
                && !self.items.contains_key(&arg.name)
            {
                self.stored_tensor(arg, path, tensors).at(|| format!("`{path}`"))?;
            }
            match spec {
                InputSpec::ConstantInput { name, value } => self.settled_input(name, value),
                InputSpec::UserInput { arg } => self.user_input(&module.graph, arg)?,
                InputSpec::CustomObj { custom_obj_name: name } => {
                    fail!(Unsupported, "the custom object `{name}` is pickled, and pickles are never opened")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stored tensors that are changed, and all that share memory with them.
    fn states(&mut self, module: &schema::GraphModule, tensors: &Tensors) -> Result<()> {
        let mutated = mutated(module);
        // A buffer has a name that its author gave it; constants are named by the exporter.
        let is_constant = |spec: &&InputSpec| matches!(spec, InputSpec::TensorConstant { .. });
        let mut specs: Vec<&InputSpec> = module.signature.input_specs.iter().collect();
        specs.sort_by_key(is_constant);
        let stored: Vec<(&schema::Name, &str)> = specs.into_iter().filter_map(stored_name).collect();
        let paths: Vec<&str> = stored.iter().map(|(_, path)| *path).collect();
        for (arg, path) in stored.iter().filter(|(arg, _)| mutated.contains(&arg.name)) {
            if !self.items.contains_key(&arg.name) {
                self.state(path, &stored, &paths, tensors).at(|| format!("`{path}`"))?;
            }
        }
        Ok(())
    }

    fn state(&mut self, path: &str, stored: &[(&schema::Name, &str)], paths: &[&str], tensors: &Tensors) -> Result<()> {
        let common = tensors.common(path, paths)?;
        let members: Vec<(&Arc<str>, &str, &Strided)> = stored
            .iter()
            .flat_map(|(arg, path)| {
                let places = common.members.iter().filter(move |(name, _)| name == path);
                places.map(move |(_, strided)| (&arg.name, *path, strided))
            })
            .collect();
        let first = members.first().map_or(path, |(_, path, _)| path);
        let (name, array) = match &common.whole {
            Some(whole) => (whole.as_str(), tensors.array(whole)?),
            None => (first, tensors.block(&common.members)?),
        };
        let graph = &mut self.builder.graph;
        let value = graph.state(name, array.dtype(), array.shape());
        if array.bytes().iter().any(|&byte| byte != 0) {
            graph.start_state(name, array)?;
        }
        let value = self.builder.plain(value);
        let names: Vec<_> = members.iter().map(|(name, _, strided)| ((*name).clone(), (*strided).clone())).collect();
        self.define_shared(&names, &value, name.into())
    }

    fn user_input(&mut self, graph: &schema::Graph, argument: &Argument) -> Result<()> {
        let tensor = match argument {
            Argument::AsTensor(tensor) => tensor,
            Argument::AsSymInt(SymArgument::AsName(name)) => return self.integer_input(graph, name),
            _ => return Ok(()),
        };
        let Some(meta) = graph.tensor_values.get(&tensor.name) else {
            fail!(Format, "the program does not say what input `{}` is", tensor.name);
        };
        let shape = meta.sizes.iter().map(dim_of).collect::<Result<Vec<_>>>()?;
        for (size, dim) in meta.sizes.iter().zip(&shape) {
            // Calls are likely to look like the exporter's example.
            if let schema::SymInt::AsExpr(schema::Expr { hint: Some(schema::Hint::AsInt(hint)), .. }) = size
                && let Some((symbol, value)) =
                    usize::try_from(*hint).ok().and_then(|hint| dim.solve(hint).ok().flatten())
            {
                self.builder.graph.expect(symbol, value);
            }
        }
        let value = self.builder.graph.input(&tensor.name, told_of(meta.dtype)?, shape);
        let value = self.builder.plain(value);
        let value = self.builder.computed(&value, meta.dtype)?;
        self.define(&tensor.name, value, None);
        Ok(())
    }

    fn stored_tensor(&mut self, name: &schema::Name, path: &str, tensors: &Tensors) -> Result<()> {
        let graph = &mut self.builder.graph;
        let value = if tensors.is_weight(path) {
            graph.weight(path, &tensors.shape(path)?)?
        } else {
            graph.constant(tensors.array(path)?)
        };
        let value = self.builder.plain(value);
        self.define(&name.name, value, None);
        Ok(())
    }

    pub(super) fn nodes(&mut self, graph: &'a schema::Graph) -> Result<()> {
        self.run_of_nodes(graph, &graph.nodes)
    }

    /// Nodes one after the other; those that `torch.vmap` maps are a run of their own.
    pub(super) fn run_of_nodes(&mut self, graph: &'a schema::Graph, nodes: &'a [schema::Node]) -> Result<()> {
        let mut rest = nodes;
        while let [node, after @ ..] = rest {
            rest = after;
            let place = || format!("{} ({})", node.target.trim_start_matches("torch.ops."), source::place(node));
            self.builder.graph.enter(source::module(node));
            self.builder.graph.trace(Some(source::origin(node)));
            if let Some(end) = vmap::mapped(node, after) {
                self.vmap(graph, node, &after[..end]).at(place)?;
                rest = &after[end + 1..];
                continue;
            }
            self.node(graph, node).at(place)?;
            if !self.inner {
                self.name(node);
            }
        }
        Ok(())
    }

    /// Names what the node yields as the program does, so that it can be found again.
    fn name(&mut self, node: &schema::Node) {
        for name in output_names(node).into_iter().flatten() {
            if let Some(Item::Tensor(tensor) | Item::Number(tensor)) = self.items.get(name) {
                self.builder.graph.name(name.clone(), tensor.value, tensor.axes.clone());
            }
        }
    }

    fn node(&mut self, graph: &'a schema::Graph, node: &'a schema::Node) -> Result<()> {
        for name in node.inputs.iter().flat_map(|input| source::names(&input.arg)) {
            self.refresh(name)?;
        }
        let (op, _, in_place) = split_target(&node.target);
        if is_control(op) {
            return self.control(node);
        }
        let results = run(&mut self.builder, graph, node, &self.items)?;
        let argument = |name: &str| match node.inputs.iter().find(|input| input.name == name).map(|input| &input.arg) {
            Some(Argument::AsTensor(tensor)) => Some(&tensor.name),
            _ => None,
        };
        let first = match node.inputs.first().map(|input| &input.arg) {
            Some(Argument::AsTensor(first)) => Some(&first.name),
            _ => None,
        };
        let changed = match (argument("out"), first) {
            (Some(out), _) => Some(out),
            (None, Some(first)) if in_place && !rules::renames(op) => Some(first),
            (None, None) if in_place => fail!(Unsupported, "a change of several tensors at once"),
            _ => None,
        };
        if let Some(changed) = changed {
            let Some(Item::Tensor(new)) = results.first() else { fail!(Format, "a change that yields nothing") };
            if results.len() > 1 {
                fail!(Unsupported, "a change of {} tensors at once", results.len());
            }
            self.change(changed, new)?;
            if let (Some(Some(name)), Some(path)) = (output_names(node).first(), self.paths.get(changed).cloned()) {
                let item = self.items[changed].clone();
                self.items.insert((*name).clone(), item);
                self.paths.insert((*name).clone(), path);
            }
            return Ok(());
        }
        self.name_results(graph, node, results)?;
        if let (true, Some(first), Some(Some(name))) = (in_place, first, output_names(node).first()) {
            // The tensor is looked at in another way from now on, by whatever name.
            let (item, path) = (self.items.get(*name).cloned(), self.paths.get(*name).cloned());
            self.items.extend(item.map(|item| (first.clone(), item)));
            self.paths.extend(path.map(|path| (first.clone(), path)));
        }
        Ok(())
    }

    fn outputs(&mut self, module: &'a schema::GraphModule) -> Result<()> {
        self.builder.graph.enter("");
        self.builder.graph.trace(None);
        let labels = results::labels(module);
        let (mut count, mut changes) = (0, Vec::new());
        for spec in &module.signature.output_specs {
            match spec {
                OutputSpec::UserOutput { arg } => {
                    self.output(&module.graph, arg, count)?;
                    if let Some(label) = labels.get(count).and_then(Option::as_deref) {
                        self.builder.graph.label(&format!("output_{count}"), label);
                    }
                    count += 1;
                }
                OutputSpec::LossOutput { arg } => {
                    self.output(&module.graph, &Argument::AsTensor(arg.clone()), count)?;
                    count += 1;
                }
                OutputSpec::BufferMutation { arg, buffer_name } => {
                    self.refresh(&arg.name)?;
                    let Some(Item::Tensor(tensor)) = self.items.get(&arg.name).cloned() else {
                        fail!(Format, "the new value of buffer `{buffer_name}` is not there");
                    };
                    changes.extend(buffer_argument(module, buffer_name).map(|name| (name, tensor)));
                }
                OutputSpec::ParameterMutation { parameter_name: name, .. } => {
                    fail!(Unsupported, "the parameter `{name}` is changed; export for inference")
                }
                _ => {}
            }
        }
        for (name, new) in changes {
            self.change(&name, &new)?;
        }
        for base in std::mem::take(&mut self.bases) {
            if let (Some(name), 1..) = (base.state, base.version) {
                let value = self.builder.dense(&base.value)?;
                self.builder.graph.update_state(&name, value)?;
            }
        }
        Ok(())
    }

    fn output(&mut self, graph: &schema::Graph, argument: &Argument, position: usize) -> Result<()> {
        let name = format!("output_{position}");
        let tensor = match argument {
            Argument::AsInt(value) => self.builder.integer(&Dim::from_i64(*value))?,
            Argument::AsFloat(value) => self.builder.number(value.value(), DType::F32)?,
            Argument::AsBool(value) => self.builder.number(f64::from(u8::from(*value)), DType::Bool)?,
            _ => {
                // What is no tensor, such as None, has no output.
                let Some(source) = source::names(argument).next() else { return Ok(()) };
                self.refresh(source)?;
                match self.items.get(source).cloned() {
                    Some(Item::Tensor(tensor) | Item::Number(tensor) | Item::Count { number: tensor, .. }) => tensor,
                    Some(Item::Integer(dim)) => self.builder.integer(&dim)?,
                    Some(Item::Random) => fail!(Unsupported, "the result `{source}` is random, which no run repeats"),
                    Some(Item::Real(real)) => self.builder.real(&real)?,
                    Some(Item::Truth(condition)) => self.builder.truth(&condition)?,
                    _ => fail!(Format, "the result `{source}` is not there"),
                }
            }
        };
        // Computed in another type, results are told in the one that they were promised in.
        let meta = source::names(argument).next().and_then(|name| graph.tensor_values.get(name));
        let tensor = match meta {
            Some(meta) => self.builder.as_told(&tensor, meta.dtype)?,
            None => tensor,
        };
        let value = self.builder.dense(&tensor)?;
        self.builder.graph.output(&name, value);
        Ok(())
    }
}
