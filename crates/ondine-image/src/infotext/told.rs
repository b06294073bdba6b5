//! What the text of a picture tells of a picture that was a prompt.

use std::fmt;

use super::Infotext;

/// An IP-Adapter and the picture that it showed the model, as the value of an infotext's key.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldPrompt {
    /// The name of the adapter: that of its file, without folder and extension.
    pub model: String,
    /// The name of the picture's file, without folder; empty if it has none.
    pub image: String,
    /// How much it counted beside the text.
    pub weight: f32,
}

const MODEL: &str = "Model: ";
const IMAGE: &str = ", Image: ";
const WEIGHT: &str = ", Weight: ";

impl ToldPrompt {
    /// What the keys begin with, before a number.
    pub const KEY: &str = "IP-Adapter";

    /// All that a text tells of, in its order.
    #[must_use]
    pub fn all(text: &Infotext) -> Vec<Self> {
        let of = |(key, value): &(String, String)| {
            let number = key.strip_prefix(Self::KEY)?.trim();
            let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            numbered.then(|| Self::parse(value))?
        };
        text.extra.iter().filter_map(of).collect()
    }

    /// Reads a value; names may hold what stands between them.
    fn parse(value: &str) -> Option<Self> {
        let (names, weight) = value.strip_prefix(MODEL)?.rsplit_once(WEIGHT)?;
        let (model, image) = names.rsplit_once(IMAGE).unwrap_or((names, ""));
        let weight = weight.trim().parse::<f32>().ok().filter(|weight| weight.is_finite())?;
        Some(Self { model: model.to_owned(), image: image.to_owned(), weight })
    }
}

impl fmt::Display for ToldPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MODEL}{}", self.model)?;
        if !self.image.is_empty() {
            write!(f, "{IMAGE}{}", self.image)?;
        }
        write!(f, "{WEIGHT}{}", self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_back_through_a_text() {
        let told = |model: &str, image: &str, weight| ToldPrompt { model: model.into(), image: image.into(), weight };
        let prompts = [
            told("ip-adapter_sd15", "cat.png", 0.6),
            told("plus", "", -0.25),
            told("a, b: c", "my \"cat\", Weight: 2, x.png", 1.0),
        ];
        let extra = prompts.iter().enumerate().map(|(i, told)| (format!("IP-Adapter {i}"), told.to_string())).collect();
        let text = Infotext { prompt: "a cat".to_owned(), steps: Some(4), seed: Some(1), extra, ..Infotext::default() };
        assert_eq!(ToldPrompt::all(&Infotext::parse(&text.to_string())), prompts);
        let others =
            "a\nSteps: 1, Seed: 2, IP-Adapter: x, IP-Adapter 0: \"Weight: 1\", IP-Adapter 1: \"Model: x, Weight: nan\"";
        assert_eq!(ToldPrompt::all(&Infotext::parse(others)), []);
    }
}
