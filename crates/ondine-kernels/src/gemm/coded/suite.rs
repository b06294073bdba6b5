//! Properties of products with weights in few bits, checked for every tier of this processor against f64.

use half::{bf16, f16};
use proptest::prelude::*;

use super::{
    pack::{CodedSource, pack_coded},
    row::coded_row,
    *,
};
use crate::{
    Activation, Values,
    gemm::suite::{UNTOUCHED, check_some, some_columns},
    quant::{RowScale, blocks::quantize_blocks},
    suite::{Aligned, Random, tiers},
};

/// A linear layer with everything that may be asked of it.
#[derive(Clone, Debug)]
struct Case {
    shape: CodedShape,
    rows: usize,
    /// True if input and residual are bf16.
    brain: bool,
    bias: bool,
    residual: bool,
    relu: bool,
    /// True if the input is of codes of 8 bits.
    codes: bool,
    /// True if it is in blocks.
    blocks: bool,
    gap: usize,
    seed: u64,
}

/// The numbers of a case.
struct Numbers {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<f16>,
    minima: Vec<f32>,
    units: Vec<[f32; 2]>,
    table: Vec<f32>,
    bias: Vec<f32>,
    x: Vec<bf16>,
    bytes: Vec<u8>,
    /// Of each row of bytes.
    row_scales: Vec<RowScale>,
    residual: Vec<bf16>,
    /// Rows in blocks, and what they stand for.
    rows: Vec<u8>,
    blocked: Vec<f64>,
}

impl Case {
    fn groups(&self) -> usize {
        self.shape.channels.div_ceil(self.shape.group)
    }

    /// Groups of a super-block.
    fn steps(&self) -> usize {
        match self.shape.numbers {
            GroupNumbers::Steps { groups } => groups,
            GroupNumbers::F16 | GroupNumbers::F32 => self.groups(),
        }
    }

    /// Scales or minima of this size as the shape has them: numbers, rounded, or the steps of units.
    fn stored(&self, size: f32, values: &[f32]) -> Vec<f32> {
        let number = |x: &f32| match self.shape.numbers {
            GroupNumbers::F16 => f16::from_f32(size * x).to_f32(),
            GroupNumbers::F32 => size * x,
            GroupNumbers::Steps { .. } => (x * 127.9).floor(),
        };
        values.iter().map(number).collect()
    }

    fn numbers(&self) -> Numbers {
        let &Self { shape: CodedShape { outputs, channels, bits, levels, .. }, rows, gap, .. } = self;
        let mut random = Random(self.seed);
        let mut unit = |count: usize| random.numbers(count);
        let count = outputs * self.groups();
        let top = f32::from((1_u16 << bits) - 1);
        let codes = unit(outputs * channels).iter().map(|x| ((x + 1.0) / 2.0 * (top + 0.99)) as u8).collect();
        let scaled = levels != CodeLevels::Table;
        let steps = matches!(self.shape.numbers, GroupNumbers::Steps { .. });
        let blocks = if scaled && steps { outputs * self.groups().div_ceil(self.steps()) } else { 0 };
        let unit_of = |size: f32, x: f32| f16::from_f32(size * (0.5 + 0.4 * x) / 127.0).to_f32();
        let row_scale = |x: &f32| RowScale { scale: 0.005 + 0.01 * x.abs(), zero: ((x + 1.0) * 127.9) as i32 };
        let zero = |x: &f32| f16::from_f32((x + 1.0) / 2.0 * top);
        let x: Vec<bf16> = unit(rows * (channels + gap)).into_iter().map(bf16::from_f32).collect();
        let (rows_in_blocks, blocked) = if self.blocks { in_blocks(channels, gap, &x) } else { Default::default() };
        Numbers {
            rows: rows_in_blocks,
            blocked,
            codes,
            scales: self.stored(0.03, &unit(if scaled { count } else { 0 })),
            zeros: unit(if levels == CodeLevels::Zeros { count } else { 0 }).iter().map(zero).collect(),
            minima: self.stored(0.1, &unit(if levels == CodeLevels::Minima { count } else { 0 })),
            units: unit(blocks).iter().map(|&x| [unit_of(0.03, x), unit_of(0.1, -x)]).collect(),
            table: unit(if scaled { 0 } else { 1 << bits }),
            bias: unit(outputs),
            x,
            bytes: unit(rows * (channels + gap)).iter().map(|x| ((x + 1.0) * 127.9) as u8).collect(),
            row_scales: unit(rows).iter().map(row_scale).collect(),
            residual: unit(rows * (self.shape.columns() + gap)).into_iter().map(bf16::from_f32).collect(),
        }
    }

    /// A weight, and a bound of what kernels add up to it.
    fn weight(&self, numbers: &Numbers, output: usize, channel: usize) -> (f64, f64) {
        let code = numbers.codes[output * self.shape.channels + channel];
        if self.shape.levels == CodeLevels::Table {
            let value = f64::from(numbers.table[usize::from(code)]);
            return (value, value.abs());
        }
        let at = output * self.groups() + channel / self.shape.group;
        let centre = f64::from(1_u16 << (self.shape.bits - 1));
        let symmetric = if self.shape.bits == 2 { 1.5 } else { centre };
        let zero = numbers.zeros.get(at).map_or(symmetric, |zero| zero.to_f64());
        let block = channel / self.shape.group / self.steps();
        let block = output * self.groups().div_ceil(self.steps()) + block;
        let units = numbers.units.get(block).map_or([1.0; 2], |units| units.map(f64::from));
        let (scale, code) = (units[0] * f64::from(numbers.scales[at]), f64::from(code));
        if self.shape.levels == CodeLevels::Minima {
            let minimum = units[1] * f64::from(numbers.minima[at]);
            return (scale * code + minimum, scale.abs() * ((code - centre).abs() + centre) + minimum.abs());
        }
        (scale * (code - zero), scale.abs() * ((code - centre).abs() + (zero - centre).abs()))
    }

    /// The sum for an output, with its bias, and the error that it may have.
    fn sum(&self, numbers: &Numbers, row: usize, output: usize) -> (f64, f64) {
        let channels = self.shape.channels;
        let bias = if self.bias { f64::from(numbers.bias[output]) } else { 0.0 };
        let (mut value, mut magnitude, mut rounded) = (bias, bias.abs(), 0.0);
        for channel in 0..channels {
            let at = row * (channels + self.gap) + channel;
            let (mut x, mut most) = (numbers.x[at].to_f64(), numbers.x[at].to_f64().abs());
            if self.blocks {
                x = numbers.blocked[row * channels + channel];
                most = x.abs();
            }
            if self.codes {
                let RowScale { scale, zero } = numbers.row_scales[row];
                let (scale, code) = (f64::from(scale), f64::from(numbers.bytes[at]));
                (x, most) = (scale * (code - f64::from(zero)), scale * (code + f64::from(zero)));
            }
            let (weight, bound) = self.weight(numbers, output, channel);
            value += x * weight;
            magnitude += most * bound;
            rounded += (x * weight).abs();
        }
        let brain =
            if self.brain && !self.codes && !self.blocks && self.rows > FEW_ROWS { rounded / 256.0 } else { 0.0 };
        (value, f64::from(f32::EPSILON) * (channels as f64 + 16.0) * magnitude + brain)
    }

    fn wanted(&self, numbers: &Numbers, row: usize, column: usize) -> (f64, f64) {
        let columns = self.shape.columns();
        let relu = |(value, error): (f64, f64)| if self.relu { (value.max(0.0), error) } else { (value, error) };
        let (value, error) = if self.shape.glu {
            let (a, b) = (self.sum(numbers, row, column), relu(self.sum(numbers, row, columns + column)));
            (a.0 * b.0, a.0.abs() * b.1 + b.0.abs() * a.1 + a.1 * b.1)
        } else {
            relu(self.sum(numbers, row, column))
        };
        let residual = numbers.residual[row * (columns + self.gap) + column].to_f64();
        let value = value + if self.residual { residual } else { 0.0 };
        (value, error + 1e-6 * (value.abs() + 1.0))
    }

    /// Each row alone is what it is among others, bit by bit.
    fn check_alone(&self, cpu: &Cpu, problem: &CodedProblem<'_>, got: &[f32]) {
        let Input::Blocks(rows) = problem.input else { return };
        let (columns, stride) = (self.shape.columns(), self.shape.columns() + self.gap);
        for row in 0..self.rows.min(3) {
            let mut out = vec![0.0; stride];
            let alone = CodedProblem {
                rows: 1,
                input: Input::Blocks(&rows[row * problem.input_stride..][..problem.input_stride]),
                epilogue: Epilogue {
                    residual: problem.epilogue.residual.map(|residual| residual.slice(row * stride, stride)),
                    ..problem.epilogue
                },
                ..*problem
            };
            gemm_coded(cpu, &alone, Output::F32(&mut out));
            let same = (0..columns).all(|column| out[column].to_bits() == got[row * stride + column].to_bits());
            assert!(same, "row {row} alone, {}: {self:?}", cpu.tier());
        }
    }

    /// Some columns alone are what they are among all, bit by bit.
    fn check_columns(&self, cpus: &[Cpu; 3], problem: &CodedProblem<'_>, all: &[f32]) {
        let mut random = Random(!self.seed);
        let (count, stride) = (self.shape.columns(), problem.out_stride);
        for one_in in [2, 40] {
            let columns = some_columns(&mut random, count, one_in);
            for cpu in cpus {
                let mut some = vec![UNTOUCHED; all.len()];
                gemm_coded_columns(cpu, problem, &columns, Output::F32(&mut some));
                let case = format!("{columns:?}, {}: {self:?}", cpu.tier());
                check_some(&some, all, [stride, count, cpu.tile().width], &columns, &case);
            }
        }
    }

    /// Every row read back is what its codes stand for.
    fn check_rows(&self, cpu: &Cpu, packed: &[u8], numbers: &Numbers) {
        let CodedShape { outputs, channels, .. } = self.shape;
        for row in 0..outputs {
            let mut out = vec![f32::NAN; channels];
            coded_row(cpu, &self.shape, packed, row, &mut out);
            for (channel, &got) in out.iter().enumerate() {
                let (want, size) = self.weight(numbers, row, channel);
                let off = (f64::from(got) - want).abs();
                assert!(off <= 2.0 * f64::from(f32::EPSILON) * size, "{got} for {want}, {}: {self:?}", cpu.tier());
            }
        }
    }

    fn check(&self) {
        let numbers = self.numbers();
        let (columns, shape) = (self.shape.columns(), self.shape);
        let wide = |values: &[bf16]| values.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        let (x, residual) = (wide(&numbers.x), wide(&numbers.residual));
        let Numbers { codes, scales, zeros, minima, units, table, .. } = &numbers;
        for cpus in tiers() {
            let cpu = &cpus[0];
            let mut packed = Aligned::new(shape.packed_size(cpu));
            pack_coded(cpu, &shape, &CodedSource { codes, scales, zeros, minima, units, table }, packed.get_mut());
            if !shape.glu {
                self.check_rows(cpu, packed.get(), &numbers);
            }
            let residual = if self.brain { Values::Bf16(&numbers.residual) } else { Values::F32(&residual) };
            let problem = CodedProblem {
                rows: self.rows,
                input: match (self.codes, self.brain) {
                    _ if self.blocks => Input::Blocks(&numbers.rows),
                    (true, _) => Input::U8 { values: &numbers.bytes, scales: &numbers.row_scales },
                    (false, true) => Input::Bf16(&numbers.x),
                    (false, false) => Input::F32(&x),
                },
                input_stride: if self.blocks { blocked_row_len(shape.channels) } else { shape.channels + self.gap },
                shape,
                weights: packed.get(),
                epilogue: Epilogue {
                    bias: self.bias.then_some(&numbers.bias),
                    rounded: None,
                    activation: if self.relu { Activation::Relu } else { Activation::None },
                    residual: self.residual.then_some(residual),
                    residual_stride: columns + self.gap,
                },
                out_stride: columns + self.gap,
            };
            let run = |threads: usize| {
                let mut out = vec![-7.0; self.rows * (columns + self.gap)];
                gemm_coded(&cpus[threads - 1], &problem, Output::F32(&mut out));
                out
            };
            let got = run(1);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for threads in [2, 3] {
                assert!(bits(&got) == bits(&run(threads)), "{threads} threads, {}: {self:?}", cpu.tier());
            }
            if self.blocks {
                self.check_alone(cpu, &problem, &got);
            }
            if !shape.glu {
                self.check_columns(&cpus, &problem, &got);
            }
            for (row, got) in got.chunks(columns + self.gap).enumerate() {
                for (column, &got) in got[..columns].iter().enumerate() {
                    let (want, error) = self.wanted(&numbers, row, column);
                    let off = (f64::from(got) - want).abs();
                    assert!(off <= error, "{got} for {want} at {row}, {column}, {}: {self:?}", cpu.tier());
                }
                assert!(got[columns..].iter().all(|&x| x == -7.0), "row {row} overwritten, {}", cpu.tier());
            }
        }
    }
}

/// Rows in blocks of the first `channels` of each row of `x`, and what they stand for.
fn in_blocks(channels: usize, gap: usize, x: &[bf16]) -> (Vec<u8>, Vec<f64>) {
    let x: Vec<f32> = x.chunks(channels + gap).flat_map(|row| &row[..channels]).map(|x| x.to_f32()).collect();
    let len = blocked_row_len(channels);
    let mut rows = vec![0; x.len() / channels * len];
    let cpus = tiers().next().expect("a tier that every processor has");
    quantize_blocks(&cpus[0], channels, &x, &mut rows);
    let mut numbers = Vec::with_capacity(x.len());
    for row in rows.chunks(len) {
        let scales = row[channels..].as_chunks().0.iter().map(|&bytes| f64::from(f32::from_ne_bytes(bytes)));
        let blocks = row[..channels].chunks(BLOCK).zip(scales);
        numbers.extend(blocks.flat_map(|(codes, scale)| codes.iter().map(move |&x| f64::from(x as i8) * scale)));
    }
    (rows, numbers)
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..9, proptest::sample::select(vec![15, 16, 17, 31, 33, 63, 64, 65, 97, 130])]
}

fn case() -> impl Strategy<Value = Case> {
    let coding = prop_oneof![
        (
            proptest::sample::select(vec![2_u32, 4, 6, 8]),
            proptest::sample::select(vec![CodeLevels::Symmetric, CodeLevels::Zeros, CodeLevels::Minima])
        ),
        proptest::sample::select(vec![2_u32, 4]).prop_map(|bits| (bits, CodeLevels::Table)),
    ];
    let group = prop_oneof![Just(usize::MAX), size()];
    let rows = prop_oneof![3 => 1_usize..10, 1 => proptest::sample::select(vec![13, 33, 195])];
    let numbers = prop_oneof![
        Just(GroupNumbers::F16),
        Just(GroupNumbers::F32),
        proptest::sample::select(vec![1, 2, 8, 16]).prop_map(|groups| GroupNumbers::Steps { groups })
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), numbers, any::<bool>());
    // Long rows take several steps when they are unpacked.
    let channels = prop_oneof![8 => size(), 1 => proptest::sample::select(vec![600_usize, 1100, 2050])];
    (coding, group, channels, size(), rows, flags, 0_usize..4, any::<u64>()).prop_map(
        |(
            (bits, levels),
            group,
            channels,
            outputs,
            rows,
            (glu, brain, bias, residual, relu, numbers, codes),
            gap,
            seed,
        )| {
            let (outputs, group) = (if glu { 2 * outputs } else { outputs }, group.min(channels));
            let group = if levels == CodeLevels::Table { channels } else { group };
            let shape = CodedShape { outputs, channels, bits, group, levels, numbers, glu };
            let codes = codes && shape.multiplies_codes();
            Case { shape, rows, brain, bias, residual, relu, codes, blocks: false, gap, seed }
        },
    )
}

/// Cases whose rows are in blocks.
fn blocked_case() -> impl Strategy<Value = Case> {
    let group = proptest::sample::select(vec![HALF_BLOCK, BLOCK, 2 * BLOCK, 4 * BLOCK, usize::MAX]);
    let blocks = prop_oneof![8 => 1_usize..9, 1 => proptest::sample::select(vec![33_usize, 70])];
    (case(), group, blocks).prop_filter_map("a table", |(mut case, group, blocks)| {
        case.shape.channels = blocks * BLOCK;
        case.shape.group = group.min(case.shape.channels);
        (case.codes, case.blocks) = (false, true);
        case.shape.multiplies_blocks().then_some(case)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_with_codes_are_right(case in case()) {
        case.check();
    }

    #[test]
    fn products_with_rows_in_blocks_are_right(case in blocked_case()) {
        case.check();
    }
}
