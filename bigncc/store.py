"""Bytes by key on disk or in an object store: complete or absent, never half; digests of bytes.

A place is an absolute local path or an address; where functions take a path, both are meant.
"""

import errno
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import xxhash

from bigncc import remote
from bigncc.errors import DoesNotFitError, InputError, StoppedError

Result = TypeVar("Result")
Source = str | os.PathLike[str]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EROFS,
}
TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EAGAIN, errno.EBUSY}
"""What a shared file system says and may take back."""

PAUSES = (0.1, 0.5, 2.0, 8.0)
"""Seconds before each further attempt, less a random part: those who failed together should not return together."""

PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")
"""Names of files that zarr or bigncc had not finished when it was killed."""


CONCURRENT = 32
"""Requests at a time, where each takes long and costs little."""


def absolute(source: Source) -> str:
    """Return the place that a path, relative or not, or an address means; InputError if it is no place."""
    text = os.fspath(source)
    if "\0" in text or any(0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) < 0xE000 for c in text):
        message = f"the path {text!r} holds what no path can: a path is accepted"
        raise InputError(message)
    if text.startswith("file://"):
        text = _path_of(text)
    return remote.address(text) if remote.is_address(text) else str(Path(text).absolute())


def _path_of(text: str) -> str:
    """Return the path that an address of a file means; InputError if it is one of another machine, or says more."""
    host, slash, path = text.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash or "?" in path or "#" in path:
        message = "file://... names a host, a query or a fragment: file:///PATH, or the path as it is, is accepted"
        raise InputError(message)
    return f"/{unquote(path)}"


def is_local(place: Source) -> bool:
    """Say whether a path is one on disk."""
    return not remote.is_address(os.fspath(place))


def check_output(source: Source) -> None:
    """Raise InputError if nothing can ever be written to an address."""
    if not is_local(source):
        remote.check_output(os.fspath(source))


@contextmanager
def explained(place: str | Path, *, midway: bool = False) -> Iterator[None]:
    """Turn what the disk refuses to write at `place` into a sentence; other faults stay what they are.

    Parameters
    ----------
    place : path
        For the sentence.
    midway : bool
        Whether it could be written before: then a disk that has become read-only is as good as full.

    Raises
    ------
    DoesNotFitError
        If the disk or the quota is full.
    InputError
        If the place is not one to write to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or (midway and error.errno == errno.EROFS):
            message = f"{place} cannot be written ({error.strerror}): run again when there is space"
            raise DoesNotFitError(message) from error
        if error.errno in _FORBIDDEN:
            message = f"{place} cannot be written ({error.strerror}): a path in a writable directory is accepted"
            raise InputError(message) from error
        raise


def digest(parts: Iterable[Any]) -> str:
    """Return the xxh3-128 of some bytes, hexadecimal."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def patiently(function: Callable[[], Result], what: str, also: Container[int | None] = ()) -> Result:
    """Call a function that may be called again, until the storage answers.

    Parameters
    ----------
    function : callable
        What reads or writes.
    what : str
        Begins the sentence of a failure.
    also : container of int
        Further error numbers that pass: ENOENT where another process may sweep a file before it has its name.

    Raises
    ------
    StoppedError
        If it does not after `PAUSES`.
    """
    for pause in (*PAUSES, None):
        try:
            return function()
        except OSError as error:
            if error.errno not in TRANSIENT and error.errno not in also:
                raise
            if pause is None:
                message = f"{what}: {error.strerror}, {len(PAUSES) + 1} times; the same command continues"
                raise StoppedError(message) from error
            time.sleep(pause * random.uniform(0.5, 1))
    raise AssertionError  # the last attempt returns or raises


def get(place: Source, most: int | None = None) -> bytes | None:
    """Return the bytes of a file, or None where there is none; InputError if they are more than `most`."""
    if not is_local(place):
        return remote.get(os.fspath(place), most)
    try:
        with Path(place).open("rb") as file:
            data = file.read() if most is None else file.read(most + 1)
    except OSError as error:
        # where the path leads through a file, or is no path, there is nothing either
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise
    if most is not None and len(data) > most:
        message = f"{place} has more than {most} bytes: at most as many are accepted"
        raise InputError(message)
    return data


def get_all(places: Iterable[Source]) -> Iterator[bytes | None]:
    """Yield what `get` returns for each place, in their order, many at a time."""
    rest = iter(places)
    with ThreadPoolExecutor(CONCURRENT) as pool:
        while some := list(islice(rest, 32 * CONCURRENT)):
            yield from pool.map(get, some)


def put(place: Source, data: bytes) -> None:
    """Write a file that is either the old one or the new one at any moment."""
    if not is_local(place):
        return remote.put(os.fspath(place), data)
    path = Path(place)

    def once() -> None:
        _temporary(path, data).replace(path)
        sync(path.parent)

    with explained(path):
        return patiently(once, f"{path} cannot be written", {errno.ENOENT})


def put_if_absent(place: Source, data: bytes) -> bool:
    """Write a file unless there is one; return whether this call made it. Of several writers one wins.

    In an object store they must write different bytes to be told apart.
    """
    if not is_local(place):
        return remote.put_if_absent(os.fspath(place), data)
    path, made = Path(place), False

    def once() -> bool:
        nonlocal made
        temporary = _temporary(path, data)
        try:
            if not made:
                path.hardlink_to(temporary)
            made = True
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync(path.parent)
        return True

    with explained(path):
        return patiently(once, f"{path} cannot be written")


def exists(place: Source) -> bool:
    """Say whether there is anything at a place."""
    return os.path.exists(place) if is_local(place) else remote.exists(os.fspath(place))  # noqa: PTH110 - long names


def parents(place: Source) -> list[str]:
    """Return what a place lies in, the nearest first, up to the root of the disk or the bucket."""
    if is_local(place):
        return [str(parent) for parent in Path(place).parents]
    head, *rest = os.fspath(place).split("/")[2:]
    scheme = os.fspath(place).partition("//")[0]
    return [f"{scheme}//" + "/".join([head, *rest[:n]]) for n in reversed(range(len(rest)))]


def names(place: Source) -> list[str]:
    """Return the keys of all files below a place, in their order."""
    if not is_local(place):
        return remote.names(os.fspath(place))
    path = Path(place)
    return sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*") if not entry.is_dir())


def remove(place: Source) -> None:
    """Remove a file if it is there."""
    if is_local(place):
        Path(place).unlink(missing_ok=True)
    else:
        folder, _, name = os.fspath(place).rpartition("/")
        remote.remove(folder, [name])


def clear(place: Source, last: str) -> None:
    """Remove all files below a place, and what holds them: the file `last` in the end."""
    found = sorted(names(place), key=lambda name: (name == last, name))
    if not is_local(place):
        for some in ([name for name in found if name != last], [last] if last in found else []):
            remote.remove(os.fspath(place), some)
        return
    path = Path(place)
    for name in found:
        (path / name).unlink()
    for folder in (*sorted(path.rglob("*"), reverse=True), path):
        if folder.exists():
            folder.rmdir()


def sync(path: Path) -> None:
    """Make what was written to a file, or the names in a directory, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.write_bytes(data)
        sync(temporary)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
