"""Closed shapes from bare points: sparse and dense, clean, noisy, and among outliers.

Every mesh of the data folder is read, its equal vertices merged, degenerate and duplicate faces dropped, and
kept when it is then watertight. It is scaled so that its longest side is 1, sampled uniformly by area with
the seed, and only the positions are handed to a method: no normals, and nothing through a file. Outliers are
added to the samples, uniform in a box 1.2 times the bounding box. Chamfer is in units of the longest side;
its *floor* is the Chamfer distance of a second sampling of the true surface to the first, what a perfect
answer would get.

`cow.obj` has one pinched vertex and so the odd Euler number 1, which no manifold has: that column cannot be
won there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import trimesh

from ocsdf3d.bench import LISTS, say
from ocsdf3d.bench.judge import SOLID, score
from ocsdf3d.bench.methods import Answer, Settings, answer
from ocsdf3d.bench.protocols import Asked, Case, Protocol, Sample, chosen
from ocsdf3d.metrics import floor

OUTLIER_BOX = 1.2  # side of the outliers' box over that of the bounding box


def repaired(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A copy with equal vertices merged and bad faces dropped, centred, longest side 1."""
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    mesh.apply_scale(1 / mesh.extents.max())
    return mesh


def meshes_of(folder: Path) -> dict[str, trimesh.Trimesh]:
    """File name → repaired mesh, for the meshes of a folder; unreadable ones are named on stderr."""
    from ocsdf3d.io import READABLE, read

    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in READABLE or path.suffix in LISTS:
            continue
        try:
            shape = read(path)
        except (ValueError, OSError) as error:
            say(f"{path.name} left out: {error}")
            continue
        if isinstance(shape, trimesh.Trimesh):
            found[path.name] = repaired(shape)
    return found


def closed_shapes(folder: Path) -> dict[str, trimesh.Trimesh]:
    """File name → unit-sized mesh, for the closed meshes of a folder."""
    return {name: mesh for name, mesh in meshes_of(folder).items() if mesh.is_watertight}


def sample_surface(
    mesh: trimesh.Trimesh, count: int, *, noise: float, seed: int, outliers: float = 0.0
) -> np.ndarray:
    """Bare points on a mesh of longest side 1.

    Parameters
    ----------
    count
        Number of points, uniform by area.
    noise
        Standard deviation of Gaussian noise [longest side].
    seed
        Of points, noise and outliers; the points are the same for every noise and share of outliers.
    outliers
        Points added, uniform in a box 1.2 times the bounding box, as a share of `count`; the order is then
        shuffled.

    Returns
    -------
    (count + round(outliers · count), 3) float64 array
    """
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=seed)
    rng = np.random.default_rng([seed, 1])
    points = np.asarray(points, dtype=np.float64) + noise * rng.standard_normal((count, 3))
    extra = round(outliers * count)
    if not extra:
        return points
    half = 0.5 * OUTLIER_BOX * mesh.extents
    stray = mesh.bounds.mean(axis=0) + rng.uniform(-half, half, (extra, 3))
    return rng.permutation(np.concatenate([points, stray]))


def sampled_cases(shapes: dict[str, trimesh.Trimesh], asked: Asked, what: str) -> list[Case]:
    """A case for each shape, count, noise, share of outliers and seed that were asked for."""
    names = chosen(list(shapes), asked.shapes, what)
    grid = product(asked.points, asked.noise, asked.outliers, names, asked.seeds)
    return [
        Case(name, n, noise, extra, seed, _loader(shapes[name], n, noise, extra, seed, asked.samples))
        for n, noise, extra, name, seed in grid
    ]


def _loader(
    mesh: trimesh.Trimesh, count: int, noise: float, outliers: float, seed: int, samples: int
) -> Callable[[], Sample]:
    return partial(_load, mesh, count, noise, outliers, seed, samples)


def _load(
    mesh: trimesh.Trimesh, count: int, noise: float, outliers: float, seed: int, samples: int
) -> Sample:
    points = sample_surface(mesh, count, noise=noise, seed=seed, outliers=outliers)
    return Sample(points, mesh, floor(mesh, samples=samples, seed=seed))


def settings_of(asked: Asked, seed: int) -> Settings:
    """What ours and the recipes are told."""
    return Settings(asked.preset, asked.support, asked.resolution, asked.device, seed, asked.budget)


def surface_figures(
    method: str, case: Case, sample: Sample, asked: Asked
) -> tuple[dict[str, object], Answer]:
    """Reconstruct and judge: what all protocols of surfaces measure."""
    given = answer(method, sample.points, settings_of(asked, case.seed), limit=asked.limit)
    return score(given, sample, samples=asked.samples, seed=case.seed), given


def _cases(asked: Asked) -> list[Case]:
    return sampled_cases(closed_shapes(asked.data / "meshes"), asked, "closed mesh")


PARTS = (
    Protocol(
        "solids",
        "Closed shapes from bare points",
        SOLID,
        "Lengths are in units of the longest side. Chamfer, its ratio and Hausdorff: means over the rows that"
        " did not fail. Other scores: a failure counts as 0.",
        _cases,
        surface_figures,
    ),
)
