//! The machine room: assets specialized for a machine, planned in memory, run.
//!
//! What comes in is an [`Asset`]: named functions over one checkpoint, of no particular machine. From there on, stages
//! are types:
//!
//! - [`Prepared`]: rewritten for a [`Device`]; all memory is known ([`Plan`]), no number of a weight is read yet
//! - [`Specialized`]: weights packed, or mapped from the [`Cache`] of an earlier start
//! - [`Model`] and [`Function`]: callable with [`NDArray`]s and the caller's [`State`], from many threads
//! - [`Stream`]: calls in a queue, to be awaited
//!
//! A device is a [`backend::Backend`]: the CPU is one, and other crates bring theirs. One executor runs them all;
//! control flow, profiles and taps are its own. The crate knows operators, never a model.
//!
//! ```
//! use ondine_runtime::{Activation, Asset, DType, Device, Graph, NDArray, Options, Specialize, State, Tensor, Weights};
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
//! let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?;
//! let x = NDArray::new(&[2, 2], &[1.0_f32, 2.0, 2.0, 9.0])?;
//! let mut outputs = model.function("main")?.run(&[("x", &x)], &mut State::default())?;
//! assert_eq!(outputs.take("y")?.view::<f32>()?, [1.0, 0.0]);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod backend;
mod built;
mod call;
mod cancel;
pub mod compress;
mod cost;
mod cpu;
mod device;
mod evaluate;
mod exec;
mod fetch;
mod lowered;
mod model;
mod observe;
mod options;
mod pack;
mod pass;
mod placed;
mod plan;
mod plans;
pub mod profile;
mod specialize;
mod state;
pub mod step;
mod store;
mod stream;

pub use cancel::{Cancel, Wish};
pub use cost::cost;
pub use cpu::{Processor, Tier};
pub use device::Device;
pub use evaluate::weight_numbers;
pub use model::{Function, Model};
pub use observe::{Moment, Tap};
pub use ondine_graph::*;
pub use options::{Options, Precision};
pub use placed::{Assign, Placed};
pub use specialize::{Prepared, Specialize, Specialized};
pub use state::{Outputs, State};
pub use step::Plan;
pub use store::{
    cache::{Cache, CacheEntry, Digest},
    packed::About,
};
pub use stream::{Pending, Stream};
