//! The layers and blocks that architectures are made of, each written once.
//!
//! A block takes the graph, the [`Path`] of its module in the checkpoint and its input, and yields its output.
//! Input widths are read off the input; only what the checkpoint adds is passed. Feature maps are channels-last,
//! `[batch, height, width, channels]`; sequences are `[batch, tokens, width]`.

mod attention;
mod resnet;
mod time;

pub use attention::{AttentionSpec, Projections, Transformer2D, attention, feed_forward, geglu, transformer_2d};
pub use resnet::{ResnetSpec, downsample, resnet, upsample};
pub use time::{sinusoid, timestep_embedding};

use std::fmt;

use ondine_runtime::{Conv2d, Dim, Graph, Result, Value};

use crate::fail;

/// The path of a module in the checkpoint, such as `down_blocks.0.resnets.1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The network itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The module `part` inside this one.
    #[must_use]
    pub fn at(&self, part: impl fmt::Display) -> Self {
        if self.0.is_empty() { Self(part.to_string()) } else { Self(format!("{}.{part}", self.0)) }
    }

    /// Names this module in the graph: the nodes to come stand for it.
    pub fn enter(&self, g: &mut Graph) {
        g.enter(self.0.as_str());
    }

    /// The tensor `name` of this module, of shape `shape`.
    ///
    /// # Errors
    /// If the graph uses it with another shape already.
    pub fn tensor(&self, g: &mut Graph, name: &str, shape: &[usize]) -> Result<Value> {
        g.weight(&self.at(name).0, shape)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last dimension of `x`: its channels or features.
///
/// # Errors
/// If it is not known before the call.
pub fn width(g: &Graph, x: Value) -> Result<usize> {
    match g.shape(x).last()?.fixed() {
        Some(width) => Ok(width),
        None => fail!(Shape, "the width of {} must be known", g.shape(x)),
    }
}

/// `torch.nn.Linear`: `[.., in]` to `[.., out]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(g: &mut Graph, w: &Path, x: Value, out: usize, bias: bool) -> Result<Value> {
    w.enter(g);
    let weight = w.tensor(g, "weight", &[out, width(g, x)?])?;
    let bias = if bias { Some(w.tensor(g, "bias", &[out])?) } else { None };
    g.linear(x, weight, bias)
}

/// `torch.nn.Conv2d` with a square `kernel`: `[b, h, w, in]` to `[b, h', w', out]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(g: &mut Graph, w: &Path, x: Value, [out, kernel]: [usize; 2], conv: Conv2d, bias: bool) -> Result<Value> {
    w.enter(g);
    let weight = w.tensor(g, "weight", &[out, width(g, x)?, kernel, kernel])?;
    let bias = if bias { Some(w.tensor(g, "bias", &[out])?) } else { None };
    g.conv2d(x, weight, bias, conv)
}

/// A convolution with a bias that keeps height and width, for an odd `kernel`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv_same(g: &mut Graph, w: &Path, x: Value, out: usize, kernel: usize) -> Result<Value> {
    conv2d(g, w, x, [out, kernel], Conv2d::same(kernel), true)
}

/// `torch.nn.LayerNorm` over the last dimension (Ba et al. 2016).
///
/// # Errors
/// If the shapes do not fit.
pub fn layer_norm(g: &mut Graph, w: &Path, x: Value, eps: f32) -> Result<Value> {
    w.enter(g);
    let [weight, bias] = scale_and_shift(g, w, x)?;
    g.layer_norm(x, weight, bias, eps)
}

/// `torch.nn.GroupNorm` over groups of channels (Wu and He 2018).
///
/// # Errors
/// If `groups` does not divide the channels.
pub fn group_norm(g: &mut Graph, w: &Path, x: Value, groups: usize, eps: f32) -> Result<Value> {
    w.enter(g);
    let [weight, bias] = scale_and_shift(g, w, x)?;
    g.group_norm(x, weight, bias, groups, eps)
}

fn scale_and_shift(g: &mut Graph, w: &Path, x: Value) -> Result<[Value; 2]> {
    let width = width(g, x)?;
    Ok([w.tensor(g, "weight", &[width])?, w.tensor(g, "bias", &[width])?])
}

/// `torch.nn.Embedding`: integer `indices` `[..]` to `[.., width]`, the rows of a table `[rows, width]`.
///
/// # Errors
/// If `indices` are no integers.
pub fn embedding(g: &mut Graph, w: &Path, indices: Value, table: [usize; 2]) -> Result<Value> {
    w.enter(g);
    let table = w.tensor(g, "weight", &table)?;
    g.gather(table, indices)
}

/// A learned table of positions: its first `tokens` rows, `[tokens, width]`.
///
/// # Errors
/// If `tokens` is known to exceed the table.
pub fn positions(g: &mut Graph, w: &Path, tokens: Dim, table: [usize; 2]) -> Result<Value> {
    w.enter(g);
    let table = w.tensor(g, "weight", &table)?;
    g.slice(table, 0, 0, tokens)
}
