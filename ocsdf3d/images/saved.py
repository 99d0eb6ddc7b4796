"""One self-describing file per detector of images, sealed as `container.py` says, proved again when read."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ocsdf3d.container import proved_again, require_weights, seal, understanding, unseal, weights_of
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.lipschitz.certificate import Certificate, verify
from ocsdf3d.lipschitz.convolution import ConvolutionalNetwork, ConvolutionConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, Network, NetworkConfig
from ocsdf3d.oneclass.checkpoint import plain_parameters

__all__ = ["load", "save"]

KIND = "image-detector"
VERSION = 1
NETWORKS: dict[str, tuple[Any, Any]] = {
    "dense": (LipschitzNetwork, NetworkConfig),
    "convolutional": (ConvolutionalNetwork, ConvolutionConfig),
}
NUMBERS = ("unit_", "offset_", "level_", "margin_")


def save(path: str | os.PathLike[str], detector: OneClassImageSDF) -> Path:
    """Write a fitted detector of images, to a temporary file first, then renamed.

    Parameters
    ----------
    path : path
        Where; usually `.safetensors`.
    detector : OneClassImageSDF
        Fitted. `progress` is left out, and `random_state` where it is a generator.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    NotFittedError
        It is not fitted.
    CertificateError
        The weights are not those of its certificate.
    OSError
        The folder is missing or cannot be written.
    """
    check_is_fitted(detector)
    verify(detector.network_, detector.certificate_)
    tensors = weights_of(detector.network_, detector.certificate_.hash)
    tensors["mean_"] = torch.from_numpy(detector.mean_.copy())
    header = {
        "parameters": plain_parameters(detector),
        "kind": next(name for name, (cls, _) in NETWORKS.items() if type(detector.network_) is cls),
        "network": dataclasses.asdict(detector.network_.config),
        "certificate": dataclasses.asdict(detector.certificate_),
        "shape": list(detector.shape_),
        "history": detector.history_,
        "values": {name: float(getattr(detector, name)) for name in NUMBERS},
    }
    return seal(path, KIND, VERSION, header, tensors)


def load(path: str | os.PathLike[str]) -> OneClassImageSDF:
    """Read a detector of images and prove its certificate again; it scores on the CPU.

    Parameters
    ----------
    path : path
        A file that `save` wrote.

    Returns
    -------
    OneClassImageSDF
        Fitted; its scores equal those of the saved detector bit for bit on the same machine.

    Raises
    ------
    CheckpointError
        Not such a file, cut, altered, of a newer version, or with weights that are not those certified.
    OSError
        The file cannot be opened.
    """
    sealed = unseal(path, KIND, VERSION)
    with understanding(path, KIND):
        return _built(sealed.header, sealed.tensors)


def _built(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> OneClassImageSDF:
    """Return the detector that `save` described; ValueError where parts do not fit each other."""
    detector = OneClassImageSDF(**header["parameters"])
    written = Certificate(**header["certificate"])
    cls, shape = NETWORKS[header["kind"]]
    config = shape(**header["network"])
    require_weights(config, tensors)
    network: Network = cls(config, torch.Generator().manual_seed(0))
    certificate, taken = proved_again(network, written, tensors)
    unused = set(tensors) - taken
    if unused != {"mean_"}:
        raise ValueError(f"tensors {', '.join(sorted(unused))} beside the weights, where mean_ is expected")
    detector.network_, detector.certificate_ = network, certificate  # type: ignore[assignment]
    detector.shape_ = tuple(int(size) for size in header["shape"])
    detector.mean_ = tensors["mean_"].numpy()
    d = network.config.inputs
    if detector.mean_.shape != (d,) or detector.mean_.dtype != np.float64 or np.prod(detector.shape_) != d:
        raise ValueError(f"a network of {d} pixels, beside images of shape {detector.shape_}")
    if not np.isfinite(detector.mean_).all():
        raise ValueError("mean_ must be finite")
    for name in NUMBERS:
        value = float(header["values"][name])
        if not np.isfinite(value) or (name == "unit_" and value <= 0.0):
            raise ValueError(f"{name} {value} must be finite, and unit_ positive")
        setattr(detector, name, value)
    detector.scale_ = np.ones(d)
    detector.n_features_in_, detector.columns_ = d, None
    detector.history_ = header["history"]
    detector.n_iter_ = int(header["history"]["steps"])
    return detector
