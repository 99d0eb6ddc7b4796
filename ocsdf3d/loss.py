"""The hinge Kantorovich–Rubinstein loss, hKR, and the misfit where f is known.

L(f) = λ·E_P[(m − f)₊] − E_P[f] + λ·E_Q[(m + f)₊] + E_Q[f]: the hinge keeps P above the margin m and Q below
−m, the Kantorovich–Rubinstein part pulls the two means apart and so drives ‖∇f‖ to 1. Over 1-Lipschitz
functions the minimiser is the signed distance to the boundary, up to the margin. The authors' code weighs the
KR part by 1/λ instead and the 2024 successor likewise: the same minimiser, gradients smaller by λ.

References
----------
Béthune et al., OCSDF, ICML 2023, definition 3 and theorem 1. Serrurier et al., Achieving robustness in
classification using optimal transport with hinge regularization, CVPR 2021.
"""

from __future__ import annotations

import torch

__all__ = ["hkr", "misfit"]


def hkr(
    inside: torch.Tensor, outside: torch.Tensor, margin: float | torch.Tensor, lam: float | torch.Tensor
) -> torch.Tensor:
    """Return the hKR loss of f's values on both classes, over 1 + λ so that its scale does not depend on λ.

    Parameters
    ----------
    inside : (n,) tensor
        f on a batch of the data, P.
    outside : (k,) tensor
        f on a batch of negatives, Q.
    margin : float or () tensor
        m, in the units of f.
    lam : float or () tensor
        λ, the weight of the hinge against the Kantorovich–Rubinstein part.
    """
    hinge = (margin - inside).clamp_min(0.0).mean() + (margin + outside).clamp_min(0.0).mean()
    transport = outside.mean() - inside.mean()
    return (lam * hinge + transport) / (1.0 + lam)


def misfit(values: torch.Tensor, known: float | torch.Tensor) -> torch.Tensor:
    """Return the mean |f − known|; absolute, so that a few bad samples do not bend f.

    Parameters
    ----------
    values : (n,) tensor
        f.
    known : float or (n,) tensor
        What it should be.
    """
    return (values - known).abs().mean()
