//! How weights of tokens act on what an encoder makes of them: each tool has its own rule.

use std::{fmt, str::FromStr};

use ondine_graph::{Error, Result, fail};

/// A rule for weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// A1111's: states are multiplied, then all of a chunk together, so that its mean stays.
    #[default]
    Original,
    /// States are multiplied.
    NoNorm,
    /// `ComfyUI`'s: states move away from those of an empty text.
    Comfy,
    /// Marks are letters like others, as in diffusers.
    Off,
}

/// The rules by name, the first of each being the one printed.
const NAMES: [(Emphasis, &[&str]); 4] = [
    (Emphasis::Original, &["a1111", "original"]),
    (Emphasis::NoNorm, &["no-norm", "nonorm", "no norm"]),
    (Emphasis::Comfy, &["comfy", "comfyui"]),
    (Emphasis::Off, &["diffusers", "off", "none"]),
];

impl Emphasis {
    /// The name of each.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, names)| names[0])
    }

    /// Weighs the states `[tokens, width]` of a chunk; `empty` are those of an empty text.
    pub(crate) fn weigh(self, states: &mut [f32], weights: &[f32], empty: Option<&[f32]>) {
        if weights.iter().all(|&weight| weight == 1.0) {
            return;
        }
        let width = (states.len() / weights.len().max(1)).max(1);
        let mean = |states: &[f32]| states.iter().map(|&x| f64::from(x)).sum::<f64>() / states.len() as f64;
        let before = mean(states);
        for (i, (state, &weight)) in states.chunks_mut(width).zip(weights).enumerate() {
            let from = empty.filter(|_| self == Self::Comfy).and_then(|empty| empty.get(i * width..(i + 1) * width));
            match from {
                Some(from) => state.iter_mut().zip(from).for_each(|(x, from)| *x = (*x - from) * weight + from),
                None => state.iter_mut().for_each(|x| *x *= weight),
            }
        }
        if self == Self::Original {
            let factor = (before / mean(states)) as f32;
            if factor.is_finite() {
                states.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}

impl fmt::Display for Emphasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(rule, _)| rule == self).map_or("", |(_, names)| names[0]))
    }
}

impl FromStr for Emphasis {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        match NAMES.iter().find(|(_, names)| names.contains(&lower.as_str())) {
            Some((rule, _)) => Ok(*rule),
            None => {
                let known: Vec<_> = Self::names().collect();
                fail!(Argument, "{name:?} is no way to read prompts; known are {}", known.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_differ_in_what_stays() {
        let (states, weights) = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.5]);
        let weighed = |rule: Emphasis| {
            let mut states = states;
            rule.weigh(&mut states, &weights, Some(&[1.0; 4]));
            states
        };
        assert_eq!(weighed(Emphasis::NoNorm), [1.0, 2.0, 4.5, 6.0]);
        assert_eq!(weighed(Emphasis::Comfy), [1.0, 2.0, 4.0, 5.5]);
        assert!((weighed(Emphasis::Original).iter().sum::<f32>() - 10.0).abs() < 1e-5);
        assert_eq!("ComfyUI".parse::<Emphasis>().unwrap(), Emphasis::Comfy);
    }
}
