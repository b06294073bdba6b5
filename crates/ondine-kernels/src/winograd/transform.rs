//! The two transforms of a tile and that of the weights, in vectors over channels.

use std::ops::Range;

use crate::{
    arch::{
        dot::MAX_WIDTH,
        enter::RawKernel,
        half::bf16_value,
        isa::Isa,
        vector::{MAX_LANES, Vector},
    },
    rowwise::for_rows,
    threads::Pool,
};

/// Places of a transformed tile.
pub(super) const PLACES: usize = 16;

/// The scales of a quantized tile, for each of its places.
pub(super) type TileScales = [f32; PLACES];

/// 1.5 * 2^23: added to a number below 2^22, it leaves the nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// What stands for 0 among quantized numbers: transformed pixels are differences, of either sign alike.
const ZERO: f32 = 128.0;

/// The lines of the matrix that transforms three weights of a line: the values of a polynomial at 0, 1, -1, infinity.
const WEIGHTS: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// The numbers of one place for weights `[.., 3, 3]`.
pub(super) fn weights(pool: &Pool, place: usize, weights: &[f32], out: &mut [f32]) {
    let (line, column) = (WEIGHTS[place / 4], WEIGHTS[place % 4]);
    let taps = (0..9).map(|tap| (tap, line[tap / 3] * column[tap % 3])).filter(|&(_, factor)| factor != 0.0);
    let taps: Vec<_> = taps.collect();
    for_rows(pool, out, 1, 1 << 14, |first, out| {
        for (out, weights) in out.iter_mut().zip(weights[9 * first..].chunks_exact(9)) {
            *out = taps.iter().map(|&(tap, factor)| factor * weights[tap]).sum();
        }
    });
}

/// What the transformed numbers of a tile are stored as.
#[derive(Clone, Copy)]
pub(super) enum Elements {
    F32,
    Bf16,
    /// Bytes, with a scale for each place. They are first held as f32 at this address, `[place][channel]`, channels
    /// filled up to [`MAX_LANES`].
    U8(*mut f32),
}

/// A tile of the input to transform.
pub(super) struct TileInput<'a> {
    /// 4x4 pixels.
    pub(super) pixels: &'a [*const u8; PLACES],
    /// True if they are bf16, false if f32.
    pub(super) bf16: bool,
    pub(super) channels: usize,
    /// The places wanted.
    pub(super) places: &'a [usize],
    /// The first place; channels are filled up to [`MAX_LANES`] with zeros.
    pub(super) out: *mut u8,
    /// From one place to the next.
    pub(super) place_bytes: usize,
    pub(super) elements: Elements,
}

/// Rows of numbers, one for each place. (Not a closure: that would be compiled without the features of the tier.)
trait Rows: Copy {
    /// Writes a vector.
    ///
    /// # Safety
    /// The row of the place has all lanes from `channel` on.
    unsafe fn put<V: Vector>(self, place: usize, channel: usize, x: V);
}

/// Rows of f32, so many bytes apart.
#[derive(Clone, Copy)]
struct Single(*mut u8, usize);

impl Rows for Single {
    #[inline(always)]
    unsafe fn put<V: Vector>(self, place: usize, channel: usize, x: V) {
        // SAFETY: as the caller says.
        unsafe { x.store(self.0.wrapping_add(place * self.1).cast::<f32>().wrapping_add(channel)) }
    }
}

/// Rows of bf16, so many bytes apart.
#[derive(Clone, Copy)]
struct Bf16(*mut u8, usize);

impl Rows for Bf16 {
    #[inline(always)]
    unsafe fn put<V: Vector>(self, place: usize, channel: usize, x: V) {
        // SAFETY: as the caller says.
        unsafe { x.store_bf16(self.0.wrapping_add(place * self.1).cast::<u16>().wrapping_add(channel)) }
    }
}

impl RawKernel for TileInput<'_> {
    /// The scales of the places, if they are quantized.
    type Output = TileScales;

    /// See [`TileInput`]: each pixel has the channels, each place whole vectors for them, and so has a stage.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) -> Self::Output {
        // SAFETY: as the caller says.
        unsafe { if self.bf16 { self.forward::<I::Vector, true>() } else { self.forward::<I::Vector, false>() } }
    }
}

impl TileInput<'_> {
    /// # Safety
    /// See [`RawKernel::run`]; so for the functions that this one calls.
    #[inline(always)]
    unsafe fn forward<V: Vector, const BF16: bool>(&self) -> TileScales {
        // SAFETY: as the caller says.
        unsafe {
            match self.elements {
                Elements::F32 => self.places::<V, BF16>(Single(self.out, self.place_bytes)),
                Elements::Bf16 => self.places::<V, BF16>(Bf16(self.out, self.place_bytes)),
                Elements::U8(stage) => {
                    let padded = self.channels.next_multiple_of(MAX_LANES);
                    self.places::<V, BF16>(Single(stage.cast(), padded * size_of::<f32>()));
                    return self.quantize::<V>(stage, padded);
                }
            }
        }
        TileScales::default()
    }

    /// Quantizes the rows of the stage, each by its largest number.
    ///
    /// # Safety
    /// See [`Self::forward`].
    #[inline(always)]
    unsafe fn quantize<V: Vector>(&self, stage: *mut f32, padded: usize) -> TileScales {
        let mut scales = [0.0; PLACES];
        for (place, scale) in scales.iter_mut().enumerate().take(self.places.len()) {
            // SAFETY: the stage has all places, filled up to whole vectors.
            *scale = unsafe { magnitude::<V>(stage.wrapping_add(place * padded), padded) };
        }
        let mut inverses = [0.0; PLACES];
        for (scale, inverse) in scales.iter_mut().zip(&mut inverses) {
            // A place of zeros stays so; one that is not finite makes its products NaN.
            *inverse = if *scale > f32::MIN_POSITIVE && scale.is_finite() { 127.0 / *scale } else { 0.0 };
            *scale = if scale.is_finite() { *scale / 127.0 } else { f32::NAN };
        }
        for (place, &inverse) in inverses.iter().enumerate().take(self.places.len()) {
            let out = self.out.wrapping_add(place * self.place_bytes);
            // SAFETY: as above, and so are the places.
            unsafe { quantize::<V>(stage.wrapping_add(place * padded), padded, inverse, out) };
        }
        scales
    }

    /// Writes the places wanted to `rows`, by their index among them.
    ///
    /// # Safety
    /// See [`Self::forward`].
    #[inline(always)]
    unsafe fn places<V: Vector, const BF16: bool>(&self, rows: impl Rows) {
        let whole = self.channels / V::LANES * V::LANES;
        for channel in (0..whole).step_by(V::LANES) {
            let mut tile = [[V::splat(0.0); 4]; 4];
            for (place, &pixel) in self.pixels.iter().enumerate() {
                // SAFETY: the caller vouches for the channels of each pixel.
                tile[place / 4][place % 4] = unsafe {
                    if BF16 {
                        V::load_bf16(pixel.cast::<u16>().add(channel))
                    } else {
                        V::load(pixel.cast::<f32>().add(channel))
                    }
                };
            }
            // SAFETY: as the caller says.
            unsafe { self.vector(channel, &tile, rows) };
        }
        // The last channels one by one, and zeros up to whole vectors of any tier.
        for channel in (whole..self.channels.next_multiple_of(MAX_LANES)).step_by(V::LANES) {
            let mut tile = [[V::splat(0.0); 4]; 4];
            for (place, &pixel) in self.pixels.iter().enumerate() {
                // SAFETY: as the caller says.
                tile[place / 4][place % 4] = unsafe { self.lanes(pixel, channel) };
            }
            // SAFETY: as the caller says.
            unsafe { self.vector(channel, &tile, rows) };
        }
    }

    /// The channels from `channel` on, zeros after the last.
    ///
    /// # Safety
    /// See [`Self::forward`].
    #[inline(always)]
    unsafe fn lanes<V: Vector>(&self, pixel: *const u8, channel: usize) -> V {
        let mut lanes = [0.0; MAX_LANES];
        let count = V::LANES.min(self.channels.saturating_sub(channel));
        for (lane, value) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for the channels of each pixel.
            *value = unsafe {
                if self.bf16 {
                    bf16_value(*pixel.cast::<u16>().add(channel + lane))
                } else {
                    *pixel.cast::<f32>().add(channel + lane)
                }
            };
        }
        // SAFETY: there are at least as many lanes as a vector has.
        unsafe { V::load(lanes.as_ptr()) }
    }

    /// Transforms a vector of channels.
    ///
    /// # Safety
    /// See [`Self::forward`].
    #[inline(always)]
    unsafe fn vector<V: Vector>(&self, channel: usize, tile: &[[V; 4]; 4], rows: impl Rows) {
        let mut lines = [[V::splat(0.0); 4]; 4];
        for x in 0..4 {
            let column = differences([tile[0][x], tile[1][x], tile[2][x], tile[3][x]]);
            for (line, value) in lines.iter_mut().zip(column) {
                line[x] = value;
            }
        }
        let mut index = 0;
        for (y, line) in lines.into_iter().enumerate() {
            for (x, value) in differences(line).into_iter().enumerate() {
                if self.places.len() == PLACES || (x != 2 && y != 2) {
                    // SAFETY: the caller vouches for whole vectors at each place.
                    unsafe { rows.put(index, channel, value) };
                    index += 1;
                }
            }
        }
    }
}

/// The transform of four numbers in a line.
#[inline(always)]
fn differences<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// The largest absolute value of `count` numbers, NaN if there is one.
///
/// # Safety
/// The address is valid for `count` elements, a multiple of the lanes.
#[inline(always)]
unsafe fn magnitude<V: Vector>(from: *const f32, count: usize) -> f32 {
    let mut most = V::splat(0.0);
    for channel in (0..count).step_by(V::LANES) {
        // SAFETY: as the caller says.
        most = most.max_magnitude(unsafe { V::load(from.add(channel)) });
    }
    most.largest_magnitude()
}

/// Writes `count` numbers as bytes, `ZERO` standing for 0.
///
/// # Safety
/// The addresses are valid for `count` elements, a multiple of the lanes.
#[inline(always)]
unsafe fn quantize<V: Vector>(from: *const f32, count: usize, inverse: f32, to: *mut u8) {
    let (inverse, zero) = (V::splat(inverse), V::splat(ROUND + ZERO));
    for channel in (0..count).step_by(V::LANES) {
        // SAFETY: as the caller says.
        unsafe { V::load(from.add(channel)).mul_add(inverse, zero).store_bytes(to.add(channel)) };
    }
}

/// Scales of the sums of quantized products of a panel.
pub(super) struct Quantized<'a> {
    /// Of each place: the scales of the columns.
    factors: Vec<[f32; MAX_WIDTH]>,
    /// Of each place: what the zero of the rows takes off the columns, times their scale.
    offsets: Vec<[f32; MAX_WIDTH]>,
    /// `[place][tile]`
    scales: &'a [f32],
}

impl<'a> Quantized<'a> {
    /// `places` yields scales and sums of weights of the columns of each place.
    pub(super) fn new<'p>(places: impl Iterator<Item = (&'p [f32], &'p [i32])>, scales: &'a [f32]) -> Self {
        let (mut factors, mut offsets) = (Vec::new(), Vec::new());
        for (of, sums) in places {
            let (mut factor, mut offset) = ([0.0; MAX_WIDTH], [0.0; MAX_WIDTH]);
            factor[..of.len()].copy_from_slice(of);
            for ((offset, scale), &sum) in offset.iter_mut().zip(of).zip(sums) {
                *offset = -ZERO * scale * sum as f32;
            }
            factors.push(factor);
            offsets.push(offset);
        }
        Self { factors, offsets, scales }
    }
}

/// Sums of neighbouring tiles to transform back.
pub(super) struct TileOutput<'a> {
    /// `[place][tile][column]`, f32 or, if quantized, i32.
    pub(super) sums: *const u32,
    /// From one place to the next.
    pub(super) place_words: usize,
    pub(super) tiles: Range<usize>,
    /// From one tile to the next.
    pub(super) width: usize,
    /// Columns, whole vectors.
    pub(super) columns: usize,
    pub(super) quantized: Option<&'a Quantized<'a>>,
    /// True if the places of the third line and column are left out, being zero.
    pub(super) doubled: bool,
    /// `[line][pixel][column]`: two lines of two pixels of each tile.
    pub(super) results: *mut f32,
}

impl RawKernel for TileOutput<'_> {
    type Output = ();

    /// See [`TileOutput`]: there are sums of all tiles and columns, and room for two lines of two pixels of each tile.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.quantized, self.doubled) {
                (None, false) => self.back::<I::Vector, false, false>(),
                (None, true) => self.back::<I::Vector, true, false>(),
                (Some(_), false) => self.back::<I::Vector, false, true>(),
                (Some(_), true) => self.back::<I::Vector, true, true>(),
            }
        }
    }
}

impl TileOutput<'_> {
    /// A vector of sums as numbers. Integers are corrected for the zero of the rows as f32: beside the rounding of the
    /// operands to 8 bits that of a sum to 24 does not count.
    ///
    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn number<V: Vector, const QUANTIZED: bool>(&self, place: usize, tile: usize, column: usize) -> V {
        let sums = self.sums.wrapping_add(place * self.place_words + tile * self.width + column);
        let (true, Some(by)) = (QUANTIZED, self.quantized) else {
            // SAFETY: the caller vouches for the sums of all tiles and columns.
            return unsafe { V::load(sums.cast()) };
        };
        let scale = by.scales[place * (by.scales.len() / by.factors.len()) + tile];
        // SAFETY: as above; factors and offsets are at least as many as columns.
        unsafe {
            let sum = V::load_i32(sums.cast());
            let factor = V::load(by.factors.as_ptr().add(place).cast::<f32>().add(column));
            let offset = V::load(by.offsets.as_ptr().add(place).cast::<f32>().add(column));
            sum.mul_add(factor, offset).mul(V::splat(scale))
        }
    }

    /// # Safety
    /// See [`RawKernel::run`].
    #[inline(always)]
    unsafe fn back<V: Vector, const DOUBLED: bool, const QUANTIZED: bool>(&self) {
        let line = 2 * self.tiles.len() * self.width;
        for (index, tile) in self.tiles.clone().enumerate() {
            for column in (0..self.columns).step_by(V::LANES) {
                let mut place = 0;
                let mut lines = [[V::splat(0.0); 4]; 4];
                for (y, line) in lines.iter_mut().enumerate() {
                    for (x, value) in line.iter_mut().enumerate() {
                        if !DOUBLED || (x != 2 && y != 2) {
                            // SAFETY: as the caller says.
                            *value = unsafe { self.number::<V, QUANTIZED>(place, tile, column) };
                            place += 1;
                        }
                    }
                }
                let mut halves = [[V::splat(0.0); 4]; 2];
                for x in 0..4 {
                    let [first, second] = sums::<V, DOUBLED>([lines[0][x], lines[1][x], lines[2][x], lines[3][x]]);
                    halves[0][x] = first;
                    halves[1][x] = second;
                }
                for (y, half) in halves.into_iter().enumerate() {
                    let [first, second] = sums::<V, DOUBLED>(half);
                    let to = self.results.wrapping_add(y * line + 2 * index * self.width + column);
                    // SAFETY: the caller vouches for two lines of two pixels of each tile.
                    unsafe {
                        first.store(to);
                        second.store(to.wrapping_add(self.width));
                    }
                }
            }
        }
    }
}

/// The transform of four sums in a line; doubled, the third is zero.
#[inline(always)]
fn sums<V: Vector, const DOUBLED: bool>([a, b, c, d]: [V; 4]) -> [V; 2] {
    if DOUBLED { [a.add(b), b.sub(d)] } else { [a.add(b).add(c), b.sub(c).sub(d)] }
}
