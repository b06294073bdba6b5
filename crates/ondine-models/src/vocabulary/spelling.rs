//! What tokens spell: bytes, of which a stream makes text as soon as they are whole characters.

use ondine_graph::{Result, fail};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It spells a part of a text.
    Text,
    /// It spells a part of a text and is cut out of it before anything else.
    Word,
    /// It says something about the text, such as where it ends.
    Control,
}

/// How a vocabulary writes what its tokens spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// One printable character for each byte (GPT-2).
    Bytes,
    /// `▁` for a blank and `<0xAB>` for a byte (SentencePiece).
    Spaces,
    /// `##` before what goes on with a word, and blanks before all else (BERT).
    Pieces,
    /// As it is.
    Plain,
}

/// What stands for a blank.
pub(super) const BLANK: char = '▁';

/// The bytes of all tokens, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Spellings {
    bytes: Vec<u8>,
    /// Where the bytes of each token end, and what it is for.
    tokens: Vec<(usize, Kind)>,
    /// Where texts that are written with a blank in front begin, the blank is none of theirs.
    leading_blank: bool,
}

impl Spellings {
    /// Notes whether the first blank of a text is none of its own.
    pub(super) fn with_leading_blank(self, leading_blank: bool) -> Self {
        Self { leading_blank, ..self }
    }

    /// Adds the next token.
    pub(super) fn push(&mut self, token: &str, kind: Kind, writing: Writing) {
        match (kind, writing) {
            (Kind::Control, _) | (_, Writing::Plain) | (Kind::Word, Writing::Bytes | Writing::Pieces) => {
                self.bytes.extend(token.as_bytes());
            }
            (_, Writing::Bytes) => {
                for c in token.chars() {
                    match byte_of(c) {
                        Some(byte) => self.bytes.push(byte),
                        None => self.bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            (_, Writing::Spaces) => match named_byte(token) {
                Some(byte) => self.bytes.push(byte),
                None => self.bytes.extend(token.replace(BLANK, " ").as_bytes()),
            },
            (_, Writing::Pieces) => match token.strip_prefix("##") {
                Some(piece) => self.bytes.extend(piece.as_bytes()),
                None => self.bytes.extend(format!(" {token}").as_bytes()),
            },
        }
        self.tokens.push((self.bytes.len(), kind));
    }

    /// Adds the token `id`, and such that spell nothing before it, or says what one that is there is for.
    pub(super) fn set(&mut self, id: u32, token: &str, kind: Kind) {
        if let Some((_, own)) = self.tokens.get_mut(id as usize) {
            *own = kind;
            return;
        }
        while self.tokens.len() < id as usize {
            self.push("", Kind::Text, Writing::Plain);
        }
        self.push(token, kind, Writing::Plain);
    }

    /// The token that spells a text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        (0..u32::try_from(self.len()).ok()?).find(|&id| self.of(id).is_ok_and(|(bytes, _)| bytes == text.as_bytes()))
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// What a token spells, and what it is for.
    pub(super) fn of(&self, id: u32) -> Result<(&[u8], Kind)> {
        let index = id as usize;
        let Some(&(end, kind)) = self.tokens.get(index) else {
            fail!(Argument, "there is no token {id}; the vocabulary has {}", self.len());
        };
        let start = index.checked_sub(1).and_then(|before| self.tokens.get(before)).map_or(0, |&(end, _)| end);
        Ok((self.bytes.get(start..end).unwrap_or_default(), kind))
    }
}

/// Makes text of tokens as they come: nothing is handed out before its characters are whole.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    spellings: &'a Spellings,
    controls: bool,
    /// True as long as nothing has been spelled.
    at_start: bool,
    held: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(spellings: &'a Spellings, controls: bool) -> Self {
        Self { spellings, controls, at_start: true, held: Vec::new() }
    }

    /// The same in the middle of a text: a first blank is one of its own.
    #[must_use]
    pub fn inside(self) -> Self {
        Self { at_start: false, ..self }
    }

    /// The text that is whole after the token `id`, which may be none. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let (bytes, kind) = self.spellings.of(id)?;
        if kind == Kind::Control {
            if self.controls {
                self.held.extend(bytes);
            }
        } else {
            let drop = self.at_start && self.spellings.leading_blank;
            self.held.extend(if drop { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes });
            self.at_start = false;
        }
        Ok(self.whole(false))
    }

    /// What is left when no more tokens come.
    pub fn finish(&mut self) -> String {
        self.whole(true)
    }

    /// Takes the characters that are whole, and those that will never be.
    fn whole(&mut self, last: bool) -> String {
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let broken = match error.error_len() {
                        Some(broken) => broken,
                        None if last => rest.len(),
                        None => break,
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(broken..).unwrap_or_default();
                }
            }
        }
        self.held = rest.to_vec();
        text
    }
}

/// The byte that a character of GPT-2's alphabet stands for: printable ones for themselves, the others for those after
/// U+0100 in their order.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    let printable = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(code) {
        return u8::try_from(code).ok();
    }
    let index = code.checked_sub(0x100).and_then(|index| usize::try_from(index).ok())?;
    (0..=255_u8).filter(|&byte| !printable(byte.into())).nth(index)
}

/// The byte that a token `<0xAB>` names.
pub(super) fn named_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(tokens: &[&str], writing: Writing) -> Spellings {
        let mut spellings = Spellings::default();
        tokens.iter().for_each(|token| spellings.push(token, Kind::Text, writing));
        spellings
    }

    #[test]
    fn a_stream_holds_back_what_is_not_whole() {
        let spellings = spelled(&["<0xE7>", "<0x8C>", "<0xAB>", "▁cat", "<0xFF>"], Writing::Spaces);
        let mut decoder = Decoder::new(&spellings, false);
        let parts: Vec<_> = [0, 1, 2, 3, 0, 1, 3, 4, 0].iter().map(|&id| decoder.push(id).unwrap()).collect();
        assert_eq!(parts, ["", "", "猫", " cat", "", "", "\u{fffd} cat", "\u{fffd}", ""]);
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert!(decoder.push(5).unwrap_err().to_string().contains("there is no token 5"));
    }

    #[test]
    fn bytes_have_the_characters_of_gpt2() {
        assert_eq!(['A', 'Ġ', 'Ċ', 'ÿ', 'ł', 'Ń'].map(byte_of), [b'A', b' ', b'\n', 255, 0xa0, 0xad].map(Some));
        assert_eq!(['猫', ' ', 'ń'].map(byte_of), [None; 3]);
        assert_eq!([named_byte("<0x0A>"), named_byte("<0xA>"), named_byte("0x0A")], [Some(10), None, None]);
    }

    #[test]
    fn a_blank_that_was_put_in_front_is_taken_away_once() {
        let spellings = spelled(&["▁a", "▁"], Writing::Spaces).with_leading_blank(true);
        let text = |decoder: Decoder<'_>| [0, 0].map(|id| decoder.clone().push(id).unwrap()).concat();
        assert_eq!(text(Decoder::new(&spellings, false)), "aa");
        assert_eq!(text(Decoder::new(&spellings, false).inside()), " a a");
    }
}
