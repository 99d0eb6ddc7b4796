"""Closed shapes from bare points: ours beside the peers that are installed.

    python -m ocsdf3d.bench.solids --points 2048 --seeds 0 --preset default --out bench-results/solids

Protocol. Every mesh of the data folder is read, its equal vertices merged, degenerate and duplicate faces
dropped, and kept when it is then watertight. It is scaled so that its longest side is 1, sampled uniformly by
area with the seed, and only the positions of the samples are handed to a method: no normals, and nothing
through a file. One evaluator (`ocsdf3d.metrics.evaluate`) serves all methods. Chamfer is therefore in units
of the longest side; its *floor* is the Chamfer distance of a second sampling of the true surface to the
first, what a perfect answer would get.

A method that raises, dies, runs out of time or returns nothing has failed, and its row counts: F-score,
normal consistency and IoU 0, not watertight, Chamfer infinite. The mean row says how many failed and gives
the mean Chamfer of the rest.

Seconds are wall time of the call, imports excluded, on the same number of threads for everybody. Peers run in
a process of their own, since a crash in a compiled library would take the bench along. `cow.obj` has one
pinched vertex and so the odd Euler number 1, which no manifold has: its column cannot be won.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh

from ocsdf3d import __version__
from ocsdf3d.bench import LISTS, Ledger, circumstances, data_folder, markdown, peers, say, threads

OURS = "ocsdf3d"
KEY = ("method", "preset", "support", "resolution", "device", "shape", "points", "noise", "seed", "samples")
SCORES = ("chamfer", "hausdorff", "f_score", "normal_consistency", "iou", "watertight", "euler")
COLUMNS = (*KEY, *SCORES, "floor", "ratio", "euler_reference", "euler_right", "seconds", "error", "version")
SHOWN = {  # column → its head in the tables
    "chamfer": "Chamfer",
    "ratio": "Chamfer / floor",
    "f_score": "F-score",
    "normal_consistency": "normal consistency",
    "iou": "IoU",
    "watertight": "watertight",
    "euler": "Euler",
    "seconds": "seconds",
    "error": "error",
}
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "trimesh", "libigl")


class Answer(NamedTuple):
    """What a method gave: a mesh, or None and the reason; wall time either way [s]."""

    mesh: trimesh.Trimesh | None
    seconds: float
    error: str | None


def closed(mesh: trimesh.Trimesh) -> trimesh.Trimesh | None:
    """The mesh with equal vertices merged and bad faces dropped, longest side 1; None unless it is
    watertight."""
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    if not mesh.is_watertight:
        return None
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    mesh.apply_scale(1 / mesh.extents.max())
    return mesh


def closed_shapes(folder: Path) -> dict[str, trimesh.Trimesh]:
    """File name → unit-sized mesh, for the closed meshes of a folder; unreadable ones are named on stderr."""
    from ocsdf3d.io import READABLE, read

    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in READABLE or path.suffix in LISTS:
            continue
        try:
            shape = read(path)
        except (ValueError, OSError) as error:
            say(f"{path.name} left out: {error}")
            continue
        mesh = closed(shape) if isinstance(shape, trimesh.Trimesh) else None
        if mesh is not None:
            found[path.name] = mesh
    return found


def chosen(shapes: dict[str, trimesh.Trimesh], names: Sequence[str] | None) -> dict[str, trimesh.Trimesh]:
    """The shapes asked for by file name or stem; all of them when `names` is None.

    Raises
    ------
    ValueError
        A name is none of the shapes, or there are none.
    """
    if not shapes:
        raise ValueError("no closed mesh in the folder `meshes` of the data")
    if names is None:
        return shapes
    unknown = set(names) - set(shapes) - {Path(name).stem for name in shapes}
    if unknown:
        raise ValueError(
            f"not a closed shape of the data: {', '.join(sorted(unknown))}; there are {', '.join(shapes)}"
        )
    return {name: mesh for name, mesh in shapes.items() if {name, Path(name).stem} & set(names)}


def sample_surface(mesh: trimesh.Trimesh, count: int, *, noise: float, seed: int) -> np.ndarray:
    """Bare points on a mesh of longest side 1.

    Parameters
    ----------
    count
        Number of points, uniform by area.
    noise
        Standard deviation of Gaussian noise [longest side].
    seed
        Of both the points and the noise; the points are the same for every noise.

    Returns
    -------
    (count, 3) float64 array
    """
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=seed)
    rng = np.random.default_rng([seed, 1])
    return np.asarray(points, dtype=np.float64) + noise * rng.standard_normal((count, 3))


def ours(points: np.ndarray, *, preset: str, support: str, resolution: int, device: str, seed: int) -> Answer:
    """Our reconstruction, with the clock around it."""
    from ocsdf3d.pipeline import reconstruct

    start = time.perf_counter()
    try:
        mesh = reconstruct(
            points, preset=preset, support=support, resolution=resolution, device=device, seed=seed
        )
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        return Answer(None, time.perf_counter() - start, f"{type(error).__name__}: {error}")
    return _checked(mesh, time.perf_counter() - start)


def peer(name: str, points: np.ndarray, *, workers: int, limit: float = 600.0) -> Answer:
    """A peer's reconstruction in a process of its own, ended after `limit` seconds.

    Raises
    ------
    ImportError
        The peer's library does not load here, so it did not take part; this is no failure of the method.
    """
    context = multiprocessing.get_context("spawn")  # forking a process that holds torch's threads may hang
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, name, points, workers))
    start = time.perf_counter()
    process.start()
    sender.close()
    try:
        answer = (
            receiver.recv() if receiver.poll(limit) else Answer(None, limit, f"no answer in {limit:.0f} s")
        )
    except EOFError:  # the other end closed without a word
        process.join()
        answer = Answer(None, time.perf_counter() - start, f"its process died (exit code {process.exitcode})")
    finally:
        process.kill()
        process.join()
    if isinstance(answer, ImportError):
        raise answer
    return answer


def _work(sender: Connection, name: str, points: np.ndarray, workers: int) -> None:
    try:
        import_module(peers.LIBRARIES[name][0])
        start = time.perf_counter()
        mesh = peers.available()[name](points, threads=workers)
        sender.send(_checked(mesh, time.perf_counter() - start))
    except ImportError as error:
        sender.send(ImportError(str(error)))
    except Exception as error:  # whatever a foreign library raises is its answer, and is shown in the table
        sender.send(Answer(None, time.perf_counter() - start, f"{type(error).__name__}: {error}"))


def _checked(mesh: trimesh.Trimesh, seconds: float) -> Answer:
    if len(mesh.faces) == 0:
        return Answer(None, seconds, "an empty mesh")
    return Answer(mesh, seconds, None)


def score(
    answer: Answer, reference: trimesh.Trimesh, *, samples: int, seed: int, floor: float
) -> dict[str, object]:
    """The columns of a row that depend on the answer."""
    from ocsdf3d.metrics import evaluate

    if answer.mesh is None:
        scores: dict[str, object] = dict.fromkeys(("f_score", "normal_consistency", "iou"), 0.0)
        scores |= {"chamfer": math.inf, "hausdorff": math.inf, "watertight": False, "euler": None}
    else:
        figures = evaluate(answer.mesh, reference, samples=samples, seed=seed)
        scores = {name: figures[name] for name in SCORES}
    chamfer = float(scores["chamfer"])  # type: ignore[arg-type]
    expected = int(reference.euler_number)
    return {
        **scores,
        "floor": floor,
        "ratio": chamfer / floor,
        "euler_reference": expected,
        "euler_right": scores["euler"] == expected,
        "seconds": answer.seconds,
        "error": answer.error,
        "version": __version__,
    }


def means(rows: Sequence[dict[str, object]]) -> list[list[object]]:
    """One line a method: means over shapes and seeds, counts as `n/N`."""
    lines: list[list[object]] = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        own = [row for row in rows if row["method"] == method]
        right = [row for row in own if row["error"] is None]

        def mean(name: str, among: Sequence[dict[str, object]]) -> float | None:
            return statistics.fmean(float(row[name]) for row in among) if among else None  # type: ignore[arg-type]

        def count(name: str, among: Sequence[dict[str, object]]) -> str:
            return f"{sum(bool(row[name]) for row in among)}/{len(among)}"

        lines.append(
            [
                method,
                *(mean(name, right) for name in ("chamfer", "ratio")),
                *(mean(name, own) for name in ("f_score", "normal_consistency", "iou")),
                *(count(name, own) for name in ("watertight", "euler_right")),
                mean("seconds", own),
                f"{len(own) - len(right)}/{len(own)}",
            ]
        )
    return lines


def parser() -> argparse.ArgumentParser:
    description = "Closed shapes from bare points: ours beside the installed peers. Tables go to stdout."
    options = argparse.ArgumentParser("python -m ocsdf3d.bench.solids", description=description)
    add = options.add_argument
    add(
        "--data",
        type=Path,
        help="folder with meshes/ (default: OCSDF3D_DATA or ../shared/data beside the checkout)",
    )
    add(
        "--shapes",
        nargs="+",
        metavar="NAME",
        help="file names, with or without extension (default: all closed ones)",
    )
    add(
        "--methods",
        nargs="+",
        choices=[OURS, *peers.LIBRARIES],
        help="default: ours and every installed peer",
    )
    add("--points", type=int, default=2048, help="samples a shape (default: %(default)s)")
    add("--noise", type=float, default=0.0, help="standard deviation [longest side] (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="(default: 0)")
    add("--preset", default="default", help="of ours (default: %(default)s)")
    add("--support", default="auto", help="of ours (default: %(default)s)")
    add(
        "--resolution",
        type=int,
        default=200,
        help="of ours, nodes along the longest side (default: %(default)s)",
    )
    add("--device", default="auto", help="of ours (default: %(default)s)")
    add("--samples", type=int, default=100_000, help="of the evaluator, each side (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=Path("bench-results/solids"),
        help="folder of solids.csv and .json (default: %(default)s)",
    )
    add("--fresh", action="store_true", help="start over: forget the rows already in the folder")
    return options


def rows_of(
    shape: str, reference: trimesh.Trimesh, *, asked: argparse.Namespace, methods: list[str], ledger: Ledger
) -> list[dict[str, object]]:
    """All rows of one shape, from the ledger or measured now; a peer that does not load leaves `methods`."""
    from ocsdf3d.metrics import floor

    settings = {name: getattr(asked, name) for name in ("preset", "support", "resolution", "device")}
    rows = []
    for seed in asked.seeds:
        points = sample_surface(reference, asked.points, noise=asked.noise, seed=seed)
        lowest: float | None = None
        for method in list(methods):
            key = {
                "method": method,
                **(settings if method == OURS else dict.fromkeys(settings)),
                "shape": shape,
                "points": asked.points,
                "noise": asked.noise,
                "seed": seed,
                "samples": asked.samples,
            }
            row = ledger.find(**key)
            if row is None:
                say(f"{shape}, seed {seed}, {method} …")
                if method == OURS:
                    answer = ours(points, seed=seed, **settings)
                else:
                    try:
                        answer = peer(method, points, workers=threads())
                    except ImportError as error:
                        say(f"{method} does not load and takes no part: {error}")
                        methods.remove(method)
                        continue
                if lowest is None:
                    lowest = float(floor(reference, samples=asked.samples, seed=seed))
                scores = score(answer, reference, samples=asked.samples, seed=seed, floor=lowest)
                row = ledger.add(key | scores)
            rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 0 when it ran to its end, 1 when there was nothing to run."""
    asked = parser().parse_args(argv)
    try:
        folder = (asked.data or data_folder()) / "meshes"
        shapes = chosen(closed_shapes(folder), asked.shapes)
        path = asked.out / "solids.csv"
        if asked.fresh:
            for old in (path, path.with_suffix(".json")):
                old.unlink(missing_ok=True)
        ledger = Ledger(path, COLUMNS, KEY)
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    methods = list(asked.methods or [OURS, *peers.available()])
    if OURS in methods:
        import torch

        torch.set_num_threads(threads())
        if asked.device == "auto":
            asked.device = "cuda" if torch.cuda.is_available() else "cpu"

    print(f"# Closed shapes from {asked.points} bare points\n")
    settings = {
        name: getattr(asked, name)
        for name in ("noise", "preset", "support", "resolution", "samples", "device")
    }
    libraries = [package for name, (_, package) in peers.LIBRARIES.items() if name in methods]
    seeds = " ".join(map(str, asked.seeds))
    print(circumstances((*PACKAGES, *libraries), shapes=len(shapes), seeds=seeds, **settings), flush=True)

    table = []
    for shape, reference in shapes.items():
        rows = rows_of(shape, reference, asked=asked, methods=methods, ledger=ledger)
        table += rows
        lines = [[f"{row['method']}, seed {row['seed']}", *(row[name] for name in SHOWN)] for row in rows]
        lowest = rows[0]["floor"] if rows else math.nan
        print(f"\n## {shape}: Euler {reference.euler_number}, floor {lowest:.4g}\n")
        print(markdown(["method", *SHOWN.values()], lines), flush=True)

    print(f"\n## Mean over {len(shapes)} shapes, {len(asked.seeds)} seed(s) each\n")
    print(markdown(["method", *list(SHOWN.values())[:6], "Euler right", "seconds", "failed"], means(table)))
    print(
        "\nChamfer and its ratio: means over the rows that did not fail. Other scores: a failure counts as 0."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
