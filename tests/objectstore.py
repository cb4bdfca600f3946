"""An object store of our own on loopback: moto's S3 behind ports that each have a fault of their own.

``python -m tests.objectstore`` prints the ports as JSON and serves until its standard input is closed. All ports show
the same buckets, so the choice of an endpoint is the choice of a fault.
"""

import json
import logging
import random
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

SHARE = 0.2
"""Of the requests to a flaky port."""

_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def _answer(start: Any, status: str, body: bytes) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def plain(app: Application) -> Application:
    """Return a store without a fault, and with conditional puts as atomic as real ones are."""
    lock = threading.Lock()

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return app(environ, start)
        with lock:
            return list(app(environ, start))

    return served


def flaky(app: Application) -> Application:
    """Fail some requests, half of them after they were obeyed: what was written is there, and nobody was told."""
    rng, lock = random.Random(0), threading.Lock()

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        with lock:
            drawn = rng.random()
        if drawn < SHARE / 2:
            list(app(environ, lambda *_: None))
        if drawn < SHARE:
            return _answer(start, "503 Slow Down", b"" if environ["REQUEST_METHOD"] == "HEAD" else _BUSY)
        return app(environ, start)

    return served


def torn(app: Application) -> Application:
    """End some answers in the middle."""
    rng, lock = random.Random(1), threading.Lock()

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        with lock:
            drawn = rng.random()
        body = b"".join(app(environ, start))
        return [body[: len(body) // 2]] if drawn < SHARE and environ["REQUEST_METHOD"] == "GET" else [body]

    return served


def careless(app: Application) -> Application:
    """Obey puts whatever their condition."""

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return app(environ, start)

    return served


def shut(app: Application) -> Application:
    """Let nobody write."""

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            return _answer(start, "403 Forbidden", _DENIED)
        return app(environ, start)

    return served


def busy(_app: Application) -> Application:
    """Answer nobody."""

    def served(_environ: Environ, start: Any) -> Iterable[bytes]:
        return _answer(start, "503 Slow Down", _BUSY)

    return served


PORTS = (plain, flaky, torn, careless, shut, busy)


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app: Application = plain(DomainDispatcherApplication(create_backend_app))
    ports = {}
    for layer in PORTS:
        server = make_server("127.0.0.1", 0, app if layer is plain else layer(app), threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[layer.__name__] = server.server_port
    print(json.dumps(ports), flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main()
