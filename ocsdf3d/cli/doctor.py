"""`ocsdf3d doctor`: what this installation can do, and the command that mends what it cannot."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from typing import Any

from .console import describe, emit, flattened, human_bytes
from .options import add_reporting

CORE = {  # import name → distribution; pyvista is apart: it may not be loaded where it would crash
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "trimesh": "trimesh",
    "networkx": "networkx",
    "lxml": "lxml",
    "igl": "libigl",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "safetensors": "safetensors",
}
# extra → import names and the distributions that provide them
EXTRAS: dict[str, dict[str, tuple[str, ...]]] = {
    "web": {"trame_pyvista": ("trame-pyvista",)},
    "open3d": {"open3d": ("open3d", "open3d-cpu")},
    "scan": {"laspy": ("laspy",), "pye57": ("pye57",)},
    "oneclass": {"sklearn": ("scikit-learn",)},
    "images": {"orthogonium": ("orthogonium",)},
    "distributed": {"dask": ("dask",), "distributed": ("distributed",)},
}
# for drawing and, the last package, for Open3D
SYSTEM_LINE = "apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1 libusb-1.0-0"


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """Add the verb to the parser."""
    parser = verbs.add_parser(
        "doctor",
        help="check this installation",
        description="Versions, device, memory, rendering, extras and a small self-check. Exit 1 when meshing"
        " cannot work, 0 otherwise, with hints for what is optional and missing.",
    )
    add_reporting(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything; only the core decides the exit code."""
    hints: list[str] = []
    core = {name: _core(name, distribution) for name, distribution in CORE.items()}
    broken = sorted(name for name, found in core.items() if not found["works"])
    if broken:
        hints.append(
            f"the core lacks {', '.join(broken)}: install ocsdf3d again with pip in this environment"
        )
    check = _attempt(_self_check)
    if not check["works"]:
        hints.append(f"the self-check failed: {check['detail']}")
    rendering = _rendering()
    if not rendering["works"]:
        hints.append(
            f"off-screen rendering does not work ({rendering['detail']}); only viewing needs it."
            f" On Debian: {SYSTEM_LINE}"
        )
    extras = {
        extra: {name: _extra(extra, name, of) for name, of in names.items()}
        for extra, names in EXTRAS.items()
    }
    for names in extras.values():
        for name, found in names.items():
            if found["version"] is not None and not found["works"]:
                hints.append(
                    f"{name} is installed but does not load ({found['detail']}). On Debian: {SYSTEM_LINE}"
                )
    figures = {
        "ok": not broken and check["works"],
        "ocsdf3d": _version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "core": core,
        "device": _attempt(_device),
        "threads": _attempt(_threads),
        "free_memory": _attempt(_free_memory),
        "self_check": check,
        "rendering": rendering,
        "extras": extras,
        "hints": hints,
    }
    emit(figures, _lines(figures), as_json=args.json)
    return 0 if figures["ok"] else 1


def _version() -> str:
    from ocsdf3d import __version__

    return __version__


def _attempt(probe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Result of a probe with `works`; whatever it raises is the finding, not a failure of doctor."""
    try:
        return {"works": True, **probe()}
    except Exception as error:  # a broken installation may raise anything
        return {"works": False, "detail": " ".join(describe(error, traceback_shown=True).split())}


def _core(name: str, distribution: str) -> dict[str, Any]:
    def load() -> dict[str, Any]:
        importlib.import_module(name)
        return {}

    return {"version": _installed(distribution), **_attempt(load)}


def _installed(*distributions: str) -> str | None:
    from importlib import metadata  # 15 ms, which `--help` need not pay

    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _present(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _extra(extra: str, name: str, distributions: tuple[str, ...]) -> dict[str, Any]:
    """Version of an optional package and whether it loads, tried in a process of its own: it may crash."""
    from ocsdf3d.viewer import probe

    if not _present(name):
        return {"version": None, "works": False, "detail": f"not installed (pip install 'ocsdf3d[{extra}]')"}
    return {
        "version": _installed(*distributions) or "unknown",
        **_told_of(probe.failure_of(f"import {name}")),
    }


def _rendering() -> dict[str, Any]:
    from ocsdf3d.viewer import probe

    if not _present("pyvista"):
        return {"version": None, "works": False, "detail": "pyvista is not installed"}
    return {"version": _installed("pyvista"), **_told_of(probe.why_not(remembered=False))}


def _told_of(failure: str | None) -> dict[str, Any]:
    return {"works": failure is None, "detail": failure or ""}


def _device() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "name": torch.cuda.get_device_name(0) if cuda else "cpu",
        "cuda": cuda,
        "cuda_build": torch.version.cuda,
    }


def _threads() -> dict[str, Any]:
    import torch

    return {"torch": torch.get_num_threads(), "cores": os.cpu_count()}


def _free_memory() -> dict[str, Any]:
    from ocsdf3d import memory

    return {"bytes": memory.free_memory()}


def _self_check() -> dict[str, Any]:
    """Mesh an exact sphere and measure it: grid, marching cubes and welding work together."""
    import numpy as np

    from ocsdf3d import analytic, grid, surface

    begun = time.perf_counter()
    sphere = analytic.sphere(radius=1.0)
    sampled = grid.sample(sphere, sphere.box.expanded(0.1), 32, lipschitz=1.0)
    mesh = surface.extract(sampled)
    miss = float(np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1.0).max())
    if not mesh.is_watertight or mesh.euler_number != 2 or mesh.volume <= 0.0:
        raise ValueError("the mesh of an exact sphere is not a closed sphere with its faces outward")
    if miss > sampled.spacing**2 / (8.0 * (1.0 - sampled.spacing)) + 1e-5:  # chord against arc, plus float32
        raise ValueError(f"the mesh of an exact sphere misses it by {miss:.2g}")
    return {
        "detail": "an exact sphere meshes closed and round",
        "seconds": round(time.perf_counter() - begun, 3),
    }


def _lines(figures: dict[str, Any]) -> list[str]:
    memory = figures["free_memory"]
    lines = [
        f"ocsdf3d {figures['ocsdf3d']}, Python {figures['python']}, {figures['platform']}",
        "core: " + ", ".join(f"{name} {found['version']}" for name, found in figures["core"].items()),
    ]
    lines += [f"{name}: {_told(figures[name])}" for name in ("device", "threads")]
    lines.append(f"free memory: {human_bytes(memory['bytes']) if memory['works'] else memory['detail']}")
    lines.append(f"self-check: {figures['self_check']['detail']}")
    lines.append(f"off-screen rendering: {figures['rendering']['detail'] or 'works'}")
    for extra, names in figures["extras"].items():
        told = (f"{name} {found['detail'] or found['version']}" for name, found in names.items())
        lines.append(f"extra {extra}: {', '.join(told)}")
    lines += [f"hint: {hint}" for hint in figures["hints"]]
    lines.append("ok" if figures["ok"] else "broken: meshing cannot work here")
    return lines


def _told(found: dict[str, Any]) -> str:
    if not found["works"]:
        return str(found["detail"])
    return ", ".join(
        f"{name} {value}" for name, value in flattened(found) if name != "works" and value is not None
    )
