"""Compresses archives to every format and prints what that costs in bytes and in accuracy.

    compression.py DIR --ondine BIN [--only REGEX] [--low-rank R]

DIR holds NAME.pt2, NAME.in.safetensors and NAME.out.safetensors of export_networks.py. The errors are those of the first
output against PyTorch's, of the compressed folder as `ondine run` opens it; the last rows aim at a size and at a PSNR, and
the script fails if one is missed.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import safetensors.numpy

FORMATS = ["int8", "palette8", "palette6", "int4", "palette4", "int2", "palette2"]


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def compress(ondine, name, folder, out, *options):
    calibrate = ["--calibrate", folder / f"{name}.in.safetensors"]
    return json.loads(run(ondine, "compress", folder / f"{name}.pt2", "-o", out, "--json", "--report", *calibrate, *options))


def loss(ondine, model, name, folder, scratch):
    """Relative error and PSNR of the worst floating-point output."""
    found = scratch / "out.safetensors"
    run(ondine, "run", model, "--no-cache", "--inputs", folder / f"{name}.in.safetensors", "--outputs", found)
    found = safetensors.numpy.load_file(found)
    worst = (0.0, math.inf)
    for key, wanted in safetensors.numpy.load_file(folder / f"{name}.out.safetensors").items():
        if numpy.issubdtype(wanted.dtype, numpy.floating):
            wanted = wanted.astype(numpy.float64)
            noise = numpy.mean((found[key] - wanted) ** 2)
            psnr = 10 * math.log10(numpy.abs(wanted).max() ** 2 / noise)
            worst = min(worst, (math.sqrt(noise / numpy.mean(wanted**2)), psnr), key=lambda pair: pair[1])
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ondine", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--low-rank", type=int, default=16)
    args = parser.parse_args()
    failed = False
    for archive in sorted(args.folder.glob("*.pt2")):
        name = archive.stem
        if not re.search(args.only, name):
            continue
        rows = [(kind, ["--weights", kind]) for kind in FORMATS]
        rows += [(f"{kind}+rank{args.low_rank}", ["--weights", kind, "--low-rank", args.low_rank]) for kind in ["int4", "palette4", "int2"]]
        rows += [("0.2x", ["--size", "0.2x"]), ("40 dB", ["--psnr", "40"])]
        print(f"{name}\n{'format':>16} {'bytes':>10} {'share':>6} {'error':>9} {'dB':>7}  predicted dB")
        for label, options in rows:
            with tempfile.TemporaryDirectory() as scratch:
                scratch = pathlib.Path(scratch)
                report = compress(args.ondine, name, args.folder, scratch / "small.ondine", *options)
                error, psnr = loss(args.ondine, scratch / "small.ondine", name, args.folder, scratch)
            share = report["bytes_after"] / report["bytes_before"]
            predicted = (report["outputs"] or {}).get("psnr") or math.inf
            failed |= label == "0.2x" and share > 0.2 or label == "40 dB" and psnr < 39.9
            print(f"{label:>16} {report['bytes_after']:>10} {share:>6.3f} {error:>9.5f} {psnr:>7.2f}  {predicted:.2f}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
