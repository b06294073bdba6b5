"""Adapters of transformers in the dialects of diffusers, kohya and Black Forest Labs, made of random numbers.

    python flow_loras.py FOLDERS --ondine BIN [--only FOLDER]

Each adapter is merged here by its formula into the weights that diffusers draws with; Ondine gets base and file.
"""
import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

from flow import FOLDERS, Case, load, ours, theirs
from flow_files import FLUX_BLOCK, FLUX_QKV, SD3_BLOCK, SD3_QKV
from parity import psnr, relative


def layers(pipe):
    """The layers of all blocks by their first names, each with the modules of diffusers that it is made of."""
    sd3 = type(pipe.transformer).__name__.startswith("SD3")
    modules = {name for name, module in pipe.transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    found = {}
    for i in range(pipe.transformer.config.num_layers):
        own, first = f"transformer_blocks.{i}.", f"{'joint' if sd3 else 'double'}_blocks.{i}."
        last = sd3 and i + 1 == pipe.transformer.config.num_layers
        for new, old in (SD3_BLOCK if sd3 else FLUX_BLOCK).items():
            # The last norm of the text is written the other way round: trainers leave it out.
            if own + new in modules and not (last and new == "norm1_context.linear"):
                found[first + old] = [own + new]
        for new, old in (SD3_QKV if sd3 else FLUX_QKV).items():
            parts = [own + new + tail for tail in (["q_proj", "k_proj", "v_proj"] if new.endswith("add_") else ["q", "k", "v"])]
            if parts[0] in modules:
                found[first + old] = parts
    for i in range(getattr(pipe.transformer.config, "num_single_layers", 0)):
        own, first = f"single_transformer_blocks.{i}.", f"single_blocks.{i}."
        found[first + "linear1"] = [own + part for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
        found[first + "linear2"], found[first + "modulation.lin"] = [own + "proj_out"], [own + "norm.linear"]
    return found


def kohya(name):
    return "lora_unet_" + name.replace(".", "_"), ("lora_down.weight", "lora_up.weight")


def bfl(name):
    return "diffusion_model." + name, ("lora_A.weight", "lora_B.weight")


def diffusers(name):
    return "transformer." + name, ("lora_A.weight", "lora_B.weight")


def make(pipe, dialect, kind="lora"):
    """The tensors of an adapter, merged into the pipeline; yields them and how many modules they change."""
    generator, state = torch.Generator().manual_seed(5), {}
    changed = layers(pipe)
    if dialect is diffusers:
        changed = {part: [part] for parts in changed.values() for part in parts}
    for name, parts in changed.items():
        targets = [pipe.transformer.get_submodule(part).weight for part in parts]
        rows, columns = sum(weight.shape[0] for weight in targets), targets[0].shape[1]
        down = 0.4 * torch.randn(4, columns, generator=generator) / columns ** 0.5
        up = 0.4 * torch.randn(rows, 4, generator=generator)
        prefix, ends = dialect(name)
        alpha = 2.0 if dialect is kohya else 4.0
        state |= {f"{prefix}.{ends[0]}": down, f"{prefix}.{ends[1]}": up}
        if dialect is kohya:
            state[f"{prefix}.alpha"] = torch.tensor(alpha)
        delta, whole = up @ down * alpha / 4, torch.cat([weight.data for weight in targets])
        merged = whole + delta
        if kind == "dora":
            lengths = whole.norm(dim=1, keepdim=True) * (1 + 0.1 * torch.randn(rows, 1, generator=generator))
            state[f"{prefix}.dora_scale"] = lengths
            merged = lengths * merged / merged.norm(dim=1, keepdim=True)
        for weight, part in zip(targets, merged.split([weight.shape[0] for weight in targets])):
            weight.data.copy_(part)
    return {name: tensor.contiguous() for name, tensor in state.items()}, len(changed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for folder in [arguments.only] if arguments.only else FOLDERS:
        for title, dialect, kind in [("diffusers", diffusers, "lora"), ("kohya", kohya, "lora"), ("bfl", bfl, "lora"), ("kohya dora", kohya, "dora")]:
            pipe = load(arguments.folders / folder)
            case = Case(guidance=3.5 if folder == "flux-dev" else 1.0)
            with tempfile.TemporaryDirectory() as place, torch.no_grad():
                state, count = make(pipe, dialect, kind)
                arguments.lora, arguments.file = Path(place) / "a.safetensors", None
                save_file(state, arguments.lora)
                try:
                    other, dump = theirs(pipe, case), ours(arguments, arguments.folders / folder, case)
                    path = relative(dump[f"latents_{case.steps}"], other["path"][-1])
                    decibels = psnr(dump["image"], other["image"])
                    good, figures = path <= 2e-3 and decibels >= 55, f"{count} modules, path {path:8.1e}  PSNR {decibels:6.1f}"
                except RuntimeError as error:
                    good, figures = False, str(error)
            results.append(good)
            print(f"{'ok  ' if good else 'MISS'} {folder:12} {title:12} {figures}", flush=True)
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
