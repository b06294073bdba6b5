//! Pipelines of small networks with made-up weights: which folders can be drawn with, and what the others are.

use std::path::Path;

use ondine_graph::{Error, ErrorKind, NDArray, weights::write_safetensors_with, write_safetensors};
use ondine_image::{
    pipeline::{Event, Size, TextToImage},
    prompt::emphasis::Emphasis,
    request::{Init, Request},
};
use ondine_models::{Functions, GraphSizes, Pipeline, Source, lora::Adapter, registry::find};
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
            let value = |i: usize| scale * (1.7 * ((seed * 7919 + i) % 9973) as f32).sin();
            // Variances are above 0.
            let offset = if weight.path.ends_with("running_var") { 0.5 } else { 0.0 };
            let values: Vec<f32> = (0..count).map(|i| offset + value(i)).collect();
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
            parts(json!({"in_channels": 7}), none()),
            none(),
            "takes 7 channels, the latents of the autoencoder (vae) have 4",
        ),
        (parts(json!({"in_channels": 5}), none()), none(), "a model for depth or upscaling"),
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
        (xl_parts(26), none(), "vectors of 2 for the whole text, the text encoder yields 6"),
        (xl_parts(30), json!({"requires_aesthetics_score": true}), "vectors of 10 for the whole text"),
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

/// A picture of one colour to begin with, its left half to be drawn anew.
fn init(masked: bool) -> Init {
    let mask: Vec<f32> = (0..64).map(|i| f32::from(u8::from(i % 8 < 4))).collect();
    let mask = masked.then(|| NDArray::new(&[1, 1, 8, 8], &mask).unwrap());
    Init { image: NDArray::new(&[1, 3, 8, 8], &[0.25_f32; 192]).unwrap(), mask }
}

#[test]
fn models_that_take_pictures_are_drawn_with() {
    for (channels, needs) in [(4, false), (9, false), (8, true)] {
        let model = open(&parts(json!({"in_channels": channels}), json!({})), json!({})).unwrap();
        let draw = |request: &Request| model.draw(request, &mut |_| {}).map(|drawn| drawn.images().to_f32());
        let plain = draw(&request());
        assert_eq!(plain.as_ref().err().map(Error::kind), needs.then_some(ErrorKind::Argument), "{channels} channels");
        let begun = draw(&Request { init: Some(init(false)), ..request() }).unwrap();
        assert!(plain.map_or(true, |plain| plain != begun), "{channels} channels: the picture makes no difference");
        let masked = draw(&Request { init: Some(init(true)), ..request() }).unwrap();
        for (i, x) in masked.iter().enumerate() {
            assert!(i % 8 < 4 || *x == 0.25, "{channels} channels: pixel {i} is outside the mask and became {x}");
        }
        assert!(masked.iter().enumerate().any(|(i, x)| i % 8 < 4 && *x != 0.25), "{channels} channels");
    }
    let refiner = open(&xl_parts(26), json!({"requires_aesthetics_score": true})).unwrap();
    let error = refiner.draw(&request(), &mut |_| {}).unwrap_err();
    assert!(error.kind() == ErrorKind::Argument && error.to_string().contains("refiner"), "{error}");
    assert!(refiner.draw(&Request { init: Some(init(false)), ..request() }, &mut |_| {}).is_ok());
}

#[test]
fn pictures_to_begin_with_must_fit() {
    let model = open(&parts(json!({}), json!({})), json!({})).unwrap();
    let kind = |request: Request| model.draw(&request, &mut |_| {}).unwrap_err().kind();
    assert_eq!(kind(Request { init: Some(init(false)), width: Some(16), ..request() }), ErrorKind::Shape);
    let mask = Some(NDArray::new(&[1, 1, 4, 4], &[1.0_f32; 16]).unwrap());
    assert_eq!(kind(Request { init: Some(Init { mask, ..init(false) }), ..request() }), ErrorKind::Shape);
    assert_eq!(kind(Request { init: Some(init(false)), strength: Some(0.3), ..request() }), ErrorKind::Argument);
}

#[test]
fn marks_of_prompts_change_what_is_drawn() {
    let model = open(&parts(json!({}), json!({})), json!({})).unwrap();
    let draw = |prompt: &str, emphasis| {
        let request = Request { emphasis, steps: Some(4), ..Request::new(prompt) };
        model.draw(&request, &mut |_| {}).unwrap().images().to_f32()
    };
    let original = Emphasis::Original;
    let plain = draw("a b", original);
    assert_eq!(draw("(a b:1.0)", original), plain, "a weight of 1 is none");
    for prompt in ["(a:1.5) b", "[a:b:2]", "a AND b", "a BREAK b", "[a|b]"] {
        assert!(draw(prompt, original) != plain, "{prompt}");
    }
    assert!(draw("(a:1.5) b", Emphasis::Comfy) != draw("(a:1.5) b", original));
    assert_eq!(draw("[a:b:4]", original), draw("a", original), "what comes after the last step is not drawn");
    assert_eq!(draw("b AND a :0", original), draw("b", original), "a weight of 0 is nothing");
}

#[test]
fn adapters_change_the_model_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, tensors: &[(&str, &[usize])]| {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| {
                let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 0.3 * (i as f32).sin()).collect();
                ((*name).to_owned(), NDArray::new(shape, &values).unwrap())
            })
            .collect();
        let path = folder.path().join(name);
        write_safetensors(&path, &tensors).unwrap();
        Adapter::open(&path)
    };
    let to_q = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    let [down, up] = ["lora_down", "lora_up"].map(|end| format!("lora_unet_{to_q}.{end}.weight"));
    let good = write("good.safetensors", &[(&down, &[2, 8]), (&up, &[8, 2])]).unwrap();
    let open = || open(&parts(json!({}), json!({})), json!({})).unwrap();
    let (mut model, plain) = (open(), drawn(&open()));
    let applied = model.adapt(&good, 1.0, 1.0).unwrap();
    assert_eq!((applied.applied, applied.total, applied.left.len()), (1, 1, 0));
    let changed = drawn(&model);
    assert!(changed != plain);
    model.adapt(&good, -1.0, 1.0).unwrap();
    let back = drawn(&model);
    assert!(back.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-4), "what is taken back is gone");

    let other = write("other.safetensors", &[(&down, &[2, 12]), (&up, &[12, 2])]).unwrap();
    let error = open().adapt(&other, 1.0, 1.0).unwrap_err().to_string();
    assert!(error.contains("none of its 1 changes fit this model") && error.contains("[12, 12]"), "{error}");
    let half = write("half.safetensors", &[(&down, &[2, 8]), (&up, &[8, 2]), ("lora_unet_x.diff", &[3])]).unwrap();
    let mut model = open();
    let applied = model.adapt(&half, 1.0, 1.0).unwrap();
    assert_eq!(applied.to_string(), "half: applied 1 of 2; left out: `unet: x`: the model has no such module");
    assert_eq!(drawn(&model), changed);
    assert!(write("none.safetensors", &[("weight", &[1])]).is_err());
}

/// Writes an adapter of tensors whose numbers follow from their places and `scales`.
fn write_adapter(path: &Path, tensors: &[(String, Vec<usize>, f32)], notes: &[(&str, Value)]) {
    let array = |(name, shape, scale): &(String, Vec<usize>, f32)| {
        let values: Vec<f32> =
            (0..shape.iter().product::<usize>()).map(|i| scale * (0.3 + (i as f32).sin().abs())).collect();
        (name.clone(), NDArray::new(shape, &values).unwrap())
    };
    let tensors: Vec<_> = tensors.iter().map(array).collect();
    let notes = notes.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
    write_safetensors_with(path, &tensors, Some(notes)).unwrap();
}

#[test]
fn scales_of_adapters_stand_in_headers_and_configs() {
    let folder = tempfile::tempdir().unwrap();
    let open = || open(&parts(json!({}), json!({})), json!({})).unwrap();
    let drawn = |path: &Path| {
        let mut model = open();
        model.adapt(&Adapter::open(path).unwrap(), 1.0, 1.0).unwrap();
        drawn(&model)
    };
    let tensors = |start: &str, scale: f32| {
        let name =
            |end: &str| format!("{start}down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.{end}.weight");
        vec![(name("lora_A"), vec![2, 8], 0.3), (name("lora_B"), vec![8, 2], 0.3 * scale)]
    };
    let write = |name: &str, tensors: &[(String, Vec<usize>, f32)], notes: &[(&str, Value)]| {
        let path = folder.path().join(name);
        write_adapter(&path, tensors, notes);
        path
    };
    let twice = drawn(&write("twice.safetensors", &tensors("unet.", 2.0), &[]));
    let note = json!({"unet.r": 2, "unet.lora_alpha": 1, "unet.alpha_pattern": {"attn1.to_q": 4}});
    let path = write("note.safetensors", &tensors("unet.", 1.0), &[("lora_adapter_metadata", note)]);
    assert_eq!(drawn(&path), twice);
    let path = write("adapter_model.safetensors", &tensors("base_model.model.", 1.0), &[]);
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    assert_eq!(drawn(&path), twice);
    assert_eq!(drawn(folder.path()), twice);
    assert!(drawn(&write("once.safetensors", &tensors("unet.", 1.0), &[])) != twice, "the config is of one file");
    let error = Adapter::open(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("a folder without `adapter_model.safetensors`"), "{error}");
}

#[test]
fn learned_lengths_of_peft_are_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |end: &str, shape: &[usize]| {
        let path = folder.path().join("a.safetensors");
        let name = |end: &str| format!("unet.down_blocks.0.resnets.0.conv2.{end}");
        let factors = [
            (name("lora_A.weight"), vec![2, 8, 3, 3], 0.2),
            (name("lora_B.weight"), vec![8, 2, 1, 1], 0.2),
            (name(end), shape.to_vec(), 1.0),
        ];
        write_adapter(&path, &factors, &[]);
        let mut model = open(&parts(json!({}), json!({})), json!({})).unwrap();
        model.adapt(&Adapter::open(&path).unwrap(), 1.0, 1.0).unwrap();
        drawn(&model)
    };
    let rows = drawn("dora_scale", &[8, 1, 1, 1]);
    assert_eq!(drawn("lora_magnitude_vector", &[1, 8, 1, 1]), rows);
    assert_eq!(drawn("lora_magnitude_vector.weight", &[8]), rows);
    assert!(drawn("dora_scale", &[1, 8, 1, 1]) != rows, "LyCORIS has columns");
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
fn the_index_names_the_scheduler() {
    let drawn_with = |index: &str, config: Value| {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &parts(json!({}), json!({})), json!({"scheduler": ["diffusers", index]}));
        std::fs::write(folder.path().join("scheduler/scheduler_config.json"), config.to_string()).unwrap();
        TextToImage::open(Source::folder(folder.path())?, Device::cpu(None)?, None).map(|model| drawn(&model))
    };
    let named = |class: &str| json!({"_class_name": class, "beta_schedule": "scaled_linear"});
    let ddim = drawn_with("DDIMScheduler", named("DDIMScheduler")).unwrap();
    assert_eq!(drawn_with("DDIMScheduler", named("EulerDiscreteScheduler")).unwrap(), ddim);
    assert_eq!(drawn_with("DDIMScheduler", json!({"beta_schedule": "scaled_linear"})).unwrap(), ddim);
    assert!(drawn_with("EulerDiscreteScheduler", named("DDIMScheduler")).unwrap() != ddim);
    let error = drawn_with("XScheduler", named("DDIMScheduler")).unwrap_err().to_string();
    assert!(error.contains("model_index.json") && error.contains("XScheduler"), "{error}");
}

#[test]
fn a_part_of_another_class_is_what_its_config_says() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &parts(json!({}), json!({})), json!({}));
    let tiny = folder.path().join("tiny");
    let channels = json!([8, 8]);
    let config = json!({"_class_name": "AutoencoderTiny", "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels, "num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]});
    write_network(&tiny, "AutoencoderTiny", &config);
    let mut pipeline = Pipeline::open(Source::folder(folder.path()).unwrap()).unwrap();
    let plain = pipeline.network("vae").unwrap();
    pipeline.replace("vae", Source::folder(&tiny).unwrap()).unwrap();
    let other = pipeline.network("vae").unwrap();
    assert_eq!((plain.architecture.class, other.architecture.class), ("AutoencoderKL", "AutoencoderTiny"));
    drawn(&TextToImage::of_pipeline(&pipeline, Device::cpu(None).unwrap(), None).unwrap());
}

#[test]
fn a_picture_tells_what_guided_it() {
    let model = open(&parts(json!({}), json!({})), json!({})).unwrap();
    let prediction = Some("v_prediction".parse().unwrap());
    let request = Request {
        guidance_start: 0.25,
        guidance_end: 0.5,
        guidance_rescale: 0.5,
        prediction,
        zero_snr: Some(true),
        steps: Some(4),
        ..request()
    };
    let drawn = model.draw(&request, &mut |_| {}).unwrap();
    let mut again = Request::new("");
    assert!(again.recall(&drawn.infotext(0), &|_| false).is_empty());
    assert_eq!((again.guidance_start, again.guidance_end, again.guidance_rescale), (0.25, 0.5, 0.5));
    assert_eq!((again.prediction, again.zero_snr), (prediction, Some(true)));
    assert_eq!(model.draw(&again, &mut |_| {}).unwrap().images().to_f32(), drawn.images().to_f32());
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

/// A small Stable Diffusion 3 with one of its three text encoders, 8 wide, whose transformer takes vectors of 8 and of
/// 6 that the other would yield.
fn transformer_parts(more: Value) -> Vec<Part> {
    let config = json!({"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 2, "attention_head_dim": 4,
        "num_attention_heads": 2, "joint_attention_dim": 16, "caption_projection_dim": 8, "pooled_projection_dim": 14,
        "pos_embed_max_size": 6});
    vec![
        ("text_encoder", "CLIPTextModelWithProjection", text(8, 8)),
        ("transformer", "SD3Transformer2DModel", with(config, more)),
        ("vae", "AutoencoderKL", vae(json!({}))),
    ]
}

#[test]
fn transformers_draw_in_whole_tokens() {
    let model = open(&transformer_parts(json!({})), json!({})).unwrap();
    let drawn = |request: Request| {
        let mut warnings = Vec::new();
        let pictures = model.draw(&request, &mut |event| {
            if let Event::Warning(text) = event {
                warnings.push(text.to_owned());
            }
        });
        (pictures.unwrap().images().shape().to_vec(), warnings)
    };
    let negative = || Request { negative: Some("b".into()), ..request() };
    assert_eq!(drawn(negative()), (vec![1, 3, 8, 8], vec![]));
    let (_, warnings) = drawn(Request { guidance: Some(1.0), ..negative() });
    assert!(warnings.len() == 1 && warnings[0].contains("negative prompt has no effect"), "{warnings:?}");
    let refused = |request: Request| model.draw(&request, &mut |_| {}).unwrap_err().to_string();
    for (request, message) in [
        (Request { width: Some(7), ..request() }, "width 7 is no multiple of 2 up to 12; try 6"),
        (Request { height: Some(14), ..request() }, "height 14 is no multiple of 2 up to 12; try 12"),
        (Request { sampler: Some("ddim".into()), ..request() }, "choose euler or heun"),
    ] {
        let error = refused(request);
        assert!(error.contains(message), "{error}");
    }
    for sampler in ["euler", "heun"] {
        for schedule in ["karras", "beta"] {
            let asked = Request { sampler: Some(sampler.into()), schedule: Some(schedule.into()), ..request() };
            let drawn = model.draw(&asked, &mut |_| {});
            assert_eq!(drawn.is_ok(), sampler == "euler", "{sampler} {schedule}");
        }
    }
}

#[test]
fn texts_that_a_transformer_does_not_take_are_told() {
    for (parts, message) in [
        (transformer_parts(json!({"joint_attention_dim": 6})), "text of width 6 and vectors of 14"),
        (transformer_parts(json!({"pooled_projection_dim": 7})), "vectors of 7"),
        (transformer_parts(json!({})).split_off(1), "no text encoder"),
    ] {
        let error = open(&parts, json!({})).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// A small `FLUX.2`, whose text is two states of a language model, 16 wide together.
fn chat_parts(more: Value) -> Vec<Part> {
    let chat = json!({"architectures": ["Qwen3ForCausalLM"], "vocab_size": 288, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4, "max_position_embeddings": 600,
        "tie_word_embeddings": true});
    let config = json!({"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8,
        "num_attention_heads": 1, "joint_attention_dim": 16, "timestep_guidance_channels": 8, "guidance_embeds": false,
        "axes_dims_rope": [2, 2, 2, 2]});
    let vae = json!({"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4});
    vec![
        ("text_encoder", "Qwen3ForCausalLM", chat),
        ("transformer", "Flux2Transformer2DModel", with(config, more)),
        ("vae", "AutoencoderKLFlux2", vae),
    ]
}

fn open_chat(parts: &[Part], more: Value) -> Result<TextToImage, Error> {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), parts, more);
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/tokenizers/chat");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(tokenizer.join(file), folder.path().join("tokenizer").join(file)).unwrap();
    }
    TextToImage::open(Source::folder(folder.path())?, Device::cpu(None)?, None)
}

#[test]
fn what_a_language_model_reads_guides() {
    let layers = |layers: Value| json!({"ondine": {"text_layers": layers}, "is_distilled": true});
    let model = open_chat(&chat_parts(json!({})), layers(json!([1, 2]))).unwrap();
    let size = |request: Request| Request { width: Some(8), height: Some(6), ..request };
    let draw = |model: &TextToImage, prompt: &str| {
        model.draw(&size(Request { steps: Some(2), ..Request::new(prompt) }), &mut |_| {}).unwrap().images().to_f32()
    };
    let plain = draw(&model, "a b");
    assert!(plain.iter().all(|x| x.is_finite()) && plain.iter().any(|x| (0.01..0.99).contains(x)));
    assert!(draw(&model, "a c") != plain && draw(&model, "(a b:1.5)") != plain, "the text makes no difference");
    let others = open_chat(&chat_parts(json!({})), layers(json!([0, -1]))).unwrap();
    assert!(draw(&others, "a b") != plain, "the layers make no difference");
    for (distilled, usual) in [(true, (Some(4), Some(1.0))), (false, (Some(50), Some(4.0)))] {
        let more = with(layers(json!([1, 2])), json!({"is_distilled": distilled}));
        let model = open_chat(&chat_parts(json!({})), more).unwrap();
        let told = model.draw(&size(Request::new("a")), &mut |_| {}).unwrap().infotext(0);
        assert_eq!((told.steps, told.cfg_scale), usual, "distilled: {distilled}");
    }
    let skipping = Request { clip_skip: Some(2), ..size(Request::new("a")) };
    assert!(model.draw(&skipping, &mut |_| {}).unwrap_err().to_string().contains("clip-skip is for"));
    for (of_transformer, more, message) in [
        (json!({}), json!({}), "the states at layer 9 of a text encoder with 2 layers"),
        (json!({}), layers(json!([1])), "takes text of width 16, the states of the text encoder are 8 wide"),
        (json!({}), layers(json!([])), "text_layers: 0 layers are named"),
        (json!({"joint_attention_dim": 24}), layers(json!([1, 2])), "takes text of width 24"),
    ] {
        let error = open_chat(&chat_parts(of_transformer), more).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// A small `Z-Image`, whose text encoder has no head.
fn stream_parts() -> Vec<Part> {
    let mut parts = chat_parts(json!({}));
    parts[0].1 = "Qwen3Model";
    parts[0].2["architectures"] = json!(["Qwen3Model"]);
    let config = json!({"in_channels": 4, "dim": 12, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 1, "n_kv_heads": 1,
        "cap_feat_dim": 8, "axes_dims": [4, 4, 4]});
    parts[1] = ("transformer", "ZImageTransformer2DModel", config);
    parts[2] = ("vae", "AutoencoderKL", vae(json!({})));
    parts
}

#[test]
fn a_scale_of_guidance_counts_as_its_pipelines_count() {
    let model = open_chat(&stream_parts(), json!({})).unwrap();
    let draw = |guidance: Option<f32>| {
        let mut warnings = Vec::new();
        let request = Request { guidance, width: Some(8), height: Some(6), ..request() };
        let pictures = model.draw(&request, &mut |event| {
            if let Event::Warning(text) = event {
                warnings.push(text.to_owned());
            }
        });
        (pictures.unwrap().images().to_f32(), warnings.iter().any(|text| text.contains("without guidance")))
    };
    let (usual, warned) = draw(None);
    assert!(!warned && draw(Some(0.0)) == (usual.clone(), false));
    let (guided, warned) = draw(Some(1.0));
    assert!(warned && guided != usual);
}

#[test]
fn pictures_that_a_model_looks_at_make_a_difference() {
    let model = open_chat(&chat_parts(json!({})), json!({"ondine": {"text_layers": [1, 2]}})).unwrap();
    let picture = |height: usize, width: usize, value: f32| {
        NDArray::new(&[1, 3, height, width], &vec![value; 3 * height * width]).unwrap()
    };
    let request = |references: Vec<NDArray>| Request { references, guidance: Some(1.0), ..request() };
    let draw = |references| model.draw(&request(references), &mut |_| {});
    let one = draw(vec![picture(6, 8, 0.25)]).unwrap();
    assert_eq!((one.size().height, one.size().width), (6, 8), "as large as the first");
    assert!(one.infotext(0).extra.contains(&("Reference pictures".to_owned(), "1".to_owned())));
    let images = |references| draw(references).unwrap().images().to_f32();
    let one = one.images().to_f32();
    assert!(one.iter().all(|x| x.is_finite()));
    assert!(images(vec![picture(6, 8, 0.75)]) != one && images(vec![picture(6, 8, 0.25), picture(2, 4, 0.5)]) != one);
    for (references, message) in [
        (vec![picture(6, 8, 0.5); 5], "5 pictures to look at are given; the model looks at up to 4"),
        (vec![picture(6, 7, 0.5)], "not [1, 3, height, width] in multiples of 2"),
        (vec![NDArray::new(&[2, 3, 2, 2], &[0.5_f32; 24]).unwrap()], "shape [2, 3, 2, 2]"),
    ] {
        let sized = Request { width: Some(8), height: Some(6), ..request(references) };
        let error = model.draw(&sized, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let blind = open(&parts(json!({}), json!({})), json!({})).unwrap();
    let error = blind.draw(&request(vec![picture(8, 8, 0.5)]), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("looks at no picture beside the one that it draws"), "{error}");
    assert_eq!(
        (model.reference_size(7, 5), blind.reference_size(9, 8)),
        (Size { width: 6, height: 4 }, Size { width: 8, height: 7 })
    );
    let largest = model.reference_size(4000, 1000);
    assert!(largest.width * largest.height <= 128 * 128 && largest.width == 256, "{largest:?}");
}

/// A small `FLUX.1 Fill`, which takes the pixels of a mask beside the picture without them.
fn fill_parts() -> Vec<Part> {
    let second = with(text(8, 8), json!({"max_position_embeddings": 512}));
    let config = json!({"in_channels": 4 * (4 + 4 + 4), "out_channels": 16, "num_layers": 1, "num_single_layers": 1,
        "attention_head_dim": 8, "num_attention_heads": 1, "joint_attention_dim": 8, "pooled_projection_dim": 8,
        "guidance_embeds": true, "axes_dims_rope": [2, 2, 4]});
    let of_vae = json!({"block_out_channels": [8, 8], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]});
    vec![
        ("text_encoder", "CLIPTextModel", text(8, 8)),
        ("text_encoder_2", "CLIPTextModel", second),
        ("transformer", "FluxTransformer2DModel", config),
        ("vae", "AutoencoderKL", vae(of_vae)),
    ]
}

#[test]
fn what_a_mask_shows_is_filled_in() {
    let model = open(&fill_parts(), json!({})).unwrap();
    let draw = |request: Request| model.draw(&request, &mut |_| {}).unwrap();
    let request = || Request { init: Some(init(true)), ..request() };
    let filled = draw(request());
    assert_eq!(filled.infotext(0).cfg_scale, Some(30.0));
    let filled = filled.images().to_f32();
    assert!(filled.iter().enumerate().all(|(i, x)| i % 8 < 4 || *x == 0.25), "outside of the mask");
    let whole = draw(Request { init: Some(init(false)), strength: Some(1.0), ..request() }).images().to_f32();
    assert!(
        filled.iter().zip(&whole).enumerate().any(|(i, (a, b))| i % 8 < 4 && a != b),
        "the mask makes no difference"
    );
}
