//! Properties in which families differ.

use ondine_graph::{Result, fail};

use crate::config::{MAX_WIDTH, all_bounded};

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and feed-forward.
    Before,
    /// After them, before the sum.
    After,
    /// On both sides.
    Around,
}

/// The names of the norms of a layer, by their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormNames {
    pub(super) before_attention: Option<&'static str>,
    pub(super) after_attention: Option<&'static str>,
    pub(super) before_mlp: Option<&'static str>,
    pub(super) after_mlp: Option<&'static str>,
}

impl Norms {
    /// transformers calls the second norm of a layer after what stands before it, wherever it belongs.
    pub(super) fn names(self) -> NormNames {
        let (first, second) = (Some("input_layernorm"), Some("post_attention_layernorm"));
        let (third, last) = (Some("pre_feedforward_layernorm"), Some("post_feedforward_layernorm"));
        match self {
            Self::Before => {
                NormNames { before_attention: first, after_attention: None, before_mlp: second, after_mlp: None }
            }
            Self::After => {
                NormNames { before_attention: None, after_attention: second, before_mlp: None, after_mlp: last }
            }
            Self::Around => {
                NormNames { before_attention: first, after_attention: second, before_mlp: third, after_mlp: last }
            }
        }
    }
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Of each head, before it is turned to its position.
    BeforeRotary,
    /// Of each head, after that.
    AfterRotary,
    /// Of all heads as one vector, before that.
    Whole,
}

/// What keeps numbers small: `cap * tanh(x / cap)`.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct SoftCaps {
    /// Of scores.
    pub attention: Option<f32>,
    /// Of logits.
    pub logits: Option<f32>,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bias {
    /// Those of queries, keys and values.
    pub qkv: bool,
    /// That of the attention's result.
    pub out: bool,
    /// Those of the feed-forward.
    pub mlp: bool,
}

/// The most experts that a layer may have.
const MAX_EXPERTS: usize = 4096;

/// The experts of a model, and how they are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each token uses.
    pub chosen: usize,
    /// Width inside one.
    pub width: usize,
    /// True if the shares of those that a token uses add up to 1.
    pub normalized: bool,
    /// Width inside the expert that every token uses besides, if there is one; a gate of its own says how much.
    pub shared: Option<usize>,
    /// How gates are bounded, if they are.
    pub clamp: Option<Clamp>,
    /// True if checkpoints hold fused matrices as `[in, out]`, with the outputs of gate and up in turn.
    pub interleaved: bool,
}

impl Experts {
    /// Refuses what is absurd.
    ///
    /// # Errors
    /// Names the first option that is.
    pub(super) fn check(&self) -> Result<()> {
        all_bounded([
            ("num_experts", self.count, MAX_EXPERTS),
            ("num_experts_per_tok", self.chosen, self.count),
            ("moe_intermediate_size", self.width, MAX_WIDTH),
            ("shared_expert_intermediate_size", self.shared.unwrap_or(1), MAX_WIDTH),
        ])?;
        if self.clamp.is_some_and(|Clamp { limit, slope }| !(limit > 0.0 && limit.is_finite() && slope.is_finite())) {
            fail!(Shape, "gates are bounded by no number above 0: {:?}", self.clamp);
        }
        Ok(())
    }
}

/// A gate of bounded numbers (gpt-oss): `(up + 1) * gate * sigmoid(slope * gate)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// The most of the gate, and of `up` in both directions.
    pub limit: f32,
    /// What gates are multiplied by inside the sigmoid.
    pub slope: f32,
}
