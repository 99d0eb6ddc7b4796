"""Searches in trees take the cores that torch takes, and find the same whatever their number."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from ocsdf3d.cores import tree_workers
from ocsdf3d.distribute import work
from ocsdf3d.lipschitz.workers import Workers
from ocsdf3d.metrics import chamfer, hausdorff
from ocsdf3d.noise import smoothed
from ocsdf3d.planes import sheet_planes


@pytest.fixture
def three() -> Iterator[None]:
    """Let torch use three threads, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_as_many_as_torch_and_one_in_a_batch(three: None) -> None:
    assert tree_workers() == 3
    with work.one_thread():
        assert tree_workers() == 1
    assert tree_workers() == 3


def test_a_training_holds_torch_to_one_a_thread_and_not_the_searches(three: None) -> None:
    for device in ("cpu", "meta"):
        with Workers(torch.device(device)):
            assert (torch.get_num_threads(), tree_workers()) == (1, 3)
        assert (torch.get_num_threads(), tree_workers()) == (3, 3)
    with pytest.raises(RuntimeError, match="broken"), Workers(torch.device("cpu")):
        raise RuntimeError("broken")
    assert (torch.get_num_threads(), tree_workers()) == (3, 3)


@pytest.mark.parametrize(("asked", "given"), [("1", 1), ("9999", None), ("0", None), ("many", None)])
def test_without_torch_the_environment_limits_them(asked: str, given: int | None) -> None:
    code = "import sys; from ocsdf3d.cores import tree_workers; print(tree_workers(), 'torch' in sys.modules)"
    end = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": asked},
        capture_output=True,
        text=True,
        check=True,
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert end.stdout == f"{given or cores} False\n"


def test_what_is_found_does_not_depend_on_them(three: None) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    moved = points + rng.normal(scale=0.02, size=points.shape)
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        planes = sheet_planes(moved, cKDTree(moved))
        found.append(
            [*planes, smoothed(moved, 20), np.array([chamfer(points, moved), hausdorff(points, moved)])]
        )
    for alone, together in zip(*found, strict=True):
        np.testing.assert_array_equal(alone, together)


def test_no_search_asks_for_all_cores(repository: Path) -> None:
    for path in (repository / "ocsdf3d").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "workers":
                assert ast.unparse(node.value) != "-1", f"{path}, line {node.value.lineno}"
