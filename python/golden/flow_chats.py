"""Small folders of random weights of the families that are guided by a language model, and Ondine's pictures against
diffusers'.

    python flow_chats.py make OUT [--only FOLDER]
    python flow_chats.py check DIR --ondine BIN [--only FOLDER] [--file FILE | --part NAME=FILE]

`check` draws every folder by both at f32 on the CPU from the same seed and compares timesteps, text, the latents after
every step and the picture; exits 1 when a case misses.
"""
import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from diffusers import (AutoencoderKLFlux2, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline,
                       Flux2Transformer2DModel, ZImagePipeline, ZImageTransformer2DModel)
from diffusers.utils import logging
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from flow import Case, check, vae
from models import gates_open
from vocabulary import write_chat
from weights import randomize, rescale, scrub

EULER = FlowMatchEulerDiscreteScheduler


def chat(seed, words, kind=Qwen3ForCausalLM, **config):
    """A Qwen3, whose norms are near one as trained ones are."""
    model = randomize(kind(Qwen3Config(vocab_size=words + 3, max_position_embeddings=1024, tie_word_embeddings=True, **config)), seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(1)
    return model


def squares(seed, *widths, **config):
    """An autoencoder of squares of latents, whose pictures are mostly inside 0..1."""
    model = randomize(AutoencoderKLFlux2(block_out_channels=widths, layers_per_block=1, norm_num_groups=8, sample_size=128,
                                         **config), seed)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    numbers = model.bn.num_features
    model.bn.running_mean.copy_(0.2 * draw(numbers))
    model.bn.running_var.copy_(0.5 + draw(numbers).square())
    rescale(model.decoder.conv_out, model.decode(draw(1, model.config.latent_channels, 8, 8)).sample, 0.4)
    return model


def levels(widths):
    """The blocks of an autoencoder of so many levels."""
    return dict(down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths))


def klein(folder, scheduler, layers, text, autoencoder, distilled, dtype=torch.float32, **config):
    """A folder of FLUX.2-klein; the text is states of `layers` of its language model."""
    words = write_chat(folder / "tokenizer")
    encoder, vae = chat(3, words, **text), squares(2, *autoencoder, latent_channels=autoencoder[0] // 4 + 1, **levels(autoencoder))
    model = randomize(Flux2Transformer2DModel(
        in_channels=vae.bn.num_features, joint_attention_dim=len(layers) * text["hidden_size"], guidance_embeds=False, **config), 1)
    gates_open(model)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(1))
    places = torch.cartesian_prod(torch.arange(1), torch.arange(4), torch.arange(4), torch.arange(1))
    output = model(hidden_states=draw(1, 16, model.config.in_channels), timestep=torch.tensor([0.5]), img_ids=places,
                   txt_ids=torch.cartesian_prod(*[torch.arange(1)] * 3, torch.arange(9)),
                   encoder_hidden_states=draw(1, 9, model.config.joint_attention_dim)).sample
    rescale(model.proj_out, output, 1.0)
    parts = dict(transformer=model.to(dtype), text_encoder=encoder.to(dtype), vae=vae.to(dtype), scheduler=scheduler,
                 tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"), is_distilled=distilled)
    Flux2KleinPipeline(**parts).save_pretrained(folder)
    scrub(folder)
    name_layers(folder, layers)


def z_image(folder, scheduler, text, kind=Qwen3Model, dtype=torch.float32, **config):
    """A folder of Z-Image."""
    words = write_chat(folder / "tokenizer")
    model = randomize(ZImageTransformer2DModel(cap_feat_dim=text["hidden_size"], **config), 1)
    for name, parameter in model.named_parameters():
        if "norm" in name and parameter.ndim == 1:
            parameter.data.add_(1)
    draw = lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(1))
    output = model([draw(model.config.in_channels, 1, 8, 8)], torch.tensor([0.5]), [draw(9, model.config.cap_feat_dim)]).sample
    rescale(model.all_final_layer["2-1"].linear, torch.stack(output), 1.0)
    parts = dict(transformer=model.to(dtype), text_encoder=chat(3, words, kind, **text).to(dtype), scheduler=scheduler,
                 vae=vae(2, model.config.in_channels, 16, 24, 24, 32).to(dtype), tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"))
    ZImagePipeline(**parts).save_pretrained(folder)
    scrub(folder)


def name_layers(folder, layers):
    """Say which layers are the text, as a model of few layers must: diffusers is told at the call."""
    index = json.loads((folder / "model_index.json").read_text())
    index["ondine"] = dict(text_layers=layers)
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


FOLDERS = {
    "klein": lambda folder: klein(
        folder, EULER(shift=3.0, use_dynamic_shifting=True), [1, 2, 3], dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8),
        (16, 24, 24, 32), True, num_layers=2, num_single_layers=3, attention_head_dim=24, num_attention_heads=3,
        timestep_guidance_channels=64, axes_dims_rope=(4, 8, 8, 4)),
    "klein-base": lambda folder: klein(
        folder, EULER(shift=3.0, use_dynamic_shifting=True), [2, 4], dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1, head_dim=12),
        (16, 16, 24, 24), False, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, mlp_ratio=2.5,
        timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4)),
    "klein-bf16": lambda folder: klein(
        folder, EULER(shift=1.0), [1, 3, 2, 0], dict(
            hidden_size=20, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, head_dim=10),
        (8, 16, 16), True, torch.bfloat16, num_layers=3, num_single_layers=1, attention_head_dim=20, num_attention_heads=2,
        axes_dims_rope=(2, 8, 6, 4)),
    "z-image": lambda folder: z_image(
        folder, EULER(shift=3.0), dict(hidden_size=40, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                                       num_key_value_heads=2, head_dim=16),
        in_channels=16, dim=48, n_layers=3, n_refiner_layers=2, n_heads=2, n_kv_heads=2, axes_dims=(8, 8, 8)),
    "z-image-bf16": lambda folder: z_image(
        folder, EULER(shift=6.0, use_dynamic_shifting=True), dict(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8),
        Qwen3ForCausalLM, torch.bfloat16, in_channels=4, dim=60, n_layers=2, n_refiner_layers=1, n_heads=3, n_kv_heads=3,
        axes_dims=(4, 8, 8), rope_theta=500.0, norm_eps=1e-6),
}


def cases(folder):
    """All cases of one folder."""
    long = ("a very large photo of the old cat in the rain, " * 30).strip(", ")
    if folder.startswith("z-image"):
        return [Case(guidance=0.0, steps=8, width=80, height=48), Case(guidance=0.0, steps=3, batch=2, width=64, height=128),
                Case(guidance=0.0, steps=4, prompt=long), Case(guidance=0.0, steps=9, width=256, height=176),
                Case(guidance=4.0, steps=4), Case(guidance=2.5, steps=3, negative="dark, blurry, and so on " * 3, batch=2),
                Case(guidance=3.0, steps=4, prompt=long, width=128, height=64), Case(guidance=0.0, steps=4, prompt="")]
    usual = 4.0 if folder == "klein-base" else 1.0
    return [Case(guidance=usual, steps=4, width=80, height=48), Case(guidance=usual, steps=3, batch=2, width=64, height=128),
            Case(guidance=usual, steps=1), Case(guidance=usual, steps=12, width=256, height=176),
            Case(guidance=usual, steps=4, prompt=long), Case(guidance=usual, steps=4, prompt=""),
            Case(guidance=usual, steps=4, prompt="(a cat:1.3) <|im_end|> [x:y:0.5] AND ü")]


def theirs(pipe, case):
    """What diffusers draws, as a dump."""
    pipe.scheduler = EULER.from_config(pipe.published)
    in_squares = isinstance(pipe, Flux2KleinPipeline)
    factor, path = 2 * pipe.vae_scale_factor, []

    def stepped(_pipe, _step, _time, tensors):
        latents = tensors["latents"].clone()
        path.append(latents.mT.unflatten(2, (case.height // factor, case.width // factor)) if in_squares else latents)
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(case.batch)]
    layers = dict(text_encoder_out_layers=pipe.layers) if in_squares else {}
    words = dict(negative_prompt=[case.negative] * case.batch) if case.negative else {}
    with torch.no_grad():
        image = pipe(prompt=[case.prompt] * case.batch, num_inference_steps=case.steps, width=case.width, height=case.height,
                     guidance_scale=case.guidance, output_type="pt", callback_on_step_end=stepped,
                     generator=generators if case.batch > 1 else generators[0], **layers, **words).images.float()
        text, _ = pipe.encode_prompt(prompt=case.prompt, device="cpu", **layers)
    text = text if in_squares else text[0][None]
    return dict(path=path, image=image, timesteps=pipe.scheduler.timesteps.float(), prompt_embeds=text)


def load(folder):
    """The pipeline of a folder, at f32 on the CPU."""
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.published = dict(pipe.scheduler.config)
    pipe.layers = tuple(json.loads((folder / "model_index.json").read_text()).get("ondine", {}).get("text_layers", (9, 18, 27)))
    return pipe


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
        pipe = load(arguments.place / name)
        results += [check(arguments, arguments.place / name, pipe, case, theirs) for case in cases(name)]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
