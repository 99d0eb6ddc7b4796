"""The same learner for data of any kind: a detector, and what its bounded score proves.

The detector is scikit-learn's kind and needs the extra `oneclass`, as does its file; certificates from scores
need NumPy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocsdf3d.oneclass.certificate import Rates, auroc, certified_auroc, certified_rates
from ocsdf3d.oneclass.toy import TOYS, toy_samples

if TYPE_CHECKING:
    from ocsdf3d.oneclass.attack import attacked_scores
    from ocsdf3d.oneclass.checkpoint import load, save
    from ocsdf3d.oneclass.estimator import OneClassSDF

__all__ = [
    "OneClassSDF",
    "Rates",
    "TOYS",
    "attacked_scores",
    "auroc",
    "certified_auroc",
    "certified_rates",
    "load",
    "save",
    "toy_samples",
]

_LEARNING = {
    "OneClassSDF": "estimator",
    "attacked_scores": "attack",
    "load": "checkpoint",
    "save": "checkpoint",
}  # name → module

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load what needs scikit-learn on first use (PEP 562)."""
        if name not in _LEARNING:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
            )
        from importlib import import_module

        try:
            return getattr(import_module(f"{__name__}.{_LEARNING[name]}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "sklearn":
                raise
            raise ImportError(f"{name} needs scikit-learn: pip install 'ocsdf3d[oneclass]'") from error
