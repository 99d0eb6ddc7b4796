"""Where batches come from, given the support: labelled pools, or the cloud against walked seeds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d.cleaning import Sided
from ocsdf3d.complement import WalkConfig, walk
from ocsdf3d.cores import tree_workers
from ocsdf3d.planes import NEIGHBOURS, neighbours_of_sheet, sheet_planes
from ocsdf3d.presets import Preset
from ocsdf3d.query import Function
from ocsdf3d.sampling import some_of, uniform_in_ball
from ocsdf3d.sides import Sides
from ocsdf3d.skin import THICK, Skin
from ocsdf3d.sources import Known, Labelled, Source, Surface
from ocsdf3d.winding import Winding, local_spacing

__all__ = ["around", "known_of", "source_of"]

Floats = NDArray[np.float64]

FINEST = 0.02  # unit frame; a pool drawn nearer to a dense cloud than the network resolves trains lazily
FAR = 2.0  # local spacings; beyond them the nearest sample is about as far as the surface
FAR_POINTS = 40_000  # drawn; as many of them are kept as there are points off samples, or
FAR_LEAST = 2_000
FOOT = 0.2  # of a spacing squared: mean square from the foot of a far point to the sample nearest to it
OFFSET = 1.5  # local spacings
OFF_SAMPLES, OFF_EACH = 8000, 16
FLAT = 0.15  # spacings: samples whose plane holds its neighbours less closely have no normal to speak of
CLEAR = 0.75  # of the offset: no plane may be nearer
AGREEING = 0.25  # of a distance: how much less that from the skin's middle may be; it hardly is more
SCATTERED = 6  # neighbours
EXPLORED = 12_000  # seeds of one exploration
EXPLORED_SHARE = 0.2  # of a batch
EXPLORATION = WalkConfig(steps=4, multiplier=4.0, level=0.0)  # all the way to where f changes sign


def source_of(
    chosen: Preset,
    sides: Sides,
    unit: Floats,
    lower: Floats,
    upper: Floats,
    rng: np.random.Generator,
    generator: torch.Generator,
    device: torch.device,
) -> Source:
    """Return where batches come from.

    Parameters
    ----------
    chosen : Preset
        How many points, and where.
    sides : Sides
        The support, and the oracle: what tells the sides of a solid, or the skin of a shell. A shell without
        one is learnt as in the paper, the samples against seeds that walk toward them.
    unit : (n, 3) array
        The cloud, in the unit frame as all lengths here.
    lower, upper : (3,) arrays
        Corners of B.
    rng, generator
        Randomness of pools and of batches.
    device : torch.device
        Where batches are wanted.

    Raises
    ------
    ValueError
        The oracle knows one side only.
    """

    def tensor(array: Floats) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    low, high = tensor(lower), tensor(upper)
    if sides.inside is None:  # the authors' Q₀: a ball around the mean, projected on its box
        radius = float(max(np.abs(lower).max(), np.abs(upper).max()))
        return Surface(
            tensor(unit), lambda n: uniform_in_ball(n, torch.zeros_like(low), radius, generator), generator
        )
    inside = sides.inside
    seeds = around(unit, lower, upper, chosen, rng)
    pools = [tensor(pool) for pool in _sorted(inside, seeds, chosen.sure)]
    start = tensor(seeds)

    def explore(function: Function, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.randint(len(start), (EXPLORED,), generator=generator, device=device)
        walked = walk(function, start[index], margin, EXPLORATION, low, high, generator)
        positives, negatives = _sorted(inside, walked.to("cpu", torch.float64).numpy(), chosen.sure)
        return tensor(positives), tensor(negatives)

    if not all(len(pool) for pool in pools):
        raise ValueError(
            f"{len(pools[0]) / len(start):.0%} of the domain are called inside, so there is no boundary to "
            "learn; use support shell."
        )
    return Labelled(pools[0], pools[1], explore, EXPLORED_SHARE, generator)


def _sorted(inside: Winding, points: Floats, sure: float) -> tuple[Floats, Floats]:
    """Return those of the points that surely are inside, and those outside, see `Preset.sure`."""
    value = inside(points)
    return points[value > 0.5 + sure], points[value < 0.5 - sure]


def known_of(
    chosen: Preset,
    clean: Sided,
    lower: Floats,
    upper: Floats,
    rng: np.random.Generator,
    generator: torch.Generator,
    device: torch.device,
    *,
    wires: bool,
    others: Floats | None = None,
) -> Known:
    """Return where f is known: on the cloud, and at distances from it.

    On the cloud f is 0, or `skin.THICK` of a shell; of a noisy one in the mean of `SCATTERED` neighbours (a
    rocker arm with noise of 0.5 %, smoothed: IoU 0.913 → 0.920, Chamfer over its floor 2.07 → 1.98), which
    face the same way where outward normals are known.

    Distances are known in two places: over `FAR` local spacings from the nearest sample, which is then about
    as far as the surface; and up to `OFFSET` spacings straight off a sample, along the normal of its plane,
    where no other sample's plane is nearer (they err by 1 to 4 % of the distance on seven shapes, by 30 % on
    a cage of wires, which has none). Of a shell those count that agree with its skin.

    Parameters
    ----------
    chosen, lower, upper, rng, generator, device
        As for `source_of`.
    clean : Sided
        The cloud; a shell's sides are those of its skin.
    wires : bool
        Whether it is a solid whose points lie on wires, see `planes.on_wires`.
    others : (k, 3) array, optional
        Points of the surface beyond B, to which there are distances too.

    Raises
    ------
    ValueError
        A shell without a skin, see `source_of`: nothing is known of it.
    """
    inside = clean.sides.inside
    if inside is None:
        raise ValueError(
            "`touch` and `away` of a shell must be 0 where `skin` is False: no distance is known."
        )
    unit = clean.frame.to_unit(clean.points)
    tree = cKDTree(unit)
    skin = inside if isinstance(inside, Skin) else None
    near, step = unit[:0], np.zeros(0)
    if not wires:  # no plane of a wire tells a distance: a cage had IoU 0.36 with, 0.47 without
        near, step = _off(unit, tree, rng)
    whole = unit if others is None else np.concatenate([unit, others])
    far, reach = _far(whole, tree if others is None else cKDTree(whole), lower, upper, rng)
    far, reach = far[: max(FAR_LEAST, len(near))], reach[: max(FAR_LEAST, len(near))]
    x, signed = np.concatenate([near, far]), np.concatenate([step, reach])
    height = 0.0
    if skin is not None:
        height = THICK
        agree = skin.free(x, (1.0 - AGREEING) * signed)
        x, signed = x[agree], height - signed[agree]
    else:
        value = inside(x) - 0.5
        sure = np.abs(value) > chosen.sure
        x, signed = x[sure], np.sign(value[sure]) * signed[sure]
    if not len(x):
        x, signed = unit, np.full(len(unit), height)
    every = np.arange(len(unit))
    groups = every[:, None]
    if clean.noise:  # in pieces: of 400,000 points the normals of all neighbours at once would take 0.4 GB
        pieces = np.array_split(every, max(1, len(unit) // 10_000))
        groups = np.concatenate(
            [neighbours_of_sheet(unit, piece, clean.normals, tree, SCATTERED)[1] for piece in pieces]
        )

    def tensor(array: Floats) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    return Known(tensor(unit[groups]), tensor(x), tensor(signed), generator, height)


def _far(
    unit: Floats, tree: cKDTree, lower: Floats, upper: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return points of B far from the cloud, and their distances from the surface."""
    x = rng.uniform(lower, upper, (FAR_POINTS, 3))
    distance, index = tree.query(x, workers=tree_workers())
    spacing = local_spacing(tree, unit)[index]
    far = distance > FAR * spacing
    return x[far], np.sqrt(distance[far] ** 2 - FOOT * spacing[far] ** 2)


def _off(unit: Floats, tree: cKDTree, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return points off samples, along their normals, and their distances from the surface."""
    if len(unit) < NEIGHBOURS:
        return unit[:0], unit[:0, 0]
    unit = unit[some_of(len(unit), OFF_SAMPLES, rng)]
    planes = sheet_planes(unit, tree)
    trusted = planes.round & (planes.width < FLAT * planes.spacing)
    sample = np.tile(np.flatnonzero(trusted), OFF_EACH)
    step = (
        rng.uniform(0.1, OFFSET, len(sample)) * planes.spacing[sample] * rng.choice([-1.0, 1.0], len(sample))
    )
    x = unit[sample] + step[:, None] * planes.normals[sample]
    k = min(NEIGHBOURS, len(unit))
    index = cKDTree(unit).query(x, k=k, workers=tree_workers())[1]
    apart = np.abs(((x[:, None] - unit[index]) * planes.normals[index]).sum(axis=-1)).min(axis=1)
    alone = apart > CLEAR * np.abs(step)
    return x[alone], np.abs(step[alone])


def around(unit: Floats, lower: Floats, upper: Floats, chosen: Preset, rng: np.random.Generator) -> Floats:
    """Return `chosen.pool` points of B: most near the cloud, log-normal in distance, the rest uniform."""
    near = int(chosen.pool * chosen.near)
    index = rng.integers(0, len(unit), near)
    spacing = local_spacing(cKDTree(unit), unit)
    low, high = np.log(chosen.spread)
    width = np.maximum(spacing[index], FINEST) * np.exp(rng.uniform(low, high, near))
    close = unit[index] + rng.normal(size=(near, 3)) * width[:, None]
    return np.clip(np.concatenate([rng.uniform(lower, upper, (chosen.pool - near, 3)), close]), lower, upper)
