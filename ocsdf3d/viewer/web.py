"""The same scene and controls in a browser, by trame: the pictures are drawn here and shown there."""

from __future__ import annotations

import asyncio
import webbrowser
from typing import TYPE_CHECKING, Any

from ocsdf3d.viewer.door import Door, guard
from ocsdf3d.viewer.scene import COLORINGS
from ocsdf3d.viewer.views import AXES, LAYOUTS

if TYPE_CHECKING:  # it loads VTK
    from ocsdf3d.viewer.stage import Stage

__all__ = ["missing_extra", "serve"]

PAUSE = 0.4  # seconds without a key until the fine surface is made
INSTALL = "pip install 'ocsdf3d[web]'"


def missing_extra() -> str | None:
    """Return the line that installs what the browser needs, or None if it is there."""
    from importlib.util import find_spec

    return None if find_spec("trame_pyvista") is not None else INSTALL


def app(stage: Stage, name: str = "ocsdf3d") -> Any:
    """Return the trame server of a stage, not started.

    Parameters
    ----------
    stage : Stage
        Off-screen.
    name : str
        Of the server; one process may hold several, each by its own name.
    """
    from trame.app import asynchronous, get_server
    from trame.ui.vuetify3 import SinglePageLayout
    from trame.widgets import vuetify3
    from trame_pyvista.ui import plotter_ui

    server = get_server(name, client_type="vue3")
    state, control = server.state, server.controller
    scene = stage.scene
    low, high = stage.limits if scene.fields else (0.0, 0.0)
    box = scene.fields[0].box if scene.fields else scene.box
    first = {
        "level": stage.level,
        "coloring": stage.coloring,
        "layout": stage.layout,
        "axis": "none",
        "at": 50.0,
    }
    state.update({**first, "shown": [s.name for s in scene.structures]})
    waiting: dict[str, Any] = {"held": False, "task": None}

    def draw() -> None:
        stage.plotter.render()
        control.view_update()

    @state.change("level")
    def _(level: float, **_: Any) -> None:
        if float(level) == stage.level:  # at the start, and after a reset: it is shown already, and finely
            return
        stage.set_level(float(level), fine=False)
        draw()
        if waiting["task"] is not None:
            waiting["task"].cancel()
        if not waiting["held"]:  # keys tell no end: it is when they pause
            waiting["task"] = asynchronous.create_task(pause())

    async def pause() -> None:
        await asyncio.sleep(PAUSE)
        rest()

    def hold() -> None:
        waiting["held"] = True

    def rest() -> None:
        waiting["held"] = False
        stage.set_level(float(state.level), fine=True)
        draw()

    @state.change("coloring")
    def _(coloring: str, **_: Any) -> None:
        stage.set_coloring(coloring)
        draw()

    @state.change("layout")
    def _(layout: str, **_: Any) -> None:
        stage.set_layout(layout)
        draw()

    @state.change("shown")
    def _(shown: list[str], **_: Any) -> None:
        for structure in scene.structures:
            stage.set_visible(structure.name, structure.name in shown)
        draw()

    @state.change("axis", "at")
    def _(axis: str, at: float, **_: Any) -> None:
        if axis == "none":
            stage.hide_plane()
        else:
            stage.set_plane(box.lower + (float(at) / 100.0) * box.size, AXES[axis])
        draw()

    def reset() -> None:
        with state:
            state.update(first)
        stage.hide_plane()
        rest()
        stage.reset()  # of what is shown by now
        draw()

    with SinglePageLayout(server) as layout:
        layout.title.set_text("ocsdf3d")
        layout.icon.hide()
        with layout.toolbar as bar:
            bar.density = "compact"
            small = {"density": "compact", "hide_details": True, "variant": "outlined"}
            if scene.fields:
                vuetify3.VSlider(
                    v_model=("level",),
                    min=low,
                    max=high,
                    step=(high - low) / 200.0,
                    start=(hold, "[]"),
                    end=(rest, "[]"),
                    label="level",
                    id="level",
                    hide_details=True,
                    style="min-width: 180px",
                )
                vuetify3.VSelect(
                    v_model=("axis",),
                    items=("axes", ["none", *AXES]),
                    label="slice",
                    id="axis",
                    style="max-width: 110px",
                    **small,
                )
                vuetify3.VSlider(
                    v_model=("at",),
                    min=0,
                    max=100,
                    step=1,
                    label="at %",
                    id="at",
                    disabled=("axis === 'none'",),
                    hide_details=True,
                    style="min-width: 120px",
                )
            vuetify3.VSelect(
                v_model=("coloring",),
                items=("colorings", list(COLORINGS)),
                label="colour",
                id="coloring",
                style="max-width: 130px",
                **small,
            )
            vuetify3.VSelect(
                v_model=("layout",),
                items=("layouts", list(LAYOUTS)),
                label="layout",
                id="layout",
                style="max-width: 130px",
                **small,
            )
            vuetify3.VSelect(
                v_model=("shown",),
                items=("names", [s.name for s in scene.structures]),
                label="shown",
                id="shown",
                multiple=True,
                style="max-width: 220px",
                **small,
            )
            vuetify3.VBtn("reset", click=reset, id="reset", size="small")
        with layout.content, vuetify3.VContainer(fluid=True, classes="pa-0 fill-height"):
            view = plotter_ui(stage.plotter, mode="server", server=server, add_menu=False)
            control.view_update = view.update
        layout.footer.hide()
    return server


def serve(stage: Stage, door: Door, *, open_browser: bool = True) -> None:
    """Serve a stage to whom its door lets in, until it is stopped.

    Parameters
    ----------
    stage : Stage
        Off-screen.
    door : Door
        Where to listen.
    open_browser : bool
        Open the page in the user's browser.
    """
    server = app(stage)

    def bind(served: Any) -> None:
        served.config["host"] = door.host  # trame reads another from the environment's TRAME_ARGS
        served.app.middlewares.append(guard(door))

    server.controller.on_server_bind.add(bind)
    if open_browser:
        server.controller.on_server_ready.add(lambda **_: webbrowser.open(door.own_address))
    server.start(
        host=door.host, port=door.port, open_browser=False, show_connection_info=False, backend="aiohttp"
    )
