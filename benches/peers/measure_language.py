"""One language model in a GGUF file in one peer that is a Python package: prints a line of JSON.

    python measure_language.py model.gguf --peer openvino|mistralrs

Tokens a second of a prompt of 512 and of an answer of 32 behind it. The first of three answers warms up; prompts differ, since
these peers keep what they have read.
"""

import argparse
import json
import os
import random
import statistics
from pathlib import Path

PROMPT = 512
ANSWER = 32
TIMES = 3


def openvino(file, threads):
    """Answers of OpenVINO GenAI, which reads GGUF files itself."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    pipeline = genai.LLMPipeline(file, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    config = genai.GenerationConfig()
    config.max_new_tokens = ANSWER + 1
    config.ignore_eos = True
    config.do_sample = False
    for seed in range(TIMES):
        ids = np.random.default_rng(seed).integers(300, 30000, (1, PROMPT))
        told = pipeline.generate(ov.Tensor(ids), config).perf_metrics
        yield PROMPT / told.get_ttft().mean * 1000, 1000 / told.get_tpot().mean


def mistralrs(file, threads):
    """Answers of mistral.rs. Its prompt is a text: letters that no vocabulary joins are a token each."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    from mistralrs import CompletionRequest, Runner, Which

    path = Path(file).resolve()
    which = Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name)
    runner = Runner(which=which, prefix_cache_n=0)
    for seed in range(TIMES):
        rng = random.Random(seed)
        prompt = "".join(rng.choice("qxzjkvwy0123456789#~^|") for _ in range(PROMPT - 1))
        request = CompletionRequest(
            model="default", prompt=prompt, max_tokens=ANSWER + 1, temperature=0.0, ignore_eos=True
        )
        told = runner.send_completion_request(request).usage
        yield told.avg_prompt_tok_per_sec, told.avg_compl_tok_per_sec


PEERS = {"openvino": openvino, "mistralrs": mistralrs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    found = list(PEERS[options.peer](options.file, options.threads))[1:]
    prompt, answer = (statistics.median(values) for values in zip(*found))
    print(json.dumps({"prompt": prompt, "answer": answer}), flush=True)
    # The threads of some peers outlive their answers.
    os._exit(0)


if __name__ == "__main__":
    main()
