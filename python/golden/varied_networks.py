"""A third list of networks that none of us wrote, chosen for variety: detectors, speech, video, time series, long sequences, codecs."""

import functools

import torch

from more_networks import WAVES, of, sound
from networks import LLAMA, SMALL, Results, decoder, encoder, ids, image_model, vision

TINY = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
PLAIN = {name: TINY[name] for name in ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]}
TRANSLATOR = {"vocab_size": 1000, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
DETECTOR = TRANSLATOR | {"d_model": 32, "num_queries": 9, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "use_pretrained_backbone": False}
DETECTOR.pop("vocab_size")


def text(cls, config, **sizes):
    """An encoder of fixed length."""
    return of(cls, config, ["last_hidden_state"], {"input_ids": ids(16)}, **(TINY | sizes))


def translator(cls, config, length=12, **sizes):
    kwargs = {"input_ids": ids(length), "decoder_input_ids": ids(7)}
    return of(cls, config, ["last_hidden_state"], kwargs, {"use_cache": False}, **(TRANSLATOR | sizes))


def detector(cls, config, size=64, **sizes):
    kwargs = {"pixel_values": torch.randn(1, 3, size, size), "pixel_mask": torch.ones(1, size, size, dtype=torch.long)}
    return of(cls, config, ["logits", "pred_boxes"], kwargs, **(DETECTOR | sizes))


def film(cls, config, name="pixel_values", frames=4, **sizes):
    return of(cls, config, ["last_hidden_state"], {name: torch.randn(1, frames, 3, 32, 32)}, **sizes)


def series(cls, config, **sizes):
    """A network that continues a series of numbers."""
    lags, context, future = 3, 16, 4
    kwargs = {
        "past_values": torch.randn(2, context + lags), "past_time_features": torch.randn(2, context + lags, 2), "past_observed_mask": torch.ones(2, context + lags),
        "future_values": torch.randn(2, future), "future_time_features": torch.randn(2, future, 2),
    }  # fmt: skip
    sizes = {"prediction_length": future, "context_length": context, "lags_sequence": [1, 2, 3], "num_time_features": 2, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32} | sizes
    return of(cls, config, ["last_hidden_state"], kwargs, {"use_cache": False}, **sizes)


def language_networks():
    mamba = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
    moe = LLAMA | {"num_experts": 4, "moe_intermediate_size": 64, "num_experts_per_tok": 2}
    return {
        "squeezebert": lambda: text("SqueezeBertModel", "SqueezeBertConfig", embedding_size=64),
        "yoso": lambda: text("YosoModel", "YosoConfig", use_expectation=True),
        "flaubert": lambda: of("FlaubertModel", "FlaubertConfig", ["last_hidden_state"], {"input_ids": ids(12)}, vocab_size=1000, emb_dim=64, n_layers=2, n_heads=4),
        "xlm": lambda: of("XLMModel", "XLMConfig", ["last_hidden_state"], {"input_ids": ids(12)}, vocab_size=1000, emb_dim=64, n_layers=2, n_heads=4),
        "rembert": lambda: encoder("RemBertModel", "RemBertConfig", **TINY, input_embedding_size=32),
        "canine": lambda: of("CanineModel", "CanineConfig", ["last_hidden_state"], {"input_ids": ids(32)}, **PLAIN, num_hash_buckets=500, local_transformer_stride=8),
        "mpnet": lambda: encoder("MPNetModel", "MPNetConfig", **SMALL),
        "convbert": lambda: text("ConvBertModel", "ConvBertConfig", embedding_size=64),
        "splinter": lambda: text("SplinterModel", "SplinterConfig"),
        "roformer": lambda: encoder("RoFormerModel", "RoFormerConfig", **SMALL),
        "ibert": lambda: text("IBertModel", "IBertConfig"),
        "luke": lambda: of("LukeModel", "LukeConfig", ["last_hidden_state", "entity_last_hidden_state"], {"input_ids": ids(12), "entity_ids": ids(2, 50), "entity_attention_mask": torch.ones(1, 2), "entity_position_ids": torch.tensor([[[1, 2, -1], [5, -1, -1]]])}, **TINY, entity_vocab_size=50, entity_emb_size=32),
        "esm": lambda: encoder("EsmModel", "EsmConfig", **SMALL, position_embedding_type="rotary", pad_token_id=1, mask_token_id=2),
        "xmod": lambda: text("XmodModel", "XmodConfig", languages=["en_XX"], default_language="en_XX"),
        "bigbird_sparse": lambda: of("BigBirdModel", "BigBirdConfig", ["last_hidden_state"], {"input_ids": ids(64)}, **TINY, attention_type="block_sparse", block_size=8, num_random_blocks=1),
        "bigbird_pegasus": lambda: translator("BigBirdPegasusModel", "BigBirdPegasusConfig", 64, attention_type="block_sparse", block_size=8, num_random_blocks=1),
        "reformer": lambda: of("ReformerModel", "ReformerConfig", ["last_hidden_state"], {"input_ids": ids(32)}, vocab_size=1000, hidden_size=64, num_attention_heads=4, attention_head_size=16, attn_layers=["local", "local"], local_attn_chunk_length=8, axial_pos_shape=[4, 8], axial_pos_embds_dim=[32, 32], feed_forward_size=128, is_decoder=True),
        "pegasus": lambda: translator("PegasusModel", "PegasusConfig"),
        "pegasus_x": lambda: translator("PegasusXModel", "PegasusXConfig", 32, block_size=8, num_global_tokens=4),
        "prophetnet": lambda: of("ProphetNetModel", "ProphetNetConfig", ["last_hidden_state"], {"input_ids": ids(12), "decoder_input_ids": ids(7)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, encoder_ffn_dim=128, num_encoder_layers=2, num_encoder_attention_heads=4, decoder_ffn_dim=128, num_decoder_layers=2, num_decoder_attention_heads=4),
        "m2m100": lambda: translator("M2M100Model", "M2M100Config", max_position_embeddings=64),
        "umt5": lambda: of("UMT5Model", "UMT5Config", ["last_hidden_state"], {"input_ids": ids(12), "decoder_input_ids": ids(7)}, {"use_cache": False}, vocab_size=1000, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4),
        "ctrl": lambda: of("CTRLLMHeadModel", "CTRLConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, vocab_size=1000, n_embd=64, dff=128, n_layer=2, n_head=4),
        "openai_gpt": lambda: of("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", ["logits"], {"input_ids": ids(12)}, vocab_size=1000, n_embd=64, n_layer=2, n_head=4),
        "gpt_neo": lambda: decoder("GPTNeoForCausalLM", "GPTNeoConfig", vocab_size=1000, hidden_size=64, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=8),
        "gpt_neox_japanese": lambda: decoder("GPTNeoXJapaneseForCausalLM", "GPTNeoXJapaneseConfig", **TINY),
        "gpt_bigcode": lambda: decoder("GPTBigCodeForCausalLM", "GPTBigCodeConfig", vocab_size=1000, n_embd=64, n_layer=2, n_head=4),
        "codegen": lambda: decoder("CodeGenForCausalLM", "CodeGenConfig", vocab_size=1000, n_embd=64, n_layer=2, n_head=4, rotary_dim=8),
        "xglm": lambda: decoder("XGLMForCausalLM", "XGLMConfig", vocab_size=1000, d_model=64, ffn_dim=128, num_layers=2, attention_heads=4),
        "biogpt": lambda: decoder("BioGptForCausalLM", "BioGptConfig", **TINY),
        "jamba": lambda: of("JambaForCausalLM", "JambaConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **LLAMA, use_mamba_kernels=False, num_experts=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8),
        "bamba": lambda: of("BambaForCausalLM", "BambaConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **LLAMA, mamba_d_state=8, mamba_n_heads=16, mamba_d_head=16, mamba_n_groups=2, mamba_chunk_size=8, attn_layer_indices=[1]),
        "falcon_mamba": lambda: of("FalconMambaForCausalLM", "FalconMambaConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **mamba),
        "xlstm": lambda: of("xLSTMForCausalLM", "xLSTMConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_heads=4, chunk_size=4),
        "persimmon": lambda: decoder("PersimmonForCausalLM", "PersimmonConfig", **TINY),
        "nemotron": lambda: decoder("NemotronForCausalLM", "NemotronConfig", **LLAMA),
        "cohere2": lambda: decoder("Cohere2ForCausalLM", "Cohere2Config", **LLAMA, sliding_window=8),
        "granitemoe": lambda: decoder("GraniteMoeForCausalLM", "GraniteMoeConfig", **LLAMA, num_local_experts=4),
        "jetmoe": lambda: decoder("JetMoeForCausalLM", "JetMoeConfig", vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_key_value_heads=2, kv_channels=16, intermediate_size=64, num_local_experts=4),
        "olmoe": lambda: decoder("OlmoeForCausalLM", "OlmoeConfig", **LLAMA, num_experts=4, num_experts_per_tok=2),
        "gpt_oss": lambda: decoder("GptOssForCausalLM", "GptOssConfig", **LLAMA, head_dim=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        "diffllama": lambda: decoder("DiffLlamaForCausalLM", "DiffLlamaConfig", **LLAMA),
        "lfm2": lambda: of("Lfm2ForCausalLM", "Lfm2Config", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **LLAMA, layer_types=["conv", "full_attention", "conv"]),
        "qwen3_next": lambda: of("Qwen3NextForCausalLM", "Qwen3NextConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **moe, head_dim=32, shared_expert_intermediate_size=64, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16, layer_types=["linear_attention", "full_attention", "linear_attention"]),
        "minimax": lambda: of("MiniMaxForCausalLM", "MiniMaxConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **LLAMA, head_dim=32, num_local_experts=4, block_size=8, layer_types=["linear_attention", "full_attention", "linear_attention"]),
        "glm4": lambda: decoder("Glm4ForCausalLM", "Glm4Config", **LLAMA, head_dim=32, pad_token_id=0),
        "deepseek_v3": lambda: decoder("DeepseekV3ForCausalLM", "DeepseekV3Config", vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, intermediate_size=128, kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4, n_group=2, topk_group=1, moe_intermediate_size=32, first_k_dense_replace=1, num_experts_per_tok=2),
    }  # fmt: skip


def hybrid_networks():
    """Decoders of more than one kind of layer, and other ways to attend."""

    def logits(cls, config, **sizes):
        return of(cls, config, ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, **sizes)

    latent = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "num_experts_per_tok": 2}
    return {
        "nemotron_h": lambda: logits("NemotronHForCausalLM", "NemotronHConfig", vocab_size=1000, hidden_size=64, layers_block_type=["mamba", "attention", "moe", "mamba"], num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=128, ssm_state_size=8, mamba_num_heads=8, mamba_head_dim=16, n_groups=2, chunk_size=8, n_routed_experts=4, moe_intermediate_size=32, moe_shared_expert_intermediate_size=32, use_mamba_kernels=False),
        "falcon_h1": lambda: logits("FalconH1ForCausalLM", "FalconH1Config", **LLAMA, head_dim=32, mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=2, mamba_d_state=8, mamba_chunk_size=8),
        "granitemoehybrid": lambda: logits("GraniteMoeHybridForCausalLM", "GraniteMoeHybridConfig", **LLAMA, num_local_experts=4, shared_intermediate_size=64, layer_types=["mamba", "attention", "mamba"], mamba_n_heads=8, mamba_d_head=32, mamba_n_groups=2, mamba_d_state=8, mamba_chunk_size=8, pad_token_id=0),
        "gemma3n": lambda: decoder("Gemma3nForCausalLM", "Gemma3nTextConfig", **(LLAMA | {"num_hidden_layers": 4}), head_dim=32, vocab_size_per_layer_input=1000, hidden_size_per_layer_input=16, laurel_rank=8, num_kv_shared_layers=2, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2, activation_sparsity_pattern=[0.95, 0.0, 0.0, 0.0]),
        "deepseek_v32": lambda: logits("DeepseekV32ForCausalLM", "DeepseekV32Config", **latent, index_topk=4, index_head_dim=16, index_n_heads=16),
        "kimi_linear": lambda: logits("KimiLinearForCausalLM", "KimiLinearConfig", **latent, pad_token_id=0),
        "bitnet": lambda: decoder("BitNetForCausalLM", "BitNetConfig", **LLAMA),
        "helium": lambda: decoder("HeliumForCausalLM", "HeliumConfig", **LLAMA, head_dim=32),
        "lfm2_moe": lambda: logits("Lfm2MoeForCausalLM", "Lfm2MoeConfig", **LLAMA, layer_types=["conv", "full_attention", "conv"], num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, num_dense_layers=1),
        "phimoe": lambda: decoder("PhimoeForCausalLM", "PhimoeConfig", **LLAMA, num_local_experts=4, num_experts_per_tok=2),
        "llama4": lambda: logits("Llama4ForCausalLM", "Llama4TextConfig", **LLAMA, intermediate_size_mlp=128, head_dim=32, num_local_experts=4, moe_layers=[1], attention_chunk_size=8),
        "modernbert_decoder": lambda: logits("ModernBertDecoderForCausalLM", "ModernBertDecoderConfig", **SMALL, pad_token_id=0),
        "t5gemma": lambda: of("T5GemmaModel", "T5GemmaConfig", ["last_hidden_state"], {"input_ids": ids(12), "decoder_input_ids": ids(7)}, {"use_cache": False}, encoder=LLAMA | {"head_dim": 32}, decoder=LLAMA | {"head_dim": 32, "cross_attention_hidden_size": 128}),
        "tapas": lambda: of("TapasModel", "TapasConfig", ["last_hidden_state"], {"input_ids": ids(16), "token_type_ids": torch.randint(0, 2, (1, 16, 7))}, **TINY),
        "markuplm": lambda: of("MarkupLMModel", "MarkupLMConfig", ["last_hidden_state"], {"input_ids": ids(12), "xpath_tags_seq": torch.randint(0, 200, (1, 12, 5)), "xpath_subs_seq": torch.randint(0, 900, (1, 12, 5))}, **TINY, max_depth=5),
        "nomic_bert": lambda: encoder("NomicBertModel", "NomicBertConfig", **SMALL),
        "mllama_text": lambda: logits("models.mllama.modeling_mllama.MllamaForCausalLM", "models.mllama.configuration_mllama.MllamaTextConfig", **(LLAMA | {"num_hidden_layers": 2}), cross_attention_layers=[], pad_token_id=0),
        "moshi_depth": lambda: logits("MoshiForCausalLM", "MoshiConfig", **LLAMA, ffn_dim=256, head_dim=32, audio_vocab_size=50, num_codebooks=2),
    }  # fmt: skip


def speech_networks():
    return {
        "sew_d": lambda: sound("SEWDModel", "SEWDConfig", **WAVES, squeeze_factor=2, position_buckets=16, max_position_embeddings=64),
        "unispeech_sat": lambda: sound("UniSpeechSatModel", "UniSpeechSatConfig", **WAVES),
        "data2vec_audio": lambda: sound("Data2VecAudioModel", "Data2VecAudioConfig", **({k: v for k, v in WAVES.items() if k != "num_conv_pos_embeddings"}), num_conv_pos_embeddings=2, conv_pos_kernel_size=5),
        "wav2vec2_conformer": lambda: sound("Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", **WAVES, conv_depthwise_kernel_size=5),
        "wav2vec2_bert": lambda: of("Wav2Vec2BertModel", "Wav2Vec2BertConfig", ["last_hidden_state"], {"input_features": torch.randn(1, 30, 24)}, **PLAIN, feature_projection_input_dim=24, conv_depthwise_kernel_size=5, left_max_position_embeddings=8, right_max_position_embeddings=4),
        "speech_to_text": lambda: of("Speech2TextModel", "Speech2TextConfig", ["last_hidden_state"], {"input_features": torch.randn(1, 40, 20), "decoder_input_ids": ids(5)}, {"use_cache": False}, **TRANSLATOR, input_feat_per_channel=20, conv_channels=32, max_source_positions=60),
        "bark_fine": lambda: of("BarkFineModel", "BarkFineConfig", ["logits"], {"codebook_idx": 2, "input_ids": ids(12, 60).reshape(1, 12, 1).repeat(1, 1, 4)}, {}, input_vocab_size=64, output_vocab_size=60, hidden_size=64, num_layers=2, num_heads=4, block_size=64, n_codes_total=4, n_codes_given=1),
        "qwen2_audio": lambda: of("Qwen2AudioEncoder", "Qwen2AudioEncoderConfig", ["last_hidden_state"], {"input_features": torch.randn(1, 20, 60)}, num_mel_bins=20, d_model=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128, max_source_positions=30),
        "xcodec": lambda: of("XcodecModel", "XcodecConfig", ["audio_values"], {"input_values": torch.randn(1, 1, 1280)}, codebook_size=32, sample_rate=16000),
        "granite_speech": lambda: of("models.granite_speech.modeling_granite_speech.GraniteSpeechCTCEncoder", "models.granite_speech.configuration_granite_speech.GraniteSpeechEncoderConfig", ["last_hidden_state"], {"hidden_states": torch.randn(1, 20, 16)}, input_dim=16, num_layers=2, hidden_dim=32, feedforward_mult=2, num_heads=4, dim_head=8, output_dim=10, context_size=8, max_pos_emb=16),
        "speecht5_encoder": lambda: speecht5(),
        "speecht5_hifigan": lambda: hifigan(),
        "univnet": lambda: univnet(),
        "dac": lambda: of("DacModel", "DacConfig", ["audio_values"], {"input_values": torch.randn(1, 1, 512)}, encoder_hidden_size=8, downsampling_ratios=[2, 4], decoder_hidden_size=32, n_codebooks=2, codebook_size=32, codebook_dim=4, hidden_size=32, upsampling_ratios=[4, 2]),
        "bark_semantic": lambda: of("BarkSemanticModel", "BarkSemanticConfig", ["logits"], {"input_ids": ids(12)}, {"use_cache": False}, input_vocab_size=1000, output_vocab_size=900, hidden_size=64, num_layers=2, num_heads=4, block_size=64),
        "clap_audio": lambda: of("ClapAudioModel", "ClapAudioConfig", ["last_hidden_state"], {"input_features": torch.randn(1, 1, 64, 32), "is_longer": torch.tensor([[False]])}, window_size=4, num_mel_bins=32, spec_size=64, patch_size=4, patch_stride=[4, 4], hidden_size=64, patch_embeds_hidden_size=16, depths=[1, 2], num_attention_heads=[2, 4], enable_fusion=False),
        "moonshine": lambda: of("MoonshineModel", "MoonshineConfig", ["last_hidden_state"], {"input_values": torch.randn(1, 4000), "decoder_input_ids": ids(5)}, {"use_cache": False}, vocab_size=1000, hidden_size=64, intermediate_size=128, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2, encoder_num_attention_heads=4, decoder_num_attention_heads=4),
        "parakeet": lambda: of("ParakeetEncoder", "ParakeetEncoderConfig", ["last_hidden_state"], {"input_features": torch.randn(1, 48, 32)}, **PLAIN, num_mel_bins=32, subsampling_conv_channels=16, conv_kernel_size=5),
        "musicgen_decoder": lambda: of("MusicgenForCausalLM", "MusicgenDecoderConfig", ["logits"], {"input_ids": ids(9, 100, 4)}, {"use_cache": False}, vocab_size=100, hidden_size=64, num_hidden_layers=2, ffn_dim=128, num_attention_heads=4, num_codebooks=4, max_position_embeddings=64, pad_token_id=99),
    }  # fmt: skip


def speecht5():
    import transformers

    config = transformers.SpeechT5Config(vocab_size=90, hidden_size=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=128, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=128, max_text_positions=64, encoder_max_relative_position=8)
    model = transformers.SpeechT5ForTextToSpeech(config)
    return Results(model.speecht5.encoder, ["last_hidden_state"]), (), {"input_values": ids(12, 90)}


def hifigan():
    import transformers

    config = transformers.SpeechT5HifiGanConfig(model_in_dim=20, upsample_initial_channel=32, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4], resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1, 3], [1, 3]])
    return transformers.SpeechT5HifiGan(config), (torch.randn(12, 20),)


def univnet():
    import transformers

    config = transformers.UnivNetConfig(model_in_channels=8, model_hidden_channels=8, num_mel_bins=20, resblock_kernel_sizes=[3, 3], resblock_stride_sizes=[4, 2], resblock_dilation_sizes=[[1, 3], [1, 3]], kernel_predictor_num_blocks=1, kernel_predictor_hidden_channels=8)
    kwargs = {"input_features": torch.randn(1, 10, 20), "noise_sequence": torch.randn(1, 10, 8)}
    return Results(transformers.UnivNetModel(config), ["waveforms"]), (), kwargs


def picture_networks():
    picture, pixels = torch.randn(1, 3, 64, 64), {"pixel_values": torch.randn(1, 3, 64, 64)}
    small = PLAIN | {"image_size": 64, "patch_size": 16}
    backbone = {"backbone_config": {"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "out_features": ["stage2", "stage3", "stage4"]}, "use_pretrained_backbone": False, "backbone": None, "use_timm_backbone": False}
    four = backbone | {"backbone_config": backbone["backbone_config"] | {"out_features": ["stage1", "stage2", "stage3", "stage4"]}}
    swin = {"model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 4, "patch_size": 2, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    pair = {"input_ids": ids(8), "pixel_values": picture}
    boxes = torch.randint(0, 400, (1, 12, 2)).repeat(1, 1, 2) + torch.tensor([0, 0, 30, 20])
    return {
        "table_transformer": lambda: detector("TableTransformerForObjectDetection", "TableTransformerConfig"),
        "conditional_detr": lambda: detector("ConditionalDetrForObjectDetection", "ConditionalDetrConfig"),
        "deformable_detr": lambda: detector("DeformableDetrForObjectDetection", "DeformableDetrConfig", 128, two_stage=False),
        "rt_detr": lambda: of("RTDetrForObjectDetection", "RTDetrConfig", ["logits", "pred_boxes"], pixels, backbone_config={"model_type": "rt_detr_resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]}, encoder_hidden_dim=32, encoder_in_channels=[32, 48, 64], encoder_ffn_dim=64, encoder_attention_heads=4, d_model=32, num_queries=9, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64, decoder_layers=2, decoder_attention_heads=4, num_denoising=0),
        "mask2former": lambda: of("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", ["class_queries_logits", "masks_queries_logits"], pixels, backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64, dim_feedforward=64, encoder_layers=1, decoder_layers=2, num_attention_heads=4, num_queries=7),
        "maskformer": lambda: of("MaskFormerForInstanceSegmentation", "MaskFormerConfig", ["class_queries_logits", "masks_queries_logits"], pixels, backbone_config=swin, fpn_feature_size=32, mask_feature_size=32, decoder_config={"model_type": "detr", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 7, "backbone_config": None, "use_pretrained_backbone": False}),
        "upernet": lambda: of("UperNetForSemanticSegmentation", "UperNetConfig", ["logits"], pixels, **four, hidden_size=32, auxiliary_in_channels=48, auxiliary_channels=16, pool_scales=[1, 2]),
        "glpn": lambda: image_model("GLPNForDepthEstimation", "GLPNConfig", ["predicted_depth"], hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16),
        "zoedepth": lambda: of("ZoeDepthForDepthEstimation", "ZoeDepthConfig", ["predicted_depth"], pixels, backbone_config={"model_type": "beit", **small, "out_features": ["stage1", "stage2", "stage3", "stage4"], "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False, "num_hidden_layers": 4, "use_relative_position_bias": True}, neck_hidden_sizes=[16, 16, 32, 32], fusion_hidden_size=16, bottleneck_features=16, reassemble_factors=[4, 2, 1, 0.5], num_attractors=[4, 2, 2, 1], bin_embedding_dim=16, num_relative_features=8),
        "superpoint": lambda: of("SuperPointForKeypointDetection", "SuperPointConfig", ["keypoints", "scores"], {"pixel_values": torch.rand(1, 3, 32, 32)}, encoder_hidden_sizes=[16, 16, 32, 32], decoder_hidden_size=32, keypoint_decoder_dim=65, descriptor_decoder_dim=32),
        "swin2sr": lambda: image_model("Swin2SRForImageSuperResolution", "Swin2SRConfig", ["reconstruction"], 32, image_size=32, embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=4, upscale=2),
        "vitpose": lambda: of("VitPoseForPoseEstimation", "VitPoseConfig", ["heatmaps"], {"pixel_values": torch.randn(1, 3, 64, 48)}, backbone_config={"model_type": "vitpose_backbone", **PLAIN, "image_size": [64, 48], "patch_size": [16, 16], "out_indices": [2]}, num_labels=5),
        "vitmatte": lambda: of("VitMatteForImageMatting", "VitMatteConfig", ["alphas"], {"pixel_values": torch.randn(1, 4, 64, 64)}, backbone_config={"model_type": "vitdet", "num_channels": 4, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 16, "out_features": ["stage2"]}, hidden_size=64, convstream_hidden_sizes=[8, 16, 32], fusion_hidden_sizes=[32, 16, 16, 8]),
        "timesformer": lambda: film("TimesformerModel", "TimesformerConfig", **PLAIN, image_size=32, patch_size=16, num_frames=4),
        "videomae": lambda: film("VideoMAEModel", "VideoMAEConfig", **PLAIN, image_size=32, patch_size=16, num_frames=4),
        "vivit": lambda: film("VivitModel", "VivitConfig", **PLAIN, image_size=32, num_frames=4, tubelet_size=[2, 16, 16]),
        "vjepa2": lambda: of("VJEPA2Model", "VJEPA2Config", ["last_hidden_state"], {"pixel_values_videos": torch.randn(1, 4, 3, 32, 32)}, {"skip_predictor": True}, hidden_size=72, num_hidden_layers=2, num_attention_heads=2, crop_size=32, patch_size=16, frames_per_clip=4, pred_hidden_size=72, pred_num_attention_heads=2, pred_num_hidden_layers=1),
        "layoutlm": lambda: of("LayoutLMModel", "LayoutLMConfig", ["last_hidden_state"], {"input_ids": ids(12), "bbox": boxes}, **TINY),
        "layoutlmv3": lambda: of("LayoutLMv3Model", "LayoutLMv3Config", ["last_hidden_state"], pair | {"input_ids": ids(12), "bbox": boxes}, **TINY, input_size=64, coordinate_size=12, shape_size=8, rel_pos_bins=8, rel_2d_pos_bins=8),
        "lilt": lambda: of("LiltModel", "LiltConfig", ["last_hidden_state"], {"input_ids": ids(12), "bbox": boxes}, **(TINY | {"hidden_size": 96})),
        "bros": lambda: of("BrosModel", "BrosConfig", ["last_hidden_state"], {"input_ids": ids(12), "bbox": torch.rand(1, 12, 4)}, **TINY, dim_bbox_projection=16),
        "blip": lambda: of("BlipModel", "BlipConfig", ["text_embeds", "image_embeds"], pair, text_config=TINY, vision_config=small),
        "clipseg": lambda: of("CLIPSegForImageSegmentation", "CLIPSegConfig", ["logits"], pair, text_config=TINY | {"eos_token_id": 2}, vision_config=PLAIN | {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}, extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=2, decoder_intermediate_size=32),
        "groupvit": lambda: of("GroupViTModel", "GroupViTConfig", ["text_embeds", "image_embeds"], pair, text_config=TINY | {"eos_token_id": 2}, vision_config=small | {"depths": [1, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 2], "num_hidden_layers": 3}),
        "owlvit": lambda: of("OwlViTForObjectDetection", "OwlViTConfig", ["logits", "pred_boxes"], {"input_ids": ids(16, batch=2), "pixel_values": picture, "attention_mask": torch.ones(2, 16, dtype=torch.long)}, text_config=TINY, vision_config=small, projection_dim=64),
        "grounding_dino": lambda: of("GroundingDinoForObjectDetection", "GroundingDinoConfig", ["logits", "pred_boxes"], pair, backbone_config=swin | {"out_features": ["stage2", "stage3", "stage4"]}, text_config={"model_type": "bert"} | TINY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=9, use_pretrained_backbone=False, max_text_len=16),
        "git": lambda: of("GitForCausalLM", "GitConfig", ["logits"], pair, {"use_cache": False}, **TINY, vision_config=small),
        "lxmert": lambda: of("LxmertModel", "LxmertConfig", ["language_output", "vision_output"], {"input_ids": ids(12), "visual_feats": torch.randn(1, 5, 24), "visual_pos": torch.rand(1, 5, 4)}, vocab_size=1000, hidden_size=64, num_attention_heads=4, intermediate_size=128, l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=24),
        "flava_multimodal": lambda: of("FlavaMultimodalModel", "FlavaMultimodalConfig", ["last_hidden_state"], {"hidden_states": torch.randn(1, 9, 64)}, **PLAIN),
        "d_fine": lambda: of("DFineForObjectDetection", "DFineConfig", ["logits", "pred_boxes"], pixels, backbone_config={"model_type": "hgnet_v2", "stem_channels": [3, 8, 16], "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "stage_in_channels": [16, 16, 32, 48], "stage_mid_channels": [8, 16, 16, 32], "stage_out_channels": [16, 32, 48, 64], "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1], "stage_downsample": [False, True, True, True], "stage_light_block": [False, False, True, True], "stage_kernel_size": [3, 3, 5, 5], "out_features": ["stage2", "stage3", "stage4"]}, encoder_hidden_dim=32, encoder_in_channels=[32, 48, 64], encoder_ffn_dim=64, encoder_attention_heads=4, d_model=32, num_queries=9, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64, decoder_layers=2, decoder_attention_heads=4, num_denoising=0),
        "dab_detr": lambda: detector("DabDetrForObjectDetection", "DabDetrConfig", hidden_size=32),
        "hiera": lambda: image_model("HieraModel", "HieraConfig", ["last_hidden_state"], 128, embed_dim=16, image_size=[128, 128], depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]),
        "focalnet": lambda: image_model("FocalNetModel", "FocalNetConfig", ["last_hidden_state"], image_size=64, embed_dim=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
        "oneformer": lambda: of("OneFormerForUniversalSegmentation", "OneFormerConfig", ["class_queries_logits", "masks_queries_logits"], pixels | {"task_inputs": ids(77, 900)}, backbone_config=swin, hidden_dim=32, conv_dim=32, mask_dim=32, encoder_feedforward_dim=64, dim_feedforward=64, encoder_layers=1, decoder_layers=3, num_attention_heads=4, num_queries=7, text_encoder_width=32, text_encoder_vocab_size=1000, is_training=False, query_dec_layers=1),
        "bridgetower": lambda: of("BridgeTowerModel", "BridgeTowerConfig", ["text_features", "image_features"], pair, **(PLAIN | {"num_hidden_layers": 2}), text_config=TINY, vision_config={"hidden_size": 64, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16}),
        "timesfm": lambda: of("TimesFmModel", "TimesFmConfig", ["last_hidden_state"], {"past_values": torch.randn(2, 32), "past_values_padding": torch.zeros(2, 32), "freq": torch.tensor([[0], [1]])}, patch_length=8, context_length=32, horizon_length=8, num_hidden_layers=2, hidden_size=64, intermediate_size=64, head_dim=16, num_attention_heads=4),
        "pixtral_vision": lambda: of("PixtralVisionModel", "PixtralVisionConfig", ["last_hidden_state"], pixels, **PLAIN, image_size=64, patch_size=16),
        "swiftformer": lambda: image_model("SwiftFormerModel", "SwiftFormerConfig", ["last_hidden_state"], embed_dims=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
        "perceiver": lambda: of("PerceiverForMaskedLM", "PerceiverConfig", ["logits"], {"inputs": ids(24, 262)}, d_latents=64, d_model=32, num_latents=8, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=4, num_cross_attention_heads=4, max_position_embeddings=24),
        "trocr": lambda: of("TrOCRForCausalLM", "TrOCRConfig", ["logits"], {"input_ids": ids(9), "encoder_hidden_states": torch.randn(1, 12, 48)}, {"use_cache": False}, vocab_size=1000, d_model=64, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=128, cross_attention_hidden_size=48),
        "donut_swin": lambda: image_model("DonutSwinModel", "DonutSwinConfig", ["last_hidden_state"], image_size=64, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4),
        "pix2struct_vision": lambda: of("Pix2StructVisionModel", "Pix2StructVisionConfig", ["last_hidden_state"], {"flattened_patches": torch.cat([torch.arange(12.0)[None, :, None] // 4 + 1, torch.arange(12.0)[None, :, None] % 4 + 1, torch.randn(1, 12, 48)], -1)}, hidden_size=64, d_ff=128, d_kv=16, num_hidden_layers=2, num_attention_heads=4, patch_embed_hidden_size=48, seq_len=16),
        "kosmos2_vision": lambda: of("models.kosmos2.modeling_kosmos2.Kosmos2VisionModel", "models.kosmos2.configuration_kosmos2.Kosmos2VisionConfig", ["last_hidden_state"], pixels, **small),
        "idefics2_vision": lambda: of("models.idefics2.modeling_idefics2.Idefics2VisionTransformer", "models.idefics2.configuration_idefics2.Idefics2VisionConfig", ["last_hidden_state"], pixels, **small),
        "llama4_vision": lambda: of("Llama4VisionModel", "Llama4VisionConfig", ["last_hidden_state"], pixels, **(small | {"intermediate_size": 256}), projector_input_dim=32, projector_output_dim=32, vision_output_dim=32),
        "mgp_str": lambda: of("MgpstrForSceneTextRecognition", "MgpstrConfig", ["logits"], {"pixel_values": torch.randn(1, 3, 32, 64)}, image_size=[32, 64], patch_size=4, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, max_token_length=7, num_bpe_labels=100, num_wordpiece_labels=100),
        "dinov3_vit": lambda: image_model("DINOv3ViTModel", "DINOv3ViTConfig", ["last_hidden_state"], **small, num_register_tokens=2),
        "cvt": lambda: image_model("CvtModel", "CvtConfig", ["last_hidden_state"], embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3]),
        "levit": lambda: image_model("LevitModel", "LevitConfig", ["last_hidden_state"], image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]),
        "mobilevitv2": lambda: image_model("MobileViTV2Model", "MobileViTV2Config", ["last_hidden_state"], width_multiplier=0.25, image_size=64),
        "bit": lambda: image_model("BitModel", "BitConfig", ["last_hidden_state"], embedding_size=16, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1], num_groups=8),
        "textnet": lambda: image_model("TextNetModel", "TextNetConfig", ["last_hidden_state"]),
        "vit_msn": lambda: image_model("ViTMSNModel", "ViTMSNConfig", ["last_hidden_state"], **small),
        "imagegpt": lambda: of("ImageGPTModel", "ImageGPTConfig", ["last_hidden_state"], {"input_ids": ids(16, 100)}, {"use_cache": False}, vocab_size=100, n_positions=32, n_embd=64, n_layer=2, n_head=4),
        "sam_mask_decoder": lambda: sam(),
        "sam2_vision": lambda: of("Sam2VisionModel", "Sam2VisionConfig", ["last_hidden_state"], pixels, backbone_config={"model_type": "sam2_hiera_det_model", "hidden_size": 16, "num_attention_heads": 1, "image_size": [64, 64], "blocks_per_stage": [1, 2, 1, 1], "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 2, 4, 8], "global_attention_blocks": [2], "window_size_per_stage": [4, 2, 2, 1], "window_positional_embedding_background_size": [4, 4]}, backbone_channel_list=[128, 64, 32, 16], fpn_hidden_size=32, backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]]),
        "time_series_transformer": lambda: series("TimeSeriesTransformerModel", "TimeSeriesTransformerConfig"),
        "patchtsmixer": lambda: of("PatchTSMixerModel", "PatchTSMixerConfig", ["last_hidden_state"], {"past_values": torch.randn(2, 32, 3)}, context_length=32, patch_length=8, num_input_channels=3, patch_stride=8, d_model=16, num_layers=2),
    }  # fmt: skip


def sam():
    import transformers

    vision_config = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 64, "patch_size": 16, "output_channels": 32, "window_size": 3, "global_attn_indexes": [0], "mlp_dim": 128, "num_pos_feats": 16}
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 8}
    mask = {"hidden_size": 32, "mlp_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "iou_head_hidden_dim": 32}
    model = transformers.SamModel(transformers.SamConfig(vision_config=vision_config, prompt_encoder_config=prompt, mask_decoder_config=mask))
    kwargs = {"pixel_values": torch.randn(1, 3, 64, 64), "input_points": torch.tensor([[[[20.0, 30.0], [40.0, 10.0]]]]), "input_labels": torch.tensor([[[1, 0]]])}
    return Results(model, ["iou_scores", "pred_masks"]), (), kwargs


def diffusers_networks():
    r = torch.randn
    step = torch.tensor([3])
    heads = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2}

    def of(cls, fields, kwargs, fixed=None, **sizes):
        import diffusers

        return Results(getattr(diffusers, cls)(**sizes), fields, **(fixed or {})), (), kwargs

    unet = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "cross_attention_dim": 24, "attention_head_dim": 8}
    video = {"hidden_states": r(1, 4, 2, 8, 8), "encoder_hidden_states": r(1, 7, 24), "timestep": step}
    return {
        "controlnet": lambda: of("ControlNetModel", ["mid_block_res_sample"], {"sample": r(1, 4, 16, 16), "timestep": step, "encoder_hidden_states": r(1, 7, 24), "controlnet_cond": r(1, 3, 32, 32)}, **unet, conditioning_embedding_out_channels=(8, 16), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")),
        "t2i_adapter": adapter,
        "uvit": uvit,
        "autoencoder_dc": lambda: of("AutoencoderDC", ["sample"], {"sample": r(1, 3, 32, 32)}, in_channels=3, latent_channels=4, attention_head_dim=8, encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(16, 32), decoder_block_out_channels=(16, 32), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,))),
        "autoencoder_wan": lambda: of("AutoencoderKLWan", ["sample"], {"sample": r(1, 3, 5, 16, 16)}, base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True], latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        "autoencoder_ltx": lambda: of("AutoencoderKLLTXVideo", ["sample"], {"sample": r(1, 3, 9, 32, 32)}, latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), patch_size=1),
        "autoencoder_cogvideox": lambda: of("AutoencoderKLCogVideoX", ["sample"], {"sample": r(1, 3, 5, 16, 16)}, in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4),
        "wan": lambda: of("WanTransformer3DModel", ["sample"], video, patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=24, freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32),
        "ltx": lambda: of("LTXVideoTransformer3DModel", ["sample"], {"hidden_states": r(1, 32, 4), "encoder_hidden_states": r(1, 7, 24), "timestep": step, "encoder_attention_mask": torch.ones(1, 7)}, {"num_frames": 2, "height": 4, "width": 4}, in_channels=4, out_channels=4, **heads, cross_attention_dim=32, caption_channels=24),
        "cogvideox": lambda: of("CogVideoXTransformer3DModel", ["sample"], {"hidden_states": r(1, 2, 4, 8, 8), "encoder_hidden_states": r(1, 7, 24), "timestep": step}, num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8, text_embed_dim=24, num_layers=2, sample_width=8, sample_height=8, sample_frames=5, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=7),
        "hunyuan_video": lambda: of("HunyuanVideoTransformer3DModel", ["sample"], {"hidden_states": r(1, 4, 1, 8, 8), "timestep": step, "encoder_hidden_states": r(1, 7, 16), "encoder_attention_mask": torch.ones(1, 7), "pooled_projections": r(1, 8), "guidance": torch.tensor([6.0])}, in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4)),
        "mochi": lambda: of("MochiTransformer3DModel", ["sample"], {"hidden_states": r(1, 4, 2, 8, 8), "encoder_hidden_states": r(1, 7, 24), "timestep": step, "encoder_attention_mask": torch.ones(1, 7).bool()}, patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=16, in_channels=4, text_embed_dim=24, time_embed_dim=4, max_sequence_length=7),
        "latte": lambda: of("LatteTransformer3DModel", ["sample"], {"hidden_states": r(1, 4, 2, 8, 8), "encoder_hidden_states": r(1, 7, 24), "timestep": step}, sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=24, in_channels=4, cross_attention_dim=24, out_channels=8, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, video_length=2),
        "auraflow": lambda: of("AuraFlowTransformer2DModel", ["sample"], {"hidden_states": r(1, 4, 16, 16), "encoder_hidden_states": r(1, 7, 24), "timestep": torch.tensor([0.7])}, sample_size=16, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=24, caption_projection_dim=32, out_channels=4, pos_embed_max_size=64),
        "cogview4": lambda: of("CogView4Transformer2DModel", ["sample"], {"hidden_states": r(1, 4, 8, 8), "encoder_hidden_states": r(1, 7, 24), "timestep": step, "original_size": torch.tensor([[64.0, 64.0]]), "target_size": torch.tensor([[64.0, 64.0]]), "crop_coords": torch.tensor([[0.0, 0.0]])}, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4, out_channels=4, text_embed_dim=24, time_embed_dim=8, condition_dim=4),
        "qwen_image": lambda: of("QwenImageTransformer2DModel", ["sample"], {"hidden_states": r(1, 16, 16), "encoder_hidden_states": r(1, 7, 24), "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long), "timestep": torch.tensor([0.7])}, {"img_shapes": [(1, 4, 4)]}, patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3, joint_attention_dim=24, axes_dims_rope=(8, 4, 4)),
        "chroma": lambda: of("ChromaTransformer2DModel", ["sample"], {"hidden_states": r(1, 16, 4), "encoder_hidden_states": r(1, 7, 24), "timestep": torch.tensor([0.7]), "img_ids": torch.randint(0, 4, (16, 3)).float(), "txt_ids": torch.zeros(7, 3)}, patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=24, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1),
        "stable_audio": lambda: of("StableAudioDiTModel", ["sample"], {"hidden_states": r(1, 4, 16), "timestep": step, "encoder_hidden_states": r(1, 7, 24), "global_hidden_states": r(1, 1, 48), "rotary_embedding": (r(17, 4), r(17, 4))}, sample_size=16, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4, num_key_value_attention_heads=2, out_channels=4, cross_attention_dim=24, time_proj_dim=8, global_states_input_dim=48, cross_attention_input_dim=24),
        "unet1d": lambda: of("UNet1DModel", ["sample"], {"sample": r(1, 14, 16), "timestep": step}, block_out_channels=(32, 32), in_channels=14, out_channels=14, extra_in_channels=0, time_embedding_type="positional", use_timestep_embedding=True, flip_sin_to_cos=False, freq_shift=1.0, out_block_type="OutConv1DBlock", mid_block_type="MidResTemporalBlock1D", down_block_types=("DownResnetBlock1D", "DownResnetBlock1D"), up_block_types=("UpResnetBlock1D",), act_fn="swish", layers_per_block=1),
        "unet3d": lambda: of("UNet3DConditionModel", ["sample"], {"sample": r(1, 4, 2, 16, 16), "timestep": step, "encoder_hidden_states": r(1, 7, 24)}, **unet, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D")),
        "spatio_temporal": lambda: of("UNetSpatioTemporalConditionModel", ["sample"], {"sample": r(1, 2, 8, 16, 16), "timestep": step, "encoder_hidden_states": r(1, 1, 24), "added_time_ids": torch.rand(1, 3)}, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=24, num_attention_heads=4, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, num_frames=2, down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")),
        "flux2": lambda: of("Flux2Transformer2DModel", ["sample"], {"hidden_states": r(1, 16, 4), "encoder_hidden_states": r(1, 7, 24), "timestep": torch.tensor([0.7]), "img_ids": torch.randint(0, 4, (16, 4)).float(), "txt_ids": torch.zeros(7, 4), "guidance": torch.tensor([4.0])}, patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4)),
        "cosmos": lambda: of("CosmosTransformer3DModel", ["sample"], {"hidden_states": r(1, 4, 2, 8, 8), "timestep": step, "encoder_hidden_states": r(1, 7, 24), "fps": 30, "padding_mask": torch.zeros(1, 1, 8, 8)}, in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=2, mlp_ratio=2, text_embed_dim=24, adaln_lora_dim=4, max_size=(4, 32, 32), patch_size=(1, 2, 2), concat_padding_mask=True, extra_pos_embed_type="learnable"),
        "autoencoder_cosmos": lambda: of("AutoencoderKLCosmos", ["sample"], {"sample": r(1, 3, 9, 32, 32)}, in_channels=3, out_channels=3, latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decode_block_out_channels=(8, 8, 8, 8), attention_resolutions=(8,), resolution=64, num_layers=1, patch_size=4, patch_type="haar", scaling_factor=1.0, spatial_compression_ratio=4, temporal_compression_ratio=4),
        "autoencoder_hunyuan": lambda: of("AutoencoderKLHunyuanVideo", ["sample"], {"sample": r(1, 3, 5, 16, 16)}, in_channels=3, out_channels=3, latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, act_fn="silu", norm_num_groups=4, scaling_factor=0.5, spatial_compression_ratio=8, temporal_compression_ratio=4, mid_block_add_attention=True),
        "autoencoder_mochi": lambda: of("AutoencoderKLMochi", ["sample"], {"sample": r(1, 3, 7, 16, 16)}, latent_channels=4, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1), temporal_expansions=(1, 2, 3), spatial_expansions=(2, 2, 2), latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        "autoencoder_magvit": lambda: of("AutoencoderKLMagvit", ["sample"], {"sample": r(1, 3, 9, 16, 16)}, in_channels=3, latent_channels=4, out_channels=3, block_out_channels=[8, 8, 8, 8], down_block_types=["SpatialDownBlock3D", "SpatialTemporalDownBlock3D", "SpatialTemporalDownBlock3D", "SpatialTemporalDownBlock3D"], up_block_types=["SpatialUpBlock3D", "SpatialTemporalUpBlock3D", "SpatialTemporalUpBlock3D", "SpatialTemporalUpBlock3D"], layers_per_block=1, norm_num_groups=2, spatial_group_norm=False),
        "cascade": cascade,
        "prior": prior,
    }  # fmt: skip


def adapter():
    import diffusers

    return diffusers.T2IAdapter(in_channels=3, channels=[8, 16, 16, 16], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter"), (torch.randn(1, 3, 64, 64),)


def prefilled():
    """Llama with its cache as buffers and as many tokens at a time as there are."""
    import networks

    module, _, _ = networks.cached_decoder()
    length = torch.export.Dim("length", min=2, max=32)
    kwargs = {"input_ids": ids(9), "cache_position": torch.arange(3, 12)}
    return module, (), kwargs, {"input_ids": {1: length}, "cache_position": {0: length}}


def uvit():
    import diffusers

    model = diffusers.UVit2DModel(hidden_size=32, cond_embed_dim=24, micro_cond_encode_dim=8, micro_cond_embed_dim=40, encoder_hidden_size=24, vocab_size=50, codebook_size=40, in_channels=32, block_out_channels=32, num_res_blocks=1, block_num_heads=4, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, sample_size=8)
    return model, (ids(64, 40).reshape(1, 8, 8), torch.randn(1, 7, 24), torch.randn(1, 24), torch.rand(1, 5) * 100)


def cascade():
    from diffusers.models.unets import StableCascadeUNet

    model = StableCascadeUNet(in_channels=4, out_channels=4, conditioning_dim=32, block_out_channels=(16, 32), num_attention_heads=(0, 4), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1), block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"), ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")), clip_text_pooled_in_channels=16, clip_seq=4, timestep_ratio_embedding_dim=8, patch_size=1, switch_level=None, self_attn=True, kernel_size=3, timestep_conditioning_type=())
    kwargs = {"sample": torch.randn(1, 4, 8, 8), "timestep_ratio": torch.tensor([0.4]), "clip_text_pooled": torch.randn(1, 1, 16)}
    return Results(model, ["sample"]), (), kwargs


def prior():
    from diffusers.models import PriorTransformer

    model = PriorTransformer(num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=12, num_embeddings=7, additional_embeddings=4)
    kwargs = {"hidden_states": torch.randn(2, 12), "timestep": torch.tensor([3, 3]), "proj_embedding": torch.randn(2, 12), "encoder_hidden_states": torch.randn(2, 7, 12)}
    return Results(model, ["predicted_image_embedding"]), (), kwargs


class Heads(torch.nn.Module):
    """A detector of boxes in one shot, up to what it suppresses."""

    def __init__(self, model):
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, x):
        return tuple(self.head(list(self.backbone(x).values())).values())


def single_shot(name, size):
    import torchvision

    model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
    return Heads(model), (torch.randn(1, 3, size, size),)


def keypoints():
    from torchvision.models.detection import keypoint_rcnn

    part = torch.nn.Sequential(keypoint_rcnn.KeypointRCNNHeads(32, (32, 32)), keypoint_rcnn.KeypointRCNNPredictor(32, 17))
    return part, (torch.randn(2, 32, 14, 14),)


def flow():
    import torchvision

    pair = torch.rand(2, 1, 3, 128, 128) * 2 - 1
    return torchvision.models.optical_flow.raft_large(weights=None), (pair[0], pair[1]), {"num_flow_updates": 2}


def film_of(name, size):
    import torchvision

    return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, *size),)


def networks():
    """All networks of this list by name, as functions that build them."""
    table = {f"transformers.{name}": build for name, build in (language_networks() | hybrid_networks() | speech_networks() | picture_networks()).items()}
    table |= {f"diffusers.{name}": build for name, build in diffusers_networks().items()}
    table |= {f"torchvision.{name}": functools.partial(vision, name) for name in ["efficientnet_v2_s", "wide_resnet50_2", "regnet_x_400mf"]}
    return table | {
        "transformers.llama_prefilled": prefilled,
        "torchvision.ssdlite": lambda: single_shot("ssdlite320_mobilenet_v3_large", 320),
        "torchvision.ssd": lambda: single_shot("ssd300_vgg16", 300),
        "torchvision.keypoints": keypoints, "torchvision.raft_large": flow,
        "torchvision.swin3d_t": lambda: film_of("swin3d_t", (4, 64, 64)),
        "torchvision.mvit_v2_s": lambda: film_of("mvit_v2_s", (16, 224, 224)),
    }  # fmt: skip
