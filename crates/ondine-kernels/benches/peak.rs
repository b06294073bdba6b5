//! Speed of the matrix kernels as a fraction of what the processor can do, measured in the same run.
//!
//! `cargo bench -p ondine-kernels --bench peak [-- --threads N] [--only NAME] [--type f32|bf16|s8]`

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "the standard library has no clock of a thread"))]

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
};

use half::bf16;
use ondine_kernels::{
    AttentionMask, AttentionShape, ConvProblem, ConvShape, Cpu, Epilogue, Input, Output, PACKED_ALIGN, PackedWeights,
    RowScale, Values, WeightSource, WeightType, attention, attention_scratch_bytes, conv2d, pack, probe,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    // As a test it only has to compile.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let after = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|i| arguments.get(i + 1));
    let threads = after("--threads").and_then(|n| n.parse().ok()).unwrap_or(2);
    let only = after("--only").map_or("", String::as_str);
    let types = after("--type").map_or("f32 bf16 s8", String::as_str);
    let cpu = Cpu::new(threads).unwrap_or_else(|error| panic!("{error}"));
    println!("{} on {threads} threads; G operations per second, medians", cpu.tier());
    for (name, dtype) in [("f32", WeightType::F32), ("bf16", WeightType::Bf16), ("s8", WeightType::S8)] {
        if !types.contains(name) {
            continue;
        }
        let mut bench = Bench { cpu: &cpu, dtype, only };
        bench.run();
    }
}

/// The measurements of one element type.
struct Bench<'a> {
    cpu: &'a Cpu,
    dtype: WeightType,
    only: &'a str,
}

impl Bench<'_> {
    fn run(&mut self) {
        println!("{:?}: peak {:.0}", self.dtype, self.peak());
        for (rows, inner, outputs) in [
            (4096, 320, 320),
            (4096, 320, 2560),
            (4096, 1280, 320),
            (1024, 640, 640),
            (256, 1280, 10240),
            (256, 5120, 1280),
            (64, 1280, 1280),
            (77, 768, 3072),
            (1, 1280, 1280),
        ] {
            self.conv(&format!("linear {rows}x{inner}x{outputs}"), [rows, 1], [inner, 0], outputs, 1);
        }
        for (size, channels, outputs) in [
            (64, 320, 320),
            (32, 640, 640),
            (16, 1280, 1280),
            (8, 1280, 1280),
            (64, 4, 320),
            (64, 320, 4),
            (256, 128, 128),
            (256, 64, 64),
        ] {
            self.conv(&format!("conv 3x3 {size}x{size} {channels}->{outputs}"), [size; 2], [channels, 0], outputs, 3);
        }
        self.conv("conv 3x3 32x32 1280+640->640", [32; 2], [1280, 640], 640, 3);
        for (queries, keys, heads, dim) in [
            (4096, 4096, 8, 40),
            (1024, 1024, 8, 80),
            (256, 256, 8, 160),
            (64, 64, 8, 160),
            (4096, 77, 8, 40),
            (1024, 77, 8, 80),
            (256, 77, 8, 160),
            (4096, 4096, 10, 64),
            (1024, 1024, 20, 64),
            (1024, 77, 20, 64),
            (4096, 4096, 1, 512),
            (77, 77, 12, 64),
        ] {
            self.attention(&format!("attention {queries}x{keys} {heads}x{dim}"), queries, keys, heads, dim);
        }
    }

    fn conv(&self, name: &str, [height, width]: [usize; 2], channels: [usize; 2], outputs: usize, kernel: usize) {
        if !name.contains(self.only) {
            return;
        }
        let shape = ConvShape {
            batch: 1,
            height,
            width,
            channels,
            outputs,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 4],
            dilation: [1; 2],
            groups: 1,
            upsample: false,
        };
        let weight_shape = shape.weights(self.dtype);
        let weights = numbers(weight_shape.elements());
        let mut bytes = vec![0; weight_shape.packed_size(self.cpu) + PACKED_ALIGN];
        let skip = bytes.as_ptr().align_offset(PACKED_ALIGN);
        let bytes = &mut bytes[skip..][..weight_shape.packed_size(self.cpu)];
        pack(self.cpu, &weight_shape, WeightSource::F32(&weights), bytes);
        let weights = PackedWeights::new(self.cpu, weight_shape, bytes).into();
        let pixels = height * width;
        let inputs: Vec<Vec<f32>> = channels.iter().map(|c| numbers(pixels * c)).collect();
        let brain: Vec<Vec<bf16>> = inputs.iter().map(|x| x.iter().map(|&x| bf16::from_f32(x)).collect()).collect();
        let bytes: Vec<Vec<u8>> =
            inputs.iter().map(|x| x.iter().map(|&x| (x * 100.0 + 120.0) as u8).collect()).collect();
        let scales = [RowScale { scale: 0.01, zero: 120 }];
        let count = if channels[1] == 0 { 1 } else { 2 };
        let inputs: Vec<Input<'_>> = (0..count)
            .map(|i| match self.dtype {
                WeightType::F32 => Input::F32(&inputs[i]),
                WeightType::Bf16 => Input::Bf16(&brain[i]),
                WeightType::S8 => Input::U8 { values: &bytes[i], scales: &scales },
            })
            .collect();
        let bias = numbers(outputs);
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let problem = ConvProblem { shape, inputs: &inputs, weights, epilogue, out_stride: outputs };
        let operations = 2.0 * (pixels * weight_shape.elements()) as f64;
        let (mut single, mut half) = (vec![0.0; pixels * outputs], vec![bf16::ZERO; pixels * outputs]);
        self.report(name, operations, || match self.dtype {
            WeightType::F32 => conv2d(self.cpu, &problem, Output::F32(&mut single)),
            _ => conv2d(self.cpu, &problem, Output::Bf16(&mut half)),
        });
    }

    fn attention(&self, name: &str, queries: usize, keys: usize, heads: usize, dim: usize) {
        if !name.contains(self.only) {
            return;
        }
        let width = heads * dim;
        let dtype = if self.dtype == WeightType::F32 { WeightType::F32 } else { WeightType::Bf16 };
        let shape = AttentionShape {
            batch: 1,
            heads,
            kv_heads: heads,
            queries,
            keys,
            head_dim: dim,
            value_dim: dim,
            strides: [width; 3],
            out_stride: width,
            scale: (dim as f32).powf(-0.5),
            causal: false,
            window: None,
            eight_bit: self.dtype == WeightType::S8,
        };
        let single = [queries, keys, keys].map(|rows| numbers(rows * width));
        let half = single.each_ref().map(|x| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>());
        let mut scratch = vec![0; attention_scratch_bytes(self.cpu, &shape, dtype)];
        let (mut out, mut brain) = (vec![0.0; queries * width], vec![bf16::ZERO; queries * width]);
        let operations = 4.0 * (queries * keys * width) as f64;
        self.report(name, operations, || {
            let ([queries, keys, values], out) = if self.dtype == WeightType::F32 {
                (single.each_ref().map(|x| Values::F32(x)), Output::F32(&mut out))
            } else {
                (half.each_ref().map(|x| Values::Bf16(x)), Output::Bf16(&mut brain))
            };
            let cached = [keys.into(), values.into()];
            attention(self.cpu, &shape, queries, cached, AttentionMask::None, out, &mut scratch);
        });
    }

    /// Runs `body` again and again, each time beside the probe, and prints the median speed and fraction.
    fn report(&self, name: &str, operations: f64, mut body: impl FnMut()) {
        body();
        let mut samples: Vec<(f64, f64)> = (0..7)
            .map(|_| {
                let peak = self.peak();
                let (start, mut calls) = (self.now(), 0);
                while self.now() - start < 0.02 {
                    body();
                    calls += 1;
                }
                let speed = operations * f64::from(calls) / (self.now() - start) / 1e9;
                (speed / peak, speed)
            })
            .collect();
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (fraction, speed) = samples[3];
        println!("  {name:34} {speed:7.0}  {:3.0} % of the peak", 100.0 * fraction);
    }

    /// Billions of operations per second that all threads do in registers alone.
    fn peak(&self) -> f64 {
        let threads = self.cpu.threads();
        let operations = AtomicU64::new(0);
        let start = self.now();
        self.cpu.pool().run(threads, &|_| {
            operations.fetch_add(probe::multiply(self.cpu, self.dtype, 200_000), Ordering::Relaxed);
        });
        operations.into_inner() as f64 / (self.now() - start) / 1e9
    }

    /// Seconds of wall time or, with one thread, of that thread's processor time: the machine may be busy.
    fn now(&self) -> f64 {
        #[cfg(target_os = "linux")]
        {
            let mut time = [0_i64; 2];
            let clock = if self.cpu.threads() == 1 { CLOCK_THREAD_CPUTIME_ID } else { CLOCK_MONOTONIC };
            // SAFETY: on 64-bit Linux the function writes two numbers of 64 bits.
            unsafe { clock_gettime(clock, &mut time) };
            time[0] as f64 + time[1] as f64 / 1e9
        }
        #[cfg(not(target_os = "linux"))]
        {
            static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
            START.elapsed().as_secs_f64()
        }
    }
}

#[cfg(target_os = "linux")]
const CLOCK_MONOTONIC: i32 = 1;
#[cfg(target_os = "linux")]
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn clock_gettime(clock: i32, time: &mut [i64; 2]) -> i32;
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 1001.0).collect()
}
