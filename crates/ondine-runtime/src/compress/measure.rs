//! Errors measured on inputs: of a layer by itself, and of the functions' results.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    calibrate::calls,
    encode::{Coded, encode},
    format::{Format, Kind},
    layers::{Layer, weight_position},
    options::{Options, Progress},
    plain::plain_tensor,
    report::Loss,
};
use crate::{
    device::Device,
    evaluate::weight_numbers,
    specialize::{Specialize, Specialized},
    state::State,
};
use ondine_graph::{Asset, Context, Epilogue, Graph, NDArray, Op, Result, Value, Weights, fail, sample::Arguments};

/// Rows of a linear layer's input that its error is measured on, about.
const ROWS: usize = 256;

/// Bytes of activations that are kept at once while they are collected, about.
const CAPTURED: usize = 256 << 20;

/// A call and what it yields uncompressed.
struct Call {
    function: Arc<str>,
    inputs: Arguments,
    wanted: Vec<(Arc<str>, Vec<f32>)>,
}

/// A layer by itself, with what it reads in a call.
struct Alone {
    graph: Graph,
    specialized: Specialized,
    x: NDArray,
    signal: f64,
    peak: f64,
    count: usize,
}

/// The asset and its layers, ready to be run with other numbers in their weights.
pub(super) struct Measure {
    calls: Vec<Call>,
    base: Specialized,
    layers: Vec<(Arc<str>, Vec<usize>, Vec<Alone>)>,
    /// The lowest and the highest number that each layer reads in all calls, of linear layers alone.
    ranges: Vec<Option<[f32; 2]>>,
    device: Device,
}

impl Measure {
    /// Runs the functions on calibration inputs.
    pub(super) fn new(
        asset: &Asset,
        layers: &[Layer],
        options: &Options,
        device: &Device,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Self> {
        let base = asset.specialize(&crate::Options::default(), device, None)?;
        let mut measured = Vec::new();
        for (function, inputs) in calls(asset, options)? {
            let wanted = run(&base, &function, &inputs).at(|| "inputs for calibration")?;
            measured.push(Call { function, inputs, wanted });
        }
        if measured.iter().all(|call| call.wanted.is_empty()) {
            fail!(Unsupported, "{}: no result is a floating-point number, there is nothing to measure", asset.name());
        }
        let mut alone: Vec<_> = layers.iter().map(|layer| (layer.path.clone(), layer.shape.clone(), vec![])).collect();
        let mut ranges = vec![None; layers.len()];
        // One call of a function is enough to tell formats apart; ranges are those of all.
        let mut known = HashSet::new();
        let all = options.wants_rows8();
        for call in &measured {
            let Call { function, inputs, .. } = call;
            let first = known.insert(function.clone());
            if !first && !all {
                continue;
            }
            let graph = asset.function(function)?;
            let uses: Vec<_> = layers
                .iter()
                .enumerate()
                .flat_map(|(index, layer)| layer.uses.iter().map(move |(function, value)| (index, function, *value)))
                .filter(|(_, of, _)| *of == function)
                .map(|(index, _, value)| (index, value))
                .collect();
            for part in parts(graph, &uses, inputs) {
                let start = std::time::Instant::now();
                let captured = capture(asset, function, part, inputs, device)?;
                for &(index, value) in part {
                    let x = captured[&activation(graph, value)].clone();
                    if let Op::Linear(_) = graph.node(value).op {
                        widen(&mut ranges[index], &x)?;
                    }
                    if !first {
                        continue;
                    }
                    let weight = weight_numbers(asset, &layers[index].path)?;
                    alone[index].2.push(Alone::new(graph, value, x, (&layers[index], &weight), device)?);
                }
                let done = alone.iter().filter(|(.., alone)| !alone.is_empty()).count();
                progress(Progress { stage: "calibrating", done, total: layers.len(), step: start.elapsed() });
            }
        }
        Ok(Self { calls: measured, base, layers: alone, ranges, device: device.clone() })
    }

    /// The lowest and the highest number that a linear layer reads.
    pub(super) fn range(&self, index: usize) -> Option<[f32; 2]> {
        self.ranges[index]
    }

    /// The squared error of what a layer yields, and its loss, with `coded` in place of `values`, as it will run.
    pub(super) fn layer(&self, index: usize, values: &[f32], coded: &Coded) -> Result<(f64, Loss)> {
        let (path, _, uses) = &self.layers[index];
        let (mut noise, mut signal, mut peak, mut count) = (0.0, 0.0, 0.0_f64, 0);
        // Where the weight alone is wrong, the error is linear in that: no digits are lost to what is right.
        let wrong: Vec<f32> = coded.values.iter().zip(values).map(|(coded, value)| coded - value).collect();
        for alone in uses {
            noise += if coded.has_range() {
                alone.error(path, coded, &self.device)?
            } else {
                alone.energy(&alone.specialized.replaced(&[(path, &wrong)])?)?.0
            };
            signal += alone.signal;
            peak = peak.max(alone.peak);
            count += alone.count;
        }
        Ok((noise, Loss::new(noise, signal, peak, count)))
    }

    /// The loss of the worst result of all calls, with an asset of the same functions in place of the one that was
    /// given, as it will run.
    pub(super) fn asset(&self, asset: &Asset) -> Result<Loss> {
        self.results(&asset.specialize(&crate::Options::default(), &self.device, None)?)
    }

    /// What a unit of squared error of a layer alone makes of squared error of the results, relative to their squared
    /// peak: measured with the error of 4 bits.
    pub(super) fn sensitivity(&self, index: usize, values: &[f32]) -> Result<f64> {
        let (path, shape, _) = &self.layers[index];
        let format = Format::new(Kind::Integer { bits: 4, symmetric: true });
        let coded = encode(values, shape, &format, self.device.processor()?).at(|| path)?;
        let (noise, _) = self.layer(index, values, &coded)?;
        let loss = self.results(&self.base.replaced(&[(path, &coded.values)])?)?;
        let relative = loss.psnr.map_or(0.0, |psnr| 10.0_f64.powf(-psnr / 10.0));
        Ok(if noise > 0.0 { relative / noise } else { 0.0 })
    }

    /// The loss of the worst result.
    fn results(&self, specialized: &Specialized) -> Result<Loss> {
        let mut worst: Option<Loss> = None;
        for call in &self.calls {
            let found = run(specialized, &call.function, &call.inputs)?;
            for ((_, found), (_, wanted)) in found.iter().zip(&call.wanted) {
                let loss = Loss::between(found, wanted);
                let psnr = |loss: &Loss| loss.psnr.unwrap_or(f64::INFINITY);
                if psnr(&loss).is_nan() || worst.as_ref().is_none_or(|worst| psnr(&loss) < psnr(worst)) {
                    worst = Some(loss);
                }
            }
        }
        match worst {
            Some(loss) if !loss.relative.is_nan() => Ok(loss),
            _ => fail!(Unsupported, "results that are no numbers cannot be compared; give inputs with --calibrate"),
        }
    }
}

/// The asset with other numbers in its weights, step by step.
pub(super) struct Mix<'a> {
    measure: &'a Measure,
    pub(super) formats: Vec<Option<Format>>,
    current: Specialized,
}

impl<'a> Mix<'a> {
    pub(super) fn new(measure: &'a Measure, layers: usize) -> Self {
        Self { measure, formats: vec![None; layers], current: measure.base.clone() }
    }

    /// Puts numbers in place of those of some weights, and yields the loss of the results.
    pub(super) fn loss(&mut self, changed: &[(&str, Vec<f32>)]) -> Result<Loss> {
        let changed: Vec<_> = changed.iter().map(|(path, values)| (*path, values.as_slice())).collect();
        self.current = self.current.replaced(&changed)?;
        self.measure.results(&self.current)
    }
}

/// Makes a range hold the numbers of `x`.
fn widen(range: &mut Option<[f32; 2]>, x: &NDArray) -> Result<()> {
    let [mut low, mut high] = range.unwrap_or_default();
    for &x in x.view::<f32>()? {
        (low, high) = (low.min(x), high.max(x));
    }
    *range = Some([low, high]);
    Ok(())
}

/// The results of a call that are floating-point numbers.
fn run(specialized: &Specialized, function: &str, inputs: &Arguments) -> Result<Vec<(Arc<str>, Vec<f32>)>> {
    let inputs: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let outputs = specialized.clone().load()?.function(function)?.run(&inputs, &mut State::default())?;
    let floats = outputs.iter().filter(|(_, array)| array.dtype().is_float() && !array.is_empty());
    Ok(floats.map(|(name, array)| (name.clone(), array.to_f32())).collect())
}

/// What a layer's operator reads beside its weight.
fn activation(graph: &Graph, layer: Value) -> Value {
    let node = graph.node(layer);
    node.inputs[1 - weight_position(&node.op).unwrap_or(1)]
}

/// The uses, cut so that what they read fits the memory.
fn parts<'a>(graph: &Graph, uses: &'a [(usize, Value)], inputs: &Arguments) -> Vec<&'a [(usize, Value)]> {
    let mut sizes = ondine_graph::Bindings::new();
    for ((_, value), (_, array)) in graph.inputs().iter().zip(inputs) {
        for (dim, &size) in graph.shape(*value).0.iter().zip(array.shape()) {
            sizes.extend(dim.solve(size).ok().flatten().map(|(symbol, size)| (symbol.clone(), size)));
        }
    }
    let bytes = |value: Value| {
        let shape = graph.shape(activation(graph, value)).bind(&sizes);
        4 * shape.map_or(0, |shape| shape.iter().product::<usize>())
    };
    let (mut parts, mut start, mut total) = (Vec::new(), 0, 0);
    for (index, &(_, value)) in uses.iter().enumerate() {
        let more = bytes(value);
        if index > start && total + more > CAPTURED {
            parts.push(&uses[start..index]);
            (start, total) = (index, 0);
        }
        total += more;
    }
    parts.push(&uses[start..]);
    parts
}

/// What the layers of `uses` read in a call.
fn capture(
    asset: &Asset,
    function: &Arc<str>,
    uses: &[(usize, Value)],
    inputs: &Arguments,
    device: &Device,
) -> Result<HashMap<Value, NDArray>> {
    let mut graph = asset.function(function)?.clone();
    let mut wanted: Vec<Value> = uses.iter().map(|&(_, value)| activation(&graph, value)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let name = |value: Value| format!("read by a layer: {}", value.index());
    wanted.iter().for_each(|&value| graph.output(&name(value), value));
    let asset = asset.with_functions([(function.clone(), graph)])?;
    let model = asset.specialize(&crate::Options::default(), device, None)?.load()?;
    let inputs: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let mut outputs = model.function(function)?.run(&inputs, &mut State::default())?;
    wanted.into_iter().map(|value| Ok((value, outputs.take(&name(value))?))).collect()
}

impl Alone {
    fn new(
        graph: &Graph,
        value: Value,
        x: NDArray,
        (layer, weight): (&Layer, &[f32]),
        device: &Device,
    ) -> Result<Self> {
        let node = graph.node(value);
        let x = thin_out(x, &node.op)?;
        let mut alone = Graph::new();
        let input = alone.input("x", x.dtype(), x.shape());
        let weight_value = alone.weight(&layer.path, &layer.shape)?;
        let (op, inputs) = match &node.op {
            Op::Conv2d(conv, _) => (Op::Conv2d(*conv, Epilogue::default()), [input, weight_value]),
            Op::Gather => (Op::Gather, [weight_value, input]),
            _ => (Op::Linear(Epilogue::default()), [input, weight_value]),
        };
        let y = alone.push(op, &inputs)?;
        alone.output("y", y);
        let mut weights = Weights::default();
        weights.insert(&layer.path, plain_tensor(weight, &layer.shape));
        let asset = Asset::new("layer", [("layer", alone.clone())], weights)?;
        let specialized = asset.specialize(&crate::Options::default(), device, None)?;
        let mut alone = Self { graph: alone, specialized, x, signal: 0.0, peak: 0.0, count: 0 };
        (alone.signal, alone.peak, alone.count) = alone.energy(&alone.specialized)?;
        Ok(alone)
    }

    /// The sum of squares of what the layer yields, the largest absolute value, and how many there are.
    fn energy(&self, specialized: &Specialized) -> Result<(f64, f64, usize)> {
        let y = self.results(specialized)?;
        let peak = y.iter().fold(0.0_f64, |most, &x| most.max(f64::from(x).abs()));
        Ok((y.iter().map(|&x| f64::from(x).powi(2)).sum(), peak, y.len()))
    }

    /// The sum of squares of what is wrong with the results of `coded`.
    fn error(&self, path: &str, coded: &Coded, device: &Device) -> Result<f64> {
        let mut weights = Weights::default();
        coded.insert(path, &mut weights);
        let asset = Asset::new("layer", [("layer", self.graph.clone())], weights)?;
        let found = self.results(&asset.specialize(&crate::Options::default(), device, None)?)?;
        let pairs = found.into_iter().zip(self.results(&self.specialized)?);
        Ok(pairs.map(|(found, wanted)| (f64::from(found) - f64::from(wanted)).powi(2)).sum())
    }

    fn results(&self, specialized: &Specialized) -> Result<Vec<f32>> {
        let outputs = specialized.clone().load()?.function("layer")?.run(&[("x", &self.x)], &mut State::default())?;
        Ok(outputs.iter().flat_map(|(_, array)| array.to_f32()).collect())
    }
}

/// A part of a layer's input that is enough to measure with: some rows, or the first picture.
fn thin_out(x: NDArray, op: &Op) -> Result<NDArray> {
    let shape = x.shape().to_vec();
    let element = x.dtype().size();
    let width = match (op, shape.as_slice()) {
        (Op::Conv2d(..), [batch, picture @ ..]) if *batch > 1 => {
            let picture: Vec<usize> = [1].iter().chain(picture).copied().collect();
            let bytes = picture.iter().product::<usize>() * element;
            return NDArray::from_bytes(x.dtype(), &picture, &x.bytes()[..bytes]);
        }
        (Op::Linear(_), [.., width]) => *width,
        (Op::Gather, _) => 1,
        _ => return Ok(x),
    };
    let rows = x.len() / width.max(1);
    let step = rows.div_ceil(ROWS).max(1);
    let kept: Vec<u8> = x.bytes().chunks((width * element).max(1)).step_by(step).flatten().copied().collect();
    let count = rows.div_ceil(step);
    let shape = if matches!(op, Op::Gather) { vec![count] } else { vec![count, width] };
    NDArray::from_bytes(x.dtype(), &shape, &kept)
}
