//! One of the two things that are compared: a model, and how it is run.

use std::{collections::BTreeSet, num::NonZeroUsize, path::Path, sync::Arc};

use anyhow::{Context, bail};
use ondine::model::{self, Opened};
use ondine_runtime::{Asset, Cancel, Device, Function, Graph, Options, Precision, Prepared, Specialize, Tier, Value};

use crate::{
    command::{
        callee::{Given, call_bytes},
        running::parse_threads,
    },
    report::bad_usage,
};

use super::values::above;

/// A model and how to run it.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) model: String,
    pub(super) precision: Precision,
    pub(super) threads: Option<NonZeroUsize>,
    pub(super) tier: Option<Tier>,
    /// In f32 with every node on its own.
    pub(super) as_written: bool,
}

/// A side of which all sizes are known, but whose weights are not packed.
pub(super) struct Planned {
    asset: Asset,
    name: Arc<str>,
    prepared: Prepared,
}

impl Planned {
    /// The function that is called.
    pub(super) fn graph(&self) -> anyhow::Result<&Graph> {
        Ok(self.prepared.graph(&self.name)?)
    }

    /// Bytes of a call; with those of every value that has a name if they are `kept`.
    pub(super) fn bytes(&self, given: &Given, kept: bool) -> anyhow::Result<u64> {
        let (graph, sizes) = (self.graph()?, given.sizes(self.asset.function(&self.name)?));
        let plan = self.prepared.plan(&self.name, &sizes)?;
        let size = |value: Value| {
            let elements: usize = plan.shape(value).iter().product();
            (elements * graph.node(value).signature.dtype.size()) as u64
        };
        let values = if kept { graph.named().iter().map(|named| size(named.value)).sum() } else { 0_u64 };
        Ok(call_bytes(graph, &plan, &sizes)? + self.prepared.weight_bytes() as u64 + values)
    }

    /// Packs the weights.
    pub(super) fn ready(self) -> anyhow::Result<Ready> {
        let function = self.prepared.specialize(None)?.load()?.function(&self.name)?;
        Ok(Ready { asset: self.asset, function })
    }
}

/// A side that can be called.
pub(super) struct Ready {
    pub(super) asset: Asset,
    pub(super) function: Function,
}

impl Side {
    /// The other side: as this one, but for what `words` say: a model, `precision=bf16`, `threads=1`, `cpu=avx2` or
    /// `as-written`, with commas between them.
    pub(super) fn other(&self, words: &str) -> anyhow::Result<Self> {
        let mut other = self.clone();
        let at = || format!("`--against {words}`");
        for word in words.split(',') {
            match word.split_once('=') {
                Some(("precision", name)) => {
                    other.precision = name.parse::<Precision>().with_context(at).map_err(bad_usage)?;
                    other.as_written = false;
                }
                Some(("threads", count)) => {
                    let threads = parse_threads(count).map_err(anyhow::Error::msg).with_context(at);
                    other.threads = Some(threads.map_err(bad_usage)?);
                }
                Some(("cpu", name)) => other.tier = Some(tier(name).with_context(at).map_err(bad_usage)?),
                _ if word == "as-written" => {
                    other.as_written = true;
                    other.precision = Precision::F32;
                }
                _ => other.model = word.to_owned(),
            }
        }
        Ok(other)
    }

    /// Opens the model and plans its function.
    pub(super) fn plan(&self, function: Option<&str>, cancel: &Cancel) -> anyhow::Result<Planned> {
        let mut device = Device::cpu(self.threads)?.with_cancel(cancel.clone());
        if let Some(tier) = self.tier {
            device = device.narrowed(tier.name())?;
        }
        let (asset, name) = self.open(function, &device)?;
        let asset = asset.named();
        let prepared = asset.prepare(&Options { precision: self.precision, as_written: self.as_written }, &device)?;
        Ok(Planned { asset, name, prepared })
    }

    /// The model with one function alone, and its name.
    fn open(&self, function: Option<&str>, device: &Device) -> anyhow::Result<(Asset, Arc<str>)> {
        let opened = match self.as_written {
            true if ondine_pt2::is_archive(Path::new(&self.model)) => {
                Opened::Asset(ondine_pt2::open_as_written(Path::new(&self.model))?)
            }
            // What is no archive was written, by an import or a builder, as it is.
            true => model::open(&self.model, device)?,
            false => model::open(&self.model, device)?,
        };
        let name = opened.choose(function).with_context(|| self.model.clone())?;
        match opened.only(&name)? {
            Opened::Asset(asset) => Ok((asset, name)),
            Opened::Specialized(_) => {
                bail!("{}: built for one machine already; give what it was built from", self.model)
            }
        }
    }

    /// Every name that the model has for a node or a module, whether that has a value of its own here or not; `None` if
    /// it has lost some of them.
    pub(super) fn names(&self, asset: &Asset) -> anyhow::Result<Option<BTreeSet<String>>> {
        let path = Path::new(&self.model);
        if ondine_pt2::is_archive(path) {
            return Ok(Some(ondine_pt2::names(path)?));
        }
        let named = asset.functions().values().flat_map(Graph::named).flat_map(|named| {
            let modules = above(&named.scope).map(str::to_owned);
            modules.chain([named.name.to_string()]).collect::<Vec<_>>()
        });
        Ok((!Asset::is_folder(path)).then(|| named.collect()))
    }

    /// What a person reads about it.
    pub(super) fn label(&self) -> String {
        let mut label = format!("{} at {}", self.model, self.precision);
        if self.as_written {
            label.push_str(" as written");
        }
        if let Some(threads) = self.threads {
            label.push_str(&format!(", {threads} threads"));
        }
        if let Some(tier) = self.tier {
            label.push_str(&format!(", {tier}"));
        }
        label
    }
}

fn tier(name: &str) -> anyhow::Result<Tier> {
    let Some(tier) = Tier::ALL.into_iter().find(|tier| tier.name() == name) else {
        bail!("there is no tier `{name}`; choose {}", Tier::ALL.map(Tier::name).join(", "));
    };
    Ok(tier)
}
