"""Checkpoints of transformers in one file, under the names of the programs that trained them, made of folders of flow.py
and flow_chats.py.

    python flow_files.py FOLDER OUT.safetensors|OUT.gguf [--whole] [--type Q8_0|F16|BF16|F32] [--check]

--whole holds autoencoder and CLIP besides, with the names that ComfyUI gives them; a GGUF file holds the transformer
alone, its matrices in blocks where rows are long enough. --check reads the file back with diffusers, and every tensor must
be the folder's.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from checkpoints import read, vae

SD3 = {"pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder",
       "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
       "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
       "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
       "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2", "proj_out": "final_layer.linear"}
SD3_BLOCK = {"norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
             "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k", "attn2.norm_q": "x_block.attn2.ln_q",
             "attn2.norm_k": "x_block.attn2.ln_k", "attn.norm_added_q": "context_block.attn.ln_q",
             "attn.norm_added_k": "context_block.attn.ln_k", "attn.to_out.0": "x_block.attn.proj",
             "attn2.to_out.0": "x_block.attn2.proj", "attn.to_add_out": "context_block.attn.proj",
             "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2", "ff_context.net.0.proj": "context_block.mlp.fc1",
             "ff_context.net.2": "context_block.mlp.fc2"}
SD3_QKV = {"attn.to_": "x_block.attn.qkv", "attn2.to_": "x_block.attn2.qkv", "attn.add_": "context_block.attn.qkv"}
FLUX = {"x_embedder": "img_in", "context_embedder": "txt_in", "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
        "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
        "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
        "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer", "proj_out": "final_layer.linear"}
FLUX_BLOCK = {"norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin", "attn.to_out.0": "img_attn.proj",
              "attn.to_add_out": "txt_attn.proj", "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
              "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2"}
FLUX_NORMS = {"attn.norm_q.weight": "img_attn.norm.query_norm.scale", "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
              "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale", "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale"}
FLUX_QKV = {"attn.to_": "img_attn.qkv", "attn.add_": "txt_attn.qkv"}

FLUX2 = {"x_embedder": "img_in", "context_embedder": "txt_in", "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
         "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
         "time_guidance_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
         "time_guidance_embed.guidance_embedder.linear_2": "guidance_in.out_layer", "proj_out": "final_layer.linear"}
FLUX2 |= {f"{name}.linear": f"{name}.lin"
          for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")}
FLUX2_BLOCK = {"attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj", "ff.linear_in": "img_mlp.0",
               "ff.linear_out": "img_mlp.2", "ff_context.linear_in": "txt_mlp.0", "ff_context.linear_out": "txt_mlp.2"}


def swapped(tensor):
    """Scale and shift the other way round."""
    return torch.cat(tensor.chunk(2)[::-1])


def block(state, prefix, names, qkv):
    """One block's tensors by their first names, queries, keys and values as one."""
    own = {name[len(prefix):]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    out = {}
    for end in (".weight", ".bias"):
        for new, old in names.items():
            if new + end in own:
                out[old + end] = own[new + end]
        for new, old in qkv.items():
            tails = ["q_proj", "k_proj", "v_proj"] if new.endswith("add_") else ["q", "k", "v"]
            if new + tails[0] + end in own:
                out[old + end] = torch.cat([own[new + tail + end] for tail in tails])
    return own, out


def flux2(state, config):
    """The tensors of a FLUX.2 by their first names."""
    out = {old + ".weight": state[new + ".weight"] for new, old in FLUX2.items() if new + ".weight" in state}
    out["final_layer.adaLN_modulation.1.weight"] = swapped(state["norm_out.linear.weight"])
    for i in range(config["num_layers"]):
        own, block_of = block(state, f"transformer_blocks.{i}.", FLUX2_BLOCK, FLUX_QKV)
        block_of |= {old: own[new] for new, old in FLUX_NORMS.items()}
        out |= {f"double_blocks.{i}.{name}": tensor for name, tensor in block_of.items()}
    for i in range(config["num_single_layers"]):
        own, _ = block(state, f"single_transformer_blocks.{i}.", {}, {})
        for new, old in [("attn.to_qkv_mlp_proj.weight", "linear1.weight"), ("attn.to_out.weight", "linear2.weight"),
                         ("attn.norm_q.weight", "norm.query_norm.scale"), ("attn.norm_k.weight", "norm.key_norm.scale")]:
            out[f"single_blocks.{i}.{old}"] = own[new]
    return out


def z_image(state, config):
    """The tensors of a Z-Image by their first names."""
    out = {}
    for name, tensor in state.items():
        for new, old in [("all_final_layer.2-1.", "final_layer."), ("all_x_embedder.2-1.", "x_embedder."),
                         (".attention.to_out.0.", ".attention.out."), (".attention.norm_q.", ".attention.q_norm."),
                         (".attention.norm_k.", ".attention.k_norm.")]:
            name = name.replace(new, old)
        if ".attention.to_" not in name:
            out[name] = tensor
    for name in state:
        if name.endswith(".attention.to_q.weight"):
            stem = name.removesuffix("to_q.weight")
            out[stem + "qkv.weight"] = torch.cat([state[f"{stem}to_{part}.weight"] for part in "qkv"])
    return out | {"norm_final.weight": torch.ones(config["dim"])}


SANA = {"patch_embed.proj": "x_embedder.proj", "caption_projection.linear_1": "y_embedder.y_proj.fc1",
        "caption_projection.linear_2": "y_embedder.y_proj.fc2", "time_embed.linear": "t_block.1", "caption_norm": "attention_y_norm",
        "time_embed.guidance_embedder.linear_1": "cfg_embedder.mlp.0", "time_embed.guidance_embedder.linear_2": "cfg_embedder.mlp.2",
        "proj_out": "final_layer.linear", "scale_shift_table": "final_layer.scale_shift_table"}
SANA |= {f"time_embed.{inner}timestep_embedder.linear_{i}": f"t_embedder.mlp.{2 * i - 2}" for inner in ("", "emb.") for i in (1, 2)}
SANA_BLOCK = {"attn1.to_out.0": "attn.proj", "attn1.norm_q": "attn.q_norm", "attn1.norm_k": "attn.k_norm", "attn2.to_q": "cross_attn.q_linear",
              "attn2.norm_q": "cross_attn.q_norm", "attn2.norm_k": "cross_attn.k_norm", "attn2.to_out.0": "cross_attn.proj",
              "ff.conv_inverted": "mlp.inverted_conv.conv", "ff.conv_depth": "mlp.depth_conv.conv", "ff.conv_point": "mlp.point_conv.conv"}


def sana(state, config):
    """The tensors of a Sana by their first names, with what training leaves beside them."""
    out = {}
    for new, old in SANA.items():
        for end in ("", ".weight", ".bias"):
            if new + end in state:
                out[old + end] = state[new + end]
    for i in range(config["num_layers"]):
        own, named = block(state, f"transformer_blocks.{i}.", SANA_BLOCK, {})
        for old, parts in (("attn.qkv", ["attn1.to_q", "attn1.to_k", "attn1.to_v"]), ("cross_attn.kv_linear", ["attn2.to_k", "attn2.to_v"])):
            for end in (".weight", ".bias"):
                if parts[0] + end in own:
                    named[old + end] = torch.cat([own[part + end] for part in parts])
        named["scale_shift_table"] = own["scale_shift_table"]
        out |= {f"blocks.{i}.{name}": tensor for name, tensor in named.items()}
    return out | {"y_embedder.y_embedding": torch.ones(300, config["caption_channels"]), "pos_embed": torch.ones(1, 4, 8)}


FIRST = {"SanaTransformer2DModel": "sana", "SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux", "Flux2Transformer2DModel": "flux2",
         "ZImageTransformer2DModel": "z_image"}


def transformer(state, config):
    """The transformer's tensors by their first names."""
    other = dict(flux2=flux2, z_image=z_image, sana=sana).get(FIRST[config["_class_name"]])
    if other:
        return other(state, config)
    sd3 = config["_class_name"].startswith("SD3")
    names, out = SD3 if sd3 else FLUX, {}
    for name, tensor in state.items():
        for new, old in names.items():
            if name == new or name.startswith(new + "."):
                out[old + name[len(new):]] = tensor
                break
    for end in ("weight", "bias"):
        out[f"final_layer.adaLN_modulation.1.{end}"] = swapped(state[f"norm_out.linear.{end}"])
    for i in range(config["num_layers"]):
        own, block_of = block(state, f"transformer_blocks.{i}.", SD3_BLOCK if sd3 else FLUX_BLOCK, SD3_QKV if sd3 else FLUX_QKV)
        block_of |= {} if sd3 else {old: own[new] for new, old in FLUX_NORMS.items()}
        if sd3 and i + 1 == config["num_layers"]:
            for end in ("weight", "bias"):
                block_of[f"context_block.adaLN_modulation.1.{end}"] = swapped(own[f"norm1_context.linear.{end}"])
        out |= {f"{'joint' if sd3 else 'double'}_blocks.{i}.{name}": tensor for name, tensor in block_of.items()}
    for i in range(config.get("num_single_layers", 0)):
        own, _ = block(state, f"single_transformer_blocks.{i}.", {}, {})
        to = f"single_blocks.{i}."
        for end in ("weight", "bias"):
            out[f"{to}linear1.{end}"] = torch.cat([own[f"{part}.{end}"] for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")])
            out[f"{to}linear2.{end}"], out[f"{to}modulation.lin.{end}"] = own[f"proj_out.{end}"], own[f"norm.linear.{end}"]
        out[f"{to}norm.query_norm.scale"], out[f"{to}norm.key_norm.scale"] = own["attn.norm_q.weight"], own["attn.norm_k.weight"]
    return out


def write_gguf(path, state, kind, type_name):
    """A GGUF file as ComfyUI-GGUF writes it: matrices in blocks where rows are whole ones, the rest as it is."""
    import gguf
    writer = gguf.GGUFWriter(path, kind)
    wanted = gguf.GGMLQuantizationType[type_name]
    size, _ = gguf.GGML_QUANT_SIZES[wanted]
    for name, tensor in state.items():
        data = tensor.float().numpy()
        quantized = tensor.ndim == 2 and tensor.shape[1] % size == 0
        if quantized:
            writer.add_tensor(name, gguf.quantize(data, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(name, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(path, folder, config):
    """Compare what diffusers reads with the folder."""
    import inspect
    from diffusers.loaders import single_file_utils as utils
    kind = FIRST[config["_class_name"]]
    name = f"convert_{kind}_transformer_{'' if kind == 'sana' else 'checkpoint_'}to_diffusers"
    # Its width is that of the published networks.
    source = inspect.getsource(getattr(utils, name))
    width = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    scope = dict(vars(utils))
    exec(source.replace("inner_dim = 3072", f"inner_dim = {width}"), scope)
    own, other = read(folder / "transformer"), scope[name](load_file(path))
    wrong = [name for name in own if name not in other or not torch.equal(own[name].float(), other[name].float())]
    print(f"{len(own) - len(wrong)} of {len(own)} tensors of the transformer are the folder's{': not ' + wrong[0] if wrong else ''}")


def whole(folder, config):
    """All tensors of a folder, with the names that ComfyUI gives them."""
    state = {"model.diffusion_model." + name: tensor for name, tensor in transformer(read(folder / "transformer"), config).items()}
    state |= vae(read(folder / "vae"), json.loads((folder / "vae/config.json").read_text()))
    sd3 = config["_class_name"].startswith("SD3")
    for part, name in [("text_encoder", "clip_l")] + [("text_encoder_2", "clip_g")] * sd3:
        state |= {f"text_encoders.{name}.transformer.{key}": tensor for key, tensor in read(folder / part).items()}
    third = "text_encoder_3" if sd3 else "text_encoder_2"
    if (folder / third).is_dir():
        state |= {f"text_encoders.t5xxl.transformer.{key}": tensor for key, tensor in read(folder / third).items()}
    return state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--type", default="Q8_0")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    config = json.loads((arguments.folder / "transformer/config.json").read_text())
    state = transformer(read(arguments.folder / "transformer"), config)
    if arguments.out.suffix == ".gguf":
        write_gguf(arguments.out, state, FIRST[config["_class_name"]], arguments.type)
        return
    if arguments.whole:
        state = whole(arguments.folder, config)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, arguments.out)
    if arguments.check:
        check(arguments.out, arguments.folder, config)


if __name__ == "__main__":
    main()
