"""Stored objects of a map: written whole, read back, each proven by the checksums that it carries."""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigncc import inline
from bigncc.metadata import place_of
from bigncc.store import digest, explained, is_local, patiently
from bigncc.store import sync as to_disk
from bigncc.tiles import Roi, Shape, roi_cells, roi_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer
    from zarr.types import AnyArray

_NOT_THERE = 2**64 - 1
"""What the index of a shard says of a chunk that it does not have."""


class StorageFault(Exception):
    """A stored object is not what was written."""


def write(array: AnyArray, roi: Roi, block: NDArray[Any], *, durable: bool = False) -> list[tuple[int, str]]:
    """Write `block` to `roi`, which must be whole objects of `array`, and read it back.

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        Pixels; each start is a multiple of the object's extent, each stop too or the array's end.
    block : ndarray
        Of the shape of `roi` and the dtype of `array`.
    durable : bool
        Whether the objects outlive a power cut before they are read back.

    Returns
    -------
    list of (int, str)
        Size and digest of the stored objects in row-major order, as they were read back.

    Raises
    ------
    ValueError
        If it is not so: two writers within one object lose each other's pixels.
    StorageFault
        If what is stored is not what was written.
    DoesNotFitError
        If the disk is full or has become read-only.
    StoppedError
        If the storage does not answer.
    """
    sent = _put(array, roi, block)
    if durable and is_local(place_of(array)):
        _harden(array, roi)
    found = []
    for place, data, wanted in zip(places(array, roi), _read(array, roi), sent, strict=True):
        there = data is not None and digest([_bytes(data)])
        # the same bytes have the same checksums
        if data is None or there != digest([wanted.as_buffer_like()]):
            message = f"{place} is not what was written there"
            raise StorageFault(message)
        found.append((len(data), there))
    return found


def _put(array: AnyArray, roi: Roi, block: NDArray[Any]) -> list[Buffer]:
    """Replace the objects of `roi`, each at once and whatever was there; return what they are to be."""
    if block.shape != roi_shape(roi) or block.dtype != array.dtype:
        message = f"a block {block.dtype} {block.shape} is not {array.dtype} {roi_shape(roi)}"
        raise ValueError(message)
    objects = _encoded(array, roi, block)
    store, place = array.store_path.store, place_of(array)
    with explained(place, midway=True):
        for key, data in objects.items():

            def put(key: str = key, data: Any = data) -> None:
                inline.run(store.set(key, data), store)

            # another run that ends may sweep this one's unfinished file
            patiently(put, f"{place} cannot be written", {errno.ENOENT})
    return list(objects.values())


def _encoded(array: AnyArray, roi: Roi, block: NDArray[Any]) -> dict[str, Buffer]:
    """Return the objects of `roi` by key: encoded in memory, as zarr itself reads a shard before it writes to it."""
    import zarr
    from zarr.storage import MemoryStore, StorePath

    keys = [(array.store_path / array.metadata.encode_chunk_key(index)).path for index in _object_indices(array, roi)]
    objects: dict[str, Buffer] = {}
    path = StorePath(MemoryStore(objects), array.store_path.path)
    beside: Any = zarr.AsyncArray(array.metadata, path, array.config)
    inline.run(beside.setitem(roi, block), path.store)
    return {key: objects[key] for key in keys}


def _harden(array: AnyArray, roi: Roi) -> None:
    """Make the stored objects of `roi` outlive a power cut."""
    with explained(place_of(array), midway=True):
        folders: set[Path] = set()
        for place in places(array, roi):
            to_disk(Path(place))
            folders.update(Path(place).parents[: len(roi) + 1])
        for folder in sorted(folders):
            to_disk(folder)


def places(array: AnyArray, roi: Roi) -> list[str]:
    """Return where the objects of `roi` are stored."""
    return [f"{place_of(array)}/{array.metadata.encode_chunk_key(index)}" for index in _object_indices(array, roi)]


def examined(array: AnyArray, roi: Roi) -> Iterator[tuple[str, bytes, str]]:
    """Yield place and bytes of each stored object of `roi` in row-major order, and what is wrong with it, or "".

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        As for `write`.

    Raises
    ------
    StoppedError
        If the storage does not answer.
    """
    for index, place, found in zip(_object_indices(array, roi), places(array, roi), _read(array, roi), strict=True):
        data = b"" if found is None else _bytes(found)
        if found is None:
            fault = "is absent"
        elif array.metadata.zarr_format == 2:  # which has no checksums
            fault = "" if _whole(data, array) else f"({len(data)} bytes) is not whole"
        else:
            right = _proven(data, *_chunks_within(array, index))
            fault = "" if right else f"({len(data)} bytes) differs from its checksum"
        yield place, data, fault


def _read(array: AnyArray, roi: Roi) -> Iterator[Buffer | None]:
    """Yield each stored object of `roi`, None where there is none."""
    from zarr.core.buffer import default_buffer_prototype

    for index, place in zip(_object_indices(array, roi), places(array, roi), strict=True):
        target = array.store_path / array.metadata.encode_chunk_key(index)

        def get(target: Any = target) -> Any:
            return inline.run(target.store.get(target.path, default_buffer_prototype()), target.store)

        yield patiently(get, f"{place} cannot be read")


def _bytes(found: Buffer) -> bytes:
    """Return the bytes of a buffer: those that it was made of, as a copy costs as much as reading them."""
    base = found.as_numpy_array().base
    return base if isinstance(base, bytes) and len(base) == len(found) else found.to_bytes()


def _chunks_within(array: AnyArray, index: Shape) -> tuple[int | None, int]:
    """Return how many chunks of a shard lie in the array, None where there are no shards, and how many fit in it."""
    if array.shards is None:
        return None, 1
    axes = list(zip(index, array.shards, array.chunks, array.shape, strict=True))
    within = math.prod(-(-min(e, n - i * e) // c) for i, e, c, n in axes)
    return within, math.prod(e // c for _, e, c, _ in axes)


def _proven(data: bytes, chunks: int | None, capacity: int) -> bool:
    """Say whether an object has the checksums that it was written with: its own, or in a shard those of all `chunks`.

    A shard ends with an index, offset and length of each of the chunks that it could hold, and the index's checksum.
    """
    import google_crc32c

    def right(part: bytes) -> bool:
        return len(part) > 4 and google_crc32c.value(part[:-4]) == int.from_bytes(part[-4:], "little")

    if chunks is None:
        return right(data)
    index = data[-16 * capacity - 4 :]
    if len(index) != 16 * capacity + 4 or not right(index):
        return False
    places = [place for place in struct.iter_unpack("<QQ", index[:-4]) if place[0] != _NOT_THERE]
    return len(places) == chunks and all(right(data[offset : offset + length]) for offset, length in places)


def _whole(data: bytes, array: AnyArray) -> bool:
    """Say whether an object of Zarr v2, which has no checksum, is as long as its head says, of a chunk's bytes."""
    if len(data) < 16:
        return False
    _, _, _, typesize, size, _, stored = struct.unpack("<BBBBIII", data[:16])
    itemsize = array.dtype.itemsize
    return (typesize, size, stored) == (itemsize, math.prod(array.chunks) * itemsize, len(data))


def _object_indices(array: AnyArray, roi: Roi) -> Iterator[Shape]:
    extent = array.shards or array.chunks
    whole = [
        0 <= s.start < s.stop <= n and s.start % e == 0 and (s.stop % e == 0 or s.stop == n)
        for s, e, n in zip(roi, extent, array.shape, strict=True)
    ]
    if not all(whole):
        message = f"{roi} is not made of whole objects {extent} of an array {array.shape}"
        raise ValueError(message)
    return roi_cells(roi, extent)
