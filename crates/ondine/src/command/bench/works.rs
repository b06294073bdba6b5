//! The works, as data: shapes are those of the published networks.

use ondine_models::transformer;
use ondine_runtime::Precision;

/// Something to be timed.
pub(super) struct Work {
    pub(super) name: &'static str,
    /// True if it is not timed unless it is asked for: it takes gigabytes.
    pub(super) large: bool,
    pub(super) what: What,
}

/// The kinds of works.
pub(super) enum What {
    Network(Network),
    Picture(Picture),
    Text(Text),
}

/// A language model.
pub(super) struct Text {
    /// As transformers writes it.
    pub(super) config: &'static str,
    /// Ids below this are tokens.
    pub(super) tokens: i64,
}

/// A call of a network with the sizes of its inputs.
pub(super) struct Network {
    pub(super) class: &'static str,
    pub(super) config: &'static str,
    pub(super) function: &'static str,
    /// Values of the symbols; height and width are those of the latents.
    pub(super) sizes: &'static [(&'static str, usize)],
    /// What divides height and width of the graph.
    pub(super) multiple: usize,
    /// True if its calls let go of their weights, which are mapped from the cache.
    pub(super) frugal: bool,
}

/// A drawing by `ondine draw`.
pub(super) struct Picture {
    /// The model to write, or none for the one that is built in.
    pub(super) model: Option<&'static Model>,
    pub(super) side: usize,
    pub(super) steps: usize,
    /// The precision if none is asked for; none leaves it to the model.
    pub(super) precision: Option<Precision>,
    /// What counts of it.
    pub(super) until: Until,
}

/// Where the clock stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The process has ended, the picture is on the disk.
    End,
    /// The first call of the U-Net begins.
    FirstStep,
}

/// A folder with networks of random weights.
pub(super) struct Model {
    /// The name of the folder.
    pub(super) name: &'static str,
    pub(super) pipeline: &'static str,
    pub(super) parts: &'static [Part],
}

/// A network of a folder.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// The library of the class, as `model_index.json` names it.
    pub(super) library: &'static str,
    pub(super) class: &'static str,
    pub(super) config: &'static str,
}

const UNET_SD15: &str = r#"{"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768,
    "attention_head_dim": 8}"#;

const UNET_SDXL: &str = r#"{"sample_size": 128, "block_out_channels": [320, 640, 1280],
    "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
    "use_linear_projection": true,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816}"#;

const VAE_SD: &str = r#"{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

const TAESD: &str = "{}";

/// The student of SDXS-512.
const UNET_SDXS: &str = r#"{"sample_size": 64, "block_out_channels": [320, 640, 1280], "layers_per_block": 1,
    "cross_attention_dim": 768, "attention_head_dim": 8, "mid_block_type": null,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}"#;

/// The blocks of FLUX.1 at their full width: one of the 19 for picture and text apart, two of the 38 for both together.
const FLUX: &str = r#"{"num_layers": 1, "num_single_layers": 2, "guidance_embeds": true}"#;

/// The blocks of Z-Image at their full width: two of the 30, and one of each two that refine.
const Z_IMAGE: &str = r#"{"n_layers": 2, "n_refiner_layers": 1}"#;

/// The network of Real-ESRGAN for films that are drawn, which is built in.
const COMPACT: &str = r#"{"num_feat": 64, "num_block": 16, "scale": 4}"#;

/// The network of Real-ESRGAN for pictures that are drawn.
const DENSE: &str = r#"{"num_feat": 64, "num_block": 6, "num_grow_ch": 32, "scale": 4}"#;

const CLIP_L: &str = r#"{"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77}"#;

/// OpenCLIP-bigG, the second text encoder of SDXL.
const CLIP_G: &str = r#"{"vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "max_position_embeddings": 77, "projection_dim": 1280, "hidden_act": "gelu"}"#;

const UNET: &str = "UNet2DConditionModel";
const CLIP: &str = "CLIPTextModel";

/// Stable Diffusion 1.5 with the tiny decoder.
const SD15: Model = Model {
    name: "sd15-tiny",
    pipeline: "StableDiffusionPipeline",
    parts: &[
        Part { name: "text_encoder", library: "transformers", class: CLIP, config: CLIP_L },
        Part { name: "unet", library: "diffusers", class: UNET, config: UNET_SD15 },
        Part { name: "vae", library: "diffusers", class: "AutoencoderTiny", config: TAESD },
    ],
};

/// SDXS-512.
const SDXS: Model = Model {
    name: "sdxs",
    pipeline: "StableDiffusionPipeline",
    parts: &[
        Part { name: "text_encoder", library: "transformers", class: CLIP, config: CLIP_L },
        Part { name: "unet", library: "diffusers", class: UNET, config: UNET_SDXS },
        Part { name: "vae", library: "diffusers", class: "AutoencoderTiny", config: TAESD },
    ],
};

/// Stable Diffusion XL with the tiny decoder.
const SDXL: Model = Model {
    name: "sdxl-tiny",
    pipeline: "StableDiffusionXLPipeline",
    parts: &[
        Part { name: "text_encoder", library: "transformers", class: CLIP, config: CLIP_L },
        Part { name: "text_encoder_2", library: "transformers", class: "CLIPTextModelWithProjection", config: CLIP_G },
        Part { name: "unet", library: "diffusers", class: UNET, config: UNET_SDXL },
        Part { name: "vae", library: "diffusers", class: "AutoencoderTiny", config: TAESD },
    ],
};

/// Llama 3.2 1B.
const LLAMA_1B: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "tie_word_embeddings": true}"#;

/// Llama 3.2 3B.
const LLAMA_3B: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 3072,
    "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
    "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "tie_word_embeddings": true}"#;

/// SmolLM2 135M, with a context that is long enough to be timed in.
const SMOLLM2: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 64, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
    "tie_word_embeddings": true}"#;

/// `transformer::ON_DEVICE` with keys and values of their own for all layers: what it saves to read those of others.
const ON_DEVICE_UNSHARED: &str = r#"{"architectures": ["AfmForCausalLM"], "vocab_size": 153600, "hidden_size": 2048,
    "intermediate_size": 6656, "num_hidden_layers": 56, "num_kv_reuse_layers": 0, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 65536, "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;

/// Every work.
pub(super) const WORKS: [Work; 19] = [
    Work {
        name: "unet-sd15",
        large: false,
        what: What::Network(Network {
            class: UNET,
            config: UNET_SD15,
            function: "main",
            sizes: &[("batch", 1), ("tokens", 77), ("height", 64), ("width", 64)],
            multiple: 8,
            frugal: false,
        }),
    },
    Work {
        name: "unet-sdxl",
        large: true,
        what: What::Network(Network {
            class: UNET,
            config: UNET_SDXL,
            function: "main",
            sizes: &[("batch", 1), ("tokens", 77), ("height", 128), ("width", 128)],
            multiple: 4,
            frugal: false,
        }),
    },
    Work {
        name: "vae-sd",
        large: false,
        what: What::Network(Network {
            class: "AutoencoderKL",
            config: VAE_SD,
            function: "decode",
            sizes: &[("batch", 1), ("height", 64), ("width", 64)],
            multiple: 1,
            frugal: true,
        }),
    },
    Work {
        name: "taesd",
        large: false,
        what: What::Network(Network {
            class: "AutoencoderTiny",
            config: TAESD,
            function: "decode",
            sizes: &[("batch", 1), ("height", 64), ("width", 64)],
            multiple: 1,
            frugal: true,
        }),
    },
    Work {
        name: "clip-l",
        large: false,
        what: What::Network(Network {
            class: CLIP,
            config: CLIP_L,
            function: "main",
            sizes: &[("batch", 1), ("tokens", 77)],
            multiple: 1,
            frugal: false,
        }),
    },
    Work {
        name: "flux-blocks",
        large: true,
        what: What::Network(Network {
            class: "FluxTransformer2DModel",
            config: FLUX,
            function: "main",
            sizes: &[("batch", 1), ("tokens", 512), ("height", 32), ("width", 32)],
            multiple: 1,
            frugal: false,
        }),
    },
    Work {
        name: "z-image-blocks",
        large: true,
        what: What::Network(Network {
            class: "ZImageTransformer2DModel",
            config: Z_IMAGE,
            function: "main",
            sizes: &[("batch", 1), ("tokens", 128), ("height", 32), ("width", 32)],
            multiple: 1,
            frugal: false,
        }),
    },
    Work {
        name: "upscaler",
        large: false,
        what: What::Network(Network {
            class: "SRVGGNetCompact",
            config: COMPACT,
            function: "main",
            sizes: &[("batch", 1), ("height", 128), ("width", 128)],
            multiple: 1,
            frugal: false,
        }),
    },
    Work {
        name: "upscaler-dense",
        large: false,
        what: What::Network(Network {
            class: "RRDBNet",
            config: DENSE,
            function: "main",
            sizes: &[("batch", 1), ("height", 128), ("width", 128)],
            multiple: 1,
            frugal: false,
        }),
    },
    Work {
        name: "picture-default",
        large: false,
        what: What::Picture(Picture { model: None, side: 128, steps: 6, precision: None, until: Until::End }),
    },
    Work {
        name: "picture-sd15",
        large: true,
        what: What::Picture(Picture {
            model: Some(&SD15),
            side: 512,
            steps: 4,
            precision: Some(Precision::Int8),
            until: Until::End,
        }),
    },
    Work {
        name: "picture-sdxs",
        large: true,
        what: What::Picture(Picture {
            model: Some(&SDXS),
            side: 512,
            steps: 1,
            precision: Some(Precision::Int8),
            until: Until::End,
        }),
    },
    Work {
        name: "picture-sdxl",
        large: true,
        what: What::Picture(Picture {
            model: Some(&SDXL),
            side: 1024,
            steps: 4,
            precision: Some(Precision::Int8),
            until: Until::End,
        }),
    },
    Work {
        name: "start-sd15",
        large: true,
        what: What::Picture(Picture {
            model: Some(&SD15),
            side: 512,
            steps: 1,
            precision: Some(Precision::Int8),
            until: Until::FirstStep,
        }),
    },
    Work { name: "smollm2", large: true, what: What::Text(Text { config: SMOLLM2, tokens: 49152 }) },
    Work { name: "llama-1b", large: true, what: What::Text(Text { config: LLAMA_1B, tokens: 128_256 }) },
    Work { name: "llama-3b", large: true, what: What::Text(Text { config: LLAMA_3B, tokens: 128_256 }) },
    Work { name: "afm-3b", large: true, what: What::Text(Text { config: transformer::ON_DEVICE, tokens: 153_600 }) },
    Work {
        name: "afm-3b-unshared",
        large: true,
        what: What::Text(Text { config: ON_DEVICE_UNSHARED, tokens: 153_600 }),
    },
];
