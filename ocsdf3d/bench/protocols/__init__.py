"""What a protocol is: cases to reconstruct, columns to fill, which of them are a contest; one a file.

A module of this package has `PARTS`, one `Protocol` for each of its tables; `parts` finds them by the
module's name. Importing this loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import trimesh

    from ocsdf3d.bench.methods import Answer
    from ocsdf3d.geometry import PointCloud

PROTOCOLS = ("solids", "modelnet", "open", "scans", "field", "speed")


@dataclass(frozen=True)
class Asked:
    """What a run was asked for: the options of `ocsdf3d bench reconstruct`, one an attribute.

    Attributes
    ----------
    data : Path
        Folder with `meshes/` and `points/`.
    shapes : tuple of str or None
        File names, with or without extension; None for all of a protocol's.
    methods : tuple of str
        In the order of the tables.
    points : tuple of int
        Samples of a shape.
    noise, outliers : tuple of float
        Standard deviations [longest side]; outliers added, as a share of the samples.
    seeds : tuple of int
        Of samples, methods and evaluator alike.
    preset, support, device : str
        Of ours; `device`, `cpu` or `cuda`, of recipes too.
    resolution : int
        Nodes along the longest side, of ours and of recipes.
    samples : int
        Of the evaluator, each side.
    limit, budget : float
        Seconds for a method; seconds of training for a recipe, which the limit does not count.
    keep : Path or None
        Folder for the meshes of the first seed, for a figure.
    """

    data: Path
    shapes: tuple[str, ...] | None
    methods: tuple[str, ...]
    points: tuple[int, ...]
    noise: tuple[float, ...]
    outliers: tuple[float, ...]
    seeds: tuple[int, ...]
    preset: str
    support: str
    resolution: int
    samples: int
    device: str
    limit: float
    budget: float
    keep: Path | None = None


class Column(NamedTuple):
    """A figure of a row: its head in the tables, and what is better, `"low"`, `"high"`, or `""` for no
    contest; `"text"` is no figure and stays in the ledger."""

    head: str
    better: str = ""


class Sample(NamedTuple):
    """A case at hand, longest side of the reference 1: points, (n, 3), what is true, and its floor (or None).

    The floor is the Chamfer distance of a second sampling of the reference to the first.
    """

    points: np.ndarray
    reference: trimesh.Trimesh | PointCloud
    floor: float | None


@dataclass(frozen=True)
class Case:
    """One cloud to reconstruct.

    Attributes
    ----------
    shape : str
        File name.
    points : int
        Samples; 0 where a scan is taken as it is.
    noise, outliers : float
        As in `Asked`.
    seed : int
        Of the sample.
    load : callable
        () → Sample; nothing is read before it is called.
    device : str or None
        Where ours and recipes compute, when the protocol decides.
    """

    shape: str
    points: int
    noise: float
    outliers: float
    seed: int
    load: Callable[[], Sample]
    device: str | None = None

    @property
    def slice(self) -> str:
        """Heading of the cases that are averaged together."""
        if not self.points:
            return "as scanned"
        heading = f"{self.points:,} points, noise {self.noise:.2g}, outliers {self.outliers:.2g}"
        return heading if self.device is None else f"{heading}, on {self.device}"


@dataclass(frozen=True)
class Protocol:
    """One table.

    Attributes
    ----------
    name, title : str
        Of its ledger, and of its table.
    columns : mapping
        Name in the ledger → head and contest; the first one is also shown shape by shape.
    notes : str
        How to read it, printed under the table.
    cases : callable
        Asked → cases, in order.
    measure : callable
        (method, case, sample, asked) → figures of `columns`, and the answer behind them, whose `seconds` and
        `error` are kept.
    fields_only : bool
        Whether methods without a field are left out.
    """

    name: str
    title: str
    columns: Mapping[str, Column]
    notes: str
    cases: Callable[[Asked], list[Case]]
    measure: Callable[[str, Case, Sample, Asked], tuple[dict[str, object], Answer]]
    fields_only: bool = False


def parts(names: Sequence[str]) -> list[Protocol]:
    """The protocols of these names; a module may hold several.

    Raises
    ------
    ValueError
        There is no such protocol.
    """
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"no such protocol: {', '.join(unknown)}; there are {', '.join(PROTOCOLS)}")
    found: list[Protocol] = []
    for name in dict.fromkeys(names):
        found += import_module(f"{__name__}.{name}").PARTS
    return found


def chosen(names: Sequence[str], wanted: Sequence[str] | None, what: str) -> list[str]:
    """Those of the file names that are wanted, with or without extension; all when `wanted` is None.

    Raises
    ------
    ValueError
        A wanted name is none of them, or there are none; `what` says of what.
    """
    if not names:
        raise ValueError(f"no {what} in the data folder")
    if wanted is None:
        return list(names)
    unknown = set(wanted) - set(names) - {Path(name).stem for name in names}
    if unknown:
        raise ValueError(f"no {what}: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return [name for name in names if {name, Path(name).stem} & set(wanted)]
