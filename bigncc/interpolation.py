"""Samples between samples: shifting a block, and following a displacement of each pixel.

Interpolators are local, source coordinates are formed in the frame of the whole image, and every sum has one order:
what a pixel becomes cannot depend on the block in which it is pulled. All compiled functions that call each other are
in this one file, since numba's cache does not see that another file has changed.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled
from bigncc.tiles import Roi, Shape, roi_shape, roi_within

VALID, MASKED, OUTSIDE = 1, 0, 2
TAPS = {0: (0, 0), 1: (0, 1), 3: (1, 2)}  # per order: taps before and after the whole pixel

Image = NDArray[Any]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Bracket = tuple[Indices, Indices, Floats]  # per pixel: its two nodes and the weight of the second
Filled = tuple[Image, Codes] | None  # None: the block lacks samples
Three = tuple[int, int, int]
Frame = tuple[Three, Three, Three]  # where the output and the block begin, and the extent of the moving image

_BAD = MASKED ^ VALID  # in `code ^ VALID` (0 valid, 1 masked, 3 outside) the worst of several is their bitwise or


def _blank(block: Image, roi: Roi, dtype: Any) -> tuple[Image, Codes]:
    """Return values and validity of `roi` before anything is known to lie inside."""
    values = np.zeros(block.shape[: -len(roi)] + roi_shape(roi), dtype)
    return values, np.full(values.shape, OUTSIDE, np.uint8)


def _screen(values: Image, validity: Image | None) -> tuple[Image, Codes]:
    """Return `values` with 0 where they cannot be used, and how bad each is."""
    worst = np.zeros(values.shape, np.uint8)
    if validity is not None:
        np.bitwise_xor(validity, VALID, out=worst, casting="unsafe")
    if values.dtype.kind == "f":
        worst |= ~np.isfinite(values)
    if worst.any():
        values = values.copy()
        values[worst != 0] = 0
    return values, worst


# -- one shift for all pixels: axis after axis


def split(offset: float, order: int) -> tuple[int, float, int, int]:
    """Return whole pixels, fraction, and how many taps lie before and after the whole pixel."""
    if order == 0:
        return math.floor(offset + 0.5), 0.0, 0, 0
    whole = math.floor(offset)
    fraction = offset - whole
    if fraction == 1.0:  # a tiny negative offset, rounded
        whole, fraction = whole + 1, 0.0
    return (whole, fraction, *(TAPS[order] if fraction else (0, 0)))


def pull_shifted(
    offset: tuple[float, ...],
    block: Image,
    validity: Image | None,
    roi: Roi,
    source: Roi,
    shape: Shape,
    order: int,
) -> Filled:
    """Pull a block of which every pixel lies `offset` further in the moving image; see `bigncc.transform.pull`."""
    parts = [split(distance, order) for distance in offset]
    values, codes = _blank(block, roi, np.float64 if any(fraction for _, fraction, _, _ in parts) else block.dtype)
    inner, needed = [], []
    for s, n, (shift, _, before, after) in zip(roi, shape, parts, strict=True):
        start, stop = max(s.start, before - shift), min(s.stop, n - after - shift)
        inner.append(slice(start, stop))
        needed.append(slice(start + shift - before, stop + shift + after))
    if any(s.start >= s.stop for s in inner):
        return values, codes
    if any(a.start < b.start or a.stop > b.stop for a, b in zip(needed, source, strict=True)):
        return None
    cut: tuple[Any, ...] = (..., *roi_within(tuple(needed), source))
    filled: tuple[Any, ...] = (..., *roi_within(tuple(inner), roi))
    part, worst = _screen(block[cut].astype(values.dtype, copy=False), None if validity is None else validity[cut])
    for axis, (_, fraction, before, after) in reversed(list(enumerate(parts, start=block.ndim - len(parts)))):
        if fraction:
            part, worst = _blend(part, worst, axis, fraction, 1 + before + after)
    part, worst = _screen(part, worst ^ VALID)
    values[filled], codes[filled] = part, worst ^ VALID
    return values, codes


def _blend(values: Floats, worst: Codes, axis: int, fraction: float, taps: int) -> tuple[Floats, Codes]:
    """Combine `taps` neighbours along `axis`."""
    outer, n, stride = math.prod(values.shape[:axis]), values.shape[axis], math.prod(values.shape[axis + 1 :])
    shape = (*values.shape[:axis], n - taps + 1, *values.shape[axis + 1 :])
    lines = np.ascontiguousarray(values).reshape(outer, n * stride)
    blended = _blend_lines(lines, stride, fraction, taps)
    # flat lines, so that the neighbours along any axis are `stride` apart
    flat = np.ascontiguousarray(worst).reshape(outer, n * stride)
    length = blended.shape[1]
    spread = functools.reduce(np.bitwise_or, (flat[:, k * stride : k * stride + length] for k in range(taps)))
    return blended.reshape(shape), spread.reshape(shape)


@compiled
def _linear(a: float, b: float, t: float) -> float:
    # in differences, so that a constant stays the same to the bit
    return a + t * (b - a)


@compiled
def _cubic(a: float, b: float, c: float, d: float, t: float) -> float:
    d1, d2, d3 = b - a, c - b, d - c
    return b + t * (0.5 * (d1 + d2) + t * (0.5 * (-2.0 * d1 + 3.0 * d2 - d3) + t * (0.5 * (d1 - 2.0 * d2 + d3))))


@compiled
def _blend_lines(lines: Floats, stride: int, t: float, taps: int) -> Floats:
    out = np.empty((lines.shape[0], lines.shape[1] - (taps - 1) * stride))
    for i in range(out.shape[0]):
        if taps == 2:
            for k in range(out.shape[1]):
                out[i, k] = _linear(lines[i, k], lines[i, k + stride], t)
        else:
            for k in range(out.shape[1]):
                a, b, c, d = lines[i, k], lines[i, k + stride], lines[i, k + 2 * stride], lines[i, k + 3 * stride]
                out[i, k] = _cubic(a, b, c, d, t)
    return out


# -- another shift for each pixel


def bracket(span: slice, count: int, step: int, origin: int) -> Bracket:
    """Return for each pixel its two nodes and the weight of the second; the same node twice where that is 0."""
    first, rest = np.divmod(np.arange(span.start, span.stop) - origin, step)
    weight = np.where((first >= 0) & (first < count - 1), rest / step, 0.0)
    first = np.clip(first, 0, count - 1)
    return first, first + (weight > 0), weight


def between_nodes(nodes: Floats, brackets: Iterable[Bracket]) -> Floats:
    """Interpolate `nodes`, shape (components, ...), linearly, the last axis first, with one bracket per axis."""
    for axis, (first, second, weight) in reversed(list(enumerate(brackets, start=1))):
        if weight.any() or not np.array_equal(first, np.arange(nodes.shape[axis])):
            shape = (*nodes.shape[:axis], len(first), *nodes.shape[axis + 1 :])
            lines = nodes.reshape(math.prod(shape[:axis]), nodes.shape[axis], math.prod(shape[axis + 1 :]))
            nodes = _mix_lines(lines, first, second, weight).reshape(shape)
    return nodes


def pull_displaced(
    shifts: Floats, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape, order: int
) -> Filled:
    """Pull a block of which each pixel has its own shift, ``shifts[axis, *roi]``; see `bigncc.transform.pull`.

    Unlike there, the values of order 0 are float64 too.
    """
    values, codes = _blank(block, roi, np.float64)
    if codes.size == 0:
        return values, codes
    shifts = shifts.reshape(len(roi), *_three(roi_shape(roi), 1))
    frame = _starts(roi), _starts(source), _three(shape, 1)
    for k in np.ndindex(block.shape[: -len(roi)]):
        own = validity if validity is None or validity.ndim == len(roi) else validity[k]
        part, worst = _screen(block[k].astype(np.float64, order="C", copy=False), own)
        if not _interpolate(_solid(part), _solid(worst), shifts, frame, order, _solid(values[k]), _solid(codes[k])):
            return None
    return values, codes


def pull_nearest(shifts: Floats, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape) -> Filled:
    """Do as `pull_displaced` with order 0, but keep the type of the samples, whichever that is."""
    # the index of each sample is pulled in its place
    batch, count = block.shape[: -len(roi)], math.prod(roi_shape(source))
    indices = np.arange(count, dtype=np.float64).reshape(roi_shape(source))
    found = pull_displaced(shifts, indices, None, roi, source, shape, 0)
    if found is None or not (found[1] == VALID).any():
        return found and _blank(block, roi, block.dtype)
    index, inside = found[0].astype(np.int64), found[1]
    if validity is not None:
        own = validity.reshape(*validity.shape[: -len(roi)], count)[..., index]
        inside = np.where(inside == VALID, own.astype(np.uint8, copy=False), np.uint8(OUTSIDE))
    values, worst = _screen(block.reshape(*batch, count)[..., index], inside)
    return values, worst ^ np.uint8(VALID)


def _three(numbers: Iterable[int], lead: int) -> Three:
    z, y, x = (lead, *numbers)[-3:]
    return z, y, x


def _starts(roi: Roi) -> Three:
    return _three((s.start for s in roi), 0)


def _solid(array: Image) -> Image:
    return array.reshape(_three(array.shape, 1))


@compiled
def _mix_lines(lines: Floats, first: Indices, second: Indices, weight: Floats) -> Floats:
    out = np.empty((lines.shape[0], len(first), lines.shape[2]))
    for i, j, k in np.ndindex(out.shape):
        out[i, j, k] = _linear(lines[i, int(first[j]), k], lines[i, int(second[j]), k], float(weight[j]))
    return out


@compiled
def _place(coordinate: float, extent: int, order: int) -> tuple[int, int, float]:
    """Return the first tap, the number of taps (0 if one would lie outside) and the fraction."""
    # before any conversion to an integer, which 1e300 and NaN do not survive
    if not (coordinate >= -1.0 and coordinate <= extent):
        return 0, 0, 0.0
    first, taps, t = math.floor(coordinate + 0.5), 1, 0.0
    if order != 0:
        first = math.floor(coordinate)
        t = coordinate - first
        if t == 1.0:  # a tiny negative coordinate, rounded
            first, t = first + 1, 0.0
        if t != 0.0:
            first, taps = (first, 2) if order == 1 else (first - 1, 4)
    if first < 0 or first + taps > extent:
        return 0, 0, 0.0
    return first, taps, t


@compiled
def _mix(samples: Floats, taps: int, t: float) -> float:
    if taps == 1:
        return float(samples[0])
    if taps == 2:
        return _linear(samples[0], samples[1], t)
    return _cubic(samples[0], samples[1], samples[2], samples[3], t)


@compiled
def _interpolate(
    values: Floats, worst: Codes, shifts: Floats, frame: Frame, order: int, out: Floats, codes: Codes
) -> bool:
    """Fill `out` and `codes` where no tap is outside; return whether the block has all samples."""
    corner, low, shape = frame
    fits, deep = True, shifts.shape[0] == 3
    row, plane = np.empty(4), np.empty(4)
    for z, y, x in np.ndindex(out.shape):
        iz, nz, tz = _place(corner[0] + z + (shifts[0, z, y, x] if deep else 0.0), shape[0], order)
        iy, ny, ty = _place(corner[1] + y + shifts[-2, z, y, x], shape[1], order)
        ix, nx, tx = _place(corner[2] + x + shifts[-1, z, y, x], shape[2], order)
        if nz * ny * nx == 0:
            continue
        iz, iy, ix = iz - low[0], iy - low[1], ix - low[2]
        if min(iz, iy, ix) < 0 or iz + nz > values.shape[0] or iy + ny > values.shape[1] or ix + nx > values.shape[2]:
            fits = False
            continue
        bad = 0
        for i in range(iz, iz + nz):
            for j in range(iy, iy + ny):
                for k in range(ix, ix + nx):
                    bad |= worst[i, j, k]
                row[j - iy] = _mix(values[i, j, ix : ix + nx], nx, tx)
            plane[i - iz] = _mix(row, ny, ty)
        value = _mix(plane, nz, tz)
        if bad == 0 and not np.isfinite(value):
            bad = _BAD
        out[z, y, x] = value if bad == 0 else 0.0
        codes[z, y, x] = bad ^ VALID
    return fits
