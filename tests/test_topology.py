"""Threads, pinholes, specks and voids go; what is deep, or vouched for, stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ocsdf3d.analytic import box, capsule, sphere, torus
from ocsdf3d.topology import _BIT, _FULL, _OFFSETS, _Connectivity, simplified

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NODES, H, HAIR = 61, 1.0 / 30.0, 0.012
NONE = np.zeros((0, 3), np.int64)


def grid() -> Floats:
    """Nodes of [−1, 1]³, (61, 61, 61, 3); the axes are lines of nodes."""
    axis = H * (np.arange(NODES) - NODES // 2)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def of(*shapes: Callable[[Floats], Floats], cut: tuple[Callable[[Floats], Floats], ...] = ()) -> Floats:
    """Values of the union of shapes, less some."""
    x = grid().reshape(-1, 3)
    whole = reduce(np.minimum, [shape(x) for shape in shapes])
    return reduce(np.maximum, [whole, *(-shape(x) for shape in cut)]).reshape((NODES,) * 3)


def always(answer: bool) -> Callable[[NDArray[np.int64]], Flags]:
    return lambda nodes: np.full(len(nodes), answer)


def near(point: tuple[float, float, float], count: int = 50) -> NDArray[np.int64]:
    """The node of a point, as often as samples lie there."""
    return np.tile(np.rint(np.array(point) / H).astype(np.int64) + NODES // 2, (count, 1))


def euler(inside: Flags) -> int:
    """Euler number of the surface of a union of closed cubes around nodes, which touch by corners too."""
    total = 0
    padded = np.pad(inside, 1)
    for faces in range(8):
        cells = padded
        for axis in range(3):
            if faces >> axis & 1:
                along = np.moveaxis(cells, axis, 0)
                cells = np.moveaxis(along[:-1] | along[1:], 0, axis)
        total += (-1) ** (3 - faces.bit_count()) * int(cells.sum())
    return 2 * total


def euler_by_faces(inside: Flags) -> int:
    """The same where nodes that touch by a corner are apart."""
    return euler(np.pad(~inside, 1, constant_values=True)) - 2


run = partial(simplified, tolerance=HAIR, inside=always(True), samples=NONE, wires=False)


def horseshoe() -> tuple[Callable[[Floats], Floats], ...]:
    return (
        capsule((-0.5, -0.4, 0.0), (-0.5, 0.4, 0.0), 0.2),
        capsule((0.5, -0.4, 0.0), (0.5, 0.4, 0.0), 0.2),
        capsule((-0.5, -0.4, 0.0), (0.5, -0.4, 0.0), 0.2),
    )


def thread(radius: float) -> Callable[[Floats], Floats]:
    return capsule((-0.5, 0.3, 0.0), (0.5, 0.3, 0.0), radius)


def test_the_measure_itself() -> None:
    ball, ring = of(sphere(0.6)) < 0.0, of(torus(0.6, 0.2)) < 0.0
    assert (euler(ball), euler(ring), euler(ball & ~(of(sphere(0.3)) < 0.0))) == (2, 0, 4)
    assert (euler_by_faces(ball), euler_by_faces(ring)) == (2, 0)
    corner = np.zeros((4, 4, 4), bool)
    corner[1, 1, 1] = corner[2, 2, 2] = True
    assert (euler(corner), euler_by_faces(corner)) == (2, 4)


@pytest.mark.parametrize("corners", [True, False])
def test_pieces_of_a_neighbourhood_are_those_of_a_labelling(corners: bool) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, int(_FULL) + 1, 400).astype(np.int32)
    bits[:3] = 0, _FULL, 1
    counted = np.sum([piece != 0 for piece in _Connectivity(corners=corners).pieces(bits)], axis=0)
    structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
    for number, count in zip(bits, counted, strict=True):
        cube = np.zeros((3, 3, 3), bool)
        cube[tuple((_OFFSETS[(_BIT & number) != 0] + 1).T)] = True
        if not corners:  # a corner of the cube does not count for neighbours by faces
            cube[np.ix_([0, 2], [0, 2], [0, 2])] = False
        labels, _ = ndimage.label(cube, structure)
        touching = labels if corners else labels[ndimage.generate_binary_structure(3, 1)]
        assert count == len(np.unique(touching[touching > 0]))


def test_a_thread_is_cut_and_nothing_else_changes() -> None:
    values = of(*horseshoe(), thread(0.01))
    before, after = values < 0.0, run(values)
    assert (euler(before), euler(after), euler_by_faces(after)) == (0, 2, 2)
    assert not (after & ~before).any()
    assert 0 < (before & ~after).sum() < 5


def test_a_handle_as_deep_as_that_stays() -> None:
    values = of(*horseshoe(), thread(0.05))
    assert np.array_equal(run(values), values < 0.0)
    assert euler(values < 0.0) == 0


@pytest.mark.parametrize(("judged", "expected"), [(True, 0), (False, 2)])
def test_a_thread_between_wires_is_cut_where_the_judge_sees_none(judged: bool, expected: int) -> None:
    values = of(*horseshoe(), thread(0.01))
    assert euler(run(values, inside=always(judged), wires=True)) == expected


@pytest.mark.parametrize(("judged", "expected"), [(True, 2), (False, 0)])
def test_a_pinhole_is_plugged_where_the_judge_says_inside(judged: bool, expected: int) -> None:
    values = of(box((0.7, 0.7, 0.15)), cut=(capsule((0.0, 0.0, -0.5), (0.0, 0.0, 0.5), 0.01),))
    assert euler(values < 0.0) == 0
    after = run(values, inside=always(judged))
    assert (euler(after), euler_by_faces(after)) == (expected, expected)
    assert (after ^ (values < 0.0)).sum() == (1 if judged else 0)


def test_a_hole_that_is_drilled_stays_though_the_judge_says_inside() -> None:
    values = of(box((0.7, 0.7, 0.15)), cut=(capsule((0.0, 0.0, -0.5), (0.0, 0.0, 0.5), 0.1),))
    assert np.array_equal(run(values), values < 0.0)
    assert euler(values < 0.0) == 0


def test_a_neck_however_thin_keeps_two_halves_together() -> None:
    neck = capsule((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), 0.01)
    values = of(sphere(0.3, center=(-0.5, 0.0, 0.0)), sphere(0.3, center=(0.5, 0.0, 0.0)), neck)
    assert euler(values < 0.0) == 2 == euler(run(values, inside=always(False)))


@pytest.mark.parametrize("depth", [0.005, 0.08])
def test_specks_and_voids_go_unless_samples_speak_for_them(depth: float) -> None:
    """One that samples lie on stays; a shallow void if the judge sees it as well."""
    speck = sphere(depth + 1e-9, center=(0.0, 0.0, 0.8))
    values = of(sphere(0.5), speck, cut=(sphere(depth + 1e-9),))
    assert euler(values < 0.0) == 6
    assert euler(run(values)) == 2
    at = np.concatenate([near((0.0, 0.0, 0.8)), near((0.0, 0.0, 0.0))])
    after = run(values, samples=at, inside=lambda nodes: nodes[:, 2] > NODES // 2)
    assert np.array_equal(after, values < 0.0)
    few = np.concatenate([near((0.0, 0.0, 0.8), 3), near((0.0, 0.0, 0.0), 3)])
    assert euler(run(values, samples=few)) == 2


@pytest.mark.parametrize("judged", [True, False])
def test_a_shallow_speck_on_samples_stays_and_a_void_goes_where_the_judge_sees_none(judged: bool) -> None:
    values = of(sphere(0.5), sphere(0.005, center=(0.0, 0.0, 0.8)), cut=(sphere(0.005),))
    at = np.concatenate([near((0.0, 0.0, 0.8)), near((0.0, 0.0, 0.0))])
    speck, void = (tuple(near(place, 1)[0]) for place in ((0.0, 0.0, 0.8), (0.0, 0.0, 0.0)))
    after = run(values, samples=at, inside=always(judged))
    assert after[speck]
    assert after[void] == judged


def test_nodes_that_touch_by_a_corner_are_made_one_or_two() -> None:
    """A chain of nodes that only corners connect, across a horseshoe: a mesh may take it for a handle."""
    values = of(*horseshoe())
    middle = NODES // 2
    for step in range(-15, 16):
        values[middle + step, middle + 9 + step % 2, middle + step % 2] = -0.5 * HAIR
    before, after = values < 0.0, run(values)
    assert euler(before) != euler_by_faces(before)
    assert euler(after) == euler_by_faces(after) == 2


def test_a_surface_that_ends_at_the_grid_is_no_trouble() -> None:
    values = of(box((2.0, 2.0, 0.3)))
    assert np.array_equal(run(values), values < 0.0)
