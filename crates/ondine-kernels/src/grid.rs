//! Numbers as codes at distances that the program has chosen, and back, in the order in which PyTorch computes them.

use crate::{
    arch::{enter::Kernel, isa::Isa, vector::Vector},
    cpu::Cpu,
    rowwise::{GRAIN, for_rows, piece_rows},
};

/// 1.5 * 2^23: see [`quant`](crate::quant).
const ROUND: f32 = 12_582_912.0;

/// Beyond this many steps from 0 no code reaches, and up to it [`ROUND`] rounds.
const MOST_STEPS: f32 = 4_000_000.0;

/// The codes of numbers: `round(x * inverse) + zero`, ties to even, cut off at both ends. Of what there is one number
/// for all, or one for each row.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a> {
    /// One over the distance between neighbours.
    pub inverse: &'a [f32],
    /// The code of 0, an integer.
    pub zero: &'a [f32],
    /// The first and the last code.
    pub ends: [f32; 2],
    /// True if the zero is added before rounding.
    pub moved_first: bool,
}

impl Grid<'_> {
    /// The grid of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> Row {
        Row {
            inverse: of_row(self.inverse, row),
            zero: of_row(self.zero, row),
            ends: self.ends,
            first: self.moved_first,
        }
    }

    fn check(&self, rows: usize) {
        check("inverse", self.inverse, rows);
        check("zero", self.zero, rows);
    }

    /// The width of the rows that it tells apart: all are alike if there is one number for all.
    fn width(&self, width: usize, more: usize) -> usize {
        if self.inverse.len().max(self.zero.len()).max(more) == 1 { 1 } else { width.max(1) }
    }
}

/// The number of a row, or that of all.
#[inline(always)]
fn of_row(numbers: &[f32], row: usize) -> f32 {
    if numbers.len() == 1 { numbers[0] } else { numbers[row] }
}

fn check(what: &str, numbers: &[f32], rows: usize) {
    assert!(numbers.len() == 1 || numbers.len() == rows, "{what}: {} numbers for {rows} rows", numbers.len());
}

#[derive(Clone, Copy)]
struct Row {
    inverse: f32,
    zero: f32,
    ends: [f32; 2],
    first: bool,
}

impl Row {
    #[inline(always)]
    fn code(self, x: f32) -> f32 {
        let Self { inverse, zero, ends: [low, high], first } = self;
        let (before, after) = if first { (zero, 0.0) } else { (0.0, zero) };
        let steps = within(x * inverse + before, -MOST_STEPS, MOST_STEPS);
        within((steps + ROUND) - ROUND + after, low, high)
    }
}

/// `x`, or the end of the range that it is beyond.
#[inline(always)]
fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// As a [`Grid`] with one number for all: the codes that results become before they are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeGrid {
    /// One over the distance between neighbours.
    pub inverse: f32,
    /// The code of 0, an integer, at most [`MOST_ZERO`] from 0.
    pub zero: f32,
    /// The first and the last code, integers.
    pub ends: [f32; 2],
    /// True if the zero is added before rounding.
    pub moved_first: bool,
    /// Added to each code as it is stored.
    pub shift: f32,
}

/// The zeros of a [`CodeGrid`]: beyond them, what sums are rounded by would not round.
pub const MOST_ZERO: f32 = 1_000_000.0;

impl CodeGrid {
    /// Its numbers in all lanes.
    #[inline(always)]
    pub(crate) fn lanes<V: Vector>(&self) -> GridLanes<V> {
        let Self { inverse, zero, ends: [low, high], moved_first, shift } = *self;
        // As products, which vectors are made of at once.
        let before = zero * f32::from(u8::from(moved_first));
        let after = zero - before;
        GridLanes {
            inverse: V::splat(inverse),
            before: V::splat(before),
            low: V::splat(low - after),
            high: V::splat(high - after),
            round: V::splat(ROUND),
            back: V::splat(ROUND + before),
            shift: V::splat(shift + after),
        }
    }
}

/// A [`CodeGrid`] as operators of vectors take it. What integers cut off is cut off before rounding: that is the same.
#[derive(Clone, Copy)]
pub(crate) struct GridLanes<V> {
    inverse: V,
    /// Added before rounding.
    before: V,
    low: V,
    high: V,
    round: V,
    /// Subtracted from what is rounded to yield steps from the zero.
    back: V,
    /// Added to what is rounded to yield codes as they are stored.
    shift: V,
}

impl<V: Vector> GridLanes<V> {
    /// Steps plus [`ROUND`], rounded and cut off; NaN stays.
    #[inline(always)]
    fn steps(&self, x: V) -> V {
        self.high.min(self.low.max(x.mul(self.inverse).add(self.before))).add(self.round)
    }

    /// The codes of numbers, in the lowest byte of each lane; 0 for NaN.
    #[inline(always)]
    pub(crate) fn bytes(&self, x: V) -> V {
        self.steps(x).add(self.shift)
    }

    /// The steps from the zero that numbers are rounded to.
    #[inline(always)]
    pub(crate) fn rounded(&self, x: V) -> V {
        self.steps(x).sub(self.back)
    }
}

/// Numbers that are rounded to codes, but go on as numbers: `(code - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounded {
    /// The codes.
    pub grid: CodeGrid,
    /// What a step between codes stands for.
    pub scale: f32,
}

/// The codes of rows of `width` numbers, each plus `shift`, as the low byte of an integer; 0 for NaN.
///
/// # Panics
/// If `x` and `out` differ in length, or the grid has neither one number nor one for each row.
pub fn encode_rows(cpu: &Cpu, width: usize, x: &[f32], grid: &Grid<'_>, shift: f32, out: &mut [u8]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    if x.is_empty() {
        return;
    }
    let width = grid.width(width, 1);
    if width > 1 {
        grid.check(x.len() / width);
    }
    let rows = if width == 1 { GRAIN } else { piece_rows(width) };
    for_rows(cpu.pool(), out, width, rows, |first, out| {
        let x = &x[first * width..][..out.len()];
        cpu.enter(Encode { width, first, x, grid, shift, out });
    });
}

/// The numbers that rows of `width` numbers become by way of their codes: `(code - zero) * scale`.
///
/// # Panics
/// As [`encode_rows`].
pub fn round_rows(cpu: &Cpu, width: usize, x: &[f32], grid: &Grid<'_>, scale: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    if x.is_empty() {
        return;
    }
    let width = grid.width(width, scale.len());
    if width > 1 {
        grid.check(x.len() / width);
        check("scale", scale, x.len() / width);
    }
    let rows = if width == 1 { GRAIN } else { piece_rows(width) };
    for_rows(cpu.pool(), out, width, rows, |first, out| {
        let x = &x[first * width..][..out.len()];
        cpu.enter(RoundRows { width, first, x, grid, scale, out });
    });
}

/// A piece of [`encode_rows`].
pub(crate) struct Encode<'a> {
    width: usize,
    first: usize,
    x: &'a [f32],
    grid: &'a Grid<'a>,
    shift: f32,
    out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { width, first, x, grid, shift, out } = self;
        let width = if width == 1 { x.len() } else { width };
        for (index, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let row = grid.row(first + index);
            for (out, &x) in out.iter_mut().zip(x) {
                *out = (row.code(x) + (shift + ROUND)).to_bits() as u8;
            }
        }
    }
}

/// A piece of [`round_rows`].
pub(crate) struct RoundRows<'a> {
    width: usize,
    first: usize,
    x: &'a [f32],
    grid: &'a Grid<'a>,
    scale: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for RoundRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { width, first, x, grid, scale, out } = self;
        let width = if width == 1 { x.len() } else { width };
        for (index, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let (row, scale) = (grid.row(first + index), of_row(scale, first + index));
            for (out, &x) in out.iter_mut().zip(x) {
                *out = (row.code(x) - row.zero) * scale;
            }
        }
    }
}

/// `(code - zero) * scale` for codes of any bytes, one scale and zero for all.
///
/// # Panics
/// If `codes` and `out` differ in length.
pub fn decode_codes(cpu: &Cpu, codes: &[u8], signed: bool, scale: f32, zero: f32, out: &mut [f32]) {
    assert_eq!(codes.len(), out.len(), "input and output differ in length");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        cpu.enter(Decode { codes: &codes[first..][..out.len()], signed, scale, zero, out });
    });
}

/// A piece of [`decode_codes`].
pub(crate) struct Decode<'a> {
    codes: &'a [u8],
    signed: bool,
    scale: f32,
    zero: f32,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { codes, signed, scale, zero, out } = self;
        let codes = codes.iter().zip(out);
        if signed {
            codes.for_each(|(&code, out)| *out = (f32::from(code.cast_signed()) - zero) * scale);
        } else {
            codes.for_each(|(&code, out)| *out = (f32::from(code) - zero) * scale);
        }
    }
}

/// The exact product of bytes `a` `[rows, inner]` and `b` `[columns, inner]`, whose rows are the columns of the second
/// matrix; those of `a` are signed or not, those of `b` are.
///
/// # Panics
/// If a slice does not have as many elements as its shape says.
pub fn multiply_bytes(cpu: &Cpu, [rows, inner, columns]: [usize; 3], a: Bytes<'_>, b: &[i8], out: &mut [i32]) {
    assert_eq!([a.len(), b.len(), out.len()], [rows * inner, columns * inner, rows * columns], "lengths of matrices");
    if out.is_empty() {
        return;
    }
    for_rows(cpu.pool(), out, columns, (GRAIN / (inner * columns).max(1)).max(1), |first, out| {
        let wanted = first * inner..first * inner + out.len() / columns * inner;
        cpu.enter(Multiply { inner, columns, a: a.part(wanted), b, out });
    });
}

/// Bytes that are numbers with or without a sign.
#[derive(Clone, Copy, Debug)]
pub enum Bytes<'a> {
    /// -128..=127
    Signed(&'a [i8]),
    /// 0..=255
    Unsigned(&'a [u8]),
}

impl<'a> Bytes<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Signed(bytes) => bytes.len(),
            Self::Unsigned(bytes) => bytes.len(),
        }
    }

    fn part(self, range: std::ops::Range<usize>) -> Bytes<'a> {
        match self {
            Self::Signed(bytes) => Bytes::Signed(&bytes[range]),
            Self::Unsigned(bytes) => Bytes::Unsigned(&bytes[range]),
        }
    }
}

/// A piece of [`multiply_bytes`].
pub(crate) struct Multiply<'a> {
    inner: usize,
    columns: usize,
    a: Bytes<'a>,
    b: &'a [i8],
    out: &'a mut [i32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { inner, columns, a, b, out } = self;
        if inner == 0 {
            out.fill(0);
            return;
        }
        // Widened once for all columns.
        let mut wide = vec![0_i16; inner];
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            match a {
                Bytes::Signed(a) => widen(&mut wide, a[row * inner..][..inner].iter().map(|&x| i16::from(x))),
                Bytes::Unsigned(a) => widen(&mut wide, a[row * inner..][..inner].iter().map(|&x| i16::from(x))),
            }
            for (out, b) in out.iter_mut().zip(b.chunks_exact(inner)) {
                *out = wide.iter().zip(b).fold(0_i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)));
            }
        }
    }
}

#[inline(always)]
fn widen(to: &mut [i16], from: impl Iterator<Item = i16>) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from);
}
