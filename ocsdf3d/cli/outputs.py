"""Files a verb writes: checked before the work, written together at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import warn

if TYPE_CHECKING:
    import trimesh

    from ocsdf3d.geometry import Box

Writer = Callable[[Path], object]
FIELD_EXTENSIONS = (".safetensors",)


def check(
    path: str | os.PathLike[str], *, inputs: Sequence[str], extensions: Sequence[str] | None = None
) -> Path:
    """Path of an output, checked before any work is done.

    Parameters
    ----------
    path : path
        Where the verb will write.
    inputs : sequence of path
        Files that the verb reads: an output must not be one of them.
    extensions : sequence of str, optional
        Extensions that can be written, with the dot; those of meshes when None.

    Raises
    ------
    ValueError or OSError
        The extension cannot be written, `path` is a folder or an input, or its folder is missing or locked.
    """
    from ocsdf3d import io

    checked = (
        io.check_writable(path)
        if extensions is None
        else io.check_writable(path, extensions=tuple(extensions))
    )
    for name in inputs:
        if same_file(checked, name):
            raise ValueError(f"{checked}: the output would replace the input; choose another -o")
    if os.path.lexists(checked):
        warn(f"{checked} exists and will be overwritten")
    return checked


def check_input(path: str) -> Path:
    """Path of an input that exists and is a file, so that the most common mistake is named first."""
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if found.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; give one file")
    return found


def same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether two paths name one file; neither has to exist."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def write_all(jobs: Sequence[tuple[Path, Writer]]) -> None:
    """Write several files so that a failure leaves none: each beside its place, then all are moved.

    Parameters
    ----------
    jobs : sequence of (path, writer)
        `writer(path)` writes one file; the path it gets has the name of the final one, so its errors do too.
    """
    from ocsdf3d.durable import draft_of, put_in_place

    with ExitStack() as drafts:
        staged = []
        for path, write in jobs:
            draft = drafts.enter_context(draft_of(path))
            write(draft)
            staged.append((draft, path))
        for draft, path in staged:
            put_in_place(draft, path)


def rehearse(path: Path, box: Box) -> None:
    """Write a mesh of `box` where `path` will be, and remove it: what disk, folder or format refuses,
    they refuse now and not after training.

    Raises
    ------
    OSError
        Among others: the format's float32 cannot hold a shape this far from the origin.
    """
    import trimesh

    from ocsdf3d import io
    from ocsdf3d.durable import draft_of

    if box.longest > 0.0:
        with draft_of(path) as draft:
            io.write(draft, trimesh.creation.box(bounds=(box.lower, box.upper)))


def mesh_figures(mesh: trimesh.Trimesh) -> dict[str, Any]:
    """What every verb that meshes says of its mesh, by the names of the JSON object."""
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": bool(mesh.is_watertight),
        "euler": int(mesh.euler_number),
        "evaluations": mesh.metadata["evaluations"],
        "dense_evaluations": mesh.metadata["dense_evaluations"],
        "receipt": receipt(mesh),
    }


def receipt(mesh: trimesh.Trimesh) -> dict[str, Any]:
    """What was proved while the mesh was made, ready for JSON; it also goes into a saved field's history."""
    names = ("lipschitz", "rounding", "resolution", "evaluations", "dense_evaluations", "blocks", "undecided")
    return {name: mesh.metadata[name] for name in (*names, "completeness")}


def complete_lines(figures: dict[str, Any]) -> list[str]:
    """What `--complete` proved, for people."""
    proof, resolution = figures["receipt"]["completeness"], figures["receipt"]["resolution"]
    if proof is None:
        return []
    return [
        f"complete: at {resolution} nodes no piece of the surface larger than {proof['eps']:g} keeps clear of"
        f" the mesh ({proof['clusters']} smaller places undecided, the largest {proof['largest']:.3g} wide)"
    ]


def mesh_line(figures: dict[str, Any]) -> str:
    """The same for people, in one line."""
    closed = "watertight" if figures["watertight"] else "NOT watertight"
    return (
        f"{figures['mesh']}: {figures['vertices']:,} vertices, {figures['faces']:,} faces, {closed},"
        f" Euler characteristic {figures['euler']}"
    )
