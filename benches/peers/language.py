"""Runs `ondine bench --model` and other engines on the same GGUF files, in turn, and prints the ratios as Markdown.

    python language.py model-Q4_0.gguf model-Q4_K_M.gguf --ondine BIN --llama-bench llama.cpp/build/bin/llama-bench
    python language.py model.gguf --ondine BIN --ik-llama-bench ik_llama.cpp/build/bin/llama-bench --openvino --mistralrs
    python language.py model.gguf --depth 8192 --rounds 3 --ondine BIN --llama-bench BIN

A prompt of 512 tokens and an answer behind `--depth` tokens. Each round runs everything once, in a process of its own; the
tables show medians over the rounds. A ratio above 1 says how many times faster Ondine is. What fails to run a file has no
figures. llama.cpp keeps keys and values in f16, Ondine in what `--kv` says.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def told_by(command):
    """What a program prints as JSON on its last line, or all of it."""
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return json.loads(done if done.startswith("[") else done.splitlines()[-1])


def llama(program, behind, file, options):
    """llama.cpp, or ik_llama.cpp, which has another option for the tokens before an answer."""
    command = [program, "-m", file, "-t", str(options.threads), "-r", "1", "-o", "json"]
    prompt = told_by([*command, "-p", "512", "-n", "0"])
    answer = told_by([*command, "-p", "0", "-n", *behind(options.depth)])
    return {"prompt": prompt[0]["avg_ts"], "answer": answer[-1]["avg_ts"]}


def package(peer, file, options):
    """A peer that is a Python package; its answer is behind the prompt."""
    script = Path(__file__).with_name("measure_language.py")
    return told_by([sys.executable, script, file, "--peer", peer, "--threads", str(options.threads)])


def ondine(file, options):
    """Ondine, beside the limits of the machine in that run."""
    command = [options.ondine, "bench", "--model", file, "--precision", options.precision, "--kv", options.kv, "--json"]
    command += ["--threads", str(options.threads), "--depth", str(options.depth), "--repeat", "3", "--no-cache"]
    told = told_by(command)
    return {
        "prompt": told["prefill"]["tokens_per_s"],
        "of_peak": told["prefill"]["fraction_of_int8_peak"],
        "answer": told["decode"]["tokens_per_s"],
        "of_bandwidth": told["decode"]["fraction_of_bandwidth"],
        "draft": told["draft"]["of_one"],
    }


def peers(options):
    """Name and measurement of each peer that was asked for."""
    chosen = {}
    if program := options.llama_bench:
        behind = lambda depth: ["32", "-d", str(depth)]
        chosen["llama.cpp"] = lambda file: llama(program, behind, file, options)
    if ik := options.ik_llama_bench:
        behind_ik = lambda depth: ["0", "-gp", f"{depth},32"] if depth else ["32"]
        chosen["ik_llama.cpp"] = lambda file: llama(ik, behind_ik, file, options)
    if options.openvino:
        chosen["OpenVINO GenAI"] = lambda file: package("openvino", file, options)
    if options.mistralrs:
        chosen["mistral.rs"] = lambda file: package("mistralrs", file, options)
    return chosen


def measure(files, engines, rounds):
    """Medians by file, engine and figure."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for _ in range(rounds):
        for file in files:
            for name, engine in engines.items():
                try:
                    told = engine(file)
                except subprocess.CalledProcessError as error:
                    print(f"{name} on {file}: {(error.stderr or '').strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                for key, value in told.items():
                    found[file][name][key].append(value)
    middle = lambda told: {key: statistics.median(values) for key, values in told.items()}
    return {file: {name: middle(told) for name, told in engines.items()} for file, engines in found.items()}


def table(found, names, key, limit, title):
    """Ondine's tokens a second, how much of the limit they are, and each peer's."""
    print(f"\n| {title} | Ondine | of {limit[1]} | {' | '.join(names)} |")
    print("|---|---|---|" + "---|" * len(names))
    for file, engines in found.items():
        ours = engines["Ondine"]
        cells = [Path(file).stem, f"{ours[key]:.1f}", f"{100 * ours[limit[0]]:.0f} %"]
        for name in names:
            theirs = engines.get(name)
            cells.append(f"{theirs[key]:.1f}, **{ours[key] / theirs[key]:.2f}x**" if theirs else "")
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--ondine", required=True)
    parser.add_argument("--llama-bench", help="of llama.cpp, built with GGML_NATIVE")
    parser.add_argument("--ik-llama-bench", help="of ik_llama.cpp, built with GGML_NATIVE")
    parser.add_argument("--openvino", action="store_true", help="OpenVINO GenAI, as the package openvino-genai")
    parser.add_argument("--mistralrs", action="store_true", help="mistral.rs, as the package mistralrs")
    parser.add_argument("--precision", default="a8")
    parser.add_argument("--kv", default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    chosen = peers(options)
    engines = {"Ondine": lambda file: ondine(file, options), **chosen}
    found = measure(options.files, engines, options.rounds)
    table(found, list(chosen), "prompt", ("of_peak", "the int8 peak"), "prompt of 512, tokens a second")
    table(found, list(chosen), "answer", ("of_bandwidth", "the bandwidth"), f"answer behind {options.depth}")
    print("\n8 drafted tokens, of one step:", {Path(file).stem: round(told["Ondine"]["draft"], 2) for file, told in found.items()})


if __name__ == "__main__":
    main()
