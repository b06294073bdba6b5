"""Give Ondine broken folders and hopeless requests, and check how it says no.

    python bad_input.py --ondine BIN --folders DIR [--only WORDS]

A case holds when the exit code is right (1; 2 is allowed for what the command line alone gives away), stderr is exactly
one line that begins `error:` and holds the expected words, nothing is left behind, and time and memory stay bounded.
The disk-full case mounts a small tmpfs and is skipped where that is not allowed. Exits 1 when any case misses.
"""
import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

SECONDS, MEGABYTES = 20, 1024
FAILED, REFUSED, EITHER = (1,), (1, 2), (0, 1)
CRASH = ("panicked", "RUST_BACKTRACE", "stack overflow", "memory allocation of", "core dumped")
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@dataclass
class Case:
    """One bad drawing: an edit of a good folder, the arguments, and what the answer must be."""
    name: str
    edit: object = None  # called with the folder to spoil
    arguments: tuple = ()
    words: tuple = ()  # all must be in the error line
    codes: tuple = FAILED
    base: str = "sd15"
    prompt: object = "a cat"


@dataclass
class Answer:
    """What came of a run."""
    code: int
    lines: list
    seconds: float
    megabytes: float


# ---- Spoiling a folder -------------------------------------------------------------------------------------------

def clone(source, target):
    """The same folder by links, so that single files can be replaced."""
    for file in source.rglob("*"):
        if file.is_file():
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())


def put(name, data):
    """An edit: the file's bytes (or text, or JSON value) become `data`; None removes the file."""
    def edit(folder):
        file = folder / name
        file.unlink(missing_ok=True)
        if isinstance(data, bytes):
            file.write_bytes(data)
        elif data is not None:
            file.write_text(data if isinstance(data, str) else json.dumps(data))
    return edit


def config(name, **changes):
    """An edit: keys of a JSON file change; a value of None removes the key."""
    def edit(folder):
        values = json.loads((folder / name).read_text()) | changes
        put(name, {key: value for key, value in values.items() if value is not None})(folder)
    return edit


def tensors(name, change):
    """An edit: `change` alters the dictionary of a weights file."""
    def edit(folder):
        state = load_file(folder / name)
        change(state)
        (folder / name).unlink()
        save_file(state, folder / name)
    return edit


def bytes_of(name, change):
    """An edit: `change` maps the bytes of a file to other bytes."""
    def edit(folder):
        put(name, change((folder / name).read_bytes()))(folder)
    return edit


def header(**entries):
    """The bytes of a safetensors file with these entries and sixteen bytes of data."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


def tensor_cases():
    """Weights whose names, shapes or types do not fit the config."""
    bias, norm = "conv_in.bias", "text_model.final_layer_norm.weight"
    return [
        Case("tensor missing, unet", tensors(UNET, lambda s: s.pop(bias)), words=(bias,)),
        Case("tensor missing, vae", tensors(VAE, lambda s: s.pop("decoder.conv_in.weight")), words=("decoder.conv_in.weight",)),
        Case("tensor missing, text", tensors(TEXT, lambda s: s.pop(norm)), words=("final_layer_norm.weight",)),
        Case("tensor extra, unet", tensors(UNET, lambda s: s.update(stranger=np.ones(2, np.float32))), words=("stranger",)),
        Case("tensor extra, text", tensors(TEXT, lambda s: s.update({"text_model.stranger": np.ones(2, np.float32)})), words=("stranger",)),
        Case("shape wrong", tensors(UNET, lambda s: s.update({bias: np.ones(7, np.float32)})), words=(bias, "7")),
        Case("shape transposed", tensors(UNET, lambda s: s.update({"time_embedding.linear_1.weight": np.ones((32, 128), np.float32)})),
             words=("time_embedding.linear_1.weight",)),
        Case("integers for weights", tensors(UNET, lambda s: s.update({bias: np.ones(32, np.int64)})), words=(bias,)),
        Case("weights of another family", config("unet/config.json", block_out_channels=[32, 64, 96, 128])),
    ]


def file_cases():
    """Weights files that are broken as files."""
    beyond = dict(dtype="F32", shape=[400], data_offsets=[0, 1600])
    uneven = dict(dtype="F32", shape=[3], data_offsets=[0, 16])
    wrapped = dict(dtype="F32", shape=[2**62, 4], data_offsets=[0, 16])
    return [
        Case("weights truncated", bytes_of(UNET, lambda b: b[:len(b) // 2]), words=(UNET,)),
        Case("weights truncated in the header", bytes_of(UNET, lambda b: b[:100]), words=(UNET,)),
        Case("weights with a byte too many", bytes_of(UNET, lambda b: b + b"x"), words=(UNET,)),
        Case("weights empty", put(UNET, b""), words=(UNET,)),
        Case("weights of four bytes", put(UNET, b"abcd"), words=(UNET,)),
        Case("header of 2^63 bytes", put(UNET, struct.pack("<Q", 2**63) + bytes(64)), words=(UNET,)),
        Case("header not JSON", put(UNET, struct.pack("<Q", 8) + b"{nothing"), words=(UNET,)),
        Case("header of deep brackets", put(UNET, struct.pack("<Q", 2**18) + b"[" * 2**18), words=(UNET,)),
        Case("tensor beyond the end", put(UNET, header(x=beyond)), words=(UNET,)),
        Case("tensor size and shape differ", put(UNET, header(x=uneven)), words=(UNET,)),
        Case("tensor size overflows", put(UNET, header(x=wrapped)), words=(UNET,)),
        Case("tensors overlap", put(UNET, header(x=dict(uneven, shape=[4]), y=dict(uneven, shape=[4]))), words=(UNET,)),
        Case("weights missing", put(UNET, None), words=("unet",)),
        Case("weights a folder", lambda f: (put(UNET, None)(f), (f / UNET).mkdir()), words=("unet",)),
        Case("shard missing", put("unet/diffusion_pytorch_model-00002-of-00005.safetensors", None), base="sharded",
             words=("00002-of-00005",)),
        Case("shard index not JSON", put("unet/diffusion_pytorch_model.safetensors.index.json", "{"), base="sharded",
             words=("index.json",)),
    ]


def folder_cases():
    """Folders with the wrong things in them."""
    empty = lambda folder: (shutil.rmtree(folder), folder.mkdir())
    return [
        Case("folder missing", arguments=("--model", "nowhere/at/all"), words=("nowhere/at/all",)),
        Case("folder empty", empty),
        Case("folder a text file", lambda f: (shutil.rmtree(f), f.write_text("hello"))),
        Case("model_index.json not JSON", put("model_index.json", "hello"), words=("model_index.json",)),
        Case("part missing", lambda f: shutil.rmtree(f / "vae"), words=("vae",)),
        Case("vocabulary missing", put("tokenizer/vocab.json", None), words=("tokenizer",)),
        Case("vocabulary not JSON", put("tokenizer/vocab.json", "{"), words=("tokenizer",)),
        Case("vocabulary too small", put("tokenizer/vocab.json", {"a": 0}), words=("tokenizer",)),
        Case("merges garbage", put("tokenizer/merges.txt", bytes(range(256)) * 40), words=("tokenizer",)),
    ]


def config_cases():
    """Configs that are not JSON, or are but make no sense."""
    file, text, vae, times = "unet/config.json", "text_encoder/config.json", "vae/config.json", "scheduler/scheduler_config.json"
    cases = [Case(f"{name} {what}", put(name, data), words=(name,)) for name in (file, text, vae, times)
             for what, data in (("not JSON", "{nope"), ("empty", b""), ("a list", "[1]"), ("missing", None))]
    cases += [Case("config not UTF-8", put(file, b'{"a": "\xff"}'), words=(file,)),
              Case("config of deep brackets", put(file, "[" * 2**18), words=(file,))]
    absurd = dict(block_out_channels=[[], [0, 0, 0, 0], [10**12] * 4, [-32, 64, 96, 96], ["a"] * 4, 1e300, [32, 64, 96]],
                  attention_head_dim=[0, 10**9, [8, 8], -1, 7], layers_per_block=[0, 10**9, -2, 1.5],
                  norm_num_groups=[0, 7, 10**9], cross_attention_dim=[0, 10**12, -1], in_channels=[0, 10**12],
                  down_block_types=[["Nonsense"] * 4, []], act_fn=["nonsense"])
    cases += [Case(f"unet {key} {json.dumps(value)[:24]}", config(file, **{key: value}), words=("unet",)) for key, values in
              absurd.items() for value in values]
    cases += [Case(f"text {key} {value}", config(text, **{key: value}), words=("text_encoder",)) for key, value in
              (("hidden_size", 10**12), ("num_attention_heads", 0), ("num_attention_heads", 5), ("num_hidden_layers", 10**9),
               ("vocab_size", 100), ("max_position_embeddings", 4), ("hidden_act", "nonsense"))]
    cases += [Case(f"vae {key} {value}", config(vae, **{key: value}), words=("vae",)) for key, value in
              (("latent_channels", 5), ("block_out_channels", []), ("layers_per_block", 10**9), ("scaling_factor", 0))]
    return cases + [Case(f"schedule {key} {value}", config(times, **{key: value}), words=(str(value),)) for key, value in
                    (("_class_name", "NonsenseScheduler"), ("prediction_type", "nonsense"), ("beta_schedule", "nonsense"),
                     ("timestep_spacing", "nonsense"), ("num_train_timesteps", 0), ("num_train_timesteps", 10**12))]


def request_cases():
    """A good folder, asked for the impossible."""
    flags = [("--width", "65", "8"), ("--height", "100", "8"), ("--width", "0", "width"), ("--width", "8000000000", ""),
             ("--steps", "0", "steps"), ("--steps", "-1", ""), ("--steps", "100000000", "steps"), ("--steps", "many", ""),
             ("--guidance", "nan", "guidance"), ("--guidance", "inf", "guidance"), ("--batch", "0", ""),
             ("--batch", "10000000000", ""), ("--seed", "x", ""), ("--sampler", "nonsense", "nonsense"),
             ("--schedule", "nonsense", "nonsense"), ("--precision", "nonsense", "nonsense"),
             ("--noise", "nowhere.safetensors", "nowhere.safetensors"), ("--memory", "1MB", ""), ("--nonsense", "1", "nonsense")]
    cases = [Case(f"{flag} {value}", arguments=(flag, value), words=(word,), codes=REFUSED) for flag, value, word in flags]
    return cases + [
        Case("a prompt of 100 kB", prompt="cat " * 25_000, codes=REFUSED),
        Case("a prompt of one word of 100 kB", prompt="c" * 100_000, codes=REFUSED),
        Case("a prompt of emoji", prompt="😀🐈🦊🎃", codes=EITHER),
        Case("an empty prompt", prompt="", codes=EITHER),
        Case("a prompt of control characters", prompt="\x01\x02\t\n\x7f", codes=EITHER),
        Case("a prompt that is not UTF-8", prompt=b"cat \xff\xfe", codes=REFUSED),
        Case("output in a missing folder", arguments=("--output", "missing/x.png"), words=("missing",)),
        Case("output under a file", arguments=("--output", "plain.txt/x.png"), words=("plain.txt",)),
        Case("output a folder", arguments=("--output", "tmp"), words=("tmp",)),
        Case("output in a system folder", arguments=("--output", "/proc/x.png"), words=("/proc",)),
        Case("dump in a missing folder", arguments=("--dump", "missing/d.safetensors"), words=("missing",)),
    ]


# ---- Running -----------------------------------------------------------------------------------------------------

def command(ondine, case, model):
    """The command line: the case's own arguments replace the usual ones."""
    usual = {"--model": str(model), "--steps": "2", "--width": "64", "--height": "64", "--output": "x.png"}
    own = dict(zip(case.arguments[::2], case.arguments[1::2]))
    flags = [f"{name}={value}" for name, value in (usual | own).items()]
    return [str(ondine), "draw", "--quiet", *flags, "--", case.prompt]


def environment(place):
    """An environment in which temporary and cached files go where they can be seen."""
    return dict(os.environ, TMPDIR=str(place / "tmp"), XDG_CACHE_HOME=str(place / "cache"), RUST_BACKTRACE="0")


def limit():
    """Keep a runaway process from taking the machine with it."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)


def execute(words, place, interrupt_after=None):
    """Run in `place`, interrupting after some seconds if asked to."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, cwd=place, env=environment(place), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=limit)
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            os.kill(process.pid, signal.SIGINT)
        pid, status, usage = wait(process.pid, started + SECONDS + (interrupt_after or 0))
        process.returncode = code = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").splitlines()
    return Answer(code, lines, time.monotonic() - started, usage.ru_maxrss / 1024)


def wait(pid, deadline):
    """Wait for one process, killing it at the deadline; also tells what it used."""
    while time.monotonic() < deadline:
        done = os.wait4(pid, os.WNOHANG)
        if done[0]:
            return done
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return os.wait4(pid, 0)


def files(place):
    """Everything under a place but the cache and the spoiled model."""
    return {str(path.relative_to(place)) for path in place.rglob("*")
            if path.relative_to(place).parts[0] not in ("cache", "model")}


def faults(answer, codes, words, left):
    """Everything that is wrong with an answer."""
    text = "\n".join(answer.lines)
    found = [f"crash text `{word}`" for word in CRASH if word in text]
    if answer.code not in codes:
        found.append(f"exit {answer.code}, not {' or '.join(map(str, codes))}")
    if answer.code != 0:
        found += [f"left {name}" for name in sorted(left)]
        if len(answer.lines) != 1 or not answer.lines[0].startswith("error:"):
            found.append(f"{len(answer.lines)} lines on stderr")
        found += [f"no `{word}` in the line" for word in words if word not in text]
    if answer.seconds > SECONDS:
        found.append(f"{answer.seconds:.0f} s")
    if answer.megabytes > MEGABYTES:
        found.append(f"{answer.megabytes:.0f} MB")
    return found


@contextlib.contextmanager
def scratch():
    """A place to run in."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        (place / "tmp").mkdir()
        (place / "plain.txt").write_text("plain")
        yield place


def report(name, answer, found):
    """One row of the table."""
    print(f"{'MISS' if found else 'ok  '} {name:44} {answer.code:4} {answer.seconds:5.1f} s {answer.megabytes:5.0f} MB  "
          f"{'; '.join(found) or ''}\n       {answer.lines[0][:200] if answer.lines else '-'}", flush=True)
    return not found


def try_case(ondine, folders, case):
    """Spoil, run and judge one case."""
    with scratch() as place:
        clone(folders / case.base, place / "model")
        if case.edit:
            case.edit(place / "model")
        before = files(place)
        answer = execute(command(ondine, case, "model"), place)
        return report(case.name, answer, faults(answer, case.codes, case.words, files(place) - before))


def try_interrupt(ondine, folders, seconds):
    """Ctrl-C in the middle of a long drawing: a prompt end, nothing written."""
    case = Case(f"Ctrl-C after {seconds} s", arguments=("--steps", "900", "--width", "256", "--height", "256", "--dump", "d.safetensors"))
    with scratch() as place:
        before = files(place)
        answer = execute(command(ondine, case, folders / "sd15"), place, seconds)
        found = faults(answer, (130, 1), (), files(place) - before)
        if answer.seconds > seconds + 3:
            found.append(f"{answer.seconds - seconds:.1f} s to stop")
        return report(case.name, answer, found)


def try_full_disk(ondine, folders, name, flags):
    """A disk without room for the output."""
    case = Case(f"disk full, {name}", arguments=flags)
    with scratch() as place:
        disk = place / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], capture_output=True)
        if mounted.returncode:
            print(f"skip {case.name}: mounting is not allowed")
            return True
        try:
            before = files(place)
            answer = execute(command(ondine, case, folders / "sd15"), place)
            return report(case.name, answer, faults(answer, FAILED, ("disk/",), files(place) - before))
        finally:
            subprocess.run(["umount", disk], check=True)


def control(ondine, folders):
    """The same request, unspoiled, must draw."""
    with scratch() as place:
        answer = execute(command(ondine, Case("control"), folders / "sd15"), place)
        found = [] if answer.code == 0 and (place / "x.png").exists() else ["a good request does not draw"]
        return report("control", answer, found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True, help="the ondine binary")
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made; sd15 and sharded are used")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    ondine, folders = arguments.ondine.resolve(), arguments.folders.resolve()
    checks = [("control", lambda: control(ondine, folders))]
    for case in [*folder_cases(), *file_cases(), *tensor_cases(), *config_cases(), *request_cases()]:
        checks.append((case.name, lambda case=case: try_case(ondine, folders, case)))
    for seconds in (0.2, 1.0, 2.5):
        checks.append(("Ctrl-C", lambda seconds=seconds: try_interrupt(ondine, folders, seconds)))
    big = ("--width", "128", "--height", "128")
    for name, flags in (("picture", ("--output", "disk/x.png", *big)), ("dump", ("--dump", "disk/d.safetensors"))):
        checks.append((f"disk full, {name}", lambda name=name, flags=flags: try_full_disk(ondine, folders, name, flags)))
    results = [check() for name, check in checks if arguments.only in name]
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
