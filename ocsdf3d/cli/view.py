"""`ocsdf3d view`: fields, meshes and clouds in a window, in a browser, or in a file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import checks, outputs
from .console import emit, fail, note, warn
from .options import MISUSE, add_device, add_reporting, number, whole

if TYPE_CHECKING:
    from ocsdf3d.viewer.door import Door
    from ocsdf3d.viewer.scene import Scene

COLORS = ("plain", "given", "normals", "cloud", "error", "slope")
LAYOUTS = ("overlay", "side")
PAGE_RESOLUTION = 128


def size(text: str) -> tuple[int, int]:
    """Option type: WIDTHxHEIGHT in pixels."""
    parts = text.lower().split("x")
    try:
        width, height = (int(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, as 1280x800; got {text!r}") from None
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise argparse.ArgumentTypeError(f"expected from 16 to 8192 pixels either way; got {text}")
    return width, height


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "view",
        help="look at fields, meshes and clouds",
        description="Show files together: a window with a slider for the level and a plane to slice by, or"
        " the same in a browser, or a picture, a turning picture, or a page that opens from disk.",
        epilog="Keys of the window: press h. Exit 2 when this machine cannot draw, with what to install.",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="fields (.safetensors), meshes and clouds, in any mixture"
    )
    parser.add_argument("--cloud", metavar="CLOUD", help="show this as the input cloud (default: none)")
    parser.add_argument("--reference", metavar="REF", help="show this as the true shape (default: none)")
    parser.add_argument(
        "--offset",
        type=number,
        default=0.0,
        metavar="D",
        help="level set {φ = D} of fields shown first, in world units (default: %(default)s)",
    )
    parser.add_argument(
        "--color",
        choices=COLORS,
        default="plain",
        help="quantity that structures carry: given are the colours of the file, cloud is the distance to"
        " the first cloud, error the proved distance of points to the field's surface, slope ‖∇φ‖"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="overlay",
        help="all in place, or in a row (default: %(default)s)",
    )
    parser.add_argument(
        "--slice",
        dest="plane",
        metavar="PLANE",
        help="plane that shows φ with isolines: x, y or z, through the middle or as x=0.2 (default: none)",
    )
    parser.add_argument(
        "--up", choices=("x", "y", "z"), default="z", help="axis that points up (default: %(default)s)"
    )
    parser.add_argument(
        "--resolution",
        type=whole(2),
        metavar="N",
        help=f"grid nodes of surfaces along the longest side (default: 200, of a page {PAGE_RESOLUTION})",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--web", action="store_true", help="serve it to the browser (default: a window)")
    where.add_argument("--screenshot", metavar="PNG", help="write a picture (default: a window)")
    where.add_argument("--turntable", metavar="GIF", help="write a turning picture (default: a window)")
    where.add_argument(
        "--save-html", metavar="HTML", help="write a page that opens from disk (default: a window)"
    )
    parser.add_argument(
        "--size",
        type=size,
        default=(1280, 800),
        metavar="WxH",
        help="of the picture or window, in pixels (default: 1280x800)",
    )
    parser.add_argument(
        "--frames", type=whole(2), default=36, metavar="N", help="of a turning picture (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8080,
        metavar="N",
        help="of --web; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="of --web, name or address of this machine to listen on; beyond the loopback the printed address"
        " holds a token, and only who has it sees the page (default: %(default)s)",
    )
    parser.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="with --web, only print the address (default: open it)",
    )
    add_device(parser)
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show: what cannot be drawn here is said before anything is loaded."""
    given = [name for name in (*args.files, args.cloud, args.reference) if name is not None]
    for name in given:
        outputs.check_input(name)
    target, extension = next(
        (
            (path, extension)
            for path, extension in (
                (args.screenshot, ".png"),
                (args.turntable, ".gif"),
                (args.save_html, ".html"),
            )
            if path is not None
        ),
        (None, ""),
    )
    out = None if target is None else outputs.check(target, inputs=given, extensions=(extension,))
    checks.device(args.device)

    from ocsdf3d.viewer import web

    if args.web and web.missing_extra():
        fail(f"--web needs more packages: {web.missing_extra()}")
        return MISUSE
    instead = "--web, --screenshot, --turntable or --save-html"
    if args.save_html is None and not checks.drawing(window=out is None and not args.web, instead=instead):
        return MISUSE
    from ocsdf3d.viewer.door import door_at
    from ocsdf3d.viewer.scene import scene_of
    from ocsdf3d.viewer.slices import plane_of

    door = door_at(args.host, args.port) if args.web else None
    resolution = args.resolution or (200 if args.save_html is None else PAGE_RESOLUTION)
    scene = scene_of(
        args.files,
        cloud=args.cloud,
        reference=args.reference,
        offset=args.offset,
        resolution=resolution,
        device=args.device,
    )
    if args.offset != 0.0 and not scene.fields:
        warn("--offset moves the surfaces of fields, and there is none; `ocsdf3d mesh --offset` makes one")
    plane = None if args.plane is None else plane_of(args.plane, scene.box)
    if out is None:
        _shown(args, scene, resolution, plane, door)
    else:
        content = _drawn(args, scene, resolution, plane)
        outputs.write_all([(out, lambda path: path.write_bytes(content))])
    figures = {
        "written": out,
        "structures": [
            {"name": s.name, "role": s.role, "box": [s.box.lower, s.box.upper]} for s in scene.structures
        ],
    }
    lines = [f"{s.name}: {s.role}, {s.box.longest:.4g} units long" for s in scene.structures]
    emit(figures, [*lines, f"{out}: written"] if out is not None else lines, as_json=args.json)
    return 0


def _stage(args: argparse.Namespace, scene: Scene, resolution: int, plane: Any, *, off_screen: bool) -> Any:
    from ocsdf3d.viewer.stage import Stage

    return Stage(
        scene,
        off_screen=off_screen,
        size=args.size,
        layout=args.layout,
        coloring=args.color,
        up=args.up,
        offset=args.offset,
        resolution=resolution,
        plane=plane,
    )


def _shown(args: argparse.Namespace, scene: Scene, resolution: int, plane: Any, door: Door | None) -> None:
    """A window or a page in the browser, until it is closed."""
    stage = _stage(args, scene, resolution, plane, off_screen=args.web)
    if door is not None:
        from ocsdf3d.viewer import web

        if door.token is not None:
            warn(
                f"--host {door.host}: others on the network may see the model: who has the address below, or"
                " reads the network, where nothing is encrypted. An SSH tunnel to 127.0.0.1 is safer."
            )
        note(f"{door.address} until Ctrl-C", quiet=False)
        web.serve(stage, door, open_browser=args.browser)
        return
    from ocsdf3d.viewer.desktop import Desktop

    Desktop(stage).run()


def _drawn(args: argparse.Namespace, scene: Scene, resolution: int, plane: Any) -> bytes:
    """The content of the file that was asked for."""
    from ocsdf3d.viewer import figures, page

    if args.save_html is not None:
        title = ", ".join(structure.name for structure in scene.structures)
        text = page.page_of(
            scene, title=title, offset=args.offset, coloring=args.color, layout=args.layout, up=args.up
        )
        return text.encode("utf-8")
    stage = _stage(args, scene, resolution, plane, off_screen=True)
    try:
        return figures.turntable(stage, args.frames) if args.turntable is not None else stage.png()
    finally:
        stage.close()
