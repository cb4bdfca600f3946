"""Where a reference pixel lies in the moving image, and pulling the moving image onto the reference's grid.

Interpolators are local, source coordinates are formed in the frame of the whole image, and every sum has one order:
what a pixel becomes cannot depend on the block in which it is pulled.
"""

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled
from bigncc.errors import InputError
from bigncc.tiles import Roi, Shape, roi_shape, roi_within

VALID, MASKED, OUTSIDE = 1, 0, 2

Image = NDArray[Any]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Three = tuple[int, int, int]
Frame = tuple[Three, Three, Three]  # where the output and the block begin, and the extent of the moving image

_TAPS = {0: (0, 0), 1: (0, 1), 3: (1, 2)}  # per order: taps before and after the whole pixel
_FAR = 2.0**62  # beyond every image, and unlike inf it has a floor
_BAD = MASKED ^ VALID  # in `code ^ VALID` (0 valid, 1 masked, 3 outside) the worst of several is their bitwise or


class _Nodes(Protocol):
    """What numpy and Zarr arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Translation:
    """The same shift everywhere: moving pixel = reference pixel + `offset`.

    Parameters
    ----------
    offset : tuple of float
        Shift per axis, ``([z,] y, x)``, in pixels.

    Raises
    ------
    InputError
        If these are not 2 or 3 finite numbers.
    """

    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        try:
            numbers = tuple(float(value) for value in self.offset if _is_number(value))
            fine = len(numbers) == len(self.offset) and len(numbers) in (2, 3) and all(map(math.isfinite, numbers))
        except (TypeError, OverflowError):
            fine = False
        if not fine:
            message = f"translation offset is {self.offset!r}: 2 or 3 finite numbers ([z,] y, x) are accepted"
            raise InputError(message)
        object.__setattr__(self, "offset", numbers)

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.offset)


@dataclass(frozen=True, eq=False)
class Displacement:
    """A shift that varies: moving pixel = reference pixel + field, linear between nodes and nearest beyond them.

    Parameters
    ----------
    field : array, shape (ndim, [z,] y, x)
        ``field[i]`` is the shift along axis i in pixels; anything with ``shape``, ``dtype`` and slicing. Pixels
        that depend on a non-finite node are outside the moving image's view.
    step : int or tuple of int
        Pixels between nodes per axis.
    origin : int or tuple of int
        Reference pixel of the first node per axis: node k is pixel ``origin + k * step``.

    Raises
    ------
    InputError
        If the field has another shape or type, or `step` and `origin` do not fit it.
    """

    field: _Nodes
    _: KW_ONLY
    step: int | tuple[int, ...] = 1
    origin: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.field, "shape", ()))
        if len(shape) not in (3, 4) or shape[0] != len(shape) - 1 or 0 in shape:
            message = f"displacement field has shape {list(shape)}: [2, y, x] or [3, z, y, x], not empty, is accepted"
            raise InputError(message)
        if np.dtype(self.field.dtype).kind not in "iuf":
            message = f"displacement field is of type {self.field.dtype}: integers or floats are accepted"
            raise InputError(message)
        object.__setattr__(self, "step", _per_axis("step", self.step, shape[0], 1))
        object.__setattr__(self, "origin", _per_axis("origin", self.origin, shape[0], -(2**31)))

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return int(self.field.shape[0])

    @property
    def grid(self) -> tuple[tuple[int, int, int], ...]:
        """Number of nodes, step and origin of each axis."""
        assert isinstance(self.step, tuple)  # __post_init__ made them tuples
        assert isinstance(self.origin, tuple)
        return tuple(zip(self.field.shape[1:], self.step, self.origin, strict=True))


Transform = Translation | Displacement


def source_roi(transform: Transform, roi: Roi, shape: Shape, order: int) -> Roi:
    """Return the part of the moving image that `pull` can touch for `roi`.

    Parameters
    ----------
    transform : Transform
        Of a displacement field only the nodes around `roi` are read.
    roi : Roi
        Spatial region, ``([z,] y, x)``, on the reference's grid.
    shape : tuple of int
        Spatial shape of the moving image.
    order : {0, 1, 3}
        Interpolation order.

    Returns
    -------
    Roi
        Cut at ``[0, shape)``; an axis is empty, ``start == stop``, where nothing is needed.
    """
    _check(transform, roi, shape, order)
    if 0 in roi_shape(roi):
        return tuple(slice(0, 0) for _ in roi)
    if isinstance(transform, Translation):
        parts = [(span, *_split(offset, order)) for span, offset in zip(roi, transform.offset, strict=True)]
        reach = [(s.start + shift - before, s.stop + shift + after) for s, shift, _, before, after in parts]
    else:
        reach = _reach(transform, roi, order)
    starts = [min(max(start, 0), n) for (start, _), n in zip(reach, shape, strict=True)]
    return tuple(slice(a, min(max(stop, a), n)) for a, (_, stop), n in zip(starts, reach, shape, strict=True))


def whole_pixels(transform: Transform, order: int) -> tuple[int, ...] | None:
    """Return the shift in pixels if pulling is a plain slice, else None."""
    _check_order(order)
    if isinstance(transform, Displacement):
        return None
    parts = [_split(offset, order) for offset in transform.offset]
    return None if any(fraction for _, fraction, _, _ in parts) else tuple(shift for shift, _, _, _ in parts)


def pull(
    transform: Transform, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape, order: int
) -> tuple[Image, Codes]:
    """Bring a block of the moving image onto the reference's grid.

    Parameters
    ----------
    transform : Transform
        From reference pixel to moving pixel.
    block : ndarray, shape (..., [z,] y, x)
        ``moving[..., *source]``, of any real type; axes in front are batches.
    validity : ndarray of uint8 or None
        Code per sample of `block`, of its shape or its spatial shape. None: all valid. Non-finite samples never are.
    roi : Roi
        Spatial region of the reference's grid to fill.
    source : Roi
        Spatial region of the moving image that `block` covers; it contains what `source_roi` returns.
    shape : tuple of int
        Spatial shape of the whole moving image.
    order : {0, 1, 3}
        Nearest, linear, or cubic convolution (Keys, a = -1/2).

    Returns
    -------
    values : ndarray, shape (..., *roi)
        Of the block's type for order 0 and for shifts by whole pixels, else float64; 0 where not valid.
    validity : ndarray of uint8, shape (..., *roi)
        OUTSIDE where a tap lies outside of the moving image or the displacement is not finite, else MASKED where a tap
        is not valid or the result overflows, else VALID. A tap of weight 0 is not a tap.
    """
    _check(transform, roi, shape, order)
    spatial = roi_shape(source)
    if block.shape[-len(spatial) :] != spatial:
        message = f"moving block has shape {list(block.shape)}: {list(spatial)} after any batch axes is accepted"
        raise InputError(message)
    if validity is not None and validity.shape not in (block.shape, spatial):
        message = f"validity has shape {list(validity.shape)}: {list(block.shape)} or {list(spatial)} is accepted"
        raise InputError(message)
    if isinstance(transform, Translation):
        filled = _pull_shifted(transform, block, validity, roi, source, shape, order)
    elif order == 0:
        filled = _pull_nearest(transform, block, validity, roi, source, shape)
    else:
        filled = _pull_displaced(transform, block, validity, roi, source, shape, order)
    if filled is None:
        message = f"the block covers {source} of the moving image and {roi} needs more: source_roi says how much"
        raise ValueError(message)
    return filled


def to_dict(transform: Transform) -> dict[str, Any]:
    """Return `transform` in numbers, lists and words that JSON has; a non-finite node becomes None."""
    if isinstance(transform, Translation):
        return {"kind": "translation", "offset": list(transform.offset)}
    nodes = np.asarray(transform.field[(slice(None),) * (transform.ndim + 1)], np.float64)
    field = nodes.astype(object)
    field[~np.isfinite(nodes)] = None
    _, step, origin = (list(numbers) for numbers in zip(*transform.grid, strict=True))
    return {"kind": "displacement", "step": step, "origin": origin, "field": field.tolist()}


def from_dict(d: dict[str, Any]) -> Transform:
    """Return the transform that `to_dict` described, or raise `InputError`."""
    kind = d.get("kind") if isinstance(d, dict) else None
    known = {"translation": ["kind", "offset"], "displacement": ["field", "kind", "origin", "step"]}
    if not isinstance(kind, str) or kind not in known:
        message = f"transform kind is {kind!r}: one of {', '.join(known)} is accepted"
        raise InputError(message)
    if set(d) != set(known[kind]):
        message = f"the {kind} has the keys {sorted(map(str, d))}: exactly {known[kind]} are accepted"
        raise InputError(message)
    if kind == "translation":
        return Translation(d["offset"])
    try:
        nodes = np.array(d["field"], dtype=object)
        field = nodes.astype(np.float64) if all(v is None or _is_number(v) for v in nodes.flat) else None
    except (TypeError, ValueError, OverflowError):
        field = None
    if field is None:
        message = "the displacement's field is not a regular nested list: numbers, or null for no view, are accepted"
        raise InputError(message)
    return Displacement(field, step=d["step"], origin=d["origin"])


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _per_axis(name: str, value: Any, ndim: int, lowest: int) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(n) for n in (value if isinstance(value, Iterable) else (value,) * ndim))
    except TypeError:
        numbers = ()
    if len(numbers) != ndim or not all(lowest <= n < 2**31 for n in numbers):
        message = f"displacement {name} is {value!r}: a whole number of at least {lowest}, or {ndim} such, is accepted"
        raise InputError(message)
    return numbers


def _check_order(order: int) -> None:
    if order not in _TAPS:
        message = f"interpolation order is {order!r}: 0 (nearest), 1 (linear) or 3 (cubic) is accepted"
        raise InputError(message)


def _check(transform: Transform, roi: Roi, shape: Shape, order: int) -> None:
    _check_order(order)
    if not transform.ndim == len(roi) == len(shape):
        message = f"transform, region and image have {transform.ndim}, {len(roi)}, {len(shape)} axes: equal is accepted"
        raise InputError(message)


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


# -- translation: one fraction for all pixels, so axis after axis


def _split(offset: float, order: int) -> tuple[int, float, int, int]:
    """Return whole pixels, fraction, and how many taps lie before and after the whole pixel."""
    if order == 0:
        return math.floor(offset + 0.5), 0.0, 0, 0
    whole = math.floor(offset)
    fraction = offset - whole
    if fraction == 1.0:  # a tiny negative offset, rounded
        whole, fraction = whole + 1, 0.0
    return (whole, fraction, *(_TAPS[order] if fraction else (0, 0)))


def _pull_shifted(
    transform: Translation, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape, order: int
) -> tuple[Image, Codes] | None:
    values, codes = _blank(block, roi, np.float64 if whole_pixels(transform, order) is None else block.dtype)
    parts = [_split(offset, order) for offset in transform.offset]
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


# -- displacement: another shift for each pixel


def _bracket(span: slice, count: int, step: int, origin: int) -> tuple[Indices, Indices, Floats]:
    """Return for each pixel its two nodes and the weight of the second; the same node twice where that is 0."""
    first, rest = np.divmod(np.arange(span.start, span.stop) - origin, step)
    weight = np.where((first >= 0) & (first < count - 1), rest / step, 0.0)
    first = np.clip(first, 0, count - 1)
    return first, first + (weight > 0), weight


def _nodes_around(transform: Displacement, roi: Roi) -> tuple[Floats, list[tuple[Indices, Indices, Floats]]]:
    """Return the nodes on which `roi` depends, shape (ndim, ...), and the brackets of each axis among them."""
    brackets = [_bracket(span, *axis) for span, axis in zip(roi, transform.grid, strict=True)]
    starts = [int(first[0]) for first, _, _ in brackets]
    cut = tuple(slice(start, int(second[-1]) + 1) for start, (_, second, _) in zip(starts, brackets, strict=True))
    nodes = np.ascontiguousarray(transform.field[(slice(None), *cut)], np.float64)
    return nodes, [(a - start, b - start, weight) for start, (a, b, weight) in zip(starts, brackets, strict=True)]


def _reach(transform: Displacement, roi: Roi, order: int) -> list[tuple[int, int]]:
    nodes, brackets = _nodes_around(transform, roi)
    finite, reach = np.isfinite(nodes), []
    for axis, (span, (first, second, _)) in enumerate(zip(roi, brackets, strict=True)):
        others = tuple(other for other in range(len(roi)) if other != axis)
        low = np.where(finite[axis], nodes[axis], np.inf).min(axis=others)
        high = np.where(finite[axis], nodes[axis], -np.inf).max(axis=others)
        # no slack: interpolation in differences stays between its ends, and rounding keeps the order of numbers
        pixel = np.arange(span.start, span.stop)
        lowest = min(max((pixel + np.minimum(low[first], low[second])).min(), -_FAR), _FAR)
        highest = min(max((pixel + np.maximum(high[first], high[second])).max(), -_FAR), _FAR)
        before, after = _TAPS[order]
        if order == 0:
            reach.append((math.floor(lowest + 0.5), math.floor(highest + 0.5) + 1))
        else:
            reach.append((math.floor(lowest) - before, math.ceil(highest) + after))
    return reach


def _pull_displaced(
    transform: Displacement, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape, order: int
) -> tuple[Image, Codes] | None:
    values, codes = _blank(block, roi, np.float64)
    if codes.size == 0:
        return values, codes
    shifts, frame = _shifts(transform, roi), (_starts(roi), _starts(source), _three(shape, 1))
    for k in np.ndindex(block.shape[: -len(roi)]):
        own = validity if validity is None or validity.ndim == len(roi) else validity[k]
        part, worst = _screen(block[k].astype(np.float64, order="C", copy=False), own)
        if not _interpolate(_solid(part), _solid(worst), shifts, frame, order, _solid(values[k]), _solid(codes[k])):
            return None
    return values, codes


def _pull_nearest(
    transform: Displacement, block: Image, validity: Image | None, roi: Roi, source: Roi, shape: Shape
) -> tuple[Image, Codes] | None:
    """Pull the index of each sample in place of the sample, which thus keeps its type, whichever that is."""
    batch, count = block.shape[: -len(roi)], math.prod(roi_shape(source))
    indices = np.arange(count, dtype=np.float64).reshape(roi_shape(source))
    found = _pull_displaced(transform, indices, None, roi, source, shape, 0)
    if found is None or not (found[1] == VALID).any():
        return found and _blank(block, roi, block.dtype)
    index, inside = found[0].astype(np.int64), found[1]
    if validity is not None:
        own = validity.reshape(*validity.shape[: -len(roi)], count)[..., index]
        inside = np.where(inside == VALID, own.astype(np.uint8, copy=False), np.uint8(OUTSIDE))
    values, worst = _screen(block.reshape(*batch, count)[..., index], inside)
    return values, worst ^ np.uint8(VALID)


def _shifts(transform: Displacement, roi: Roi) -> Floats:
    """Return the displacement of each pixel, shape (ndim, z, y, x)."""
    nodes, brackets = _nodes_around(transform, roi)
    for axis, (first, second, weight) in reversed(list(enumerate(brackets, start=1))):
        if weight.any() or not np.array_equal(first, np.arange(nodes.shape[axis])):
            shape = (*nodes.shape[:axis], len(first), *nodes.shape[axis + 1 :])
            lines = nodes.reshape(math.prod(shape[:axis]), nodes.shape[axis], math.prod(shape[axis + 1 :]))
            nodes = _between_nodes(lines, first, second, weight).reshape(shape)
    return nodes.reshape(len(roi), *_three(roi_shape(roi), 1))


def _three(numbers: Iterable[int], lead: int) -> Three:
    z, y, x = (lead, *numbers)[-3:]
    return z, y, x


def _starts(roi: Roi) -> Three:
    return _three((s.start for s in roi), 0)


def _solid(array: Image) -> Image:
    return array.reshape(_three(array.shape, 1))


@compiled
def _between_nodes(lines: Floats, first: Indices, second: Indices, weight: Floats) -> Floats:
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
