"""`ocsdf3d view`, `slice` and `curves`: what each flag changes, what is refused, what needs no graphics."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from ocsdf3d import analytic, checkpoint
from ocsdf3d.cli import build_parser, main, view
from ocsdf3d.field import SDF
from ocsdf3d.viewer import PAGE_NODES, page, probe, scene, views, web
from ocsdf3d.viewer.door import Door, door_at

draws = pytest.mark.skipif(probe.why_not() is not None, reason=f"rendering: {probe.why_not()}")


def run(*argv: object) -> int:
    return main([str(part) for part in argv])


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """An exact ball of radius 1, moved so that no axis is like another."""
    return checkpoint.save(
        tmp_path / "ball.safetensors", analytic.sphere(radius=1.0, center=(0.0, 0.25, 0.5))
    )


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    points = np.random.default_rng(0).normal(size=(200, 3))
    path = tmp_path / "scan.xyz"
    np.savetxt(path, points / np.linalg.norm(points, axis=1, keepdims=True) + (0.0, 0.25, 0.5))
    return path


def options_of(verb: str) -> dict[str, Any]:
    actions = next(
        action for action in build_parser()._actions if hasattr(action, "choices") and action.choices
    )
    return {
        action.option_strings[-1]: action
        for action in actions.choices[verb]._actions
        if action.option_strings
    }


# --- what each flag changes: the stage and the page are told

GIVEN = {  # flag → (value, what the stage is told, what it gets, what it gets without the flag)
    "--offset": ("0.125", "offset", 0.125, 0.0),
    "--color": ("slope", "coloring", "slope", "plain"),
    "--layout": ("side", "layout", "side", "overlay"),
    "--up": ("y", "up", "y", "z"),
    "--size": ("320x240", "size", (320, 240), (1280, 800)),
    "--resolution": ("32", "resolution", 32, 200),
    "--slice": ("x=0.5", "plane", ([0.5, 0.25, 0.5], [1.0, 0.0, 0.0]), None),
}
ELSEWHERE = {  # tested below, or with every verb
    *("--help", "--cloud", "--reference", "--web", "--screenshot", "--turntable", "--save-html", "--frames"),
    *("--port", "--host", "--no-browser", "--device", "--json", "--quiet", "--verbose"),
}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Stages that draw nothing and remember what they were told."""
    made: list[SimpleNamespace] = []

    def stage(shown: scene.Scene, **told: Any) -> SimpleNamespace:
        one = SimpleNamespace(scene=shown, told=told, png=lambda: b"PNG", close=lambda: None)
        made.append(one)
        return one

    monkeypatch.setattr("ocsdf3d.viewer.stage.Stage", stage)
    monkeypatch.setattr("ocsdf3d.viewer.probe.why_not", lambda **_: None)
    return made


@pytest.mark.parametrize("flag", GIVEN)
def test_each_flag_reaches_the_stage(
    flag: str, ball: Path, tmp_path: Path, stages: list[SimpleNamespace]
) -> None:
    value, name, given, without = GIVEN[flag]
    assert run("view", ball, "--screenshot", tmp_path / "a.png", "-q") == 0
    assert run("view", ball, "--screenshot", tmp_path / "b.png", "-q", flag, value) == 0
    first, second = (made.told for made in stages)
    assert first[name] == without
    got = second[name]
    if name == "plane":  # through the middle of a mesh whose vertices miss the ball by half a cell at most
        np.testing.assert_allclose(got, given, atol=0.01)
    else:
        assert got == given
    assert {key: first[key] for key in first if key != name} == {
        key: second[key] for key in second if key != name
    }


def test_an_offset_that_moves_nothing_is_told(
    ball: Path, cloud: Path, tmp_path: Path, stages: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--screenshot", tmp_path / "a.png", "--offset", "0.1")
    assert run("view", ball, *out) == 0
    assert "--offset" not in capsys.readouterr().err
    assert run("view", cloud, *out) == 0
    assert "warning: --offset moves the surfaces of fields, and there is none" in capsys.readouterr().err
    assert len(stages) == 2


def test_no_flag_of_view_is_untested() -> None:
    assert set(options_of("view")) == set(GIVEN) | ELSEWHERE


def test_choices_are_those_of_the_library() -> None:
    """They are written out in the parser, which must not import NumPy to learn them."""
    assert view.COLORS == scene.COLORINGS
    assert view.LAYOUTS == views.LAYOUTS
    assert view.PAGE_RESOLUTION == PAGE_NODES
    assert set(options_of("view")["--up"].choices) == set(views.UPS)


def test_cloud_and_reference_get_their_roles(
    ball: Path, cloud: Path, tmp_path: Path, stages: list[SimpleNamespace], capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "truth.ply"
    trimesh.creation.icosphere().export(truth)
    argv = (
        "view",
        ball,
        "--cloud",
        cloud,
        "--reference",
        truth,
        "--screenshot",
        tmp_path / "a.png",
        "--json",
    )
    assert run(*argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["role"]) for one in found["structures"]] == [
        ("scan.xyz", "cloud"),
        ("ball.safetensors", "surface"),
        ("truth.ply", "reference"),
    ]
    assert found["written"] == str(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"PNG"


def test_frames_reach_the_turntable(
    ball: Path, tmp_path: Path, stages: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def turntable(stage: object, frames: int) -> bytes:
        asked.append(frames)
        return b"GIF"

    monkeypatch.setattr("ocsdf3d.viewer.figures.turntable", turntable)
    assert run("view", ball, "--turntable", tmp_path / "a.gif", "-q") == 0
    assert run("view", ball, "--turntable", tmp_path / "a.gif", "-q", "--frames", "5") == 0
    assert asked == [36, 5]


def test_web_serves_at_the_door_that_is_asked_for(
    ball: Path,
    stages: list[SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served: list[tuple[Door, bool]] = []
    monkeypatch.setattr(web, "missing_extra", lambda: None)
    monkeypatch.setattr(web, "serve", lambda stage, door, open_browser: served.append((door, open_browser)))
    free = door_at().port
    assert run("view", ball, "--web", "--port", free) == 0
    assert run("view", ball, "--web", "--port", 0, "--no-browser") == 0
    here = capsys.readouterr().err
    assert f"http://127.0.0.1:{free}/ until Ctrl-C" in here
    assert "warning" not in here
    assert run("view", ball, "--web", "--port", free, "--host", "0.0.0.0") == 0
    (first, opens), (second, stays), (third, _) = served
    assert (first, opens, stays) == (Door("127.0.0.1", free), True, False)
    assert (second.host, second.token) == ("127.0.0.1", None)
    assert second.port > 0
    assert third.host == "0.0.0.0"
    assert third.token is not None
    said = capsys.readouterr().err.splitlines()
    assert "warning: --host 0.0.0.0: others on the network may see the model" in said[0]
    assert said[1].endswith(f":{free}/?token={third.token} until Ctrl-C")
    assert options_of("view")["--port"].default == 8080
    assert all(made.told["off_screen"] for made in stages)


def test_a_place_that_is_not_this_machines_is_refused(
    ball: Path, stages: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(web, "missing_extra", lambda: None)
    assert run("view", ball, "--web", "--host", "192.0.2.1") == 1  # reserved for documentation, RFC 5737
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot listen on 192.0.2.1" in said
    assert stages == []


def test_the_device_reaches_the_field(
    ball: Path, tmp_path: Path, stages: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load = checkpoint.load

    def loading(path: Path, device: str) -> Any:
        asked.append(device)
        return load(path, device=device)

    monkeypatch.setattr("ocsdf3d.checkpoint.load", loading)
    for more in ([], ["--device", "cpu"]):
        assert run("view", ball, "--screenshot", tmp_path / "a.png", "-q", *more) == 0
    assert asked == ["auto", "cpu"]


# --- what is refused, and how


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["view"], "FILE"),
        (["view", "a.ply", "--size", "big"], "1280x800"),
        (["view", "a.ply", "--size", "8x8"], "from 16 to 8192"),
        (["view", "a.ply", "--frames", "1"], "--frames"),
        (["view", "a.ply", "--port", "65536"], "--port"),
        (["view", "a.ply", "--web", "--screenshot", "a.png"], "--screenshot"),
        (["view", "a.ply", "--color", "depth"], "--color"),
        (["slice", "a.safetensors"], "-o"),
        (["curves", "a.safetensors"], "-o"),
        (["reconstruct", "a.off", "--watch", "--watch-file", "a.png"], "--watch-file"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    seen = capsys.readouterr()
    assert (seen.out, seen.err.count("\n")) == ("", 1)
    assert said in seen.err


@pytest.mark.parametrize("verb", ["view", "reconstruct"])
def test_a_machine_that_cannot_draw_exits_2_with_the_package_line(
    verb: str, ball: Path, cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("ocsdf3d.viewer.probe.failure_of", lambda code: "ended by signal 11")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no earlier yes
    picture = tmp_path / "a.png"
    argv = (
        ["view", ball, "--screenshot", picture]
        if verb == "view"
        else ["reconstruct", cloud, "--watch-file", picture]
    )
    assert run(*argv) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ended by signal 11" in said
    assert "apt-get install" in said
    assert "libegl1 libgl1" in said
    assert not picture.exists()


def test_without_a_display_the_window_is_refused_and_the_ways_out_are_named(
    ball: Path, cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ocsdf3d.viewer.probe.has_display", lambda: False)
    assert run("view", ball) == 2
    assert "--web, --screenshot, --turntable or --save-html" in capsys.readouterr().err
    assert run("reconstruct", cloud, "--watch") == 2
    assert "--watch-file" in capsys.readouterr().err
    assert not cloud.with_name("scan_ocsdf.ply").exists()  # nothing was done


def test_web_without_its_extra_exits_2_with_the_command(
    ball: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web, "missing_extra", lambda: web.INSTALL)
    assert run("view", ball, "--web") == 2
    assert "pip install 'ocsdf3d[web]'" in capsys.readouterr().err


def test_outputs_are_checked_before_anything_is_loaded(
    ball: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("view", ball, "--screenshot", tmp_path / "a.jpg") == 1
    assert "cannot write .jpg. Use .png" in capsys.readouterr().err
    assert run("view", tmp_path / "none.ply", "--screenshot", tmp_path / "a.png") == 1
    assert "no such file" in capsys.readouterr().err
    assert run("view", ball, "--save-html", tmp_path / "gone" / "a.html") == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("plane", ["w", "x=", "x=nan", "x=1=2", ""])
def test_a_plane_that_is_none_is_refused(
    plane: str, ball: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["view", ball, "--slice", plane, "--screenshot"], ["slice", ball, "--plane", plane, "-o"]):
        assert run(*argv, tmp_path / "a.png") == 1
        assert "a plane is" in capsys.readouterr().err
        assert not (tmp_path / "a.png").exists()


# --- real pictures


@draws
def test_a_screenshot_has_its_size_and_shows_the_ball(ball: Path, tmp_path: Path) -> None:
    argv = ("view", ball, "--screenshot", tmp_path / "a.png", "--size", "320x240", "--resolution", "24", "-q")
    assert run(*argv) == 0
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert picture.shape == (240, 320, 3)
    coloured = (picture.max(axis=2) - picture.min(axis=2)) > 40  # the surface is yellow, the paper white
    # A ball is seen from where its bounding box is seen whole: about 0.3 of the picture.
    assert 0.1 < coloured.mean() < 0.7
    assert coloured[120, 160]


def test_slice_and_curves_need_no_graphics_library(born: Callable[..., SDF], tmp_path: Path) -> None:
    """VTK is not even loaded, so a machine on which it would crash draws them."""
    field = born()
    field.history.update(steps=2, curves={"step": [1.0, 2.0], "loss": [1.0, 0.5], "margin": [0.1, 0.01]})
    path = checkpoint.save(tmp_path / "field.safetensors", field)
    code = (
        "import sys; from ocsdf3d.cli import main\n"
        f"assert main(['slice', {str(path)!r}, '-o', {str(tmp_path / 's.png')!r}]) == 0\n"
        f"assert main(['curves', {str(path)!r}, '-o', {str(tmp_path / 'c.png')!r}]) == 0\n"
        f"assert main(['view', {str(path)!r}, '--save-html', {str(tmp_path / 'p.html')!r}]) == 0\n"
        "assert not any(name.startswith('vtk') for name in sys.modules), 'VTK was loaded'\n"
    )
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert end.returncode == 0, end.stderr
    for name in ("s.png", "c.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 10  # of 255: not blank
    assert "<html" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_slice_draws_what_it_is_asked(
    ball: Path, cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(*more: object) -> bytes:
        out = tmp_path / "a.png"
        assert run("slice", ball, "-o", out, "-q", *more) == 0
        return out.read_bytes()

    plain = drawn()
    assert drawn() == plain  # the same bytes again: a figure can be compared
    others = [
        drawn("--plane", "x"),
        drawn("--plane", "z=0.9"),
        drawn("--levels", "0.1", "-0.1"),
        drawn("--cloud", cloud),
    ]
    assert len({plain, *others}) == 5
    capsys.readouterr()
    assert run("slice", ball, "-o", tmp_path / "a.png", "--json", "--plane", "y=0.5") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["origin"], found["normal"]) == ([0.0, 0.5, 0.5], [0.0, 1.0, 0.0])


def test_curves_of_an_exact_shape_are_refused_by_name(
    ball: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("curves", ball, "-o", tmp_path / "a.png") == 1
    said = capsys.readouterr().err
    assert "ball.safetensors: no training curves" in said
    assert not (tmp_path / "a.png").exists()


# --- the page


def test_the_page_holds_everything_and_asks_nobody(ball: Path, cloud: Path, tmp_path: Path) -> None:
    argv = ("view", ball, "--cloud", cloud, "--save-html", tmp_path / "p.html", "--resolution", "24", "-q")
    assert run(*argv, "--up", "y", "--color", "cloud", "--layout", "side") == 0
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "src=" not in text
    data = data_of(text)
    assert [one["name"] for one in data["structures"]] == ["scan.xyz", "ball.safetensors"]
    assert (data["side"], data["coloring"]) == (True, "cloud")
    assert data["basis"][2] == [0.0, 1.0, 0.0]  # y is up
    assert np.linalg.det(data["basis"]) == pytest.approx(1.0)  # no mirror
    surface = data["structures"][1]["frames"]
    assert len(surface) == len(data["levels"]) >= page.LEVELS
    assert data["levels"][data["first"]] == 0.0
    assert set(surface[0]["colors"]) == {
        "normals",
        "cloud",
        "slope",
    }  # and no error: it is its own truth
    assert set(data["structures"][0]["frames"][0]["colors"]) == {"error", "slope"}
    assert data["legends"]["slope"]["high"] == 1.0


def test_positions_in_the_page_are_those_of_the_mesh() -> None:
    ball = analytic.sphere(radius=2.0, center=(5.0, 6.0, 7.0))
    data = data_of(page.page_of(scene.scene_of([ball], resolution=24)))
    for level, frame in zip(data["levels"], data["structures"][0]["frames"], strict=True):
        fractions = np.frombuffer(decoded(frame["places"]), "<u2").reshape(-1, 3) / 65535.0
        vertices = np.array(frame["lower"]) + fractions * np.array(frame["extent"])
        faces = np.frombuffer(decoded(frame["faces"]), "<u4").reshape(-1, 3)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        assert mesh.is_watertight
        radii = np.linalg.norm(vertices - (5.0, 6.0, 7.0), axis=1)
        # chords of cells of 4.4/63 (h²/8R < 4e-4), of 4.4/23 for the first; a fraction is 4.4/65535 = 7e-5
        slack = 4e-3 if level == 0.0 else 1e-3
        np.testing.assert_allclose(radii, 2.0 + level, atol=slack)


def test_names_cannot_break_out_of_the_page() -> None:
    ball = analytic.sphere(radius=1.0)
    evil = "</script><script>alert(1)</script>"
    shown = scene.Scene((scene.Structure(evil, "surface", "#ffffff", ball.mesh(resolution=8), ball),))
    text = page.page_of(shown, title=evil)
    assert evil not in text
    assert text.count("<script") == 2  # the data and the program
    assert data_of(text)["structures"][0]["name"] == evil


def data_of(text: str) -> dict[str, Any]:
    begin = text.index(">", text.index('id="data"')) + 1
    return json.loads(text[begin : text.index("</script>", begin)])  # type: ignore[no-any-return]


def decoded(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text)


# --- watching


def test_fit_hands_out_certified_fields_while_it_learns(cloud: Path, tiny: str) -> None:
    import ocsdf3d as oc
    from ocsdf3d.pipeline import fit

    taken: list[SDF] = []

    def watch(so_far: Callable[[], SDF]) -> None:
        if len(taken) < 2:
            taken.append(so_far())

    options: dict[str, Any] = {"preset": tiny, "seed": 0, "support": "solid"}
    watched, plain = fit(cloud, **options, watch=watch), fit(cloud, **options)
    assert len(taken) == 2
    assert all(field.certificate["certified"] and field.lipschitz <= 1.0 for field in taken)
    assert taken[0].history["steps"] < watched.history["steps"]
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (100, 3))
    assert not np.array_equal(taken[0](points), watched(points))  # copies: training went on without them
    np.testing.assert_array_equal(watched(points), plain(points))  # and was not disturbed
    assert isinstance(watched, oc.SDF)


@pytest.mark.parametrize(
    ("argv", "picture", "up"),
    [(["--watch"], False, "z"), (["--watch-file", "live.png", "--up", "y"], True, "y")],
)
def test_reconstruct_hands_its_watcher_to_the_training(
    argv: list[str], picture: bool, up: str, cloud: Path, monkeypatch: pytest.MonkeyPatch, tiny: str
) -> None:
    from ocsdf3d import pipeline

    told: list[dict[str, Any]] = []
    looks: list[bool] = []

    class Watcher:
        def __init__(self, shape: object, **options: Any) -> None:
            told.append(options)

        def __enter__(self) -> Watcher:
            return self

        def __exit__(self, *_: object) -> None:
            told.append({"closed": True})

        def __call__(self, snapshot: Callable[[], SDF], *, last: bool = False) -> None:
            looks.append(last)

    fit = pipeline.fit
    monkeypatch.setattr(
        "ocsdf3d.pipeline.fit", lambda shape, **options: fit(shape, **{**options, "preset": tiny})
    )
    monkeypatch.setattr("ocsdf3d.viewer.watch.Watcher", Watcher)
    monkeypatch.setattr("ocsdf3d.viewer.probe.why_not", lambda **_: None)
    monkeypatch.setattr("ocsdf3d.viewer.probe.has_display", lambda: True)
    monkeypatch.chdir(cloud.parent)
    assert run("reconstruct", cloud, "-q", "--resolution", "16", "--support", "solid", *argv) == 0
    assert told == [{"picture": Path("live.png") if picture else None, "up": up}, {"closed": True}]
    assert looks[-1] is True  # what is left on the screen is the result
    assert looks.count(False) >= 2


@draws
def test_a_watcher_writes_pictures_of_what_it_is_given(tmp_path: Path) -> None:
    from ocsdf3d.viewer.watch import Watcher

    ball, box = analytic.sphere(radius=1.0), analytic.box((1.0, 1.0, 1.0))
    picture = tmp_path / "live.png"
    with Watcher(ball.mesh(resolution=16), picture=picture, size=(160, 120)) as watcher:
        watcher(lambda: ball)
        watcher(lambda: pytest.fail("the first one is still being drawn"))
        watcher(lambda: box, last=True)
    assert watcher.shown == 2
    with Image.open(io.BytesIO(picture.read_bytes())) as image:
        assert image.size == (160, 120)
        assert np.asarray(image.convert("L")).std() > 10


def test_a_watcher_outlives_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the drawing process, training is told nothing."""
    from ocsdf3d.viewer import watch

    ball = analytic.sphere(radius=1.0)
    watcher = watch.Watcher(ball.mesh(resolution=16), picture=tmp_path / "live.png")
    with watcher:
        watcher._process.kill()
        watcher._process.join()
        watcher(lambda: ball, last=True)
        watcher(lambda: pytest.fail("nobody looks any more"))
    assert watcher.shown <= 1


# --- in a notebook


def test_a_notebook_gets_the_page_and_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    import html
    import re

    import ocsdf3d as oc
    from ocsdf3d import viewer

    pytest.importorskip("IPython")
    monkeypatch.setattr(viewer, "_in_notebook", lambda: True)
    monkeypatch.setattr(probe, "failure_of", lambda code: pytest.fail("a page needs no graphics"))
    shown = oc.view(analytic.sphere(radius=1.0), up="y", resolution=24, size=(640, 480))
    found = re.fullmatch(
        r'<div><iframe srcdoc="([^"]*)" style="[^"]*height: 480px[^"]*"></iframe></div>', shown.data
    )
    assert found is not None
    assert data_of(html.unescape(found[1]))["structures"][0]["name"] == "surface"


def test_a_script_is_no_notebook() -> None:
    from ocsdf3d import viewer

    assert not viewer._in_notebook()


def test_a_plate_thinner_than_the_kept_grid_has_a_page() -> None:
    plate = analytic.box((1.0, 1.0, 0.009))
    data = data_of(page.page_of(scene.scene_of([plate], resolution=201)))
    assert data["levels"][data["first"]] == 0.0
    assert all(frame["faces"] for frame in data["structures"][0]["frames"])
