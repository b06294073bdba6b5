"""Compare `ondine upscale` with PyTorch (spandrel's networks), on random networks of every dialect and on real weights.

    python upscaling.py --ondine BIN [--weights FILE.safetensors ...]
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from spandrel import ModelLoader

from parity import psnr


def leaky(x):
    """The activation of ESRGAN."""
    return torch.nn.functional.leaky_relu(x, 0.2)


def dense(state, x):
    """RRDBNet by its tensors in BasicSR's names."""
    conv = lambda name, x: torch.nn.functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
    by = int((state["conv_first.weight"].shape[1] // state["conv_last.weight"].shape[0]) ** 0.5)
    x = torch.nn.functional.pixel_unshuffle(x, by) if by > 1 else x
    first = x = conv("conv_first", x)
    for i in range(sum(name.endswith("rdb1.conv1.weight") for name in state)):
        h = x
        for j in (1, 2, 3):
            parts = [h]
            for k in range(1, 5):
                parts.append(leaky(conv(f"body.{i}.rdb{j}.conv{k}", torch.cat(parts, 1))))
            h = conv(f"body.{i}.rdb{j}.conv5", torch.cat(parts, 1)) * 0.2 + h
        x = h * 0.2 + x
    x = first + conv("conv_body", x)
    for i in range(1, 9):
        if f"conv_up{i}.weight" in state:
            x = leaky(conv(f"conv_up{i}", torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")))
    return conv("conv_last", leaky(conv("conv_hr", x)))


def compact(state, x):
    """SRVGGNetCompact by its tensors."""
    count = 1 + max(int(name.split(".")[1]) for name in state)
    scale = int((state[f"body.{count - 1}.weight"].shape[0] // 3) ** 0.5)
    h = x
    for i in range(count):
        weight = state[f"body.{i}.weight"]
        h = torch.nn.functional.prelu(h, weight) if weight.dim() == 1 else torch.nn.functional.conv2d(h, weight, state[f"body.{i}.bias"], padding=1)
    return torch.nn.functional.pixel_shuffle(h, scale) + torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")


def random_dense(blocks, features, grow, scale, seed=1):
    """A random RRDBNet."""
    generator, state = torch.Generator().manual_seed(seed), {}
    by = {1: 4, 2: 2}.get(scale, 1)
    def add(name, out, inner):
        state[f"{name}.weight"] = torch.randn(out, inner, 3, 3, generator=generator) * (0.7 / (inner * 9) ** 0.5)
        state[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.05
    add("conv_first", features, 3 * by * by)
    for i in range(blocks):
        for j in (1, 2, 3):
            for k in range(1, 5):
                add(f"body.{i}.rdb{j}.conv{k}", grow, features + (k - 1) * grow)
            add(f"body.{i}.rdb{j}.conv5", features, features + 4 * grow)
    add("conv_body", features, features)
    for i in range(1, int(np.log2(scale * by)) + 1):
        add(f"conv_up{i}", features, features)
    add("conv_hr", features, features)
    add("conv_last", 3, features)
    state["conv_last.weight"] *= 0.5
    state["conv_last.bias"] += 0.5
    return state


def first_names(state):
    """The numbered names of the first ESRGAN."""
    blocks = sum(name.endswith("rdb1.conv1.weight") for name in state)
    ups = sum(name.startswith("conv_up") and name.endswith("weight") for name in state)
    table = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}", "conv_hr": f"model.{2 + 3 * ups}", "conv_last": f"model.{4 + 3 * ups}"}
    table |= {f"conv_up{i + 1}": f"model.{3 + 3 * i}" for i in range(ups)}
    def name(old):
        stem, end = old.rsplit(".", 1)
        if stem.startswith("body."):
            _, i, block, conv = stem.split(".")
            return f"model.1.sub.{i}.{block.upper()}.{conv}.0.{end}"
        return f"{table[stem]}.{end}"
    return {name(old): tensor for old, tensor in state.items()}


def random_compact(features, layers, scale):
    """A random SRVGGNetCompact."""
    generator, state = torch.Generator().manual_seed(3), {}
    for i in range(layers + 2):
        out, inner = (3 * scale * scale if i == layers + 1 else features), (3 if i == 0 else features)
        state[f"body.{2 * i}.weight"] = torch.randn(out, inner, 3, 3, generator=generator) * (0.5 / (inner * 9) ** 0.5)
        state[f"body.{2 * i}.bias"] = torch.randn(out, generator=generator) * 0.05
        if i <= layers:
            state[f"body.{2 * i + 1}.weight"] = torch.rand(features, generator=generator)
    return state


def picture(width, height):
    """A picture with edges and gradients."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 120 * np.sin(x / 5.0), 127 + 120 * np.cos(y / 7.0 + x / 11.0), ((x // 6 + y // 9) % 2) * 200 + 20]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def check(arguments, title, file, network, size, tile, floor):
    """One row of the table, and whether the case holds."""
    pixels = picture(*size)
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        place = Path(place)
        Image.fromarray(pixels).save(place / "in.png")
        theirs = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).clamp(0, 1)
        done = subprocess.run([arguments.ondine, "upscale", place / "in.png", "--model", file, "--output", place / "out.png", "--quiet",
                               "--tile", str(tile)], capture_output=True, text=True, timeout=900)
        if done.returncode:
            print(f"MISS {title:32} {done.stderr.strip()}")
            return False
        ours = torch.from_numpy(np.asarray(Image.open(place / "out.png")).copy()).permute(2, 0, 1)[None].float() / 255
        decibels = psnr(ours, (theirs * 255).round() / 255)
    print(f"{'ok  ' if decibels >= floor else 'MISS'} {title:32} {size[0]}x{size[1]} -> {ours.shape[3]}x{ours.shape[2]}, tiles of {tile}: {decibels:.1f} dB", flush=True)
    return decibels >= floor


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for scale, blocks, features, grow in ((4, 2, 32, 32), (2, 1, 24, 32), (1, 1, 16, 8), (8, 1, 16, 8)):
            state = random_dense(blocks, features, grow, scale)
            run = lambda x, state=state: dense(state, x)
            save_file(state, place / "basicsr.safetensors")
            torch.save(dict(params_ema=state), place / "basicsr.pth")
            save_file(first_names(state), place / "first.safetensors")
            probe = torch.rand(1, 3, 16, 16)
            if grow == 32:  # the only width that spandrel knows
                theirs = ModelLoader().load_from_file(str(place / "basicsr.pth")).model
                with torch.no_grad():
                    assert psnr(theirs(probe), dense(state, probe)) > 90, "the formula here is spandrel's"
            for file in ("basicsr.safetensors", "basicsr.pth", "first.safetensors"):
                results.append(check(arguments, f"RRDBNet x{scale} {file}", place / file, run, (40, 28), 512, 55))
            if scale in (2, 4):
                results.append(check(arguments, f"RRDBNet x{scale} in tiles", place / file, run, (150, 98), 96, 45))
        for scale, features, layers in ((4, 16, 3), (2, 24, 2), (3, 16, 1)):
            state = random_compact(features, layers, scale)
            save_file(state, place / "compact.safetensors")
            theirs = ModelLoader().load_from_file(str(place / "compact.safetensors")).model
            with torch.no_grad():
                assert psnr(theirs(probe), compact(state, probe)) > 90, "the formula here is spandrel's"
            results.append(check(arguments, f"SRVGGNetCompact x{scale}", place / "compact.safetensors", lambda x: compact(state, x), (37, 29), 512, 55))
    for file in arguments.weights:
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
        run = (lambda x: dense(state, x)) if "conv_first.weight" in state else (lambda x: compact(state, x))
        results.append(check(arguments, file.name, file, run, (64, 48), 512, 55))
        results.append(check(arguments, f"{file.name} in tiles", file, run, (120, 80), 72, 45))
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
