"""Adapters of transformers in the dialects of diffusers, kohya and the programs that trained them, made of random numbers.

    python flow_loras.py FOLDERS --ondine BIN [--only FOLDER]

FOLDERS is made by flow.py or flow_chats.py. Ondine gets base and file. diffusers reads the file too where it knows the
dialect (`read`); else the adapter is merged here by its formula into the weights that it draws with (`merged`).
"""
import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers.utils import logging
from safetensors.torch import save_file

import flow
import flow_chats
from flow import Case, ours
from flow_files import FLUX, FLUX2, FLUX2_BLOCK, FLUX_BLOCK, FLUX_QKV, SD3, SD3_BLOCK, SD3_QKV, swapped
from parity import psnr, relative

# Layers whose halves are the other way round in diffusers, which does not turn them in adapters.
TURNED = ("final_layer.adaLN_modulation.1", "context_block.adaLN_modulation.1")


def stacked(found, modules, own, first, layers, fused):
    """Adds the layers of a block, each with the modules that it is made of."""
    for new, old in layers.items():
        if own + new in modules:
            found[first + old] = [own + new]
    for new, old in fused.items():
        parts = [own + new + tail for tail in (["q_proj", "k_proj", "v_proj"] if new.endswith("add_") else ["q", "k", "v"])]
        if parts[0] in modules:
            found[first + old] = parts


def layers(pipe):
    """The layers of a transformer by their first names, each with the modules of diffusers that it is made of."""
    model = pipe.transformer
    modules = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    kind, found = type(model).__name__, {}
    if kind.startswith("ZImage"):
        for place in ("layers", "noise_refiner", "context_refiner"):
            for i in range(len(getattr(model, place))):
                block = f"{place}.{i}."
                same = {name: name for name in ("adaLN_modulation.0", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")}
                stacked(found, modules, block, block, same | {"attention.to_out.0": "attention.out"}, {"attention.to_": "attention.qkv"})
        for new, old in {"all_x_embedder.2-1": "x_embedder", "all_final_layer.2-1.linear": "final_layer.linear", "cap_embedder.1": "cap_embedder.1",
                         "all_final_layer.2-1.adaLN_modulation.1": "final_layer.adaLN_modulation.1", "t_embedder.mlp.0": "t_embedder.mlp.0",
                         "t_embedder.mlp.2": "t_embedder.mlp.2"}.items():
            found[old] = [new]
        return found
    sd3, two = kind.startswith("SD3"), kind.startswith("Flux2")
    names = SD3_BLOCK if sd3 else FLUX2_BLOCK if two else FLUX_BLOCK
    for i in range(model.config.num_layers):
        own, first = f"transformer_blocks.{i}.", f"{'joint' if sd3 else 'double'}_blocks.{i}."
        stacked(found, modules, own, first, names, SD3_QKV if sd3 else FLUX_QKV)
    for i in range(getattr(model.config, "num_single_layers", 0)):
        own, first = f"single_transformer_blocks.{i}.", f"single_blocks.{i}."
        if two:
            found[first + "linear1"], found[first + "linear2"] = [own + "attn.to_qkv_mlp_proj"], [own + "attn.to_out"]
        else:
            found[first + "linear1"] = [own + part for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
            found[first + "linear2"], found[first + "modulation.lin"] = [own + "proj_out"], [own + "norm.linear"]
    for new, old in ((SD3 if sd3 else FLUX2 if two else FLUX) | {"norm_out.linear": TURNED[0]}).items():
        if new in modules:
            found[old] = [new]
    return found


def kohya(name):
    return "lora_unet_" + name.replace(".", "_"), ("lora_down.weight", "lora_up.weight")


def first(name):
    return "diffusion_model." + name, ("lora_A.weight", "lora_B.weight")


def diffusers(name):
    return "transformer." + name, ("lora_A.weight", "lora_B.weight")


def peft(name):
    return "base_model.model." + name, ("lora_A.default.weight", "lora_B.default.weight")


def turned(pipe, name):
    """True for a layer whose halves are the other way round in diffusers."""
    if type(pipe.transformer).__name__.startswith("ZImage"):
        return False
    last = f"joint_blocks.{getattr(pipe.transformer.config, 'num_layers', 0) - 1}."
    return name == TURNED[0] or name == last + TURNED[1]


def make(pipe, dialect, kind="lora", own_names=False, read=False):
    """The tensors of an adapter, merged into the pipeline unless diffusers is to read them, and how many layers they
    change; `own_names` are those of diffusers."""
    generator, state = torch.Generator().manual_seed(5), {}
    changed = layers(pipe)
    if own_names:
        changed = {part: [part] for parts in changed.values() for part in parts}
    elif read:
        # What diffusers turns wrongly, and what it knows of blocks alone.
        skipped = ("final_layer.adaLN", "modulation", "guidance_in") if dialect is kohya else ("final_layer.adaLN",)
        changed = {name: parts for name, parts in changed.items() if not any(part in name for part in skipped)}
    count = 0
    for name, parts in changed.items():
        targets = [pipe.transformer.get_submodule(part).weight for part in parts]
        rows, columns = sum(weight.shape[0] for weight in targets), targets[0].shape[1]
        draw = lambda *shape: torch.randn(shape, generator=generator)
        prefix, ends = dialect(name)
        if kind == "lokr":
            if rows % 2 or columns % 2:
                continue
            one, two = draw(2, 2), 0.1 * draw(rows // 2, columns // 2) / columns ** 0.5
            state |= {f"{prefix}.lokr_w1": one, f"{prefix}.lokr_w2": two}
            delta = torch.kron(one, two)
        else:
            down, up = 0.4 * draw(4, columns) / columns ** 0.5, 0.4 * draw(rows, 4)
            alpha = 2.0 if dialect is kohya else 4.0
            state |= {f"{prefix}.{ends[0]}": down, f"{prefix}.{ends[1]}": up}
            if dialect is kohya:
                state[f"{prefix}.alpha"] = torch.tensor(alpha)
            delta = up @ down * alpha / 4
        count += 1
        whole = torch.cat([weight.data for weight in targets])
        back = swapped if turned(pipe, name) and not own_names else lambda tensor: tensor
        merged = back(whole) + delta
        if kind == "dora":
            lengths = back(whole).norm(dim=1, keepdim=True) * (1 + 0.1 * draw(rows, 1))
            state[f"{prefix}.dora_scale"] = lengths
            merged = lengths * merged / merged.norm(dim=1, keepdim=True)
        if not read:
            for weight, part in zip(targets, back(merged).split([weight.shape[0] for weight in targets])):
                weight.data.copy_(part)
    return {name: tensor.contiguous() for name, tensor in state.items()}, count


def kinds(folder):
    """Dialects, kinds, whether names are those of diffusers, and whether it reads the file."""
    usual = [("diffusers", diffusers, "lora", True, False), ("kohya", kohya, "lora", False, False), ("first", first, "lora", False, False),
             ("kohya dora", kohya, "dora", False, False)]
    if folder not in flow_chats.FOLDERS:
        return usual
    more = [("first lokr", first, "lokr", False, False), ("peft", peft, "lora", True, False), ("diffusers", diffusers, "lora", True, True)]
    if folder.startswith("klein"):
        return usual + more + [("kohya", kohya, "lora", False, True), ("first", first, "lora", False, True)]
    # Of Z-Image it knows both beginnings of names before its own.
    return usual + more + [("kohya own", kohya, "lora", True, True), ("first own", first, "lora", True, True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    results = []
    known = [name for name in [*flow.FOLDERS, *flow_chats.FOLDERS] if (arguments.folders / name).is_dir()]
    for folder in [arguments.only] if arguments.only else known:
        form = flow_chats if folder in flow_chats.FOLDERS else flow
        usual = {"flux-dev": 3.5, "klein-base": 4.0, "z-image": 0.0, "z-image-bf16": 0.0}.get(folder, 1.0)
        case = Case(guidance=usual, steps=4 if form is flow_chats else 6)
        for title, dialect, kind, own_names, read in kinds(folder):
            pipe = form.load(arguments.folders / folder)
            title += " read" if read else " merged"
            with tempfile.TemporaryDirectory() as place, torch.no_grad():
                state, count = make(pipe, dialect, kind, own_names, read)
                arguments.lora, arguments.file = Path(place) / "a.safetensors", None
                save_file(state, arguments.lora)
                try:
                    plain = form.theirs(pipe, case) if read else None
                    if read:
                        pipe.load_lora_weights(arguments.lora)
                    other, dump = form.theirs(pipe, case), ours(arguments, arguments.folders / folder, case)
                    if read and relative(plain["path"][-1], other["path"][-1]) < 1e-2:
                        raise RuntimeError("diffusers read nothing")
                    path = relative(dump[f"latents_{case.steps}"], other["path"][-1])
                    decibels = psnr(dump["image"], other["image"])
                    good, figures = path <= 2e-3 and decibels >= 55, f"{count} layers, path {path:8.1e}  PSNR {decibels:6.1f}"
                except (RuntimeError, ValueError, KeyError) as error:
                    good, figures = False, f"{type(error).__name__}: {error}"
            results.append(good)
            print(f"{'ok  ' if good else 'MISS'} {folder:12} {title:18} {figures}", flush=True)
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
