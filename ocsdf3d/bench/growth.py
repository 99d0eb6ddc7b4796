"""Time and memory from a file of n points to a mesh: flat in n, or not.

    python -m ocsdf3d.bench.growth --points 2048 100000 1000000 10000000

Each number of points has a process of its own: the file is written first (NPY, float32, points of one
closed mesh, uniform by area), then read, learnt and meshed, with the clock around each stage and the largest
resident set of the process. Chamfer is to the mesh, over its longest side.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import trimesh

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, replaced, say
from ocsdf3d.bench.isolation import begun_peak, call_apart, peak

__all__ = ["POINTS", "main", "measured", "run", "write_cloud"]

POINTS = (2048, 100_000, 1_000_000, 10_000_000)
SHAPE = "rocker_arm.obj"
BLOCK = 1_000_000
LIMIT = 3600.0  # seconds a process
SAMPLES = 100_000
KEY = ("shape", "points", "preset", "seed")
FIGURES = ("used", "load", "sides", "train", "mesh", "total", "peak", "chamfer", "support")
COLUMNS = (*KEY, *FIGURES, "error", "version")


def write_cloud(mesh: trimesh.Trimesh, count: int, path: Path, seed: int) -> None:
    """Write points of a mesh, (count, 3) float32, block by block."""
    from ocsdf3d.sampling import surface_points

    rng = np.random.default_rng(seed)
    table = np.lib.format.open_memmap(path, mode="w+", dtype="<f4", shape=(count, 3))
    for start in range(0, count, BLOCK):
        stop = min(count, start + BLOCK)
        table[start:stop] = surface_points(mesh, stop - start, rng)[0]
    table.flush()


def measured(file: str, reference: str, preset: str, seed: int) -> dict[str, object]:
    """Return the figures of one file, in the present process: seconds, and megabytes with the program."""
    import ocsdf3d as oc

    begun_peak()
    begun = time.perf_counter()
    sdf = oc.fit(file, preset=preset, seed=seed)
    meshing = time.perf_counter()
    mesh = sdf.mesh(resolution=200)
    end = time.perf_counter()
    most = peak()
    truth = oc.read(reference)
    assert isinstance(truth, trimesh.Trimesh)
    distance = oc.evaluate(mesh, truth, samples=SAMPLES, seed=seed)["chamfer"]
    return {
        "used": sdf.settings["points"],
        **{name: sdf.history["seconds"][name] for name in ("load", "sides", "train")},
        "mesh": end - meshing,
        "total": end - begun,
        "peak": most,
        "chamfer": None if distance is None else distance / float(np.ptp(truth.bounds, axis=0).max()),
        "support": sdf.support,
    }


def run(
    shape: Path,
    points: Sequence[int],
    out: Path,
    *,
    preset: str = "default",
    seed: int = 0,
    fresh: bool = False,
) -> str:
    """Measure what is not in the ledger yet; the table.

    Parameters
    ----------
    shape
        A mesh.
    points
        Numbers of points.
    out
        Folder of the ledger and the table.
    preset, seed
        Of `fit`; the seed also draws the points.
    fresh
        Forget the rows that are already there.
    """
    from ocsdf3d import io

    out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(out / "growth.csv", COLUMNS, KEY, fresh=fresh)
    mesh = io.read(shape)
    if not isinstance(mesh, trimesh.Trimesh):
        raise ValueError(f"{shape}: a cloud; points are drawn from a mesh. Name one.")
    rows: list[Mapping[str, object]] = []
    for count in points:
        key = {"shape": shape.stem, "points": count, "preset": preset, "seed": seed}
        row = ledger.find(**key)
        if row is None:
            with tempfile.TemporaryDirectory(dir=out) as folder:
                file = Path(folder) / "cloud.npy"
                write_cloud(mesh, count, file, seed)
                say(f"{shape.stem}: {count} points …")
                outcome = call_apart(measured, str(file), str(shape), preset, seed, limit=LIMIT)
            figures = outcome.value or dict.fromkeys(FIGURES)
            row = ledger.add({**key, **figures, "error": outcome.error, "version": __version__})
        rows.append(row)
    head = circumstances(("torch", "numpy", "scipy"), preset=preset, seed=seed, resolution=200)
    names = ["points", *FIGURES, "error"]
    heads = ["points", "used", *(f"{name} [s]" for name in FIGURES[1:6]), "peak [MB]", *FIGURES[7:], "failed"]
    text = "\n".join(
        ["# Growth with the points", "", head, "", markdown(heads, [[row[k] for k in names] for row in rows])]
    )
    with replaced(out / "growth.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m ocsdf3d.bench.growth", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--points", nargs="+", type=int, default=list(POINTS), metavar="N", help="(default: 2048 to 10⁷)")
    add("--shape", type=Path, metavar="MESH", help=f"(default: {SHAPE} of the data folder)")
    add("--preset", default="default", help="(default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    add(
        "--out", type=Path, default=Path("bench-results/growth"), metavar="DIR", help="(default: %(default)s)"
    )
    add("--fresh", action="store_true", help="forget the rows in the output folder (default: go on)")
    given = parser.parse_args(arguments)
    shape = given.shape or data_folder() / "meshes" / SHAPE
    print(run(shape, given.points, given.out, preset=given.preset, seed=given.seed, fresh=given.fresh))
    return 0


if __name__ == "__main__":
    sys.exit(main())
