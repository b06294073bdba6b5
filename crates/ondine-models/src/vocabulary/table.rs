//! The tokens of a file with what each is for, as SentencePiece numbers it.

use ondine_graph::{Result, fail};
use tokenizers::{AddedToken, Tokenizer as Steps, models::bpe::Vocab};

use crate::config::invalid;

use super::{
    Cutter, Vocabulary,
    pieces::{self, Normal, Pieces},
    spelling::{Kind, Spellings, Writing},
};

/// The token that unknown words become.
pub(super) const UNKNOWN: i64 = 2;
/// Tokens that say something about the text.
const CONTROL: i64 = 3;
/// Words that are cut out of the text first.
const USER_DEFINED: i64 = 4;

/// The lists that all kinds have.
pub(super) struct Table {
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<i64>,
}

impl Table {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, i64)> {
        (0..).zip(&self.tokens).zip(&self.kinds).map(|((id, token), &kind)| (id, token.as_str(), kind))
    }

    pub(super) fn spellings(&self, writing: Writing, token: impl Fn(&str, Kind) -> String) -> Spellings {
        let mut spellings = Spellings::default();
        for (_, text, kind) in self.iter() {
            let kind = kind_of(kind);
            spellings.push(&token(text, kind), kind, writing);
        }
        spellings
    }

    /// Ids by token.
    pub(super) fn by_token(&self, token: impl Fn(&str, i64) -> String) -> Result<Vocab> {
        let mut ids = Vocab::with_capacity(self.tokens.len());
        for (id, text, kind) in self.iter() {
            if let Some(other) = ids.insert(token(text, kind), id) {
                fail!(Format, "tokens {other} and {id} are both {text:?}");
            }
        }
        Ok(ids)
    }

    /// Tells the steps which tokens are cut out of the text first.
    pub(super) fn add_marks(&self, steps: &mut Steps) -> Result<()> {
        let mark = |special| move |(_, text, _): (u32, &str, i64)| AddedToken::from(text, special).normalized(false);
        let controls = self.iter().filter(|(_, _, kind)| matches!(*kind, CONTROL | UNKNOWN)).map(mark(true));
        steps.add_special_tokens(controls.collect::<Vec<_>>()).map_err(invalid)?;
        let words = self.iter().filter(|(_, _, kind)| *kind == USER_DEFINED).map(mark(false));
        steps.add_tokens(words.collect::<Vec<_>>()).map_err(invalid)?;
        Ok(())
    }

    /// The vocabulary of SentencePiece that cuts texts so.
    pub(super) fn pieces(&self, normal: Normal, cutter: pieces::Cutter, takes_blanks: bool) -> Vocabulary {
        let spellings = self.spellings(Writing::Spaces, |text, _| text.to_owned());
        let spellings = spellings.with_leading_blank(normal.leading_blank);
        let marks = self.iter().filter(|(_, _, kind)| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED));
        let marks = marks.map(|(id, text, kind)| (text.to_owned(), id, kind != USER_DEFINED));
        let pieces = Pieces::new(normal, cutter, marks, takes_blanks);
        Vocabulary::new(Cutter::Pieces(Box::new(pieces)), spellings)
    }
}

pub(super) fn kind_of(kind: i64) -> Kind {
    match kind {
        UNKNOWN | CONTROL => Kind::Control,
        USER_DEFINED => Kind::Word,
        _ => Kind::Text,
    }
}
