//! What several commands call: a function of a model, with tensors from files or random ones.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use ondine::model::{self, Opened};
use ondine_models::{Adapter, Language};
use ondine_runtime::{
    Bindings, Device, Function, Graph, NDArray, Options, Plan, Precision, Specialize, Weights, element_count,
    sample::{self, Arguments},
};

use super::{
    language::{Lora, parse_lora, tell_applied},
    running::Running,
};
use crate::report::{bad_usage, usage};

/// A function of a model on the command line.
#[derive(Args)]
pub(super) struct Callee {
    /// Model: an archive of torch.export.save, a folder of `ondine import` or of one network, a file of `ondine build`
    #[arg(value_name = "MODEL")]
    pub(super) model: String,

    /// Function to call [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(super) function: Option<String>,

    /// Adapter that changes a language model (LoRA): a folder of peft or a GGUF file, times WEIGHT [default: 1]; can be
    /// given several times
    #[arg(long, value_name = "FILE[:WEIGHT]", value_parser = parse_lora)]
    lora: Vec<Lora>,
}

impl Callee {
    /// The model with that function alone, and its name.
    pub(super) fn open(&self, device: &Device) -> anyhow::Result<(Opened, Arc<str>)> {
        let opened = self.adapted(model::open(&self.model, device)?)?;
        let chosen = opened.choose(self.function.as_deref());
        let name = chosen.map_err(|error| bad_usage(error.at(&self.model)))?;
        Ok((opened.only(&name)?, name))
    }

    /// The model with its adapters.
    fn adapted(&self, opened: Opened) -> anyhow::Result<Opened> {
        if self.lora.is_empty() {
            return Ok(opened);
        }
        let Opened::Asset(mut asset) = opened else {
            usage!("{}: a model that is built takes no adapters; give what it was built from", self.model);
        };
        let rows = Language::open(&model::language(&self.model)?)?.rows();
        for Lora { path, weight } in &self.lora {
            let (adapted, applied) = Adapter::open(path)?.apply(&asset, *weight, rows)?;
            tell_applied(&applied);
            asset = adapted;
        }
        Ok(Opened::Asset(asset))
    }

    /// Makes a function ready for a call: refuses what `running` has no memory for, and only then packs weights and
    /// makes up arguments.
    pub(super) fn load(
        &self,
        (opened, name): (Opened, Arc<str>),
        running: &Running,
        inputs: impl Fn(&Graph) -> anyhow::Result<Given>,
        device: &Device,
    ) -> anyhow::Result<Loaded> {
        let start = Instant::now();
        let (specialized, read) = match opened {
            Opened::Asset(asset) => {
                let given = inputs(asset.function(&name)?)?;
                let reading = start.elapsed();
                let precision = running.precision.unwrap_or_default();
                let prepared = asset.prepare(&Options { precision, ..Options::default() }, device)?;
                running.allow(&self.model, || {
                    let (graph, sizes) = (prepared.graph(&name)?, given.sizes(asset.function(&name)?));
                    Ok(call_bytes(graph, &prepared.plan(&name, &sizes)?, &sizes)? + prepared.weight_bytes() as u64)
                })?;
                (prepared.specialize(running.cache().as_ref())?, Some((given, reading)))
            }
            built => (built.specialize(running.precision, device, None)?, None),
        };
        let (precision, weight_bytes) = (specialized.about().precision, specialized.weight_bytes());
        let from_cache = specialized.from_cache();
        let function = specialized.load()?.function(&name)?;
        let graph = function.graph();
        let (given, reading) = match read {
            Some(read) => read,
            None => {
                let start = Instant::now();
                let given = inputs(graph)?;
                running.allow(&self.model, || {
                    let sizes = given.sizes(graph);
                    Ok(call_bytes(graph, &*function.plan(&sizes)?, &sizes)? + weight_bytes as u64)
                })?;
                (given, start.elapsed())
            }
        };
        let arguments = given.arguments(graph)?;
        Ok(Loaded { function, arguments, precision, weight_bytes, from_cache, reading })
    }
}

/// A function ready for a call.
pub(super) struct Loaded {
    pub(super) function: Function,
    pub(super) arguments: Arguments,
    pub(super) precision: Precision,
    pub(super) weight_bytes: usize,
    pub(super) from_cache: bool,
    /// The time that reading arguments took.
    pub(super) reading: Duration,
}

/// Where the arguments of a call come from.
pub(super) enum Given {
    /// From files.
    Read(Arguments),
    /// They will be random, of these sizes.
    Random(Bindings),
}

impl Given {
    /// The sizes of symbols in the call.
    pub(super) fn sizes(&self, graph: &Graph) -> Bindings {
        match self {
            Self::Read(arguments) => bound(graph, arguments),
            Self::Random(sizes) => sizes.clone(),
        }
    }

    pub(super) fn arguments(self, graph: &Graph) -> anyhow::Result<Arguments> {
        match self {
            Self::Read(arguments) => Ok(arguments),
            Self::Random(sizes) => random(graph, &sizes),
        }
    }
}

/// The symbols that arguments bind. What does not fit the graph is the call's to refuse.
fn bound(graph: &Graph, arguments: &Arguments) -> Bindings {
    let mut sizes = Bindings::new();
    for (name, value) in graph.inputs() {
        let Some((_, array)) = arguments.iter().find(|(known, _)| **known == **name) else { continue };
        for (dim, &size) in graph.shape(*value).0.iter().zip(array.shape()) {
            if let Ok(Some((symbol, size))) = dim.solve(size) {
                sizes.entry(symbol.clone()).or_insert(size);
            }
        }
    }
    sizes
}

/// Bytes that a call takes beside its weights: workspace and states.
pub(super) fn call_bytes(graph: &Graph, plan: &Plan, sizes: &Bindings) -> anyhow::Result<u64> {
    Ok((plan.arena_bytes() as u64).saturating_add(state_bytes(graph, sizes)?))
}

/// Bytes of the states of a function.
pub(super) fn state_bytes(graph: &Graph, sizes: &Bindings) -> anyhow::Result<u64> {
    let mut total = 0_u64;
    for slot in graph.states() {
        let shape = slot.signature.shape.bind(sizes)?;
        let bytes = element_count(&shape).and_then(|count| count.checked_mul(slot.signature.dtype.size()));
        let bytes = bytes.with_context(|| format!("state `{}` of shape {shape:?} is too large", slot.name))?;
        total = total.saturating_add(bytes as u64);
    }
    Ok(total)
}

/// Tensors from files.
#[derive(Args)]
pub(super) struct Inputs {
    /// File whose tensors are the inputs of these names
    #[arg(long, value_name = "FILE")]
    inputs: Vec<PathBuf>,

    /// One input: a .npy file, or a .safetensors file with `:TENSOR` after it unless it holds one tensor
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<String>,
}

/// The arguments as calls want them.
pub(super) fn borrowed(arguments: &Arguments) -> Vec<(&str, &NDArray)> {
    arguments.iter().map(|(name, array)| (name.as_str(), array)).collect()
}

impl Inputs {
    /// True if no file is named.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.input.is_empty()
    }

    /// The tensors of the files; if none is named, random ones of sizes as in [`sizes`].
    pub(super) fn given(&self, graph: &Graph, size: &[String]) -> anyhow::Result<Given> {
        Ok(if self.is_empty() { Given::Random(sizes(graph, size)?) } else { Given::Read(self.read(graph)?) })
    }

    /// The tensors of the files.
    pub(super) fn read(&self, graph: &Graph) -> anyhow::Result<Arguments> {
        let mut inputs = Vec::new();
        for path in &self.inputs {
            let weights = Weights::open(path)?;
            for name in weights.paths() {
                inputs.push((name.to_string(), weights.array(name)?));
            }
        }
        for given in &self.input {
            let Some((name, file)) = given.split_once('=') else {
                usage!("`--input {given}`: write NAME=FILE");
            };
            inputs.push((name.to_owned(), read_tensor(file)?));
        }
        fitted(graph, inputs)
    }
}

/// The arguments in the types of the graph: a number may come in another one where nothing is lost.
pub(super) fn fitted(graph: &Graph, mut arguments: Arguments) -> anyhow::Result<Arguments> {
    for (name, array) in &mut arguments {
        let wanted = graph.inputs().iter().find(|(known, _)| **known == **name);
        if let Some((_, value)) = wanted {
            let signature = &graph.node(*value).signature;
            *array = array.convert(signature.dtype).with_context(|| format!("input `{name}`"))?;
        }
    }
    Ok(arguments)
}

/// A tensor of a file: `x.npy`, `x.safetensors` or `x.safetensors:name`.
fn read_tensor(file: &str) -> anyhow::Result<NDArray> {
    let path = Path::new(file);
    if path.extension().is_some_and(|extension| extension == "npy") {
        return Ok(NDArray::read_npy(path)?);
    }
    let (path, tensor) = match file.rsplit_once(':') {
        Some((path, tensor)) if !path.is_empty() && !Path::new(file).exists() => (Path::new(path), Some(tensor)),
        _ => (path, None),
    };
    let weights = Weights::open(path)?;
    let names: Vec<_> = weights.paths().cloned().collect();
    match (tensor, names.as_slice()) {
        (Some(tensor), _) => Ok(weights.array(tensor)?),
        (None, [only]) => Ok(weights.array(only)?),
        (None, names) => bail!("{file} holds {} tensors; choose one with {file}:NAME", names.len()),
    }
}

/// Sizes for the symbols of a graph: as given (`NAME=N`), else those of the exporter's example, else the least allowed.
pub(super) fn sizes(graph: &Graph, pairs: &[String]) -> anyhow::Result<Bindings> {
    let mut sizes = sample::sizes(graph, |_| 1);
    for (name, size) in given(pairs)? {
        match sizes.get_mut(&name) {
            Some(known) => *known = size,
            None => return Err(unknown(&name, sizes.keys())),
        }
    }
    Ok(sizes)
}

/// The sizes of pairs such as `batch=4`.
pub(super) fn given(pairs: &[String]) -> anyhow::Result<Bindings> {
    let mut given = Bindings::new();
    for pair in pairs {
        let Some((name, size)) = pair.split_once('=') else { usage!("`--size {pair}`: write NAME=N") };
        let Ok(size) = size.parse() else { usage!("`--size {pair}`: `{size}` is no whole number") };
        given.insert(name.into(), size);
    }
    Ok(given)
}

/// A size that belongs to none of the `known` symbols.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a Arc<str>>) -> anyhow::Error {
    let known = known.map(|name| &**name).collect::<Vec<_>>().join(", ");
    bad_usage(anyhow!("there is no symbolic dimension `{name}`; there are: {known}"))
}

/// Arguments of a fixed seed.
pub(super) fn random(graph: &Graph, sizes: &Bindings) -> anyhow::Result<Arguments> {
    Ok(sample::arguments(graph, sizes, 2)?)
}
