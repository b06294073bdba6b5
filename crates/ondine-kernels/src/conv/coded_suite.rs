//! Convolutions with weights in few bits, against [`crate::naive`] and against the same numbers packed whole, for every
//! tier of this processor.

use half::{bf16, f16};
use proptest::prelude::*;

use crate::{
    Activation, CodeLevels, CodedConv, CodedConvShape, CodedSource, ConvProblem, ConvShape, Cpu, Epilogue,
    GroupNumbers, Input, Output, PackedWeights, PanelWeights, RowScale, Values, WeightSource, WeightType, conv2d,
    naive, pack, pack_coded_conv,
    suite::{Aligned, Random, tiers},
};

#[derive(Clone, Debug)]
struct Case {
    shape: ConvShape,
    dtype: WeightType,
    bits: u32,
    group: usize,
    levels: CodeLevels,
    numbers: GroupNumbers,
    bias: bool,
    residual: bool,
    seed: u64,
}

/// The parts of weights in few bits.
struct Parts {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<f16>,
    minima: Vec<f32>,
    table: Vec<f32>,
}

impl Case {
    fn coded(&self) -> CodedConvShape {
        let &Self { bits, group, levels, numbers, .. } = self;
        CodedConvShape { weights: self.shape.weights(self.dtype), bits, group, levels, numbers }
    }

    /// Elements of a row, and its groups.
    fn row(&self) -> (usize, usize) {
        let weights = self.shape.weights(self.dtype);
        let elements = weights.elements() / weights.outputs;
        (elements, elements.div_ceil(self.group))
    }

    fn parts(&self, random: &mut Random) -> Parts {
        let (elements, groups) = self.row();
        let count = self.shape.outputs * groups;
        let top = f32::from((1_u16 << self.bits) - 1);
        let scaled = self.levels != CodeLevels::Table;
        let stored = |x: f32| if self.numbers == GroupNumbers::F16 { f16::from_f32(x).to_f32() } else { x };
        let mut numbers = |wanted: bool, count: usize| random.numbers(if wanted { count } else { 0 });
        let code = |x: &f32| ((x + 1.0) / 2.0 * (top + 0.99)) as u8;
        // Steps of 1/16, which f16 holds.
        let zero = |x: &f32| f16::from_f32(((x + 1.0) * 8.0 * top).floor() / 16.0);
        Parts {
            codes: numbers(true, self.shape.outputs * elements).iter().map(code).collect(),
            scales: numbers(scaled, count).iter().map(|x| stored(0.03 * x)).collect(),
            zeros: numbers(self.levels == CodeLevels::Zeros, count).iter().map(zero).collect(),
            minima: numbers(self.levels == CodeLevels::Minima, count).iter().map(|x| stored(0.1 * x)).collect(),
            table: numbers(!scaled, 1 << self.bits),
        }
    }

    /// The weights, every operation rounded to f32.
    fn weights(&self, parts: &Parts) -> Vec<f32> {
        let (elements, groups) = self.row();
        let middle = if self.bits == 2 { 1.5 } else { f32::from(1_u8 << (self.bits - 1)) };
        let number = |(index, &code): (usize, &u8)| {
            let (at, code) = (index / elements * groups + index % elements / self.group, f32::from(code));
            match self.levels {
                CodeLevels::Symmetric => (code - middle) * parts.scales[at],
                CodeLevels::Zeros => (code - parts.zeros[at].to_f32()) * parts.scales[at],
                CodeLevels::Minima => code * parts.scales[at] + parts.minima[at],
                CodeLevels::Table => parts.table[code as usize],
            }
        };
        parts.codes.iter().enumerate().map(number).collect()
    }

    /// The weights as they are multiplied.
    fn rounded(&self, weights: &[f32]) -> Vec<f64> {
        let row = |row: &[f32]| -> Vec<f64> {
            let scale = row.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
            let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let number = |x: &f32| match self.dtype {
                WeightType::F32 => f64::from(*x),
                WeightType::Bf16 => bf16::from_f32(*x).to_f64(),
                WeightType::S8 => f64::from((x * factor).round_ties_even()) * f64::from(scale),
            };
            row.iter().map(number).collect()
        };
        weights.chunks(self.row().0).flat_map(row).collect()
    }

    fn check(&self) {
        let mut random = Random(self.seed);
        let parts = self.parts(&mut random);
        let weights = self.weights(&parts);
        let &Self { shape, dtype, .. } = self;
        let x = random.numbers(shape.batch * shape.height * shape.width * shape.channels[0]);
        let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let bytes: Vec<u8> = x.iter().map(|&x| ((x + 1.0) * 127.9) as u8).collect();
        let scales = [RowScale { scale: 0.012, zero: 119 }];
        let (input, numbers): (Input<'_>, Vec<f64>) = match dtype {
            WeightType::F32 => (Input::F32(&x), x.iter().map(|&x| f64::from(x)).collect()),
            WeightType::Bf16 => (Input::Bf16(&brain), brain.iter().map(|x| x.to_f64()).collect()),
            WeightType::S8 => {
                let number = |&x: &u8| f64::from(0.012_f32) * (f64::from(x) - 119.0);
                (Input::U8 { values: &bytes, scales: &scales }, bytes.iter().map(number).collect())
            }
        };
        let sums = naive::conv2d(&shape, &[numbers], &self.rounded(&weights));
        let (bias, residual) = (random.numbers(shape.outputs), random.numbers(sums.len()));
        let epilogue = Epilogue {
            bias: self.bias.then_some(&bias),
            rounded: None,
            activation: Activation::None,
            residual: self.residual.then_some(Values::F32(&residual)),
            residual_stride: shape.outputs,
        };
        let inputs = [input];
        let run = |cpu: &Cpu, weights: PanelWeights<'_>| {
            let mut out = vec![-7.0_f32; sums.len()];
            let problem = ConvProblem { shape, inputs: &inputs, weights, epilogue, out_stride: shape.outputs };
            conv2d(cpu, &problem, Output::F32(&mut out));
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for cpus in tiers() {
            let (cpu, coded) = (&cpus[0], self.coded());
            let mut packed = Aligned::new(coded.packed_size(cpu));
            let Parts { codes, scales, zeros, minima, table } = &parts;
            let source = CodedSource { codes, scales, zeros, minima, units: &[], table };
            pack_coded_conv(cpu, &coded, &source, packed.get_mut());
            let got = run(cpu, PanelWeights::Codes(CodedConv::new(cpu, coded, packed.get())));
            for other in &cpus[1..] {
                let codes = CodedConv::new(other, coded, packed.get());
                assert!(got == run(other, PanelWeights::Codes(codes)), "threads, {}: {self:?}", cpu.tier());
            }
            let mut whole = Aligned::new(coded.weights.packed_size(cpu));
            pack(cpu, &coded.weights, WeightSource::F32(&weights), whole.get_mut());
            let whole = PackedWeights::new(cpu, coded.weights, whole.get());
            assert!(got == run(cpu, whole.into()), "not as packed whole, {}: {self:?}", cpu.tier());
            for (index, (sum, &got)) in sums.iter().zip(&got).enumerate() {
                let bias = if self.bias { f64::from(bias[index % shape.outputs]) } else { 0.0 };
                let more = if self.residual { f64::from(residual[index]) } else { 0.0 };
                let (want, got) = (sum.value + bias + more, f64::from(f32::from_bits(got)));
                let terms = self.row().0 as f64 + 16.0;
                // Codes without their sign are multiplied before what they stand for 0 with is taken off.
                let magnitude = 4.0 * (sum.magnitude + 1.0);
                let error = f64::from(f32::EPSILON) * terms * magnitude;
                assert!((got - want).abs() <= error, "{got} for {want} at {index}, {}: {self:?}", cpu.tier());
            }
        }
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..9, proptest::sample::select(vec![15, 16, 17, 31, 33, 63, 64, 65, 97, 130])]
}

fn case() -> impl Strategy<Value = Case> {
    let coding = prop_oneof![
        3 => (
            proptest::sample::select(vec![2_u32, 4, 6, 8]),
            proptest::sample::select(vec![CodeLevels::Symmetric, CodeLevels::Zeros, CodeLevels::Minima])
        ),
        1 => proptest::sample::select(vec![2_u32, 4]).prop_map(|bits| (bits, CodeLevels::Table)),
    ];
    let group = prop_oneof![1 => Just(usize::MAX), 3 => size()];
    let dtype = proptest::sample::select(vec![WeightType::F32, WeightType::Bf16, WeightType::S8]);
    let numbers = proptest::sample::select(vec![GroupNumbers::F16, GroupNumbers::F32]);
    let space = (1_usize..3, 1_usize..9, 1_usize..9, [1_usize..4, 1_usize..4], [1_usize..3, 1_usize..3]);
    let more = ([0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3], [1_usize..3, 1_usize..3], any::<bool>());
    // Long rows take several steps of a tap.
    let channels = prop_oneof![8 => size(), 1 => proptest::sample::select(vec![530_usize, 1040])];
    let flags = (any::<bool>(), any::<bool>(), any::<u64>());
    (coding, group, dtype, numbers, space, more, (channels, size()), flags).prop_map(
        |((bits, levels), group, dtype, numbers, space, more, (channels, outputs), (bias, residual, seed))| {
            let (batch, height, width, kernel, stride) = space;
            let (padding, dilation, upsample) = more;
            // Kernels have to lie over the picture somewhere.
            let [height, width] = [(height, kernel[0], dilation[0]), (width, kernel[1], dilation[1])]
                .map(|(size, taps, dilation)| size.max((taps - 1) * dilation + 1));
            let channels = [channels, 0];
            let shape = ConvShape {
                batch,
                height,
                width,
                channels,
                outputs,
                kernel,
                stride,
                padding,
                dilation,
                groups: 1,
                upsample,
            };
            let elements = channels[0] * kernel[0] * kernel[1];
            let group = if levels == CodeLevels::Table { elements } else { group.min(elements) };
            Case { shape, dtype, bits, group, levels, numbers, bias, residual, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_with_codes_are_right(case in case()) {
        case.check();
    }
}
