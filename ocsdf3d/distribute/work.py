"""One shape of many: read, fitted, meshed, written, drawn; a pure function of plain values.

A worker has one core. Torch is held to one thread, whoever calls: the bytes of a mesh then depend on neither
the number of workers nor on which of them made it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from ocsdf3d import __version__, checkpoint, io
from ocsdf3d.colors import paint
from ocsdf3d.durable import draft_of, sha256_of
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.pipeline import fit
from ocsdf3d.viewer.probe import SYSTEM_LINE, RenderingError, prefer_egl, why_not
from ocsdf3d.viewer.scene import PALETTE, Scene, Structure

__all__ = ["Job", "carry_out", "one_thread", "require_version"]

PICTURE = (320, 240)  # pixels
QUALITY = 85  # of the JPEG: about 5 kB


@dataclasses.dataclass(frozen=True)
class Job:
    """What to do with one shape.

    Attributes
    ----------
    source : str
        Absolute path of the input; of this and of the outputs on the worker's file system.
    mesh : str
        Absolute path of the mesh; its extension is the format.
    options : dict
        Keyword arguments of `fit`.
    resolution : int
        Grid nodes along the longest side.
    field : str or None
        Where to write the field too.
    picture : str or None
        Where to write a small picture (JPEG).
    version : str
        Of this package; another one refuses the job.
    """

    source: str
    mesh: str
    options: dict[str, Any]
    resolution: int = 200
    field: str | None = None
    picture: str | None = None
    version: str = __version__

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on beside the bytes of the input, ready for JSON."""
        options = {
            name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
            for name, value in self.options.items()
        }
        return {
            **options,
            "resolution": self.resolution,
            "format": Path(self.mesh).suffix.lower(),
            "field": self.field is not None,
            "version": self.version,
        }

    @property
    def key(self) -> str:
        """SHA-256 of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()


def carry_out(job: Job) -> dict[str, Any]:
    """Do one shape and return its figures, ready for JSON.

    Parameters
    ----------
    job : Job
        What to do. Its files are replaced whole; folders are made.

    Returns
    -------
    dict
        `source_sha256`, `mesh_sha256`, `field_sha256` (None without a field), `points`, `support`, `level`,
        `lipschitz`, `steps`, `vertices`, `faces`, `watertight`, `euler`, `device`, `seconds` in all but the
        picture, `no_picture` (why there is none, or None) and `worker` (host and process).

    Raises
    ------
    RuntimeError
        This process has another version of the package.
    ValueError, OSError, ImportError
        As `io.read`, `fit`, `SDF.mesh` and `io.write` raise them.
    """
    require_version(job)
    begun = time.perf_counter()
    with one_thread():
        digest = sha256_of(job.source)
        shape = io.read(job.source)
        for name in filter(None, (job.mesh, job.field, job.picture)):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        _rehearse(Path(job.mesh), shape)
        sdf = fit(shape, **job.options)
        mesh = sdf.mesh(resolution=job.resolution)
        paint(mesh, shape)
        io.write(job.mesh, mesh)
        if job.field is not None:
            checkpoint.save(job.field, sdf)
    return {
        "source_sha256": digest,
        "mesh_sha256": sha256_of(job.mesh),
        "field_sha256": None if job.field is None else sha256_of(job.field),
        "points": sdf.settings["points"],
        "support": sdf.support,
        "level": sdf.level,
        "lipschitz": sdf.lipschitz,
        "steps": sdf.history["steps"],
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": bool(mesh.is_watertight),
        "euler": int(mesh.euler_number),
        "device": str(sdf.device),
        "seconds": round(time.perf_counter() - begun, 3),
        "no_picture": None if job.picture is None else _drawn(Path(job.picture), mesh),
        "worker": f"{socket.gethostname()}:{os.getpid()}",
    }


def require_version(job: Job) -> None:
    """Raise RuntimeError if the job is of another version of the package than this process."""
    if job.version != __version__:
        raise RuntimeError(
            f"the worker on {socket.gethostname()} has ocsdf3d {__version__}, this batch is of {job.version};"
            " install the same version on both."
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rehearse(path: Path, shape: trimesh.Trimesh | PointCloud) -> None:
    """Have what disk or format refuse about a shape of this size and place refused before training."""
    box = shape.box if isinstance(shape, PointCloud) else Box.of(shape.vertices)
    if box.longest > 0.0:
        with draft_of(path) as trial:
            io.write(trial, trimesh.creation.box(bounds=(box.lower, box.upper)))


def _drawn(path: Path, mesh: trimesh.Trimesh) -> str | None:
    """Write a picture of a mesh; why there is none, or None if there is."""
    reason = why_not()
    if reason is not None:
        return f"{reason}; on Debian: {SYSTEM_LINE}"
    prefer_egl()
    from ocsdf3d.viewer.stage import Stage

    structure = Structure(path.stem, "surface", PALETTE["surface"][0], mesh)
    try:
        stage = Stage(Scene((structure,)), off_screen=True, size=PICTURE)
        try:
            stage.plotter.remove_legend()
            stage.plotter.hide_axes()
            content = _jpeg(stage.picture())
        finally:
            stage.close()
        io.write_content(path, content)
    except (RenderingError, RuntimeError, OSError, ValueError) as error:  # a mesh without its picture is done
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _jpeg(pixels: np.ndarray) -> bytes:
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
