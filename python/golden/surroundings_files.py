"""Cases of `surroundings.py`: what is written and where to, and files that are not as they were written."""
import os
import shutil
import stat
import struct
import threading
from pathlib import Path

from surroundings_place import case, check, flip, inputs, model, weights_place


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
