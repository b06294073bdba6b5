//! Any bytes as an archive of `torch.export.save`: an error or a function that runs, in time and memory of the file.
#![no_main]

use std::{collections::BTreeSet, num::NonZero, sync::LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ondine_runtime::{Asset, Bindings, Bytes, Device, NDArray, Op, Options, State, element_count, pt2};

static DEVICE: LazyLock<Device> = LazyLock::new(|| Device::cpu(NonZero::new(1)).expect("there is a processor"));

/// Functions that ask for more memory than this are planned but not run.
const MAX_ARENA: usize = 1 << 26;

fuzz_target!(|data: &[u8]| {
    if let Ok(asset) = pt2::read("fuzzed", &Bytes::from(data)) {
        call(&asset);
    }
});

/// Everything up to a call with zeros.
fn call(asset: &Asset) {
    let Ok(prepared) = asset.prepare(&Options::default(), &DEVICE) else { return };
    let mut small = prepared.weight_bytes() <= MAX_ARENA;
    let mut calls = Vec::new();
    for (name, graph) in asset.functions() {
        let mut symbols = BTreeSet::new();
        let dims = graph.inputs().iter().flat_map(|(_, value)| &graph.shape(*value).0);
        dims.for_each(|dim| dim.symbols(&mut symbols));
        let bindings: Bindings = symbols.into_iter().map(|symbol| (symbol, 4)).collect();
        let Ok(plan) = prepared.plan(name, &bindings) else { continue };
        let states = graph.states().iter().map(|slot| slot.signature.shape.bind(&bindings).ok());
        let states = states.map(|shape| shape.and_then(|shape| element_count(&shape)).unwrap_or(usize::MAX));
        small &= plan.arena_bytes() <= MAX_ARENA && states.max().unwrap_or(0) <= MAX_ARENA;
        // Loops may never end, and rightly so.
        if graph.nodes().iter().any(|node| matches!(node.op, Op::Loop(_))) {
            continue;
        }
        let mut inputs = Vec::new();
        for (input, value) in graph.inputs() {
            let signature = &graph.node(*value).signature;
            let Ok(shape) = signature.shape.bind(&bindings) else { continue };
            if element_count(&shape).is_some_and(|count| count <= MAX_ARENA / 8) {
                inputs.extend(NDArray::zeros(signature.dtype, &shape).ok().map(|array| (input.clone(), array)));
            }
        }
        calls.push((name.clone(), inputs));
    }
    let Ok(specialized) = (if small { prepared.specialize(None) } else { return }) else { return };
    let model = specialized.load();
    for (name, inputs) in calls {
        let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (&**name, array)).collect();
        if let Ok(function) = model.function(&name) {
            let _ = function.run(&inputs, &mut State::default());
        }
    }
}

/// Values that break careless arithmetic, and some of other types.
const ABSURD: &str = "0 1 -1 2 3 7 8 31 64 255 4096 65537 -9 99999 2147483648 -2147483648 4294967296 9223372036854775807 \
    -9223372036854775808 0.5 -0.0 1e38 1e999 null true false \"\" [] {}";

// Most mutations replace one value of the program by an absurd one of no more letters, so that the archive stays whole.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (absurd, seed) = (seed % 4 != 0, seed as usize / 4);
    if absurd && replace_value(&mut data[..size], seed) {
        return size;
    }
    fuzzer_mutate(data, size, max_size)
});

/// Replaces a number, word or name within the JSON of the file; false if there is none.
fn replace_value(data: &mut [u8], seed: usize) -> bool {
    let begins = b"{\"graph_module\"";
    let Some(start) = data.windows(begins.len()).position(|window| window == begins) else { return false };
    let end = data[start..].iter().position(|&byte| byte == 0).map_or(data.len(), |end| start + end);
    let text = &mut data[start..end];
    let in_value = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    let starts: Vec<usize> = (1..text.len()).filter(|&i| in_value(text[i]) && b" :[,\"".contains(&text[i - 1])).collect();
    let Some(&at) = starts.get(seed % starts.len().max(1)) else { return false };
    let len = text[at..].iter().take_while(|&&byte| in_value(byte)).count();
    let seed = seed / starts.len();
    // A name becomes another name, a number anything.
    if text[at - 1] == b'"' {
        let from = starts[seed % starts.len()];
        let other: Vec<u8> = text[from..].iter().copied().take_while(|&byte| in_value(byte)).take(len).collect();
        if other.len() < len {
            return false;
        }
        text[at..at + len].copy_from_slice(&other);
        return true;
    }
    let values: Vec<&str> = ABSURD.split(' ').filter(|value| !value.is_empty() && value.len() <= len.max(1)).collect();
    let value = values[seed % values.len()].as_bytes();
    text[at..at + len].fill(b' ');
    text[at..at + value.len()].copy_from_slice(value);
    true
}
