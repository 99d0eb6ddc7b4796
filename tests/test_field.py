"""The public field: signs and axes, bound, rounding, and a mesh that loses nothing to the certificate."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from ocsdf3d import checkpoint, grid
from ocsdf3d.analytic import Cuboid
from ocsdf3d.field import ROWS, SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box
from ocsdf3d.grid import ResolutionError
from ocsdf3d.lipschitz.bound import certify
from ocsdf3d.lipschitz.certificate import CertificateError
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.surface import EmptyLevelSetError

Born = Callable[..., SDF]
MOVED = Frame(np.array([5.0, -2.0, 9.0]), 37.0)


def inside_box(sdf: SDF, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(sdf.box.lower, sdf.box.upper, (n, 3))


# -------------------------------------------------------------------------------------------- conventions


def test_convention_negative_inside(trained: SDF, cuboid: Cuboid) -> None:
    x = inside_box(trained, 20_000)
    far = np.abs(cuboid(x)) > 1.5  # 2 % of the longest side: wider than the spacing of 1,000 points resolves
    assert (trained(x[far]) < 0.0).tolist() == (cuboid(x[far]) < 0.0).tolist()
    assert trained(cuboid.center[None])[0] < 0.0


def test_convention_world_units(trained: SDF, cuboid: Cuboid) -> None:
    """φ grows by almost the distance walked straight away from a face."""
    face = cuboid.center + np.array([37.0, 0.0, 0.0])
    values = trained(face + np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    assert 0.8 * 4.0 < values[1] - values[0] <= 4.0 * (1 + 1e-4)  # slope below 1 is lazy, above 1 impossible
    assert abs(values[0]) < 1.0  # the face itself, in units of a 74 long box


def test_convention_gradient_points_outward(trained: SDF, cuboid: Cuboid) -> None:
    for axis, half in enumerate((37.0, 22.2, 14.8)):
        for sign in (-1.0, 1.0):
            normal = sign * np.eye(3)[axis]
            gradient = trained.gradient((cuboid.center + half * normal)[None])[0]
            slope = np.linalg.norm(gradient)
            assert gradient @ normal > 0.98 * slope  # measured: 0.999
            assert slope > 0.8  # 400 steps: 0.89 to 1


def test_convention_axis_order_and_winding(trained: SDF) -> None:
    mesh = trained.mesh(resolution=48)
    assert mesh.extents == pytest.approx([74.0, 44.4, 29.6], abs=1.5)  # a cell is 1.8
    assert mesh.bounds.mean(axis=0) == pytest.approx([185.0, -74.0, 333.0], abs=1.0)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    # Rounded edges cost volume, never a tenth of it; the sign is the winding.
    assert mesh.volume == pytest.approx(74.0 * 44.4 * 29.6, rel=0.05)


def test_convention_sign_flip_of_f(born: Born) -> None:
    """φ = s (c − f): more of the paper's f is deeper inside."""
    sdf = born(frame=MOVED)
    unit = np.random.default_rng(0).uniform(-1, 1, (100, 3))
    with torch.no_grad():
        f = sdf.network.double()(torch.as_tensor(unit)).numpy()
    sdf.network.float()
    assert sdf(MOVED.to_world(unit)) == pytest.approx(37.0 * (sdf.level - f), abs=37.0 * 1e-6)


# -------------------------------------------------------------------------------------- 1-Lipschitz


@pytest.mark.parametrize("kind", ["born", "moved", "trained", "loaded"])
def test_one_lipschitz(kind: str, born: Born, trained: SDF, tmp_path: Path) -> None:
    if kind == "loaded":
        checkpoint.save(tmp_path / "a.safetensors", trained)
        sdf = checkpoint.load(tmp_path / "a.safetensors", device="cpu")
    else:
        sdf = {"born": born(), "moved": born(frame=MOVED), "trained": trained}[kind]
    s = sdf.frame.scale
    x, y = inside_box(sdf, 4000, 1), inside_box(sdf, 4000, 2)
    # Adversarial: a step along the gradient, where the slope is, from a thousandth of the shape on.
    step = s * np.geomspace(1e-3, 0.3, len(x))[:, None]
    along = x + step * sdf.gradient(x)
    for other in (y, along, x + 0.01 * (y - x)):
        distance = np.linalg.norm(other - x, axis=1)
        slack = 1e-4 * distance + 2 * sdf.rounding  # float32: the bound is proved for real arithmetic
        assert (np.abs(sdf(x) - sdf(other)) <= distance + slack).all()
    assert 0.99 < sdf.lipschitz <= 1.0
    # Not by being flat: along the gradient a trained field does rise.
    if kind in ("trained", "loaded"):
        rise = (sdf(along) - sdf(x)) / np.linalg.norm(along - x, axis=1)
        assert np.median(rise[:2000]) > 0.8


def test_gradient_has_length_at_most_one(born: Born, trained: SDF) -> None:
    for sdf in (born(), born(frame=MOVED), trained):
        assert np.linalg.norm(sdf.gradient(inside_box(sdf, 5000)), axis=1).max() <= 1.0 + 1e-4


def test_gradient_equals_finite_differences(born: Born) -> None:
    sdf = born(frame=MOVED)
    x = inside_box(sdf, 300, 3)
    h = 1e-3 * sdf.frame.scale
    steps = h * np.eye(3)
    numeric = np.stack([(sdf(x + e) - sdf(x - e)) / (2 * h) for e in steps], axis=1)
    error = np.abs(numeric - sdf.gradient(x)).max(axis=1)
    # f is piecewise affine: exact but for rounding (2 × 3e-7 / 2e-3) unless a kink lies between.
    assert (error < 2e-3).mean() > 0.8
    assert np.median(error) < 5e-4


# ------------------------------------------------------------------------------------------ rounding


def test_values_do_not_depend_on_the_batch(trained: SDF) -> None:
    x = inside_box(trained, ROWS["cpu"] * 2 + 37)
    values, gradients = trained(x), trained.gradient(x)
    for i in (0, 1, 17, 1000, ROWS["cpu"] - 1, ROWS["cpu"], len(x) - 1):
        assert trained(x[i : i + 1])[0] == values[i]
        assert (trained.gradient(x[i : i + 1])[0] == gradients[i]).all()
    for shift in (1, 5, 1000):
        assert (trained(np.roll(x, shift, axis=0)) == np.roll(values, shift)).all()
    assert (trained(x[:1000]) == values[:1000]).all()


def unit_field(network: LipschitzNetwork) -> SDF:
    words = {"support": "solid", "support_reason": ""}
    return SDF.proved(network, Frame(np.zeros(3), 1.0), Box([-1.15] * 3, [1.15] * 3), level=0.0, **words)


def rounding_of(network: LipschitzNetwork, n: int = 30_000) -> float:
    """Largest difference between float32, as `SDF` computes it, and float64, over the domain; unit frame."""
    exact = copy.deepcopy(network).double()
    unit = np.random.default_rng(0).uniform(-1.15, 1.15, (n, 3))
    sdf = unit_field(network)
    with torch.no_grad():
        reference = np.concatenate([exact(torch.as_tensor(u)).numpy() for u in np.split(unit, 30)])
    return float(np.abs(-sdf(unit) - reference).max())


def test_rounding_of_untrained_networks() -> None:
    for config in (
        NetworkConfig(inputs=3),
        NetworkConfig(inputs=3, width=192, depth=12),
        NetworkConfig(inputs=3, activation="max_min"),
        NetworkConfig(inputs=3, activation="full_sort", constraint="bjorck", bias=0.0),
    ):
        network = certify(LipschitzNetwork(config, torch.Generator().manual_seed(0)))[0]
        assert rounding_of(network, 6000) <= unit_field(network).rounding / 5  # measured: up to 4e-7


def test_rounding_of_a_trained_network(trained: SDF) -> None:
    largest = rounding_of(trained.network)
    assert largest <= trained.rounding / trained.frame.scale / 5  # measured: 4.5e-7
    assert largest > 1e-8  # float32 it was
    assert trained.rounding == pytest.approx(5e-6 * trained.frame.scale, rel=1e-3)
    assert trained.certificate["basis"] == "measured"


def test_rounding_in_float64_is_proved_and_small(trained: SDF) -> None:
    exact = trained.astype("float64")
    assert exact.certificate["basis"] == "proved"
    assert exact.rounding == pytest.approx(exact.certificate["proved"], rel=0.1)
    assert exact.rounding < 1e-11 * trained.frame.scale  # 8 layers of 128: 130 u a layer, times norms of |W|
    x = inside_box(trained, 2000)
    # Twice the a-priori bound of float32 as well: weak, and true.
    assert np.abs(exact(x) - trained(x)).max() <= trained.certificate["proved"]
    assert np.abs(exact(x) - trained(x)).max() <= trained.rounding + exact.rounding
    assert exact.astype("float32").certificate == trained.certificate


def test_rounding_grows_with_the_distance(born: Born) -> None:
    sdf = born(frame=MOVED)
    near, far = sdf.rounding_within(sdf.box), sdf.rounding_within(sdf.box.expanded(100.0 * sdf.box.longest))
    assert 100.0 * near < far < 400.0 * near
    x = np.random.default_rng(0).uniform(-1, 1, (3000, 3)) * 100.0 * sdf.box.longest + MOVED.center
    assert np.abs(sdf.astype("float64")(x) - sdf(x)).max() < far


# ------------------------------------------------------------------------------------- the certificate


def test_certificate_of_a_field(trained: SDF) -> None:
    found = trained.certificate
    assert found["certified"] is True
    assert found["dtype"] == "float32"
    assert found["lipschitz"] == trained.lipschitz
    assert len(found["hash"]) == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda network: network.head.mul_(1.0 + 1e-6), "the weights are not those of the certificate"),
        (lambda network: network.biases[0, 0].add_(1e-6), "the weights are not those of the certificate"),
        (lambda network: network.bfloat16(), "the certificate is for float32, the weights are bfloat16"),
        (lambda network: network.half(), "the certificate is for float32, the weights are float16"),
        (lambda network: network.double(), "the certificate is for float32, the weights are float64"),
    ],
)
def test_changed_weights_are_not_certified(change: Callable, reason: str, born: Born) -> None:
    sdf = copy.deepcopy(born())
    assert sdf.certificate["certified"]
    with torch.no_grad():
        change(sdf.network)
    assert sdf.certificate["certified"] is False
    assert reason in sdf.certificate["reason"]
    for promise in (
        lambda: sdf.mesh(16),
        lambda: sdf.trace([[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]),
        lambda: sdf.inside([[0.0, 0.0, 0.0]]),
        lambda: sdf.volume(8),
        lambda: checkpoint.save("never.safetensors", sdf),
    ):
        with pytest.raises(CertificateError, match="not certified"):
            promise()


def test_products_of_fewer_bits_are_not_certified(born: Born) -> None:
    sdf = born()
    torch.set_float32_matmul_precision("medium")
    try:
        assert "fewer bits" in sdf.certificate["reason"]
        assert sdf.astype("float64").certificate["certified"]  # which they do not touch
    finally:
        torch.set_float32_matmul_precision("highest")
    assert sdf.certificate["certified"]


def test_types_below_float32_are_refused(born: Born) -> None:
    for dtype in ("bfloat16", "float16", "int8"):
        with pytest.raises(ValueError, match=f"`dtype` must be float32 or float64; got '{dtype}'"):
            born().astype(dtype)
    with pytest.raises(CertificateError, match="no proof covers arithmetic in bfloat16"):
        unit_field(copy.deepcopy(born().network).bfloat16())


# ---------------------------------------------------------------------------------------------- meshes


@pytest.mark.parametrize("offset", [0.0, 2.0, -2.0])
def test_sparse_mesh_equals_dense_mesh(trained: SDF, offset: float) -> None:
    sparse, dense = (trained.mesh(resolution=64, offset=offset, dense=dense) for dense in (False, True))
    assert np.array_equal(sparse.vertices, dense.vertices)
    assert np.array_equal(sparse.faces, dense.faces)
    assert dense.metadata["evaluations"] == dense.metadata["dense_evaluations"]
    assert sparse.metadata["evaluations"] < 0.5 * sparse.metadata["dense_evaluations"]


def test_negative_control_too_small_a_bound_loses_surface(trained: SDF) -> None:
    """3 φ has slope 3: declared as 1, blocks that hold surface are skipped; declared as 3, none is."""
    region = trained.box.expanded(1.0)
    counts = {}
    for declared in (None, 3.0, 1.0):
        sampled = grid.sample(
            lambda x: 3.0 * trained(x), region, 48, lipschitz=declared, allowance=3 * trained.rounding
        )
        negative = sampled.bricks < 0.0
        counts[declared] = sum(int(np.diff(negative, axis=axis).sum()) for axis in (1, 2, 3))
    assert counts[3.0] == counts[None]
    assert counts[1.0] != counts[None]


def test_offset_moves_the_surface(trained: SDF) -> None:
    inner, middle, outer = (trained.mesh(resolution=48, offset=offset) for offset in (-2.0, 0.0, 2.0))
    assert inner.volume < middle.volume < outer.volume
    # φ underestimates distance, so the level set moves by the offset or more: 1.27 × on average (1.07 were
    # exact, edges grow round), 1.24 to 1.47 × where it bulges most, as preset `fast` learns it.
    assert 2.0 < (outer.volume - middle.volume) / middle.area < 2.0 * 1.4
    assert ((outer.extents - middle.extents) > 2 * 2.0 - 0.5).all()
    assert ((outer.extents - middle.extents) < 2 * 2.0 * 1.6).all()


def test_level_set_that_leaves_the_box_is_closed_by_the_cap(born: Born) -> None:
    sdf = born()
    assert (sdf(sdf.box.lower + sdf.box.size * np.array(list(product((0, 1), repeat=3)))) < 0.0).any()
    mesh = sdf.mesh(resolution=40)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0.0
    cell = sdf.box.longest / 39
    assert (np.abs(mesh.vertices) <= 1.15 + cell).all()
    share = mesh.volume / np.prod(sdf.box.size)
    assert share == pytest.approx(0.5, abs=0.1)  # the level is the median over the box


def test_shell_says_that_both_sheets_are_there(born: Born) -> None:
    shell = dataclasses.replace(born(), support="shell")
    assert shell.mesh(resolution=24).metadata["sheet"] == "both"
    assert born().mesh(resolution=24).metadata["sheet"] == "outer"


def test_absurd_offset_is_an_empty_level_set(trained: SDF) -> None:
    with pytest.raises(EmptyLevelSetError, match=r"no surface at level -1000: φ on the .* spans \["):
        trained.mesh(resolution=32, offset=-1000.0)


@pytest.mark.parametrize("offset", [np.nan, np.inf])
def test_offset_that_is_no_number(trained: SDF, offset: float) -> None:
    with pytest.raises(ValueError):
        trained.mesh(resolution=16, offset=offset)


@pytest.mark.parametrize("resolution", [-3, 0, 1])
def test_too_few_nodes(trained: SDF, resolution: int) -> None:
    with pytest.raises(
        ValueError, match=f"`resolution` must be an integer of at least 2 nodes; got {resolution}"
    ):
        trained.mesh(resolution=resolution)


def test_more_memory_than_there_is(trained: SDF, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "free_memory", lambda: 1000)
    with pytest.raises(ResolutionError):
        trained.mesh(resolution=64)


def test_progress_of_a_mesh(trained: SDF) -> None:
    seen: list[tuple[int, int]] = []
    mesh = trained.mesh(resolution=32, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (mesh.metadata["evaluations"],) * 2
    assert all(done <= total for done, total in seen)


# ---------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.zeros(3), np.zeros((2, 3, 1)), [[0.0, np.nan, 0.0]], [[np.inf, 0.0, 0.0]]]
)
def test_bad_points_are_refused(born: Born, points: object) -> None:
    sdf = born()
    for ask in (sdf, sdf.gradient):
        with pytest.raises(
            ValueError, match=r"`points` must be (\(n, 3\) and finite; got shape|finite; row 0 is)"
        ):
            ask(points)


def test_no_points_have_no_values(born: Born) -> None:
    assert born()(np.zeros((0, 3))).shape == (0,)
    assert born().gradient(np.zeros((0, 3))).shape == (0, 3)


def test_what_comes_out(born: Born) -> None:
    sdf, points = born(), np.zeros((7, 3))
    points.setflags(write=False)
    assert sdf(points).shape == (7,)
    assert sdf(points).dtype == np.float64
    assert sdf.gradient(points).shape == (7, 3)
    assert sdf(points.tolist()) == pytest.approx(sdf(points), abs=0.0)
    assert sdf.device.type == "cpu"


def test_a_field_is_told_in_a_line(trained: SDF) -> None:
    assert repr(trained).startswith("SDF(solid, box ")
    assert len(repr(trained)) < 120
