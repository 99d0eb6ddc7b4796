"""A scene on PyVista's stage: actors, camera, legend, and what every control does, whoever holds it.

Mouse and keys (`desktop.py`), a browser (`web.py`) and the tests call the same methods. The stage keeps its
camera while anything changes but `reset`.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pyvista
import trimesh
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.viewer.levels import Levels, shared_limits
from ocsdf3d.viewer.scene import (
    DIVERGING,
    INK,
    PAPER,
    SCALE,
    Colors,
    Scene,
    Structure,
    ceiling,
    colors_of,
)
from ocsdf3d.viewer.slices import cut, isolines
from ocsdf3d.viewer.views import AXES, UPS, check_options, right_of, step_of

__all__ = ["Stage"]

BAR = 0.25  # length of the scale bar over the longest side, about
CREASE = 35.0  # degrees: sharper edges of meshes are drawn sharp
GLASS = 0.25  # opacity of what is before the slice
SLICE_NODES = 128
SLICE_ACTORS = ("slice", "isolines", "slice level")
SLICE_TITLE = "value of the field\n[units]\n"  # no φ: VTK's font has no Greek


class Stage:
    """What is seen of a scene.

    Parameters
    ----------
    scene : Scene
        What there is.
    off_screen : bool
        Draw without a window.
    size : (int, int)
        Width and height [pixels].
    layout : str
        `"overlay"`, all in place, or `"side"`, in a row.
    coloring : str
        One of `scene.COLORINGS`.
    up : str
        Axis that points up: `"x"`, `"y"` or `"z"`.
    offset : float
        Level of the fields that the scene's surfaces show [world units].
    resolution : int
        Nodes of fine surfaces along the longest side.
    plane : (origin, normal), optional
        Slice shown from the start [world units].

    Attributes
    ----------
    plotter : pyvista.Plotter
        Its graphics.
    level : float
        Of the surfaces that are shown [world units].
    note : str
        Last thing that could not be shown, for the status line; empty when all is well.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        off_screen: bool,
        size: tuple[int, int] = (1280, 800),
        layout: str = "overlay",
        coloring: str = "plain",
        up: str = "z",
        offset: float = 0.0,
        resolution: int = 200,
        plane: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        check_options(layout, coloring, up)
        self.scene, self.level, self.note = scene, float(offset), ""
        self.layout, self.coloring, self.up = layout, coloring, up
        self._resolution, self._first = resolution, float(offset)
        self._from = np.array(UPS[up])  # where the camera was put, seen from the middle
        self._levels: dict[str, Levels] = {}
        self._shapes: dict[str, trimesh.Trimesh | PointCloud] = {s.name: s.shape for s in scene.structures}
        self.visible: dict[str, bool] = {s.name: True for s in scene.structures}
        self.plane: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self.plotter = _plotter(off_screen, size)
        self.plotter.set_background(PAPER)
        self.plotter.enable_anti_aliasing("ssaa" if off_screen else "fxaa")
        self._draw_all()
        self.plotter.add_axes(color=INK, line_width=3)
        self.plotter.add_legend(
            [[s.name, _darker(s.color)] for s in scene.structures],
            face="rectangle",
            loc="upper left",
            size=(0.22, 0.04 * len(scene.structures)),
            background_opacity=0.0,
        )
        if plane is not None:
            self.set_plane(*plane)
        self.reset()
        self._write_status()

    # ------------------------------------------------------------------------------------------- controls

    def levels_of(self, structure: Structure) -> Levels:
        """Return the level sets of a surface; its coarse grid is evaluated the first time."""
        assert structure.field is not None
        if structure.name not in self._levels:
            self._levels[structure.name] = Levels(structure.field, fine=self._resolution, first=self._first)
        return self._levels[structure.name]

    @property
    def limits(self) -> tuple[float, float]:
        """Least and largest level at which every field still has a surface [world units]."""
        return shared_limits([self.levels_of(structure) for structure in self.scene.fields])

    def set_level(self, level: float, *, fine: bool) -> None:
        """Show {φ = level}, from the kept grid or, if `fine`, as it would be written to a file.

        A field that does not reach the level keeps the surface it has, and `note` says so.
        """
        self.level, self.note = float(level), ""
        ranged = fine and self.coloring in ("cloud", "error")  # not worth their time while it moves
        if ranged:
            self._drop_bars()  # PyVista only ever widens them
        for structure in self.scene.fields:
            levels = self.levels_of(structure)
            try:
                shape = levels.fine_mesh(self.level) if fine else levels.coarse(self.level)
            except EmptyLevelSetError:
                self.note = f"{structure.name} has no surface at {self.level:.4g}"
                continue
            self._shapes[structure.name] = shape
            if not ranged:
                self._draw(structure)
        if ranged:
            self._draw_all()
        if self.plane is not None:
            self._draw_lines()
        self._write_status()

    def set_plane(self, origin: ArrayLike, normal: ArrayLike) -> None:
        """Show φ of the first field, with isolines, on a plane; without a field, a note."""
        self.hide_plane()
        if not self.scene.fields:
            self.note = "a slice needs a field"
            self._write_status()
            return
        structure = self.scene.fields[0]
        assert structure.field is not None
        box = structure.field.box
        found = cut(structure.field, box, origin, normal, SLICE_NODES)
        self.plane = np.array(origin, np.float64), np.array(normal, np.float64)
        self._draw(structure)
        points = found.points
        sheet: Any = pyvista.StructuredGrid(points[..., 0], points[..., 1], points[..., 2])
        sheet[SLICE_TITLE] = found.values.ravel(order="F")
        largest = ceiling(float(np.abs(found.values).max()))
        self.plotter.add_mesh(
            sheet,
            scalars=SLICE_TITLE,
            name="slice",
            cmap=DIVERGING,
            clim=(-largest, largest),
            lighting=False,
            scalar_bar_args=_bar(SLICE_TITLE, 0.03),
            reset_camera=False,
            render=False,
        )
        self._sheet, self._rounded = sheet, isolines(found.values)
        self._draw_lines()

    def hide_plane(self) -> None:
        """Take the slice away."""
        shown, self.plane = self.plane, None
        if shown is not None:
            self._draw(self.scene.fields[0])
        for name in SLICE_ACTORS:
            self.plotter.remove_actor(name, reset_camera=False, render=False)
        if SLICE_TITLE in self.plotter.scalar_bars:
            self.plotter.remove_scalar_bar(SLICE_TITLE, render=False)

    def set_coloring(self, coloring: str) -> None:
        """Colour every structure that has this quantity; the others are plain."""
        check_options(self.layout, coloring, self.up)
        self.coloring = coloring
        self._drop_bars()
        self._draw_all()
        self._write_status()

    def set_visible(self, name: str, visible: bool) -> None:
        """Show or hide a structure; its slice stays."""
        self.visible[self.scene[name].name] = bool(visible)
        for actor in self._actors_of(name):
            if actor in self.plotter.actors:
                self.plotter.actors[actor].SetVisibility(bool(visible))

    def set_layout(self, layout: str) -> None:
        """Put the structures in place, or in a row; the camera is placed anew."""
        check_options(layout, self.coloring, self.up)
        self.layout = layout
        self._draw_all()  # the truth is faint in one of them
        self.reset()

    def shift_of(self, structure: Structure) -> NDArray[np.float64]:
        """Return how far a structure is drawn from its place in this layout, (3,) [world units]."""
        index = self.scene.structures.index(structure)
        return index * step_of(self.scene, self.up) if self.layout == "side" else np.zeros(3)

    def reset(self) -> None:
        """Put the camera where it was at first."""
        self.look_from(UPS[self.up])

    def look_from(self, direction: ArrayLike) -> None:
        """Put the camera in a direction from the middle of the scene, (3,), as far as shows all of it."""
        self._from = np.asarray(direction, np.float64)
        self._draw_bar()
        self.plotter.view_vector(direction, viewup=AXES[self.up], render=False)
        self.plotter.reset_camera(render=False)
        self.plotter.camera.zoom(1.05)

    def picture(self) -> NDArray[np.uint8]:
        """Return what is seen, (height, width, 3) uint8."""
        self.plotter.render()  # the picture is that of the last rendering, not of the changes since
        return np.asarray(self.plotter.screenshot(None, return_img=True), np.uint8)

    def png(self) -> bytes:
        """Return what is seen as a PNG."""
        from PIL import Image

        out = BytesIO()
        Image.fromarray(self.picture()).save(out, "PNG", optimize=True)
        return out.getvalue()

    def close(self) -> None:
        """Free the graphics."""
        self.plotter.close()

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return self.plotter.iren is None or bool(self.plotter.iren.interactor.GetDone())

    def replace(self, name: str, shape: trimesh.Trimesh | PointCloud) -> None:
        """Show another shape under the name of a structure; the camera stays."""
        self._shapes[name] = shape
        self._draw(self.scene[name])

    # -------------------------------------------------------------------------------------------- drawing

    def shape_of(self, name: str) -> trimesh.Trimesh | PointCloud:
        """Return what is shown of a structure now."""
        return self._shapes[name]

    def _draw_all(self) -> None:
        for structure in self.scene.structures:
            self._draw(structure)

    def _draw(self, structure: Structure) -> None:
        shape = self._shapes[structure.name]
        if isinstance(shape, PointCloud):
            data: Any = pyvista.PolyData(np.array(shape.points))
            vertices, normals = shape.points, shape.normals
            style: dict[str, Any] = {"point_size": 6.0, "render_points_as_spheres": True}
        else:
            data = _polydata(shape)
            vertices, normals = shape.vertices, np.asarray(shape.vertex_normals)
            data.point_data["Normals"] = normals
            data.point_data.active_normals_name = "Normals"
            # the truth is drawn faintly where it would cover what is judged
            seen_through = structure.role == "reference" and self.layout == "overlay"
            style = {
                "ambient": 0.2,
                "specular": 0.2,
                "opacity": 0.35 if seen_through else 1.0,
            }
        colors = colors_of(structure, vertices, normals, self.coloring, self.scene, self.level)
        if colors is None:
            style["color"] = structure.color
        else:
            style |= _colored(data, colors)
        if structure.role in ("mesh", "reference"):  # their triangles may be large, with edges between them
            data = data.compute_normals(
                cell_normals=False, split_vertices=True, feature_angle=CREASE, consistent_normals=False
            )
        parts = {structure.name: data}
        if self.plane is not None and structure is self.scene.fields[0]:
            parts = dict(zip(self._actors_of(structure.name), self._halves(data), strict=True))
        for name in self._actors_of(structure.name):
            if name not in parts or not parts[name].n_points:
                self.plotter.remove_actor(name, reset_camera=False, render=False)
                continue
            if name != structure.name:  # before the slice: glass, and no second legend
                style |= {"opacity": GLASS, "show_scalar_bar": False}
            actor = self.plotter.add_mesh(parts[name], name=name, reset_camera=False, render=False, **style)
            if not isinstance(shape, PointCloud):
                actor.prop.interpolation = "Gouraud"
            actor.SetVisibility(self.visible[structure.name])
        self._place(structure)

    def _halves(self, data: Any) -> tuple[Any, Any]:
        """The parts of a surface behind the slice and before it, as the first camera sees them."""
        assert self.plane is not None
        origin, normal = self.plane
        towards = 1.0 if normal @ np.array(UPS[self.up]) >= 0.0 else -1.0
        behind, before = data.clip(normal=towards * normal, origin=origin, return_clipped=True)
        return behind, before

    def _actors_of(self, name: str) -> tuple[str, ...]:
        """Names of what a structure is drawn with: itself, and its part before the slice."""
        return name, f"{name}, before the slice"

    def _place(self, structure: Structure) -> None:
        """Move what is drawn of a structure to its place in the layout."""
        shift = self.shift_of(structure)
        sliced = SLICE_ACTORS if self.scene.fields and structure is self.scene.fields[0] else ()
        for name in (*self._actors_of(structure.name), *sliced):
            if name in self.plotter.actors:
                self.plotter.actors[name].position = tuple(shift)

    def _draw_bar(self) -> None:
        """Draw a bar of round length under the scene, across the view."""
        box: Box = self.scene.box
        length = _round_down(BAR * box.longest)
        up = np.array(AXES[self.up])
        base = box.center - up * (0.5 * (box.size @ up) + 0.03 * box.longest)
        ahead = np.cross(right_of(self._from, self.up), up)  # to the front, or the shape would hide it
        base = base + 0.5 * float(np.abs(ahead) @ box.size) * ahead
        ends = base + np.array([[-0.5], [0.5]]) * length * right_of(self._from, self.up)
        bar = pyvista.PolyData(ends, lines=[2, 0, 1])  # float64, which `pyvista.Line` is not
        self.plotter.add_mesh(
            bar, color=INK, line_width=4, name="scale bar", reset_camera=False, render=False
        )
        self.plotter.add_point_labels(
            ends.mean(axis=0)[None] + 0.015 * box.longest * up,
            [f"{length:g} units"],
            shape=None,
            show_points=False,
            text_color=INK,
            font_size=16,
            bold=False,
            always_visible=True,
            justification_horizontal="center",
            justification_vertical="bottom",
            name="scale bar label",
            reset_camera=False,
            render=False,
        )

    def _write_status(self) -> None:
        parts = [f"level {self.level:.4g} units"] if self.scene.fields else []
        parts += [f"coloured by {self.coloring}"] if self.coloring != "plain" else []
        parts += [self.note] if self.note else []
        self.plotter.add_text(
            ", ".join(parts), position="lower_right", font_size=9, color=INK, name="status", render=False
        )

    def _draw_lines(self) -> None:
        """Draw the isolines of the slice, boldly that of the level."""
        for name in ("isolines", "slice level"):
            self.plotter.remove_actor(name, reset_camera=False, render=False)
        self._add_lines(self._sheet, self._rounded[self._rounded != self.level], "isolines", 1.5)
        self._add_lines(self._sheet, np.array([self.level]), "slice level", 4.0)
        self._place(self.scene.fields[0])

    def _drop_bars(self) -> None:
        """Take the legends of colourings away; drawing brings them back."""
        for title in list(self.plotter.scalar_bars.keys()):
            if title != SLICE_TITLE:
                self.plotter.remove_scalar_bar(title, render=False)

    def _add_lines(self, sheet: Any, levels: NDArray[np.float64], name: str, width: float) -> None:
        lines = sheet.contour(levels.tolist(), scalars=SLICE_TITLE) if len(levels) else pyvista.PolyData()
        if lines.n_points:
            self.plotter.add_mesh(
                lines, color=INK, line_width=width, name=name, reset_camera=False, render=False
            )


def _plotter(off_screen: bool, size: tuple[int, int]) -> Any:
    return pyvista.Plotter(off_screen=off_screen, window_size=list(size))


def _polydata(mesh: trimesh.Trimesh) -> Any:
    faces = np.column_stack([np.full(len(mesh.faces), 3), mesh.faces]).ravel()
    return pyvista.PolyData(np.array(mesh.vertices), faces)


def _colored(data: Any, colors: Colors) -> dict[str, Any]:
    """Put the values on the data and return how to draw them."""
    if colors.limits is None:
        data.point_data["directions"] = colors.values
        return {"scalars": "directions", "rgb": True}
    data.point_data[colors.title] = colors.values
    return {
        "scalars": colors.title,
        "cmap": SCALE,
        "clim": colors.limits,
        "scalar_bar_args": _bar(colors.title, 0.9),
        "nan_color": "lightgray",
    }


def _darker(color: str) -> tuple[float, ...]:
    """A colour that can be read as text on white."""
    return tuple(0.7 * int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5))


def _bar(title: str, x: float) -> dict[str, Any]:
    """A vertical legend with values as they are."""
    return {
        "title": title,
        "vertical": True,
        "position_x": x,
        "position_y": 0.2,
        "width": 0.06,
        "height": 0.5,
        "n_labels": 5,
        "fmt": "%.3g",
        "color": INK,
        "title_font_size": 14,
        "label_font_size": 14,
    }


def _round_down(value: float) -> float:
    """The largest of …, 0.1, 0.2, 0.5, 1, … that is not above a value above 0."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= value * (1 + 1e-9)))
