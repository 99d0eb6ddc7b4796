"""Redraw the pictures of the README: `assets/gallery/first.png`, the kitten's points beside its mesh.

What you will see: 3,000 bare points and the closed mesh made of them. About a minute on two cores; `--fast`
trains for seconds only. `-o` names another folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ocsdf3d as oc

HERE = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Reconstruct, draw off-screen, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="preset fast, 64 nodes")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "assets" / "gallery", help="folder")
    args = parser.parse_args(argv)

    import pyvista as pv

    cloud = oc.read(HERE / "assets" / "kitten.xyz")
    sdf = oc.fit(cloud, preset="fast" if args.fast else "default", seed=0)
    mesh = sdf.mesh(resolution=64 if args.fast else 256)

    plotter = pv.Plotter(off_screen=True, shape=(1, 2), window_size=(1200, 620), border=False)
    plotter.subplot(0, 0)
    plotter.add_points(cloud.points, color="#1f4e79", point_size=6, render_points_as_spheres=True)
    plotter.add_text(f"{len(cloud):,} points, no normals", font_size=12, color="black", position="lower_left")
    plotter.subplot(0, 1)
    plotter.add_mesh(pv.wrap(mesh), color="#e8c07d", smooth_shading=True, specular=0.3)
    plotter.add_text(
        f"closed mesh, L = {sdf.lipschitz:.6f}", font_size=12, color="black", position="lower_left"
    )
    plotter.link_views()
    plotter.set_background("white")
    plotter.view_vector((1.0, 0.35, 0.25), viewup=(0.0, 1.0, 0.0))
    plotter.camera.zoom(1.35)
    args.output.mkdir(parents=True, exist_ok=True)
    plotter.screenshot(args.output / "first.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
