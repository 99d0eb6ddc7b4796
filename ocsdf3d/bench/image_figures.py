"""Figures of the bench of images: AUROC under attack, how scores are distributed, images made and explained.

References
----------
Béthune et al., OCSDF, ICML 2023, figure 3 (certified and attacked AUROC by radius), figures 7, 10 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.bench.image_sets import Dataset
from ocsdf3d.bench.toy_figures import DATA, OFF, blank, encoded
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.images.pictures import coloured, png, sheet
from ocsdf3d.images.synthesis import heat_map, synthesize
from ocsdf3d.viewer.scene import INK

__all__ = ["KINDS", "attack_curves", "made_images", "odd_parts", "score_histograms"]

Detectors = Mapping[str, OneClassImageSDF]
Floats = NDArray[np.float64]

TRAIN = "#5aa9c9"
LABELS = {
    "ocsdf": "ours",
    "deepsvdd": "Deep SVDD",
    "deepsvdd_plain": "Deep SVDD without BatchNorm",
    "deepsvdd_ours": "Deep SVDD, our network unconstrained",
}
INKS = {"ocsdf": DATA, "deepsvdd": "#c0392b", "deepsvdd_plain": "#d98a3d", "deepsvdd_ours": "#7a6fb0"}
MADE, SHOWN = 10, 5  # images of a class that are made; that are explained of each kind
LEVEL = 2.0  # that made images reach [mean score of the class]: clearer than at 1, which is the paper's


def attack_curves(rows: Sequence[Mapping[str, object]], radii: Sequence[int], name: str) -> bytes:
    """Return a PNG: AUROC by the radius of the attack, mean of classes and seeds, and what is proved of ours.

    Parameters
    ----------
    rows
        Of the ledger.
    radii
        Of the attack [1/255].
    name
        Of the set.

    Raises
    ------
    ValueError
        No row was attacked.
    """
    figure = blank((6.4, 4.2))
    axis = figure.add_subplot()
    at = [0, *radii]
    for method, label in LABELS.items():
        attacked = [row for row in rows if row["method"] == method and row["clean_attacked"] is not None]
        if not attacked:
            continue
        columns = ["clean_attacked", *(f"attacked_{radius}" for radius in radii)]
        _band(axis, at, _percent(attacked, columns), INKS[method], "-", f"{label}, attacked")
        if method == "ocsdf":
            proved = ["clean_attacked", *(f"least_{radius}" for radius in radii)]
            _band(axis, at, _percent(attacked, proved), INKS[method], "--", f"{label}, proved")
    if not axis.lines:
        raise ValueError("curves need rows that were attacked: a method with a gradient, and --attacked > 0.")
    axis.set_xlabel("l2 radius of the attack [1/255 of a pixel's range]")
    axis.set_ylabel("AUROC [%]")
    axis.set_xticks(at)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlim(0, max(at))
    axis.set_ylim(0, 100)
    axis.axhline(50.0, color=INK, linewidth=0.5, linestyle=":")
    axis.set_title(f"{name}: mean and standard deviation over classes and seeds", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return encoded(figure)


def score_histograms(detectors: Detectors, data: Dataset) -> bytes:
    """Return a PNG: of each class the scores of its training and test images and of all other test images."""
    columns = min(5, len(detectors))
    height = -(-len(detectors) // columns)
    figure = blank((2.6 * columns + 0.3, 2.1 * height + 0.4))
    for place, (name, detector) in enumerate(detectors.items()):
        number = data.classes.index(name)
        own = data.y_test == number
        scores = detector.score_samples(data.test)
        parts = {
            "other classes": (scores[~own], OFF),
            "train": (detector.score_samples(data.train[data.y_train == number]), TRAIN),
            "test": (scores[own], DATA),
        }
        both = np.concatenate([values for values, _ in parts.values()])
        bins = np.linspace(both.min(), both.max(), 61)
        axis = figure.add_subplot(height, columns, place + 1)
        for label, (values, ink) in parts.items():
            solid = label == "other classes"
            axis.hist(
                values,
                bins=bins,
                density=True,
                histtype="stepfilled" if solid else "step",
                color=ink,
                linewidth=1.2,
                label=label,
            )
        axis.axvline(detector.offset_, color="black", linewidth=0.8)
        axis.set_title(name, fontsize=9)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        if place == 0:
            axis.legend(fontsize=6)
        if place >= len(detectors) - columns:
            axis.set_xlabel("f [l2 of pixels in [0, 1]]", fontsize=7)
    return encoded(figure)


def made_images(detectors: Detectors, data: Dataset) -> bytes:
    """Return a PNG: of each class a row of images made from noise by Algorithm 1."""
    made = [synthesize(d, MADE, level=LEVEL * d.level_, random_state=0) for d in detectors.values()]
    return png(sheet(np.concatenate(made), MADE, zoom=_zoom(data)))


def odd_parts(detectors: Detectors, data: Dataset) -> bytes:
    """Return a PNG: of each class some test images of it and of others, and beneath where they would have to
    be brighter (red) or darker (blue) to look like it, on one scale a class."""
    lines = []
    for name, detector in detectors.items():
        own = data.y_test == data.classes.index(name)
        others = np.flatnonzero(~own)
        picked = [*np.flatnonzero(own)[:SHOWN], *others[np.arange(SHOWN) * len(others) // SHOWN]]
        shown = data.test[picked] / 255.0
        shown = shown[..., None] if shown.ndim == 3 else shown[..., :3]
        lines.append(np.broadcast_to(shown, (*shown.shape[:3], 3)))
        lines.append(coloured(heat_map(detector, data.test[picked]), alike=True))
    return png(sheet(np.concatenate(lines), 2 * SHOWN, zoom=_zoom(data)))


KINDS: dict[str, Callable[..., bytes]] = {
    "curves": attack_curves,
    "histograms": score_histograms,
    "synthesis": made_images,
    "heat": odd_parts,
}


def _percent(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> Floats:
    """Return the columns of rows, (n, k) [%]."""
    return 100.0 * np.array([[float(str(row[name])) for name in columns] for row in rows])


def _band(axis: Any, at: Sequence[int], values: Floats, ink: str, style: str, label: str) -> None:
    """Draw a mean, and its spread where there is one."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    axis.plot(at, mean, style, color=ink, marker="o", markersize=3, label=label)
    axis.fill_between(at, mean - spread, mean + spread, color=ink, alpha=0.12, linewidth=0)


def _zoom(data: Dataset) -> int:
    return max(1, 56 // data.test.shape[1])
