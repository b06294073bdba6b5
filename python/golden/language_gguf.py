"""Tiny models of experts as GGUF files hold them, with what transformers computes of the numbers in the blocks.

    python language_gguf.py OUT [--seed N]        (OUT: crates/ondine-models/tests/data/gguf)

OUT/NAME.gguf is written by the package `gguf`, the matrices of experts as stacks in the block format of its row below,
and OUT/NAME.safetensors holds `input_ids` [tokens] and the `logits` [tokens, vocabulary] of transformers.
"""
import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file

from language import YARN
from weights import randomize

TOKENS = 13
Q = gguf.GGMLQuantizationType
# The class of a config, the architecture in files, if rows of queries and keys are permuted, formats, and options.
FAMILIES = {
    "mixtral": ("Mixtral", "llama", True, Q.Q4_0, dict(num_local_experts=4, num_experts_per_tok=2)),
    "qwen2moe": ("Qwen2Moe", "qwen2moe", False, Q.Q8_0,
                 dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=False,
                      shared_expert_intermediate_size=64)),
    "qwen3moe": ("Qwen3Moe", "qwen3moe", False, Q.Q5_1,
                 dict(num_local_experts=6, num_experts_per_tok=3, moe_intermediate_size=64, head_dim=12,
                      norm_topk_prob=True)),
    "granitemoe": ("GraniteMoe", "granitemoe", True, Q.F16,
                   dict(num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=3.0, attention_multiplier=0.3,
                        residual_multiplier=0.6, logits_scaling=2.0)),
    "olmoe": ("Olmoe", "olmoe", False, Q.F32, dict(num_experts=4, num_experts_per_tok=2)),
    "gpt-oss": ("GptOss", "gpt-oss", False, Q.MXFP4,
                dict(num_local_experts=4, num_experts_per_tok=2, head_dim=10, sliding_window=6,
                     rope_parameters=YARN | dict(truncate=False))),
}
INSIDE = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
          "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
          "input_layernorm": "attn_norm", "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp",
          "block_sparse_moe.router": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
          "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
          "mlp.shared_expert.down_proj": "ffn_down_shexp"}


class File:
    """A GGUF file in the making; what is put into it is rounded in the model, too."""

    def __init__(self, path, name, model):
        _, architecture, self.permuted, self.format, _ = FAMILIES[name]
        self.config, self.writer = model.config, gguf.GGUFWriter(path, architecture)

    def put(self, name, tensor, format=Q.F32):
        """Writes a tensor, and yields what the file holds of it."""
        data = tensor.contiguous().numpy()
        if format in (Q.F32, Q.F16):
            data = data.astype(np.float32 if format == Q.F32 else np.float16)
            self.writer.add_tensor(name, data)
            return torch.from_numpy(data.astype(np.float32))
        blocks = quantize(data, format)
        self.writer.add_tensor(name, blocks, raw_dtype=format)
        return torch.from_numpy(dequantize(blocks, format).reshape(data.shape).copy())

    def stacks(self, layer, experts):
        """The matrices of all experts."""
        turned = type(experts).__name__.startswith("GptOss")
        flip = (lambda x: x.transpose(1, 2)) if turned else (lambda x: x)
        both, down = flip(experts.gate_up_proj.data), flip(experts.down_proj.data)
        width = both.shape[1] // 2
        parts = (slice(0, None, 2), slice(1, None, 2)) if turned else (slice(0, width), slice(width, None))
        both = both.clone()
        for part, name in zip(parts, ["gate", "up"]):
            both[:, part] = self.put(f"blk.{layer}.ffn_{name}_exps.weight", both[:, part], self.format)
            if turned:
                self.put(f"blk.{layer}.ffn_{name}_exps.bias", experts.gate_up_proj_bias.data[:, part])
        if turned:
            self.put(f"blk.{layer}.ffn_down_exps.bias", experts.down_proj_bias.data)
        experts.gate_up_proj.data = flip(both).contiguous()
        experts.down_proj.data = flip(self.put(f"blk.{layer}.ffn_down_exps.weight", down, self.format)).contiguous()

    def rest(self, path, parameter):
        """Any other tensor."""
        outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                   "lm_head.weight": "output.weight"}
        if path in outside:
            self.put(outside[path], parameter.data)
            return
        layer, module = path.removeprefix("model.layers.").split(".", 1)
        if module == "self_attn.sinks":
            self.put(f"blk.{layer}.attn_sinks.weight", parameter.data)
            return
        module, kind = module.rsplit(".", 1)
        tensor = parameter.data
        heads = {"self_attn.q_proj": self.config.num_attention_heads, "self_attn.k_proj": self.config.num_key_value_heads}
        if self.permuted and module in heads:
            shape = tensor.shape
            tensor = tensor.reshape(heads[module], 2, -1, *shape[1:]).transpose(1, 2).reshape(shape)
        if module == "mlp.shared_expert_gate":
            tensor = tensor[0]
        second = "post_attention_norm" if type(self.config).__name__ == "GptOssConfig" else "ffn_norm"
        self.put(f"blk.{layer}.{INSIDE.get(module, second)}.{kind}", tensor)

    def metadata(self):
        config, writer = self.config, self.writer
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        if getattr(config, "head_dim", None):
            writer.add_key_length(config.head_dim)
            writer.add_value_length(config.head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        rope = config.rope_parameters
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if type(config).__name__ == "GptOssConfig":
            writer.add_sliding_window(config.sliding_window)
        writer.add_expert_count(getattr(config, "num_local_experts", None) or config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        if getattr(config, "moe_intermediate_size", None):
            writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        if getattr(config, "shared_expert_intermediate_size", None):
            writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
        if hasattr(config, "embedding_multiplier"):
            writer.add_embedding_scale(config.embedding_multiplier)
            writer.add_attention_scale(config.attention_multiplier)
            writer.add_residual_scale(config.residual_multiplier)
            writer.add_logit_scale(config.logits_scaling)

    def close(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (kind, _, _, _, own) in FAMILIES.items():
        sizes = dict(vocab_size=44, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        config = getattr(transformers, f"{kind}Config")(**(sizes | own))
        config._attn_implementation = config._experts_implementation = "eager"
        model = randomize(getattr(transformers, f"{kind}ForCausalLM")(config).float(), options.seed).eval()
        file = File(options.out / f"{name}.gguf", name, model)
        file.metadata()
        for path, parameter in model.named_parameters():
            if "norm" in path:
                parameter.data.add_(1)
            if "experts." in path:
                if parameter.ndim == 3:
                    parameter.data.mul_((parameter[0].numel() / 32) ** 0.5)
            else:
                file.rest(path, parameter)
        for layer, block in enumerate(model.model.layers):
            moe = getattr(block, "mlp", None) or block.block_sparse_moe
            file.stacks(layer, moe.experts)
        file.close()
        ids = torch.randint(0, config.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(options.seed))
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0]
        save_file({"input_ids": ids[0].clone(), "logits": logits.contiguous()}, options.out / f"{name}.safetensors")
        print(name, (options.out / f"{name}.gguf").stat().st_size, f"largest logit {logits.abs().max():.2f}")


if __name__ == "__main__":
    main()
