"""Runs `ondine bench --model` and llama.cpp on the same GGUF files, in turn, and prints the ratios as Markdown.

    python language.py model-Q4_0.gguf model-Q4_K_M.gguf --ondine BIN --llama-bench llama.cpp/build/bin/llama-bench
    python language.py model.gguf --depth 8192 --rounds 3 --ondine BIN --llama-bench BIN

A prompt of 512 tokens and an answer behind `--depth` tokens. Each round runs everything once, in a process of its own; the
table shows medians over the rounds. A ratio above 1 says how many times faster Ondine is. llama.cpp keeps keys and values in
f16, Ondine in what `--kv` says.
"""

import argparse
import json
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path


def llama(file, options):
    """Tokens a second of a prompt and of an answer."""
    command = [options.llama_bench, "-m", file, "-t", str(options.threads), "-r", "1", "-o", "json"]
    prompt = subprocess.run([*command, "-p", "512", "-n", "0"], check=True, capture_output=True, text=True)
    answer = [*command, "-p", "0", "-n", "32", "-d", str(options.depth)]
    answer = subprocess.run(answer, check=True, capture_output=True, text=True)
    return {
        "prompt": json.loads(prompt.stdout)[0]["avg_ts"],
        "answer": json.loads(answer.stdout)[0]["avg_ts"],
    }


def ondine(file, options):
    """The same, beside the limits of the machine in that run."""
    command = [options.ondine, "bench", "--model", file, "--precision", options.precision, "--kv", options.kv, "--json"]
    command += ["--threads", str(options.threads), "--depth", str(options.depth), "--repeat", "3", "--no-cache"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "prompt": told["prefill"]["tokens_per_s"],
        "of_peak": told["prefill"]["fraction_of_int8_peak"],
        "answer": told["decode"]["tokens_per_s"],
        "of_bandwidth": told["decode"]["fraction_of_bandwidth"],
        "draft": told["draft"]["of_one"],
        "bytes": told["peak_rss_bytes"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--ondine", required=True)
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--precision", default="a8")
    parser.add_argument("--kv", default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    found = {file: {peer: defaultdict(list) for peer in (llama, ondine)} for file in options.files}
    for _ in range(options.rounds):
        for file in options.files:
            for peer in (llama, ondine):
                for key, value in peer(file, options).items():
                    found[file][peer][key].append(value)

    behind = f" behind {options.depth}" if options.depth else ""
    print(f"| file | prompt, tokens/s | of the int8 peak | llama.cpp | | answer{behind} | of the bandwidth | llama.cpp | | 8 drafted |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for file, peers in found.items():
        middle = {peer: {key: statistics.median(values) for key, values in told.items()} for peer, told in peers.items()}
        ours, theirs = middle[ondine], middle[llama]
        cells = [Path(file).stem]
        for key, limit in (("prompt", "of_peak"), ("answer", "of_bandwidth")):
            cells += [f"{ours[key]:.1f}", f"{100 * ours[limit]:.0f} %", f"{theirs[key]:.1f}", f"**{ours[key] / theirs[key]:.2f}x**"]
        print(f"| {' | '.join(cells)} | {ours['draft']:.2f} |")


if __name__ == "__main__":
    main()
