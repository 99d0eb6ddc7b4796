"""The command line: what each verb hands on, prints and returns, and what Ctrl-C does.

Where training would be slow, `pipeline.fit` is replaced by a ball that remembers what it was asked; files,
options, streams and signals are the real ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh

from ocsdf3d import analytic, checkpoint, io
from ocsdf3d.cli import build_parser, doctor, main, outputs
from ocsdf3d.cli.console import describe, human_bytes, plain
from ocsdf3d.cli.interrupt import Interrupt
from ocsdf3d.cli.progress import Progress, figures_text
from ocsdf3d.field import SDF
from ocsdf3d.frame import Frame
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.surface import EmptyLevelSetError

HEAVY = ("numpy", "torch", "scipy", "trimesh", "skimage", "pyvista", "open3d", "igl", "rich", "safetensors")
STAGES = ("load", "sides", "train", "mesh", "total")


class Ball:
    """An exact unit ball with what the command line asks of a trained field."""

    box = Box(np.full(3, -1.2), np.full(3, 1.2))
    lipschitz = 0.9990234375
    level = 0.015625
    support = "solid"
    support_reason = "the points enclose a volume"
    device = "cpu"
    rounding = 5e-6
    frame = Frame(np.zeros(3), 1.0)
    network = SimpleNamespace(config=NetworkConfig(inputs=3), head=SimpleNamespace(dtype="torch.float32"))
    settings = MappingProxyType({"preset": "fast", "seed": 0, "outliers": 0, "noise": 0.0})

    def __init__(self) -> None:
        self.history: dict[str, Any] = {
            "seconds": {"load": 0.0, "sides": 0.25, "train": 0.5},
            "steps": 64,
            "interrupted": False,
        }
        self.meshed: list[dict[str, Any]] = []

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points, axis=1) - 1.0

    def mesh(
        self,
        resolution: int = 200,
        offset: float = 0.0,
        dense: bool = False,
        complete: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> trimesh.Trimesh:
        self.meshed.append({"resolution": resolution, "offset": offset, "dense": dense, "complete": complete})
        if progress is not None:
            progress(1000, 1000)
        mesh = trimesh.creation.icosphere(subdivisions=2, radius=1.0 + offset)
        mesh.metadata.update(
            resolution=resolution, evaluations=1000, dense_evaluations=resolution**3, blocks=10, undecided=20
        )
        proof = {"complete": True, "eps": complete, "largest": 0.25, "clusters": 2, "evaluations": 7}
        mesh.metadata.update(lipschitz=1.0, rounding=5e-6, completeness=proof if complete else None)
        return mesh

    def astype(self, dtype: str) -> Ball:
        self.meshed.append({"dtype": dtype})
        return self


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    """100 points of the unit sphere as text."""
    points = np.random.default_rng(0).normal(size=(100, 3))
    path = tmp_path / "scan.xyz"
    np.savetxt(path, points / np.linalg.norm(points, axis=1, keepdims=True))
    return path


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Calls of `pipeline.fit`, which returns a ball instead of training."""
    calls: list[SimpleNamespace] = []

    def fit(source: object, **options: Any) -> Ball:
        ball = Ball()
        calls.append(SimpleNamespace(source=source, options=options, sdf=ball))
        return ball

    monkeypatch.setattr("ocsdf3d.pipeline.fit", fit)
    return calls


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A field file that loads as a ball."""
    path = tmp_path / "field.safetensors"
    path.write_bytes(b"a ball")
    ball, asked = Ball(), []

    def load(path: object, device: str = "auto") -> Ball:
        asked.append(device)
        return ball

    monkeypatch.setattr("ocsdf3d.checkpoint.load", load)
    return SimpleNamespace(path=path, sdf=ball, devices=asked)


def environment(**more: str) -> dict[str, str]:
    """Environment of a process that finds this package, installed or not, from any folder."""
    found = [str(Path(doctor.__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found)), **more}


def run(*argv: object) -> int:
    return main([str(argument) for argument in argv])


def one_object(text: str) -> dict[str, Any]:
    """The one JSON object in `text`; anything beside it fails to parse."""
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- help, version, misuse


def verbs() -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(actions).choices)


def test_help_and_version_import_nothing_heavy() -> None:
    """Every help in one process: were anything heavy loaded by one of them, it would be in `sys.modules`."""
    commands = [["--help"], ["--version"], *([verb, "--help"] for verb in verbs())]
    code = (
        "import sys\nfrom ocsdf3d.cli import main\n"
        f"codes = [main(argv) for argv in {commands!r}]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], codes, file=sys.stderr)"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert end.stderr.strip() == f"[] {[0] * len(commands)}"
    assert end.stdout.count("usage: ocsdf3d") == len(commands) - 1  # all but --version


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_answer_at_once(option: str) -> None:
    """0.3 s, interpreter included; the best of five, since other processes may hold the machine."""
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "ocsdf3d", option],
            stdout=subprocess.DEVNULL,
            env=environment(),
            check=True,
        )
        best = min(best, time.perf_counter() - begun)
    assert best < 0.3


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    import ocsdf3d

    assert run("--version") == 0
    assert capsys.readouterr().out == f"ocsdf3d {ocsdf3d.__version__}\n"


def test_help_in_an_ascii_terminal() -> None:
    """λ and φ stand in the help; a stream without them gets question marks, not a traceback."""
    command = [sys.executable, "-m", "ocsdf3d", "reconstruct", "--help"]
    end = subprocess.run(command, capture_output=True, env=environment(PYTHONIOENCODING="ascii"), check=False)
    assert (end.returncode, end.stderr) == (0, b"")
    assert b"--lam" in end.stdout


def test_every_option_tells_its_default() -> None:
    for verb, parser in verbs().items():
        for action in parser._actions:
            if not action.option_strings or action.dest == "help" or action.required:
                continue
            assert "(default: " in (action.help or ""), f"{verb} {action.option_strings}"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "VERB"),
        (["rebuild", "a.off"], "rebuild"),
        (["reconstruct"], "IN"),
        (["reconstruct", "a.off", "--resolution", "1"], "--resolution"),
        (["reconstruct", "a.off", "--resolution", "2.5"], "--resolution"),
        (["reconstruct", "a.off", "--points", "15"], "--points"),
        (["reconstruct", "a.off", "--seed", "-1"], "--seed"),
        (["reconstruct", "a.off", "--seed", str(2**63)], "--seed"),
        (["reconstruct", "a.off", "--margin", "0"], "--margin"),
        (["reconstruct", "a.off", "--margin", "nan"], "--margin"),
        (["reconstruct", "a.off", "--lam", "-1"], "--lam"),
        (["reconstruct", "a.off", "--level", "inf"], "--level"),
        (["reconstruct", "a.off", "--level", "low"], "--level"),
        (["reconstruct", "a.off", "--support", "open"], "--support"),
        (["reconstruct", "a.off", "--preset", "quick"], "--preset"),
        (["reconstruct", "a.off", "--device", "tpu"], "--device"),
        (["reconstruct", "a.off", "--res", "64"], "--res"),  # no abbreviations: a later option may share them
        (["reconstruct", "a.off", "-q", "-v"], "-v"),
        (["mesh", "field.safetensors"], "-o"),
        (["evaluate", "a.ply", "b.ply", "--tau", "0"], "--tau"),
        (["evaluate", "a.ply", "b.ply", "--samples", "0"], "--samples"),
        (["query", "field.safetensors", "a.xyz"], "-o"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("ocsdf3d: error: ")
    assert seen.err.count("\n") == 1
    assert said in seen.err


# --- reconstruct: what goes in

GIVEN = {  # flag → (value on the command line, `fit` keyword, what `fit` gets, what it gets without the flag)
    "--points": ("512", "points", 512, None),
    "--support": ("shell", "support", "shell", "auto"),
    "--preset": ("fast", "preset", "fast", "default"),
    "--level": ("-1e-2", "level", -0.01, None),
    "--margin": ("0.125", "margin", 0.125, None),
    "--lam": ("50", "lam", 50.0, None),
    "--device": ("cpu", "device", "cpu", "auto"),
    "--seed": ("7", "seed", 7, 0),
}
ELSEWHERE = {  # tested below
    *("--help", "--output", "--resolution", "--complete", "--save", "--json", "--quiet", "--verbose"),
    "--no-smooth",
    *("--watch", "--watch-file", "--up"),  # with the viewer's
    *("--checkpoint", "--checkpoint-every", "--resume"),  # in test_resume.py
}


@pytest.mark.parametrize("flag", GIVEN)
def test_each_flag_reaches_fit(flag: str, cloud: Path, fits: list[SimpleNamespace]) -> None:
    value, keyword, given, without = GIVEN[flag]
    assert run("reconstruct", cloud, "-q") == 0
    assert run("reconstruct", cloud, "-q", flag, value) == 0
    plain_call, call = (made.options for made in fits)
    assert plain_call[keyword] == without
    assert call[keyword] == given
    same = {name for name in call if name not in {keyword, "progress", "stop", "watch"}}
    assert {name: call[name] for name in same} == {name: plain_call[name] for name in same}


def test_points_in_color_are_written_in_color(
    cloud: Path, fits: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = io.read(cloud)
    points = plain.points if isinstance(plain, PointCloud) else plain.vertices
    painted, out = tmp_path / "painted.ply", tmp_path / "out.ply"
    io.write(painted, PointCloud(points, colors=np.full((len(points), 3), (10, 200, 30))))
    for source, colored in ((painted, True), (cloud, False)):
        assert run("reconstruct", source, "-o", out, "--json", "-q") == 0
        assert json.loads(capsys.readouterr().out)["colors"] is colored
        found = io.known_colors(io.read(out))
        assert (found is not None) is colored
        assert found is None or (found == (10, 200, 30)).all()
    assert run("reconstruct", painted, "-o", tmp_path / "out.stl", "--json") == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out)["colors"] is False
    assert ".stl holds no colours; .ply .obj .glb do" in seen.err


def test_smoothing_is_said_and_can_be_declined(
    cloud: Path,
    fits: list[SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("reconstruct", cloud, "--no-smooth") == 0
    assert "noise" not in capsys.readouterr().err
    monkeypatch.setattr(Ball, "settings", {**Ball.settings, "noise": 0.21})
    assert run("reconstruct", cloud, "--json") == 0
    said = capsys.readouterr()
    assert "noise of about 0.21 of the points' spacing smoothed away; --no-smooth keeps it" in said.err
    assert json.loads(said.out)["noise"] == 0.21
    assert [made.options["smooth"] for made in fits] == [False, True]


def test_no_flag_of_reconstruct_is_untested() -> None:
    options = {
        action.option_strings[-1] for action in verbs()["reconstruct"]._actions if action.option_strings
    }
    assert options == set(GIVEN) | ELSEWHERE


def test_presets_and_points_are_those_of_the_library() -> None:
    """They are written out in the parser, which must not import torch to learn them."""
    from ocsdf3d import pipeline, presets
    from ocsdf3d.cli.options import PRESETS

    assert list(presets.PRESETS) == list(PRESETS)
    assert f"(default: {pipeline.MESH_POINTS} on a mesh" in verbs()["reconstruct"].format_help()


def test_fit_gets_what_the_file_holds(cloud: Path, fits: list[SimpleNamespace]) -> None:
    assert run("reconstruct", cloud, "-q") == 0
    assert isinstance(fits[0].source, PointCloud)
    np.testing.assert_array_equal(fits[0].source.points, np.loadtxt(cloud))


def test_resolution_reaches_the_mesher(cloud: Path, fits: list[SimpleNamespace]) -> None:
    assert run("reconstruct", cloud, "-q") == 0
    assert run("reconstruct", cloud, "-q", "--resolution", "64", "--complete", "0.25") == 0
    assert [made.sdf.meshed[0]["resolution"] for made in fits] == [200, 64]
    assert [made.sdf.meshed[0]["complete"] for made in fits] == [None, 0.25]


def test_a_proof_that_fails_does_not_lose_the_training(
    cloud: Path, fits: list[SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    mesh = Ball.mesh

    def incomplete(self: Ball, **options: Any) -> trimesh.Trimesh:
        if options["complete"] is not None:
            raise ValueError("not complete at 1595 nodes: a piece 0.4 wide may have been missed")
        return mesh(self, **options)

    monkeypatch.setattr(Ball, "mesh", incomplete)
    out = tmp_path / "out.ply"
    assert run("reconstruct", cloud, "-o", out, "-q", "--complete", "0.25", "--json") == 1
    said = capsys.readouterr()
    assert one_object(said.out)["receipt"]["completeness"] is None
    assert "is written, but not complete at 1595 nodes" in said.err
    assert len(trimesh.load(out).faces) == 320


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--level", "0.5"], "no surface at --level 0.5: f spans [0.05, 0.3] on the grid. Choose another."),
        ([], "nothing was enclosed: φ spans [0.4, 0.9] on the grid. Cut apart what lies far"),
    ],
)
def test_a_level_that_is_not_there_does_not_lose_the_training(
    options: list[str],
    said: str,
    cloud: Path,
    fits: list[SimpleNamespace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nothing(self: Ball, **_: Any) -> trimesh.Trimesh:
        raise EmptyLevelSetError("no surface at level 0", (0.4, 0.9))

    monkeypatch.setattr(Ball, "mesh", nothing)
    monkeypatch.setattr(Ball, "level", 0.5, raising=False)
    monkeypatch.setattr(Ball, "frame", SimpleNamespace(scale=2.0), raising=False)
    monkeypatch.setattr("ocsdf3d.checkpoint.save", lambda path, sdf: path.write_bytes(b"a ball"))
    kept = tmp_path / "kept.safetensors"
    assert run("reconstruct", cloud, "-q", "--save", kept, *options) == 1
    err = capsys.readouterr().err
    assert f"no mesh, but {kept}, the field, is written" in err
    assert said in err
    assert kept.read_bytes() == b"a ball"


# --- reconstruct: what comes out


def test_default_output_lies_beside_the_input(
    cloud: Path, fits: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    assert run("reconstruct", cloud, "-q") == 0
    assert files_of(cloud.parent) == {"scan.xyz", "scan_ocsdf.ply", "away"}
    assert files_of(away) == set()
    # icosahedron subdivided twice: 20·4² faces, V = F/2 + 2
    assert len(trimesh.load(cloud.parent / "scan_ocsdf.ply", process=False).faces) == 320


@pytest.mark.parametrize("extension", ["ply", "obj", "off", "stl", "glb"])
def test_output_in_every_format(
    extension: str, cloud: Path, fits: list[SimpleNamespace], tmp_path: Path
) -> None:
    out = tmp_path / f"out.{extension}"
    assert run("reconstruct", cloud, "-o", out, "-q") == 0
    assert len(trimesh.load(out, force="mesh").faces) == 320


def test_json_is_one_object_with_the_promised_names(
    cloud: Path, fits: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.obj"
    assert run("reconstruct", cloud, "-o", out, "--seed", 3, "--json") == 0
    figures = one_object(capsys.readouterr().out)
    seconds, receipt = figures.pop("seconds"), figures.pop("receipt")
    assert (receipt["blocks"], receipt["undecided"], receipt["rounding"]) == (10, 20, 5e-6)
    assert fits[0].sdf.history["mesh"] == receipt  # and it is saved with the field
    assert figures == {
        "mesh": str(out),
        "field": None,
        "colors": False,
        "vertices": 162,
        "faces": 320,
        "watertight": True,
        "euler": 2,
        "support": "solid",
        "support_reason": "the points enclose a volume",
        "outliers": 0,
        "noise": 0.0,
        "level": 0.015625,
        "lipschitz": 0.9990234375,
        "evaluations": 1000,
        "dense_evaluations": 8_000_000,
        "device": "cpu",
        "seed": 3,
        "interrupted": False,
        "steps": 64,
    }
    assert set(seconds) == set(STAGES)
    assert (seconds["sides"], seconds["train"]) == (0.25, 0.5)
    assert all(value >= 0.0 for value in seconds.values())


def test_text_for_people(
    cloud: Path, fits: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reconstruct", cloud) == 0
    seen = capsys.readouterr()
    lines = seen.out.splitlines()
    assert lines[0].endswith("scan_ocsdf.ply: 162 vertices, 320 faces, watertight, Euler characteristic 2")
    assert "support solid" in lines[1]
    assert seen.err == "ocsdf3d: support solid: the points enclose a volume\n"


def test_reason_is_said_for_auto_only(
    cloud: Path, fits: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reconstruct", cloud, "--support", "solid") == 0
    assert capsys.readouterr().err == ""


def test_quiet(cloud: Path, fits: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reconstruct", cloud, "-q") == 0
    assert capsys.readouterr().err == ""


def test_overwriting_is_said_aloud(
    cloud: Path, fits: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ply"
    out.write_text("old")
    assert run("reconstruct", cloud, "-o", out, "-q") == 0
    assert capsys.readouterr().err == f"ocsdf3d: warning: {out} exists and will be overwritten\n"
    assert out.read_bytes()[:3] == b"ply"


def test_save_writes_the_field_too(
    cloud: Path,
    fits: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ocsdf3d.checkpoint.save", lambda path, sdf: Path(path).write_bytes(b"a ball"))
    saved = tmp_path / "ball.safetensors"
    assert run("reconstruct", cloud, "--save", saved, "--json") == 0
    assert one_object(capsys.readouterr().out)["field"] == str(saved)
    assert saved.read_bytes() == b"a ball"
    assert files_of(tmp_path) == {"scan.xyz", "scan_ocsdf.ply", "ball.safetensors"}


def test_a_field_that_cannot_be_saved_leaves_no_mesh_either(
    cloud: Path,
    fits: list[SimpleNamespace],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, sdf: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("ocsdf3d.checkpoint.save", full)
    assert run("reconstruct", cloud, "-q", "--save", tmp_path / "ball.safetensors") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert files_of(tmp_path) == {"scan.xyz"}


def test_all_files_or_the_old_ones(tmp_path: Path) -> None:
    """The old file survives a failure of the second writer, and no staged file stays."""
    old = tmp_path / "a.txt"
    old.write_text("old")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        outputs.write_all([(old, lambda path: path.write_text("new")), (tmp_path / "b.txt", fails)])
    assert old.read_text() == "old"
    assert files_of(tmp_path) == {"a.txt"}
    outputs.write_all([(old, lambda path: path.write_text("new")), (tmp_path / "b.txt", Path.touch)])
    assert old.read_text() == "new"
    assert files_of(tmp_path) == {"a.txt", "b.txt"}


# --- errors, warnings, pipes


def breaking(error: BaseException) -> Callable[..., object]:
    def fit(*_: object, **__: object) -> object:
        raise error

    return fit


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("`points` are\nall equal"), "`points` are all equal"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA error"), "RuntimeError: CUDA error (-v shows the traceback)"),
        (KeyError("loss"), "KeyError: 'loss' (-v shows the traceback)"),
        (AssertionError(), "AssertionError (-v shows the traceback)"),
        (PermissionError(13, "Permission denied", "a/b.ply"), "a/b.ply: Permission denied"),
        (ImportError("reading .las needs laspy"), "reading .las needs laspy"),
    ],
)
def test_an_error_is_one_line(
    error: BaseException,
    said: str,
    cloud: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ocsdf3d.pipeline.fit", breaking(error))
    assert run("reconstruct", cloud, "--json") == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith(f"ocsdf3d: error: {said}")
    assert seen.err.count("\n") == 1
    assert files_of(cloud.parent) == {"scan.xyz"}


def test_traceback_with_v(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ocsdf3d.pipeline.fit", breaking(RuntimeError("deep")))
    assert run("reconstruct", cloud, "-v") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "ocsdf3d: error: RuntimeError: deep"


def test_errors_are_described_by_what_they_carry() -> None:
    assert describe(OSError("disk gone")) == "disk gone"
    assert (
        describe(FileNotFoundError(2, "No such file or directory", b"x.ply"))
        == "x.ply: No such file or directory"
    )


@pytest.mark.filterwarnings("always")
def test_warnings_of_libraries_are_one_line_each(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: object, **__: object) -> Ball:
        warnings.warn("divided\n  by zero", RuntimeWarning, stacklevel=1)
        logging.getLogger("trimesh").warning("odd %s", "winding")
        return Ball()

    monkeypatch.setattr("ocsdf3d.pipeline.fit", fit)
    handlers = list(logging.getLogger().handlers)
    assert run("reconstruct", cloud, "-q") == 0
    assert capsys.readouterr().err == (
        "ocsdf3d: warning: divided by zero\nocsdf3d: warning: trimesh: odd winding\n"
    )
    assert logging.getLogger().handlers == handlers


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`ocsdf3d … | head -0`: the help is 1 kB, so it meets the closed pipe at the flush."""
    command = [sys.executable, "-m", "ocsdf3d", "reconstruct", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (1, b"")


# --- Ctrl-C


def interrupt_during(stage: str, times: int, seen: list[bool]) -> Callable[..., Ball]:
    """A `fit` that meets SIGINT `times` times in a stage and then asks `stop`, as training does."""

    def fit(source: object, *, progress: Callable[..., None], stop: Callable[[], bool], **_: object) -> Ball:
        ball = Ball()
        for name in ("sides", "train"):
            progress(name, 0, 10, {})
            if name == stage:
                for _count in range(times):
                    signal.raise_signal(signal.SIGINT)
            if name == "train":
                seen.append(stop())
                ball.history["interrupted"] = seen[-1]
                progress(name, 10, 10, {"loss": 0.5})
        return ball

    return fit


def test_first_interrupt_ends_training_and_keeps_it(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("ocsdf3d.pipeline.fit", interrupt_during("train", 1, seen))
    assert run("reconstruct", cloud, "--json") == 0
    assert seen == [True]
    said = capsys.readouterr()
    assert one_object(said.out)["interrupted"] is True
    assert "ocsdf3d: warning: interrupted: training ended after 64 steps; its result is written\n" in said.err
    assert files_of(cloud.parent) == {"scan.xyz", "scan_ocsdf.ply"}
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_before_the_first_figures_of_training(cloud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training has begun when the sides are known; its first report comes some steps later."""
    asked: list[bool] = []

    def fit(source: object, *, progress: Callable[..., None], stop: Callable[[], bool], **_: object) -> Ball:
        progress("sides", 1, 1, {})
        signal.raise_signal(signal.SIGINT)
        asked.append(stop())
        return Ball()

    monkeypatch.setattr("ocsdf3d.pipeline.fit", fit)
    assert run("reconstruct", cloud, "-q") == 0
    assert asked == [True]


@pytest.mark.parametrize(("stage", "times"), [("train", 2), ("sides", 1)])
def test_second_or_early_interrupt_stops_at_once(
    stage: str, times: int, cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("ocsdf3d.pipeline.fit", interrupt_during(stage, times, seen))
    assert run("reconstruct", cloud, "--json") == 130
    assert seen == []
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "ocsdf3d: error: interrupted; nothing was written\n")
    assert files_of(cloud.parent) == {"scan.xyz"}
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_while_meshing_stops(
    cloud: Path, fits: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mesh(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Ball, "mesh", mesh)
    assert run("reconstruct", cloud, "-q") == 130
    assert files_of(cloud.parent) == {"scan.xyz"}


def test_interrupt_while_writing_waits(
    cloud: Path, fits: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the mesh could be there and its field not."""

    def save(path: Path, sdf: object) -> None:
        signal.raise_signal(signal.SIGINT)
        Path(path).write_bytes(b"a ball")

    monkeypatch.setattr("ocsdf3d.checkpoint.save", save)
    assert run("reconstruct", cloud, "-q", "--save", cloud.with_name("b.safetensors")) == 0
    assert files_of(cloud.parent) == {"scan.xyz", "scan_ocsdf.ply", "b.safetensors"}


def test_outside_the_main_thread_no_handler_is_set(cloud: Path, fits: list[SimpleNamespace]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run("reconstruct", cloud, "-q")))
    thread.start()
    thread.join()
    assert codes == [0]


def test_ignored_sigint_stays_ignored_outside_training() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)  # nothing happens
            assert interrupt.stop() is False
            signal.raise_signal(signal.SIGINT)
            assert interrupt.stop() is True
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_real_interrupt_still_writes_a_mesh_and_a_certified_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way in a process of its own, stopped when its first line about training appears."""
    points = np.random.default_rng(1).normal(size=(500, 3))
    np.save(tmp_path / "ball.npy", points / np.linalg.norm(points, axis=1, keepdims=True))
    command = [sys.executable, "-m", "ocsdf3d", "reconstruct", "ball.npy", "--preset", "fast", "--json", "-v"]
    command += ["--resolution", "32", "--device", "cpu", "--save", "ball.safetensors"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("ocsdf3d: train "):
                break
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
        said += process.stderr.read()
    assert process.returncode == 0, said
    figures = one_object(out)
    assert figures["interrupted"] is True
    assert "ocsdf3d: warning: interrupted: " in said
    assert figures["lipschitz"] <= 1.0
    assert figures["watertight"] is True
    assert files_of(tmp_path) == {"ball.npy", "ball_ocsdf.ply", "ball.safetensors"}
    assert figures["steps"] < 600  # of the preset
    assert run("info", tmp_path / "ball.safetensors") == 0
    assert "history.interrupted: True" in capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_same_seed_same_bytes(tmp_path: Path, cloud: Path) -> None:
    """Processes of their own: nothing that one run leaves behind helps the other."""
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        command = [sys.executable, "-m", "ocsdf3d", "reconstruct", str(cloud), "--preset", "fast", "-q"]
        command += ["--device", "cpu", "--resolution", "48", "--seed", str(seed), "-o", f"{name}.ply"]
        subprocess.run(
            [*command, "--save", f"{name}.safetensors"], cwd=tmp_path, env=environment(), check=True
        )
    written = {name: (tmp_path / f"{name}.ply").read_bytes() for name in "abc"}
    assert written["a"] == written["b"] != written["c"]


# --- progress


def test_figures_in_a_row() -> None:
    figures = {"loss": 0.01234, "recall": 0.9876, "false_positives": 0.012, "gradient_norm": 0.987}
    assert figures_text(figures) == "loss 0.0123  recall 98.8%  false+ 1.2%  |∇f| 0.99"
    # those that would make the row too long for 80 columns are left out
    assert figures_text({"step": 25.0, "loss": 1e-4, "margin": 0.05}) == "loss 0.0001"


def drive(progress: Callable[[str, int, int, Mapping[str, float]], None]) -> None:
    progress("sides", 0, 0, {})
    progress("train", 0, 100, {})
    progress("train", 50, 100, {"loss": 0.5, "recall": 0.75})
    progress("train", 100, 100, {"loss": 0.25, "recall": 1.0})
    progress("train", 100, 100, {"loss": 0.25, "recall": 1.0})


@pytest.mark.parametrize(
    ("quiet", "verbose", "lines"), [(False, False, 0), (True, False, 0), (False, True, 3)]
)
def test_no_terminal_no_bar(
    quiet: bool, verbose: bool, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -v a line at the start of each stage and at its end; what lies between is rarer than every 5 s."""
    with Progress(quiet=quiet, verbose=verbose) as progress:
        drive(progress)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    if lines:
        assert said[0] == "ocsdf3d: sides"
        assert said[-1] == "ocsdf3d: train 100/100, loss 0.25 recall 100.0%"


def test_meshing_reports_too(
    cloud: Path, fits: list[SimpleNamespace], field: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reconstruct", cloud, "-v") == 0
    assert run("mesh", field.path, "-o", cloud.with_name("out.ply"), "-v") == 0
    assert capsys.readouterr().err.splitlines().count("ocsdf3d: mesh 1000/1000") == 2


def test_time_left_in_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 110.0])  # first heard of at step 10; 30 steps in 10 s: 20 s for the last 60
    monkeypatch.setattr("ocsdf3d.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Progress(verbose=True) as progress:
        progress("train", 10, 100, {})
        progress("train", 40, 100, {})
    assert capsys.readouterr().err.splitlines() == [
        "ocsdf3d: train 10/100",
        "ocsdf3d: train 40/100, 20 s left",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_gets_a_bar(quiet: bool) -> None:
    code = (
        "import time\nfrom ocsdf3d.cli.progress import Progress\n"
        f"with Progress(quiet={quiet}) as progress:\n"
        "    progress('sides', 1, 2, {})\n"
        "    figures = {'loss': 0.5, 'recall': 0.75, 'false_positives': 0.02, 'gradient_norm': 0.99}\n"
        "    progress('train', 50, 100, figures)\n    time.sleep(0.5)\n"
    )
    pty = pytest.importorskip("pty", reason="pseudo-terminals are a POSIX thing")
    master, slave = pty.openpty()
    shell = environment(TERM="xterm", COLUMNS="80")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=shell)
    os.close(slave)
    drawn = b""
    try:
        while chunk := os.read(master, 4096):
            drawn += chunk
    except OSError:  # Linux reports the end of a pseudo-terminal as an error
        assert process.wait(timeout=30) == 0
    finally:
        os.close(master)
        process.wait(timeout=30)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", drawn).decode()
    for part in ("train", "50%", "loss 0.5", "recall 75.0%", "false+ 2.0%", "|∇f| 0.99"):
        assert (part in text) is not quiet, part


# --- the other verbs


def test_mesh_hands_its_options_on(
    field: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ply"
    assert run("mesh", field.path, "-o", out, "--json") == 0
    first = one_object(capsys.readouterr().out)
    assert (first["mesh"], first["field"], first["faces"]) == (str(out), str(field.path), 320)
    out.unlink()
    assert first["receipt"] == {
        "lipschitz": 1.0,
        "rounding": 5e-6,
        "resolution": 200,
        "evaluations": 1000,
        "dense_evaluations": 8_000_000,
        "blocks": 10,
        "undecided": 20,
        "completeness": None,
    }
    options = ["--resolution", "50", "--offset", "-1e-3", "--dense", "--device", "cpu"]
    assert run("mesh", field.path, "-o", out, *options) == 0
    assert "162 vertices" in capsys.readouterr().out
    assert run("mesh", field.path, "-o", out, "--complete", "0.5", "--dtype", "float64") == 0
    assert "no piece of the surface larger than 0.5 keeps clear" in capsys.readouterr().out
    assert field.sdf.meshed == [
        {"resolution": 200, "offset": 0.0, "dense": False, "complete": None},
        {"resolution": 50, "offset": -0.001, "dense": True, "complete": None},
        {"dtype": "float64"},
        {"resolution": 200, "offset": 0.0, "dense": False, "complete": 0.5},
    ]
    assert field.devices == ["auto", "cpu", "auto"]
    assert run("mesh", field.path, "-o", out, "--complete", "0.5", "--dense") == 1
    assert "leave --dense out" in capsys.readouterr().err


def test_a_field_meshed_again_has_the_colors_that_it_is_given(
    field: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scan, plain = tmp_path / "out.ply", tmp_path / "scan.ply", tmp_path / "plain.ply"
    io.write(scan, PointCloud([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], colors=[[255, 0, 0], [255, 0, 0]]))
    io.write(plain, PointCloud([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    assert run("mesh", field.path, "-o", out, "-q") == 0
    assert io.known_colors(io.read(out)) is None
    assert run("mesh", field.path, "-o", out, "-q", "--colors", scan) == 0
    found = io.known_colors(io.read(out))
    assert found is not None
    assert (found == (255, 0, 0)).all()
    capsys.readouterr()
    assert run("mesh", field.path, "-o", out, "-q", "--colors", plain) == 1
    assert "plain.ply: its points have no colours" in capsys.readouterr().err
    assert run("mesh", field.path, "-o", tmp_path / "out.off", "-q", "--colors", scan) == 1
    assert ".off holds no colours; write .ply .obj .glb" in capsys.readouterr().err


def test_info_tells_what_the_field_is(
    born: Callable[..., SDF], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = {"loss": [float(n) for n in range(40, 0, -1)]}
    sdf = dataclasses.replace(born(), history={"steps": 64, "curves": curves})
    path = checkpoint.save(tmp_path / "born.safetensors", sdf)
    assert run("info", path, "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert found["certified"] is True
    for name in ("lipschitz", "rounding", "basis", "dtype", "hash"):
        assert found[name] == sdf.certificate[name]
    assert found["kind"] == "trained"
    assert found["frame"] == {"center": [0.0, 0.0, 0.0], "scale": 1.0}
    assert found["network"]["depth"] == 4
    assert found["settings"] == {"seed": 0}
    assert (found["support"], found["level"]) == ("solid", sdf.level)
    assert found["box"] == {"lower": [-1.15] * 3, "upper": [1.15] * 3}
    assert found["history"]["steps"] == 64
    assert len(found["history"]["curves"]["loss"]) == 40
    assert run("info", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"lipschitz: {sdf.lipschitz}" in lines
    assert "certified: True" in lines
    assert "history.curves.loss: 40.0 … 1.0 (40 values)" in lines


def test_info_of_a_tree(born: Callable[..., SDF], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint.save(tmp_path / "bitten.safetensors", born() - analytic.sphere(0.3))
    assert run("info", path, "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert (found["certified"], found["kind"], found["lipschitz"]) == (True, "difference", 1.0)
    assert [part["kind"] for part in found["parts"]] == ["trained", "sphere"]
    assert found["parts"][1]["settings"] == {"center": [0.0, 0.0, 0.0], "radius": 0.3}


def test_info_of_altered_weights_says_not_certified(
    born: Callable[..., SDF], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint.save(tmp_path / "born.safetensors", born())
    contents = bytearray(path.read_bytes())
    contents[-5] ^= 1
    path.write_bytes(contents)
    assert run("info", path, "--json") == 1
    said = capsys.readouterr()
    found = one_object(said.out)
    assert found["certified"] is False
    assert "not certified" in found["reason"]
    assert len(said.err.splitlines()) == 1
    assert run("info", path) == 1
    assert capsys.readouterr().out == ""


def test_measure_tells_what_is_proved(
    born: Callable[..., SDF], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exact shapes in files: the truth is known."""
    ball = checkpoint.save(tmp_path / "ball.safetensors", analytic.sphere(1.0))
    other = checkpoint.save(tmp_path / "other.safetensors", analytic.sphere(0.5, (2.0, 0.0, 0.0)))
    directions = np.random.default_rng(0).normal(size=(200, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points[:190] *= 1.0 + 1e-3 * np.random.default_rng(1).normal(size=(190, 1))
    points[190:] *= 1.2
    np.save(tmp_path / "scan.npy", points)
    out = tmp_path / "bars.ply"
    told = ["--points", tmp_path / "scan.npy", "-o", out, "--against", other, "--resolution", "64"]
    assert run("measure", ball, *told, "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert found["certificate"]["certified"] is True
    assert found["volume"]["lower"] < 4 / 3 * np.pi < found["volume"]["upper"]
    assert found["clearance"]["lower"] < 0.5 <= found["clearance"]["upper"] < 0.501
    assert found["points"]["count"] == 200
    assert found["points"]["outliers"] == pytest.approx(10, abs=2)  # 2 clean points in 1000 may be called so
    assert found["points"]["lower"]["max"] == pytest.approx(0.2, abs=1e-6)
    assert found["points"]["upper"]["max"] == pytest.approx(0.2, abs=1e-6)
    assert sum(found["points"]["histogram"]["counts"]) == 200
    data = trimesh.load(out).metadata["_ply_raw"]["vertex"]["data"]
    distance = np.abs(np.linalg.norm(points, axis=1) - 1.0)
    assert (data["lower"].reshape(-1) <= distance + 1e-12).all()
    assert (data["upper"].reshape(-1) >= distance - 1e-12).all()
    assert data["outlier"].reshape(-1)[190:].all()
    assert (data["radius"].reshape(-1)[190:] > 0.15).all()
    assert run("measure", ball, *told) == 0
    lines = capsys.readouterr().out
    assert "volume: from 4.1" in lines
    assert "gap: from 0.49" in lines
    assert run("measure", ball, "-o", tmp_path / "x.ply") == 1
    assert "give --points" in capsys.readouterr().err
    assert run("measure", ball, "--against", ball) == 0
    assert "gap: contact" in capsys.readouterr().out


def test_query_writes_one_value_a_point(
    field: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.save(tmp_path / "points.npy", points)
    out = tmp_path / "values.npy"
    assert run("query", field.path, tmp_path / "points.npy", "-o", out, "--json") == 0
    figures = one_object(capsys.readouterr().out)
    assert (figures["points"], figures["inside"], figures["min"], figures["max"]) == (3, 1, -1.0, 1.0)
    values = np.load(out, allow_pickle=False)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [-1.0, 1.0, 0.0])


def test_query_writes_text_and_points_too(
    field: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.array([[0.1, 0.0, 0.0], [2.0, 0.0, 1e-17], [0.0, 1.0, 0.0]])
    np.save(tmp_path / "points.npy", points)
    for name in ("values.npy", "values.csv", "values.ply"):
        assert run("query", field.path, tmp_path / "points.npy", "-o", tmp_path / name, "-q") == 0
    values = np.load(tmp_path / "values.npy")
    lines = (tmp_path / "values.csv").read_text().splitlines()
    assert lines[0] == "x,y,z,phi"
    np.testing.assert_array_equal(np.loadtxt(lines[1:], delimiter=","), np.column_stack([points, values]))
    data = trimesh.load(tmp_path / "values.ply").metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(data["phi"].reshape(-1), values)
    np.testing.assert_array_equal(data["x"].reshape(-1), points[:, 0])


def test_info_of_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colors = np.full((8, 3), 7)
    corners = trimesh.creation.box().vertices + 10.0
    io.write(
        tmp_path / "cloud.ply", PointCloud(np.vstack([corners, corners]), colors=np.tile(colors, (2, 1)))
    )
    trimesh.Trimesh(corners, trimesh.creation.box().faces, process=False).export(tmp_path / "box.stl")
    assert run("info", tmp_path / "cloud.ply", "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert found["box"] == {"lower": [9.5] * 3, "upper": [10.5] * 3}
    named = ("kind", "points", "distinct", "normals", "colors")
    assert [found[name] for name in named] == ["cloud", 16, 8, False, True]
    assert run("info", tmp_path / "box.stl", "--json") == 0
    found = one_object(capsys.readouterr().out)
    named = ("kind", "vertices", "distinct", "faces", "watertight", "euler", "area", "volume")
    assert [found[name] for name in named] == ["mesh", 36, 8, 12, True, 2, 6.0, pytest.approx(1.0)]
    tiny = trimesh.creation.icosphere(2, radius=1e-12)
    io.write(tmp_path / "tiny.ply", tiny)
    assert run("info", tmp_path / "tiny.ply", "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert [found["watertight"], found["euler"], found["distinct"]] == [True, 2, 162]
    assert found["area"] == pytest.approx(tiny.area)
    assert run("info", tmp_path / "box.stl") == 0
    assert "watertight: True" in capsys.readouterr().out.splitlines()


def test_evaluate_hands_its_options_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def judge(mesh: trimesh.Trimesh, reference: trimesh.Trimesh, **options: Any) -> dict[str, Any]:
        asked.append({**options, "faces": len(mesh.faces), "reference": len(reference.faces)})
        return {"chamfer": float("inf"), "f_score": np.float64(0.5), "iou": None, "watertight": True}

    def floor(reference: trimesh.Trimesh, *, samples: int, seed: int) -> float:
        asked[-1] = asked[-1] | {"floor": (len(reference.faces), samples, seed)}
        return 0.25

    monkeypatch.setattr("ocsdf3d.metrics.evaluate", judge)
    monkeypatch.setattr("ocsdf3d.metrics.floor", floor)
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "a.ply")
    trimesh.creation.box().export(tmp_path / "b.off")
    assert run("evaluate", tmp_path / "a.ply", tmp_path / "b.off", "--json") == 0
    # infinity is no JSON number
    assert one_object(capsys.readouterr().out) == {
        "chamfer": None,
        "floor": 0.25,
        "f_score": 0.5,
        "iou": None,
        "watertight": True,
    }
    options = ["--samples", "500", "--tau", "0.25", "--seed", "4"]
    assert run("evaluate", tmp_path / "a.ply", tmp_path / "b.off", *options) == 0
    assert capsys.readouterr().out.splitlines() == [
        "chamfer     -",
        "floor       0.25",
        "f_score     0.5",
        "iou         -",
        "watertight  yes",
    ]
    assert asked == [
        {
            **{"samples": 100_000, "tau": None, "seed": 0, "faces": 80, "reference": 12},
            "floor": (12, 100_000, 0),
        },
        {"samples": 500, "tau": 0.25, "seed": 4, "faces": 80, "reference": 12, "floor": (12, 500, 4)},
    ]


def test_evaluate_for_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trimesh.creation.icosphere(subdivisions=3).export(tmp_path / "a.ply")
    assert run("evaluate", tmp_path / "a.ply", tmp_path / "a.ply", "--samples", "2000", "--json") == 0
    figures = one_object(capsys.readouterr().out)
    assert set(figures) >= {
        "chamfer",
        "hausdorff",
        "f_score",
        "normal_consistency",
        "iou",
        "watertight",
        "euler",
        "volume",
    }
    assert (figures["iou"], figures["watertight"], figures["euler"]) == (1.0, True, 2)
    assert figures["chamfer"] == pytest.approx(figures["floor"], rel=1e-12)  # of the reference itself
    assert figures["floor"] > 0.0
    trimesh.PointCloud(trimesh.creation.icosphere(subdivisions=3).vertices).export(tmp_path / "b.ply")
    assert run("evaluate", tmp_path / "a.ply", tmp_path / "b.ply", "--samples", "2000", "--json") == 0
    assert one_object(capsys.readouterr().out)["floor"] is None  # of a cloud nobody knows it


def test_evaluate_wants_a_mesh_first(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", cloud, cloud) == 1
    assert "100 points and no faces" in capsys.readouterr().err


# --- doctor


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No subprocesses: importing Open3D and rendering take seconds and are tried by the test after these."""
    monkeypatch.setattr("ocsdf3d.viewer.probe.failure_of", lambda code: None)


@pytest.mark.usefixtures("quick_probes")
def test_doctor_finds_a_working_core(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["self_check"]["works"] is True
    assert found["free_memory"]["bytes"] > 0
    assert found["threads"]["torch"] >= 1
    assert {name: part["version"] is not None for name, part in found["core"].items()} == dict.fromkeys(
        doctor.CORE, True
    )
    assert found["hints"] == []
    assert run("doctor") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ok"


@pytest.mark.usefixtures("quick_probes")
def test_doctor_exits_1_when_a_core_package_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CORE", {**doctor.CORE, "no_such_module": "no-such-distribution"})
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "hint: the core lacks no_such_module" in out
    assert out.splitlines()[-1].startswith("broken")


@pytest.mark.usefixtures("quick_probes")
def test_doctor_exits_1_when_the_mesh_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ocsdf3d.surface.extract", lambda grid: trimesh.creation.icosphere(radius=1.1))
    assert run("doctor", "--json") == 1
    found = one_object(capsys.readouterr().out)
    assert found["self_check"]["works"] is False
    assert "misses it by 0.1" in found["self_check"]["detail"]


def test_doctor_hints_at_system_packages_and_still_exits_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ocsdf3d.viewer.probe.failure_of", lambda code: "ended by signal 11")
    assert run("doctor", "--json") == 0
    found = one_object(capsys.readouterr().out)
    assert found["rendering"]["works"] is False
    assert any(doctor.SYSTEM_LINE in hint for hint in found["hints"])


def test_doctor_knows_every_dependency(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w-]+", text)[0] for text in requirements}  # type: ignore[index]

    assert {*doctor.CORE.values(), "pyvista"} == names(project["dependencies"])
    for extra, modules in doctor.EXTRAS.items():
        known = {name for distributions in modules.values() for name in distributions}
        assert known & names(project["optional-dependencies"][extra]), extra
    untold = set(project["optional-dependencies"]) - set(doctor.EXTRAS)
    assert untold == {"all", "bench", "test"}  # these are for developers, or a sum of the others


def test_an_absent_extra_names_its_command() -> None:
    found = doctor._extra("web", "no_such_module", ("no-such-distribution",))
    assert found == {
        "version": None,
        "works": False,
        "detail": "not installed (pip install 'ocsdf3d[web]')",
    }


# --- small parts


def test_plain_makes_json_of_anything() -> None:
    value = {
        "path": Path("a"),
        "array": np.arange(3, dtype=np.float32),
        "bool": np.bool_(True),
        "nan": float("nan"),
        "box": Box(np.zeros(3), np.ones(3)),
        "tuple": (1, np.float64(np.inf)),
    }
    assert plain(value) == {
        "path": "a",
        "array": [0.0, 1.0, 2.0],
        "bool": True,
        "nan": None,
        "box": {"lower": [0.0, 0.0, 0.0], "upper": [1.0, 1.0, 1.0]},
        "tuple": [1, None],
    }
    assert type(plain(value)["bool"]) is bool


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")],
)
def test_bytes_in_words(count: int, text: str) -> None:
    assert human_bytes(count) == text
