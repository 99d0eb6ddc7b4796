"""What the benches share: folder, head, ledger; and the survey of the command line."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, survey, threads
from ocsdf3d.cli import main as command_line


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


def test_without_data_the_benches_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCSDF3D_DATA", str(tmp_path))
    assert command_line(["bench", "reconstruct"]) == 1
    assert survey.main([]) == 1
    assert capsys.readouterr().err.count("has no folder `meshes`") == 2


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
