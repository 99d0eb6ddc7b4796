"""Images from the score alone: what the class looks like to f, and which pixels make an image foreign.

Both are Algorithm 1 with another target: instead of the boundary, the mean score of the training images. From
noise the walk ends in an image that f takes for one of the class; from an image it changes as little as f's
slope allows, and where it changes is the heat map.

References
----------
Béthune et al., OCSDF, ICML 2023, section 5.3, figures 3 and 7, appendix H (T = 64, η = 1, toward the mean
score). Gradients of 1-Lipschitz networks as explanations: Serrurier et al., NeurIPS 2023.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ocsdf3d.complement import WalkConfig, walk
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.images.negatives import NEGATIVES

__all__ = ["heat_map", "synthesize", "walked"]

Floats = NDArray[np.float64]

STEPS = 64
STARTS = ("mean", "noise", "uniform")
SHARE = 0.5  # of the noise beside the mean image
MULTIPLIER = 16.0  # with 1, as printed, a third of the way remains, and pixels at 0 and 1 hold it up further


def walked(
    detector: OneClassImageSDF,
    X: Any,
    *,
    level: float | None = None,
    steps: int = STEPS,
    multiplier: float = MULTIPLIER,
) -> Floats:
    """Return images, of the shape of `X` in [0, 1], after the walk of T steps to a score.

    Parameters
    ----------
    detector : OneClassImageSDF
        Fitted.
    X : (n, h, w) or (n, h, w, c) array_like
        Where it begins; images that score higher stay.
    level : float, optional
        Score to reach [l2 of pixels]; the mean one of the training images when None.
    steps : int
        T.
    multiplier : float
        Of each step, see `complement.WalkConfig`.

    Raises
    ------
    ValueError
        Images of another shape, or a setting that is none.
    """
    check_is_fitted(detector)
    level = detector.level_ if level is None else level
    config = WalkConfig(steps, multiplier, level / detector.unit_, one_sided=True, random=False)
    network, device = detector.at_work()
    begin = torch.as_tensor(detector.standardised(X) / detector.unit_, dtype=torch.float32, device=device)
    lower, upper = (torch.as_tensor(end / detector.unit_).to(begin) for end in detector.box())
    parts = [walk(network, part, 1.0, config, lower, upper) for part in begin.split(detector.tile)]
    return detector.images_of(detector.unit_ * torch.cat(parts).double().cpu().numpy())


def synthesize(
    detector: OneClassImageSDF,
    n: int = 16,
    *,
    start: str = "mean",
    level: float | None = None,
    steps: int = STEPS,
    multiplier: float = MULTIPLIER,
    random_state: Any = None,
) -> Floats:
    """Return n images in [0, 1], made by walking from noise to a score of the class.

    Parameters
    ----------
    detector : OneClassImageSDF
        Fitted.
    n : int
        Images.
    start : str
        `"mean"`: the mean image and low-frequency noise; `"noise"`: that alone; `"uniform"`: uniform noise,
        as in the paper. A dense f sees as many directions as its first layer is wide; noise in the others
        stays, so that the walk from uniform noise ends in what looks like noise still.
    level : float, optional
        Score to reach [l2 of pixels]; the mean one of the training images when None, as in the paper. Twice
        that gives clearer images.
    steps, multiplier
        As of `walked`.
    random_state : int, RandomState or None
        Of the noise.

    Raises
    ------
    ValueError
        No images asked for, or an unknown start.
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1; got {n}.")
    if start not in STARTS:
        raise ValueError(f"`start` must be one of {', '.join(STARTS)}; got {start!r}.")
    check_is_fitted(detector)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    generator = torch.Generator().manual_seed(seed)
    channels = detector.n_features_in_ // math.prod(detector.shape_[:2])
    blank = torch.zeros((n, *detector.shape_[:2], channels), dtype=torch.float32)
    drawn = NEGATIVES["uniform" if start == "uniform" else "noise"](blank, blank, generator)
    begin = drawn.double().numpy().reshape(n, -1)
    if start == "mean":
        begin = np.clip(detector.mean_ + SHARE * (begin - begin.mean()), 0.0, 1.0)
    return walked(
        detector, begin.reshape(n, *detector.shape_), level=level, steps=steps, multiplier=multiplier
    )


def heat_map(
    detector: OneClassImageSDF, X: Any, *, steps: int = STEPS, multiplier: float = MULTIPLIER
) -> Floats:
    """Return what each pixel would have to change by, (n, h, w), for an image to score as the class does.

    Parameters
    ----------
    detector : OneClassImageSDF
        Fitted.
    X : (n, h, w) or (n, h, w, c) array_like
        Images.
    steps, multiplier
        As of `walked`.

    Returns
    -------
    (n, h, w) array
        Above 0 where the image is too dark, below where too bright, summed over channels [pixels in [0, 1]].
        Of a gray image its l2 norm is at least what the score gains on the way: f has slope at most 1.
    """
    rows = detector.standardised(X)
    change = walked(detector, X, steps=steps, multiplier=multiplier) - detector.images_of(rows)
    return change.reshape(*change.shape[:3], -1).sum(axis=3)
