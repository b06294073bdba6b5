//! Text from text: what language models make of a conversation.
//!
//! | to | use |
//! |---|---|
//! | write a conversation as a model wants it | [`template::Template`] |

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod template;
