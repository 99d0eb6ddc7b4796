"""From a shape to a field and a mesh: options that act, hard clouds, results that do not depend on units."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from ocsdf3d import checkpoint, cleaning, pipeline
from ocsdf3d.analytic import Cuboid
from ocsdf3d.field import SDF
from ocsdf3d.geometry import PointCloud
from ocsdf3d.level import QUANTILES
from ocsdf3d.pipeline import MESH_POINTS, fit, reconstruct
from ocsdf3d.presets import PRESETS
from ocsdf3d.sampling import surface_points
from ocsdf3d.sides import Sides
from ocsdf3d.skin import LEVEL


def ball(n: int = 500, seed: int = 0, radius: float = 1.0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def overlap(sdf: SDF, center: np.ndarray | float = 0.0, radius: float = 1.0) -> float:
    """IoU with a ball, over 20,000 points around it."""
    x = np.random.default_rng(7).uniform(-1.4, 1.4, (20_000, 3))
    ours, true = sdf(radius * x + center) < 0.0, np.linalg.norm(x, axis=1) < 1.0
    return float((ours & true).sum() / (ours | true).sum())


def assert_closed(mesh: trimesh.Trimesh) -> None:
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0.0


# Of `tiny` on 500 points of a sphere, measured over seeds and placements: IoU 0.954–0.961.
GOOD = 0.9


# --------------------------------------------------------------------------------------------- options


def test_presets() -> None:
    assert set(PRESETS) == {"fast", "default", "best", "paper"}
    paper = PRESETS["paper"]
    assert (paper.network.depth, paper.network.width, paper.network.activation) == (4, 512, "full_sort")
    assert paper.shell.lam == 100.0
    assert paper.shell.optimizer == "rmsprop"
    default = PRESETS["default"]
    assert (default.network.depth, default.network.width, default.network.activation) == (8, 128, "half_abs")
    for preset in PRESETS.values():
        assert preset.network.inputs == 3
    assert PRESETS["fast"].solid.steps < default.solid.steps < PRESETS["best"].solid.steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "quick"}, "`preset` must be one of fast, default, best, paper; got 'quick'"),
        ({"support": "volume"}, "`support` must be auto, solid or shell; got 'volume'"),
        ({"points": 15}, "`points` must be at least 16; got 15"),
        ({"margin": 0.0}, "`margin` must be positive and finite; got 0.0"),
        ({"margin": -0.1}, "`margin` must be positive"),
        ({"margin": float("nan")}, "`margin` must be positive"),
        ({"lam": 0.0}, "`lam` must be positive and finite; got 0.0"),
        ({"lam": float("inf")}, "`lam` must be positive and finite"),
        ({"level": float("nan")}, "`level` must be finite; got nan"),
        ({"seed": -1}, "`seed` must be from 0"),
        ({"seed": 2**64}, "`seed` must be from 0"),
        ({"device": "tpu"}, "`device` must be auto, cpu or cuda; got 'tpu'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(
    options: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object) -> None:
        raise AssertionError("the source was read")

    monkeypatch.setattr(pipeline.io, "read", read)
    with pytest.raises(ValueError, match=message):
        fit(ball(), **options)


def test_cuda_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no CUDA device here"):
        fit(ball(), device="cuda")


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (np.ones((50, 3)), "equal"),
        (ball(15), "distinct"),
        (np.linspace(0, 1, 50)[:, None] * [1.0, 2.0, 3.0], "collinear"),
        (ball(50) * [1.0, 1.0, 0.0], "coplanar"),
        (ball(50)[:, :2], "oneclass"),
        (np.where(np.arange(150).reshape(50, 3) == 7, np.nan, 1.0), "finite"),
    ],
)
def test_points_that_bound_nothing(points: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        fit(points)


def test_winding_field_without_an_inside(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, share in ((0.0, "0%"), (1.0, "100%")):
        everywhere = Sides("solid", "", lambda x, value=value: np.full(len(x), value))
        monkeypatch.setattr(cleaning, "find_sides", lambda *_, found=everywhere: found)
        with pytest.raises(ValueError, match=f"{share} of the domain are called inside"):
            fit(ball(), preset=tiny)


def test_points_of_a_mesh_are_samples(tiny: str) -> None:
    mesh = trimesh.creation.icosphere(3)
    assert fit(mesh, preset=tiny, points=300).settings["points"] == 300
    assert fit(mesh, preset=tiny).settings["points"] == MESH_POINTS


def test_samples_of_a_mesh_are_no_outliers(tiny: str) -> None:
    """A part so small that it gets a few samples alone: a cloud of the same points has outliers there."""
    ball, part = trimesh.creation.icosphere(3), trimesh.creation.icosphere(1, radius=0.05)
    mesh = trimesh.util.concatenate([ball, part.apply_translation([1.5, 0.0, 0.0])])
    sdf = fit(mesh, preset=tiny, points=1000)
    assert sdf.settings["outliers"] == 0
    cloud, _ = surface_points(mesh, 1000, np.random.default_rng(0))
    assert fit(cloud, preset=tiny).settings["outliers"] > 0


def test_points_of_a_cloud_thin_it(tiny: str) -> None:
    cloud = PointCloud(ball(500))
    assert fit(cloud, preset=tiny).settings["points"] == 500
    assert fit(cloud, preset=tiny, points=200).settings["points"] == 200
    assert fit(cloud, preset=tiny, points=10_000).settings["points"] == 500


def test_margin_lam_and_level_act(tiny: str) -> None:
    plain = fit(ball(), preset=tiny)
    margin, lam = fit(ball(), preset=tiny, margin=0.05), fit(ball(), preset=tiny, lam=3.0)
    level = fit(ball(), preset=tiny, level=plain.level + 0.1)
    assert margin.settings["train"]["margin"] == 0.05
    assert margin.settings["train"]["margin_start"] == pytest.approx(0.2)  # 0.02 / 0.005 of the preset
    assert lam.settings["train"]["lam"] == 3.0
    assert lam.settings["train"]["lam_start"] == pytest.approx(0.3)  # 100 / 1000
    x = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    for other in (margin, lam):
        assert np.abs(other(x) - plain(x)).max() > 1e-3
    # The level moves φ of the network by the same amount everywhere; the frame's scale makes it world units.
    plain, level = (dataclasses.replace(field, spheres=None) for field in (plain, level))
    assert level(x) - plain(x) == pytest.approx(np.full(500, 0.1 * plain.frame.scale), abs=1e-12)


def test_noise_is_smoothed_unless_it_is_to_stay(tiny: str) -> None:
    rng = np.random.default_rng(5)
    noisy = ball(800) + 0.04 * rng.normal(size=(800, 3))
    smooth, kept = fit(noisy, preset=tiny), fit(noisy, preset=tiny, smooth=False)
    assert smooth.settings["noise"] > 0.1
    assert kept.settings["noise"] == 0.0
    x = rng.uniform(-1, 1, (500, 3))
    assert np.abs(smooth(x) - kept(x)).max() > 1e-3
    assert fit(ball(800), preset=tiny).settings["noise"] == 0.0
    # Samples of a mesh are taken at their word: its roughness is its shape.
    rough = trimesh.creation.icosphere(4)
    rough.vertices *= 1.0 + 0.02 * rng.normal(size=(len(rough.vertices), 1))
    assert fit(rough, preset=tiny).settings["noise"] == 0.0


def test_a_preset_of_ones_own(tiny: str) -> None:
    own = PRESETS[tiny]
    sdf = fit(ball(), preset=dataclasses.replace(own, solid=dataclasses.replace(own.solid, steps=40)))
    assert sdf.history["steps"] == 40
    assert sdf.settings["preset"] == "own"
    assert fit(ball(), preset=tiny).settings["preset"] == tiny


def test_dense_clean_clouds_train_as_the_preset_says(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 600  # 4,096 in earnest, whose sides take their time
    monkeypatch.setattr(pipeline, "DENSE_POINTS", most)
    small = PRESETS[tiny]
    brief, longer = (dataclasses.replace(small.solid, steps=steps, batch=64) for steps in (3, 5))
    own = dataclasses.replace(small, solid=brief, dense=longer)
    mesh, dense = trimesh.creation.icosphere(3), most + 100  # strays are left out
    assert fit(mesh, preset=own, points=most).history["steps"] == 3
    found = fit(mesh, preset=own, points=dense, lam=7.0)
    assert found.history["steps"] == 5
    assert found.settings["train"]["lam"] == 7.0
    assert fit(mesh, preset=dataclasses.replace(own, dense=None), points=dense).history["steps"] == 3
    assert fit(mesh, preset=own, points=dense, support="shell").history["steps"] == small.shell.steps
    normals = ball(dense)
    rough = normals * (1.0 + 0.04 * np.random.default_rng(0).normal(size=(dense, 1)))
    noisy = fit(PointCloud(rough, normals), preset=own, support="solid")
    assert noisy.settings["noise"] > 0.0
    assert noisy.history["steps"] == 3


def test_the_surface_passes_through_the_points(tiny: str, cuboid_points: np.ndarray) -> None:
    """Held to 0 on them, f is nearer to it there than the labels alone bring it."""
    small = PRESETS[tiny]
    own = dataclasses.replace(
        small,
        network=dataclasses.replace(small.network, width=64, depth=6),
        solid=dataclasses.replace(small.solid, steps=400),
    )
    untold = dataclasses.replace(own.solid, touch=0.0, touch_start=0.0, away=0.0)
    free = dataclasses.replace(own, solid=untold)
    held, loose = (np.abs(fit(cuboid_points, preset=one)(cuboid_points)).mean() for one in (own, free))
    assert held < 0.75 * loose


def test_samples_on_wires_are_light() -> None:
    """Of rods as thin as the spacing; heavy samples would fill what is between them."""
    fast = PRESETS["fast"]
    short = {"steps": 20, "batch": 128, "refresh": 0}
    assert fast.wires is not None
    own = dataclasses.replace(
        fast,
        network=dataclasses.replace(fast.network, width=32, depth=4),
        solid=dataclasses.replace(fast.solid, **short),
        wires=dataclasses.replace(fast.wires, **short),
        pool=5_000,
        spheres=False,
    )
    rods = [
        trimesh.creation.cylinder(0.02, segment=[[x, y, -1.0], [x, y, 1.0]])
        for x in (-0.6, 0.0, 0.6)
        for y in (-0.6, 0.0, 0.6)
    ]
    wires = trimesh.util.concatenate(rods)

    def weight(shape: trimesh.Trimesh | np.ndarray) -> object:
        return fit(shape, preset=own, support="solid").settings["train"]["touch"]

    assert weight(surface_points(wires, 600, np.random.default_rng(0))[0]) == own.wires.touch
    assert weight(ball()) == own.solid.touch > own.wires.touch


def test_level_by_default_puts_half_the_points_inside(tiny: str) -> None:
    sdf = fit(ball(), preset=tiny, support="solid")
    assert (sdf(ball()) > 0.0).mean() == pytest.approx(QUANTILES["solid"], abs=2 / 500)
    assert sdf.support == "solid"
    assert sdf.support_reason.startswith("asked for")


@pytest.mark.slow
def test_a_shell_is_a_thin_skin_around_the_points() -> None:
    """A bent sheet: its mesh is closed, near it everywhere, and there on both sides."""
    u = np.random.default_rng(0).uniform(-1.0, 1.0, (1000, 2))
    sheet = np.column_stack([u, 0.3 * np.sin(2.0 * u[:, 0])])
    sdf = fit(sheet, preset="fast", support="auto", seed=0)  # a smaller one leaves lumps off the sheet
    assert sdf.support == "shell"
    assert sdf.level == LEVEL
    mesh = sdf.mesh(resolution=200)  # coarser cells than half of the skin leave holes
    assert mesh.is_watertight
    apart, _ = cKDTree(surface_points(mesh, 20_000, np.random.default_rng(0))[0]).query(sheet)
    assert np.quantile(apart, 0.99) < 0.03  # spacing 0.08; measured 0.022, and 0.050 of 120 nodes
    x = mesh.vertices[(np.abs(mesh.vertices[:, :2]) < 0.9).all(axis=1)]
    height = x[:, 2] - 0.3 * np.sin(2.0 * x[:, 0])
    assert np.quantile(np.abs(height), 0.99) < 0.04
    assert min((height > 0.0).mean(), (height < 0.0).mean()) > 0.4


def test_paper_learns_the_surface(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = PRESETS[tiny]
    walking = dataclasses.replace(small.shell, touch=0.0, touch_start=0.0, away=0.0)
    monkeypatch.setitem(PRESETS, "paper", dataclasses.replace(small, shell=walking, skin=False))
    mesh = trimesh.creation.icosphere(2)
    sdf = fit(mesh, preset="paper")
    assert sdf.support == "shell"
    assert sdf.support_reason == "the paper's setting learns the surface itself"
    assert fit(mesh, preset="paper", support="solid").support == "solid"


def test_the_papers_learner_of_a_surface_knows_no_distances(tiny: str) -> None:
    own = dataclasses.replace(PRESETS[tiny], skin=False)
    assert own.shell.touch > 0.0
    with pytest.raises(ValueError, match="`touch` and `away` of a shell must be 0"):
        fit(ball(), preset=own, support="shell")


@pytest.mark.slow
def test_real_paper_preset_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own network, frame, seeds and optimiser, stopped at the first report."""
    sdf = fit(ball(), preset="paper", stop=lambda: True)
    assert sdf.support == "shell"
    assert sdf.history["steps"] == PRESETS["paper"].shell.report
    assert np.sqrt((sdf.frame.to_unit(ball()) ** 2).mean()) == pytest.approx(1.0)
    assert sdf.lipschitz <= 1.0


# ------------------------------------------------------------------------------------ seeds and stops


def test_same_seed_same_bytes(tiny: str, tmp_path: Path) -> None:
    fields = [fit(ball(), preset=tiny, seed=seed) for seed in (0, 0, 1)]
    x = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    assert np.array_equal(fields[0](x), fields[1](x))
    assert not np.array_equal(fields[0](x), fields[2](x))
    meshes = [field.mesh(resolution=32) for field in fields]
    assert np.array_equal(meshes[0].vertices, meshes[1].vertices)
    tensors = [field.network.state_dict() for field in fields[:2]]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    # The files too, but for the seconds that each training took.
    for field in fields:
        field.history["seconds"] = {}
    files = [
        checkpoint.save(tmp_path / f"{i}.safetensors", field).read_bytes() for i, field in enumerate(fields)
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_nothing_touches_the_global_generators(tiny: str) -> None:
    np.random.seed(5)  # noqa: NPY002 (the global generator is the subject)
    torch.manual_seed(5)
    expected = np.random.rand(), torch.rand(()).item()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    fit(ball(200), preset=tiny)
    assert (np.random.rand(), torch.rand(()).item()) == expected  # noqa: NPY002


@pytest.mark.parametrize("support", ["solid", "shell"])
def test_stop_ends_early_with_a_certified_field(tiny: str, support: str) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 2

    sdf = fit(ball(), preset=tiny, support=support, stop=stop)
    assert sdf.history["interrupted"] is True
    assert sdf.history["steps"] == 50  # two reports of 25
    assert 0.99 < sdf.lipschitz <= 1.0
    assert_closed(sdf.mesh(resolution=32))


def test_stop_after_the_last_step_interrupts_nothing(tiny: str) -> None:
    steps = PRESETS[tiny].solid.steps
    seen: list[int] = []
    sdf = fit(
        ball(),
        preset=tiny,
        progress=lambda stage, done, total, figures: seen.append(done),
        stop=lambda: seen[-1] == steps,
    )
    assert sdf.history["steps"] == steps
    assert sdf.history["interrupted"] is False


def test_progress_and_history(tiny: str) -> None:
    seen: list[tuple[str, int, int, dict[str, float]]] = []
    sdf = fit(ball(), preset=tiny, progress=lambda *event: seen.append(event))
    assert [event[:3] for event in seen[:2]] == [("sides", 0, 1), ("sides", 1, 1)]
    trained = [event for event in seen if event[0] == "train"]
    assert [event[1] for event in trained] == [25, 50, 75, 100, 125, 150]
    assert {"loss", "recall", "false_positives", "gradient_norm"} <= set(trained[-1][3])
    assert trained[-1][3]["recall"] > 0.8
    assert trained[-1][3]["false_positives"] < 0.2
    assert set(sdf.history["seconds"]) == {"load", "sides", "train"}
    assert len(sdf.history["curves"]["loss"]) == 6


def test_inputs_are_not_written_into(tiny: str) -> None:
    points = ball()
    points.setflags(write=False)
    fit(points, preset=tiny)
    mesh = trimesh.creation.icosphere(2)
    vertices, faces = mesh.vertices.copy(), mesh.faces.copy()
    fit(mesh, preset=tiny, points=200)
    assert np.array_equal(mesh.vertices, vertices)
    assert np.array_equal(mesh.faces, faces)


# ------------------------------------------------------------------------------------------ hard clouds


def test_duplicates_change_nothing(tiny: str) -> None:
    once, thrice = fit(ball(), preset=tiny), fit(np.repeat(ball(), 3, axis=0), preset=tiny)
    assert all(map(torch.equal, once.network.state_dict().values(), thrice.network.state_dict().values()))
    assert overlap(thrice) > GOOD


def with_outliers() -> np.ndarray:
    return np.concatenate([ball(), np.random.default_rng(1).uniform(-1.5, 1.5, (25, 3))])


def uneven() -> np.ndarray:
    """One half of the sphere a hundred times denser than the other."""
    dense, sparse = ball(1500, 3), ball(15, 4)
    return np.concatenate([dense * np.sign(dense[:, 2:]), -sparse * np.sign(sparse[:, 2:])])


def graded() -> np.ndarray:
    """A sphere sampled ever more densely along x, 100:1 from end to end."""
    points = ball(40_000, 5)
    odds = np.exp(np.log(100.0) * (points[:, 0] + 1.0) / 2.0)
    return points[np.random.default_rng(0).choice(len(points), 1500, replace=False, p=odds / odds.sum())]


@pytest.mark.parametrize(
    ("points", "support", "enough"),
    [
        (with_outliers(), "auto", GOOD),
        (graded(), "auto", 0.85),  # the sparse end has a spacing of half the radius
        (uneven(), "solid", 0.5),  # 15 points on half of a sphere: to `auto` it is a one-sided scan
    ],
    ids=["outliers", "graded", "uneven"],
)
def test_hard_clouds_stay_solid(points: np.ndarray, support: str, enough: float, tiny: str) -> None:
    # 15 points of a half decide little: with them seeds have from 0.46 to 0.73, mean of six 0.59
    seeds = range(3 if enough < 0.6 else 1)
    fields = [fit(points, preset=tiny, support=support, seed=seed) for seed in seeds]
    assert all(sdf.support == "solid" and sdf.lipschitz <= 1.0 for sdf in fields)
    assert np.mean([overlap(sdf) for sdf in fields]) > enough
    assert_closed(fields[0].mesh(resolution=40))


def test_outliers_are_counted_and_left_out(tiny: str) -> None:
    sdf = fit(with_outliers(), preset=tiny)
    assert (
        10 <= sdf.settings["outliers"] <= 40
    )  # of 25; those close to the sphere stay, their neighbours may go
    assert sdf.box.longest < 2.6  # ±1 and the domain's rim of 0.15 each side, not the outliers' ±1.5


def test_two_far_apart_objects(tiny: str) -> None:
    centers = np.array([[-7.0, 0.0, 0.0], [7.0, 0.0, 0.0]])
    sdf = fit(np.concatenate([ball(400, 1, 3.0) + centers[0], ball(400, 2, 3.0) + centers[1]]), preset=tiny)
    assert sdf.support == "solid"
    assert (sdf(centers) < 0.0).all()
    assert sdf(np.zeros((1, 3)))[0] > 0.0
    mesh = sdf.mesh(resolution=48)
    assert_closed(mesh)
    assert mesh.body_count == 2


def test_parts_too_far_apart_for_one_network_are_told(tiny: str) -> None:
    one = ball(300, 1)
    with pytest.warns(UserWarning, match="98% of the longest side lie between parts of the points"):
        fit(np.concatenate([one, one + np.array([200.0, 0.0, 0.0])]), preset=tiny)


def test_float32_noise_far_from_the_origin(tiny: str) -> None:
    """Coordinates of 5e6 in float32 move in steps of 0.5: 0.25 % of this sphere's diameter."""
    center = np.array([5e6, 4.5e6, 5e6])
    points = (100.0 * ball(600) + center).astype(np.float32).astype(np.float64)
    sdf = fit(points, preset=tiny)
    assert sdf.support == "solid"
    assert overlap(sdf, center, 100.0) > GOOD
    assert_closed(sdf.mesh(resolution=40))


def test_georeferenced(tiny: str) -> None:
    center = np.array([512_345.6, 5_412_345.6, 432.1])
    sdf = fit(ball() + center, preset=tiny)
    assert overlap(sdf, center) > GOOD
    mesh = sdf.mesh(resolution=40)
    assert_closed(mesh)
    # Measured 0.10 to 0.14 for this preset, here and at the origin; in float32 a coordinate is off by 0.25.
    assert np.abs(np.linalg.norm(mesh.vertices - center, axis=1) - 1.0).max() < 0.2


@pytest.mark.slow
def test_two_hundred_thousand_points(tiny: str) -> None:
    begun = time.perf_counter()
    points = ball(200_000) + 1e-3 * np.random.default_rng(1).normal(size=(200_000, 3))  # a scanner's noise
    sdf = fit(points, preset=tiny)
    assert sdf.support == "solid"
    # Measured 0.896 with sides that are right to 0.995: samples near points this dense are so close to
    # the surface that 150 steps do not learn both, hence less than `GOOD`.
    assert overlap(sdf) > 0.85
    assert (
        time.perf_counter() - begun < 120.0
    )  # 15 s measured on one busy core; a square of n would take hours


# ------------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_size_changes_nothing(scale: float, tiny: str) -> None:
    """About 1e-6 and 1e6; a power of two changes no digit, so the mesh is the same bit for bit."""
    here, there = (
        fit(ball(), preset=tiny).mesh(resolution=32),
        fit(scale * ball(), preset=tiny).mesh(resolution=32),
    )
    assert np.array_equal(there.vertices, scale * here.vertices)
    assert np.array_equal(there.faces, here.faces)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_sizes_with_rounding(scale: float, tiny: str) -> None:
    sdf = fit(scale * ball(), preset=tiny)
    assert overlap(sdf, radius=scale) > GOOD
    assert_closed(sdf.mesh(resolution=32))


def test_scaled_and_moved_within_seed_spread(tiny: str) -> None:
    """Rounding of the last digit grows in training to what another seed does, and to no more."""
    shift = 37.0 * np.array([5.0, -2.0, 9.0])
    moved = fit(37.0 * ball() + shift, preset=tiny).mesh(resolution=40)
    moved.vertices = (moved.vertices - shift) / 37.0
    meshes = [fit(ball(), preset=tiny, seed=seed).mesh(resolution=40) for seed in (0, 1)]
    samples = [surface_points(mesh, 10_000, np.random.default_rng(0))[0] for mesh in (*meshes, moved)]

    def apart(i: int, j: int) -> float:
        return 0.5 * sum(cKDTree(samples[a]).query(samples[b])[0].mean() for a, b in ((i, j), (j, i)))

    assert apart(0, 2) < 2.0 * apart(0, 1)  # measured: 0.0228 against 0.0234
    assert apart(0, 2) < 0.05  # of a sphere of radius 1


# ------------------------------------------------------------------------------------------ the whole way


def test_fast_preset_on_bare_points(trained: SDF, cuboid: Cuboid) -> None:
    assert trained.support == "solid"
    assert "without normals" in trained.support_reason
    assert trained.settings["preset"] == "fast"
    assert not trained.history["interrupted"]
    assert trained.history["steps"] == PRESETS["fast"].solid.steps
    x = np.random.default_rng(0).uniform(trained.box.lower, trained.box.upper, (20_000, 3))
    ours, true = trained(x) < 0.0, cuboid(x) < 0.0
    assert (ours & true).sum() / (ours | true).sum() > 0.93
    vertices = trained.mesh(resolution=64).vertices
    assert np.abs(cuboid(vertices)).mean() < 0.01 * 74.0  # 1 % of the longest side


def test_reconstruct(tiny: str) -> None:
    mesh = reconstruct(trimesh.creation.icosphere(3), resolution=40, preset=tiny, points=500)
    assert isinstance(mesh, trimesh.Trimesh)
    assert_closed(mesh)
    assert mesh.euler_number == 2
    assert (np.einsum("fd,fd->f", mesh.face_normals, mesh.triangles_center) > 0.0).mean() > 0.99
    assert mesh.metadata["resolution"] == 40


def test_reconstruct_reads_files(tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "ball.xyz"
    np.savetxt(path, ball())
    assert_closed(reconstruct(path, resolution=32, preset=tiny))
    with pytest.raises(OSError):
        reconstruct(tmp_path / "absent.off")
    with pytest.raises(TypeError, match="unknown"):
        reconstruct(path, unknown=3)
