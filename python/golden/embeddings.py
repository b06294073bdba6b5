"""Textual inversion: words of every layout that people share, read by Ondine and by diffusers.

    python embeddings.py --ondine BIN --folders DIR

Embeddings of random numbers are written as A1111, diffusers and trainers of SDXL write them. Diffusers gets the vectors by its own
`load_textual_inversion`; Ondine gets the file.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from oracle import load, run
from parity import Case, psnr, relative


def vectors(width, count, seed):
    """Embeddings of the size that tokens have."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.3


def a1111(path, table):
    """The pickle of A1111's own training."""
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(table)})
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(table)} if path.stem != "ink-dict" else parameters,
                "name": "x", "step": 100, "sd_checkpoint": None, "sd_checkpoint_name": None}, path)


LAYOUTS = {
    "a1111 .pt": ("ink-style.pt", a1111),
    "a1111 ParameterDict": ("ink-dict.pt", a1111),
    "emb_params": ("inkstyle.safetensors", lambda path, table: save_file({"emb_params": table}, path)),
    "emb_params of half": ("half_style.safetensors", lambda path, table: save_file({"emb_params": table.half()}, path)),
    "diffusers .bin": ("learned.bin", lambda path, table: torch.save({"<ink>": table if len(table) > 1 else table[0]}, path)),
}
PROMPTS = ["a photo of a {} cat, {}", "{}", "a category, ({}:1) and (dog)"]


def draw(arguments, folder, case, words):
    """The dump of Ondine's drawing, and what it said."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        line = [arguments.ondine, "draw", case.prompt, "--model", folder, "--sampler", case.sampler, "--steps", case.steps, "--seed", case.seed,
                "--guidance", case.guidance, "--width", case.width, "--height", case.height, "--precision", "f32", "--like", "diffusers",
                "--dump", place / "dump.safetensors", "--output", place / "x.png", *words]
        done = subprocess.run([str(word) for word in line], capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return load_file(place / "dump.safetensors")


def check(arguments, folder, title, name, write, counts, prompt):
    """One row of the table, and whether the case holds."""
    pipe = load(folder)
    sets = [(pipe.text_encoder, pipe.tokenizer)]
    if "text_encoder_2" in pipe.components:
        sets.append((pipe.text_encoder_2, pipe.tokenizer_2))
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / name
        word = "<ink>" if name == "learned.bin" else file.stem
        tables = [vectors(encoder.config.hidden_size, counts, 7 + i) for i, (encoder, _) in enumerate(sets)]
        write(file, tables if len(sets) > 1 else tables[0])
        for (encoder, tokenizer), table in zip(sets, tables):
            # transformers takes the token of the highest id for the end where a config says 2, which an added one would be; the vector
            # of the whole text is that of the end, as A1111 and ComfyUI have it.
            for part in (encoder, getattr(encoder, "text_model", encoder)):
                part.eos_token_id = tokenizer.eos_token_id
            table = table.half().float() if "half" in name else table
            pipe.load_textual_inversion(table, token=word, text_encoder=encoder, tokenizer=tokenizer)
        case = Case(str(folder), "euler", 4, prompt=prompt.format(word, word), seed=9)
        theirs = run(pipe, case)
        try:
            ours = draw(arguments, folder, case, ["--embedding", file])
            text = (ours["prompt_embeds"] - theirs["prompt_embeds"]).abs().max().item()
            path, decibels = relative(ours["latents_4"], theirs["latents_4"]), psnr(ours["image"], theirs["image"])
            plain = draw(arguments, folder, case, [])
            effect = psnr(plain["image"], ours["image"])
            good = decibels >= 55 and text < 1e-4 and effect < 60
            figures = f"text {text:8.1e}  path {path:8.1e}  PSNR {decibels:6.1f} (without it {effect:5.1f})"
        except (RuntimeError, ValueError, KeyError) as error:
            good, figures = False, f"{type(error).__name__}: {error}"
    print(f"{'ok  ' if good else 'MISS'} {folder.name:10} {title:22} {counts} vectors, {prompt:32} {figures}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    parser.add_argument("--xl", action="store_true", help="the cases with two encoders alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for name in ("sd15", "sd21") * (not arguments.xl):
        for i, (title, (file, write)) in enumerate(LAYOUTS.items()):
            results.append(check(arguments, arguments.folders / name, title, file, write, 1 + 2 * (i % 2), PROMPTS[i % 3]))
    pair = lambda path, tables: save_file({"clip_l": tables[0], "clip_g": tables[1]}, path)
    for name in ("sdxl", "sdxl-uneven"):
        results.append(check(arguments, arguments.folders / name, "clip_l and clip_g", "inkstyle.safetensors", pair, 2, PROMPTS[0]))
    print(f"{sum(results)} of {len(results)} cases hold")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
