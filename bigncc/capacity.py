"""How a process computes tiles: its blocks and threads, and the memory that these take."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bigncc.tiles import Shape

RESERVED = 360 * 10**6
"""Bytes of the process before it computes anything: interpreter, libraries, compiled code (measured 330 MB)."""


LARGEST = 2**24
"""Pixels of a tile: enough that its margin and its journal row cost nothing, few enough to lose without regret."""


INNER = 2**22
"""Pixels of a block inside a tile: what one thread works on."""


REDUCED = 2
"""Bytes per pixel of a tile that wait, as the next level, for the rest of it: 5 for four pixels, rounded up."""


ENCODED = 5
"""Bytes per pixel of a tile whose chunks wait for the rest of a shard, and as many when they have become one."""


COARSENING = 4
"""Bytes per pixel that a tile of a round reads: the next level in pieces and as a whole, and its chunks."""


SCRATCH = 32
"""Bytes per pixel of the blocks in work: their copies with halo, and the result before it is encoded."""


WIDENED = 8
"""Of these, what copies of integers as float32 take, which windows of other weights than 0 and 1 need."""


DESCRIBED = 8
"""As many more for each further map of the windows, as it is made and as it is handed on."""


GAINED = 16
"""As many more where they are compared with the images as these are stored."""


TESTED = 32
"""And where they are told from chance: two maps, and the sums that count the valid samples of windows."""


@dataclass(frozen=True)
class Means:
    """How this process computes; nothing of it can be seen in the result.

    Parameters
    ----------
    block : tuple of int
        Extent of what one thread works on, a multiple of the plan's unit.
    threads : int
        Threads to compute on.
    durable : bool
        Whether the pixels, and not only the journal, outlive a power cut.
    halo : {"overlap", "read"}
        Whether the blocks of a tile give each other their margins, or each reads its own.
    flights : int
        Tiles in work at once: while one is read and computed, what is left of the one before is stored.
    cache : int
        Bytes of decoded chunks that are kept for tiles to come.
    at_once : int
        Samples to decode by one call, if chunks are smaller.
    """

    block: Shape
    threads: int
    durable: bool = False
    halo: Literal["overlap", "read"] = "overlap"
    flights: int = 1
    cache: int = 0
    at_once: int = 1


def bytes_per_pixel(reference: np.dtype[Any], moving: np.dtype[Any], *, pulled: bool, masked: bool) -> int:
    """Return the memory that a pixel of a tile takes in the worst case, when all inputs wait for their neighbours.

    Samples are held as blocks of the tile's grid; a pulled image is float64 with its validity.
    """
    held = reference.itemsize + moving.itemsize
    if pulled:
        held += 2 * (8 + 1)
    return held + (4 if masked else 0)


def largest_samples(memory: int, per_pixel: int, threads: int, block: int, scratch: int = SCRATCH) -> int:
    """Return how many decoded pixels of a tile fit `memory` beside the process and the blocks in work."""
    return (memory - RESERVED - threads * block * scratch) // per_pixel


def inner_block(tile: Shape, unit: Shape, least: int, pixels: int) -> Shape:
    """Return the extent of a block inside a tile: whole units, at most `pixels`, and `least` of them if it can be."""

    def fine(block: Shape) -> bool:
        blocks = math.prod(-(-n // b) for n, b in zip(tile, block, strict=True))
        return math.prod(block) <= pixels and blocks >= least

    def grown(block: Shape, axis: int) -> Shape:
        longer = min(-(-tile[axis] // unit[axis]) * unit[axis], 2 * block[axis])
        return tuple(longer if i == axis else b for i, b in enumerate(block))

    block = unit
    while True:
        # alike along all axes, the last first: its pixels lie side by side in memory
        axes = sorted(range(len(block)), key=lambda i: (block[i] // unit[i], -i))
        larger = (grown(block, axis) for axis in axes)
        found = next((other for other in larger if other != block and fine(other)), None)
        if found is None:
            return block
        block = found
