"""Points in, a certified signed distance function and a closed mesh out.

The public names live in the modules of the table below and are loaded on first use, so that `import ocsdf3d`
and `ocsdf3d --help` cost milliseconds: torch, trimesh, scipy and PyVista stay outside until somebody needs
them.

>>> import ocsdf3d as oc
>>> mesh = oc.reconstruct("scan.ply")                  # trimesh.Trimesh
>>> sdf = oc.fit(oc.read("scan.ply"), seed=0)          # φ < 0 inside, 1-Lipschitz
>>> oc.write("thicker.ply", sdf.mesh(offset=0.01))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"  # the only place: pyproject.toml reads it from here (importlib.metadata costs 30 ms)

_HOME = {  # public name → module that defines it
    "reconstruct": "pipeline",
    "fit": "pipeline",
    "read": "io",
    "write": "io",
    "view": "viewer",
    "evaluate": "metrics",
    "save": "checkpoint",
    "load": "checkpoint",
    "SDF": "field",
    "Field": "csg",
    "PointCloud": "geometry",
    "Box": "geometry",
    "sphere": "analytic",
    "box": "analytic",
    "torus": "analytic",
    "capsule": "analytic",
    "ReadError": "io",
    "WriteError": "io",
    "CheckpointError": "container",
    "CertificateError": "lipschitz.certificate",
    "EmptyLevelSetError": "surface",
    "ResolutionError": "grid",
    "RenderingError": "viewer.probe",
}

if TYPE_CHECKING:  # the same table for type checkers and editors; tests/test_api.py compares the two
    from ocsdf3d.analytic import box, capsule, sphere, torus
    from ocsdf3d.checkpoint import load, save
    from ocsdf3d.container import CheckpointError
    from ocsdf3d.csg import Field
    from ocsdf3d.field import SDF
    from ocsdf3d.geometry import Box, PointCloud
    from ocsdf3d.grid import ResolutionError
    from ocsdf3d.io import ReadError, WriteError, read, write
    from ocsdf3d.lipschitz.certificate import CertificateError
    from ocsdf3d.metrics import evaluate
    from ocsdf3d.pipeline import fit, reconstruct
    from ocsdf3d.surface import EmptyLevelSetError
    from ocsdf3d.viewer import view
    from ocsdf3d.viewer.probe import RenderingError

__all__ = [
    "reconstruct",
    "fit",
    "read",
    "write",
    "view",
    "evaluate",
    "save",
    "load",
    "SDF",
    "Field",
    "PointCloud",
    "Box",
    "sphere",
    "box",
    "torus",
    "capsule",
    "ReadError",
    "WriteError",
    "CheckpointError",
    "CertificateError",
    "EmptyLevelSetError",
    "ResolutionError",
    "RenderingError",
    "__version__",
]


if not TYPE_CHECKING:  # a type checker knows the names from above, and tells a misspelt one

    def __getattr__(name: str) -> object:
        """Load a public name from its home on first use (PEP 562); afterwards it is an ordinary attribute."""
        if name not in _HOME:
            raise AttributeError(f"module 'ocsdf3d' has no attribute {name!r}; it has {', '.join(_HOME)}")
        value = getattr(import_module(f"ocsdf3d.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
