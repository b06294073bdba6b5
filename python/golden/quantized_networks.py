"""Networks that PyTorch's own quantizers have made smaller: exported, run by Ondine, compared, and timed.

    quantized_networks.py export DIR [--only REGEX] [--seconds 40]
    quantized_networks.py run    DIR --ondine BIN [--only REGEX] [--repeat 5] [--threads 2]
    quantized_networks.py codes  DIR --ondine BIN --only REGEX
    quantized_networks.py exact  DIR --ondine BIN --only REGEX [--inputs 8]

`export` trains ResNet-18, MobileNetV3, BERT and a Llama for some seconds each on data that it draws, so that weights and
activations are spread as those of a network that knows something, and writes each as it is and in every way in which
pt2e (the quantizers of XNNPACK and of X86Inductor) and torchao quantize it. `run` compares results with those of
PyTorch's run of the exported program, and with `--repeat` times three in turn: the network in few bits, the one in
f32 by Ondine, and PyTorch's run of the former. `codes` finds the first integers that differ from PyTorch's, and says how far
what was rounded to them was from PyTorch's number. `exact` computes each program in f64, too, and says how far from that
Ondine, PyTorch, and operators that are exact but rounded to f32 once each are, over several inputs.
"""

import argparse
import copy
import json
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time
import warnings

import safetensors.torch
import torch
import torch.nn.functional as F
import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401, registers the operators


# Steps in which the rate of learning rises to its full value.
WARMUP = 20


def pictures(count, size, generator):
    """Pictures of stripes at one of ten angles, under a colour and noise, and which angle it is."""
    angle = torch.randint(0, 10, (count,), generator=generator)
    at = torch.linspace(-1, 1, size)
    turned = torch.stack([torch.cos(angle * 0.314), torch.sin(angle * 0.314)], 1)
    phase = torch.rand(count, generator=generator)[:, None, None] * 6
    stripes = torch.sin((turned[:, 0, None, None] * at + turned[:, 1, None, None] * at[:, None]) * 12 + phase)
    colour = torch.rand(count, 3, 1, 1, generator=generator) + 0.5
    return stripes[:, None] * colour + torch.randn(count, 3, size, size, generator=generator) * 0.4, angle


def sentences(count, length, generator):
    """Sequences in which each token follows from the one before it, mostly, of a vocabulary of 512."""
    tokens = torch.randint(0, 512, (count, length), generator=generator)
    for at in range(1, length):
        follows = (tokens[:, at - 1] * 31 + 3) % 512
        tokens[:, at] = torch.where(torch.rand(count, generator=generator) < 0.9, follows, tokens[:, at])
    return tokens


class Pictures:
    """Networks that tell which of ten pictures they see."""

    size = 224
    rate = 1e-3

    def __init__(self, build):
        self.build = build

    def model(self):
        return self.build(num_classes=10)

    def loss(self, model, generator):
        x, label = pictures(16, 48, generator)
        return F.cross_entropy(model(x), label)

    def inputs(self, generator):
        return (pictures(1, self.size, generator)[0],)


class Bert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(vocab_size=512, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048)
        self.bert, self.head = BertModel(config, add_pooling_layer=False), torch.nn.Linear(512, 512)

    def forward(self, ids):
        return self.head(self.bert(ids).last_hidden_state)


class Masked:
    """A network that finds the tokens that were covered."""

    length = 128
    rate = 3e-4

    def model(self):
        return Bert()

    def loss(self, model, generator):
        tokens = sentences(4, 48, generator)
        covered = torch.rand(tokens.shape, generator=generator) < 0.15
        # Of all tokens, so that it learns within a minute to tell those it sees.
        return F.cross_entropy(model(tokens.masked_fill(covered, 0)).flatten(0, 1), tokens.flatten())

    def inputs(self, generator):
        return (sentences(1, self.length, generator),)


class Llama(torch.nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(vocab_size=512, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4)
        self.llama = LlamaForCausalLM(config)

    def forward(self, ids):
        # Sums of places are none that XNNPACKQuantizer may round: the mask and the places are given.
        length = ids.shape[1]
        mask = torch.full((1, 1, length, length), -torch.inf).triu(1)
        return self.llama(ids, attention_mask=mask, position_ids=torch.arange(length)[None], use_cache=False).logits


class Next(Masked):
    """A network that tells the next token."""

    def __init__(self, length):
        self.length = length

    def model(self):
        return Llama()

    def loss(self, model, generator):
        tokens = sentences(4, 48, generator)
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def networks():
    import torchvision

    return {
        "resnet18": Pictures(torchvision.models.resnet18),
        "mobilenet_v3": Pictures(torchvision.models.mobilenet_v3_large),
        "bert": Masked(),
        "llama": Next(128),
        "llama_token": Next(1),
    }


def trained(task, path, seconds):
    """The network after some seconds of learning, kept in a file."""
    torch.manual_seed(0)
    model = task.model()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), task.rate)
    generator, end, steps = torch.Generator().manual_seed(1), time.monotonic() + seconds, 0
    model.train()
    while time.monotonic() < end:
        for group in optimizer.param_groups:
            group["lr"] = task.rate * min(1.0, (steps + 1) / WARMUP)
        loss = task.loss(model, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    print(f"{path.stem}: loss {float(loss):.3f} after {steps} steps", flush=True)
    torch.save(model.state_dict(), path)
    return model.eval()


def pt2e(quantizer):
    def quantize(model, inputs, calibrate):
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        program = torch.export.export(model, inputs).module()
        # A module that is called several times is one partition to X86InductorQuantizer, which it refuses.
        for node in program.graph.nodes:
            if node.op == "call_function" and (stack := node.meta.get("nn_module_stack")):
                last, (path, kind) = list(stack.items())[-1]
                node.meta["nn_module_stack"] = {**stack, last: (f"{path}@{node.name}", kind)}
        prepared = prepare_pt2e(program, quantizer())
        for again in calibrate:
            prepared(*again)
        converted = convert_pt2e(prepared)
        move_exported_model_to_eval(converted)
        return converted

    return quantize


def xnnpack(dynamic, linear=False):
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    # Asked for everything, it quantizes the sums of places in a text, too, and then looks up by real numbers.
    return XNNPACKQuantizer().set_module_type(torch.nn.Linear, config) if linear else XNNPACKQuantizer().set_global(config)


def x86(dynamic):
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as module

    return module.X86InductorQuantizer().set_global(module.get_default_x86_inductor_quantization_config(is_dynamic=dynamic))


def torchao(make):
    def quantize(model, inputs, calibrate):
        from torchao.quantization import quantize_
        from torchao.utils import unwrap_tensor_subclass

        model = copy.deepcopy(model)
        quantize_(model, make())
        return unwrap_tensor_subclass(model)

    return quantize


def ways():
    """How networks become smaller, and which of them."""
    from torchao import quantization as q
    from torchao.quantization.granularity import PerGroup

    pictures, text = r"resnet|mobilenet", r"bert|llama"
    return {
        "xnnpack": (pt2e(lambda: xnnpack(False)), pictures),
        "xnnpack_linear": (pt2e(lambda: xnnpack(False, True)), "bert|llama$"),
        "xnnpack_dynamic": (pt2e(lambda: xnnpack(True, True)), text),
        "x86": (pt2e(lambda: x86(False)), pictures + "|bert|llama$"),
        "x86_dynamic": (pt2e(lambda: x86(True)), text),
        "int8": (torchao(q.Int8WeightOnlyConfig), text),
        "da8w8": (torchao(q.Int8DynamicActivationInt8WeightConfig), text),
        "int4": (torchao(lambda: q.IntxWeightOnlyConfig(torch.int4, PerGroup(32))), text),
        "da8w4": (torchao(lambda: q.Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(32))), text),
    }


def save(stem, model, inputs):
    """Archive, inputs and PyTorch's result."""
    program = torch.export.export(model, inputs, strict=False)
    torch.export.save(program, f"{stem}.pt2")
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    result = torch.export.load(f"{stem}.pt2").module()(*inputs)
    safetensors.torch.save_file(dict(zip(names, inputs)), f"{stem}.in.safetensors")
    safetensors.torch.save_file({"output_0": result.detach().contiguous()}, f"{stem}.ref.safetensors")


def export(options):
    options.out.mkdir(parents=True, exist_ok=True)
    for name, task in networks().items():
        if not any(re.search(options.only, f"{name}.{way}") for way in ("f32", *ways())):
            continue
        kept = options.out / f"{'llama' if 'llama' in name else name}.pt"
        model = trained(task, kept, options.seconds)
        generator = torch.Generator().manual_seed(2)
        calibrate = [task.inputs(generator) for _ in range(8)]
        inputs = task.inputs(generator)
        for way, (quantize, where) in {"f32": (lambda model, *_: model, ""), **ways()}.items():
            stem = options.out / f"{name}.{way}"
            if not re.search(where, name) or not re.search(options.only, stem.name) or pathlib.Path(f"{stem}.ref.safetensors").exists():
                continue
            try:
                with torch.no_grad():
                    save(stem, quantize(model, inputs, calibrate), inputs)
                    print(f"{stem.name}: made", flush=True)
            except Exception as error:
                print(f"{stem.name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}", flush=True)


def ondine(options, stem, *more):
    command = [options.ondine, "run", f"{stem}.pt2", "--inputs", f"{stem}.in.safetensors", "--threads", str(options.threads), *more]
    return subprocess.run(command, capture_output=True, text=True)


def unlike(stem, out):
    """The largest difference, in parts of the peak, and whether the most likely are the same."""
    want = safetensors.torch.load_file(f"{stem}.ref.safetensors")["output_0"].double()
    got = safetensors.torch.load_file(out)["output_0"].double()
    same = (want.argmax(-1) == got.argmax(-1)).double().mean()
    return float((want - got).abs().max() / want.abs().max()), float(same)


def nudged(stem):
    """How far PyTorch's own result moves if the numbers of the program each change by a rounding."""
    program = torch.export.load(f"{stem}.pt2").module()
    inputs = list(safetensors.torch.load_file(f"{stem}.in.safetensors").values())
    want = safetensors.torch.load_file(f"{stem}.ref.safetensors")["output_0"].double()
    generator = torch.Generator().manual_seed(0)

    class Nudge(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            result = super().call_function(target, args, kwargs)
            multiplies = re.search(r"linear|conv|mm\b|norm|attention", str(target))
            if multiplies and torch.is_tensor(result) and result.dtype == torch.float32:
                up = torch.where(torch.rand(result.shape, generator=generator) < 0.5, torch.inf, -torch.inf)
                result = torch.where(torch.rand(result.shape, generator=generator) < 0.5, torch.nextafter(result, up), result)
            return result

    got = Nudge(program).run(*inputs).double()
    return float((want - got).abs().max() / want.abs().max())


def of_calls(options, stem):
    """A call of Ondine, in ms: the median on the clock, or the processor's time where others use it, too."""
    if not options.processor:
        seconds = json.loads(ondine(options, stem, "--repeat", str(options.calls + 1), "--json").stdout)["seconds"]
        return statistics.median(seconds[1:]) * 1e3

    def taken(calls):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ondine(options, stem, "--repeat", str(calls))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    few = options.calls // 4 + 1
    return (taken(few + options.calls) - taken(few)) / options.calls * 1e3


def times(options, stem, plain):
    """Medians in turn of the network in few bits, of the one in f32, and of PyTorch's run of the former, in ms."""
    program = torch.export.load(f"{stem}.pt2").module()
    inputs = list(safetensors.torch.load_file(f"{stem}.in.safetensors").values())
    seen = ([], [], [])
    clock = time.process_time if options.processor else time.perf_counter
    with torch.no_grad():
        program(*inputs)
        for _ in range(options.repeat):
            seen[0].append(of_calls(options, stem))
            seen[1].append(of_calls(options, plain))
            calls = []
            for _ in range(options.calls):
                start = clock()
                program(*inputs)
                calls.append((clock() - start) * 1e3)
            seen[2].append(statistics.median(calls))
    return [statistics.median(kept) for kept in seen]


def run(options):
    torch.set_num_threads(options.threads)
    print("| network | of the peak | same first | PyTorch nudged | Ondine | f32 | PyTorch | f32 / Ondine | PyTorch / Ondine |")
    for archive in sorted(options.out.glob("*.pt2")):
        stem = str(archive)[: -len(".pt2")]
        if not re.search(options.only, archive.stem) or archive.stem.endswith(".f32") and not options.plain:
            continue
        out = f"{stem}.out.safetensors"
        done = ondine(options, stem, "--outputs", out)
        if done.returncode:
            print(f"| {archive.stem} | {done.stderr.splitlines()[-1]} |", flush=True)
            continue
        error, same = unlike(stem, out)
        line = f"| {archive.stem} | {error:.1e} | {same:.2f} | {nudged(stem):.1e} |"
        if options.repeat:
            own, plain, theirs = times(options, stem, f"{stem.rsplit('.', 1)[0]}.f32")
            line += f" {own:.3g} ms | {plain:.3g} ms | {theirs:.3g} ms | {plain / own:.2f} | {theirs / own:.2f} |"
        print(line, flush=True)


def tapped(stem):
    """The program with all codes that it computes and the numbers that were rounded to them as results."""
    module = torch.export.load(f"{stem}.pt2").module()
    codes = [node for node in module.graph.nodes if node.op == "call_function" and re.search(r"(?<!de)quantize_(per|affine)", str(node.target))]
    output = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (tuple(codes + [node.args[0] for node in codes]),)
    module.graph._codegen.pytree_info = module.graph._codegen.pytree_info._replace(out_spec=None)
    module.recompile()
    return module, [node.name for node in codes]


def codes(options):
    """Follows the codes of each network to the first that differ."""
    for archive in sorted(options.out.glob("*.pt2")):
        stem = str(archive)[: -len(".pt2")]
        if not re.search(options.only, archive.stem) or archive.stem.endswith(".tapped") or re.search(r"f32$|int\d$", stem):
            continue
        module, names = tapped(stem)
        inputs = safetensors.torch.load_file(f"{stem}.in.safetensors")
        with torch.no_grad():
            program = torch.export.export(module, tuple(inputs.values()), strict=False)
            want = module(*inputs.values())
        made = options.out / f"{archive.stem}.tapped"
        torch.export.save(program, f"{made}.pt2")
        user = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
        safetensors.torch.save_file(dict(zip(user, inputs.values())), f"{made}.in.safetensors")
        done = ondine(options, made, "--outputs", f"{made}.out.safetensors", "--no-cache")
        pathlib.Path(f"{made}.pt2").unlink()
        if done.returncode:
            print(f"{archive.stem}: {done.stderr.splitlines()[-1]}")
            continue
        got = safetensors.torch.load_file(f"{made}.out.safetensors")
        count, total, unlike = len(names), 0, 0
        for at, name in enumerate(names):
            ours, theirs = got[f"output_{at}"], want[at]
            x, y = got[f"output_{at + count}"], want[at + count]
            wrong = (ours.int() - theirs.int()).abs()
            total, unlike = total + wrong.numel(), unlike + int((wrong > 0).sum())
            bits = (x.view(torch.int32) - y.view(torch.int32)).abs()
            ulp = (x - y).abs() / y.abs().max() / 2**-24
            if wrong.any() and unlike == int((wrong > 0).sum()):
                print(f"{archive.stem}: {at} of {count} have the same codes; `{name}`: {int((wrong > 0).sum())} of {wrong.numel()} differ, by {int(wrong.max())} at most;")
                same = int((wrong[x == y] > 0).sum())
                print(f"    of numbers that were the same {same}; what was rounded differs by up to {float(ulp.max()):.1f} roundings of the peak, in {float((bits > 0).double().mean()):.2f} of all")
        print(f"{archive.stem}: {unlike} of {total} codes differ", flush=True)


def blocks(x, sizes):
    """Dimensions split into blocks, which of them are within one, and the shape of what each block has one of."""
    split, within = [], []
    for size, block in zip(x.shape, sizes):
        split += [size // block, block]
        within.append(len(split) - 1)
    return x.reshape(split), within, [1 if at in within else size for at, size in enumerate(split)]


def to_codes(x, scale, zero, low, high, dtype):
    return torch.clamp(torch.round(x / scale) + zero, low, high).to(dtype)


def span(low, high, first, last, eps):
    """Scale and zero of codes that reach from one end of a range to the other."""
    scale = ((high - low) / (last - first)).clamp(min=eps)
    return scale, (first - torch.round(low / scale)).clamp(first, last)


def of_tensor(x, scale, zero, low, high, dtype, **_):
    return to_codes(x, scale, zero, low, high, dtype)


def from_tensor(codes, scale, zero, *_, **__):
    return (codes.double() - zero) * scale


def from_channels(codes, scale, zero, axis, *_, **__):
    shape = [-1 if at == axis else 1 for at in range(codes.dim())]
    return (codes.double() - (0 if zero is None else zero.reshape(shape))) * scale.reshape(shape)


def choose_tensor(x, low, high, eps, *_):
    scale, zero = span(x.min().clamp(max=0), x.max().clamp(min=0), low, high, eps)
    return scale, zero.long()


def choose_tokens(x, *_):
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    below, above = low / scale, high / scale
    zero = torch.where(below - 128 + above + 127 > 0, -128 - below, 127 - above).clamp(-128, 127).round()
    return scale, zero.to(torch.int8)


def choose_blocks(x, mapping, sizes, dtype, low=None, high=None, eps=None, *_, **__):
    info = torch.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    split, within, _ = blocks(x, sizes)
    least, most = split.amin(within).clamp(max=0), split.amax(within).clamp(min=0)
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    if mapping == "ASYMMETRIC":
        return span(least, most, low, high, eps)
    assert mapping == "SYMMETRIC", mapping
    scale = (torch.maximum(-least, most) / ((high - low) / 2)).clamp(min=eps)
    return scale, torch.full_like(scale, int((high + low + 1) / 2))


def of_blocks(x, sizes, scale, zero, dtype, low=None, high=None, *_, **__):
    info = torch.iinfo(dtype)
    split, _, each = blocks(x, sizes)
    zero = 0 if zero is None or zero.numel() == 0 else zero.reshape(each)
    codes = to_codes(split, scale.reshape(each), zero, info.min if low is None else low, info.max if high is None else high, dtype)
    return codes.reshape(x.shape)


def from_blocks(codes, sizes, scale, zero, *_, **__):
    split, _, each = blocks(codes, sizes)
    zero = 0 if zero is None or zero.numel() == 0 else zero.reshape(each)
    return ((split.double() - zero) * scale.reshape(each)).reshape(codes.shape)


# What PyTorch's operators on codes compute, without a rounding in between: they take nothing of 64 bits themselves.
IN_DOUBLE = {
    "quantized_decomposed.quantize_per_tensor": of_tensor,
    "quantized_decomposed.dequantize_per_tensor": from_tensor,
    "quantized_decomposed.dequantize_per_channel": from_channels,
    "quantized_decomposed.choose_qparams": choose_tensor,
    "quantized_decomposed.choose_qparams_per_token_asymmetric": choose_tokens,
    "quantized_decomposed.quantize_per_token": of_tensor,
    "quantized_decomposed.dequantize_per_token": from_tensor,
    "torchao.choose_qparams_affine": choose_blocks,
    "torchao.quantize_affine": of_blocks,
    "torchao.dequantize_affine": from_blocks,
}


def widened(value):
    """`value` with f64 in the place of f32."""
    if torch.is_tensor(value):
        return value.double() if value.dtype == torch.float32 else value
    if isinstance(value, (list, tuple)):
        return type(value)(map(widened, value)) if type(value) in (list, tuple) else value
    return torch.float64 if value is torch.float32 else value


class Double(torch.fx.Interpreter):
    """Runs a program in f64, also the graphs within it; if `rounds`, with the result of each operator rounded to f32."""

    def __init__(self, module, rounds=False):
        super().__init__(module)
        self.rounds = rounds

    def get_attr(self, target, args, kwargs):
        return widened(super().get_attr(target, args, kwargs))

    def call_function(self, target, args, kwargs):
        name = str(target)
        if "_assert_tensor_metadata" in name:
            return None
        inner = next((at for at, arg in enumerate(args) if isinstance(arg, torch.fx.GraphModule)), None)
        if inner is not None:
            return Double(args[inner], self.rounds).run(*args[inner + 1 :])
        own = IN_DOUBLE.get(".".join(name.split(".")[:2]))
        args, kwargs = widened(tuple(args)), {key: widened(value) for key, value in kwargs.items()}
        if own is None and re.match("quantized_decomposed|torchao", name):
            raise NotImplementedError(name)
        result = (own or target)(*args, **kwargs)
        return torch.utils._pytree.tree_map(rounded, result) if self.rounds else result


def rounded(value):
    return value.float().double() if torch.is_tensor(value) and value.dtype == torch.float64 else value


def exact(options):
    """How far Ondine, PyTorch and operators that each are rounded once are from the same program in f64."""
    print("| network | Ondine: largest, mean square | PyTorch | rounded once | Ondine nearer than PyTorch, largest and mean square |")
    for archive in sorted(options.out.glob("*.pt2")):
        stem = str(archive)[: -len(".pt2")]
        if not re.search(options.only, archive.stem):
            continue
        program = torch.export.load(archive).module()
        task = networks()[archive.stem.split(".")[0]]
        generator = torch.Generator().manual_seed(3)
        name = next(iter(safetensors.torch.load_file(f"{stem}.in.safetensors")))
        seen = []
        for _ in range(options.inputs):
            inputs = task.inputs(generator)
            with torch.no_grad():
                want = Double(program).run(*map(widened, inputs))
                theirs = program(*inputs).double()
                ideal = Double(program, rounds=True).run(*map(widened, inputs))
            assert want.dtype == torch.float64, want.dtype
            asked, out = options.out / "exact.in.safetensors", options.out / "exact.out.safetensors"
            safetensors.torch.save_file({name: inputs[0]}, asked)
            command = [options.ondine, "run", archive, "--inputs", asked, "--outputs", out, "--threads", str(options.threads)]
            subprocess.run(command, check=True, capture_output=True)
            ours = safetensors.torch.load_file(out)["output_0"].double()
            peak = float(want.abs().max())
            seen.append([(float(d.abs().max()) / peak, float(d.square().mean().sqrt()) / peak) for d in (ours - want, theirs - want, ideal - want)])
        middle = [[statistics.median(each[who][how] for each in seen) for how in (0, 1)] for who in (0, 1, 2)]
        nearer = [sum(own[how] <= other[how] for own, other, _ in seen) for how in (0, 1)]
        (a, b), (c, d), (e, f) = middle
        print(f"| {archive.stem} | {a:.1e}, {b:.1e} | {c:.1e}, {d:.1e} | {e:.1e}, {f:.1e} | {nearer[0]}, {nearer[1]} of {len(seen)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["export", "run", "codes", "exact"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--ondine")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=8)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor", action="store_true", help="time by what the processor spent, not by the clock")
    parser.add_argument("--plain", action="store_true", help="the networks in f32, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    {"export": export, "run": run, "codes": codes, "exact": exact}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
