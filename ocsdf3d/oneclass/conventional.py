"""The conventional network of the paper's tables 1 and 8: ReLU, cross-entropy, Adam, and no bound at all.

It has the widths of the paper's network and sees the same negatives, Q_t, that a 1-Lipschitz one made: what
differs is the class of functions and the loss. Cross-entropy rewards ever steeper logits between data and
negatives, so that its slope grows with the steps, and an attack needs ever less.

Which Q_t: that of a *trained* detector. For each batch, fresh seeds of the detector are walked by the
detector's own setting of Algorithm 1, at its own margin, along its final f.

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.1, appendix E, tables 1, 6 and 8.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ocsdf3d.complement import walk
from ocsdf3d.query import value_and_gradient

__all__ = ["ConventionalConfig", "local_lipschitz", "train_conventional", "walked"]

ROWS = 4096  # asked at once


@dataclass(frozen=True)
class ConventionalConfig:
    """Shape and training of a conventional network.

    Attributes
    ----------
    width, depth : int
        Channels of each hidden layer, and their number: those of table 6.
    steps : int
        Of Adam; the slope grows with them.
    batch : int
        Points of each class in a batch.
    rate : float
        Of Adam, constant.
    """

    width: int = 512
    depth: int = 4
    steps: int = 10_000
    batch: int = 256
    rate: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("width", "depth", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        if not 0.0 < self.rate < np.inf:
            raise ValueError(f"`rate` must be positive and finite; got {self.rate}.")


def train_conventional(
    data: ArrayLike,
    negatives: Callable[[int], torch.Tensor],
    config: ConventionalConfig | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    watch: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:
    """Return a network (n, d) → (n,) logits, larger for the data, trained to tell them from negatives.

    Parameters
    ----------
    data : (n, d) array_like
        The class.
    negatives : callable
        count → (count, d) tensor of Q_t, asked for each batch; see `walked`.
    config : ConventionalConfig, optional
        The paper's unless given.
    seed : int
        Of the initial weights and of the batches.
    device : str or torch.device
        Where it learns.
    watch : callable, optional
        (steps done, network) → None, after each thousand steps and at the end.

    Raises
    ------
    ValueError
        Data that are not (n, d) and finite.
    """
    config = ConventionalConfig() if config is None else config
    rows = np.asarray(data, np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
        raise ValueError(f"`data` must be (n, d), not empty, and finite; got shape {rows.shape}.")
    points = torch.as_tensor(rows, dtype=torch.float32, device=device)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that a seed means the same everywhere
    network = _network(points.shape[1], config, generator).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.rate, fused=True)
    truth = torch.tensor([1.0, 0.0], dtype=torch.float32, device=device).repeat_interleave(config.batch)
    for step in range(1, config.steps + 1):
        index = torch.randint(len(points), (config.batch,), generator=generator).to(device)
        batch = torch.cat([points[index], negatives(config.batch).to(device)])
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(batch), truth).backward()
        optimizer.step()
        if watch is not None and (step % 1000 == 0 or step == config.steps):
            watch(step, network)
    return network


def walked(detector: Any, margin: float, seed: int = 0) -> Callable[[int], torch.Tensor]:
    """Return count → Q_t, (count, d), of a trained detector [standard deviations], afresh at each call.

    Parameters
    ----------
    detector : OneClassSDF
        Fitted; it is its f that is walked along, by its preset's setting of Algorithm 1.
    margin : float
        m [standard deviations].
    seed : int
        Of the seeds and of η.
    """
    from ocsdf3d.oneclass.estimator import PRESETS, SPAN, seeds_on

    network, unit, walking = detector.network_, detector.unit_, PRESETS[detector.preset].walk
    generator = torch.Generator().manual_seed(seed)
    upper = torch.full((network.config.inputs,), SPAN / unit, dtype=torch.float32)
    seeds = seeds_on(upper, np.ones(len(upper), bool), generator)

    def draw(count: int) -> torch.Tensor:
        with network.frozen():
            return unit * walk(network, seeds(count), margin / unit, walking, -upper, upper, generator)

    return draw


def local_lipschitz(network: nn.Module, points: ArrayLike) -> float:
    """Return the largest ‖∇f‖ over points: a lower bound of the network's Lipschitz constant.

    Parameters
    ----------
    network : torch.nn.Module
        f, (n, d) → (n,); left as it is.
    points : (n, d) array_like
        Where to look, in the space of the network.

    Raises
    ------
    ValueError
        No points, or a gradient that is not finite.

    Notes
    -----
    In float64, on the CPU, so that what is proved to be at most 1 does not exceed it by the rounding of the
    measurement.
    """
    rows: NDArray[np.float64] = np.asarray(points, np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"`points` must be (n, d) and not empty; got shape {rows.shape}.")
    exact = copy.deepcopy(network).cpu().double()
    norms = [value_and_gradient(exact, part)[1].norm(dim=1) for part in torch.as_tensor(rows).split(ROWS)]
    largest = float(torch.cat(norms).max())
    if not np.isfinite(largest):
        raise ValueError("the gradient of the network is not finite on `points`; did its training diverge?")
    return largest


def _network(inputs: int, config: ConventionalConfig, generator: torch.Generator) -> nn.Module:
    """Dense layers with ReLU; weights by He's rule, without torch's global generator."""
    sizes = [inputs, *[config.width] * config.depth, 1]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, before, after)
        with torch.no_grad():
            spread = (2.0 / before) ** 0.5 if after != 1 else before**-0.5
            layer.weight.copy_(spread * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Flatten(0))
