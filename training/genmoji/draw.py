"""Draw every line of a prompts file, as one picture.

    python draw.py --model model --prompts prompts.txt --columns 20 --out grid.webp
"""

import argparse
from pathlib import Path

from diffusion import sheet
from program import Artist, add_options


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(p)
    p.add_argument("--prompts", type=Path, default=Path(__file__).with_name("prompts.txt"))
    p.add_argument("--out", type=Path, required=True, help="PNG or WebP")
    p.add_argument("--columns", type=int, default=20)
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--one-seed", action="store_true", help="the same seed for every prompt, instead of seed + position within chunks of 64")
    a = p.parse_args()
    prompts = [line.strip() for line in a.prompts.read_text().splitlines() if line.strip()]
    drawn = Artist(a)(prompts, a.seed, chunk=1 if a.one_seed else 64)
    sheet(drawn, a.columns).save(a.out, quality=80, method=6)


if __name__ == "__main__":
    main()
