"""What each format costs a language model in quality: a table of files and precisions.

    python formats.py MODEL.gguf TEXT ONDINE FOLDER [--windows N] [--formats Q4_0,Q6_K] > table.md

The numbers of MODEL are written anew in every format of FOLDER by the quantizer of llama.cpp (package `xllamacpp`, called
through its library; matrices alone, as its own tool does), and `ondine eval perplexity` is asked how far what comes of them
is from MODEL at f32. Rows whose width is no multiple of 256 cannot be written in the formats of 256 numbers: those take the
format that llama.cpp puts in their place, which is said beside the name.
"""

import argparse
import ctypes
import json
import subprocess
from pathlib import Path

import numpy as np
import xllamacpp
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

FORMATS = [
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q5_K", "Q4_1", "Q4_0", "Q4_K"),
    *("IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K"),
]
INSTEAD = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
PRECISIONS = ["f32", "bf16", "a8", "int8"]


class Quantizer:
    def __init__(self):
        place = Path(xllamacpp.__file__).parent
        self.library = ctypes.CDLL(str(next(place.glob("xllamacpp*.so"))))
        self.chunk = self.library.ggml_quantize_chunk
        self.chunk.restype = ctypes.c_size_t
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self.chunk.argtypes = [ctypes.c_int, pointer, pointer, whole, whole, whole, pointer]
        self.library.ggml_quantize_init.argtypes = [ctypes.c_int]

    def __call__(self, numbers, kind):
        numbers = np.ascontiguousarray(numbers, np.float32)
        if kind == Type.F16:
            return numbers.astype(np.float16)
        rows, width = numbers.size // numbers.shape[-1], numbers.shape[-1]
        block, size = GGML_QUANT_SIZES[kind]
        out = np.zeros((rows, width // block * size), np.uint8)
        self.library.ggml_quantize_init(int(kind))
        at = lambda array: array.ctypes.data_as(ctypes.c_void_p)
        # Importance of columns: all alike. The smallest formats ask for it.
        even = np.ones(width, np.float32)
        self.chunk(int(kind), at(numbers), at(out), 0, rows, width, at(even) if kind == Type.Q2_K else None)
        return out.reshape(*numbers.shape[:-1], -1)


def kind_of(name, width):
    kind = Type[name]
    return kind if width % GGML_QUANT_SIZES[kind][0] == 0 else Type[INSTEAD[name]]


def write(reader, path, name, quantize):
    field = lambda key: reader.fields[key]
    writer = GGUFWriter(path, field("general.architecture").contents())
    for key, value in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = value.types[0]
        inner = value.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value.contents(), kind, sub_type=inner)
    kinds = set()
    for tensor in reader.tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape.tolist())))
        if numbers.ndim < 2:
            writer.add_tensor(tensor.name, numbers.astype(np.float32))
            continue
        kind = kind_of(name, numbers.shape[-1])
        kinds.add(kind.name)
        data = quantize(numbers, kind)
        writer.add_tensor(tensor.name, data, raw_dtype=None if kind == Type.F16 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(kinds - {name})


def main():
    parser = argparse.ArgumentParser()
    for name in ["model", "text", "ondine", "folder"]:
        parser.add_argument(name, type=Path)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--formats", type=lambda text: text.split(","), default=FORMATS)
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    reader, quantize = GGUFReader(args.model), Quantizer()
    print("| format | MB | " + " | ".join(f"{p}: perplexity, divergence, same first" for p in PRECISIONS) + " |")
    print("|---|---|" + "---|" * len(PRECISIONS), flush=True)
    for name in args.formats:
        path = args.folder / f"{name}.gguf"
        others = write(reader, path, name, quantize)
        cells = []
        for precision in PRECISIONS:
            command = [args.ondine, "eval", "perplexity", args.text, "--model", path, "--reference", args.model]
            command += ["--windows", str(args.windows), "--precision", precision, "--json", "--context", "512"]
            run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if run.returncode:
                cells.append(run.stderr.strip().splitlines()[-1])
                continue
            told = json.loads(run.stdout)
            far = told["divergence"]
            cells.append(f"{told['perplexity']:.3f}, {far['mean']:.5f}, {100 * far['same_top']:.1f} %")
        with_others = f"{name} ({', '.join(others)})" if others else name
        print(f"| {with_others} | {path.stat().st_size / 1e6:.1f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
