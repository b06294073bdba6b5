"""Models of few steps and of EDM: the presets of Ondine and the pipelines of diffusers with the schedulers that they stand for.

    python few_steps.py --ondine BIN --folders DIR
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import (DDIMScheduler, EDMDPMSolverMultistepScheduler, EDMEulerScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       LCMScheduler, TCDScheduler)
from safetensors.torch import load_file, save_file

from checkpoints import convert
from folders import healthy_vae, kl
from oracle import load
from parity import PROMPT, psnr, relative

TRAILING = dict(timestep_spacing="trailing")
STEPS = [999, 749, 499, 249]
CASES = [  # words of the command line, scheduler, what it is told, what the pipeline is told
    (["--preset", "turbo"], EulerAncestralDiscreteScheduler, TRAILING, dict(num_inference_steps=1)),
    (["--preset", "turbo", "--steps", "3"], EulerAncestralDiscreteScheduler, TRAILING, dict(num_inference_steps=3)),
    (["--preset", "lightning"], EulerDiscreteScheduler, TRAILING, dict(num_inference_steps=4)),
    (["--preset", "lightning", "--steps", "2"], EulerDiscreteScheduler, TRAILING, dict(num_inference_steps=2)),
    (["--preset", "hyper"], DDIMScheduler, TRAILING, dict(num_inference_steps=4)),
    (["--preset", "dmd2"], LCMScheduler, {}, dict(timesteps=STEPS)),
    (["--preset", "tcd"], TCDScheduler, {}, dict(num_inference_steps=4, eta=0.3)),
    (["--preset", "tcd", "--eta", "0.8", "--steps", "6"], TCDScheduler, {}, dict(num_inference_steps=6, eta=0.8)),
    (["--preset", "lcm"], LCMScheduler, {}, dict(num_inference_steps=4)),
    (["--preset", "lcm", "--guidance", "1.8"], LCMScheduler, {}, dict(num_inference_steps=4, guidance_scale=1.8)),
    (["--sampler", "euler", "--timesteps", "999,600,200", "--guidance", "1"], EulerDiscreteScheduler, {}, dict(timesteps=[999, 600, 200])),
]
EDM = [(EDMDPMSolverMultistepScheduler, {}, 12), (EDMDPMSolverMultistepScheduler, dict(sigma_max=20.0, solver_type="heun"), 18), (EDMEulerScheduler, {}, 9),
       (EDMEulerScheduler, dict(sigma_schedule="exponential", sigma_data=0.8, prediction_type="v_prediction"), 9)]


def check(arguments, folder, title, words, scheduler, told, pipe=None, file=None):
    """One row of the table, and whether the case holds; the pipeline is the folder's, and so is the model, if none is given."""
    pipe, path = pipe or load(folder), []
    pipe.scheduler = scheduler(pipe)

    def stepped(_pipe, _step, _time, tensors):
        path.append(tensors["latents"].clone())
        return {}

    told = dict(dict(guidance_scale=1.0), **told)
    with torch.no_grad():
        image = pipe(prompt=PROMPT, width=96, height=64, generator=torch.Generator().manual_seed(77), output_type="pt", callback_on_step_end=stepped, **told).images
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model = file or folder
        if not file and "EDM" in type(pipe.scheduler).__name__:
            shutil.copytree(folder, place / "model")
            model = place / "model"
            config = dict(pipe.scheduler.config, _class_name=type(pipe.scheduler).__name__)
            (model / "scheduler/scheduler_config.json").write_text(json.dumps({key: value for key, value in config.items() if not isinstance(value, tuple)}))
        line = [arguments.ondine, "draw", PROMPT, "--model", model, "--seed", 77, "--width", 96, "--height", 64, "--precision", "f32", "--quiet",
                "--dump", place / "d.safetensors", "--output", place / "x.png", *words]
        done = subprocess.run([str(word) for word in line], capture_output=True, text=True, timeout=600)
        good, figures = False, done.stderr.strip()
        if not done.returncode:
            dump = load_file(place / "d.safetensors")
            names = [f"latents_{i + 1}" for i in range(len(path))]
            worst = max(relative(dump[name], other) for name, other in zip(names, path)) if f"latents_{len(path) + 1}" not in dump else 9.0
            decibels = psnr(dump["image"], image.float())
            good, figures = worst <= 2e-3 and decibels >= 55, f"path {worst:8.1e}  PSNR {decibels:6.1f}"
    print(f"{'ok  ' if good else 'MISS'} {folder.name:6} {title:44} {figures}", flush=True)
    return good


def marked(arguments, place, mean, std, widths):
    """Whether a file of `XL` is drawn on the noise levels of EDM because it holds what Playground 2.5 does: no config says so."""
    folder, file = place / "sdxl", place / "marked.safetensors"
    shutil.copytree(arguments.folders / "sdxl", folder)
    shutil.rmtree(folder / "vae")
    healthy_vae(kl(*widths, norm_num_groups=32, scaling=0.5, latents_mean=mean, latents_std=std), 5).save_pretrained(folder / "vae")
    pipe = load(folder)
    save_file(convert(folder) | dict(edm_mean=torch.tensor(mean), edm_std=torch.tensor(std).reshape(1, 4, 1, 1)), file)
    for name in ("vae", "scheduler"):
        (folder / name).rename(place / f"no-{name}")
    words = ["--config", folder, "--steps", 12, "--guidance", 3]
    told = dict(num_inference_steps=12, guidance_scale=3.0)
    return check(arguments, folder, f"keys edm_mean, edm_std; {widths}", words, lambda _pipe: EDMDPMSolverMultistepScheduler(), told, pipe, file)


def velocities(arguments, place, low, high):
    """Whether a file of `XL` predicts velocities on the noise levels of EDM because it holds their ends, as CosXL does."""
    folder, file = place / "sdxl", place / "ends.safetensors"
    shutil.copytree(arguments.folders / "sdxl", folder)
    pipe = load(folder)
    save_file(convert(folder) | {"edm_vpred.sigma_min": torch.tensor(low), "edm_vpred.sigma_max": torch.tensor(high)}, file)
    (folder / "scheduler").rename(place / "no-scheduler")
    make = lambda _pipe: EDMEulerScheduler(sigma_min=low, sigma_max=high, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction")
    words = ["--config", folder, "--steps", 10, "--guidance", 3]
    return check(arguments, folder, f"keys edm_vpred.sigma_*; {low}, {high}", words, make, dict(num_inference_steps=10, guidance_scale=3.0), pipe, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for name in ("sd15", "sdxl"):
        for words, kind, options, told in CASES:
            make = lambda pipe, kind=kind, options=options: kind.from_config(pipe.published, **options)
            results.append(check(arguments, arguments.folders / name, " ".join(words), words, make, told))
    for kind, options, steps in EDM:
        make = lambda _pipe, kind=kind, options=options: kind(**options)
        title = f"{kind.__name__[:-9]} {options or ''}"[:44]
        results.append(check(arguments, arguments.folders / "sdxl", title, ["--steps", steps, "--guidance", 3], make, dict(num_inference_steps=steps, guidance_scale=3.0)))
    for mean, std, widths in (([-1.6, 1.1, 0.5, -0.3], [8.4, 5.9, 7.1, 6.0], (32, 32, 64, 64)), ([0.2, -0.7, 0.0, 1.5], [1.5, 3.0, 2.2, 0.9], (64, 32, 32, 96))):
        with tempfile.TemporaryDirectory() as place:
            results.append(marked(arguments, Path(place), mean, std, widths))
    for ends in ((0.002, 120.0), (0.01, 40.0)):
        with tempfile.TemporaryDirectory() as place:
            results.append(velocities(arguments, Path(place), *ends))
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
