//! The gated inverted bottleneck of Sana and of its autoencoder (Xie et al. 2024): a feed-forward over feature maps
//! that looks at neighbours.

use ondine_graph::{Activation, Conv2d, Result, Value};

use super::{
    layers::{conv_same, conv2d},
    module::Module,
};

/// `GLUMBConv` of diffusers without norm and residual: `x` `[b, h, w, c]`, `hidden` wide inside, to the same.
///
/// # Errors
/// If the shapes do not fit.
pub fn inverted_bottleneck(m: &mut Module<'_>, x: Value, hidden: usize) -> Result<Value> {
    let (channels, both) = (m.width(x)?, 2 * hidden);
    let h = conv_same(&mut m.at("conv_inverted"), x, both, 1)?;
    let h = m.activation(Activation::Silu, h)?;
    let depthwise = Conv2d { groups: both, ..Conv2d::same(3) };
    let h = conv2d(&mut m.at("conv_depth"), h, [both, 3], depthwise, true)?;
    let h = m.glu(h, Activation::Silu)?;
    conv2d(&mut m.at("conv_point"), h, [channels, 1], Conv2d::same(1), false)
}
