"""The similarity keeps every digit, and a cloud that bounds nothing is told what it is instead."""

from __future__ import annotations

import numpy as np
import pytest

from ocsdf3d.frame import MIN_POINTS, Frame, check_shape, emptiness, inliers

SIZES = [1e-6, 1.0, 1e6]
OFFSETS = [0.0, 5e6]


def blob(n: int = 500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (n, 3)) * [1.0, 0.6, 0.3]


def rotation(seed: int = 3) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


# ------------------------------------------------------------------------------------------- similarity


@pytest.mark.parametrize("how", ["box", "deviation"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", OFFSETS)
def test_round_trip(how: str, size: float, offset: float) -> None:
    points = size * blob() + offset
    frame = Frame.around(points, how)
    unit = frame.to_unit(points)
    back = frame.to_world(unit)
    # Four roundings of numbers of the size of the coordinates: two ways, each a product and a sum.
    assert np.abs(back - points).max() <= 4 * np.spacing(np.abs(points).max())
    # World points are known to an ulp; the unit frame adds nothing to that but its own ulp.
    exact = (points.astype(np.longdouble) - frame.center) / frame.scale
    assert np.abs(unit - exact).max() <= 4 * np.spacing(np.abs(unit).max())


def test_box_frame_puts_the_longest_side_on_minus_one_to_one() -> None:
    points = 37.0 * blob() + [5.0, -2.0, 9.0]
    unit = Frame.around(points).to_unit(points)
    extent = unit.max(axis=0) - unit.min(axis=0)
    assert extent.max() == pytest.approx(2.0, abs=1e-14)
    assert unit.max(axis=0) + unit.min(axis=0) == pytest.approx(np.zeros(3), abs=1e-14)


def test_deviation_frame_has_mean_zero_and_pooled_deviation_one() -> None:
    points = 37.0 * blob() + [500.0, -200.0, 900.0]
    unit = Frame.around(points, "deviation").to_unit(points)
    assert unit.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.sqrt((unit**2).mean()) == pytest.approx(
        1.0, abs=1e-12
    )  # would be 500 times less before centring


@pytest.mark.parametrize("how", ["box", "deviation"])
def test_convention_one_scale_for_all_axes(how: str) -> None:
    """Distances shrink by the same factor in every direction, or a 1-Lipschitz f would not give one φ."""
    points = blob()
    frame = Frame.around(points, how)
    assert isinstance(frame.scale, float)
    unit = frame.to_unit(points)
    between = np.linalg.norm(points[1:] - points[:-1], axis=1)
    ratio = np.linalg.norm(unit[1:] - unit[:-1], axis=1) * frame.scale / between
    assert ratio == pytest.approx(np.ones(len(ratio)), abs=1e-12)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="`how` must be box or deviation; got 'axis'"):
        Frame.around(blob(), "axis")


def test_inputs_are_not_written_into() -> None:
    points = blob()
    points.setflags(write=False)
    frame = Frame.around(points)
    frame.to_unit(points)
    frame.to_world(points)
    check_shape(points)


# --------------------------------------------------------------------------- clouds that bound nothing


def test_equal_points() -> None:
    with pytest.raises(ValueError, match=r"all 40 points are equal, at \[1\.0, 2\.0, 3\.0\]"):
        check_shape(np.tile([1.0, 2.0, 3.0], (40, 1)))


@pytest.mark.parametrize("distinct", [2, MIN_POINTS - 1])
def test_too_few_distinct_points(distinct: int) -> None:
    repeated = np.tile(blob(distinct), (9, 1))
    with pytest.raises(ValueError, match=rf"only {distinct} of {9 * distinct} points are distinct"):
        check_shape(repeated)


def test_parts_far_apart_leave_most_of_the_box_empty() -> None:
    one = on_sphere(1000, np.random.default_rng(0))
    assert emptiness(one * (0.01, 1.0, 0.01) + 1e6) == 0.0
    far = np.concatenate([one, one + np.array([0.0, 0.0, 200.0])])
    assert emptiness(far) == pytest.approx(198 / 202, abs=1e-3)
    three = np.concatenate([far, one + np.array([0.0, 0.0, 100.0])])
    assert emptiness(three) == pytest.approx(196 / 202, abs=1e-3)
    contours = one * (1.0, 1.0, 0.0) + np.arange(1000)[:, None] % 6 * np.array([0.0, 0.0, 2.0])
    assert emptiness(contours) == 0.0  # a fifth from one to the next


def test_just_enough_points() -> None:
    check_shape(np.tile(blob(MIN_POINTS), (9, 1)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [*SIZES, 100.0])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("axes", "word"), [(1, "collinear"), (2, "coplanar")])
def test_flat_clouds(dtype: type, size: float, offset: float, turned: bool, axes: int, word: str) -> None:
    """Also when the rounding of the stored coordinates has made a slab of the plane."""
    spread = np.zeros((400, 3))
    spread[:, :axes] = blob(400)[:, :axes]
    placed = size * spread @ (rotation() if turned else np.eye(3)).T + offset
    points = placed.astype(dtype).astype(np.float64)
    # Rounded away to a handful of points, or to a lattice a few steps wide, whose shape is anybody's guess.
    if size < 200 * np.spacing(dtype(offset)):
        with pytest.raises(ValueError, match=r"equal|distinct|collinear|coplanar"):
            check_shape(points)
    else:
        with pytest.raises(ValueError, match=word):
            check_shape(points)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_thin_plate_is_a_solid(dtype: type, size: float, turned: bool) -> None:
    """1e-4 of its length thick: a hundred times what counts as flat, and 800 ulps of a float32 coordinate."""
    plate = blob() * [1.0, 1.0, 0.0]
    plate[::2, 2] = 1e-4
    placed = size * plate @ (rotation() if turned else np.eye(3)).T
    check_shape(placed.astype(dtype).astype(np.float64))


def test_a_plate_far_along_its_plane_is_a_solid() -> None:
    """Rounding counts where it happens: heights near 0 keep their digits however far away x and y are."""
    plate = blob() * [100.0, 100.0, 0.0] + [5e6, 5e6, 0.0]
    plate[::2, 2] = 0.01
    check_shape(plate.astype(np.float32).astype(np.float64))


def test_whole_numbers_far_from_the_origin_are_a_solid() -> None:
    """A voxel plate one step thick at 5e6, where float32 resolves half a step."""
    grid = np.stack(np.meshgrid(*map(np.arange, (20, 20, 2)), indexing="ij"), axis=-1).reshape(-1, 3)
    check_shape(grid + 5e6)


def test_noise_decides() -> None:
    """The two sides of the threshold, on a plane of unit size with noise of a known size."""
    plane = blob() * [1.0, 1.0, 0.0]
    noise = np.random.default_rng(1).normal(size=len(plane))
    extent = np.sqrt((plane[:, 0] ** 2).mean())
    for times, flat in ((0.5, True), (2.0, False)):
        plane[:, 2] = times * 1e-6 * extent * noise
        if flat:
            with pytest.raises(ValueError, match="coplanar"):
                check_shape(plane)
        else:
            check_shape(plane)


def on_sphere(n: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_isolated_points_are_told_from_uneven_sampling() -> None:
    rng = np.random.default_rng(0)
    sphere = on_sphere(2000, rng)
    outliers = rng.uniform(-1.5, 1.5, (100, 3))
    far = np.abs(np.linalg.norm(outliers, axis=1) - 1.0) > 0.3  # six spacings of the surface away from it
    kept = inliers(np.concatenate([sphere, outliers]))
    assert kept[:2000].mean() > 0.98  # those beside an outlier may look isolated once
    assert kept[2000:][far].mean() < 0.2  # two outliers that neighbour each other may vouch for one another
    dense = sphere[rng.random(2000) < np.exp(np.log(100.0) * (sphere[:, 0] - 1.0) / 2.0)]  # 100:1 along x
    assert inliers(dense).mean() > 0.95


def test_outliers_far_from_the_surface_have_only_outliers_around_them() -> None:
    rng = np.random.default_rng(0)
    outliers = rng.uniform(-3.0, 3.0, (1000, 3))
    off = np.abs(np.linalg.norm(outliers, axis=1) - 1.0)
    kept = inliers(np.concatenate([on_sphere(20_000, rng), outliers]))
    assert kept[:20_000].mean() > 0.99
    assert kept[20_000:][off > 0.1].mean() < 0.01  # measured 0; 0.89 by the neighbours alone


@pytest.mark.parametrize("case", ["ball", "line"])
def test_sparse_surfaces_beside_dense_ones_are_no_outliers(case: str) -> None:
    rng = np.random.default_rng(0)
    ball = on_sphere(100, rng) + np.array([4.0, 0.0, 0.0])
    line = np.linspace(3.0, 9.0, 40)[:, None] * [1.0, 0.0, 0.0]
    sparse = ball if case == "ball" else line
    kept = inliers(np.concatenate([on_sphere(20_000, rng), sparse]))
    assert kept[20_000:].all()
    assert kept[:20_000].mean() > 0.99


def test_too_few_points_are_all_kept() -> None:
    assert inliers(np.random.default_rng(0).normal(size=(12, 3))).all()
