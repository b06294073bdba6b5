//! A smaller model that guesses what a larger one will say.

use ondine_graph::{Result, fail};

use crate::{
    draft::Drafter,
    model::Model,
    session::{Options, Session},
};

/// Guesses what a smaller model would say (Leviathan et al. 2023).
#[derive(Debug)]
pub struct DraftModel {
    session: Session,
}

impl DraftModel {
    /// Lets `small` guess for `model`.
    ///
    /// # Errors
    /// If their tokens are not the same.
    pub fn new(small: &Model, model: &Model) -> Result<Self> {
        let (guessed, wanted) = (small.vocabulary(), model.vocabulary());
        let count = guessed.len().min(wanted.len());
        let ids = 0..u32::try_from(count).unwrap_or(u32::MAX);
        let other = ids.into_iter().find(|&id| guessed.spelled(id).ok() != wanted.spelled(id).ok());
        if let Some(id) = other {
            fail!(Argument, "{} cannot guess for {}: token {id} is another one", small.name(), model.name());
        }
        Ok(Self { session: Session::new(small)? })
    }
}

impl Drafter for DraftModel {
    fn draft(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        if tokens.is_empty() || tokens.len() >= self.session.model().context() {
            return Ok(Vec::new());
        }
        let options = Options { max_tokens: Some(most), ignore_end: true, continues: true, ..Options::default() };
        Ok(self.session.answer(tokens, &options, &mut |_| {})?.tokens)
    }
}
