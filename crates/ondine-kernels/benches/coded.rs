//! Linear layers with weights in few bits, beside those with f32 and bf16: the weights of layers that no cache holds,
//! and what of the memory's bandwidth, measured in the same run, is used to read them.
//!
//! `cargo bench -p ondine-kernels --bench coded -- [THREADS] [WAY...]`: all ways, or those that are named

use std::time::Instant;

use half::{bf16, f16};
use ondine_kernels::{
    CodeLevels, CodedProblem, CodedShape, CodedSource, Cpu, Epilogue, GemmProblem, GroupNumbers, Input, Output,
    PACKED_ALIGN, PackedWeights, WeightShape, WeightSource, WeightType, blocked_row_len, gemm, gemm_coded, pack,
    pack_coded, probe, quantize_blocks,
};

const OUTPUTS: usize = 8192;
const CHANNELS: usize = 2048;
const LAYERS: usize = 12;
const ROUNDS: usize = 5;

/// A layer's packed weights.
struct Packed {
    bytes: Vec<u8>,
    first: usize,
    len: usize,
}

impl Packed {
    fn new(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = vec![0; len + PACKED_ALIGN];
        let first = bytes.as_ptr().align_offset(PACKED_ALIGN);
        fill(&mut bytes[first..][..len]);
        Self { bytes, first, len }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.first..][..self.len]
    }
}

/// One way to multiply.
enum Way {
    Plain(WeightShape),
    Coded(CodedShape),
    /// With activations of 8 bits in blocks.
    Blocks(CodedShape),
}

fn ways() -> Vec<(&'static str, Way)> {
    let plain = |dtype| Way::Plain(WeightShape::linear(dtype, OUTPUTS, CHANNELS));
    let shape = |bits, group, levels, numbers| CodedShape {
        outputs: OUTPUTS,
        channels: CHANNELS,
        bits,
        group,
        levels,
        numbers,
        glu: false,
    };
    let coded = |bits, group, levels| Way::Coded(shape(bits, group, levels, GroupNumbers::F16));
    let blocks = |bits, group, levels| Way::Blocks(shape(bits, group, levels, GroupNumbers::F16));
    // Super-blocks of 256 elements, as in K-quants.
    let steps =
        |bits, group, levels| Way::Blocks(shape(bits, group, levels, GroupNumbers::Steps { groups: 256 / group }));
    vec![
        ("f32", plain(WeightType::F32)),
        ("bf16", plain(WeightType::Bf16)),
        ("int8", coded(8, CHANNELS, CodeLevels::Zeros)),
        ("int4/64", coded(4, 64, CodeLevels::Zeros)),
        ("int4/32s", coded(4, 32, CodeLevels::Symmetric)),
        ("int2/32", coded(2, 32, CodeLevels::Zeros)),
        ("palette4", coded(4, CHANNELS, CodeLevels::Table)),
        ("a8 int8/32s", blocks(8, 32, CodeLevels::Symmetric)),
        ("a8 int4/32s", blocks(4, 32, CodeLevels::Symmetric)),
        ("a8 int4/32m", blocks(4, 32, CodeLevels::Minima)),
        ("a8 int2/16m", blocks(2, 16, CodeLevels::Minima)),
        ("a8 Q2_K", steps(2, 16, CodeLevels::Minima)),
        ("a8 Q4_K", steps(4, 32, CodeLevels::Minima)),
        ("a8 Q5_K", steps(6, 32, CodeLevels::Minima)),
        ("a8 Q6_K", steps(6, 16, CodeLevels::Symmetric)),
    ]
}

fn packed(cpu: &Cpu, way: &Way) -> Packed {
    match way {
        Way::Plain(shape) => Packed::new(shape.packed_size(cpu), |out| {
            let values: Vec<f32> = (0..OUTPUTS * CHANNELS).map(|i| (i % 1013) as f32 / 5000.0 - 0.1).collect();
            pack(cpu, shape, WeightSource::F32(&values), out);
        }),
        Way::Coded(shape) | Way::Blocks(shape) => Packed::new(shape.packed_size(cpu), |out| {
            let codes: Vec<u8> =
                (0..OUTPUTS * CHANNELS).map(|i| (i % 1013) as u8 & ((1 << shape.bits) - 1) as u8).collect();
            let numbers = OUTPUTS * CHANNELS.div_ceil(shape.group);
            let count = |levels: &[CodeLevels]| if levels.contains(&shape.levels) { numbers } else { 0 };
            let scales = vec![0.01_f32; count(&[CodeLevels::Zeros, CodeLevels::Symmetric, CodeLevels::Minima])];
            let zeros = vec![f16::from_f32(1.0); count(&[CodeLevels::Zeros])];
            let units = match shape.numbers {
                GroupNumbers::Steps { groups } => vec![[0.01, 0.02]; numbers / groups],
                GroupNumbers::F16 | GroupNumbers::F32 => Vec::new(),
            };
            let minima = vec![-0.1; count(&[CodeLevels::Minima])];
            let table = if shape.levels == CodeLevels::Table { vec![0.1; 1 << shape.bits] } else { Vec::new() };
            let source = CodedSource {
                codes: &codes,
                scales: &scales,
                zeros: &zeros,
                minima: &minima,
                table: &table,
                units: &units,
            };
            pack_coded(cpu, shape, &source, out);
        }),
    }
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let cpu = Cpu::new(threads).unwrap_or_else(|error| panic!("{error}"));
    let named: Vec<String> = std::env::args().skip(1).collect();
    let all = ways();
    let is_named = |name: &str| named.iter().any(|argument| argument == name);
    let some = all.iter().any(|(name, _)| is_named(name));
    let ways: Vec<_> = all.into_iter().filter(|(name, _)| !some || is_named(name)).collect();
    let weights: Vec<Vec<Packed>> =
        ways.iter().map(|(_, way)| (0..LAYERS).map(|_| packed(&cpu, way)).collect()).collect();
    let (tier, bandwidth) = (cpu.tier(), probe::read_bandwidth(&cpu));
    println!("{tier} {threads} threads, {LAYERS} layers of {OUTPUTS} x {CHANNELS}; ms of a median round, x of f32,");
    println!("% of {:.1} GB/s, GFLOP/s", bandwidth / 1e9);
    for rows in [1, 2, 4, 8, 16, 64, 512] {
        let x: Vec<f32> = (0..rows * CHANNELS).map(|i| (i % 331) as f32 / 331.0 - 0.5).collect();
        let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let mut blocks = vec![0; rows * blocked_row_len(CHANNELS)];
        quantize_blocks(&cpu, CHANNELS, &x, &mut blocks);
        let mut out = vec![0.0; rows * OUTPUTS];
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (((_, way), weights), times) in ways.iter().zip(&weights).zip(&mut times) {
                let start = Instant::now();
                for layer in weights {
                    run(&cpu, way, layer.get(), (rows, &x, &brain, &blocks), &mut out);
                }
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let medians: Vec<f64> = times.iter_mut().map(median).collect();
        println!("{rows} rows:");
        for (((name, _), weights), ms) in ways.iter().zip(&weights).zip(&medians) {
            let bytes: usize = weights.iter().map(|layer| layer.len).sum();
            let read = bytes as f64 / (ms / 1e3) / bandwidth * 100.0;
            let flops = (2 * LAYERS * OUTPUTS * CHANNELS * rows) as f64 / (ms / 1e3) / 1e9;
            println!("  {name:12} {ms:8.2} ms  {:5.2}x  {read:5.1} %  {flops:7.1}", medians[0] / ms);
        }
    }
}

fn run(
    cpu: &Cpu,
    way: &Way,
    weights: &[u8],
    (rows, x, brain, blocks): (usize, &[f32], &[bf16], &[u8]),
    out: &mut [f32],
) {
    let epilogue = Epilogue::default();
    match way {
        Way::Plain(shape) => {
            let input = if shape.dtype == WeightType::Bf16 { Input::Bf16(brain) } else { Input::F32(x) };
            let weights = PackedWeights::new(cpu, *shape, weights);
            let problem = GemmProblem { rows, input, input_stride: CHANNELS, weights, epilogue, out_stride: OUTPUTS };
            gemm(cpu, &problem, Output::F32(out));
        }
        Way::Coded(shape) | Way::Blocks(shape) => {
            let (input, input_stride) = match way {
                Way::Blocks(_) => (Input::Blocks(blocks), blocked_row_len(CHANNELS)),
                _ => (Input::F32(x), CHANNELS),
            };
            let problem =
                CodedProblem { rows, input, input_stride, shape: *shape, weights, epilogue, out_stride: OUTPUTS };
            gemm_coded(cpu, &problem, Output::F32(out));
        }
    }
}
