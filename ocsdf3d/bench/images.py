"""One class of images against all others: ours beside Isolation Forest, OC-SVM and Deep SVDD.

    ocsdf3d images bench mnist --seeds 0 1
    ocsdf3d images bench mnist --draw curves histograms synthesis heat

Each class in turn is what is learnt, from its training images alone; then the whole test set is scored.
Certified AUROC is for l2 radii of pixels in [0, 1] on the whole test set; attacked AUROC comes from projected
gradient descent with three random restarts on some images of either kind, and beside it stand the certified
and the clean one of those. Every row goes into a ledger as soon as it is measured, and every detector of ours
into a file, so that an interrupted run goes on where it stopped and figures need no training.

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.3, appendix H, tables 3, 7 and 10 to 13.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, markdown, replaced, say
from ocsdf3d.bench import image_figures as figures
from ocsdf3d.bench.image_methods import ATTACKED, DEFAULT, METHODS, OF_PRESETS, Score, Scored, scored
from ocsdf3d.bench.image_sets import Dataset, dataset
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.images.saved import load, save
from ocsdf3d.oneclass.attack import pushed
from ocsdf3d.oneclass.certificate import auroc, certified_auroc

Floats = NDArray[np.float64]
Rows = Sequence[dict[str, object]]

RADII = (8, 16, 36, 72, 144, 255)  # certified, and attacked [1/255]
ATTACK_COUNT = 200  # images of either kind
RESTARTS = 3  # of the attack
PACKAGES = ("torch", "numpy", "scikit-learn")

CERTIFIED = tuple(f"certified_{radius}" for radius in RADII)
EMPIRICAL = tuple(f"{kind}_{radius}" for radius in RADII for kind in ("least", "attacked"))
KEY = ("dataset", "shape", "class", "method", "preset", "seed", "attacked")
COLUMNS = (
    *KEY,
    *("learnt", "normal", "others"),
    *("auroc", *CERTIFIED, "clean_attacked", *EMPIRICAL),
    *("gradient_norm", "seconds", "attack_seconds", "version"),
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a run is asked for.

    Attributes
    ----------
    methods : tuple of str
        Of `METHODS`.
    classes : tuple of str
        Names; all when empty.
    seeds : tuple of int
    preset : str
        Of ours.
    attacked : int
        Images of either kind to attack; 0 for none.
    size : (int, int), optional
        Height and width to scale the images of a folder to.
    channels : int, optional
        1 or 3, to convert them to.
    device : str
        Where networks learn and attacks run.
    draw : tuple of str
        Figures to draw, of `image_figures.KINDS`.
    """

    methods: tuple[str, ...] = DEFAULT
    classes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    preset: str = "cpu"
    attacked: int = ATTACK_COUNT
    size: tuple[int, int] | None = None
    channels: int | None = None
    device: str = "auto"
    draw: tuple[str, ...] = ()


def run(name: str, asked: Asked, out: Path, *, fresh: bool = False) -> tuple[str, list[Path]]:
    """Measure and return the tables, Markdown, and the figures drawn.

    They also go into `out`, with the rows as CSV and JSON and the detectors.

    Parameters
    ----------
    name : str
        Of a set, or a folder, see `image_sets.dataset`.
    asked : Asked
        The options.
    out : path
        Folder for ledger, tables, detectors and figures.
    fresh : bool
        Forget the rows that are already there.

    Raises
    ------
    ValueError
        Unknown class, method or figure, or a ledger that cannot be read.
    OSError
        No such data, or the folder cannot be written.
    """
    for said, given, known in (
        ("method", asked.methods, METHODS),
        ("figure", asked.draw, tuple(figures.KINDS)),
    ):
        unknown = [word for word in given if word not in known]
        if unknown:
            raise ValueError(f"no {said} {unknown[0]!r}; there are {', '.join(known)}.")
    data = dataset(name, asked.size, asked.channels)
    classes = asked.classes or data.classes
    for found in classes:
        if found not in data.classes:
            raise ValueError(f"no class {found!r} in {data.name}; it has {', '.join(data.classes)}.")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"images_{data.name}.csv"
    ledger = Ledger(path, COLUMNS, KEY, fresh=fresh)
    rows = []
    for seed in asked.seeds:
        for found in classes:
            for method in asked.methods:
                preset = asked.preset if method in OF_PRESETS else ""
                key: dict[str, object] = {
                    "dataset": data.name,
                    "shape": data.sized,
                    "class": int(found) if found.isdecimal() else found,
                    "method": method,
                    "preset": preset or None,
                    "seed": seed,
                    "attacked": asked.attacked if method in ATTACKED else 0,
                }
                row = ledger.find(**key)
                if row is None:
                    say(f"{data.name}, class {found}, seed {seed}, {method} …")
                    measured = _measured(data, data.classes.index(found), method, seed, asked, out)
                    row = ledger.add({**key, **measured, "version": __version__})
                rows.append(row)
    text = "\n".join(
        [
            f"# Images: {data.name}, one class against the others",
            "",
            circumstances(
                PACKAGES,
                seeds=list(asked.seeds),
                preset=asked.preset,
                attacked=asked.attacked,
                restarts=RESTARTS,
                device=asked.device,
            ),
            data.counted(),
            "",
            *_tables(rows, asked),
        ]
    )
    with replaced(path.with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text, [_drawn(kind, data, classes, rows, asked, out) for kind in asked.draw]


def detector_path(out: Path, data: Dataset, number: int, asked: Asked, seed: int) -> Path:
    """Return where the detector of a class lies."""
    name = data.classes[number].replace("/", "_")
    return out / "detectors" / f"{data.name}_{name}_{data.sized}_{asked.preset}_{seed}.safetensors"


def _measured(
    data: Dataset, number: int, method: str, seed: int, asked: Asked, out: Path
) -> dict[str, object]:
    """Return the columns of one row beside its key."""
    begun = time.perf_counter()
    row: dict[str, object] = dict.fromkeys(COLUMNS[len(KEY) : -1])
    normal = data.y_test == number
    found = scored(method, data, number, seed, preset=asked.preset, device=asked.device)
    row["seconds"] = time.perf_counter() - begun
    row["learnt"] = int((data.y_train == number).sum())
    row["normal"], row["others"] = int(normal.sum()), int((~normal).sum())
    row["gradient_norm"] = found.gradient_norm
    row["auroc"] = auroc(found.scores[normal], found.scores[~normal])
    row.update(zip(CERTIFIED, _bounds(found, data.test, normal, ~normal), strict=True))
    if found.function is not None and asked.attacked:
        begun = time.perf_counter()
        _attack(found, found.function, data.test, normal, asked.attacked, seed, row)
        row["attack_seconds"] = time.perf_counter() - begun
    if found.detector is not None:
        path = detector_path(out, data, number, asked, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, found.detector)
    return row


def _bounds(
    found: Scored, test: NDArray[np.uint8], normal: NDArray[np.bool_], others: NDArray[np.bool_]
) -> list[float | None]:
    """Return the certified AUROC at `RADII`, where anything is proved."""
    rounding = found.rounding(test, max(RADII) / 255.0)
    if rounding is None:
        return [None] * len(RADII)
    shifts = np.array(RADII) / 255.0
    bounds = certified_auroc(found.scores[normal], found.scores[others], shifts, rounding=rounding)
    return [float(bound) for bound in bounds]


def _attack(
    found: Scored,
    function: Score,
    test: NDArray[np.uint8],
    normal: NDArray[np.bool_],
    count: int,
    seed: int,
    row: dict[str, object],
) -> None:
    """Fill in what the attack leaves of some images of either kind, and what was proved of those."""
    halves = [_spread(np.flatnonzero(kind), count) for kind in (normal, ~normal)]
    first, second = (np.isin(np.arange(len(test)), half) for half in halves)
    chosen, cut = np.concatenate(halves), len(halves[0])
    rows = test[chosen].reshape(len(chosen), -1) / 255.0
    begin = torch.as_tensor(rows, dtype=torch.float32, device=found.device)
    down = torch.ones(len(chosen), dtype=torch.float32, device=found.device)
    down[cut:] = -1.0
    box = torch.zeros_like(begin[0]), torch.ones_like(begin[0])
    row["clean_attacked"] = auroc(found.scores[first], found.scores[second])
    worst: torch.Tensor | None = None
    for radius, bound in zip(RADII, _bounds(found, test, first, second), strict=True):
        rng = np.random.RandomState(seed)
        scores = pushed(function, begin, down, radius / 255.0, restarts=RESTARTS, rng=rng, box=box)
        # what reached an image within a smaller radius reaches it within this one
        worst = down * scores if worst is None else torch.minimum(worst, down * scores)
        left = (down * worst).double().cpu().numpy()
        row[f"attacked_{radius}"] = auroc(left[:cut], left[cut:])
        row[f"least_{radius}"] = bound


def _spread(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most so many of the places, evenly: sets may be in the order of their classes."""
    if len(places) <= count:
        return places
    return places[np.arange(count) * len(places) // count]


def _tables(rows: Rows, asked: Asked) -> list[str]:
    """Return the tables of AUROC by class and method, of what is certified, and of what is attacked."""
    classes = list(dict.fromkeys(row["class"] for row in rows))

    def mean(name: str, method: str, found: object = None) -> float | None:
        values = [
            float(str(row[name])) * (1.0 if name == "gradient_norm" else 100.0)
            for row in rows
            if row["method"] == method and row[name] is not None and found in (None, row["class"])
        ]
        return float(np.mean(values)) if values else None

    def table(head: str, columns: Sequence[tuple[str, str, str]]) -> list[str]:
        body = [
            [
                str(found) if found is not None else "mean",
                *(mean(name, method, found) for _, name, method in columns),
            ]
            for found in (*classes, None)
        ]
        return [f"## {head}", "", markdown(["class", *(label for label, _, _ in columns)], body), ""]

    lines = table("AUROC [%]", [(method, "auroc", method) for method in asked.methods])
    if "ocsdf" in asked.methods:
        certified = [(f"{radius}/255", f"certified_{radius}", "ocsdf") for radius in RADII]
        lines += table(
            "Certified AUROC of ocsdf, l2 radius of pixels in [0, 1] [%], and mean ‖∇f‖ on the test images of"
            " the class",
            [*certified, ("‖∇f‖", "gradient_norm", "ocsdf")],
        )
    if asked.attacked:
        for method in (found for found in asked.methods if found in ATTACKED):
            columns = [("clean", "clean_attacked", method)]
            for radius in RADII:
                if method == "ocsdf":
                    columns.append((f"{radius}/255 proved", f"least_{radius}", method))
                columns.append((f"{radius}/255 attacked", f"attacked_{radius}", method))
            lines += table(f"{method} under attack, {asked.attacked} images of either kind [%]", columns)

    def total(name: str, method: str) -> float:
        return sum(float(str(row[name] or 0.0)) for row in rows if row["method"] == method)

    said = [f"{m} {total('seconds', m):.0f} + {total('attack_seconds', m):.0f}" for m in asked.methods]
    return [*lines, f"Seconds in all, to learn and score + to attack: {', '.join(said)}."]


def _drawn(kind: str, data: Dataset, classes: Sequence[str], rows: Rows, asked: Asked, out: Path) -> Path:
    """Draw one figure, from the ledger or from the detectors of the first seed; return its path."""
    path = out / f"images_{data.name}_{kind}.png"
    if kind == "curves":
        picture = figures.attack_curves(rows, RADII, data.name)
    else:
        detectors = {found: _detector(data, found, asked, out) for found in classes}
        picture = figures.KINDS[kind](detectors, data)
    with replaced(path) as temporary:
        temporary.write_bytes(picture)
    return path


def _detector(data: Dataset, found: str, asked: Asked, out: Path) -> OneClassImageSDF:
    """Return the detector of a class that was saved, or else learn it again."""
    number, seed = data.classes.index(found), asked.seeds[0]
    path = detector_path(out, data, number, asked, seed)
    if path.exists():
        return load(path)
    say(f"{data.name}, class {found}, seed {seed}: no {path}, learnt for the figure …")
    own = data.train[data.y_train == number]
    detector = OneClassImageSDF(asked.preset, device=asked.device, random_state=seed).fit(own)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, detector)
    return detector
