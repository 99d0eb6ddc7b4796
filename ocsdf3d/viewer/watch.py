"""Watch a training: its surface so far, in a window or in a picture that is written again and again.

A network that is 1-Lipschitz by construction is a valid field at every step: what is seen is certified too.
Drawing happens in a process of its own: training never loads VTK, and a crash there costs the picture only.
The next surface is made when the time since the last one is `1 / SHARE` times what that one took, drawing
included, so that training gives up a fixed share of its time, whatever the machine.

Spot, preset `default`, two idle cores, two runs each: training takes 47.5 and 47.7 s alone, 48.9 and 49.8 s
watched (3 and 4 % more).
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from ocsdf3d import io
from ocsdf3d.csg import Field
from ocsdf3d.geometry import PointCloud
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.viewer.probe import prefer_egl
from ocsdf3d.viewer.scene import PALETTE, Scene, Structure

__all__ = ["Watcher"]

SHARE = 0.05  # of the time, for looking
NODES = 64  # of the surface along its longest side
POINTS = 5000  # of the cloud
TICK = 0.03  # seconds between looks at mouse and mail


class Look(NamedTuple):
    """How to draw: a picture's path, or None for a window; upward axis; size in pixels; points."""

    picture: Path | None
    up: str
    size: tuple[int, int]
    cloud: NDArray[np.float64]


class Watcher:
    """Shows a field while it learns; a context manager, and what `pipeline.fit` takes as `watch`.

    Parameters
    ----------
    shape : trimesh.Trimesh or PointCloud
        What the field is learnt from; its points are shown, at most `POINTS`.
    picture : Path, optional
        Write this PNG again and again; a window when None.
    up : str
        Axis that points up: `"x"`, `"y"` or `"z"`.
    size : (int, int)
        Width and height [pixels].

    Attributes
    ----------
    shown : int
        Surfaces handed to the drawing process so far.
    """

    def __init__(
        self,
        shape: trimesh.Trimesh | PointCloud,
        *,
        picture: Path | None = None,
        up: str = "z",
        size: tuple[int, int] = (900, 700),
    ) -> None:
        self.shown = 0
        points = shape.points if isinstance(shape, PointCloud) else np.asarray(shape.vertices)
        self._look = Look(picture, up, size, points[:: -(-len(points) // POINTS)])
        self._process: Any = None
        self._mail: Connection | None = None
        self._due, self._spent, self._waiting = 0.0, 0.0, False

    def __enter__(self) -> Watcher:
        context = multiprocessing.get_context("spawn")  # a fork of torch's threads may hang
        self._mail, other = context.Pipe()
        self._process = context.Process(target=_draw, args=(other, self._look), daemon=True)
        self._process.start()
        other.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mail is not None:
            self._mail.close()  # the other end closes its window when nobody writes any more
        if self._process is not None:
            self._process.join(timeout=5.0)
            if self._process.is_alive():
                self._process.terminate()

    def __call__(self, snapshot: Callable[[], Field], *, last: bool = False) -> None:
        """Show what `snapshot` returns if it is time to, or if it is the `last` one.

        Nothing is raised for the drawing side: a closed window ends the watching, not the training.
        """
        if self._mail is None:
            return
        try:
            while self._mail.poll(5.0 if last and self._waiting else 0.0):
                drawn = self._mail.recv()
                self._waiting = False
                self._due = time.monotonic() + (self._spent + drawn) / SHARE
            if not last and (self._waiting or time.monotonic() < self._due):
                return
            begun = time.perf_counter()
            try:
                mesh = snapshot().mesh(resolution=NODES)
            except EmptyLevelSetError:  # not yet: ask again after a while
                self._due = time.monotonic() + (time.perf_counter() - begun) / SHARE
                return
            self._mail.send((np.asarray(mesh.vertices), np.asarray(mesh.faces)))
            self._waiting, self.shown = True, self.shown + 1
            self._spent = time.perf_counter() - begun
        except (EOFError, OSError):  # the window was closed
            self._mail.close()
            self._mail = None


def _draw(mail: Connection, look: Look) -> None:
    """Draw what comes until nobody sends any more, or the window is closed; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the training; this ends when that has ended
    prefer_egl()
    from ocsdf3d.viewer.stage import Stage

    stage: Stage | None = None
    while True:
        try:
            if not mail.poll(TICK):
                if stage is not None and look.picture is None:
                    stage.plotter.iren.process_events()
                    if stage.closed:
                        return
                continue
            vertices, faces = mail.recv()
        except (EOFError, OSError):
            return
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        if stage is None:
            structures = (
                Structure("points", "cloud", PALETTE["cloud"][0], PointCloud(look.cloud)),
                Structure("surface so far", "mesh", PALETTE["surface"][0], mesh),
            )
            stage = Stage(Scene(structures), off_screen=look.picture is not None, size=look.size, up=look.up)
            if look.picture is None:
                stage.plotter.show(title="ocsdf3d: training", interactive_update=True, auto_close=False)
        begun = time.perf_counter()  # opening the stage, once, is not what the next one will cost
        stage.replace("surface so far", mesh)
        if look.picture is None:
            stage.plotter.render()
        else:
            io.write_content(look.picture, stage.png())
        try:
            mail.send(time.perf_counter() - begun)
        except OSError:  # it was the last one: nobody waits for the answer
            return
