"""IP-Adapters of random numbers, drawn with by Ondine and by diffusers' pipelines.

    python ip_adapters.py --ondine BIN --folders DIR [--only WORD]

Each is a file in the names of the program that trained the first ones, plain (one linear layer) or plus (a resampler), beside an image
encoder of CLIP as transformers saves it.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from controls import hint
from edits import PROMPT, picture
from oracle import SAMPLERS, load
from parity import psnr, relative

SMALL = dict(hidden_size=48, intermediate_size=80, projection_dim=40, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8)
OTHER = dict(hidden_size=64, intermediate_size=96, projection_dim=24, num_hidden_layers=5, num_attention_heads=2, image_size=50, patch_size=12,
             hidden_act="gelu", layer_norm_eps=1e-6)
CASES = [
    dict(name="plain"), dict(name="plus", plus=[{}]), dict(name="plain, torch file", form="bin"), dict(name="weak", scale=[0.3]),
    dict(name="negative scale", scale=[-0.5]), dict(name="no guidance", guidance=1.0), dict(name="plus, no guidance", guidance=1.0, plus=[{}]),
    dict(name="other encoder", encoder=OTHER), dict(name="plus, other", encoder=OTHER, plus=[dict(hidden=96, heads=3, queries=7)]),
    dict(name="two pictures", batch=2, plus=[{}]), dict(name="odd size", width=104, height=72), dict(name="second order", sampler="heun", steps=5),
    dict(name="two adapters", plus=[None, {}], scale=[0.7, 0.4]), dict(name="img2img", strength=0.6, plus=[{}]),
    dict(name="wide picture", shape=(90, 40), far=True), dict(name="tall small picture", shape=(20, 31), far=True),
]


def numbers(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator) / max(shape[-1], 1) ** 0.5


def plain(random, reads, width):
    """A linear layer and a norm."""
    return {"proj.weight": random(4 * width, reads["projection_dim"]), "proj.bias": random(4 * width), "norm.weight": 1 + 0.2 * random(width),
            "norm.bias": 0.3 * random(width)}


def resampler(random, reads, width, hidden=64, heads=1, depth=4, queries=5):
    """The resampler of the plus kind."""
    inner = 64 * heads
    tensors = {"latents": random(1, queries, hidden) * 3, "proj_in.weight": random(hidden, reads["hidden_size"]), "proj_in.bias": random(hidden),
               "proj_out.weight": random(width, hidden), "proj_out.bias": random(width), "norm_out.weight": 1 + 0.2 * random(width),
               "norm_out.bias": 0.3 * random(width)}
    for i in range(depth):
        at = f"layers.{i}."
        for norm in ("0.norm1", "0.norm2", "1.0"):
            tensors |= {f"{at}{norm}.weight": 1 + 0.2 * random(hidden), f"{at}{norm}.bias": 0.3 * random(hidden)}
        tensors |= {f"{at}0.to_q.weight": random(inner, hidden), f"{at}0.to_kv.weight": random(2 * inner, hidden), f"{at}0.to_out.weight": random(hidden, inner),
                    f"{at}1.1.weight": random(4 * hidden, hidden), f"{at}1.3.weight": random(hidden, 4 * hidden)}
    return tensors


def attentions(random, unet):
    """Keys and values of each cross-attention, by its number among all attentions."""
    tensors = {}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            module = unet.get_submodule(name.removesuffix(".processor"))
            shape = module.to_k.weight.shape
            tensors |= {f"{number}.to_k_ip.weight": random(*shape), f"{number}.to_v_ip.weight": random(*shape) * 1.5}
    return tensors


def files(pipe, case, place):
    """The adapters' files, beside the encoder's folder."""
    torch.manual_seed(3)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**case["encoder"])).eval()
    for parameter in encoder.parameters():
        if parameter.dim() > 1:
            parameter.data *= 0.8 / parameter[0].numel() ** 0.5 / parameter.std().clamp(min=1e-6)
    encoder.save_pretrained(place / "image_encoder")
    width, made = pipe.unet.config.cross_attention_dim, []
    for i, plus in enumerate(case["plus"]):
        random = numbers(11 + i)
        made_of = plain(random, case["encoder"], width) if plus is None else resampler(random, case["encoder"], width, **plus)
        of = attentions(random, pipe.unet)
        if case["form"] == "bin":
            torch.save({"image_proj": made_of, "ip_adapter": of}, place / f"net{i}.bin")
        else:
            tensors = {f"image_proj.{name}": tensor for name, tensor in made_of.items()} | {f"ip_adapter.{name}": tensor for name, tensor in of.items()}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place / f"net{i}.safetensors")
        made.append(place / f"net{i}.{'bin' if case['form'] == 'bin' else 'safetensors'}")
    return made


def theirs(pipe, case, names, shown, place):
    """The picture of diffusers and the latents after each step."""
    if case.get("strength") is not None:
        form = StableDiffusionXLImg2ImgPipeline if "XL" in type(pipe).__name__ else StableDiffusionImg2ImgPipeline
        published, pipe = pipe.published, form.from_pipe(pipe)
        pipe.published = published
    kind, extra = SAMPLERS[case["sampler"]]
    pipe.scheduler = kind.from_config(pipe.published, **extra)
    pipe.set_progress_bar_config(disable=True)
    side = case["encoder"]["image_size"]
    pipe.register_modules(feature_extractor=CLIPImageProcessor(size=side, crop_size=side))
    pipe.load_ip_adapter(str(place), subfolder="", weight_name=[name.name for name in names], image_encoder_folder="image_encoder")
    pipe.set_ip_adapter_scale(case["scale"] if len(names) > 1 else case["scale"][0])
    path, batch = [], case["batch"]

    def stepped(_pipe, _step, _time, tensors):
        path.append(tensors["latents"].clone())
        return {}

    generators = [torch.Generator().manual_seed(1234 + i) for i in range(batch)]
    words = dict(prompt=[PROMPT] * batch, guidance_scale=case["guidance"], num_inference_steps=case["steps"], output_type="pt",
                 generator=generators if batch > 1 else generators[0], callback_on_step_end=stepped,
                 ip_adapter_image=shown if len(names) > 1 else shown[0])
    if case.get("strength") is not None:
        words |= dict(image=picture(case["width"], case["height"]), strength=case["strength"])
    else:
        words |= dict(width=case["width"], height=case["height"])
    with torch.no_grad():
        return path, pipe(**words).images.float()


def ours(arguments, folder, case, names, shown, place):
    """The dump of Ondine's drawing, and what it says."""
    words = [arguments.ondine, "draw", PROMPT, "--model", folder, "--sampler", case["sampler"], "--steps", case["steps"], "--seed", 1234,
             "--guidance", case["guidance"], "--precision", "f32", "--batch", case["batch"], "--width", case["width"], "--height", case["height"],
             "--dump", place / "dump.safetensors", "--output", place / "x.png"]
    for i, (name, image) in enumerate(zip(names, shown)):
        image.save(place / f"shown{i}.png")
        words += ["--ip-adapter", name, "--ip-image", place / f"shown{i}.png", f"--ip-scale={case['scale'][i]}"]
    if case.get("strength") is not None:
        picture(case["width"], case["height"]).save(place / "init.png")
        words += ["--init", place / "init.png", "--strength", case["strength"]]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return load_file(place / "dump.safetensors"), done.stderr


def check(arguments, folder, case):
    """One row of the table, and whether the case holds."""
    case = dict(dict(sampler="euler", steps=8, width=96, height=64, batch=1, guidance=5.0, plus=[None], form="file", encoder=SMALL), **case)
    case.setdefault("scale", [0.6] * len(case["plus"]))
    pipe = load(folder)
    side = case["encoder"]["image_size"]
    shown = [hint(*case.get("shape", (side, side)), 1 + i) for i in range(len(case["plus"]))]
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        names = files(pipe, case, place)
        try:
            dump, said = ours(arguments, folder, case, names, shown, place)
            without, _ = ours(arguments, folder, case, [], [], place)
            path, image = theirs(pipe, case, names, shown, place)
            steps = sorted((name for name in dump if name.startswith("latents_")), key=lambda name: int(name[8:]))
            if len(steps) != len(path) + 1:
                raise RuntimeError(f"{len(steps) - 1} steps, expected {len(path)}")
            worst = max(relative(dump[name], other) for name, other in zip(steps[1:], path))
            decibels, effect = psnr(dump["image"], image), psnr(dump["image"], without["image"])
            count = sum(name.endswith("attn2.processor") for name in pipe.unet.attn_processors)
            told = all(f"{name.stem}: applied {count} of {count}" in said for name in names)
            # Of a picture that is scaled, pixels may be rounded to the byte beside.
            good = (case.get("far") or worst <= 2e-3) and decibels >= 55 and effect < 50 and told
            figures = f"path {worst:8.1e}  PSNR {decibels:6.1f} (without it {effect:5.1f})" + ("" if told else "  not told")
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            good, figures = False, f"{type(error).__name__}: {error}"
    print(f"{'ok  ' if good else 'MISS'} {folder.name:12} {case['name']:24} {figures}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for name in ("sd15", "sdxl", "sdxl-uneven", "sd21"):
        for case in CASES:
            few = name in ("sdxl-uneven", "sd21") and case["name"] not in ("plain", "plus", "two adapters")
            if arguments.only in f"{name} {case['name']}" and not few:
                results.append(check(arguments, arguments.folders / name, case))
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
