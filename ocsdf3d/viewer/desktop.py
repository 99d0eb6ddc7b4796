"""The window: a slider for the level, a plane for the slice, boxes that show and hide, and keys.

VTK's own keys stay: the left button turns, the wheel zooms, the middle button moves, `q` ends. Ours avoid
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ocsdf3d import io
from ocsdf3d.viewer.scene import COLORINGS, INK, PAPER
from ocsdf3d.viewer.stage import Stage
from ocsdf3d.viewer.views import LAYOUTS

__all__ = ["KEYS", "Desktop"]

KEYS = {  # key → (name of the method, what the help says)
    "h": ("toggle_help", "this help"),
    "k": ("next_coloring", "next colouring: plain, given, normals, cloud, error, slope"),
    "x": ("slice_x", "slice across x; drag the plane or its arrow"),
    "y": ("slice_y", "slice across y"),
    "z": ("slice_z", "slice across z"),
    "n": ("no_slice", "no slice"),
    "o": ("next_layout", "overlaid, or side by side"),
    "i": ("reset", "camera, level and colouring as at first"),
    "g": ("save_picture", "write a screenshot into this folder"),
}
BOX = 22  # pixels: side of a box that shows and hides


class Desktop:
    """Controls of a stage in a window.

    Parameters
    ----------
    stage : Stage
        What they act on.
    folder : Path
        Where screenshots go.
    """

    def __init__(self, stage: Stage, folder: Path | None = None) -> None:
        self.stage, self.folder = stage, Path.cwd() if folder is None else folder
        self._first = stage.level, stage.coloring
        self.help_shown = False
        self.slider: Any = None
        self._plane: Any = None
        plotter = stage.plotter
        if stage.scene.fields:
            self.slider = self._slider()
        plotter.remove_legend(render=False)
        for index, structure in enumerate(stage.scene.structures):
            height = plotter.window_size[1] - 40.0 - index * 1.5 * BOX
            plotter.add_text(
                structure.name,
                position=(14.0 + 1.4 * BOX, height),
                font_size=9,
                color=INK,
                name=f"name {index}",
            )
            box = plotter.add_checkbox_button_widget(
                lambda shown, name=structure.name: self.show(name, shown),
                value=True,
                position=(10.0, height),
                size=BOX,
                border_size=2,
                color_on=structure.color,
                color_off=PAPER,
                background_color=INK,
            )
            box.KeyPressActivationOff()  # VTK's widgets come and go on `i` otherwise
        plotter.renderer.axes_widget.KeyPressActivationOff()
        for key, (method, _) in KEYS.items():
            plotter.add_key_event(key, getattr(self, method))
        plotter.add_text("h: help", position="lower_left", font_size=9, color=INK, name="hint")

    def run(self) -> None:
        """Show the window until it is closed."""
        self.stage.plotter.show(title="ocsdf3d", auto_close=True)

    # ---------------------------------------------------------------------------------------- what keys do

    def show(self, name: str, shown: bool) -> None:
        """Show or hide a structure."""
        self.stage.set_visible(name, shown)
        self.stage.plotter.render()

    def toggle_help(self) -> None:
        """Show the keys, or hide them."""
        self.help_shown = not self.help_shown
        plotter = self.stage.plotter
        plotter.remove_actor("help", render=False)
        if self.help_shown:
            lines = [f"{key}   {told}" for key, (_, told) in KEYS.items()]
            lines += ["q   quit", "", "left button turns, middle moves, wheel zooms", "boxes show and hide"]
            text = plotter.add_text(
                "\n".join(lines), position=(60, 120), font_size=10, color=INK, name="help", font="courier"
            )
            text.prop.background_color, text.prop.background_opacity = PAPER, 0.9
            text.prop.show_frame, text.prop.frame_color = True, INK
        plotter.render()

    def next_coloring(self) -> None:
        """Go on to the next colouring."""
        self.stage.set_coloring(COLORINGS[(COLORINGS.index(self.stage.coloring) + 1) % len(COLORINGS)])
        self.stage.plotter.render()

    def next_layout(self) -> None:
        """Overlay, or side by side."""
        plane = self.stage.plane
        self.stage.set_layout(LAYOUTS[(LAYOUTS.index(self.stage.layout) + 1) % len(LAYOUTS)])
        if self._plane is not None and plane is not None:  # what it is moved by goes along
            self.slice(plane[1], plane[0])
        self.stage.plotter.render()

    def slice_x(self) -> None:
        """Slice across x."""
        self.slice((1.0, 0.0, 0.0))

    def slice_y(self) -> None:
        """Slice across y."""
        self.slice((0.0, 1.0, 0.0))

    def slice_z(self) -> None:
        """Slice across z."""
        self.slice((0.0, 0.0, 1.0))

    def slice(self, normal: Any, origin: Any = None) -> None:
        """Slice the first field, through its middle when `origin` is None, with a plane to move it by."""
        self.no_slice()
        if not self.stage.scene.fields:
            return
        structure = self.stage.scene.fields[0]
        box, shift = structure.box, self.stage.shift_of(structure)
        ends = np.stack([box.lower, box.upper]) + shift
        self._plane = self.stage.plotter.add_plane_widget(
            lambda way, at: self.move_slice(np.asarray(at) - shift, way),
            normal=normal,
            origin=shift + (box.center if origin is None else origin),
            bounds=ends.T.ravel().tolist(),
            factor=1.05,
            color=INK,
            outline_opacity=0.0,
            interaction_event="always",
        )
        self._plane.KeyPressActivationOff()

    def move_slice(self, origin: Any, normal: Any) -> None:
        """Put the slice where its plane was dragged to."""
        self.stage.set_plane(origin, normal)
        self.stage.plotter.render()

    def no_slice(self) -> None:
        """Take the slice and its plane away."""
        if self._plane is not None:
            self.stage.plotter.clear_plane_widgets()
            self._plane = None
        self.stage.hide_plane()
        self.stage.plotter.render()

    def reset(self) -> None:
        """Camera, level and colouring as they were at first."""
        level, coloring = self._first
        if self.slider is not None:
            self.slider.GetSliderRepresentation().SetValue(level)
            self.stage.set_level(level, fine=True)
        self.stage.set_coloring(coloring)
        self.stage.reset()
        self.stage.plotter.render()

    def save_picture(self) -> Path:
        """Write what is seen to the first free `ocsdf3d-1.png`, `ocsdf3d-2.png`, … and return its path."""
        path = next(p for p in (self.folder / f"ocsdf3d-{i}.png" for i in range(1, 10**6)) if not p.exists())
        io.write_content(path, self.stage.png())
        return path

    # --------------------------------------------------------------------------------------------- slider

    def _slider(self) -> Any:
        """A slider that shows coarse surfaces while it moves, and the fine one once it is let go."""
        low, high = self.stage.limits
        slider = self.stage.plotter.add_slider_widget(
            self._dragged,
            (low, high),
            value=self.stage.level,
            title="level [units]",
            pointa=(0.68, 0.1),
            pointb=(0.96, 0.1),
            color=INK,
            fmt="%.3g",
            title_height=0.02,
            slider_width=0.02,
            tube_width=0.004,
            interaction_event="always",
        )
        slider.KeyPressActivationOff()
        slider.AddObserver("EndInteractionEvent", lambda *_: self._released())
        return slider

    def _dragged(self, value: float) -> None:
        if value != self.stage.level:  # it also fires when made
            self.stage.set_level(value, fine=False)
            self.stage.plotter.render()

    def _released(self) -> None:
        self.stage.set_level(self.slider.GetSliderRepresentation().GetValue(), fine=True)
        self.stage.plotter.render()
