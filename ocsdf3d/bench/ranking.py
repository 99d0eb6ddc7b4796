"""Who is first on each column, and by how much, from the rows of a ledger.

A row is one method on one case. Each seed gives a mean over shapes; the figure shown is the mean of these,
± their standard deviation. On columns where less is better a failure has no finite figure: the mean is over
the rest, and a method that failed less often comes before one that failed more often, whatever their means.
Where more is better a failure counts as 0 and needs no such rule. Equal figures share a place.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ocsdf3d.bench import markdown
from ocsdf3d.bench.protocols import Column

Row = Mapping[str, object]
CONTESTS = ("low", "high")


class Standing(NamedTuple):
    """A method on a column: its place from 1, mean and spread over seeds, failed rows and all rows.

    `mean` is None where nothing can be averaged (then it is last), `spread` with fewer than two seeds.
    """

    method: str
    place: int
    mean: float | None
    spread: float | None
    failed: int
    rows: int


def standings(rows: Sequence[Row], name: str, column: Column) -> list[Standing]:
    """The methods in the order of their places on a column; those without a figure of it are left out.

    Parameters
    ----------
    rows
        Of one slice of a protocol, any number of methods.
    name, column
        Of the figure; without a contest the order is that of the rows and every place 1.
    """
    found = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]
        failed = sum(row["error"] is not None for row in own)
        counted = own if column.better == "high" else [row for row in own if row["error"] is None]
        if all(row[name] is None for row in counted) and failed < len(own):
            continue  # the column means nothing to this method
        means = []
        for seed in dict.fromkeys(row["seed"] for row in counted):
            values = [_number(row[name]) for row in counted if row["seed"] == seed and row[name] is not None]
            means += [statistics.fmean(values)] if values else []
        mean = statistics.fmean(means) if means else None
        spread = statistics.stdev(means) if len(means) > 1 and all(map(math.isfinite, means)) else None
        found.append(Standing(method, 1, mean, spread, failed, len(own)))
    if column.better not in CONTESTS:
        return found
    found.sort(key=lambda one: _merit(one, column.better))
    placed: list[Standing] = []
    for number, one in enumerate(found, start=1):
        tied = placed and _merit(placed[-1], column.better) == _merit(one, column.better)
        placed.append(one._replace(place=placed[-1].place if tied else number))
    return placed


def leaders(rows: Sequence[Row], columns: Mapping[str, Column], ours: str) -> list[str]:
    """One line a contested column: the order of all, or by how much ours is behind, when it is."""
    lines = []
    for name, column in columns.items():
        if column.better not in CONTESTS:
            continue
        order = standings(rows, name, column)
        if not order:
            continue
        if order[0].mean is None or math.isinf(order[0].mean):
            lines.append(f"- {column.head}: nobody")
            continue
        line = f"- {column.head}: " + ", ".join(f"{one.place}. {one.method}" for one in order)
        mine = next((one for one in order if one.method == ours), None)
        if mine is not None and mine.place > 1:
            ahead = [one for one in order if one.place < mine.place]
            first = ahead[0]
            line += (
                f". **{', '.join(one.method for one in ahead)} ahead of {ours}**:"
                f" {first.method} {shown(first)}, {ours} {shown(mine)}"
            )
        lines.append(line)
    return lines


def table(rows: Sequence[Row], columns: Mapping[str, Column]) -> str:
    """Markdown: a line a method, mean ± spread over seeds of every column, and how often it failed."""
    figures = {name: column for name, column in columns.items() if column.better != "text"}
    of = {name: {one.method: one for one in standings(rows, name, c)} for name, c in figures.items()}
    used = [name for name in figures if of[name]]
    lines: list[list[object]] = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]
        failed = sum(row["error"] is not None for row in own)
        cells = [shown(of[name][method]) if method in of[name] else "–" for name in used]
        lines.append([method, *cells, f"{failed}/{len(own)}"])
    return markdown(["method", *(columns[name].head for name in used), "failed"], lines)


def by_shape(rows: Sequence[Row], name: str) -> str:
    """Markdown: a line a shape, the mean over seeds of one column for each method; a failure is infinite."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    lines: list[list[object]] = []
    for shape in dict.fromkeys(str(row["shape"]) for row in rows):
        cells: list[object] = []
        for method in methods:
            own = [row[name] for row in rows if row["shape"] == shape and row["method"] == method]
            values = [_number(value) for value in own if value is not None]
            cells.append(statistics.fmean(values) if values else None)
        lines.append([shape, *cells])
    return markdown(["shape", *methods], lines)


def shown(one: Standing) -> str:
    """Mean ± spread with four and two significant digits; a dash where there is none."""
    if one.mean is None:
        return "–"
    figure = f"{one.mean:.4g}"
    return figure if one.spread is None else f"{figure} ± {one.spread:.2g}"


def _merit(one: Standing, better: str) -> tuple[float, float]:
    """What sorts methods: less is better."""
    if better == "high":
        return (0.0, math.inf if one.mean is None else -one.mean)
    return (one.failed / one.rows, math.inf if one.mean is None else one.mean)


def _number(value: object) -> float:
    assert isinstance(value, bool | int | float)  # the ledger was checked when it was read
    return float(value)
