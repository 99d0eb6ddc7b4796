"""Every mesh and every cloud of the data folder through the command line, as a user would.

    python -m ocsdf3d.bench.survey --preset fast --out bench-results/survey

For each file a new process runs `ocsdf3d reconstruct FILE -o OUT --json`, so this measures what a user meets:
imports included, refusals in the words of the program. The outcome of a file is one of

- `done`: exit code 0, and the mesh it wrote can be read and is not empty;
- `refused`: exit code 1 or 2 with one line on stderr, which is the reason shown;
- `crashed`: a traceback, a signal, no answer within the time limit, or a claim (exit 0) that does not hold.

Chamfer is to the mesh itself; for a cloud to the mesh it was scanned from where `points.csv` names one, else
to the cloud. It is in units of the reference's longest side. IoU is given where inside is defined on both
sides: a closed reference and `support` solid.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ocsdf3d import __version__
from ocsdf3d.bench import LISTS, Ledger, circumstances, data_folder, markdown, say

PROGRAM = [sys.executable, "-m", "ocsdf3d"]
FIGURES = {"support", "support_reason", "vertices", "faces", "watertight", "euler", "seconds"}  # of its JSON
KEY = ("file", "preset", "seed", "resolution", "device")
COLUMNS = (
    *(*KEY, "outcome", "support", "support_reason", "vertices", "faces", "watertight", "euler"),
    *("reference", "chamfer", "f_score", "iou", "seconds", "wall", "reason", "version"),
)
SHOWN = {  # column → its head in the table
    "file": "file",
    "outcome": "outcome",
    "support": "support",
    "watertight": "watertight",
    "euler": "Euler",
    "chamfer": "Chamfer",
    "f_score": "F-score",
    "iou": "IoU",
    "wall": "seconds",
    "reason": "reason",
}
PACKAGES = (
    *("torch", "numpy", "scipy", "scikit-image", "trimesh", "libigl"),
    *("laspy", "pye57", "open3d-cpu"),
)


def files(folder: Path) -> list[Path]:
    """All meshes, then all clouds, of a data folder; lists and read-me files are no data."""
    found: list[Path] = []
    for part in ("meshes", "points"):
        found += sorted(
            path for path in (folder / part).rglob("*") if path.is_file() and path.suffix not in LISTS
        )
    return found


def truths(folder: Path) -> dict[str, Path]:
    """Cloud (path below the folder) → mesh it was taken from, where `points.csv` names one."""
    table = folder / "points" / "points.csv"
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        named = [(row["name"], row["ground_truth_mesh"]) for row in csv.DictReader(file)]
    return {f"points/{cloud}": folder / "meshes" / mesh for cloud, mesh in named if mesh}


def run_program(path: Path, out: Path, *, arguments: Sequence[str], limit: float) -> dict[str, object]:
    """Run the command line on one file; its outcome with the figures it printed, or with its reason."""
    command = [*PROGRAM, "reconstruct", str(path), "-o", str(out), "--json", *arguments]
    out.unlink(missing_ok=True)  # of an earlier run: what is there afterwards was written by this one
    start = time.perf_counter()
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"outcome": "crashed", "reason": f"no answer in {limit:.0f} s", "wall": limit}
    wall = time.perf_counter() - start
    said = [line for line in run.stderr.splitlines() if line.strip()]
    last = said[-1] if said else ""
    if "Traceback (most recent call last)" in run.stderr or run.returncode not in (0, 1, 2):
        return {"outcome": "crashed", "reason": last or f"exit code {run.returncode}", "wall": wall}
    if run.returncode:
        left = ", and left a file behind" if out.exists() else ""
        outcome = "refused" if last and not left else "crashed"
        return {"outcome": outcome, "reason": (last or "exit without a word") + left, "wall": wall}
    try:
        figures = json.loads(run.stdout)
    except json.JSONDecodeError as error:
        return {"outcome": "crashed", "reason": f"stdout is not one JSON object: {error}", "wall": wall}
    missing = FIGURES - set(figures)
    if missing:
        return {"outcome": "crashed", "reason": f"its JSON lacks {', '.join(sorted(missing))}", "wall": wall}
    return {"outcome": "done", "figures": figures, "wall": wall}


def compare(out: Path, reference: Path, *, solid: bool, samples: int) -> dict[str, object]:
    """Chamfer [longest side of the reference], F-score and, for solids, IoU of a written mesh."""
    import trimesh

    from ocsdf3d.geometry import Box
    from ocsdf3d.io import read
    from ocsdf3d.metrics import evaluate

    mesh, truth = read(out), read(reference)
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise ValueError(f"{out.name} holds no faces")
    points = truth.triangles.reshape(-1, 3) if isinstance(truth, trimesh.Trimesh) else truth.points
    figures = evaluate(mesh, truth, samples=samples)
    distance = figures["chamfer"]
    assert distance is not None  # infinite at worst
    return {
        "chamfer": distance / Box.of(points).longest,
        "f_score": figures["f_score"],
        "iou": figures["iou"] if solid else None,
    }


def survey_one(path: Path, reference: Path, out: Path, *, asked: argparse.Namespace) -> dict[str, object]:
    """The columns of a row that are not its key."""
    arguments = ["-q"]
    for name in ("preset", "seed", "resolution", "device"):
        arguments += [f"--{name}", str(getattr(asked, name))]
    result = run_program(path, out, arguments=arguments, limit=asked.limit)
    row: dict[str, object] = dict.fromkeys(name for name in COLUMNS if name not in KEY)
    row |= {"outcome": result["outcome"], "reason": result.get("reason"), "wall": result["wall"]}
    row["version"] = __version__
    figures = result.get("figures")
    if isinstance(figures, dict):
        row |= {name: figures[name] for name in FIGURES - {"seconds"}}
        row["seconds"] = figures["seconds"]["total"]
        row["reference"] = "itself" if reference == path else reference.name
        try:
            row |= compare(out, reference, solid=figures["support"] == "solid", samples=asked.samples)
        except (ValueError, OSError) as error:
            row |= {"outcome": "crashed", "reason": f"what it wrote cannot be compared: {error}"}
        if not asked.keep:
            out.unlink(missing_ok=True)
    return row


def parser() -> argparse.ArgumentParser:
    description = (
        "`ocsdf3d reconstruct` over all meshes and clouds of a data folder. The table goes to stdout."
    )
    options = argparse.ArgumentParser("python -m ocsdf3d.bench.survey", description=description)
    add = options.add_argument
    add("--data", type=Path, help="data folder (default: OCSDF3D_DATA or ../shared/data beside the checkout)")
    add("--files", nargs="+", metavar="NAME", help="only these file names (default: all)")
    add("--preset", default="fast", help="(default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--resolution", type=int, default=200, help="nodes along the longest side (default: %(default)s)")
    add("--device", default="auto", help="(default: %(default)s)")
    add("--samples", type=int, default=100_000, help="of the evaluator, each side (default: %(default)s)")
    add("--limit", type=float, default=900.0, help="seconds a file may take (default: %(default)s)")
    add("--keep", action="store_true", help="keep the meshes in the output folder")
    add(
        "--out",
        type=Path,
        default=Path("bench-results/survey"),
        help="folder of survey.csv (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="start over: forget the rows already in the folder")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the survey; 0 when no file crashed, 1 otherwise or when there was nothing to run."""
    asked = parser().parse_args(argv)
    try:
        folder = asked.data or data_folder()
        paths = files(folder)
        path = asked.out / "survey.csv"
        ledger = Ledger(path, COLUMNS, KEY, fresh=asked.fresh)
        asked.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    if asked.files:
        unknown = set(asked.files) - {path.name for path in paths}
        if unknown:
            say(f"not in {folder}: {', '.join(sorted(unknown))}")
            return 1
        paths = [path for path in paths if path.name in asked.files]
    if not paths:
        say(f"no files in {folder / 'meshes'} and {folder / 'points'}")
        return 1

    print(f"# `ocsdf3d reconstruct --preset {asked.preset}` over {len(paths)} files\n")
    settings = {name: getattr(asked, name) for name in ("preset", "seed", "resolution", "device", "samples")}
    print(circumstances(PACKAGES, **settings), flush=True)
    truth = truths(folder)
    rows = []
    for number, path in enumerate(paths, start=1):
        name = path.relative_to(folder).as_posix()
        key = {"file": name, **{key: getattr(asked, key) for key in KEY[1:]}}
        row = ledger.find(**key)
        if row is None:
            say(f"{number}/{len(paths)} {name} …")
            out = asked.out / f"{name.replace('/', '_')}.ply"
            row = ledger.add(key | survey_one(path, truth.get(name, path), out, asked=asked))
            say(f"    {row['outcome']} in {row['wall']:.1f} s {row['reason'] or ''}")
        rows.append(row)

    print()
    print(markdown(list(SHOWN.values()), [[row[name] for name in SHOWN] for row in rows]))
    counts = {
        outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("done", "refused", "crashed")
    }
    print(
        f"\n{len(rows)} files: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + "."
    )
    return 1 if counts["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
