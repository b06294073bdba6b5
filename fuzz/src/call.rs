//! Everything that can be done with an asset: prepared, planned for several sizes, packed and run.

use std::{
    collections::BTreeSet,
    num::NonZero,
    sync::{Arc, LazyLock},
};

use ondine_graph::{
    Asset, Bindings, DType, Graph, NDArray, Op, Result, Signature, Value, element_count,
    sample::{self, Arguments},
};
use ondine_runtime::{Device, Model, Options, Plan, Specialize, Specialized, State};

/// One thread: the fuzzer runs many processes.
pub static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::cpu(NonZero::new(1)).expect("there is a processor"));

/// Functions that ask for more memory than this are planned but not run.
const MAX_BYTES: usize = 1 << 24;
/// No machine has so many bytes: what asks for them is refused before anything is done.
const ABSURD_BYTES: usize = 1 << 50;
/// Functions that ask for more arithmetic than this are planned but not run.
const MAX_FLOPS: u64 = 1 << 26;
/// What all symbols are bound to in turn, as far as their limits let them.
const SIZES: [usize; 5] = [0, 1, 2, 3, 7];

/// Prepares an asset, plans its functions for several sizes, and runs those that are small.
pub fn asset(asset: &Asset) {
    let Ok(prepared) = asset.prepare(&Options::default(), &DEVICE) else { return };
    let mut calls = Vec::new();
    for (name, graph) in asset.functions() {
        for bindings in bindings(graph) {
            if argument_bytes(graph, &bindings).is_none_or(|bytes| bytes >= ABSURD_BYTES) {
                assert!(sample::arguments(graph, &bindings, 0).is_err(), "{name}: {bindings:?}");
            }
            let Ok(plan) = prepared.plan(name, &bindings) else { continue };
            let flops = prepared.flops(name, &bindings).unwrap_or(u64::MAX);
            if flops <= MAX_FLOPS && is_small(graph, &bindings, &plan) {
                calls.push((name.clone(), bindings));
            }
        }
    }
    if prepared.weight_bytes() <= MAX_BYTES
        && let Ok(model) = prepared.specialize(None).and_then(Specialized::load)
    {
        run(&model, &calls);
    }
}

/// Plans the functions of a model for several sizes, and runs those that are small.
pub fn model(model: &Model, functions: &[Arc<str>]) {
    let mut calls = Vec::new();
    for name in functions {
        let Ok(function) = model.function(name) else { continue };
        for bindings in bindings(function.graph()) {
            if function.plan(&bindings).is_ok_and(|plan| is_small(function.graph(), &bindings, &plan)) {
                calls.push((name.clone(), bindings));
            }
        }
    }
    run(model, &calls);
}

/// Sizes of the symbols of a graph's inputs and states: the same for all, each another, and the ends of their limits.
#[must_use]
pub fn bindings(graph: &Graph) -> Vec<Bindings> {
    let mut symbols = BTreeSet::new();
    let inputs = graph.inputs().iter().map(|(_, value)| graph.shape(*value));
    let shapes = inputs.chain(graph.states().iter().map(|slot| &slot.signature.shape));
    shapes.flat_map(|shape| &shape.0).for_each(|dim| dim.symbols(&mut symbols));
    let limits = |symbol: &Arc<str>| graph.limits().get(symbol).copied().unwrap_or([0, usize::MAX]);
    let bind = |size: &dyn Fn(usize, [usize; 2]) -> usize| -> Bindings {
        let symbols = symbols.iter().cloned().enumerate();
        symbols.map(|(i, symbol)| (symbol.clone(), size(i, limits(&symbol)))).collect()
    };
    let within = |size: usize, [least, most]: [usize; 2]| size.min(most).max(least);
    let mut all: Vec<Bindings> = SIZES.iter().map(|&size| bind(&|_, limits| within(size, limits))).collect();
    all.push(bind(&|i, limits| within(SIZES[(i + 2) % SIZES.len()], limits)));
    all.push(bind(&|_, [least, _]| least));
    all.push(bind(&|_, [_, most]| most));
    all.sort();
    all.dedup();
    all
}

/// True if a call fits in little memory and has an end.
fn is_small(graph: &Graph, bindings: &Bindings, plan: &Plan) -> bool {
    // Loops may never end, and rightly so.
    let ends = !graph.nodes().iter().any(|node| matches!(node.op, Op::Loop(_)));
    let states = bytes(graph.states().iter().map(|slot| &slot.signature), bindings);
    let fits = |bytes: Option<usize>| bytes.is_some_and(|bytes| bytes <= MAX_BYTES);
    ends && fits(Some(plan.arena_bytes())) && fits(argument_bytes(graph, bindings)) && fits(states)
}

/// The bytes of what the caller gives; none if they have no number.
fn argument_bytes(graph: &Graph, bindings: &Bindings) -> Option<usize> {
    bytes(graph.inputs().iter().map(|(_, value)| &graph.node(*value).signature), bindings)
}

fn bytes<'a>(signatures: impl Iterator<Item = &'a Signature>, bindings: &Bindings) -> Option<usize> {
    let bytes = signatures.map(|signature| {
        let elements = element_count(&signature.shape.bind(bindings).ok()?)?;
        elements.checked_mul(signature.dtype.size())
    });
    bytes.into_iter().try_fold(0_usize, |sum, bytes| sum.checked_add(bytes?))
}

fn run(model: &Model, calls: &[(Arc<str>, Bindings)]) {
    for (name, bindings) in calls {
        let Ok(function) = model.function(name) else { continue };
        let graph = function.graph();
        let fitting = sample::arguments(graph, bindings, 1);
        for arguments in [filled(graph, bindings, &[0.0]), filled(graph, bindings, &ODD), fitting] {
            let Ok(arguments) = arguments else { continue };
            let inputs: Vec<(&str, &NDArray)> = arguments.iter().map(|(name, array)| (&**name, array)).collect();
            let mut state = State::default();
            // The second call reads the states that the first one wrote.
            for _ in 0..2 {
                let _ = function.run(&inputs, &mut state);
            }
        }
    }
}

/// Numbers that are rarely what a kernel hopes for, also as indices.
const ODD: [f32; 11] = [1.0, -1.0, 0.5, f32::NAN, 3.0, f32::INFINITY, -2.0, 1e38, 1e-45, f32::NEG_INFINITY, 7.0];

/// Arguments of these values over and over.
fn filled(graph: &Graph, bindings: &Bindings, values: &[f32]) -> Result<Arguments> {
    let argument = |(name, value): &(Arc<str>, Value)| {
        let signature = &graph.node(*value).signature;
        Ok((name.to_string(), array(signature.dtype, &signature.shape.bind(bindings)?, values)?))
    };
    graph.inputs().iter().map(argument).collect()
}

fn array(dtype: DType, shape: &[usize], values: &[f32]) -> Result<NDArray> {
    let count = element_count(shape).unwrap_or_default();
    let numbers = values.iter().copied().cycle().take(count);
    match dtype {
        DType::F32 => NDArray::new(shape, &numbers.collect::<Vec<f32>>()),
        DType::I64 => NDArray::new(shape, &numbers.map(|x| x as i64).collect::<Vec<i64>>()),
        DType::I32 => NDArray::new(shape, &numbers.map(|x| x as i32).collect::<Vec<i32>>()),
        DType::Bool => NDArray::from_bytes(dtype, shape, &numbers.map(|x| u8::from(x > 0.0)).collect::<Vec<u8>>()),
        // Any bits are numbers of the other types.
        _ => {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_bits().to_be_bytes()).collect();
            let bytes: Vec<u8> = bytes.iter().copied().cycle().take(count.saturating_mul(dtype.size())).collect();
            NDArray::from_bytes(dtype, shape, &bytes)
        }
    }
}
