"""See it: structures and the quantities they carry, in a window, in a browser, in a file.

`view` chooses the scene and shows it; `scene.py` says what there is, `levels.py` and `slices.py` what a
field adds, `stage.py` draws, `desktop.py` and `web.py` hold the controls, `page.py` writes a page that needs
neither network nor VTK, `figures.py` what goes on paper. Nothing but drawing loads VTK, and only after
`probe.py` has found, in a process of its own, that it does not crash here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ocsdf3d.viewer.probe import RenderingError, has_display, require_rendering

__all__ = ["PAGE_NODES", "RenderingError", "view"]

PAGE_NODES = 128  # of surfaces in a page, along the longest side: 2 MB; 200 nodes are 7 MB


def view(
    *things: Any,
    cloud: Any = None,
    reference: Any = None,
    offset: float = 0.0,
    coloring: str = "plain",
    layout: str = "overlay",
    plane: str | None = None,
    up: str = "z",
    resolution: int = 200,
    screenshot: str | os.PathLike[str] | None = None,
    size: tuple[int, int] = (1280, 800),
) -> Any:
    """Show fields, meshes and clouds together.

    Parameters
    ----------
    *things
        Each a `Field`, a `trimesh.Trimesh`, a `PointCloud`, an (n, 3) array, or a path of a file with one.
    cloud, reference
        The input cloud and the true shape, shown beside them.
    offset : float
        Level set {φ = offset} of the fields that is shown first [world units].
    coloring : str
        `"plain"`, `"normals"`, `"cloud"` (distance to the cloud), `"error"` (error bars of clouds and meshes
        against the field) or `"slope"` (‖∇φ‖).
    layout : str
        `"overlay"` or `"side"` by side.
    plane : str, optional
        Slice that shows φ: `"x"`, `"y"` or `"z"` through the middle, or as `"x=0.2"` [world units].
    up : str
        Axis that points up.
    resolution : int
        Nodes of the surface along the longest side.
    screenshot : path, optional
        Write this PNG and open no window.
    size : (int, int)
        Width and height [pixels].

    Returns
    -------
    object
        In a notebook the page of `page.page_of`, which needs no server and no VTK, without the slice;
        elsewhere None, once the window was closed.

    Raises
    ------
    RenderingError
        This machine cannot draw, or has no display for a window; the message says what to install or do.
    ValueError
        Nothing to show, an option that is none, or a picture that cannot be written there.

    Examples
    --------
    >>> view(sdf, cloud="scan.ply")                     # doctest: +SKIP
    >>> view("field.safetensors", screenshot="a.png")   # doctest: +SKIP
    """
    notebook = screenshot is None and _in_notebook()
    if screenshot is None and not notebook and not has_display():
        raise RenderingError(
            "no display to open a window on. Give screenshot=…, or on the command line --web, --screenshot "
            "or --save-html."
        )
    from ocsdf3d import io
    from ocsdf3d.viewer.scene import scene_of

    if screenshot is not None:
        io.check_writable(screenshot, (".png",))
    if notebook:
        resolution = min(resolution, PAGE_NODES)
    scene = scene_of(things, cloud=cloud, reference=reference, offset=offset, resolution=resolution)
    if notebook:
        from ocsdf3d.viewer.page import page_of

        text = page_of(scene, offset=offset, coloring=coloring, layout=layout, up=up)
        return _framed(text, size)
    require_rendering()
    from ocsdf3d.viewer.desktop import Desktop
    from ocsdf3d.viewer.slices import plane_of
    from ocsdf3d.viewer.stage import Stage

    stage = Stage(
        scene,
        off_screen=screenshot is not None,
        size=size,
        layout=layout,
        coloring=coloring,
        up=up,
        offset=offset,
        resolution=resolution,
        plane=None if plane is None else plane_of(plane, scene.box),
    )
    if screenshot is not None:
        io.write_content(Path(screenshot), stage.png())
        stage.close()
        return None
    Desktop(stage).run()
    return None


def _framed(text: str, size: tuple[int, int]) -> Any:
    """A page as the output of a notebook's cell."""
    import html

    from IPython.display import HTML

    frame = (
        f'<iframe srcdoc="{html.escape(text)}" style="width: 100%; height: {size[1]}px; border: 0"></iframe>'
    )
    return HTML(f"<div>{frame}</div>")  # a frame alone makes IPython advise another, which needs a server


def _in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    import sys

    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
