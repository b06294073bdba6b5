//! Recurrent layers: at every step a product with the hidden state of the step before, then the gates.
//!
//! The sequences of a batch are independent, so a task takes a block of them through all steps without waiting for
//! another. Where a block would be small and the weights too large for the cache of one processor, each step is cut
//! into columns of the product instead. Either way every sum runs over the hidden state in ascending order, so the bits
//! of a result do not depend on the cut.

use std::ops::Range;

use crate::{
    arch::{
        dot::{MAX_ROWS, Tile, WORD, WeightType},
        enter::Kernel,
        isa::Isa,
        vector::Vector,
    },
    cpu::Cpu,
    gemm::{
        drive::READING_ROWS,
        epilogue::{Source, Target, load, store},
        micro::MicroCall,
        weights::{Layout, PACKED_ALIGN, PackedWeights, WeightShape, WeightSource, pack},
    },
    math::{Activation, activate_lanes},
    threads::Pool,
};

/// What a recurrent layer computes at a step, from a sum `a` of what the input and `b` of what the hidden state
/// contributes to each gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecurrentCell {
    /// Long short-term memory, gates in the order input, forget, cell, output.
    Lstm,
    /// Gated recurrent unit, gates in the order reset, update, new; the reset gate multiplies `b` of the last.
    Gru,
    /// `tanh(a + b)`
    Tanh,
    /// `max(a + b, 0)`
    Relu,
}

impl RecurrentCell {
    /// Vectors of the hidden size that a step takes from the input.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }

    /// Vectors of the hidden size that a step hands on: the hidden state and, of [`RecurrentCell::Lstm`], the cell
    /// state.
    #[must_use]
    pub fn carried(self) -> usize {
        if self == Self::Lstm { 2 } else { 1 }
    }
}

/// The shape of a recurrent layer in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecurrentShape {
    /// What a step computes.
    pub cell: RecurrentCell,
    /// True if the last step comes first.
    pub reverse: bool,
    /// Length of the sequences.
    pub steps: usize,
    /// Number of sequences.
    pub batch: usize,
    /// Size of the hidden state.
    pub hidden: usize,
}

/// Sequences of a block, at most: their sums stay in the second-level cache.
const BLOCK_ROWS: usize = 96;

/// Sequences of a block, at least: a single one waits for the weights, which two can share.
const FEWEST_ROWS: usize = 2;

/// Bytes of weights that the cache of one processor holds at every step.
const CACHED_BYTES: usize = 512 << 10;

/// Columns of the product that a thread takes at a time are about this part of its share.
const TASKS_PER_THREAD: usize = 2;

impl RecurrentShape {
    /// The shape of the weights by which the hidden state is multiplied, `[gates * hidden, hidden]`.
    #[must_use]
    pub fn weights(&self) -> WeightShape {
        WeightShape::linear(WeightType::F32, self.gates(), self.hidden)
    }

    /// Bytes of scratch that [`recurrent`] needs; more if the weights are not packed.
    #[must_use]
    pub fn scratch_bytes(&self, cpu: &Cpu, packed: bool) -> usize {
        let own = if packed { 0 } else { self.weights().packed_size(cpu) };
        // A small layer stays on one thread.
        let words = [1, cpu.threads()].map(|threads| {
            let split = Split::new(self, cpu.tile(), threads);
            split.slots * split.slot_words(self, cpu.tile())
        });
        own + words[0].max(words[1]) * WORD + PACKED_ALIGN
    }

    /// Multiplications, or as many as take the time of reading the weights.
    fn work(&self) -> usize {
        self.steps * self.batch.max(READING_ROWS) * self.gates() * self.hidden
    }

    /// Numbers that a step takes from the input of a sequence.
    fn gates(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Numbers that a step hands on of a sequence.
    fn carried(&self) -> usize {
        self.cell.carried() * self.hidden
    }
}

/// Weights `[gates * hidden, hidden]`.
#[derive(Clone, Copy, Debug)]
pub enum RecurrentWeights<'a> {
    /// Packed for the tier that computes, of [`RecurrentShape::weights`].
    Packed(PackedWeights<'a>),
    /// Row by row, to be packed into scratch.
    Plain(&'a [f32]),
}

/// A recurrent layer to compute.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentProblem<'a> {
    /// Sizes.
    pub shape: RecurrentShape,
    /// What the input contributes to the gates, with its bias: `[steps, batch, gates * hidden]`.
    pub input: &'a [f32],
    /// What the hidden state is multiplied with.
    pub weights: RecurrentWeights<'a>,
    /// Added to that product: `[gates * hidden]`.
    pub bias: &'a [f32],
    /// What the first step is handed: `[batch, carried * hidden]`.
    pub start: &'a [f32],
}

/// Computes a recurrent layer: `out` is what each step hands on, `[steps, batch, carried * hidden]`.
///
/// # Panics
/// If the layer is empty, if a slice has the wrong length, if packed weights are of another shape or tier, or if
/// `scratch` has fewer bytes than [`RecurrentShape::scratch_bytes`].
pub fn recurrent(cpu: &Cpu, problem: &RecurrentProblem<'_>, out: &mut [f32], scratch: &mut [u8]) {
    let &RecurrentProblem { shape, input, bias, start, .. } = problem;
    let RecurrentShape { steps, batch, .. } = shape;
    assert!(!out.is_empty(), "an empty recurrent layer: {shape:?}");
    assert_eq!(out.len(), steps * batch * shape.carried(), "result of {shape:?}");
    assert_eq!(input.len(), steps * batch * shape.gates(), "input of {shape:?}");
    assert_eq!(bias.len(), shape.gates(), "bias of {shape:?}");
    assert_eq!(start.len(), batch * shape.carried(), "start of {shape:?}");
    let skip = scratch.as_ptr().align_offset(PACKED_ALIGN);
    let own = match problem.weights {
        RecurrentWeights::Packed(_) => 0,
        RecurrentWeights::Plain(_) => shape.weights().packed_size(cpu),
    };
    let (own, rest) = scratch[skip..].split_at_mut(own);
    let weights = match problem.weights {
        RecurrentWeights::Packed(weights) => weights,
        RecurrentWeights::Plain(values) => {
            pack(cpu, &shape.weights(), WeightSource::F32(values), own);
            PackedWeights::new(cpu, shape.weights(), own)
        }
    };
    assert_eq!(*weights.shape(), shape.weights(), "weights of {shape:?}");
    weights.check(cpu);
    let pool = cpu.pool().for_work(shape.work());
    let split = Split::new(&shape, cpu.tile(), pool.threads());
    let slot_words = split.slot_words(&shape, cpu.tile());
    assert!(rest.len() >= split.slots * slot_words * WORD, "{} bytes of scratch are too few", rest.len());
    let layout = Layout::new(weights.shape(), cpu.tile());
    let (out, sums) = (out.as_mut_ptr(), rest.as_mut_ptr().cast());
    Layer { cpu, problem, weights, layout, out, sums, slot_words }.run(pool, &split);
}

/// How a layer is cut into tasks.
struct Split {
    /// Sequences of a block.
    rows: usize,
    /// Blocks whose sums exist at a time.
    slots: usize,
    /// True if steps are cut into columns; then there is one block.
    columns: bool,
}

impl Split {
    fn new(shape: &RecurrentShape, tile: Tile, threads: usize) -> Self {
        let RecurrentShape { batch, hidden, .. } = *shape;
        // A tile of all rows multiplies for as long as the panel takes to come from anywhere but memory.
        let (few, large) = (batch < threads * tile.rows, shape.gates() * hidden * WORD > CACHED_BYTES);
        if threads > 1 && few && large {
            return Self { rows: batch, slots: 1, columns: true };
        }
        let rounds = batch.div_ceil(threads * BLOCK_ROWS).max(1);
        let rows = batch.div_ceil(threads * rounds).max(FEWEST_ROWS).min(batch.max(1));
        // Any of the threads may come to work.
        Self { rows, slots: if rows < batch { threads } else { 1 }, columns: false }
    }

    /// Words of the sums of a block: whole tiles of packed columns.
    fn slot_words(&self, shape: &RecurrentShape, tile: Tile) -> usize {
        self.rows.next_multiple_of(tile.rows) * Layout::new(&shape.weights(), tile).columns
    }
}

/// A layer that is computed.
struct Layer<'a> {
    cpu: &'a Cpu,
    problem: &'a RecurrentProblem<'a>,
    weights: PackedWeights<'a>,
    layout: Layout,
    /// As long as [`recurrent`] checked.
    out: *mut f32,
    /// `slot_words` for each block that exists at a time.
    sums: *mut u32,
    slot_words: usize,
}

// SAFETY: the addresses are those of slices that the caller of `recurrent` holds, and no two tasks write the same
// elements, or read what another writes meanwhile.
unsafe impl Sync for Layer<'_> {}

impl Layer<'_> {
    fn run(&self, pool: &Pool, split: &Split) {
        let RecurrentShape { steps, batch, .. } = self.problem.shape;
        if split.columns {
            let panels = self.layout.panels.div_ceil(pool.threads() * TASKS_PER_THREAD);
            for turn in 0..steps {
                pool.run(self.layout.panels.div_ceil(panels), &|task| {
                    let panels = task * panels..self.layout.panels.min((task + 1) * panels);
                    // SAFETY: tasks have panels of their own; all turns before have ended.
                    unsafe { self.multiply(turn, 0..batch, panels, self.sums) };
                });
                // SAFETY: this thread alone is at work.
                unsafe { self.advance(turn, 0..batch, self.sums) };
            }
            return;
        }
        pool.run_with(batch.div_ceil(split.rows), &|task, thread| {
            let rows = task * split.rows..batch.min((task + 1) * split.rows);
            assert!(thread < split.slots, "thread {thread} of {}", split.slots);
            // SAFETY: there are so many slots, one for each thread; tasks have sequences of their own.
            unsafe {
                let sums = self.sums.add(thread * self.slot_words);
                for turn in 0..steps {
                    self.multiply(turn, rows.clone(), 0..self.layout.panels, sums);
                    self.advance(turn, rows.clone(), sums);
                }
            }
        });
    }

    /// The position of the step that is taken in a turn.
    fn step(&self, turn: usize) -> usize {
        let RecurrentShape { reverse, steps, .. } = self.problem.shape;
        if reverse { steps - 1 - turn } else { turn }
    }

    /// Where what a sequence is handed in a turn begins.
    fn before(&self, turn: usize, row: usize) -> *const f32 {
        let shape = &self.problem.shape;
        match turn.checked_sub(1) {
            None => self.problem.start[row * shape.carried()..].as_ptr(),
            Some(last) => self.out.wrapping_add((self.step(last) * shape.batch + row) * shape.carried()),
        }
    }

    /// Multiplies the hidden state of some sequences with some panels.
    ///
    /// # Safety
    /// `sums` is a slot, of which no other thread uses these panels; nobody writes what these sequences are handed.
    unsafe fn multiply(&self, turn: usize, rows: Range<usize>, panels: Range<usize>, sums: *mut u32) {
        let Tile { rows: tile_rows, width, lanes } = self.cpu.tile();
        for panel in panels {
            for tile in (0..rows.len()).step_by(tile_rows) {
                let count = tile_rows.min(rows.len() - tile);
                let pointers: [*const u8; MAX_ROWS] =
                    std::array::from_fn(|i| self.before(turn, rows.start + tile + i.min(count - 1)).cast());
                // SAFETY: hidden states have as many words as the panel; a slot has whole tiles of all columns.
                unsafe {
                    self.cpu.enter_raw(&MicroCall {
                        dtype: WeightType::F32,
                        rows: pointers.as_ptr(),
                        stride: MAX_ROWS,
                        offset: 0,
                        runs: 1,
                        words: self.layout.words,
                        panel: self.weights.words(self.layout.panel_offset(0, panel)),
                        count,
                        vectors: self.layout.panel_columns(panel) / lanes,
                        sums: sums.add(tile * self.layout.columns + panel * width),
                        sum_stride: self.layout.columns,
                        clear: true,
                    });
                }
            }
        }
    }

    /// Computes what a step of some sequences hands on.
    ///
    /// # Safety
    /// `sums` is what [`Self::multiply`] left of all panels; no other thread uses these sequences.
    unsafe fn advance(&self, turn: usize, rows: Range<usize>, sums: *const u32) {
        let RecurrentProblem { shape, input, bias, .. } = self.problem;
        let (gates, carried) = (shape.gates(), shape.carried());
        for (index, row) in rows.enumerate() {
            let place = self.step(turn) * shape.batch + row;
            // SAFETY: the lengths have been checked, sums have all columns; what is written in a turn is not what was
            // handed to it.
            let (product, before, now) = unsafe {
                (
                    std::slice::from_raw_parts(sums.add(index * self.layout.columns).cast::<f32>(), gates),
                    std::slice::from_raw_parts(self.before(turn, row), carried),
                    std::slice::from_raw_parts_mut(self.out.add(place * carried), carried),
                )
            };
            let (cell, hidden) = (shape.cell, shape.hidden);
            let input = &input[place * gates..][..gates];
            self.cpu.enter(CellStep { cell, hidden, input, product, bias, before, now });
        }
    }
}

/// One step of one sequence, after the product.
struct CellStep<'a> {
    cell: RecurrentCell,
    hidden: usize,
    /// What the input contributes to the gates.
    input: &'a [f32],
    /// What the hidden state contributes, without its bias.
    product: &'a [f32],
    bias: &'a [f32],
    before: &'a [f32],
    now: &'a mut [f32],
}

impl Kernel for CellStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        match self.cell {
            RecurrentCell::Lstm => self.lstm::<I::Wide>(),
            RecurrentCell::Gru => self.gru::<I::Wide>(),
            RecurrentCell::Tanh => self.plain::<I::Wide>(Activation::Tanh),
            RecurrentCell::Relu => self.plain::<I::Wide>(Activation::Relu),
        }
    }
}

impl CellStep<'_> {
    #[inline(always)]
    fn lstm<V: Vector>(self) {
        let hidden = self.hidden;
        for index in 0..hidden.div_ceil(V::LANES) {
            let lanes = Lanes::new::<V>(hidden, index);
            let enter = activate_lanes(Activation::Sigmoid, self.gate::<V>(0, lanes));
            let forget = activate_lanes(Activation::Sigmoid, self.gate::<V>(1, lanes));
            let new = activate_lanes(Activation::Tanh, self.gate::<V>(2, lanes));
            let leave = activate_lanes(Activation::Sigmoid, self.gate::<V>(3, lanes));
            let memory = enter.mul_add(new, forget.mul(lanes.load::<V>(self.before, hidden)));
            lanes.store(memory, self.now, hidden);
            lanes.store(leave.mul(activate_lanes(Activation::Tanh, memory)), self.now, 0);
        }
    }

    #[inline(always)]
    fn gru<V: Vector>(self) {
        let hidden = self.hidden;
        for index in 0..hidden.div_ceil(V::LANES) {
            let lanes = Lanes::new::<V>(hidden, index);
            let reset = activate_lanes(Activation::Sigmoid, self.gate::<V>(0, lanes));
            let update = activate_lanes(Activation::Sigmoid, self.gate::<V>(1, lanes));
            let own = lanes.load::<V>(self.product, 2 * hidden).add(lanes.load(self.bias, 2 * hidden));
            let new = reset.mul_add(own, lanes.load(self.input, 2 * hidden));
            let new = activate_lanes(Activation::Tanh, new);
            lanes.store(update.mul_add(lanes.load::<V>(self.before, 0).sub(new), new), self.now, 0);
        }
    }

    #[inline(always)]
    fn plain<V: Vector>(self, activation: Activation) {
        for index in 0..self.hidden.div_ceil(V::LANES) {
            let lanes = Lanes::new::<V>(self.hidden, index);
            lanes.store(activate_lanes(activation, self.gate::<V>(0, lanes)), self.now, 0);
        }
    }

    /// The sum of a gate.
    #[inline(always)]
    fn gate<V: Vector>(&self, gate: usize, lanes: Lanes) -> V {
        let first = gate * self.hidden;
        let own = lanes.load::<V>(self.product, first).add(lanes.load(self.bias, first));
        lanes.load::<V>(self.input, first).add(own)
    }
}

/// Consecutive elements of a hidden state: a whole vector of them, unless there are fewer at all.
#[derive(Clone, Copy)]
struct Lanes {
    first: usize,
    count: usize,
}

impl Lanes {
    /// Vector `index` of `hidden` elements; the last one may overlap the one before, whose numbers it computes again.
    #[inline(always)]
    fn new<V: Vector>(hidden: usize, index: usize) -> Self {
        Self { first: (index * V::LANES).min(hidden.saturating_sub(V::LANES)), count: hidden.min(V::LANES) }
    }

    /// Reads them from what begins at `offset`.
    #[inline(always)]
    fn load<V: Vector>(self, from: &[f32], offset: usize) -> V {
        let from = &from[offset + self.first..][..self.count];
        // SAFETY: the elements have just been counted.
        unsafe { load(Source::F32(from.as_ptr()), self.count) }
    }

    /// Writes them to what begins at `offset`.
    #[inline(always)]
    fn store<V: Vector>(self, x: V, to: &mut [f32], offset: usize) {
        let to = &mut to[offset + self.first..][..self.count];
        // SAFETY: the elements have just been counted.
        unsafe { store(x, self.count, Target::F32(to.as_mut_ptr())) };
    }
}
