"""Where two images agree least: connected cells of a coarse map whose mean is low, the worst first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.summary import BINS, Summary
from bigncc.tiles import Shape

Span = tuple[int, int]

CELLS = 2**21
"""Cells of one batch item that are looked at, at most about."""


@dataclass(frozen=True)
class Region:
    """Some connected cells below the threshold.

    Parameters
    ----------
    place : tuple of int
        Its batch item, along the axes of the result in front of the window's.
    box : tuple of (int, int)
        First pixel and the one after the last along each windowed axis, at full resolution.
    focus : tuple of int
        The pixel in the middle of what is worst of it.
    pixels : int
        How many its cells have.
    mean, lowest : float
        Of the means of its cells.
    deficit : float
        Pixels times what is missing of the threshold, by which regions are ranked.
    link : str
        Address that shows it, if there is one.
    """

    place: Shape
    box: tuple[Span, ...]
    focus: Shape
    pixels: int
    mean: float
    lowest: float
    deficit: float
    link: str = ""

    @property
    def order(self) -> tuple[Any, ...]:
        """By what regions are sorted: the worst first, and of equal ones that which comes first in the image."""
        return -self.deficit, self.place, self.box


def cell_of(window: Shape, extent: Shape) -> int:
    """Return the pixels along the side of a cell, a power of two: no larger than a window, unless there are too many.

    Coefficients of pixels that are closer than that are of nearly the same samples, and no region of their own.
    """
    side = 1 << (min((n for n in window if n > 1), default=1).bit_length() - 1)
    while math.prod(-(-n // side) for n in extent) > CELLS:
        side *= 2
    return side


def found(
    means: NDArray[Any], cell: Shape, extent: Shape, threshold: float, count: int, place: Shape = ()
) -> list[Region]:
    """Return the worst regions of one batch item, the worst first.

    Parameters
    ----------
    means : ndarray, ``[[z,] y, x]``
        Of the pixels with a value in each cell, NaN where there is none.
    cell : tuple of int
        Pixels per cell, along each axis.
    extent : tuple of int
        Pixels of the item; cells at its end may be cut.
    threshold : float
        Below which a cell is low. Cells are connected where they share a side.
    count : int
        How many regions, at most.
    place : tuple of int
        Of the item.

    Returns
    -------
    list of Region
    """
    from scipy import ndimage

    with np.errstate(invalid="ignore"):
        low = means < threshold
    labels, number = ndimage.label(low)
    if not number:
        return []
    edges = [np.minimum(np.arange(n + 1) * c, e) for n, c, e in zip(means.shape, cell, extent, strict=True)]
    pixels = np.ones(means.shape)
    for axis, edge in enumerate(edges):
        pixels *= np.diff(edge).reshape([-1 if i == axis else 1 for i in range(means.ndim)])
    lack = np.where(low, (threshold - np.where(low, means, 0.0)) * pixels, 0.0)
    index = np.arange(1, number + 1)
    deficits, sizes = ndimage.sum_labels(lack, labels, index), ndimage.sum_labels(pixels, labels, index)
    worst = np.lexsort((index, -deficits))[:count]
    boxes = ndimage.find_objects(labels)
    # the worst of a region is where its neighbours are bad as well, not one odd cell
    smooth = ndimage.uniform_filter(np.where(low, means, threshold), 3, mode="nearest")
    regions = []
    for i in worst.tolist():
        own = labels[boxes[i]] == i + 1
        at = np.unravel_index(int(np.where(own, smooth[boxes[i]], np.inf).argmin()), own.shape)
        focus = (int(edge[s.start + a]) + c // 2 for edge, s, a, c in zip(edges, boxes[i], at, cell, strict=True))
        box = tuple((int(edge[s.start]), int(edge[s.stop])) for edge, s in zip(edges, boxes[i], strict=True))
        middle = tuple(min(f, b - 1) for f, (_, b) in zip(focus, box, strict=True))
        mean = threshold - float(deficits[i]) / float(sizes[i])
        lowest = float(means[boxes[i]][own].min())
        regions.append(Region(place, box, middle, int(sizes[i]), mean, lowest, float(deficits[i])))
    return sorted(regions, key=lambda region: region.order)


def possible(summary: Summary, threshold: float) -> float:
    """Return a deficit that no region of a batch item exceeds: that of all its pixels, by their histogram."""
    return sum(n * max(0.0, threshold + 1 - 2 * i / BINS) for i, n in enumerate(summary.histogram))


def worst_of(
    items: Iterable[tuple[Shape, Summary]], look: Callable[[Shape], list[Region]], threshold: float, count: int
) -> list[Region]:
    """Return the worst regions of many batch items, of which no more are looked at than could have one of them.

    Parameters
    ----------
    items : iterable
        Place and statistics of each.
    look : callable
        Returns the worst regions of an item by its place.
    threshold : float
        As for `found`.
    count : int
        How many regions, at most.
    """
    waiting = [(-possible(summary, threshold), place) for place, summary in items]
    heapq.heapify(waiting)
    regions: list[Region] = []
    while waiting and count:
        most, place = heapq.heappop(waiting)
        if not most or (len(regions) >= count and -most < regions[-1].deficit):
            break
        regions = sorted([*regions, *look(place)], key=lambda region: region.order)[:count]
    return regions
