"""Compare Ondine's image to image and inpainting with diffusers', on folders of random weights.

    python edits.py --ondine BIN --folder FOLDER [--file CHECKPOINT] [--lora FILE] [--only WORD]

Compared are the latents after every step, and the picture before what the mask leaves out is put back. With --file
Ondine draws with that checkpoint, made of the folder by checkpoints.py; with --lora both draw with that adapter.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline,
                       StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline)
from PIL import Image
from safetensors.torch import load_file

from oracle import SAMPLERS, load
from parity import psnr, relative

PROMPT = "a photo of a laughing cat in the rain"


def picture(width, height):
    """A picture with gradients and edges."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 255 // max(width - 1, 1)), (y * 255 // max(height - 1, 1)), ((x // 8 + y // 8) % 2) * 200]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def mask(width, height):
    """A hard mask off the grid of the latents."""
    values = np.zeros((height, width), np.uint8)
    values[height // 4:3 * height // 4 + 3, width // 3:width // 3 + width // 2 + 1] = 255
    return Image.fromarray(values)


CASES = [
    dict(name="img2img ddim", sampler="ddim", strength=0.6),
    dict(name="img2img euler", sampler="euler", strength=0.8),
    dict(name="img2img euler-a", sampler="euler-a", strength=0.5),
    dict(name="img2img dpm++-2m", sampler="dpm++-2m", strength=0.7),
    dict(name="img2img heun", sampler="heun", strength=0.5, steps=8),
    dict(name="img2img pndm", sampler="pndm", strength=0.75),
    dict(name="img2img strength 1", sampler="ddim", strength=1.0, steps=6),
    dict(name="img2img batch", sampler="euler", strength=0.6, batch=2),
    dict(name="inpaint ddim", sampler="ddim", strength=1.0, mask=True),
    dict(name="inpaint euler 0.6", sampler="euler", strength=0.6, mask=True),
    dict(name="inpaint euler-a", sampler="euler-a", strength=0.7, mask=True),
    dict(name="inpaint dpm++-2m", sampler="dpm++-2m", strength=1.0, mask=True, width=104, height=72),
]


def theirs(pipe, case):
    """The latents of every step and the picture that diffusers draws."""
    xl = "XL" in type(pipe).__name__
    kinds = {(False, False): StableDiffusionImg2ImgPipeline, (False, True): StableDiffusionInpaintPipeline,
             (True, False): StableDiffusionXLImg2ImgPipeline, (True, True): StableDiffusionXLInpaintPipeline}
    kind, extra = SAMPLERS[case["sampler"]]
    channels = pipe.unet.config.in_channels
    form = StableDiffusionInstructPix2PixPipeline if channels == 8 else kinds[xl, bool(case.get("mask"))]
    parts = {name: part for name, part in pipe.components.items() if name not in ("image_encoder", "feature_extractor", "safety_checker")}
    if xl:
        options = dict(force_zeros_for_empty_prompt=pipe.config["force_zeros_for_empty_prompt"])
        if not case.get("mask"):
            options["requires_aesthetics_score"] = pipe.config.get("requires_aesthetics_score", False)
        edit = form(**parts, **options)
    else:
        edit = form(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    edit.scheduler = kind.from_config(pipe.published, **extra)
    edit.set_progress_bar_config(disable=True)
    batch, path = case.get("batch", 1), []

    def stepped(_pipe, _step, _time, tensors):
        path.append(tensors["latents"].clone())
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(batch)]
    words = dict(prompt=[PROMPT] * batch, image=picture(case["width"], case["height"]), guidance_scale=5.0,
                 num_inference_steps=case["steps"], generator=generators if batch > 1 else generators[0], output_type="pt",
                 callback_on_step_end=stepped)
    if channels != 8:
        words["strength"] = case["strength"]
    if case.get("mask"):
        words |= dict(mask_image=mask(case["width"], case["height"]), width=case["width"], height=case["height"])
    with torch.no_grad():
        return path, edit(**words).images.float()


def ours(arguments, case):
    """The dump of Ondine's drawing."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        picture(case["width"], case["height"]).save(place / "init.png")
        words = [arguments.ondine, "draw", PROMPT, "--model", arguments.file or arguments.folder, "--sampler", case["sampler"],
                 "--steps", case["steps"], "--seed", 1234, "--guidance", 5, "--precision", "f32", "--init", place / "init.png",
                 "--batch", case.get("batch", 1), "--dump", place / "dump.safetensors", "--output", place / "x.png", "--quiet",
                 "--width", case["width"], "--height", case["height"]]
        if case.get("strength") is not None:
            words += ["--strength", case["strength"]]
        if arguments.file:
            words += ["--config", arguments.folder]
        if arguments.lora:
            words += ["--lora", arguments.lora]
        if case.get("mask"):
            mask(case["width"], case["height"]).save(place / "mask.png")
            words += ["--mask", place / "mask.png"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        dump = load_file(place / "dump.safetensors")
        if case.get("mask"):
            before = np.asarray(picture(case["width"], case["height"]))
            after = np.asarray(Image.open(place / "x.png").convert("RGB"))
            outside = np.asarray(mask(case["width"], case["height"])) == 0
            if not (before[outside] == after[outside]).all():
                raise RuntimeError("pixels outside the mask changed")
        return dump


def check(arguments, pipe, case):
    """One row of the table, and whether the case holds."""
    case = dict(dict(steps=10, width=96, height=64), **case)
    try:
        path, image = theirs(pipe, case)
        dump = ours(arguments, case)
        names = sorted((name for name in dump if name.startswith("latents_")), key=lambda name: int(name[8:]))
        if len(names) != len(path) + 1:
            raise RuntimeError(f"{len(names) - 1} steps, expected {len(path)}")
        worst = max(relative(dump[name], other) for name, other in zip(names[1:], path))
        if case.get("mask"):
            inside = torch.from_numpy(np.asarray(mask(case["width"], case["height"])).copy() > 0)
            image = torch.where(inside, image, dump["image"])
        decibels = psnr(dump["image"], image)
        good, figures = worst <= 2e-3 and decibels >= 55, f"path {worst:8.1e}  PSNR {decibels:6.1f}"
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        good, figures = False, f"{type(error).__name__}: {error}"
    print(f"{'ok  ' if good else 'MISS'} {case['name']:24} {figures}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pipe = load(arguments.folder)
    if arguments.lora:
        pipe.load_lora_weights(str(arguments.lora))
    cases = [case for case in CASES if arguments.only in case["name"]]
    if pipe.unet.config.in_channels == 9:
        cases = [case for case in cases if case.get("mask")]
    if pipe.unet.config.in_channels == 8:
        cases = [dict(name="instruct", sampler="euler"), dict(name="instruct ddim", sampler="ddim")]
    results = [check(arguments, pipe, case) for case in cases]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
