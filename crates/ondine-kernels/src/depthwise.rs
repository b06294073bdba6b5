//! Convolutions in which each output sees one channel: no sums over channels, so no matrix product.
//!
//! Pixels of a row of the result lie a constant distance apart in the input wherever all taps meet it, so the
//! addresses of one pixel serve for several; only at the left and right border each pixel has taps of its own.

use std::ops::Range;

use half::bf16;

use crate::{
    arch::{
        dot::{MAX_WIDTH, WeightType},
        enter::RawKernel,
        half::bf16_value,
        isa::Isa,
        vector::Vector,
    },
    cpu::Cpu,
    gemm::{
        epilogue::{EpilogueCall, Source, Target, load, store},
        operand::{Epilogue, Input},
        rows::{Rows, Table},
        weights::PackedWeights,
    },
    grid::Rounded,
    math::{Activation, activate_lanes},
    pixels::Pixels,
    quant::RowScale,
};

/// Pixels whose sums are in registers at once: for two vectors of columns, and for one.
const BLOCK_PIXELS: [usize; 2] = [4, 8];

/// Bytes of the input under a block of pixels, at most: it stays in the first-level cache for the next block.
const BLOCK_BYTES: usize = 24 << 10;

/// Pieces of work per thread, about.
const TASKS_PER_THREAD: usize = 4;

/// A convolution in which each output sees one channel.
pub(crate) struct Depthwise<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) source: Pixels<'a>,
    pub(crate) weights: PackedWeights<'a>,
    pub(crate) epilogue: &'a Epilogue<'a>,
    pub(crate) out: Target,
    pub(crate) out_stride: usize,
}

// SAFETY: the addresses are those of slices that the caller of the convolution holds, and no two tasks write the same
// elements.
unsafe impl Sync for Depthwise<'_> {}

/// Memory of a task.
struct Scratch {
    pointers: Vec<*const u8>,
    taps: Vec<Tap>,
}

impl Depthwise<'_> {
    /// Computes `rows` pixels.
    ///
    /// # Safety
    /// The source is made of `input`, with the channels of the weights; residual and output hold the rows, and nobody
    /// else uses the output meanwhile.
    pub(crate) unsafe fn run(&self, rows: usize, input: Input<'_>) {
        let shape = self.weights.shape();
        let (outputs, taps) = (shape.outputs, shape.taps);
        let pool = self.cpu.pool().for_work(rows * outputs * taps);
        let (width, scales) = (self.source.out_size[1].max(1), input.scales(rows));
        let lines = rows / width;
        let tiles = outputs.div_ceil(MAX_WIDTH);
        // Tiles of about the same width: none is narrower than a vector unless there are so few outputs.
        let tile = outputs.div_ceil(tiles.max(1)).max(1);
        let shares = (TASKS_PER_THREAD * pool.threads()).div_ceil(lines.max(1)).min(tiles);
        let vectors = shape.outputs == shape.groups;
        let block = (BLOCK_BYTES / self.source.bytes_under(BLOCK_PIXELS[0])).next_multiple_of(MAX_WIDTH);
        pool.run(lines * shares, &|task| {
            let (line, share) = (task / shares, task % shares);
            let columns = share * tiles / shares * tile..outputs.min((share + 1) * tiles / shares * tile);
            let mut scratch = Scratch { pointers: vec![std::ptr::null(); taps], taps: Vec::with_capacity(taps) };
            let inner = self.source.inner();
            let mut x = 0;
            while x < width {
                let count = if vectors && inner.contains(&x) { inner.end - x } else { 1 };
                let pixels = line * width + x..line * width + x + count;
                self.locate(pixels.start, &mut scratch);
                let scale = scales.map_or(RowScale { scale: 1.0, zero: 0 }, |scales| scales.of(pixels.start));
                let numbers = Numbers { taps: &scratch.taps, dtype: input.weight_type(), scale };
                if vectors {
                    columns.clone().step_by(block).for_each(|column| {
                        let columns = column..columns.end.min(column + block);
                        // SAFETY: the source holds all channels of the pixels, the rest is as the caller says.
                        unsafe { self.line(pixels.clone(), columns, &numbers).run(self.cpu) };
                    });
                } else {
                    columns.clone().step_by(MAX_WIDTH).for_each(|column| {
                        self.pixel(pixels.start, column..columns.end.min(column + MAX_WIDTH), &numbers);
                    });
                }
                x += count;
            }
        });
    }

    /// Finds the taps of a pixel that meet the input.
    fn locate(&self, pixel: usize, scratch: &mut Scratch) {
        let shape = self.weights.shape();
        let mut table = Table::new(&mut scratch.pointers, shape.taps, 1);
        self.source.locate(0, 0, pixel..pixel + 1, &mut table);
        let zeros = self.source.zeros_of(pixel);
        scratch.taps.clear();
        let places = scratch.pointers.iter().enumerate().filter(|&(_, &pointer)| pointer != zeros);
        scratch.taps.extend(places.map(|(tap, &pixel)| Tap { weights: tap * shape.outputs, pixel }));
    }

    /// Columns of pixels that lie a constant distance apart in the input.
    fn line<'a>(&'a self, pixels: Range<usize>, columns: Range<usize>, numbers: &Numbers<'a>) -> DepthwiseLine<'a> {
        let at = |stride: usize| pixels.start * stride;
        let stride = self.epilogue.residual_stride;
        // SAFETY: the caller of the convolution checked the lengths of residual and output.
        let (residual, out) = unsafe {
            let residual = self.epilogue.residual.map(|from| (from.source().add(at(stride)), stride));
            (residual, (self.out.add(at(self.out_stride)), self.out_stride))
        };
        DepthwiseLine {
            taps: numbers.taps,
            step: self.source.step(),
            pixels: pixels.len(),
            columns,
            dtype: numbers.dtype,
            scale: numbers.scale,
            scales: self.weights.depthwise_scales(),
            weights: self.weights.depthwise(),
            bias: self.epilogue.bias,
            rounded: self.epilogue.rounded.as_ref(),
            activation: self.epilogue.activation,
            residual,
            out,
        }
    }

    /// Computes up to [`MAX_WIDTH`] columns of a pixel, one number after the other: several outputs of each channel.
    fn pixel(&self, pixel: usize, columns: Range<usize>, numbers: &Numbers<'_>) {
        let shape = self.weights.shape();
        let multiplier = shape.outputs / shape.groups;
        let (mut sums, mut bias) = ([0; MAX_WIDTH], [0.0; MAX_WIDTH]);
        for (sum, output) in sums.iter_mut().zip(columns.clone()) {
            let scale = self.weights.depthwise_scales().map_or(1.0, |scales| scales[output]);
            let total = numbers.sum(output / multiplier, output, self.weights.depthwise());
            *sum = (total * (numbers.scale.scale * scale)).to_bits();
        }
        if let Some(from) = self.epilogue.bias {
            bias[..columns.len()].copy_from_slice(&from[columns.clone()]);
        }
        let at = |stride: usize| pixel * stride + columns.start;
        let stride = self.epilogue.residual_stride;
        // SAFETY: the caller of the convolution checked the lengths of residual and output.
        unsafe {
            self.cpu.enter_raw(&EpilogueCall {
                sums: &sums,
                width: MAX_WIDTH,
                rows: 1,
                columns: columns.len(),
                results: columns.len(),
                dequantize: None,
                bias: &bias,
                rounded: self.epilogue.rounded.as_ref(),
                activation: self.epilogue.activation,
                gate: 0,
                residual: self.epilogue.residual.map(|from| (from.source().add(at(stride)), stride)),
                out: (self.out.add(at(self.out_stride)), self.out_stride),
            });
        }
    }
}

/// A tap that meets the input.
#[derive(Clone, Copy)]
struct Tap {
    /// The first of its weights.
    weights: usize,
    /// What it meets for the first of some pixels.
    pixel: *const u8,
}

/// What the taps of a pixel meet.
struct Numbers<'a> {
    taps: &'a [Tap],
    dtype: WeightType,
    scale: RowScale,
}

impl Numbers<'_> {
    /// The sum of an output that sees a channel; of codes without their scales, so exact up to 2^24.
    fn sum(&self, channel: usize, output: usize, weights: &[f32]) -> f32 {
        self.taps.iter().fold(0.0, |sum, tap| {
            // SAFETY: what taps meet are pixels of the input, each with all channels.
            let value = unsafe {
                match self.dtype {
                    WeightType::F32 => tap.pixel.cast::<f32>().add(channel).read_unaligned(),
                    WeightType::Bf16 => bf16_value(tap.pixel.cast::<u16>().add(channel).read_unaligned()),
                    WeightType::S8 => (i32::from(*tap.pixel.add(channel)) - self.scale.zero) as f32,
                }
            };
            sum + value * weights[tap.weights + output]
        })
    }
}

/// Pixels of a line, with all that happens to them.
struct DepthwiseLine<'a> {
    taps: &'a [Tap],
    /// Bytes from what a tap meets for one pixel to the next.
    step: usize,
    pixels: usize,
    columns: Range<usize>,
    /// Of the input.
    dtype: WeightType,
    /// How codes are read.
    scale: RowScale,
    /// Of the weights, for each output, if they are codes.
    scales: Option<&'a [f32]>,
    /// `[taps, outputs]`
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    rounded: Option<&'a Rounded>,
    activation: Activation,
    /// Of the first pixel, and the distance from one to the next.
    residual: Option<(Source, usize)>,
    /// See `residual`.
    out: (Target, usize),
}

impl DepthwiseLine<'_> {
    /// Each kind of input is a kernel of its own: what the compiler needs for all in one grows with the square of their
    /// number.
    ///
    /// # Safety
    /// What taps meet, residual and output have these columns of all pixels.
    unsafe fn run(&self, cpu: &Cpu) {
        // SAFETY: as the caller says.
        unsafe {
            match self.dtype {
                WeightType::F32 => cpu.enter_raw(LineOf::<F32>(self)),
                WeightType::Bf16 => cpu.enter_raw(LineOf::<BF16>(self)),
                WeightType::S8 => cpu.enter_raw(LineOf::<CODES>(self)),
            }
        }
    }
}

/// A line with input of a kind.
struct LineOf<'a, const INPUT: u8>(&'a DepthwiseLine<'a>);

impl<const INPUT: u8> RawKernel for LineOf<'_, INPUT> {
    type Output = ();

    /// See [`DepthwiseLine::run`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe { self.0.blocks::<I::Wide, INPUT>() }
    }
}

/// Inputs of [`WeightType::F32`], of [`WeightType::Bf16`], of [`WeightType::S8`].
const F32: u8 = 0;
/// See [`F32`].
const BF16: u8 = 1;
/// See [`F32`].
const CODES: u8 = 2;

/// Columns that are computed at once.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    /// Of each vector, at most as many as lanes.
    count: usize,
}

impl DepthwiseLine<'_> {
    /// Block after block of pixels.
    ///
    /// # Safety
    /// See [`DepthwiseLine::run`].
    #[inline(always)]
    unsafe fn blocks<V: Vector, const INPUT: u8>(&self) {
        const PAIRS: usize = BLOCK_PIXELS[0];
        const SINGLE: usize = BLOCK_PIXELS[1];
        let narrow = self.columns.len() <= V::LANES;
        let mut pixel = 0;
        while pixel < self.pixels {
            let rest = self.pixels - pixel;
            // SAFETY: the line has these pixels and columns; the rest is as the caller says.
            pixel += unsafe {
                match narrow {
                    true if rest >= SINGLE => self.narrow::<V, INPUT, SINGLE>(pixel),
                    true => self.narrow::<V, INPUT, 1>(pixel),
                    false if rest >= PAIRS => self.wide::<V, INPUT, PAIRS>(pixel),
                    false => self.wide::<V, INPUT, 1>(pixel),
                }
            };
        }
    }

    /// All columns of `P` pixels, no more than lanes.
    ///
    /// # Safety
    /// The line has these pixels.
    #[inline(always)]
    unsafe fn narrow<V: Vector, const INPUT: u8, const P: usize>(&self, pixel: usize) -> usize {
        let columns = Columns { first: self.columns.start, count: self.columns.len() };
        // SAFETY: as the caller says.
        unsafe { self.block::<V, INPUT, P, 1>(pixel, columns) };
        P
    }

    /// All columns of `P` pixels: whole vectors, the last of which may overlap the one before.
    ///
    /// # Safety
    /// The line has these pixels, and at least as many columns as a vector has lanes.
    #[inline(always)]
    unsafe fn wide<V: Vector, const INPUT: u8, const P: usize>(&self, pixel: usize) -> usize {
        let Range { start: mut first, end } = self.columns;
        // SAFETY: as the caller says.
        unsafe {
            while first + 2 * V::LANES <= end {
                self.block::<V, INPUT, P, 2>(pixel, Columns { first, count: V::LANES });
                first += 2 * V::LANES;
            }
            while first < end {
                self.block::<V, INPUT, P, 1>(pixel, Columns { first: first.min(end - V::LANES), count: V::LANES });
                first += V::LANES;
            }
        }
        P
    }

    /// The results of `P` pixels by `N` vectors.
    ///
    /// # Safety
    /// The line has these pixels and columns.
    #[inline(always)]
    unsafe fn block<V: Vector, const INPUT: u8, const P: usize, const N: usize>(
        &self,
        pixel: usize,
        Columns { first, count }: Columns,
    ) {
        // Known to be all lanes where there are several vectors.
        let count = if N == 1 { count } else { V::LANES };
        // SAFETY: as the caller says: what taps meet are pixels of the input, each with all channels, and weights,
        // bias, residual and output have all columns.
        unsafe {
            let mut sums = [[V::splat(0.0); N]; P];
            if let (Some(bias), true) = (self.bias, INPUT != CODES) {
                for j in 0..N {
                    let bias = load(Source::F32(bias.as_ptr().add(first + j * V::LANES)), count);
                    for sums in &mut sums {
                        sums[j] = bias;
                    }
                }
            }
            let mut right_sums = [V::splat(0.0); N];
            for tap in self.taps {
                let weights = self.weights.as_ptr().add(tap.weights);
                let mut right = [V::splat(0.0); N];
                for (j, right) in right.iter_mut().enumerate() {
                    *right = load(Source::F32(weights.add(first + j * V::LANES)), count);
                    if INPUT == CODES {
                        right_sums[j] = right_sums[j].add(*right);
                    }
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let from = tap.pixel.add((pixel + i) * self.step);
                    for (j, (sum, &right)) in sums.iter_mut().zip(&right).enumerate() {
                        let column = first + j * V::LANES;
                        let left: V = match INPUT {
                            CODES => load(Source::Bytes(from.add(column)), count),
                            BF16 => load(Source::Bf16(from.cast::<bf16>().add(column)), count),
                            _ => load(Source::F32(from.cast::<f32>().add(column)), count),
                        };
                        *sum = left.mul_add(right, *sum);
                    }
                }
            }
            if let (Some(scales), true) = (self.scales, INPUT == CODES) {
                self.scaled::<V, P, N>(scales, first, count, &right_sums, &mut sums);
            }
            if let Some(Rounded { grid, scale }) = self.rounded {
                let (grid, scale) = (grid.lanes(), V::splat(*scale));
                for sum in sums.as_flattened_mut() {
                    *sum = grid.rounded(*sum).mul(scale);
                }
            }
            activate_all(self.activation, &mut sums);
            if let Some((residual, stride)) = self.residual {
                // In memory, as what is not done often, so that the loops above stay in registers.
                let mut copy = sums;
                for (i, sums) in copy.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add(load(residual.add((pixel + i) * stride + first + j * V::LANES), count));
                    }
                }
                sums = copy;
            }
            self.put(&sums, pixel, Columns { first, count });
        }
    }
}

impl DepthwiseLine<'_> {
    /// Writes the results of `P` pixels by `N` vectors.
    ///
    /// # Safety
    /// The line has these pixels and columns.
    #[inline(always)]
    unsafe fn put<V: Vector, const P: usize, const N: usize>(
        &self,
        sums: &[[V; N]; P],
        pixel: usize,
        Columns { first, count }: Columns,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            let at = |i: usize, j: usize| (pixel + i) * self.out.1 + first + j * V::LANES;
            match self.out.0 {
                Target::F32(to) if count == V::LANES => {
                    for (i, sums) in sums.iter().enumerate() {
                        for (j, &sum) in sums.iter().enumerate() {
                            sum.store(to.add(at(i, j)));
                        }
                    }
                }
                Target::Bf16(to) if count == V::LANES => {
                    for (i, sums) in sums.iter().enumerate() {
                        for (j, &sum) in sums.iter().enumerate() {
                            sum.store_bf16(to.add(at(i, j)).cast());
                        }
                    }
                }
                Target::Codes(_, grid) => {
                    let grid = (*grid).lanes();
                    for (i, sums) in sums.iter().enumerate() {
                        for (j, &sum) in sums.iter().enumerate() {
                            store(grid.bytes(sum), count, self.out.0.add(at(i, j)));
                        }
                    }
                }
                to => {
                    for (i, sums) in sums.iter().enumerate() {
                        store(sums[0], count, to.add(at(i, 0)));
                    }
                }
            }
        }
    }

    /// Sums of codes as numbers, with the bias. What their zero adds to each is subtracted here: as integers below 2^24
    /// both are exact.
    ///
    /// # Safety
    /// Scales and bias have all columns.
    #[inline(always)]
    unsafe fn scaled<V: Vector, const P: usize, const N: usize>(
        &self,
        scales: &[f32],
        first: usize,
        count: usize,
        right_sums: &[V; N],
        sums: &mut [[V; N]; P],
    ) {
        for j in 0..N {
            let column = first + j * V::LANES;
            // SAFETY: as the caller says.
            let (scale, bias) = unsafe {
                let bias = self.bias.map_or(V::splat(0.0), |bias| load(Source::F32(bias.as_ptr().add(column)), count));
                (load::<V>(Source::F32(scales.as_ptr().add(column)), count), bias)
            };
            let scale = scale.mul(V::splat(self.scale.scale));
            let less = right_sums[j].mul(V::splat(self.scale.zero as f32));
            for sums in &mut *sums {
                sums[j] = sums[j].sub(less).mul_add(scale, bias);
            }
        }
    }
}

/// Applies an activation to vectors in registers if it takes few instructions, to one vector after the other if not.
#[inline(always)]
fn activate_all<V: Vector, const P: usize, const N: usize>(activation: Activation, values: &mut [[V; N]; P]) {
    #[inline(always)]
    fn each<V: Vector, const P: usize, const N: usize>(activation: Activation, values: &mut [[V; N]; P]) {
        for x in values.as_flattened_mut() {
            *x = activate_lanes(activation, *x);
        }
    }
    match activation {
        Activation::None => {}
        Activation::Relu => each(Activation::Relu, values),
        Activation::Relu6 => each(Activation::Relu6, values),
        Activation::HardSwish => each(Activation::HardSwish, values),
        other => {
            let mut copy = *values;
            each(other, &mut copy);
            *values = copy;
        }
    }
}
