"""A field held to one topology: threads are cut and pinholes plugged, on the mesh's nodes and between."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from ocsdf3d.field import SDF
from ocsdf3d.holding import FINE, HAIR, held
from ocsdf3d.spheres import Spheres

Floats = NDArray[np.float64]

NOTHING = np.zeros((0, 4))


@pytest.fixture(scope="module")
def bare(trained: SDF) -> SDF:
    """The cuboid as it was learnt, without any balls."""
    return dataclasses.replace(trained, spheres=None)


@pytest.fixture(scope="module")
def points(trained: SDF, cuboid_points: Floats) -> Floats:
    return trained.frame.to_unit(cuboid_points)


def beads(sdf: SDF, *corners: tuple[float, float, float]) -> Floats:
    """Balls half a hair thick on a line through nodes of the mesh, (k, 4) [unit frame]."""
    box = sdf.box.expanded(2.0 * sdf.box.longest / (FINE - 1))
    spacing = box.longest / (FINE - 1) / sdf.frame.scale
    lower = sdf.frame.to_unit(box.center) - 0.5 * spacing * np.ceil(
        box.size / box.longest * (FINE - 1) - 1e-6
    )
    nodes = [lower + spacing * np.rint((np.array(corner) - lower) / spacing) for corner in corners]
    share = np.linspace(0.0, 1.0, 600)[:, None]
    along = np.concatenate([a + share * (b - a) for a, b in pairwise(nodes)])
    return np.column_stack([along, np.full(len(along), 0.5 * HAIR)])


def hold(sdf: SDF, points: Floats, judge: bool) -> SDF:
    lower, upper = sdf.frame.to_unit(sdf.box.lower), sdf.frame.to_unit(sdf.box.upper)
    rng = np.random.default_rng(0)
    return held(
        sdf, points, lambda x: np.full(len(x), float(judge)), lower, upper, rng, dense=False, wires=False
    )


def test_a_thread_outside_is_cut(bare: SDF, points: Floats) -> None:
    """A handle of wire on the long side of the cuboid, which is 2 × 1.2 × 0.8."""
    wire = beads(bare, (-0.3, 0.55, 0.0), (-0.3, 0.68, 0.0), (0.3, 0.68, 0.0), (0.3, 0.55, 0.0))
    threaded = dataclasses.replace(bare, spheres=Spheres(wire, NOTHING, 0.05))
    assert [threaded.mesh(n).euler_number for n in (FINE, 2 * FINE)] == [0, 0]
    mended = hold(threaded, points, judge=True)
    assert [mended.mesh(n).euler_number for n in (128, FINE, 256)] == [2, 2, 2]


@pytest.mark.parametrize(("judge", "euler"), [(True, 2), (False, 0)])
def test_a_pinhole_is_plugged_where_the_sides_say_inside(
    bare: SDF, points: Floats, judge: bool, euler: int
) -> None:
    pierced = dataclasses.replace(
        bare, spheres=Spheres(NOTHING, beads(bare, (0, 0, -0.45), (0, 0, 0.45)), 0.05)
    )
    assert pierced.mesh(FINE).euler_number == 0
    assert hold(pierced, points, judge).mesh(FINE).euler_number == euler
