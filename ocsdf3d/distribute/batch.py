"""A batch: which files, under which names, and what becomes of them."""

from __future__ import annotations

import dataclasses
import glob
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocsdf3d.distribute.cluster import over
from ocsdf3d.distribute.manifest import Manifest
from ocsdf3d.distribute.work import Job, carry_out
from ocsdf3d.io import READABLE

__all__ = ["Summary", "current_rows", "named", "run_batch", "sources_of"]

WILD = "*?["


@dataclasses.dataclass
class Summary:
    """What became of a batch.

    Attributes
    ----------
    done, kept, failed : int
        Shapes done now, whole from before, and failed now.
    left : int
        Shapes that were not reached.
    seconds : float
        Wall time.
    """

    done: int
    kept: int
    failed: int
    left: int
    seconds: float


def sources_of(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Return the files that patterns name, absolute, sorted, each once, without those in the output folder.

    Parameters
    ----------
    patterns : sequence of str
        Files, folders (all files in them, at any depth, that `io.read` knows by extension), or patterns with
        `*`, `?`, `[…]` and `**`.
    folder : Path
        Where results go; they are no input.

    Raises
    ------
    FileNotFoundError
        A pattern names nothing.
    """
    found: set[Path] = set()
    home = folder.resolve()
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            own = [file for file in path.rglob("*") if file.suffix.lower() in READABLE and file.is_file()]
        elif path.exists():
            own = [path]
        elif any(letter in pattern for letter in WILD):
            own = [Path(name) for name in glob.glob(pattern, recursive=True) if os.path.isfile(name)]
        else:
            raise FileNotFoundError(f"{pattern}: no such file or folder")
        if not own:
            raise FileNotFoundError(f"{pattern}: no file of that pattern. Quote it if the shell expands it.")
        found |= {Path(os.path.abspath(file)) for file in own}
    kept = sorted(file for file in found if not file.resolve().is_relative_to(home))
    if not kept:
        raise FileNotFoundError(f"{' '.join(patterns)}: only files in {folder}, where the results go")
    return kept


def named(
    sources: Sequence[Path], folder: Path, extension: str, known: Mapping[str, Mapping[str, Any]]
) -> dict[Path, Path]:
    """Return where the mesh of each input goes: the tree below their common folder, again in `folder`.

    Parameters
    ----------
    sources : sequence of Path
        Absolute paths, each once.
    folder : Path
        Of the results.
    extension : str
        Of the meshes, with the dot.
    known : mapping
        Rows of the manifest: what has a name keeps it, however many inputs are added later.

    Notes
    -----
    Of two inputs that would share a name, as `a.off` and `a.stl`, the second keeps its own extension in front
    of the new one.
    """
    folder = Path(os.path.abspath(folder))
    names: dict[Path, Path] = {}
    for source in sources:
        kept = known.get(str(source), {}).get("mesh", "")
        if Path(kept).suffix == extension and Path(kept).is_relative_to(folder):
            names[source] = Path(kept)
    taken = {row["mesh"] for row in known.values()}
    base = Path(os.path.commonpath([source.parent for source in sources])) if sources else folder
    for source in sources:
        if source in names:
            continue
        wished = folder / source.relative_to(base)
        choices = [wished.with_suffix(extension), wished.with_name(wished.name + extension)]
        choices += [wished.with_name(f"{wished.name}-{k}{extension}") for k in range(2, len(sources) + 2)]
        names[source] = next(path for path in choices if str(path) not in taken)
        taken.add(str(names[source]))
    return names


def run_batch(
    jobs: Sequence[Job],
    manifest: Manifest,
    *,
    work: Callable[[Job], dict[str, Any]] = carry_out,
    workers: int = 1,
    scheduler: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, int, dict[str, Any] | None], None] = lambda *_: None,
    describe: Callable[[BaseException], str] = lambda error: f"{type(error).__name__}: {error}",
) -> Summary:
    """Do what is not done yet, row by row into the manifest, and return what became of it.

    Parameters
    ----------
    jobs : sequence of Job
        No two of one input.
    manifest : Manifest
        Of their folder.
    work : callable
        What does a job; it returns `source_sha256`, `mesh_sha256`, `field_sha256`, `worker` and its figures.
    workers, scheduler, stop
        As for `over`.
    tell : callable
        (shapes that are behind us, all, row) → None, whenever one is; the row is None for those that were
        whole from before.
    describe : callable
        An error in one line.

    Raises
    ------
    ImportError, ConnectionError
        As `over` raises them.
    OSError
        The manifest cannot be written.
    """
    begun = time.perf_counter()
    kept, todo = 0, []
    for job in jobs:
        if stop():
            break
        if manifest.whole(job.source, job.key) is None:
            todo.append(job)
        else:
            kept += 1
            tell(kept, len(jobs), None)
    done = failed = 0
    for back in over(work, todo, workers=workers, scheduler=scheduler, stop=stop):
        row = _row(back.job)
        if back.error is None:
            row |= back.value
            try:
                reached = os.path.getsize(back.job.mesh) > 0
            except OSError:
                reached = False
            if not reached:
                row["error"] = (
                    f"worker {row['worker']} wrote a mesh that is not here; workers need this file system"
                )
        else:
            row["error"] = " ".join(describe(back.error).split())
        row["begun"] = back.begun
        manifest.add(row)
        done, failed = (done + 1, failed) if row["error"] is None else (done, failed + 1)
        tell(kept + done + failed, len(jobs), row)
    return Summary(done, kept, failed, len(jobs) - kept - done - failed, time.perf_counter() - begun)


def current_rows(jobs: Sequence[Job], manifest: Manifest) -> list[dict[str, Any]]:
    """Return the rows of the jobs that are done or have failed, in their order; none of other settings."""
    found = [(job, manifest.rows.get(job.source)) for job in jobs]
    return [row for job, row in found if row is not None and row["key"] == job.key]


def _row(job: Job) -> dict[str, Any]:
    names = {"source": job.source, "mesh": job.mesh, "field": job.field, "picture": job.picture}
    return {**names, "key": job.key, "settings": job.settings, "error": None}
