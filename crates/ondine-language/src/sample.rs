//! Which token comes next: from logits to one of them.
//!
//! What is asked for is applied in this order, that of transformers:
//!
//! 1. the repetition penalty, for tokens of the prompt and the answer (Keskar et al. 2019)
//! 2. the frequency and presence penalties, for tokens of the answer
//! 3. the temperature; at 0 the likeliest token is taken, of several the one of the smallest id, and no draw follows
//! 4. top-k, top-p, min-p, each of what the one before has left
//! 5. a draw among what is left, by the generator of the seed
//!
//! The same logits, settings and seed give the same tokens.

use std::{cmp::Ordering, collections::HashMap, ops::RangeInclusive};

use ondine_graph::{Result, fail};

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Spread of the choice: 0 takes the likeliest token, 1 draws as the model has it.
    pub temperature: f32,
    /// Draw among so many of the likeliest; 0 is all.
    pub top_k: usize,
    /// Draw among the likeliest that are so likely together (Holtzman et al. 2020); 1 is all.
    pub top_p: f32,
    /// Draw among those that are so likely as a share of the likeliest; 0 is all.
    pub min_p: f32,
    /// Logits of what was said before are divided by it, or multiplied if they are below zero; 1 is none.
    pub repetition_penalty: f32,
    /// Taken off a logit for each time that the answer has its token; 0 is none.
    pub frequency_penalty: f32,
    /// Taken off a logit if the answer has its token; 0 is none.
    pub presence_penalty: f32,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for Sampling {
    /// The likeliest token, always.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 42,
        }
    }
}

impl Sampling {
    /// Refuses what means nothing.
    ///
    /// # Errors
    /// If a setting is outside of its range; the message names both.
    pub fn check(&self) -> Result<()> {
        let settings: [(&str, f32, RangeInclusive<f32>); 6] = [
            ("temperature", self.temperature, 0.0..=100.0),
            ("top-p", self.top_p, 0.0..=1.0),
            ("min-p", self.min_p, 0.0..=1.0),
            ("repetition penalty", self.repetition_penalty, 0.01..=100.0),
            ("frequency penalty", self.frequency_penalty, -100.0..=100.0),
            ("presence penalty", self.presence_penalty, -100.0..=100.0),
        ];
        for (name, value, range) in settings {
            if !range.contains(&value) {
                fail!(Argument, "a {name} of {value}; it is from {} to {}", range.start(), range.end());
            }
        }
        Ok(())
    }
}

/// Chooses the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    random: Random,
    /// How often the answer has each token; none for those that only the prompt has.
    said: HashMap<u32, usize>,
}

impl Sampler {
    /// Begins an answer to `prompt`.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(settings: &Sampling, prompt: &[u32]) -> Result<Self> {
        settings.check()?;
        let said = prompt.iter().map(|&id| (id, 0)).collect();
        Ok(Self { settings: settings.clone(), random: Random(settings.seed), said })
    }

    /// The next token of the answer, which is noted as said.
    ///
    /// # Errors
    /// If there is no number among the logits.
    pub fn choose(&mut self, logits: &mut [f32]) -> Result<u32> {
        self.punish(logits);
        let id = if self.settings.temperature == 0.0 { likeliest(logits) } else { self.draw(logits) };
        match id {
            Some(id) => {
                *self.said.entry(id).or_default() += 1;
                Ok(id)
            }
            None => fail!(Internal, "the model yields no numbers; are its weights whole?"),
        }
    }

    /// Notes a token that was not chosen of several: what comes after it is as if it had been.
    pub fn note(&mut self, id: u32) {
        if self.settings.temperature != 0.0 {
            self.random.share();
        }
        *self.said.entry(id).or_default() += 1;
    }

    fn punish(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.settings;
        if (repetition_penalty, frequency_penalty, presence_penalty) == (1.0, 0.0, 0.0) {
            return;
        }
        for (&id, &times) in &self.said {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if times > 0 {
                *logit -= frequency_penalty * times as f32 + presence_penalty;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.settings;
        let finite = |&(_, logit): &(u32, f32)| logit > f32::NEG_INFINITY;
        let mut left: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).filter(finite).collect();
        let most = if top_k == 0 { left.len() } else { top_k.min(left.len()) };
        if most < left.len() {
            left.select_nth_unstable_by(most, by_likelihood);
            left.truncate(most);
        }
        let top = left.iter().fold(f32::NEG_INFINITY, |top, &(_, logit)| top.max(logit));
        let weight = |logit: f32| (f64::from(logit - top) / f64::from(temperature)).exp();
        let total: f64 = left.iter().map(|&(_, logit)| weight(logit)).sum();
        // The likeliest come first, of which few are asked for.
        let mut ranked = Ranked { left, sorted: 0 };
        let (mut kept, mut count) = (total, ranked.left.len());
        if top_p < 1.0 || min_p > 0.0 {
            (kept, count) = (0.0, 0);
            while let Some((_, logit)) = ranked.get(count) {
                let weight = weight(logit);
                // The one that reaches the share is among those that are left, and the likeliest always is.
                if count > 0 && (weight < f64::from(min_p) || (top_p < 1.0 && kept >= f64::from(top_p) * total)) {
                    break;
                }
                (kept, count) = (kept + weight, count + 1);
            }
        }
        let mut point = self.random.share() * kept;
        for at in 0..count {
            let (id, logit) = ranked.get(at)?;
            point -= weight(logit);
            // Rounding may leave a rest behind the last.
            if point < 0.0 || at + 1 == count {
                return Some(id);
            }
        }
        None
    }
}

/// Tokens with their logits, put in order as far as they are asked for.
struct Ranked {
    left: Vec<(u32, f32)>,
    /// How many from the first on are in their places.
    sorted: usize,
}

impl Ranked {
    /// The token at this place, the likeliest being at 0.
    fn get(&mut self, at: usize) -> Option<(u32, f32)> {
        while at >= self.sorted && self.sorted < self.left.len() {
            let rest = self.left.get_mut(self.sorted..)?;
            // More each time: all of them are sorted in the end as fast as at once.
            let count = (64 + 3 * self.sorted).min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count, by_likelihood);
            }
            rest.get_mut(..count)?.sort_unstable_by(by_likelihood);
            self.sorted += count;
        }
        self.left.get(at).copied()
    }
}

/// The likelier first, of those that are alike the one of the smaller id.
fn by_likelihood((a, first): &(u32, f32), (b, second): &(u32, f32)) -> Ordering {
    second.total_cmp(first).then(a.cmp(b))
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> Option<u32> {
    /// Logits whose largest is found without asking which it is.
    const SPAN: usize = 1024;
    let (mut first, mut best) = (0, f32::NEG_INFINITY);
    for (index, span) in logits.chunks(SPAN).enumerate() {
        let mut lanes = [f32::NEG_INFINITY; 16];
        for chunk in span.chunks(lanes.len()) {
            for (lane, &logit) in lanes.iter_mut().zip(chunk) {
                *lane = if logit > *lane { logit } else { *lane };
            }
        }
        let most = lanes.iter().fold(f32::NEG_INFINITY, |most, &lane| if lane > most { lane } else { most });
        if most > best {
            (first, best) = (index * SPAN, most);
        }
    }
    let at = logits.iter().skip(first).position(|&logit| logit == best)?;
    u32::try_from(first + at).ok()
}

/// SplitMix64 (Steele et al. 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of four tokens is chosen of 4000.
    fn shares(settings: &Sampling) -> [usize; 4] {
        let mut counts = [0; 4];
        let mut sampler = Sampler::new(settings, &[]).unwrap();
        for _ in 0..4000 {
            let id = sampler.choose(&mut [0.0, 3_f32.ln(), f32::NEG_INFINITY, 4_f32.ln()]).unwrap();
            counts[id as usize] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_logits_and_the_settings() {
        let drawn = || Sampling { temperature: 1.0, ..Sampling::default() };
        let near = |found: [usize; 4], wanted: [usize; 4]| {
            assert!(found.iter().zip(wanted).all(|(&a, b)| a.abs_diff(b) < 150 && (b > 0 || a == 0)), "{found:?}");
        };
        near(shares(&drawn()), [500, 1500, 0, 2000]);
        near(shares(&Sampling { top_k: 2, ..drawn() }), [0, 1714, 0, 2286]);
        near(shares(&Sampling { top_p: 0.49, ..drawn() }), [0, 0, 0, 4000]);
        near(shares(&Sampling { top_p: 0.51, ..drawn() }), [0, 1714, 0, 2286]);
        near(shares(&Sampling { top_p: 0.0, ..drawn() }), [0, 0, 0, 4000]);
        near(shares(&Sampling { min_p: 0.3, ..drawn() }), [0, 1714, 0, 2286]);
        near(shares(&Sampling { temperature: 0.5, ..drawn() }), [154, 1385, 0, 2461]);
        assert_eq!(shares(&Sampling::default()), [0, 0, 0, 4000]);
        assert_eq!(shares(&drawn()), shares(&drawn()));
        assert_ne!(shares(&drawn()), shares(&Sampling { seed: 43, ..drawn() }));
    }

    #[test]
    fn the_likeliest_is_the_first_of_the_largest() {
        let mut logits: Vec<f32> = (0..5000_u32).map(|at| (at * 7919 % 4999) as f32).collect();
        logits[3] = f32::NAN;
        let plain = |logits: &[f32]| {
            let numbers = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
            numbers.rev().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at as u32)
        };
        for at in [0, 15, 1023, 1024, 4999] {
            (logits[at], logits[at.max(2000)]) = (6000.0 + at as f32, 6000.0 + at as f32);
            assert_eq!(likeliest(&logits), plain(&logits), "{at}");
        }
        assert_eq!(likeliest(&[f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY]), Some(1));
        assert_eq!((likeliest(&[f32::NAN]), likeliest(&[])), (None, None));
    }

    #[test]
    fn ranks_are_those_of_sorting() {
        let left: Vec<(u32, f32)> = (0..3000).map(|id| (id, (id * 7919 % 600) as f32)).collect();
        let mut sorted = left.clone();
        sorted.sort_unstable_by(by_likelihood);
        let mut ranked = Ranked { left, sorted: 0 };
        for at in [5, 0, 63, 64, 255, 256, 1500, 2999] {
            assert_eq!(ranked.get(at), Some(sorted[at]), "{at}");
        }
        assert_eq!(ranked.get(3000), None);
    }

    #[test]
    fn what_was_said_is_punished() {
        let settings =
            Sampling { repetition_penalty: 2.0, presence_penalty: 0.5, frequency_penalty: 0.1, ..Sampling::default() };
        let mut sampler = Sampler::new(&settings, &[0, 3]).unwrap();
        let logits = [4.0, 3.0, 2.5, -1.0];
        let mut chosen = |logits: [f32; 4]| sampler.choose(&mut { logits }).unwrap();
        assert_eq!([chosen(logits), chosen(logits), chosen(logits)], [1, 2, 0]);
        let mut punished = logits;
        sampler.punish(&mut punished);
        assert_eq!(punished, [4.0 / 2.0 - 0.6, 3.0 / 2.0 - 0.6, 2.5 / 2.0 - 0.6, -2.0]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let wrong = Sampling { top_p: 1.5, ..Sampling::default() };
        assert_eq!(wrong.check().unwrap_err().to_string(), "a top-p of 1.5; it is from 0 to 1");
        assert!(Sampling { temperature: f32::NAN, ..Sampling::default() }.check().is_err());
        let mut sampler = Sampler::new(&Sampling::default(), &[]).unwrap();
        assert!(sampler.choose(&mut [f32::NAN]).is_err() && sampler.choose(&mut []).is_err());
        assert_eq!(sampler.choose(&mut [1.0, 1.0]).unwrap(), 0);
    }
}
