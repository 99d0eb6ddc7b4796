"""Algorithms 2 and 3: the network and its negatives in alternation; any dimension, no geometry.

Batches come from a source (`sources.py`). Seeds of Algorithm 3 are walked to the boundary anew for every
batch (with `updates` > 1 in its lazy form); the pools of Algorithm 2 are remade every `refresh` steps. Where
f is known beforehand, its misfit is part of the loss.

Nothing in the loop asks the device for a number: monitors stay tensors until a report is due, and what
changes from step to step is read from tensors, so that a GPU replays a step as one recording (`replay.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch

from ocsdf3d.complement import WalkConfig, walk
from ocsdf3d.lipschitz.moments import RMSprop
from ocsdf3d.lipschitz.network import Network
from ocsdf3d.lipschitz.stiefel import SpectralSteps
from ocsdf3d.lipschitz.workers import Workers
from ocsdf3d.loss import hkr, misfit
from ocsdf3d.query import value_and_gradient
from ocsdf3d.ranks import Ranks
from ocsdf3d.replay import Replay
from ocsdf3d.resume import Parts, Standing
from ocsdf3d.sources import Known, Source

__all__ = ["History", "TrainConfig", "learn"]

Report = Callable[[int, int, dict[str, float]], None]


class Keep(Protocol):
    """What is told where a run stands."""

    def __call__(self, standing: Callable[[], Standing], *, last: bool) -> None:
        """Keep it, or not yet."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; lengths are in the unit frame.

    Attributes
    ----------
    steps : int
        Optimiser steps in all.
    batch : int
        Points of each class in a batch.
    anchors : int
        Samples of the boundary in a batch, and as many points away from it, when f is known there.
    touch, away : float
        Weights at the end of the misfit on the former and on the latter, beside hKR, whose own is 1.
    touch_start : float
        The former's at the start; it rises linearly while λ does. f is too coarse for thin walls then, and
        is held to 0 on both sides of one by being 0 throughout.
    margin, margin_start : float
        m at the end and at the start, annealed geometrically over the run.
    lam, lam_start : float
        λ at the end and at the start: `lam_start` for `lam_hold` of the run, then geometric to `lam`. A small
        first λ lets the Kantorovich–Rubinstein part drive ‖∇f‖ to 1 before the hinge asks for detail.
    lam_hold : float
        Share of the run before λ and the weight of the samples rise.
    optimizer : str
        `"spectral"`: `SpectralSteps`; `"rmsprop"`: with Keras's defaults (ρ 0.9, ε 1e-7), as in the paper.
    rate : float
        Spectral step size, or RMSprop's rate.
    adam_rate : float
        Rate of Adam beside spectral steps.
    entry_learns : bool
        Whether the first layer learns; otherwise it stays as it is born, an isometry where it widens.
    decay : bool
        Cosine decay of the rates to 0; otherwise constant.
    walk : WalkConfig
        Algorithm 1.
    half : float
        Share of the run, from its start, whose walks are computed in bfloat16: negatives need no exact f.
    warm : int
        First steps, with T = 0.
    updates : int
        K, optimiser steps for one batch of walked negatives.
    refresh : int
        Steps between two refreshes of a source's pools; 0 for never.
    report : int
        Steps between two reports, which are the only host syncs.
    """

    steps: int = 2000
    batch: int = 1024
    anchors: int = 512
    touch: float = 0.0
    touch_start: float = 0.0
    away: float = 0.0
    margin: float = 0.01
    margin_start: float = 0.05
    lam: float = 100.0
    lam_start: float = 2.0
    lam_hold: float = 0.5
    optimizer: str = "spectral"
    rate: float = 0.03
    adam_rate: float = 6e-3
    entry_learns: bool = True
    decay: bool = True
    walk: WalkConfig = field(default_factory=WalkConfig)
    half: float = 0.0
    warm: int = 0
    updates: int = 1
    refresh: int = 0
    report: int = 25

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "anchors", "updates", "report"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        for name in ("warm", "refresh"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative; got {getattr(self, name)}.")
        for name in ("touch", "touch_start", "away"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must not be negative, and finite; got {getattr(self, name)}.")
        for name in ("lam_hold", "half"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"`{name}` must lie in [0, 1]; got {getattr(self, name)}.")
        for name in ("margin", "margin_start", "lam", "lam_start", "rate", "adam_rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be positive and finite; got {getattr(self, name)}.")
        if self.optimizer not in ("spectral", "rmsprop"):
            raise ValueError(f"`optimizer` must be spectral or rmsprop; got {self.optimizer!r}.")

    def margin_at(self, done: float) -> float:
        """Return m after the share `done` of the run."""
        return self.margin_start * (self.margin / self.margin_start) ** done

    def lam_at(self, done: float) -> float:
        """Return λ after the share `done` of the run."""
        return self.lam_start * (self.lam / self.lam_start) ** self._risen(done)

    def touch_at(self, done: float) -> float:
        """Return the weight of the misfit on samples after the share `done` of the run."""
        return self.touch_start + (self.touch - self.touch_start) * self._risen(done)

    def _risen(self, done: float) -> float:
        """Return how much of their rise λ and the weight of the samples have done, 0 to 1."""
        return max(0.0, done - self.lam_hold) / max(1e-9, 1.0 - self.lam_hold)

    def rate_at(self, done: float) -> float:
        """Return the factor of the rates after the share `done` of the run."""
        return 0.5 * (1.0 + math.cos(math.pi * done)) if self.decay else 1.0


@dataclass
class History:
    """What happened in a run.

    Attributes
    ----------
    steps : int
        Steps taken.
    interrupted : bool
        Whether `stop` ended the run early.
    curves : dict
        Name → one value a report: step, loss, recall (share of P with f > 0), false_positives (share of Q
        with f > 0), gradient_norm (mean ‖∇f‖ on half of P and half of Q), margin, lam.
    """

    steps: int = 0
    interrupted: bool = False
    curves: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """Append one report."""
        for name, value in figures.items():
            self.curves.setdefault(name, []).append(value)


class _RMSprop:
    """RMSprop, then the retraction, behind the interface of `SpectralSteps`."""

    def __init__(self, network: Network, rate: float, fixed: Sequence[torch.Tensor]) -> None:
        self.network = network
        apart = {id(parameter) for parameter in fixed}
        self.steps = RMSprop([one for one in network.parameters() if id(one) not in apart], rate)

    def step(self, scale: float | torch.Tensor = 1.0, workers: Workers | None = None) -> None:
        self.steps.step(scale)
        self.network.retract()

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return self.steps.state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.state.items():
            value.copy_(state[name])


def learn(
    network: Network,
    source: Source,
    config: TrainConfig,
    lower: torch.Tensor,
    upper: torch.Tensor,
    generator: torch.Generator,
    *,
    known: Known | None = None,
    history: History | None = None,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
    keep: Keep | None = None,
    start: Standing | None = None,
) -> History:
    """Train `network` in place and return what happened.

    Parameters
    ----------
    network : Network
        On its device.
    source : Source
        Batches, on the same device.
    config : TrainConfig
        Settings.
    lower, upper : (d,) tensors
        Corners of B, on which walkers are projected.
    generator : torch.Generator
        Randomness of the walks, on the same device.
    known : Known, optional
        Where f is known beforehand.
    history : History, optional
        Filled as training goes on and returned; a new one when None.
    report : callable, optional
        (done, total, figures) → None, every `config.report` steps.
    stop : callable, optional
        Asked at each report; True ends the run with a network that is still 1-Lipschitz.
    keep : callable, optional
        (standing, last) → None, at each report: a function that returns where the run stands, and whether
        this is its end.
    start : Standing, optional
        Go on from there, to the same end, bit for bit on a CPU.
    """
    fixed = [] if config.entry_learns else [network.first()]
    optimizer: SpectralSteps | _RMSprop
    if config.optimizer == "spectral":
        optimizer = SpectralSteps(network, config.rate, config.adam_rate, fixed=fixed)
    else:
        optimizer = _RMSprop(network, config.rate, fixed)
    history = History() if history is None else history
    device, ranks = network.head.device, Ranks()
    schedule = torch.tensor(
        [
            (config.margin_at(done), config.lam_at(done), config.touch_at(done), config.rate_at(done))
            for done in (step / config.steps for step in range(config.steps))
        ],
        dtype=torch.float32,
        device=device,
    )
    at = torch.zeros(1, dtype=torch.int64, device=device)  # the step, where a recording can see it
    held = [network.head.new_zeros((config.batch, network.config.inputs)) for _ in range(2)]
    height = known.height if known is not None else 0.0

    def step_once(fresh: bool, walked: bool, half: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        margin, lam, touch, rate = schedule[at][0].unbind()
        if fresh:
            positives, negatives = source.draw(config.batch)
            if walked:
                with network.frozen(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                    negatives = walk(
                        lambda x: network(x).float(), negatives, margin, config.walk, lower, upper, generator
                    )
            held[0].copy_(positives)
            held[1].copy_(negatives)
        batch = [*held, *(known.draw(config.anchors) if known is not None else ())]
        weights = lam, touch, config.away
        found = _descend(network, batch, height, margin, weights, workers, ranks)
        optimizer.step(rate, workers)
        at.add_(1)
        return found

    drawn = [generator, source.generator, *([known.generator] if known is not None else [])]
    replay = Replay(device, *drawn, record=ranks.count == 1)
    parts = Parts(
        network,
        {"optimizer": optimizer, "source": source},
        {"positives": held[0], "negatives": held[1], "at": at},
        drawn,
    )
    begun = time.perf_counter()
    if start is not None:
        parts.restore(start.tensors)
        history.steps, history.curves = start.steps, start.curves

    def standing() -> Standing:
        spent = time.perf_counter() - begun + (start.seconds if start is not None else 0.0)
        return Standing(history.steps, workers.count, history.curves, parts.copies(), spent)

    with Workers(device, None if start is None else start.workers) as workers:
        for step in range(0 if start is None else start.steps, config.steps):
            done = step / config.steps
            if config.refresh and step and step % config.refresh == 0:
                with network.frozen():
                    source.refresh(network, config.margin_at(done))
                replay.forget()
            key = step % config.updates == 0, source.walked and step >= config.warm, done < config.half
            loss, inside, outside = replay.run(key, partial(step_once, *key))
            history.steps = step + 1
            if history.steps % config.report == 0 or history.steps == config.steps:
                ranks.require_same(list(network.parameters()), history.steps)
                figures = _figures(network, loss, inside, outside, held[0], held[1], ranks)
                figures |= {"margin": config.margin_at(done), "lam": config.lam_at(done)}
                history.add({"step": float(history.steps), **figures})
                if report is not None:
                    report(history.steps, config.steps, {k: v[-1] for k, v in history.curves.items()})
                ended = history.steps == config.steps
                last = ended or ranks.any(stop is not None and stop(), device)
                if keep is not None and ranks.index == 0:
                    keep(standing, last=last)
                if last:
                    history.interrupted = history.steps < config.steps
                    break
    return history


def _descend(
    network: Network,
    batch: list[torch.Tensor],
    height: float,
    margin: float | torch.Tensor,
    weights: tuple[float | torch.Tensor, ...],
    workers: Workers,
    ranks: Ranks,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give the parameters the gradient of the loss of a batch; return the loss, and f on both classes.

    The `weights` are λ and those of the misfit on samples and away from them. Each rank takes its share of
    every part of the batch, each worker a share of that, and counts by it. Of f a rank returns its share.
    """
    parameters, whole = list(network.parameters()), len(batch[0])
    lam, touch, away = weights
    batch = ranks.own(batch)
    count = max(1, min(workers.count, *(len(part) for part in batch)))

    def share(parts: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        weight = len(parts[0]) / whole
        points = [part.flatten(0, -2) for part in parts[:4]]
        values = network(torch.cat(points)).split([len(part) for part in points])
        loss = hkr(values[0], values[1], margin, lam)
        if len(parts) > 2:
            touching = values[2].view(parts[2].shape[:2]).mean(dim=1)
            loss = loss + touch * misfit(touching, height) + away * misfit(values[3], parts[4])
        gradients = torch.autograd.grad(weight * loss, parameters, allow_unused=True)
        return (weight * loss.detach(), values[0].detach(), values[1].detach(), *gradients)

    shares = workers.map(share, zip(*(part.tensor_split(count) for part in batch), strict=True))
    losses, inside, outside, *gradients = zip(*shares, strict=True)
    for parameter, parts in zip(parameters, gradients, strict=True):
        if parts[0] is None or len(parts) == 1:
            parameter.grad = parts[0]
        else:
            parameter.grad = torch.stack(parts).sum(dim=0)
    loss = torch.stack(losses).sum()
    ranks.add([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
    return loss, torch.cat(inside), torch.cat(outside)


def _figures(
    network: Network,
    loss: torch.Tensor,
    inside: torch.Tensor,
    outside: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    ranks: Ranks,
) -> dict[str, float]:
    """Return one report as host numbers, in a single transfer; shares are of all ranks."""
    sample = torch.cat([positives[:128], negatives[:128]])
    with network.frozen():
        gradient = value_and_gradient(network, sample)[1]
    shares = torch.stack([(inside > 0).float().mean(), (outside > 0).float().mean()]) / ranks.count
    ranks.add([shares])
    numbers = torch.stack([loss.detach(), *shares, gradient.norm(dim=1).mean()]).tolist()
    return dict(zip(("loss", "recall", "false_positives", "gradient_norm"), numbers, strict=True))
