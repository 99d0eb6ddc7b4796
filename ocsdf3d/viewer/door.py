"""Where a page is served, and to whom: this machine alone, or whoever has the token.

The server behind it (wslink) asks for a secret that is the same everywhere, so what keeps others out stands
before it, as a middleware that every request passes:

- of another machine's programs: the loopback address, or a random token that the printed address holds; the
  page takes it from there once and goes on with a cookie, so that it stays out of history and bookmarks;
- of other pages in the user's own browser, which reach the loopback as well: `Origin` must be the page's own;
- of names that are made to point at the loopback (DNS rebinding): there, `Host` must be a name of it.
"""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

__all__ = ["LOOPBACK", "Door", "door_at", "guard"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """Where a page is served, and what it asks of who comes.

    Attributes
    ----------
    host : str
        Name or address to listen on.
    port : int
        To listen on.
    token : str or None
        What a request must bring, or None where only this machine can reach it.
    """

    host: str
    port: int
    token: str | None = None

    @property
    def address(self) -> str:
        """What to open, here or elsewhere; with the token."""
        return self._address(socket.gethostname() if _is_any(self.host) else self.host)

    @property
    def own_address(self) -> str:
        """What to open on this machine."""
        loopback = "::1" if ":" in self.host else LOOPBACK  # a socket of version 6 hears no other
        return self._address(loopback if _is_any(self.host) else self.host)

    def _address(self, host: str) -> str:
        query = "" if self.token is None else "?" + urlencode({"token": self.token})
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{query}"

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token: cookies do not tell ports apart."""
        return f"ocsdf3d-{self.port}"

    def refusal(self, host: str, origin: str | None, tokens: list[str]) -> str | None:
        """Return why a request is refused, or None.

        Parameters
        ----------
        host : str
            Its header `Host`: the name under which the client knows this place, maybe with a port.
        origin : str or None
            Its header `Origin`: the page that asks. Programs that are no browsers send none.
        tokens : list of str
            What it brings.
        """
        if self.token is not None:
            if not any(secrets.compare_digest(one.encode(), self.token.encode()) for one in tokens):
                return "the token is missing or wrong: open the whole address that `ocsdf3d view` printed."
        elif not self._is_own(host):
            return f"this place has no name {host!r}: open {self.address}"
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return f"asked for by a page of {origin}, which is another site."
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a `Host` is a name of the loopback, whatever the port: it may be forwarded."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.host.lower()):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def door_at(host: str = LOOPBACK, port: int = 0) -> Door:
    """Return a door that nobody listens at yet; beyond the loopback it has a token, drawn anew.

    Parameters
    ----------
    host : str
        Name or address of this machine; 0.0.0.0 or :: for all it has.
    port : int
        0 for one that is free.

    Raises
    ------
    OSError
        No address of this machine, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise OSError(f"--host {host!r} is no name or address of this machine; choose another.")
    for family, _, _, _, place in found:
        with socket.socket(family) as probe:  # the server itself would only log it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((place[0], port, *place[2:]))
            except OSError as error:
                what = host if error.errno == errno.EADDRNOTAVAIL else f"port {port} of {host}"
                raise OSError(f"cannot listen on {what} ({error.strerror}); choose another.") from None
            port = port or int(probe.getsockname()[1])
    inward = all(ipaddress.ip_address(str(place[0]).split("%")[0]).is_loopback for *_, place in found)
    return Door(host, port, None if inward else secrets.token_urlsafe(24))


def guard(door: Door) -> Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]:
    """Return an aiohttp middleware that lets through what a door does, and leads from / to the page.

    A right token in the address comes back as a cookie, `HttpOnly` and `SameSite=Lax`.
    """
    from aiohttp import web

    @web.middleware
    async def middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        tokens = [*request.query.getall("token", []), request.cookies.get(door.cookie, "")]
        refused = door.refusal(request.host, request.headers.get("Origin"), tokens)
        if refused is not None:
            return web.Response(status=403, text=f"403: {refused}\n")
        if request.path != "/":
            return await handler(request)
        # says where the socket is, so that the page need not ask for it
        page = "/index.html?" + urlencode({"sessionURL": f"ws://{request.host}/ws"})
        response = web.Response(status=302, headers={"Location": page, "Cache-Control": "no-store"})
        if door.token is not None:
            response.set_cookie(door.cookie, door.token, httponly=True, samesite="Lax")
        return response

    return middleware


def _is_any(host: str) -> bool:
    """Whether an address stands for all that the machine has."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
