"""Use Ondine as people do, in surroundings that are against it, and check what comes of it.

    python surroundings.py --ondine BIN [--only WORDS]

Every case runs the program in a folder of its own, with a cache of its own. Whatever a case asks for besides, a run must not
panic or end by a signal that nobody sent, an error is one line that begins `error:`, and nothing may be left behind that the
case does not name. Needs nothing but Python; cases that need root, or a file system that can be mounted, say so where
they cannot have it. Exits 1 when any case misses.
"""
import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CRASH = ("panicked", "RUST_BACKTRACE", "stack overflow", "memory allocation of", "core dumped", "Aborted")
TRACED = Path(__file__).resolve().parents[2] / "crates/ondine/tests/data"
SECONDS = 120
CASES = []


class Missed(Exception):
    """What a case found wrong."""


class Skipped(Exception):
    """What a case could not have here."""


def case(function):
    """Registers a case; its docstring's first line is its name."""
    CASES.append(function)
    return function


def check(holds, what):
    """Misses the case unless the fact holds."""
    if not holds:
        raise Missed(what)


class Answer:
    """What came of a run."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err.decode(errors="replace")
        self.lines = self.err.splitlines()

    def fails(self, code, *words):
        """The run must have failed with this code and one line that holds the words."""
        check(self.code == code, f"exit {self.code} instead of {code}: {self.err[:300]!r}")
        check(len(self.lines) == 1 and self.err.startswith("error: "), f"no single line: {self.err[:300]!r}")
        for word in words:
            check(word in self.err, f"no `{word}` in {self.err[:300]!r}")
        return self

    def works(self, *words):
        """The run must have worked, and said the words on standard error."""
        check(self.code == 0, f"exit {self.code}: {self.err[:300]!r}")
        for word in words:
            check(word in self.err, f"no `{word}` in {self.err[:300]!r}")
        return self

    def json(self):
        """The object on standard output."""
        self.works()
        return json.loads(self.out)


class Place:
    """A folder to run in."""

    def __init__(self, ondine, root):
        self.ondine, self.root, self.expected = ondine, root, set()
        self.cache = root.parent / "cache"
        # Every case has the packed weights of the built-in model, as a second start does.
        (root.parent / "models").mkdir()
        self.environment = dict(os.environ, ONDINE_CACHE=str(self.cache), ONDINE_MODELS=str(root.parent / "models"),
                                RUST_BACKTRACE="0", LC_ALL="C.UTF-8")

    def start(self, *words, before=None, **options):
        """Begins a run."""
        options = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) | options
        return subprocess.Popen([self.ondine, *map(os.fspath, words)], cwd=self.root, env=self.environment,
                                preexec_fn=before, **options)

    def end(self, process, data=None, seconds=SECONDS, sent=()):
        """Waits for a run; signals that were sent may end it."""
        try:
            out, err = process.communicate(data, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Missed(f"still running after {seconds} s") from None
        answer = Answer(process.returncode, out or b"", err or b"")
        for word in CRASH:
            check(word not in answer.err, f"crash text: {answer.err[:300]!r}")
        check(answer.code >= 0 or -answer.code in sent, f"ended by signal {-answer.code}")
        return answer

    def run(self, *words, data=None, before=None, **options):
        """Runs the program to its end."""
        if data is not None:
            options["stdin"] = subprocess.PIPE
        return self.end(self.start(*words, before=before, **options), data)

    def draw(self, *words, **options):
        """A quick picture."""
        return self.run("draw", "a red heart", "--steps", "1", *words, **options)

    def at(self, name, expected=True):
        """A path in the folder; what is expected may be left behind."""
        if expected:
            self.expected.add(name.split("/")[0])
        return self.root / name

    def left(self):
        """What is left that nobody expects."""
        return sorted(set(os.listdir(self.root)) - self.expected)


def picture_format(data):
    """What kind of picture the bytes are."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82"):
        return "png"
    if data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and struct.unpack("<I", data[4:8])[0] + 8 == len(data):
        return "webp"
    return "nothing"


def safetensors(**tensors):
    """The bytes of a safetensors file of f32 vectors."""
    header, data = {}, b""
    for name, values in tensors.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = dict(dtype="F32", shape=[len(values)], data_offsets=[len(data), len(data) + len(part)])
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(path):
    """The header and the data of a safetensors file."""
    data = Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def flip(path, at):
    """Alters one bit of a file in place, without a trace in its time of change."""
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def weights_place(path):
    """Where in an archive or a file of tensors the largest run of stored weights has its middle."""
    import zipfile
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entry = max((e for e in archive.infolist() if "/data/weights/weight" in e.filename), key=lambda e: e.file_size)
        return entry.header_offset + entry.file_size // 2 + 64 + len(entry.filename) + 30
    return os.path.getsize(path) * 2 // 3


def limit(kind, most):
    """What a child does first: it may have no more of a resource than this."""
    return lambda: resource.setrlimit(kind, (most, most))


def ignoring(number):
    """What a child does first: it ignores a signal, as under `nohup`."""
    return lambda: signal.signal(number, signal.SIG_IGN)


def model(place):
    """A small network with inputs, and what PyTorch computed of it."""
    for name in ("traced.pt2", "traced.nodes.safetensors", "traced.modules.safetensors"):
        shutil.copy(TRACED / name, place.at(name))
    return "traced.pt2"


# ---- 1. Writing ---------------------------------------------------------------------------------------------------

def device(place):
    """A device that swallows everything: one of our own, if that is allowed."""
    path = place.at("null")
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        return path
    except PermissionError:
        return Path("/dev/null")


WRITERS = [
    ("draw -o", ["draw", "cat", "--steps", "1", "--quiet", "-o"]),
    ("draw --dump", ["draw", "cat", "--steps", "1", "--quiet", "-o", "x.png", "--dump"]),
    ("run --outputs", ["run", "traced.pt2", "--inputs", "inputs.safetensors", "--outputs"]),
    ("compare --dump", ["compare", "traced.pt2", "--dump"]),
    ("profile --html", ["profile", "traced.pt2", "--repeat", "1", "--html"]),
    ("profile --trace", ["profile", "traced.pt2", "--repeat", "1", "--trace"]),
    ("build -o", ["build", "traced.pt2", "-o"]),
]


def inputs(place):
    """The inputs of the small network, out of its reference."""
    model(place)
    place.at("x.png")
    names = {name.split(":")[0] for facts in place.run("inspect", "traced.pt2", "--json").json()["functions"].values()
             for name in facts["inputs"]}
    header, data = read_safetensors(place.root / "traced.nodes.safetensors")
    kept, stored = {}, b""
    for name in names:
        start, end = header[name]["data_offsets"]
        kept[name] = header[name] | dict(data_offsets=[len(stored), len(stored) + end - start])
        stored += data[start:end]
    text = json.dumps(kept).encode()
    place.at("inputs.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + stored)


@case
def devices(place):
    """what is written to a device goes through it"""
    inputs(place)
    path = device(place)
    for name, words in WRITERS:
        place.run(*words, path).works()
        check(stat.S_ISCHR(os.stat(path).st_mode), f"{name}: no device any more")


@case
def pipes(place):
    """what is written to a named pipe arrives at its reader"""
    inputs(place)
    path = place.at("pipe")
    os.mkfifo(path)
    for name, words in WRITERS:
        got = []
        reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
        reader.start()
        place.run(*words, path).works()
        reader.join(10)
        check(stat.S_ISFIFO(os.stat(path).st_mode), f"{name}: no pipe any more")
        check(got and len(got[0]) > 100, f"{name}: nothing arrived")


@case
def links(place):
    """links are followed, and the file behind keeps its permissions"""
    inputs(place)
    place.at("inner").mkdir()
    for index, (name, words) in enumerate(WRITERS):
        target, link = place.at(f"inner/{index}"), place.at(f"link{index}")
        link.symlink_to(f"inner/{index}")
        place.run(*words, link).works()
        check(link.is_symlink() and target.is_file(), f"{name}: a link that led to nothing yet")
        target.write_text("older")
        target.chmod(0o640)
        place.run(*words, link).works()
        check(link.is_symlink() and target.stat().st_size > 100, f"{name}: a link to a file")
        check(target.stat().st_mode & 0o777 == 0o640, f"{name}: other permissions")


@case
def folders_behind_links(place):
    """a folder that is imported to a link goes where the link leads"""
    model(place)
    place.at("link").symlink_to("real.ondine")
    place.at("real.ondine")
    for _ in range(2):
        place.run("import", "traced.pt2", "-o", "link").works()
        check((place.root / "link").is_symlink() and (place.root / "real.ondine/manifest.json").is_file(), "the link")
    place.run("draw", "cat", "-o", "real.ondine").fails(1, "is a folder")


@case
def failures_keep_what_was_there(place):
    """a run that fails leaves the older file as it was"""
    place.at("x.png").write_text("older")
    place.draw("-o", "x.png", "--sampler", "foo").fails(2, "foo")
    place.draw("-o", "x.png", "--model", "nowhere").fails(1, "nowhere")
    check(place.at("x.png").read_text() == "older", "the older file")


# ---- 2. Altered files ---------------------------------------------------------------------------------------------

@case
def altered_archive(place):
    """an archive with one other bit is refused when its weights are packed, and by check"""
    inputs(place)
    good = place.run("run", "traced.pt2", "--inputs", "inputs.safetensors", "--outputs", place.at("a.safetensors")).works()
    check(good.code == 0, "the unaltered archive")
    place.run("check", "traced.pt2").works()
    flip(place.root / "traced.pt2", weights_place(place.root / "traced.pt2"))
    words = ("the bytes are not those that were written", "data/weights/weight")
    os.utime(place.root / "traced.pt2")
    for arguments in (["run", "traced.pt2", "--inputs", "inputs.safetensors", "--no-cache"],
                      ["run", "traced.pt2", "--inputs", "inputs.safetensors"],
                      ["import", "traced.pt2"], ["build", "traced.pt2", "-o", "b"], ["compress", "traced.pt2", "-o", "c"],
                      ["check", "traced.pt2"]):
        place.run(*arguments).fails(1, *words)


@case
def altered_program(place):
    """an archive whose program has one other bit is refused when it is opened"""
    model(place)
    data = (place.root / "traced.pt2").read_bytes()
    flip(place.root / "traced.pt2", data.index(b"nn_module_stack") + 3)
    place.run("inspect", "traced.pt2").fails(1, "the bytes are not those that were written")


@case
def altered_folder(place):
    """an imported folder with one other bit in any file is refused"""
    inputs(place)
    place.run("import", "traced.pt2", "-o", place.at("m.ondine")).works()
    place.run("check", "m.ondine").works()
    for name in ("weights.safetensors", "graph.json", "constants.safetensors"):
        shutil.copytree(place.root / "m.ondine", place.at("n.ondine"), dirs_exist_ok=True)
        flip(place.root / "n.ondine" / name, weights_place(place.root / "n.ondine" / name))
        place.run("run", "n.ondine", "--inputs", "inputs.safetensors", "--no-cache").fails(1, name)
        place.run("check", "n.ondine").fails(1, name)


@case
def altered_built_file(place):
    """a built file is checked at its front by every start, and whole by check"""
    inputs(place)
    place.run("build", "traced.pt2", "-o", place.at("m.built")).works()
    place.run("check", "m.built").works()
    shutil.copy(place.root / "m.built", place.at("n.built"))
    flip(place.root / "n.built", 200)
    place.run("run", "n.built", "--inputs", "inputs.safetensors").fails(1, "cut or altered")
    flip(place.root / "m.built", os.path.getsize(place.root / "m.built") - 200)
    place.run("check", "m.built").fails(1, "not those that were written")


@case
def altered_cache(place):
    """an altered entry of the cache is found and removed by `cache check`"""
    inputs(place)
    place.run("run", "traced.pt2", "--inputs", "inputs.safetensors").works()
    entry, = (place.cache / "specialized").glob("*.packed")
    place.run("cache", "check").works()
    flip(entry, entry.stat().st_size - 200)
    answer = place.run("cache", "check").works("not those that were written")
    check(b"1 removed" in answer.out and not entry.exists(), "it is still there")


# ---- 5. Memory ----------------------------------------------------------------------------------------------------

@case
def short_memory(place):
    """too little address space is a line, at whatever limit it is noticed"""
    place.draw("--quiet", "-o", place.at("x.png")).works()
    refused = 0
    # Below its own size and that of the libraries it stands on, the system does not even start the program.
    least = os.path.getsize(place.ondine) // 1024 + 12_000
    for kilobytes in [*range(least, least + 200_000, 8_000), *range(least + 220_000, 800_000, 60_000)]:
        answer = place.draw("--quiet", "-o", "x.png", before=limit(resource.RLIMIT_AS, kilobytes * 1024))
        if answer.code != 0:
            refused += 1
            try:
                answer.fails(1)
            except Missed as missed:
                raise Missed(f"at {kilobytes} kB: {missed}") from None
    check(refused > 0, "no limit was too low")


@case
def short_memory_for_networks(place):
    """the same for building, compressing, importing and profiling"""
    model(place)
    for words in (["build", "genmoji/unet", "-o", "b"], ["compress", "genmoji/text_encoder", "-o", "c"],
                  ["profile", "genmoji/vae", "--repeat", "1", "--function", "decode"], ["import", "traced.pt2", "-o", "d"]):
        for more in (12_000, 30_000, 60_000, 100_000, 170_000, 260_000):
            kilobytes = os.path.getsize(place.ondine) // 1024 + more
            answer = place.run(*words, before=limit(resource.RLIMIT_AS, kilobytes * 1024))
            if answer.code != 0:
                try:
                    answer.fails(1)
                except Missed as missed:
                    raise Missed(f"{words[0]} at {kilobytes} kB: {missed}") from None
            for name in ("b", "c", "d"):
                path = place.root / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@case
def few_threads(place):
    """where no thread can be had, one is enough"""
    def alone():
        if os.geteuid() == 0:
            os.setuid(65534)  # root is not held to a number of threads
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    for folder in (place.root, place.root.parent):
        folder.chmod(0o777)
    if not os.access(place.ondine, os.X_OK) or os.geteuid() == 0 and any(
            not folder.stat().st_mode & 0o001 for folder in place.ondine.parents):
        raise Skipped("another user cannot reach the program")
    place.draw("--quiet", "-o", place.at("x.png"), "--threads", "64", before=alone).works()


@case
def promised_memory(place):
    """a picture stays within --memory, the whole process"""
    place.draw("--quiet", "-o", place.at("x.png")).works()
    least = None
    for megabytes in range(60, 400, 10):
        answer = place.draw("--json", "-o", "x.png", "--memory", f"{megabytes}MB")
        if answer.code == 0:
            least = megabytes
            peak = answer.json()["peak_rss_bytes"]
            check(peak <= megabytes * 1e6, f"--memory {megabytes}MB ran at {peak / 1e6:.0f} MB")
            break
        answer.fails(1, "--memory")
    check(least is not None, "no limit was enough")


# ---- 6. Exit codes ------------------------------------------------------------------------------------------------

@case
def usage(place):
    """values that cannot be are exit code 2, whoever notices"""
    model(place)
    for words, word in [
        (["draw", "cat", "--steps", "0"], "steps"), (["draw", "cat", "-W", "100"], "100"), (["draw", "cat", "--count", "0"], "count"),
        (["draw", "cat", "--sampler", "foo"], "foo"), (["draw", "cat", "--schedule", "foo"], "foo"), (["draw", "cat", "--rng", "foo"], "foo"),
        (["draw", "cat", "--guidance", "nan"], "guidance"), (["draw", "cat", "--eta", "7"], "eta"), (["draw", "cat", "-H", "0"], "height"),
        (["draw", "cat", "--seed", "x"], "seed"), (["draw", "cat", "--seed", "-2"], "seed"), (["draw", "cat", "--memory", "many"], "memory"),
        (["draw", "cat", "--threads", "0"], "threads"), (["draw", "cat", "--threads", "10000000"], "threads"),
        (["draw", "cat", "--precision", "f7"], "precision"), (["draw", "cat", "-o", "x.gif"], ".gif"), (["draw"], "PROMPT"),
        (["draw", "c" * 20_000], "prompt"), (["draw", "cat", "--nonsense"], "nonsense"), (["nonsense"], "nonsense"),
        (["run", "traced.pt2", "--function", "foo"], "foo"), (["run", "traced.pt2", "--input", "x"], "NAME=FILE"),
        (["run", "traced.pt2", "--repeat", "0"], "repeat"), (["profile", "traced.pt2", "--size", "x"], "NAME=N"),
        (["profile", "traced.pt2", "--size", "nope=3"], "nope"), (["compare", "traced.pt2"], "nothing to do"),
        (["compare", "traced.pt2", "--against", "cpu=foo"], "foo"), (["compare", "traced.pt2", "--nonfinite", "--rtol", "nan"], "rtol"),
        (["compress", "traced.pt2", "-o", "c", "--psnr", "-3"], "psnr"), (["build", "traced.pt2", "-o", "b", "--cpu", "foo"], "foo"),
        (["bench", "nothing"], "nothing"), (["cache", "clear", "zz"], "zz"), (["cache", "limit", "x"], "x"),
    ]:
        try:
            place.run(*words).fails(2, word)
        except Missed as missed:
            raise Missed(f"{' '.join(words)[:60]}: {missed}") from None


@case
def helpful_refusals(place):
    """a mistyped option is answered with the right one, and with the help of its own command"""
    place.run("draw", "cat", "--stpes", "3").fails(2, "--steps", "see `ondine draw --help`")
    place.run("cache", "limt").fails(2, "limit", "see `ondine cache --help`")
    place.run("cache", "limit", "--nope").fails(2, "see `ondine cache limit --help`")
    place.run("drwa", "cat").fails(2, "draw", "see `ondine --help`")


@case
def signals(place):
    """Ctrl-C is 130 and TERM 143, soon, also in the middle of a long operator; a second one ends at once"""
    place.draw("--quiet", "-o", place.at("x.png")).works()
    os.unlink(place.root / "x.png")
    small = ["draw", "a cat", "--steps", "1000", "--quiet", "-o", "x.png", "--dump", "d.safetensors"]
    large = [*small, "--width", "1024", "--height", "1024"]
    for words in (small, large):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = place.start(*words)
            time.sleep(1.5)
            process.send_signal(number)
            began = time.monotonic()
            place.end(process).fails(code, "stopped by")
            took = time.monotonic() - began
            check(took < 3, f"{took:.1f} s to stop")
    process = place.start(*large)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    place.end(process).fails(143)
    check(time.monotonic() - began < 1, "the second signal waited")
    check("SIGTERM stop" in place.run("draw", "--help").out.decode(), "the help does not say so")


@case
def signals_elsewhere(place):
    """the same for commands that write large files; nothing half-written stays"""
    for words in (["build", "genmoji/unet", "-o", "unet.built"], ["import", "genmoji/unet", "-o", "unet.ondine"],
                  ["compress", "genmoji/unet", "-o", "c.ondine"], ["profile", "genmoji/unet", "--repeat", "10000"]):
        for delay in (0.1, 0.3):
            process = place.start(*words)
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            answer = place.end(process, sent=(signal.SIGTERM,))
            check(answer.code in (0, 143, -signal.SIGTERM), f"{words[0]}: exit {answer.code}: {answer.err[:200]}")
            check([name for name in place.left() if name.endswith("part")] == [], f"{words[0]} left {place.left()}")
            for name in ("unet.built", "unet.ondine", "c.ondine"):
                path = place.root / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# ---- 7. Comparing -------------------------------------------------------------------------------------------------

@case
def comparing(place):
    """a folder can be run as written, and what the model does not have is an error"""
    model(place)
    place.run("import", "traced.pt2", "-o", place.at("m.ondine")).works()
    place.run("compare", "m.ondine", "--reference", "traced.nodes.safetensors", "--as-written").works()
    place.run("compare", "traced.pt2", "--reference", "traced.nodes.safetensors").works()
    place.run("compare", "traced.pt2", "--reference", "traced.modules.safetensors", "--as-written").works()
    header, data = read_safetensors(place.root / "traced.nodes.safetensors")
    for name in ("stranger", "layers.9.attention"):
        more = header | {name: dict(dtype="F32", shape=[2], data_offsets=[len(data), len(data) + 8])}
        text = json.dumps(more).encode()
        place.at("more.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data + struct.pack("<2f", 1.25, 2.5))
        for words in ([], ["--as-written"]):
            answer = place.run("compare", "traced.pt2", "--reference", "more.safetensors", *words)
            check(answer.code == 1 and name in answer.lines[-1], f"{name}: exit {answer.code}, {answer.err[:200]!r}")
    nothing = place.run("compare", "genmoji/text_encoder", "--as-written", "--nonfinite")
    check(nothing.code == 0 and b"finite" in nothing.out, f"a built-in network as written: {nothing.err[:200]!r}")


@case
def nonfinite(place):
    """`compare --nonfinite` that finds something is exit code 1"""
    inputs(place)
    place.run("compare", "traced.pt2", "--nonfinite").works()
    header, data = read_safetensors(place.root / "inputs.safetensors")
    place.run("import", "traced.pt2", "-o", place.at("m.ondine")).works()
    weights = place.root / "m.ondine/weights.safetensors"
    data = weights.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8:8 + size])
    name = next(name for name, facts in entries.items() if facts["dtype"] == "F32" and not name.startswith("#"))
    start = 8 + size + entries[name]["data_offsets"][0]
    weights.write_bytes(data[:start] + struct.pack("<f", float("nan")) + data[start + 4:])
    # Without the sum, which would refuse the file.
    manifest = json.loads((place.root / "m.ondine/manifest.json").read_text())
    manifest.pop("weights")
    (place.root / "m.ondine/manifest.json").write_text(json.dumps(manifest))
    answer = place.run("compare", "m.ondine", "--nonfinite").fails(1, "stop being finite")
    check(name.encode() in answer.out, "the weight is not named")


# ---- 8. Names -----------------------------------------------------------------------------------------------------

def obeyed(text):
    """What a terminal would obey in the output."""
    return sorted(set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)))


@case
def escape_codes(place):
    """nothing that a file or a folder is called reaches the terminal as a command"""
    evil = "w\x1b[31m\x9b2J\u202e\rx\ny"
    place.at("e.safetensors").write_bytes(safetensors(**{evil: [1.0, 2.0]}))
    (place.root.parent / "models" / "m\x1b[2J").mkdir()
    (place.root.parent / "models" / "m\x1b[2J" / "model_index.json").write_text("{}")
    for words in (["inspect", "e.safetensors"], ["inspect", "e.safetensors", "--json"], ["models", "list"], ["models", "list", "--json"],
                  ["draw", "x", "--model", evil], ["draw", "x", "--sampler", evil], ["draw", "x", f"--{evil}"], [evil],
                  ["inspect", evil], ["draw", "x", "--model", "m\x1b[2J"], ["run", "e.safetensors"], ["check", evil]):
        answer = place.run(*words)
        text = answer.out.decode() + answer.err
        check(not obeyed(text), f"{words[:2]}: {obeyed(text)} in {text[:200]!r}")
        if "--json" in words:
            names = json.dumps(json.loads(answer.out))
            check("\\u001b" in names, "the name is lost")


@case
def names_of_models(place):
    """pictures say which model drew them, and not where it lies"""
    check(place.draw("--json", "-o", place.at("x.png")).json()["model"] == "genmoji", "the built-in model")
    text = place.at("x.png").read_bytes()
    check(b"Model: genmoji," in text, "the metadata")


# ---- 9. Hang-ups --------------------------------------------------------------------------------------------------

@case
def hang_ups(place):
    """under nohup, a hang-up changes nothing"""
    place.draw("--quiet", "-o", place.at("x.png")).works()
    process = place.start("draw", "cat", "--steps", "40", "--quiet", "-o", "x.png", before=ignoring(signal.SIGHUP))
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    place.end(process).works()
    process = place.start("draw", "cat", "--steps", "1000", "--quiet", "-o", "x.png")
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    check(place.end(process, sent=(signal.SIGHUP,)).code == -signal.SIGHUP, "without nohup it ends the process")


# ---- 10. Disks ----------------------------------------------------------------------------------------------------

@case
def killed(place):
    """what SIGKILL leaves in the cache goes with `cache clear`, and with it all of the cache"""
    for delay in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
        shutil.rmtree(place.cache, ignore_errors=True)
        process = place.start("draw", "cat", "--steps", "1", "--quiet", "-o", "x.png")
        time.sleep(delay)
        process.kill()
        place.end(process, sent=(signal.SIGKILL,))
        place.at("x.png").unlink(missing_ok=True)
        if place.cache.exists():
            (place.cache / "specialized").mkdir(exist_ok=True)
            (place.cache / "specialized/.left.1-0.part").write_text("x")
            place.run("cache", "clear").works()
        check(not place.cache.exists(), f"left {[str(path) for path in place.cache.rglob('*')]}")


@case
def small_files(place):
    """a limit on the size of files is a line, and the cache goes without"""
    place.draw("--quiet", "-o", place.at("x.png")).works()
    place.run("build", "genmoji/vae", "-o", "vae.built", before=limit(resource.RLIMIT_FSIZE, 500_000)).fails(1, "vae.built")
    place.draw("--quiet", "-o", "x.png", before=limit(resource.RLIMIT_FSIZE, 500)).fails(1, "x.png")
    shutil.rmtree(place.cache)
    place.draw("--quiet", "-o", "x.png", before=limit(resource.RLIMIT_FSIZE, 500_000)).works()


@case
def full_disk(place):
    """a full disk is a line, and nothing stays on it"""
    disk = place.at("disk")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        raise Skipped("mounting is not allowed")
    try:
        for words in (["draw", "cat", "--steps", "1", "-q", "-o", "disk/x.png", "-W", "256", "-H", "256"],
                      ["draw", "cat", "--steps", "1", "-q", "-o", place.at("y.png"), "--dump", "disk/d.safetensors"],
                      ["build", "genmoji/vae", "-o", "disk/vae.built"], ["import", "genmoji/vae", "-o", "disk/vae.ondine"]):
            place.run(*words).fails(1, "disk/")
            check(os.listdir(disk) == [], f"{words[0]} left {os.listdir(disk)}")
        place.environment["ONDINE_CACHE"] = str(disk)
        place.draw("--quiet", "-o", "y.png").works()
        if shutil.which("chattr") is None:
            return
    finally:
        subprocess.run(["umount", disk], check=True)


@case
def cut_files(place):
    """a mapped file that is cut while it is read is a line that names it"""
    place.run("build", "genmoji/unet", "-o", place.at("unet.built")).works()
    process = place.start("profile", "unet.built", "--repeat", "100000")
    time.sleep(4)
    os.truncate(place.root / "unet.built", 4096)
    place.end(process).fails(1, "unet.built", "cut")


@case
def read_only(place):
    """a folder that cannot be written is found out before anything is drawn"""
    if os.geteuid() == 0:
        began = time.monotonic()
        place.run("draw", "cat", "--steps", "1000", "-o", "/proc/x.png").fails(1, "/proc")
        return check(time.monotonic() - began < 5, "it drew first")
    folder = place.at("closed")
    folder.mkdir(mode=0o500)
    return place.run("draw", "cat", "--steps", "1000", "-o", "closed/x.png").fails(1, "closed")


# ---- 11. Drawing --------------------------------------------------------------------------------------------------

@case
def formats(place):
    """a picture is what its name says, or is refused"""
    for name, kind in (("a.png", "png"), ("a.jpg", "jpeg"), ("a.JPEG", "jpeg"), ("a.webp", "webp"), ("plain", "png")):
        place.draw("--quiet", "-o", place.at(name)).works()
        data = place.at(name).read_bytes()
        check(picture_format(data) == kind, f"{name} is {picture_format(data)}")
        text = "Steps: 1"
        check(any(text.encode(code) in data for code in ("latin-1", "utf-16-be")), f"{name} does not say how it was made")
        place.draw("--quiet", "--no-metadata", "-o", place.at(name)).works()
        data = place.at(name).read_bytes()
        check(not any(text.encode(code) in data for code in ("latin-1", "utf-16-be")), f"{name} says how it was made")
    for name in ("a.gif", "a.bmp", "a.tiff", "a.avif"):
        place.draw("-o", name).fails(2, ".png, .jpg or .webp")


@case
def streams(place):
    """`-o -` is standard output, and the prompt `-` standard input"""
    answer = place.run("draw", "-", "--steps", "1", "-o", "-", data="a red heart\n".encode()).works()
    check(picture_format(answer.out) == "png" and b"a red heart" in answer.out, "the picture on standard output")
    answer = place.draw("-o", "/dev/stdout", "--quiet").works()
    check(picture_format(answer.out) == "png" and answer.err == "", "/dev/stdout")
    place.draw("-o", "-", "--count", "2").fails(2, "one picture")
    place.draw("-o", "-", "--json").fails(2, "--json")
    reader, writer = os.pipe()
    os.close(reader)
    place.draw("-o", "-", "--quiet", stdout=writer).works()
    os.close(writer)
    place.run("draw", "-", "--steps", "1", data=b"\xff\xfe").fails(1, "standard input")


@case
def seeds(place):
    """the same request draws the same picture; --seed -1 another one each time, and says its seed"""
    place.at("x.png")
    same = {place.draw("-o", "-", "--quiet").out for _ in range(2)}
    check(len(same) == 1, "two pictures of one request")
    random = [place.draw("--json", "-o", "x.png", "--seed", "-1").json()["seed"] for _ in range(2)]
    check(random[0] != random[1], f"the seeds {random}")
    check(f"Seed: {random[1]}," in place.at("x.png").read_bytes().decode("latin-1"), "the metadata")
    again = place.draw("-o", "-", "--quiet", "--seed", str(random[1])).out
    check(again == place.at("x.png").read_bytes(), "drawn again by its seed")
    place.draw("-o", "x.png", "--seed", "7").works("seed 7")


@case
def second_drawings(place):
    """a second drawing never overwrites the first without a word"""
    for name in ("ondine.png", "ondine-2.png", "ondine-3.png"):
        answer = place.draw()
        check(answer.works().out.decode().strip() == name, f"{answer.out} instead of {name}")
        place.at(name)
    first = (place.root / "ondine.png").read_bytes()
    names = place.draw("--count", "2", "--seed", "9").works().out.decode().split()
    check(len(set(names) - {"ondine.png", "ondine-2.png", "ondine-3.png"}) == 2, f"{names}")
    for name in names:
        place.at(name)
    check((place.root / "ondine.png").read_bytes() == first, "the first is another")
    together = [place.start("draw", "cat", "--steps", "1") for _ in range(4)]
    names = [place.end(process).works().out.decode().strip() for process in together]
    check(len(set(names)) == 4, f"four at a time wrote {names}")
    for name in names:
        place.at(name)
    place.draw("-o", place.at("x.png")).works()
    place.draw("-o", "x.png").works("x.png", "replaced")


@case
def facts(place):
    """--json says what was asked for and what was chosen"""
    facts = place.draw("--negative", "blue", "--count", "2", "--seed", "5", "-o", place.at("x.png"), "--json").json()
    place.at("x-1.png"), place.at("x-2.png")
    for key, value in dict(prompt="a red heart", negative="blue", model="genmoji", size=[128, 128], width=128, height=128, steps=1,
                           guidance=2, seed=5, seeds=[5, 6], file="x-1.png", files=["x-1.png", "x-2.png"]).items():
        found = facts.get(key)
        found = [Path(f).name for f in found] if key == "files" else Path(found).name if key == "file" else found
        check(found == value, f"{key} is {facts.get(key)!r}")
    check(isinstance(facts["sampler"], str), "the sampler")


@case
def warnings(place):
    """what will not come out as expected is said in a line"""
    place.at("x.png")
    for words, word in [
        (["a cat", "-W", "256", "-H", "256"], "made for 128x128"), (["a cat", "-W", "64", "-H", "64"], "made for 128x128"),
        (["qzxv wqrt"], "knows no word"), (["a (cat:1.3)"], "(cat:1.3)"), (["a [cat]"], "[cat]"), (["a cat BREAK dog"], "BREAK"),
        (["cat <lora:x:1>"], "<lora:x:1>"), (["((cat))"], "((cat))"),
    ]:
        answer = place.run("draw", *words, "--steps", "1", "-o", "x.png").works(word)
        check(sum("warning:" in line for line in answer.lines) == 1, f"{words}: {answer.lines}")
    for words in (["a cat (smiling), 1:1"], ["a cat"], ["🐈"], ["😀🐈"]):
        answer = place.run("draw", *words, "--steps", "1", "-o", "x.png").works()
        check("warning" not in answer.err, f"{words}: {answer.lines}")
    place.run("draw", "ꙮꙮ", "--steps", "1").fails(1, "knows no word")


@case
def emoji(place):
    """an emoji in a prompt is its own name"""
    def picture(prompt):
        return place.run("draw", prompt, "--steps", "2", "--no-metadata", "-q", "-o", "-").works().out
    check(picture("🐈") == picture("cat") != picture("dog"), "🐈 is no cat")
    check(picture("a 🚀") == picture("a rocket"), "🚀 is no rocket")


# ---- Running ------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def scratch(ondine):
    """A place to run in."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "here"
        root.mkdir()
        yield Place(ondine, root)


def attempt(ondine, function):
    """Runs a case and prints its row; yields whether it holds, or None where it cannot be tried."""
    name, began = f"{function.__name__}: {function.__doc__.splitlines()[0]}", time.monotonic()
    try:
        with scratch(ondine) as place:
            function(place)
            left = place.left()
            check(not left, f"left {left}")
        mark, note, holds = "ok  ", "", True
    except Missed as missed:
        mark, note, holds = "MISS", f"\n       {missed}", False
    except Skipped as skipped:
        mark, note, holds = "skip", f"\n       {skipped}", None
    print(f"{mark} {time.monotonic() - began:6.1f} s  {name}{note}", flush=True)
    return holds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True, help="the ondine binary")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    # A Ctrl-C that is sent to a case must not be one that this process was told to ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = [function for function in CASES if arguments.only in f"{function.__name__}: {function.__doc__}"]
    results = [attempt(arguments.ondine.resolve(), function) for function in chosen]
    tried = [holds for holds in results if holds is not None]
    skipped = f", {len(results) - len(tried)} could not be tried" if len(tried) < len(results) else ""
    print(f"{sum(tried)} of {len(tried)} hold{skipped}")
    sys.exit(0 if tried and all(tried) else 1)


if __name__ == "__main__":
    main()
