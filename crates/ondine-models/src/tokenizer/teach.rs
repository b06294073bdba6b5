//! How a word is taught to a tokenizer.

use ondine_graph::Result;

use super::Tokenizer;

impl Tokenizer {
    /// How many tokens there are: the id that the next one has.
    pub(crate) fn len(&self) -> usize {
        self.cutter.len()
    }

    /// Adds a word that stands for so many new tokens, whose ids follow the last one. It is found in any case, where no
    /// letter or digit stands beside it, and behind the mark `embedding:` of other tools.
    ///
    /// # Errors
    /// If the tokens are pieces, which no word can be added to, or the library refuses them.
    pub(crate) fn teach(&mut self, word: &str, vectors: usize) -> Result<()> {
        let first = self.len();
        // Signs that no text has, so that neither the vocabulary nor another word holds a part of them.
        let names: Vec<String> = (0..vectors).map(|i| format!("\u{e000}{}\u{e001}", first + i)).collect();
        self.cutter.add(&names)?;
        self.taught.retain(|(known, _)| !known.eq_ignore_ascii_case(word));
        self.taught.push((word.to_owned(), names.join(" ")));
        self.taught.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        Ok(())
    }
}
