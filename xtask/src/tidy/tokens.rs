//! Questions to the tokens of Rust files.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{finding::Finding, tree::File};

/// Findings where `message` says something to the tokens from some place on.
pub(super) fn find<'a>(
    files: impl Iterator<Item = &'a File>,
    message: impl Fn(&[TokenTree]) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let Ok(tokens) = &file.tokens else { continue };
        each_level(tokens, &mut |tokens| {
            if let Some(message) = message(tokens) {
                findings.push(Finding::new(&file.path, tokens[0].span().start().line, message));
            }
        });
    }
    findings
}

/// Calls `see` for every token with those that follow it between the same delimiters.
pub(super) fn each_level(stream: &TokenStream, see: &mut impl FnMut(&[TokenTree])) {
    let tokens: Vec<TokenTree> = stream.clone().into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        see(&tokens[index..]);
        if let TokenTree::Group(group) = token {
            each_level(&group.stream(), see);
        }
    }
}

/// True if token `index` is the word `text`.
pub(super) fn word(tokens: &[TokenTree], index: usize, text: &str) -> bool {
    tokens.get(index).is_some_and(|token| is_word(token, text))
}

pub(super) fn is_word(token: &TokenTree, text: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == text)
}

/// True if token `index` is the character `mark`.
pub(super) fn punct(tokens: &[TokenTree], index: usize, mark: char) -> bool {
    matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// What token `index` encloses, if it is a group between such delimiters.
pub(super) fn group(tokens: &[TokenTree], index: usize, delimiter: Delimiter) -> Option<TokenStream> {
    match tokens.get(index) {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}
