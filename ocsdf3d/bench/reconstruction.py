"""The yardstick: surfaces and fields from points, ours beside the peers and recipes, protocol by protocol.

    ocsdf3d bench reconstruct --protocol solids --seeds 0 1 2

`protocols/` says what is measured, `methods.py` who takes part and under which limits, `ranking.py` what the
tables say. Every row goes into a ledger as soon as it is measured, so that an interrupted run goes on where
it stopped. In the output folder each protocol leaves its rows (`.csv`, `.json`) and its tables (`.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
import trimesh

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, peers, replaced, say
from ocsdf3d.bench.figure import draw
from ocsdf3d.bench.methods import OURS, has_field
from ocsdf3d.bench.protocols import Asked, Case, Column, Protocol, Sample, parts
from ocsdf3d.bench.ranking import Row, by_shape, leaders, standings, table

KEY = (
    *("method", "preset", "support", "resolution", "device", "budget", "limit"),
    *("shape", "points", "noise", "outliers", "seed", "samples"),
)
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "trimesh", "libigl")
FIGURE_ROWS = 6
CLOUD, TRUTH = "cloud", "truth"
SECONDS = {"seconds": Column("seconds", "low")}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run found: its tables, and for machines {protocol: {slice: {column: standings}}}."""

    text: str
    ranks: dict[str, dict[str, dict[str, list[dict[str, object]]]]]


def run(names: Sequence[str], asked: Asked, out: Path, *, fresh: bool, figure: bool) -> Report:
    """Run protocols and write their tables.

    Parameters
    ----------
    names
        Of protocols.
    asked
        The options.
    out
        Folder for ledgers, tables and figures.
    fresh
        Forget the rows that are already there.
    figure
        Draw the meshes of the first seed side by side, as far as they were made in this run.

    Raises
    ------
    ValueError
        Unknown protocol or shape, or a ledger that cannot be read; nothing was measured yet.
    OSError
        The folder cannot be written.
    """
    todo = [(part, part.cases(asked)) for part in parts(names)]
    out.mkdir(parents=True, exist_ok=True)
    ledgers = [_ledger(part, out, fresh=fresh) for part, _ in todo]
    texts, ranks = [], {}
    for (part, cases), ledger in zip(todo, ledgers, strict=True):
        kept = dataclasses.replace(asked, keep=out / "meshes" / part.name if figure else None)
        rows = _rows(part, cases, ledger, kept)
        lines = [f"# {part.title}", "", _head(part, cases, asked)]
        for heading in dict.fromkeys(case.slice for case in cases):
            own = [row for row in rows if row["slice"] == heading]
            if own:
                lines += _tables(part, heading, own)
        lines += ["", part.notes]
        if kept.keep is not None:
            lines += ["", _figure(kept.keep, cases, asked, out / f"{part.name}.png")]
        texts.append("\n".join(lines))
        with replaced(out / f"{part.name}.md") as temporary:
            temporary.write_text(texts[-1] + "\n", encoding="utf-8")
        ranks[part.name] = _ranks(part, rows)
    return Report("\n\n".join(texts), ranks)


def _ledger(part: Protocol, out: Path, *, fresh: bool) -> Ledger:
    path = out / f"{part.name}.csv"
    ledger = Ledger(path, (*KEY, "slice", *part.columns, "seconds", "error", "version"), KEY, fresh=fresh)
    for number, row in enumerate(ledger.rows, start=1):
        for name, column in {**part.columns, **SECONDS}.items():
            if isinstance(row[name], str) and column.better != "text":
                raise ValueError(
                    f"{path}, row {number}: `{name}` is {row[name]!r}, which is no number."
                    " Mend or remove the row, or start over with --fresh."
                )
    return ledger


def _rows(part: Protocol, cases: Sequence[Case], ledger: Ledger, asked: Asked) -> list[Row]:
    """All rows of a protocol, from the ledger or measured now.

    A peer that does not load drops out, a file that cannot be read is left out; stderr names both.
    """
    methods = [name for name in asked.methods if has_field(name) or not part.fields_only]
    rows: list[Row] = []
    for number, case in enumerate(cases, start=1):
        sample: Sample | None = None
        for method in list(methods):
            key = _key(method, case, asked)
            row = ledger.find(**key)
            if row is None:
                said = f"{part.name} {number}/{len(cases)}: {case.shape}, {case.slice}, seed {case.seed}"
                say(f"{said}, {method} …")
                try:
                    sample = case.load() if sample is None else sample
                except (ValueError, OSError, ImportError) as error:
                    say(f"{case.shape} left out: {error}")
                    break
                try:
                    figures, answer = part.measure(method, case, sample, asked)
                except ImportError as error:
                    say(f"{method} does not load and takes no part: {error}")
                    methods.remove(method)
                    continue
                plain: dict[str, object] = {
                    "slice": case.slice,
                    "seconds": answer.seconds,
                    "error": answer.error,
                }
                plain["version"] = __version__
                row = ledger.add(key | {name: figures[name] for name in part.columns} | plain)
                say(f"    {answer.error or 'done'} in {answer.seconds:.1f} s")
                if asked.keep is not None and answer.mesh is not None and case.seed == asked.seeds[0]:
                    _keep(asked.keep, case, method, answer.mesh, sample)
            rows.append(row)
    return rows


def _key(method: str, case: Case, asked: Asked) -> dict[str, object]:
    """What a row is found by: settings that mean nothing to a method are None."""
    ours, recipe = method == OURS, method != OURS and has_field(method)
    return {
        "method": method,
        "preset": asked.preset if ours else None,
        "support": asked.support if has_field(method) else None,
        "resolution": asked.resolution if has_field(method) else None,
        "device": (case.device or asked.device) if has_field(method) else None,
        "budget": asked.budget if recipe else None,
        "limit": asked.limit,
        "shape": case.shape,
        "points": case.points,
        "noise": case.noise,
        "outliers": case.outliers,
        "seed": case.seed,
        "samples": asked.samples,
    }


def _head(part: Protocol, cases: Sequence[Case], asked: Asked) -> str:
    libraries = [peers.LIBRARIES[name][1] for name in asked.methods if name in peers.LIBRARIES]
    libraries += [name for name in asked.methods if name == "implicitlab"]
    settings: dict[str, object] = {
        name: getattr(asked, name)
        for name in ("preset", "support", "resolution", "samples", "device", "limit", "budget")
    }
    if asked.device == "cuda":
        settings["device"] = f"cuda ({torch.cuda.get_device_name()})"
    return circumstances(
        (*PACKAGES, *dict.fromkeys(libraries)),
        protocol=part.name,
        shapes=len({case.shape for case in cases}),
        seeds=" ".join(map(str, asked.seeds)),
        **settings,
    )


def _tables(part: Protocol, heading: str, rows: Sequence[Row]) -> list[str]:
    columns = {**part.columns, **SECONDS}
    first = next(iter(part.columns))
    lines = ["", f"## {heading}", "", table(rows, columns), "", *leaders(rows, columns, OURS)]
    if len({row["shape"] for row in rows}) > 1:
        lines += ["", f"{part.columns[first].head} by shape:", "", by_shape(rows, first)]
    failures = [row for row in rows if row["error"] is not None]
    if failures:
        lines += ["", "Failures:", ""]
        lines += [
            f"- {row['method']} on {row['shape']}, seed {row['seed']}: {row['error']}" for row in failures
        ]
    return lines


def _ranks(part: Protocol, rows: Sequence[Row]) -> dict[str, dict[str, list[dict[str, object]]]]:
    columns = {**part.columns, **SECONDS}
    return {
        heading: {
            name: [one._asdict() for one in standings(own, name, column)]
            for name, column in columns.items()
            if column.better != "text"
        }
        for heading in dict.fromkeys(str(row["slice"]) for row in rows)
        for own in [[row for row in rows if row["slice"] == heading]]
    }


def _file(keep: Path, case: Case, method: str) -> Path:
    return keep / f"{case.shape}-{case.points}-{case.noise:g}-{case.outliers:g}-{method}.ply"


def _keep(keep: Path, case: Case, method: str, mesh: trimesh.Trimesh, sample: Sample) -> None:
    """Write a mesh for the figure, and beside it what it was made of and the truth."""
    keep.mkdir(parents=True, exist_ok=True)
    truth = sample.reference
    true = truth if isinstance(truth, trimesh.Trimesh) else trimesh.PointCloud(truth.points)
    shown = {method: mesh, CLOUD: trimesh.PointCloud(sample.points), TRUTH: true}
    for shape, path in ((shape, _file(keep, case, name)) for name, shape in shown.items()):
        with replaced(path) as temporary, temporary.open("wb") as file:
            shape.export(file, file_type="ply")


def _figure(keep: Path, cases: Sequence[Case], asked: Asked, path: Path) -> str:
    """Draw the first slice; a line of Markdown that shows the figure, or says why there is none."""
    first = [case for case in cases if case.slice == cases[0].slice and case.seed == asked.seeds[0]]
    columns = [CLOUD, *asked.methods, TRUTH]
    files = [[_file(keep, case, name) for name in columns] for case in first[:FIGURE_ROWS]]
    used = [j for j in range(len(columns)) if any(row[j].exists() for row in files)]
    reason = draw(
        [[row[j] for j in used] for row in files],
        [case.shape for case in first[:FIGURE_ROWS]],
        [columns[j] for j in used],
        path,
    )
    if reason is None:
        return f"![{cases[0].slice}]({path.name})"
    say(reason)
    return reason
