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
from functools import partial
from pathlib import Path


def told_by(command):
    """What a program prints as JSON on its last line, or all of it."""
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return json.loads(done if done.startswith("[") else done.splitlines()[-1])


def llama(program, answer, file, options):
    """llama.cpp or ik_llama.cpp, which `answer` tells how to write 32 tokens."""
    command = [program, "-m", file, "-t", str(options.threads), "-r", "1", "-o", "json", "-p"]
    prompt = told_by([*command, "512", "-n", "0"])
    answer = told_by([*command, "0", *answer])
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
    depth = options.depth
    chosen = {}
    if options.llama_bench:
        answer = ["-n", "32", "-d", str(depth)]
        chosen["llama.cpp"] = partial(llama, options.llama_bench, answer)
    if options.ik_llama_bench:
        answer = ["-n", "0", "-gp", f"{depth},32"] if depth else ["-n", "32"]
        chosen["ik_llama.cpp"] = partial(llama, options.ik_llama_bench, answer)
    if options.openvino:
        chosen["OpenVINO GenAI"] = partial(package, "openvino")
    if options.mistralrs:
        chosen["mistral.rs"] = partial(package, "mistralrs")
    return chosen


def medians(told):
    return {key: statistics.median(values) for key, values in told.items()}


def measure(engines, options):
    """Medians by file, engine and figure."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for _ in range(options.rounds):
        for file in options.files:
            for name, engine in engines.items():
                try:
                    told = engine(file, options)
                except subprocess.CalledProcessError as error:
                    print(f"{name} on {file}: {(error.stderr or '').strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                for key, value in told.items():
                    found[file][name][key].append(value)
    return {file: {name: medians(told) for name, told in engines.items()} for file, engines in found.items()}


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
    found = measure({"Ondine": ondine, **chosen}, options)
    table(found, list(chosen), "prompt", ("of_peak", "the int8 peak"), "prompt of 512, tokens a second")
    table(found, list(chosen), "answer", ("of_bandwidth", "the bandwidth"), f"answer behind {options.depth}")
    print("\n8 drafted tokens, of one step:")
    for file, told in found.items():
        print(f"- {Path(file).stem}: {told['Ondine']['draft']:.2f}")


if __name__ == "__main__":
    main()
