//! Text from text: what language models make of a conversation.
//!
//! | to | use |
//! |---|---|
//! | go on with several texts at once | [`batch::Batch`] |
//! | hold a conversation | [`chat::Chat`] |
//! | go on with any text, remember what was read of it | [`session::Session`] |
//! | choose how tokens are drawn | [`sample::Sampling`] |
//! | offer all that can be asked for | [`option::OPTIONS`] |
//! | have answers of a form: JSON of a schema, a grammar | [`guide::Grammar`] |
//! | open a model | [`model::Model`] |
//! | write a conversation as a model wants it | [`template::Template`] |
//! | measure how well a model knows a text | [`perplexity::perplexity`] |
//! | guess tokens, so that the model is called less often | [`draft::Drafter`] |
//! | ask what benchmarks ask | [`eval::Benchmark`] |
//! | compare what texts mean | [`embed::Embedder`] |
//! | keep what was said | [`transcript::Transcript`] |
//!
//! Templates, sampling and texts that end answers know no model, and are tested alone. Errors are those of
//! [`ondine_graph`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod batch;
pub mod chat;
pub mod draft;
pub mod draft_model;
pub mod embed;
pub mod eval;
pub mod guide;
pub mod model;
mod network;
pub mod option;
pub mod perplexity;
pub mod sample;
pub mod session;
pub mod stop;
pub mod template;
pub mod transcript;

pub use batch::Batch;
pub use chat::Chat;
pub use model::Model;
pub use session::{Answer, Event, Session};
