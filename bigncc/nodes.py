"""A grid of nodes over an image: which pixels they are, and how they are cut into objects and tiles."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bigncc.errors import InputError

Shape = tuple[int, ...]

LARGEST = 2**23
"""Samples of a window whose sums of products of 16-bit integers a float64 holds."""

QUALITY = ("peak", "ratio", "uncertainty")
"""What a shift map tells of each node beside its displacement."""


def components(axes: Iterable[str]) -> tuple[str, ...]:
    """Return what the components of a shift map along some axes are called, in their order."""
    return tuple(f"shift_{name}" for name in (*axes, *QUALITY))


def search_of(window: Shape, step: int | Shape | None, radius: int | Shape) -> tuple[Shape, Shape]:
    """Return pixels between nodes and pixels searched along each axis of a window.

    One number is for all axes; without a step it is the window.

    Raises
    ------
    InputError
        If that is no grid, or no search.
    """
    ndim = len(window)
    steps = window if step is None else (step,) * ndim if isinstance(step, int) else tuple(step)
    reach = (radius,) * ndim if isinstance(radius, int) else tuple(radius)
    for name, numbers, least in (("step", steps, 1), ("search_radius", reach, 0)):
        if len(numbers) != ndim or not all(isinstance(n, int) and n >= least for n in numbers):
            message = f"shift.{name} is {list(numbers)}: {ndim} whole numbers of at least {least} are accepted"
            raise InputError(message)
    if not any(reach):
        message = f"shift.search_radius is {list(reach)}: at least 1 along an axis is accepted"
        raise InputError(message)
    if math.prod(window) >= LARGEST:
        message = f"window.size is {list(window)}: fewer than 2^23 samples are accepted with the map shift"
        raise InputError(message)
    return steps, reach


def check_fits(shape: Shape, step: Shape) -> None:
    """Raise InputError unless an output has a cell of `step` pixels along each axis, and so a node."""
    for n, s in zip(shape, step, strict=True):
        if s > n:
            message = (
                f"shift.step is {list(step)} and the output has {list(shape)} pixels: a step within it is accepted"
            )
            raise InputError(message)


def first_node(step: Shape) -> Shape:
    """Return the pixel of the first node: each is in the middle of its cell of `step` pixels, or before it."""
    return tuple((s - 1) // 2 for s in step)


def node_counts(shape: Shape, step: Shape) -> Shape:
    """Return the number of nodes per axis that lie inside of an image."""
    return tuple(max(0, -(-(n - a) // s)) for n, s, a in zip(shape, step, first_node(step), strict=True))


@dataclass(frozen=True)
class Nodes:
    """Nodes every few pixels; node k is pixel ``k * step + (step - 1) // 2`` of the output.

    Parameters
    ----------
    shape : tuple of int
        Number of nodes per axis; along batch axes, number of pixels.
    step : tuple of int
        Pixels between nodes, 1 along batch axes.
    objects : tuple of int
        Nodes of a storage object.
    tile : tuple of int
        Nodes of a tile, whole objects.
    margin : tuple of int
        Pixels that a node needs around it.
    """

    shape: Shape
    step: Shape
    objects: Shape
    tile: Shape
    margin: Shape

    def pixels(self, roi: tuple[slice, ...]) -> tuple[slice, ...]:
        """Return the pixels of the output from the first of some nodes to the last."""
        axes = zip(roi, self.step, first_node(self.step), strict=True)
        return tuple(slice(r.start * s + a, (r.stop - 1) * s + a + 1) for r, s, a in axes)
