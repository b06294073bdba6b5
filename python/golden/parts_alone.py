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
        state = first_names(state, config)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, arguments.out)


if __name__ == "__main__":
    main()
