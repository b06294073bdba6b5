"""Does a picture drawn for a name look most like that emoji, and is it a copy of one?

    python check.py --model model

Draws 240 training names and all held-out names in the plain style. The nearest training picture of that style (mean
squared error at 32x32) should be the one asked for; for a held-out name, its never-shown picture should be nearer
than every training picture.
"""

import argparse
import random
from pathlib import Path

import torch
from diffusion import sheet
from pack import PLAIN_STYLE, read_pack
from program import Artist, add_options
from torch.nn import functional as F

COUNT = 240
UNASKED = ("people", "symbols", "flags")  # groups of near-duplicates
COPY = 0.002  # a drawing this near to a training picture counts as copied


def thumbnails(pictures):
    return F.avg_pool2d(pictures, 4).flatten(1)


def compare(drawn, own, bank):
    """Mean squared errors: of each drawing to its own picture (n), and to every training picture (n, m)."""
    drawn = thumbnails(drawn)
    return (drawn - own).square().mean(1), torch.cdist(drawn, bank).square() / bank.shape[1]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    add_options(p)
    p.add_argument("--out", type=Path, help="PNG: rows of drawings, each above a row of their nearest pictures")
    a = p.parse_args()
    pictures, records = read_pack(a.pack, lambda r: r["style"] == PLAIN_STYLE and not r["skin"])
    shown = [n for n, r in enumerate(records) if not r["heldout"]]
    small = thumbnails(pictures / 255)
    bank = small[shown]
    draw = Artist(a)
    askable = [n for n in shown if records[n]["group"] not in UNASKED]
    asked = {
        "training": random.Random(1).sample(askable, COUNT),
        "held-out": [n for n, r in enumerate(records) if r["heldout"]],
    }
    rows = []
    for title, wanted in asked.items():
        names = [records[n]["name"].lower() for n in wanted]
        drawn = draw(names)
        own, others = compare(drawn, small[wanted], bank)
        best = others.min(1)
        nearest = own <= best.values + 1e-6
        among_five = (others < own[:, None] - 1e-6).sum(1) < 5
        copies = best.values < COPY
        print(
            f"{len(names)} {title} names: own picture nearest {nearest.float().mean():.1%}, among the nearest five "
            f"{among_five.float().mean():.1%}; copies {copies.float().mean():.1%}; mean squared error to the own "
            f"picture {own.mean():.4f}, to the nearest {best.values.mean():.4f}",
            flush=True,
        )
        for n in range(0, min(48, len(names)), 12):
            rows += [drawn[n : n + 12], pictures[[shown[m] for m in best.indices[n : n + 12].tolist()]] / 255]
    print(f"chance {1 / len(shown):.2%}")
    if a.out:
        sheet(torch.cat(rows), 12).save(a.out)


if __name__ == "__main__":
    main()
