"""Single networks of a folder as ComfyUI and GGUF keep them, each alone in its file.

    python parts_alone.py FOLDER PART OUT.safetensors|OUT.gguf [--type F16|Q8_0|F32]

An autoencoder gets its first names, of FLUX.2 with the convolutions around the latents inside of encoder and decoder; a
Qwen 3 and a T5 keep those of transformers, or get those of llama.cpp in a GGUF file, a Qwen 3 with its vocabulary.
"""
import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import save_file

from checkpoints import read, vae

QWEN3 = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "model.layers.": "blk."}
T5 = {"encoder.final_layer_norm": "enc.output_norm", "shared": "token_embd", "encoder.block.": "enc.blk.", "layer.0.SelfAttention.q": "attn_q",
      "layer.0.SelfAttention.k": "attn_k", "layer.0.SelfAttention.v": "attn_v", "layer.0.SelfAttention.o": "attn_o",
      "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b", "layer.0.layer_norm": "attn_norm",
      "layer.1.DenseReluDense.wi_0": "ffn_gate", "layer.1.DenseReluDense.wi_1": "ffn_up", "layer.1.DenseReluDense.wo": "ffn_down",
      "layer.1.layer_norm": "ffn_norm"}


def first_names(state, config):
    """The tensors of an autoencoder under their first names."""
    out = {name.removeprefix("first_stage_model."): tensor for name, tensor in vae(state, config).items()}
    if "bn.running_mean" in out:
        for way, name in (("encoder", "quant_conv"), ("decoder", "post_quant_conv")):
            for end in ("weight", "bias"):
                if f"{name}.{end}" in out:
                    out[f"{way}.{name}.{end}"] = out.pop(f"{name}.{end}")
    return out


DEEP = [("encoder.conv_in.", "encoder.project_in.conv."), ("encoder.conv_out.", "encoder.project_out.0.conv."),
        ("decoder.conv_in.", "decoder.project_in.conv."), ("decoder.norm_out.", "decoder.project_out.0."),
        ("decoder.conv_out.", "decoder.project_out.2.conv."), ("encoder.down_blocks", "encoder.stages"), ("decoder.up_blocks", "decoder.stages")]
DEEP_INNER = [(".conv_out.norm.", ".local_module.main.point_conv.norm."), (".conv_out.conv_inverted.", ".local_module.main.inverted_conv.conv."),
              (".conv_out.conv_depth.", ".local_module.main.depth_conv.conv."), (".conv_out.conv_point.", ".local_module.main.point_conv.conv."),
              (".attn.to_qkv_multiscale.0.proj_in.", ".context_module.main.aggreg.0.0."),
              (".attn.to_qkv_multiscale.0.proj_out.", ".context_module.main.aggreg.0.1."), (".attn.norm_out.", ".context_module.main.proj.norm."),
              (".conv1.", ".main.conv1.conv."), (".conv2.", ".main.conv2.conv."), (".norm.", ".main.conv2.norm."), (".conv.", ".main.conv.conv.")]


def deep(state):
    """The tensors of a deep compression autoencoder under their first names; diffusers must read them back."""
    import torch
    from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers as converted
    out = {}
    for name, tensor in state.items():
        place, _, last = name.rpartition(".attn.")
        if last in ("to_q.weight", "to_k.weight", "to_v.weight"):
            if last == "to_q.weight":
                parts = torch.cat([state[f"{place}.attn.to_{part}.weight"] for part in "qkv"])
                out[first(f"{place}.context_module.main.qkv.conv.weight")] = parts[:, :, None, None]
        elif last == "to_out.weight":
            out[first(f"{place}.context_module.main.proj.conv.weight")] = tensor[:, :, None, None]
        else:
            out[first(name)] = tensor
    back = converted(dict(out))
    wrong = [name for name in state if name not in back or not torch.equal(back[name].reshape(state[name].shape), state[name])]
    print(f"{len(state) - len(wrong)} of {len(state)} tensors are the folder's{': not ' + wrong[0] if wrong else ''}")
    return out


def first(name):
    """The first name of a tensor of a deep compression autoencoder."""
    for new, old in DEEP:
        if name.startswith(new):
            name = old + name[len(new):]
    for new, old in DEEP_INNER:
        if new in name and ".stages." in name:
            return name.replace(new, old)
    return name


def write_gguf(path, folder, state, config, kind):
    """A text encoder as llama.cpp names it; matrices whose rows are no whole blocks stay F32."""
    chat = config["model_type"] == "qwen3"
    writer = gguf.GGUFWriter(path, "qwen3" if chat else "t5encoder")
    if chat:
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        vocabulary = json.loads((folder / "tokenizer/tokenizer.json").read_text())
        model, added = vocabulary["model"], {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
        words = {id: word for word, id in model["vocab"].items()} | added
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list([words[i] for i in range(len(words))])
        writer.add_token_types([3 if i in added else 1 for i in range(len(words))])
        writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]])
    wanted = gguf.GGMLQuantizationType[kind]
    size, _ = gguf.GGML_QUANT_SIZES[wanted]
    for name, tensor in state.items():
        if name in ("lm_head.weight", "encoder.embed_tokens.weight"):
            continue
        if chat and not name.startswith("model."):
            name = "model." + name
        for own, theirs in (QWEN3 if chat else T5).items():
            name = name.replace(own, theirs)
        data = np.ascontiguousarray(tensor.float().numpy())
        if data.ndim == 2 and data.shape[1] % size == 0 and kind != "F32":
            writer.add_tensor(name, gguf.quantize(data, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("part")
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="F32")
    arguments = parser.parse_args()
    state = read(arguments.folder / arguments.part)
    config = json.loads((arguments.folder / arguments.part / "config.json").read_text())
    if arguments.out.suffix == ".gguf":
        write_gguf(arguments.out, arguments.folder, state, config, arguments.type)
        return
    if arguments.part == "vae":
        state = deep(state) if config["_class_name"] == "AutoencoderDC" else first_names(state, config)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, arguments.out)


if __name__ == "__main__":
    main()
