"""One class of images against all others: ours beside Isolation Forest, OC-SVM and Deep SVDD.

    ocsdf3d images bench mnist --seeds 0 1

Each class in turn is what is learnt, from its training images alone; then the whole test set is scored.
Certified AUROC is for l2 radii of pixels in [0, 1] on the whole test set; attacked AUROC comes from projected
gradient descent on the first images of either kind, and beside it stand the certified and the clean one of
those. Every row goes into a ledger as soon as it is measured, so that an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocsdf3d import __version__
from ocsdf3d.bench import Ledger, circumstances, data_folder, markdown, replaced, say
from ocsdf3d.bench.deepsvdd import DeepSVDD
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.images.folders import ImageError, read_images
from ocsdf3d.oneclass.attack import pushed
from ocsdf3d.oneclass.certificate import auroc, certified_auroc

Floats = NDArray[np.float64]
Score = Callable[[torch.Tensor], torch.Tensor]  # of rows in [0, 1], differentiable

SETS = {
    "mnist": "mnist.npz",
    "fashion": "fashion_mnist_subset.npz",
    "cifar10": "cifar10_subset.npz",
}
METHODS = ("ocsdf", "deepsvdd", "forest", "svm")
RADII = (8, 16, 36, 72)  # certified [1/255]
ATTACKS = (36, 72, 255)  # attacked [1/255]
ATTACKED = 200  # images of either kind
EPOCHS = 30  # of Deep SVDD
NU = 0.1  # of OC-SVM
PACKAGES = ("torch", "numpy", "scikit-learn")

CERTIFIED = tuple(f"certified_{radius}" for radius in RADII)
EMPIRICAL = tuple(f"{kind}_{radius}" for radius in ATTACKS for kind in ("least", "attacked"))
KEY = ("dataset", "class", "method", "preset", "seed")
COLUMNS = (
    *KEY,
    *("auroc", *CERTIFIED, "clean_attacked", *EMPIRICAL),
    *("gradient_norm", "seconds", "version"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes
    ----------
    name : str
    train, test : (n, h, w[, c]) arrays
        uint8.
    y_train, y_test : (n,) arrays
        Numbers of classes.
    classes : tuple of str
        Their names.
    """

    name: str
    train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What a method says of the test images.

    Attributes
    ----------
    scores : (n,) array
        Larger for what looks normal.
    function : callable, optional
        The score, of rows in [0, 1], where it has a gradient.
    rounding : float, optional
        Bound of what rounding may add to a difference of two scores of one image, where the slope is at most
        1; None where nothing is proved.
    gradient_norm : float, optional
        Mean ‖∇f‖ at the end of training.
    """

    scores: Floats
    function: Score | None = None
    rounding: float | None = None
    gradient_norm: float | None = None


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
    """

    methods: tuple[str, ...] = METHODS
    classes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    preset: str = "cpu"
    attacked: int = ATTACKED
    size: tuple[int, int] | None = None


def dataset(name: str, size: tuple[int, int] | None = None) -> Dataset:
    """Return a set of `SETS`, or that of a folder with `train/CLASS` and `test/CLASS` in it.

    Raises
    ------
    FileNotFoundError
        There is no such set or folder.
    ImageError
        Its images do not fit together, or a class has none to test on.
    """
    if name in SETS:
        with np.load(data_folder() / "images" / SETS[name]) as found:
            labels = found["y_train"].astype(np.int64), found["y_test"].astype(np.int64)
            names = [str(word) for word in found["class_names"]] if "class_names" in found else None
            count = int(labels[0].max()) + 1
            given = tuple(names or map(str, range(count)))
            return Dataset(name, found["X_train"], labels[0], found["X_test"], labels[1], given)
    root = Path(name)
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: neither one of {', '.join(SETS)} nor a folder.")
    classes = sorted(path.name for path in (root / "train").glob("*/"))
    if len(classes) < 2:
        raise ImageError(f"{root}: two folders or more are expected in {root / 'train'}, one a class.")
    parts = []
    for half in ("train", "test"):
        images = [read_images(root / half / found, size=size).images for found in classes]
        if len({found.shape[1:] for found in images}) > 1:
            raise ImageError(f"{root / half}: classes differ in size or channels; give a size to scale to.")
        parts.append((np.concatenate(images), np.repeat(np.arange(len(images)), [len(i) for i in images])))
    (train, y_train), (test, y_test) = parts
    if train.shape[1:] != test.shape[1:]:
        raise ImageError(f"{root}: train and test differ in size or channels; give a size to scale to.")
    return Dataset(root.name, train.astype(np.uint8), y_train, test.astype(np.uint8), y_test, tuple(classes))


def run(name: str, asked: Asked, out: Path, *, fresh: bool = False) -> str:
    """Measure and return the tables, Markdown; they also go into `out`, with the rows as CSV and JSON.

    Parameters
    ----------
    name : str
        Of a set, or a folder, see `dataset`.
    asked : Asked
        The options.
    out : path
        Folder for ledger and tables.
    fresh : bool
        Forget the rows that are already there.

    Raises
    ------
    ValueError
        Unknown class or method, or a ledger that cannot be read.
    OSError
        No such data, or the folder cannot be written.
    """
    unknown = [method for method in asked.methods if method not in METHODS]
    if unknown:
        raise ValueError(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    data = dataset(name, asked.size)
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
                preset = asked.preset if method == "ocsdf" else ""
                key = {"dataset": data.name, "class": found, "method": method, "preset": preset, "seed": seed}
                typed = {"class": int(found) if found.isdecimal() else found, "preset": preset or None}
                row = ledger.find(**{**key, **typed})
                if row is None:
                    say(f"{data.name}, class {found}, seed {seed}, {method} …")
                    measured = _measured(data, data.classes.index(found), method, seed, asked)
                    row = ledger.add({**key, **typed, **measured, "version": __version__})
                rows.append(row)
    text = "\n".join(
        [
            f"# Images: {data.name}, one class against the others",
            "",
            circumstances(PACKAGES, seeds=list(asked.seeds), preset=asked.preset, attacked=asked.attacked),
            "",
            *_tables(rows, asked),
        ]
    )
    with replaced(path.with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text


def _measured(data: Dataset, number: int, method: str, seed: int, asked: Asked) -> dict[str, object]:
    """Return the columns of one row beside its key."""
    begun = time.perf_counter()
    own = data.train[data.y_train == number]
    row: dict[str, object] = dict.fromkeys(COLUMNS[len(KEY) : -1])
    normal = data.y_test == number
    found = _scored(method, own, data.test, seed, asked)
    row["seconds"] = time.perf_counter() - begun
    row["gradient_norm"] = found.gradient_norm
    row["auroc"] = auroc(found.scores[normal], found.scores[~normal])
    row.update(zip(CERTIFIED, _bounds(found, normal, ~normal, RADII), strict=True))
    if found.function is not None and asked.attacked:
        _attack(found, found.function, data.test, normal, asked.attacked, seed, row)
    return row


def _bounds(
    found: Scored, normal: NDArray[np.bool_], others: NDArray[np.bool_], radii: Sequence[int]
) -> list[float | None]:
    """Return the certified AUROC at radii [1/255], where anything is proved."""
    if found.rounding is None:
        return [None] * len(radii)
    shifts = np.array(radii) / 255.0
    bounds = certified_auroc(found.scores[normal], found.scores[others], shifts, rounding=found.rounding)
    return [float(bound) for bound in bounds]


def _scored(method: str, own: NDArray[np.uint8], test: NDArray[np.uint8], seed: int, asked: Asked) -> Scored:
    """Learn one class by a method, and score the test images."""
    flat, others = (part.reshape(len(part), -1) / 255.0 for part in (own, test))
    if method == "ocsdf":
        detector = OneClassImageSDF(asked.preset, random_state=seed).fit(own)
        detector.certify(test[:2], [1, -1], [0.0])  # verified: the weights are those of the certificate
        curves: Any = detector.history_["curves"]
        mean, unit = torch.as_tensor(detector.mean_, dtype=torch.float32), detector.unit_
        return Scored(
            detector.score_samples(test),
            lambda x: unit * detector.network_((x - mean) / unit),
            2.0 * float(detector.rounding(test, max(ATTACKS) / 255.0).max()),
            curves["gradient_norm"][-1],
        )
    if method == "deepsvdd":
        height, width, channels = own.shape[1], own.shape[2], 1 if own.ndim == 3 else own.shape[3]
        model = DeepSVDD(channels, height, width, seed)
        places = np.arange(flat.shape[1]).reshape(height, width, channels).transpose(2, 0, 1).ravel()
        order = torch.as_tensor(places)  # channels first
        model.learn(torch.as_tensor(flat, dtype=torch.float32)[:, order], EPOCHS)
        rows = torch.as_tensor(others, dtype=torch.float32)
        with torch.no_grad():
            values = torch.cat([model(part[:, order]) for part in rows.split(1000)])
        return Scored(values.double().numpy(), lambda x: model(x[:, order]))
    if method == "forest":
        from sklearn.ensemble import IsolationForest

        return Scored(IsolationForest(random_state=seed).fit(flat).score_samples(others))
    from sklearn.svm import OneClassSVM

    return Scored(OneClassSVM(nu=NU).fit(flat).score_samples(others))


def _attack(
    found: Scored,
    function: Score,
    test: NDArray[np.uint8],
    normal: NDArray[np.bool_],
    count: int,
    seed: int,
    row: dict[str, object],
) -> None:
    """Fill in what the attack leaves of the first images of either kind, and what was proved of those."""
    halves = [np.flatnonzero(kind)[:count] for kind in (normal, ~normal)]
    first, second = (np.isin(np.arange(len(test)), half) for half in halves)
    chosen, cut = np.concatenate(halves), len(halves[0])
    begin = torch.as_tensor(test[chosen].reshape(len(chosen), -1) / 255.0, dtype=torch.float32)
    down = torch.ones(len(chosen))
    down[cut:] = -1.0
    box = torch.zeros(begin.shape[1]), torch.ones(begin.shape[1])
    row["clean_attacked"] = auroc(found.scores[first], found.scores[second])
    for radius, bound in zip(ATTACKS, _bounds(found, first, second, ATTACKS), strict=True):
        rng = np.random.RandomState(seed)
        worst = pushed(function, begin, down, radius / 255.0, rng=rng, box=box).double().numpy()
        row[f"attacked_{radius}"] = auroc(worst[:cut], worst[cut:])
        row[f"least_{radius}"] = bound


def _tables(rows: Sequence[dict[str, object]], asked: Asked) -> list[str]:
    """Return the tables of AUROC by class and method, of what is certified, and of what is attacked."""
    classes = list(dict.fromkeys(row["class"] for row in rows))

    def mean(name: str, method: str, found: object = None) -> float | None:
        values = [
            100.0 * float(str(row[name]))
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
        lines += table("Certified AUROC of ocsdf, l2 radius of pixels in [0, 1] [%]", certified)
    if asked.attacked:
        for method in (found for found in asked.methods if found in ("ocsdf", "deepsvdd")):
            columns = [("clean", "clean_attacked", method)]
            for radius in ATTACKS:
                if method == "ocsdf":
                    columns.append((f"{radius}/255 proved", f"least_{radius}", method))
                columns.append((f"{radius}/255 attacked", f"attacked_{radius}", method))
            lines += table(f"{method} under attack, {asked.attacked} images of either kind [%]", columns)
    seconds = {
        method: sum(float(str(row["seconds"])) for row in rows if row["method"] == method)
        for method in asked.methods
    }
    return [*lines, "Seconds in all: " + ", ".join(f"{m} {s:.0f}" for m, s in seconds.items()) + "."]
