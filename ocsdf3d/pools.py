"""Where batches come from, given the support: labelled pools, or the cloud against walked seeds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ocsdf3d.complement import WalkConfig, walk
from ocsdf3d.presets import Preset
from ocsdf3d.query import Function
from ocsdf3d.sampling import uniform_in_ball, uniform_in_box
from ocsdf3d.sides import Sides
from ocsdf3d.train import Labelled, Source, Surface
from ocsdf3d.winding import local_spacing

__all__ = ["around", "source_of"]

Floats = NDArray[np.float64]

FINEST = 0.02  # unit frame; a pool drawn nearer to a dense cloud than the network resolves trains lazily
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
        The support, and the oracle of a solid.
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
    if sides.inside is None:
        if chosen.frame == "deviation":  # the authors' Q₀: a ball around the mean, projected on its box
            radius = float(max(np.abs(lower).max(), np.abs(upper).max()))
            return Surface(
                tensor(unit),
                lambda n: uniform_in_ball(n, torch.zeros_like(low), radius, generator),
                generator,
            )
        return Surface(tensor(unit), lambda n: uniform_in_box(n, low, high, generator), generator)
    inside = sides.inside
    seeds = around(unit, lower, upper, chosen, rng)
    label = inside(seeds) > 0.5
    start = tensor(seeds)

    def explore(function: Function, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.randint(len(start), (EXPLORED,), generator=generator, device=device)
        walked = walk(function, start[index], margin, EXPLORATION, low, high, generator)
        positive = torch.as_tensor(inside(walked.to("cpu", torch.float64).numpy()) > 0.5, device=device)
        return walked[positive], walked[~positive]

    mask = torch.as_tensor(label, device=device)
    if not label.any() or label.all():
        raise ValueError(
            f"the winding field calls {label.mean():.0%} of the domain inside, "
            "so there is no boundary to learn; "
            "use support shell."
        )
    return Labelled(start[mask], start[~mask], explore, EXPLORED_SHARE, generator)


def around(unit: Floats, lower: Floats, upper: Floats, chosen: Preset, rng: np.random.Generator) -> Floats:
    """Return `chosen.pool` points of B: most near the cloud, log-normal in distance, the rest uniform."""
    near = int(chosen.pool * chosen.near)
    index = rng.integers(0, len(unit), near)
    spacing = local_spacing(cKDTree(unit), unit)
    low, high = np.log(chosen.spread)
    width = np.maximum(spacing[index], FINEST) * np.exp(rng.uniform(low, high, near))
    close = unit[index] + rng.normal(size=(near, 3)) * width[:, None]
    return np.clip(np.concatenate([rng.uniform(lower, upper, (chosen.pool - near, 3)), close]), lower, upper)
