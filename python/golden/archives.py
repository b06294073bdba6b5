"""Small .pt2 archives that use every operator the reader knows, with what PyTorch computes for them.

    archives.py OUT [FAMILY...]

For each family FAMILY.pt2 (as exported), FAMILY.decomposed.pt2 (after run_decompositions()) and
FAMILY.golden.safetensors (`in.NAME`, `out.INDEX`, and `again.INDEX` of a second call if the first changes buffers; of
calls of other sizes `other_CALL.in.NAME` and `other_CALL.out.INDEX`, of those that PyTorch refuses `refused_CALL.in.NAME`). `crates/ondine-pt2/tests/data/pt2` is its output.
"""

import pathlib
import sys
import warnings

import safetensors.torch
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree

from strangers import Associative, Autocast, Complexes, Counted, Extremes, Indefinite, Mapped, Named, Narrow, Numbers, Packed, Quantized, Rare, Regions, Sizes, Training, Vision


class Elementwise(torch.nn.Module):
    def forward(self, x, y, n, m):
        p = x.abs() + 0.1
        u = x.clamp(-0.9, 0.9)
        arithmetic = [x + y, x - y, x * y, x / p, x + 2, 3 - x, 2 * x, x / 3, 1 / p, torch.add(x, y, alpha=0.5), -x, x.abs(), x.sign()]
        arithmetic += [p**y, p**2, p**0.5, p**-1, p**3, 2**x, torch.fmod(x, 0.3), torch.remainder(x, 0.3), torch.remainder(x, y)]
        arithmetic += [torch.div(x, 0.3, rounding_mode="floor"), torch.div(x, 0.3, rounding_mode="trunc"), torch.atan2(x, y)]
        rounding = [x.floor(), x.ceil(), x.round(), x.trunc(), x.frac(), (x * 3).round(decimals=1)]
        smooth = [x.exp(), p.log(), p.sqrt(), p.rsqrt(), x.sin(), x.cos(), u.tan(), u.asin(), u.acos(), x.atan(), x.sinh(), x.cosh()]
        smooth += [x.asinh(), (p + 1).acosh(), u.atanh(), x.erf(), x.expm1(), p.log1p(), p.log2(), p.log10(), x.exp2(), p.reciprocal()]
        active = [F.relu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.sigmoid(x), torch.tanh(x), F.hardswish(x * 4)]
        active += [F.hardsigmoid(x * 4), F.hardtanh(x), F.relu6(x * 8), F.leaky_relu(x), F.elu(x), F.selu(x), F.celu(x, 0.7), F.mish(x)]
        active += [F.softplus(x), F.softplus(x, 3, 2), F.logsigmoid(x), F.glu(x), F.prelu(x, torch.tensor([0.3])), F.softsign(x)]
        active += [F.hardshrink(x), F.threshold(x, 0.1, 7.0)]
        compare = [x == y, x != y, x < y, x > 0, x <= y, x >= 0.5, n == 3, n != m, n < m, n >= 2, torch.isnan(p.log() * 0 / 0)]
        compare += [torch.isinf(x / 0), torch.maximum(x, y), torch.minimum(x, y), x.clamp(min=y), x.clamp(-0.5, 0.5), x.clamp_min(0.1)]
        whole = [n + m, n - m, n * 3, n // 2, n % 3, n / 2, -n, n.abs(), n // m.clamp(min=1), (n - 3) % 4, (n - 3) // 2, n & m, n | m, n ^ m]
        whole += [n.float(), x.long(), n.bool(), (n > 2) & (m > 2), (n > 2) | (m > 2), ~(n > 2), (n > 2) ^ (m > 2), torch.logical_not(n)]
        whole += [(n > 1) + n, (n > 1).sum(), n.to(torch.int32) + 1, ~n, torch.logical_and(n, m), n.clamp(1, 3), torch.where(n > 2, n, 0)]
        choose = [torch.where(x > 0, x, y), x.masked_fill(x > 0, -1.0), torch.addcmul(x, y, p, value=0.3), torch.lerp(x, y, 0.3)]
        return arithmetic, rounding, smooth, active, compare, whole, choose

    inputs = staticmethod(lambda: (torch.randn(3, 4), torch.randn(3, 4), torch.randint(0, 6, (5,)), torch.randint(0, 6, (5,))))


class Shapes(torch.nn.Module):
    def forward(self, x, y, n):
        views = [x.view(4, 6), x.reshape(-1), x.permute(2, 0, 1), x.transpose(0, 2), x[0], x[:, 1:3], x[..., ::2], x[:, -1], x.unsqueeze(1)]
        views += [x.flatten(1), x.unflatten(1, (2, 2)), x.squeeze(), y.t(), y.mT, x.movedim(0, 2), x.expand(2, 2, 4, 3), y.narrow(0, 1, 2)]
        views += [x.select(1, 2), torch.diagonal(y), torch.diagonal(y, 1), y.unfold(1, 2, 1), x.swapaxes(0, 1), y.expand_as(torch.zeros(2, 4, 5))]
        views += [*x.split(3, 1), *x.chunk(2, 2), *x.unbind(0), *x.split_with_sizes([1, 3], 1), *torch.tensor_split(y, 3, 1)]
        joined = [torch.cat([x, x * 2], 1), torch.stack([y, y + 1], 1), torch.hstack([y, y]), torch.vstack([y, y])]
        padded = [F.pad(x, (1, 2)), F.pad(x, (1, 0, 2, 1), value=3.0), F.pad(x, (1, 1), mode="reflect"), F.pad(x, (2, 1), mode="replicate")]
        padded += [F.pad(x[None], (1, 1, 2, 1), mode="reflect"), F.pad(x[None], (1, 2, 1, 2), mode="circular"), F.pad(x, (-1, 1))]
        made = [torch.zeros(2, 3), torch.ones_like(x), torch.full((2,), 1.5), torch.arange(5), torch.arange(1, 9, 3), torch.arange(0, 1, 0.25)]
        made += [torch.outer(n, x[0, 0]), torch.outer(n, n), (x > -9).all()[None], torch.ops.aten._is_all_true(x > -9), torch.ops.aten._is_any_true(x > 9)]
        made += [torch.linspace(0, 1, 7), torch.eye(4), y.new_zeros(3), torch.full_like(n, 7), torch.scalar_tensor(3.5), y.new_ones(2, 2)]
        moved = [torch.tril(y), torch.triu(y, 1), torch.tril(y, -1), x.flip(1), x.flip([0, 2]), x.roll(1, 1), x.roll((1, -2), (0, 2)), x.roll(3)]
        moved += [x.repeat(2, 1, 2), y.tile(2), y.repeat(2, 1, 1), x.repeat_interleave(2, 1), n.repeat_interleave(3)]
        moved += [*torch.meshgrid(n, n + 1, indexing="ij"), *torch.meshgrid(n, torch.arange(2), indexing="xy"), F.one_hot(n, 6)]
        maps = x.reshape(1, 8, 1, 3)
        moved += [F.pixel_shuffle(maps, 2), F.pixel_unshuffle(F.pixel_shuffle(maps, 2), 2), F.channel_shuffle(maps, 4)]
        pairs = torch.view_as_complex(x.reshape(3, 4, 2))
        turned = pairs * torch.polar(torch.ones(4), torch.arange(4.0))
        return views, joined, padded, made, moved, [torch.view_as_real(turned)]

    inputs = staticmethod(lambda: (torch.randn(2, 4, 3), torch.randn(4, 5), torch.randint(0, 6, (4,))))


class Reductions(torch.nn.Module):
    def forward(self, x, n):
        folds = [x.sum(), x.sum(1), x.sum((0, 2)), x.mean(-1, keepdim=True), x.mean((1, 2)), x.prod(), x.prod(1), x.amax(1), x.amin((0, 2))]
        folds += [x.max(), x.min(), *x.max(1), *x.min(2, keepdim=True), x.argmax(), x.argmax(1), x.argmin(2), (x > 1).any(), (x > 1).any(1)]
        folds += [(x > -3).all(), (x > 0).all(2), n.sum(), n.max(), n.min(0).values, n.sum(0), n.float().mean(), *torch.aminmax(x)]
        spread = [x.var(), x.var(1), x.std(2, unbiased=False), *torch.var_mean(x, 1), *torch.std_mean(x, (0, 1), correction=0)]
        spread += [x.logsumexp(1), x.softmax(-1), x.softmax(1), x.log_softmax(1), x.norm(), x.norm(1, 2), x.norm(float("inf"), 1)]
        spread += [torch.linalg.vector_norm(x, 3, 1), F.normalize(x, dim=1), torch.cumsum(x, 1), x.cumprod(2), n.cumsum(0), torch.count_nonzero(n)]
        return folds, spread

    inputs = staticmethod(lambda: (torch.randn(3, 4, 5), torch.randint(-3, 6, (4, 3))))


class Indexing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(11, 6)

    def forward(self, x, i, j, v):
        looked = [self.table(i), x.index_select(1, i[0]), x[i[0], j[0]], x[:, i], x[i], x[:, i[0], j[0] - 4], x[i[0], :, j[0]], x[-1, i[0]]]
        looked += [torch.gather(x, 1, j[:, :, None].expand(2, 3, 4)[:2]), torch.take_along_dim(x, x.argsort(1), 1)]
        put = [x.index_put((i[0],), v), x.index_put((i[0], j[0]), v[:, 0]), x.index_put((i[0],), v, accumulate=True)]
        put += [x.index_copy(1, torch.tensor([2, 0]), v[:, :2].reshape(3, 2, -1)[:, :, :4].expand(3, 2, 4).repeat(2, 1, 1)[:4])]
        put += [x.index_add(0, i[0], v), x.index_fill(1, i[0], 2.0), x.scatter(1, j[:, :, None].expand(2, 3, 4), 9.0)]
        put += [x.scatter_add(0, j[:, :, None].expand(2, 3, 4), v[:2, :3]), x.scatter(2, i[:, :, None], v[:2, :3, :1])]
        put += [x.scatter_reduce(1, j[:, :, None].expand(2, 3, 4), v[:2, :3], "amax"), torch.slice_scatter(x, v[:, :2].expand(3, 2, 4).repeat(2, 1, 1)[:4], 1, 1, 3)]
        put += [torch.select_scatter(x, x[:, 0] * 2, 1, 1)]
        ordered = [*x.topk(2, 1), *x.topk(3, 2, largest=False), *x.sort(1), *x.sort(2, descending=True), x.argsort(0)]
        changed = x.clone()
        changed[:, 1] = 5
        changed[0, :, 1:3] *= 2
        changed[..., ::2] += 1
        part = changed[1]
        part.add_(x[0])
        changed.view(-1)[3] = 7
        changed[changed > 4] = 0
        changed.transpose(0, 1)[2].zero_()
        return looked, put, ordered, changed, part

    inputs = staticmethod(
        lambda: (torch.randn(4, 3, 4), torch.tensor([[0, 2, 1], [1, 0, 2]]), torch.tensor([[2, 1, 0], [0, 1, 2]]), torch.randn(3, 3, 4))
    )


class Products(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 6)
        self.weight = torch.nn.Parameter(torch.randn(8, 5))
        self.norm = torch.nn.LayerNorm(8)
        self.plane = torch.nn.LayerNorm((4, 8), elementwise_affine=False)
        self.rms = torch.nn.RMSNorm(8)

    def forward(self, x, y, mask):
        a, b = x[0], y[0]
        plain = [self.linear(x), x @ self.weight, x @ y.mT, a @ b.t(), torch.bmm(x, y.mT), torch.mv(a, b[0]), a[0] @ b[0], torch.outer(a[0], b[0])]
        plain += [torch.addmm(torch.ones(4), a, b.t(), beta=0.5, alpha=2), torch.baddbmm(x @ y.mT, x, y.mT), x[:, None] @ y.mT, a @ y.mT]
        plain += [torch.einsum("bik,bjk->bij", x, y), torch.einsum("bik,bjk->bkj", x, y), torch.einsum("...ij,...kj->...ik", x, y), torch.einsum("ij->ji", a)]
        plain += [torch.einsum("bik,kj,bmj->bim", x, self.weight, torch.ones(2, 3, 5)), torch.cdist(x, y), F.cosine_similarity(x, y, dim=-1)]
        norms = [self.norm(x), self.plane(x), self.rms(x), F.layer_norm(x, (8,))]
        q, k, v = (t.view(2, 4, 2, 4).transpose(1, 2) for t in (x, y, x + y))
        attended = [F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)]
        attended += [F.scaled_dot_product_attention(q, k, v, attn_mask=mask), F.scaled_dot_product_attention(q[:, :, :3], k, v, is_causal=True)]
        attended += [F.scaled_dot_product_attention(q, k, v, attn_mask=torch.where(mask, 0.0, -2.0)[:, :1], scale=0.3)]
        attended += [F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True), F.scaled_dot_product_attention(x, y, y)]
        attended += [((q @ k.mT) / 2).softmax(-1) @ v]
        attended += [F.scaled_dot_product_attention(x, y, y, mask[:, 0]), F.scaled_dot_product_attention(x, y, y, mask[0, 0]), F.scaled_dot_product_attention(x, y[:1], y[:1], is_causal=True)]
        attended += [F.scaled_dot_product_attention(x[0], y[0], y[0]), F.scaled_dot_product_attention(q[None], k[None], v[None], mask), F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], mask[:, None])]
        return plain, norms, attended

    inputs = staticmethod(lambda: (torch.randn(2, 4, 8), torch.randn(2, 4, 8), (torch.rand(2, 1, 4, 4) > 0.4) | torch.eye(4).bool()))


class Convolutions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        n = torch.nn
        self.two = n.ModuleList([
            n.Conv2d(6, 8, 3), n.Conv2d(6, 8, 3, 2, 1), n.Conv2d(6, 6, 3, 1, 1, groups=6), n.Conv2d(6, 9, (3, 2), (1, 2), (0, 1), groups=3),
            n.Conv2d(6, 4, 3, 1, "same", 2, bias=False), n.ConvTranspose2d(6, 5, 4, 2, 1), n.ConvTranspose2d(6, 6, 3, 2, 1, 1, groups=2),
            n.ConvTranspose2d(6, 4, 3, (3, 1), 0, 0, dilation=2, bias=False), n.Sequential(n.Conv2d(6, 8, 1, bias=False), n.BatchNorm2d(8), n.ReLU()),
            n.GroupNorm(3, 6), n.InstanceNorm2d(6, affine=True), n.BatchNorm2d(6), n.MaxPool2d(3, 2, 1), n.MaxPool2d(2, ceil_mode=True),
            n.AvgPool2d(3, 2, 1), n.AvgPool2d(3, 2, 1, count_include_pad=False), n.AdaptiveAvgPool2d((3, 5)), n.AdaptiveAvgPool2d(1),
            n.AdaptiveMaxPool2d(2), n.AvgPool2d(2, ceil_mode=True), n.MaxPool2d(2, dilation=2), n.Upsample(scale_factor=2),
            n.Upsample(scale_factor=2, mode="bilinear"), n.Upsample((13, 5), mode="bilinear", align_corners=True), n.Upsample(scale_factor=1.7, mode="nearest"),
            n.Upsample((14, 20), mode="bicubic"), n.Upsample((5, 4), mode="bilinear"), n.Upsample(scale_factor=0.6, mode="bicubic"),
            n.Upsample((7, 21), mode="nearest-exact"), n.Unfold(2, padding=1), n.PixelShuffle(1), n.Dropout(0.5),
        ])  # fmt: skip
        self.one = n.ModuleList([
            n.Conv1d(4, 6, 3, 2, 1), n.Conv1d(4, 4, 5, padding=4, dilation=2, groups=4), n.ConvTranspose1d(4, 3, 4, 2, 1), n.BatchNorm1d(4),
            n.MaxPool1d(3, 2), n.AvgPool1d(2), n.AdaptiveAvgPool1d(4), n.Upsample(scale_factor=2, mode="linear"), n.InstanceNorm1d(4),
            torch.nn.utils.parametrizations.weight_norm(n.Conv1d(4, 5, 3)),
        ])  # fmt: skip
        self.three = n.ModuleList([
            n.Conv3d(2, 4, 3, 1, 1), n.Conv3d(2, 4, (2, 3, 3), (2, 1, 2), bias=False), n.MaxPool3d(2), n.AvgPool3d(2, 1),
            n.AdaptiveAvgPool3d(2), n.Upsample(scale_factor=2, mode="trilinear"), n.BatchNorm3d(2),
        ])  # fmt: skip

    def forward(self, x, line, volume, grid):
        sampled = [F.grid_sample(x, grid, align_corners=False), F.grid_sample(x, grid, padding_mode="border", align_corners=True)]
        sampled += [F.fold(F.unfold(x, 3, stride=2), x.shape[2:], 3, stride=2), F.interpolate(x, (6, 5), mode="bilinear", antialias=True)]
        return [m(x) for m in self.two], [m(line) for m in self.one], [m(volume) for m in self.three], sampled

    inputs = staticmethod(lambda: (torch.randn(2, 6, 9, 11), torch.randn(2, 4, 13), torch.randn(1, 2, 4, 5, 6), torch.rand(2, 4, 5, 2) * 2.4 - 1.2))


class Sequences(torch.nn.Module):
    def __init__(self):
        super().__init__()
        n = torch.nn
        self.layers = n.ModuleList([
            n.LSTM(5, 6, 2, bidirectional=True), n.LSTM(5, 6, batch_first=True, bias=False), n.GRU(5, 7, 2, batch_first=True),
            n.GRU(5, 4, bidirectional=True), n.RNN(5, 6), n.RNN(5, 6, nonlinearity="relu"),
        ])  # fmt: skip

    def forward(self, x):
        return [layer(x) for layer in self.layers]

    inputs = staticmethod(lambda: (torch.randn(3, 4, 5),))


class States(torch.nn.Module):
    """A cache that calls fill, a counter, memory shared by two names, and nested arguments."""

    remembers = True

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, 8, 4))
        self.register_buffer("count", torch.full((1,), 3))
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.column = torch.nn.Parameter(torch.randn(4, 6).t())
        self.part = torch.nn.Buffer(self.first.weight.data[1:3])

    def forward(self, x, at, options):
        y = self.first(x)
        self.cache.index_copy_(1, at, y)
        self.count += x.shape[1]
        scores = self.second(y) @ self.cache.mT
        columns = y.mT
        places = torch.arange(x.shape[1])[None, None].expand(1, 2, -1) % 4
        pairs = torch.stack([y[0], y[0] * 2, y[0] + 1], 1)
        attended = [F.scaled_dot_product_attention(pairs, pairs, pairs), F.scaled_dot_product_attention(pairs, pairs, pairs, is_causal=True)]
        attended += [F.scaled_dot_product_attention(pairs, pairs, pairs, y[0][:, None, :3].expand(-1, 3, 3)), F.scaled_dot_product_attention(pairs[:, None], pairs[:, None], pairs[:, None])]
        looked = [columns.gather(1, places), columns.scatter(1, places, columns[:, 2:]), attended]
        return {"scores": scores + options["bias"], "seen": (self.count.clone(), x.shape[1])}, self.column @ y[0].t(), self.part.sum(), looked

    inputs = staticmethod(lambda: (torch.randn(1, 3, 4), torch.tensor([1, 4, 2]), {"bias": torch.randn(8)}))
    length = torch.export.Dim("length", min=1, max=8)
    shapes = {"x": {1: length}, "at": {0: length}, "options": {"bias": None}}


class Aliases(torch.nn.Module):
    """Buffers that share memory with each other, and are changed by one name and read by another."""

    decomposes = False  # PyTorch's decompositions know of no memory.
    remembers = True

    def __init__(self):
        super().__init__()
        n = torch.nn
        self.one = n.Buffer(torch.arange(6.0).reshape(2, 3))
        self.other = n.Buffer(self.one)
        self.whole = n.Buffer(torch.arange(12.0).reshape(4, 3))
        self.rows, self.column, self.turned = n.Buffer(self.whole[1:3]), n.Buffer(self.whole[:, 1]), n.Buffer(self.whole.t())
        block = torch.arange(10)
        self.left, self.right, self.apart = n.Buffer(block[1:6]), n.Buffer(block[4:9]), n.Buffer(block[9:])
        self.lifted = [torch.zeros(3)]
        self.held = n.Buffer(self.lifted[0], persistent=False)

    def forward(self, x):
        self.one.add_(x)
        seen = [self.other * 1]
        self.other[0].mul_(2)
        seen += [self.one * 1, self.other * 1]
        self.column.add_(1)
        seen += [self.rows * 1, self.whole * 1]
        self.rows.mul_(2)
        seen += [self.turned * 1, self.column * 1]
        self.turned[0].zero_()
        self.left.add_(10)
        seen += [self.rows * 1, self.right * 1]
        self.right[:2] = 7
        self.lifted[0].add_(x[0])
        return seen, self.left * 1, self.apart * 1, self.held * 1

    inputs = staticmethod(lambda: (torch.randn(2, 3),))


class Control(torch.nn.Module):
    def forward(self, x):
        a = torch.cond(x.sum() > 0, lambda x: (x.sin(), x + 1), lambda x: (x.cos(), x - 1), (x,))
        b = torch.cond(x.sum() < 0, lambda x: (x.sin(), x + 1), lambda x: (x.cos(), x - 1), (x,))
        return a, b

    inputs = staticmethod(lambda: (torch.randn(3, 4),))


class Memory(torch.nn.Module):
    """Changes of views, of views of views, and of what only sometimes is a view."""

    def forward(self, x, i):
        results = []
        paths = [
            lambda y: y[1:3], lambda y: y[::2], lambda y: y[:, 2], lambda y: y.t(), lambda y: y.view(-1), lambda y: y.reshape(3, 8),
            lambda y: y.t().reshape(3, 8), lambda y: y.t().flatten(), lambda y: y.contiguous(), lambda y: y.t().contiguous(),
            lambda y: y.to(torch.float32), lambda y: y.diagonal(1), lambda y: y.unfold(0, 2, 2), lambda y: y.hsplit(2)[1], lambda y: y.movedim(0, 1),
            lambda y: y.as_strided((2, 2), (4, 1), 5), lambda y: y.expand(6, 4),
            lambda y: torch.view_as_complex(y.view(6, 2, 2)).imag, lambda y: torch.atleast_3d(y), lambda y: y.t_(), lambda y: y.unsqueeze_(1),
            lambda y: y[1:5].view(2, 2, 4).transpose(0, 1)[1][..., ::2], lambda y: y.view(24)[3:15].view(3, 4).t()[1:], lambda y: y.clone(), lambda y: y[[0, 2]],
        ]  # fmt: skip
        for path in paths:
            y = x * 1
            part = path(y)
            part.mul_(3).add_(1)
            results += [y, part]
        y = x * 1
        a, b = y.view(-1), y[1:]
        a[5] = 100
        b.add_(1)
        y.index_put_((i,), torch.ones(3, 4), accumulate=True)
        y.masked_scatter_(y > 2, torch.arange(24.0))
        y.fill_diagonal_(-1)
        z = torch.zeros(6, 4)
        torch.add(x, y, out=z)
        constant = torch.tensor([1.0, 2.0, 3.0, 4.0])
        constant[0] += x.sum()
        return results, [a, b, y, z, a.view(6, 4)[2], x + constant]

    inputs = staticmethod(lambda: (torch.randn(6, 4), torch.tensor([0, 2, 0])))


class Loops(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.conv = torch.nn.Linear(4, 4), torch.nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x, maps):
        from torch._higher_order_ops.map import map as map_op
        from torch._higher_order_ops.scan import scan as scan_op

        loop = torch._higher_order_ops.while_loop
        zero = torch.tensor(0)
        results = [loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.5 + i), (zero, x))]
        results += [loop(lambda i, x: i < 0, lambda i, x: (i + 1, x * 2), (zero, x)), loop(lambda x: x.sum() < 100, lambda x: (x.abs() * 2 + 0.1,), (x,))]
        results += [loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.linear(x).tanh()), (zero, x))]
        results += [loop(lambda i, x: i < 2, lambda i, x: (i + 1, self.conv(x).relu()), (zero, maps))]
        results += [scan_op(lambda c, x: (c * 0.5 + x, c + x), torch.zeros(4), x), map_op(lambda row, y: row.sin() * y, x, x[0] + 1)]
        with torch.no_grad():
            y = x * 2
        with torch.enable_grad():
            y = y + 1
        return results, y, torch.cond(x.shape[0] > 3, lambda x: x.sin(), lambda x: x.cos(), (x,))

    inputs = staticmethod(lambda: (torch.randn(5, 4), torch.randn(1, 2, 4, 4)))


class Branches(torch.nn.Module):
    """Branches of which the one that is not taken would fail: its indices are outside their tables."""

    def forward(self, x, table, at, far):
        taken, other = x.sum() > 1000, x.sum() < 1000
        put = lambda x, at: x.index_copy(0, at, x[:2] * 2)
        chosen = [torch.cond(flag, lambda x, t, i: t[i] + x[0, 0], lambda x, t, i: t[:2] * x[0, 0], (x, table, far)) for flag in (taken, other.logical_not())]
        chosen += [torch.cond(other, lambda t, i, j: F.embedding(i, t), lambda t, i, j: F.embedding(j, t), (table, at, far))]
        chosen += [torch.cond(taken, lambda x, i: put(x, i), lambda x, i: x + 1, (x, far)), torch.cond(other, lambda x, i: put(x, i), lambda x, i: x + 1, (x, at))]
        nested = lambda x, t, i: torch.cond(x[0, 0] < 1000, lambda t, i: t.gather(0, i[:, None]), lambda t, i: t[:2, :1] + 1, (t, i))
        chosen += [torch.cond(taken, nested, lambda x, t, i: t[:2, :1] * 3, (x, table, far)), torch.cond(other, nested, lambda x, t, i: t[:2, :1] * 3, (x, table, at))]
        return chosen

    inputs = staticmethod(lambda: (torch.randn(4, 3), torch.randn(5, 3), torch.tensor([3, 1]), torch.tensor([40, -70])))


class Choices(torch.nn.Module):
    """Sizes that the data decides."""

    def forward(self, x, mask, n, times):
        y = x[mask] @ torch.ones(4, 2)
        chosen = [torch.nonzero(x > 0), x[x > 0], y, x[:, mask[:4]], torch.masked_select(x, x < 0), x[x > 90], x[x > 90].sum(), *torch.where(n > 0)]
        chosen += [torch.cat([x[x > 0], x[x < -0.5]]), x.index_put((x > 0,), x[x > 0] * 2), *torch.unique(n, return_inverse=True, return_counts=True)]
        k = (x > 0).sum().item()
        torch._check(k >= 0)
        torch._check(k <= 20)
        chosen += [torch.zeros(k) + 1, x.flatten()[:k], x * k]
        chosen += [F.pad(x.flatten()[:k], (1, 20 - k)), F.pad(x.reshape(1, 20)[:, :k], (20 - k, -1, 2, 0), value=3.0), F.pad(x.t().reshape(4, 5)[:, :1].expand(4, k), (k, 0))]
        below = (x <= 0).sum().item()
        torch._check(below >= 0)
        torch._check(below <= 20)
        torch._check(k + below == x.numel())
        sorted_ = torch.cat([x.flatten()[:k] * 2, x.flatten()[:below]])
        chosen += [sorted_ + x.flatten(), torch.zeros(20).index_add(0, torch.arange(20).flip(0), sorted_), sorted_.reshape(5, 4) @ x.t()]
        repeated = torch.repeat_interleave(x, times, 0)
        torch._check(repeated.shape[0] <= 30)
        i = n[0].item()
        return chosen, repeated * 2, x * i, torch.masked_scatter(x, x > 0, x.flip(0))

    inputs = staticmethod(
        lambda: (torch.randn(5, 4), torch.tensor([True, False, True, True, False]), torch.tensor([-2, 3, 1, 3, 0]), torch.tensor([1, 0, 2, 3, 1]))
    )


class Spectra(torch.nn.Module):
    """Fourier transforms and complex numbers."""

    def __init__(self):
        super().__init__()
        self.turn = torch.nn.Buffer(torch.polar(torch.ones(4), torch.arange(4.0)))
        self.matrix = torch.nn.Buffer(torch.complex(torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)).t().to(torch.complex64))

    def forward(self, x, wave, pairs):
        real, fft, a = torch.view_as_real, torch.fft, torch.view_as_complex(pairs)
        spectra = [real(fft.rfft(x)), fft.irfft(fft.rfft(x[:, :7]), 7), real(fft.fft(x, dim=0)), real(fft.ifft(fft.fft(x))), fft.irfft2(fft.rfft2(x, norm="ortho"), norm="ortho")]
        spectra += [real(fft.rfft(x, 5)), real(fft.fft2(x)), fft.fftn(x).abs(), fft.fftshift(x), fft.fftfreq(9), real(fft.fft(wave))]
        window = torch.hann_window(16)
        stft = torch.stft(wave, 16, 4, window=window, return_complex=True)
        spectra += [stft.abs(), torch.istft(stft, 16, 4, window=window), torch.stft(wave, 16, 4, 12, window[:12], center=False, normalized=True, return_complex=True).abs()]
        numbers = [a * 2 + a - 1, a / a.flip(0), a.exp(), a.conj() * 1j, a @ a.mT, a * pairs[..., 0], a.sum(1), a.mean(), torch.stack([a, -a]), a**2, pairs[..., 0].to(torch.complex64)]
        numbers += [a * self.turn, a @ self.matrix]
        return spectra, [real(number.resolve_conj()) for number in numbers], a.abs(), a.angle()

    inputs = staticmethod(lambda: (torch.randn(6, 8), torch.randn(2, 120), torch.randn(3, 4, 2)))


class Losses(torch.nn.Module):
    def forward(self, x, y, t):
        p, q = x.sigmoid(), y.sigmoid()
        a = [F.cross_entropy(x, t), F.cross_entropy(x, t, reduction="none"), F.cross_entropy(x, t, label_smoothing=0.1), F.cross_entropy(x, x.softmax(1)), F.cross_entropy(x, t, ignore_index=1)]
        a += [F.nll_loss(x.log_softmax(1), t), F.mse_loss(x, y), F.l1_loss(x, y, reduction="sum"), F.smooth_l1_loss(x, y, beta=0.5), F.huber_loss(x, y, delta=0.5)]
        a += [F.binary_cross_entropy(p, q), F.binary_cross_entropy_with_logits(x, q, pos_weight=q[0]), F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean")]
        a += [F.soft_margin_loss(x, y.sign()), F.poisson_nll_loss(x, y.abs()), F.margin_ranking_loss(x, y, y.sign(), 0.2), F.hinge_embedding_loss(x, y.sign())]
        square = x @ x.mT + 2 * torch.eye(3)
        linear = torch.linalg
        a += [linear.inv(square), linear.solve(square, x), linear.solve(square, x[:, 0]), linear.det(square), *linear.slogdet(square), linear.cholesky(square), torch.cholesky_inverse(linear.cholesky(square))]
        a += [linear.solve_triangular(square.triu(), x, upper=True), linear.matrix_norm(x), linear.matrix_norm(x, 1), torch.lgamma(p * 4), torch.digamma(p * 4), torch.erfinv(p)]
        return a

    inputs = staticmethod(lambda: (torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 3, 1])))


class Sampling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        n = torch.nn
        self.layers = n.ModuleList([n.ConvTranspose3d(2, 3, 3, 2, 1, 1), n.ConvTranspose3d(2, 4, (1, 2, 3), (1, 2, 2), groups=2), n.MaxPool3d(2, return_indices=True)])
        self.lstm = n.LSTM(4, 6, 2, bidirectional=True, proj_size=3, batch_first=True)

    def forward(self, x, volume, grid, theta, ids):
        pooled = [F.max_pool2d(x, 3, 2, 1, return_indices=True), F.adaptive_max_pool2d(x, (3, 2), return_indices=True), F.max_pool1d(x[0], 2, return_indices=True)]
        pooled += [F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape), torch.cummax(x[0, 0], 1), torch.cummin(x[0, 0], 0)]
        modes = [("bilinear", "reflection"), ("nearest", "reflection"), ("bicubic", "zeros"), ("bicubic", "border"), ("bicubic", "reflection")]
        sampled = [F.grid_sample(x, grid, mode, padding, align) for mode, padding in modes for align in (False, True)]
        sampled += [F.grid_sample(volume, torch.stack([grid[:1, ..., 0], grid[:1, ..., 1], grid[:1, ..., 0]], -1)[:, None], align_corners=False)]
        sampled += [F.grid_sample(x, F.affine_grid(theta, (2, 3, 4, 5), align_corners=False), align_corners=False), F.conv_transpose2d(x, x[0, :, None, :2, :2], stride=2)]
        table = x[0, 0]
        bags = [F.embedding_bag(ids, table), F.embedding_bag(ids, table, mode="sum"), F.embedding_bag(ids, table, mode="max"), F.embedding_bag(ids.flatten(), table, torch.tensor([0, 2, 5]))]
        bags += [table.scatter_reduce(1, ids, table[:3, :2], reduce, include_self=own) for reduce in ("mean", "sum", "amax", "prod") for own in (True, False)]
        bags += [table.index_reduce(0, ids[:2, 0], table[:2], "mean"), torch.diag_embed(table, 1), torch.einsum("bii->bi", x[:, :, :3, :3][0]), torch.isin(table, table[:1])]
        small = (table * 40).to(torch.int8)
        bags += [small * 3, small + 100, -small, small // 3, small @ small.t(), small.max(1), small.sort(1), small >> 1, ~small, small.sum()]
        return [layer(volume) for layer in self.layers], self.lstm(table[None, :, :4]), pooled, sampled, bags

    inputs = staticmethod(
        lambda: (torch.randn(2, 3, 5, 6), torch.randn(1, 2, 4, 4, 4), torch.rand(2, 4, 5, 2) * 2.6 - 1.3, torch.randn(2, 2, 3) * 0.3, torch.tensor([[0, 1], [2, 0], [1, 1]]))
    )


def without_folders(program):
    """The program with stacks that name files as their packages know them, not where this machine keeps them."""
    folders = [str(pathlib.Path(torch.__file__).parents[1]) + "/", str(pathlib.Path(__file__).parent.resolve()) + "/"]
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else []:
            trace = node.meta.get("stack_trace")
            for folder in folders if trace else []:
                trace = trace.replace(folder, "")
            if trace:
                node.meta["stack_trace"] = trace
    return program


FAMILIES = [Elementwise, Shapes, Reductions, Indexing, Products, Convolutions, Sequences, States, Aliases, Control]
FAMILIES += [Memory, Loops, Branches, Choices, Spectra, Losses, Sampling]
FAMILIES += [Named, Quantized, Packed, Vision, Sizes]
FAMILIES += [Numbers, Rare, Counted, Regions, Mapped, Training, Indefinite, Extremes, Complexes, Narrow, Associative, Autocast]


def main(folder, chosen):
    folder.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        name = family.__name__.lower()
        if chosen and name not in chosen:
            continue
        torch.manual_seed(0)
        module = family().train(getattr(family, "train_mode", False)).requires_grad_(False)
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.running_mean.uniform_(-0.3, 0.3)
                part.running_var.uniform_(0.5, 1.5)
        args = family.inputs()
        program = torch.export.export(module, args, dynamic_shapes=getattr(family, "shapes", None), strict=getattr(family, "strict", False))
        torch.export.save(without_folders(program), folder / f"{name}.pt2")
        if getattr(family, "decomposes", True):
            torch.export.save(without_folders(program.run_decompositions()), folder / f"{name}.decomposed.pt2")
        names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        golden = {f"in.{n}": torch.as_tensor(leaf).contiguous() for n, leaf in zip(names, pytree.tree_leaves(args))}
        called = program.module()
        for prefix in ["out", "again"][: 1 + getattr(family, "remembers", False)]:
            for i, leaf in enumerate(pytree.tree_leaves(called(*args))):
                leaf = leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf)
                golden[f"{prefix}.{i}"] = leaf.contiguous().clone()
        tensor = lambda leaf: (leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf)).contiguous().clone()
        for i, other in enumerate(getattr(family, "others", list)()):
            golden |= {f"other_{i}.in.{n}": tensor(leaf) for n, leaf in zip(names, pytree.tree_leaves(other))}
            golden |= {f"other_{i}.out.{j}": tensor(leaf) for j, leaf in enumerate(pytree.tree_leaves(called(*other)))}
        for i, other in enumerate(getattr(family, "refused", list)()):
            golden |= {f"refused_{i}.in.{n}": tensor(leaf) for n, leaf in zip(names, pytree.tree_leaves(other))}
            try:
                called(*other)
            except Exception:
                continue
            raise AssertionError(f"{name}: PyTorch takes call {i} that it should refuse")
        safetensors.torch.save_file(golden, folder / f"{name}.golden.safetensors")
        print(name, sum(node.op == "call_function" for node in program.graph.nodes))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
