//! A conversation: what was said, written as the model wants it, and answered.

use std::collections::BTreeMap;

use ondine_graph::Result;
use ondine_models::vocabulary::Controls;
use serde_json::Value;

use crate::{
    model::Model,
    session::{Answer, Event, Options, Reason, Session},
    template::{self, Now},
    transcript::{Message, Role, Transcript},
};

/// A conversation with a model.
#[derive(Debug)]
pub struct Chat {
    /// The session that answers.
    pub session: Session,
    /// What was said.
    pub transcript: Transcript,
    /// The tools that templates tell the model of, as JSON schemas.
    pub tools: Vec<Value>,
    /// What the template wants to know besides, such as `enable_thinking`.
    pub template_options: BTreeMap<String, Value>,
    now: Now,
}

impl Chat {
    /// A conversation that has not begun.
    ///
    /// # Errors
    /// If the model has not learned to answer.
    pub fn new(model: &Model, system: Option<&str>) -> Result<Self> {
        model.template()?;
        Ok(Self {
            session: Session::new(model)?,
            transcript: Transcript::with_system(system),
            tools: Vec::new(),
            template_options: BTreeMap::new(),
            // One time for all of a conversation: what was read of it stays the same.
            now: Now::here(),
        })
    }

    /// The conversation as the model wants it, with the beginning of an answer.
    ///
    /// # Errors
    /// If the template refuses it.
    pub fn prompt(&self) -> Result<String> {
        let vocabulary = self.session.model().vocabulary();
        self.session.model().template()?.render(&template::Chat {
            messages: &self.transcript.to_template(),
            tools: &self.tools,
            answer: true,
            begin: &vocabulary.begin_text(),
            end: &vocabulary.end_text(),
            options: &self.template_options,
            now: self.now,
        })
    }

    /// The tokens of [`Chat::prompt`].
    ///
    /// # Errors
    /// As [`Chat::prompt`].
    pub fn prompt_tokens(&self) -> Result<Vec<u32>> {
        self.session.model().vocabulary().encode(&self.prompt()?, Controls::Meant)
    }

    /// Asks something. Question and answer become part of the conversation, unless there is no answer: then it is as
    /// before.
    ///
    /// # Errors
    /// If the template refuses the conversation, it is longer than the context, or the model fails.
    pub fn ask(&mut self, question: &str, options: &Options, on: &mut dyn FnMut(Event<'_>)) -> Result<Answer> {
        let before = self.transcript.messages.len();
        self.transcript.say(Role::User, question);
        let answer = self.prompt_tokens().and_then(|prompt| self.session.answer(&prompt, options, on));
        match &answer {
            Ok(answer) if answer.reason != Reason::Cancelled || !answer.text.is_empty() => {
                self.transcript.messages.push(Message::new(Role::Assistant, answer.text.as_str()));
            }
            _ => self.transcript.messages.truncate(before),
        }
        answer
    }
}
