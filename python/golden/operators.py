"""One small module per operator, argument or in-place path: exported, run by Ondine and compared with PyTorch.

    operators.py DIR --ondine BIN [--only REGEX] [--again] [--all]

Prints what parts from PyTorch or fails, with --all what holds too. A failure is honest if it says what is missing;
a difference never is. `archives.py` keeps the goldens; this finds what they do not have yet.
"""

import argparse
import copy
import pathlib
import re
import subprocess
import sys
import warnings

import safetensors.torch
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree

from export_networks import compare, plain, tensors_of

n = torch.nn
r = torch.randn
CASES = {}


class Of(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def case(name, function, *args, dims=None):
    module = function if isinstance(function, torch.nn.Module) else Of(function)
    CASES[name] = (module.eval(), args, dims)


def each(prefix, functions, *args):
    for name, function in functions.items():
        case(f"{prefix}.{name}", function, *args)


def ints(*shape, low=-5, high=6):
    return torch.randint(low, high, shape)


def mutations():
    def write(path, change):
        def function(x):
            y = x * 1
            part = path(y)
            change(part)
            return y, part

        return function

    paths = {
        "slice": lambda y: y[1:3], "step": lambda y: y[::2], "negative": lambda y: y[-3:-1], "select": lambda y: y[:, 2],
        "transpose": lambda y: y.t(), "permute": lambda y: y.permute(1, 0), "view": lambda y: y.view(2, 12), "flat": lambda y: y.view(-1),
        "reshape": lambda y: y.reshape(3, 8), "reshape_copy": lambda y: y.t().reshape(3, 8), "flatten": lambda y: y.flatten(),
        "flatten_copy": lambda y: y.t().flatten(), "ravel": lambda y: y.ravel(), "ravel_copy": lambda y: y.t().ravel(),
        "contiguous": lambda y: y.contiguous(), "contiguous_copy": lambda y: y.t().contiguous(), "clone": lambda y: y.clone(),
        "to": lambda y: y.to(torch.float32), "float": lambda y: y.float(), "double": lambda y: y.double(), "type_as": lambda y: y.type_as(y),
        "diagonal": lambda y: y.diagonal(), "diagonal_offset": lambda y: y.diagonal(1), "unfold": lambda y: y.unfold(0, 2, 2),
        "unbind": lambda y: y.unbind(1)[2], "split": lambda y: y.split(2)[1], "chunk": lambda y: y.chunk(2, 1)[1], "hsplit": lambda y: y.hsplit(2)[1],
        "tensor_split": lambda y: y.tensor_split(3)[1], "narrow": lambda y: y.narrow(1, 1, 2), "unsqueeze": lambda y: y.unsqueeze(1),
        "squeeze": lambda y: y[:, None].squeeze(1), "movedim": lambda y: y.movedim(0, 1), "swapaxes": lambda y: y.swapaxes(0, 1), "mT": lambda y: y.mT,
        "T": lambda y: y.T, "unflatten": lambda y: y.unflatten(0, (2, 3)), "as_strided": lambda y: y.as_strided((2, 2), (4, 1), 5),
        "as_strided_step": lambda y: y.as_strided((3, 2), (8, 2)), "expand_as": lambda y: y.expand_as(y), "expand_one": lambda y: y.expand(6, 4),
        "view_as": lambda y: y.view_as(torch.zeros(3, 8)), "atleast": lambda y: torch.atleast_3d(y), "detach": lambda y: y.detach(),
        "alias": lambda y: torch.ops.aten.alias(y), "real": lambda y: torch.view_as_complex(y.view(6, 2, 2)).real, "as_complex": lambda y: torch.view_as_real(torch.view_as_complex(y.view(6, 2, 2))),
        "views": lambda y: y[1:5].view(2, 2, 4).transpose(0, 1)[1][..., ::2],
        "dropout": lambda y: F.dropout(y, 0.5, False), "broadcast": lambda y: torch.broadcast_tensors(y, torch.zeros(4))[0],
        "index": lambda y: y[[0, 2]], "where": lambda y: torch.where(y > 0, y, y), "identity": lambda y: torch.nn.Identity()(y), "positive": lambda y: +y,
        "view_dtype": lambda y: y.view(torch.int32).view(torch.float32), "t_": lambda y: y.t_(), "transpose_": lambda y: y.transpose_(0, 1),
        "unsqueeze_": lambda y: y.unsqueeze_(0), "squeeze_": lambda y: y.squeeze_(), "meshgrid": lambda y: torch.meshgrid(y[0], y[1], indexing="ij")[0][0],
        "pin": lambda y: torch.ops.aten.slice.Tensor(y, 0, 1, 9223372036854775807, 2), "cat_one": lambda y: torch.cat([y]), "expand_rows": lambda y: y[0].expand(1, 4),
        "chain": lambda y: y.view(24)[3:15].view(3, 4).t()[1:], "repeat": lambda y: y.repeat(1, 1), "rot": lambda y: torch.rot90(y), "flip": lambda y: y.flip(0),
        "select_scatter": lambda y: torch.select_scatter(y, y[0], 0, 1), "swapdims": lambda y: torch.swapdims(y, 0, 1), "adjoint": lambda y: y.adjoint(), "dsplit": lambda y: y.view(2, 3, 4).dsplit(2)[1],
        "vsplit": lambda y: y.vsplit(3)[1], "narrow_step": lambda y: y[:, ::3][1:4],
    }  # fmt: skip
    for name, path in paths.items():
        case(f"write.{name}", write(path, lambda part: part.mul_(3).add_(1)), r(6, 4))
    changes = {
        "add": lambda y: y.add_(2), "sub_alpha": lambda y: y.sub_(y * 0.3, alpha=2), "div": lambda y: y.div_(3), "copy": lambda y: y.copy_(torch.arange(4.0)),
        "fill": lambda y: y.fill_(3), "zero": lambda y: y.zero_(), "masked_fill": lambda y: y.masked_fill_(y > 0, -9), "index_put": lambda y: y.index_put_((torch.tensor([0, 1, 0]),), torch.ones(3, 4)),
        "accumulate": lambda y: y.index_put_((torch.tensor([0, 1, 0]),), torch.ones(3, 4), accumulate=True), "index_add": lambda y: y.index_add_(0, torch.tensor([1, 1]), torch.ones(2, 4)),
        "index_fill": lambda y: y.index_fill_(1, torch.tensor([1, 3]), 7), "index_copy": lambda y: y.index_copy_(0, torch.tensor([1]), torch.ones(1, 4)), "scatter": lambda y: y.scatter_(1, torch.tensor([[0, 2]]), 5.0),
        "scatter_add": lambda y: y.scatter_add_(1, torch.tensor([[0, 0]]), torch.ones(1, 2)), "scatter_reduce": lambda y: y.scatter_reduce_(0, torch.tensor([[1, 0, 1, 0]]), torch.ones(1, 4), "prod"), "clamp": lambda y: y.clamp_(-0.2, 0.2),
        "relu": lambda y: y.relu_(), "tanh": lambda y: y.tanh_(), "exp": lambda y: y.exp_(), "lerp": lambda y: y.lerp_(torch.ones(4), 0.5), "addcmul": lambda y: y.addcmul_(y, y, value=0.5), "tril": lambda y: y.tril_(),
        "triu": lambda y: y.triu_(1), "cumsum": lambda y: y.cumsum_(1), "floor": lambda y: y.floor_(), "pow": lambda y: y.pow_(2), "mask_values": lambda y: y.__setitem__(y > 0, 1.5), "neg": lambda y: y.neg_(),
        "masked_scatter": lambda y: y.masked_scatter_(y > 0, torch.arange(8.0)), "fill_diagonal": lambda y: y.fill_diagonal_(3), "nan_to_num": lambda y: y.nan_to_num_(), "addmm": lambda y: y.addmm_(torch.ones(2, 3), torch.ones(3, 4)),
        "logical": lambda y: y.logical_not_(), "eq": lambda y: y.eq_(y), "sigmoid": lambda y: torch.sigmoid_(y), "leaky": lambda y: F.leaky_relu_(y), "elu": lambda y: F.elu_(y), "silu": lambda y: F.silu(y, inplace=True),
        "hardswish": lambda y: F.hardswish(y, inplace=True), "threshold": lambda y: F.threshold_(y, 0.1, 2), "hardtanh": lambda y: F.hardtanh_(y), "relu6": lambda y: F.relu6(y, inplace=True), "dropout": lambda y: F.dropout_(y, 0.5, False), "sqrt": lambda y: y.abs_().sqrt_(),
        "mish": lambda y: F.mish(y, inplace=True), "selu": lambda y: F.selu_(y), "celu": lambda y: F.celu_(y), "put": lambda y: y.put_(torch.tensor([0, 3]), torch.tensor([8.0, 9.0])), "swap": lambda y: y[[0, 1]].copy_(y[[1, 0]]),
        "renorm": lambda y: y.renorm_(2, 0, 1.0), "remainder": lambda y: y.remainder_(0.3), "addcdiv": lambda y: y.addcdiv_(y, y + 9), "baddbmm": lambda y: y.view(1, 2, 4).baddbmm_(torch.ones(1, 2, 3), torch.ones(1, 3, 4)), "atan2": lambda y: y.atan2_(y + 1),
        "index_reduce": lambda y: y.index_reduce_(0, torch.tensor([0]), torch.ones(1, 4), "prod"), "squeeze_add": lambda y: y.unsqueeze(0).squeeze().add_(1), "setitem": lambda y: y.__setitem__((slice(None), [0, 2]), torch.tensor([5.0, 6.0])), "setitem_row": lambda y: y.__setitem__(0, y[1]), "overlap": lambda y: y[0].add_(y.sum()),
    }  # fmt: skip
    for name, change in changes.items():
        case(f"change.{name}", write(lambda y: y[1:5:3], change), r(6, 4))

    def out(x, y):
        z = torch.zeros(3, 4)
        torch.add(x, y, out=z)
        w = z.view(12)
        torch.mul(x, y, out=z)
        return z, w

    def aliases(x):
        y = x * 1
        a, b = y.view(-1), y[1:]
        a[5] = 100
        b.add_(1)
        y.mul_(2)
        return a, b, y, a.view(3, 4)[2]

    def constant(x):
        t = torch.tensor([1.0, 2.0, 3.0, 4.0])
        t[0] += x.sum()
        return x + t

    def bools(x):
        y = x > 0
        y[0] = True
        y |= x < -1
        return y

    def integer(x, i):
        j = i * 1
        j += 2.0 > 1
        j //= 2
        j -= 7
        j %= 4
        j <<= 2
        j >>= 1
        j *= 3
        return j, x[j.abs() % 3]

    def input_change(x):
        x.add_(1)
        return x * 2

    def twice(x):
        y = x * 1
        z = y
        z[0] = y[1]
        y[1] = z[0] + y[2]
        z = z.t()
        z[0] += y[:, 1]
        return y, z

    case("alias.out", out, r(3, 4), r(3, 4))
    case("alias.many", aliases, r(3, 4))
    case("alias.constant", constant, r(3, 4))
    case("alias.bools", bools, r(3, 4))
    case("alias.integer", integer, r(3, 4), ints(5))
    case("alias.input", input_change, r(3, 4))
    case("alias.twice", twice, r(4, 4))
    case("alias.foreach", lambda x: torch._foreach_add([x, x + 1], 2), r(3))

    class Shared(n.Module):
        def __init__(self, register):
            super().__init__()
            register(self)

        def forward(self, x):
            self.a.add_(x)
            return self.b * 1, self.a * 2

    def column(self):
        self.register_buffer("a", torch.ones(6, 4)[:, 1:])
        self.register_buffer("b", self.a[:, 2])

    def overlapping(self):
        block = torch.arange(40.0)
        self.register_buffer("a", block[2:26].view(6, 4))
        self.register_buffer("b", block[20:36])

    def turned(self):
        self.register_buffer("a", torch.ones(4, 6).t())
        self.register_buffer("b", self.a.t()[1:])

    def whole(self):
        self.register_buffer("a", torch.ones(6, 4))
        self.register_buffer("b", self.a)

    def part(self):
        self.register_buffer("a", torch.ones(6, 4))
        self.register_buffer("b", self.a[1:3])

    case("alias.buffer_same", Shared(whole), r(6, 4))
    case("alias.buffer_part", Shared(part), r(6, 4))
    case("alias.buffer_column", Shared(column), r(6, 3))
    case("alias.buffer_overlapping", Shared(overlapping), r(6, 4))
    case("alias.buffer_turned", Shared(turned), r(6, 4))


def control():
    hop = torch.ops.higher_order
    wl = torch._higher_order_ops.while_loop

    def branches(x):
        def inner(x):
            return torch.cond(x.mean() > 10, lambda x: x * 2, lambda x: x.view(12).sin().view(3, 4), (x,))

        return torch.cond(x.sum() > 0, inner, lambda x: inner(-x), (x,))

    def by_size(x):
        return torch.cond(x.shape[0] > 3, lambda x: x.sin(), lambda x: x.cos(), (x,))

    def closed(x, y):
        return torch.cond(x.sum() > 0, lambda x: (x + y).clone(), lambda x: x - y, (x,))

    def loop(x):
        return wl(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.5 + i), (torch.tensor(0), x))

    def loop_data(x):
        return wl(lambda x: x.sum() < 100, lambda x: (x.abs() * 2 + 0.1,), (x,))

    def never(x):
        return wl(lambda i, x: i < 0, lambda i, x: (i + 1, x * 2), (torch.tensor(0), x))

    class Weighted(n.Module):
        def __init__(self):
            super().__init__()
            self.linear = n.Linear(4, 4)

        def forward(self, x):
            return wl(lambda i, x: i < 3, lambda i, x: (i + 1, self.linear(x).tanh()), (torch.tensor(0), x))

    class Convolved(n.Module):
        def __init__(self):
            super().__init__()
            self.conv = n.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return wl(lambda i, x: i < 3, lambda i, x: (i + 1, self.conv(x).relu()), (torch.tensor(0), x))

    class Conditional(n.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = n.Linear(4, 5), n.Linear(4, 5)

        def forward(self, x):
            return torch.cond(x.sum() > 0, self.a, self.b, (x,))

    def nested(x):
        def body(i, x):
            _, y = wl(lambda j, y: j < 2, lambda j, y: (j + 1, y + i), (torch.tensor(0), x))
            return i + 1, y

        return wl(lambda i, x: i < 3, body, (torch.tensor(0), x))

    def mixed(x):
        def body(i, x):
            y = torch.cond(i % 2 == 0, lambda x: x + 1, lambda x: x * 2, (x,))
            return i + 1, y

        return wl(lambda i, x: i < 4, body, (torch.tensor(0), x))

    def scan(x):
        from torch._higher_order_ops.scan import scan as scan_op

        return scan_op(lambda c, x: (c * 0.5 + x, c + x), torch.zeros(4), x)

    def mapped(x, y):
        from torch._higher_order_ops.map import map as map_op

        return map_op(lambda row, y: row.sin() * y, x, y)

    def no_grad(x):
        with torch.no_grad():
            y = x * 2
        with torch.enable_grad():
            y = y + 1
        return y

    def autocast(x):
        with torch.autocast("cpu", enabled=False):
            return x @ x.t()

    def autocast_on(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = x @ x.t()
        return y.float()

    def checkpoint(x):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(lambda x: x.sin() + 1, x, use_reentrant=False)

    case("control.nested", branches, r(3, 4))
    case("control.by_size", by_size, r(5, 4), dims=({0: torch.export.Dim("rows", min=2, max=9)},))
    case("control.closed", closed, r(3, 4), r(3, 4))
    case("control.modules", Conditional(), r(3, 4))
    case("control.loop", loop, r(3, 4))
    case("control.loop_data", loop_data, r(3, 4))
    case("control.loop_never", never, r(3, 4))
    case("control.loop_linear", Weighted(), r(3, 4))
    case("control.loop_conv", Convolved(), r(1, 3, 5, 5))
    case("control.loop_nested", nested, r(3, 4))
    case("control.loop_cond", mixed, r(3, 4))
    case("control.loop_dynamic", loop, r(5, 4), dims=({0: torch.export.Dim("rows", min=2, max=9)},))
    case("control.scan", scan, r(5, 4))
    case("control.map", mapped, r(5, 4), r(4))
    case("control.no_grad", no_grad, r(3, 4))
    case("control.autocast", autocast, r(3, 4))
    case("control.autocast_on", autocast_on, r(3, 4))
    case("control.checkpoint", checkpoint, r(3, 4))
    case("control.size_arithmetic", lambda x: x.reshape(x.shape[0] // 2 * 2, -1) * (x.shape[0] ** 0.5) + x.shape[0] / 3, r(6, 4), dims=({0: torch.export.Dim("rows", min=2, max=8) * 2},))
    rows = ({0: torch.export.Dim("rows", min=2, max=9)},)

    def symbolic_views(x):
        y = x * 1
        a, b = y.contiguous(), y.reshape(-1)
        a[:, 1:] += 1
        b.mul_(2)
        return y, a, b

    case("control.size_views", symbolic_views, r(5, 4), dims=rows)
    case("control.size_gather", lambda x: (x[None, None].expand(2, 3, -1, -1).gather(1, torch.ones(2, 1, x.shape[0], 4).long()), x.t()[None].gather(1, x.t()[None].argsort(1))), r(5, 4), dims=rows)
    case("control.size_scatter", lambda x: x.t()[None].scatter(1, x.t()[None].argsort(1), 2.0), r(5, 4), dims=rows)
    case("control.size_pad", lambda x: (F.pad(x, (1, 0, 9 - x.shape[0], 1)), F.pad(x, (-1, 2, 0, x.shape[0]), value=4.0)), r(5, 4), dims=rows)
    batch = ({0: torch.export.Dim("batch", min=2, max=9)},) * 2
    case("sdpa.batch", lambda q, m: (F.scaled_dot_product_attention(q, q, q), F.scaled_dot_product_attention(q, q, q, m), F.scaled_dot_product_attention(q, q, q, is_causal=True)), r(3, 5, 4), r(3, 5, 5), dims=batch)
    case("sdpa.heads", lambda q, m: F.scaled_dot_product_attention(q[None], q[None], q[None], m[None]), r(3, 5, 4), r(3, 5, 5), dims=batch)
    case("control.size_range", lambda x: x + torch.arange(x.shape[0])[:, None] + torch.zeros(x.shape[0], 1), r(5, 4), dims=({0: torch.export.Dim("rows", min=2, max=9)},))


def data():
    def sized(x):
        k = (x > 0).sum().item()
        torch._check(k >= 0)
        torch._check(k <= 12)
        return torch.zeros(k) + 1, x.flatten()[:k]

    def indexed(x, i):
        k = i.item()
        torch._check(k >= 0)
        torch._check(k < 5)
        return x[k], x[k] * k

    def scaled(x, i):
        return x * i.item() + i.float().item()

    def detections(boxes, scores):
        keep = scores > 0
        return boxes[keep], scores[keep].sigmoid(), torch.nonzero(keep).squeeze(1)

    def chosen(x):
        i = torch.nonzero(x > 0)
        return i, x[i[:, 0], i[:, 1]] * 2, i.shape[0] * 1.0

    case("data.nonzero", lambda x: torch.nonzero(x > 0), r(3, 4))
    case("data.nonzero_numpy", lambda x: torch.nonzero(x > 0, as_tuple=True), r(3, 4))
    case("data.nonzero_used", chosen, r(3, 4))
    case("data.mask", lambda x: x[x > 0], r(3, 4))
    case("data.mask_rows", lambda x, m: x[m] @ torch.ones(4, 2), r(5, 4), torch.tensor([True, False, True, True, False]))
    case("data.mask_empty", lambda x: (x[x > 90], x[x > 90].sum()), r(3, 4))
    case("data.mask_columns", lambda x, m: x[:, m], r(5, 4), torch.tensor([True, False, True, True]))
    case("data.masked_select", lambda x: torch.masked_select(x, x > 0), r(3, 4))
    case("data.masked_select_wide", lambda x: torch.masked_select(x, torch.tensor([True, False, True, False])), r(3, 4))
    case("data.mask_put", lambda x: x.index_put((x > 0,), x[x > 0] * 2), r(3, 4))
    case("data.mask_twice", lambda x: (x[x > 0].sum(), torch.cat([x[x > 0], x[x < -0.5]])), r(3, 4))
    case("data.argwhere", lambda x: torch.argwhere(x > 0), r(3, 4))
    case("data.where", lambda x: torch.where(x > 0), r(3, 4))
    case("data.unique", lambda i: torch.unique(i), ints(7))
    case("data.unique_inverse", lambda i: torch.unique(i, return_inverse=True, return_counts=True), ints(7))
    case("data.unique_consecutive", lambda i: torch.unique_consecutive(i), ints(7))
    case("data.sized", sized, r(3, 4))
    case("data.indexed", indexed, r(5, 4), torch.tensor(3))
    case("data.scaled", scaled, r(5, 4), torch.tensor(-3))
    case("data.detections", detections, r(6, 4), r(6))
    case("data.dynamic", detections, r(6, 4), r(6), dims=({0: torch.export.Dim("rows", min=2, max=9)}, {0: torch.export.Dim("rows", min=2, max=9)}))
    def regulated(x, i):
        y = torch.repeat_interleave(x, i, 0)
        torch._check(y.shape[0] <= 30)
        return y * 2, y.sum(0)

    def counted(i):
        y = torch.bincount(i, minlength=6)
        torch._check(y.shape[0] <= 30)
        return y

    case("data.regulated", regulated, r(3, 4), torch.tensor([1, 0, 2]))
    case("data.counted", counted, ints(7, low=0))
    case("data.repeat_sized", lambda x, i: torch.repeat_interleave(x, i, 0, output_size=3), r(3, 4), torch.tensor([1, 0, 2]))
    case("data.repeat_interleave", lambda x, i: torch.repeat_interleave(x, i, 0), r(3, 4), torch.tensor([1, 0, 2]))
    case("data.bincount", lambda i: torch.bincount(i, minlength=6), ints(7, low=0))
    case("data.item_bool", lambda x: x * (x.sum() > 0).item(), r(3, 4))


def build():
    torch.manual_seed(0)
    mutations()
    control()
    data()
    import operator_cases

    operator_cases.add(case, each, ints)


def export(name, folder):
    module, args, dims = CASES[name]
    with torch.no_grad():
        program = torch.export.export(module, copy.deepcopy(args), dynamic_shapes={"args": dims} if dims else None)
        torch.export.save(program, folder / f"{name}.pt2")
        expected = tensors_of(copy.deepcopy(module)(*copy.deepcopy(args)))
        names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        inputs = {k: plain(leaf) for k, leaf in zip(names, pytree.tree_leaves(args)) if isinstance(leaf, torch.Tensor)}
        safetensors.torch.save_file(inputs, folder / f"{name}.in.safetensors")
        real = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in expected]
        safetensors.torch.save_file({f"output_{i}": plain(t) for i, t in enumerate(real)}, folder / f"{name}.out.safetensors")


def numbers(path):
    """The tensors of a file as numpy's, which know no bfloat16."""
    tensors = safetensors.torch.load_file(path)
    return {k: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for k, t in tensors.items()}


def run(name, folder, ondine):
    found = folder / f"{name}.found.safetensors"
    command = [ondine, "run", folder / f"{name}.pt2", "--inputs", folder / f"{name}.in.safetensors", "--no-cache", "--threads", "1"]
    done = subprocess.run([*map(str, command), "--outputs", str(found)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        return f"error: {done.stderr.strip()[:700]}"
    result, wanted = numbers(found), numbers(folder / f"{name}.out.safetensors")
    compared = compare(result, wanted)
    if compared is None:
        shapes = {k: (result[k].shape if k in result else None, wanted[k].shape) for k in wanted}
        types = {k: (str(result[k].dtype), str(wanted[k].dtype)) for k in wanted if k in result and result[k].dtype != wanted[k].dtype}
        return f"DIFFERS: {shapes} {types}"[:300]
    return f"holds {compared[0]:.0e}" if compared[0] <= 1e-4 else f"DIFFERS: {compared[0]:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ondine")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", action="store_true", help="export what is there already")
    parser.add_argument("--all", action="store_true", help="show what holds too")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    build()
    counts = {"holds": 0, "error:": 0, "DIFFERS:": 0}
    for name in [name for name in CASES if re.search(arguments.only, name)]:
        done = arguments.folder / f"{name}.out.safetensors"
        try:
            if arguments.again or not done.exists():
                export(name, arguments.folder)
        except Exception as error:  # what torch cannot export nobody can run
            print(f"{name:32} no export: {type(error).__name__}: {str(error)[:150]!r}", flush=True)
            continue
        if arguments.ondine:
            try:
                verdict = run(name, arguments.folder, arguments.ondine)
            except Exception as error:  # a result that cannot be read is a failure of that case alone
                verdict = f"error: {type(error).__name__}: {error}"
            counts[verdict.split()[0]] += 1
            if arguments.all or not verdict.startswith("holds"):
                print(f"{name:32} {verdict}", flush=True)
    print(counts)
    return 1 if counts["DIFFERS:"] else 0


if __name__ == "__main__":
    sys.exit(main())
