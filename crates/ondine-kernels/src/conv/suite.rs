//! Convolutions of codes whose results become codes, against [`crate::naive`], for every tier of this processor.

use crate::{
    Activation, CodeGrid, ConvProblem, ConvShape, Epilogue, Input, Output, PackedWeights, Rounded, RowScale, Values,
    WeightSource, WeightType, conv2d, naive, pack,
    suite::{Aligned, Random, tiers},
};

/// How codes of results are made: with the zero added after rounding, or before, and moved to be without a sign.
const GRIDS: [CodeGrid; 2] = [
    CodeGrid { inverse: 1.0 / 0.37, zero: 3.0, ends: [-128.0, 127.0], moved_first: false, shift: 128.0 },
    CodeGrid { inverse: 1.0 / 0.11, zero: 117.0, ends: [0.0, 255.0], moved_first: true, shift: 0.0 },
];

/// What numbers are rounded to before the activation.
const ROUNDED: Rounded = Rounded {
    grid: CodeGrid { inverse: 1.0 / 0.25, zero: 5.0, ends: [-128.0, 127.0], moved_first: false, shift: 0.0 },
    scale: 0.25,
};

/// Of results within this many steps of the middle between two codes, either is right.
const NEAR: f64 = 1e-3;

fn code(grid: &CodeGrid, x: f64) -> [f64; 2] {
    let steps = x * f64::from(grid.inverse) + f64::from(grid.zero);
    let [low, high] = grid.ends.map(f64::from);
    [steps - NEAR, steps + NEAR].map(|steps| steps.round_ties_even().clamp(low, high))
}

/// The numbers that `x` may become by way of codes.
fn rounded(Rounded { grid, scale }: &Rounded, x: f64) -> [f64; 2] {
    code(grid, x).map(|code| (code - f64::from(grid.zero)) * f64::from(*scale))
}

struct Case {
    shape: ConvShape,
    grid: CodeGrid,
    rounded: Option<Rounded>,
    activation: Activation,
    residual: bool,
}

impl Case {
    fn check(&self, seed: u64) {
        let Self { shape, grid, rounded: first, activation, residual } = self;
        let mut random = Random(seed);
        let byte = |x: f32| ((x + 1.0) * 127.9) as u8;
        let pixels = shape.batch * shape.height * shape.width * shape.channels[0];
        let codes: Vec<u8> = random.numbers(pixels).into_iter().map(byte).collect();
        let scales = [RowScale { scale: 0.017, zero: 131 }];
        let weight_shape = shape.weights(WeightType::S8);
        let values: Vec<i8> =
            random.numbers(weight_shape.elements()).into_iter().map(|x| byte(x).wrapping_sub(128) as i8).collect();
        let factors: Vec<f32> = random.numbers(shape.outputs).into_iter().map(|x| 0.011 + 0.01 * x).collect();
        let bias = random.numbers(shape.outputs);
        let per_output = weight_shape.elements() / shape.outputs;
        let numbers: Vec<f64> = codes.iter().map(|&code| f64::from(0.017_f32) * (f64::from(code) - 131.0)).collect();
        let weights: Vec<f64> =
            values.iter().enumerate().map(|(i, &q)| f64::from(q) * f64::from(factors[i / per_output])).collect();
        let sums = naive::conv2d(shape, &[numbers], &weights);
        let added = random.numbers(if *residual { sums.len() } else { 0 });
        // Both ends of what may be stored, as codes and as numbers.
        let wanted: Vec<[[f64; 2]; 2]> = sums
            .iter()
            .enumerate()
            .map(|(i, sum)| {
                let sum = sum.value + f64::from(bias[i % shape.outputs]);
                let ends = first.map_or([sum, sum], |first| rounded(&first, sum));
                let more = added.get(i).map_or(0.0, |&x| f64::from(x));
                let numbers = ends.map(|x| naive::activation(*activation, x) + more);
                let codes = numbers.map(|x| code(grid, x).map(|code| code + f64::from(grid.shift)));
                [[codes[0][0].min(codes[1][0]), codes[0][1].max(codes[1][1])], numbers]
            })
            .collect();
        for cpus in tiers() {
            let cpu = &cpus[0];
            let mut packed = Aligned::new(weight_shape.packed_size(cpu));
            pack(cpu, &weight_shape, WeightSource::S8 { values: &values, scales: &factors }, packed.get_mut());
            let epilogue = Epilogue {
                bias: Some(&bias),
                rounded: *first,
                activation: *activation,
                residual: residual.then_some(Values::F32(&added)),
                residual_stride: shape.outputs,
            };
            let inputs = [Input::U8 { values: &codes, scales: &scales }];
            let weights = PackedWeights::new(cpu, weight_shape, packed.get()).into();
            let problem = ConvProblem { shape: *shape, inputs: &inputs, weights, epilogue, out_stride: shape.outputs };
            let run = |threads: usize| {
                let (mut stored, mut plain) = (vec![0_u8; sums.len()], vec![0.0_f32; sums.len()]);
                conv2d(&cpus[threads - 1], &problem, Output::Codes(&mut stored, *grid));
                conv2d(&cpus[threads - 1], &problem, Output::F32(&mut plain));
                (stored, plain)
            };
            let (stored, plain) = run(1);
            assert_eq!((&stored, &plain), (&run(3).0, &run(3).1), "threads, {}: {shape:?}", cpu.tier());
            for (i, [codes, numbers]) in wanted.iter().enumerate() {
                let got = f64::from(stored[i]);
                assert!(codes[0] <= got && got <= codes[1], "{got} for {codes:?} at {i}, {}: {shape:?}", cpu.tier());
                let near = |&wanted: &f64| (f64::from(plain[i]) - wanted).abs() <= 2e-5 * (1.0 + wanted.abs());
                assert!(numbers.iter().any(near), "{} for {numbers:?} at {i}, {}", plain[i], cpu.tier());
            }
        }
    }
}

#[test]
fn results_become_codes() {
    // Depthwise, dense, in groups, and of several outputs for each channel; fewer and more channels than lanes.
    let layers = [
        (1, 1, 1),
        (5, 5, 5),
        (16, 16, 16),
        (33, 33, 33),
        (72, 72, 72),
        (6, 18, 6),
        (19, 70, 1),
        (64, 24, 1),
        (12, 8, 2),
    ];
    for (index, (channels, outputs, groups)) in layers.into_iter().enumerate() {
        for (kernel, stride, padding) in [
            ([3, 3], [1, 1], [1; 4]),
            ([5, 5], [2, 2], [2; 4]),
            ([1, 1], [1, 1], [0; 4]),
            ([2, 3], [1, 2], [1, 0, 2, 1]),
        ] {
            let shape = ConvShape {
                batch: 2,
                height: 9,
                width: 11,
                channels: [channels, 0],
                outputs,
                kernel,
                stride,
                padding,
                dilation: [1; 2],
                groups,
                upsample: false,
            };
            for (way, activation) in [Activation::None, Activation::HardSwish, Activation::Relu].into_iter().enumerate()
            {
                let (grid, residual) = (GRIDS[(index + way) % 2], (index + way).is_multiple_of(3));
                let rounded = (way != 2).then_some(ROUNDED);
                Case { shape, grid, rounded, activation, residual }.check((index * 10 + way) as u64);
            }
        }
    }
}

#[test]
fn what_is_no_number_becomes_the_code_0() {
    for cpus in tiers() {
        let shape = ConvShape {
            batch: 1,
            height: 1,
            width: 3,
            channels: [20, 0],
            outputs: 20,
            kernel: [1; 2],
            stride: [1; 2],
            padding: [0; 4],
            dilation: [1; 2],
            groups: 20,
            upsample: false,
        };
        let weight_shape = shape.weights(WeightType::S8);
        let mut packed = Aligned::new(weight_shape.packed_size(&cpus[0]));
        pack(&cpus[0], &weight_shape, WeightSource::S8 { values: &[1; 20], scales: &[1.0; 20] }, packed.get_mut());
        let epilogue = Epilogue { bias: Some(&[f32::NAN; 20]), ..Epilogue::default() };
        let inputs = [Input::U8 { values: &[9; 60], scales: &[RowScale { scale: 1.0, zero: 0 }] }];
        let weights = PackedWeights::new(&cpus[0], weight_shape, packed.get()).into();
        let problem = ConvProblem { shape, inputs: &inputs, weights, epilogue, out_stride: 20 };
        let mut stored = vec![7; 60];
        conv2d(&cpus[0], &problem, Output::Codes(&mut stored, CodeGrid { shift: 0.0, ..GRIDS[0] }));
        assert_eq!(stored, [0; 60], "{}", cpus[0].tier());
    }
}
