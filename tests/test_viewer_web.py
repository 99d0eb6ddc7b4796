"""The page and the server in a real browser: pictures before and after the slider moved, and no errors; who
gets in, asked with requests that no browser would send.

Skipped with a reason where Chromium, its driver, Selenium or the extra `web` is absent.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from ocsdf3d import analytic, checkpoint
from ocsdf3d.viewer import door, page, probe, scene, web

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


@contextmanager
def serving(folder: Path, host: str) -> Iterator[str]:
    """Address, as it is printed, of a ball that is served by `ocsdf3d view --web`."""
    if (missing := web.missing_extra()) is not None:
        pytest.skip(f"the extra web is absent ({missing})")
    if probe.why_not() is not None:
        pytest.skip(f"rendering: {probe.why_not()}")
    field = checkpoint.save(folder / "ball.safetensors", analytic.sphere(radius=1.0))
    port = door.door_at(host).port
    command = [sys.executable, "-m", "ocsdf3d", "view", str(field), "--web", "--no-browser"]
    command += ["--port", str(port), "--host", host, "--resolution", "32"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    elsewhere = {**os.environ, "TRAME_ARGS": "--host 0.0.0.0"}  # which trame would follow
    with subprocess.Popen(command, **pipes, env=elsewhere) as server:
        try:
            wait_until(lambda: _listens(port) or server.poll() is not None, "the server listens")
            assert server.stderr is not None
            assert server.poll() is None, server.stderr.read()
            said = server.stderr.readline()
            while "http://" not in said:
                assert "warning: --host 0.0.0.0: others on the network may see" in said
                said = server.stderr.readline()
            yield next(word for word in said.split() if word.startswith("http://"))
        finally:
            server.terminate()
            server.communicate(timeout=30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served"), door.LOOPBACK) as address:
        yield address


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server for the whole network; the machine's name is replaced, which may not resolve here."""
    with serving(tmp_path_factory.mktemp("shared"), "0.0.0.0") as address:
        parts = urlsplit(address)
        yield parts._replace(netloc=f"{door.LOOPBACK}:{parts.port}").geturl()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((door.LOOPBACK, port)) == 0


def answers(address: str, **headers: str) -> tuple[int, int]:
    """Status of a page, with what it leads to, and of a WebSocket of the same server."""
    aiohttp = pytest.importorskip("aiohttp")
    line = urlsplit(address)._replace(scheme="ws", path="/ws").geturl()

    async def ask() -> tuple[int, int]:
        jar = aiohttp.DummyCookieJar()  # each request stands for itself
        async with aiohttp.ClientSession(headers=headers, cookie_jar=jar) as client:
            async with client.get(address, allow_redirects=False) as page:
                status = page.status
            try:
                async with client.ws_connect(line):
                    return status, 101
            except aiohttp.WSServerHandshakeError as error:
                return status, error.status

    return asyncio.run(ask())


def test_the_loopback_hears_its_own_page_only(served: str) -> None:
    place = urlsplit(served).netloc
    assert answers(served) == (302, 101)  # a program that is no browser names no page
    assert answers(served, Origin=f"http://{place}") == (302, 101)
    assert answers(served, Host="localhost:9000", Origin="http://localhost:9000") == (302, 101)  # forwarded
    for site in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://{place}.evil.example"):
        assert answers(served, Origin=site) == (403, 403), site
    # a name of theirs that they made point here: its pages are of the same origin
    port = urlsplit(served).port
    for name in (f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "192.0.2.1", "[::1", ""):
        assert answers(served, Host=name, Origin=f"http://{name}") == (403, 403), name


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback has one address")
def test_nothing_but_the_option_opens_it_wider(served: str, shared: str) -> None:
    heard = []
    for address in (served, shared):
        with socket.socket() as one:
            heard.append(one.connect_ex(("127.0.0.2", urlsplit(address).port)) == 0)
    assert heard == [False, True]


def test_beyond_the_loopback_the_token_is_asked_for(shared: str) -> None:
    plain, token = shared.split("?token=")
    place = urlsplit(shared).netloc
    assert len(token) >= 32
    assert answers(shared) == (302, 101)
    assert answers(shared, Origin=f"http://{place}", Host=place) == (302, 101)
    assert answers(shared, Host="scanner.example:80", Origin="http://scanner.example:80") == (302, 101)
    for wrong in ("", f"?token={token[:-1]}", f"?token={token}x", "?token=wslink-secret", "?token=%C3%A9"):
        assert answers(plain + wrong) == (403, 403), wrong
        assert answers(plain + "index.html" + wrong)[0] == 403, wrong
    assert answers(shared, Origin="http://evil.example") == (403, 403)


def test_the_token_leaves_the_address_for_a_cookie(shared: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    plain, token = shared.split("?token=")

    async def visit() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # which keeps cookies of bare addresses
        async with aiohttp.ClientSession(cookie_jar=jar) as client:
            async with client.get(plain + "index.html") as refused:
                assert refused.status == 403
                assert "open the whole address" in await refused.text()
            async with client.get(shared) as page:
                assert page.status == 200
                assert token not in str(page.url)
                assert "<html" in await page.text()
                said = page.history[0].headers["Set-Cookie"]
                assert "HttpOnly" in said
                assert "SameSite=Lax" in said
            async with client.ws_connect(plain.replace("http", "ws") + "ws"):
                pass

    asyncio.run(visit())


def test_a_browser_gets_in_with_the_token_alone(browser: Any, shared: str) -> None:
    browser.get(shared.split("?", maxsplit=1)[0])
    assert "the token is missing" in browser.page_source
    browser.get_log("browser")
    browser.get(shared)
    wait_until(lambda: coloured(browser) > 0.05, "the ball is drawn")
    assert errors(browser) == []


def test_the_served_page_follows_its_slider(browser: Any, served: str) -> None:
    browser.get("about:blank")  # an earlier page complains when it is left, for its server is gone
    browser.get_log("browser")
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
