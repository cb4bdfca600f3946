"""The same correlation for dask arrays: validity, pull, `map_overlap`, kernel.

Each block knows its core, not its place: the halo comes from `map_overlap(boundary="none")`, which adds real
neighbours inside and nothing at the image's edge, where the window's border acts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from bigncc import kernel
from bigncc.errors import InputError
from bigncc.tiles import Roi, Shape, Tile, cut, roi_of, roi_shape, roi_shift, roi_within
from bigncc.transform import Transform, pull, source_roi, whole_pixels
from bigncc.window import Window, as_window

Array = NDArray[Any]
Pivot = tuple[float, float]
Chunks = tuple[tuple[int, ...], ...]

MAPS = ("ncc", "status")

SPREAD = 4
"""A block is split where the region that it pulls has more than this many times its own samples."""


@dataclass(frozen=True)
class Pair:
    """Two images on the reference's grid, each with its validity or None where all samples are valid."""

    reference: da.Array
    moving: da.Array
    reference_validity: da.Array | None = None
    moving_validity: da.Array | None = None

    @property
    def arrays(self) -> dict[str, da.Array]:
        """The arrays that there are, by the kernel's names."""
        return {name: array for name, array in vars(self).items() if array is not None}


def local_maps(
    reference: Any,
    moving: Any,
    window: int | tuple[int, ...] | Window = 7,
    maps: Sequence[str] = MAPS,
    *,
    transform: Transform | None = None,
    order: int = 1,
    reference_mask: Any = None,
    moving_mask: Any = None,
    nodata: float | tuple[float | None, float | None] | None = None,
    pivot: Pivot | None = None,
) -> dict[str, Any]:
    """Correlate two images around each pixel and say why where there is no value.

    Parameters
    ----------
    reference, moving : ndarray or dask.array.Array, ``[..., [z,] y, x]``
        Real images; axes in front of the window's are batches. Without `transform` of the same shape, with it of the
        same batch shape.
    window : int, tuple of int or Window
        Size of the window in pixels and its rules; an int means ``(y, x)``.
    maps : sequence of str
        Which of ``"ncc"`` and ``"status"``.
    transform : Transform, optional
        From reference pixels to moving pixels; the moving image is pulled through it.
    order : {0, 1, 3}
        Interpolation: nearest, linear, or cubic convolution.
    reference_mask, moving_mask : array of bool, optional
        True where a sample is valid; of the image's shape or of its windowed axes' shape.
    nodata : float or tuple of (float or None), optional
        Grey level that means "no sample", for both images or for each.
    pivot : tuple of float, optional
        Constant to subtract from reference and moving where they are correlated as floats; by default the median of
        a lattice of five points per axis.

    Returns
    -------
    dict
        ``"ncc"`` float32 in [-1, 1] or NaN, ``"status"`` uint8; each of the reference's shape, dask arrays for dask
        input and numpy arrays otherwise.

    Raises
    ------
    InputError
        If shapes, dtypes or parameters do not fit.
    """
    if unknown := [name for name in maps if name not in MAPS]:
        message = f"maps has {unknown[0]!r}: {', '.join(MAPS)} are accepted"
        raise InputError(message)
    is_lazy = any(isinstance(image, da.Array) for image in (reference, moving))
    window = as_window(window)
    first, second = _as_dask(reference, window), _as_dask(moving, window)
    check_images(first.shape, second.shape, window, same_shape=transform is None)
    kernel.common_dtype(first.dtype, second.dtype)
    levels = nodata if isinstance(nodata, tuple) else (nodata, nodata)
    pair = Pair(
        first,
        second,
        validity(first, reference_mask, levels[0], window.ndim),
        validity(second, moving_mask, levels[1], window.ndim),
    )
    constants = pivot if pivot is not None else (_pivot(first), _pivot(second))
    chunks = _block_grid(first.chunks, window)
    if transform is not None:
        pair = register(pair, transform, order, (0,) * first.ndim, chunks)
    result = correlate(pair, window, constants, chunks, (0,) * first.ndim)
    arrays = {name: _field(result, name, chunks) for name in maps}
    if is_lazy:
        return arrays
    scheduler = dask.config.get("scheduler", None) or "threads"
    return dict(zip(maps, dask.compute(*arrays.values(), scheduler=scheduler), strict=True))


def ncc(reference: Any, moving: Any, window: int | tuple[int, ...] | Window = 7, **options: Any) -> Any:
    """Normalised cross-correlation (Pearson's r) of the windows around each pixel.

    Parameters
    ----------
    reference, moving, window
        As for `local_maps`.
    **options
        As for `local_maps`, but for ``maps``.

    Returns
    -------
    ndarray or dask.array.Array, float32, ``[..., [z,] y, x]``
        In [-1, 1]; `Window.flat` where there is no contrast, NaN where there are too few valid samples.
    """
    return local_maps(reference, moving, window, ("ncc",), **options)["ncc"]


def check_images(
    reference: Shape, moving: Shape, window: Window, *, same_shape: bool, named: bool = False
) -> None:
    """Refuse a pair of shapes that cannot be correlated.

    Raises
    ------
    InputError
        With both shapes, or the window's and the image's.
    """
    ndim = window.ndim
    for name, shape in (("reference", reference), ("moving", moving)):
        if len(shape) < ndim:
            message = f"the {name} image has shape {list(shape)}: at least {ndim} axes are accepted with this window"
            raise InputError(message)
        if len(shape) > 2 and shape[-1] in (3, 4) and not named:
            message = f"the {name} image has shape {list(shape)}, a colour image: one channel of it is accepted"
            raise InputError(message)
    differ = reference != moving if same_shape else reference[:-ndim] != moving[:-ndim]
    if differ or len(reference) != len(moving):
        what = "equal shapes" if same_shape else "equal axes in front of the window's"
        message = f"the images have shapes {list(reference)} and {list(moving)}: {what} are accepted"
        raise InputError(message)
    for size, length in zip(window.shape, reference[-ndim:], strict=True):
        if 0 < length < size:
            message = (
                f"window.size is {list(window.shape)}, larger than the image of {list(reference[-ndim:])}: "
                "a window that fits into the image is accepted"
            )
            raise InputError(message)


def validity(image: da.Array, mask: Any, nodata: float | None, ndim: int) -> da.Array | None:
    """Return 1 where `mask` is True and the sample is not `nodata`, else 0; None if neither is given."""
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
    if nodata is not None and not math.isnan(nodata):
        parts.append(image != nodata)
    return reduce(da.logical_and, parts).astype(np.uint8) if parts else None


def register(pair: Pair, transform: Transform, order: int, start: Shape, chunks: Chunks) -> Pair:
    """Pull the moving image onto the part of the reference's grid that begins at `start` and has `chunks`.

    A block reads the region that it needs and no more; where a displacement spreads that region wide, the block is
    split. A displacement field is read here, block by block, to know the regions.
    """
    shift = whole_pixels(transform, order)
    moving, valid = pair.moving, pair.moving_validity
    if shift is not None and not any(shift) and roi_shape(roi_of(start, moving.shape)) == pair.reference.shape:
        return pair
    counts = tuple(map(len, chunks))
    values = np.empty(counts, object)
    flags = np.empty(counts, object)
    starts = [np.cumsum([s, *c[:-1]]) for s, c in zip(start, chunks, strict=True)]
    for cell in np.ndindex(counts):
        roi = tuple(slice(int(s[i]), int(s[i]) + c[i]) for s, c, i in zip(starts, chunks, cell, strict=True))
        values[cell], flags[cell] = _pulled(moving, valid, transform, roi, order)
    registered = (da.block(blocks.tolist()) for blocks in (values, flags))
    return replace(pair, **dict(zip(("moving", "moving_validity"), registered, strict=True)))


def _pulled(
    moving: da.Array, valid: da.Array | None, transform: Transform, roi: Roi, order: int
) -> tuple[da.Array, da.Array]:
    """Pull one block, in halves where its source region is too large."""
    ndim = transform.ndim
    spatial = roi[-ndim:]
    source = source_roi(transform, spatial, moving.shape[-ndim:], order)
    shape = roi_shape(spatial)
    if math.prod(roi_shape(source)) > SPREAD * math.prod(n + 4 for n in shape):
        axis = int(np.argmax(shape)) + len(roi) - ndim
        s = roi[axis]
        middle = (s.start + s.stop) // 2
        halves = [
            _pulled(moving, valid, transform, (*roi[:axis], half, *roi[axis + 1 :]), order)
            for half in (slice(s.start, middle), slice(middle, s.stop))
        ]
        return tuple(da.concatenate(parts, axis=axis) for parts in zip(*halves, strict=True))  # type: ignore[return-value]
    region = (*roi[:-ndim], *source)
    task = partial(pull_block, transform=transform, roi=spatial, source=source, shape=moving.shape[-ndim:], order=order)
    both = dask.delayed(task)(moving[region], None if valid is None else valid[region])
    keeps = order == 0 or whole_pixels(transform, order) is not None
    return (
        da.from_delayed(both[0], roi_shape(roi), moving.dtype if keeps else np.float64),
        da.from_delayed(both[1], roi_shape(roi), np.uint8),
    )


def pull_block(
    block: Array, valid: NDArray[np.uint8] | None, *, transform: Transform, roi: Roi, source: Roi, shape: Shape, order: int
) -> tuple[Array, NDArray[np.uint8]]:
    """Pull one block through `transform`; see `bigncc.transform.pull`."""
    return pull(transform, block, valid, roi, source, shape, order)


def correlate(pair: Pair, window: Window, pivot: Any, chunks: Chunks, lead: Shape) -> da.Array:
    """Correlate a pair block by block.

    Parameters
    ----------
    pair : Pair
        Arrays of one shape, at least that of `chunks`.
    window : Window
        Its radius is the halo.
    pivot : tuple of (float or Delayed)
        For float images.
    chunks : tuple of tuple of int
        Blocks of the result; along windowed axes none but a single one is smaller than the radius.
    lead : tuple of int
        Where the result begins in the arrays; samples before and after it are context.

    Returns
    -------
    dask.array.Array of object
        One `bigncc.kernel.Block` per block.
    """
    ndim = pair.reference.ndim
    radius = (0,) * (ndim - window.ndim) + window.radius
    depth = {axis: r if len(chunks[axis]) > 1 else 0 for axis, r in enumerate(radius)}
    extended = tuple(
        _extended(c, before, n) for c, before, n in zip(chunks, lead, pair.reference.shape, strict=True)
    )
    cells = np.empty(tuple(map(len, chunks)), object)
    for cell in np.ndindex(cells.shape):
        begins = (before if i == 0 else depth[a] for a, (before, i) in enumerate(zip(lead, cell, strict=True)))
        cells[cell] = roi_of(tuple(begins), tuple(c[i] for c, i in zip(chunks, cell, strict=True)))[-window.ndim :]
    arrays = pair.arrays
    return da.map_overlap(  # type: ignore[no-any-return]
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
    )


def tile(
    pair: Pair, window: Window, pivot: Pivot, tile: Tile, origin: Shape, block: Shape, transform: Transform | None, order: int
) -> da.Array:
    """Correlate one tile of a stored pair in blocks of about `block` pixels.

    Parameters
    ----------
    pair : Pair
        Whole images, lazily.
    window, pivot, transform, order
        As for `local_maps`.
    tile : Tile
        ``write`` in the frame of the output, ``read`` in that of the reference.
    origin : tuple of int
        Where the output begins on the reference's grid.
    block : tuple of int
        Whole objects of the output.

    Returns
    -------
    dask.array.Array of object
        One `bigncc.kernel.Block` per block of ``tile.write``.
    """
    radius = (0,) * (len(block) - window.ndim) + window.radius
    sizes = roi_shape(tile.write)
    chunks = tuple(merged(cut(n, b), r) for n, b, r in zip(sizes, block, radius, strict=True))
    inner = roi_within(roi_shift(tile.write, origin), tile.read)
    lead = tuple(s.start for s in inner)
    grid = tuple(_extended(c, n, m) for c, n, m in zip(chunks, lead, roi_shape(tile.read), strict=True))
    here = on_grid(pair, tile.read, grid, transform, order)
    return correlate(here, window, pivot, chunks, lead)


def each(blocks: da.Array, function: Callable[[Any, Roi], Any], start: Shape) -> list[Any]:
    """Call ``function(block, roi)`` on every block where and when it is computed; return the results in order.

    `start` is where the first block begins.
    """
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
    return np.asarray(results.compute()).ravel().tolist()


def from_storage(array: Any) -> da.Array:
    """Return a stored array as dask blocks of its storage chunks, so that each is decoded once."""
    return da.from_array(array, chunks=array.chunks, name=False, meta=np.empty((0,) * array.ndim, array.dtype))


def _block(*arrays: Any, names: Iterable[str], window: Window, pivot: Pivot) -> Any:
    *images, cell = arrays
    named = dict(zip(names, images, strict=True))
    return kernel.local(
        named.pop("reference"), named.pop("moving"), window, core=cell.item(), pivot=pivot, **named
    )


def _call(block: Any, roi: Array, function: Callable[[Any, Roi], Any]) -> Array:
    result = np.empty(roi.shape, object)
    result[(0,) * roi.ndim] = function(block, roi.item())
    return result


def _field(blocks: da.Array, name: str, chunks: Chunks) -> da.Array:
    meta = np.empty((0,) * blocks.ndim, np.float32 if name == "ncc" else np.uint8)
    return da.map_blocks(getattr, blocks, name, dtype=meta.dtype, meta=meta, chunks=chunks)


def _extended(chunks: tuple[int, ...], before: int, length: int) -> tuple[int, ...]:
    """Return `chunks` with the context before and after them given to the outermost blocks."""
    sizes = list(chunks)
    sizes[0] += before
    sizes[-1] += length - before - sum(chunks)
    return tuple(sizes)


def _block_grid(chunks: Chunks, window: Window) -> Chunks:
    """Merge neighbouring blocks until none is smaller than the radius."""
    batch = len(chunks) - window.ndim
    return chunks[:batch] + tuple(
        merged(sizes, radius) for sizes, radius in zip(chunks[batch:], window.radius, strict=True)
    )


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
    array = np.asarray(image)
    side = 1024 if window.ndim == 2 else 64
    inner = tuple(max(side, 4 * r) for r in window.radius)
    block = (1,) * (array.ndim - window.ndim) + inner[-array.ndim :]
    chunks = tuple(cut(n, b) or (0,) for n, b in zip(array.shape, block, strict=True))
    return da.from_array(array, chunks=chunks, name=False)


def _pivot(image: da.Array) -> Any:
    """Return the image's pivot, to be computed with the blocks."""
    if 0 in image.shape:
        return 0.0
    sample = image
    for axis, points in enumerate(kernel.lattice(image.shape)):
        sample = da.take(sample, list(points), axis=axis)
    return dask.delayed(kernel.lattice_pivot)(sample)


def among(image: da.Array, values: Sequence[int]) -> da.Array:
    """Return True where a sample is one of `values`."""
    return da.isin(image, list(values))  # type: ignore[no-any-return]


def on_grid(pair: Pair, region: Roi, grid: Chunks, transform: Transform | None, order: int) -> Pair:
    """Return `region` of the reference with the moving image that belongs to it, pulled block by block of `grid`."""
    kept = {
        name: array[region]
        for name, array in pair.arrays.items()
        if transform is None or name in ("reference", "reference_validity")
    }
    if transform is None:
        return Pair(**kept)
    here = replace(pair, **kept)
    return register(here, transform, order, tuple(s.start for s in region), grid)


def view(pair: Pair, region: Roi, transform: Transform | None, order: int) -> tuple[da.Array, da.Array]:
    """Return both images on `region` of the reference, NaN where there is no valid sample."""
    here = on_grid(pair, region, pair.reference[region].chunks, transform, order)
    images = ((here.reference, here.reference_validity), (here.moving, here.moving_validity))
    return tuple(  # type: ignore[return-value]
        image if valid is None else da.where(valid == 1, image, np.float32(np.nan)) for image, valid in images
    )


def where_valid(ncc: da.Array, status: da.Array) -> da.Array:
    """Return the coefficients whose status is 1, NaN elsewhere."""
    return da.where(status == 1, ncc, np.float32(np.nan))


def block_mean(image: da.Array, factors: Shape) -> Array:
    """Return the mean of the finite samples of each block of `factors` pixels, streamed; NaN where there is none."""
    padded = da.pad(
        image.astype(np.float32), [(0, -n % k) for n, k in zip(image.shape, factors, strict=True)], constant_values=np.nan
    )
    aligned = padded.rechunk(tuple(_whole(c, k) for c, k in zip(padded.chunks, factors, strict=True)))
    return np.asarray(
        da.map_blocks(
            _mean_of_finite, aligned, factors=factors, dtype=np.float32, meta=np.empty((0,) * image.ndim, np.float32),
            chunks=tuple(tuple(n // k for n in c) for c, k in zip(aligned.chunks, factors, strict=True)),
        ).compute()
    )  # fmt: skip


def _whole(sizes: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Return block sizes near `sizes` that are multiples of `factor`."""
    edges = sorted({round(edge / factor) * factor for edge in np.cumsum((0, *sizes))})
    return tuple(int(b - a) for a, b in zip(edges, edges[1:], strict=False))


def _mean_of_finite(block: Array, factors: Shape) -> Array:
    shape = tuple(part for n, k in zip(block.shape, factors, strict=True) for part in (n // k, k))
    cells = block.reshape(shape)
    axes = tuple(range(1, 2 * block.ndim, 2))
    finite = np.isfinite(cells)
    count = finite.sum(axis=axes)
    total = np.where(finite, cells, np.float32(0)).sum(axis=axes, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)
