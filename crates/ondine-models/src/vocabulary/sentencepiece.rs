//! The files of SentencePiece: a protocol buffer, of which what cutting needs is read.

use ondine_graph::{Bytes, Context, Result, fail};
use tokenizers::models::unigram::Unigram;

use crate::config::invalid;

use super::{
    Vocabulary,
    characters::Characters,
    pieces::{Cutter, Normal, Scores},
    spelling::named_byte,
    table::Table,
};

/// How pieces were learned.
const UNIGRAM: u64 = 1;
const PAIRS: u64 = 2;

impl Vocabulary {
    /// The vocabulary in the bytes of a file of SentencePiece; `name` stands for it in messages.
    ///
    /// Texts neither begin nor end with a token of their own, as with SentencePiece itself.
    ///
    /// # Errors
    /// If it is broken, or was learned in another way than by pairs or likelihood.
    pub fn from_sentencepiece(name: &str, bytes: &Bytes) -> Result<Self> {
        read(bytes).at(|| name)
    }
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        fail!(Format, "no file of SentencePiece, or not a whole one: a number does not end")
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        match usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len)) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => fail!(Format, "no file of SentencePiece, or not a whole one: {len} bytes are missing at its end"),
        }
    }

    /// The next field and its number.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Eight
            }
            2 => {
                let len = self.number()?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                let mut four = [0; 4];
                four.copy_from_slice(self.take(4)?);
                Field::Four(four)
            }
            kind => fail!(Format, "no file of SentencePiece: a field of kind {kind}"),
        };
        Ok(Some((tag >> 3, field)))
    }
}

/// What is read of a file.
struct Model {
    table: Table,
    scores: Vec<f32>,
    kind: u64,
    begin: Option<u32>,
    end: Option<u32>,
    characters: Vec<u8>,
    normal: Normal,
    blanks_behind: bool,
}

fn read(bytes: &[u8]) -> Result<Vocabulary> {
    let mut model = Model {
        table: Table { tokens: Vec::new(), kinds: Vec::new() },
        scores: Vec::new(),
        kind: UNIGRAM,
        begin: Some(1),
        end: Some(2),
        characters: Vec::new(),
        normal: Normal { characters: None, single_blanks: true, leading_blank: true },
        blanks_behind: false,
    };
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Bytes(piece)) => model.piece(piece)?,
            (2, Field::Bytes(trainer)) => model.trainer(trainer)?,
            (3, Field::Bytes(normalizer)) => model.normalizer(normalizer)?,
            _ => {}
        }
    }
    model.vocabulary()
}

impl Model {
    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut text, mut score, mut kind) = (None, 0.0, 1);
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(bytes)) => text = std::str::from_utf8(bytes).ok(),
                (2, Field::Four(bytes)) => score = f32::from_le_bytes(bytes),
                (3, Field::Number(number)) => kind = i64::try_from(number).unwrap_or_default(),
                _ => {}
            }
        }
        let id = self.table.tokens.len();
        let Some(text) = text.filter(|_| f32::is_finite(score)) else {
            fail!(Format, "piece {id} has no text in UTF-8, or no score")
        };
        self.table.tokens.push(text.to_owned());
        self.table.kinds.push(kind);
        self.scores.push(score);
        Ok(())
    }

    fn trainer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut fields = Fields(bytes);
        // Numbers below zero mean that there is no such token.
        let id = |number: u64| i64::from_ne_bytes(number.to_ne_bytes()).try_into().ok();
        while let Some(field) = fields.next()? {
            match field {
                (3, Field::Number(kind)) => self.kind = kind,
                (24, Field::Number(behind)) => self.blanks_behind = behind != 0,
                (41, Field::Number(number)) => self.begin = id(number),
                (42, Field::Number(number)) => self.end = id(number),
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (2, Field::Bytes(bytes)) => self.characters = bytes.to_vec(),
                (3, Field::Number(on)) => self.normal.leading_blank = on != 0,
                (4, Field::Number(on)) => self.normal.single_blanks = on != 0,
                (5, Field::Number(0)) => fail!(Unsupported, "its pieces are written with blanks as they are"),
                _ => {}
            }
        }
        Ok(())
    }

    fn vocabulary(self) -> Result<Vocabulary> {
        let Self { table, scores, .. } = self;
        if table.tokens.is_empty() {
            fail!(Format, "no file of SentencePiece: there are no pieces");
        }
        if self.blanks_behind {
            fail!(Unsupported, "its pieces have their blanks behind them");
        }
        let unknown = table.kinds.iter().position(|kind| *kind == super::table::UNKNOWN);
        let cutter = match self.kind {
            PAIRS => {
                let unknown = unknown.and_then(|id| u32::try_from(id).ok());
                Cutter::Scores(Scores::new(table.tokens.iter().cloned().zip(scores), unknown))
            }
            UNIGRAM => {
                let bytes = table.tokens.iter().filter(|token| named_byte(token).is_some()).count() == 256;
                let vocab = table.tokens.iter().cloned().zip(scores.into_iter().map(f64::from)).collect();
                Cutter::Likeliest(Box::new(Unigram::from(vocab, unknown, bytes).map_err(invalid)?))
            }
            kind => fail!(Unsupported, "its pieces were learned in way {kind}; read are 1 (unigram) and 2 (BPE)"),
        };
        let normal = Normal { characters: Characters::read(&self.characters)?, ..self.normal };
        let mut vocabulary = table.pieces(normal, cutter, false);
        let known = |id: &u32| (*id as usize) < table.tokens.len();
        vocabulary.begin = self.begin.filter(known);
        vocabulary.end = self.end.filter(known);
        vocabulary.ends.extend(vocabulary.end);
        Ok(vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_file_is_refused() {
        for bytes in [&[][..], &[0x0a, 0xff], &[0xff; 12], &[0x0a, 2, 0x0a, 1], &[0x0b], &[0x0a, 3, 0x0a, 1, 0xff]] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
