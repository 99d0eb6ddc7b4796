"""Drafts: whose is removed, whose is left alone, and that every writer of files makes its own in this way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from ocsdf3d import durable, io
from ocsdf3d.cli import outputs
from ocsdf3d.container import seal
from ocsdf3d.durable import draft_of, put_in_place

pytest.importorskip("fcntl", reason="no locks that a killed process loses: drafts stay")

WRITER = """
import sys, time
from pathlib import Path
from ocsdf3d.durable import draft_of, put_in_place
target = Path(sys.argv[1])
with draft_of(target) as draft:
    draft.write_bytes(b"theirs")
    print("written", flush=True)
    if sys.stdin.readline():
        put_in_place(draft, target)
"""
SHOT = """
import os, signal, sys
import numpy, torch, trimesh
from pathlib import Path
from ocsdf3d import io
from ocsdf3d.bench import replaced
from ocsdf3d.cli.outputs import write_all
from ocsdf3d.container import seal
def shot(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
def table(path):
    with replaced(path) as draft:
        draft.write_text("a")
folder = Path(sys.argv[1])
for write in (
    lambda: io.write(folder / "mesh.ply", trimesh.creation.box()),
    lambda: seal(folder / "field.safetensors", "field", 1, {}, {"a": torch.zeros(3)}),
    lambda: write_all([(folder / name, lambda path: path.write_bytes(b"a")) for name in ("a.csv", "b.png")]),
    lambda: table(folder / "table.md"),
):
    child = os.fork()
    if child == 0:
        os.fsync = shot
        write()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def hidden(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written its draft of `tmp_path / "a.bin"` and waits for a line before it goes on."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.bin")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process
        process.kill()


def test_a_draft_of_the_killed_goes_and_one_of_the_living_stays(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    target = tmp_path / "a.bin"
    (draft,) = hidden(tmp_path)
    io.write_content(target, b"ours")
    assert target.read_bytes() == b"ours"
    assert hidden(tmp_path) == [draft]  # its writer lives
    other.send_signal(signal.SIGKILL)
    other.wait()
    io.write_content(tmp_path / "b.bin", b"another file")
    assert hidden(tmp_path) == [draft]  # not of this name
    io.write_content(target, b"again")
    assert hidden(tmp_path) == []
    assert target.read_bytes() == b"again"


def test_the_living_ends_as_if_it_were_alone(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    io.write_content(tmp_path / "a.bin", b"ours")
    other.communicate("on\n", timeout=30)
    assert other.returncode == 0
    assert (tmp_path / "a.bin").read_bytes() == b"theirs"
    assert hidden(tmp_path) == []


def test_two_drafts_of_one_process_do_not_take_each_other_for_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with draft_of(target) as first, draft_of(target) as second:
        first.write_bytes(b"1")
        second.write_bytes(b"2")
        put_in_place(first, target)
        assert target.read_bytes() == b"1"
        put_in_place(second, target)
    assert target.read_bytes() == b"2"
    assert hidden(tmp_path) == []


def test_every_writer_that_is_shot_is_tidied_up_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SHOT, str(tmp_path)], check=True, timeout=120)
    left = hidden(tmp_path)
    assert len(left) == 5  # the fourth was shot with two in hand
    assert sorted(tmp_path.iterdir()) == left  # nothing bears its name
    io.write(tmp_path / "mesh.ply", trimesh.creation.box())
    assert len(hidden(tmp_path)) == 4
    seal(tmp_path / "field.safetensors", "field", 1, {}, {"a": torch.zeros(3)})
    assert len(hidden(tmp_path)) == 3
    outputs.write_all([(tmp_path / name, lambda path: path.write_bytes(b"a")) for name in ("a.csv", "b.png")])
    assert len(hidden(tmp_path)) == 1
    io.write_content(tmp_path / "table.md", b"a")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mesh.ply", "field.safetensors", "a.csv", "b.png", "table.md")
    }


def test_a_folder_that_is_taken_in_the_moment_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sweep does between the making of a folder and its lock."""
    locked: list[str | Path] = []
    lock = durable._lock

    def late(folder: Path, *, wait: bool) -> int | None:
        got = lock(folder, wait=wait)
        if wait and not locked:
            os.rmdir(folder)
        locked.append(folder)
        return got

    monkeypatch.setattr(durable, "_lock", late)
    io.write_content(tmp_path / "a.bin", b"a")
    assert len(set(locked)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_where_there_are_no_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with draft_of(tmp_path / "a.bin") as draft:
        left = draft.parent
    monkeypatch.setattr(durable, "flock", None)
    with draft_of(tmp_path / "a.bin") as draft:
        draft.write_bytes(b"a")
        monkeypatch.undo()
        with draft_of(tmp_path / "a.bin"):  # who has locks leaves alone what was made without
            assert draft.exists()
    left.mkdir()
    monkeypatch.setattr(durable, "flock", None)
    io.write_content(tmp_path / "a.bin", b"a")
    assert sorted(tmp_path.iterdir()) == [left, tmp_path / "a.bin"]
    monkeypatch.undo()
    io.write_content(tmp_path / "a.bin", b"a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.bin"]


def test_a_link_of_a_drafts_name_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    out = tmp_path / "out"
    out.mkdir()
    with draft_of(out / "a.bin") as draft:
        name = draft.parent.name
    (out / name).symlink_to(kept)
    io.write_content(out / "a.bin", b"a")
    assert (kept / "file").exists()


def test_a_link_stays_a_link_and_its_draft_lies_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a.ply").symlink_to(tmp_path / "far" / "b.ply")
    with draft_of(tmp_path / "a.ply") as draft:
        assert (draft.name, draft.parent.parent) == ("a.ply", tmp_path / "far")
        draft.write_bytes(b"a")
        put_in_place(draft, tmp_path / "a.ply")
    assert (tmp_path / "a.ply").is_symlink()
    assert (tmp_path / "far" / "b.ply").read_bytes() == b"a"


def test_the_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".ply")
    io.write(path, trimesh.creation.box())
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_files_have_the_rights_that_files_have(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        seal(tmp_path / "a.safetensors", "field", 1, {}, {"a": torch.from_numpy(np.zeros(3))})
    finally:
        os.umask(umask)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640
