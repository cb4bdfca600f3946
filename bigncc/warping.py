"""Pulling a block of which each pixel has a place of its own: turned and scaled, or following a displacement.

Places are formed line by line in the frame of the whole image. Where all taps of a line lie in the block, nothing more
is asked of them; else each pixel is looked at by itself, with the same arithmetic.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled, compiled_loop, inlined_loop
from bigncc.interpolation import (
    MASKED,
    OUTSIDE,
    VALID,
    Codes,
    Filled,
    Floats,
    Image,
    Three,
    blank,
    cubic,
    linear,
    native,
    screen,
    solid,
    three,
    weighed,
)
from bigncc.tiles import Roi, Shape, roi_shape

Indices = NDArray[np.int64]
Bracket = tuple[Indices, Indices, Floats]  # per pixel: its two nodes and the weight of the second
Frame = tuple[Three, Three, Three]  # where the output and the block begin, and the extent of the moving image
FourLines = tuple[Floats, Floats, Floats, Floats]
Taps = tuple[int, int, float]  # the first, how many, and the fraction

_LACKING = -1  # in the place of a number of taps, and of a code: the block has not all of them
_MOST = float(np.finfo(np.float64).max)


def bracket(span: slice, count: int, step: int, origin: int) -> Bracket:
    """Return for each pixel its two nodes and the weight of the second; the same node twice where that is 0."""
    first, rest = np.divmod(np.arange(span.start, span.stop) - origin, step)
    weight = np.where((first >= 0) & (first < count - 1), rest / step, 0.0)
    first = np.clip(first, 0, count - 1)
    return first, first + (weight > 0), weight


class Way(NamedTuple):
    """How the loops find the place of a pixel: by rows of a matrix, or by lines of nodes if there are any."""

    ndim: int
    matrix: Floats  # [z y x]: what each of z, y, x adds, and the offset
    lines: Floats  # [axis, z, y, x]: shifts at the nodes, between which x is interpolated already
    planes: Bracket
    rows: Bracket


def by_matrix(matrix: tuple[tuple[float, ...], ...], offset: tuple[float, ...]) -> Way:
    """Return the way of an affine transform."""
    lifted = np.zeros((3, 4))
    ndim = len(offset)
    lifted[3 - ndim :, 3 - ndim : 3] = matrix
    lifted[3 - ndim :, 3] = offset
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    return Way(ndim, lifted, np.zeros((0, 0, 0, 0)), nothing, nothing)


def by_nodes(nodes: Floats, brackets: Sequence[Bracket]) -> Way:
    """Return the way of a displacement by `nodes`, shape (ndim, ...), linear along x, then y, then z."""
    *axes, (first, second, weight) = brackets
    if weight.any() or not np.array_equal(first, np.arange(nodes.shape[-1])):
        lines = nodes.reshape(-1, nodes.shape[-1])
        nodes = _between(lines, first, second, weight).reshape(*nodes.shape[:-1], len(first))
    one = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1)
    planes, rows = (one, *axes)[-2:]
    return Way(len(nodes), np.zeros((3, 4)), nodes.reshape(len(nodes), *three(nodes.shape[1:], 1)), planes, rows)


def corners(way: Way, roi: Roi) -> Floats:
    """Return where the corners of a region lie, by the very operations that the loops do, shape (corner, axis).

    These round in the order of numbers and each of them keeps that order, so all pixels lie between the corners.
    """
    ends = [(0, 0)] * (3 - len(roi)) + [(s.start, s.stop - 1) for s in roi]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(
            [
                [_before_x(row, z, y) + row[2] * x for row in way.matrix[3 - len(roi) :]]
                for z, y, x in product(*([float(end) for end in axis] for axis in ends))
            ]
        )


def pull_each(
    way: Way, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape, order: int
) -> Filled:
    """Pull a block of which each pixel has a place of its own; see `bigncc.resampling.pull`."""
    if order == 0:
        return _pull_nearest(way, block, validity, roi, source, shape)
    values = np.empty(block.shape[: -len(roi)] + roi_shape(roi))
    codes = np.empty(values.shape, np.uint8)
    if codes.size == 0:
        return values, codes
    frame = _starts(roi), _starts(source), three(shape, 1)
    nothing = np.zeros((1, 1, 1), np.uint8)
    for k in np.ndindex(block.shape[: -len(roi)]):
        own = validity if validity is None or validity.ndim == len(roi) else validity[k]
        part, worst = block[k], nothing
        if own is not None or part.dtype.kind == "f":
            part, worst = screen(part, own)
        screened = bool(worst.any())
        places, into = np.zeros((3, roi_shape(roi)[-1])), (solid(values[k]), solid(codes[k]))
        if not _pull_rows(solid(native(part)), solid(worst), screened, way, frame, order, places, *into):
            return None
    return values, codes


def _pull_nearest(way: Way, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape) -> Filled:
    """Do it with order 0, which keeps the type of the samples, whichever that is."""
    batch, count = block.shape[: -len(roi)], math.prod(roi_shape(source))
    index, inside = np.zeros(roi_shape(roi), np.int64), np.full(roi_shape(roi), OUTSIDE, np.uint8)
    frame, places = (_starts(roi), _starts(source), three(shape, 1)), np.zeros((3, roi_shape(roi)[-1]))
    if not _find_rows(three(roi_shape(source), 1), way, frame, places, solid(index), solid(inside)):
        return None
    if not (inside == VALID).any():
        return blank(block, roi, block.dtype)
    if validity is not None:
        own = validity.reshape(*validity.shape[: -len(roi)], count)[..., index]
        inside = np.where(inside == VALID, own.astype(np.uint8, copy=False), np.uint8(OUTSIDE))
    values, worst = screen(block.reshape(*batch, count)[..., index], inside)
    return values, worst ^ np.uint8(VALID)


def _starts(roi: Roi) -> Three:
    return three((s.start for s in roi), 0)


@compiled
def _between(lines: Floats, first: Indices, second: Indices, weight: Floats) -> Floats:
    """Interpolate along the last axis."""
    out = np.empty((lines.shape[0], len(first)))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = linear(lines[i, first[j]], lines[i, second[j]], weight[j])
    return out


@compiled_loop
def _before_x(row: Floats, z: float, y: float) -> float:
    """Return a coordinate but for what x adds: one order of operations, whoever asks."""
    return float(row[3] + row[0] * z + row[1] * y)


@inlined_loop
def _shift_line(out: Floats, start: float, step: float, nodes: FourLines, v: float, u: float) -> None:
    """Write the places of a line along an axis: pixels `step` apart and the shift between four lines of nodes."""
    a, b, c, d = nodes
    if u == 0.0:
        for x in range(out.size):
            out[x] = (start + step * x) + linear(a[x], b[x], v)
    else:
        for x in range(out.size):
            out[x] = (start + step * x) + linear(linear(a[x], b[x], v), linear(c[x], d[x], v), u)


@inlined_loop
def _locate(way: Way, corner: Three, z: int, y: int, places: Floats) -> None:
    """Write where a line of pixels lies in the moving image; places along axes that there are not stay as they are."""
    lines = way.lines
    if lines.shape[0] == 0:
        for axis in range(3 - way.ndim, 3):
            start, slope = _before_x(way.matrix[axis], float(corner[0] + z), float(corner[1] + y)), way.matrix[axis, 2]
            line = places[axis]
            for x in range(line.size):
                line[x] = start + slope * (corner[2] + x)
        return
    (p, q, u), (j, k, v) = (
        (way.planes[0][z], way.planes[1][z], way.planes[2][z]),
        (way.rows[0][y], way.rows[1][y], way.rows[2][y]),
    )
    at = (float(corner[0] + z), float(corner[1] + y), float(corner[2]))
    for i in range(lines.shape[0]):
        axis = 3 - way.ndim + i
        four = lines[i, p, j], lines[i, p, k], lines[i, q, j], lines[i, q, k]
        _shift_line(places[axis], at[axis], 1.0 if axis == 2 else 0.0, four, v, u)


@inlined_loop
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


@compiled_loop
def _on_line(line: Image, i: int, taps: int, t: float) -> float:
    if taps == 1:
        return np.float64(line[i])
    if taps == 2:
        return linear(np.float64(line[i]), np.float64(line[i + 1]), t)
    return cubic(np.float64(line[i]), np.float64(line[i + 1]), np.float64(line[i + 2]), np.float64(line[i + 3]), t)


@compiled_loop
def _on_plane(plane: Image, y: Taps, x: Taps) -> float:
    (j, rows, u), (i, taps, t) = y, x
    a = _on_line(plane[j], i, taps, t)
    if rows == 1:
        return a
    b = _on_line(plane[j + 1], i, taps, t)
    if rows == 2:
        return linear(a, b, u)
    return cubic(a, b, _on_line(plane[j + 2], i, taps, t), _on_line(plane[j + 3], i, taps, t), u)


@compiled_loop
def _within(values: Image, z: Taps, y: Taps, x: Taps) -> float:
    k, planes, v = z
    a = _on_plane(values[k], y, x)
    if planes == 1:
        return a
    b = _on_plane(values[k + 1], y, x)
    if planes == 2:
        return linear(a, b, v)
    return cubic(a, b, _on_plane(values[k + 2], y, x), _on_plane(values[k + 3], y, x), v)


@compiled_loop
def _worst(worst: Codes, z: Taps, y: Taps, x: Taps) -> int:
    bad = 0
    for k in range(z[0], z[0] + z[1]):
        for j in range(y[0], y[0] + y[1]):
            for i in range(x[0], x[0] + x[1]):
                bad |= int(worst[k, j, i])
    return bad


@inlined_loop
def _taps(place: float, low: int, size: int, extent: int, order: int) -> tuple[int, int, float]:
    """Return taps in the frame of the block; none if one is outside the image, fewer if the block lacks one."""
    first, taps, t = _place(place, extent, order)
    if taps > 0 and (first < low or first + taps > low + size):
        taps = _LACKING
    return first - low, taps, t


@compiled_loop
def _pull_pixel(
    values: Image, worst: Codes, screened: bool, places: Floats, i: int, low: Three, shape: Three, order: int
) -> tuple[float, int]:
    """Return value and code of one pixel, or `_LACKING` for a code."""
    z = _taps(places[0, i], low[0], values.shape[0], shape[0], order)
    y = _taps(places[1, i], low[1], values.shape[1], shape[1], order)
    x = _taps(places[2, i], low[2], values.shape[2], shape[2], order)
    if z[1] == 0 or y[1] == 0 or x[1] == 0:
        return 0.0, OUTSIDE
    if min(z[1], y[1], x[1]) < 0:
        return 0.0, _LACKING
    bad = _worst(worst, z, y, x) if screened else 0
    if bad != 0:
        return 0.0, bad ^ VALID
    value = _within(values, z, y, x)
    return (value, VALID) if np.isfinite(value) else (0.0, MASKED)


@inlined_loop
def _none_leaves(places: Floats, ndim: int, low: Three, size: Three, shape: Three, order: int) -> bool:
    """Say whether all taps that a line of places can have are in the image and in the block."""
    before, after = (0, 0) if order == 1 else (1, 2)
    for axis in range(3 - ndim, 3):
        least = float(max(0, low[axis]) + before)
        most = float(min(shape[axis], low[axis] + size[axis]) - 1 - after)
        count, line = 0, places[axis]
        for x in range(line.size):
            count += 1 if line[x] >= least and line[x] <= most else 0
        if count < line.size:
            return False
    return True


@inlined_loop
def _linear_at(plane: Image, j: int, k: int, u: float, i: int, m: int, t: float) -> float:
    # unsigned, or else each index is asked whether it counts from the end
    jj, kk, ii, mm = np.uintp(j), np.uintp(k), np.uintp(i), np.uintp(m)
    a = weighed(np.float64(plane[jj, ii]), np.float64(plane[jj, mm]), t)
    return weighed(a, weighed(np.float64(plane[kk, ii]), np.float64(plane[kk, mm]), t), u)


@inlined_loop
def _worst_at(worst: Codes, j: int, k: int, i: int, m: int) -> int:
    jj, kk, ii, mm = np.uintp(j), np.uintp(k), np.uintp(i), np.uintp(m)
    return int(worst[jj, ii] | worst[jj, mm] | worst[kk, ii] | worst[kk, mm])


@inlined_loop
def _linear_line(
    values: Image, worst: Codes, screened: bool, places: Floats, low: Three, deep: bool, out: Floats, codes: Codes
) -> None:
    """Interpolate a line of which no tap leaves the block."""
    for x in range(out.size):
        # not negative, so that truncation is the floor; where the fraction is 0 the second tap is the first
        j, i = int(places[1, x]), int(places[2, x])
        u, t = places[1, x] - j, places[2, x] - i
        j, i = j - low[1], i - low[2]
        k, m = (j + 1 if u != 0.0 else j), (i + 1 if t != 0.0 else i)
        p, v = 0, 0.0
        if deep:
            p = int(places[0, x])
            v = places[0, x] - p
            p -= low[0]
        value, bad = _linear_at(values[p], j, k, u, i, m, t), 0
        if screened:
            bad |= _worst_at(worst[p], j, k, i, m)
        if v != 0.0:
            value = linear(value, _linear_at(values[p + 1], j, k, u, i, m, t), v)
            if screened:
                bad |= _worst_at(worst[p + 1], j, k, i, m)
        if not abs(value) <= _MOST:
            bad |= MASKED ^ VALID
        out[x], codes[x] = (value if bad == 0 else 0.0), bad ^ VALID


@inlined_loop
def _cubic_on(line: Image, i: int, t: float) -> float:
    a, b, c, d = np.uintp(i - 1), np.uintp(i), np.uintp(i + 1), np.uintp(i + 2)
    return (
        np.float64(line[b])
        if t == 0.0
        else cubic(np.float64(line[a]), np.float64(line[b]), np.float64(line[c]), np.float64(line[d]), t)
    )


@inlined_loop
def _cubic_line(plane: Image, places: Floats, low: Three, out: Floats, codes: Codes) -> None:
    """Interpolate a line of a plane of valid samples of which no tap leaves the block."""
    for x in range(out.size):
        j, i = int(places[1, x]), int(places[2, x])
        u, t = places[1, x] - j, places[2, x] - i
        j, i = j - low[1], i - low[2]
        value = _cubic_on(plane[j], i, t)
        if u != 0.0:
            a, c, d = _cubic_on(plane[j - 1], i, t), _cubic_on(plane[j + 1], i, t), _cubic_on(plane[j + 2], i, t)
            value = cubic(a, value, c, d, u)
        fine = abs(value) <= _MOST
        out[x], codes[x] = (value if fine else 0.0), (VALID if fine else MASKED)


@compiled_loop
def _pull_rows(
    values: Image, worst: Codes, screened: bool, way: Way, frame: Frame, order: int, places: Floats, out: Floats,
    codes: Codes,
) -> bool:  # fmt: skip
    """Fill `out` and `codes` line by line; return whether the block has all samples."""
    corner, low, shape = frame
    fits, deep = True, way.ndim == 3
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            _locate(way, corner, z, y, places)
            line, said = out[z, y], codes[z, y]
            inside = _none_leaves(places, way.ndim, low, values.shape, shape, order)
            if inside and order == 1:
                _linear_line(values, worst, screened, places, low, deep, line, said)
            elif inside and not (screened or deep):
                _cubic_line(values[0], places, low, line, said)
            else:
                for x in range(line.size):
                    value, code = _pull_pixel(values, worst, screened, places, x, low, shape, order)
                    fits = fits and code != _LACKING
                    line[x], said[x] = value, max(code, 0)
    return fits


@compiled_loop
def _find_rows(size: Three, way: Way, frame: Frame, places: Floats, index: Indices, codes: Codes) -> bool:
    """Write which sample of a block of `size` is nearest, and VALID where there is one."""
    corner, low, shape = frame
    fits = True
    for z in range(index.shape[0]):
        for y in range(index.shape[1]):
            _locate(way, corner, z, y, places)
            for x in range(index.shape[2]):
                k = _taps(places[0, x], low[0], size[0], shape[0], 0)
                j = _taps(places[1, x], low[1], size[1], shape[1], 0)
                i = _taps(places[2, x], low[2], size[2], shape[2], 0)
                if k[1] == 0 or j[1] == 0 or i[1] == 0:
                    continue
                fits = fits and min(k[1], j[1], i[1]) > 0
                index[z, y, x], codes[z, y, x] = (k[0] * size[1] + j[0]) * size[2] + i[0], VALID
    return fits
