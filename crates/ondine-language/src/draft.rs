//! Tokens that may come next, guessed cheaply: the model checks several at once, so that a right guess saves a call.
//!
//! A guess is kept only if it is what the model chooses: every token comes from its logits, with the random numbers of
//! its place, as without guesses. So answers are the same as far as the logits of a token are the same alone and among
//! others.

use std::fmt;

use ondine_graph::Result;

/// What guesses the tokens that follow a text.
pub trait Drafter: fmt::Debug + Send {
    /// Up to `most` tokens that may follow `tokens`; none, where it has no guess.
    ///
    /// # Errors
    /// If guessing fails.
    fn draft(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>>;
}

/// Guesses that a text goes on as it did where its last tokens stood before (prompt look-up, Saxena 2023).
#[derive(Clone, Copy, Debug, Default)]
pub struct LookUp;

/// The most tokens that are looked for, and the fewest.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;

impl Drafter for LookUp {
    fn draft(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        for len in (SHORTEST..=LONGEST).rev() {
            let last = tokens.len().checked_sub(len).and_then(|at| tokens.get(at..));
            let (Some(last), Some((_, before))) = (last, tokens.split_last()) else { continue };
            // The place nearest to the end, behind which at least one token stands.
            if let Some(found) = before.windows(len).rposition(|window| window == last) {
                let rest = tokens.get(found + len..).unwrap_or_default();
                return Ok(rest.iter().copied().take(most).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// How many tokens are guessed at once: more while guesses are right, fewer while they are wrong. It follows from the
/// tokens alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    most: usize,
    now: usize,
    /// Steps without guesses that are left.
    rest: usize,
    /// Guesses in a row of which nothing was right.
    misses: u32,
}

impl Pace {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, now: most.min(4), rest: 0, misses: 0 }
    }

    /// How many tokens are guessed in the next step.
    pub(crate) fn next(&mut self) -> usize {
        if self.rest > 0 {
            self.rest -= 1;
            return 0;
        }
        self.now.min(self.most)
    }

    /// Notes that so many of the guesses came true.
    pub(crate) fn note(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            return;
        }
        if accepted == 0 {
            self.misses += 1;
            self.now = (self.now / 2).max(1);
            // What was wrong several times is likely to be so again.
            self.rest = if self.misses > 1 { 1 << self.misses.min(4) } else { 0 };
        } else {
            self.misses = 0;
            self.now = if accepted == drafted { self.now * 2 } else { accepted + 1 }.clamp(1, self.most.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_on_as_they_did() {
        let draft = |tokens: &[u32], most| LookUp.draft(tokens, most).unwrap();
        assert_eq!(draft(&[1, 2, 3, 4, 5, 2, 3], 2), [4, 5]);
        assert_eq!(draft(&[1, 2, 3, 4, 1, 2, 9, 1, 2], 3), [9, 1, 2]);
        // The longer match counts more than the nearer one.
        assert_eq!(draft(&[7, 1, 2, 3, 8, 1, 2, 7, 1, 2], 1), [3]);
        assert_eq!(draft(&[5, 5, 5], 4), [5]);
        assert!(draft(&[1, 2, 3], 4).is_empty() && draft(&[], 4).is_empty() && draft(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn wrong_guesses_become_rare() {
        let mut pace = Pace::new(16);
        assert_eq!(pace.next(), 4);
        pace.note(4, 4);
        assert_eq!(pace.next(), 8);
        pace.note(8, 3);
        assert_eq!(pace.next(), 4);
        let mut guesses = 0;
        for _ in 0..100 {
            let count = pace.next();
            guesses += usize::from(count > 0);
            pace.note(count, 0);
        }
        assert!(guesses < 12, "{guesses}");
    }
}
