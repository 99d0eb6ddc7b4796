"""Free memory is what the kernel and the control groups say it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocsdf3d.memory import MemoryShortError, free_memory, require_memory


def machine(root: Path, available: int | None, **files: str) -> Path:
    """A file system that tells of memory; keys are paths with `__` for `/`."""
    contents = {key.replace("__", "/"): text for key, text in files.items()}
    if available is not None:
        contents["proc/meminfo"] = f"MemTotal: 99999999 kB\nMemAvailable: {available} kB\n"
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_free_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path, 1000)) == 1000 * 1024


def test_free_memory_respects_a_control_group(tmp_path: Path) -> None:
    limited = {
        "sys__fs__cgroup__jobs__a__memory.max": "600000",
        "sys__fs__cgroup__jobs__a__memory.current": "500000",
        "sys__fs__cgroup__jobs__a__memory.stat": "anon 300000\ninactive_file 200000\n",
        "sys__fs__cgroup__jobs__memory.max": "max",
        "sys__fs__cgroup__jobs__memory.current": "500000",
        "sys__fs__cgroup__jobs__memory.stat": "inactive_file 0\n",
        "proc__self__cgroup": "0::/jobs/a\n",
    }
    assert free_memory(machine(tmp_path, 1000, **limited)) == 300_000  # 600 − 500 + 200 thousand


def test_free_memory_respects_an_old_control_group(tmp_path: Path) -> None:
    limited = {
        "sys__fs__cgroup__memory__memory.limit_in_bytes": "600000",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": "700000",
        "sys__fs__cgroup__memory__memory.stat": "total_inactive_file 0\n",
    }
    assert free_memory(machine(tmp_path, 1000, **limited)) == 0  # over the limit is none, not less than none


def test_free_memory_without_the_kernels_file(tmp_path: Path) -> None:
    assert free_memory(tmp_path) > 10**8  # this machine's pages, or no limit where even those are unknown


def test_work_that_does_not_fit_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: 3 * 10**9)
    require_memory(3e9, "this", "Do that.")
    with pytest.raises(MemoryShortError, match=r"^this needs about 3\.1 GB, 3 GB are free\. Do that\.$"):
        require_memory(3.1e9, "this", "Do that.")


def test_reading_and_learning_are_refused_before_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocsdf3d import fit, read

    rows = np.random.default_rng(0).normal(size=(2000, 3))
    np.savetxt(tmp_path / "a.xyz", rows)
    monkeypatch.setattr("ocsdf3d.memory.free_memory", lambda: 10**6)
    with pytest.raises(MemoryShortError, match=r"a\.xyz: reading it needs about 0\.00\d+ GB"):
        read(tmp_path / "a.xyz")
    with pytest.raises(MemoryShortError, match=r"learning from 2,000 points needs about 0\.\d+ GB"):
        fit(rows)
