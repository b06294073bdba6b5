"""Exports networks that none of us wrote to .pt2 archives with recorded inputs and outputs, and runs them by Ondine.

    export_networks.py export DIR [--only REGEX] [--decomposed] [--onnx]
    export_networks.py run DIR --ondine BIN [--only REGEX] [--repeat N] [--threads N] [--precision P] [--table FILE]

`export` writes NAME.pt2, NAME.in.safetensors (inputs by argument name) and NAME.out.safetensors (output_0...) of each
network. `run` compares and prints a table: a network holds if all floating-point
outputs have a relative error of 1e-4 at most (of the largest value) or a PSNR of 80 dB, and all others are equal. With
--repeat it also times calls: Ondine's, PyTorch's eager ones, and ONNX Runtime's if it was exported --onnx (needs onnx,
onnxscript and onnxruntime; what cannot be converted is named), one after the other. Speeds are relative to the faster of the two.
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


def session(name, folder, threads):
    """A call of the network by ONNX Runtime; None if it was not exported, or fails there."""
    if not (folder / f"{name}.onnx").exists():
        return None
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        model = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        inputs = safetensors.numpy.load_file(folder / f"{name}.in.safetensors")
        inputs = {wanted.name: inputs[wanted.name] for wanted in model.get_inputs()}
        return lambda: model.run(None, inputs)
    except Exception as error:  # what the other engine cannot do is its own matter
        print(f"{name}: ONNX Runtime: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return None


def convert(name, folder):
    """Writes what ONNX Runtime reads, if there is a way to it."""
    try:
        program = torch.export.load(folder / f"{name}.pt2")
        torch.onnx.export(program, f=str(folder / f"{name}.onnx"), dynamo=True, verbose=False)
    except Exception as error:  # what the other engine cannot do is its own matter
        print(f"{name}: ONNX: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr, flush=True)


def time_calls(name, folder, command, arguments):
    """Median seconds of a call by engine."""
    module, args, kwargs, _ = networks.build(name)
    other = session(name, folder, arguments.threads)
    done = subprocess.run([*command, "--repeat", str(arguments.repeat)], capture_output=True, text=True, timeout=600)
    times = {"Ondine": float(numpy.median(json.loads(done.stdout)["seconds"][1:]))}
    with torch.no_grad():
        times["PyTorch"] = measure(lambda: module(*args, **kwargs), arguments.repeat)
    if other:
        times["ONNX Runtime"] = measure(other, arguments.repeat)
    return times


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
    command += ["--threads", str(arguments.threads), "--precision", arguments.precision]
    command = [*map(str, command)]
    done = subprocess.run([*command, "--outputs", str(result)], capture_output=True, text=True, timeout=600)
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
    holds = bool(compared[0] <= 1e-4 or compared[1] >= 80)
    facts |= {"relative": float(compared[0]), "psnr": float(compared[1]), "holds": holds}
    if arguments.repeat > 1:
        facts["seconds"] = time_calls(name, folder, command, arguments)
    return facts


ENGINES = ["Ondine", "PyTorch", "ONNX Runtime"]


def ratio(facts):
    """How many times faster Ondine is than the fastest of the others."""
    seconds = facts.get("seconds", {})
    others = [seconds[engine] for engine in ENGINES[1:] if engine in seconds]
    return min(others) / seconds["Ondine"] if others else None


def row(name, facts):
    if "relative" not in facts:
        return f"| {name} | {facts.get('nodes', '')} | fails: {facts['error'][:300]} |" + " |" * 5
    error = f"{facts['relative']:.1e}" + ("" if facts["holds"] else " PARTS")
    psnr = "same" if math.isinf(facts["psnr"]) else f"{facts['psnr']:.0f}"
    seconds = facts.get("seconds", {})
    shown = [f"{1e3 * seconds[engine]:.1f}" if engine in seconds else "" for engine in ENGINES]
    speed = f"{ratio(facts):.2f}" if ratio(facts) else ""
    return "| " + " | ".join([name, str(facts["nodes"]), error, psnr, *shown, speed]) + " |"


def summary(results):
    """What the table says as a whole."""
    ratios = {name: ratio(facts) for name, facts in results.items() if ratio(facts)}
    good = sum(bool(facts.get("holds")) for facts in results.values())
    text = f"{good} of {len(results)} hold."
    if ratios:
        mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        worst = sorted(ratios, key=ratios.get)[:5]
        text += f" Speed: geometric mean {mean:.2f}, lowest " + ", ".join(f"{ratios[name]:.2f} ({name})" for name in worst)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["export", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ondine")
    parser.add_argument("--only", default="", help="regular expression that names must match")
    parser.add_argument("--decomposed", action="store_true", help="export after run_decompositions()")
    parser.add_argument("--onnx", action="store_true", help="export for ONNX Runtime too")
    parser.add_argument("--repeat", type=int, default=1, help="calls to time, the first not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="f32", help="Ondine's; the others have f32")
    parser.add_argument("--json", type=pathlib.Path, help="keeps all results, and goes on where it stopped")
    parser.add_argument("--again", action="store_true", help="export what is there already")
    parser.add_argument("--table", type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in networks.networks() if re.search(arguments.only, name)]
    if arguments.action == "export":
        for name in names:
            there = (arguments.folder / f"{name}.json").exists() and not arguments.again
            try:
                if not there:
                    export(name, arguments.folder, arguments.decomposed)
                    print(name, flush=True)
                if arguments.onnx and not (there and (arguments.folder / f"{name}.onnx").exists()):
                    convert(name, arguments.folder)
            except ModuleNotFoundError as error:
                print(f"{name}: skipped: {error}", file=sys.stderr, flush=True)
            except Exception as error:  # one network must not keep the others from being exported
                print(f"{name}: {type(error).__name__}: {str(error)[:500]}", file=sys.stderr, flush=True)
                traceback.print_exc(limit=-1)
        return 0
    header = ["network", "ops", "relative error", "PSNR dB", *(f"{engine} ms" for engine in ENGINES), "speed"]
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    print("\n".join(lines))
    names = [name for name in names if (arguments.folder / f"{name}.json").exists()]
    kept = arguments.json
    results = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for name in names:
        try:
            results[name] = results.get(name) or run(name, arguments.folder, arguments)
        except Exception as error:  # a result that cannot be read is a failure of that network alone
            results[name] = {"error": f"{type(error).__name__}: {error}"}
        if kept:
            kept.write_text(json.dumps(results, indent=1) + "\n")
        lines.append(row(name, results[name]))
        print(lines[-1], flush=True)
    results = {name: results[name] for name in names}
    lines.append("\n" + summary(results))
    print(lines[-1])
    if arguments.table:
        arguments.table.write_text("\n".join(lines) + "\n")
    return 0 if all(facts.get("holds") for facts in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
