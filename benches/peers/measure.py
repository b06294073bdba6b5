"""Times one network in one peer and prints a JSON object with the keys of `ondine bench --json`.

    python measure.py openvino unet-sd15 bf16 --folder DIR

Peers: `openvino` (f32, bf16 and `int8`, the calibrated W8A8 of NNCF) and `torch` (f32, bf16). The first call for OpenVINO
converts the network into `--folder`, which takes minutes. `--tier avx2` holds the products to AVX2, and fails if OpenVINO
still computes one otherwise; its norms and resizes know no limit.
"""

import argparse
import collections
import json
import os
import re
import resource
import statistics
import time
from pathlib import Path


def convert(work, quantized, folder):
    """The network of a work as OpenVINO's file, made if it is not there yet."""
    file = folder / f"{work}{'-int8' if quantized else ''}.xml"
    if file.exists():
        return file
    import openvino
    import torch
    from networks import network

    module, arguments = network(work)
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=arguments, input=[tuple(x.shape) for x in arguments])
    if quantized:
        import nncf

        parameters = nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True,
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
        )
        data = nncf.Dataset([[x.numpy() for x in arguments]])
        model = nncf.quantize(
            model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1, advanced_parameters=parameters
        )
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, file, compress_to_fp16=True)
    return file


def limit(tier):
    """Holds oneDNN, and so OpenVINO's and PyTorch's kernels, to a tier; to be called before they are imported."""
    if tier == "avx2":
        os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"
        # MKL, for what PyTorch does not give to oneDNN, and PyTorch's own loops.
        os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
        os.environ["ATEN_CPU_CAPABILITY"] = "avx2"


def compiled(file, precision, threads, tier, **more):
    """A network ready to be called, with the precision that OpenVINO takes for what is not quantized."""
    import openvino

    properties = {
        "INFERENCE_NUM_THREADS": threads,
        # What is not quantized runs as it does fastest; AVX2 has no bf16.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" or tier == "avx2" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return openvino.Core().compile_model(str(file), "CPU", properties | more)


def kernels_of(model):
    """How many kernels of each kind, instruction set and element type a compiled network runs."""
    kernels = collections.Counter()
    for op in model.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if "primitiveType" in info:
            kernels[f"{info['layerType'].astype(str)} {info['primitiveType'].astype(str)}"] += 1
    return dict(kernels.most_common())


def openvino_call(work, precision, threads, folder, tier):
    import numpy

    model = compiled(convert(work, precision == "int8", folder), precision, threads, tier)
    kernels = kernels_of(model)
    late = [name for name in kernels if re.search("^(Conv|Fully|MatMul|Scaled|Softmax|Subgraph).*(avx512|avx10|amx)", name)]
    if tier == "avx2" and late:
        raise SystemExit(f"these are not of AVX2: {', '.join(late)}")
    random = numpy.random.default_rng(0)
    arguments = []
    for argument in model.inputs:
        shape = tuple(argument.shape)
        if "i64" in str(argument.element_type):
            arguments.append(random.integers(0, 40000, shape))
        elif len(shape) == 1:
            arguments.append(numpy.full(shape, 500, "f4"))
        else:
            arguments.append(random.standard_normal(shape).astype("f4"))
    request = model.create_infer_request()
    return lambda: request.infer(arguments), kernels


def torch_call(work, precision, threads):
    import torch
    from networks import network

    torch.set_num_threads(threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    module, arguments = network(work, dtype)
    module = module.to(memory_format=torch.channels_last)

    def call():
        with torch.inference_mode():
            return module(*arguments)

    return call, {torch.backends.cpu.get_cpu_capability(): 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["openvino", "torch"])
    parser.add_argument("work")
    parser.add_argument("precision", choices=["f32", "bf16", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True, help="where converted networks are kept")
    parser.add_argument("--tier", choices=["avx2"])
    options = parser.parse_args()
    limit(options.tier)
    if options.peer == "openvino":
        call, kernels = openvino_call(options.work, options.precision, options.threads, options.folder, options.tier)
    else:
        call, kernels = torch_call(options.work, options.precision, options.threads)
    call()
    times = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    facts = {
        "peer": options.peer,
        "work": options.work,
        "precision": options.precision,
        "threads": options.threads,
        "median_s": statistics.median(times),
        "fastest_s": min(times),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "kernels": kernels,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
