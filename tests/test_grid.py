"""Sparse grids are the dense ones where it matters, and refuse what memory cannot hold."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ocsdf3d import grid
from ocsdf3d.analytic import ExactSDF, box, capsule, sphere, torus
from ocsdf3d.geometry import Box
from ocsdf3d.grid import Grid, ResolutionError, check_memory, from_nodes, memory_needed, sample
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


def same_mesh(one: Grid, other: Grid) -> bool:
    a, b = extract(one), extract(other)
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("vertices", "faces", "vertex_normals")
    )


# ---------------------------------------------------------------------------------------------- layout


def test_nodes_are_where_the_box_says() -> None:
    """φ(x) = x, y or z is its own ruler."""
    for axis in range(3):
        sampled = sample(lambda p, axis=axis: p[:, axis], Box([1, 2, 3], [5, 4, 4]), 9, level=3.5)
        ruler = np.linspace(sampled.box.lower[axis], sampled.box.upper[axis], sampled.cells[axis] + 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        values = sampled.bricks[0, :9, :5, :3]  # sides 4, 2, 1 in cells of 4 / 8: a part of one brick
        assert np.abs(values - ruler.reshape(shape)).max() < 1e-6  # float32 at size 5
        assert sampled.cells.tolist() == [8, 4, 2]
        assert sampled.origins.tolist() == [[0, 0, 0]]
    assert sampled.bricks.dtype == np.float32


def test_cells_are_cubes_and_the_box_grows_evenly() -> None:
    asked = Box([0, 0, 0], [1.0, 0.55, 0.0])
    sampled = sample(sphere(), asked, 11)
    assert sampled.spacing == pytest.approx(0.1, rel=1e-12)
    assert sampled.cells.tolist() == [10, 6, 1]  # 5.5 cells become 6, a flat box one
    assert sampled.box.center == pytest.approx(asked.center, abs=1e-15)
    assert sampled.box.lower == pytest.approx([0.0, -0.025, -0.05], abs=1e-15)


def test_a_side_of_whole_cells_gains_none_by_rounding() -> None:
    sampled = sample(sphere(), Box([0, 0, 0], [0.7, 0.7, 0.1]), 8)
    assert sampled.cells.tolist() == [7, 7, 1]  # 0.1 / (0.7 / 7) > 1


def test_bricks_overlap_in_their_faces_and_cut_ones_repeat_their_end() -> None:
    shape = SHAPES["torus"]
    sampled = sample(shape, region(shape), 41)  # 40 cells: bricks of 16, 16 and 8
    assert set(sampled.origins.reshape(-1).tolist()) == {0, 16, 32}
    for origin, brick in zip(sampled.origins, sampled.bricks, strict=True):
        index = np.minimum(
            np.stack(np.meshgrid(*[np.arange(17)] * 3, indexing="ij"), -1) + origin, sampled.cells
        )
        points = sampled.lower + sampled.spacing * index.reshape(-1, 3)
        assert np.array_equal(brick.reshape(-1), shape(points).astype(np.float32))


# ---------------------------------------------------------------------------------------------- tiles


def test_no_tile_is_larger_than_asked_and_every_point_counts() -> None:
    sizes: list[int] = []

    def recording(points: np.ndarray) -> np.ndarray:
        sizes.append(len(points))
        return sphere(radius=0.4)(points)

    sampled = sample(recording, Box([-0.5] * 3, [0.5] * 3), 11, tile=500)
    assert sizes == [500, 500, 331]  # 11³ nodes
    assert sampled.evaluations == sampled.dense_evaluations == 1331


def test_tile_size_changes_nothing() -> None:
    shape = SHAPES["torus"]
    whole = sample(shape, region(shape), 40, lipschitz=1.0)
    tiled = sample(shape, region(shape), 40, lipschitz=1.0, tile=97)
    assert np.array_equal(whole.bricks, tiled.bricks)
    assert whole.evaluations == tiled.evaluations


def test_windows_change_nothing_but_a_few_inferences(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES["torus"]
    whole = sample(shape, region(shape), 120, lipschitz=1.0)
    monkeypatch.setattr("ocsdf3d.sparse.WINDOW", 1)  # one layer of bricks at a time: 3 windows
    parts = sample(shape, region(shape), 120, lipschitz=1.0)
    assert np.array_equal(whole.origins, parts.origins)
    assert same_mesh(whole, parts)
    # Nodes of the planes between windows, 7 of 120, are asked where they might have been inferred.
    assert whole.evaluations <= parts.evaluations < 1.05 * whole.evaluations


@pytest.mark.parametrize("window", [1, 2**23])
def test_no_node_is_asked_twice(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocsdf3d.sparse.WINDOW", window)
    seen: list[np.ndarray] = []

    def recording(points: np.ndarray) -> np.ndarray:
        seen.append(points.copy())
        return SHAPES["box"](points)

    sampled = sample(recording, region(SHAPES["box"]), 97, lipschitz=1.0)  # 96 cells: bricks of 16 and 8
    steps = (np.concatenate(seen) - sampled.lower) / sampled.spacing
    nodes = steps[(np.abs(steps - np.round(steps)) < 1e-6).all(axis=1)]
    count = np.unique(np.round(nodes).astype(int), axis=0, return_counts=True)[1]
    # Centres of blocks of 16 and more are asked before there are windows, and may be asked again as nodes.
    assert (count > 1).sum() <= sum((-(-sampled.cells // size)).prod() for size in (16, 32))


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
    dense = sample(shape, around, 64, level=level)
    sparse = sample(shape, around, 64, lipschitz=1.0, level=level)
    assert same_mesh(dense, sparse)


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
    assert {*map(tuple, sparse.origins.tolist())} <= {*map(tuple, dense.origins.tolist())}
    kept = (dense.origins[:, None] == sparse.origins[None]).all(axis=2).any(axis=1)
    true, held = dense.bricks[kept], sparse.bricks
    filled = true != held
    assert filled.mean() > 0.3
    assert np.array_equal(np.sign(true[filled]), np.sign(held[filled]))
    assert np.abs(held[filled]).min() >= shape.box.longest  # farther than φ ever gets: recognisable


def test_undecided_cells_are_neither_crossed_nor_proven() -> None:
    """Of one sign, in reach of the surface; and every cell that the surface enters unseen is among them."""
    shape = SHAPES["plate"]  # thinner than a cell, and between two planes of nodes: missed as a whole
    sampled = sample(shape, region(shape), 20, lipschitz=1.0)
    h, corners = (
        sampled.spacing,
        np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3),
    )

    def at(positions: np.ndarray) -> np.ndarray:
        return shape(sampled.lower + h * positions.reshape(-1, 3)).reshape(positions.shape[:-1])

    assert (np.abs(np.sign(at(sampled.undecided[:, None] + corners)).sum(axis=1)) == 8).all()
    assert np.abs(at(sampled.undecided + 0.5)).max() < 1.5 * np.sqrt(3.0) * h
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in sampled.cells], indexing="ij"), -1).reshape(-1, 3)
    inside = at(cells[:, None] + np.random.default_rng(0).uniform(0, 1, (200, 3)))
    unseen = (np.abs(np.sign(at(cells[:, None] + corners)).sum(axis=1)) == 8) & (
        np.abs(np.sign(inside).sum(axis=1)) < 200
    )
    assert unseen.sum() > 200  # 17 · 14 cells hold the plate
    listed = {*map(tuple, sampled.undecided.tolist())}
    assert {*map(tuple, cells[unseen].tolist())} <= listed


@pytest.mark.parametrize(
    ("name", "share"),
    # Measured 4.4, 7.7, 8.1, 16.6 and 2.9 %; corners of crossed cells alone: 3.9, 6.7, 6.3, 12.7, 2.5 %.
    [("sphere", 0.05), ("torus", 0.085), ("box", 0.09), ("plate", 0.18), ("capsule", 0.033)],
)
def test_sparse_is_cheap(name: str, share: float) -> None:
    asked = 0

    def counting(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return SHAPES[name](points)

    sampled = sample(counting, region(SHAPES[name]), 200, lipschitz=1.0, tile=64)
    assert sampled.evaluations < share * sampled.dense_evaluations
    assert sampled.evaluations == asked  # centres of blocks included


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
    assert len(far_away.bricks) == len(far_away.undecided) == 0
    assert far_away.blocks == 64
    assert calls[-1] == (64, 64)
    assert 6.0 < far_away.span[0] < far_away.span[1] < 11.0  # 9 ± 1 and the diagonal


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
            r"`field` must return one value a point, shape \(8000,\); got \(8000, 3\)",
        ),
        ({"field": lambda p: np.full(len(p), np.nan)}, "`field` must be finite; got nan at"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    arguments = {"field": sphere(), "box": Box([-1] * 3, [1] * 3), "resolution": 20} | options
    with pytest.raises(ValueError, match=message):
        sample(**arguments)  # type: ignore[arg-type]


def test_two_nodes_are_enough() -> None:
    assert sample(sphere(), Box([-1] * 3, [1] * 3), 2, lipschitz=1.0).cells.tolist() == [1, 1, 1]


def test_too_fine_for_memory_is_refused_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = Box([0] * 3, [1] * 3)
    monkeypatch.setattr(grid, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(ResolutionError) as refusal:
        sample(sphere(), cube, 1000)
    message = str(refusal.value)
    assert (
        "`resolution` 1000 needs about 11.9 GB, 2.0 GB are free" in message
    )  # 5 · 1000³ + 750 · 9 · 10⁶ + 2²⁷
    fits = int(message.rsplit(" ", 1)[1].rstrip("."))
    assert memory_needed(cube, fits, dense=True) <= 2 * 10**9 < memory_needed(cube, fits + 1, dense=True)
    check_memory(cube, fits, dense=True)
    with pytest.raises(ResolutionError):
        check_memory(cube, fits + 1, dense=True)
    check_memory(cube, fits + 1)  # sparse needs less
    monkeypatch.setattr(grid, "free_memory", lambda: 10**6)
    with pytest.raises(ResolutionError, match="Not even the smallest grid fits"):
        check_memory(cube, 20)


def test_more_nodes_than_the_mesher_can_tell_apart_are_refused() -> None:
    needle = Box([0, 0, 0], [1.0, 0.0, 0.0])  # 8192 · 2 · 2 nodes: no question of memory
    check_memory(needle, 8192)
    with pytest.raises(ResolutionError, match="at most 8192 nodes"):
        check_memory(needle, 8193)


def peak_of(shape: ExactSDF, resolution: int) -> int:
    """Arrays alone, seen by Python's own tracer [bytes]."""
    tracemalloc.start()
    extract(sample(shape, region(shape), resolution, lipschitz=1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_grows_with_the_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocsdf3d.sparse.WINDOW", 1)  # as it is from 700 nodes on: one layer of bricks
    monkeypatch.setattr("ocsdf3d.surface._CHUNK", 16)
    shape = SHAPES["sphere"]
    small, large = peak_of(shape, 80), peak_of(shape, 240)
    assert large < 12 * small  # 3² = 9 and what does not grow, where a volume grows 3³ = 27 times
    assert large < memory_needed(region(shape), 240)


# ---------------------------------------------------------------------------------------- other sources


def test_nodes_of_another_source() -> None:
    """Voxel data go the same way as a dense evaluation."""
    shape = SHAPES["box"]
    dense = sample(shape, region(shape), 40)
    index = np.stack(np.meshgrid(*[np.arange(n + 1) for n in dense.cells], indexing="ij"), -1)
    values = shape(dense.lower + dense.spacing * index.reshape(-1, 3)).reshape(index.shape[:3])
    given = from_nodes(values, dense.lower, dense.spacing)
    assert np.array_equal(given.bricks, dense.bricks)
    assert same_mesh(given, dense)
