//! Which results share memory with an argument, and how a change of a view reaches what it is a view of.

use std::sync::Arc;

use ondine_graph::{Dim, NDArray, Result, Scatter, fail};

use super::names::{Base, Path, Program, View, call, moved};
use crate::{
    builder::{Builder, Tensor, check_list, elements},
    call::{Item, output_names},
    rules::{self, rule::Change, sharing::Memory, view},
    schema::{self, Argument},
    target::split_target,
    tensors::Strided,
};

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
        let results = moved(&mut self.builder, graph, node, &self.items);
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
                let Some(rule) = rules::rule(call.op) else { fail!(Format, "a view without a rule") };
                let short = (rule.back)(&mut self.builder, &call, &Change { index: *index, whole, new })?;
                (split_target(&node.target).0, (rule.repeats)(&call)?, short)
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
        let flat = self.builder.scatter_rows(Scatter::Replace, &flat, 0, &places, &new)?;
        self.builder.reshape(&flat, &shape)
    }

    /// Gives the results of a node names, as views of its arguments if they are.
    pub(super) fn name_results(
        &mut self,
        graph: &'a schema::Graph,
        node: &'a schema::Node,
        results: Vec<Item>,
    ) -> Result<()> {
        let memory = rules::memory(graph, node);
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
