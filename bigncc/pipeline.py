"""The verbs of a run: the only room that knows all the others.

``prepare`` decides everything once and writes it to plan.json; ``run`` computes the tiles that are missing and then
calls ``finish``; ``plan`` and ``status`` only look.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import config as words
from bigncc import engine, journal, kernel, lazy, storage, tiles, transform
from bigncc import report as drawing
from bigncc.config import Config, MaskConfig
from bigncc.engine import Job
from bigncc.errors import DoesNotFitError, IncompleteError, InputError, RefusedError
from bigncc.lazy import Pair, Pivot
from bigncc.output import Layout, check_vacant, create_output, open_output, update_attributes
from bigncc.report import Panel, facts
from bigncc.storage import Image
from bigncc.summary import STATUS, Summary, from_dict, merge
from bigncc.tiles import Plan, Shape
from bigncc.transform import Displacement, Transform

NANOSECONDS = 30
"""Time per output pixel and thread on the machine of the README's figures, for `plan`'s estimate."""

PICTURE = 1000
"""Longest side of a report's picture, in pixels."""

Progress = Callable[[int, int, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Result:
    """A finished run."""

    url: str
    complete: bool
    summary: Summary


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
    read_overhead: float
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
            "reading": f"{self.read_overhead:.2f} pixels read for each written",
            "time": f"about {self.seconds:.0f} s",
        }
        return found | {f"note {i}": note for i, note in enumerate(self.notes, 1)}


@dataclass(frozen=True)
class Inputs:
    """Both images, opened and checked, and how they are to be correlated."""

    config: Config
    reference: Image
    moving: Image
    transform: Transform | None
    notes: tuple[str, ...]

    @property
    def origin(self) -> Shape:
        """Where the output begins on the reference's grid."""
        region = self.config.output.region
        batch = len(self.reference.axes) - self.config.window.window().ndim
        return (0,) * batch + tuple(a for a, _ in region) if region else (0,) * len(self.reference.axes)

    @property
    def shape(self) -> Shape:
        """Extent of the output."""
        region, extent = self.config.output.region, self.reference.array.shape
        return extent[: len(extent) - len(region)] + tuple(b - a for a, b in region) if region else extent

    @property
    def channel_axis(self) -> int | None:
        """The axis of channels, if they are a batch."""
        return self.reference.axes.index("c") if "c" in self.reference.axes else None


def machine_memory() -> int:
    """Return half of the bytes that this machine and its cgroup allow."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits) // 2


def open_inputs(config: Config) -> Inputs:
    """Open and check what a config names.

    Raises
    ------
    InputError
        If an image, a mask or a transform cannot be read or does not fit the rest.
    """
    window = config.window.window()
    reference = storage.open_image(
        config.reference.url, level=config.reference.level, channel=config.reference.channel
    )
    moving = storage.open_image(config.moving.url, level=config.moving.level, channel=config.moving.channel)
    given = _given_transform(config)
    notes = storage.check_pair(reference, moving, same_grid=given is None)
    for image in (reference, moving):
        spatial = image.axes[-window.ndim :]
        if not set(spatial) <= {"z", "y", "x"} or len(spatial) < window.ndim:
            message = (
                f"{image.url or 'the image'} has axes {', '.join(image.axes)}: "
                f"{'y, x' if window.ndim == 2 else 'z, y, x'} at the end are accepted with window.size={list(window.shape)}"
            )
            raise InputError(message)
    lazy.check_images(reference.array.shape, moving.array.shape, window, same_shape=given is None, named=True)
    kernel.common_dtype(reference.array.dtype, moving.array.dtype)
    if given is not None and given.ndim != window.ndim:
        message = f"the transform has {given.ndim} axes: {window.ndim} are accepted, as many as window.size has"
        raise InputError(message)
    _check_region(config, reference.array.shape, window.ndim)
    return Inputs(config, reference, moving, given, tuple(notes))


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
    read = sum(math.prod(tiles.roi_shape(grid[i].read)) for i in range(len(grid))) if len(grid) < 10**5 else pixels
    block = engine.inner_block(grid.tile, grid.objects, threads)
    largest = math.prod(tiles.roi_shape(grid[0].read))
    notes = list(inputs.notes)
    _check_disk(layout, config.output.url)
    return Estimate(
        shape=layout.shape,
        tiles=len(grid),
        tile=grid.tile,
        memory=engine.RESERVED + threads * math.prod(block) * engine.SCRATCH + largest * _bytes_per_pixel(inputs),
        memory_limit=_memory(config),
        threads=threads,
        disk=_disk(layout),
        objects=2 * math.prod(-(-n // c) for n, c in zip(layout.shape, layout.chunks, strict=True)),
        read_overhead=read / pixels,
        tasks=math.prod(-(-n // b) for n, b in zip(grid.tile, block, strict=True)),
        seconds=pixels * NANOSECONDS * 1e-9 / threads,
        notes=tuple(notes),
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
    samples = {name: _samples(image) for name, image in (("reference", inputs.reference), ("moving", inputs.moving))}
    request = _request(inputs, samples)
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


def run(config: Config | Mapping[str, Any], *, progress: Progress | None = None) -> Result:
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
    _check_memory(inputs, job.plan, threads)
    if progress is None:
        rows = list(engine.run_tiles(job, _pair(inputs), output, threads=threads))
    else:
        known = journal.heads(job.url, job.plan_id)
        done = sum(sum(counts) for counts in known.values())
        with progress(len(job.plan) - len(known), math.prod(job.plan.shape), done) as advance:
            rows = list(engine.run_tiles(job, _pair(inputs), output, threads=threads, advance=advance))
    return finish(job, rows)


def finish(job: Job, rows: list[journal.Row]) -> Result:
    """Record that every tile is done: in the output's attributes, then in COMPLETE.json."""
    summary = merge(row.summary for row in rows)
    standing = journal.read_plan(job.url)
    assert standing is not None  # prepare settled it
    root = journal.digest(journal.canonical([row.tile, row.digests]) for row in rows)
    proof = {"summary": summary.to_dict(), "digest": root, "tiles": len(rows)}
    update_attributes(job.url, {**_attributes(standing, "complete"), **proof})
    journal.write_complete(job.url, {"plan_id": job.plan_id, **proof})
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
    state = "complete" if complete and complete["plan_id"] == standing["plan_id"] else "in-progress"
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


def _given_transform(config: Config) -> Transform | None:
    chosen = config.registration
    if chosen.transform is not None:
        try:
            document = json.loads(Path(chosen.transform).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = f"registration.transform {chosen.transform!r} cannot be read ({error}): a JSON file is accepted"
            raise InputError(message) from None
        return transform.from_dict(document)
    if chosen.displacement is not None:
        field = storage.open_field(chosen.displacement.url, components=chosen.displacement.components)
        return Displacement(field, step=chosen.displacement.step, origin=chosen.displacement.origin)
    return None


def _check_region(config: Config, shape: Shape, ndim: int) -> None:
    region = config.output.region
    if region is None:
        return
    extent = shape[-ndim:]
    if len(region) != ndim or not all(0 <= a < b <= n for (a, b), n in zip(region, extent, strict=True)):
        text = ",".join(f"{a}:{b}" for a, b in region)
        message = f"output.region is {text}: {ndim} ranges inside of {list(extent)} are accepted"
        raise InputError(message)


def _samples(image: Image) -> NDArray[Any]:
    """Read the image on a lattice of five points per axis, all channels: for its pivot and to know it again."""
    shape = image.array.shape
    axes = [
        tuple(range(n)) if name == "c" else points
        for name, n, points in zip(image.axes, shape, kernel.lattice(shape), strict=True)
    ]
    found = np.empty(tuple(map(len, axes)), image.array.dtype)
    for cell in np.ndindex(found.shape):
        point = tuple(slice(axis[i], axis[i] + 1) for axis, i in zip(axes, cell, strict=True))
        found[cell] = image.array[point].item()
    return found


def _pivots(inputs: Inputs, samples: dict[str, NDArray[Any]]) -> list[Pivot]:
    """Return the pivots of each channel, or of the pair where channels are no batch."""
    axis = inputs.channel_axis
    first, second = samples["reference"], samples["moving"]
    if axis is None:
        return [(kernel.lattice_pivot(first), kernel.lattice_pivot(second))]
    return [
        (kernel.lattice_pivot(first.take(i, axis)), kernel.lattice_pivot(second.take(i, axis)))
        for i in range(first.shape[axis])
    ]


def _request(inputs: Inputs, samples: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the science of a request: equal requests have equal results, whatever the machine and the paths."""
    config = inputs.config
    chosen = config.registration
    how: Any = chosen.model
    if chosen.displacement is not None:
        assert isinstance(inputs.transform, Displacement)
        field = inputs.transform.field
        how = {"field": _digest(field), "step": list(inputs.transform.step), "origin": list(inputs.transform.origin)}
    elif inputs.transform is not None:
        how = transform.to_dict(inputs.transform)
    request = {
        "window": json.loads(json.dumps(asdict(config.window.window()))),
        "registration": {"transform": how, "order": chosen.order if inputs.transform is not None else None},
        "output": {"chunks": config.output.chunks, "region": config.output.region},
    }
    for name, image, section in (
        ("reference", inputs.reference, config.reference),
        ("moving", inputs.moving, config.moving),
    ):
        mask = section.mask
        request[name] = {
            "metadata": image.digest,
            "samples": hashlib.sha256(samples[name].tobytes()).hexdigest(),
            "nodata": section.nodata,
            "mask": None if mask is None else [_digest(storage.open_image(mask.url).array), mask.valid, mask.invalid],
        }
    return json.loads(json.dumps(request))  # type: ignore[no-any-return]


def _digest(array: Any) -> str:
    """Return a digest of an array's shape, dtype and values."""
    head = f"{array.shape} {np.dtype(array.dtype).str}".encode()
    rows = max(1, 2**22 // max(1, math.prod(array.shape[2:])))
    slabs = product(range(array.shape[0]), range(0, array.shape[1], rows))
    rest = tuple(slice(0, n) for n in array.shape[2:])
    parts = (np.ascontiguousarray(array[(slice(i, i + 1), slice(j, j + rows), *rest)]).tobytes() for i, j in slabs)
    return journal.digest(part for group in ([head], parts) for part in group)


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
        "pivots": _pivots(inputs, samples),
        "tiles": asdict(grid),
    }
    return {
        "plan_id": hashlib.sha256(journal.canonical(decided)).hexdigest()[:32],
        **decided,
        "request": request,
        "layout": asdict(layout),
        "config": settings,
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
    values = standing["layout"]
    return Layout(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _attributes(standing: dict[str, Any], state: str) -> dict[str, Any]:
    names = ("plan_id", "config", "pivots", "versions", "kernel")
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
    tile = tiles.largest_tile(layout.shape, layout.chunks, margin, samples=samples, tiles=16, fixed=fixed)
    return Plan(layout.shape, layout.chunks, tile, margin, inputs.origin, inputs.reference.array.shape)


def _bytes_per_pixel(inputs: Inputs) -> int:
    sections = (inputs.config.reference, inputs.config.moving)
    masked = any(section.mask is not None or section.nodata is not None for section in sections)
    dtypes = inputs.reference.array.dtype, inputs.moving.array.dtype
    return engine.bytes_per_pixel(*dtypes, pulled=inputs.transform is not None, masked=masked)


def _check_memory(inputs: Inputs, grid: Plan, threads: int) -> None:
    needed = engine.RESERVED + threads * math.prod(grid.objects) * engine.SCRATCH
    needed += math.prod(tiles.roi_shape(grid[0].read)) * _bytes_per_pixel(inputs)
    if needed > _memory(inputs.config):
        message = (
            f"engine.memory is {_memory(inputs.config) / 1e6:.0f} MB and the tiles of this run need "
            f"{needed / 1e6:.0f} MB: that much, or fewer engine.threads, is accepted"
        )
        raise DoesNotFitError(message)


def _check_disk(layout: Layout, url: str) -> None:
    folder = Path(url).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if _disk(layout) > free:
        message = f"{folder} has {free / 1e9:.1f} GB free and the output may take {_disk(layout) / 1e9:.1f} GB"
        raise DoesNotFitError(message)


def _disk(layout: Layout) -> int:
    """Return the most bytes that the output can take: float32 and uint8 that do not compress."""
    return 5 * math.prod(layout.shape)


def _memory(config: Config) -> int:
    return config.engine.memory or machine_memory()


def _threads(config: Config) -> int:
    return config.engine.threads or len(os.sched_getaffinity(0))


def _pair(inputs: Inputs) -> Pair:
    """Return the whole images lazily, with the validity that masks and nodata give."""
    ndim = inputs.config.window.window().ndim
    images = [lazy.from_storage(image.array) for image in (inputs.reference, inputs.moving)]
    flags = [
        lazy.validity(image, _mask(section.mask), section.nodata, ndim)
        for image, section in zip(images, (inputs.config.reference, inputs.config.moving), strict=True)
    ]
    return Pair(*images, *flags)


def _mask(mask: MaskConfig | None) -> Any:
    if mask is None:
        return None
    array = lazy.from_storage(storage.open_image(mask.url).array)
    if mask.invalid is not None:
        return ~lazy.among(array, mask.invalid)
    return array != 0 if mask.valid is None else lazy.among(array, mask.valid)


def headline(config: Config) -> str:
    """Say in one line what is done with the moving image."""
    chosen = config.registration
    if chosen.displacement is not None:
        return f"moving image pulled through the displacement field {Path(chosen.displacement.url).name}"
    given = _given_transform(config)
    if given is None:
        return "moving image correlated as it is stored, unregistered"
    if isinstance(given, Displacement):
        return f"moving image pulled through the displacement field in {Path(chosen.transform or '').name}"
    names = ("z", "y", "x")[-given.ndim :]
    shift = ", ".join(f"{name} {value:+g}" for name, value in zip(names, given.offset, strict=True))
    return f"moving image shifted by {shift} pixels"


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
    start = tuple(n // 2 if name == "z" else 0 for name, n in zip(output.layout.axes[:-2], shape, strict=False)) + (0, 0)
    extent = (1,) * (len(shape) - 2) + shape[-2:]
    plane = tiles.roi_of(start, extent)
    factor = -(-max(shape[-2:]) // PICTURE)
    factors = (1,) * (len(shape) - 2) + (factor, factor)

    def mean(array: Any) -> NDArray[Any]:
        return lazy.block_mean(array, factors).reshape(-(-shape[-2] // factor), -(-shape[-1] // factor))

    maps = {name: lazy.from_storage(array)[plane] for name, array in output.maps.items()}
    try:
        inputs = open_inputs(config)
        seen = lazy.view(
            _pair(inputs), tiles.roi_shift(plane, inputs.origin), inputs.transform, config.registration.order
        )
        reference, moving = (mean(image) for image in seen)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    return Panel(headline(config), reference, moving, mean(lazy.where_valid(**maps)), summary, factor)
