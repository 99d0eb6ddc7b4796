"""Which points are not of the surface? A verdict for each, and how far it may move before that could change.

You will see `outliers.png`: left a cloud of which 5 % are drawn at random from a box around the kitten, all
points alike; right what a field trained on that same cloud says of them: red lies off the surface. A minute
and a half on one core, nearly all of it training; `--fast` takes a third.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv
from PIL import Image, ImageDraw, ImageFont

import ocsdf3d as oc

PICTURE, SIZE = "outliers.png", (1200, 620)
ASSETS = Path(__file__).resolve().parent.parent / "assets"
CAMERA, MIDDLE = (-1.4, 0.8, 2.75), (0.0, -0.04, 0.0)  # where it stands, and what it looks at; y is up
OFF = 0.01  # |value of the field| above which a point is off the surface [units]; the kitten is 1 unit high


def main(argv: list[str] | None = None) -> int:
    """Spoil the cloud, fit it, judge every point, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="1,000 points, preset fast")
    parser.add_argument("--field", help="take this field instead of training one on the spoilt cloud")
    parser.add_argument("-o", "--output", type=Path, help="folder; else the gallery, if fast the current")
    args = parser.parse_args(argv)
    folder = args.output or (Path() if args.fast else ASSETS / "gallery")  # no draft among the pictures

    clean = oc.read(ASSETS / "kitten.xyz").points
    box, rng = oc.Box.of(clean).expanded(0.1), np.random.default_rng(0)
    strays = rng.uniform(box.lower, box.upper, (len(clean) // 19, 3))  # 5 % of all
    cloud = np.concatenate([clean, strays])
    settings = {"preset": "fast", "points": 1000} if args.fast else {}
    sdf = oc.load(args.field) if args.field else oc.fit(cloud, seed=0, **settings)
    out, radius = sdf.verdicts(cloud, threshold=OFF)
    kept = np.median(radius[out]) if out.any() else 0.0
    found, accused = out[len(clean) :].sum(), out[: len(clean)].sum()
    print(f"{found} of {len(strays)} strays found, {accused} of {len(clean):,} other points accused")
    print(f"an outlier stays one when moved by less than its radius: median {kept:.3g} units")

    stage = pv.Plotter(off_screen=True, shape=(1, 2), window_size=SIZE, border=False)
    stage.set_background("white")
    stage.enable_anti_aliasing("msaa", multi_samples=8)
    look = {"render_points_as_spheres": True, "lighting": False}
    stage.subplot(0, 0)
    stage.add_points(cloud, color="#6b7f94", point_size=6, **look)
    stage.subplot(0, 1)
    stage.add_points(cloud[~out], color="#9ec5e6", point_size=6, **look)
    stage.add_points(cloud[out], color="#c0392b", point_size=8, **look)
    stage.link_views()
    stage.camera_position = [CAMERA, MIDDLE, (0.0, 1.0, 0.0)]
    stage.camera.view_angle = 26.0
    picture = Image.fromarray(stage.screenshot(None, return_img=True))
    stage.close()
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    pen.text((20, 580), f"{len(cloud):,} points, {len(strays)} of them strays", "#222222", font)
    caption = f"{out.sum()} outliers, proved to stay so within {kept:.2g} units (median)"
    pen.text((620, 580), caption, "#c0392b", font)
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
