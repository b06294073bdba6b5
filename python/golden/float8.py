"""Floating-point numbers of 8 bits as PyTorch reads and writes them.

    python float8.py codes OUT.safetensors
    python float8.py file FOLDER OUT.safetensors|OUT.pt [--part PART] [--format e4m3|e5m2] [--how plain|first|now|note|rows]
                     [--twin FOLDER]

`codes` writes all 256 codes of both types beside the numbers that they stand for. `file` writes a folder of diffusers as
a checkpoint in one file in such numbers, or one part of it, all under their first names: `plain` rounds every tensor as it
is; the others give the matrices of layers a scale and leave the rest in half precision, as ComfyUI `first` did
(`scaled_fp8`, `X.scale_weight`, `X.scale_input`), as it does `now` (`X.weight_scale`, `X.input_scale`, `X.comfy_quant`) or
with a `note` in the file's header, or with a scale for each of the `rows`. --twin writes the folder again at f32, with the
numbers that the file holds: what diffusers shall draw with.
"""
import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import checkpoints
import flow_files
from checkpoints import read

TYPES = dict(e4m3=torch.float8_e4m3fn, e5m2=torch.float8_e5m2)
LARGEST = dict(e4m3=448.0, e5m2=57344.0)
TABLES = ("shared", "embed_tokens", "token_embedding", "position_embedding", "relative_attention_bias")


def codes(out):
    """All codes of both types and their numbers."""
    tensors, every = {}, torch.arange(256, dtype=torch.uint8)
    for name, kind in TYPES.items():
        tensors[f"{name}.codes"] = every.clone().view(kind)
        tensors[f"{name}.numbers"] = every.view(kind).float()
    save_file(tensors, out)


def rounded(state, kind, how):
    """The tensors of a file in numbers of 8 bits, the numbers that they stand for, and the file's notes."""
    out, numbers, layers = {}, {}, {}
    for name, tensor in state.items():
        tensor = tensor.float()
        layer = name.removesuffix(".weight")
        matrix = tensor.dim() == 2 and name.endswith(".weight") and not layer.endswith(TABLES)
        if how == "plain":
            out[name] = tensor.to(TYPES[kind])
            numbers[name] = out[name].float()
        elif not matrix:
            out[name] = tensor.half()
            numbers[name] = out[name].float()
        else:
            largest = tensor.abs().amax(dim=1, keepdim=True) if how == "rows" else tensor.abs().amax()
            scale = (largest / LARGEST[kind]).float()
            out[name] = (tensor / scale).clamp(-LARGEST[kind], LARGEST[kind]).to(TYPES[kind])
            numbers[name] = out[name].float() * scale
            weight, other = ("scale_weight", "scale_input") if how == "first" else ("weight_scale", "input_scale")
            out[f"{layer}.{weight}"], out[f"{layer}.{other}"] = scale, torch.tensor(0.5)
            layers[layer] = dict(format={"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}[kind])
    notes = None
    if how == "first":
        for start in starts(state):
            out[start + "scaled_fp8"] = torch.zeros(2).to(TYPES[kind])
    elif how == "note":
        notes = dict(_quantization_metadata=json.dumps(dict(format_version="1.0", layers=layers)))
    elif how in ("now", "rows"):
        for layer, said in layers.items():
            out[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return out, numbers, notes


def starts(state):
    """The beginnings of the names of networks that a file holds."""
    known = ["model.diffusion_model.", "text_encoders.t5xxl.transformer.", "text_encoders.clip_l.transformer."]
    return [start for start in known if any(name.startswith(start) for name in state)] or [""]


def first_names(folder, part):
    """All tensors of a folder, or of one part, under their first names."""
    if (folder / "unet").is_dir():
        return checkpoints.convert(folder)
    config = json.loads((folder / "transformer/config.json").read_text())
    if part == "transformer":
        return flow_files.transformer(read(folder / "transformer"), config)
    return read(folder / part) if part else flow_files.whole(folder, config)


def twin(folder, part, numbers, out):
    """The folder with the numbers of a file in the names of diffusers. Where each goes is found out by a folder whose
    tensors hold their elements' own numbers, counted from 2 on."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors*"))
    networks = [place.parent for place in sorted(folder.glob("*/config.json"))]
    with tempfile.TemporaryDirectory() as place:
        place, count, spans = Path(place) / "folder", 2, {}
        shutil.copytree(out, place)
        for network in networks:
            state = read(network)
            for name, tensor in state.items():
                spans[network.name, name] = (count, tensor.shape, tensor)
                state[name] = torch.arange(count, count + tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
                count += tensor.numel()
            save_file(state, place / network.name / "model.safetensors")
        flat = torch.cat([torch.zeros(2)] + [tensor.float().flatten() for _, _, tensor in spans.values()])
        for name, where in first_names(place, part).items():
            whole = (where >= 2) & (where == where.round())
            flat[where[whole].long()] = numbers[name][whole]
    for network in networks:
        state = {name: flat[start:start + shape.numel()].reshape(shape).clone()
                 for (of, name), (start, shape, _) in spans.items() if of == network.name}
        diffusers = "_class_name" in json.loads((network / "config.json").read_text())
        save_file(state, out / network.name / f"{'diffusion_pytorch_' * diffusers}model.safetensors", metadata=dict(format="pt"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("codes").add_argument("out", type=Path)
    file = commands.add_parser("file")
    file.add_argument("folder", type=Path)
    file.add_argument("out", type=Path)
    file.add_argument("--part")
    file.add_argument("--format", choices=TYPES, default="e4m3")
    file.add_argument("--how", choices=["plain", "first", "now", "note", "rows"], default="plain")
    file.add_argument("--twin", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "codes":
        codes(arguments.out)
        return
    state, numbers, notes = rounded(first_names(arguments.folder, arguments.part), arguments.format, arguments.how)
    if arguments.out.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, arguments.out, metadata=notes)
    else:
        torch.save(dict(state_dict=state), arguments.out)
    if arguments.twin:
        twin(arguments.folder, arguments.part, numbers, arguments.twin)


if __name__ == "__main__":
    main()
