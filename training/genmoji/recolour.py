"""Recoloured copies of pictures ("purple rocket"), so that colour words are learned apart from the things they colour.

No copy may show a held-out name: where one pairs a colour with a word ("blue book"), no picture whose name has that
word in it (be it "notebook") is painted in that colour.
"""

import zlib

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

# hue in degrees, factor of saturation, exponent and factor of brightness
PAINTS = {
    "red": (0, 1.0, 1.0, 0.9), "orange": (26, 1.0, 0.7, 1.0), "yellow": (50, 0.9, 0.5, 1.0), "green": (120, 0.75, 1.0, 0.8),
    "blue": (214, 0.9, 1.0, 0.95), "purple": (275, 0.7, 1.0, 0.9), "pink": (335, 0.5, 0.6, 1.0), "brown": (24, 0.7, 1.0, 0.55),
    "black": (0, 0.0, 1.0, 0.3),
}  # fmt: skip
COLOUR_WORDS = {*PAINTS, "white", "gray", "grey", "golden", "silver"}
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


CLAY = {
    "red": (225, 52, 62), "orange": (247, 138, 44), "yellow": (250, 200, 55), "green": (72, 168, 84), "blue": (58, 130, 225), "purple": (142, 88, 205), "pink": (245, 130, 180),
    "brown": (142, 96, 66), "black": (48, 48, 56), "gray": (150, 152, 162), "turquoise": (50, 185, 190), "white": (232, 232, 240),
}  # fmt: skip


def clay_order(name):
    """The words of `CLAY` in an order that belongs to the silhouette called `name`."""
    words = list(CLAY)
    first = zlib.crc32(name.encode()) % len(words)
    return [words[(first + 5 * turn) % len(words)] for turn in range(len(words))]


def moulded(silhouettes, colours):
    """Silhouettes (uint8, black on white, (n, 3, h, w)) as things with depth, lit from the upper left, in the colours of `CLAY`."""
    mask = 1 - silhouettes[:, :1].float() / 255
    height = sum(F.avg_pool2d(mask, k, 1, k // 2) for k in (3, 7, 13)) / 3 * mask
    slope = [F.pad(height.diff(dim=d), (0, 1) if d == 3 else (0, 0, 0, 1)) for d in (2, 3)]
    light = F.avg_pool2d(slope[0] + slope[1], 3, 1, 1) * 2.2
    line = torch.linspace(1.08, 0.86, mask.shape[2], device=mask.device)[:, None]
    clay = torch.tensor([CLAY[c] for c in colours], device=mask.device).view(-1, 3, 1, 1) / 255
    shaded = (clay * line * (1 + light.clamp(-0.45, 0))).clamp(0, 1)
    shaded = shaded + (1 - shaded) * light.clamp(0, 0.5)
    return ((1 - mask + mask * shaded).clamp(0, 1) * 255).round().byte()


HUES = (("red", 12), ("orange", 40), ("yellow", 68), ("green", 165), ("blue", 250), ("purple", 300), ("pink", 345), ("red", 361))


def own_colour(picture):
    """The word for the colour that most of a uint8 picture on white has, or ""."""
    hsv = np.asarray(Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("HSV")).reshape(-1, 3) / np.float32(255)
    hsv = hsv[~((hsv[:, 1] < 0.06) & (hsv[:, 2] > 0.94))]
    if len(hsv) == 0:
        return ""
    hue, saturation, value = hsv.T
    coloured = saturation > VIVID
    counts = {}
    for bright, colour in ((True, None), (False, "brown")):
        chosen = hue[coloured & ((value > 0.62) == bright)] * 360
        low = 0
        for word, high in HUES:
            word = colour if colour and word in ("red", "orange") and not bright else word
            counts[word] = counts.get(word, 0) + int(((chosen >= low) & (chosen < high)).sum())
            low = high
    counts["black"] = int((~coloured & (value < 0.35)).sum())
    counts["white"] = int((~coloured & (value > 0.85)).sum())
    word = max(counts, key=counts.get)
    return word if counts[word] > 0.7 * len(hsv) else ""
