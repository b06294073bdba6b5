"""What tiny language models compute when their keys and values are kept in fewer bits, as transformers has it.

    python kv_cache.py FOLDER...        (FOLDER: crates/ondine-models/tests/data/language/NAME, made by language.py)

Adds `golden_kv.safetensors` to each folder: for `bf16` and for `int8`, `input_ids.TYPE` [tokens] and the `logits.TYPE`
[tokens, vocabulary] of them, in f32. In int8 each head of a token has a scale, the largest magnitude of its numbers over
127, for keys and for values; keys are those that have been turned to their positions. Tokens are drawn until no number
lies so near the middle between two codes that its last digit would say which one it becomes.
"""
import argparse
import random
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

TOKENS = 13

# Draws of tokens, of which that is kept whose numbers are farthest from any middle.
DRAWS = 200


def int8(x):
    """Numbers by way of 8 bits, and how far the nearest is from a middle, in codes."""
    largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    steps = x * (127 / largest)
    return steps.round().clamp(-127, 127) * (largest * (1 / 127)), off_middle(steps)


def bf16(x):
    """The same by way of bf16."""
    spacing = 2.0 ** (torch.frexp(x)[1] - 8)
    return x.bfloat16().float(), off_middle(x / spacing)


def off_middle(steps):
    return (steps - steps.floor() - 0.5).abs().min().item()


class Rounded(transformers.DynamicCache):
    """A cache that gives back what it can keep."""

    def __init__(self, how):
        super().__init__()
        self.how, self.nearest = how, 1.0

    def update(self, keys, values, *others, **named):
        (keys, a), (values, b) = self.how(keys), self.how(values)
        self.nearest = min(self.nearest, a, b)
        return super().update(keys, values, *others, **named)


def golden(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    rng = random.Random(folder.name)
    tensors = {}
    for how in (bf16, int8):
        best = 0.0
        for _ in range(DRAWS):
            ids = torch.tensor([[rng.randrange(model.config.vocab_size) for _ in range(TOKENS)]])
            cache = Rounded(how)
            with torch.no_grad():
                logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0]
            if cache.nearest > best:
                best = cache.nearest
                tensors[f"input_ids.{how.__name__}"], tensors[f"logits.{how.__name__}"] = ids[0], logits
        print(f"{folder.name} in {how.__name__}: {best:.1e} of a code from the nearest middle")
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    for folder in parser.parse_args().folders:
        save_file(golden(folder), folder / "golden_kv.safetensors")


if __name__ == "__main__":
    main()
