"""Writes rows of every block format of GGUF with the numbers that the package `gguf` makes of them.

    python blocks.py crates/ondine-graph/tests/data/blocks.safetensors        (pip install gguf)

Bytes are drawn at random, so that every bit of every field counts; the f16 scales among them are made finite.
"""
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

# Where the f16 numbers of a block lie.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
BLOCKS = 3

rng = np.random.default_rng(7)
tensors = {}
for name, halves in HALVES.items():
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for at in halves:
        blocks[:, at : at + 2] = rng.normal(0, 0.1, BLOCKS).astype("<f2").view(np.uint8).reshape(BLOCKS, 2)
    if name == "MXFP4":
        blocks[:, 0] = [0, 1, 130]
    values = gguf.quants.dequantize(blocks, kind).astype(np.float32)
    tensors[f"{name}.blocks"], tensors[f"{name}.values"] = blocks, values.reshape(-1)
save_file(tensors, sys.argv[1])
