"""Where a page is served, and whether that needs a token; `test_viewer_web.py` knocks at a real server."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from ocsdf3d.viewer.door import LOOPBACK, Door, door_at


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on port {port} of 127.0.0.1"):
            door_at(LOOPBACK, port)


@pytest.mark.parametrize(
    ("host", "said"),
    [("192.0.2.1", "cannot listen on 192.0.2.1"), ("", "no name or address"), ("a..b", "no name or address")],
)
def test_a_place_that_is_not_this_machines_is_named(host: str, said: str) -> None:
    with pytest.raises(OSError, match=said):
        door_at(host)


def test_a_free_port_is_free_and_on_the_loopback() -> None:
    door = door_at()
    with socket.socket() as one:
        one.bind((LOOPBACK, door.port))
    assert (door.host, door.token) == ("127.0.0.1", None)
    assert door.address == door.own_address == f"http://127.0.0.1:{door.port}/"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2"])
def test_the_loopback_needs_no_token(host: str) -> None:
    assert door_at(host).token is None


def test_beyond_it_each_door_has_a_token_of_its_own() -> None:
    first, second = door_at("0.0.0.0"), door_at("0.0.0.0")
    assert first.token is not None
    assert len(first.token) >= 32
    assert first.token != second.token
    assert first.address == f"http://{socket.gethostname()}:{first.port}/?token={first.token}"
    assert first.own_address == f"http://127.0.0.1:{first.port}/?token={first.token}"


def test_an_address_of_version_six_stands_in_brackets() -> None:
    assert Door("::1", 8080).address == "http://[::1]:8080/"
    assert Door("::1", 8080).refusal("[::1]:8080", "http://[::1]:8080", []) is None
    assert Door("::", 8080, "secret").own_address == "http://[::1]:8080/?token=secret"


def test_the_reason_tells_what_to_do() -> None:
    door = Door(LOOPBACK, 8080)
    assert door.refusal("127.0.0.1:8080", None, []) is None
    assert "open http://127.0.0.1:8080/" in str(door.refusal("evil.example", None, []))
    assert "http://evil.example, which is another site" in str(
        door.refusal("localhost", "http://evil.example", [])
    )
    asked = replace(door, host="0.0.0.0", token="secret")
    assert "open the whole address" in str(asked.refusal("127.0.0.1:8080", None, ["", "other"]))
    assert asked.refusal("any.example", None, ["", "secret"]) is None
