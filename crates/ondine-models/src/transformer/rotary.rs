//! Rotary positions (Su et al. 2021): pairs of features turned by angles that grow with the position.

use std::f64::consts::TAU;

use ondine_graph::{DType, NDArray, Op, Result, Unary, Value, fail};
use serde::Deserialize;

use crate::{blocks::Module, config::bounded};

/// How the features of a head are turned.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// True if neighbours are a pair, false if a feature and the one half a head further are (GPT-NeoX).
    pub interleaved: bool,
    /// The angle of each pair from one position to the next. There may be fewer pairs than half the features of a head,
    /// whose last ones are then not turned.
    pub inverse_frequencies: Vec<f32>,
    /// What turned features are multiplied by.
    pub scale: f32,
}

impl Rotary {
    /// Cosines and sines `[tokens, 1, pairs]` for I64 `positions` `[tokens]`.
    pub(super) fn tables(&self, m: &mut Module<'_>, positions: Value) -> Result<[Value; 2]> {
        let tokens = m.dim(positions, 0);
        let positions = m.cast(positions, DType::F32)?;
        let positions = m.reshape(positions, vec![tokens, 1.into(), 1.into()])?;
        let steps = m.constant(NDArray::new(&[self.inverse_frequencies.len()], &self.inverse_frequencies)?);
        let angles = m.mul(positions, steps)?;
        let mut table = |function: Unary| {
            let table = m.unary(function, angles)?;
            if self.scale == 1.0 { Ok(table) } else { m.affine(table, self.scale, 0.0) }
        };
        Ok([table(Unary::Cos)?, table(Unary::Sin)?])
    }

    /// `x` `[tokens, heads, head_dim]`, turned.
    pub(super) fn turn(&self, m: &mut Module<'_>, x: Value, [cos, sin]: [Value; 2]) -> Result<Value> {
        m.push(Op::Rotate { interleaved: self.interleaved }, &[x, cos, sin])
    }
}

/// `rope_parameters` of a config (`rope_scaling` in older ones), or of one kind of layer of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RopeParameters {
    #[serde(alias = "type")]
    pub(super) rope_type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<usize>,
    pub(super) attention_factor: Option<f64>,
    pub(super) mscale: Option<f64>,
    pub(super) mscale_all_dim: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
    pub(super) truncate: Option<bool>,
    pub(super) short_factor: Option<Vec<f64>>,
    pub(super) long_factor: Option<Vec<f64>>,
    pub(super) partial_rotary_factor: Option<f64>,
    /// Factors of a GGUF file, which divide the frequencies.
    #[serde(skip)]
    pub(super) divisors: Option<Vec<f64>>,
}

impl RopeParameters {
    /// True if angles are others than those of Su et al.
    pub(super) fn is_scaled(&self) -> bool {
        !matches!(self.rope_type.as_deref(), None | Some("default" | "none" | "dynamic"))
    }

    /// The rotation of heads of `head_dim` features, and the most positions that it is good for.
    ///
    /// # Errors
    /// If a parameter is missing or absurd, or the kind is unknown.
    pub(super) fn rotary(&self, head_dim: usize, positions: usize, interleaved: bool) -> Result<(Rotary, usize)> {
        let dims = (self.partial_rotary_factor.unwrap_or(1.0) * head_dim as f64) as usize;
        bounded("rotary dimensions", dims, head_dim)?;
        if dims % 2 == 1 {
            fail!(Shape, "{dims} features of a head are turned, which are no pairs");
        }
        let theta = positive("rope_theta", self.rope_theta.unwrap_or(10_000.0))?;
        let mut frequencies: Vec<f64> = (0..dims / 2).map(|i| 1.0 / theta.powf((2 * i) as f64 / dims as f64)).collect();
        let (mut scale, mut positions) = (1.0, positions);
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" | "none" => {}
            // Frequencies change beyond the positions that the model was trained on, which it is not asked for here.
            "dynamic" => {}
            "linear" => {
                let factor = self.factor()?;
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            "llama3" => self.llama3(&mut frequencies)?,
            "yarn" => scale = self.yarn(&mut frequencies, theta, dims, positions)?,
            "longrope" | "su" => (scale, positions) = self.long(&mut frequencies, positions)?,
            other => fail!(Unsupported, "`rope_type` = {other:?} is not supported"),
        }
        if let Some(divisors) = &self.divisors {
            divide(&mut frequencies, divisors, "rope_freqs")?;
        }
        let inverse_frequencies: Vec<f32> = frequencies.iter().map(|&frequency| frequency as f32).collect();
        if !inverse_frequencies.iter().all(|x| x.is_finite()) {
            fail!(Format, "rotary frequencies that are no numbers: {inverse_frequencies:?}");
        }
        Ok((Rotary { interleaved, inverse_frequencies, scale: scale as f32 }, positions))
    }

    fn factor(&self) -> Result<f64> {
        match self.factor {
            Some(factor) => positive("factor", factor),
            None => fail!(Missing, "the scaling of rotary positions has no `factor`"),
        }
    }

    /// Llama 3.1: long waves are stretched, short ones stay, those between are mixed.
    fn llama3(&self, frequencies: &mut [f64]) -> Result<()> {
        let factor = self.factor()?;
        let low = positive("low_freq_factor", self.low_freq_factor.unwrap_or(1.0))?;
        let high = positive("high_freq_factor", self.high_freq_factor.unwrap_or(4.0))?;
        let Some(original) = self.original_max_position_embeddings else {
            fail!(Missing, "the scaling of rotary positions has no `original_max_position_embeddings`");
        };
        let original = original as f64;
        for frequency in frequencies {
            let wave = TAU / *frequency;
            let stay = ((original / wave - low) / (high - low)).clamp(0.0, 1.0);
            let stay = if wave > original / low {
                0.0
            } else if wave < original / high {
                1.0
            } else {
                stay
            };
            *frequency = (1.0 - stay) * *frequency / factor + stay * *frequency;
        }
        Ok(())
    }

    /// Peng et al. 2023.
    fn yarn(&self, frequencies: &mut [f64], theta: f64, dims: usize, positions: usize) -> Result<f64> {
        let factor = self.factor()?;
        let original = self.original_max_position_embeddings.unwrap_or(positions) as f64;
        let turns = |turns: f64| dims as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (turns(self.beta_fast.unwrap_or(32.0)), turns(self.beta_slow.unwrap_or(1.0)));
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        for (i, frequency) in frequencies.iter_mut().enumerate() {
            let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            *frequency = stretched * *frequency / factor + (1.0 - stretched) * *frequency;
        }
        let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        Ok(match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(factor), ..) => factor,
            (None, Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => magnitude(scale) / magnitude(all),
            _ => magnitude(1.0),
        })
    }

    /// Ding et al. 2024, with the factors for short texts: those for long ones would change every key that is kept.
    fn long(&self, frequencies: &mut [f64], positions: usize) -> Result<(f64, usize)> {
        let Some(factors) = &self.short_factor else {
            fail!(Missing, "the scaling of rotary positions has no `short_factor`");
        };
        divide(frequencies, factors, "short_factor")?;
        let original = self.original_max_position_embeddings.unwrap_or(positions);
        let factor = self.factor.unwrap_or(positions as f64 / original as f64);
        let scale = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        Ok((self.attention_factor.unwrap_or(scale), positions.min(original)))
    }
}

fn divide(frequencies: &mut [f64], factors: &[f64], what: &str) -> Result<()> {
    if factors.len() != frequencies.len() {
        fail!(Shape, "`{what}` lists {} factors for {} pairs", factors.len(), frequencies.len());
    }
    frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= factor);
    Ok(())
}

fn positive(option: &str, value: f64) -> Result<f64> {
    if !(value.is_finite() && value > 0.0) {
        fail!(Shape, "`{option}` is {value}, it must be a number above 0");
    }
    Ok(value)
}
