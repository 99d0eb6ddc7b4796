"""Joins: means of tiles, their slope proved; against what forgets the weights' own slope."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ocsdf3d import checkpoint
from ocsdf3d.analytic import sphere
from ocsdf3d.container import CheckpointError
from ocsdf3d.csg import Field, Node
from ocsdf3d.extremes import largest
from ocsdf3d.field import SDF
from ocsdf3d.geometry import Box
from ocsdf3d.join import Join

BOX = Box([-1.2, -1.2, -1.2], [1.2, 1.2, 1.2])
BALL = sphere(0.8)
APART = 0.1  # centres of neighbours' balls


def joined(parts: tuple[Field, ...], **changes: object) -> Join:
    """2 × 2 × 1 tiles, parts 1 to 4."""
    values: dict[str, object] = {
        "cuts": ((0.1,), (-0.2,), ()),
        "widths": (0.4, 0.3, 1.0),
        "which": (1, 2, 3, 4),
        "band": 0.5,
        "lower": BOX.lower,
        "upper": BOX.upper,
    }
    return Join(parts, **{**values, **changes})  # type: ignore[arg-type]


def quarrel() -> Join:
    """Tiles that disagree: balls of other sizes, so that the weights' slope adds to theirs all the way."""
    return joined((BALL, BALL, BALL.offset(0.05), BALL.offset(-0.1), BALL.offset(0.1)))


def steepest(field: Callable[[np.ndarray], np.ndarray], region: Box, seed: int = 0) -> float:
    """Largest slope between pairs of points, random ones and those that climb along differences."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(region.lower, region.upper, (20_000, 3))
    y = x + rng.normal(size=x.shape) * 10.0 ** rng.uniform(-5, -0.5, (len(x), 1))
    best = 0.0
    for _ in range(12):
        apart = np.linalg.norm(y - x, axis=1)
        slope = np.abs(field(x) - field(y)) / np.maximum(apart, 1e-12)
        best = max(best, float(slope[apart > 1e-6].max()))
        kept = np.argsort(-slope)[:500]
        x = np.repeat(x[kept], 20, axis=0)
        x += rng.normal(size=x.shape) * 10.0 ** rng.uniform(-4, -1, (len(x), 1))
        step = 1e-4 * np.eye(3)
        rise = np.stack([field(x + s) - field(x - s) for s in step], axis=1)
        y = x + rise / np.maximum(np.linalg.norm(rise, axis=1, keepdims=True), 1e-12) * 1e-3
    return best


# --- bounds


def test_weights_are_a_partition_of_unity_with_the_slopes_that_were_told() -> None:
    join = joined((BALL,) * 5, cuts=((-0.5, 0.1), (-0.2,), (0.3,)), widths=(0.4, 0.3, 0.5), which=(1,) * 12)
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (4000, 3))
    weights = join.weights(x)
    assert weights.min() >= 0.0
    assert np.abs(weights.sum(axis=1) - 1.0).max() <= 8 * 2.0**-52
    assert ((weights > 0.0).sum(axis=1)).max() == 8  # at a corner
    inner = np.clip(x, join.lower, join.upper)
    for axis, width in enumerate(join.widths):
        step = 1e-6 * np.eye(3)[axis]
        moved = np.abs(join.weights(inner + step) - join.weights(inner - step)) / 2e-6
        assert 1.0 / width == pytest.approx(moved.max(), rel=1e-6)  # a tile's own, nothing else falling


def test_a_join_of_one_field_is_that_field() -> None:
    join = joined((BALL,) * 5)
    x = np.random.default_rng(0).uniform(BOX.lower, BOX.upper, (2000, 3))
    inside = BALL(x) > join._beyond(x).max(axis=1)  # elsewhere the box's faces are nearer than the ball's
    assert np.abs(join(x) - BALL(x))[inside].max() < 1e-15
    assert np.abs(join.gradient(x) - BALL.gradient(x))[inside].max() < 1e-12
    # Equal fields differ by 0; what is proved of that stops at what is worth proving.
    assert join.lipschitz <= 1.0 + 0.15 * np.sqrt(2.0) + 1e-9


def test_the_slope_between_pairs_is_below_the_bound_and_near_it() -> None:
    join = quarrel()
    found = steepest(join, BOX.expanded(0.3))
    assert found <= join.lipschitz
    assert found > 1.0 + 0.5 * (join.lipschitz - 1.0)  # the bound is not idle


def test_forgetting_the_slope_of_the_weights_is_caught() -> None:
    """Negative control: the largest bound of the parts, as it holds of every other node."""
    join = quarrel()
    forgetful = Node.lipschitz.fget(join)  # type: ignore[attr-defined]
    assert forgetful == 1.0
    assert steepest(join, BOX) > 1.1 * forgetful


def test_the_gap_is_enclosed() -> None:
    join = dataclasses.replace(quarrel(), lower=[-1.2, -1.2, -0.2], upper=[1.2, 1.2, 0.2])
    x, y, z = join.gaps
    # Across x: tiles 1|3 and 2|4, of offsets 0|-0.1 and 0.05|0.1; across y 1|2 and 3|4.
    assert 0.1 <= x <= 0.1 + 0.05 * 0.4 + 1e-9
    assert 0.2 <= y <= 0.2 + 0.05 * 0.3 + 1e-9
    assert z == 0.0  # one tile high
    assert join.lipschitz == pytest.approx(1.0 + np.hypot(x / 0.4, y / 0.3), rel=1e-9)


def test_gradients_are_the_differences_of_values() -> None:
    join = quarrel()
    x = np.random.default_rng(1).uniform(-1.5, 1.5, (3000, 3))
    step = 1e-6
    rise = np.stack([join(x + step * e) - join(x - step * e) for e in np.eye(3)], axis=1) / (2 * step)
    wrong = np.linalg.norm(rise - join.gradient(x), axis=1) > 1e-6
    assert wrong.mean() < 0.002  # at creases the two sides differ


def test_the_band_holds_a_tile_to_the_guide() -> None:
    wild = BALL | sphere(0.3, (1.0, 1.0, 1.0))  # a piece that the guide knows nothing of
    join = joined((BALL, BALL, BALL, BALL, wild), band=0.2)
    piece = np.array([[0.95, 0.95, 0.95]])
    assert wild(piece)[0] < 0.0 < join(piece)[0]
    assert max(join.gaps) <= 2 * 0.2 + 1e-9
    assert steepest(join, BOX) <= join.lipschitz


def test_an_empty_tile_is_the_guide() -> None:
    join = joined((BALL, BALL.offset(0.1)), which=(0, 0, 0, 1))
    assert join(np.array([[-0.9, -0.9, 0.0]])) == BALL(np.array([[-0.9, -0.9, 0.0]]))
    assert steepest(join, BOX) <= join.lipschitz


def test_of_networks_too(born: Callable[..., SDF]) -> None:
    parts = tuple(born(seed) for seed in range(5))
    join = joined(parts, band=0.3, lower=[-1.15] * 3, upper=[1.15] * 3)
    assert steepest(join, join.box) <= join.lipschitz + 1e-3  # float32 values at 1e-3 apart
    assert max(join.gaps) <= 0.6 + 1e-9
    x = np.random.default_rng(0).uniform(-1.3, 1.3, (500, 3))
    exact = join.astype("float64")
    assert exact.gaps == join.gaps
    assert np.abs(exact(x) - join(x)).max() <= join.rounding_within(join.box.expanded(0.2))
    assert exact.rounding_within(join.box) < 1e-9


def test_largest_encloses_a_known_maximum() -> None:
    def cone(x: np.ndarray) -> np.ndarray:
        return 1.0 - np.linalg.norm(x - np.array([0.3, 0.1, 0.7]), axis=1)

    box = Box([-1.0, -0.2, 0.0], [1.0, 0.2, 1.0])
    found = largest(cone, box, lipschitz=1.0, allowance=1e-12, tolerance=0.01)
    assert 1.0 - 0.01 <= found.lower <= 1.0 <= found.upper <= found.lower + 0.01 + 1e-9
    assert largest(cone, box, lipschitz=1.0, allowance=0.0, tolerance=0.01, limit=500).upper >= 1.0
    assert largest(cone, box, lipschitz=1.0, allowance=0.0, tolerance=0.01, limit=1).upper == np.inf
    assert largest(cone, box, lipschitz=1.0, allowance=0.0, tolerance=0.01, enough=9.0).evaluations < 300
    # Negative control: a slope that is told too small loses the peak.
    assert largest(cone, box, lipschitz=0.1, allowance=0.0, tolerance=0.01).upper < 1.0
    with pytest.raises(ValueError, match="`tolerance` must be positive"):
        largest(cone, box, lipschitz=1.0, allowance=0.0, tolerance=0.0)


# --- what every field can do


def test_it_meshes_traces_and_tells_sides() -> None:
    join = quarrel()
    mesh = join.mesh(resolution=48)
    dense = join.mesh(resolution=48, dense=True)
    assert mesh.is_watertight
    assert mesh.volume > 0.0
    assert mesh.metadata["lipschitz"] == join.lipschitz
    assert mesh.faces.tobytes() == dense.faces.tobytes()  # no block was dropped wrongly
    assert np.abs(np.asarray(mesh.vertices) - np.asarray(dense.vertices)).max() < 1e-6
    hit = join.trace([[-3.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]])
    assert bool(hit.hit[0])
    assert abs(join(hit.points)[0]) < 1e-4
    sides = join.inside([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    assert sides.inside.tolist() == [True, False]
    assert sides.radius[1] <= 4.2


def test_saved_and_loaded_it_is_the_same_to_the_bit(born: Callable[..., SDF], tmp_path: Path) -> None:
    networks = born(0), born(1)
    join = joined((*networks, BALL, networks[1]), which=(1, 2, 0, 3), band=0.3)
    back = checkpoint.load(checkpoint.save(tmp_path / "join.safetensors", join), device="cpu")
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (1500, 3))
    assert back(x).tobytes() == join(x).tobytes()
    assert isinstance(back, Join)
    assert back.settings == join.settings
    assert "_gaps" not in back.__dict__  # the file does not tell: it is proved again
    assert back.certificate == join.certificate
    assert back.certificate["basis"] == "measured"  # the rounding of float32


def test_a_file_of_other_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    join = quarrel()
    monkeypatch.setattr(Join, "settings", property(lambda self: {"cuts": [[], [], []], "widths": [1, 1, 1]}))
    path = checkpoint.save(tmp_path / "bad.safetensors", join)
    with pytest.raises(CheckpointError, match="not understood"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"band": 0.0}, "`band` must be positive"),
        ({"widths": (0.0, 1.0, 1.0)}, "`widths` must be positive"),
        ({"widths": (1.0, 1.0)}, "of 3 axes"),
        ({"cuts": ((0.0, 0.2), (), ()), "which": (0, 0, 0)}, "fewer tiles or a narrower ramp"),
        ({"cuts": ((1.3,), (), ()), "which": (0, 0)}, "fewer tiles or a narrower ramp"),
        ({"which": (0, 1, 2)}, "`which` must have 4 entries"),
        ({"which": (0, 1, 2, 5)}, "`which` must name parts from 0 to 4"),
    ],
)
def test_numbers_that_make_no_tiles_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joined((BALL,) * 5, **changes)


def test_parts_must_be_fields() -> None:
    with pytest.raises(TypeError, match="join takes certified field"):
        joined((BALL, "ball"))  # type: ignore[arg-type]


def test_a_replaced_part_is_proved_anew() -> None:
    join = quarrel()
    before = join.lipschitz
    other = dataclasses.replace(join, parts=(BALL,) * 5)
    assert other.lipschitz < before
