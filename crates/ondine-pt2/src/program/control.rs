//! Operators that hold graphs of their own: branches, loops, and regions that only set a mode.

use std::{collections::HashMap, sync::Arc};

use ondine_graph::{Binary, Condition, DType, Dim, Loop, Op, Result, Signature, fail};

use super::names::Program;
use crate::{
    builder::{Builder, Tensor},
    call::{Item, output_names},
    schema::{self, Argument, SymArgument},
    source,
    target::split_target,
};

/// A scan is written out; longer ones would make graphs that nobody can hold.
pub(super) const MAX_STEPS: usize = 4096;

/// An operator in its place among those with effects: only checks, which yield nothing, have none that matter.
fn effect(arguments: &[&Argument]) -> Result<()> {
    match arguments.get(1) {
        Some(Argument::AsOperator(name)) if name.contains("_check") || name.contains("_assert") => Ok(()),
        Some(Argument::AsOperator(name)) => fail!(Unsupported, "the effects of {name}"),
        _ => fail!(Format, "effects of no operator"),
    }
}

/// A region in which PyTorch chooses types: the program says nothing of what it chooses. Nothing is chosen if that is
/// turned off, or is for another device than the processor.
fn autocast(arguments: &[&Argument]) -> Result<()> {
    match arguments {
        [_, _, Argument::AsBool(false), ..] => Ok(()),
        [Argument::AsString(device), ..] if device != "cpu" => Ok(()),
        _ => fail!(Unsupported, "autocast, whose types the program does not hold; export with strict=False"),
    }
}

impl<'a> Program<'a> {
    pub(super) fn control(&mut self, node: &'a schema::Node) -> Result<()> {
        let arguments: Vec<&Argument> = node.inputs.iter().map(|input| &input.arg).collect();
        let op = split_target(&node.target).0;
        let results = match op.rsplit('.').next().unwrap_or(op) {
            "cond" => self.cond(&arguments)?,
            "while_loop" => self.while_loop(&arguments)?,
            "scan" => self.scan(&arguments)?,
            "map_impl" => self.map(&arguments)?,
            "with_effects" => return effect(&arguments),
            "_vmap_increment_nesting" | "_vmap_decrement_nesting" | "_add_batch_dim" | "_remove_batch_dim" => {
                fail!(Unsupported, "vmap whose beginning and end are not in one graph")
            }
            "lazy_load_decompositions" => return Ok(()),
            "wrap_with_autocast" => {
                autocast(&arguments)?;
                return self.region(node, &arguments);
            }
            _ => return self.region(node, &arguments),
        };
        let names = output_names(node);
        if names.len() != results.len() {
            fail!(Format, "{} results instead of {}", results.len(), names.len());
        }
        for (name, value) in names.into_iter().zip(results) {
            if let Some(name) = name {
                self.define(name, value, None);
            }
        }
        Ok(())
    }

    /// Both branches are computed, and the results of one are chosen: branches have no effects. What the other one
    /// would have failed by, an index outside its table, it does not see; a size that its data decides it does.
    fn cond(&mut self, arguments: &[&'a Argument]) -> Result<Vec<Tensor>> {
        let [condition, Argument::AsGraph(yes), Argument::AsGraph(no), operands] = arguments else {
            fail!(Unsupported, "cond with other arguments than a condition, two graphs and their operands");
        };
        let operands = self.operands(operands)?;
        if let Argument::AsBool(known) | Argument::AsSymBool(SymArgument::AsBool(known)) = condition {
            let chosen = if *known { yes } else { no };
            return self.branch(&chosen.graph, &operands);
        }
        let condition = source::names(condition).next().and_then(|name| self.items.get(name)).cloned();
        let condition = match condition {
            Some(Item::Tensor(condition) | Item::Number(condition)) => condition,
            Some(Item::Truth(Condition::Known(known))) => {
                return self.branch(if known { &yes.graph } else { &no.graph }, &operands);
            }
            Some(Item::Truth(condition)) => self.builder.truth(&condition)?,
            _ => fail!(Unsupported, "cond on a condition that is not computed"),
        };
        let condition = self.builder.cast(&condition, DType::Bool)?;
        let condition = self.builder.reshape(&condition, &[])?;
        let otherwise = self.builder.not(&condition)?;
        let yes = self.chosen_branch(&condition, &yes.graph, &operands)?;
        let no = self.chosen_branch(&otherwise, &no.graph, &operands)?;
        if yes.len() != no.len() {
            fail!(Format, "branches with {} and {} results", yes.len(), no.len());
        }
        yes.iter().zip(&no).map(|(yes, no)| self.builder.select(&condition, yes, no)).collect()
    }

    /// The results of a subgraph that count where `chosen` holds.
    fn chosen_branch(&mut self, chosen: &Tensor, graph: &'a schema::Graph, operands: &[Item]) -> Result<Vec<Tensor>> {
        let outer = self.builder.taken.clone();
        let taken = match &outer {
            Some(outer) => self.builder.binary(Binary::And, outer, chosen)?,
            None => chosen.clone(),
        };
        self.builder.taken = Some(taken);
        let results = self.branch(graph, operands);
        self.builder.taken = outer;
        results
    }

    fn operands(&self, argument: &Argument) -> Result<Vec<Item>> {
        let constants = match argument {
            Argument::AsSymInts(list) => {
                let item = |sym: &SymArgument| match sym {
                    SymArgument::AsInt(value) => Some(Item::Integer(Dim::from_i64(*value))),
                    SymArgument::AsName(name) => self.items.get(name).cloned(),
                    _ => None,
                };
                Some(list.iter().map(item).collect::<Option<Vec<_>>>())
            }
            Argument::AsInts(list) => {
                Some(Some(list.iter().map(|&value| Item::Integer(Dim::from_i64(value))).collect()))
            }
            Argument::AsInt(value) => Some(Some(vec![Item::Integer(Dim::from_i64(*value))])),
            _ => None,
        };
        let items = constants.unwrap_or_else(|| source::names(argument).map(|n| self.items.get(n).cloned()).collect());
        match items {
            Some(items) => Ok(items),
            None => fail!(Format, "an operand of a subgraph is not there"),
        }
    }

    /// The results of a subgraph, whose parameters stand for `operands`.
    fn branch(&mut self, graph: &'a schema::Graph, operands: &[Item]) -> Result<Vec<Tensor>> {
        let mut inner = Program {
            builder: std::mem::take(&mut self.builder),
            items: self.items.clone(),
            paths: HashMap::new(),
            bases: Vec::new(),
            inner: true,
        };
        let results = inner.subgraph(graph, operands);
        self.builder = inner.builder;
        results
    }

    fn subgraph(&mut self, graph: &'a schema::Graph, operands: &[Item]) -> Result<Vec<Tensor>> {
        let parameters: Vec<_> = graph.inputs.iter().flat_map(source::names).collect();
        if parameters.len() != operands.len() {
            fail!(Unsupported, "a subgraph of {} parameters with {} operands", parameters.len(), operands.len());
        }
        for (name, operand) in parameters.into_iter().zip(operands) {
            match operand {
                Item::Tensor(tensor) => self.define(name, tensor.clone(), None),
                item => {
                    self.items.insert(name.clone(), item.clone());
                }
            }
        }
        self.nodes(graph)?;
        let mut results = Vec::new();
        for output in &graph.outputs {
            results.push(self.result(output)?);
        }
        Ok(results)
    }

    fn result(&mut self, output: &Argument) -> Result<Tensor> {
        match output {
            Argument::AsInt(value) => return self.builder.integer(&Dim::from_i64(*value)),
            Argument::AsBool(value) => return self.builder.number(f64::from(u8::from(*value)), DType::Bool),
            _ => {}
        }
        let Some(name) = source::names(output).next() else { fail!(Unsupported, "a subgraph without a result") };
        self.refresh(name)?;
        match self.items.get(name).cloned() {
            Some(Item::Tensor(tensor) | Item::Number(tensor)) => Ok(tensor),
            Some(Item::Count { number, .. }) => Ok(number),
            Some(Item::Integer(dim)) => self.builder.integer(&dim),
            Some(Item::Real(real)) => self.builder.real(&real),
            Some(Item::Truth(condition)) => self.builder.truth(&condition),
            _ => fail!(Format, "the result `{name}` of a subgraph is not there"),
        }
    }

    /// A loop whose length the data decides: its condition and body become graphs of an operator.
    fn while_loop(&mut self, arguments: &[&'a Argument]) -> Result<Vec<Tensor>> {
        let [Argument::AsGraph(condition), Argument::AsGraph(body), carried, rest @ ..] = arguments else {
            fail!(Unsupported, "while_loop with other arguments than two graphs and their operands");
        };
        let mut operands = self.operands(carried)?;
        let count = operands.len();
        for more in rest {
            operands.extend(self.operands(more)?);
        }
        let mut inputs = Vec::new();
        for (position, item) in operands.iter_mut().enumerate() {
            let tensor = match item {
                Item::Tensor(tensor) => tensor.clone(),
                _ if position < count => fail!(Unsupported, "a loop that carries numbers; make them tensors"),
                Item::Number(tensor) | Item::Count { number: tensor, .. } => tensor.clone(),
                _ => continue,
            };
            let value = self.builder.dense(&tensor)?;
            let signature = self.builder.graph.node(value).signature.clone();
            inputs.push(value);
            *item = Item::Tensor(Tensor { value, axes: (0..signature.shape.rank()).collect() });
        }
        let signatures: Vec<_> = inputs.iter().map(|&value| self.builder.graph.node(value).signature.clone()).collect();
        let condition = self.loop_graph(&condition.graph, &operands, &signatures, None)?;
        let body = self.loop_graph(&body.graph, &operands, &signatures, Some(&signatures[..count]))?;
        let whole = Loop { condition, body, carried: count };
        let offsets = whole.offsets();
        let packed = self.builder.graph.push_loop(Arc::new(whole), &inputs)?;
        let mut results = Vec::new();
        for (signature, offset) in signatures.into_iter().take(count).zip(offsets) {
            let part = self.builder.graph.push(Op::Unpack { offset, signature }, &[packed])?;
            results.push(self.builder.plain(part));
        }
        Ok(results)
    }

    /// A graph of a loop: of a truth value, or of what is carried to the next turn.
    fn loop_graph(
        &self,
        graph: &'a schema::Graph,
        operands: &[Item],
        signatures: &[Signature],
        carried: Option<&[Signature]>,
    ) -> Result<ondine_graph::Graph> {
        let mut builder = Builder::default();
        builder.nested = true;
        builder.counts.clone_from(&self.builder.counts);
        let mut inner =
            Program { builder, items: HashMap::new(), paths: HashMap::new(), bases: Vec::new(), inner: true };
        for (symbol, &[least, most]) in self.builder.graph.limits() {
            inner.builder.graph.limit(symbol, least, most);
        }
        let mut position = 0;
        let mut own = Vec::new();
        for item in operands {
            own.push(match item {
                Item::Tensor(_) => {
                    let Signature { shape, dtype } = signatures[position].clone();
                    let value = inner.builder.graph.input(&position.to_string(), dtype, shape);
                    position += 1;
                    Item::Tensor(inner.builder.plain(value))
                }
                item => item.clone(),
            });
        }
        let results = inner.subgraph(graph, &own)?;
        let wanted = carried.map_or(1, <[Signature]>::len);
        if results.len() != wanted {
            fail!(Format, "a graph of a loop yields {} results, wanted {wanted}", results.len());
        }
        for (index, result) in results.iter().enumerate() {
            let (dtype, shape) = match carried {
                Some(carried) => (carried[index].dtype, carried[index].shape.0.clone()),
                None => (DType::Bool, Vec::new()),
            };
            let result = inner.builder.cast(result, dtype)?;
            let result = if carried.is_none() { inner.builder.reshape(&result, &shape)? } else { result };
            if inner.builder.shape(&result) != shape {
                fail!(Unsupported, "a loop that carries a tensor whose shape changes");
            }
            let value = inner.builder.dense(&result)?;
            inner.builder.graph.output(&index.to_string(), value);
        }
        ondine_graph::rewrite::sweep(&inner.builder.graph)
    }

    /// A loop over the parts of tensors, written out.
    fn scan(&mut self, arguments: &[&'a Argument]) -> Result<Vec<Tensor>> {
        let [Argument::AsGraph(combine), start, rows, rest @ ..] = arguments else {
            fail!(Unsupported, "scan with other arguments than a graph and its operands");
        };
        let (mut carried, rows) = (self.operands(start)?, self.operands(rows)?);
        let count = carried.len();
        let mut stacked: Vec<Vec<Tensor>> = Vec::new();
        for step in 0..self.steps(&rows)? {
            let mut operands = carried.clone();
            operands.extend(self.rows(&rows, step)?);
            for more in rest {
                operands.extend(self.operands(more)?);
            }
            let results = self.branch(&combine.graph, &operands)?;
            if results.len() < count {
                fail!(Format, "a scan yields {} results for {count} that it carries", results.len());
            }
            stacked.resize(results.len() - count, Vec::new());
            let mut results = results.into_iter();
            carried = results.by_ref().take(count).map(Item::Tensor).collect();
            stacked.iter_mut().zip(results).for_each(|(rows, row)| rows.push(row));
        }
        let mut results = Vec::new();
        for item in carried {
            match item {
                Item::Tensor(tensor) => results.push(tensor),
                _ => fail!(Unsupported, "a scan that carries numbers"),
            }
        }
        for rows in stacked {
            results.push(self.stack(&rows)?);
        }
        Ok(results)
    }

    /// A function of the parts of tensors, written out.
    fn map(&mut self, arguments: &[&'a Argument]) -> Result<Vec<Tensor>> {
        let [Argument::AsGraph(function), rows, rest @ ..] = arguments else {
            fail!(Unsupported, "map with other arguments than a graph and its operands");
        };
        let rows = self.operands(rows)?;
        let mut stacked: Vec<Vec<Tensor>> = Vec::new();
        for step in 0..self.steps(&rows)? {
            let mut operands = self.rows(&rows, step)?;
            for more in rest {
                operands.extend(self.operands(more)?);
            }
            let results = self.branch(&function.graph, &operands)?;
            stacked.resize(results.len(), Vec::new());
            stacked.iter_mut().zip(results).for_each(|(rows, row)| rows.push(row));
        }
        stacked.iter().map(|rows| self.stack(rows)).collect()
    }

    /// How many parts the tensors have, which must be known.
    fn steps(&self, rows: &[Item]) -> Result<usize> {
        let Some(Item::Tensor(first)) = rows.first() else { fail!(Unsupported, "a loop over no tensor") };
        let size = if first.rank() == 0 { None } else { self.builder.dim(first, 0).fixed() };
        match size.filter(|steps| (1..=MAX_STEPS).contains(steps)) {
            Some(steps) => Ok(steps),
            None => fail!(Unsupported, "a loop over an unknown number of parts, or more than {MAX_STEPS}"),
        }
    }

    fn rows(&mut self, tensors: &[Item], step: usize) -> Result<Vec<Item>> {
        let mut rows = Vec::new();
        for item in tensors {
            let Item::Tensor(tensor) = item else { fail!(Unsupported, "a loop over what is no tensor") };
            if tensor.rank() == 0 || self.builder.dim(tensor, 0).fixed().is_none_or(|size| size <= step) {
                fail!(Shape, "a loop over tensors of unlike lengths");
            }
            let row = self.builder.slice(tensor, 0, &step.into(), &(step + 1).into())?;
            let shape = self.builder.shape(&row)[1..].to_vec();
            rows.push(Item::Tensor(self.builder.reshape(&row, &shape)?));
        }
        Ok(rows)
    }

    fn stack(&mut self, rows: &[Tensor]) -> Result<Tensor> {
        let mut tall = Vec::new();
        for row in rows {
            let shape: Vec<Dim> = std::iter::once(Dim::from(1)).chain(self.builder.shape(row)).collect();
            tall.push(self.builder.reshape(row, &shape)?);
        }
        self.builder.concat(&tall.iter().collect::<Vec<_>>(), 0)
    }

    /// A region that only sets a mode, such as `torch.no_grad()`: its nodes are those around it.
    fn region(&mut self, node: &'a schema::Node, arguments: &[&'a Argument]) -> Result<()> {
        let Some((position, inner)) = arguments.iter().enumerate().find_map(|(i, argument)| match argument {
            Argument::AsGraph(inner) => Some((i, &inner.graph)),
            _ => None,
        }) else {
            fail!(Format, "a region without a graph");
        };
        let operands: Vec<_> = arguments[position + 1..].iter().flat_map(|argument| source::names(argument)).collect();
        let parameters: Vec<_> = inner.inputs.iter().flat_map(source::names).collect();
        if operands.len() != parameters.len() {
            fail!(Unsupported, "a region of {} parameters with {} operands", parameters.len(), operands.len());
        }
        // Names of one graph mean nothing in the other; memory is the same.
        let (items, paths) = (self.items.clone(), self.paths.clone());
        for (parameter, operand) in parameters.into_iter().zip(operands) {
            self.refresh(operand)?;
            match (self.items.get(operand).cloned(), paths.get(operand)) {
                (Some(item), Some(path)) => {
                    let mut path = path.clone();
                    path.version = self.bases[path.base].version;
                    self.items.insert(parameter.clone(), item);
                    self.paths.insert(parameter.clone(), path);
                }
                (Some(item), None) => {
                    self.items.insert(parameter.clone(), item);
                }
                (None, _) => fail!(Format, "an operand of a region is not there"),
            }
        }
        self.nodes(inner)?;
        let mut results = Vec::new();
        for output in &inner.outputs {
            let Some(name) = source::names(output).next() else {
                results.push(None);
                continue;
            };
            self.refresh(name)?;
            results.push(self.items.get(name).cloned().map(|item| (item, self.paths.get(name).cloned())));
        }
        (self.items, self.paths) = (items, paths);
        for (name, result) in output_names(node).into_iter().zip(results) {
            let (Some(name), Some((item, path))) = (name, result) else { continue };
            self.items.insert(name.clone(), item);
            self.paths.extend(path.map(|path| (name.clone(), path)));
        }
        Ok(())
    }
}
