"""PointCloud and Box: what they refuse, and that they can be neither changed nor aliased."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ocsdf3d.geometry import Box, PointCloud

CORNERS = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])


def test_cloud_is_a_private_read_only_float64_copy():
    given_points = CORNERS.astype(np.float32)
    cloud = PointCloud(given_points, normals=[[0, 0, 2], [0, 5, 0]], colors=[[0, 128, 255]] * 2)
    given_points[:] = 7
    assert cloud.points.dtype == np.float64
    np.testing.assert_array_equal(cloud.points, CORNERS)
    assert cloud.colors.dtype == np.uint8
    for array in (cloud.points, cloud.normals, cloud.colors):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(FrozenInstanceError):
        cloud.points = CORNERS
    assert len(cloud) == 2


def test_normals_become_unit_also_at_the_ends_of_float64():
    # 1e-200² underflows and 1e200² overflows: a plain norm would give 0 and inf.
    cloud = PointCloud(np.zeros((3, 3)), normals=[[0, 3, 4], [1e-200, 0, 0], [0, 1e200, 1e200]])
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(cloud.normals[0], [0, 0.6, 0.8], rtol=1e-15)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((5000, 2)), r"got shape \(5000, 2\)\. For planar or tabular data use ocsdf3d\.oneclass\."),
        (np.zeros((3, 50)), "transpose"),
        (np.zeros(3), r"points\[None\]"),
        (np.zeros((0, 3)), "at least one row"),
        (3.0, r"got shape \(\)"),
        ([["a", "b", "c"]], "real numbers"),
        (np.zeros((2, 3), complex), "real numbers"),
        ([[0, 0, 0], [0, np.nan, 0], [np.inf, 0, 0]], r"2 of 3 rows are not, the first is row 1 "),
    ],
)
def test_refused_points(points, message):
    with pytest.raises(ValueError, match=message):
        PointCloud(points)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"normals": [[0, 0, 1]]}, r"`normals` must match `points`, \(2, 3\); got shape \(1, 3\)"),
        ({"normals": [[0, 0, 1], [0, 0, 0]]}, "1 of 2 are, the first is row 1"),
        ({"normals": [[0, 0, 1], [0, np.nan, 0]]}, "`normals` must be .* finite"),
        ({"colors": [[0, 0, 1]]}, "`colors` must match"),
        ({"colors": [[0, 0, 256]] * 2}, "from 0 to 255; got int64 from 0 to 256"),
        ({"colors": [[0, 0, -1]] * 2}, "from 0 to 255"),
        ({"colors": [[0, 0, 0.5]] * 2}, "got float64"),
    ],
)
def test_refused_normals_and_colors(extra, message):
    with pytest.raises(ValueError, match=message):
        PointCloud(CORNERS, **extra)


def test_box_measures():
    box = Box.of(CORNERS)
    assert box.size.tolist() == [1, 2, 3]
    assert box.center.tolist() == [0.5, 1, 1.5]
    assert box.longest == 3
    assert box.diagonal == pytest.approx(14**0.5, rel=1e-15)  # 1 + 4 + 9
    assert PointCloud(CORNERS).box.upper.tolist() == [1, 2, 3]


def test_box_contains_its_faces_and_no_nan():
    inside = Box.of(CORNERS).contains([[0, 0, 0], [1, 2, 3], [0.5, 1, 1], [0.5, 1, 3.1], [np.nan, 1, 1]])
    assert inside.tolist() == [True, True, True, False, False]


def test_box_grows_and_shrinks():
    box = Box.of(CORNERS)
    assert box.expanded(0.5).longest == 4
    assert box.expanded(-0.5).size.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="`lower` must not exceed `upper`"):
        box.expanded(-0.51)  # the shortest side is 1


@pytest.mark.parametrize("lower", [[0, 0], [0, 0, np.nan], [0, 0, -np.inf], [[0, 0, 0]]])
def test_refused_corners(lower):
    with pytest.raises(ValueError, match="`lower` must be three finite numbers"):
        Box(lower, [1, 1, 1])


def test_box_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        Box.of(CORNERS).lower[0] = 1


@given(arrays(np.float64, (7, 3), elements=st.floats(-1e150, 1e150)))
def test_box_of_points_contains_them(points):
    box = Box.of(points)
    assert box.contains(points).all()
    assert box.contains(box.center[None]).all()
