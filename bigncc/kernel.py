"""The coefficient of every window of a block, with its status and the block's statistics.

A kernel never knows where it is: it takes a block and the part of it (`core`) that wants values. Beyond the block's
edges the window's border acts, so whoever cuts blocks out of an image leaves the margin around the core except where
the image ends.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bigncc.errors import InputError
from bigncc.summary import BINS, STATUS, Summary
from bigncc.sums import all_finite, walk
from bigncc.tiles import Roi
from bigncc.window import Border, Window

Array = NDArray[Any]
Pivot = tuple[float, float]

VERSION = 1
"""Raised whenever a bit of any result changes."""

RESOLUTION = 1e-12
"""A float window whose variance is below this share of its mean square about the pivot has no digits left (status 8):
the sums err by some 1e-15 of it."""

PEAK = {"uint8": 255, "uint16": 32768}
"""Largest magnitude of a sample in the sums; uint16 is taken about the middle of its range."""

CACHE = 2**20
"""Bytes of line buffers that stay in a core's second-level cache."""

_PAD: dict[Border, str] = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "constant": "constant"}


@dataclass(frozen=True)
class Block:
    """What the kernel makes of a block: ``ncc`` float32 and ``status`` uint8 of the core, and their summary."""

    ncc: NDArray[np.float32]
    status: NDArray[np.uint8]
    summary: Summary


def common_dtype(reference: DTypeLike, moving: DTypeLike) -> np.dtype[Any]:
    """Return the dtype both images are read as: uint8 and uint16 are exact, float32 and float64 take a pivot.

    Signed integers are shifted to unsigned ones, which no correlation can see.

    Raises
    ------
    InputError
        If one of them is not a real number.
    """
    kinds = [np.dtype(reference), np.dtype(moving)]
    for kind in kinds:
        if kind.kind not in "buif" or kind.itemsize > 8:
            message = f"the image's dtype is {kind}: bool, integers and floats of at most 64 bits are accepted"
            raise InputError(message)
    if all(kind.kind in "bui" and kind.itemsize <= 2 for kind in kinds):
        return np.dtype(np.uint8 if max(kind.itemsize for kind in kinds) == 1 else np.uint16)
    narrow = all(kind.itemsize <= (4 if kind.kind == "f" else 2) for kind in kinds)
    return np.dtype(np.float32 if narrow else np.float64)


def lattice_pivot(samples: Array) -> float:
    """Return the constant to subtract from an image's samples before they are squared.

    Parameters
    ----------
    samples : ndarray
        The image on a lattice of five points per axis.

    Returns
    -------
    float
        The median of the finite samples rounded to float32; 0.0 where there is none.
    """
    finite = samples[np.isfinite(samples)].astype(np.float64)
    if not finite.size:
        return 0.0
    middle = float(np.median(finite))
    rounded = float(np.float32(middle)) if abs(middle) < float(np.finfo(np.float32).max) else middle
    return rounded if math.isfinite(rounded) else 0.0


def lattice(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return five indices per axis, evenly spread, for `lattice_pivot`."""
    return tuple(tuple(sorted({(2 * i + 1) * n // 10 for i in range(5)})) for n in shape)


def local(
    reference: Array,
    moving: Array,
    window: Window,
    *,
    core: Roi | None = None,
    reference_validity: NDArray[np.uint8] | None = None,
    moving_validity: NDArray[np.uint8] | None = None,
    pivot: Pivot = (0.0, 0.0),
) -> Block:
    """Correlate the windows around each pixel of a block's core.

    Parameters
    ----------
    reference, moving : ndarray, ``[..., [z,] y, x]``
        Blocks of the same shape; axes in front of the window's are batches.
    window : Window
        Box window and its rules.
    core : tuple of slice, optional
        Part of the windowed axes that wants values; everything by default.
    reference_validity, moving_validity : ndarray of uint8, optional
        1 valid, 0 masked, 2 outside the moving image's view; of the blocks' shape. NaN and Inf are invalid anyway.
    pivot : tuple of float
        Subtracted from reference and moving where they are floats; the same for all blocks of a pair.

    Returns
    -------
    Block

    Notes
    -----
    With n, F = sum f, FG = sum f g, ... over the jointly valid samples of the window,
    r = (n FG - F G) / (sqrt(n FF - F^2) sqrt(n GG - G^2)) [1]_. Sums of integers of at most 16 bits are exact; sums of
    floats are float64 with an order of additions that depends on the window alone.

    References
    ----------
    .. [1] J. P. Lewis, "Fast Normalized Cross-Correlation", Industrial Light & Magic, 1995.
    """
    ndim = window.ndim
    batch, extent = reference.shape[:-ndim], reference.shape[-ndim:]
    inner = core if core is not None else tuple(slice(0, n) for n in extent)
    shape = tuple(s.stop - s.start for s in inner)
    ncc = np.full(batch + shape, np.nan, np.float32)
    status = np.zeros(batch + shape, np.uint8)
    if ncc.size == 0:
        return Block(ncc, status, Summary())
    dtype = common_dtype(reference.dtype, moving.dtype)
    totals = np.zeros(11 + 4 * BINS, np.int64)
    extremes = []
    for index in np.ndindex(batch):
        f, g, joint, view, roi = _prepared(
            reference[index],
            moving[index],
            None if reference_validity is None else reference_validity[index],
            None if moving_validity is None else moving_validity[index],
            inner,
            window,
            dtype,
        )
        extremes.append(_correlate(f, g, joint, view, roi, window, pivot, (ncc[index], status[index]), totals))
    return Block(ncc, status, _summary(totals, extremes))


def _prepared(
    f: Array, g: Array, vf: Array | None, vg: Array | None, core: Roi, window: Window, dtype: np.dtype[Any]
) -> tuple[Array, Array, Array | None, Array | None, tuple[int, ...]]:
    """Continue one batch item beyond its edges, bring it to `dtype` and 3-D, and join the validities."""
    if window.border in _PAD:
        widths = [
            (max(0, r - s.start), max(0, s.stop + r - n)) for s, r, n in zip(core, window.radius, f.shape, strict=True)
        ]
        if any(map(any, widths)):
            f, g = (_padded(image, widths, window, None) for image in (f, g))
            vf, vg = (None if v is None else _padded(v, widths, window, 1) for v in (vf, vg))
            core = tuple(slice(s.start + a, s.stop + a) for s, (a, _) in zip(core, widths, strict=True))
    f, g = _as_dtype(f, dtype), _as_dtype(g, dtype)
    joint = _joint(f, g, vf, vg)
    lifted = 3 - window.ndim
    shape = (1,) * lifted + f.shape
    roi = (0, 1) * lifted + tuple(edge for s in core for edge in (s.start, s.stop))
    view = None if joint is None or vg is None else np.ascontiguousarray(vg).reshape(shape)
    return f.reshape(shape), g.reshape(shape), None if joint is None else joint.reshape(shape), view, roi


def _padded(image: Array, widths: list[tuple[int, int]], window: Window, constant_value: int | None) -> Array:
    value = window.cval if constant_value is None else constant_value
    if window.border != "constant":
        return np.pad(image, widths, mode=_PAD[window.border])  # type: ignore[call-overload, no-any-return]
    if constant_value is None and image.dtype.kind in "bui" and np.array(value).astype(image.dtype) != value:
        message = f"window.cval is {value}: a grey level of dtype {image.dtype} is accepted"
        raise InputError(message)
    return np.pad(image, widths, mode="constant", constant_values=value)


def _as_dtype(image: Array, dtype: np.dtype[Any]) -> Array:
    if image.dtype.kind == "i" and dtype.kind == "u":
        # the shift by half the range, in arithmetic that wraps around
        unsigned = image.astype(image.dtype.newbyteorder("=")).view(f"u{image.dtype.itemsize}")
        image = unsigned ^ unsigned.dtype.type(1 << (8 * image.dtype.itemsize - 1))
    return np.ascontiguousarray(image, dtype)


def _joint(f: Array, g: Array, vf: Array | None, vg: Array | None) -> NDArray[np.uint8] | None:
    """Return 1 where both images are valid, or None where they are valid everywhere."""
    flags = [v == 1 for v in (vf, vg) if v is not None]
    if f.dtype.kind == "f":
        flags += [np.isfinite(image) for image in (f, g) if not all_finite(image.reshape(-1))]
    if not flags:
        return None
    joint = np.logical_and.reduce(flags)
    return None if joint.all() else np.ascontiguousarray(joint).view(np.uint8)


@lru_cache
def chain(size: int) -> tuple[tuple[int, int, int], ...]:
    """Return the cheapest steps ``(k, m, plus)`` from single samples to sums of `size` neighbours.

    Each step adds ``k`` sums of ``m`` samples side by side and, where ``plus`` is 1, one more sample:
    101 = 4 * (5 * 5) + 1 costs three passes instead of 100 additions.
    """
    best: list[tuple[float, tuple[tuple[int, int, int], ...]]] = [(0.0, ()), (0.0, ())]
    for n in range(2, size + 1):
        ways = [
            (best[(n - plus) // k][0] + k + plus + 1.5, (*best[(n - plus) // k][1], (k, (n - plus) // k, plus)))
            for k in (2, 3, 4, 5)
            for plus in (0, 1)
            if (n - plus) % k == 0 and n - plus >= k
        ]
        best.append(min(ways))
    return best[size][1]


def _correlate(
    f: Array,
    g: Array,
    joint: Array | None,
    view: Array | None,
    roi: tuple[int, ...],
    window: Window,
    pivot: Pivot,
    out: tuple[Array, Array],
    totals: Array,
) -> tuple[float, float]:
    """Choose buffers and strips for one batch item and run the loops; return the extremes of r."""
    size = (1,) * (3 - window.ndim) + window.shape
    exact = f.dtype.kind == "u"
    work: type[Any] = np.int64 if exact else np.float64
    middle = (work(32768 if f.dtype == np.uint16 else 0),) * 2 if exact else (work(pivot[0]), work(pivot[1]))
    rows, columns = (np.array(chain(n), np.int64).reshape(-1, 3) for n in size[1:])
    # a level's next one reaches back over as many lines as it is longer, and one more
    reach = np.array([1, *(k * m + plus for k, m, plus in rows)], np.int64)
    slots = np.array([*(np.diff(reach) + 1), 1], np.int64)
    quantities = 5 if joint is None else 6
    width = CACHE // (8 * quantities * (int(slots.sum()) + columns.shape[0]))
    strip = min(roi[5] - roi[4], max(width - size[2] + 1, 2 * size[2], 64))
    length = quantities * (strip + size[2] - 1)
    lines = np.empty((int(slots.sum()) + columns.shape[0]) * length, work)
    full = np.empty(strip, work)
    samples = math.prod(size)
    std = (value**2 for value in window.deviations)
    whole = samples if window.border == "valid" else 0
    rules = np.array([window.min_valid_fraction, *std, 0.0 if exact else RESOLUTION, whole, window.flat])
    extremes = np.empty((2, strip), np.float32)
    extremes[0], extremes[1] = np.inf, -np.inf
    nothing = np.zeros((1, 1, 1), np.uint8)
    shape = tuple(roi[i + 1] - roi[i] for i in (0, 2, 4))
    walk(
        (f, g, nothing if joint is None else joint, nothing if view is None else view),
        (joint is not None, view is not None, exact, exact and (samples * PEAK[f.dtype.name]) ** 2 >= 2**63),
        (roi, size, middle),
        (rows, columns, slots, lines, full),
        (quantities, strip),
        rules,
        out[0].reshape(shape),
        out[1].reshape(shape),
        totals,
        extremes,
    )
    return float(extremes[0].min()), float(extremes[1].max())


def _summary(totals: Array, extremes: list[tuple[float, float]]) -> Summary:
    counts = totals[: len(STATUS)]
    histogram = totals[11:].reshape(4, BINS).sum(axis=0)
    return Summary(
        tuple(int(n) for n in counts),
        int(totals[9]),
        int(totals[10]),
        min(low for low, _ in extremes),
        max(high for _, high in extremes),
        tuple(int(n) for n in histogram),
    )
