"""The benches: what counts as a failure, that they go on where they stopped, that peers give meshes."""

from __future__ import annotations

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, peers, solids, survey, threads


@pytest.fixture
def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=0.5)  # longest side 1 up to 1e-3


@pytest.fixture
def small_data(tmp_path: Path, sphere: trimesh.Trimesh) -> Path:
    """A data folder with a closed and an open mesh, and a cloud that was taken from the closed one."""
    folder = tmp_path / "data"
    (folder / "meshes").mkdir(parents=True)
    (folder / "points").mkdir()
    sphere.export(folder / "meshes" / "ball.off")
    cup = trimesh.Trimesh(sphere.vertices, sphere.faces[sphere.triangles_center[:, 2] < 0.2], process=False)
    cup.export(folder / "meshes" / "cup.off")
    (folder / "meshes" / "meshes.csv").write_text("name\nball.off\n", encoding="utf-8")
    points = sphere.sample(300, seed=3)
    np.savetxt(folder / "points" / "ball.xyz", points)
    np.savetxt(folder / "points" / "stray.xyz", points)
    table = "name,ground_truth_mesh\nball.xyz,ball.off\nstray.xyz,\n"
    (folder / "points" / "points.csv").write_text(table, encoding="utf-8")
    return folder


# The data folder and the head of a table


def test_data_folder_named_by_the_environment(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSDF3D_DATA", str(small_data))
    assert data_folder() == small_data
    monkeypatch.setenv("OCSDF3D_DATA", str(small_data / "points"))
    with pytest.raises(FileNotFoundError, match=r"OCSDF3D_DATA .*points has no folder `meshes`"):
        data_folder()


def test_data_folder_beside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCSDF3D_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="OCSDF3D_DATA is not set"):
        data_folder(tmp_path / "checkout")
    (tmp_path / "shared" / "data" / "meshes").mkdir(parents=True)
    assert data_folder(tmp_path / "checkout") == (tmp_path / "shared" / "data").resolve()


def test_threads_obeys_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert threads() <= (os.cpu_count() or 1)


def test_circumstances_name_versions_settings_and_machine() -> None:
    text = circumstances(("numpy", "no-such-distribution"), seeds="0 1", preset="fast")
    assert f"numpy {np.__version__}" in text
    assert "no-such-distribution absent" in text
    assert "seeds 0 1, preset fast" in text
    assert f"{threads()} threads" in text


# The ledger


def test_ledger_returns_what_went_in(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    columns = ("name", "seed", "a", "b", "c", "d")
    first = {"name": "x, y", "seed": 0, "a": math.inf, "b": None, "c": True, "d": 0.1 + 0.2}  # not 0.3
    second = {"name": 'a "quoted"\nline', "seed": 0, "a": -1.5e-300, "b": "1 file left", "c": False, "d": 7.0}
    ledger = Ledger(path, columns, ("name", "seed"))
    assert ledger.add({**first, "d": np.float64(first["d"]), "c": np.True_}) == first
    ledger.add(second)
    again = Ledger(path, columns, ("name", "seed"))
    assert again.rows == [first, second]  # floats bit for bit, an infinity and a line break included
    assert again.find(name="x, y", seed=0) == first
    assert again.find(name="x, y", seed=1) is None
    twin = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["a"] for row in twin] == ["inf", -1.5e-300]  # JSON has no infinity
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["rows.csv", "rows.json"]


def test_ledger_refuses_another_benchs_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="columns are not those of this bench"):
        Ledger(path, ("a", "c"), ("a",))
    ledger = Ledger(path, ("a", "b"), ("a",))
    with pytest.raises(ValueError, match="differ from the ledger's"):
        ledger.add({"a": 1})
    with pytest.raises(ValueError, match="found by a; got b"):
        ledger.find(b=2)


def test_markdown_shows_every_kind_of_value() -> None:
    table = markdown(("a", "b", "c", "d", "e"), [[None, True, math.inf, 0.00123456, "x|y\nz"]])
    assert table.splitlines()[2] == "| – | yes | inf | 0.001235 | x\\|y z |"


# Closed shapes


def test_closed_merges_scales_and_refuses_open_meshes(sphere: trimesh.Trimesh) -> None:
    soup = trimesh.Trimesh(
        sphere.vertices[sphere.faces].reshape(-1, 3) * 37 + 5,
        np.arange(3 * len(sphere.faces)).reshape(-1, 3),
        process=False,
    )
    assert not soup.is_watertight
    solid = solids.closed(soup)
    assert solid is not None
    assert solid.euler_number == 2
    assert solid.extents.max() == pytest.approx(1, abs=1e-12)
    assert len(soup.vertices) == 3 * len(soup.faces)  # the input is left alone
    assert solids.closed(trimesh.Trimesh(sphere.vertices, sphere.faces[1:], process=False)) is None


def test_closed_shapes_of_the_real_data_are_those_of_its_list(shared_data: Path) -> None:
    # meshes.csv was made with the same rule by other code: 22 of the 40 are closed.
    import csv

    with (shared_data / "meshes" / "meshes.csv").open(newline="", encoding="utf-8") as file:
        expected = {
            row["name"]: int(row["euler"]) for row in csv.DictReader(file) if row["watertight"] == "True"
        }
    found = {name: mesh.euler_number for name, mesh in solids.closed_shapes(shared_data / "meshes").items()}
    assert found == expected
    assert len(found) == 22


def test_samples_are_on_the_surface_and_follow_the_seed(sphere: trimesh.Trimesh) -> None:
    points = solids.sample_surface(sphere, 500, noise=0.0, seed=1)
    assert np.array_equal(points, solids.sample_surface(sphere, 500, noise=0.0, seed=1))
    assert not np.array_equal(points, solids.sample_surface(sphere, 500, noise=0.0, seed=2))
    radius = np.linalg.norm(points, axis=1)
    inner = np.linalg.norm(sphere.triangles_center, axis=1).min()  # a facet's centre lies below its corners
    assert radius.max() <= 0.5 + 1e-12
    assert radius.min() >= inner - 1e-4
    noisy = solids.sample_surface(sphere, 500, noise=0.01, seed=1) - points
    assert noisy.std() == pytest.approx(0.01, rel=0.1)  # 1,500 draws: standard error 2 %, five of them


def test_chosen_takes_names_with_and_without_extension(sphere: trimesh.Trimesh) -> None:
    shapes = {"a.off": sphere, "b.off": sphere}
    assert list(solids.chosen(shapes, None)) == ["a.off", "b.off"]
    assert list(solids.chosen(shapes, ["b"])) == ["b.off"]
    assert list(solids.chosen(shapes, ["a.off"])) == ["a.off"]
    with pytest.raises(ValueError, match=r"not a closed shape of the data: c; there are a\.off, b\.off"):
        solids.chosen(shapes, ["c"])
    with pytest.raises(ValueError, match="no closed mesh"):
        solids.chosen({}, None)


def test_a_failure_is_counted_and_not_hidden(sphere: trimesh.Trimesh) -> None:
    right = solids.score(solids.Answer(sphere, 1.0, None), sphere, samples=20_000, seed=0, floor=0.01)
    wrong = solids.score(solids.Answer(None, 3.0, "it broke"), sphere, samples=20_000, seed=0, floor=0.01)
    # Poisson: a sample has another within τ = 0.01 with probability 1 − exp(−20,000 · πτ² / area), area π.
    assert right["f_score"] == pytest.approx(1 - math.exp(-2), abs=0.02)
    assert right["euler_right"]
    assert right["ratio"] == pytest.approx(right["chamfer"] / 0.01)
    assert wrong["chamfer"] == math.inf
    assert (wrong["f_score"], wrong["normal_consistency"], wrong["iou"]) == (0, 0, 0)
    assert not wrong["watertight"]
    assert not wrong["euler_right"]
    rows = [{"method": "m", **right}, {"method": "m", **wrong}]
    name, chamfer, ratio, f_score, _, iou, watertight, euler, seconds, failed = solids.means(rows)[0]
    assert (name, chamfer, ratio) == ("m", right["chamfer"], right["ratio"])
    assert f_score == pytest.approx(right["f_score"] / 2)
    assert iou == pytest.approx(right["iou"] / 2)
    assert (watertight, euler, seconds, failed) == ("1/2", "1/2", 2.0, "1/2")


def test_our_refusal_is_an_answer() -> None:
    settings = {"preset": "fast", "support": "solid", "resolution": 32, "device": "cpu", "seed": 0}
    answer = solids.ours(np.zeros((40, 3)), **settings)  # all points equal: nothing to reconstruct
    assert answer.mesh is None
    assert answer.error is not None
    assert answer.error.startswith("ValueError: ")


def test_solids_writes_tables_and_goes_on_where_it_stopped(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(name: str, points: np.ndarray, *, workers: int) -> solids.Answer:
        asked.append(name)
        if name == "poisson":
            raise ImportError("a system library is missing")
        if name == "screened_poisson":
            return solids.Answer(None, 0.5, "it broke")
        return solids.Answer(trimesh.convex.convex_hull(points), 0.25, None)

    monkeypatch.setattr(solids, "peer", answer)
    names = ["advancing_front", "screened_poisson", "poisson"]
    out = tmp_path / "results"
    command = ["--data", str(small_data), "--out", str(out), "--samples", "2000", "--points", "400"]
    command += ["--methods", *names, "--seeds", "0", "1"]
    assert solids.main(command) == 0
    first = capsys.readouterr()
    assert asked == [*names, "advancing_front", "screened_poisson"]  # the third did not load: asked once
    assert "poisson does not load and takes no part: a system library is missing" in first.err
    assert "## ball.off: Euler 2" in first.out  # and cup.off is open
    assert "cup.off" not in first.out
    means = [line for line in first.out.splitlines() if line.startswith("| ")][-2:]
    assert means[0].startswith("| advancing_front | 0.0")
    assert means[0].endswith("| 2/2 | 2/2 | 0.25 | 0/2 |")
    assert means[1] == "| screened_poisson | – | – | 0 | 0 | 0 | 0/2 | 0/2 | 0.5 | 2/2 |"
    asked.clear()
    assert solids.main(command) == 0
    assert asked == ["poisson"]  # everything else came from the ledger …
    assert capsys.readouterr().out == first.out  # … and looks the same
    asked.clear()
    assert solids.main([*command, "--fresh"]) == 0
    assert len(asked) == 5


def test_solids_without_data_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCSDF3D_DATA", str(tmp_path))
    assert solids.main([]) == 1
    assert survey.main([]) == 1
    assert capsys.readouterr().err.count("has no folder `meshes`") == 2


# Peers


def test_available_lists_the_installed_peers() -> None:
    installed = {name for name, (module, _) in peers.LIBRARIES.items() if find_spec(module)}
    assert set(peers.available()) == installed


@pytest.mark.parametrize("name", sorted(peers.LIBRARIES))
def test_peer_reconstructs_a_sphere(name: str, sphere: trimesh.Trimesh) -> None:
    if name not in peers.available():
        pytest.skip(f"{peers.LIBRARIES[name][1]} is not installed (extra `bench`)")
    points = solids.sample_surface(sphere, 1000, noise=0.0, seed=0)
    kept = points.copy()
    try:
        answer = solids.peer(name, points, workers=1, limit=120)
    except ImportError as error:
        pytest.skip(f"{name} does not load here: {error}")
    assert answer.error is None
    assert answer.mesh is not None
    assert np.array_equal(points, kept)
    # 1,000 points are 0.056 apart; a classical method on a smooth closed shape stays well within that.
    assert np.abs(np.linalg.norm(answer.mesh.vertices, axis=1) - 0.5).max() < 0.05
    assert answer.mesh.volume == pytest.approx(math.pi / 6, rel=0.05)  # positive: faces outward
    assert answer.seconds > 0


def test_a_peer_that_dies_or_hangs_or_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.zeros((4, 3))
    monkeypatch.setattr(solids, "_work", _die)
    assert solids.peer("poisson", points, workers=1) == (
        None,
        pytest.approx(30, abs=30),
        "its process died (exit code 7)",
    )
    monkeypatch.setattr(solids, "_work", _hang)
    assert solids.peer("poisson", points, workers=1, limit=0.2) == (None, 0.2, "no answer in 0 s")
    monkeypatch.setattr(solids, "_work", _miss)
    with pytest.raises(ImportError, match="not here"):
        solids.peer("poisson", points, workers=1)


def _die(*_: object) -> None:
    os._exit(7)


def _hang(*_: object) -> None:
    while True:
        sys.stdin.isatty()


def _miss(sender: object, *_: object) -> None:
    sender.send(ImportError("not here"))  # type: ignore[attr-defined]


# The survey

PROGRAM = """
import json, shutil, sys
name, out = sys.argv[2], sys.argv[4]
if "cup" in name:
    sys.exit("Traceback (most recent call last)\\nBoom" if "crash" in name else "cup.off: not today")
shutil.copy({ball!r}, out)
print(json.dumps(dict(support="solid", support_reason="r", vertices=1, faces=2, watertight=True, euler=2,
                      seconds=dict(total=0.5))))
"""


@pytest.fixture
def program(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for `python -m ocsdf3d`, which would train; answers with the true ball, whatever is asked."""
    path = tmp_path / "stand_in.py"
    path.write_text(PROGRAM.format(ball=str(small_data / "ball.ply")), encoding="utf-8")
    trimesh.load(small_data / "meshes" / "ball.off", process=False).export(small_data / "ball.ply")
    monkeypatch.setattr(survey, "PROGRAM", [sys.executable, str(path)])
    return path


def test_survey_takes_every_file_and_no_list(small_data: Path) -> None:
    names = [path.relative_to(small_data).as_posix() for path in survey.files(small_data)]
    assert names == ["meshes/ball.off", "meshes/cup.off", "points/ball.xyz", "points/stray.xyz"]
    assert survey.truths(small_data) == {"points/ball.xyz": small_data / "meshes" / "ball.off"}


def test_survey_tells_done_from_refused(
    small_data: Path, tmp_path: Path, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    command = ["--data", str(small_data), "--out", str(out), "--samples", "2000"]
    assert survey.main(command) == 0
    first = capsys.readouterr()
    assert "4 files: 3 done, 1 refused, 0 crashed." in first.out
    rows = {row["file"]: row for row in json.loads((out / "survey.json").read_text(encoding="utf-8"))}
    assert rows["meshes/cup.off"]["reason"] == "cup.off: not today"
    assert rows["meshes/ball.off"]["reference"] == "itself"
    assert rows["meshes/ball.off"]["iou"] == pytest.approx(1, abs=1e-3)
    assert rows["points/ball.xyz"]["reference"] == "ball.off"
    assert rows["points/ball.xyz"]["iou"] == pytest.approx(1, abs=1e-3)
    assert rows["points/stray.xyz"]["iou"] is None  # against a cloud there is no inside
    assert 0 < rows["points/stray.xyz"]["chamfer"] < 0.1
    assert not list(out.glob("*.ply"))
    program.write_text("raise SystemExit(3)", encoding="utf-8")  # nothing is run again
    assert survey.main(command) == 0
    assert capsys.readouterr().out == first.out


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ("import sys; sys.exit('no such luck')", "refused", "no such luck"),
        ("import sys; print('misuse', file=sys.stderr); sys.exit(2)", "refused", "misuse"),
        ("1 / 0", "crashed", "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 11)", "crashed", "exit code -11"),
        ("import sys; sys.exit(1)", "crashed", "exit without a word"),
        ("print('done!')", "crashed", "stdout is not one JSON object"),
        (
            "import sys; open(sys.argv[4], 'w').close(); sys.exit('oh')",
            "crashed",
            "oh, and left a file behind",
        ),
        ("import time; time.sleep(60)", "crashed", "no answer in 2 s"),
        ("print('{}')", "crashed", "its JSON lacks euler, faces, seconds, "),
    ],
)
def test_survey_outcomes(tmp_path: Path, program: Path, text: str, outcome: str, reason: str) -> None:
    program.write_text(text, encoding="utf-8")
    result = survey.run_program(tmp_path / "in.ply", tmp_path / "out.ply", arguments=[], limit=2)
    assert result["outcome"] == outcome
    assert str(result["reason"]).startswith(reason)


def test_survey_does_not_believe_what_cannot_be_read(small_data: Path, tmp_path: Path, program: Path) -> None:
    (small_data / "ball.ply").write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    ball = small_data / "meshes" / "ball.off"
    row = survey.survey_one(ball, ball, tmp_path / "out.ply", asked=survey.parser().parse_args([]))
    assert row["outcome"] == "crashed"
    assert str(row["reason"]).startswith("what it wrote cannot be compared: ")
