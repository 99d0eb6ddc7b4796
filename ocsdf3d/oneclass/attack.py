"""Projected gradient descent in l2 on a score: what an attack really achieves, beside what is proved.

A certificate is a lower bound of what every attack leaves; this is one attack, so an upper bound. Rows move
in the standardised space of the detector, where its radii are meant. No library is needed: the score is a
number, and the gradient's direction is all that counts.

References
----------
Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018; Béthune et al., OCSDF,
ICML 2023, appendix H (three restarts, steps of 0.025 of the radius).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from ocsdf3d.query import value_and_gradient

__all__ = ["attacked_scores", "pushed"]

STEPS, STEP, RESTARTS = 50, 0.05, 3


def attacked_scores(
    detector: Any,
    X: Any,
    y: ArrayLike,
    radius: float,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
    random_state: Any = 0,
    box: tuple[ArrayLike, ArrayLike] | None = None,
) -> NDArray[np.float64]:
    """Return the scores, (n,), of rows after the worst attack found: lower for normals, higher for others.

    Parameters
    ----------
    detector : OneClassSDF
        Fitted.
    X : (n, d) array_like or DataFrame
        Rows.
    y : (n,) array_like
        1 for normal rows and −1 for anomalies.
    radius : float
        ε, l2 [standard deviations].
    steps, restarts : int
        Of the descent, and of random starts in the ball besides the one at the row itself.
    random_state : int, RandomState or None
        Of the starts.
    box : pair of (d,) array_like, optional
        Corners of what the attack may reach, in the standardised space; anything when None. What lies outside
        before the attack is brought in by it.

    Raises
    ------
    ValueError
        Other labels, a radius below 0, or no steps.
    """
    if not 0.0 <= radius < np.inf:
        raise ValueError(f"`radius` must be finite and not negative; got {radius}.")
    if steps < 1 or restarts < 0:
        raise ValueError(f"`steps` must be at least 1 and `restarts` 0; got {steps} and {restarts}.")
    labels = detector.labels_of(X, y)
    network, device = detector.at_work()
    unit = detector.unit_
    begin = torch.as_tensor(detector.standardised(X) / unit, dtype=torch.float32, device=device)
    down = torch.as_tensor(labels, dtype=torch.float32, device=device)  # normal rows: to lower scores
    limits = None
    if box is not None:
        low, high = (torch.as_tensor(np.asarray(end) / unit).to(begin) for end in box)
        limits = low, high
    rng = check_random_state(random_state)
    worst = pushed(network, begin, down, radius / unit, steps=steps, restarts=restarts, rng=rng, box=limits)
    return np.asarray(unit * worst.double().cpu().numpy())


def pushed(
    function: Callable[[torch.Tensor], torch.Tensor],
    begin: torch.Tensor,
    down: torch.Tensor,
    radius: float,
    *,
    steps: int = STEPS,
    restarts: int = RESTARTS,
    rng: np.random.RandomState,
    box: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return the values, (n,), of any differentiable function after the worst attack found on it.

    Parameters
    ----------
    function : callable
        On (n, d) tensors.
    begin : (n, d) tensor
        Rows before the attack.
    down : (n,) tensor
        1 where it wants lower values, −1 where higher ones.
    radius : float
        ε, l2.
    steps, restarts, rng, box
        As of `attacked_scores`, in the space of `begin`.
    """
    # the attacks stay in the ball in float32, so that none goes where the proof does not
    inside = radius * (1.0 - 1e-5)
    with torch.autocast(begin.device.type, enabled=False):  # values as they are proved
        with torch.no_grad():
            worst = down * function(begin)
        for start in range(restarts + 1):
            x = begin if start == 0 else _within(begin + inside * _ball(rng, begin), box)
            for _ in range(steps):
                gradient = value_and_gradient(function, x)[1]
                way = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
                x = x - STEP * radius * down[:, None] * way
                away = x - begin
                x = begin + away * (inside / away.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1.0)
                x = _within(x, box)
                with torch.no_grad():  # a value beside a gradient may be rounded more than is proved
                    worst = torch.minimum(worst, down * function(x))
    return down * worst


def _within(x: torch.Tensor, box: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
    """Return the nearest points of the box: nearer to any row in it, so still in the ball."""
    return x if box is None else torch.minimum(torch.maximum(x, box[0]), box[1])


def _ball(rng: np.random.RandomState, rows: torch.Tensor) -> torch.Tensor:
    """Return points drawn uniformly from the unit ball, as many as rows and on their device."""
    draws = rng.normal(size=tuple(rows.shape))
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    reach = rng.uniform(size=(len(draws), 1)) ** (1.0 / rows.shape[1])
    return torch.as_tensor(draws * reach, dtype=torch.float32, device=rows.device)
