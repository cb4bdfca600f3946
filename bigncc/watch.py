"""A store that remembers what was read: a fingerprint of each stored object, of the very bytes that were decoded.

Of two images that are larger than any patience nothing is read only to know it again. So the reads themselves leave a
trace, and a run that goes on notices an input that has changed meanwhile where it matters.
"""

import asyncio
import errno
import os
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from bigncc import store as files
from bigncc.errors import InputError, RefusedError

Absent = Literal["fill", "error"]

ABSENT = "absent"
"""The fingerprint of an object that is not stored: zarr leaves out chunks of nothing but fill."""

SHORT = 0.5
"""The longest pause before an object is read again that was too short."""

_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


class Watched(WrapperStore[Store]):
    """A store for reading that remembers what it gave, and asks again where the storage may take a fault back.

    Parameters
    ----------
    store : zarr Store
        Where the objects are.
    absent : {"fill", "error"}
        Whether an object that is not stored is refused.
    """

    def __init__(self, store: Store, absent: Absent = "fill") -> None:
        super().__init__(store)
        self._absent = absent
        self._seen: dict[str, str] = {}
        self._asked = self._again = 0

    def __str__(self) -> str:
        return str(self._store)

    def take(self) -> dict[str, str]:
        """Return the fingerprints of what was read since the last call, by key and, of a part of an object, range."""
        # one by one, as other threads go on reading
        return dict(self._seen.popitem() for _ in range(len(self._seen)))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of it; InputError if it is absent and must not be."""
        if key.rpartition("/")[2] in _METADATA:
            return await self._store.get(key, prototype, byte_range)
        found = await self._patiently(key, prototype, byte_range)
        if found is None:
            # a shared file system may say so of a file that is there
            found = await self._patiently(key, prototype, byte_range)
        if found is None and await self.exists(key):
            raise _broken(key)
        if found is None and self._absent == "error":
            message = f"{self}/{key} is absent: missing_chunks=fill or missing_chunks=nodata is accepted then"
            raise InputError(message.removeprefix("file://"))
        part = "" if byte_range is None else " ".join(f"{n}={v}" for n, v in asdict(byte_range).items())
        name = f"{key} {part}".rstrip()
        self._seen[name] = ABSENT if found is None else files.digest([found.as_buffer_like()])[:8]
        return found

    async def exists(self, key: str) -> bool:
        """Say whether an object is stored, looking twice; OSError if a directory is in its place."""
        store = self._store._store if isinstance(self._store, WrapperStore) else self._store
        if isinstance(store, LocalStore) and (store.root / key).is_dir():
            raise _broken(key)
        return await self._store.exists(key) or await self._store.exists(key)

    async def _patiently(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None) -> Buffer | None:
        self._asked += 1
        for pause in (*files.PAUSES, None):
            try:
                return _whole(await self._store.get(key, prototype, byte_range), key, byte_range)
            except OSError as error:
                # where every tenth read fails, the storage is out of order, and waiting helps nobody
                often = self._again > 10 + self._asked / 10
                if pause is None or error.errno not in files.TRANSIENT or often:
                    raise
                # what stays too short is broken
                if isinstance(error, _Short) and pause > SHORT:
                    raise
                self._again += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1))
        raise AssertionError  # the last attempt returns or raises


def object_of(name: str) -> str:
    """Return the key of the object that a fingerprint is of, or of a part of."""
    return re.sub(r"( (start|end|offset|suffix)=[0-9]+)+$", "", name)


def _whole(found: Buffer | None, key: str, byte_range: ByteRequest | None) -> Buffer | None:
    """Return what was read; OSError if it is too short, since zarr would take no bytes of a shard for fill."""
    least = byte_range.end - byte_range.start if isinstance(byte_range, RangeByteRequest) else 1
    if found is not None and len(found) < least:
        raise _Short(*_broken(key).args)
    return found


class _Short(OSError):
    """An object has fewer bytes than were asked for."""


def _broken(key: str) -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO), key)


@dataclass(frozen=True)
class Trail:
    """What this process reads of the inputs, beside what was read for this output before: `known`, by input and key."""

    sources: Mapping[str, Watched]
    known: dict[str, dict[str, str]]

    def news(self) -> dict[str, dict[str, str]]:
        """Return what was read for the first time since the last call, by input and key.

        Raises
        ------
        RefusedError
            If what was read is not what it was.
        """
        found = {}
        for name, source in self.sources.items():
            known, seen = self.known.setdefault(name, {}), source.take()
            if changed := sorted(key for key, value in seen.items() if known.get(key, value) != value):
                place = f"{source}".removeprefix("file://")
                message = (
                    f"{name} {place} has changed since this output was begun ({', '.join(changed[:5])}): the image as "
                    "it was, or another output, is accepted"
                )
                raise RefusedError(message)
            if new := {key: value for key, value in seen.items() if key not in known}:
                known.update(new)
                found[name] = new
        return found
