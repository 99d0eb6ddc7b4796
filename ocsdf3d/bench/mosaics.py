"""One scan in one piece and in tiles: distance to the truth, what is seen of the seams, what is proved.

    python -m ocsdf3d.bench.mosaics --shape camel.off --points 1000000 --tiles 4 4 --preset fast --workers 2

Points of a closed mesh, uniform by area, are written as NPY and fitted twice: in one piece, which is the
whole that the tiles begin with, and in tiles. Both are meshed on the same grid. Figures, lengths over the
longest side of the truth:

- Chamfer distance, normal consistency, IoU, against the mesh that was sampled.
- *ramps* and *cells*: mean distance of the mesh's faces from the truth, and mean angle of their normals to
  the truth's, where tiles share the weight and where one has it all.
- *crease*: the 99th percentile of the angle between neighbouring faces, within a grid cell of where a ramp
  begins or ends, for there the slope of the weights jumps; and elsewhere.
- *proved*: the bound of the slope, and *met*: the steepest of 10⁶ pairs drawn across the ramps.

The folder keeps what is done; the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d.bench import circumstances, data_folder, markdown, replaced, say
from ocsdf3d.bench.growth import write_cloud

__all__ = ["creases", "main", "on_ramps", "run", "steepest"]

Floats = NDArray[np.float64]

SAMPLES = 400_000
PAIRS = 1_000_000


def name_of(tiles: Sequence[int]) -> str:
    """Return numbers of tiles as text."""
    return "x".join(map(str, tiles))


def on_ramps(points: Floats, cuts: Sequence[Sequence[float]], widths: Sequence[float]) -> NDArray[np.bool_]:
    """Return which points, (n, 3), lie where tiles share the weight."""
    found = np.zeros(len(points), bool)
    for axis, (own, width) in enumerate(zip(cuts, widths, strict=True)):
        for cut in own:
            found |= np.abs(points[:, axis] - cut) < 0.5 * width
    return found


def creases(
    mesh: trimesh.Trimesh, cuts: Sequence[Sequence[float]], widths: Sequence[float], cell: float
) -> tuple[float, float]:
    """Return the 99th percentile of angles between faces [degrees]: at the ends of ramps, and elsewhere."""
    middle = np.asarray(mesh.vertices)[mesh.face_adjacency_edges].mean(axis=1)
    near = np.zeros(len(middle), bool)
    for axis, (own, width) in enumerate(zip(cuts, widths, strict=True)):
        for cut in own:
            near |= np.abs(np.abs(middle[:, axis] - cut) - 0.5 * width) < cell
    angles = np.degrees(mesh.face_adjacency_angles)
    here, there = (float(np.percentile(angles[rows], 99)) if rows.any() else np.nan for rows in (near, ~near))
    return here, there


def steepest(field: object, cuts: Sequence[Sequence[float]], widths: Sequence[float], seed: int) -> float:
    """Return the largest slope of φ between pairs of points across the ramps, their rounding taken off."""
    from ocsdf3d.join import Join

    assert isinstance(field, Join)
    rng, best = np.random.default_rng(seed), 0.0
    planes = [(axis, cut) for axis, own in enumerate(cuts) for cut in own]
    rounding = 2.0 * field.rounding_within(field.box)
    for axis, cut in planes:
        x = rng.uniform(field.lower, field.upper, (PAIRS // len(planes), 3))
        x[:, axis] = cut + widths[axis] * rng.uniform(-0.6, 0.6, len(x))
        step = rng.normal(size=x.shape) * 10.0 ** rng.uniform(-3, 0, (len(x), 1)) * widths[axis]
        y = np.clip(x + step, field.lower, field.upper)
        apart = np.linalg.norm(x - y, axis=1)
        rise = np.maximum(np.abs(field(x) - field(y)) - rounding, 0.0)
        best = max(best, float((rise[apart > 0.0] / apart[apart > 0.0]).max()))
    return best


def run(
    shape: Path,
    out: Path,
    *,
    points: int,
    tiles: Sequence[int],
    preset: str = "fast",
    halo: float | None = None,
    resolution: int = 384,
    workers: int = 1,
    seed: int = 0,
) -> str:
    """Fit, compare, and return the table; parameters as on the command line, see `main`."""
    import ocsdf3d as oc
    from ocsdf3d.distribute import fit_tiles
    from ocsdf3d.sampling import surface_points

    out.mkdir(parents=True, exist_ok=True)
    truth = oc.read(shape)
    if not isinstance(truth, trimesh.Trimesh):
        raise ValueError(f"{shape}: a cloud; points are drawn from a mesh. Name one.")
    scan = out / f"{shape.stem}-{points}-{seed}.npy"
    if not scan.exists():
        with replaced(scan) as temporary:
            write_cloud(truth, points, temporary, seed)
    begun = time.perf_counter()
    folder = out / f"{shape.stem}-{preset}-{name_of(tiles)}"
    join = fit_tiles(
        scan,
        folder,
        tiles,
        halo=halo,
        workers=workers,
        preset=preset,
        seed=seed,
        tell=lambda done, total, _: say(f"{done} of {total} fitted, {time.perf_counter() - begun:.0f} s"),
    )
    proving = time.perf_counter()
    bound = join.lipschitz
    proved = time.perf_counter() - proving
    longest = float(np.ptp(truth.bounds, axis=0).max())
    drawn, faces = surface_points(truth, SAMPLES, np.random.default_rng(seed + 1))[:2]
    tree, normals = cKDTree(drawn), truth.face_normals[faces]
    rows = []
    for name, field in (("one piece", join.parts[0]), ("tiles", join)):
        meshing = time.perf_counter()
        mesh = field.mesh(resolution=resolution)
        taken = time.perf_counter() - meshing
        oc.write(out / f"{shape.stem}-{name.replace(' ', '-')}.ply", mesh)
        figures = oc.evaluate(mesh, truth, samples=SAMPLES, seed=seed)
        distance, nearest = tree.query(mesh.triangles_center)
        cosine = (mesh.face_normals * normals[nearest]).sum(axis=1)
        angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        shared = on_ramps(np.asarray(mesh.triangles_center), join.cuts, join.widths)
        areas = mesh.area_faces
        off = [np.average(distance[s], weights=areas[s]) / longest for s in (shared, ~shared)]
        turned = [np.average(angle[s], weights=areas[s]) for s in (shared, ~shared)]
        chamfer = figures["chamfer"]
        rows.append(
            [
                name,
                None if chamfer is None else chamfer / longest,
                figures["normal_consistency"],
                figures["iou"],
                "yes" if mesh.is_watertight else "no",
                mesh.body_count,
                *off,
                *turned,
                *creases(mesh, join.cuts, join.widths, field.box.longest / resolution),
                field.lipschitz,
                taken,
            ]
        )
    heads = ["", "Chamfer", "normals", "IoU", "closed", "bodies", "off, ramps", "off, cells"]
    heads += ["angle, ramps", "angle, cells", "crease, ends", "crease, else", "slope proved", "mesh [s]"]
    met = steepest(join, join.cuts, join.widths, seed)
    head = circumstances(("torch", "numpy", "scipy"), preset=preset, seed=seed, resolution=resolution)
    text = "\n".join(
        [
            f"# {shape.stem}, {points:,} points, in one piece and in {name_of(join.shape)} tiles",
            "",
            head,
            "",
            markdown(heads, rows),
            "",
            f"Slope proved {bound:.3f} in {proved:.0f} s, met between pairs {met:.3f}; neighbours differ by "
            f"at most {max(join.gaps) / longest:.4f} where they share the weight, ramps are "
            f"{join.widths[0] / longest:.4f} wide, the band {join.band / longest:.4f}; "
            f"{join.which.count(0)} tiles are empty.",
        ]
    )
    with replaced(out / f"{shape.stem}-{preset}-{name_of(tiles)}.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m ocsdf3d.bench.mosaics", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--shape", default="camel.off", metavar="MESH", help="of the data folder (default: %(default)s)")
    add("--points", type=int, default=1_000_000, metavar="N", help="(default: %(default)s)")
    add("--tiles", type=int, nargs="+", default=[4, 4], metavar="N", help="(default: 4 4)")
    add("--preset", default="fast", help="(default: %(default)s)")
    add("--halo", type=float, metavar="SHARE", help="of a tile's longest side (default: that of `mosaic`)")
    add("--resolution", type=int, default=384, metavar="N", help="of both meshes (default: %(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=Path("bench-results/mosaics"),
        metavar="DIR",
        help="(default: %(default)s)",
    )
    given = vars(parser.parse_args(arguments))
    path = Path(given.pop("shape"))
    shape = path if path.exists() else data_folder() / "meshes" / path
    print(run(shape, given.pop("out"), **given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
