"""Bytes by key in object stores and on web servers; what these refuse, said in a sentence that names the object.

Credentials come from the environment, as for other programs: ``AWS_*``, ``GOOGLE_*``, ``AZURE_*``. So nothing secret
is in an address, a config or a plan.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache, partial
from threading import Thread, current_thread, main_thread
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from bigncc.errors import BignccError, InputError, StoppedError

Result = TypeVar("Result")

BUCKETS = ("s3", "gs", "az")
SERVERS = ("http", "https")
SCHEMES = (*BUCKETS, *SERVERS)
ACCEPTED = "a local path, s3://, gs://, az:// or http(s):// is accepted"

RETRIES = 8
"""How often a request is repeated that failed for no fault of its own."""

PATIENCE = timedelta(seconds=10)
"""After which no request is repeated any more."""

_BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 3}
# a whole shard may take its time, but not the next byte of it
_CLIENT = {"connect_timeout": "3s", "read_timeout": "60s", "timeout": "1h"}

_MANY = 1000
"""Objects that are removed at once."""


class Storage(NamedTuple):
    """How an address is reached, beside what the environment says.

    Parameters
    ----------
    anonymous : bool
        Whether requests are not signed, for what is public.
    endpoint : str or None
        Address of the service, if it is not the provider's own.
    region : str or None
        Of an S3 bucket.
    """

    anonymous: bool = False
    endpoint: str | None = None
    region: str | None = None


USUAL = Storage()
"""What the environment says."""


def storage_of(options: Mapping[str, Any] | None) -> Storage:
    """Return checked options; InputError if there is another one than those of `Storage`."""
    if unknown := sorted((options or {}).keys() - set(Storage._fields)):
        message = f"storage_options has {', '.join(unknown)}: {', '.join(Storage._fields)} are accepted"
        raise InputError(message)
    return Storage(**(options or {}))


def is_address(text: str) -> bool:
    """Say whether a text begins with a scheme, as ``s3://`` does."""
    return re.match(r"([A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def address(text: str) -> str:
    """Return an address in its one form.

    Raises
    ------
    InputError
        If its scheme is another one, it has no bucket, or it has what may be a secret.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if "::" in scheme or "::" in rest:
        message = f"{scheme}://... is a chain of addresses: {ACCEPTED}"
        raise InputError(message)
    if scheme not in SCHEMES:
        message = f"{scheme}://... is an address of another kind: {ACCEPTED}"
        raise InputError(message)
    host, *names = rest.split("/")
    if "@" in host or "?" in rest or "#" in rest:
        message = f"{scheme}://{host.rpartition('@')[2]}/... holds a user, a query or a fragment: a plain address is "
        message += "accepted, and credentials in the environment"
        raise InputError(message)
    names = [name for name in names if name]
    if not re.fullmatch(r"[\w.-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?", host) or {".", ".."} & set(names):
        message = f"{text} names no object: {scheme}://{'HOST' if scheme in SERVERS else 'BUCKET'}/NAME is accepted"
        raise InputError(message)
    return "/".join([f"{scheme}://{host}", *names])


def check_output(place: str) -> None:
    """Raise InputError if nothing can be written to an address."""
    place = address(place)
    if place.startswith(SERVERS):
        message = (
            f"{place} is on a web server, which is only read from: a local path, s3://, gs:// or az:// is accepted"
        )
        raise InputError(message)
    if not _split(place)[1]:
        message = f"{place} is a whole bucket: {place}/NAME is accepted"
        raise InputError(message)


def opened(place: str, storage: Storage = USUAL) -> Any:
    """Return obstore's store of what is below an address."""
    return _store(address(place), storage, _environment())


@contextmanager
def explained(place: str, doing: str, kind: type[BignccError] = StoppedError) -> Iterator[None]:
    """Turn what obstore complains of into one sentence; FileNotFoundError, which is an answer, stays.

    Parameters
    ----------
    place : str
        The object.
    doing : {"read", "written", "removed", "listed"}
        For the sentence.
    kind : type
        What is raised where nobody has answered in the end: StoppedError for outputs, InputError for inputs.

    Raises
    ------
    InputError
        If the bucket does not exist, access is denied or something is asked that the server cannot do.
    """
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET.search(str(error)):
            raise _no_bucket(place) from None
        raise
    except (exceptions.BaseError, NotImplementedError) as error:
        # the text has what was asked, and who asked it
        raise _sentence(error, place, doing, kind) from None


_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound")


def _no_bucket(place: str) -> InputError:
    return InputError(f"{place}: the bucket {_split(place)[0]} does not exist, one that does is accepted")


def _sentence(error: Exception, place: str, doing: str, kind: type[BignccError]) -> BignccError:
    from obstore import exceptions

    text = str(error)
    if _NO_BUCKET.search(text):
        return _no_bucket(place)
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        return InputError(
            f"{place} cannot be {doing} (there are no credentials): AWS_*, GOOGLE_* or AZURE_* in the environment, "
            "or storage.anonymous=true for what is public, is accepted"
        )
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        absent = ", or it is absent and may not be looked for" if doing == "read" else ""
        return InputError(
            f"{place} cannot be {doing} (access is denied{absent}): credentials that allow it are accepted"
        )
    if isinstance(error, exceptions.NotSupportedError):
        return InputError(
            f"{place} cannot be read in parts, as its server has no Range requests: a server that has, or an array "
            "without shards, is accepted"
        )
    if isinstance(error, NotImplementedError):
        return InputError(f"{place} cannot be {doing}, as its store has no conditional puts: one that has is accepted")
    accepted = "the same command continues" if kind is StoppedError else "a store that answers is accepted"
    return kind(f"{place} cannot be {doing} ({_reason(text)}): {accepted}")


def _reason(text: str) -> str:
    """Return what is to be known of obstore's text, which says everything, and in Rust."""
    said, _, debug = text.partition("\n\nDebug source")
    status = re.search(r"status code: ([0-9]{3}[A-Za-z ]*)", said)
    code = re.search(r"<Code>(\w+)</Code>", said)
    cause = re.search(r'(?:message|error): "([^"]+)"', debug)
    # without a query, which may be signed
    reason = re.sub(r"\?\S+", "", " ".join(said.split()))[:200]
    if status or cause:
        reason = ", ".join(found[1].strip() for found in (status, code, cause) if found)
    host = re.search(r"https?://[^/?\s]+", said)
    times = re.search(r"after ([0-9]+) retries", said)
    return reason + (f" at {host[0]}" if host else "") + (f", {int(times[1]) + 1} times" if times else "")


def broke_off(error: Exception) -> bool:
    """Say whether an answer ended too early; obstore repeats the request by itself only where it was no refusal."""
    return "response body error" in str(error)


def _asked(ask: Callable[[], Result]) -> Result:
    """Return an answer that did not break off; the main thread hears signals meanwhile, as it would not in Rust."""
    if current_thread() is not main_thread():
        return _whole(ask)
    answer: Future[Result] = Future()

    def wait() -> None:
        try:
            answer.set_result(_whole(ask))
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=wait, daemon=True).start()
    return answer.result()


def _whole(ask: Callable[[], Result]) -> Result:
    from obstore.exceptions import GenericError

    for _ in range(RETRIES):
        try:
            return ask()
        except GenericError as error:
            if not broke_off(error):
                raise
    return ask()


def get(place: str, most: int | None = None) -> bytes | None:
    """Return the bytes of an object, or None where there is none; InputError if they are more than `most`."""
    store, key = _found(place)
    import obstore

    def whole() -> bytes:
        answer = obstore.get(store, key)
        if most is not None and answer.meta["size"] > most:
            message = f"{place} has {answer.meta['size']} bytes: at most {most} are accepted"
            raise InputError(message)
        return bytes(answer.bytes())

    try:
        with explained(place, "read"):
            return _asked(whole)
    except FileNotFoundError:
        return None


def put(place: str, data: bytes) -> None:
    """Write an object, whole or not at all."""
    store, key = _found(place)
    import obstore

    with explained(place, "written"):
        _asked(lambda: obstore.put(store, key, data, use_multipart=False))


def put_if_absent(place: str, data: bytes) -> bool:
    """Write an object unless there is one; return whether it was this call, if no other has the same `data`."""
    store, key = _found(place)
    import obstore
    from obstore.exceptions import AlreadyExistsError

    try:
        with explained(place, "written"):
            try:
                _asked(lambda: obstore.put(store, key, data, mode="create", use_multipart=False))
            except AlreadyExistsError:
                pass
            else:
                return True
    except FileNotFoundError:  # as some say of a bucket
        raise _no_bucket(place) from None
    # of a put that was repeated, the first may have come through although nobody said so
    return get(place) == data


def names(place: str) -> list[str]:
    """Return the keys of all objects below an address, from there on, in their order."""
    store, key = _listed(place)
    import obstore

    with explained(place, "listed"):
        found = _asked(lambda: [entry["path"] for some in obstore.list(store, prefix=key or None) for entry in some])
    return sorted(path[len(key) :].lstrip("/") for path in found)


def exists(place: str) -> bool:
    """Say whether there is an object at an address or below."""
    store, key = _listed(place)
    import obstore

    with explained(place, "listed"):
        if _asked(lambda: any(some for some in obstore.list(store, prefix=key or None))):
            return True
    try:
        with explained(place, "read"):
            return bool(key and _asked(lambda: obstore.head(store, key)))
    except FileNotFoundError:
        return False


def remove(place: str, keys: list[str]) -> None:
    """Remove objects below an address, those that are there."""
    store, root = _found(place)
    import obstore

    paths = [f"{root}/{key}".strip("/") for key in keys]
    for start in range(0, len(paths), _MANY):
        # where none is there, some stores say so
        with explained(place, "removed"), suppress(FileNotFoundError):
            _asked(partial(obstore.delete, store, paths[start : start + _MANY]))


def check_conditions(folder: str) -> None:
    """Raise InputError if a store writes over what it was told not to, or does not let us write below an address."""
    name = f"probe-{uuid.uuid4().hex}"
    put_if_absent(f"{folder}/{name}", b"1")
    try:
        kept = not put_if_absent(f"{folder}/{name}", b"2")
    finally:
        # who may write may still not be allowed to remove; it is known for what it is
        with suppress(BignccError):
            remove(folder, [name])
    if not kept:
        message = f"{folder}: the store writes over an object that it was told to keep (If-None-Match), so that two "
        message += "runs would not know of each other: a store with conditional puts is accepted"
        raise InputError(message)


def check_listed(place: str) -> None:
    """Raise InputError if an address cannot say what is below it."""
    if place.startswith(SERVERS):
        message = f"{place} cannot be listed, as web servers are not: a local path, s3://, gs:// or az:// is accepted"
        raise InputError(message)


def _split(place: str) -> tuple[str, str]:
    """Return the bucket or server of an address, and the key."""
    scheme, _, rest = place.partition("://")
    host, _, key = rest.partition("/")
    return f"{scheme}://{host}", unquote(key) if scheme in SERVERS else key


def _found(place: str) -> tuple[Any, str]:
    root, key = _split(address(place))
    return opened(root), key


def _listed(place: str) -> tuple[Any, str]:
    check_listed(place)
    return _found(place)


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "GOOGLE_", "AZURE_"))))


@lru_cache(maxsize=32)
def _store(place: str, storage: Storage, environment: tuple[tuple[str, str], ...]) -> Any:
    """Return obstore's store; the environment is an argument because obstore reads it."""
    try:
        from obstore import store
        from obstore.exceptions import BaseError
    except ModuleNotFoundError:
        message = f"{place} is an address: with pip install 'bigncc[cloud]' it is accepted"
        raise InputError(message) from None
    scheme, bucket = urlsplit(place)[:2]
    endpoint = _endpoint(scheme, storage, dict(environment))
    plain = scheme == "http" or (endpoint or "").startswith("http://")
    options: dict[str, Any] = {
        "client_options": _CLIENT | ({"allow_http": True} if plain else {}),
        "retry_config": {"max_retries": RETRIES, "retry_timeout": PATIENCE, "backoff": _BACKOFF},
    }
    given = {
        "prefix": _split(place)[1] or None,
        "skip_signature": storage.anonymous or None,
        "base_url" if scheme == "gs" else "endpoint": endpoint,
        "region": storage.region if scheme == "s3" else None,
    }
    try:
        if scheme in SERVERS:
            return store.HTTPStore.from_url(place, **options)
        kind: Any = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
        return kind(bucket, **options, **{name: value for name, value in given.items() if value is not None})
    except (BaseError, ValueError) as error:
        message = f"{place} cannot be opened ({_reason(str(error))}): an address that the environment suits is accepted"
        raise InputError(message) from None


def _endpoint(scheme: str, storage: Storage, environment: dict[str, str]) -> str | None:
    variables = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }.get(scheme, ())
    given = storage.endpoint or next((environment[name] for name in variables if environment.get(name)), None)
    if given is not None and not re.fullmatch(r"https?://[^@?#\s]+", given):
        message = f"the endpoint of {scheme}:// is no plain address: http(s)://HOST[:PORT] is accepted"
        raise InputError(message)
    return given
