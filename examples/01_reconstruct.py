"""Points in, a closed mesh out: 3,000 bare points of a kitten beside the surface made of them.

You will see `first.png`: left the points, without normals, pale where they are far; right the closed mesh
that follows from them. A minute and a half on one core, half of that on two; `--fast` takes a third.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyvista as pv
from PIL import Image, ImageDraw, ImageFont

import ocsdf3d as oc

PICTURE, SIZE = "first.png", (1200, 620)
ASSETS = Path(__file__).resolve().parent.parent / "assets"
CAMERA, MIDDLE = (-1.4, 0.8, 2.75), (0.0, -0.04, 0.0)  # where it stands, and what it looks at; y is up


def main(argv: list[str] | None = None) -> int:
    """Read, fit, mesh, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="1,000 points, preset fast, 96 nodes")
    parser.add_argument("--field", help="take this field instead of training one")
    parser.add_argument("-o", "--output", type=Path, help="folder; else the gallery, if fast the current")
    args = parser.parse_args(argv)
    folder = args.output or (Path() if args.fast else ASSETS / "gallery")  # no draft among the pictures

    cloud = oc.read(ASSETS / "kitten.xyz")
    settings = {"preset": "fast", "points": 1000} if args.fast else {}
    sdf = oc.load(args.field) if args.field else oc.fit(cloud, seed=0, **settings)
    mesh = sdf.mesh(resolution=96 if args.fast else 256)
    print(f"{len(mesh.faces):,} triangles, closed: {mesh.is_watertight}, L = {sdf.lipschitz:.7f}")

    stage = pv.Plotter(off_screen=True, shape=(1, 2), window_size=SIZE, border=False)
    stage.set_background("white")
    stage.enable_anti_aliasing("msaa", multi_samples=8)
    stage.subplot(0, 0)
    near = cloud.points @ np.array(CAMERA)  # a cloud is see-through: the paler, the farther
    stage.add_points(
        cloud.points,
        scalars=near,
        cmap="Blues",
        clim=(2.0 * near.min(), near.max()),
        point_size=6,
        render_points_as_spheres=True,
        lighting=False,
        show_scalar_bar=False,
    )
    stage.subplot(0, 1)
    stage.add_mesh(pv.wrap(mesh), color="#e8c07d", smooth_shading=True, specular=0.3, ambient=0.15)
    stage.link_views()
    stage.camera_position = [CAMERA, MIDDLE, (0.0, 1.0, 0.0)]
    stage.camera.view_angle = 22.0
    picture = Image.fromarray(stage.screenshot(None, return_img=True))
    stage.close()
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    pen.text((20, 580), f"{len(cloud):,} points, no normals", "#222222", font)
    pen.text(
        (620, 580), f"closed mesh, {len(mesh.faces):,} triangles, L = {sdf.lipschitz:.7f}", "#222222", font
    )
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / PICTURE, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
