//! The text encoder of a checkpoint: CLIP (Radford et al. 2021) as transformers writes it, or as OpenCLIP does.

use ondine_graph::{Result, Weights, fail};
use serde_json::{Value, json};

use super::tensors::{Names, shape, split_in_three, transpose};

/// What an encoder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The states behind the last layer are the text (Stable Diffusion 1).
    Last,
    /// The states before the last layer, normed, are the text (Stable Diffusion 2): the last layer is left out.
    BeforeLast,
    /// States before the last layer, and a projected vector of the whole text (XL).
    Projected,
}

/// The names of OpenCLIP's layers, and those of transformers.
const LAYERS: [(&str, &str); 5] = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
];

/// Width of a head of CLIP, which no file says.
const HEAD: usize = 64;

/// From this width on encoders are OpenCLIP's (H and bigG), whatever their tensors are called: they have another
/// activation than CLIP's own.
const OPEN_CLIP_WIDTH: usize = 1024;

/// True if the tensors are OpenCLIP's.
pub(super) fn is_open_clip(weights: &Weights) -> bool {
    weights.get("transformer.resblocks.0.ln_1.weight").is_some()
}

/// Gives the tensors the names that they have in transformers, and yields class and config. `layers` is how many layers
/// a config wants, if there is one.
pub(super) fn convert(weights: &mut Weights, purpose: Use, layers: Option<usize>) -> Result<(&'static str, Value)> {
    let open = is_open_clip(weights);
    if open {
        rename_open_clip(weights, purpose, layers)?;
    } else if weights.get("embeddings.token_embedding.weight").is_some() {
        let mut names = Names::default();
        for part in ["embeddings.", "encoder.", "final_layer_norm."] {
            names.prefix(part.to_owned(), format!("text_model.{part}"));
        }
        names.apply(weights)?;
    }
    let of = |path: &str| match shape(weights, path) {
        Some(shape) => Ok(shape),
        None => fail!(Missing, "the text encoder has no `{path}`; is the file whole?"),
    };
    let table = of("text_model.embeddings.token_embedding.weight")?;
    let positions = of("text_model.embeddings.position_embedding.weight")?;
    let (vocabulary, width) = (table[0], table.get(1).copied().unwrap_or(0));
    let inner = of("text_model.encoder.layers.0.mlp.fc1.weight")?[0];
    let layer = |i: usize| format!("text_model.encoder.layers.{i}.mlp.fc1.weight");
    let layers = (0..).take_while(|&i| weights.get(&layer(i)).is_some()).count();
    let projected = shape(weights, "text_projection.weight");
    if width == 0 || !width.is_multiple_of(HEAD) {
        fail!(
            Unsupported,
            "heads of {HEAD} do not fit a text encoder of width {width}, and the file does not say how many there are; \
             give the configs with --config FOLDER, a folder as diffusers saves"
        );
    }
    let class =
        if purpose == Use::Projected && projected.is_some() { "CLIPTextModelWithProjection" } else { "CLIPTextModel" };
    let config = json!({
        "architectures": [class],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width / HEAD,
        "max_position_embeddings": positions[0],
        "projection_dim": projected.map_or(width, |shape| shape[0]),
        "hidden_act": if open || width >= OPEN_CLIP_WIDTH { "gelu" } else { "quick_gelu" },
        "eos_token_id": 2,
    });
    Ok((class, config))
}

/// The names of transformers. Of an encoder whose last layer nothing reads, that is dropped.
fn rename_open_clip(weights: &mut Weights, purpose: Use, wanted: Option<usize>) -> Result<()> {
    let at = |i: usize| format!("transformer.resblocks.{i}.ln_1.weight");
    let mut layers = (0..).take_while(|&i| weights.get(&at(i)).is_some()).count();
    if purpose == Use::BeforeLast && layers > 1 && wanted.is_none_or(|wanted| wanted + 1 == layers) {
        layers -= 1;
        let last = format!("transformer.resblocks.{layers}.");
        weights.retain(|path| !path.starts_with(&last));
    }
    let mut names = Names::default();
    for (old, new) in [
        ("token_embedding.", "text_model.embeddings.token_embedding."),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("ln_final.", "text_model.final_layer_norm."),
    ] {
        names.prefix(old.to_owned(), new.to_owned());
    }
    for i in 0..layers {
        let (from, to) = (format!("transformer.resblocks.{i}"), format!("text_model.encoder.layers.{i}"));
        for end in ["weight", "bias"] {
            let parts = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{to}.self_attn.{part}.{end}"));
            split_in_three(weights, &format!("{from}.attn.in_proj_{end}"), &parts)?;
        }
        for (old, new) in LAYERS {
            names.prefix(format!("{from}.{old}."), format!("{to}.{new}."));
        }
    }
    names.apply(weights)?;
    // What is not projected needs no projection: it is used where the vector of the whole text is.
    if purpose == Use::Projected {
        transpose(weights, "text_projection", "text_projection.weight")?;
    }
    weights.retain(|path| !matches!(path, "text_projection" | "logit_scale"));
    Ok(())
}
