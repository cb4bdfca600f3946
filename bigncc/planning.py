"""How an output is cut into tiles: as large as memory allows, and with what is left of the pyramid after them."""

import math
from collections.abc import Iterable
from dataclasses import replace

from bigncc.errors import DoesNotFitError
from bigncc.tiles import Plan, Round, Shape, aligned, coarse


def with_pyramid(plan: Plan, objects: Shape, halved: int, levels: Shape, pixels: int) -> Plan:
    """Return the plan of an output with coarser levels.

    A level goes with the tiles as far as these are whole objects of it, or all of the image, along each axis.

    Parameters
    ----------
    plan : Plan
        Its tiles are whole objects of the finest stored level.
    objects : tuple of int
        Extent of a storage object of any level but the finest, where the level is as large.
    halved : int
        How many trailing axes are halved.
    levels : tuple of int
        The stored levels, consecutive.
    pixels : int
        Pixels that a tile of a round reads at most, if objects are so small.
    """
    axes = list(zip(plan.tile, objects, plan.shape, strict=True))[len(plan.shape) - halved :]

    def whole(level: int) -> bool:
        # blocks of an odd extent would cut cells
        return all(t >= n or (t % (o << level) == 0 and (levels[0] > 0 or o % 2 == 0)) for t, o, n in axes)

    own = max(k for k in levels if k == levels[0] or whole(k))
    rounds: list[Round] = []
    source = own
    while source < levels[-1]:
        shape, step = coarse(plan.shape, source, halved), 1

        def extent(step: int, shape: Shape = shape) -> Shape:
            fixed = len(shape) - halved
            axes = enumerate(zip(objects, shape, strict=True))
            return tuple(min(n, o << step if i >= fixed else o) for i, (o, n) in axes)

        while source + step < levels[-1] and math.prod(extent(step + 1)) <= pixels:
            step += 1
        rounds.append(Round(source, source + step, extent(step)))
        source += step
    return replace(plan, halved=halved, levels=levels, own=own, rounds=tuple(rounds))


def largest_tile(
    shape: Shape,
    objects: Shape,
    margin: Shape,
    grain: Shape,
    *,
    samples: int,
    pixels: int,
    tiles: int,
    fixed: int,
    steps: Iterable[Shape] = (),
) -> Shape:
    """Choose the extent of a tile: whole objects, as large as allowed, nearly square in pixels.

    Parameters
    ----------
    shape, objects, margin, grain : tuple of int
        Extents of the image, of one of the output's objects, of what a tile needs around it, and of an input chunk.
    samples : int
        Decoded pixels of one image that fit the memory at once.
    pixels : int
        Pixels that a tile shall have at most, if objects are so small.
    tiles : int
        Number of tiles there shall be at least, if there are that many objects.
    fixed : int
        Leading axes along which a tile is one object long, or one step.
    steps : iterable of tuple of int
        What a tile shall be a multiple of, the first that fits the memory: whole objects. By default one of them.

    Returns
    -------
    tuple of int

    Raises
    ------
    DoesNotFitError
        If a single object with its margin needs more than `samples`.
    """

    def needs(tile: Shape) -> int:
        return math.prod(aligned(tile, margin, grain, shape))

    def count(tile: Shape) -> int:
        return math.prod(-(-n // t) for n, t in zip(shape, tile, strict=True))

    step = next((each for each in steps if needs(each) <= samples), objects)
    tile = step
    if needs(tile) > samples:
        message = (
            f"one output object of {list(objects)} with a margin of {list(margin)}, read from chunks of {list(grain)}, "
            f"needs {needs(tile)} pixels of each image at once and the memory holds {max(0, samples)}: "
            "raise engine.memory or lower output.chunks"
        )
        raise DoesNotFitError(message)
    while True:
        grown = [
            tuple(t + o if axis == i else t for i, (t, o) in enumerate(zip(tile, step, strict=True)))
            for axis in range(fixed, len(shape))
            if tile[axis] < shape[axis]
        ]
        allowed = [t for t in grown if needs(t) <= samples and math.prod(t) <= pixels and count(t) >= tiles]
        if not allowed:
            return tile
        # the margin weighs least on the tile whose shortest side is longest
        tile = max(allowed, key=lambda t: sorted(min(a, n) for a, n in zip(t, shape, strict=True)))
