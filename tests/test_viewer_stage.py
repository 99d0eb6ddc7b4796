"""What every control does to the picture, drawn off-screen from shapes whose surfaces are known."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image, ImageSequence

import ocsdf3d as oc
from ocsdf3d.analytic import box, sphere
from ocsdf3d.io import WriteError
from ocsdf3d.lipschitz.network import LipschitzNetwork, NetworkConfig
from ocsdf3d.surface import EmptyLevelSetError
from ocsdf3d.train import TrainConfig, learn
from ocsdf3d.viewer import figures, probe
from ocsdf3d.viewer.figures import SHOWN, curves_figure, slice_figure, turntable
from ocsdf3d.viewer.levels import WIDEST, Levels
from ocsdf3d.viewer.probe import RenderingError
from ocsdf3d.viewer.scene import COLORINGS, colors_of, scene_of
from ocsdf3d.viewer.views import AXES, LAYOUTS, UPS

WHY_NOT = probe.why_not()
if WHY_NOT is not None:
    pytest.skip(f"nothing can be drawn here: {WHY_NOT}", allow_module_level=True)
probe.prefer_egl()

import pyvista  # noqa: E402

from ocsdf3d.viewer.desktop import KEYS, Desktop  # noqa: E402
from ocsdf3d.viewer.stage import BAR, GLASS, SLICE_TITLE, Stage  # noqa: E402

SIZE = WIDTH, HEIGHT = 240, 180
MIDDLE = np.s_[HEIGHT // 6 : 3 * HEIGHT // 5, WIDTH // 3 : 3 * WIDTH // 4]  # between legends, axes and scale
ABOVE = np.s_[: 7 * HEIGHT // 10]  # of axes, scale bar, slider and status, whose letters depend on fractions
N = 24  # nodes of surfaces: cells of 0.08
R = 0.9
CENTRE = np.array([5.0, -2.0, 9.0])
BALL = sphere(R, CENTRE)
ERROR = (2.4 * R / (N - 1)) ** 2 / (8.0 * 0.6)  # chord against arc of a ball of 0.7, a little below
WAYS = np.random.default_rng(0).normal(size=(200, 3))
CLOUD = CENTRE + 1.1 * R * WAYS / np.linalg.norm(WAYS, axis=1)[:, None]
TRUTH = sphere(1.05 * R, CENTRE).mesh(N)
X, Z = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
USER = CENTRE + np.array([3.0, 1.0, 0.5])  # where somebody took the camera

Staged = Callable[..., Stage]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept grids of 32 nodes, cells of 0.07: an eighth of the time."""
    monkeypatch.setattr("ocsdf3d.viewer.stage.Levels", partial(Levels, coarse=32))


@pytest.fixture
def staged() -> Iterator[Staged]:
    """(things, options) → a stage, closed at the end; without any the ball, a cloud and the truth around
    it."""
    made: list[Stage] = []

    def stage(*things: Any, **options: Any) -> Stage:
        given = {name: options.pop(name, None) for name in ("cloud", "reference")}
        if not things:
            things, given = (BALL,), {"cloud": CLOUD, "reference": TRUTH}
        offset = options.get("offset", 0.0)
        scene = scene_of(things, **given, offset=offset, resolution=N)
        made.append(Stage(scene, off_screen=True, size=SIZE, resolution=N, **options))
        return made[-1]

    yield stage
    for one in made:
        one.close()


def changed(one: np.ndarray, other: np.ndarray) -> int:
    """How many pixels differ by more than 16 of 255, which dithering does not."""
    return int((np.abs(one.astype(int) - other.astype(int)).max(axis=2) > 16).sum())


def radii(stage: Stage, name: str = "surface") -> np.ndarray:
    """Distances of a shape's vertices from the centre, as they are handed to VTK."""
    points = stage.plotter.actors[name].mapper.dataset.points
    assert len(points) == len(stage.shape_of(name).vertices)
    return np.linalg.norm(points - CENTRE, axis=1)


def camera(stage: Stage) -> np.ndarray:
    """Where it is, what it looks at, what it holds upright, how wide it sees."""
    seen = stage.plotter.camera
    return np.array([*seen.position, *seen.focal_point, *seen.up, seen.view_angle])


def status(stage: Stage) -> str:
    """The line at the lower right."""
    return str(stage.plotter.actors["status"].GetText(1))


def drawn(stage: Stage) -> set[str]:
    """Names of the actors, less VTK's own (axes, legends)."""
    return {name for name in stage.plotter.actors if not name.startswith("vtk")}


# ---------------------------------------------------------------------------------------------- the level


@pytest.mark.parametrize("fine", [False, True], ids=["coarse", "fine"])
def test_moving_the_level_moves_the_surface_by_it(staged: Staged, fine: bool) -> None:
    stage = staged()
    pictures = [stage.picture()]
    for level in (-0.15, 0.12):
        stage.set_level(level, fine=fine)
        assert np.abs(radii(stage) - (R + level)).max() < ERROR
        assert stage.level == level
        assert stage.shape_of("surface").is_watertight
        pictures.append(stage.picture())
    assert min(changed(pictures[i], pictures[j]) for i, j in ((0, 1), (1, 2), (0, 2))) > 500
    assert stage.shape_of("cloud") is stage.scene["cloud"].shape  # nothing else moves
    assert np.abs(radii(stage, "reference") - 1.05 * R).max() < ERROR


def test_the_fine_surface_is_what_is_written(staged: Staged) -> None:
    stage = staged(offset=0.1)
    assert np.abs(radii(stage) - (R + 0.1)).max() < ERROR
    stage.set_level(-0.1, fine=True)
    mesh = BALL.mesh(resolution=N, offset=-0.1)
    assert stage.shape_of("surface").vertices.tobytes() == mesh.vertices.tobytes()


@pytest.mark.parametrize("coloring", COLORINGS)
def test_the_same_level_is_the_same_picture_wherever_one_comes_from(staged: Staged, coloring: str) -> None:
    stage = staged(coloring=coloring)
    stage.set_level(0.0, fine=True)
    before = stage.picture()
    for level in (-0.17, 0.17):
        stage.set_level(level, fine=True)
        assert changed(before, stage.picture()) > 500
    stage.set_level(0.0, fine=True)
    assert changed(before, stage.picture()) == 0


def test_the_status_tells_level_and_colouring(staged: Staged) -> None:
    stage = staged()
    assert status(stage) == "level 0 units"
    stage.set_level(0.123456, fine=False)
    assert status(stage) == "level 0.1235 units"
    stage.set_coloring("error")
    assert status(stage) == "level 0.1235 units, coloured by error"
    assert status(staged(TRUTH)) == ""  # without a field there is no level


def test_a_field_without_a_surface_at_a_level_is_told_and_the_others_move(staged: Staged) -> None:
    stage = staged(BALL, sphere(0.3, CENTRE))
    for fine in (False, True):
        stage.set_level(-0.4, fine=fine)
        assert stage.note == "surface 2 has no surface at -0.4"
        assert stage.note in status(stage)
        assert np.abs(radii(stage) - 0.5).max() < 2.0 * ERROR
        assert np.abs(radii(stage, "surface 2") - 0.3).max() < ERROR  # the one that it had
        stage.set_level(0.0, fine=fine)
        assert stage.note == ""
        assert status(stage) == "level 0 units"


def test_limits_suit_every_field(staged: Staged) -> None:
    stage = staged(BALL, sphere(0.3, CENTRE))
    assert stage.limits == pytest.approx((-0.06, 0.06))  # a tenth of 0.6, the smaller ball's box
    for level in stage.limits:
        stage.set_level(level, fine=False)
        assert stage.note == ""


def test_a_stage_at_a_level_that_there_is_not_is_refused(staged: Staged) -> None:
    with pytest.raises(EmptyLevelSetError):
        staged(BALL, offset=-1.0)


# ---------------------------------------------------------------------------------------------- the camera


def test_the_camera_stays_while_anything_changes_and_returns(staged: Staged) -> None:
    stage = staged()
    stage.picture()
    first = camera(stage)
    stage.plotter.camera.position = USER
    stage.plotter.camera.focal_point = CENTRE + 0.1
    user = camera(stage)
    assert np.abs(user - first).max() > 0.5
    changes: list[Callable[[], None]] = [
        lambda: stage.set_level(0.15, fine=False),
        lambda: stage.set_level(-0.15, fine=True),
        *[lambda name=name: stage.set_coloring(name) for name in COLORINGS],  # type: ignore[misc]
        lambda: stage.set_plane(CENTRE, X),
        lambda: stage.set_plane(CENTRE + 0.2, (1.0, 1.0, 0.0)),
        lambda: stage.set_level(0.1, fine=False),
        lambda: stage.set_visible("surface", False),
        lambda: stage.replace("reference", trimesh.creation.box(extents=(9.0, 9.0, 9.0))),
        lambda: stage.replace("reference", TRUTH),
        lambda: stage.set_visible("surface", True),
        lambda: stage.hide_plane(),
        lambda: stage.set_level(0.0, fine=True),
    ]
    for change in changes:
        change()
        stage.plotter.render()
        assert (camera(stage) == user).all()
    stage.reset()
    assert camera(stage) == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("up", UPS)
def test_the_camera_stands_where_it_says_with_everything_in_sight(staged: Staged, up: str) -> None:
    stage = staged(up=up)
    seen = stage.plotter.camera
    way = np.array(seen.position) - seen.focal_point
    assert way / np.linalg.norm(way) == pytest.approx(UPS[up] / np.linalg.norm(UPS[up]), abs=1e-9)
    assert np.array(seen.up) @ AXES[up] > 0.7  # upright: it looks down by less than 45°
    picture = stage.picture()
    rim = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3)])
    assert (rim == 255).all()
    assert changed(picture, np.full_like(picture, 255)) > 0.1 * picture[..., 0].size


def test_a_scene_moved_elsewhere_is_the_same_picture(staged: Staged) -> None:
    """CENTRE is written in float64 and drawn in float32, whose last place at 9 is a 1e-4 of a pixel."""
    pictures = []
    for by in (np.zeros(3), CENTRE):
        stage = staged(sphere(R, by), cloud=CLOUD - CENTRE + by, plane=(by, X))
        pictures.append(stage.picture()[ABOVE])
    assert changed(*pictures) < 20  # of 30,000: a dot of the cloud may round to the neighbouring pixel


# ---------------------------------------------------------------------------------------------- structures


@pytest.mark.parametrize("name", ["cloud", "surface", "reference"])
def test_hiding_takes_pixels_away_and_showing_brings_them_back(staged: Staged, name: str) -> None:
    stage = staged()
    before = stage.picture()
    stage.set_visible(name, False)
    assert changed(before, stage.picture()) > 100
    stage.set_visible(name, True)
    assert changed(before, stage.picture()) == 0


def test_what_is_hidden_stays_hidden_until_it_is_shown(staged: Staged) -> None:
    stage = staged()
    for structure in stage.scene.structures:
        stage.set_visible(structure.name, False)
    stage.set_level(0.1, fine=False)
    stage.set_level(0.1, fine=True)
    stage.set_coloring("normals")
    assert (stage.picture()[MIDDLE] == 255).all()
    stage.set_plane(CENTRE, X)
    stage.hide_plane()
    assert (stage.picture()[MIDDLE] == 255).all()
    stage.set_layout("side")
    assert not any(stage.plotter.actors[s.name].visibility for s in stage.scene.structures)
    stage.set_layout("overlay")
    stage.set_visible("surface", True)
    assert (stage.picture()[MIDDLE] != 255).any()


def test_an_unknown_structure_cannot_be_hidden(staged: Staged) -> None:
    with pytest.raises(KeyError, match="no structure 'mesh'; there are cloud, surface, reference"):
        staged().set_visible("mesh", False)


def test_another_shape_under_the_same_name(staged: Staged) -> None:
    stage = staged()
    before = stage.picture()
    stage.replace("reference", trimesh.creation.icosphere(radius=0.5 * R).apply_translation(CENTRE))
    assert radii(stage, "reference") == pytest.approx(0.5 * R)
    assert changed(before, stage.picture()) > 100
    stage.replace("reference", TRUTH)
    assert changed(before, stage.picture()) == 0


@pytest.mark.parametrize("up", UPS)
def test_side_by_side_is_apart_in_a_level_row_in_order(staged: Staged, up: str) -> None:
    stage = staged(up=up)
    overlaid = stage.picture()
    names = ["cloud", "surface", "reference"]

    def positions() -> np.ndarray:
        return np.array([stage.plotter.actors[name].position for name in names])

    assert (positions() == 0.0).all()
    stage.set_layout("side")
    step = positions()[1]
    assert positions() == pytest.approx(np.outer([0.0, 1.0, 2.0], step))
    assert step @ AXES[up] == pytest.approx(0.0, abs=1e-12)
    right = np.cross(AXES[up], UPS[up])
    assert step @ right > 0.0  # the second is on the right of the first
    assert np.linalg.norm(step) > 2.2 * R  # the widest, the cloud's ball
    assert changed(overlaid, stage.picture()) > 1000
    stage.set_layout("overlay")
    assert (positions() == 0.0).all()
    assert changed(overlaid, stage.picture()) == 0


@pytest.mark.parametrize("first", LAYOUTS)
def test_the_truth_is_faint_only_where_it_covers_something(staged: Staged, first: str) -> None:
    stage = staged(layout=first)
    for layout in (first, *LAYOUTS, *LAYOUTS):
        stage.set_layout(layout)
        opacity = stage.plotter.actors["reference"].prop.opacity
        assert opacity == 1.0 if layout == "side" else opacity < 0.5
        assert stage.plotter.actors["surface"].prop.opacity == 1.0


def test_a_layout_from_the_start_is_the_layout_chosen_later(staged: Staged) -> None:
    one, other = staged(BALL, TRUTH, layout="side"), staged(BALL, TRUTH)
    other.set_layout("side")
    assert changed(one.picture(), other.picture()) == 0


# ---------------------------------------------------------------------------------------------- the slice


def test_a_slice_comes_and_goes(staged: Staged) -> None:
    stage = staged()
    before, actors = stage.picture(), drawn(stage)
    stage.set_plane(CENTRE, X)
    sliced = stage.picture()
    assert changed(before, sliced) > 1000
    added = drawn(stage) - actors
    assert added == {"slice", "isolines", "slice level", "surface, before the slice"}
    assert SLICE_TITLE in stage.plotter.scalar_bars
    stage.hide_plane()
    assert stage.plane is None
    assert drawn(stage) == actors
    assert len(stage.plotter.scalar_bars) == 0
    assert changed(before, stage.picture()) == 0
    stage.hide_plane()  # once more does nothing
    assert changed(before, stage.picture()) == 0
    assert changed(sliced, staged(plane=(CENTRE, X)).picture()) == 0  # as one from the start


def test_the_sheet_shows_the_field(staged: Staged) -> None:
    stage = staged()
    normal = np.array([1.0, -2.0, 0.5])
    stage.set_plane(CENTRE + 0.1, normal)
    stage.picture()  # VTK computes what is drawn when it draws
    sheet = stage.plotter.actors["slice"].mapper.dataset
    assert np.abs((sheet.points - CENTRE - 0.1) @ normal).max() < 1e-12
    assert sheet[SLICE_TITLE] == pytest.approx(BALL(np.array(sheet.points)), abs=1e-12)
    low, high = stage.plotter.actors["slice"].mapper.scalar_range
    assert -low == high >= np.abs(sheet[SLICE_TITLE]).max()  # 0 is the middle of the colours


def test_the_bold_line_is_the_level_also_after_it_moved(staged: Staged) -> None:
    stage = staged(plane=(CENTRE, X))
    cell = 2.0 * R / 127  # of the slice: linear between its nodes
    for level in (0.0, 0.13, -0.16):
        stage.set_level(level, fine=False)
        stage.set_level(level, fine=True)
        line = np.array(stage.plotter.actors["slice level"].mapper.dataset.points, np.float64)
        assert np.abs(BALL(line) - level).max() < cell**2 / (8.0 * 0.6) + 1e-5  # its points are float32


def test_isolines_are_at_round_levels_and_not_at_the_bold_one(staged: Staged) -> None:
    stage = staged(plane=(CENTRE, X))
    lines = np.array(stage.plotter.actors["isolines"].mapper.dataset.points, np.float64)
    # |φ| up to 0.9 in steps of 0.2; near the centre, where φ is a cone, a chord is off by half a cell
    levels = BALL(lines) / 0.2
    away = np.abs(levels - np.round(levels))[levels > -4.0]
    assert away.max() < 1e-2
    assert np.abs(levels).min() > 0.5


@pytest.mark.parametrize("normal", [X, (-1.0, 0.0, 0.0), Z, (0.3, 1.0, -0.2)])
def test_before_the_slice_is_glass_and_behind_it_is_not(staged: Staged, normal: Any) -> None:
    stage = staged(BALL)
    origin = CENTRE + 0.1
    stage.set_plane(origin, normal)
    towards = np.sign(np.array(normal) @ UPS["z"]) * np.array(normal)
    for name, side, opacity in (("surface", -1.0, 1.0), ("surface, before the slice", 1.0, GLASS)):
        actor = stage.plotter.actors[name]
        points = np.array(actor.mapper.dataset.points, np.float64)
        assert (side * ((points - origin) @ towards)).min() > -1e-5  # cut in float32
        assert (side * ((points - origin) @ towards)).max() > 0.3
        assert actor.prop.opacity == opacity
    stage.set_visible("surface", False)
    assert not any(stage.plotter.actors[name].visibility for name in ("surface", "surface, before the slice"))
    assert stage.plotter.actors["slice"].visibility


def test_a_plane_beside_the_surface_leaves_it_whole(staged: Staged) -> None:
    stage = staged(BALL)
    towards = np.array([1.0, 0.0, 0.0])  # the camera looks from there
    stage.set_plane(CENTRE + 2.0 * R * towards, towards)
    assert "surface, before the slice" not in stage.plotter.actors
    assert radii(stage).max() == pytest.approx(R, abs=ERROR)
    assert "slice level" not in stage.plotter.actors  # φ is above 0.9 there
    stage.set_plane(CENTRE - 2.0 * R * towards, towards)  # all of it is before this one
    assert "surface" not in stage.plotter.actors
    stage.set_plane(CENTRE, towards)
    assert {"surface", "slice level"} < drawn(stage)


def test_a_slice_stands_where_its_surface_stands(staged: Staged) -> None:
    stage = staged(plane=(CENTRE, X))
    for layout in ("side", "overlay"):
        stage.set_layout(layout)
        place = stage.plotter.actors["surface"].position
        for name in ("surface, before the slice", "slice", "isolines", "slice level"):
            assert stage.plotter.actors[name].position == place
        assert any(place) is (layout == "side")


def test_a_slice_without_a_field_is_told(staged: Staged) -> None:
    stage = staged(TRUTH)
    before = drawn(stage)
    stage.set_plane(CENTRE, X)
    assert stage.plane is None
    assert drawn(stage) == before
    assert stage.note == "a slice needs a field"
    assert stage.note in status(stage)


# ---------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("coloring", ["cloud", "error", "slope"])
def test_a_colouring_brings_a_scalar_bar_of_its_range_and_takes_it_away(
    staged: Staged, coloring: str
) -> None:
    stage = staged()
    plain = stage.picture()
    stage.set_coloring(coloring)
    assert changed(plain, stage.picture()) > 500
    (title,) = stage.plotter.scalar_bars.keys()
    ends = {}
    for structure in stage.scene.structures:
        shape = structure.shape
        vertices = shape.vertices if isinstance(shape, trimesh.Trimesh) else shape.points
        found = colors_of(structure, np.asarray(vertices), None, coloring, stage.scene, 0.0)
        if found is None:
            continue
        assert found.title == title
        data = stage.plotter.actors[structure.name].mapper.dataset
        assert np.array(data[title]) == pytest.approx(found.values, abs=1e-12)
        ends[structure.name] = found.limits[1]
    assert ends
    # several structures share the bar: it holds all of them
    assert stage.plotter.scalar_bars[title].GetLookupTable().GetRange() == (0.0, max(ends.values()))
    for name in ends:
        assert stage.plotter.actors[name].mapper.scalar_range == (0.0, max(ends.values()))
    stage.set_coloring("plain")
    assert len(stage.plotter.scalar_bars) == 0
    assert changed(plain, stage.picture()) == 0


def test_normals_are_colours_of_their_own(staged: Staged) -> None:
    stage = staged(BALL)
    stage.set_coloring("normals")
    assert len(stage.plotter.scalar_bars) == 0
    data = stage.plotter.actors["surface"].mapper.dataset
    outward = (np.array(data.points) - CENTRE) / R
    # a facet's normal leans by up to half of its angle, 0.08/0.9; 127.5 is the scale, ½ the rounding
    assert np.abs(np.array(data["directions"]) - 127.5 * (outward + 1.0)).max() < 127.5 * 0.06 + 0.5


def test_colourings_follow_each_other_without_a_trace(staged: Staged) -> None:
    stage = staged()
    fresh = {coloring: staged(coloring=coloring).picture() for coloring in COLORINGS}
    for coloring in (*COLORINGS[::-1], *COLORINGS):
        stage.set_coloring(coloring)
        assert len(stage.plotter.scalar_bars) == (coloring not in ("plain", "given", "normals"))
        assert changed(stage.picture(), fresh[coloring]) == 0


def test_the_bar_of_the_slice_outlives_colourings(staged: Staged) -> None:
    stage = staged(plane=(CENTRE, X), coloring="cloud")
    assert len(stage.plotter.scalar_bars) == 2
    stage.set_coloring("plain")
    assert list(stage.plotter.scalar_bars.keys()) == [SLICE_TITLE]
    stage.set_coloring("cloud")
    stage.hide_plane()
    assert SLICE_TITLE not in stage.plotter.scalar_bars
    assert len(stage.plotter.scalar_bars) == 1


# ---------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("layout", "overlay, side"),
        ("coloring", "plain, given, normals, cloud, error, slope"),
        ("up", "z, y, x"),
    ],
)
def test_unknown_options_are_refused(staged: Staged, option: str, known: str) -> None:
    expected = f"`{option}` must be one of {known}; got 'sideways'"
    with pytest.raises(ValueError, match=expected):
        staged(TRUTH, **{option: "sideways"})
    if option != "up":
        stage = staged(TRUTH)
        with pytest.raises(ValueError, match=expected):
            getattr(stage, f"set_{option}")("sideways")
        assert getattr(stage, option) == known.split(",")[0]  # as it was


@pytest.mark.parametrize(
    ("size", "offset"), [(1.8, 0.0), (66.6, 9.0), (1e-3, 0.0), (0.8, 0.0), (1.8, 5e6)], ids=str
)
def test_the_scale_bar_is_as_long_as_it_says(
    staged: Staged, size: float, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    add = pyvista.Plotter.add_point_labels

    def heard(plotter: Any, points: Any, labels: list[str], **options: Any) -> Any:
        said.extend(labels)
        return add(plotter, points, labels, **options)

    monkeypatch.setattr(pyvista.Plotter, "add_point_labels", heard)
    stage = staged(trimesh.creation.box(extents=3 * [size]).apply_translation(3 * [offset]))
    number, unit = said[-1].split()
    assert unit == "units"
    length = float(number)
    assert f"{length:.3e}"[:5] in ("1.000", "2.000", "5.000")
    assert BAR * size / 2.5 < length <= BAR * size * (1.0 + 1e-9)
    for way in (UPS["z"], (-0.3, 2.0, 0.1), Z):  # the last from straight above
        stage.look_from(way) if way is not Z else stage.look_from((1e-12, 0.0, 1.0))
        ends = np.array(stage.plotter.actors["scale bar"].mapper.dataset.points, np.float64)
        bar = ends[1] - ends[0]
        assert np.linalg.norm(bar) == pytest.approx(length, rel=1e-4)
        assert bar @ Z == pytest.approx(0.0, abs=1e-5 * length)
        if way is not Z:
            assert bar @ np.array(way) == pytest.approx(0.0, abs=1e-5 * length)  # across the view
    assert set(said) == {said[0]}


def test_a_png_is_the_picture(staged: Staged) -> None:
    stage = staged()
    with Image.open(BytesIO(stage.png())) as image:
        assert image.format == "PNG"
        assert image.size == SIZE
        assert (np.asarray(image) == stage.picture()).all()
    assert stage.picture().shape == (HEIGHT, WIDTH, 3)


def test_a_stage_knows_when_it_was_closed(staged: Staged) -> None:
    stage = staged(TRUTH)
    assert not stage.closed
    stage.close()
    assert stage.closed


# ---------------------------------------------------------------------------------------------- the window


@pytest.fixture
def window(staged: Staged, tmp_path: Path) -> Callable[..., Desktop]:
    """(things, options) → the controls of a stage, which write into `tmp_path`."""

    def controls(*things: Any, **options: Any) -> Desktop:
        desktop = Desktop(staged(*things, **options), tmp_path)
        desktop.stage.picture()  # keys are heard from the first rendering on
        return desktop

    return controls


Window = Callable[..., Desktop]


def press(desktop: Desktop, key: str) -> None:
    """As a keyboard does it: VTK hears a key go down, then a character."""
    interactor = desktop.stage.plotter.iren.interactor
    interactor.SetKeyCode(key)
    interactor.SetKeySym(key)
    interactor.KeyPressEvent()
    interactor.CharEvent()


def widgets(desktop: Desktop, kind: str) -> list[Any]:
    plotter = desktop.stage.plotter
    return list(getattr(getattr(plotter, "widgets", plotter), f"{kind}_widgets"))  # as pyvista 0.49, and 0.46


def drag(desktop: Desktop, level: float, event: str) -> None:
    desktop.slider.GetSliderRepresentation().SetValue(level)
    desktop.slider.InvokeEvent(event)


def test_opening_a_window_changes_nothing_that_is_shown(window: Window) -> None:
    desktop = window(offset=0.1, coloring="cloud")
    stage = desktop.stage
    assert (stage.level, stage.coloring, stage.layout, stage.plane) == (0.1, "cloud", "overlay", None)
    assert stage.shape_of("surface") is stage.scene["surface"].shape
    slider = desktop.slider.GetSliderRepresentation()
    assert slider.GetValue() == 0.1
    assert (slider.GetMinimumValue(), slider.GetMaximumValue()) == stage.limits


@pytest.mark.parametrize("offset", [-0.5, 0.5])
def test_a_window_opens_at_the_level_it_was_asked_for(window: Window, offset: float) -> None:
    """Beyond a tenth of the box's longest side, where the slider would end."""
    assert abs(offset) > WIDEST * BALL.box.longest
    desktop = window(BALL, offset=offset)
    assert desktop.stage.level == offset
    assert np.abs(radii(desktop.stage) - (R + offset)).max() < 2.0 * ERROR


def test_the_slider_is_coarse_while_it_moves_and_fine_once_let_go(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop = window()
    asked: list[tuple[float, bool]] = []
    set_level = desktop.stage.set_level

    def heard(level: float, *, fine: bool) -> None:
        asked.append((level, fine))
        set_level(level, fine=fine)

    monkeypatch.setattr(desktop.stage, "set_level", heard)
    drag(desktop, 0.05, "InteractionEvent")
    drag(desktop, 0.15, "InteractionEvent")
    assert asked == [(0.05, False), (0.15, False)]
    assert np.abs(radii(desktop.stage) - (R + 0.15)).max() < ERROR
    drag(desktop, 0.15, "EndInteractionEvent")
    assert asked[2:] == [(0.15, True)]
    assert desktop.stage.shape_of("surface").metadata["resolution"] == N  # the receipt of `Field.mesh`


def test_every_key_calls_its_method(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for method, told in KEYS.values():
        assert callable(getattr(Desktop, method))
        assert told
        monkeypatch.setattr(Desktop, method, lambda self, method=method: called.append(method))
    desktop = window(BALL)
    for key in KEYS:
        press(desktop, key)
    assert called == [method for method, _ in KEYS.values()]


def test_keys_do_what_the_help_says_and_no_more(window: Window, tmp_path: Path) -> None:
    desktop = window()
    stage, plotter = desktop.stage, desktop.stage.plotter
    first = camera(stage)

    def state() -> dict[str, Any]:
        plane = None if stage.plane is None else tuple(np.abs(stage.plane[1]).tolist())
        return {"help": desktop.help_shown, "color": stage.coloring, "plane": plane, "layout": stage.layout}

    seen = {}
    for key in ("h", "h", "k", "x", "y", "z", "n", "o", "o", "g", "i"):
        plotter.camera.position = USER
        before, moved = state(), camera(stage)
        press(desktop, key)
        seen[key] = {name for name, value in state().items() if value != before[name]}
        assert (camera(stage) == moved).all() == (key not in "oi"), key  # these two place it anew
        assert plotter.actors["reference"].prop.style.lower() == "surface", key  # no wireframe
    assert seen == {
        "h": {"help"},
        "k": {"color"},
        **{key: {"plane"} for key in "xyzn"},
        "o": {"layout"},
        "g": set(),
        "i": {"color"},  # back to what it was
    }
    assert set(seen) == set(KEYS)
    assert camera(stage) == pytest.approx(first)
    assert [path.name for path in tmp_path.iterdir()] == ["ocsdf3d-1.png"]


def test_no_key_is_one_of_vtks_own(window: Window) -> None:
    """Its widgets hear keys as well: on `i` one of them goes away, unless it is told not to."""
    desktop = window()
    axes = desktop.stage.plotter.renderer.axes_widget
    held = [axes, *widgets(desktop, "slider"), *widgets(desktop, "button")]
    assert len(held) == 5
    gone = set()
    for key in KEYS:
        press(desktop, key)
        for widget in held:
            if not widget.GetEnabled():
                gone.add(key)
                widget.On()
    desktop.slice_x()
    (plane,) = widgets(desktop, "plane")
    for key in set(KEYS) - set("xyzno"):  # these take it away, or make another
        press(desktop, key)
        if not plane.GetEnabled():
            gone.add(f"{key}, of the plane")
            plane.On()
    assert gone == set()


def test_the_plane_to_drag_goes_where_its_slice_goes(window: Window) -> None:
    desktop = window()
    stage = desktop.stage
    desktop.slice_x()
    desktop.move_slice(CENTRE + 0.1, X)
    press(desktop, "o")
    shift = stage.shift_of(stage.scene.fields[0])
    assert shift.any()
    (plane,) = widgets(desktop, "plane")
    assert plane.GetOrigin() == pytest.approx(CENTRE + 0.1 + shift)
    assert stage.plane[0] == pytest.approx(CENTRE + 0.1)  # of the field, where it is
    press(desktop, "o")
    (plane,) = widgets(desktop, "plane")
    assert plane.GetOrigin() == pytest.approx(CENTRE + 0.1)


def test_the_help_comes_and_goes_and_names_every_key(window: Window) -> None:
    desktop = window()
    before = desktop.stage.picture()
    desktop.toggle_help()
    text = desktop.stage.plotter.actors["help"].input
    for key, (_, told) in KEYS.items():
        assert f"{key}   {told}" in text
    for coloring in COLORINGS:
        assert coloring in text
    assert changed(before, desktop.stage.picture()) > 1000
    desktop.toggle_help()
    assert "help" not in desktop.stage.plotter.actors
    assert changed(before, desktop.stage.picture()) == 0


def test_colourings_and_layouts_go_round(window: Window) -> None:
    desktop = window()
    seen = []
    for _ in COLORINGS:
        desktop.next_coloring()
        seen.append(desktop.stage.coloring)
    assert seen == [*COLORINGS[1:], COLORINGS[0]]
    desktop.next_layout()
    assert desktop.stage.layout == "side"
    desktop.next_layout()
    assert desktop.stage.layout == "overlay"


def test_a_picture_takes_the_first_free_name(window: Window, tmp_path: Path) -> None:
    (tmp_path / "ocsdf3d-1.png").write_bytes(b"not to be touched")
    (tmp_path / "ocsdf3d-3.png").touch()
    desktop = window(TRUTH)
    assert desktop.save_picture() == tmp_path / "ocsdf3d-2.png"
    assert desktop.save_picture() == tmp_path / "ocsdf3d-4.png"
    assert (tmp_path / "ocsdf3d-1.png").read_bytes() == b"not to be touched"
    with Image.open(tmp_path / "ocsdf3d-2.png") as image:
        assert image.size == SIZE
        assert np.asarray(image).std() > 0


def test_pictures_go_where_one_is(staged: Staged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Desktop(staged(TRUTH)).save_picture() == tmp_path / "ocsdf3d-1.png"


def test_boxes_show_and_hide_their_own_structure(window: Window) -> None:
    desktop = window()
    boxes = widgets(desktop, "button")
    names = [structure.name for structure in desktop.stage.scene.structures]
    assert len(boxes) == len(names)
    for name, box_ in zip(names, boxes, strict=True):
        before = desktop.stage.picture()
        for state in (0, 1):
            box_.GetRepresentation().SetState(state)
            box_.InvokeEvent("StateChangedEvent")
            expected = {other: bool(state) or other != name for other in names}
            assert desktop.stage.visible == expected
            actors = desktop.stage.plotter.actors
            assert {other: bool(actors[other].visibility) for other in names} == expected
        assert changed(before, desktop.stage.picture()) == 0


def test_a_plane_that_is_dragged_takes_the_slice_with_it(window: Window) -> None:
    desktop = window()
    desktop.slice_x()
    desktop.slice_y()
    (widget,) = widgets(desktop, "plane")  # not one more for every key
    plane = desktop.stage.plane
    assert plane is not None
    assert plane[0] == pytest.approx(CENTRE, abs=ERROR)
    assert np.abs(plane[1]).tolist() == [0.0, 1.0, 0.0]
    place = CENTRE + 0.3 * np.eye(3)[1]
    widget.SetOrigin(*place)
    widget.SetNormal(0.0, 0.6, 0.8)
    widget.InvokeEvent("InteractionEvent")
    plane = desktop.stage.plane
    assert plane is not None
    assert plane[0] == pytest.approx(place)
    assert plane[1] == pytest.approx([0.0, 0.6, 0.8])
    desktop.stage.plotter.render()
    sheet = np.array(desktop.stage.plotter.actors["slice"].mapper.dataset.points)
    assert np.abs((sheet - plane[0]) @ plane[1]).max() < 1e-9
    desktop.no_slice()
    assert widgets(desktop, "plane") == []
    assert desktop.stage.plane is None
    assert not widget.GetEnabled()


def test_reset_brings_back_level_colouring_and_camera(window: Window) -> None:
    desktop = window(offset=0.05, coloring="cloud")
    stage = desktop.stage
    first, before = camera(stage), stage.picture()
    drag(desktop, -0.1, "InteractionEvent")
    desktop.next_coloring()
    stage.plotter.camera.position = CENTRE + 5.0
    desktop.reset()
    assert (stage.level, stage.coloring) == (0.05, "cloud")
    assert desktop.slider.GetSliderRepresentation().GetValue() == 0.05
    assert np.abs(radii(stage) - (R + 0.05)).max() < ERROR
    assert camera(stage) == pytest.approx(first)
    assert changed(before[ABOVE], stage.picture()[ABOVE]) == 0


def test_a_window_without_a_field_has_no_slider_and_its_keys_do_no_harm(window: Window) -> None:
    desktop = window(TRUTH, cloud=CLOUD)
    assert desktop.slider is None
    for key in KEYS:
        press(desktop, key)
    assert widgets(desktop, "plane") == []
    assert desktop.stage.plane is None
    assert changed(desktop.stage.picture(), np.full((HEIGHT, WIDTH, 3), 255)) > 1000  # it is still there


@pytest.mark.display
def test_a_real_window_opens_hears_keys_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VTK_DEFAULT_OPENGL_WINDOW", raising=False)  # EGL opens no window
    heard = []

    def run(desktop: Desktop) -> None:
        stage = desktop.stage
        stage.plotter.show(auto_close=False, interactive_update=True)
        press(desktop, "k")
        heard.extend([stage.coloring, stage.plotter.window_size, stage.closed])
        press(desktop, "q")
        heard.append(stage.closed)
        stage.close()

    monkeypatch.setattr(Desktop, "run", run)
    assert oc.view(BALL, cloud=CLOUD, size=SIZE, resolution=N) is None
    assert heard == ["normals", list(SIZE), False, True]


# ---------------------------------------------------------------------------------------------- view


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere a display is taken for granted")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
def test_a_window_without_a_display_is_refused() -> None:
    with pytest.raises(RenderingError, match=r"no display to open a window on\. Give screenshot=…"):
        oc.view(BALL)


@pytest.mark.usefixtures("no_display")
def test_view_writes_a_picture_of_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert oc.view(BALL, cloud=CLOUD, screenshot=path, size=(200, 160), resolution=N) is None
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (200, 160)
        assert np.asarray(image).std() > 10.0  # a ball on white, not one colour
    assert os.listdir(tmp_path) == ["a.png"]


def test_every_option_of_view_is_seen(tmp_path: Path) -> None:
    def shot(**options: Any) -> np.ndarray:
        options = {"screenshot": tmp_path / "a.png", "size": SIZE, "resolution": N, **options}
        oc.view(BALL, cloud=CLOUD, **options)
        with Image.open(tmp_path / "a.png") as image:
            return np.asarray(image)

    plain = shot()
    assert changed(plain, shot()) == 0  # the control: nothing else differs
    options: dict[str, Any] = {
        "reference": TRUTH,
        "offset": 0.2,
        "coloring": "normals",
        "layout": "side",
        "plane": "x",
        "up": "y",
        "resolution": 6,
    }
    for name, value in options.items():
        assert changed(plain, shot(**{name: value})) > 300, name
    assert changed(shot(plane="x"), shot(plane="x=5.4")) > 300  # the middle is at 5


def test_view_reads_files(tmp_path: Path) -> None:
    oc.save(tmp_path / "ball.safetensors", BALL)
    np.save(tmp_path / "scan.npy", CLOUD)
    for name, things in (("a.png", (BALL, CLOUD)), ("b.png", ("ball.safetensors", "scan.npy"))):
        given = [tmp_path / thing if isinstance(thing, str) else thing for thing in things]
        oc.view(*given, screenshot=tmp_path / name, size=SIZE, resolution=N)
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert changed(np.asarray(one), np.asarray(other)) < 1000  # the legend names the files


@pytest.mark.parametrize("name", ["a.jpg", "a", "none/a.png"])
def test_a_picture_that_cannot_be_written_there_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scene_of(*_: Any, **__: Any) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("ocsdf3d.viewer.scene.scene_of", scene_of)
    with pytest.raises((WriteError, OSError)):
        oc.view(BALL, screenshot=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "w"}, "a plane is x, y, z"),
        ({"layout": "row"}, "`layout` must be one of"),
        ({"coloring": "red"}, "`coloring` must be one of"),
        ({"up": "w"}, "`up` must be one of"),
    ],
)
def test_view_refuses_options_that_are_none(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        oc.view(BALL, screenshot=tmp_path / "a.png", resolution=N, **options)
    assert list(tmp_path.iterdir()) == []


def test_view_needs_something_to_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to show"):
        oc.view(screenshot=tmp_path / "a.png")


def test_view_where_nothing_can_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "why_not", lambda: "drawing ended by signal 11")
    with pytest.raises(RenderingError, match=r"signal 11\)\. On Debian: .*libegl1"):
        oc.view(BALL, screenshot=tmp_path / "a.png", resolution=N)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------- figures


def decoded(png: bytes) -> np.ndarray:
    """Red, green, blue of a PNG that is neither blank nor tiny nor huge."""
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        picture = np.asarray(image.convert("RGB"))
    assert 300 < min(picture.shape[:2]) <= max(picture.shape[:2]) < 3000  # on paper 2 to 20 inches
    assert picture.std() > 5.0
    return picture


def test_a_slice_figure_is_blue_inside_and_red_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "NODES", 100)
    picture = decoded(slice_figure(BALL, CENTRE, Z, title="a ball")).astype(int)
    picture = picture[:, : int(0.84 * picture.shape[1])]  # the colour bar is on the right
    red, _, blue = np.moveaxis(picture, -1, 0)
    cold, warm = (np.argwhere(difference > 40) for difference in (blue - red, red - blue))
    assert len(cold) > len(warm) > 1000  # the ball's disc; the corners of its box
    assert cold.mean(axis=0) == pytest.approx(warm.mean(axis=0), abs=0.02 * picture.shape[0])
    # where φ is near 0 it is neither, so the cold disc is narrower than the box, 1.8 wide, by some 0.2
    share = np.ptp(cold, axis=0) / np.ptp(warm, axis=0)
    assert ((share > 0.7) & (share < 0.95)).all()


def test_a_slice_figure_draws_levels_and_the_cloud_near_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "NODES", 60)

    def figure(**options: Any) -> bytes:
        return slice_figure(BALL, CENTRE, Z, **{"levels": (), **options})

    bare = figure()
    plain = decoded(bare)
    away = np.abs(CLOUD[:, 2] - CENTRE[2])
    near, far = CLOUD[away < 0.03], CLOUD[away > 0.05]  # drawn up to 0.02 of the box, 0.036
    assert len(near) > 1
    assert figure(levels=(5.0, -0.9001), cloud=far) == bare  # beyond the values: nothing to draw
    for options in ({"levels": (0.1, -0.3)}, {"cloud": near}):
        assert changed(plain, decoded(figure(**options))) > 20


@pytest.mark.parametrize(
    ("field", "origin", "normal"),
    [
        (BALL, CENTRE, (1.0, -2.0, 0.5)),
        (box((4.0, 0.5, 0.2)), (0.0, 0.0, 0.0), Z),
        (box(1.0), (0.5, 0.0, 0.0), X),  # along a face: φ is 0 everywhere
        (BALL, CENTRE + 3.0 * R, X),  # beside the ball: φ is positive everywhere
    ],
    ids=["tilted", "wide", "constant", "outside"],
)
def test_slice_figures_of_every_kind(
    field: Any, origin: Any, normal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "NODES", 60)
    decoded(slice_figure(field, origin, normal))


def test_a_slice_figure_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="`normal` must be three finite numbers"):
        slice_figure(BALL, CENTRE, (0.0, 0.0, 0.0))


def curves(*names: str) -> dict[str, Any]:
    return {"curves": {"step": [1, 50, 100], **{name: [0.5, 0.1, 0.2] for name in names}}}


def test_the_curves_are_those_that_training_records() -> None:
    points = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    source = SimpleNamespace(
        walked=False,
        generator=torch.Generator(),
        draw=lambda _: (0.1 * points, points),
        refresh=lambda *_: None,
    )
    network = LipschitzNetwork(NetworkConfig(inputs=2, width=8, depth=2), torch.Generator().manual_seed(0))
    corners = torch.full((2,), -1.5), torch.full((2,), 1.5)
    config = TrainConfig(steps=2, batch=64, report=1)
    history = learn(network, source, config, *corners, torch.Generator().manual_seed(0))
    assert set(SHOWN) == set(history.curves) - {"step"}


def test_curves_are_as_many_as_there_are() -> None:
    """Three in a row."""
    one, four = (decoded(curves_figure(curves(*list(SHOWN)[-count:]), "a run")) for count in (1, 4))
    assert four.shape[0] == pytest.approx(2 * one.shape[0], abs=2)  # inches are rounded to pixels
    assert four.shape[1] == pytest.approx(3 * one.shape[1], abs=3)


@pytest.mark.parametrize(
    "history", [{}, {"steps": 3}, {"curves": {}}, {"curves": None}, {"curves": {"step": [1, 2]}}, curves("x")]
)
def test_a_history_without_curves_is_refused(history: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no training curves: only a trained field has them"):
        curves_figure(history)


def test_an_exact_shape_has_no_curves() -> None:
    with pytest.raises(ValueError, match="no training curves"):
        curves_figure(getattr(BALL | BALL, "history", {}))


def test_a_turntable_turns_once_and_gives_the_camera_back(staged: Staged) -> None:
    cuboid = box((1.0, 0.6, 0.3), CENTRE)  # no two of five views are alike
    stage = staged(cuboid)
    before, still = camera(stage), stage.picture()
    with Image.open(BytesIO(turntable(stage, 5))) as gif:
        assert gif.format == "GIF"
        assert gif.size == SIZE
        assert gif.info["loop"] == 0  # for ever
        assert gif.info["duration"] == pytest.approx(3600 / 5, abs=10)  # a turn in 3.6 s; GIF counts in 10 ms
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 5
    for i, frame in enumerate(frames):
        for other in frames[:i]:
            assert changed(frame, other) > 300
    assert changed(frames[0], still) < 0.01 * SIZE[0] * SIZE[1]  # begins as seen; 256 colours of a palette
    assert camera(stage) == pytest.approx(before)
    assert changed(stage.picture(), still) == 0


@pytest.mark.parametrize("up", UPS)
def test_a_turntable_goes_round_the_upward_axis(
    staged: Staged, up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(TRUTH, up=up)
    ways: list[np.ndarray] = []
    look_from = stage.look_from

    def heard(way: Any) -> None:
        ways.append(np.array(way))
        look_from(way)

    monkeypatch.setattr(stage, "look_from", heard)
    turntable(stage, 4)
    turn = np.array(ways[:4])  # then the camera is given back
    assert turn @ AXES[up] == pytest.approx(np.full(4, np.dot(UPS[up], AXES[up])))
    level = turn - np.outer(turn @ AXES[up], AXES[up])
    assert level[0] + level[2] == pytest.approx(np.zeros(3), abs=1e-12)  # a quarter each: the third opposite
    assert np.cross(level[0], level[1]) @ AXES[up] == pytest.approx(level[0] @ level[0])


@pytest.mark.parametrize("frames", [1, 0, -3])
def test_a_turntable_needs_two_frames(staged: Staged, frames: int) -> None:
    with pytest.raises(ValueError, match=f"`frames` must be at least 2; got {frames}"):
        turntable(staged(TRUTH), frames)
