"""Small folders of random weights of the families with transformers, and Ondine's pictures against diffusers'.

    python flow.py make OUT --bpe bpe_simple_vocab_16e6.txt.gz [--only FOLDER]
    python flow.py check DIR --ondine BIN [--only FOLDER] [--file FILE | --whole FILE | --part NAME=FILE]

`check` draws every folder by both at f32 on the CPU from the same seed and compares timesteps, text, the latents after
every step and the picture; exits 1 when a case misses. With --file Ondine draws with that checkpoint in place of the
folder's transformer, with --whole with that file and the folder's configs, with --part with that file as a part.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler,
                       FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel,
                       StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline)
from diffusers.utils import logging
from safetensors.torch import load_file, save_file
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5Config,
                          T5EncoderModel, T5Tokenizer)

from edits import picture
from models import gates_open, pack, unpack
from parity import psnr, relative
from vocabulary import END, write_clip
from weights import prefix_keys, randomize, rescale, scrub

PROMPT = "a photo of a laughing cat in the rain"
WORDS = ["▁a", "▁the", "▁photo", "▁of", "▁cat", "▁in", "▁rain", "▁laugh", "ing", "▁dark", "▁blur", "ry", "ed", "er"]


def write_t5(folder, pieces=False):
    """A T5 tokenizer of letters and some words."""
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'()"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -3.0 - 0.1 * i) for i, word in enumerate(WORDS)] + [(letter, -8.0 - 0.01 * i) for i, letter in enumerate(letters)]
    T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512).save_pretrained(folder)
    if pieces:
        from sentencepiece import sentencepiece_model_pb2 as proto
        model = proto.ModelProto()
        kinds = {"<unk>": 2, "<pad>": 3, "</s>": 3}
        for piece, score in vocabulary:
            model.pieces.add(piece=piece, score=score, type=kinds.get(piece, 1))
        model.trainer_spec.model_type = 1
        model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = 2, -1, 1, 0
        model.normalizer_spec.name = "identity"
        model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = True
        model.normalizer_spec.escape_whitespaces = True
        (folder / "spiece.model").write_bytes(model.SerializeToString())
        (folder / "tokenizer.json").unlink()
    return len(vocabulary)


def clip(seed, width, heads, projection=None, activation="quick_gelu"):
    """A CLIP text encoder, with a projection where its width is given."""
    config = dict(vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
                  num_attention_heads=heads, hidden_act=activation, bos_token_id=0, eos_token_id=2)
    if projection:
        config["projection_dim"] = projection
    return randomize((CLIPTextModelWithProjection if projection else CLIPTextModel)(CLIPTextConfig(**config)), seed)


def t5(seed, width, heads, words):
    """The encoder of a T5."""
    model = randomize(T5EncoderModel(T5Config(vocab_size=words + 5, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2,
                                              num_heads=heads, feed_forward_proj="gated-gelu")), seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(1)
    return model


def vae(seed, channels, *widths):
    """An autoencoder without the convolutions around the latents, whose pictures are mostly inside 0..1."""
    model = randomize(AutoencoderKL(
        block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * len(widths), layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * len(widths), latent_channels=channels, norm_num_groups=8, scaling_factor=1.5305,
        shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False, sample_size=128), seed)
    latent = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(seed))
    rescale(model.decoder.conv_out, model.decode(latent).sample, 0.4)
    return model


def transformer(kind, seed, **config):
    """A transformer whose output has deviation one."""
    model = randomize(kind(**config), seed)
    gates_open(model)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    words = dict(encoder_hidden_states=draw(1, 9, config["joint_attention_dim"]),
                 pooled_projections=draw(1, config["pooled_projection_dim"]))
    if kind is SD3Transformer2DModel:
        output = model(hidden_states=draw(1, config["in_channels"], 8, 8), timestep=torch.tensor([500.0]), **words).sample
    else:
        places = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1).reshape(-1, 3)
        if config.get("guidance_embeds"):
            words["guidance"] = torch.tensor([3.5])
        output = model(hidden_states=draw(1, 16, config["in_channels"]), timestep=torch.tensor([0.5]), img_ids=places,
                       txt_ids=torch.zeros(9, 3), **words).sample
    rescale(model.proj_out, output, 1.0)
    return model


def sd3(folder, bpe, third, scheduler, dims, dtype=torch.float32, **config):
    """A folder of Stable Diffusion 3; `dims` are the widths of both CLIPs and of the text."""
    first, second, width = dims
    write_clip(folder / "tokenizer", bpe)
    write_clip(folder / "tokenizer_2", bpe, "!")
    parts = dict(tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
                 tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
                 text_encoder=clip(3, first, 4, first), text_encoder_2=clip(4, second, 5, second, "gelu"),
                 text_encoder_3=None, tokenizer_3=None)
    if third:
        words = write_t5(folder / "tokenizer_3")
        parts |= dict(tokenizer_3=T5Tokenizer.from_pretrained(folder / "tokenizer_3"), text_encoder_3=t5(5, width, 4, words))
    model = transformer(SD3Transformer2DModel, 1, joint_attention_dim=width, pooled_projection_dim=first + second,
                        sample_size=16, **config)
    save(StableDiffusion3Pipeline, folder, bpe, dtype, parts | dict(
        transformer=model, vae=vae(2, config["in_channels"], 16, 24, 24, 32), scheduler=scheduler))


def flux(folder, bpe, scheduler, dims, pieces=False, dtype=torch.float32, kind=FluxPipeline, **config):
    """A folder of FLUX.1; `dims` are the widths of CLIP and of the text, `kind` is its pipeline."""
    first, width = dims
    write_clip(folder / "tokenizer", bpe)
    words = write_t5(folder / "tokenizer_2")
    parts = dict(tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), text_encoder=clip(3, first, 4),
                 tokenizer_2=T5Tokenizer.from_pretrained(folder / "tokenizer_2"), text_encoder_2=t5(5, width, 4, words))
    model = transformer(FluxTransformer2DModel, 1, joint_attention_dim=width, pooled_projection_dim=first, **config)
    channels = config.get("out_channels", config["in_channels"]) // 4
    save(kind, folder, bpe, dtype, parts | dict(
        transformer=model, vae=vae(2, channels, 16, 24, 24, 32), scheduler=scheduler))
    if pieces:
        write_t5(folder / "tokenizer_2", pieces=True)


def save(kind, folder, bpe, dtype, parts):
    """Save a pipeline as published ones are."""
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if parts.get(name) is not None:
            parts[name] = parts[name].to(dtype)
    kind(**parts).save_pretrained(folder)
    scrub(folder)
    for name, pad in [("tokenizer", END)] + [("tokenizer_2", "!")] * (kind is StableDiffusion3Pipeline):
        write_clip(folder / name, bpe, pad)
    for file in [folder / "text_encoder/model.safetensors"] + [folder / "text_encoder_2/model.safetensors"] * (kind is StableDiffusion3Pipeline):
        prefix_keys(file, "text_model.")


EULER = FlowMatchEulerDiscreteScheduler
FOLDERS = {
    "sd3": lambda folder, bpe: sd3(
        folder, bpe, True, EULER(shift=3.0), (32, 40, 80), in_channels=16, num_layers=3, attention_head_dim=16,
        num_attention_heads=4, caption_projection_dim=64, pos_embed_max_size=24),
    "sd35-no-t5": lambda folder, bpe: sd3(
        folder, bpe, False, EULER(shift=3.0, use_dynamic_shifting=True), (24, 30, 72), in_channels=8, out_channels=8, num_layers=4,
        attention_head_dim=12, num_attention_heads=5, caption_projection_dim=60, pos_embed_max_size=17,
        dual_attention_layers=(0, 1, 2), qk_norm="rms_norm"),
    "flux-dev": lambda folder, bpe: flux(
        folder, bpe, EULER(shift=3.0, use_dynamic_shifting=True), (48, 64), in_channels=64, num_layers=2, num_single_layers=3,
        attention_head_dim=24, num_attention_heads=3, guidance_embeds=True, axes_dims_rope=(4, 8, 12)),
    "flux-schnell": lambda folder, bpe: flux(
        folder, bpe, EULER(shift=1.0), (32, 40), pieces=True, in_channels=32, num_layers=3, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, axes_dims_rope=(4, 6, 6), dtype=torch.bfloat16),
}


@dataclass
class Case:
    """One drawing: what the command line says and what diffusers is told."""
    steps: int = 6
    width: int = 96
    height: int = 64
    batch: int = 1
    guidance: float | None = 5.0
    negative: str | None = None
    sampler: str | None = "euler"
    schedule: str | None = None
    strength: float | None = None
    prompt: str = PROMPT
    keys: dict = field(default_factory=dict)

    def title(self):
        """The case in a few words."""
        words = [self.sampler or "", f"{self.steps} steps", f"{self.width}x{self.height}", f"g {self.guidance}",
                 f"batch {self.batch}" * (self.batch > 1), "negative" * (self.negative is not None), self.schedule or "",
                 f"strength {self.strength}" if self.strength else "", repr(self.prompt[:24]) if self.prompt != PROMPT else ""]
        return ", ".join(word for word in words if word)


def cases(folder):
    """All cases of one folder."""
    long = ("a very large photo of the old cat in the rain, " * 9).strip(", ")
    if folder.startswith("sd3"):
        return [Case(), Case(steps=20, batch=2, negative="dark, blurry"), Case(guidance=1.0, width=80, height=112),
                Case(negative="blurred", guidance=3.0, width=128, height=128), Case(schedule="karras"), Case(schedule="exponential"),
                Case(schedule="beta"), Case(strength=0.6, steps=10), Case(strength=0.33, steps=7, batch=2), Case(prompt="")
                ] + [Case(sampler="heun", steps=5)] * (folder == "sd3")
    guided = folder == "flux-dev"
    usual = 3.5 if guided else 1.0
    return [Case(guidance=usual), Case(guidance=usual, batch=2, width=80, height=112), Case(guidance=usual, steps=1),
            Case(guidance=usual, schedule="karras"), Case(guidance=usual, strength=0.6, steps=10, width=112, height=80), Case(guidance=usual, prompt=long),
            Case(guidance=1.5 if guided else 4.0, steps=3, negative=None if guided else "dark"),
            Case(guidance=usual, steps=20, width=256, height=192)]


def scheduler(pipe, case):
    """The case's scheduler, made from the folder's own config."""
    kind = FlowMatchHeunDiscreteScheduler if case.sampler == "heun" else EULER
    flags = {f"use_{case.schedule}_sigmas": True} if case.schedule else {}
    if kind is FlowMatchHeunDiscreteScheduler:
        return kind(shift=pipe.published["shift"])
    return kind.from_config(pipe.published, **flags)


def theirs(pipe, case):
    """What diffusers draws, as a dump."""
    flux_kind = isinstance(pipe, FluxPipeline)
    form = pipe
    if case.strength:
        form = (FluxImg2ImgPipeline if flux_kind else StableDiffusion3Img2ImgPipeline)(**pipe.components)
        form.set_progress_bar_config(disable=True)
    form.scheduler = scheduler(pipe, case)
    factor, path = pipe.vae_scale_factor, []

    def stepped(_pipe, _step, _time, tensors):
        latents = tensors["latents"].clone()
        path.append(unpack(latents, case.height // factor, case.width // factor) if flux_kind else latents)
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(case.batch)]
    words = dict(prompt=[case.prompt] * case.batch, num_inference_steps=case.steps, width=case.width, height=case.height,
                 output_type="pt", generator=generators if case.batch > 1 else generators[0], callback_on_step_end=stepped)
    if case.strength:
        words |= dict(image=[picture(case.width, case.height)] * case.batch, strength=case.strength)
    if flux_kind and not pipe.transformer.config.guidance_embeds:
        words |= dict(guidance_scale=0.0)
        if case.guidance > 1:
            words |= dict(true_cfg_scale=case.guidance, negative_prompt=[case.negative or ""] * case.batch)
    else:
        words["guidance_scale"] = case.guidance
        if case.negative is not None:
            words["negative_prompt"] = [case.negative] * case.batch
    with torch.no_grad():
        image = form(**words).images.float()
        text = pipe.encode_prompt(prompt=case.prompt, prompt_2=None, device="cpu", **({} if flux_kind else dict(prompt_3=None, do_classifier_free_guidance=False)))
    embeds, pooled = (text[0], text[1]) if flux_kind else (text[0], text[2])
    return dict(path=path, image=image, timesteps=form.scheduler.timesteps.float(), prompt_embeds=embeds, prompt_pooled=pooled)


def ours(arguments, folder, case):
    """The dump of Ondine's drawing."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model = getattr(arguments, "whole", None)
        model = [model, "--config", folder] if model else [folder]
        part = getattr(arguments, "part", None) or arguments.file and f"transformer={arguments.file}"
        words = [arguments.ondine.resolve(), "draw", case.prompt, "--model", *model, "--steps", case.steps, "--seed", 1234, "--width",
                 case.width, "--height", case.height, "--precision", "f32", "--dump", place / "dump.safetensors", "--output",
                 place / "x.png", "--quiet", "--guidance", case.guidance, "--batch", case.batch]
        for flag, value in [("--sampler", case.sampler), ("--negative", case.negative), ("--schedule", case.schedule), ("--strength", case.strength),
                            ("--part", part)]:
            words += [flag, value] if value is not None else []
        if getattr(arguments, "lora", None):
            words += ["--lora", arguments.lora]
        if case.strength:
            picture(case.width, case.height).save(place / "init.png")
            words += ["--init", place / "init.png"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
        return load_file(place / "dump.safetensors")


def check(arguments, folder, pipe, case, draw=theirs):
    """One row of the table, and whether the case holds; `draw` yields what diffusers draws."""
    started = time.time()
    try:
        other, dump = draw(pipe, case), ours(arguments, folder, case)
        names = sorted((name for name in dump if name.startswith("latents_")), key=lambda name: int(name[8:]))[1:]
        if len(names) != len(other["path"]):
            raise RuntimeError(f"{len(names)} steps, expected {len(other['path'])}")
        times = (dump["timesteps"].double() - other["timesteps"].double()).abs().max().item()
        text = max(relative(dump[name], other[name]) for name in ("prompt_embeds", "prompt_pooled") if name in other)
        path = max(relative(dump[name], latents) for name, latents in zip(names, other["path"]))
        decibels = psnr(dump["image"], other["image"])
        good = times <= 1e-2 and text <= 1e-4 and path <= 2e-3 and decibels >= 55
        figures = f"{times:8.1e} {text:8.1e} {path:8.1e} {decibels:6.1f}"
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, subprocess.TimeoutExpired) as error:
        figures, good = f"{type(error).__name__}: {error}", False
    print(f"{'ok  ' if good else 'MISS'} {folder.name:12} {case.title():58} {figures}  {time.time() - started:.1f} s", flush=True)
    return good


def load(folder):
    """The pipeline of a folder, at f32 on the CPU."""
    index = json.loads((folder / "model_index.json").read_text())
    missing = {name: None for name, part in index.items() if part == [None, None] and name.endswith("_3")}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True, **missing)
    pipe.set_progress_bar_config(disable=True)
    pipe.published = dict(pipe.scheduler.config)
    return pipe


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "check"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--bpe", type=Path, help="CLIP's published merges, gzipped")
    parser.add_argument("--ondine", type=Path, help="the ondine binary")
    parser.add_argument("--only", help="one folder")
    parser.add_argument("--file", type=Path, help="a checkpoint in one file, of the folder's transformer")
    parser.add_argument("--whole", type=Path, help="a checkpoint in one file, of all parts of the folder")
    parser.add_argument("--part", metavar="NAME=FILE", help="a part in one file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    names = [arguments.only] if arguments.only else list(FOLDERS)
    if arguments.what == "make":
        with torch.no_grad():
            for name in names:
                FOLDERS[name](arguments.place / name, arguments.bpe)
        return
    print(f"     {'folder':12} {'case':58} {'times':>8} {'text':>8} {'path':>8} {'PSNR':>6}")
    results = []
    for name in names:
        pipe = load(arguments.place / name)
        results += [check(arguments, arguments.place / name, pipe, case) for case in cases(name)]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
