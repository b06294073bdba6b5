//! A network of a checkpoint: what it is, its config and its weights.

use std::sync::Arc;

use ondine_graph::{Asset, Context, Graph, Op, Result, Value, Weights, fail, recipe::Recipes};

use crate::{
    architecture::{
        Architecture, ControlFacts, DenoiserFacts, Functions, GraphSizes, LatentSpace, PictureFacts, Role, TextFacts,
        TokenFacts, UpscalerFacts,
    },
    config::class_of,
    registry::find,
    weights::{self, Source, join},
};

/// The file that says what a network is.
pub const CONFIG: &str = "config.json";

/// What the name of a weight ends with that adapters changed.
const BASE: &str = "#base";

/// Adds the nodes of a recipe to a graph; yields its result.
fn inlined(graph: &mut Graph, recipe: &Graph) -> Result<Value> {
    let mut values: Vec<Value> = Vec::with_capacity(recipe.nodes().len());
    for node in recipe.nodes() {
        let value = match &node.op {
            Op::Weight(id) => {
                let weight = recipe.weight_info(*id);
                graph.weight(&weight.path, &weight.shape)?
            }
            Op::Const(array) => graph.constant(array.clone()),
            op => {
                let inputs: Vec<Value> = node.inputs.iter().map(|input| values[input.index()]).collect();
                graph.push_typed(op.clone(), &inputs, node.signature.dtype)?
            }
        };
        values.push(value);
    }
    match recipe.outputs() {
        [(_, result)] => Ok(values[result.index()]),
        _ => fail!(Internal, "a recipe without a result"),
    }
}

/// A network of a checkpoint.
#[derive(Clone, Debug)]
pub struct Network {
    /// Where it comes from, for messages.
    pub name: String,
    /// What it is.
    pub architecture: &'static Architecture,
    /// The text of its `config.json`.
    pub config: String,
    /// Its weights, mapped, under the names that its graphs use.
    pub weights: Arc<Weights>,
    /// How weights are computed that the checkpoint holds in another form, or that adapters changed.
    pub recipes: Recipes,
}

impl Network {
    /// Opens the network in `folder`, of the class that its config names or else `class`.
    ///
    /// # Errors
    /// If files are missing or broken, the class or an option is not supported, or the weights do not fit the config.
    pub fn open(source: &Source, folder: &str, class: Option<&str>) -> Result<Self> {
        Self::open_with(source, folder, class, source, folder)
    }

    /// As [`Network::open`], with the weights of another folder: of a checkpoint, or of an asset that was made of one.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn open_with(
        source: &Source,
        folder: &str,
        class: Option<&str>,
        weights_source: &Source,
        weights_folder: &str,
    ) -> Result<Self> {
        let name = join(folder, CONFIG);
        let place = || source.describe(&name);
        let given = class.map(find).transpose().at(|| source.describe(folder))?;
        let config = source.text(&name)?;
        let architecture = match given {
            Some(architecture) => architecture,
            None => class_of(&config).and_then(|class| find(&class)).at(place)?,
        };
        let weights = weights::load(weights_source, weights_folder)?;
        Self::assemble(weights_source.describe(weights_folder), architecture, config, weights, place)
    }

    /// The network that a config describes, with weights from wherever; `name` stands for them in messages.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn of(name: &str, class: &str, config: String, weights: Weights) -> Result<Self> {
        let architecture = find(class).at(|| name)?;
        Self::assemble(name.to_owned(), architecture, config, weights, || name.to_owned())
    }

    fn assemble(
        name: String,
        architecture: &'static Architecture,
        config: String,
        mut weights: Weights,
        place: impl Fn() -> String,
    ) -> Result<Self> {
        let functions = (architecture.functions)(&config, GraphSizes::default()).at(place)?;
        weights::rename(&mut weights, architecture.renames).at(|| &name)?;
        let recipes = match architecture.role {
            Role::Language(_, recipes) => recipes(&config, &mut weights).at(|| &name)?,
            Role::TextEncoder(_)
            | Role::Denoiser(_)
            | Role::Control(_)
            | Role::Autoencoder(_)
            | Role::PictureEncoder(_)
            | Role::PictureTokens(_)
            | Role::Upscaler(_) => Recipes::default(),
        };
        weights::check(&weights, &recipes, functions.iter().map(|(_, graph)| graph), architecture.ignored)?;
        Ok(Self { name, architecture, config, weights: Arc::new(weights), recipes })
    }

    /// All its functions, with all sizes symbolic.
    ///
    /// # Errors
    /// None that [`Network::open`] would not have met.
    pub fn functions(&self) -> Result<Functions> {
        (self.architecture.functions)(&self.config, GraphSizes::default())
    }

    /// Its functions and weights, ready to be specialized.
    ///
    /// # Errors
    /// None that [`Network::open`] would not have met.
    pub fn asset(&self, sizes: GraphSizes) -> Result<Asset> {
        let functions = (self.architecture.functions)(&self.config, sizes)?;
        Asset::with_recipes(self.name.as_str(), functions, self.weights.clone(), self.recipes.clone())
    }

    /// The facts of a text encoder.
    ///
    /// # Errors
    /// If it is none.
    pub fn text(&self) -> Result<TextFacts> {
        match self.architecture.role {
            Role::TextEncoder(facts) => self.facts(facts),
            _ => self.is_no("text encoder"),
        }
    }

    /// The facts of a denoiser.
    ///
    /// # Errors
    /// If it is none.
    pub fn denoiser(&self) -> Result<DenoiserFacts> {
        match self.architecture.role {
            Role::Denoiser(facts) => self.facts(facts),
            _ => self.is_no("denoiser"),
        }
    }

    /// The facts of a network that steers a denoiser by a picture.
    ///
    /// # Errors
    /// If it is none.
    pub fn control(&self) -> Result<ControlFacts> {
        match self.architecture.role {
            Role::Control(facts) => self.facts(facts),
            _ => self.is_no("ControlNet"),
        }
    }

    /// The facts of a network that turns a picture into vectors.
    ///
    /// # Errors
    /// If it is none.
    pub fn picture(&self) -> Result<PictureFacts> {
        match self.architecture.role {
            Role::PictureEncoder(facts) => self.facts(facts),
            _ => self.is_no("encoder of pictures (CLIPVisionModelWithProjection)"),
        }
    }

    /// The facts of a network that makes tokens of a picture's vectors.
    ///
    /// # Errors
    /// If it is none.
    pub fn tokens(&self) -> Result<TokenFacts> {
        match self.architecture.role {
            Role::PictureTokens(facts) => self.facts(facts),
            _ => self.is_no("network that makes tokens of pictures"),
        }
    }

    /// The facts of a network that makes pictures larger.
    ///
    /// # Errors
    /// If it is none.
    pub fn upscaler(&self) -> Result<UpscalerFacts> {
        match self.architecture.role {
            Role::Upscaler(facts) => self.facts(facts),
            _ => self.is_no("network that makes pictures larger"),
        }
    }

    /// The facts of an autoencoder's latents.
    ///
    /// # Errors
    /// If it is none, or scales its latents by nothing.
    pub fn latent_space(&self) -> Result<LatentSpace> {
        match self.architecture.role {
            Role::Autoencoder(facts) => self.facts(facts),
            _ => self.is_no("autoencoder"),
        }
    }

    /// The shape of a weight, in numbers whatever it is stored as.
    pub(crate) fn shape_of(&self, path: &str) -> Option<Vec<usize>> {
        if let Some(recipe) = self.recipes.get(path) {
            return Some(recipe.shape().to_vec());
        }
        let tensor = self.weights.get(path)?;
        let encoded = self.weights.encoding(path).ok().flatten();
        Some(encoded.map_or_else(|| tensor.shape.clone(), |encoding| encoding.shape))
    }

    /// The value of a weight in the graph of a recipe that is to take its place: the weight itself, which has another
    /// name from now on, or what changed it already.
    pub(crate) fn base(&mut self, graph: &mut Graph, path: &str, shape: &[usize]) -> Result<Value> {
        if let Some(recipe) = self.recipes.get(path) {
            return inlined(graph, recipe.graph());
        }
        let kept = format!("{path}{BASE}");
        let weights = Arc::make_mut(&mut self.weights);
        if weights.get(path).is_some() {
            weights.rename(|name| (name == path).then(|| kept.clone()))?;
        }
        graph.weight(&kept, shape)
    }

    /// Gives a weight its name back that no recipe takes the place of.
    pub(crate) fn restore(&mut self, path: &str) -> Result<()> {
        let kept = format!("{path}{BASE}");
        if self.recipes.get(path).is_some() || self.weights.get(&kept).is_none() {
            return Ok(());
        }
        Arc::make_mut(&mut self.weights).rename(|name| (name == kept).then(|| path.to_owned()))
    }

    /// Takes tensors of other weights, under other names.
    pub(crate) fn take(&mut self, from: &Weights, names: Vec<(String, String)>) -> Result<()> {
        let weights = Arc::make_mut(&mut self.weights);
        for (name, path) in names {
            match from.get(&name) {
                Some(tensor) => weights.insert(&path, tensor.clone()),
                None => fail!(Missing, "tensor `{name}` is missing"),
            }
        }
        Ok(())
    }

    fn facts<T>(&self, read: fn(&str) -> Result<T>) -> Result<T> {
        read(&self.config).at(|| &self.name)
    }

    fn is_no<T>(&self, role: &str) -> Result<T> {
        fail!(Unsupported, "{}: a {} is no {role}", self.name, self.architecture.class)
    }
}
