"""What is left when processes are killed: a batch that loses a worker, a training that is shot repeatedly.

    python -m ocsdf3d.bench.outlive --shapes 200 --kills 50

Two parts. `batch`: clouds of random solids on one worker (this process) and on two worker processes, and on
two once more, one of which is killed half-way; counted are shapes that are missing, and begun more than once,
and meshes that have other bytes than those of one worker. `kills`: a program that fits, meshes and saves is
ended by SIGKILL at random moments, drawn by stage, and started again with `resume` until it has been shot so
often; after each shot every file that bears its name must be whole, and every run that reaches its end must
have the weights, the level and the mesh of one that was let be. Trainings are short (`SMALL`, `LONGER`), and
are kept on disk at every report, so that shots meet writing. Exit 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocsdf3d import checkpoint, io
from ocsdf3d.bench import circumstances, markdown, replaced, say
from ocsdf3d.bench.random_solids import random_solid
from ocsdf3d.container import unseal
from ocsdf3d.distribute import Job, Manifest, named, run_batch, sources_of
from ocsdf3d.durable import sha256_of
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.pipeline import fit
from ocsdf3d.presets import PRESETS, Preset

POINTS = 512
RESOLUTION = 48
SMALL = dataclasses.replace(
    PRESETS["fast"],
    network=NetworkConfig(inputs=3, width=32, depth=4),
    solid=dataclasses.replace(PRESETS["fast"].solid, steps=150, batch=256, refresh=50, report=10),
    shell=dataclasses.replace(PRESETS["fast"].shell, steps=150, batch=256, warm=50, report=10),
    pool=20_000,
)
LONGER = dataclasses.replace(
    SMALL,
    solid=dataclasses.replace(SMALL.solid, steps=600),
    shell=dataclasses.replace(SMALL.shell, steps=600),
)
STAGES = ("sides", "train", "mesh", "save")
CHILD = "import sys; from ocsdf3d.bench import outlive; outlive.{}(*sys.argv[1:])"
PACKAGES = ("torch", "numpy", "dask", "distributed")


# --- a batch


def make_shapes(folder: Path, count: int, seed: int) -> None:
    """Write clouds of random solids; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"solid{number:03}.npy"
        if not path.exists():
            points = _points(np.random.default_rng([seed, number]))
            with replaced(path) as temporary, temporary.open("wb") as file:
                np.save(file, points)


def _points(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return samples of the first random solid that has a surface: of some, everything is taken away."""
    while True:
        try:
            return random_solid(rng).surface(POINTS, rng)
        except ValueError:
            continue


def batch_once(source: str, out: str, workers: str, preset: Preset = SMALL) -> None:
    """Do a folder of clouds and print what became of it; runs in a process of its own."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    sources = sources_of([source], folder)
    with Manifest(folder / "manifest.jsonl") as manifest:
        names = named(sources, folder, ".ply", manifest.rows)
        options = {"preset": preset, "device": "cpu"}
        jobs = [Job(str(one), str(names[one]), options, RESOLUTION) for one in sources]
        summary = run_batch(jobs, manifest, workers=int(workers))
    print(json.dumps(dataclasses.asdict(summary)))


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All lines of a manifest, one a time that a shape came back; an unfinished one is left out."""
    try:
        text = (out / "manifest.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def run_one(source: Path, out: Path, workers: int, kill_at: int | None) -> dict[str, Any]:
    """Run a batch; with `kill_at`, one of its workers is killed when so many shapes are back."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", CHILD.format("batch_once"), str(source), str(out), str(workers)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    killed = None
    while kill_at is not None and killed is None and child.poll() is None:
        rows = rows_of(out)
        if len(rows) >= kill_at:
            killed = int(rows[-1]["worker"].rpartition(":")[2])
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.05)
    said = child.communicate()[0]
    if child.returncode:
        raise RuntimeError(f"the batch of {workers} workers ended with {child.returncode}")
    return {"wall": time.perf_counter() - begun, "seconds": json.loads(said)["seconds"], "killed": killed}


def batches(out: Path, shapes: int, seed: int) -> tuple[list[str], bool]:
    """The table of the three runs, and whether nothing was lost."""
    source = out / "shapes"
    make_shapes(source, shapes, seed)
    cells: list[list[object]] = []
    meshes: dict[str, str] = {}
    good, single = True, 0.0
    for name, workers, kill_at in (("one", 1, None), ("two", 2, None), ("two, one killed", 2, shapes // 2)):
        say(f"batch: {shapes} shapes, workers: {name} …")
        folder = out / f"batch-{name.replace(', ', '-').replace(' ', '-')}"
        shutil.rmtree(folder, ignore_errors=True)
        figures = run_one(source, folder, workers, kill_at)
        rows = rows_of(folder)
        done = {Path(row["source"]).name: row["mesh_sha256"] for row in rows if row["error"] is None}
        failed = sum(row["error"] is not None for row in rows)
        meshes = meshes or done
        single = single or figures["seconds"]
        missing = shapes - len({row["source"] for row in rows})
        twice = len(rows) - len({row["source"] for row in rows})
        begun_again = sum(row["begun"] - 1 for row in rows)
        other = sum(done.get(shape) != digest for shape, digest in meshes.items())
        good &= not missing and not twice and not other and begun_again <= int(kill_at is not None)
        good &= (figures["killed"] is not None) == (kill_at is not None)
        cells.append(
            [
                *(name, figures["seconds"], single / figures["seconds"], missing, failed),
                *(twice, begun_again, other),
            ]
        )
    head = ["workers", "seconds", "speed-up", "missing", "failed", "done twice", "begun again", "other bytes"]
    return [markdown(head, cells)], good


# --- a training


def train_once(source: str, out: str) -> None:
    """Fit, mesh, save; a line on stdout when a stage begins; runs in a process of its own."""
    folder, last = Path(out), ""

    def enter(stage: str) -> None:
        nonlocal last
        if stage != last:
            print(stage, flush=True)
        last = stage

    field = fit(
        io.read(source),
        preset=LONGER,
        device="cpu",
        progress=lambda stage, *_: enter(stage),
        checkpoint=folder / "kept.safetensors",
        every=0.0,
        resume=True,
    )
    enter("mesh")
    mesh = field.mesh(resolution=2 * RESOLUTION)
    enter("save")
    checkpoint.save(folder / "field.safetensors", field)
    io.write(folder / "mesh.ply", mesh)
    print("end", flush=True)


def watched(source: Path, folder: Path, shot: tuple[str, float] | None) -> tuple[str, dict[str, float]]:
    """Run the program; the stage it was shot in, or "end", and when each stage began.

    Parameters
    ----------
    source, folder
        Its input, and where it writes.
    shot
        Stage, and seconds after its begin; None lets it be.
    """
    command = [sys.executable, "-c", CHILD.format("train_once"), str(source), str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    begun: dict[str, float] = {}
    for line in child.stdout:
        begun[line.strip()] = time.perf_counter()
        if shot is not None and line.strip() == shot[0]:
            time.sleep(shot[1])
            child.kill()
    code = child.wait()
    child.stdout.close()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the program ended with {code}")
    return ("end" if "end" in begun else list(begun)[-1]), begun


def torn(folder: Path, truth: dict[str, Any]) -> list[str]:
    """Names of files that are not whole, or not what they must be."""
    bad = []
    for name in ("kept.safetensors", "field.safetensors", "mesh.ply"):
        path = folder / name
        if not path.exists():
            continue
        try:
            if name.startswith("kept"):
                unseal(path, "training", 1)
            elif name.startswith("field"):
                field = checkpoint.load(path, device="cpu")
                whole = (field.certificate["hash"], getattr(field, "level", None))
                if whole != (truth["hash"], truth["level"]):
                    bad.append(f"{name}: other weights")
            elif sha256_of(path) != truth["mesh"]:
                bad.append(f"{name}: other bytes")
        except ValueError as error:
            bad.append(f"{name}: {error}")
    return bad


def kills(out: Path, count: int, seed: int) -> tuple[list[str], bool]:
    """The table of shots by stage, and whether every file was whole and every end the same."""
    make_shapes(out / "shapes", 1, seed)
    source, folder, draw = out / "shapes" / "solid000.npy", out / "kills", random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)

    def clear() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    clear()
    say("kills: one that is let be …")
    begun = watched(source, folder, None)[1]
    field = checkpoint.load(folder / "field.safetensors", device="cpu")
    truth = {
        "hash": field.certificate["hash"],
        "level": getattr(field, "level", None),
        "mesh": sha256_of(folder / "mesh.ply"),
    }
    order = [*STAGES, "end"]
    lasts = {a: begun[b] - begun[a] for a, b in pairwise(order)}
    clear()
    hit: Counter[str] = Counter()
    shots, ends, drafts, bad = 0, 0, 0, list[str]()
    while shots < count:
        # training twice as often: it is what takes the time of a user
        stage = draw.choice((*STAGES, "train"))
        reached, _ = watched(source, folder, (stage, draw.random() * lasts[stage]))
        bad += torn(folder, truth)
        drafts = max(drafts, sum(path.name.startswith(".") for path in folder.iterdir()))
        if reached == "end":
            ends += 1
            bad += [] if (folder / "mesh.ply").exists() else ["the end without a mesh"]
            clear()
        else:
            shots += 1
            hit[reached] += 1
            say(f"kills: {shots}/{count}, in {reached}, {len(bad)} bad …")
    reached = watched(source, folder, None)[0]
    ends += 1
    bad += torn(folder, truth)
    bad += [] if reached == "end" and (folder / "mesh.ply").exists() else ["the last run did not end"]
    lines = [
        markdown(["stage", "lasts [s]", "shots"], [[name, lasts[name], hit[name]] for name in STAGES]),
        "",
        f"{shots} shots, {ends} runs that reached their end, {len(bad)} files torn or ends that differ,"
        f" at most {drafts} hidden drafts left behind at a time.",
        *(f"- {one}" for one in bad),
    ]
    return lines, not bad


def parser() -> argparse.ArgumentParser:
    """Options of the bench."""
    options = argparse.ArgumentParser(
        "python -m ocsdf3d.bench.outlive", description=str(__doc__).split("\n")[0]
    )
    add = options.add_argument
    add("--parts", nargs="+", choices=("batch", "kills"), default=("batch", "kills"), help="(default: both)")
    add("--shapes", type=int, default=200, metavar="N", help="of the batch (default: %(default)s)")
    add("--kills", type=int, default=50, metavar="N", help="of the training (default: %(default)s)")
    add("--seed", type=int, default=0, help="of shapes and moments (default: %(default)s)")
    add("--out", type=Path, default=Path("bench-results/outlive"), help="folder (default: %(default)s)")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when nothing was lost."""
    asked = parser().parse_args(argv)
    asked.out.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(asked, name) for name in ("shapes", "kills", "seed")}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    head = circumstances(PACKAGES, **settings, points=POINTS, steps=SMALL.solid.steps, load=f"{load:.1f}")
    lines, good = ["# What outlives a killed process", "", head], True
    for part in asked.parts:
        found, fine = (
            batches(asked.out, asked.shapes, asked.seed)
            if part == "batch"
            else (kills(asked.out, asked.kills, asked.seed))
        )
        lines += ["", f"## {part}", "", *found]
        good &= fine
    lines += ["", "nothing was lost" if good else "SOMETHING WAS LOST"]
    text = "\n".join(lines)
    with replaced(asked.out / "outlive.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
