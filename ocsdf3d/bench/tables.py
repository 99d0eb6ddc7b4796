"""Tables 2 and 5 of the paper: outlier detectors on real tables, one setting for all, no label in any choice.

    ocsdf3d oneclass bench ad
    ocsdf3d oneclass bench oc

`ad`, anomaly detection: learn from all rows, outliers among them, and rank these same rows. `oc`, one-class:
learn from half of the normal rows, drawn anew for every seed, and rank the other half and all anomalies. Of
a table with more rows than `learn`, a random part of that size is learnt from, by every detector the same,
and all are ranked. Labels judge, and in `oc` take the anomalies out of what is learnt; they choose nothing.

Every row goes into a ledger at once, so that an interrupted run goes on where it stopped. The output folder
gets rows (`.csv`, `.json`), tables (`.md`) and a figure of the ranks (`.png`).

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.2, appendix G, tables 2 and 5. Han et al., ADBench, NeurIPS 2022
(the data sets).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, markdown, replaced, say
from ocsdf3d.bench.detectors import DETECTORS, FINE, OURS, PAPER, judged
from ocsdf3d.oneclass.certificate import auroc

__all__ = ["LEARN", "PROTOCOLS", "Report", "Table", "read", "run", "tables_of"]

Floats = NDArray[np.float64]

LEARN = 10_000
KEY = ("method", "table", "seed", "learn")
COLUMNS = (*KEY, "rows", "columns", "auroc", "fit", "score", "error", "version")
PROTOCOLS = {"ad": "Anomaly detection (table 2)", "oc": "One-class classification (table 5)"}
HALVES = ("arrhythmia", "thyroid", "mammography", "vowels", "satimage-2", "smtp")  # the tables of table 5
# AUROC of the paper's OCSDF, mean and spread of 20 runs; of table 2 with the margin that scored best
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "ad": {
        "breastw": (0.826, 0.059),
        "cardio": (0.950, 0.001),
        "glass": (0.739, 0.041),
        "http": (0.675, 0.37),
        "ionosphere": (0.802, 0.001),
        "lymphography": (0.961, 0.049),
        "mammography": (0.860, 0.025),
        "musk": (0.926, 0.20),
        "optdigits": (0.510, 0.009),
        "pima": (0.607, 0.010),
        "satimage-2": (0.979, 0.004),
        "shuttle": (0.991, 0.003),
        "smtp": (0.871, 0.035),
        "thyroid": (0.959, 0.0),
        "vertebral": (0.486, 0.026),
        "vowels": (0.947, 0.007),
        "wbc": (0.936, 0.001),
        "wine": (0.815, 0.009),
    },
    "oc": {
        "arrhythmia": (0.800, 0.013),
        "thyroid": (0.983, 0.001),
        "mammography": (0.880, 0.014),
        "vowels": (0.961, 0.009),
        "satimage-2": (0.978, 0.0),
        "smtp": (0.838, 0.035),
    },
}


@dataclass(frozen=True)
class Table:
    """A table with labels: rows (n, d), and `anomalous`, (n,), true where a row is one."""

    name: str
    rows: Floats
    anomalous: NDArray[np.bool_]


@dataclass(frozen=True)
class Report:
    """What a run found: its text, and for machines {method: (mean AUROC, average rank)}."""

    text: str
    standings: dict[str, tuple[float, float]]


def tables_of(folder: Path, protocol: str, names: Sequence[str] | None) -> list[Path]:
    """Return the files of a protocol in a folder of `.npz`, or those named.

    Raises
    ------
    ValueError
        No such protocol, a name that no file has, or no file at all.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol}; there are {', '.join(PROTOCOLS)}.")
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if names is None:
        names = [name for name in found if (name in HALVES) or protocol == "ad"]
        names = [name for name in names if protocol == "oc" or name not in HALVES[:1]]
    missing = [name for name in names if name not in found]
    if missing or not names:
        raise ValueError(f"{folder}: no table {', '.join(missing) or '(*.npz)'} there.")
    return [found[name] for name in dict.fromkeys(names)]


def read(path: Path) -> Table:
    """Return the table of an `.npz` with `X`, (n, d), and `y`, (n,), 1 where a row is an anomaly.

    Raises
    ------
    ValueError
        Arrays of other names or shapes, values that are not finite, or only one kind of row.
    """
    with np.load(path, allow_pickle=False) as file:
        if not {"X", "y"} <= set(file.files):
            raise ValueError(f"{path}: has no arrays `X` and `y`; got {', '.join(file.files) or 'none'}.")
        rows, labels = np.asarray(file["X"], np.float64), np.asarray(file["y"])
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or not np.isfinite(rows).all():
        raise ValueError(
            f"{path}: `X` must be (n, d) and finite and `y` (n,); got {rows.shape} and {labels.shape}."
        )
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise ValueError(f"{path}: `y` must hold 0 (normal) and 1 (anomaly), and both.")
    return Table(path.stem, rows, labels == 1)


def run(
    protocol: str,
    paths: Sequence[Path],
    methods: Sequence[str],
    out: Path,
    *,
    seeds: Sequence[int],
    learn: int = LEARN,
    fresh: bool = False,
) -> Report:
    """Measure what is not in the ledger yet and write the tables.

    Parameters
    ----------
    protocol
        `"ad"` or `"oc"`.
    paths
        Files of tables.
    methods
        Names of detectors.
    out
        Folder of the ledger, the tables and the figure.
    seeds
        Of halves, parts and detectors alike. What draws nothing at random is run once.
    learn
        Most rows to learn from; 0 for all.
    fresh
        Forget the rows that are already there.

    Raises
    ------
    ValueError
        A table or ledger that cannot be read; nothing was measured yet.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{protocol}.csv"
    ledger = Ledger(path, COLUMNS, KEY, fresh=fresh)
    tables = [read(one) for one in paths]
    rows: list[Mapping[str, object]] = []
    methods = list(methods)
    for number, table in enumerate(tables, start=1):
        say(f"{protocol} {number}/{len(tables)}: {table.name}, {table.rows.shape[0]} rows")
        part = 0 < learn < len(table.rows)
        for method in list(methods):
            drawn = DETECTORS[method][2] or part or protocol == "oc"
            for seed in seeds if drawn else seeds[:1]:
                key = {"method": method, "table": table.name, "seed": seed, "learn": learn}
                row = ledger.find(**key)
                if row is None:
                    try:
                        row = ledger.add(key | _figures(protocol, table, method, seed, learn))
                    except ImportError as error:
                        say(f"{method} does not load and takes no part: {error}")
                        methods.remove(method)
                        break
                rows.append(row)
    means = _means(rows)
    ranks = _ranks(means)
    title = PROTOCOLS[protocol]
    head = circumstances(
        ("torch", "numpy", "scikit-learn", "pyod"),
        protocol=protocol,
        tables=len(tables),
        seeds=" ".join(map(str, seeds)),
        learn=learn or "all",
    )
    text = "\n".join([f"# {title}", "", head, *_lines(protocol, rows, means, ranks)])
    with replaced(out / f"{protocol}.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    if len(ranks) > 1:
        with replaced(out / f"{protocol}.png") as temporary:
            temporary.write_bytes(_figure(title, means, ranks))
    standings = {
        name: (statistics.fmean(own.values()), statistics.fmean(ranks[name]))
        for name, own in means.items()
        if name in ranks
    }
    return Report(text, standings)


def _figures(protocol: str, table: Table, method: str, seed: int, learn: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    known = np.arange(len(table.rows))
    if protocol == "oc":
        normal = rng.permutation(np.flatnonzero(~table.anomalous))
        known = np.sort(normal[: len(normal) // 2])
    asked = np.setdiff1d(np.arange(len(table.rows)), known) if protocol == "oc" else known
    if 0 < learn < len(known):
        known = np.sort(rng.choice(known, learn, replace=False))
    same = len(known) == len(asked) and protocol == "ad"
    plain: dict[str, object] = {"rows": len(known), "columns": table.rows.shape[1], "version": __version__}
    try:
        found = judged(method, table.rows[known], None if same else table.rows[asked], seed=seed)
        wrong = table.anomalous[asked]
        figure = auroc(found.scores[~wrong], found.scores[wrong])
    except ImportError:
        raise
    except Exception as error:  # whatever foreign code raises is its answer, and is shown in the table
        failed = f"{type(error).__name__}: {error}"
        return plain | {"auroc": None, "fit": None, "score": None, "error": failed}
    return plain | {"auroc": figure, "fit": found.fit, "score": found.score, "error": None}


def _means(rows: Sequence[Mapping[str, object]]) -> dict[str, dict[str, float]]:
    """Mean AUROC over seeds, {method: {table: …}}; a failure counts as 0."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        figure = row["auroc"]
        assert figure is None or isinstance(figure, int | float)
        own = found.setdefault(str(row["method"]), {}).setdefault(str(row["table"]), [])
        own.append(0.0 if figure is None else float(figure))
    return {name: {t: statistics.fmean(v) for t, v in own.items()} for name, own in found.items()}


def _ranks(means: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """Place of each method on each table, 1 for the best, equal ones share; whoever saw all the tables."""
    tables = list(next(iter(means.values()))) if means else []
    there = [name for name, own in means.items() if list(own) == tables]
    if not there:
        return {}
    grid = np.array([[means[name][table] for table in tables] for name in there])
    places = np.stack([rankdata(-column, method="average") for column in grid.T], axis=1)
    return {name: line.tolist() for name, line in zip(there, places, strict=True)}


def _lines(
    protocol: str,
    rows: Sequence[Mapping[str, object]],
    means: Mapping[str, Mapping[str, float]],
    ranks: Mapping[str, Sequence[float]],
) -> list[str]:
    order = sorted(means, key=lambda name: statistics.fmean(ranks.get(name, [99.0])))
    summary = []
    for name in order:
        own = [row for row in rows if row["method"] == name]
        fits = [float(str(row["fit"])) for row in own if row["fit"] is not None]
        place = ranks.get(name)
        summary.append(
            [
                name,
                statistics.fmean(means[name].values()),
                None if place is None else statistics.fmean(place),
                None if place is None else statistics.pstdev(place),
                statistics.fmean(fits) if fits else None,
                f"{sum(row['error'] is not None for row in own)}/{len(own)}",
            ]
        )
    published = PUBLISHED[protocol]
    tables = list(dict.fromkeys(str(row["table"]) for row in rows))
    lines: list[list[object]] = []
    for table in tables:
        cells = [_spread(rows, name, table) for name in order]
        printed = published.get(table)
        lines.append([table, *cells, "–" if printed is None else f"{printed[0]:.3f} ± {printed[1]:.2g}"])
    failures = [row for row in rows if row["error"] is not None]
    said = [f"- {row['method']} on {row['table']}, seed {row['seed']}: {row['error']}" for row in failures]
    return [
        "",
        markdown(["method", "mean AUROC", "average rank", "± over tables", "fit [s]", "failed"], summary),
        "",
        markdown(["table", *order, "paper's OCSDF"], lines),
        "",
        f"AUROC, mean ± spread over seeds. {OURS} is ours by default, {FINE} and {PAPER} with those presets"
        " and the same rule of the margin; the paper's figures were printed there, its margin chosen by the"
        " test score." + ("" if not said else "\n\nFailures, counted as 0:\n\n" + "\n".join(said)),
    ]


def _spread(rows: Sequence[Mapping[str, object]], method: str, table: str) -> str:
    own = [
        float(str(row["auroc"]))
        for row in rows
        if row["method"] == method and row["table"] == table and row["auroc"] is not None
    ]
    if not own:
        return "–"
    mean = f"{statistics.fmean(own):.3f}"
    return mean if len(own) == 1 else f"{mean} ± {statistics.stdev(own):.2g}"


def _figure(
    title: str, means: Mapping[str, Mapping[str, float]], ranks: Mapping[str, Sequence[float]]
) -> bytes:
    """PNG: a line a method, a dot a table, its average rank as a bar; best at the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(ranks, key=lambda name: -statistics.fmean(ranks[name]))
    figure = Figure(figsize=(7.0, 0.8 + 0.42 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line, name in enumerate(order):
        average = statistics.fmean(ranks[name])
        ours = name in (OURS, FINE, PAPER)
        axes.barh(line, average, color="#2166ac" if ours else "#bdbdbd", height=0.62, zorder=1)
        offsets = np.linspace(-0.22, 0.22, len(ranks[name]))
        axes.plot(ranks[name], line + offsets, ".", color="black", markersize=4, alpha=0.55, zorder=2)
        mean = statistics.fmean(means[name].values())
        axes.text(len(order) + 0.4, line, f"{average:.1f}   {mean:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(0.0, len(order) + 0.25)
    axes.set_xlabel("place on a table (dots), average (bars); right: average place, mean AUROC")
    axes.set_title(title, fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()
