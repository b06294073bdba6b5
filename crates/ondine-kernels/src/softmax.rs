//! Softmax over rows.

use crate::{
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    math,
    number::Float,
    rowwise::{for_rows, max, piece_rows, sum},
};

/// `out = e^x / sum(e^x)` over each row of `width` elements.
///
/// The largest element is subtracted first, so nothing overflows. A row of negative infinities yields zeros; a row
/// that holds NaN or positive infinity yields NaN.
///
/// # Panics
/// If `x` and `out` differ in length or are not rows of `width` elements.
pub fn softmax<T: Float>(cpu: &Cpu, width: usize, x: &[T], out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert!(out.is_empty() || width > 0 && out.len().is_multiple_of(width), "the data is not rows of {width} elements");
    for_rows(cpu.pool(), out, width, piece_rows(width), |first, out| {
        let x = &x[first * width..][..out.len()];
        cpu.enter(SoftmaxRows { width, x, out });
    });
}

/// A piece of [`softmax`].
pub(crate) struct SoftmaxRows<'a, T> {
    width: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for SoftmaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut scratch = vec![0.0; self.width];
        for (x, out) in self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let largest = max(x);
            if largest == f32::NEG_INFINITY {
                out.fill(T::narrow(0.0));
                continue;
            }
            T::stage(out, &mut scratch, |powers| {
                for (power, x) in powers.iter_mut().zip(x) {
                    *power = math::exp::<I>(x.widen() - largest);
                }
                let factor = (1.0 / sum(powers, |power| power)) as f32;
                for power in powers {
                    *power *= factor;
                }
            });
        }
    }
}
