//! Random weights that keep the signals of a network healthy: matrices of unit gain, norms near identity, small biases.

use std::{collections::BTreeMap, io::Write};

use anyhow::Context;
use half::f16;
use ondine_runtime::{Bytes, DType, Graph, Tensor, Weight, Weights, sample::Random};

/// Normal numbers drawn from a table of them: as good as new ones here, and much sooner made.
pub(crate) struct Normals {
    table: Vec<f32>,
    random: Random,
}

impl Normals {
    const TABLE: usize = 1 << 16;

    pub(crate) fn new(seed: u64) -> Self {
        let mut normals = Self { table: Vec::new(), random: Random::new(seed) };
        // Box and Muller 1958.
        let pair = |normals: &mut Self| {
            let [u, v] = [(); 2].map(|()| ((normals.random.next() >> 40) as f32 + 0.5) / (1 << 24) as f32);
            let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f32::consts::TAU * v);
            [radius * angle.cos(), radius * angle.sin()]
        };
        let table = (0..Self::TABLE / 2).flat_map(|_| pair(&mut normals)).collect();
        Self { table, ..normals }
    }

    /// Fills `out`.
    pub(crate) fn fill(&mut self, out: &mut [f32]) {
        for four in out.chunks_mut(4) {
            let bits = self.random.next();
            for (i, x) in four.iter_mut().enumerate() {
                *x = self.table[(bits >> (16 * i)) as usize % Self::TABLE];
            }
        }
    }
}

/// Mean and deviation of a weight.
#[derive(Clone, Copy, PartialEq)]
struct Spread {
    mean: f32,
    deviation: f32,
}

impl Spread {
    fn of(weight: &Weight) -> Self {
        let fan_in: usize = weight.shape.iter().skip(1).product();
        if weight.shape.len() > 1 {
            Self { mean: 0.0, deviation: 1.0 / (fan_in as f32).sqrt() }
        } else if weight.path.ends_with(".weight") {
            Self { mean: 1.0, deviation: 0.1 }
        } else {
            Self { mean: 0.0, deviation: 0.1 }
        }
    }

    /// `count` numbers as f16.
    fn write(self, normals: &mut Normals, mut count: usize, out: &mut impl Write) -> std::io::Result<()> {
        let mut numbers = [0.0_f32; 4096];
        while count > 0 {
            let numbers = &mut numbers[..count.min(4096)];
            normals.fill(numbers);
            let bytes: Vec<u8> =
                numbers.iter().flat_map(|x| f16::from_f32(self.mean + self.deviation * x).to_le_bytes()).collect();
            out.write_all(&bytes)?;
            count -= numbers.len();
        }
        Ok(())
    }
}

/// The weights of some graphs, each once, in the order of their names.
fn needed<'a>(graphs: impl Iterator<Item = &'a Graph>) -> Vec<Weight> {
    let mut needed: Vec<_> = graphs.flat_map(Graph::weights).cloned().collect();
    needed.sort_by(|a, b| a.path.cmp(&b.path));
    needed.dedup_by(|a, b| a.path == b.path);
    needed
}

fn elements(weight: &Weight) -> usize {
    weight.shape.iter().product()
}

/// How far apart weights that share a block begin in it, at most: nothing is a multiple of it.
const STAGGER: usize = 65_521;

/// Weights of which all that have the same spread are cut from one block of random numbers, so that they take its
/// memory only.
pub(super) fn shared<'a>(graphs: impl Iterator<Item = &'a Graph>) -> anyhow::Result<Weights> {
    let needed = needed(graphs);
    let mut blocks: BTreeMap<(u32, u32), (Spread, usize)> = BTreeMap::new();
    let key = |spread: Spread| (spread.mean.to_bits(), spread.deviation.to_bits());
    for weight in &needed {
        let spread = Spread::of(weight);
        let largest = &mut blocks.entry(key(spread)).or_insert((spread, 0)).1;
        *largest = elements(weight).max(*largest);
    }
    let mut normals = Normals::new(1);
    let block = |(key, (spread, count)): (_, (Spread, usize))| -> anyhow::Result<_> {
        let mut bytes = Vec::with_capacity(2 * (count + STAGGER));
        spread.write(&mut normals, count + STAGGER, &mut bytes)?;
        Ok((key, Bytes::from(bytes.as_slice())))
    };
    let blocks = blocks.into_iter().map(block).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let mut weights = Weights::default();
    for (i, weight) in needed.iter().enumerate() {
        let block = &blocks[&key(Spread::of(weight))];
        let bytes =
            block.slice(2 * (i * 7919 % STAGGER), 2 * elements(weight)).context("a weight exceeds its block")?;
        let tensor = Tensor { dtype: DType::F16, shape: weight.shape.clone(), bytes, file: "random".into() };
        weights.insert(&weight.path, tensor);
    }
    Ok(weights)
}

/// Bytes of [`write`]'s file, but for its header.
pub(super) fn bytes<'a>(graphs: impl Iterator<Item = &'a Graph>) -> u64 {
    needed(graphs).iter().map(|weight| 2 * elements(weight) as u64).sum()
}

/// Writes a safetensors file with the weights of some graphs as f16, never more than a part of one in memory.
pub(super) fn write<'a>(
    graphs: impl Iterator<Item = &'a Graph>,
    seed: u64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let needed = needed(graphs);
    let mut header = serde_json::Map::new();
    let mut position = 0;
    for weight in &needed {
        let end = position + 2 * elements(weight);
        let facts = serde_json::json!({"dtype": "F16", "shape": weight.shape, "data_offsets": [position, end]});
        header.insert(weight.path.to_string(), facts);
        position = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut normals = Normals::new(seed);
    for weight in &needed {
        Spread::of(weight).write(&mut normals, elements(weight), out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let mut graph = Graph::new();
        for (path, shape) in [("a.weight", &[64, 400][..]), ("b.weight", &[64, 400]), ("norm.weight", &[300])] {
            graph.weight(path, shape).unwrap();
        }
        graph
    }

    fn moments(values: &[f32]) -> (f32, f32) {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / values.len() as f32;
        (mean, square.sqrt())
    }

    #[test]
    fn written_and_shared_weights_have_the_spread_of_their_kind() {
        let graph = graph();
        let mut file = Vec::new();
        write([&graph].into_iter(), 3, &mut file).unwrap();
        assert!(file.len() as u64 > bytes([&graph].into_iter()));
        let written = Weights::from_safetensors("file", &Bytes::from(file.as_slice())).unwrap();
        for weights in [written, shared([&graph].into_iter()).unwrap()] {
            for (path, mean, deviation) in [("a.weight", 0.0, 0.05), ("norm.weight", 1.0, 0.1)] {
                let found = moments(&weights.to_f32(path).unwrap());
                assert!((found.0 - mean).abs() < 0.02 && (found.1 / deviation - 1.0).abs() < 0.2, "{path} {found:?}");
            }
            assert_ne!(weights.to_f32("a.weight").unwrap(), weights.to_f32("b.weight").unwrap());
        }
    }
}
