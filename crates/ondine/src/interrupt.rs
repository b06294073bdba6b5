//! Signals: the first Ctrl-C or TERM stops the running function before its next operator, and the process within
//! [`PATIENCE`] whatever it does; a second one ends it at once. Nothing half-written stays.
//!
//! In a conversation, Ctrl-C stops the answer that is under way, and nothing else ([`in_conversation`]).
//!
//! A hang-up has its usual effect, so that `nohup` has its own.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use ondine_graph::file::discard_unfinished;
use ondine_runtime::{Cancel, ErrorKind};

use crate::output;

/// How long the work may go on after the first signal: single operators can take many seconds.
const PATIENCE: Duration = Duration::from_millis(800);

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt = 2,
    /// What `kill` and service managers send.
    Terminate = 15,
}

impl Signal {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a process that it ended, as shells have it.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self as u8
    }
}

/// The number of the first signal that came.
static FIRST: AtomicU8 = AtomicU8::new(0);

/// The signal that made the work fail with `error`.
pub(crate) fn stopped(error: &anyhow::Error) -> Option<Signal> {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<ondine_runtime::Error>()).map(|error| error.kind());
    if kind != Some(ErrorKind::Cancelled) {
        return None;
    }
    [Signal::Interrupt, Signal::Terminate].into_iter().find(|&signal| signal as u8 == FIRST.load(Ordering::Relaxed))
}

/// What stops answers, once there is a conversation.
static CONVERSATION: OnceLock<Cancel> = OnceLock::new();
/// True while an answer is under way.
static ANSWERING: AtomicBool = AtomicBool::new(false);

/// From now on, Ctrl-C stops answers and not the program, by the wish that this yields.
pub(crate) fn in_conversation() -> Cancel {
    CONVERSATION.get_or_init(Cancel::default).clone()
}

/// Notes whether an answer is under way.
pub(crate) fn answering(under_way: bool) {
    ANSWERING.store(under_way, Ordering::Relaxed);
}

/// True if a signal was for the conversation alone.
fn is_for_answer(signal: Signal) -> bool {
    let Some(conversation) = CONVERSATION.get().filter(|_| signal == Signal::Interrupt) else { return false };
    if ANSWERING.load(Ordering::Relaxed) {
        conversation.cancel();
    } else {
        output::remark("Ctrl-C stops answers; /quit or Ctrl-D leaves");
    }
    true
}

/// Notes a signal. The first is a wish; yields false for a second one.
fn first(signal: Signal, wish: &Cancel) -> bool {
    let first = FIRST.compare_exchange(0, signal as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    wish.close();
    first
}

/// Says once that a signal stopped the work.
pub(crate) fn say(signal: Signal) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        output::remark(format_args!("error: stopped by {}", signal.name()));
    }
}

/// The error of a command that a signal has stopped.
pub(crate) fn cancelled() -> anyhow::Error {
    ondine_runtime::Error::new(ErrorKind::Cancelled, "stopped on request").into()
}

/// Ends the process, with nothing left of what was under way.
fn end(signal: Signal) -> ! {
    say(signal);
    discard_unfinished();
    std::process::exit(signal.exit_code().into())
}

/// The wish to stop, which signals express from the first call on.
pub(crate) fn wish() -> Cancel {
    static WISH: OnceLock<Cancel> = OnceLock::new();
    let begin = || {
        #[cfg(unix)]
        // A file that would grow beyond `ulimit -f` then is an error of writing, which says where.
        let _ = signal_hook::flag::register(libc::SIGXFSZ, Arc::default());
        let wish = Cancel::default();
        watch(wish.clone());
        wish
    };
    WISH.get_or_init(begin).clone()
}

/// Until the thread that watches has begun, and without one to spare, signals have their usual effect.
#[cfg(unix)]
fn watch(wish: Cancel) {
    use std::{io::IsTerminal, thread, time::Instant};

    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };

    let named = |number| if number == SIGTERM { Signal::Terminate } else { Signal::Interrupt };
    let watch = move || {
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
        let others = |signal: &Signal| !is_for_answer(*signal);
        let Some(signal) = signals.forever().map(named).find(others) else { return };
        first(signal, &wish);
        if std::io::stderr().is_terminal() {
            output::remark("stopping; a second one ends it at once");
        }
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(second) = signals.pending().next() {
                end(named(second));
            }
            thread::sleep(Duration::from_millis(10));
        }
        end(signal);
    };
    drop(thread::Builder::new().name("signals".into()).stack_size(128 << 10).spawn(watch));
}

#[cfg(not(unix))]
fn watch(wish: Cancel) {
    // Without it, Ctrl-C has its usual effect.
    let _ = ctrlc::set_handler(move || {
        if !is_for_answer(Signal::Interrupt) && !first(Signal::Interrupt, &wish) {
            end(Signal::Interrupt);
        }
    });
}
