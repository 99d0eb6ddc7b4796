"""What each lever of the default learner brings: the same run with one of them taken away.

    python -m ocsdf3d.bench.ablation --shapes spot fandisk bones --seeds 0 1

Every variant is a preset with one setting changed, on the same points. Rows go into a ledger, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ocsdf3d.bench import Ledger, circumstances, data_folder, say, threads
from ocsdf3d.bench.judge import SOLID, score
from ocsdf3d.bench.methods import Answer
from ocsdf3d.bench.protocols import Column, Sample, chosen
from ocsdf3d.bench.protocols.solids import closed_shapes, sample_surface
from ocsdf3d.bench.ranking import Row, table
from ocsdf3d.metrics import floor
from ocsdf3d.pipeline import fit
from ocsdf3d.presets import PRESETS, Preset
from ocsdf3d.train import TrainConfig

KEY = ("method", "preset", "shape", "points", "noise", "outliers", "seed", "samples")
COLUMNS = {**SOLID, "slope": Column("slope of the last batch", "high"), "seconds": Column("seconds", "low")}


def _each(change: Callable[[TrainConfig], TrainConfig]) -> Callable[[Preset], Preset]:
    return lambda preset: preset.with_each(change)


def _set(**changes: object) -> Callable[[Preset], Preset]:
    return _each(lambda config: replace(config, **changes))  # type: ignore[arg-type]


VARIANTS: dict[str, Callable[[Preset], Preset]] = {
    "as it is": lambda preset: preset,
    "points not held to 0": _set(touch=0.0, touch_start=0.0),
    "points held from the start": _each(lambda config: replace(config, touch_start=config.touch)),
    "no known distances": _set(away=0.0),
    "neither": _set(touch=0.0, touch_start=0.0, away=0.0),
    "unsure labels too": lambda preset: replace(preset, sure=0.0),
    "no exploration": _set(refresh=0),
    "no balls": lambda preset: replace(preset, spheres=False),
    "half of the steps": _each(lambda config: replace(config, steps=config.steps // 2)),
}
KEPT = "noise kept"  # the one lever outside the preset


def row_of(
    name: str, sample: Sample, *, preset: str, seed: int, samples: int, resolution: int, device: str
) -> dict[str, object]:
    """The columns of one variant on one sample."""
    begun, error, slope = time.perf_counter(), None, 0.0
    try:
        settings = VARIANTS.get(name, VARIANTS["as it is"])(PRESETS[preset])
        sdf = fit(
            sample.points, preset=settings, support="solid", seed=seed, smooth=name != KEPT, device=device
        )
        mesh = sdf.mesh(resolution=resolution)
        slope = float(sdf.history["curves"]["gradient_norm"][-1])
    except ValueError as reason:
        mesh, error = None, str(reason)
    answer = Answer(mesh, time.perf_counter() - begun, error)
    figures = score(answer, sample, samples=samples, seed=seed)
    return {**figures, "slope": slope, "seconds": answer.seconds, "error": error}


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser("python -m ocsdf3d.bench.ablation", description=__doc__.splitlines()[0])
    add = options.add_argument
    add("--shapes", nargs="+", metavar="FILE", help="of the closed ones (default: all)")
    add("--variants", nargs="+", choices=(*VARIANTS, KEPT), default=list(VARIANTS), metavar="NAME")
    add("--points", type=int, default=2048)
    add("--noise", type=float, default=0.0, help="standard deviation [longest side] (default: 0)")
    add("--outliers", type=float, default=0.0, help="share of points added (default: 0)")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--preset", choices=("fast", "default", "best"), default="default")
    add("--resolution", type=int, default=200)
    add("--samples", type=int, default=100_000, help="of the evaluator, each side")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--out", type=Path, default=Path("bench-results/ablation"))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not in the ledger yet and print the table; 1 when there is nothing to measure."""
    asked = parser().parse_args(arguments)
    torch.set_num_threads(threads())
    try:
        meshes = closed_shapes(data_folder() / "meshes")
        names = chosen(list(meshes), asked.shapes, "closed mesh")
        ledger = Ledger(asked.out / "ablation.csv", (*KEY, *COLUMNS, "error"), KEY)
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    rows: list[Row] = []
    for name in names:
        for seed in asked.seeds:
            mesh = meshes[name]
            points = sample_surface(mesh, asked.points, noise=asked.noise, seed=seed, outliers=asked.outliers)
            sample = Sample(points, mesh, floor(mesh, samples=asked.samples, seed=seed))
            for variant in asked.variants:
                key: dict[str, object] = {"method": variant, "shape": name, "seed": seed}
                key |= {k: getattr(asked, k) for k in ("preset", "points", "noise", "outliers", "samples")}
                row = ledger.find(**key)
                if row is None:
                    say(f"{name}, seed {seed}, {variant} …")
                    row = ledger.add(
                        key
                        | row_of(
                            variant,
                            sample,
                            preset=asked.preset,
                            seed=seed,
                            samples=asked.samples,
                            resolution=asked.resolution,
                            device=asked.device,
                        )
                    )
                rows.append(row)
    print("# What each lever brings\n")
    settings = {
        name: getattr(asked, name) for name in ("preset", "points", "noise", "outliers", "resolution")
    }
    print(circumstances(("torch", "numpy", "scipy"), shapes=len(names), seeds=asked.seeds, **settings))
    print("\n" + table(rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
