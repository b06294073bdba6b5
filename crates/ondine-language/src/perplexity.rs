//! How well a model knows a text: the perplexity of its tokens, as llama.cpp measures it, and how far what it expects
//! is from what another one does.

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
    /// How far the model is from another one, if there is one.
    pub divergence: Option<Divergence>,
}

/// How far a model is from another one: from itself in other numbers, for instance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Mean Kullback-Leibler divergence from what the other one expects, in nats a token.
    pub mean: f64,
    /// The largest of a token.
    pub most: f64,
    /// How often both expect the same token most, from 0 to 1.
    pub same_top: f64,
}

/// The perplexity of a text in windows of `window` tokens that do not overlap. Of each, the tokens of the second half
/// are looked at, which have all of the first half before them. What fills no window is left out, and so is what lies
/// behind the first `most` windows. `done` hears what is known after so many windows, of so many. What the model
/// expects is compared with what `other` does, if there is one.
///
/// # Errors
/// If the text fills no window, the window does not fit into the context, `other` has other tokens, or a model fails.
pub fn perplexity(
    session: &mut Session,
    mut other: Option<&mut Session>,
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
    if other.as_ref().is_some_and(|other| other.model().vocabulary().len() != vocabulary.len()) {
        fail!(Argument, "the models have different tokens: what they expect cannot be compared");
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
        let rows = || numbers.chunks_exact(width).map(|row| row.get(..known).unwrap_or_default());
        for (row, &next) in rows().zip(rest.get(1..).unwrap_or_default()) {
            sums.add(-likelihood(row, next)?);
        }
        if let Some(other) = &mut other {
            let logits = other.logits_after(before, rest)?;
            let width = logits.shape().last().copied().unwrap_or_default().max(1);
            let numbers = logits.to_f32();
            let others = numbers.chunks_exact(width).map(|row| row.get(..known).unwrap_or_default());
            others.zip(rows()).take(rest.len() - 1).for_each(|(other, own)| sums.compare(other, own));
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
    compared: usize,
    divergence: f64,
    largest: f64,
    same: usize,
}

/// The largest logit with its place, and the logarithm of the sum of the powers of all less it.
fn top(logits: &[f32]) -> (usize, f32, f64) {
    let mut top = (0, f32::NEG_INFINITY);
    for (at, &logit) in logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan()) {
        if logit > top.1 {
            top = (at, logit);
        }
    }
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - top.1).exp()).sum();
    (top.0, top.1, sum.ln())
}

impl Sums {
    fn add(&mut self, unlikelihood: f64) {
        self.tokens += 1;
        self.sum += unlikelihood;
        self.squares += unlikelihood * unlikelihood;
    }

    /// Of the logits of a token, those of the model that it is compared with first.
    fn compare(&mut self, other: &[f32], own: &[f32]) {
        let ((place, most, sum), (own_place, own_most, own_sum)) = (top(other), top(own));
        let divergence = other.iter().zip(own).fold(0.0, |all, (&other, &own)| {
            let (other, own) = (f64::from(other - most) - sum, f64::from(own - own_most) - own_sum);
            // What is never expected adds nothing.
            if other == f64::NEG_INFINITY { all } else { all + other.exp() * (other - own) }
        });
        self.compared += 1;
        self.divergence += divergence;
        self.largest = self.largest.max(divergence);
        self.same += usize::from(place == own_place);
    }

    fn perplexity(&self, windows: usize) -> Perplexity {
        let count = self.tokens as f64;
        let mean = self.sum / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        let value = mean.exp();
        let error = if self.tokens > 1 { (variance / (count - 1.0)).sqrt() * value } else { 0.0 };
        let divergence = (self.compared > 0).then(|| {
            let count = self.compared as f64;
            Divergence { mean: self.divergence / count, most: self.largest, same_top: self.same as f64 / count }
        });
        Perplexity { value, error, mean, tokens: self.tokens, windows, divergence }
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

    #[test]
    fn divergence_is_that_of_kullback_and_leibler() {
        let mut sums = Sums::default();
        let other = [0.0, 3_f32.ln(), f32::NEG_INFINITY];
        sums.compare(&other, &other);
        // 1/4 and 3/4 against 1/2 and 1/2, of logits whose sum is not 1.
        sums.compare(&other, &[7.0, 7.0, f32::NEG_INFINITY]);
        let wanted = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        let found = sums.perplexity(1).divergence.unwrap();
        assert!((found.most - wanted).abs() < 1e-6 && (found.mean - wanted / 2.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.same_top, 0.5);
    }
}
