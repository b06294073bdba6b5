//! What all autoencoders share: what is asked of their graphs, and the facts of their latents.

use ondine_graph::{DType, Dim, Graph, Result, Value, fail};

use crate::{
    architecture::{Functions, LatentSpace},
    blocks::Module,
    config::{TYPICAL_LATENTS, same_length},
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

/// What configs say of latents.
pub(super) struct Latents {
    pub(super) factor: usize,
    pub(super) channels: usize,
    pub(super) colors: usize,
    pub(super) scaling: f32,
    pub(super) shift: Option<f32>,
    pub(super) mean: Option<Vec<f32>>,
    pub(super) std: Option<Vec<f32>>,
}

impl Latents {
    /// The facts of the latents, if pictures can be made of them.
    pub(super) fn space(self) -> Result<LatentSpace> {
        let Self { factor, channels, colors, scaling, shift, mean, std } = self;
        if factor > MAX_FACTOR {
            fail!(Unsupported, "a latent stands for {factor} pixels; the most are {MAX_FACTOR}");
        }
        if scaling == 0.0 || !scaling.is_finite() {
            fail!(Format, "`scaling_factor` is {scaling}; it must be a number other than 0");
        }
        let shift = shift.unwrap_or(0.0);
        if !shift.is_finite() {
            fail!(Format, "`shift_factor` is {shift}; it must be a number");
        }
        let (scaling, shift) = match (mean, std) {
            (None, None) => (vec![scaling; channels], vec![shift; channels]),
            (Some(mean), Some(std)) if shift == 0.0 => {
                same_length("latents_mean", &mean, channels)?;
                same_length("latents_std", &std, channels)?;
                if !(mean.iter().all(|x| x.is_finite()) && std.iter().all(|x| x.is_normal() && *x > 0.0)) {
                    fail!(Format, "`latents_mean` and `latents_std` must be numbers, the latter above 0");
                }
                (std.iter().map(|std| scaling / std).collect(), mean)
            }
            (Some(_), Some(_)) => fail!(Unsupported, "`shift_factor` beside `latents_mean` is not supported; give one"),
            _ => fail!(Format, "`latents_mean` and `latents_std` go together; give both or none"),
        };
        Ok(LatentSpace { factor, channels, colors, scaling, shift })
    }
}
