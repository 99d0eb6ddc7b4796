"""How noisy is a cloud without normals, and what it would look like with less noise.

A network that is held to every sample reproduces its noise: with 0.5 % of the longest side on 2,048 points of
a rocker arm the mesh had 64 handles too many. Smoothed first, the same points give it the right topology.
But smoothing rounds edges and fuses thin walls, so it is done only where noise is seen.

*Seeing it.* Residuals of a least squares fit do not tell noise from two sheets of a thin wall. `sheet_planes`
do: of a clean wall, some plane holds most points of one sheet exactly; among noisy points none does. The
figure is the distance within which it has 8 of 12 neighbours, over the spacing, at the lowest tenth. Of 2,048
clean samples it is below 0.04 on the closed shapes of the development set (0 on flat parts), with noise of
0.5 % of the longest side 0.036–0.11. Only round and flat neighbourhoods are asked, and clouds with few of
them not at all: of a cage of wires, smoothed, nothing was left (IoU 0.53 → 0.08).

*Removing it.* Every point moves along its normal to the mean of where its neighbours' planes see it, each
plane tilted halfway to the point's own, so that curvature moves nothing. Neighbours beyond a crease face
another way and count little: creases stay (an implicit moving least squares of robust normals). Mean
distance from the surface, in thousandths of the longest side, of 2,048 points with noise of 0.5 % and of 1 %
(six shapes) and of 20,000 with 0.5 % (three), the sides known: 3.90, 7.60 and 3.86 as sampled, 2.32, 4.05 and
1.29 smoothed so; 2.58, 4.37 and 1.56 by moving each onto one quadric through fewer neighbours, as it was
before. Meshes of the 22 closed shapes, 2,048 points, 0.5 %, seed 0: 2.15 → 2.02 times the floor, F at 0.01
0.935 → 0.947, IoU 0.865 → 0.874. Twice is no better, nor are normals averaged more often. Without residuals
(`ROBUST`) pins have 2.63 for 2.40, a chair of thin plates 2.90 for 2.75, a camel 2.55 for 2.61. Where only
neighbours of the same side pull, see `cleaning.py`, walls that are thinner than the noise stay two.

*Where it hides the surface* (`unburied`). Noise as large as the spacing fills all neighbourhoods: no plane
tells how large it is, and clouds of 20,000 points with 2 % counted as clean. So before anything else as many
neighbours are averaged as it takes to see a surface. Mean distance from it, in thousandths of the longest
side, as sampled, as it was left before, and now: a camel, 20,000 points, 1 %: 7.7, 3.7, 2.5, and 2 %: 14.7,
14.7, 5.3; bones, 1 %: 6.8, 6.8, 3.8; two simulated time-of-flight scans 7.3, 7.3, 1.7 and 15.7, 15.7, 8.5,
whose meshes' Chamfer distances fell from 0.0130 to 0.0080 and from 0.0410, a skin around the noise, to
0.0089.

References
----------
Öztireli, Guennebaud, Gross, Feature Preserving Point Set Surfaces based on Non-Linear Kernel Regression,
Computer Graphics Forum 28(2), 2009.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d.neighbourhoods import principal_axes
from ocsdf3d.planes import NEIGHBOURS, neighbours_of_sheet, sheet_planes
from ocsdf3d.sampling import some_of

__all__ = ["cleared", "denoised", "noise_level", "noise_seen", "smoothed", "unburied"]

Floats = NDArray[np.float64]

ASKED = 1000  # points
QUIET = 0.025  # figure of clean, curved samples
DISCS = 0.1  # least share of neighbourhoods that are round and flat, for a verdict
GAIN = 5.0  # standard deviation of the noise over what the figure exceeds that by, both over the spacing
# Level from which a cloud of 2,048 points counts as noisy. What curvature and thin parts feign grows with the
# spacing, so it falls with the square root of the number of points.
SEEN = 0.08
# Neighbours of the planes at a level of 0.2 and 2,048 points; the noise left falls with their number, the
# rounding grows with their extent, and the two balance at (level)^(2/3) · n^(1/3).
FITTED = 16
LEAST, MOST = 14, 80
ROBUST = 2.0  # standard deviations
REWEIGHED = 2  # times, by residuals
# A cloud whose neighbourhoods are round, hardly ever flat, and as thick as a ball is buried in noise. Two
# scans by a simulated time-of-flight camera have 7 and 9 % of flat ones and a width of 0.21 spacings, as have
# samples with noise of more than the spacing; foliage, a lidar's lamp post and a helmet of several layers 39,
# 32 and 14 % and 0.11, 0.12 and 0.04; all other scans at hand 67 % and more. Bones, 20,000 points with 0.5 %,
# have 13 % and are better left to `denoised`: what is smoothed here, without its sides, fuses where walls are
# thin (mesh 3.3 times the floor and IoU 0.79, left 2.1 and 0.87). A fandisk with 1 %, 11 %, is not (1.46 and
# 1.49, 0.969 and 0.966), nor a sphere of 2,500 with 3 %, 15 %, which has 0.018 for 0.010 of its size since.
BURIED, FULL = 0.12, 0.15
SHOWN = 0.8  # share of flat neighbourhoods
PATCH, LARGEST = 1 / 50, 320  # of a cloud, and points, that are averaged at most
WIDER = 1.5  # times as many see a point
TURNED = 0.09  # 1 − cos of an angle at which a neighbour counts 1/e: 24°


def noise_level(points: Floats, rng: np.random.Generator) -> float:
    """Return the standard deviation of the noise of a cloud, (n, 3), over its local spacing; 0 when clean.

    Good to a factor of 1.5 from 0.1 to 0.4; above, the cloud no longer shows what its surface was.
    """
    if len(points) < 4 * NEIGHBOURS:
        return 0.0
    asked = points[some_of(len(points), ASKED, rng)]
    planes = sheet_planes(asked, cKDTree(points))
    disc = planes.round & planes.flat
    if not planes.of_sheets or disc.mean() < DISCS:
        return 0.0
    figure = float(np.quantile((planes.width / planes.spacing)[disc], 0.1))
    return GAIN * max(0.0, figure - QUIET)


def noise_seen(points: Floats, rng: np.random.Generator) -> float:
    """Return the `noise_level` of a cloud, (n, 3), or 0 where curvature may have feigned it."""
    level = noise_level(points, rng)
    return level if level >= SEEN / (len(points) / 2048) ** 0.5 else 0.0


def unburied(points: Floats, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return a cloud, (n, 3), whose noise hides its surface smoothed until that shows, and the noise's level.

    Where noise is as large as the spacing, the nearest neighbours fill a ball: no plane tells how noisy they
    are, and `noise_level` ends at a third. Then ever more of them are averaged, up to `PATCH` of the cloud,
    until most neighbourhoods are flat. Any other cloud comes back as it is, at level 0.

    Parameters
    ----------
    points : (n, 3) array
        Distinct.
    rng : numpy.random.Generator
        Chooses the points that are looked at; what it draws afterwards is not changed by it.
    """
    if PATCH * len(points) < LEAST:
        return points, 0.0
    few = some_of(len(points), ASKED, rng.spawn(1)[0])
    found = sheet_planes(points[few], cKDTree(points))
    full = np.median(found.width / found.spacing) > FULL
    if not (found.of_sheets and full and found.flat.mean() < BURIED):
        return points, 0.0
    neighbours, most = LEAST, int(PATCH * len(points))
    while True:
        neighbours = min(2 * neighbours, most, LARGEST)
        cloud = smoothed(points, neighbours)
        flat = sheet_planes(cloud[few], cKDTree(cloud)).flat.mean()
        if flat >= SHOWN or neighbours in (most, LARGEST):
            break
    moved = np.linalg.norm(cloud - points, axis=1)[few]
    return cloud, float(np.sqrt((moved**2).mean()) / np.median(found.spacing))


def cleared(points: Floats, rng: np.random.Generator) -> tuple[Floats, float, float]:
    """Return a cloud, (n, 3), as `unburied` does, the noise seen in that, and the larger of both levels."""
    cloud, buried = unburied(points, rng)
    noise = noise_seen(cloud, rng)
    return cloud, noise, max(noise, buried)


def denoised(points: Floats, level: float, normals: Floats | None = None) -> Floats:
    """Return the points, (n, 3), with the noise of a level that was seen in them smoothed away.

    Parameters
    ----------
    points : (n, 3) array
        Distinct.
    level : float
        Standard deviation of the noise over the local spacing, see `noise_level`.
    normals : (n, 3) array, optional
        Outward; then what lies on the other side of a thin wall does not pull.
    """
    neighbours = FITTED * (level / 0.2) ** (2 / 3) * (len(points) / 2048) ** (1 / 3)
    return smoothed(points, int(np.clip(round(neighbours), LEAST, MOST)), normals)


def smoothed(points: Floats, neighbours: int, normals: Floats | None = None) -> Floats:
    """Return the points, (n, 3), moved along their normals onto the mean of their neighbours' planes.

    Neighbours are those that face the same way where outward normals, (n, 3), are given.
    """
    tree, n = cKDTree(points), len(points)
    few, many = min(neighbours, n), min(round(WIDER * neighbours), n)
    pieces = np.array_split(np.arange(n), max(1, n // 10_000, n * many // 1_000_000))  # of 0.1 GB at most
    axes = np.concatenate([_axes(piece, points, normals, tree, few) for piece in pieces])
    return np.concatenate([_projected(piece, points, normals, tree, many, axes) for piece in pieces])


def _patch(
    some: NDArray[np.int64], points: Floats, normals: Floats | None, tree: cKDTree, k: int
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return ways to neighbours, (m, k, 3), their indices, and their weights, from 1 to e⁻²."""
    distance, index = neighbours_of_sheet(points, some, normals, tree, k)
    farthest = np.where(np.isfinite(distance), distance, 0.0).max(axis=1, keepdims=True)
    reach = np.where(farthest > 0.0, farthest, 1.0)  # alone on its sheet, a point stays where it is
    return points[index] - points[some, None], index, np.exp(-2.0 * (distance / reach) ** 2)


def _weighed(found: Callable[[Floats], tuple[Floats, Floats]], nearness: Floats, near: Floats) -> Floats:
    """Return what `found` makes of weights, (m, k), where residuals weigh as well.

    It answers with its result and the residuals of that, (m, k). What lies on another sheet, and an outlier,
    hardly counts.
    """
    weight = nearness
    # of a perfect plane rounding is all that is left
    least = 1e-9 * np.abs(near).max(axis=(1, 2)) + 1e-300
    for _ in range(REWEIGHED):
        residual = found(weight)[1]
        scale = ROBUST * np.sqrt((nearness * residual**2).sum(axis=1) / nearness.sum(axis=1))
        weight = nearness * np.exp(-0.5 * (residual / np.maximum(scale, least)[:, None]) ** 2)
    return found(weight)[0]


def _axes(some: NDArray[np.int64], points: Floats, normals: Floats | None, tree: cKDTree, k: int) -> Floats:
    """Return the normals of planes through neighbourhoods, (m, 3), of either sign."""
    near, _index, nearness = _patch(some, points, normals, tree, k)

    def found(weight: Floats) -> tuple[Floats, Floats]:
        axis = principal_axes(near, weight)[1][:, :, 0]
        height = (near * axis[:, None]).sum(axis=-1)
        mean = (weight * height).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
        return axis, height - mean

    return _weighed(found, nearness, near)


def _projected(
    some: NDArray[np.int64], points: Floats, normals: Floats | None, tree: cKDTree, k: int, axes: Floats
) -> Floats:
    """Return where planes with the given normals, (n, 3), see the points, (m, 3), each along its own."""
    near, index, nearness = _patch(some, points, normals, tree, k)
    own = axes[some]
    others = axes[index] * np.sign((axes[index] * own[:, None]).sum(axis=-1))[..., None]

    def alike(normal: Floats) -> Floats:
        turned = 1.0 - (others * normal[:, None]).sum(axis=-1)
        return np.asarray(nearness * np.exp(-turned / TURNED))

    mean = (alike(own)[..., None] * others).sum(axis=1)
    own = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    # Halfway between the two normals the plane of a point on a circle passes through every other one.
    height = 0.5 * (near * (others + own[:, None])).sum(axis=-1)

    def found(weight: Floats) -> tuple[Floats, Floats]:
        step = (weight * height).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
        return step, height - step

    return points[some] + _weighed(found, alike(own), near) * own
