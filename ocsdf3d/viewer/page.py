"""A scene as one page that opens from disk: no network, no server, no graphics library to write it.

Everything is inside: positions as 16-bit fractions of their box (1/65,536 of it, below what a screen shows),
normals as bytes, colours of every colouring that applies, several level sets for the slider, and a small
WebGL program that draws them in parallel projection, so that the scale bar holds everywhere.
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from importlib.resources import files
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from ocsdf3d.geometry import PointCloud
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.viewer.levels import Levels, shared_limits
from ocsdf3d.viewer.scene import COLORINGS, SCALE, Scene, Structure, colors_of
from ocsdf3d.viewer.views import AXES, UPS, check_options, right_of, step_of

__all__ = ["page_of"]

LEVELS = 9  # surfaces of the slider
UNKNOWN = 0.83  # grey of a value that is not finite


def page_of(
    scene: Scene,
    *,
    title: str = "ocsdf3d",
    offset: float = 0.0,
    coloring: str = "plain",
    layout: str = "overlay",
    up: str = "z",
) -> str:
    """Return the HTML of a scene.

    Parameters
    ----------
    scene : Scene
        What to show; its surfaces are those at `offset`.
    title : str
        Of the page.
    offset : float
        Level of these [world units].
    coloring, layout, up : str
        As for `view`.

    Raises
    ------
    ValueError
        An option that is none.
    """
    check_options(layout, coloring, up)
    levels = [offset]
    sets: dict[str, Levels] = {}
    if scene.fields:
        sets = {
            structure.name: Levels(structure.field, first=offset)
            for structure in scene.fields
            if structure.field
        }
        low, high = shared_limits(list(sets.values()))
        levels = sorted({offset, *np.linspace(low, high, LEVELS).tolist()})
    legends: dict[str, dict[str, Any]] = {}
    structures = []
    for structure in scene.structures:
        frames = []
        for level in levels if structure.field is not None else [offset]:
            shape = structure.shape if level == offset else _surface(sets[structure.name], level)
            frames.append(_frame(structure, shape, level, offset, scene, legends))
        structures.append({"name": structure.name, "color": structure.color, "frames": frames})
    _paint(structures, legends)
    index = list(AXES).index(up)
    basis = np.roll(np.eye(3), -index - 1, axis=0)  # the upward axis last, right-handed
    towards = np.array(UPS[up])
    step = step_of(scene, up)
    data = {
        "structures": structures,
        "levels": levels,
        "first": levels.index(offset),
        "coloring": coloring,
        "colorings": ["plain", *(name for name in COLORINGS if _any(structures, name))],
        "legends": legends,
        "side": layout == "side",
        "basis": basis.tolist(),
        "from": (basis @ towards).tolist(),
        "middle": scene.box.center.tolist(),
        "radius": 0.5 * scene.box.diagonal or 1.0,
        "right": right_of(towards, up).tolist(),
        "step": float(np.linalg.norm(step)),
    }
    # no "<" ends or begins an element, whatever a name holds
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    template = files("ocsdf3d.viewer").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("__TITLE__", html.escape(title)).replace("__DATA__", text)


def _surface(levels: Levels, level: float) -> trimesh.Trimesh:
    """A surface of the slider; what is too thin for the kept grid is left to the fine one."""
    try:
        return levels.coarse(level)
    except EmptyLevelSetError:
        return levels.fine_mesh(level)


def _any(structures: list[dict[str, Any]], coloring: str) -> bool:
    return any(coloring in frame["colors"] for structure in structures for frame in structure["frames"])


def _frame(
    structure: Structure,
    shape: trimesh.Trimesh | PointCloud,
    level: float,
    offset: float,
    scene: Scene,
    legends: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return one shape as text, its colours still as values, and widen `legends` to hold them."""
    if isinstance(shape, PointCloud):
        vertices, normals, faces = shape.points, shape.normals, None
    else:
        vertices, normals = np.asarray(shape.vertices), np.asarray(shape.vertex_normals)
        faces = _text(np.asarray(shape.faces), "<u4")
    lower, extent = vertices.min(axis=0), np.ptp(vertices, axis=0)
    fractions = (vertices - lower) / np.where(extent > 0.0, extent, 1.0)
    colors: dict[str, Any] = {}
    for coloring in COLORINGS:
        found = colors_of(structure, vertices, normals, coloring, scene, level)
        if found is None:
            continue
        colors[coloring] = found.values
        if found.limits is not None and level == offset:  # the other levels keep the scale of the first
            title, (low, high) = " ".join(found.title.split()), found.limits
            legend = legends.setdefault(coloring, {"title": title, "low": low, "high": high})
            legend["high"] = max(legend["high"], high)
    return {
        "lower": lower.tolist(),
        "extent": extent.tolist(),
        "places": _text(np.round(65535.0 * fractions), "<u2"),
        "normals": None if normals is None or faces is None else _text(np.round(127.0 * normals), "i1"),
        "faces": faces,
        "colors": colors,
    }


def _paint(structures: list[dict[str, Any]], legends: dict[str, dict[str, Any]]) -> None:
    """Turn values into red, green, blue, one scale a colouring, and give the legends their ramps."""
    from matplotlib import colormaps

    scale = colormaps[SCALE]
    for legend in legends.values():
        ramp = np.round(255.0 * scale(np.linspace(0.0, 1.0, 256))[:, :3]).astype(int)
        legend["ramp"] = ["#" + "".join(f"{part:02x}" for part in color) for color in ramp]
    for frame in (frame for structure in structures for frame in structure["frames"]):
        for coloring, values in frame["colors"].items():
            if coloring in legends:
                low, high = legends[coloring]["low"], legends[coloring]["high"]
                shades = scale(np.clip((values - low) / (high - low), 0.0, 1.0))[:, :3]
                shades[~np.isfinite(values)] = UNKNOWN
                values = np.round(255.0 * shades)
            frame["colors"][coloring] = _text(values, "u1")


def _text(values: NDArray[Any], kind: str) -> str:
    return b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode("ascii")
