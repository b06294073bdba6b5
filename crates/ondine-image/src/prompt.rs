//! What stands in a prompt besides words: emoji, and marks that weigh, change and compose texts.

pub mod attention;
pub mod chunks;
pub mod compose;
pub mod emphasis;
pub mod schedule;

use std::{borrow::Cow, fmt::Write};

/// The text with the name of each emoji in its place, for models that read words alone: `🐈 on 🌙` is a cat on a crescent
/// moon.
#[must_use]
pub fn with_names_of_emoji(text: &str) -> Cow<'_, str> {
    /// The most characters of one emoji: families and flags are made of several.
    const LONGEST: usize = 12;
    let mut named = String::new();
    let (mut rest, mut found) = (text, false);
    while let Some(first) = rest.chars().next() {
        let ends = || rest.char_indices().skip(1).map(|(end, _)| end).chain([rest.len()]).take(LONGEST);
        // Digits are emoji only with what makes them keys.
        let may_be = !first.is_ascii() || rest[first.len_utf8()..].starts_with(['\u{fe0f}', '\u{20e3}']);
        let emoji = may_be.then(|| ends().filter_map(|end| Some((emojis::get(&rest[..end])?, end))).last()).flatten();
        let end = match emoji {
            Some((emoji, end)) => {
                found = true;
                // Between words there are spaces, also where emoji stand side by side.
                if !named.is_empty() && !named.ends_with(char::is_whitespace) {
                    named.push(' ');
                }
                named.push_str(emoji.name());
                if rest[end..].starts_with(|c: char| !c.is_whitespace() && !c.is_ascii_punctuation()) {
                    named.push(' ');
                }
                end
            }
            None => {
                named.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[end..];
    }
    if found { Cow::Owned(named) } else { Cow::Borrowed(text) }
}

/// The marks of other tools in a text, which are drawn as the letters that they are: weights in brackets, `BREAK`,
/// `AND` and names in angles. The first of each kind.
#[must_use]
pub fn marks(text: &str) -> Vec<String> {
    let mut marks: Vec<String> = Vec::new();
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut seen = [false; 4];
    let mut add = |kind: usize, mark: &str| {
        if !std::mem::replace(&mut seen[kind], true) {
            let mut short: String = mark.chars().take(30).collect();
            if short.len() < mark.len() {
                short.push('…');
            }
            marks.push(short);
        }
    };
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '(' | '[' | '<' => open.push((at, c)),
            ')' | ']' | '>' => {
                let kind = match c {
                    ')' => 0,
                    ']' => 1,
                    _ => 2,
                };
                if open.last().is_none_or(|(_, opening)| *opening != ['(', '[', '<'][kind]) {
                    continue;
                }
                let Some((start, _)) = open.pop() else { continue };
                let (mark, inner) = (&text[start..=at], &text[start + 1..at]);
                let meant = match kind {
                    0 => has_weight(inner) || inner.starts_with('(') && inner.ends_with(')'),
                    1 => !inner.trim().is_empty(),
                    _ => inner.split_once(':').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphabetic())),
                };
                if meant {
                    add(kind, mark);
                }
            }
            _ => {}
        }
    }
    for word in text.split_whitespace().map(|word| word.trim_matches(',')) {
        if matches!(word, "BREAK" | "AND") {
            add(3, word);
        }
    }
    marks
}

/// True for `a cat:1.3`.
fn has_weight(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, weight)| weight.trim().parse::<f32>().is_ok())
}

/// What a person is told about [`marks`], if there are any.
#[must_use]
pub fn about_marks(text: &str) -> Option<String> {
    let marks = marks(text);
    let (first, others) = marks.split_first()?;
    let mut line = format!("`{first}`");
    for mark in others {
        // Writing to a string cannot fail.
        let _ = write!(line, ", `{mark}`");
    }
    Some(format!("{line} in the prompt: this model reads such marks as plain letters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_become_their_names() {
        for (text, named) in [
            ("a cat", "a cat"),
            ("🐈", "cat"),
            ("😀🐈", "grinning face cat"),
            ("a 🐈, on 🌙!", "a cat, on crescent moon!"),
            ("red❤️heart", "red red heart heart"),
            ("❤", "red heart"),
            ("1 and 1️⃣", "1 and keycap: 1"),
            ("🇯🇵", "flag: Japan"),
            ("👩‍🚀 x", "woman astronaut x"),
            ("©2024 猫", "copyright 2024 猫"),
            ("", ""),
        ] {
            assert_eq!(with_names_of_emoji(text), named, "{text}");
        }
    }

    #[test]
    fn marks_of_other_tools_are_found() {
        for (text, found) in [
            ("a cat (smiling), 1:1", ""),
            (r"a cat \(x:1.3\)", ""),
            ("a < b > c, :), [], (:", ""),
            ("(x:1.3) (y:2)", "(x:1.3)"),
            ("((very)) red", "((very))"),
            ("a [cat] [dog|fox]", "[cat]"),
            ("[a:b:0.5]", "[a:b:0.5]"),
            ("cat BREAK dog", "BREAK"),
            ("cat, AND, dog", "AND"),
            ("<lora:x:1>, <hypernet:y:1>", "<lora:x:1>"),
            ("BREAK (a [b] c:1.1) <lora:x>", "[b] (a [b] c:1.1) <lora:x> BREAK"),
            ("))][[(((", ""),
        ] {
            assert_eq!(marks(text).join(" "), found, "{text}");
            assert_eq!(about_marks(text).is_some(), !found.is_empty());
        }
        assert_eq!(marks(&format!("[{}]", "x".repeat(99)))[0].chars().count(), 31);
    }
}
