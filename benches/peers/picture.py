"""Draws one picture with OpenVINO: Stable Diffusion 1.5 shapes, 512x512, LCM in 4 steps, no guidance, tiny decoder.

    python picture.py bf16 --folder DIR --output picture.png

The same work as `ondine bench picture-sd15`, written as an application would: nothing is imported that it does not need,
compiled networks come from OpenVINO's cache. It is timed from outside, from the start of the process to its end.
The networks are those that `measure.py` converts; `int8` quantizes the U-Net.
"""

import argparse
from pathlib import Path

from measure import compiled, limit

STEPS = [999, 759, 499, 259]


def alphas():
    """The share of the picture that is left at each timestep, as Stable Diffusion's schedule has it."""
    import numpy

    betas = numpy.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return numpy.cumprod(1 - betas)


def step(noisy, prediction, timestep, following, kept, random):
    """One step of a latent consistency model (Luo et al. 2023)."""
    clean = (noisy - (1 - kept[timestep]) ** 0.5 * prediction) / kept[timestep] ** 0.5
    scaled = timestep * 10.0
    skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
    clean = out * clean + skip * noisy
    if following is None:
        return clean
    noise = random.standard_normal(noisy.shape)
    return kept[following] ** 0.5 * clean + (1 - kept[following]) ** 0.5 * noise


def draw(options):
    import numpy
    from PIL import Image

    def network(name, precision):
        file = options.folder / f"{name}.xml"
        cache = {"CACHE_DIR": str(options.folder / "cache")}
        return compiled(file, precision, options.threads, options.tier, **cache)

    random = numpy.random.default_rng(42)
    ids = numpy.full((1, 77), 49407)
    ids[0, :5] = [49406, 320, 12464, 2368, 49407]
    text = list(network("clip-l", "bf16")([ids]).values())[0]
    unet = network("unet-sd15" + ("-int8" if options.precision == "int8" else ""), options.precision)
    latents = random.standard_normal((1, 4, 64, 64))
    kept = alphas()
    for timestep, following in zip(STEPS, STEPS[1:] + [None]):
        time = numpy.full(1, timestep, "f4")
        prediction = list(unet([latents.astype("f4"), time, text]).values())[0]
        latents = step(latents, prediction, timestep, following, kept, random)
    del unet
    pixels = list(network("taesd", "bf16")([latents.astype("f4")]).values())[0]
    pixels = (numpy.clip(pixels[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1) * 255).round().astype("u1")
    Image.fromarray(pixels).save(options.output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=["f32", "bf16", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True, help="where converted networks are kept")
    parser.add_argument("--tier", choices=["avx2"])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    limit(options.tier)
    draw(options)


if __name__ == "__main__":
    main()
