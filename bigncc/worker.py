"""What a process of a cluster does for a run: a tile at a time, and its row in the journal.

All that it is sent is where the output is and which tile: plan.json has the rest. What it opens it keeps for the next
tile of the same run.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Condition, Lock
from typing import Any

from bigncc import allocator, engine, journal, stealing, store
from bigncc.attempts import Outcome
from bigncc.budget import means_of
from bigncc.capacity import Means
from bigncc.crew import Crew, crew_of
from bigncc.decision import check_request, job_of, opened, reopened
from bigncc.engine import Job
from bigncc.errors import BignccError, DoesNotFitError, InputError
from bigncc.evidence import matches
from bigncc.inputs import Inputs, pair_of
from bigncc.ledger import Row
from bigncc.output import Output
from bigncc.pair import Pair
from bigncc.proof import plan_of
from bigncc.tasks import Place, here
from bigncc.tiles import Plan
from bigncc.watch import Trail


@dataclass(frozen=True)
class Order:
    """Which run a tile belongs to.

    Parameters
    ----------
    url : str
        The output, absolute.
    plan_id : str
        Its plan.
    settings : dict
        Section ``engine`` of the config, as it concerns one process.
    run : str
        Unlike that of any other run: what was opened for another one is let go, with its file of the journal, since
        lines in files that were begun before this run do not hold against those of other jobs.
    """

    url: str
    plan_id: str
    settings: dict[str, Any]
    run: str


@dataclass
class _Desk:
    """All that a process has open for a run."""

    job: Job
    pair: Pair
    out: Output
    means: Means
    crew: Crew
    seen: Trail
    look: stealing.Look
    opened: ExitStack
    pen: Lock = field(default_factory=Lock)
    writer: journal.Writer | None = None
    expected: set[int] = field(default_factory=set)


class _Room:
    """The one desk of this process, and how many tiles are at it."""

    def __init__(self) -> None:
        self.free = Condition()
        self.order: Order | None = None
        self.desk: _Desk | None = None
        self.busy = 0


_room = _Room()


def tile(order: Order, tile: tuple[int, bool]) -> Outcome:
    """Make a tile, unless the journal has it.

    Parameters
    ----------
    order : Order
        Of which run.
    tile : tuple
        Its number, and whether the row that the journal may have of it is known to be wrong.

    Raises
    ------
    BignccError
        What concerns more than one tile; the sentence says which worker met it.
    """
    index, stale = tile
    place = here()
    try:
        with _at_desk(order, place) as desk:
            finished = _finished(desk)
            if index in finished and not stale and (row := _row(desk, index)) is not None:
                return Outcome(row, 0)
            made = engine.attempted(
                desk.job, desk.pair, desk.out, index, desk.means, _pending(desk, index, finished), desk.crew
            )
            return made if made.row is None else made._replace(row=_recorded(desk, made.row))
    except BignccError as error:
        message = f"{error} (worker {place.name})"
        raise type(error)(message) from None


@contextmanager
def _at_desk(order: Order, place: Place) -> Iterator[_Desk]:
    """Wait until there is room for one more tile of a run, and have what it needs."""
    with _room.free:
        while _room.busy and (_room.order != order or _room.desk is None or _room.busy >= _room.desk.means.flights):
            _room.free.wait()
        if _room.order != order or _room.desk is None:
            if _room.desk is not None:
                _room.desk.opened.close()
            _room.order = _room.desk = None
            _room.order, _room.desk = order, _desk(order, place)
        desk = _room.desk
        _room.busy += 1
    try:
        yield desk
    finally:
        with _room.free:
            _room.busy -= 1
            _room.free.notify_all()


def _desk(order: Order, place: Place) -> _Desk:
    allocator.keep_freed_memory()
    standing = plan_of(order.url)
    if standing["plan_id"] != order.plan_id:
        message = (
            f"{order.url} has plan {standing['plan_id']} here and {order.plan_id} where the run was begun: storage "
        )
        message += "that all processes share is accepted"
        raise InputError(message)
    check_request(order.url, standing, standing["request"])
    settings = dict(order.settings)
    if limited := place.memory is not None and place.memory < settings["memory"]:
        settings["memory"] = place.memory
    inputs = reopened(standing, settings)
    job = job_of(order.url, standing, inputs)
    try:
        means = _means(inputs, job.plan, place)
    except DoesNotFitError as error:
        if not limited:
            raise
        message = f"a worker may take {settings['memory'] / 1e6:.0f} MB before it is paused, and so {error}"
        raise DoesNotFitError(message) from None
    look = journal.following(order.url, order.plan_id)
    if not store.is_local(order.url):  # each look lists the journal
        look = stealing.seldom(look)
    opened_for_it = ExitStack()
    return _Desk(
        job=job,
        pair=pair_of(inputs, means.cache, means.at_once),
        out=opened(order.url, standing),
        means=means,
        crew=opened_for_it.enter_context(crew_of(means.threads)),
        seen=engine.trail(job, inputs.sources),
        look=look,
        opened=opened_for_it,
    )


def _means(inputs: Inputs, plan: Plan, place: Place) -> Means:
    """Return how tiles are computed here: on the threads that are asked for, or on as many of its own as fit."""
    section = inputs.config.engine
    for threads in (section.threads,) if section.threads else range(place.threads, 0, -1):
        config = inputs.config.model_copy(update={"engine": section.model_copy(update={"threads": threads})})
        try:
            return means_of(replace(inputs, config=config), plan)
        except DoesNotFitError:
            if threads in (1, section.threads):
                raise
    raise AssertionError  # a worker has a thread


def _finished(desk: _Desk) -> set[int]:
    with desk.pen:
        return set(desk.look())


def _row(desk: _Desk, index: int) -> Row | None:
    """Return the row of a tile that another process has finished meanwhile, if it is what is stored."""
    row = journal.rows(desk.job.url, desk.job.plan_id, {index}).get(index)
    return row if row is not None and matches(desk.out, desk.job.plan[index], row) else None


def _pending(desk: _Desk, index: int, finished: set[int]) -> set[int]:
    """Return which tiles around one may be computed here later; forget what is kept for those that others have made."""
    pending = set(desk.job.plan.around(index)) - finished | {index}
    with desk.pen:
        made = (desk.expected & finished) - {index}
        desk.expected = (desk.expected | pending) - finished - {index}
    engine.forget(desk.pair, made)
    return pending


def _recorded(desk: _Desk, row: Row) -> Row:
    with desk.pen:
        if desk.writer is None:  # a file of the journal has a line at least
            desk.writer = desk.opened.enter_context(journal.writer(desk.job.url, desk.job.plan_id))
        engine.record(desk.job, row, desk.writer, desk.seen)
    return row
