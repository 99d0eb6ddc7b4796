"""The cells of cones against asking every cone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ocsdf3d import cones as module
from ocsdf3d.cones import Cones

CPU = torch.device("cpu")


def spheres(m: int, seed: int = 0) -> np.ndarray:
    """Centres about the unit sphere, radii of several sizes."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(m, 3))
    way *= rng.uniform(0.8, 1.1, (m, 1)) / np.linalg.norm(way, axis=1, keepdims=True)
    return np.column_stack([way, rng.uniform(0.0, 0.2, m)])


def everywhere(seed: int = 1) -> torch.Tensor:
    """Far outside, in the middle, near, and many at one place."""
    rng = np.random.default_rng(seed)
    near = rng.normal(size=(300, 3))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    parts = [rng.uniform(-5, 5, (200, 3)), rng.uniform(-0.1, 0.1, (100, 3)), near, np.tile(near[:1], (50, 1))]
    return torch.as_tensor(np.concatenate(parts))


@pytest.mark.parametrize("m", [1, 7, 64, 65, 513, 5000])
@pytest.mark.parametrize("cell", [0.01, 0.3])
def test_the_least_is_that_of_all(m: int, cell: float) -> None:
    every, x = spheres(m), everywhere()
    value = Cones(every, cell, CPU)(x)
    cost = np.linalg.norm(x.numpy()[:, None] - every[None, :, :3], axis=2) - every[None, :, 3]
    assert value.numpy() == pytest.approx(cost.min(axis=1), abs=1e-14)


def test_the_nearest_has_the_value() -> None:
    every, x = spheres(2000), everywhere()
    value, center = Cones(every, 0.05, CPU).nearest(x)
    radius = {tuple(s[:3].tolist()): s[3] for s in every}
    radii = np.array([radius[tuple(c)] for c in center.tolist()])
    assert value.numpy() == pytest.approx(np.linalg.norm(x - center, axis=1) - radii, abs=1e-14)
    assert torch.equal(value, Cones(every, 0.05, CPU)(x))


def test_a_value_does_not_depend_on_its_neighbours() -> None:
    cones, x = Cones(spheres(3000), 0.1, CPU), everywhere()
    whole = cones(x)
    assert torch.equal(torch.cat([cones(part) for part in x.split(7)]), whole)
    assert torch.equal(cones(x), whole)  # from what the cells keep
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(cones(x[shuffled]), whole[shuffled])


def test_cells_that_forget_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    every, x = spheres(3000), everywhere()
    whole = Cones(every, 0.05, CPU)(x)
    monkeypatch.setattr(module, "KEPT", 100)
    monkeypatch.setattr(module, "TOGETHER", 500)
    few = Cones(every, 0.05, CPU)
    assert torch.equal(torch.cat([few(part) for part in x.split(50)]), whole)
    assert len(few.levels[-1].keys) < len(x)  # they did


def test_cells_hold_few_of_the_cones() -> None:
    cones, x = Cones(spheres(5000), 0.05, CPU), everywhere()
    cones(x)
    assert float(cones.levels[-1].lengths.double().mean()) < 500


def test_threads_ask_together() -> None:
    every, x = spheres(3000), everywhere()
    whole, shared = Cones(every, 0.05, CPU)(x), Cones(every, 0.05, CPU)
    with ThreadPoolExecutor(8) as pool:
        assert torch.equal(torch.cat(list(pool.map(shared, x.split(5)))), whole)


def test_cells_of_no_size_to_speak_of() -> None:
    every, x = spheres(50), everywhere()
    assert torch.equal(Cones(every, 5e-324, CPU)(x), Cones(every, 0.1, CPU)(x))


def test_points_too_far_for_cells_ask_every_cone() -> None:
    every = spheres(300)
    x = torch.tensor([[1e9, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, -1e12, 3.0]], dtype=torch.float64)
    value = Cones(every, 0.01, CPU)(x)
    cost = np.linalg.norm(x.numpy()[:, None] - every[None, :, :3], axis=2) - every[None, :, 3]
    assert value.numpy() == pytest.approx(cost.min(axis=1), rel=1e-14, abs=1e-14)


def test_no_points_are_no_values() -> None:
    none = torch.zeros((0, 3), dtype=torch.float64)
    value, center = Cones(spheres(5), 0.1, CPU).nearest(none)
    assert value.shape == (0,)
    assert center.shape == (0, 3)


def test_no_cones_are_infinitely_far() -> None:
    value, center = Cones(np.zeros((0, 4)), 0.1, CPU).nearest(everywhere())
    assert torch.isinf(value).all()
    assert center.shape == (len(value), 3)
