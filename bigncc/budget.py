"""What a run takes: tiles, blocks, memory, disk; and the refusal, with its numbers, of what does not fit."""

import errno
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bigncc import engine, search, shift, sites, stack, tiles
from bigncc.config import Config, OutputConfig
from bigncc.errors import DoesNotFitError, InputError
from bigncc.inputs import Inputs
from bigncc.layout import Layout
from bigncc.nodes import Nodes
from bigncc.reading import CELL, cell_of
from bigncc.store import explained, is_local
from bigncc.tiles import Plan, Shape

BEGINNING = 200 * 10**6
"""Bytes of the process before it has compiled anything, which is when a shift is measured (measured 190 MB)."""

SPECTRA = 64
"""Bytes per sample of the spectra that two images are compared by, zero-padded to twice their extent (measured 50)."""

CHUNKS = {2: ((1024, 4096),) * 2, 3: ((32, 64), (256, 512), (256, 512))}
"""Extent of a chunk along the windowed axes, and the most pixels of the output that one of any level covers."""

TILES = 16
"""Tiles that a run has at least, if there are that many objects: a stop costs little, and progress can be seen."""

PROCESS = 2 * 10**9
"""Bytes of the machine for each process, as long as nothing else is said: fewer of them have larger tiles."""

EACH = 8
"""Tiles for each process or job that computes, if there are that many objects: in the end none waits long."""


@dataclass(frozen=True)
class Estimate:
    """What a run would take; nothing was computed."""

    shape: Shape
    tiles: int
    coarser: int
    nodes: int
    tile: Shape
    memory: int
    memory_limit: int
    threads: int
    workers: int
    disk: int
    alternatives: tuple[int, ...]
    objects: int
    decode_overhead: dict[str, float]
    tasks: int
    seconds: float
    notes: tuple[str, ...]
    headline: str

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        coarser = f", and {self.coarser} for coarser levels" if self.coarser else ""
        further = f", and {self.nodes} for the shift map" if self.nodes else ""
        each = f", in each of {self.workers} processes" if self.workers > 1 else ""
        levels = (f"{n / 1e9:.2g} GB with output.finest_level={k}" for k, n in enumerate(self.alternatives))
        found = {
            "output": f"{' x '.join(map(str, self.shape))} pixels",
            "tiles": f"{self.tiles} of {' x '.join(map(str, self.tile))} pixels, {self.tasks} blocks each"
            f"{further}{coarser}",
            "memory": f"{self.memory / 1e6:.0f} MB of {self.memory_limit / 1e6:.0f} MB, {self.threads} threads{each}",
            "disk": f"{self.disk / 1e9:.3g} GB at most, in {self.objects} objects",
            **({"levels": ", ".join(levels)} if len(self.alternatives) > 1 else {}),
            "decoding": f"{_each(self.decode_overhead)} for each pixel of the output",
            "time": f"about {self.seconds:.0f} s",
        }
        return found | {f"note {i}": note for i, note in enumerate(self.notes, 1)}


def _each(overhead: dict[str, float]) -> str:
    return " and ".join(f"{pixels:.2f} pixels of the {image}" for image, pixels in overhead.items())


def workers_of(config: Config) -> int:
    """Return the processes that compute: those that a config asks for, or as many as this machine holds."""
    chosen, asked = config.cluster, config.engine
    if chosen.kind == "processes" and not (chosen.workers or chosen.adapt):
        return max(1, min(processors() // (asked.threads or 1), 2 * machine_memory() // (asked.memory or PROCESS)))
    return chosen.most


def threads_of(config: Config) -> int:
    """Return the threads of a process that a config asks for, or its share of the processors."""
    return config.engine.threads or max(1, processors() // _here(config))


def memory_of(config: Config) -> int:
    """Return the bytes that a config allows to a process, or its share of the machine's."""
    return config.engine.memory or machine_memory() // _here(config)


def _here(config: Config) -> int:
    """Return the processes that share this machine."""
    return workers_of(config) if config.cluster.kind == "processes" else 1


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine_memory() -> int:
    """Return half of the bytes that this machine and its cgroup allow."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits) // 2


def layout_of(inputs: Inputs) -> Layout:
    """Return what the output looks like on disk."""
    reference, asked, ndim = inputs.reference, inputs.config.output, inputs.config.window.window().ndim
    # smaller where only coarser levels are stored: a tile of ordinary size is a whole object of the finest of them
    default = tuple(max(1, min(n, m >> asked.finest_level)) for n, m in CHUNKS[ndim])
    wanted, shards = asked.chunks or default, asked.shards
    for name, sizes in (("chunks", wanted), ("shards", shards)):
        if sizes is not None and len(sizes) != ndim:
            message = f"output.{name} is {list(sizes)}: {ndim} numbers are accepted, as many as window.size has"
            raise InputError(message)
    if shards is not None and asked.ome_version == "0.4":
        message = f"output.shards is {list(shards)} and OME-Zarr 0.4 has none: output.shards=null, or "
        message += "output.ome_version=0.5, is accepted"
        raise InputError(message)
    batch = len(inputs.shape) - ndim
    if shards is None:
        wanted = tuple(min(n, c) for n, c in zip(inputs.shape[batch:], wanted, strict=True))
    elif any(s % c for s, c in zip(shards, wanted, strict=True)):
        message = f"output.shards is {list(shards)} with chunks of {list(wanted)}: multiples of these are accepted"
        raise InputError(message)
    one = (1,) * batch
    shift = [o * s for o, s in zip(inputs.origin, reference.scale, strict=True)]
    translation = tuple(t + d for t, d in zip(reference.translation, shift, strict=True))
    grid = reference.axes, reference.scale, translation, reference.units
    levels = _levels(inputs.shape[batch:], wanted, asked)
    kept = None if shards is None else one + shards
    labels = () if inputs.stack is None else inputs.stack.labels
    step, reach = inputs.search
    # an object of nodes covers about as many pixels as one of the finest level
    extents = zip((n << asked.finest_level for n in shards or wanted), step, strict=False)
    nodes = tuple(max(1, n // s) for n, s in extents)
    return Layout(
        inputs.shape, one + wanted, *grid, "ncc", kept, ndim, levels, asked.ome_version, labels,
        maps=inputs.config.maps, step=step, nodes=nodes, reach=reach,
    )  # fmt: skip


def _levels(shape: Shape, chunks: Shape, asked: OutputConfig) -> Shape:
    """Return the levels to be stored: down to the first that is a single chunk, or the finest one alone."""
    finest, most = asked.finest_level, (max(shape) - 1).bit_length()
    if finest > most:
        message = f"output.finest_level is {finest} and level {most} of {list(shape)} pixels is a single one: "
        message += f"0 to {most} are accepted"
        raise InputError(message)
    last = finest
    while asked.pyramid and any(-(-n // 2**last) > c for n, c in zip(shape, chunks, strict=True)):
        last += 1
    return tuple(range(finest, last + 1))


def tiles_of(inputs: Inputs, layout: Layout, threads: int) -> Plan:
    """Return the tiles of a new run; DoesNotFitError, with what would fit, if a single object does not."""
    finest, halved = layout.levels[0], layout.halved
    window = inputs.config.window.window()
    margin = (0,) * (len(layout.shape) - window.ndim) + window.radius
    axis, grain = inputs.channel_axis, _grain(inputs)
    jobs = max(inputs.config.cluster.array.jobs or 0, workers_of(inputs.config))
    # more or less, as long as there are no tiles
    kept = memory_of(inputs.config) // 2 // inputs.reference.array.dtype.itemsize

    # of what an object holds, if it holds several of them
    chunks = () if layout.shards is None or finest else layout.chunks

    def _pixels(objects: Shape) -> int:
        return math.prod(tiles.unit_of(objects, finest, halved, chunks))

    def largest(objects: Shape, threads: int) -> Shape:
        memory, per_pixel = memory_of(inputs.config), _bytes_per_pixel(inputs) + _sample(inputs)
        return tiles.largest_tile(
            layout.shape,
            objects,
            margin,
            grain,
            samples=engine.largest_samples(memory, per_pixel, threads, _pixels(objects), _most(inputs)),
            pixels=engine.LARGEST,
            tiles=max(TILES, EACH * jobs),
            # a tile has one time and one channel, as the pivot belongs to the channel
            fixed=0 if axis is None else axis + 1,
            steps=() if inputs.stack is None else stack.steps(inputs.stack, objects, layout.shape, grain, jobs, kept),
        )

    objects = _grown(layout.at(finest).objects, finest, halved)
    try:
        tile = largest(objects, threads)
    except DoesNotFitError as error:
        samples = math.prod(tiles.aligned(objects, margin, grain, layout.shape))
        blocks = threads * _pixels(objects) * _most(inputs)
        needed = engine.RESERVED + blocks + samples * (_bytes_per_pixel(inputs) + _sample(inputs))
        each = layout.at(finest).objects
        other = _what_fits(lambda o, n: largest(_grown(o, finest, halved), n), each, threads, window.ndim)
        message = f"{error} (engine.memory={-(-needed // 10**6)}MB fits, {other})"
        raise DoesNotFitError(message) from None
    tile = _even(tile, layout)
    plan = Plan(layout.shape, objects, tile, margin, inputs.origin, inputs.reference.array.shape, chunks=chunks)
    plan = replace(plan, nodes=_nodes_of(layout, tile, margin))
    pixels = min(engine.LARGEST, (memory_of(inputs.config) - engine.RESERVED) // engine.COARSENING)
    return tiles.with_pyramid(plan, layout.coarser, halved, layout.levels, pixels)


def _nodes_of(layout: Layout, tile: Shape, margin: Shape) -> Nodes | None:
    """Return the grid of nodes of a shift map, in tiles of no more pixels than the others, if one object is no more."""
    if not layout.step:
        return None
    batch = len(layout.shape) - len(layout.step)
    grid, step = layout.node_grid, (1,) * batch + layout.step
    axes = zip(tile, grid.chunks, step, strict=True)
    around = tuple(m + r for m, r in zip(margin, (0,) * batch + layout.reach, strict=True))
    return Nodes(grid.shape, step, grid.chunks, tuple(max(1, t // (c * s)) * c for t, c, s in axes), around)


def _grown(objects: Shape, level: int, halved: int) -> Shape:
    """Return the extent of a level's objects in pixels of the output."""
    fixed = len(objects) - halved
    return tuple(o << level if i >= fixed else o for i, o in enumerate(objects))


def _even(tile: Shape, layout: Layout) -> Shape:
    """Return a tile of at least half the size that is whole objects of more levels, if there is one."""
    for level in reversed(layout.levels[1:]):
        objects = _grown(layout.coarser, level, layout.halved)
        axes = zip(tile, objects, layout.shape, strict=True)
        whole = tuple(t if t >= n else t // o * o for t, o, n in axes)
        if 2 * math.prod(whole) >= math.prod(tile):
            return whole
    return tile


def _what_fits(largest: Callable[[Shape, int], Shape], objects: Shape, threads: int, ndim: int) -> str:
    """Say which smaller objects, or how many threads, would fit."""
    while True:
        for fewer in range(threads, 0, -1):
            try:
                largest(objects, fewer)
            except DoesNotFitError:
                continue
            return f"or output.chunks={list(objects[-ndim:])} with engine.threads={fewer}"
        if math.prod(objects) == 1:
            return "and nothing smaller"
        longest = max(range(len(objects)), key=lambda i: objects[i])
        objects = tuple(-(-n // 2) if i == longest else n for i, n in enumerate(objects))


def measuring(inputs: Inputs, threads: int) -> tuple[int, int]:
    """Return on how many of `threads` sites are looked at, and the bytes that it takes; 0 of both if none is.

    Raises
    ------
    DoesNotFitError
        If it does not fit on one.
    """
    chosen, ndim, memory = inputs.config.registration, inputs.ndim, memory_of(inputs.config)
    if not inputs.measured:
        return 0, 0
    shapes = inputs.reference.array.shape[-ndim:], inputs.moving.array.shape[-ndim:]
    spectra = 0 if not chosen.estimated else search.searched(*shapes) * SPECTRA
    side = (sites.SITE[ndim],) * ndim
    decoded = math.prod(tiles.aligned(side, (0,) * ndim, _grain(inputs)[-ndim:], shapes[0]))
    each = SPECTRA * math.prod(2 * n for n in side) + 2 * decoded * (_bytes_per_pixel(inputs) + _sample(inputs))
    least = BEGINNING + (stack.KEPT if inputs.stack is not None else 0)
    fitting = max(1, min(threads, (memory - least) // each))
    needed = least + max(spectra, fitting * each)
    if needed > memory:
        message = (
            f"engine.memory is {memory / 1e6:.0f} MB and measuring the shift takes {needed / 1e6:.0f} MB: "
            "that much, or a transform (registration.transform=FILE), is accepted"
        )
        raise DoesNotFitError(message)
    return fitting, needed


def means_of(inputs: Inputs, grid: Plan) -> engine.Means:
    """Return how this process computes the tiles of a plan, as its memory allows.

    Raises
    ------
    DoesNotFitError
        If blocks of one object each do not fit.
    """
    memory, threads = memory_of(inputs.config), threads_of(inputs.config)
    least = _fitting(inputs, grid, memory)
    if (needed := taken(inputs, grid, least)) > memory:
        message = (
            f"engine.memory is {memory / 1e6:.0f} MB and the tiles of this run need {needed / 1e6:.0f} MB: "
            "that much, or fewer engine.threads, is accepted"
        )
        raise DoesNotFitError(message)
    two = replace(least, flights=2)
    means = two if taken(inputs, grid, two) <= memory else least
    pixels = (memory - taken(inputs, grid, replace(means, block=(0,)))) // (threads * _scratch(inputs, means))
    tile = grid.tile if inputs.stack is None else stack.alike(inputs.stack, grid.tile, registered=inputs.measured)
    block = engine.inner_block(tile, grid.unit, -(-4 * threads // means.flights), min(pixels, engine.INNER))
    means = replace(means, block=block)
    images = (inputs.reference.array, inputs.moving.array)
    stored = sum(math.prod(image.shape) * image.dtype.itemsize for image in images)
    return replace(means, cache=min(stored, means.cache + memory - taken(inputs, grid, means)))


def least_memory(inputs: Inputs, grid: Plan) -> int:
    """Return the least bytes of a process that computes the tiles of a plan on one thread."""
    engine_section = inputs.config.engine.model_copy(update={"threads": 1})
    alone = replace(inputs, config=inputs.config.model_copy(update={"engine": engine_section}))
    return taken(alone, grid, _fitting(alone, grid, 0))


def _fitting(inputs: Inputs, grid: Plan, memory: int) -> engine.Means:
    """Return the smallest means that decode as much at once as fits."""
    ways = [_least(inputs, grid, at_once) for at_once in (CELL, 1)]
    return next((means for means in ways if taken(inputs, grid, means) <= memory), ways[-1])


def _least(inputs: Inputs, grid: Plan, at_once: int) -> engine.Means:
    """Return the smallest means: kept are the chunks on a tile's edge, and those that the blocks in work share."""
    chosen, cells = inputs.config.engine, _grain(inputs, at_once)
    around, block = (math.prod(tiles.aligned(n, grid.margin, cells, grid.extent)) for n in (grid.tile, grid.unit))
    edge = around - math.prod(map(min, zip(grid.tile, grid.extent, strict=True)))
    cache = min(around, edge + threads_of(inputs.config) * block) * _sample(inputs)
    durable = chosen.durable == "all"
    halo = chosen.halo or ("read" if inputs.pulled else "overlap")
    return engine.Means(grid.unit, threads_of(inputs.config), durable, halo, 1, cache, at_once)


def taken(inputs: Inputs, grid: Plan, means: engine.Means) -> int:
    """Return the bytes of the process at work: tiles in flight, blocks, and what is kept decoded."""
    blocks = means.threads * math.prod(means.block) * _scratch(inputs, means)
    region = math.prod(tiles.aligned(grid.tile, grid.margin, (1,) * len(grid.tile), grid.extent))
    # one tile is computed, and what was computed of it and of the one before waits; one of these is put together
    held = (_held(inputs) if means.halo == "overlap" else 0) + means.flights * _waiting(inputs) + _whole(inputs)
    return engine.RESERVED + max(region * held + blocks, _taken_by_nodes(inputs, grid, means)) + means.cache


def _taken_by_nodes(inputs: Inputs, grid: Plan, means: engine.Means) -> int:
    """Return the bytes of the objects of nodes in work: each reads its own region, and searches it in bands."""
    if (nodes := grid.nodes) is None:
        return 0
    least = tuple(min(n, (o - 1) * s + 1) for n, o, s in zip(grid.shape, nodes.objects, nodes.step, strict=True))
    region = tiles.aligned(least, nodes.margin, (1,) * len(least), grid.extent)
    first, beside = len(least) - inputs.ndim, math.prod(region[len(least) - inputs.ndim + 1 :])
    band = max(shift.BAND, nodes.step[first] * beside) + 2 * nodes.margin[first] * beside
    return means.threads * (math.prod(region) * (_held(inputs) + _sample(inputs)) + band * shift.SCRATCH)


def _scratch(inputs: Inputs, means: engine.Means) -> int:
    """Return the bytes per pixel of a block in work."""
    own = _most(inputs) if inputs.pulled else min(engine.SCRATCH, 8 + 2 * _sample(inputs))
    return own + (_held(inputs) if means.halo == "read" else 0)


def _most(inputs: Inputs) -> int:
    """Return the most bytes per pixel of a block in work."""
    return engine.SCRATCH + (engine.GAINED if "gain" in inputs.config.maps else 0)


def _grain(inputs: Inputs, at_once: int = 1) -> Shape:
    """Return the larger chunk of both images along each axis, or of what is decoded by one call."""
    images = (inputs.reference.array, inputs.moving.array)
    return tuple(map(max, zip(*(cell_of(image.chunks, image.shape, at_once) for image in images), strict=True)))


def _sample(inputs: Inputs) -> int:
    """Return the bytes of a sample of both images as they are stored."""
    return inputs.reference.array.dtype.itemsize + inputs.moving.array.dtype.itemsize


def _bytes_per_pixel(inputs: Inputs) -> int:
    """Return the bytes per pixel of a tile that is the only one in work."""
    return _held(inputs) + _waiting(inputs) + _whole(inputs)


def _held(inputs: Inputs) -> int:
    """Return the bytes per pixel of both images on the reference's grid, with their validity."""
    dtypes = inputs.reference.array.dtype, inputs.moving.array.dtype
    again = dtypes[1].itemsize + 1 if "gain" in inputs.config.maps else 0  # the moving image as it is stored
    return again + engine.bytes_per_pixel(*dtypes, pulled=inputs.pulled, masked=inputs.leaves_out)


def _waiting(inputs: Inputs) -> int:
    """Return the bytes per pixel of a tile whose blocks wait for the rest of it."""
    asked = inputs.config.output
    return (_by_maps(inputs, engine.REDUCED) if asked.pyramid or asked.finest_level else 0) + _whole(inputs)


def _whole(inputs: Inputs) -> int:
    """Return the bytes per pixel of the objects that a tile's blocks become, if these are not objects themselves."""
    asked = inputs.config.output
    return _by_maps(inputs, engine.ENCODED) if asked.shards and not asked.finest_level else 0


def _by_maps(inputs: Inputs, size: int) -> int:
    """Return the bytes of all maps, of which coefficients and status take `size`."""
    return -(-size * (9 if "gain" in inputs.config.maps else 5) // 5)


def check_disk(layout: Layout, url: str) -> None:
    """Raise DoesNotFitError if the disk of `url` has less space, or room for fewer files, than the output may take."""
    if not is_local(url):  # nobody knows what an object store has room for
        return
    folder = Path(url).absolute()
    with explained(folder):
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        free, system = shutil.disk_usage(folder).free, os.statvfs(folder)
    if disk(layout) > free:
        message = f"{folder} has {free / 1e6:.1f} MB free: {disk(layout) / 1e6:.1f} MB, what the output may take, fit"
        raise DoesNotFitError(message)
    # a file system that makes room for files as they come has none to begin with
    if system.f_files and objects(layout) > system.f_favail:
        message = (
            f"{folder} has room for {system.f_favail} files: {objects(layout)}, what the output takes, fit; "
            "larger output.chunks, or output.shards, are fewer"
        )
        raise DoesNotFitError(message)


def disk(layout: Layout) -> int:
    """Return the most bytes that the output can take: float32 and uint8 that do not compress."""
    return sum(_bytes_of(layout, level) for level in layout.levels) + _bytes_of_nodes(layout)


def _bytes_of(layout: Layout, level: int) -> int:
    return (9 if "gain" in layout.maps else 5) * math.prod(layout.at(level).shape)


def _bytes_of_nodes(layout: Layout) -> int:
    return 4 * len(layout.components) * math.prod(layout.node_grid.shape) if layout.step else 0


def alternatives(layout: Layout) -> tuple[int, ...]:
    """Return the most bytes that the output would take for each finest level, from 0, that could be asked for."""
    last, fixed = layout.levels[-1], len(layout.shape) - layout.halved
    while any(n > c for n, c in zip(layout.at(last).shape[fixed:], layout.chunks[fixed:], strict=True)):
        last += 1
    every = [_bytes_of(layout, level) for level in range(last + 1)]
    alone = len(layout.levels) == 1 < len(every)
    return tuple(_bytes_of_nodes(layout) + (n if alone else sum(every[level:])) for level, n in enumerate(every))


def objects(layout: Layout) -> int:
    """Return the number of stored objects of the output, all maps, all levels."""
    arrays = (layout.of(name) for name in layout.arrays)
    return sum(math.prod(-(-n // e) for n, e in zip(of.shape, of.objects, strict=True)) for of in arrays)
