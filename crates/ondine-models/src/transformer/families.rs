//! What is particular to a family of models and no config says: presets, as data.

use ondine_graph::{Result, fail};

use super::properties::{Bias, Clamp, Norms, QkNorm, SoftCaps};

/// Which layers see a window only, where the config does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// All, if there is a window.
    All,
    /// From layer `max_window_layers` on, if the config says `use_sliding_window`.
    Upper,
    /// All but each so-manieth.
    AllBut(usize),
}

/// A family: a class of transformers, an architecture of GGUF files.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The class in transformers.
    pub class: &'static str,
    /// `general.architecture` in GGUF files.
    pub gguf: &'static str,
    /// True if heads in GGUF files are ordered so that neighbours are turned together.
    pub interleaved: bool,
    /// Where norms stand.
    pub norms: Norms,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// What transformers adds to the weights of norms; GGUF files hold the sum.
    pub norm_offset: f32,
    /// Layers with a bias, whatever the config says.
    pub bias: Bias,
    /// True if neighbours are turned together in checkpoints of the class, too.
    pub adjacent: bool,
    /// True if keys and values are kept in 8 bits.
    pub coded_keys: bool,
    /// True if projections of one input are one matrix.
    pub fused: bool,
    /// True if tokens are embedded times the root of their width.
    pub scaled_embedding: bool,
    /// `tie_word_embeddings`, where the config is silent.
    pub tied: bool,
    /// `hidden_act`, where the config is silent.
    pub activation: &'static str,
    /// `max_position_embeddings`, where the config is silent.
    pub positions: usize,
    /// Layers with a window.
    pub windows: Windows,
    /// The window, where GGUF files do not say it.
    pub window: Option<usize>,
    /// True if layers with a window turn queries and keys by angles that no scaling changes, where the config tells of
    /// one kind of layer only.
    pub plain_windows: bool,
    /// `rope_theta` of layers with a window, where files do not say it and it is another than that of the others.
    pub window_theta: Option<f64>,
    /// What keeps numbers small, where GGUF files do not say it.
    pub soft_caps: SoftCaps,
    /// The depth of the model whose scores are divided by the root of `hidden_size / heads` and not of the size of a
    /// head, which GGUF files do not say.
    pub wide_at: Option<usize>,
    /// Every so-manieth layer has no positions, where the config lists none; 0 if all have.
    pub nope_interval: usize,
    /// True if the shares of the experts that a token uses add up to 1, where files do not say it.
    pub normalized: bool,
    /// How the gates of experts are bounded, if they are, where files do not say it.
    pub clamp: Option<Clamp>,
    /// True if each head has a score that is given to no token.
    pub sinks: bool,
    /// True if the bounds between which YaRN mixes frequencies are whole numbers, where files do not say it.
    pub whole_bounds: bool,
}

const NO_BIAS: Bias = Bias { qkv: false, out: false, mlp: false };

const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    gguf: "llama",
    interleaved: true,
    norms: Norms::Before,
    qk_norm: QkNorm::None,
    norm_offset: 0.0,
    bias: NO_BIAS,
    adjacent: false,
    coded_keys: false,
    fused: false,
    scaled_embedding: false,
    tied: false,
    activation: "silu",
    positions: 2048,
    windows: Windows::All,
    window: None,
    plain_windows: false,
    window_theta: None,
    soft_caps: SoftCaps { attention: None, logits: None },
    wide_at: None,
    nope_interval: 0,
    normalized: true,
    clamp: None,
    sinks: false,
    whole_bounds: true,
};

const GEMMA2: Family = Family {
    class: "Gemma2ForCausalLM",
    gguf: "gemma2",
    interleaved: false,
    norms: Norms::Around,
    norm_offset: 1.0,
    scaled_embedding: true,
    tied: true,
    activation: "gelu_pytorch_tanh",
    positions: 8192,
    windows: Windows::AllBut(2),
    window: Some(4096),
    soft_caps: SoftCaps { attention: Some(50.0), logits: Some(30.0) },
    wide_at: Some(46),
    ..LLAMA
};

const OLMO2: Family = Family {
    class: "Olmo2ForCausalLM",
    gguf: "olmo2",
    interleaved: false,
    norms: Norms::After,
    qk_norm: QkNorm::Whole,
    windows: Windows::AllBut(4),
    plain_windows: true,
    ..LLAMA
};

const QWEN2: Family = Family {
    class: "Qwen2ForCausalLM",
    gguf: "qwen2",
    interleaved: false,
    bias: Bias { qkv: true, ..NO_BIAS },
    positions: 32_768,
    windows: Windows::Upper,
    ..LLAMA
};

const QWEN3: Family =
    Family { class: "Qwen3ForCausalLM", gguf: "qwen3", qk_norm: QkNorm::BeforeRotary, bias: NO_BIAS, ..QWEN2 };

/// All families.
pub const FAMILIES: &[Family] = &[
    LLAMA,
    Family { class: "MistralForCausalLM", gguf: "mistral", positions: 131_072, ..LLAMA },
    QWEN2,
    Family { class: "Qwen2MoeForCausalLM", gguf: "qwen2moe", normalized: false, ..QWEN2 },
    QWEN3,
    Family { class: "Qwen3MoeForCausalLM", gguf: "qwen3moe", ..QWEN3 },
    // GGUF files call it `llama`, too.
    Family { class: "MixtralForCausalLM", gguf: "mixtral", positions: 131_072, ..LLAMA },
    Family {
        class: "OlmoeForCausalLM",
        gguf: "olmoe",
        interleaved: false,
        qk_norm: QkNorm::Whole,
        positions: 4096,
        normalized: false,
        ..LLAMA
    },
    Family {
        class: "GptOssForCausalLM",
        gguf: "gpt-oss",
        interleaved: false,
        bias: Bias { qkv: true, out: true, mlp: true },
        positions: 131_072,
        windows: Windows::AllBut(2),
        clamp: Some(Clamp { limit: 7.0, slope: 1.702 }),
        sinks: true,
        whole_bounds: false,
        ..LLAMA
    },
    GEMMA2,
    Family {
        class: "Gemma3ForCausalLM",
        gguf: "gemma3",
        qk_norm: QkNorm::BeforeRotary,
        positions: 131_072,
        windows: Windows::AllBut(6),
        window: None,
        window_theta: Some(10_000.0),
        soft_caps: LLAMA.soft_caps,
        wide_at: Some(62),
        ..GEMMA2
    },
    Family { class: "Phi3ForCausalLM", gguf: "phi3", interleaved: false, fused: true, positions: 4096, ..LLAMA },
    OLMO2,
    // GGUF files call it `olmo2`, too: they have windows.
    Family { class: "Olmo3ForCausalLM", gguf: "olmo3", ..OLMO2 },
    Family {
        class: "AfmForCausalLM",
        gguf: "afm",
        qk_norm: QkNorm::AfterRotary,
        adjacent: true,
        coded_keys: true,
        tied: true,
        positions: 65_536,
        ..LLAMA
    },
    Family { class: "GraniteForCausalLM", gguf: "granite", ..LLAMA },
    Family { class: "GraniteMoeForCausalLM", gguf: "granitemoe", ..LLAMA },
    Family { class: "SmolLM3ForCausalLM", gguf: "smollm3", tied: true, positions: 32_768, nope_interval: 4, ..LLAMA },
];

/// True if `class` is a model of the family: with a head, or without one, `...Model`.
fn is_of(family: &Family, class: &str) -> bool {
    let bare =
        |whole: &str| whole.strip_suffix("ForCausalLM").is_some_and(|name| class.strip_suffix("Model") == Some(name));
    family.class == class || bare(family.class)
}

/// The family of a class.
///
/// # Errors
/// If it is none of [`FAMILIES`].
pub(super) fn by_class(class: &str) -> Result<&'static Family> {
    match FAMILIES.iter().find(|family| is_of(family, class)) {
        Some(family) => Ok(family),
        None => {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.class).collect();
            fail!(Unsupported, "class `{class}` is no supported language model; supported: {}", known.join(", "))
        }
    }
}

/// The family of a GGUF file's architecture.
///
/// # Errors
/// If it is none of [`FAMILIES`].
pub(super) fn by_gguf(architecture: &str) -> Result<&'static Family> {
    match FAMILIES.iter().find(|family| family.gguf == architecture) {
        Some(family) => Ok(family),
        None => {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.gguf).collect();
            fail!(
                Unsupported,
                "`general.architecture` = {architecture:?} is not supported; supported: {}",
                known.join(", ")
            )
        }
    }
}
