//! Graphs of tensor operators: built or imported, specialized for this machine, planned in memory, run.
mod bytes;
mod cache;
mod dim;
mod dtype;
mod error;
pub mod file;
mod graph;
mod infer;
mod mmap;
mod ndarray;
mod op;
mod pass;
mod weights;

pub use bytes::Bytes;
pub use cache::{Cache, Digest};
pub use dim::{Bindings, Dim, Shape};
pub use dtype::DType;
pub use error::{Context, Error, ErrorKind, Result};
pub use graph::{Graph, Node, StateSlot, Value, Weight};
pub use infer::Signature;
pub use ndarray::{AlignedBytes, Element, NDArray, element_count};
pub use op::{Activation, Attention, Binary, Conv2d, Epilogue, Mask, Op, Reduce, Resample, Unary, WeightId};
pub use pass::plan::Plan;
pub use weights::{Tensor, Weights, write_safetensors};
