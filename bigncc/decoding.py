"""How many pixels of the images are decoded for each pixel of the output."""

import math
from collections.abc import Iterator
from dataclasses import replace

from bigncc import stack
from bigncc.capacity import Means
from bigncc.inputs import Inputs
from bigncc.reading import cell_of
from bigncc.resampling import source_roi
from bigncc.storage import View
from bigncc.tiles import Plan, Roi, Shape, Tile, roi_cells, roi_shape
from bigncc.transform import Displacement, Transform

LOOKED_AT = 2**14
"""Blocks of which it is looked up what they take of the moving image."""

NODES = 2**24
"""Nodes of a displacement field that are read for this, at most."""


def decode_overhead(inputs: Inputs, grid: Plan, means: Means) -> dict[str, float]:
    """Return how many pixels of each image are decoded for each pixel of the output.

    Of the moving image only what a given transform takes of it is known; of many tiles some speak for all.
    """
    if inputs.stack is not None:
        role = inputs.reference.array
        kept = means.cache // role.dtype.itemsize
        return {"stack": stack.decode_overhead(inputs.stack, grid, _cell(role, means), kept)}
    kinds = _kinds(grid)
    found = {"reference": sum(_straight(inputs.reference.array, each, means) for each in kinds)}
    if not inputs.pulled:
        found["moving image"] = sum(_straight(inputs.moving.array, each, means) for each in kinds)
    elif (given := inputs.given) is not None:
        found["moving image"] = sum(_pulled(inputs.moving.array, inputs, given, each, means) for each in kinds)
    return found


def _kinds(grid: Plan) -> list[Plan]:
    """Return the tiles of pixels and those of nodes each as a plan of pixels."""
    plain = replace(grid, nodes=None)
    if (nodes := grid.nodes) is None:
        return [plain]
    tile = tuple(t * s for t, s in zip(nodes.tile, nodes.step, strict=True))
    return [plain, replace(plain, tile=tile, margin=nodes.margin)]


def _cell(image: View, means: Means) -> Shape:
    return cell_of(image.chunks, image.shape, means.at_once)


def _fits(image: View, waiting: int, means: Means) -> bool:
    """Say whether what waits for other tiles can be kept: half of the cache is for each image."""
    return 2 * waiting * image.dtype.itemsize <= means.cache


def _straight(image: View, grid: Plan, means: Means) -> float:
    """Return how much is decoded of an image on the reference's grid."""
    cell = _cell(image, means)
    waiting = min(grid.waiting(cell), math.prod(image.shape))
    decoded = grid.decoded_once(cell) if _fits(image, waiting, means) else grid.decoded(cell)
    return decoded / math.prod(grid.shape)


def _pulled(image: View, inputs: Inputs, transform: Transform, grid: Plan, means: Means) -> float:
    """Return the share of an image that is pulled through a transform, by the chunks that each tile takes."""
    chosen = _chosen(grid, means, transform)
    taken, cell = [], _cell(image, means)
    for index in chosen:
        regions = _regions(grid, grid[index], means, transform, image.shape, inputs.config.registration.order)
        taken.append({at for region in regions for at in roi_cells(region, cell)})
    every = {at for cells in taken for at in cells}
    size = {at: _size(at, cell, image.shape) for at in every}
    if len(chosen) == grid.base and _fits(image, _waiting(taken, size), means):
        return sum(size.values()) / math.prod(grid.shape)
    written = sum(math.prod(roi_shape(grid[index].write)) for index in chosen)
    return sum(size[at] for cells in taken for at in cells) / written


def _chosen(grid: Plan, means: Means, transform: Transform) -> list[int]:
    """Return all tiles, or as many of them, evenly spread, as may be looked at."""
    most = LOOKED_AT // len(grid.parts(grid[0], means.block))
    if isinstance(transform, Displacement):
        nodes = math.prod(
            -(-n // s) + 1 for n, (_, s, _) in zip(grid.tile[-transform.ndim :], transform.grid, strict=True)
        )
        most = min(most, NODES // nodes)
    count = min(grid.base, max(1, most))
    return [(2 * i + 1) * grid.base // (2 * count) for i in range(count)]


def _regions(grid: Plan, tile: Tile, means: Means, transform: Transform, shape: Shape, order: int) -> Iterator[Roi]:
    """Yield what the blocks of a tile take of the moving image, as far as they take something."""
    ndim = transform.ndim
    for part in grid.parts(tile, means.block):
        source = source_roi(transform, part.read[-ndim:], shape[-ndim:], order)
        if 0 not in roi_shape(source):
            yield (*part.read[:-ndim], *source)


def _size(at: Shape, cell: Shape, shape: Shape) -> int:
    return math.prod(min(c, n - i * c) for i, c, n in zip(at, cell, shape, strict=True))


def _waiting(taken: list[set[Shape]], size: dict[Shape, int]) -> int:
    """Return how many decoded pixels wait at most, with tiles in their order, until all who want them have come."""
    last = {at: number for number, cells in enumerate(taken) for at in cells}
    kept, most = 0, 0
    seen: set[Shape] = set()
    for number, cells in enumerate(taken):
        new = cells - seen
        seen |= new
        kept += sum(size[at] for at in new)
        most = max(most, kept)
        kept -= sum(size[at] for at in cells if last[at] == number)
    return most
