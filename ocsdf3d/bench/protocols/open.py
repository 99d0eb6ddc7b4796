"""Open surfaces and soups: meshes that are not watertight, ModelNet apart, against their own surface.

Here is no inside to be right about. Chamfer and F-score are two-sided, so both a lost piece and an invented
one cost; a shell, which is a skin around the samples, pays for its thickness.
"""

from __future__ import annotations

from ocsdf3d.bench.judge import SURFACE
from ocsdf3d.bench.protocols import Asked, Case, Column, Protocol
from ocsdf3d.bench.protocols.modelnet import categories, is_modelnet
from ocsdf3d.bench.protocols.solids import meshes_of, sampled_cases, surface_figures

COLUMNS = SURFACE | {"watertight": Column("watertight")}


def _cases(asked: Asked) -> list[Case]:
    folder = asked.data / "meshes"
    category = categories(folder)
    shapes = {
        name: mesh
        for name, mesh in meshes_of(folder).items()
        if not mesh.is_watertight and not is_modelnet(name, category)
    }
    return sampled_cases(shapes, asked, "open mesh")


PARTS = (
    Protocol(
        "open",
        "Open surfaces and soups from bare points",
        COLUMNS,
        "Against the mesh surface, longest side 1. A watertight answer is no virtue here and no fault.",
        _cases,
        surface_figures,
    ),
)
