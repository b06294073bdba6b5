//! Inputs to measure with: those that are given, else random ones.

use std::sync::Arc;

use super::Options;
use ondine_graph::{Asset, Bindings, Context, DType, Graph, NDArray, Op, Result, Value, fail};

/// A symbolic dimension of which nothing is known.
const SIZE: usize = 8;

/// Arguments of a call, by name.
pub(super) type Inputs = Vec<(String, NDArray)>;

/// The calls to measure: a function and its inputs.
///
/// # Errors
/// If none of the given inputs are those of a function.
pub(super) fn calls(asset: &Asset, options: &Options) -> Result<Vec<(Arc<str>, Inputs)>> {
    let mut calls = Vec::new();
    for (name, graph) in asset.functions() {
        if options.calibration.is_empty() {
            calls.push((name.clone(), random_inputs(graph, options.seed).at(|| name)?));
        }
        for sample in &options.calibration {
            let input = |(name, value): &(Arc<str>, Value)| {
                let array = sample.get(&**name)?.convert(graph.node(*value).signature.dtype).ok()?;
                Some((name.to_string(), array))
            };
            calls.extend(
                graph.inputs().iter().map(input).collect::<Option<Inputs>>().map(|inputs| (name.clone(), inputs)),
            );
        }
    }
    if calls.is_empty() {
        let wanted = |(name, graph): (&Arc<str>, &Graph)| {
            let inputs: Vec<_> = graph.inputs().iter().map(|(name, _)| &**name).collect();
            format!("{name} takes {}", inputs.join(", "))
        };
        let wanted: Vec<_> = asset.functions().iter().map(wanted).collect();
        fail!(Missing, "the calibration inputs are those of no function: {}", wanted.join("; "));
    }
    Ok(calls)
}

/// Numbers of a normal distribution, indices within the tables that they go to, and ones for all other integers.
fn random_inputs(graph: &Graph, seed: u64) -> Result<Inputs> {
    let mut random = Random(seed);
    let sizes = sizes(graph);
    let mut inputs = Vec::new();
    for (name, value) in graph.inputs() {
        let signature = &graph.node(*value).signature;
        let shape = signature.shape.bind(&sizes)?;
        let count: usize = shape.iter().product();
        let array = match signature.dtype {
            DType::Bool => NDArray::from_bytes(DType::Bool, &shape, &vec![1; count])?,
            dtype if dtype.is_float() => {
                let normal: Vec<f32> = (0..count).map(|_| random.normal()).collect();
                NDArray::new(&shape, &normal)?.convert(dtype)?
            }
            dtype => {
                let rows = table_rows(graph, *value);
                let index = |random: &mut Random| rows.map_or(1, |rows| (random.next() % rows as u64) as i64);
                let indices: Vec<i64> = (0..count).map(|_| index(&mut random)).collect();
                NDArray::new(&shape, &indices)?.convert(dtype)?
            }
        };
        inputs.push((name.to_string(), array));
    }
    Ok(inputs)
}

/// Typical sizes of symbols, or a small one that is allowed.
fn sizes(graph: &Graph) -> Bindings {
    let size = |symbol: &Arc<str>| {
        let [least, most] = graph.limits().get(symbol).copied().unwrap_or([1, usize::MAX]);
        graph.typical().get(symbol).copied().unwrap_or(SIZE.clamp(least, most.max(least)))
    };
    graph.typical_sizes().into_keys().map(|symbol| (symbol.clone(), size(&symbol))).collect()
}

/// The rows of the smallest table that an input is an index of.
fn table_rows(graph: &Graph, input: Value) -> Option<usize> {
    let mut reached = vec![false; graph.nodes().len()];
    reached[input.index()] = true;
    let mut least = None;
    for (value, node) in graph.values() {
        let comes = |position: usize| node.inputs.get(position).is_some_and(|input| reached[input.index()]);
        match &node.op {
            Op::Reshape(_) | Op::Cast(_) | Op::Permute(_) | Op::Slice { .. } | Op::Expand(_) | Op::Concat { .. } => {
                reached[value.index()] |= (0..node.inputs.len()).any(comes);
            }
            Op::Gather if comes(1) => {
                let rows = graph.dim(node.inputs[0], 0).fixed();
                least = rows.into_iter().chain(least).min();
            }
            _ => {}
        }
    }
    least.filter(|&rows| rows > 0)
}

/// Numbers that look random: the same for the same seed (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In 0..1, never 0.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller).
    fn normal(&mut self) -> f32 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        (radius * angle.cos()) as f32
    }
}
