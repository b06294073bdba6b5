"""How far bf16 and int8 are from f32: the built-in model's pictures, and the output of a full-size U-Net.

    python quality.py --ondine BIN [--pictures 50] [--steps 20] [--skip-unet]

Pictures are drawn by `ondine draw` from prompts that the built-in model was trained on, each from a seed of its own, and
compared by PSNR before they are rounded to bytes. The U-Net has the shape of Stable Diffusion 1.5 and random weights; `ondine
bench --against f32` gives it the same inputs at both precisions. Exits 1 if a bound is missed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

PROMPTS = Path(__file__).parents[2] / "training/genmoji/prompts.txt"
PRECISIONS = ["bf16", "int8"]
# Least median PSNR of pictures in dB, and largest relative error of the U-Net.
PSNR = {"bf16": 35.0, "int8": 25.0}
ERROR = {"bf16": 1e-2, "int8": 5e-2}


def prompts(count):
    """Prompts spread over the list."""
    lines = PROMPTS.read_text().splitlines()
    return [lines[i * len(lines) // count] for i in range(count)]


def draw(options, folder, prompt, seed, precision):
    """One picture in 0..1."""
    dump = folder / "dump.safetensors"
    command = [options.ondine, "draw", prompt, "--seed", str(seed), "--steps", str(options.steps), "--sampler", "ddim",
               "--precision", precision, "--dump", str(dump), "--output", str(folder / "picture.png"), "--quiet"]
    subprocess.run(command, check=True, env=os.environ | {"ONDINE_CACHE": str(folder / "cache")})
    return load_file(dump)["image"].astype(np.float64)


def psnr(picture, wanted):
    """Peak signal to noise ratio in dB."""
    return 10 * np.log10(1 / max(np.mean((picture - wanted) ** 2), 1e-12))


def check_pictures(options):
    """True if the pictures of all precisions are near enough to those of f32."""
    found = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        for seed, prompt in enumerate(prompts(options.pictures), 1000):
            wanted = draw(options, Path(folder), prompt, seed, "f32")
            for precision, ratios in found.items():
                ratios.append((psnr(draw(options, Path(folder), prompt, seed, precision), wanted), prompt))
    well = True
    for precision, ratios in found.items():
        values = [ratio for ratio, _ in ratios]
        least, prompt = min(ratios)
        print(f"pictures at {precision}: PSNR median {np.median(values):.1f} dB, 10th percentile "
              f"{np.percentile(values, 10):.1f} dB, least {least:.1f} dB ({prompt}); wanted {PSNR[precision]:.0f} dB")
        well &= np.median(values) >= PSNR[precision]
    return well


def check_unet(options):
    """True if the U-Net's output is near enough to that of f32."""
    well = True
    for precision in PRECISIONS:
        command = [options.ondine, "bench", "unet-sd15", "--precision", precision, "--against", "f32", "--repeat", "1", "--json"]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        error = json.loads(output.stdout)["relative_error"]
        print(f"U-Net at {precision}: relative error {error:.2e}; wanted {ERROR[precision]:.0e}")
        well &= error <= ERROR[precision]
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", required=True)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--skip-unet", action="store_true", help="which takes 6 GB of memory")
    options = parser.parse_args()
    well = check_pictures(options)
    well &= options.skip_unet or check_unet(options)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
