"""A training that was killed ends as if it had not been: the same weights, level and curves, bit for bit."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import environment

from ocsdf3d import container, io, pipeline
from ocsdf3d.cli import main
from ocsdf3d.complement import WalkConfig
from ocsdf3d.container import CheckpointError
from ocsdf3d.field import SDF
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.lipschitz.workers import Workers
from ocsdf3d.pipeline import fit
from ocsdf3d.presets import PRESETS, Preset
from ocsdf3d.resume import Keeper, Standing
from ocsdf3d.train import TrainConfig


def small(**changes: Any) -> Preset:
    """A preset of 120 steps with everything that has a state: refreshes, anchors, momentum."""
    fast = PRESETS["fast"]
    solid = dataclasses.replace(fast.solid, steps=120, batch=64, anchors=32, refresh=25, report=10, **changes)
    return dataclasses.replace(
        fast, network=NetworkConfig(inputs=3, width=16, depth=3), solid=solid, pool=4_000, spheres=False
    )


def lazy() -> Preset:
    """The paper's source and optimiser: walked batches that serve three steps, RMSprop, no refresh."""
    config = TrainConfig(
        steps=60,
        batch=32,
        optimizer="rmsprop",
        rate=1e-3,
        updates=3,
        warm=10,
        report=10,
        walk=WalkConfig(steps=2),
    )
    network = NetworkConfig(
        inputs=3, width=16, depth=2, activation="full_sort", constraint="bjorck", bias=0.0
    )
    return Preset(network, config, config, sure=0.0, spheres=False, skin=False)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(250, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def after(reports: int) -> Callable[[], bool]:
    """A `stop` that ends a training at its so many-th report."""
    left = [reports]

    def stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return stop


def assert_same(one: SDF, other: SDF) -> None:
    assert one.proof.hash == other.proof.hash
    assert one.level == other.level
    assert one.history["curves"] == other.history["curves"]
    assert one.history["steps"] == other.history["steps"]


@pytest.mark.parametrize(("preset", "reports"), [(small(), 3), (lazy(), 2)], ids=["solid", "paper"])
def test_the_same_end(points: np.ndarray, tmp_path: Path, preset: Preset, reports: int) -> None:
    options: dict[str, Any] = {"preset": preset, "device": "cpu", "seed": 3}
    options["support"] = "shell" if preset.network.constraint == "bjorck" else "solid"
    kept = tmp_path / "kept.safetensors"
    whole = fit(points, **options)
    part = fit(points, **options, checkpoint=kept, stop=after(reports))
    assert part.history["interrupted"]
    assert part.history["steps"] == 10 * reports
    assert part.proof.hash != whole.proof.hash
    found = fit(points, **options, checkpoint=kept, resume=True)
    assert_same(found, whole)
    assert found.history["resumed"] == 10 * reports
    again = fit(points, **options, checkpoint=kept, resume=True)  # of a run that is done
    assert_same(again, whole)
    assert again.history["resumed"] == preset.solid.steps


def test_threads_are_those_it_was_begun_with(points: np.ndarray, tmp_path: Path) -> None:
    options: dict[str, Any] = {"preset": small(), "device": "cpu", "support": "solid"}
    kept = tmp_path / "kept.safetensors"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        whole = fit(points, **options)
        fit(points, **options, checkpoint=kept, stop=after(4))
        torch.set_num_threads(1)
        assert fit(points, **options).proof.hash != whole.proof.hash  # else this shows nothing
        assert_same(fit(points, **options, checkpoint=kept, resume=True), whole)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        with Workers(torch.device("cpu"), 1) as workers:
            assert (workers.count, torch.get_num_threads()) == (1, 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_not_the_same_training_is_refused(
    points: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"preset": small(), "device": "cpu", "support": "solid"}
    kept = tmp_path / "kept.safetensors"
    fit(points, **options, checkpoint=kept, stop=after(1))
    content = kept.read_bytes()

    def refused(match: str, source: np.ndarray = points, **changes: Any) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            fit(source, **{**options, **changes}, checkpoint=kept, resume=True)
        assert str(kept) in str(caught.value)
        assert kept.read_bytes() == content

    refused("a training of another input", points[::-1])
    refused("a training of `seed` 0, not 1", seed=1)
    refused("a training of `support` 'solid', not 'auto'", support="auto")
    refused(r"a training of `lam` 1000\.0, not 7\.0", lam=7.0)
    refused("a training of `points` None, not 200", points=200)
    refused("a training of `smooth` True, not False", smooth=False)
    refused(
        "a training of `width` 16, not 32",
        preset=dataclasses.replace(small(), network=NetworkConfig(3, 32, 3)),
    )
    # Other pools from the same input: as a library of another version might make them.
    real = pipeline.source_of

    def moved(*arguments: Any) -> Any:
        source = real(*arguments)
        source.pools[0] = source.pools[0].nextafter(source.pools[0] + 1.0)
        return source

    monkeypatch.setattr(pipeline, "source_of", moved)
    refused("make other pools here")
    monkeypatch.undo()
    for damaged in (content[:-100], content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]):
        kept.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            fit(points, **options, checkpoint=kept, resume=True)
        assert kept.read_bytes() == damaged
    with pytest.raises(ValueError, match="`resume` needs a `checkpoint`"):
        fit(points, resume=True)
    with pytest.raises(io.WriteError, match=r"kept\.pt: cannot write \.pt"):
        fit(points, checkpoint=tmp_path / "kept.pt")


def test_a_level_may_change_on_the_way(points: np.ndarray, tmp_path: Path) -> None:
    """It is no part of the training."""
    options: dict[str, Any] = {"preset": small(), "device": "cpu", "support": "solid"}
    kept = tmp_path / "kept.safetensors"
    fit(points, **options, checkpoint=kept, stop=after(1))
    assert fit(points, **options, level=0.125, checkpoint=kept, resume=True).level == 0.125


# --- the file


def standing(steps: int = 1) -> Standing:
    return Standing(steps, 1, {"loss": [0.5]}, {"held.at": torch.tensor([steps])}, 2.0)


def test_written_when_it_is_time(tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    asked = []

    def stands() -> Standing:
        asked.append(True)
        return standing(len(asked))

    keeper = Keeper(kept, {"input": "x"}, 1000.0)
    keeper(stands, last=False)
    assert not asked
    assert not kept.exists()
    keeper(stands, last=True)
    found = Keeper(kept, {"input": "x"}).found()
    assert found is not None
    assert (found.steps, found.workers, found.curves, found.seconds) == (1, 1, {"loss": [0.5]}, 2.0)
    keeper = Keeper(kept, {"input": "x"}, 0.0)
    keeper(stands, last=False)
    assert Keeper(kept, {"input": "x"}).found().steps == 2  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="`every` must not be negative"):
        Keeper(kept, {}, -1.0)


def test_a_full_disk_keeps_the_last_one_and_the_training(
    points: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"preset": small(), "device": "cpu", "support": "solid", "every": 0.0}
    kept = tmp_path / "kept.safetensors"
    real, written = Path.write_bytes, []

    def write(path: Path, data: bytes) -> int:
        if "kept" in path.name:
            written.append(path)
            if len(written) > 2:
                real(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.warns(RuntimeWarning, match=r"not written \(No space left.*the last is of step 20"):
        full = fit(points, **options, checkpoint=kept)
    monkeypatch.undo()
    assert len(written) == 12
    assert not full.history["interrupted"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.safetensors"]
    found = fit(points, **options, checkpoint=kept, resume=True)
    assert found.history["resumed"] == 20
    assert_same(found, full)


def test_bytes_are_on_disk_before_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut could lose: a name without its bytes. Watched at the system calls, by inode."""
    from ocsdf3d.cli import outputs
    from ocsdf3d.geometry import PointCloud

    synced: list[int] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real_sync(descriptor)

    def replace(source: Any, target: Any) -> None:
        assert os.stat(source).st_ino in synced, f"{target} got its name first"
        real_replace(source, target)
        synced.clear()

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    folder = tmp_path.stat().st_ino
    io.write(tmp_path / "a.npy", PointCloud(np.eye(3)))
    assert synced == [folder]
    container.seal(tmp_path / "b", "training", 1, {}, {"x": torch.zeros(3)})
    assert synced == [folder]
    outputs.write_all([(tmp_path / "c", lambda path: path.write_bytes(b"c"))])
    assert synced == [folder]


# --- the command line


def run(*argv: object) -> int:
    return main([str(argument) for argument in argv])


@pytest.fixture
def cloud(points: np.ndarray, tmp_path: Path) -> Path:
    np.savetxt(tmp_path / "scan.xyz", points)
    return tmp_path / "scan.xyz"


def test_flags_reach_fit(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fit(source: object, **options: Any) -> SDF:
        calls.append(options)
        raise ValueError("enough")

    monkeypatch.setattr("ocsdf3d.pipeline.fit", fit)
    kept = cloud.with_name("kept.safetensors")
    assert run("reconstruct", cloud) == 1
    assert run("reconstruct", cloud, "--checkpoint", kept, "--checkpoint-every", "2.5", "--resume") == 1
    assert f"{kept} is not there yet: training begins" in capsys.readouterr().err
    names = ("checkpoint", "every", "resume")
    assert [[made[name] for name in names] for made in calls] == [[None, 30.0, False], [str(kept), 2.5, True]]
    kept.write_bytes(b"an older one")
    assert run("reconstruct", cloud, "--checkpoint", kept) == 1
    assert f"{kept} exists and will be overwritten" in capsys.readouterr().err
    assert run("reconstruct", cloud, "--checkpoint", kept, "--resume") == 1
    assert "overwritten" not in capsys.readouterr().err
    assert run("reconstruct", cloud, "--resume") == 2
    assert "--resume goes on from --checkpoint FILE" in capsys.readouterr().err
    assert run("reconstruct", cloud, "--checkpoint", cloud.with_suffix(".pt")) == 1
    assert "cannot write .pt" in capsys.readouterr().err
    assert len(calls) == 4


@pytest.fixture
def tiny_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "fast", small())


@pytest.mark.usefixtures("tiny_fast")
def test_terminated_and_resumed(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM ends the training and keeps it; the mesh of the resumed one has the bytes of the whole."""
    from ocsdf3d import train

    given = ["--preset", "fast", "--resolution", "24", "--support", "solid", "--device", "cpu"]
    assert run("reconstruct", cloud, *given, "-o", cloud.with_name("whole.ply")) == 0
    kept = cloud.with_name("kept.safetensors")
    given += ["-o", cloud.with_name("resumed.ply"), "--checkpoint", kept, "--resume"]
    real, times = train._figures, []

    def figures(*arguments: Any) -> dict[str, float]:
        times.append(True)
        if len(times) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(train, "_figures", figures)
    assert run("reconstruct", cloud, *given) == 143
    assert f"terminated after 30 steps; --resume goes on from {kept}" in capsys.readouterr().err
    assert not cloud.with_name("resumed.ply").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert run("reconstruct", cloud, *given) == 0
    assert f"went on from step 30 of {kept}" in capsys.readouterr().err
    assert cloud.with_name("resumed.ply").read_bytes() == cloud.with_name("whole.ply").read_bytes()


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from test_resume import small
from ocsdf3d import presets
presets.PRESETS["fast"] = small()
from ocsdf3d.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("tiny_fast")
def test_killed_and_resumed(cloud: Path) -> None:
    """kill -9 as soon as there is a checkpoint, then the same command to its end."""
    given = ["--preset", "fast", "--resolution", "24", "--support", "solid", "--device", "cpu", "-q"]
    out, kept = cloud.with_name("killed.ply"), cloud.with_name("killed.safetensors")
    whole = cloud.with_name("whole.ply")
    code = CHILD.format(tests=str(Path(__file__).parent))
    begin = [sys.executable, "-c", code, "reconstruct", str(cloud)]
    # in a process of its own as well: this one may have another number of threads by now
    assert subprocess.run([*begin, "-o", str(whole), *given], env=environment(), check=False).returncode == 0
    command = [*begin, "-o", str(out), *given]
    command += ["--checkpoint", str(kept), "--checkpoint-every", "0", "--resume"]
    child = subprocess.Popen(command, env=environment())
    limit = time.monotonic() + 60.0
    while not kept.exists() and time.monotonic() < limit:
        time.sleep(0.001)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    assert subprocess.run(command, env=environment(), check=False).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


def test_interrupt_hears_sigterm_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocsdf3d.cli.interrupt import Interrupt

    with Interrupt():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with Interrupt(terminate=True) as interrupt:
        interrupt.writing = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert not interrupt.requested
        interrupt.writing, interrupt.training = False, True
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        assert interrupt.terminated
        interrupt.training = False
        sent: list[SimpleNamespace] = []
        monkeypatch.setattr(
            os, "kill", lambda pid, number: sent.append(SimpleNamespace(pid=pid, number=number))
        )
        interrupt._handle_term(signal.SIGTERM, None)
        assert (
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        )  # the process ends as if nobody had listened
        assert [(one.pid, one.number) for one in sent] == [(os.getpid(), signal.SIGTERM)]
