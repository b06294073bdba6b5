//! Templates of chats: how a model wants a conversation written.
//!
//! They are programs in the language of jinja2, written for transformers, and write here what they write there. They
//! come out of files that anybody may have made: one that does not end, or writes without end, is an error. So is one
//! that fails: no other takes its place, for the model has learned this one.

mod json;
mod python;
mod tags;
mod time;

use std::{collections::BTreeMap, io, sync::Arc};

use minijinja::{
    Environment, ErrorKind as Kind, UndefinedBehavior, Value, context, escape_formatter, syntax::SyntaxConfig,
    value::Serde,
};
use minijinja_contrib::filters;
use ondine_graph::{Error, ErrorKind, Result};
use serde_json::Value as Json;

pub use time::Now;

/// What a template writes.
#[derive(Clone, Debug)]
pub struct Chat<'a> {
    /// The messages as JSON: each an object with `role` and `content`, and all that templates may look for.
    pub messages: &'a [Json],
    /// The tools that may be called, as JSON schemas.
    pub tools: &'a [Json],
    /// True if the beginning of an answer is written after the messages.
    pub answer: bool,
    /// The text of the token that texts begin with.
    pub begin: &'a str,
    /// The text of the token that texts end with.
    pub end: &'a str,
    /// What this template wants to know besides, such as `enable_thinking`.
    pub options: &'a BTreeMap<String, Json>,
    /// The time that it is, for templates that write the date.
    pub now: Now,
}

/// A template of chats, read once.
#[derive(Clone, Debug)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

/// What messages call a template.
const NAME: &str = "chat template";
/// Steps that every rendering may take.
const STEPS: u64 = 5_000_000;
/// Steps that it may take besides, for each message and tool.
const STEPS_EACH: u64 = 200_000;
/// The most bytes that a template may write.
const LONGEST: usize = 256 << 20;

impl Template {
    /// Reads the text of a template.
    ///
    /// # Errors
    /// If it is not written in the language of templates, with the line.
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| told(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(|out, state, value| match json::float_text(value) {
            Some(text) => Ok(out.write_str(&text)?),
            None => escape_formatter(out, state, value),
        });
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_test("sequence", python::is_sequence);
        environment.add_filter("int", python::int);
        environment.add_filter("striptags", filters::striptags);
        environment.add_filter("string", |value: &Value| json::float_text(value).unwrap_or_else(|| value.to_string()));
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", refuse);
        environment.add_template_owned(NAME, tags::plain(source)).map_err(|error| told(&error))?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// If the template refuses it, fails, or takes more steps than conversations of its length do.
    pub fn render(&self, chat: &Chat<'_>) -> Result<String> {
        let mut environment = (*self.environment).clone();
        let parts = (chat.messages.len() + chat.tools.len()) as u64;
        environment.set_fuel(Some(STEPS.saturating_add(STEPS_EACH.saturating_mul(parts))));
        let now = chat.now;
        environment.add_function("strftime_now", move |format: &str| now.written(format));
        let tools = if chat.tools.is_empty() { Value::from(()) } else { Value::from(Serde(chat.tools)) };
        let options = chat.options.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
        let known = context! {
            messages => Value::from(Serde(chat.messages)),
            tools => tools,
            documents => (),
            add_generation_prompt => chat.answer,
            bos_token => chat.begin,
            eos_token => chat.end,
        };
        let mut written = Bounded(Vec::new());
        let template = environment.get_template(NAME).map_err(|error| told(&error))?;
        template
            .render_captured_to(context! { ..Value::from_pairs(options), ..known }, &mut written)
            .map_err(|error| told(&error))?;
        String::from_utf8(written.0).map_err(|error| Error::new(ErrorKind::Format, format!("{NAME}: {error}")))
    }
}

/// What is written, up to a limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > LONGEST {
            return Err(io::Error::other(format!("it writes more than {} MB", LONGEST >> 20)));
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What templates call to refuse a conversation.
fn refuse(message: &str) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(Kind::InvalidOperation, format!("it refuses the conversation: {message}")))
}

/// The error of a template with its line.
fn told(error: &minijinja::Error) -> Error {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let what = match (error.kind(), error.detail()) {
        (Kind::OutOfFuel, _) => "it takes more steps than a conversation of this length needs".to_owned(),
        (Kind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::new(ErrorKind::Format, format!("{NAME}{line}: {what}{cause}"))
}
