//! Panels of codes made wider: what many rows meet is taken apart once.

use crate::{
    arch::{dot::WORD, enter::RawKernel, isa::Isa, vector::CodeVector},
    gemm::decode::{CodedPanel, unit},
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
                        let (scale, offset) = panel.affine::<V, STEPS>(false, (group, column), units);
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

/// Writes codes as bytes without a sign, in the order in which products take them: many rows would take them out of
/// their words again and again.
pub(crate) struct PrepareCodes<'a> {
    /// Of groups of whole units.
    pub(crate) panel: &'a CodedPanel,
    /// `[channels / 4, columns]`
    pub(crate) to: *mut u32,
}

impl RawKernel for &PrepareCodes<'_> {
    type Output = ();

    /// See [`PrepareCodes`].
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as the caller says.
        unsafe {
            match self.panel.bits {
                2 => self.prepare::<I::Wide, 2>(),
                4 => self.prepare::<I::Wide, 4>(),
                6 => self.prepare::<I::Wide, 6>(),
                _ => self.prepare::<I::Wide, 8>(),
            }
        }
    }
}

impl PrepareCodes<'_> {
    /// # Safety
    /// See [`PrepareCodes`].
    #[inline(always)]
    unsafe fn prepare<V: CodeVector, const BITS: u32>(&self) {
        let &PrepareCodes { panel: &CodedPanel { words, columns, channels, .. }, to } = self;
        let (codes, words_of_unit) = unit(BITS);
        for index in 0..channels / codes {
            for column in (0..columns).step_by(V::LANES) {
                // SAFETY: the panel has whole units for each column, whole vectors of these, and the caller made room
                // for all words.
                unsafe {
                    let word = |at: usize| V::load(words.add((index * words_of_unit + at) * columns + column).cast());
                    for part in 0..codes / WORD {
                        let bytes = match BITS {
                            6 => V::six_bits(word(part / 2), word(2), part as u32),
                            _ => word(0).bytes::<BITS>(part as u32),
                        };
                        bytes.store(to.add((index * codes / WORD + part) * columns + column).cast());
                    }
                }
            }
        }
    }
}
