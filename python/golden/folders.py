"""Small diffusers folders with random weights, in the shapes and dialects that occur in the wild.

    python folders.py OUT --bpe bpe_simple_vocab_16e6.txt.gz [--only NAME]
    python folders.py OUT --bpe ... --only full-sd15 [--half]

`full-sd15` is Stable Diffusion 1.5 at its real size (about 4.3 GB, or 2.1 GB with --half); it is made only when named.
"""
import argparse
import json
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, AutoencoderTiny, DDIMScheduler, DPMSolverMultistepScheduler,
                       EulerDiscreteScheduler, LatentConsistencyModelPipeline, LCMScheduler, PNDMScheduler,
                       StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline,
                       StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from diffusers.utils import logging
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from vocabulary import END, write_clip, write_wordpiece
from weights import drawn, prefix_keys, randomize, rescale, scrub

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"

BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
OFFSET = dict(BETAS, steps_offset=1, set_alpha_to_one=False)
SCHEDULES = {
    "pndm": PNDMScheduler(**OFFSET, skip_prk_steps=True),
    "ddim-v": DDIMScheduler(**OFFSET, clip_sample=False, prediction_type="v_prediction"),
    "ddim-sample": DDIMScheduler(**OFFSET, clip_sample=False, prediction_type="sample"),
    "ddim-zero-snr": DDIMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction",
                                   rescale_betas_zero_snr=True, timestep_spacing="trailing"),
    "euler-leading": EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
    "euler-trailing-v": EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="trailing", prediction_type="v_prediction"),
    "dpm": DPMSolverMultistepScheduler(**BETAS, steps_offset=1),
    "lcm": LCMScheduler(**BETAS),
}

# The keys that the first published Stable Diffusion configs have: every other one takes its default.
FIRST_KEYS = {
    "unet": ["_class_name", "_diffusers_version", "act_fn", "attention_head_dim", "block_out_channels", "center_input_sample",
             "cross_attention_dim", "down_block_types", "downsample_padding", "flip_sin_to_cos", "freq_shift", "in_channels",
             "layers_per_block", "mid_block_scale_factor", "norm_eps", "norm_num_groups", "out_channels", "sample_size",
             "up_block_types"],
    "vae": ["_class_name", "_diffusers_version", "act_fn", "block_out_channels", "down_block_types", "in_channels",
            "latent_channels", "layers_per_block", "norm_num_groups", "out_channels", "sample_size", "up_block_types"],
    "scheduler": ["_class_name", "_diffusers_version", "beta_end", "beta_schedule", "beta_start", "num_train_timesteps",
                  "clip_sample", "set_alpha_to_one", "skip_prk_steps", "steps_offset", "trained_betas"],
}
# Published schedules carry these whatever their class, so that one class can be made from another's config.
FOREIGN_KEYS = dict(clip_sample=False, skip_prk_steps=True)
# The names of the autoencoder's attention layers in those folders.
FIRST_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def levels(*kinds):
    """The block types of a U-Net, downwards and mirrored upwards."""
    up = [kind.replace("DownBlock", "UpBlock") for kind in reversed(kinds)]
    return dict(down_block_types=kinds, up_block_types=tuple(up))


def unet(channels, heads, cross, **rest):
    """A U-Net config with two layers per block and 8 groups unless `rest` says otherwise."""
    return dict(dict(block_out_channels=channels, attention_head_dim=heads, cross_attention_dim=cross, norm_num_groups=8,
                     sample_size=8), **rest)


def text(width, heads, activation="quick_gelu", depth=3, **rest):
    """A CLIP text encoder config on the real vocabulary, with the token ids that published configs name."""
    return dict(vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth,
                num_attention_heads=heads, hidden_act=activation, bos_token_id=0, eos_token_id=2, **rest)


def kl(*channels, scaling=0.18215, **rest):
    """An AutoencoderKL config of /8 where four widths are given."""
    return dict(dict(block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * len(channels),
                     up_block_types=("UpDecoderBlock2D",) * len(channels), layers_per_block=2, latent_channels=4,
                     norm_num_groups=8, scaling_factor=scaling, sample_size=64), **rest)


def tiny(width):
    """An AutoencoderTiny config in its usual layout."""
    return dict(encoder_block_out_channels=(width,) * 4, decoder_block_out_channels=(width,) * 4)


@dataclass
class Recipe:
    """One folder: configs of the networks, and how they are stored.

    `save` goes to diffusers' `save_pretrained`; such folders also keep the tensor names of current transformers,
    the others get the `text_model.` of published ones. `modern` stores the tokenizer as one `tokenizer.json`;
    `first` gives the folder the looks of the first published ones.
    """
    unet: dict
    vae: dict
    texts: list
    schedule: str
    pipeline: type = StableDiffusionPipeline
    dtype: torch.dtype = torch.float32
    save: dict = field(default_factory=dict)
    pads: tuple = (END, "!")
    modern: bool = False
    first: bool = False


SD1 = levels(CROSS, CROSS, CROSS, PLAIN)
XL = dict(addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 20,
          use_linear_projection=True)

RECIPES = {
    # The published families.
    "sd15": Recipe(unet((32, 64, 96, 96), 8, 48, norm_num_groups=32, **SD1), kl(16, 32, 48, 48), [text(48, 4)], "pndm",
                   first=True),
    "sd21": Recipe(unet((32, 48, 64, 64), (2, 3, 4, 4), 64, use_linear_projection=True, upcast_attention=True, **SD1),
                   kl(16, 32, 32, 32), [text(64, 4, "gelu")], "ddim-v", pads=("!",)),
    "sdxl": Recipe(unet((32, 64, 96), (2, 4, 6), 72, transformer_layers_per_block=(1, 2, 3), **levels(PLAIN, CROSS, CROSS), **XL),
                   kl(16, 32, 32, 32, scaling=0.13025, force_upcast=True),
                   [text(32, 4), text(40, 5, "gelu", projection_dim=20)], "euler-leading", StableDiffusionXLPipeline),
    "lcm": Recipe(unet((32, 64, 64, 64), 8, 48, time_cond_proj_dim=24, **SD1), kl(16, 32, 32, 32), [text(48, 4)], "lcm",
                  LatentConsistencyModelPipeline),
    # The same, otherwise: widths, head counts, depths, storage.
    "odd-heads": Recipe(unet((24, 40, 56), (3, 5, 7), 40, layers_per_block=1, **levels(CROSS, CROSS, PLAIN)), kl(8, 24, 24, 40),
                        [text(40, 5, depth=2)], "dpm", dtype=torch.float16),
    "two-levels": Recipe(unet((24, 40), (3, 5), 32, layers_per_block=(1, 2), use_linear_projection=True, **levels(CROSS, CROSS)),
                         tiny(16), [text(32, 2, "gelu")], "euler-trailing-v", dtype=torch.float16, modern=True,
                         save=dict(variant="fp16")),
    "bf16": Recipe(unet((16, 32, 48, 48), 4, 32, **SD1), kl(16, 16, 32, 32), [text(32, 4)], "pndm", dtype=torch.bfloat16),
    "sharded": Recipe(unet((32, 64, 64, 64), 4, 32, **SD1), kl(16, 16, 32, 32), [text(32, 4)], "pndm",
                      save=dict(max_shard_size="3MB")),
    "sample": Recipe(unet((16, 24, 32), 4, 32, **levels(CROSS, CROSS, PLAIN)), kl(8, 16, 16, 16, layers_per_block=1),
                     [text(32, 4)], "ddim-sample"),
    "no-mid": Recipe(unet((32, 48, 64), 8, 32, layers_per_block=1, mid_block_type=None, **levels(CROSS, CROSS, CROSS)),
                     kl(16, 16, 32, 32), [text(32, 4)], "dpm"),
    "sdxl-uneven": Recipe(unet((16, 32, 48), (2, 4, 6), 72, transformer_layers_per_block=[1, [2, 1], [1, 3]],
                               reverse_transformer_layers_per_block=[[1, 2, 3], [2, 1, 1], 1], **levels(PLAIN, CROSS, CROSS), **XL),
                          kl(8, 16, 16, 16, scaling=0.13025), [text(32, 4), text(40, 5, "gelu", projection_dim=20)],
                          "euler-leading", StableDiffusionXLPipeline, dtype=torch.float16),
}

RECIPES |= {
    # Those that take more than text.
    "inpaint": Recipe(unet((32, 48, 64), 8, 48, in_channels=9, **levels(CROSS, CROSS, PLAIN)), kl(16, 32, 32, 32), [text(48, 4)],
                      "pndm", StableDiffusionInpaintPipeline),
    "pix2pix": Recipe(unet((32, 48, 64), 8, 48, in_channels=8, **levels(CROSS, CROSS, PLAIN)), kl(16, 32, 32, 32), [text(48, 4)],
                      "euler-leading", StableDiffusionInstructPix2PixPipeline),
    "refiner": Recipe(unet((32, 64, 96), (2, 4, 6), 40, transformer_layers_per_block=(1, 2, 3), **levels(PLAIN, CROSS, CROSS),
                           **dict(XL, projection_class_embeddings_input_dim=5 * 8 + 20)),
                      kl(16, 32, 32, 32, scaling=0.13025, force_upcast=True), [text(40, 5, "gelu", projection_dim=20)],
                      "euler-leading", StableDiffusionXLImg2ImgPipeline),
}

EMOJI_UNET = unet((24, 40, 48), (3, 5, 6), 32, layers_per_block=1, use_linear_projection=True,
                  resnet_time_scale_shift="scale_shift", class_embed_type="simple_projection",
                  projection_class_embeddings_input_dim=32, **levels(PLAIN, CROSS, PLAIN))
EMOJI_WORDS = ["a", "red", "heart", "cat", "laugh", "##ing", "photo", "of", "the", "in", "rain"]

FULL = Recipe(unet((320, 640, 1280, 1280), 8, 768, norm_num_groups=32, sample_size=64, **SD1),
              kl(128, 256, 512, 512, norm_num_groups=32, sample_size=512), [text(768, 12, depth=12)], "pndm")


def text_encoder(config):
    """The text encoder of `config`: with a projection where the config gives its width."""
    kind = CLIPTextModelWithProjection if "projection_dim" in config else CLIPTextModel
    return kind(CLIPTextConfig(**config))


def autoencoder(config):
    """AutoencoderKL or AutoencoderTiny, told apart by the config."""
    return (AutoencoderKL if "block_out_channels" in config else AutoencoderTiny)(**config)


def healthy_unet(config, seed):
    """A random U-Net whose output has deviation one."""
    model = randomize(UNet2DConditionModel(**config), seed)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    inputs = dict(sample=draw(1, config.get("in_channels", 4), 8, 8), timestep=500, encoder_hidden_states=draw(1, 9, config["cross_attention_dim"]))
    if config.get("class_embed_type"):
        inputs["class_labels"] = draw(1, config["projection_class_embeddings_input_dim"])
    if config.get("addition_embed_type"):
        inputs["added_cond_kwargs"] = dict(text_embeds=draw(1, 20), time_ids=torch.full((1, (config["projection_class_embeddings_input_dim"] - 20) // 8), 64.0))
    rescale(model.conv_out, model(**inputs).sample, 1.0)
    return model


def healthy_vae(config, seed):
    """A random autoencoder whose pictures are mostly inside 0..1."""
    model = randomize(autoencoder(config), seed)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    if isinstance(model, AutoencoderKL):
        rescale(model.decoder.conv_out, model.decode(latent).sample, 0.4)
    else:
        rescale(model.decoder.layers[-1], model.decode(latent).sample, 0.4)
        model.decoder.layers[-1].bias.sub_(model.decode(latent).sample.mean() / 2)
    return model


def networks(recipe):
    """The parts of a recipe's pipeline that hold weights, by their names in the folder."""
    parts = {"unet": healthy_unet(recipe.unet, 1), "vae": healthy_vae(recipe.vae, 2)}
    refines = recipe.pipeline is StableDiffusionXLImg2ImgPipeline
    for i, config in enumerate(recipe.texts):
        parts["text_encoder" + ("_2" if i or refines else "")] = randomize(text_encoder(config), 3 + i)
    return {name: part.to(recipe.dtype) for name, part in parts.items()}


def write_tokenizers(folder, recipe, bpe):
    """One tokenizer folder per text encoder."""
    refines = recipe.pipeline is StableDiffusionXLImg2ImgPipeline
    names = ["tokenizer_2"] if refines else ["tokenizer", "tokenizer_2"][:len(recipe.texts)]
    for name, pad in zip(names, recipe.pads[1:] if refines else recipe.pads):
        write_clip(folder / name, bpe, pad, recipe.modern)
    return {name: CLIPTokenizer.from_pretrained(folder / name) for name in names}


def write_small(folder, recipe, bpe):
    """A small pipeline, saved by diffusers, then put into the dialect that published folders speak."""
    parts = networks(recipe) | write_tokenizers(folder, recipe, bpe)
    if recipe.pipeline is StableDiffusionXLImg2ImgPipeline:
        parts |= dict(tokenizer=None, text_encoder=None, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False)
    elif recipe.pipeline is not StableDiffusionXLPipeline:
        parts |= dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    recipe.pipeline(scheduler=SCHEDULES[recipe.schedule], **parts).save_pretrained(folder, **recipe.save)
    scrub(folder)
    add_foreign_keys(folder)
    for tokenizer in folder.glob("tokenizer*"):
        shutil.rmtree(tokenizer)
    write_tokenizers(folder, recipe, bpe)
    if not recipe.save:
        for file in folder.glob("text_encoder*/model.safetensors"):
            prefix_keys(file, "text_model.")
    if recipe.first:
        age(folder)


def add_foreign_keys(folder):
    """Give the folder's schedule the keys of the other classes that published ones have."""
    file = folder / "scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | FOREIGN_KEYS, indent=2) + "\n")


def age(folder):
    """Make a folder look as the first published ones do: short configs, old names, a stored position index."""
    for name, keys in FIRST_KEYS.items():
        file = folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        config = json.loads(file.read_text())
        file.write_text(json.dumps({key: config[key] for key in keys}, indent=2) + "\n")
    change(folder / "vae/diffusion_pytorch_model.safetensors", old_attention)
    change(folder / "text_encoder/model.safetensors",
           lambda state: state | {"text_model.embeddings.position_ids": torch.arange(77)[None]})


def change(file, edit):
    """Rewrite the tensors of one safetensors file."""
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})


def old_attention(state):
    """The autoencoder's tensors with its attention layers under their first names."""
    def old(name):
        for new, first in FIRST_NAMES.items():
            name = name.replace(f".{new}.", f".{first}.")
        return name
    return {old(name): tensor for name, tensor in state.items()}


def write_emoji(folder):
    """A folder like the default model's: BERT, class vector, AutoencoderTiny, zero terminal SNR."""
    vocabulary = write_wordpiece(folder / "tokenizer", EMOJI_WORDS)
    config = BertConfig(vocab_size=vocabulary, hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                        max_position_embeddings=64)
    healthy_unet(EMOJI_UNET, 1).half().save_pretrained(folder / "unet")
    healthy_vae(tiny(16), 2).half().save_pretrained(folder / "vae")
    randomize(BertModel(config, add_pooling_layer=False), 3).half().save_pretrained(folder / "text_encoder")
    SCHEDULES["ddim-zero-snr"].save_pretrained(folder / "scheduler")
    add_foreign_keys(folder)
    parts = dict(scheduler=["diffusers", "DDIMScheduler"], text_encoder=["transformers", "BertModel"],
                 tokenizer=["transformers", "BertTokenizer"], unet=["diffusers", "UNet2DConditionModel"],
                 vae=["diffusers", "AutoencoderTiny"])
    (folder / "model_index.json").write_text(json.dumps(dict(_class_name="GenmojiPipeline", **parts), indent=2) + "\n")
    scrub(folder)


def stream(file, model, dtype, seed, prefix=""):
    """Draw the weights of a model on the meta device straight into a safetensors file, one tensor at a time."""
    owners = {f"{path}.{name}": (module, name, parameter) for path, module in model.named_modules()
              for name, parameter in module.named_parameters(recurse=False)}
    label = {torch.float32: "F32", torch.float16: "F16"}[dtype]
    header, offset = {}, 0
    for path, (_, _, parameter) in owners.items():
        end = offset + parameter.numel() * dtype.itemsize
        header[prefix + path] = dict(dtype=label, shape=list(parameter.shape), data_offsets=[offset, end])
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(seed)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for owner in owners.values():
            out.write(drawn(*owner, generator).to(dtype).numpy().data)


def write_full(folder, recipe, bpe, dtype):
    """Stable Diffusion 1.5 at its real size, never holding more than one tensor."""
    with torch.device("meta"):
        parts = dict(unet=UNet2DConditionModel(**recipe.unet), vae=autoencoder(recipe.vae),
                     text_encoder=text_encoder(recipe.texts[0]))
    for seed, (name, model) in enumerate(parts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if name == "text_encoder":
            model.config.save_pretrained(folder / name)
            stream(folder / name / "model.safetensors", model, dtype, seed, "text_model.")
        else:
            model.save_config(folder / name)
            stream(folder / name / "diffusion_pytorch_model.safetensors", model, dtype, seed)
    SCHEDULES[recipe.schedule].save_pretrained(folder / "scheduler")
    add_foreign_keys(folder)
    write_tokenizers(folder, recipe, bpe)
    index = dict(_class_name="StableDiffusionPipeline", feature_extractor=[None, None], requires_safety_checker=False,
                 safety_checker=[None, None], scheduler=["diffusers", "PNDMScheduler"],
                 text_encoder=["transformers", "CLIPTextModel"], tokenizer=["transformers", "CLIPTokenizer"],
                 unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"])
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    scrub(folder)


def write(folder, name, arguments):
    """Make one folder by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "full-sd15":
        write_full(folder, FULL, arguments.bpe, torch.float16 if arguments.half else torch.float32)
    elif name == "genmoji":
        write_emoji(folder)
    else:
        write_small(folder, RECIPES[name], arguments.bpe)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name:12} {size / 2**20:8.1f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bpe", type=Path, required=True, help="CLIP's published merges, gzipped")
    parser.add_argument("--only", choices=[*RECIPES, "genmoji", "full-sd15"])
    parser.add_argument("--half", action="store_true", help="store full-sd15 in f16")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    with torch.no_grad():
        for name in [arguments.only] if arguments.only else [*RECIPES, "genmoji"]:
            write(arguments.out / name, name, arguments)


if __name__ == "__main__":
    main()
