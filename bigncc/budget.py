"""What a run takes: tiles, blocks, memory, disk; and the refusal, with its numbers, of what does not fit."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bigncc import aperture, capacity, confidence, filtering, planning, search, shift, sites, stack, tiles
from bigncc.capacity import Means
from bigncc.config import Config
from bigncc.errors import DoesNotFitError
from bigncc.inputs import MASKED, Inputs
from bigncc.layout import Layout
from bigncc.maps import BYTES, of_pixels
from bigncc.nodes import Nodes
from bigncc.reading import CELL, cell_of
from bigncc.tiles import Plan, Shape

BEGINNING = 200 * 10**6
"""Bytes of the process before it has compiled anything, which is when a shift is measured (measured 190 MB)."""

SPECTRA = 64
"""Bytes per sample of the spectra that two images are compared by, zero-padded to twice their extent (measured 50)."""


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
    window: str
    seconds: float
    valid: tuple[str, ...]
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
            **({"valid": f"about {' and '.join(self.valid)}"} if self.valid else {}),
            "decoding": f"{_each(self.decode_overhead)} for each pixel of the output",
            "window": self.window,
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


def tiles_of(inputs: Inputs, layout: Layout, threads: int) -> Plan:
    """Return the tiles of a new run; DoesNotFitError, with what would fit, if a single object does not."""
    finest, halved = layout.levels[0], layout.halved
    window = inputs.window
    margin = inputs.asked.margin(window.radius, len(layout.shape))
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
        memory -= threads * _frames(inputs)
        return planning.largest_tile(
            layout.shape,
            objects,
            margin,
            grain,
            samples=capacity.largest_samples(memory, per_pixel, threads, _pixels(objects), _most(inputs)),
            pixels=capacity.LARGEST,
            tiles=max(TILES, EACH * jobs),
            # a tile has one time and one channel, as the pivot belongs to the channel
            fixed=0 if axis is None else axis + 1,
            steps=() if inputs.stack is None else stack.steps(inputs.stack, objects, layout.shape, grain, jobs, kept),
        )

    objects = grown(layout.at(finest).objects, finest, halved)
    try:
        tile = largest(objects, threads)
    except DoesNotFitError as error:
        samples = math.prod(tiles.aligned(objects, margin, grain, layout.shape))
        blocks = threads * _pixels(objects) * _most(inputs)
        needed = (
            capacity.RESERVED
            + threads * _frames(inputs)
            + blocks
            + samples * (_bytes_per_pixel(inputs) + _sample(inputs))
        )
        each = layout.at(finest).objects
        other = _what_fits(lambda o, n: largest(grown(o, finest, halved), n), each, threads, window.ndim)
        message = f"{error} (engine.memory={-(-needed // 10**6)}MB fits, {other})"
        raise DoesNotFitError(message) from None
    tile = _even(tile, layout)
    plan = Plan(layout.shape, objects, tile, margin, inputs.origin, inputs.reference.array.shape, chunks=chunks)
    around = inputs.asked.margin(window.radius, len(layout.shape), layout.reach)
    plan = replace(plan, nodes=_nodes_of(layout, tile, around))
    pixels = min(capacity.LARGEST, (memory_of(inputs.config) - capacity.RESERVED) // capacity.COARSENING)
    return planning.with_pyramid(plan, layout.coarser, halved, layout.levels, pixels)


def _nodes_of(layout: Layout, tile: Shape, around: Shape) -> Nodes | None:
    """Return the grid of nodes of a shift map, in tiles of no more pixels than the others, if one object is no more."""
    if not layout.step:
        return None
    batch = len(layout.shape) - len(layout.step)
    grid, step = layout.node_grid, (1,) * batch + layout.step
    axes = zip(tile, grid.chunks, step, strict=True)
    return Nodes(grid.shape, step, grid.chunks, tuple(max(1, t // (c * s)) * c for t, c, s in axes), around)


def grown(objects: Shape, level: int, halved: int) -> Shape:
    """Return the extent of a level's objects in pixels of the output."""
    fixed = len(objects) - halved
    return tuple(o << level if i >= fixed else o for i, o in enumerate(objects))


def _even(tile: Shape, layout: Layout) -> Shape:
    """Return a tile of at least half the size that is whole objects of more levels, if there is one."""
    for level in reversed(layout.levels[1:]):
        objects = grown(layout.coarser, level, layout.halved)
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


def check_chunks(inputs: Inputs) -> None:
    """Raise DoesNotFitError if a chunk of an image is more than the memory, before one is read."""
    memory = memory_of(inputs.config)
    for name, image in inputs.images.items():
        size = math.prod(image.array.chunks) * image.array.dtype.itemsize
        if size > memory:
            message = (
                f"engine.memory is {memory / 1e6:.0f} MB and a chunk of {name} takes {size / 1e6:.0f} MB: several "
            )
            message += "times that much is accepted"
            raise DoesNotFitError(message)


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


def means_of(inputs: Inputs, grid: Plan) -> Means:
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
    block = capacity.inner_block(tile, grid.unit, -(-4 * threads // means.flights), min(pixels, capacity.INNER))
    means = replace(means, block=block)
    images = (inputs.reference.array, inputs.moving.array)
    stored = sum(math.prod(image.shape) * image.dtype.itemsize for image in images)
    stored += MASKED * inputs.masks * max(math.prod(image.shape) for image in images)
    return replace(means, cache=min(stored, means.cache + memory - taken(inputs, grid, means)))


def least_memory(inputs: Inputs, grid: Plan) -> int:
    """Return the least bytes of a process that computes the tiles of a plan on one thread."""
    engine_section = inputs.config.engine.model_copy(update={"threads": 1})
    alone = replace(inputs, config=inputs.config.model_copy(update={"engine": engine_section}))
    return taken(alone, grid, _fitting(alone, grid, 0))


def _fitting(inputs: Inputs, grid: Plan, memory: int) -> Means:
    """Return the smallest means that decode as much at once as fits."""
    ways = [_least(inputs, grid, at_once) for at_once in (CELL, 1)]
    return next((means for means in ways if taken(inputs, grid, means) <= memory), ways[-1])


def _least(inputs: Inputs, grid: Plan, at_once: int) -> Means:
    """Return the smallest means: kept are the chunks on a tile's edge, and those that the blocks in work share."""
    chosen, cells = inputs.config.engine, _grain(inputs, at_once)
    around, block = (math.prod(tiles.aligned(n, grid.margin, cells, grid.extent)) for n in (grid.tile, grid.unit))
    edge = around - math.prod(map(min, zip(grid.tile, grid.extent, strict=True)))
    cache = min(around, edge + threads_of(inputs.config) * block) * (_sample(inputs) + MASKED * inputs.masks)
    durable = chosen.durable == "all"
    halo = chosen.halo or ("read" if inputs.pulled else "overlap")
    return Means(grid.unit, threads_of(inputs.config), durable, halo, 1, cache, at_once)


def taken(inputs: Inputs, grid: Plan, means: Means) -> int:
    """Return the bytes of the process at work: tiles in flight, blocks, and what is kept decoded."""
    blocks = means.threads * (math.prod(means.block) * _scratch(inputs, means) + _frames(inputs))
    region = math.prod(tiles.aligned(grid.tile, grid.margin, (1,) * len(grid.tile), grid.extent))
    # one tile is computed, and what was computed of it and of the one before waits; one of these is put together
    held = (_held(inputs) if means.halo == "overlap" else 0) + means.flights * _waiting(inputs) + _whole(inputs)
    return capacity.RESERVED + max(region * held + blocks, _taken_by_nodes(inputs, grid, means)) + means.cache


def _taken_by_nodes(inputs: Inputs, grid: Plan, means: Means) -> int:
    """Return the bytes of the objects of nodes in work: each reads its own region, and searches it in bands."""
    if (nodes := grid.nodes) is None:
        return 0
    least = tuple(min(n, (o - 1) * s + 1) for n, o, s in zip(grid.shape, nodes.objects, nodes.step, strict=True))
    region = tiles.aligned(least, nodes.margin, (1,) * len(least), grid.extent)
    first, beside = len(least) - inputs.ndim, math.prod(region[len(least) - inputs.ndim + 1 :])
    band = max(shift.BAND, nodes.step[first] * beside) + 2 * nodes.margin[first] * beside
    each = _held(inputs) + _sample(inputs) + filtering.bytes_per_pixel(inputs.asked.prefilter, 2)
    return means.threads * (math.prod(region) * each + band * shift.SCRATCH + _frames(inputs))


def _scratch(inputs: Inputs, means: Means) -> int:
    """Return the bytes per pixel of a block in work."""
    own = capacity.SCRATCH if inputs.pulled else min(capacity.SCRATCH, 8 + 2 * _sample(inputs) + _widened(inputs))
    return own + _further(inputs) + (_held(inputs) if means.halo == "read" else 0)


def _most(inputs: Inputs) -> int:
    """Return the most bytes per pixel of a block in work."""
    return capacity.SCRATCH + _further(inputs)


def _further(inputs: Inputs) -> int:
    """Return the bytes per pixel of a block in work for what is made beside coefficients and status."""
    asked = inputs.asked
    more = (capacity.GAINED if asked.gain else 0) + (confidence.BYTES if asked.confidence else 0)
    more += capacity.TESTED if asked.tested else 0
    more += capacity.DESCRIBED * asked.statistics
    return more + filtering.bytes_per_pixel(asked.prefilter, 2 + asked.gain)


def _frames(inputs: Inputs) -> int:
    """Return the bytes that a thread filters and adds up in, whatever the block."""
    return filtering.scratch(inputs.asked.prefilter, inputs.ndim) + max(map(aperture.scratch, inputs.windows))


def _widened(inputs: Inputs) -> int:
    """Return the bytes per pixel of copies in another dtype."""
    return 0 if all(window.exact for window in inputs.windows) else capacity.WIDENED


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
    return again + capacity.bytes_per_pixel(*dtypes, pulled=inputs.pulled, masked=inputs.leaves_out)


def _waiting(inputs: Inputs) -> int:
    """Return the bytes per pixel of a tile whose blocks wait for the rest of it."""
    asked = inputs.config.output
    return (_by_maps(inputs, capacity.REDUCED) if asked.pyramid or asked.finest_level else 0) + _whole(inputs)


def _whole(inputs: Inputs) -> int:
    """Return the bytes per pixel of the objects that a tile's blocks become, if these are not objects themselves."""
    asked = inputs.config.output
    return _by_maps(inputs, capacity.ENCODED) if asked.shards and not asked.finest_level else 0


def _by_maps(inputs: Inputs, size: int) -> int:
    """Return the bytes of all maps, of which coefficients and status take `size`."""
    return -(-size * (5 + BYTES * len(of_pixels(inputs.config.maps))) // 5)
