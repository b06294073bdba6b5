//! Texts behind an instruction, for denoisers that were trained with what a language model makes of these.

use ondine_graph::Result;

use super::{Cutter, Tokenizer};
use crate::{
    vocabulary::{Controls, Vocabulary},
    weights::Source,
};

impl Tokenizer {
    /// Reads the vocabulary of a language model in `folder`. Texts are read in small letters, behind the first token of
    /// all texts, if they have one, and `instruction`; at most `tokens` tokens are kept, the first and the last of
    /// these among them.
    ///
    /// # Errors
    /// If files are missing or broken.
    pub fn open_instructed(source: &Source, folder: &str, instruction: &'static str, tokens: usize) -> Result<Self> {
        let vocabulary = Vocabulary::open(source, folder)?;
        let start = vocabulary.encode_whole("", Controls::Meant)?.first().copied();
        let count = vocabulary.encode(instruction, Controls::Meant)?.len() + usize::from(start.is_some());
        let most = (count + tokens).saturating_sub(2);
        let whole = Self::of(Cutter::Pieces(Box::new(vocabulary)), 0, most);
        Ok(Self { start, written: Some([instruction, ""]), instruction: count, ..whole })
    }

    /// True if it writes an instruction before texts.
    #[must_use]
    pub fn instructs(&self) -> bool {
        self.instruction > 0
    }

    /// Of so many tokens with the instruction those that the text is: the first, and those from
    /// [`Tokenizer::resumes`] on.
    #[must_use]
    pub fn kept(&self, tokens: usize) -> usize {
        match self.instruction.checked_sub(2) {
            Some(left_out) => tokens.saturating_sub(left_out).max(1),
            None => tokens,
        }
    }

    /// The first token that is kept behind the first of all.
    #[must_use]
    pub fn resumes(&self) -> usize {
        self.instruction.saturating_sub(1).max(1)
    }
}
