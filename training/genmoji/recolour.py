"""Recoloured copies of pictures ("purple rocket"), so that colour words are learned apart from the things they colour.

No copy may show a held-out name: where one pairs a colour with a word ("blue book"), no picture whose name has that
word in it (be it "notebook") is painted in that colour.
"""

import random

import numpy as np
import torch
from PIL import Image

# hue in degrees, factor of saturation, exponent and factor of brightness
PAINTS = {
    "red": (0, 1.0, 1.0, 0.9), "orange": (26, 1.0, 0.7, 1.0), "yellow": (50, 0.9, 0.5, 1.0), "green": (120, 0.75, 1.0, 0.8),
    "blue": (214, 0.9, 1.0, 0.95), "purple": (275, 0.7, 1.0, 0.9), "pink": (335, 0.5, 0.6, 1.0), "brown": (24, 0.7, 1.0, 0.55),
    "black": (0, 0.0, 1.0, 0.3),
}  # fmt: skip
COLOUR_WORDS = {*PAINTS, "white", "gray", "grey", "golden", "silver"}
GROUPS = {"animals", "food", "travel", "activities", "objects"}
VIVID = 0.3  # saturation from which a pixel counts as coloured


def paint(picture, colour):
    """A uint8 (3, h, w) picture with every coloured pixel moved to one hue; greys and the white ground stay."""
    hue, more, bend, bright = PAINTS[colour]
    hsv = np.asarray(Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("HSV")) / np.float32(255)
    saturation, value = hsv[..., 1], hsv[..., 2]
    how = np.minimum(1, saturation / VIVID)
    value = value + how * (bright * value**bend - value)
    out = np.stack([np.full_like(value, hue / 360), saturation * more, value], axis=2)
    out = Image.fromarray((out.clip(0, 1) * 255).round().astype(np.uint8), "HSV").convert("RGB")
    return torch.from_numpy(np.array(out)).permute(2, 0, 1)


def vivid(picture):
    """Whether most of what is drawn (not near white) has a colour."""
    signed = picture.float() / 255
    top, low = signed.amax(0), signed.amin(0)
    drawn = low < 0.95
    return ((top - low)[drawn] > VIVID * top[drawn]).float().mean().item() > 0.55


def words(name):
    return set(name.lower().replace(":", " ").replace("-", " ").split())


def recoloured(pictures, records, style, forbidden, each=2, seed=7):
    """`each` recoloured copies of the fitting pictures of one style: (pictures, records)."""
    rng, painted, told = random.Random(seed), [], []
    barred = [(words(name) & COLOUR_WORDS, words(name) - COLOUR_WORDS) for name in forbidden]
    for picture, record in zip(pictures, records, strict=True):
        own = words(record["name"])
        if record["style"] != style or record["group"] not in GROUPS or record["skin"] or own & COLOUR_WORDS:
            continue
        if not vivid(picture):
            continue
        near = set().union(*(colours for colours, things in barred if any(t in record["name"] for t in things)))
        allowed = [colour for colour in PAINTS if colour not in near]
        for colour in rng.sample(allowed, each):
            painted.append(paint(picture, colour))
            told.append({**record, "name": f"{colour} {record['name']}", "tags": [], "painted": True})
    return torch.stack(painted), told
