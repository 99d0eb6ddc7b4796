"""One self-describing file per fitted detector, sealed as `container.py` says: no pickle, nothing executes.

What decides a score, and what fit found beside it, comes back: parameters, standardisation, network, offset,
certificate, names and categories of the columns, curves. The certificate is proved again from the weights at
every load and must be the one that was written.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ocsdf3d.container import proved_again, require_weights, seal, understanding, unseal, weights_of
from ocsdf3d.lipschitz.certificate import Certificate, verify
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.oneclass.columns import Columns
from ocsdf3d.oneclass.estimator import OneClassSDF

__all__ = ["load", "plain_parameters", "save"]

KIND = "detector"
VERSION = 1
APART = ("network_", "certificate_", "columns_", "feature_names_in_")  # each in a form of its own
NEEDED = ("mean_", "scale_", "unit_", "offset_", "n_features_in_")
CATEGORIES = (str, int, float, bool)


def save(path: str | os.PathLike[str], detector: OneClassSDF) -> Path:
    """Write a fitted detector, to a temporary file first, then renamed; the same detector, the same bytes.

    Parameters
    ----------
    path : path
        Where; usually `.safetensors`.
    detector : OneClassSDF
        Fitted. Parameters that are no plain values are left out and come back as their defaults: `progress`,
        and `random_state` where it is a generator.

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
    TypeError
        Not an OneClassSDF itself, or a category or an attribute that is no text, number or truth value.
    OSError
        The folder is missing or cannot be written.
    """
    if type(detector) is not OneClassSDF:
        raise TypeError(f"`detector` must be an OneClassSDF; got {type(detector).__name__}.")
    check_is_fitted(detector)
    verify(detector.network_, detector.certificate_)
    tensors = weights_of(detector.network_, detector.certificate_.hash)
    values: dict[str, Any] = {}
    for name, value in vars(detector).items():
        if not name.endswith("_") or name in APART:
            continue
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            tensors[name] = torch.from_numpy(value.copy())
        else:
            values[name] = value.item() if isinstance(value, np.generic) else value
    names = getattr(detector, "feature_names_in_", None)
    header = {
        "parameters": plain_parameters(detector),
        "network": dataclasses.asdict(detector.network_.config),
        "certificate": dataclasses.asdict(detector.certificate_),
        "columns": _categories(detector.columns_),
        "names": None if names is None else [str(name) for name in names],
        "values": values,
    }
    return seal(path, KIND, VERSION, header, tensors)


def load(path: str | os.PathLike[str]) -> OneClassSDF:
    """Read a detector and prove its certificate again; it scores on the CPU.

    Parameters
    ----------
    path : path
        A file that `save` wrote.

    Returns
    -------
    OneClassSDF
        Fitted; its scores equal those of the saved detector bit for bit on the same machine.

    Raises
    ------
    CheckpointError
        Not a detector file, cut, altered, of a newer version, or with weights that are not those certified.
    OSError
        The file cannot be opened.
    """
    sealed = unseal(path, KIND, VERSION)
    with understanding(path, KIND):
        return _built(sealed.header, sealed.tensors)


def plain_parameters(detector: OneClassSDF) -> dict[str, Any]:
    """Return the parameters of a detector that a file can hold: no functions, no generators."""
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in detector.get_params(deep=False).items()
    }
    kinds = (*CATEGORIES, type(None), list, tuple)
    return {name: value for name, value in plain.items() if type(value) in kinds}


def _categories(columns: Columns | None) -> list[list[Any] | None] | None:
    """Return the categories of each column; JSON keeps apart what is text, whole, real and true or false."""
    if columns is None:
        return None
    found: list[list[Any] | None] = []
    for number, seen in enumerate(columns.categories):
        plain = None if seen is None else [v.item() if isinstance(v, np.generic) else v for v in seen]
        odd = next((value for value in plain or () if type(value) not in CATEGORIES), None)
        if odd is not None:
            raise TypeError(
                f"column {number} has categories of type {type(odd).__name__}, which no file holds; fit with "
                "text, numbers or truth values."
            )
        found.append(plain)
    return found


def _built(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> OneClassSDF:
    """Return the detector that `save` described."""
    detector = OneClassSDF(**header["parameters"])
    written = Certificate(**header["certificate"])
    config = NetworkConfig(**header["network"])
    require_weights(config, tensors)
    network = LipschitzNetwork(config, torch.Generator().manual_seed(0))
    certificate, taken = proved_again(network, written, tensors)
    arrays = {name: value.numpy() for name, value in tensors.items() if name not in taken}
    values = {**header["values"], **arrays}
    for name, value in values.items():
        if not name.endswith("_") or name.startswith("_") or hasattr(OneClassSDF, name) or name in APART:
            raise ValueError(f"{name} is no attribute of a detector")
        setattr(detector, name, value)
    detector.network_, detector.certificate_ = network, certificate
    columns = header["columns"]
    detector.columns_ = None
    if columns is not None:
        detector.columns_ = Columns(tuple(None if seen is None else tuple(seen) for seen in columns))
    if header["names"] is not None:
        detector.feature_names_in_ = np.array(header["names"], dtype=object)
    _check(detector, values)
    return detector


def _check(detector: OneClassSDF, values: dict[str, Any]) -> None:
    """Raise ValueError where parts do not fit each other."""
    missing = [name for name in NEEDED if name not in values]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    d = detector.network_.config.inputs
    wide = None
    if detector.columns_ is not None:
        wide = sum(1 if seen is None else len(seen) for seen in detector.columns_.categories)
    names = getattr(detector, "feature_names_in_", None)
    widths = [detector.n_features_in_, d if names is None else len(names), d if wide is None else wide]
    if any(width != d for width in widths):
        raise ValueError(f"a network of {d} columns, beside {widths} columns")
    for name in ("mean_", "scale_"):
        array = getattr(detector, name)
        if array.shape != (d,) or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{name} must be ({d},), float64 and finite")
    if not (detector.scale_ > 0.0).all() or not 0.0 < detector.unit_ < float("inf"):
        raise ValueError("scale_ and unit_ must be positive")
    if not np.isfinite(detector.offset_):
        raise ValueError(f"offset_ {detector.offset_} must be finite")
