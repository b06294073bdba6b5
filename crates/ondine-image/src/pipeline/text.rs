//! How what several encoders make of a text becomes what a denoiser takes.

use ondine_graph::{DType, Graph, NDArray, Result, fail};
use ondine_models::{HiddenStates, Network, Source, TextLayout, Tokenizer};

use super::conditioning::{Conditioning, takes};

/// The most text encoders of a model.
pub(super) const ENCODERS: usize = 3;

/// A text encoder with what cuts its texts.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Its place among [`ENCODERS`].
    pub(super) place: usize,
    pub(super) tokenizer: Tokenizer,
    pub(super) network: Network,
}

/// The tokens that the encoder in this place reads, if the denoiser says.
pub(super) fn limit(layout: TextLayout, place: usize) -> Option<usize> {
    match layout {
        TextLayout::Joined { tokens } if place == 2 => Some(tokens),
        TextLayout::Last { tokens } if place == 1 => Some(tokens),
        TextLayout::Chat { tokens, .. } | TextLayout::Instructed { tokens, .. } => Some(tokens),
        TextLayout::SideBySide | TextLayout::Joined { .. } | TextLayout::Last { .. } => None,
    }
}

/// The tokenizer in a folder for an encoder that reads so many tokens, which writes what the denoiser was trained with
/// around a text.
pub(super) fn tokenizer(layout: TextLayout, source: &Source, folder: &str, most: usize) -> Result<Tokenizer> {
    match layout {
        TextLayout::Chat { around, .. } => Tokenizer::open_chat(source, folder, around, most),
        TextLayout::Instructed { instruction, .. } => Tokenizer::open_instructed(source, folder, instruction, most),
        TextLayout::SideBySide | TextLayout::Joined { .. } | TextLayout::Last { .. } => {
            Tokenizer::open(source, folder, most)
        }
    }
}

/// The states of a language model that the denoiser takes, if it takes some.
pub(super) fn states(layout: TextLayout) -> Option<HiddenStates> {
    match layout {
        TextLayout::Chat { states, .. } | TextLayout::Instructed { states, .. } => Some(states),
        TextLayout::SideBySide | TextLayout::Joined { .. } | TextLayout::Last { .. } => None,
    }
}

/// What the denoiser wants to know of the prompt, read off its inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    layout: TextLayout,
    /// Takes `text_embeds`, as SDXL does: then the states before the last layer are the prompt's, and the pooled,
    /// projected vector goes along (Podell et al. 2023).
    text_embeds: bool,
    /// Takes `class_labels`: the sentence embedding.
    pub(super) class_labels: bool,
    /// Takes which tokens are no padding.
    masked: bool,
    /// Width of the states that it takes.
    width: usize,
    /// Width of the vector of the whole text that it takes, if it takes `pooled_projections`.
    pooled: usize,
}

/// The outputs of an encoder that are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// The states of the tokens.
    pub(super) states: Option<&'static str>,
    /// The vector of the whole text.
    pub(super) pooled: Option<&'static str>,
}

/// What encoders made of one text, by their place in the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// `[1, tokens, width]`
    pub(super) states: [Option<NDArray>; ENCODERS],
    /// `[1, width]`
    pub(super) pooled: [Option<NDArray>; ENCODERS],
    /// Which tokens are no padding, if the encoder says.
    pub(super) mask: Option<Vec<i64>>,
}

/// The last dimension of an input, if there is such an input.
pub(super) fn input_width(graph: &Graph, wanted: &str) -> Option<usize> {
    let (_, value) = graph.inputs().iter().find(|(name, _)| &**name == wanted)?;
    graph.shape(*value).0.last()?.fixed()
}

/// The last dimension of an output, if there is such an output.
pub(super) fn output_width(graph: &Graph, wanted: &str) -> Option<usize> {
    let (_, value) = graph.outputs().iter().find(|(name, _)| &**name == wanted)?;
    graph.shape(*value).0.get(1..)?.last()?.fixed()
}

impl Wants {
    pub(super) fn of(denoiser: &Graph, layout: TextLayout) -> Self {
        Self {
            layout,
            text_embeds: takes(denoiser, "text_embeds"),
            class_labels: takes(denoiser, "class_labels"),
            masked: takes(denoiser, "encoder_attention_mask"),
            width: input_width(denoiser, "encoder_hidden_states").unwrap_or(0),
            pooled: input_width(denoiser, "pooled_projections").unwrap_or(0),
        }
    }

    /// True if the denoiser is told which tokens are no padding.
    pub(super) fn masked(&self) -> bool {
        self.masked
    }

    /// True if texts are filled up to all that an encoder reads, and the filling is part of them.
    pub(super) fn padded(&self) -> bool {
        matches!(self.layout, TextLayout::Chat { padded: true, .. })
    }

    /// What is read of the encoder in this place.
    pub(super) fn of_encoder(&self, place: usize, encoder: &Graph) -> Reads {
        let yields = |name: &'static str| output_width(encoder, name).map(|_| name);
        let last = yields("last_hidden_state");
        match self.layout {
            TextLayout::SideBySide if self.text_embeds => {
                Reads { states: yields("penultimate"), pooled: yields("text_embeds") }
            }
            TextLayout::SideBySide => {
                let pooled = if self.class_labels { yields("sentence_embedding") } else { None };
                Reads { states: last, pooled }
            }
            TextLayout::Joined { .. } if place < 2 => {
                Reads { states: yields("penultimate"), pooled: yields("text_embeds") }
            }
            TextLayout::Last { .. } if place == 0 => Reads { states: None, pooled: yields("pooler_output") },
            TextLayout::Joined { .. }
            | TextLayout::Last { .. }
            | TextLayout::Chat { .. }
            | TextLayout::Instructed { .. } => Reads { states: last, pooled: None },
        }
    }

    /// Tokens of the states of a text of so many pieces, of encoders that read so many tokens each.
    pub(super) fn tokens(&self, encoders: impl Iterator<Item = (usize, usize)>, pieces: usize) -> usize {
        let most = |first: bool| move |(place, _): &(usize, usize)| (*place < 2) == first;
        let read: Vec<_> = encoders.collect();
        let largest = |first: bool| read.iter().copied().filter(most(first)).map(|(_, tokens)| tokens).max();
        match self.layout {
            TextLayout::SideBySide => read.iter().map(|(_, tokens)| *tokens).max().unwrap_or(1) * pieces,
            TextLayout::Joined { tokens } => largest(true).unwrap_or(1) * pieces + tokens,
            TextLayout::Last { tokens } | TextLayout::Chat { tokens, padded: true, .. } => tokens,
            TextLayout::Chat { .. } | TextLayout::Instructed { .. } => {
                read.iter().map(|(_, tokens)| *tokens).max().unwrap_or(1)
            }
        }
    }

    /// Refuses encoders, by their places, whose results are not what the denoiser takes.
    pub(super) fn check(&self, encoders: &[(usize, Graph)]) -> Result<()> {
        let (wanted, pooled) = (self.width, self.pooled);
        let width = |place: usize, name: fn(&Reads) -> Option<&'static str>| {
            let (_, graph) = encoders.iter().find(|(of, _)| *of == place)?;
            output_width(graph, name(&self.of_encoder(place, graph))?)
        };
        let states = |place| width(place, |reads| reads.states);
        let vector = |place| width(place, |reads| reads.pooled);
        let missing = |place: usize| !encoders.iter().any(|(of, _)| *of == place);
        match self.layout {
            TextLayout::SideBySide => Ok(()),
            TextLayout::Chat { .. } | TextLayout::Instructed { .. } => match encoders {
                [] => fail!(Missing, "the model has no text encoder; give one with --text-encoder PATH"),
                [(place, _)] if states(*place) == Some(wanted) => Ok(()),
                [(place, _)] => {
                    let given = states(*place).unwrap_or(0);
                    fail!(
                        Unsupported,
                        "the transformer takes text of width {wanted}, the states of the text encoder are {given} wide"
                    )
                }
                several => {
                    let count = several.len();
                    fail!(Unsupported, "the transformer takes the text of one language model, the model has {count}")
                }
            },
            TextLayout::Joined { .. } => {
                if encoders.is_empty() {
                    fail!(Missing, "the model has no text encoder; give one with --text-encoder PATH");
                }
                for place in (0..2).filter(|place| !missing(*place)) {
                    if states(place).is_none() || vector(place).is_none() {
                        fail!(Unsupported, "the text encoder {} yields no vector of the whole text", place + 1);
                    }
                }
                let clip: usize = (0..2).filter_map(states).sum();
                let vectors: usize = (0..2).filter_map(vector).sum();
                let whole = !missing(0) && !missing(1);
                if clip > wanted || vectors > pooled || whole && vectors != pooled {
                    fail!(
                        Unsupported,
                        "the transformer takes text of width {wanted} and vectors of {pooled}, the encoders of CLIP \
                         yield {clip} and {vectors} together"
                    );
                }
                match states(2) {
                    Some(third) if third != wanted => {
                        fail!(
                            Unsupported,
                            "the transformer takes text of width {wanted}, the third encoder yields {third}"
                        )
                    }
                    _ => Ok(()),
                }
            }
            TextLayout::Last { .. } => {
                if let Some(place) = (0..2).find(|place| missing(*place)) {
                    let suffix = if place == 0 { "" } else { "-2" };
                    fail!(
                        Missing,
                        "the model has no text encoder {}; give it with --text-encoder{suffix} PATH",
                        place + 1
                    );
                }
                let (given, vectors) = (states(1).unwrap_or(0), vector(0).unwrap_or(0));
                if (given, vectors) != (wanted, pooled) {
                    fail!(
                        Unsupported,
                        "the transformer takes text of width {wanted} and vectors of {pooled}, the text encoders yield \
                         {given} and {vectors}"
                    );
                }
                Ok(())
            }
        }
    }

    /// The text as the denoiser takes it.
    pub(super) fn assembled(&self, row: Row) -> Result<Conditioning> {
        let Row { states, pooled, mask } = row;
        let [first, second, third] = states;
        match self.layout {
            TextLayout::SideBySide => {
                let hidden = match (first, second) {
                    (Some(a), Some(b)) => Some(side_by_side(&a, &b)?),
                    (a, b) => a.or(b),
                };
                let pooled = pooled.into_iter().flatten().next_back();
                Ok(Conditioning { hidden, mask, pooled })
            }
            TextLayout::Last { .. } | TextLayout::Chat { .. } | TextLayout::Instructed { .. } => {
                let hidden = [first, second, third].into_iter().flatten().next_back();
                Ok(Conditioning { hidden, mask, pooled: pooled.into_iter().flatten().next() })
            }
            TextLayout::Joined { tokens } => {
                let [a, b, _] = pooled;
                let left = |given: &Option<NDArray>| self.pooled - given.as_ref().map_or(0, NDArray::len);
                let (a_width, b_width) = (left(&b), left(&a));
                let zeros = |shape: &[usize]| NDArray::zeros(DType::F32, shape);
                let pooled = match (a, b) {
                    (None, None) => zeros(&[1, self.pooled])?,
                    (a, b) => {
                        let (a, b) =
                            (a.map_or_else(|| zeros(&[1, a_width]), Ok)?, b.map_or_else(|| zeros(&[1, b_width]), Ok)?);
                        NDArray::new(&[1, self.pooled], &[a.view::<f32>()?, b.view::<f32>()?].concat())?
                    }
                };
                let both = match (first, second) {
                    (Some(a), Some(b)) => Some(side_by_side(&a, &b)?),
                    (Some(a), None) => Some(a),
                    // A network is as wide as its projected vector.
                    (None, Some(b)) => Some(side_by_side(&zeros(&[1, b.shape()[1], a_width])?, &b)?),
                    (None, None) => None,
                };
                let mut all = Vec::new();
                for row in both.iter().map(|both| rows(both)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
                    all.extend_from_slice(row);
                    all.resize(all.len() + self.width.saturating_sub(row.len()), 0.0);
                }
                match third {
                    Some(third) => all.extend_from_slice(third.view::<f32>()?),
                    None => all.resize(all.len() + tokens * self.width, 0.0),
                }
                let count = all.len() / self.width.max(1);
                Ok(Conditioning {
                    hidden: Some(NDArray::new(&[1, count, self.width], &all)?),
                    mask,
                    pooled: Some(pooled),
                })
            }
        }
    }
}

/// The rows of states `[1, tokens, width]`.
fn rows(states: &NDArray) -> Result<impl Iterator<Item = &[f32]>> {
    let width = states.shape().last().copied().unwrap_or(1);
    Ok(states.view::<f32>()?.chunks(width.max(1)))
}

/// `[1, tokens, a]` and `[1, tokens, b]` as `[1, tokens, a + b]`.
fn side_by_side(a: &NDArray, b: &NDArray) -> Result<NDArray> {
    let ([_, tokens, a_width], [_, b_tokens, b_width]) = (a.shape(), b.shape()) else {
        fail!(Unsupported, "text encoders whose states are no matrices");
    };
    if tokens != b_tokens {
        fail!(Unsupported, "text encoders that read {tokens} and {b_tokens} tokens");
    }
    let rows: Vec<f32> = rows(a)?.zip(rows(b)?).flat_map(|(a, b)| a.iter().chain(b).copied()).collect();
    NDArray::new(&[1, *tokens, a_width + b_width], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants() -> Wants {
        let layout = TextLayout::Joined { tokens: 2 };
        Wants { layout, text_embeds: false, class_labels: false, masked: false, width: 4, pooled: 3 }
    }

    fn array(shape: &[usize], values: &[f32]) -> Option<NDArray> {
        Some(NDArray::new(shape, values).unwrap())
    }

    #[test]
    fn missing_encoders_are_zeros() {
        let row = Row {
            states: [None, array(&[1, 1, 2], &[1.0, 2.0]), None],
            pooled: [None, array(&[1, 2], &[3.0, 4.0]), None],
            mask: None,
        };
        let text = wants().assembled(row).unwrap();
        let hidden = text.hidden().unwrap();
        assert_eq!(hidden.shape(), [1, 3, 4]);
        assert_eq!(hidden.view::<f32>().unwrap(), [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(text.pooled.unwrap().view::<f32>().unwrap(), [0.0, 3.0, 4.0]);
        let third = Row { states: [None, None, array(&[1, 2, 4], &[5.0; 8])], ..Row::default() };
        let text = wants().assembled(third).unwrap();
        assert_eq!(text.hidden().unwrap().shape(), [1, 2, 4]);
        assert_eq!(text.pooled.unwrap().view::<f32>().unwrap(), [0.0; 3]);
    }
}
