"""Add the silhouettes of game-icons.net to the pack: shapes for thousands of words that no emoji has, as masks in the style `silhouette`.

    npm pack @iconify-json/game-icons@1.2.4 && mkdir game-icons && tar xzf iconify-json-game-icons-1.2.4.tgz -C game-icons --strip-components 1
    python silhouettes.py --source game-icons --pack pack.npz --out pack.npz

A picture is black on white; `recolour.moulded` gives it colour and depth when training begins. Those whose name holds a
held-out name are left out.
"""

import argparse
import io
import re
from pathlib import Path

import numpy as np
import resvg_py
from build_pack import drawing, framed, read, webp
from clip_art import append, barred, held_names
from PIL import Image

VAGUE = re.compile(r"\d|abstract|logic gate|plain|domino|card|letter|capitals|arrow|cursor|symbol|tile|sigil|rune")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--source", type=Path, required=True)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    icons, held = read(a.source / "icons.json"), held_names(a.pack)
    blobs, records = [], []
    for name in icons["icons"]:
        words = name.replace("-", " ")
        if VAGUE.search(words) or barred(words.split(), held):
            continue
        text = drawing(icons, name).replace("currentColor", "black")
        found = framed(Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=256, height=256)))))
        if found is None or not 0.1 < (np.asarray(found[1]) > 127).mean() < 0.8:
            continue
        blobs.append(webp(Image.merge("RGB", [found[1].point(lambda alpha: 255 - alpha)] * 3), quality=40))
        records.append({"name": words, "tags": [], "group": "silhouette", "skin": False, "code": "", "style": "silhouette", "heldout": False})
    append(a, blobs, records)


if __name__ == "__main__":
    main()
