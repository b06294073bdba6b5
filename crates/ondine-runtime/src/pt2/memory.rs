//! Which results share memory with an argument, and how a change of a view reaches what it is a view of.

use std::sync::Arc;

use super::{
    builder::Tensor,
    call::{Item, dim_of, is_complex, output_names},
    lower::view,
    program::{Program, call, run, split_target},
    schema::{self, Argument},
};
use crate::{
    dim::Dim,
    error::{Result, fail},
    op::Scatter,
};

/// Where a name's tensor comes from.
#[derive(Clone)]
pub(super) struct Path<'a> {
    pub(super) base: usize,
    pub(super) version: u32,
    /// The views from the base on.
    pub(super) views: Vec<View<'a>>,
    /// True if it cannot be told whether this is the base's memory or a copy.
    pub(super) unsure: bool,
}

/// One result of a node that is a view.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    graph: &'a schema::Graph,
    node: &'a schema::Node,
    index: usize,
}

/// A tensor with memory of its own.
pub(super) struct Base {
    pub(super) value: Tensor,
    pub(super) version: u32,
    pub(super) state: Option<Arc<str>>,
}

/// Whose memory an operator's results are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Memory {
    Own,
    /// That of the first argument.
    Shared,
    /// The exporter's sizes or strides do not tell.
    Unsure,
}

/// True for operators whose in-place form changes what a name means, not what memory holds.
pub(super) fn renames(op: &str) -> bool {
    matches!(op, "detach" | "t" | "transpose" | "swapaxes" | "swapdims" | "squeeze" | "unsqueeze" | "as_strided")
}

/// Whose memory the results of a node are in.
pub(super) fn memory(graph: &schema::Graph, node: &schema::Node) -> Memory {
    let (op, _, _) = split_target(&node.target);
    let meta = |argument: Option<&Argument>| match argument {
        Some(Argument::AsTensor(tensor)) => graph.tensor_values.get(&tensor.name),
        _ => None,
    };
    let first = node.inputs.first().map(|input| &input.arg);
    let (from, to) = (meta(first), meta(node.outputs.first()));
    let complex = from.is_some_and(|from| is_complex(from.dtype));
    let flag =
        |name: &str| node.inputs.iter().any(|input| input.name == name && matches!(input.arg, Argument::AsBool(true)));
    match op {
        "view"
        | "unflatten"
        | "unsqueeze"
        | "squeeze"
        | "view_as"
        | "_reshape_alias"
        | "alias"
        | "detach"
        | "permute"
        | "transpose"
        | "swapaxes"
        | "swapdims"
        | "t"
        | "mT"
        | "numpy_T"
        | "matrix_H"
        | "movedim"
        | "moveaxis"
        | "expand"
        | "expand_as"
        | "broadcast_to"
        | "slice"
        | "narrow"
        | "select"
        | "split"
        | "split_with_sizes"
        | "chunk"
        | "tensor_split"
        | "unsafe_split"
        | "unsafe_chunk"
        | "unsafe_split_with_sizes"
        | "hsplit"
        | "vsplit"
        | "dsplit"
        | "unbind"
        | "diagonal"
        | "unfold"
        | "as_strided"
        | "view_as_real"
        | "view_as_complex"
        | "dropout"
        | "feature_dropout"
        | "alpha_dropout"
        | "feature_alpha_dropout"
        | "positive"
        | "resolve_conj"
        | "resolve_neg"
        | "real"
        | "imag" => Memory::Shared,
        "adjoint" | "mH" | "conj" | "_conj" if !complex => Memory::Shared,
        "adjoint" | "mH" | "conj" | "_conj" => Memory::Unsure,
        // Of lists, one may share and another not.
        "atleast_1d" | "atleast_2d" | "atleast_3d" | "broadcast_tensors" | "meshgrid" if from.is_none() => {
            Memory::Unsure
        }
        "atleast_1d" | "atleast_2d" | "atleast_3d" => Memory::Shared,
        "reshape" | "reshape_as" | "flatten" => match (from, to) {
            (Some(from), Some(to)) => reshaped(from, to),
            _ => Memory::Unsure,
        },
        "contiguous" | "ravel" | "to" | "type_as" | "float" | "double" | "half" | "int" | "long" | "bool" => {
            converted(from, to, op == "ravel", flag("copy"))
        }
        _ => Memory::Own,
    }
}

/// Whether a tensor in another type or order, or the same, is one of its own.
fn converted(from: Option<&schema::TensorMeta>, to: Option<&schema::TensorMeta>, ravel: bool, copies: bool) -> Memory {
    let (Some(from), Some(to)) = (from, to) else { return Memory::Unsure };
    if from.dtype != to.dtype || copies {
        return Memory::Own;
    }
    match (ravel, known(&from.sizes), known(&from.strides), known(&to.strides)) {
        (true, Some(sizes), Some(strides), _) => shared_if(in_order(&sizes, &strides)),
        (false, Some(sizes), Some(a), Some(b)) => {
            shared_if(sizes.iter().zip(a.iter().zip(&b)).all(|(&n, (a, b))| n == 1 || a == b))
        }
        _ => Memory::Unsure,
    }
}

fn shared_if(shared: bool) -> Memory {
    if shared { Memory::Shared } else { Memory::Own }
}

fn known(sizes: &[schema::SymInt]) -> Option<Vec<i64>> {
    sizes.iter().map(|size| dim_of(size).ok()?.constant()).collect()
}

/// True if these are the strides of elements in row-major order.
fn in_order(sizes: &[i64], strides: &[i64]) -> bool {
    let mut dense = 1_i64;
    sizes.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == dense;
        dense = dense.saturating_mul(size);
        fits
    })
}

/// Whether a reshape is a view: it is, if each run of dimensions that lie densely becomes dimensions of its own.
fn reshaped(from: &schema::TensorMeta, to: &schema::TensorMeta) -> Memory {
    let (Some(sizes), Some(strides), Some(to)) = (known(&from.sizes), known(&from.strides), known(&to.sizes)) else {
        return Memory::Unsure;
    };
    if sizes.len() != strides.len() {
        return Memory::Unsure;
    }
    if sizes.is_empty() || sizes.contains(&0) {
        return Memory::Shared;
    }
    let mut rest = to.as_slice();
    let (mut run, mut stride) = (1_i64, strides[strides.len() - 1]);
    for axis in (0..sizes.len()).rev() {
        run = run.saturating_mul(sizes[axis]);
        let continues = axis > 0 && (sizes[axis - 1] == 1 || strides[axis - 1] == run.saturating_mul(stride));
        if continues {
            continue;
        }
        let mut covered = 1_i64;
        while let [head @ .., last] = rest
            && (covered < run || *last == 1)
        {
            covered = covered.saturating_mul(*last);
            rest = head;
        }
        if covered != run {
            return Memory::Own;
        }
        if axis > 0 {
            (run, stride) = (1, strides[axis - 1]);
        }
    }
    shared_if(rest.is_empty())
}

impl<'a> Program<'a> {
    /// Gives a tensor with memory of its own a name.
    pub(super) fn define(&mut self, name: &Arc<str>, value: Tensor, state: Option<Arc<str>>) {
        self.bases.push(Base { value: value.clone(), version: 0, state });
        let path = Path { base: self.bases.len() - 1, version: 0, views: Vec::new(), unsure: false };
        self.paths.insert(name.clone(), path);
        self.items.insert(name.clone(), Item::Tensor(value));
    }

    /// Brings what a node reads up to date.
    pub(super) fn refresh(&mut self, name: &Arc<str>) -> Result<()> {
        let Some(path) = self.paths.get(name) else { return Ok(()) };
        let base = &self.bases[path.base];
        if path.version == base.version {
            return Ok(());
        }
        if path.unsure {
            fail!(Unsupported, "`{name}` is read after what it may be a view of was changed; clone it before");
        }
        let (version, views) = (base.version, path.views.clone());
        let mut value = base.value.clone();
        for view in views {
            value = self.walk(view, value)?;
        }
        self.items.insert(name.clone(), Item::Tensor(value));
        if let Some(path) = self.paths.get_mut(name) {
            path.version = version;
        }
        Ok(())
    }

    /// The view of `value`.
    fn walk(&mut self, View { graph, node, index }: View<'_>, value: Tensor) -> Result<Tensor> {
        let Some(Argument::AsTensor(first)) = node.inputs.first().map(|input| &input.arg) else {
            fail!(Format, "a view of no tensor");
        };
        let before = self.items.insert(first.name.clone(), Item::Tensor(value));
        let results = run(&mut self.builder, graph, node, &self.items);
        match before {
            Some(before) => self.items.insert(first.name.clone(), before),
            None => self.items.remove(&first.name),
        };
        match results?.into_iter().nth(index) {
            Some(Item::Tensor(tensor)) => Ok(tensor),
            _ => fail!(Format, "a view that yields no tensor"),
        }
    }

    /// Makes `new` what the memory under `name` holds.
    pub(super) fn change(&mut self, name: &Arc<str>, new: &Tensor) -> Result<()> {
        let Some(Item::Tensor(old)) = self.items.get(name).cloned() else { fail!(Format, "`{name}` is no tensor") };
        let Some(path) = self.paths.get(name).cloned() else { fail!(Format, "`{name}` has no memory") };
        if path.unsure {
            fail!(Unsupported, "a change of `{name}`, which may be a view of another tensor; clone it before");
        }
        let new = self.builder.cast(new, self.builder.dtype(&old))?;
        let shape = self.builder.shape(&old);
        let new = self.builder.expand(&new, &shape)?;
        let mut levels = vec![self.bases[path.base].value.clone()];
        for &view in &path.views {
            let last = levels[levels.len() - 1].clone();
            levels.push(self.walk(view, last)?);
        }
        let mut current = new.clone();
        for (&view, level) in path.views.iter().zip(&levels).rev() {
            current = self.write_back(view, level, &current)?;
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

    /// What the argument of a view holds once the view holds `new`; it held `whole` before.
    fn write_back(&mut self, view: View<'_>, whole: &Tensor, new: &Tensor) -> Result<Tensor> {
        let call = call(view.graph, view.node, &self.items);
        let (op, overlaps) = (split_target(&view.node.target).0, view::repeats(&call)?);
        if let Some(whole) = view::write_back(&mut self.builder, &call, view.index, whole, new)? {
            return Ok(whole);
        }
        let shape = self.builder.shape(whole);
        let elements = |shape: &[Dim]| shape.iter().fold(Dim::from(1), |product, dim| &product * dim);
        let (all, part) = (elements(&shape), elements(&self.builder.shape(new)));
        let (Some(count), Some(written)) = (all.fixed(), part.fixed()) else {
            fail!(Unsupported, "a change through the view `{op}` of an unknown shape");
        };
        // The view of each element's own position says where every new one goes.
        let places: Vec<i64> = (0..count as i64).collect();
        let places = self.builder.graph.constant(crate::NDArray::new(&[count], &places)?);
        let places = self.builder.plain(places);
        let places = self.builder.reshape(&places, &shape)?;
        let places = self.walk(view, places)?;
        if written > count || overlaps {
            fail!(Unsupported, "a change through the view `{op}`, in which elements occur more than once");
        }
        let flat = self.builder.reshape(whole, &[all])?;
        let places = self.builder.reshape(&places, std::slice::from_ref(&part))?;
        let new = self.builder.reshape(new, &[part])?;
        let flat = view::scatter_rows(&mut self.builder, Scatter::Replace, &flat, 0, &places, &new)?;
        self.builder.reshape(&flat, &shape)
    }

    /// Gives the results of a node names, as views of its arguments if they are.
    pub(super) fn name_results(
        &mut self,
        graph: &'a schema::Graph,
        node: &'a schema::Node,
        results: Vec<Item>,
    ) -> Result<()> {
        let memory = memory(graph, node);
        let first = match node.inputs.first().map(|input| &input.arg) {
            Some(Argument::AsTensor(first)) => vec![&first.name],
            Some(Argument::AsTensors(list)) => list.iter().map(|tensor| &tensor.name).collect(),
            _ => Vec::new(),
        };
        let names = output_names(node);
        for (index, (name, item)) in names.into_iter().zip(results).enumerate() {
            let Some(name) = name else { continue };
            // Views of a list are each of one of its tensors.
            let source = if first.len() == 1 { first.first() } else { first.get(index) };
            let path = source.filter(|_| memory != Memory::Own).and_then(|source| self.paths.get(*source)).cloned();
            match (item, path) {
                (Item::Tensor(value), Some(mut path)) => {
                    path.views.push(View { graph, node, index });
                    path.unsure |= memory == Memory::Unsure;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sizes: &[i64], strides: &[i64]) -> schema::TensorMeta {
        let list = |values: &[i64]| values.iter().map(|&value| schema::SymInt::AsInt(value)).collect();
        schema::TensorMeta { dtype: 7, sizes: list(sizes), strides: list(strides), storage_offset: None }
    }

    #[test]
    fn a_reshape_is_a_view_if_strides_can_say_it() {
        let shares = |sizes: &[i64], strides: &[i64], to: &[i64]| {
            reshaped(&meta(sizes, strides), &meta(to, &vec![1; to.len()])) == Memory::Shared
        };
        assert!(shares(&[6, 4], &[4, 1], &[3, 8]));
        assert!(shares(&[6, 4], &[4, 1], &[24, 1]));
        assert!(!shares(&[4, 6], &[1, 4], &[24]));
        assert!(shares(&[4, 6], &[1, 4], &[2, 2, 6]));
        assert!(shares(&[2, 3, 4], &[24, 4, 1], &[2, 12]));
        assert!(!shares(&[2, 3, 4], &[24, 4, 1], &[24]));
        assert!(shares(&[1, 4], &[9, 1], &[4]));
        assert!(shares(&[], &[], &[1, 1]));
        assert!(!shares(&[2, 4], &[0, 1], &[8]));
    }
}
