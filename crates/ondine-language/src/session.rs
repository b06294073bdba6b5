//! A text that a model goes on with, token by token.
//!
//! A session remembers the tokens that the model has read. A prompt that begins as what it remembers is read from where
//! it parts: how many tokens that has saved is reported, to the token.

use std::time::{Duration, Instant};

use ondine_graph::{NDArray, Result, fail};
use ondine_runtime::{Cancel, ErrorKind};
use serde::Serialize;

use crate::{
    model::Model,
    network::Network,
    sample::{Sampler, Sampling},
    stop::Stop,
};

/// How an answer is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens of the answer; as many as there is room for, if nobody says.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, and are no part of it.
    pub stop: Vec<String>,
    /// True to go on after tokens that end answers.
    pub ignore_end: bool,
    /// True if the answer is a part of the text that the prompt begins: a blank at its beginning is one of the text.
    pub continues: bool,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model has said all.
    End,
    /// A text came that ends answers.
    Stop,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// There is no room for more.
    ContextFull,
    /// The caller has asked to stop.
    Cancelled,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them the session remembered.
    pub cached_tokens: usize,
    /// Tokens of the answer, with the one that ended it.
    pub output_tokens: usize,
    /// Time until the prompt was read.
    pub prompt_time: Duration,
    /// Time from then to the end.
    pub output_time: Duration,
}

impl Usage {
    /// Tokens of the answer in a second.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.output_tokens as f64 / self.output_time.as_secs_f64().max(1e-9)
    }
}

/// What a caller hears while an answer is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// So many tokens of the prompt have been read, of so many.
    Read(usize, usize),
    /// The text goes on.
    Text(&'a str),
    /// The answer is over.
    Finished(Reason, Usage),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub reason: Reason,
    /// What it took.
    pub usage: Usage,
}

/// A text that a model goes on with.
#[derive(Debug)]
pub struct Session {
    model: Model,
    network: Network,
    /// The tokens that the states hold.
    read: Vec<u32>,
    cancel: Cancel,
}

impl Session {
    /// A session that remembers nothing.
    ///
    /// # Errors
    /// If the model lacks a function, which none that was opened here does.
    pub fn new(model: &Model) -> Result<Self> {
        let network = Network::new(model.network())?;
        Ok(Self { model: model.clone(), network, read: Vec::new(), cancel: Cancel::default() })
    }

    /// The same, stopped by `cancel`: an answer that is under way ends with [`Reason::Cancelled`], and the next one is
    /// that of a session which has never been stopped.
    #[must_use]
    pub fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens that it remembers.
    #[must_use]
    pub fn remembered(&self) -> &[u32] {
        &self.read
    }

    /// Forgets all but the first `len` tokens.
    pub fn rewind(&mut self, len: usize) {
        self.read.truncate(len);
    }

    /// Goes on with the tokens of `prompt`. An answer that was stopped is no error: what it has is handed out.
    ///
    /// # Errors
    /// If the prompt is empty or longer than the context, a setting means nothing, or the model fails.
    pub fn answer(&mut self, prompt: &[u32], options: &Options, on: &mut dyn FnMut(Event<'_>)) -> Result<Answer> {
        let context = self.model.context();
        if prompt.is_empty() {
            fail!(Argument, "the prompt has no tokens");
        }
        if prompt.len() >= context {
            let needed = prompt.len() + 1;
            fail!(Argument, "the prompt and one token of the answer take {needed} tokens, the context holds {context}");
        }
        let mut sampler = Sampler::new(&options.sampling, prompt)?;
        let begun = Instant::now();
        let wish = self.cancel.listen();
        // At least one token is read, for what comes after it.
        let same = self.read.iter().zip(prompt).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
        self.read.truncate(same);
        let model = self.model.clone();
        let mut out = Output::new(&model, options);
        let mut usage = Usage {
            prompt_tokens: prompt.len(),
            cached_tokens: same,
            output_tokens: 0,
            prompt_time: Duration::ZERO,
            output_time: Duration::ZERO,
        };
        let rest = prompt.get(same..).unwrap_or_default();
        let read = self.extend(rest, &wish, &mut |count| on(Event::Read(count, prompt.len())));
        usage.prompt_time = begun.elapsed();
        let reason = match read {
            Err(error) if error.kind() == ErrorKind::Cancelled => Reason::Cancelled,
            Err(error) => return Err(error),
            Ok(logits) => self.go_on(logits, &mut sampler, &mut out, &wish, on)?,
        };
        let rest = out.finish(reason);
        if !rest.is_empty() {
            on(Event::Text(&rest));
        }
        usage.output_tokens = out.tokens.len();
        usage.output_time = begun.elapsed().saturating_sub(usage.prompt_time);
        on(Event::Finished(reason, usage));
        Ok(Answer { text: out.text, tokens: out.tokens, reason, usage })
    }

    /// Token by token, until the answer is over.
    fn go_on(
        &mut self,
        mut logits: Vec<f32>,
        sampler: &mut Sampler,
        out: &mut Output<'_>,
        wish: &ondine_runtime::Wish,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Reason> {
        loop {
            // Some models have more logits than tokens.
            logits.truncate(self.model.vocabulary().len());
            let id = sampler.choose(&mut logits)?;
            let over = out.push(id, on)?;
            if let Some(reason) = over {
                return Ok(reason);
            }
            if self.read.len() + 1 >= self.model.context() {
                return Ok(Reason::ContextFull);
            }
            logits = match self.extend(&[id], wish, &mut |_| {}) {
                Ok(logits) => logits,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(Reason::Cancelled),
                Err(error) => return Err(error),
            };
        }
    }

    /// Reads tokens after those that are remembered.
    fn extend(&mut self, ids: &[u32], wish: &ondine_runtime::Wish, done: &mut dyn FnMut(usize)) -> Result<Vec<f32>> {
        let past = self.read.len();
        let read = &mut self.read;
        // What a call that failed has written lies behind what is remembered, and is overwritten by the next one.
        self.network.extend(ids, past, wish, &mut |count| {
            read.extend(ids.get(read.len() - past..count - past).unwrap_or_default());
            done(count);
        })
    }

    /// The logits after each token of a text: `[tokens, vocabulary]`. The session remembers the text then.
    ///
    /// # Errors
    /// If there are no tokens, or more than the context holds.
    pub fn logits(&mut self, ids: &[u32]) -> Result<NDArray> {
        self.logits_after(&[], ids)
    }

    /// The logits after each of `ids`, which stand behind `before`: `[ids, vocabulary]`. The session remembers both.
    ///
    /// # Errors
    /// If there are no `ids`, or more tokens than the context holds.
    pub fn logits_after(&mut self, before: &[u32], ids: &[u32]) -> Result<NDArray> {
        let (context, all) = (self.model.context(), before.len() + ids.len());
        if ids.is_empty() || all > context {
            fail!(Argument, "{all} tokens; the context holds 1 to {context}");
        }
        self.read.clear();
        let wish = self.cancel.listen();
        if !before.is_empty() {
            self.extend(before, &wish, &mut |_| {})?;
        }
        let logits = self.network.logits(ids, before.len(), &wish)?;
        self.read.extend(ids);
        Ok(logits)
    }
}

/// The answer as it grows.
struct Output<'a> {
    model: &'a Model,
    decoder: ondine_models::vocabulary::Decoder<'a>,
    stop: Stop,
    max_tokens: usize,
    ignore_end: bool,
    text: String,
    tokens: Vec<u32>,
}

impl<'a> Output<'a> {
    fn new(model: &'a Model, options: &Options) -> Self {
        let decoder = model.vocabulary().decoder();
        Self {
            model,
            decoder: if options.continues { decoder.inside() } else { decoder },
            stop: Stop::at(&options.stop),
            max_tokens: options.max_tokens.unwrap_or(usize::MAX),
            ignore_end: options.ignore_end,
            text: String::new(),
            tokens: Vec::new(),
        }
    }

    /// Adds a token, and hands out what is text now; a reason, if the answer is over.
    fn push(&mut self, id: u32, on: &mut dyn FnMut(Event<'_>)) -> Result<Option<Reason>> {
        if self.max_tokens == 0 {
            return Ok(Some(Reason::MaxTokens));
        }
        self.tokens.push(id);
        if self.model.vocabulary().is_end(id) && !self.ignore_end {
            return Ok(Some(Reason::End));
        }
        let text = self.decoder.push(id)?;
        let text = self.stop.push(&text);
        if !text.is_empty() {
            self.text.push_str(&text);
            on(Event::Text(&text));
        }
        if self.stop.is_reached() {
            return Ok(Some(Reason::Stop));
        }
        Ok((self.tokens.len() >= self.max_tokens).then_some(Reason::MaxTokens))
    }

    /// What was held back.
    fn finish(&mut self, reason: Reason) -> String {
        if reason == Reason::Stop {
            return String::new();
        }
        let rest = self.decoder.finish();
        let mut rest = self.stop.push(&rest);
        rest.push_str(&self.stop.finish());
        self.text.push_str(&rest);
        rest
    }
}
