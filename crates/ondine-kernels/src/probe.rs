//! What the processor can do at most: its multiplying instructions on registers alone, and reading from memory.
//!
//! A measured speed says little without them: machines differ, and one machine differs from hour to hour.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    arch::{
        dot::{Dot, WeightType},
        enter::Kernel,
        isa::Isa,
        vector::Vector,
    },
    cpu::Cpu,
};

/// Vectors of sums that do not wait for each other: with the operands beside them they fit into 16 registers.
const CHAINS: usize = 12;

/// Runs the instructions that multiply `dtype` on the calling thread, `loops` times a fixed number, and yields how many
/// operations that were, two per multiply-add. If the tier has no instruction for the type, those of f32 run.
pub fn multiply(cpu: &Cpu, dtype: WeightType, loops: usize) -> u64 {
    cpu.enter(Multiply { dtype, loops })
}

/// The operations per second that all threads do together with the instructions that multiply `dtype`, operands and
/// sums in registers.
#[must_use]
pub fn peak(cpu: &Cpu, dtype: WeightType) -> f64 {
    /// A millisecond or so: even on a busy machine all threads run at once for as long now and then.
    const LOOPS: usize = 20_000;
    let operations = cpu.threads() as f64 * multiply(cpu, dtype, LOOPS) as f64;
    let body = |_| {
        black_box(multiply(cpu, dtype, LOOPS));
    };
    operations / fastest(|| cpu.pool().run(cpu.threads(), &body)).as_secs_f64()
}

/// The bytes per second that all threads together read from memory, one after the other.
#[must_use]
pub fn read_bandwidth(cpu: &Cpu) -> f64 {
    /// Several times what caches hold.
    const WORDS: usize = (256 << 20) / size_of::<u64>();
    /// Words of a piece of work.
    const PIECE: usize = (1 << 20) / size_of::<u64>();
    // Pages that nobody has written are all the same one.
    let words = vec![1_u64; WORDS];
    let read = |piece: usize| {
        black_box(cpu.enter(ReadAll { words: &words[piece * PIECE..(piece + 1) * PIECE] }));
    };
    size_of_val(words.as_slice()) as f64 / fastest(|| cpu.pool().run(WORDS / PIECE, &read)).as_secs_f64()
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
struct ReadAll<'a> {
    words: &'a [u64],
}

impl Kernel for ReadAll<'_> {
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

/// Multiplies in registers.
struct Multiply {
    dtype: WeightType,
    loops: usize,
}

impl Kernel for Multiply {
    /// The operations.
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self) -> u64 {
        let products = match self.dtype {
            WeightType::Bf16 if I::Bf16::LINKED > 0 => chains::<I::Bf16>(self.loops),
            WeightType::S8 if I::S8::LINKED > 0 => chains::<I::S8>(self.loops),
            _ => fused::<I::Wide>(self.loops),
        };
        (2 * self.loops * products) as u64
    }
}

/// Chains of [`Dot::link`]; yields the products of one loop.
#[inline(always)]
fn chains<D: Dot>(loops: usize) -> usize {
    let words = black_box([0x3f80_3f80_u32; 64]);
    // SAFETY: a kernel runs only where its instructions are, and no vector has more than 64 words.
    unsafe {
        let (left, right) = (D::splat(words.as_ptr().cast()), D::load(words.as_ptr()));
        let mut sums = [D::zero(); CHAINS];
        for _ in 0..loops {
            for sum in &mut sums {
                *sum = D::link(*sum, left, right);
            }
        }
        black_box(sums);
    }
    CHAINS * D::LANES * D::LINKED
}

/// Chains of a multiplication and an addition of f32; yields the products of one loop. The sums themselves are
/// multiplied: products of operands that stay the same would be taken out of the loop.
#[inline(always)]
fn fused<V: Vector>(loops: usize) -> usize {
    let (left, right) = (V::splat(black_box(1.0)), V::splat(black_box(0.5)));
    let mut sums = [left; CHAINS];
    for _ in 0..loops {
        for sum in &mut sums {
            *sum = sum.mul_add(right, left);
        }
    }
    black_box(sums);
    CHAINS * V::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_count_what_they_do() {
        for cpu in Cpu::new(1).unwrap().tiers() {
            for dtype in [WeightType::F32, WeightType::Bf16, WeightType::S8] {
                let once = multiply(&cpu, dtype, 10);
                assert!(once > 0 && multiply(&cpu, dtype, 30) == 3 * once, "{} {dtype:?}", cpu.tier());
            }
            let words: Vec<u64> = (0..1 << 10).collect();
            assert_eq!(cpu.enter(ReadAll { words: &words }), (0..1 << 10).sum());
        }
    }

    #[test]
    fn narrow_types_are_not_slower_than_wide_ones() {
        let cpu = Cpu::new(1).unwrap();
        let [f32, bf16, s8] = [WeightType::F32, WeightType::Bf16, WeightType::S8].map(|dtype| peak(&cpu, dtype));
        // Half, because the machine may be busy with other things meanwhile.
        assert!(f32 > 1e9 && bf16 > 0.5 * f32 && s8 > 0.5 * f32, "{f32:.2e} {bf16:.2e} {s8:.2e}");
    }
}
