"""PyTorch's own samples of every operator, exported, run by Ondine and compared: values, shapes and element types.

    opinfo.py make OUT [--types f32,int64,bool,bf16] [--only REGEX] [--count 5] [--part I/N]
    opinfo.py run  OUT --ondine BIN [--types ...] [--only REGEX] [--forms exported,decomposed] [--jobs 2] [--table FILE]
    opinfo.py show OUT [--types ...] [--forms ...] [--only REGEX] [--failing]

`make` writes an archive for each sample of `torch.testing._internal.common_methods_invocations.op_db` that PyTorch itself
exports (`strict=False`) and reads back, as exported and after `run_decompositions()`; what `make` has begun it goes on
with. A sample counts if the program that was read back yields the same twice, whatever the seed, and its results can
be stored. `run` runs all that `make` left, and keeps what it saw; `show` counts it, and lists what fails by reason.
Programs that draw random numbers by PyTorch's own mark are counted apart, of what nobody filled shape and type alone
are compared, and what is not PyTorch's result is asked whether it is right all the same (`opinfo_defined.py`).
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import warnings

import safetensors.torch
import torch
import torch.utils._pytree as pytree

import opinfo_defined

TYPES = {"f32": torch.float32, "int64": torch.int64, "bool": torch.bool, "bf16": torch.bfloat16}
# What a result may be away from PyTorch's, in parts of the largest: sums in another order; bf16 has 8 bits, which
# PyTorch rounds to after every operator and Ondine at the end.
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
SECONDS = 60
# What these hold nobody filled: shapes and types are compared alone.
UNFILLED = re.compile(r"(^|_)empty(_|$)|^resize_")
# Programs that were stored: those that are compared; those whose results nobody filled; those that draw random numbers by
# PyTorch's own mark (`torch.Tag.nondeterministic_seeded`), though the seeds tried here made no difference to the result.
COUNTED = ("made", "unfilled", "drawn")


class Of(torch.nn.Module):
    """An operator, its tensors being the arguments."""

    def __init__(self, op, leaves, spec):
        super().__init__()
        self.op, self.leaves, self.spec = op, leaves, spec

    def forward(self, *tensors):
        tensors = iter(tensors)
        leaves = [next(tensors) if torch.is_tensor(leaf) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.op(*args, **kwargs)


class Late(Exception):
    """An export that takes too long."""


def late(*_):
    raise Late


def tensors_of(results):
    """Results as tensors, in the order in which they are flattened; what is none has no output."""
    leaves = [leaf for leaf in pytree.tree_leaves(results) if leaf is not None]
    return [leaf.detach() if torch.is_tensor(leaf) else torch.tensor(leaf) for leaf in leaves]


def plain(tensor):
    return tensor.resolve_conj().resolve_neg().detach().clone(memory_format=torch.contiguous_format)


def same(a, b):
    return len(a) == len(b) and all(
        x.shape == y.shape and x.dtype == y.dtype and torch.allclose(x, y, equal_nan=True) if x.numel() else True for x, y in zip(a, b)
    )


def results_of(archive, tensors):
    torch.manual_seed(1)
    return [plain(result) for result in tensors_of(torch.export.load(archive).module()(*[t.clone() for t in tensors]))]


def draws(program):
    """Whether an operator of a program is marked by PyTorch as one that draws random numbers."""
    targets = [node.target for module in program.graph_module.modules() if hasattr(module, "graph") for node in module.graph.nodes]
    return any(torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()) for target in targets)


def store(stem, program, tensors, unfilled):
    """Writes archive, inputs and results of a program, and says why not if it does not count."""
    archive = f"{stem}.pt2"
    torch.export.save(program, archive)
    results = results_of(archive, tensors)
    torch.manual_seed(2)
    again = [plain(result) for result in tensors_of(torch.export.load(archive).module()(*[t.clone() for t in tensors]))]
    if not results or not (unfilled or same(results, again)):
        os.remove(archive)
        return "random" if results else "no results"
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    inputs = {name: plain(tensor) for name, tensor in zip(names, tensors)}
    safetensors.torch.save_file(inputs, f"{stem}.in.safetensors")
    safetensors.torch.save_file({f"output_{i}": result for i, result in enumerate(results)}, f"{stem}.ref.safetensors")
    return "unfilled" if unfilled else "drawn" if draws(program) else "made"


def make_sample(stem, op, sample, unfilled):
    leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
    tensors = [plain(leaf) for leaf in leaves if torch.is_tensor(leaf)]
    module = Of(op, [torch.empty(0) if torch.is_tensor(leaf) else leaf for leaf in leaves], spec)
    said = {}
    program = torch.export.export(module, tuple(tensors), strict=False)
    said["exported"] = store(f"{stem}.exported", program, tensors, unfilled)
    if said["exported"] in COUNTED:
        said["decomposed"] = store(f"{stem}.decomposed", program.run_decompositions(), tensors, unfilled)
    return said


def spread(samples, count):
    """As many samples as are asked for, evenly from the first to the last, and the place of each."""
    samples = list(samples)
    places = range(len(samples))
    if len(samples) > count:
        places = sorted({round(i * (len(samples) - 1) / max(count - 1, 1)) for i in range(count)})
    return [(place, samples[place]) for place in places]


def make_op(out, op, dtype, count):
    """Samples of an operator for one type."""
    if not op.supports_dtype(dtype, "cpu"):
        return {}
    torch.manual_seed(0)
    said = {}
    for index, sample in spread(op.sample_inputs("cpu", dtype, requires_grad=False), count):
        label = re.sub(r"\W+", "_", f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name)
        said[f"{label}.{index}"] = outcome = {}
        signal.alarm(SECONDS)
        try:
            with torch.no_grad():
                outcome.update(make_sample(out / f"{label}.{index}", op.op, sample, UNFILLED.search(op.name)))
        except (Exception, Late) as error:  # what PyTorch does not export does not count
            outcome["error"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
        finally:
            signal.alarm(0)
    return said


def make(options):
    from torch.testing._internal.common_methods_invocations import op_db

    signal.signal(signal.SIGALRM, late)
    torch.set_num_threads(1)
    part, parts = (int(n) for n in options.part.split("/"))
    for name, dtype in options.types.items():
        out = options.out / name
        out.mkdir(parents=True, exist_ok=True)
        for index, op in enumerate(op_db):
            label = re.sub(r"\W+", "_", f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name)
            record = out / f"{label}.json"
            if index % parts != part or record.exists() or not re.search(options.only, label):
                continue
            try:
                said = make_op(out, op, dtype, options.count)
            except (Exception, Late) as error:  # an operator whose samples PyTorch cannot make
                said = {label: {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}}
            record.write_text(json.dumps(said, indent=1) + "\n")
        print(f"{name}: made", flush=True)


def unlike(want, got):
    """How a result parts from PyTorch's, or none."""
    if got is None:
        return "no result"
    if want.dtype != got.dtype:
        return f"type {str(got.dtype)[6:]}, wanted {str(want.dtype)[6:]}"
    if want.shape != got.shape:
        return f"shape {list(got.shape)}, wanted {list(want.shape)}"
    if not (want.is_floating_point() or want.is_complex()):
        return None if torch.equal(want, got) else f"values {got.flatten()[:3].tolist()}, wanted {want.flatten()[:3].tolist()}"
    tolerance = TOLERANCE.get(want.dtype, 1e-4)
    if want.is_complex():
        want, got = torch.view_as_real(want), torch.view_as_real(got)
    a, b = want.double().flatten(), got.double().flatten()
    peak = max(float(a[a.isfinite()].abs().max()) if a.isfinite().any() else 0.0, 1e-30)
    if torch.allclose(b, a, rtol=0, atol=tolerance * peak, equal_nan=True):
        return None
    worst = int((b - a).abs().nan_to_num(float("inf")).argmax())
    return f"values {b[worst]:.6g}, wanted {a[worst]:.6g} (peak {peak:.3g})"


def numbered(tensors):
    """Tensors in the order of the numbers in their names."""
    return [tensors[name] for name in sorted(tensors, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])]


def compare(label, kind, stem, out):
    """What is said of results: whether they are right, whether by what is defined of them alone, or how not."""
    want, got = safetensors.torch.load_file(f"{stem}.ref.safetensors"), safetensors.torch.load_file(out)
    if kind == "unfilled":
        alike = all(name in got and (got[name].shape, got[name].dtype) == (w.shape, w.dtype) for name, w in want.items())
        return "right" if alike else "shape or type"
    wrong = next(filter(None, (unlike(w, got.get(name)) for name, w in want.items())), None)
    if wrong and set(want) == set(got):
        inputs = safetensors.torch.load_file(f"{stem}.in.safetensors")
        if opinfo_defined.right(label, *map(numbered, (inputs, want, got))):
            return "right by what is defined"
    return wrong or "right"


def run_one(ondine, label, kind, stem):
    out = f"{stem}.out.safetensors"
    command = [ondine, "run", f"{stem}.pt2", "--inputs", f"{stem}.in.safetensors", "--outputs", out, "--no-cache", "--threads", "1"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "late"
    if done.returncode:
        lines = done.stderr.splitlines() or [""]
        if done.returncode != 1 or "panicked" in done.stderr:
            return "PANIC " + next((line for line in lines if "panicked" in line), lines[-1]) + " " + " ".join(lines[1:2])
        return "refused " + lines[-1].replace(f"{stem}.pt2", "")
    said = compare(label, kind, stem, out)
    os.remove(out)
    return said


def stems(options):
    """Every sample that counts: type, form, label, of what kind it is, and where its files are."""
    for name in options.types:
        for record in sorted((options.out / name).glob("*.json")):
            if record.name in ("seen.json",) or not re.search(options.only, record.stem):
                continue
            for label, said in json.loads(record.read_text()).items():
                for form in options.forms:
                    if said.get(form) in COUNTED:
                        yield name, form, label, said[form], str(options.out / name / f"{label}.{form}")


def run(options):
    kept = options.out / "seen.json"
    seen = json.loads(kept.read_text()) if kept.exists() else {}
    wanted = list(stems(options))
    if options.failing:
        wanted = [w for w in wanted if not seen.get("/".join(w[:3]), "").startswith("right")]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for w, said in zip(wanted, pool.map(lambda w: run_one(options.ondine, *w[2:]), wanted)):
            seen["/".join(w[:3])] = said
    kept.write_text(json.dumps(seen, indent=0) + "\n")
    show(options)


def reason(said):
    """What a failure is sorted by."""
    return re.sub(r"\d+", "#", re.sub(r"\([^)]*\)|`[^`]*`", "", said.split(": ", 1)[-1] if said.startswith("refused") else said))[:90]


def show(options):
    seen = json.loads((options.out / "seen.json").read_text())
    counts, failing = collections.Counter(), collections.defaultdict(list)
    for name, form, label, kind, _ in stems(options):
        said = seen.get("/".join([name, form, label]), "not run")
        right = said.startswith("right")
        counts[name, form, kind == "drawn", right] += 1
        counts[name, form, "defined"] += said not in ("right",) and right
        if not right:
            failing[label.rsplit(".", 1)[0], said.split(" ")[0], reason(said)].append((name, form, label, said))
    for name, form in itertools.product(options.types, options.forms):
        right, wrong, drawn, missed = (counts[name, form, *of] for of in ((False, True), (False, False), (True, True), (True, False)))
        part = lambda right, all: f"{right} of {all} right ({right / max(1, all):.2%})"
        print(
            f"{name} {form}: {part(right, right + wrong)}, {counts[name, form, 'defined']} of them by what is defined; "
            f"with those that draw random numbers {part(right + drawn, right + wrong + drawn + missed)}"
        )
    lines = []
    for (op, _, _), samples in sorted(failing.items(), key=lambda item: (-len(item[1]), item[0])):
        where = collections.Counter(f"{name} {form}" for name, form, _, _ in samples)
        lines.append(f"| {op} | {', '.join(f'{n} {w}' for w, n in where.items())} | {samples[0][3][:options.width]} |")
    print("\n".join(lines))
    panics = sum(s[3].startswith("PANIC") for samples in failing.values() for s in samples)
    print(f"{panics} panics")
    if options.table:
        head = "| operator | samples | the first of them |\n|---|---|---|\n"
        options.table.write_text(head + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["make", "run", "show"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--ondine")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--forms", default="exported,decomposed")
    parser.add_argument("--only", default="", help="a regular expression of operators")
    parser.add_argument("--count", type=int, default=5, help="samples of each variant")
    parser.add_argument("--part", default="0/1", help="make the I-th of N parts, for N processes")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--failing", action="store_true", help="run only what was not right before")
    parser.add_argument("--table", type=pathlib.Path)
    parser.add_argument("--width", type=int, default=170)
    options = parser.parse_args()
    options.types = {name: TYPES[name] for name in options.types.split(",")}
    options.forms = options.forms.split(",")
    warnings.simplefilter("ignore")
    {"make": make, "run": run, "show": show}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
