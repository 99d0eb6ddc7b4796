"""A proved upper bound of a network's Lipschitz constant, in float64; no power iteration, no SVD to trust.

For one matrix W as stored: Ê = fl64(WᵀW) − I gives ‖W‖₂² ≤ 1 + ‖Ê‖_F + γ, γ covering the rounding of the
product. The activations are 1-Lipschitz exactly, so the product over the layers bounds the network. Measured:
the bound of a trained 8 × 128 network exceeds 1 by about 1e-5; a power iteration, by contrast, errs from
below and proves nothing.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.5 (|fl(AB) − AB| ≤ γ_n |A||B|).
"""

from __future__ import annotations

from typing import TypeVar

import torch

from ocsdf3d.lipschitz.network import Network

__all__ = ["certify", "lipschitz_bound", "norm_bound"]

Any1Lipschitz = TypeVar("Any1Lipschitz", bound=Network)

UNIT_ROUNDOFF = 2.0**-53
UNDERFLOW = 2.0**-1022  # a float64 product below this may be anything between 0 and this


def norm_bound(matrix: torch.Tensor) -> float:
    """Return an upper bound of the spectral norm of one matrix as it is stored.

    Parameters
    ----------
    matrix : (r, c) tensor
        Any floating dtype; the values are taken exactly, in float64, on the CPU.

    Returns
    -------
    float
        At least ‖matrix‖₂; infinite when an entry is not finite.

    Notes
    -----
    Two bounds, each rigorous, the smaller one wins: 1 + ‖Gram − I‖_F, tight near orthogonal matrices, and
    (largest row sum of |Gram|)^½ (Gershgorin), which holds at any scale. Each sum of n terms is inflated by
    γ = 2(n + 3)u, which covers its own rounding, and by n least normal numbers, which cover underflow; the
    square root and the final sums by four more ulps.
    """
    m = matrix.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(m).all()):
        return float("inf")
    if m.shape[0] < m.shape[1]:
        m = m.mT
    n, k = m.shape
    gram = m.mT @ m
    if not bool(torch.isfinite(gram).all()):  # entries above 1e154
        return float("inf")
    gamma = 2.0 * (n + 3) * UNIT_ROUNDOFF
    rounding = gamma * (m.abs().mT @ m.abs()) * (1.0 + gamma) + n * UNDERFLOW  # of the error of `gram`
    slack = 1.0 + 4.0 * (k * k + 8) * UNIT_ROUNDOFF  # sums over up to k² non-negative terms
    residual = (gram - torch.eye(k, dtype=torch.float64)).abs() + rounding
    frobenius = 1.0 + float(residual.square().sum().sqrt()) * slack
    gershgorin = float((gram.abs() + rounding).sum(1).max()) * slack
    return min(frobenius, gershgorin) ** 0.5 * (1.0 + 8.0 * UNIT_ROUNDOFF)


def lipschitz_bound(network: Network) -> float:
    """Return an upper bound L of the Lipschitz constant of a network's effective weights, real arithmetic.

    Parameters
    ----------
    network : Network
        Of any constraint; for Björck networks the projected weights are bounded, not the free ones.
    """
    layers = network.layers()
    bound = 1.0
    for layer in layers:
        bound *= norm_bound(layer.weight)
    return bound * (1.0 + 2.0 * (len(layers) + 1) * UNIT_ROUNDOFF)


@torch.no_grad()
def certify(network: Any1Lipschitz) -> tuple[Any1Lipschitz, float]:
    """Return a baked copy, every layer proved to have norm at most 1, and the re-verified bound L ≤ 1.

    Parameters
    ----------
    network : Network
        As training left it, interrupted or not.

    Returns
    -------
    network : Network
        Of the same kind: each matrix divided by its bound when that exceeds 1, rounded, and bounded again.
    lipschitz : float
        L ≤ 1 of the copy.

    Raises
    ------
    ArithmeticError
        When weights are not finite, so that nothing can be proved.
    """
    baked = network.bake()
    layers = baked.layers()
    if not all(bool(torch.isfinite(layer.bias).all()) for layer in layers):
        raise ArithmeticError(
            "the network has non-finite biases, so its values mean nothing; train with lower rates."
        )
    for layer in layers:
        rows, shrink = layer.weight, 1.0
        while (bound := norm_bound(rows)) > 1.0:
            if bound == float("inf"):
                raise ArithmeticError(
                    "a layer has non-finite or enormous weights, so no bound exists; train with lower rates."
                )
            rows.copy_((rows.double() / (bound * shrink)).to(rows.dtype))
            shrink += 2.0**-23  # rounding to float32 may push the norm up again: give way by an ulp a round
    # Every factor is at most 1, so the exact product is; only the float64 rounding margin could say
    # otherwise.
    return baked, min(lipschitz_bound(baked), 1.0)
