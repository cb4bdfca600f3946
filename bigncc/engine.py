"""Run tiles: graph -> compute -> whole objects on disk -> read back -> row in the journal; and prove them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from bigncc import journal, lazy, objects, store
from bigncc.errors import BignccError, StoppedError
from bigncc.kernel import Block, Pivots
from bigncc.layout import FOLDERS, map_name
from bigncc.metadata import in_one_line
from bigncc.output import Output
from bigncc.pair import Pair, all_of, each, source_regions
from bigncc.pyramid import Halving, Maps, Piece, together
from bigncc.reading import Decoded
from bigncc.summary import Summary, merge
from bigncc.tiles import Plan, Roi, Shape, Tile, parts, roi_cells, roi_shape, roi_within
from bigncc.transform import Transform
from bigncc.watch import Trail, Watched
from bigncc.window import Window

Result = TypeVar("Result")

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

TOGETHER = 12
"""Bytes per pixel of a tile whose blocks wait for the rest of a shard: in pieces, as a whole, and encoded."""

COARSENING = 4
"""Bytes per pixel that a tile of a round reads: the next level in pieces and as a whole, and its chunks."""

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
        Tiles in work at once: one is read and another is written while the processors compute.
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


class Evidence(NamedTuple):
    """One stored object: where it is in its array's grid, its size and its digest."""

    place: Shape
    size: int
    digest: str


def bytes_per_pixel(reference: np.dtype[Any], moving: np.dtype[Any], *, pulled: bool, masked: bool) -> int:
    """Return the memory that a pixel of a tile takes in the worst case, when all inputs wait for their neighbours.

    Samples are held as blocks of the tile's grid; a pulled image is float64 with its validity.
    """
    held = reference.itemsize + moving.itemsize
    if pulled:
        held += 2 * (8 + 1)
    return held + (4 if masked else 0)


def largest_samples(memory: int, per_pixel: int, threads: int, block: int) -> int:
    """Return how many decoded pixels of a tile fit `memory` beside the process and the blocks in work."""
    return (memory - RESERVED - threads * block * SCRATCH) // per_pixel


def inner_block(tile: Shape, unit: Shape, least: int, pixels: int) -> Shape:
    """Return the extent of a block inside a tile: whole units, at most `pixels`, and `least` of them if it can be."""
    block = unit
    while True:
        grown = tuple(min(-(-n // o) * o, 2 * b) for n, o, b in zip(tile, unit, block, strict=True))
        blocks = np.prod([-(-n // b) for n, b in zip(tile, grown, strict=True)])
        if grown == block or np.prod(grown) > pixels or blocks < least:
            return block
        block = grown


def done(job: Job, out: Output, tiles: range, threads: int) -> dict[int, journal.Row]:
    """Return the rows of those of `tiles` whose stored objects are those that the row was written for."""
    return matching(out, job.plan, journal.rows(job.url, job.plan_id, tiles), threads)


def matching(out: Output, plan: Plan, rows: dict[int, journal.Row], threads: int) -> dict[int, journal.Row]:
    """Return those of `rows` that say what is stored."""
    with ThreadPoolExecutor(threads) as pool:
        right = pool.map(lambda index: matches(out, plan[index], rows[index]), indices := sorted(rows))
        return {index: rows[index] for index, fine in zip(indices, right, strict=True) if fine}


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
    # one pool for all tiles in flight; dask would make one for each thread that asks
    with journal.writer(job.url, job.plan_id) as writer, _pool(means.threads) as pool:
        attempt = partial(_attempted, job, pair, out, means=means, pending=pending, pool=pool, taken=taken)
        for index, row in zip(missing, _in_flight(attempt, missing, means.flights), strict=True):
            if row is None:
                continue
            writer.append(replace(row, saw=seen.news()))
            journal.release(job.url, index)
            if advance is not None:
                advance(row.summary.pixels)
            yield row


@contextmanager
def _pool(threads: int) -> Iterator[Executor]:
    """Make a pool that nobody waits for in the end."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_flight(function: Callable[[int], Result], items: Iterable[int], count: int) -> Iterator[Result]:
    """Yield ``function(item)`` in order, while those of the next items are being computed."""
    pool, waiting, patient = ThreadPoolExecutor(count), deque[Future[Result]](), True
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (StoppedError, KeyboardInterrupt):
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


def _attempted(
    job: Job,
    pair: Pair,
    out: Output,
    index: int,
    means: Means,
    pending: set[int],
    pool: Executor,
    taken: Callable[[int], bool] | None,
) -> journal.Row | None:
    near = [i for i in job.plan.around(index) if i in pending]
    images = [image for image in (pair.reference, pair.moving) if isinstance(image, Decoded)]
    for image, regions in zip(
        images,
        zip(*(source_regions(pair, job.plan[i].read, job.transform, job.order) for i in near), strict=True),
        strict=True,
    ):
        image.expect({i: region for i, region in zip(near, regions, strict=True) if region is not None})
    try:
        if taken is not None and taken(index):
            return None
        return _twice(partial(compute, job, pair, out, job.plan[index], means, pool), job.url, index)
    finally:
        pending.discard(index)
        for image in images:
            image.done(index)


def compute(job: Job, pair: Pair, out: Output, tile: Tile, means: Means, pool: Executor | None = None) -> journal.Row:
    """Compute a tile, store it with its part of the coarser levels, read it back."""
    halving = job.halving if tile.levels[-1][0] else None
    whole = job.plan.unit == job.plan.objects
    commit = partial(_commit, out=out, halving=halving, whole=whole, durable=means.durable)
    done = _blocks(job, pair, tile, means, commit, pool)
    found = {name: [e for part in done for e in part.found[name]] for name in done[0].found}
    kept, pieces = ([each for each in of if each is not None] for of in zip(*(part[2:] for part in done), strict=True))
    summary = merge(part.summary for part in done)
    done.clear()
    levels = halving.levels(tile, pieces) if halving is not None else iter(())
    if kept:
        levels = chain([(0, tile.write, together(tile.write, kept))], levels)
    return _row(tile, summary, found | _stored(out, tile, levels, means))


def rehearse(job: Job, pair: Pair) -> None:
    """Compute a block in the middle and keep nothing: then all loops that the tiles need are compiled."""
    blocks = job.plan.parts(job.plan[job.plan.base // 2], job.plan.unit)

    def halved(block: Block, roi: Roi) -> None:
        _piece(block, roi, job.halving if job.plan.levels[-1] else None)

    _alone(job, pair, blocks[len(blocks) // 2], halved)


def coarsen(out: Output, tile: Tile, halving: Halving, means: Means) -> journal.Row:
    """Make a tile of a round from the level that is stored, store it, read it back."""
    levels = halving.levels(tile, _pieces(out, tile, halving, means.threads))
    return _row(tile, Summary(), _stored(out, tile, levels, means))


def differences(job: Job, pair: Pair, out: Output, tile: Tile, means: Means) -> list[str]:
    """Make a tile once more; return a sentence for each map that is not stored so, to the bit."""
    halving, wrong = job.halving if tile.levels[-1][0] else None, {}
    if tile.index < job.plan.base:
        done = _blocks(job, pair, tile, means, partial(_compare, out=out, halving=halving))
        wrong = {name: sum(counts[name] for counts, _ in done) for name in done[0][0]}
        pieces = [piece for _, piece in done if piece is not None]
    else:
        pieces = _pieces(out, tile, job.halving, means.threads)
    for level, roi, maps in halving.levels(tile, pieces) if halving is not None else ():
        if any(level == stored for stored, _ in tile.levels):
            wrong |= _unlike(out, level, roi, maps)
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
        ncc, status = (np.ascontiguousarray(array[roi]) for array in fine.values())
        return halving.piece(roi, Maps(ncc, status))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(piece, parts(tile.write, block)))


def _stored(
    out: Output, tile: Tile, levels: Iterable[tuple[int, Roi, Maps]], means: Means
) -> dict[str, list[Evidence]]:
    """Store a tile's part of some levels, object by object; return what was read back."""
    own, found = dict(tile.levels), {}
    with ThreadPoolExecutor(means.threads) as pool:
        for level, roi, maps in levels:
            for name, values in zip(FOLDERS, maps, strict=True) if level in own else ():
                array = out.maps[map_name(name, level)]

                def put(part: Roi, array: Any = array, values: Any = values, whole: Roi = roi) -> list[Evidence]:
                    return _written(array, part, values[roi_within(part, whole)], durable=means.durable)

                # the next level is made meanwhile
                found[map_name(name, level)] = pool.map(put, parts(roi, array.shards or array.chunks))
        return {name: list(chain.from_iterable(each_object)) for name, each_object in found.items()}


def _blocks(
    job: Job, pair: Pair, tile: Tile, means: Means, function: Callable[[Any, Roi], Any], pool: Executor | None = None
) -> list[Any]:
    if means.halo == "overlap":
        return each(_lazy(job, pair, tile, means.block), function, _start(tile), pool)
    return all_of(partial(_alone, job, pair, function=function), job.plan.parts(tile, means.block), pool)


def _alone(job: Job, pair: Pair, part: Tile, function: Callable[[Any, Roi], Any]) -> Any:
    """Compute one block of a tile, with a margin of its own, on this thread."""
    return each(_lazy(job, pair, part, roi_shape(part.write)), function, _start(part), "here")[0]


def _lazy(job: Job, pair: Pair, tile: Tile, block: Shape) -> Any:
    return lazy.tile(pair, job.window, job.pivot(tile), tile, job.plan.origin, block, job.transform, job.order)


def _start(tile: Tile) -> Shape:
    return tuple(s.start for s in tile.write)


def matches(out: Output, tile: Tile, row: journal.Row) -> bool:
    """Say whether the stored objects of a tile are those that its row was written for."""
    return not faults(out, tile, row)


def faults(out: Output, tile: Tile, row: journal.Row | None, level: int | None = None) -> list[str]:
    """Return a sentence for everything of a tile that is not what its row says; each object is read once.

    `level` is the one level to look at; by default all of the tile's.
    """
    if row is None:
        return [f"tile {tile.index} has no row in the journal"]
    found = []
    for name, roi in ((map_name(m, k), roi) for k, roi in tile.levels if level in (None, k) for m in FOLDERS):
        array = out.maps[name]
        wrong, evidence = [], []
        for index, (place, data, fault) in zip(_cells(array, roi), objects.examined(array, roi), strict=True):
            wrong += [f"{place} {fault}"] if fault else []
            evidence.append(_evidence(index, data))
        if not wrong and _digest(evidence) != row.digests.get(name):
            first, *rest = objects.places(array, roi)
            which = f"one of {first} to {rest[-1]}" if rest else first
            wrong.append(f"{which} is not what was written there")
        found += wrong
    return found


class _Part(NamedTuple):
    """What a block leaves behind.

    Its statistics, what is stored of it, what waits for the rest of a stored object, and what becomes of it in the
    next level.
    """

    summary: Summary
    found: dict[str, list[Evidence]]
    kept: Piece | None
    piece: Piece | None


def _commit(block: Block, roi: Roi, out: Output, halving: Halving | None, *, whole: bool, durable: bool) -> _Part:
    finest = {name: out.maps[name] for name in FOLDERS if name in out.maps}
    kept = None if whole or not finest else (roi, Maps(block.ncc, block.status))
    found = {
        name: _written(array, roi, getattr(block, name), durable=durable)
        for name, array in finest.items()
        if kept is None
    }
    return _Part(block.summary, found, kept, _piece(block, roi, halving))


def _compare(block: Block, roi: Roi, out: Output, halving: Halving | None) -> tuple[dict[str, int], Piece | None]:
    wrong = _unlike(out, 0, roi, Maps(block.ncc, block.status)) if "ncc" in out.maps else {}
    return wrong, _piece(block, roi, halving)


def _piece(block: Block, roi: Roi, halving: Halving | None) -> Piece | None:
    return None if halving is None else halving.piece(roi, Maps(block.ncc, block.status))


def _unlike(out: Output, level: int, roi: Roi, maps: Maps) -> dict[str, int]:
    """Return how many pixels of each map of a level are not stored so, to the bit."""
    wrong = {}
    computed: Any
    for name, computed in zip(FOLDERS, maps, strict=True):
        name, bits = map_name(name, level), f"u{computed.itemsize}"
        wrong[name] = int((computed.view(bits) != np.ascontiguousarray(out.maps[name][roi]).view(bits)).sum())
    return wrong


def _written(array: Any, roi: Roi, values: Any, *, durable: bool) -> list[Evidence]:
    stored = objects.write(array, roi, values, durable=durable)
    return [Evidence(index, *each) for index, each in zip(_cells(array, roi), stored, strict=True)]


def _cells(array: Any, roi: Roi) -> Iterator[Shape]:
    return roi_cells(roi, array.shards or array.chunks)


def _evidence(index: Shape, data: bytes) -> Evidence:
    return Evidence(index, len(data), store.digest([data]))


def _digest(evidence: Iterable[Evidence]) -> str:
    """Return the digest of objects in their order, in whatever order they were computed."""
    return store.digest(e.digest.encode() for e in sorted(evidence))


def _row(tile: Tile, summary: Summary, found: dict[str, list[Evidence]]) -> journal.Row:
    sizes = {name: sum(e.size for e in evidence) for name, evidence in found.items()}
    return journal.Row(tile.index, summary, sizes, {name: _digest(evidence) for name, evidence in found.items()})
