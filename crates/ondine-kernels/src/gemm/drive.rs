//! The loops around the micro-kernel: blocks of rows, panels, steps of the inner dimension, tiles.
//!
//! A step of a panel stays in the cache while the tiles of a block of rows pass over it, and a block of rows stays
//! while the panels do. Every sum runs over the inner dimension in ascending order, one element after the other, so its
//! bits depend neither on the blocks nor on the threads.

use std::{cell::RefCell, ops::Range};

use crate::{
    arch::dot::{MAX_ROWS, MAX_WIDTH, Tile, WORD},
    cpu::Cpu,
    gemm::{
        coded::conv::{CodedConv, Widened},
        epilogue::{Dequantize, EpilogueCall, Source, Target},
        micro::MicroCall,
        narrow::{NarrowCall, columns_apart, narrow},
        operand::Epilogue,
        rows::{Line, Rows, Scales, Table},
        weights::{Layout, PackedWeights, WeightShape},
    },
    quant::RowScale,
};

/// Bytes of a step of a panel, at most: it stays in the second-level cache, which feeds the products fast enough.
/// Storing and loading the sums between smaller steps costs more than the first-level cache gains.
const STEP_BYTES: usize = 256 << 10;

/// Rows of a block, about.
const BLOCK_ROWS: usize = 192;

/// Rows below which reading weights takes longer than multiplying them.
pub(crate) const READING_ROWS: usize = 4;

/// Pieces of work per thread, so that none waits long for another.
const TASKS_PER_THREAD: usize = 4;

/// Packed weights, in whichever form.
#[derive(Clone, Copy, Debug)]
pub enum PanelWeights<'a> {
    /// As they are multiplied.
    Words(PackedWeights<'a>),
    /// Of a convolution, in few bits.
    Codes(CodedConv<'a>),
}

impl<'a> From<PackedWeights<'a>> for PanelWeights<'a> {
    fn from(packed: PackedWeights<'a>) -> Self {
        Self::Words(packed)
    }
}

impl PanelWeights<'_> {
    /// The shape, with the type that is multiplied.
    #[must_use]
    pub fn shape(&self) -> &WeightShape {
        match self {
            Self::Words(packed) => packed.shape(),
            Self::Codes(coded) => &coded.shape().weights,
        }
    }
}

/// A product to compute: `rows` of a left operand with packed weights.
pub(crate) struct Gemm<'a, R> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) weights: PanelWeights<'a>,
    pub(crate) rows: usize,
    pub(crate) source: R,
    pub(crate) scales: Option<Scales<'a>>,
    pub(crate) epilogue: &'a Epilogue<'a>,
    pub(crate) residual: Option<Source>,
    /// The columns that are wanted, in rising order, if not all of them; only without groups and gates.
    pub(crate) columns: Option<&'a [usize]>,
    pub(crate) out: Target,
    pub(crate) out_stride: usize,
}

// SAFETY: the addresses are those of slices that the callers of `Gemm::run` hold, and no two tasks write the same
// elements.
unsafe impl<R: Sync> Sync for Gemm<'_, R> {}

/// A part of the inner dimension.
#[derive(Clone, Copy, Debug)]
struct Step {
    input: usize,
    /// First tap.
    tap: usize,
    /// Number of taps; more than one only with all their words.
    taps: usize,
    /// First word within a tap.
    word: usize,
    /// Words of each tap.
    words: usize,
    /// First word of the panel.
    begin: usize,
}

/// Memory of a thread that outlives a product.
#[derive(Default)]
struct Scratch {
    sums: Vec<Line>,
    panels: PanelScratch,
    pointers: [Vec<*const u8>; 2],
    copies: [Vec<u32>; 2],
    live: Vec<Range<usize>>,
}

/// Where panels are laid out otherwise than they are kept.
#[derive(Default)]
struct PanelScratch {
    widened: Widened,
    /// Few columns, one behind the other.
    apart: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How a product is cut into tasks.
struct Tasks {
    rows: usize,
    panels: usize,
    row_blocks: usize,
    panel_blocks: usize,
}

impl Tasks {
    fn new(tile: Tile, rows: usize, panels: usize, groups: usize, threads: usize) -> Self {
        let row_blocks = rows.div_ceil(BLOCK_ROWS).max(1);
        let rows = rows.div_ceil(row_blocks).next_multiple_of(tile.rows);
        let wanted = if threads == 1 { 1 } else { threads * TASKS_PER_THREAD };
        let panels_per_task = panels.div_ceil(wanted.div_ceil(row_blocks * groups)).max(1);
        Self { rows, panels: panels_per_task, row_blocks, panel_blocks: panels.div_ceil(panels_per_task) }
    }
}

impl<R: Rows> Gemm<'_, R> {
    /// Computes the product.
    ///
    /// # Safety
    /// The rows of the source have the channels of the weights; residual and output hold `rows` rows of their columns,
    /// and nobody else uses the output meanwhile.
    pub(crate) unsafe fn run(&self) {
        let shape = self.weights.shape();
        let layout = Layout::new(shape, self.cpu.tile());
        let wanted = layout.panels_of(self.columns);
        let outputs = if self.columns.is_some() { wanted.count() * self.cpu.tile().width } else { shape.outputs };
        // Weights that meet few rows take as long as it takes to read them.
        let pool = self.cpu.pool().for_work(self.rows.max(READING_ROWS) * layout.words * outputs);
        let tasks = Tasks::new(self.cpu.tile(), self.rows, wanted.count(), shape.groups, pool.threads());
        pool.run(shape.groups * tasks.panel_blocks * tasks.row_blocks, &|task| {
            let (rest, row_block) = (task / tasks.row_blocks, task % tasks.row_blocks);
            let (group, panel_block) = (rest / tasks.panel_blocks, rest % tasks.panel_blocks);
            let rows = row_block * tasks.rows..self.rows.min((row_block + 1) * tasks.rows);
            let panels = wanted.part(panel_block * tasks.panels, tasks.panels);
            if !rows.is_empty() {
                SCRATCH.with_borrow_mut(|scratch| self.block(&layout, group, rows, panels, scratch));
            }
        });
    }

    fn block(
        &self,
        layout: &Layout,
        group: usize,
        rows: Range<usize>,
        panels: impl Iterator<Item = usize>,
        scratch: &mut Scratch,
    ) {
        let Scratch { sums, panels: laid_out, pointers, copies, live } = scratch;
        for (input, (pointers, copies)) in pointers.iter_mut().zip(copies).enumerate() {
            self.locate(group, input, rows.clone(), pointers, copies);
        }
        let Tile { rows: tile_rows, width, .. } = self.cpu.tile();
        let tiles = rows.len().div_ceil(tile_rows);
        let tile_words = tile_rows * width;
        let words = (tiles * tile_words).div_ceil(16);
        if sums.len() < words {
            sums.resize(words, Line([0; 16]));
        }
        self.find_live(&rows, live);
        for panel in panels {
            self.panel(&Panel { layout, group, panel, rows: rows.clone(), pointers, live }, sums, laid_out);
        }
    }

    /// Fills `live` with the taps that some of the rows meet, at least one. (Of quantized rows, what meets nothing
    /// counts as much as their zeros, which the sums of weights take away again.)
    fn find_live(&self, rows: &Range<usize>, live: &mut Vec<Range<usize>>) {
        let taps = self.weights.shape().taps;
        live.clear();
        if self.scales.is_some() || taps == 1 {
            live.push(0..taps);
            return;
        }
        for tap in (0..taps).filter(|&tap| self.source.meets(rows, tap)) {
            match live.last_mut() {
                Some(last) if last.end == tap => last.end += 1,
                _ => live.push(tap..tap + 1),
            }
        }
        if live.is_empty() {
            live.push(0..1);
        }
    }

    /// Fills `pointers` with the addresses of the rows of one input, whole tiles of them.
    fn locate(
        &self,
        group: usize,
        input: usize,
        rows: Range<usize>,
        pointers: &mut Vec<*const u8>,
        copies: &mut Vec<u32>,
    ) {
        let shape = self.weights.shape();
        let (taps, tile, count) = (shape.taps, self.cpu.tile().rows, rows.len());
        if shape.channels[input] == 0 {
            return;
        }
        pointers.clear();
        pointers.resize(count.next_multiple_of(tile) * taps, std::ptr::null());
        let mut table = Table::new(pointers, taps, tile);
        self.source.locate(group, input, rows, &mut table);
        let bytes = shape.channels[input] / shape.groups * shape.dtype.activation_bytes();
        if !bytes.is_multiple_of(WORD) {
            copy_rows(&mut table, count, bytes, copies);
        }
        for row in count..count.next_multiple_of(tile) {
            for tap in 0..taps {
                let last = table.row(count - 1).get(tap);
                table.row(row).set(tap, last);
            }
        }
    }

    fn panel(&self, panel: &Panel<'_>, sums: &mut [Line], laid_out: &mut PanelScratch) {
        let &Panel { layout, group, panel: index, ref rows, pointers, live } = panel;
        let Tile { rows: tile_rows, width, lanes } = self.cpu.tile();
        let shape = self.weights.shape();
        let few = narrow(shape, self.cpu.tile());
        let columns = layout.panel_columns(index);
        let bias = self.packed_bias(layout, group, index);
        let sums = sums.as_mut_ptr().cast::<u32>();
        let mut ends = None;
        self.steps(live, |step| ends = Some((ends.map_or(step.begin, |(first, _)| first), step.begin)));
        self.steps(live, |step| {
            let first = ends.is_some_and(|(first, _)| first == step.begin);
            let last = ends.is_some_and(|(_, last)| last == step.begin);
            let panel_words = match &self.weights {
                PanelWeights::Words(packed) => {
                    packed.words(layout.panel_offset(group, index)).wrapping_add(step.begin * columns)
                }
                PanelWeights::Codes(coded) => {
                    let wanted = [step.tap..step.tap + step.taps, step.word..step.word + step.words];
                    coded.widen(self.cpu, index, wanted, &mut laid_out.widened)
                }
            };
            if let Some(few) = few {
                // SAFETY: there are the words of the step for each column of the panel.
                unsafe { columns_apart(panel_words, step.taps * step.words, columns, few, &mut laid_out.apart) };
            }
            for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
                let count = tile_rows.min(rows.end - row);
                let slot = if first && last { 0 } else { tile };
                let rows = &pointers[step.input][(tile * shape.taps + step.tap) * tile_rows..];
                // SAFETY: `block` made room for all tiles, `locate` filled in whole tiles of valid addresses, and there
                // are the words of the step for each column of the panel.
                let tile = unsafe {
                    let sums = sums.add(slot * tile_rows * width);
                    let call = MicroCall {
                        dtype: shape.dtype,
                        rows: rows.as_ptr(),
                        stride: tile_rows,
                        offset: step.word * WORD,
                        runs: step.taps,
                        words: step.words,
                        panel: panel_words,
                        count,
                        vectors: columns / lanes,
                        sums,
                        sum_stride: width,
                        clear: first,
                    };
                    match few {
                        None => self.cpu.enter_raw(&call),
                        Some(columns) => {
                            let panel = laid_out.apart.as_ptr();
                            self.cpu.enter_raw(&NarrowCall { call: MicroCall { panel, ..call }, columns });
                        }
                    }
                    std::slice::from_raw_parts(sums, tile_rows * width)
                };
                if last {
                    self.finish(panel, &bias, row, count, tile);
                }
            }
        });
    }

    /// Calls `body` for the steps of the inner dimension that have taps among `live`, in order.
    fn steps(&self, live: &[Range<usize>], mut body: impl FnMut(Step)) {
        let shape = self.weights.shape();
        let most = STEP_BYTES / (self.cpu.tile().width * WORD);
        let mut begin = 0;
        for input in 0..2 {
            let words = shape.words(input);
            let mut step = |first: usize, count: usize, word: usize, words: usize| {
                for range in live {
                    let (tap, end) = (range.start.max(first), range.end.min(first + count));
                    if tap < end {
                        body(Step { input, tap, taps: end - tap, word, words, begin: begin + (tap - first) * words });
                    }
                }
                begin += count * words;
            };
            if words == 0 {
                continue;
            }
            if words <= most {
                let taps = shape.taps.div_ceil(shape.taps.div_ceil(most / words));
                (0..shape.taps).step_by(taps).for_each(|tap| step(tap, taps.min(shape.taps - tap), 0, words));
                continue;
            }
            let piece = words.div_ceil(words.div_ceil(most)).next_multiple_of(16);
            for tap in 0..shape.taps {
                (0..words).step_by(piece).for_each(|word| step(tap, 1, word, piece.min(words - word)));
            }
        }
    }

    /// The bias of the columns of a panel, in their packed order.
    fn packed_bias(&self, layout: &Layout, group: usize, panel: usize) -> [f32; MAX_WIDTH] {
        let mut packed = [0.0; MAX_WIDTH];
        let (shape, width) = (self.weights.shape(), self.cpu.tile().width);
        if let Some(bias) = self.epilogue.bias {
            for (lane, value) in packed.iter_mut().enumerate().take(layout.panel_columns(panel)) {
                let output = layout.output(shape, panel * width + lane);
                *value = output.map_or(0.0, |output| bias[group * (shape.outputs / shape.groups) + output]);
            }
        }
        packed
    }

    fn finish(&self, panel: &Panel<'_>, bias: &[f32; MAX_WIDTH], row: usize, count: usize, sums: &[u32]) {
        let &Panel { layout, group, panel, .. } = panel;
        let Tile { width, lanes, .. } = self.cpu.tile();
        let shape = self.weights.shape();
        let shrink = if shape.glu { 2 } else { 1 };
        let (begin, group_columns) = (panel * width / shrink, shape.columns() / shape.groups);
        let columns = layout.panel_columns(panel);
        let column = group * group_columns + begin;
        let mut each;
        let dequantize = if let Some(scales) = self.scales {
            let (columns, sums) = match &self.weights {
                PanelWeights::Words(packed) => packed.quantization(layout, group, panel),
                PanelWeights::Codes(coded) => coded.quantization(self.cpu, panel),
            };
            let all = scales.of_all(row, count);
            let mut rows: &[_] = &[];
            if all.is_none() {
                each = [RowScale::default(); MAX_ROWS];
                for (index, scale) in each.iter_mut().enumerate().take(count) {
                    *scale = scales.of(row + index);
                }
                rows = &each[..count];
            }
            Some(Dequantize { all, rows, columns, sums })
        } else {
            None
        };
        let at = |stride: usize| row * stride + column;
        let residual_stride = self.epilogue.residual_stride;
        // SAFETY: the callers of `run` vouch for output and residual to hold `rows` rows of all columns.
        unsafe {
            self.cpu.enter_raw(&EpilogueCall {
                sums,
                width,
                rows: count,
                columns,
                results: (columns / shrink).min(group_columns - begin),
                dequantize,
                bias,
                rounded: self.epilogue.rounded.as_ref(),
                activation: self.epilogue.activation,
                gate: if shape.glu { lanes } else { 0 },
                residual: self.residual.map(|from| (from.add(at(residual_stride)), residual_stride)),
                out: (self.out.add(at(self.out_stride)), self.out_stride),
            });
        }
    }
}

/// A panel and the block of rows that passes over it.
struct Panel<'a> {
    layout: &'a Layout,
    group: usize,
    panel: usize,
    rows: Range<usize>,
    pointers: &'a [Vec<*const u8>; 2],
    /// Taps that some row meets.
    live: &'a [Range<usize>],
}

/// Replaces rows that end within a word by copies that are filled up with zeros.
fn copy_rows(table: &mut Table<'_>, count: usize, bytes: usize, copies: &mut Vec<u32>) {
    let words = bytes.div_ceil(WORD);
    copies.clear();
    copies.resize(count * table.taps() * words, 0);
    let mut copy = copies.as_mut_ptr().cast::<u8>();
    let taps = table.taps();
    for row in 0..count {
        let mut row = table.row(row);
        for tap in 0..taps {
            // SAFETY: each of the `count * taps` copies has `words` words of its own; the row has `bytes` bytes.
            unsafe {
                row.get(tap).copy_to_nonoverlapping(copy, bytes);
                row.set(tap, copy);
                copy = copy.add(words * WORD);
            }
        }
    }
}
