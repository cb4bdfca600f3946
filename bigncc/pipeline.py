"""The verbs of a run: the only room that knows all the others.

``prepare`` decides everything once and writes it to plan.json; ``run`` computes the tiles that are missing and then
calls ``finish``; ``plan`` and ``status`` only look.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bigncc import config as words
from bigncc import engine, journal, kernel, store, tiles
from bigncc import report as drawing
from bigncc.budget import Estimate, block_of, check_disk, disk, held, layout_of, memory_of, threads_of, tiles_of
from bigncc.config import Config
from bigncc.engine import Job
from bigncc.errors import IncompleteError, InputError, RefusedError
from bigncc.inputs import Inputs, headline, open_inputs, pair_of, pivots, registered, request_of, samples_of
from bigncc.output import Layout, check_vacant, create_output, open_output, update_attributes
from bigncc.pair import block_mean, from_storage, view, where_valid
from bigncc.registration import Registration, registration_from_dict
from bigncc.report import Panel
from bigncc.storage import readable
from bigncc.summary import STATUS, Summary, from_dict, merge
from bigncc.tiles import Plan

NANOSECONDS = 90
"""Time per output pixel and thread on the machine of the README's figures, for `plan`'s estimate."""

_SHIFT = "measuring the shift of the moving image"

PICTURE = 1000
"""Longest side of a report's picture, in pixels."""

Progress = Callable[[int, int, int], AbstractContextManager[Callable[[int], None] | None]]


Waiting = Callable[[str], AbstractContextManager[None]]


def _unsaid(_what: str) -> AbstractContextManager[None]:
    return nullcontext()


def _silent(_tiles: int, _pixels: int, _done: int) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Prepared:
    """A run of which everything is decided and nothing needs to be computed yet."""

    job: Job
    inputs: Inputs
    headline: str


@dataclass(frozen=True)
class Result:
    """A finished run: where its map is, the statistics of all pixels, and what was done with the moving image."""

    url: str
    complete: bool
    summary: Summary
    headline: str
    notes: tuple[str, ...] = ()


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
    pixels = math.prod(layout.shape)
    block = block_of(inputs, grid, threads)
    if journal.read_plan(config.output.url) is None:
        check_vacant(config.output.url)
        check_disk(layout, config.output.url)
    return Estimate(
        shape=layout.shape,
        tiles=len(grid),
        tile=grid.tile,
        memory=held(inputs, grid) + threads * math.prod(block) * engine.SCRATCH,
        memory_limit=memory_of(config),
        threads=threads,
        disk=disk(layout),
        objects=2 * math.prod(-(-n // c) for n, c in zip(layout.shape, layout.chunks, strict=True)),
        decode_overhead=grid.decoded(inputs.reference.array.chunks) / pixels,
        tasks=math.prod(-(-n // b) for n, b in zip(grid.tile, block, strict=True)),
        seconds=pixels * NANOSECONDS * 1e-9 / threads,
        notes=inputs.notes,
        headline=headline(inputs),
    )


def register(config: Config, output: str | None = None, *, waiting: Waiting = _unsaid) -> Registration:
    """Estimate the translation of a config's pair, and write it to `output` as JSON if that is given.

    Parameters
    ----------
    config : Config
        Its ``registration.model`` is translation.
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
    if config.registration.model != "translation":
        message = "registration says how the images are registered: registration.model=translation is accepted"
        raise InputError(message)
    if output is not None and Path(output).exists():
        message = f"{output} exists: a path that does not is accepted"
        raise RefusedError(message)
    inputs = open_inputs(config)
    with waiting(_SHIFT):
        found = registered(inputs, threads_of(config)).registration
    assert found is not None  # or it would have raised
    if output is not None:
        text = json.dumps(found.to_dict()["transform"], indent=1)
        if not store.put_if_absent(Path(output), f"{text}\n".encode()):
            message = f"{output} was made meanwhile: a path that does not exist is accepted"
            raise RefusedError(message)
    return found


def prepare(config: Config, *, waiting: Waiting = _unsaid) -> Prepared:
    """Decide everything about a run once: the plan that is there already holds, or this call makes it.

    The shift of the moving image is estimated by the call that makes the plan and never again; `waiting` as for
    `register`.

    Raises
    ------
    InputError, DoesNotFitError
        If the inputs or the machine do not allow the run.
    RefusedError
        If the output belongs to another request, or is not ours.
    """
    inputs = open_inputs(config)
    url = str(Path(config.output.url).absolute())
    samples = {name: samples_of(image) for name, image in (("reference", inputs.reference), ("moving", inputs.moving))}
    request = request_of(inputs, samples)
    standing = journal.read_plan(url)
    if standing is None:
        check_vacant(url)
        standing = journal.settle_plan(url, _decide(inputs, request, samples, waiting))
    _check_request(url, standing, request)
    inputs = _recalled(inputs, standing["registration"])
    grid = Plan(**{name: tuple(value) for name, value in standing["tiles"].items()})
    create_output(url, _stored_layout(standing), _attributes(standing, "in-progress"))
    job = Job(
        url,
        standing["plan_id"],
        grid,
        config.window.window(),
        inputs.transform,
        config.registration.order,
        tuple((kernel.Pivot(*a), kernel.Pivot(*b)) for a, b in standing["pivots"]),
        inputs.channel_axis,
    )
    return Prepared(job, inputs, standing["headline"])


def run(config: Config | Mapping[str, Any], *, progress: Progress = _silent) -> Result:
    """Compute the correlation map of a config, or what is missing of it.

    Parameters
    ----------
    config : Config or mapping
        As in a YAML file.
    progress : callable, optional
        Called with the number of missing tiles, all pixels and the finished pixels; returns a context whose function
        is called with the pixels of each tile.

    Returns
    -------
    Result

    Raises
    ------
    BignccError
        One sentence; its ``exit_code`` is that of the command line.
    """
    config = config if isinstance(config, Config) else words.load([config])
    return complete(prepare(config), progress=progress)


def complete(prepared: Prepared, *, progress: Progress = _silent) -> Result:
    """Compute what is missing of a prepared run; arguments and errors as `run`."""
    job, inputs = prepared.job, prepared.inputs
    output = open_output(job.url)
    threads = threads_of(inputs.config)
    # the plan's tiles stay; a smaller memory limit than the plan was made for may not hold them
    block = block_of(inputs, job.plan, threads)
    rows = engine.done(job, output)
    missing = [index for index in range(len(job.plan)) if index not in rows]
    if missing:
        there = sum(row.summary.pixels for row in rows.values())
        pair = pair_of(inputs)
        with progress(len(missing), math.prod(job.plan.shape), there) as advance:
            computed = engine.run_tiles(job, pair, output, missing, block=block, threads=threads, advance=advance)
            rows |= {row.tile: row for row in computed}
    return replace(finish(job, [rows[index] for index in sorted(rows)]), notes=inputs.notes)


def finish(job: Job, rows: list[journal.Row]) -> Result:
    """Record that every tile is done: in the output's attributes, then in COMPLETE.json; once is enough."""
    summary = merge(row.summary for row in rows)
    standing = journal.read_plan(job.url)
    assert standing is not None  # prepare settled it
    root = journal.digest(journal.canonical([row.tile, row.digests]) for row in rows)
    proof = {"plan_id": job.plan_id, "summary": summary.to_dict(), "digest": root, "tiles": len(rows)}
    if journal.read_complete(job.url) != proof or open_output(job.url).attributes["state"] != "complete":
        update_attributes(job.url, {**_attributes(standing, "complete"), **proof})
        journal.write_complete(job.url, proof)
    return Result(job.url, complete=True, summary=summary, headline=standing["headline"])


def status(url: str) -> dict[str, Any]:
    """Say how far a run is; works while it goes on.

    Returns
    -------
    dict
        ``url``, ``state``, ``plan_id``, ``tiles`` and ``pixels`` with ``done`` and ``total``, ``status`` counts.
    """
    url = str(Path(url).absolute())
    standing = journal.read_plan(url)
    if standing is None:
        attributes = open_output(url).attributes
        counts = attributes.get("summary", {}).get("counts", [0] * len(STATUS))
        total = attributes.get("tiles", 0)
        return _status(url, attributes["state"], attributes["plan_id"], (total, total), tuple(counts), sum(counts))
    grid = Plan(**{name: tuple(value) for name, value in standing["tiles"].items()})
    heads = journal.heads(url, standing["plan_id"])
    complete = journal.read_complete(url)
    # a journal whose output is gone proves nothing
    whole = complete is not None and complete["plan_id"] == standing["plan_id"] and Path(url).exists()
    state = "complete" if whole else "in-progress"
    counts = journal.merged_counts(heads.values())
    return _status(url, state, standing["plan_id"], (len(heads), len(grid)), counts, math.prod(grid.shape))


def _status(
    url: str, state: str, plan_id: str, done: tuple[int, int], counts: tuple[int, ...], pixels: int
) -> dict[str, Any]:
    return {
        "url": url,
        "state": state,
        "plan_id": plan_id,
        "tiles": {"done": done[0], "total": done[1]},
        "pixels": {"done": sum(counts), "total": pixels},
        "status": {name: n for name, n in zip(STATUS, counts, strict=True) if n},
    }


def _decide(
    inputs: Inputs, request: dict[str, Any], samples: dict[str, NDArray[Any]], waiting: Waiting
) -> dict[str, Any]:
    """Return the plan of a new run: what plan.json will say."""
    layout = layout_of(inputs)
    grid = tiles_of(inputs, layout, threads_of(inputs.config))
    check_disk(layout, inputs.config.output.url)
    with waiting(_SHIFT):
        inputs = registered(inputs, threads_of(inputs.config))
    settings = inputs.config.model_dump(mode="json", exclude={"engine"})
    settings["output"]["url"] = str(Path(settings["output"]["url"]).absolute())
    for name, image in (("reference", inputs.reference), ("moving", inputs.moving)):
        settings[name]["url"] = image.url or settings[name]["url"]
    applied = _applied(inputs, request)
    decided = {
        "request_id": hashlib.sha256(journal.canonical(request)).hexdigest(),
        "kernel": kernel.VERSION,
        "pivots": pivots(inputs, samples),
        "tiles": asdict(grid),
    }
    return {
        "plan_id": hashlib.sha256(journal.canonical({**decided, "transform": applied})).hexdigest()[:32],
        **decided,
        "request": request,
        "layout": asdict(layout),
        "config": journal.plain(settings),
        "headline": headline(inputs),
        "registration": {
            "transform": applied,
            "order": request["registration"]["order"],
            "estimate": None if inputs.registration is None else inputs.registration.to_dict(),
            "unknown": inputs.unknown,
        },
        "versions": {name: version(name) for name in ("bigncc", "numpy", "numba", "zarr", "dask")},
    }


def _check_request(url: str, standing: dict[str, Any], request: dict[str, Any]) -> None:
    there, asked = dict(_flat(standing["request"])), dict(_flat(request))
    differ = sorted(key for key in there.keys() | asked.keys() if there.get(key) != asked.get(key))
    if differ:
        said = "; ".join(f"{key} is {there.get(key)!r} there, {asked.get(key)!r} asked" for key in differ)
        message = f"{url} is the output of another request ({said}): the same request or another output is accepted"
        raise RefusedError(message)
    if standing["kernel"] != kernel.VERSION:
        message = (
            f"{url} was begun with kernel version {standing['kernel']}, this is version {kernel.VERSION}: "
            "another output, or the bigncc that began it, is accepted"
        )
        raise RefusedError(message)


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _stored_layout(standing: dict[str, Any]) -> Layout:
    values: dict[str, Any] = standing["layout"]
    lists = {name: tuple(value) for name, value in values.items() if name != "name"}
    return Layout(**lists, name=values["name"])


def _attributes(standing: dict[str, Any], state: str) -> dict[str, Any]:
    names = ("plan_id", "config", "headline", "registration", "pivots", "versions", "kernel")
    return {"state": state, **{name: standing[name] for name in names}}


def _applied(inputs: Inputs, request: dict[str, Any]) -> Any:
    """Return the transform that is applied, as JSON has it: a given one is in the request."""
    if inputs.config.registration.model != "translation":
        return request["registration"]["transform"]
    assert inputs.registration is not None  # or it would have raised
    return inputs.registration.to_dict()["transform"]


def _recalled(inputs: Inputs, registration: dict[str, Any]) -> Inputs:
    """Return the inputs with what was estimated when the plan was made."""
    found = registration["estimate"]
    recalled = None if found is None else registration_from_dict(found)
    return replace(inputs, registration=recalled, unknown=registration["unknown"])


def report(url: str) -> Path:
    """Draw the result at `url` and return the picture's path, beside it."""
    path = Path(url).absolute()
    picture = path.with_name(f"{path.name.removesuffix('.zarr').removesuffix('.ome')}.png")
    drawing.draw([panel(url)], picture)
    return picture


def panel(url: str) -> Panel:
    """Return a complete result at the size of a picture, by streamed block means.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    output = open_output(url)
    if output.attributes["state"] != "complete":
        found = status(url)["tiles"]
        message = f"{url} has {found['done']} of {found['total']} tiles: run the same command again to complete it"
        raise IncompleteError(message)
    config = Config.model_validate({**output.attributes["config"], "engine": {}})
    shape = output.maps["ncc"].shape
    # of an image with more than two axes: the first time and channel, the middle plane
    start = (
        *tuple(n // 2 if name == "z" else 0 for name, n in zip(output.layout.axes[:-2], shape, strict=False)),
        0,
        0,
    )
    extent = (1,) * (len(shape) - 2) + shape[-2:]
    plane = tiles.roi_of(start, extent)
    factor = -(-max(shape[-2:]) // PICTURE)
    factors = (1,) * (len(shape) - 2) + (factor, factor)

    def mean(array: Any) -> NDArray[Any]:
        return block_mean(array, factors).reshape(-(-shape[-2] // factor), -(-shape[-1] // factor))

    maps = {name: from_storage(readable(array))[plane] for name, array in output.maps.items()}
    try:
        inputs = _recalled(open_inputs(config), output.attributes["registration"])
        seen = view(pair_of(inputs), tiles.roi_shift(plane, inputs.origin), inputs.transform, config.registration.order)
        reference, moving = (mean(image) for image in seen)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    return Panel(output.attributes["headline"], reference, moving, mean(where_valid(**maps)), summary, factor)
