//! The stage of one machine: graphs rewritten for its kernels, weights packed in the order in which they read.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    asset::Asset,
    bytes::Bytes,
    cache::{Cache, Digest},
    cpu::{self, Coding, Format},
    device::Device,
    dim::Bindings,
    disk::packed::{About, Front, Header},
    dtype::DType,
    error::{Context, Error, Result, fail},
    graph::{Graph, Node, Value, Weight},
    model::Model,
    ndarray::AlignedBytes,
    op::{Op, WeightId},
    pass::{
        algorithm::algorithm,
        correct::correct,
        fold::fold,
        fuse::fuse,
        layout::layout,
        plan::{Plan, plan},
        precision::lower,
        quantize::{Rows, quantize},
        share::share,
        values,
    },
    weights::Weights,
};

/// The type in which weights are packed and activations are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point, the reference.
    #[default]
    F32,
    /// The upper half of it: half the memory, products in twice the speed where the processor has them; sums, norms
    /// and softmax stay in 32 bits.
    BF16,
    /// Weights in 8 bits with a scale per output, and what they are multiplied with in 8 bits too, scaled at run
    /// time; no calibration. Layers with few channels, and everything between the products, are as in [`Self::BF16`].
    Int8,
}

impl Precision {
    /// The element type of activations.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::BF16 | Self::Int8 => DType::BF16,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::BF16),
            "int8" => Ok(Self::Int8),
            _ => fail!(Unsupported, "there is no precision `{text}`; choose f32, bf16 or int8"),
        }
    }
}

/// Choices of a specialization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The type of weights and activations.
    pub precision: Precision,
}

/// A function ready for the kernels.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) graph: Graph,
    /// For each weight of the graph, its packed forms.
    pub(crate) packs: HashMap<(WeightId, Format), usize>,
    /// How kernels read the codes of weights that have some.
    codings: HashMap<WeightId, Coding>,
}

impl Lowered {
    /// The packed weight that input `position` of a node reads, by its position in [`Packed`].
    pub(crate) fn pack(&self, op: &Op, position: usize, id: WeightId, options: Options) -> Option<usize> {
        let shape = &self.graph.weight_info(id).shape;
        let coding = self.codings.get(&id).copied();
        self.packs.get(&(id, cpu::format(op, position, shape, coding, options))).copied()
    }

    /// True if weights of 8 bits, and only these, meet quantized rows.
    pub(crate) fn agrees(&self, options: Options) -> bool {
        let linears = self.graph.nodes().iter().filter(|node| matches!(node.op, Op::Linear(_)));
        linears.into_iter().all(|node| {
            let Op::Weight(id) = self.graph.node(node.inputs[1]).op else { return true };
            let rows = self.graph.node(node.inputs[0]).signature.dtype == DType::U8;
            let (shape, coding) = (&self.graph.weight_info(id).shape, self.codings.get(&id).copied());
            rows == cpu::reads_rows(&node.op, shape, coding, options)
        })
    }
}

/// Packed weights: one block of bytes, each weight aligned to a cache line.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(crate) entries: Vec<Entry>,
}

/// One packed weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: Arc<str>,
    pub(crate) shape: Vec<usize>,
    pub(crate) format: Format,
    /// Position in the file.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Packed {
    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        &self.bytes[entry.offset..entry.offset + entry.len]
    }

    /// Lets go of the pages of an entry, if they are a file's.
    pub(crate) fn forget(&self, index: usize) {
        let entry = &self.entries[index];
        if let Some(bytes) = self.bytes.slice(entry.offset, entry.len) {
            bytes.forget();
        }
    }
}

/// An asset whose graphs are rewritten for a machine, but whose weights are not packed yet: all sizes are known.
#[derive(Clone, Debug)]
pub struct Prepared {
    asset: Asset,
    pub(crate) functions: BTreeMap<Arc<str>, Arc<Lowered>>,
    pub(crate) entries: Vec<Entry>,
    options: Options,
    device: Device,
}

impl Prepared {
    pub(crate) fn new(asset: &Asset, options: &Options, device: &Device) -> Result<Self> {
        let weights = asset.weights();
        let rewrite = |graph: &Graph| rewrite(graph, *options, device, weights);
        Self::with(asset, options, device, rewrite, |path| weights.coding(path))
    }

    pub(crate) fn as_written(asset: &Asset, device: &Device) -> Result<Self> {
        // Weights are all that they stand for, whatever they are stored as.
        Self::with(asset, &Options::default(), device, |graph| Ok(graph.clone()), |_| None)
    }

    fn with(
        asset: &Asset,
        options: &Options,
        device: &Device,
        rewrite: impl Fn(&Graph) -> Result<Graph>,
        coding: impl Fn(&str) -> Option<Coding>,
    ) -> Result<Self> {
        let mut entries = Vec::new();
        let mut known = HashMap::new();
        let mut functions = BTreeMap::new();
        for (name, graph) in asset.functions() {
            let graph = rewrite(graph).at(|| name)?;
            let lowered = assign_packs(graph, *options, device, (&mut entries, &mut known), &coding);
            functions.insert(name.clone(), Arc::new(lowered));
        }
        Ok(Self { asset: asset.clone(), functions, entries, options: *options, device: device.clone() })
    }

    /// Bytes of packed weights, all functions together.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// The most bytes of packed weights that one operator of a function reads: what stays in memory of weights that
    /// are mapped from a cache, in calls with [`State::frugal`](crate::State::frugal).
    ///
    /// # Errors
    /// If there is no such function.
    pub fn largest_weight_bytes(&self, function: &str) -> Result<usize> {
        self.asset.function(function)?;
        let lowered = &self.functions[function];
        let bytes = |node: &Node| -> usize {
            let pack = |(position, &input): (usize, &Value)| match lowered.graph.node(input).op {
                Op::Weight(id) => lowered.pack(&node.op, position, id, self.options).map(|pack| self.entries[pack].len),
                _ => None,
            };
            node.inputs.iter().enumerate().filter_map(pack).sum()
        };
        Ok(lowered.graph.nodes().iter().map(bytes).max().unwrap_or_default())
    }

    /// A function as the device runs it.
    ///
    /// # Errors
    /// If there is no such function.
    pub fn graph(&self, function: &str) -> Result<&Graph> {
        self.asset.function(function)?;
        Ok(&self.functions[function].graph)
    }

    /// The memory plan of a function for one binding of its symbols.
    ///
    /// # Errors
    /// If there is no such function, or a symbol is missing or has no possible value.
    pub fn plan(&self, function: &str, bindings: &Bindings) -> Result<Plan> {
        self.asset.function(function)?;
        plan_of(&self.functions[function], bindings, self.options, &self.device)
            .at(|| format!("{}.{function}", self.asset.name()))
    }

    /// Floating-point operations of the products of a call, two for each multiplication with its addition.
    ///
    /// # Errors
    /// As [`Prepared::plan`].
    pub fn flops(&self, function: &str, bindings: &Bindings) -> Result<u64> {
        let plan = self.plan(function, bindings)?;
        Ok(crate::profile::flops(&self.functions[function].graph, &plan))
    }

    pub(crate) fn asset(&self) -> &Asset {
        &self.asset
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
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
        let mut entries = self.entries.clone();
        let weights = self.asset.weights();
        let (bytes, from_cache) = match cache {
            Some(cache) => obtain(weights, &mut entries, self.about(), &self.device, cache),
            None => pack_in_memory(weights, &entries, &self.device).map(|bytes| (bytes, false)),
        }
        .at(|| self.asset.name())?;
        Ok(Specialized {
            name: self.asset.name().clone(),
            functions: self.functions.clone(),
            packed: Packed { bytes, entries },
            options: self.options,
            device: self.device.clone(),
            from_cache,
        })
    }
}

/// An asset prepared for one machine: graphs rewritten for its kernels, weights packed in the order in which they read.
///
/// It depends on the device's set of instructions and on the [`Options`], not on the sizes of inputs, which calls bind.
///
/// ```
/// use ondine_runtime::{Asset, Cache, DType, Device, Graph, Options, Precision, Weights};
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
/// let model = specialized.load();
/// # assert!(model.function("main").is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Specialized {
    pub(crate) name: Arc<str>,
    pub(crate) functions: BTreeMap<Arc<str>, Arc<Lowered>>,
    pub(crate) packed: Packed,
    pub(crate) options: Options,
    pub(crate) device: Device,
    pub(crate) from_cache: bool,
}

/// The version that packed weights and lowered graphs belong to.
pub(crate) const ENGINE: &str = env!("CARGO_PKG_VERSION");

fn about(name: &str, functions: &BTreeMap<Arc<str>, Arc<Lowered>>, options: Options, device: &Device) -> About {
    About {
        model: name.to_owned(),
        functions: functions.keys().map(ToString::to_string).collect(),
        precision: options.precision,
        tier: device.tier().name().to_owned(),
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
        self.packed.entries.iter().map(|entry| entry.len).sum()
    }

    /// True if the packed weights were mapped from a file rather than packed now.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    /// The same with other numbers in some weights, by their paths.
    pub(crate) fn replaced(&self, weights: &[(&str, &[f32])]) -> Self {
        let mut bytes = AlignedBytes::zeroed(self.packed.bytes.len());
        bytes.as_mut_slice().copy_from_slice(&self.packed.bytes);
        for entry in &self.packed.entries {
            let Some((_, values)) = weights.iter().find(|(path, _)| *path == &*entry.path) else { continue };
            let out = &mut bytes.as_mut_slice()[entry.offset..entry.offset + entry.len];
            cpu::pack(entry.format, &entry.shape, values, out, &self.device);
        }
        let packed = Packed { bytes: bytes.into(), entries: self.packed.entries.clone() };
        Self { packed, ..self.clone() }
    }

    /// Makes the functions callable.
    #[must_use]
    pub fn load(self) -> Model {
        Model::new(self)
    }
}

/// Plans a call of a lowered function.
pub(crate) fn plan_of(lowered: &Lowered, bindings: &Bindings, options: Options, device: &Device) -> Result<Plan> {
    let graph = &lowered.graph;
    plan(graph, bindings, |value, shapes| cpu::scratch_bytes(graph, value, shapes, options, device))
}

/// The passes, in order.
fn rewrite(graph: &Graph, options: Options, device: &Device, weights: &Weights) -> Result<Graph> {
    let corrected = |weight: &Weight| match options.precision {
        // Panels of 8 bits are made of all that the weight stands for.
        Precision::Int8 => None,
        Precision::F32 | Precision::BF16 => weights.corrected(&weight.path),
    };
    let graph = correct(graph, corrected)?;
    let graph = fold(&graph, |node, inputs| cpu::evaluate(node, inputs, device))?;
    let graph = share(&layout(&graph)?)?;
    let graph = fuse(&graph)?;
    let graph = share(&lower(&graph, options.precision.dtype())?)?;
    let graph = layout(&algorithm(&graph)?)?;
    quantize(&graph, options.precision == Precision::Int8, |op, weight| {
        let range = weights.input_range(&weight.path);
        let reads = cpu::reads_rows(op, &weight.shape, range.map(|_| Coding::ROWS8), options);
        reads.then_some(Rows { range })
    })
}

/// The packed weights that there are, by their positions.
pub(crate) type Known = HashMap<(Arc<str>, Format), usize>;

/// Gives every use of a weight a packed form; uses of one weight in one format share it.
pub(crate) fn assign_packs(
    graph: Graph,
    options: Options,
    device: &Device,
    (entries, known): (&mut Vec<Entry>, &mut Known),
    coding: impl Fn(&str) -> Option<Coding>,
) -> Lowered {
    let mut packs = HashMap::new();
    let ids = (0..).map(WeightId).zip(graph.weights());
    let codings: HashMap<_, _> = ids.filter_map(|(id, weight)| Some((id, coding(&weight.path)?))).collect();
    let by_nodes =
        values(&graph).flat_map(|(_, node)| (0..).zip(&node.inputs).map(move |(i, &input)| (&node.op, i, input)));
    let updates = graph.states().iter().filter_map(|slot| slot.update);
    let read_whole = graph.outputs().iter().map(|&(_, value)| value).chain(updates);
    for (op, position, input) in by_nodes.chain(read_whole.map(|value| (&Op::Input, 0, value))) {
        if let Op::Weight(id) = graph.node(input).op {
            let weight = graph.weight_info(id);
            let format = cpu::format(op, position, &weight.shape, codings.get(&id).copied(), options);
            let index = *known.entry((weight.path.clone(), format)).or_insert_with(|| {
                let offset = entries.last().map_or(0, |last: &Entry| last.offset + last.len).next_multiple_of(64);
                let len = cpu::packed_bytes(format, &weight.shape, device);
                let (path, shape) = (weight.path.clone(), weight.shape.clone());
                entries.push(Entry { path, shape, format, offset, len });
                entries.len() - 1
            });
            packs.insert((id, format), index);
        }
    }
    Lowered { graph, packs, codings }
}

/// Yields the packed weights from the cache, which gets them first if it must; offsets become positions in them.
fn obtain(
    weights: &Weights,
    entries: &mut [Entry],
    about: About,
    device: &Device,
    cache: &Cache,
) -> Result<(Bytes, bool)> {
    let key = key(weights, entries, &about, cache);
    let found = cache.get(key).filter(|(file, _)| file.header.entries == *entries);
    let (start, bytes, found) = match found {
        Some((file, bytes)) => (file.start, bytes, true),
        None => {
            let front = Front::new(Header::new(about, entries), &[])?;
            let len = front.file_bytes(total(entries));
            let written =
                cache.put(key, len, |file| front.write(file, |file| write_packed(weights, entries, device, file)));
            match written {
                Ok((file, bytes)) => (file.start, bytes, false),
                // A full or read-only disk costs the next start its speed, not this one its result. What is wrong
                // with the weights themselves shows again below.
                Err(_) => return Ok((pack_in_memory(weights, entries, device)?, false)),
            }
        }
    };
    entries.iter_mut().for_each(|entry| entry.offset += start);
    Ok((bytes, found))
}

fn total(entries: &[Entry]) -> usize {
    entries.last().map_or(0, |last| last.offset + last.len)
}

/// The hash of everything that the packed bytes depend on.
fn key(weights: &Weights, entries: &[Entry], about: &About, cache: &Cache) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{} {} {:?} {entries:?}", about.engine, about.tier, about.precision).as_bytes());
    let mut files = BTreeMap::new();
    for (path, tensor) in weights.iter() {
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

fn pack_in_memory(weights: &Weights, entries: &[Entry], device: &Device) -> Result<Bytes> {
    let mut bytes = AlignedBytes::try_zeroed(total(entries))?;
    let all = bytes.as_mut_slice();
    for entry in entries {
        pack(weights, entry, &mut all[entry.offset..entry.offset + entry.len], device)?;
    }
    Ok(bytes.into())
}

/// Writes packed weights one by one, so that only one at a time is in memory.
pub(crate) fn write_packed(weights: &Weights, entries: &[Entry], device: &Device, file: &mut impl Write) -> Result<()> {
    let mut position = 0;
    let mut buffer = AlignedBytes::default();
    for entry in entries {
        file.write_all(&[0; 64][..entry.offset - position])?;
        buffer.resize(entry.len);
        // Packing skips what only fills up; a file must not depend on what came before.
        buffer.as_mut_slice().fill(0);
        pack(weights, entry, buffer.as_mut_slice(), device)?;
        file.write_all(buffer.as_slice())?;
        position = entry.offset + entry.len;
    }
    Ok(())
}

fn pack(weights: &Weights, entry: &Entry, out: &mut [u8], device: &Device) -> Result<()> {
    weights.check(&entry.path, &entry.shape)?;
    match (entry.format, weights.encoded(&entry.path)?) {
        (format @ (Format::Coded { .. } | Format::Rows { .. }), Some(encoded)) => {
            cpu::pack_codes(format, &entry.shape, &encoded, out, device);
        }
        (Format::Coded { .. } | Format::Rows { .. }, None) => fail!(Format, "weight `{}` has no codes", entry.path),
        (format, _) => cpu::pack(format, &entry.shape, &weights.to_f32(&entry.path)?, out, device),
    }
    // The checkpoint is not read again: its pages need not stay.
    if let Some(tensor) = weights.get(&entry.path) {
        tensor.bytes.forget();
    }
    Ok(())
}
