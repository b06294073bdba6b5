//! The portable stage: functions and the checkpoint they use, of no particular machine.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    encoding::CODES,
    error::{Context, Result, fail},
    graph::Graph,
    portable,
    recipe::Recipes,
    weights::Weights,
};

/// Named functions over one checkpoint.
///
/// Graphs say shapes with symbolic dimensions and element types; weights are named tensors of any float type, or I8
/// with scales, and are checked against the graphs when the asset is made. Nothing here is bound to a machine.
///
/// ```
/// use ondine_graph::{Asset, DType, Graph, Tensor, Weights};
///
/// # fn main() -> ondine_graph::Result<()> {
/// let mut graph = Graph::new();
/// let x = graph.input("x", DType::F32, [ondine_graph::Dim::symbol("rows"), 2.into()]);
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
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Asset {
    name: Arc<str>,
    functions: Arc<BTreeMap<Arc<str>, Graph>>,
    weights: Arc<Weights>,
    recipes: Arc<Recipes>,
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
        Self::with_recipes(name, functions, weights, Recipes::default())
    }

    /// As [`Asset::new`], with weights that are computed from those of the checkpoint.
    ///
    /// # Errors
    /// As [`Asset::new`]; a weight that has a recipe need not be in the checkpoint.
    pub fn with_recipes<N: Into<Arc<str>>>(
        name: impl Into<Arc<str>>,
        functions: impl IntoIterator<Item = (N, Graph)>,
        weights: impl Into<Arc<Weights>>,
        recipes: Recipes,
    ) -> Result<Self> {
        let functions = functions.into_iter().map(|(name, graph)| (name.into(), graph)).collect();
        let asset = Self {
            name: name.into(),
            functions: Arc::new(functions),
            weights: weights.into(),
            recipes: Arc::new(recipes),
        };
        for weight in asset.functions.values().flat_map(Graph::weights) {
            asset.check(&weight.path, &weight.shape).at(|| &asset.name)?;
        }
        for (function, graph) in asset.functions.iter() {
            portable::check_graph(graph).at(|| format!("{}.{function}", asset.name))?;
        }
        Ok(asset)
    }

    /// Other functions over the same checkpoint.
    ///
    /// # Errors
    /// As [`Asset::new`].
    pub fn with_functions<N: Into<Arc<str>>>(&self, functions: impl IntoIterator<Item = (N, Graph)>) -> Result<Self> {
        Self::with_recipes(self.name.clone(), functions, self.weights.clone(), (*self.recipes).clone())
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

    /// The same asset with a name for every value that its graphs compute ([`Graph::named`]), after module and
    /// operator, so that intermediate values can be told apart; an imported graph keeps the names of its program.
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
    #[must_use]
    pub fn shared_weights(&self) -> Arc<Weights> {
        self.weights.clone()
    }

    /// The weights that are computed from the checkpoint.
    #[must_use]
    pub fn recipes(&self) -> &Recipes {
        &self.recipes
    }

    /// Makes sure that there is a weight `path` of shape `shape`, in the checkpoint or computed from it.
    ///
    /// # Errors
    /// As [`Weights::expect`].
    pub fn check(&self, path: &str, shape: &[usize]) -> Result<()> {
        let path = path.strip_suffix(CODES).unwrap_or(path);
        match self.recipes.get(path) {
            Some(recipe) if recipe.shape() == shape => Ok(()),
            _ => self.weights.expect(path, shape).map(|_| ()),
        }
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
}
