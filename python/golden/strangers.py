"""Families of archives that strangers brought: quantized programs, detection, dynamic sizes, element types, rare
operators, regions, vmap, and models that learn. `archives.py` writes them."""

import torch
import torch.nn.functional as F
import torchvision
from torch.ao.quantization.fx import _decomposed  # noqa: F401, registers the operators


class Named(torch.nn.Module):
    def forward(self, x):
        return {"logits": x + 1, "hidden": [x * 2, (x - 1,)], 3: x.sum()}, x * x

    inputs = staticmethod(lambda: (torch.randn(2, 3),))
    decomposes = False
class Quantized(torch.nn.Module):
    """What the quantizers of PyTorch and torchao write: integers around arithmetic, and products of integers."""

    def __init__(self):
        super().__init__()
        whole = lambda *shape: torch.nn.Buffer(torch.randint(-128, 128, shape, dtype=torch.int8))
        self.rows, self.kernel, self.groups, self.alone = whole(8, 16), whole(6, 4, 3, 3), whole(6, 2, 3, 3), whole(4, 1, 3, 3)
        self.few = torch.nn.Buffer(torch.randint(-8, 8, (8, 16), dtype=torch.int8))
        self.scale, self.fine = torch.nn.Buffer(torch.rand(8) * 0.01 + 0.01), torch.nn.Buffer(torch.rand(8, 2) * 0.1 + 0.1)
        self.none, self.some = torch.nn.Buffer(torch.zeros(8, dtype=torch.int64)), torch.nn.Buffer(torch.randint(-9, 9, (8,), dtype=torch.int32))
        self.odd = torch.nn.Buffer(torch.randint(-3, 3, (8, 2), dtype=torch.int8))
        self.bias = torch.nn.Parameter(torch.randn(8))

    def forward(self, x, maps, bytes):
        q = torch.ops.quantized_decomposed
        unsigned, signed = (0.03, 131, 0, 255, torch.uint8), (0.03, -5, -128, 127, torch.int8)
        u = q.dequantize_per_tensor(q.quantize_per_tensor(x, *unsigned), *unsigned)
        s = q.dequantize_per_tensor(q.quantize_per_tensor(x, *signed), *signed)
        results = [u, s, q.quantize_per_tensor(x, *signed)]
        for zero in self.none, self.some:
            weight = q.dequantize_per_channel(self.rows, self.scale, zero, 0, -128, 127, torch.int8)
            results += [F.linear(u, weight, self.bias).relu(), F.linear(s, weight), F.linear(x, weight)]
            results += [F.linear(s[:, None], weight, self.bias) * self.scale]
        channels = lambda w: q.dequantize_per_channel(w, self.scale[: len(w)], self.none[: len(w)], 0, -128, 127, torch.int8)
        m = q.dequantize_per_tensor(q.quantize_per_tensor(maps, *unsigned), *unsigned)
        results += [F.conv2d(m, channels(self.kernel), self.bias[:6], padding=1), F.conv2d(m, channels(self.kernel)[:, :, :1, :1])]
        results += [F.conv2d(m, channels(self.groups), stride=2, groups=2), F.conv2d(m, channels(self.alone), groups=4)]
        group = (-8, 7, torch.int8, 8, torch.float32)
        results += [F.linear(x, q.dequantize_per_channel_group(self.few, self.fine, self.odd, *group)), F.linear(u, q.dequantize_per_channel_group(self.few, self.fine, None, *group))]
        results += [q.quantize_per_channel_group(x[:4].repeat(2, 1), self.fine, self.odd.float(), -8, 7, torch.int8, 8)]
        results += [q.quantize_per_channel(x.t()[:8], self.scale, self.some, 0, -128, 127, torch.int8)]
        asymmetric, symmetric = (0, 255, torch.uint8), (-127, 127, torch.int8)
        for choose, ends in (q.choose_qparams, asymmetric), (q.choose_qparams_symmetric, symmetric):
            chosen = choose(x, *ends[:2], 1e-5, ends[2])
            whole = q.dequantize_per_tensor.tensor(q.quantize_per_tensor.tensor(x, *chosen, *ends), *chosen, *ends)
            results += [whole, F.linear(whole, channels(self.rows))]
        chosen = q._choose_qparams_per_token_asymmetric_impl(x, torch.int8)
        scale, zero = chosen[0].float(), chosen[1].float()
        tokens = q.dequantize_per_token(q.quantize_per_token(x, scale, zero, -128, 127, torch.int8), scale, zero, -128, 127, torch.int8, torch.float32)
        results += [scale, zero, tokens, F.linear(tokens, channels(self.rows), self.bias)]
        # As torchao's Int8Tensor multiplies: bytes that were moved to be unsigned, and what that adds taken away.
        t, amax = self.rows.t(), x.abs().amax(1, keepdim=True) / 127.5
        moved = (torch.round(x / amax).clamp(-128, 127).to(torch.int8).to(torch.int32) + 128).to(torch.uint8)
        sums = torch._int_mm(moved, t) - t.sum(0, keepdim=True, dtype=torch.int32) * 128
        results += [sums, (sums.float() * amax * self.scale)[:, None] + self.bias, x @ t.float() * self.scale, torch._int_mm(bytes, bytes.t())]
        results += [torch.ops.aten._weight_int8pack_mm(x, self.rows, self.scale), torch.fake_quantize_per_tensor_affine(x, 0.02, 3, -128, 127)]
        return results

    inputs = staticmethod(lambda: (torch.randn(24, 16), torch.randn(2, 4, 6, 7), torch.randint(-128, 128, (24, 16), dtype=torch.int8)))


class Packed(torch.nn.Module):
    """Weights of 4 bits as PyTorch packs them for the processor that it runs on."""

    decomposes = False

    def __init__(self):
        super().__init__()
        for name, rows, columns, group in ("a", 96, 64, 32), ("b", 48, 96, 32):
            groups = torch.randn(rows, columns // group, group)
            low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
            scale = (high - low) / 15
            codes = ((groups - low) / scale).round().int().reshape(rows, columns)
            setattr(self, name, torch.nn.Buffer(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)))
            numbers = torch.cat([scale, low + scale * 8], -1).transpose(0, 1).contiguous()
            setattr(self, f"{name}_numbers", torch.nn.Buffer(numbers))

    def forward(self, x):
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
        return multiply(multiply(x, self.a, 32, self.a_numbers), self.b, 32, self.b_numbers)

    inputs = staticmethod(lambda: (torch.randn(5, 64),))


class Vision(torch.nn.Module):
    """torchvision's operators."""

    def forward(self, x, wide, regions, boxes, scores, weight, offset, mask):
        ops = torchvision.ops
        kept = ops.nms(boxes, scores, 0.4)
        results = [kept, boxes[kept], ops.nms(boxes, scores, 0.8)]
        for samples, edges in (2, True), (-1, True), (-1, False), (3, False):
            results += [ops.roi_align(x, regions, (3, 2), 0.5, samples, edges)]
        results += [ops.roi_pool(x, regions, (2, 3), 0.75), ops.ps_roi_align(wide, regions, (2, 3), 0.5, 2)]
        results += [ops.ps_roi_align(wide, regions, (2, 3), 0.5, -1), ops.ps_roi_pool(wide, regions, (2, 3), 0.75)]
        results += [ops.deform_conv2d(x, offset, weight, weight[:, 0, 0, 0], (2, 1), (1, 2), (1, 2)), ops.deform_conv2d(x, offset, weight, stride=(2, 1), padding=(1, 2), dilation=(1, 2), mask=mask)]
        return results

    def inputs():
        corner, size = torch.rand(9, 2) * 20 - 2, torch.rand(9, 2) * 14
        regions = torch.cat([torch.randint(0, 2, (9, 1)).float(), corner, corner + size], 1)
        boxes = torch.rand(20, 2) * 10
        boxes = torch.cat([boxes, boxes + 3 + torch.rand(20, 2) * 6], 1)
        rows, columns = (9 + 2 - 3) // 2 + 1, 10 + 4 - 5 + 1
        moved, shares = torch.randn(2, 2 * 2 * 9, rows, columns) * 2, torch.rand(2, 2 * 9, rows, columns)
        return torch.randn(2, 4, 9, 10), torch.randn(2, 12, 9, 10), regions, boxes, torch.rand(20), torch.randn(6, 2, 3, 3), moved, shares

    inputs = staticmethod(inputs)
class Sizes(torch.nn.Module):
    """Height, width and rows are dynamic, `n` is an integer, and how often rows are repeated nothing bounds."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = torch.nn.Conv2d(2, 3, 3, 2, 1), torch.nn.Conv2d(3, 3, 3, 2, 1)
        self.once = torch.nn.Conv2d(2, 3, 7, 4, 3)

    def forward(self, x, y, times, n):
        height, width = x.shape[2:]
        resized = [F.interpolate(x, scale_factor=0.5), F.interpolate(x, scale_factor=1.5, mode="bilinear")]
        resized += [F.interpolate(x, scale_factor=1 / 3, mode="bilinear"), F.interpolate(x[:, 0], scale_factor=0.7, mode="linear")]
        half = self.down(x)
        equal = [self.deep(half) + self.once(x), F.interpolate(self.deep(half), size=half.shape[2:]) + half]
        pooled = [F.max_pool2d(x, 3, 2, 1, dilation=2, return_indices=True), F.adaptive_max_pool2d(x, (2, 3), return_indices=True)]
        pooled += [F.max_pool2d(x, 3, 2, ceil_mode=True), F.avg_pool2d(x, 2, ceil_mode=True)]
        padded = [F.pad(x, (2, 1, 1, 2), mode=mode) for mode in ("reflect", "replicate", "circular")]
        moved = [x.roll(height // 2, 2), x.roll(-(width // 3), 3), y.roll(9, 0), y[-x.shape[0] :], x.unfold(2, 3, 2).sum(-1)]
        moved += [torch.ones(height, width).tril(width - height), x.diagonal(1, 2, 3), F.fold(F.unfold(x, 3, padding=1), (height, width), 3, padding=1)]
        rows = y.repeat_interleave(times, 0)
        found = [rows * 2, torch.bincount(times), rows.sum(0)]
        first = times[0].item()
        torch._check(first < 9)
        numbers = [y * n, y * (n - 20), y + height / width, y * first, y * height**0.5]
        # The number of columns is a constant of the program, which only some widths lead to.
        cut = x[..., : int(width * 0.75)] * 2
        return resized, equal, pooled, padded, moved, found, numbers, cut

    @staticmethod
    def call(height, width, rows, times, n):
        return torch.randn(1, 2, height, width), torch.randn(rows, 4), torch.tensor(times), n

    inputs = staticmethod(lambda: Sizes.call(9, 12, 3, [2, 0, 1], 3))
    others = staticmethod(lambda: [Sizes.call(14, 13, 5, [1, 4, 0, 2, 7], -7), Sizes.call(21, 12, 2, [0, 1], 5)])
    refused = staticmethod(lambda: [Sizes.call(9, 16, 3, [2, 0, 1], 3), Sizes.call(9, 12, 3, [9, 0, 1], 3), Sizes.call(9, 12, 3, [1, 0], 3)])
    shapes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC}, torch.export.Dim.DYNAMIC)


class Numbers(torch.nn.Module):
    """Element types as the program says, numbers without dimensions, nothing at all, and operands that broadcast."""

    def forward(self, i, x, z, none, flag, pairs):
        big = i + 2**24
        whole = [torch.einsum("bi,i->b", i, torch.tensor([1, 1000, 1000_000, 1000_000_000])), big.square().sum(), F.relu(-big), big @ big.T, torch.addmm(i[:, 0], i, i.T), torch.gcd(i, i.flip(0) + 6), torch.lcm(i, i + 1)]
        whole += [i << torch.tensor([1, 3, 40, 62]), big >> torch.tensor([1, 3, 40, 62]), big.argmax(1), big.argmin(), torch.addcmul(i, i, big), i.to(torch.int16) * 300, i.to(torch.int32).prod(), torch.linalg.vander(i[0])]
        whole += [i.scatter_reduce(0, i.remainder(3), big, "amax", include_self=False), i.mode(1), i.to(torch.uint8).cumsum(0), torch.outer(big[0], big[1]), i.sign(), flag.sign()]
        told = [x.double(), x.double() * 2 + 1, x.half(), x.to(torch.bfloat16) * 3, torch.view_as_complex(pairs) * 2, torch.fft.rfft(x), torch.complex(x[:, :1], x[0]), x.view(torch.int16), x.view(torch.uint8), x.view(torch.int32).view(torch.float32), x.real * 2, x.angle()]
        number = [z.sort(), z.topk(1), z.max(0), z.log_softmax(-1), z.argmax(0), z.index_select(0, torch.tensor([0])), z.index_fill(0, torch.tensor([0]), 2.0), torch.nonzero(z), z.scatter(0, torch.tensor(0), 7.0), z.t(), z.unfold(0, 1, 1), z.cumsum(0), z.quantile(0.5)]
        nothing = [none.any(), none.any(0), none.all(0), none.all(), none.sum(0), none.T @ none, none @ torch.ones(4, 2), torch.einsum("ij,ik->jk", none, none), none.sort(0), none.softmax(1), none.cumsum(0), none.flip(1), F.relu(none), F.linear(none.T, torch.ones(5, 0))]
        shapes = [F.cosine_similarity(x, x[0], dim=1), torch.column_stack([x[:, 0], x]), torch.dstack([x[0], x[1]]), torch.hstack([x[0], x[1]]), torch.vstack([x[0], x]), torch.take_along_dim(x[:, :1], torch.tensor([[0, 2, 1], [1, 0, 2]]), 0), torch.masked_scatter(x[0], flag, x)]
        inf = torch.tensor(float("inf"))
        edges = [torch.logaddexp(-inf, -inf), torch.logaddexp(inf, inf), torch.logaddexp(x, -inf), torch.logaddexp2(-inf, -inf), torch.special.entr(x), torch.special.entr(torch.zeros(1)), torch.hypot(x * 1e38, x), torch.hypot(x * 0, x * 0), torch.nextafter(x, x + 1), torch.frexp(x), F.dropout(x, 0.0, True)]
        edges += [F.pad(x[None], (-2, 3), "replicate"), F.avg_pool1d(x, 3, 2), torch.nan_to_num(x / 0), torch.histc(x, 5), torch.linspace(-2.0, 3, 1), torch.addr(x, x[:, 0], x[0], beta=0)]
        return whole, told, number, nothing, shapes, edges

    inputs = staticmethod(lambda: (torch.randint(0, 9, (3, 4)), torch.randn(3, 4), torch.tensor(2.5), torch.zeros(0, 4), torch.tensor([True, False, True, True]), torch.randn(3, 2)))


class Rare(torch.nn.Module):
    """Factors of matrices, statistics and special functions."""

    decomposes = False

    def forward(self, x, tall, n):
        linear, special = torch.linalg, torch.special
        square = tall.T @ tall + torch.eye(3)
        found = [*linear.qr(tall), *linear.qr(tall.T, "complete"), *torch.geqrf(tall), linear.householder_product(*torch.geqrf(tall)), *linear.lu(tall), *linear.lu_factor(square), linear.lu_solve(*linear.lu_factor(square), square)]
        found += [linear.svdvals(tall), linear.pinv(tall), linear.matrix_rank(tall), linear.cond(tall), torch.matrix_exp(square * 0.3), linear.matrix_power(square, -3), linear.matrix_norm(tall, "nuc"), linear.eigvalsh(square)]
        u, s, v = linear.svd(tall, full_matrices=False)
        w, q = linear.eigh(square)
        found += [u @ s.diag() @ v, q @ w.diag() @ q.T, linear.solve_triangular(square.tril(), tall, upper=False, left=False), torch.triangular_solve(square, square)[0]]
        y = x.abs() + 0.3
        found += [special.i0(x), special.i0e(x * 9), special.i1(x), special.i1e(x * 9), special.modified_bessel_k0(y), special.modified_bessel_k1(y), special.bessel_j0(x * 20), special.bessel_j1(x * 20), special.bessel_y0(y), special.bessel_y1(y), special.spherical_bessel_j0(x)]
        found += [special.erfcx(x), special.ndtri(x.sigmoid()), special.log_ndtr(x * 3), special.xlog1py(y, y), special.zeta(y + 1, y), torch.polygamma(2, y), torch.mvlgamma(y + 2, 3), torch.igamma(y, y * 2), torch.igammac(y, y)]
        found += [special.chebyshev_polynomial_t(x, n), special.hermite_polynomial_h(x, n), special.laguerre_polynomial_l(x, n), special.legendre_polynomial_p(x, n)]
        gaps = torch.where(x > 0.5, torch.nan, x)
        found += [x.quantile(0.3, 1, keepdim=True), gaps.nanquantile(0.4, 1), gaps.nanmean(1), gaps.nanmedian(), *gaps.nanmedian(1), x.round().mode(1), torch.cumulative_trapezoid(x), torch.trapezoid(x, dx=0.5)]
        found += [torch.nn.utils.rnn.pad_sequence([x, x[:2]], True, 1.0), torch.block_diag(x, tall), torch.cartesian_prod(x[0], x[1]), torch.combinations(x[0], 2), x.renorm(2, 0, 1.0), F.multi_margin_loss(x, n[:, 0]), F.multilabel_margin_loss(x, n), F.triplet_margin_loss(x, x + 1, x.flip(0)), torch.pdist(x)]
        found += [torch.native_layer_norm(x, [4], None, None, 1e-5), torch.native_group_norm(x[None], None, None, 1, 3, 4, 1, 1e-5), torch.fft.hfft(x[0]), torch.fft.ihfft(x), torch.diagflat(x[0], 1), x.msort(), torch.logspace(0, 2, 5)]
        return found

    inputs = staticmethod(lambda: (torch.randn(3, 4), torch.randn(5, 3), torch.randint(0, 4, (3, 4))))


class Indefinite(torch.nn.Module):
    """Factors of symmetric matrices with blocks of two, bits of numbers folded, and rare arguments of known operators."""

    def forward(self, a, b, x, n):
        linear = torch.linalg
        a = a + a.mT
        factors = linear.ldl_factor(a)
        results = [*factors, linear.ldl_solve(*factors, b), *linear.ldl_factor_ex(a[:, :1, :1] * 0), *linear.ldl_factor(a[0, :2, :2])]
        small = torch.tensor([1e-40, -1e-45, 0.0, -0.0, float("inf"), float("nan"), 3.5])
        hashed = [torch.hash_tensor(y) for y in (x, n, n.to(torch.int8), n > 2, small, x.to(torch.bfloat16), x[0, 0])]
        target, weight, number = torch.tensor([0, 4, 2, 4, 1, 3]), torch.tensor([0.5, -1.0, 0.0, 2.0, -0.3]), x[0, 0, 0]
        scores = a[:, 0, :5]
        rare = [F.cross_entropy(scores, target, weight, reduction=how) for how in ("none", "sum", "mean")]
        rare += [F.cosine_similarity(number, number - 3, dim=0), torch.diag_embed(x, 0, 0, 1), torch.diag_embed(x, 1, -1, 0), torch.diag_embed(x, -2, 1, -2)]
        return results, hashed, rare, torch.hash_tensor(x, dim=(1,)), torch.hash_tensor(x, dim=(0, 2), keepdim=True), torch.hash_tensor(x[:0], dim=(1,))

    def inputs():
        # Of little on the diagonal, so that single pivots are rare.
        a = torch.randn(6, 7, 7)
        return a * (1 - 0.95 * torch.eye(7)), torch.randn(6, 7, 2), torch.randn(3, 5, 2), torch.randint(-9, 9, (4, 3))

    inputs = staticmethod(inputs)


class Counted(torch.nn.Module):
    """How many fall where, parts of unlike length, equations of tensors, and what is true as it is spread."""

    def forward(self, x, points, edges, lengths, matrix, truths, places, logits, target):
        found = [torch.histc(x, 4, -1, 1), *torch.histogram(x, 5), *torch.histogram(x, 4, range=(-1.0, 2.0), weight=x.abs(), density=True)]
        found += [*torch.histogram(x, edges), *torch.histogram(torch.full_like(x, 0.5), 3)]
        hist, sides = torch.histogramdd(points, [2, 3], weight=points[:, 0].abs())
        found += [hist, *sides, torch.histogramdd(points, [edges, edges], density=True)[0], torch.histogramdd(points, 3, range=[-1.0, 1.0, -2.0, 0.5])[0]]
        for how in "sum", "mean", "max", "min", "prod":
            found += [torch.segment_reduce(x, how, lengths=lengths, axis=0, unsafe=True), torch.segment_reduce(x, how, lengths=lengths, axis=0, initial=0.5, unsafe=True)]
        found += [torch.segment_reduce(x, "sum", offsets=torch.tensor([0, 2, 2, 5]), axis=0)]
        tensor = matrix.reshape(2, 3, 6)
        found += [torch.linalg.tensorinv(tensor, 2), torch.linalg.tensorsolve(tensor, points[:6].reshape(2, 6)[:, :3].reshape(2, 3)), torch.linalg.diagonal(tensor, offset=1), tensor.mH, matrix.H]
        found += [torch.linalg.pinv(matrix + matrix.T * 0.5, hermitian=True), torch.linalg.matrix_rank(matrix, hermitian=True), *torch.linalg.solve_ex(matrix, points[:6])]
        x_far = torch.tensor([-30.0, -8.5, -2.1, -2.0, -0.3, 0.0, 0.7, 2.0, 2.1, 5.0, 9.0, 120.0])
        found += [torch.special.airy_ai(x_far), F.poisson_nll_loss(x, points[:5] * 3, full=True), F.pad(x[None], (-2, 3), "replicate"), F.pad(x[None], (1, -1), "replicate")]
        found += [truths.cummax(1), truths.cummin(0), truths.index_add(1, places, truths.flip(0)), truths.scatter_reduce(1, places.expand(3, 4), truths.flip(1), "prod"), truths.scatter_reduce(1, places.expand(3, 4), truths.flip(1), "amin")]
        found += [F.feature_alpha_dropout(x, 0.3, False), torch.nonzero(x[0, 0], as_tuple=True)]
        return found + [F.bilinear(x, x, matrix[:4].reshape(6, 2, 2)), F.cross_entropy(logits, target, reduction="none")]

    decomposes = False
    inputs = staticmethod(
        lambda: (
            torch.randn(5, 2), torch.randn(12, 2), torch.tensor([-1.5, -0.5, 0.25, 1.5]), torch.tensor([2, 0, 3]), torch.randn(6, 6),
            torch.rand(3, 4) > 0.4, torch.tensor([2, 0, 2, 1]), torch.randn(3, 5), torch.tensor([4, 0, 2]),
        )  # fmt: skip
    )


@torch.compiler.nested_compile_region
def region(x):
    return x.sin() + x * 2


class Regions(torch.nn.Module):
    """A region that is compiled once, in a strict export."""

    def forward(self, x):
        return region(region(x))

    strict, decomposes = True, False
    inputs = staticmethod(lambda: (torch.randn(3, 4),))


class Mapped(torch.nn.Module):
    """`torch.vmap` in the forward pass."""

    def forward(self, x, w):
        return torch.vmap(lambda a, b: a @ b)(x, w)

    inputs = staticmethod(lambda: (torch.randn(3, 2, 4), torch.randn(3, 4, 5)))


class Training(torch.nn.Module):
    """A model that was exported while it learns: statistics of the batch, no element dropped."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.0)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)).relu())

    train_mode = True
    inputs = staticmethod(lambda: (torch.randn(4, 3, 8, 8),))


class Extremes(torch.nn.Module):
    """Numbers without end and what is no number, labels that are ignored, and sums of powers far apart."""

    def forward(self, x, y, scores, labels, places):
        inf = float("inf")
        results = [torch.isclose(x, y), torch.isclose(x, y, equal_nan=True), torch.isclose(x, y, rtol=0, atol=0), torch.isclose(labels, labels + 1, rtol=0.6)]
        results += [x.logsumexp(0), x[3:].logsumexp(0), x[:2].logsumexp(0), x[1:3].logsumexp(0), x[2:].log_softmax(0), x[1:].log_softmax(0)]
        results += [scores.logcumsumexp(1), (scores * 100).logcumsumexp(0), x.logcumsumexp(0), x.flip(0).logcumsumexp(0), torch.full((2,), -inf).logcumsumexp(0)]
        results += [y.scatter_reduce(0, places, x, "amax"), x.scatter_reduce(0, places, y, "amin"), y.index_reduce(0, places, x, "amin"), y.index_reduce(0, places, x, "amax")]
        results += [x.median(), *x.view(2, 3).median(1), *x.view(3, 2).median(0, keepdim=True), y[:2].median()]
        results += [F.threshold(x, 0.5, 9.0), F.hardshrink(x), F.softshrink(x), torch.xlogy(y * 0, x)]
        weight = scores[0].abs()
        for reduction in "none", "sum", "mean":
            smooth = lambda t, **more: F.cross_entropy(scores, t, label_smoothing=0.1, reduction=reduction, **more)
            results += [smooth(labels), smooth(labels, weight=weight), smooth(labels.clamp(0), ignore_index=2), smooth(labels.clamp(0), weight=weight, ignore_index=0)]
            results += [F.cross_entropy(scores.view(2, 4, 2), labels.view(2, 2), weight=weight, label_smoothing=0.2, reduction=reduction)]
        return results

    def inputs():
        inf, nan = float("inf"), float("nan")
        return torch.tensor([nan, 1.0, 1e30, inf, -inf, -inf]), torch.tensor([nan, inf, 1e30, inf, -inf, inf]), torch.randn(4, 4), torch.tensor([2, -100, 0, 3]), torch.tensor([3, 1, 1, 0, 5, 2])


class Complexes(torch.nn.Module):
    """Complex numbers, alone and beside real ones."""

    def forward(self, x, y, z):
        results = [x.roll(1), x.roll(5), x.roll((1, -1), (0, 1)), torch.stack([y, x]), torch.stack([x, y], 2), torch.stack([x, z], -1)]
        results += [torch.cat([x, y, z]), torch.cat([y, x], 1), torch.cat([torch.zeros(0), x[0]]), torch.hstack([x, y]), torch.hstack([y[0], x[1]]), torch.vstack([x[0], y[1]])]
        return results + [torch.dstack([x, y]), torch.column_stack([x[0], y[0]]), torch.where(y > 0, x, y)]

    inputs = staticmethod(lambda: (torch.randn(2, 3, dtype=torch.complex64), torch.randn(2, 3), torch.randn(2, 3, dtype=torch.complex64)))


class Narrow(torch.nn.Module):
    """Bytes, short and long integers, at their ends and where PyTorch rounds them; bags, norms and places."""

    decomposes = False

    def forward(self, x, maps, bytes, shorts, longs, ids, table):
        big = 2**53 + 1
        results = [F.interpolate(maps, (2, 2), mode="bilinear"), F.interpolate(maps, (12, 14), mode="bilinear"), F.interpolate(maps, (3, 7), mode="bilinear", antialias=True)]
        results += [F.interpolate(maps, (9, 4), mode="nearest"), F.interpolate(maps, (11, 13), mode="bilinear", align_corners=True)]
        results += [longs.clamp(0, big), longs.clamp_min(big), longs.clamp(max=big), torch.add(longs, longs, alpha=big), torch.sub(longs, longs, alpha=-3)]
        results += [bytes > 300, bytes < -1, bytes == 259, bytes // -3, bytes % -3, bytes + 300, shorts > 70000]
        results += [*shorts.sort(), *shorts.topk(2), shorts.median(), *bytes.sort(descending=True), *bytes.cummax(0), *shorts.cummin(0), bytes.cumsum(0, dtype=torch.uint8)]
        results += [bytes.index_put((ids[0],), bytes[:2], accumulate=True), bytes.scatter_reduce(0, ids[1], bytes[:2], "prod"), shorts.unique()]
        results += [F.embedding_bag(ids, table, mode=mode, padding_idx=0) for mode in ("sum", "mean", "max")]
        results += [torch.linalg.norm(x, "fro"), torch.linalg.norm(x, "nuc"), torch.linalg.norm(x, 1), torch.linalg.norm(x, 2, (1, 0), keepdim=True), torch.linalg.norm(x), torch.linalg.norm(x, 3, 1)]
        results += [torch.bincount(ids.flatten(), weights=longs[[1, 1, 1, 1]]), torch.isin(shorts, 3), torch.isin(bytes, 3, invert=True), torch.bucketize(0.5, x[0].sort().values)]
        return results + [torch.special.digamma(table), torch.special.round(x * 9)]

    def inputs():
        maps = torch.randint(0, 256, (1, 2, 6, 7), dtype=torch.uint8)
        bytes, shorts = torch.tensor([3, 200, 7, 0], dtype=torch.uint8), torch.tensor([3, -9, 300, 4], dtype=torch.int16)
        return torch.randn(3, 4), maps, bytes, shorts, torch.tensor([2**53 + 1, 3]), torch.tensor([[1, 0], [2, 2]]), torch.rand(4, 3) + 0.5


class Associative(torch.nn.Module):
    """A scan whose last turns are over no parts."""

    def forward(self, x):
        from torch._higher_order_ops import associative_scan

        parts = [x, x[:1], x[:2], x[:4]]
        return [associative_scan(lambda a, b: a * 0.5 + b, part, 0, reverse=turn, combine_mode="generic") for part in parts for turn in (False, True)]

    inputs = staticmethod(lambda: (torch.randn(5, 3),))


class Autocast(torch.nn.Module):
    """A region in which PyTorch chooses types, in a strict export, which does not say which."""

    strict, decomposes = True, False

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x

    inputs = staticmethod(lambda: (torch.randn(3, 3),))
