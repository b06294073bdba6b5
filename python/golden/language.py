"""Tiny language models of every family with what transformers computes, for the tests of the one Rust definition.

    python language.py OUT [--only NAME] [--seed N]         (OUT: crates/ondine-models/tests/data/language)

Each OUT/NAME is a folder as `save_pretrained` leaves it, with `golden.safetensors`: `input_ids` [tokens], and of them
`logits` [tokens, vocabulary], `last_hidden_state` and `hidden_states.1`, what enters the second layer. All is f32.
Names that end in `-fused` keep the matrices of experts as the module has them, not as `save_pretrained` splits them.
Another `--seed` draws other sizes: widths, heads, windows and numbers of layers.
"""
import argparse
import random
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from weights import randomize

TOKENS = 23

# What is particular to a family: the class of its config, and options beside the sizes.
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16, rope_theta=500.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, rope_theta=1000.0)
LINEAR = dict(rope_type="linear", factor=2.0, rope_theta=10000.0)
FAMILIES = {
    "llama": ("Llama", dict()),
    "llama31": ("Llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama-linear": ("Llama", dict(rope_parameters=LINEAR, head_dim=12)),
    "mistral": ("Mistral", dict(sliding_window=7)),
    "qwen2": ("Qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen2-yarn": ("Qwen2", dict(rope_parameters=YARN)),
    "qwen3": ("Qwen3", dict(head_dim=12, tie_word_embeddings=True)),
    "gemma2": ("Gemma2", dict(sliding_window=6, query_pre_attn_scalar=20, attn_logit_softcapping=5.0,
                              final_logit_softcapping=3.0, head_dim=12)),
    "gemma3": ("Gemma3Text", dict(sliding_window=6, query_pre_attn_scalar=20, head_dim=12, num_hidden_layers=7)),
    "phi3": ("Phi3", dict(sliding_window=9, pad_token_id=0)),
    "phi3-long": ("Phi3", dict(pad_token_id=0, max_position_embeddings=64, original_max_position_embeddings=32,
                               rope_parameters=dict(rope_type="longrope", rope_theta=1000.0))),
    "olmo2": ("Olmo2", dict()),
    "granite": ("Granite", dict(embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.6,
                                logits_scaling=2.0)),
    "qwen2moe": ("Qwen2Moe", dict(num_hidden_layers=3, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12,
                                  shared_expert_intermediate_size=20, mlp_only_layers=[1])),
    "qwen3moe": ("Qwen3Moe", dict(head_dim=6, num_hidden_layers=3, num_local_experts=7, num_experts_per_tok=3,
                                  moe_intermediate_size=10, norm_topk_prob=True, decoder_sparse_step=2)),
    "qwen3moe-fused": ("Qwen3Moe", dict(head_dim=6, num_local_experts=6, num_experts_per_tok=2,
                                        moe_intermediate_size=14)),
    "mixtral": ("Mixtral", dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=7)),
    "granitemoe": ("GraniteMoe", dict(num_local_experts=5, num_experts_per_tok=3, embedding_multiplier=3.0,
                                      attention_multiplier=0.3, residual_multiplier=0.6, logits_scaling=2.0)),
    "olmoe": ("Olmoe", dict(num_experts=6, num_experts_per_tok=3, clip_qkv=1.5)),
    "gpt-oss": ("GptOss", dict(num_local_experts=5, num_experts_per_tok=2, head_dim=6, sliding_window=6,
                               swiglu_limit=1.2, rope_parameters=YARN | dict(truncate=False))),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=5, pad_token_id=0)),
}


def sizes(rng, experts):
    """Sizes of a network that no two seeds share; `experts` are many, and so are kept small."""
    kv_heads, group = rng.choice([1, 2, 3]), rng.choice([1, 2, 3])
    heads = kv_heads * group
    vocabulary = rng.randrange(40, 70)
    head_dim, width = rng.choice([6, 8, 10]), rng.randrange(20, 50)
    if experts:
        head_dim, width = head_dim - 2, width // 4
    return dict(vocab_size=vocabulary, hidden_size=heads * head_dim,
                intermediate_size=width, num_hidden_layers=rng.choice([2, 3]),
                num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=64,
                bos_token_id=1, eos_token_id=2)


def build(name, seed):
    """A model with random weights of healthy size, and its golden tensors."""
    kind, options = FAMILIES[name]
    rng = random.Random(f"{name} {seed}")
    options = sizes(rng, "num_experts_per_tok" in options) | options
    if name == "phi3-long":
        dim = options["hidden_size"] // options["num_attention_heads"]
        factors = [[1 + rng.random() for _ in range(dim // 2)] for _ in range(2)]
        options["rope_parameters"] = options["rope_parameters"] | dict(short_factor=factors[0], long_factor=factors[1])
    config = getattr(transformers, f"{kind}Config")(**options)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # others want multiples of 16 bytes
    model = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config)
    model = randomize(model.float(), rng.randrange(1 << 30)).eval()
    for path, parameter in model.named_parameters():
        if "experts." in path and parameter.ndim == 3:  # matrices in a stack: unit gain of each
            inputs = parameter.shape[1 if kind == "GptOss" else 2]
            parameter.data.mul_((parameter[0].numel() / inputs) ** 0.5)
    if not kind.startswith("Gemma"):  # whose norms add the one themselves
        for path, parameter in model.named_parameters():
            if "norm" in path:
                parameter.data.add_(1)
    ids = torch.tensor([[rng.randrange(options["vocab_size"]) for _ in range(TOKENS)]])
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    golden = dict(input_ids=ids[0], logits=out.logits[0], last_hidden_state=out.hidden_states[-1][0])
    golden["hidden_states.1"] = out.hidden_states[1][0]
    return model, {key: value.detach().contiguous().clone() for key, value in golden.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in [options.only] if options.only else FAMILIES:
        folder = options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        model, golden = build(name, options.seed)
        model.save_pretrained(folder)
        if name.endswith("-fused"):
            save_file({key: value.contiguous() for key, value in model.state_dict().items()},
                      folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "generation_config.json").unlink(missing_ok=True)
        save_file(golden, folder / "golden.safetensors")
        print(name, f"{sum(p.numel() for p in model.parameters()):,} parameters,",
              f"largest logit {golden['logits'].abs().max():.2f}")


if __name__ == "__main__":
    main()
