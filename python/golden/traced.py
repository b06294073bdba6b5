"""A small network with what PyTorch computes at each of its nodes, for the tests of `ondine compare` and `profile`.

    traced.py OUT

Writes OUT/traced.pt2, OUT/traced.nodes.safetensors (by node) and OUT/traced.modules.safetensors (by module).
`crates/ondine/tests/data` is its output.
"""

import pathlib
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from archives import without_folders  # noqa: E402
from ondine_golden import record  # noqa: E402


class Block(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + F.silu(self.norm(self.conv(x)))


class Traced(torch.nn.Module):
    """A convolutional stem, two residual blocks, attention over the pixels and a head; the batch is free."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = torch.nn.ModuleList([Block(16), Block(16)])
        self.norm = torch.nn.LayerNorm(16)
        self.query = torch.nn.Linear(16, 16)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, image, scale):
        x = F.silu(self.stem(image))
        for block in self.blocks:
            x = block(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        query, keys = (t.unflatten(2, (2, 8)).transpose(1, 2) for t in (self.query(tokens), tokens))
        attended = F.scaled_dot_product_attention(query, keys, keys)
        tokens = tokens + attended.transpose(1, 2).flatten(2)
        ratio = tokens.mean(1) / scale
        return self.head(ratio.relu()), torch.log(scale)


def main(out):
    torch.manual_seed(3)
    model = Traced().eval()
    for block in model.blocks:
        block.norm.running_mean.normal_(0, 0.3)
        block.norm.running_var.uniform_(0.5, 2)
    inputs = (torch.randn(2, 3, 16, 16), torch.tensor([[2.0]]))
    dynamic = {"image": {0: torch.export.Dim("batch", min=1, max=64)}, "scale": None}
    program = torch.export.export(model, inputs, dynamic_shapes=dynamic)
    torch.export.save(without_folders(program), out / "traced.pt2")
    record(program, inputs, path=out / "traced.nodes.safetensors")
    record(model, inputs, path=out / "traced.modules.safetensors")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
