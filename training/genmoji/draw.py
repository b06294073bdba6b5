"""Draw every line of a prompts file, as one picture.

    python draw.py --model model --prompts prompts.txt --columns 20 --out grid.webp
"""

import argparse
from pathlib import Path

from diffusion import draw_all, load_networks, sheet
from text import TextEncoder


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--prompts", type=Path, default=Path(__file__).with_name("prompts.txt"))
    p.add_argument("--out", type=Path, required=True, help="PNG or WebP")
    p.add_argument("--columns", type=int, default=20)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--device", default="cpu")
    a = p.parse_args()
    prompts = [line.strip() for line in a.prompts.read_text().splitlines() if line.strip()]
    networks, encoder = load_networks(a.model, a.device), TextEncoder(a.model / "text_encoder", a.device)
    drawn = draw_all(*networks, encoder, prompts, steps=a.steps, guidance=a.guidance, seed=a.seed)
    sheet(drawn, a.columns).save(a.out, quality=80, method=6)


if __name__ == "__main__":
    main()
