"""Whether this machine can draw: asked elsewhere, told in words, and only a yes is remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ocsdf3d.viewer import probe
from ocsdf3d.viewer.probe import (
    LIMIT,
    SYSTEM_LINE,
    RenderingError,
    failure_of,
    prefer_egl,
    require_rendering,
    why_not,
)

WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a display is taken for granted")


class Asked:
    """Stands for the other process: ends as it is told to, and counts how often it was started."""

    def __init__(self) -> None:
        self.times = 0
        self.code, self.stderr = 0, ""
        self.error: Exception | None = None
        self.environment: dict[str, str] = {}

    def __call__(self, command: list[str], **options: Any) -> SimpleNamespace:
        self.times += 1
        assert command[0] == sys.executable
        assert options["timeout"] == LIMIT
        self.environment = options["env"]
        if self.error is not None:
            raise self.error
        return SimpleNamespace(returncode=self.code, stdout="", stderr=self.stderr)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an answer is kept: an empty folder; no display, and no window of the user's choice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", WINDOW, "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "ocsdf3d" / "rendering.json"


@pytest.fixture
def asked(store: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    process = Asked()
    monkeypatch.setattr(subprocess, "run", process)
    return process


# ---------------------------------------------------------------------------------------------- memory


def test_a_yes_is_remembered(asked: Asked, store: Path) -> None:
    assert why_not() is None
    assert store.exists()
    assert why_not() is None
    assert asked.times == 1
    assert why_not(remembered=False) is None
    assert asked.times == 2


@linux
def test_a_yes_is_remembered_by_a_process_that_was_readied_and_by_the_next(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preferring EGL changes the environment, on which the answer depends: not into another question."""
    monkeypatch.setenv(WINDOW, "")
    monkeypatch.delenv(WINDOW)  # so that it is taken away again afterwards
    require_rendering()
    assert os.environ[WINDOW] == "vtkEGLRenderWindow"
    require_rendering()
    monkeypatch.delenv(WINDOW)
    require_rendering()
    assert asked.times == 1


def test_a_no_is_not(asked: Asked, store: Path) -> None:
    asked.code = 1
    assert why_not() is not None
    assert not store.exists()
    asked.code = 0  # the libraries were installed: that is all that is needed
    assert why_not() is None
    assert asked.times == 2


def test_a_no_after_a_yes_is_heard_when_asked_again(asked: Asked) -> None:
    assert why_not() is None
    asked.code = 1
    assert why_not(remembered=False) is not None


def test_other_libraries_are_another_question(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "ld.so.cache"
    libraries.touch()
    monkeypatch.setattr(probe, "_LIBRARIES", libraries)
    os.utime(libraries, ns=(10**18, 10**18))
    why_not()
    why_not()
    assert asked.times == 1
    os.utime(libraries, ns=(10**18, 10**18 + 10**9))  # a second later, as a package manager does
    why_not()
    assert asked.times == 2
    libraries.unlink()  # a system without such a file
    why_not()
    why_not()
    assert asked.times == 3


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", WINDOW, "LD_LIBRARY_PATH"])
def test_what_decides_how_is_part_of_the_question(
    name: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    why_not()
    monkeypatch.setenv(name, "another")
    why_not()
    assert asked.times == 2
    monkeypatch.setenv("OCSDF3D_OF_NO_IMPORT", "another")  # the control: not everything is
    why_not()
    assert asked.times == 2


@pytest.mark.parametrize("content", ["", "{", "null", "[]", '["python", 0]', "\x00\xff"])
def test_a_spoilt_memory_is_none(content: str, asked: Asked, store: Path) -> None:
    store.parent.mkdir(parents=True)
    store.write_text(content, encoding="latin-1")
    assert why_not() is None
    assert asked.times == 1
    assert json.loads(store.read_text(encoding="utf-8"))[0] == sys.executable
    assert why_not() is None
    assert asked.times == 1


def test_nothing_but_the_answer_is_left(asked: Asked, store: Path) -> None:
    why_not()
    why_not(remembered=False)
    assert list(store.parent.iterdir()) == [store]


def test_a_home_that_cannot_be_written_to_does_no_harm(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = tmp_path / "a file"  # also for root, whom no permission stops
    occupied.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    assert why_not() is None
    assert why_not() is None
    assert asked.times == 2
    assert occupied.read_bytes() == b""


def test_no_home_does_no_harm(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")  # what pathlib says

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert why_not() is None
    assert asked.times == 1


def test_without_a_cache_folder_it_is_below_home(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # empty counts as unset (XDG Base Directory Specification)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    why_not()
    assert (tmp_path / ".cache" / "ocsdf3d" / "rendering.json").exists()


# ---------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("code", "stderr", "told"),
    [
        (-11, "some output\n", "ended by signal 11"),  # what it said before is not the reason
        (-6, "", "ended by signal 6"),
        (1, "Traceback\n  File\nImportError: libGL.so.1\n\n", "ImportError: libGL.so.1"),
        (3, "", "exit code 3"),  # a picture of one colour
        (3, " \n ", "exit code 3"),
    ],
)
def test_how_it_ended_is_told(code: int, stderr: str, told: str, asked: Asked) -> None:
    asked.code, asked.stderr = code, stderr
    assert why_not() == told


def test_a_timeout_is_told(asked: Asked) -> None:
    asked.error = subprocess.TimeoutExpired("python", LIMIT)
    assert why_not() == "no answer within 120 s"


def test_the_error_names_the_reason_and_the_packages(asked: Asked) -> None:
    asked.code = -11
    with pytest.raises(RenderingError) as caught:
        require_rendering()
    assert str(caught.value) == (
        "this machine cannot draw (ended by signal 11). On Debian: "
        "apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1"
    )
    assert SYSTEM_LINE in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('all is well')", None),
        ("raise SystemExit(3)", "exit code 3"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os.abort()", "ended by signal 6"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
    ],
)
def test_real_processes_are_told_of_the_same_way(code: str, expected: str | None) -> None:
    if "abort" in code and sys.platform == "win32":
        pytest.skip("no signals")
    limit = 0.5 if "sleep" in code else 60.0  # seconds; a bare interpreter starts in a twentieth
    assert failure_of(code, limit) == expected


# ---------------------------------------------------------------------------------------------- EGL


@linux
def test_egl_is_preferred_without_a_display(asked: Asked) -> None:
    chosen: dict[str, str] = {}
    prefer_egl(chosen)
    assert chosen == {WINDOW: "vtkEGLRenderWindow"}
    assert WINDOW not in os.environ  # a dictionary that is given is the one that is changed
    why_not()
    assert asked.environment[WINDOW] == "vtkEGLRenderWindow"
    assert WINDOW not in os.environ  # asking alone decides nothing here


@linux
def test_passing_readies_this_process(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WINDOW, "")
    monkeypatch.delenv(WINDOW)  # so that it is taken away again afterwards
    require_rendering()
    assert os.environ[WINDOW] == "vtkEGLRenderWindow"


@pytest.mark.parametrize("display", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_display_is_left_alone(display: str, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(display, ":0")
    require_rendering()
    assert WINDOW not in os.environ
    assert WINDOW not in asked.environment


def test_a_choice_of_the_users_stays(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WINDOW, "vtkOSOpenGLRenderWindow")
    require_rendering()
    assert os.environ[WINDOW] == asked.environment[WINDOW] == "vtkOSOpenGLRenderWindow"


@pytest.mark.parametrize(
    ("platform", "display", "expected"),
    [("linux", "", False), ("linux", ":0", True), ("darwin", "", True), ("win32", "", True)],
)
def test_a_display_is_asked_for_on_linux_only(
    platform: str, display: str, expected: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(sys, "platform", platform)
    assert probe.has_display() is expected
    chosen: dict[str, str] = {}
    prefer_egl(chosen)
    assert bool(chosen) is not expected


# ---------------------------------------------------------------------------------------------- for real


def test_a_real_crash_is_survived_and_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of window that VTK does not have ends it as missing libraries do: by a segmentation fault."""
    monkeypatch.setenv(WINDOW, "vtkNoSuchRenderWindow")
    reason = why_not()
    if reason is None:
        pytest.skip("this VTK draws although its window does not exist")
    assert not store.exists()
    if sys.platform == "linux":
        assert reason == "ended by signal 11"
