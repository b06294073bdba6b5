//! 3x3 convolutions with fewer multiplications: Winograd's F(2x2, 3x3) (Lavin and Gray 2016).
//!
//! The result is cut into tiles of 2x2 pixels. The 4x4 pixels of the input under a tile are transformed to 16 numbers
//! per channel, each of these places is a matrix product of its own, and the 16 sums are transformed back to 4
//! results: 16 multiplications instead of 36. If the input is doubled by repetition, seven of the places are always
//! zero, and 9 multiplications are left.
//!
//! A task transforms a block of tiles, multiplies it panel by panel, and finishes each panel while its sums are in the
//! cache. Both transforms only add and subtract; against a direct convolution the error of rounding the operands to
//! bf16 or 8 bits grows to about 1.7 times. Quantized blocks get a scale for each tile and place, so that a pixel that
//! sticks out costs its neighbours nothing.

#[cfg(test)]
mod suite;
mod transform;

use std::ops::Range;

use crate::{
    arch::dot::{MAX_WIDTH, Tile, WORD, WeightType},
    cpu::Cpu,
    gemm::{
        epilogue::{EpilogueCall, Target},
        matmul::Slots,
        micro::MicroCall,
        operand::{Epilogue, Output, Values, check_rows},
        weights::{Layout, PACKED_ALIGN, PackedWeights, WeightShape, WeightSource, pack},
    },
    pixels::ConvShape,
    winograd::transform::{Elements, PLACES, Quantized, TileInput, TileOutput},
};

/// The places of a transformed tile, line by line.
const ALL: [usize; PLACES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Those that remain if the input is doubled: the second and third line of a tile are equal then, and the places made
/// of their difference vanish.
const DOUBLED: [usize; 9] = [0, 1, 3, 4, 5, 7, 12, 13, 15];

/// Bytes of the transformed inputs of a block, about: it stays in the second-level cache.
const BLOCK_BYTES: usize = 1 << 20;

/// Bounds for the tiles of a block: few tiles read the weights too often.
const BLOCK_TILES: [usize; 2] = [48, 192];

/// The weights of a convolution for [`winograd`]: `[outputs, channels, 3, 3]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WinogradShape {
    /// The type to pack to.
    pub dtype: WeightType,
    /// Outputs.
    pub outputs: usize,
    /// Channels of the input.
    pub channels: usize,
    /// True if the input is doubled by repetition before it is convolved.
    pub doubled: bool,
}

impl WinogradShape {
    /// Bytes of the packed weights.
    #[must_use]
    pub fn packed_size(&self, cpu: &Cpu) -> usize {
        self.places().len() * self.linear().packed_size(cpu)
    }

    fn places(&self) -> &'static [usize] {
        if self.doubled { &DOUBLED } else { &ALL }
    }

    /// The shape of the weights of one place.
    fn linear(&self) -> WeightShape {
        WeightShape::linear(self.dtype, self.outputs, self.channels)
    }
}

impl ConvShape {
    /// The weights with which [`winograd`] computes this convolution, or `None` if it cannot: it takes 3x3 taps next
    /// to each other, steps of 1, one input and one group.
    #[must_use]
    pub fn winograd(&self, dtype: WeightType) -> Option<WinogradShape> {
        let &Self { channels, outputs, kernel, stride, dilation, groups, upsample, padding: [top, _, left, _], .. } =
            self;
        let plain = kernel == [3; 2] && stride == [1; 2] && dilation == [1; 2] && groups == 1 && channels[1] == 0;
        // Only then do tiles begin on the second of two equal lines.
        let aligned = !upsample || (top % 2 == 1 && left % 2 == 1);
        (plain && aligned).then_some(WinogradShape { dtype, outputs, channels: channels[0], doubled: upsample })
    }
}

/// Packs weights `[outputs, channels, 3, 3]` for one tier.
///
/// # Panics
/// If `weights` or `out` has another length than `shape` says, or `out` is not aligned to [`PACKED_ALIGN`].
pub fn pack_winograd(cpu: &Cpu, shape: &WinogradShape, weights: &[f32], out: &mut [u8]) {
    assert_eq!(weights.len(), shape.outputs * shape.channels * 9, "weights of {shape:?}");
    assert_eq!(out.len(), shape.packed_size(cpu), "packed bytes of {shape:?}");
    let linear = shape.linear();
    let mut transformed = vec![0.0; shape.outputs * shape.channels];
    for (&place, out) in shape.places().iter().zip(out.chunks_exact_mut(linear.packed_size(cpu))) {
        transform::weights(cpu.pool(), place, weights, &mut transformed);
        pack(cpu, &linear, WeightSource::F32(&transformed), out);
    }
}

/// A convolution to compute.
#[derive(Clone, Copy, Debug)]
pub struct WinogradProblem<'a> {
    /// The shape, for which [`ConvShape::winograd`] yields something.
    pub shape: ConvShape,
    /// The input. For weights of f32 it must be f32; otherwise it is rounded or quantized after it is transformed.
    pub input: Values<'a>,
    /// The type of the packed weights.
    pub dtype: WeightType,
    /// What [`pack_winograd`] wrote for the same tier.
    pub weights: &'a [u8],
    /// What happens to the product before it is stored. A row is a pixel.
    pub epilogue: Epilogue<'a>,
    /// Elements from one pixel of the result to the next, at least its channels.
    pub out_stride: usize,
}

/// Bytes of scratch that [`winograd`] needs.
#[must_use]
pub fn winograd_scratch_bytes(cpu: &Cpu, shape: &ConvShape, dtype: WeightType) -> usize {
    let Some(weights) = shape.winograd(dtype) else { return 0 };
    let blocks = Blocks::new(cpu.tile(), &weights, &Grid::new(shape), cpu.threads());
    cpu.threads() * Room::new(cpu.tile(), &weights, blocks.tiles).size + PACKED_ALIGN
}

/// Computes a convolution.
///
/// # Panics
/// If the shape is none for this algorithm, if a slice has the wrong length, if the packed weights are not aligned to
/// [`PACKED_ALIGN`], or if `scratch` has fewer bytes than [`winograd_scratch_bytes`].
#[expect(clippy::expect_used, reason = "said in its documentation")]
pub fn winograd(cpu: &Cpu, problem: &WinogradProblem<'_>, mut out: Output<'_>, scratch: &mut [u8]) {
    let &WinogradProblem { shape, input, dtype, weights, epilogue, out_stride } = problem;
    let grid = Grid::new(&shape);
    let weight_shape = shape.winograd(dtype).expect("a shape that Winograd's algorithm computes");
    assert!(dtype != WeightType::F32 || matches!(input, Values::F32(_)), "type of the input");
    assert_eq!(input.len(), shape.batch * shape.height * shape.width * shape.channels[0], "input of {shape:?}");
    assert_eq!(weights.len(), weight_shape.packed_size(cpu), "packed bytes of {shape:?}");
    let rows = shape.batch * grid.out[0] * grid.out[1];
    check_rows("output", out.len(), rows, shape.outputs, out_stride);
    let linear = weight_shape.linear();
    let size = linear.packed_size(cpu);
    let places: Vec<_> = weights.chunks_exact(size).map(|bytes| PackedWeights::new(cpu, linear, bytes)).collect();
    epilogue.check(&places[0], rows);
    if rows == 0 {
        return;
    }
    let (tile, pool) = (cpu.tile(), cpu.pool());
    let blocks = Blocks::new(tile, &weight_shape, &grid, pool.threads());
    let room = Room::new(tile, &weight_shape, blocks.tiles);
    let slots = Slots::new(scratch, room.size, pool.threads());
    let work = Work {
        cpu,
        shape: &shape,
        grid,
        input: Pixels { first: input.pointer(), bf16: matches!(input, Values::Bf16(_)) },
        zeros: vec![0.0; shape.channels[0]],
        dtype,
        places: weight_shape.places(),
        weights: &places,
        layout: Layout::new(&linear, tile),
        epilogue: &epilogue,
        out: out.target(),
        out_stride,
        room,
    };
    pool.run_with(blocks.count * blocks.panel_blocks, &|task, worker| {
        let (block, part) = (task / blocks.panel_blocks, task % blocks.panel_blocks);
        let tiles = block * blocks.tiles..grid.tiles().min((block + 1) * blocks.tiles);
        let panels =
            work.layout.panels * part / blocks.panel_blocks..work.layout.panels * (part + 1) / blocks.panel_blocks;
        if !tiles.is_empty() {
            // SAFETY: each thread uses the scratch of its own index.
            work.block(tiles, panels, unsafe { slots.get(worker, 0..room.size) });
        }
    });
}

/// The tiles of a result.
#[derive(Clone, Copy)]
struct Grid {
    batch: usize,
    /// Height and width of the result.
    out: [usize; 2],
    /// Tiles along height and width.
    size: [usize; 2],
}

/// A place in the grid.
#[derive(Clone, Copy)]
struct TileAt {
    image: usize,
    y: usize,
    x: usize,
}

impl Grid {
    fn new(shape: &ConvShape) -> Self {
        let out = shape.out_size();
        Self { batch: shape.batch, out, size: out.map(|size| size.div_ceil(2)) }
    }

    fn tiles(&self) -> usize {
        self.batch * self.size[0] * self.size[1]
    }

    fn at(&self, tile: usize) -> TileAt {
        let (line, x) = (tile / self.size[1], tile % self.size[1]);
        TileAt { image: line / self.size[0], y: line % self.size[0], x }
    }
}

/// How the work is cut into tasks.
struct Blocks {
    /// Tiles of a block.
    tiles: usize,
    /// Blocks of tiles.
    count: usize,
    /// Parts into which the panels are cut for each block.
    panel_blocks: usize,
}

impl Blocks {
    fn new(tile: Tile, weights: &WinogradShape, grid: &Grid, threads: usize) -> Self {
        let bytes = weights.places().len() * row_bytes(weights);
        let most = (BLOCK_BYTES / bytes).clamp(BLOCK_TILES[0], BLOCK_TILES[1]);
        let (tiles, panels) = (grid.tiles().max(1), Layout::new(&weights.linear(), tile).panels);
        let mut count = tiles.div_ceil(most);
        let mut panel_blocks = 1;
        if count >= 2 * threads {
            // As many for each thread.
            count = count.next_multiple_of(threads);
        } else if threads > 1 {
            panel_blocks = (2 * threads).div_ceil(count).min(panels);
        }
        let tiles = tiles.div_ceil(count).next_multiple_of(tile.rows);
        Self { tiles, count, panel_blocks }
    }
}

/// Bytes of one tile and place of the transformed input: whole vectors of any tier.
fn row_bytes(weights: &WinogradShape) -> usize {
    weights.channels.next_multiple_of(PLACES) * weights.dtype.activation_bytes()
}

/// Where things are in the scratch of a thread; offsets in bytes.
#[derive(Clone, Copy)]
struct Room {
    /// From one place of the transformed input to the next.
    place: usize,
    /// Sums of a panel, `[place][tile][column]`.
    sums: usize,
    /// Results of a panel, `[tile][line][pixel][column]`.
    results: usize,
    /// A transformed tile before it is quantized, `[place][channel]`.
    stage: usize,
    size: usize,
}

impl Room {
    fn new(Tile { width, .. }: Tile, weights: &WinogradShape, tiles: usize) -> Self {
        let places = weights.places().len();
        // The places lie a line of the cache apart from where they would meet in its sets.
        let place = (tiles * row_bytes(weights)).next_multiple_of(PACKED_ALIGN) + PACKED_ALIGN;
        let sums = places * place;
        let results = sums + places * tiles * width * WORD;
        let stage = results + 4 * tiles * width * WORD;
        let staged =
            if weights.dtype == WeightType::S8 { places * weights.channels.next_multiple_of(PLACES) * WORD } else { 0 };
        let size = (stage + staged).next_multiple_of(PACKED_ALIGN);
        Self { place, sums, results, stage, size }
    }
}

/// The input as addresses.
#[derive(Clone, Copy)]
struct Pixels {
    first: *const u8,
    bf16: bool,
}

/// A convolution under way.
struct Work<'a> {
    cpu: &'a Cpu,
    shape: &'a ConvShape,
    grid: Grid,
    input: Pixels,
    /// A pixel of the padding, whatever the type.
    zeros: Vec<f32>,
    dtype: WeightType,
    places: &'static [usize],
    /// Of each place.
    weights: &'a [PackedWeights<'a>],
    layout: Layout,
    epilogue: &'a Epilogue<'a>,
    out: Target,
    out_stride: usize,
    room: Room,
}

// SAFETY: the addresses are those of slices that the caller of `winograd` holds, and no two tasks write the same
// elements.
unsafe impl Sync for Work<'_> {}

impl Work<'_> {
    /// Computes the columns of `panels` of a block of tiles.
    fn block(&self, tiles: Range<usize>, panels: Range<usize>, scratch: &mut [u8]) {
        let mut scales = vec![0.0; self.places.len() * tiles.len()];
        self.transform(tiles.clone(), scratch, &mut scales);
        let scratch = scratch.as_mut_ptr();
        let (padded, row) = (tiles.len().next_multiple_of(self.cpu.tile().rows), self.row_bytes());
        // Rows that fill up the last tile of the micro-kernel repeat the last one.
        let rows: Vec<_> =
            (0..padded).map(|i| scratch.wrapping_add(i.min(tiles.len() - 1) * row).cast_const()).collect();
        for panel in panels {
            for place in 0..self.places.len() {
                self.multiply(panel, place, &rows, scratch);
            }
            self.finish(panel, tiles.clone(), scratch, &scales);
        }
    }

    fn row_bytes(&self) -> usize {
        self.shape.channels[0].next_multiple_of(PLACES) * self.dtype.activation_bytes()
    }

    /// Transforms the input under the tiles, to `[place][tile][channel]`.
    fn transform(&self, tiles: Range<usize>, scratch: &mut [u8], scales: &mut [f32]) {
        let count = tiles.len();
        let (row, channels) = (self.row_bytes(), self.shape.channels[0]);
        let scratch = scratch.as_mut_ptr();
        for (index, tile) in tiles.enumerate() {
            let pixels = self.pixels(self.grid.at(tile));
            // SAFETY: pixels are those of the input, which has been checked, or zeros; the scratch has rows of whole
            // vectors for all places, and a stage.
            let scale = unsafe {
                self.cpu.enter_raw(TileInput {
                    pixels: &pixels,
                    bf16: self.input.bf16,
                    channels,
                    places: self.places,
                    out: scratch.wrapping_add(index * row),
                    place_bytes: self.room.place,
                    elements: match self.dtype {
                        WeightType::F32 => Elements::F32,
                        WeightType::Bf16 => Elements::Bf16,
                        WeightType::S8 => Elements::U8(scratch.wrapping_add(self.room.stage).cast()),
                    },
                })
            };
            for (place, scale) in scale.iter().enumerate().take(self.places.len()) {
                scales[place * count + index] = *scale;
            }
        }
    }

    /// The addresses of the 4x4 pixels under a tile.
    fn pixels(&self, TileAt { image, y, x }: TileAt) -> [*const u8; PLACES] {
        let &ConvShape { height, width, channels, padding, upsample, .. } = self.shape;
        let double = usize::from(upsample);
        let bytes = channels[0] * if self.input.bf16 { 2 } else { 4 };
        // Coordinates left of or above the input wrap around and fail the comparison.
        let inside = |at: usize, padding: usize, size: usize| {
            let place = at.wrapping_sub(padding);
            (place < size << double).then_some(place >> double)
        };
        let columns: [_; 4] = std::array::from_fn(|column| inside(2 * x + column, padding[2], width));
        let mut pixels = [self.zeros.as_ptr().cast(); PLACES];
        for (line, pixels) in pixels.chunks_exact_mut(4).enumerate() {
            let Some(line) = inside(2 * y + line, padding[0], height) else { continue };
            let line = self.input.first.wrapping_add((image * height + line) * width * bytes);
            for (pixel, column) in pixels.iter_mut().zip(columns) {
                if let Some(column) = column {
                    *pixel = line.wrapping_add(column * bytes);
                }
            }
        }
        pixels
    }

    /// Multiplies all rows of a place with a panel.
    fn multiply(&self, panel: usize, place: usize, rows: &[*const u8], scratch: *mut u8) {
        let Tile { rows: tile_rows, width, lanes } = self.cpu.tile();
        let columns = self.layout.panel_columns(panel);
        let words = self.weights[place].words(self.layout.panel_offset(0, panel));
        let sums = scratch.wrapping_add(self.room.sums + place * rows.len() * width * WORD).cast::<u32>();
        for (tile, rows) in rows.chunks_exact(tile_rows).enumerate() {
            // SAFETY: `rows` are addresses of whole transformed rows, the packed weights hold `layout.words` words for
            // each column of the panel, and the scratch has sums for all rows of each place.
            unsafe {
                self.cpu.enter_raw(&MicroCall {
                    dtype: self.dtype,
                    rows: rows.as_ptr(),
                    stride: tile_rows,
                    offset: place * self.room.place,
                    runs: 1,
                    words: self.layout.words,
                    panel: words,
                    count: tile_rows,
                    vectors: columns / lanes,
                    sums: sums.add(tile * tile_rows * width),
                    sum_stride: width,
                    clear: true,
                });
            }
        }
    }

    /// Transforms the sums of a panel back and stores the results.
    fn finish(&self, panel: usize, tiles: Range<usize>, scratch: *mut u8, scales: &[f32]) {
        let width = self.cpu.tile().width;
        let columns = self.layout.panel_columns(panel);
        let padded = tiles.len().next_multiple_of(self.cpu.tile().rows);
        let mut bias = [0.0; MAX_WIDTH];
        if let Some(from) = self.epilogue.bias {
            let from = &from[panel * width..];
            let count = columns.min(from.len());
            bias[..count].copy_from_slice(&from[..count]);
        }
        let quantized = (self.dtype == WeightType::S8).then(|| {
            Quantized::new(self.weights.iter().map(|place| place.quantization(&self.layout, 0, panel)), scales)
        });
        let sums = scratch.wrapping_add(self.room.sums).cast::<u32>();
        let results = scratch.wrapping_add(self.room.results).cast::<f32>();
        let mut tile = tiles.start;
        while tile < tiles.end {
            let at = self.grid.at(tile);
            // The tiles of one line of them.
            let count = (self.grid.size[1] - at.x).min(tiles.end - tile);
            // SAFETY: the scratch has the sums of all tiles, and room for their results.
            unsafe {
                self.cpu.enter_raw(TileOutput {
                    sums,
                    place_words: padded * width,
                    tiles: tile - tiles.start..tile - tiles.start + count,
                    width,
                    columns,
                    quantized: quantized.as_ref(),
                    doubled: self.places.len() < PLACES,
                    results,
                });
            }
            self.store(panel, at, count, &bias, results);
            tile += count;
        }
    }

    /// Stores the results of neighbouring tiles, `[line][pixel][column]`.
    fn store(&self, panel: usize, at: TileAt, count: usize, bias: &[f32; MAX_WIDTH], results: *const f32) {
        let width = self.cpu.tile().width;
        let column = panel * width;
        let columns = self.layout.panel_columns(panel);
        let pixels = (2 * count).min(self.grid.out[1] - 2 * at.x);
        for line in 0..2.min(self.grid.out[0] - 2 * at.y) {
            let first = (at.image * self.grid.out[0] + 2 * at.y + line) * self.grid.out[1] + 2 * at.x;
            let address = |stride: usize| first * stride + column;
            let stride = self.epilogue.residual_stride;
            // SAFETY: the transform back wrote `2 * count` pixels of each line; the caller of `winograd` checked the
            // lengths of residual and output.
            unsafe {
                self.cpu.enter_raw(&EpilogueCall {
                    sums: std::slice::from_raw_parts(results.add(line * 2 * count * width).cast(), pixels * width),
                    width,
                    rows: pixels,
                    columns,
                    results: columns.min(self.shape.outputs - column),
                    dequantize: None,
                    bias,
                    rounded: self.epilogue.rounded.as_ref(),
                    activation: self.epilogue.activation,
                    gate: 0,
                    residual: self.epilogue.residual.map(|from| (from.source().add(address(stride)), stride)),
                    out: (self.out.add(address(self.out_stride)), self.out_stride),
                });
            }
        }
    }
}
