"""What `device=` names: the same words for fields, for training and for tables."""

from __future__ import annotations

import torch

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """Return the device for `"auto"` (CUDA when there is one), `"cpu"` or `"cuda"`.

    Raises
    ------
    ValueError
        CUDA was asked for and is absent, or another word.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` must be auto, cpu or cuda; got {name!r}.")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("`device` is cuda, but torch sees no CUDA device here; use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
