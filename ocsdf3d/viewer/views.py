"""From where a scene is seen, and how its structures are laid out: what every way of drawing it shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.viewer.scene import COLORINGS, Scene

__all__ = ["AXES", "LAYOUTS", "UPS", "check_options", "right_of", "step_of"]

Floats = NDArray[np.float64]

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
LAYOUTS = ("overlay", "side")
UPS = {  # axis that points up → where the camera stands, seen from the middle
    "z": (1.0, -1.4, 0.7),
    "y": (0.9, 0.6, 1.4),
    "x": (0.7, 1.4, 1.0),
}
GAP = 0.15  # between structures side by side, over their width


def check_options(layout: str, coloring: str, up: str) -> None:
    """Pass options that there are.

    Raises
    ------
    ValueError
        Another value; the message lists those there are.
    """
    options = {"layout": (layout, LAYOUTS), "coloring": (coloring, COLORINGS), "up": (up, UPS)}
    for name, (value, known) in options.items():
        if value not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {value!r}.")


def right_of(direction: Floats, up: str) -> Floats:
    """Return the horizontal unit vector, (3,), to the right of a camera that stands in a direction."""
    right = np.cross(AXES[up], direction)
    if np.linalg.norm(right) < 1e-9 * np.linalg.norm(direction):  # straight from above: any will do
        right = np.cross(AXES[up], UPS[up])
    return np.asarray(right / np.linalg.norm(right))


def step_of(scene: Scene, up: str) -> Floats:
    """Return the vector, (3,), from one structure to the next where they stand side by side [world units]."""
    right = right_of(np.array(UPS[up]), up)
    return (1.0 + GAP) * float(np.abs(right) @ scene.box.size) * right
