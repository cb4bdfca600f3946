"""The same correlation for dask arrays: `map_overlap` over the blocks of a pair.

Each block knows its core, not its place: the halo comes from `map_overlap(boundary="none")`, which adds real
neighbours inside and nothing at the image's edge, where the window's border acts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, product
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from bigncc import kernel, scales, significance
from bigncc.confidence import grown, of_block
from bigncc.errors import InputError
from bigncc.filtering import prefiltered
from bigncc.kernel import Pivots
from bigncc.maps import LEVEL, NOTHING, PER_WINDOW, Asked, Ssim, check_weights, of_pixels, of_windows, ranged
from bigncc.pair import Chunks, Pair, PerItem, as_stored, beside, on_grid, register, validity
from bigncc.prefilter import UNFILTERED, Prefilter
from bigncc.ranks import check_small
from bigncc.registration import Registration
from bigncc.tiles import Roi, Shape, Tile, cut, roi_of, roi_shape, roi_shift, roi_within
from bigncc.transform import Transform
from bigncc.window import Window, as_window, check_shapes, several

Array = NDArray[Any]

Levels = float | tuple[float, ...] | None
Nodata = Levels | tuple[Levels, Levels]

MAPS = ("ncc", "status")

IMAGES = ("reference", "moving")


def for_each(nodata: Nodata) -> tuple[Levels, Levels]:
    """Return the grey levels that mean "no sample" in reference and moving."""
    levels = nodata if isinstance(nodata, tuple) else (nodata, nodata)
    if len(levels) != 2:
        message = f"nodata is {nodata!r}: one grey level, or a pair of them (reference, moving), is accepted"
        raise InputError(message)
    return levels


def paired(
    reference: Any,
    moving: Any,
    window: Window,
    *,
    reference_mask: Any = None,
    moving_mask: Any = None,
    nodata: Nodata = None,
    same_shape: bool,
    named: bool = False,
) -> Pair:
    """Return two arrays as a checked pair; arguments and errors as for `bigncc.local_maps`.

    Parameters
    ----------
    same_shape : bool
        Whether their spatial shapes must be equal.
    named : bool
        Whether it is known that the last axes are those of the window, so that three columns are no colours.
    """
    first, second = _as_dask(reference, window), _as_dask(moving, window)
    check_shapes(first.shape, second.shape, window, same_shape=same_shape, named=named)
    kernel.common_dtype(first.dtype, second.dtype)
    levels = for_each(nodata)
    return Pair(
        first,
        second,
        validity(first, reference_mask, levels[0], window.ndim),
        validity(second, moving_mask, levels[1], window.ndim),
    )


def applied(transform: Transform | Registration | None) -> Transform | None:
    """Return the transform of a registration, or the one given; InputError if it is none."""
    given = transform.transform if isinstance(transform, Registration) else transform
    if given is not None and not isinstance(given, Transform):
        message = f"transform is {transform!r}: a Translation, an Affine, a Displacement or a Registration is accepted"
        raise InputError(message)
    return given


def local_maps(
    reference: Any,
    moving: Any,
    window: int | tuple[int, ...] | Window = 7,
    maps: Sequence[str] = MAPS,
    *,
    transform: Transform | Registration | None = None,
    order: int = 1,
    pivot: Pivots | None = None,
    prefilter: Prefilter | None = None,
    ssim: Ssim | None = None,
    level: float = LEVEL,
    windows: Sequence[int | tuple[int, ...]] = (),
    **options: Any,
) -> dict[str, Any]:
    """Do what `bigncc.local_maps` does, for numpy and dask arrays; `options` as for `paired`."""
    is_lazy = any(isinstance(image, da.Array) for image in (reference, moving))
    window, transform = as_window(window), applied(transform)
    every = several(window, windows)
    names = (*MAPS, *PER_WINDOW, *of_windows([each.shape for each in every]))
    if unknown := [name for name in maps if name not in names]:
        message = f"maps has {unknown[0]!r}: {', '.join(names)} are accepted"
        raise InputError(message)
    asked = Asked(of_pixels(maps), prefilter=filter_of(prefilter), ssim=ssim or Ssim(), level=level, windows=every[1:])
    if asked.gain and transform is None:
        message = "maps has gain and there is no transform, so that nothing can be gained: one is accepted"
        raise InputError(message)
    pair = paired(reference, moving, window, same_shape=transform is None, **options)
    first, second = pair.reference, pair.moving
    asked = ranged(asked, first.dtype, second.dtype)
    for other in asked.windows:
        check_shapes(first.shape, second.shape, other, same_shape=transform is None, named=True)
    check_asked(every, asked)
    constants = pivot if pivot is not None else (pivot_of(first), pivot_of(second))
    margin = asked.margin(window.radius, first.ndim)
    chunks = tuple(map(merged, first.chunks, margin))
    start = (0,) * first.ndim
    stored = as_stored(pair, window.ndim)
    before = pair if stored is None or not asked.gain else register(pair, stored, order, start, chunks)
    if transform is not None:
        pair = register(pair, transform, order, start, chunks)
    if asked.gain:
        pair = beside(pair, before)
    result = correlate(pair, window, constants, chunks, start, start, asked)
    arrays = {name: _field(result, name, chunks) for name in maps}
    if is_lazy:
        return arrays
    scheduler = dask.config.get("scheduler", None) or "threads"
    return dict(zip(maps, compute(*arrays.values(), scheduler=scheduler), strict=True))


def check_asked(windows: Sequence[Window], asked: Asked) -> None:
    """Raise InputError for a map that windows, the first of which has all of them, do not have."""
    check_weights(windows, asked)
    significance.check(windows[0], asked)
    if "spearman" in asked.further:
        check_small(windows[0])


def filter_of(prefilter: Prefilter | None) -> Prefilter:
    """Return the prefilter given, or none; InputError if it is something else."""
    if prefilter is not None and not isinstance(prefilter, Prefilter):
        message = f"prefilter is {prefilter!r}: a Prefilter is accepted"
        raise InputError(message)
    return prefilter or UNFILTERED


def correlate(
    pair: Pair, window: Window, pivot: Any, chunks: Chunks, lead: Shape, start: Shape, asked: Asked = NOTHING
) -> da.Array:
    """Correlate a pair block by block.

    Parameters
    ----------
    pair : Pair
        Arrays of one shape, at least that of `chunks`.
    window : Window
        With `asked` it says what the halo is.
    pivot : tuple of (Pivot, float or Delayed)
        For float images.
    chunks : tuple of tuple of int
        Blocks of the result; along windowed axes none but a single one is smaller than the halo.
    lead : tuple of int
        Where the result begins in the arrays; samples before and after it are context.
    start : tuple of int
        Where the arrays begin in the image.
    asked : Asked
        What is made beside coefficients and status.

    Returns
    -------
    dask.array.Array of object
        One `bigncc.kernel.Block` per block.
    """
    ndim = pair.reference.ndim
    margin = asked.margin(window.radius, ndim)
    depth = {axis: m if len(chunks[axis]) > 1 else 0 for axis, m in enumerate(margin)}
    extended = tuple(_extended(c, before, n) for c, before, n in zip(chunks, lead, pair.reference.shape, strict=True))
    cells = np.empty(tuple(map(len, chunks)), object)
    for cell in np.ndindex(cells.shape):
        begins = tuple(before if i == 0 else depth[a] for a, (before, i) in enumerate(zip(lead, cell, strict=True)))
        core = roi_of(begins, tuple(c[i] for c, i in zip(chunks, cell, strict=True)))[-window.ndim :]
        places = zip(start, lead, chunks, cell, strict=True)
        cells[cell] = core, tuple(s + a + sum(c[:i]) for s, a, c, i in places)[-window.ndim :]
    arrays = pair.arrays
    return da.map_overlap(
        _block,
        *(array.rechunk(extended) for array in arrays.values()),
        da.from_array(cells, chunks=1),
        depth=[depth] * len(arrays) + [dict.fromkeys(range(ndim), 0)],
        boundary="none",
        trim=False,
        align_arrays=False,
        allow_rechunk=False,
        dtype=object,
        meta=np.empty((0,) * ndim, object),
        chunks=chunks,
        names=tuple(arrays),
        window=window,
        pivot=pivot,
        asked=asked,
    )


def tile(
    pair: Pair,
    window: Window,
    pivots: Sequence[Pivots],
    tile: Tile,
    origin: Shape,
    block: Shape,
    transform: Transform | PerItem | None,
    order: int,
    channel_axis: int | None = None,
    asked: Asked = NOTHING,
) -> da.Array:
    """Correlate one tile of a stored pair in blocks of about `block` pixels.

    Parameters
    ----------
    pair : Pair
        Whole images, lazily.
    window, transform, order
        As for `local_maps`.
    pivots : sequence of (Pivot, Pivot)
        One for all, or one for each channel of the tile.
    tile : Tile
        ``write`` in the frame of the output, ``read`` in that of the reference.
    origin : tuple of int
        Where the output begins on the reference's grid.
    block : tuple of int
        Whole objects of the output.
    channel_axis : int, optional
        The axis of several pivots.
    asked : Asked
        What is made beside coefficients and status.

    Returns
    -------
    dask.array.Array of object
        One `bigncc.kernel.Block` per block of ``tile.write``.
    """
    chunks, lead, grid = _blocks(window, tile, origin, block, asked)
    start = tuple(s.start for s in tile.read)
    here = on_grid(pair, tile.read, grid, transform, order)
    if asked.gain:
        here = beside(here, on_grid(pair, tile.read, grid, as_stored(pair, window.ndim), order))
    if len(pivots) == 1 or channel_axis is None:
        return correlate(here, window, pivots[0], chunks, lead, start, asked)
    one = (*chunks[:channel_axis], (1,), *chunks[channel_axis + 1 :])
    channels = []
    for i, pivot in enumerate(pivots):
        place = (slice(None),) * channel_axis + (slice(i, i + 1),)
        alone = Pair(**{name: array[place] for name, array in here.arrays.items()})
        channels.append(correlate(alone, window, pivot, one, lead, start, asked))
    return da.concatenate(channels, axis=channel_axis)


def regions(window: Window, tile: Tile, origin: Shape, block: Shape, asked: Asked = NOTHING) -> list[Roi]:
    """Return what each block of a tile reads on the reference's grid; the rest comes from its neighbours.

    Arguments as for `tile`.
    """
    *_, grid = _blocks(window, tile, origin, block, asked)
    edges = (accumulate(sizes, initial=s.start) for sizes, s in zip(grid, tile.read, strict=True))
    return list(product(*([slice(*ends) for ends in pairwise(axis)] for axis in edges)))


def _blocks(window: Window, tile: Tile, origin: Shape, block: Shape, asked: Asked) -> tuple[Chunks, Shape, Chunks]:
    """Return the blocks of a tile, where the first begins in what the tile reads, and the blocks with what is around.

    On the tile's edge blocks have the margin that no other block gives them.
    """
    margin = asked.margin(window.radius, len(block))
    sizes = roi_shape(tile.write)
    chunks = tuple(merged(cut(n, b), m) for n, b, m in zip(sizes, block, margin, strict=True))
    inner = roi_within(roi_shift(tile.write, origin), tile.read)
    lead = tuple(s.start for s in inner)
    return (
        chunks,
        lead,
        tuple(_extended(c, n, m) for c, n, m in zip(chunks, lead, roi_shape(tile.read), strict=True)),
    )


def _block(*arrays: Any, names: Iterable[str], window: Window, pivot: Pivots, asked: Asked) -> Any:
    *images, cell = arrays
    named, (core, place) = dict(zip(names, images, strict=True)), cell.item()
    if asked.prefilter:
        named, core, pivot = prefiltered(named, core, asked.around(window.radius), asked.prefilter, pivot)
    reference, moving, before, flags = (named.pop(name, None) for name in (*IMAGES, "before", "before_validity"))
    rules: dict[str, Any] = {"core": core, "pivot": pivot}
    block = scales.local(reference, moving, window, asked=asked, **rules, **named)
    if asked.confidence:
        block = _confident(block, core, window, pivot, reference, moving, named)
    if asked.tested:
        start = tuple(i - s.start for i, s in zip(place, core, strict=True))
        block = significance.judged(block, reference, moving, window, start=start, asked=asked, **rules, **named)
    if before is None:
        return block
    return kernel.gained(
        block, kernel.local(reference, before, window, **rules, **(named | {"moving_validity": flags}))
    )


def _confident(block: kernel.Block, core: Roi, window: Window, pivot: Pivots, *images: Any) -> kernel.Block:
    """Return a block with its confidence; what is beside its core is correlated for that and not counted."""
    reference, moving, flags = images
    extent = reference.shape[-window.ndim :]

    def correlated(roi: Roi) -> kernel.Block:
        region = grown(roi, window.radius, extent)
        first, second, *codes = (each[(..., *region)] for each in (reference, moving, *flags.values()))
        named = dict(zip(flags, codes, strict=True))
        return kernel.local(first, second, window, core=roi_within(roi, region), pivot=pivot, **named)

    found = of_block(block, core, window.radius, extent, correlated)
    return replace(block, further={**block.further, "confidence": found})


def _field(blocks: da.Array, name: str, chunks: Chunks) -> da.Array:
    meta = np.empty((0,) * blocks.ndim, np.uint8 if name == "status" else np.float32)
    return da.map_blocks(_map, blocks, name, dtype=meta.dtype, meta=meta, chunks=chunks)


def _map(block: Any, name: str) -> Any:
    return getattr(block, name) if name in MAPS else block.further[name]


def _extended(chunks: tuple[int, ...], before: int, length: int) -> tuple[int, ...]:
    """Return `chunks` with the context before and after them given to the outermost blocks."""
    sizes = list(chunks)
    sizes[0] += before
    sizes[-1] += length - before - sum(chunks)
    return tuple(sizes)


def merged(sizes: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Return `sizes` with neighbours added up until each is at least `least`."""
    result: list[int] = []
    for size in sizes:
        if result and (result[-1] < least or size < least):
            result[-1] += size
        else:
            result.append(size)
    return tuple(result)


def _as_dask(image: Any, window: Window) -> da.Array:
    if isinstance(image, da.Array):
        return image
    if isinstance(image, (str, os.PathLike)):
        message = f"an image is {os.fspath(image)!r}: an array is accepted here, and bigncc.run takes paths"
        raise InputError(message)
    array = np.asarray(image)
    if array.ndim < window.ndim:
        return da.from_array(array, name=False)  # check_shapes has the words
    side = 1024 if window.ndim == 2 else 64
    inner = tuple(max(side, 4 * r) for r in window.radius)
    block = (1,) * (array.ndim - window.ndim) + inner[-array.ndim :]
    chunks = tuple(cut(n, b) or (0,) for n, b in zip(array.shape, block, strict=True))
    return da.from_array(array, chunks=chunks, name=False)


def pivot_of(image: da.Array) -> Any:
    """Return the image's pivot, to be computed with the blocks."""
    if 0 in image.shape:
        return kernel.Pivot()
    sample = image
    for axis, points in enumerate(kernel.lattice(image.shape)):
        sample = da.take(sample, list(points), axis=axis)
    return delayed(kernel.lattice_pivot)(sample)
