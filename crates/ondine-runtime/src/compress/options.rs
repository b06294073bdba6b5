//! What to compress to.

use std::{collections::BTreeMap, time::Duration};

use ondine_graph::NDArray;
use wildmatch::WildMatchPattern;

use super::format::Format;

/// What to aim at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The format that is asked for, everywhere.
    Format,
    /// At most so many bytes of weights, at the least loss.
    Bytes(u64),
    /// At most this share of the bytes that the weights had, at the least loss.
    Share(f64),
    /// Results that differ from those of the asset by so many dB of peak signal-to-noise ratio at least, in the fewest
    /// bytes.
    Psnr(f64),
}

/// Which layers get which format.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The names of layers, `*` standing for any characters: the path of the weight without `.weight`.
    pub pattern: String,
    /// What these are compressed to; none keeps them as they are.
    pub format: Option<Format>,
}

/// Choices of a compression.
#[derive(Clone, Debug)]
pub struct Options {
    /// What layers are compressed to that no rule names. With a goal, the only format besides keeping a layer; without
    /// one, many are tried.
    pub format: Option<Format>,
    /// The first that names a layer decides.
    pub rules: Vec<Rule>,
    /// What to aim at.
    pub goal: Goal,
    /// True if errors are measured, which runs the functions; goals need it and do so anyway.
    pub measure: bool,
    /// Inputs by name, several calls of them; random ones if there are none.
    pub calibration: Vec<BTreeMap<String, NDArray>>,
    /// Of random inputs.
    pub seed: u64,
    /// The rank of corrections that formats get which are tried for a goal; 0 for none.
    pub low_rank: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: None,
            rules: Vec::new(),
            goal: Goal::Format,
            measure: false,
            calibration: Vec::new(),
            seed: 0,
            low_rank: 0,
        }
    }
}

/// What is being done, for people who wait.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// In a few words.
    pub stage: &'a str,
    /// Steps done of this stage.
    pub done: usize,
    /// All steps of this stage.
    pub total: usize,
    /// What the last step took.
    pub step: Duration,
}

/// True if `text` is `pattern`, in which `*` stands for any characters.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    // Nothing stands for a single character: no name holds the one that would.
    WildMatchPattern::<'*', '\0'>::new(pattern).matches(text)
}
