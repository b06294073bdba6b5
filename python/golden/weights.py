"""Random weights that keep a network's signals healthy, and the few ways in which folders store them."""
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

NORMS = (nn.GroupNorm, nn.LayerNorm)


def drawn(module, name, parameter, generator):
    """One parameter's values: unit-gain matrices, norms near identity, small biases, nothing left at zero."""
    noise = torch.randn(parameter.shape, generator=generator)
    if isinstance(module, nn.Embedding):
        return 0.5 * noise
    if parameter.ndim >= 2:
        return noise / math.sqrt(parameter[0].numel())
    if isinstance(module, NORMS) and name == "weight":
        return 1 + 0.1 * noise
    return 0.1 * noise


@torch.no_grad()
def randomize(model, seed):
    """Redraw every parameter of `model` from one seed and return the model, ready for inference."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            parameter.copy_(drawn(module, name, parameter, generator))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def rescale(layer, output, std):
    """Scale the last `layer` of a network so that `output`, which it made, would have the given deviation."""
    factor = std / output.std()
    layer.weight.mul_(factor)
    if layer.bias is not None:
        layer.bias.mul_(factor)


def rounded(model, dtype):
    """Round the weights to what a file of `dtype` can hold, computing on in f32."""
    return model.to(dtype).float()


def prefix_keys(file, prefix):
    """Put `prefix` before each tensor name: current transformers drop the `text_model.` that published folders have."""
    state = load_file(file)
    save_file({name if name.startswith(prefix) or name == "text_projection.weight" else prefix + name: tensor
               for name, tensor in state.items()}, file, metadata={"format": "pt"})


def scrub(folder):
    """Drop the config fields that only say where a model came from."""
    for file in Path(folder).rglob("config.json"):
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n")


class Projection:
    """What makes tokens of a picture's vectors, with the names of an IP-Adapter's file."""

    def __init__(self, config, module, tensors):
        self.config, self.module, self.tensors = config, module, tensors

    def to(self, _dtype):
        return self

    def save_pretrained(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"_class_name": type(self.module).__name__} | self.config))
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, folder / "diffusion_pytorch_model.safetensors")
