"""Cases of `surroundings.py`: how people ask, compare and draw, and what they are told."""
import json
import os
import re
import struct
from pathlib import Path

from surroundings_place import Missed, case, check, inputs, model, picture_format, read_safetensors, safetensors


# ---- 6. Exit codes ------------------------------------------------------------------------------------------------

@case
def usage(place):
    """values that cannot be are exit code 2, whoever notices"""
    model(place)
    for words, word in [
        (["draw", "cat", "--steps", "0"], "steps"), (["draw", "cat", "-W", "100"], "100"), (["draw", "cat", "--count", "0"], "count"),
        (["draw", "cat", "--sampler", "foo"], "foo"), (["draw", "cat", "--schedule", "foo"], "foo"), (["draw", "cat", "--rng", "foo"], "foo"),
        (["draw", "cat", "--guidance", "nan"], "guidance"), (["draw", "cat", "--eta", "7"], "eta"), (["draw", "cat", "-H", "0"], "height"),
        (["draw", "cat", "--seed", "x"], "seed"), (["draw", "cat", "--seed", "-2"], "seed"), (["draw", "cat", "--memory", "many"], "memory"),
        (["draw", "cat", "--threads", "0"], "threads"), (["draw", "cat", "--threads", "10000000"], "threads"),
        (["draw", "cat", "--precision", "f7"], "precision"), (["draw", "cat", "-o", "x.gif"], ".gif"), (["draw"], "PROMPT"),
        (["draw", "c" * 20_000], "prompt"), (["draw", "cat", "--nonsense"], "nonsense"), (["nonsense"], "nonsense"),
        (["run", "traced.pt2", "--function", "foo"], "foo"), (["run", "traced.pt2", "--input", "x"], "NAME=FILE"),
        (["run", "traced.pt2", "--repeat", "0"], "repeat"), (["profile", "traced.pt2", "--size", "x"], "NAME=N"),
        (["profile", "traced.pt2", "--size", "nope=3"], "nope"), (["compare", "traced.pt2"], "nothing to do"),
        (["compare", "traced.pt2", "--against", "cpu=foo"], "foo"), (["compare", "traced.pt2", "--nonfinite", "--rtol", "nan"], "rtol"),
        (["compress", "traced.pt2", "-o", "c", "--psnr", "-3"], "psnr"), (["build", "traced.pt2", "-o", "b", "--cpu", "foo"], "foo"),
        (["bench", "nothing"], "nothing"), (["cache", "limit", "x"], "x"),
    ]:
        try:
            place.run(*words).fails(2, word)
        except Missed as missed:
            raise Missed(f"{' '.join(words)[:60]}: {missed}") from None


@case
def helpful_refusals(place):
    """a mistyped option is answered with the right one, and with the help of its own command"""
    place.run("draw", "cat", "--stpes", "3").fails(2, "--steps", "see `ondine draw --help`")
    place.run("cache", "limt").fails(2, "limit", "see `ondine cache --help`")
    place.run("cache", "limit", "--nope").fails(2, "see `ondine cache limit --help`")
    place.run("drwa", "cat").fails(2, "draw", "see `ondine --help`")


# ---- 7. Comparing -------------------------------------------------------------------------------------------------

@case
def comparing(place):
    """a folder can be run as written, and what the model does not have is an error"""
    model(place)
    place.run("import", "traced.pt2", "-o", place.at("m.ondine")).works()
    place.run("compare", "m.ondine", "--reference", "traced.nodes.safetensors", "--as-written").works()
    place.run("compare", "traced.pt2", "--reference", "traced.nodes.safetensors").works()
    place.run("compare", "traced.pt2", "--reference", "traced.modules.safetensors", "--as-written").works()
    header, data = read_safetensors(place.root / "traced.nodes.safetensors")
    for name in ("stranger", "layers.9.attention"):
        more = header | {name: dict(dtype="F32", shape=[2], data_offsets=[len(data), len(data) + 8])}
        text = json.dumps(more).encode()
        place.at("more.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data + struct.pack("<2f", 1.25, 2.5))
        for words in ([], ["--as-written"]):
            answer = place.run("compare", "traced.pt2", "--reference", "more.safetensors", *words)
            check(answer.code == 1 and name in answer.lines[-1], f"{name}: exit {answer.code}, {answer.err[:200]!r}")
    nothing = place.run("compare", "genmoji/text_encoder", "--as-written", "--nonfinite")
    check(nothing.code == 0 and b"finite" in nothing.out, f"a built-in network as written: {nothing.err[:200]!r}")


@case
def nonfinite(place):
    """`compare --nonfinite` that finds something is exit code 1"""
    inputs(place)
    place.run("compare", "traced.pt2", "--nonfinite").works()
    header, data = read_safetensors(place.root / "inputs.safetensors")
    place.run("import", "traced.pt2", "-o", place.at("m.ondine")).works()
    weights = place.root / "m.ondine/weights.safetensors"
    data = weights.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8:8 + size])
    name = next(name for name, facts in entries.items() if facts["dtype"] == "F32" and not name.startswith("#"))
    start = 8 + size + entries[name]["data_offsets"][0]
    weights.write_bytes(data[:start] + struct.pack("<f", float("nan")) + data[start + 4:])
    # Without the sum, which would refuse the file.
    manifest = json.loads((place.root / "m.ondine/manifest.json").read_text())
    manifest.pop("weights")
    (place.root / "m.ondine/manifest.json").write_text(json.dumps(manifest))
    answer = place.run("compare", "m.ondine", "--nonfinite").fails(1, "stop being finite")
    check(name.encode() in answer.out, "the weight is not named")


# ---- 8. Names -----------------------------------------------------------------------------------------------------

def obeyed(text):
    """What a terminal would obey in the output."""
    return sorted(set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)))


@case
def escape_codes(place):
    """nothing that a file or a folder is called reaches the terminal as a command"""
    evil = "w\x1b[31m\x9b2J\u202e\rx\ny"
    place.at("e.safetensors").write_bytes(safetensors(**{evil: [1.0, 2.0]}))
    (place.root.parent / "models" / "m\x1b[2J").mkdir()
    (place.root.parent / "models" / "m\x1b[2J" / "model_index.json").write_text("{}")
    for words in (["inspect", "e.safetensors"], ["inspect", "e.safetensors", "--json"], ["models", "list"], ["models", "list", "--json"],
                  ["draw", "x", "--model", evil], ["draw", "x", "--sampler", evil], ["draw", "x", f"--{evil}"], [evil],
                  ["inspect", evil], ["draw", "x", "--model", "m\x1b[2J"], ["run", "e.safetensors"], ["check", evil]):
        answer = place.run(*words)
        text = answer.out.decode() + answer.err
        check(not obeyed(text), f"{words[:2]}: {obeyed(text)} in {text[:200]!r}")
        if "--json" in words:
            names = json.dumps(json.loads(answer.out))
            check("\\u001b" in names, "the name is lost")


@case
def names_of_models(place):
    """pictures say which model drew them, and not where it lies"""
    check(place.draw("--json", "-o", place.at("x.png")).json()["model"] == "genmoji", "the built-in model")
    text = place.at("x.png").read_bytes()
    check(b"Model: genmoji," in text, "the metadata")


# ---- 11. Drawing --------------------------------------------------------------------------------------------------

@case
def formats(place):
    """a picture is what its name says, or is refused"""
    for name, kind in (("a.png", "png"), ("a.jpg", "jpeg"), ("a.JPEG", "jpeg"), ("a.webp", "webp"), ("plain", "png")):
        place.draw("--quiet", "-o", place.at(name)).works()
        data = place.at(name).read_bytes()
        check(picture_format(data) == kind, f"{name} is {picture_format(data)}")
        text = "Steps: 1"
        check(any(text.encode(code) in data for code in ("latin-1", "utf-16-be")), f"{name} does not say how it was made")
        place.draw("--quiet", "--no-metadata", "-o", place.at(name)).works()
        data = place.at(name).read_bytes()
        check(not any(text.encode(code) in data for code in ("latin-1", "utf-16-be")), f"{name} says how it was made")
    for name in ("a.gif", "a.bmp", "a.tiff", "a.avif"):
        place.draw("-o", name).fails(2, ".png, .jpg or .webp")


@case
def streams(place):
    """`-o -` is standard output, and the prompt `-` standard input"""
    answer = place.run("draw", "-", "--steps", "1", "-o", "-", data="a red heart\n".encode()).works()
    check(picture_format(answer.out) == "png" and b"a red heart" in answer.out, "the picture on standard output")
    answer = place.draw("-o", "/dev/stdout", "--quiet").works()
    check(picture_format(answer.out) == "png" and answer.err == "", "/dev/stdout")
    place.draw("-o", "-", "--count", "2").fails(2, "one picture")
    place.draw("-o", "-", "--json").fails(2, "--json")
    reader, writer = os.pipe()
    os.close(reader)
    place.draw("-o", "-", "--quiet", stdout=writer).works()
    os.close(writer)
    place.run("draw", "-", "--steps", "1", data=b"\xff\xfe").fails(1, "standard input")


@case
def seeds(place):
    """the same request draws the same picture; --seed -1 another one each time, and says its seed"""
    place.at("x.png")
    same = {place.draw("-o", "-", "--quiet").out for _ in range(2)}
    check(len(same) == 1, "two pictures of one request")
    random = [place.draw("--json", "-o", "x.png", "--seed", "-1").json()["seed"] for _ in range(2)]
    check(random[0] != random[1], f"the seeds {random}")
    check(f"Seed: {random[1]}," in place.at("x.png").read_bytes().decode("latin-1"), "the metadata")
    again = place.draw("-o", "-", "--quiet", "--seed", str(random[1])).out
    check(again == place.at("x.png").read_bytes(), "drawn again by its seed")
    place.draw("-o", "x.png", "--seed", "7").works("seed 7")


@case
def second_drawings(place):
    """a second drawing never overwrites the first without a word"""
    for name in ("ondine.png", "ondine-2.png", "ondine-3.png"):
        answer = place.draw()
        check(answer.works().out.decode().strip() == name, f"{answer.out} instead of {name}")
        place.at(name)
    first = (place.root / "ondine.png").read_bytes()
    names = place.draw("--count", "2", "--seed", "9").works().out.decode().split()
    check(len(set(names) - {"ondine.png", "ondine-2.png", "ondine-3.png"}) == 2, f"{names}")
    for name in names:
        place.at(name)
    check((place.root / "ondine.png").read_bytes() == first, "the first is another")
    together = [place.start("draw", "cat", "--steps", "1") for _ in range(4)]
    names = [place.end(process).works().out.decode().strip() for process in together]
    check(len(set(names)) == 4, f"four at a time wrote {names}")
    for name in names:
        place.at(name)
    place.draw("-o", place.at("x.png")).works()
    place.draw("-o", "x.png").works("x.png", "replaced")


@case
def facts(place):
    """--json says what was asked for and what was chosen"""
    facts = place.draw("--negative", "blue", "--count", "2", "--seed", "5", "-o", place.at("x.png"), "--json").json()
    place.at("x-1.png"), place.at("x-2.png")
    for key, value in dict(prompt="a red heart", negative="blue", model="genmoji", size=[512, 512], drawn_size=[128, 128], width=512, height=512, steps=1,
                           guidance=2, seed=5, seeds=[5, 6], file="x-1.png", files=["x-1.png", "x-2.png"]).items():
        found = facts.get(key)
        found = [Path(f).name for f in found] if key == "files" else Path(found).name if key == "file" else found
        check(found == value, f"{key} is {facts.get(key)!r}")
    check(isinstance(facts["sampler"], str), "the sampler")


@case
def warnings(place):
    """what will not come out as expected is said in a line"""
    place.at("x.png")
    for words, word in [
        (["a cat", "-W", "256", "-H", "256"], "made for 128x128"), (["a cat", "-W", "64", "-H", "64"], "made for 128x128"),
        (["qzxv wqrt"], "knows no word"), (["a (cat:1.3)"], "(cat:1.3)"), (["a [cat]"], "[cat]"), (["a cat BREAK dog"], "BREAK"),
        (["((cat))"], "((cat))"),
    ]:
        answer = place.run("draw", *words, "--steps", "1", "-o", "x.png").works(word)
        check(sum("warning:" in line for line in answer.lines) == 1, f"{words}: {answer.lines}")
    for words in (["a cat (smiling), 1:1"], ["a cat"], ["🐈"], ["😀🐈"]):
        answer = place.run("draw", *words, "--steps", "1", "-o", "x.png").works()
        check("warning" not in answer.err, f"{words}: {answer.lines}")
    place.run("draw", "cat <lora:x:1>", "--steps", "1", "-o", "y.png").fails(2, "`x`", "--lora-folder")
    place.run("draw", "ꙮꙮ", "--steps", "1", "--quiet").fails(1, "knows no word")


@case
def emoji(place):
    """an emoji in a prompt is its own name"""
    def picture(prompt):
        return place.run("draw", prompt, "--steps", "2", "--no-metadata", "-q", "-o", "-").works().out
    check(picture("🐈") == picture("cat") != picture("dog"), "🐈 is no cat")
    check(picture("a 🚀") == picture("a rocket"), "🚀 is no rocket")
