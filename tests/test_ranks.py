"""Two processes that train together take the steps of one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ocsdf3d
from ocsdf3d.complement import WalkConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.ranks import Ranks, joined
from ocsdf3d.train import Surface, TrainConfig, learn

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def learnt(steps: int = 30, batch: int = 65, other: int = 0, stop_at: int | None = None) -> tuple[str, float]:
    """Train; return a hash of the parameters, and the recall of the last report. `other` moves one datum."""
    generator = torch.Generator().manual_seed(0)
    data = torch.rand((200, 2), generator=generator)
    data[0] += float(other)

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


def together(code: str, folder: Path, *, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """Run code on two ranks, in this folder's sight."""
    script = folder / "script.py"
    script.write_text(
        "from ocsdf3d.ranks import Ranks, joined\nfrom test_ranks import learnt\n"
        f"with joined('cpu') as ranks:\n    {code}\n",
        encoding="utf-8",
    )
    here = f"{Path(__file__).parent}{os.pathsep}{Path(ocsdf3d.__file__).parents[1]}"
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, str(script)], capture_output=True, text=True, env=environment)


def test_alone_nothing_is_sent() -> None:
    with joined("cpu") as ranks:
        assert (ranks.index, ranks.count) == (0, 1)
        part = torch.arange(6.0).view(3, 2)
        assert torch.equal(ranks.own([part])[0], part)
        ranks.add([part])
        assert torch.equal(part, torch.arange(6.0).view(3, 2))
        assert ranks.any(True, torch.device("cpu"))
        assert not ranks.any(False, torch.device("cpu"))


def test_two_ranks_of_a_thread_are_one_process_of_two(tmp_path: Path) -> None:
    """To the last bit: 65 rows, so that the shares differ; and a stop on one rank ends both."""
    run = together(
        f"with open({str(tmp_path)!r} + f'/rank{{ranks.index}}', 'w') as file:\n"
        "        for options in ({}, {'stop_at': 2}, {'steps': 12}):\n"
        "            print(*learnt(**options), file=file)",
        tmp_path,
    )
    assert run.returncode == 0, run.stderr
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        whole, recall = learnt()
        short, _ = learnt(steps=12)
    finally:
        torch.set_num_threads(before)
    for rank in ("0", "1"):
        told = (tmp_path / f"rank{rank}").read_text(encoding="utf-8").splitlines()
        first, stopped, last = (line.split() for line in told)
        assert " ".join(first[:2]) == whole
        assert stopped[0] == "20"
        assert " ".join(last[:2]) == short
        assert float(first[2]) == pytest.approx(recall, abs=0.02)


def test_ranks_that_were_given_other_data_are_told_apart(tmp_path: Path) -> None:
    """Their gradients are summed, so their parameters stay the same, unless a walk of one goes elsewhere."""
    run = together(
        "import torch\n    x = torch.ones(3) + (ranks.index == 1) * torch.tensor([1e-7, 0.0, -1e-7])\n"
        "    ranks.require_same([x], 7)",
        tmp_path,
    )
    assert run.returncode != 0
    assert "after 7 steps rank 1 has other parameters than rank 0" in run.stderr


def test_more_ranks_than_rows_are_refused(tmp_path: Path) -> None:
    run = together("learnt(batch=1)", tmp_path)
    assert run.returncode != 0
    assert "2 ranks cannot share 1 rows" in run.stderr


def test_reconstruct_by_torchrun_writes_once(cuboid_points: np.ndarray, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "box.xyz", cuboid_points)
    command = ["-m", "ocsdf3d", "reconstruct", str(tmp_path / "box.xyz"), "--preset", "fast"]
    command += ["--support", "shell", "--resolution", "24"]
    here = str(Path(ocsdf3d.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("box_ocsdf.ply") == 1
    assert (tmp_path / "box_ocsdf.ply").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box.xyz", "box_ocsdf.ply"]
