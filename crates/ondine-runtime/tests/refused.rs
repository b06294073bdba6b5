//! What a call or a specialization cannot do is an error of theirs, never a panic.

use ondine_runtime::{
    Asset, Cell, Conv2d, DType, Device, Dim, Function, Graph, NDArray, Op, Options, Precision, Result, Specialize,
    State, Tensor, Weights, compress,
};

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::BF16, Precision::Int8];

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

/// The graph as an asset, the elements of each weight counted from one.
fn asset(graph: Graph) -> Result<Asset> {
    let mut weights = Weights::default();
    for weight in graph.weights() {
        let count: usize = weight.shape.iter().product();
        let bytes: Vec<u8> = (1..=count).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let (shape, bytes) = (weight.shape.clone(), bytes.as_slice().into());
        weights.insert(&weight.path, Tensor { dtype: DType::F32, shape, bytes, file: "counted".into() });
    }
    Asset::new("refused", [("main", graph)], weights)
}

fn function(graph: Graph, precision: Precision) -> Function {
    let options = Options { precision, ..Options::default() };
    asset(graph).unwrap().specialize(&options, &device(), None).unwrap().load().unwrap().function("main").unwrap()
}

#[test]
fn a_state_becomes_a_weight() {
    for precision in PRECISIONS {
        let mut graph = Graph::new();
        let (weight, flat) = (graph.weight("whole", &[2, 2]).unwrap(), graph.weight("flat", &[4]).unwrap());
        let before = graph.state("whole", DType::F32, [2, 2]);
        graph.state("flat", DType::F32, [2, 2]);
        let reshaped = graph.reshape(flat, [2, 2]).unwrap();
        graph.update_state("whole", weight).unwrap();
        graph.update_state("flat", reshaped).unwrap();
        graph.output("before", before);
        let function = function(graph, precision);
        let mut state = State::default();
        let before = |state: &mut State| function.run(&[], state).unwrap().take("before").unwrap().to_f32();
        assert_eq!(before(&mut state), [0.0; 4]);
        assert_eq!(before(&mut state), [1.0, 2.0, 3.0, 4.0], "{precision}");
        assert_eq!(state.read("flat").unwrap().to_f32(), [1.0, 2.0, 3.0, 4.0], "{precision}");
        let written = NDArray::new(&[2, 2], &[5.0_f32, 6.0, 7.0, 8.0]).unwrap();
        state.write("whole", &written).unwrap();
        let error = state.write("whole", &NDArray::new(&[4], &[5.0_f32; 4]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("`whole`") && error.contains("[4]"), "{error}");
        assert!(state.write("none", &written).unwrap_err().to_string().contains("`none`"));
        assert_eq!(before(&mut state), [5.0, 6.0, 7.0, 8.0], "{precision}");
    }
}

/// A convolution of 3x3 pixels and 32 channels over a map of a height that calls bind.
fn convolved(expected: Option<usize>) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [1.into(), Dim::symbol("height"), 40.into(), 32.into()]);
    let weight = graph.weight("w", &[32, 32, 3, 3]).unwrap();
    let y = graph.conv2d(x, weight, None, Conv2d::default()).unwrap();
    graph.output("y", y);
    expected.into_iter().for_each(|size| graph.expect("height", size));
    graph
}

#[test]
fn a_map_lower_than_a_kernel_is_empty_or_an_error() {
    for (precision, expected) in
        PRECISIONS.into_iter().flat_map(|p| [None, Some(0), Some(64), Some(usize::MAX)].map(|e| (p, e)))
    {
        let function = function(convolved(expected), precision);
        let call = |height: usize| {
            let x = NDArray::zeros(DType::F32, &[1, height, 40, 32]).unwrap();
            function.run(&[("x", &x)], &mut State::default())?.take("y")
        };
        assert_eq!(call(3).unwrap().shape(), [1, 1, 38, 32], "{precision}, {expected:?}");
        assert_eq!(call(2).unwrap().shape(), [1, 0, 38, 32], "{precision}, {expected:?}");
        let error = call(1).unwrap_err().to_string();
        assert!(error.contains("comes out as -1"), "{error}");
    }
}

/// Calls a graph of one input `x`, of zeros.
fn called(graph: Graph, dtype: DType, shape: &[usize]) -> Result<NDArray> {
    let function = asset(graph)?.specialize(&Options::default(), &device(), None)?.load()?.function("main")?;
    function.run(&[("x", &NDArray::zeros(dtype, shape)?)], &mut State::default())?.take("y")
}

#[test]
fn products_of_a_portable_graph_are_of_numbers_that_weights_are_packed_for() {
    for (dtype, inner) in [(DType::BF16, 4), (DType::F32, 0)] {
        let mut graph = Graph::new();
        let x = graph.input("x", dtype, [2, inner]);
        let weight = graph.weight("w", &[3, inner]).unwrap();
        let y = graph.linear(x, weight, None);
        y.iter().for_each(|&y| graph.output("y", y));
        match y.and_then(|_| called(graph, dtype, &[2, inner])) {
            Ok(y) => assert_eq!(y.to_f32(), [0.0; 6], "{dtype} {inner}"),
            Err(error) => assert!(error.to_string().contains("linear"), "{error}"),
        }
    }
}

#[test]
fn sizes_beyond_all_memory_are_errors() {
    for least in [1 << 62, 1 << 45] {
        let mut graph = Graph::new();
        for (name, dtype) in [("x", DType::F32), ("ids", DType::I64), ("mask", DType::Bool)] {
            let x = graph.input(name, dtype, ["rows", "rows"]);
            graph.output(name, x);
        }
        graph.limit("rows", least, usize::MAX);
        let options = compress::Options { measure: true, ..Default::default() };
        let error = compress::compress(&asset(graph).unwrap(), &options, &device(), &|_| ());
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("main: ") && error.contains("too large"), "{error}");
    }
}

#[test]
fn an_empty_sequence_leaves_a_recurrent_layer_quiet() {
    for (steps, batch, hidden) in [(0, 2, 3), (2, 0, 3), (2, 2, 0)] {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [steps, batch, 4 * hidden]);
        let (weight, bias) =
            (graph.weight("w", &[4 * hidden, hidden]).unwrap(), graph.weight("b", &[4 * hidden]).unwrap());
        let start = graph.constant(NDArray::zeros(DType::F32, &[batch, 2 * hidden]).unwrap());
        let cell = Op::Recurrent { cell: Cell::Lstm, reverse: false };
        let y = graph.push(cell, &[x, weight, bias, start]).unwrap();
        graph.output("y", y);
        assert_eq!(called(graph, DType::F32, &[steps, batch, 4 * hidden]).unwrap().shape(), [steps, batch, 2 * hidden]);
    }
}

#[test]
fn patterns_of_many_stars_are_matched_at_once() {
    let rule = compress::Rule { pattern: format!("{}b", "*a".repeat(40)), format: None };
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut graph = Graph::new();
        let weight = graph.weight(&format!("{}.weight", "a".repeat(80)), &[64, 64]).unwrap();
        let x = graph.input("x", DType::F32, [1, 64]);
        let y = graph.linear(x, weight, None).unwrap();
        graph.output("y", y);
        let options = compress::Options { rules: vec![rule], ..Default::default() };
        sender.send(compress::compress(&asset(graph).unwrap(), &options, &device(), &|_| ()).is_ok())
    });
    assert_eq!(done.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
}
