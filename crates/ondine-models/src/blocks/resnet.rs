//! Residual convolution blocks, and what halves and doubles feature maps between them.

use ondine_runtime::{Activation, Conv2d, Dim, Graph, Resample, Result, Value};

use super::{Path, conv_same, conv2d, group_norm, linear, width};

/// The facts of a residual block.
#[derive(Clone, Copy, Debug)]
pub struct ResnetSpec {
    /// Groups of both norms.
    pub groups: usize,
    /// Added to the variance in both norms.
    pub eps: f32,
    /// After both norms, and before the projection of the time.
    pub activation: Activation,
    /// The embedded time `[b, any]`, if the network has one.
    pub time: Option<Value>,
    /// True if the time scales and shifts the second norm (Nichol and Dhariwal 2021), false if it is added before.
    pub scale_shift: bool,
    /// What the sum of block and residual is divided by.
    pub output_scale: f32,
}

/// `ResnetBlock2D` of diffusers: `[b, h, w, in]` to `[b, h, w, out]`.
///
/// # Errors
/// If the groups do not divide the channels.
pub fn resnet(g: &mut Graph, w: &Path, x: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let h = group_norm(g, &w.at("norm1"), x, spec.groups, spec.eps)?;
    let h = g.activation(spec.activation, h)?;
    let mut h = conv_same(g, &w.at("conv1"), h, out, 3)?;
    let time = match spec.time {
        Some(time) => Some(project_time(g, &w.at("time_emb_proj"), time, out, spec)?),
        None => None,
    };
    if let Some(time) = time.filter(|_| !spec.scale_shift) {
        h = g.add(h, time)?;
    }
    h = group_norm(g, &w.at("norm2"), h, spec.groups, spec.eps)?;
    if let Some(time) = time.filter(|_| spec.scale_shift) {
        let scale = g.slice(time, 3, 0, out)?;
        let scale = g.affine(scale, 1.0, 1.0)?;
        let shift = g.slice(time, 3, out, 2 * out)?;
        h = g.mul(h, scale)?;
        h = g.add(h, shift)?;
    }
    h = g.activation(spec.activation, h)?;
    h = conv_same(g, &w.at("conv2"), h, out, 3)?;
    let shortcut = if width(g, x)? == out { x } else { conv_same(g, &w.at("conv_shortcut"), x, out, 1)? };
    w.enter(g);
    let sum = g.add(h, shortcut)?;
    if spec.output_scale == 1.0 { Ok(sum) } else { g.affine(sum, 1.0 / spec.output_scale, 0.0) }
}

/// The embedded time as `[b, 1, 1, out]`, or twice as wide if it scales and shifts.
fn project_time(g: &mut Graph, w: &Path, time: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let out = if spec.scale_shift { 2 * out } else { out };
    w.enter(g);
    let time = g.activation(spec.activation, time)?;
    let time = linear(g, w, time, out, true)?;
    let batch = g.dim(time, 0);
    g.reshape(time, vec![batch, 1.into(), 1.into(), out.into()])
}

/// `Downsample2D` of diffusers: a 3x3 convolution of stride 2 that keeps the channels.
///
/// Without `padding` one row and column of zeros are added at the bottom and right, as in diffusers.
///
/// # Errors
/// If the shapes do not fit.
pub fn downsample(g: &mut Graph, w: &Path, x: Value, padding: usize) -> Result<Value> {
    let padding = if padding == 0 { [0, 1, 0, 1] } else { [padding; 4] };
    let conv = Conv2d { stride: [2; 2], padding, ..Conv2d::default() };
    let channels = width(g, x)?;
    conv2d(g, &w.at("conv"), x, [channels, 3], conv, true)
}

/// `Upsample2D` of diffusers: `x` repeated to `size` (height, width), then a 3x3 convolution `w` that keeps the
/// channels.
///
/// # Errors
/// If the shapes do not fit.
pub fn upsample(g: &mut Graph, w: &Path, x: Value, size: [Dim; 2], bias: bool) -> Result<Value> {
    let channels = width(g, x)?;
    let doubled = [1, 2].map(|axis| &g.dim(x, axis) * 2);
    if doubled == size {
        return conv2d(g, w, x, [channels, 3], Conv2d { upsample: true, ..Conv2d::same(3) }, bias);
    }
    w.enter(g);
    let [height, columns] = size;
    let x = g.resize(x, Resample::Nearest, height, columns)?;
    conv2d(g, w, x, [channels, 3], Conv2d::same(3), bias)
}
