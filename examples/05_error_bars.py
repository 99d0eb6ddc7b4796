"""How far is the surface from each point? Not nearer than this, not farther than that, and both are proved.

You will see `error_bars.png`: left the 3,000 points of the kitten, coloured by the upper end of their error
bars, right the surface that they are measured to. A minute and a half on one core, nearly all of it training;
with `--field` seconds; `--fast` takes a third.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv
from PIL import Image, ImageDraw, ImageFont

import ocsdf3d as oc

PICTURE, SIZE = "error_bars.png", (1200, 620)
ASSETS = Path(__file__).resolve().parent.parent / "assets"
CAMERA, MIDDLE = (-1.4, 0.8, 2.75), (0.0, -0.04, 0.0)  # where it stands, and what it looks at; y is up
LEGEND = "proved distance\nto the surface\n[units], at most\n"


def main(argv: list[str] | None = None) -> int:
    """Measure the cloud against the field, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="1,000 points, preset fast, 96 nodes")
    parser.add_argument("--field", help="take this field instead of training one")
    parser.add_argument("-o", "--output", type=Path, help="folder; else the gallery, if fast the current")
    args = parser.parse_args(argv)
    folder = args.output or (Path() if args.fast else ASSETS / "gallery")  # no draft among the pictures

    cloud = oc.read(ASSETS / "kitten.xyz")
    settings = {"preset": "fast", "points": 1000} if args.fast else {}
    sdf = oc.load(args.field) if args.field else oc.fit(cloud, seed=0, **settings)
    bars = sdf.error_bars(cloud.points)
    half, most, worst = np.quantile(bars.upper, [0.5, 0.99, 1.0])
    caption = f"median {half:.2g}, 99th percentile {most:.2g}, largest {worst:.2g}"
    print(f"{len(cloud):,} error bars, upper ends: {caption}; {bars.evaluations:,} values of the field")

    nodes = 96 if args.fast else 256
    stage = pv.Plotter(off_screen=True, shape=(1, 2), window_size=SIZE, border=False)
    stage.set_background("white")
    stage.enable_anti_aliasing("msaa", multi_samples=8)
    stage.subplot(0, 0)
    inner = sdf.mesh(resolution=nodes, offset=-0.01)  # hides the points of the far side, and none of this one
    stage.add_mesh(pv.wrap(inner), color="#e2e5e9", smooth_shading=True, ambient=0.4)
    bar = {"vertical": True, "position_x": 0.83, "position_y": 0.45, "width": 0.09, "height": 0.5}
    bar |= {"n_labels": 4, "fmt": "%.5g", "color": "#222222", "title_font_size": 14, "label_font_size": 15}
    points = pv.PolyData(cloud.points)
    points[LEGEND] = bars.upper
    look = {"point_size": 8, "render_points_as_spheres": True, "lighting": False, "scalar_bar_args": bar}
    stage.add_mesh(points, scalars=LEGEND, cmap="viridis", log_scale=True, clim=(1e-5, 1e-2), **look)
    stage.subplot(0, 1)
    mesh = sdf.mesh(resolution=nodes)
    stage.add_mesh(pv.wrap(mesh), color="#e8c07d", smooth_shading=True, specular=0.3, ambient=0.15)
    stage.link_views()
    stage.camera_position = [CAMERA, MIDDLE, (0.0, 1.0, 0.0)]
    stage.camera.view_angle = 22.0
    picture = Image.fromarray(stage.screenshot(None, return_img=True))
    stage.close()
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    pen.text((20, 580), caption, "#222222", font)
    pen.text((620, 580), "the surface, 1 unit high", "#222222", font)
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
