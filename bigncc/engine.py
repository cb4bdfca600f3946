"""Run tiles: graph -> compute -> whole objects on disk -> read back -> row in the journal."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from bigncc import journal, lazy
from bigncc.kernel import Block, Pivots
from bigncc.output import Output, StorageFault, stored, write
from bigncc.pair import Pair, each, on_threads
from bigncc.summary import Summary, merge
from bigncc.tiles import Plan, Roi, Shape, Tile
from bigncc.transform import Transform
from bigncc.window import Window

RESERVED = 360 * 10**6
"""Bytes of the process before it computes anything: interpreter, libraries, compiled code (measured 330 MB)."""

LARGEST = 2**24
"""Pixels of a tile: enough that its margin and its journal row cost nothing, few enough to lose without regret."""

INNER = 2**22
"""Pixels of a block inside a tile: what one thread works on."""

SCRATCH = 32
"""Bytes per pixel of the blocks in work: their copies with halo, and the result before it is encoded."""


@dataclass(frozen=True)
class Job:
    """All that is decided about a run."""

    url: str
    plan_id: str
    plan: Plan
    window: Window
    transform: Transform | None
    order: int
    pivots: tuple[Pivots, ...]
    channel_axis: int | None

    def pivot(self, tile: Tile) -> Pivots:
        """Return the pivots of the channel that a tile lies in."""
        axis = self.channel_axis
        return self.pivots[0 if axis is None else tile.read[axis].start]


class Evidence(NamedTuple):
    """One stored object: where it is in its array's grid, its size and its digest."""

    place: Shape
    size: int
    digest: str


def bytes_per_pixel(reference: np.dtype[Any], moving: np.dtype[Any], *, pulled: bool, masked: bool) -> int:
    """Return the memory that a pixel of a tile takes in the worst case, when all inputs wait for their neighbours.

    Samples are held as decoded, then as blocks of the tile's grid; a pulled image is float64 with its validity.
    """
    held = 2 * (reference.itemsize + moving.itemsize)
    if pulled:
        held += 2 * (8 + 1)
    return held + (4 if masked else 0)


def largest_samples(memory: int, per_pixel: int, threads: int, block: int) -> int:
    """Return how many decoded pixels of a tile fit `memory` beside the process and the blocks in work."""
    return (memory - RESERVED - threads * block * SCRATCH) // per_pixel


def inner_block(tile: Shape, objects: Shape, threads: int, pixels: int) -> Shape:
    """Return the extent of a block inside a tile: whole objects, at most `pixels`, enough to keep all threads busy."""
    block = objects
    while True:
        grown = tuple(min(-(-n // o) * o, 2 * b) for n, o, b in zip(tile, objects, block, strict=True))
        blocks = np.prod([-(-n // b) for n, b in zip(tile, grown, strict=True)])
        if grown == block or np.prod(grown) > pixels or blocks < 4 * threads:
            return block
        block = grown


def done(job: Job, output: Output) -> dict[int, journal.Row]:
    """Return the rows of the tiles whose stored objects are those that the row was written for."""
    rows = journal.rows(job.url, job.plan_id)
    return {index: row for index, row in sorted(rows.items()) if matches(output, job.plan[index], row)}


def run_tiles(
    job: Job,
    pair: Pair,
    output: Output,
    missing: Iterable[int],
    *,
    block: Shape,
    threads: int,
    advance: Callable[[int], None] | None = None,
) -> Iterator[journal.Row]:
    """Compute tiles; yield each one's row when it is in the journal.

    Parameters
    ----------
    job : Job
        What is decided.
    pair : Pair
        The whole images, lazily.
    output : Output
        Where the result goes.
    missing : iterable of int
        Which tiles.
    block : tuple of int
        Extent of what one thread works on: whole objects.
    threads : int
        Threads to compute on.
    advance : callable, optional
        Called with the number of pixels of each tile.
    """
    with journal.writer(job.url, job.plan_id) as writer:
        for index in missing:
            row = compute(job, pair, output, job.plan[index], block, threads)
            writer.append(row)
            if advance is not None:
                advance(row.summary.pixels)
            yield row


def compute(job: Job, pair: Pair, output: Output, tile: Tile, block: Shape, threads: int) -> journal.Row:
    """Compute a tile, store it, read it back."""
    blocks = lazy.tile(pair, job.window, job.pivot(tile), tile, job.plan.origin, block, job.transform, job.order)
    start = tuple(s.start for s in tile.write)
    with on_threads(threads):
        parts = each(blocks, partial(_commit, output=output), start)
    found = {name: [e for _, evidence in parts for e in evidence[name]] for name in output.maps}
    return _row(tile, merge(summary for summary, _ in parts), found)


def matches(output: Output, tile: Tile, row: journal.Row) -> bool:
    """Say whether the stored objects of a tile are those that its row was written for."""
    try:
        found = {name: list(_evidence(array, tile.write)) for name, array in output.maps.items()}
    except StorageFault:
        return False
    return _row(tile, row.summary, found).digests == row.digests


def _commit(block: Block, roi: Roi, output: Output) -> tuple[Summary, dict[str, list[Evidence]]]:
    found = {}
    for name, array in output.maps.items():
        write(array, roi, getattr(block, name))
        found[name] = list(_evidence(array, roi))
    return block.summary, found


def _evidence(array: Any, roi: Roi) -> Iterator[Evidence]:
    """Read back the objects of `roi`, each checked against its own checksum."""
    grid = product(*(range(s.start // c, -(-s.stop // c)) for s, c in zip(roi, array.chunks, strict=True)))
    for index, data in zip(grid, stored(array, roi), strict=True):
        yield Evidence(index, len(data), journal.digest([data]))


def _row(tile: Tile, summary: Summary, found: dict[str, list[Evidence]]) -> journal.Row:
    sizes = {name: sum(e.size for e in evidence) for name, evidence in found.items()}
    digests = {name: journal.digest(e.digest.encode() for e in sorted(evidence)) for name, evidence in found.items()}
    return journal.Row(tile.index, summary, sizes, digests)
