"""Sparse grids are the dense ones where it matters, and refuse what memory cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocsdf3d import grid
from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.geometry import Box
from ocsdf3d.grid import Grid, ResolutionError, check_memory, free_memory, memory_needed, sample
from ocsdf3d.surface import extract

SHAPES: dict[str, ExactSDF] = {
    "sphere": sphere(radius=0.45, center=(0.1, -0.2, 0.3)),
    "torus": torus(major=0.35, minor=0.1, center=(5.0, -2.0, 9.0)),
    "box": box(size=(1.0, 0.7, 0.5)),
    "plate": box(size=(1.0, 0.8, 0.04)),
    "capsule": capsule(a=(-0.4, -0.3, 0.0), b=(0.4, 0.3, 0.2), radius=0.1),
}


def region(shape: ExactSDF) -> Box:
    return shape.box.expanded(0.05 * shape.box.longest)


def same_mesh(one: Grid, other: Grid, level: float = 0.0) -> bool:
    a, b = extract(one, level=level), extract(other, level=level)
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


# ---------------------------------------------------------------------------------------------- layout


def test_nodes_are_where_the_box_says() -> None:
    """φ(x) = x, y or z is its own ruler."""
    for axis in range(3):
        sampled = sample(lambda p, axis=axis: p[:, axis], Box([1, 2, 3], [5, 4, 4]), 9)
        ruler = np.linspace(sampled.box.lower[axis], sampled.box.upper[axis], sampled.values.shape[axis])
        shape = [1, 1, 1]
        shape[axis] = -1
        assert np.abs(sampled.values - ruler.reshape(shape)).max() < 1e-6  # float32 at size 5
    assert sampled.values.shape == (9, 5, 3)  # sides 4, 2, 1 in cells of 4 / 8
    assert sampled.values.dtype == np.float32


def test_cells_are_cubes_and_the_box_grows_evenly() -> None:
    asked = Box([0, 0, 0], [1.0, 0.55, 0.0])
    sampled = sample(sphere(), asked, 11)
    assert sampled.spacing == pytest.approx([0.1, 0.1, 0.1], rel=1e-12)
    assert sampled.values.shape == (11, 7, 2)  # 5.5 cells become 6, a flat box one
    assert sampled.box.center == pytest.approx(asked.center, abs=1e-15)
    assert sampled.box.lower == pytest.approx([0.0, -0.025, -0.05], abs=1e-15)


def test_a_side_of_whole_cells_gains_none_by_rounding() -> None:
    assert sample(sphere(), Box([0, 0, 0], [0.7, 0.7, 0.1]), 8).values.shape == (
        8,
        8,
        2,
    )  # 0.1 / (0.7 / 7) > 1


# ---------------------------------------------------------------------------------------------- tiles


def test_every_tile_has_the_same_size_and_only_real_points_count() -> None:
    sizes: list[int] = []

    def recording(points: np.ndarray) -> np.ndarray:
        sizes.append(len(points))
        return sphere(radius=0.4)(points)

    sampled = sample(recording, Box([-0.5] * 3, [0.5] * 3), 11, tile=500)
    assert sizes == [500, 500, 500]  # 11³ = 1331 nodes: the third tile is padded
    assert sampled.evaluations == sampled.dense_evaluations == 1331


def test_tile_size_changes_nothing() -> None:
    shape = SHAPES["torus"]
    whole = sample(shape, region(shape), 40, lipschitz=1.0)
    tiled = sample(shape, region(shape), 40, lipschitz=1.0, tile=97)
    assert np.array_equal(whole.values, tiled.values)
    assert whole.evaluations == tiled.evaluations


@pytest.mark.parametrize("lipschitz", [None, 1.0])
def test_progress_rises_and_ends_at_the_total(lipschitz: float | None) -> None:
    calls: list[tuple[int, int]] = []
    shape = SHAPES["sphere"]
    sampled = sample(
        shape, region(shape), 40, lipschitz=lipschitz, tile=1000, progress=lambda *call: calls.append(call)
    )
    done = [call[0] for call in calls]
    assert len(calls) > 5
    assert done == sorted(done)
    assert all(now <= total for now, total in calls)
    assert calls[-1] == (sampled.evaluations, sampled.evaluations)


# ---------------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("resolution", [11, 33, 64, 75])  # cells 10, 32, 63, 74: whole and cut blocks
def test_sparse_mesh_is_the_dense_mesh(name: str, resolution: int) -> None:
    shape = SHAPES[name]
    dense = sample(shape, region(shape), resolution)
    sparse = sample(shape, region(shape), resolution, lipschitz=1.0)
    assert same_mesh(dense, sparse)
    assert resolution == 11 or sparse.evaluations < dense.evaluations


@pytest.mark.parametrize("level", [-0.05, 0.07])
def test_sparse_at_other_levels(level: float) -> None:
    shape = SHAPES["box"]
    around = region(shape).expanded(0.1)
    dense, sparse = sample(shape, around, 64), sample(shape, around, 64, lipschitz=1.0, level=level)
    assert same_mesh(dense, sparse, level)


def test_sparse_with_nodes_on_the_level_and_ties_of_the_proof() -> None:
    """Nodes lie on the sphere, and corners of blocks at exactly the proven reach."""
    shape, around = sphere(radius=0.5), Box([-0.8] * 3, [0.8] * 3)
    for resolution in (33, 17, 65):  # spacing 0.05, 0.1, 0.025: 0.5 is a whole number of cells
        assert same_mesh(sample(shape, around, resolution), sample(shape, around, resolution, lipschitz=1.0))


@pytest.mark.parametrize("seed", range(4))
def test_sparse_on_rough_fields_that_keep_their_bound(seed: int) -> None:
    """Minima and maxima of exact shapes at random, slope 0.3 to 1: lazy where the proof is weakest."""
    rng = np.random.default_rng(seed)
    balls = [sphere(r, c) for r, c in zip(rng.uniform(0.05, 0.4, 8), rng.uniform(-1, 1, (8, 3)), strict=True)]
    slope = rng.uniform(0.3, 1.0)

    def field(points: np.ndarray) -> np.ndarray:
        values = np.stack([ball(points) for ball in balls])
        return slope * np.maximum(values[:4].min(axis=0), -values[4:].min(axis=0))

    around = Box([-1.5] * 3, [1.5] * 3)
    dense, sparse = sample(field, around, 60), sample(field, around, 60, lipschitz=1.0)
    assert same_mesh(dense, sparse)
    assert sparse.evaluations < 0.6 * dense.evaluations  # slope 0.3 keeps a band three times as wide


def test_scale_of_the_world_changes_no_decision() -> None:
    shape = SHAPES["torus"]
    counts = set()
    for scale in (1e-6, 1.0, 1e6):
        around = Box(region(shape).lower * scale, region(shape).upper * scale)
        counts.add(sample(lambda p, s=scale: s * shape(p / s), around, 50, lipschitz=1.0).evaluations)
    assert max(counts) - min(counts) <= 0.002 * max(counts)  # ties of the proof fall either way by rounding


def test_unevaluated_nodes_have_the_true_sign_and_are_off_the_level() -> None:
    shape = SHAPES["torus"]
    dense = sample(shape, region(shape), 64)
    sparse = sample(shape, region(shape), 64, lipschitz=1.0)
    filled = dense.values != sparse.values
    assert filled.mean() > 0.5
    assert np.array_equal(np.sign(dense.values[filled]), np.sign(sparse.values[filled]))
    assert np.abs(sparse.values[filled]).min() >= shape.box.longest  # farther than φ ever gets: recognisable
    assert (
        sparse.evaluations - (~filled).sum() < 0.1 * sparse.evaluations
    )  # the rest: block centres, no nodes


@pytest.mark.parametrize(
    ("name", "share"),
    # Measured 4.8, 8.3, 9.8, 19.1 and 3.2 %; corners of crossed cells alone: 3.9, 6.7, 6.3, 12.7, 2.5 %.
    [("sphere", 0.06), ("torus", 0.10), ("box", 0.11), ("plate", 0.21), ("capsule", 0.04)],
)
def test_sparse_is_cheap(name: str, share: float) -> None:
    asked = 0

    def counting(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return SHAPES[name](points)

    sampled = sample(counting, region(SHAPES[name]), 200, lipschitz=1.0, tile=64)
    assert sampled.evaluations < share * sampled.dense_evaluations
    assert asked - 4 * 64 < sampled.evaluations <= asked  # centres included; padding, of four waves, is not


def test_negative_control_a_wrong_bound_loses_surface() -> None:
    """The theorem is what holds the mesh together: 3φ is not 1-Lipschitz, and saying so tears it."""
    shape = SHAPES["sphere"]

    def steep(points: np.ndarray) -> np.ndarray:
        return 3.0 * shape(points)

    def found(lipschitz: float | None) -> set[tuple[float, ...]]:
        mesh = extract(sample(steep, region(shape), 65, lipschitz=lipschitz))
        return set(map(tuple, mesh.vertices.tolist()))

    truth = found(None)
    assert found(3.0) == truth
    # Blocks whose centre is farther than a third of the half-diagonal are dropped, crossed or not: 78 % goes.
    assert len(truth - found(1.0)) > 0.5 * len(truth)


def test_allowance_keeps_what_rounding_could_hide() -> None:
    """An error of the values up to the allowance must not drop a crossing: here ±0.02, as good as random."""
    shape = SHAPES["sphere"]

    def noisy(points: np.ndarray) -> np.ndarray:
        return shape(points) + 0.02 * np.sign(np.sin(1e4 * points.sum(axis=1)))

    around = region(shape)
    dense = sample(noisy, around, 65)
    assert same_mesh(dense, sample(noisy, around, 65, lipschitz=1.0, allowance=0.02))
    assert not same_mesh(dense, sample(noisy, around, 65, lipschitz=1.0))


def test_sparse_grid_without_surface_costs_next_to_nothing() -> None:
    calls: list[tuple[int, int]] = []
    far_away = sample(
        sphere(radius=0.1, center=(9.0, 0, 0)),
        Box([-1] * 3, [1] * 3),
        100,
        lipschitz=1.0,
        progress=lambda *call: calls.append(call),
    )
    assert far_away.evaluations == 64  # the first round of blocks, 4³
    assert (far_away.values > 0.0).all()
    assert calls[-1] == (64, 64)
    assert far_away.span is not None
    assert (
        6.0 < far_away.span[0] < far_away.span[1] < 11.0
    )  # 9 ± 1 and the diagonal: true values, no fillings


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1}, "`resolution` must be an integer of at least 2 nodes; got 1"),
        ({"resolution": 20.5}, "`resolution` must be an integer"),
        ({"resolution": True}, "`resolution` must be an integer"),
        ({"lipschitz": 0.0}, "`lipschitz` must be positive and finite; got 0.0"),
        ({"lipschitz": float("nan")}, "`lipschitz` must be positive"),
        ({"level": float("inf")}, "`level` must be finite"),
        ({"allowance": -1e-9}, "`allowance` finite and ≥ 0"),
        ({"tile": 0}, "`tile` must be at least 1"),
        ({"box": Box([1, 2, 3], [1, 2, 3])}, "`box` must have an extent"),
        (
            {"field": lambda p: p},
            r"`field` must return one value a point, shape \(16384,\); got \(16384, 3\)",
        ),
        ({"field": lambda p: np.full(len(p), np.nan)}, "`field` must be finite on the box; got nan at"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    arguments = {"field": sphere(), "box": Box([-1] * 3, [1] * 3), "resolution": 20} | options
    with pytest.raises(ValueError, match=message):
        sample(**arguments)  # type: ignore[arg-type]


def test_two_nodes_are_enough() -> None:
    assert sample(sphere(), Box([-1] * 3, [1] * 3), 2, lipschitz=1.0).values.shape == (2, 2, 2)


def test_too_fine_for_memory_is_refused_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = Box([0] * 3, [1] * 3)
    monkeypatch.setattr(grid, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(ResolutionError) as refusal:
        sample(sphere(), cube, 1000)
    message = str(refusal.value)
    assert "`resolution` 1000 needs about 12.1 GB, 2.0 GB are free" in message  # 9 · 1000³ + 3 · 10⁹ + 2²⁷
    fits = int(message.rsplit(" ", 1)[1].rstrip("."))
    assert memory_needed(cube, fits) <= 2 * 10**9 < memory_needed(cube, fits + 1)
    check_memory(cube, fits)
    with pytest.raises(ResolutionError):
        check_memory(cube, fits + 1)
    monkeypatch.setattr(grid, "free_memory", lambda: 10**6)
    with pytest.raises(ResolutionError, match="Not even the smallest grid fits"):
        check_memory(cube, 20)


def test_more_nodes_than_the_mesher_can_tell_apart_are_refused() -> None:
    needle = Box([0, 0, 0], [1.0, 0.0, 0.0])  # 8192 · 2 · 2 nodes: no question of memory
    check_memory(needle, 8192)
    with pytest.raises(ResolutionError, match="at most 8192 nodes"):
        check_memory(needle, 8193)


def test_memory_needed_is_above_what_is_used() -> None:
    """Arrays alone: values and the mesher's copy, 4 bytes a node each, seen by Python's own tracer."""
    import tracemalloc

    shape = SHAPES["sphere"]
    tracemalloc.start()
    extract(sample(shape, region(shape), 150, lipschitz=1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 8 * 150**3 < peak < memory_needed(region(shape), 150)


def machine(root: Path, available: int | None, **files: str) -> Path:
    """A file system that tells of memory; keys are paths with `__` for `/`."""
    contents = {key.replace("__", "/"): text for key, text in files.items()}
    if available is not None:
        contents["proc/meminfo"] = f"MemTotal: 99999999 kB\nMemAvailable: {available} kB\n"
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_free_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path, 1000)) == 1000 * 1024


def test_free_memory_respects_a_control_group(tmp_path: Path) -> None:
    limited = {
        "sys__fs__cgroup__jobs__a__memory.max": "600000",
        "sys__fs__cgroup__jobs__a__memory.current": "500000",
        "sys__fs__cgroup__jobs__a__memory.stat": "anon 300000\ninactive_file 200000\n",
        "sys__fs__cgroup__jobs__memory.max": "max",
        "sys__fs__cgroup__jobs__memory.current": "500000",
        "sys__fs__cgroup__jobs__memory.stat": "inactive_file 0\n",
        "proc__self__cgroup": "0::/jobs/a\n",
    }
    assert free_memory(machine(tmp_path, 1000, **limited)) == 300_000  # 600 − 500 + 200 thousand


def test_free_memory_respects_an_old_control_group(tmp_path: Path) -> None:
    limited = {
        "sys__fs__cgroup__memory__memory.limit_in_bytes": "600000",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": "700000",
        "sys__fs__cgroup__memory__memory.stat": "total_inactive_file 0\n",
    }
    assert free_memory(machine(tmp_path, 1000, **limited)) == 0  # over the limit is none, not less than none


def test_free_memory_without_the_kernels_file(tmp_path: Path) -> None:
    assert free_memory(tmp_path) > 10**8  # this machine's pages, or no limit where even those are unknown
