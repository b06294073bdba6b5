//! The deep compression autoencoder (Chen et al. 2024) of Sana under the names of the program that trained it.

use ondine_graph::{Result, Weights};
use serde_json::{Value, json};

use super::tensors::{linear, rename_with, split_in_three};

/// The class in diffusers.
pub(super) const CLASS: &str = "AutoencoderDC";
/// A tensor that no other autoencoder has under its first names.
pub(super) const MARK: &str = "decoder.project_in.conv.weight";

/// Parts of names, and what they are in diffusers, one after the other.
const PARTS: [(&str, &str); 20] = [
    ("main.", ""),
    ("op_list.", ""),
    ("context_module", "attn"),
    ("local_module", "conv_out"),
    // With one scale; each further one would have layers of its own.
    ("aggreg.0.0", "to_qkv_multiscale.0.proj_in"),
    ("aggreg.0.1", "to_qkv_multiscale.0.proj_out"),
    ("depth_conv.conv", "conv_depth"),
    ("inverted_conv.conv", "conv_inverted"),
    ("point_conv.conv", "conv_point"),
    ("point_conv.norm", "norm"),
    ("conv.conv.", "conv."),
    ("conv1.conv", "conv1"),
    ("conv2.conv", "conv2"),
    ("conv2.norm", "norm"),
    ("proj.norm", "norm_out"),
    ("encoder.project_in.conv", "encoder.conv_in"),
    ("encoder.project_out.0.conv", "encoder.conv_out"),
    ("decoder.project_in.conv", "decoder.conv_in"),
    ("decoder.project_out.0", "decoder.norm_out"),
    ("decoder.project_out.2.conv", "decoder.conv_out"),
];
const STAGES: [(&str, &str); 2] = [("encoder.stages", "encoder.down_blocks"), ("decoder.stages", "decoder.up_blocks")];

/// Gives the tensors the names that they have in diffusers, and yields the config: `known`, of the autoencoder that it
/// takes the place of, else that of the one that Sana is published with.
///
/// # Errors
/// If the tensors do not fit each other.
pub(super) fn convert(weights: &mut Weights, known: Option<&Value>) -> Result<Value> {
    weights.rename(|path| {
        Some(PARTS.iter().chain(&STAGES).fold(path.to_owned(), |path, (from, to)| path.replace(from, to)))
    })?;
    let ending = |weights: &Weights, end: &str| -> Vec<String> {
        weights.paths().filter_map(|path| path.strip_suffix(end).map(str::to_owned)).collect()
    };
    for attention in ending(weights, ".qkv.conv.weight") {
        let path = format!("{attention}.qkv.conv.weight");
        linear(weights, &path);
        split_in_three(weights, &path, &["q", "k", "v"].map(|name| format!("{attention}.to_{name}.weight")))?;
    }
    for attention in ending(weights, ".proj.conv.weight") {
        let path = format!("{attention}.proj.conv.weight");
        linear(weights, &path);
        rename_with(weights, &path, &format!("{attention}.to_out.weight"))?;
    }
    let known = known.filter(|config| config.get("_class_name").and_then(Value::as_str) == Some(CLASS));
    Ok(known.cloned().unwrap_or_else(of_sana))
}

/// The config of `dc-ae-f32c32-sana`.
fn of_sana() -> Value {
    let types = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock", "EfficientViTBlock"];
    let (channels, scales) = (json!([128, 256, 512, 512, 1024, 1024]), json!([[], [], [], [5], [5], [5]]));
    json!({
        "_class_name": CLASS,
        "in_channels": 3,
        "latent_channels": 32,
        "attention_head_dim": 32,
        "encoder_block_types": types,
        "decoder_block_types": types,
        "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels,
        "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
        "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
        "encoder_qkv_multiscales": scales,
        "decoder_qkv_multiscales": scales,
        "upsample_block_type": "interpolate",
        "downsample_block_type": "Conv",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        "scaling_factor": 0.41407,
    })
}

#[cfg(test)]
mod tests {
    use ondine_graph::{DType, Tensor};

    use super::*;

    #[test]
    fn first_names_become_those_of_diffusers() {
        let shapes: [(&str, &str, &[usize]); 9] = [
            ("decoder.project_in.conv.weight", "decoder.conv_in.weight", &[4, 2, 3, 3]),
            ("decoder.project_out.0.weight", "decoder.norm_out.weight", &[4]),
            ("decoder.project_out.2.conv.bias", "decoder.conv_out.bias", &[3]),
            ("encoder.stages.0.op_list.1.main.conv.conv.bias", "encoder.down_blocks.0.1.conv.bias", &[4]),
            ("encoder.stages.1.0.main.conv2.norm.weight", "encoder.down_blocks.1.0.norm.weight", &[4]),
            (
                "decoder.stages.2.1.context_module.main.aggreg.0.1.weight",
                "decoder.up_blocks.2.1.attn.to_qkv_multiscale.0.proj_out.weight",
                &[12, 4, 1, 1],
            ),
            ("decoder.stages.2.1.context_module.main.proj.norm.bias", "decoder.up_blocks.2.1.attn.norm_out.bias", &[4]),
            (
                "decoder.stages.2.1.context_module.main.proj.conv.weight",
                "decoder.up_blocks.2.1.attn.to_out.weight",
                &[4, 8, 1, 1],
            ),
            (
                "decoder.stages.2.1.local_module.main.point_conv.norm.weight",
                "decoder.up_blocks.2.1.conv_out.norm.weight",
                &[4],
            ),
        ];
        let mut weights = Weights::default();
        let mut insert = |path: &str, shape: &[usize]| {
            let bytes = vec![0_u8; 4 * shape.iter().product::<usize>()];
            let (shape, bytes) = (shape.to_vec(), bytes.as_slice().into());
            weights.insert(path, Tensor { dtype: DType::F32, shape, bytes, file: "memory".into() });
        };
        for (first, _, shape) in shapes {
            insert(first, shape);
        }
        insert("decoder.stages.2.1.context_module.main.qkv.conv.weight", &[12, 4, 1, 1]);
        let config = convert(&mut weights, Some(&json!({"_class_name": "AutoencoderKL"}))).unwrap();
        assert_eq!(config["scaling_factor"], json!(0.41407));
        for (first, name, shape) in shapes {
            let linear = name.ends_with("to_out.weight");
            let shape = if linear { &shape[..2] } else { shape };
            assert_eq!(weights.get(name).map(|tensor| &tensor.shape[..]), Some(shape), "{first}");
        }
        for part in ["q", "k", "v"] {
            let tensor = weights.get(&format!("decoder.up_blocks.2.1.attn.to_{part}.weight")).unwrap();
            assert_eq!(tensor.shape, [4, 4], "{part}");
        }
        assert_eq!(weights.paths().count(), 12);
        let known = json!({"_class_name": CLASS, "scaling_factor": 2.0});
        assert_eq!(convert(&mut weights, Some(&known)).unwrap(), known);
    }
}
