//! What can be asked of an answer, as people see it: one row for each option, of which every front door is made.

use std::ops::RangeInclusive;

use crate::session::Options;

/// An option of an answer.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name, in words with dashes between.
    pub name: &'static str,
    /// What its value is called.
    pub value: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// What it may be, and where it goes.
    pub kind: Kind,
}

/// What an option may be, and where it stands.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A whole number.
    Whole {
        /// From the least to the most, both allowed.
        range: RangeInclusive<u64>,
        /// Reads it; none, if it is open.
        get: fn(&Options) -> Option<u64>,
        /// Puts it there.
        set: fn(&mut Options, u64),
    },
    /// A number.
    Number {
        /// From the least to the most, both allowed.
        range: RangeInclusive<f32>,
        /// Reads it.
        get: fn(&Options) -> f32,
        /// Puts it there.
        set: fn(&mut Options, f32),
    },
    /// Texts, one each time that it is given.
    Texts {
        /// Reads them.
        get: fn(&Options) -> &[String],
        /// Adds one.
        set: fn(&mut Options, String),
    },
}

impl Setting {
    /// What it is if nobody says, as text.
    #[must_use]
    pub fn default(&self) -> String {
        let options = Options::default();
        match &self.kind {
            Kind::Whole { get, .. } => {
                get(&options).map_or_else(|| "as many as there is room for".into(), |n| n.to_string())
            }
            Kind::Number { get, .. } => get(&options).to_string(),
            Kind::Texts { .. } => "none".into(),
        }
    }
}

/// Every option of an answer.
pub const OPTIONS: &[Setting] = &[
    Setting {
        name: "max-tokens",
        value: "N",
        help: "The most tokens of the answer",
        kind: Kind::Whole {
            range: 0..=1 << 32,
            get: |options| options.max_tokens.map(|count| count as u64),
            set: |options, count| options.max_tokens = usize::try_from(count).ok(),
        },
    },
    Setting {
        name: "temperature",
        value: "X",
        help: "Spread of the choice: 0 takes the likeliest token, 1 draws as the model has it",
        kind: Kind::Number {
            range: 0.0..=100.0,
            get: |options| options.sampling.temperature,
            set: |options, value| options.sampling.temperature = value,
        },
    },
    Setting {
        name: "top-k",
        value: "N",
        help: "Draw among so many of the likeliest tokens; 0 is all",
        kind: Kind::Whole {
            range: 0..=1 << 32,
            get: |options| Some(options.sampling.top_k as u64),
            set: |options, count| options.sampling.top_k = usize::try_from(count).unwrap_or_default(),
        },
    },
    Setting {
        name: "top-p",
        value: "X",
        help: "Draw among the likeliest tokens that are so likely together; 1 is all",
        kind: Kind::Number {
            range: 0.0..=1.0,
            get: |options| options.sampling.top_p,
            set: |options, value| options.sampling.top_p = value,
        },
    },
    Setting {
        name: "min-p",
        value: "X",
        help: "Draw among tokens that are so likely as a share of the likeliest; 0 is all",
        kind: Kind::Number {
            range: 0.0..=1.0,
            get: |options| options.sampling.min_p,
            set: |options, value| options.sampling.min_p = value,
        },
    },
    Setting {
        name: "repetition-penalty",
        value: "X",
        help: "Make tokens of prompt and answer less likely; 1 is not",
        kind: Kind::Number {
            range: 0.01..=100.0,
            get: |options| options.sampling.repetition_penalty,
            set: |options, value| options.sampling.repetition_penalty = value,
        },
    },
    Setting {
        name: "frequency-penalty",
        value: "X",
        help: "Make tokens less likely for each time that the answer has them",
        kind: Kind::Number {
            range: -100.0..=100.0,
            get: |options| options.sampling.frequency_penalty,
            set: |options, value| options.sampling.frequency_penalty = value,
        },
    },
    Setting {
        name: "presence-penalty",
        value: "X",
        help: "Make tokens less likely that the answer has",
        kind: Kind::Number {
            range: -100.0..=100.0,
            get: |options| options.sampling.presence_penalty,
            set: |options, value| options.sampling.presence_penalty = value,
        },
    },
    Setting {
        name: "seed",
        value: "N",
        help: "Where the random numbers begin",
        kind: Kind::Whole {
            range: 0..=u64::MAX,
            get: |options| Some(options.sampling.seed),
            set: |options, seed| options.sampling.seed = seed,
        },
    },
    Setting {
        name: "draft-tokens",
        value: "N",
        help: "Guess up to so many tokens where the text repeats itself, and keep what the model chooses; 0 is not",
        kind: Kind::Whole {
            range: 0..=64,
            get: |options| Some(options.draft_tokens as u64),
            set: |options, count| options.draft_tokens = usize::try_from(count).unwrap_or_default(),
        },
    },
    Setting {
        name: "stop",
        value: "TEXT",
        help: "End the answer where this text would come; can be given several times",
        kind: Kind::Texts { get: |options| &options.stop, set: |options, text| options.stop.push(text) },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read_where_it_is_put() {
        for setting in OPTIONS {
            let mut options = Options::default();
            match &setting.kind {
                Kind::Whole { get, set, range } => {
                    assert!(get(&options).is_none_or(|value| range.contains(&value)));
                    set(&mut options, 7);
                    assert_eq!(get(&options), Some(7), "{}", setting.name);
                }
                Kind::Number { get, set, range } => {
                    assert!(range.contains(&get(&options)));
                    set(&mut options, 0.25);
                    assert!(get(&options) == 0.25, "{}", setting.name);
                    options.sampling.check().unwrap();
                }
                Kind::Texts { get, set } => {
                    set(&mut options, "x".into());
                    assert_eq!(get(&options), ["x"]);
                }
            }
            assert_ne!(options, Options::default(), "{}", setting.name);
        }
    }
}
