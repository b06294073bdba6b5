//! What an instruction asks for, and whether an answer follows it.

use std::collections::BTreeSet;

use ondine_graph::{Error, ErrorKind, Result, fail};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{tongue, words};

/// An instruction that a program can check.
#[derive(Debug)]
pub struct Instruction {
    id: String,
    check: Check,
}

/// How often something shall come.
#[derive(Clone, Copy, Debug)]
enum Count {
    Below(usize),
    AtLeast(usize),
}

impl Count {
    fn holds(self, count: usize) -> bool {
        match self {
            Self::Below(most) => count < most,
            Self::AtLeast(least) => count >= least,
        }
    }
}

#[derive(Debug)]
enum Check {
    Keywords(Vec<Regex>),
    Frequency(Regex, Count),
    Forbidden(Vec<Regex>),
    Letters(char, Count),
    Language(String),
    Sentences(Count),
    Paragraphs(usize),
    Words(Count),
    FirstWord { paragraphs: usize, nth: usize, word: String },
    Placeholders(usize),
    Postscript(Regex),
    Bullets(usize),
    Constrained,
    Highlights(usize),
    Sections(Regex, usize),
    Json,
    Title,
    TwoResponses,
    Repeat(String),
    End(String),
    CapitalWords(Count),
    Capitals,
    Lowercase,
    NoComma,
    Quotation,
}

/// The answers that the constrained response may have.
const OPTIONS: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];

impl Instruction {
    /// Reads an instruction by its name, with its settings.
    ///
    /// # Errors
    /// If the name is not known, or a setting is missing or means nothing.
    pub fn new(id: &str, settings: &Map<String, Value>) -> Result<Self> {
        let settings = Settings { id, settings };
        let check = match id {
            "keywords:existence" => Check::Keywords(settings.words("keywords", |word| pattern(word, true))?),
            "keywords:frequency" => Check::Frequency(
                pattern(settings.text("keyword")?.trim(), true),
                settings.count("relation", "frequency")?,
            ),
            "keywords:forbidden_words" => {
                Check::Forbidden(settings.words("forbidden_words", |word| pattern(&format!(r"\b{word}\b"), true))?)
            }
            "keywords:letter_frequency" => {
                let letter = settings.text("letter")?.to_lowercase().chars().next();
                let Some(letter) = letter else { fail!(Format, "{id}: there is no letter") };
                Check::Letters(letter, settings.count("let_relation", "let_frequency")?)
            }
            "language:response_language" => Check::Language(settings.text("language")?.to_owned()),
            "length_constraints:number_sentences" => Check::Sentences(settings.count("relation", "num_sentences")?),
            "length_constraints:number_paragraphs" => Check::Paragraphs(settings.number("num_paragraphs")?),
            "length_constraints:number_words" => Check::Words(settings.count("relation", "num_words")?),
            "length_constraints:nth_paragraph_first_word" => Check::FirstWord {
                paragraphs: settings.number("num_paragraphs")?,
                nth: settings.number("nth_paragraph")?,
                word: settings.text("first_word")?.to_lowercase(),
            },
            "detectable_content:number_placeholders" => Check::Placeholders(settings.number("num_placeholders")?),
            "detectable_content:postscript" => {
                Check::Postscript(postscript(settings.text("postscript_marker")?.trim()))
            }
            "detectable_format:number_bullet_lists" => Check::Bullets(settings.number("num_bullets")?),
            "detectable_format:constrained_response" => Check::Constrained,
            "detectable_format:number_highlighted_sections" => Check::Highlights(settings.number("num_highlights")?),
            "detectable_format:multiple_sections" => {
                let splitter = format!(r"\s?{}\s?\d+\s?", settings.text("section_spliter")?.trim());
                Check::Sections(pattern(&splitter, false), settings.number("num_sections")?)
            }
            "detectable_format:json_format" => Check::Json,
            "detectable_format:title" => Check::Title,
            "combination:two_responses" => Check::TwoResponses,
            "combination:repeat_prompt" => Check::Repeat(settings.text("prompt_to_repeat")?.trim().to_lowercase()),
            "startend:end_checker" => Check::End(settings.text("end_phrase")?.trim().to_lowercase()),
            "startend:quotation" => Check::Quotation,
            "change_case:capital_word_frequency" => {
                Check::CapitalWords(settings.count("capital_relation", "capital_frequency")?)
            }
            "change_case:english_capital" => Check::Capitals,
            "change_case:english_lowercase" => Check::Lowercase,
            "punctuation:no_comma" => Check::NoComma,
            _ => fail!(Unsupported, "the instruction {id:?} is not known here"),
        };
        Ok(Self { id: id.to_owned(), check })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True if an answer follows it.
    #[must_use]
    pub fn is_followed(&self, answer: &str) -> bool {
        match &self.check {
            Check::Keywords(all) => all.iter().all(|word| word.is_match(answer)),
            Check::Frequency(word, count) => count.holds(word.find_iter(answer).count()),
            Check::Forbidden(all) => !all.iter().any(|word| word.is_match(answer)),
            Check::Letters(letter, count) => count.holds(answer.to_lowercase().chars().filter(|c| c == letter).count()),
            Check::Language(code) => tongue::is(answer, code),
            Check::Sentences(count) => count.holds(words::sentences(answer)),
            Check::Paragraphs(count) => divided(answer) == Some(*count),
            Check::Words(count) => count.holds(words::words(answer)),
            Check::FirstWord { paragraphs, nth, word } => first_word(answer, *paragraphs, *nth, word),
            Check::Placeholders(least) => between(answer, '[', ']') >= *least,
            Check::Postscript(mark) => mark.is_match(&answer.to_lowercase()),
            Check::Bullets(count) => bullets(answer) == *count,
            Check::Constrained => OPTIONS.iter().any(|option| answer.contains(option)),
            Check::Highlights(least) => highlights(answer) >= *least,
            Check::Sections(mark, least) => mark.find_iter(answer).count() >= *least,
            Check::Json => is_json(answer),
            Check::Title => has_title(answer),
            Check::TwoResponses => two_responses(answer),
            Check::Repeat(prompt) => answer.trim().to_lowercase().starts_with(prompt),
            Check::End(phrase) => answer.trim().trim_matches('"').to_lowercase().ends_with(phrase),
            Check::CapitalWords(count) => count.holds(words::tokens(answer).filter(|word| is_upper(word)).count()),
            Check::Capitals => is_upper(answer) && tongue::is(answer, "en"),
            Check::Lowercase => is_lower(answer) && tongue::is(answer, "en"),
            Check::NoComma => !answer.contains(','),
            Check::Quotation => {
                let answer = answer.trim();
                answer.chars().count() > 1 && answer.starts_with('"') && answer.ends_with('"')
            }
        }
    }
}

/// The settings of an instruction, by name.
struct Settings<'a> {
    id: &'a str,
    settings: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    fn missing(&self, name: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{}: there is no setting {name:?}, or it is of another type", self.id))
    }

    fn text(&self, name: &str) -> Result<&'a str> {
        self.settings.get(name).and_then(Value::as_str).ok_or_else(|| self.missing(name))
    }

    fn number(&self, name: &str) -> Result<usize> {
        let number = self.settings.get(name).and_then(Value::as_f64).filter(|number| *number >= 0.0);
        number.map(|number| number as usize).ok_or_else(|| self.missing(name))
    }

    fn words(&self, name: &str, pattern: impl Fn(&str) -> Regex) -> Result<Vec<Regex>> {
        let list = self.settings.get(name).and_then(Value::as_array).ok_or_else(|| self.missing(name))?;
        let unique: BTreeSet<&str> = list.iter().filter_map(Value::as_str).collect();
        Ok(unique.into_iter().map(pattern).collect())
    }

    fn count(&self, relation: &str, number: &str) -> Result<Count> {
        let number = self.number(number)?;
        match self.text(relation)? {
            "less than" => Ok(Count::Below(number)),
            "at least" => Ok(Count::AtLeast(number)),
            other => fail!(Format, "{}: the relation {other:?} is neither `less than` nor `at least`", self.id),
        }
    }
}

/// A word as an expression, as the benchmark reads its keywords; as it is, if it is none.
fn pattern(text: &str, any_case: bool) -> Regex {
    let build = |text: &str| RegexBuilder::new(text).case_insensitive(any_case).multi_line(true).build();
    match build(text).or_else(|_| build(&regex::escape(text))) {
        Ok(pattern) => pattern,
        // An escaped text is too long to be one; nothing is found where nothing can be looked for.
        Err(_) => NEVER.clone(),
    }
}

static NEVER: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"[^\s\S]"));

/// An expression that stands in this file.
#[expect(clippy::unwrap_used, reason = "a test compiles every one")]
fn fixed(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn postscript(marker: &str) -> Regex {
    match marker {
        "P.P.S" => pattern(r"\s*p\.\s?p\.\s?s.*$", false),
        "P.S." => pattern(r"\s*p\.\s?s\..*$", false),
        other => pattern(&format!(r"\s*{}.*$", other.to_lowercase()), false),
    }
}

/// How many parts `***` divides an answer into; nothing, if one inside is empty.
fn divided(answer: &str) -> Option<usize> {
    let parts: Vec<&str> = answer.split("***").collect();
    let last = parts.len() - 1;
    let mut count = 0;
    for (at, part) in parts.iter().enumerate() {
        match part.trim().is_empty() {
            true if at == 0 || at == last => {}
            true => return None,
            false => count += 1,
        }
    }
    Some(count)
}

/// True if there are so many paragraphs, between empty lines, and one of them begins with a word.
fn first_word(answer: &str, paragraphs: usize, nth: usize, word: &str) -> bool {
    let parts: Vec<&str> = answer.split("\n\n").collect();
    let count = parts.iter().filter(|part| !part.trim().is_empty()).count();
    if count != paragraphs || nth == 0 || nth > count {
        return false;
    }
    let Some(first) = parts.get(nth - 1).and_then(|part| part.split_whitespace().next()) else { return false };
    let first = first.trim_start_matches('\'').trim_start_matches('"');
    let end = first.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(first.len());
    first.get(..end).is_some_and(|first| first.to_lowercase() == word)
}

/// How many parts of lines stand between two marks.
fn between(answer: &str, from: char, to: char) -> usize {
    let in_line = |line: &str| {
        let mut rest = line;
        let mut count = 0;
        while let Some((_, after)) = rest.split_once(from) {
            let Some((_, after)) = after.split_once(to) else { break };
            count += 1;
            rest = after;
        }
        count
    };
    answer.split('\n').map(in_line).sum()
}

fn bullets(answer: &str) -> usize {
    static STARS: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"(?m)^\s*\*[^\*].*$"));
    static DASHES: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"(?m)^\s*-.*$"));
    STARS.find_iter(answer).count() + DASHES.find_iter(answer).count()
}

fn highlights(answer: &str) -> usize {
    static ONE: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"\*[^\n\*]*\*"));
    static TWO: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"\*\*[^\n\*]*\*\*"));
    let count = |expression: &Regex| {
        let filled = |found: &regex::Match<'_>| !found.as_str().trim_matches('*').trim().is_empty();
        expression.find_iter(answer).filter(filled).count()
    };
    count(&ONE) + count(&TWO)
}

fn is_json(answer: &str) -> bool {
    let mut text = answer.trim();
    for begin in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(begin).unwrap_or(text);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text.strip_suffix("```").unwrap_or(text).trim()).is_ok()
}

fn has_title(answer: &str) -> bool {
    static TITLE: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| fixed(r"<<[^\n]+>>"));
    let filled =
        |found: regex::Match<'_>| !found.as_str().trim_start_matches('<').trim_end_matches('>').trim().is_empty();
    TITLE.find_iter(answer).any(filled)
}

fn two_responses(answer: &str) -> bool {
    let parts: Vec<&str> = answer.split("******").map(str::trim).collect();
    let inside = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
    if inside.iter().any(|part| part.is_empty()) {
        return false;
    }
    let filled: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    matches!(filled[..], [first, second] if first != second)
}

/// True if there are letters that have a case, and all are capitals.
fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// True if there are letters that have a case, and none is a capital.
fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}
