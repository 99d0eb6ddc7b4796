"""`ocsdf3d batch`: many shapes on many processes, resumable, with a report."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checks
from .console import describe, emit, fail, note, warn
from .interrupt import Interrupt
from .options import MISUSE, add_fit, add_reporting, add_where, cores
from .progress import Progress

if TYPE_CHECKING:
    from ocsdf3d.distribute import Job, Manifest, Summary

FORMATS = ("ply", "obj", "off", "stl", "glb")
MANIFEST, REPORT, PICTURES = "manifest.jsonl", "report.html", "pictures"
STOPPED = 130  # exit code


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "batch",
        help="many shapes → many meshes, and a report",
        description="Reconstruct many shapes, one core each. What the manifest in the output folder says is"
        " done, with these options, from these bytes, and whole, is not done again; a shape that fails does"
        " not stop the others.",
        epilog="Ctrl-C finishes the shapes in hand, a second one stops at once; the same command goes on."
        " Exit 1 when a shape failed, 130 when shapes are left.",
    )
    parser.add_argument(
        "patterns", metavar="PATTERN", nargs="+", help="files, folders, or quoted patterns with * ? [] and **"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="folder of meshes, manifest and report"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="ply", help="of the meshes (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="write the fields too (default: meshes only)")
    parser.add_argument(
        "--no-pictures",
        dest="pictures",
        action="store_false",
        help="leave the pictures of the report out, half a second a shape (default: drawn where this works)",
    )
    add_where(parser)
    add_fit(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, do, report; the report is written whatever happens after the first shape."""
    begun = time.perf_counter()
    if args.scheduler is None:  # else it is a question for the workers
        checks.device(args.device)
    workers = args.workers or cores()

    from ocsdf3d import distribute, io

    if not checks.dask(workers, args.scheduler):
        return MISUSE
    folder = Path(args.output)
    sources = distribute.sources_of(args.patterns, folder)
    folder.mkdir(parents=True, exist_ok=True)
    io.check_writable(folder / REPORT, (".html",))
    with (
        Interrupt() as interrupt,
        Progress(quiet=args.quiet, verbose=args.verbose) as progress,
        distribute.Manifest(folder / MANIFEST) as manifest,
    ):
        if manifest.damaged:
            warn(f"{manifest.path}: {manifest.damaged} damaged lines left out; their shapes are done again")
        jobs = _jobs(args, sources, folder, manifest)
        foreign = [
            job.mesh
            for job in jobs
            if os.path.lexists(job.mesh) and manifest.rows.get(job.source, {}).get("mesh") != job.mesh
        ]
        if foreign:
            warn(f"{len(foreign)} files that are not of this manifest will be overwritten, as {foreign[0]}")

        def tell(done: int, total: int, row: dict[str, Any] | None) -> None:
            progress("batch", done, total, {})
            if row is not None and row["error"] is not None:
                warn(f"{row['source']}: {row['error']}")
            elif row is not None and args.verbose:
                note(f"{row['source']}: {row['seconds']:.1f} s on {row['worker']}", quiet=args.quiet)

        interrupt.training = True  # from here on the first Ctrl-C only asks to end
        summary: Summary | None = None
        try:
            summary = distribute.run_batch(
                jobs,
                manifest,
                workers=min(workers, len(jobs)) if args.scheduler is None else workers,
                scheduler=args.scheduler,
                stop=interrupt.stop,
                tell=tell,
                describe=describe,
            )
        except KeyboardInterrupt:
            fail("stopped at once: the shapes in hand are lost, what was done is kept")
        finally:
            interrupt.writing = True
            rows = distribute.current_rows(jobs, manifest)
            left = len(jobs) - len(rows)
            text = distribute.report_of(rows, folder.resolve(), left=left)
            io.write_content(folder / REPORT, text.encode("utf-8"))
    return _told(args, rows, summary, left, workers, time.perf_counter() - begun)


def _jobs(args: argparse.Namespace, sources: list[Path], folder: Path, manifest: Manifest) -> list[Job]:
    """What there is to do, under the names that the manifest knows or new ones."""
    from ocsdf3d.distribute import Job, named

    meshes = named(sources, folder, f".{args.format}", manifest.rows)
    names = ("points", "support", "preset", "margin", "lam", "level", "device", "seed", "smooth")
    options = {name: getattr(args, name) for name in names}
    home, jobs = Path(os.path.abspath(folder)), []
    for source in sources:
        mesh = meshes[source]
        inner = mesh.relative_to(home)
        field = str(mesh.with_name(f"{mesh.name}.safetensors")) if args.save else None
        picture = str(home / PICTURES / inner.with_name(f"{inner.name}.jpg")) if args.pictures else None
        jobs.append(Job(str(source), str(mesh), options, args.resolution, field, picture))
    return jobs


def _told(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    summary: Summary | None,
    left: int,
    workers: int,
    seconds: float,
) -> int:
    """Print what became of it; the exit code."""
    failed = [row for row in rows if row["error"] is not None]
    folder = Path(args.output)
    figures = {
        "folder": folder,
        "manifest": folder / MANIFEST,
        "report": folder / REPORT,
        "shapes": len(rows) + left,
        "done": len(rows) - len(failed),
        "kept": 0 if summary is None else summary.kept,
        "failed": [{"source": row["source"], "error": row["error"]} for row in failed],
        "left": left,
        "interrupted": left > 0,
        "workers": None if args.scheduler is not None else workers,
        "scheduler": args.scheduler,
        "seconds": round(seconds, 3),
    }
    lines = [
        f"{figures['report']}: {figures['done']} of {figures['shapes']} shapes done,"
        f" {figures['kept']} of them whole from before, {seconds:.1f} s",
        *(f"failed: {row['source']}: {row['error']}" for row in failed),
    ]
    if left:
        lines.append(f"{left} shapes are left; the same command goes on with them")
    emit(figures, lines, as_json=args.json)
    return STOPPED if left else 1 if failed else 0
