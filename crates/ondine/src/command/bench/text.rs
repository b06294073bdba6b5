//! Language models, of well-known shapes with random weights or as files hold them: how fast a prompt is read, and how
//! fast an answer comes.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, anyhow};
use ondine_graph::{
    block::Block,
    encoding::{BLOCKS, ENCODING, SCALE},
};
use ondine_models::{
    Language,
    transformer::{self, Config, Room},
};
use ondine_runtime::{
    Asset, Bindings, Bytes, DType, Device, Function, Graph, NDArray, Options, Precision, Prepared, Specialize, State,
    Tensor, Weight, Weights, sample::Random,
};
use serde_json::{Value, json};

use super::{
    machine::Machine,
    options::Bench,
    quant::{Quant, Stored},
    report::{Times, Told},
    works::Text,
};
use crate::{
    command::{bytes::megabytes, callee::call_bytes},
    memory::{forget_peak, peak_rss},
    output,
    report::usage,
};

/// Tokens of the prompt that is read, at most.
const PROMPT: usize = 512;

/// Tokens of an answer that are timed together.
const ANSWER: usize = 8;

/// Tokens of a draft that are checked in one call.
const DRAFT: usize = 8;

/// A model to be timed.
pub(super) enum Subject<'a> {
    /// A shape that is filled with random weights.
    Shape(&'static str, &'a Text),
    /// What files hold.
    File(Box<Language>),
}

/// What was timed.
struct Timed {
    prompt: Times,
    /// Seconds that all tokens before the answer took.
    before: f64,
    answer: Times,
    /// A call that checks a draft.
    draft: Times,
}

/// Refuses a model that takes more than `--memory` allows.
pub(super) fn check_memory(bench: &Bench, subject: &Subject<'_>, device: &Device) -> anyhow::Result<()> {
    bench.running.allow(subject.name(), || {
        let (asset, _) = subject.asset(bench, subject.context(bench)?)?;
        let options = Options { precision: bench.running.precision.unwrap_or_default(), ..Options::default() };
        planned_bytes(bench, subject.prompt(), &asset.prepare(&options, device)?)
    })
}

/// Bytes of weights, states and workspaces, as planned.
fn planned_bytes(bench: &Bench, prompt: usize, prepared: &Prepared) -> anyhow::Result<u64> {
    let mut bytes = prepared.weight_bytes() as u64;
    for (name, sizes) in [(FUNCTION, sizes(prompt)), (TOGETHER, [("texts".into(), bench.streams)].into())] {
        if let Ok(graph) = prepared.graph(name) {
            bytes = bytes.saturating_add(call_bytes(graph, &prepared.plan(name, &sizes)?, &sizes)?);
        }
    }
    Ok(bytes)
}

/// The function that goes on with a text.
const FUNCTION: &str = "next";

/// The function that yields what is expected after each of some tokens.
const CHECKING: &str = "logits";

/// The function that goes on with several.
const TOGETHER: &str = "batch";

fn sizes(tokens: usize) -> Bindings {
    [("tokens".into(), tokens)].into()
}

/// Times a prompt and an answer; `besides` are the bytes that the process takes besides what is planned.
pub(super) fn measure(bench: &Bench, subject: &Subject<'_>, device: &Device, besides: u64) -> anyhow::Result<Report> {
    let (asset, weights) = subject.asset(bench, subject.context(bench)?)?;
    let tokens = subject.prompt();
    let precision = bench.running.precision.unwrap_or_default();
    let prepared = asset.prepare(&Options { precision, ..Options::default() }, device)?;
    drop(asset);
    let planned = planned_bytes(bench, tokens, &prepared)?.saturating_add(besides);
    let flops = match bench.depth {
        0 => prepared.plan(FUNCTION, &sizes(tokens))?.cost().flops as f64,
        _ => operations(bench, subject, device)?,
    };
    let model = prepared.specialize(None)?.load()?;
    // Nothing but what is packed counts from here on.
    drop(prepared);
    let (function, checking) = (model.function(FUNCTION)?, model.function(CHECKING)?);
    let together = (bench.streams > 1).then(|| model.function(TOGETHER)).transpose()?;
    let kept = kept_bytes(&function, bench.depth + ANSWER / 2)?;
    forget_peak();
    let timed = time(bench, subject, &function, &checking)?;
    let together = together.map(|function| side_by_side(bench, &function, subject.tokens())).transpose()?;
    Ok(Report {
        work: subject.name().to_owned(),
        quant: match subject {
            Subject::Shape(..) => Some(bench.quant),
            Subject::File(_) => None,
        },
        precision,
        threads: device.processor()?.threads(),
        depth: bench.depth,
        streams: bench.streams,
        together,
        flops,
        bytes: (weights + kept) as f64,
        tokens,
        timed,
        planned,
        peak_rss: peak_rss(),
    })
}

/// Bytes of keys and values of `depth` tokens.
fn kept_bytes(function: &Function, depth: usize) -> anyhow::Result<usize> {
    let bytes = function.graph().states().iter().map(|slot| {
        let shape = slot.signature.shape.bind(&sizes(1))?;
        let rows = shape.first().copied().unwrap_or_default().min(depth);
        Ok(rows * shape.last().copied().unwrap_or_default() * slot.signature.dtype.size())
    });
    bytes.sum()
}

/// Times a prompt, what stands before an answer, the answer, and the check of a draft behind the same.
fn time(bench: &Bench, subject: &Subject<'_>, next: &Function, checking: &Function) -> anyhow::Result<Timed> {
    let (most, depth) = (subject.prompt(), bench.depth);
    let mut state = State::default();
    let mut run = |function: &Function, tokens: usize, past: usize| {
        let ids: Vec<i64> = (0..tokens as i64).map(|at| at * 37 % subject.tokens()).collect();
        let (ids, past) = (NDArray::new(&[tokens], &ids)?, NDArray::scalar(past as i64));
        let start = Instant::now();
        function.run(&[("input_ids", &ids), ("past", &past)], &mut state)?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    run(next, most, 0)?;
    let prompt = Times::of(bench.repeat, || run(next, most, 0))?;
    let pieces = (0..depth).step_by(most).map(|past| run(next, most.min(depth - past), past));
    let before = pieces.sum::<anyhow::Result<f64>>()?;
    run(next, 1, depth)?;
    let answer = Times::of(bench.repeat, || {
        let steps = (0..ANSWER).map(|at| run(next, 1, depth + at));
        Ok(steps.sum::<anyhow::Result<f64>>()? / ANSWER as f64)
    })?;
    run(checking, DRAFT, depth)?;
    let draft = Times::of(bench.repeat, || run(checking, DRAFT, depth))?;
    Ok(Timed { prompt, before, answer, draft })
}

/// Operations of the prompt's products, in a context of its own length.
fn operations(bench: &Bench, subject: &Subject<'_>, device: &Device) -> anyhow::Result<f64> {
    let (asset, _) = subject.asset(bench, subject.prompt())?;
    let options = Options { precision: bench.running.precision.unwrap_or_default(), ..Options::default() };
    Ok(asset.prepare(&options, device)?.plan(FUNCTION, &sizes(subject.prompt()))?.cost().flops as f64)
}

/// Times a token of each of several answers.
fn side_by_side(bench: &Bench, function: &Function, tokens: i64) -> anyhow::Result<Times> {
    let streams = bench.streams;
    let ids: Vec<i64> = (0..streams as i64).map(|at| at * 37 % tokens).collect();
    let ids = NDArray::new(&[streams], &ids)?;
    let mut state = State::default();
    let run = |past: usize, state: &mut State| {
        let past = NDArray::new(&[streams], &vec![past as i64; streams])?;
        let start = Instant::now();
        function.run(&[("input_ids", &ids), ("past", &past)], state)?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    run(bench.depth, &mut state)?;
    // Memory that was never written is not read from memory.
    for slot in function.graph().states() {
        let mut held = state.read(&slot.name)?;
        let number = match slot.signature.dtype.size() {
            1 => vec![3],
            2 => half::bf16::from_f32(0.01).to_le_bytes().to_vec(),
            _ => 0.01_f32.to_le_bytes().to_vec(),
        };
        held.bytes_mut().chunks_exact_mut(number.len()).for_each(|to| to.copy_from_slice(&number));
        state.write(&slot.name, &held)?;
    }
    Times::of(bench.repeat, || {
        let steps = (0..ANSWER).map(|at| run(bench.depth + at, &mut state));
        Ok(steps.sum::<anyhow::Result<f64>>()? / ANSWER as f64)
    })
}

impl Subject<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Shape(name, _) => name,
            Self::File(language) => &language.name,
        }
    }

    /// Ids below this are tokens.
    fn tokens(&self) -> i64 {
        match self {
            Self::Shape(_, text) => text.tokens,
            Self::File(language) => language.vocabulary.len() as i64,
        }
    }

    /// Tokens that it was made for.
    fn longest(&self) -> usize {
        match self {
            Self::Shape(..) => usize::MAX,
            Self::File(language) => language.max_tokens,
        }
    }

    /// Tokens of the prompt.
    fn prompt(&self) -> usize {
        PROMPT.min(self.longest())
    }

    /// Tokens of a text, at most.
    fn context(&self, bench: &Bench) -> anyhow::Result<usize> {
        let (needed, longest) = (bench.depth.saturating_add(ANSWER), self.longest());
        if needed > longest {
            usage!(
                "--depth {}: {} was made for {longest} tokens, {ANSWER} of them for an answer",
                bench.depth,
                self.name()
            );
        }
        Ok(needed.max(self.prompt()).next_multiple_of(256).min(longest))
    }

    /// The model, and the bytes of weights that are read for each token.
    fn asset(&self, bench: &Bench, context: usize) -> anyhow::Result<(Asset, usize)> {
        let room = Room { context, call: PROMPT, kv: bench.kept.kv() };
        let texts = if bench.streams > 1 { bench.streams } else { 0 };
        let asset = match self {
            Self::Shape(name, text) => return text.asset(name, bench.quant, room, texts),
            Self::File(language) => language.asset(room, texts)?,
        };
        if texts > 0 && !asset.functions().contains_key(TOGETHER) {
            usage!("{} writes one answer after the other: it has no --streams", self.name());
        }
        // Of a table that is not the head as well, a row is read.
        let head = asset.function(FUNCTION)?.weights().iter().any(|weight| &*weight.path == "lm_head.weight");
        let read = |path: &str| !(head && path.starts_with("model.embed_tokens."));
        let bytes = asset.weights().iter().filter(|(path, _)| read(path)).map(|(_, tensor)| tensor.bytes.len()).sum();
        Ok((asset, bytes))
    }
}

impl Text {
    /// The model with random weights, and the bytes of those that are read for each token.
    fn asset(&self, name: &str, quant: Quant, room: Room, texts: usize) -> anyhow::Result<(Asset, usize)> {
        let config = Config::from_json(self.config)?;
        let mut functions = transformer::functions(&config, room)?;
        functions.retain(|(name, _)| [FUNCTION, CHECKING].contains(name));
        if texts > 0 {
            let together = transformer::together(&config, room, texts)?;
            if together.is_empty() {
                usage!("{name} writes one answer after the other: it has no --streams");
            }
            functions.extend(together.into_iter().filter(|(name, _)| *name == TOGETHER));
        }
        let (_, graph) = functions.first().context("the model has no function that goes on with a text")?;
        let (weights, bytes) = random(graph, quant, config.layers.len())?;
        Ok((Asset::new(name, functions, weights)?, bytes))
    }
}

/// Weights of a graph cut from one block of random bytes for each format, and the bytes of those that are multiplied.
fn random(graph: &Graph, quant: Quant, layers: usize) -> anyhow::Result<(Weights, usize)> {
    let mut weights = Weights::default();
    let mut blocks: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut bytes = 0;
    let largest = graph.weights().iter().map(|weight| weight.shape.iter().product::<usize>()).max().unwrap_or(0);
    for (at, weight) in graph.weights().iter().enumerate() {
        let Weight { path, shape, .. } = weight;
        let layer = path.split('.').find_map(|part| part.parse().ok());
        let tensor = |dtype, shape: Vec<usize>, bytes| Tensor { dtype, shape, bytes, file: "random".into() };
        let [rows, columns] = shape[..] else {
            let numbers = NDArray::new(shape, &vec![1.0_f32; shape.iter().product()])?;
            weights.insert(path, tensor(DType::F32, shape.clone(), Bytes::from(numbers.bytes())));
            continue;
        };
        let stored = quant.stored(path, layer, layers, columns);
        let needed = stored.row_bytes(columns).map(|row| row * rows);
        let needed = needed.ok_or_else(|| anyhow!("{path}: rows of {columns} are no blocks"))?;
        let pool = blocks.entry(stored.to_string());
        let pool = pool.or_insert_with(|| Bytes::from(noise(stored, largest).as_slice()));
        // Weights that share a block begin at other places of it.
        let spare = (pool.len() - needed) / stored.unit();
        let from = at * 7919 % spare.max(1) * stored.unit();
        let data = pool.slice(from, needed).ok_or_else(|| anyhow!("{path}: it exceeds its block"))?;
        bytes += needed;
        let (kind, group) = match stored {
            Stored::F16 => {
                weights.insert(path, tensor(DType::F16, shape.clone(), data));
                continue;
            }
            Stored::Blocks(block) => (BLOCKS + block.id() as usize, block.elements()),
            Stored::Integers(bits) => {
                let scales = half::f16::from_f32(1.0 / (16 << bits) as f32).to_le_bytes().repeat(rows);
                bytes += scales.len();
                let scales = tensor(DType::F16, vec![rows, 1], Bytes::from(scales.as_slice()));
                weights.insert(&format!("{path}{SCALE}"), scales);
                (bits as usize, columns)
            }
        };
        let header = Bytes::from(NDArray::new(&[4], &[kind, group, rows, columns].map(|size| size as i64))?.bytes());
        weights.insert(&format!("{path}{ENCODING}"), tensor(DType::I64, vec![4], header));
        weights.insert(path, tensor(DType::U8, vec![rows, needed / rows], data));
    }
    Ok((weights, bytes))
}

/// Random codes with small scales, so that numbers stay what numbers of a network are.
fn noise(stored: Stored, elements: usize) -> Vec<u8> {
    let mut random = Random::new(5);
    let mut fill =
        |len: usize| -> Vec<u8> { (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(len).collect() };
    let small = half::f16::from_f32(1.0 / 1024.0).to_le_bytes();
    let block = match stored {
        Stored::F16 => {
            // Exponents from 2^-11 to 2^-8.
            let mut bytes = fill(2 * elements);
            bytes.chunks_exact_mut(2).for_each(|two| two[1] = (two[1] & 0x8f) | 0x10);
            return bytes;
        }
        Stored::Integers(bits) => return fill((elements * bits as usize).div_ceil(8)),
        Stored::Blocks(block) => block,
    };
    // Where a block holds numbers of two bytes.
    let (size, places): (usize, &[usize]) = match block {
        Block::Q4_1 | Block::Q5_1 | Block::Q4_K | Block::Q5_K => (block.bytes(), &[0, 2]),
        Block::Q2_K => (block.bytes(), &[80, 82]),
        Block::Q3_K => (block.bytes(), &[108]),
        Block::Q6_K => (block.bytes(), &[208]),
        Block::Q4_0 | Block::Q5_0 | Block::Q8_0 | Block::IQ4_NL | Block::IQ4_XS => (block.bytes(), &[0]),
        Block::MXFP4 => (block.bytes(), &[]),
    };
    let mut bytes = fill(elements.div_ceil(block.elements()) * size);
    for one in bytes.chunks_exact_mut(size) {
        places.iter().for_each(|&at| one[at..at + 2].copy_from_slice(&small));
        if block == Block::MXFP4 {
            one[0] = 127 - 8;
        }
    }
    bytes
}

/// How fast a model is.
pub(super) struct Report {
    work: String,
    /// Of random weights.
    quant: Option<Quant>,
    precision: Precision,
    threads: usize,
    depth: usize,
    streams: usize,
    /// A token of each of several answers.
    together: Option<Times>,
    /// Operations of the prompt's products.
    flops: f64,
    /// Bytes that a token of the answer must read.
    bytes: f64,
    /// Tokens of the prompt.
    tokens: usize,
    timed: Timed,
    /// The most bytes that the process takes, as known before it ran.
    planned: u64,
    peak_rss: Option<u64>,
}

impl Told for Report {
    fn to_json(&self, machine: &Machine) -> Value {
        let ops = self.flops / self.timed.prompt.median;
        let read = self.bytes / self.timed.answer.median;
        json!({
            "work": self.work,
            "quant": self.quant.map(|quant| quant.to_string()),
            "precision": self.precision.to_string(),
            "threads": self.threads,
            "prefill": {
                "tokens": self.tokens,
                "median_s": self.timed.prompt.median,
                "fastest_s": self.timed.prompt.fastest,
                "tokens_per_s": self.tokens as f64 / self.timed.prompt.median,
                "gop": self.flops / 1e9,
                "gops": ops / 1e9,
                "fraction_of_int8_peak": ops / machine.peak(Precision::Int8),
            },
            "before": (self.depth > 0).then(|| json!({
                "tokens": self.depth,
                "seconds": self.timed.before,
                "tokens_per_s": self.depth as f64 / self.timed.before,
            })),
            "decode": {
                "depth": self.depth,
                "median_s": self.timed.answer.median,
                "fastest_s": self.timed.answer.fastest,
                "tokens_per_s": 1.0 / self.timed.answer.median,
                "bytes": self.bytes,
                "gb_s": read / 1e9,
                "fraction_of_bandwidth": read / machine.bandwidth,
            },
            "draft": {
                "tokens": DRAFT,
                "median_s": self.timed.draft.median,
                "fastest_s": self.timed.draft.fastest,
                "of_one": self.timed.draft.median / self.timed.answer.median,
            },
            "streams": self.together.as_ref().map(|together| json!({
                "count": self.streams,
                "median_s": together.median,
                "fastest_s": together.fastest,
                "tokens_per_s": self.streams as f64 / together.median,
                "of_one": self.streams as f64 * self.timed.answer.median / together.median,
            })),
            "planned_peak_bytes": self.planned,
            "peak_rss_bytes": self.peak_rss,
            "machine": machine.to_json(),
        })
    }

    fn print(&self, machine: &Machine) {
        let (ops, read) = (self.flops / self.timed.prompt.median, self.bytes / self.timed.answer.median);
        let most = self.peak_rss.map(|bytes| format!("  {} at most", megabytes(bytes))).unwrap_or_default();
        let planned = megabytes(self.planned);
        let quant = self.quant.map(|quant| format!(" {quant}")).unwrap_or_default();
        output::line(format_args!("{:15}{quant} {}{most}, {planned} planned", self.work, self.precision));
        output::line(format_args!(
            "  prefill of {:3} tokens    {:8.1} a second, {:6.0} GOP/s, {:4.1} % of the int8 peak",
            self.tokens,
            self.tokens as f64 / self.timed.prompt.median,
            ops / 1e9,
            100.0 * ops / machine.peak(Precision::Int8)
        ));
        if self.depth > 0 {
            output::line(format_args!(
                "  reading {:6} tokens       {:8.1} a second, {:.2} times that of {}",
                self.depth,
                self.depth as f64 / self.timed.before,
                self.depth as f64 / self.timed.before * self.timed.prompt.median / self.tokens as f64,
                self.tokens
            ));
        }
        output::line(format_args!(
            "  decode behind {:6} tokens {:8.1} a second, {:6.1} GB/s of {} each, {:4.1} % of memory's",
            self.depth,
            1.0 / self.timed.answer.median,
            read / 1e9,
            megabytes(self.bytes as u64),
            100.0 * read / machine.bandwidth
        ));
        output::line(format_args!(
            "  {DRAFT:2} tokens of a draft checked in {:.2} times what one takes",
            self.timed.draft.median / self.timed.answer.median
        ));
        if let Some(together) = &self.together {
            output::line(format_args!(
                "  {:2} answers side by side      {:8.1} a second, {:.2} times one",
                self.streams,
                self.streams as f64 / together.median,
                self.streams as f64 * self.timed.answer.median / together.median
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_of_every_format_are_numbers() {
        let mut graph = Graph::new();
        graph.weight("model.layers.0.mlp.down_proj.weight", &[8, 512]).unwrap();
        graph.weight("model.layers.0.self_attn.q_proj.weight", &[4, 96]).unwrap();
        let all = Block::ALL.map(Quant::Blocks).into_iter().chain([Quant::F16, Quant::Q4KM, Quant::Int2]);
        for quant in all {
            let (weights, bytes) = random(&graph, quant, 1).unwrap();
            assert!(bytes > 0);
            for path in ["model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"] {
                let numbers = match weights.encoded(path).unwrap() {
                    Some(encoded) => encoded.decode(),
                    None => weights.to_f32(path).unwrap().into_owned(),
                };
                assert!(numbers.iter().all(|x| x.is_finite() && x.abs() < 100.0), "{quant} {path}");
                assert!(numbers.iter().any(|x| *x != numbers[0]), "{quant} {path}");
            }
        }
    }
}
