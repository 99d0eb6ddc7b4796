"""Extents and directions of patches, against those they were made with."""

from __future__ import annotations

import numpy as np
import pytest

from ocsdf3d.neighbourhoods import principal_axes


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_extents_and_directions_are_those_it_was_made_with() -> None:
    turn = np.linalg.qr(rng().standard_normal((3, 3)))[0]
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    squares, axes = principal_axes(((corners * [1.0, 3.0, 2.0]) @ turn.T + 7.0)[None])
    np.testing.assert_allclose(squares[0], [8.0, 32.0, 72.0], rtol=1e-12)
    np.testing.assert_allclose(np.abs(axes[0].T @ turn), np.eye(3)[[0, 2, 1]], atol=1e-12)


def test_a_whole_weight_counts_a_point_as_often() -> None:
    patch = rng().standard_normal((5, 9, 3))
    counts = rng().integers(1, 4, 9)
    squares, axes = principal_axes(patch, np.tile(counts.astype(float), (5, 1)))
    again, same = principal_axes(np.repeat(patch, counts, axis=1))
    np.testing.assert_allclose(squares, again, rtol=1e-10)
    np.testing.assert_allclose(np.abs(np.einsum("nij,nij->nj", axes, same)), 1.0, rtol=1e-10)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_extents_of_flat_patches_are_not_negative(dimension: int) -> None:
    patch = rng().standard_normal((200, 8, 3)) * (np.arange(3) < dimension)
    turned = patch @ np.linalg.qr(rng().standard_normal((3, 3)))[0] + 1000.0
    squares, _axes = principal_axes(turned)
    assert (squares >= 0.0).all()
    assert (squares[:, : 3 - dimension] < 1e-8).all()
