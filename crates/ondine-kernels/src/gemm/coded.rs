//! Products with weights in few bits, which stay so in memory.
//!
//! A few rows are multiplied with the codes as they are read: such products wait for the memory, and codes are a
//! quarter to a sixteenth of what f32 takes. For more rows a step of a panel is unpacked once, into memory that stays
//! in the cache, and multiplied as any other. Rows of codes are multiplied with codes, see
//! [`grouped`](crate::gemm::grouped), and those with a scale for each block too, see [`blocked`](crate::gemm::blocked).
//!
//! Panels are those of [`Layout`], of words that hold consecutive channels of one column, the first in the lowest bits.
//! (Of 6 bits three words hold 16 channels: two the lower four bits of each, one the upper two, in the order of
//! [`CodeVector::six_bits`](crate::arch::vector::CodeVector::six_bits).) Each group of channels begins with a new word.
//! Behind the words lie scales ([`GroupNumbers`]), and zeros, f16, or minima, as the scales, by panel, group, column;
//! behind those what steps are multiplied with, by panel, super-block, column.

use std::{cell::RefCell, ops::Range};

use half::f16;

use crate::{
    arch::{
        dot::{MAX_ROWS, MAX_WIDTH, Tile, WORD, WeightType},
        half::bf16_value,
    },
    cpu::Cpu,
    gemm::{
        decode::{CodeLevels, CodedCall, CodedPanel, CodedWork, FEW_ROWS, GroupNumbers, unit},
        epilogue::{EpilogueCall, Target},
        grouped::{CODES, CodeRows, sum_of_codes},
        laid::BlockedRows,
        micro::MicroCall,
        operand::{Epilogue, Input, Output, check_columns, check_rows},
        rows::Line,
        weights::{Layout, PACKED_ALIGN, WeightShape},
    },
    quant::blocks::{BLOCK, HALF_BLOCK, blocked_row_len},
};

/// Rows of a block, for which a step of a panel is unpacked once.
const BLOCK_ROWS: usize = 192;

/// Rows of a block if they are in blocks themselves: tiles of such rows are read from one end to the other and need not
/// be near; a panel had better be read once.
const BLOCKED_ROWS: usize = 512;

/// Bytes of an unpacked step of a panel, at most.
const STEP_BYTES: usize = 128 << 10;

/// Pieces of work per thread.
const TASKS_PER_THREAD: usize = 4;

/// Entries of a table.
const TABLE: usize = 16;

/// The shape of a linear layer's weights `[outputs, channels]` in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodedShape {
    /// Rows of the weights. With `glu`, twice the columns of the result.
    pub outputs: usize,
    /// Elements of a row.
    pub channels: usize,
    /// Of a code: 2, 4, 6 or 8; a table has 2 or 4.
    pub bits: u32,
    /// Consecutive channels with one scale; at least one.
    pub group: usize,
    /// How codes become numbers.
    pub levels: CodeLevels,
    /// What scales and minima are.
    pub numbers: GroupNumbers,
    /// True if the result is the first half of the outputs times the activated second half.
    pub glu: bool,
}

/// Where things are in the packed bytes.
#[derive(Clone, Copy, Debug)]
struct Places {
    layout: Layout,
    groups: usize,
    /// Words of a group in a column; of a tap, if these begin with new words.
    group_words: usize,
    /// Words of a column.
    words: usize,
    scales: usize,
    zeros: usize,
    /// Of scales, and of minima.
    units: [usize; 2],
    /// Groups of a super-block; one if there are no steps.
    steps: usize,
    super_blocks: usize,
    table: usize,
    size: usize,
}

impl CodedShape {
    /// The number of bytes of the packed weights.
    #[must_use]
    pub fn packed_size(&self, cpu: &Cpu) -> usize {
        self.places(cpu.tile()).size
    }

    /// Columns of the result.
    #[must_use]
    pub fn columns(&self) -> usize {
        if self.glu { self.outputs / 2 } else { self.outputs }
    }

    /// Words of so many channels of a group, the last filled up.
    fn words(&self, channels: usize) -> usize {
        let (codes, words) = unit(self.bits);
        channels.div_ceil(codes) * words
    }

    /// Bytes of a scale.
    fn scale_bytes(&self) -> usize {
        match self.numbers {
            GroupNumbers::F16 => size_of::<f16>(),
            GroupNumbers::F32 => size_of::<f32>(),
            GroupNumbers::Steps { .. } => size_of::<u8>(),
        }
    }

    /// Bytes of a zero or a minimum.
    fn zero_bytes(&self) -> usize {
        match self.levels {
            CodeLevels::Zeros => size_of::<f16>(),
            CodeLevels::Minima => self.scale_bytes(),
            CodeLevels::Symmetric | CodeLevels::Table => 0,
        }
    }

    /// True if rows in blocks ([`blocked_row_len`]) are multiplied with the codes: groups are blocks, halves of them,
    /// or consist of blocks.
    #[must_use]
    pub fn multiplies_blocks(&self) -> bool {
        let group = self.group.min(self.channels);
        let blocks = group == HALF_BLOCK || group.is_multiple_of(BLOCK);
        self.levels != CodeLevels::Table && self.channels.is_multiple_of(BLOCK) && blocks
    }

    /// True if rows of 8-bit codes are multiplied with the codes: those of a group are whole words of four.
    #[must_use]
    pub fn multiplies_codes(&self) -> bool {
        let apart = self.group < self.channels;
        self.levels != CodeLevels::Table
            && self.channels.is_multiple_of(CODES)
            && (!apart || self.group.is_multiple_of(CODES))
    }

    fn plain(&self) -> WeightShape {
        WeightShape { glu: self.glu, ..WeightShape::linear(WeightType::F32, self.outputs, self.channels) }
    }

    fn places(&self, tile: Tile) -> Places {
        let group = self.group.min(self.channels).max(1);
        let groups = self.channels.div_ceil(group).max(1);
        let (group_words, last) = (self.words(group), self.channels.saturating_sub((groups - 1) * group));
        self.places_behind(tile, group_words, (groups - 1) * group_words + self.words(last))
    }

    /// Where things are if a column has so many words, those of each part that begins with a new one `part_words`.
    fn places_behind(&self, tile: Tile, part_words: usize, words: usize) -> Places {
        let fits = match self.levels {
            CodeLevels::Table => matches!(self.bits, 2 | 4),
            CodeLevels::Symmetric | CodeLevels::Zeros | CodeLevels::Minima => matches!(self.bits, 2 | 4 | 6 | 8),
        };
        let steps = match self.numbers {
            GroupNumbers::Steps { groups } => groups,
            GroupNumbers::F16 | GroupNumbers::F32 => 1,
        };
        let fits = fits && steps.is_power_of_two();
        assert!(fits && self.group > 0 && self.channels > 0 && self.outputs > 0, "no codes: {self:?}");
        let layout = Layout::new(&self.plain(), tile);
        let groups = self.channels.div_ceil(self.group.min(self.channels));
        let super_blocks = groups.div_ceil(steps);
        let numbers = groups * layout.columns;
        let scales = layout.columns * words * WORD;
        let zeros = scales + if self.levels == CodeLevels::Table { 0 } else { numbers * self.scale_bytes() };
        let first = (zeros + numbers * self.zero_bytes()).next_multiple_of(size_of::<f16>());
        let count = match (self.numbers, self.levels) {
            (GroupNumbers::F16 | GroupNumbers::F32, _) | (_, CodeLevels::Table) => 0,
            (GroupNumbers::Steps { .. }, _) => super_blocks * layout.columns * size_of::<f16>(),
        };
        let units = [first, first + count];
        let end = units[1] + if self.levels == CodeLevels::Minima { count } else { 0 };
        let table = end.next_multiple_of(PACKED_ALIGN);
        let size = table + if self.levels == CodeLevels::Table { TABLE * WORD } else { 0 };
        let group_words = part_words;
        Places { layout, groups, group_words, words, scales, zeros, units, steps, super_blocks, table, size }
    }

    /// What is taken off the codes when they are read as signed integers; the zero of symmetric ones, less this.
    fn centre(&self) -> (f32, f32) {
        let centre = f32::from(1_u8 << (self.bits - 1));
        (centre, if self.bits == 2 { -0.5 } else { 0.0 })
    }
}

impl Places {
    /// Offsets of the words, the scales and the zeros of a panel.
    fn panel(&self, panel: usize, width: usize, shape: &CodedShape) -> [usize; 3] {
        let numbers = panel * width * self.groups;
        let scales = self.scales + numbers * shape.scale_bytes();
        [panel * width * self.words * WORD, scales, self.zeros + numbers * shape.zero_bytes()]
    }

    /// The codes of a panel in packed bytes.
    fn coded(&self, panel: usize, width: usize, shape: &CodedShape, weights: &[u8]) -> CodedPanel {
        let [words, scales, zeros] = self.panel(panel, width, shape);
        let at = |offset: usize| weights.as_ptr().wrapping_add(offset);
        let (centre, symmetric_zero) = shape.centre();
        let units = self.panel_units(panel, width);
        CodedPanel {
            bits: shape.bits,
            levels: shape.levels,
            centre,
            symmetric_zero,
            channels: shape.channels,
            group: shape.group.min(shape.channels),
            group_words: self.group_words,
            groups: self.groups,
            columns: self.layout.panel_columns(panel),
            words: at(words).cast(),
            scales: at(scales),
            numbers: shape.numbers,
            zeros: at(zeros),
            units: units.map(|offset| at(offset).cast()),
            unit_shift: self.steps.trailing_zeros(),
            table: at(self.table).cast(),
        }
    }

    /// Offsets of what the steps of a panel's scales and of its minima are multiplied with.
    fn panel_units(&self, panel: usize, width: usize) -> [usize; 2] {
        self.units.map(|first| first + panel * width * self.super_blocks * size_of::<f16>())
    }
}

/// A linear layer with weights in few bits to compute.
#[derive(Clone, Copy, Debug)]
pub struct CodedProblem<'a> {
    /// Rows of the input and of the result.
    pub rows: usize,
    /// The input: f32, bf16, u8 if [`CodedShape::multiplies_codes`], or in blocks if [`CodedShape::multiplies_blocks`].
    pub input: Input<'a>,
    /// Elements from one row of the input to the next, at least the channels; of rows in blocks their bytes.
    pub input_stride: usize,
    /// Of the weights.
    pub shape: CodedShape,
    /// What [`pack_coded`](pack::pack_coded) wrote for this shape and the same tier.
    pub weights: &'a [u8],
    /// What happens to the product before it is stored.
    pub epilogue: Epilogue<'a>,
    /// Elements from one row of the result to the next, at least its columns.
    pub out_stride: usize,
}

/// Computes a linear layer with weights in few bits.
///
/// # Panics
/// If the input is of codes that the shape does not multiply or of rows with their scales, if a slice is too short for
/// its rows and stride, or if the packed bytes have another length than [`CodedShape::packed_size`] or are not aligned
/// to [`PACKED_ALIGN`].
pub fn gemm_coded(cpu: &Cpu, problem: &CodedProblem<'_>, out: Output<'_>) {
    product(cpu, problem, None, out);
}

/// Computes those columns of a linear layer that are named, in rising order: what they are among all, to the bit. What
/// the result has at other columns may be left as it was, or be overwritten.
///
/// # Panics
/// As [`gemm_coded`], if the weights are gated, or if a column is none or not behind the one before.
pub fn gemm_coded_columns(cpu: &Cpu, problem: &CodedProblem<'_>, columns: &[usize], out: Output<'_>) {
    check_columns(columns, problem.shape.outputs, problem.shape.glu);
    product(cpu, problem, Some(columns), out);
}

#[expect(clippy::panic, reason = "said in the documentation of its callers")]
fn product(cpu: &Cpu, problem: &CodedProblem<'_>, columns: Option<&[usize]>, mut out: Output<'_>) {
    let &CodedProblem { rows, input, input_stride, shape, weights, epilogue, out_stride } = problem;
    let places = shape.places(cpu.tile());
    assert_eq!(weights.len(), places.size, "packed bytes of {shape:?}");
    assert!(weights.as_ptr().addr().is_multiple_of(PACKED_ALIGN), "packed bytes are not aligned");
    check_rows("input", input.len(), rows, shape.channels, input_stride);
    check_rows("output", out.len(), rows, shape.columns(), out_stride);
    epilogue.check_shape(shape.outputs, shape.columns(), rows);
    // Few rows are multiplied in f32, and so are those of bf16 that do not consist of whole words.
    let pairs = shape.channels.is_multiple_of(2) && (places.groups == 1 || shape.group.is_multiple_of(2));
    let converted: Vec<f32>;
    let (input, stride) = match input {
        Input::Bf16(values) if rows <= FEW_ROWS || !pairs => {
            let row = |row: usize| &values[row * input_stride..][..shape.channels];
            converted = (0..rows).flat_map(|index| row(index).iter().map(|x| bf16_value(x.to_bits()))).collect();
            (Input::F32(&converted), shape.channels)
        }
        Input::F32(_) | Input::Bf16(_) => (input, input_stride),
        Input::U8 { .. } if shape.multiplies_codes() => (input, input_stride),
        Input::Blocks(bytes) if shape.multiplies_blocks() => {
            let len = blocked_row_len(shape.channels);
            assert!(input_stride == len && bytes.len() == rows * len, "the input is not {rows} rows of {len} bytes");
            (input, input_stride)
        }
        Input::U8 { .. } | Input::Rows8(_) | Input::Blocks(_) => {
            panic!("{shape:?} is not multiplied with quantized rows")
        }
    };
    let dtype = input.weight_type();
    let group = shape.group.min(shape.channels);
    let codes = code_rows(problem, places.groups);
    let mut sums = Vec::new();
    if let (Input::F32(values), true) = (input, rows <= FEW_ROWS && shape.levels != CodeLevels::Table) {
        let row_sums = (0..rows).flat_map(|row| values[row * stride..][..shape.channels].chunks(group));
        sums = row_sums.map(sum_of).collect();
    }
    let product = CodedGemm {
        cpu,
        shape: &shape,
        places: &places,
        weights,
        rows,
        dtype,
        input: input.pointer(),
        row_bytes: stride * dtype.activation_bytes(),
        sums: &sums,
        codes,
        blocks: None,
        epilogue: &epilogue,
        columns,
        out: out.target(),
        out_stride,
    };
    let Input::Blocks(bytes) = input else { return product.run() };
    LAID_ROWS.with_borrow_mut(|memory| {
        let blocks = Some(BlockedRows::new(cpu, bytes, &product.panel(0), memory));
        CodedGemm { blocks, ..product }.run();
    });
}

/// What is known of rows of codes.
fn code_rows<'a>(problem: &CodedProblem<'a>, groups: usize) -> Option<CodeRows<'a>> {
    let &CodedProblem { rows, input, input_stride, shape, .. } = problem;
    let (Some(scales), Input::U8 { values, .. }) = (input.scales(rows), input) else { return None };
    let mut sums = Vec::new();
    if shape.levels != CodeLevels::Symmetric || shape.centre().1 != 0.0 {
        let group = shape.group.min(shape.channels);
        let row = |row: usize| {
            let codes = values[row * input_stride..][..shape.channels].chunks(group);
            codes.map(move |codes| sum_of_codes(codes, scales.of(row).zero))
        };
        sums = (0..rows).flat_map(row).collect();
    }
    Some(CodeRows { scales, sums, groups })
}

/// The sum of a group's activations, in sixteen parts.
fn sum_of(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Memory of a thread that outlives a product.
#[derive(Default)]
struct Scratch {
    sums: Vec<Line>,
    panel: Vec<Line>,
    words: Vec<Line>,
    products: Vec<Line>,
    /// Scales and minima.
    numbers: [Vec<Line>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Of the thread that calls.
    static LAID_ROWS: RefCell<Vec<u32>> = RefCell::default();
}

/// The address of at least so many words.
fn room(lines: &mut Vec<Line>, words: usize) -> *mut u32 {
    let count = words.div_ceil(16);
    if lines.len() < count {
        lines.resize(count, Line([0; 16]));
    }
    lines.as_mut_ptr().cast()
}

/// A product under way.
struct CodedGemm<'a> {
    cpu: &'a Cpu,
    shape: &'a CodedShape,
    places: &'a Places,
    weights: &'a [u8],
    rows: usize,
    dtype: WeightType,
    input: *const u8,
    row_bytes: usize,
    /// Of the activations of each row and group; only for few rows.
    sums: &'a [f32],
    /// Of rows of codes.
    codes: Option<CodeRows<'a>>,
    /// Of rows in blocks.
    blocks: Option<BlockedRows<'a>>,
    epilogue: &'a Epilogue<'a>,
    /// The columns that are wanted, if not all of them.
    columns: Option<&'a [usize]>,
    out: Target,
    out_stride: usize,
}

// SAFETY: the addresses are those of slices that the caller of `gemm_coded` holds, and no two tasks write the same
// elements.
unsafe impl Sync for CodedGemm<'_> {}

impl CodedGemm<'_> {
    fn run(&self) {
        let (pool, wanted_panels) = (self.cpu.pool(), self.places.layout.panels_of(self.columns));
        let panels = wanted_panels.count();
        let (most_rows, tile_rows) =
            if self.blocks.is_some() { (BLOCKED_ROWS, MAX_ROWS) } else { (BLOCK_ROWS, self.cpu.tile().rows) };
        let blocks = self.rows.div_ceil(most_rows).max(1);
        let block_rows = self.rows.div_ceil(blocks).next_multiple_of(tile_rows);
        let wanted = if pool.threads() == 1 { 1 } else { (pool.threads() * TASKS_PER_THREAD).div_ceil(blocks) };
        let per_task = panels.div_ceil(wanted).max(1);
        pool.run(panels.div_ceil(per_task) * blocks, &|task| {
            let rows = task % blocks * block_rows..self.rows.min((task % blocks + 1) * block_rows);
            let first = task / blocks * per_task;
            if rows.is_empty() {
                return;
            }
            SCRATCH.with_borrow_mut(|scratch| {
                for panel in wanted_panels.part(first, per_task) {
                    match (&self.codes, &self.blocks) {
                        (Some(codes), _) => self.codes(codes, panel, rows.clone(), scratch),
                        (None, Some(blocks)) => self.blocks(blocks, panel, rows.clone(), scratch),
                        (None, None) if self.rows <= FEW_ROWS => self.few(panel, scratch),
                        (None, None) => self.many(panel, rows.clone(), scratch),
                    }
                }
            });
        });
    }

    /// The codes of a panel.
    fn panel(&self, panel: usize) -> CodedPanel {
        self.places.coded(panel, self.cpu.tile().width, self.shape, self.weights)
    }

    /// All rows, with codes as they are read.
    fn few(&self, panel: usize, scratch: &mut Scratch) {
        let sums = room(&mut scratch.sums, FEW_ROWS * self.cpu.tile().width);
        let mut rows = [self.input.cast::<f32>(); FEW_ROWS];
        for (index, row) in rows.iter_mut().enumerate() {
            *row = self.input.wrapping_add(index.min(self.rows - 1) * self.row_bytes).cast();
        }
        let of_row = if self.sums.is_empty() { 0 } else { self.places.groups };
        let call = CodedCall {
            panel: self.panel_of_numbers(panel, &mut scratch.numbers),
            work: CodedWork::Few {
                rows,
                count: self.rows,
                row_sums: std::array::from_fn(|row| self.sums.as_ptr().wrapping_add(row.min(self.rows - 1) * of_row)),
                sums: sums.cast(),
                width: self.cpu.tile().width,
            },
        };
        // SAFETY: rows, codes and sums of activations are those of slices that have been checked; there is room for a
        // tile, which has then been filled.
        let tile = unsafe {
            self.cpu.enter_raw(&call);
            std::slice::from_raw_parts(sums, FEW_ROWS * self.cpu.tile().width)
        };
        self.finish(panel, 0, self.rows, tile);
    }

    /// A block of rows, with codes unpacked step by step.
    fn many(&self, panel: usize, rows: Range<usize>, scratch: &mut Scratch) {
        let Tile { rows: tile_rows, width, lanes } = self.cpu.tile();
        let columns = self.places.layout.panel_columns(panel);
        let tile_words = tile_rows * width;
        let sums = room(&mut scratch.sums, rows.len().div_ceil(tile_rows) * tile_words);
        let codes = self.panel_of_numbers(panel, &mut scratch.numbers);
        for step in steps(self.shape, STEP_BYTES / (width * WORD)) {
            let unpacked = room(&mut scratch.panel, step.len() * columns);
            let pairs = room(&mut scratch.words, step.len().div_ceil(2) * columns);
            let bf16 = self.dtype == WeightType::Bf16;
            let to = bf16.then_some(pairs);
            let work = CodedWork::Unpack { channels: step.clone(), to: unpacked.cast(), pairs: to };
            // SAFETY: the codes are those of a slice that has been checked, and there is room for the step.
            unsafe { self.cpu.enter_raw(&CodedCall { panel: codes, work }) };
            let words = if bf16 { step.len() / 2 } else { step.len() };
            let (first, last) = (step.start == 0, step.end == self.shape.channels);
            for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
                let count = tile_rows.min(rows.end - row);
                let at = |index: usize| self.input.wrapping_add((row + index.min(count - 1)) * self.row_bytes);
                let pointers: [*const u8; MAX_ROWS] = std::array::from_fn(at);
                // SAFETY: the rows hold all channels, the sums have room for all tiles, and as many words have just
                // been unpacked for each column.
                let sums = unsafe {
                    let sums = sums.add(tile * tile_words);
                    self.cpu.enter_raw(&MicroCall {
                        dtype: self.dtype,
                        rows: pointers.as_ptr(),
                        stride: MAX_ROWS,
                        offset: step.start * self.dtype.activation_bytes(),
                        runs: 1,
                        words,
                        panel: if bf16 { pairs } else { unpacked },
                        count,
                        vectors: columns / lanes,
                        sums,
                        sum_stride: width,
                        clear: first,
                    });
                    std::slice::from_raw_parts(sums, tile_words)
                };
                if last {
                    self.finish(panel, row, count, sums);
                }
            }
        }
    }

    fn finish(&self, panel: usize, row: usize, count: usize, sums: &[u32]) {
        let Tile { width, lanes, .. } = self.cpu.tile();
        let (layout, plain) = (&self.places.layout, self.shape.plain());
        let shrink = if self.shape.glu { 2 } else { 1 };
        let (column, columns) = (panel * width / shrink, layout.panel_columns(panel));
        let mut bias = [0.0; MAX_WIDTH];
        if let Some(from) = self.epilogue.bias {
            for (lane, value) in bias.iter_mut().enumerate().take(columns) {
                *value = layout.output(&plain, panel * width + lane).map_or(0.0, |output| from[output]);
            }
        }
        let stride = self.epilogue.residual_stride;
        // SAFETY: it was checked that output and residual hold all rows of all columns.
        unsafe {
            self.cpu.enter_raw(&EpilogueCall {
                sums,
                width,
                rows: count,
                columns,
                results: (columns / shrink).min(self.shape.columns() - column),
                dequantize: None,
                bias: &bias,
                rounded: self.epilogue.rounded.as_ref(),
                activation: self.epilogue.activation,
                gate: if self.shape.glu { lanes } else { 0 },
                residual: self.epilogue.residual.map(|from| (from.source().add(row * stride + column), stride)),
                out: (self.out.add(row * self.out_stride + column), self.out_stride),
            });
        }
    }
}

/// The channels of each step, at most about `most`: whole groups, or pieces of whole words of one.
fn steps(shape: &CodedShape, most: usize) -> Vec<Range<usize>> {
    let group = shape.group.min(shape.channels);
    let mut steps = Vec::new();
    if group <= most {
        let length = most / group * group;
        steps.extend((0..shape.channels).step_by(length).map(|from| from..shape.channels.min(from + length)));
        return steps;
    }
    let length = most / 32 * 32;
    for start in (0..shape.channels).step_by(group) {
        let end = shape.channels.min(start + group);
        steps.extend((start..end).step_by(length).map(|from| from..end.min(from + length)));
    }
    steps
}

mod blocks;
mod codes;
pub(crate) mod conv;
mod numbers;
pub(crate) mod pack;
pub(crate) mod row;
#[cfg(test)]
mod suite;
