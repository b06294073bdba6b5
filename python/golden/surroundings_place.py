"""What the cases of `surroundings.py` stand on: a folder to run Ondine in, and what must hold of every run."""
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import zipfile
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
