//! The main kernels on small shapes, on one thread, to have their instructions counted by `cargo xtask instructions`.
//!
//! `--list` prints the names of the kernels, `--path` where this program is. Otherwise the kernel named by `--only`
//! runs, or all in the order of the list, `--repeat` times each; every run is one call of [`counted`]. The tier is that
//! of
//! `ONDINE_CPU`.

use std::{env, hint::black_box, process::ExitCode};

use half::{bf16, f16};
use ondine_kernels::{
    Activation, AttentionMask, AttentionShape, CodeLevels, CodedProblem, CodedShape, CodedSource, ConvProblem,
    ConvShape, Cpu, Epilogue, Float, GroupNorm, GroupNumbers, Input, Output, PACKED_ALIGN, PackedWeights,
    RecurrentCell, RecurrentProblem, RecurrentShape, RecurrentWeights, RowScale, Values, WeightSource, WeightType,
    WinogradProblem, attention, attention_scratch_bytes, conv2d, gemm_coded, group_norm, layer_norm, pack, pack_coded,
    pack_winograd, quantize_rows, recurrent, softmax, winograd, winograd_scratch_bytes,
};

/// A call of a kernel, its operands made.
type Call = Box<dyn FnMut()>;

/// The name of a kernel, and what makes its operands.
type Entry = (&'static str, fn(&'static Cpu) -> Call);

/// Every kernel by name.
const KERNELS: &[Entry] = &[
    ("gemm_f32", |cpu| convolution(cpu, WeightType::F32, 1)),
    ("gemm_bf16", |cpu| convolution(cpu, WeightType::Bf16, 1)),
    ("gemm_s8", |cpu| convolution(cpu, WeightType::S8, 1)),
    ("conv_f32", |cpu| convolution(cpu, WeightType::F32, 3)),
    ("conv_bf16", |cpu| convolution(cpu, WeightType::Bf16, 3)),
    ("conv_s8", |cpu| convolution(cpu, WeightType::S8, 3)),
    ("winograd_f32", |cpu| winograds(cpu, WeightType::F32)),
    ("winograd_bf16", |cpu| winograds(cpu, WeightType::Bf16)),
    ("winograd_s8", |cpu| winograds(cpu, WeightType::S8)),
    ("attention_f32", |cpu| attentions(cpu, WeightType::F32)),
    ("attention_bf16", |cpu| attentions(cpu, WeightType::Bf16)),
    ("coded_one_row", |cpu| coded(cpu, 1)),
    ("coded_many_rows", |cpu| coded(cpu, SIDE * SIDE)),
    ("depthwise_f32", depthwise),
    ("lstm_f32", lstm),
    ("group_norm_f32", group_norms::<f32>),
    ("group_norm_bf16", group_norms::<bf16>),
    ("layer_norm_f32", layer_norms::<f32>),
    ("layer_norm_bf16", layer_norms::<bf16>),
    ("softmax_f32", softmaxes::<f32>),
    ("softmax_bf16", softmaxes::<bf16>),
    ("quantize_f32", quantizations::<f32>),
    ("quantize_bf16", quantizations::<bf16>),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let after = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|i| arguments.get(i + 1));
    if has("--path") {
        println!("{}", arguments[0]);
        return ExitCode::SUCCESS;
    }
    if has("--list") {
        KERNELS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let cpu = match Cpu::new(1) {
        Ok(cpu) => &*Box::leak(Box::new(cpu)),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    let repeat = after("--repeat").and_then(|n| n.parse().ok()).unwrap_or(1);
    for (name, prepare) in KERNELS {
        if after("--only").is_none_or(|only| only == name) {
            let mut call = prepare(cpu);
            // What is made at the first call of all, such as the memory of a thread, is not counted.
            call();
            (0..repeat).for_each(|_| counted(&mut call));
        }
    }
    ExitCode::SUCCESS
}

/// What is counted.
#[inline(never)]
fn counted(call: &mut Call) {
    call();
    black_box(call);
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0).collect()
}

fn elements<T: Float + From<bf16>>(count: usize) -> Vec<T> {
    numbers(count).into_iter().map(|x| bf16::from_f32(x).into()).collect()
}

/// Bytes that begin where packed weights may.
fn aligned(size: usize) -> &'static mut [u8] {
    let bytes = vec![0; size + PACKED_ALIGN].leak();
    let skip = bytes.as_ptr().align_offset(PACKED_ALIGN);
    &mut bytes[skip..][..size]
}

/// The elements of one tensor in every type.
struct Tensor {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    u8: Vec<u8>,
}

impl Tensor {
    fn new(count: usize) -> Self {
        let f32 = numbers(count);
        let bf16 = f32.iter().map(|&x| bf16::from_f32(x)).collect();
        let u8 = f32.iter().map(|x| (x * 100.0 + 120.0) as u8).collect();
        Self { f32, bf16, u8 }
    }

    fn input(&self, dtype: WeightType) -> Input<'_> {
        match dtype {
            WeightType::F32 => Input::F32(&self.f32),
            WeightType::Bf16 => Input::Bf16(&self.bf16),
            WeightType::S8 => Input::U8 { values: &self.u8, scales: &[RowScale { scale: 0.01, zero: 120 }] },
        }
    }

    fn values(&self, dtype: WeightType) -> Values<'_> {
        if dtype == WeightType::F32 { Values::F32(&self.f32) } else { Values::Bf16(&self.bf16) }
    }

    /// Results of reduced types are bf16.
    fn output(&mut self, dtype: WeightType) -> Output<'_> {
        if dtype == WeightType::F32 { Output::F32(&mut self.f32) } else { Output::Bf16(&mut self.bf16) }
    }
}

/// 14x14 pixels, so that tiles and panels have tails.
const SIDE: usize = 14;
const CHANNELS: usize = 100;
const OUTPUTS: usize = 90;

fn shape(kernel: usize) -> ConvShape {
    ConvShape {
        batch: 1,
        height: SIDE,
        width: SIDE,
        channels: [CHANNELS, 0],
        outputs: OUTPUTS,
        kernel: [kernel; 2],
        stride: [1; 2],
        padding: [kernel / 2; 4],
        dilation: [1; 2],
        groups: 1,
        upsample: false,
    }
}

/// A convolution; with a kernel of 1x1 it is a product of matrices.
fn convolution(cpu: &'static Cpu, dtype: WeightType, kernel: usize) -> Call {
    let shape = shape(kernel);
    let weights = shape.weights(dtype);
    let bytes = aligned(weights.packed_size(cpu));
    pack(cpu, &weights, WeightSource::F32(&numbers(weights.elements())), bytes);
    let (bytes, bias): (&[u8], _) = (bytes, numbers(OUTPUTS));
    let (input, mut output) = (Tensor::new(SIDE * SIDE * CHANNELS), Tensor::new(SIDE * SIDE * OUTPUTS));
    Box::new(move || {
        let problem = ConvProblem {
            shape,
            inputs: &[input.input(dtype)],
            weights: PackedWeights::new(cpu, weights, bytes).into(),
            epilogue: Epilogue { bias: Some(&bias), ..Epilogue::default() },
            out_stride: OUTPUTS,
        };
        conv2d(cpu, &problem, output.output(dtype));
    })
}

fn winograds(cpu: &'static Cpu, dtype: WeightType) -> Call {
    let shape = shape(3);
    let weights = shape.winograd(dtype).expect("this shape is one for Winograd's algorithm");
    let bytes = aligned(weights.packed_size(cpu));
    pack_winograd(cpu, &weights, &numbers(OUTPUTS * CHANNELS * 9), bytes);
    let (bytes, bias): (&[u8], _) = (bytes, numbers(OUTPUTS));
    let (input, mut output) = (Tensor::new(SIDE * SIDE * CHANNELS), Tensor::new(SIDE * SIDE * OUTPUTS));
    let mut scratch = vec![0; winograd_scratch_bytes(cpu, &shape, dtype)];
    Box::new(move || {
        let problem = WinogradProblem {
            shape,
            input: input.values(dtype),
            dtype,
            weights: bytes,
            epilogue: Epilogue { bias: Some(&bias), ..Epilogue::default() },
            out_stride: OUTPUTS,
        };
        winograd(cpu, &problem, output.output(dtype), &mut scratch);
    })
}

/// A product with weights of 4 bits: of one row, which reads codes, or of many, for which they are unpacked.
fn coded(cpu: &'static Cpu, rows: usize) -> Call {
    const GROUP: usize = 32;
    let shape = CodedShape {
        outputs: OUTPUTS,
        channels: CHANNELS,
        bits: 4,
        group: GROUP,
        levels: CodeLevels::Zeros,
        numbers: GroupNumbers::F16,
        glu: false,
    };
    let codes: Vec<u8> = (0..OUTPUTS * CHANNELS).map(|i| (i * 7 % 16) as u8).collect();
    let groups = OUTPUTS * CHANNELS.div_ceil(GROUP);
    let (scales, zeros) = (vec![0.25; groups], vec![f16::from_f32(0.25); groups]);
    let bytes = aligned(shape.packed_size(cpu));
    pack_coded(
        cpu,
        &shape,
        &CodedSource { codes: &codes, scales: &scales, zeros: &zeros, minima: &[], table: &[], units: &[] },
        bytes,
    );
    let (weights, x, mut out): (&[u8], _, _) = (bytes, numbers(rows * CHANNELS), vec![0.0; rows * OUTPUTS]);
    Box::new(move || {
        let problem = CodedProblem {
            rows,
            input: Input::F32(&x),
            input_stride: CHANNELS,
            shape,
            weights,
            epilogue: Epilogue::default(),
            out_stride: OUTPUTS,
        };
        gemm_coded(cpu, &problem, Output::F32(&mut out));
    })
}

/// A convolution in which each output sees one channel.
fn depthwise(cpu: &'static Cpu) -> Call {
    let shape = ConvShape { outputs: CHANNELS, groups: CHANNELS, ..shape(3) };
    let weights = shape.weights(WeightType::F32);
    let bytes = aligned(weights.packed_size(cpu));
    pack(cpu, &weights, WeightSource::F32(&numbers(weights.elements())), bytes);
    let (bytes, x, mut out): (&[u8], _, _) =
        (bytes, numbers(SIDE * SIDE * CHANNELS), vec![0.0; SIDE * SIDE * CHANNELS]);
    Box::new(move || {
        let problem = ConvProblem {
            shape,
            inputs: &[Input::F32(&x)],
            weights: PackedWeights::new(cpu, weights, bytes).into(),
            epilogue: Epilogue { activation: Activation::Relu6, ..Epilogue::default() },
            out_stride: CHANNELS,
        };
        conv2d(cpu, &problem, Output::F32(&mut out));
    })
}

fn lstm(cpu: &'static Cpu) -> Call {
    let shape = RecurrentShape { cell: RecurrentCell::Lstm, reverse: false, steps: 5, batch: 3, hidden: CHANNELS };
    let (gates, carried) = (4 * CHANNELS, 2 * CHANNELS);
    let weights = shape.weights();
    let bytes = aligned(weights.packed_size(cpu));
    pack(cpu, &weights, WeightSource::F32(&numbers(weights.elements())), bytes);
    let bytes: &[u8] = bytes;
    let (input, bias, start) = (numbers(5 * 3 * gates), numbers(gates), numbers(3 * carried));
    let mut out = vec![0.0; 5 * 3 * carried];
    let mut scratch = vec![0; shape.scratch_bytes(cpu, true)];
    Box::new(move || {
        let weights = RecurrentWeights::Packed(PackedWeights::new(cpu, weights, bytes));
        let problem = RecurrentProblem { shape, input: &input, weights, bias: &bias, start: &start };
        recurrent(cpu, &problem, &mut out, &mut scratch);
    })
}

fn attentions(cpu: &'static Cpu, dtype: WeightType) -> Call {
    const ROWS: usize = 150;
    const HEADS: usize = 2;
    const DIM: usize = 40;
    let shape = AttentionShape {
        batch: 1,
        heads: HEADS,
        kv_heads: HEADS,
        queries: ROWS,
        keys: ROWS,
        head_dim: DIM,
        value_dim: DIM,
        strides: [HEADS * DIM; 3],
        out_stride: HEADS * DIM,
        scale: 0.16,
        causal: false,
        window: None,
        eight_bit: false,
    };
    let operands = [(); 3].map(|()| Tensor::new(ROWS * HEADS * DIM));
    let mut output = Tensor::new(ROWS * HEADS * DIM);
    let mut scratch = vec![0; attention_scratch_bytes(cpu, &shape, dtype)];
    Box::new(move || {
        let [queries, keys, values] = operands.each_ref().map(|operand| operand.values(dtype));
        let cached = [keys.into(), values.into()];
        attention(cpu, &shape, queries, cached, AttentionMask::None, output.output(dtype), &mut scratch);
    })
}

/// Rows of row-wise kernels, and their width.
const ROWS: usize = 100;
const WIDTH: usize = 320;

fn group_norms<T: Float + From<bf16>>(cpu: &'static Cpu) -> Call {
    let (weight, bias) = (numbers(WIDTH), numbers(WIDTH));
    let x: Vec<T> = elements(ROWS * WIDTH);
    let mut out = x.clone();
    Box::new(move || {
        let norm = GroupNorm {
            spatial: ROWS,
            groups: 32,
            eps: 1e-5,
            weight: &weight,
            bias: &bias,
            modulation: None,
            activation: Activation::Silu,
        };
        group_norm(cpu, &norm, &x, &mut out);
    })
}

fn layer_norms<T: Float + From<bf16>>(cpu: &'static Cpu) -> Call {
    let (weight, bias) = (numbers(WIDTH), numbers(WIDTH));
    let x: Vec<T> = elements(ROWS * WIDTH);
    let mut out = x.clone();
    Box::new(move || layer_norm(cpu, 1e-5, &weight, &bias, &x, &mut out))
}

fn softmaxes<T: Float + From<bf16>>(cpu: &'static Cpu) -> Call {
    let x: Vec<T> = elements(ROWS * WIDTH);
    let mut out = x.clone();
    Box::new(move || softmax(cpu, WIDTH, &x, &mut out))
}

fn quantizations<T: Float + From<bf16>>(cpu: &'static Cpu) -> Call {
    let x: Vec<T> = elements(ROWS * WIDTH);
    let mut out = vec![0; ROWS * WIDTH];
    let mut scales = vec![RowScale::default(); ROWS];
    Box::new(move || quantize_rows(cpu, WIDTH, &x, &mut out, &mut scales))
}
