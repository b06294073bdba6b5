//! The portable stage: functions and the checkpoint they use, of no particular machine.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cache::Cache,
    device::Device,
    disk::check::{Level, check},
    error::{Context, Result, fail},
    graph::Graph,
    op::Op,
    specialize::{Options, Prepared, Specialized},
    weights::Weights,
};

/// Named functions over one checkpoint.
///
/// Graphs say shapes with symbolic dimensions and element types; weights are named tensors of any float type, or I8 with
/// scales, and are checked against the graphs when the asset is made. Nothing here is bound to a machine.
///
/// ```
/// use ondine_runtime::{Asset, DType, Device, Graph, Options, Tensor, Weights};
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let mut graph = Graph::new();
/// let x = graph.input("x", DType::F32, [ondine_runtime::Dim::symbol("rows"), 2.into()]);
/// let weight = graph.weight("layer.weight", &[3, 2])?;
/// let y = graph.linear(x, weight, None)?;
/// graph.output("y", y);
///
/// let mut weights = Weights::default();
/// assert!(Asset::new("example", [("main", graph.clone())], weights.clone()).is_err(), "the weight is missing");
/// let bytes = [0_u8; 3 * 2 * 4];
/// let tensor = Tensor { dtype: DType::F32, shape: vec![3, 2], bytes: bytes[..].into(), file: "memory".into() };
/// weights.insert("layer.weight", tensor);
///
/// let asset = Asset::new("example", [("main", graph)], weights)?;
/// assert_eq!(asset.parameters(), 6);
/// assert_eq!(asset.function("main")?.outputs()[0].0.as_ref(), "y");
/// let prepared = asset.prepare(&Options::default(), &Device::cpu(None)?)?; // sizes are known, nothing is packed
/// let rows = [("rows".into(), 5)].into_iter().collect();
/// assert!(prepared.weight_bytes() >= 24 && prepared.plan("main", &rows)?.arena_bytes() >= 5 * 3 * 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Asset {
    name: Arc<str>,
    functions: Arc<BTreeMap<Arc<str>, Graph>>,
    weights: Arc<Weights>,
}

impl Asset {
    /// Puts functions and checkpoint together; `name` stands for the asset in messages.
    ///
    /// # Errors
    /// If a tensor that a function uses is missing or has another shape, or an operator is none of a portable graph.
    pub fn new<N: Into<Arc<str>>>(
        name: impl Into<Arc<str>>,
        functions: impl IntoIterator<Item = (N, Graph)>,
        weights: impl Into<Arc<Weights>>,
    ) -> Result<Self> {
        let (name, weights) = (name.into(), weights.into());
        let functions: BTreeMap<Arc<str>, Graph> = functions.into_iter().map(|(n, graph)| (n.into(), graph)).collect();
        for weight in functions.values().flat_map(Graph::weights) {
            weights.check(&weight.path, &weight.shape).at(|| &name)?;
        }
        for (function, graph) in &functions {
            check_portable(graph).at(|| format!("{name}.{function}"))?;
        }
        Ok(Self { name, functions: Arc::new(functions), weights })
    }

    /// What the asset is called in messages.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The functions by name.
    #[must_use]
    pub fn functions(&self) -> &BTreeMap<Arc<str>, Graph> {
        &self.functions
    }

    /// The function `name`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn function(&self, name: &str) -> Result<&Graph> {
        match self.functions.get(name) {
            Some(graph) => Ok(graph),
            None => {
                let known: Vec<_> = self.functions.keys().map(|name| &**name).collect();
                fail!(Missing, "{}: there is no function `{name}`; it has {}", self.name, known.join(", "))
            }
        }
    }

    /// The same asset with the function `name` alone.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn only(&self, name: &str) -> Result<Self> {
        let functions = BTreeMap::from([(name.into(), self.function(name)?.clone())]);
        Ok(Self { functions: Arc::new(functions), ..self.clone() })
    }

    /// The same asset with a name for every value that its graphs compute ([`Graph::named`]), after module and operator,
    /// so that intermediate values can be told apart; an imported graph keeps the names of its program.
    #[must_use]
    pub fn named(&self) -> Self {
        let mut functions = (*self.functions).clone();
        functions.values_mut().for_each(Graph::name_all);
        Self { functions: Arc::new(functions), ..self.clone() }
    }

    /// The checkpoint.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The checkpoint, to be shared with another asset.
    pub(crate) fn shared_weights(&self) -> Arc<Weights> {
        self.weights.clone()
    }

    /// Tensors of the checkpoint that no function uses.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        let used: std::collections::HashSet<&str> =
            self.functions.values().flat_map(Graph::weights).map(|weight| &*weight.path).collect();
        self.weights.paths().map(|path| &**path).filter(|path| !used.contains(path)).collect()
    }

    /// How many numbers the functions' weights are made of.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let sizes: BTreeMap<&str, u64> = self
            .functions
            .values()
            .flat_map(Graph::weights)
            .map(|weight| (&*weight.path, weight.shape.iter().map(|&n| n as u64).product()))
            .collect();
        sizes.values().sum()
    }

    /// Rewrites the graphs for `device`, which says all sizes before any weight is touched.
    ///
    /// # Errors
    /// If an operator cannot run on the device.
    pub fn prepare(&self, options: &Options, device: &Device) -> Result<Prepared> {
        Prepared::new(self, options, device).at(|| &self.name)
    }

    /// As [`Asset::prepare`] at f32, but no graph is rewritten: all values that [`Graph::named`] names are computed, each
    /// on its own, to be compared with what another runtime yields. Slower, and larger in memory.
    ///
    /// # Errors
    /// As [`Asset::prepare`].
    pub fn prepare_as_written(&self, device: &Device) -> Result<Prepared> {
        Prepared::as_written(self, device).at(|| &self.name)
    }

    /// Prepares the asset for `device`: graphs rewritten, weights packed or, if `cache` has them from an earlier
    /// start, mapped.
    ///
    /// # Errors
    /// As [`Asset::prepare`] and [`Prepared::specialize`].
    pub fn specialize(&self, options: &Options, device: &Device, cache: Option<&Cache>) -> Result<Specialized> {
        self.prepare(options, device)?.specialize(cache)
    }
}

/// Makes sure that every node of a graph is one that any machine can run.
fn check_portable(graph: &Graph) -> Result<()> {
    for (value, node) in graph.values() {
        if matches!(node.op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::State(_)) {
            continue;
        }
        check(graph, value, Level::Portable).at(|| format!("{} ({})", node.scope, node.op))?;
        if let Op::Loop(inner) = &node.op {
            [&inner.condition, &inner.body].into_iter().try_for_each(check_portable)?;
        }
    }
    Ok(())
}
