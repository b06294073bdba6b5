"""Use Ondine as people do, in surroundings that are against it, and check what comes of it.

    python surroundings.py --ondine BIN [--only WORDS]

Every case runs the program in a folder of its own, with a cache of its own. Whatever a case asks for besides, a run must not
panic or end by a signal that nobody sent, an error is one line that begins `error:`, and nothing may be left behind that the
case does not name. Needs nothing but Python; cases that need root, or a file system that can be mounted, say so where
they cannot have it. Exits 1 when any case misses.
"""
import argparse
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import surroundings_files  # noqa: F401, its cases register themselves
import surroundings_habits  # noqa: F401
from surroundings_place import CASES, Missed, Place, Skipped, case, check, ignoring, limit, model


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


# ---- 9. Signals ---------------------------------------------------------------------------------------------------

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
