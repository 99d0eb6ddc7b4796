"""Many shapes: what is done stays done, what fails stops nothing, a lost worker costs the job in hand."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocsdf3d import __version__, checkpoint, io
from ocsdf3d.distribute import (
    Job,
    Manifest,
    carry_out,
    current_rows,
    named,
    over,
    report_of,
    run_batch,
    sources_of,
)
from ocsdf3d.distribute.cluster import LIVES
from ocsdf3d.durable import draft_of, sha256_of
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.presets import PRESETS, Preset


def small(steps: int = 40) -> Preset:
    fast = PRESETS["fast"]
    return dataclasses.replace(
        fast,
        network=NetworkConfig(inputs=3, width=16, depth=3),
        solid=dataclasses.replace(fast.solid, steps=steps, batch=128, refresh=20),
        pool=5_000,
        spheres=False,
    )


def make_cloud(path: Path, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(200, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, (1.0 + seed) * points / np.linalg.norm(points, axis=1, keepdims=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clouds in `in`, an empty `out`."""
    for seed in range(3):
        make_cloud(tmp_path / "in" / f"ball{seed}.xyz", seed)
    (tmp_path / "out").mkdir()
    return tmp_path


def jobs_of(folder: Path, manifest: Manifest, **changes: Any) -> list[Job]:
    out = folder / "out"
    sources = sources_of([str(folder / "in")], out)
    names = named(sources, out, ".ply", manifest.rows)
    options = {"preset": small(), "device": "cpu", "support": "solid", **changes}
    return [Job(str(source), str(names[source]), options, 24) for source in sources]


def batch(folder: Path, **changes: Any) -> tuple[Any, list[dict[str, Any]]]:
    with Manifest(folder / "out" / "manifest.jsonl") as manifest:
        jobs = jobs_of(folder, manifest, **changes)
        summary = run_batch(jobs, manifest)
        return summary, current_rows(jobs, manifest)


# --- what is done stays done


def test_a_batch_is_done_once(folder: Path) -> None:
    first, rows = batch(folder)
    assert (first.done, first.kept, first.failed, first.left) == (3, 0, 0, 0)
    for seed, row in enumerate(rows):
        mesh = io.read(row["mesh"])
        assert mesh.is_watertight
        assert row["watertight"] is True
        assert row["euler"] == mesh.euler_number
        assert row["points"] == 200
        assert row["source_sha256"] == sha256_of(folder / "in" / f"ball{seed}.xyz")
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), 2.0 * (1.0 + seed), rtol=0.2)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*.ply")}
    again, same = batch(folder)
    assert (again.done, again.kept) == (0, 3)
    assert same == rows
    assert before == {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*.ply")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished batch of one; tests put back what they change."""
    folder = tmp_path_factory.mktemp("done")
    make_cloud(folder / "in" / "ball.xyz", 0)
    (folder / "out").mkdir()
    assert batch(folder)[0].done == 1
    return folder


def planned(folder: Path, **changes: Any) -> bool:
    """Whether the batch would do its one shape again."""
    with Manifest(folder / "out" / "manifest.jsonl") as manifest:
        (job,) = jobs_of(folder, manifest, **changes)
        return manifest.whole(job.source, job.key) is None


def test_other_bytes_options_or_outputs_are_done_again(done: Path) -> None:
    assert not planned(done)
    assert planned(done, seed=1)
    assert planned(done, preset=small(41))
    for path in (done / "in" / "ball.xyz", done / "out" / "ball.ply"):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        assert planned(done)
        path.write_bytes(content)
        assert not planned(done)
    (done / "out" / "ball.ply").rename(done / "out" / "moved")
    assert planned(done)
    (done / "out" / "moved").rename(done / "out" / "ball.ply")


def test_the_key_tells_every_setting_apart() -> None:
    job = Job("/a.off", "/out/a.ply", {"seed": 0})
    others = [
        dataclasses.replace(job, mesh="/out/a.obj"),
        dataclasses.replace(job, options={"seed": 1}),
        dataclasses.replace(job, resolution=201),
        dataclasses.replace(job, field="/out/a.safetensors"),
        dataclasses.replace(job, version="0"),
    ]
    assert len({job.key, *(other.key for other in others)}) == 6
    same = dataclasses.replace(job, source="/b.off", mesh="/out/b.ply", picture="/out/b.jpg")
    assert same.key == job.key


def test_a_failed_shape_stops_nothing_and_is_tried_again(folder: Path) -> None:
    (folder / "in" / "ball1.xyz").write_text("1 2\n")
    summary, rows = batch(folder)
    assert (summary.done, summary.failed, summary.left) == (2, 1, 0)
    errors = [row["error"] for row in rows]
    assert errors[0] is None
    assert errors[2] is None
    assert "ball1.xyz" in errors[1]
    assert "\n" not in errors[1]
    make_cloud(folder / "in" / "ball1.xyz", 1)
    summary, rows = batch(folder)
    assert (summary.done, summary.kept, summary.failed) == (1, 2, 0)
    assert [row["error"] for row in rows] == [None] * 3


def test_a_field_is_written_too(done: Path, tmp_path: Path) -> None:
    job = Job(
        str(done / "in" / "ball.xyz"),
        str(tmp_path / "new" / "ball.stl"),
        {"preset": small(), "device": "cpu", "support": "solid"},
        24,
        field=str(tmp_path / "new" / "ball.safetensors"),
    )
    (tmp_path / "new").mkdir()
    with draft_of(job.mesh) as draft:
        left = draft
    left.parent.mkdir()  # as of a worker that was killed while writing
    left.write_bytes(b"half")
    figures = carry_out(job)
    field = checkpoint.load(job.field, device="cpu")
    assert figures["lipschitz"] == field.lipschitz
    assert figures["field_sha256"] == sha256_of(job.field)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"ball.stl", "ball.safetensors"}
    assert json.loads(json.dumps(figures)) == figures


def test_one_thread_and_the_callers_afterwards(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fit(*_: object, **__: object) -> None:
        seen.append(torch.get_num_threads())
        raise ValueError("enough")

    monkeypatch.setattr("ocsdf3d.distribute.work.fit", fit)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="enough"):
            carry_out(Job(str(done / "in" / "ball.xyz"), str(done / "out" / "other.ply"), {}))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_another_version_refuses_the_job() -> None:
    with pytest.raises(RuntimeError, match=rf"has ocsdf3d {__version__}, this batch is of 9\.9"):
        carry_out(Job("/a.off", "/a.ply", {}, version="9.9"))


def test_a_format_that_cannot_hold_the_place_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "far.npy", np.random.default_rng(0).normal(size=(50, 3)) + 1e9)
    monkeypatch.setattr("ocsdf3d.distribute.work.fit", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(io.WriteError, match="float32 only"):
        carry_out(Job(str(tmp_path / "far.npy"), str(tmp_path / "far.stl"), {}))
    assert [path.name for path in tmp_path.iterdir()] == ["far.npy"]


# --- which files, under which names


def test_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cloud(folder / "in" / "deep" / "er" / "x.xyz", 0)
    (folder / "in" / "notes.md").write_text("none")
    make_cloud(folder / "out" / "ball0.xyz", 0)  # a result is no input
    out = folder / "out"
    names = ["ball0.xyz", "ball1.xyz", "ball2.xyz"]
    assert [path.name for path in sources_of([str(folder / "in")], out)] == [*names, "x.xyz"]
    assert [path.name for path in sources_of([str(folder / "in" / "*.xyz")], out)] == names
    twice = [str(folder / "in" / "ball0.xyz"), str(folder / "**" / "*.xyz")]
    assert [path.name for path in sources_of(twice, out)] == [*names, "x.xyz"]
    monkeypatch.chdir(folder)
    assert sources_of(["in/ball0.xyz"], Path("out")) == [folder / "in" / "ball0.xyz"]
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        sources_of(["gone"], out)
    with pytest.raises(FileNotFoundError, match="no file of that pattern"):
        sources_of([str(folder / "in" / "*.las")], out)
    with pytest.raises(FileNotFoundError, match="only files in"):
        sources_of([str(out / "*.xyz")], out)


def test_names_keep_the_tree_and_what_they_are() -> None:
    sources = [Path("/data/a/x.off"), Path("/data/a/x.stl"), Path("/data/b/x.off")]
    names = named(sources, Path("/out"), ".ply", {})
    assert list(names.values()) == [Path("/out/a/x.ply"), Path("/out/a/x.stl.ply"), Path("/out/b/x.ply")]
    # Alone in its folder the first would be /out/x.ply; what it was called stays when others come or go.
    known = {str(source): {"mesh": str(name)} for source, name in names.items()}
    assert named(sources[:1], Path("/out"), ".ply", known) == {sources[0]: Path("/out/a/x.ply")}
    more = [*sources, Path("/data/a/x.ply")]
    assert named(more, Path("/out"), ".ply", known)[more[3]] == Path("/out/a/x.ply.ply")
    assert named(sources[:1], Path("/out"), ".obj", known) == {sources[0]: Path("/out/x.obj")}


# --- the manifest


def row(source: str, **more: Any) -> dict[str, Any]:
    return {"source": source, "mesh": "/m.ply", "key": "k", "error": None, **more}


def test_a_line_that_a_power_cut_left_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with Manifest(path) as manifest:
        manifest.add(row("a"))
        manifest.add(row("b", error="x"))
        manifest.add(row("b"))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 9])  # the third line, torn
    with Manifest(path) as manifest:
        assert manifest.damaged == 1
        assert manifest.rows["b"]["error"] == "x"
        manifest.add(row("c"))
    with Manifest(path) as manifest:
        assert (list(manifest.rows), manifest.damaged) == (["a", "b", "c"], 0)


def test_a_damaged_line_costs_its_row_only(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [json.dumps(row("a")), "{", "[]", '{"source": 1}', json.dumps(row("b"))]
    path.write_text("\n".join(lines) + "\n")
    with Manifest(path) as manifest:
        assert (list(manifest.rows), manifest.damaged) == (["a", "b"], 3)


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "manifest.jsonl"
    with Manifest(path), pytest.raises(io.WriteError, match="another batch is writing here"):
        Manifest(path)
    Manifest(path).__exit__(None, None, None)


def test_a_full_disk_leaves_a_manifest_that_reads(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"

    class Full:
        """The file, on a disk with room for ten more bytes."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 10

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room = 0
            return int(self.file.write(data[:10]))

    with Manifest(path) as manifest:
        manifest.add(row("a"))
        before = path.read_bytes()
        real, manifest._file = manifest._file, Full(manifest._file)
        with pytest.raises(OSError, match="No space left"):
            manifest.add(row("b"))
        assert list(manifest.rows) == ["a"]
        assert path.read_bytes() == before
        manifest._file = real
        manifest.add(row("c"))
    with Manifest(path) as manifest:
        assert (list(manifest.rows), manifest.damaged) == (["a", "c"], 0)


# --- the report


def test_report(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"JPEG")
    figures = {
        **{"points": 2048, "support": "solid", "seconds": 1.25, "vertices": 4, "faces": 1000, "euler": -2},
        **{"watertight": False, "no_picture": None, "picture": str(tmp_path / "a.jpg")},
    }
    good = row("/in/<a>.off", **{**figures, "mesh": str(tmp_path / "deep" / "<a> b.ply")})
    blind = row("/in/b.off", **{**figures, "watertight": True, "picture": None, "no_picture": "no <EGL>"})
    bad = row("/in/c.off", error="c.off: 5 < 8 & broken")
    text = report_of([good, blind, bad], tmp_path, left=7)
    assert "2 shapes done, 1 watertight, 1 failed, 7 not reached, 2 seconds of work" in text
    assert "No pictures: no &lt;EGL&gt;" in text
    assert "c.off: 5 &lt; 8 &amp; broken" in text
    assert 'href="deep/%3Ca%3E%20b.ply"' in text
    assert "data:image/jpeg;base64,SlBFRw==" in text
    assert "<td>2,048</td><td>solid</td><td>1.2</td><td>4</td><td>1,000</td><td>-2</td>" in text
    assert text.index("c.off") < text.index("&lt;a&gt;.off")  # failures first
    assert "http" not in text  # opens from disk


def test_a_picture_where_this_machine_can_draw(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from ocsdf3d.distribute import work

    mesh = io.read(done / "out" / "ball.ply")
    monkeypatch.setattr(work, "why_not", lambda: "ended by signal 11")
    assert "ended by signal 11; on Debian: apt-get" in work._drawn(tmp_path / "a.jpg", mesh)
    assert not (tmp_path / "a.jpg").exists()
    monkeypatch.undo()
    if work.why_not() is not None:
        pytest.skip("off-screen rendering does not work here")
    assert work._drawn(tmp_path / "a.jpg", mesh) is None
    with Image.open(tmp_path / "a.jpg") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (240, 320, 3)
    assert 0.05 < (pixels.sum(axis=2) < 700).mean() < 0.8  # something is there, and white around it


# --- workers


def deed(job: tuple[str, str]) -> tuple[int, int, object, str]:
    """What a worker is asked here: a word, and a file that its process leaves."""
    word, mark = job
    first = not Path(mark).exists()
    Path(mark).write_text(str(os.getpid()))
    if word == "raise":
        raise ValueError("said so")
    if word == "die" or (word == "die once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "wait" and first:
        time.sleep(60.0)
    trim = os.environ.get("MALLOC_TRIM_THRESHOLD_", "")
    return os.getpid(), torch.get_num_threads(), signal.getsignal(signal.SIGINT), trim


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two worker processes, and every mishap at once: one cluster takes seconds to start."""
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("lost")
    words = ["well 1", "die once", "raise", "well 2", "well 3"]
    jobs = [(word, str(folder / word)) for word in words]
    with socket.socket() as taken:  # the port that Dask takes by itself, as beside another batch
        with suppress(OSError):  # or another has it already
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        return {back.job[0]: back for back in over(deed, jobs, workers=2)}


def test_a_killed_worker_costs_nothing_but_the_job_in_hand(lost: dict[str, Any]) -> None:
    assert len(lost) == 5
    for word in ("well 1", "well 2", "well 3", "die once"):
        assert lost[word].error is None
    assert lost["die once"].begun == 2
    assert lost["raise"].begun == 1
    assert str(lost["raise"].error) == "said so"


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """Three restarts of a worker, some of them while it is starting."""
    pytest.importorskip("distributed")
    jobs = [(word, str(tmp_path / word)) for word in ("die", "well 1", "well 2")]
    back = {one.job[0]: one for one in over(deed, jobs, workers=2)}
    assert f"{LIVES} workers died that had it" in str(back["die"].error)
    assert 1 <= back["die"].begun <= LIVES  # it may have waited on one that died of something else
    assert back["well 1"].error is back["well 2"].error is None


def test_workers_are_processes_of_one_thread_deaf_to_interrupts(lost: dict[str, Any]) -> None:
    for word in ("well 1", "well 2", "well 3"):
        process, threads, handler, trim = lost[word].value
        assert process != os.getpid()
        assert threads == 1
        assert handler == signal.SIG_IGN
        assert int(trim) == 256 * 2**20  # Dask's own 65536 costs a quarter of the time


LISTENER = """
import sys
sys.path.insert(0, {tests!r})
from test_distribute import take_time
from ocsdf3d.cli.interrupt import Interrupt
from ocsdf3d.distribute import over
with Interrupt() as interrupt:
    interrupt.training = True
    jobs = [("slow", sys.argv[1] + str(number)) for number in range(6)]
    done = [back for back in over(take_time, jobs, workers=2, stop=interrupt.stop)]
print(len(done), [str(back.error) for back in done], [back.begun for back in done])
"""


def take_time(job: tuple[str, str]) -> None:
    """A job of three seconds that says when it begins."""
    Path(job[1]).write_text("begun")
    time.sleep(3.0)


@pytest.mark.slow
def test_an_interrupt_of_the_whole_terminal_lets_the_jobs_in_hand_end(tmp_path: Path) -> None:
    """A terminal sends SIGINT to workers as well as to the one who hands out."""
    pytest.importorskip("distributed")
    code = LISTENER.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(tmp_path / "job")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    limit = time.monotonic() + 120.0
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    assert child.communicate(timeout=60.0)[0] == "2 ['None', 'None'] [1, 1]\n"
    assert child.returncode == 0


def test_here_and_a_scheduler_that_is_given(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    jobs = [(word, str(tmp_path / word)) for word in ("well 1", "raise")]
    here = list(over(deed, jobs))
    assert [back.value and back.value[0] for back in here] == [os.getpid(), None]
    assert list(over(deed, jobs, stop=lambda: True)) == []
    alone = {"processes": False, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with LocalCluster(n_workers=1, threads_per_worker=1, **alone) as cluster:
        there = list(over(deed, jobs, scheduler=cluster.scheduler_address))
        assert list(over(deed, jobs, scheduler=cluster.scheduler_address, stop=lambda: True)) == []
    assert [back.job for back in there] == jobs
    assert there[0].value[0] == os.getpid()
    assert str(there[1].error) == "said so"


def test_a_cluster_that_has_lost_its_workers_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies while it starts is not started again by Dask: nothing would ever come back."""
    pytest.importorskip("distributed")
    from distributed import Client, LocalCluster

    from ocsdf3d.distribute import cluster as ours

    monkeypatch.setattr(ours, "TICK", 0.2)
    alone = {"processes": False, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, **alone) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        jobs = [("well 1", str(tmp_path / "1")), ("well 2", str(tmp_path / "2"))]
        back = list(ours._there(client, lambda: cluster.scale(1), deed, jobs, lambda: False))
    assert [(one.job, one.error, one.begun) for one in back] == [(job, None, 1) for job in jobs]


def test_no_scheduler_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ocsdf3d.distribute.cluster.PATIENCE", 0.5)
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(over(deed, [("well", "/")], scheduler="tcp://127.0.0.1:9"))
