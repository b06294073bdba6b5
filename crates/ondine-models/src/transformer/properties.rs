//! Properties in which families differ.

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
