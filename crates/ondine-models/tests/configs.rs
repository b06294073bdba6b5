//! Configs that ask for something absurd or unknown are refused, by name, before anything is built.

use ondine_graph::{Error, ErrorKind};
use ondine_models::{
    GuidanceInput, HiddenStates, KvCache, Role, TextLayout,
    autoencoder::{deep, kl, squares, tiny},
    bert, class_of, clip_text, flux, flux2, registry, sana, sd3, t5, transformer, unet, z_image,
};

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
            (r#"{"sample_size": 0}"#, Shape, "`sample_size`"),
            (r#"{"sample_size": [64, 64, 64]}"#, Shape, "`sample_size`"),
            (r#"{"sample_size": [64, 9223372036854775807]}"#, Shape, "`sample_size`"),
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
            (r#"{"rotary_scale": 2}"#, Unsupported, "`rotary_scale` = 2 is not known"),
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
            (r#"{"quantization_config": {"bits": 4}}"#, Unsupported, "`quantization_config` = {\"bits\":4}"),
            (r#"{"text_config": {"hidden_size": 8}, "vision_config": {}}"#, Unsupported, "`text_config`"),
        ],
    );
    let build = |json: &str| bert::build(&bert::Config::from_json(json)?, &bert::Options::default());
    check(
        build,
        &[
            (r#"{"position_embedding_type": "relative_key"}"#, Unsupported, "`position_embedding_type`"),
            (r#"{"is_decoder": true}"#, Unsupported, "`is_decoder`"),
            (r#"{"rope_theta": 10000.0}"#, Unsupported, "`rope_theta`"),
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
            (r#"{"patch_size": [2, 2]}"#, Unsupported, "`patch_size`"),
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
            (r#"{"latents_mean": [0, 0, 0, 0]}"#, Unsupported, "`latents_mean`"),
        ],
    );
}

#[test]
fn facts_are_those_of_the_network_that_is_built() {
    let role = |class: &str| registry::find(class).unwrap().role;
    let Role::Denoiser(denoiser) = role("UNet2DConditionModel") else { panic!("a U-Net denoises") };
    let facts = denoiser(r#"{"in_channels": 8, "sample_size": [96, 32], "time_cond_proj_dim": 256}"#).unwrap();
    assert_eq!((facts.channels, facts.native, facts.divisor), (8, [96, 32], 8));
    assert_eq!((facts.guidance, facts.text, facts.patch), (GuidanceInput::Waves(256), TextLayout::SideBySide, 1));
    assert_eq!(denoiser("{}").unwrap().native, [64, 64]);
    for (class, tokens) in [("CLIPTextModel", 77), ("CLIPTextModelWithProjection", 77), ("BertModel", 512)] {
        let Role::TextEncoder(facts) = role(class) else { panic!("{class} reads text") };
        assert_eq!(facts("{}").unwrap().max_tokens, tokens, "{class}");
    }
    for class in ["AutoencoderKL", "AutoencoderTiny"] {
        let Role::Autoencoder(latents) = role(class) else { panic!("{class} makes latents") };
        check(
            latents,
            &[
                (r#"{"scaling_factor": 0}"#, Format, "`scaling_factor`"),
                (r#"{"shift_factor": 1e39}"#, Format, ""),
                ("[]", Format, "config"),
            ],
        );
    }
    let Role::Autoencoder(latents) = role("AutoencoderKL") else { unreachable!() };
    let space =
        latents(r#"{"scaling_factor": 0.5, "latents_mean": [1, 2, 3, 4], "latents_std": [1, 2, 4, 8]}"#).unwrap();
    assert_eq!((space.scaling, space.shift), (vec![0.5, 0.25, 0.125, 0.0625], vec![1.0, 2.0, 3.0, 4.0]));
    let plain = latents(r#"{"shift_factor": 0.25, "out_channels": 1}"#).unwrap();
    assert_eq!((plain.scaling, plain.shift, plain.colors), (vec![0.18215; 4], vec![0.25; 4], 1));
    check(
        latents,
        &[
            (r#"{"latents_mean": [0, 0, 0, 0]}"#, Format, "`latents_std`"),
            (r#"{"latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]}"#, Shape, "`latents_mean`"),
            (r#"{"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1, 0]}"#, Format, "above 0"),
            (
                r#"{"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1, 1], "shift_factor": 1}"#,
                Unsupported,
                "`shift_factor`",
            ),
        ],
    );
    let Role::Autoencoder(latents) = role("AutoencoderTiny") else { unreachable!() };
    let json = r#"{"upsampling_scaling_factor": 16}"#;
    check(latents, &[(json, Unsupported, "a latent stands for 4096 pixels")]);
}

#[test]
fn options_that_change_nothing_are_no_reason_to_refuse() {
    for (class, json) in [
        (
            "UNet2DConditionModel",
            r#"{"_class_name": "x", "dropout": 0.1, "upcast_attention": true, "new_option": null}"#,
        ),
        ("AutoencoderKL", r#"{"force_upcast": true, "sample_size": 512, "new_option": false}"#),
        ("AutoencoderTiny", r#"{"latent_magnitude": 3, "block_out_channels": [64, 64, 64, 64]}"#),
        ("CLIPTextModel", r#"{"torch_dtype": "float16", "bos_token_id": 0, "top_k": 50, "id2label": {"0": "a"}}"#),
        ("BertModel", r#"{"classifier_dropout": 0.1, "gradient_checkpointing": false, "use_cache": true}"#),
    ] {
        let functions = registry::find(class).unwrap().functions;
        assert!(functions(json, Default::default()).is_ok(), "{class}: {json}");
    }
}

#[test]
fn encoders_of_t5() {
    let build = |json: &str| t5::build(&t5::Config::from_json(json)?, &t5::Options::default());
    check(
        build,
        &[
            (r#"{"num_heads": 0}"#, Shape, "`num_heads`"),
            (r#"{"d_kv": 18446744073709551615}"#, Shape, "`d_kv * num_heads`"),
            (r#"{"relative_attention_num_buckets": 3}"#, Shape, "`relative_attention_num_buckets / 4`"),
            (r#"{"relative_attention_max_distance": 0}"#, Shape, "`relative_attention_max_distance`"),
            (r#"{"feed_forward_proj": "gated-step"}"#, Unsupported, "`feed_forward_proj` = \"step\""),
            (r#"{"is_decoder": true}"#, Unsupported, "`is_decoder`"),
        ],
    );
}

#[test]
fn diffusion_transformers() {
    let build = |json: &str| sd3::build(&sd3::Config::from_json(json)?, &Default::default());
    check(
        build,
        &[
            ("[]", Format, "config"),
            (r#"{"patch_size": 0}"#, Shape, "`patch_size`"),
            (r#"{"num_layers": 100000}"#, Shape, "`num_layers`"),
            (r#"{"num_attention_heads": 18446744073709551615}"#, Shape, "`num_attention_heads * attention_head_dim`"),
            (r#"{"caption_projection_dim": 64}"#, Shape, "`caption_projection_dim` is 64, the blocks are 1152 wide"),
            (r#"{"pos_embed_max_size": 1000000}"#, Shape, "`pos_embed_max_size`"),
            (r#"{"dual_attention_layers": [18]}"#, Shape, "`dual_attention_layers` names block 18 of 18"),
            (r#"{"qk_norm": "layer_norm"}"#, Unsupported, "`qk_norm`"),
            (r#"{"force_zeros": 3}"#, Unsupported, "`force_zeros` = 3 is not known"),
        ],
    );
    assert!(build("{}").is_ok());
    let build = |json: &str| flux::build(&flux::Config::from_json(json)?, &Default::default());
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"patch_size": 2}"#, Unsupported, "`patch_size`"),
            (r#"{"in_channels": 63}"#, Shape, "`in_channels` is 63, no squares of 2x2 latents"),
            (r#"{"num_single_layers": 18446744073709551615}"#, Shape, "`num_layers + num_single_layers`"),
            (r#"{"axes_dims_rope": [16, 56, 54]}"#, Shape, "`axes_dims_rope` = [16, 56, 54]"),
            (r#"{"axes_dims_rope": [15, 57, 56]}"#, Shape, "`axes_dims_rope`"),
            (r#"{"axes_dims_rope": [0, 64, 64]}"#, Shape, "`axes_dims_rope`"),
            (r#"{"axes_dims_rope": [16, 112]}"#, Format, ""),
        ],
    );
    assert!(build("{}").is_ok());
    let dev = flux::Config::from_json(r#"{"guidance_embeds": true}"#).unwrap().facts();
    assert_eq!((dev.guidance, dev.channels, dev.patch), (GuidanceInput::Number, 16, 2));
    let fill = flux::Config::from_json(r#"{"guidance_embeds": true, "in_channels": 384, "out_channels": 64}"#).unwrap();
    assert_eq!((fill.facts().channels, fill.facts().predicted, fill.facts().references.most), (96, 16, 0));
    let usual = |facts: ondine_models::DenoiserFacts| facts.flow.map(|flow| (flow.steps, flow.guidance));
    assert_eq!((dev.references.most, usual(dev), usual(fill.facts())), (1, Some((28, 3.5)), Some((50, 30.0))));
    assert_eq!(usual(flux::Config::default().facts()), Some((4, 1.0)));
    assert_eq!(usual(sd3::Config::default().facts()), Some((28, 7.0)));
}

#[test]
fn flux_2() {
    let build = |json: &str| flux2::build(&flux2::Config::from_json(json)?, &Default::default());
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"patch_size": 2}"#, Unsupported, "`patch_size`"),
            (r#"{"eps": 1e-5}"#, Unsupported, "`eps`"),
            (r#"{"mlp_ratio": 0.0}"#, Shape, "`mlp_ratio` is 0"),
            (r#"{"mlp_ratio": 1e300}"#, Shape, "`mlp_ratio`"),
            (r#"{"rope_theta": -1}"#, Shape, "`rope_theta` is -1"),
            (r#"{"num_single_layers": 18446744073709551615}"#, Shape, "`num_layers + num_single_layers`"),
            (r#"{"axes_dims_rope": [32, 32, 32, 30]}"#, Shape, "`axes_dims_rope` = [32, 32, 32, 30]"),
            (r#"{"axes_dims_rope": [16, 56, 56]}"#, Format, ""),
            (r#"{"timestep_guidance_channels": 0}"#, Shape, "`timestep_guidance_channels`"),
        ],
    );
    assert!(build("{}").is_ok());
    let facts = |json: &str| flux2::Config::from_json(json).unwrap().facts();
    assert_eq!((facts("{}").guidance, facts("{}").channels), (GuidanceInput::Number, 128));
    let flow = |json: &str| facts(json).flow.unwrap();
    assert_eq!((flow("{}").steps, flow("{}").guidance, flow("{}").distilled), (50, 4.0, None));
    assert_eq!(flow(r#"{"guidance_embeds": false}"#).distilled, Some((4, 1.0)));
}

#[test]
fn autoencoders_of_squares() {
    let build = |json: &str| {
        let config = squares::Config::from_json(json)?;
        squares::build_encoder(&config, &Default::default())?;
        squares::build_decoder(&config, &Default::default())
    };
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"patch_size": [1, 2]}"#, Unsupported, "`patch_size`"),
            (r#"{"patch_size": 2}"#, Format, ""),
            (r#"{"batch_norm_eps": -1}"#, Shape, "`batch_norm_eps`"),
            (r#"{"latent_channels": 4611686018427387904}"#, Shape, "latent_channels`"),
            (r#"{"block_out_channels": [64, 64]}"#, Shape, "`down_block_types`"),
            (r#"{"decoder_block_out_channels": [64, 64]}"#, Shape, "`decoder_block_out_channels`"),
            (r#"{"decoder_block_out_channels": [64, 64, 64, 33]}"#, Shape, "does not divide the channels 33"),
            (r#"{"scaling_factor": 0.3}"#, Unsupported, "`scaling_factor`"),
        ],
    );
    assert!(build("{}").is_ok());
}

#[test]
fn transformers_of_one_stream() {
    let build = |json: &str| z_image::build(&z_image::Config::from_json(json)?, &Default::default(), true);
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"all_patch_size": [2, 4]}"#, Unsupported, "`all_patch_size`"),
            (r#"{"all_f_patch_size": [2]}"#, Unsupported, "`all_f_patch_size`"),
            (r#"{"n_kv_heads": 10}"#, Unsupported, "`n_kv_heads` = 10"),
            (r#"{"siglip_feat_dim": 1152}"#, Unsupported, "`siglip_feat_dim`"),
            (r#"{"n_heads": 7, "n_kv_heads": 7}"#, Shape, "`n_heads` is 7"),
            (r#"{"n_heads": 0, "n_kv_heads": 0}"#, Shape, "`n_heads` is 0"),
            (r#"{"axes_dims": [32, 48, 46]}"#, Shape, "`axes_dims` = [32, 48, 46]"),
            (r#"{"axes_lens": [1024, 0, 512]}"#, Shape, "`axes_lens`"),
            (r#"{"rope_theta": 0}"#, Shape, "`rope_theta` is 0"),
            (r#"{"t_scale": -1}"#, Shape, "`t_scale` is -1"),
            (r#"{"norm_eps": -1}"#, Shape, "`norm_eps`"),
            (r#"{"n_refiner_layers": 18446744073709551615}"#, Shape, "`n_refiner_layers + 1`"),
            (r#"{"n_layers": 0}"#, Shape, "`n_layers`"),
        ],
    );
    assert!(build("{}").is_ok());
    let facts = z_image::Config::default().facts();
    let flow = facts.flow.unwrap();
    assert_eq!((flow.steps, flow.guidance, flow.unguided, facts.most), (8, 0.0, 0.0, Some(1024)));
}

#[test]
fn transformers_with_linear_attention() {
    let build = |json: &str| sana::build(&sana::Config::from_json(json)?, &sana::Options::symbols(true));
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"out_channels": 64}"#, Unsupported, "`out_channels` = 64"),
            (r#"{"cross_attention_dim": 1152}"#, Unsupported, "`cross_attention_dim` = 1152"),
            (r#"{"cross_attention_dim": null}"#, Format, ""),
            (r#"{"interpolation_scale": 2}"#, Unsupported, "`interpolation_scale`"),
            (r#"{"qk_norm": "rms_norm"}"#, Unsupported, "`qk_norm`"),
            (r#"{"norm_eps": 1e-5}"#, Unsupported, "`norm_eps`"),
            (r#"{"mlp_ratio": 0}"#, Shape, "`mlp_ratio` is 0"),
            (r#"{"mlp_ratio": 1e300}"#, Shape, "`mlp_ratio`"),
            (r#"{"timestep_scale": 0}"#, Shape, "`timestep_scale` is 0"),
            (r#"{"num_layers": 0}"#, Shape, "`num_layers`"),
            (r#"{"num_attention_heads": 18446744073709551615}"#, Unsupported, "`cross_attention_dim`"),
            (r#"{"patch_size": 17}"#, Shape, "`patch_size`"),
        ],
    );
    assert!(build("{}").is_ok());
    let facts = |json: &str| sana::Config::from_json(json).unwrap().facts();
    let (base, sprint) = (facts("{}"), facts(r#"{"guidance_embeds": true}"#));
    assert_eq!((base.guidance, base.flow.unwrap().steps), (GuidanceInput::Passes, 20));
    assert_eq!((sprint.guidance, sprint.flow.unwrap().steps), (GuidanceInput::Number, 2));
}

#[test]
fn autoencoders_of_deep_compression() {
    let build = |json: &str| {
        let config = deep::Config::from_json(json)?;
        deep::build_encoder(&config, &Default::default())?;
        deep::build_decoder(&config, &Default::default())
    };
    check(
        build,
        &[
            ("", Format, "config"),
            (r#"{"decoder_block_types": "ViT"}"#, Unsupported, "`decoder_block_types` = \"ViT\""),
            (r#"{"upsample_block_type": "bilinear"}"#, Unsupported, "`upsample_block_type`"),
            (r#"{"decoder_norm_types": "batch_norm"}"#, Unsupported, "`decoder_norm_types`"),
            (r#"{"decoder_conv_act_fn": "sine"}"#, Unsupported, "`decoder_conv_act_fn`"),
            (r#"{"encoder_block_out_channels": [128, 256]}"#, Shape, "`encoder_layers_per_block`"),
            (r#"{"encoder_layers_per_block": [2, 0, 2, 3, 3, 3]}"#, Shape, "`encoder_layers_per_block`"),
            (r#"{"latent_channels": 33}"#, Shape, "`latent_channels` is 33"),
            (r#"{"latent_channels": 0}"#, Shape, "`latent_channels`"),
            (
                r#"{"encoder_block_types": "EfficientViTBlock", "attention_head_dim": 48}"#,
                Shape,
                "`attention_head_dim` is 48",
            ),
        ],
    );
    assert!(build("{}").is_ok());
    assert_eq!(deep::Config::default().downscale(), 32);
}

#[test]
fn hidden_states_are_counted_from_both_ends() {
    assert_eq!(HiddenStates::of(&[0, 4, -1, -5]).unwrap().indices(4).unwrap(), [0, 4, 4, 0]);
    assert_eq!(HiddenStates::three([9, 18, 27]).indices(36).unwrap(), [9, 18, 27]);
    for index in [5, -6, i32::MIN, i32::MAX] {
        let error = HiddenStates::one(index).indices(4).unwrap_err();
        assert!(error.to_string().contains(&format!("layer {index} ")), "{error}");
    }
    assert!(HiddenStates::of(&[]).is_err() && HiddenStates::of(&[0; 9]).is_err());
}

#[test]
fn language_models_of_experts() {
    let sizes = r#""vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2"#;
    let build = |options: &str| {
        let (class, options) = options.split_once(':').unwrap();
        let json = format!(r#"{{"architectures": ["{class}ForCausalLM"], {sizes}, {options}}}"#);
        transformer::functions(&transformer::Config::from_json(&json)?, transformer::Room::whole(9, KvCache::default()))
    };
    check(
        build,
        &[
            (r#"Mixtral:"num_local_experts": 4"#, Missing, "`num_experts_per_tok`"),
            (r#"Mixtral:"num_local_experts": 4, "num_experts_per_tok": 5"#, Shape, "`num_experts_per_tok` is 5"),
            (r#"Qwen3Moe:"num_experts": 5000, "num_experts_per_tok": 2"#, Shape, "`num_experts` is 5000"),
            (
                r#"Qwen3Moe:"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 0"#,
                Shape,
                "`moe_intermediate_size`",
            ),
            (
                r#"GptOss:"num_local_experts": 4, "num_experts_per_tok": 2, "swiglu_limit": -1"#,
                Shape,
                "bounded by no number above 0",
            ),
            (r#"Olmoe:"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0"#, Shape, "`clip_qkv`"),
            (r#"Afm:"num_kv_reuse_layers": 2"#, Shape, "`num_kv_reuse_layers`"),
        ],
    );
    assert!(build(r#"Mixtral:"num_local_experts": 4, "num_experts_per_tok": 4"#).is_ok());
    assert!(build(r#"Afm:"num_kv_reuse_layers": 1"#).is_ok());
}

#[test]
fn classes() {
    assert_eq!(class_of(r#"{"_class_name": "A", "architectures": ["B"]}"#).unwrap(), "A");
    assert_eq!(class_of(r#"{"architectures": ["B"]}"#).unwrap(), "B");
    assert_eq!(class_of("{}").unwrap_err().kind(), Missing);
    let error = registry::find("GPT2Model").unwrap_err();
    assert!(error.to_string().starts_with("class `GPT2Model` is not supported; supported: CLIPTextModel,"));
}

#[test]
fn every_node_is_booked_on_the_module_that_computes_it() {
    let json = r#"{"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 24}"#;
    let graph = unet::build(&unet::Config::from_json(json).unwrap(), &unet::Options::default()).unwrap();
    let scopes = |op: &str| {
        let nodes = graph.nodes().iter().filter(move |node| node.op.name() == op);
        nodes.map(|node| node.scope.to_string()).collect::<Vec<_>>()
    };
    let adds = scopes("add");
    let block = "down_blocks.0.attentions.0.transformer_blocks.0";
    for (module, count) in [("down_blocks.0.resnets.0", 2), ("down_blocks.0.attentions.0", 1), (block, 3)] {
        assert_eq!(adds.iter().filter(|scope| *scope == module).count(), count, "{module}: {adds:?}");
    }
    let skips = scopes("concat").into_iter().filter(|scope| scope.starts_with("up_blocks.")).collect::<Vec<_>>();
    assert_eq!(skips.len(), 12);
    assert_eq!((&*skips[0], &*skips[11]), ("up_blocks.0", "up_blocks.3"));
}
