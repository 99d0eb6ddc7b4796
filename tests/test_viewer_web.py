"""The page and the server in a real browser: pictures before and after the slider moved, and no errors.

Skipped with a reason where Chromium, its driver, Selenium or the extra `web` is absent.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ocsdf3d import analytic, checkpoint
from ocsdf3d.viewer import page, probe, scene, web

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
    "--window-size=1000,700",
]
PATIENCE = 60.0  # seconds for what takes a few on an idle machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium or no chromedriver on PATH (Debian: chromium chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as chrome:
        yield chrome


def seen(browser: Any) -> np.ndarray:
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return np.asarray(picture).astype(int)


def coloured(browser: Any) -> float:
    """Share of the middle of the window that is neither white nor grey: the surface."""
    middle = seen(browser)[150:550, 250:750]
    return float(((middle.max(axis=2) - middle.min(axis=2)) > 40).mean())


def wait_until(holds: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.2)


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def press(browser: Any, element: Any, times: int) -> None:
    from selenium.webdriver.common.keys import Keys

    for _ in range(times):
        element.send_keys(Keys.ARROW_RIGHT)


def test_the_saved_page_draws_with_the_network_off(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import Select

    cloud = np.random.default_rng(0).normal(size=(300, 3))
    cloud /= np.linalg.norm(cloud, axis=1, keepdims=True)
    shown = scene.scene_of([analytic.sphere(radius=1.0)], cloud=cloud, resolution=32)
    path = tmp_path / "page.html"
    path.write_text(page.page_of(shown, title="ball"), encoding="utf-8")
    browser.set_network_conditions(offline=True, latency=0, throughput=0)
    try:
        browser.get(path.as_uri())
        assert browser.title == "ball"
        first, share = seen(browser), coloured(browser)
        assert share > 0.2
        level = browser.find_element("id", "level")
        press(browser, level, 3)
        assert coloured(browser) > 1.05 * share  # three levels up: a larger ball
        assert browser.find_element("id", "value").text != "0 units"
        browser.find_element("id", "reset").click()
        assert coloured(browser) == pytest.approx(share, rel=0.02)
        assert not browser.find_element("id", "legend").is_displayed()
        Select(browser.find_element("id", "coloring")).select_by_value("slope")
        legend = browser.find_element("id", "legend")
        assert legend.is_displayed()
        assert legend.text.split("\n")[0] == "slope of the field"
        assert {"0", "0.5", "1"} <= set(legend.text.split("\n"))  # real values, not 0 to 255
        assert np.abs(seen(browser) - first).mean() > 1.0
        browser.find_element("css selector", "#names label:nth-child(2) input").click()
        assert coloured(browser) < 0.5 * share  # the surface is hidden, its points stay
        assert errors(browser) == []
    finally:
        browser.delete_network_conditions()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address of a ball that is served by `ocsdf3d view --web`."""
    if (missing := web.missing_extra()) is not None:
        pytest.skip(f"the extra web is absent ({missing})")
    if probe.why_not() is not None:
        pytest.skip(f"rendering: {probe.why_not()}")
    field = checkpoint.save(tmp_path / "ball.safetensors", analytic.sphere(radius=1.0))
    port = web.free_port()
    command = [
        sys.executable,
        "-m",
        "ocsdf3d",
        "view",
        str(field),
        "--web",
        "--no-browser",
        "--port",
        str(port),
    ]
    command += ["--resolution", "32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_until(lambda: _listens(port) or server.poll() is not None, "the server listens")
            assert server.poll() is None, server.stderr.read() if server.stderr else ""
            yield web.address(port)
        finally:
            server.terminate()
            server.communicate(timeout=30)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((web.LOOPBACK, port)) == 0


def test_the_served_page_follows_its_slider(browser: Any, served: str) -> None:
    browser.get_log("browser")  # what earlier pages said
    browser.get(served)
    wait_until(lambda: coloured(browser) > 0.05, "the ball is drawn")
    reset = browser.find_element("id", "reset")
    reset.click()  # fits the camera to this window
    time.sleep(2.0)
    share = coloured(browser)
    slider = browser.find_elements("css selector", "[role=slider]")[0]
    press(browser, slider, 60)
    wait_until(lambda: coloured(browser) > 1.05 * share, "a larger ball is drawn")
    reset.click()
    wait_until(lambda: abs(coloured(browser) - share) < 0.02 * share, "the first ball is drawn again")
    assert errors(browser) == []


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((web.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"):
            web.serve(None, port=port)  # type: ignore[arg-type]  # refused before it is looked at


def test_a_free_port_is_free_and_on_the_loopback() -> None:
    with socket.socket() as one:
        one.bind((web.LOOPBACK, web.free_port()))
    assert web.LOOPBACK == "127.0.0.1"


@pytest.fixture
def stage() -> Iterator[Any]:
    if (missing := web.missing_extra()) is not None:
        pytest.skip(f"the extra web is absent ({missing})")
    if probe.why_not() is not None:
        pytest.skip(f"rendering: {probe.why_not()}")
    probe.prefer_egl()
    from ocsdf3d.viewer.stage import Stage

    one = Stage(
        scene.scene_of([analytic.sphere(radius=1.0)], resolution=16), off_screen=True, size=(160, 120)
    )
    yield one
    one.close()


def test_every_control_reaches_the_stage(stage: Any) -> None:
    """Without a browser: the state is set as a page would set it."""
    server = web.app(stage, name="controls")
    state, surface = server.state, stage.scene.structures[0].name

    async def turn(**changes: Any) -> None:
        with state:
            state.update(changes)
        await asyncio.sleep(0.05)

    async def use() -> None:
        state.ready()
        await turn(level=0.05)
        assert stage.level == 0.05
        await turn(coloring="slope")
        assert stage.coloring == "slope"
        await turn(layout="side")
        assert stage.layout == "side"
        await turn(axis="x", at=25.0)
        origin, normal = stage.plane
        assert origin[0] == pytest.approx(-0.5, abs=0.01)  # a quarter of the way through a ball of radius 1
        np.testing.assert_allclose(normal, (1.0, 0.0, 0.0))
        await turn(axis="none")
        assert stage.plane is None
        await turn(shown=[])
        assert stage.visible[surface] is False
        await asyncio.sleep(web.PAUSE + 0.1)  # the fine surface comes by itself once the keys pause
        fine = stage.levels_of(stage.scene.fields[0]).fine_mesh(0.05)
        assert len(stage.shape_of(surface).vertices) == len(fine.vertices)

    asyncio.run(use())
