//! What the prompt becomes: the tensors that guide the denoiser.

use std::{borrow::Cow, sync::Arc};

use ondine_graph::{Bindings, NDArray, Result, fail};
use ondine_models::{Encoding, Tokenizer};
use ondine_runtime::{Function, Outputs, State, Wish};

use super::{
    conditioning::{Conditioning, takes},
    memory::{Resident, StagePlan},
    part::{Part, Terms},
    text::{Reads, Row, Wants},
};
use crate::prompt::{
    self,
    attention::spans,
    chunks::{Chunk, chunks, one_chunk},
    emphasis::Emphasis,
};

/// A tokenizer with the network that reads its tokens.
#[derive(Debug)]
pub(super) struct TextEncoder<'a> {
    /// Its place among the encoders of the model.
    pub(super) place: usize,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) part: Arc<Part>,
    /// True if the network can be told which tokens are padding.
    pub(super) takes_mask: bool,
}

impl<'a> TextEncoder<'a> {
    pub(super) fn new(place: usize, tokenizer: &'a Tokenizer, part: Arc<Part>) -> Result<Self> {
        let takes_mask = takes(part.prepared.graph(part.name())?, "attention_mask");
        Ok(Self { place, tokenizer, part, takes_mask })
    }

    /// The outputs that are read.
    fn reads(&self, wants: &Wants) -> Result<Reads> {
        Ok(wants.of_encoder(self.place, self.part.prepared.graph(self.part.name())?))
    }

    /// Memory of encoding `tokens` tokens.
    pub(super) fn plan(&self, tokens: usize) -> Result<StagePlan> {
        let plan = self.part.prepared.plan(self.part.name(), &Self::sizes(tokens))?;
        StagePlan::new("text encoder", &self.part, &plan, Resident::All)
    }

    fn sizes(tokens: usize) -> Bindings {
        Bindings::from([("batch".into(), 1), ("tokens".into(), tokens)])
    }

    /// Floating-point operations of encoding the texts, and the most tokens that one has.
    pub(super) fn flops(&self, texts: &[&str], padded: bool) -> Result<(u64, usize)> {
        let (mut flops, mut most) = (0, 0);
        for text in texts {
            let tokens = self.tokens(text, padded, true)?.ids.len();
            flops += self.part.prepared.flops(self.part.name(), &Self::sizes(tokens))?;
            most = most.max(self.tokenizer.kept(tokens));
        }
        Ok((flops, most))
    }

    /// The tokens of a text. A network that cannot be told of padding was trained with texts padded to full length; of
    /// others the padding is part of what the denoiser takes if `padded` says so. What is not `wanted` is read without
    /// an instruction before it.
    fn tokens(&self, text: &str, padded: bool, wanted: bool) -> Result<Encoding> {
        let text = &self.text(text);
        if self.tokenizer.instructs() && !wanted {
            self.tokenizer.encode_bare(text)
        } else if self.takes_mask && !padded {
            self.tokenizer.encode(text)
        } else {
            self.tokenizer.encode_padded(text, self.tokenizer.max_length())
        }
    }

    /// The text as the network can read it: emoji by name, if it reads words alone.
    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.tokenizer.spells_everything() { Cow::Borrowed(text) } else { prompt::with_names_of_emoji(text) }
    }

    /// True if the network can make something of the text.
    fn understands(&self, text: &str) -> Result<bool> {
        Ok(self.tokenizer.spells_everything() || self.tokenizer.knows_a_word(&self.text(text))?)
    }

    /// Encodes the texts one by one; the network is loaded for that, and dropped after unless it is kept.
    fn encode(&self, encodings: &[Encoding], terms: &Terms<'_>) -> Result<Vec<Outputs>> {
        let function = self.part.function(terms)?;
        let mut state = State::default();
        encodings.iter().map(|encoding| run(&function, encoding, &mut state, terms.wish)).collect()
    }

    /// True if texts are read in chunks, with the weights of their tokens.
    pub(super) fn weighs(&self, emphasis: Emphasis) -> bool {
        !self.takes_mask && emphasis != Emphasis::Off
    }

    /// The chunks of texts, as many for each, and the most tokens that one has.
    fn chunks(&self, texts: &[&str], reads: Reads) -> Result<(Vec<Vec<Chunk>>, usize)> {
        // An encoder of long texts reads one whole, and for a vector of the whole text its beginning is read.
        let whole = self.tokenizer.lead() == 0 || reads.states.is_none();
        let mut all = Vec::new();
        let mut most = 0;
        for text in texts {
            let spans = spans(text);
            let (chunks, count) =
                if whole { one_chunk(self.tokenizer, &spans)? } else { chunks(self.tokenizer, &spans)? };
            most = most.max(count);
            all.push(chunks);
        }
        let longest = all.iter().map(Vec::len).max().unwrap_or(1);
        let (empty, _) = chunks(self.tokenizer, &[])?;
        for chunks in &mut all {
            while chunks.len() < longest {
                chunks.extend(empty.iter().take(1).cloned());
            }
        }
        Ok((all, most))
    }

    /// Encodes texts chunk by chunk: their states one after the other, the vector of the whole text from the first.
    fn encode_chunks(
        &self,
        texts: &[Vec<Chunk>],
        emphasis: Emphasis,
        reads: Reads,
        terms: &Terms<'_>,
    ) -> Result<Vec<(Option<NDArray>, Option<NDArray>)>> {
        let function = self.part.function(terms)?;
        let mut state = State::default();
        let mut read = |ids: &[i64]| -> Result<Outputs> {
            let encoding = Encoding { ids: ids.to_vec(), len: ids.len(), truncated: 0, all_unknown: false };
            run(&function, &encoding, &mut state, terms.wish)
        };
        let weighed = texts.iter().flatten().any(|chunk| chunk.weights.iter().any(|&weight| weight != 1.0));
        let empty = match reads.states {
            Some(name) if emphasis == Emphasis::Comfy && weighed => {
                Some(read(&self.tokenizer.framed(&[]))?.take(name)?)
            }
            _ => None,
        };
        let empty = empty.as_ref().map(|empty| empty.view::<f32>()).transpose()?;
        let mut encoded = Vec::new();
        for chunks in texts {
            let (mut states, mut pooled, mut width) = (Vec::new(), None, 0);
            for (i, chunk) in chunks.iter().enumerate() {
                let mut outputs = read(&chunk.ids)?;
                if i == 0
                    && let Some(name) = reads.pooled
                {
                    pooled = Some(outputs.take(name)?);
                }
                let Some(name) = reads.states else { continue };
                let mut of_chunk = outputs.take(name)?;
                width = of_chunk.shape().last().copied().unwrap_or(0);
                emphasis.weigh(of_chunk.view_mut::<f32>()?, &chunk.weights, empty);
                states.extend_from_slice(of_chunk.view::<f32>()?);
            }
            let states = match reads.states {
                Some(_) => Some(NDArray::new(&[1, states.len() / width.max(1), width], &states)?),
                None => None,
            };
            encoded.push((states, pooled));
        }
        Ok(encoded)
    }
}

fn run(function: &Function, encoding: &Encoding, state: &mut State, wish: &Wish) -> Result<Outputs> {
    let ids = NDArray::new(&[1, encoding.ids.len()], &encoding.ids)?;
    let mask = encoding.attention_mask();
    let mask = NDArray::new(&[1, mask.len()], &mask)?;
    let mut inputs = vec![("input_ids", &ids)];
    if takes(function.graph(), "attention_mask") {
        inputs.push(("attention_mask", &mask));
    }
    function.run_until(&inputs, state, wish)
}

/// The states `[1, tokens, width]` of a text behind an instruction, without that: the first, and those from
/// `resumes` on.
fn without_instruction(states: &NDArray, resumes: usize) -> Result<NDArray> {
    let [_, tokens, width] = states.shape() else { fail!(Internal, "states that are no matrix") };
    let from = resumes.min(*tokens);
    let rows = states.view::<f32>()?;
    let kept: Vec<f32> = rows[..*width].iter().chain(&rows[from * width..]).copied().collect();
    NDArray::new(&[1, 1 + tokens - from, *width], &kept)
}

/// Encodes texts with all encoders; encoders stand side by side in the width of the states. Those in `negative`, by
/// number, are not wanted.
pub(super) fn encode(
    encoders: &[TextEncoder<'_>],
    (texts, negative): (&[&str], &dyn Fn(usize) -> bool),
    emphasis: Emphasis,
    wants: Wants,
    terms: &Terms<'_>,
    warn: &mut dyn FnMut(&str),
) -> Result<Vec<Conditioning>> {
    let mut rows = vec![Row::default(); texts.len()];
    for (position, encoder) in encoders.iter().enumerate() {
        let (place, reads) = (encoder.place, encoder.reads(&wants)?);
        if encoder.weighs(emphasis) {
            let (chunks, tokens) = encoder.chunks(texts, reads)?;
            if reads.states.is_some() {
                about_length(encoder.tokenizer, tokens, chunks.first().map_or(1, Vec::len), position == 0, warn);
            }
            for (row, (states, pooled)) in rows.iter_mut().zip(encoder.encode_chunks(&chunks, emphasis, reads, terms)?)
            {
                row.states[place] = states;
                row.pooled[place] = pooled;
            }
            continue;
        }
        let tokens = |(index, text): (usize, &&str)| encoder.tokens(text, wants.padded(), !negative(index));
        let encodings = texts.iter().enumerate().map(tokens).collect::<Result<Vec<_>>>()?;
        if let Some((text, _)) = texts.iter().zip(&encodings).find(|(_, encoding)| encoding.all_unknown) {
            fail!(Argument, "the model knows no word of the prompt {text:?}; describe it in words");
        }
        // The prompt is the last of the texts; a negative one may well be empty.
        if let Some(text) = texts.last().filter(|_| position == 0)
            && !encoder.understands(text)?
        {
            warn("it seems that the model knows no word of the prompt; describe the picture in plain English words");
        }
        for encoding in &encodings {
            if position == 0 && encoding.truncated > 0 {
                let read = encoder.tokenizer.kept(encoding.ids.len());
                warn(&format!(
                    "the model reads {read} tokens of the prompt; the last {} are left out",
                    encoding.truncated
                ));
            }
        }
        let outputs = encoder.encode(&encodings, terms)?;
        for (index, ((row, encoding), mut outputs)) in rows.iter_mut().zip(&encodings).zip(outputs).enumerate() {
            let instructed = encoder.tokenizer.instructs() && !negative(index);
            if let Some(name) = reads.states {
                let states = outputs.take(name)?;
                row.states[place] =
                    Some(if instructed { without_instruction(&states, encoder.tokenizer.resumes())? } else { states });
            }
            if let Some(name) = reads.pooled {
                row.pooled[place] = Some(outputs.take(name)?);
            }
            if wants.class_labels {
                row.pooled[place] = row.pooled[place].as_ref().map(scaled_to_unit_variance).transpose()?;
            }
            if wants.class_labels || wants.masked() {
                let mask = encoding.attention_mask();
                row.mask = Some(if instructed { vec![1; encoder.tokenizer.kept(mask.len())] } else { mask });
            }
        }
    }
    rows.into_iter().map(|row| wants.assembled(row)).collect()
}

/// Tells that a text is long: in how many pieces it is read, or what of it is not.
fn about_length(tokenizer: &Tokenizer, tokens: usize, pieces: usize, first: bool, warn: &mut dyn FnMut(&str)) {
    let room = tokenizer.room();
    if tokenizer.lead() == 0 && tokens > room {
        let left = tokens - room;
        warn(&format!("the model reads {room} tokens of the prompt; the last {left} are left out"));
    } else if first && pieces > 1 {
        warn(&format!("the prompt has {tokens} tokens: the model reads it in {pieces} pieces of up to {room}"));
    }
}

/// A vector scaled to the length `sqrt(width)`, so that its elements have the size that a network likes.
fn scaled_to_unit_variance(vector: &NDArray) -> Result<NDArray> {
    let values = vector.view::<f32>()?;
    let length = values.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    let factor = (values.len() as f32).sqrt() / length;
    let scaled: Vec<f32> = values.iter().map(|x| x * factor).collect();
    NDArray::new(vector.shape(), &scaled)
}
