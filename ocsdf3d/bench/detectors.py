"""Outlier detectors side by side: ours, scikit-learn's and pyod's; larger scores for what looks normal.

Every detector gets columns of mean 0 and deviation 1, taken from the rows it learns from; ours does that by
itself. Settings are the libraries' own, the same for every table: no label and no table chose them. What
pyod brings (PCA, HBOS, ECOD, COPOD, DeepSVDD) takes part where it is installed.

References
----------
Zhao, Nasrullah, Li, PyOD: A Python toolbox for scalable outlier detection, JMLR 20, 2019. Liu, Ting, Zhou,
Isolation forest, ICDM 2008. Breunig et al., LOF, SIGMOD 2000. Ramaswamy, Rastogi, Shim, SIGMOD 2000 (distance
to the k-th neighbour). Schölkopf et al., Neural Computation 13(7), 2001 (one-class SVM). Ruff et al., Deep
one-class classification, ICML 2018.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DETECTORS", "FINE", "OURS", "PAPER", "Judged", "chosen_detectors", "judged"]

Floats = NDArray[np.float64]
Rule = Callable[[Floats, Floats, bool, int], "Judged"]

OURS, FINE, PAPER = "ocsdf3d", "ocsdf3d-fine", "ocsdf3d-paper"
NEIGHBOURS = 5  # of kNN: pyod's default, the distance to the last of them


class Judged(NamedTuple):
    """Scores of the rows asked for, (n,), and the seconds of learning and of scoring."""

    scores: Floats
    fit: float
    score: float


def judged(name: str, train: Floats, test: Floats | None, *, seed: int) -> Judged:
    """Return what a detector that learnt from some rows says of others.

    Parameters
    ----------
    name : str
        One of `DETECTORS`.
    train : (n, d) float64 array
        Rows to learn from.
    test : (k, d) float64 array or None
        Rows to score; None for those it learnt from, each as one that was learnt (a row is not its own
        neighbour).
    seed : int
        Of detectors that draw at random.

    Raises
    ------
    ImportError
        Its library is not installed.
    """
    return DETECTORS[name][0](train, train if test is None else test, test is None, seed)


def chosen_detectors(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return names, once, in the order given; by default ours and every peer that is installed.

    Raises
    ------
    ValueError
        A name that is unknown.
    """
    if names is None:
        there = (name for name, (_, library, _) in DETECTORS.items() if find_spec(library))
        return tuple(name for name in there if name not in (FINE, PAPER))
    unknown = [name for name in names if name not in DETECTORS]
    if unknown:
        raise ValueError(f"no detector {', '.join(unknown)}; there are {', '.join(DETECTORS)}.")
    return tuple(dict.fromkeys(names))


def _ours(preset: str) -> Rule:
    def rule(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
        from ocsdf3d.oneclass import OneClassSDF

        detector = OneClassSDF(preset=preset, random_state=seed)
        return _timed(lambda: detector.fit(train), lambda: detector.score_samples(test))

    return rule


def _iforest(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=seed)
    return _timed(lambda: forest.fit(train), lambda: forest.score_samples(test))


def _ocsvm(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
    from sklearn.svm import OneClassSVM

    machine = OneClassSVM()
    a, b = _standard(train, test)
    return _timed(lambda: machine.fit(a), lambda: machine.score_samples(b))


def _lof(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
    from sklearn.neighbors import LocalOutlierFactor

    factor = LocalOutlierFactor(novelty=not same)
    a, b = _standard(train, test)
    if same:
        return _timed(lambda: factor.fit(a), lambda: factor.negative_outlier_factor_)
    return _timed(lambda: factor.fit(a), lambda: factor.score_samples(b))


def _knn(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBOURS)
    a, b = _standard(train, test)
    return _timed(lambda: search.fit(a), lambda: -search.kneighbors(None if same else b)[0][:, -1])


def _pyod(module: str, kind: str) -> Rule:
    def rule(train: Floats, test: Floats, same: bool, seed: int) -> Judged:
        from importlib import import_module

        made = getattr(import_module(f"pyod.models.{module}"), kind)
        options: dict[str, object] = {}
        if kind == "DeepSVDD":
            options = {"n_features": train.shape[1], "verbose": 0}
        if kind in ("DeepSVDD", "PCA"):
            options["random_state"] = seed
        a, b = _standard(train, test)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own libraries, about what it does there
            model = made(**options)
            if same:
                return _timed(lambda: model.fit(a), lambda: -model.decision_scores_)
            return _timed(lambda: model.fit(a), lambda: -model.decision_function(b))

    return rule


def _standard(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Return both with the mean and deviation of the first; constant columns are dropped."""
    spread = train.std(axis=0)
    varies = spread > 1e-12 * (1.0 + np.abs(train.mean(axis=0)))
    mean, scale = train.mean(axis=0)[varies], spread[varies]
    return (train[:, varies] - mean) / scale, (test[:, varies] - mean) / scale


def _timed(fit: Callable[[], object], score: Callable[[], object]) -> Judged:
    begun = time.perf_counter()
    fit()
    learnt = time.perf_counter()
    scores = np.asarray(score(), np.float64)
    return Judged(scores, learnt - begun, time.perf_counter() - learnt)


# name → how, what it needs, and whether the seed changes anything
DETECTORS: dict[str, tuple[Rule, str, bool]] = {
    OURS: (_ours("default"), "sklearn", True),
    FINE: (_ours("fine"), "sklearn", True),
    PAPER: (_ours("paper"), "sklearn", True),
    "iforest": (_iforest, "sklearn", True),
    "ocsvm": (_ocsvm, "sklearn", False),
    "lof": (_lof, "sklearn", False),
    "knn": (_knn, "sklearn", False),
    "pca": (_pyod("pca", "PCA"), "pyod", False),
    "hbos": (_pyod("hbos", "HBOS"), "pyod", False),
    "ecod": (_pyod("ecod", "ECOD"), "pyod", False),
    "copod": (_pyod("copod", "COPOD"), "pyod", False),
    "deepsvdd": (_pyod("deep_svdd", "DeepSVDD"), "pyod", True),
}
