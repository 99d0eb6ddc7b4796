"""Imports point one way, and the tree keeps its shape.

The rows below are the whole rule: a module imports from lower rows only. The checker walks syntax trees, so
an import hidden inside a function or behind `TYPE_CHECKING` counts as well, and nothing has to be importable.
It is itself checked on small synthetic packages at the end.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

import pytest

# Row → its modules. A string is a module or a package of any depth; a tuple is a chain within the row, each
# link of which may import the links before it. Names of files that do not exist yet are harmless.
ROWS: list[list[str | tuple[str | list[str], ...]]] = [
    [
        "directed",
        "loss",
        "level",
        "memory",
        "devices",
        "replay",
        "cones",
        "ranks",
        "topology",
        "durable",
        "neighbourhoods",
        "sampling",
        ("geometry", "oracle", "query"),
        (
            "cores",
            "lipschitz.activations",
            "lipschitz.layers",
            "lipschitz.network",
            "lipschitz.convolution",
            "lipschitz.workers",
            "lipschitz.moments",
            "lipschitz.stiefel",
            "lipschitz.bound",
            "lipschitz.certificate",
            "lipschitz",
        ),
    ],
    [
        (["io", "frame"], "thinning"),
        ("planes", "noise"),
        ("winding", "tetrahedra", ["sides", "spheres", "skin"]),
        "inscribed",
        ("sparse", "grid", "completeness"),
        "complement",
        "volumes",
        "extremes",
        "container",
        ("errorbars", "clearances"),
    ],
    ["surface", "metrics", "colors", ("cleaning", "sources", "resume", "train", "presets", "pools")],
    [("certified", "csg", ["join", "field"], "holding")],
    [("analytic", "checkpoint", "viewer", "pipeline", "mosaic", "distribute")],
    [("oneclass", "images"), "cli", "bench", "__main__"],
]
NOT_IMPORTED = {
    "cli": {"__main__"},
    "bench": {"cli.bench", "cli.oneclass.bench", "cli.images.bench"},
}  # module → the only others that may import it
LEARNING_ONLY = {"oneclass", "images"}  # these use the learner, not the geometry of surfaces
LEARNING_ROWS = 3  # rows 0, 1 and 2 …
NOT_LEARNING = {"io", "grid", "surface", "viewer"}  # … less these

# Optional or slow to load: imported inside the function that needs them. The exceptions are modules made of
# them.
INSIDE_FUNCTIONS = {
    "open3d": set(),
    "laspy": set(),
    "pye57": set(),
    "pyvista": {"viewer"},
    "sklearn": {"oneclass", "images"},
    "dask": {"distribute"},
    "distributed": {"distribute"},
    "orthogonium": {"images"},
    "pymeshlab": set(),
    "CGAL": set(),
    "implicitlab": set(),
    "pyod": set(),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "misc", "common"}
TOP_LEVEL = {"README.md", "pyproject.toml", "ocsdf3d", "tests", "examples", "assets"}
BESIDE_THEM = {"LICENSE", "constraints.txt", ".gitignore", ".ci"}


class Place(NamedTuple):
    """Where a module stands: row, chain (None outside of chains) and link in that chain."""

    row: int
    chain: int | None
    link: int


def places() -> dict[str, Place]:
    table = {}
    for row, entries in enumerate(ROWS):
        for number, entry in enumerate(entries):
            if isinstance(entry, str):
                table[entry] = Place(row, None, 0)
                continue
            for link, names in enumerate(entry):
                for name in [names] if isinstance(names, str) else names:
                    table[name] = Place(row, number, link)
    return table


PLACES = places()


def unit(module: str) -> str | None:
    """The entry of `PLACES` that governs a module (`cli.mesh` → `cli`), or None when the table knows none."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    found = next((name for name in names if name in PLACES), None)
    # `lipschitz` lists its files one by one, so a file that is not listed is unknown, not "some of
    # lipschitz".
    listed = found is not None and any(name.startswith(f"{found}.") for name in PLACES)
    return None if listed and found != module else found


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package → file; the package's own `__init__` has the empty name."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        named[".".join(parts)] = path
    return named


def imports(tree: ast.Module, *, of: str, is_package: bool, package: str) -> Iterator[tuple[str, bool]]:
    """Absolute dotted name of everything imported, and whether that happens on import of the module
    itself."""
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    here = [package, *([part for part in of.split(".") if part])]
    for node in ast.walk(tree):
        at_top = id(node) not in inner
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                up = node.level - 1 if is_package else node.level
                base = here[: len(here) - up] + base
            yield from ((".".join([*base, alias.name]), at_top) for alias in node.names)


def may_import(importer: str, target: str) -> str | None:
    """None when `importer` may import `target` (both without the package's name), else the reason why not."""
    own, other = unit(importer), unit(target)
    if own is None or other is None:
        return None  # reported once, as an unknown module
    if own == other or importer == "":
        return None
    if other in NOT_IMPORTED:
        return None if importer in NOT_IMPORTED[other] else f"nobody imports {other}"
    a, b = PLACES[own], PLACES[other]
    if (
        own in LEARNING_ONLY
        and other not in LEARNING_ONLY
        and (b.row >= LEARNING_ROWS or other in NOT_LEARNING)
    ):
        return f"{own} uses the learning modules only"
    if b.row < a.row:
        return None
    if a.row == b.row and a.chain is not None and a.chain == b.chain:
        return None if b.link < a.link else f"{other} does not come before {own} in their row"
    free = ("cli", "bench")  # the top row: these may import anything that is left
    return (
        None if own in free else f"{own} is in row {a.row}, {other} in row {b.row}: imports go to lower rows"
    )


def violations(package: Path) -> list[str]:
    """Every breach of the rules above, one readable line each."""
    found = []
    known = modules(package)
    for name, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        shown = path.relative_to(package.parent).as_posix()
        if not (ast.get_docstring(tree) or "").strip():
            found.append(f"{shown}: no module docstring; say what is in it")
        if name.split(".")[-1] in FORBIDDEN_NAMES:
            found.append(f"{shown}: a helper lives with its user, not in a drawer of this name")
        if name and unit(name) is None:
            found.append(f"{shown}: unknown module; give it a row in ROWS of tests/test_architecture.py")
        for target, at_top in imports(
            tree, of=name, is_package=path.stem == "__init__", package=package.name
        ):
            root, *rest = target.split(".")
            if root in INSIDE_FUNCTIONS and at_top and unit(name) not in INSIDE_FUNCTIONS[root]:
                found.append(
                    f"{shown}: {root} is imported at the top; move it into the function that needs it"
                )
            if root != package.name:
                continue
            # `from package.module import thing`: go back from the thing to the module that holds it.
            while rest and ".".join(rest) not in known and not (len(rest) == 1 and unit(rest[0])):
                rest.pop()
            if not rest:
                public = target.removeprefix(f"{package.name}.")
                if name and public != "__version__" and unit(name) not in {"cli", "bench"}:
                    found.append(f"{shown}: imports {target}; name the module that defines it")
                continue
            reason = may_import(name, ".".join(rest))
            if reason:
                found.append(f"{shown}: imports {'.'.join(rest)}: {reason}")
    return found


def shared_names(package: Path) -> list[str]:
    """Modules that bear the name of a public function: `from ocsdf3d import x` would be a riddle.

    The command line is left out on both sides: its files are named after their verbs.
    """
    functions: dict[str, str] = {}
    files = {name: path for name, path in modules(package).items() if unit(name) != "cli"}
    for name, path in files.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                functions.setdefault(node.name, name)
    return [
        f"{name} is a module and a function of {functions[name.split('.')[-1]]}"
        for name in files
        if name.split(".")[-1] in functions
    ]


def test_imports_point_one_way(repository: Path) -> None:
    found = violations(repository / "ocsdf3d")
    assert not found, "\n" + "\n".join(found)


def test_no_module_shares_a_public_functions_name(repository: Path) -> None:
    assert shared_names(repository / "ocsdf3d") == []


def test_top_level_entries_are_the_fixed_ones(repository: Path) -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(listing, cwd=repository, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed; build products cannot be told from sources")
    if run.returncode:
        pytest.skip("not a git checkout; build products cannot be told from sources")
    entries = {PurePath(line).parts[0] for line in run.stdout.splitlines()}
    assert entries <= TOP_LEVEL | BESIDE_THEM, f"unexpected at the top: {entries - TOP_LEVEL - BESIDE_THEM}"
    assert {"pyproject.toml", "ocsdf3d", "tests", "assets", *BESIDE_THEM} <= entries


def test_every_asset_names_its_source(repository: Path) -> None:
    text = (repository / "assets" / "README.md").read_text(encoding="utf-8")
    for path in (repository / "assets").iterdir():
        if (
            path.name != "README.md" and "_ocsdf" not in path.name
        ):  # the latter: a mesh somebody just reconstructed
            assert f"`{path.name}`" in text or f"`{path.name}/`" in text, (
                f"assets/{path.name} has no line there"
            )


# The checker, checked: each rule is broken once, on purpose, and must be seen; the lawful twin must pass.

DOC = '"""What this is."""\n'


def make(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "ocsdf3d"
    for name, text in {"__init__.py": DOC, **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


LAWFUL = {
    "geometry.py": DOC + "import numpy\n",
    "lipschitz/__init__.py": DOC + "from ocsdf3d.lipschitz.bound import certify\n",
    "lipschitz/layers.py": DOC + "from . import activations\n",
    "lipschitz/activations.py": DOC,
    "lipschitz/bound.py": DOC + "from ocsdf3d.lipschitz.layers import Dense\n",
    "io/__init__.py": DOC + "from ocsdf3d.io.ply import read_ply\n",
    "io/ply.py": DOC + "from ..geometry import PointCloud\ndef read_ply(): import open3d\n",
    "surface.py": DOC + "from ocsdf3d.grid import Grid\n",
    "grid.py": DOC,
    "checkpoint.py": DOC + "from ocsdf3d import __version__\nfrom ocsdf3d.field import SDF\n",
    "field.py": DOC + "from ocsdf3d.lipschitz import certify\nfrom ocsdf3d.surface import extract\n",
    "pipeline.py": DOC + "from ocsdf3d import checkpoint\n",
    "viewer.py": DOC + "import pyvista\n",
    "oneclass/__init__.py": DOC + "import sklearn\nfrom ocsdf3d.lipschitz import network\n",
    "bench/__init__.py": DOC + "import ocsdf3d as oc\nfrom ocsdf3d.pipeline import fit\n",
    "cli/__init__.py": DOC + "from ocsdf3d import fit\n",
    "cli/bench.py": DOC + "from ocsdf3d.bench import data_folder\n",  # that verb alone
    "__main__.py": DOC + "from ocsdf3d.cli import main\n",
}


def test_checker_accepts_a_lawful_package(tmp_path: Path) -> None:
    package = make(tmp_path, LAWFUL)
    assert violations(package) == []
    assert shared_names(package) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("geometry.py", "from ocsdf3d.io import read", "io in row 1"),
        ("geometry.py", "def f():\n    from .field import SDF", "field in row 3"),
        ("geometry.py", "import ocsdf3d.pipeline as p", "pipeline in row 4"),
        ("loss.py", "from ocsdf3d import geometry", "geometry in row 0"),
        ("lipschitz/activations.py", "from .layers import Dense", "does not come before"),
        ("lipschitz/bound.py", "from ocsdf3d.lipschitz import Dense", "does not come before"),
        ("lipschitz/extra.py", "", "unknown module"),
        ("analytic.py", "from ocsdf3d.checkpoint import load", "does not come before"),
        ("viewer.py", "from ocsdf3d.pipeline import fit", "does not come before"),
        ("pipeline.py", "from ocsdf3d.bench import data_folder", "nobody imports bench"),
        ("pipeline.py", "from ocsdf3d.cli import main", "nobody imports cli"),
        ("cli/__init__.py", "from ocsdf3d.bench.survey import run", "nobody imports bench"),
        ("oneclass/toy.py", "from ocsdf3d.grid import sample", "learning modules only"),
        ("oneclass/toy.py", "from ocsdf3d.pipeline import fit", "learning modules only"),
        ("oneclass/toy.py", "from ocsdf3d.images import data", "does not come before"),
        ("field.py", "from ocsdf3d import reconstruct", "name the module that defines it"),
        ("io/ply.py", "import open3d.io", "move it into the function"),
        ("grid.py", "import pyvista", "move it into the function"),
        ("extra.py", "", "unknown module"),
        ("io/utils.py", "", "not in a drawer"),
    ],
)
def test_checker_sees(tmp_path: Path, file: str, text: str, expected: str) -> None:
    found = violations(make(tmp_path, {**LAWFUL, file: DOC + text + "\n"}))
    assert len(found) == 1, found  # this one and nothing else
    assert found[0].startswith(f"ocsdf3d/{file}: ")
    assert expected in found[0]


def test_checker_sees_a_missing_docstring(tmp_path: Path) -> None:
    package = make(tmp_path, {**LAWFUL, "grid.py": "Grid = 1\n"})
    assert violations(package) == ["ocsdf3d/grid.py: no module docstring; say what is in it"]


def test_checker_sees_a_module_named_like_a_function(tmp_path: Path) -> None:
    package = make(tmp_path, {**LAWFUL, "surface.py": DOC + "def grid(): return 1\n"})
    assert shared_names(package) == ["grid is a module and a function of surface"]
    verbs = {**LAWFUL, "cli/read_ply.py": DOC, "cli/mesh.py": DOC + "def grid(): return 1\n"}
    assert shared_names(make(tmp_path / "verbs", verbs)) == []
