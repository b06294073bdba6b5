"""A second list of networks that none of us wrote, for what the first does not have: recurrences, sparse attention, detection, sound, caches."""

import functools

import torch

from networks import LLAMA, SMALL, Results, decoder, encoder, ids, image_model, timm_model

TIMM = """
coatnet_nano_rw_224 maxxvit_rmlp_nano_rw_256 mobilenetv4_conv_small convnextv2_atto repvit_m0_9 efficientvit_b0 efficientvit_m0 fasternet_t0
inception_next_atto mambaout_femto nextvit_small nest_tiny pvt_v2_b0_li hgnetv2_b0 rdnet_tiny shvit_s1 swiftformer_xs vit_tiny_r_s16_p8_224
vitamin_small_224 xcit_nano_12_p8_224 sknet regnetz_b16 gernet_s hardcorenas_a bat_resnext26ts eca_halonext26ts sebotnet33ts_256 samvit_base_patch16
naflexvit_base_patch16_gap csatv2 vovnet39a legacy_seresnet18 tf_mixnet_s haloregnetz_b
""".split()


class Boxes(torch.nn.Module):
    """A detector's backbone and pyramid, whose result is a dictionary."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return tuple(self.model(x).values())


class Found(torch.nn.Module):
    """What a whole detector finds in a picture."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return tuple(self.model([x])[0].values())


def detector(name):
    """A detector as torch 2.15 exports it: what its export refuses of torchvision is said otherwise.

    `batched_nms` asks how many boxes there are before it moves those of each class apart, which is a question to the
    data; and masks are pasted into the picture one by one, as many as the data says: they are yielded as they are.
    """
    import torchvision
    from torchvision.models import detection

    def batched_nms(boxes, scores, idxs, iou_threshold):
        apart = idxs.to(boxes) * (boxes.max() + 1)
        return torchvision.ops.nms(boxes + apart[:, None], scores, iou_threshold)

    torchvision.ops.boxes.batched_nms = batched_nms
    detection.transform.paste_masks_in_image = lambda masks, boxes, shape, padding=1: masks
    few = {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 10, "box_score_thresh": 0.0}
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=5, min_size=128, max_size=128, **few)
    return Found(model.eval()), (torch.rand(3, 128, 128),)


class Suppression(torch.nn.Module):
    """A head that keeps boxes above a score, in order: how many is for the data to decide."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(3, 5, 3, stride=4, padding=1)

    def forward(self, x):
        y = self.head(x).flatten(2).transpose(1, 2)[0]
        scores, boxes = y[:, 0].sigmoid(), y[:, 1:]
        keep = scores > 0.5
        scores, boxes = scores[keep], boxes[keep]
        corners = torch.cat([boxes[:, :2] - boxes[:, 2:].exp() / 2, boxes[:, :2] + boxes[:, 2:].exp() / 2], 1)
        return corners.clamp(-5, 5), scores, torch.nonzero(keep).squeeze(1)


class Regulated(torch.nn.Module):
    """Text to sound as FastSpeech does it: states repeated as often as a predictor says."""

    def __init__(self):
        super().__init__()
        self.table, self.length = torch.nn.Embedding(50, 16), torch.nn.Linear(16, 1)
        self.decoder = torch.nn.GRU(16, 20)

    def forward(self, ids):
        x = self.table(ids)
        times = (self.length(x).squeeze(-1).abs() * 3).round().long().clamp(1, 9)
        y = torch.repeat_interleave(x, times, 0)
        torch._check(y.shape[0] <= 9 * ids.shape[0])
        torch._check(y.shape[0] >= 1)
        return y.cumsum(0), times


class Relaxation(torch.nn.Module):
    """A fixed point found by as many steps as it takes."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(12, 12)

    def forward(self, x):
        def unfinished(i, y, change):
            return (change > 1e-4) & (i < 50)

        def step(i, y, change):
            new = torch.tanh(self.linear(y) * 0.5 + x)
            return i + 1, new, (new - y).abs().max()

        start = (torch.tensor(0), torch.zeros_like(x), torch.tensor(1.0))
        return torch._higher_order_ops.while_loop(unfinished, step, start)


class Spectral(torch.nn.Module):
    """A Fourier neural operator's layer (Li et al. 2021) beside a convolution."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 6, 5, 4, 2) * 0.2)
        self.conv = torch.nn.Conv2d(6, 6, 1)

    def forward(self, x):
        spectrum = torch.fft.rfft2(x)
        weight = torch.view_as_complex(self.weight)
        low = (spectrum[:, :, None, :5, :4] * weight[None]).sum(1)
        padded = torch.view_as_complex(torch.nn.functional.pad(torch.view_as_real(low), (0, 0, 0, 5, 0, 11)))
        return torch.fft.irfft2(padded, s=(16, 16)) + self.conv(x)


class Listening(torch.nn.Module):
    """A logarithmic mel spectrogram as speech models take it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(128))
        self.register_buffer("mel", torch.rand(20, 65))

    def forward(self, x):
        power = torch.stft(x, 128, 32, window=self.window, return_complex=True).abs() ** 2
        log = torch.clamp(self.mel @ power, min=1e-10).log10()
        log = torch.maximum(log, log.max() - 8.0)
        return (log + 4.0) / 4.0


def backbone():
    import torchvision

    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    return Boxes(model.backbone), (torch.randn(1, 3, 128, 128),)


def retina():
    import torchvision

    model = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = model.backbone, model.head

        def forward(self, x):
            return tuple(self.head(list(self.backbone(x).values())).values())

    return Head(), (torch.randn(1, 3, 96, 96),)


def video(name):
    import torchvision

    return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, 8, 64, 64),)


def of(cls, config, fields, kwargs, fixed=None, **sizes):
    import transformers

    cls, config = (functools.reduce(getattr, name.split("."), transformers) for name in (cls, config))
    return Results(cls(config(**sizes)), fields, **(fixed or {})), (), kwargs


def sound(cls, config, fields=("last_hidden_state",), **sizes):
    return of(cls, config, list(fields), {"input_values": torch.randn(1, 4000)}, **sizes)


WAVES = {
    "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "conv_dim": (32, 32, 32), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 2), "num_feat_extract_layers": 3,
}


def transformers_networks():
    picture = torch.randn(1, 3, 64, 64)
    pair = {"input_ids": ids(12), "decoder_input_ids": ids(7)}
    small = {"vocab_size": 1000, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    return {
        "mamba": lambda: of("MambaForCausalLM", "MambaConfig", ["logits"], {"input_ids": ids(16)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, num_hidden_layers=2, state_size=8),
        "mamba2": lambda: of("Mamba2ForCausalLM", "Mamba2Config", ["logits"], {"input_ids": ids(16)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=16, n_groups=2, chunk_size=8),
        "rwkv": lambda: of("RwkvForCausalLM", "RwkvConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, num_hidden_layers=2, attention_hidden_size=64),
        "mobilebert": lambda: of("MobileBertModel", "MobileBertConfig", ["last_hidden_state"], {"input_ids": ids(16)}, vocab_size=1000, num_hidden_layers=2, hidden_size=64, intra_bottleneck_size=32, embedding_size=32, intermediate_size=64),
        "deberta_v2": lambda: encoder("DebertaV2Model", "DebertaV2Config", **SMALL, relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"]),
        "deberta": lambda: of("DebertaModel", "DebertaConfig", ["last_hidden_state"], {"input_ids": ids(12)}, **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        "bigbird": lambda: of("BigBirdModel", "BigBirdConfig", ["last_hidden_state"], {"input_ids": ids(64)}, **SMALL, attention_type="original_full"),
        "albert": lambda: encoder("AlbertModel", "AlbertConfig", **SMALL, embedding_size=32),
        "electra": lambda: encoder("ElectraModel", "ElectraConfig", **SMALL, embedding_size=32),
        "funnel": lambda: of("FunnelBaseModel", "FunnelConfig", ["last_hidden_state"], {"input_ids": ids(16)}, vocab_size=1000, d_model=64, n_head=4, d_head=16, d_inner=128, block_sizes=[1, 1]),
        "fnet": lambda: of("FNetModel", "FNetConfig", ["last_hidden_state"], {"input_ids": ids(16)}, vocab_size=1000, hidden_size=64, num_hidden_layers=2, intermediate_size=128),
        "modernbert": lambda: encoder("ModernBertModel", "ModernBertConfig", **SMALL, pad_token_id=0, attn_implementation="sdpa"),
        "xlnet": lambda: of("XLNetModel", "XLNetConfig", ["last_hidden_state"], {"input_ids": ids(12)}, vocab_size=1000, d_model=64, n_layer=2, n_head=4, d_inner=128),
        "gemma3": lambda: decoder("Gemma3ForCausalLM", "Gemma3TextConfig", **LLAMA, head_dim=32, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        "phi3": lambda: decoder("Phi3ForCausalLM", "Phi3Config", **LLAMA, pad_token_id=0),
        "phi": lambda: decoder("PhiForCausalLM", "PhiConfig", **SMALL),
        "olmo2": lambda: decoder("Olmo2ForCausalLM", "Olmo2Config", **LLAMA),
        "falcon": lambda: decoder("FalconForCausalLM", "FalconConfig", vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=4),
        "falcon_alibi": lambda: of("FalconForCausalLM", "FalconConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, alibi=True),
        "bloom": lambda: decoder("BloomForCausalLM", "BloomConfig", vocab_size=1000, hidden_size=64, n_layer=2, n_head=4),
        "opt": lambda: decoder("OPTForCausalLM", "OPTConfig", vocab_size=1000, hidden_size=64, num_hidden_layers=2, ffn_dim=128, num_attention_heads=4, word_embed_proj_dim=64),
        "mpt": lambda: of("MptForCausalLM", "MptConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, vocab_size=1000, d_model=64, n_heads=4, n_layers=2, max_seq_len=64),
        "gptneox": lambda: decoder("GPTNeoXForCausalLM", "GPTNeoXConfig", **SMALL),
        "gptj": lambda: decoder("GPTJForCausalLM", "GPTJConfig", vocab_size=1000, n_embd=64, n_layer=2, n_head=4, rotary_dim=8),
        "stablelm": lambda: decoder("StableLmForCausalLM", "StableLmConfig", **LLAMA),
        "starcoder2": lambda: decoder("Starcoder2ForCausalLM", "Starcoder2Config", **LLAMA),
        "qwen2_moe": lambda: decoder("Qwen2MoeForCausalLM", "Qwen2MoeConfig", **LLAMA, num_experts=4, moe_intermediate_size=64, shared_expert_intermediate_size=64),
        "deepseek_v2": lambda: decoder("DeepseekV2ForCausalLM", "DeepseekV2Config", vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=128, kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4, moe_intermediate_size=32, first_k_dense_replace=1, num_experts_per_tok=2),
        "recurrent_gemma": lambda: of("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **LLAMA, lru_width=128, attention_window_size=8),
        "t5": lambda: of("T5Model", "T5Config", ["last_hidden_state"], pair, {"use_cache": False}, vocab_size=1000, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4),
        "bart": lambda: of("BartModel", "BartConfig", ["last_hidden_state"], pair, {"use_cache": False}, **small),
        "marian": lambda: of("MarianModel", "MarianConfig", ["last_hidden_state"], pair, {"use_cache": False}, **small, pad_token_id=0, decoder_start_token_id=0),
        "sam_encoder": lambda: of("SamVisionModel", "SamVisionConfig", ["last_hidden_state"], {"pixel_values": picture}, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16, output_channels=32, window_size=3, global_attn_indexes=[1], mlp_dim=128),
        "swinv2": lambda: image_model("Swinv2Model", "Swinv2Config", ["last_hidden_state"], image_size=64, patch_size=4, embed_dim=24, depths=[1, 2], num_heads=[2, 4], window_size=4),
        "convnextv2": lambda: image_model("ConvNextV2Model", "ConvNextV2Config", ["last_hidden_state"], hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
        "vitdet": lambda: image_model("VitDetBackbone", "VitDetConfig", ["feature_maps"], hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=8, window_size=3, window_block_indices=[0], use_relative_position_embeddings=True),
        "depth_anything": lambda: image_model("DPTForDepthEstimation", "DPTConfig", ["predicted_depth"], hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=16),
        "detr": lambda: of("DetrForObjectDetection", "DetrConfig", ["logits", "pred_boxes"], {"pixel_values": picture, "pixel_mask": torch.ones(1, 64, 64, dtype=torch.long)}, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=9, use_pretrained_backbone=False),
        "yolos": lambda: image_model("YolosForObjectDetection", "YolosConfig", ["logits", "pred_boxes"], hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=[64, 64], patch_size=16, num_detection_tokens=7),
        "hubert": lambda: sound("HubertModel", "HubertConfig", **WAVES),
        "wavlm": lambda: sound("WavLMModel", "WavLMConfig", **WAVES),
        "sew": lambda: sound("SEWModel", "SEWConfig", **WAVES, squeeze_factor=2),
        "ast": lambda: of("ASTModel", "ASTConfig", ["last_hidden_state"], {"input_values": torch.randn(1, 64, 32)}, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, max_length=64, num_mel_bins=32),
        "vits": lambda: of("VitsModel", "VitsConfig", ["waveform"], {"input_ids": ids(9, 38)}, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64, flow_size=32, spectrogram_bins=33, wavenet_dilation_rate=1, upsample_initial_channel=32, resblock_dilation_sizes=[[1], [1]], resblock_kernel_sizes=[3, 5]),
        "time_series": lambda: of("PatchTSTModel", "PatchTSTConfig", ["last_hidden_state"], {"past_values": torch.randn(2, 32, 3)}, num_input_channels=3, context_length=32, patch_length=8, patch_stride=8, d_model=32, num_attention_heads=4, num_hidden_layers=2, ffn_dim=64),
    }  # fmt: skip


def diffusers_networks():
    import diffusers

    def pixart():
        model = diffusers.PixArtTransformer2DModel(num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, cross_attention_dim=32, sample_size=8, patch_size=2, caption_channels=24, norm_type="ada_norm_single", use_additional_conditions=False)
        kwargs = {"hidden_states": torch.randn(1, 4, 8, 8), "encoder_hidden_states": torch.randn(1, 7, 24), "timestep": torch.tensor([3])}
        return Results(model, ["sample"], added_cond_kwargs={"resolution": None, "aspect_ratio": None}), (), kwargs

    def dit():
        model = diffusers.DiTTransformer2DModel(num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=20)
        return Results(model, ["sample"]), (), {"hidden_states": torch.randn(1, 4, 8, 8), "timestep": torch.tensor([3]), "class_labels": torch.tensor([7])}

    def hunyuan():
        model = diffusers.HunyuanDiT2DModel(num_attention_heads=4, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=8, hidden_size=32, num_layers=2, cross_attention_dim=16, cross_attention_dim_t5=24, pooled_projection_dim=16, text_len=5, text_len_t5=6)
        kwargs = {
            "hidden_states": torch.randn(1, 4, 8, 8), "timestep": torch.tensor([3.0]), "encoder_hidden_states": torch.randn(1, 5, 16), "text_embedding_mask": torch.ones(1, 5),
            "encoder_hidden_states_t5": torch.randn(1, 6, 24), "text_embedding_mask_t5": torch.ones(1, 6), "image_meta_size": torch.rand(1, 6), "style": torch.tensor([0]), "image_rotary_emb": (torch.randn(16, 8), torch.randn(16, 8)),
        }  # fmt: skip
        return Results(model, ["sample"]), (), kwargs

    def sana():
        model = diffusers.SanaTransformer2DModel(in_channels=4, out_channels=4, num_attention_heads=4, attention_head_dim=8, num_layers=2, num_cross_attention_heads=4, cross_attention_head_dim=8, cross_attention_dim=32, caption_channels=24, sample_size=8)
        return Results(model, ["sample"]), (), {"hidden_states": torch.randn(1, 4, 8, 8), "encoder_hidden_states": torch.randn(1, 7, 24), "timestep": torch.tensor([3])}

    def vq():
        model = diffusers.VQModel(block_out_channels=(32,), norm_num_groups=8, latent_channels=3, num_vq_embeddings=40)
        return Results(model, ["sample"]), (), {"sample": torch.randn(1, 3, 32, 32)}

    def temporal():
        model = diffusers.AutoencoderKLTemporalDecoder(block_out_channels=(32,), latent_channels=4, layers_per_block=1, down_block_types=("DownEncoderBlock2D",))
        return Results(model, ["sample"], num_frames=2), (), {"sample": torch.randn(2, 3, 32, 32)}

    return {"pixart": pixart, "dit": dit, "hunyuan": hunyuan, "sana": sana, "vq": vq, "temporal": temporal}


def networks():
    """All networks of this list by name, as functions that build them."""
    table = {f"timm.{name}": functools.partial(timm_model, name) for name in TIMM}
    table |= {f"transformers.{name}": build for name, build in transformers_networks().items()}
    table |= {f"diffusers.{name}": build for name, build in diffusers_networks().items()}
    table |= {f"torchvision.{name}": functools.partial(video, name) for name in ["r3d_18", "mc3_18", "s3d"]}
    table |= {
        "torchvision.backbone": backbone, "torchvision.retina": retina,
        "torchvision.faster_rcnn": lambda: detector("fasterrcnn_resnet50_fpn"), "torchvision.mask_rcnn": lambda: detector("maskrcnn_resnet50_fpn"),
        "torch.suppression": lambda: (Suppression(), (torch.randn(1, 3, 32, 32),)),
        "torch.regulated": lambda: (Regulated(), (ids(7, 50)[0],)),
        "torch.relaxation": lambda: (Relaxation(), (torch.randn(3, 12),)),
        "torch.spectral": lambda: (Spectral(), (torch.randn(2, 6, 16, 16),)),
        "torch.listening": lambda: (Listening(), (torch.randn(1, 2000),)),
        "torch.transformer": lambda: (torch.nn.Transformer(32, 4, 2, 2, 64, batch_first=True), (torch.randn(2, 9, 32), torch.randn(2, 7, 32))),
    }
    return table
