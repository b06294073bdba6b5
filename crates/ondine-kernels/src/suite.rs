//! Properties of the matrix kernels, checked for every tier of this processor against [`crate::naive`].

use std::sync::OnceLock;

use half::{bf16, f16};
use proptest::prelude::*;

use crate::{
    Activation, ConvProblem, ConvShape, Cpu, Epilogue, GemmProblem, Input, MatmulShape, Output, PACKED_ALIGN,
    PackedWeights, RowScale, Tier, Values, WeightShape, WeightSource, WeightType, conv2d, gemm, matmul, naive,
    naive::Sum, pack,
};

const EPSILON: f64 = f32::EPSILON as f64;

/// One, two and three threads.
pub(crate) fn cpus() -> &'static [Cpu; 3] {
    static CPUS: OnceLock<[Cpu; 3]> = OnceLock::new();
    CPUS.get_or_init(|| [1, 2, 3].map(|threads| Cpu::new(threads).expect("a tier that this processor has")))
}

/// Every tier that this processor has, on one, two and three threads.
pub(crate) fn tiers() -> impl Iterator<Item = [Cpu; 3]> {
    let available = Tier::ALL.into_iter().filter(|tier| tier.is_available());
    available.map(|tier| cpus().each_ref().map(|cpu| cpu.with_tier(tier).expect("a tier that this processor has")))
}

/// Numbers that look random: the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In -1..1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

/// Bytes at an address that packed weights may have.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0xff; len + PACKED_ALIGN];
        let skip = bytes.as_ptr().align_offset(PACKED_ALIGN);
        Self { bytes, skip, len }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[self.skip..self.skip + self.len]
    }

    pub(crate) fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.skip..self.skip + self.len]
    }
}

/// A tensor in the element type of a test, one element into its memory so that it is not aligned to vectors.
#[derive(Clone, Debug)]
pub(crate) enum Tensor {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U8(Vec<u8>, Vec<RowScale>),
}

impl Tensor {
    pub(crate) fn new(dtype: WeightType, random: &mut Random, count: usize, scales: usize) -> Self {
        let values = random.numbers(count + 1);
        match dtype {
            WeightType::F32 => Self::F32(values),
            WeightType::Bf16 => Self::Bf16(values.iter().map(|&x| bf16::from_f32(x)).collect()),
            WeightType::S8 => {
                let bytes = values.iter().map(|&x| ((x + 1.0) * 127.999) as u8).collect();
                let scale = |i: usize| RowScale { scale: 0.01 + i as f32 * 1e-3, zero: (37 * i as i32 + 120) % 256 };
                Self::U8(bytes, (0..scales).map(scale).collect())
            }
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::F32(values) => Input::F32(&values[1..]),
            Self::Bf16(values) => Input::Bf16(&values[1..]),
            Self::U8(values, scales) => Input::U8 { values: &values[1..], scales },
        }
    }

    pub(crate) fn values(&self) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(&values[1..]),
            Self::Bf16(values) => Values::Bf16(&values[1..]),
            Self::U8(..) => unreachable!("not an operand"),
        }
    }

    /// The numbers that the elements stand for.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values[1..].iter().map(|&x| f64::from(x)).collect(),
            Self::Bf16(values) => values[1..].iter().map(|x| x.to_f64()).collect(),
            Self::U8(values, scales) => {
                let per_scale = (values.len() - 1) / scales.len();
                let number = |(i, &q): (usize, &u8)| {
                    let RowScale { scale, zero } = scales[(i / per_scale.max(1)).min(scales.len() - 1)];
                    f64::from(scale) * f64::from(i32::from(q) - zero)
                };
                values[1..].iter().enumerate().map(number).collect()
            }
        }
    }
}

/// Weights as numbers, exactly what packing makes of them.
fn rounded(dtype: WeightType, weights: &[f32], per_output: usize) -> Vec<f64> {
    match dtype {
        WeightType::F32 => weights.iter().map(|&w| f64::from(w)).collect(),
        WeightType::Bf16 => weights.iter().map(|&w| bf16::from_f32(w).to_f64()).collect(),
        WeightType::S8 => {
            let row = |row: &[f32]| {
                let scale = row.iter().fold(0.0_f32, |most, w| most.max(w.abs())) / 127.0;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                row.iter().map(|w| f64::from((w * inverse).round_ties_even()) * f64::from(scale)).collect::<Vec<_>>()
            };
            weights.chunks(per_output).flat_map(row).collect()
        }
    }
}

/// A convolution with everything that may be asked of it.
#[derive(Clone, Debug)]
struct Case {
    shape: ConvShape,
    dtype: WeightType,
    activation: Activation,
    glu: bool,
    bias: bool,
    residual: Option<WeightType>,
    out: WeightType,
    /// Elements between the rows of results and residual.
    gap: usize,
    seed: u64,
}

/// Results and what they should be, with the error that is allowed.
struct Wanted {
    value: f64,
    error: f64,
}

impl Case {
    fn wanted(&self, sums: &[Sum], terms: usize, bias: &[f32], residual: &[f64]) -> Vec<Wanted> {
        let outputs = self.shape.outputs;
        let columns = if self.glu { outputs / 2 } else { outputs };
        let rounding = EPSILON * (terms as f64 + 8.0);
        let with_bias = |row: usize, output: usize| {
            let sum = sums[row * outputs + output];
            let bias = if self.bias { f64::from(bias[output]) } else { 0.0 };
            (sum.value + bias, rounding * (sum.magnitude + bias.abs()) + 1e-30)
        };
        // An activation's slope is at most 1.2, its own error a few ulp; bf16 results keep 8 bits.
        let activate = |(x, error): (f64, f64)| {
            let y = naive::activation(self.activation, x);
            (y, 1.2 * error + 8.0 * EPSILON * (y.abs() + x.abs()))
        };
        let finish = |index: usize| {
            let (row, column) = (index / columns, index % columns);
            let (value, error) = if self.glu {
                let (a, a_error) = with_bias(row, column);
                let (b, b_error) = activate(with_bias(row, columns + column));
                (a * b, a.abs() * b_error + b.abs() * a_error + a_error * b_error + EPSILON * (a * b).abs())
            } else {
                activate(with_bias(row, column))
            };
            let value = value + residual.get(row * (columns + self.gap) + column).copied().unwrap_or(0.0);
            let kept = if self.out == WeightType::Bf16 { 1.0 / 256.0 } else { EPSILON };
            Wanted { value, error: error + kept * (value.abs() + error) }
        };
        (0..sums.len() / outputs * columns).map(finish).collect()
    }

    fn check(&self) {
        let Self { shape, dtype, .. } = self;
        let mut random = Random(self.seed);
        let pixels = shape.batch * shape.height * shape.width;
        let scales = if self.seed.is_multiple_of(2) { 1 } else { shape.batch };
        let inputs: Vec<Tensor> = shape.channels[..if shape.channels[1] == 0 { 1 } else { 2 }]
            .iter()
            .map(|channels| Tensor::new(*dtype, &mut random, pixels * channels, scales))
            .collect();
        let weight_shape = WeightShape { glu: self.glu, ..shape.weights(*dtype) };
        let weights = random.numbers(weight_shape.elements());
        let bias = random.numbers(shape.outputs);
        let terms = weight_shape.elements() / shape.outputs;
        // Depthwise weights are not quantized.
        let kept = if weight_shape.is_depthwise() { WeightType::F32 } else { *dtype };
        let numbers: Vec<_> = inputs.iter().map(Tensor::numbers).collect();
        let sums = naive::conv2d(shape, &numbers, &rounded(kept, &weights, terms));
        let (rows, columns) = (sums.len() / shape.outputs, weight_shape.columns());
        let stride = columns + self.gap;
        let residual = self.residual.map(|dtype| Tensor::new(dtype, &mut random, rows * stride, 1));
        let added = residual.as_ref().map_or(Vec::new(), Tensor::numbers);
        let wanted = self.wanted(&sums, terms, &bias, &added);
        let epilogue = Epilogue {
            bias: self.bias.then_some(&bias),
            rounded: None,
            activation: self.activation,
            residual: residual.as_ref().map(Tensor::values),
            residual_stride: stride,
        };
        for cpus in tiers() {
            let cpu = &cpus[0];
            let mut packed = Aligned::new(weight_shape.packed_size(cpu));
            pack(cpu, &weight_shape, WeightSource::F32(&weights), packed.get_mut());
            let weights = PackedWeights::new(cpu, weight_shape, packed.get()).into();
            let inputs: Vec<_> = inputs.iter().map(Tensor::input).collect();
            let problem = ConvProblem { shape: *shape, inputs: &inputs, weights, epilogue, out_stride: stride };
            let run = |threads: usize| {
                let count = (rows * stride).saturating_sub(self.gap);
                collect(self.out, count, |out| conv2d(&cpus[threads - 1], &problem, out))
            };
            let got = run(1);
            for threads in [2, 3] {
                assert!(bits(&got) == bits(&run(threads)), "{threads} threads, {}: {self:?}", cpu.tier());
            }
            for (index, wanted) in wanted.iter().enumerate() {
                let got = got[index / columns * stride + index % columns];
                let off = (f64::from(got) - wanted.value).abs();
                let Wanted { value, error } = wanted;
                assert!(off <= *error, "{got} for {value} (+- {error:e}) at {index}, {}: {self:?}", cpu.tier());
            }
            for (row, gap) in got.chunks(stride).enumerate() {
                assert!(gap.iter().skip(columns).all(|&x| x == -7.0), "row {row} overwritten, {}", cpu.tier());
            }
        }
    }
}

/// The results written by `body`, as f32.
pub(crate) fn collect(dtype: WeightType, count: usize, body: impl FnOnce(Output<'_>)) -> Vec<f32> {
    if dtype == WeightType::Bf16 {
        let mut out = vec![bf16::from_f32(-7.0); count + 1];
        body(Output::Bf16(&mut out[1..]));
        out[1..].iter().map(|x| x.to_f32()).collect()
    } else {
        let mut out = vec![-7.0; count + 1];
        body(Output::F32(&mut out[1..]));
        out.split_off(1)
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

pub(crate) fn float() -> impl Strategy<Value = WeightType> {
    prop_oneof![Just(WeightType::F32), Just(WeightType::Bf16)]
}

fn dtype() -> impl Strategy<Value = WeightType> {
    prop_oneof![Just(WeightType::F32), Just(WeightType::Bf16), Just(WeightType::S8)]
}

fn activation() -> impl Strategy<Value = Activation> {
    use Activation::{Gelu, GeluTanh, None, QuickGelu, Relu, Sigmoid, Silu, Tanh};
    proptest::sample::select(vec![None, Silu, Gelu, GeluTanh, QuickGelu, Relu, Sigmoid, Tanh])
}

/// Sizes around the boundaries of vectors, tiles and panels.
fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..9, proptest::sample::select(vec![15, 16, 17, 31, 33, 63, 64, 65, 97, 130])]
}

fn conv_shape() -> impl Strategy<Value = ConvShape> {
    let space = (1_usize..3, 1_usize..9, 1_usize..9, [1_usize..4, 1_usize..4], [1_usize..3, 1_usize..3]);
    let more = ([0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3], [1_usize..3, 1_usize..3], any::<bool>());
    let depth =
        (channels(), prop_oneof![Just(0), channels()], channels(), prop_oneof![4 => Just(1_usize), 1 => 2_usize..6]);
    (space, more, depth).prop_map(|((batch, height, width, kernel, stride), (padding, dilation, upsample), depth)| {
        let (first, second, outputs, groups) = depth;
        let (channels, outputs) = match groups {
            1 => ([first, second], outputs),
            _ => ([first.min(9) * groups, 0], outputs.min(20) * groups),
        };
        // The kernel must fit.
        let fits = |axis: usize, size: usize| {
            let room = size * if upsample { 2 } else { 1 } + padding[2 * axis] + padding[2 * axis + 1];
            if dilation[axis] * (kernel[axis] - 1) < room { kernel[axis] } else { 1 }
        };
        let kernel = [fits(0, height), fits(1, width)];
        ConvShape { batch, height, width, channels, outputs, kernel, stride, padding, dilation, groups, upsample }
    })
}

fn case() -> impl Strategy<Value = Case> {
    let rest = (dtype(), activation(), any::<bool>(), any::<bool>(), proptest::option::of(float()), float());
    (conv_shape(), rest, 0_usize..4, any::<u64>()).prop_map(|(mut shape, rest, gap, seed)| {
        let (dtype, activation, glu, bias, residual, out) = rest;
        let glu = glu && shape.groups == 1;
        if glu {
            shape.outputs *= 2;
        }
        Case { shape, dtype, activation, glu, bias, residual, out, gap, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_are_right(case in case()) {
        case.check();
    }

    #[test]
    fn products_of_operands_are_right(
        (batch, rows, inner, columns) in (1_usize..5, channels(), channels(), channels()),
        transposed: bool,
        dtype in float(),
        out in float(),
        seed: u64,
    ) {
        check_matmul(&MatmulShape { batch, rows, inner, columns, transposed }, dtype, out, seed);
    }
}

fn check_matmul(shape: &MatmulShape, dtype: WeightType, out: WeightType, seed: u64) {
    let &MatmulShape { batch, rows, inner, columns, transposed } = shape;
    let mut random = Random(seed);
    let left = Tensor::new(dtype, &mut random, batch * rows * inner, 1);
    let right = Tensor::new(dtype, &mut random, batch * inner * columns, 1);
    let (a, b) = (left.numbers(), right.numbers());
    for cpus in tiers() {
        let cpu = &cpus[0];
        let run = |threads: usize| {
            let mut scratch = vec![0xff; shape.scratch_bytes(&cpus[threads - 1])];
            collect(out, batch * rows * columns, |out| {
                matmul(&cpus[threads - 1], shape, [left.values(), right.values()], out, &mut scratch);
            })
        };
        let got = run(1);
        for threads in [2, 3] {
            assert!(bits(&got) == bits(&run(threads)), "{threads} threads, {}: {shape:?}", cpu.tier());
        }
        for (index, &got) in got.iter().enumerate() {
            let (of, row, column) = (index / columns / rows, index / columns % rows, index % columns);
            let right = |k: usize| if transposed { column * inner + k } else { k * columns + column };
            let terms = (0..inner).map(|k| a[(of * rows + row) * inner + k] * b[of * inner * columns + right(k)]);
            let (want, magnitude) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + f64::abs(term)));
            let kept = if out == WeightType::Bf16 { 1.0 / 256.0 } else { EPSILON };
            let error = EPSILON * (inner as f64 + 4.0) * magnitude + kept * want.abs() + 1e-30;
            assert!((f64::from(got) - want).abs() <= error, "{got} for {want}, {}: {shape:?}", cpu.tier());
        }
    }
}

/// A convolution with one tap over `rows` pixels: a linear layer.
fn linear(rows: usize, channels: usize, outputs: usize, dtype: WeightType) -> Case {
    let shape = ConvShape {
        batch: rows,
        height: 1,
        width: 1,
        channels: [channels, 0],
        outputs,
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 4],
        dilation: [1; 2],
        groups: 1,
        upsample: false,
    };
    let activation = Activation::None;
    Case { shape, dtype, activation, glu: false, bias: true, residual: None, out: WeightType::F32, gap: 0, seed: 1 }
}

#[test]
fn long_sums_and_many_rows_are_right() {
    for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
        for (rows, channels, outputs) in [(1, 3001, 70), (7, 1283, 33), (401, 131, 67), (64, 640, 320)] {
            linear(rows, channels, outputs, dtype).check();
        }
        let wide = linear(2, 257, 129, dtype);
        Case { shape: ConvShape { kernel: [3; 2], padding: [1; 4], height: 5, width: 6, ..wide.shape }, ..wide }
            .check();
    }
}

#[test]
fn few_outputs_of_many_channels_are_right() {
    for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
        for (channels, outputs, groups) in [
            ([64, 0], 1, 1),
            ([128, 0], 2, 1),
            ([64, 128], 3, 1),
            ([192, 0], 4, 1),
            ([64, 0], 5, 1),
            ([640, 0], 3, 1),
            ([256, 0], 6, 2),
        ] {
            let case = linear(2, channels[0], outputs, dtype);
            let space = ConvShape { channels, kernel: [3; 2], padding: [1; 4], height: 7, width: 17, ..case.shape };
            Case { shape: ConvShape { groups, ..space }, activation: Activation::Tanh, gap: 2, ..case }.check();
        }
        for (rows, outputs) in [(1, 3), (401, 1), (5, 4)] {
            linear(rows, 8192, outputs, dtype).check();
        }
    }
}

#[test]
fn many_groups_and_depthwise_are_right() {
    for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
        for (channels, outputs, groups) in [(70, 70, 70), (6, 18, 6), (64, 128, 8), (12, 4, 2)] {
            let case = linear(2, channels, outputs, dtype);
            let space = ConvShape { kernel: [3; 2], padding: [1; 4], height: 9, width: 7, groups, ..case.shape };
            Case { shape: space, activation: Activation::Silu, ..case }.check();
        }
    }
}

#[test]
fn depthwise_borders_are_right() {
    for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
        for (channels, kernel, stride, dilation, padding) in [
            (1, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
            (16, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
            (24, [5, 5], [1, 2], [1, 2], [2, 2, 4, 4]),
            (72, [1, 7], [1, 3], [1, 1], [0, 0, 0, 5]),
            (130, [7, 1], [3, 1], [2, 1], [6, 0, 3, 0]),
            (40, [9, 9], [1, 1], [1, 1], [4, 4, 4, 4]),
            (33, [2, 2], [2, 2], [1, 1], [0, 0, 0, 0]),
            (20, [3, 3], [1, 1], [3, 5], [9, 9, 11, 12]),
        ] {
            let case = linear(2, channels, channels, dtype);
            let shape = ConvShape { kernel, stride, dilation, padding, height: 13, width: 19, ..case.shape };
            Case { shape: ConvShape { groups: channels, ..shape }, activation: Activation::Relu, ..case }.check();
        }
    }
}

#[test]
fn taps_that_meet_only_padding_are_right() {
    for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
        for (kernel, stride, dilation, padding, groups) in [
            ([3, 3], [1, 1], [12, 12], [12; 4], 1),
            ([3, 3], [2, 1], [6, 20], [6, 6, 20, 20], 2),
            ([1, 5], [1, 1], [1, 7], [0, 0, 14, 14], 1),
            ([2, 2], [1, 1], [1, 1], [9, 9, 9, 9], 1),
            ([3, 1], [1, 1], [9, 1], [0, 12, 0, 0], 1),
        ] {
            let case = linear(2, 18, 34, dtype);
            let shape = ConvShape { kernel, stride, dilation, padding, groups, height: 9, width: 10, ..case.shape };
            Case { shape, ..case }.check();
        }
    }
}

#[test]
fn gemm_reads_and_writes_columns_of_wider_rows() {
    let (rows, channels, outputs, stride) = (13, 21, 19, 40);
    let mut random = Random(5);
    let (x, weights) = (random.numbers(rows * stride), random.numbers(outputs * channels));
    let shape = WeightShape::linear(WeightType::F32, outputs, channels);
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut packed = Aligned::new(shape.packed_size(cpu));
        pack(&cpus[1], &shape, WeightSource::F32(&weights), packed.get_mut());
        let problem = GemmProblem {
            rows,
            input: Input::F32(&x[5..]),
            input_stride: stride,
            weights: PackedWeights::new(cpu, shape, packed.get()),
            epilogue: Epilogue::default(),
            out_stride: stride,
        };
        let mut out = vec![0.0; rows * stride];
        gemm(&cpus[1], &problem, Output::F32(&mut out[7..]));
        for (row, out) in out.chunks(stride).enumerate() {
            for (column, &got) in out.iter().enumerate() {
                let dot = |output: usize| {
                    let pairs = x[row * stride + 5..].iter().zip(&weights[output * channels..][..channels]);
                    pairs.map(|(a, b)| f64::from(a * b)).sum::<f64>()
                };
                let want = column.checked_sub(7).filter(|&output| output < outputs).map_or(0.0, dot);
                assert!((f64::from(got) - want).abs() < 1e-5, "{row}, {column}");
            }
        }
    }
}

#[test]
fn sources_pack_alike() {
    let shape = WeightShape::linear(WeightType::Bf16, 5, 9);
    let numbers: Vec<f32> = (0..shape.elements()).map(|i| i as f32 / 8.0 - 2.0).collect();
    let half: Vec<f16> = numbers.iter().map(|&x| f16::from_f32(x)).collect();
    let brain: Vec<bf16> = numbers.iter().map(|&x| bf16::from_f32(x)).collect();
    let sources = [WeightSource::F32(&numbers), WeightSource::F16(&half), WeightSource::Bf16(&brain)];
    for cpus in tiers() {
        let cpu = &cpus[0];
        let packed = sources.map(|source| {
            let mut packed = Aligned::new(shape.packed_size(cpu));
            pack(cpu, &shape, source, packed.get_mut());
            packed.get().to_vec()
        });
        assert!(packed[0] == packed[1] && packed[1] == packed[2], "{}", cpu.tier());
    }
}

#[test]
fn quantized_weights_pack_as_given() {
    let (outputs, channels) = (18, 7);
    let values: Vec<i8> = (0..outputs * channels).map(|i| (i * 31 % 255 - 127) as i8).collect();
    let scales: Vec<f32> = (0..outputs).map(|i| 0.5 + i as f32).collect();
    let x: Vec<u8> = (0..channels).map(|i| (i * 40) as u8).collect();
    let input = Input::U8 { values: &x, scales: &[RowScale { scale: 0.25, zero: 100 }] };
    let (outputs, channels) = (outputs as usize, channels as usize);
    let shape = WeightShape::linear(WeightType::S8, outputs, channels);
    for cpus in tiers() {
        let cpu = &cpus[0];
        let mut packed = Aligned::new(shape.packed_size(cpu));
        let source = WeightSource::S8 { values: &values, scales: &scales };
        pack(cpu, &shape, source, packed.get_mut());
        let weights = PackedWeights::new(cpu, shape, packed.get());
        let epilogue = Epilogue::default();
        let problem = GemmProblem { rows: 1, input, input_stride: channels, weights, epilogue, out_stride: outputs };
        let mut out = vec![0.0; outputs];
        gemm(cpu, &problem, Output::F32(&mut out));
        for (row, got) in out.iter().enumerate() {
            let dot = |k: usize| (i32::from(x[k]) - 100) * i32::from(values[row * channels + k]);
            assert_eq!(*got, (0..channels).map(dot).sum::<i32>() as f32 * (0.25 * scales[row]));
        }
    }
}
