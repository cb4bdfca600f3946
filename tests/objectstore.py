"""An object store of our own on loopback: moto's S3 behind ports that each have a fault of their own.

``python -m tests.objectstore`` prints the ports as JSON and serves until its standard input is closed. All ports show
the same buckets, so the choice of an endpoint is the choice of a fault.
"""

import json
import logging
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

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


def slow(app: Application) -> Application:
    """Take as long as real stores do."""

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        time.sleep(0.02)
        return app(environ, start)

    return served


def busy(_app: Application) -> Application:
    """Answer nobody, but to say at /asked what was asked for."""
    asked: list[str] = []

    def served(environ: Environ, start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/asked":
            return _answer(start, "200 OK", " ".join(asked).encode())
        asked.append(environ["PATH_INFO"])
        return _answer(start, "503 Slow Down", _BUSY)

    return served


PORTS = (plain, flaky, torn, careless, shut, slow, busy)


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


# --- what tests do with it --------------------------------------------------------------------------------------------

SECRET = "S3CR3T"
"""The key of `USER`, which must not be found anywhere."""

USER = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}

_SIGNED = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@contextmanager
def started() -> Iterator[dict[str, str]]:
    """Start the server; yield the endpoint of each port by its fault."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.objectstore"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        server.stdin.close()


@dataclass(frozen=True)
class Bucket:
    """A bucket as its owner sees it, without bigncc."""

    endpoint: str
    name: str

    def __str__(self) -> str:
        return f"s3://{self.name}"

    @cached_property
    def _client(self) -> Any:
        return S3Store(
            self.name, endpoint=self.endpoint, region="us-east-1", access_key_id="a", secret_access_key="b",
            client_options={"allow_http": True},
        )  # fmt: skip

    def _ask(self, path: str, **headers: str) -> None:
        asked = {"Authorization": _SIGNED} | {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.endpoint}/{self.name}{path}", method="PUT", headers=asked)
        urllib.request.urlopen(request).close()

    def make(self) -> "Bucket":
        self._ask("")
        return self

    def publish(self, prefix: str) -> None:
        """Let everybody read what is below a prefix."""
        for key in self.names(prefix):
            self._ask(f"/{key}?acl", x_amz_acl="public-read")

    def names(self, prefix: str = "") -> list[str]:
        batches = obstore.list(self._client, prefix=prefix or None)
        return sorted(entry["path"] for batch in batches for entry in batch)

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self._client, key).bytes())

    def put(self, key: str, data: bytes) -> None:
        obstore.put(self._client, key, data)

    def delete(self, key: str) -> None:
        obstore.delete(self._client, key)

    def upload(self, folder: Path, prefix: str) -> str:
        """Copy a folder; return its address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self}/{prefix}"

    def download(self, prefix: str, folder: Path) -> Path:
        """Copy what is below a prefix to a folder that does not exist yet."""
        for key in self.names(prefix):
            path = folder / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(key))
        return folder


if __name__ == "__main__":
    main()
