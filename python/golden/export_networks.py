"""Exports networks that none of us wrote to .pt2 archives with recorded inputs and outputs, and runs them by Ondine.

    export_networks.py export DIR [--only REGEX] [--decomposed]
    export_networks.py run DIR --ondine BIN [--only REGEX] [--repeat N] [--threads N] [--table FILE]

`export` writes NAME.pt2, NAME.in.safetensors (inputs by argument name) and NAME.out.safetensors (output_0...) of each
network. `run` compares and prints a table: a network holds if all floating-point
outputs have a relative error of 1e-4 at most (of the largest value) or a PSNR of 80 dB, and all others are equal. With --repeat it also times calls, PyTorch's right after Ondine's.
"""

import argparse
import copy
import json
import math
import pathlib
import re
import subprocess
import sys
import time
import traceback
import warnings

import numpy
import safetensors.numpy
import safetensors.torch
import torch
import torch.utils._pytree as pytree

import networks


def tensors_of(value):
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def plain(tensor):
    return tensor.detach().contiguous().clone()


def measure(function, repeat):
    """The median time of a call after one to warm up."""
    function()
    times = []
    for _ in range(repeat - 1):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(numpy.median(times))


def export(name, folder, decomposed):
    module, args, kwargs, shapes = networks.build(name)
    with torch.no_grad():
        program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
        if decomposed:
            program = program.run_decompositions()
        torch.export.save(program, folder / f"{name}.pt2")
        # A copy, because a call may change buffers.
        expected = tensors_of(copy.deepcopy(module)(*args, **kwargs))
        names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        leaves = pytree.tree_leaves((args, kwargs))
        inputs = {n: plain(leaf) for n, leaf in zip(names, leaves) if isinstance(leaf, torch.Tensor)}
        safetensors.torch.save_file(inputs, folder / f"{name}.in.safetensors")
        outputs = {f"output_{i}": plain(tensor) for i, tensor in enumerate(expected)}
        safetensors.torch.save_file(outputs, folder / f"{name}.out.safetensors")
        facts = {"nodes": sum(node.op == "call_function" for node in program.graph.nodes)}
        facts["parameters"] = sum(p.numel() for p in module.parameters())
    (folder / f"{name}.json").write_text(json.dumps(facts))


def compare(found, wanted):
    """The relative error of the worst output and the smallest PSNR; None if something differs that must not."""
    error, psnr = 0.0, math.inf
    for name, reference in wanted.items():
        if name not in found or found[name].shape != reference.shape:
            return None
        result = found[name]
        if not numpy.issubdtype(reference.dtype, numpy.floating):
            if not (result == reference).all():
                return None
            continue
        result, reference = result.astype(numpy.float64), reference.astype(numpy.float64)
        same = (result == reference) | (numpy.isnan(result) & numpy.isnan(reference))
        difference = numpy.where(same, 0.0, result - reference)
        peak = numpy.abs(reference[numpy.isfinite(reference)]).max(initial=0.0)
        worst = numpy.abs(difference).max(initial=0.0)
        if not numpy.isfinite(worst):
            return None
        error = max(error, worst / peak if peak else float(worst > 0))
        mean = float((difference**2).mean()) if difference.size else 0.0
        psnr = min(psnr, 10 * math.log10(peak**2 / mean) if mean and peak else math.inf)
    return error, psnr


def run(name, folder, arguments):
    result = folder / f"{name}.found.safetensors"
    command = [arguments.ondine, "run", folder / f"{name}.pt2", "--inputs", folder / f"{name}.in.safetensors"]
    command += ["--no-cache", "--json"]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    done = subprocess.run([*map(str, command), "--outputs", str(result)], capture_output=True, text=True, timeout=600)
    if done.returncode:
        return {"error": done.stderr.strip()}
    wanted = safetensors.numpy.load_file(folder / f"{name}.out.safetensors")
    found = safetensors.numpy.load_file(result)
    compared = compare(found, wanted)
    result.unlink()
    facts = json.loads((folder / f"{name}.json").read_text())
    if compared is None:
        shapes = {n: (found[n].shape if n in found else None, wanted[n].shape) for n in wanted}
        return facts | {"error": f"other shapes, types or numbers: {shapes}"}
    facts |= {"relative": compared[0], "psnr": compared[1], "holds": compared[0] <= 1e-4 or compared[1] >= 80}
    if arguments.repeat > 1:
        done = subprocess.run([*map(str, command), "--repeat", str(arguments.repeat)], capture_output=True, text=True, timeout=600)
        seconds = json.loads(done.stdout)["seconds"]
        facts["ondine_seconds"] = float(numpy.median(seconds[1:]))
        module, args, kwargs, _ = networks.build(name)
        with torch.no_grad():
            facts["eager_seconds"] = measure(lambda: module(*args, **kwargs), arguments.repeat)
    return facts


def row(name, facts):
    if "relative" not in facts:
        return f"| {name} | {facts.get('nodes', '')} | fails | {facts['error'][:3000]} | | | |"
    verdict = "holds" if facts["holds"] else "PARTS"
    times = [facts.get("ondine_seconds"), facts.get("eager_seconds")]
    shown = [f"{1e3 * t:.1f}" if t else "" for t in times]
    ratio = f"{times[1] / times[0]:.2f}" if all(times) else ""
    psnr = "same" if math.isinf(facts["psnr"]) else f"{facts['psnr']:.0f}"
    return f"| {name} | {facts['nodes']} | {verdict} | {facts['relative']:.1e} | {psnr} | {shown[0]} | {shown[1]} | {ratio} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["export", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ondine")
    parser.add_argument("--only", default="", help="regular expression that names must match")
    parser.add_argument("--decomposed", action="store_true", help="export after run_decompositions()")
    parser.add_argument("--repeat", type=int, default=1, help="calls to time, the first not counted")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--again", action="store_true", help="export what is there already")
    parser.add_argument("--table", type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in networks.networks() if re.search(arguments.only, name)]
    if arguments.action == "export":
        for name in names:
            if (arguments.folder / f"{name}.json").exists() and not arguments.again:
                continue
            try:
                export(name, arguments.folder, arguments.decomposed)
                print(name, flush=True)
            except Exception as error:  # one network must not keep the others from being exported
                print(f"{name}: {type(error).__name__}: {str(error)[:500]}", file=sys.stderr, flush=True)
                traceback.print_exc(limit=-1)
        return 0
    lines = ["| network | nodes | result | relative error | PSNR dB | Ondine ms | PyTorch ms | speed |", "|---|--:|---|--:|--:|--:|--:|--:|"]
    print("\n".join(lines))
    good = 0
    names = [name for name in names if (arguments.folder / f"{name}.json").exists()]
    for name in names:
        try:
            facts = run(name, arguments.folder, arguments)
        except Exception as error:  # a result that cannot be read is a failure of that network alone
            facts = {"error": f"{type(error).__name__}: {error}"}
        good += bool(facts.get("holds"))
        lines.append(row(name, facts))
        print(lines[-1], flush=True)
    lines.append(f"\n{good} of {len(names)} hold.")
    print(lines[-1])
    if arguments.table:
        arguments.table.write_text("\n".join(lines) + "\n")
    return 0 if good == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
