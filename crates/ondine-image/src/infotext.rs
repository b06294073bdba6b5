//! The `parameters` text of A1111: how a picture was made, as people paste and share it.
//!
//! ```text
//! a cat
//! Negative prompt: blurry
//! Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Version: v1.10.1
//! ```
//!
//! The prompt comes first, then the negative prompt if there is one, then one line of pairs.

mod fooocus;
pub mod told;

use std::{convert::Infallible, fmt, str::FromStr};

/// What the negative prompt's first line starts with.
const NEGATIVE: &str = "Negative prompt:";

/// What A1111 writes as `Noise Schedule` of a picture whose first step is at noise alone.
pub(crate) const ZERO_SNR: &str = "Zero Terminal SNR";

/// A text with fewer pairs on its last line has no pairs at all.
const FEWEST_PAIRS: usize = 3;

/// How a picture was made. `Display` writes the text, [`Infotext::parse`] reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Infotext {
    /// What was asked for; may have several lines.
    pub prompt: String,
    /// What was to be kept out; empty for nothing.
    pub negative_prompt: String,
    /// Sampling steps.
    pub steps: Option<u32>,
    /// The sampler's A1111 name, such as `DPM++ 2M`.
    pub sampler: Option<String>,
    /// The noise schedule's A1111 name, such as `Karras`.
    pub schedule: Option<String>,
    /// Guidance scale.
    pub cfg_scale: Option<f64>,
    /// The seed of the noise.
    pub seed: Option<u64>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// First ten hexadecimal digits of the checkpoint's SHA-256.
    pub model_hash: Option<String>,
    /// The checkpoint's name.
    pub model: Option<String>,
    /// Other pairs, in the order written; values of known keys that do not parse are here too.
    pub extra: Vec<(String, String)>,
    /// The program that made the picture.
    pub version: Option<String>,
}

impl Infotext {
    /// Reads a text by A1111's own rule, or the JSON that Fooocus writes in its place; any text has a reading, at worst
    /// as a prompt.
    ///
    /// The last line holds pairs if there are at least three on it. Of the lines before, those from
    /// the first `Negative prompt:` on are the negative prompt. Lines lose their outer blanks.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if let Some(fooocus::Told { prompt, negative_prompt, pairs }) = fooocus::read(text) {
            let mut infotext = Self { prompt, negative_prompt, ..Self::default() };
            pairs.into_iter().for_each(|(key, value)| infotext.set(key, value));
            return infotext;
        }
        let mut lines: Vec<&str> = text.trim().split('\n').collect();
        let mut found = lines.last().map(|last| pairs(last)).unwrap_or_default();
        if found.len() < FEWEST_PAIRS {
            found.clear();
        } else {
            lines.pop();
        }
        let mut infotext = Self::default();
        let mut negative = false;
        for line in lines.into_iter().map(str::trim) {
            let stripped = line.strip_prefix(NEGATIVE);
            negative |= stripped.is_some();
            let part = if negative { &mut infotext.negative_prompt } else { &mut infotext.prompt };
            if !part.is_empty() {
                part.push('\n');
            }
            part.push_str(stripped.map_or(line, str::trim));
        }
        for (key, value) in found {
            infotext.set(key, value);
        }
        infotext
    }

    /// The pairs as written, in A1111's order of keys; extra ones stand before the version.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let known = [
            ("Steps", self.steps.map(|steps| steps.to_string())),
            ("Sampler", self.sampler.clone()),
            ("Schedule type", self.schedule.clone()),
            ("CFG scale", self.cfg_scale.map(|scale| scale.to_string())),
            ("Seed", self.seed.map(|seed| seed.to_string())),
            ("Size", self.size.map(|(width, height)| format!("{width}x{height}"))),
            ("Model hash", self.model_hash.clone()),
            ("Model", self.model.clone()),
        ];
        let known = known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let version = self.version.clone().map(|version| ("Version".to_owned(), version));
        known.chain(self.extra.iter().cloned()).chain(version).collect()
    }

    /// Takes a pair by its key; one of a known key that does not parse is an extra one.
    fn set(&mut self, key: String, value: String) {
        fn put<T: FromStr>(slot: &mut Option<T>, value: &str) -> bool {
            match value.parse() {
                Ok(parsed) => {
                    *slot = Some(parsed);
                    true
                }
                Err(_) => false,
            }
        }
        let taken = match key.as_str() {
            "Steps" => put(&mut self.steps, &value),
            "Sampler" => put(&mut self.sampler, &value),
            "Schedule type" => put(&mut self.schedule, &value),
            "CFG scale" => put(&mut self.cfg_scale, &value),
            "Seed" => put(&mut self.seed, &value),
            "Size" => match value.split_once('x').map(|(w, h)| (w.parse(), h.parse())) {
                Some((Ok(width), Ok(height))) => {
                    self.size = Some((width, height));
                    true
                }
                _ => false,
            },
            "Model hash" => put(&mut self.model_hash, &value),
            "Model" => put(&mut self.model, &value),
            "Version" => put(&mut self.version, &value),
            _ => false,
        };
        if !taken {
            self.extra.push((key, value));
        }
    }
}

impl FromStr for Infotext {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for Infotext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written: Vec<String> = self
            .pairs()
            .into_iter()
            .map(|(key, value)| if key == value { key } else { format!("{key}: {}", quote(&value)) })
            .collect();
        let mut text = self.prompt.clone();
        if !self.negative_prompt.is_empty() {
            text.push_str(&format!("\n{NEGATIVE} {}", self.negative_prompt));
        }
        text.push('\n');
        text.push_str(&written.join(", "));
        f.write_str(text.trim())
    }
}

/// A value as it stands in the line: as a JSON string where it would be read as something else.
fn quote(value: &str) -> String {
    let plain =
        !value.is_empty() && !value.contains([',', '\n', ':']) && !value.starts_with('"') && value.trim() == value;
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

/// The pairs on one line, by the rule of A1111's regular expression
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, in time linear in the line.
///
/// Quoted values are unquoted; empty ones are dropped.
#[must_use]
pub fn pairs(line: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        rest = rest.trim_start();
        let in_key = |c: char| is_word(c) || matches!(c, ' ' | '-' | '/');
        let end = rest.find(|c| !in_key(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let mut letters = key.chars();
        let starts = letters.next().is_some_and(is_word);
        match after.strip_prefix(':') {
            Some(after) if starts && letters.next().is_some() => {
                let (value, after) = value(after.trim_start());
                if !value.is_empty() {
                    found.push((key.to_owned(), unquote(value)));
                }
                rest = after;
            }
            // A key may also begin inside a run that begins with a dash or slash.
            _ if !starts && end > 0 => rest = rest.trim_start_matches(['-', '/', ' ']),
            _ => rest = after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or(""),
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A value at the start of `text`, and what follows the comma after it.
fn value(text: &str) -> (&str, &str) {
    let end = quoted_end(text)
        .filter(|&end| end == text.len() || text[end..].starts_with(','))
        .unwrap_or_else(|| text.find(',').unwrap_or(text.len()));
    (&text[..end], text.get(end + 1..).unwrap_or(""))
}

/// Where a quoted, not empty string at the start of `text` ends.
fn quoted_end(text: &str) -> Option<usize> {
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (at > 0).then_some(at + 2),
            '\\' => drop(characters.next()?),
            _ => {}
        }
    }
    None
}

/// The text inside a JSON string; anything else stays as it is.
fn unquote(value: &str) -> String {
    if !(value.starts_with('"') && value.ends_with('"')) {
        return value.to_owned();
    }
    serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())
}
