//! `torch.vmap` in the forward pass: the nodes that it maps, written out for each part of the batch.

use ondine_graph::{Dim, Result, fail};

use super::{control::MAX_STEPS, names::Program};
use crate::{
    builder::{Builder, Tensor},
    call::{Item, output_names},
    schema::{self, Argument},
    source,
    target::split_target,
    types::{dim_of, dtype_of, is_complex},
};

/// The last part of the name of a node's operator.
fn name(node: &schema::Node) -> &str {
    let (op, _, _) = split_target(&node.target);
    op.rsplit('.').next().unwrap_or(op)
}

/// If a node begins a mapped run of nodes, where among those after it the run ends.
pub(super) fn mapped(node: &schema::Node, after: &[schema::Node]) -> Option<usize> {
    if name(node) != "_vmap_increment_nesting" {
        return None;
    }
    let mut depth = 1;
    after.iter().position(|node| {
        match name(node) {
            "_vmap_increment_nesting" => depth += 1,
            "_vmap_decrement_nesting" => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// Argument `position` of a node as an integer.
fn integer(node: &schema::Node, position: usize) -> Result<i64> {
    match node.inputs.get(position).map(|input| &input.arg) {
        Some(Argument::AsInt(value)) => Ok(*value),
        _ => fail!(Unsupported, "vmap with an argument {position} that is not known beforehand"),
    }
}

/// A dimension among `rank`, negative ones counted from the end.
fn axis(position: i64, rank: usize) -> Result<usize> {
    let counted = if position < 0 { position.saturating_add(rank as i64) } else { position };
    match usize::try_from(counted) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => fail!(Shape, "dimension {position} of {rank}"),
    }
}

impl<'a> Program<'a> {
    /// Runs `nodes` for each part of a batch, and stacks what they hand out.
    pub(super) fn vmap(
        &mut self,
        graph: &'a schema::Graph,
        begin: &'a schema::Node,
        nodes: &'a [schema::Node],
    ) -> Result<()> {
        let size = integer(begin, 0)?;
        if size == 0 {
            return self.of_nothing(graph, nodes);
        }
        let Some(count) = usize::try_from(size).ok().filter(|count| (1..=MAX_STEPS).contains(count)) else {
            fail!(Unsupported, "vmap over {size} parts, or more than {MAX_STEPS}");
        };
        let level = levels(nodes);
        let mut stacked: Vec<(&schema::Node, Vec<Tensor>)> = Vec::new();
        for part in 0..count {
            let mut rest = nodes;
            let mut handed = 0;
            while let [node, after @ ..] = rest {
                rest = after;
                if let Some(end) = mapped(node, after) {
                    self.vmap(graph, node, &after[..end])?;
                    rest = &after[end + 1..];
                    continue;
                }
                match name(node) {
                    "_add_batch_dim" if integer(node, 2)? == level => self.part(node, part)?,
                    "_remove_batch_dim" if integer(node, 1)? == level => {
                        let tensor = self.argument(node)?;
                        if part == 0 {
                            stacked.push((node, Vec::new()));
                        }
                        match stacked.get_mut(handed) {
                            Some((_, parts)) => parts.push(tensor),
                            None => fail!(Format, "a mapped run of nodes that differs from part to part"),
                        }
                        handed += 1;
                    }
                    _ => self.run_of_nodes(graph, std::slice::from_ref(node))?,
                }
            }
        }
        for (node, parts) in stacked {
            let whole = self.stacked(node, &parts)?;
            if let Some(Some(name)) = output_names(node).first() {
                self.define(name, whole, None);
            }
        }
        Ok(())
    }

    /// What a run over no parts hands out: tensors without elements.
    fn of_nothing(&mut self, graph: &schema::Graph, nodes: &[schema::Node]) -> Result<()> {
        let level = levels(nodes);
        for node in nodes.iter().filter(|node| name(node) == "_remove_batch_dim") {
            let (true, Some(Some(name))) = (integer(node, 1)? == level, output_names(node).first().copied()) else {
                continue;
            };
            let Some(meta) = graph.tensor_values.get(name) else { fail!(Format, "nothing is said of `{name}`") };
            let mut shape = meta.sizes.iter().map(dim_of).collect::<Result<Vec<_>>>()?;
            shape.extend(is_complex(meta.dtype).then(|| 2.into()));
            let zero = self.builder.number(0.0, dtype_of(meta.dtype)?)?;
            let empty = self.builder.expand(&zero, &shape)?;
            self.define(name, empty, None);
        }
        Ok(())
    }

    /// The tensor that is the first argument of a node.
    fn argument(&mut self, node: &schema::Node) -> Result<Tensor> {
        let Some(name) = node.inputs.first().and_then(|input| source::names(&input.arg).next()) else {
            fail!(Format, "vmap of no tensor");
        };
        self.refresh(name)?;
        match self.items.get(name) {
            Some(Item::Tensor(tensor)) => Ok(tensor.clone()),
            _ => fail!(Format, "`{name}` is no tensor"),
        }
    }

    /// What a mapped argument is for one part of the batch.
    fn part(&mut self, node: &schema::Node, part: usize) -> Result<()> {
        let x = self.argument(node)?;
        let axis = axis(integer(node, 1)?, x.rank())?;
        let row = self.builder.slice(&x, axis, &part.into(), &(part + 1).into())?;
        let row = self.builder.without(&row, axis)?;
        if let Some(Some(name)) = output_names(node).first() {
            self.define(name, row, None);
        }
        Ok(())
    }

    /// The parts along a new dimension.
    fn stacked(&mut self, node: &schema::Node, parts: &[Tensor]) -> Result<Tensor> {
        let rank = parts.first().map_or(0, Tensor::rank);
        let axis = axis(integer(node, 3)?, rank + 1)?;
        let mut tall = Vec::new();
        for part in parts {
            let mut shape: Vec<Dim> = self.builder.shape(part);
            shape.insert(axis, 1.into());
            tall.push(self.builder.reshape(part, &shape)?);
        }
        Builder::concat(&mut self.builder, &tall.iter().collect::<Vec<_>>(), axis)
    }
}

/// The level of a run: that of the batch which its first argument is a part of.
fn levels(nodes: &[schema::Node]) -> i64 {
    let mut depth = 0;
    for node in nodes {
        match name(node) {
            "_vmap_increment_nesting" => depth += 1,
            "_vmap_decrement_nesting" => depth -= 1,
            "_add_batch_dim" if depth == 0 => return integer(node, 2).unwrap_or(1),
            _ => {}
        }
    }
    1
}
