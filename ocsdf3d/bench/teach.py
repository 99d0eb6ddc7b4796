"""Teach the tetrahedron network on random solids, and measure it on the closed shapes of the data folder.

    python -m ocsdf3d.bench.teach --out bench-results/teach

Every lesson is a random solid (`random_solids.py`) and 500 to 3,000 points of its surface: half of the time
evenly spread, else up to a hundred times as dense here as there; three times in seven with noise of 0.5, 1 or
2 % of half the longest side; one time in five with 5 % outliers, as far as `frame.inliers` leaves them. No
shape of the data folder is ever taught, so the closed shapes tell how well the
lessons carry over: the table gives the IoU of the labels of 20,000 uniform points, found from 2,048 bare
samples by the winding field, by `sharpened` and by `labelled`. The weights are written to the folder; copied
over `ocsdf3d/tetrahedra.safetensors` they become the package's.

With `--measure` nothing is taught, and the table is of the weights in the package.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, say
from ocsdf3d.bench.protocols.solids import closed_shapes
from ocsdf3d.bench.random_solids import random_solid
from ocsdf3d.frame import inliers
from ocsdf3d.sampling import some_of, surface_points
from ocsdf3d.tetrahedra import Graph, SideNetwork, graph_of, inner_points, labelled, sharpened, triangulated
from ocsdf3d.winding import SOLVED_POINTS, SUBSET, Winding, bare_fields, dense_fields, mesh_winding

COUNTS = (500, 1024, 2048, 2048, 2048, 3000)  # points of a lesson
NOISES = (0.0, 0.0, 0.0, 0.0, 0.005, 0.01, 0.02)
STRAY, STRAYS = 0.2, 0.05  # how often outliers, and how many
WARM = 0.05  # share of the steps in which the rate rises
READINGS = 8  # labelled points of a tetrahedron
COLUMNS = ("shape", "points", "seed", "queries", "field", "sharpened", "labelled")


class Lesson(NamedTuple):
    """A solid's tetrahedra, and what is true at points in them: (t, READINGS) field less 1/2, and inside."""

    graph: Graph
    field: torch.Tensor
    inside: torch.Tensor
    weight: torch.Tensor


def lesson(seed: tuple[int, int]) -> Lesson | None:
    """Return a lesson, or None when hardly any surface was left of the solid."""
    rng = np.random.default_rng(seed)
    solid, count, noise = random_solid(rng), int(rng.choice(COUNTS)), float(rng.choice(NOISES))
    try:
        points = thinned(solid.surface(8 * count, rng), count, rng)
    except ValueError:
        return None
    lower, upper = points.min(axis=0), points.max(axis=0)
    size, middle = 0.5 * (upper - lower).max(), 0.5 * (lower + upper)
    unit = (points - middle) / size + noise * rng.normal(size=points.shape)
    if rng.random() < STRAY:
        half = 1.2 * np.abs((points - middle) / size).max(axis=0)
        unit = np.concatenate([unit, rng.uniform(-half, half, (int(STRAYS * count), 3))])
        unit = unit[inliers(unit)]
    fields = bare_fields(unit)
    mesh = triangulated(unit, fields[0].spacing, rng)
    graph = graph_of(fields, mesh, rng)
    x = inner_points(unit, mesh.simplices, READINGS, rng)
    inside = solid.contains(size * x + middle).reshape(-1, READINGS)
    # Volumes tell in IoU; the power lets small tetrahedra, which make the surface, count for more.
    corners = unit[mesh.simplices]
    volume = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    weight = volume ** (2.0 / 3.0)
    weight /= max((weight * inside.mean(axis=1)).sum(), 0.02 * weight.sum())
    return Lesson(
        graph,
        torch.as_tensor(fields[0](x).reshape(-1, READINGS) - 0.5, dtype=torch.float32),
        torch.as_tensor(inside),
        torch.as_tensor(weight, dtype=torch.float32),
    )


def thinned(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` of the points: evenly, fewer and fewer along a direction, or few on one side."""
    kind = rng.choice(["even", "even", "graded", "two-sided"])
    along = points @ rng.normal(size=3)
    along = (along - along.min()) / np.ptp(along)
    ratio = np.exp(rng.uniform(0.0, np.log(100.0)))
    chance = {
        "even": np.ones(len(points)),
        "graded": ratio**-along,
        "two-sided": np.where(along > rng.uniform(0.2, 0.8), 1.0 / ratio, 1.0),
    }[str(kind)]
    return points[rng.choice(len(points), count, replace=False, p=chance / chance.sum())]


def taught_on(lessons: Sequence[Lesson], steps: int, rate: float, seed: int) -> SideNetwork:
    """Return a network after `steps` lessons, drawn with replacement."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = SideNetwork()
    rows = torch.cat([lesson.graph.tetrahedra for lesson in lessons])
    network.mean.copy_(rows.mean(dim=0))
    network.deviation.copy_(rows.std(dim=0) + 1e-3)
    rows = torch.cat([lesson.graph.faces.flatten(0, 1) for lesson in lessons])
    network.face_mean.copy_(rows.mean(dim=0))
    network.face_deviation.copy_(rows.std(dim=0) + 1e-3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=WARM)
    running, start = 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        chosen = lessons[int(rng.integers(len(lessons)))]
        a, b = network(chosen.graph)
        logits = a[:, None] + b[:, None] * chosen.field
        loss = nn.functional.binary_cross_entropy_with_logits(logits, chosen.inside.float(), reduction="none")
        loss = (chosen.weight * loss.mean(dim=1)).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running += (float(loss.detach()) - running) / min(step, 200)
        if step % max(1, steps // 20) == 0:
            say(f"step {step}: loss {running:.3f}, {time.perf_counter() - start:.0f} s")
    return network.requires_grad_(False).eval()


def measured(network: SideNetwork | None, ledger: Ledger, *, count: int, seed: int, queries: int) -> None:
    """Add a row for every closed shape: IoU of the labels of uniform points of its box."""
    for name, mesh in closed_shapes(data_folder() / "meshes").items():
        rng = np.random.default_rng(seed)
        unit = mesh.copy()
        unit.apply_scale(2.0)  # longest side 2, as in the unit frame
        points = np.unique(surface_points(unit, count, rng)[0], axis=0)
        x = rng.uniform(unit.bounds[0], unit.bounds[1], (queries, 3))
        true = mesh_winding(unit)(x) > 0.5
        few = points if count <= SOLVED_POINTS else points[some_of(len(points), SUBSET, rng)]
        fields = bare_fields(few)
        if len(few) < len(points):
            fields = dense_fields(points, fields[0], labelled(fields, rng, network))
        readings: dict[str, Winding] = {
            "field": fields[0],
            "sharpened": sharpened(fields[0], rng),
            "labelled": labelled(fields, rng, network),
        }
        row: dict[str, object] = {"shape": name, "points": count, "seed": seed, "queries": queries}
        for key, reading in readings.items():
            inside = reading(x) > 0.5
            row[key] = float((inside & true).sum() / (inside | true).sum())
        ledger.add(row)
        say(f"{name}: " + ", ".join(f"{key} {row[key]:.3f}" for key in readings))


def table(ledger: Ledger) -> str:
    """The rows and their mean."""
    shown = [[row[name] for name in COLUMNS] for row in ledger.rows]
    means = np.array([row[4:] for row in shown], dtype=np.float64).mean(axis=0).tolist()
    return markdown(COLUMNS, [*shown, [f"mean of {len(shown)}", None, None, None, *means]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Teach unless asked only to measure, measure, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m ocsdf3d.bench.teach", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("bench-results/teach"))
    parser.add_argument("--measure", action="store_true", help="teach nothing; measure the package's weights")
    parser.add_argument("--lessons", type=int, default=320)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=2048, help="of a closed shape that is measured")
    parser.add_argument("--queries", type=int, default=20_000)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    network = None
    if not given.measure:
        start, lessons = time.perf_counter(), []
        for k in range(given.lessons):
            one = lesson((given.seed, k))
            lessons += [one] if one is not None else []
            if (k + 1) % 20 == 0:
                say(f"{k + 1} of {given.lessons} lessons, {time.perf_counter() - start:.0f} s")
        network = taught_on(lessons, given.steps, given.rate, given.seed)
        save_file(network.state_dict(), given.out / "tetrahedra.safetensors")
    ledger = Ledger(given.out / "labels.csv", COLUMNS, COLUMNS[:4])
    ledger.rows.clear()  # of other weights
    measured(network, ledger, count=given.points, seed=given.seed, queries=given.queries)
    print(
        f"# IoU of labels from bare points\n\n{circumstances(('torch', 'numpy', 'scipy'), **vars(given))}\n"
    )
    print(table(ledger))
    return 0


if __name__ == "__main__":
    sys.exit(main())
