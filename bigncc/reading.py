"""Stored images as blocks and tiles read them: each chunk is decoded once, and kept for those who come for it later."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigncc.tiles import Roi, Shape, roi_around, roi_cells, roi_meet, roi_of, roi_shape, roi_shift, roi_within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bigncc.storage import Readable

CELL = 2**20
"""Samples that are decoded by one call, if chunks are smaller: a call has a price of its own."""


@dataclass(frozen=True)
class Part:
    """A region of a stored image, as an array of its shape."""

    source: Readable
    roi: Roi

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the image."""
        return self.source.dtype

    @property
    def shape(self) -> Shape:
        """Extent of the region."""
        return roi_shape(self.roi)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.roi)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        return self.source[roi_shift(key, tuple(s.start for s in self.roi))]


@dataclass(frozen=True)
class Sections:
    """A stack in one of its two roles, as an array: section z of it is section ``z + shift`` of the stack.

    Parameters
    ----------
    stack : View or Decoded
        The stack, ``[..., z, y, x]``; both roles read the same one.
    axis : int
        Which of its axes is z.
    shifts : tuple of int
        One for each lag.
    length : int
        Number of sections in this role. Those that are beyond the stack are read as 0.
    apart : bool
        Whether there is an axis of lags in front of z, or a single lag without one.
    """

    stack: Any
    axis: int
    shifts: tuple[int, ...]
    length: int
    apart: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the stack."""
        return self.stack.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def shape(self) -> Shape:
        """Extent of this role."""
        return self._with(self.stack.shape, (len(self.shifts),), self.length)

    @property
    def chunks(self) -> Shape:
        """Those of the stack, which begin with each role."""
        return self._with(self.stack.chunks, (1,), self.stack.chunks[self.axis])

    @property
    def source(self) -> Any:
        """The store below, of a stack as it is opened."""
        return self.stack.source

    @property
    def absent(self) -> int | None:
        """Number of chunks of the stack that are not stored, as of a `View`."""
        return self.stack.absent  # type: ignore[no-any-return]

    def _with(self, sizes: Shape, lags: Shape, along_z: int) -> Shape:
        return (*sizes[: self.axis], *(lags if self.apart else ()), along_z, *sizes[self.axis + 1 :])

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        whole = tuple(
            slice(*k.indices(n)[:2]) if isinstance(k, slice) else slice(k, k + 1)
            for k, n in zip(key, self.shape, strict=True)
        )
        parts = list(self._parts(whole))
        if self.apart:
            block = np.zeros(roi_shape(whole), self.dtype)
            for place, roi in parts:
                block[place] = self.stack[roi]
        else:
            block = self.stack[parts[0][1]]
        # dask asks for a plane by its number
        return block.squeeze(tuple(i for i, k in enumerate(key) if not isinstance(k, slice)))

    def rois(self, roi: Roi) -> list[Roi]:
        """Return what is read of the stack for a region of this role."""
        return [part for _, part in self._parts(roi)]

    def _parts(self, roi: Roi) -> Iterator[tuple[tuple[slice | int, ...], Roi]]:
        """Yield where in a region something of the stack belongs, and what."""
        before, after = roi[: self.axis], roi[self.axis + self.apart + 1 :]
        lags, z = (roi[self.axis] if self.apart else slice(0, 1)), roi[self.axis + self.apart]
        for place, shift in enumerate(self.shifts[lags]):
            stop = min(z.stop + shift, self.stack.shape[self.axis])
            there = slice(min(z.start + shift, stop), stop)
            lag = (place,) if self.apart else ()
            if there.start < there.stop:
                where = (slice(None),) * self.axis + (*lag, slice(0, there.stop - there.start))
                yield where, (*before, there, *after)


class Decoded:
    """An image that keeps what it has decoded until those who are expected have read it.

    Parameters
    ----------
    source : Readable
        The stored image.
    capacity : int
        Bytes to keep at most; beyond it goes what was used longest ago.
    at_once : int
        Samples to decode by one call, if chunks are smaller.
    """

    def __init__(self, source: Readable, capacity: int, at_once: int = CELL) -> None:
        self._source, self._capacity = source, capacity
        self.dtype, self.shape, self.ndim = source.dtype, source.shape, source.ndim
        self.chunks = cell_of(source.chunks, source.shape, at_once)
        self.decoded = 0
        self._held: OrderedDict[Shape, Future[tuple[Roi, NDArray[Any]]]] = OrderedDict()
        self.size = 0
        self._expected: dict[int, Sequence[Roi]] = {}
        self._unread: dict[Shape, int] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        indices = list(roi_cells(key, self.chunks))
        if len(indices) == 1 and self._roi(indices[0]) == key:
            return self._read(indices[0], key)
        block = np.empty(roi_shape(key), self.dtype)
        for index in indices:
            both = roi_meet(key, self._roi(index))
            block[roi_within(both, key)] = self._read(index, both)
        return block

    def expect(self, regions: Mapping[int, Sequence[Roi]]) -> None:
        """Keep what lies in the regions of some tiles until each has been read once, or its tile is `done`."""
        with self._lock:
            new = {tile: rois for tile, rois in regions.items() if tile not in self._expected}
            self._expected.update(new)
            for index in self._held:
                self._unread[index] += self._wanted(index, new)

    def expects(self, tile: int) -> bool:
        """Say whether it is known what a tile will read."""
        return tile in self._expected

    def done(self, tile: int) -> None:
        """Forget what no other expected tile will read."""
        with self._lock:
            known = self._expected.pop(tile, ())
            for index in list(self._held) if known else ():
                if self._held[index].done():
                    self._trim(index)

    def _trim(self, index: Shape) -> None:
        """Keep of a cell no more than what will be read: often the few lines of another tile's margin."""
        cell, block = self._held[index].result()
        rois = [roi_meet(cell, roi) for rois in self._expected.values() for roi in rois if _meet(cell, roi)]
        if not rois:
            self._drop(index)
            return
        left = roi_around(rois)
        if 2 * math.prod(roi_shape(left)) <= block.size:
            trimmed = self._held[index] = Future()
            trimmed.set_result((left, block[roi_within(left, cell)].copy()))
            self.size += trimmed.result()[1].nbytes - block.nbytes

    def _wanted(self, index: Shape, regions: Mapping[int, Sequence[Roi]]) -> int:
        """Return how many samples of a cell will be read."""
        cell = self._roi(index)
        those = (roi for rois in regions.values() for roi in rois if _meet(cell, roi))
        return sum(math.prod(roi_shape(roi_meet(cell, roi))) for roi in those)

    def _read(self, index: Shape, roi: Roi) -> NDArray[Any]:
        """Return a region of a cell, which is let go when nothing of it is left to be read."""
        part, found = self._cell(index, roi)
        with self._lock:
            if index in self._held and self._unread[index]:
                self._unread[index] -= math.prod(roi_shape(roi))
                if self._unread[index] <= 0 and self._held[index].done():
                    self._drop(index)
        return found[roi_within(roi, part)]

    def _roi(self, index: Shape) -> Roi:
        start = tuple(i * c for i, c in zip(index, self.chunks, strict=True))
        return roi_of(start, tuple(min(c, n - a) for c, n, a in zip(self.chunks, self.shape, start, strict=True)))

    def _cell(self, index: Shape, roi: Roi) -> tuple[Roi, NDArray[Any]]:
        """Return what is kept of a cell, or all of it, decoded, if that does not hold `roi`."""
        with self._lock:
            held = self._held.get(index)
            if held is not None and held.done() and not _inside(roi, held.result()[0]):
                self._drop(index)
                held = None
            if held is None:
                mine = self._held[index] = Future()
                self._unread[index] = self._wanted(index, self._expected)
            else:
                self._held.move_to_end(index)
        if held is not None:
            return held.result()
        cell = self._roi(index)
        try:
            block = self._source[cell]
        except BaseException as error:
            with self._lock:
                del self._held[index], self._unread[index]
            mine.set_exception(error)
            raise
        with self._lock:
            mine.set_result((cell, block))
            self.decoded += 1
            self.size += block.nbytes
            for old in list(self._held):
                if self.size <= self._capacity:
                    break
                if self._held[old].done():
                    self._drop(old)
        return cell, block

    def _drop(self, index: Shape) -> None:
        del self._unread[index]
        self.size -= self._held.pop(index).result()[1].nbytes


def kept(images: Iterable[Any]) -> list[Decoded]:
    """Return the images that keep what they have decoded, behind those that are read: one for both roles of a stack."""
    behind = [_behind(image) for image in images]
    return list(dict.fromkeys(image for image in behind if isinstance(image, Decoded)))


def wanted(
    images: Sequence[Any], regions: Mapping[int, Sequence[Sequence[Roi | None]]]
) -> list[tuple[Decoded, dict[int, list[Roi]]]]:
    """Return what some tiles will read of each image that keeps what it has decoded.

    Parameters
    ----------
    images : sequence
        Those of a pair.
    regions : mapping
        For each tile what it reads, region by region: of each image, or None where that is not known.
    """
    found: dict[Decoded, dict[int, list[Roi]]] = {image: {tile: [] for tile in regions} for image in kept(images)}
    for place, image in enumerate(images):
        if isinstance(behind := _behind(image), Decoded):
            for tile, each in regions.items():
                rois = [roi for region in each if (roi := region[place]) is not None]
                found[behind][tile] += [r for roi in rois for r in image.rois(roi)] if image is not behind else rois
    return list(found.items())


def _behind(image: Any) -> Any:
    return image.stack if isinstance(image, Sections) else image


def _meet(one: Roi, other: Roi) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _inside(one: Roi, other: Roi) -> bool:
    return all(b.start <= a.start and a.stop <= b.stop for a, b in zip(one, other, strict=True))


def cell_of(chunks: Shape, shape: Shape, at_once: int) -> Shape:
    """Return what is decoded at once of an image of `chunks`: up to so many samples of them side by side."""
    cell = chunks
    while math.prod(cell) * 2 <= at_once:
        # the shortest side first, along the last axes, which lie side by side in a file
        growing = [i for i in range(len(cell)) if cell[i] < shape[i] and chunks[i] > 1]
        if not growing:
            break
        axis = min(growing, key=lambda i: (cell[i], -i))
        cell = tuple(min(2 * c, -(-shape[i] // chunks[i]) * chunks[i]) if i == axis else c for i, c in enumerate(cell))
    return cell
