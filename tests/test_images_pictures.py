"""Sheets of images and heat maps: where each pixel goes, and what each colour means."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ocsdf3d.images.pictures import GAP, coloured, png, sheet


def test_images_stand_row_by_row_with_gaps() -> None:
    made = sheet(np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 4, 5), np.uint8), 2, zoom=2)
    assert made.shape == (2 * (8 + GAP) + GAP, 2 * (10 + GAP) + GAP, 3)
    assert (made[GAP : GAP + 8, GAP : GAP + 10] == 0).all()
    assert (made[GAP : GAP + 8, 2 * GAP + 10 : 2 * GAP + 20] == 1).all()
    assert (made[2 * GAP + 8 : 2 * GAP + 16, GAP : GAP + 10] == 2).all()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(made)))), made)


def test_heat_is_red_above_and_blue_below() -> None:
    found = coloured([[[1.0, -1.0, 0.0]], [[0.5, -0.25, 0.0]]])
    np.testing.assert_allclose(found[0, 0], [[1, 0, 0], [0, 0, 1], [1, 1, 1]])
    np.testing.assert_allclose(found[1, 0], [[1, 0, 0], [0.5, 0.5, 1], [1, 1, 1]])  # of its own scale
    alike = coloured([[[1.0, -1.0, 0.0]], [[0.5, -0.25, 0.0]]], alike=True)
    np.testing.assert_allclose(alike[1, 0], [[1, 0.5, 0.5], [0.75, 0.75, 1], [1, 1, 1]])
    np.testing.assert_allclose(coloured(np.zeros((1, 2, 2))), 1.0)


def test_no_images_are_no_sheet() -> None:
    with pytest.raises(ValueError, match=r"got \(0, 4, 4\), 2"):
        sheet(np.zeros((0, 4, 4)), 2)
