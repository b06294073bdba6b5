//! Prompts of any length for encoders that read a fixed number of tokens: cut into chunks, each read alone, as A1111
//! does.

use ondine_graph::Result;
use ondine_models::Tokenizer;

use super::attention::Span;

/// Tokens that an encoder reads at once, with the weight of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The ids, with the special tokens at both ends and the padding.
    pub ids: Vec<i64>,
    /// One for each id; special tokens and padding have 1.
    pub weights: Vec<f32>,
}

/// How far back a chunk may be cut so that it ends with a comma.
const BACKTRACK: usize = 20;

/// The chunks of a prompt, at least one, and the number of its tokens.
///
/// # Errors
/// If the vocabulary cannot express a text.
pub fn chunks(tokenizer: &Tokenizer, spans: &[Span]) -> Result<(Vec<Chunk>, usize)> {
    let comma = tokenizer.ids(",")?.first().copied();
    let mut filling = Filling { tokenizer, chunks: Vec::new(), tokens: Vec::new(), comma: None };
    let mut count = 0;
    for span in spans {
        match span {
            Span::Break => filling.close(),
            Span::Text(text, weight) => {
                for id in tokenizer.ids(text)? {
                    filling.add(id, *weight as f32, Some(id) == comma);
                    count += 1;
                }
            }
        }
    }
    if !filling.tokens.is_empty() || filling.chunks.is_empty() {
        filling.close();
    }
    Ok((filling.chunks, count))
}

/// A prompt as one chunk of all that the encoder can read, and the number of its tokens.
///
/// # Errors
/// As [`chunks`].
pub fn one_chunk(tokenizer: &Tokenizer, spans: &[Span]) -> Result<(Vec<Chunk>, usize)> {
    let mut filling = Filling { tokenizer, chunks: Vec::new(), tokens: Vec::new(), comma: None };
    let mut count = 0;
    for span in spans {
        let Span::Text(text, weight) = span else { continue };
        let ids = tokenizer.ids(text)?;
        count += ids.len();
        filling.tokens.extend(ids.into_iter().map(|id| (id, *weight as f32)));
    }
    filling.tokens.truncate(tokenizer.room());
    filling.close();
    Ok((filling.chunks, count))
}

struct Filling<'t> {
    tokenizer: &'t Tokenizer,
    chunks: Vec<Chunk>,
    tokens: Vec<(i64, f32)>,
    /// Where the last comma of this chunk is.
    comma: Option<usize>,
}

impl Filling<'_> {
    fn add(&mut self, id: i64, weight: f32, is_comma: bool) {
        let room = self.tokenizer.room();
        if is_comma {
            self.comma = Some(self.tokens.len());
        } else if self.tokens.len() == room
            && let Some(comma) = self.comma.filter(|comma| room - comma <= BACKTRACK)
        {
            let next = self.tokens.split_off(comma + 1);
            self.close();
            self.tokens = next;
        }
        if self.tokens.len() == room {
            self.close();
        }
        self.tokens.push((id, weight));
    }

    fn close(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let ids: Vec<i64> = tokens.iter().map(|(id, _)| *id).collect();
        let ids = self.tokenizer.framed(&ids);
        let mut weights = vec![1.0; ids.len()];
        weights.iter_mut().skip(self.tokenizer.lead()).zip(tokens).for_each(|(weight, (_, given))| *weight = given);
        self.chunks.push(Chunk { ids, weights });
        self.comma = None;
    }
}
