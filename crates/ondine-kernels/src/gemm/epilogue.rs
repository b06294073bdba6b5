//! From sums to results: scales, bias, activation or gate, residual, rounding.

use half::bf16;

use crate::{
    arch::{dot::MAX_WIDTH, enter::RawKernel, isa::Isa, vector::Vector},
    grid::{CodeGrid, GridLanes, Rounded},
    math::{Activation, activate_all},
    quant::RowScale,
};

/// Rows that are finished at once.
const BLOCK_ROWS: usize = 3;

/// Elements to read at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    F32(*const f32),
    Bf16(*const bf16),
    /// Bytes without a sign, as numbers.
    Bytes(*const u8),
}

/// Elements to write at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    F32(*mut f32),
    Bf16(*mut bf16),
    /// As codes of a grid, which lives as long as they do: copies of an address are made for each tile.
    Codes(*mut u8, *const CodeGrid),
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
                Self::Bytes(from) => Self::Bytes(from.add(offset)),
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
                Self::Codes(to, grid) => Self::Codes(to.add(offset), grid),
            }
        }
    }
}

/// How sums of quantized products become numbers: `row scale * column scale * (sum - row zero * column sum)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dequantize<'a> {
    /// Of all of the tile's rows, if they have one in common.
    pub(crate) all: Option<RowScale>,
    /// Of each of the tile's rows, if not.
    pub(crate) rows: &'a [RowScale],
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
    /// What sums are rounded to before the activation, if there is no gate.
    pub(crate) rounded: Option<&'a Rounded>,
    /// Applied to the sum, or to the gate.
    pub(crate) activation: Activation,
    /// If not 0, so many columns of values alternate with as many of gates.
    pub(crate) gate: usize,
    /// Added at the end: the address of the first element and the distance of the rows.
    pub(crate) residual: Option<(Source, usize)>,
    /// Where the results go: the address of the first element and the distance of the rows.
    pub(crate) out: (Target, usize),
}

impl RawKernel for &EpilogueCall<'_> {
    type Output = ();

    /// See [`EpilogueCall`]: residual and output hold `rows` rows of `results` columns; what is said of packed columns
    /// is said of whole vectors of them.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        assert!(self.rows * self.width <= self.sums.len() && self.columns <= self.width, "sums of a tile");
        // SAFETY: as the caller says.
        unsafe {
            match (self.dequantize.is_some(), self.gate != 0) {
                (false, false) => self.columns::<I::Vector, false, false>(),
                (false, true) => self.columns::<I::Vector, false, true>(),
                (true, false) => self.columns::<I::Vector, true, false>(),
                (true, true) => self.columns::<I::Vector, true, true>(),
            }
        }
    }
}

impl EpilogueCall<'_> {
    /// Column by column, so that what belongs to one stays in registers for all rows of the tile. What can be told
    /// before is told by the type, so that the loops over rows are short.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn columns<V: Vector, const QUANTIZED: bool, const GATED: bool>(&self) {
        let ending = Ending::<V>::new(self);
        for column in (0..self.results).step_by(V::LANES) {
            let count = V::LANES.min(self.results - column);
            // The gates before, a power of two at a time.
            let value = if GATED { column + (column & !(self.gate - 1)) } else { column };
            // SAFETY: packed columns are whole vectors, so all lanes can be read from the sums; residual and
            // output are as the caller says.
            unsafe {
                let values = self.column::<V>(value);
                let gates = if GATED { self.column::<V>(value + self.gate) } else { values };
                let place = Place { column, count, values, gates, ending: &ending };
                let mut row = 0;
                while count == V::LANES && row + BLOCK_ROWS <= self.rows {
                    self.block::<V, QUANTIZED, GATED, BLOCK_ROWS>(row, &place);
                    row += BLOCK_ROWS;
                }
                while row < self.rows {
                    self.block::<V, QUANTIZED, GATED, 1>(row, &place);
                    row += 1;
                }
            }
        }
    }

    /// `R` rows of a vector of columns, in registers: of all of its lanes if there are several rows.
    ///
    /// # Safety
    /// The tile, the residual and the output have the rows and the columns.
    #[inline(always)]
    unsafe fn block<V: Vector, const QUANTIZED: bool, const GATED: bool, const R: usize>(
        &self,
        first: usize,
        place: &Place<'_, V>,
    ) {
        let &Place { column, count, ref values, ref gates, ending } = place;
        let count = if R > 1 { V::LANES } else { count };
        let mut numbers = [V::splat(0.0); R];
        // SAFETY: as the caller says.
        unsafe {
            for (i, x) in numbers.iter_mut().enumerate() {
                *x = self.number::<V, QUANTIZED>(first + i, if GATED { gates } else { values });
            }
            if let (false, Some((grid, scale))) = (GATED, &ending.rounded) {
                for x in &mut numbers {
                    *x = grid.rounded(*x).mul(*scale);
                }
            }
            activate_all(self.activation, &mut numbers);
            if GATED {
                for (i, x) in numbers.iter_mut().enumerate() {
                    *x = x.mul(self.number::<V, QUANTIZED>(first + i, values));
                }
            }
            if let Some((residual, stride)) = self.residual {
                for (i, x) in numbers.iter_mut().enumerate() {
                    *x = x.add(load(residual.add((first + i) * stride + column), count));
                }
            }
            if let Some(grid) = &ending.stored {
                for x in &mut numbers {
                    *x = grid.bytes(*x);
                }
            }
            let (out, stride) = self.out;
            for (i, &x) in numbers.iter().enumerate() {
                store(x, count, out.add((first + i) * stride + column));
            }
        }
    }

    /// What belongs to the packed columns from `at` on.
    ///
    /// # Safety
    /// There are as many as a vector has lanes.
    #[inline(always)]
    unsafe fn column<V: Vector>(&self, at: usize) -> Column<V> {
        // SAFETY: what belongs to columns is as long as the packed columns, or longer.
        unsafe {
            let bias = V::load(self.bias.as_ptr().add(at));
            let Some(of) = &self.dequantize else { return Column { at, bias, scale: bias, sum: bias } };
            let (scale, sum) = (V::load(of.columns.as_ptr().add(at)), V::load(of.sums.as_ptr().add(at).cast()));
            let RowScale { scale: row, zero } = of.all.unwrap_or(RowScale { scale: 1.0, zero: 1 });
            Column { at, bias, scale: V::splat(row).mul(scale), sum: sum.times_integer(zero) }
        }
    }

    /// Sums as numbers, with the bias.
    ///
    /// # Safety
    /// The sums have `row` and all lanes of the column.
    #[inline(always)]
    unsafe fn number<V: Vector, const QUANTIZED: bool>(&self, row: usize, column: &Column<V>) -> V {
        // SAFETY: as the caller says.
        unsafe {
            let sums = self.sums.as_ptr().add(row * self.width + column.at);
            let (true, Some(Dequantize { all, rows, .. })) = (QUANTIZED, &self.dequantize) else {
                return V::load(sums.cast()).add(column.bias);
            };
            if all.is_some() {
                return V::load_less(sums.cast(), column.sum).mul_add(column.scale, column.bias);
            }
            let RowScale { scale, zero } = rows[row];
            let sums = V::load_less(sums.cast(), column.sum.times_integer(zero));
            sums.mul_add(V::splat(scale).mul(column.scale), column.bias)
        }
    }
}

/// A vector of columns of the result.
struct Place<'a, V> {
    column: usize,
    /// Columns, at most as many as lanes.
    count: usize,
    values: Column<V>,
    gates: Column<V>,
    ending: &'a Ending<V>,
}

/// What results are rounded to before the activation and as they are stored.
#[derive(Clone, Copy)]
struct Ending<V> {
    /// Steps, and what one stands for.
    rounded: Option<(GridLanes<V>, V)>,
    stored: Option<GridLanes<V>>,
}

impl<V: Vector> Ending<V> {
    #[inline(always)]
    fn new(call: &EpilogueCall<'_>) -> Self {
        let rounded = call.rounded.map(|Rounded { grid, scale }| (grid.lanes(), V::splat(*scale)));
        let stored = match call.out {
            // SAFETY: the grid lives as long as the output.
            (Target::Codes(_, grid), _) => Some(unsafe { &*grid }.lanes()),
            _ => None,
        };
        Self { rounded, stored }
    }
}

/// Bias, scale and sum of the weights of a vector of packed columns, the latter two times scale and zero of the rows if
/// these have them in common.
#[derive(Clone, Copy)]
struct Column<V> {
    at: usize,
    bias: V,
    scale: V,
    /// Integers, as bits.
    sum: V,
}

/// Reads the first `count` lanes.
///
/// # Safety
/// `from` is valid for `count` elements.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(from: Source, count: usize) -> V {
    // SAFETY: as the caller says.
    unsafe {
        match from {
            Source::F32(from) if count == V::LANES => V::load(from),
            Source::Bf16(from) if count == V::LANES => V::load_bf16(from.cast()),
            Source::F32(from) => V::load_some(from, count),
            Source::Bf16(from) => V::load_bf16_some(from.cast(), count),
            Source::Bytes(from) if count == V::LANES => V::load_bytes(from),
            Source::Bytes(from) => V::load_bytes_some(from, count),
        }
    }
}

/// Writes the first `count` lanes; of codes, their lowest bytes.
///
/// # Safety
/// `to` is valid for `count` elements.
#[inline(always)]
pub(crate) unsafe fn store<V: Vector>(x: V, count: usize, to: Target) {
    // SAFETY: as the caller says.
    unsafe {
        match to {
            Target::F32(to) if count == V::LANES => x.store(to),
            Target::Bf16(to) if count == V::LANES => x.store_bf16(to.cast()),
            Target::F32(to) => x.store_some(to, count),
            Target::Bf16(to) => x.store_bf16_some(to.cast(), count),
            Target::Codes(to, _) if count == V::LANES => x.store_bytes(to),
            Target::Codes(to, _) => x.store_bytes_some(to, count),
        }
    }
}
