"""Balls inscribed on either side: distances with slope 1, and a surface that stays where it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from numpy.typing import NDArray

from ocsdf3d.analytic import torus
from ocsdf3d.inscribed import MARGIN, inscribed_balls
from ocsdf3d.spheres import Spheres

Floats = NDArray[np.float64]

EXACT = torus(0.6, 0.25)
LOWER, UPPER = np.full(3, -1.1), np.full(3, 1.1)


def lazy(x: Floats) -> Floats:
    """A field that rises too slowly."""
    return 0.7 * EXACT(x)


def found(value: Callable[[Floats], Floats], mesh: trimesh.Trimesh, **options: bool) -> tuple[Floats, Floats]:
    samples = EXACT.sample_surface(1000, resolution=64)
    rng = np.random.default_rng(0)
    return inscribed_balls(mesh, samples, value, LOWER, UPPER, rng, **options)


def held(value: Callable[[Floats], Floats], balls: tuple[Floats, Floats], x: Floats) -> Floats:
    return Spheres(*balls, 0.05).held(torch.as_tensor(x), torch.as_tensor(value(x))).numpy()


@pytest.fixture(scope="module")
def balls() -> tuple[Floats, Floats]:
    return found(lazy, EXACT.mesh(128), solid=True)


def test_no_ball_reaches_the_surface(balls: tuple[Floats, Floats]) -> None:
    for side, some in zip((-1.0, 1.0), balls, strict=True):
        assert len(some) > 20
        assert (some[:, 3] <= side * EXACT(some[:, :3]) - 0.5 * MARGIN).all()


def test_a_lazy_field_becomes_the_distance(balls: tuple[Floats, Floats]) -> None:
    x = np.random.default_rng(1).uniform(LOWER, UPPER, (5000, 3))
    before, after = (np.abs(values - EXACT(x)).mean() for values in (lazy(x), held(lazy, balls, x)))
    assert before > 0.1
    assert after < 0.012


def test_the_surface_stays(balls: tuple[Floats, Floats]) -> None:
    on = EXACT.sample_surface(3000, resolution=128, seed=2)
    assert np.abs(held(lazy, balls, on)).max() < 1e-3


def test_a_shell_has_balls_outside_alone() -> None:
    """Also where its skin would have room for some."""
    inside, outside = found(lazy, EXACT.mesh(64), solid=False)
    assert inside.shape == (0, 4)
    assert len(outside) > 20
