//! The names of tensors in adapters: which module they change, and which part of the change they are.

use std::fmt;

/// The network that a name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// The denoiser, a U-Net or a transformer.
    Unet,
    /// A text encoder: the first, or the second.
    Text(u8),
}

/// A module as an adapter calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// By its name in any dialect, its dots as lines.
    Named(Target, String),
    /// By its place among those that the trainer of Ryu (2022) changes.
    Numbered(Target, usize),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = |target: &Target| match target {
            Target::Unet => "unet",
            Target::Text(0) => "text_encoder",
            Target::Text(_) => "text_encoder_2",
        };
        match self {
            Self::Named(of, name) => write!(f, "{}: {name}", target(of)),
            Self::Numbered(of, number) => write!(f, "{}:{number}", target(of)),
        }
    }
}

/// Which part of a change a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Alpha,
    Down,
    Up,
    Mid,
    /// Lengths that are learned apart.
    Magnitude(Lengths),
    Difference,
    BiasDifference,
    Hadamard(Factor),
    Kronecker(Factor),
}

/// What is learned to have lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lengths {
    /// Rows, in whatever shape.
    OfRows,
    /// Rows, or columns if the shape says so.
    ByShape,
}

/// Factors of products of products: of the first or second, whole or in two, and a core for convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Factor {
    One,
    OneA,
    OneB,
    OneCore,
    Two,
    TwoA,
    TwoB,
    TwoCore,
}

/// Ends of names, the longer before the shorter that they end with.
const ENDS: &[(&str, Part)] = &[
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Mid),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_a.weight", Part::Down),
    (".lora_b.weight", Part::Up),
    (".lora_A", Part::Down),
    (".lora_B", Part::Up),
    (".lora_magnitude_vector.weight", Part::Magnitude(Lengths::OfRows)),
    (".lora_magnitude_vector", Part::Magnitude(Lengths::OfRows)),
    (".dora_scale", Part::Magnitude(Lengths::ByShape)),
    (".magnitude", Part::Magnitude(Lengths::ByShape)),
    (".alpha", Part::Alpha),
    (".diff_b", Part::BiasDifference),
    (".diff", Part::Difference),
    (".b_norm", Part::BiasDifference),
    (".w_norm", Part::Difference),
    (".hada_w1_a", Part::Hadamard(Factor::OneA)),
    (".hada_w1_b", Part::Hadamard(Factor::OneB)),
    (".hada_w2_a", Part::Hadamard(Factor::TwoA)),
    (".hada_w2_b", Part::Hadamard(Factor::TwoB)),
    (".hada_t1", Part::Hadamard(Factor::OneCore)),
    (".hada_t2", Part::Hadamard(Factor::TwoCore)),
    (".lokr_w1", Part::Kronecker(Factor::One)),
    (".lokr_w1_a", Part::Kronecker(Factor::OneA)),
    (".lokr_w1_b", Part::Kronecker(Factor::OneB)),
    (".lokr_w2", Part::Kronecker(Factor::Two)),
    (".lokr_w2_a", Part::Kronecker(Factor::TwoA)),
    (".lokr_w2_b", Part::Kronecker(Factor::TwoB)),
    (".lokr_t2", Part::Kronecker(Factor::TwoCore)),
];

/// Beginnings of names, the longer before the shorter that begin them.
const STARTS: &[(&str, Target)] = &[
    ("lora_unet_", Target::Unet),
    ("lycoris_unet_", Target::Unet),
    ("lora_transformer_", Target::Unet),
    ("lora_te1_", Target::Text(0)),
    ("lora_te2_", Target::Text(1)),
    ("lora_te_", Target::Text(0)),
    ("lycoris_te1_", Target::Text(0)),
    ("lycoris_te2_", Target::Text(1)),
    ("lycoris_te_", Target::Text(0)),
    ("lycoris_text_encoder_2_", Target::Text(1)),
    ("lycoris_text_encoder_", Target::Text(0)),
    ("lycoris_", Target::Unet),
    ("model.diffusion_model.", Target::Unet),
    ("diffusion_model.", Target::Unet),
    ("unet.", Target::Unet),
    ("transformer.", Target::Unet),
    ("text_encoders.clip_l.transformer.", Target::Text(0)),
    ("text_encoders.clip_g.transformer.", Target::Text(1)),
    ("clip_l.transformer.", Target::Text(0)),
    ("clip_g.transformer.", Target::Text(1)),
    ("cond_stage_model.transformer.", Target::Text(0)),
    ("conditioner.embedders.0.transformer.", Target::Text(0)),
    ("text_encoder_2.", Target::Text(1)),
    ("text_encoder.", Target::Text(0)),
    ("te1.", Target::Text(0)),
    ("te2.", Target::Text(1)),
    ("te.", Target::Text(0)),
];

/// The module that a tensor belongs to, and what it is of its change.
pub(super) fn parse(path: &str) -> Option<(Key, Part)> {
    numbered(path).or_else(|| {
        let (target, module, part) = named(path)?;
        Some((Key::Named(target, module.replace('.', "_")), part))
    })
}

/// As [`parse`], the module by its name with its dots, as far as the file has them.
pub(super) fn named(path: &str) -> Option<(Target, String, Part)> {
    // A trainer may have given the adapter a name, which then stands before the end: `lora_A.default.weight`.
    let named = path.strip_suffix(".weight").and_then(|rest| {
        let (rest, name) = rest.rsplit_once('.')?;
        let adapter = ["lora_A", "lora_B", "lora_magnitude_vector"].iter().any(|end| rest.ends_with(end));
        (adapter && !name.is_empty()).then(|| format!("{rest}.weight"))
    });
    let path = named.as_deref().unwrap_or(path);
    // XLabs' processors have one layer for the picture and one for the text: `qkv_lora1`, `qkv_lora2`.
    let counted = ["1", "2"].iter().find_map(|number| {
        let (module, end) = path.split_once(&format!("_lora{number}."))?;
        Some(format!("{module}{number}_lora.{end}"))
    });
    let path = counted.as_deref().unwrap_or(path);
    let (module, part) = ENDS.iter().find_map(|(end, part)| Some((path.strip_suffix(end)?, *part)))?;
    let mut module = module.trim_start_matches("base_model.model.");
    let mut target = None;
    if let Some((rest, of)) = STARTS.iter().find_map(|(start, of)| Some((module.strip_prefix(start)?, *of))) {
        (module, target) = (rest.trim_start_matches("base_model.model."), Some(of));
    }
    let text = module.starts_with("text_model") || module.starts_with("encoder.layers");
    let target = target.unwrap_or(if text { Target::Text(0) } else { Target::Unet });
    Some((target, module.replace(".processor.", "."), part))
}

/// `unet:12:down`, the twelfth module that is changed.
fn numbered(path: &str) -> Option<(Key, Part)> {
    let mut parts = path.split(':');
    let target = match parts.next()? {
        "unet" => Target::Unet,
        "text_encoder" => Target::Text(0),
        _ => return None,
    };
    let number = parts.next()?.parse().ok()?;
    let part = match parts.next()? {
        "down" => Part::Down,
        "up" => Part::Up,
        "alpha" => Part::Alpha,
        _ => return None,
    };
    Some((Key::Numbered(target, number), part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_dialects_are_understood() {
        let unet = |name: &str| Key::Named(Target::Unet, name.to_owned());
        let text = |i, name: &str| Key::Named(Target::Text(i), name.to_owned());
        let to_q = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
        let dotted = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
        let layer = "text_model_encoder_layers_0_self_attn_q_proj";
        for (path, key, part) in [
            (format!("lora_unet_{to_q}.lora_down.weight"), unet(to_q), Part::Down),
            (format!("lora_unet_{to_q}.alpha"), unet(to_q), Part::Alpha),
            (format!("unet.{dotted}.lora_A.weight"), unet(to_q), Part::Down),
            (format!("unet.{dotted}.lora_B.default.weight"), unet(to_q), Part::Up),
            (format!("base_model.model.{dotted}.lora_A.default_0.weight"), unet(to_q), Part::Down),
            (
                format!("unet.base_model.model.{dotted}.lora_magnitude_vector.default.weight"),
                unet(to_q),
                Part::Magnitude(Lengths::OfRows),
            ),
            (format!("unet.{dotted}.lora.up.weight"), unet(to_q), Part::Up),
            ("transformer.proj_out.lora_A.weight".into(), unet("proj_out"), Part::Down),
            (
                "unet.down_blocks.0.attn1.processor.to_q_lora.down.weight".into(),
                unet("down_blocks_0_attn1_to_q"),
                Part::Down,
            ),
            (
                "down_blocks.0.attn1.processor.to_out_lora.up.weight".into(),
                unet("down_blocks_0_attn1_to_out"),
                Part::Up,
            ),
            ("double_blocks.3.processor.qkv_lora2.up.weight".into(), unet("double_blocks_3_qkv2"), Part::Up),
            ("single_blocks.3.processor.proj_lora.down.weight".into(), unet("single_blocks_3_proj"), Part::Down),
            (format!("lycoris_{to_q}.lokr_w1"), unet(to_q), Part::Kronecker(Factor::One)),
            (format!("lora_unet_{to_q}.lokr_w1_a"), unet(to_q), Part::Kronecker(Factor::OneA)),
            (format!("lora_unet_{to_q}.hada_w2_b"), unet(to_q), Part::Hadamard(Factor::TwoB)),
            (format!("lora_te_{layer}.lora_up.weight"), text(0, layer), Part::Up),
            (format!("lora_te2_{layer}.dora_scale"), text(1, layer), Part::Magnitude(Lengths::ByShape)),
            (
                "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight".into(),
                text(1, layer),
                Part::Down,
            ),
            ("text_encoder:3:up".into(), Key::Numbered(Target::Text(0), 3), Part::Up),
        ] {
            assert_eq!(parse(&path), Some((key, part)), "{path}");
        }
        assert_eq!(parse("model.diffusion_model.input_blocks.0.0.weight"), None);
        assert_eq!(parse("unet:x:down"), None);
    }
}
