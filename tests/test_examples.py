"""Every example runs, draws what it says, and is one page; the gallery holds their pictures and no others."""

from __future__ import annotations

import ast
import dataclasses
import re
import runpy
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import ocsdf3d as oc
from ocsdf3d import images, oneclass, presets
from ocsdf3d.lipschitz.network import NetworkConfig
from ocsdf3d.viewer import probe

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((REPOSITORY / "examples").glob("[0-9][0-9]_*.py"))
GALLERY = REPOSITORY / "assets" / "gallery"
DETECTORS = {"07_oneclass": oneclass, "08_images": images}  # rows and images: no shape
WITHOUT_VTK = {"04_trace", *DETECTORS}
PAGE = 90  # lines
LARGEST = 250_000  # bytes of a picture: the README shows them all


def picture_of(path: Path) -> tuple[str, tuple[int, int]]:
    """Name and size of an example's picture, read without importing what it draws with."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "(PICTURE, SIZE)":
            name, (width, height) = ast.literal_eval(node.value)
            return name, (width, height)
    raise AssertionError(f"{path.name} does not say PICTURE, SIZE = ...")


def pixels_of(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"), np.float64)


@pytest.fixture(scope="session")
def small() -> presets.Preset:
    """A kitten that is one, though a rough one, in two seconds: the preset `fast` takes half a minute."""
    fast = presets.PRESETS["fast"]
    return dataclasses.replace(
        fast,
        network=NetworkConfig(inputs=3, width=32, depth=4),
        solid=dataclasses.replace(fast.solid, steps=200, batch=512, refresh=100),
        pool=20_000,
    )


@pytest.fixture(scope="session")
def kitten(small: presets.Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved field for all examples that take one."""
    path = tmp_path_factory.mktemp("kitten") / "kitten.safetensors"
    oc.save(path, oc.fit(REPOSITORY / "assets" / "kitten.xyz", points=800, preset=small, seed=0))
    return path


class Drawn(NamedTuple):
    """What an example left behind."""

    code: int
    folder: Path
    said: str


@pytest.fixture(scope="session")
def drawn(
    small: presets.Preset, kitten: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Drawn]:
    """Run an example of that number, once, and return what came of it."""

    @cache
    def of(number: str) -> Drawn:
        path = next(path for path in EXAMPLES if path.name.startswith(number))
        if path.stem not in WITHOUT_VTK:
            skip_unless_it_can_draw()
        folder, said = tmp_path_factory.mktemp(path.stem), StringIO()
        # the field of a spoilt cloud is what 06 is about, so it trains its own
        own = number == "06" or path.stem in DETECTORS
        options = ["--fast", "-o", str(folder), *([] if own else ["--field", str(kitten)])]
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            patch.setitem(presets.PRESETS, "fast", small)
            code = runpy.run_path(str(path))["main"](options)
        return Drawn(code, folder, said.getvalue())

    return of


def skip_unless_it_can_draw() -> None:
    reason = probe.why_not()
    if reason is not None:
        pytest.skip(f"this machine cannot draw: {reason}")
    probe.prefer_egl()


# ------------------------------------------------------------------------------------------------- drawing


def check_picture(path: Path, size: tuple[int, int], panels: int) -> None:
    """Of the stated size, on white, and with something in every panel above its caption."""
    pixels = pixels_of(path)
    assert pixels.shape == (size[1], size[0], 3)
    assert (pixels[:8, :8] == 255.0).all(), "the background is white"
    for panel in np.array_split(pixels, panels, axis=1):
        above = panel[: size[1] * 3 // 4]  # captions are below
        assert above.std() > 20.0  # white alone has 0; the palest panel, of points, has 35
        assert 0.05 < (above < 250.0).any(axis=2).mean() < 0.75  # 0.15 to 0.66; the rest is margin


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_draws_what_it_says(path: Path, drawn: Callable[[str], Drawn]) -> None:
    found = drawn(path.name[:2])
    assert found.code == 0
    assert found.said.strip(), "numbers are printed, too"
    picture, size = picture_of(path)
    check_picture(found.folder / picture, size, 3 if path.name.startswith("02") else 2)


def test_a_picture_of_captions_alone_is_seen_as_blank(tmp_path: Path) -> None:
    picture = Image.new("RGB", (1200, 620), "white")
    ImageDraw.Draw(picture).text((20, 580), "closed mesh", "black", ImageFont.load_default(20))
    picture.save(tmp_path / "blank.png")
    with pytest.raises(AssertionError):
        check_picture(tmp_path / "blank.png", (1200, 620), 2)


def test_offsets_are_closed_and_nested(drawn: Callable[[str], Drawn]) -> None:
    folder = drawn("02").folder
    meshes = [oc.read(folder / f"offset_{name}.ply") for name in ("-0.03", "+0.00", "+0.03")]
    assert all(mesh.is_watertight for mesh in meshes)
    assert 0.0 < meshes[0].volume < meshes[1].volume < meshes[2].volume


def test_what_is_cut_and_joined_is_closed_and_certified(drawn: Callable[[str], Drawn]) -> None:
    assert "closed: True" in drawn("03").said
    assert "'certified': True" in drawn("03").said


def test_every_ray_is_resolved(drawn: Callable[[str], Drawn]) -> None:
    assert drawn("04").said.startswith("100.00% of the rays resolved")


def test_most_strays_are_found_and_few_others_accused(drawn: Callable[[str], Drawn]) -> None:
    numbers = [int(word.replace(",", "")) for word in re.findall(r"\b\d[\d,]*(?= )", drawn("06").said)][:4]
    found, strays, accused, others = numbers
    assert (strays, others) == (157, 3000)
    # Some 5 % of the strays lie within 0.01 of the surface and cannot be told; a better field than this
    # rough one, which finds 143 and accuses 48, accuses nobody.
    assert found > 0.8 * strays
    assert accused < 0.1 * others


def test_most_rows_are_accepted_and_every_verdict_has_a_ball(drawn: Callable[[str], Drawn]) -> None:
    said = drawn("07").said
    accepted, slope = (float(word) for word in re.findall(r"\d+\.\d+", said)[:2])
    assert accepted > 85.0  # 96 of this draft; chance decides 3 of 2,000 rows
    assert 0.99 < slope <= 1.0
    proved, asked = re.findall(r"(\d+) of (\d+) verdicts", said)[0]
    assert int(asked) == 120
    assert int(proved) >= 118  # a row within rounding of the line has none


def test_threes_are_told_from_other_digits_and_that_is_proved(drawn: Callable[[str], Drawn]) -> None:
    kept, passed, clean, proved = (float(word) for word in re.findall(r"\d+\.\d+", drawn("08").said))
    assert kept > 80.0  # 90.9 of this draft: 30 of 33
    assert passed < 5.0  # 0.7
    assert 0.85 < proved < clean <= 1.0  # 0.911 and 0.995


def test_a_draft_stays_out_of_the_gallery(
    kitten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in GALLERY.iterdir()}
    main = runpy.run_path(str(REPOSITORY / "examples" / "04_trace.py"))["main"]
    assert main(["--fast", "--field", str(kitten)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace.png"]
    assert {path.name: path.stat().st_mtime_ns for path in GALLERY.iterdir()} == before


# ----------------------------------------------------------------------------------------------- redrawing


def test_render_trains_once_and_redraws_what_is_asked_for(
    small: presets.Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_it_can_draw()
    monkeypatch.setitem(presets.PRESETS, "fast", small)
    main = runpy.run_path(str(REPOSITORY / "examples" / "render.py"))["main"]
    assert main(["04", "--fast", "-o", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace.png"]


@pytest.mark.parametrize("options", [["--fast"], ["77", "-o", "elsewhere"]])
def test_render_refuses_drafts_in_the_gallery_and_numbers_that_are_none(options: list[str]) -> None:
    main = runpy.run_path(str(REPOSITORY / "examples" / "render.py"))["main"]
    with pytest.raises(SystemExit) as end:
        main(options)
    assert end.value.code == 2


def test_the_gallery_is_what_the_examples_draw() -> None:
    listed = (REPOSITORY / "assets" / "README.md").read_text(encoding="utf-8")
    said = [picture_of(path) for path in EXAMPLES]
    names = [name for name, _ in said]
    assert len(set(names)) == len(names)
    assert sorted(path.name for path in GALLERY.iterdir()) == sorted(names)
    for path, (name, size) in zip(EXAMPLES, said, strict=True):
        assert f"| `gallery/{name}` | `examples/{path.name}` |" in listed
        assert pixels_of(GALLERY / name).shape == (size[1], size[0], 3)
        assert (GALLERY / name).stat().st_size <= LARGEST, name


# ------------------------------------------------------------------------------------------------ one page


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_one_page_that_says_what_you_will_see_and_how_long_it_takes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= PAGE
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"You will see `{picture_of(path)[0]}`" in docstring
    assert re.search(r"\b(second|minute)s?\b", docstring)
    assert "--fast" in docstring
    options = {
        word.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "parser.add_argument"
        for word in node.args
        if isinstance(word, ast.Constant)
    }
    assert options == {"--fast", "-o", "--output"} | (set() if path.stem in DETECTORS else {"--field"})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_uses_public_names_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    standard = {"__future__", "argparse", "math", "pathlib"}
    drawing = {"PIL"} if path.stem in WITHOUT_VTK else {"PIL", "pyvista"}
    ours: ModuleType = DETECTORS.get(path.stem, oc)
    data = {"sklearn.datasets"} if path.stem == "08_images" else set()
    assert imported <= standard | drawing | data | {"numpy", ours.__name__}
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "oc"
    }
    names |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == ours.__name__
        for alias in node.names
    }
    assert names
    assert names <= set(ours.__all__)
