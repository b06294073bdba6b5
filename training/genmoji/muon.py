"""Muon for the hidden matrices, AdamW for the rest.

Muon replaces the momentum of a matrix by (about) its nearest semi-orthogonal matrix, so that rarely seen directions,
here single names, are learned as fast as common ones. Steps are scaled to AdamW's usual size (RMS 0.2), which lets
one learning rate serve both.
"""

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients: singular values to about [0.7, 1.2]


def orthogonal(matrix, rounds=4):
    """The semi-orthogonal part of a matrix (rows, columns), in bf16."""
    a, b, c = QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / (x.float().norm() + 1e-7).bfloat16()
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; convolution filters count as matrices (out, in * kernel)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            keep = group["momentum"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                trace = state["momentum"].lerp_(p.grad, 1 - keep)
                flat = torch.lerp(p.grad, trace, keep).flatten(1)
                update = orthogonal(flat).view(p.shape)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.to(p.dtype), alpha=-0.2 * group["lr"] * max(flat.shape) ** 0.5)


def optimizers(net, lr):
    """Muon for the matrices between the outermost layers, AdamW for those layers, norms and biases."""
    edge = ("conv_in", "conv_out", "time_embedding.linear_1")
    inner, outer = [], []
    for name, p in net.named_parameters():
        (inner if p.ndim > 1 and not name.startswith(edge) else outer).append(p)
    return [
        Muon(inner, lr),
        torch.optim.AdamW(outer, lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
