"""What learns one class of images and scores others: ours, three kinds of Deep SVDD, two of scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ocsdf3d.bench.deepsvdd import DeepSVDD
from ocsdf3d.bench.image_sets import Dataset
from ocsdf3d.devices import resolve_device
from ocsdf3d.images.estimator import OneClassImageSDF
from ocsdf3d.query import value_and_gradient

__all__ = ["ATTACKED", "DEFAULT", "METHODS", "OF_PRESETS", "Scored", "scored"]

Floats = NDArray[np.float64]
Score = Callable[[torch.Tensor], torch.Tensor]  # of rows in [0, 1], differentiable

DEEP = {"deepsvdd": "lenet_bn", "deepsvdd_plain": "lenet", "deepsvdd_ours": "ours"}  # method → network
METHODS = ("ocsdf", *DEEP, "forest", "svm")
DEFAULT = ("ocsdf", "deepsvdd", "forest", "svm")
ATTACKED = ("ocsdf", *DEEP)  # those that have a gradient
OF_PRESETS = ("ocsdf", "deepsvdd_ours")  # those whose network a preset names
EPOCHS = 30  # of Deep SVDD
NU = 0.1  # of OC-SVM
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What a method says of the test images.

    Attributes
    ----------
    scores : (n,) array
        Larger for what looks normal.
    function : callable, optional
        The score, of rows in [0, 1] on `device`, where it has a gradient.
    device : torch.device
        Where.
    detector : OneClassImageSDF, optional
        Ours, fitted.
    gradient_norm : float, optional
        Of ours: mean ‖∇f‖ on the test images of the class.
    """

    scores: Floats
    function: Score | None = None
    device: torch.device = CPU
    detector: OneClassImageSDF | None = None
    gradient_norm: float | None = None

    def rounding(self, test: NDArray[np.uint8], moved: float) -> float | None:
        """Return what rounding may add to a difference of two scores, of an image and of what it moved to;
        None where nothing is proved."""
        if self.detector is None:
            return None
        return 2.0 * float(self.detector.rounding(test, moved).max())


def scored(method: str, data: Dataset, number: int, seed: int, *, preset: str, device: str) -> Scored:
    """Learn a class by a method of `METHODS`, and score all test images.

    Parameters
    ----------
    number : int
        Of the class.
    preset : str
        Of ours, and of the network of `deepsvdd_ours`.
    device : str
        Where networks learn, see `devices.resolve_device`.
    """
    own = data.train[data.y_train == number]
    if method == "ocsdf":
        return _ours(OneClassImageSDF(preset, device=device, random_state=seed).fit(own), data, number)
    if method in DEEP:
        return _deep(DeepSVDD(data.shape, seed, network=DEEP[method], preset=preset), own, data, device)
    flat, others = (part.reshape(len(part), -1) / 255.0 for part in (own, data.test))
    if method == "forest":
        from sklearn.ensemble import IsolationForest

        return Scored(IsolationForest(random_state=seed).fit(flat).score_samples(others))
    from sklearn.svm import OneClassSVM

    return Scored(OneClassSVM(nu=NU).fit(flat).score_samples(others))


def _ours(detector: OneClassImageSDF, data: Dataset, number: int) -> Scored:
    """Return what a fitted detector says; it is verified first."""
    detector.certify(data.test[:2], [1, -1], [0.0])  # the weights are those of the certificate
    network, where = detector.at_work()
    mean = torch.as_tensor(detector.mean_, dtype=torch.float32, device=where)
    unit = detector.unit_

    def function(x: torch.Tensor) -> torch.Tensor:
        return unit * network((x - mean) / unit)

    flat = data.test[data.y_test == number].reshape(-1, len(mean)) / 255.0
    rows = torch.as_tensor(flat, dtype=torch.float32, device=where)
    norms = [value_and_gradient(function, part)[1].norm(dim=1) for part in rows.split(detector.tile)]
    return Scored(
        detector.score_samples(data.test), function, where, detector, float(torch.cat(norms).double().mean())
    )


def _deep(model: DeepSVDD, own: NDArray[np.uint8], data: Dataset, device: str) -> Scored:
    where = resolve_device(device)
    flat, others = (
        torch.as_tensor(part.reshape(len(part), -1) / 255.0, dtype=torch.float32, device=where)
        for part in (own, data.test)
    )
    model = model.to(where).learn(flat, EPOCHS)
    with torch.no_grad():
        scores = model(others)
    return Scored(scores.double().cpu().numpy(), model, where)
