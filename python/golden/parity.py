"""Compare Ondine's pictures with diffusers', step by step, on folders of random weights.

    python parity.py --ondine BIN --folders DIR [--only FOLDER] [--sampler NAME] [--quick]
    python parity.py --folders DIR --rehearse

Every folder is drawn with each sampler at f32 on the CPU from the same seed; further cases vary the size, batch,
negative prompt, guidance, schedule and noise. Compared are the text embeddings, the timesteps, the latents after
every step and the picture. Exits 1 when any case misses. With --rehearse diffusers is compared with itself in another
memory layout: the differences are what rounding alone does.
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
from PIL import Image
from safetensors.torch import load_file, save_file

from oracle import SAMPLERS, load, run

PROMPT = "a photo of a laughing cat in the rain"
EMBEDS, LATENTS, PSNR = 1e-4, 2e-3, 60.0
MAIN = ["ddim", "pndm", "euler", "euler-a", "dpm++-2m", "unipc"]
FEW = ["lcm", "tcd"]


@dataclass
class Case:
    """One drawing: what the command line says and what diffusers is told."""
    folder: str
    sampler: str
    steps: int = 20
    width: int = 96
    height: int = 64
    batch: int = 1
    guidance: float = 5.0
    negative: str | None = None
    karras: bool = False
    noise: bool = False
    seed: int = 1234
    prompt: str = PROMPT

    def title(self):
        """The case in a few words."""
        words = [self.sampler + ("/karras" if self.karras else ""), f"{self.steps} steps", f"{self.width}x{self.height}",
                 f"g {self.guidance:g}", f"batch {self.batch}" * (self.batch > 1),
                 "negative" * (self.negative is not None), "noise" * self.noise, repr(self.prompt) if self.prompt != PROMPT else ""]
        return ", ".join(word for word in words if word)

    def initial_noise(self):
        """The noise of a case that brings its own, as NCHW latents."""
        generator = torch.Generator().manual_seed(self.seed + 99)
        return torch.randn(self.batch, 4, self.height // 8, self.width // 8, generator=generator) if self.noise else None


def basic(folder):
    """Every sampler that the folder's kind of network is drawn with."""
    if folder.startswith("full"):  # large feature maps take other kernels; few steps show it
        return [Case(folder, "ddim", 2, width=512, height=512)]
    if folder == "lcm":
        return [Case(folder, "lcm", 4, guidance=8.5), Case(folder, "lcm", 4, batch=2, guidance=2.0),
                Case(folder, "lcm", 8, guidance=1.0, height=72, width=104)]
    names = ["ddim", "dpm++-2m", "unipc"] if folder == "sample" else MAIN  # the others know no `sample` prediction
    return [Case(folder, name) for name in names]


def more(folder):
    """Cases off the straight path, for the three families with the most differences."""
    cases = [Case(folder, "ddim", batch=2, negative="dark, blurry"), Case(folder, "euler-a", batch=2, negative="dark"),
             Case(folder, "euler", guidance=1.0), Case(folder, "ddim", 7, noise=True), Case(folder, "euler", 7, noise=True),
             Case(folder, "dpm++-2m", 10, width=104, height=72), Case(folder, "ddim", 10, width=72, height=136, batch=2),
             *(Case(folder, name, karras=True) for name in ("euler", "dpm++-2m", "unipc")),
             Case(folder, "dpm++-2m-sde"), Case(folder, "dpm++-2m-sde", batch=2), Case(folder, "heun", 10),
             *(Case(folder, name, 4) for name in FEW), Case(folder, "tcd", 4, batch=2),
             Case(folder, "pndm", 3), Case(folder, "unipc", 2), Case(folder, "dpm++-2m", 1), Case(folder, "euler", 1)]
    texts = ["", "CAT 123's  naïve\tcafé!!", "😀🐈 日本"]
    return cases + [Case(folder, "ddim", 2, prompt=text) for text in texts]


def cases(folder, quick):
    """All cases of one folder."""
    return basic(folder) + (more(folder) if folder in ("sd15", "sd21", "sdxl", "genmoji") and not quick else [])


def command(ondine, folder, case, place, file=None):
    """Ondine's command line for a case, its files under `place`; with that checkpoint in place of the folder."""
    model = [file, "--config", folder] if file else [folder]
    words = [ondine, "draw", case.prompt, "--model", *model, "--sampler", case.sampler, "--steps", case.steps,
             "--seed", case.seed, "--guidance", case.guidance, "--width", case.width, "--height", case.height,
             "--precision", "f32", "--dump", place / "dump.safetensors", "--output", place / "x.png"]
    if case.negative is not None:
        words += ["--negative", case.negative]
    if case.batch > 1:
        words += ["--batch", case.batch]
    if case.karras:
        words += ["--schedule", "karras"]
    if case.noise:
        save_file({"noise": case.initial_noise()}, place / "noise.safetensors")
        words += ["--noise", place / "noise.safetensors"]
    return [str(word) for word in words]


def draw(ondine, folder, case, file=None):
    """Run Ondine: its dump, and the picture file where there is one."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        done = subprocess.run(command(ondine, folder, case, place, file), capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
        dump = load_file(place / "dump.safetensors")
        if case.batch == 1:
            pixels = np.asarray(Image.open(place / "x.png").convert("RGB"))
            dump["png"] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
        return dump


def relative(ours, theirs):
    """The norm of the difference against the norm of the reference."""
    if ours.shape != theirs.shape:
        raise RuntimeError(f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()


def psnr(ours, theirs):
    """Peak signal to noise of two pictures in 0..1; equal ones count as 200 dB."""
    if ours.shape != theirs.shape:
        raise RuntimeError(f"picture {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
    error = (ours.double() - theirs.double()).square().mean().item()
    return -10 * np.log10(max(error, 1e-20))


def embeds(ours, theirs, name):
    """The largest difference of text embeddings; one row may stand for a whole batch, padding may follow."""
    if name not in theirs:
        return 0.0
    if name not in ours:
        raise RuntimeError(f"no `{name}` in the dump")
    left, right = ours[name][:, :theirs[name].shape[1]], theirs[name]
    if left.shape[0] == 1:
        left = left.expand_as(right)
    return (left - right).abs().max().item()


def compare(ours, theirs):
    """The figures of one case, and whether they hold."""
    names = [name for name in theirs if name.startswith("latents_")]
    if missing := [name for name in names if name not in ours]:
        raise RuntimeError(f"no `{missing[0]}` in the dump")
    if len(names) != sum(name.startswith("latents_") for name in ours):
        raise RuntimeError("the dump has more steps than expected")
    times = (ours["timesteps"].double().flatten() - theirs["timesteps"].double()).abs().max().item()
    text = max(embeds(ours, theirs, "prompt_embeds"), embeds(ours, theirs, "negative_embeds"))
    path = max(relative(ours[name], theirs[name]) for name in names)
    last = relative(ours[names[-1]], theirs[names[-1]])
    decibels = psnr(ours["image"], theirs["image"])
    drift = abs(ours["png"] - ours["image"]).max().item() if "png" in ours else 0.0
    # A timestep near 1000 has f32 steps of 6e-5, and Karras' come out of logarithms.
    good = times <= 1e-2 and text <= EMBEDS and path <= LATENTS and decibels >= PSNR and drift <= 1.01 / 255
    return f"{times:8.1e} {text:8.1e} {path:8.1e} {last:8.1e} {decibels:6.1f}", good


def check(case, folder, pipe, other):
    """One row of the table, and whether the case holds."""
    started = time.time()
    try:
        theirs = run(pipe, case)
        figures, good = compare(other(folder, case), theirs)
    except (RuntimeError, ValueError, KeyError, OSError, subprocess.TimeoutExpired) as error:
        figures, good = f"{type(error).__name__}: {error}", False
    print(f"{'ok  ' if good else 'MISS'} {case.folder:12} {case.title():48} {figures}  {time.time() - started:.1f} s", flush=True)
    return good


def twin(folder, case):
    """Diffusers against itself, channels last."""
    pipe = load(folder)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)
    return run(pipe, case)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    parser.add_argument("--ondine", type=Path, help="the ondine binary")
    parser.add_argument("--rehearse", action="store_true", help="compare diffusers with itself")
    parser.add_argument("--only", help="one folder")
    parser.add_argument("--sampler", choices=SAMPLERS)
    parser.add_argument("--file", type=Path, help="a checkpoint in one file, drawn with in place of the folder")
    parser.add_argument("--quick", action="store_true", help="leave out the cases off the straight path")
    arguments = parser.parse_args()
    if not arguments.rehearse and arguments.ondine is None:
        parser.error("--ondine or --rehearse is needed")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    other = twin if arguments.rehearse else lambda folder, case: draw(arguments.ondine.resolve(), folder, case, arguments.file)
    names = [arguments.only] if arguments.only else sorted(
        path.parent.name for path in arguments.folders.glob("*/model_index.json") if not path.parent.name.startswith("full"))
    print(f"     {'folder':12} {'case':48} {'times':>8} {'text':>8} {'path':>8} {'last':>8} {'PSNR':>6}")
    results = []
    for name in names:
        pipe = load(arguments.folders / name)
        results += [check(case, arguments.folders / name, pipe, other) for case in cases(name, arguments.quick)
                    if arguments.sampler in (None, case.sampler)]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
