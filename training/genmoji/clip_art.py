"""Add Debian's public-domain clip art to the pack: pictures for words that no emoji has, in the style `clipart`.

    apt-get download openclipart-svg && dpkg -x openclipart-svg_*.deb clipart
    python clip_art.py --source clipart/usr/share/openclipart/svg --pack pack.npz --out pack.npz

Pictures whose title or keywords hold a held-out name are left out.
"""

import argparse
import io
import json
import multiprocessing
import re
import zlib
from pathlib import Path

import numpy as np
import resvg_py
from build_pack import framed, webp
from PIL import Image
from scenes import LITTLE

TOPICS = (
    "animals", "food", "plants", "transportation", "buildings", "people", "tools", "recreation", "science", "education", "office", "household", "clothing",
    "weather", "geography", "containers", "electronics", "computer/hardware",
)  # fmt: skip
SKIPPED = ("duplicates", "cards", "logos", "icons", "maps", "flags", "patterns", "gradients", "borders", "symbols", "signs")
LARGEST = 250_000  # bytes of a drawing
NOISE = re.compile(r"\b(architetto|francesco|rollandin|archite|arc|svg|icon|clip ?art|by|jarno|vasamaa|gerald|g|lineart|outline|remix|simple|bw|b&w|colou?r|version|ganson|john|anonymous|drawing)\b")


def cleaned(text):
    text = re.sub(r"[_\-.,;:/()\[\]#\d]+", " ", text.lower())
    return " ".join(NOISE.sub(" ", text).split())


def told(text):
    """Title and keywords of a drawing."""
    title = re.search(r"<dc:title>\s*([^<]+?)\s*</dc:title>", text)
    words = re.findall(r"<rdf:li[^>]*>\s*([^<]+?)\s*</rdf:li>", text)
    words = [cleaned(w) for w in words]
    skipped = {"", "unsorted", "outlined", "clip art", "clipart", "image", "media", "public domain", "png", "svg", "contour", "coloring book"}
    return cleaned(title[1]) if title else "", [w for w in dict.fromkeys(words) if w not in skipped and w.isascii() and len(w) < 25][:10]


def render(file):
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    title, words = told(text)
    if not (3 <= len(title) <= 36) or not title.isascii() or not re.search("[a-z]{3}", title):
        return None
    try:
        drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=256))))
        if max(drawn.size) > 4 * min(drawn.size):
            return None
        found = framed(drawn)
    except Exception:  # whatever a broken drawing makes the renderer say
        return None
    if found is None or np.asarray(found[0]).std() < 12:
        return None
    return title, words, webp(found[0], quality=70)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--source", type=Path, required=True)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    with np.load(a.pack) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    meta = json.loads(zlib.decompress(parts["meta"].tobytes()))
    held = [set(r["name"].lower().replace("-", " ").split()) - LITTLE for r in meta if r["heldout"]]
    files = [f for f in sorted(a.source.rglob("*.svg")) if f.stat().st_size <= LARGEST]
    files = [f for f in files if str(f.relative_to(a.source)).startswith(TOPICS) and not any(s in str(f.relative_to(a.source)) for s in SKIPPED)]
    blobs, opacities, seen, size = [], [], set(), 0
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=400) as pool:
        tasks = [pool.apply_async(render, (str(f),)) for f in files]
        for file, task in zip(files, tasks, strict=True):
            try:
                found = task.get(timeout=60)
            except multiprocessing.TimeoutError:
                continue
            if found is None or zlib.crc32(found[2]) in seen:
                continue
            title, words, blob = found
            said = {w for t in (title, *words) for w in t.split()}
            said |= {w[:-1] for w in said if w.endswith("s")}
            if any(name <= said for name in held):
                continue
            seen.add(zlib.crc32(blob))
            blobs.append(blob)
            group = file.relative_to(a.source).parts[0]
            meta.append({"name": title, "tags": words, "group": "clipart", "skin": False, "code": group, "style": "clipart", "heldout": False})
    offset = parts["offset"]
    parts["blob"] = np.concatenate([parts["blob"], np.frombuffer(b"".join(blobs), np.uint8)])
    parts["offset"] = np.concatenate([offset, offset[-1] + np.cumsum([len(b) for b in blobs])])
    parts["opacity_offset"] = np.concatenate([parts["opacity_offset"], np.full(len(blobs), parts["opacity_offset"][-1])])
    parts["meta"] = np.frombuffer(zlib.compress(json.dumps(meta).encode(), 9), np.uint8)
    np.savez(a.out, **parts)
    print(f"{len(blobs)} pictures added, {sum(map(len, blobs))} bytes; {a.out.stat().st_size} bytes in all")


if __name__ == "__main__":
    main()
