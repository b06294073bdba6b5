//! [`Asset`] as a folder: `manifest.json` (what it is, without opening the rest), `graph.json` (the functions, node by
//! node), `constants.safetensors` and `weights.safetensors` (each tensor aligned, to be mapped where it lies).

pub mod check;
pub mod graph;
pub mod tensors;

use std::{
    collections::BTreeMap,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    asset::Asset,
    bytes::Bytes,
    error::{Context, Result, fail},
    file::{json, parse, write_folder, write_whole},
    graph::Graph,
    ndarray::NDArray,
    recipe::{Recipe, Recipes},
    signature::Signature,
    weights::{
        Weights,
        seal::{Seal, Sum},
    },
};

use check::Level;
use graph::{Constants, StoredGraph};
use tensors::{Piece, View};

const FORMAT: &str = "ondine asset";
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
const GRAPH: &str = "graph.json";
const CONSTANTS: &str = "constants.safetensors";
const WEIGHTS: &str = "weights.safetensors";

/// What can be known of an asset without opening the rest.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    producer: String,
    name: Arc<str>,
    parameters: u64,
    functions: BTreeMap<Arc<str>, Face>,
    /// Hashes of files that are read whole, and the size of the one that is mapped; its hash is looked at when weights
    /// are packed.
    graph: String,
    constants: String,
    weights_bytes: u64,
    /// Empty in folders of before there was one.
    #[serde(default)]
    weights: String,
}

/// What a caller sees of a function.
#[derive(Serialize, Deserialize, PartialEq)]
struct Face {
    inputs: Vec<String>,
    outputs: Vec<String>,
    states: Vec<String>,
    /// Smallest and largest value of symbolic dimensions that have one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<Arc<str>, [usize; 2]>,
    /// What else is asked of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    guards: Vec<String>,
}

impl Face {
    fn of(graph: &Graph) -> Self {
        let line = |name: &str, signature: &Signature| format!("{name}: {} {}", signature.dtype, signature.shape);
        let value = |(name, value): &(Arc<str>, crate::Value)| line(name, &graph.node(*value).signature);
        Self {
            inputs: graph.inputs().iter().map(value).collect(),
            outputs: graph.outputs().iter().map(value).collect(),
            states: graph.states().iter().map(|slot| line(&slot.name, &slot.signature)).collect(),
            limits: graph.limits().clone(),
            guards: graph.guards().iter().map(|guard| guard.text.to_string()).collect(),
        }
    }
}

/// The contents of `graph.json`.
#[derive(Serialize, Deserialize)]
struct Program {
    functions: BTreeMap<Arc<str>, StoredGraph>,
    /// Weights that are computed from others when they are packed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    derived: BTreeMap<Arc<str>, StoredGraph>,
    /// Weights that share the bytes of others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    views: BTreeMap<Arc<str>, View>,
}

impl Asset {
    /// True if `folder` is one that [`Asset::save`] wrote.
    #[must_use]
    pub fn is_folder(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file() && folder.join(GRAPH).is_file()
    }

    /// Writes the asset to a folder: aside first, then renamed. An asset that is there already is replaced.
    ///
    /// Tensors are written as they are stored, and those that share bytes once; what is computed from others stays a
    /// recipe.
    ///
    /// # Errors
    /// If something else is at `folder`, it cannot be written, or what it is made of was altered.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.weights().check_seals()?;
        let (owners, views) = tensors::shared(self.weights());
        let mut constants = Constants::default();
        let mut store = |graph: &Graph| StoredGraph::new(graph, &mut constants);
        let functions = self.functions().iter().map(|(name, graph)| Ok((name.clone(), store(graph)?)));
        let functions = functions.collect::<Result<_>>().at(|| self.name())?;
        let derived = self.recipes().iter().map(|(path, recipe)| Ok((path.clone(), store(recipe.graph())?)));
        let program = Program { functions, derived: derived.collect::<Result<_>>()?, views };
        let graph = json(&program)?;
        let pieces = constants.arrays().iter().enumerate().map(|(i, array)| Piece::of(i.to_string(), array));
        let mut arrays = Vec::new();
        tensors::write(pieces.collect(), &mut arrays)?;
        write_folder(folder, Self::is_folder, |folder| {
            let whole = |name: &str, bytes: &[u8]| write_whole(&folder.join(name), |file| Ok(file.write_all(bytes)?));
            let weights = folder.join(WEIGHTS);
            write_whole(&weights, |file: &mut BufWriter<_>| tensors::write(owners, file))?;
            whole(CONSTANTS, &arrays)?;
            whole(GRAPH, &graph)?;
            let manifest = Manifest {
                format: FORMAT.to_owned(),
                version: VERSION,
                producer: concat!("ondine ", env!("CARGO_PKG_VERSION")).to_owned(),
                // Where it was imported from is of no use elsewhere.
                name: self.name().rsplit(['/', '\\']).next().unwrap_or_default().into(),
                parameters: self.parameters(),
                functions: self.functions().iter().map(|(name, graph)| (name.clone(), Face::of(graph))).collect(),
                graph: blake3::hash(&graph).to_hex().to_string(),
                constants: blake3::hash(&arrays).to_hex().to_string(),
                weights_bytes: weights.metadata().at(|| weights.display().to_string())?.len(),
                weights: blake3::hash(&Bytes::map(&weights)?).to_hex().to_string(),
            };
            whole(MANIFEST, &json(&manifest)?)
        })
    }

    /// Opens a folder that [`Asset::save`] wrote; weights are mapped, and sealed until they are read.
    ///
    /// # Errors
    /// If a file is missing or cut, one other than that of the weights is altered, or a graph is none that this engine
    /// could have built.
    pub fn open(folder: &Path) -> Result<Self> {
        let place = |name: &'static str| move || folder.join(name).display().to_string();
        let manifest: Manifest = parse(&read(folder, MANIFEST)?).at(place(MANIFEST))?;
        if manifest.format != FORMAT {
            fail!(Format, "{}: `{}` instead of `{FORMAT}`", place(MANIFEST)(), manifest.format);
        }
        if manifest.version != VERSION {
            let (version, producer) = (manifest.version, &manifest.producer);
            fail!(
                Unsupported,
                "{}: version {version}, written by {producer}; this is version {VERSION}",
                place(MANIFEST)()
            );
        }
        let graph = read(folder, GRAPH)?;
        unaltered(&graph, &manifest.graph).at(place(GRAPH))?;
        let program: Program = parse(&graph).at(place(GRAPH))?;
        let constants = read(folder, CONSTANTS)?;
        unaltered(&constants, &manifest.constants).at(place(CONSTANTS))?;
        let constants = tensors::read_arrays(&place(CONSTANTS)(), &constants)?;
        let constants: Vec<_> = constants.into_iter().map(Arc::new).collect();
        let weights = read(folder, WEIGHTS)?;
        if weights.len() as u64 != manifest.weights_bytes {
            let (found, wanted) = (weights.len(), manifest.weights_bytes);
            fail!(Format, "{}: {found} bytes instead of {wanted}; copy it again", place(WEIGHTS)());
        }
        let seal = match manifest.weights.as_str() {
            "" => None,
            hash => Some(Seal::new(place(WEIGHTS)(), weights.clone(), sum(hash).at(place(MANIFEST))?)),
        };
        let mut weights = tensors::read(&place(WEIGHTS)(), &weights)?;
        seal.into_iter().for_each(|seal| weights.seal(seal));
        tensors::restore(&mut weights, program.views).at(place(GRAPH))?;
        let recipes = derive(&weights, &program.derived, &constants).at(place(GRAPH))?;
        let build = |(name, graph): (&Arc<str>, &StoredGraph)| {
            let graph = graph.build(&constants, Level::Portable).at(|| name)?;
            let face = Face::of(&graph);
            if manifest.functions.get(name) != Some(&face) {
                let face = String::from_utf8_lossy(&json(&face)?).into_owned();
                fail!(Format, "{MANIFEST} says otherwise than that function `{name}` is {face}");
            }
            Ok((name.clone(), graph))
        };
        let functions = program.functions.iter().map(build).collect::<Result<Vec<_>>>().at(place(GRAPH))?;
        Self::with_recipes(folder.display().to_string(), functions, weights, recipes)
    }
}

fn derive(weights: &Weights, stored: &BTreeMap<Arc<str>, StoredGraph>, constants: &[Arc<NDArray>]) -> Result<Recipes> {
    let mut recipes = Recipes::default();
    for (path, graph) in stored {
        let recipe = graph.build(constants, Level::Portable).and_then(|graph| Recipe::new(graph, weights));
        if weights.get(path).is_some() {
            fail!(Format, "weight `{path}` is stored and derived");
        }
        recipes.insert(path, recipe.at(|| format!("weight `{path}`"))?);
    }
    Ok(recipes)
}

fn read(folder: &Path, name: &str) -> Result<Bytes> {
    let path = folder.join(name);
    if !path.is_file() {
        fail!(Missing, "{}: there is no such file; is the folder whole?", path.display());
    }
    Bytes::map(&path)
}

fn sum(hash: &str) -> Result<Sum> {
    match blake3::Hash::from_hex(hash) {
        Ok(hash) => Ok(Sum::Blake3(*hash.as_bytes())),
        Err(_) => fail!(Format, "`weights` is no hash"),
    }
}

fn unaltered(bytes: &[u8], hash: &str) -> Result<()> {
    if blake3::hash(bytes).to_hex().as_str() != hash {
        fail!(Format, "is not the file that was written; copy or import it again");
    }
    Ok(())
}
