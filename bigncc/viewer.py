"""A result in the browser: neuroglancer on this machine, and the chunks that it asks for."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from bigncc import display, scene
from bigncc.display import LEGEND
from bigncc.errors import BignccError, InputError
from bigncc.layout import COLOURS
from bigncc.streamed import Streamed
from bigncc.summary import STATUS

HOST = "127.0.0.1"

ICON = "favicon"

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""What lets somebody in who knows it: long enough that it is not guessed."""

ANYWHERE = ("0.0.0.0", "::")
"""Addresses that mean all of a machine's own."""

WORDS = {
    "@type": "neuroglancer_segment_properties",
    "inline": {
        "ids": [str(code) for code, colour in enumerate(COLOURS) if colour[3]],
        "properties": [
            {"id": "label", "type": "label", "values": [STATUS[code] for code, c in enumerate(COLOURS) if c[3]]}
        ],
    },
}
"""What each status means, as neuroglancer lists it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A result that is looked at: where, and what is not shown of it."""

    address: str
    notes: tuple[str, ...]


@contextmanager
def serving(url: str | os.PathLike[str], bind: str = HOST, token: str | None = None) -> Iterator[Served]:
    """Serve a result, finished or not, to the browsers that know an address, within the context.

    A process serves one at a time: neuroglancer has one server.

    Parameters
    ----------
    url : path or address
        An output of bigncc.
    bind : str
        ``HOST[:PORT]``; without a port a free one is taken.
    token : str, optional
        Part of the address, without which nothing is answered: 16 letters or digits at least. By default a random one,
        which suffices for what only this machine can reach.

    Raises
    ------
    InputError
        If there is nothing to show, neuroglancer is not installed, or other machines could reach the address and
        `token` is not given.
    """
    host, port = _bound(bind, token)
    token = secrets.token_urlsafe(24) if token is None else token
    try:
        import neuroglancer
    except ModuleNotFoundError:
        message = "neuroglancer is not installed: pip install 'bigncc[view]'"
        raise InputError(message) from None
    found = display.displayed(url)
    neuroglancer.stop()
    neuroglancer.set_server_bind_address(host, port)
    neuroglancer.server.start()
    server = neuroglancer.server.global_server
    try:
        viewer = neuroglancer.Viewer(token=token, allow_credentials=False)
        named = socket.getfqdn() if host in ANYWHERE else host
        root = f"http://{f'[{named}]' if ':' in named else named}:{server.port}"
        handler = _handler(found.streams, server.executor)
        # a browser asks for an icon of every page, and what is not there is an error in its log
        routes = [(rf"/data/{re.escape(token)}/([a-z]+)/(.*)", handler), (rf"/({ICON})\.(ico)", handler)]
        server.app.add_handlers(".*", routes)
        viewer.set_state(scene.state(found.scene, f"{root}/data/{token}/"))
        yield Served(f"{root}/v/{token}/", found.notes)
    finally:
        neuroglancer.stop()


def _bound(bind: str, token: str | None) -> tuple[str, int]:
    """Return host and port; InputError if these are none, or if whoever comes would be let in."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?", bind)
    if match is None or int(match[3] or 0) > 65535:
        message = f"--bind is {bind!r}: HOST or HOST:PORT, such as 127.0.0.1:8765, is accepted"
        raise InputError(message)
    if token is not None and TOKEN.fullmatch(token) is None:
        message = f"--token has {len(token)} characters: 16 to 128 letters, digits, - or _ are accepted"
        raise InputError(message)
    host = match[1] or match[2]
    places = _places(host, int(match[3] or 0), bind)
    if token is None and not all(ip_address(place.partition("%")[0]).is_loopback for place in places):
        message = f"--bind {bind} can be reached from other machines: with --token, which lets in who knows it, it is "
        message += "accepted"
        raise InputError(message)
    return host, int(match[3] or 0)


def _places(host: str, port: int, bind: str) -> set[str]:
    """Return the addresses that a name stands for; InputError if nobody can listen there."""
    found = set()
    try:
        for family, kind, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            found.add(str(place[0]))
            with socket.socket(family, kind) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
    except OSError as error:
        message = (
            f"--bind is {bind!r} and cannot be listened at ({error.strerror or error}): a free port of an address "
        )
        message += "of this machine is accepted"
        raise InputError(message) from error
    return found


def _handler(streams: Mapping[str, Streamed], pool: Any) -> Any:
    """Return what answers to requests for layers: their chunks and metadata, and nothing else on this machine."""
    import tornado.ioloop
    import tornado.web

    def answer(name: str, path: str) -> bytes | None:
        if name == ICON:
            return b""
        if name == LEGEND:
            return json.dumps(WORDS).encode() if path == "info" else None
        return streams[name].answer(path) if name in streams else None

    class Chunks(tornado.web.RequestHandler):
        """Answers to one request."""

        async def get(self, name: str, path: str) -> None:
            self.set_header("Content-Type", "application/octet-stream")
            # a result that is not finished has more to show when it is asked again
            self.set_header("Cache-Control", "no-store")
            try:
                found = await tornado.ioloop.IOLoop.current().run_in_executor(pool, answer, name, path)
            except BignccError as error:
                _log.warning("%s", error)
                self.set_status(500)
                await self.finish(str(error))
                return
            if found is None:
                self.set_status(404)
            await self.finish(found)

    return Chunks
