//! Products of two operands known only when the network runs: the right one is packed into scratch.

use std::ops::Range;

use half::bf16;

use crate::{
    arch::{
        dot::{WORD, WeightType},
        enter::Kernel,
        isa::Isa,
    },
    cpu::Cpu,
    gemm::{
        drive::{Gemm, READING_ROWS},
        epilogue::Target,
        operand::{Epilogue, Output, Values, check_rows},
        rows::Dense,
        weights::{Layout, PACKED_ALIGN, PackedWeights, WeightShape},
    },
};

/// The shape of a batch of products `[batch, rows, inner]` times `[batch, inner, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatmulShape {
    /// Number of independent products.
    pub batch: usize,
    /// Rows of the left operand and of the result.
    pub rows: usize,
    /// Columns of the left operand, rows of the right one.
    pub inner: usize,
    /// Columns of the right operand and of the result.
    pub columns: usize,
    /// True if the right operand is given as `[batch, columns, inner]`.
    pub transposed: bool,
}

impl MatmulShape {
    /// Packed operands that exist at a time: one per thread, whichever of them come to work, if there are several
    /// products.
    fn slots(&self, threads: usize) -> usize {
        if self.batch > 1 { threads } else { 1 }
    }

    /// Bytes of scratch that [`matmul`] needs, for f32 operands (enough for bf16).
    #[must_use]
    pub fn scratch_bytes(&self, cpu: &Cpu) -> usize {
        let packed = WeightShape::linear(WeightType::F32, self.columns, self.inner).packed_size(cpu);
        packed * self.slots(cpu.threads()) + PACKED_ALIGN
    }
}

/// Computes a batch of products.
///
/// # Panics
/// If `inner` is 0, if the operands differ in type, if a slice has the wrong length, or if `scratch` has fewer bytes
/// than [`MatmulShape::scratch_bytes`].
pub fn matmul(cpu: &Cpu, shape: &MatmulShape, [left, right]: [Values<'_>; 2], mut out: Output<'_>, scratch: &mut [u8]) {
    let &MatmulShape { batch, rows, inner, columns, transposed } = shape;
    assert_eq!(left.len(), batch * rows * inner, "left operand of {shape:?}");
    assert_eq!(right.len(), batch * inner * columns, "right operand of {shape:?}");
    assert_eq!(out.len(), batch * rows * columns, "result of {shape:?}");
    assert_eq!(left.weight_type(), right.weight_type(), "operands differ in type");
    if out.is_empty() {
        return;
    }
    let weights = WeightShape::linear(right.weight_type(), columns, inner);
    let pool = cpu.pool().for_work(batch * rows.max(READING_ROWS) * weights.words(0) * columns);
    let (size, slots) = (weights.packed_size(cpu), shape.slots(pool.threads()));
    let scratch = Slots::new(scratch, size, slots);
    let out = Shared(out.target());
    let stride = if transposed { inner } else { columns };
    let one = |index: usize, slot: usize| {
        // SAFETY: no two threads have the same slot.
        let bytes = unsafe { scratch.get(slot, 0..size) };
        let operand = Operand { values: right.slice(index * inner * columns, inner * columns), stride, inner, columns };
        cpu.enter(PackOperand { operand, transposed, layout: Layout::new(&weights, cpu.tile()), out: &mut *bytes });
        // SAFETY: the offset is within the result, whose length has been checked.
        let out = unsafe { out.get().add(index * rows * columns) };
        let weights = PackedWeights::new(cpu, weights, bytes);
        let width = inner * weights.shape().dtype.activation_bytes();
        let source = Dense { bytes: left.slice(index * rows * inner, rows * inner).bytes(), width, stride: width };
        let epilogue = &Epilogue::default();
        let product = Gemm {
            cpu,
            weights: weights.into(),
            rows,
            source,
            scales: None,
            epilogue,
            residual: None,
            columns: None,
            out,
            out_stride: columns,
        };
        // SAFETY: the lengths of operand and result have been checked; each product has a part of its own.
        unsafe { product.run() };
    };
    if slots > 1 {
        pool.run_with(batch, &one);
    } else {
        (0..batch).for_each(|index| one(index, 0));
    }
}

/// A place that several threads write to, each elsewhere.
struct Shared(Target);

// SAFETY: each product of a batch writes its own part.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(&self) -> Target {
        self.0
    }
}

/// Equal aligned pieces of scratch, one per thread.
pub(crate) struct Slots {
    first: *mut u8,
    size: usize,
    count: usize,
}

// SAFETY: each thread uses a piece of its own.
unsafe impl Sync for Slots {}

impl Slots {
    /// Cuts `count` pieces of `size` bytes, a multiple of [`PACKED_ALIGN`], from `scratch`.
    pub(crate) fn new(scratch: &mut [u8], size: usize, count: usize) -> Self {
        let skip = scratch.as_ptr().align_offset(PACKED_ALIGN);
        assert!(scratch.len() >= skip + size * count, "{} bytes of scratch are too few", scratch.len());
        Self { first: scratch.as_mut_ptr().wrapping_add(skip), size, count }
    }

    /// Part of a piece.
    ///
    /// # Safety
    /// No other reference to the same part is used to write while this one is, and the scratch is still borrowed.
    #[expect(clippy::mut_from_ref, reason = "the pieces are disjoint, the caller keeps them apart")]
    pub(crate) unsafe fn get(&self, index: usize, part: Range<usize>) -> &mut [u8] {
        assert!(index < self.count && part.end <= self.size, "piece {index} of {}", self.count);
        // SAFETY: `new` checked the length; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(index * self.size + part.start), part.len()) }
    }
}

/// A right operand: rows `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) stride: usize,
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

/// Packs a right operand, `[inner, columns]` or, `transposed`, `[columns, inner]`.
pub(crate) struct PackOperand<'a> {
    pub(crate) operand: Operand<'a>,
    pub(crate) transposed: bool,
    pub(crate) layout: Layout,
    pub(crate) out: &'a mut [u8],
}

/// An element of four or two bytes, as bits.
trait Bits: Copy {
    const PER_WORD: usize;
    /// The word of an element and, if elements are smaller than words, its successor.
    fn word(first: Self, second: Self) -> u32;
    const ZERO: Self;
}

impl Bits for f32 {
    const PER_WORD: usize = 1;
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn word(first: Self, _second: Self) -> u32 {
        first.to_bits()
    }
}

impl Bits for bf16 {
    const PER_WORD: usize = 2;
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn word(first: Self, second: Self) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }
}

impl Kernel for PackOperand<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { operand, transposed, layout, out } = self;
        let Operand { stride, columns, inner, .. } = operand;
        if columns == 0 || inner == 0 {
            return;
        }
        check_rows("operand", operand.values.len(), if transposed { columns } else { inner }, 1, stride.max(1));
        let pack = Packer { stride, inner, columns, layout };
        match (operand.values, transposed) {
            (Values::F32(values), true) => pack.transposed(values, out),
            (Values::F32(values), false) => pack.straight(values, out),
            (Values::Bf16(values), true) => pack.transposed(values, out),
            (Values::Bf16(values), false) => pack.straight(values, out),
        }
    }
}

struct Packer {
    stride: usize,
    inner: usize,
    columns: usize,
    layout: Layout,
}

impl Packer {
    /// The words of each panel and its columns: those there are and those packed.
    #[inline(always)]
    fn panels<'o>(&self, out: &'o mut [u8], mut body: impl FnMut(usize, usize, usize, &'o mut [[u8; WORD]])) {
        let (mut words, _) = out.as_chunks_mut::<WORD>();
        let mut first = 0;
        for panel in 0..self.layout.panels {
            let packed = self.layout.panel_columns(panel);
            let (head, tail) = words.split_at_mut(packed * self.layout.words);
            body(first, packed.min(self.columns - first), packed, head);
            words = tail;
            first += packed;
        }
    }

    #[inline(always)]
    fn straight<T: Bits>(&self, values: &[T], out: &mut [u8]) {
        self.panels(out, |first, columns, packed, words| {
            for (k, words) in words.chunks_exact_mut(packed).enumerate() {
                let row = |k: usize| &values[k * self.stride + first..][..columns];
                let k = k * T::PER_WORD;
                let low = row(k);
                words[columns..].fill([0; WORD]);
                if T::PER_WORD > 1 && k + 1 < self.inner {
                    for ((word, &low), &high) in words.iter_mut().zip(low).zip(row(k + 1)) {
                        *word = T::word(low, high).to_ne_bytes();
                    }
                } else {
                    for (word, &low) in words.iter_mut().zip(low) {
                        *word = T::word(low, T::ZERO).to_ne_bytes();
                    }
                }
            }
        });
    }

    #[inline(always)]
    fn transposed<T: Bits>(&self, values: &[T], out: &mut [u8]) {
        self.panels(out, |first, columns, packed, words| {
            for column in 0..columns {
                let row = &values[(first + column) * self.stride..][..self.inner];
                let mut words = words[column..].iter_mut().step_by(packed);
                for (pair, word) in row.chunks(T::PER_WORD).zip(&mut words) {
                    *word = T::word(pair[0], pair.get(1).copied().unwrap_or(T::ZERO)).to_ne_bytes();
                }
            }
            for column in columns..packed {
                words[column..].iter_mut().step_by(packed).for_each(|word| *word = [0; WORD]);
            }
        });
    }
}
