//! The stage of one machine: graphs rewritten for a backend, weights packed in the forms that it reads.

use std::{collections::BTreeMap, sync::Arc};

use ondine_graph::{Asset, Bindings, Bytes, Context, DType, Graph, Result};

use crate::{
    backend::{Packed, PackedWeight},
    device::Device,
    lowered::{Entry, Known, Listing, Lowered},
    options::Options,
    pack::{pack_in_memory, repacked, total, write_packed},
    pass::{
        caches::{caches, narrow},
        materialize::materialize,
    },
    plan::Planner,
    step::Plan,
    store::{
        cache::{Cache, Digest},
        packed::{About, Front, Header},
    },
};

/// The version that packed weights and lowered graphs belong to.
pub(crate) const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// Functions as a backend runs them.
pub(crate) type Functions = BTreeMap<Arc<str>, Arc<Lowered>>;

/// Preparing assets for a device.
pub trait Specialize {
    /// Rewrites the graphs for `device`, which says all sizes before any weight is touched.
    ///
    /// # Errors
    /// If an operator cannot run on the device.
    fn prepare(&self, options: &Options, device: &Device) -> Result<Prepared>;

    /// Prepares the asset for `device`: graphs rewritten, weights packed or, if `cache` has them from an earlier
    /// start, mapped.
    ///
    /// # Errors
    /// As [`Specialize::prepare`] and [`Prepared::specialize`].
    fn specialize(&self, options: &Options, device: &Device, cache: Option<&Cache>) -> Result<Specialized> {
        self.prepare(options, device)?.specialize(cache)
    }
}

impl Specialize for Asset {
    fn prepare(&self, options: &Options, device: &Device) -> Result<Prepared> {
        Prepared::new(self, *options, device).at(|| self.name())
    }
}

/// An asset whose graphs are rewritten for a machine, but whose weights are not packed yet: all sizes are known.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) asset: Asset,
    pub(crate) functions: Functions,
    pub(crate) listing: Arc<Listing>,
    pub(crate) options: Options,
    pub(crate) device: Device,
}

impl Prepared {
    fn new(asset: &Asset, options: Options, device: &Device) -> Result<Self> {
        let (backend, weights) = (&**device.backend(), asset.weights());
        let known = |path: &str| {
            // Written out, weights are all that they stand for, whatever they are stored as.
            let stored = if options.as_written { None } else { weights.encoding(path)? };
            let ranged = !options.as_written && weights.input_range(path).is_some();
            Ok(Known { encoding: stored, ranged })
        };
        let held = if options.as_written { DType::F32 } else { backend.identity().dtype(options.precision) };
        let caches = caches(asset.functions().values());
        let (mut listing, mut functions) = (Listing::default(), BTreeMap::new());
        for (name, graph) in asset.functions() {
            let lower = |graph: &Graph| backend.lower(&narrow(&materialize(graph)?, &caches, held)?, options, weights);
            let lowering = lower(graph).at(|| name)?;
            let lowered = Lowered::new(lowering, options, backend, &mut listing, known).at(|| name)?;
            functions.insert(name.clone(), Arc::new(lowered));
        }
        Ok(Self { asset: asset.clone(), functions, listing: Arc::new(listing), options, device: device.clone() })
    }

    /// Bytes of packed weights, all functions together.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.listing.entries.iter().map(|entry| entry.len).sum()
    }

    /// The most bytes of packed weights that one operator of a function reads: what stays in memory of weights that
    /// are mapped from a cache, in calls with [`State::frugal`](crate::State::frugal).
    ///
    /// # Errors
    /// If there is no such function.
    pub fn largest_weight_bytes(&self, function: &str) -> Result<usize> {
        let lowered = self.function(function)?;
        let bytes = |(value, node): (_, &ondine_graph::Node)| -> usize {
            let entries = (0..node.inputs.len()).filter_map(|position| lowered.entry(value, position));
            entries.map(|entry| self.listing.entries[entry].len).sum()
        };
        Ok(lowered.graph.values().map(bytes).max().unwrap_or_default())
    }

    /// A function as the device runs it.
    ///
    /// # Errors
    /// If there is no such function.
    pub fn graph(&self, function: &str) -> Result<&Graph> {
        Ok(&self.function(function)?.graph)
    }

    /// The memory plan of a function for one binding of its symbols.
    ///
    /// # Errors
    /// If there is no such function, or a symbol is missing or has no possible value.
    pub fn plan(&self, function: &str, bindings: &Bindings) -> Result<Plan> {
        let (lowered, entries, backend) = (self.function(function)?, &self.listing.entries, &**self.device.backend());
        Planner { lowered, entries, backend }.plan(&bindings.into()).at(|| format!("{}.{function}", self.asset.name()))
    }

    /// Floating-point operations of the products of a call, two for each multiplication with its addition.
    ///
    /// # Errors
    /// As [`Prepared::plan`].
    pub fn flops(&self, function: &str, bindings: &Bindings) -> Result<u64> {
        Ok(self.plan(function, bindings)?.cost().flops)
    }

    fn function(&self, name: &str) -> Result<&Lowered> {
        self.asset.function(name)?;
        Ok(&self.functions[name])
    }

    /// What the packed weights are of.
    #[must_use]
    pub fn about(&self) -> About {
        about(self.asset.name(), &self.functions, self.options, &self.device)
    }

    /// Packs the weights or, if `cache` has them from an earlier start, maps them.
    ///
    /// # Errors
    /// If a tensor of the checkpoint cannot be read. A cache that cannot be written is no error: the weights are
    /// then packed in memory.
    pub fn specialize(&self, cache: Option<&Cache>) -> Result<Specialized> {
        let mut entries = self.listing.entries.clone();
        let (bytes, from_cache) = match cache {
            Some(cache) => self.obtain(&mut entries, cache),
            None => pack_in_memory(&self.asset, &entries, &**self.device.backend()).map(|bytes| (bytes, false)),
        }
        .at(|| self.asset.name())?;
        Ok(Specialized {
            name: self.asset.name().clone(),
            functions: self.functions.clone(),
            bytes,
            entries: entries.into(),
            listing: self.listing.clone(),
            options: self.options,
            device: self.device.clone(),
            from_cache,
        })
    }

    /// Yields the packed weights from the cache, which gets them first if it must; offsets become positions in them.
    fn obtain(&self, entries: &mut [Entry], cache: &Cache) -> Result<(Bytes, bool)> {
        let (asset, backend, about) = (&self.asset, &**self.device.backend(), self.about());
        let key = self.key(entries, &about, cache);
        let found = cache.get(key).filter(|(file, _)| file.header.entries == *entries);
        let (start, bytes, found) = match found {
            Some((file, bytes)) => (file.start, bytes, true),
            None => {
                let front = Front::new(Header::new(about, entries), &[])?;
                let len = front.file_bytes(total(entries));
                let written =
                    cache.put(key, len, |file| front.write(file, |file| write_packed(asset, entries, backend, file)));
                match written {
                    Ok((file, bytes)) => (file.start, bytes, false),
                    // A full or read-only disk costs the next start its speed, not this one its result. What is wrong
                    // with the weights themselves shows again below.
                    Err(_) => return Ok((pack_in_memory(asset, entries, backend)?, false)),
                }
            }
        };
        entries.iter_mut().for_each(|entry| entry.offset += start);
        Ok((bytes, found))
    }

    /// The hash of everything that the packed bytes depend on.
    fn key(&self, entries: &[Entry], about: &About, cache: &Cache) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {} {:?} {entries:?}", about.engine, about.tier, about.precision).as_bytes());
        for (path, recipe) in self.asset.recipes().iter() {
            hasher.update(format!("{path:?} {}", recipe.fingerprint()).as_bytes());
        }
        let mut files = BTreeMap::new();
        for (path, tensor) in self.asset.weights().iter() {
            let whole = tensor.bytes.whole();
            let place = tensor.bytes.as_ptr().addr() - whole.as_ptr().addr();
            hasher.update(format!("{path:?} {} {:?} {place} ", tensor.dtype, tensor.shape).as_bytes());
            files.entry((whole.as_ptr() as usize, whole.len())).or_insert((tensor.file.clone(), whole));
        }
        let mut files: Vec<_> = files.into_values().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, bytes) in files {
            hasher.update(cache.content_hash(&bytes).as_bytes());
        }
        Digest(hasher.finalize())
    }
}

/// An asset prepared for one machine: graphs rewritten for its backend, weights packed in the forms that this reads.
///
/// It depends on the device and on the [`Options`], not on the sizes of inputs, which calls bind.
///
/// ```
/// use ondine_runtime::{Asset, Cache, DType, Device, Graph, Options, Precision, Specialize, Weights};
///
/// # fn main() -> ondine_runtime::Result<()> {
/// let mut graph = Graph::new();
/// let x = graph.input("x", DType::F32, [4]);
/// graph.output("x", x);
/// let asset = Asset::new("identity", [("main", graph)], Weights::default())?;
///
/// let options = Options { precision: Precision::BF16, ..Options::default() };
/// let specialized = asset.specialize(&options, &Device::cpu(None)?, None::<&Cache>)?;
/// assert!(!specialized.from_cache(), "there is none");
/// let model = specialized.load()?;
/// # assert!(model.function("main").is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Specialized {
    pub(crate) name: Arc<str>,
    pub(crate) functions: Functions,
    /// What holds the packed weights.
    pub(crate) bytes: Bytes,
    /// With their positions in that.
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) listing: Arc<Listing>,
    pub(crate) options: Options,
    pub(crate) device: Device,
    pub(crate) from_cache: bool,
}

/// What packed weights are of.
pub(crate) fn about(name: &str, functions: &Functions, options: Options, device: &Device) -> About {
    About {
        model: name.to_owned(),
        functions: functions.keys().map(ToString::to_string).collect(),
        precision: options.precision,
        tier: device.backend().identity().key.to_string(),
        engine: ENGINE.to_owned(),
    }
}

impl Specialized {
    /// What the packed weights are of.
    #[must_use]
    pub fn about(&self) -> About {
        about(&self.name, &self.functions, self.options, &self.device)
    }

    /// Bytes of packed weights, all functions together.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// True if the packed weights were mapped from a file rather than packed now.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    /// The bytes of a packed weight.
    pub(crate) fn packed(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        &self.bytes[entry.offset..entry.offset + entry.len]
    }

    /// What the backend makes ready for its kernels.
    pub(crate) fn to_load(&self) -> Packed {
        let weight = |entry: &Entry| PackedWeight {
            form: entry.form.clone(),
            shape: entry.shape.clone(),
            offset: entry.offset,
            len: entry.len,
        };
        let entries = self.entries.iter().map(weight).collect();
        Packed { bytes: self.bytes.clone(), entries, constants: self.listing.constants.clone() }
    }

    /// The same with other numbers in some weights, by their paths.
    ///
    /// # Errors
    /// If one cannot be packed.
    pub(crate) fn replaced(&self, weights: &[(&str, &[f32])]) -> Result<Self> {
        let bytes = repacked(&self.bytes, &self.entries, weights, &**self.device.backend())?;
        Ok(Self { bytes, ..self.clone() })
    }
}
