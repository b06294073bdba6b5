"""Muon for the hidden matrices, AdamW for the rest.

Muon replaces the momentum of a matrix by (about) its nearest semi-orthogonal matrix, so that rarely seen directions,
here single names, are learned as fast as common ones. Steps are scaled to AdamW's usual size (RMS 0.2), which lets
one learning rate serve both.
"""

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients: singular values to about [0.7, 1.2]


def orthogonal(stack, rounds=4):
    """The semi-orthogonal parts of matrices (n, rows, columns), in bf16."""
    a, b, c = QUINTIC
    wide = stack.shape[1] <= stack.shape[2]
    x = (stack if wide else stack.mT).bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; convolution filters count as matrices (out, in * kernel)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            keep, params = group["momentum"], group["params"]
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            traces = [self.state[p]["momentum"] for p in params]
            gradients = [p.grad for p in params]
            torch._foreach_lerp_(traces, gradients, 1 - keep)
            looks = torch._foreach_lerp(gradients, traces, keep)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            alike = {}  # matrices of one shape go through the iteration together
            for p, look in zip(params, looks, strict=True):
                flat = look.flatten(1)
                alike.setdefault(flat.shape, []).append((p, flat))
            for shape, members in alike.items():
                length = 0.2 * group["lr"] * max(shape) ** 0.5
                updates = orthogonal(torch.stack([flat for _, flat in members]))
                for (p, _), update in zip(members, updates, strict=True):
                    p.add_(update.reshape(p.shape).to(p.dtype), alpha=-length)


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
