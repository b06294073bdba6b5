"""Checkpoints in one file, in the names of the programs that trained Stable Diffusion, made of diffusers folders.

    python checkpoints.py FOLDER OUT.safetensors|OUT.ckpt [--half] [--v-pred] [--zero-snr] [--legacy] [--check]

The names are a map of our own, written down from the layout of the networks (blocks numbered in the order in which they
run), not diffusers' converter: with --check that reads the file back, and every tensor must be the folder's.
"""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "query": "q", "key": "k",
                 "value": "v", "proj_attn": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc",
             "mlp.fc2": "mlp.c_proj"}


def read(folder):
    """All tensors of a network, whatever its files are called, shards among them."""
    state = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    return state


def replaced(name, table):
    """The name with the first of the table's words that it has in the place that ends it."""
    for new, old in table.items():
        for end in (".weight", ".bias"):
            if name == new + end:
                return old + end
    return name


def unet(state, config):
    """The U-Net's tensors under `model.diffusion_model`."""
    levels = len(config["block_out_channels"])
    resnets = {(way, i): 1 + max((int(name.split(".")[3]) for name in state if name.startswith(f"{way}_blocks.{i}.resnets.")), default=-1)
               for way in ("down", "up") for i in range(levels)}
    number, count = {}, 1
    for i in range(levels):
        for j in range(resnets["down", i]):
            number["down", i, j] = f"input_blocks.{count}"
            count += 1
        number["down", i, "end"] = f"input_blocks.{count}"
        count += 1
    count = 0
    for i in range(levels):
        for j in range(resnets["up", i]):
            number["up", i, j] = f"output_blocks.{count}"
            count += 1
    out = {}
    for name, tensor in state.items():
        out["model.diffusion_model." + unet_name(name, state, number, resnets)] = tensor
    return out


def unet_name(name, state, number, resnets):
    """The name of one tensor of a U-Net."""
    parts = name.split(".")
    ends = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
            "time_embedding.linear_2": "time_embed.2", "time_embedding.cond_proj": "time_embed.cond_proj",
            "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    for new, old in ends.items():
        if name.startswith(new + "."):
            return old + name[len(new):]
    if parts[0] == "mid_block":
        place = 2 * int(parts[2]) if parts[1] == "resnets" else 1
        rest = ".".join(parts[3:])
        return f"middle_block.{place}." + (replaced(rest, RESNET) if parts[1] == "resnets" else rest)
    way, i, kind, j = parts[0].split("_")[0], int(parts[1]), parts[2], int(parts[3])
    rest = ".".join(parts[4:])
    if kind == "resnets":
        return f"{number[way, i, j]}.0.{replaced(rest, RESNET)}"
    if kind == "attentions":
        return f"{number[way, i, j]}.1.{rest}"
    if kind == "downsamplers":
        return f"{number[way, i, 'end']}.0.op.{parts[-1]}"
    last = resnets["up", i] - 1
    place = 2 if any(other.startswith(f"up_blocks.{i}.attentions.") for other in state) else 1
    return f"{number[way, i, last]}.{place}.conv.{parts[-1]}"


def vae(state, config):
    """The autoencoder's tensors under `first_stage_model`."""
    levels = len(config["block_out_channels"])
    return {"first_stage_model." + vae_name(name, levels): square(name, tensor) for name, tensor in state.items()}


def square(name, tensor):
    """A linear layer of the attention as the 1x1 convolution that it was."""
    linear = ".attentions." in name and name.endswith(".weight") and tensor.dim() == 2
    return tensor[:, :, None, None].contiguous() if linear else tensor


def vae_name(name, levels):
    """The name of one tensor of an autoencoder."""
    parts = name.split(".")
    if parts[1] in ("conv_norm_out",):
        return f"{parts[0]}.norm_out.{parts[-1]}"
    if parts[1] == "mid_block":
        rest = ".".join(parts[4:])
        if parts[2] == "resnets":
            return f"{parts[0]}.mid.block_{int(parts[3]) + 1}.{replaced(rest, VAE_RESNET)}"
        return f"{parts[0]}.mid.attn_1.{replaced(rest, VAE_ATTENTION)}"
    if parts[1] in ("down_blocks", "up_blocks"):
        way, i, rest = parts[1].split("_")[0], int(parts[2]), ".".join(parts[5:])
        place = i if way == "down" else levels - 1 - i
        if parts[3] == "resnets":
            return f"{parts[0]}.{way}.{place}.block.{parts[4]}.{replaced(rest, VAE_RESNET)}"
        return f"{parts[0]}.{way}.{place}.{'downsample' if way == 'down' else 'upsample'}.conv.{parts[-1]}"
    return name


def clip(state, prefix):
    """A text encoder in the names of transformers."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in state.items() if not name.startswith("text_projection")}
    return {f"{prefix}.transformer.text_model.{name}": tensor for name, tensor in plain.items()}


def open_clip(state, prefix, spare):
    """A text encoder in the names of OpenCLIP, with a last layer that nothing reads if `spare`."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    layers = 1 + max(int(name.split(".")[2]) for name in plain if name.startswith("encoder.layers."))
    if spare:
        for name in [name for name in plain if name.startswith(f"encoder.layers.{layers - 1}.")]:
            plain[name.replace(f".{layers - 1}.", f".{layers}.", 1)] = torch.full_like(plain[name], 0.5)
        layers += 1
    out = {"token_embedding.weight": plain["embeddings.token_embedding.weight"],
           "positional_embedding": plain["embeddings.position_embedding.weight"],
           "ln_final.weight": plain["final_layer_norm.weight"], "ln_final.bias": plain["final_layer_norm.bias"],
           "logit_scale": torch.tensor(4.6)}
    if "text_projection.weight" in plain:
        out["text_projection"] = plain["text_projection.weight"].T.contiguous()
    for i in range(layers):
        of = lambda rest: plain[f"encoder.layers.{i}.{rest}"]
        for end in ("weight", "bias"):
            out[f"transformer.resblocks.{i}.attn.in_proj_{end}"] = torch.cat([of(f"self_attn.{part}_proj.{end}") for part in "qkv"])
            for new, old in OPEN_CLIP.items():
                out[f"transformer.resblocks.{i}.{old}.{end}"] = of(f"{new}.{end}")
    return {f"{prefix}.model.{name}": tensor for name, tensor in out.items()}


def convert(folder):
    """All tensors of a folder as one checkpoint."""
    part = lambda name: (read(folder / name), json.loads((folder / name / "config.json").read_text()))
    out = unet(*part("unet")) | vae(*part("vae"))
    has = lambda name: (folder / name).is_dir()
    texts = {name: part(name) for name in ("text_encoder", "text_encoder_2") if has(name)}
    if "text_encoder_2" in texts:
        if "text_encoder" in texts:
            out |= clip(texts["text_encoder"][0], "conditioner.embedders.0")
        place = len(texts) - 1
        out |= open_clip(texts["text_encoder_2"][0], f"conditioner.embedders.{place}", False)
    elif texts["text_encoder"][1].get("hidden_act") == "gelu":
        out |= open_clip(texts["text_encoder"][0], "cond_stage_model", True)
    else:
        out |= clip(texts["text_encoder"][0], "cond_stage_model")
    return {name: tensor.contiguous() for name, tensor in out.items()}


def check(file, folder):
    """Diffusers reads the file; its U-Net and autoencoder must be the folder's."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        ours = kind.from_single_file(str(file), config=str(folder), subfolder=name).state_dict()
        theirs = kind.from_pretrained(folder / name).state_dict()
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        print(f"{name}: {'the same' if same else 'DIFFERENT'}, {len(ours)} tensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--v-pred", action="store_true", help="with the key that marks v-prediction")
    parser.add_argument("--zero-snr", action="store_true", help="with the key that marks zero terminal SNR")
    parser.add_argument("--legacy", action="store_true", help="a .ckpt as before PyTorch 1.6")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    state = convert(arguments.folder)
    if arguments.half:
        state = {name: tensor.half() for name, tensor in state.items()}
    for mark, key in ((arguments.v_pred, "v_pred"), (arguments.zero_snr, "ztsnr")):
        if mark:
            state[key] = torch.tensor([])
    if arguments.out.suffix == ".safetensors":
        save_file(state, arguments.out)
    else:
        whole = dict(state_dict=state, global_step=470000, epoch=3, hyper_parameters=dict(lr=1e-4, betas=[0.9, 0.999]))
        torch.save(whole, arguments.out, _use_new_zipfile_serialization=not arguments.legacy)
    if arguments.check:
        check(arguments.out, arguments.folder)


if __name__ == "__main__":
    main()
