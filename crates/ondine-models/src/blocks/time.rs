//! Sinusoids of a timestep, and the small network that embeds them.

use ondine_graph::{Activation, NDArray, Op, Result, Unary, Value, fail};

use super::{layers::linear, module::Module};

/// Sinusoids of each number of `t` `[..]` as `[.., dim]` (Vaswani et al. 2017; `get_timestep_embedding` of
/// diffusers), with a longest period of 10000.
///
/// Sines come first, cosines first if `flip_sin_to_cos`. Frequency `i` of `n = dim / 2` is
/// `10000^(-i / (n - freq_shift))`; an odd `dim` ends in a zero.
///
/// # Errors
/// If `freq_shift` leaves no frequencies.
pub fn sinusoid(m: &mut Module<'_>, t: Value, dim: usize, flip_sin_to_cos: bool, freq_shift: f32) -> Result<Value> {
    let half = dim / 2;
    let divisor = half as f32 - freq_shift;
    if half == 0 || !(divisor.is_finite() && divisor > 0.0) {
        fail!(Shape, "`freq_shift` = {freq_shift} does not fit {half} frequencies");
    }
    // Rounded like PyTorch, whose exponent is f32: at t = 999 the last bit of a frequency shows.
    let frequency = |i: usize| f64::from(-(10_000_f64.ln() as f32) * i as f32 / divisor).exp() as f32;
    let frequencies = m.constant(NDArray::new(&[half], &(0..half).map(frequency).collect::<Vec<_>>())?);

    let mut shape = m.shape(t).clone();
    shape.0.push(1.into());
    let rank = shape.rank();
    let t = m.reshape(t, shape)?;
    let angles = m.mul(t, frequencies)?;
    let sin = m.unary(Unary::Sin, angles)?;
    let cos = m.unary(Unary::Cos, angles)?;
    let waves = m.concat(&if flip_sin_to_cos { [cos, sin] } else { [sin, cos] }, rank - 1)?;
    if dim.is_multiple_of(2) {
        return Ok(waves);
    }
    let mut amounts = vec![[0, 0]; rank];
    amounts[rank - 1] = [0, 1];
    m.push(Op::Pad { amounts }, &[waves])
}

/// `TimestepEmbedding` of diffusers: two linear layers, with biases if `bias` says so, around an activation: `[b, any]`
/// to `[b, out]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn timestep_embedding(
    m: &mut Module<'_>,
    x: Value,
    out: usize,
    activation: Activation,
    bias: bool,
) -> Result<Value> {
    let x = linear(&mut m.at("linear_1"), x, out, bias)?;
    let x = m.activation(activation, x)?;
    linear(&mut m.at("linear_2"), x, out, bias)
}

/// What leads a transformer besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The timestep, `[b]`, 0 to 1000.
    pub timestep: Value,
    /// The guidance scale of networks distilled with guidance, `[b]`, as the timestep is counted.
    pub guidance: Option<Value>,
    /// The vector of the whole text, `[b, any]`.
    pub pooled: Value,
}

/// `CombinedTimestepTextProjEmbeddings` of diffusers, or `CombinedTimestepGuidanceTextProjEmbeddings`: `[b, out]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn time_text_embedding(m: &mut Module<'_>, conditions: &Conditions, out: usize) -> Result<Value> {
    const WAVES: usize = 256;
    let embedded = |m: &mut Module<'_>, name: &str, number: Value| {
        let waves = sinusoid(m, number, WAVES, true, 0.0)?;
        timestep_embedding(&mut m.at(name), waves, out, Activation::Silu, true)
    };
    let mut sum = embedded(m, "timestep_embedder", conditions.timestep)?;
    if let Some(guidance) = conditions.guidance {
        let guidance = embedded(m, "guidance_embedder", guidance)?;
        sum = m.add(sum, guidance)?;
    }
    let text = timestep_embedding(&mut m.at("text_embedder"), conditions.pooled, out, Activation::Silu, true)?;
    m.add(sum, text)
}
