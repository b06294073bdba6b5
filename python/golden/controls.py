"""ControlNets of random numbers, drawn with by Ondine and by diffusers' pipelines.

    python controls.py --ondine BIN --folders DIR [--only WORD]

Each is a copy of a folder's U-Net with random convolutions behind it, saved as diffusers saves it, as one file in those names, and in
the names of the program that trained the first ones.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import (ControlNetModel, MultiControlNetModel, StableDiffusionControlNetImg2ImgPipeline, StableDiffusionControlNetInpaintPipeline,
                       StableDiffusionControlNetPipeline, StableDiffusionXLControlNetImg2ImgPipeline, StableDiffusionXLControlNetPipeline)
from PIL import Image
from safetensors.torch import load_file, save_file

from checkpoints import unet_name
from edits import PROMPT, mask, picture
from oracle import SAMPLERS, load
from parity import psnr, relative

CASES = [
    dict(name="folder"), dict(name="one file", form="file"), dict(name="names of the trainer", form="ldm", only="sd15"),
    dict(name="weak, from 0.2 to 0.7", scale=0.45, start=0.2, end=0.7), dict(name="late", start=0.5), dict(name="two", two=True, scale=0.8),
    dict(name="no guidance", guidance=1.0), dict(name="second order", sampler="heun", steps=6), dict(name="odd size", width=104, height=72),
    dict(name="two pictures", batch=2), dict(name="bgr, other embedding", bgr=True), dict(name="img2img", strength=0.6),
    dict(name="img2img, two, early", strength=0.7, two=True, end=0.5), dict(name="inpaint", strength=0.9, mask=True, only="sd15"),
]


def network(unet, seed, **options):
    """A copy of a U-Net's way down, whose convolutions at the end are not zero."""
    net = ControlNetModel.from_unet(unet, **options)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
            width = parameter[0].numel() if parameter.dim() > 1 else parameter.numel()
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5 / width ** 0.5
    return net.eval()


def hint(width, height, seed):
    """A picture of lines."""
    y, x = np.mgrid[0:height, 0:width]
    lines = (((x + seed * y) // 7 % 3 == 0) * 255).astype(np.uint8)
    return Image.fromarray(np.stack([lines, lines // 2, 255 - lines], -1))


def ldm(net):
    """The names of the program that trained the first ones."""
    state = net.state_dict()
    levels = len(net.config.block_out_channels)
    number, count = {}, 1
    resnets = {("down", i): len(net.down_blocks[i].resnets) for i in range(levels)}
    for i in range(levels):
        for j in range(resnets["down", i]):
            number["down", i, j], count = f"input_blocks.{count}", count + 1
        number["down", i, "end"], count = f"input_blocks.{count}", count + 1
    last = len(net.controlnet_cond_embedding.blocks) + 1
    def name(old):
        parts = old.split(".")
        if parts[0] == "controlnet_down_blocks":
            return f"zero_convs.{parts[1]}.0.{parts[2]}"
        if parts[0] == "controlnet_mid_block":
            return f"middle_block_out.0.{parts[1]}"
        if parts[0] == "controlnet_cond_embedding":
            place = {"conv_in": 0, "conv_out": last}.get(parts[1])
            place = 1 + int(parts[2]) if place is None else place
            return f"input_hint_block.{2 * place}.{parts[-1]}"
        return unet_name(old, state, number, resnets)
    return {f"control_model.{name(old)}": tensor for old, tensor in state.items()}


def saved(net, form, place, i):
    """Where the network was saved."""
    if form == "folder":
        net.save_pretrained(place / f"net{i}")
        return place / f"net{i}"
    save_file({name: tensor.contiguous() for name, tensor in (ldm(net) if form == "ldm" else net.state_dict()).items()}, place / f"net{i}.safetensors")
    return place / f"net{i}.safetensors"


def theirs(pipe, case, nets, hints):
    """The picture of diffusers and the latents after each step."""
    xl = "XL" in type(pipe).__name__
    init = case.get("strength") is not None
    form = (StableDiffusionXLControlNetImg2ImgPipeline if init else StableDiffusionXLControlNetPipeline) if xl else (
        StableDiffusionControlNetInpaintPipeline if case.get("mask") else StableDiffusionControlNetImg2ImgPipeline if init
        else StableDiffusionControlNetPipeline)
    parts = {name: part for name, part in pipe.components.items() if name not in ("image_encoder", "feature_extractor", "safety_checker")}
    control = nets[0] if len(nets) == 1 else MultiControlNetModel(nets)
    if xl:
        made = form(**parts, controlnet=control, force_zeros_for_empty_prompt=pipe.config["force_zeros_for_empty_prompt"])
    else:
        made = form(**parts, controlnet=control, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    kind, extra = SAMPLERS[case["sampler"]]
    made.scheduler = kind.from_config(pipe.published, **extra)
    made.set_progress_bar_config(disable=True)
    path, batch = [], case["batch"]

    def stepped(_pipe, _step, _time, tensors):
        path.append(tensors["latents"].clone())
        return {}

    one = len(nets) == 1
    generators = [torch.Generator().manual_seed(1234 + i) for i in range(batch)]
    hints = [[hint] * batch for hint in hints] if batch > 1 else hints
    words = dict(prompt=[PROMPT] * batch, guidance_scale=case["guidance"], num_inference_steps=case["steps"], output_type="pt",
                 generator=generators if batch > 1 else generators[0], callback_on_step_end=stepped,
                 controlnet_conditioning_scale=case["scale"] if one else [case["scale"]] * len(nets),
                 control_guidance_start=case["start"], control_guidance_end=case["end"])
    if init:
        words |= dict(image=picture(case["width"], case["height"]), control_image=hints[0] if one else hints, strength=case["strength"])
        words |= dict(width=case["width"], height=case["height"])
        if case.get("mask"):
            words |= dict(mask_image=mask(case["width"], case["height"]))
    else:
        words |= dict(image=hints[0] if one else hints, width=case["width"], height=case["height"])
    with torch.no_grad():
        return path, made(**words).images.float()


def ours(arguments, folder, case, nets, hints, place):
    """The dump of Ondine's drawing."""
    words = [arguments.ondine, "draw", PROMPT, "--model", folder, "--sampler", case["sampler"], "--steps", case["steps"], "--seed", 1234,
             "--guidance", case["guidance"], "--precision", "f32", "--batch", case["batch"], "--width", case["width"], "--height", case["height"],
             "--dump", place / "dump.safetensors", "--output", place / "x.png", "--quiet"]
    for i, (net, lines) in enumerate(zip(nets, hints)):
        lines.save(place / f"hint{i}.png")
        words += ["--control", f"{net},{place / f'hint{i}.png'},scale={case['scale']},start={case['start']},end={case['end']}"]
    if case.get("strength") is not None:
        picture(case["width"], case["height"]).save(place / "init.png")
        words += ["--init", place / "init.png", "--strength", case["strength"]]
    if case.get("mask"):
        mask(case["width"], case["height"]).save(place / "mask.png")
        words += ["--mask", place / "mask.png"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return load_file(place / "dump.safetensors")


def check(arguments, folder, case):
    """One row of the table, and whether the case holds."""
    case = dict(dict(sampler="euler", steps=8, width=96, height=64, batch=1, guidance=5.0, scale=1.0, start=0.0, end=1.0, form="folder"), **case)
    pipe = load(folder)
    options = dict(controlnet_conditioning_channel_order="bgr", conditioning_embedding_out_channels=(8, 24, 16, 40)) if case.get("bgr") else {}
    nets = [network(pipe.unet, 5 + i, **options) for i in range(2 if case.get("two") else 1)]
    hints = [hint(case["width"], case["height"], 1 + i) for i in range(len(nets))]
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        files = [saved(net, case["form"], place, i) for i, net in enumerate(nets)]
        try:
            path, image = theirs(pipe, case, nets, hints)
            dump = ours(arguments, folder, case, files, hints, place)
            without = ours(arguments, folder, case, [], [], place)
            names = sorted((name for name in dump if name.startswith("latents_")), key=lambda name: int(name[8:]))
            if len(names) != len(path) + 1:
                raise RuntimeError(f"{len(names) - 1} steps, expected {len(path)}")
            worst = max(relative(dump[name], other) for name, other in zip(names[1:], path))
            if case.get("mask"):
                inside = torch.from_numpy(np.asarray(mask(case["width"], case["height"])).copy() > 0)
                image = torch.where(inside, image, dump["image"])
            decibels, effect = psnr(dump["image"], image), psnr(dump["image"], without["image"])
            good = worst <= 2e-3 and decibels >= 55 and effect < 50
            figures = f"path {worst:8.1e}  PSNR {decibels:6.1f} (without it {effect:5.1f})"
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            good, figures = False, f"{type(error).__name__}: {error}"
    print(f"{'ok  ' if good else 'MISS'} {folder.name:12} {case['name']:24} {figures}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for name in ("sd15", "sdxl", "sdxl-uneven"):
        for case in CASES:
            few = name == "sdxl-uneven" and case["name"] not in ("folder", "one file", "img2img")
            if arguments.only in f"{name} {case['name']}" and case.get("only", name) == name and not few:
                results.append(check(arguments, arguments.folders / name, case))
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
