"""Stored objects of a map: written whole, read back, each proven by the checksums that it carries."""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from bigncc import inline
from bigncc.errors import InputError
from bigncc.metadata import place_of
from bigncc.store import digest, explained, is_local, patiently
from bigncc.store import sync as to_disk
from bigncc.tiles import Roi, Shape, roi_cells, roi_meet, roi_shape, roi_within

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer
    from zarr.types import AnyArray

_NOT_THERE = 2**64 - 1
"""What the index of a shard says of a chunk that it does not have."""


FAR = 4
"""Objects of a block that are on their way at a time, where a network is between."""

Result = TypeVar("Result")


class StorageFault(Exception):
    """A stored object is not what was written."""


def encoded(array: AnyArray, roi: Roi, block: NDArray[Any]) -> dict[Shape, Buffer]:
    """Return the chunks of a block as they are to be stored, by their place in the grid of chunks.

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        Pixels: whole chunks, also where a stored object holds several.
    block : ndarray
        Of the shape of `roi` and the dtype of `array`.

    Raises
    ------
    ValueError
        If it is not so.
    """
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    if block.shape != roi_shape(roi) or block.dtype != array.dtype:
        message = f"a block {block.dtype} {block.shape} is not {array.dtype} {roi_shape(roi)}"
        raise ValueError(message)
    prototype, here = default_buffer_prototype(), MemoryStore()
    beside: Any = zarr.AsyncArray(_of_chunks(array), array.store_path, array.config)
    found = {}
    for place in _cells(array, roi, array.chunks):
        samples = prototype.nd_buffer.from_ndarray_like(_chunk(array, roi, block, place))
        spec = beside.metadata.get_chunk_spec(place, array.config, prototype)
        (found[place],) = inline.run(beside.codec_pipeline.encode([(samples, spec)]), here)
    return found


def _chunk(array: AnyArray, roi: Roi, block: NDArray[Any], place: Shape) -> Any:
    """Return a chunk's samples; beyond the array's end they are fill."""
    whole = tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, array.chunks, strict=True))
    inside = roi_meet(whole, roi)
    part = block[roi_within(inside, roi)]
    if part.shape == array.chunks:
        return np.ascontiguousarray(part)
    chunk = np.full(array.chunks, array.fill_value, array.dtype)
    chunk[tuple(slice(0, n) for n in part.shape)] = part
    return chunk


def write(array: AnyArray, roi: Roi, chunks: dict[Shape, Buffer], *, durable: bool = False) -> list[tuple[int, str]]:
    """Store `roi`, which must be whole objects of `array`, each at once and whatever was there, and read it back.

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        Pixels; each start is a multiple of the object's extent, each stop too or the array's end.
    chunks : dict
        What `encoded` returned of all of `roi`; they are taken out of it.
    durable : bool
        Whether the objects outlive a power cut before they are read back.

    Returns
    -------
    list of (int, str)
        Size and digest of the stored objects in row-major order, as they were read back.

    Raises
    ------
    ValueError
        If `roi` is not so: two writers within one object lose each other's pixels.
    StorageFault
        If what is stored is not what was written.
    DoesNotFitError
        If the disk is full or has become read-only.
    StoppedError
        If the storage does not answer.
    """
    indices = list(_object_indices(array, roi))
    sent = _each(array, indices, lambda index: _put(array, index, chunks))
    if durable and is_local(place_of(array)):
        _harden(array, roi)
    found = _each(array, indices, lambda index: _seen(array, index))
    for place, there, wanted in zip(places(array, roi), found, sent, strict=True):
        if there != wanted:  # the same bytes have the same checksums
            message = f"{place} is not what was written there"
            raise StorageFault(message)
    return sent


def _each(array: AnyArray, indices: list[Shape], function: Callable[[Shape], Result]) -> list[Result]:
    """Call a function for each of some objects, where a network is between them and us for several at a time."""
    if is_local(place_of(array)) or len(indices) == 1:
        return [function(index) for index in indices]
    with ThreadPoolExecutor(FAR) as pool:
        return list(pool.map(function, indices))


def _seen(array: AnyArray, index: Shape) -> tuple[int, str] | None:
    """Return size and digest of an object as it is stored, None if there is none."""
    data = _get(array, index)
    return None if data is None else (len(data), digest([_bytes(data)]))


def _put(array: AnyArray, index: Shape, chunks: dict[Shape, Buffer]) -> tuple[int, str]:
    """Replace an object; return size and digest of what it is to be."""
    data = chunks.pop(index) if array.shards is None else _shard(array, index, chunks)
    target, place = array.store_path / array.metadata.encode_chunk_key(index), place_of(array)

    def put() -> None:
        inline.run(target.store.set(target.path, data), target.store)

    with explained(place, midway=True):
        # another run that ends may sweep this one's unfinished file
        patiently(put, f"{place} cannot be written", {errno.ENOENT})
    return len(data), digest([data.as_buffer_like()])


def _shard(array: AnyArray, index: Shape, chunks: dict[Shape, Buffer]) -> Buffer:
    """Put an object together from its chunks, as Zarr's sharding codec defines it: chunks, then where each of them is.

    Zarr's own codec does so only from pixels: all of a shard would have to wait for its last block.
    """
    import google_crc32c
    from zarr.core.buffer import default_buffer_prototype

    grid = _grid(array)
    first = tuple(i * n for i, n in zip(index, grid, strict=True))
    where, parts, offset = np.full((*grid, 2), _NOT_THERE, "<u8"), [], 0
    for place in roi_cells(_pixels(array, index), array.chunks):
        parts.append(chunks.pop(place).as_buffer_like())
        where[tuple(p - f for p, f in zip(place, first, strict=True))] = offset, len(parts[-1])
        offset += len(parts[-1])
    tail = where.tobytes()
    checksum = google_crc32c.value(tail).to_bytes(4, "little")
    return default_buffer_prototype().buffer.from_bytes(b"".join([*parts, tail, checksum]))


def _of_chunks(array: AnyArray) -> Any:
    """Return the metadata of an array whose objects are the chunks of this one."""
    if array.shards is None:
        return array.metadata
    document: Any = array.metadata.to_dict()
    (sharding,) = document["codecs"]
    grid = {"name": "regular", "configuration": {"chunk_shape": array.chunks}}
    return type(array.metadata).from_dict(
        document | {"chunk_grid": grid, "codecs": sharding["configuration"]["codecs"]}
    )


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
    for index, place in zip(_object_indices(array, roi), places(array, roi), strict=True):
        try:
            found = _get(array, index)
        except InputError as error:  # larger than it can be, or a link to elsewhere
            yield place, b"", str(error).removeprefix(f"{place} ")
            continue
        data = b"" if found is None else _bytes(found)
        if found is None:
            fault = "is absent"
        elif array.metadata.zarr_format == 2:  # which has no checksums
            fault = "" if _whole(data, array) else f"({len(data)} bytes) is not whole"
        else:
            fault = "" if _right(data, array, index) else f"({len(data)} bytes) differs from its checksum"
        yield place, data, fault


def _get(array: AnyArray, index: Shape) -> Buffer | None:
    """Return a stored object, None where there is none."""
    from zarr.core.buffer import default_buffer_prototype

    key = array.metadata.encode_chunk_key(index)
    target = array.store_path / key

    def get() -> Any:
        return inline.run(target.store.get(target.path, default_buffer_prototype()), target.store)

    return cast("Buffer | None", patiently(get, f"{place_of(array)}/{key} cannot be read"))


def _bytes(found: Buffer) -> bytes:
    """Return the bytes of a buffer: those that it was made of, as a copy costs as much as reading them."""
    base = found.as_numpy_array().base
    return base if isinstance(base, bytes) and len(base) == len(found) else found.to_bytes()


def _pixels(array: AnyArray, index: Shape) -> Roi:
    """Return what an object holds of the array."""
    extent = array.shards or array.chunks
    return tuple(slice(i * e, min(n, (i + 1) * e)) for i, e, n in zip(index, extent, array.shape, strict=True))


def _grid(array: AnyArray) -> Shape:
    """Return how many chunks fit along each axis of an object."""
    return tuple(e // c for e, c in zip(array.shards or array.chunks, array.chunks, strict=True))


def _right(data: bytes, array: AnyArray, index: Shape) -> bool:
    """Say whether an object has the checksums that it was written with: its own, or in a shard those of all chunks."""
    if array.shards is None:
        return _proven(data)
    within = sum(1 for _ in roi_cells(_pixels(array, index), array.chunks))
    return _proven_shard(data, within, math.prod(_grid(array)))


def _proven_shard(data: bytes, chunks: int, capacity: int) -> bool:
    """Say whether a shard has the checksums of its index and of all `chunks`.

    It ends with an index, offset and length of each of the chunks that it could hold, and the index's checksum.
    """
    index = data[-16 * capacity - 4 :]
    if len(index) != 16 * capacity + 4 or not _proven(index):
        return False
    places = [place for place in struct.iter_unpack("<QQ", index[:-4]) if place[0] != _NOT_THERE]
    return len(places) == chunks and all(_proven(data[offset : offset + length]) for offset, length in places)


def _proven(data: bytes) -> bool:
    """Say whether bytes end with the checksum of those before."""
    import google_crc32c

    return len(data) > 4 and google_crc32c.value(data[:-4]) == int.from_bytes(data[-4:], "little")


def _whole(data: bytes, array: AnyArray) -> bool:
    """Say whether an object of Zarr v2, which has no checksum, is as long as its head says, of a chunk's bytes."""
    if len(data) < 16:
        return False
    _, _, _, typesize, size, _, stored = struct.unpack("<BBBBIII", data[:16])
    itemsize = array.dtype.itemsize
    return (typesize, size, stored) == (itemsize, math.prod(array.chunks) * itemsize, len(data))


def _object_indices(array: AnyArray, roi: Roi) -> Iterator[Shape]:
    return _cells(array, roi, array.shards or array.chunks)


def _cells(array: AnyArray, roi: Roi, extent: Shape) -> Iterator[Shape]:
    """Return the places of the objects, or chunks, that a region is made of; ValueError if it is not."""
    whole = [
        0 <= s.start < s.stop <= n and s.start % e == 0 and (s.stop % e == 0 or s.stop == n)
        for s, e, n in zip(roi, extent, array.shape, strict=True)
    ]
    if not all(whole):
        message = f"{roi} is not made of whole objects {extent} of an array {array.shape}"
        raise ValueError(message)
    return roi_cells(roi, extent)
