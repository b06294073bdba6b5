"""Networks that none of us wrote, at sizes that a small machine exports and runs in a minute: name -> (module, args, kwargs, dynamic shapes).

Weights are random with a fixed seed; norms with statistics get some, so that folding them is tested.
"""

import functools

import torch

IMAGE = (1, 3, 224, 224)

TORCHVISION = [
    "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "swin_t", "swin_v2_t",
    "vit_b_32", "shufflenet_v2_x1_0", "squeezenet1_1", "densenet121", "googlenet", "regnet_y_400mf", "maxvit_t", "mnasnet0_5",
    "alexnet", "vgg11_bn",
]
SEGMENTATION = ["deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"]
TIMM = """
beit_base_patch16_224 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 crossvit_tiny_240 cspresnet50 deit_tiny_patch16_224 dpn68
edgenext_xx_small efficientformer_l1 eva02_tiny_patch14_224 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_100 hrnet_w18_small
inception_v3 levit_128s mixer_s32_224 mobilevit_xxs mobileone_s0 mvitv2_tiny nfnet_l0 pit_ti_224 poolformer_s12 pvt_v2_b0 repvgg_a0
res2net50_26w_4s resmlp_12_224 resnetv2_50x1_bit rexnet_100 selecsls42b skresnet18 tnt_s_patch16_224 twins_svt_small visformer_tiny
volo_d1_224 xcit_nano_12_p16_224 xception41 halonet26t lambda_resnet26t hiera_tiny_224 tiny_vit_5m_224 starnet_s1
vit_small_patch14_dinov2 davit_tiny dla34 ese_vovnet19b_dw lcnet_050 sequencer2d_s swinv2_tiny_window8_256 tresnet_m
""".split()


def randomize_statistics(module, generator):
    """Statistics and scales of norms as training would leave them: not zero and one."""
    for part in module.modules():
        for name, low, high in [("running_mean", -0.2, 0.2), ("running_var", 0.6, 1.4)]:
            tensor = getattr(part, name, None)
            if isinstance(tensor, torch.Tensor):
                tensor.data = torch.empty_like(tensor).uniform_(low, high, generator=generator)
        if "Norm" in type(part).__name__ and isinstance(getattr(part, "weight", None), torch.Tensor):
            part.weight.data = torch.empty_like(part.weight).uniform_(0.7, 1.3, generator=generator)
            if isinstance(getattr(part, "bias", None), torch.Tensor):
                part.bias.data = torch.empty_like(part.bias).uniform_(-0.2, 0.2, generator=generator)


class Results(torch.nn.Module):
    """A transformers or diffusers model whose result is a tuple of tensors."""

    def __init__(self, model, fields, **fixed):
        super().__init__()
        self.model, self.fields, self.fixed = model, fields, fixed

    def forward(self, *args, **kwargs):
        out = self.model(*args, **kwargs, **self.fixed)
        return tuple(getattr(out, field) for field in self.fields)


def vision(name):
    import torchvision

    return torchvision.models.get_model(name, weights=None), (torch.randn(IMAGE),)


def segmentation(name):
    import torchvision

    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return model, (torch.randn(1, 3, 160, 160),)


def raft():
    import torchvision

    pair = torch.rand(2, 1, 3, 128, 128) * 2 - 1
    return torchvision.models.optical_flow.raft_small(weights=None), (pair[0], pair[1]), {"num_flow_updates": 3}


def timm_model(name):
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, (torch.randn(1, *model.pretrained_cfg["input_size"]),)


def ids(length, vocabulary=1000, batch=1):
    return torch.randint(3, vocabulary - 3, (batch, length))


def encoder(cls, config, **sizes):
    import transformers

    config = getattr(transformers, config)(**sizes)
    model = getattr(transformers, cls)(config)
    kwargs = {"input_ids": ids(24, batch=2), "attention_mask": torch.ones(2, 24, dtype=torch.long)}
    kwargs["attention_mask"][1, 17:] = 0
    length = torch.export.Dim("length", min=2, max=128)
    shapes = {"kwargs": {"input_ids": {1: length}, "attention_mask": {1: length}}}
    return Results(model, ["last_hidden_state"]), (), kwargs, shapes


def decoder(cls, config, **sizes):
    import transformers

    config = getattr(transformers, config)(**sizes)
    model = getattr(transformers, cls)(config)
    length = torch.export.Dim("length", min=2, max=64)
    kwargs = {"input_ids": ids(20)}
    return Results(model, ["logits"], use_cache=False), (), kwargs, {"kwargs": {"input_ids": {1: length}}}


SMALL = {"vocab_size": 1000, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
LLAMA = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 256}


def cached_decoder():
    """Llama with its cache as buffers and one token at a time: what an exporter for generation makes."""
    import transformers
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    config = transformers.LlamaConfig(**LLAMA)
    model = transformers.LlamaForCausalLM(config).eval()
    model.generation_config = transformers.GenerationConfig(
        use_cache=True, cache_implementation="static", max_length=64,
        cache_config={"batch_size": 1, "max_cache_len": 64, "device": "cpu"},
    )
    module = TorchExportableModuleWithStaticCache(model)
    return module, (), {"input_ids": ids(1), "cache_position": torch.tensor([0])}


def whisper_encoder():
    import transformers

    config = transformers.WhisperConfig(
        d_model=128, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=256, decoder_ffn_dim=256, vocab_size=1000, max_source_positions=100,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )
    return transformers.WhisperModel(config)


def image_model(cls, config, fields, size=64, channels=3, name="pixel_values", **sizes):
    import transformers

    model = getattr(transformers, cls)(getattr(transformers, config)(**sizes))
    return Results(model, fields), (), {name: torch.randn(1, channels, size, size)}


def two_towers(cls, config, text, vision_config):
    import transformers

    model = getattr(transformers, cls)(getattr(transformers, config)(text_config=text, vision_config=vision_config))
    kwargs = {"input_ids": ids(12), "pixel_values": torch.randn(1, 3, 64, 64)}
    return Results(model, ["text_embeds", "image_embeds"]), (), kwargs


def waves():
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, conv_dim=(32, 32, 32), conv_stride=(5, 2, 2), conv_kernel=(10, 3, 2),
        num_feat_extract_layers=3,
    )
    return Results(transformers.Wav2Vec2Model(config), ["last_hidden_state"]), (), {"input_values": torch.randn(1, 4000)}


def unet2d():
    import diffusers

    model = diffusers.UNet2DModel(
        sample_size=32, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return Results(model, ["sample"]), (), {"sample": torch.randn(1, 3, 32, 32), "timestep": torch.tensor([17])}


def unet2d_condition():
    import diffusers

    model = diffusers.UNet2DConditionModel(
        sample_size=32, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
        cross_attention_dim=48, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    kwargs = {"sample": torch.randn(1, 4, 32, 32), "timestep": torch.tensor([17]), "encoder_hidden_states": torch.randn(1, 9, 48)}
    return Results(model, ["sample"]), (), kwargs


def sd3():
    import diffusers

    model = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=4,
        joint_attention_dim=48, caption_projection_dim=64, pooled_projection_dim=40, out_channels=4, pos_embed_max_size=24,
    )
    kwargs = {
        "hidden_states": torch.randn(1, 4, 16, 16), "encoder_hidden_states": torch.randn(1, 9, 48),
        "pooled_projections": torch.randn(1, 40), "timestep": torch.tensor([0.7]),
    }
    return Results(model, ["sample"]), (), kwargs


def flux():
    import diffusers

    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=4,
        joint_attention_dim=48, pooled_projection_dim=40, axes_dims_rope=(4, 4, 8),
    )
    kwargs = {
        "hidden_states": torch.randn(1, 36, 16), "encoder_hidden_states": torch.randn(1, 9, 48),
        "pooled_projections": torch.randn(1, 40), "timestep": torch.tensor([0.7]),
        "img_ids": torch.randint(0, 6, (36, 3)).float(), "txt_ids": torch.zeros(9, 3),
    }
    return Results(model, ["sample"]), (), kwargs


def autoencoder():
    import diffusers

    model = diffusers.AutoencoderKL(
        block_out_channels=(32, 64), norm_num_groups=8, latent_channels=4, sample_size=32, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )
    return Results(model, ["sample"]), (), {"sample": torch.randn(1, 3, 64, 64)}


class Tagger(torch.nn.Module):
    def __init__(self, kind, classes=17):
        super().__init__()
        self.table = torch.nn.Embedding(500, 48)
        self.layers = getattr(torch.nn, kind)(48, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(128, classes)

    def forward(self, ids):
        return self.head(self.layers(self.table(ids))[0]).log_softmax(-1)


class Branches(torch.nn.Module):
    """Control flow that depends on data."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)

    def forward(self, x):
        return torch.cond(x.mean() > 0, lambda x: self.a(x).sin(), lambda x: self.b(x).cos(), (x,))


def networks():
    """All networks by name, as functions that build them."""
    table = {f"torchvision.{name}": functools.partial(vision, name) for name in TORCHVISION}
    table |= {f"torchvision.{name}": functools.partial(segmentation, name) for name in SEGMENTATION}
    table["torchvision.raft_small"] = raft
    table |= {f"timm.{name}": functools.partial(timm_model, name) for name in TIMM}
    language = {
        "bert": lambda: encoder("BertModel", "BertConfig", **SMALL),
        "distilbert": lambda: encoder("DistilBertModel", "DistilBertConfig", vocab_size=1000, dim=128, n_layers=3, n_heads=4, hidden_dim=256),
        "roberta": lambda: encoder("RobertaModel", "RobertaConfig", **SMALL),
        "t5_encoder": lambda: encoder("T5EncoderModel", "T5Config", vocab_size=1000, d_model=128, d_kv=32, d_ff=256, num_layers=3, num_heads=4),
        "gpt2": lambda: decoder("GPT2LMHeadModel", "GPT2Config", vocab_size=1000, n_embd=128, n_layer=3, n_head=4),
        "llama": lambda: decoder("LlamaForCausalLM", "LlamaConfig", **LLAMA),
        "qwen2": lambda: decoder("Qwen2ForCausalLM", "Qwen2Config", **LLAMA),
        "qwen3": lambda: decoder("Qwen3ForCausalLM", "Qwen3Config", **LLAMA, head_dim=32),
        "gemma": lambda: decoder("GemmaForCausalLM", "GemmaConfig", **LLAMA, head_dim=32),
        "mixtral": lambda: decoder("MixtralForCausalLM", "MixtralConfig", **LLAMA, num_local_experts=4),
        "llama_cached": cached_decoder,
        "whisper_encoder": lambda: (Results(whisper_encoder().encoder, ["last_hidden_state"]), (torch.randn(1, 80, 200),)),
        "whisper_decoder": lambda: (
            Results(whisper_encoder().decoder, ["last_hidden_state"], use_cache=False), (),
            {"input_ids": ids(9), "encoder_hidden_states": torch.randn(1, 100, 128)},
        ),
        "clip": lambda: two_towers(
            "CLIPModel", "CLIPConfig", SMALL | {"max_position_embeddings": 32, "eos_token_id": 999},
            SMALL | {"image_size": 64, "patch_size": 16}),
        "siglip": lambda: two_towers(
            "SiglipModel", "SiglipConfig", SMALL | {"max_position_embeddings": 32}, SMALL | {"image_size": 64, "patch_size": 16}),
        "dinov2": lambda: image_model("Dinov2Model", "Dinov2Config", ["last_hidden_state"], 70, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=70, patch_size=14),
        "segformer": lambda: image_model("SegformerForSemanticSegmentation", "SegformerConfig", ["logits"], 128, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=64),
        "wav2vec2": waves,
        "vit_mae": lambda: image_model("ViTModel", "ViTConfig", ["last_hidden_state"], hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, image_size=64, patch_size=16),
    }
    table |= {f"transformers.{name}": build for name, build in language.items()}
    table |= {
        "diffusers.unet2d": unet2d, "diffusers.unet2d_condition": unet2d_condition, "diffusers.sd3": sd3,
        "diffusers.flux": flux, "diffusers.autoencoder_kl": autoencoder,
        "torch.lstm_tagger": lambda: (Tagger("LSTM"), (ids(23, 500, 2),)),
        "torch.gru_tagger": lambda: (Tagger("GRU"), (ids(23, 500, 2),)),
        "torch.branches": lambda: (Branches(), (torch.randn(4, 16),)),
    }
    import more_networks
    import pretrained_networks
    import varied_networks

    return table | more_networks.networks() | varied_networks.networks() | pretrained_networks.networks()


def build(name):
    """The module in evaluation mode, its arguments, keyword arguments and dynamic shapes."""
    torch.manual_seed(0)
    parts = networks()[name]()
    module, args, kwargs, shapes = (*parts, *[{}, None][len(parts) - 2 :])
    generator = torch.Generator().manual_seed(1)
    module = module.eval().requires_grad_(False)
    if name.startswith("pretrained."):
        return module, args, kwargs, shapes
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            # Some heads start at zero, which would hide all that comes before them.
            parameter.normal_(0, 0.02, generator=generator)
    randomize_statistics(module, generator)
    return module, args, kwargs, shapes
