"""Draws follow their laws: by area on a mesh, by volume in a box and a ball."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from ocsdf3d.sampling import some_of, surface_points, uniform_in_ball


def test_some_rows_of_many_are_drawn_in_order_and_once() -> None:
    rows = some_of(1000, 300, np.random.default_rng(0))
    assert len(rows) == 300
    assert (np.diff(rows) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < 1000
    assert abs(rows.mean() - 499.5) < 5.0 * np.sqrt(1000.0**2 / 12 / 300)
    assert np.array_equal(rows, some_of(1000, 300, np.random.default_rng(0)))
    assert np.array_equal(some_of(5, 5, np.random.default_rng(0)), np.arange(5))
    assert np.array_equal(some_of(0, 5, np.random.default_rng(0)), np.arange(0))


def fan(scale: float = 1.0, move: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    """Five triangles of areas 1, 2, 4, 8 and 0, in that order, in different planes."""
    vertices, faces = [], []
    for k, area in enumerate((1.0, 2.0, 4.0, 8.0, 0.0)):
        side = math.sqrt(2.0 * area)
        u, v = np.roll([1.0, 0.0, 0.0], k), np.roll([0.0, 1.0, 0.0], k)
        start = np.array([5.0 * k, 0.0, 0.0])
        faces.append([3 * k, 3 * k + 1, 3 * k + 2])
        vertices += [start, start + side * u, start + side * v]
    return trimesh.Trimesh(scale * np.array(vertices) + move, faces, process=False)


def barycentric(mesh: trimesh.Trimesh, points: np.ndarray, face_index: np.ndarray) -> np.ndarray:
    return trimesh.triangles.points_to_barycentric(mesh.triangles[face_index], points)


@pytest.mark.parametrize(("scale", "move"), [(1.0, (0.0, 0.0, 0.0)), (37.0, (5.0, -2.0, 9.0))])
def test_counts_follow_the_areas(scale: float, move: tuple[float, float, float]) -> None:
    n = 60_000
    points, face_index = surface_points(fan(scale, move), n, np.random.default_rng(0))
    assert points.shape == (n, 3)
    assert points.dtype == np.float64
    counts = np.bincount(face_index, minlength=5)
    share = np.array([1.0, 2.0, 4.0, 8.0, 0.0]) / 15.0
    assert (
        np.abs(counts - n * share) <= 4.0 * np.sqrt(n * share * (1.0 - share))
    ).all()  # 4σ; none on area 0


def test_points_lie_on_their_faces_uniformly() -> None:
    mesh = fan()
    points, face_index = surface_points(mesh, 30_000, np.random.default_rng(1))
    weights = barycentric(mesh, points, face_index)
    assert weights.min() >= -1e-12
    assert np.abs((weights[:, :, None] * mesh.triangles[face_index]).sum(1) - points).max() < 1e-12
    for corner in range(3):
        w = np.sort(weights[:, corner])
        # A coordinate of a uniform point of a triangle has the law 1 − (1 − w)²; Kolmogorov's 1 − 1e-6 point
        # is 2.7/√n.
        law = 1.0 - (1.0 - w) ** 2
        assert np.abs(law - (np.arange(len(w)) + 0.5) / len(w)).max() < 2.7 / math.sqrt(len(w))


def test_sampling_does_not_depend_on_scale() -> None:
    """Same seed, same points, whether the shape is 1e-200 or 1e100 across: no area underflows or
    overflows."""
    one, faces = surface_points(fan(), 1000, np.random.default_rng(2))
    for scale in (1e-200, 1e-30, 1e100):
        other, other_faces = surface_points(fan(scale), 1000, np.random.default_rng(2))
        assert np.array_equal(faces, other_faces)
        assert np.allclose(other / scale, one, rtol=1e-12, atol=1e-12)


def test_sampling_is_fixed_by_its_generator_and_touches_no_other() -> None:
    mesh = fan()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator is what must not move
    vertices = mesh.vertices.copy()
    one, same, other = (surface_points(mesh, 100, np.random.default_rng(s))[0] for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.array_equal(mesh.vertices, vertices)


def test_no_points_may_be_asked() -> None:
    points, face_index = surface_points(fan(), 0, np.random.default_rng(0))
    assert points.shape == (0, 3)
    assert face_index.shape == (0,)


def test_meshes_without_faces_or_area_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="has no faces to sample"):
        surface_points(trimesh.Trimesh(np.zeros((3, 3)), np.zeros((0, 3), int), process=False), 10, rng)
    line = trimesh.Trimesh([[0, 0, 0], [1, 1, 1], [2, 2, 2]], [[0, 1, 2]], process=False)
    with pytest.raises(ValueError, match="the 1 faces of the mesh have no area"):
        surface_points(line, 10, rng)
    point = trimesh.Trimesh(np.ones((3, 3)), [[0, 1, 2], [2, 1, 0]], process=False)
    with pytest.raises(ValueError, match="the 2 faces of the mesh have no area"):
        surface_points(point, 10, rng)


# ------------------------------------------------------------------------------------- seeds Q₀


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_ball_is_filled_uniformly(d: int) -> None:
    """(r/R)^d is uniform: Kolmogorov's distance below 2.7/√n (one false alarm in a million); directions
    cancel."""
    n = 20_000
    center = torch.linspace(-1.0, 4.0, d, dtype=torch.float64)
    x = uniform_in_ball(n, center, 2.5, rng())
    r = (x - center).norm(dim=1) / 2.5
    assert r.max() <= 1.0 + 1e-12
    law = r.pow(d).sort().values
    ranks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    assert (law - ranks).abs().max() < 2.7 / math.sqrt(n)
    # A mean coordinate has variance R²/((d + 2) n); 5σ.
    assert (x.mean(0) - center).abs().max() < 5.0 * 2.5 / math.sqrt((d + 2) * n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_seeds_follow_dtype_and_generator(dtype: torch.dtype) -> None:
    corner = torch.ones(3, dtype=dtype)
    state = torch.get_rng_state()

    def draw(seed: int) -> torch.Tensor:
        return uniform_in_ball(20, corner, 2.0, rng(seed))

    assert draw(1).dtype == dtype
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert draw(1).shape == (20, 3)
    assert torch.equal(torch.get_rng_state(), state)
