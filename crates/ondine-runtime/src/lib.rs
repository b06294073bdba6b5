//! Graphs of tensor operators: built or imported, specialized for this machine, planned in memory, run.
//!
//! The stages of a network are types:
//!
//! - [`Graph`]: one function as [`Op`]s, its sizes [`Dim`]s that a call may bind
//! - [`Asset`]: named functions over one checkpoint ([`Weights`]), of no particular machine
//! - [`Prepared`]: rewritten for a [`Device`]; all memory is known ([`Plan`]), no weight is touched yet
//! - [`Specialized`]: weights packed, or mapped from the [`Cache`] of an earlier start
//! - [`Model`] and [`Function`]: callable with [`NDArray`]s and the caller's [`State`], from many threads
//! - [`Stream`]: calls in a queue, to be awaited
//!
//! Passes rewrite graphs between the stages; one executor runs them all. The crate knows operators, never a model.
//!
//! ```
//! use ondine_runtime::{Activation, Asset, DType, Device, Graph, NDArray, Options, State, Tensor, Weights};
//!
//! # fn main() -> ondine_runtime::Result<()> {
//! let mut graph = Graph::new();
//! let x = graph.input("x", DType::F32, [ondine_runtime::Dim::symbol("rows"), 2.into()]);
//! let weight = graph.weight("layer.weight", &[1, 2])?;
//! let y = graph.linear(x, weight, None)?;
//! let y = graph.activation(Activation::Relu, y)?;
//! graph.output("y", y);
//!
//! let mut weights = Weights::default();
//! let bytes: Vec<u8> = [3.0_f32, -1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let tensor = Tensor { dtype: DType::F32, shape: vec![1, 2], bytes: bytes.as_slice().into(), file: "memory".into() };
//! weights.insert("layer.weight", tensor);
//!
//! let asset = Asset::new("example", [("main", graph)], weights)?;
//! let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load();
//! let x = NDArray::new(&[2, 2], &[1.0_f32, 2.0, 2.0, 9.0])?;
//! let mut outputs = model.function("main")?.run(&[("x", &x)], &mut State::default())?;
//! assert_eq!(outputs.take("y")?.view::<f32>()?, [1.0, 0.0]);
//! # Ok(())
//! # }
//! ```

mod asset;
mod bytes;
mod cache;
pub mod compress;
mod cpu;
mod derived;
mod device;
mod dim;
mod disk;
mod dtype;
mod encoding;
mod error;
pub mod file;
mod graph;
mod infer;
mod mmap;
mod model;
mod ndarray;
mod npy;
mod observe;
mod op;
mod pass;
mod pool;
pub mod profile;
pub mod pt2;
mod run;
pub mod sample;
mod specialize;
mod steps;
mod stream;
mod weights;
mod window;

pub use asset::Asset;
pub use bytes::Bytes;
pub use cache::{Cache, CacheEntry, Digest};
pub use device::{Cancel, Device};
pub use dim::{Bindings, Dim, DimPair, Shape};
pub use disk::packed::About;
pub use dtype::DType;
pub use error::{Context, Error, ErrorKind, Result};
pub use graph::{Frame, Graph, Named, Node, Origin, StateSlot, Value, Weight};
pub use infer::Signature;
pub use model::{Function, Model, Outputs, State};
pub use ndarray::{AlignedBytes, Element, NDArray, element_count};
pub use observe::{Moment, Tap};
pub use ondine_kernels::Tier;
pub use op::{
    Activation, Attention, Binary, Cell, Conv2d, Epilogue, Fold, Function as Elementary, Interpolation, Kernel, Loop,
    Mask, Op, Pooling, Prologue, Reduce, Resample, Scan, Scatter, Unary, WeightId, Window,
};
pub use pass::plan::Plan;
pub use specialize::{Options, Precision, Prepared, Specialized};
pub use stream::{Pending, Stream};
pub use weights::{Tensor, Weights, write_safetensors};
