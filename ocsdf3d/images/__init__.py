"""Images of one class against all others, with certificates in the l2 of pixels in [0, 1].

The detector needs the extra `oneclass`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocsdf3d.images.estimator import OneClassImageSDF
    from ocsdf3d.images.saved import load, save
    from ocsdf3d.images.synthesis import heat_map, synthesize

__all__ = ["OneClassImageSDF", "heat_map", "load", "save", "synthesize"]

_LEARNING = {
    "OneClassImageSDF": "estimator",
    "heat_map": "synthesis",
    "load": "saved",
    "save": "saved",
    "synthesize": "synthesis",
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
