"""Times one network in one peer and prints a JSON object with the keys of `ondine bench --json`.

    python benches/peers/measure.py openvino unet-sd15 bf16 --folder /tmp/peers

Peers: `openvino` (precisions f32, bf16 and `int8`, the calibrated W8A8 of NNCF) and `torch` (f32, bf16). The first call
for OpenVINO converts the network into `--folder`, which takes minutes.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


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


def openvino_call(work, precision, threads, folder, tier):
    import numpy
    import openvino

    file = convert(work, precision == "int8", folder)
    properties = {
        "INFERENCE_NUM_THREADS": threads,
        # What is not quantized runs as it does fastest.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" or tier == "avx2" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(file), "CPU", properties)
    random = numpy.random.default_rng(0)
    arguments = []
    for argument in compiled.inputs:
        shape = tuple(argument.shape)
        if "i64" in str(argument.element_type):
            arguments.append(random.integers(0, 40000, shape))
        elif len(shape) == 1:
            arguments.append(numpy.full(shape, 500, "f4"))
        else:
            arguments.append(random.standard_normal(shape).astype("f4"))
    request = compiled.create_infer_request()
    return lambda: request.infer(arguments)


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

    return call


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["openvino", "torch"])
    parser.add_argument("work")
    parser.add_argument("precision", choices=["f32", "bf16", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tier", choices=["avx2"], help="as environment ONEDNN_MAX_CPU_ISA, which the caller sets")
    options = parser.parse_args()
    if options.peer == "openvino":
        call = openvino_call(options.work, options.precision, options.threads, options.folder, options.tier)
    else:
        call = torch_call(options.work, options.precision, options.threads)
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
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
