"""What is let in: metadata, names and objects of images that strangers wrote, looked at before anything is read.

A document is checked before Zarr makes an array of it, and an object before it is opened: metadata may name codecs that
run code, promise chunks larger than any memory, or lead out of the image by links. An output may have come from a
stranger, too: nothing is written where a link leads out of it.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

from bigncc import documents
from bigncc.documents import is_inside
from bigncc.errors import InputError

CODECS = ("bytes", "transpose", "zstd", "gzip", "blosc", "crc32c", "sharding_indexed")
"""Of Zarr's version 3; `endian` is what bytes was called at first."""

COMPRESSORS = ("zlib", "gzip", "blosc", "zstd", "lz4", "bz2")
FILTERS = ("shuffle", "delta", "fixedscaleoffset", "crc32c")
"""Of Zarr's version 2; a compressor may be a filter, too."""

LARGEST = 2**31
"""Bytes of a decoded chunk, which is the smallest part of an image that can be read."""

FARTHEST = 2**40
"""Pixels along an axis."""

MOST = 2**20
"""Chunks of a shard, each of which has 16 bytes of its index."""

CHAIN = 8
"""Codecs one after the other, and shards within shards."""

_REMEMBERED = 2**16
"""Folders of which it is known that they are within an image, at most."""

METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})

_VERSION_2 = re.compile(r"[<>|=]?(?:b(1)|[iu]([1248])|f([248]))")
"""How dtypes are called, with their bytes."""

_VERSION_3 = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
"""How they are called there, with their bits."""

_NUMBERS = "integers, floats and bool are accepted"


class Gated(WrapperStore[Store]):
    """A store of which only that is read which is safe to be read, and which is written to only within itself.

    Parameters
    ----------
    store : zarr Store
        Where the objects are.
    most : int
        Bytes of an object that is no metadata, at most.
    """

    def __init__(self, store: Store, most: int = 2 * LARGEST) -> None:
        super().__init__(store)
        self.most = most
        self._root = os.path.realpath(store.root) if isinstance(store, LocalStore) else ""
        self._known: set[str] = set()

    def __str__(self) -> str:
        return str(self._store)

    def _with_store(self, store: Store) -> Gated:
        return type(self)(store, self.most)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of it; InputError if it is too large, leads elsewhere, or is unsafe metadata."""
        name = key.rpartition("/")[2]
        most = documents.LARGEST if name in METADATA else self.most
        self.check(key, None if byte_range else most)
        at_most = getattr(self._store, "at_most", None)  # of what only says how large it is as it is read
        found = await (self._store if at_most is None else at_most(most)).get(key, prototype, byte_range)
        if found is not None and name in METADATA and byte_range is None:
            check_metadata(found.to_bytes(), name, self._place(key))
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read several objects or parts of them, as `get`."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for key, prototype, part in requests:
            yield key, await self.get(key, prototype, part)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object; InputError if a link leads elsewhere."""
        self.check(key)
        await self._store.set(key, value)

    def limited(self, most: int) -> Gated:
        """Return the same for the objects of an array, none of which is larger than that."""
        return type(self)(self._store, most)

    def _place(self, key: str) -> str:
        return f"{self}/{key}".removeprefix("file://").removeprefix("zip://")

    def check(self, key: str, most: int | None = None) -> None:
        """Raise InputError if an object has more than `most` bytes, is no file, or is not within the image."""
        if (".." in key or "//" in key or "\\" in key or "\0" in key or key[:1] == "/") and not is_inside(key):
            message = f"{self._place('')} names an object {key!r}: a relative path inside of the image is accepted"
            raise InputError(message)
        if self._root:
            size = self._size_on_disk(key)
        elif isinstance(self._store, ZipStore):
            size = self._size_in_zip(key)
        else:
            return
        if most is not None and size > most:
            message = f"{self._place(key)} has {size} bytes: at most {most}, as its array says, are accepted"
            raise InputError(message)

    def _size_on_disk(self, key: str) -> int:
        """Return the size of a file, 0 if there is none; InputError if it is none or is elsewhere."""
        folder = os.path.dirname(key)  # noqa: PTH120
        if folder and folder not in self._known:
            self._check_link(folder)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known.add(folder)
        try:
            found = os.lstat(path := f"{self._root}/{key}")
            if stat.S_ISLNK(found.st_mode):
                self._check_link(key)
                found = os.stat(path)  # noqa: PTH116
        except OSError:  # which reading it says, too
            return 0
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            message = f"{self._place(key)} is a pipe, a socket or a device: a file is accepted"
            raise InputError(message)
        return found.st_size

    def _check_link(self, key: str) -> None:
        real = os.path.realpath(f"{self._root}/{key}")
        if not f"{real}/".startswith(f"{self._root.rstrip('/')}/"):
            message = f"{self._place(key)} is a link that leads out of the image, to {real}: a file or folder within "
            message += "it is accepted, or the path of what it leads to"
            raise InputError(message)

    def _size_in_zip(self, key: str) -> int:
        archive = getattr(self._store, "_zf", None)  # not before it is opened
        try:
            return 0 if archive is None else int(archive.getinfo(key).file_size)
        except KeyError:
            return 0


def check_metadata(data: bytes, name: str, place: str) -> None:
    """Check a metadata document of Zarr.

    Parameters
    ----------
    data : bytes
        As stored.
    name : str
        Its file name.
    place : str
        For the sentence.

    Raises
    ------
    InputError
        If it is no JSON, or an array that cannot be read safely.
    """
    found = documents.document(data, place)
    if not isinstance(found, dict):
        message = f"{place} holds a {type(found).__name__}: a mapping is accepted"
        raise InputError(message)
    if name == ".zarray":
        _check_version_2(found, place)
    elif name == "zarr.json" and found.get("node_type") == "array":
        _check_version_3(found, place)


def _check_version_2(found: dict[str, Any], place: str) -> None:
    size = _itemsize(found.get("dtype"), _VERSION_2, place)
    shape, chunks = _extents(found, "shape", place, 0), _extents(found, "chunks", place, 1)
    _check_alike(shape, chunks, place)
    filters = found.get("filters")
    chain = [*(filters if isinstance(filters, list) else [filters]), found.get("compressor")]
    if len(chain) > CHAIN:
        raise _refused(place, f"{len(chain)} codecs", f"at most {CHAIN} are accepted")
    for each in (each for each in chain if each is not None):
        named = each.get("id") if isinstance(each, dict) else each
        if not isinstance(each, dict) or named not in (*COMPRESSORS, *FILTERS):
            raise _refused(place, f"codec {_shown(named)}", f"{', '.join((*COMPRESSORS, *FILTERS))} are accepted")
        for dtype in (each[key] for key in ("dtype", "astype") if each.get(key) is not None):
            _itemsize(dtype, _VERSION_2, place)
    _check_chunk(math.prod(chunks) * size, chunks, place)


def _check_version_3(found: dict[str, Any], place: str) -> None:
    size = _itemsize(found.get("data_type"), _VERSION_3, place) // 8
    shape, grid = _extents(found, "shape", place, 0), _named(found.get("chunk_grid"), "chunk_grid", place)
    if grid[0] != "regular":
        raise _refused(place, f"chunk_grid {_shown(grid[0])}", "regular is accepted")
    if found.get("storage_transformers"):
        raise _refused(place, "storage_transformers", "none is accepted")
    chunks = _extents(grid[1], "chunk_shape", place, 1)
    _check_alike(shape, chunks, place)
    _check_codecs(found.get("codecs"), chunks, size, place)


def _check_codecs(codecs: Any, chunks: tuple[int, ...], size: int, place: str, deep: int = 0) -> None:
    if not isinstance(codecs, list) or not 0 < len(codecs) <= CHAIN or deep > CHAIN:
        raise _refused(place, "codecs", f"a list of 1 to {CHAIN} is accepted, and as many shards within shards")
    for each in codecs:
        name, configuration = _named(each, "codec", place)
        if name not in (*CODECS, "endian"):
            raise _refused(place, f"codec {_shown(name)}", f"{', '.join(CODECS)} are accepted")
        if name != "sharding_indexed":
            continue
        inner = _extents(configuration, "chunk_shape", place, 1)
        _check_alike(chunks, inner, place)
        if any(n % c for n, c in zip(chunks, inner, strict=True)):
            raise _refused(place, f"shards {list(chunks)} of chunks {list(inner)}", "multiples of these are accepted")
        if (count := math.prod(n // c for n, c in zip(chunks, inner, strict=True))) > MOST:
            raise _refused(place, f"shards of {count} chunks", f"at most {MOST} are accepted")
        _check_codecs(configuration.get("codecs"), inner, size, place, deep + 1)
        index = configuration.get("index_codecs", [])
        for other in index if isinstance(index, list) else [index]:
            if (named := _named(other, "index codec", place)[0]) not in ("bytes", "endian", "crc32c"):
                raise _refused(place, f"index codec {_shown(named)}", "bytes and crc32c are accepted")
        if len(codecs) == 1:
            return  # chunks are read one by one
    _check_chunk(math.prod(chunks) * size, chunks, place)


def _check_chunk(size: int, chunks: tuple[int, ...], place: str) -> None:
    if size > LARGEST:
        raise _refused(place, f"chunks {list(chunks)} of {size} bytes each", f"at most {LARGEST} bytes are accepted")


def _check_alike(shape: tuple[int, ...], chunks: tuple[int, ...], place: str) -> None:
    if len(shape) != len(chunks):
        raise _refused(place, f"shape {list(shape)} and chunks {list(chunks)}", "as many extents are accepted")


def _extents(found: Any, key: str, place: str, least: int) -> tuple[int, ...]:
    """Return a shape; InputError if it is none."""
    value = found.get(key) if isinstance(found, dict) else None
    if (
        not isinstance(value, list)
        or len(value) > 32
        or not all(type(n) is int and least <= n < FARTHEST for n in value)
    ):
        raise _refused(place, f"{key} {_shown(value)}", f"a list of whole numbers from {least} to 2^40 is accepted")
    return tuple(value)


def _itemsize(name: Any, accepted: re.Pattern[str], place: str) -> int:
    """Return the number in the name of a dtype, 8 if it has none; InputError if it is not one of numbers."""
    match = accepted.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise _refused(place, f"dtype {_shown(name)}", _NUMBERS)
    return int(match[match.lastindex] if match.lastindex else 8)


def _named(found: Any, what: str, place: str) -> tuple[Any, dict[str, Any]]:
    """Return name and configuration of a part of the metadata of version 3."""
    if isinstance(found, str):
        return found, {}
    if isinstance(found, dict) and isinstance(configuration := found.get("configuration", {}), dict):
        return found.get("name"), configuration
    raise _refused(place, f"{what} {_shown(found)}", "a name, or one with a configuration, is accepted")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refused(place: str, what: str, accepted: str) -> InputError:
    return InputError(f"{place} has {what}: {accepted}")
