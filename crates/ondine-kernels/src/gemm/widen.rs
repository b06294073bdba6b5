//! Panels of codes made wider: what many rows meet is taken apart once.

use crate::{
    arch::{dot::WORD, enter::RawKernel, isa::Isa, vector::CodeVector},
    gemm::{
        decode::{CodedPanel, unit},
        grouped::join,
    },
};

/// Writes the scales of a panel as f32, and what is added to its weights, see [`CodedPanel::affine`].
pub(crate) struct WidenNumbers<'a> {
    pub(crate) panel: &'a CodedPanel,
    /// `[groups, columns]`
    pub(crate) scales: *mut f32,
    /// As the scales, if they are wanted.
    pub(crate) offsets: Option<*mut f32>,
}

impl RawKernel for &WidenNumbers<'_> {
    type Output = ();

    /// See [`WidenNumbers`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.panel.has_steps() {
                true => self.widen::<I::Wide, true>(),
                false => self.widen::<I::Wide, false>(),
            }
        }
    }
}

impl WidenNumbers<'_> {
    /// # Safety
    /// See [`WidenNumbers`].
    #[inline(always)]
    unsafe fn widen<V: CodeVector, const STEPS: bool>(&self) {
        let panel = self.panel;
        for group in 0..panel.groups {
            for column in (0..panel.columns).step_by(V::LANES) {
                let at = group * panel.columns + column;
                // SAFETY: the panel has whole vectors of columns for each group, and so much room did the caller make.
                unsafe {
                    let units = if STEPS { panel.units(group, column) } else { [V::splat(0.0); 2] };
                    if let Some(offsets) = self.offsets {
                        let (scale, offset) = panel.affine::<V, false, STEPS>(group, column, units);
                        scale.store(self.scales.add(at));
                        offset.store(offsets.add(at));
                    } else {
                        panel.number::<V, STEPS>(panel.scales, at, units[0]).store(self.scales.add(at));
                    }
                }
            }
        }
    }
}

/// Writes codes of 6 bits as words of 8, whose signs are turned, so that the same numbers are read from them: many rows
/// would put them together again and again.
pub(crate) struct WidenCodes<'a> {
    /// Of groups of whole units.
    pub(crate) panel: &'a CodedPanel,
    /// `[channels / 4, columns]`
    pub(crate) to: *mut u32,
}

impl RawKernel for &WidenCodes<'_> {
    type Output = ();

    /// See [`WidenCodes`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let &WidenCodes { panel: &CodedPanel { words, columns, channels, .. }, to } = self;
        let (codes, words_of_unit) = unit(6);
        for index in 0..channels / codes {
            // SAFETY: the panel has whole units for each column, and the caller made room for four words of each.
            unsafe {
                let word =
                    |at: usize| std::slice::from_raw_parts(words.add((index * words_of_unit + at) * columns), columns);
                for part in 0..codes / WORD {
                    let to = std::slice::from_raw_parts_mut(to.add((index * codes / WORD + part) * columns), columns);
                    for ((to, &low), &high) in to.iter_mut().zip(word(part / 2)).zip(word(2)) {
                        *to = join(low, high, part) ^ 0x8080_8080;
                    }
                }
            }
        }
    }
}
