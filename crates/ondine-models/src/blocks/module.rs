//! A module of the checkpoint while its graph is built.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use ondine_graph::{Graph, Result, Value, fail};

/// The graph under construction, seen from one module of the checkpoint, such as `down_blocks.0.resnets.1`.
///
/// It holds the graph alone, and every method of [`Graph`] is called through it: so whatever is added is booked on the
/// module that it is added through, and tensors have names below it.
#[derive(Debug)]
pub struct Module<'g> {
    graph: &'g mut Graph,
    path: Arc<str>,
}

impl<'g> Module<'g> {
    /// The network itself.
    #[must_use]
    pub fn root(graph: &'g mut Graph) -> Self {
        Self { graph, path: "".into() }
    }

    /// The module `part` inside this one; `part` may name several levels, such as `to_out.0`.
    #[must_use]
    pub fn at(&mut self, part: impl fmt::Display) -> Module<'_> {
        let path = self.join(&part).into();
        Module { graph: self.graph, path }
    }

    /// The tensor `name` of this module, of shape `shape`.
    ///
    /// # Errors
    /// If the graph uses it with another shape already.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        let path = self.join(&name);
        self.weight(&path, shape)
    }

    /// The last dimension of `x`: its channels or features.
    ///
    /// # Errors
    /// If it is not known before the call.
    pub fn width(&self, x: Value) -> Result<usize> {
        match self.shape(x).last()?.fixed() {
            Some(width) => Ok(width),
            None => fail!(Shape, "the width of {} must be known", self.shape(x)),
        }
    }

    fn join(&self, part: &dyn fmt::Display) -> String {
        if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) }
    }
}

impl Deref for Module<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        self.graph
    }
}

impl DerefMut for Module<'_> {
    /// The graph, its scope set to this module: a module further in may have been the last to use it.
    fn deref_mut(&mut self) -> &mut Graph {
        self.graph.enter(self.path.clone());
        self.graph
    }
}

#[cfg(test)]
mod tests {
    use ondine_graph::{DType, Graph};

    use super::Module;

    #[test]
    fn what_is_added_belongs_to_the_module_that_it_is_added_through() {
        let mut graph = Graph::new();
        let block = &mut Module::root(&mut graph);
        let x = block.input("x", DType::F32, [2]);
        let inner = &mut block.at("layers.0");
        let weight = inner.tensor("weight", &[2]).unwrap();
        let h = inner.at("act").mul(x, weight).unwrap();
        let h = inner.add(h, h).unwrap();
        let sum = block.add(h, x).unwrap();
        let scopes: Vec<_> = [x, weight, h, sum].map(|value| graph.node(value).scope.to_string()).into();
        assert_eq!(scopes, ["", "layers.0", "layers.0", ""]);
        assert_eq!(&*graph.weights()[0].path, "layers.0.weight");
    }
}
