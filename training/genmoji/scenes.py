"""Scenes composed of emoji by rule, with captions that say what is where: the data that teaches combination.

A scene is a few pieces (cut-out pictures of the plain style) on a ground. Its caption tells count, colour, size,
place, who wears what and which stands where, so that a drawing of the caption can be checked exactly (`judge.py`). One
combination in eight (`kept_back`) is never composed for training; those are what the checks ask for.
"""

import random
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from recolour import COLOUR_WORDS, PAINTS
from torch.nn import functional as F

SIDE, MOST = 128, 7  # pixels, pieces
LINES = Path(__file__).with_name("words.txt")
NUMBERS = {1: ("one", "1"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4"), 5: ("five", "5")}
IRREGULAR = {
    "mouse": "mice", "fish": "fish", "sheep": "sheep", "deer": "deer", "leaf": "leaves", "wolf": "wolves", "goose": "geese",
    "knife": "knives", "loaf": "loaves", "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet",
    "tooth": "teeth", "octopus": "octopuses", "cactus": "cacti", "squid": "squid", "shrimp": "shrimp", "die": "dice", "bison": "bison",
}  # fmt: skip
COUNTLESS = {"glasses", "sunglasses", "scissors", "headphones", "jeans", "shorts", "goggles", "eyes", "lips", "fireworks", "popcorn"}
PAINT_WORDS = {"purple": ("purple", "purple", "violet"), "pink": ("pink", "pink", "rose-colored"), "blue": ("blue",)}
GROUNDS = {
    "red": (205, 60, 60), "orange": (245, 150, 60), "yellow": (250, 215, 90), "green": (95, 175, 95), "blue": (85, 145, 225),
    "purple": (150, 100, 200), "pink": (250, 175, 205), "brown": (140, 100, 70), "black": (25, 25, 30), "gray": (150, 150, 155),
    "light blue": (175, 215, 245), "dark blue": (35, 50, 110), "light green": (185, 225, 165), "turquoise": (90, 205, 200),
    "beige": (235, 220, 190),
}  # fmt: skip
SIZES = {"small": (0.3, 0.42), "little": (0.32, 0.44), "tiny": (0.2, 0.28), "big": (0.85, 0.97), "large": (0.85, 0.97), "huge": (0.95, 1.02)}

# words; colour above, colour below, where they meet, how softly; pieces behind: (name, x, y, size)
STARS = (("star", 0.18, 0.14, 0.1), ("star", 0.42, 0.09, 0.07), ("star", 0.62, 0.2, 0.06))
PLACES = [
    (("at night", "in the night", "at night", "under the moon", "in the moonlight"), (16, 20, 60), (48, 56, 120), 0.5, 1.0, (("crescent moon", 0.84, 0.17, 0.24), *STARS)),
    (("at night", "under the stars", "under a starry sky", "at midnight"), (12, 16, 48), (40, 44, 100), 0.5, 1.0, (("full moon", 0.82, 0.17, 0.22), *STARS)),
    (("at sunset", "in the evening", "in front of the sunset", "at dusk", "at sunset"), (110, 70, 150), (255, 160, 90), 0.5, 0.9, (("sun", 0.78, 0.72, 0.34),)),
    (("on the beach", "at the beach", "on a beach", "on the sand"), (140, 210, 250), (240, 215, 150), 0.66, 0.03, (("palm tree", 0.86, 0.42, 0.52),)),
    (("by the sea", "at the seaside", "on the beach"), (150, 215, 250), (240, 215, 150), 0.7, 0.04, (("sun", 0.85, 0.16, 0.24),)),
    (("on the sea", "at sea", "on the ocean", "on the water", "on the waves", "in the sea", "on a lake", "in the water"), (175, 222, 250), (45, 125, 205), 0.62, 0.03, ()),
    (("underwater", "under the sea", "in the ocean", "under water"), (70, 175, 225), (12, 65, 135), 0.5, 1.0, (("coral", 0.14, 0.86, 0.24),)),
    (("in the sky", "flying in the sky", "in the air", "high in the sky"), (105, 185, 250), (205, 232, 255), 0.5, 1.0, (("cloud", 0.18, 0.2, 0.3), ("cloud", 0.84, 0.8, 0.32))),
    (("in the clouds", "above the clouds", "among clouds"), (140, 200, 250), (220, 238, 255), 0.5, 1.0, (("cloud", 0.15, 0.78, 0.4), ("cloud", 0.5, 0.88, 0.42), ("cloud", 0.86, 0.78, 0.4))),
    (("in space", "in outer space", "among the stars", "in the universe"), (8, 8, 28), (34, 18, 66), 0.5, 1.0, (("ringed planet", 0.84, 0.17, 0.26), *STARS)),
    (("in the forest", "in a forest", "in the woods", "among trees"), (170, 215, 185), (75, 135, 65), 0.7, 0.05, (("evergreen tree", 0.14, 0.45, 0.55), ("deciduous tree", 0.87, 0.45, 0.52))),
    (("in the jungle", "in a jungle"), (60, 120, 70), (35, 80, 45), 0.6, 0.5, (("palm tree", 0.13, 0.42, 0.55), ("palm tree", 0.88, 0.45, 0.5))),
    (("in a garden", "in the garden", "among flowers", "in a flower field", "surrounded by flowers"), (190, 230, 250), (115, 182, 82), 0.68, 0.05, (("tulip", 0.12, 0.82, 0.2), ("blossom", 0.3, 0.9, 0.16), ("blossom", 0.72, 0.9, 0.17), ("tulip", 0.9, 0.82, 0.2))),
    (("on the grass", "in a meadow", "in a field", "on a green meadow", "in the park", "on a hill"), (150, 215, 250), (120, 190, 75), 0.7, 0.04, ()),
    (("in the desert", "in a desert"), (250, 228, 175), (226, 182, 112), 0.66, 0.04, (("cactus", 0.86, 0.5, 0.3),)),
    (("in the snow", "in snow", "in winter", "on a snowy day"), (185, 212, 235), (246, 249, 252), 0.7, 0.05, (("snowflake", 0.15, 0.18, 0.16), ("snowflake", 0.85, 0.25, 0.14), ("snowflake", 0.5, 0.08, 0.1))),
    (("in the rain", "on a rainy day", "in the storm"), (112, 126, 142), (165, 175, 185), 0.5, 1.0, (("cloud with rain", 0.5, 0.17, 0.34),)),
    (("in the city", "in a city", "in front of skyscrapers", "in town"), (175, 208, 236), (130, 130, 138), 0.84, 0.02, (("cityscape", 0.5, 0.42, 0.92),)),
    (("under a rainbow", "with a rainbow", "in front of a rainbow"), (150, 215, 250), (215, 236, 252), 0.5, 1.0, (("rainbow", 0.5, 0.36, 0.95),)),
    (("in the mountains", "in front of a mountain", "with mountains behind"), (165, 212, 245), (120, 180, 95), 0.72, 0.03, (("snow-capped mountain", 0.5, 0.4, 0.92),)),
    (("in the sun", "on a sunny day", "in the sunshine", "in summer"), (140, 210, 252), (150, 205, 105), 0.72, 0.05, (("sun", 0.84, 0.17, 0.27),)),
    (("on a table", "on a wooden table"), (240, 228, 208), (165, 115, 75), 0.68, 0.02, ()),
    (("on the road", "on a road", "on the street", "on a street"), (170, 215, 245), (110, 112, 118), 0.68, 0.02, ()),
    (("at christmas", "next to a christmas tree", "on christmas eve"), (130, 40, 50), (90, 25, 35), 0.5, 1.0, (("Christmas tree", 0.85, 0.45, 0.5),)),
    (("in front of a house", "at home"), (170, 218, 248), (125, 188, 85), 0.72, 0.03, (("house", 0.6, 0.4, 0.75),)),
    (("in front of a castle",), (170, 218, 248), (125, 188, 85), 0.74, 0.03, (("castle", 0.55, 0.4, 0.8),)),
]  # fmt: skip
HATS = {
    "top hat": ("a top hat", "a hat", "a black hat", "a hat"), "crown": ("a crown", "a golden crown"), "billed cap": ("a cap", "a baseball cap"),
    "woman’s hat": ("a straw hat", "a sun hat", "a hat"), "graduation cap": ("a graduation cap",), "military helmet": ("a helmet",),
    "ribbon": ("a bow", "a pink bow", "a ribbon"),
}  # fmt: skip
SPECTACLES = {"sunglasses": ("sunglasses", "cool sunglasses"), "glasses": ("glasses",)}
HELD = (
    "balloon", "rose", "bouquet", "umbrella", "wrapped gift", "red heart", "guitar", "trumpet", "violin", "soft ice cream", "lollipop", "pizza", "hamburger",
    "hot beverage", "beer mug", "wine glass", "closed book", "magic wand", "dagger", "shield", "star", "soccer ball", "basketball", "fish", "carrot", "banana",
    "red apple", "camera", "laptop", "mobile phone", "candle", "key", "money bag", "trophy", "teddy bear", "doughnut", "cookie", "birthday cake", "bone",
    "cheese wedge", "four leaf clover", "sunflower", "tulip", "triangular flag", "bomb", "hammer", "axe", "microphone",
)  # fmt: skip
# words before the noun; words after it; pieces behind and before the one they are said of: (name, x, y, size)
MOODS = [
    (("sleeping", "sleepy", "snoring", "tired"), ("sleeping", "that is sleeping", "taking a nap", "asleep"), (), (("ZZZ", 0.82, 0.18, 0.34),)),
    (("loving", "lovestruck"), ("in love", "with hearts", "that is in love", "with love"), (), (("red heart", 0.84, 0.18, 0.26), ("red heart", 0.15, 0.3, 0.19))),
    (("angry", "furious", "mad", "grumpy"), ("that is angry", "getting angry"), (), (("anger symbol", 0.82, 0.19, 0.3),)),
    (("sad", "crying", "weeping"), ("crying", "that is crying", "in tears"), (), (("droplet", 0.2, 0.62, 0.2), ("droplet", 0.8, 0.7, 0.17))),
    (("dancing", "singing", "musical"), ("dancing", "singing a song", "listening to music", "dancing to music", "singing"), (), (("musical notes", 0.83, 0.2, 0.32), ("musical note", 0.14, 0.28, 0.22))),
    (("running", "fast", "racing"), ("running", "running away", "in a hurry", "racing"), (("dashing away", 0.16, 0.72, 0.32),), ()),
    (("celebrating", "partying"), ("celebrating", "at a party", "having a party"), (("confetti ball", 0.84, 0.24, 0.3),), (("party popper", 0.17, 0.78, 0.32),)),
    (("clever", "smart"), ("with an idea", "having an idea", "that has an idea"), (), (("light bulb", 0.84, 0.18, 0.32),)),
    (("burning", "flaming", "fiery"), ("on fire", "in flames", "burning", "with flames"), (("fire", 0.5, 0.42, 1.0),), ()),
    (("burning", "flaming"), ("on fire", "in flames", "set on fire"), (), (("fire", 0.3, 0.72, 0.42), ("fire", 0.62, 0.7, 0.5))),
    (("magical", "shiny", "sparkling", "glittering", "magic"), ("with sparkles", "that sparkles"), (), (("sparkles", 0.82, 0.2, 0.32), ("sparkles", 0.15, 0.76, 0.24))),
    (("confused", "puzzled", "curious"), ("asking a question", "with a question mark", "wondering"), (), (("red question mark", 0.85, 0.2, 0.3),)),
    (("surprised", "shocked"), ("with an exclamation mark", "that is surprised"), (), (("red exclamation mark", 0.86, 0.2, 0.3),)),
    (("thinking", "dreaming"), ("thinking", "dreaming", "lost in thought"), (), (("thought balloon", 0.83, 0.18, 0.34),)),
    (("talking",), ("talking", "speaking", "saying something"), (), (("speech balloon", 0.83, 0.18, 0.34),)),
    (("rich",), ("with money", "that is rich", "with dollars"), (), (("money bag", 0.82, 0.76, 0.32), ("dollar banknote", 0.17, 0.26, 0.28))),
    (("cold", "freezing", "frozen", "icy"), ("that is cold", "made of ice", "freezing"), (), (("snowflake", 0.84, 0.18, 0.24), ("snowflake", 0.14, 0.34, 0.2), ("snowflake", 0.8, 0.8, 0.18))),
    (("hungry",), ("eating", "having dinner", "with fork and knife"), (), (("fork and knife", 0.84, 0.74, 0.34),)),
    (("exploding",), ("exploding", "with an explosion"), (("collision", 0.5, 0.5, 1.0),), ()),
    (("electric",), ("with lightning", "struck by lightning"), (), (("high voltage", 0.84, 0.22, 0.34),)),
]  # fmt: skip
LITTLE = {"with", "on", "in", "the", "without", "and", "of", "a", "face", "large"}


def read_words(path=LINES):
    """name: (marks, words) of every line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    parts = [[part.strip() for part in line.split(";")] for line in lines]
    return {name: (marks, [word.strip() for word in words.split(",")]) for name, marks, words in parts}


def article(noun):
    first = noun.split()[0]
    if noun.split()[-1] in COUNTLESS or first in ("a", "an", "the"):
        return noun
    vowel = first in ("hourglass", "honest") or noun[0] in "aeiou" and first not in ("unicorn", "uniform", "ufo", "one", "euro", "ukulele")
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun):
    """"cup of coffee" to "cups of coffee", "blue mouse" to "blue mice"."""
    head, link, rest = noun.partition(" of ")
    if not link:
        head, link, rest = noun.partition(" in ")
    *before, word = head.split()
    if word in IRREGULAR:
        word = IRREGULAR[word]
    elif word.endswith(("s", "x", "ch", "sh")):
        word += "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        word = word[:-1] + "ies"
    elif word in ("tomato", "potato", "mango", "volcano"):
        word += "es"
    else:
        word += "s"
    return " ".join([*before, word]) + link + rest


def kept_back(*combination):
    """Whether a combination is one of those that training never shows."""
    return zlib.crc32("|".join(map(str, combination)).encode()) % 8 == 0


@dataclass
class Piece:
    picture: int
    x: float
    y: float
    size: float  # side of the picture's square, in sides of the scene
    angle: float = 0.0
    flip: bool = False
    paint: str = ""


@dataclass
class Scene:
    caption: str
    pieces: list
    ground: tuple = ((255, 255, 255), (255, 255, 255), 0.5, 1.0)
    facts: dict = field(default_factory=dict)


class Composer:
    """Draws up scenes. `records` of the plain style; `boxes` (left, top, right, bottom) of what each shows, in 0..1;
    `vivid` whether it can be painted; `hues` its own colour word or ""."""

    def __init__(self, records, boxes, vivid, hues, seed=0):
        self.rng, self.boxes, self.vivid, self.hues = random.Random(seed), boxes, vivid, hues
        held = [r["name"] for r in records if r["heldout"]]
        self.row = {r["name"]: n for n, r in enumerate(records) if not r["heldout"]}
        self.words = {name: entry for name, entry in read_words().items() if name in self.row}
        self.things = [name for name, (marks, _) in self.words.items() if "s" in marks]
        self.weights = [0.4 if "p" in self.words[n][0] else 1.0 for n in self.things]
        self.wearers = [name for name, (marks, _) in self.words.items() if "f" in marks and ("p" not in marks)]
        self.people = [name for name, (marks, _) in self.words.items() if "p" in marks]
        forbidden = (set(name.lower().replace("-", " ").split()) - LITTLE for name in held)
        self.forbidden = [words for words in forbidden if len(words) > 1]
        barred = [(set(n.lower().split()) & COLOUR_WORDS, set(n.lower().split()) - COLOUR_WORDS) for n in held]
        self.paints = {}
        for name in self.words:
            near = set().union(*(colours for colours, things in barred if any(t in name.lower() for t in things)))
            own = set(name.lower().split()) & COLOUR_WORDS
            free = self.vivid[self.row[name]] and not (own - {"red"})
            self.paints[name] = [c for c in PAINTS if c not in near and not kept_back("colour", c, name)] if free else []

    def __call__(self):
        kinds = self.alone, self.several, self.pair, self.wearing, self.holding, self.mood, self.bearing
        odds = 0.25, 0.2, 0.26, 0.1, 0.08, 0.08, 0.03
        while True:
            scene = self.rng.choices(kinds, odds)[0]()
            if scene and not self.names_held_back(scene.caption):
                return scene

    def names_held_back(self, caption):
        said = caption.lower().replace("-", " ").replace(",", " ").split()
        said = {*said, *(word[:-1] for word in said if word.endswith("s"))}
        return any(words <= said for words in self.forbidden)

    def thing(self):
        return self.rng.choices(self.things, self.weights)[0]

    def noun(self, name, first=0.6):
        words = self.words[name][1]
        return words[0] if self.rng.random() < first else self.rng.choice(words)

    def colour(self, name, chance):
        """A paint ("" for none) and the word to say."""
        if self.rng.random() >= chance:
            return "", ""
        own = self.hues[self.row[name]]
        if own and self.rng.random() < 0.15 and not kept_back("colour", own, name):
            return "", own
        if not self.paints[name]:
            return "", ""
        paint = self.rng.choice(self.paints[name])
        return paint, self.rng.choice(PAINT_WORDS.get(paint, (paint,)))

    def call(self, name, n=1, colour="", size="", plain=False):
        words = self.words[name][1]
        noun = words[0] if plain or n > 1 else self.noun(name)
        if colour and COLOUR_WORDS & set(noun.split()):
            noun = words[0]
        noun = " ".join(part for part in (size, colour, noun) if part)
        if n == 1:
            return article(noun)
        return f"{self.rng.choice(NUMBERS[n])} {plural(noun)}"

    def behind(self, chance, focus=()):
        """A ground, the pieces of a place, and the words for both."""
        rng = self.rng
        if rng.random() >= chance:
            return Scene("", []).ground, [], ""
        if rng.random() < 0.4:
            word = rng.choice(list(GROUNDS))
            shade = tuple(min(255, max(0, c + rng.randint(-10, 10))) for c in GROUNDS[word])
            said = rng.choice((" on {} background", " on {} background", " with {} background", ", {} background", " in front of {} wall"))
            said = said.format(word if said.startswith(",") else article(word))
            return (shade, shade, 0.5, 1.0), [], said
        words, above, below, meet, soft, props = rng.choice(PLACES)
        shift = rng.randint(-10, 10)
        above, below = (tuple(min(255, max(0, c + shift)) for c in colour) for colour in (above, below))
        mirrored = rng.random() < 0.5
        pieces = [
            Piece(self.row[n], (1 - x if mirrored else x) + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.02, 0.02), s * rng.uniform(0.9, 1.1))
            for n, x, y, s in props
            if n in self.row and n not in focus
        ]
        return (above, below, meet + rng.uniform(-0.03, 0.03), soft), pieces[: MOST - 4], f" {rng.choice(words)}"

    def framed(self, caption):
        rng, kind = self.rng, self.rng.random()
        if kind < 0.08:
            return rng.choice(("a picture of {}", "a drawing of {}", "an emoji of {}", "a sticker of {}", "draw {}", "an icon of {}")).format(caption)
        if kind < 0.14 and caption.startswith(("a ", "an ")):
            return caption.split(" ", 1)[1]
        return caption

    def alone(self):
        rng, name = self.rng, self.thing()
        paint, colour = self.colour(name, 0.6)
        size = rng.choice(list(SIZES)) if rng.random() < 0.25 else ""
        ground, props, where = self.behind(0.6, (name,))
        if not (colour or size or where):
            return None
        side = rng.uniform(*SIZES[size]) if size else rng.uniform(0.62, 0.78) if props else rng.uniform(0.74, 0.95) if where else 0.98
        room = max(0.0, (1 - side) / 2 - 0.02)
        x, y = 0.5 + rng.uniform(-0.5, 0.5) * room, 0.5 + rng.uniform(-0.3, 0.7) * room
        tilt = rng.uniform(-0.15, 0.15) if rng.random() < 0.2 else 0.0
        piece = Piece(self.row[name], x, y, side, tilt, rng.random() < 0.15, paint)
        return Scene(self.framed(self.call(name, 1, colour, size) + where), [*props, piece], ground)

    def several(self):
        rng, name = self.rng, self.thing()
        n = rng.choices((1, 2, 3, 4, 5), (0.08, 0.27, 0.3, 0.25, 0.1))[0]
        words = self.words[name][1][0].split()
        if "p" in self.words[name][0] and rng.random() < 0.5 or kept_back("count", n, name) or words[-1] in COUNTLESS or words[0] == "pair":
            return None
        paint, colour = self.colour(name, 0.4)
        ground, _, where = self.behind(0.25)
        if n == 1:
            noun = " ".join(part for part in (colour, self.words[name][1][0]) if part)
            said = f"{rng.choice(NUMBERS[1])} {noun}"
        else:
            said = self.call(name, n, colour)
        return Scene(said + where, self.rows(name, n, paint), ground)

    def rows(self, name, n, paint=""):
        """`n` pieces alike, apart from each other."""
        rng = self.rng
        plans = {
            1: [[1]], 2: [[2], [2], [1, 1]], 3: [[3], [1, 2], [2, 1], [3]], 4: [[2, 2], [2, 2], [4], [1, 3], [3, 1]], 5: [[3, 2], [2, 3], [2, 1, 2]],
        }  # fmt: skip
        plan = rng.choice(plans[n])
        box = self.boxes[self.row[name]]
        wide, high = box[2] - box[0], box[3] - box[1]
        across, down = max(plan), len(plan)
        side = min(0.96 / across / (wide + 0.06), 0.96 / down / (high + 0.06), 0.8) * rng.uniform(0.85, 0.98)
        flip, pieces = rng.random() < 0.1, []
        for r, count in enumerate(plan):
            for c in range(count):
                spare = 0.15 * side * 0.2
                x = 0.5 + (c - (count - 1) / 2) / across * 0.98 + rng.uniform(-spare, spare)
                y = 0.5 + (r - (down - 1) / 2) / down * 0.98 + rng.uniform(-spare, spare)
                pieces.append(Piece(self.row[name], x, y, side, 0.0, flip, paint))
        return pieces

    def pair(self):
        rng, a, b = self.rng, self.thing(), self.thing()
        if a == b or self.words[a][1][0] == self.words[b][1][0]:
            return None
        beside = rng.random() < 0.55
        if kept_back("pair", a, "beside" if beside else "over", b):
            return None
        told = []
        for name in (a, b):
            paint, colour = self.colour(name, 0.22)
            size = rng.choice(("small", "big", "little", "large", "tiny")) if rng.random() < 0.18 else ""
            told.append((self.call(name, 1, colour, size), paint, {"small": 0.6, "little": 0.6, "tiny": 0.45, "big": 1.15, "large": 1.15}.get(size, 1.0)))
        (one, paint_a, size_a), (two, paint_b, size_b) = told
        vague = rng.random() < 0.2
        if beside and vague:
            said = rng.choice(("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} beside {1}", "{0} with {1}", "{0} near {1}"))
        elif beside:
            said = rng.choice((
                "{0} to the left of {1}", "{0} left of {1}", "{0} on the left of {1}", "{0} on the left and {1} on the right", "{0} on the left side of {1}",
                "{1} to the right of {0}", "{1} right of {0}", "{1} on the right of {0}", "{1} on the right and {0} on the left", "{1} on the right side of {0}",
            ))  # fmt: skip
        else:
            said = rng.choice(("{0} above {1}", "{0} above {1}", "{0} over {1}", "{0} on top of {1}", "{1} below {0}", "{1} under {0}", "{1} below {0}", "{1} beneath {0}", "{0} at the top and {1} at the bottom"))
        ground, _, where = self.behind(0.2)
        return Scene(said.format(one, two) + where, self.places(a, b, beside, (size_a, size_b), (paint_a, paint_b)), ground)

    def places(self, a, b, beside, sizes=(1.0, 1.0), paints=("", "")):
        rng, pieces = self.rng, []
        for n, name in enumerate((a, b)):
            box = self.boxes[self.row[name]]
            extent = (box[2] - box[0], box[3] - box[1])
            along, across = extent if beside else extent[::-1]
            side = min(0.46 / (along + 0.02), 0.8 / across, 0.62) * rng.uniform(0.88, 0.98) * min(1.0, sizes[n])
            if sizes[n] > 1:
                side *= 1.06
            at, off = (0.26, 0.74)[n] + rng.uniform(-0.015, 0.015), 0.5 + rng.uniform(-0.06, 0.06)
            x, y = (at, off) if beside else (off, at)
            pieces.append(Piece(self.row[name], x, y, side, 0.0, rng.random() < 0.1, paints[n]))
        return pieces

    def wearing(self):
        rng = self.rng
        who = rng.choice(self.people if rng.random() < 0.12 else self.wearers)
        if "f" not in self.words[who][0]:
            return None
        box = self.boxes[self.row[who]]
        side = rng.uniform(0.7, 0.8)
        paint, colour = self.colour(who, 0.12)
        ground, props, where = self.behind(0.15, (who,))
        hat = rng.random() < 0.65
        what = rng.choice(list(HATS if hat else SPECTACLES))
        worn_paint, worn_colour = "", ""
        said = rng.choice((HATS if hat else SPECTACLES)[what])
        if hat and what in ("billed cap", "ribbon", "woman’s hat") and rng.random() < 0.4 and self.paints.get(what):
            worn_paint = worn_colour = rng.choice(self.paints[what])
            said = article(f"{worn_colour} {said.split()[-1]}")
        own = self.boxes[self.row[what]]
        wide, x, y = box[2] - box[0], 0.5, 0.5 + (0.96 - side * (box[3] - box[1])) / 2 - 0.02 if hat else 0.5
        top = y + (box[1] - 0.5) * side
        if hat:
            share = {"crown": 0.55, "ribbon": 0.4, "military helmet": 0.75}.get(what, 0.62)
            worn = side * wide * share / (own[2] - own[0])
            low = top + 0.2 * side * (box[3] - box[1])
            piece = Piece(self.row[what], x, low - (own[3] - 0.5) * worn, worn, rng.uniform(-0.08, 0.08), False, worn_paint)
        else:
            worn = side * wide * 0.72 / (own[2] - own[0])
            piece = Piece(self.row[what], x, top + 0.46 * side * (box[3] - box[1]), worn)
        link = rng.choice(("wearing {}", "wearing {}", "with {}", "in {}" if hat else "with {}", "that wears {}"))
        caption = f"{self.call(who, 1, colour)} {link.format(said)}{where}"
        return Scene(self.framed(caption), [*props, Piece(self.row[who], x, y, side, 0.0, False, paint), piece], ground)

    def holding(self):
        rng = self.rng
        who = rng.choice(self.people if rng.random() < 0.35 else self.wearers)
        what = rng.choice([name for name in HELD if name in self.row])
        if self.words[who][1][0] == self.words[what][1][0] or "b" in self.words[who][0]:
            return None
        paint, colour = self.colour(what, 0.3)
        ground, props, where = self.behind(0.2, (who, what))
        side, small = rng.uniform(0.68, 0.78), rng.uniform(0.36, 0.46)
        left = rng.random() < 0.5
        x, held = (0.58, 0.22) if left else (0.42, 0.78)
        link = rng.choice(("holding {}", "holding {}", "with {}", "with {}", "and {}", "carrying {}"))
        caption = f"{self.call(who)} {link.format(self.call(what, 1, colour))}{where}"
        pieces = [Piece(self.row[who], x, 0.46, side), Piece(self.row[what], held, 0.72, small, rng.uniform(-0.2, 0.2), False, paint)]
        return Scene(self.framed(caption), [*props, *pieces], ground)

    def mood(self):
        """Somebody, or something, with the signs of what it feels or does."""
        rng = self.rng
        who = rng.choice(self.people if rng.random() < 0.15 else self.wearers) if rng.random() < 0.7 else self.thing()
        before, after, behind, front = rng.choice(MOODS)
        paint, colour = self.colour(who, 0.12)
        ground, props, where = self.behind(0.12, (who,))
        mirrored = rng.random() < 0.5
        signs = [
            [Piece(self.row[n], (1 - x if mirrored else x) + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02), s * rng.uniform(0.92, 1.06)) for n, x, y, s in part if n in self.row]
            for part in (behind, front)
        ]  # fmt: skip
        side = rng.uniform(0.66, 0.76)
        x = 0.5 if behind and behind[0][3] == 1.0 else 0.46 if not mirrored else 0.54
        if behind and behind[0][0] == "dashing away":
            x = 0.6 if not mirrored else 0.4
        if rng.random() < 0.5:
            caption = article(f"{rng.choice(before)} {self.call(who, 1, colour, plain=True).split(' ', 1)[-1]}")
        else:
            caption = f"{self.call(who, 1, colour)} {rng.choice(after)}"
        pieces = [*props[: MOST - 4], *signs[0], Piece(self.row[who], x, 0.55, side, rng.uniform(-0.1, 0.1) if rng.random() < 0.3 else 0.0, mirrored, paint), *signs[1]]
        return Scene(self.framed(caption + where), pieces, ground)

    def bearing(self):
        """A small thing in the middle of a large one."""
        rng, a, b = self.rng, self.thing(), self.thing()
        if a == b:
            return None
        paint, colour = self.colour(b, 0.3)
        ground, _, where = self.behind(0.15, (a, b))
        small = self.call(b, 1, colour, rng.choice(("", "", "small", "little")))
        caption = f"{self.call(a)} " + rng.choice(("with {} on it", "with {} in the middle", "that has {} on it", "with {} in front")).format(small)
        pieces = [Piece(self.row[a], 0.5, 0.5, rng.uniform(0.85, 0.96)), Piece(self.row[b], 0.5 + rng.uniform(-0.03, 0.03), rng.uniform(0.56, 0.66), rng.uniform(0.32, 0.42), 0.0, False, paint)]
        return Scene(caption + where, pieces, ground)


NAMES = ["", *PAINTS]


def to_arrays(scenes):
    """The scenes' pieces and grounds as numpy arrays: picture (n, MOST), -1 for none; shape (n, MOST, 5); paint; ground (n, 8)."""
    picture = np.full((len(scenes), MOST), -1, np.int64)
    shape = np.zeros((len(scenes), MOST, 5), np.float32)
    paint = np.zeros((len(scenes), MOST), np.int64)
    ground = np.zeros((len(scenes), 8), np.float32)
    for n, scene in enumerate(scenes):
        above, below, meet, soft = scene.ground
        ground[n] = [*(c / 255 for c in above), *(c / 255 for c in below), meet, soft]
        for k, p in enumerate(scene.pieces[:MOST]):
            picture[n, k], paint[n, k] = p.picture, NAMES.index(p.paint)
            shape[n, k] = p.x, p.y, p.size, p.angle, -1.0 if p.flip else 1.0
    return picture, shape, paint, ground


class Painter:
    """Renders scenes. `pictures` uint8 (n, 3, 128, 128) on white and their `opacity` (n, 128, 128), both of the plain style."""

    def __init__(self, pictures, opacity, device="cpu"):
        bank = torch.cat([pictures.to(device).float() / 255 - 1, opacity.to(device)[:, None].float() / 255], dim=1)
        # How white changes it, and its opacity: linear in both, so that blank surroundings are zero and copies can be averaged.
        self.banks = [bank.half() if bank.is_cuda else bank]
        for _ in range(2):
            self.banks.append(F.avg_pool2d(self.banks[-1], 2))
        rows = [(0.0, 0.0, 0.0, 0.0), *PAINTS.values()]
        hue, more, bend, bright = torch.tensor(rows, device=device).T
        self.recipe = torch.stack([more, bend, bright], dim=1)
        sixth = (hue[:, None] / 60 + torch.tensor([0.0, 4.0, 2.0], device=device)) % 6
        self.pure = ((sixth - 3).abs() - 1).clamp(0, 1)  # the rgb of each hue
        self.device = device

    def paint(self, layer, paint):
        """Layers (n, 4, h, w), each painted as `recolour.paint` does."""
        rgb = layer[:, :3].float() + 1
        top, low = rgb.amax(1, keepdim=True).clamp_min(1e-4), rgb.amin(1, keepdim=True)
        saturation = (top - low) / top
        more, bend, bright = (part.view(-1, 1, 1, 1) for part in self.recipe[paint].T)
        how = (saturation / 0.3).clamp(max=1)
        value = (top + how * (bright * top.clamp(0, 1) ** bend - top)).clamp(0, 1)
        mixed = (saturation * more).clamp(max=1)
        pure = self.pure[paint].view(-1, 3, 1, 1)
        return torch.cat([(value * (1 - mixed + mixed * pure) - 1).to(layer.dtype), layer[:, 3:]], dim=1)

    @torch.no_grad()
    def __call__(self, picture, shape, paint, ground):
        """Pictures (n, 3, 128, 128) in [0, 1] of what `to_arrays` gave."""
        picture, shape, paint, ground = (torch.as_tensor(part).to(self.device) for part in (picture, shape, paint, ground))
        line = (torch.arange(SIDE, device=self.device) + 0.5) / SIDE
        share = ((line - ground[:, 6:7]) / ground[:, 7:8] + 0.5).clamp(0, 1)[:, None, :, None]
        paper = torch.lerp(ground[:, 0:3, None, None], ground[:, 3:6, None, None], share).expand(-1, -1, -1, SIDE).contiguous()
        for k in range(picture.shape[1]):
            for level, (least, most) in enumerate(((0.55, 9.0), (0.28, 0.55), (0.0, 0.28))):
                side = shape[:, k, 2]
                rows = ((picture[:, k] >= 0) & (side > least) & (side <= most)).nonzero()[:, 0]
                if len(rows) == 0:
                    continue
                x, y, side, angle, flip = shape[rows, k].T
                cos, sin = angle.cos() / side, angle.sin() / side
                x, y = 2 * x - 1, 2 * y - 1
                theta = torch.stack([
                    torch.stack([cos * flip, sin * flip, -(cos * x + sin * y) * flip], dim=1),
                    torch.stack([-sin, cos, sin * x - cos * y], dim=1),
                ], dim=1)  # fmt: skip
                bank = self.banks[level]
                grid = F.affine_grid(theta, (len(rows), 4, SIDE, SIDE), align_corners=False).to(bank.dtype)
                layer = F.grid_sample(bank[picture[rows, k]], grid, padding_mode="zeros", align_corners=False)
                painted = paint[rows, k] > 0
                if painted.any():
                    layer[painted] = self.paint(layer[painted], paint[rows, k][painted])
                layer = layer.float()
                under = paper[rows]
                paper[rows] = under + layer[:, :3] + layer[:, 3:] * (1 - under)
        return paper.clamp(0, 1)
