"""Whether this machine can draw, asked in a process of its own.

Without its system libraries VTK does not raise: creating a plotter ends the interpreter with a segmentation
fault, and PyVista's own question does so too. So the first picture is drawn elsewhere. An answer of yes is
remembered until the set of system libraries changes; a no is asked again each time, so that installing the
libraries is all that is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

from ocsdf3d.durable import draft_of, put_in_place

__all__ = [
    "RenderingError",
    "SYSTEM_LINE",
    "failure_of",
    "has_display",
    "prefer_egl",
    "require_rendering",
    "why_not",
]

SYSTEM_LINE = "apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1"
LIMIT = 120.0  # seconds; a first import from a cold disk takes tens of them
_DRAW = (
    "import sys, pyvista as pv; p = pv.Plotter(off_screen=True, window_size=(16, 16));"
    "p.add_mesh(pv.Sphere());"
    "sys.exit(0 if p.screenshot(None, return_img=True).std() > 0 else 3)"
)
_LIBRARIES = Path("/etc/ld.so.cache")  # rewritten whenever a system library comes or goes


class RenderingError(RuntimeError):
    """This machine cannot draw; the message says what to install."""


def has_display() -> bool:
    """Whether a window can be opened: always said to be so off Linux, where VTK needs no X."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prefer_egl(environment: MutableMapping[str, str] | None = None) -> None:
    """Have VTK draw by EGL where there is no display; it would try X first, and complain.

    Works before the first import of VTK only; a choice of the user's stays.
    """
    if not has_display():
        target = os.environ if environment is None else environment
        target.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")


def why_not(*, remembered: bool = True) -> str | None:
    """Return why nothing can be drawn here, in a few words, or None if it can.

    Parameters
    ----------
    remembered : bool
        Believe an earlier yes of the same machine; takes a second or two otherwise.
    """
    key = _key()
    if remembered and _recalled() == key:
        return None
    reason = failure_of(_DRAW)
    if reason is None:
        _remember(key)
    return reason


def failure_of(code: str, limit: float = LIMIT) -> str | None:
    """Return how Python code fails in a fresh interpreter, which it may crash, or None if it does not.

    Parameters
    ----------
    code : str
        Run as `python -c`.
    limit : float
        Seconds after which it counts as failed.
    """
    environment = dict(os.environ)
    prefer_egl(environment)
    try:
        end = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=limit,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {limit:g} s"
    if end.returncode == 0:
        return None
    if end.returncode < 0:
        return f"ended by signal {-end.returncode}"
    said = end.stderr.strip().splitlines()
    return said[-1] if said else f"exit code {end.returncode}"


def require_rendering() -> None:
    """Pass where this machine can draw, and ready VTK for it.

    Raises
    ------
    RenderingError
        It cannot.
    """
    reason = why_not()
    if reason is not None:
        raise RenderingError(f"this machine cannot draw ({reason}). On Debian: {SYSTEM_LINE}")
    prefer_egl()


def _key() -> list[object]:
    """What an answer depends on."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "VTK_DEFAULT_OPENGL_WINDOW", "LD_LIBRARY_PATH")
    environment = dict(os.environ)
    prefer_egl(environment)  # as `require_rendering` does here: the same question before and after it
    try:
        libraries = _LIBRARIES.stat().st_mtime_ns
    except OSError:
        libraries = 0
    return [sys.executable, libraries, *(environment.get(name, "") for name in names)]


def _store() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ocsdf3d" / "rendering.json"


def _recalled() -> object:
    try:
        return json.loads(_store().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # nothing remembered, or no home to remember in
        return None


def _remember(key: list[object]) -> None:
    try:
        store = _store()
        store.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(store) as draft:
            draft.write_text(json.dumps(key), encoding="utf-8")
            put_in_place(draft, store)
    except (OSError, RuntimeError):  # a home that cannot be written to: it is asked again next time
        return
