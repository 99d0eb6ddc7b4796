"""Scans as they are: the files of the data's `points/`, judged by their mesh or by points held out.

What the folder has decides. Where `points.csv` names the mesh that a scan was taken from (two simulated
time-of-flight scans of ABC parts), the whole scan is handed over and the mesh is the reference. No other scan
has a truth, so half of its points, drawn with the seed, is handed over and the other half is the reference:
that asks whether a method predicts points it has not seen, noise included, and can say nothing about places
where nobody scanned. A two-sided figure against points blames a method for closing a hole. `held_out`, the
mean distance from reference points to the mesh, does not, but a mesh that fills space would win it. Read
both.

Subfolders are left out (they hold exact samples of ModelNet meshes, which `modelnet` covers), and so are
files that cannot be read. A cloud of more than 100,000 points is thinned to that many.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import trimesh

from ocsdf3d.bench import LISTS
from ocsdf3d.bench.judge import SURFACE, score
from ocsdf3d.bench.methods import Answer, answer
from ocsdf3d.bench.protocols import Asked, Case, Column, Protocol, Sample, chosen
from ocsdf3d.bench.protocols.field import distance_to
from ocsdf3d.bench.protocols.solids import settings_of
from ocsdf3d.bench.survey import truths
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.metrics import floor
from ocsdf3d.sampling import some_of

MOST = 100_000
COLUMNS = {
    "chamfer": SURFACE["chamfer"],
    "held_out": Column("reference to mesh", "low"),
    **{name: SURFACE[name] for name in ("hausdorff", "f_score")},
    "watertight": Column("watertight"),
}


def load_scan(path: Path, truth: Path | None, seed: int, samples: int) -> Sample:
    """A scan and its reference, both moved and scaled so that the reference has longest side 1.

    Raises
    ------
    ValueError
        The file holds a mesh, or cannot be read.
    """
    from ocsdf3d.io import read

    cloud = read(path)
    if not isinstance(cloud, PointCloud):
        raise ValueError(f"{path}: holds a mesh; the folder `points` is for clouds")
    rng = np.random.default_rng([seed, 2])
    points = cloud.points[some_of(len(cloud), MOST, rng)]
    if truth is not None:
        mesh = read(truth)
        assert isinstance(mesh, trimesh.Trimesh)
        box = Box.of(mesh.vertices)
        unit = trimesh.Trimesh((mesh.vertices - box.center) / box.longest, mesh.faces, process=False)
        return Sample((points - box.center) / box.longest, unit, floor(unit, samples=samples, seed=seed))
    order = rng.permutation(len(points))
    given, held = points[order[::2]], points[order[1::2]]
    box = Box.of(held)
    return Sample((given - box.center) / box.longest, PointCloud((held - box.center) / box.longest), None)


def to_mesh(reference: trimesh.Trimesh | PointCloud, mesh: trimesh.Trimesh, samples: int, seed: int) -> float:
    """Mean distance from points of the reference to the mesh, exact but for their number."""
    if isinstance(reference, PointCloud):
        points = reference.points
    else:
        points = trimesh.sample.sample_surface(reference, samples, seed=seed)[0]
    return float(distance_to(mesh, points).mean())


def _measure(method: str, case: Case, sample: Sample, asked: Asked) -> tuple[dict[str, object], Answer]:
    given = answer(method, sample.points, settings_of(asked, case.seed), limit=asked.limit)
    row = score(given, sample, samples=asked.samples, seed=case.seed)
    row["held_out"] = (
        math.inf if given.mesh is None else to_mesh(sample.reference, given.mesh, asked.samples, case.seed)
    )
    return row, given


def _cases(asked: Asked) -> list[Case]:
    from ocsdf3d.io import READABLE

    folder = asked.data / "points"
    truth = truths(asked.data)
    names = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and path.suffix not in LISTS and path.suffix.lower() in READABLE:
            names.append(path.name)
    cases = []
    for name in chosen(names, asked.shapes, "scan"):
        for seed in asked.seeds:
            load = partial(load_scan, folder / name, truth.get(f"points/{name}"), seed, asked.samples)
            cases.append(Case(name, 0, 0.0, 0.0, seed, load))
    return cases


PARTS = (
    Protocol(
        "scans",
        "Scans as they are",
        COLUMNS,
        "Longest side of the reference 1. Where points.csv names a mesh, that is the reference; else the"
        " held-out half of the points: there Chamfer counts their spacing and every hole that was closed.",
        _cases,
        _measure,
    ),
)
