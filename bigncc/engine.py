"""Run tiles: graph -> compute -> whole objects on disk -> read back -> row in the journal; and make them again."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from bigncc import discoveries, evidence, journal, lazy, shift, vectors
from bigncc.attempts import Outcome, twice
from bigncc.capacity import Means, inner_block
from bigncc.crew import Crew, crew_of, in_flight, in_turn
from bigncc.discoveries import PValues
from bigncc.encoding import Encodings
from bigncc.kernel import Block, Pivots
from bigncc.ledger import Row
from bigncc.maps import NOTHING, Asked
from bigncc.output import Output
from bigncc.pair import Pair, PerItem, all_of, as_stored, each, one, source_regions
from bigncc.progress import Advance
from bigncc.pyramid import Halving, Maps, Piece, encoded, of_named
from bigncc.reading import kept, wanted
from bigncc.summary import Items, Summary, merge, merge_items
from bigncc.tiles import Plan, Roi, Shape, Tile, parts, roi_shape
from bigncc.transform import Transform
from bigncc.watch import Trail, Watched
from bigncc.window import Window

PIECE = 2**20
"""Pixels of a stored level that one thread reads at once."""


@dataclass(frozen=True)
class Job:
    """All that is decided about a run."""

    url: str
    plan_id: str
    plan: Plan
    window: Window
    transform: Transform | PerItem | None
    order: int
    pivots: tuple[Pivots, ...]
    channel_axis: int | None
    asked: Asked = NOTHING
    reach: Shape = ()
    encodings: Encodings = field(default_factory=dict)

    def pivots_of(self, tile: Tile) -> tuple[Pivots, ...]:
        """Return the pivots of the channels that a tile has."""
        return self.pivots if self.channel_axis is None else self.pivots[tile.read[self.channel_axis]]

    @property
    def apart(self) -> bool:
        """Whether there are several batch items, each with statistics of its own."""
        return math.prod(self.plan.shape[: -self.window.ndim]) > 1

    @property
    def halving(self) -> Halving:
        """How the next level is made."""
        return Halving(self.plan.halved, self.window.flat, self.encodings)


def done(job: Job, out: Output, tiles: range, threads: int) -> set[int]:
    """Return those of `tiles` whose stored objects are those that their rows were written for."""
    return evidence.matching(out, job.plan, journal.rows(job.url, job.plan_id, tiles), tiles, threads)


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
    advance: Advance | None = None,
    taken: Callable[[int], bool] | None = None,
) -> Iterator[Row]:
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
        Called with what became of each tile.
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
        for index, made in zip(missing, in_flight(attempt, missing, means.flights), strict=True):
            if made.row is not None:
                record(job, made.row, writer, seen)
            if advance is not None:
                advance(made.step(job.plan.weight(index)))
            if made.row is not None:
                yield made.row


def record(job: Job, row: Row, writer: journal.Writer, seen: Trail) -> None:
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
) -> Outcome:
    """Compute a tile, and once more if that fails, unless it is `taken`.

    `pending` has the tiles that may still come, for which what is decoded here is kept; this one goes out of it.
    """
    images = list(kept((pair.reference, pair.moving)))
    new = {i for i in job.plan.around(index) if i in pending and not all(image.expects(i) for image in images)}
    near = {i: _regions(job, pair, job.plan[i], means) for i in new}
    for image, regions in wanted((pair.reference, pair.moving), near):
        image.expect(regions)
    try:
        if taken is not None and taken(index):
            return Outcome(None, 0)
        return twice(partial(compute, job, pair, out, job.plan[index], means, crew), job.url, index)
    finally:
        pending.discard(index)
        for image in kept((pair.reference, pair.moving)):
            image.done(index)


def forget(pair: Pair, tiles: Iterable[int]) -> None:
    """Let go of what is kept decoded for tiles that others have finished."""
    made = list(tiles)
    for image in kept((pair.reference, pair.moving)):
        for index in made:
            image.done(index)


def _regions(job: Job, pair: Pair, tile: Tile, means: Means) -> list[tuple[Roi | None, Roi | None]]:
    """Return what a tile reads of both images, each region once."""
    if means.halo == "overlap" and not tile.nodes:
        regions = lazy.regions(job.window, tile, job.plan.origin, means.block, job.asked)
    else:
        regions = [part.read for part in job.plan.parts(tile, means.block)]
    found: list[tuple[Roi | None, Roi | None]] = []
    found += [source_regions(pair, region, job.transform, job.order) for region in regions]
    if job.asked.gain and not tile.nodes:  # the moving image once more, as it is stored
        stored = as_stored(pair, job.window.ndim)
        found += [(None, source_regions(pair, region, stored, job.order)[1]) for region in regions]
    return found


def compute(job: Job, pair: Pair, out: Output, tile: Tile, means: Means, crew: Crew | None = None) -> Row:
    """Compute a tile, store it with its part of the coarser levels, read it back."""
    if tile.nodes:
        found_nodes = _blocks(job, pair, tile, means, partial(_commit_nodes, out=out, durable=means.durable), crew)
        lengths = shift.merged(length for length, _ in found_nodes)
        components = {name: [each for _, part in found_nodes for each in part[name]] for name in out.components}
        return evidence.row(tile, Summary(), components, shift=lengths.to_dict())
    halving = job.halving if tile.levels[-1][0] else None
    whole = job.plan.unit == job.plan.objects
    commit = partial(
        _commit, out=out, halving=halving, whole=whole, durable=means.durable, apart=job.apart,
        encodings=job.encodings,
    )  # fmt: skip
    done = _blocks(job, pair, tile, means, commit, crew)
    summary, items = merge(part.summary for part in done), merge_items(part.items for part in done)
    pvalues = discoveries.merged(part.pvalues for part in done)
    found = {name: [each for part in done for each in part.found[name]] for name in done[0].found}
    chunks = {name: dict(chain.from_iterable(part.chunks[name].items() for part in done)) for name in done[0].chunks}
    pieces = [part.piece for part in done if part.piece is not None]
    done.clear()
    levels = halving.levels(tile, pieces) if halving is not None else iter(())
    more = evidence.stored(out, tile, chunks, levels, means.threads, durable=means.durable)
    return evidence.row(tile, summary, found | more, items, pvalues=pvalues)


def rehearse(job: Job, pair: Pair) -> None:
    """Compute a block in the middle and keep nothing: then all loops that the tiles need are compiled."""
    blocks = job.plan.parts(job.plan[math.prod(job.plan.grid) // 2], job.plan.unit)

    def halved(block: Block, roi: Roi) -> None:
        _piece(_maps(block, job.encodings), roi, job.halving if job.plan.levels[-1] else None)

    _alone(job, pair, blocks[len(blocks) // 2], halved)
    if job.plan.nodes is not None:
        objects = job.plan.parts(job.plan[job.plan.base - 1], ())
        _searched(job, pair, objects[len(objects) // 2], lambda vectors, _: vectors)


def coarsen(out: Output, tile: Tile, halving: Halving, means: Means) -> Row:
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
        done = _blocks(job, pair, tile, means, partial(_compare, out=out, halving=halving, encodings=job.encodings))
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
    url: str,
    plan_id: str,
    out: Output,
    plan: Plan,
    missing: Iterable[int],
    halving: Halving,
    means: Means,
    advance: Advance | None = None,
) -> Iterator[Row]:
    """Make tiles of a round; yield each one's row when it is in the journal. One that fails twice is quarantined."""
    with journal.writer(url, plan_id) as writer:
        for index in missing:
            made = twice(partial(coarsen, out, plan[index], halving, means), url, index)
            if made.row is not None:
                writer.append(made.row)
                journal.release(url, index)
            if advance is not None:
                advance(made.step(plan.weight(index)))
            if made.row is not None:
                yield made.row


def _pieces(out: Output, tile: Tile, halving: Halving, threads: int) -> list[Piece]:
    """Read what a tile of a round is made of, block by block, and return what becomes of each."""
    fine = out.level(tile.source)
    unit = tuple(2 * n if n % 2 else n for n in fine["ncc"].chunks)
    block = inner_block(roi_shape(tile.write), unit, 4 * threads, PIECE)

    def piece(roi: Roi) -> Piece:
        return halving.piece(roi, of_named({name: np.ascontiguousarray(array[roi]) for name, array in fine.items()}))

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
    (pivots,) = job.pivots_of(part)  # an object of nodes has one channel
    frame = part, job.plan.nodes, job.plan.origin, job.transform, job.order, job.asked.prefilter
    return function(one(vectors.vectors(pair, job.window, job.reach, pivots, *frame)), part.write)


def _lazy(job: Job, pair: Pair, tile: Tile, block: Shape) -> Any:
    how = job.transform, job.order, job.channel_axis, job.asked
    return lazy.tile(pair, job.window, job.pivots_of(tile), tile, job.plan.origin, block, *how)


def _start(tile: Tile) -> Shape:
    return tuple(s.start for s in tile.write)


class _Part(NamedTuple):
    """What a block leaves behind.

    Its statistics, what is stored of it, its chunks that wait for the rest of a stored object, what becomes of it
    in the next level, the statistics of each batch item of the output, if there are several, and p-values.
    """

    summary: Summary
    found: evidence.Found
    chunks: evidence.Chunks
    piece: Piece | None
    items: Items
    pvalues: PValues


def _commit(
    block: Block,
    roi: Roi,
    out: Output,
    halving: Halving | None,
    *,
    whole: bool,
    durable: bool,
    apart: bool,
    encodings: Encodings,
) -> _Part:
    maps = _maps(block, encodings)
    chunks = evidence.encoded(out, 0, roi, maps)
    found = evidence.written(out, roi, chunks, durable=durable) if whole else {}
    start = [s.start for s in roi]
    items = block.items.items() if apart else ()
    placed = {tuple(a + i for a, i in zip(start, place, strict=False)): summary for place, summary in items}
    return _Part(block.summary, found, {} if whole else chunks, _piece(maps, roi, halving), placed, block.pvalues)


def _commit_nodes(vectors: Any, roi: Roi, out: Output, *, durable: bool) -> tuple[shift.Lengths, evidence.Found]:
    chunks = evidence.encoded_nodes(out, roi, vectors)
    return shift.measured(vectors), evidence.written(out, roi, chunks, durable=durable)


def _compare(
    block: Block, roi: Roi, out: Output, halving: Halving | None, encodings: Encodings
) -> tuple[dict[str, int], Piece | None]:
    maps = _maps(block, encodings)
    wrong = evidence.unlike(out, 0, roi, maps) if "ncc" in out.maps else {}
    return wrong, _piece(maps, roi, halving)


def _piece(maps: Maps, roi: Roi, halving: Halving | None) -> Piece | None:
    return None if halving is None else halving.piece(roi, maps)


def _maps(block: Block, encodings: Encodings) -> Maps:
    return encoded(Maps(block.ncc, block.status, block.further), encodings)
