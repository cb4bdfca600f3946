"""Run tiles: graph -> compute -> whole objects on disk -> read back -> row in the journal; and make them again."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np

from bigncc import evidence, journal, lazy, shift
from bigncc.crew import Crew, crew_of, in_flight, in_turn
from bigncc.errors import BignccError
from bigncc.kernel import Block, Pivots
from bigncc.metadata import in_one_line
from bigncc.output import Output
from bigncc.pair import Pair, all_of, as_stored, each, one, source_regions
from bigncc.pyramid import Halving, Maps, Piece
from bigncc.reading import Decoded
from bigncc.summary import Summary, merge
from bigncc.tiles import Plan, Roi, Shape, Tile, parts, roi_shape
from bigncc.transform import Transform
from bigncc.watch import Trail, Watched
from bigncc.window import Window

RESERVED = 360 * 10**6
"""Bytes of the process before it computes anything: interpreter, libraries, compiled code (measured 330 MB)."""

LARGEST = 2**24
"""Pixels of a tile: enough that its margin and its journal row cost nothing, few enough to lose without regret."""

AGAIN = 0.5
"""Seconds before a tile that failed is tried again."""

PIECE = 2**20
"""Pixels of a stored level that one thread reads at once."""

INNER = 2**22
"""Pixels of a block inside a tile: what one thread works on."""

REDUCED = 2
"""Bytes per pixel of a tile that wait, as the next level, for the rest of it: 5 for four pixels, rounded up."""

ENCODED = 5
"""Bytes per pixel of a tile whose chunks wait for the rest of a shard, and as many when they have become one."""

COARSENING = 4
"""Bytes per pixel that a tile of a round reads: the next level in pieces and as a whole, and its chunks."""

SCRATCH = 32
"""Bytes per pixel of the blocks in work: their copies with halo, and the result before it is encoded."""


GAINED = 16
"""As many more where they are compared with the images as these are stored."""


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
    gain: bool = False
    reach: Shape = ()

    def pivot(self, tile: Tile) -> Pivots:
        """Return the pivots of the channel that a tile lies in."""
        axis = self.channel_axis
        return self.pivots[0 if axis is None else tile.read[axis].start]

    @property
    def halving(self) -> Halving:
        """How the next level is made."""
        return Halving(self.plan.halved, self.window.flat)


@dataclass(frozen=True)
class Means:
    """How this process computes; nothing of it can be seen in the result.

    Parameters
    ----------
    block : tuple of int
        Extent of what one thread works on, a multiple of the plan's unit.
    threads : int
        Threads to compute on.
    durable : bool
        Whether the pixels, and not only the journal, outlive a power cut.
    halo : {"overlap", "read"}
        Whether the blocks of a tile give each other their margins, or each reads its own.
    flights : int
        Tiles in work at once: while one is read and computed, what is left of the one before is stored.
    cache : int
        Bytes of decoded chunks that are kept for tiles to come.
    at_once : int
        Samples to decode by one call, if chunks are smaller.
    """

    block: Shape
    threads: int
    durable: bool = False
    halo: Literal["overlap", "read"] = "overlap"
    flights: int = 1
    cache: int = 0
    at_once: int = 1


def bytes_per_pixel(reference: np.dtype[Any], moving: np.dtype[Any], *, pulled: bool, masked: bool) -> int:
    """Return the memory that a pixel of a tile takes in the worst case, when all inputs wait for their neighbours.

    Samples are held as blocks of the tile's grid; a pulled image is float64 with its validity.
    """
    held = reference.itemsize + moving.itemsize
    if pulled:
        held += 2 * (8 + 1)
    return held + (4 if masked else 0)


def largest_samples(memory: int, per_pixel: int, threads: int, block: int, scratch: int = SCRATCH) -> int:
    """Return how many decoded pixels of a tile fit `memory` beside the process and the blocks in work."""
    return (memory - RESERVED - threads * block * scratch) // per_pixel


def inner_block(tile: Shape, unit: Shape, least: int, pixels: int) -> Shape:
    """Return the extent of a block inside a tile: whole units, at most `pixels`, and `least` of them if it can be."""

    def fine(block: Shape) -> bool:
        blocks = math.prod(-(-n // b) for n, b in zip(tile, block, strict=True))
        return math.prod(block) <= pixels and blocks >= least

    def grown(block: Shape, axis: int) -> Shape:
        longer = min(-(-tile[axis] // unit[axis]) * unit[axis], 2 * block[axis])
        return tuple(longer if i == axis else b for i, b in enumerate(block))

    block = unit
    while True:
        # alike along all axes, the last first: its pixels lie side by side in memory
        axes = sorted(range(len(block)), key=lambda i: (block[i] // unit[i], -i))
        larger = (grown(block, axis) for axis in axes)
        found = next((other for other in larger if other != block and fine(other)), None)
        if found is None:
            return block
        block = found


def done(job: Job, out: Output, tiles: range, threads: int) -> dict[int, journal.Row]:
    """Return the rows of those of `tiles` whose stored objects are those that the row was written for."""
    return evidence.matching(out, job.plan, journal.rows(job.url, job.plan_id, tiles), threads)


def trail(job: Job, sources: Mapping[str, Watched]) -> Trail:
    """Return what was read of the images for the rows that there are, to be followed."""
    known: dict[str, dict[str, str]] = {}
    for name, key, found in journal.fingerprints(job.url, job.plan_id):
        known.setdefault(name, {})[key] = found
    return Trail(sources, known)


def run_tiles(
    job: Job,
    pair: Pair,
    out: Output,
    missing: Iterable[int],
    means: Means,
    seen: Trail,
    advance: Callable[[int], None] | None = None,
    taken: Callable[[int], bool] | None = None,
) -> Iterator[journal.Row]:
    """Compute tiles; yield each one's row when it is in the journal. A tile that fails twice is quarantined.

    Parameters
    ----------
    job : Job
        What is decided.
    pair : Pair
        The whole images, lazily.
    out : Output
        Where the result goes.
    missing : iterable of int
        Which tiles.
    means : Means
        Blocks and threads.
    seen : Trail
        What was read of the inputs before.
    advance : callable, optional
        Called with the number of pixels of each tile.
    taken : callable, optional
        Says of a tile, just before it is begun, whether another job has finished it meanwhile.

    Raises
    ------
    BignccError
        What concerns more than one tile stops at once.
    """
    pending = set(missing := list(missing))
    with journal.writer(job.url, job.plan_id) as writer, crew_of(means.threads) as crew:
        attempt = partial(attempted, job, pair, out, means=means, pending=pending, crew=crew, taken=taken)
        for row in in_flight(attempt, missing, means.flights):
            if row is None:
                continue
            record(job, row, writer, seen)
            if advance is not None:
                advance(job.plan.weight(row.tile))
            yield row


def record(job: Job, row: journal.Row, writer: journal.Writer, seen: Trail) -> None:
    """Write the row of a tile that is stored into the journal, with what was read of the inputs for it."""
    writer.append(replace(row, saw=seen.news()))
    journal.release(job.url, row.tile)


def attempted(
    job: Job,
    pair: Pair,
    out: Output,
    index: int,
    means: Means,
    pending: set[int],
    crew: Crew,
    taken: Callable[[int], bool] | None = None,
) -> journal.Row | None:
    """Compute a tile, and once more if that fails; return its row, or None if it is quarantined or `taken`.

    `pending` has the tiles that may still come, for which what is decoded here is kept; this one goes out of it.
    """
    near = {i: _regions(job, pair, job.plan[i], means) for i in job.plan.around(index) if i in pending}
    images = [(k, image) for k, image in enumerate((pair.reference, pair.moving)) if isinstance(image, Decoded)]
    for k, image in images:
        image.expect({i: [roi for both in regions if (roi := both[k]) is not None] for i, regions in near.items()})
    try:
        if taken is not None and taken(index):
            return None
        return _twice(partial(compute, job, pair, out, job.plan[index], means, crew), job.url, index)
    finally:
        pending.discard(index)
        for _, image in images:
            image.done(index)


def forget(pair: Pair, tiles: Iterable[int]) -> None:
    """Let go of what is kept decoded for tiles that others have finished."""
    for image in (pair.reference, pair.moving):
        for index in tiles if isinstance(image, Decoded) else ():
            image.done(index)


def _regions(job: Job, pair: Pair, tile: Tile, means: Means) -> list[tuple[Roi | None, Roi | None]]:
    """Return what a tile reads of both images, each region once."""
    if means.halo == "overlap" and not tile.nodes:
        regions = lazy.regions(job.window, tile, job.plan.origin, means.block)
    else:
        regions = [part.read for part in job.plan.parts(tile, means.block)]
    found: list[tuple[Roi | None, Roi | None]] = []
    found += [source_regions(pair, region, job.transform, job.order) for region in regions]
    if job.gain and not tile.nodes:  # the moving image once more, as it is stored
        stored = as_stored(pair, job.window.ndim)
        found += [(None, source_regions(pair, region, stored, job.order)[1]) for region in regions]
    return found


def compute(job: Job, pair: Pair, out: Output, tile: Tile, means: Means, crew: Crew | None = None) -> journal.Row:
    """Compute a tile, store it with its part of the coarser levels, read it back."""
    if tile.nodes:
        vectors = _blocks(job, pair, tile, means, partial(_commit_nodes, out=out, durable=means.durable), crew)
        lengths = shift.merged(length for length, _ in vectors)
        components = {name: [each for _, part in vectors for each in part[name]] for name in out.components}
        return evidence.row(tile, Summary(), components, lengths.to_dict())
    halving = job.halving if tile.levels[-1][0] else None
    whole = job.plan.unit == job.plan.objects
    commit = partial(_commit, out=out, halving=halving, whole=whole, durable=means.durable)
    done = _blocks(job, pair, tile, means, commit, crew)
    summary = merge(part.summary for part in done)
    found = {name: [each for part in done for each in part.found[name]] for name in done[0].found}
    chunks = {name: dict(chain.from_iterable(part.chunks[name].items() for part in done)) for name in done[0].chunks}
    pieces = [part.piece for part in done if part.piece is not None]
    done.clear()
    levels = halving.levels(tile, pieces) if halving is not None else iter(())
    more = evidence.stored(out, tile, chunks, levels, means.threads, durable=means.durable)
    return evidence.row(tile, summary, found | more)


def rehearse(job: Job, pair: Pair) -> None:
    """Compute a block in the middle and keep nothing: then all loops that the tiles need are compiled."""
    blocks = job.plan.parts(job.plan[math.prod(job.plan.grid) // 2], job.plan.unit)

    def halved(block: Block, roi: Roi) -> None:
        _piece(block, roi, job.halving if job.plan.levels[-1] else None)

    _alone(job, pair, blocks[len(blocks) // 2], halved)
    if job.plan.nodes is not None:
        objects = job.plan.parts(job.plan[job.plan.base - 1], ())
        _searched(job, pair, objects[len(objects) // 2], lambda vectors, _: vectors)


def coarsen(out: Output, tile: Tile, halving: Halving, means: Means) -> journal.Row:
    """Make a tile of a round from the level that is stored, store it, read it back."""
    levels = halving.levels(tile, _pieces(out, tile, halving, means.threads))
    found = evidence.stored(out, tile, {}, levels, means.threads, durable=means.durable)
    return evidence.row(tile, Summary(), found)


def differences(job: Job, pair: Pair, out: Output, tile: Tile, means: Means) -> list[str]:
    """Make a tile once more; return a sentence for each map that is not stored so, to the bit."""
    if tile.nodes:
        unlike = _blocks(job, pair, tile, means, partial(evidence.unlike_nodes, out))
        return _told(tile, {name: sum(counts[name] for counts in unlike) for name in out.components})
    halving, wrong = job.halving if tile.levels[-1][0] else None, {}
    if tile.index < job.plan.base:
        done = _blocks(job, pair, tile, means, partial(_compare, out=out, halving=halving))
        wrong = {name: sum(counts[name] for counts, _ in done) for name in done[0][0]}
        pieces = [piece for _, piece in done if piece is not None]
    else:
        pieces = _pieces(out, tile, job.halving, means.threads)
    for level, roi, maps in halving.levels(tile, pieces) if halving is not None else ():
        if any(level == stored for stored, _ in tile.levels):
            wrong |= evidence.unlike(out, level, roi, maps)
    return _told(tile, wrong)


def _told(tile: Tile, wrong: dict[str, int]) -> list[str]:
    return [f"tile {tile.index}: {n} pixels of {name} are not what the inputs give" for name, n in wrong.items() if n]


def coarsen_tiles(
    url: str, plan_id: str, out: Output, plan: Plan, missing: Iterable[int], halving: Halving, means: Means
) -> Iterator[journal.Row]:
    """Make tiles of a round; yield each one's row when it is in the journal. One that fails twice is quarantined."""
    with journal.writer(url, plan_id) as writer:
        for index in missing:
            row = _twice(partial(coarsen, out, plan[index], halving, means), url, index)
            if row is not None:
                writer.append(row)
                journal.release(url, index)
                yield row


def _twice(make: Callable[[], journal.Row], url: str, index: int) -> journal.Row | None:
    for pause in (AGAIN, None):
        try:
            return make()
        except BignccError:
            raise
        except Exception as error:
            if pause is None:
                journal.quarantine(url, index, in_one_line(error))
            else:  # another run may be writing the same object
                time.sleep(pause)
    return None


def _pieces(out: Output, tile: Tile, halving: Halving, threads: int) -> list[Piece]:
    """Read what a tile of a round is made of, block by block, and return what becomes of each."""
    fine = out.level(tile.source)
    unit = tuple(2 * n if n % 2 else n for n in fine["ncc"].chunks)
    block = inner_block(roi_shape(tile.write), unit, 4 * threads, PIECE)

    def piece(roi: Roi) -> Piece:
        return halving.piece(roi, Maps(**{name: np.ascontiguousarray(array[roi]) for name, array in fine.items()}))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(piece, parts(tile.write, block)))


def _blocks(
    job: Job, pair: Pair, tile: Tile, means: Means, function: Callable[[Any, Roi], Any], crew: Crew | None = None
) -> list[Any]:
    if crew is None:
        return _computed(job, pair, tile, means, function)
    blocks = len(job.plan.parts(tile, means.block))
    with in_turn(crew.turn, blocks, means.threads) as one_more:

        def counted(block: Any, roi: Roi) -> Any:
            try:
                return function(block, roi)
            finally:
                one_more()

        return _computed(job, pair, tile, means, counted, crew.pool)


def _computed(
    job: Job, pair: Pair, tile: Tile, means: Means, function: Callable[[Any, Roi], Any], pool: Executor | None = None
) -> list[Any]:
    if tile.nodes:
        return all_of(partial(_searched, job, pair, function=function), job.plan.parts(tile, ()), pool)
    if means.halo == "overlap":
        return each(_lazy(job, pair, tile, means.block), function, _start(tile), pool)
    return all_of(partial(_alone, job, pair, function=function), job.plan.parts(tile, means.block), pool)


def _alone(job: Job, pair: Pair, part: Tile, function: Callable[[Any, Roi], Any]) -> Any:
    """Compute one block of a tile, with a margin of its own, on this thread."""
    return each(_lazy(job, pair, part, roi_shape(part.write)), function, _start(part), "here")[0]


def _searched(job: Job, pair: Pair, part: Tile, function: Callable[[Any, Roi], Any]) -> Any:
    """Search the displacements of the nodes of one object, on this thread."""
    assert job.plan.nodes is not None  # or there would be no such part
    frame = part, job.plan.nodes, job.plan.origin, job.transform, job.order
    return function(one(lazy.vectors(pair, job.window, job.reach, job.pivot(part), *frame)), part.write)


def _lazy(job: Job, pair: Pair, tile: Tile, block: Shape) -> Any:
    return lazy.tile(
        pair, job.window, job.pivot(tile), tile, job.plan.origin, block, job.transform, job.order, job.gain
    )


def _start(tile: Tile) -> Shape:
    return tuple(s.start for s in tile.write)


class _Part(NamedTuple):
    """What a block leaves behind.

    Its statistics, what is stored of it, its chunks that wait for the rest of a stored object, and what becomes of it
    in the next level.
    """

    summary: Summary
    found: evidence.Found
    chunks: evidence.Chunks
    piece: Piece | None


def _commit(block: Block, roi: Roi, out: Output, halving: Halving | None, *, whole: bool, durable: bool) -> _Part:
    chunks = evidence.encoded(out, 0, roi, _maps(block))
    found = evidence.written(out, roi, chunks, durable=durable) if whole else {}
    return _Part(block.summary, found, {} if whole else chunks, _piece(block, roi, halving))


def _commit_nodes(vectors: Any, roi: Roi, out: Output, *, durable: bool) -> tuple[shift.Lengths, evidence.Found]:
    chunks = evidence.encoded_nodes(out, roi, vectors)
    return shift.measured(vectors), evidence.written(out, roi, chunks, durable=durable)


def _compare(block: Block, roi: Roi, out: Output, halving: Halving | None) -> tuple[dict[str, int], Piece | None]:
    wrong = evidence.unlike(out, 0, roi, _maps(block)) if "ncc" in out.maps else {}
    return wrong, _piece(block, roi, halving)


def _piece(block: Block, roi: Roi, halving: Halving | None) -> Piece | None:
    return None if halving is None else halving.piece(roi, _maps(block))


def _maps(block: Block) -> Maps:
    return Maps(block.ncc, block.status, block.gain)
