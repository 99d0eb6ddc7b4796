"""Two processes that train together take the steps of one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ocsdf3d
from ocsdf3d.complement import WalkConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.presets import PRESETS
from ocsdf3d.ranks import Ranks, joined
from ocsdf3d.sources import Surface
from ocsdf3d.train import TrainConfig, learn

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def learnt(steps: int = 30, batch: int = 65, stop_at: int | None = None) -> tuple[str, float]:
    """Train; return the steps taken with a hash of the parameters, and the recall of the last report."""
    generator = torch.Generator().manual_seed(0)
    data = torch.rand((200, 2), generator=generator)

    def seeds(count: int) -> torch.Tensor:
        return 4.0 * torch.rand((count, 2), generator=generator) - 2.0

    config = TrainConfig(steps=steps, batch=batch, margin=0.1, warm=5, walk=WalkConfig(steps=2), report=10)
    network = LipschitzNetwork(NetworkConfig(inputs=2, width=16, depth=3), torch.Generator().manual_seed(0))
    reports: list[int] = []

    def stop() -> bool:
        reports.append(1)
        return stop_at is not None and Ranks().index == 1 and len(reports) >= stop_at

    corner = 2.0 * torch.ones(2)
    history = learn(network, Surface(data, seeds, generator), config, -corner, corner, generator, stop=stop)
    sha = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters()))
    return f"{history.steps} {sha.hexdigest()}", history.curves["recall"][-1]


def refused(work: Callable[[], object]) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        work()
    return str(caught.value)


def told() -> dict[str, object]:
    """What a rank has to tell of everything that is asked of two; one launch takes seconds."""
    ranks = Ranks()
    bits = torch.ones(3) + (ranks.index == 1) * torch.tensor([1e-7, 0.0, -1e-7])
    return {
        "whole": learnt(),
        "stopped": learnt(stop_at=2),
        "short": learnt(steps=12),
        "too few rows": refused(lambda: learnt(batch=1)),
        "same": ranks.require_same([torch.ones(3)], 7),
        "other": refused(lambda: ranks.require_same([bits], 7)),
    }


SCRIPT = """
import json, sys
from ocsdf3d.cli import main
from ocsdf3d.presets import PRESETS
from ocsdf3d.ranks import joined
from test_ranks import small, told

folder = sys.argv[1]
with joined("cpu") as ranks:
    with open(f"{folder}/rank{ranks.index}.json", "w") as file:
        json.dump(told(), file)
    small()
    code = main(["reconstruct", f"{folder}/box.xyz", "--preset", "fast", "--resolution", "24"])
sys.exit(code)
"""


def small() -> None:
    """Make the preset `fast` a matter of a second."""
    fast = PRESETS["fast"]
    solid = dataclasses.replace(fast.solid, steps=60, batch=128, anchors=64, refresh=30)
    PRESETS["fast"] = dataclasses.replace(
        fast, network=NetworkConfig(inputs=3, width=32, depth=3), solid=solid, pool=10_000, spheres=False
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, cuboid_points: np.ndarray) -> tuple[Path, str]:
    """The folder of two ranks that have told all, and what they printed."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    np.savetxt(folder / "box.xyz", cuboid_points)
    here = f"{Path(__file__).parent}{os.pathsep}{Path(ocsdf3d.__file__).parents[1]}"
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(folder / "script.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


def of(two: tuple[Path, str], rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((two[0] / f"rank{rank}.json").read_text(encoding="utf-8"))
    return found


def test_alone_nothing_is_sent() -> None:
    with joined("cpu") as ranks:
        assert (ranks.index, ranks.count) == (0, 1)
        part = torch.arange(6.0).view(3, 2)
        assert torch.equal(ranks.own([part])[0], part)
        ranks.add([part])
        assert torch.equal(part, torch.arange(6.0).view(3, 2))
        assert ranks.any(True, torch.device("cpu"))
        assert not ranks.any(False, torch.device("cpu"))


def test_two_ranks_of_a_thread_are_one_process_of_two(two: tuple[Path, str]) -> None:
    """To the last bit: 65 rows, so that the shares differ."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        whole, recall = learnt()
        short, _ = learnt(steps=12)
    finally:
        torch.set_num_threads(before)
    for rank in range(2):
        assert of(two, rank)["whole"] == [whole, pytest.approx(recall, abs=0.02)]
        assert of(two, rank)["short"][0] == short
    assert of(two, 0)["whole"] == of(two, 1)["whole"]


def test_a_stop_on_one_rank_ends_both(two: tuple[Path, str]) -> None:
    first, second = (of(two, rank)["stopped"] for rank in range(2))
    assert first == second
    assert first[0].startswith("20 ")


def test_what_two_cannot_share_is_refused(two: tuple[Path, str]) -> None:
    for rank in range(2):
        assert "2 ranks cannot share 1 rows" in of(two, rank)["too few rows"]


def test_a_bit_that_differs_is_told(two: tuple[Path, str]) -> None:
    """Two numbers that change by as much against each other do not hide it."""
    for rank in range(2):
        assert of(two, rank)["same"] is None
        assert "after 7 steps rank 1 has other parameters than rank 0" in of(two, rank)["other"]


def test_reconstruct_writes_once(two: tuple[Path, str]) -> None:
    folder, printed = two
    assert printed.count("box_ocsdf.ply") == 1
    meshes = [path.name for path in folder.iterdir() if path.suffix == ".ply"]
    assert meshes == ["box_ocsdf.ply"]
