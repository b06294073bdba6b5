"""Runs `ondine bench` and its peers on the same work, in turn, in one session, and prints the ratios as Markdown.

    python compare.py --ondine target/release/ondine --folder DIR
    python compare.py unet-sd15 picture-sd15 --precision int8 --rounds 5 --ondine BIN --folder DIR
    python compare.py unet-sd15 --tier avx2 --ondine BIN --folder DIR

Each round runs everything once, in a process of its own, so that a slow minute of the machine meets all of them; the
table shows medians over the rounds. A ratio above 1 says how many times faster Ondine is than the peer in that column.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from measure import convert

HERE = Path(__file__).parent
NETWORKS = [
    "unet-sd15", "vae-sd", "taesd", "clip-l", "unet-sdxl", "flux-blocks", "z-image-blocks", "upscaler", "upscaler-dense",
]  # fmt: skip
DEFAULT = ["unet-sd15", "vae-sd", "taesd", "clip-l", "picture-sd15"]
PEERS = ["openvino f32", "openvino bf16", "openvino int8", "torch f32", "torch bf16"]
# Works that a peer has at int8: quantizing takes long, and only the U-Net is worth it.
QUANTIZED = ["unet-sd15", "picture-sd15"]
# What the picture peer is made of.
PARTS = ["clip-l", "unet-sd15", "taesd"]


def peers_of(work, options):
    """The peers that have a work."""
    chosen = [peer for peer in options.peers if not peer.endswith("int8") or work in QUANTIZED]
    if work in NETWORKS:
        return [peer for peer in chosen if not (options.tier and peer == "torch bf16")]
    return [peer for peer in chosen if work == "picture-sd15" and peer.startswith("openvino")]


def ondine(work, precision, options):
    """One result of `ondine bench`."""
    command = [options.ondine, "bench", work, "--precision", precision, "--threads", str(options.threads)]
    command += ["--repeat", str(options.repeat), "--json"]
    environment = os.environ | ({"ONDINE_CPU": options.tier} if options.tier else {})
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(output.stdout)


def common(options):
    words = ["--threads", str(options.threads), "--folder", str(options.folder)]
    return words + (["--tier", options.tier] if options.tier else [])


def network(work, peer, options):
    """One result of a peer."""
    name, precision = peer.split()
    command = [sys.executable, str(HERE / "measure.py"), name, work, precision, "--repeat", str(options.repeat)]
    output = subprocess.run(command + common(options), check=True, capture_output=True, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def picture(peer, options):
    """The picture of a peer: one start that fills its cache, then as many as are asked for, timed from outside."""
    command = [sys.executable, str(HERE / "picture.py"), peer.split()[1], *common(options)]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--output", str(Path(folder) / "picture.png")]
        times, memory = [], 0
        for _ in range(options.repeat + 1):
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{' '.join(command)} failed")
            times.append(time.perf_counter() - start)
            memory = max(memory, usage.ru_maxrss * 1024)
    return {"median_s": statistics.median(times[1:]), "first_start_s": times[0], "peak_rss_bytes": memory}


def prepare(options):
    """Converts what peers need before anything is timed."""
    for work in options.works:
        needed = PARTS if work == "picture-sd15" else [work] if work in NETWORKS else []
        peers = peers_of(work, options)
        for part in needed if any(peer.startswith("openvino") for peer in peers) else []:
            convert(part, False, options.folder)
        if "openvino int8" in peers:
            convert("unet-sd15", True, options.folder)


def measure(options):
    """All results: by work, then by who made them."""
    results = defaultdict(lambda: defaultdict(list))
    for number in range(options.rounds):
        for work in options.works:
            for precision in options.precisions:
                results[work][f"ondine {precision}"].append(ondine(work, precision, options))
            for peer in peers_of(work, options):
                result = network(work, peer, options) if work in NETWORKS else picture(peer, options)
                results[work][peer].append(result)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return results


def median(runs, key):
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def shown(seconds):
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.2f} s"


def print_table(results, options):
    columns = [peer for peer in options.peers if any(peer in runs for runs in results.values())]
    print("| work | Ondine | time | of the peak | memory | " + " | ".join(columns) + " |")
    print("|---" * (5 + len(columns)) + "|")
    for work, runs in results.items():
        for precision in options.precisions:
            mine = runs[f"ondine {precision}"]
            seconds, fraction = median(mine, "median_s"), median(mine, "fraction_of_peak")
            memory = median(mine, "peak_rss_bytes")
            cells = [work, precision, shown(seconds), f"{100 * fraction:.0f} %" if fraction else ""]
            cells.append(f"{memory / 1e6:.0f} MB" if memory else "")
            for peer in columns:
                theirs = median(runs[peer], "median_s") if peer in runs else None
                cells.append(f"{shown(theirs)}, **{theirs / seconds:.2f}x**" if theirs else "")
            print("| " + " | ".join(cells) + " |")
    for work, runs in results.items():
        memory = {peer: median(runs[peer], "peak_rss_bytes") for peer in columns if peer in runs}
        if memory:
            print(f"\nMemory of the peers, {work}: " + ", ".join(f"{peer} {m / 1e6:.0f} MB" for peer, m in memory.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--precision", dest="precisions", nargs="+", default=["f32", "bf16", "int8"], help="Ondine's")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS, metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--ondine", required=True, help="the program to compare")
    parser.add_argument("--folder", type=Path, required=True, help="where converted networks are kept (4 GB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3, help="calls timed per round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tier", choices=["avx2"], help="hold all of them to an instruction set")
    parser.add_argument("--json", type=Path, help="keep all results in this file")
    options = parser.parse_args()
    options.works = options.works or DEFAULT
    prepare(options)
    results = measure(options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results, options)


if __name__ == "__main__":
    main()
