"""Meshes side by side: a row a shape, a column a method between the cloud and the truth, one camera a row.

Rendering happens in a process of its own under a time limit. Without its system libraries VTK does not raise
but ends the process, and that must not take the tables along; `ocsdf3d doctor` names what is missing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocsdf3d.bench.isolation import call_apart
from ocsdf3d.viewer.probe import prefer_egl

LIMIT = 300.0  # seconds
CELL = 320  # pixels


def draw(
    files: Sequence[Sequence[Path | None]], rows: Sequence[str], columns: Sequence[str], path: Path
) -> str | None:
    """Write a PNG of PLY files on a grid; None when it was written, else one line with the reason.

    Parameters
    ----------
    files
        One list a row; None, or a file that is not there, leaves its cell empty.
    rows, columns
        Their names, written into the cells at the left and at the top.
    path
        The PNG; on failure whatever was there before stays.
    """
    there = [[None if file is None or not file.exists() else str(file) for file in row] for row in files]
    if not any(any(row) for row in there):
        return "no figure: no mesh was made in this run (rows from the ledger bring none; see --fresh)"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".figure-") as folder:
        picture = Path(folder) / "figure.png"
        try:
            outcome = call_apart(render, there, list(rows), list(columns), str(picture), limit=LIMIT)
        except ImportError as error:
            return f"no figure: PyVista does not load ({error})"
        if outcome.error is not None or not picture.exists():
            reason = outcome.error or "nothing was written"
            return f"no figure: rendering is impossible here ({reason}); `ocsdf3d doctor` tells more"
        os.replace(picture, path)
    return None


def render(files: list[list[str | None]], rows: list[str], columns: list[str], picture: str) -> None:
    """`draw` in the present process, which a missing system library may end."""
    prefer_egl()
    import pyvista

    size, shape = [CELL * len(columns), CELL * len(rows)], (len(rows), len(columns))
    plotter: Any = pyvista.Plotter(shape=shape, off_screen=True, window_size=size, border=False)
    plotter.set_background("white", all_renderers=True)
    for i, row in enumerate(files):
        bounds = next(pyvista.read(file).bounds for file in row if file is not None) if any(row) else None
        for j, file in enumerate(row):
            plotter.subplot(i, j)
            if i == 0:
                plotter.add_text(columns[j], position="upper_edge", font_size=8, color="black")
            if j == 0:
                plotter.add_text(rows[i], position="lower_edge", font_size=7, color="gray")
            if file is None:
                continue
            mesh: Any = pyvista.read(file)
            if mesh.n_cells and mesh.faces.size:
                plotter.add_mesh(mesh, color="tan" if j == len(row) - 1 else "lightsteelblue", ambient=0.2)
            else:
                plotter.add_points(mesh, color="#1f4e79", point_size=3)
            plotter.view_vector((1.0, -1.4, 0.7), viewup=(0.0, 0.0, 1.0))
            plotter.reset_camera(bounds=bounds)
    plotter.screenshot(picture)
    plotter.close()
