//! Which results share memory with an argument, and how a change of a view reaches what it is a view of.

use std::sync::Arc;

use super::{
    builder::{Builder, Tensor, check_list, elements},
    call::{Item, dim_of, is_complex, output_names},
    program::{Program, call, run, split_target},
    rules::view,
    schema::{self, Argument},
    tensors::Strided,
};
use ondine_graph::{Dim, NDArray, Result, Scatter, fail};

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

/// A way to look at a tensor.
#[derive(Clone)]
pub(super) enum View<'a> {
    /// One result of a node.
    Result { graph: &'a schema::Graph, node: &'a schema::Node, index: usize },
    /// Elements of the memory that stored tensors share.
    Stored(Arc<Strided>),
}

impl Strided {
    /// The elements of a tensor that holds the memory.
    fn view(&self, builder: &mut Builder, whole: &Tensor) -> Result<Tensor> {
        let all = elements(&builder.shape(whole));
        let flat = builder.reshape(whole, &[all])?;
        let part = if self.in_order() {
            builder.slice(&flat, 0, &self.offset.into(), &(self.offset + self.count()).into())?
        } else {
            check_list(&self.sizes)?;
            let places: Vec<i64> = (0..self.count()).map(|index| self.place(index) as i64).collect();
            let places = builder.graph.constant(NDArray::new(&[places.len()], &places)?);
            let places = builder.plain(places);
            builder.take(&flat, 0, &places)?
        };
        builder.reshape(&part, &self.sizes.iter().map(|&size| size.into()).collect::<Vec<_>>())
    }

    /// What the memory holds once these elements are `new`, if they lie in order.
    fn write_back(&self, builder: &mut Builder, whole: &Tensor, new: &Tensor) -> Result<Option<Tensor>> {
        if !self.in_order() {
            return Ok(None);
        }
        let shape = builder.shape(whole);
        let all = elements(&shape);
        let flat = builder.reshape(whole, std::slice::from_ref(&all))?;
        let end = Dim::from(self.offset + self.count());
        let before = builder.slice(&flat, 0, &0.into(), &self.offset.into())?;
        let after = builder.slice(&flat, 0, &end, &all)?;
        let new = builder.reshape(new, &[self.count().into()])?;
        let parts: Vec<&Tensor> =
            [&before, &new, &after].into_iter().filter(|part| builder.dim(part, 0).fixed() != Some(0)).collect();
        let flat = builder.concat(&parts, 0)?;
        builder.reshape(&flat, &shape).map(Some)
    }

    /// True if an element may occur more than once.
    fn overlaps(&self) -> bool {
        view::overlaps(self.strides.iter().zip(&self.sizes).map(|(&stride, &size)| (stride as i64, size as i64)))
    }
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
    let (Some(sizes), Some(a), Some(b)) = (dims(&from.sizes), dims(&from.strides), dims(&to.strides)) else {
        return Memory::Unsure;
    };
    if ravel {
        return match in_order(&sizes, &a) {
            true => Memory::Shared,
            false if known(&from.sizes).is_some() && known(&from.strides).is_some() => Memory::Own,
            false => Memory::Unsure,
        };
    }
    // The same tensor has the same strides, written in the same way.
    shared_if(sizes.iter().zip(a.iter().zip(&b)).all(|(n, (a, b))| n.constant() == Some(1) || a == b))
}

fn shared_if(shared: bool) -> Memory {
    if shared { Memory::Shared } else { Memory::Own }
}

fn known(sizes: &[schema::SymInt]) -> Option<Vec<i64>> {
    sizes.iter().map(|size| dim_of(size).ok()?.constant()).collect()
}

fn dims(sizes: &[schema::SymInt]) -> Option<Vec<Dim>> {
    sizes.iter().map(|size| dim_of(size).ok()).collect()
}

/// True if these are the strides of elements in row-major order, whatever sizes there are.
fn in_order(sizes: &[Dim], strides: &[Dim]) -> bool {
    let mut dense = Dim::from(1);
    sizes.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = size.constant() == Some(1) || *stride == dense;
        dense = &dense * size;
        fits
    })
}

/// Whether a reshape is a view: it is, if each run of dimensions that lie densely becomes dimensions of its own.
fn reshaped(from: &schema::TensorMeta, to: &schema::TensorMeta) -> Memory {
    if let (Some(sizes), Some(strides)) = (dims(&from.sizes), dims(&from.strides))
        && sizes.len() == strides.len()
        && in_order(&sizes, &strides)
    {
        return Memory::Shared;
    }
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
        let base = self.add_base(value.clone(), state);
        self.paths.insert(name.clone(), Path { base, version: 0, views: Vec::new(), unsure: false });
        self.items.insert(name.clone(), Item::Tensor(value));
    }

    fn add_base(&mut self, value: Tensor, state: Option<Arc<str>>) -> usize {
        self.bases.push(Base { value, version: 0, state });
        self.bases.len() - 1
    }

    /// Gives stored tensors that share memory their names, as views of one state.
    pub(super) fn define_shared(
        &mut self,
        names: &[(Arc<str>, Strided)],
        value: &Tensor,
        state: Arc<str>,
    ) -> Result<()> {
        let base = self.add_base(value.clone(), Some(state));
        let shape = self.builder.shape(value);
        for (name, strided) in names {
            let same =
                strided.in_order() && strided.sizes.iter().map(|&size| Dim::from(size)).eq(shape.iter().cloned());
            let views = if same { Vec::new() } else { vec![View::Stored(Arc::new(strided.clone()))] };
            let mut seen = value.clone();
            for view in &views {
                seen = self.walk(view, seen)?;
            }
            self.paths.insert(name.clone(), Path { base, version: 0, views, unsure: false });
            self.items.insert(name.clone(), Item::Tensor(seen));
        }
        Ok(())
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
        for view in &views {
            value = self.walk(view, value)?;
        }
        self.items.insert(name.clone(), Item::Tensor(value));
        if let Some(path) = self.paths.get_mut(name) {
            path.version = version;
        }
        Ok(())
    }

    /// The view of `value`.
    fn walk(&mut self, view: &View<'_>, value: Tensor) -> Result<Tensor> {
        let (graph, node, index) = match view {
            View::Stored(strided) => return strided.view(&mut self.builder, &value),
            View::Result { graph, node, index } => (graph, node, *index),
        };
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
        for view in &path.views {
            let last = levels[levels.len() - 1].clone();
            levels.push(self.walk(view, last)?);
        }
        let mut current = new.clone();
        for (view, level) in path.views.iter().zip(&levels).rev() {
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
    fn write_back(&mut self, view: &View<'_>, whole: &Tensor, new: &Tensor) -> Result<Tensor> {
        let (op, overlaps, short) = match view {
            View::Result { graph, node, index } => {
                let call = call(graph, node, &self.items);
                let short = view::write_back(&mut self.builder, &call, *index, whole, new)?;
                (split_target(&node.target).0, view::repeats(&call)?, short)
            }
            View::Stored(strided) => ("stored", strided.overlaps(), strided.write_back(&mut self.builder, whole, new)?),
        };
        if let Some(whole) = short {
            return Ok(whole);
        }
        let shape = self.builder.shape(whole);
        let (all, part) = (elements(&shape), elements(&self.builder.shape(new)));
        let (Some(count), Some(written)) = (all.fixed(), part.fixed()) else {
            fail!(Unsupported, "a change through the view `{op}` of an unknown shape");
        };
        // The view of each element's own position says where every new one goes.
        let places: Vec<i64> = (0..count as i64).collect();
        let places = self.builder.graph.constant(NDArray::new(&[count], &places)?);
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
                    path.views.push(View::Result { graph, node, index });
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

    #[test]
    fn symbolic_strides_tell_too() {
        let size = |text: &str| {
            schema::SymInt::AsExpr(schema::Expr { expr_str: format!("Mul(Symbol('n'), Integer({text}))"), hint: None })
        };
        let with = |strides: [schema::SymInt; 2]| schema::TensorMeta {
            sizes: vec![schema::SymInt::AsInt(3), size("4")],
            strides: strides.to_vec(),
            ..meta(&[], &[])
        };
        let rows = with([size("4"), schema::SymInt::AsInt(1)]);
        let columns = with([schema::SymInt::AsInt(1), schema::SymInt::AsInt(3)]);
        assert_eq!(reshaped(&rows, &meta(&[12], &[1])), Memory::Shared);
        assert_eq!(reshaped(&columns, &meta(&[12], &[1])), Memory::Unsure);
        assert_eq!(converted(Some(&rows), Some(&rows), false, false), Memory::Shared);
        assert_eq!(converted(Some(&columns), Some(&rows), false, false), Memory::Own);
        assert_eq!(converted(Some(&rows), Some(&rows), false, true), Memory::Own);
        assert_eq!(converted(Some(&rows), None, true, false), Memory::Unsure);
        assert_eq!(converted(Some(&rows), Some(&meta(&[12], &[1])), true, false), Memory::Shared);
        assert_eq!(converted(Some(&columns), Some(&meta(&[12], &[1])), true, false), Memory::Unsure);
    }
}
