"""The verbs of a run: the only room that knows all the others.

``prepare`` decides everything once and writes it to plan.json; ``run`` computes the tiles that are missing and then
calls ``finish``; ``plan`` and ``status`` only look.
"""

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bigncc import config as words
from bigncc import engine, journal, kernel, tiles
from bigncc import report as drawing
from bigncc.config import Config
from bigncc.engine import Job
from bigncc.errors import DoesNotFitError, IncompleteError, InputError, RefusedError
from bigncc.inputs import Inputs, headline, open_inputs, pair_of, pivots, request_of, samples_of
from bigncc.output import Layout, check_vacant, create_output, open_output, update_attributes
from bigncc.pair import block_mean, from_storage, view, where_valid
from bigncc.report import Panel
from bigncc.storage import readable
from bigncc.store import explained
from bigncc.summary import STATUS, Summary, from_dict, merge
from bigncc.tiles import Plan, Shape

NANOSECONDS = 90
"""Time per output pixel and thread on the machine of the README's figures, for `plan`'s estimate."""

TILES = 16
"""Tiles that a run has at least, if there are that many objects: a stop costs little, and progress can be seen."""

PICTURE = 1000
"""Longest side of a report's picture, in pixels."""

Progress = Callable[[int, int, int], AbstractContextManager[Callable[[int], None] | None]]


def _silent(_tiles: int, _pixels: int, _done: int) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Result:
    """A finished run."""

    url: str
    complete: bool
    summary: Summary
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """What a run would take; nothing was computed."""

    shape: Shape
    tiles: int
    tile: Shape
    memory: int
    memory_limit: int
    threads: int
    disk: int
    objects: int
    decode_overhead: float
    tasks: int
    seconds: float
    notes: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        found = {
            "output": f"{' x '.join(map(str, self.shape))} pixels",
            "tiles": f"{self.tiles} of {' x '.join(map(str, self.tile))} pixels, {self.tasks} blocks each",
            "memory": f"{self.memory / 1e6:.0f} MB of {self.memory_limit / 1e6:.0f} MB, {self.threads} threads",
            "disk": f"{self.disk / 1e9:.3g} GB at most, in {self.objects} objects",
            "decoding": f"{self.decode_overhead:.2f} pixels of the reference for each pixel of the output",
            "time": f"about {self.seconds:.0f} s",
        }
        return found | {f"note {i}": note for i, note in enumerate(self.notes, 1)}


def machine_memory() -> int:
    """Return half of the bytes that this machine and its cgroup allow."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits) // 2


def plan(config: Config) -> Estimate:
    """Say what a run would take, without computing anything.

    Raises
    ------
    InputError, DoesNotFitError
        As `run` would.
    """
    inputs = open_inputs(config)
    threads = _threads(config)
    layout = _layout(inputs)
    grid = _tiles(inputs, layout, threads)
    pixels = math.prod(layout.shape)
    block = _block(inputs, grid, threads)
    if journal.read_plan(config.output.url) is None:
        check_vacant(config.output.url)
        _check_disk(layout, config.output.url)
    return Estimate(
        shape=layout.shape,
        tiles=len(grid),
        tile=grid.tile,
        memory=_held(inputs, grid) + threads * math.prod(block) * engine.SCRATCH,
        memory_limit=_memory(config),
        threads=threads,
        disk=_disk(layout),
        objects=2 * math.prod(-(-n // c) for n, c in zip(layout.shape, layout.chunks, strict=True)),
        decode_overhead=grid.decoded(inputs.reference.array.chunks) / pixels,
        tasks=math.prod(-(-n // b) for n, b in zip(grid.tile, block, strict=True)),
        seconds=pixels * NANOSECONDS * 1e-9 / threads,
        notes=inputs.notes,
    )


def prepare(config: Config) -> tuple[Job, Inputs]:
    """Decide everything about a run once: the plan that is there already holds, or this call makes it.

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
        standing = journal.settle_plan(url, _decide(inputs, request, samples))
    _check_request(url, standing, request)
    grid = Plan(**{name: tuple(value) for name, value in standing["tiles"].items()})
    create_output(url, _layout_of(standing), _attributes(standing, "in-progress"))
    job = Job(
        url,
        standing["plan_id"],
        grid,
        config.window.window(),
        inputs.transform,
        config.registration.order,
        tuple((a, b) for a, b in standing["pivots"]),
        inputs.channel_axis,
    )
    return job, inputs


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
    job, inputs = prepare(config)
    output = open_output(job.url)
    threads = _threads(config)
    # the plan's tiles stay; a smaller memory limit than the plan was made for may not hold them
    block = _block(inputs, job.plan, threads)
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
    return Result(job.url, complete=True, summary=summary)


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


def _decide(inputs: Inputs, request: dict[str, Any], samples: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the plan of a new run: what plan.json will say."""
    layout = _layout(inputs)
    grid = _tiles(inputs, layout, _threads(inputs.config))
    _check_disk(layout, inputs.config.output.url)
    settings = inputs.config.model_dump(mode="json", exclude={"engine"})
    for section in (settings["reference"], settings["moving"], settings["output"]):
        section["url"] = str(Path(section["url"]).absolute())
    decided = {
        "request_id": hashlib.sha256(journal.canonical(request)).hexdigest(),
        "kernel": kernel.VERSION,
        "pivots": pivots(inputs, samples),
        "tiles": asdict(grid),
    }
    return {
        "plan_id": hashlib.sha256(journal.canonical(decided)).hexdigest()[:32],
        **decided,
        "request": request,
        "layout": asdict(layout),
        "config": journal.plain(settings),
        "headline": headline(inputs.config),
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


def _layout(inputs: Inputs) -> Layout:
    reference, ndim = inputs.reference, inputs.config.window.window().ndim
    default = (1024, 1024) if ndim == 2 else (32, 256, 256)
    wanted = inputs.config.output.chunks or default
    if len(wanted) != ndim:
        message = f"output.chunks is {list(wanted)}: {ndim} numbers are accepted, as many as window.size has"
        raise InputError(message)
    batch = len(inputs.shape) - ndim
    chunks = (1,) * batch + tuple(min(n, c) for n, c in zip(inputs.shape[batch:], wanted, strict=True))
    shift = [o * s for o, s in zip(inputs.origin, reference.scale, strict=True)]
    translation = tuple(t + d for t, d in zip(reference.translation, shift, strict=True))
    return Layout(inputs.shape, chunks, reference.axes, reference.scale, translation, reference.units, "ncc")


def _layout_of(standing: dict[str, Any]) -> Layout:
    values: dict[str, Any] = standing["layout"]
    lists = {name: tuple(value) for name, value in values.items() if name != "name"}
    return Layout(**lists, name=values["name"])


def _attributes(standing: dict[str, Any], state: str) -> dict[str, Any]:
    names = ("plan_id", "config", "headline", "pivots", "versions", "kernel")
    decided = {name: standing[name] for name in names}
    return {"state": state, **decided, "registration": standing["request"]["registration"]}


def _tiles(inputs: Inputs, layout: Layout, threads: int) -> Plan:
    window = inputs.config.window.window()
    margin = (0,) * (len(layout.shape) - window.ndim) + window.radius
    samples = engine.largest_samples(
        _memory(inputs.config), _bytes_per_pixel(inputs), threads, math.prod(layout.chunks)
    )
    axis = inputs.channel_axis
    # a tile has one time and one channel, as the pivot belongs to the channel
    fixed = 0 if axis is None else axis + 1
    tile = tiles.largest_tile(
        layout.shape,
        layout.chunks,
        margin,
        _grain(inputs),
        samples=samples,
        pixels=engine.LARGEST,
        tiles=TILES,
        fixed=fixed,
    )
    return Plan(layout.shape, layout.chunks, tile, margin, inputs.origin, inputs.reference.array.shape)


def _grain(inputs: Inputs) -> Shape:
    """Return the larger chunk of both images along each axis."""
    return tuple(map(max, zip(inputs.reference.array.chunks, inputs.moving.array.chunks, strict=True)))


def _held(inputs: Inputs, grid: Plan) -> int:
    """Return the bytes of the process with a tile's inputs, before the first block is computed."""
    decoded = math.prod(tiles.aligned(grid.tile, grid.margin, _grain(inputs), grid.extent))
    return engine.RESERVED + decoded * _bytes_per_pixel(inputs)


def _block(inputs: Inputs, grid: Plan, threads: int) -> Shape:
    """Return the extent of the blocks inside a tile, as the memory allows.

    Raises
    ------
    DoesNotFitError
        If blocks of one object each do not fit.
    """
    memory, held = _memory(inputs.config), _held(inputs, grid)
    pixels = (memory - held) // (threads * engine.SCRATCH)
    if pixels < (least := math.prod(grid.objects)):
        needed = held + threads * least * engine.SCRATCH
        message = (
            f"engine.memory is {memory / 1e6:.0f} MB and the tiles of this run need {needed / 1e6:.0f} MB: "
            "that much, or fewer engine.threads, is accepted"
        )
        raise DoesNotFitError(message)
    return engine.inner_block(grid.tile, grid.objects, threads, min(pixels, engine.INNER))


def _bytes_per_pixel(inputs: Inputs) -> int:
    sections = (inputs.config.reference, inputs.config.moving)
    masked = any(section.mask is not None or section.nodata is not None for section in sections)
    dtypes = inputs.reference.array.dtype, inputs.moving.array.dtype
    return engine.bytes_per_pixel(*dtypes, pulled=inputs.transform is not None, masked=masked)


def _check_disk(layout: Layout, url: str) -> None:
    folder = Path(url).absolute()
    with explained(folder):
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        free = shutil.disk_usage(folder).free
    if _disk(layout) > free:
        message = f"{folder} has {free / 1e6:.1f} MB free: {_disk(layout) / 1e6:.1f} MB, what the output may take, fit"
        raise DoesNotFitError(message)


def _disk(layout: Layout) -> int:
    """Return the most bytes that the output can take: float32 and uint8 that do not compress."""
    return 5 * math.prod(layout.shape)


def _memory(config: Config) -> int:
    return config.engine.memory or machine_memory()


def _threads(config: Config) -> int:
    return config.engine.threads or len(os.sched_getaffinity(0))


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
        inputs = open_inputs(config)
        seen = view(pair_of(inputs), tiles.roi_shift(plane, inputs.origin), inputs.transform, config.registration.order)
        reference, moving = (mean(image) for image in seen)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    return Panel(output.attributes["headline"], reference, moving, mean(where_valid(**maps)), summary, factor)
