//! What an operator cannot take is an error of the builder that names it, and what a call cannot do is an error of the
//! call: never a panic.

use ondine_runtime::{
    Asset, Attention, Conv2d, DType, Device, Dim, Function, Graph, Mask, NDArray, Op, Options, Pooling, Precision,
    Prologue, Reduce, Result, State, Tensor, Value, Weights, Window, compress,
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
    asset(graph).unwrap().specialize(&Options { precision }, &device(), None).unwrap().load().function("main").unwrap()
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
        assert_eq!(state.get("flat").unwrap().to_f32(), [1.0, 2.0, 3.0, 4.0], "{precision}");
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

/// Why a builder refuses an operator.
fn refusal(build: impl FnOnce(&mut Graph) -> Result<Value>) -> String {
    build(&mut Graph::new()).unwrap_err().to_string()
}

#[test]
fn groups_of_channels_need_an_element_to_count_for() {
    for op in [
        Op::GroupNorm { groups: 2, eps: 1e-5, activation: Default::default() },
        Op::Quantize(Prologue::GroupNorm { groups: 2, eps: 1e-5, activation: Default::default() }, None),
    ] {
        let error = refusal(|graph| {
            let (x, weight) = (graph.input("x", DType::F32, [4]), graph.weight("w", &[4])?);
            graph.push(op, &[x, weight, weight])
        });
        assert!(error.contains("2 dimensions"), "{error}");
    }
}

#[test]
fn a_row_is_taken_of_each_batch() {
    let take = |shape: &[usize], dtype: DType| {
        refusal(|graph| {
            let (x, position) = (graph.input("x", DType::F32, [2, 5, 3]), graph.input("at", dtype, shape));
            graph.push(Op::TakeRow, &[x, position])
        })
    };
    for (shape, dtype) in [(&[3][..], DType::I64), (&[], DType::I64), (&[2, 1], DType::I64), (&[2], DType::F32)] {
        let error = take(shape, dtype);
        assert!(error.contains("take_row") && error.contains(&dtype.to_string()), "{error}");
    }
}

#[test]
fn one_part_is_joined_along_a_dimension_that_it_has() {
    let error = refusal(|graph| {
        let x = graph.input("x", DType::F32, [2, 3]);
        graph.concat(&[x], 2)
    });
    assert!(error.contains("dimension 2 does not exist in rank 2"), "{error}");
}

/// Element type and shape of an input.
type Input<'a> = (DType, &'a [usize]);

/// A graph of such inputs, and one operator.
fn pushed(op: Op, inputs: &[Input<'_>]) -> Result<Graph> {
    let mut graph = Graph::new();
    let inputs: Vec<_> =
        (0..).zip(inputs).map(|(i, (dtype, shape))| graph.input(&format!("{i}"), *dtype, *shape)).collect();
    let y = graph.push(op, &inputs)?;
    graph.output("y", y);
    Ok(graph)
}

#[test]
fn builders_take_the_element_types_that_operators_read() {
    use DType::{BF16, Bool, F32, I64};
    let (row, rows, square): (&[usize], &[usize], &[usize]) = (&[4], &[2, 4], &[2, 2]);
    let (tokens, maps, kernel): (&[usize], &[usize], &[usize]) = (&[1, 3, 4], &[1, 5, 5, 4], &[4, 4, 3, 3]);
    let attention =
        |mask| Op::Attention(Attention { heads: 2, kv_heads: 2, scale: 1.0, causal: false, mask, eight_bit: false });
    let eps = 1e-5;
    let group_norm = Op::GroupNorm { groups: 2, eps, activation: Default::default() };
    let quantize = |range| Op::Quantize(Prologue::None, range);
    let conv = |conv: Conv2d| Op::Conv2d(conv, Default::default());
    let cell = Op::Recurrent { cell: ondine_runtime::Cell::Tanh, reverse: false };
    let bias = ondine_runtime::Epilogue { bias: true, ..Default::default() };
    let residual = ondine_runtime::Epilogue { residual: true, ..Default::default() };
    let refused: [(Op, &[Input<'_>]); 25] = [
        (Op::LayerNorm { eps }, &[(F32, rows), (BF16, row), (F32, row)]),
        (Op::LayerNorm { eps }, &[(I64, rows), (F32, row), (F32, row)]),
        (Op::RmsNorm { eps }, &[(F32, rows), (BF16, row)]),
        (group_norm, &[(F32, rows), (F32, row), (BF16, row)]),
        (Op::Quantize(Prologue::RmsNorm { eps }, None), &[(F32, rows), (BF16, row)]),
        (quantize(Some([f32::NEG_INFINITY, 0.0])), &[(F32, rows)]),
        (quantize(Some([1.0, 0.0])), &[(F32, rows)]),
        (Op::Linear(bias), &[(F32, rows), (F32, &[3, 4]), (BF16, &[3])]),
        (Op::Linear(residual), &[(F32, rows), (F32, &[3, 4]), (I64, &[2, 3])]),
        (Op::Linear(Default::default()), &[(F32, rows), (BF16, &[3, 4])]),
        (Op::Linear(Default::default()), &[(I64, rows), (F32, &[3, 4])]),
        (conv(Conv2d::default()), &[(F32, maps), (I64, kernel)]),
        (conv(Conv2d { upsample: true, stride: [2; 2], ..Default::default() }), &[(F32, maps), (F32, kernel)]),
        (conv(Conv2d { upsample: true, groups: 2, ..Default::default() }), &[(F32, maps), (F32, &[4, 2, 3, 3])]),
        (conv(Conv2d { winograd: true, stride: [2; 2], ..Default::default() }), &[(F32, maps), (F32, kernel)]),
        (conv(Conv2d { padding: [usize::MAX, 1, 0, 0], ..Default::default() }), &[(F32, maps), (F32, kernel)]),
        (Op::Select, &[(I64, row), (F32, row), (F32, row)]),
        (Op::MatMul { transposed: false }, &[(F32, square), (BF16, square)]),
        (Op::GroupedMatMul { transposed: false }, &[(F32, rows), (BF16, &[1, 4, 4]), (I64, &[1])]),
        (cell, &[(F32, &[2, 1, 4]), (BF16, &[4, 4]), (F32, row), (F32, &[1, 4])]),
        (attention(Mask::Keys), &[(F32, tokens), (F32, tokens), (F32, tokens), (I64, &[1, 3])]),
        (attention(Mask::Additive), &[(F32, tokens), (F32, tokens), (F32, tokens), (Bool, &[1, 1, 3, 3])]),
        (attention(Mask::None), &[(F32, tokens), (F32, tokens), (BF16, tokens)]),
        (Op::Solve, &[(F32, square), (I64, square)]),
        (Op::Pad { amounts: vec![[usize::MAX, usize::MAX]] }, &[(F32, row)]),
    ];
    for (op, inputs) in refused {
        let graph = pushed(op.clone(), inputs);
        assert!(graph.is_err(), "{op:?} of {inputs:?}");
    }
}

#[test]
fn attributes_beyond_all_numbers_are_errors() {
    let window = |kernel, stride, dilation, padding| {
        Op::Pool(Pooling {
            fold: ondine_runtime::Fold::Max,
            windows: vec![Window::Sliding { kernel, stride, padding, dilation, ceil: true, counted: true }],
            divisor: None,
        })
    };
    let huge = usize::MAX;
    let dilated = Op::Conv2d(Conv2d { dilation: [huge, 1], ..Default::default() }, Default::default());
    let maps: &[usize] = &[1, 5, 5, 4];
    assert!(pushed(dilated, &[(DType::F32, maps), (DType::F32, &[4, 4, 3, 3])]).is_err());
    for op in [window(huge, 1, huge, 0), window(2, 1, 1, huge), window(1, huge, 1, 1), window(2, 1, huge, 1)] {
        assert!(pushed(op.clone(), &[(DType::F32, &[1, 5, 4])]).is_err(), "{op:?}");
    }
    for width in [huge, huge / 2, i64::MAX as usize] {
        let wide: &[usize] = &[2, width];
        assert!(pushed(Op::Quantize(Prologue::None, None), &[(DType::F32, wide)]).is_err(), "{width}");
    }
}

#[test]
fn dimensions_are_folded_in_order() {
    for axes in [&[2, 1][..], &[1, 1], &[3]] {
        let error = refusal(|graph| {
            let x = graph.input("x", DType::F32, [2, 3, 4]);
            graph.reduce(Reduce::Sum, x, axes, false)
        });
        assert!(error.contains(&format!("{axes:?}")) || error.contains("dimension 3"), "{error}");
    }
}

/// Calls a graph of one input `x`, of zeros.
fn called(graph: Graph, dtype: DType, shape: &[usize]) -> Result<NDArray> {
    let function = asset(graph)?.specialize(&Options::default(), &device(), None)?.load().function("main")?;
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
        let cell = Op::Recurrent { cell: ondine_runtime::Cell::Lstm, reverse: false };
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

#[test]
fn two_tensors_do_not_become_one() {
    let mut weights = Weights::default();
    for name in ["first", "second"] {
        let bytes = [0_u8; 4][..].into();
        weights.insert(name, Tensor { dtype: DType::F32, shape: vec![1], bytes, file: "memory".into() });
    }
    let error = weights.rename(|_| Some("both".to_owned())).unwrap_err().to_string();
    assert!(error.contains("`first` and `second` would both be called `both`"), "{error}");
    weights.rename(|name| (name == "first").then(|| "third".to_owned())).unwrap();
    assert!(weights.paths().map(|path| &**path).eq(["second", "third"]));
}
