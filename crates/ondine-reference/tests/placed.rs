//! Graphs of which some nodes run on the processor and some on the strict device.

use std::{num::NonZeroUsize, sync::Arc};

use ondine_graph::{
    Activation, Asset, Binary, DType, Dim, Graph, Loop, NDArray, Op, Reduce, Result, Scatter, Tensor, Value, Weights,
};
use ondine_reference::Reference;
use ondine_runtime::{Assign, Device, Options, Placed, Processor, Specialize, State};

fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let hash = |i: u32| (i.wrapping_add(seed) ^ 0x9e37).wrapping_mul(0x85eb_ca6b) >> 8;
    (0..count as u32).map(|i| hash(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::default();
    for (seed, weight) in (1..).zip(graph.weights()) {
        let values = numbers(seed, weight.shape.iter().product());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (shape, bytes) = (weight.shape.clone(), bytes.as_slice().into());
        weights.insert(&weight.path, Tensor { dtype: DType::F32, shape, bytes, file: "random".into() });
    }
    weights
}

/// Layers with a residual, a convolution, a norm, a cache of which one row changes, and a loop.
fn network() -> Result<Graph> {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [Dim::symbol("rows"), 8.into()]);
    let position = graph.input("position", DType::I64, [1]);
    let (w1, b1, w2) = (graph.weight("w1", &[16, 8])?, graph.weight("b1", &[16])?, graph.weight("w2", &[8, 16])?);
    let (scale, shift) = (graph.weight("scale", &[8])?, graph.weight("shift", &[8])?);
    let h = graph.linear(x, w1, Some(b1))?;
    let h = graph.activation(Activation::Silu, h)?;
    let y = graph.linear(h, w2, None)?;
    let y = graph.add(y, x)?;
    let y = graph.layer_norm(y, scale, shift, 1e-5)?;
    let map = graph.reshape(y, [1.into(), Dim::symbol("rows"), 2.into(), 4.into()])?;
    let kernel = graph.weight("kernel", &[3, 4, 1, 2])?;
    let map = graph.conv2d(map, kernel, None, Default::default())?;
    graph.output("map", map);
    let cache = graph.state("cache", DType::F32, [4, 8]);
    let mean = graph.reduce(Reduce::Mean, y, &[0], true)?;
    let cache = graph.push(Op::Scatter(Scatter::Add), &[cache, position, mean])?;
    graph.update_state("cache", cache)?;
    let seen = graph.softmax(cache)?;
    graph.output("seen", seen);
    let doubled = doubling(&mut graph, mean)?;
    graph.output("doubled", doubled);
    Ok(graph)
}

/// Doubles three times.
fn doubling(graph: &mut Graph, x: Value) -> Result<Value> {
    let arguments = |graph: &mut Graph| [graph.input("count", DType::I64, [1]), graph.input("x", DType::F32, [1, 8])];
    let (mut condition, mut body) = (Graph::new(), Graph::new());
    let [count, _] = arguments(&mut condition);
    let most = condition.constant(NDArray::new(&[1], &[3_i64])?);
    let less = condition.binary(Binary::Less, count, most)?;
    condition.output("goes on", less);
    let [count, x_in] = arguments(&mut body);
    let one = body.constant(NDArray::new(&[1], &[1_i64])?);
    let count = body.binary(Binary::Add, count, one)?;
    let twice = body.add(x_in, x_in)?;
    body.output("count", count);
    body.output("x", twice);
    let zero = graph.constant(NDArray::new(&[1], &[0_i64])?);
    let inner = Loop { condition, body, carried: 2 };
    let (offset, signature) = (inner.offsets()[1].clone(), graph.node(x).signature.clone());
    let packed = graph.push_loop(Arc::new(inner), &[zero, x])?;
    graph.push(Op::Unpack { offset, signature }, &[packed])
}

/// The results of three calls, all of them one after the other.
fn results(device: &Device) -> Result<Vec<f32>> {
    let graph = network()?;
    let asset = Asset::new("network", [("main", graph.clone())], weights(&graph))?;
    let function = asset.specialize(&Options::default(), device, None)?.load()?.function("main")?;
    let (mut state, mut results) = (State::default(), Vec::new());
    for (call, rows) in [5, 1, 7].into_iter().enumerate() {
        let x = NDArray::new(&[rows, 8], &numbers(call as u32, rows * 8))?;
        let position = NDArray::new(&[1], &[call as i64])?;
        let outputs = function.run(&[("x", &x), ("position", &position)], &mut state)?;
        results.extend(outputs.iter().flat_map(|(_, array)| array.to_f32()));
        results.extend(state.read("cache")?.to_f32());
    }
    Ok(results)
}

#[test]
fn halves_on_two_devices_agree_with_the_whole_on_one() {
    let processor = || Processor::new(NonZeroUsize::new(2)).unwrap();
    let whole = results(&Device::from(processor())).unwrap();
    let assignments: [(&str, Assign); 5] = [
        ("the processor", Arc::new(|_, _| 0)),
        ("the device", Arc::new(|_, _| 1)),
        ("turn about", Arc::new(|_, value| value.index() % 2)),
        ("by twos", Arc::new(|_, value| value.index() / 2 % 2)),
        (
            "products",
            Arc::new(|graph, value| usize::from(matches!(graph.node(value).op, Op::Linear(_) | Op::Conv2d(..)))),
        ),
    ];
    for (name, assign) in assignments {
        let units: Vec<Arc<dyn ondine_runtime::backend::Backend>> =
            vec![Arc::new(processor()), Arc::new(Reference::new(7, 1 << 16))];
        let placed = Placed::new(units, assign).unwrap();
        let apart = results(&Device::new(Arc::new(placed))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(whole.len(), apart.len());
        for (whole, apart) in whole.iter().zip(&apart) {
            // Sums of at most 16 products of numbers below 4, rounded in another order, through four layers.
            assert!((whole - apart).abs() <= 1e-5 * whole.abs().max(1.0), "{name}: {whole} and {apart}");
        }
    }
}

#[test]
fn a_unit_that_is_not_there_is_an_error_before_anything_runs() {
    let units: Vec<Arc<dyn ondine_runtime::backend::Backend>> = vec![Arc::new(Processor::new(None).unwrap())];
    let placed = Placed::new(units, Arc::new(|_, _| 3)).unwrap();
    let error = results(&Device::new(Arc::new(placed))).unwrap_err().to_string();
    assert!(error.contains("unit 3 of 1"), "{error}");
}
