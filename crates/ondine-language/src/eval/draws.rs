//! Python's draws: which examples the harness puts before a question.

/// The generator of Python's `random` (Matsumoto and Nishimura 1998), seeded with a number as `random.Random` is.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    words: Vec<u32>,
    next: usize,
}

const WORDS: usize = 624;
const AHEAD: usize = 397;

impl Draws {
    pub(super) fn new(seed: u32) -> Self {
        let mut words = vec![19_650_218_u32; WORDS];
        let step = |before: u32, factor: u32| (before ^ (before >> 30)).wrapping_mul(factor);
        for at in 1..WORDS {
            words[at] = step(words[at - 1], 1_812_433_253).wrapping_add(at as u32);
        }
        let mut at = 1;
        for turn in 0..2 * WORDS - 1 {
            let mixing = turn < WORDS;
            let mixed = words[at] ^ step(words[at - 1], if mixing { 1_664_525 } else { 1_566_083_941 });
            words[at] = if mixing { mixed.wrapping_add(seed) } else { mixed.wrapping_sub(at as u32) };
            at += 1;
            if at == WORDS {
                words[0] = words[WORDS - 1];
                at = 1;
            }
        }
        words[0] = 1 << 31;
        Self { words, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            for at in 0..WORDS {
                let joined = (self.words[at] & (1 << 31)) | (self.words[(at + 1) % WORDS] & !(1 << 31));
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[at] = self.words[(at + AHEAD) % WORDS] ^ (joined >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn below(&mut self, count: usize) -> usize {
        let bits = usize::BITS - count.leading_zeros();
        loop {
            let drawn = (self.word() >> (32 - bits.clamp(1, 32))) as usize;
            if drawn < count {
                return drawn;
            }
        }
    }

    /// `count` different ones of `0..all`, as `random.sample` draws them.
    pub(super) fn sample(&mut self, all: usize, count: usize) -> Vec<usize> {
        let count = count.min(all);
        // Up to which size a list is cheaper than a set: it decides which numbers are drawn.
        let mut list = 21;
        let mut power = 1;
        while count > 5 && power < count * 3 {
            power *= 4;
        }
        if count > 5 {
            list += power;
        }
        let mut drawn = Vec::with_capacity(count);
        if all <= list {
            let mut pool: Vec<usize> = (0..all).collect();
            for at in 0..count {
                drawn.push(pool.swap_remove(self.below(all - at)));
            }
        } else {
            while drawn.len() < count {
                let one = self.below(all);
                if !drawn.contains(&one) {
                    drawn.push(one);
                }
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_python() {
        let mut draws = Draws::new(1234);
        assert_eq!(draws.sample(7473, 5), [6374, 3610, 957, 61, 742]);
        assert_eq!(draws.sample(7473, 5), [7462, 6610, 4769, 286, 5501]);
        assert_eq!(draws.sample(100, 8), [88, 10, 12, 98, 45, 30, 2, 3]);
        assert_eq!(draws.sample(10, 5), [0, 5, 7, 4, 3]);
    }
}
