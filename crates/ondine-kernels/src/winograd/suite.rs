//! Convolutions by Winograd's algorithm against [`crate::naive`], for every tier of this processor.

use half::bf16;
use proptest::prelude::*;

use crate::{
    Activation, ConvShape, Epilogue, Output, Values, WeightType, WinogradProblem, naive, pack_winograd,
    suite::{Aligned, Random, tiers},
    winograd, winograd_scratch_bytes,
};

const SEVEN: f32 = -7.0;

/// How much larger the products of a tile may be than those of a result. Along each axis the product of a pixel with a
/// tap that a result does not hold takes part in it nevertheless, once whole and twice by half, to vanish but for
/// rounding.
const SPREAD: f64 = 4.0;

/// A convolution and what surrounds it.
#[derive(Clone, Debug)]
struct Case {
    shape: ConvShape,
    dtype: WeightType,
    /// Elements between the pixels of the result and of the residual.
    gap: usize,
    bias: bool,
    residual: bool,
    seed: u64,
}

impl Case {
    /// What rounding may add to a result, relative to the sum of the absolute values of its products.
    ///
    /// Both operands are rounded after their transforms, to half a unit of the last of 8 bits or by half of a 127th;
    /// what is rounded holds neighbours too, see [`SPREAD`], which the largest product bounds.
    fn tolerance(&self) -> f64 {
        let terms = 9.0 * self.shape.channels[0] as f64;
        match self.dtype {
            WeightType::F32 => 1.2e-7 * (terms + 40.0),
            WeightType::Bf16 => SPREAD * 2.0 / 512.0,
            WeightType::S8 => SPREAD * 2.0 / 254.0,
        }
    }

    fn check(&self) {
        let Self { shape, dtype, gap, .. } = self;
        let mut random = Random(self.seed);
        let input = random.numbers(shape.batch * shape.height * shape.width * shape.channels[0]);
        let halves: Vec<_> = input.iter().map(|&x| bf16::from_f32(x)).collect();
        let weights = random.numbers(shape.outputs * shape.channels[0] * 9);
        let bias = random.numbers(shape.outputs);
        let exact = |x: &f32| match dtype {
            WeightType::F32 => f64::from(*x),
            _ => bf16::from_f32(*x).to_f64(),
        };
        let numbers: Vec<f64> = input.iter().map(exact).collect();
        let wide: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        let sums = naive::conv2d(shape, &[numbers], &wide);
        let (rows, stride) = (sums.len() / shape.outputs, shape.outputs + gap);
        let added = random.numbers(rows * stride);
        let epilogue = Epilogue {
            bias: self.bias.then_some(&bias),
            rounded: None,
            activation: Activation::None,
            residual: self.residual.then_some(Values::F32(&added)),
            residual_stride: stride,
        };
        // A tile shares the rounding of its neighbours, so the error of a result is bounded by theirs.
        let magnitude = sums.iter().fold(0.0_f64, |most, sum| most.max(sum.magnitude));
        for cpus in tiers() {
            let cpu = &cpus[0];
            let packing = shape.winograd(*dtype).unwrap();
            let mut packed = Aligned::new(packing.packed_size(cpu));
            pack_winograd(&cpus[1], &packing, &weights, packed.get_mut());
            let problem = WinogradProblem {
                shape: *shape,
                input: if *dtype == WeightType::F32 { Values::F32(&input) } else { Values::Bf16(&halves) },
                dtype: *dtype,
                weights: packed.get(),
                epilogue,
                out_stride: stride,
            };
            let run = |threads: usize| {
                let mut scratch = vec![0xff; winograd_scratch_bytes(&cpus[threads - 1], shape, *dtype)];
                let mut out = vec![SEVEN; rows * stride];
                winograd(&cpus[threads - 1], &problem, Output::F32(&mut out), &mut scratch);
                out
            };
            let got = run(1);
            for threads in [2, 3] {
                assert!(got == run(threads), "{threads} threads, {}: {self:?}", cpu.tier());
            }
            let mut square = [0.0; 2];
            for (index, sum) in sums.iter().enumerate() {
                let (row, output) = (index / shape.outputs, index % shape.outputs);
                let mut wanted = sum.value;
                wanted += if self.bias { f64::from(bias[output]) } else { 0.0 };
                wanted += if self.residual { f64::from(added[row * stride + output]) } else { 0.0 };
                let off = f64::from(got[row * stride + output]) - wanted;
                let most = self.tolerance() * magnitude + 1e-6;
                assert!(off.abs() <= most, "off by {off:e} of {most:e} at {index}, {}: {self:?}", cpu.tier());
                square[0] += off * off;
                square[1] += sum.value * sum.value;
            }
            let relative = (square[0] / square[1].max(1e-9)).sqrt();
            let most = match dtype {
                WeightType::F32 => 3e-6,
                WeightType::Bf16 => 1e-2,
                WeightType::S8 => 4e-2,
            };
            assert!(relative <= most || rows * shape.channels[0] < 64, "off by {relative:e}: {self:?}");
            let gaps = got.chunks(stride).all(|row| row[shape.outputs..].iter().all(|&x| x == SEVEN));
            assert!(gaps, "a gap was overwritten, {}", cpu.tier());
        }
    }
}

fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..9, proptest::sample::select(vec![15, 16, 17, 31, 33, 64, 65, 97, 130])]
}

fn case() -> impl Strategy<Value = Case> {
    let dtype = proptest::sample::select(vec![WeightType::F32, WeightType::Bf16, WeightType::S8]);
    let space = (1_usize..3, 1_usize..12, 1_usize..12, channels(), channels(), any::<bool>());
    (space, [0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3], dtype, 0_usize..4, any::<[bool; 2]>(), any::<u64>())
        .prop_map(|((batch, height, width, inputs, outputs, upsample), padding, dtype, gap, [bias, residual], seed)| {
            let fits = |size: usize| if upsample { size.max(2) } else { size.max(3) };
            let padding = if upsample { [1, padding[1], 1, padding[3]] } else { padding };
            let shape = ConvShape {
                batch,
                height: fits(height),
                width: fits(width),
                channels: [inputs, 0],
                outputs,
                kernel: [3; 2],
                stride: [1; 2],
                padding,
                dilation: [1; 2],
                groups: 1,
                upsample,
            };
            Case { shape, dtype, gap, bias, residual, seed }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_are_right(case in case()) {
        case.check();
    }
}

#[test]
fn many_blocks_and_panels_are_right() {
    for (dtype, upsample) in [(WeightType::F32, false), (WeightType::Bf16, true), (WeightType::S8, false)] {
        let shape = ConvShape {
            batch: 2,
            height: 37,
            width: 29,
            channels: [150, 0],
            outputs: 139,
            kernel: [3; 2],
            stride: [1; 2],
            padding: [1; 4],
            dilation: [1; 2],
            groups: 1,
            upsample,
        };
        Case { shape, dtype, gap: 3, bias: true, residual: true, seed: 5 }.check();
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let shape = ConvShape {
        batch: 1,
        height: 6,
        width: 6,
        channels: [4, 0],
        outputs: 3,
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 4],
        dilation: [1; 2],
        groups: 1,
        upsample: false,
    };
    for cpus in tiers() {
        let cpu = &cpus[0];
        for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut input = vec![0.5; 6 * 6 * 4];
                input[(2 * 6 + 2) * 4 + 1] = bad;
                let packing = shape.winograd(dtype).unwrap();
                let mut packed = Aligned::new(packing.packed_size(cpu));
                pack_winograd(cpu, &packing, &[0.25; 3 * 4 * 9], packed.get_mut());
                let problem = WinogradProblem {
                    shape,
                    input: Values::F32(&input),
                    dtype,
                    weights: packed.get(),
                    epilogue: Epilogue::default(),
                    out_stride: 3,
                };
                let mut scratch = vec![0; winograd_scratch_bytes(cpu, &shape, dtype)];
                let mut out = vec![0.0_f32; 6 * 6 * 3];
                winograd(cpu, &problem, Output::F32(&mut out), &mut scratch);
                for (y, x) in [(1, 1), (2, 2), (3, 3)] {
                    assert!(!out[(y * 6 + x) * 3].is_finite(), "{dtype:?} {bad}, {}", cpu.tier());
                }
                assert!(out[(5 * 6 + 5) * 3].is_finite(), "{dtype:?} {bad}, {}", cpu.tier());
            }
        }
    }
}
