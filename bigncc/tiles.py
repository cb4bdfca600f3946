"""Integer rectangles, tiles and the plan: which part of the output is computed at once.

Tuples in, tuples out: nothing here knows an array, a file or dask.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from bigncc.nodes import Nodes

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


def roi_around(rois: Iterable[Roi]) -> Roi:
    """Return the smallest roi that holds some others."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*rois, strict=True))


def roi_cells(roi: Roi, extent: Shape) -> Iterator[Shape]:
    """Yield the indices of the cells of `extent` that `roi` meets, in row-major order."""
    return product(*(range(s.start // e, -(-s.stop // e)) for s, e in zip(roi, extent, strict=True)))


def coarse(shape: Shape, level: int, halved: int) -> Shape:
    """Return the extent at a coarser level, where the last `halved` axes were halved and rounded up that many times."""
    fixed = len(shape) - halved
    return tuple(-(-n // 2**level) if i >= fixed else n for i, n in enumerate(shape))


def roi_coarse(roi: Roi, level: int, halved: int) -> Roi:
    """Return the pixels of a coarser level whose cells `roi` meets."""
    fixed = len(roi) - halved
    return tuple(slice(s.start >> level, -(-s.stop // 2**level)) if i >= fixed else s for i, s in enumerate(roi))


def parts(roi: Roi, extent: Shape) -> Iterator[Roi]:
    """Yield what `extent` cuts a roi into, from its start on, in row-major order."""
    starts = (range(s.start, s.stop, e) for s, e in zip(roi, extent, strict=True))
    for start in product(*starts):
        yield tuple(slice(a, min(a + e, s.stop)) for a, e, s in zip(start, extent, roi, strict=True))


def cut(length: int, block: int) -> tuple[int, ...]:
    """Return the sizes of consecutive blocks of `block` that fill `length`; the last may be smaller."""
    return (block,) * (length // block) + ((length % block,) if length % block else ())


def share(total: int, part: int, parts: int) -> range:
    """Return which of `total` tiles belong to one of `parts` jobs, from 0: neighbours, and as many as for any other."""
    return range(total * part // parts, total * (part + 1) // parts)


@dataclass(frozen=True)
class Tile:
    """The unit of scheduling, commit and resume.

    Parameters
    ----------
    index : int
        Its number in the plan.
    write : tuple of slice
        What it covers of level `source`, which is 0 but for tiles that are made from what is stored.
    read : tuple of slice
        What is read for it: of the reference's grid, or of level `source`.
    levels : tuple of (int, tuple of slice)
        The stored levels that it has a part of, finest first, and which.
    source : int
        The level that it is cut from.
    nodes : bool
        Whether `write` are nodes of the plan's grid and not pixels.
    """

    index: int
    write: Roi
    read: Roi
    levels: tuple[tuple[int, Roi], ...] = ()
    source: int = 0
    nodes: bool = False


@dataclass(frozen=True)
class Round:
    """Tiles that read level `source` in cells of `tile` and make the levels after it, down to `last`."""

    source: int
    last: int
    tile: Shape


@dataclass(frozen=True)
class Plan:
    """Tiles of whole output objects that cover each stored level once.

    Those from the images come first, those of pixels before those of nodes; then, round by round, those that make what
    is left of the pyramid. A tile of a round needs nothing but tiles of the round before, the first one of pixels.

    Parameters
    ----------
    shape : tuple of int
        Extent of the output.
    objects : tuple of int
        Extent of a storage object of the finest stored level, in pixels of the output; `tile` is a multiple of it.
    tile : tuple of int
        Extent of a tile from the images.
    margin : tuple of int
        Pixels that a tile needs around it.
    origin : tuple of int
        Where the output begins on the reference's grid.
    extent : tuple of int
        Extent of the reference.
    halved : int
        How many trailing axes the pyramid halves.
    levels : tuple of int
        The stored levels, finest first.
    own : int
        The last level that the tiles from the images write.
    rounds : tuple of Round
        How the other levels are made.
    chunks : tuple of int
        Extent of a chunk, if objects of level 0 are stored that hold several.
    nodes : Nodes or None
        The grid of nodes, if there is one.
    """

    shape: Shape
    objects: Shape
    tile: Shape
    margin: Shape
    origin: Shape
    extent: Shape
    halved: int = 0
    levels: Shape = (0,)
    own: int = 0
    rounds: tuple[Round, ...] = ()
    chunks: Shape = ()
    nodes: Nodes | None = None

    @property
    def grid(self) -> Shape:
        """Number of tiles of pixels per axis."""
        return _counts(self.shape, self.tile)

    @property
    def base(self) -> int:
        """Number of tiles from the images."""
        return math.prod(self.grid) + math.prod(self.node_grid)

    @property
    def node_grid(self) -> Shape:
        """Number of tiles of nodes per axis."""
        return (0,) if self.nodes is None else _counts(self.nodes.shape, self.nodes.tile)

    @property
    def unit(self) -> Shape:
        """What the blocks inside of a tile are multiples of."""
        return unit_of(self.objects, self.levels[0], self.halved, self.chunks)

    def decoded(self, grain: Shape) -> int:
        """Return how many pixels are decoded for all tiles of pixels from chunks of `grain`, if none is kept."""
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
        """Return how many decoded pixels wait at most, with tiles in their order, until all who want them have come.

        Beyond the border between the tiles that are done and those that are not lies a row of chunks, and in volumes a
        plane; on this side of it their margin; around the tile in work, the chunks on its edge.
        """
        first = next((axis for axis, n in enumerate(self.grid) if n > 1), 0)
        beside = math.prod(n + g for n, g in zip(self.extent[first + 1 :], grain[first + 1 :], strict=True))
        beside *= math.prod(self.extent[:first])
        around = math.prod(aligned(self.tile, self.margin, grain, self.extent))
        edge = around - math.prod(map(min, zip(self.tile, self.extent, strict=True)))
        return (grain[first] + 2 * self.margin[first]) * beside + edge

    def __len__(self) -> int:
        return self.base + sum(map(math.prod, self._grids()))

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        pixels = math.prod(self.grid)
        if self.nodes is not None and pixels <= index < self.base:
            return self._of_nodes(index, _cell(index - pixels, self.node_grid, self.nodes.tile, self.nodes.shape))
        if index < self.base:
            write = _cell(index, self.grid, self.tile, self.shape)
            own = tuple((k, roi_coarse(write, k, self.halved)) for k in self.levels if k <= self.own)
            return Tile(index, write, self._read(write), own)
        rounds = ((step, *self.round(number)) for number, step in enumerate(self.rounds))
        step, tiles, grid = next(each for each in rounds if index in each[1])
        write = _cell(index - tiles.start, grid, step.tile, coarse(self.shape, step.source, self.halved))
        made = range(1, step.last - step.source + 1)
        levels = tuple((step.source + k, roi_coarse(write, k, self.halved)) for k in made)
        return Tile(index, write, write, levels, step.source)

    def _of_nodes(self, index: int, write: Roi) -> Tile:
        assert self.nodes is not None  # or there is none
        read = roi_pad(roi_shift(self.nodes.pixels(write), self.origin), self.nodes.margin, self.extent)
        return Tile(index, write, read, nodes=True)

    def weight(self, index: int) -> int:
        """Return how many pixels of the output a tile from the images is about."""
        tile = self[index]
        return math.prod(roi_shape(tile.write)) * (math.prod(self.nodes.step) if self.nodes and tile.nodes else 1)

    def parts(self, tile: Tile, block: Shape) -> list[Tile]:
        """Return the blocks that a tile from the images is made of, each with what it reads; of nodes its objects."""
        if self.nodes is not None and tile.nodes:
            return [self._of_nodes(tile.index, write) for write in parts(tile.write, self.nodes.objects)]
        return [Tile(tile.index, write, self._read(write)) for write in parts(tile.write, block)]

    def around(self, index: int) -> list[int]:
        """Return a tile from the images and those of its kind that touch it."""
        pixels = math.prod(self.grid)
        first, grid = (0, self.grid) if index < pixels else (pixels, self.node_grid)
        near = (range(max(0, c - 1), min(n, c + 2)) for c, n in zip(_position(index - first, grid), grid, strict=True))
        return [first + _number(cell, grid) for cell in product(*near)]

    def _read(self, write: Roi) -> Roi:
        return roi_pad(roi_shift(write, self.origin), self.margin, self.extent)

    def round(self, number: int) -> tuple[range, Shape]:
        """Return the tiles of a round, from 0, and how many there are per axis."""
        grids = list(self._grids())
        first = self.base + sum(map(math.prod, grids[:number]))
        return range(first, first + math.prod(grids[number])), grids[number]

    def sources(self, tile: Tile) -> list[int]:
        """Return the tiles that wrote what a tile reads of the output: none for one from the images."""
        if tile.index < self.base:
            return []
        first, grid, extent = 0, self.grid, coarse(self.tile, self.own, self.halved)
        if number := [step.source for step in self.rounds].index(tile.source):
            (tiles, grid), before = self.round(number - 1), self.rounds[number - 1]
            first, extent = tiles.start, coarse(before.tile, before.last - before.source, self.halved)
        return [first + _number(cell, grid) for cell in roi_cells(tile.write, extent)]

    def _grids(self) -> Iterator[Shape]:
        for step in self.rounds:
            yield _counts(coarse(self.shape, step.source, self.halved), step.tile)


def _counts(shape: Shape, tile: Shape) -> Shape:
    return tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))


def _cell(index: int, grid: Shape, tile: Shape, shape: Shape) -> Roi:
    """Return a cell of a grid by its number in row-major order."""
    start = tuple(c * t for c, t in zip(_position(index, grid), tile, strict=True))
    return tuple(slice(a, min(a + t, n)) for a, t, n in zip(start, tile, shape, strict=True))


def _position(index: int, grid: Shape) -> Shape:
    """Return where in a grid the cell of this number is."""
    position: Shape = ()
    for n in reversed(grid):
        index, here = divmod(index, n)
        position = (here, *position)
    return position


def _number(cell: Shape, grid: Shape) -> int:
    """Return the number of a cell of a grid in row-major order."""
    number = 0
    for position, n in zip(cell, grid, strict=True):
        number = number * n + position
    return number


def unit_of(objects: Shape, finest: int, halved: int, chunks: Shape) -> Shape:
    """Return what blocks inside of a tile are multiples of.

    They are whole objects, as they are written where they are computed. Where an object holds several chunks, they are
    whole chunks, and where the finest stored level is a coarser one, it is put together first; both cut no cell.
    """
    if finest == 0 and not chunks:
        return objects
    fixed = len(objects) - halved
    if chunks:
        return tuple(2 * c if i >= fixed and c % 2 else c for i, c in enumerate(chunks))
    return tuple(2 * -(-(o >> finest) // 2) if i >= fixed else o for i, o in enumerate(objects))


def aligned(tile: Shape, margin: Shape, grain: Shape, shape: Shape) -> Shape:
    """Return the most pixels per axis that are decoded for a tile with its margin from chunks of `grain`."""
    parts = zip(tile, margin, grain, shape, strict=True)
    return tuple(min(n, -(-(t + 2 * m + g - 1) // g) * g) for t, m, g, n in parts)
