"""What a run takes: tiles, blocks, memory, disk; and the refusal, with its numbers, of what does not fit."""

import errno
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bigncc import engine, registration, sites, tiles
from bigncc.config import Config
from bigncc.errors import DoesNotFitError, InputError
from bigncc.inputs import Inputs
from bigncc.output import Layout
from bigncc.store import explained, is_local
from bigncc.tiles import Plan, Shape

BEGINNING = 200 * 10**6
"""Bytes of the process before it has compiled anything, which is when a shift is measured (measured 190 MB)."""

SPECTRA = 64
"""Bytes per sample of the spectra that two images are compared by, zero-padded to twice their extent (measured 50)."""

TILES = 16
"""Tiles that a run has at least, if there are that many objects: a stop costs little, and progress can be seen."""


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
    headline: str

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


def threads_of(config: Config) -> int:
    """Return the threads that a config asks for, or one for each processor."""
    return config.engine.threads or len(os.sched_getaffinity(0))


def memory_of(config: Config) -> int:
    """Return the bytes that a config allows, or a share of the machine's."""
    return config.engine.memory or machine_memory()


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
    reference, ndim = inputs.reference, inputs.config.window.window().ndim
    default = (1024, 1024) if ndim == 2 else (32, 256, 256)
    wanted, shards = inputs.config.output.chunks or default, inputs.config.output.shards
    for name, sizes in (("chunks", wanted), ("shards", shards)):
        if sizes is not None and len(sizes) != ndim:
            message = f"output.{name} is {list(sizes)}: {ndim} numbers are accepted, as many as window.size has"
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
    return Layout(inputs.shape, one + wanted, *grid, "ncc", None if shards is None else one + shards)


def tiles_of(inputs: Inputs, layout: Layout, threads: int) -> Plan:
    """Return the tiles of a new run; DoesNotFitError, with what would fit, if a single object does not."""
    window = inputs.config.window.window()
    margin = (0,) * (len(layout.shape) - window.ndim) + window.radius
    axis = inputs.channel_axis

    def largest(objects: Shape, threads: int) -> Shape:
        memory, per_pixel = memory_of(inputs.config), _bytes_per_pixel(inputs)
        return tiles.largest_tile(
            layout.shape,
            objects,
            margin,
            _grain(inputs),
            samples=engine.largest_samples(memory, per_pixel, threads, math.prod(objects)),
            pixels=engine.LARGEST,
            tiles=TILES,
            # a tile has one time and one channel, as the pivot belongs to the channel
            fixed=0 if axis is None else axis + 1,
        )

    try:
        tile = largest(layout.objects, threads)
    except DoesNotFitError as error:
        samples = math.prod(tiles.aligned(layout.objects, margin, _grain(inputs), layout.shape))
        blocks = threads * math.prod(layout.objects) * engine.SCRATCH
        needed = engine.RESERVED + blocks + samples * _bytes_per_pixel(inputs)
        other = _what_fits(largest, layout.objects, threads, window.ndim)
        message = f"{error} (engine.memory={-(-needed // 10**6)}MB fits, {other})"
        raise DoesNotFitError(message) from None
    return Plan(layout.shape, layout.objects, tile, margin, inputs.origin, inputs.reference.array.shape)


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
    """Return on how many of `threads` a shift is measured, and the bytes that it takes; 0 of both if none is.

    Raises
    ------
    DoesNotFitError
        If it does not fit on one.
    """
    chosen, ndim, memory = inputs.config.registration, inputs.ndim, memory_of(inputs.config)
    if chosen.model is None:
        return 0, 0
    shapes = inputs.reference.array.shape[-ndim:], inputs.moving.array.shape[-ndim:]
    search = registration.searched(*shapes) * SPECTRA if chosen.model == "translation" else 0
    side = (sites.SITE[ndim],) * ndim
    decoded = math.prod(tiles.aligned(side, (0,) * ndim, _grain(inputs)[-ndim:], shapes[0]))
    each = SPECTRA * math.prod(2 * n for n in side) + 2 * decoded * _bytes_per_pixel(inputs)
    fitting = max(1, min(threads, (memory - BEGINNING) // each))
    needed = BEGINNING + max(search, fitting * each)
    if needed > memory:
        message = (
            f"engine.memory is {memory / 1e6:.0f} MB and measuring the shift takes {needed / 1e6:.0f} MB: "
            "that much, or a transform (registration.transform=FILE), is accepted"
        )
        raise DoesNotFitError(message)
    return fitting, needed


def block_of(inputs: Inputs, grid: Plan, threads: int) -> Shape:
    """Return the extent of the blocks inside a tile, as the memory allows.

    Raises
    ------
    DoesNotFitError
        If blocks of one object each do not fit.
    """
    memory, inputs_held = memory_of(inputs.config), held(inputs, grid)
    pixels = (memory - inputs_held) // (threads * engine.SCRATCH)
    if pixels < (least := math.prod(grid.objects)):
        needed = inputs_held + threads * least * engine.SCRATCH
        message = (
            f"engine.memory is {memory / 1e6:.0f} MB and the tiles of this run need {needed / 1e6:.0f} MB: "
            "that much, or fewer engine.threads, is accepted"
        )
        raise DoesNotFitError(message)
    return engine.inner_block(grid.tile, grid.objects, threads, min(pixels, engine.INNER))


def held(inputs: Inputs, grid: Plan) -> int:
    """Return the bytes of the process with a tile's inputs, before the first block is computed."""
    decoded = math.prod(tiles.aligned(grid.tile, grid.margin, _grain(inputs), grid.extent))
    return engine.RESERVED + decoded * _bytes_per_pixel(inputs)


def _grain(inputs: Inputs) -> Shape:
    """Return the larger chunk of both images along each axis."""
    return tuple(map(max, zip(inputs.reference.array.chunks, inputs.moving.array.chunks, strict=True)))


def _bytes_per_pixel(inputs: Inputs) -> int:
    sections = (inputs.config.reference, inputs.config.moving)
    masked = any(section.leaves_out for section in sections)
    dtypes = inputs.reference.array.dtype, inputs.moving.array.dtype
    return engine.bytes_per_pixel(*dtypes, pulled=inputs.pulled, masked=masked)


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
    return 5 * math.prod(layout.shape)


def objects(layout: Layout) -> int:
    """Return the number of stored objects of the output, both maps."""
    return 2 * math.prod(-(-n // e) for n, e in zip(layout.shape, layout.objects, strict=True))
