"""Pictures for paper: a slice with isolines, curves of a training, a turning scene. Bytes, ready to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.csg import Field
from ocsdf3d.viewer.scene import DIVERGING, PALETTE
from ocsdf3d.viewer.slices import cut, isolines
from ocsdf3d.viewer.views import AXES, UPS

if TYPE_CHECKING:  # the stage loads VTK, which most figures do without
    from ocsdf3d.viewer.stage import Stage

__all__ = ["certificate_figure", "curves_figure", "slice_figure", "turntable"]

NODES = 400  # of a slice along its longer side
POINTS = PALETTE["cloud"][0]
BESIDE = 0.02  # points this near to the plane are drawn, over the longest side
SHOWN = {  # curve → title and whether its axis is logarithmic
    "loss": ("loss", False),
    "recall": ("share of positives with f > 0", False),
    "false_positives": ("share of negatives with f > 0", False),
    "gradient_norm": ("mean ‖∇f‖", False),
    "margin": ("margin m", True),
    "lam": ("weight λ", True),
}
BOUNDS = {  # column → what the legend calls it, its colour and its line
    "certified_auroc": ("AUROC, proved at least", PALETTE["cloud"][0], "-"),
    "attacked_auroc": ("AUROC, attack found", PALETTE["cloud"][0], ":"),
    "certified_tpr": ("normal rows accepted, proved at least", PALETTE["cloud"][2], "-"),
    "certified_fpr": ("anomalies accepted, proved at most", PALETTE["cloud"][1], "-"),
}


def slice_figure(
    field: Field,
    origin: ArrayLike,
    normal: ArrayLike,
    *,
    levels: Sequence[float] = (0.0,),
    cloud: ArrayLike | None = None,
    title: str = "",
) -> bytes:
    """Return a PNG of φ on a plane through a field's box, with isolines and axes in input units.

    Parameters
    ----------
    field : Field
        φ.
    origin, normal : (3,) array_like
        A point of the plane and its normal [world units].
    levels : sequence of float
        Level sets drawn boldly [world units].
    cloud : (n, 3) array_like, optional
        Points, of which those near the plane are drawn.
    title : str
        Above the picture.

    Raises
    ------
    ValueError
        A plane without direction.
    """
    found = cut(field, field.box, origin, normal, NODES)
    along = [found.spacing * np.arange(n) for n in found.values.shape]
    start = [float(found.corner @ axis) for axis in (found.u, found.v)]
    x, y = start[0] + along[0], start[1] + along[1]
    figure, axes = _figure(1, (7.0, 1.4 + 5.6 * min(2.0, along[1][-1] / along[0][-1])))
    axis = axes[0]
    largest = float(np.abs(found.values).max()) or 1.0
    picture = axis.imshow(
        found.values.T,
        origin="lower",
        extent=(x[0], x[-1], y[0], y[-1]),
        cmap=DIVERGING,
        vmin=-largest,
        vmax=largest,
        interpolation="bilinear",
    )
    thin = isolines(found.values)
    lines = axis.contour(x, y, found.values.T, thin, colors="#444444", linewidths=0.6, linestyles="solid")
    axis.clabel(lines, fontsize=7, fmt="%g")
    bold = sorted(c for c in levels if found.values.min() < c < found.values.max())
    if bold:
        axis.contour(x, y, found.values.T, bold, colors="black", linewidths=2.0, linestyles="solid")
    if cloud is not None:
        points = np.asarray(cloud, np.float64)
        way = np.cross(found.u, found.v)
        near = points[np.abs((points - found.corner) @ way) <= BESIDE * field.box.longest]
        axis.plot(near @ found.u, near @ found.v, ".", color=POINTS, markersize=2.5)
    axis.set_xlabel(f"{_named(found.u)} [units]")
    axis.set_ylabel(f"{_named(found.v)} [units]")
    axis.set_title(title, fontsize=10)
    figure.colorbar(picture, ax=axis, label="φ [units], negative inside", shrink=0.85)
    return _png(figure)


def curves_figure(history: Mapping[str, Any], title: str = "") -> bytes:
    """Return a PNG of the curves in a field's `history`.

    Raises
    ------
    ValueError
        The history holds none: an exact shape, or a combination of fields.
    """
    curves = history.get("curves") or {}
    names = [name for name in SHOWN if curves.get(name)]
    if not names:
        raise ValueError("no training curves: only a trained field has them.")
    figure, axes = _figure(len(names), (4.2 * min(3, len(names)), 2.9 * -(-len(names) // 3)))
    for axis, name in zip(axes, names, strict=False):
        axis.plot(curves["step"], curves[name], color=POINTS, linewidth=1.5)
        label, logarithmic = SHOWN[name]
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
        if logarithmic:
            axis.set_yscale("log")
    figure.suptitle(title, fontsize=11)
    return _png(figure)


def certificate_figure(
    radii: ArrayLike, curves: Mapping[str, ArrayLike], *, clean: float, title: str = ""
) -> bytes:
    """Return a PNG of what is proved of a detector over the radius of an attack.

    Parameters
    ----------
    radii : (k,) array_like
        ε [standard deviations].
    curves : mapping of (k,) array_like
        Keys of `BOUNDS`; those that are not there are not drawn.
    clean : float
        AUROC without an attack, drawn as a level.
    title : str
        Above the picture.

    Raises
    ------
    ValueError
        A curve that is not of the length of `radii`.
    """
    order = np.argsort(np.asarray(radii, np.float64))
    x = np.asarray(radii, np.float64)[order]
    figure, axes = _figure(1, (6.4, 4.2))
    axis = axes[0]
    axis.axhline(clean, color="#888888", linewidth=1.0, linestyle="--", label="AUROC, no attack")
    for name, (label, color, line) in BOUNDS.items():
        if name not in curves:
            continue
        values = np.asarray(curves[name], np.float64)
        if values.shape != x.shape:
            raise ValueError(f"`curves`: {name} has the shape {values.shape}, `radii` {x.shape}.")
        marker = "." if len(x) <= 30 else ""
        axis.plot(x, values[order], line, color=color, marker=marker, linewidth=1.5, label=label)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("radius ε of the attack, l2 [standard deviations]")
    axis.set_ylabel("share")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return _png(figure)


def turntable(stage: Stage, frames: int = 36) -> bytes:
    """Return a GIF of a stage turned once around its upward axis.

    Raises
    ------
    ValueError
        Fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"`frames` must be at least 2; got {frames}.")
    from PIL import Image

    up = np.array(AXES[stage.up])
    start = np.array(UPS[stage.up])
    pictures = []
    for angle in 2.0 * np.pi * np.arange(frames) / frames:
        stage.look_from(_turned(start, up, angle))
        pictures.append(Image.fromarray(stage.picture()).convert("P", palette=Image.Palette.ADAPTIVE))
    stage.reset()
    out = BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=3600 // frames, loop=0)
    return out.getvalue()


def _turned(vector: NDArray[np.float64], axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotate a vector, (3,), around a unit axis (Rodrigues)."""
    along = (vector @ axis) * axis
    return np.asarray(along + np.cos(angle) * (vector - along) + np.sin(angle) * np.cross(axis, vector))


def _named(way: NDArray[np.float64]) -> str:
    """Name an axis of a slice: x, −y, or its direction."""
    for name, axis in AXES.items():
        if abs(way @ np.array(axis)) > 1.0 - 1e-9:
            return name if way @ np.array(axis) > 0 else f"−{name}"
    return f"along ({', '.join(f'{c:.2f}' for c in way)})"


def _figure(count: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """Return a figure with `count` axes, at most three in a row; no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    columns = min(3, count)
    return figure, [figure.add_subplot(-(-count // columns), columns, i + 1) for i in range(count)]


def _png(figure: Any) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
