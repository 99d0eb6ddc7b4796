"""Spheres hold a field to the samples, and cannot break its bound, whatever they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from numpy.typing import NDArray
from safetensors import safe_open

from ocsdf3d import fit, load, save
from ocsdf3d.analytic import sphere, torus
from ocsdf3d.field import SDF
from ocsdf3d.presets import PRESETS
from ocsdf3d.spheres import Spheres, touching
from ocsdf3d.train import TrainConfig

Born = Callable[..., SDF]
Floats = NDArray[np.float64]


def wild(seed: int = 0, m: int = 400) -> Spheres:
    """Spheres that make no sense at all: anywhere, of any size, on either side."""
    rng = np.random.default_rng(seed)
    one, two = (np.column_stack([rng.uniform(-1, 1, (m, 3)), rng.uniform(0.0, 0.5, m)]) for _ in range(2))
    return Spheres(one, two, 0.05)


def pairs(sdf: SDF, n: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Points of the box, and others near and far from them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(sdf.box.lower, sdf.box.upper, (n, 3))
    return x, x + rng.normal(size=(n, 3)) * np.exp(rng.uniform(-12.0, 0.0, (n, 1)))


def steepest(function: Callable[[Floats], Floats], x: Floats, y: Floats, rounding: float) -> float:
    """Largest excess of a difference over the distance; above 0 the bound is broken."""
    return float((np.abs(function(x) - function(y)) - np.linalg.norm(x - y, axis=1)).max() - 2.0 * rounding)


# --------------------------------------------------------------------------------------------- the bound


def test_wild_spheres_keep_the_bound(born: Born) -> None:
    sdf = dataclasses.replace(born(), spheres=wild())
    plain = dataclasses.replace(sdf, spheres=None)
    x, y = pairs(sdf, 20_000)
    assert (sdf(x) != plain(x)).mean() > 0.2  # they do act
    assert sdf.lipschitz == 1.0
    assert steepest(sdf, x, y, sdf.rounding_within(sdf.box.expanded(10.0))) <= 0.0
    assert np.linalg.norm(sdf.gradient(x), axis=1).max() <= 1.0 + 1e-6


def test_a_sum_instead_of_a_median_would_break_it(born: Born) -> None:
    """The pairs would notice: φ moved by what the spheres say has slopes up to 2."""
    spheres = wild()
    sdf = dataclasses.replace(born(), spheres=spheres)
    plain = dataclasses.replace(sdf, spheres=None)
    x, y = pairs(sdf, 20_000)

    def summed(points: Floats) -> Floats:
        _, hi = spheres.bounds(torch.as_tensor(points))
        return plain(points) + hi.numpy()

    assert steepest(summed, x, y, sdf.rounding_within(sdf.box.expanded(10.0))) > 1e-3


def test_the_gradient_is_that_of_the_values(born: Born) -> None:
    sdf = dataclasses.replace(born(), spheres=wild()).astype("float64")
    x = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    gradient, h = sdf.gradient(x), 1e-6
    found = np.stack([(sdf(x + h * e) - sdf(x - h * e)) / (2.0 * h) for e in np.eye(3)], axis=1)
    assert (np.abs(found - gradient).max(axis=1) < 1e-4).mean() > 0.99  # all but those at a kink


def test_rounding_counts_the_spheres(born: Born) -> None:
    far = wild()
    far = Spheres(far.inside + np.array([1e6, 0.0, 0.0, 0.0]), far.outside, far.cell)
    plain = born().astype("float64")
    held = dataclasses.replace(plain, spheres=far)
    assert held.rounding > plain.rounding + 1e6 * 2.0**-53


@pytest.mark.parametrize(
    ("inside", "cell", "match"),
    [
        (np.zeros((3, 3)), 0.1, r"must be \(m, 4\)"),
        (np.full((2, 4), np.nan), 0.1, "finite"),
        (np.array([[0.0, 0.0, 0.0, -1.0]]), 0.1, "not negative"),
        (np.ones((1, 4)), 0.0, "`cell` must be positive"),
    ],
)
def test_spheres_that_are_none(inside: Floats, cell: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Spheres(inside, np.ones((1, 4)), cell)


def test_one_side_may_have_none(born: Born) -> None:
    none = np.zeros((0, 4))
    with pytest.raises(ValueError, match="both are empty"):
        Spheres(none, none, 0.1)
    sdf, both = born(), wild()
    x, y = pairs(sdf, 3000)
    for some in (Spheres(both.inside, none, 0.1), Spheres(none, both.outside, 0.1)):
        held = dataclasses.replace(sdf, spheres=some)
        assert (held(x) != sdf(x)).any()
        assert np.isfinite(held.gradient(x)).all()
        assert steepest(held, x, y, held.rounding_within(held.box.expanded(10.0))) <= 0.0


# --------------------------------------------------------------------------------------------- finding them


def test_the_samples_are_the_surface() -> None:
    """Of a lazy, shifted torus the held field is 0 on the samples, and nearer to the truth between them."""
    exact = torus(0.6, 0.25)
    rng = np.random.default_rng(0)
    points = exact.sample_surface(6000, resolution=128)

    def lazy(x: Floats) -> Floats:
        return 0.9 * exact(x) + 0.004

    spheres = touching(points, lazy, exact.gradient, rng)
    assert spheres is not None
    assert len(spheres.inside) > 0.95 * len(points)
    assert len(spheres.outside) > 0.95 * len(points)

    def held(x: Floats) -> Floats:
        return spheres.held(torch.as_tensor(x), torch.as_tensor(lazy(x))).numpy()

    assert np.abs(lazy(points)).mean() > 0.003
    assert np.abs(held(points)).mean() < 2e-4  # the jitter of the triangulation, 0.001 spacings
    between = exact.sample_surface(2000, resolution=128, seed=1)
    assert np.abs(held(between)).mean() < 0.3 * np.abs(lazy(between)).mean()


def test_a_field_of_the_other_sign_has_none() -> None:
    exact = sphere(1.0)
    points = exact.sample_surface(500, resolution=64)
    assert touching(points, lambda x: -exact(x), exact.gradient, np.random.default_rng(0)) is None


# --------------------------------------------------------------------------------------------- the pipeline


@pytest.fixture(scope="module")
def dense() -> SDF:
    """A cuboid of 5,000 points, trained for a moment."""
    short = TrainConfig(
        steps=60, batch=256, margin=0.02, margin_start=0.05, touch=1.0, touch_start=1.0, away=0.2
    )
    preset = dataclasses.replace(PRESETS["fast"], solid=short, dense=None, pool=20_000)
    return fit(trimesh.creation.box((2.0, 1.2, 0.8)), points=5000, preset=preset)


def test_dense_clouds_are_held(dense: SDF) -> None:
    assert dense.spheres is not None
    plain = dataclasses.replace(dense, spheres=None)
    inner = np.random.default_rng(1).uniform(-1, 1, (2000, 3)) * [1.0, 0.6, 0.4]
    face = inner.copy()
    face[:, 2] = 0.4  # the true surface between the samples
    assert np.abs(dense(face)).mean() < 0.5 * np.abs(plain(face)).mean()
    assert dense.mesh(64).is_watertight
    x, y = pairs(dense, 5000)
    assert steepest(dense, x, y, dense.rounding_within(dense.box.expanded(10.0))) <= 0.0


def test_sparse_and_dense_grids_agree(dense: SDF) -> None:
    one, two = dense.mesh(48), dense.mesh(48, dense=True)
    assert one.vertices.tobytes() == two.vertices.tobytes()
    assert one.faces.tobytes() == two.faces.tobytes()


def test_files_keep_them_bit_for_bit(dense: SDF, tmp_path: Path) -> None:
    path = save(tmp_path / "held.safetensors", dense)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["version"] == "3"  # older readers must not take the network for all of it
    again = load(path, device="cpu")
    x = pairs(dense, 1000)[0]
    assert isinstance(again, SDF)
    assert again.spheres is not None
    assert again(x).tobytes() == dense(x).tobytes()
    assert again.certificate["hash"] == dense.certificate["hash"]
    other = dataclasses.replace(dense, spheres=wild())
    assert other.certificate["hash"] != dense.certificate["hash"]


def test_few_points_are_held_to_distances_alone(trained: SDF) -> None:
    assert trained.spheres is not None
    plain = dataclasses.replace(trained, spheres=None)
    x = np.random.default_rng(0).uniform(trained.box.lower, trained.box.upper, (5000, 3))
    slopes = [np.linalg.norm(f.gradient(x), axis=1) for f in (plain, trained)]
    assert np.abs(slopes[1] - 1.0).mean() < 0.5 * np.abs(slopes[0] - 1.0).mean()
    on = plain.mesh(64).vertices
    assert np.abs(trained(on)).max() < 0.01 * trained.frame.scale  # the surface stays
