"""The verbs of a run: the only room that knows all the others.

``prepare`` decides everything once and writes it to plan.json; ``run`` computes the tiles that are missing and then
calls ``finish``; ``plan``, ``status`` and ``verify`` only look.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from bigncc import aperture, confidence, coverage, dispatch, engine, filtering, journal, stealing, store
from bigncc import config as words
from bigncc.budget import (
    Estimate,
    check_chunks,
    means_of,
    measuring,
    memory_of,
    processors,
    taken,
    threads_of,
    tiles_of,
    workers_of,
)
from bigncc.config import Config
from bigncc.decision import attributes_of, check_request, decide, job_of, opened, recalled, stored_layout
from bigncc.decoding import decode_overhead
from bigncc.engine import Job
from bigncc.errors import IncompleteError, InputError, RefusedError
from bigncc.footprint import alternatives, check_disk, disk, layout_of, objects
from bigncc.inputs import Inputs, lattices, open_inputs, pair_of, request_of
from bigncc.output import check_removable, check_vacant, create_output, remove_output
from bigncc.picture import panel, report, tabulate
from bigncc.placement import headline, registered
from bigncc.progress import Progress, silent
from bigncc.proof import Result, Verdict, finish, incomplete, plan_of, status, verify, withdraw
from bigncc.publication import Wish, facts, publish, publish_all
from bigncc.registration import Registration
from bigncc.shift import nanoseconds
from bigncc.tiles import Plan, share
from bigncc.totals import sums_of

__all__ = [
    "Estimate", "Prepared", "Result", "Verdict", "Wish", "complete", "facts", "finish", "panel", "plan", "prepare",
    "prepared", "publish", "publish_all", "register", "rehearse", "report", "run", "status", "tabulate", "verify",
]  # fmt: skip

NANOSECONDS = 35
"""Time per output pixel and thread, with a box, on the machine of the README's figures, for `plan`'s estimate."""

STATISTIC = 8
"""As many more for each further map of the windows."""

COMPARISON = 0.2
"""And as many for each two samples of a window whose ranks are correlated."""

TESTING = 120
"""And as many where chance is told from correlation."""

_SHIFT = "measuring where the moving image lies"

Waiting = Callable[[str], AbstractContextManager[None]]
Part = tuple[int, int]


def _unsaid(_what: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Prepared:
    """A run of which everything is decided and nothing needs to be computed yet."""

    job: Job
    inputs: Inputs
    headline: str


def plan(config: Config) -> Estimate:
    """Say what a run would take, without computing anything.

    Raises
    ------
    InputError, DoesNotFitError
        As `run` would.
    """
    inputs = open_inputs(config)
    threads = threads_of(config)
    layout = layout_of(inputs)
    grid = tiles_of(inputs, layout, threads)
    means = means_of(inputs, grid)
    if journal.read_plan(config.output.url) is None:
        check_vacant(config.output.url)
        check_disk(layout, config.output.url)
    return Estimate(
        shape=layout.shape,
        tiles=math.prod(grid.grid),
        coarser=len(grid) - grid.base,
        nodes=math.prod(grid.node_grid),
        tile=grid.tile,
        memory=max(taken(inputs, grid, means), measuring(inputs, threads)[1]),
        memory_limit=memory_of(config),
        threads=threads,
        workers=workers_of(config),
        disk=disk(layout),
        alternatives=alternatives(layout),
        objects=objects(layout),
        decode_overhead=decode_overhead(inputs, grid, means),
        tasks=math.prod(-(-n // b) for n, b in zip(grid.tile, means.block, strict=True)),
        window="; ".join(map(aperture.in_words, inputs.windows)),
        seconds=_nanoseconds(inputs, grid) * 1e-9 / (threads * workers_of(config)),
        valid=coverage.shares(inputs, threads),
        notes=inputs.notes + _absent(inputs),
        headline=headline(inputs),
    )


def _nanoseconds(inputs: Inputs, grid: Plan) -> float:
    """Return about how long one thread takes for all tiles from the images."""
    window, (_, reach), asked = inputs.window.shape, inputs.search, inputs.asked
    filtered = filtering.nanoseconds(asked.prefilter, inputs.ndim)
    own = NANOSECONDS - aperture.BOX + sum(map(aperture.nanoseconds, inputs.windows))
    each: float = own * (1 + asked.gain) + filtered * (2 + asked.gain)
    each += confidence.NANOSECONDS if asked.confidence else 0
    each += TESTING if asked.tested else 0
    each += STATISTIC * asked.statistics
    each += COMPARISON * math.prod(window) ** 2.0 if "spearman" in asked.further else 0
    if grid.nodes is None:
        return math.prod(grid.shape) * each
    node = nanoseconds(window, reach) + 2 * filtered * math.prod(grid.nodes.step)
    return math.prod(grid.shape) * each + math.prod(grid.nodes.shape) * node


def _absent(inputs: Inputs) -> tuple[str, ...]:
    counts = {name: image.array.absent for name, image in inputs.images.items()}
    unknown = tuple(
        f"{name} cannot be listed: how many of its chunks are stored is not known"
        for name, n in counts.items()
        if n is None
    )
    return unknown + tuple(f"{n} chunks of {name} are not stored" for name, n in counts.items() if n)


def register(config: Config, output: str | None = None, *, waiting: Waiting = _unsaid) -> Registration:
    """Estimate the transform of a config's pair, and write it to `output` as JSON if that is given.

    Parameters
    ----------
    config : Config
        Its ``registration.model`` is one that is estimated.
    output : path, optional
        A file that does not exist.
    waiting : callable, optional
        Called with what is going on; returns a context for its time.

    Raises
    ------
    InputError
        If the images cannot be registered, or the config says how they are.
    RefusedError
        If `output` exists.
    """
    if not config.registration.estimated:
        message = "registration says how the images are registered: registration.model=translation, rigid, similarity, "
        message += "affine or displacement is accepted"
        raise InputError(message)
    if config.stack.lags is not None:
        message = (
            "stack.lags is given: two images are accepted here, and bigncc run with registration.model=translation "
        )
        message += "registers the sections of a stack"
        raise InputError(message)
    if output is not None and store.exists(store.absolute(output)):
        message = f"{output} exists: a path that does not is accepted"
        raise RefusedError(message)
    inputs = open_inputs(config)
    with waiting(_SHIFT):
        found = registered(inputs, measuring(inputs, threads_of(config))[0]).registration
    assert found is not None  # or it would have raised
    if output is not None:
        text = json.dumps(found.to_dict()["transform"], indent=1)
        if not store.put_if_absent(store.absolute(output), f"{text}\n".encode()):
            message = f"{output} was made meanwhile: a path that does not exist is accepted"
            raise RefusedError(message)
    return found


def prepare(
    config: Config, *, waiting: Waiting = _unsaid, repair: bool = False, overwrite: str | None = None
) -> Prepared:
    """Decide everything about a run once: the plan that is there already holds, or this call makes it.

    The shift of the moving image is estimated by the call that makes the plan and never again; `waiting` as for
    `register`.

    Parameters
    ----------
    config : Config
        What is asked.
    waiting : callable, optional
        Called with what is going on; returns a context for its time.
    repair : bool
        Whether metadata of the output that is not what was written is written anew.
    overwrite : str, optional
        Plan id of an output that is removed first, if it is there.

    Raises
    ------
    InputError, DoesNotFitError
        If the inputs or the machine do not allow the run.
    RefusedError
        If the output belongs to another request, or is not ours.
    """
    inputs = open_inputs(config)
    check_chunks(inputs)
    url = store.absolute(config.output.url)
    samples = lattices(inputs)
    request = request_of(inputs, samples)
    standing = _remaining(url, overwrite) or _begun(url, overwrite)
    if standing is None:
        journal.check_vacant(url)
        with waiting(_SHIFT):
            decided = decide(inputs, request, samples, overwrite)
        if overwrite is not None:  # not before it is certain that there will be another one
            remove_output(url)
            journal.remove(url)
        standing = journal.settle_plan(url, decided)
    check_request(url, standing, request)
    inputs = recalled(inputs, standing["registration"])
    create_output(url, stored_layout(standing), attributes_of(standing, None), repair=repair)
    return Prepared(job_of(url, standing, inputs), inputs, standing["headline"])


def rehearse(ready: Prepared) -> None:
    """Compile what the jobs of a prepared run will need, so that they only load it."""
    means = means_of(ready.inputs, ready.job.plan)
    engine.rehearse(ready.job, pair_of(ready.inputs, means.cache, means.at_once))


def _remaining(url: str, overwrite: str | None) -> dict[str, Any] | None:
    """Return the plan that is there and stays; RefusedError if the output of plan `overwrite` is something else."""
    standing = journal.read_plan(url)
    # a plan that replaced this one is a run that goes on
    if overwrite is None or (standing is not None and standing["replaces"] == overwrite):
        return standing
    if standing is not None and standing["plan_id"] != overwrite:
        there = standing["plan_id"]
        message = f"{url} belongs to plan {there} and not to {overwrite}: the id of the plan there is accepted"
        raise RefusedError(message)
    check_removable(url, overwrite, None if standing is None else stored_layout(standing))
    journal.check_removable(url)
    return None


def _begun(url: str, overwrite: str | None) -> dict[str, Any] | None:
    """Return the plan that another start has made meanwhile, or None; RefusedError if something else is there."""
    try:
        if overwrite is None:
            check_vacant(url)
    except RefusedError:
        if (standing := journal.read_plan(url)) is None:
            raise
        return standing
    return None


def prepared(config: Config) -> Prepared:
    """Return a run that `prepare` was called for before; RefusedError if it was not."""
    if journal.read_plan(config.output.url) is None:
        message = f"{config.output.url} is not prepared: bigncc prepare with the same words, once before all parts"
        raise RefusedError(message)
    return prepare(config)


def run(config: Config | Mapping[str, Any], *, part: Part = (0, 1), progress: Progress = silent) -> Result:
    """Compute the correlation map of a config, or what is missing of it.

    Parameters
    ----------
    config : Config or mapping
        As in a YAML file.
    part : tuple of int
        ``(i, n)`` computes the i-th of n shares of the tiles, from 0, of an output that `prepare` was called for; then
        `finish` is called once for all.
    progress : callable, optional
        Called with the number of missing tiles, all pixels and the finished pixels; returns a context whose function
        is called with a `bigncc.progress.Step` for each tile.

    Returns
    -------
    Result

    Raises
    ------
    BignccError
        One sentence; its ``exit_code`` is that of the command line.
    """
    config = config if isinstance(config, Config) else words.load([config])
    ready = prepare(config) if part[1] == 1 else prepared(config)
    return complete(ready, part=part, progress=progress)


def complete(ready: Prepared, *, part: Part = (0, 1), steal: bool = False, progress: Progress = silent) -> Result:
    """Compute what is missing of a prepared run; `steal` from other parts after this one, otherwise as `run`."""
    job, inputs = ready.job, ready.inputs
    out, own = opened(job.url, plan_of(job.url)), share(job.plan.base, *part)
    # the plan's tiles stay; a smaller memory limit than the plan was made for may not hold them
    means = means_of(inputs, job.plan)
    alone = inputs.config.cluster.kind == "threads"
    threads = means.threads if alone else processors()  # of this process, for what it does itself
    look = journal.following(job.url, job.plan_id) if steal or not alone else set[int]
    stale = set(look())  # what has a row and is missing all the same is not what the row says
    there = engine.done(job, out, own, threads)
    # what failed before comes last, so that it keeps nothing else waiting
    quarantined = journal.quarantined(job.url)
    for index in quarantined.keys() & there:  # a kill came between
        journal.release(job.url, index)
    missing = sorted(set(own) - there, key=lambda index: (index in quarantined, index))
    stolen = 0
    if missing or steal:
        with dispatch.computing(job, inputs, out, means, stealing.seldom(look), stale) as compute:
            if missing:
                withdraw(job.url)
                pixels, before = (sum(map(job.plan.weight, those)) for those in (own, there))
                with progress(len(missing), pixels, before) as advance:
                    there.update(row.tile for row in compute(missing, advance=advance))
            if steal:
                stolen = sum(1 for batch in stealing.batches(look, job.plan.base, part) for _ in compute(batch))
                there |= journal.rows(job.url, job.plan_id, set(own) - there - stale).keys()
    if len(there) < len(own):
        raise IncompleteError(incomplete(job.url))
    if part[1] == 1:
        durable = inputs.config.engine.durable == "all"
        threshold = inputs.config.report.threshold
        how: dict[str, Any] = {"threads": threads, "durable": durable, "threshold": threshold}
        return finish(job.url, inputs.notes, progress=progress, **how)
    notes = (*inputs.notes, f"{stolen} tiles of other parts were computed") if stolen else inputs.notes
    sums = sums_of(journal.rows(job.url, job.plan_id, own).values())
    return Result(job.url, complete=False, summary=sums.summary, headline=ready.headline, notes=notes, shift=sums.shift)
