"""`ocsdf3d batch`: what its options do, what it prints and returns, and what Ctrl-C leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from test_cli import GIVEN, one_object, run, verbs
from test_distribute import make_cloud, small

from ocsdf3d import checkpoint, distribute, io
from ocsdf3d.presets import PRESETS

QUICK = ["--preset", "fast", "--resolution", "24", "--support", "solid", "--device", "cpu", "--workers", "1"]
OTHERS = {"--help", "--json", "--quiet", "--verbose", "--output"}
TESTED = {"--format", "--save", "--no-pictures", "--workers", "--scheduler", "--resolution", "--no-smooth"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three clouds in `in`; `fast` is quick."""
    monkeypatch.setitem(PRESETS, "fast", small())
    for seed in range(3):
        make_cloud(tmp_path / "in" / f"ball{seed}.xyz", seed)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[distribute.Job]:
    """Jobs that would be done; none is."""
    jobs: list[distribute.Job] = []

    def over(function: object, given: list[distribute.Job], **how: Any) -> list[distribute.Job]:
        jobs.extend(dataclasses.replace(job, options={**job.options, **how}) for job in given)
        return []

    monkeypatch.setattr("ocsdf3d.distribute.batch.over", over)
    return jobs


def test_meshes_report_and_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "ball1.xyz").write_text("1 2 3\n")
    command = ["batch", folder / "in", "-o", folder / "out", *QUICK, "--json"]
    assert run(*command) == 1
    said = capsys.readouterr()
    told = one_object(said.out)
    assert (told["shapes"], told["done"], told["kept"], told["left"]) == (3, 2, 0, 0)
    ((source, error),) = [(one["source"], one["error"]) for one in told["failed"]]
    assert source == str(folder / "in" / "ball1.xyz")
    assert f"warning: {source}: {error}" in said.err
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "2 shapes done, 2 watertight, 1 failed" in page
    assert page.count("data:image/jpeg") == 2 or "No pictures: " in page
    assert io.read(folder / "out" / "ball0.ply").is_watertight
    make_cloud(folder / "in" / "ball1.xyz", 1)
    assert run(*command[:-1]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(
        f"{folder / 'out' / 'report.html'}: 3 of 3 shapes done, 2 of them whole from before, "
    )
    assert said.err == ""  # a mesh of the manifest may be replaced without a word


def test_format_save_and_no_pictures(folder: Path) -> None:
    command = ["batch", folder / "in" / "ball0.xyz", "-o", folder / "out", *QUICK]
    assert run(*command, "--format", "obj", "--save", "--no-pictures") == 0
    assert {path.name for path in (folder / "out").iterdir()} == {
        *("ball0.obj", "ball0.obj.safetensors", "manifest.jsonl", "report.html")
    }
    assert checkpoint.load(folder / "out" / "ball0.obj.safetensors").settings["points"] == 200


def test_the_bytes_of_reconstruct(folder: Path) -> None:
    import torch

    source = folder / "in" / "ball2.xyz"
    assert run("batch", source, "-o", folder / "out", *QUICK, "--no-pictures") == 0
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert run("reconstruct", source, "-o", folder / "one.ply", *QUICK[:-2]) == 0
    finally:
        torch.set_num_threads(before)
    assert (folder / "out" / "ball2.ply").read_bytes() == (folder / "one.ply").read_bytes()


@pytest.mark.parametrize("flag", GIVEN)
def test_each_flag_of_the_fit_reaches_the_jobs(
    flag: str, folder: Path, asked: list[distribute.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    value, keyword, given, without = GIVEN[flag]
    command = ["batch", folder / "in" / "ball0.xyz", "-o", folder / "out", "--workers", "1", "-q"]
    assert run(*command) == run(*command, flag, value) == 130
    assert [job.options[keyword] for job in asked] == [without, given]


def test_other_flags_reach_the_jobs(folder: Path, asked: list[distribute.Job]) -> None:
    pytest.importorskip("distributed")
    command = ["batch", folder / "in", "-o", folder / "out", "-q"]
    assert run(*command, "--workers", "2", "--no-smooth", "--resolution", "64") == 130
    assert (asked[0].options["workers"], asked[0].options["scheduler"]) == (2, None)
    assert asked[0].options["smooth"] is False
    assert asked[0].resolution == 64
    assert run(*command, "--scheduler", "tcp://there:8786") == 130
    assert asked[-1].options["scheduler"] == "tcp://there:8786"
    assert asked[-1].options["smooth"] is True
    assert run(*command, "--workers", "9") == 130
    assert asked[-1].options["workers"] == 3  # no more than shapes
    assert run(*command, "--scheduler", "tcp://there:8786", "--workers", "2") == 2


def test_no_flag_of_batch_is_untested() -> None:
    options = {action.option_strings[-1] for action in verbs()["batch"]._actions if action.option_strings}
    assert options == set(GIVEN) | OTHERS | TESTED


def test_without_dask_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("batch", folder / "in", "-o", folder / "out", "--workers", "2") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'ocsdf3d[distributed]'" in said
    assert said.rstrip().endswith("Use --workers 1.")
    assert not (folder / "out").exists()


def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("batch", folder / "gone", "-o", folder / "out", *QUICK) == 1
    assert "gone: no such file or folder" in capsys.readouterr().err
    (folder / "file").write_text("")
    assert run("batch", folder / "in", "-o", folder / "file", *QUICK) == 1
    assert str(folder / "file") in capsys.readouterr().err
    assert run("batch", folder / "in", "-o", folder / "out", "--workers", "0") == 2


def test_foreign_files_and_damaged_lines_are_said(
    folder: Path, asked: list[distribute.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "ball0.ply").write_bytes(b"of somebody")
    (out / "manifest.jsonl").write_text("half a li")
    assert run("batch", folder / "in", "-o", out, *QUICK) == 130
    said = capsys.readouterr().err
    assert f"1 files that are not of this manifest will be overwritten, as {out / 'ball0.ply'}" in said
    assert "1 damaged lines left out" in said


@pytest.mark.parametrize("presses", [1, 2])
def test_interrupts(
    presses: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first finishes the shape in hand, the second gives it up; what is done stays, the rest follows."""
    from ocsdf3d.distribute import work

    real, calls = work.fit, []

    def fit(*given: Any, **options: Any) -> Any:
        calls.append(True)
        if len(calls) == 2:
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)
        return real(*given, **options)

    monkeypatch.setattr(work, "fit", fit)
    command = ["batch", folder / "in", "-o", folder / "out", *QUICK, "--json", "--no-pictures"]
    assert run(*command) == 130
    said = capsys.readouterr()
    told = one_object(said.out)
    finished = 3 - presses  # of the two that were begun
    assert (told["done"], told["left"], told["interrupted"]) == (finished, 3 - finished, True)
    assert ("the shapes in hand are lost" in said.err) == (presses == 2)
    assert f"{3 - finished} not reached" in Path(told["report"]).read_text(encoding="utf-8")
    assert run(*command) == 0
    told = one_object(capsys.readouterr().out)
    assert (told["done"], told["kept"], told["left"]) == (3, finished, 0)
    rows = [json.loads(line) for line in (folder / "out" / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["source"] for row in rows}) == 3  # nothing twice
