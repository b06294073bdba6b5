//! Weights in prompts, as A1111 reads them: `(more)`, `[less]`, `(exactly:1.3)`, `BREAK`.

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Span {
    /// A text with the weight of its tokens.
    Text(String, f64),
    /// What follows begins a chunk of its own.
    Break,
}

/// What brackets multiply weights with.
const STEP: f64 = 1.1;

/// The parts of a prompt: round brackets raise the weight by a tenth, or to the number behind a colon, square ones
/// lower it; they may stand in each other, a backslash makes them letters, and those that are not closed reach to the
/// end.
#[must_use]
pub fn spans(prompt: &str) -> Vec<Span> {
    let mut reader = Reader::default();
    let mut rest = prompt;
    while let Some(first) = rest.chars().next() {
        rest = reader.step(rest, first);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    spans: Vec<Span>,
    /// Where brackets were opened, by the number of parts before.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Reader {
    /// Reads one mark or one run of letters; yields the rest.
    fn step<'t>(&mut self, text: &'t str, first: char) -> &'t str {
        let rest = &text[first.len_utf8()..];
        match first {
            '\\' => {
                if let Some(escaped @ ('(' | ')' | '[' | ']' | '\\')) = rest.chars().next() {
                    self.add(&rest[..escaped.len_utf8()]);
                    return &rest[escaped.len_utf8()..];
                }
            }
            '(' => self.round.push(self.spans.len()),
            '[' => self.square.push(self.spans.len()),
            ')' => match self.round.pop() {
                Some(from) => self.multiply(from, STEP),
                None => self.add(")"),
            },
            ']' => match self.square.pop() {
                Some(from) => self.multiply(from, 1.0 / STEP),
                None => self.add("]"),
            },
            ':' => {
                if let Some((weight, rest)) = weight(rest)
                    && let Some(from) = self.round.pop()
                {
                    self.multiply(from, weight);
                    return rest;
                }
                self.add(":");
            }
            _ => {
                let end = text.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(text.len());
                self.letters(&text[..end]);
                return &text[end..];
            }
        }
        rest
    }

    fn add(&mut self, text: &str) {
        self.spans.push(Span::Text(text.to_owned(), 1.0));
    }

    /// A run of letters, cut at the word `BREAK`.
    fn letters(&mut self, text: &str) {
        let mut rest = text;
        while let Some((before, after)) = split_word(rest, "BREAK") {
            self.add(before.trim_end());
            self.spans.push(Span::Break);
            rest = after.trim_start();
        }
        self.add(rest);
    }

    fn multiply(&mut self, from: usize, factor: f64) {
        for span in self.spans.iter_mut().skip(from) {
            if let Span::Text(_, weight) = span {
                *weight *= factor;
            }
        }
    }

    fn finish(mut self) -> Vec<Span> {
        while let Some(from) = self.round.pop() {
            self.multiply(from, STEP);
        }
        while let Some(from) = self.square.pop() {
            self.multiply(from, 1.0 / STEP);
        }
        let mut merged: Vec<Span> = Vec::new();
        for span in self.spans {
            match (merged.last_mut(), span) {
                (Some(Span::Text(text, weight)), Span::Text(more, same)) if *weight == same => text.push_str(&more),
                (_, span) => merged.push(span),
            }
        }
        if merged.is_empty() { vec![Span::Text(String::new(), 1.0)] } else { merged }
    }
}

/// A number and a closing bracket behind it, and the rest.
fn weight(text: &str) -> Option<(f64, &str)> {
    let (number, rest) = text.split_once(')')?;
    let number = number.trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    number.parse().ok().filter(|_| plain).map(|weight: f64| (weight, rest))
}

/// The text before and behind the first place where `word` stands alone.
pub(super) fn split_word<'t>(text: &'t str, word: &str) -> Option<(&'t str, &'t str)> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).find_map(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        let alone = !before.ends_with(in_word) && !after.starts_with(in_word);
        alone.then_some((before, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, weight: f64) -> Span {
        Span::Text(text.to_owned(), weight)
    }

    #[test]
    fn brackets_weigh_what_is_in_them() {
        for (prompt, expected) in [
            ("a cat", vec![text("a cat", 1.0)]),
            ("(a)", vec![text("a", 1.1)]),
            ("[a]", vec![text("a", 1.0 / 1.1)]),
            ("(a:b:1.5)", vec![text("a:b", 1.5)]),
            ("foo (bar:1.2", vec![text("foo ", 1.0), text("bar:1.2", 1.1)]),
            (r"\(a\) b", vec![text("(a) b", 1.0)]),
            ("a: b)", vec![text("a: b)", 1.0)]),
            ("a BREAK b", vec![text("a", 1.0), Span::Break, text("b", 1.0)]),
            ("BREAKFAST", vec![text("BREAKFAST", 1.0)]),
            ("(猫: 1.5 )", vec![text("猫", 1.5)]),
            ("(a:1.2.3)", vec![text("a:1.2.3", 1.1)]),
            ("", vec![text("", 1.0)]),
        ] {
            assert_eq!(spans(prompt), expected, "{prompt}");
        }
    }
}
