"""A model of llama2.c, such as stories260K, as a GGUF file, and what its arithmetic makes of a text.

    stories.py MODEL.bin TOKENIZER.bin OUT.gguf [--ondine BIN] [--tokens 200]

Writes OUT.gguf, continues texts greedily with a plain twin of llama2.c in PyTorch, and with --ondine compares the ids
of `ondine ask --raw --tokens`. Needs torch, numpy and gguf.
"""
import argparse
import json
import struct
import subprocess
from pathlib import Path

import gguf
import numpy as np
import torch

TEXTS = ["Once upon a time", "Lily saw a big dog. She", "Tom and his mom went to the park."]
NAMES = {"wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output", "w1": "ffn_gate", "w2": "ffn_down",
         "w3": "ffn_up", "rms_att": "attn_norm", "rms_ffn": "ffn_norm"}


def read_model(path):
    """The sizes, and all weights by their names in llama2.c."""
    data = path.read_bytes()
    keys = ["dim", "hidden", "layers", "heads", "kv_heads", "vocab", "context"]
    sizes = dict(zip(keys, struct.unpack("7i", data[:28])))
    tied, sizes["vocab"] = sizes["vocab"] > 0, abs(sizes["vocab"])
    numbers, at = np.frombuffer(data[28:], dtype=np.float32), 0
    dim, hidden, layers, vocab = (sizes[key] for key in ["dim", "hidden", "layers", "vocab"])
    head = dim // sizes["heads"]
    narrow = head * sizes["kv_heads"]
    shapes = [("embed", (vocab, dim)), ("rms_att", (layers, dim)), ("wq", (layers, dim, dim)),
              ("wk", (layers, narrow, dim)), ("wv", (layers, narrow, dim)), ("wo", (layers, dim, dim)),
              ("rms_ffn", (layers, dim)), ("w1", (layers, hidden, dim)), ("w2", (layers, dim, hidden)),
              ("w3", (layers, hidden, dim)), ("rms_final", (dim,)), ("cosines", (sizes["context"], head // 2)),
              ("sines", (sizes["context"], head // 2))]
    if not tied:
        shapes.append(("head", (vocab, dim)))
    weights = {}
    for name, shape in shapes:
        count = int(np.prod(shape))
        weights[name] = torch.from_numpy(numbers[at : at + count].reshape(shape).copy())
        at += count
    weights.setdefault("head", weights["embed"])
    return sizes, tied, weights


def read_vocabulary(path, count):
    data, at, pieces = path.read_bytes(), 4, []
    for _ in range(count):
        score, length = struct.unpack("fi", data[at : at + 8])
        pieces.append((data[at + 8 : at + 8 + length], score))
        at += 8 + length
    return pieces


def encode(pieces, text):
    """The ids of a text: characters or bytes, of which the pair with the best score is joined again and again."""
    known = {piece: index for index, (piece, _) in reversed(list(enumerate(pieces)))}
    ids = [1] + ([known[b" "]] if text else [])
    for character in text:
        raw = character.encode()
        ids += [known[raw]] if raw in known else [byte + 3 for byte in raw]
    while True:
        joined = [(pieces[known[both]][1], -i, known[both]) for i, pair in enumerate(zip(ids, ids[1:]))
                  if (both := pieces[pair[0]][0] + pieces[pair[1]][0]) in known]
        if not joined:
            return ids
        _, place, new = max(joined)
        ids[-place : -place + 2] = [new]


def continued(sizes, weights, ids, count):
    """Ids that follow greedily, everything computed anew for each."""
    heads, groups = sizes["heads"], sizes["heads"] // sizes["kv_heads"]
    head = sizes["dim"] // heads

    def norm(x, weight):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight

    def turned(x):
        angles = torch.arange(len(ids))[:, None] / 10000 ** (torch.arange(0, head, 2) / head)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    ids, written = list(ids), []
    for _ in range(count):
        x = weights["embed"][ids]
        for layer in range(sizes["layers"]):
            h = norm(x, weights["rms_att"][layer])
            q, k, v = (h @ weights[name][layer].T for name in ["wq", "wk", "wv"])
            q, k = (turned(t.reshape(len(ids), -1, head)) for t in [q, k])
            k, v = (t.reshape(len(ids), -1, head).repeat_interleave(groups, 1) for t in [k, v])
            scores = torch.einsum("qhd,khd->hqk", q, k) / head**0.5
            scores = scores + torch.full((len(ids), len(ids)), float("-inf")).triu(1)
            mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(len(ids), -1)
            x = x + mixed @ weights["wo"][layer].T
            h = norm(x, weights["rms_ffn"][layer])
            gate = torch.nn.functional.silu(h @ weights["w1"][layer].T)
            x = x + (gate * (h @ weights["w3"][layer].T)) @ weights["w2"][layer].T
        logits = norm(x[-1], weights["rms_final"]) @ weights["head"].T
        written.append(int(logits.argmax()))
        ids.append(written[-1])
    return written


def write(path, sizes, tied, weights, pieces):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(sizes["layers"])
    writer.add_context_length(sizes["context"])
    writer.add_embedding_length(sizes["dim"])
    writer.add_feed_forward_length(sizes["hidden"])
    writer.add_head_count(sizes["heads"])
    writer.add_head_count_kv(sizes["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(sizes["dim"] // sizes["heads"])
    writer.add_tokenizer_model("llama")
    names = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % byte for byte in range(256)]
    names += [piece.replace(b" ", "\u2581".encode()) for piece, _ in pieces[259:]]
    writer.add_token_list(names)
    writer.add_token_scores([score for _, score in pieces])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_tensor("token_embd.weight", weights["embed"].numpy())
    writer.add_tensor("output_norm.weight", weights["rms_final"].numpy())
    if not tied:
        writer.add_tensor("output.weight", weights["head"].numpy())
    for name, to in NAMES.items():
        for layer in range(sizes["layers"]):
            writer.add_tensor(f"blk.{layer}.{to}.weight", weights[name][layer].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ondine")
    parser.add_argument("--tokens", type=int, default=200)
    arguments = parser.parse_args()
    sizes, tied, weights = read_model(arguments.model)
    pieces = read_vocabulary(arguments.tokenizer, sizes["vocab"])
    write(arguments.out, sizes, tied, weights, pieces)
    missed = 0
    for text in TEXTS:
        ids = encode(pieces, text)
        wanted = continued(sizes, weights, ids, arguments.tokens)
        if not arguments.ondine:
            print(json.dumps({"text": text, "prompt": ids, "continued": wanted}))
            continue
        call = [arguments.ondine, "ask", text, "--raw", "--tokens", "--json", "--ignore-end", "--model", arguments.out,
                "--max-tokens", str(arguments.tokens), "--precision", "f32"]
        found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        same = (found["prompt_tokens"], found["output_tokens"]) == (ids, wanted)
        missed += not same
        print("ok  " if same else "miss", repr(text), len(ids), "and", len(wanted), "ids")
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
