"""One evaluator for all: the columns of a reconstructed mesh, a failure among them.

A method that raises, dies, runs out of time or returns nothing has failed, and its row counts: Chamfer and
Hausdorff infinite, every score 0, not watertight.
"""

from __future__ import annotations

import math

import trimesh

from ocsdf3d.bench.methods import Answer
from ocsdf3d.bench.protocols import Column, Sample
from ocsdf3d.metrics import evaluate

SURFACE = {
    "chamfer": Column("Chamfer", "low"),
    "ratio": Column("Chamfer / floor", "low"),
    "hausdorff": Column("Hausdorff", "low"),
    "f_score": Column("F at 0.01", "high"),
    "normal_consistency": Column("normal consistency", "high"),
    "watertight": Column("watertight", "high"),
}
SOLID = SURFACE | {"iou": Column("IoU", "high"), "euler_right": Column("Euler right", "high")}


def score(answer: Answer, sample: Sample, *, samples: int, seed: int) -> dict[str, object]:
    """The columns of `SOLID`; `iou` and `euler_right` are None where the reference has no inside."""
    truth = sample.reference
    euler = int(truth.euler_number) if isinstance(truth, trimesh.Trimesh) and truth.is_watertight else None
    solid = euler is not None
    if answer.mesh is None:
        row: dict[str, object] = {"chamfer": math.inf, "hausdorff": math.inf, "ratio": math.inf}
        row |= {"f_score": 0.0, "normal_consistency": 0.0, "watertight": False}
        return row | {"iou": 0.0 if solid else None, "euler_right": False if solid else None}
    figures = evaluate(answer.mesh, truth, samples=samples, seed=seed)
    row = {name: figures[name] for name in ("chamfer", "hausdorff", "f_score", "normal_consistency")}
    distance = figures["chamfer"]
    assert distance is not None  # infinite at worst
    row["ratio"] = None if sample.floor is None else distance / sample.floor
    row["watertight"] = figures["watertight"]
    row["iou"] = figures["iou"] if solid else None
    row["euler_right"] = figures["euler"] == euler if solid else None
    return row
