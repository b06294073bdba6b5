//! How good a model is: well-known questions, asked and judged as EleutherAI's lm-evaluation-harness does.
//!
//! A [`Benchmark`] is a list of questions. Each is asked on its own, and what came of it is a line of JSON, so that a
//! long run can be stopped and gone on with; scores are made of the lines alone.

mod draws;
pub mod ifeval;
pub mod mmlu;
pub mod numbers;

use std::{fmt, path::Path};

use ondine_graph::{Context, Result, fail};
use ondine_models::vocabulary::Controls;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    chat::Chat,
    session::{Answer, Options, Reason, Session},
    transcript::Role,
};

/// What came of a question: at least its `id`.
pub type Line = Map<String, Value>;

/// A list of questions, and how answers to them are judged.
pub trait Benchmark: fmt::Debug {
    /// What it is called.
    fn name(&self) -> &str;

    /// How many questions there are.
    fn len(&self) -> usize;

    /// True if there are no questions.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a question, which no other has.
    fn id(&self, index: usize) -> String;

    /// The text that the model reads for a question.
    ///
    /// # Errors
    /// If there is no such question.
    fn prompt(&self, index: usize) -> Result<String>;

    /// Asks a question, and judges the answer.
    ///
    /// # Errors
    /// If there is no such question, it is longer than the context, or the model fails.
    fn ask(&self, index: usize, asked: &mut Asked<'_>) -> Result<Line>;

    /// What the lines say together.
    fn scores(&self, lines: &[Line]) -> Vec<Score>;
}

/// A mean over questions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// What it is the mean of.
    pub name: String,
    /// The mean, from 0 to 1.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Of how many.
    pub count: usize,
}

impl Score {
    /// The mean of what is true.
    #[must_use]
    pub fn of(name: &str, values: &[bool]) -> Self {
        let count = values.len();
        let value = values.iter().filter(|value| **value).count() as f64 / count.max(1) as f64;
        let error = if count > 1 { (value * (1.0 - value) / (count - 1) as f64).sqrt() } else { 0.0 };
        Self { name: name.to_owned(), value, error, count }
    }
}

/// Who is asked, and how.
#[derive(Debug)]
pub struct Asked<'a> {
    session: &'a mut Session,
    /// True if questions are said in a conversation, as the template of the model writes it.
    chat: bool,
}

impl<'a> Asked<'a> {
    /// Asks the model of a session; as in a conversation, if `chat`.
    pub fn new(session: &'a mut Session, chat: bool) -> Self {
        Self { session, chat }
    }

    /// The ids of a text that is gone on with.
    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let model = self.session.model();
        let vocabulary = model.vocabulary();
        if self.chat {
            let mut chat = Chat::new(model, None)?;
            chat.transcript.say(Role::User, text);
            return chat.prompt_tokens();
        }
        let mut ids = vocabulary.encode_whole(text, Controls::Meant)?;
        while ids.len() > 1 && ids.last().is_some_and(|&id| vocabulary.is_end(id)) {
            ids.pop();
        }
        Ok(ids)
    }

    /// The likeliest answer of up to `most` tokens, which ends before any of `until`.
    fn answer(&mut self, prompt: &str, most: usize, until: &[&str]) -> Result<Answer> {
        let options = Options {
            max_tokens: Some(most),
            stop: until.iter().map(|text| (*text).to_owned()).collect(),
            continues: !self.chat,
            ..Options::default()
        };
        let answer = self.session.answer(&self.ids(prompt)?, &options, &mut |_| {})?;
        if answer.reason == Reason::Cancelled {
            fail!(Cancelled, "stopped on request");
        }
        Ok(answer)
    }

    /// The logarithms of the likelihoods of continuations of a text.
    fn likelihoods(&mut self, prompt: &str, continuations: &[&str]) -> Result<Vec<f64>> {
        let before = self.ids(prompt)?;
        let mut after = Vec::new();
        for continuation in continuations {
            // Cut together, as the model has learned it.
            let whole = self.ids(&format!("{prompt}{continuation}"))?;
            after.push(whole.get(before.len()..).unwrap_or_default().to_vec());
        }
        self.session.likelihoods(&before, &after)
    }
}

/// Values of a field that is true or false.
fn flags(lines: &[Line], field: &str) -> Vec<bool> {
    lines.iter().map(|line| line.get(field) == Some(&Value::Bool(true))).collect()
}

fn read(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    std::fs::read_to_string(&path).at(|| path.display())
}
