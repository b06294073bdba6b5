//! Memory bandwidth of row-wise operations, beside that of a plain copy.
//!
//! `cargo bench -p ondine-kernels --bench rowwise -- [THREADS [PART OF A NAME]]`

use std::time::{Duration, Instant};

use half::bf16;
use ondine_kernels::{Activation, Binary, Cpu, Float, GroupNorm, Strided, Unary};

const SHAPE: [usize; 3] = [1, 4096, 320];
const ELEMENTS: usize = SHAPE[1] * SHAPE[2];

/// Prints the bytes moved in a second, by the fastest of the calls made in a fifth of a second.
fn report(name: &str, bytes: usize, mut call: impl FnMut()) {
    if arguments().nth(1).is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(200) {
        let call_start = Instant::now();
        call();
        best = best.min(call_start.elapsed());
    }
    println!("{name:24} {:7.1} us {:6.1} GB/s", best.as_secs_f64() * 1e6, bytes as f64 / best.as_secs_f64() / 1e9);
}

fn element_type<T: Float + From<bf16>>(name: &str, cpu: &Cpu) {
    let x: Vec<T> = (0..ELEMENTS).map(|i| bf16::from_f32((i % 1013) as f32 / 300.0 - 1.5).into()).collect();
    let mut out = x.clone();
    let bytes = 2 * size_of_val(x.as_slice());
    let [_, spatial, channels] = SHAPE;
    let (weight, bias) = (vec![1.5; channels], vec![0.25; channels]);
    for (label, activation) in [("group_norm", Activation::None), ("group_norm+silu", Activation::Silu)] {
        let norm =
            GroupNorm { spatial, groups: 32, eps: 1e-5, weight: &weight, bias: &bias, modulation: None, activation };
        report(&format!("{label} {name}"), bytes, || ondine_kernels::group_norm(cpu, &norm, &x, &mut out));
    }
    report(&format!("layer_norm {name}"), bytes, || {
        ondine_kernels::layer_norm(cpu, 1e-5, &weight, &bias, &x, &mut out);
    });
    report(&format!("rms_norm {name}"), bytes, || {
        ondine_kernels::rms_norm(cpu, 1e-5, &weight, &x, &mut out);
    });
    let mut blocks = vec![0; spatial * ondine_kernels::blocked_row_len(channels)];
    let read = bytes / 2 + blocks.len();
    report(&format!("quantize_blocks {name}"), read, || {
        ondine_kernels::quantize_blocks(cpu, channels, &x, &mut blocks);
    });
    report(&format!("softmax {name}"), bytes, || ondine_kernels::softmax(cpu, channels, &x, &mut out));
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        let op = Unary::Activation(activation);
        report(&format!("{activation:?} {name}"), bytes, || {
            ondine_kernels::unary(cpu, op, &x, &mut out);
        });
    }
    let whole = Strided { data: &x, strides: &[1] };
    report(&format!("add {name}"), bytes / 2 * 3, || {
        ondine_kernels::binary(cpu, Binary::Add, &[ELEMENTS], whole, whole, &mut out);
    });
    let rows = Strided { data: &x, strides: &[channels, 1] };
    let row = Strided { data: &x, strides: &[0, 1] };
    report(&format!("add row {name}"), bytes, || {
        ondine_kernels::binary(cpu, Binary::Add, &[spatial, channels], rows, row, &mut out);
    });
    report(&format!("glu {name}"), bytes / 4 * 3, || {
        let out = &mut out[..ELEMENTS / 2];
        ondine_kernels::glu(cpu, Activation::Gelu, channels / 2, &x, out);
    });
    let mut quantized = vec![0; ELEMENTS];
    let mut scales = vec![ondine_kernels::RowScale::default(); spatial];
    report(&format!("quantize_rows {name}"), bytes / 2 + ELEMENTS, || {
        ondine_kernels::quantize_rows(cpu, channels, &x, &mut quantized, &mut scales);
    });
}

fn moves(cpu: &Cpu) {
    let x = vec![1_u8; ELEMENTS * 4];
    let mut out = x.clone();
    report("memcpy, 1 thread", 2 * x.len(), || out.copy_from_slice(&x));
    report("memcpy, all threads", 2 * x.len(), || {
        ondine_kernels::expand(cpu.pool(), 4, &[ELEMENTS], &[ELEMENTS], &x, &mut out);
    });
    for size in [4, 2, 1] {
        let bytes = ELEMENTS * size;
        let [batch, spatial, channels] = SHAPE;
        report(&format!("NCHW -> NHWC, {size} bytes"), 2 * bytes, || {
            let shape = [batch, channels, spatial];
            ondine_kernels::permute(cpu.pool(), size, &shape, &[0, 2, 1], &x[..bytes], &mut out[..bytes]);
        });
        report(&format!("NHWC -> NCHW, {size} bytes"), 2 * bytes, || {
            ondine_kernels::permute(cpu.pool(), size, &SHAPE, &[0, 2, 1], &x[..bytes], &mut out[..bytes]);
        });
    }
    let floats = vec![0.7_f32; ELEMENTS];
    let mut halves = vec![half::f16::ZERO; ELEMENTS];
    let mut back = floats.clone();
    report("f32 -> f16", ELEMENTS * 6, || ondine_kernels::convert(cpu, &floats, &mut halves));
    report("f16 -> f32", ELEMENTS * 6, || ondine_kernels::convert(cpu, &halves, &mut back));
    let mut brains = vec![bf16::ZERO; ELEMENTS];
    report("f32 -> bf16", ELEMENTS * 6, || ondine_kernels::convert(cpu, &floats, &mut brains));
    report("bf16 -> f32", ELEMENTS * 6, || ondine_kernels::convert(cpu, &brains, &mut back));
}

/// The arguments that are ours: cargo adds flags of its own.
fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with("--"))
}

fn main() {
    let threads = arguments().next().and_then(|threads| threads.parse().ok()).unwrap_or(2);
    let cpu = Cpu::new(threads).unwrap_or_else(|error| panic!("{error}"));
    for cpu in cpu.tiers() {
        println!("\n{} with {threads} threads", cpu.tier());
        moves(&cpu);
        element_type::<f32>("f32", &cpu);
        element_type::<bf16>("bf16", &cpu);
    }
}
