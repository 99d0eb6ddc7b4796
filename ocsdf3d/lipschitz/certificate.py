"""What is proved of a trained network, written down so that it can be checked: bound, rounding, dtype, hash.

The bound L holds for the stored weights in real arithmetic. A machine computes f̂ instead, and what it
guarantees is |f̂(x) − f̂(y)| ≤ L‖x − y‖ + 2ε, with an allowance ε ≥ |f̂ − f| for the arithmetic that is used:

- float64: proved, by the running error analysis of `rounding_bound`; about 1e-12.
- float32: measured, ten times the largest difference to float64 over 4,096 points of the domain (fewer, 256
  at least, of a network that takes over 16 million products a point), and at least 5e-6. (The proof gives
  1e-3 there: true, and of little use; the errors of a sum are not all of one sign.)

Nothing below float32 is certified, nor float32 products that a machine may round to fewer bits (TF32, bf16).

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2002, sections 3.1 and 3.5. Why it matters: Jia,
Rinard, Exploiting Verified Neural Networks via Floating Point Numerical Error, SAS 2021.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass

import torch

from ocsdf3d.lipschitz.bound import lipschitz_bound, norm_bound
from ocsdf3d.lipschitz.network import Network

__all__ = ["Certificate", "CertificateError", "issue", "rounding_bound", "verify", "weights_hash"]

VERSION = 1  # of the method; a certificate of another version is not believed
ROUNDOFF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
MEASURED_AT, MEASURED_TIMES, MEASURED_LEAST = (256, 4096), 10.0, 5e-6
PRODUCTS = 2**36  # spent on measuring, about
TOGETHER = 2**25  # numbers in the widest layer, of points measured together: 256 MB


class CertificateError(ValueError):
    """A network that is not, or no longer, what its certificate says."""


@dataclass(frozen=True)
class Certificate:
    """What is promised of one network, in the unit frame.

    Attributes
    ----------
    lipschitz : float
        Proved upper bound L of the Lipschitz constant, real arithmetic.
    rounding : float
        ε, allowance for one computed value where ‖x‖ ≤ `radius`; it grows in proportion to ‖x‖ beyond.
    proved : float
        The a-priori bound of the same error: equal to `rounding` in float64, far above it in float32.
    magnitude : float
        Bound of |f(x)| in that ball.
    basis : str
        `"proved"` or `"measured"`: what `rounding` rests on.
    radius : float
        Radius of the ball around the origin that `rounding` is for.
    dtype : str
        Arithmetic, `"float32"` or `"float64"`.
    hash : str
        SHA-256 of the weights, their dtype and the shape of the network.
    version : int
        Of the method.
    """

    lipschitz: float
    rounding: float
    proved: float
    magnitude: float
    basis: str
    radius: float
    dtype: str
    hash: str
    version: int = VERSION

    def rounding_at(self, radius: float) -> float:
        """Return ε for points with ‖x‖ ≤ `radius`, at most in proportion to it: errors are affine in ‖x‖."""
        return self.rounding * max(1.0, radius / self.radius)


def weights_hash(network: Network) -> str:
    """Return the SHA-256 of everything that decides the values of a network."""
    sha = hashlib.sha256(repr(network.config).encode())
    for name, value in sorted(network.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def rounding_bound(network: Network, radius: float) -> tuple[float, float]:
    """Return upper bounds of |f̂(x) − f(x)| and |f(x)| for all ‖x‖ ≤ `radius`, for any order of summation.

    Parameters
    ----------
    network : Network
        In float32 or float64, the arithmetic that is bounded. x arrives in float64 and is rounded to it.
    radius : float
        In the unit frame.

    Notes
    -----
    One layer with k inputs errs by at most γ(|W||x̂| + |b|) in each channel, γ = (k + 2)u / (1 − (k + 2)u),
    for any order of summation, fused or not; ‖|W||x̂|‖ ≤ ‖|W|‖₂‖x̂‖ with the proved norm bound. Of a layer at p
    places the same holds for all its outputs together, with ‖b‖√p, since its operator is block diagonal.
    Sorting and absolute values are exact and, like the next layer, do not enlarge what came before (max–min
    as mean ± half-distance: 6u‖x‖ more). A norm over k values errs by (k + 2)u of itself and, where squares
    underflow, by the root of k least normal numbers; a scaled sum by as much of the norm of its terms. The
    sum over layers is inflated by 1e-6 for its own rounding.
    """
    dtype = network.head.dtype
    if dtype not in ROUNDOFF:
        raise CertificateError(f"not certified: no proof covers arithmetic in {_name(dtype)}; use float64.")
    u = ROUNDOFF[dtype]
    tiny = float(torch.finfo(dtype).tiny)
    size, error = radius, 3.0 * u * radius  # into the unit frame (float64), then to `dtype`
    for layer in network.layers():
        rows, columns = layer.weight.shape
        if layer.scale != 1.0:
            error += u * (size + error)
        gamma = _gamma(columns + 2, u)
        norm, offset = norm_bound(layer.weight), float(layer.bias.double().norm()) * layer.places**0.5
        sums = norm_bound(layer.weight.abs()) * (size + error) + offset
        error = norm * error + gamma * sums + (columns + 2) * rows * layer.places * tiny
        size = norm * size + offset
        if layer.activation == "max_min":
            error += 6.0 * u * (size + error)
        if layer.pooled > 1:
            error += _gamma(layer.pooled + 2, u) * (size + error) + (tiny * rows * layer.places) ** 0.5
    return error * (1.0 + 1e-6), size * (1.0 + 1e-6)


def _gamma(terms: int, u: float) -> float:
    return terms * u / (1.0 - terms * u)


@torch.no_grad()
def _measured(network: Network, radius: float) -> float:
    """Return the largest |f̂ − f| over a fixed set of points of the cube inscribed in the ball."""
    draws = torch.Generator().manual_seed(0)
    inputs, layers = network.config.inputs, network.layers()
    least, most = MEASURED_AT
    count = max(least, min(most, PRODUCTS // sum(layer.places * layer.weight.numel() for layer in layers)))
    x = (2.0 * torch.rand((count, inputs), generator=draws, dtype=torch.float64) - 1.0) * radius
    x = x / inputs**0.5
    device, dtype = network.head.device, network.head.dtype
    exact = copy.deepcopy(network).to(torch.float64)
    together = max(1, TOGETHER // max(layer.places * max(layer.weight.shape) for layer in layers))
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        apart = [
            (network(part.to(device, dtype)).double() - exact(part.to(device))).abs().max()
            for part in x.split(together)
        ]
    return float(torch.stack(apart).max())


def issue(network: Network, radius: float) -> Certificate:
    """Return the certificate of a network, computed from its weights.

    Parameters
    ----------
    network : Network
        Baked, as `bound.certify` returns it.
    radius : float
        Of the ball of the unit frame in which values are needed.

    Raises
    ------
    CertificateError
        The bound exceeds 1, a weight is not finite, or the dtype is neither float32 nor float64.
    """
    proved, magnitude = rounding_bound(network, radius)
    lipschitz = lipschitz_bound(network)
    if not lipschitz <= 1.0 + 1e-12:
        raise CertificateError(f"not certified: the weights have the bound {lipschitz}, above 1.")
    if not proved < float("inf"):
        raise CertificateError("not certified: a weight or a bias is not finite.")
    rounding, basis = proved, "proved"
    if network.head.dtype is torch.float32:
        measured = max(MEASURED_LEAST, MEASURED_TIMES * _measured(network, radius))
        if measured < proved:
            rounding, basis = measured, "measured"
    return Certificate(
        lipschitz=min(lipschitz, 1.0),
        rounding=rounding,
        proved=proved,
        magnitude=magnitude,
        basis=basis,
        radius=radius,
        dtype=_name(network.head.dtype),
        hash=weights_hash(network),
    )


def verify(network: Network, certificate: Certificate) -> None:
    """Raise unless a certificate speaks of this network and of the arithmetic that is in force.

    Raises
    ------
    CertificateError
        Weights, dtype or version differ, or torch may round float32 products to fewer bits.
    """
    if certificate.version != VERSION:
        raise CertificateError(
            f"not certified: the certificate is of version {certificate.version}, this ocsdf3d proves "
            f"version {VERSION}. Load the field from its file."
        )
    if _name(network.head.dtype) != certificate.dtype:
        raise CertificateError(
            f"not certified: the certificate is for {certificate.dtype}, the weights are "
            f"{_name(network.head.dtype)}. Use `astype`."
        )
    if weights_hash(network) != certificate.hash:
        raise CertificateError(
            "not certified: the weights are not those of the certificate. Load the field from its file."
        )
    if certificate.dtype == "float32" and _products_may_be_rounded():
        raise CertificateError(
            "not certified: torch may round float32 products to fewer bits here. Call "
            "torch.set_float32_matmul_precision('highest')."
        )


def _products_may_be_rounded() -> bool:
    """Whether float32 products may be computed with fewer bits, as far as torch says."""
    try:
        return bool(
            torch.get_float32_matmul_precision() != "highest" or torch.backends.cuda.matmul.allow_tf32
        )
    except RuntimeError:  # its older settings are not told once a newer one says otherwise
        return True


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
