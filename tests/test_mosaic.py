"""A scan in tiles: where they lie, what a tile sees, what is kept of them, and the one field they become."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from test_cli import one_object, run

from ocsdf3d import checkpoint, distribute, io, mosaic
from ocsdf3d.analytic import Field, capsule, sphere
from ocsdf3d.distribute import Job, Unfinished, fit_tiles
from ocsdf3d.distribute.tiling import carry_out_tile
from ocsdf3d.field import SDF
from ocsdf3d.geometry import Box
from ocsdf3d.join import Join
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.presets import PRESETS, Preset

TRUTH: Field = capsule((-1.2, 0.0, 0.0), (1.2, 0.2, 0.0), 0.9)


def small(steps: int = 80) -> Preset:
    fast = PRESETS["fast"]
    return dataclasses.replace(
        fast,
        network=NetworkConfig(inputs=3, width=32, depth=4),
        solid=dataclasses.replace(
            fast.solid, steps=steps, batch=256, refresh=60, rate=0.03, touch=1.0, touch_start=1.0, away=0.2
        ),
        pool=10_000,
        spheres=False,
    )


def scan_of(path: Path, count: int = 1200) -> Path:
    """Points of the capsule, written."""
    np.save(path, TRUTH.sample_surface(count, resolution=48, seed=1))
    return path


def options(**changes: Any) -> dict[str, Any]:
    return {"preset": small(), "device": "cpu", "support": "solid", "seed": 0, **changes}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Join, list[Any]]:
    """A scan of a capsule in three tiles, in `out`; and what was told on the way."""
    folder = tmp_path_factory.mktemp("tiles")
    told: list[Any] = []
    scan = scan_of(folder / "scan.npy")
    join = fit_tiles(scan, folder / "out", (3, 1), tell=lambda *row: told.append(row), **options())
    return folder, join, told


def proof_of(path: Path) -> Any:
    """The certificate in a file, with the hash of the weights; seconds differ."""
    field = checkpoint.load(path, device="cpu")
    assert isinstance(field, SDF)
    return field.proof


# --- the plan


def whole_of(fixture: tuple[Path, Join, list[Any]]) -> tuple[SDF, trimesh.Trimesh]:
    out = fixture[0] / "out"
    whole, mesh = checkpoint.load(out / "whole.safetensors", device="cpu"), io.read(out / "whole.ply")
    assert isinstance(whole, SDF)
    return whole, mesh


def test_tiles_cover_the_box_and_know_more_than_they_are_asked(done: tuple[Path, Join, list[Any]]) -> None:
    whole, mesh = whole_of(done)
    whole = dataclasses.replace(whole, settings={"points": 20_000})  # dense enough for more tiles
    plan = mosaic.planned(whole, mesh, (3, 2))
    assert [len(axis) for axis in plan.cuts] == [2, 1, 0]  # along the longest axis, and the next
    three = mosaic.planned(whole, mesh, (1, 3, 2))
    assert [len(axis) for axis in three.cuts] == [0, 2, 1]
    join = Join((whole,), plan.cuts, (plan.ramp,) * 3, (0,) * 6, 0.1, plan.box.lower, plan.box.upper)
    x = np.random.default_rng(0).uniform(plan.box.lower, plan.box.upper, (4000, 3))
    weights = join.weights(x)
    for number, region in enumerate(plan.regions.values()):
        inner = Box(
            np.where(region.lower > plan.box.lower, region.lower + 0.24 * plan.halo, region.lower),
            np.where(region.upper < plan.box.upper, region.upper - 0.24 * plan.halo, region.upper),
        )
        assert not (weights[:, number] > 0.0)[~inner.contains(x)].any()
    wide = mosaic.planned(whole, mesh, (3, 2), halo=0.4)
    assert wide.halo == pytest.approx(0.4 * mesh.extents[0] / 3)
    assert plan.halo >= 4.0 * plan.resolved


@pytest.mark.parametrize(
    ("numbers", "halo", "message"),
    [
        ((1, 1), None, "`tiles` must be two or three numbers from 1, one of them above"),
        ((3,), None, "`tiles` must be two or three numbers"),
        ((0, 3), None, "`tiles` must be two or three numbers"),
        ((3, 1), 1.5, "`halo` must be above 0 and at most 0.667"),
        ((3, 1), 0.0, "`halo` must be above 0 and at most 0.667"),
        ((90, 90), None, "Take fewer `tiles`"),
    ],
)
def test_what_makes_no_tiles_is_refused(
    done: tuple[Path, Join, list[Any]], numbers: tuple[int, ...], halo: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mosaic.planned(*whole_of(done), numbers, halo)


def test_points_of_a_region_thinned_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(30_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.save(tmp_path / "scan.npy", points)
    np.savetxt(tmp_path / "scan.xyz", points[:500])
    half = Box([-2.0, -2.0, 0.0], [2.0, 2.0, 2.0])
    found = mosaic.points_within(tmp_path / "scan.npy", half, 0)
    assert np.array_equal(found, points[points[:, 2] >= 0.0])
    assert len(mosaic.points_within(tmp_path / "scan.npy", Box([5, 5, 5], [6, 6, 6]), 0)) == 0
    assert len(mosaic.points_within(tmp_path / "scan.xyz", half, 0)) == (points[:500, 2] >= 0.0).sum()
    monkeypatch.setattr(mosaic, "KEPT", 3000)
    for large in (mosaic.LARGE, 5000):  # held until it is known to be few, or read on
        monkeypatch.setattr(mosaic, "LARGE", large)
        thin = mosaic.points_within(tmp_path / "scan.npy", half, 0)
        assert 1500 < len(thin) <= 3000
        assert (thin[:, 2] >= 0.0).all()
    trimesh.creation.box().export(tmp_path / "box.off")
    with pytest.raises(ValueError, match="clouds of points, not of meshes"):
        mosaic.points_within(tmp_path / "box.off", half, 0)


# --- the field


def test_one_field_one_mesh_and_what_it_promises(done: tuple[Path, Join, list[Any]]) -> None:
    _, join, told = done
    assert [row[:2] for row in told] == [(n, 4) for n in (1, 2, 3, 4)]
    assert join.shape == (3, 1, 1)
    assert join.which == (1, 2, 3)
    mesh = join.mesh(resolution=64)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    assert np.abs(TRUTH(np.asarray(mesh.vertices))).max() < 0.25  # 6 % of its length, by 32 neurons a layer
    assert join.certificate["certified"]
    rng = np.random.default_rng(0)
    x = rng.uniform(join.lower, join.upper, (20_000, 3))
    x[:, 0] = rng.choice(join.cuts[0], len(x)) + join.widths[0] * rng.uniform(-0.6, 0.6, len(x))
    y = x + rng.normal(size=x.shape) * 10.0 ** rng.uniform(-2, 0, (len(x), 1))
    allowed = join.lipschitz * np.linalg.norm(x - y, axis=1) + 2.0 * join.rounding_within(
        join.box.expanded(5.0)
    )
    assert (np.abs(join(x) - join(y)) <= allowed).all()


def test_the_tile_knows_inside_from_the_whole(done: tuple[Path, Join, list[Any]]) -> None:
    """The middle of the capsule is an open tube: no sides of its own."""
    _, join, _ = done
    middle = join.parts[2]
    assert middle(np.array([[0.0, 0.0, 0.0]]))[0] < 0.0 < middle(np.array([[0.0, 1.2, 0.0]]))[0]
    assert isinstance(middle, SDF)
    assert middle.support_reason == "the field of the whole tells the sides"


def test_a_tile_without_points_is_left_to_the_whole(done: tuple[Path, Join, list[Any]]) -> None:
    whole, mesh = whole_of(done)
    region = Box([5.0, 5.0, 5.0], [6.0, 6.0, 6.0])
    tile = mosaic.fit_tile(done[0] / "scan.npy", region, whole, mesh, 0.05)
    assert tile.field is whole
    plan = mosaic.planned(whole, mesh, (2, 1))
    again = checkpoint.load(done[0] / "out" / "whole.safetensors", device="cpu")
    assert isinstance(again, SDF)
    join = mosaic.joined(plan, whole, [tile, mosaic.Tile(again, 0, 0.0)])
    assert join.which == (0, 0)
    assert len(join.parts) == 1


def test_of_a_shell_tiles_are_shells(done: tuple[Path, Join, list[Any]]) -> None:
    whole, mesh = whole_of(done)
    skin = dataclasses.replace(whole, support="shell")
    region = tiles_of(done)[(0, 0, 0)]
    tile = mosaic.fit_tile(
        done[0] / "scan.npy", region, skin, mesh, 0.1, preset=small(20), device="cpu", smooth=False
    )
    assert tile.field.support == "shell"
    assert np.allclose(tile.field.box.lower, region.lower)
    assert tile.field.settings["outliers"] < 0.05 * tile.points


def tiles_of(fixture: tuple[Path, Join, list[Any]]) -> dict[tuple[int, ...], Box]:
    return mosaic.planned(*whole_of(fixture), (3, 1)).regions


# --- what is kept


def test_only_what_is_missing_is_done_again(done: tuple[Path, Join, list[Any]]) -> None:
    folder, join, _ = done
    lost = folder / "out" / "tiles" / "1-0-0.safetensors"
    before = proof_of(lost)
    lost.unlink()
    told: list[Any] = []
    again = fit_tiles(
        folder / "scan.npy", folder / "out", (3, 1), tell=lambda *row: told.append(row), **options()
    )
    assert sum(row is None for *_, row in told) == 3
    assert [row["source"] for *_, row in told if row] == [str(lost.with_suffix(".json"))]
    assert proof_of(lost) == before
    x = np.random.default_rng(0).uniform(join.lower, join.upper, (500, 3))
    assert again(x).tobytes() == join(x).tobytes()


def test_stopped_failed_and_gone_on(tmp_path: Path) -> None:
    scan = scan_of(tmp_path / "scan.npy", 800)
    quick = options(preset=small(10))
    asked = iter([False] * 5)  # of the whole twice, of the tiles' lines twice, and of the first tile
    with pytest.raises(Unfinished, match="stopped, 1 are left; the same call goes on") as error:
        fit_tiles(scan, tmp_path / "out", (2, 1), stop=lambda: next(asked, True), **quick)
    assert error.value.summary.left > 0
    with pytest.raises(Unfinished, match="1 of 1 failed, the first: ValueError: `preset` must be one of"):
        fit_tiles(scan, tmp_path / "other", (2, 1), **options(preset="none"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        fit_tiles(tmp_path / "none.npy", tmp_path / "out", (2, 1))


def test_a_whole_that_was_changed_is_seen(done: tuple[Path, Join, list[Any]], tmp_path: Path) -> None:
    request = json.loads((done[0] / "out" / "tiles" / "0-0-0.json").read_text())
    request["field_sha256"] = "0" * 64
    (tmp_path / "a.json").write_text(json.dumps(request))
    with pytest.raises(RuntimeError, match="not what was planned with"):
        carry_out_tile(Job(str(tmp_path / "a.json"), str(tmp_path / "a.safetensors"), {}))


def dying(job: Job) -> dict[str, Any]:
    """`carry_out_tile` on a worker that is killed the first time it begins a tile."""
    mark = Path(job.mesh).with_suffix(".begun")
    if "1-0-0" in mark.name and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return carry_out_tile(job)


@pytest.mark.slow  # two processes that load torch; `test_distribute` kills workers of smaller jobs
def test_a_lost_workers_tile_is_redone(
    done: tuple[Path, Join, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    folder, _, _ = done
    lost = folder / "out" / "tiles" / "1-0-0.safetensors"
    before = proof_of(lost)
    lost.unlink()
    monkeypatch.setattr(distribute.tiling, "carry_out_tile", dying)
    rows: list[Any] = []
    fit_tiles(
        folder / "scan.npy",
        folder / "out",
        (3, 1),
        workers=2,
        tell=lambda *row: rows.append(row[-1]),
        **options(),
    )
    begun = {Path(row["source"]).stem: row["begun"] for row in rows if row is not None}
    assert begun["1-0-0"] == 2
    assert proof_of(lost) == before


# --- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scan of few points; `fast` is quick."""
    monkeypatch.setitem(PRESETS, "fast", small(40))
    scan_of(tmp_path / "scan.npy", 600)
    return tmp_path


QUICK = ["--preset", "fast", "--resolution", "32", "--support", "solid", "--device", "cpu", "--workers", "1"]


def test_the_command_writes_mesh_field_and_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tiles", folder / "scan.npy", "-o", folder / "out", "--tiles", "2", "1", *QUICK]
    assert run(*command, "--halo", "0.5", "--format", "obj", "--json") == 0
    said = one_object(capsys.readouterr().out)
    assert (said["tiles"], said["kept"], said["support"]) == ([2, 1, 1], 0, "solid")
    assert io.read(folder / "out" / "mesh.obj").is_watertight
    join = checkpoint.load(folder / "out" / "field.safetensors", device="cpu")
    assert isinstance(join, Join)
    assert join.lipschitz == said["lipschitz"]
    side = io.read(folder / "out" / "whole.ply").extents[0] / 2
    assert join.widths[0] == pytest.approx(1.5 * 0.5 * side)
    assert len((folder / "out" / "manifest.jsonl").read_text().splitlines()) == 3
    assert run(*command, "--halo", "0.5") == 0
    out = capsys.readouterr().out
    assert "2 x 1 x 1 tiles, 3 whole from before; slope at most" in out
    assert "watertight" in out


def test_options_reach_the_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def stands_in(scan: Path, out: Path, numbers: list[int], **given: Any) -> Join:
        seen.update(given, tiles=numbers)
        ball = sphere(1.0)
        return Join((ball,), ((), (), ()), (1.0,) * 3, (0,), 0.1, ball.box.lower, ball.box.upper)

    monkeypatch.setattr(distribute, "fit_tiles", stands_in)
    flags = ["--support", "shell", "--preset", "best", "--margin", "0.02", "--lam", "7", "--no-smooth"]
    where = ["--seed", "5", "--scheduler", "tcp://here:1", "--device", "cpu", "--resolution", "16"]
    assert (
        run("tiles", folder / "scan.npy", "-o", folder / "out", "--tiles", "2", "3", "1", *flags, *where) == 0
    )
    wanted = {"support": "shell", "preset": "best", "margin": 0.02, "lam": 7.0, "smooth": False, "seed": 5}
    assert {name: seen[name] for name in wanted} == wanted
    assert (seen["tiles"], seen["scheduler"], seen["device"]) == ([2, 3, 1], "tcp://here:1", "cpu")
    assert len(io.read(folder / "out" / "mesh.ply").vertices) < 1500  # a ball on 16 nodes


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--tiles", "1", "1"], 1, "`tiles` must be two or three numbers from 1, one of them above"),
        (["--tiles", "2", "1", "--halo", "3"], 1, "`halo` must be above 0 and at most 0.667"),
        (["--tiles", "0", "1"], 2, "--tiles"),
        (["--tiles", "2", "1", "--halo", "-1"], 2, "--halo"),
        ([], 2, "--tiles"),
    ],
)
def test_misuse_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: list[str], code: int, message: str
) -> None:
    assert run("tiles", folder / "scan.npy", "-o", folder / "out", *QUICK, *changes) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    if code == 1:
        assert len(said) == 1


def test_meshes_are_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    mesh = tmp_path / "box.off"
    trimesh.creation.box().export(mesh)
    with pytest.raises(ValueError, match="made of clouds of points, not of meshes"):
        fit_tiles(mesh, tmp_path / "out", (2, 1))
    assert not (tmp_path / "out").exists()
