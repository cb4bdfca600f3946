"""The shift map of dask arrays: nodes searched block by block."""

from __future__ import annotations

from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed

from bigncc import shift
from bigncc.filtering import prefiltered
from bigncc.kernel import Pivots
from bigncc.lazy import applied, filter_of, paired, pivot_of
from bigncc.maps import Asked
from bigncc.nodes import QUALITY, Nodes, check_fits, components, first_node, node_counts, search_of
from bigncc.pair import Chunks, Pair, PerItem, on_grid
from bigncc.prefilter import UNFILTERED, Prefilter
from bigncc.registration import Registration
from bigncc.tiles import Shape, Tile, roi_pad, roi_shape, roi_shift, roi_within
from bigncc.transform import Transform
from bigncc.window import Window, as_window, check_box


def shift_map(
    reference: Any,
    moving: Any,
    window: int | tuple[int, ...] | Window = 7,
    *,
    step: int | tuple[int, ...] | None = None,
    search_radius: int | tuple[int, ...] = 8,
    transform: Transform | Registration | None = None,
    order: int = 1,
    pivot: Pivots | None = None,
    prefilter: Prefilter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Do what `bigncc.shift_map` does, for numpy and dask arrays; `options` as for `paired`."""
    is_lazy = any(isinstance(image, da.Array) for image in (reference, moving))
    window, transform = as_window(window), applied(transform)
    check_box(window, "shift")
    steps, reach = search_of(window.shape, step, search_radius)
    pair = paired(reference, moving, window, same_shape=transform is None, **options)
    shape, chosen = pair.reference.shape, filter_of(prefilter)
    check_fits(shape[-window.ndim :], steps)
    steps = (1,) * (len(shape) - window.ndim) + steps
    margin = Asked(prefilter=chosen).margin(window.radius, len(shape), reach)
    grid = Nodes(node_counts(shape, steps), steps, shape, shape, margin)
    constants = pivot if pivot is not None else (pivot_of(pair.reference), pivot_of(pair.moving))
    cells = _node_blocks(pair.reference.chunks, grid)
    parts = np.empty(tuple(map(len, cells)), object)
    start = (0,) * len(shape)
    for cell in np.ndindex(parts.shape):
        write = tuple(spans[i] for spans, i in zip(cells, cell, strict=True))
        part = Tile(0, write, roi_pad(grid.pixels(write), margin, shape), nodes=True)
        found = vectors(pair, window, reach, constants, part, grid, start, transform, order, chosen)
        size = (window.ndim + len(QUALITY), *roi_shape(write))
        parts[cell] = da.from_delayed(found, size, np.float32)
    whole = da.block(parts.tolist()) if parts.size > 1 else parts.item()
    names = components(("z", "y", "x")[-window.ndim :])
    arrays = dict(zip(names, whole, strict=True))
    if is_lazy:
        return arrays
    scheduler = dask.config.get("scheduler", None) or "threads"
    return dict(zip(names, compute(*arrays.values(), scheduler=scheduler), strict=True))


def _node_blocks(chunks: Chunks, grid: Nodes) -> list[list[slice]]:
    """Return the nodes of each block of an image along each axis; blocks without a node go with their neighbours."""
    found = []
    for sizes, count, step, first in zip(chunks, grid.shape, grid.step, first_node(grid.step), strict=True):
        ends = (min(count, max(0, -(-(stop - first) // step))) for stop in accumulate(sizes))
        edges = sorted({0, count, *ends})
        found.append([slice(a, b) for a, b in pairwise(edges)])
    return found


def vectors(
    pair: Pair,
    window: Window,
    reach: Shape,
    pivot: Pivots,
    part: Tile,
    grid: Nodes,
    origin: Shape,
    transform: Transform | PerItem | None,
    order: int,
    prefilter: Prefilter = UNFILTERED,
) -> Any:
    """Search the displacements of some nodes of a pair.

    Parameters
    ----------
    pair, window, pivot, origin, transform, order
        As for `tile`.
    reach : tuple of int
        As for `bigncc.shift.local`.
    part : Tile
        ``write`` are nodes of `grid`, ``read`` pixels of the reference.
    grid : Nodes
        Where they are.
    prefilter : Prefilter
        Of both images.

    Returns
    -------
    Delayed
        What `bigncc.shift.local` returns of them.
    """
    here = on_grid(pair, part.read, tuple((n,) for n in roi_shape(part.read)), transform, order)
    pixels = roi_within(roi_shift(grid.pixels(part.write), origin), part.read)
    nodes = tuple(range(s.start, s.stop, step) for s, step in zip(pixels, grid.step, strict=True))[-window.ndim :]
    return delayed(partial(_search, prefilter, window=window, reach=reach, nodes=nodes), pure=False)(
        pivot=pivot, **here.arrays
    )


def _search(
    prefilter: Prefilter, *, window: Window, reach: Shape, nodes: tuple[range, ...], pivot: Pivots, **images: Any
) -> Any:
    if prefilter:
        around = tuple(map(sum, zip(window.radius, reach, strict=True)))
        spans = tuple(slice(each[0], each[-1] + 1) for each in nodes)
        images, core, pivot = prefiltered(images, spans, around, prefilter, pivot)
        moved = zip(nodes, core, spans, strict=True)
        nodes = tuple(range(c.start, each.stop - s.start + c.start, each.step) for each, c, s in moved)
    return shift.local(images.pop("reference"), images.pop("moving"), window, reach, nodes, pivot=pivot, **images)
