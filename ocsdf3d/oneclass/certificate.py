"""What a 1-Lipschitz score proves about a ranking and about a decision, exactly, from the scores alone.

Move every normal example and every anomaly by at most ε: a score with |f(x) − f(y)| ≤ L‖x − y‖ changes by at
most Lε, so the normal's falls to no less than a − Lε and the anomaly's rises to no more than b + Lε. The
worst that any attack can do to the AUROC is therefore the share of pairs with a − b > 2Lε, ties counted half:
an integral over two distributions in the paper, here a count over the sorted scores.

The radius is in the space in which L holds. Rounding is on the safe side: scores are taken as wrong by
`rounding` each, in the attack's favour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.directed import sum_above

__all__ = ["Rates", "auroc", "certified_auroc", "certified_rates"]

Floats = NDArray[np.float64]


class Rates(NamedTuple):
    """Bounds at one threshold and several radii, each (k,)."""

    true_positive: Floats  # least share of normals that stay accepted
    false_positive: Floats  # largest share of anomalies that can be made accepted


def auroc(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """Return the probability that a normal example scores above an anomaly, ties counted half.

    Parameters
    ----------
    normal, anomalous : (n,) and (k,) array_like
        Scores, larger for what looks normal.

    Raises
    ------
    ValueError
        One of them is empty, not one-dimensional, or not finite.
    """
    return float(certified_auroc(normal, anomalous, 0.0))


def certified_auroc(
    normal: ArrayLike,
    anomalous: ArrayLike,
    radii: ArrayLike,
    *,
    lipschitz: float = 1.0,
    rounding: float = 0.0,
) -> Floats:
    """Return a lower bound of the AUROC under every attack of each radius, in the shape of `radii`.

    Parameters
    ----------
    normal, anomalous : (n,) and (k,) array_like
        Scores of clean examples, larger for what looks normal.
    radii : (…) array_like
        ε ≥ 0, of any shape: the l2 length by which the attack may move each example, where L holds.
    lipschitz : float
        L.
    rounding : float
        Bound on the error of one score.

    Raises
    ------
    ValueError
        Scores that are empty, not one-dimensional or not finite; a radius or bound below 0.

    Notes
    -----
    For each anomaly the normals above b + 2Lε are counted by bisection: O((n + k) log n) a radius. The bound
    is attained by an attack on a score that rises with slope L wherever it is moved, and it does not rise
    with ε.

    References
    ----------
    Béthune et al., OCSDF, ICML 2023, proposition 1 (certifiable AUROC).

    Examples
    --------
    >>> certified_auroc([0.5, 0.3], [-0.5, 0.2], [0.0, 0.1, 0.6])
    array([1.   , 0.75 , 0.   ])
    """
    above, below = np.sort(_scores(normal, "normal")), _scores(anomalous, "anomalous")
    shifts = 2.0 * _shifts(radii, lipschitz, rounding)
    bounds = np.empty(shifts.shape)
    for index, shift in np.ndenumerate(shifts):
        reached = sum_above(below, shift)
        least, beyond = (np.searchsorted(above, reached, side=side) for side in ("left", "right"))
        halves = (len(above) - beyond).sum() + (len(above) - least).sum()  # of pairs: ties are in one of them
        bounds[index] = halves / (2 * len(above) * len(below))
    return bounds


def certified_rates(
    normal: ArrayLike,
    anomalous: ArrayLike,
    radii: ArrayLike,
    *,
    threshold: float = 0.0,
    lipschitz: float = 1.0,
    rounding: float = 0.0,
) -> Rates:
    """Return bounds of the true and the false positive rate under every attack of each radius.

    Parameters
    ----------
    normal, anomalous, radii, lipschitz, rounding
        As for `certified_auroc`.
    threshold : float
        Scores of at least this are accepted as normal.

    Raises
    ------
    ValueError
        As `certified_auroc`, or a threshold that is not finite.
    """
    above, below = _scores(normal, "normal"), _scores(anomalous, "anomalous")
    if not np.isfinite(threshold):
        raise ValueError(f"`threshold` must be finite; got {threshold}.")
    shifts = _shifts(radii, lipschitz, rounding)[..., None]
    kept = (above >= sum_above(threshold, shifts)).mean(axis=-1)
    fooled = (below >= -sum_above(-threshold, shifts)).mean(axis=-1)
    return Rates(kept, fooled)


def _shifts(radii: ArrayLike, lipschitz: float, rounding: float) -> Floats:
    """Return L ε plus the rounding of a score, not less than that."""
    slope, lengths = _bound(lipschitz, "lipschitz"), _radii(radii)
    moved = slope * lengths
    if slope not in (0.0, 1.0):
        moved = np.where(lengths > 0.0, np.nextafter(moved, np.inf), 0.0)
    return sum_above(moved, _bound(rounding, "rounding"))


def _scores(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be (n,), n > 0, and finite; got shape {array.shape}.")
    return array


def _radii(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if not (np.isfinite(array) & (array >= 0.0)).all():
        raise ValueError(f"`radii` must be finite and not negative; got {array.tolist()}.")
    return array


def _bound(value: float, name: str) -> float:
    if not 0.0 <= value < np.inf:
        raise ValueError(f"`{name}` must be finite and not negative; got {value}.")
    return value
