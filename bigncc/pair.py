"""Two images on one grid, lazily: validity, the pulled moving image, and their small pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import getitem
from typing import Any, Literal, TypeVar

import dask
import dask.array as da
import numpy as np
from dask import local, threaded
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from bigncc.crew import one_thread_a_product
from bigncc.errors import DoesNotFitError, InputError
from bigncc.reading import Part
from bigncc.resampling import pull, source_roi, whole_pixels
from bigncc.tiles import Roi, Shape, roi_of, roi_shape
from bigncc.transform import Transform, Translation

Array = NDArray[Any]
Chunks = tuple[tuple[int, ...], ...]
Result = TypeVar("Result")

SPREAD = 4
"""The region that a block pulls at once has at most this many times its own samples."""


ALONG = 2**22
"""Chunks along the axes of an image, added up: dask has a number for each, whatever is read."""

ATONCE = 2**22
"""Blocks that are tasks of one graph."""


@dataclass(frozen=True)
class Flags:
    """What says which samples of a stored image count, of whatever region is read of it.

    Parameters
    ----------
    levels : tuple of float
        Grey levels that are no samples.
    given : array or None
        True where samples count, of the image's shape and read block by block; None: everywhere.
    """

    levels: tuple[float, ...] = ()
    given: Any = None

    def on(self, image: da.Array, region: Roi, grid: Chunks) -> da.Array:
        """Return the validity of a region of the image, of which the samples are there in blocks of `grid`."""
        given = () if self.given is None else (from_storage(Part(self.given, region), grid),)
        meta = np.empty((0,) * image.ndim, np.uint8)
        return da.map_blocks(flagged, image, *given, levels=self.levels, dtype=np.uint8, meta=meta)

    def at(self, block: Any, region: Roi) -> Any:
        """Return the same of a block that is not there yet."""
        given = () if self.given is None else (delayed(partial(getitem, self.given, region), pure=False)(),)
        return delayed(partial(flagged, levels=self.levels), pure=False)(block, *given)


def flagged(samples: Array, given: Array | None = None, *, levels: tuple[float, ...]) -> Array:
    """Return 1 where a sample is none of some grey levels, and is one that is `given`, else 0."""
    flags = np.ones(samples.shape, bool) if given is None else given
    samples = samples.view(np.uint8) if samples.dtype.kind == "b" else samples  # bool has no words for large numbers
    with np.errstate(over="ignore"):  # a level beyond what the dtype holds
        for level in levels:
            flags = flags & (samples != level)
    return flags.view(np.uint8)


@dataclass(frozen=True)
class Pair:
    """Two images on the reference's grid, each with its validity or None where all samples are valid.

    An image is a dask array, or a stored one that is read block by block of whatever grid it is needed on, and so is
    its validity. `before` is the moving image as it is stored, where that is to be compared too.
    """

    reference: Any
    moving: Any
    reference_validity: da.Array | Flags | None = None
    moving_validity: da.Array | Flags | None = None
    before: Any = None
    before_validity: da.Array | Flags | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays that there are, by the kernel's names."""
        return {name: array for name, array in vars(self).items() if array is not None}


@dataclass(frozen=True)
class PerItem:
    """A transform for each batch item, for blocks that have one.

    Parameters
    ----------
    ndim : int
        Axes of each transform.
    axes : tuple of int
        The batch axes whose places choose one.
    transforms : dict
        By place; an item without one is taken as it is.
    """

    ndim: int
    axes: tuple[int, ...]
    transforms: Mapping[Shape, Transform]

    def at(self, region: Roi) -> Transform | None:
        """Return the transform of the item that a region lies in."""
        return self.transforms.get(tuple(region[axis].start for axis in self.axes))


def _here(transform: Transform | PerItem | None, region: Roi) -> Transform | None:
    return transform.at(region) if isinstance(transform, PerItem) else transform


def from_storage(array: Any, chunks: Chunks | None = None) -> da.Array:
    """Return a stored array as dask blocks, by default of its storage chunks, so that each is decoded once."""
    grid = [len(c) for c in chunks] if chunks else [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    if sum(grid) > ALONG:
        message = (
            f"an image of shape {list(array.shape)} has {max(grid)} chunks along an axis: larger ones are accepted"
        )
        raise DoesNotFitError(message)
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks=chunks or array.chunks, name=False, meta=meta)


def _region(array: Any, region: Roi, grid: Chunks) -> da.Array:
    """Return a region of a pair's array, a stored one in blocks of `grid`."""
    return array[region] if isinstance(array, da.Array) else from_storage(Part(array, region), grid)


def validity(image: da.Array, mask: Any, nodata: float | tuple[float, ...] | None, ndim: int) -> da.Array | None:
    """Return 1 where `mask` is True and the sample is not (one of) `nodata`, else 0; None if neither is given."""
    parts: list[da.Array] = []
    if mask is not None:
        if tuple(mask.shape) not in (image.shape, image.shape[-ndim:]) or mask.dtype.kind != "b":
            message = (
                f"the mask has shape {list(mask.shape)} and dtype {mask.dtype}: bool of shape {list(image.shape)} "
                f"or {list(image.shape[-ndim:])} is accepted"
            )
            raise InputError(message)
        given = mask if isinstance(mask, da.Array) else da.from_array(mask, chunks="auto", name=False)
        parts.append(da.broadcast_to(given, image.shape).rechunk(image.chunks))
    given = () if nodata is None else nodata if isinstance(nodata, tuple) else (nodata,)
    if levels := tuple(level for level in given if not math.isnan(level)):
        meta = np.empty((0,) * image.ndim, np.uint8)
        parts.append(da.map_blocks(flagged, image, levels=levels, dtype=np.uint8, meta=meta))
    return reduce(da.logical_and, parts).astype(np.uint8) if parts else None


def among(image: Any, values: Sequence[int]) -> Any:
    """Return True where a sample is one of `values`."""
    return (da if isinstance(image, da.Array) else np).isin(image, list(values))


def on_grid(pair: Pair, region: Roi, grid: Chunks, transform: Transform | PerItem | None, order: int) -> Pair:
    """Return `region` of the reference with the moving image that belongs to it, pulled block by block of `grid`."""
    kept: dict[str, da.Array] = {}
    for name, array in pair.arrays.items():  # images first
        if transform is None or name in ("reference", "reference_validity"):
            own = name.removesuffix("_validity")
            kept[name] = array.on(kept[own], region, grid) if isinstance(array, Flags) else _region(array, region, grid)
    if transform is None:
        return Pair(**kept)
    here = replace(pair, **kept)
    return register(here, transform, order, tuple(s.start for s in region), grid)


def beside(here: Pair, stored: Pair) -> Pair:
    """Return a pair on its grid with the moving image of another one, which is as it is stored."""
    return replace(here, before=stored.moving, before_validity=stored.moving_validity)


def as_stored(pair: Pair, ndim: int) -> Transform | None:
    """Return what brings the moving image onto the reference's grid, pixel for pixel: None if it is on it."""
    return None if pair.moving.shape == pair.reference.shape else Translation((0.0,) * ndim)


def source_regions(pair: Pair, region: Roi, transform: Transform | PerItem | None, order: int) -> tuple[Roi, Roi]:
    """Return what a region of the reference's grid takes of both images."""
    transform = _here(transform, region)
    if transform is None:
        return region, region
    ndim = transform.ndim
    return region, (*region[:-ndim], *source_roi(transform, region[-ndim:], pair.moving.shape[-ndim:], order))


def register(pair: Pair, transform: Transform | PerItem, order: int, start: Shape, chunks: Chunks) -> Pair:
    """Pull the moving image onto the part of the reference's grid that begins at `start` and has `chunks`.

    A block reads the region that it needs and no more; where a displacement spreads that region wide, the block is
    split. A displacement field is read here, block by block, to know the regions.
    """
    shift = None if isinstance(transform, PerItem) else whole_pixels(transform, order)
    moving, valid = pair.moving, pair.moving_validity
    if shift is not None and not any((*shift, *start)) and moving.shape == pair.reference.shape:
        region = roi_of(start, moving.shape)
        whole = _region(moving, region, chunks)
        flagged_so = valid.on(whole, region, chunks) if isinstance(valid, Flags) else valid
        return replace(pair, moving=whole, moving_validity=flagged_so)
    counts = tuple(map(len, chunks))
    values = np.empty(counts, object)
    flags = np.empty(counts, object)
    starts = [np.cumsum([s, *c[:-1]]) for s, c in zip(start, chunks, strict=True)]
    for cell in np.ndindex(counts):
        roi = tuple(slice(int(s[i]), int(s[i]) + c[i]) for s, c, i in zip(starts, chunks, cell, strict=True))
        each = _here(transform, roi)
        most = SPREAD * math.prod(n + 4 for n in roi_shape(roi[-transform.ndim :]))
        values[cell], flags[cell] = (
            _kept(moving, valid, roi) if each is None else _pulled(moving, valid, each, roi, order, most)
        )
    if isinstance(transform, PerItem):
        # each is computed as if there were no others: dask would make floats of all where one is
        values = _declared(values)
    registered = (da.block(blocks.tolist()) for blocks in (values, flags))
    return replace(pair, **dict(zip(("moving", "moving_validity"), registered, strict=True)))


def _kept(moving: Any, valid: da.Array | Flags | None, roi: Roi) -> tuple[da.Array, da.Array]:
    """Return one block as it is stored."""
    grid = tuple((n,) for n in roi_shape(roi))
    block = _region(moving, roi, grid).rechunk(grid)
    if valid is None:
        return block, da.ones(roi_shape(roi), dtype=np.uint8, chunks=grid)
    return block, valid.on(block, roi, grid) if isinstance(valid, Flags) else valid[roi].rechunk(grid)


def _declared(blocks: Array) -> Array:
    """Return dask arrays that all say of themselves that they are float64, whatever they hold."""
    said = np.empty(blocks.shape, object)
    for cell in np.ndindex(blocks.shape):
        block: Any = blocks[cell]
        said[cell] = da.Array(block.dask, block.name, block.chunks, dtype=np.float64)
    return said


def _pulled(
    moving: Any, valid: da.Array | Flags | None, transform: Transform, roi: Roi, order: int, most: int
) -> tuple[da.Array, da.Array]:
    """Pull one block, in halves where its source region has more than `most` samples."""
    ndim = transform.ndim
    spatial = roi[-ndim:]
    source = source_roi(transform, spatial, moving.shape[-ndim:], order)
    shape = roi_shape(spatial)
    if math.prod(roi_shape(source)) > most:
        axis = int(np.argmax(shape)) + len(roi) - ndim
        s = roi[axis]
        middle = (s.start + s.stop) // 2
        halves = [
            _pulled(moving, valid, transform, (*roi[:axis], half, *roi[axis + 1 :]), order, most)
            for half in (slice(s.start, middle), slice(middle, s.stop))
        ]
        return tuple(da.concatenate(parts, axis=axis) for parts in zip(*halves, strict=True))
    region = (*roi[:-ndim], *source)
    # a partial, because dask would look for collections inside of a transform that is an argument
    task = partial(_pull, transform, roi=spatial, source=source, shape=moving.shape[-ndim:], order=order)
    block = moving[region] if isinstance(moving, da.Array) else delayed(partial(getitem, moving, region), pure=False)()
    flags = None if valid is None else valid.at(block, region) if isinstance(valid, Flags) else valid[region]
    both = delayed(task)(block, flags)
    keeps = order == 0 or whole_pixels(transform, order) is not None
    return (
        da.from_delayed(both[0], roi_shape(roi), moving.dtype if keeps else np.float64),
        da.from_delayed(both[1], roi_shape(roi), np.uint8),
    )


def _pull(transform: Transform, block: Array, valid: Array | None, **frame: Any) -> tuple[Array, Array]:
    return pull(transform, block, valid, **frame)


def view(pair: Pair, region: Roi, transform: Transform | PerItem | None, order: int) -> tuple[da.Array, da.Array]:
    """Return both images on `region` of the reference, NaN where there is no valid sample."""
    here = on_grid(pair, region, pair.reference[region].chunks, transform, order)
    return seen(here.reference, here.reference_validity), seen(here.moving, here.moving_validity)


def seen(image: da.Array, valid: Any) -> da.Array:
    """Return an image with NaN where there is no valid sample."""
    return image if valid is None else da.where(valid == 1, image, np.float32(np.nan))


def both_at(
    reference: Any,
    moving: Any,
    places: Sequence[tuple[Roi, Roi]],
    function: Callable[[Array, Array, Roi, Roi], Result],
) -> list[Result]:
    """Call ``function(reference[a], moving[b], a, b)`` for each ``(a, b)`` of `places`; return the results in order."""
    # a partial, because dask would look for collections inside of the regions
    calls = [
        delayed(partial(_at, function, place), pure=False)(_single(reference[place[0]]), _single(moving[place[1]]))
        for place in places
    ]
    with one_thread_a_product():
        return list(compute(*calls))


def _single(block: Any) -> Any:
    """Return a dask array as one delayed block: dask would import distributed to make it one."""
    return block.rechunk(-1, method="tasks").to_delayed().item() if isinstance(block, da.Array) else block


def _at(function: Callable[[Array, Array, Roi, Roi], Result], place: tuple[Roi, Roi], a: Array, b: Array) -> Result:
    return function(a, b, *place)


def on_threads(count: int) -> AbstractContextManager[Any]:
    """Compute on `count` threads of this process within the context."""
    # by its function: for the name of a scheduler dask imports distributed
    return dask.config.set(scheduler=threaded.get, num_workers=count)


def where_valid(ncc: da.Array, status: da.Array) -> da.Array:
    """Return the coefficients whose status is 1, NaN elsewhere."""
    return da.where(status == 1, ncc, np.float32(np.nan))


Where = Executor | Literal["here"] | None
"""On what dask computes: a pool that several share, the calling thread, or what `on_threads` says."""


def _options(where: Where) -> dict[str, Any]:
    if where == "here":
        return {"scheduler": local.get_sync}
    return {} if where is None else {"scheduler": threaded.get, "pool": where}


def each(blocks: da.Array, function: Callable[[Any, Roi], Any], start: Shape, where: Where = None) -> list[Any]:
    """Call ``function(block, roi)`` on every block where and when it is computed; return the results in order.

    `start` is where the first block begins.
    """
    if blocks.npartitions > ATONCE:
        message = f"an image of shape {list(blocks.shape)} would be looked at in {blocks.npartitions} blocks: at most "
        message += f"{ATONCE} are accepted, of an image with larger chunks or with coarser levels"
        raise DoesNotFitError(message)
    rois = np.empty(blocks.numblocks, object)
    starts = [np.cumsum([s, *c[:-1]]) for s, c in zip(start, blocks.chunks, strict=True)]
    for cell in np.ndindex(rois.shape):
        begin = tuple(int(s[i]) for s, i in zip(starts, cell, strict=True))
        rois[cell] = roi_of(begin, tuple(c[i] for c, i in zip(blocks.chunks, cell, strict=True)))
    one = np.empty((0,) * blocks.ndim, object)
    results = da.map_blocks(
        _call, blocks, da.from_array(rois, chunks=1), function=function, dtype=object, meta=one,
        chunks=tuple((1,) * n for n in blocks.numblocks),
    )  # fmt: skip
    return np.asarray(results.compute(**_options(where))).ravel().tolist()


def all_of(function: Callable[[Any], Result], items: Iterable[Any], where: Where = None) -> list[Result]:
    """Call a function on each of some items, one task each; return the results in order."""
    return list(compute(*(delayed(partial(function, item), pure=False)() for item in items), **_options(where)))


def one(item: Any) -> Any:
    """Return what a delayed value becomes, computed on this thread."""
    return item.compute(scheduler=local.get_sync)


def block_mean(image: da.Array, factors: Shape) -> Array:
    """Return the mean of the finite samples in each cell of `factors` pixels, streamed; NaN where there is none."""
    shape = tuple(-(-n // k) for n, k in zip(image.shape, factors, strict=True))
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    for cells, sums, counts in each(image, partial(_in_cells, factors=factors), (0,) * image.ndim):
        total[cells] += sums
        count[cells] += counts
    with np.errstate(invalid="ignore"):
        mean: Array = total / count
        return mean


def _in_cells(block: Array, roi: Roi, factors: Shape) -> tuple[Roi, Array, Array]:
    """Return which cells a block lies in, and the sums and numbers of its finite samples in each."""
    cells = tuple(slice(s.start // k, -(-s.stop // k)) for s, k in zip(roi, factors, strict=True))
    edges = [
        [max(0, i * k - s.start) for i in range(c.start, c.stop)] for c, s, k in zip(cells, roi, factors, strict=True)
    ]
    finite = np.isfinite(block) if block.dtype.kind == "f" else None
    if finite is None or finite.all():
        widths = (np.diff([*starts, n]) for starts, n in zip(edges, block.shape, strict=True))
        counts: Array = reduce(np.multiply, np.ix_(*widths))
        return cells, _sums(block, edges), counts
    return cells, _sums(np.where(finite, block, 0), edges), _sums(finite, edges)


def _sums(block: Array, edges: list[list[int]]) -> Array:
    total, exact = block, block.dtype.kind != "f" and block.dtype.itemsize < 8
    # the last axis first: its samples lie side by side, and after it there are few
    for axis in reversed(range(block.ndim)):
        total = np.add.reduceat(total, edges[axis], axis, dtype=np.int64 if exact else np.float64)
    return total


def _call(block: Any, roi: Array, function: Callable[[Any, Roi], Any]) -> Array:
    result = np.empty(roi.shape, object)
    result[(0,) * roi.ndim] = function(block, roi.item())
    return result
