//! What all autoencoders share: what is asked of their graphs, and the facts of their latents.

use ondine_graph::{DType, Dim, Graph, Result, Value, fail};

use crate::{
    architecture::{Functions, LatentSpace},
    blocks::Module,
    config::TYPICAL_LATENTS,
};

/// What is asked of a graph.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of pictures.
    pub batch: Dim,
    /// Height of what comes in.
    pub height: Dim,
    /// Width of what comes in.
    pub width: Dim,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: "batch".into(), height: "height".into(), width: "width".into() }
    }
}

impl Options {
    /// The argument `name` with so many channels, channels-last.
    pub(super) fn input(&self, m: &mut Module<'_>, name: &str, channels: usize) -> Result<Value> {
        let Self { batch, height, width } = self.clone();
        let x = m.input(name, DType::F32, vec![batch, channels.into(), height, width]);
        m.channels_last(x)
    }
}

/// Both functions, made fast for pictures of usual sizes; `factor` is that of [`LatentSpace`].
pub(super) fn functions(mut encode: Graph, mut decode: Graph, factor: usize) -> Functions {
    for symbol in ["height", "width"] {
        encode.expect(symbol, TYPICAL_LATENTS.saturating_mul(factor));
        decode.expect(symbol, TYPICAL_LATENTS);
    }
    vec![("encode", encode), ("decode", decode)]
}

/// The most pixels that a latent may stand for, along each side.
const MAX_FACTOR: usize = 1024;

/// The facts of latents, if pictures can be made of them.
pub(super) fn checked(latents: LatentSpace) -> Result<LatentSpace> {
    let LatentSpace { factor, scaling, shift, .. } = latents;
    if factor > MAX_FACTOR {
        fail!(Unsupported, "a latent stands for {factor} pixels; the most are {MAX_FACTOR}");
    }
    if scaling == 0.0 || !scaling.is_finite() {
        fail!(Format, "`scaling_factor` is {scaling}; it must be a number other than 0");
    }
    if !shift.is_finite() {
        fail!(Format, "`shift_factor` is {shift}; it must be a number");
    }
    Ok(latents)
}
