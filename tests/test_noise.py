"""Noise: seen where it is, not where a wall is thin, and less of it afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from ocsdf3d import analytic
from ocsdf3d.noise import SEEN, denoised, noise_level, noise_seen, smoothed, unburied
from ocsdf3d.sampling import surface_points

SHAPES = {
    "sphere": (trimesh.creation.icosphere(5), analytic.sphere(1.0)),
    "torus": (trimesh.creation.torus(0.75, 0.25, 128, 64), analytic.torus(0.75, 0.25)),
    "box": (trimesh.creation.box((2.0, 1.2, 0.8)), analytic.box((2.0, 1.2, 0.8))),
    "plate": (trimesh.creation.box((1.6, 1.2, 0.02)), analytic.box((1.6, 1.2, 0.02))),
}


def sampled(name: str, n: int = 2048, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    points = surface_points(SHAPES[name][0], n, np.random.default_rng(seed))[0]
    return points + noise * np.random.default_rng(seed + 1).normal(size=points.shape)


def level(points: np.ndarray) -> float:
    return noise_level(points, np.random.default_rng(0))


@pytest.mark.parametrize("name", list(SHAPES))
def test_no_noise_is_seen_in_clean_clouds(name: str) -> None:
    """A plate of 0.02 is a third of the spacing thick: two sheets, no noise."""
    points = sampled(name)
    assert level(points) < SEEN
    assert noise_seen(points, np.random.default_rng(0)) == 0.0


@pytest.mark.parametrize("name", ["sphere", "torus", "box"])
@pytest.mark.parametrize("noise", [0.015, 0.025])
def test_noise_is_seen_and_lessened(name: str, noise: float) -> None:
    points, phi = sampled(name, noise=noise), SHAPES[name][1]
    seen = noise_seen(points, np.random.default_rng(0))
    moved = denoised(points, seen)
    spacing = np.sqrt(SHAPES[name][0].area / len(points)) * 1.23  # mean of 10 nearest distances on a plane
    assert 0.5 < seen / (noise / spacing) < 1.6
    before, after = (np.sqrt(np.mean(phi(x) ** 2)) for x in (points, moved))
    assert after < 0.75 * before
    assert np.abs(moved - points).max() < 8.0 * noise  # points stay where they were, along the surface


def test_the_level_forgets_place_and_size() -> None:
    points = sampled("torus", noise=0.02)
    assert level(37.0 * points + [5.0, -2.0, 9.0]) == pytest.approx(level(points), rel=1e-6)


def test_wires_and_small_clouds_are_no_noise() -> None:
    t = np.linspace(0.0, 1.0, 2000)
    wire = np.stack([np.cos(9 * t), np.sin(9 * t), t], axis=1)
    assert level(wire + 1e-3 * np.random.default_rng(0).normal(size=wire.shape)) == 0.0
    assert level(sampled("sphere", n=40, noise=0.1)) == 0.0


@pytest.mark.parametrize("name", ["sphere", "torus"])
def test_curvature_moves_nothing(name: str) -> None:
    """16 neighbours of 2,048 reach 0.12: a plane through them lies 0.002 inside of the sphere."""
    moved = SHAPES[name][1](smoothed(sampled(name), 16))
    assert abs(moved.mean()) < 5e-4
    assert np.sqrt(np.mean(moved**2)) < 1.5e-3


def test_perfect_faces_stay() -> None:
    """No residual is left on its faces, and so nothing to weigh by."""
    moved = smoothed(sampled("box", 8000), 16)
    assert np.isfinite(moved).all()
    assert np.median(np.abs(SHAPES["box"][1](moved))) < 1e-6


def test_creases_stay() -> None:
    phi = SHAPES["box"][1]
    assert np.sqrt(np.mean(phi(smoothed(sampled("box", noise=0.01), 24)) ** 2)) < 0.006


def test_smoothing_leaves_a_plane_and_its_input_alone() -> None:
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.uniform(-1, 1, (500, 2)), np.zeros(500)])
    plane.setflags(write=False)
    moved = smoothed(plane, 16)
    assert np.abs(moved[:, 2]).max() < 1e-12
    assert np.allclose(moved, plane, atol=1e-9)


def test_smoothing_works_in_pieces_and_on_lines() -> None:
    points = sampled("sphere", n=23_000, noise=0.01)
    assert np.array_equal(smoothed(points, 16)[:100], smoothed(points, 16)[:100])
    radius = np.linalg.norm(smoothed(points, 40), axis=1)
    assert radius.std() < 0.5 * np.linalg.norm(points, axis=1).std()
    line = np.column_stack([np.linspace(0, 1, 50), np.zeros((50, 2))])
    assert np.isfinite(smoothed(line, 10)).all()


@pytest.mark.parametrize("name", ["sphere", "torus", "box"])
def test_noise_of_more_than_the_spacing_is_averaged_until_the_surface_shows(name: str) -> None:
    """Neighbours then fill a ball, so that no plane sees the noise."""
    points, phi = sampled(name, 6000, noise=0.08), SHAPES[name][1]
    before = np.sqrt(np.mean(phi(points) ** 2))
    assert noise_seen(points, np.random.default_rng(0)) == 0.0
    rng = np.random.default_rng(0)
    moved, found = unburied(points, rng)
    assert np.sqrt(np.mean(phi(moved) ** 2)) < 0.55 * before
    assert found > 0.4
    assert rng.random() == np.random.default_rng(0).random()  # later draws are those without it


def test_what_is_not_buried_in_noise_stays() -> None:
    """Clean, a little noisy, wires, and few points."""
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 1.0, 3000)
    for points in (
        *(sampled(name, 3000) for name in SHAPES),
        sampled("torus", 3000, noise=0.01),
        np.stack([np.cos(9 * t), np.sin(9 * t), t], axis=1) + 1e-4 * rng.normal(size=(3000, 3)),
        sampled("sphere", 500, noise=0.3),
    ):
        moved, found = unburied(points, rng)
        assert moved is points
        assert found == 0.0


def test_the_two_sides_of_a_thin_wall_do_not_pull_each_other() -> None:
    rng = np.random.default_rng(0)
    side = np.where(np.arange(4000) % 2 == 0, 1.0, -1.0)
    wall = np.column_stack([rng.uniform(-1, 1, (4000, 2)), 0.02 * side])
    noisy = wall + 0.008 * rng.normal(size=wall.shape)
    normals = np.column_stack([np.zeros((4000, 2)), side])
    inner = np.abs(noisy[:, :2]).max(axis=1) < 0.9
    apart, mixed = (smoothed(noisy, 20, n)[inner, 2] * side[inner] for n in (normals, None))
    assert apart.mean() == pytest.approx(0.02, abs=5e-4)
    assert apart.std() < 0.5 * 0.008
    assert mixed.mean() < 0.015  # and without normals it loses a quarter and more of its thickness


def test_a_point_alone_on_its_side_stays() -> None:
    points = np.random.default_rng(0).normal(size=(100, 3))
    normals = np.tile([0.0, 0.0, 1.0], (100, 1))
    normals[7] = [0.0, 0.0, -1.0]
    moved = smoothed(points, 16, normals)
    assert np.array_equal(moved[7], points[7])
    assert np.isfinite(moved).all()
    assert (moved != points).any(axis=1).sum() == 99
