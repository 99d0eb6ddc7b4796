"""Who takes part: ours, the peers and the recipes behind one call, each in a process of its own.

A method gets an (n, 3) array and gives a mesh. Ours and the recipes also have a field, whose values and
slopes are read at query points after the clock has stopped. Seconds are wall time of the call, without the
imports, on the same number of threads for everybody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
import trimesh

from ocsdf3d.bench import peers, threads
from ocsdf3d.bench.isolation import call_apart
from ocsdf3d.bench.recipes import RECIPES, missing, trained
from ocsdf3d.geometry import Box

if TYPE_CHECKING:
    from ocsdf3d.field import SDF

OURS = "ocsdf3d"
PAPER = "paper"  # the one recipe that is a preset of ours


@dataclass(frozen=True)
class Settings:
    """What ours and the recipes are told.

    Attributes
    ----------
    preset, support, device : str
        Of ours; `device` of recipes too.
    resolution : int
        Nodes along the longest side.
    seed : int
        Of every draw.
    budget : float
        Seconds of training for a recipe.
    stop : float
        Seconds after which ours is stopped, with what was learnt by then.
    """

    preset: str
    support: str
    resolution: int
    device: str
    seed: int
    budget: float
    stop: float = np.inf


class Reading(NamedTuple):
    """A field at the queries: φ, (n,), and ‖∇φ‖, (n,); and the side of a cell of its mesh."""

    values: np.ndarray
    slopes: np.ndarray
    cell: float


@dataclass(frozen=True)
class Answer:
    """What a method gave.

    Attributes
    ----------
    mesh : trimesh.Trimesh or None
        None when it failed.
    seconds : float
        Wall time either way.
    error : str or None
        Why it failed.
    reading : Reading or None
        Of its field, when it has one and queries were handed to it.
    """

    mesh: trimesh.Trimesh | None
    seconds: float
    error: str | None
    reading: Reading | None = None


class Function(Protocol):
    """A field of any method, and the box that its mesh is taken from."""

    @property
    def box(self) -> Box: ...

    def __call__(self, points: np.ndarray) -> np.ndarray: ...

    def gradient(self, points: np.ndarray) -> np.ndarray: ...


def known_methods() -> tuple[str, ...]:
    """All names, whether installed or not."""
    return (OURS, *peers.PEERS, *RECIPES)


def chosen_methods(names: Sequence[str] | None, recipes: bool) -> tuple[str, ...]:
    """The methods of a run: those named, else ours and every installed peer; and the recipes when asked.

    Raises
    ------
    ValueError
        There is no such method.
    """
    unknown = [name for name in names or () if name not in known_methods()]
    if unknown:
        raise ValueError(f"no such method: {', '.join(unknown)}; there are {', '.join(known_methods())}")
    wanted = list(names) if names else [OURS, *peers.available()]
    wanted += [name for name in RECIPES if not missing(name)] if recipes else []
    return tuple(dict.fromkeys(wanted))


def has_field(method: str) -> bool:
    """Whether a method gives more than a mesh."""
    return method == OURS or method in RECIPES


def answer(
    method: str,
    points: np.ndarray,
    settings: Settings,
    *,
    limit: float,
    queries: np.ndarray | None = None,
) -> Answer:
    """What a method makes of points, (n, 3), in at most `limit` seconds, and a recipe's budget on top.

    Raises
    ------
    ImportError
        What it needs does not load here, so it takes no part; this is no failure of the method.
    """
    if method in RECIPES:
        limit += settings.budget
    outcome = call_apart(perform, method, points, settings, queries, limit=limit)
    if outcome.error is not None:
        return Answer(None, outcome.seconds, outcome.error)
    made: Answer = outcome.value
    if made.mesh is not None and len(made.mesh.faces) == 0:
        return replace(made, mesh=None, error="an empty mesh")
    return made


def perform(method: str, points: np.ndarray, settings: Settings, queries: np.ndarray | None) -> Answer:
    """`answer` without a process and a limit: whatever the method raises comes through."""
    warm_up(settings.device)
    if method == OURS:
        return ours(points, settings, queries)
    if method == PAPER:
        return ours(points, as_paper(settings), queries)
    if method in RECIPES:
        return recipe(method, points, settings, queries)
    peers.load(method)
    start = time.perf_counter()
    mesh = peers.peer(method)(points, threads=threads())
    return Answer(mesh, time.perf_counter() - start, None)


def as_paper(settings: Settings) -> Settings:
    """The settings of the recipe `paper`: our preset of that name, stopped at the budget."""
    return replace(settings, preset="paper", support="auto", stop=settings.budget)


def warm_up(device: str) -> None:
    """Set the threads, and start CUDA off the clock."""
    torch.set_num_threads(threads())
    if device == "cuda":
        torch.ones(64, 64, device=device).mm(torch.ones(64, 64, device=device))


def fitted(points: np.ndarray, settings: Settings) -> SDF:
    """Our field, stopped after `settings.stop` seconds at the latest report of training."""
    from ocsdf3d.pipeline import fit

    start = time.perf_counter()
    return fit(
        points,
        preset=settings.preset,
        support=settings.support,
        device=settings.device,
        seed=settings.seed,
        stop=lambda: time.perf_counter() - start > settings.stop,
    )


def ours(points: np.ndarray, settings: Settings, queries: np.ndarray | None) -> Answer:
    """Our reconstruction, with the clock around it."""
    start = time.perf_counter()
    sdf = fitted(points, settings)
    mesh = sdf.mesh(resolution=settings.resolution)
    return Answer(mesh, time.perf_counter() - start, None, read(sdf, queries, settings.resolution))


def recipe(method: str, points: np.ndarray, settings: Settings, queries: np.ndarray | None) -> Answer:
    """A recipe's reconstruction, with the clock around it."""
    start = time.perf_counter()
    found = trained(
        method,
        points,
        seconds=settings.budget,
        device=settings.device,
        seed=settings.seed,
        support=settings.support,
    )
    mesh = found.mesh(settings.resolution)
    return Answer(mesh, time.perf_counter() - start, None, read(found, queries, settings.resolution))


def read(function: Function, queries: np.ndarray | None, resolution: int) -> Reading | None:
    """A field at the queries, if there are any."""
    if queries is None:
        return None
    slopes = np.linalg.norm(function.gradient(queries), axis=1)
    return Reading(function(queries), slopes, function.box.longest / (resolution - 1))
