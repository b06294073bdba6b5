//! From the program of an archive to a [`Graph`]: names, aliases and in-place changes become plain data flow.
//!
//! An un-decomposed export speaks of memory: a view shares it, an operator with a trailing underscore changes it. Here
//! a tensor is a path of views from a *base*; a change rewrites the base through the path, and other paths from the
//! same base are walked again when they are next read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    builder::{Builder, Tensor},
    call::{Call, Item, dim_of, dtype_of, output_names},
    lower::{self, view},
    schema::{self, Argument, InputSpec, OutputSpec},
    source,
    tensors::Tensors,
};
use crate::{
    dim::Dim,
    dtype::DType,
    error::{Context, Error, ErrorKind, Result, fail},
    graph::Graph,
};

/// Where a name's tensor comes from.
#[derive(Clone)]
struct Path<'a> {
    base: usize,
    version: u32,
    /// The views from the base on: nodes, and which of their results.
    views: Vec<(&'a schema::Node, usize)>,
}

struct Base {
    value: Tensor,
    version: u32,
    state: Option<Arc<str>>,
}

/// A program under way.
pub(super) struct Program<'a> {
    pub(super) builder: Builder,
    items: HashMap<Arc<str>, Item>,
    paths: HashMap<Arc<str>, Path<'a>>,
    bases: Vec<Base>,
    /// True within a subgraph, whose names may be those of the program.
    inner: bool,
}

/// `aten.add_.Tensor` of a target, as operator, overload, and whether it changes its first argument.
pub(super) fn split_target(target: &str) -> (&str, &str, bool) {
    let name = target.strip_prefix("torch.ops.").unwrap_or(target);
    let Some(name) = name.strip_prefix("aten.") else {
        return (name.strip_prefix("higher_order.").unwrap_or(name), "", false);
    };
    let (op, overload) = name.rsplit_once('.').unwrap_or((name, ""));
    match op.strip_suffix('_') {
        Some(pure) if !op.ends_with("__") => (pure, overload, true),
        _ => (op, overload, false),
    }
}

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
    for (symbol, range) in &program.range_constraints {
        let least = usize::try_from(range.min_val.unwrap_or(0)).unwrap_or(0);
        let most = range.max_val.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        import.builder.graph.limit(symbol, least, most);
    }
    import.inputs(module, tensors)?;
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
    Err(Error::new(ErrorKind::Unsupported, text.trim_end_matches("; ")))
}

fn collect_missing(graph: &schema::Graph, missing: &mut Vec<(String, String)>) {
    for node in &graph.nodes {
        let (op, _, _) = split_target(&node.target);
        if lower::rule(op).is_none() {
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
fn mutated(module: &schema::GraphModule) -> BTreeSet<Arc<str>> {
    let mut root: HashMap<&str, &str> = HashMap::new();
    let mut mutated = BTreeSet::new();
    for node in &module.graph.nodes {
        let (op, _, in_place) = split_target(&node.target);
        let Some(Argument::AsTensor(first)) = node.inputs.first().map(|input| &input.arg) else { continue };
        let origin = root.get(&*first.name).copied().unwrap_or(&first.name);
        if in_place && op != "detach" {
            mutated.insert(origin.into());
        }
        if in_place || view::is_view(op) {
            output_names(node).into_iter().flatten().for_each(|name| {
                root.insert(name, origin);
            });
        }
    }
    let changed = module.signature.output_specs.iter().filter_map(|spec| match spec {
        OutputSpec::BufferMutation { buffer_name, .. } => Some(buffer_name),
        _ => None,
    });
    for name in changed {
        let argument = module.signature.input_specs.iter().find_map(|spec| match spec {
            InputSpec::Buffer { arg, buffer_name } if buffer_name == name => Some(arg.name.clone()),
            _ => None,
        });
        mutated.extend(argument);
    }
    mutated
}

impl<'a> Program<'a> {
    fn inputs(&mut self, module: &schema::GraphModule, tensors: &Tensors) -> Result<()> {
        let mutated = mutated(module);
        for spec in &module.signature.input_specs {
            match spec {
                InputSpec::UserInput { arg } => self.user_input(&module.graph, arg)?,
                InputSpec::Parameter { arg, parameter_name: path }
                | InputSpec::Buffer { arg, buffer_name: path }
                | InputSpec::TensorConstant { arg, tensor_constant_name: path } => {
                    self.stored_tensor(arg, path, mutated.contains(&arg.name), tensors).at(|| format!("`{path}`"))?;
                }
                InputSpec::CustomObj { custom_obj_name: name } => {
                    fail!(Unsupported, "the custom object `{name}` is pickled, and pickles are never opened")
                }
                InputSpec::ConstantInput { .. } | InputSpec::Token {} => {}
            }
        }
        Ok(())
    }

    fn user_input(&mut self, graph: &schema::Graph, argument: &Argument) -> Result<()> {
        let Argument::AsTensor(tensor) = argument else { return Ok(()) };
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
        let wanted = match meta.dtype {
            6 => DType::F16,
            13 => DType::BF16,
            code => dtype_of(code)?,
        };
        let value = self.builder.graph.input(&tensor.name, wanted, shape);
        let value = self.builder.graph.cast(value, dtype_of(meta.dtype)?)?;
        let value = self.builder.plain(value);
        self.define(&tensor.name, value, None);
        Ok(())
    }

    fn stored_tensor(&mut self, name: &schema::Name, path: &str, changes: bool, tensors: &Tensors) -> Result<()> {
        let graph = &mut self.builder.graph;
        let value = if changes {
            let array = tensors.array(path)?;
            let value = graph.state(path, array.dtype(), array.shape());
            if array.bytes().iter().any(|&byte| byte != 0) {
                graph.start_state(path, array)?;
            }
            value
        } else if tensors.is_weight(path) {
            graph.weight(path, &tensors.shape(path)?)?
        } else {
            graph.constant(tensors.array(path)?)
        };
        let value = self.builder.plain(value);
        self.define(&name.name, value, changes.then(|| path.into()));
        Ok(())
    }

    /// Gives a tensor with memory of its own a name.
    fn define(&mut self, name: &Arc<str>, value: Tensor, state: Option<Arc<str>>) {
        self.bases.push(Base { value: value.clone(), version: 0, state });
        let path = Path { base: self.bases.len() - 1, version: 0, views: Vec::new() };
        self.paths.insert(name.clone(), path);
        self.items.insert(name.clone(), Item::Tensor(value));
    }

    /// Brings what a node reads up to date.
    fn refresh(&mut self, graph: &schema::Graph, name: &Arc<str>) -> Result<()> {
        let Some(path) = self.paths.get(name) else { return Ok(()) };
        let base = &self.bases[path.base];
        if path.version == base.version {
            return Ok(());
        }
        let (version, views) = (base.version, path.views.clone());
        let mut value = base.value.clone();
        for (node, index) in views {
            value = self.walk(graph, node, index, value)?;
        }
        self.items.insert(name.clone(), Item::Tensor(value));
        if let Some(path) = self.paths.get_mut(name) {
            path.version = version;
        }
        Ok(())
    }

    /// Result `index` of the view `node` of `value`.
    fn walk(&mut self, graph: &schema::Graph, node: &schema::Node, index: usize, value: Tensor) -> Result<Tensor> {
        let Some(Argument::AsTensor(first)) = node.inputs.first().map(|input| &input.arg) else {
            fail!(Format, "a view of no tensor");
        };
        let mut items = self.items.clone();
        items.insert(first.name.clone(), Item::Tensor(value));
        match run(&mut self.builder, graph, node, &items)?.into_iter().nth(index) {
            Some(Item::Tensor(tensor)) => Ok(tensor),
            _ => fail!(Format, "a view that yields no tensor"),
        }
    }

    pub(super) fn nodes(&mut self, graph: &'a schema::Graph) -> Result<()> {
        for node in &graph.nodes {
            self.builder.graph.enter(source::module(node));
            self.builder.graph.trace(Some(source::origin(node)));
            self.node(graph, node)
                .at(|| format!("{} ({})", node.target.trim_start_matches("torch.ops."), source::place(node)))?;
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
            self.refresh(graph, name)?;
        }
        let (op, _, in_place) = split_target(&node.target);
        if matches!(op, "cond") {
            return self.cond(graph, node);
        }
        let results = run(&mut self.builder, graph, node, &self.items)?;
        let first = match node.inputs.first().map(|input| &input.arg) {
            Some(Argument::AsTensor(first)) => Some(&first.name),
            _ => None,
        };
        let names = output_names(node);
        match first {
            Some(first) if in_place && op != "detach" => {
                let Some(Item::Tensor(new)) = results.first() else { fail!(Format, "a change that yields nothing") };
                self.change(graph, first, new)?;
                let path = self.paths.get(first).cloned();
                if let (Some(Some(name)), Some(path)) = (names.first(), path) {
                    let item = self.items[first].clone();
                    self.items.insert((*name).clone(), item);
                    self.paths.insert((*name).clone(), path);
                }
                return Ok(());
            }
            _ => {}
        }
        let shared = first.filter(|_| view::is_view(op)).and_then(|first| self.paths.get(first)).cloned();
        for (index, (name, item)) in names.into_iter().zip(results).enumerate() {
            let Some(name) = name else { continue };
            match (item, &shared) {
                (Item::Tensor(value), Some(path)) => {
                    let mut path = path.clone();
                    path.views.push((node, index));
                    self.paths.insert(name.clone(), path);
                    self.items.insert(name.clone(), Item::Tensor(value));
                }
                (Item::Tensor(value), None) => self.define(name, value, None),
                (item, _) => {
                    self.items.insert(name.clone(), item);
                }
            }
        }
        Ok(())
    }

    /// Makes `new` what the memory under `name` holds.
    fn change(&mut self, graph: &schema::Graph, name: &Arc<str>, new: &Tensor) -> Result<()> {
        let Some(Item::Tensor(old)) = self.items.get(name).cloned() else { fail!(Format, "`{name}` is no tensor") };
        let Some(path) = self.paths.get(name).cloned() else { fail!(Format, "`{name}` has no memory") };
        let new = self.builder.cast(new, self.builder.dtype(&old))?;
        let shape = self.builder.shape(&old);
        let new = self.builder.expand(&new, &shape)?;
        let mut levels = vec![self.bases[path.base].value.clone()];
        for &(node, index) in &path.views {
            let last = levels[levels.len() - 1].clone();
            levels.push(self.walk(graph, node, index, last)?);
        }
        let mut current = new.clone();
        for (&(node, index), level) in path.views.iter().zip(&levels).rev() {
            let items = &self.items;
            let call = call(graph, node, items);
            current = view::write_back(&mut self.builder, &call, index, level, &current)?;
        }
        let base = &mut self.bases[path.base];
        base.value = current;
        base.version += 1;
        let version = base.version;
        self.items.insert(name.clone(), Item::Tensor(new));
        if let Some(path) = self.paths.get_mut(name) {
            path.version = version;
        }
        Ok(())
    }

    /// Both branches are computed, and the results of one are chosen: branches have no effects.
    fn cond(&mut self, graph: &'a schema::Graph, node: &'a schema::Node) -> Result<()> {
        let arguments: Vec<_> = node.inputs.iter().map(|input| &input.arg).collect();
        let [Argument::AsTensor(condition), Argument::AsGraph(yes), Argument::AsGraph(no), operands] = &arguments[..]
        else {
            fail!(Unsupported, "cond with other arguments than a tensor, two graphs and their operands");
        };
        let Some(Item::Tensor(condition)) = self.items.get(&condition.name).cloned() else {
            fail!(Format, "cond on what is no tensor");
        };
        let condition = self.builder.cast(&condition, DType::Bool)?;
        let yes = self.branch(&yes.graph, operands)?;
        let no = self.branch(&no.graph, operands)?;
        let _ = graph;
        for (name, (yes, no)) in output_names(node).into_iter().zip(yes.into_iter().zip(no)) {
            let (Item::Tensor(yes), Item::Tensor(no)) = (yes, no) else { fail!(Unsupported, "cond yields no tensor") };
            let chosen = self.builder.select(&condition, &yes, &no)?;
            if let Some(name) = name {
                self.define(name, chosen, None);
            }
        }
        Ok(())
    }

    /// The results of a subgraph.
    fn branch(&mut self, graph: &'a schema::Graph, operands: &Argument) -> Result<Vec<Item>> {
        let operands: Vec<_> = source::names(operands).map(|name| self.items.get(name).cloned()).collect();
        let mut inner = Program {
            builder: std::mem::take(&mut self.builder),
            items: self.items.clone(),
            paths: HashMap::new(),
            bases: Vec::new(),
            inner: true,
        };
        let parameters = graph.inputs.iter().flat_map(source::names);
        for (name, operand) in parameters.zip(operands) {
            match operand {
                Some(Item::Tensor(tensor)) => inner.define(name, tensor, None),
                Some(item) => {
                    inner.items.insert(name.clone(), item);
                }
                None => fail!(Format, "an operand of a subgraph is not there"),
            }
        }
        inner.nodes(graph)?;
        let results = graph.outputs.iter().flat_map(source::names);
        let results = results.map(|name| match inner.items.get(name) {
            Some(item) => Ok(item.clone()),
            None => fail!(Format, "a result of a subgraph is not there"),
        });
        let results = results.collect::<Result<Vec<_>>>()?;
        self.builder = inner.builder;
        Ok(results)
    }

    fn outputs(&mut self, module: &'a schema::GraphModule) -> Result<()> {
        self.builder.graph.enter("");
        self.builder.graph.trace(None);
        let mut count = 0;
        for spec in &module.signature.output_specs {
            match spec {
                OutputSpec::UserOutput { arg } => {
                    self.output(&module.graph, arg, count)?;
                    count += 1;
                }
                OutputSpec::LossOutput { arg } => {
                    self.output(&module.graph, &Argument::AsTensor(arg.clone()), count)?;
                    count += 1;
                }
                OutputSpec::BufferMutation { arg, buffer_name } => {
                    self.refresh(&module.graph, &arg.name)?;
                    let Some(Item::Tensor(tensor)) = self.items.get(&arg.name).cloned() else {
                        fail!(Format, "the new value of buffer `{buffer_name}` is not there");
                    };
                    let value = self.builder.dense(&tensor)?;
                    self.builder.graph.update_state(buffer_name, value)?;
                }
                OutputSpec::ParameterMutation { parameter_name: name, .. } => {
                    fail!(Unsupported, "the parameter `{name}` is changed; export for inference")
                }
                _ => {}
            }
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
                self.refresh(graph, source)?;
                match self.items.get(source).cloned() {
                    Some(Item::Tensor(tensor) | Item::Number(tensor)) => tensor,
                    Some(Item::Integer(dim)) => self.builder.integer(&dim)?,
                    _ => fail!(Format, "the result `{source}` is not there"),
                }
            }
        };
        let value = self.builder.dense(&tensor)?;
        self.builder.graph.output(&name, value);
        Ok(())
    }
}

fn call<'c>(graph: &'c schema::Graph, node: &'c schema::Node, items: &'c HashMap<Arc<str>, Item>) -> Call<'c> {
    let (op, overload, _) = split_target(&node.target);
    Call { op, overload, node, graph, items }
}

/// Lowers one node.
fn run(
    builder: &mut Builder,
    graph: &schema::Graph,
    node: &schema::Node,
    items: &HashMap<Arc<str>, Item>,
) -> Result<Vec<Item>> {
    let call = call(graph, node, items);
    if call.any_complex() && !lower::takes_complex(call.op) {
        fail!(Unsupported, "it is known for real numbers only");
    }
    match lower::rule(call.op) {
        Some(rule) => rule(builder, &call),
        None => fail!(Unsupported, "there is no rule for it"),
    }
}
