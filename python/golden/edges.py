"""Edges as OpenCV finds them, for ondine-image: crates/ondine-image/tests/data/edges.json.

    python edges.py                       # needs opencv-python-headless

Pictures are made by a formula of whole numbers, which the test knows too: `value` of a column, a row and a colour.
"""
import json
from pathlib import Path

import cv2
import numpy as np

DATA = Path(__file__).resolve().parents[2] / "crates/ondine-image/tests/data"
CASES = [(40, 30, 100, 200, 1), (33, 47, 100, 200, 3), (64, 64, 50, 150, 2), (17, 9, 10, 20, 5), (3, 3, 1, 2, 7), (1, 5, 0, 0, 2), (50, 2, 30, 90, 4)]


def value(x, y, colour, kind):
    """Waves of different length, steps and a slope."""
    wave = abs((x * (kind + 1) + y * (3 - colour)) % 48 - 24) * 6
    step = ((x // 9 + y // 7 + colour * kind) % 2) * 70
    return min(255, (wave + step + x * y % (5 + kind)) * 2 // 3)


def main():
    cases = []
    for width, height, low, high, kind in CASES:
        rgb = np.array([[[value(x, y, c, kind) for c in range(3)] for x in range(width)] for y in range(height)], np.uint8)
        edges = cv2.Canny(rgb, low, high)
        rows = ["".join("#" if edge else "." for edge in row) for row in edges]
        cases.append(dict(width=width, height=height, low=low, high=high, kind=kind, rows=rows))
        print(width, height, int((edges > 0).sum()), "edges")
    (DATA / "edges.json").write_text(json.dumps(cases, indent=0) + "\n")


if __name__ == "__main__":
    main()
