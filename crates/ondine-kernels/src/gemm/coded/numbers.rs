//! Scales and minima of a panel as numbers of f32.

use super::{CodedGemm, room};
use crate::gemm::{
    decode::{CodeLevels, CodedPanel, GroupNumbers},
    rows::Line,
    widen::WidenNumbers,
};

impl CodedGemm<'_> {
    /// The codes of a panel, whose scales and minima are no steps.
    pub(super) fn panel_of_numbers(&self, panel: usize, room: &mut [Vec<Line>; 2]) -> CodedPanel {
        let mut coded = self.panel(panel);
        if coded.has_steps() {
            let offsets = coded.levels == CodeLevels::Minima;
            self.widen_numbers(&mut coded, offsets, room);
        }
        coded
    }

    /// Turns scales into numbers of f32 in scratch, and with `offsets` what is added to each weight: it takes the place
    /// of minima.
    pub(super) fn widen_numbers(&self, coded: &mut CodedPanel, offsets: bool, memory: &mut [Vec<Line>; 2]) {
        let count = coded.groups * coded.columns;
        let [scales, minima] = memory;
        let scales = room(scales, count).cast::<f32>();
        let offsets = offsets.then(|| room(minima, count).cast::<f32>());
        // SAFETY: there is room for each group and column.
        unsafe { self.cpu.enter_raw(&WidenNumbers { panel: coded, scales, offsets }) };
        (coded.numbers, coded.scales) = (GroupNumbers::F32, scales.cast_const().cast());
        if let Some(offsets) = offsets {
            (coded.levels, coded.zeros) = (CodeLevels::Minima, offsets.cast_const().cast());
        }
    }
}
