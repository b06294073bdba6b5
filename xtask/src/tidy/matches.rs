//! Rules about `match`: what is decided for every operator names every operator.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{
    finding::Finding,
    tokens::{each_level, group, is_word, punct, word},
    tree::{File, Tree},
};

/// The enum whose matches are whole.
const OPERATORS: &str = "Op";

/// A match that names no more operators than this asks whether an operator is one of them, as `if let` does, and has
/// nothing to say about a new one. One that names more decides something about all.
const MAX_PICKED: usize = 4;

/// Operators that compute nothing: every match may tell them from those that do.
const LEAVES: &[&str] = &["Const", "Input", "State", "Weight"];

/// Where every match may let operators through: rewrites look for those that they rewrite.
const REWRITES: &[&str] =
    &["/src/codes.rs", "/src/codes/", "/src/pass.rs", "/src/pass/", "/src/rewrite.rs", "/src/rewrite/"];

/// A `match` on operators has no arm for whatever comes, so that the compiler finds the places that a new one concerns.
pub(super) fn no_catch_all_on_op(tree: &Tree) -> Vec<Finding> {
    let is_rewrite = |path: &str| REWRITES.iter().any(|place| path.contains(place));
    let sources = tree.rust().filter(|file| file.path.contains("/src/") && !is_rewrite(&file.path));
    sources.flat_map(catch_alls).collect()
}

fn catch_alls(file: &File) -> Vec<Finding> {
    let mut lines = Vec::new();
    if let Ok(tokens) = &file.tokens {
        search(tokens, false, &mut lines);
    }
    let message =
        "a match on `Op` lets every other operator through; name them, so that the compiler asks about new ones";
    lines.into_iter().map(|line| Finding::new(&file.path, line, message)).collect()
}

/// Finds the lines of catch-all arms; `Self` is the enum within its implementations.
fn search(stream: &TokenStream, is_self: bool, lines: &mut Vec<usize>) {
    let tokens: Vec<TokenTree> = stream.clone().into_iter().collect();
    let mut is_self = is_self;
    let mut index = 0;
    while index < tokens.len() {
        let rest = &tokens[index..];
        if is_test_module(rest) {
            index += 5;
            continue;
        }
        if word(rest, 0, "impl") {
            is_self = is_about_operators(rest);
        } else if word(rest, 0, "match")
            && let Some(body) = rest.iter().position(is_brace)
        {
            lines.extend(group(rest, body, Delimiter::Brace).and_then(|arms| catch_all(&arms, is_self)));
        }
        if let Some(TokenTree::Group(group)) = tokens.get(index) {
            search(&group.stream(), is_self, lines);
        }
        index += 1;
    }
}

/// True of `#[cfg(test)] mod tests {`.
fn is_test_module(tokens: &[TokenTree]) -> bool {
    let attribute = group(tokens, 1, Delimiter::Bracket).filter(|_| punct(tokens, 0, '#'));
    attribute.is_some_and(|attribute| attribute.to_string().replace(' ', "") == "cfg(test)") && word(tokens, 2, "mod")
}

/// True of `impl Op {`, `impl Trait for Op {`.
fn is_about_operators(implementation: &[TokenTree]) -> bool {
    let end = implementation.iter().position(is_brace).unwrap_or(implementation.len());
    end > 0 && is_word(&implementation[end - 1], OPERATORS)
}

/// The line of the arm that takes every other operator, if the arms are about operators and there is one.
fn catch_all(arms: &TokenStream, is_self: bool) -> Option<usize> {
    let tokens: Vec<TokenTree> = arms.clone().into_iter().collect();
    let patterns = patterns(&tokens);
    let mut named = BTreeSet::new();
    for pattern in &patterns {
        each_level(&pattern.iter().cloned().collect(), &mut |tokens| {
            let is_enum = word(tokens, 0, OPERATORS) || (is_self && word(tokens, 0, "Self"));
            if is_enum
                && punct(tokens, 1, ':')
                && punct(tokens, 2, ':')
                && let Some(TokenTree::Ident(operator)) = tokens.get(3)
            {
                named.insert(operator.to_string());
            }
        });
    }
    named.retain(|operator| !LEAVES.contains(&&**operator));
    if named.len() <= MAX_PICKED {
        return None;
    }
    let all = patterns.into_iter().find(|pattern| pattern.split(|token| is_punct(token, '|')).any(takes_all))?;
    Some(all[0].span().start().line)
}

/// The patterns of the arms of a `match`, with their guards.
fn patterns(mut tokens: &[TokenTree]) -> Vec<&[TokenTree]> {
    let mut patterns = Vec::new();
    while let Some(arrow) = (0..tokens.len()).find(|&i| punct(tokens, i, '=') && punct(tokens, i + 1, '>')) {
        let pattern = &tokens[..arrow];
        // What a comma within a type or closure has cut off belongs to the arm before.
        let begin = pattern.iter().rposition(|token| is_punct(token, ',')).map_or(0, |comma| comma + 1);
        let pattern = &pattern[begin..];
        let attributes = pattern.iter().take_while(|token| is_punct(token, '#')).count() * 2;
        patterns.extend(pattern.get(attributes..).filter(|pattern| !pattern.is_empty()));
        let body = &tokens[arrow + 2..];
        tokens = match body.first() {
            Some(block) if is_brace(block) => &body[if punct(body, 1, ',') { 2 } else { 1 }..],
            _ => &body[end_of_expression(body)..],
        };
    }
    patterns
}

/// Where the expression of an arm ends: behind the comma that is no part of a turbofish.
fn end_of_expression(tokens: &[TokenTree]) -> usize {
    let mut angles = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        let after = |mark| index > 0 && punct(tokens, index - 1, mark);
        if is_punct(token, '<') && (angles > 0 || after(':')) {
            angles += 1;
        } else if is_punct(token, '>') && !after('-') && !after('=') {
            angles = angles.saturating_sub(1);
        } else if is_punct(token, ',') && angles == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// True of `_`, of a name, of `name @ _`, and of tuples of such; a guard leaves something over.
fn takes_all(pattern: &[TokenTree]) -> bool {
    if pattern.iter().any(|token| is_word(token, "if")) {
        return false;
    }
    let rest: Vec<&TokenTree> =
        pattern.iter().filter(|token| !is_word(token, "ref") && !is_word(token, "mut")).collect();
    match rest[..] {
        [TokenTree::Ident(name)] => name.to_string().starts_with(|c: char| c.is_lowercase() || c == '_'),
        [TokenTree::Ident(_), at, TokenTree::Ident(all)] => is_punct(at, '@') && all == "_",
        [TokenTree::Group(tuple)] if tuple.delimiter() == Delimiter::Parenthesis => {
            let parts: Vec<TokenTree> = tuple.stream().into_iter().collect();
            let mut parts = parts.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()).peekable();
            parts.peek().is_some() && parts.all(|part| takes_all(part) || part.iter().all(|token| is_punct(token, '.')))
        }
        _ => false,
    }
}

fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lines, *};

    fn found(code: &str) -> Vec<usize> {
        lines(no_catch_all_on_op, "crates/a/src/b.rs", code)
    }

    /// A match of which the last line is the last arm.
    fn ending(arm: &str) -> String {
        format!(
            "match op {{ Op::Add(a) | Op::Exp => g::<A, B>(a), Op::Sub => {{ 1 }} Op::Div {{ .. }} => 2,
                Op::Mul => |a, b| a,\n{arm} => 0 }}"
        )
    }

    #[test]
    fn catch_alls_are_found() {
        for arm in ["_", "other", "mut other", "ref other", "other @ _", "Op::Neg | _", "#[cold]\n_"] {
            assert_eq!(found(&ending(arm)).len(), 1, "{arm}");
        }
        assert_eq!(found(&ending("_")), [3]);
        let five = "Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Exp";
        assert_eq!(found(&format!("match (a, b) {{ (({five}), _) => 1, (_, _) => 2 }}")), [1]);
        assert_eq!(found(&format!("match (a, b) {{ (({five}), 0) => 1,\n(..) => 2 }}")), [2]);
        assert_eq!(found(&format!("m! {{ match f(|x| {{ x }}) {{ Some(({five})) => 1, _ => 2 }} }}")), [1]);
    }

    #[test]
    fn whole_matches_are_well() {
        for arm in ["Op::Neg", "Op::Neg | Op::Exp(_)", "Op::Neg { .. }", "other if other.is_map()", "NEVER"] {
            assert!(found(&ending(arm)).is_empty(), "{arm}");
        }
        let whole = "Op::A => 1, Op::B => 2, Op::C => 3, Op::D => 4, Op::E => 5";
        assert!(found("match a { Other::Op => 1, _ => Op::Add }").is_empty());
        assert!(found(&format!("fn f() {{ match a {{ A::B => match b {{ {whole} }}, _ => 3 }} }}")).is_empty());
        let inner = format!("fn f() {{ match a {{ A::B => match b {{ {whole},\n_ => 2 }}, A::C => 3 }} }}");
        assert_eq!(found(&inner), [2]);
    }

    #[test]
    fn a_few_operators_may_be_picked() {
        assert!(found("match op { Op::A | Op::B => 1, Op::C | Op::D => 2, _ => 3 }").is_empty());
        assert!(
            found("match op { Op::A(1) => 1, Op::A(2) => 2, Op::A(3) => 2, Op::A(4) => 3, Op::A(5) => 3, _ => 4 }")
                .is_empty()
        );
        assert_eq!(found("match op { Op::A | Op::B => 1, Op::C | Op::D | Op::E => 2, _ => 3 }"), [1]);
        assert!(
            found("match op { Op::A | Op::B => 1, Op::Input | Op::Weight(_) | Op::Const(_) => 2, _ => 3 }").is_empty()
        );
    }

    #[test]
    fn operators_are_themselves_in_their_implementations() {
        let function =
            "{ fn f(&self) { match self { Self::A | Self::B | Self::C | Self::D | Self::E => 1,\n_ => 2 } } }";
        assert_eq!(found(&format!("impl Op {function}")), [2]);
        assert_eq!(found(&format!("impl fmt::Display for Op {function}")), [2]);
        assert!(found(&format!("impl Other {function}")).is_empty());
        assert!(found(&format!("impl Op {{}}\nimpl Other {function}")).is_empty());
    }

    #[test]
    fn rewrites_and_tests_pick_a_few() {
        let code = ending("_");
        for path in ["crates/a/src/pass/fuse.rs", "crates/a/src/rewrite.rs", "crates/a/tests/b.rs"] {
            assert!(lines(no_catch_all_on_op, path, &code).is_empty(), "{path}");
        }
        assert!(found(&format!("#[cfg(test)]\nmod tests {{ {code} }}")).is_empty());
    }
}
