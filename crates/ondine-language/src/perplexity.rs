//! How well a model knows a text: the perplexity of its tokens, as llama.cpp measures it.

use ondine_graph::{Result, fail};
use ondine_models::vocabulary::Controls;
use serde::Serialize;

use crate::session::{Session, likelihood};

/// How well a model knows a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// The perplexity: e to the mean of what follows.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Mean of the negative logarithm of the likelihood of a token.
    pub mean: f64,
    /// How many tokens were looked at.
    pub tokens: usize,
    /// How many windows of the text.
    pub windows: usize,
}

/// The perplexity of a text in windows of `window` tokens that do not overlap. Of each, the tokens of the second half
/// are looked at, which have all of the first half before them. What fills no window is left out, and so is what lies
/// behind the first `most` windows. `done` hears what is known after so many windows, of so many.
///
/// # Errors
/// If the text fills no window, the window does not fit into the context, or the model fails.
pub fn perplexity(
    session: &mut Session,
    text: &str,
    window: usize,
    most: usize,
    done: &mut dyn FnMut(Perplexity, usize),
) -> Result<Perplexity> {
    let vocabulary = session.model().vocabulary();
    let ids = vocabulary.encode_whole(text, Controls::Text)?;
    // Where texts begin with a token of their own, windows do.
    let begin = vocabulary.beginning().to_vec();
    let count = (ids.len() / window.max(1)).min(most);
    if window < 4 || count == 0 {
        fail!(Argument, "{} tokens fill no window of {window}; a window has at least 4", ids.len());
    }
    let half = window / 2;
    let mut sums = Sums::default();
    for (index, part) in ids.chunks_exact(window).take(count).enumerate() {
        let mut part = part.to_vec();
        if begin.len() < half {
            part.splice(..begin.len(), begin.iter().copied());
        }
        let (before, rest) = part.split_at(half);
        let logits = session.logits_after(before, rest)?;
        let width = logits.shape().last().copied().unwrap_or_default().max(1);
        let known = session.model().vocabulary().len().min(width);
        let numbers = logits.to_f32();
        for (row, &next) in numbers.chunks_exact(width).zip(rest.get(1..).unwrap_or_default()) {
            sums.add(-likelihood(row.get(..known).unwrap_or_default(), next)?);
        }
        done(sums.perplexity(index + 1), count);
    }
    Ok(sums.perplexity(count))
}

/// Sums over tokens.
#[derive(Default)]
struct Sums {
    tokens: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, unlikelihood: f64) {
        self.tokens += 1;
        self.sum += unlikelihood;
        self.squares += unlikelihood * unlikelihood;
    }

    fn perplexity(&self, windows: usize) -> Perplexity {
        let count = self.tokens as f64;
        let mean = self.sum / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        let value = mean.exp();
        let error = if self.tokens > 1 { (variance / (count - 1.0)).sqrt() * value } else { 0.0 };
        Perplexity { value, error, mean, tokens: self.tokens, windows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_softmax() {
        let row = [0.0, 3_f32.ln(), 1000.0_f32.ln()];
        assert!((likelihood(&row, 1).unwrap() + (1004.0_f64 / 3.0).ln()).abs() < 1e-6);
        assert!(likelihood(&row, 3).is_err() && likelihood(&[f32::NAN], 0).is_err());
        let mut sums = Sums::default();
        sums.add(1.0);
        sums.add(3.0);
        let found = sums.perplexity(1);
        assert_eq!((found.mean, found.tokens), (2.0, 2));
        assert!((found.error - 2_f64.exp()).abs() < 1e-9);
    }
}
