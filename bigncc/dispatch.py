"""Who computes the tiles of a run: the threads of this process, or the workers of a cluster."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from bigncc import cluster, engine, journal, stealing, tasks, worker
from bigncc.budget import least_memory, memory_of, threads_of, workers_of
from bigncc.capacity import Means
from bigncc.engine import Job
from bigncc.errors import InputError
from bigncc.inputs import Inputs, pair_of
from bigncc.ledger import Row
from bigncc.output import Output
from bigncc.progress import Advance, Step

Compute = Callable[..., Iterator[Row]]


@contextmanager
def computing(
    job: Job, inputs: Inputs, out: Output, means: Means, look: stealing.Look, stale: set[int]
) -> Iterator[Compute]:
    """Yield what computes tiles, but those that another job has finished by the time that they are begun.

    Parameters
    ----------
    job, inputs, out, means
        As for `bigncc.engine.run_tiles`.
    look : callable
        Says which tiles are finished.
    stale : set of int
        Those that have a row in the journal which is known to be wrong.
    """
    if inputs.config.cluster.kind != "threads":
        with _cluster(job, inputs, stale) as compute:
            yield compute
        return
    pair, seen = pair_of(inputs, means.cache, means.at_once), engine.trail(job, inputs.sources)

    def taken(index: int) -> bool:
        return index not in stale and index in look()

    yield partial(engine.run_tiles, job, pair, out, means=means, seen=seen, taken=taken)


@contextmanager
def _cluster(job: Job, inputs: Inputs, stale: set[int]) -> Iterator[Compute]:
    """Yield what lets workers compute tiles, a few of them at a time."""
    config = inputs.config
    for name, image in (("reference", inputs.reference), ("moving", inputs.moving)):
        if not image.url:
            message = f"{name} is in the memory of this process: an image that workers can open, at a path, is accepted"
            raise InputError(message)
    workers, memory, settings = workers_of(config), memory_of(config), config.engine.model_dump()
    settings["memory"] = memory
    if config.cluster.kind == "processes":
        settings["threads"] = threads_of(config)
    task = partial(worker.tile, worker.Order(job.url, job.plan_id, settings, uuid.uuid4().hex))
    with cluster.connect(config.cluster, workers, memory) as client:
        tasks.check_memory(client, least_memory(inputs, job.plan))
        there = tasks.counting(client)

        def most() -> int:
            return tasks.AHEAD * max(there(), workers)

        def compute(missing: Iterable[int], advance: Advance | None = None) -> Iterator[Row]:
            def killed(item: tuple[int, bool], reason: str) -> None:
                journal.quarantine(job.url, item[0], reason)
                if advance is not None:
                    advance(Step(job.plan.weight(item[0]), 2, quarantined=True, workers=there()))

            items = ((index, index in stale) for index in missing)
            for (index, _), made, again in tasks.results(client, task, items, most, killed):
                if advance is not None:
                    made_here = made._replace(tries=made.tries + again)
                    advance(made_here.step(job.plan.weight(index), there()))
                if made.row is not None:
                    yield made.row

        yield compute
