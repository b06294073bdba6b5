"""Tiny models of every architecture with golden inputs and outputs, for the tests of the Rust definitions.

    python models.py OUT [--only NAME]

Each OUT/NAME holds `config.json`, the weights under the file name that a real folder uses, and
`golden.safetensors`: inputs and outputs by the names of the PyTorch `forward`, computed in f32
from the weights as stored. Several models are stored in f16 or bf16, to keep them small.
"""
import argparse
from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderTiny,
    ControlNetModel,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from diffusers.utils import logging
from safetensors.torch import save_file
from transformers import (BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig,
                          CLIPVisionModelWithProjection, Gemma2Config, Gemma2Model, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel)

from weights import Projection, prefix_keys, randomize, rescale, rounded, scrub

VOCABULARY, CONTEXT = 96, 16
START, END = VOCABULARY - 2, VOCABULARY - 1

CLIP = dict(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, intermediate_size=80,
            num_hidden_layers=3, num_attention_heads=3, bos_token_id=START)

UNETS = {
    # Stable Diffusion 1: four levels, convolutions around attention, one head count for all levels.
    "unet_sd15": dict(
        block_out_channels=(8, 12, 16, 16), norm_num_groups=4, cross_attention_dim=24, attention_head_dim=4),
    # Stable Diffusion 2: linear layers around attention, head counts per level.
    "unet_sd21": dict(
        block_out_channels=(8, 12, 20), norm_num_groups=4, cross_attention_dim=20, attention_head_dim=(2, 3, 5),
        use_linear_projection=True, upcast_attention=True,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
    # Stable Diffusion XL: added text and size embeddings, several transformer layers per block.
    "unet_sdxl": dict(
        block_out_channels=(8, 12, 20), norm_num_groups=4, cross_attention_dim=28, attention_head_dim=(1, 2, 5),
        use_linear_projection=True, transformer_layers_per_block=(1, 1, 2), layers_per_block=1,
        addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=6 * 6 + 10,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")),
    # Latent consistency: the guidance strength enters through the time embedding.
    "unet_lcm": dict(
        block_out_channels=(16, 24), norm_num_groups=8, cross_attention_dim=12, attention_head_dim=2,
        layers_per_block=1, time_cond_proj_dim=10,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
    # The default emoji model: a pooled text vector as the class, scale-and-shift resnets, attention in the middle level.
    "unet_genmoji": dict(
        block_out_channels=(8, 20, 24), norm_num_groups=4, cross_attention_dim=16, attention_head_dim=(2, 5, 6),
        layers_per_block=1, use_linear_projection=True, resnet_time_scale_shift="scale_shift",
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")),
    # Distilled networks: no middle block, unlike layer counts, and the other order of sine and cosine.
    "unet_no_mid": dict(
        block_out_channels=(12, 20), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=(3, 5),
        layers_per_block=(1, 2), mid_block_type=None, flip_sin_to_cos=False, freq_shift=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
}

KL = dict(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
TINY = dict(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(12,) * 4,
            num_encoder_blocks=(1, 2, 1, 1), num_decoder_blocks=(2, 1, 1, 1))


def noise(seed, *shape):
    """Standard normal values from their own seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prompt_ids():
    """Two prompts: a short one padded with the end token, and one that fills the context."""
    words = torch.randint(0, START, (2, CONTEXT), generator=torch.Generator().manual_seed(5))
    words[:, 0] = START
    words[0, 6:] = END
    words[1, -1] = END
    return words


def clip(activation, projection=None, end=END):
    """A CLIP text encoder: final, penultimate and pooled states, and the projected vector where it has one."""
    config = CLIPTextConfig(**CLIP, hidden_act=activation, eos_token_id=end, projection_dim=projection or 24)
    model = randomize((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), 11)
    ids = prompt_ids()
    states = model(input_ids=ids, output_hidden_states=True)
    golden = dict(input_ids=ids, last_hidden_state=states.last_hidden_state, penultimate=states.hidden_states[-2])
    golden["text_embeds" if projection else "pooler_output"] = states.text_embeds if projection else states.pooler_output
    return model, golden


def vision(**config):
    """A CLIP picture encoder: its projected vector and its penultimate states."""
    model = randomize(CLIPVisionModelWithProjection(CLIPVisionConfig(**config)), 51)
    pixels = noise(52, 2, 3, config["image_size"], config["image_size"])
    states = model(pixel_values=pixels, output_hidden_states=True)
    return model, dict(pixel_values=pixels, image_embeds=states.image_embeds, penultimate=states.hidden_states[-2])


def image_projection(**config):
    """The linear layer of the plain kind."""
    module = randomize(ImageProjection(**config), 53)
    read = noise(54, 2, config["image_embed_dim"])
    tensors = {name.replace("image_embeds", "proj"): tensor for name, tensor in module.state_dict().items()}
    return Projection(config, module, tensors), dict(image_embeds=read, tokens=module(read))


def resampler(states, **config):
    """The resampler of the plus kind."""
    module = randomize(IPAdapterPlusImageProjection(**config), 55)
    read = noise(56, 2, states, config["embed_dims"])
    plain = module.state_dict()
    names = {"ln0": "0.norm1", "ln1": "0.norm2", "attn.to_q": "0.to_q", "attn.to_out.0": "0.to_out", "ff.0": "1.0", "ff.1.net.0.proj": "1.1", "ff.1.net.2": "1.3"}
    tensors = {name: tensor for name, tensor in plain.items() if not name.startswith("layers.")}
    for i in range(config["depth"]):
        at = f"layers.{i}."
        tensors[f"{at}0.to_kv.weight"] = torch.cat([plain[f"{at}attn.to_{part}.weight"] for part in "kv"])
        for old, new in names.items():
            tensors |= {f"{at}{new}.{end}": plain[f"{at}{old}.{end}"] for end in ("weight", "bias") if f"{at}{old}.{end}" in plain}
    told = config | dict(dim_head=config.get("dim_head", 64), ffn_dims=4 * config["hidden_dims"])
    return Projection(told, module, tensors), dict(penultimate=read, tokens=module(read))


def bert():
    """A BERT encoder without its pooler, on a full row and a padded one."""
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, intermediate_size=64,
                        num_hidden_layers=2, num_attention_heads=3)
    model = randomize(BertModel(config, add_pooling_layer=False), 12)
    ids, mask = prompt_ids()[:, :10], torch.ones(2, 10, dtype=torch.long)
    ids[0, 6:], mask[0, 6:] = 0, 0
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return model, dict(input_ids=ids, attention_mask=mask, last_hidden_state=states)


def unet_inputs(config):
    """Inputs for a U-Net of `config`: two prompts, a latent that is not square and whose sides halve unevenly."""
    inputs = dict(sample=noise(1, 2, 4, 9, 14), timestep=torch.tensor([421.0, 421.0]),
                  encoder_hidden_states=noise(2, 2, 7, config.cross_attention_dim))
    if config.class_embed_type:
        mask = torch.ones(2, 7)
        mask[0, 3:] = 0
        inputs |= dict(class_labels=noise(3, 2, config.projection_class_embeddings_input_dim), encoder_attention_mask=mask)
    if config.addition_embed_type:
        inputs |= dict(text_embeds=noise(4, 2, 10),
                       time_ids=torch.tensor([[64.0, 96, 0, 0, 64, 96], [128.0, 128, 8, 16, 64, 96]]))
        inputs["timestep"] = torch.full((2,), 613.25)
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = noise(6, 2, config.time_cond_proj_dim)
    return inputs


def run_unet(model, inputs):
    """Call diffusers with flat inputs, grouping the two that it wants in a dictionary."""
    inputs = dict(inputs)
    added = {name: inputs.pop(name) for name in ("text_embeds", "time_ids") if name in inputs}
    if "encoder_attention_mask" in inputs:
        inputs["encoder_attention_mask"] = inputs["encoder_attention_mask"].bool()
    return model(**inputs, added_cond_kwargs=added or None).sample


def unet(name):
    """A U-Net at one step, its weights stored in f16."""
    model = randomize(UNet2DConditionModel(sample_size=8, **UNETS[name]), 13)
    inputs = unet_inputs(model.config)
    rescale(model.conv_out, run_unet(model, inputs), 1.0)
    rounded(model, torch.float16)
    return model, inputs | dict(output=run_unet(model, inputs))


def controlnet(name):
    """A network that steers a U-Net, on one picture: its embedding and what it adds to the maps, channels last."""
    whole = UNet2DConditionModel(sample_size=8, **UNETS[name])
    model = randomize(ControlNetModel.from_unet(whole, load_weights_from_unet=False, conditioning_embedding_out_channels=(4, 6, 8, 10)), 18)
    inputs, last = unet_inputs(whole.config), lambda x: x.permute(0, 2, 3, 1)
    rounded(model, torch.float16)
    picture = noise(19, 1, 3, 72, 112).abs().clamp(0, 1)
    given = dict(inputs)
    added = {key: given.pop(key) for key in ("text_embeds", "time_ids") if key in given}
    maps = model(**given, controlnet_cond=picture.expand(2, -1, -1, -1), added_cond_kwargs=added or None)
    golden = {f"down_block_residual_{i}": last(x) for i, x in enumerate(maps.down_block_res_samples)}
    golden |= dict(mid_block_residual=last(maps.mid_block_res_sample), embedded=last(model.controlnet_cond_embedding(picture)))
    return model, inputs | dict(controlnet_cond=picture) | golden


def vae_kl(**changes):
    """An AutoencoderKL both ways: a picture to its posterior (mean, then log variance), a latent to a picture."""
    model = randomize(AutoencoderKL(**KL | changes), 14)
    picture, latent = noise(7, 1, 3, 32, 48).clamp(-1, 1), noise(8, 2, 4, 4, 6)
    rescale(model.decoder.conv_out, model.decode(latent).sample, 0.4)
    rounded(model, torch.bfloat16)
    moments = model.encode(picture).latent_dist.parameters
    return model, dict(picture=picture, moments=moments, latent=latent, decoded=model.decode(latent).sample)


def vae_tiny():
    """An AutoencoderTiny both ways; the latent is large enough that the decoder's soft clamp matters."""
    model = randomize(AutoencoderTiny(**TINY), 15)
    picture, latent = noise(9, 1, 3, 32, 48).clamp(-1, 1), 2 * noise(10, 2, 4, 4, 6)
    rescale(model.decoder.layers[-1], model.decode(latent).sample, 0.5)
    rounded(model, torch.float16)
    return model, dict(picture=picture, latents=model.encode(picture).latents, latent=latent,
                       decoded=model.decode(latent).sample)


def vae_squares(**changes):
    """An AutoencoderKLFlux2 both ways, as its pipelines use it: normed squares of latents."""
    model = randomize(AutoencoderKLFlux2(**KL | dict(block_out_channels=(4, 4, 8, 8), batch_norm_eps=1e-4) | changes), 30)
    numbers = 4 * model.config.latent_channels
    model.bn.running_mean.copy_(0.3 * noise(31, numbers))
    model.bn.running_var.copy_(0.2 + noise(32, numbers).square())
    picture, latent = noise(33, 1, 3, 32, 48).clamp(-1, 1), noise(34, 1, numbers, 2, 3)
    mean = model.bn.running_mean.view(1, -1, 1, 1)
    variance = model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps
    squares, maps = Flux2KleinPipeline._patchify_latents, Flux2KleinPipeline._unpatchify_latents
    decode = lambda: model.decode(maps(latent * variance.sqrt() + mean)).sample
    rescale(model.decoder.conv_out, decode(), 0.4)
    rounded(model, torch.bfloat16)
    mean, variance = model.bn.running_mean.view(1, -1, 1, 1), model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps
    means, logarithms = (squares(part) for part in model.encode(picture).latent_dist.parameters.chunk(2, 1))
    moments = torch.cat([(means - mean) / variance.sqrt(), logarithms - variance.log()], 1)
    return model, dict(picture=picture, moments=moments, latent=latent, decoded=decode())


def near_one(model):
    """Norms of mean squares near one, as trained ones are."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and type(module).__name__ != "Gemma2RMSNorm":
            module.weight.data.add_(1)


def vae_deep(**changes):
    """An AutoencoderDC both ways."""
    model = randomize(AutoencoderDC(**changes), 46)
    near_one(model)
    factor = 2 ** (len(model.config.encoder_block_out_channels) - 1)
    picture, latent = noise(47, 1, 3, 3 * factor, 5 * factor).clamp(-1, 1), noise(48, 2, model.config.latent_channels, 3, 4)
    last = model.decoder.conv_out
    rescale(last if isinstance(last, torch.nn.Conv2d) else last.conv, model.decode(latent).sample, 0.4)
    rounded(model, torch.float16)
    return model, dict(picture=picture, latents=model.encode(picture).latent, latent=latent, decoded=model.decode(latent).sample)


def sana(latents, texts, **config):
    """A transformer of Sana on two latents that are not square, its weights stored in f16."""
    model = randomize(SanaTransformer2DModel(**config), 49)
    near_one(model)
    inputs = dict(sample=noise(50, 2, model.config.in_channels, *latents), timestep=torch.tensor([431.0, 431.0]),
                  encoder_hidden_states=noise(51, 2, max(texts), model.config.caption_channels))
    given = dict(inputs)
    if model.config.guidance_embeds:
        inputs |= dict(guidance=torch.tensor([4.5, 2.25]), timestep=torch.tensor([0.8125, 0.8125]))
        given |= dict(guidance=inputs["guidance"] * model.config.guidance_embeds_scale, timestep=inputs["timestep"])
    if len(set(texts)) > 1:
        mask = torch.tensor([[int(i < count) for i in range(max(texts))] for count in texts])
        inputs["encoder_attention_mask"] = given["encoder_attention_mask"] = mask
    run = lambda: model(hidden_states=given["sample"], **{key: given[key] for key in given if key != "sample"}).sample
    rescale(model.proj_out, run(), 1.0)
    rounded(model, torch.float16)
    return model, inputs | dict(output=run())


def gemma2(layers, **config):
    """Hidden states of a Gemma 2 without its head, whose scores are capped, of a text with padding behind it."""
    model = randomize(Gemma2Model(Gemma2Config(**config, max_position_embeddings=64)), 52)
    ids = torch.randint(0, config["vocab_size"], (1, 13), generator=torch.Generator().manual_seed(53))
    mask = torch.ones(1, 13, dtype=torch.long)
    mask[0, 8:] = 0
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return model, dict(input_ids=ids, attention_mask=mask, layers=torch.tensor(layers),
                       last_hidden_state=torch.cat([states[layer] for layer in layers], -1))


def chat(layers, **config):
    """Hidden states of a Qwen3, of a text with padding behind it."""
    model = randomize(Qwen3ForCausalLM(Qwen3Config(**config, max_position_embeddings=64, tie_word_embeddings=True)), 35)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(1)
    ids = torch.randint(0, config["vocab_size"], (1, 13), generator=torch.Generator().manual_seed(36))
    mask = torch.ones(1, 13, dtype=torch.long)
    mask[0, 8:] = 0
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return model, dict(input_ids=ids, attention_mask=mask, layers=torch.tensor(layers),
                       last_hidden_state=torch.cat([states[layer] for layer in layers], -1))


def t5(mask, **changes):
    """A T5 encoder on rows longer than half of the distances that it tells apart, one of them padded if `mask`."""
    config = T5Config(**(dict(vocab_size=40, d_model=20, d_kv=6, d_ff=28, num_layers=2, num_heads=3) | changes))
    model = randomize(T5EncoderModel(config), 17)
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name:
            parameter.data.mul_(4)
        if "norm" in name:
            parameter.data.add_(1)
    ids = torch.randint(0, config.vocab_size, (2, 70), generator=torch.Generator().manual_seed(6))
    golden = dict(input_ids=ids)
    if mask:
        golden["attention_mask"] = torch.ones(2, 70, dtype=torch.long)
        golden["attention_mask"][0, 41:] = 0
    golden["last_hidden_state"] = model(**golden).last_hidden_state
    return model, golden


SD3 = {
    # Stable Diffusion 3: queries and keys as they are.
    "sd3_plain": dict(
        sample_size=16, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=3,
        joint_attention_dim=20, caption_projection_dim=24, pooled_projection_dim=14, pos_embed_max_size=9),
    # 3.5: normed queries and keys, some blocks with a second attention, another patch and an odd table.
    "sd3_dual": dict(
        sample_size=12, patch_size=3, in_channels=5, out_channels=5, num_layers=3, attention_head_dim=6,
        num_attention_heads=4, joint_attention_dim=16, caption_projection_dim=24, pooled_projection_dim=10,
        pos_embed_max_size=8, dual_attention_layers=(0, 1), qk_norm="rms_norm"),
}
FLUX = {
    # Guided by a number, both kinds of blocks.
    "flux_guided": dict(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=12, num_attention_heads=2,
        joint_attention_dim=20, pooled_projection_dim=14, guidance_embeds=True, axes_dims_rope=(2, 4, 6)),
    # With a picture to look at.
    "flux_looking": dict(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=12, num_attention_heads=1,
        joint_attention_dim=12, pooled_projection_dim=8, axes_dims_rope=(4, 4, 4), references=((4, 6),)),
    # As Fill: takes more than it predicts.
    "flux_filling": dict(
        in_channels=48, out_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=10, pooled_projection_dim=6, axes_dims_rope=(2, 2, 4)),
    # Without guidance, more single blocks than others.
    "flux_plain": dict(
        in_channels=12, num_layers=1, num_single_layers=2, attention_head_dim=8, num_attention_heads=3,
        joint_attention_dim=16, pooled_projection_dim=10, axes_dims_rope=(4, 2, 2)),
}
CHATS = {
    # As FLUX.2 takes it: three layers side by side, padding that sees the text.
    "chat_three_layers": dict(layers=(1, 2, 4), vocab_size=48, hidden_size=20, intermediate_size=28, num_hidden_layers=5,
                              num_attention_heads=4, num_key_value_heads=2, head_dim=6),
    # What comes out at the end, after the norm, beside what enters the first layer.
    "chat_both_ends": dict(layers=(-1, 0), vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                           num_attention_heads=2, num_key_value_heads=1, head_dim=10, rope_theta=1e4),
}
SQUARES = {
    "vae_squares": {},
    # A decoder of other widths, no convolutions around the latents.
    "vae_squares_uneven": dict(decoder_block_out_channels=(8, 4, 4, 12), use_quant_conv=False, use_post_quant_conv=False,
                               latent_channels=3, batch_norm_eps=0.02),
}
FLUX2 = {
    # Guided by a number, two blocks of the first kind.
    "flux2_guided": dict(
        in_channels=12, num_layers=2, num_single_layers=1, attention_head_dim=12, num_attention_heads=2,
        joint_attention_dim=20, timestep_guidance_channels=32, axes_dims_rope=(2, 4, 4, 2)),
    # Without guidance, other wavelengths, feed-forwards that are no whole number of widths, other channels out.
    "flux2_plain": dict(
        in_channels=8, out_channels=12, num_layers=1, num_single_layers=2, attention_head_dim=14, num_attention_heads=1,
        joint_attention_dim=18, timestep_guidance_channels=64, mlp_ratio=2.6, rope_theta=500, guidance_embeds=False,
        axes_dims_rope=(2, 4, 2, 6)),
    # With two pictures to look at.
    "flux2_looking": dict(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1, joint_attention_dim=12,
        timestep_guidance_channels=16, guidance_embeds=False, axes_dims_rope=(4, 4, 4, 4), references=((2, 3), (4, 1))),
}

Z_IMAGE = {
    # Texts of one length, a picture that must be filled up.
    "z_image": dict(latents=(6, 10), texts=(7, 7), in_channels=4, dim=24, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
                    cap_feat_dim=10, axes_dims=(4, 4, 4)),
    # Texts of one group and of two, a picture of whole groups, queries and keys as they are.
    "z_image_uneven": dict(latents=(8, 16), texts=(5, 40), in_channels=3, dim=20, n_layers=1, n_refiner_layers=2, n_heads=1,
                           n_kv_heads=1, qk_norm=False, cap_feat_dim=12, axes_dims=(8, 4, 8), rope_theta=100.0, t_scale=500.0,
                           norm_eps=1e-4),
}


def gates_open(model):
    """Norms of queries and keys near one, as trained ones are."""
    for name, parameter in model.named_parameters():
        if "norm_" in name and parameter.ndim == 1 and "linear" not in name:
            parameter.data.add_(1)


def sd3(name):
    """A transformer of Stable Diffusion 3 on two latents that are not square, its weights stored in f16."""
    model = randomize(SD3Transformer2DModel(**SD3[name]), 18)
    gates_open(model)
    config, patch = model.config, model.config.patch_size
    inputs = dict(sample=noise(21, 2, config.in_channels, 3 * patch, 5 * patch), timestep=torch.tensor([731.25, 731.25]),
                  encoder_hidden_states=noise(22, 2, 7, config.joint_attention_dim),
                  pooled_projections=noise(23, 2, config.pooled_projection_dim))
    run = lambda: model(hidden_states=inputs["sample"], **{key: inputs[key] for key in list(inputs)[1:]}).sample
    rescale(model.proj_out, run(), 1.0)
    rounded(model, torch.float16)
    return model, inputs | dict(output=run())


def pack(latents):
    """Squares of 2x2 latents as tokens."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h // 2 * (w // 2), 4 * c)


def unpack(tokens, height, width):
    """The latents of such tokens."""
    b, _, c = tokens.shape
    squares = tokens.view(b, height // 2, width // 2, c // 4, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, height, width)


def flux(name):
    """A transformer of FLUX on two latents that are not square, its weights stored in f16."""
    options = dict(FLUX[name])
    references = options.pop("references", ())
    model = randomize(FluxTransformer2DModel(**options), 19)
    gates_open(model)
    config, (height, width) = model.config, (6, 10)
    inputs = dict(sample=noise(24, 2, config.in_channels // 4, height, width), timestep=torch.tensor([0.8125, 0.8125]),
                  encoder_hidden_states=noise(25, 2, 7, config.joint_attention_dim),
                  pooled_projections=noise(26, 2, config.pooled_projection_dim))
    if config.guidance_embeds:
        inputs["guidance"] = torch.tensor([3.5, 2.25])
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    places = [torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()]
    looked_at = {f"reference_{i}": noise(40 + i, 2, config.in_channels // 4, *size) for i, size in enumerate(references)}
    places += [torch.cartesian_prod(torch.tensor([1.0]), torch.arange(h / 2), torch.arange(w / 2)) for h, w in references]

    def run():
        rest = {key: inputs[key] for key in list(inputs)[1:]}
        pictures = torch.cat([pack(latents) for latents in (inputs["sample"], *looked_at.values())], 1)
        tokens = model(hidden_states=pictures, img_ids=torch.cat(places), txt_ids=torch.zeros(7, 3), **rest).sample
        return unpack(tokens[:, :height * width // 4], height, width)

    rescale(model.proj_out, run(), 1.0)
    rounded(model, torch.float16)
    return model, inputs | looked_at | dict(output=run())


def flux2(name):
    """A transformer of FLUX.2 on two latents that are not square, its weights stored in f16."""
    options = dict(FLUX2[name])
    references = options.pop("references", ())
    model = randomize(Flux2Transformer2DModel(**options), 27)
    gates_open(model)
    config, (height, width), tokens = model.config, (3, 5), 7
    inputs = dict(sample=noise(28, 2, config.in_channels, height, width), timestep=torch.tensor([0.8125, 0.8125]),
                  encoder_hidden_states=noise(29, 2, tokens, config.joint_attention_dim))
    if config.guidance_embeds:
        inputs["guidance"] = torch.tensor([3.5, 2.25])
    grid = lambda time, h, w: torch.cartesian_prod(torch.tensor([time]), torch.arange(h), torch.arange(w), torch.arange(1))
    places = torch.cat([grid(0, height, width)] + [grid(10 + 10 * i, *size) for i, size in enumerate(references)])
    looked_at = {f"reference_{i}": noise(43 + i, 2, config.in_channels, *size) for i, size in enumerate(references)}
    words = torch.cartesian_prod(torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(tokens))

    def run():
        rest = {key: inputs[key] for key in list(inputs)[1:]}
        pictures = torch.cat([latents.flatten(2).mT for latents in (inputs["sample"], *looked_at.values())], 1)
        packed = model(hidden_states=pictures, img_ids=places, txt_ids=words, **rest).sample
        return packed[:, :height * width].mT.unflatten(2, (height, width))

    rescale(model.proj_out, run(), 1.0)
    rounded(model, torch.float16)
    return model, inputs | looked_at | dict(output=run())


def z_image(latents, texts, **config):
    """A transformer of Z-Image on two latents that are not square, its weights stored in f16."""
    model = randomize(ZImageTransformer2DModel(**config), 37)
    for name, parameter in model.named_parameters():
        if "norm" in name and parameter.ndim == 1:
            parameter.data.add_(1)
    # A layer whose size no config says: files with many zeros are packed well.
    model.t_embedder.mlp[0].weight.mul_(torch.arange(256) % 16 == 0)
    text = noise(38, 2, max(texts), model.config.cap_feat_dim)
    inputs = dict(sample=noise(39, 2, model.config.in_channels, *latents), timestep=torch.tensor([0.1875, 0.1875]),
                  encoder_hidden_states=text)
    if len(set(texts)) > 1:
        inputs["encoder_attention_mask"] = torch.tensor([[int(i < count) for i in range(max(texts))] for count in texts])
    words = [states[:count] for states, count in zip(text, texts)]
    run = lambda: torch.stack(model(list(inputs["sample"].unsqueeze(2)), inputs["timestep"], words).sample).squeeze(2)
    rescale(model.all_final_layer["2-1"].linear, run(), 1.0)
    rounded(model, torch.float16)
    return model, inputs | dict(output=run())


SANA = {
    "sana_plain": dict(latents=(3, 5), texts=(7, 7), in_channels=4, out_channels=4, num_layers=2, num_attention_heads=3,
                       attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=6, cross_attention_dim=12,
                       caption_channels=10, sample_size=16),
    # As Sana-Sprint: queries and keys are normed, the guidance scale is a number; texts differ, tokens are squares.
    "sana_guided": dict(latents=(6, 4), texts=(9, 5), in_channels=3, out_channels=3, num_layers=2, num_attention_heads=2,
                        attention_head_dim=8, num_cross_attention_heads=4, cross_attention_head_dim=5, cross_attention_dim=16,
                        caption_channels=12, mlp_ratio=3.0, attention_bias=True, qk_norm="rms_norm_across_heads",
                        guidance_embeds=True, guidance_embeds_scale=0.25, patch_size=2, norm_elementwise_affine=True),
}
DEEP = {
    # As those of Sana: places are left out on the way in and repeated on the way out.
    "vae_deep": dict(latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(8, 8, 16), decoder_block_out_channels=(8, 8, 16),
                     encoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock"], decoder_block_types=["ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
                     encoder_layers_per_block=(1, 2, 1), decoder_layers_per_block=(2, 1, 1), encoder_qkv_multiscales=((), (), (5,)),
                     decoder_qkv_multiscales=((), (3, 5), ()), upsample_block_type="interpolate", downsample_block_type="Conv",
                     scaling_factor=0.41407),
    # Places are channels both ways, the first level is a step alone, and nothing goes around.
    "vae_deep_shuffled": dict(latent_channels=3, attention_head_dim=4, encoder_block_out_channels=(4, 8, 8, 16),
                              decoder_block_out_channels=(4, 8, 8, 8), encoder_layers_per_block=(0, 1, 1, 1), decoder_layers_per_block=(0, 1, 2, 1),
                              encoder_block_types="ResBlock", decoder_block_types=["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"],
                              encoder_qkv_multiscales=((), (), (), ()), decoder_qkv_multiscales=((), (), (), (3,)),
                              decoder_act_fns=["relu", "silu", "gelu", "silu"], decoder_conv_act_fn="silu", encoder_out_shortcut=False,
                              decoder_in_shortcut=False),
}
GEMMA2 = dict(layers=(-1, 1), vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, head_dim=6, query_pre_attn_scalar=10, sliding_window=6, attn_logit_softcapping=0.5)

MODELS = {
    "clip_quick_gelu": (lambda: clip("quick_gelu"), torch.float32),
    "clip_gelu": (lambda: clip("gelu"), torch.float32),
    "clip_projection": (lambda: clip("gelu", projection=10, end=2), torch.float32),
    "vision_quick_gelu": (lambda: vision(hidden_size=24, intermediate_size=40, projection_dim=10, num_hidden_layers=2,
                                         num_attention_heads=3, image_size=16, patch_size=8), torch.float32),
    # Squares that leave a border of the picture out.
    "vision_gelu": (lambda: vision(hidden_size=20, intermediate_size=36, projection_dim=14, num_hidden_layers=3, num_attention_heads=2,
                                   image_size=20, patch_size=6, hidden_act="gelu", layer_norm_eps=1e-4), torch.float32),
    "image_projection": (lambda: image_projection(image_embed_dim=14, cross_attention_dim=12, num_image_text_embeds=4), torch.float32),
    "image_resampler": (lambda: resampler(7, embed_dims=20, output_dims=12, hidden_dims=16, depth=2, dim_head=64, heads=1, num_queries=3), torch.float32),
    "image_resampler_heads": (lambda: resampler(5, embed_dims=12, output_dims=18, hidden_dims=20, depth=1, dim_head=8, heads=3, num_queries=5), torch.float32),
    "bert": (bert, torch.float32),
    **{name: (lambda name=name: unet(name), torch.float16) for name in UNETS},
    "controlnet_sd15": (lambda: controlnet("unet_sd15"), torch.float16),
    "controlnet_sdxl": (lambda: controlnet("unet_sdxl"), torch.float16),
    **{name: (lambda name=name: sd3(name), torch.float16) for name in SD3},
    **{name: (lambda name=name: flux(name), torch.float16) for name in FLUX},
    **{name: (lambda name=name: flux2(name), torch.float16) for name in FLUX2},
    **{name: (lambda config=config: z_image(**config), torch.float16) for name, config in Z_IMAGE.items()},
    **{name: (lambda config=config: sana(**config), torch.float16) for name, config in SANA.items()},
    **{name: (lambda config=config: vae_deep(**config), torch.float16) for name, config in DEEP.items()},
    "chat_capped": (lambda: gemma2(**GEMMA2), torch.float32),
    "vae_kl": (vae_kl, torch.bfloat16),
    "vae_kl_plain": (lambda: vae_kl(use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False),
                     torch.bfloat16),
    "t5_gated": (lambda: t5(True, feed_forward_proj="gated-gelu"), torch.float32),
    "t5_plain": (lambda: t5(False, relative_attention_num_buckets=16, relative_attention_max_distance=40),
                 torch.float32),
    "vae_tiny": (vae_tiny, torch.float16),
    **{name: (lambda changes=changes: vae_squares(**changes), torch.bfloat16) for name, changes in SQUARES.items()},
    **{name: (lambda config=config: chat(**config), torch.float32) for name, config in CHATS.items()},
}


def write(folder, make, dtype):
    """Save one model and its golden tensors, and report the folder's size."""
    model, golden = make()
    spread = {name: round(tensor.float().std().item(), 3) for name, tensor in golden.items()}
    model.to(dtype).save_pretrained(folder)
    if folder.name.startswith("clip"):
        prefix_keys(folder / "model.safetensors", "text_model.")
    scrub(folder)
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, folder / "golden.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name:16} {size / 1024:7.1f} KiB  std {spread}")
    return size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=MODELS)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    with torch.no_grad():
        sizes = [write(arguments.out / name, *MODELS[name]) for name in MODELS if arguments.only in (None, name)]
    print(f"{sum(sizes) / 2**20:.2f} MiB in all")


if __name__ == "__main__":
    main()
