"""Which rows of a table are odd? A verdict for each, and a ball in which it is proved to stay the same.

You will see `oneclass.png`: left rows to judge, blue or red, in balls that provably do not reach the black
line where the decision changes; right the score, with slope at most 1, and the rows it was learnt from: two
moons, and no odd row among them. NumPy and Pillow draw. Half a minute on one core; `--fast` takes a fifth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ocsdf3d.oneclass import OneClassSDF, toy_samples

PICTURE, SIZE = "oneclass.png", (1200, 620)
ASSETS = Path(__file__).resolve().parent.parent / "assets"
SIDE, LEFT, TOP = 470, 65, 50  # of each map [pixels]
HALF = 2.6  # of its side [standard deviations]
RAMP = np.array([[178, 24, 43], [244, 165, 130], [247, 247, 247], [146, 197, 222], [33, 102, 172]])


def main(argv: list[str] | None = None) -> int:
    """Learn, judge, prove, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="preset fast, 300 steps")
    parser.add_argument("-o", "--output", type=Path, help="folder; else the gallery, if fast the current")
    args = parser.parse_args(argv)
    folder = args.output or (Path() if args.fast else ASSETS / "gallery")  # no draft among the pictures

    rng = np.random.default_rng(0)
    rows = toy_samples("two_moons", 2000, rng)
    settings = {"preset": "fast", "lam": 1000.0, "steps": 300} if args.fast else {"preset": "fine"}
    # the default preset expects odd rows among those to learn, this one does not
    detector = OneClassSDF(random_state=0, **settings).fit(rows)

    asked = np.concatenate([toy_samples("two_moons", 60, rng), rng.uniform(-HALF, HALF, (60, 2))])
    verdicts, radii = detector.predict(asked), detector.certified_radius(asked)
    kept = (detector.predict(toy_samples("two_moons", 2000, rng)) == 1).mean()
    slope = detector.certificate_.lipschitz
    print(f"{kept:.1%} of fresh rows accepted, slope at most {slope:.7f}")
    print(f"{(radii > 0).sum()} of {len(asked)} verdicts proved, within {np.median(radii):.2g} at the median")

    along = HALF * ((2.0 * np.arange(SIDE) + 1.0) / SIDE - 1.0)
    x, y = np.meshgrid(along, -along)  # of the standardised space, where radii are meant
    places = np.stack([x.ravel(), y.ravel()], axis=1) * detector.scale_ + detector.mean_
    score = detector.decision_function(places).reshape(SIDE, SIDE)
    inside = score >= 0.0
    line = np.zeros_like(inside)
    line[1:] |= inside[1:] != inside[:-1]
    line[:-1] |= line[1:]
    line[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    limits = [-1.5, -0.3, 0.0, score.max() / 2.0, score.max()]
    tones = np.stack([np.interp(score, limits, RAMP[:, k]) for k in range(3)], axis=2)
    tones[(np.abs(score) > 0.1) & (np.abs(score) % 0.25 < 0.01)] *= 0.85  # a level line each quarter
    pale = np.where(inside[..., None], [226, 236, 246], [255, 255, 255])

    picture = Image.new("RGB", SIZE, "white")
    for shown, corner in ((pale, LEFT), (tones, 600 + LEFT)):
        map_ = np.where(line[..., None], 20, shown).round().astype(np.uint8)
        picture.paste(Image.fromarray(map_), (corner, TOP))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(20)

    def pixels(points: np.ndarray, corner: int) -> np.ndarray:
        return (detector.standardised(points) * [1, -1] / HALF + 1.0) * SIDE / 2.0 + [corner, TOP]

    frame = np.array([LEFT, TOP, LEFT + SIDE - 1, TOP + SIDE - 1])
    beside = frame + np.array([600, 0, 600, 0])
    for at, radius, verdict in zip(pixels(asked, LEFT), radii * SIDE / (2.0 * HALF), verdicts, strict=True):
        color = "#1f4e79" if verdict == 1 else "#c0392b"
        pen.ellipse((*(at - 3), *(at + 3)), fill=color)
        if (at - radius >= frame[:2]).all() and (at + radius <= frame[2:]).all():
            pen.ellipse((*(at - radius), *(at + radius)), outline=color)
    for at in pixels(rows, 600 + LEFT):
        if (at >= beside[:2]).all() and (at <= beside[2:]).all():
            pen.point(tuple(at), "#222222")
    for edges in (frame, beside):
        pen.rectangle(tuple(edges), outline="#888888")
    pen.text((65, 550), "normal or odd, and how far that is proved to hold", "#222222", font)
    pen.text((665, 550), f"the score: slope at most {slope:.7f}", "#222222", font)
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
