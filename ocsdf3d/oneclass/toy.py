"""The five planar sets of the paper's first experiment, with the truth about them: where there is no data.

Every sample is a place of a skeleton, which is some centres or curves, plus isotropic Gaussian noise of
deviation σ. At least 99 % of a set therefore lies within √(−2 ln 0.01) σ ≈ 3.03 σ of its skeleton, and the
points that near are called its support here: a set that is known exactly, with an exact distance.

Both axes are standardised by the mean and the deviation of the *distribution*, not of a sample, so that train
rows, fresh rows and the support share one frame; those of 4,000 rows differ by one or two hundredths.

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.1, figures 2 and 6, and the authors' code. From the code: noise
0.05 for the circles and the moons, deviation 0.5 for blobs, 1.5 and 0.3 for the unbalanced two, centres
(2, 2) and (−2, −2), one blob at the origin, 4,000 points, B of half side 5. The radii of the circles are not
known to us; here they are 1 and 0.5, whose supports stay apart (1 and 0.8 would merge at that noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["POINTS", "SPAN", "TOYS", "anomalies", "clearance", "toy_samples"]

Floats = NDArray[np.float64]

POINTS = 4000
SPAN = 5.0  # half the side of the paper's B, in which anomalies are sought [standard deviations]
RADIUS = math.sqrt(-2.0 * math.log(0.01))  # 99 % of planar noise is shorter [σ]


class _Part(NamedTuple):
    """One centre or curve of a skeleton [units before standardising]."""

    places: Callable[[int, np.random.Generator], Floats]  # (count, rng) → (count, 2), uniform along it
    distance: Callable[[Floats], Floats]  # (n, 2) → (n,), exact
    noise: float  # σ


class _Set(NamedTuple):
    """Parts of equal weight, and the moments of their mixture per axis."""

    parts: tuple[_Part, ...]
    mean: tuple[float, float]
    variance: tuple[float, float]


def toy_samples(name: str, count: int, rng: np.random.Generator) -> Floats:
    """Return samples of a set, (count, 2) [standard deviations].

    Parameters
    ----------
    name : str
        One of `TOYS`.
    count : int
        Samples; each part of a set has its share up to one.
    rng : numpy.random.Generator
        Randomness.

    Raises
    ------
    ValueError
        Another name, or fewer than one sample.

    Examples
    --------
    >>> rows = toy_samples("two_moons", 4000, np.random.default_rng(0))
    >>> rows.shape, np.allclose(rows.std(axis=0), 1.0, atol=0.05)
    ((4000, 2), True)
    """
    chosen = _named(name)
    _at_least_one(count)
    shares = [len(part) for part in np.array_split(np.empty(count), len(chosen.parts))]
    rows = [
        part.places(share, rng) + part.noise * rng.normal(size=(share, 2))
        for part, share in zip(chosen.parts, shares, strict=True)
    ]
    standard = (np.concatenate(rows) - chosen.mean) / np.sqrt(chosen.variance)
    return np.asarray(standard[rng.permutation(count)], np.float64)


def clearance(name: str, points: ArrayLike) -> Floats:
    """Return how far points are from the support of a set at least, (n,), 0 on it [standard deviations].

    Parameters
    ----------
    name : str
        One of `TOYS`.
    points : (n, 2) array_like
        In the frame of `toy_samples`.

    Raises
    ------
    ValueError
        Another name, or points that are not (n, 2) and finite.

    Notes
    -----
    The distance is exact before standardising. It is divided by the larger of the two deviations, which no
    distance can fall below: a lower bound, exact where the two are alike (all but the moons).
    """
    chosen = _named(name)
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise ValueError(f"`points` must be (n, 2) and finite; got shape {array.shape}.")
    scale = np.sqrt(chosen.variance)
    plain = array * scale + chosen.mean
    gaps = [part.distance(plain) - RADIUS * part.noise for part in chosen.parts]
    return np.asarray(np.maximum(np.min(gaps, axis=0), 0.0) / scale.max(), np.float64)


def anomalies(
    name: str, count: int, rng: np.random.Generator, *, least: float = 0.1, most: float = math.inf
) -> Floats:
    """Return points, (count, 2), uniform in the part of B whose `clearance` lies in [least, most].

    Parameters
    ----------
    name : str
        One of `TOYS`.
    count : int
        Points.
    rng : numpy.random.Generator
        Randomness.
    least, most : float
        Of the clearance [standard deviations]; `least` is above 0 and B has such points.

    Raises
    ------
    ValueError
        Another name, no points, bounds in the wrong order, or next to nothing of B between them.
    """
    _named(name)
    _at_least_one(count)
    if not 0.0 < least < most:
        raise ValueError(f"`least` must be above 0 and below `most`; got {least} and {most}.")
    found: list[Floats] = []
    for turn in range(1000):
        draw = rng.uniform(-SPAN, SPAN, (max(count, 1000), 2))
        gap = clearance(name, draw)
        found.append(draw[(gap >= least) & (gap <= most)])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count]
        if turn == 9 and not sum(map(len, found)):
            break
    raise ValueError(f"`least` {least} and `most` {most} leave next to nothing of B around {name}.")


def _at_least_one(count: int) -> None:
    if count < 1:
        raise ValueError(f"`count` must be at least 1; got {count}.")


def _named(name: str) -> _Set:
    if name not in _SETS:
        raise ValueError(f"`name` must be one of {', '.join(_SETS)}; got {name!r}.")
    return _SETS[name]


# ------------------------------------------------------------------------------------------------- skeletons


def _centre(x: float, y: float, noise: float) -> _Part:
    at = np.array([x, y])
    return _Part(lambda count, rng: np.tile(at, (count, 1)), lambda p: np.linalg.norm(p - at, axis=1), noise)


def _circle(radius: float, noise: float) -> _Part:
    def places(count: int, rng: np.random.Generator) -> Floats:
        angle = rng.uniform(0.0, 2.0 * np.pi, count)
        return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return _Part(places, lambda p: np.abs(np.linalg.norm(p, axis=1) - radius), noise)


def _moon(x: float, y: float, up: float, noise: float) -> _Part:
    """Half a unit circle around (x, y): the upper half for `up` 1, the lower for −1."""
    middle = np.array([x, y])

    def places(count: int, rng: np.random.Generator) -> Floats:
        angle = rng.uniform(0.0, np.pi, count)
        return middle + np.stack([np.cos(angle), up * np.sin(angle)], axis=1)

    def distance(points: Floats) -> Floats:
        p = points - middle
        to_ends = np.hypot(np.abs(p[:, 0]) - 1.0, p[:, 1])  # of the nearer end
        return np.asarray(np.where(up * p[:, 1] >= 0.0, np.abs(np.linalg.norm(p, axis=1) - 1.0), to_ends))

    return _Part(places, distance, noise)


def _around(value: float) -> tuple[float, float]:
    return value, value


_SETS = {
    "one_cloud": _Set((_centre(0.0, 0.0, 0.5),), _around(0.0), _around(0.5**2)),
    "two_circles": _Set(
        (_circle(1.0, 0.05), _circle(0.5, 0.05)),
        _around(0.0),
        _around((1.0 + 0.5**2) / 4.0 + 0.05**2),  # the mean of cos² is 1/2
    ),
    "two_blobs": _Set(
        (_centre(2.0, 2.0, 0.5), _centre(-2.0, -2.0, 0.5)), _around(0.0), _around(2.0**2 + 0.5**2)
    ),
    "blob_and_cloud": _Set(
        (_centre(2.0, 2.0, 1.5), _centre(-2.0, -2.0, 0.3)),
        _around(0.0),
        _around(2.0**2 + (1.5**2 + 0.3**2) / 2.0),
    ),
    "two_moons": _Set(
        (_moon(0.0, 0.0, 1.0, 0.05), _moon(1.0, 0.5, -1.0, 0.05)),
        (0.5, 0.25),
        # about the middle (½, ¼): cos t ∓ ½ across, sin t − ¼ upwards, whose mean is 2/π − ¼ on either moon
        (0.5 + 0.25 + 0.05**2, 0.5 - 1.0 / np.pi + 0.0625 + 0.05**2),
    ),
}
TOYS = tuple(_SETS)
