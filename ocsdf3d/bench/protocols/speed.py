"""Speed: time to a Chamfer distance, throughput against the machine's own, growth with the points.

*Time to a Chamfer distance.* Recipes train once, and at 5, 10, 20, … seconds, up to the budget, the field so
far is meshed and judged while the clock stands. Ours cannot be looked at halfway without changing it, so it
is run anew for each of these times and stopped there (the same seed trains the same until then), and once to
its end. The clock counts everything from the points on but the meshing; a peer has one time, its own. A
distance that is never reached is infinitely late.

*Throughput.* Points a second in training (both classes of a batch) and in evaluation of φ, and the arithmetic
that amounts to: the matrix products of one pass for evaluation, three times that for training (forward, and
backward to inputs and weights). The share is of what this machine reaches on one matrix product (1,024² on a
CPU, 4,096² on a GPU, float32) in the same process. Walks, spectral steps and labels take time and are no
points, so the share is what training gets out of the machine, not what the machine is asked. On the CPU, and
on CUDA where there is one.

*Growth.* Seconds and Chamfer for n, 8 n and 49 n points (n = 2,048: to 100,352), or for the counts asked for.

Without `--shapes`: the first closed shape of the folder for throughput, the first three otherwise.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import trimesh
from torch.utils.flop_counter import FlopCounterMode

from ocsdf3d.bench.isolation import call_apart
from ocsdf3d.bench.judge import SURFACE
from ocsdf3d.bench.methods import (
    OURS,
    PAPER,
    Answer,
    Function,
    Settings,
    as_paper,
    fitted,
    has_field,
    perform,
    warm_up,
)
from ocsdf3d.bench.protocols import Asked, Case, Column, Protocol, Sample
from ocsdf3d.bench.protocols.solids import closed_shapes, sampled_cases, settings_of, surface_figures
from ocsdf3d.bench.recipes import RecipeField, trained
from ocsdf3d.metrics import evaluate
from ocsdf3d.surface import EmptyLevelSetError

if TYPE_CHECKING:
    from ocsdf3d.field import SDF

FIRST_LOOK = 5.0  # seconds; each further look comes after twice the time
TARGETS = {"to_20": 0.02, "to_10": 0.01, "to_5": 0.005}  # column → Chamfer [longest side]
SPEED = {
    "chamfer": Column("Chamfer at the end", "low"),
    "fit_seconds": Column("seconds to the end", "low"),
    **{name: Column(f"seconds to {target:g}", "low") for name, target in TARGETS.items()},
    "curve": Column("seconds:Chamfer", "text"),
}
RATES = {
    "train_points": Column("points/s, training", "high"),
    "train_flops": Column("FLOP/s, training"),
    "train_share": Column("share of the machine", "high"),
    "eval_points": Column("points/s, evaluation", "high"),
    "eval_flops": Column("FLOP/s, evaluation"),
    "eval_share": Column("share of the machine (evaluation)", "high"),
    "machine": Column("machine FLOP/s"),
}
EVALUATED = 65_536
Curve = list[tuple[float, float]]  # seconds on the clock, Chamfer


def looks(budget: float) -> list[float]:
    """5, 10, 20, … seconds up to a budget; the budget itself when it is shorter."""
    count = max(0, int(math.log2(budget / FIRST_LOOK)) + 1) if budget >= FIRST_LOOK else 0
    return [FIRST_LOOK * 2.0**k for k in range(count)] or [budget]


def curve_of(method: str, sample: Sample, settings: Settings, samples: int) -> tuple[Curve, trimesh.Trimesh]:
    """Chamfer after the seconds of `looks` and at the end, and the mesh of the end."""
    warm_up(settings.device)
    curve: Curve = []

    def look(seconds: float, mesh_of: Callable[[], trimesh.Trimesh]) -> None:
        try:
            figures = evaluate(mesh_of(), sample.reference, samples=samples, seed=settings.seed)
        except EmptyLevelSetError:  # too early for a surface
            curve.append((seconds, math.inf))
            return
        distance = figures["chamfer"]
        assert distance is not None
        curve.append((seconds, distance))

    if not has_field(method):
        made = perform(method, sample.points, settings, None)
        mesh = made.mesh
        assert mesh is not None  # failures are exceptions here
        look(made.seconds, lambda: mesh)
        return curve, mesh
    mesh_at = partial(_mesh, resolution=settings.resolution)
    if method in (OURS, PAPER):
        ours = settings if method == OURS else as_paper(settings)
        for stop in [*looks(settings.budget), ours.stop]:
            start = time.perf_counter()
            sdf = fitted(sample.points, dataclasses.replace(ours, stop=stop))
            look(time.perf_counter() - start, partial(mesh_at, sdf))
            if not sdf.history["interrupted"]:
                break
        return curve, mesh_at(sdf)
    found = trained(
        method,
        sample.points,
        seconds=settings.budget,
        device=settings.device,
        seed=settings.seed,
        support=settings.support,
        checkpoints=looks(settings.budget),
        watch=lambda seconds, field: look(seconds, partial(mesh_at, field)),
    )
    look(found.prepared + found.spent, partial(mesh_at, found))
    return curve, mesh_at(found)


def _mesh(function: SDF | RecipeField, resolution: int) -> trimesh.Trimesh:
    return function.mesh(resolution=resolution)


def rates_of(method: str, points: np.ndarray, settings: Settings) -> dict[str, float]:
    """The columns of throughput, measured in the present process."""
    warm_up(settings.device)
    machine = machine_rate(settings.device)
    network: torch.nn.Module
    function: Function
    if method in (OURS, PAPER):
        sdf = fitted(points, settings if method == OURS else as_paper(settings))
        network, function = sdf.network, sdf
        drawn = 2.0 * sdf.history["steps"] * sdf.settings["train"]["batch"]
        spent = float(sdf.history["seconds"]["train"])
    else:
        found = trained(
            method,
            points,
            seconds=settings.budget,
            device=settings.device,
            seed=settings.seed,
            support=settings.support,
        )
        network, function = found.network, found
        drawn, spent = float(found.drawn), found.spent
    flops = pass_flops(network, settings.device)
    box = function.box
    x = np.random.default_rng(0).uniform(box.lower, box.upper, (EVALUATED, 3))
    function(x[:4096])
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        function(x)
        taken.append(time.perf_counter() - start)
    train, evaluation = drawn / spent, EVALUATED / min(taken)
    return {
        "train_points": train,
        "train_flops": 3.0 * flops * train,
        "train_share": 3.0 * flops * train / machine,
        "eval_points": evaluation,
        "eval_flops": flops * evaluation,
        "eval_share": flops * evaluation / machine,
        "machine": machine,
    }


def pass_flops(network: torch.nn.Module, device: str) -> float:
    """FLOP of the matrix products of one point's way through a network, in large batches."""
    x = torch.zeros(4096, 3, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    return counter.get_total_flops() / len(x)


def machine_rate(device: str) -> float:
    """FLOP/s of a square float32 matrix product, the best of several for a second."""
    n = 4096 if device == "cuda" else 1024
    a, b = (torch.rand(n, n, device=device) for _ in range(2))
    best, begun = math.inf, time.perf_counter()
    while time.perf_counter() - begun < 1.0:
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * n**3 / best


def _speed(method: str, case: Case, sample: Sample, asked: Asked) -> tuple[dict[str, object], Answer]:
    settings = settings_of(asked, case.seed)
    limit = asked.limit + (3.0 * asked.budget if has_field(method) else 0.0)  # the looks add up to twice
    outcome = call_apart(curve_of, method, sample, settings, asked.samples, limit=limit)
    if outcome.error is not None:
        row: dict[str, object] = dict.fromkeys(SPEED, math.inf)
        return row | {"curve": None}, Answer(None, outcome.seconds, outcome.error)
    curve, mesh = outcome.value
    seconds, distance = curve[-1]
    row = {"chamfer": distance, "fit_seconds": seconds}
    for name, target in TARGETS.items():
        row[name] = min((t for t, reached in curve if reached <= target), default=math.inf)
    row["curve"] = " ".join(f"{t:.1f}:{reached:.5f}" for t, reached in curve)
    return row, Answer(mesh, outcome.seconds, None)


def _rates(method: str, case: Case, sample: Sample, asked: Asked) -> tuple[dict[str, object], Answer]:
    assert case.device is not None
    settings = dataclasses.replace(settings_of(asked, case.seed), device=case.device)
    outcome = call_apart(rates_of, method, sample.points, settings, limit=asked.limit + asked.budget)
    row: dict[str, object] = dict.fromkeys(RATES, 0.0) if outcome.value is None else dict(outcome.value)
    return row, Answer(None, outcome.seconds, outcome.error)


def _first(asked: Asked, count: int) -> list[Case]:
    """Cases of the shapes asked for, or of so many."""
    shapes = closed_shapes(asked.data / "meshes")
    some = shapes if asked.shapes is not None else dict(list(shapes.items())[:count])
    return sampled_cases(some, asked, "closed mesh")


def _speed_cases(asked: Asked) -> list[Case]:
    return _first(asked, 3)


def _rate_cases(asked: Asked) -> list[Case]:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [dataclasses.replace(case, device=device) for device in devices for case in _first(asked, 1)]


def _growth_cases(asked: Asked) -> list[Case]:
    n = asked.points[0]
    counts = asked.points if len(asked.points) > 1 else (n, 8 * n, 49 * n)
    return _first(dataclasses.replace(asked, points=counts), 3)


PARTS = (
    Protocol(
        "speed",
        "Time to a Chamfer distance",
        SPEED,
        "Seconds on the clock, without meshing; inf: not reached. The last column of seconds is that of the"
        " whole measurement. Chamfer in units of the longest side.",
        _speed_cases,
        _speed,
    ),
    Protocol(
        "throughput",
        "Throughput against the machine's matrix product",
        RATES,
        "FLOP are those of matrix products alone, three passes for training. Each device has a table.",
        _rate_cases,
        _rates,
        fields_only=True,
    ),
    Protocol(
        "growth",
        "Growth of time with the points",
        {name: SURFACE[name] for name in ("chamfer", "ratio", "f_score")},
        "The last column but one, seconds, is what grows; one table a number of points.",
        _growth_cases,
        surface_figures,
    ),
)
