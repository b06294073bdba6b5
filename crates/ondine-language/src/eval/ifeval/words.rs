//! Where sentences and words end, near to what the checkers of the benchmark take from NLTK.

use std::{iter, sync::LazyLock};

use regex::Regex;

/// Runs of letters, digits and `_`.
pub(super) fn words(text: &str) -> usize {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !in_word(c)).filter(|word| !word.is_empty()).count()
}

/// Words that end with a full stop which ends no sentence, as they are written without it.
const SHORT: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "gen", "maj", "col", "lt", "adm", "rep", "sen", "messrs", "inc",
    "ltd", "co", "corp", "bros", "vs", "jan", "feb", "aug", "sep", "sept", "oct", "nov", "dec", "tues", "wed", "fri",
    "ave", "ft", "yr", "a.m", "p.m", "u.s", "u.s.a", "u.k", "u.n", "d.c", "n.y", "l.a", "ph.d", "m.b.a", "a.d",
    "calif", "mich", "minn", "wash", "pa", "va",
];

/// How many sentences a text has by the rules of Punkt (Kiss and Strunk 2006), with a short list of abbreviations in
/// place of learned ones.
pub(super) fn sentences(text: &str) -> usize {
    let mut words = text.split_whitespace().peekable();
    let mut count = 0;
    while let Some(word) = words.next() {
        match words.peek() {
            Some(next) if !ends_sentence(word, next) => {}
            _ => count += 1,
        }
    }
    count
}

/// True if a sentence ends between two words.
fn ends_sentence(word: &str, next: &str) -> bool {
    let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '*', '_']);
    if bare.ends_with(['?', '!']) {
        return true;
    }
    let Some(stem) = bare.strip_suffix('.') else { return false };
    let begins = next.trim_start_matches(|c: char| !c.is_alphanumeric()).chars().next();
    let capital = begins.is_some_and(char::is_uppercase);
    if stem.ends_with('.') {
        return capital;
    }
    let stem = stem.trim_start_matches(|c: char| !c.is_alphanumeric());
    let initial = stem.chars().count() == 1 && stem.chars().all(char::is_alphabetic);
    let number = !stem.is_empty() && stem.chars().all(|c| c.is_ascii_digit());
    if initial || SHORT.contains(&stem.to_lowercase().as_str()) {
        return false;
    }
    !number || capital
}

/// The words and marks of a text, as the Penn Treebank cuts them: marks stand alone, and so do contractions.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(marks).flat_map(contractions)
}

/// Cuts off the marks that never belong to a word.
fn marks(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = match is_mark(rest, first) {
            true => first.len_utf8(),
            false => rest.char_indices().find(|&(at, c)| is_mark(&rest[at..], c)).map_or(rest.len(), |(at, _)| at),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

fn is_mark(rest: &str, c: char) -> bool {
    match c {
        ';' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '“'
        | '”' | '«' | '»' | '…' => true,
        ',' | ':' => !rest[c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit()),
        '-' => rest.starts_with("--"),
        _ => false,
    }
}

fn contractions(word: &str) -> impl Iterator<Item = &str> {
    static TWO: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:(can)(not)|(d)('ye)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(more)('n)|(wan)(na)|(.+)(n't)|(.+)('(?:ll|re|ve|s|m|d)))$").ok()
    });
    let parts = TWO.as_ref().and_then(|two| two.captures(word)).map(|found| {
        let parts: Vec<&str> = found.iter().skip(1).flatten().map(|part| part.as_str()).collect();
        parts
    });
    parts.unwrap_or_else(|| vec![word]).into_iter()
}
