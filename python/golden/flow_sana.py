"""Small folders of random weights of Sana and Sana-Sprint, and Ondine's pictures against diffusers'.

    python flow_sana.py make OUT [--only FOLDER]
    python flow_sana.py check DIR --ondine BIN [--only FOLDER] [--file FILE | --part NAME=FILE]

`check` draws every folder by both at f32 on the CPU from the same seed and compares timesteps, text, the latents after
every step and the picture; exits 1 when a case misses. Sizes are drawn as they are asked for, not moved to those that the
pipelines were trained on (`use_resolution_binning=False`).
"""
import argparse
import inspect
import sys
import warnings
from pathlib import Path

import torch
from diffusers import (AutoencoderDC, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, SanaPipeline,
                       SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler)
from diffusers.utils import logging
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

import flow
from flow import Case, check
from models import near_one
from weights import randomize, rescale, scrub

INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default


def write_gemma(folder):
    """A byte-pair vocabulary of Gemma's kind: letters, bytes, and merges of some words."""
    merges = ["▁ a", "▁ c", "a t", "▁c at", "i n", "in g", "▁ r", "▁r a", "▁ra in", "t h", "e r", "▁ t", "▁t h", "▁th e", "o n", "r e",
              "▁ s", "e d", "e n", "a n", "a l", "i l", "▁ p", "▁ d", "o r", "▁ e", "▁ i"]
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'()-:>\n"
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters,
             *("".join(merge.split()) for merge in merges)]
    tokenizer = GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[tuple(merge.split()) for merge in merges],
                               add_bos_token=True, model_max_length=8192)
    assert tokenizer("a").input_ids[0] == 2
    tokenizer.save_pretrained(folder)
    return tokenizer


def gemma(seed, words, **config):
    return randomize(Gemma2Model(Gemma2Config(vocab_size=words, max_position_embeddings=4096, **config)), seed)


def deep(seed, **config):
    """An autoencoder whose pictures are mostly inside 0..1."""
    model = randomize(AutoencoderDC(**config), seed)
    near_one(model)
    latents = torch.randn(1, model.config.latent_channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    rescale(model.decoder.conv_out, model.decode(latents / model.config.scaling_factor).sample, 0.4)
    return model


def sana(folder, kind, scheduler, text, autoencoder, dtype=torch.float32, **config):
    """A folder of Sana or of Sana-Sprint."""
    tokenizer = write_gemma(folder / "tokenizer")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    model = randomize(SanaTransformer2DModel(caption_channels=text["hidden_size"], cross_attention_dim=width, **config), 1)
    near_one(model)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(1))
    guidance = dict(guidance=torch.tensor([0.45])) if config.get("guidance_embeds") else {}
    output = model(draw(1, config["in_channels"], 8, 8), draw(1, 9, text["hidden_size"]), torch.tensor([0.5]), **guidance).sample
    rescale(model.proj_out, output, 1.0)
    parts = dict(transformer=model.to(dtype), text_encoder=gemma(3, len(tokenizer), **text).to(dtype), scheduler=scheduler,
                 vae=deep(2, latent_channels=config["in_channels"], **autoencoder).to(dtype), tokenizer=tokenizer)
    kind(**parts).save_pretrained(folder)
    scrub(folder)


SOLVER = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
SMALL = dict(attention_head_dim=8, encoder_block_out_channels=(8, 16, 16, 32), decoder_block_out_channels=(8, 16, 16, 32),
             encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 2, 1),
             encoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
             decoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
             encoder_qkv_multiscales=((), (), (5,), (5,)), decoder_qkv_multiscales=((), (), (5,), (5,)),
             upsample_block_type="interpolate", downsample_block_type="Conv", scaling_factor=0.41407)
FOLDERS = {
    "sana": lambda folder: sana(
        folder, SanaPipeline, DPMSolverMultistepScheduler(**SOLVER), dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
            query_pre_attn_scalar=8, sliding_window=4096), SMALL,
        in_channels=8, out_channels=8, num_layers=3, num_attention_heads=4, attention_head_dim=8, num_cross_attention_heads=2,
        cross_attention_head_dim=16, sample_size=16),
    "sana-euler": lambda folder: sana(
        folder, SanaPipeline, FlowMatchEulerDiscreteScheduler(shift=3.0), dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=10,
            query_pre_attn_scalar=12, sliding_window=512, attn_logit_softcapping=2.0),
        SMALL | dict(encoder_block_out_channels=(6, 12, 24), decoder_block_out_channels=(6, 12, 24), encoder_layers_per_block=(1, 2, 1),
                     decoder_layers_per_block=(2, 1, 1), encoder_block_types="ResBlock", decoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock"],
                     encoder_qkv_multiscales=((), (), ()), decoder_qkv_multiscales=((), (), (3, 5)), upsample_block_type="pixel_shuffle",
                     downsample_block_type="pixel_unshuffle", scaling_factor=0.7),
        torch.bfloat16, in_channels=6, out_channels=6, num_layers=2, num_attention_heads=3, attention_head_dim=12, num_cross_attention_heads=3,
        cross_attention_head_dim=12, sample_size=32, qk_norm="rms_norm_across_heads", mlp_ratio=3.0, attention_bias=True),
    "sprint": lambda folder: sana(
        folder, SanaSprintPipeline, SCMScheduler(), dict(
            hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
            query_pre_attn_scalar=16, sliding_window=4096), SMALL,
        in_channels=8, out_channels=8, num_layers=2, num_attention_heads=6, attention_head_dim=8, num_cross_attention_heads=3,
        cross_attention_head_dim=16, sample_size=32, qk_norm="rms_norm_across_heads", guidance_embeds=True, guidance_embeds_scale=0.1),
    "sprint-bf16": lambda folder: sana(
        folder, SanaSprintPipeline, SCMScheduler(sigma_data=0.75), dict(
            hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1, head_dim=6,
            query_pre_attn_scalar=6, sliding_window=300), SMALL | dict(attention_head_dim=16, scaling_factor=1.3, encoder_qkv_multiscales=((), (), (), ())),
        torch.bfloat16, in_channels=4, out_channels=4, num_layers=4, num_attention_heads=2, attention_head_dim=16, num_cross_attention_heads=4,
        cross_attention_head_dim=8, sample_size=32, qk_norm="rms_norm_across_heads", guidance_embeds=True, guidance_embeds_scale=0.3),
}


def cases(folder):
    """All cases of one folder."""
    long = ("A very large photo of the old Cat in the rain, " * 30).strip(", ")
    usual = dict(sampler=None, guidance=4.5)
    if folder.startswith("sprint"):
        return [Case(steps=2, width=96, height=64, **usual), Case(steps=1, width=64, height=128, batch=2, **usual), Case(steps=4, batch=2, **usual),
                Case(steps=2, width=256, height=160, **usual), Case(steps=2, prompt=long, **usual), Case(steps=3, prompt="", **usual),
                Case(steps=2, **usual | dict(guidance=2.0))]
    return [Case(steps=20, width=96, height=64, **usual), Case(steps=5, width=64, height=128, batch=2, **usual),
            Case(steps=4, negative="Dark, blurry and so on " * 30, **usual), Case(steps=16, width=256, height=160, **usual),
            Case(steps=6, prompt=long, **usual), Case(steps=3, prompt=" (A Cat:1.3) [x:y:0.5] AND ü ", **usual), Case(steps=1, **usual),
            Case(steps=4, **usual | dict(guidance=1.0)), Case(steps=4, prompt="", batch=2, negative="x", **usual)]


def theirs(pipe, case):
    """What diffusers draws, as a dump."""
    sprint, path = isinstance(pipe, SanaSprintPipeline), []
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.published)

    def stepped(_pipe, step, _time, tensors):
        latents = tensors["latents"].clone()
        if sprint:
            # From the circle to the straight line.
            angle = pipe.scheduler.timesteps[step + 1]
            latents = latents / pipe.scheduler.config.sigma_data / (angle.sin() + angle.cos())
        path.append(latents)
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(case.batch)]
    words = dict(negative_prompt=[case.negative or ""] * case.batch) if not sprint else {}
    if sprint and case.steps != 2:
        words["intermediate_timesteps"] = None
    with torch.no_grad():
        image = pipe(prompt=[case.prompt] * case.batch, num_inference_steps=case.steps, width=case.width, height=case.height,
                     guidance_scale=case.guidance, output_type="pt", callback_on_step_end=stepped, use_resolution_binning=False,
                     generator=generators if case.batch > 1 else generators[0], **words).images.float()
        text, mask, *_ = pipe.encode_prompt(prompt=case.prompt, device="cpu", complex_human_instruction=INSTRUCTION,
                                            **{} if sprint else dict(do_classifier_free_guidance=False))
    times = pipe.scheduler.timesteps.float()
    if sprint:
        times = times[:-1]
        times = 1000 * times.sin() / (times.sin() + times.cos())
    return dict(path=path, image=image, timesteps=times, prompt_embeds=text[:, mask[0].bool()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "check"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--ondine", type=Path, help="the ondine binary")
    parser.add_argument("--only", help="one folder")
    parser.add_argument("--file", type=Path, help="a checkpoint in one file, of the folder's transformer")
    parser.add_argument("--part", metavar="NAME=FILE", help="a part in one file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    names = [arguments.only] if arguments.only else list(FOLDERS)
    if arguments.what == "make":
        with torch.no_grad():
            for name in names:
                FOLDERS[name](arguments.place / name)
        return
    print(f"     {'folder':12} {'case':58} {'times':>8} {'text':>8} {'path':>8} {'PSNR':>6}")
    results = []
    for name in names:
        pipe = flow.load(arguments.place / name)
        results += [check(arguments, arguments.place / name, pipe, case, theirs) for case in cases(name)]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
