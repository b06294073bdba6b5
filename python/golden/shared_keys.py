"""A PyTorch twin of a foundation model on a device, tiny and random, with what it computes.

    python shared_keys.py OUT [--seed N]        (OUT: crates/ondine-models/tests/data/language/afm)

The model is that of Apple's report of 2025 (arXiv 2507.13575) and of public ports of it: the last layers have queries
alone and attend to the keys and values of the last layer before them; queries and keys are turned in adjacent pairs and
then normed; keys and values are kept in 8 bits, with one scale of each for a layer. OUT holds `config.json`,
`model.safetensors` and `golden.safetensors`, whose tensors are those of `language.py`.
"""
import argparse
import json
import math
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

TOKENS = 23


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def turned(x, theta):
    """Heads `[tokens, heads, features]` turned to their positions, neighbours together."""
    tokens, _, features = x.shape
    steps = 1 / theta ** (torch.arange(0, features, 2).double() / features)
    angles = (torch.arange(tokens)[:, None].float() * steps.float()[None])[:, None]
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, config, own_keys):
        super().__init__()
        self.config, self.own_keys = config, own_keys
        hidden, head = config["hidden_size"], config["head_dim"]
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
        self.q_proj, self.q_norm = nn.Linear(hidden, heads * head, bias=False), Norm(head, config["rms_norm_eps"])
        self.o_proj = nn.Linear(heads * head, hidden, bias=False)
        if own_keys:
            self.k_proj, self.k_norm = nn.Linear(hidden, kv * head, bias=False), Norm(head, config["rms_norm_eps"])
            self.v_proj = nn.Linear(hidden, kv * head, bias=False)
            self.k_scale, self.v_scale = nn.Parameter(torch.tensor([0.02])), nn.Parameter(torch.tensor([0.015]))

    def rounded(self, x, scale, ties):
        steps = x / scale
        ties.append(((steps - steps.floor()) - 0.5).abs().min().item())
        return steps.round().clamp(-128, 127) * scale

    def forward(self, x, kept, ties):
        config, tokens, head = self.config, x.shape[0], self.config["head_dim"]
        q = self.q_norm(turned(self.q_proj(x).view(tokens, -1, head), config["rope_theta"]))
        if self.own_keys:
            k = self.k_norm(turned(self.k_proj(x).view(tokens, -1, head), config["rope_theta"]))
            v = self.v_proj(x).view(tokens, -1, head)
            kept = self.rounded(k, self.k_scale, ties), self.rounded(v, self.v_scale, ties)
        group = q.shape[1] // kept[0].shape[1]
        k, v = (y.repeat_interleave(group, 1) for y in kept)
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(head)
        scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -torch.inf)
        return self.o_proj(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)), kept


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, width = config["hidden_size"], config["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(hidden, width, bias=False), nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config, own_keys):
        super().__init__()
        self.input_layernorm = Norm(config["hidden_size"], config["rms_norm_eps"])
        self.post_attention_layernorm = Norm(config["hidden_size"], config["rms_norm_eps"])
        self.self_attn, self.mlp = Attention(config, own_keys), Mlp(config)

    def forward(self, x, kept, ties):
        mixed, kept = self.self_attn(self.input_layernorm(x), kept, ties)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), kept


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        own = config["num_hidden_layers"] - config["num_kv_reuse_layers"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config, index < own) for index in range(config["num_hidden_layers"]))
        self.norm = Norm(config["hidden_size"], config["rms_norm_eps"])

    def forward(self, ids):
        x, kept, entering, ties = self.embed_tokens(ids), None, [], []
        for layer in self.layers:
            entering.append(x)
            x, kept = layer(x, kept, ties)
        x = self.norm(x)
        golden = {"input_ids": ids, "logits": x @ self.embed_tokens.weight.T, "last_hidden_state": x}
        return golden | {"hidden_states.1": entering[1]}, min(ties)


def build(seed):
    rng = random.Random(seed)
    kv, group, head = rng.choice([1, 2]), rng.choice([2, 3]), rng.choice([6, 8])
    own, reusing = rng.choice([3, 5]), rng.choice([2, 3])
    config = dict(architectures=["AfmForCausalLM"], vocab_size=rng.randrange(40, 60), hidden_size=4 * rng.randrange(5, 8),
                  intermediate_size=rng.randrange(20, 40), num_hidden_layers=own + reusing, num_kv_reuse_layers=reusing,
                  num_attention_heads=kv * group, num_key_value_heads=kv, head_dim=head, max_position_embeddings=64,
                  rope_theta=500000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)
    generator = torch.Generator().manual_seed(seed)
    model = Model(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "_scale" in name:
            parameter.mul_(1 + 0.3 * noise.abs())
        elif "norm" in name:
            parameter.copy_(1 + 0.1 * noise)
        else:
            parameter.copy_(noise / (2 if "embed" in name else math.sqrt(parameter.shape[1])))
    golden, tie = model(torch.randint(0, config["vocab_size"], (TOKENS,), generator=generator))
    return config, model, golden, tie


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A number between two codes is rounded by its last digit, which is nobody's to say.
    seed = next(seed for seed in range(100 * options.seed, 100 * options.seed + 100) if build(seed)[3] > 2e-4)
    config, model, golden, tie = build(seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()},
              options.out / "model.safetensors")
    save_file({name: tensor.contiguous().clone() for name, tensor in golden.items()}, options.out / "golden.safetensors")
    print(f"seed {seed}: {config['num_hidden_layers']} layers, {sum(p.numel() for p in model.parameters()):,} parameters,",
          f"largest logit {golden['logits'].abs().max():.2f}, nearest tie {tie:.1e}")


if __name__ == "__main__":
    main()
