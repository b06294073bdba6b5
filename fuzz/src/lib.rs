//! What the targets share: how models are called that nobody should have written, how several files are one input, and
//! how JSON is changed so that most of it stays whole.

pub mod built;
pub mod bundle;
pub mod call;
pub mod folder;
pub mod json;
pub mod mutate;
pub mod seeds;
pub mod targets;
