"""Build `pack.npz` from public emoji sets: pictures of 128x128 on white with names, tags, groups and style words.

Those of the plain style also come with their opacity, so that scenes can be composed of them.

    mkdir sources && cd sources
    for p in @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/fluent-emoji@1.2.7 \\
             @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/streamline-emojis@1.2.4 \\
             @iconify-json/twemoji@1.2.5 @iconify-json/emojione@1.2.3 @iconify-json/fxemoji@1.2.2 \\
             emojibase-data@17.0.0 emojilib@4.0.3 cldr-annotations-full@48.2.0; do
        d=${p##*/}; d=${d%@*}; mkdir $d && tar xzf "$(npm pack $p)" -C $d --strip-components 1
    done && cd ..
    pip install numpy pillow resvg-py && python build_pack.py --sources sources
"""

import argparse
import io
import json
import random
import re
import zlib
from pathlib import Path

import numpy as np
import resvg_py
from pack import PLAIN_STYLE
from PIL import Image

HERE = Path(__file__).parent
SIDE, MARGIN = 128, 4
STYLES = {  # style word: package, part of its skin-tone variants that is kept
    "fluent-3d": ("fluent-emoji-3d", 0.35),
    "fluent-flat": ("fluent-emoji-flat", 0.1),
    "fluent-color": ("fluent-emoji", 0.1),
    "noto": ("noto", 0.15),
    "old-noto": ("noto-v1", 0.0),
    "twemoji": ("twemoji", 0.1),
    "emojione": ("emojione", 0.0),
    "streamline": ("streamline-emojis", 0.0),
    "fx": ("fxemoji", 0.0),
}
GROUPS = (
    "smileys", "people", "component", "animals", "food", "travel", "activities", "objects", "symbols", "flags",
)  # fmt: skip
SHORTCODES = ("cldr", "emojibase", "github", "iamcal", "joypixels", "emojibase-legacy")
SELECTOR = "\ufe0f"
TAG = re.compile(r"[a-z][a-z' -]{2,24}")
MOST_TAGS = 16


def key(code):
    """A Unicode sequence without variation selectors: what one emoji is called in all sets."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def letters(text):
    return "".join(re.findall("[a-z0-9]", text.lower()))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tags_of(emoji, sources):
    """Keywords of an emojibase entry from all three word lists, each once, without the name itself."""
    plain, found = emoji["emoji"].replace(SELECTOR, ""), list(emoji.get("tags", []))
    for char in (plain, emoji["emoji"]):
        if char in sources["cldr"]:
            found += sources["cldr"][char].get("default", [])
            break
    more = sources["emojilib"].get(emoji["emoji"]) or sources["emojilib"].get(plain, [])
    found = [word.lower() for word in found + [word.replace("_", " ") for word in more]]
    found = dict.fromkeys(word for word in found if TAG.fullmatch(word) and word != emoji["label"].lower())
    return list(found)[:MOST_TAGS]


def catalogue(folder):
    """Records by key, skin-tone variants among them."""
    sources = {
        "emojilib": read(folder / "emojilib/dist/emoji-en-US.json"),
        "cldr": read(folder / "cldr-annotations-full/annotations/en/annotations.json")["annotations"]["annotations"],
    }
    records = {}
    for emoji in read(folder / "emojibase-data/en/data.json"):
        group = emoji.get("group")
        if group is None or GROUPS[group] == "component":
            continue
        common = {"tags": tags_of(emoji, sources), "group": GROUPS[group]}
        for variant in (emoji, *emoji.get("skins", [])):
            skin = variant is not emoji
            name = re.sub(":(?= )", " with", variant["label"]) if skin else variant["label"]
            code = variant["hexcode"].lower()
            records[key(code)] = {"name": name, **common, "skin": skin, "code": code}
    return records


def keys_by_name(folder, records):
    """For sets that list names only: official names first, then every known shortcode."""
    table = {letters(r["name"]): k for k, r in records.items() if not r["skin"]}
    for source in SHORTCODES:
        for code, names in read(folder / f"emojibase-data/en/shortcodes/{source}.json").items():
            k = key(code)
            if k in records and not records[k]["skin"]:
                for name in names if isinstance(names, list) else [names]:
                    table.setdefault(letters(name), k)
    return table


def drawing(icons, name):
    """The SVG of an Iconify icon or of a plain (at most mirrored) alias; None for other aliases."""
    mirrored = False
    if name not in icons["icons"]:
        alias = icons["aliases"][name]
        if alias["parent"] not in icons["icons"] or "rotate" in alias or alias.get("vFlip"):
            return None
        name, mirrored = alias["parent"], alias.get("hFlip", False)
    icon = icons["icons"][name]
    left, top, wide, high = (
        icon.get(side, icons.get(side, 0)) for side in ("left", "top", "width", "height")
    )  # fmt: skip
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({wide} 0) scale(-1 1)">{body}</g>'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{left} {top} {wide} {high}">{body}</svg>'


def vector_set(folder, table):
    """(key, function that draws) for every icon of an Iconify package."""
    icons, chars = read(folder / "icons.json"), read(folder / "chars.json")
    if chars:
        named = [(key(code), name) for code, name in chars.items()]
    else:
        names = [*icons["icons"], *icons.get("aliases", {})]
        plain = {name: letters(name.removesuffix("-1")) for name in names}
        named = [(table[plain[name]], name) for name in names if plain[name] in table]

    def render(name):
        text = drawing(icons, name)
        if text is None:
            return None
        return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=256, height=256))))

    return [(k, lambda name=name: render(name)) for k, name in named]


def raster_set(folder):
    return [(key(file.stem), lambda file=file: Image.open(file)) for file in sorted(folder.glob("assets/*.webp"))]


def framed(picture):
    """Cropped to what is drawn and fitted into the square with a margin: on white, and its opacity; None if nothing is."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    factor = (SIDE - 2 * MARGIN) / max(picture.size)
    size = [max(1, round(length * factor)) for length in picture.size]
    picture = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    paper, opacity = Image.new("RGBA", (SIDE, SIDE), "white"), Image.new("L", (SIDE, SIDE), 0)
    paper.alpha_composite(picture, corner)
    opacity.paste(picture.getchannel("A"), corner)
    return paper.convert("RGB"), opacity


def webp(picture, **options):
    file = io.BytesIO()
    picture.save(file, "WEBP", method=6, **options)
    return file.getvalue()


def kept(k, record, style, skins):
    if record["group"] == "flags" and len(k) > 5:  # country flags
        return False
    return not record["skin"] or random.Random(zlib.crc32(f"{style}{k}".encode())).random() < skins


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--sources", type=Path, required=True)
    p.add_argument("--out", type=Path, default=HERE / "pack.npz")
    p.add_argument("--quality", type=int, default=82, help="of WebP")
    a = p.parse_args()
    records = catalogue(a.sources)
    table = keys_by_name(a.sources, records)
    held = {line for line in (HERE / "heldout.txt").read_text().splitlines() if line}
    if unknown := held - {r["name"] for r in records.values()}:
        raise SystemExit(f"held-out names without an emoji: {sorted(unknown)}")
    meta, blobs, opacities = [], [], []
    for style, (package, skins) in STYLES.items():
        folder, done = a.sources / package, set()
        entries = raster_set(folder) if (folder / "assets").is_dir() else vector_set(folder, table)
        for k, draw in entries:
            record = records.get(k)
            if record is None or k in done or not kept(k, record, style, skins):
                continue
            picture = draw()
            picture = picture and framed(picture)
            if picture is None:
                continue
            done.add(k)
            blobs.append(webp(picture[0], quality=a.quality, use_sharp_yuv=True))
            cut_out = style == PLAIN_STYLE and not record["skin"]
            opacities.append(webp(picture[1], lossless=True, quality=100) if cut_out else b"")
            meta.append({**record, "style": style, "heldout": record["name"] in held})
        print(f"{style}: {len(done)} pictures", flush=True)
    np.savez(
        a.out,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        offset=np.cumsum([0, *map(len, blobs)]),
        opacity=np.frombuffer(b"".join(opacities), np.uint8),
        opacity_offset=np.cumsum([0, *map(len, opacities)]),
        meta=np.frombuffer(zlib.compress(json.dumps(meta).encode(), 9), np.uint8),
    )
    print(f"{len(meta)} pictures, {a.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
