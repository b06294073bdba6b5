//! Convolutions in which each output sees one channel: no sums over channels, so no matrix product.
//!
//! Pixels of a row of the result lie a constant distance apart in the input wherever all taps meet it, so the
//! addresses of one pixel serve for several; only at the left and right border each pixel has taps of its own.

use std::ops::Range;

use crate::{
    arch::{Isa, vector::Vector},
    conv::Pixels,
    gemm::{
        Epilogue, Input,
        drive::{Rows, Scales, Table},
        epilogue::{EpilogueCall, Target},
        micro::MAX_WIDTH,
        weights::{PackedWeights, WeightType},
    },
    math::bf16_value,
    quant::RowScale,
    rowwise::RowKernel,
    table::Kernels,
    threads::Pool,
};

/// Pixels that one call of the kernel computes, at most.
const TILE_PIXELS: usize = 8;

/// Pixels whose sums are in registers at once.
const BLOCK_PIXELS: usize = 4;

/// Pieces of work per thread, about.
const TASKS_PER_THREAD: usize = 4;

/// A convolution in which each output sees one channel.
pub(crate) struct Depthwise<'a> {
    pub(crate) kernels: &'a Kernels,
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
    sums: [u32; TILE_PIXELS * MAX_WIDTH],
}

impl Depthwise<'_> {
    /// Computes `rows` pixels.
    pub(crate) fn run(&self, pool: &Pool, rows: usize, input: Input<'_>) {
        let outputs = self.weights.shape().outputs;
        let (width, scales) = (self.source.out_size[1].max(1), input.scales(rows));
        let lines = rows / width;
        let tiles = outputs.div_ceil(MAX_WIDTH);
        // Tiles of about the same width: none is narrower than a vector unless there are so few outputs.
        let tile = outputs.div_ceil(tiles.max(1)).max(1);
        let shares = (TASKS_PER_THREAD * pool.threads()).div_ceil(lines.max(1)).min(tiles);
        pool.run(lines * shares, &|task| {
            let (line, share) = (task / shares, task % shares);
            let columns = share * tiles / shares * tile..outputs.min((share + 1) * tiles / shares * tile);
            let taps = self.weights.shape().taps;
            let (pointers, sums) = (vec![std::ptr::null(); taps], [0; TILE_PIXELS * MAX_WIDTH]);
            let mut scratch = Scratch { pointers, taps: Vec::with_capacity(taps), sums };
            let inner = self.source.inner();
            let mut x = 0;
            while x < width {
                let count = if inner.contains(&x) { TILE_PIXELS.min(inner.end - x) } else { 1 };
                let pixels = line * width + x..line * width + x + count;
                self.pixels(pixels, columns.clone(), tile, &input, scales, &mut scratch);
                x += count;
            }
        });
    }

    /// Computes columns of pixels that lie a constant distance apart in the input.
    fn pixels(
        &self,
        pixels: Range<usize>,
        columns: Range<usize>,
        tile: usize,
        input: &Input<'_>,
        scales: Option<Scales<'_>>,
        scratch: &mut Scratch,
    ) {
        let shape = self.weights.shape();
        let mut table = Table::new(&mut scratch.pointers, shape.taps, 1);
        self.source.locate(0, 0, pixels.start..pixels.start + 1, &mut table);
        let zeros = self.source.zeros_of(pixels.start);
        scratch.taps.clear();
        let places = scratch.pointers.iter().enumerate().filter(|&(_, &pointer)| pointer != zeros);
        scratch.taps.extend(places.map(|(tap, &pixel)| Tap { weights: tap * shape.outputs, pixel }));
        let mut scale = [RowScale { scale: 1.0, zero: 0 }; TILE_PIXELS];
        if let Some(scales) = scales {
            pixels.clone().zip(&mut scale).for_each(|(pixel, scale)| *scale = scales.of(pixel));
        }
        for column in columns.clone().step_by(tile) {
            let count = tile.min(columns.end - column);
            (self.kernels.gemm.depthwise)(DepthwiseTile {
                taps: &scratch.taps,
                step: self.source.step(),
                pixels: pixels.len(),
                dtype: input.weight_type(),
                scales: &scale,
                weights: self.weights.depthwise(),
                multiplier: shape.outputs / shape.groups,
                column,
                columns: count,
                sums: &mut scratch.sums,
            });
            self.finish(pixels.clone(), column, count, &scratch.sums);
        }
    }

    fn finish(&self, pixels: Range<usize>, column: usize, columns: usize, sums: &[u32]) {
        let mut bias = [0.0; MAX_WIDTH];
        if let Some(from) = self.epilogue.bias {
            bias[..columns].copy_from_slice(&from[column..column + columns]);
        }
        let at = |stride: usize| pixels.start * stride + column;
        let stride = self.epilogue.residual_stride;
        // SAFETY: the caller of the convolution checked the lengths of residual and output.
        let (residual, out) = unsafe {
            let residual = self.epilogue.residual.map(|from| (from.source().add(at(stride)), stride));
            (residual, (self.out.add(at(self.out_stride)), self.out_stride))
        };
        (self.kernels.gemm.epilogue)(&EpilogueCall {
            sums,
            width: MAX_WIDTH,
            rows: pixels.len(),
            columns,
            results: columns,
            dequantize: None,
            bias: &bias,
            activation: self.epilogue.activation,
            gate: 0,
            residual,
            out,
        });
    }
}

/// A tap that meets the input.
#[derive(Clone, Copy)]
struct Tap {
    /// The first of its weights.
    weights: usize,
    /// What it meets for the first pixel of a tile.
    pixel: *const u8,
}

/// A few pixels times up to [`MAX_WIDTH`] outputs.
pub(crate) struct DepthwiseTile<'a> {
    taps: &'a [Tap],
    /// Bytes from what a tap meets for one pixel to the next.
    step: usize,
    pixels: usize,
    dtype: WeightType,
    scales: &'a [RowScale; TILE_PIXELS],
    /// `[taps, outputs]`
    weights: &'a [f32],
    /// Outputs per channel.
    multiplier: usize,
    /// The first output.
    column: usize,
    columns: usize,
    /// Of pixel `i` at `i * MAX_WIDTH`, f32.
    sums: &'a mut [u32; TILE_PIXELS * MAX_WIDTH],
}

impl RowKernel for DepthwiseTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        self.compute::<I::Vector>();
    }
}

impl DepthwiseTile<'_> {
    /// Does it with vectors of a tier.
    #[inline(always)]
    pub(crate) fn compute<V: Vector>(mut self) {
        let vectors = self.multiplier == 1 && self.columns >= V::LANES;
        match self.dtype {
            WeightType::F32 if vectors => self.vectors::<V, false>(),
            WeightType::Bf16 if vectors => self.vectors::<V, true>(),
            _ => self.numbers(),
        }
    }

    /// Columns in whole vectors, the last of which may overlap the one before.
    #[inline(always)]
    fn vectors<V: Vector, const BRAIN: bool>(&mut self) {
        let mut column = 0;
        while column < self.columns {
            let pair = column + 2 * V::LANES <= self.columns;
            let first = if pair { column } else { column.min(self.columns - V::LANES) };
            let mut pixel = 0;
            while pixel < self.pixels {
                let block = pixel + BLOCK_PIXELS <= self.pixels;
                // SAFETY: the tile has these pixels, and from `first` on as many columns as the vectors have lanes.
                unsafe {
                    match (block, pair) {
                        (true, true) => self.block::<V, BRAIN, BLOCK_PIXELS, 2>(pixel, first),
                        (true, false) => self.block::<V, BRAIN, BLOCK_PIXELS, 1>(pixel, first),
                        (false, true) => self.block::<V, BRAIN, 1, 2>(pixel, first),
                        (false, false) => self.block::<V, BRAIN, 1, 1>(pixel, first),
                    }
                }
                pixel += if block { BLOCK_PIXELS } else { 1 };
            }
            column = first + if pair { 2 * V::LANES } else { V::LANES };
        }
    }

    /// The sums of `P` pixels by `N` vectors.
    ///
    /// # Safety
    /// The tile has these pixels and columns.
    #[inline(always)]
    unsafe fn block<V: Vector, const BRAIN: bool, const P: usize, const N: usize>(
        &mut self,
        pixel: usize,
        first: usize,
    ) {
        let mut sums = [[V::splat(0.0); N]; P];
        let column = self.column + first;
        for tap in self.taps {
            let weights = &self.weights[tap.weights + column..][..N * V::LANES];
            // SAFETY: what taps meet are pixels of the input, each with all channels; the weights have just been counted.
            unsafe {
                let mut right = [V::splat(0.0); N];
                for (j, right) in right.iter_mut().enumerate() {
                    *right = V::load(weights.as_ptr().add(j * V::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let from = tap.pixel.add((pixel + i) * self.step);
                    for (j, (sum, &right)) in sums.iter_mut().zip(&right).enumerate() {
                        let at = column + j * V::LANES;
                        let left = if BRAIN {
                            V::load_bf16(from.cast::<u16>().add(at))
                        } else {
                            V::load(from.cast::<f32>().add(at))
                        };
                        *sum = left.mul_add(right, *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let to = &mut self.sums[(pixel + i) * MAX_WIDTH + first..][..N * V::LANES];
            for (j, &sum) in sums.iter().enumerate() {
                // SAFETY: the numbers have just been counted.
                unsafe { sum.store(to.as_mut_ptr().add(j * V::LANES).cast()) };
            }
        }
    }

    /// One number after the other: few channels, several outputs of each, or numbers of 8 bits.
    #[inline(always)]
    fn numbers(&mut self) {
        for pixel in 0..self.pixels {
            for index in 0..self.columns {
                let output = self.column + index;
                let channel = output / self.multiplier;
                let mut sum = 0.0;
                for tap in self.taps {
                    // SAFETY: what taps meet are pixels of the input, each with all channels.
                    let value = unsafe { self.number(tap.pixel.add(pixel * self.step), channel, self.scales[pixel]) };
                    sum += value * self.weights[tap.weights + output];
                }
                self.sums[pixel * MAX_WIDTH + index] = sum.to_bits();
            }
        }
    }

    /// A channel of a pixel.
    ///
    /// # Safety
    /// The pixel has it.
    #[inline(always)]
    unsafe fn number(&self, pixel: *const u8, channel: usize, RowScale { scale, zero }: RowScale) -> f32 {
        // SAFETY: as the caller says.
        unsafe {
            match self.dtype {
                WeightType::F32 => pixel.cast::<f32>().add(channel).read_unaligned(),
                WeightType::Bf16 => bf16_value(pixel.cast::<u16>().add(channel).read_unaligned()),
                WeightType::S8 => scale * (i32::from(*pixel.add(channel)) - zero) as f32,
            }
        }
    }
}
