//! From sums to results: scales, bias, activation or gate, residual, rounding.

use half::bf16;

use crate::{
    arch::Isa,
    gemm::micro::MAX_WIDTH,
    math::{Activation, activate, bf16_bits},
    quant::RowScale,
    rowwise::RowKernel,
};

/// Elements handled at once; divides [`MAX_WIDTH`].
pub(crate) const CHUNK: usize = 16;

/// A row of a tile, before and after.
type Row = [[f32; CHUNK]; MAX_WIDTH / CHUNK];

/// Elements to read at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    F32(*const f32),
    Bf16(*const bf16),
}

/// Elements to write at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    F32(*mut f32),
    Bf16(*mut bf16),
}

impl Source {
    /// # Safety
    /// The address plus `offset` elements is within, or just past, the same allocation.
    pub(crate) unsafe fn add(self, offset: usize) -> Self {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::F32(from) => Self::F32(from.add(offset)),
                Self::Bf16(from) => Self::Bf16(from.add(offset)),
            }
        }
    }
}

impl Target {
    /// # Safety
    /// The address plus `offset` elements is within, or just past, the same allocation.
    pub(crate) unsafe fn add(self, offset: usize) -> Self {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::F32(to) => Self::F32(to.add(offset)),
                Self::Bf16(to) => Self::Bf16(to.add(offset)),
            }
        }
    }
}

/// How sums of quantized products become numbers: `row scale * column scale * (sum - row zero * column sum)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dequantize<'a> {
    /// Of the tile's rows.
    pub(crate) rows: &'a [RowScale],
    /// Consecutive rows that share a scale, counted from `first`.
    pub(crate) rows_per_scale: usize,
    /// The index of the tile's first row.
    pub(crate) first: usize,
    /// Scale of each packed column.
    pub(crate) columns: &'a [f32],
    /// Sum of the weights of each packed column.
    pub(crate) sums: &'a [i32],
}

/// A tile to finish.
pub(crate) struct EpilogueCall<'a> {
    /// Sums, f32 or i32 by `dequantize`; row `i` at `i * width`.
    pub(crate) sums: &'a [u32],
    /// See `sums`.
    pub(crate) width: usize,
    /// Rows of the tile.
    pub(crate) rows: usize,
    /// Packed columns.
    pub(crate) columns: usize,
    /// Columns of the result.
    pub(crate) results: usize,
    /// For sums of quantized products.
    pub(crate) dequantize: Option<Dequantize<'a>>,
    /// Added to each packed column.
    pub(crate) bias: &'a [f32; MAX_WIDTH],
    /// Applied to the sum, or to the gate.
    pub(crate) activation: Activation,
    /// If not 0, so many columns of values alternate with as many of gates.
    pub(crate) gate: usize,
    /// Added at the end: the address of the first element and the distance of the rows.
    pub(crate) residual: Option<(Source, usize)>,
    /// Where the results go: the address of the first element and the distance of the rows.
    pub(crate) out: (Target, usize),
}

impl RowKernel for &EpilogueCall<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        for i in 0..self.rows {
            let mut row = Row::default();
            let mut chunks = self.columns.div_ceil(CHUNK);
            self.load::<I>(i, &mut row[..chunks]);
            if self.gate == 0 {
                row[..chunks].iter_mut().for_each(|chunk| activate::<I>(self.activation, chunk));
            } else {
                row = self.gated::<I>(&row);
                chunks = self.results.div_ceil(CHUNK);
            }
            // SAFETY: whoever made the call vouches for `rows` rows of `results` elements at these addresses.
            unsafe {
                if let Some((residual, stride)) = self.residual {
                    add(residual.add(i * stride), self.results, &mut row[..chunks]);
                }
                let (out, stride) = self.out;
                store(&row[..chunks], self.results, out.add(i * stride));
            }
        }
    }
}

impl EpilogueCall<'_> {
    /// Row `i` of the sums, as numbers, with the bias.
    #[inline(always)]
    fn load<I: Isa>(&self, i: usize, row: &mut [[f32; CHUNK]]) {
        let (sums, _) = self.sums[i * self.width..].as_chunks::<CHUNK>();
        let (bias, _) = self.bias.as_chunks::<CHUNK>();
        let Some(quantized) = &self.dequantize else {
            for ((chunk, sums), bias) in row.iter_mut().zip(sums).zip(bias) {
                for j in 0..CHUNK {
                    chunk[j] = f32::from_bits(sums[j]) + bias[j];
                }
            }
            return;
        };
        let RowScale { scale, zero } = quantized.rows[(quantized.first + i) / quantized.rows_per_scale];
        for (c, ((chunk, sums), bias)) in row.iter_mut().zip(sums).zip(bias).enumerate() {
            let (scales, weights) = (&quantized.columns[c * CHUNK..], &quantized.sums[c * CHUNK..]);
            for (j, value) in chunk.iter_mut().enumerate().take(scales.len()) {
                let sum = (sums[j] as i32).wrapping_sub(zero.wrapping_mul(weights[j]));
                *value = I::mul_add(sum as f32, scale * scales[j], bias[j]);
            }
        }
    }

    /// Values times activated gates.
    #[inline(always)]
    fn gated<I: Isa>(&self, row: &Row) -> Row {
        let (mut values, mut gates) = (Row::default(), Row::default());
        let pairs = row.as_flattened().chunks_exact(2 * self.gate);
        let outs = values.as_flattened_mut().chunks_exact_mut(self.gate);
        for ((pair, value), gate) in pairs.zip(outs).zip(gates.as_flattened_mut().chunks_exact_mut(self.gate)) {
            value.copy_from_slice(&pair[..self.gate]);
            gate.copy_from_slice(&pair[self.gate..]);
        }
        for (values, gates) in values.iter_mut().zip(&mut gates).take(self.results.div_ceil(CHUNK)) {
            activate::<I>(self.activation, gates);
            for (value, gate) in values.iter_mut().zip(gates) {
                *value *= *gate;
            }
        }
        values
    }
}

/// Adds `count` elements to a row.
///
/// # Safety
/// `source` is valid for `count` elements.
#[inline(always)]
unsafe fn add(source: Source, count: usize, row: &mut [[f32; CHUNK]]) {
    for (c, chunk) in row.iter_mut().enumerate() {
        let (first, here) = (c * CHUNK, CHUNK.min(count - c * CHUNK));
        let mut other = [0.0; CHUNK];
        // SAFETY: `first + here <= count`, for which the caller vouches.
        unsafe {
            match source.add(first) {
                Source::F32(from) if here == CHUNK => other = from.cast::<[f32; CHUNK]>().read_unaligned(),
                Source::F32(from) => (0..here).for_each(|j| other[j] = *from.add(j)),
                Source::Bf16(from) if here == CHUNK => {
                    let bits = from.cast::<[u16; CHUNK]>().read_unaligned();
                    other = bits.map(crate::math::bf16_value);
                }
                Source::Bf16(from) => (0..here).for_each(|j| other[j] = (*from.add(j)).to_f32()),
            }
        }
        for j in 0..CHUNK {
            chunk[j] += other[j];
        }
    }
}

/// Writes the first `count` elements of a row.
///
/// # Safety
/// `target` is valid for `count` elements.
#[inline(always)]
pub(crate) unsafe fn store(row: &[[f32; CHUNK]], count: usize, target: Target) {
    for (c, chunk) in row.iter().enumerate() {
        let (first, here) = (c * CHUNK, CHUNK.min(count - c * CHUNK));
        // SAFETY: `first + here <= count`, for which the caller vouches.
        unsafe {
            match target.add(first) {
                Target::F32(to) if here == CHUNK => to.cast::<[f32; CHUNK]>().write_unaligned(*chunk),
                Target::F32(to) => (0..here).for_each(|j| *to.add(j) = chunk[j]),
                Target::Bf16(to) => {
                    let mut bits = [0_u16; CHUNK];
                    for j in 0..CHUNK {
                        bits[j] = bf16_bits(chunk[j]);
                    }
                    if here == CHUNK {
                        to.cast::<[u16; CHUNK]>().write_unaligned(bits);
                    } else {
                        (0..here).for_each(|j| *to.add(j) = bf16::from_bits(bits[j]));
                    }
                }
            }
        }
    }
}
