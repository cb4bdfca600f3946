"""What chance makes of windows as smooth as these: p-values, and lower bounds of r.

Neighbouring pixels of a smooth image resemble each other, so that a window holds less than its number of samples says,
and two unrelated smooth images correlate by chance. How much less is seen in the images' own autocorrelation, in cells
of the image's grid that are pooled with their neighbours; between the middles of cells it is interpolated.
"""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import autocorrelation, tails
from bigncc.discoveries import BINS, PValues
from bigncc.errors import InputError
from bigncc.kernel import Block, Pivot, Pivots, common_dtype, prepared
from bigncc.maps import Asked, cells_of
from bigncc.tiles import Roi, Shape
from bigncc.window import Window

Array = NDArray[Any]

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Distances that are looked at, as far as a window has them; and its longest."""

GRID = (128, 512)
"""Intervals of the table of probabilities: it errs by less than 1e-3 of them (tests)."""


def check(window: Window, asked: Asked) -> None:
    """Raise InputError where a window repeats samples, which agree with themselves, and for a level that is none."""
    if asked.tested and window.border not in ("shrink", "valid"):
        message = (
            f"window.border is {window.border} and maps has pvalue or lower: "
            "with them shrink or valid, which continue no image, are accepted"
        )
        raise InputError(message)
    if not 0.0 < asked.level < 0.5:
        message = f"significance.level is {asked.level}: a number between 0 and 0.5 is accepted"
        raise InputError(message)


def judged(
    block: Block,
    reference: Array,
    moving: Array,
    window: Window,
    *,
    start: Shape,
    core: Roi,
    asked: Asked,
    pivot: Pivots = (0.0, 0.0),
    reference_validity: Array | None = None,
    moving_validity: Array | None = None,
) -> Block:
    """Return a block with the maps ``pvalue`` and ``lower``, as far as they are asked for, and its p-values counted.

    Parameters
    ----------
    block : Block
        What `bigncc.kernel.local` makes of the other arguments, which are as there.
    start : tuple of int
        Where the blocks begin in the image along the windowed axes, which tells where cells begin in them.
    """
    dtype = common_dtype(reference.dtype, moving.dtype)
    chances, bounds = np.empty(block.ncc.shape, np.float32), np.empty(block.ncc.shape, np.float32)
    histogram = np.zeros(BINS, np.int64)
    if chances.size:
        centres = tuple(tuple(p) if isinstance(p, Pivot) else (float(p), 1.0) for p in pivot)
        # integers are not shifted by pivots, and a float32 moderate enough
        centres = tuple((p[0] if dtype.kind == "f" else 0.0, p[1] if dtype == np.float64 else 1.0) for p in centres)
        for index in np.ndindex(reference.shape[: -window.ndim]):
            vf, vg = (None if v is None else v[index] for v in (reference_validity, moving_validity))
            f, g, joint, _, roi = prepared(reference[index], moving[index], vf, vg, core, window, dtype)
            whole = block.ncc[index], block.status[index]
            out = chances[index], bounds[index]
            _judge(f, g, joint, roi, window, start, centres, whole, out, asked.level, histogram)
    made = {"pvalue": chances, "lower": bounds}
    further = {**block.further, **{name: made[name] for name in asked.further if name in made}}
    return replace(block, further=further, pvalues=PValues(tuple(histogram.tolist())))


def _judge(
    f: Array, g: Array, joint: Array | None, roi: tuple[int, ...], window: Window, start: Shape, centres: Any,
    found: tuple[Array, Array], out: tuple[Array, Array], level: float, histogram: Array,
) -> None:  # fmt: skip
    """Do it for one batch item, in three dimensions."""
    lifted = 3 - window.ndim
    size, cell = (np.array((1,) * lifted + n) for n in (window.shape, cells_of(window.radius)))
    first = -(np.array((0,) * lifted + start) % cell)
    # all others are about as many
    step = np.maximum(1, (cell + 1) // 6)
    lags = lags_of(tuple(size.tolist()))
    number = -((first - np.array(f.shape)) // cell)
    sums, moments = np.empty((*number, *lags.shape, 3)), np.empty((*number, 5))
    cells = np.empty((2, *number))
    masked = joint is not None
    valid = np.ones((1, 1, f.shape[2]), np.uint8) if joint is None else joint
    if f.dtype.kind == "u":  # a loop less to compile
        f, g = f.astype(np.float32), g.astype(np.float32)
    autocorrelation.look(f, g, valid, masked, (first, cell, step), lags, centres, sums, moments)
    autocorrelation.settle(sums, moments, lags, size, (size > 1).astype(np.int64), cells)
    core = [(roi[i], roi[i + 1]) for i in (0, 2, 4)]
    ends = [_ends(*c, n, length) for c, n, length in zip(core, size.tolist(), f.shape, strict=True)]
    counts = np.zeros((1, 1, 1), np.int32) if joint is None else _counts(joint, ends)
    shape = tuple(b - a for a, b in core)
    tails.judge(
        found[0].reshape(shape), found[1].reshape(shape), tuple(b - a for a, b in ends), counts, masked, cells,
        np.array([a for a, _ in core]) - first, cell, math.prod(window.shape), deviate(level), table(),
        tuple(each.reshape(shape) for each in out), histogram,
    )  # fmt: skip


@cache
def lags_of(size: Shape) -> Array:
    """Return the distances that are looked at along each axis, and along both diagonals of the last two; 0 for none."""
    each = [[*(lag for lag in LAGS if lag < n - 1), n - 1] if n > 1 else [] for n in size]
    each += 2 * [[d for d in autocorrelation.DIAGONALS if d < min(size[-2:])]]
    lags = np.zeros((len(each), max(map(len, each))), np.int64)
    for axis, row in enumerate(each):
        lags[axis, : len(row)] = row
    return lags


def _ends(start: int, stop: int, size: int, length: int) -> tuple[Array, Array]:
    """Return where the windows of a range of pixels start and stop, within the image."""
    places = np.arange(start, stop)
    return np.maximum(places - size // 2, 0), np.minimum(places + size // 2 + 1, length)


def _counts(joint: Array, ends: list[tuple[Array, Array]]) -> Array:
    """Return the valid samples of the windows that start and stop there."""
    found = joint
    for axis, (low, high) in enumerate(ends):
        widths = [(1, 0) if i == axis else (0, 0) for i in range(3)]
        total = np.pad(np.cumsum(found, axis=axis, dtype=np.int32), widths)
        found = np.take(total, high, axis=axis) - np.take(total, low, axis=axis)
    return found


@cache
def deviate(level: float) -> float:
    """Return the standard normal deviate that is exceeded with a probability of `level`."""
    from scipy.special import ndtri

    return float(-ndtri(level))


@cache
def table() -> Array:
    """Return the factors that `bigncc.tails.probability` looks up, over sqrt(variance) and y."""
    from scipy.special import betainc, betaln, ndtri_exp

    variance = np.linspace(0.0, 1.0, GRID[0] + 1)[1:-1, None] ** 2
    half, y = (1.0 / variance - 1.0) / 2.0, np.linspace(0.0, tails.FARTHEST, GRID[1] + 1)[None, 1:]
    x = np.exp(-(y**2) / (2 * half))  # 1 - r^2
    # far out its first term alone, of which the logarithm is known where it is no number any more
    far = -(y**2) / 2 - np.log(half) - betaln(half, 0.5)
    chance = np.where(x < 1e-9, far, np.log(np.maximum(betainc(half, 0.5, x), 1e-300)))
    found = np.ones((GRID[0] + 1, GRID[1] + 1))
    found[1:, 1:] = -ndtri_exp(np.vstack([chance, -(y**2) / 2]) - math.log(2.0)) / y
    found[:, 0] = found[:, 1] + (found[:, 1] - found[:, 2]) / 3  # even in y
    return found
