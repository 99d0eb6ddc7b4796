"""A training on disk while it goes on, so that killing it costs seconds: it goes on to the same end.

What changes from step to step is kept: weights, the optimiser's means, the states of the generators, the last
exploration, the batch in hand and the curves. What never changes, pools and distances, is made again from
input, options and seed, which takes less time than training; its hash is kept, and a machine that makes it
otherwise is told apart. So are other inputs and other options. A training that goes on takes the number of
threads it began with: sums over other shares round differently.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ocsdf3d.container import CheckpointError, Tensors, digest, seal, understanding, unseal

__all__ = ["EVERY", "Keeper", "Parts", "Standing", "digest_of", "hash_of_arrays"]

KIND = "training"
VERSION = 1
EVERY = 30.0  # seconds; writing the preset `default` takes 0.05


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a training stands between two steps.

    Attributes
    ----------
    steps : int
        Taken.
    workers : int
        Threads that shared each of them.
    curves : dict
        Of the history so far.
    tensors : dict
        As `Parts.copies` returns them.
    seconds : float
        Of training so far.
    """

    steps: int
    workers: int
    curves: dict[str, list[float]]
    tensors: Tensors
    seconds: float = 0.0


class Changing(Protocol):
    """An optimiser or a source: whatever has tensors that change from step to step."""

    @property
    def state(self) -> Tensors:
        """These tensors, by name."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from these."""


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a step reads and the last one wrote.

    Attributes
    ----------
    network : nn.Module
        Its parameters.
    changing : dict
        Name → optimiser or source.
    held : dict
        Name → tensor that is written into in place.
    generators : sequence of torch.Generator
        The same one may be there more than once.
    """

    network: nn.Module
    changing: dict[str, Changing]
    held: dict[str, torch.Tensor]
    generators: Sequence[torch.Generator] = field(default_factory=list)

    def _drawn(self) -> list[torch.Generator]:
        return list({id(generator): generator for generator in self.generators}.values())

    def copies(self) -> Tensors:
        """Return copies on the CPU, by name."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for part, changing in self.changing.items():
            found |= {f"{part}.{name}": value for name, value in changing.state.items()}
        found |= {f"held.{name}": value for name, value in self.held.items()}
        found |= {f"generator.{k}": drawn.get_state() for k, drawn in enumerate(self._drawn())}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}

    def restore(self, tensors: Tensors) -> None:
        """Go on from copies.

        Raises
        ------
        ValueError
            They are those of another kind of training.
        """

        def under(prefix: str) -> Tensors:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        drawn = self._drawn()
        states = under("generator.")
        if len(states) != len(drawn):
            raise ValueError(f"{len(states)} generators instead of {len(drawn)}")
        self.network.load_state_dict(under("network."))
        for part, changing in self.changing.items():
            changing.restore(under(f"{part}."))
        for name, value in under("held.").items():
            self.held[name].copy_(value)
        for k, generator in enumerate(drawn):
            generator.set_state(states[str(k)])


def digest_of(tensors: Tensors) -> str:
    """Return the SHA-256 of what does not change: names, shapes and bytes."""
    return digest("", {name: value.detach().cpu().contiguous() for name, value in tensors.items()})


class Keeper:
    """Writes a training from time to time, and finds it again.

    Parameters
    ----------
    path : path
        Usually `.safetensors`; replaced whole.
    identity : dict
        Hash of the input, and every option that the training depends on: what JSON can hold.
    every : float
        Seconds between two writings.

    Raises
    ------
    ValueError
        `every` is negative or not finite.
    """

    def __init__(self, path: str | os.PathLike[str], identity: dict[str, Any], every: float = EVERY) -> None:
        if not 0.0 <= every < float("inf"):
            raise ValueError(f"`every` must not be negative, and finite; got {every}.")
        self.path, self.every = Path(path), every
        self.identity = json.loads(json.dumps(identity))  # as it comes back: tuples are lists
        self.material = ""
        self._due = time.monotonic() + every
        self._last = -1

    def found(self) -> Standing | None:
        """Return where the training stands that the file holds, or None where there is no file.

        Raises
        ------
        CheckpointError
            Damaged, or of another input, other options, another version.
        OSError
            It cannot be read.
        """
        if not self.path.exists():
            return None
        sealed = unseal(self.path, KIND, VERSION)
        with understanding(self.path, KIND):
            header = sealed.header
            other = _difference(header["identity"], self.identity)
            if other is not None:
                raise CheckpointError(
                    f"a training of {other}; it cannot go on as this one. Give what it was begun with, or "
                    "another checkpoint file."
                )
            self.material = str(header["material"])
            return Standing(
                int(header["steps"]),
                int(header["workers"]),
                dict(header["curves"]),
                sealed.tensors,
                float(header["seconds"]),
            )

    def require(self, material: str) -> None:
        """Refuse to go on from pools that are not those the training began with; a new one begins with these.

        Raises
        ------
        CheckpointError
            They came out otherwise.
        """
        if self.material not in ("", material):
            raise CheckpointError(
                f"{self.path}: the same input and options make other pools here than where it was begun "
                "(another processor or version of a library?), so it would not end the same. Begin anew, or "
                "go on there."
            )
        self.material = material

    def __call__(self, standing: Callable[[], Standing], *, last: bool) -> None:
        """Write what `standing` returns if it is time to, or if it is the `last`; a full disk only warns."""
        now = time.monotonic()
        if not last and now < self._due:
            return
        found = standing()
        if found.steps == self._last:
            return
        header = {
            "identity": self.identity,
            "material": self.material,
            "steps": found.steps,
            "workers": found.workers,
            "curves": found.curves,
            "seconds": found.seconds,
        }
        try:
            seal(self.path, KIND, VERSION, header, found.tensors)
            self._last = found.steps
        except OSError as error:  # a backup that fails must not end what it backs up
            before = "there is none" if self._last < 0 else f"the last is of step {self._last}"
            reason = error.strerror or error
            warnings.warn(
                f"{self.path}: checkpoint not written ({reason}); training goes on, {before}.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._due = time.monotonic() + self.every


def _difference(written: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Name one thing in which two identities differ."""
    for name in asked:
        if name not in written:
            return f"another version, without `{name}`"
        if written[name] != asked[name]:
            if isinstance(asked[name], Mapping) and isinstance(written[name], Mapping):
                return _difference(written[name], asked[name])
            if name == "input":
                return "another input"
            return f"`{name}` {written[name]!r}, not {asked[name]!r}"
    return None if set(written) == set(asked) else "another version"


def hash_of_arrays(*arrays: Any) -> str:
    """Return the SHA-256 of arrays: dtype, shape and bytes of each, None for none."""
    sha = hashlib.sha256()
    for array in arrays:
        if array is None:
            sha.update(b"none")
        else:
            sha.update(f"{array.dtype} {array.shape}".encode())
            sha.update(array.tobytes())
    return sha.hexdigest()
