//! Configs that ask for something absurd or unknown are refused, by name, before anything is built.

use ondine_models::{
    autoencoder::{kl, tiny},
    bert, class_of, clip_text, registry, unet,
};
use ondine_runtime::{Error, ErrorKind};

use ErrorKind::{Format, Missing, Shape, Unsupported};

fn check<T>(parse: impl Fn(&str) -> Result<T, Error>, cases: &[(&str, ErrorKind, &str)]) {
    for (json, kind, named) in cases {
        let Err(error) = parse(json) else { panic!("{json} was accepted") };
        assert_eq!(error.kind(), *kind, "{json}: {error}");
        assert!(error.to_string().contains(named), "{json}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn u_nets() {
    let build = |json: &str| unet::build(&unet::Config::from_json(json)?, &unet::Options::default());
    check(
        build,
        &[
            ("", Format, "config"),
            ("[]", Format, "config"),
            (r#"{"in_channels": -1}"#, Format, "-1"),
            (r#"{"in_channels": 0}"#, Shape, "`in_channels`"),
            (r#"{"in_channels": 18446744073709551615}"#, Shape, "`in_channels`"),
            (r#"{"block_out_channels": []}"#, Shape, "`block_out_channels`"),
            (r#"{"block_out_channels": [320, 640]}"#, Shape, "`down_block_types`"),
            (r#"{"block_out_channels": [320, 640, 1280, 99999999]}"#, Shape, "`block_out_channels`"),
            (r#"{"block_out_channels": [320, 640, 1280, 1281]}"#, Shape, "32 groups do not divide 1281 channels"),
            (r#"{"layers_per_block": 1000000000}"#, Shape, "`layers_per_block`"),
            (r#"{"transformer_layers_per_block": 256}"#, Shape, "`transformer_layers_per_block`"),
            (r#"{"transformer_layers_per_block": [1, 2]}"#, Shape, "`transformer_layers_per_block`"),
            (r#"{"attention_head_dim": 0}"#, Shape, "`attention_head_dim`"),
            (r#"{"attention_head_dim": 321}"#, Shape, "`attention_head_dim`"),
            (r#"{"cross_attention_dim": [1, 2, 3, 4]}"#, Unsupported, "`cross_attention_dim`"),
            (r#"{"down_block_types": ["A", "B", "C", "D"]}"#, Unsupported, "`down_block_types` = \"A\""),
            (r#"{"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}"#, Unsupported, "`mid_block_type`"),
            (r#"{"norm_num_groups": null}"#, Unsupported, "`norm_num_groups`"),
            (r#"{"act_fn": "mish"}"#, Unsupported, "`act_fn` = \"mish\""),
            (r#"{"conv_in_kernel": 2}"#, Unsupported, "`conv_in_kernel`"),
            (r#"{"freq_shift": 160}"#, Shape, "`freq_shift`"),
            (r#"{"mid_block_scale_factor": 0}"#, Shape, "`mid_block_scale_factor`"),
            (r#"{"class_embed_type": "projection"}"#, Missing, "`projection_class_embeddings_input_dim`"),
            (r#"{"addition_embed_type": "text_time"}"#, Missing, "`addition_time_embed_dim`"),
            (r#"{"addition_embed_type": "image"}"#, Unsupported, "`addition_embed_type`"),
        ],
    );
}

#[test]
fn text_encoders() {
    let build = |json: &str| clip_text::build(&clip_text::Config::from_json(json)?, &clip_text::Options::default());
    check(
        build,
        &[
            (r#"{"num_attention_heads": 7}"#, Shape, "`num_attention_heads`"),
            (r#"{"num_attention_heads": 0}"#, Shape, "`num_attention_heads`"),
            (r#"{"num_hidden_layers": 0}"#, Shape, "`num_hidden_layers`"),
            (r#"{"hidden_act": "gelu_10"}"#, Unsupported, "`hidden_act` = \"gelu_10\""),
            (r#"{"layer_norm_eps": -1}"#, Shape, "`layer_norm_eps`"),
            (r#"{"layer_norm_eps": 1e300}"#, Format, "out of range"),
        ],
    );
    let build = |json: &str| bert::build(&bert::Config::from_json(json)?, &bert::Options::default());
    check(
        build,
        &[
            (r#"{"position_embedding_type": "relative_key"}"#, Unsupported, "`position_embedding_type`"),
            (r#"{"is_decoder": true}"#, Unsupported, "`is_decoder`"),
            (r#"{"vocab_size": 99999999999}"#, Shape, "`vocab_size`"),
        ],
    );
}

#[test]
fn autoencoders() {
    check(
        kl::Config::from_json,
        &[
            (r#"{"block_out_channels": [64, 64]}"#, Shape, "`down_block_types`"),
            (r#"{"down_block_types": ["AttnDownEncoderBlock2D"]}"#, Unsupported, "`down_block_types`"),
            (r#"{"norm_num_groups": 0}"#, Shape, "`norm_num_groups`"),
            (r#"{"latent_channels": 0}"#, Shape, "`latent_channels`"),
        ],
    );
    check(
        tiny::Config::from_json,
        &[
            (r#"{"num_decoder_blocks": []}"#, Shape, "`decoder_block_out_channels`"),
            (r#"{"num_decoder_blocks": [1, 2]}"#, Shape, "`decoder_block_out_channels`"),
            (r#"{"encoder_block_out_channels": [64, 64, 32, 64]}"#, Unsupported, "`encoder_block_out_channels`"),
            (r#"{"num_encoder_blocks": [1, 1, 1, 1000000]}"#, Shape, "1000000 blocks"),
            (r#"{"upsample_fn": "bilinear"}"#, Unsupported, "`upsample_fn`"),
        ],
    );
}

#[test]
fn classes() {
    assert_eq!(class_of(r#"{"_class_name": "A", "architectures": ["B"]}"#).unwrap(), "A");
    assert_eq!(class_of(r#"{"architectures": ["B"]}"#).unwrap(), "B");
    assert_eq!(class_of("{}").unwrap_err().kind(), Missing);
    let error = registry::find("T5EncoderModel").unwrap_err();
    assert!(error.to_string().starts_with("class `T5EncoderModel` is not supported; supported: CLIPTextModel,"));
}
