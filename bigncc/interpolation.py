"""Samples between samples, and pulling a block of which all pixels lie equally far in the moving image.

Interpolators are local, source coordinates are formed in the frame of the whole image, and every sum has one order:
what a pixel becomes cannot depend on the block in which it is pulled.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled, compiled_loop, inlined_loop
from bigncc.tiles import Roi, Shape, roi_shape, roi_within

VALID, MASKED, OUTSIDE = 1, 0, 2
TAPS = {0: (0, 0), 1: (0, 1), 3: (1, 2)}  # per order: taps before and after the whole pixel

Image = NDArray[Any]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Filled = tuple[Image, Codes] | None  # None: the block lacks samples
Three = tuple[int, int, int]
Fractions = tuple[float, float, float]

COMPILED = (np.uint8, np.uint16, np.float32, np.float64)
"""Types of samples that the loops read as they are; others become float64 first."""

# in `code ^ VALID` (0 valid, 1 masked, 3 outside) the worst of several is their bitwise or


def blank(block: Image, roi: Roi, dtype: Any) -> tuple[Image, Codes]:
    """Return values and validity of `roi` before anything is known to lie inside."""
    values = np.zeros(block.shape[: -len(roi)] + roi_shape(roi), dtype)
    return values, np.full(values.shape, OUTSIDE, np.uint8)


def screen(values: Image, validity: Image | None) -> tuple[Image, Codes]:
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


def three(numbers: Iterable[int], lead: int) -> Three:
    """Return one number for each of z, y and x, `lead` where there is no z."""
    z, y, x = (lead, *numbers)[-3:]
    return z, y, x


def native(array: Image) -> Image:
    """Return samples as the loops read them: without gaps, of one of a few types."""
    return np.ascontiguousarray(array, array.dtype if array.dtype in COMPILED else np.float64)


def solid(array: Image) -> Image:
    """Return an array as a volume."""
    return array.reshape(three(array.shape, 1))


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
    """Pull a block of which every pixel lies `offset` further in the moving image; see `bigncc.resampling.pull`."""
    parts = [split(distance, order) for distance in offset]
    values, codes = blank(block, roi, np.float64 if any(fraction for _, fraction, _, _ in parts) else block.dtype)
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
    part, worst = screen(block[cut], None if validity is None else validity[cut])
    if order == 1 and values.dtype == np.float64 and not worst.any():
        part, worst = _shifted(part, tuple(fraction for _, fraction, _, _ in parts))
    else:
        part, worst = _blended(part.astype(values.dtype, copy=False), worst, parts)
        if part.dtype == np.float64:
            part, worst = screen(part, worst ^ VALID)
    if part.shape == values.shape:
        return part, worst ^ np.uint8(VALID)
    values[filled], codes[filled] = part, worst ^ VALID
    return values, codes


def _shifted(block: Image, fractions: tuple[float, ...]) -> tuple[Image, Codes]:
    """Interpolate linearly where all samples are valid, along all axes at once."""
    batch = block.ndim - len(fractions)
    shape = tuple(n - (fraction > 0) for n, fraction in zip(block.shape[batch:], fractions, strict=True))
    values, worst = np.empty((*block.shape[:batch], *shape)), np.zeros((*block.shape[:batch], *shape), np.uint8)
    v, u, t = (0.0, *fractions)[-3:]
    for k in np.ndindex(block.shape[:batch]):
        _shift_rows(solid(native(block[k])), (v, u, t), solid(values[k]))
    if block.dtype.kind == "f":
        values, worst = screen(values, None)
    return values, worst


def _blended(values: Image, worst: Codes, parts: list[tuple[int, float, int, int]]) -> tuple[Image, Codes]:
    """Combine neighbours along each axis that has a fraction, the last one first."""
    first = values.ndim - len(parts)
    for axis, (_, fraction, before, after) in reversed(list(enumerate(parts, start=first))):
        if fraction:
            values, worst = _blend(values, worst, axis, fraction, 1 + before + after)
    return values, worst


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


@inlined_loop
def linear(a: float, b: float, t: float) -> float:
    """Return what lies between two samples."""
    # in differences, so that a constant stays the same to the bit
    return a + t * (b - a)


@inlined_loop
def cubic(a: float, b: float, c: float, d: float, t: float) -> float:
    """Return what lies between the middle two of four samples."""
    d1, d2, d3 = b - a, c - b, d - c
    return b + t * (0.5 * (d1 + d2) + t * (0.5 * (-2.0 * d1 + 3.0 * d2 - d3) + t * (0.5 * (d1 - 2.0 * d2 + d3))))


@inlined_loop
def weighed(a: float, b: float, t: float) -> float:
    """Do the same, where a sample without weight is none."""
    return a if t == 0.0 else linear(a, b, t)


@inlined_loop
def _shift_line(a: Image, b: Image, c: Image, d: Image, fractions: Fractions, out: Floats) -> None:
    """Interpolate between four lines and along them."""
    v, u, t = fractions
    m = 1 if t != 0.0 else 0
    for x in range(out.size):
        value = weighed(np.float64(a[x]), np.float64(a[x + m]), t)
        value = weighed(value, weighed(np.float64(b[x]), np.float64(b[x + m]), t), u)
        if v != 0.0:
            other = weighed(np.float64(c[x]), np.float64(c[x + m]), t)
            value = linear(value, weighed(other, weighed(np.float64(d[x]), np.float64(d[x + m]), t), u), v)
        out[x] = value


@compiled_loop
def _shift_rows(values: Image, fractions: Fractions, out: Floats) -> None:
    v, u, _ = fractions
    for z in range(out.shape[0]):
        k = z + 1 if v != 0.0 else z
        for y in range(out.shape[1]):
            j = y + 1 if u != 0.0 else y
            _shift_line(values[z, y], values[z, j], values[k, y], values[k, j], fractions, out[z, y])


@compiled
def _blend_lines(lines: Floats, stride: int, t: float, taps: int) -> Floats:
    out = np.empty((lines.shape[0], lines.shape[1] - (taps - 1) * stride))
    for i in range(out.shape[0]):
        if taps == 2:
            for k in range(out.shape[1]):
                out[i, k] = linear(lines[i, k], lines[i, k + stride], t)
        else:
            for k in range(out.shape[1]):
                a, b, c, d = lines[i, k], lines[i, k + stride], lines[i, k + 2 * stride], lines[i, k + 3 * stride]
                out[i, k] = cubic(a, b, c, d, t)
    return out
