"""Do drawings of composed scenes show what their captions say? 400 captions by rule, of combinations never trained on.

    python judge.py --pack pack.npz --model model

Colour: "a purple rocket"; the drawing's colours must be nearest to those of the thing painted in that colour, among all
paints. Count: "three apples"; so many separate things of like size must be there. Place: "a cat to the left of a heart",
also right, above, below; the part of the drawing on each side must look like what was said to be there rather than like
the other. Scenes rendered by rule go through the same judge first (`--rule`): what it says of those is what it can say at most.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from data import make_composer
from diffusion import sheet
from pack import read_cut_outs
from program import Artist, add_options
from recolour import PAINTS
from scenes import COUNTLESS, NUMBERS, Painter, Piece, Scene, article, kept_back, plural, to_arrays
from scipy import ndimage
from torch.nn import functional as F

EACH = {"colour": 134, "count": 133, "place": 133}
FAR = 0.1  # difference from white of a pixel that is drawn


def drawn_pixels(picture):
    """Where a picture (3, h, w) in [0, 1] on white shows something."""
    return ((1 - picture).amax(0) > FAR).numpy()


def blobs(picture):
    """Sizes and boxes of the separate things in a picture, largest first; specks are none."""
    mask = ndimage.binary_closing(np.pad(drawn_pixels(picture), 4), iterations=2)[4:-4, 4:-4]
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    found = sorted(zip(sizes, ndimage.find_objects(labels), strict=True), key=lambda pair: -pair[0])
    return [(size, box) for size, box in found if size > 40]


def one_piece(picture):
    found = blobs(picture)
    return len(found) == 1 or (len(found) > 1 and found[1][0] < 0.05 * found[0][0])


def histogram(picture):
    """Share of each hue, light and dark, among the drawn pixels."""
    pixels = picture.permute(1, 2, 0).numpy()[drawn_pixels(picture)]
    if len(pixels) < 20:
        return np.zeros(26)
    top, low = pixels.max(1), pixels.min(1)
    spread = top - low
    vivid = spread > 0.25 * top
    r, g, b = pixels.T
    safe = np.maximum(spread, 1e-6)
    hue = np.select([top == r, top == g], [(g - b) / safe % 6, (b - r) / safe + 2], (r - g) / safe + 4) / 6
    bright = top > 0.6
    bins = np.where(vivid, (hue * 12).round().astype(int) % 12 + 12 * bright, 24 + bright)
    return np.bincount(bins, minlength=26) / len(pixels)


def count_of(picture):
    found = blobs(picture)
    return sum(size > 0.3 * found[0][0] for size, _ in found) if found else 0


def cut(picture, rows, columns):
    """What is drawn in a part of a picture, brought to 24x24 on white."""
    part = picture[:, rows, columns]
    mask = drawn_pixels(part)
    if mask.sum() < 40:
        return None
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = part[:, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    high, wide = part.shape[1:]
    side = max(high, wide)
    paper = torch.ones(3, side, side)
    top, left = (side - high) // 2, (side - wide) // 2
    paper[:, top : top + high, left : left + wide] = part
    return F.interpolate(paper[None], (24, 24), mode="area")[0]


def sides(picture, beside):
    """The two parts of a picture, left and right or upper and lower, parted where least is drawn near the middle."""
    mask = drawn_pixels(picture)
    along = mask.sum(0 if beside else 1)
    middle = 40 + int(np.argmin(along[40:88] + 0.05 * abs(np.arange(40, 88) - 64)))
    whole = slice(None)
    if beside:
        return cut(picture, whole, slice(0, middle)), cut(picture, whole, slice(middle, None))
    return cut(picture, slice(0, middle), whole), cut(picture, slice(middle, None), whole)


class Judge:
    def __init__(self, pack):
        pictures, opacity, records = read_cut_outs(pack)
        self.composer = make_composer(pictures, opacity, records)
        self.painter = Painter(pictures, opacity)
        self.pictures = pictures.float() / 255
        self.small = [cut(p, slice(None), slice(None)) for p in self.pictures]

    def things(self):
        """Things that are one piece and are told apart from each other by eye."""
        c = self.composer
        return [n for n in c.things if "p" not in c.words[n][0] and one_piece(self.pictures[c.row[n]]) and c.words[n][1][0].split()[-1] not in COUNTLESS]

    def prompts(self, seed=3):
        """(kind, caption, scene by rule, facts), combinations that `kept_back` keeps from training."""
        rng, c, things, found = random.Random(seed), self.composer, self.things(), []
        noun = {name: c.words[name][1][0] for name in things}
        things = [name for name in things if not noun[name].startswith("pair ")]
        c.rng = random.Random(seed)
        free = {n: c.paints[n] for n in things if c.paints[n]}
        while len(found) < EACH["colour"]:
            name, paint = rng.choice(list(free)), rng.choice(list(PAINTS))
            said = f"a {paint} {noun[name]}".replace("a orange", "an orange")
            barred = c.names_held_back(said) or paint == c.hues[c.row[name]]
            if kept_back("colour", paint, name) and not barred:
                scene = Scene(said, [Piece(c.row[name], 0.5, 0.5, 0.98, paint=paint)])
                found.append(("colour", said, scene, (name, paint)))
        while len(found) < EACH["colour"] + EACH["count"]:
            name, n = rng.choice(things), rng.randint(1, 4)
            if kept_back("count", n, name):
                said = f"{NUMBERS[n][0]} {noun[name] if n == 1 else plural(noun[name])}"
                found.append(("count", said, Scene(said, c.rows(name, n)), n))
        while len(found) < sum(EACH.values()):
            a, b = rng.sample(things, 2)
            beside, turned = rng.random() < 0.5, rng.random() < 0.5
            said = "{} {} {}".format(*(
                (article(noun[b]), "to the right of" if beside else "below", article(noun[a])) if turned
                else (article(noun[a]), "to the left of" if beside else "above", article(noun[b]))
            ))  # fmt: skip
            if kept_back("pair", a, "beside" if beside else "over", b) and noun[a] != noun[b] and not c.names_held_back(said):
                found.append(("place", said, Scene(said, c.places(a, b, beside)), (a, b, beside)))
        return found

    def right(self, kind, picture, facts):
        if kind == "count":
            return count_of(picture) == facts
        if kind == "colour":
            name, paint = facts
            copies = [Scene("", [Piece(self.composer.row[name], 0.5, 0.5, 0.98, paint=p)]) for p in PAINTS]
            seen = histogram(picture)
            errors = [np.abs(histogram(p) - seen).sum() for p in self.painter(*to_arrays(copies))]
            return list(PAINTS)[int(np.argmin(errors))] == paint
        a, b, beside = facts
        found = sides(picture, beside)
        if any(part is None for part in found):
            return False
        errors = [[min((part - self.small[self.composer.row[n]]).square().mean(), (part - self.small[self.composer.row[n]].flip(2)).square().mean()) for n in (a, b)] for part in found]
        # Each side is nearer to what should be there, and what is there is more like it than most other things are.
        return bool(errors[0][0] < errors[0][1] and errors[1][1] < errors[1][0]) and self.known(found[0], a) and self.known(found[1], b)

    def known(self, part, name):
        """Whether a thing is among the 5 % of all pictures that a part of a drawing resembles most."""
        errors = torch.stack([torch.minimum((part - s).square().mean(), (part - s.flip(2)).square().mean()) for s in self.small if s is not None])
        own = self.small[self.composer.row[name]]
        own = min((part - own).square().mean(), (part - own.flip(2)).square().mean())
        return bool((errors < own).float().mean() < 0.05)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    add_options(p)
    p.add_argument("--rule", action="store_true", help="judge the scenes as rendered by rule")
    p.add_argument("--out", type=Path, help="PNG: every drawing")
    a = p.parse_args()
    judge = Judge(a.pack)
    asked = judge.prompts()
    if a.rule:
        drawn = torch.cat([judge.painter(*to_arrays([scene])) for _, _, scene, _ in asked])
    else:
        drawn = Artist(a)([said for _, said, _, _ in asked])
    marks = [judge.right(kind, picture, facts) for (kind, _, _, facts), picture in zip(asked, drawn, strict=True)]
    for kind in EACH:
        these = [mark for mark, (k, *_) in zip(marks, asked, strict=True) if k == kind]
        print(f"{kind}: {sum(these)} of {len(these)} right, {sum(these) / len(these):.1%}")
    if a.out:
        sheet(drawn, 20).save(a.out)


if __name__ == "__main__":
    main()
