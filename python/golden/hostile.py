"""Files that lie, are broken, or are not what they seem, and pictures of every kind: each is refused in one clear line, or the right picture
comes out.

    python hostile.py --ondine BIN --folders DIR [--only WORD]

Checkpoints whose pickles would run something, GGUF and safetensors whose numbers do not hold, adapters and embeddings of another model,
masks of other sizes, pictures of one pixel, in CMYK, 16 bits, palettes, gray with transparency, turned by a camera, animated, cut off.
"""
import argparse
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

CASES = []  # (name, words of the command line after the program, file or picture that is expected, or None for a refusal)


class Runs:
    """What would run a command if it was unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def refused(name, *words):
    """A case that must end in one line and write nothing."""
    CASES.append((name, [str(word) for word in words], None))


def right(name, words, picture):
    """A case whose picture must be this one, four times as wide and high."""
    CASES.append((name, [str(word) for word in words], picture))


def checkpoints(place, folders):
    """Pickles that run, and files that hold something else."""
    mark = place / "ran"
    evil = {"system": Runs(os.system, f"touch {mark}"), "eval": Runs(eval, f"open({str(mark)!r}, 'w').close()"),
            "exec": Runs(exec, f"open({str(mark)!r}, 'w').close()"), "popen": Runs(subprocess.Popen, ["touch", str(mark)]),
            "open": Runs(open, str(mark), "w"), "import": Runs(__import__, "antigravity"), "getattr": Runs(getattr, "x", "upper")}
    for name, thing in evil.items():
        for form, value in (("bare", thing), ("beside weights", {"state_dict": {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4, 3, 3), "x": thing}})):
            for protocol in (2, 4):
                file = place / f"{name}-{form.split()[0]}-{protocol}.ckpt"
                try:
                    torch.save(value, file, pickle_protocol=protocol)
                except (pickle.PicklingError, TypeError, AttributeError):
                    file.write_bytes(pickle.dumps(value, protocol=protocol))
                refused(f"pickle that runs: {name}, {form}, protocol {protocol}", "draw", "x", "--model", file, "-o", place / "o.png")
        plain = place / f"{name}.pt"
        plain.write_bytes(pickle.dumps({"string_to_param": {"*": thing}}))
        refused(f"embedding that runs: {name}", "draw", "x", "--embedding", plain, "-o", place / "o.png")
        refused(f"upscaler that runs: {name}", "upscale", place / "plain.png", "--model", plain, "-o", place / "o.png")
    whole = io.BytesIO()
    torch.save({"a": torch.ones(64, 64)}, whole)
    for share in (0.1, 0.5, 0.9, 0.99):
        file = place / f"cut-{share}.ckpt"
        file.write_bytes(whole.getvalue()[:int(len(whole.getvalue()) * share)])
        refused(f"checkpoint cut at {share}", "draw", "x", "--model", file, "-o", place / "o.png")
    for name, content in {"empty": b"", "zeros": bytes(9999), "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
                          "html": b"<!DOCTYPE html><html></html>", "json": b'{"error": 404}', "zip": b"PK\x03\x04" + bytes(50),
                          "random": np.random.default_rng(1).bytes(5000)}.items():
        for command in ("model", "lora"):
            file = place / f"{name}.safetensors"
            file.write_bytes(content)
            words = ["--model", file] if command == "model" else ["--model", folders / "sd15", "--lora", file]
            refused(f"{name} as a {command}", "draw", "x", *words, "-o", place / "o.png")
    bomb = place / "bomb.ckpt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"(" * 500_000)
    refused("pickle of half a million marks", "draw", "x", "--model", bomb, "-o", place / "o.png")


def gguf(version=3, tensors=1, pairs=0, body=b""):
    """The beginning of a GGUF file."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body


def text(words):
    """A text of GGUF."""
    return struct.pack("<Q", len(words)) + words


def ggufs(place):
    """GGUF files whose numbers do not hold."""
    tensor = lambda dims=(32, 4), kind=0, offset=0, name=b"model.diffusion_model.input_blocks.0.0.weight": (
        text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", side) for side in dims) + struct.pack("<IQ", kind, offset))
    bad = {
        "version 99": gguf(99), "2^60 tensors": gguf(tensors=1 << 60), "2^60 pairs": gguf(pairs=1 << 60), "no tensors": gguf(tensors=0),
        "endless name": gguf(body=struct.pack("<Q", 1 << 62)), "no end": gguf(), "nine dimensions": gguf(body=tensor((1,) * 9)),
        "2^63 columns": gguf(body=tensor((1 << 63, 4))), "overflowing shape": gguf(body=tensor((1 << 33, 1 << 33))), "type 250": gguf(body=tensor(kind=250)),
        "offset beyond": gguf(body=tensor(offset=1 << 40)), "odd offset": gguf(body=tensor(offset=3)), "no data": gguf(body=tensor()),
        "a side of 0": gguf(body=tensor((0, 4))), "block not whole": gguf(body=tensor((33, 4), kind=8)),
        "alignment 0": gguf(pairs=1, body=text(b"general.alignment") + struct.pack("<II", 4, 0) + tensor()),
        "array of arrays": gguf(pairs=1, body=text(b"a") + struct.pack("<IIQ", 9, 9, 1 << 40)), "unknown pair": gguf(pairs=1, body=text(b"a") + struct.pack("<I", 77)),
        "names twice": gguf(tensors=2, body=tensor() + tensor() + bytes(4096)), "name of bytes": gguf(body=tensor(name=b"\xff\xfe") + bytes(4096)),
        "another model": gguf(body=tensor(name=b"blk.0.attn_q.weight") + bytes(4096)),
    }
    for name, content in bad.items():
        file = place / f"{name.replace(' ', '-')}.gguf"
        file.write_bytes(content)
        refused(f"GGUF, {name}", "draw", "x", "--model", file, "-o", place / "o.png")


def safetensors(place):
    """Safetensors whose headers do not hold."""
    entry = lambda **more: dict(dict(dtype="F32", shape=[4, 4, 3, 3], data_offsets=[0, 576]), **more)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    headers = {"beyond the end": entry(data_offsets=[0, 1 << 40]), "backwards": entry(data_offsets=[576, 0]), "negative": entry(data_offsets=[-1, 5]),
               "too few": entry(data_offsets=[0, 4]), "unknown type": entry(dtype="F12"), "no shape": {"dtype": "F32"}, "huge shape": entry(shape=[1 << 40, 1 << 40]),
               "shape of text": entry(shape=["a"]), "no entry": 5}
    for what, header in headers.items():
        head = json.dumps({name: header}).encode()
        (place / f"st-{what.replace(' ', '-')}.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(576))
        refused(f"safetensors, {what}", "draw", "x", "--model", place / f"st-{what.replace(' ', '-')}.safetensors", "-o", place / "o.png")
    for what, content in {"long header": struct.pack("<Q", 1 << 60) + b"{}", "no JSON": struct.pack("<Q", 4) + b"{abc" + bytes(9), "deep JSON": struct.pack("<Q", 90_000) + b'{"a":' + b"[" * 89_995}.items():
        (place / f"st-{what.replace(' ', '-')}.safetensors").write_bytes(content)
        refused(f"safetensors, {what}", "draw", "x", "--model", place / f"st-{what.replace(' ', '-')}.safetensors", "-o", place / "o.png")


def adapters(place, folders):
    """Adapters, embeddings and networks that steer of another model, or of none."""
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = lambda out, inner, rank=2, name=key: {f"{name}.lora_down.weight": torch.ones(rank, inner), f"{name}.lora_up.weight": torch.ones(out, rank)}
    files = {"wrong width": lora(48, 52), "unknown module": lora(64, 64, name="lora_unet_no_such_block"), "half of it": {f"{key}.lora_down.weight": torch.ones(2, 64)},
             "ranks that differ": {f"{key}.lora_down.weight": torch.ones(2, 64), f"{key}.lora_up.weight": torch.ones(64, 3)}, "of a vector": {f"{key}.lora_down.weight": torch.ones(7), f"{key}.lora_up.weight": torch.ones(7)},
             "alpha alone": {f"{key}.alpha": torch.tensor(1.0)}, "other tensors": {"a.b": torch.ones(3)}}
    for what, state in files.items():
        save_file(state, place / f"lora-{what.replace(' ', '-')}.safetensors")
        for folder in ("sd15", "sdxl"):
            refused(f"LoRA, {what}, {folder}", "draw", "x", "--model", folders / folder, "--lora", place / f"lora-{what.replace(' ', '-')}.safetensors", "--steps", 1, "-o", place / "o.png")
    tables = {"wrong width": {"emb_params": torch.ones(2, 7)}, "three dimensions": {"emb_params": torch.ones(2, 3, 72)}, "a scalar": {"emb_params": torch.tensor(1.0)},
              "two thousand vectors": {"emb_params": torch.ones(2000, 72)}, "other tensors": {"a": torch.ones(72), "b": torch.ones(72)}, "for T5": {"t5xxl": torch.ones(2, 72), "x": torch.ones(1)}}
    for what, state in tables.items():
        save_file(state, place / f"emb-{what.replace(' ', '-')}.safetensors")
        refused(f"embedding, {what}", "draw", "x", "--model", folders / "sd15", "--embedding", place / f"emb-{what.replace(' ', '-')}.safetensors", "--steps", 1, "-o", place / "o.png")
    save_file({"controlnet_cond_embedding.conv_in.weight": torch.ones(16, 3, 3, 3), "conv_in.weight": torch.ones(32, 4, 3, 3)}, place / "half.safetensors")
    for what, net, picture in [("half a ControlNet", place / "half.safetensors", "plain.png"), ("no ControlNet", place / "emb-wrong-width.safetensors", "plain.png"),
                               ("a U-Net that steers", folders / "sd15/unet", "plain.png"), ("no folder", place / "nowhere", "plain.png"), ("a picture that is none", place / "half.safetensors", "empty.safetensors")]:
        refused(f"control: {what}", "draw", "x", "--model", folders / "sd15", "--control", f"{net},{place / picture}", "--steps", 1, "-o", place / "o.png")
    for what, words in {"no picture": ["net"], "scale of letters": ["a,b,scale=x"], "end before start": ["a,b,start=0.6,end=0.5"]}.items():
        refused(f"control: {what}", "draw", "x", "--model", folders / "sd15", "--control", *words, "-o", place / "o.png")


def drawn(width, height):
    """A picture of slopes and a few squares."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 60 + (x + y) * 120 // max(width + height - 2, 1)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def pictures(place):
    """Pictures of every kind, whole and cut off."""
    base = drawn(40, 24)
    kinds = {}
    for mode in ("L", "P", "1", "RGBA", "LA", "I;16"):
        kinds[f"{mode} png"] = (base.convert("L").convert(mode, dither=Image.Dither.NONE) if mode in ("LA", "1") else Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else base.convert(mode), "png", {})
    half = base.convert("RGBA")
    half.putalpha(Image.fromarray((np.mgrid[0:24, 0:40][1] * 6).astype(np.uint8)))
    kinds["half transparent png"] = (half, "png", {})
    gray = base.convert("L").convert("LA")
    gray.putalpha(Image.fromarray((np.mgrid[0:24, 0:40][0] * 10).astype(np.uint8)))
    kinds["gray, half transparent png"] = (gray, "png", {})
    palette = base.convert("P")
    kinds["palette with a transparent colour"] = (palette, "png", dict(transparency=palette.getpixel((0, 0))))
    for name, mode, options in (("CMYK", "CMYK", {}), ("gray", "L", {}), ("progressive", "RGB", dict(progressive=True)), ("of 4:2:0", "RGB", dict(subsampling=2))):
        kinds[f"{name} jpg"] = (base.convert(mode), "jpg", dict(options, quality=97))
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        kinds[f"jpg turned {turn}"] = (base, "jpg", dict(exif=exif, quality=97))
    kinds["webp"] = (base, "webp", dict(quality=95))
    kinds["lossless webp with transparency"] = (half, "webp", dict(lossless=True, exact=True))
    kinds["animated webp"] = (base, "webp", dict(save_all=True, append_images=[base.rotate(90, expand=False)], duration=99, lossless=True))
    kinds["animated png"] = (base, "png", dict(save_all=True, append_images=[base.rotate(90, expand=False)]))
    kinds["one pixel"] = (drawn(1, 1), "png", {})
    kinds["a row"] = (drawn(33, 1), "png", {})
    kinds["a column"] = (drawn(1, 33), "png", {})
    for i, (name, (picture, end, options)) in enumerate(kinds.items()):
        file = place / f"kind{i}.{end}"
        picture.save(file, **options)
        opened = ImageOps.exif_transpose(Image.open(file))
        opened = opened.point(lambda value: value / 257).convert("L") if opened.mode.startswith("I") else opened
        layer = opened.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        right(f"picture, {name}", ["upscale", file, "-o", place / f"large{i}.png", "--quiet"], Image.alpha_composite(white, layer).convert("RGB"))
    for end in ("jpg", "png", "webp", "jpg "):
        whole = io.BytesIO()
        drawn(64, 48).save(whole, {"jpg": "jpeg", "jpg ": "jpeg"}.get(end, end), progressive=end == "jpg ")
        end = end.strip()
        whole = whole.getvalue()
        for share in (0.01, 0.02, 0.1, 0.3, 0.5, 0.6, 0.8, 0.9, 0.99):
            (place / f"cut{share}.{end}").write_bytes(whole[:int(len(whole) * share)])
            if share == 0.99 and end != "jpg":  # what is missing holds no pixels
                right(f"{end} cut at {share}", ["upscale", place / f"cut{share}.{end}", "-o", place / f"cut-{end}.png", "--quiet"], drawn(64, 48))
                continue
            refused(f"{end} cut at {share}", "upscale", place / f"cut{share}.{end}", "-o", place / "o.png")
        flipped = bytearray(whole)
        flipped[len(whole) // 2:len(whole) // 2 + 8] = b"\xff" * 8
        if end == "png":
            (place / f"flipped.{end}").write_bytes(flipped)
            refused(f"{end} with other bytes", "upscale", place / f"flipped.{end}", "-o", place / "o.png")
    header = bytearray(whole_png())
    header[16:24] = struct.pack(">II", 60_000, 60_000)
    (place / "huge.png").write_bytes(header)
    refused("png that says it is huge", "upscale", place / "huge.png", "-o", place / "o.png")
    for name, end in (("gif", "gif"), ("bmp", "bmp"), ("tiff", "tiff")):
        base.save(place / f"other.{end}")
        refused(f"a picture of another format, {name}", "upscale", place / f"other.{end}", "-o", place / "o.png")
    sized = lambda width, height, value: Image.new("L", (width, height), value)
    for words, why in ((["--timesteps", "1,2"], "rising"), (["--timesteps", "a"], "letters"), (["--timesteps", "1000"], "beyond"), (["--preset", "magic"], "unknown"),
                       (["--guidance-start", "0.9", "--guidance-end", "0.1"], "backwards"), (["--speedup", "spectrum", "--sampler", "heun", "--steps", "20"], "two calls"),
                       (["--speedup", "deepcache", "--sampler", "lcm"], "few steps"), (["--speedup", "warp"], "unknown")):
        refused(f"{words[0][2:]}, {why}", "draw", "x", *words, "-o", place / "o.png")
    sized(9, 9, 255).save(place / "square.png")
    sized(128, 128, 0).save(place / "black.png")
    drawn(128, 128).save(place / "init.png")
    for name, mask in (("mask of another shape", drawn(99, 9)), ("black mask", sized(128, 128, 0)), ("mask of one row", sized(128, 1, 255))):
        mask.save(place / f"{name}.png")
        refused(name, "draw", "x", "--init", place / "init.png", "--mask", place / f"{name}.png", "--steps", 1, "-o", place / "o.png")
    refused("a mask that is none", "draw", "x", "--init", place / "init.png", "--mask", place / "empty.safetensors", "--steps", 1, "-o", place / "o.png")


def whole_png():
    """A small PNG."""
    out = io.BytesIO()
    drawn(8, 8).save(out, "png")
    return out.getvalue()


def holds(ondine, place, words, picture):
    """What is wrong with a case, or nothing."""
    before = set(place.iterdir())
    done = subprocess.run([ondine, *words], capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stderr.splitlines() if line]
    if (place / "ran").exists():
        (place / "ran").unlink()
        return "IT RAN"
    if picture is None:
        errors = [line for line in lines if line.startswith("error: ")]
        if done.returncode not in (1, 2) or len(errors) != 1 or "panicked" in done.stderr:
            return f"exit {done.returncode}: {' / '.join(lines)[:300]}"
        if len(lines[-1]) > 700 or lines[-1] != errors[0]:
            return f"no clear line: {lines[-1][:200]}"
        left = set(place.iterdir()) - before
        return f"left {sorted(path.name for path in left)}" if left else None
    if done.returncode:
        return f"exit {done.returncode}: {' / '.join(lines)[:300]}"
    large = Image.open(words[words.index("-o") + 1]).convert("RGB")
    if large.size != (picture.width * 4, picture.height * 4):
        return f"{large.size} of {picture.size}"
    small = np.asarray(large.resize(picture.size, Image.BOX)).astype(float)
    error = np.square(small - np.asarray(picture).astype(float)).mean()
    decibels = -10 * np.log10(max(error, 1e-9) / 255 ** 2)
    return None if decibels > 20 else f"{decibels:.1f} dB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ondine", type=Path, required=True)
    parser.add_argument("--folders", type=Path, required=True, help="what folders.py made")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        drawn(24, 16).save(place / "plain.png")
        checkpoints(place, arguments.folders)
        ggufs(place)
        safetensors(place)
        adapters(place, arguments.folders)
        pictures(place)
        cases = [case for case in CASES if arguments.only in case[0]]
        held = 0
        for name, words, picture in cases:
            wrong = holds(arguments.ondine, place, words, picture)
            held += wrong is None
            if wrong:
                print(f"MISS {name}: {wrong}", flush=True)
    print(f"{held} of {len(cases)} cases hold")
    sys.exit(0 if held == len(cases) and cases else 1)


if __name__ == "__main__":
    main()
