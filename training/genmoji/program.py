"""Drawing: by the networks in PyTorch, or by the finished program, which is what its users get.

Every measuring script takes the options that `add_options` adds.
"""

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusion import draw_all, load_networks
from PIL import Image
from text import TextEncoder


def add_options(p):
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--guidance", type=float, default=2.0)
    p.add_argument("--device", default="cpu")
    p.add_argument("--program", type=Path, help="draw with this `ondine` instead of PyTorch")
    p.add_argument("--precision", default="bf16", help="of the program")
    p.add_argument("--kept", type=Path, help="folder where the program's drawings stay and are found again")


class Artist:
    """Draws prompts as the options say: picture n of a chunk has seed + n, or all have `seed`."""

    def __init__(self, a):
        self.a = a
        if a.program is None:
            self.networks, self.encoder = load_networks(a.model, a.device), TextEncoder(a.model / "text_encoder", a.device)

    def __call__(self, prompts, seed=42, chunk=64):
        a = self.a
        if a.program is None:
            return draw_all(*self.networks, self.encoder, prompts, chunk, steps=a.steps, guidance=a.guidance, seed=seed)
        a.kept.mkdir(parents=True, exist_ok=True)
        seeds = [seed + n % chunk for n in range(len(prompts))]
        with ThreadPoolExecutor(2) as pool:
            return torch.stack(list(pool.map(self.one, prompts, seeds)))

    def one(self, prompt, seed):
        a = self.a
        told = f"{prompt}|{seed}|{a.steps}|{a.guidance}|{a.precision}|{a.model}"
        file = a.kept / f"{hashlib.sha1(told.encode()).hexdigest()[:20]}.png"
        if not file.exists():
            options = {"model": a.model, "seed": seed, "steps": a.steps, "guidance": a.guidance, "precision": a.precision, "threads": 1, "upscale": "none", "output": file}
            words = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
            subprocess.run([a.program, "draw", prompt, "--quiet", *words], check=True)
        with Image.open(file) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255
