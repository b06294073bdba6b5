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
    "weather", "geography", "containers", "electronics", "computer/hardware", "special", "unsorted", "decorations",
)  # fmt: skip
SKIPPED = ("duplicates", "cards", "logos", "icons", "maps", "flags", "patterns", "gradients", "borders", "symbols", "signs")
LARGEST = 250_000  # bytes of a drawing
UNITS = {None: 1.0, "px": 1.0, "pt": 1.25, "mm": 90 / 25.4, "cm": 90 / 2.54, "in": 90.0}  # pixels each, at the 90 dpi of their time
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


def sized(text):
    """The drawing with its size in plain numbers and a view box: the renderer takes no other without a box."""
    head = re.search(r"<svg\b[^>]*>", text)
    if head is None or "viewBox" in head[0]:
        return text
    sides = {}
    for side in ("width", "height"):
        found = re.search(rf'\b{side}="\s*([\d.]+)\s*(pt|mm|cm|in|px)?\s*"', head[0])
        if found is None:
            return text
        sides[side] = float(found[1]) * UNITS[found[2]]
    told = re.sub(r'\b(width|height)="[^"]*"', lambda found: f'{found[1]}="{sides[found[1]]:g}"', head[0])
    told = told[: 4] + f' viewBox="0 0 {sides["width"]:g} {sides["height"]:g}"' + told[4:]
    return text[: head.start()] + told + text[head.end() :]


def grey(picture):
    """Whether hardly anything drawn has a colour: line art."""
    _, saturation, value = np.asarray(picture.convert("HSV")).reshape(-1, 3).T
    drawn = (value < 242) | (saturation > 20)
    return (saturation[drawn] > 50).mean() < 0.1


def render(file):
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    title, words = told(text)
    if not (3 <= len(title) <= 36) or not title.isascii() or not re.search("[a-z]{3}", title):
        return None
    try:
        drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=sized(text), width=256))))
        if max(drawn.size) > 4 * min(drawn.size):
            return None
        found = framed(drawn)
    except Exception:  # whatever a broken drawing makes the renderer say
        return None
    if found is None or np.asarray(found[0]).std() < 12 or grey(found[0]):
        return None
    return title, words, webp(found[0], quality=70)


def held_names(pack):
    """The words of each held-out name."""
    with np.load(pack) as arrays:
        meta = json.loads(zlib.decompress(arrays["meta"].tobytes()))
    return [set(r["name"].lower().replace("-", " ").split()) - LITTLE for r in meta if r["heldout"]]


def barred(words, held):
    """Whether `words` hold a held-out name, in the singular or the plural."""
    said = {*words, *(w[:-1] for w in words if w.endswith("s"))}
    return any(name <= said for name in held)


def append(a, blobs, records):
    """Writes `a.pack` with further pictures as `a.out`."""
    with np.load(a.pack) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    meta = json.loads(zlib.decompress(parts["meta"].tobytes())) + records
    for name, empty in (("offset", False), ("opacity_offset", True)):
        sizes = [0 if empty else len(b) for b in blobs]
        parts[name] = np.concatenate([parts[name], parts[name][-1] + np.cumsum(sizes, dtype=np.int64)])
    parts["blob"] = np.concatenate([parts["blob"], np.frombuffer(b"".join(blobs), np.uint8)])
    parts["meta"] = np.frombuffer(zlib.compress(json.dumps(meta).encode(), 9), np.uint8)
    np.savez(a.out, **parts)
    print(f"{len(blobs)} pictures added, {sum(map(len, blobs))} bytes; {a.out.stat().st_size} bytes in all")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--source", type=Path, required=True)
    p.add_argument("--pack", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    held = held_names(a.pack)
    files = [f for f in sorted(a.source.rglob("*.svg")) if f.stat().st_size <= LARGEST]
    files = [f for f in files if str(f.relative_to(a.source)).startswith(TOPICS) and not any(s in str(f.relative_to(a.source)) for s in SKIPPED)]
    blobs, records, seen = [], [], set()
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
            if barred([w for t in (title, *words) for w in t.split()], held):
                continue
            seen.add(zlib.crc32(blob))
            blobs.append(blob)
            topic = file.relative_to(a.source).parts[0]
            records.append({"name": title, "tags": words, "group": "clipart", "skin": False, "code": topic, "style": "clipart", "heldout": False})
    append(a, blobs, records)


if __name__ == "__main__":
    main()
