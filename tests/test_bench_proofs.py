"""The bench of proofs: it finds nothing wrong with what is right, and says so of what is not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import ArrayLike

from ocsdf3d import checkpoint
from ocsdf3d.analytic import box, sphere, torus
from ocsdf3d.bench import proof_checks, proofs
from ocsdf3d.bench.proof_checks import Reference, Subject, Timed
from ocsdf3d.certified import Certified
from ocsdf3d.field import SDF

SMALL = [
    *("--mesh", "48", "--pairs", "6000", "--points", "500", "--rays", "400", "--cells", "16"),
    *("--resolutions", "24", "40", "--dense-limit", "24", "--rounds", "1", "--device", "cpu"),
]


class Steep(Timed):
    """3φ, said to have the bound of φ: a false certificate."""

    def __call__(self, points: ArrayLike) -> np.ndarray:
        return 3.0 * super().__call__(points)

    def gradient(self, points: ArrayLike) -> np.ndarray:
        return 3.0 * super().gradient(points)


class Late(Timed):
    """A field whose traces claim to be free of the level set twice as far as they are, and never hit."""

    def trace(self, *arguments: object, **options: object) -> object:
        found = super().trace(*arguments, **options)
        distance = np.full_like(found.distance, np.inf)
        return found._replace(hit=np.zeros_like(found.hit), distance=distance, free=2.0 * found.distance)


@pytest.fixture
def asked(tmp_path: Path) -> argparse.Namespace:
    return proofs.parser().parse_args([*SMALL, "--out", str(tmp_path)])


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not measured: each process would load torch."""
    monkeypatch.setattr(proofs, "apart", lambda *_: (300.0, 310.0))


def saved(folder: Path, field: SDF) -> Path:
    return checkpoint.save(folder / "born.safetensors", field)


# The whole


def test_what_is_right_passes_everything_and_a_second_run_measures_nothing(
    born: Callable[..., SDF], tmp_path: Path, no_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*SMALL, "--exact", "sphere", "torus", "--fields", str(saved(tmp_path, born()))]
    command += ["--out", str(tmp_path / "results")]
    assert proofs.main(command) == 0
    first = capsys.readouterr()
    assert "In all 0 failures; 0 rows could not be measured." in first.out
    assert first.out.count("\n## ") == len(proofs.TABLES)

    def rows(name: str) -> list[dict[str, object]]:
        return json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))

    assert {row["field"] for row in rows("grid")} == {"sphere", "torus", "born"}
    for row in rows("grid"):
        measured = row["case"] == 24
        assert row["identical"] is (True if measured else None)
        assert (row["sampled"] == 1.0) is measured
        assert row["evaluations"] > 0
        parts = row["field_s"] + row["proof_s"] + row["triangles_s"]
        assert parts == pytest.approx(row["sparse_s"])
        assert min(row["field_s"], row["proof_s"], row["triangles_s"]) > 0.0
        assert row["peak_mb"] == 10.0
    assert "extrapolated |" in first.out
    assert all(row["violations"] == 0 for name in ("pairs", "distances") for row in rows(name))
    assert {row["case"] for row in rows("pairs")} == {"uniform", "near", "adversarial"}
    assert all(2000 <= row["pairs"] < 2000 + 2 * 33 for row in rows("pairs"))  # whole climbs
    sphere_slopes = [row["slope"] for row in rows("pairs") if row["field"] == "sphere"]
    assert max(sphere_slopes) == pytest.approx(1.0, abs=1e-6)  # along a radius, and the climb finds one
    assert all(row["tunnelled"] == 0 for row in rows("trace"))
    assert all(row["agree"] > 0.9 for row in rows("trace") if row["field"] != "born")
    assert all(row["landed"] > 0.99 and row["wrong"] == 0 for row in rows("project"))
    volumes = {row["field"]: row for row in rows("volume")}
    assert volumes["sphere"]["holds_exact"]
    assert volumes["sphere"]["holds_mesh"]
    assert volumes["born"]["exact"] is None
    assert all(row["holds"] for row in rows("clearance"))
    assert [row["contact"] for row in rows("clearance") if row["field"] == "sphere"] == [False, False, True]
    assert proofs.main(command) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "…" not in second.err


def test_trained_fields_are_kept_and_trained_once(
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "data" / "meshes").mkdir(parents=True)
    trimesh.creation.icosphere(3).export(tmp_path / "data" / "meshes" / "ball.off")
    monkeypatch.setattr(proofs, "TRAINED", ("ball.off",))
    monkeypatch.setattr(proofs, "POINTS", 400)
    command = [*SMALL, "--exact", "--train", "1", "--preset", tiny, "--data", str(tmp_path / "data")]
    command += ["--parts", "project", "--out", str(tmp_path / "results")]
    assert proofs.main(command) == 0
    first = capsys.readouterr()
    assert "ball.off: training" in first.err
    assert "| ball-tiny-0 | near | 500 | 1 |" in first.out
    assert proofs.main([*command, "--fresh"]) == 0
    assert "training" not in capsys.readouterr().err


def test_what_cannot_be_measured_is_said_and_counted(
    tmp_path: Path, no_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--exact", "plate", "--parts", "grid", "--resolutions", "6", "--train", "0"]
    assert proofs.main([*command, "--out", str(tmp_path)]) == 1  # 6 nodes straddle 4 % of a side, or do not
    said = capsys.readouterr()
    assert "left out: no surface" in said.err
    assert "1 rows could not be measured" in said.out


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proofs.main(["--exact", "cone", "--out", str(tmp_path)]) == 1
    assert "not an exact shape: cone; there are sphere" in capsys.readouterr().err
    (tmp_path / "no.safetensors").write_bytes(b"no field")
    assert proofs.main(["--fields", str(tmp_path / "no.safetensors"), "--out", str(tmp_path)]) == 1
    with pytest.raises(SystemExit):
        proofs.main(["--parts", "grid,nonsense"])
    assert "choose among grid,pairs,trace,project,volume" in capsys.readouterr().err


# Each part: what is wrong is found


@pytest.mark.parametrize("kind", proof_checks.PAIRS)
def test_pairs_refute_a_false_bound(asked: argparse.Namespace, kind: str) -> None:
    right = proof_checks.pair_row(Subject("ring", torus(0.375, 0.125)), kind, asked)
    wrong = proof_checks.pair_row(Subject("steep", Steep(torus(0.375, 0.125))), kind, asked)
    assert right["violations"] == 0
    assert 0.5 < right["ratio"] <= 1.0
    assert wrong["violations"] > 100
    assert wrong["slope"] == pytest.approx(3.0 * right["slope"], rel=0.2)
    assert wrong["slope"] <= 3.0 + 1e-9


def test_a_climb_finds_the_steepest_place_of_a_network(
    born: Callable[..., SDF], asked: argparse.Namespace
) -> None:
    field = born()
    drawn, climbed = (
        proof_checks.pair_row(Subject("born", field), kind, asked) for kind in ("uniform", "adversarial")
    )
    assert drawn["violations"] == climbed["violations"] == 0
    assert drawn["slope"] < climbed["slope"] <= field.lipschitz * 1.01  # rounding: less than a percent


def test_distances_refute_a_false_bound(asked: argparse.Namespace) -> None:
    right = proof_checks.distance_row(Subject("ball", sphere(0.5)), "box", asked)
    wrong = proof_checks.distance_row(Subject("steep", Steep(sphere(0.5))), "box", asked)
    assert (right["violations"], right["tightness"]) == (0, pytest.approx(1.0, abs=0.01))
    assert wrong["violations"] > 100


def test_rays_refute_false_claims(asked: argparse.Namespace) -> None:
    plate = box((1.0, 0.7, 0.1))
    for field in (Steep(plate), Late(plate)):
        surface = Reference(plate, asked.mesh)  # that of a false field has holes
        subject = Subject("wrong", field)
        subject._reference = asked.mesh, surface
        row = proof_checks.trace_row(subject, "outside", asked)
        assert row["late"] >= row["tunnelled"] > 10
    row = proof_checks.trace_row(Subject("plate", plate), "outside", asked)
    assert (row["tunnelled"], row["unresolved"], row["only_mesh"]) == (0, 0, 0)
    assert row["agree"] > 0.98


def test_projections_that_lie_are_counted(asked: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject("ball", sphere(0.5))
    right = proof_checks.project_row(subject, "near", asked)
    assert (right["landed"], right["flagged"], right["wrong"], right["near"]) == (1.0, 0.0, 0, 1.0)
    assert 2.0 <= right["values"] <= 4.0  # a start, a step, a check
    honest = Certified.project

    def lying(self: Certified, points: np.ndarray) -> object:
        found = honest(self, points)
        return found._replace(points=found.points * 1.01)

    monkeypatch.setattr(Certified, "project", lying)
    wrong = proof_checks.project_row(subject, "near", asked)
    assert (wrong["landed"], wrong["flagged"], wrong["wrong"]) == (0.0, 0.0, 500)


def test_intervals_that_miss_are_failures(asked: argparse.Namespace) -> None:
    tables = {table.name: table for table in proofs.TABLES}
    row = proof_checks.volume_row(Subject("ball", sphere(0.5), volume=0.6), "16", asked)
    assert tables["volume"].broken(row)
    assert not tables["volume"].broken(proof_checks.volume_row(Subject("ball", sphere(0.5)), "16", asked))
    steep = proof_checks.clearance_row(Subject("ball", _Movable(sphere(0.5)), gaps=True), "1.3", asked)
    assert tables["clearance"].broken(steep)
    assert steep["gap"] == pytest.approx(0.3)


class _Movable(Steep):
    def move(self, by: np.ndarray) -> Certified:
        return _Movable(self.field.move(by))  # type: ignore[attr-defined]


def test_the_grid_of_a_false_bound_is_another(asked: argparse.Namespace) -> None:
    right = proofs.grid_row(Subject("ring", torus(0.375, 0.125)), "24", asked)
    wrong = proofs.grid_row(Subject("steep", Steep(torus(0.375, 0.125))), "24", asked)
    assert right["identical"] is True
    assert wrong["identical"] is False
    assert right["peak_mb"] is None  # no file, so no process could load it


def test_same_means_all_three() -> None:
    one = trimesh.creation.icosphere(1)
    assert proofs.same(one, one.copy())
    moved = one.copy()
    moved.vertices[0] *= 1.0 + 1e-15
    assert not proofs.same(one, moved)
    turned = trimesh.Trimesh(one.vertices, np.roll(one.faces, 1, axis=1), process=False)
    assert not proofs.same(one, turned)


def test_extrapolation_asks_a_sixteenth() -> None:
    timed = Timed(sphere(0.5))
    total = timed.mesh(96).metadata["dense_evaluations"]
    before = timed.values
    _, share = proofs.extrapolated(timed, 96, total)
    assert timed.values - before == round(share * total)
    assert 1 / 20 < share <= 1 / 16


def test_faces_that_close_a_mesh_at_the_box_are_not_on_the_level(born: Callable[..., SDF]) -> None:
    field = born()
    surface = Reference(field, 48)
    assert 0 < len(surface.level) < len(surface.faces)
    assert len(Reference(sphere(0.5), 48).level) == len(sphere(0.5).mesh(48).faces)
    points = surface.on_level(500, np.random.default_rng(0))
    assert np.abs(field(points)).max() <= 2.0 * surface.cell  # L ≤ 1: a corner's cell, and the way to it


def test_rays_of_the_reference_meet_small_triangles() -> None:
    # The area of a triangle here is below 1e-7, where libigl's rays would pass it were it not for the unit.
    ball = sphere(0.01, center=(3.0, -2.0, 1.0))
    surface = Reference(ball, 48)
    origins, ways = proof_checks._rays(ball.box, "outside", 400, 0)
    toward = ((ball.center - origins) * ways).sum(axis=1)
    beside = np.linalg.norm(origins + toward[:, None] * ways - ball.center, axis=1)
    first = surface.first_hits(origins, ways)
    clear = np.abs(beside - 0.01) > surface.cell
    assert np.array_equal(np.isfinite(first)[clear], (beside < 0.01)[clear])
    half = np.sqrt(0.01**2 - beside[clear & (beside < 0.01)] ** 2)
    through = clear & (beside < 0.01)
    assert np.allclose(first[through], toward[through] - half, atol=surface.cell)
    after = surface.next_hits(origins[through], ways[through], first[through] + 1e-9)
    assert np.allclose(after, toward[through] + half, atol=surface.cell)


# Memory


def test_memory_is_that_of_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkpoint.save(tmp_path / "ball.safetensors", sphere(0.5))
    ballast = np.ones(2**27)  # 1 GB here is not the child's
    before, after = proofs.apart(file, 128, "cpu")
    assert ballast[-1] == 1.0
    assert 50.0 < before < 900.0
    assert before + 5.0 < after < before + 200.0  # bricks and triangles of 1.5 · 6 · 128² nodes: 50 MB
    monkeypatch.setattr(proofs, "MEMORY", "raise SystemExit('no room')")
    with pytest.raises(RuntimeError, match="the process that measures memory died: no room"):
        proofs.apart(file, 16, "cpu")
