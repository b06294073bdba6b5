"""The data pack: emoji pictures with their records, how often each is shown, and what it is called.

A pack is one `.npz` file with three arrays: `blob` (all pictures, WebP, end to end), `offset` (where each begins)
and `meta` (zlib-compressed JSON: one record per picture). A record holds `name`, `tags`, `group`, `style`,
`skin` (a skin-tone variant), `heldout` (never to be trained on) and `code` (the Unicode sequence).
"""

import io
import json
import zlib

import numpy as np
import torch
from PIL import Image

PLAIN_STYLE = "fluent-3d"  # a prompt without a style word means this one
STYLE_SHARE = {"fluent-3d": 6.0, "fluent-flat": 1.5, "noto": 1.5, "twemoji": 1.0, "emojione": 0.6, "fx": 0.6}
GROUP_SHARE = {
    "smileys": 1.5, "animals": 1.5, "food": 1.5, "activities": 1.2, "objects": 1.2, "travel": 1.1,
    "people": 0.4, "symbols": 0.4, "flags": 0.1,
}  # fmt: skip
SKIN_SHARE = 0.1
PAINTED_SHARE = 0.08  # of a recoloured copy


def read_pack(path, wanted=lambda record: True):
    """Pictures as uint8 (n, 3, 128, 128) and the records of those that are `wanted`."""
    with np.load(path) as arrays:
        records = json.loads(zlib.decompress(arrays["meta"].tobytes()))
        blob, offset = arrays["blob"].tobytes(), arrays["offset"].tolist()
    chosen = [n for n, record in enumerate(records) if wanted(record)]
    pictures = torch.empty(len(chosen), 3, 128, 128, dtype=torch.uint8)
    for row, n in enumerate(chosen):
        with Image.open(io.BytesIO(blob[offset[n] : offset[n + 1]])) as picture:
            pictures[row] = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    return pictures, [records[n] for n in chosen]


def to_signed(pictures):
    """uint8 pictures to floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def share(record):
    """Relative frequency of a picture in training."""
    part = SKIN_SHARE if record["skin"] else PAINTED_SHARE if record.get("painted") else 1.0
    return STYLE_SHARE[record["style"]] * GROUP_SHARE[record["group"]] * part


FRAMES = ("a {}", "the {}", "{} emoji", "an emoji of a {}", "a picture of {}", "a cute {}")
STYLED = ("{}, {style} style", "{} in {style} style", "{style} style {}")


def describe(record, rng):
    """One caption of a picture, drawn with `rng` (random.Random): its name, name and tag, or tags alone."""
    name, tags = record["name"].lower().replace(":", ","), record["tags"]
    kind = rng.random()
    if not tags or kind < 0.64:
        words = name
    elif kind < 0.82:
        pair = [name, rng.choice(tags)]
        rng.shuffle(pair)
        words = " ".join(pair)
    else:
        words = " ".join(rng.sample(tags, min(len(tags), rng.randint(2, 4))))
    if rng.random() < 0.25:
        words = rng.choice(FRAMES).format(words)
    if record["style"] != PLAIN_STYLE or rng.random() < 0.2:
        words = rng.choice(STYLED).format(words, style=record["style"])
    return words
