"""Figures of the planar sets: maps of scores (figures 2 and 6), and how scores are distributed (figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.bench import replaced
from ocsdf3d.viewer.scene import DIVERGING, INK, PALETTE

__all__ = ["Map", "blank", "draw_histograms", "draw_maps", "encoded", "window"]

Floats = NDArray[np.float64]
Maps = Mapping[tuple[str, str], "Map"]

DATA, OFF = (
    PALETTE["cloud"][0],
    PALETTE["surface"][0],
)  # dark blue and pale ochre: apart in any eye, and in grey
WINDOWS = {"one_cloud": 5.0, "blob_and_cloud": 4.0}  # half a side [standard deviations]; the paper's, by set
DOTS = 400  # of the data, drawn


@dataclass(frozen=True, eq=False)
class Map:
    """What the figures show of one method on one set; scores are less their threshold.

    Attributes
    ----------
    values : (k, k) array
        On a square grid, rows upwards.
    half : float
        Half the side of its window.
    data : (n, 2) array
        Some of the rows learnt.
    fresh, off : (n,) arrays
        Scores of fresh data, and of anomalies.
    slope : float
        Largest ‖∇f‖ on the rows learnt; nan where there is none.
    """

    values: Floats
    half: float
    data: Floats
    fresh: Floats
    off: Floats
    slope: float

    def save(self, path: Path) -> None:
        """Write an NPZ file, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = {k: np.asarray(v, np.float32) for k, v in asdict(self).items()}
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Map:
        """Read what `save` wrote."""
        with np.load(path) as file:
            found: dict[str, Any] = {name: file[name].astype(np.float64) for name in file.files}
        return cls(**found | {name: float(found[name]) for name in ("half", "slope")})


def window(name: str) -> float:
    """Return half the side of the map of a set [standard deviations]."""
    return WINDOWS.get(name, 3.0)


def draw_maps(maps: Maps, rows: Mapping[str, str], columns: Sequence[str]) -> bytes:
    """Return a PNG: a row a set, a column a method; white and bold where the method decides.

    Parameters
    ----------
    maps
        (set, method) → what to show.
    rows
        Set → its title.
    columns
        Methods.
    """
    figure = blank((2.3 * len(columns) + 0.3, 2.5 * len(rows) + 0.4))
    for i, (name, title) in enumerate(rows.items()):
        for j, method in enumerate(columns):
            axis = figure.add_subplot(len(rows), len(columns), i * len(columns) + j + 1)
            shown = maps[name, method]
            along = np.linspace(-shown.half, shown.half, len(shown.values))
            # each side has a scale of its own: most of B is far outside, and what is inside would be pale
            low, high = max(-shown.values.min(), 1e-12), max(shown.values.max(), 1e-12)
            signed = np.where(shown.values < 0.0, shown.values / low, shown.values / high)
            axis.imshow(
                signed,
                origin="lower",
                extent=(-shown.half, shown.half) * 2,
                cmap=DIVERGING + "_r",
                vmin=-1.0,
                vmax=1.0,
                interpolation="bilinear",
            )
            thin = np.linspace(-1.0, 1.0, 17)
            axis.contour(along, along, signed, thin[thin != 0.0], colors="#444444", linewidths=0.4)
            if signed.min() < 0.0 < signed.max():
                axis.contour(along, along, signed, [0.0], colors="black", linewidths=1.6)
            dots = shown.data[:DOTS]
            axis.plot(dots[:, 0], dots[:, 1], ".", color=INK, markersize=1.2, alpha=0.7)
            axis.set_xlim(-shown.half, shown.half)
            axis.set_ylim(-shown.half, shown.half)
            axis.set_xticks([])
            axis.set_yticks([])
            slope = "" if np.isnan(shown.slope) else f"largest slope {shown.slope:.3g}"
            axis.set_xlabel(slope, fontsize=8)
            if i == 0:
                axis.set_title(method, fontsize=10)
            if j == 0:
                axis.set_ylabel(title, fontsize=10)
    return encoded(figure)


def draw_histograms(maps: Maps, rows: Mapping[str, str], columns: Sequence[str]) -> bytes:
    """Return a PNG: the scores of fresh data and of anomalies, a row a set, a column a method."""
    figure = blank((2.5 * len(columns) + 0.3, 1.7 * len(rows) + 0.5))
    for i, (name, title) in enumerate(rows.items()):
        for j, method in enumerate(columns):
            axis = figure.add_subplot(len(rows), len(columns), i * len(columns) + j + 1)
            shown = maps[name, method]
            both = np.concatenate([shown.fresh, shown.off])
            bins = np.linspace(both.min(), both.max(), 50) if np.ptp(both) > 0.0 else 10
            axis.hist(shown.off, bins=bins, color=OFF, edgecolor="#8a6a2a", linewidth=0.3, label="anomalies")
            axis.hist(shown.fresh, bins=bins, color=DATA, alpha=0.75, label="data")
            axis.axvline(0.0, color="black", linewidth=1.0)
            axis.set_yscale("log")
            axis.tick_params(labelsize=6)
            if i == 0:
                axis.set_title(method, fontsize=10)
            if j == 0:
                axis.set_ylabel(title, fontsize=9)
            if i == j == 0:
                axis.legend(fontsize=7)
            if i == len(rows) - 1:
                axis.set_xlabel("score − threshold", fontsize=8)
    return encoded(figure)


def blank(size: tuple[float, float]) -> Any:
    """Return an empty figure; no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoded(figure: Any) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
