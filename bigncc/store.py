"""Small files on disk: complete or absent, never half; what a disk refuses, said in a sentence; digests of bytes."""

import errno
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from bigncc.errors import DoesNotFitError, InputError, StoppedError

Result = TypeVar("Result")

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


def get(path: Path) -> bytes | None:
    """Return the bytes of a file, or None where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        # where the path leads through a file, or is no path, there is nothing either
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise


def put(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one at any moment."""

    def once() -> None:
        _temporary(path, data).replace(path)
        sync(path.parent)

    with explained(path):
        patiently(once, f"{path} cannot be written", {errno.ENOENT})


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write a file unless there is one; return whether this call made it. Of several writers one wins."""
    made = False

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
