"""What samples of an open surface span: gaps bridged, neighbours apart, thin boards filled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ocsdf3d.skin import THICK, USED, Skin, _circumradii, skin_of

Floats = NDArray[np.float64]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def square(n: int, height: float = 0.0) -> Floats:
    return np.column_stack([rng().uniform(-1.0, 1.0, (n, 2)), np.full(n, height)])


def inner(n: int, height: float) -> Floats:
    return 0.9 * square(n) + [0.0, 0.0, height]


def test_a_sheet_is_spanned_without_gaps() -> None:
    """2,000 samples, gaps of up to 0.1: each point between is near the middle, and surely skin."""
    skin = skin_of(square(2000), rng())
    assert np.quantile(skin.distance(inner(5000, 0.0), 1.0), 0.99) < 0.4 * THICK
    assert (skin(inner(5000, 0.0)) > 0.7).all()


@pytest.mark.parametrize("height", [0.02, -0.05, 0.3])
def test_off_a_sheet_the_distance_is_the_height(height: float) -> None:
    skin = skin_of(square(2000), rng())
    assert skin.distance(inner(2000, height), 1.0) == pytest.approx(abs(height), rel=0.1, abs=1e-3)
    assert (skin(inner(2000, height)) < 0.01).all()


def test_far_points_have_no_distance_and_are_free_as_far_as_it_says() -> None:
    skin = skin_of(square(500), rng())
    x = rng().uniform(-1.0, 1.0, (1000, 3))
    x[:, 2] = np.sign(x[:, 2]) * np.maximum(np.abs(x[:, 2]), 0.03)
    whole, near = skin.distance(x, 9.0), skin.distance(x, 0.2)
    assert np.isfinite(whole).all()
    assert np.array_equal(near[whole < 0.2], whole[whole < 0.2])
    assert np.isinf(near[whole > 0.2]).all()
    reach = whole * rng().uniform(0.3, 3.0, len(x))
    assert np.array_equal(skin.free(x, reach), whole >= reach)


def test_where_the_skin_ends_nothing_is_sure() -> None:
    value = skin_of(square(8000), rng())(inner(2000, THICK))
    assert 0.2 < np.median(value) < 0.5  # the cloud on the triangles overestimates distances a little


def test_sheets_apart_stay_apart() -> None:
    """Four spacings between them, nothing there."""
    upper = np.random.default_rng(1).uniform(-1.0, 1.0, (2000, 2))
    skin = skin_of(np.concatenate([square(2000), np.column_stack([upper, np.full(2000, 0.25)])]), rng())
    assert (skin(inner(2000, 0.125)) < 0.1).mean() > 0.97
    assert (skin(inner(2000, 0.25)) > 0.5).mean() > 0.99


def test_a_board_thinner_than_the_spacing_is_filled() -> None:
    upper = np.random.default_rng(1).uniform(-1.0, 1.0, (1000, 2))
    skin = skin_of(np.concatenate([square(1000), np.column_stack([upper, np.full(1000, 0.03)])]), rng())
    assert (skin(inner(2000, 0.015)) > 0.5).mean() > 0.95


def test_a_wire_is_joined_and_its_turns_are_not() -> None:
    angle = np.sort(rng().uniform(0.0, 8.0 * np.pi, 800))

    def helix(angle: Floats) -> Floats:
        return np.column_stack([0.5 * np.cos(angle), 0.5 * np.sin(angle), 0.06 * angle - 0.75])

    skin = skin_of(helix(angle), rng())
    along = np.random.default_rng(1).uniform(angle[5], angle[-5], 2000)
    assert (skin(helix(along)) > 0.5).mean() > 0.97
    between = helix(along) + np.array([0.0, 0.0, 0.06 * np.pi])
    assert (skin(between) < 0.1).all()


def test_more_samples_than_are_used_span_the_same() -> None:
    skin = skin_of(square(USED + 5000), rng())
    assert skin.mesh.points.shape == (USED, 3)
    assert (skin(inner(2000, 0.0)) > 0.9).all()


def test_the_same_generator_gives_the_same_skin() -> None:
    one, two = (skin_of(square(500), rng()) for _ in range(2))
    assert np.array_equal(one.tree.data, two.tree.data)
    assert np.array_equal(one.filled, two.filled)


def test_five_samples_far_apart_are_themselves() -> None:
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.9, 0.9, 0.9]])
    skin = skin_of(points, rng())
    assert isinstance(skin, Skin)
    assert skin.distance(points, 1.0).max() < 1e-12
    assert (skin(points + 10.0) < 1e-12).all()


def test_radii_of_known_simplices() -> None:
    equilateral = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, np.sqrt(0.75), 0.0]]])
    assert _circumradii(equilateral) == pytest.approx(1.0 / np.sqrt(3.0))
    corner = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    assert _circumradii(corner) == pytest.approx(np.sqrt(0.75))
    line = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])
    assert _circumradii(line) > 100.0
