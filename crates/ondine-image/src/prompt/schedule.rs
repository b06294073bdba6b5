//! Prompts that change while a picture is drawn, as A1111 reads them: `[from:to:0.5]`, `[this|that]`.

/// A prompt, its parts that change told apart.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    /// One text before a step and another from it on.
    Change {
        before: Vec<Node>,
        after: Vec<Node>,
        when: When,
    },
    /// One text after the other, a step each.
    Turns(Vec<Vec<Node>>),
}

/// When a text changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// Behind a share of all steps, which is written with a dot.
    Share(f64),
    /// Behind so many steps.
    Steps(f64),
}

impl When {
    fn parse(text: &str) -> Option<Self> {
        let number: f64 = text.trim().parse().ok().filter(|number: &f64| number.is_finite())?;
        Some(if text.contains('.') { Self::Share(number) } else { Self::Steps(number) })
    }

    /// How many of `steps` come before the change.
    fn of(self, steps: usize) -> usize {
        let before = match self {
            Self::Share(share) => share * steps as f64,
            Self::Steps(before) => before,
        };
        before.max(0.0) as usize
    }
}

/// The texts of a run of `steps` steps: each with the number of the step before which it ends, the last with `steps`.
#[must_use]
pub fn texts(prompt: &str, steps: usize) -> Vec<(usize, String)> {
    let nodes = parse(prompt, 0);
    let mut texts: Vec<(usize, String)> = Vec::new();
    for step in 0..steps.max(1) {
        let text = at(&nodes, step, steps);
        match texts.last_mut() {
            Some((end, last)) if *last == text => *end = step + 1,
            _ => texts.push((step + 1, text)),
        }
    }
    texts
}

/// The deepest nesting; what is deeper is read as letters.
const MAX_DEPTH: usize = 32;

fn parse(text: &str, depth: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside = if first == '[' && depth < MAX_DEPTH { enclosed(rest) } else { None };
        if let Some((inside, after)) = inside
            && let Some(node) = changing(inside, depth)
        {
            if !plain.is_empty() {
                nodes.push(Node::Text(std::mem::take(&mut plain)));
            }
            nodes.push(node);
            rest = after;
            continue;
        }
        let mut len = first.len_utf8();
        if first == '\\' {
            len += rest[1..].chars().next().map_or(0, char::len_utf8);
        }
        plain.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    if !plain.is_empty() {
        nodes.push(Node::Text(plain));
    }
    nodes
}

/// What stands in the brackets that a text begins with, and the rest.
fn enclosed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[1..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// Cuts a text where `mark` stands outside all brackets.
fn split(text: &str, mark: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts, mut escaped) = (0_usize, 0, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            c if c == mark && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// What the text in brackets means, if it changes; brackets of another kind lower weights.
fn changing(inside: &str, depth: usize) -> Option<Node> {
    let turns = split(inside, '|');
    if turns.len() > 1 {
        return Some(Node::Turns(turns.into_iter().map(|part| parse(part, depth + 1)).collect()));
    }
    let parts = split(inside, ':');
    let (when, texts) = parts.split_last()?;
    let when = When::parse(when)?;
    let (before, after) = match texts {
        [after] => ("", *after),
        [before, after] => (*before, *after),
        _ => return None,
    };
    Some(Node::Change { before: parse(before, depth + 1), after: parse(after, depth + 1), when })
}

/// The text of a step, counted from 0.
fn at(nodes: &[Node], step: usize, steps: usize) -> String {
    let mut text = String::new();
    for node in nodes {
        match node {
            Node::Text(plain) => text.push_str(plain),
            Node::Change { before, after, when } => {
                text.push_str(&at(if step >= when.of(steps) { after } else { before }, step, steps));
            }
            Node::Turns(turns) => text.push_str(&at(&turns[step % turns.len()], step, steps)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_change_at_their_steps() {
        let of = |prompt: &str| {
            texts(prompt, 10).into_iter().map(|(end, text)| format!("{end} {text}")).collect::<Vec<_>>().join("; ")
        };
        // As A1111's own examples have them.
        for (prompt, expected) in [
            ("test", "10 test"),
            ("a [b:3]", "3 a ; 10 a b"),
            ("a [b: 3]", "3 a ; 10 a b"),
            ("a [[[b]]:2]", "2 a ; 10 a [[b]]"),
            ("[(a:2):3]", "3 ; 10 (a:2)"),
            ("a [b : c : 1] d", "1 a b  d; 10 a  c  d"),
            ("a[b:[c:d:2]:1]e", "1 abe; 2 ace; 10 ade"),
            ("a [unbalanced", "10 a [unbalanced"),
            ("a [b:.5] c", "5 a  c; 10 a b c"),
            ("[a:b:1.0]", "10 a"),
            ("[a:b:0]", "10 b"),
            ("[a:b:1]", "1 a; 10 b"),
            (
                "a [{b|d{:.5] c",
                "1 a {b c; 2 a d{:.5 c; 3 a {b c; 4 a d{:.5 c; 5 a {b c; 6 a d{:.5 c; 7 a {b c; 8 a d{:.5 c; 9 a {b c; 10 a d{:.5 c",
            ),
            ("((a][:b:c [d:3]", "3 ((a][:b:c ; 10 ((a][:b:c d"),
            ("[a|(b:1.1)]", "1 a; 2 (b:1.1); 3 a; 4 (b:1.1); 5 a; 6 (b:1.1); 7 a; 8 (b:1.1); 9 a; 10 (b:1.1)"),
            ("[fe|]male", "1 female; 2 male; 3 female; 4 male; 5 female; 6 male; 7 female; 8 male; 9 female; 10 male"),
            ("[a::5]", "5 a; 10 "),
            ("[less]", "10 [less]"),
        ] {
            assert_eq!(of(prompt), expected, "{prompt}");
        }
        assert_eq!(texts(&"[".repeat(1000), 2).len(), 1);
    }
}
