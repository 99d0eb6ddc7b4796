"""What can be refused before the work: a device that is absent, a grid too large for memory, a bad field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import fail

if TYPE_CHECKING:
    import argparse

    import trimesh

    from ocsdf3d.csg import Field
    from ocsdf3d.geometry import Box, PointCloud


def device(name: str) -> None:
    """Refuse `--device cuda` where torch sees no CUDA device.

    Raises
    ------
    ValueError
        CUDA was asked for and is absent.
    """
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no CUDA device here. Use --device cpu, or auto.")


def dask(workers: int, scheduler: str | None) -> bool:
    """Whether work can be handed to other processes, if it is to be; if not, what to install was said."""
    from ocsdf3d import distribute

    if workers > 1 or scheduler is not None:
        try:
            distribute.require_dask()
        except ImportError as error:
            fail(f"{error} Use --workers 1.")
            return False
    return True


def drawing(*, window: bool, instead: str) -> bool:
    """Whether this machine can draw, and open a window if one is wanted; if not, the reason was said."""
    from ocsdf3d.viewer import probe

    if window and not probe.has_display():
        fail(f"no display to open a window on. Use {instead}.")
        return False
    try:
        probe.require_rendering()
    except probe.RenderingError as error:
        fail(str(error))
        return False
    return True


def box_of(shape: trimesh.Trimesh | PointCloud) -> Box:
    """Box of what was read."""
    from ocsdf3d.geometry import Box, PointCloud

    return shape.box if isinstance(shape, PointCloud) else Box.of(shape.vertices)


def domain_of(shape: trimesh.Trimesh | PointCloud, preset: str) -> Box:
    """Box that the field of `shape` will be meshed in; for a mesh, as far as its vertices tell."""
    from ocsdf3d.frame import Frame
    from ocsdf3d.geometry import PointCloud
    from ocsdf3d.presets import PRESETS

    points = shape.points if isinstance(shape, PointCloud) else shape.vertices
    chosen = PRESETS[preset]
    return box_of(shape).expanded(chosen.grow * Frame.around(points, chosen.frame).scale)


def memory(box: Box, resolution: int, *, dense: bool = False) -> None:
    """Refuse a grid over `box` that needs more memory than is free.

    Raises
    ------
    ResolutionError
        With the figures and the largest resolution that fits.
    """
    from ocsdf3d import grid

    if box.longest > 0.0:  # points without extent are refused later, by what they are
        grid.check_memory(box, resolution, dense=dense)


def saved_field(path: str, args: argparse.Namespace) -> Field:
    """A saved field, on the device and in the arithmetic that `--device` and `--dtype` ask for."""
    from ocsdf3d import checkpoint

    found = checkpoint.load(path, device=args.device)
    return found if args.dtype is None else found.astype(args.dtype)
