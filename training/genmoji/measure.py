"""How near are drawings of known names to their pictures, one by one and as a set?

    python measure.py --pack pack.npz --model model --perception stlpips --inception inception

One by one: the mean perceptual distance over the 240 names that `check.py` asks for. As a set: the Frechet distance
between Inception features of drawings of training names (each name once, then again with other seeds, up to `--count`) and
of the true pictures of those names. How to get the two networks is told in `judges.py`.
"""

import argparse
import random
from pathlib import Path

import torch
from check import COUNT, UNASKED
from judges import Inception, Perception, frechet
from pack import PLAIN_STYLE, read_pack
from program import Artist, add_options


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    add_options(p)
    p.add_argument("--perception", type=Path, help="unpacked stlpips-pytorch")
    p.add_argument("--inception", type=Path, help="model.json and weights.bin of NSFWJS")
    p.add_argument("--count", type=int, default=2000, help="drawings of the set")
    a = p.parse_args()
    pictures, records = read_pack(a.pack, lambda r: r["style"] == PLAIN_STYLE and not r["skin"])
    shown = [n for n, r in enumerate(records) if not r["heldout"]]
    draw = Artist(a)

    def drawings(rows, seed=42):
        return draw([records[n]["name"].lower() for n in rows], seed)

    if a.perception:
        rows = random.Random(1).sample([n for n in shown if records[n]["group"] not in UNASKED], COUNT)
        perception, drawn = Perception(a.perception), drawings(rows)
        pairs = zip(drawn.split(16), (pictures[rows] / 255).split(16), strict=True)
        distance = torch.cat([perception(x, y) for x, y in pairs])
        print(f"perceptual distance over {COUNT} known names: mean {distance.mean():.4f}, median {distance.median():.4f}", flush=True)
    if a.inception:
        inception, rng, rows = Inception(a.inception), random.Random(2), []
        while len(rows) < a.count:
            rows += rng.sample(shown, min(len(shown), a.count - len(rows)))
        drawn = torch.cat([inception(part) for part in drawings(rows, seed=1000).split(16)])
        true = torch.cat([inception(part / 255) for part in pictures[rows].split(16)])
        print(f"Frechet distance of {len(rows)} drawings to the true pictures: {frechet(drawn, true):.3f}")


if __name__ == "__main__":
    main()
