//! What a network computes, apart from the machine that runs it.
//!
//! - [`Graph`]: one function as [`Op`]s on typed values ([`Signature`]), its sizes [`Dim`]s that a call may bind
//! - [`Weights`]: the tensors of a checkpoint, mapped, in whatever type the file holds ([`encoding`] for few bits)
//! - [`Recipes`](recipe::Recipes): weights that are computed from those of the checkpoint, as data
//! - [`sample`]: inputs for a graph of which nothing else is known
//! - [`rewrite`]: how a graph becomes another one; passes, gradients and adapters ([`adapt`]) are built on it
//! - [`Asset`]: named functions over one checkpoint, the one thing that importers hand to whoever runs them; as a
//!   folder on the disk by [`Asset::save`] and [`Asset::open`]
//!
//! Nothing here knows a kernel, a device, a thread or a cache, and no operator says how it is computed.
//!
//! ```
//! use ondine_graph::{Activation, Asset, DType, Dim, Graph, Tensor, Weights};
//!
//! # fn main() -> ondine_graph::Result<()> {
//! let mut graph = Graph::new();
//! let x = graph.input("x", DType::F32, [Dim::symbol("rows"), 2.into()]);
//! let weight = graph.weight("layer.weight", &[1, 2])?;
//! let y = graph.linear(x, weight, None)?;
//! let y = graph.activation(Activation::Relu, y)?;
//! graph.output("y", y);
//! assert_eq!(graph.shape(y).to_string(), "[rows, 1]");
//!
//! let mut weights = Weights::default();
//! let bytes: Vec<u8> = [3.0_f32, -1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let tensor = Tensor { dtype: DType::F32, shape: vec![1, 2], bytes: bytes.as_slice().into(), file: "memory".into() };
//! weights.insert("layer.weight", tensor);
//! let asset = Asset::new("example", [("main", graph)], weights)?;
//! assert_eq!(asset.parameters(), 2);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod adapt;
mod aligned;
pub mod archive;
mod asset;
pub mod block;
mod build;
mod bytes;
mod dim;
mod dtype;
pub mod encoding;
mod error;
pub mod file;
mod float8;
pub mod folder;
mod graph;
mod guard;
pub mod infer;
mod mmap;
mod ndarray;
mod npy;
mod number;
mod op;
mod origin;
pub mod portable;
pub mod recipe;
pub mod rewrite;
pub mod sample;
mod shape;
mod signature;
pub mod weights;

pub use aligned::{AlignedBytes, memory_may_be_refused};
pub use asset::Asset;
pub use bytes::Bytes;
pub use dim::{Bindings, Comparison, Condition, Dim, DimPair, Real, RealFunction, RealPair, Rounding};
pub use dtype::DType;
pub use error::{Context, Error, ErrorKind, Result};
pub use float8::Float8;
pub use graph::{Graph, Loop, Named, Node, StateSlot, Value, Weight};
pub use guard::Guard;
pub use mmap::say_what_was_cut;
pub use ndarray::{Element, NDArray, element_count};
pub use op::{
    Activation, Attention, Binary, Cell, Conv2d, Elementary, Epilogue, Fold, Interpolation, Kernel, LoopId, Mask,
    Native, Op, PlacedWindows, Pooling, Reduce, Region, Regions, Resample, Scan, Scatter, Sources, Unary, WeightId,
    Window,
};
pub use origin::{Frame, Origin};
pub use shape::Shape;
pub use signature::Signature;
pub use weights::{Tensor, Weights, write_safetensors, write_safetensors_with};
