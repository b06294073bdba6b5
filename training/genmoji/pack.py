"""The data pack: emoji pictures with their records, how often each is shown, and what it is called.

A pack is one `.npz` file with three arrays: `blob` (all pictures, WebP, end to end), `offset` (where each begins)
and `meta` (zlib-compressed JSON: one record per picture). A record holds `name`, `tags`, `group`, `style`,
`skin` (a skin-tone variant), `heldout` (never to be trained on) and `code` (the Unicode sequence).
"""

import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

PLAIN_STYLE = "fluent-3d"  # a prompt without a style word means this one
STYLE_SHARE = {
    "fluent-3d": 6.0, "fluent-flat": 0.9, "fluent-color": 0.9, "noto": 1.1, "old-noto": 0.5, "twemoji": 0.8, "emojione": 0.5, "streamline": 0.7, "fx": 0.5,
    "clipart": 0.8, "silhouette": 0.2,
}  # fmt: skip
ALONE = ("clipart", "silhouette")  # styles that also go without their word, for what no emoji shows
GROUP_SHARE = {
    "smileys": 1.5, "animals": 1.5, "food": 1.5, "activities": 1.2, "objects": 1.2, "travel": 1.1,
    "people": 0.9, "symbols": 0.5, "flags": 0.2, "clipart": 1.0, "silhouette": 1.0,
}  # fmt: skip
SKIN_SHARE = 0.1


def read_pack(path, wanted=lambda record: True):
    """Pictures as uint8 (n, 3, 128, 128) and the records of those that are `wanted`."""
    with np.load(path) as arrays:
        records = json.loads(zlib.decompress(arrays["meta"].tobytes()))
        blob, offset = arrays["blob"].tobytes(), arrays["offset"].tolist()
    chosen = [n for n, record in enumerate(records) if wanted(record)]
    pictures = torch.empty(len(chosen), 3, 128, 128, dtype=torch.uint8)

    def decode(row):
        n = chosen[row]
        with Image.open(io.BytesIO(blob[offset[n] : offset[n + 1]])) as picture:
            pictures[row] = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode, range(len(chosen))))
    return pictures, [records[n] for n in chosen]


def read_cut_outs(path):
    """Pictures, opacities (uint8) and records of the plain style without skin-tone variants: what scenes are made of."""
    pictures, records = read_pack(path, lambda r: r["style"] == PLAIN_STYLE and not r["skin"])
    with np.load(path) as arrays:
        blob, offset = arrays["opacity"].tobytes(), arrays["opacity_offset"].tolist()
    parts = [blob[a:b] for a, b in zip(offset, offset[1:], strict=False) if b > a]
    opacity = torch.empty(len(parts), 128, 128, dtype=torch.uint8)
    for row, part in enumerate(parts):
        with Image.open(io.BytesIO(part)) as mask:
            opacity[row] = torch.from_numpy(np.array(mask.convert("L")))
    return pictures, opacity, records


def boxes(opacity):
    """(left, top, right, bottom) of what each picture shows, in 0..1."""
    found = []
    for mask in (opacity > 40).numpy():
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        found.append((columns[0] / 128, rows[0] / 128, (columns[-1] + 1) / 128, (rows[-1] + 1) / 128))
    return found


def to_signed(pictures):
    """uint8 pictures to floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def share(record):
    """Relative frequency of a picture in training."""
    part = SKIN_SHARE if record["skin"] else 1.0
    return STYLE_SHARE[record["style"]] * GROUP_SHARE[record["group"]] * part


FRAMES = (
    "{a}", "{a}", "{a}", "the {}", "{} emoji", "an emoji of {a}", "a picture of {a}", "a drawing of {a}", "a {} sticker", "a cute {}", "a beautiful {}", "a funny {}",
    "one {}", "draw {a}", "an icon of {a}", "a nice {}",
)  # fmt: skip
STYLED = ("{}, {style} style", "{} in {style} style", "{style} style {}")
VOWELS = tuple("aeiou")


def with_article(noun):
    return f"{'an' if noun.startswith(VOWELS) else 'a'} {noun}"


def describe(record, rng, aliases=(), common=frozenset()):
    """One caption of a picture, drawn with `rng` (random.Random): its name, another name for it, or keywords.

    `aliases` are other names; pictures of the styles `ALONE` go without their style word where the name holds a word that is not `common`.
    """
    name, tags = record["name"].lower().replace(":", ","), record["tags"]
    kind = rng.random()
    if aliases and kind < 0.45:
        words = rng.choice(aliases)
    elif not tags or kind < 0.78:
        words = name
    elif kind < 0.9:
        pair = [rng.choice([name, *aliases]), rng.choice(tags)]
        rng.shuffle(pair)
        words = " ".join(pair)
    else:
        words = " ".join(rng.sample(tags, min(len(tags), rng.randint(1, 4))))
    if rng.random() < 0.4:
        words = rng.choice(FRAMES).format(words, a=words if words.startswith(("a ", "an ", "the ")) else with_article(words))
    plain = record["style"] == PLAIN_STYLE and rng.random() < 0.9
    known_nowhere_else = record["style"] in ALONE and set(record["name"].split()) - common and rng.random() < 0.7
    if not (plain or known_nowhere_else):
        words = rng.choice(STYLED).format(words, style=record["style"])
    return words
