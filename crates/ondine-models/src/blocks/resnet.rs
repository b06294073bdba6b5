//! Residual convolution blocks, and what halves and doubles feature maps between them.

use ondine_graph::{Activation, Conv2d, Dim, Resample, Result, Value};

use super::{
    layers::{conv_same, conv2d, group_norm, linear},
    module::Module,
};

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
pub fn resnet(m: &mut Module<'_>, x: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let h = group_norm(&mut m.at("norm1"), x, spec.groups, spec.eps)?;
    let h = m.activation(spec.activation, h)?;
    let mut h = conv_same(&mut m.at("conv1"), h, out, 3)?;
    let time = match spec.time {
        Some(time) => Some(project_time(&mut m.at("time_emb_proj"), time, out, spec)?),
        None => None,
    };
    if let Some(time) = time.filter(|_| !spec.scale_shift) {
        h = m.add(h, time)?;
    }
    h = group_norm(&mut m.at("norm2"), h, spec.groups, spec.eps)?;
    if let Some(time) = time.filter(|_| spec.scale_shift) {
        let scale = m.slice(time, 3, 0, out)?;
        let scale = m.affine(scale, 1.0, 1.0)?;
        let shift = m.slice(time, 3, out, 2 * out)?;
        h = m.mul(h, scale)?;
        h = m.add(h, shift)?;
    }
    h = m.activation(spec.activation, h)?;
    h = conv_same(&mut m.at("conv2"), h, out, 3)?;
    let shortcut = if m.width(x)? == out { x } else { conv_same(&mut m.at("conv_shortcut"), x, out, 1)? };
    let sum = m.add(h, shortcut)?;
    if spec.output_scale == 1.0 { Ok(sum) } else { m.affine(sum, 1.0 / spec.output_scale, 0.0) }
}

/// The embedded time as `[b, 1, 1, out]`, or twice as wide if it scales and shifts.
fn project_time(m: &mut Module<'_>, time: Value, out: usize, spec: &ResnetSpec) -> Result<Value> {
    let out = if spec.scale_shift { 2 * out } else { out };
    let time = m.activation(spec.activation, time)?;
    let time = linear(m, time, out, true)?;
    let batch = m.dim(time, 0);
    m.reshape(time, vec![batch, 1.into(), 1.into(), out.into()])
}

/// `Downsample2D` of diffusers: a 3x3 convolution of stride 2 that keeps the channels.
///
/// Without `padding` one row and column of zeros are added at the bottom and right, as in diffusers.
///
/// # Errors
/// If the shapes do not fit.
pub fn downsample(m: &mut Module<'_>, x: Value, padding: usize) -> Result<Value> {
    let padding = if padding == 0 { [0, 1, 0, 1] } else { [padding; 4] };
    let conv = Conv2d { stride: [2; 2], padding, ..Conv2d::default() };
    let channels = m.width(x)?;
    conv2d(&mut m.at("conv"), x, [channels, 3], conv, true)
}

/// `Upsample2D` of diffusers: `x` repeated to `size` (height, width), then a 3x3 convolution `w` that keeps the
/// channels.
///
/// # Errors
/// If the shapes do not fit.
pub fn upsample(m: &mut Module<'_>, x: Value, size: [Dim; 2], bias: bool) -> Result<Value> {
    let channels = m.width(x)?;
    let doubled = [1, 2].map(|axis| &m.dim(x, axis) * 2);
    if doubled == size {
        return conv2d(m, x, [channels, 3], Conv2d { upsample: true, ..Conv2d::same(3) }, bias);
    }
    let [height, columns] = size;
    let x = m.resize(x, Resample::Nearest, height, columns)?;
    conv2d(m, x, [channels, 3], Conv2d::same(3), bias)
}
