//! Convolutions whose weights are in few bits.

use ondine_graph::{Activation, Conv2d, DType, Graph, NDArray};

use super::{plain::plain_tensor, *};
use crate::{Precision, specialize::Specialize, state::State};

const SIZE: usize = 20;
const FIRST: usize = 40;

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

fn silent(_: Progress<'_>) {}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() + next()).collect()
}

/// Layers that Winograd's algorithm is fit for, and others: with a stride, doubled before, of one tap, and of few
/// channels.
fn layers() -> Vec<(usize, usize, Conv2d)> {
    let padded = Conv2d { padding: [1; 4], ..Conv2d::default() };
    vec![
        (48, 3, padded),
        (33, 1, Conv2d::default()),
        (70, 3, Conv2d { stride: [2; 2], ..padded }),
        (48, 3, Conv2d { upsample: true, ..padded }),
        (5, 3, padded),
    ]
}

fn network() -> Asset {
    let (mut graph, mut weights) = (Graph::new(), Weights::default());
    let mut x = graph.input("x", DType::F32, [1, SIZE, SIZE, FIRST]);
    for (index, (outputs, side, conv)) in layers().into_iter().enumerate() {
        let path = format!("layers.{index}.weight");
        let inputs = graph.dim(x, 3).fixed().unwrap();
        let shape = [outputs, inputs, side, side];
        let count = shape.iter().product();
        let scale = 1.0 / (inputs as f32).sqrt();
        let values: Vec<f32> = numbers(count, index as u64 + 3).iter().map(|x| scale * x).collect();
        weights.insert(&path, plain_tensor(&values, &shape));
        let weight = graph.weight(&path, &shape).unwrap();
        x = graph.conv2d(x, weight, None, conv).unwrap();
        x = graph.activation(Activation::Silu, x).unwrap();
    }
    graph.output("y", x);
    Asset::new("network", [("main", graph)], weights).unwrap()
}

fn small(format: Format) -> Asset {
    let options = Options { format: Some(format), ..Options::default() };
    compress(&network(), &options, &device(), &silent).unwrap().0
}

/// The same network, with the numbers that its weights stand for.
fn decoded(asset: &Asset) -> Asset {
    let graph = asset.function("main").unwrap();
    let mut weights = Weights::default();
    for weight in graph.weights() {
        let values = asset.weights().to_f32(&weight.path).unwrap();
        weights.insert(&weight.path, plain_tensor(&values, &weight.shape));
    }
    Asset::new("network", [("main", graph.clone())], weights).unwrap()
}

fn run(model: &crate::Model) -> Vec<f32> {
    let x = NDArray::new(&[1, SIZE, SIZE, FIRST], &numbers(SIZE * SIZE * FIRST, 77)).unwrap();
    let mut outputs = model.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
    outputs.take("y").unwrap().to_f32()
}

#[test]
fn codes_of_convolutions_stay_codes() {
    let formats = [("int4", None), ("int6", Some(50)), ("int4", Some(32)), ("int2", Some(16)), ("palette4", None)];
    for (name, group) in formats {
        let small = small(Format { group, ..Format::new(name.parse().unwrap()) });
        let whole = decoded(&small);
        let specialized = |asset: &Asset, precision: Precision| {
            let options = crate::Options { precision, ..crate::Options::default() };
            let prepared = asset.prepare(&options, &device()).unwrap();
            (prepared.weight_bytes(), run(&prepared.specialize(None).unwrap().load().unwrap()))
        };
        let (_, wanted) = specialized(&whole, Precision::F32);
        for (precision, most) in [(Precision::F32, 2e-6), (Precision::BF16, 0.01), (Precision::A8, 0.04)] {
            let (bytes, got) = specialized(&small, precision);
            let loss = Loss::between(&got, &wanted);
            assert!(loss.relative <= most, "{name}, {precision}: {loss:?}");
            // The last layer, of few channels, is made of numbers.
            let (numbers, _) = specialized(&whole, precision);
            assert!(2 * bytes < numbers, "{name}, {precision}: {bytes} bytes, {numbers} as numbers");
        }
        // Weights of 8 bits are made of all that is quantized where everything is in 8 bits.
        let (_, got) = specialized(&small, Precision::Int8);
        let loss = Loss::between(&got, &wanted);
        assert!(loss.relative <= 0.04, "{name}, int8: {loss:?}");
    }
}

#[test]
fn corrected_weights_of_convolutions_are_numbers() {
    let format = Format { low_rank: 3, ..Format::new("int4".parse().unwrap()) };
    let small = small(format);
    let model = |asset: &Asset| asset.specialize(&crate::Options::default(), &device(), None).unwrap().load().unwrap();
    let loss = Loss::between(&run(&model(&small)), &run(&model(&decoded(&small))));
    assert!(loss.relative <= 2e-6, "{loss:?}");
}

#[test]
fn built_files_hold_codes_of_convolutions() {
    for (name, precision) in [("int4", Precision::A8), ("int6", Precision::BF16)] {
        let small = small(Format::new(name.parse().unwrap()));
        let (options, folder) =
            (crate::Options { precision, ..crate::Options::default() }, tempfile::tempdir().unwrap());
        let file = folder.path().join("small.bin");
        let prepared = small.prepare(&options, &device()).unwrap();
        prepared.build(&file).unwrap();
        let built = crate::Specialized::open(&file, &device()).unwrap().load().unwrap();
        let here = prepared.specialize(None).unwrap().load().unwrap();
        assert!(run(&built) == run(&here), "{name}, {precision}");
    }
}
