//! Pipelines of small networks with made-up weights: which folders can be drawn with, and what the others are.

use std::path::Path;

use ondine_graph::{Error, ErrorKind, NDArray, write_safetensors};
use ondine_image::{pipeline::TextToImage, request::Request};
use ondine_models::{Functions, GraphSizes, Pipeline, Source, registry::find};
use ondine_runtime::Device;
use serde_json::{Value, json};

/// A network of a folder: its name, its class and its config.
type Part = (&'static str, &'static str, Value);

/// Weights that look random, of every tensor that a network asks for.
fn write_network(folder: &Path, class: &str, config: &Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let functions: Functions = (find(class).unwrap().functions)(&config.to_string(), GraphSizes::default()).unwrap();
    let mut weights: Vec<(String, NDArray)> = Vec::new();
    for weight in functions.iter().flat_map(|(_, graph)| graph.weights()) {
        if weights.iter().all(|(path, _)| **path != *weight.path) {
            let count: usize = weight.shape.iter().product();
            let scale = if weight.shape.len() > 1 { (weight.shape[0] as f32 / count as f32).sqrt() } else { 0.3 };
            let seed = weights.len();
            let values: Vec<f32> =
                (0..count).map(|i| scale * (1.7 * ((seed * 7919 + i) % 9973) as f32).sin()).collect();
            weights.push((weight.path.to_string(), NDArray::new(&weight.shape, &values).unwrap()));
        }
    }
    write_safetensors(&folder.join("model.safetensors"), &weights).unwrap();
}

/// A config with more options.
fn with(mut config: Value, more: Value) -> Value {
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn text(width: usize, projection: usize) -> Value {
    json!({"vocab_size": 4, "hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 2,
           "num_attention_heads": 2, "projection_dim": projection, "max_position_embeddings": 8, "eos_token_id": 2})
}

fn unet(more: Value) -> Value {
    let config = json!({"block_out_channels": [8, 16], "layers_per_block": 1, "attention_head_dim": 2,
        "cross_attention_dim": 8, "norm_num_groups": 4, "sample_size": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]});
    with(config, more)
}

fn vae(more: Value) -> Value {
    let config = json!({"block_out_channels": [8], "norm_num_groups": 4, "scaling_factor": 0.5});
    with(config, more)
}

/// The parts of a small Stable Diffusion.
fn parts(of_unet: Value, of_vae: Value) -> Vec<Part> {
    vec![
        ("text_encoder", "CLIPTextModel", text(8, 8)),
        ("unet", "UNet2DConditionModel", unet(of_unet)),
        ("vae", "AutoencoderKL", vae(of_vae)),
    ]
}

/// What makes a U-Net one of `SDXL`, for one text vector of 6 and six sizes of 4.
fn xl(input: usize) -> Value {
    json!({"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": input})
}

/// The parts of a small `SDXL`, which reads text with one encoder.
fn xl_parts(input: usize) -> Vec<Part> {
    let mut parts = parts(xl(input), json!({}));
    parts[0] = ("text_encoder_2", "CLIPTextModelWithProjection", text(8, 6));
    parts
}

fn write_folder(folder: &Path, parts: &[Part], more: Value) {
    let mut index = json!({"_class_name": "APipeline", "scheduler": ["diffusers", "EulerDiscreteScheduler"]});
    for (name, class, config) in parts {
        index[*name] = json!(["diffusers", class]);
        write_network(&folder.join(name), class, config);
        if let Some(suffix) = name.strip_prefix("text_encoder") {
            let tokenizer = format!("tokenizer{suffix}");
            index[&tokenizer] = json!(["transformers", "CLIPTokenizer"]);
            std::fs::create_dir_all(folder.join(&tokenizer)).unwrap();
            let vocabulary = json!({"a</w>": 0, "b</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3});
            std::fs::write(folder.join(&tokenizer).join("vocab.json"), vocabulary.to_string()).unwrap();
            std::fs::write(folder.join(&tokenizer).join("merges.txt"), "#version: 0.2\n").unwrap();
        }
    }
    let index = with(index, more);
    std::fs::create_dir_all(folder.join("scheduler")).unwrap();
    let scheduler = json!({"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear"});
    std::fs::write(folder.join("scheduler/scheduler_config.json"), scheduler.to_string()).unwrap();
    std::fs::write(folder.join("model_index.json"), index.to_string()).unwrap();
}

fn open(parts: &[Part], more: Value) -> Result<TextToImage, Error> {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), parts, more);
    TextToImage::open(Source::folder(folder.path())?, Device::cpu(None)?, None)
}

fn request() -> Request {
    Request { steps: Some(2), ..Request::new("a b") }
}

/// What is drawn, as numbers.
fn drawn(model: &TextToImage) -> Vec<f32> {
    model.draw(&request(), &mut |_| {}).unwrap().images().to_f32()
}

#[test]
fn networks_that_take_more_than_text_are_told_what_they_are() {
    let none = || json!({});
    for (parts, more, message) in [
        (
            parts(json!({"in_channels": 9}), none()),
            none(),
            "takes 9 channels, the latents of the autoencoder (vae) have 4",
        ),
        (parts(json!({"in_channels": 8}), none()), none(), "inpainting, editing, depth or upscaling"),
        (
            parts(json!({"out_channels": 8}), none()),
            none(),
            "predicts 8 channels for latents of 4: it predicts variances",
        ),
        (parts(json!({"out_channels": 3}), none()), none(), "predicts 3 channels for latents of 4"),
        (parts(json!({"num_class_embeds": 10}), none()), none(), "one of 10 classes (`num_class_embeds`)"),
        (parts(json!({"class_embed_type": "timestep"}), none()), none(), "`class_labels`"),
        (parts(xl(30), none()), none(), "takes `text_embeds`, which no text encoder"),
        (parts(json!({"cross_attention_dim": 12}), none()), none(), "text of width 12, the text encoders yield 8"),
        (parts(none(), json!({"out_channels": 1})), none(), "pictures of 1 channels"),
        (parts(none(), json!({"in_channels": 1, "out_channels": 1})), none(), "pictures of 1 channels"),
        (xl_parts(26), none(), "vectors of 2 for the whole text, the text encoder yields 6; if it is a refiner"),
        (xl_parts(30), json!({"requires_aesthetics_score": true}), "a refiner (`requires_aesthetics_score`)"),
        (
            parts(none(), none()),
            json!({"controlnet": ["diffusers", "ControlNetModel"]}),
            "`controlnet` (ControlNetModel)",
        ),
    ] {
        let error = open(&parts, more).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
    assert!(
        open(&parts(none(), none()), json!({"image_encoder": ["transformers", "X"], "safety_checker": [null, null]}))
            .is_ok()
    );
}

#[test]
fn guidance_is_what_diffusers_takes() {
    let guidance = |parts: &[Part]| {
        let model = open(parts, json!({})).unwrap();
        model.draw(&request(), &mut |_| {}).unwrap().infotext(0).cfg_scale
    };
    assert_eq!(guidance(&parts(json!({}), json!({}))), Some(7.5));
    assert_eq!(guidance(&xl_parts(30)), Some(5.0));
    assert_eq!(guidance(&parts(json!({"time_cond_proj_dim": 8}), json!({}))), Some(8.5));
}

#[test]
fn latents_have_means_and_deviations_by_channel() {
    let picture = |of_vae: Value| drawn(&open(&parts(json!({}), of_vae), json!({})).unwrap());
    let wanted = picture(json!({"scaling_factor": 0.25, "shift_factor": 0.5}));
    assert_eq!(picture(json!({"latents_mean": [0.5, 0.5, 0.5, 0.5], "latents_std": [2.0, 2.0, 2.0, 2.0]})), wanted);
    let other = picture(json!({"latents_mean": [0.5, 0.5, 0.5, -0.5], "latents_std": [2.0, 2.0, 2.0, 2.0]}));
    assert!(other != wanted && wanted.iter().any(|x| (0.01..0.99).contains(x)), "{:?}", &wanted[..8]);
}

#[test]
fn an_asset_of_a_network_is_a_part_like_its_checkpoint() {
    let (folder, asset) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_folder(folder.path(), &parts(json!({}), json!({})), json!({}));
    let device = Device::cpu(None).unwrap();
    let source = || Source::folder(folder.path()).unwrap();
    let wanted = drawn(&TextToImage::open(source(), device.clone(), None).unwrap());
    let mut pipeline = Pipeline::open(source()).unwrap();
    let saved = asset.path().join("unet");
    pipeline.network("unet").unwrap().asset(GraphSizes::default()).unwrap().save(&saved).unwrap();
    std::fs::remove_file(folder.path().join("unet/model.safetensors")).unwrap();
    assert_eq!(pipeline.replace("tokenizer_3", source()).unwrap_err().kind(), ErrorKind::Missing);
    pipeline.replace("unet", Source::folder(&saved).unwrap()).unwrap();
    assert_eq!(drawn(&TextToImage::of_pipeline(&pipeline, device.clone(), None).unwrap()), wanted);
    // In the place of the checkpoint, with the config beside it.
    std::fs::copy(folder.path().join("unet/config.json"), saved.join("config.json")).unwrap();
    std::fs::remove_dir_all(folder.path().join("unet")).unwrap();
    std::fs::rename(&saved, folder.path().join("unet")).unwrap();
    assert_eq!(drawn(&TextToImage::open(source(), device, None).unwrap()), wanted);
    // What belongs to another network is told so.
    let mut pipeline = Pipeline::open(source()).unwrap();
    pipeline.replace("vae", Source::folder(&folder.path().join("unet")).unwrap()).unwrap();
    assert!(TextToImage::of_pipeline(&pipeline, Device::cpu(None).unwrap(), None).is_err());
}
