"""Integer rectangles, tiles and the plan: which part of the output is computed at once.

Tuples in, tuples out: nothing here knows an array, a file or dask.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from bigncc.errors import DoesNotFitError

Roi = tuple[slice, ...]
Shape = tuple[int, ...]


def roi_of(start: Shape, shape: Shape) -> Roi:
    """Return the roi of `shape` that begins at `start`."""
    return tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))


def roi_shape(roi: Roi) -> Shape:
    """Return the number of pixels per axis."""
    return tuple(s.stop - s.start for s in roi)


def roi_shift(roi: Roi, offset: Shape) -> Roi:
    """Return `roi` moved by `offset`: ``X[roi_shift(r, o)] == X[o:][r]``."""
    return tuple(slice(s.start + o, s.stop + o) for s, o in zip(roi, offset, strict=True))


def roi_pad(roi: Roi, margin: Shape, shape: Shape) -> Roi:
    """Return `roi` grown by `margin` on each side and cut at ``[0, shape)``."""
    return tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(roi, margin, shape, strict=True))


def roi_within(inner: Roi, outer: Roi) -> Roi:
    """Return `inner` in the frame of `outer`: ``X[outer][roi_within(i, o)] == X[i]``."""
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))


def roi_meet(one: Roi, other: Roi) -> Roi:
    """Return what two rois have in common; they must meet."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def roi_cells(roi: Roi, extent: Shape) -> Iterator[Shape]:
    """Yield the indices of the cells of `extent` that `roi` meets, in row-major order."""
    return product(*(range(s.start // e, -(-s.stop // e)) for s, e in zip(roi, extent, strict=True)))


def cut(length: int, block: int) -> tuple[int, ...]:
    """Return the sizes of consecutive blocks of `block` that fill `length`; the last may be smaller."""
    return (block,) * (length // block) + ((length % block,) if length % block else ())


def share(total: int, part: int, parts: int) -> range:
    """Return which of `total` tiles belong to one of `parts` jobs, from 0: neighbours, and as many as for any other."""
    return range(total * part // parts, total * (part + 1) // parts)


@dataclass(frozen=True)
class Tile:
    """The unit of scheduling, commit and resume: ``write`` on the output's grid, ``read`` on the reference's."""

    index: int
    write: Roi
    read: Roi


@dataclass(frozen=True)
class Plan:
    """Tiles of whole output objects that cover the output once.

    Parameters
    ----------
    shape : tuple of int
        Extent of the output.
    objects : tuple of int
        Extent of a storage object of the output; `tile` is a multiple of it.
    tile : tuple of int
        Extent of a tile.
    margin : tuple of int
        Pixels that a tile needs around it.
    origin : tuple of int
        Where the output begins on the reference's grid.
    extent : tuple of int
        Extent of the reference.
    """

    shape: Shape
    objects: Shape
    tile: Shape
    margin: Shape
    origin: Shape
    extent: Shape

    @property
    def grid(self) -> Shape:
        """Number of tiles per axis."""
        return tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    def decoded(self, grain: Shape) -> int:
        """Return how many pixels are decoded for all tiles from chunks of `grain`, if none is kept for another tile."""
        total = 1
        axes = zip(self.grid, self.shape, self.tile, self.margin, self.origin, self.extent, grain, strict=True)
        for count, n, t, m, o, extent, g in axes:
            spans = ((max(0, i * t + o - m), min(extent, min(n, (i + 1) * t) + o + m)) for i in range(count))
            total *= sum(min(extent, -(-stop // g) * g) - start // g * g for start, stop in spans)
        return total

    def decoded_once(self, grain: Shape) -> int:
        """Return how many pixels the chunks of `grain` have that the tiles read."""
        whole = roi_of((0,) * len(self.shape), self.shape)
        return math.prod(
            min(n, -(-s.stop // g) * g) - s.start // g * g
            for s, n, g in zip(self._read(whole), self.extent, grain, strict=True)
        )

    def waiting(self, grain: Shape) -> int:
        """Return how many decoded pixels wait at most, with tiles in their order, until each chunk has been read.

        On both sides of the border between the tiles that are done and those that are not lies a row of chunks, and in
        volumes a plane; beside it there is what one tile reads.
        """
        first = next((axis for axis, n in enumerate(self.grid) if n > 1), 0)
        border = (
            2
            * grain[first]
            * math.prod(n + g for n, g in zip(self.extent[first + 1 :], grain[first + 1 :], strict=True))
        )
        return border + math.prod(aligned(self.tile, self.margin, grain, self.extent))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = tuple(c * t for c, t in zip(self._cell(index), self.tile, strict=True))
        write = tuple(slice(a, min(a + t, n)) for a, t, n in zip(start, self.tile, self.shape, strict=True))
        return Tile(index, write, self._read(write))

    def parts(self, tile: Tile, block: Shape) -> list[Tile]:
        """Return the blocks that a tile is made of, each with what it reads."""
        axes = [
            [slice(a, min(a + b, s.stop)) for a in range(s.start, s.stop, b)]
            for s, b in zip(tile.write, block, strict=True)
        ]
        return [Tile(tile.index, write, self._read(write)) for write in product(*axes)]

    def _read(self, write: Roi) -> Roi:
        return roi_pad(roi_shift(write, self.origin), self.margin, self.extent)

    def around(self, index: int) -> list[int]:
        """Return a tile and those that touch it."""
        near = (range(max(0, c - 1), min(n, c + 2)) for c, n in zip(self._cell(index), self.grid, strict=True))
        weights = [math.prod(self.grid[axis + 1 :]) for axis in range(len(self.grid))]
        return [sum(c * w for c, w in zip(cell, weights, strict=True)) for cell in product(*near)]

    def _cell(self, index: int) -> Shape:
        """Return the position of a tile in the grid."""
        cell: Shape = ()
        for n in reversed(self.grid):
            index, position = divmod(index, n)
            cell = (position, *cell)
        return cell


def aligned(tile: Shape, margin: Shape, grain: Shape, shape: Shape) -> Shape:
    """Return the most pixels per axis that are decoded for a tile with its margin from chunks of `grain`."""
    parts = zip(tile, margin, grain, shape, strict=True)
    return tuple(min(n, -(-(t + 2 * m + g - 1) // g) * g) for t, m, g, n in parts)


def largest_tile(
    shape: Shape, objects: Shape, margin: Shape, grain: Shape, *, samples: int, pixels: int, tiles: int, fixed: int
) -> Shape:
    """Choose the extent of a tile: whole objects, as large as allowed, nearly square in pixels.

    Parameters
    ----------
    shape, objects, margin, grain : tuple of int
        Extents of the image, of one of the output's objects, of what a tile needs around it, and of an input chunk.
    samples : int
        Decoded pixels of one image that fit the memory at once.
    pixels : int
        Pixels that a tile shall have at most, if objects are so small.
    tiles : int
        Number of tiles there shall be at least, if there are that many objects.
    fixed : int
        Leading axes along which a tile is one object long.

    Returns
    -------
    tuple of int

    Raises
    ------
    DoesNotFitError
        If a single object with its margin needs more than `samples`.
    """

    def needs(tile: Shape) -> int:
        return math.prod(aligned(tile, margin, grain, shape))

    def count(tile: Shape) -> int:
        return math.prod(-(-n // t) for n, t in zip(shape, tile, strict=True))

    tile = objects
    if needs(tile) > samples:
        message = (
            f"one output object of {list(objects)} with a margin of {list(margin)}, read from chunks of {list(grain)}, "
            f"needs {needs(tile)} pixels of each image at once and the memory holds {max(0, samples)}: "
            "raise engine.memory or lower output.chunks"
        )
        raise DoesNotFitError(message)
    while True:
        grown = [
            tuple(t + o if axis == i else t for i, (t, o) in enumerate(zip(tile, objects, strict=True)))
            for axis in range(fixed, len(shape))
            if tile[axis] < shape[axis]
        ]
        allowed = [t for t in grown if needs(t) <= samples and math.prod(t) <= pixels and count(t) >= tiles]
        if not allowed:
            return tile
        # the margin weighs least on the tile whose shortest side is longest
        tile = max(allowed, key=lambda t: sorted(min(a, n) for a, n in zip(t, shape, strict=True)))
