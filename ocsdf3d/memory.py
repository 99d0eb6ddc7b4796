"""How much memory can be had without swapping, and the refusal of work that needs more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["MemoryShortError", "free_memory", "require_memory"]


class MemoryShortError(ValueError):
    """Work that does not fit in memory, refused before it began; the message has both figures."""


def require_memory(needed: float, what: str, instead: str, *, free: float | None = None) -> None:
    """Refuse work that needs more memory than is free.

    Parameters
    ----------
    needed : float
        Estimate of the peak [bytes].
    what : str
        The work, for the message.
    instead : str
        What the user can do, for the message: a sentence.
    free : float, optional
        What there is instead of this machine's, as of a GPU [bytes].

    Raises
    ------
    MemoryShortError
        With what is needed and what is free.
    """
    free = free_memory() if free is None else free
    if needed > free:
        raise MemoryShortError(
            f"{what} needs about {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free. {instead}"
        )


def free_memory(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping [bytes].

    The kernel's estimate (`MemAvailable`), or what a control group leaves when that is less; free or physical
    pages where there is no such file; `sys.maxsize` where the system tells nothing, so that ignorance refuses
    nothing.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        available = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        pages = next((name for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if name in names), None)
        available = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages else sys.maxsize
    left = [_left_in_group(folder, *names) for folder in _groups(root) for names in _GROUP_FILES]
    return min(available, *left) if left else available


_GROUP_FILES = (  # versions 2 and 1: limit, usage, the part of it that the kernel gives back on demand
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _groups(root: Path) -> list[Path]:
    """Folders of the control groups of this process, outermost first."""
    folders = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = folders[0] if controllers == "" else folders[1]
            own = Path(path.lstrip("/"))
            folders += [top / part for part in (own, *own.parents)]
    return folders


def _left_in_group(folder: Path, limit: str, usage: str, reclaimable: str) -> int:
    """What one control group still allows; `sys.maxsize` if it sets no limit."""
    try:
        most = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return sys.maxsize
    return sys.maxsize if most == "max" else max(0, int(most) - used + int(stat.get(reclaimable, 0)))
