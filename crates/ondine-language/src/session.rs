//! A text that a model goes on with, token by token.
//!
//! A session remembers the tokens that the model has read. A prompt that begins as what it remembers is read from where
//! it parts: how many tokens that has saved is reported, to the token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ondine_graph::{NDArray, Result, fail};
use ondine_runtime::{Cancel, ErrorKind, Wish};
use serde::Serialize;

use crate::{
    draft::{Drafter, LookUp, Pace},
    guide::{Grammar, Guide},
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
    /// The most tokens that are guessed at once; those that the model chooses are kept ([`draft`](crate::draft)). 0 is
    /// none.
    pub draft_tokens: usize,
    /// The form of the answer: it ends where it is whole, and tokens that do not fit are not chosen.
    pub grammar: Option<Arc<Grammar>>,
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
    /// How many of them the form left no choice for, so that they were read together with others.
    pub forced_tokens: usize,
    /// How many tokens were guessed.
    pub drafted_tokens: usize,
    /// How many of them came true.
    pub accepted_tokens: usize,
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
    /// False if a form was asked for, and the answer was cut before it had it.
    pub complete: bool,
    /// What it took.
    pub usage: Usage,
}

/// A text that a model goes on with.
#[derive(Debug)]
pub struct Session {
    model: Model,
    pub(crate) network: Network,
    /// The tokens that the states hold.
    read: Vec<u32>,
    pub(crate) cancel: Cancel,
    /// Guesses what comes next.
    drafter: Box<dyn Drafter>,
}

impl Session {
    /// A session that remembers nothing.
    ///
    /// # Errors
    /// If the model lacks a function, which none that was opened here does.
    pub fn new(model: &Model) -> Result<Self> {
        let network = Network::new(model.network(), model.call(), model.rings())?;
        let drafter = Box::new(LookUp);
        Ok(Self { model: model.clone(), network, read: Vec::new(), cancel: Cancel::default(), drafter })
    }

    /// The same, with tokens guessed by `drafter` where [`Options::draft_tokens`] asks for guesses; if nobody says,
    /// they are looked up in the text ([`LookUp`]).
    #[must_use]
    pub fn with_drafter(self, drafter: Box<dyn Drafter>) -> Self {
        Self { drafter, ..self }
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

    /// Forgets all but the first `len` tokens. Of a model whose layers have windows that is all, if `len` lies so far
    /// back that the windows before it are not held any more.
    pub fn rewind(&mut self, len: usize) {
        self.keep(len.min(self.read.len()));
    }

    /// Remembers the first `len` tokens and no others, or none if the states do not hold what comes after them reads:
    /// so many are remembered.
    fn keep(&mut self, len: usize) -> usize {
        let len = if self.network.holds(len) { len } else { 0 };
        self.read.truncate(len);
        len
    }

    /// Goes on with the tokens of `prompt`. An answer that was stopped is no error: what it has is handed out.
    ///
    /// # Errors
    /// If the prompt is empty or longer than the context, a setting means nothing, or the model fails.
    pub fn answer(&mut self, prompt: &[u32], options: &Options, on: &mut dyn FnMut(Event<'_>)) -> Result<Answer> {
        check_prompt(prompt, self.model.context())?;
        let model = self.model.clone();
        let mut writer = Writer::new(&model, prompt, options)?;
        let begun = Instant::now();
        let wish = self.cancel.listen();
        let chosen = writer.few()?;
        let mut done = |count| on(Event::Read(count, prompt.len()));
        let (same, read) = self.read_prompt(prompt, 1, chosen.as_deref(), &wish, &mut done);
        let prompt_time = begun.elapsed();
        let reason = match read {
            Err(error) if error.kind() == ErrorKind::Cancelled => Reason::Cancelled,
            Err(error) => return Err(error),
            Ok(logits) => self.go_on(logits, &mut writer, &wish, on)?,
        };
        let output_time = begun.elapsed().saturating_sub(prompt_time);
        let taken = Taken { prompt_tokens: prompt.len(), cached_tokens: same, prompt_time, output_time };
        Ok(writer.end(reason, taken, on))
    }

    /// Reads what is not remembered of a prompt: how many tokens were, and the logits of what comes next. What is
    /// remembered counts in steps of so many tokens. `chosen` are the tokens that can come next, if they are known.
    pub(crate) fn read_prompt(
        &mut self,
        prompt: &[u32],
        step: usize,
        chosen: Option<&[u32]>,
        wish: &Wish,
        done: &mut dyn FnMut(usize),
    ) -> (usize, Result<Vec<f32>>) {
        // At least one token is read, for what comes after it.
        let most = prompt.len().saturating_sub(1);
        let same = self.read.iter().zip(prompt).take_while(|(a, b)| a == b).count().min(most);
        let same = self.keep(same - same % step);
        let rest = prompt.get(same..).unwrap_or_default();
        (same, self.extend(rest, chosen, wish, done))
    }

    /// Token by token, until the answer is over.
    fn go_on(
        &mut self,
        logits: Vec<f32>,
        writer: &mut Writer<'_>,
        wish: &Wish,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Reason> {
        // The logits after the last token that is certain, and after each of the guesses that were read with it.
        let mut rows = vec![logits];
        let mut drafted: Vec<u32> = Vec::new();
        loop {
            let certain = self.read.len() - drafted.len();
            let mut next = None;
            for (at, logits) in rows.iter_mut().enumerate() {
                let id = writer.choose(logits)?;
                if let Some(reason) = self.push(id, certain + at, writer, on)? {
                    self.read.truncate(certain + at);
                    writer.note_drafts(drafted.len(), at);
                    return Ok(reason);
                }
                if drafted.get(at) != Some(&id) {
                    next = Some((id, at));
                    break;
                }
            }
            let Some((id, accepted)) = next else { fail!(Internal, "guesses have no end") };
            self.read.truncate(certain + accepted);
            writer.note_drafts(drafted.len(), accepted);
            let mut step = vec![id];
            // What must come next is known without the model.
            while let Some(id) = writer.forced()? {
                if let Some(reason) = self.push(id, self.read.len() + step.len(), writer, on)? {
                    return Ok(reason);
                }
                step.push(id);
            }
            drafted = self.draft(&step, writer)?;
            let chosen = if drafted.is_empty() { writer.few()? } else { None };
            rows = match self.read_on(&step, &drafted, chosen.as_deref(), wish) {
                Ok(rows) => rows,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(Reason::Cancelled),
                Err(error) => return Err(error),
            };
        }
    }

    /// Adds a token that stands behind `before` others; a reason, if the answer is over.
    fn push(
        &self,
        id: u32,
        before: usize,
        writer: &mut Writer<'_>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Reason>> {
        let reason = writer.push(id, on)?;
        Ok(reason.or((before + 1 >= self.model.context()).then_some(Reason::ContextFull)))
    }

    /// Guesses what follows what was read and `step`.
    fn draft(&mut self, step: &[u32], writer: &mut Writer<'_>) -> Result<Vec<u32>> {
        let room = self.model.context() - self.read.len() - step.len();
        // More than a call of them could not all be taken back.
        let most = writer.most_drafts().min(room).min(self.model.call());
        if most == 0 {
            return Ok(Vec::new());
        }
        let tokens = [&self.read, step].concat();
        let mut drafted = self.drafter.draft(&tokens, most)?;
        drafted.truncate(most);
        Ok(drafted)
    }

    /// Reads tokens that are certain, and guesses behind them: the logits after the last certain one and each guess.
    fn read_on(&mut self, step: &[u32], drafted: &[u32], chosen: Option<&[u32]>, wish: &Wish) -> Result<Vec<Vec<f32>>> {
        if drafted.is_empty() {
            return Ok(vec![self.extend(step, chosen, wish, &mut |_| {})?]);
        }
        let ids = [step, drafted].concat();
        let logits = self.network.logits(&ids, self.read.len(), wish)?;
        self.read.extend(&ids);
        let width = logits.shape().last().copied().unwrap_or_default().max(1);
        Ok(logits.to_f32().chunks_exact(width).skip(step.len() - 1).map(<[f32]>::to_vec).collect())
    }

    /// Reads tokens after those that are remembered.
    fn extend(
        &mut self,
        ids: &[u32],
        chosen: Option<&[u32]>,
        wish: &Wish,
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>> {
        let past = self.read.len();
        let read = &mut self.read;
        // What a call that failed has written lies behind what is remembered, and is overwritten by the next one.
        self.network.extend(ids, past, chosen, wish, &mut |count| {
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

    /// The logits after each of `ids`, which stand behind `before`: `[ids, vocabulary]`. The session remembers both;
    /// what it remembers of `before` already is not read again.
    ///
    /// # Errors
    /// If there are no `ids`, or more tokens than the context holds.
    pub fn logits_after(&mut self, before: &[u32], ids: &[u32]) -> Result<NDArray> {
        let (context, all) = (self.model.context(), before.len() + ids.len());
        if ids.is_empty() || all > context {
            fail!(Argument, "{all} tokens; the context holds 1 to {context}");
        }
        let same = self.keep(self.read.iter().zip(before).take_while(|(a, b)| a == b).count());
        let wish = self.cancel.listen();
        if let Some(rest) = before.get(same..).filter(|rest| !rest.is_empty()) {
            self.extend(rest, None, &wish, &mut |_| {})?;
        }
        let logits = self.network.logits(ids, before.len(), &wish)?;
        self.read.extend(ids);
        Ok(logits)
    }

    /// The logarithm of the likelihood of each of several continuations of a text.
    ///
    /// # Errors
    /// If the text or a continuation has no tokens, or both have more than the context holds.
    pub fn likelihoods(&mut self, before: &[u32], continuations: &[Vec<u32>]) -> Result<Vec<f64>> {
        let Some((&last, head)) = before.split_last() else { fail!(Argument, "there is no text to go on from") };
        let known = self.model.vocabulary().len();
        let mut likelihoods = Vec::with_capacity(continuations.len());
        let mut first = None;
        for continuation in continuations {
            let Some((_, inner)) = continuation.split_last() else { fail!(Argument, "a continuation has no tokens") };
            // What comes first is as likely after the text whatever follows it.
            if inner.is_empty() && first.is_none() {
                first = Some(self.logits_after(head, &[last])?);
            }
            let own;
            let logits = match &first {
                Some(first) if inner.is_empty() => first,
                _ => {
                    own = self.logits_after(head, &[&[last], inner].concat())?;
                    &own
                }
            };
            let width = logits.shape().last().copied().unwrap_or_default().max(1);
            let numbers = logits.to_f32();
            let mut sum = 0.0;
            for (row, &id) in numbers.chunks_exact(width).zip(continuation) {
                sum += likelihood(row.get(..known.min(width)).unwrap_or_default(), id)?;
            }
            likelihoods.push(sum);
        }
        Ok(likelihoods)
    }
}

/// The logarithm of the likelihood of a token.
pub(crate) fn likelihood(logits: &[f32], id: u32) -> Result<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    match logits.get(id as usize) {
        Some(&logit) if sum.is_finite() => Ok(f64::from(logit - most) - sum.ln()),
        _ => fail!(Internal, "the model yields no likelihood of token {id}; are its weights whole?"),
    }
}

/// Makes sure that a prompt leaves room for an answer.
pub(crate) fn check_prompt(prompt: &[u32], context: usize) -> Result<()> {
    if prompt.is_empty() {
        fail!(Argument, "the prompt has no tokens");
    }
    if prompt.len() >= context {
        let needed = prompt.len() + 1;
        fail!(Argument, "the prompt and one token of the answer take {needed} tokens, the context holds {context}");
    }
    Ok(())
}

/// What reading a prompt and answering it took.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) prompt_time: Duration,
    pub(crate) output_time: Duration,
}

/// What chooses the tokens of an answer, and makes it of them.
pub(crate) struct Writer<'a> {
    sampler: Sampler,
    guide: Option<Guide>,
    out: Output<'a>,
    /// Tokens that the form left no choice for.
    forced: usize,
    pace: Pace,
    /// Tokens that were guessed, and those of them that came true.
    drafted: usize,
    accepted: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(model: &'a Model, prompt: &[u32], options: &Options) -> Result<Self> {
        if options.grammar.is_some() && options.ignore_end {
            fail!(Argument, "an answer of a form ends where the form does: it cannot go on after its end");
        }
        let guide = options.grammar.as_deref().map(|grammar| model.guides()?.start(grammar)).transpose()?;
        let sampler = Sampler::new(&options.sampling, prompt)?;
        let (out, pace) = (Output::new(model, options), Pace::new(options.draft_tokens));
        Ok(Self { sampler, guide, out, forced: 0, pace, drafted: 0, accepted: 0 })
    }

    /// How many tokens are guessed now: none that would be too many for the answer.
    fn most_drafts(&mut self) -> usize {
        self.pace.next().min((self.out.max_tokens - self.out.tokens.len()).saturating_sub(1))
    }

    /// Notes how many of the guesses came true.
    fn note_drafts(&mut self, drafted: usize, accepted: usize) {
        self.pace.note(drafted, accepted);
        self.drafted += drafted;
        self.accepted += accepted;
    }

    /// The next token, of the logits of all.
    pub(crate) fn choose(&mut self, logits: &mut Vec<f32>) -> Result<u32> {
        // Some models have more logits than tokens.
        logits.truncate(self.out.model.vocabulary().len());
        if let Some(guide) = &mut self.guide {
            guide.mask(logits)?;
        }
        self.sampler.choose(logits)
    }

    /// The tokens that the form leaves, in rising order, if they are few.
    pub(crate) fn few(&mut self) -> Result<Option<Vec<u32>>> {
        self.guide.as_mut().map_or(Ok(None), Guide::few)
    }

    /// The next token, if the form leaves no choice.
    pub(crate) fn forced(&mut self) -> Result<Option<u32>> {
        let Some(guide) = &mut self.guide else { return Ok(None) };
        let only = guide.only()?;
        if let Some(id) = only {
            self.sampler.note(id);
            self.forced += 1;
        }
        Ok(only)
    }

    /// Adds a token; a reason, if the answer is over.
    pub(crate) fn push(&mut self, id: u32, on: &mut dyn FnMut(Event<'_>)) -> Result<Option<Reason>> {
        let before = self.out.tokens.len();
        let reason = self.out.push(id, on)?;
        let Some(guide) = self.guide.as_mut().filter(|_| self.out.tokens.len() > before) else { return Ok(reason) };
        guide.push(id)?;
        Ok(if guide.is_over() || (guide.is_whole() && self.out.model.vocabulary().ends().is_empty()) {
            Some(Reason::End)
        } else {
            reason
        })
    }

    /// The answer, which is over.
    pub(crate) fn end(mut self, reason: Reason, taken: Taken, on: &mut dyn FnMut(Event<'_>)) -> Answer {
        let rest = self.out.finish(reason);
        if !rest.is_empty() {
            on(Event::Text(&rest));
        }
        let Taken { prompt_tokens, cached_tokens, prompt_time, output_time } = taken;
        let usage = Usage {
            prompt_tokens,
            cached_tokens,
            output_tokens: self.out.tokens.len(),
            forced_tokens: self.forced,
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
            prompt_time,
            output_time,
        };
        on(Event::Finished(reason, usage));
        let complete = self.is_complete(reason);
        Answer { text: self.out.text, tokens: self.out.tokens, reason, complete, usage }
    }

    fn is_complete(&mut self, reason: Reason) -> bool {
        // What ends at a text is not what the guide has seen.
        self.guide.as_mut().is_none_or(|guide| reason != Reason::Stop && guide.is_whole())
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
            // A grammar is asked about every byte.
            decoder: if options.continues || options.grammar.is_some() { decoder.inside() } else { decoder },
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
