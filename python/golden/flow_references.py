"""Pictures that are looked at or filled in by models of rectified flow: Ondine against diffusers.

    python flow_references.py make OUT --bpe bpe_simple_vocab_16e6.txt.gz
    python flow_references.py check DIR --ondine BIN [--only FOLDER]

DIR holds the folders `kontext` and `fill` that `make` writes, and `klein` and `klein-base` of flow_chats.py.
"""
import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import Flux2KleinPipeline, FluxFillPipeline, FluxKontextPipeline
from diffusers.utils import logging
from safetensors.torch import load_file

import flow_chats
from edits import mask, picture
from flow import EULER, PROMPT, flux
from models import unpack
from parity import psnr, relative

FOLDERS = {
    "kontext": lambda folder, bpe: flux(
        folder, bpe, EULER(shift=3.0, use_dynamic_shifting=True), (40, 48), kind=FluxKontextPipeline, in_channels=32, num_layers=1,
        num_single_layers=2, attention_head_dim=16, num_attention_heads=2, guidance_embeds=True, axes_dims_rope=(4, 6, 6)),
    "fill": lambda folder, bpe: flux(
        folder, bpe, EULER(shift=3.0, use_dynamic_shifting=True), (32, 40), kind=FluxFillPipeline, in_channels=4 * (8 + 8 + 64),
        out_channels=32, num_layers=2, num_single_layers=2, attention_head_dim=24, num_attention_heads=2, guidance_embeds=True,
        axes_dims_rope=(8, 8, 8)),
}


@dataclass
class Case:
    """One drawing; `references` are the sizes of the pictures that it looks at."""
    width: int
    height: int
    references: tuple = ()
    steps: int = 4
    batch: int = 1
    guidance: float = 1.0
    strength: float | None = None

    def title(self):
        """The case in a few words."""
        looked_at = " ".join(f"{width}x{height}" for width, height in self.references)
        return f"{self.width}x{self.height}, looks at [{looked_at}], {self.steps} steps, g {self.guidance}, batch {self.batch}, strength {self.strength}"


CASES = {
    "klein": [Case(64, 96, ((80, 64),)), Case(48, 80, ((64, 64), (96, 64)), batch=2), Case(112, 80, ((112, 80),), steps=2)],
    "klein-base": [Case(64, 48, ((64, 80),), guidance=4.0), Case(80, 48, ((64, 64), (64, 80), (96, 64), (80, 80)), guidance=3.0, batch=2)],
    "kontext": [Case(96, 64, ((1024, 1024),), guidance=2.5), Case(80, 112, ((832, 1248),), guidance=3.5, batch=2, steps=2),
                Case(64, 64, (), guidance=3.5)],
    "fill": [Case(96, 64, strength=1.0, guidance=30.0), Case(80, 112, strength=1.0, guidance=4.0, batch=2, steps=6),
             Case(128, 80, strength=0.6, guidance=30.0, steps=5)],
}


def seen(width, height, i):
    """A picture to look at, each another."""
    return picture(width, height).rotate(180 * (i % 2))


def theirs(pipe, case):
    """The latents of every step and the picture that diffusers draws."""
    pipe.scheduler = EULER.from_config(pipe.published)
    in_squares, path = isinstance(pipe, Flux2KleinPipeline), []
    factor = pipe.vae_scale_factor * (2 if in_squares else 1)
    height, width = case.height // factor, case.width // factor

    def stepped(_pipe, _step, _time, tensors):
        latents = tensors["latents"].clone()
        path.append(latents.mT.unflatten(2, (height, width)) if in_squares else unpack(latents, height, width))
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(case.batch)]
    words = dict(prompt=[PROMPT] * case.batch, num_inference_steps=case.steps, width=case.width, height=case.height,
                 guidance_scale=case.guidance, output_type="pt", callback_on_step_end=stepped,
                 generator=generators if case.batch > 1 else generators[0])
    pictures = [seen(*size, i) for i, size in enumerate(case.references)]
    if in_squares:
        words |= dict(image=pictures, text_encoder_out_layers=pipe.layers)
    elif isinstance(pipe, FluxKontextPipeline):
        words |= dict(image=pictures[0] if pictures else None, max_area=case.width * case.height)
    else:
        words |= dict(image=[picture(case.width, case.height)] * case.batch, mask_image=[mask(case.width, case.height)] * case.batch,
                      strength=case.strength)
    with torch.no_grad():
        image = pipe(**words).images.float()
    if case.strength is not None:
        # What the mask leaves out stays to the bit here.
        own = torch.from_numpy(np.array(picture(case.width, case.height))).permute(2, 0, 1)[None] / 255.0
        image = torch.where(torch.from_numpy(np.array(mask(case.width, case.height)))[None, None] >= 128, image, own)
    return path, image


def ours(arguments, folder, case):
    """The dump of Ondine's drawing."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        words = [arguments.ondine.resolve(), "draw", PROMPT, "--model", folder, "--steps", case.steps, "--seed", 1234, "--width",
                 case.width, "--height", case.height, "--precision", "f32", "--dump", place / "dump.safetensors", "--output",
                 place / "x.png", "--quiet", "--guidance", case.guidance, "--batch", case.batch]
        for i, size in enumerate(case.references):
            seen(*size, i).save(place / f"{i}.png")
            words += ["--reference", place / f"{i}.png"]
        if case.strength is not None:
            picture(case.width, case.height).save(place / "init.png")
            mask(case.width, case.height).save(place / "mask.png")
            words += ["--init", place / "init.png", "--mask", place / "mask.png", "--strength", case.strength]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
        return load_file(place / "dump.safetensors")


def check(arguments, folder, pipe, case):
    """One row of the table, and whether the case holds."""
    started = time.time()
    try:
        (trail, image), dump = theirs(pipe, case), ours(arguments, folder, case)
        names = sorted((name for name in dump if name.startswith("latents_")), key=lambda name: int(name[8:]))[1:]
        if len(names) != len(trail):
            raise RuntimeError(f"{len(names)} steps, expected {len(trail)}")
        path = max(relative(dump[name], latents) for name, latents in zip(names, trail))
        decibels = psnr(dump["image"], image)
        good, figures = path <= 2e-3 and decibels >= 55, f"{path:8.1e} {decibels:6.1f}"
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, subprocess.TimeoutExpired) as error:
        figures, good = f"{type(error).__name__}: {error}", False
    print(f"{'ok  ' if good else 'MISS'} {folder.name:10} {case.title():90} {figures}  {time.time() - started:.1f} s", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "check"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--bpe", type=Path, help="CLIP's published merges, gzipped")
    parser.add_argument("--ondine", type=Path, help="the ondine binary")
    parser.add_argument("--only", choices=CASES, help="one folder")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    if arguments.what == "make":
        with torch.no_grad():
            for name, make in FOLDERS.items():
                make(arguments.place / name, arguments.bpe)
        return
    results = []
    for name in [arguments.only] if arguments.only else CASES:
        pipe = flow_chats.load(arguments.place / name)
        results += [check(arguments, arguments.place / name, pipe, case) for case in CASES[name]]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
