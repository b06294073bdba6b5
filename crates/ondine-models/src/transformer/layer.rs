//! A layer: what attention and feed-forward add to the states of tokens.

use ondine_graph::{Result, Value};

use super::{
    attention::{KeysAndValues, Sequence, norm, self_attention},
    config::{Config, Layer},
    experts::{mlp, sparse_mlp},
};
use crate::blocks::Module;

/// `x` as it enters the layer, with what attention reads of it.
pub(super) fn decoder_layer(
    m: &mut Module<'_>,
    [x, h]: [Value; 2],
    keys_and_values: &KeysAndValues,
    config: &Config,
    layer: &Layer,
    sequence: &Sequence,
) -> Result<Value> {
    let names = config.norms.names();
    let h = self_attention(&mut m.at("self_attn"), h, keys_and_values, config, layer, sequence)?;
    let h = normed(m, h, config, names.after_attention)?;
    let h = scaled(m, h, config.scales.residual)?;
    let x = m.add(x, h)?;

    let h = normed(m, x, config, names.before_mlp)?;
    let h = match &config.experts {
        Some(experts) if layer.sparse => sparse_mlp(&mut m.at("mlp"), h, config, experts)?,
        _ => mlp(&mut m.at("mlp"), h, config, config.intermediate_size)?,
    };
    let h = normed(m, h, config, names.after_mlp)?;
    let h = scaled(m, h, config.scales.residual)?;
    m.add(x, h)
}

/// The norm of this name, if there is one at that place.
pub(super) fn normed(m: &mut Module<'_>, x: Value, config: &Config, name: Option<&str>) -> Result<Value> {
    name.map_or(Ok(x), |name| norm(&mut m.at(name), x, config))
}

/// `x` times a number.
pub(super) fn scaled(m: &mut Module<'_>, x: Value, scale: f32) -> Result<Value> {
    if scale == 1.0 { Ok(x) } else { m.affine(x, scale, 0.0) }
}
