"""From a move of the slider to the new picture: median and worst time, at several resolutions.

    python -m ocsdf3d.bench.latency --fields kitten.safetensors

Each field stands on an off-screen stage of 1280 × 800 pixels, and the level jumps at random over the slider's
range. `coarse` is what follows the hand, `fine` what follows its release; `surface` is the new mesh alone,
`picture` the mesh, its actor and the drawing. The same levels for every column.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ocsdf3d import checkpoint
from ocsdf3d.bench import circumstances, markdown, say, threads
from ocsdf3d.viewer.probe import RenderingError, require_rendering
from ocsdf3d.viewer.scene import scene_of

COLUMNS = ("field", "nodes", "moves", "surface: median", "worst", "picture: median", "worst [ms]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one table; 1 where this machine cannot draw."""
    asked = parser().parse_args(arguments)
    torch.set_num_threads(threads())
    try:
        require_rendering()
        rows = [row for path in asked.fields for row in rows_of(path, asked)]
    except (RenderingError, OSError, ValueError) as error:
        say(str(error))
        return 1
    print("# Latency of the level's slider\n")
    print(circumstances(("torch", "pyvista", "vtk"), seed=asked.seed, moves=asked.moves))
    print(f"\n{markdown(COLUMNS, rows)}")
    return 0


def rows_of(path: Path, asked: argparse.Namespace) -> list[tuple[object, ...]]:
    """The rows of one field: the kept grid, then a sparse grid for each resolution."""
    from ocsdf3d.viewer.stage import Stage

    field = checkpoint.load(path, device="cpu")
    rows: list[tuple[object, ...]] = []
    for nodes in (None, *asked.nodes):
        stage = Stage(scene_of([field], resolution=64), off_screen=True, resolution=nodes or 64)
        levels = stage.levels_of(stage.scene.fields[0])
        draws = np.random.default_rng(asked.seed).uniform(*stage.limits, asked.moves)
        alone, whole = [], []
        for level in draws.tolist():
            begun = time.perf_counter()
            levels.coarse(level) if nodes is None else levels.fine_mesh(level)
            middle = time.perf_counter()
            stage.set_level(level, fine=nodes is not None)
            stage.plotter.render()
            alone.append(1e3 * (middle - begun))
            whole.append(1e3 * (time.perf_counter() - middle))
        stage.close()
        name = "coarse, 64 kept" if nodes is None else f"fine, {nodes}"
        figures = [figure for times in (alone, whole) for figure in (np.median(times), max(times))]
        rows.append((path.name, name, asked.moves, *(f"{figure:.0f}" for figure in figures)))
    return rows


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m ocsdf3d.bench.latency", description=__doc__)
    made.add_argument("--fields", type=Path, nargs="+", required=True, metavar="FIELD", help="saved fields")
    made.add_argument("--nodes", type=int, nargs="+", default=[64, 200], metavar="N", help="of fine surfaces")
    made.add_argument("--moves", type=int, default=30, metavar="N", help="levels a row (default: 30)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the levels (default: 0)")
    return made


if __name__ == "__main__":
    sys.exit(main())
