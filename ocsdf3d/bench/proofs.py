"""What proofs are worth: nothing broken, nothing missed, and how much work they save.

    python -m ocsdf3d.bench.proofs --train 2 --out bench-results/proofs

Fields: exact shapes, a CSG tree of some of them, and trained ones, from files (`--fields`) or trained here on
2,048 bare points of shapes of the data folder (`--train`; a minute each, kept in the folder of the results).
One row a field and case, in CSV and JSON; a run that was interrupted goes on where it stopped.

- `grid`: the sparse mesh against the dense one, in turns, the best of up to `--rounds` each. Above
  `--dense-limit` nodes the dense evaluation is extrapolated from contiguous tiles spread over the grid, the
  triangles are charged what they cost the sparse run, and nothing is said of identity. Seconds of the sparse
  run are split in three: the field's answers; from the last answer on, bricks and triangles, welded; the
  rest, which is the proof's. Memory is that of a process of its own.
- `pairs`, `trace`, `project`, `volume`: see the functions of `proof_checks.py`. All look at the field's own
  mesh of `--mesh` nodes.

Ends with 1 when a check failed: meshes that differ, a broken bound, a tunnel, a projection that was flagged
wrongly, an interval that leaves out the truth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trimesh

from ocsdf3d import __version__
from ocsdf3d.analytic import box, capsule, sphere, torus
from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, proof_checks, say, threads
from ocsdf3d.bench.isolation import begun_peak, peak
from ocsdf3d.bench.proof_checks import Row, Subject, Timed, capped
from ocsdf3d.bench.protocols.solids import closed_shapes, sample_surface
from ocsdf3d.certified import Certified
from ocsdf3d.checkpoint import load, save
from ocsdf3d.oracle import TILE
from ocsdf3d.pipeline import fit
from ocsdf3d.sparse import Nodes

TRAINED = (  # smooth, sharp, thin, of higher genus: shapes of the data folder in the order they are trained
    *("spot.obj", "fandisk.obj", "fertility.off", "rocker_arm.obj", "armadillo.off", "knot1.off"),
    *("camel.off", "homer.obj"),
)
POINTS = 2048  # bare points of each
SLOW = 10.0  # seconds after which a race has no further round
SAMPLED = 2**23  # nodes of a dense grid that are evaluated where it is extrapolated; at most 1/16 of them
KEY = ("field", "digest", "case", "settings")
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "trimesh", "libigl")
MEMORY = (
    "import sys; from ocsdf3d.bench.proofs import print_memory; "
    "print_memory(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
)


# ----------------------------------------------------------------------------------------------- fields


def exact_subjects() -> list[Subject]:
    """Shapes of longest side 1, with their volumes; gaps between copies moved along x are known of all."""
    ball, ring, brick = sphere(0.5), torus(0.375, 0.125), box((1.0, 0.6, 0.4))
    plate, rod = box((1.0, 0.7, 0.04)), capsule((-0.4, 0.0, 0.0), (0.4, 0.0, 0.0), 0.1)
    tree = (box((0.8, 0.6, 0.4)) - sphere(0.35, center=(0.1, 0.0, 0.2))) | rod  # its ends are the rod's
    return [
        Subject("sphere", ball, volume=math.pi / 6.0, gaps=True),
        Subject("torus", ring, volume=2.0 * math.pi**2 * 0.375 * 0.125**2, gaps=True),
        Subject("box", brick, volume=0.24, gaps=True),
        Subject("plate", plate, volume=0.028, gaps=True),
        Subject("capsule", rod, volume=math.pi * 0.1**2 * (0.8 + 4.0 / 3.0 * 0.1), gaps=True),
        Subject("tree", tree, gaps=True),
    ]


def subjects(asked: argparse.Namespace) -> list[Subject]:
    """All fields of the run, each saved in a file, as processes that measure memory want it.

    Raises
    ------
    ValueError
        A file that is no field, or a name that is none of the shapes'.
    """
    exact = {subject.name: subject for subject in exact_subjects()}
    unknown = set(asked.exact or ()) - set(exact)
    if unknown:
        raise ValueError(f"not an exact shape: {', '.join(sorted(unknown))}; there are {', '.join(exact)}")
    folder = asked.out / "fields"
    folder.mkdir(parents=True, exist_ok=True)
    found = [one for name, one in exact.items() if asked.exact is None or name in asked.exact]
    for one in found:
        one.file = save(folder / f"{one.name}.safetensors", one.field)  # type: ignore[arg-type]
    files = list(asked.fields)
    if asked.train:
        files += trained(folder, asked)
    return [*found, *(Subject(path.stem, load(path, asked.device), path) for path in files)]


def trained(folder: Path, asked: argparse.Namespace) -> list[Path]:
    """Files of fields of the first shapes of `TRAINED`, those that are not there yet trained now."""
    files = [
        folder / f"{Path(name).stem}-{asked.preset}-{asked.seed}.safetensors"
        for name in TRAINED[: asked.train]
    ]
    if all(file.exists() for file in files):
        return files
    shapes = closed_shapes((asked.data or data_folder()) / "meshes")
    for name, file in zip(TRAINED, files, strict=False):
        if not file.exists():
            say(f"{name}: training …")
            points = sample_surface(shapes[name], POINTS, noise=0.0, seed=asked.seed)
            save(file, fit(points, preset=asked.preset, seed=asked.seed, device=asked.device))
    return files


# ----------------------------------------------------------------------------------------------- grid


class Run(NamedTuple):
    """A mesh and where its seconds went."""

    mesh: trimesh.Trimesh
    seconds: float
    field: float  # answers of the field
    triangles: float  # from the last answer on


def meshed(field: Certified, resolution: int, *, dense: bool) -> Run:
    """Return the mesh, with the clock around it."""
    timed = Timed(field)
    start = last = time.perf_counter()

    def tick(done: int, total: int) -> None:
        nonlocal last
        last = time.perf_counter()

    mesh = timed.mesh(resolution, dense=dense, progress=tick)
    end = time.perf_counter()
    return Run(mesh, end - start, timed.seconds, end - last)


def raced(field: Certified, resolution: int, *, dense: bool, rounds: int) -> tuple[Run, Run | None, int]:
    """Return the fastest sparse run, the fastest dense one if asked for, and how many rounds there were."""
    runs: tuple[list[Run], list[Run]] = [], []
    start = time.perf_counter()
    while len(runs[0]) < rounds and (not runs[0] or time.perf_counter() - start < SLOW):
        runs[0].append(meshed(field, resolution, dense=False))
        if dense:
            runs[1].append(meshed(field, resolution, dense=True))
    best = [min(each, key=lambda run: run.seconds) if each else None for each in runs]
    assert best[0] is not None
    return best[0], best[1], len(runs[0])


def extrapolated(field: Certified, resolution: int, total: int) -> tuple[float, float]:
    """Return seconds of evaluating all nodes of a dense grid, and the share of them that was evaluated.

    The median of tiles counts: one that another process holds up tells nothing of the others.
    """
    outer = field.box.expanded(2.0 * field.box.longest / (resolution - 1))  # as `Certified.mesh` has it
    spacing = outer.longest / (resolution - 1)
    cells = np.clip(np.ceil(outer.size / spacing - 1e-6).astype(np.int64), 1, resolution - 1)
    assert np.prod(cells + 1) == total, "not the grid of the mesh"
    nodes = Nodes(
        lambda x: capped(field, x), outer.center - 0.5 * spacing * cells, spacing, cells, TILE, None
    )
    tiles = -(-total // TILE)
    chosen = np.unique(np.linspace(0, tiles - 1, max(1, min(tiles // 16, SAMPLED // TILE)), dtype=np.int64))
    seconds = []
    for tile in chosen.tolist():
        start, part = time.perf_counter(), np.arange(tile * TILE, min((tile + 1) * TILE, total))
        nodes(np.stack(np.unravel_index(part, tuple(cells + 1)), axis=1))
        seconds.append((time.perf_counter() - start) / len(part))
    return float(np.median(seconds)) * total, nodes.evaluations / total


def same(one: trimesh.Trimesh, two: trimesh.Trimesh) -> bool:
    """Whether vertices, faces and vertex normals are the same bytes."""
    pairs = [
        (np.asarray(getattr(one, name)), np.asarray(getattr(two, name)))
        for name in ("vertices", "faces", "vertex_normals")
    ]
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def grid_row(subject: Subject, case: str, asked: argparse.Namespace) -> Row:
    """Is the sparse mesh the dense one, and what does it cost?"""
    field, resolution = subject.field, int(case)
    sparse, dense, rounds = raced(
        field, resolution, dense=resolution <= asked.dense_limit, rounds=asked.rounds
    )
    receipt = sparse.mesh.metadata
    if dense is not None:
        seconds, sampled = dense.seconds, 1.0
    else:
        seconds, sampled = extrapolated(field, resolution, receipt["dense_evaluations"])
        seconds += sparse.triangles
    before, after = apart(subject.file, resolution, str(asked.device)) if subject.file else (None, None)
    return {
        "evaluations": receipt["evaluations"],
        "share": receipt["evaluations"] / receipt["dense_evaluations"],
        "undecided": receipt["undecided"],
        "faces": len(sparse.mesh.faces),
        "sampled": sampled,
        "dense_s": seconds,
        "sparse_s": sparse.seconds,
        "ratio": seconds / sparse.seconds,
        "field_s": sparse.field,
        "proof_s": sparse.seconds - sparse.field - sparse.triangles,
        "triangles_s": sparse.triangles,
        "rounds": rounds,
        "peak_mb": None if before is None or after is None else after - before,
        "baseline_mb": before,
        "identical": None if dense is None else same(sparse.mesh, dense.mesh),
    }


def apart(file: Path, resolution: int, device: str) -> tuple[float, float]:
    """Return the memory of a process before it meshes and at its peak, by `print_memory` [MB].

    Raises
    ------
    RuntimeError
        It died; with its last words.
    """
    command = [sys.executable, "-c", MEMORY, str(file), device, str(resolution)]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise RuntimeError(f"the process that measures memory died: {last}")
    before, after = json.loads(run.stdout)
    return float(before), float(after)


def print_memory(file: str, device: str, resolution: int) -> None:
    """Print the memory before a sparse mesh, when all that it needs is loaded, and at its peak [MB]."""
    torch.set_num_threads(threads())
    field = load(file, device)
    field(field.box.center[None])
    sphere().mesh(16)
    before = begun_peak()
    field.mesh(resolution)
    print(json.dumps([before, peak()]))


# ----------------------------------------------------------------------------------------------- tables


class Table(NamedTuple):
    """One table: what its rows hold, what makes them, and which of them are failures."""

    part: str
    name: str
    title: str
    row: Callable[[Subject, str, argparse.Namespace], Row]
    cases: Callable[[argparse.Namespace], Sequence[object]]
    broken: Callable[[Row], bool]
    settings: tuple[str, ...]  # options that the figures depend on
    figures: tuple[str, ...]


TABLES = (
    Table(
        *("grid", "grid", "The sparse mesh and the dense one", grid_row),
        lambda asked: asked.resolutions,
        lambda row: row["identical"] is False,
        ("dense_limit", "rounds"),
        (
            *("evaluations", "share", "undecided", "faces", "sampled", "dense_s", "sparse_s", "ratio"),
            *("field_s", "proof_s", "triangles_s", "rounds", "peak_mb", "baseline_mb", "identical"),
        ),
    ),
    Table(
        *("pairs", "pairs", "Pairs: |φ(x) − φ(y)| ≤ L‖x − y‖ + 2ε", proof_checks.pair_row),
        lambda asked: proof_checks.PAIRS,
        lambda row: bool(row["violations"]),
        ("pairs", "mesh", "seed"),
        ("pairs", "violations", "ratio", "slope"),
    ),
    Table(
        *("pairs", "distances", "Proved distances against the mesh's", proof_checks.distance_row),
        lambda asked: ["box"],
        lambda row: bool(row["violations"]),
        ("points", "mesh", "seed"),
        ("points", "violations", "excess", "tightness"),
    ),
    Table(
        *("trace", "trace", "Rays against ray casting of the mesh", proof_checks.trace_row),
        lambda asked: ["outside", "inside"],
        lambda row: bool(row["tunnelled"]),
        ("rays", "mesh", "seed"),
        (
            *("rays", "hits", "agree", "only_mesh", "only_trace", "late", "tunnelled", "touches"),
            *("unresolved", "steps", "steps_95"),
        ),
    ),
    Table(
        *("project", "project", "Points near the surface, projected", proof_checks.project_row),
        lambda asked: ["near"],
        lambda row: bool(row["wrong"]),
        ("points", "mesh", "seed"),
        ("points", "landed", "flagged", "wrong", "near", "values", "gradients", "seconds"),
    ),
    Table(
        *("volume", "volume", "Volumes as intervals, by cells", proof_checks.volume_row),
        lambda asked: asked.cells,
        lambda row: row["holds_exact"] is False,
        ("mesh",),
        (
            *("lower", "upper", "width", "exact", "holds_exact", "mesh", "holds_mesh"),
            *("evaluations", "seconds"),
        ),
    ),
    Table(
        *("volume", "clearance", "Gaps to a copy moved by a multiple of the box", proof_checks.clearance_row),
        lambda asked: ["1.3", "1.01", "0.9"],
        lambda row: row["holds"] is False,
        ("mesh",),
        ("lower", "upper", "contact", "gap", "exact", "holds", "evaluations", "seconds"),
    ),
)
PARTS = tuple(dict.fromkeys(table.part for table in TABLES))


def rows_of(table: Table, found: Sequence[Subject], asked: argparse.Namespace) -> list[Row]:
    """All rows of a table, from the ledger or measured now; those that cannot be are named on stderr."""
    ledger = Ledger(asked.out / f"{table.name}.csv", (*KEY, *table.figures, "version"), KEY)
    settings = ", ".join(f"{name} {getattr(asked, name)}" for name in (*table.settings, "device"))
    rows = []
    for subject in found:
        assert subject.file is not None
        digest = hashlib.sha256(subject.file.read_bytes()).hexdigest()[:12]
        for case in map(str, table.cases(asked)):
            key = {"field": subject.name, "digest": digest, "case": _value(case), "settings": settings}
            row = ledger.find(**key)
            if row is None:
                say(f"{table.name}: {subject.name}, {case} …")
                try:
                    figures = table.row(subject, case, asked)
                except (ValueError, RuntimeError, MemoryError) as error:
                    say(f"    left out: {error}")
                    continue
                row = ledger.add({**key, **figures, "version": __version__})
            rows.append(row)
    return rows


def _value(case: str) -> object:
    """A case as the ledger returns it."""
    try:
        return float(case) if "." in case else int(case)
    except ValueError:
        return case


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    if not chosen or set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{text!r}: choose among {','.join(PARTS)}")
    return chosen


def parser() -> argparse.ArgumentParser:
    description = "What is proved of fields, checked and timed. Tables go to stdout."
    options = argparse.ArgumentParser("python -m ocsdf3d.bench.proofs", description=description)
    add = options.add_argument
    add("--fields", nargs="+", type=Path, default=[], metavar="FILE", help="fields that were saved")
    add("--train", type=int, help=f"shapes to train, up to {len(TRAINED)} (default: 2, with --fields 0)")
    add("--preset", default="default", help="of the training (default: %(default)s)")
    add("--exact", nargs="*", metavar="NAME", help="exact shapes (default: all)")
    add("--data", type=Path, help="folder with meshes/ (default: OCSDF3D_DATA, or ../shared/data)")
    add("--parts", type=_parts, default=list(PARTS), help=f"(default: {','.join(PARTS)})")
    add("--resolutions", type=int, nargs="+", default=[64, 128, 256, 512], help="(default: 64 128 256 512)")
    add("--dense-limit", type=int, default=256, help="nodes; beyond, extrapolate (default: %(default)s)")
    add("--rounds", type=int, default=5, help="of a race, until 10 s are gone (default: %(default)s)")
    add("--mesh", type=int, default=512, help="nodes of the mesh of the checks (default: %(default)s)")
    add("--pairs", type=int, default=10_000_000, help="a field, a third a kind (default: %(default)s)")
    add("--points", type=int, default=100_000, help="distances and projections (default: %(default)s)")
    add("--rays", type=int, default=20_000, help="(default: %(default)s)")
    add("--cells", type=int, nargs="+", default=[64, 128], help="of a volume (default: 64 128)")
    add("--device", default="auto", help="(default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--out", type=Path, default=Path("bench-results/proofs"), help="folder (default: %(default)s)")
    add("--fresh", action="store_true", help="forget the rows already in the folder")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 0 when every check held, 1 otherwise or when there was nothing to check."""
    asked = parser().parse_args(argv)
    torch.set_num_threads(threads())
    if asked.train is None:
        asked.train = 0 if asked.fields else 2
    if asked.device == "auto":
        asked.device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = subjects(asked)
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    if asked.fresh:
        for table in TABLES:
            for suffix in (".csv", ".json"):
                (asked.out / f"{table.name}{suffix}").unlink(missing_ok=True)
    print("# What is proved of fields\n")
    names = ("resolutions", "dense_limit", "mesh", "pairs", "points", "rays", "cells", "device", "seed")
    print(circumstances(PACKAGES, **{name: getattr(asked, name) for name in names}), flush=True)
    sphere().mesh(16)  # what is imported on first use is not timed
    failures = missing = 0
    for table in (table for table in TABLES if table.part in asked.parts):
        rows = rows_of(table, found, asked)
        broken = [row for row in rows if table.broken(row)]
        failures += len(broken)
        missing += len(found) * len(table.cases(asked)) - len(rows)
        heads = ("field", "case", *table.figures)
        print(f"\n## {table.title}\n")
        print(markdown(heads, [[_shown(row, head) for head in heads] for row in rows]))
        print(f"\n{_asked(table)} {len(broken)} of {len(rows)} rows fail.", flush=True)
    print(f"\nIn all {failures} failures; {missing} rows could not be measured.", flush=True)
    return 1 if failures or missing or not found else 0


def _asked(table: Table) -> str:
    """The question of a table: the first line of what makes its rows."""
    return (table.row.__doc__ or "").splitlines()[0]


def _shown(row: Row, head: str) -> object:
    """A cell; seconds that were extrapolated say so."""
    value = row[head]
    if head in ("dense_s", "ratio") and float(row.get("sampled", 1.0)) < 1.0:  # type: ignore[arg-type]
        return f"~{value:.4g}, extrapolated"
    return value


if __name__ == "__main__":
    sys.exit(main())
