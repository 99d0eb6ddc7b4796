"""How good a distance the field is: closed shapes, where the exact distance is known everywhere.

Queries are 20,000 uniform points of B, the box of the true mesh and 7.5 % of its longest side around it, and
20,000 within 0.05 of the surface. The exact distance is that to the triangles of the true mesh, negative
inside. `near` and `far` are mean |φ − distance| over the queries nearer than 0.05 and over the rest; slopes
and shares are over the uniform ones.

A field *overestimates its own zero set* at x when |φ(x)| exceeds the distance from x to {φ = 0}, which no
1-Lipschitz function can. The zero set is known as a mesh: each of its triangles lies in a cell with a zero of
φ, so only an excess over the distance to the mesh by more than the diagonal of a cell (the tolerance, shown)
proves an overestimate; smaller ones go unseen. *Above the truth* compares with the true surface instead:
there a certified field exceeds as well, wherever its zero set is not the true one.

Methods that give a mesh alone take no part.
"""

from __future__ import annotations

import math

import igl
import numpy as np
import trimesh

from ocsdf3d.bench.methods import Answer, answer
from ocsdf3d.bench.protocols import Asked, Case, Column, Protocol, Sample
from ocsdf3d.bench.protocols.solids import closed_shapes, sampled_cases, settings_of
from ocsdf3d.winding import mesh_winding

QUERIES = 20_000  # uniform ones, and near ones
NEAR = 0.05  # of the longest side
AROUND = 0.075  # the same
COLUMNS = {
    "eikonal": Column("mean abs(slope − 1)", "low"),
    "slope": Column("mean slope"),
    "near": Column("error near", "low"),
    "far": Column("error far", "low"),
    "wrong_side": Column("wrong side", "low"),
    "own_share": Column("over its own zero set", "low"),
    "own_most": Column("at most by", "low"),
    "tolerance": Column("tolerance"),
    "true_share": Column("above the truth", "low"),
    "true_most": Column("at most by (truth)", "low"),
}
ROUNDING = 1e-5  # of the longest side: an excess below it is float32's


def queries_for(mesh: trimesh.Trimesh, seed: int) -> np.ndarray:
    """2 · `QUERIES` points, the uniform ones first."""
    rng = np.random.default_rng([seed, 3])
    uniform = rng.uniform(mesh.bounds[0] - AROUND, mesh.bounds[1] + AROUND, (QUERIES, 3))
    direction = rng.standard_normal((QUERIES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    on = np.asarray(trimesh.sample.sample_surface(mesh, QUERIES, seed=seed)[0])
    return np.concatenate([uniform, on + NEAR * rng.random((QUERIES, 1)) * direction])


def distance_to(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Exact unsigned distances, (n,), of points, (n, 3), to the triangles of a mesh."""
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    squared = igl.point_mesh_squared_distance(
        np.ascontiguousarray(points, dtype=np.float64), vertices, faces
    )[0]
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def field_figures(given: Answer, truth: trimesh.Trimesh, queries: np.ndarray) -> dict[str, object]:
    """The columns of an answer that was read at `queries_for`; all infinite when there is no reading."""
    if given.mesh is None or given.reading is None:
        return dict.fromkeys(COLUMNS, math.inf)
    values, slopes, cell = given.reading
    inside = mesh_winding(truth)(queries) > 0.5
    exact = distance_to(truth, queries) * np.where(inside, -1.0, 1.0)
    error, near, tolerance = np.abs(values - exact), np.abs(exact) < NEAR, math.sqrt(3.0) * cell
    own = np.abs(values) - distance_to(given.mesh, queries) - tolerance
    true = np.abs(values) - np.abs(exact)
    uniform = slice(0, QUERIES)
    return {
        "eikonal": float(np.abs(slopes[uniform] - 1.0).mean()),
        "slope": float(slopes[uniform].mean()),
        "near": float(error[near].mean()),
        "far": float(error[~near].mean()),
        "wrong_side": float(((values < 0.0) != inside)[uniform].mean()),
        "own_share": float((own[uniform] > ROUNDING).mean()),
        "own_most": max(0.0, float(own.max())),
        "tolerance": tolerance,
        "true_share": float((true[uniform] > ROUNDING).mean()),
        "true_most": max(0.0, float(true.max())),
    }


def _measure(method: str, case: Case, sample: Sample, asked: Asked) -> tuple[dict[str, object], Answer]:
    assert isinstance(sample.reference, trimesh.Trimesh)
    queries = queries_for(sample.reference, case.seed)
    settings = settings_of(asked, case.seed)
    given = answer(method, sample.points, settings, limit=asked.limit, queries=queries)
    return field_figures(given, sample.reference, queries), given


def _cases(asked: Asked) -> list[Case]:
    return sampled_cases(closed_shapes(asked.data / "meshes"), asked, "closed mesh")


PARTS = (
    Protocol(
        "field",
        "The field as a distance",
        COLUMNS,
        "Lengths are in units of the longest side, shares of the uniform points of B. Over its own zero set:"
        " beyond the tolerance, a cell's diagonal.",
        _cases,
        _measure,
        fields_only=True,
    ),
)
