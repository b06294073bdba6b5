//! What passes fuse computes the same as what they leave apart.

use half::bf16;
use ondine_runtime::{
    Activation, Asset, Conv2d, DType, Device, Epilogue, Graph, NDArray, Op, Options, Precision, Result, Specialize,
    State, Tensor, Value, Weights,
};

/// Numbers in -1..1 that look random, the same for the same seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_add(0x2545_f491_4f6c_dd1d);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Runs a graph, built around its input `x`, on random weights: its results in the order of their names, and the
/// names of the operators that were left.
fn run(
    precision: Precision,
    x: &NDArray,
    build: impl FnOnce(&mut Graph, Value) -> Result<Vec<Value>>,
) -> (Vec<Vec<f32>>, Vec<String>) {
    let mut graph = Graph::new();
    let shape: Vec<_> = x.shape().iter().map(|&size| size.into()).collect();
    let input = graph.input("x", DType::F32, shape);
    let results = build(&mut graph, input).unwrap();
    results.iter().enumerate().for_each(|(i, &value)| graph.output(&i.to_string(), value));
    let mut weights = Weights::default();
    for (seed, weight) in (1..).zip(graph.weights()) {
        let values = numbers(seed, weight.shape.iter().product());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (shape, bytes) = (weight.shape.clone(), bytes.as_slice().into());
        weights.insert(&weight.path, Tensor { dtype: DType::F32, shape, bytes, file: "random".into() });
    }
    let asset = Asset::new("fusion", [("main", graph)], weights).unwrap();
    let model = asset
        .specialize(&Options { precision, ..Options::default() }, &Device::cpu(None).unwrap(), None)
        .unwrap()
        .load()
        .unwrap();
    let function = model.function("main").unwrap();
    let places = |op: &Op| matches!(op, Op::Input | Op::Weight(_) | Op::Const(_) | Op::Reshape(_));
    let names =
        function.graph().nodes().iter().map(|node| &node.op).filter(|op| !places(op)).map(Op::to_string).collect();
    let mut outputs = function.run(&[("x", x)], &mut State::default()).unwrap();
    let result = |i: usize| outputs.take(&i.to_string()).unwrap().view::<f32>().unwrap().to_vec();
    ((0..results.len()).map(result).collect(), names)
}

fn array(shape: &[usize]) -> NDArray {
    NDArray::new(shape, &numbers(99, shape.iter().product())).unwrap()
}

#[test]
fn a_gate_in_the_epilogue_is_the_gate_after_it() {
    for activation in [Activation::Gelu, Activation::Silu, Activation::None] {
        let gated = |keep: bool| {
            run(Precision::F32, &array(&[3, 7, 40]), |graph, x| {
                let (weight, bias) = (graph.weight("w", &[70, 40])?, graph.weight("b", &[70])?);
                let wide = graph.linear(x, weight, Some(bias))?;
                let y = graph.glu(wide, activation)?;
                Ok(if keep { vec![y, wide] } else { vec![y] })
            })
        };
        let ((fused, fused_names), (apart, names)) = (gated(false), gated(true));
        assert_eq!(fused_names, ["linear"]);
        assert_eq!(names, ["linear", "glu"]);
        assert_eq!(fused[0], apart[0], "{activation:?}");
    }
}

#[test]
fn a_convolution_of_single_pixels_is_a_linear_layer() {
    let x = array(&[2, 3, 5, 48]);
    let residual = |graph: &mut Graph, y: Value| graph.add(y, y);
    let (convolved, names) = run(Precision::F32, &x, |graph, x| {
        let (weight, bias) = (graph.weight("w", &[33, 48, 1, 1])?, graph.weight("b", &[33])?);
        let y = graph.conv2d(x, weight, Some(bias), Conv2d::default())?;
        Ok(vec![residual(graph, y)?])
    });
    let (linear, _) = run(Precision::F32, &x, |graph, x| {
        let (weight, bias) = (graph.weight("w", &[33, 48])?, graph.weight("b", &[33])?);
        let y = graph.linear(x, weight, Some(bias))?;
        Ok(vec![residual(graph, y)?])
    });
    assert_eq!(names, ["linear", "add"]);
    assert_eq!(convolved, linear);
}

/// Layers with weights of 8 bits, after each norm that can quantize: within half a step of both operands of what the
/// same layers compute in f32.
#[test]
fn quantized_layers_are_within_half_a_step_of_both_operands() {
    let x = array(&[2, 4, 6, 64]);
    let layers = |graph: &mut Graph, x: Value| -> Result<Vec<Value>> {
        let (scale, shift) = (graph.weight("scale", &[64])?, graph.weight("shift", &[64])?);
        let normed = graph.layer_norm(x, scale, shift, 1e-5)?;
        let grouped = graph.group_norm(x, scale, shift, 8, 1e-5)?;
        let root = graph.push(Op::RmsNorm { eps: 1e-5 }, &[x, scale])?;
        let mut results = Vec::new();
        for (i, rows) in [x, normed, normed, grouped, root].into_iter().enumerate() {
            let weight = graph.weight(&format!("w{i}"), &[96, 64])?;
            let rows = graph.reshape(rows, [48, 64])?;
            results.push(graph.push(Op::Linear(Epilogue::default()), &[rows, weight])?);
        }
        Ok(results)
    };
    let (wanted, _) = run(Precision::F32, &x, layers);
    let (got, names) = run(Precision::Int8, &x, layers);
    let count = |name: &str| names.iter().filter(|other| *other == name).count();
    let counts = ["quantize", "layer_norm_8", "group_norm_8", "rms_norm_8", "layer_norm"].map(count);
    assert_eq!((counts, count("linear")), ([1, 1, 1, 1, 0], 5), "{names:?}");
    for (wanted, got) in wanted.iter().zip(&got) {
        for (wanted, got) in wanted.iter().zip(got) {
            // 64 terms: activations up to about 4 in steps of 1/32, weights up to 1 in steps of 1/127; bf16 in and out.
            let allowed = 64.0 * (0.5 / 32.0 + 4.0 * 0.5 / 127.0) / 2.0 + wanted.abs() / 128.0;
            assert!((wanted - got).abs() <= allowed, "{got}, want {wanted} within {allowed}");
        }
    }
    // The error is noise, not bias: on average far below its bound.
    let (count, error) = wanted
        .iter()
        .flatten()
        .zip(got.iter().flatten())
        .fold((0, 0.0), |(count, sum), (a, b)| (count + 1, sum + f64::from(a - b).powi(2)));
    let power = wanted.iter().flatten().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    assert!(error < 2e-4 * power, "{} over {count}", error / power);
    assert!(bf16::from_f32(got[0][0]).to_f32().to_bits() == got[0][0].to_bits(), "results are bf16 inside");
}
