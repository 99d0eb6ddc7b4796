"""A huge scan in tiles, as a batch: first the whole, then every tile, each with its line in the manifest.

What a tile is made from is written down in a small file, its request: where it lies, the scan, the field of
the whole, and the hashes of both. That file is the tile's input as a shape is another batch's, and the tile's
field is its output; so everything that holds of a batch holds here: a tile that is done from the same bytes
with the same options is not done again, one whose worker dies is begun anew by another.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trimesh

from ocsdf3d import checkpoint, io
from ocsdf3d.distribute.batch import Summary, run_batch
from ocsdf3d.distribute.manifest import Manifest
from ocsdf3d.distribute.work import Job, carry_out, one_thread, require_version
from ocsdf3d.durable import sha256_of
from ocsdf3d.field import SDF
from ocsdf3d.geometry import Box
from ocsdf3d.join import Join
from ocsdf3d.mosaic import Plan, Tile, blocks_of_cloud, checked, fit_tile, joined, planned

__all__ = ["Unfinished", "carry_out_tile", "fit_tiles"]

MANIFEST = "manifest.jsonl"
WHOLE, TILES = "whole.ply", "tiles"
ROUGH = 128  # resolution of the mesh of the whole
Tell = Callable[[int, int, dict[str, Any] | None], None]


class Unfinished(RuntimeError):
    """Tiles are left, or have failed, so that there is no join yet.

    Attributes
    ----------
    summary : Summary
        What became of them.
    """

    def __init__(self, summary: Summary, why: str) -> None:
        self.summary = summary
        super().__init__(f"{why}; the same call goes on with what is left")


def fit_tiles(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    tiles: Sequence[int],
    *,
    halo: float | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Tell = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
    describe: Callable[[BaseException], str] = lambda error: f"{type(error).__name__}: {error}",
    **options: Any,
) -> Join:
    """Return the one field of a huge scan, fitted in overlapping tiles; its Lipschitz bound is proved.

    Parameters
    ----------
    source : path
        A cloud that `read` reads; NPY, binary PLY and PCD, LAS and LAZ are never held whole.
    folder : path
        Of what is done: the manifest, the whole, and every tile; made if it is not there. The same call goes
        on there, whatever stopped it.
    tiles : two or three ints
        Along each axis; of two the first is along the longest axis, the second along the next.
    halo : float, optional
        How far a tile is fitted beyond its cell, as a share of the longest side of a cell; see `mosaic`.
    workers, scheduler, stop
        As for `over`: processes on this machine, or a Dask cluster that sees the same files.
    tell : callable
        (done, all, row) → None, whenever the whole or a tile is behind us; the row is None if from before.
    warn : callable
        Told about damaged lines of the manifest.
    describe : callable
        An error in one line.
    **options
        Of `fit`: `support`, `preset`, `margin`, `lam`, `device`, `seed`, `smooth`.

    Returns
    -------
    Join
        Of the tiles, see `join`.

    Raises
    ------
    Unfinished
        `stop` was heeded, or the whole or a tile failed: of the first the reason is told.
    ValueError
        `tiles` or `halo` make no tiles, or `source` is a mesh.
    ImportError, ConnectionError, OSError
        As `over`, `Manifest` and `io.read` raise them.

    Notes
    -----
    Each tile reads the scan once, in blocks, and keeps what is in its region. Nothing is copied.
    """
    total = 1 + math.prod(checked(tiles, halo)[0])
    home, scan = Path(os.path.abspath(folder)), os.path.abspath(source)
    if not os.path.isfile(scan):
        raise FileNotFoundError(f"{source}: no such file")
    blocks_of_cloud(scan)  # before anything is learnt
    (home / TILES).mkdir(parents=True, exist_ok=True)
    mesh, field = home / WHOLE, str((home / WHOLE).with_suffix(".safetensors"))
    with Manifest(home / MANIFEST) as manifest:
        if manifest.damaged:
            warn(f"{manifest.path}: {manifest.damaged} damaged lines left out; what they told is done again")
        whole_job = Job(scan, str(mesh), options, ROUGH, field)

        def heard(first: int) -> Tell:
            return lambda done, _, row: tell(first + done, total, row)

        def done(jobs: Sequence[Job], work: Callable[[Job], dict[str, Any]], first: int, **how: Any) -> None:
            summary = run_batch(
                jobs, manifest, work=work, stop=stop, tell=heard(first), describe=describe, **how
            )
            errors = [manifest.rows[job.source]["error"] for job in jobs if job.source in manifest.rows]
            error = next((error for error in errors if error is not None), None)
            if summary.failed:
                raise Unfinished(summary, f"{summary.failed} of {len(jobs)} failed, the first: {error}")
            if summary.left:
                raise Unfinished(summary, f"stopped, {total - first - len(jobs) + summary.left} are left")

        done([whole_job], carry_out, 0, scheduler=scheduler)
        whole, rough = _opened(field, str(mesh), options.get("device", "auto"))
        plan = planned(whole, rough, tiles, halo)
        jobs = _jobs(home, plan, manifest.rows[scan], options)
        done(jobs, carry_out_tile, 1, scheduler=scheduler, workers=min(workers, len(jobs)))
        done_tiles = [
            Tile(_field(row["mesh"], options.get("device", "auto")), row["points"], row["strayed"])
            for row in (manifest.rows[job.source] for job in jobs)
        ]
    return joined(plan, whole, done_tiles)


def _opened(field: str, mesh: str, device: str) -> tuple[SDF, trimesh.Trimesh]:
    """Return the whole and its mesh."""
    rough = io.read(mesh)
    assert isinstance(rough, trimesh.Trimesh)
    return _field(field, device), rough


def _field(path: str, device: str) -> SDF:
    """Return the field in a file, its network alone: a guide that is 0 on all points would leave no band."""
    field = checkpoint.load(path, device=device)
    assert isinstance(field, SDF)
    return dataclasses.replace(field, spheres=None)


def _jobs(home: Path, plan: Plan, row: dict[str, Any], options: dict[str, Any]) -> list[Job]:
    """Return the tiles' jobs; their requests are written."""
    names = ("source", "source_sha256", "mesh", "mesh_sha256", "field", "field_sha256")
    jobs = []
    for place, region in plan.regions.items():
        stem = home / TILES / "-".join(map(str, place))
        request = {
            **{name: row[name] for name in names},
            "lower": region.lower.tolist(),
            "upper": region.upper.tolist(),
            "resolved": plan.resolved,
        }
        path = stem.with_suffix(".json")
        io.write_content(path, json.dumps(request, indent=1).encode())
        own = {name: value for name, value in options.items() if name != "support"}  # that of the whole
        jobs.append(Job(str(path), str(stem.with_suffix(".safetensors")), own))
    return jobs


def carry_out_tile(job: Job) -> dict[str, Any]:
    """Do one tile and return its figures, ready for JSON.

    Parameters
    ----------
    job : Job
        Its source is the request, its mesh the file of the tile's field.

    Returns
    -------
    dict
        `source_sha256`, `mesh_sha256`, `field_sha256` (None: there is no other), `points`, `strayed`,
        `steps`, `seconds`, `no_picture` and `worker`, see `carry_out`.

    Raises
    ------
    RuntimeError
        This process has another version of the package, or the whole is not the one that was planned with.
    ValueError, OSError, ImportError
        As `fit_tile` and `checkpoint.save` raise them.
    """
    require_version(job)
    begun = time.perf_counter()
    with one_thread():
        digest = sha256_of(job.source)
        request = json.loads(Path(job.source).read_bytes())
        if sha256_of(request["field"]) != request["field_sha256"]:
            raise RuntimeError(f"{request['field']} is not what was planned with. Start again.")
        whole, rough = _opened(request["field"], request["mesh"], job.options.get("device", "auto"))
        region = Box(request["lower"], request["upper"])
        tile = fit_tile(request["source"], region, whole, rough, request["resolved"], **job.options)
        checkpoint.save(job.mesh, tile.field)
    return {
        "source_sha256": digest,
        "mesh_sha256": sha256_of(job.mesh),
        "field_sha256": None,
        "points": tile.points,
        "strayed": tile.strayed,
        "steps": tile.field.history["steps"],
        "seconds": round(time.perf_counter() - begun, 3),
        "no_picture": None,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
    }
