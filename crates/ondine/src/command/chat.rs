//! `ondine chat`: a conversation.

mod listen;

use std::path::{Path, PathBuf};

use clap::Args;
use ondine_language::{Chat, Event, session::Options, transcript::Transcript};
use ondine_runtime::file::write_whole;

use self::listen::{COMMANDS, Listener, Said};
use super::language::{Flags, Form, Opening, cut, told};
use crate::{interrupt, output, report::usage};

/// Hold a conversation.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ondine chat
  ondine chat model.gguf --system \"You are a patient teacher.\" --temperature 0.7
  ondine chat qwen3/ --context 8192
  ondine chat model.gguf --context 32768 --kv int8

A line that ends with \\ goes on in the next one, and so does all between two lines of \"\"\"; Alt-Enter begins a line, too.
Arrow keys bring back what was written before, Ctrl-R searches it, Tab completes commands; /help lists these. Ctrl-C stops
the answer and not the program. Nothing is kept unless /save or --history is asked for.")]
pub(super) struct ChatCommand {
    /// Model: a GGUF file, a folder as transformers saves it, or a name from `ondine models list` [default:
    /// smollm2-135m]
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    // As `ask` has it.
    #[arg(short = 'm', long = "model", value_name = "MODEL", conflicts_with = "model", hide = true)]
    named: Option<String>,

    /// What the model is told to be
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,

    /// Begin with the conversation in this file, which /save wrote
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    load: Option<PathBuf>,

    /// Keep what you write in this file, to have it at hand the next time
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,

    #[command(flatten)]
    form: Form,

    /// Print nothing but answers
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    opening: Opening,
}

impl ChatCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.form.is_on_standard_input() {
            usage!("what you say is on standard input; write the form of answers to a file");
        }
        let grammar = self.form.read()?;
        let model = self.opening.open(self.model.as_ref().or(self.named.as_ref()).map(String::as_str), self.quiet)?;
        if let Some(grammar) = &grammar {
            model.guides()?.start(grammar)?;
        }
        let mut chat = Chat::new(&model, self.system.as_deref())?;
        if let Some(path) = &self.load {
            chat.transcript = read(path)?;
        }
        let cancel = interrupt::in_conversation();
        chat.session = chat.session.with_cancel(cancel);
        let mut listener = Listener::new(self.quiet, self.history.as_deref())?;
        if listener.marked() {
            output::remark(format_args!(
                "{}, a context of {} tokens; /help lists what there is",
                model.name(),
                model.context()
            ));
        }
        let mut options = self.flags.0.clone();
        options.grammar = grammar;
        loop {
            match listener.listen()? {
                Said::Over => return Ok(()),
                Said::Nothing => {}
                Said::Question(question) => self.answer(&mut chat, &question, &options),
                Said::Command(name, rest) => {
                    if !self.obey(&mut chat, &mut options, &name, &rest) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Answers a question. What fails is told, and the conversation goes on.
    fn answer(&self, chat: &mut Chat, question: &str, options: &Options) {
        interrupt::answering(true);
        let mut ends_line = true;
        let answer = chat.ask(question, options, &mut |event| {
            if let Event::Text(text) = event {
                ends_line = text.ends_with('\n');
                output::piece(text);
            }
        });
        interrupt::answering(false);
        if !ends_line {
            output::piece("\n");
        }
        if let Some(why) = answer.as_ref().ok().and_then(cut) {
            output::remark(format_args!("error: {why}"));
        }
        match answer {
            Ok(answer) if !self.quiet => {
                let context = chat.session.model().context();
                let used = chat.session.remembered().len();
                output::remark(format_args!("[{}; {used} of {context} used]", told(&answer.usage, answer.reason)));
            }
            Ok(_) => {}
            Err(error) => output::remark(format_args!("error: {error}; /clear or /undo makes room")),
        }
    }

    /// Does what a command asks for; false, if it is to leave. What fails is told.
    fn obey(&self, chat: &mut Chat, options: &mut Options, name: &str, rest: &str) -> bool {
        let done = match (name, rest) {
            ("/quit" | "/exit" | "/bye", _) => return false,
            ("/help" | "/?", _) => {
                COMMANDS.iter().for_each(|(name, what)| output::line(format_args!("{name:16} {what}")));
                Ok(())
            }
            ("/clear", _) => {
                chat.transcript.clear();
                Ok(())
            }
            ("/system", "") => {
                output::line(chat.transcript.system().unwrap_or("nothing"));
                Ok(())
            }
            ("/system", text) => {
                chat.transcript = Transcript::with_system(Some(text));
                Ok(())
            }
            ("/undo", _) => {
                last_question(&mut chat.transcript);
                Ok(())
            }
            ("/again", _) => {
                if let Some(question) = last_question(&mut chat.transcript) {
                    // Another draw, not the same one.
                    options.sampling.seed = options.sampling.seed.wrapping_add(1);
                    self.answer(chat, &question, options);
                }
                Ok(())
            }
            ("/usage", _) => {
                let (used, context) = (chat.session.remembered().len(), chat.session.model().context());
                output::line(format_args!("{used} of {context} tokens"));
                Ok(())
            }
            ("/save", file) if !file.is_empty() => write(Path::new(file), &chat.transcript),
            ("/load", file) if !file.is_empty() => read(Path::new(file)).map(|read| chat.transcript = read),
            _ => Err(anyhow::anyhow!("there is no such command; /help lists them, and a blank before / says it")),
        };
        if let Err(error) = done {
            output::remark(format_args!("error: {name}: {error:#}"));
        }
        true
    }
}

/// Takes the last question out of a conversation, with all that follows.
fn last_question(transcript: &mut Transcript) -> Option<String> {
    let is_question =
        |message: &ondine_language::transcript::Message| message.role == ondine_language::transcript::Role::User;
    let at = transcript.messages.iter().rposition(is_question)?;
    let question = transcript.messages.drain(at..).next();
    question.map(|message| message.content)
}

fn write(path: &Path, transcript: &Transcript) -> anyhow::Result<()> {
    let json = transcript.to_json()?;
    write_whole(path, |out| Ok(std::io::Write::write_all(out, json.as_bytes())?))?;
    output::remark(format_args!("{}: written", path.display()));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Transcript> {
    let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    Transcript::from_json(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}
