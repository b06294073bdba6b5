//! The stages on the disk: an [`Asset`](crate::Asset) as a folder that any machine reads, a
//! [`Specialized`](crate::Specialized) as one file for one tier of processors.
//!
//! A graph is stored as its nodes and built again through shape inference, so a file cannot hold a node that no
//! builder could have made. Weights lie aligned and are mapped where they are.

pub(crate) mod check;
pub(crate) mod folder;
pub(crate) mod graph;
pub(crate) mod names;
pub(crate) mod packed;
pub(crate) mod specialized;
pub(crate) mod tensors;
