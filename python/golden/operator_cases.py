"""The operators of `operators.py`: name -> function and inputs, by theme."""

import torch
import torch.nn.functional as F

n = torch.nn
r = torch.randn


def numbers(each, case, ints):
    x, p = r(3, 4), torch.rand(3, 4) + 0.1
    one = """abs acos acosh asin asinh atan atanh ceil cos cosh deg2rad digamma erf erfc erfinv exp exp2 expm1 floor frac i0 isfinite
    isinf isnan isneginf isposinf lgamma log log10 log1p log2 logit nan_to_num neg rad2deg reciprocal relu round rsqrt sgn sigmoid sign signbit
    sin sinc sinh sqrt square tan tanh trunc positive""".split()
    for name in one:
        case(f"unary.{name}", getattr(torch, name), p * 0.8 + (1 if name == "acosh" else 0) - (0.4 if name in ("atanh", "sign", "asin") else 0))
    for name in "entr erfcx i0e i1 i1e log_ndtr ndtr ndtri psi gammaln xlog1py bessel_j0 bessel_j1 expit log1p round softmax zeta multigammaln".split():
        args = (p * 0.8, p) if name in ("xlog1py", "zeta") else (p * 0.8,)
        extra = (-1,) if name == "softmax" else (1,) if name == "multigammaln" else ()
        case(f"special.{name}", lambda *a, f=getattr(torch.special, name), e=extra: f(*a, *e), *args)
    two = "add sub mul div pow fmod remainder floor_divide atan2 hypot maximum minimum fmax fmin logaddexp logaddexp2 copysign heaviside xlogy eq ne lt le gt ge isclose nextafter float_power true_divide ldexp dist"
    for name in two.split():
        case(f"binary.{name}", getattr(torch, name), p, p.flip(0) + 0.3)
    integers = "add sub mul floor_divide remainder fmod bitwise_and bitwise_or bitwise_xor maximum minimum gcd lcm eq lt div true_divide"
    i, j = ints(4, 5), ints(4, 5)
    j[j == 0] = 3
    for name in integers.split():
        for kind in (torch.int64, torch.int32, torch.int8, torch.uint8, torch.int16):
            if kind == torch.uint8:
                case(f"integer.{name}.uint8", getattr(torch, name), i.abs().to(kind), j.abs().to(kind))
            else:
                case(f"integer.{name}.{str(kind)[6:]}", getattr(torch, name), i.to(kind), j.to(kind))
    each("integer", {
        "wrap8": lambda a: (a * 50, a + 120, -a, a.abs(), a * a * a * 7), "shift": lambda a: (a << 3, a >> 1), "sum": lambda a: (a.sum(), a.sum(0), a.prod(), a.cumsum(0), a.float().mean()),
        "neg": lambda a: -a, "not": lambda a: ~a, "scalar": lambda a: (a // 2, a % 3, a / 2, a * 2.5, a + 0.5, 7 // (a.abs() + 1), 7 - a, a ** 2, 2 ** a.abs()), "compare": lambda a: (a > 1.5, a == 2, a != 2.0, a >= -1),
        "clamp": lambda a: (a.clamp(-1, 2), a.clamp(min=0)), "max": lambda a: (a.max(), *a.max(1), a.argmax(1), a.amin(0), *a.sort(1), *a.topk(2)), "where": lambda a: torch.where(a > 0, a, 0), "sign": lambda a: (a.sign(), a.abs()),
        "minmax": lambda a: (*a.min(0), *torch.aminmax(a)), "div_modes": lambda a: (torch.div(a, 2, rounding_mode="floor"), torch.div(a, 2, rounding_mode="trunc"), torch.div(a, -2, rounding_mode="floor")), "bool": lambda a: (a.bool(), a.bool() & (a > 1), a.bool().sum()),
        "round": lambda a: (a.floor(), a.ceil(), a.round(), a.trunc()), "matmul": lambda a: a @ a.t(), "index": lambda a: a[a[0].long().abs() % 4], "any": lambda a: (a.any(), a.all(1)),
    }, torch.tensor([[100, -100, 3, 7], [-128, 127, 0, -1]], dtype=torch.int8))  # fmt: skip
    each("long", {
        "big": lambda a: (a + 1, a * 3, a - 1, a // 3, a % 7, a == a + 1, a > a - 1, a & 255, a.max(), a.sum(), a.clamp(max=2**40), torch.where(a > 2**53, a, -a), a.cumsum(0)), "compare": lambda a: (a == 2**53 + 1, a < 2**53 + 1), "sort": lambda a: (*a.sort(), *a.max(0), a.argmax()),
        "unique_index": lambda a: (a.abs() % 3, torch.isin(a, a[:2])),
    }, torch.tensor([2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**62]))  # fmt: skip
    each("bools", {
        "arith": lambda a, b: (a + b, a * b, a | b, a & b, a ^ b, ~a, a == b, a < b, a.sum(), a.any(), a.all(), a.float().mean(), a.int() - b.int(), a.cumsum(0)), "mix": lambda a, b: (a * 2, a + 1.5, torch.where(a, 1, 0), torch.where(a, 1.0, 2.0), a.to(torch.uint8)),
        "maxmin": lambda a, b: (torch.maximum(a, b), a.max(), a.long().argmax(0), a.amax(0)), "cat": lambda a, b: (torch.cat([a, b]), torch.stack([a, b]), a.logical_and(b), torch.logical_xor(a, b)), "sort": lambda a, b: a.sort(stable=True),
    }, torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False]))  # fmt: skip
    half = {
        "f16": (torch.float16,), "bf16": (torch.bfloat16,), "f64": (torch.float64,),
    }  # fmt: skip
    for name, (kind,) in half.items():
        case(f"type.{name}.linear", n.Linear(4, 3).to(kind), r(2, 4).to(kind))
        case(f"type.{name}.arith", lambda a: (a * 2 + 1, a.exp(), a.sum(), a.float(), a > 0), r(2, 4).to(kind))
        case(f"type.{name}.norm", n.LayerNorm(4).to(kind), r(2, 4).to(kind))
        case(f"type.{name}.cast", lambda a, k=kind: (a.to(k), a.to(k).float()), r(2, 4))
        case(f"type.{name}.index", lambda a: (a[:, 1], a.argmax(1), torch.cat([a, a]), a.max(1).values, a.sort(1).values), r(2, 4).to(kind))
    each("special_values", {
        "nan": lambda a: (torch.maximum(a, torch.zeros(5)), torch.fmax(a, torch.zeros(5)), torch.minimum(a, torch.zeros(5)), torch.fmin(a, torch.zeros(5)), a.clamp(-1, 1), a.relu(), a.sign(), a == a, a > 0, a <= 0, a.isnan(), a.nan_to_num(1.0, 2.0, 3.0)),
        "max": lambda a: (a.max(), a.amax(), a.argmax(), *a.max(0), *a.min(0), a.amin()), "sort": lambda a: a.sort(), "topk": lambda a: a.topk(3), "sum": lambda a: (a[:3].sum(), a.nansum(), a.nanmean(), a.isfinite().all()), "abs": lambda a: (a.abs(), -a, a.floor(), a.sqrt(), a.log(), a.exp()),
        "cummax": lambda a: (*torch.cummax(a, 0), *torch.cummin(a, 0)), "softmax": lambda a: a[[0, 1, 3]].softmax(0), "where": lambda a: torch.where(a > 0, a, 0.0), "logsumexp": lambda a: (a[[0, 1, 3]].logsumexp(0), a[3:4].logsumexp(0)), "median": lambda a: (a.median(), a.nanmedian()),
    }, torch.tensor([1.5, -2.5, float("nan"), float("-inf"), float("inf")]))  # fmt: skip
    each("rounding", {"half": lambda a: (a.round(), a.floor(), a.int(), a.long(), a.trunc(), a.round(decimals=1), a % 1, a // 1, torch.remainder(a, -0.7), torch.fmod(a, -0.7))}, torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, -3.7]))
    each("act", {
        "elu": lambda a: F.elu(a, 0.5), "selu": F.selu, "celu": lambda a: F.celu(a, 0.5), "glu": lambda a: F.glu(a, 0), "gelu": F.gelu, "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"), "hardshrink": F.hardshrink, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
        "logsigmoid": F.logsigmoid, "softplus": lambda a: F.softplus(a, 2, 3), "softsign": F.softsign, "softmin": lambda a: F.softmin(a, 1), "rrelu": F.rrelu, "prelu": lambda a: F.prelu(a, torch.rand(4)), "gumbel": lambda a: F.log_softmax(a, 0), "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish,
        "threshold": lambda a: F.threshold(a, 0.1, 20), "relu6": F.relu6, "mish": F.mish, "silu": F.silu, "normalize": lambda a: F.normalize(a, 1.0, 0), "local_response": lambda a: F.local_response_norm(a[None, :, None], 3), "hardtanh": lambda a: F.hardtanh(a, -0.2, 0.3), "leaky": lambda a: F.leaky_relu(a, 2.0),
    }, r(4, 4) * 2)  # fmt: skip


def shapes(each, case, ints):
    each("shape", {
        "roll": lambda x: (x.roll(1), x.roll((1, 2), (0, 1)), x.roll(-1, 1)), "flip": lambda x: (x.flip(0), x.flip((0, 2)), x.fliplr(), x.flipud(), torch.rot90(x, 1, (0, 1)), torch.rot90(x, 3, (1, 2)), torch.rot90(x, 2)), "diag": lambda x: (torch.diag(x[0, 0]), torch.diag(x[0], 1), torch.diag_embed(x), x.diagonal(0, 0, 1), torch.diag(x[0, 0], 1)),
        "diag_embed": lambda x: (torch.diag_embed(x, 1), torch.diag_embed(x, -1), torch.diag_embed(x, 0, 0, 2)), "tril": lambda x: (x.tril(), x.triu(-1), torch.tril(x, 2)), "trace": lambda x: x[0].trace(), "unfold": lambda x: (x.unfold(1, 2, 1), x.unfold(2, 3, 2)), "narrow": lambda x: (x.narrow(-1, 1, 2), x.narrow(0, -1, 1)),
        "repeat": lambda x: (x.repeat(2, 1, 1), x.repeat(2, 1, 1, 1), x.tile((2,)), x.repeat_interleave(2, 0), x.repeat_interleave(3)), "cat": lambda x: (torch.cat([x, x], -1), torch.stack([x, x], -1), torch.hstack([x, x]), torch.dstack([x, x]), torch.vstack([x, x]), torch.column_stack([x[0], x[0]]), torch.cat([x, torch.zeros(0)])),
        "split": lambda x: (*x.split((1, 2), 1), *x.tensor_split((1, 3), 2), *x.hsplit(3), *x.dsplit(2), *x.chunk(3, 2), *x.unbind(-1)), "pad": lambda x: (F.pad(x, (1, 2, 0, 1), value=-2), F.pad(x, (1, 1), mode="reflect"), F.pad(x, (2, 2), mode="circular"), F.pad(x, (1, 1), mode="replicate"), F.pad(x, (-1, 1, 1, -1))),
        "pad3": lambda x: (F.pad(x[None, None], (1, 1, 1, 1, 1, 0), mode="reflect"), F.pad(x[None, None], (1, 2, 1, 2, 1, 2), mode="replicate"), F.pad(x[None, None], (1, 2, 1, 2, 1, 1), mode="circular")), "pad_bool": lambda x: (F.pad(x > 0, (1, 1), value=True), F.pad((x * 9).long(), (1, 1), value=-7)),
        "made": lambda x: (torch.zeros_like(x), torch.full((2, 3), 2.5), torch.arange(3, 9, 2), torch.arange(5, 0, -2), torch.arange(0.5, 2.0, 0.3), torch.linspace(-1, 1, 5), torch.logspace(0, 2, 4), torch.eye(3, 4), torch.tril_indices(3, 4), torch.triu_indices(3, 4, 1), torch.empty(0), x.new_tensor([1.0, 2.0])),
        "windows": lambda x: (torch.hann_window(8), torch.hamming_window(7, False), torch.blackman_window(8), torch.bartlett_window(8), torch.kaiser_window(8)), "meshgrid": lambda x: (*torch.meshgrid(x[0, 0], x[0, :, 0], indexing="xy"), *torch.meshgrid(x[0, 0], x[0, 0], x[0, 0], indexing="ij")),
        "cartesian": lambda x: (torch.cartesian_prod(x[0, 0], x[0, :, 0]), torch.combinations(x[0, 0]), torch.block_diag(x[0], x[1]), torch.vander(x[0, 0])), "one_hot": lambda x: F.one_hot((x[0, 0].abs() * 2).long().clamp(0, 4), 5), "shuffle": lambda x: (F.pixel_shuffle(x.reshape(6, 4, 1, 1), 2), F.pixel_unshuffle(x.reshape(1, 1, 4, 6), 2), F.channel_shuffle(x.reshape(1, 6, 2, 2), 3)),
        "movedim": lambda x: (x.movedim((0, 1), (2, 0)), x.swapdims(0, 2), x.permute(-1, 0, 1), x.mT, x.adjoint(), torch.ravel(x)), "strided": lambda x: (x.as_strided((2, 3), (3, 1), 2), torch.as_strided(x, (2, 2, 2), (1, 4, 2))), "expand": lambda x: (x[:1].expand(3, -1, -1), x[None].expand(2, 2, 3, 4), torch.broadcast_to(x, (2, 2, 3, 4)), *torch.broadcast_tensors(x, x[:1])),
        "index": lambda x: (x[..., 1], x[None, :, 0], x[:, [0, 2]], x[[0, 1], [1, 2]], x[:, :, [3, 0]][..., None], x[[0, 1], :, [1, 2]], x[torch.tensor([[0, 1], [1, 0]])], x[-1, -2:], x[:, ::2, 1::2]), "slice_big": lambda x: (x[5:], x[:, 1:100], x[:, -100:2], x[2:1]), "squeeze": lambda x: (x[:1].squeeze(), x[:1].squeeze(0), x.squeeze(1), x[:1, :1].squeeze((0, 1)), x.unsqueeze(-1)),
        "view": lambda x: (x.view(-1, 2), x.reshape(4, -1), x.flatten(1), x.unflatten(2, (2, 2)), x.view(torch.int32), x.ravel(), x.reshape(x.shape)), "cumulative": lambda x: (x.cumsum(1), x.cumprod(2), *x.cummax(1), *x.cummin(2), x.logcumsumexp(1), torch.cumulative_trapezoid(x, dim=1), torch.trapezoid(x, dim=2), x.diff(), x.diff(n=2, dim=1)),
        "take": lambda x: (torch.take(x, torch.tensor([0, 5, -1])), torch.take_along_dim(x, x.argsort(1), 1), torch.index_select(x, 2, torch.tensor([3, 0])), torch.gather(x, 2, torch.tensor([[[0, 1], [2, 2], [3, 0]]])), x.select(0, -1)), "scatter_made": lambda x: (torch.slice_scatter(x, x[:, :1] * 0, 1, 1, 2), torch.diagonal_scatter(x[0], torch.ones(3)), torch.select_scatter(x, x[0] * 2, 0, 1), torch.masked_scatter(x, x > 0, x.flip(0))),
        "atleast": lambda x: (torch.atleast_2d(x[0, 0]), torch.atleast_3d(x[0]), *torch.atleast_1d(x[0, 0, 0], x[0])), "stack_types": lambda x: (torch.cat([x, x.long()]), torch.stack([x[0, 0], torch.arange(4)])), "empty": lambda x: (x[:0], torch.cat([x[:0], x]), x[:0].sum(), x[:0].sum(0), torch.zeros(0, 3) @ torch.zeros(3, 2), x[:, :0].sum(1)),
        "chunks": lambda x: (*torch.chunk(x, 2), *torch.split(x, 2, 2), *torch.unbind(x)), "histc": lambda x: (torch.histc(x, 4, -1, 1), torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])), torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]), right=True), torch.searchsorted(torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]]), x[:, 0])), "bucket_edges": lambda x: torch.bucketize(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3])),
        "zero_dim": lambda x: (x[0, 0, 0].sum(), x[0, 0, 0].softmax(0), x.mean().unsqueeze(0), torch.tensor(3.0) * x, x.sum().expand(3), torch.stack([x.sum(), x.mean()])),
    }, r(2, 3, 4))  # fmt: skip


def folds(each, case, ints):
    each("fold", {
        "sum": lambda x: (x.sum(), x.sum((0, 2), keepdim=True), x.mean(1), x.prod(2), x.nansum(), x.sum(dtype=torch.float64)), "extremes": lambda x: (*x.max(1), *x.min(0, keepdim=True), x.amax((0, 1)), x.amin(), x.argmax(1, keepdim=True), x.argmin(), *torch.aminmax(x, dim=1)), "median": lambda x: (x.median(), *x.median(1), *x.kthvalue(2, 1), *x.mode(1), x.nanmedian()),
        "quantile": lambda x: (x.quantile(0.3, 1), x.quantile(torch.tensor([0.25, 0.5]), 1), torch.nanquantile(x, 0.5, 2)), "var": lambda x: (x.var(), x.std(1), x.var((0, 2), correction=0), *torch.var_mean(x, 1, keepdim=True), *torch.std_mean(x), x.var(0, unbiased=False)), "norm": lambda x: (x.norm(), x.norm(1, 1), x.norm(3, (0, 1)), torch.linalg.vector_norm(x, float("inf")), torch.linalg.vector_norm(x, 0, 1), torch.linalg.norm(x, dim=1), torch.linalg.matrix_norm(x), torch.linalg.matrix_norm(x, 1), torch.linalg.matrix_norm(x, float("inf"))),
        "logsumexp": lambda x: (x.logsumexp(1), x.logsumexp((0, 2), True), x.log_softmax(0), x.softmax(2, dtype=torch.float64), F.softmin(x, 0)), "any": lambda x: ((x > 0).any(), (x > 0).all(1), (x > 0).any((0, 2)), (x > 9).any(0, True), x.any(), x.all(1)), "count": lambda x: (torch.count_nonzero(x > 0, 1), (x > 0).sum(1), (x > 0).float().mean(), (x > 0).sum(dtype=torch.int32)),
        "sort": lambda x: (*x.sort(1), *x.sort(0, descending=True, stable=True), x.argsort(2), *x.topk(2, 1), *x.topk(1, 0, False), *torch.msort(x).unbind(0)), "cov": lambda x: (torch.cov(x[0]), torch.corrcoef(x[0])), "renorm": lambda x: x.renorm(2, 0, 1.0), "cum": lambda x: (x.cumsum(-1), x.cumprod(0), x.logcumsumexp(1), x.int().cumsum(1)), "cross": lambda x: (torch.cross(x, x.flip(0), dim=1), torch.linalg.cross(x[:, :, :3], x[:, :, 1:])),
        "dot": lambda x: (torch.dot(x[0, 0], x[0, 1]), torch.vdot(x[0, 0], x[0, 1]), torch.inner(x[0], x[1]), torch.outer(x[0, 0], x[0, 1]), torch.linalg.vecdot(x, x)), "cdist": lambda x: (torch.cdist(x, x + 1), torch.cdist(x, x + 1, 1.0), torch.cdist(x, x + 1, float("inf")), F.pdist(x[0]), F.pairwise_distance(x[0], x[1]), F.pairwise_distance(x[0], x[1], 1.0), torch.dist(x[0], x[1], 1), F.cosine_similarity(x, x.flip(0), 2)),
    }, r(2, 3, 4))  # fmt: skip
    each("product", {
        "einsum": lambda a, b: (torch.einsum("bij,bjk->bik", a, b), torch.einsum("bij,bjk->ik", a, b), torch.einsum("bij->jib", a), torch.einsum("bii->bi", a[:, :3, :3]), torch.einsum("bij->", a), torch.einsum("bij,cjk->bcik", a, b), torch.einsum("i,j->ij", a[0, 0], b[0, 0]), torch.einsum("...ij,...jk", a, b), torch.einsum("ii", a[0, :3, :3])),
        "matmul": lambda a, b: (a @ b, a[0] @ b, a @ b[0], a[0, 0] @ b, a @ b[0, :, 0], a[0, 0] @ b[0, :, 0], torch.bmm(a, b), torch.mm(a[0], b[0]), torch.mv(a[0], b[0, :, 0]), torch.linalg.multi_dot([a[0], b[0], a[0]])), "add": lambda a, b: (torch.addmm(torch.ones(3), a[0], b[0]), torch.addmv(torch.ones(3), a[0], b[0, :, 0], alpha=2), torch.addbmm(torch.ones(3, 3), a, b), torch.baddbmm(torch.ones(3), a, b, beta=0.5), torch.addr(torch.ones(3, 4), a[0, :, 0], b[0, :, 0])),
        "kron": lambda a, b: (torch.kron(a[0], b[0]), torch.tensordot(a, b, ([2], [1])), torch.tensordot(a, b, 1), torch.matrix_power(a[0, :3, :3], 3), torch.linalg.matrix_power(a[0, :3, :3], 0)), "bilinear": lambda a, b: F.bilinear(a[0], b[0, :3], torch.ones(5, 4, 3), torch.ones(5)), "batched": lambda a, b: (a[:, None] @ b[None], torch.matmul(a.mT, b.mT)),
    }, r(2, 3, 4), r(2, 4, 3))  # fmt: skip
    square = r(2, 4, 4)
    good = square @ square.mT + 3 * torch.eye(4)
    each("linalg", {
        "inv": torch.linalg.inv, "inverse": torch.inverse, "det": torch.linalg.det, "slogdet": lambda a: tuple(torch.linalg.slogdet(a)), "logdet": torch.logdet, "cholesky": torch.linalg.cholesky, "cholesky_upper": lambda a: torch.linalg.cholesky(a, upper=True), "solve": lambda a: torch.linalg.solve(a, a[:, :, :2] * 2), "solve_vector": lambda a: torch.linalg.solve(a, a[:, :, 0]),
        "triangular": lambda a: torch.linalg.solve_triangular(a.tril(), a[:, :, :2], upper=False), "triangular_upper": lambda a: torch.linalg.solve_triangular(a.triu(), a[:, :, :2], upper=True), "cholesky_solve": lambda a: torch.cholesky_solve(a[:, :, :2], torch.linalg.cholesky(a)), "cholesky_inverse": lambda a: torch.cholesky_inverse(torch.linalg.cholesky(a)), "qr": lambda a: torch.linalg.qr(a)[0].abs(), "lstsq": lambda a: torch.linalg.lstsq(a, a[:, :, :2] + 1).solution,
        "pinv": torch.linalg.pinv, "eigvalsh": torch.linalg.eigvalsh, "svdvals": torch.linalg.svdvals, "matrix_exp": torch.linalg.matrix_exp, "lu": lambda a: torch.linalg.lu_factor(a)[0], "norm_nuclear": lambda a: torch.linalg.matrix_norm(a, "nuc"), "matrix_rank": torch.linalg.matrix_rank, "tensorinv": lambda a: torch.linalg.tensorinv(a[0].reshape(4, 2, 2), 1),
    }, good)  # fmt: skip
    each("fft", {
        "rfft": lambda x: torch.view_as_real(torch.fft.rfft(x)), "irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x), 8), "fft": lambda x: torch.view_as_real(torch.fft.fft(x)), "ifft": lambda x: torch.view_as_real(torch.fft.ifft(torch.fft.fft(x))), "fft_dim": lambda x: torch.view_as_real(torch.fft.fft(x, dim=0)), "rfft_ortho": lambda x: torch.view_as_real(torch.fft.rfft(x, norm="ortho")), "irfft_ortho": lambda x: torch.fft.irfft(torch.fft.rfft(x, norm="ortho"), norm="ortho"), "fft_pad": lambda x: torch.view_as_real(torch.fft.rfft(x, 16)), "fft_cut": lambda x: torch.view_as_real(torch.fft.rfft(x, 5)),
        "fft2": lambda x: torch.view_as_real(torch.fft.fft2(x)), "ifft2": lambda x: torch.fft.ifft2(torch.fft.fft2(x) * 2).real, "rfft2": lambda x: torch.view_as_real(torch.fft.rfft2(x)), "irfft2": lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), "rfft2_ortho": lambda x: torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho"), norm="ortho"), "fftn": lambda x: torch.fft.fftn(x).abs(), "fftshift": lambda x: (torch.fft.fftshift(x), torch.fft.ifftshift(x), torch.fft.fftfreq(8), torch.fft.rfftfreq(8)), "odd": lambda x: torch.fft.irfft(torch.fft.rfft(x[:, :7]), 7), "rfft_dim1": lambda x: torch.fft.rfft(x, dim=0).abs(), "hfft": lambda x: torch.fft.hfft(torch.fft.rfft(x), 8), "mixer": lambda x: torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real,
        "filter": lambda x: torch.fft.irfft2(torch.fft.rfft2(x[None, None], norm="ortho") * torch.complex(torch.ones(6, 5), torch.zeros(6, 5)), norm="ortho"),
    }, r(6, 8))  # fmt: skip
    each("stft", {
        "plain": lambda x: torch.view_as_real(torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True)), "short": lambda x: torch.stft(x, 16, 4, 12, torch.hann_window(12), return_complex=True).abs(), "no_center": lambda x: torch.stft(x, 16, 8, center=False, return_complex=True).abs(), "norm": lambda x: torch.stft(x, 16, 4, window=torch.ones(16), normalized=True, return_complex=True).abs(), "power": lambda x: torch.stft(x, 16, 4, window=torch.hann_window(16), pad_mode="constant", return_complex=True).abs() ** 2,
        "istft": lambda x: torch.istft(torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True), 16, 4, window=torch.hann_window(16)), "two_sided": lambda x: torch.stft(x, 16, 4, window=torch.ones(16), onesided=False, return_complex=True).abs(),
    }, r(2, 64))  # fmt: skip
    each("complex", {
        "arith": lambda a: torch.view_as_real(torch.view_as_complex(a) * 2 + torch.view_as_complex(a) - 1), "div": lambda a: torch.view_as_real(torch.view_as_complex(a) / torch.view_as_complex(a.flip(0))), "exp": lambda a: torch.view_as_real(torch.exp(torch.view_as_complex(a))), "abs": lambda a: (torch.view_as_complex(a).abs(), torch.view_as_complex(a).angle(), torch.view_as_complex(a).real, torch.view_as_complex(a).imag), "conj": lambda a: torch.view_as_real(torch.view_as_complex(a).conj() * 1), "matmul": lambda a: torch.view_as_real(torch.view_as_complex(a) @ torch.view_as_complex(a).mT), "mulreal": lambda a: torch.view_as_real(torch.view_as_complex(a) * a[..., 0]),
        "sum": lambda a: torch.view_as_real(torch.view_as_complex(a).sum(1)), "mean": lambda a: torch.view_as_real(torch.view_as_complex(a).mean()), "cat": lambda a: torch.view_as_real(torch.cat([torch.view_as_complex(a)] * 2)), "index": lambda a: torch.view_as_real(torch.view_as_complex(a)[:, 1:]), "stack": lambda a: torch.view_as_real(torch.stack([torch.view_as_complex(a)] * 2)), "polar": lambda a: torch.view_as_real(torch.polar(a[..., 0].abs(), a[..., 1])), "rotary": lambda a: torch.view_as_real(torch.view_as_complex(a) * torch.polar(torch.ones(4), torch.arange(4.0))[None]).flatten(1), "out": lambda a: torch.view_as_complex(a), "neg": lambda a: torch.view_as_real(-torch.view_as_complex(a)), "pow": lambda a: torch.view_as_real(torch.view_as_complex(a) ** 2), "where": lambda a: torch.view_as_real(torch.where(a[..., 0] > 0, torch.view_as_complex(a), 0)), "to": lambda a: torch.view_as_real(a[..., 0].to(torch.complex64)), "einsum": lambda a: torch.view_as_real(torch.einsum("ij,kj->ik", torch.view_as_complex(a), torch.view_as_complex(a))),
    }, r(3, 4, 2))  # fmt: skip
    each("index", {
        "scatter": lambda x, i: (x.scatter(1, i, 3.0), x.scatter(1, i, x[:, :2]), x.scatter_add(1, i, x[:, :2]), x.scatter_reduce(1, i, x[:, :2], "prod"), x.scatter_reduce(1, i, x[:, :2], "amax"), x.scatter_reduce(1, i, x[:, :2], "amin")), "reduce_mean": lambda x, i: x.scatter_reduce(1, i, x[:, :2], "mean"), "reduce_new": lambda x, i: (x.scatter_reduce(1, i, x[:, :2], "sum", include_self=False), x.scatter_reduce(1, i, x[:, :2], "amax", include_self=False), x.scatter_reduce(1, i, x[:, :2], "prod", include_self=False)), "reduce_mean_new": lambda x, i: x.scatter_reduce(1, i, x[:, :2], "mean", include_self=False), "scatter_multiply": lambda x, i: torch.scatter(x, 1, i, 2.0, reduce="multiply"), "put": lambda x, i: (x.index_put((i[:, 0],), torch.tensor(5.0)), x.index_put((i[:, 0], i[:, 1]), torch.tensor(5.0), accumulate=True), x.index_put((i[:, 0],), x[:3] * 2)),
        "index_add": lambda x, i: (x.index_add(0, i[:, 0], x, alpha=2), x.index_copy(0, torch.tensor([1]), x[:1]), x.index_fill(0, i[0], -1), x.index_reduce(0, i[:2, 0], x[:2], "prod"), x.index_reduce(0, i[:2, 0], x[:2], "mean")), "gather": lambda x, i: (x.gather(1, i), x.gather(0, i), torch.take_along_dim(x, i, 1)), "embedding": lambda x, i: (F.embedding(i, x), F.embedding(i, x, padding_idx=0)), "bag": lambda x, i: (F.embedding_bag(i, x), F.embedding_bag(i, x, mode="sum"), F.embedding_bag(i, x, mode="max")), "bag_offsets": lambda x, i: F.embedding_bag(i.flatten(), x, torch.tensor([0, 2, 5])), "bag_weights": lambda x, i: F.embedding_bag(i, x, mode="sum", per_sample_weights=torch.rand(3, 2)), "index_rows": lambda x, i: (x[i], x[i[:, 0], i[:, 1]], x[:, i[0]]), "max_norm": lambda x, i: F.embedding(i, x * 1, max_norm=None),
        "put_": lambda x, i: torch.ops.aten.put(x, torch.tensor([0, 5]), torch.tensor([1.0, 2.0])), "isin": lambda x, i: (torch.isin(i, torch.tensor([0, 2])), torch.isin(x, x[:1])), "batch_gather": lambda x, i: x[torch.arange(3)[:, None], i],
    }, r(3, 4), torch.tensor([[0, 1], [2, 0], [1, 1]]))  # fmt: skip
    each("loss", {
        "cross": lambda x, y, t: (F.cross_entropy(x, t), F.cross_entropy(x, t, reduction="none"), F.cross_entropy(x, t, reduction="sum", label_smoothing=0.1), F.cross_entropy(x, x.softmax(1)), F.cross_entropy(x, t, weight=torch.rand(4)), F.cross_entropy(x, t, ignore_index=1)), "nll": lambda x, y, t: (F.nll_loss(x.log_softmax(1), t), F.nll_loss(x, t, reduction="none")), "mse": lambda x, y, t: (F.mse_loss(x, y), F.mse_loss(x, y, reduction="sum"), F.l1_loss(x, y), F.smooth_l1_loss(x, y), F.smooth_l1_loss(x, y, beta=0.5), F.huber_loss(x, y, delta=0.5)), "bce": lambda x, y, t: (F.binary_cross_entropy(x.sigmoid(), y.sigmoid()), F.binary_cross_entropy_with_logits(x, y.sigmoid()), F.binary_cross_entropy_with_logits(x, y.sigmoid(), pos_weight=torch.rand(4), weight=torch.rand(4))),
        "kl": lambda x, y, t: (F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"), F.kl_div(x.log_softmax(1), y.log_softmax(1), log_target=True)), "margin": lambda x, y, t: (F.margin_ranking_loss(x, y, torch.ones(3, 4)), F.hinge_embedding_loss(x, torch.ones(3, 4)), F.triplet_margin_loss(x, y, x.flip(0)), F.soft_margin_loss(x, torch.ones(3, 4)), F.cosine_embedding_loss(x, y, torch.ones(3))), "multi": lambda x, y, t: (F.multi_margin_loss(x, t), F.multilabel_soft_margin_loss(x, y.sigmoid().round())), "gaussian": lambda x, y, t: (F.gaussian_nll_loss(x, y, y.abs()), F.poisson_nll_loss(x, y.abs())), "ctc": lambda x, y, t: F.ctc_loss(r(6, 1, 4).log_softmax(2), torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2])), "cross2d": lambda x, y, t: F.cross_entropy(x[None, :, :, None].expand(1, 3, 4, 2), torch.ones(1, 4, 2).long()),
    }, r(3, 4), r(3, 4), torch.tensor([0, 3, 1]))  # fmt: skip


def networks(each, case, ints):
    m, line, volume = r(2, 6, 9, 11), r(2, 4, 13), r(1, 2, 4, 5, 6)
    each("pool", {
        "max_indices": n.MaxPool2d(2, return_indices=True), "max_indices_pad": n.MaxPool2d(3, 2, 1, return_indices=True), "max_dilated": n.MaxPool2d(3, 1, 0, 2, return_indices=True), "adaptive_max_indices": n.AdaptiveMaxPool2d((3, 4), return_indices=True), "unpool": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), "unpool_size": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape), "lp": n.LPPool2d(2, 3, 2), "fractional": lambda x: F.adaptive_avg_pool2d(x, (2, 3)), "avg_divisor": n.AvgPool2d(3, 2, 1, divisor_override=5), "avg_ceil": n.AvgPool2d(3, 2, 1, ceil_mode=True), "max_ceil": n.MaxPool2d(3, 2, 1, ceil_mode=True), "adaptive": n.AdaptiveAvgPool2d((None, 3)), "unbatched": lambda x: (F.max_pool2d(x[0], 2), F.avg_pool2d(x[0], 2), F.adaptive_avg_pool2d(x[0], 2)),
        "max_negative": lambda x: F.max_pool2d(x - 9, 3, 2, 1), "max_int": lambda x: F.max_pool2d((x * 9).long().float(), 2), "max_indices_ceil": n.MaxPool2d(2, ceil_mode=True, return_indices=True), "adaptive_up": n.AdaptiveAvgPool2d((12, 15)),
    }, m)  # fmt: skip
    each("pool1", {"max": n.MaxPool1d(3, 2, 1), "max_indices": n.MaxPool1d(3, 2, 1, return_indices=True), "avg": n.AvgPool1d(3, 2, 1), "adaptive": n.AdaptiveMaxPool1d(5), "adaptive_indices": n.AdaptiveMaxPool1d(5, return_indices=True), "lp": n.LPPool1d(2, 3), "unpool": lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2)}, line)
    each("pool3", {"max": n.MaxPool3d(2), "max_indices": n.MaxPool3d(2, return_indices=True), "avg": n.AvgPool3d(2, 1, 1), "adaptive": n.AdaptiveAvgPool3d((2, 3, 2)), "adaptive_max": n.AdaptiveMaxPool3d(2), "unpool": lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2)}, volume)
    each("conv", {
        "transpose": n.ConvTranspose2d(6, 4, 3, 2, 1, 1), "transpose_dilated": n.ConvTranspose2d(6, 4, 3, 2, 1, 0, 2, dilation=2), "transpose_big": n.ConvTranspose2d(6, 4, 2, 4), "reflect": n.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), "circular": n.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), "replicate": n.Conv2d(6, 4, 3, padding=1, padding_mode="replicate"), "same": n.Conv2d(6, 4, 4, padding="same"), "valid": n.Conv2d(6, 4, 4, padding="valid"), "depth_mult": n.Conv2d(6, 12, 3, groups=6), "transpose_depth": n.ConvTranspose2d(6, 12, 3, 2, groups=6), "unbatched": lambda x: F.conv2d(x[0], torch.ones(2, 6, 3, 3)), "computed": lambda x: F.conv2d(x, x[:1, :, :3, :3]), "computed_transpose": lambda x: F.conv_transpose2d(x, x[0, :, None, :2, :2]), "stride_big": n.Conv2d(6, 4, 1, 3), "output_size": lambda x: F.conv_transpose2d(x, torch.ones(6, 2, 3, 3), stride=2, output_padding=1),
        "weight_norm": torch.nn.utils.parametrizations.weight_norm(n.Conv2d(6, 4, 3)), "spectral": torch.nn.utils.parametrizations.spectral_norm(n.Conv2d(6, 4, 3)).eval(), "tbc": lambda x: torch.conv_tbc(x[0], torch.ones(3, 11, 2), torch.zeros(2)), "batchnorm": n.Sequential(n.Conv2d(6, 4, 3), n.BatchNorm2d(4)), "instance": n.InstanceNorm2d(6, affine=True, track_running_stats=True), "group": n.GroupNorm(2, 6), "batch_train": n.BatchNorm2d(6, track_running_stats=False), "lrn": n.LocalResponseNorm(3), "layernorm_map": n.LayerNorm((6, 9, 11)), "syncbn": n.SyncBatchNorm(6), "fold": lambda x: F.fold(F.unfold(x, (3, 2), 1, 1, 2), (9, 11), (3, 2), 1, 1, 2), "unfold": n.Unfold((2, 3), 2, 1, (1, 2)), "dropout2d": n.Dropout2d(), "alpha_dropout": n.AlphaDropout(), "featureless": n.FeatureAlphaDropout(),
        "shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2), "zeropad": n.ZeroPad2d((1, 2, 3, 4)), "constpad": n.ConstantPad2d(1, 3.5), "reflectpad": n.ReflectionPad2d((1, 2, 3, 1)), "replicatepad": n.ReplicationPad2d(2), "circularpad": n.CircularPad2d((1, 2, 3, 4)),
    }, m)  # fmt: skip
    each("conv1", {"transpose": n.ConvTranspose1d(4, 3, 5, 3, 2, 1), "transpose_groups": n.ConvTranspose1d(4, 6, 4, 2, 1, groups=2, dilation=2), "causal": lambda x: F.conv1d(F.pad(x, (2, 0)), torch.ones(4, 1, 3), groups=4), "plain": n.Conv1d(4, 3, 3, 2, 1, 2), "batchnorm": n.BatchNorm1d(4), "unbatched": lambda x: F.conv1d(x[0], torch.ones(2, 4, 3)), "reflect": n.ReflectionPad1d(3), "same": n.Conv1d(4, 4, 4, padding="same")}, line)
    each("conv3", {"transpose": n.ConvTranspose3d(2, 3, 3, 2, 1, 1), "transpose_plain": n.ConvTranspose3d(2, 3, (2, 3, 4)), "transpose_groups": n.ConvTranspose3d(2, 4, 3, (1, 2, 2), 1, groups=2), "dilated": n.Conv3d(2, 3, 2, dilation=2), "grouped": n.Conv3d(2, 4, 3, groups=2, padding=1), "causal": lambda x: F.conv3d(F.pad(x, (1, 1, 1, 1, 2, 0)), torch.ones(2, 2, 3, 3, 3)), "norm": n.InstanceNorm3d(2), "computed": lambda x: F.conv3d(x, x[:, :, :2, :2, :2])}, volume)
    up = {}
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        for align in (False, True) if mode in ("bilinear", "bicubic") else (None,):
            up[f"{mode}.{align}.up"] = n.Upsample(scale_factor=(2.5, 1.7), mode=mode, align_corners=align) if mode != "area" else (lambda x: F.interpolate(x, (4, 5), mode="area"))
            up[f"{mode}.{align}.down"] = lambda x, mode=mode, align=align: F.interpolate(x, (5, 4), mode=mode, align_corners=align)
            up[f"{mode}.{align}.recompute"] = lambda x, mode=mode, align=align: F.interpolate(x, scale_factor=1.7, mode=mode, align_corners=align, recompute_scale_factor=True)
    for mode in ("bilinear", "bicubic"):
        up[f"{mode}.antialias"] = lambda x, mode=mode: (F.interpolate(x, (5, 4), mode=mode, antialias=True), F.interpolate(x, (12, 17), mode=mode, antialias=True), F.interpolate(x, (5, 17), mode=mode, antialias=True, align_corners=True))
    each("resize", up, m)
    each("resize1", {"linear": lambda x: F.interpolate(x, 20, mode="linear"), "aligned": lambda x: F.interpolate(x, 20, mode="linear", align_corners=True), "nearest": lambda x: F.interpolate(x, scale_factor=1.5), "area": lambda x: F.interpolate(x, 5, mode="area")}, line)
    each("resize3", {"trilinear": lambda x: F.interpolate(x, (5, 7, 9), mode="trilinear", align_corners=True), "nearest": lambda x: F.interpolate(x, scale_factor=(1, 2, 2)), "down": lambda x: F.interpolate(x, (2, 3, 3), mode="trilinear"), "exact": lambda x: F.interpolate(x, (5, 7, 9), mode="nearest-exact")}, volume)
    grid = torch.rand(2, 4, 5, 2) * 2.6 - 1.3
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                case(f"grid.{mode}.{padding}.{align}", lambda x, g, a=(mode, padding, align): F.grid_sample(x, g, *a), m, grid)
    case("grid.3d", lambda x, g: F.grid_sample(x, g, align_corners=False), volume, torch.rand(1, 3, 4, 5, 3) * 2.6 - 1.3)
    case("grid.affine", lambda x, t: F.grid_sample(x, F.affine_grid(t, (2, 6, 4, 5), align_corners=False), align_corners=False), m, r(2, 2, 3) * 0.3)
    case("grid.affine_aligned", lambda t: F.affine_grid(t, (2, 6, 4, 5), align_corners=True), r(2, 2, 3))
    seq = r(3, 4, 5)
    recurrent = {
        "lstm_proj": n.LSTM(5, 6, proj_size=3), "lstm_proj_deep": n.LSTM(5, 6, 2, bidirectional=True, proj_size=3, batch_first=True), "lstm_deep": n.LSTM(5, 6, 3, bidirectional=True, batch_first=True, dropout=0.2), "gru_deep": n.GRU(5, 6, 2, bidirectional=True), "rnn_deep": n.RNN(5, 6, 2, bidirectional=True, nonlinearity="relu"), "lstm_nobias": n.LSTM(5, 6, bias=False),
    }  # fmt: skip
    each("rnn", recurrent, seq)

    class Started(n.Module):
        def __init__(self, layer, *shapes):
            super().__init__()
            self.layer, self.shapes = layer, shapes

        def forward(self, x, h):
            return self.layer(x, (h, h * 2) if isinstance(self.layer, n.LSTM) else h)

    class Unbatched(n.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.gru = n.LSTM(5, 6), n.GRU(5, 6)

        def forward(self, x):
            return self.lstm(x[:, 0]), self.gru(x[:, 0])

    class Packed(n.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            packed = n.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 2, 2, 1]), enforce_sorted=True)
            out, state = self.layer(packed)
            return n.utils.rnn.pad_packed_sequence(out)[0], state

    class Cells(n.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = n.LSTMCell(5, 6), n.GRUCell(5, 6), n.RNNCell(5, 6)

        def forward(self, x):
            return self.a(x[0]), self.b(x[1]), self.c(x[2])

    case("rnn.started_lstm", Started(n.LSTM(5, 6)), seq, r(1, 4, 6))
    case("rnn.started_gru", Started(n.GRU(5, 6, 2)), seq, r(2, 4, 6))
    case("rnn.unbatched", Unbatched(), seq)
    case("rnn.packed_lstm", Packed(n.LSTM(5, 6)), seq)
    case("rnn.packed_gru", Packed(n.GRU(5, 6, bidirectional=True)), seq)
    case("rnn.cells", Cells(), seq)
    each("attention", {
        "encoder": n.TransformerEncoderLayer(8, 2, 16, batch_first=True), "encoder_norm_first": n.TransformerEncoderLayer(8, 2, 16, norm_first=True, activation="gelu"), "encoder_stack": n.TransformerEncoder(n.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
    }, r(2, 5, 8))  # fmt: skip
    mha = n.MultiheadAttention(8, 2, batch_first=True)
    case("attention.multihead", lambda x, m=mha: m(x, x, x), r(2, 5, 8))
    CASE_MHA = n.MultiheadAttention(8, 2, kdim=6, vdim=7, add_bias_kv=True, add_zero_attn=True)

    class Masked(n.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = n.MultiheadAttention(8, 2, batch_first=True), CASE_MHA

        def forward(self, x, k, v, pad):
            mask = n.Transformer.generate_square_subsequent_mask(5)
            return self.a(x, x, x, key_padding_mask=pad, attn_mask=mask), self.b(x.transpose(0, 1), k, v)

    case("attention.masked", Masked(), r(2, 5, 8), r(5, 2, 6), r(5, 2, 7), torch.tensor([[False] * 5, [False] * 3 + [True] * 2]))
    case("attention.decoder", n.TransformerDecoderLayer(8, 2, 16, batch_first=True), r(2, 5, 8), r(2, 4, 8))
    case("attention.transformer", n.Transformer(8, 2, 1, 1, 16, batch_first=True), r(2, 5, 8), r(2, 4, 8))
    q = r(2, 2, 5, 4)
    each("sdpa", {
        "flat": lambda q: (F.scaled_dot_product_attention(q[0], q[1], q[0]), F.scaled_dot_product_attention(q[0], q[1], q[0], torch.ones(2, 5, 5).tril().bool()), F.scaled_dot_product_attention(q[0], q[1], q[0], is_causal=True), F.scaled_dot_product_attention(q[0, 0], q[1, 0], q[0, 1])), "flat_shared": lambda q: (F.scaled_dot_product_attention(q[0], q[1, :1], q[1, :1], enable_gqa=True), F.scaled_dot_product_attention(q[0], q[1, :1], q[1, :1])),
        "five": lambda q: (F.scaled_dot_product_attention(q[None], q[None], q[None], torch.eye(5).expand(1, 1, 2, 5, 5)), F.scaled_dot_product_attention(q[:, None], q[:, None], q[:, None], torch.arange(10.0).reshape(2, 1, 1, 1, 5)), F.scaled_dot_product_attention(q[None].expand(3, -1, -1, -1, -1), q[None].expand(3, -1, -1, -1, -1), q[None].expand(3, -1, -1, -1, -1), torch.arange(50.0).reshape(2, 1, 5, 5) / 20)),
        "plain": lambda q: F.scaled_dot_product_attention(q, q, q), "causal": lambda q: F.scaled_dot_product_attention(q[:, :, 2:], q, q, is_causal=True), "mask_float": lambda q: F.scaled_dot_product_attention(q, q, q, torch.ones(5, 5).tril().log()), "mask_bool": lambda q: F.scaled_dot_product_attention(q, q, q, torch.ones(5, 5).tril().bool()), "mask_none_row": lambda q: F.scaled_dot_product_attention(q, q, q, torch.ones(5, 5).tril(-1).bool()), "rank3": lambda q: F.scaled_dot_product_attention(q[0], q[0], q[0]), "value_width": lambda q: F.scaled_dot_product_attention(q, q, q[..., :3]), "mask_batch": lambda q: F.scaled_dot_product_attention(q, q, q, (r(2, 1, 1, 5) > -1)), "rank5": lambda q: F.scaled_dot_product_attention(q[None], q[None], q[None]), "grouped": lambda q: F.scaled_dot_product_attention(q, q[:, :1], q[:, :1], enable_gqa=True),
        "manual": lambda q: torch.baddbmm(torch.zeros(1), q[0], q[0].mT, beta=0, alpha=0.5).softmax(-1) @ q[0], "alibi": lambda q: F.scaled_dot_product_attention(q, q, q, torch.arange(5.0)[None, None, None] - torch.arange(5.0)[:, None]),
    }, q)  # fmt: skip
    each("random", {"rand": lambda x: x + torch.rand(3) * 0, "randn": lambda x: torch.randn_like(x) * 0 + x, "randint": lambda x: torch.randint(0, 3, (3,)) * 0 + x, "dropout": lambda x: F.dropout(x, 0.5, True) * 0, "bernoulli": lambda x: torch.bernoulli(x.sigmoid()) * 0, "normal": lambda x: torch.normal(x, 1.0) * 0, "multinomial": lambda x: torch.multinomial(x.softmax(0), 1) * 0, "randperm": lambda x: torch.randperm(3) * 0}, r(3))
    each("misc", {
        "outer": lambda x: (torch.outer(x.long(), x), torch.outer(x, x.int()), torch.outer(x.long(), x.long())), "all_true": lambda x: (torch.ops.aten._is_all_true(x > -9), torch.ops.aten._is_any_true(x > 9)),
        "asserts": lambda x: (torch._assert_async((x.sum() < 1e9)), x * 2)[1], "check": lambda x: x * 2, "tensor": lambda x: x + torch.tensor([1.0, 2.0, 3.0]), "as_tensor": lambda x: torch.as_tensor(x) + 1, "item": lambda x: x * x.sum().item(), "size": lambda x: torch.tensor(x.shape[0]) + x, "numel": lambda x: x * x.numel(), "len": lambda x: x * len(x), "none": lambda x: (x, None, 3, 2.5, True, "text")[:5], "dict": lambda x: {"b": x, "a": [x + 1, (x + 2,)]}, "same": lambda x: (x, x), "const": lambda x: (torch.ones(2), x), "list": lambda x: [v for v in x], "loop": lambda x: sum(v * i for i, v in enumerate(x)), "nested_norm": lambda x: F.rms_norm(x, (3,)), "layer_norm": lambda x: F.layer_norm(x, (3,), eps=1e-3), "vmap": lambda x: torch.vmap(lambda v: v * 2)(x), "grad": lambda x: torch.func.grad(lambda v: (v * v).sum())(x), "fake_quant": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127), "addcdiv": lambda x: torch.addcdiv(x, x, x + 9, value=2), "lerp": lambda x: (torch.lerp(x, x + 1, 0.3), torch.lerp(x, x + 1, x)), "clamp": lambda x: (x.clamp(0), x.clamp(max=0.5), x.clamp(torch.zeros(3), torch.ones(3)), torch.clip(x, -0.1, 0.1)), "where_scalar": lambda x: (torch.where(x > 0, 1.0, x), torch.where(x > 0, 1, 2)), "polyval": lambda x: torch.special.hermite_polynomial_h(x, 3), "nonlin": lambda x: torch.special.sinc(x), "sym_max": lambda x: x * max(x.shape[0], 2), "frexp": lambda x: torch.frexp(x), "gradient": lambda x: torch.gradient(x)[0], "masked": lambda x: x.masked_fill(x > 0, float("-inf")).softmax(0), "cosine": lambda x: F.cosine_similarity(x, x + 1, dim=0), "std": lambda x: x.std(), "view_bits": lambda x: x.view(torch.int32), "double": lambda x: (x.double() ** 2).float(), "detach": lambda x: x.detach().requires_grad_(False), "rsub": lambda x: torch.rsub(x, 1), "dtype_promote": lambda x: (x + torch.arange(3), torch.arange(3) * 0.5, torch.arange(3) / 2, torch.arange(3) + True),
        "int_div": lambda x: torch.arange(5) // torch.tensor(2), "triangular": lambda x: torch.triu(torch.full((3, 3), float("-inf")), 1) + x, "arange_float": lambda x: torch.arange(0, 3, dtype=torch.float32) + x, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "logspace": lambda x: torch.logspace(0, 1, 3) * x, "full_bool": lambda x: torch.full((3,), True) & (x > 0), "empty_fill": lambda x: torch.empty(3).fill_(2.0) + x, "bitwise": lambda x: (x.long() & 3, x.long() | 1, x.long() ^ 2, (x > 0) & (x < 1)), "nonfinite": lambda x: (x / 0).nan_to_num(),
    }, r(3))  # fmt: skip


def add(case, each, ints):
    numbers(each, case, ints)
    shapes(each, case, ints)
    folds(each, case, ints)
    networks(each, case, ints)
