"""What an output looks like and what it takes on disk."""

import errno
import math
import os
import shutil
from pathlib import Path

import numpy as np

from bigncc.errors import DoesNotFitError, InputError
from bigncc.inputs import Inputs
from bigncc.layout import Layout
from bigncc.science import OutputConfig
from bigncc.store import explained, is_local
from bigncc.tiles import Shape

CHUNKS = {2: ((1024, 4096),) * 2, 3: ((32, 64), (256, 512), (256, 512))}
"""Extent of a chunk along the windowed axes, and the most pixels of the output that one of any level covers."""


def layout_of(inputs: Inputs) -> Layout:
    """Return what the output looks like on disk."""
    reference, asked, ndim = inputs.reference, inputs.config.output, inputs.ndim
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
        maps=inputs.config.maps, step=step, nodes=nodes, reach=reach, encoding=asked.encoding, keepbits=asked.keepbits,
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
    """Return the most bytes that the output can take: values and uint8 that do not compress."""
    return sum(_bytes_of(layout, level) for level in layout.levels) + _bytes_of_nodes(layout)


def _bytes_of(layout: Layout, level: int) -> int:
    values = sum(np.dtype(how.dtype).itemsize for how in layout.encodings.values())
    return (1 + values) * math.prod(layout.at(level).shape)


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
