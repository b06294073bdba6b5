//! What an operator cannot take is an error of the builder that names it, never a panic.

use ondine_graph::{
    Attention, Cell, Conv2d, DType, Epilogue, Fold, Graph, Mask, Op, Pooling, Reduce, Result, Tensor, Value, Weights,
    Window,
};

/// Why a builder refuses an operator.
fn refusal(build: impl FnOnce(&mut Graph) -> Result<Value>) -> String {
    build(&mut Graph::new()).unwrap_err().to_string()
}

#[test]
fn groups_of_channels_need_an_element_to_count_for() {
    let error = refusal(|graph| {
        let (x, weight) = (graph.input("x", DType::F32, [4]), graph.weight("w", &[4])?);
        graph.group_norm(x, weight, weight, 2, 1e-5)
    });
    assert!(error.contains("2 dimensions"), "{error}");
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
        |mask| Op::Attention(Attention { heads: 2, kv_heads: 2, scale: 1.0, causal: false, window: None, mask });
    let eps = 1e-5;
    let group_norm = Op::GroupNorm { groups: 2, eps, activation: Default::default() };
    let conv = |conv: Conv2d| Op::Conv2d(conv, Default::default());
    let cell = Op::Recurrent { cell: Cell::Tanh, reverse: false };
    let bias = Epilogue { bias: true, ..Default::default() };
    let residual = Epilogue { residual: true, ..Default::default() };
    let refused: [(Op, &[Input<'_>]); 27] = [
        (Op::LayerNorm { eps }, &[(F32, rows), (BF16, row), (F32, row)]),
        (Op::LayerNorm { eps }, &[(I64, rows), (F32, row), (F32, row)]),
        (Op::RmsNorm { eps }, &[(F32, rows), (BF16, row)]),
        (group_norm, &[(F32, rows), (F32, row), (BF16, row)]),
        (Op::Linear(bias), &[(F32, rows), (F32, &[3, 4]), (BF16, &[3])]),
        (Op::Linear(residual), &[(F32, rows), (F32, &[3, 4]), (I64, &[2, 3])]),
        (Op::Linear(Default::default()), &[(F32, rows), (BF16, &[3, 4])]),
        (Op::Linear(Default::default()), &[(I64, rows), (F32, &[3, 4])]),
        (conv(Conv2d::default()), &[(F32, maps), (I64, kernel)]),
        (conv(Conv2d { upsample: true, stride: [2; 2], ..Default::default() }), &[(F32, maps), (F32, kernel)]),
        (conv(Conv2d { upsample: true, groups: 2, ..Default::default() }), &[(F32, maps), (F32, &[4, 2, 3, 3])]),
        (conv(Conv2d { padding: [usize::MAX, 1, 0, 0], ..Default::default() }), &[(F32, maps), (F32, kernel)]),
        (Op::Select, &[(I64, row), (F32, row), (F32, row)]),
        (Op::MatMul { transposed: false }, &[(F32, square), (BF16, square)]),
        (Op::GroupedMatMul { transposed: false }, &[(F32, rows), (BF16, &[1, 4, 4]), (I64, &[1])]),
        (cell, &[(F32, &[2, 1, 4]), (BF16, &[4, 4]), (F32, row), (F32, &[1, 4])]),
        (attention(Mask::Keys), &[(F32, tokens), (F32, tokens), (F32, tokens), (I64, &[1, 3])]),
        (attention(Mask::Lengths), &[(F32, tokens), (F32, tokens), (F32, tokens), (I64, &[2])]),
        (attention(Mask::Lengths), &[(F32, tokens), (F32, tokens), (F32, tokens), (F32, &[1])]),
        (attention(Mask::Ring), &[(F32, tokens), (F32, tokens), (F32, tokens), (I64, &[2])]),
        (attention(Mask::Additive), &[(F32, tokens), (F32, tokens), (F32, tokens), (Bool, &[1, 1, 3, 3])]),
        (attention(Mask::None), &[(F32, tokens), (F32, tokens), (BF16, tokens)]),
        (Op::Solve, &[(F32, square), (I64, square)]),
        (Op::Pad { amounts: vec![[usize::MAX, usize::MAX]] }, &[(F32, row)]),
        (Op::Rotate { interleaved: true }, &[(F32, tokens), (F32, &[1, 1, 3]), (F32, &[1, 1, 3])]),
        (Op::Rotate { interleaved: true }, &[(F32, tokens), (F32, &[1, 1, 1]), (BF16, &[1, 1, 1])]),
        (Op::Rotate { interleaved: false }, &[(F32, row), (F32, row), (F32, row)]),
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
            fold: Fold::Max,
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
