//! What the processor can do at most: its multiplying instructions on registers alone, and reading from memory.
//!
//! A measured speed says little without them: machines differ, and one machine differs from hour to hour.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    arch::Isa,
    gemm::{micro::Dot, weights::WeightType},
    rowwise::RowKernel,
    table::Kernels,
    threads::Pool,
};

/// Runs the multiplying instructions of one element type that many times and yields the operations done: two per
/// multiply-add. Only the table of a tier that the processor has leads to one.
pub(crate) type Probe = fn(loops: usize) -> u64;

/// The probes of one tier.
pub struct ProbeKernels {
    /// f32 times f32.
    pub(crate) f32: Probe,
    /// bf16 times bf16; none if the tier multiplies them as f32.
    pub(crate) bf16: Option<Probe>,
    /// Bytes times bytes; none if the tier has no instruction for products of small integers.
    pub(crate) s8: Option<Probe>,
    /// Reads memory.
    pub(crate) read: fn(ReadAll<'_>) -> u64,
}

impl fmt::Debug for ProbeKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeKernels").finish_non_exhaustive()
    }
}

impl ProbeKernels {
    fn of(&self, dtype: WeightType) -> Probe {
        match dtype {
            WeightType::F32 => self.f32,
            WeightType::Bf16 => self.bf16.unwrap_or(self.f32),
            WeightType::S8 => self.s8.unwrap_or(self.f32),
        }
    }
}

/// Runs the instructions that multiply `dtype` on the calling thread, `loops` times a fixed number, and yields how many
/// operations that were. If the tier has no instruction for the type, those of f32 run.
pub fn multiply(kernels: &Kernels, dtype: WeightType, loops: usize) -> u64 {
    (kernels.probe.of(dtype))(loops)
}

/// The operations per second that all threads do together with the instructions that multiply `dtype`, operands and
/// sums in registers.
#[must_use]
pub fn peak(pool: &Pool, kernels: &Kernels, dtype: WeightType) -> f64 {
    /// A millisecond or so: even on a busy machine all threads run at once for as long now and then.
    const LOOPS: usize = 20_000;
    let operations = pool.threads() as f64 * multiply(kernels, dtype, LOOPS) as f64;
    let body = |_| {
        black_box(multiply(kernels, dtype, LOOPS));
    };
    operations / fastest(|| pool.run(pool.threads(), &body)).as_secs_f64()
}

/// The bytes per second that all threads together read from memory, one after the other.
#[must_use]
pub fn read_bandwidth(pool: &Pool, kernels: &Kernels) -> f64 {
    /// Several times what caches hold.
    const WORDS: usize = (256 << 20) / size_of::<u64>();
    /// Words of a piece of work.
    const PIECE: usize = (1 << 20) / size_of::<u64>();
    // Pages that nobody has written are all the same one.
    let words = vec![1_u64; WORDS];
    let read = |piece: usize| {
        black_box((kernels.probe.read)(ReadAll { words: &words[piece * PIECE..(piece + 1) * PIECE] }));
    };
    size_of_val(words.as_slice()) as f64 / fastest(|| pool.run(WORDS / PIECE, &read)).as_secs_f64()
}

/// The best time of those that a third of a second has room for: whatever else runs here only slows it down.
fn fastest(mut body: impl FnMut()) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while best == Duration::MAX || begin.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        body();
        best = best.min(start.elapsed());
    }
    best
}

/// Reads all of a slice: the sum of its words.
pub(crate) struct ReadAll<'a> {
    words: &'a [u64],
}

impl RowKernel for ReadAll<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self) -> u64 {
        const LANES: usize = 64;
        let mut sums = [0_u64; LANES];
        for words in self.words.chunks_exact(LANES) {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.into_iter().fold(0, u64::wrapping_add)
    }
}

/// Multiplies words of `elements` elements into `CHAINS` vectors of sums, which do not wait for each other.
///
/// # Safety
/// The processor has the tier's instructions.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the generic tier has no multiply-add"))]
#[inline(always)]
pub(crate) unsafe fn chains<D: Dot, const CHAINS: usize>(loops: usize, word: u32, elements: usize) -> u64 {
    let words = black_box([word; 64]);
    // SAFETY: the caller vouches for the instructions, and no vector has more than 64 words.
    unsafe {
        let (left, right) = (D::splat(words.as_ptr().cast()), D::load(words.as_ptr()));
        let mut sums = [D::zero(); CHAINS];
        for _ in 0..loops {
            for sum in &mut sums {
                *sum = D::dot(*sum, left, right);
            }
        }
        black_box(sums);
    }
    (2 * loops * CHAINS * D::LANES * elements) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_count_what_they_do() {
        for kernels in Kernels::available() {
            for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
                let once = multiply(kernels, dtype, 10);
                assert!(once > 0 && multiply(kernels, dtype, 30) == 3 * once, "{} {dtype:?}", kernels.tier);
            }
            let words: Vec<u64> = (0..1 << 10).collect();
            assert_eq!((kernels.probe.read)(ReadAll { words: &words }), (0..1 << 10).sum());
        }
    }

    #[test]
    fn narrow_types_are_not_slower_than_wide_ones() {
        let pool = Pool::new(1);
        let kernels = crate::kernels();
        let [f32, bf16, s8] = [WeightType::F32, WeightType::Bf16, WeightType::S8].map(|t| peak(&pool, kernels, t));
        // Half, because the machine may be busy with other things meanwhile.
        assert!(f32 > 1e9 && bf16 > 0.5 * f32 && s8 > 0.5 * f32, "{f32:.2e} {bf16:.2e} {s8:.2e}");
    }
}
