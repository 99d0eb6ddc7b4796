"""The paper's planar sets: how steep each method is, what it tells apart, and what is proved of it.

`run` measures and writes. The five sets, and the truth about them, are those of `oneclass/toy.py`. Rows to
judge are fresh: 2,000 samples, as many anomalies uniform in the part of B that is at least 0.1 standard
deviations off the support, and as many of those that are at most 0.5 off it: in all of B most places are so
far away that any method knows them.

One setting for all sets, and no label chooses it. `ocsdf3d` is the detector's default, meant for tables with
outliers among the rows, `ocsdf3d fine` its preset for clean ones, either with the margin that follows the
spacing of the rows. `ocsdf3d lam 100` has the paper's margin and λ, 0.05 and 100; `ocsdf3d paper` its network
and optimiser as well. `cross-entropy` is the conventional network of tables 1 and 8: it learns the data
against Q_t of the trained `ocsdf3d lam 100`, see `oneclass/conventional.py`.

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.1, appendix E, figures 2, 6 and 7, tables 1 and 8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, markdown, replaced, say
from ocsdf3d.bench.toy_figures import Map, draw_histograms, draw_maps, window
from ocsdf3d.oneclass.certificate import auroc
from ocsdf3d.oneclass.toy import POINTS, TOYS, anomalies, toy_samples

if TYPE_CHECKING:
    from ocsdf3d.oneclass.estimator import OneClassSDF

__all__ = ["METHODS", "PAPER", "Report", "run"]

Floats = NDArray[np.float64]

WALKER = "ocsdf3d lam 100"
OURS: dict[str, dict[str, Any]] = {
    "ocsdf3d": {},
    "ocsdf3d fine": {"preset": "fine"},
    WALKER: {"margin": 0.05, "lam": 100.0, "steps": 1500},
    "ocsdf3d paper": {"preset": "paper", "margin": 0.05},
}
CONVENTIONAL = "cross-entropy"
SVM, FOREST = "one-class SVM", "isolation forest"
METHODS = (*OURS, CONVENTIONAL, SVM, FOREST)
PAPER = {  # tables 1 and 8: largest gradient norm of the conventional network after 10,000 steps
    "one_cloud": 26.66,
    "two_circles": 122.84,
    "two_blobs": 1421.41,
    "blob_and_cloud": 53.90,
    "two_moons": 258.73,
}
RADII = {"certified_005": 0.05, "certified_01": 0.1, "certified_025": 0.25}  # column → ε
OFF, NEAR = 0.1, 0.5  # clearance of the anomalies, and of the near ones at most [standard deviations]
NODES = 300  # of the maps, a side
KEY = ("toy", "method", "seed", "points", "samples", "steps", "device")
FIGURES = ("slope", "auroc", "near", "accepted", "fooled", *RADII, "seconds")
HEADS = (
    *("set", "method", "largest slope ↓", "AUROC ↑", "near AUROC ↑", "data accepted", "near accepted ↓"),
    *(f"certified AUROC, {radius:g} ↑" for radius in RADII.values()),
    "seconds ↓",
)


@dataclass(frozen=True)
class Report:
    """What a run found: its tables, and the rows they are made of."""

    text: str
    rows: list[dict[str, object]]


class Judge(NamedTuple):
    """A trained method."""

    score: Callable[[Floats], Floats]  # larger for the data
    threshold: float  # scores of at least this are accepted
    seconds: float  # of its training
    slope: float | None = None  # largest ‖∇f‖ on the train set
    detector: OneClassSDF | None = None  # where something is proved


def run(
    out: Path,
    *,
    toys: Sequence[str] = TOYS,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0, 1, 2),
    points: int = POINTS,
    samples: int = 2000,
    steps: int = 10_000,
    device: str = "cpu",
    fresh: bool = False,
    figure: bool = False,
) -> Report:
    """Measure what the ledger lacks, write tables (and figures), and return them.

    Parameters
    ----------
    out
        Folder for `toys.csv`, `toys.json` and `toys.md`; with figures also `toys.png`, `toys-scores.png`, and
        what they show in `maps/`.
    toys, methods
        Names out of `TOYS` and `METHODS`.
    seeds
        Of the points and the training; figures show the first.
    points, samples
        Rows to learn; rows to judge, of each kind.
    steps
        Of the conventional network.
    device
        `"auto"`, `"cpu"` or `"cuda"`.
    fresh
        Forget the rows that are already there.
    figure
        Draw the scores of the first seed.

    Raises
    ------
    ValueError
        An unknown name, a count below 1, or a ledger that cannot be read; nothing was measured yet.
    ImportError
        scikit-learn is absent.
    OSError
        The folder cannot be written.
    """
    for kind, asked, known in (("toys", toys, TOYS), ("methods", methods, METHODS)):
        wrong = [name for name in asked if name not in known]
        if wrong or not asked:
            raise ValueError(f"`{kind}` must be among {', '.join(known)}; got {', '.join(wrong) or 'none'}.")
    for kind, count in (("seeds", len(seeds)), ("points", points), ("samples", samples), ("steps", steps)):
        if count < 1:
            raise ValueError(f"`{kind}` must be at least 1; got {count}.")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "toys.csv"
    if fresh:
        for old in (out / "maps").glob("*.npz"):
            old.unlink()
    ledger = Ledger(path, (*KEY, *FIGURES, "version"), KEY, fresh=fresh)
    rows = []
    for name in toys:
        for seed in seeds:
            bench = _Bench(name, seed, points, samples, steps, device)
            for method in methods:
                key = bench.key(method)
                row = ledger.find(**key)
                file = _file(out, name, method)
                draws = figure and seed == seeds[0] and not file.exists()
                if row is None or draws:
                    say(f"{name}, seed {seed}, {method} …")
                    judge = bench.judge(method)
                    if row is None:
                        row = ledger.add(key | bench.measure(judge) | {"version": __version__})
                    if draws:
                        bench.map(judge).save(file)
                rows.append(row)
    text = _text(rows, toys, methods, seeds, points=points, samples=samples, steps=steps, device=device)
    if figure:
        maps = {(name, m): Map.load(_file(out, name, m)) for name in toys for m in methods}
        names = {name: _title(name) for name in toys}
        for picture, draw in (("toys.png", draw_maps), ("toys-scores.png", draw_histograms)):
            with replaced(out / picture) as temporary:
                temporary.write_bytes(draw(maps, names, list(methods)))
            text += f"\n\n![{picture}]({picture})"
    with replaced(out / "toys.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Report(text, rows)


class _Bench:
    """One set and one seed: its rows, and the detector that two methods share."""

    def __init__(self, name: str, seed: int, points: int, samples: int, steps: int, device: str) -> None:
        self.name, self.seed, self.points, self.samples = name, seed, points, samples
        self.steps, self.device = steps, device
        self.train = toy_samples(name, points, np.random.default_rng(seed))
        rng = np.random.default_rng([seed, 1])
        self.fresh = toy_samples(name, samples, rng)
        self.off = anomalies(name, samples, rng, least=OFF)
        self.near = anomalies(name, samples, rng, least=OFF, most=NEAR)
        self.walker: Judge | None = None

    def key(self, method: str) -> dict[str, object]:
        """What a row is found by: settings that mean nothing to a method are None."""
        learns = method not in (SVM, FOREST)
        return {
            "toy": self.name,
            "method": method,
            "seed": self.seed,
            "points": self.points,
            "samples": self.samples,
            "steps": self.steps if method == CONVENTIONAL else None,
            "device": self.device if learns else None,
        }

    def judge(self, method: str) -> Judge:
        """Train a method."""
        if method == CONVENTIONAL:
            return self._conventional()
        if method in OURS:
            return self._ours(method)
        return self._peer(method)

    def measure(self, judge: Judge) -> dict[str, object]:
        """The figures of a trained method."""
        fresh, off, near = (judge.score(rows) for rows in (self.fresh, self.off, self.near))
        proved: dict[str, object] = dict.fromkeys(RADII)
        if judge.detector is not None:
            rows = np.concatenate([self.fresh, self.off])
            labels = np.repeat([1, -1], [len(self.fresh), len(self.off)])
            bounds = judge.detector.certify(rows, labels, list(RADII.values()))
            proved = dict(zip(RADII, bounds.tolist(), strict=True))
        return {
            "slope": judge.slope,
            "auroc": auroc(fresh, off),
            "near": auroc(fresh, near),
            "accepted": float((fresh >= judge.threshold).mean()),
            "fooled": float((near >= judge.threshold).mean()),
            **proved,
            "seconds": judge.seconds,
        }

    def map(self, judge: Judge) -> Map:
        """What the figures show of a trained method."""
        half = window(self.name)
        along = np.linspace(-half, half, NODES)
        grid = np.stack(np.meshgrid(along, along, indexing="xy"), axis=-1)
        values = judge.score(grid.reshape(-1, 2)).reshape(NODES, NODES) - judge.threshold
        fresh, off = (judge.score(rows) - judge.threshold for rows in (self.fresh, self.off))
        slope = np.nan if judge.slope is None else judge.slope
        return Map(values, half, self.train[:1000], fresh, off, slope)

    def _ours(self, method: str) -> Judge:
        from ocsdf3d.oneclass.conventional import local_lipschitz
        from ocsdf3d.oneclass.estimator import OneClassSDF

        if method == WALKER and self.walker is not None:
            return self.walker
        begun = time.perf_counter()
        detector = OneClassSDF(random_state=self.seed, device=self.device, **OURS[method]).fit(self.train)
        seconds = time.perf_counter() - begun
        slope = local_lipschitz(detector.network_, detector.standardised(self.train) / detector.unit_)
        judge = Judge(detector.score_samples, detector.offset_, seconds, slope, detector)
        if method == WALKER:
            self.walker = judge
        return judge

    def _conventional(self) -> Judge:
        import torch

        from ocsdf3d.devices import resolve_device
        from ocsdf3d.oneclass.conventional import (
            ConventionalConfig,
            local_lipschitz,
            train_conventional,
            walked,
        )

        detector = self._ours(WALKER).detector
        assert detector is not None
        rows = detector.standardised(self.train)
        config = replace(ConventionalConfig(), steps=self.steps)
        begun = time.perf_counter()
        network = train_conventional(
            rows,
            walked(detector, OURS[WALKER]["margin"], self.seed),
            config,
            seed=self.seed,
            device=resolve_device(self.device),
        )
        seconds = time.perf_counter() - begun
        network = network.cpu()

        def score(points: Floats) -> Floats:
            given = torch.as_tensor(detector.standardised(points), dtype=torch.float32)
            with torch.no_grad():
                return np.asarray(torch.cat([network(part) for part in given.split(4096)]).double().numpy())

        return Judge(score, 0.0, seconds, local_lipschitz(network, rows))

    def _peer(self, method: str) -> Judge:
        from sklearn.ensemble import IsolationForest
        from sklearn.svm import OneClassSVM

        peer: Any
        if method == SVM:
            peer = OneClassSVM(nu=0.05, kernel="rbf", gamma=0.5)
        else:
            peer = IsolationForest(contamination=0.05, random_state=self.seed)
        begun = time.perf_counter()
        peer.fit(self.train)
        return Judge(peer.decision_function, 0.0, time.perf_counter() - begun)


def _file(out: Path, name: str, method: str) -> Path:
    return out / "maps" / f"{name}-{method.replace(' ', '_')}.npz"


def _title(name: str) -> str:
    return name.replace("_", " ")


def _text(
    rows: list[dict[str, object]],
    toys: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    **settings: object,
) -> str:
    """The tables, as Markdown: a mean over seeds a cell."""

    def mean(name: str, method: str, column: str) -> float | None:
        found = [row[column] for row in rows if row["toy"] == name and row["method"] == method]
        numbers = [float(value) for value in found if isinstance(value, int | float)]
        return float(np.mean(numbers)) if numbers else None

    body = [
        [_title(name), method, *(mean(name, method, column) for column in FIGURES)]
        for name in toys
        for method in methods
    ]
    overall = []
    for method in methods:
        cells = [[mean(name, method, column) for name in toys] for column in FIGURES]
        known = [[value for value in cell if value is not None] for cell in cells]
        overall.append([method, *(float(np.mean(cell)) if cell else None for cell in known)])
    compared = [
        [_title(name), PAPER[name], *(mean(name, m, "slope") for m in methods if m not in (SVM, FOREST))]
        for name in toys
    ]
    learnt = [m for m in methods if m not in (SVM, FOREST)]
    head = circumstances(
        ("torch", "numpy", "scikit-learn"),
        sets=len(toys),
        seeds=" ".join(map(str, seeds)),
        **settings,
    )
    parts = [
        "# Planar sets",
        head,
        f"Anomalies are uniform in B, at least {OFF} standard deviations off the support, near ones at most"
        f" {NEAR}; data accepted are fresh samples. Means over seeds.",
        markdown(HEADS, body),
        "## Mean over the sets",
        markdown(HEADS[1:], overall),
    ]
    if learnt:
        parts += [
            "## Largest slope on the train set (tables 1 and 8)",
            markdown(("set", "paper, conventional", *learnt), compared),
        ]
    return "\n\n".join(parts)
