"""Adapters of every kind and dialect, made of random numbers, drawn with by Ondine and by diffusers.

    python loras.py --ondine BIN --folder FOLDER [--only WORD] [--precision f32]

Each kind is merged here by its formula in PyTorch into the weights that diffusers draws with; Ondine gets base and file.
One case (peft) is loaded by diffusers itself.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from checkpoints import unet_name
from oracle import load, run
from parity import Case, psnr, relative

SCALE = 0.3


def modules(network):
    """The linear and convolution layers of a network by name."""
    return {name: module for name, module in network.named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and "norm" not in name}


def noise(generator, *shape):
    """Random numbers of a size that shows and does not drown the weights."""
    return torch.randn(shape, generator=generator) * SCALE


def lora(generator, weight, rank=4, alpha=2.0):
    """Two matrices, of a convolution with its kernel in the first."""
    out, inner = weight.shape[:2]
    down = noise(generator, rank, inner, *weight.shape[2:]) / inner ** 0.5
    up = noise(generator, out, rank, *[1] * (weight.dim() - 2))
    delta = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * alpha / rank
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(alpha)}, lambda w: w + delta


def locon(generator, weight, rank=4, alpha=1.0):
    """With a core where there is a kernel."""
    if weight.dim() < 4 or weight.shape[-1] == 1:
        return lora(generator, weight)
    out, inner = weight.shape[:2]
    down, up = noise(generator, rank, inner, 1, 1) / inner ** 0.5, noise(generator, out, rank, 1, 1)
    mid = noise(generator, rank, rank, *weight.shape[2:])
    delta = torch.einsum("op,pqhw,qi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0]) * alpha / rank
    return ({"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid, "alpha": torch.tensor(alpha)},
            lambda w: w + delta)


def loha(generator, weight, rank=3, alpha=1.5):
    """The elementwise product of two products."""
    out, inner = weight.shape[0], weight[0].numel()
    a1, b1, a2, b2 = (noise(generator, out, rank), noise(generator, rank, inner), noise(generator, out, rank), noise(generator, rank, inner))
    delta = ((a1 @ b1) * (a2 @ b2)).reshape(weight.shape) * alpha / rank
    return {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(alpha)}, lambda w: w + delta


def lokr(generator, weight, rank=2, alpha=1.0):
    """A Kronecker product, its second factor in two where it is a matrix."""
    out, inner = weight.shape[:2]
    small = next((factor for factor in (4, 3, 2) if out % factor == 0 and inner % factor == 0), 1)
    w1 = noise(generator, small, small)
    rest = (out // small, inner // small)
    if weight.dim() == 2:
        a, b = noise(generator, rest[0], rank), noise(generator, rank, rest[1])
        w2, parts, scale = a @ b, {"lokr_w2_a": a, "lokr_w2_b": b}, alpha / rank
    else:
        w2 = noise(generator, *rest, *weight.shape[2:])
        parts, scale = {"lokr_w2": w2}, 1.0
    first = w1.reshape(*w1.shape, *[1] * (weight.dim() - 2))
    delta = torch.kron(first, w2) * scale
    return {"lokr_w1": w1, "alpha": torch.tensor(alpha), **parts}, lambda w: w + delta


def dora(generator, weight):
    """A LoRA with the lengths of rows, or of columns as LyCORIS has them."""
    parts, merge = lora(generator, weight)
    shape = [1] * weight.dim()
    shape[0] = weight.shape[0]
    lengths = weight.flatten(1).norm(dim=1).reshape(shape) * (1 + 0.2 * torch.randn(shape, generator=generator))
    def merged(w):
        direction = merge(w)
        return lengths * direction / direction.flatten(1).norm(dim=1).reshape(shape)
    return parts | {"dora_scale": lengths}, merged


def dora_columns(generator, weight):
    """A LoRA with the lengths of columns."""
    parts, merge = lora(generator, weight)
    shape = [1] * weight.dim()
    shape[1] = weight.shape[1]
    norm = lambda w: w.transpose(0, 1).flatten(1).norm(dim=1).reshape(shape)
    lengths = norm(weight) * (1 + 0.2 * torch.randn(shape, generator=generator))
    def merged(w):
        direction = merge(w)
        return lengths * direction / norm(direction)
    return parts | {"dora_scale": lengths}, merged


def diff(generator, weight):
    """The difference itself."""
    delta = noise(generator, *weight.shape) / weight[0].numel() ** 0.5
    return {"diff": delta}, lambda w: w + delta


def kohya(part, name, pipe):
    """Names joined by lines, as of the trainers of kohya."""
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if "text_encoder_2" in pipe.components else "lora_te_",
              "text_encoder_2": "lora_te2_"}[part]
    if part != "unet" and not name.startswith("text_"):
        name = "text_model." + name
    return prefix + name.replace(".", "_")


def kohya_ldm(part, name, pipe):
    """The same, the U-Net in the names of the programs that trained Stable Diffusion."""
    if part != "unet":
        return kohya(part, name, pipe)
    state = pipe.unet.state_dict()
    levels = len(pipe.unet.config.block_out_channels)
    resnets = {(way, i): len(getattr(pipe.unet, f"{way}_blocks")[i].resnets) for way in ("down", "up") for i in range(levels)}
    number, count = {}, 1
    for i in range(levels):
        for j in range(resnets["down", i]):
            number["down", i, j], count = f"input_blocks.{count}", count + 1
        number["down", i, "end"], count = f"input_blocks.{count}", count + 1
    count = 0
    for i in range(levels):
        for j in range(resnets["up", i]):
            number["up", i, j], count = f"output_blocks.{count}", count + 1
    return "lora_unet_" + unet_name(name + ".weight", state, number, resnets).removesuffix(".weight").replace(".", "_")


def diffusers(part, name, pipe):
    """Names with dots."""
    if part != "unet" and not name.startswith("text_"):
        name = "text_model." + name
    return f"{part}.{name}"


RENAMED = {"peft": {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"},
           "peft named": {"lora_down.weight": "lora_A.default.weight", "lora_up.weight": "lora_B.default.weight",
                          "dora_scale": "lora_magnitude_vector.default.weight"},
           "old": {"lora_down.weight": "lora.down.weight", "lora_up.weight": "lora.up.weight"},
           "linear": {"lora_down.weight": "lora_linear_layer.down.weight", "lora_up.weight": "lora_linear_layer.up.weight"}}
KINDS = [("lora kohya", lora, kohya, {}, 1.0), ("lora kohya ldm names", lora, kohya_ldm, {}, 1.0),
         ("lora peft", lora, diffusers, RENAMED["peft"], 1.0), ("lora peft named", lora, diffusers, RENAMED["peft named"], 1.0),
         ("lora diffusers old", lora, diffusers, RENAMED["old"], 1.0), ("lora diffusers linear", lora, diffusers, RENAMED["linear"], 1.0),
         ("lora weight 0.6", lora, kohya, {}, 0.6), ("lora weight -1", lora, kohya, {}, -1.0),
         ("locon", locon, kohya, {}, 1.0), ("loha", loha, kohya, {}, 1.0), ("lokr", lokr, kohya, {}, 1.0), ("dora", dora, kohya, {}, 1.0),
         ("dora peft", dora, diffusers, RENAMED["peft named"], 1.0), ("dora columns", dora_columns, kohya, {}, 1.0),
         ("diff", diff, kohya, {}, 1.0)]


@torch.no_grad()
def make(pipe, kind, dialect, renamed, weight):
    """The tensors of an adapter for all networks that read or denoise; their weights are changed."""
    generator, state = torch.Generator().manual_seed(7), {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, part, None)
        if network is None:
            continue
        for i, (name, module) in enumerate(modules(network).items()):
            if part == "unet" and i % 3 or "time_emb" in name or "add_embedding" in name or "text_projection" in name:
                continue
            parts, merge = kind(generator, module.weight)
            for end, tensor in parts.items():
                state[f"{dialect(part, name, pipe)}.{renamed.get(end, end)}"] = tensor.contiguous().clone()
            changed = merge(module.weight)
            module.weight.copy_(module.weight + weight * (changed - module.weight))
    return state


def draw(arguments, case, words):
    """Ondine's dump and what it says of its adapters."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        line = [arguments.ondine, "draw", case.prompt, "--model", arguments.folder, "--sampler", case.sampler, "--steps", case.steps,
                "--seed", case.seed, "--guidance", case.guidance, "--width", case.width, "--height", case.height, "--json",
                "--precision", arguments.precision, "--dump", place / "dump.safetensors", "--output", place / "x.png", *words]
        done = subprocess.run([str(word) for word in line], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return load_file(place / "dump.safetensors"), json.loads(done.stdout)["adapters"]


def check(arguments, title, kind, dialect, renamed, weight):
    """One row of the table, and whether the case holds."""
    case = Case(str(arguments.folder), "euler", 6)
    pipe = load(arguments.folder)
    plain = run(pipe, case)["image"]
    state = make(pipe, kind, dialect, renamed, weight)
    theirs = run(pipe, case)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "adapter.safetensors"
        save_file(state, file)
        try:
            ours, (report,) = draw(arguments, case, ["--lora", f"{file}:{weight}"])
            last = max((name for name in ours if name.startswith("latents_")), key=lambda name: int(name[8:]))
            path, decibels = relative(ours[last], theirs[last]), psnr(ours["image"], theirs["image"])
            effect = psnr(plain, theirs["image"])
            good = decibels >= 55 and report["applied"] == report["total"] and not report["left_out"]
            figures = f"path {path:8.1e}  PSNR {decibels:6.1f} (without it {effect:5.1f})  applied {report['applied']} of {report['total']}"
        except (RuntimeError, ValueError) as error:
            good, figures = False, f"{type(error).__name__}: {error}"
    print(f"{'ok  ' if good else 'MISS'} {title:24} {figures}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--precision", default="f32")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = [check(arguments, *kind) for kind in KINDS if arguments.only in kind[0]]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
