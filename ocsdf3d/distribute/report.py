"""A batch as one page that opens from disk: a row a shape, failures first, pictures inside."""

from __future__ import annotations

import html
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ocsdf3d import __version__

__all__ = ["report_of"]

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #222; margin: 2em auto; max-width: 72em; padding: 0 1em }
table { border-collapse: collapse; width: 100% }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid #ddd; vertical-align: middle }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
img { width: 160px; height: 120px; object-fit: contain; display: block }
.bad { color: #a11; text-align: left }
"""
COLUMNS = ("", "shape", "points", "support", "seconds", "vertices", "faces", "Euler", "watertight")


def report_of(rows: Sequence[Mapping[str, Any]], folder: Path, *, left: int = 0) -> str:
    """Return the HTML of a batch.

    Parameters
    ----------
    rows : sequence of dict
        Of the manifest.
    folder : Path
        Of the results; links are relative to it.
    left : int
        Shapes that were not reached.
    """
    failed = [row for row in rows if row["error"] is not None]
    done = [row for row in rows if row["error"] is None]
    closed = sum(row["watertight"] for row in done)
    counts = [f"{len(done)} shapes done", f"{closed} watertight", f"{len(failed)} failed"]
    if left:
        counts.append(f"{left} not reached")
    if done:
        counts.append(f"{sum(row['seconds'] for row in done):,.0f} seconds of work")
    lines = [f"<p>{', '.join(counts)}. ocsdf3d {__version__}.</p>"]
    reasons = dict.fromkeys(row["no_picture"] for row in done if row["no_picture"])
    lines += [f"<p>No pictures: {html.escape(reason)}</p>" for reason in reasons]
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = "\n".join(_line(row, folder) for row in [*failed, *done])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>ocsdf3d batch</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(folder.name)}</h1>\n"
        + "\n".join(lines)
        + f"\n<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></body></html>\n"
    )


def _line(row: Mapping[str, Any], folder: Path) -> str:
    source = html.escape(_shown(row["source"]))
    if row["error"] is not None:
        span = len(COLUMNS) - 2
        error = html.escape(row["error"])
        return f'<tr><td></td><td>{source}</td><td colspan="{span}" class="bad">{error}</td></tr>'
    link = quote(_shown(os.path.relpath(row["mesh"], folder)))
    watertight = "yes" if row["watertight"] else '<b class="bad">no</b>'
    cells = [
        f"{row['points']:,}",
        html.escape(row["support"]),
        f"{row['seconds']:.1f}",
        f"{row['vertices']:,}",
        f"{row['faces']:,}",
        f"{row['euler']}",
        watertight,
    ]
    name = f'<a href="{link}">{html.escape(_shown(os.path.relpath(row["mesh"], folder)))}</a><br>{source}'
    return (
        f"<tr><td>{_image(row['picture'])}</td><td>{name}</td>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _image(path: str | None) -> str:
    if path is None:
        return ""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return "no picture"
    return f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{b64encode(data).decode()}">'


def _shown(path: str) -> str:
    """A path as text that any page can hold: names of files are bytes."""
    return os.fsencode(path).decode("utf-8", "replace")
