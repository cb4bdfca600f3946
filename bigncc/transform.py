"""Where a reference pixel lies in the moving image, and pulling the moving image onto the reference's grid.

A transform says where, `bigncc.interpolation` what is there; nothing depends on the block in which a pixel is pulled.
"""

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import product
from numbers import Real
from typing import Any, Protocol, overload

import numpy as np

from bigncc.errors import InputError
from bigncc.interpolation import (
    TAPS,
    Bracket,
    Codes,
    Floats,
    Image,
    between_nodes,
    bracket,
    pull_displaced,
    pull_nearest,
    pull_shifted,
    split,
)
from bigncc.tiles import Roi, Shape, roi_shape

_FAR = 2.0**62  # beyond every image, and unlike inf it has a floor

_CONDITION = 1e6  # beyond it a millionth of the image decides where the rest lies


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
        numbers = _numbers(self.offset)
        if len(numbers) not in (2, 3):
            message = f"translation offset is {self.offset!r}: 2 or 3 finite numbers ([z,] y, x) are accepted"
            raise InputError(message)
        object.__setattr__(self, "offset", numbers)

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.offset)


@dataclass(frozen=True)
class Affine:
    """Rotation, scale and shear: moving pixel = `matrix` @ reference pixel + `offset`.

    Parameters
    ----------
    matrix : tuple of tuple of float
        Row i has what each component of the reference pixel, ``([z,] y, x)``, adds to component i of the moving pixel.
    offset : tuple of float
        Where reference pixel 0 lies in the moving image, ``([z,] y, x)``, in pixels.

    Raises
    ------
    InputError
        If these are not 2 x 2 and 2, or 3 x 3 and 3 finite numbers, or the matrix cannot be inverted.
    """

    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        rows = tuple(_numbers(row) for row in self.matrix) if isinstance(self.matrix, Iterable) else ()
        offset = _numbers(self.offset)
        if len(offset) not in (2, 3) or [len(row) for row in rows] != [len(offset)] * len(offset):
            message = (
                f"affine has matrix {self.matrix!r} and offset {self.offset!r}: 2 x 2 and 2, or 3 x 3 and 3 finite "
                "numbers are accepted"
            )
            raise InputError(message)
        if not (condition := float(np.linalg.cond(rows))) < _CONDITION:
            message = f"affine matrix {[list(row) for row in rows]} has condition {condition:.3g}: "
            message += f"one that can be inverted, below {_CONDITION:g}, is accepted"
            raise InputError(message)
        object.__setattr__(self, "matrix", rows)
        object.__setattr__(self, "offset", offset)

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.offset)

    def inverse(self) -> "Affine":
        """Return the transform from moving pixel to reference pixel."""
        back = np.linalg.inv(self.matrix)
        return Affine(tuple(map(tuple, back.tolist())), tuple((-back @ self.offset).tolist()))


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


Transform = Translation | Affine | Displacement


def points(transform: Transform, pixels: Floats) -> Floats:
    """Return where reference pixels, shape (..., ndim), lie in the moving image; they may lie between pixels."""
    if isinstance(transform, Translation):
        return pixels + np.asarray(transform.offset)
    if isinstance(transform, Displacement):
        return pixels + _between(transform, pixels)
    moved: Floats = pixels @ np.asarray(transform.matrix).T + np.asarray(transform.offset)
    return moved


def _between(transform: Displacement, pixels: Floats) -> Floats:
    """Return the displacement at points, multilinear between nodes and nearest beyond them."""
    nodes = np.asarray(transform.field[(slice(None),) * (transform.ndim + 1)], np.float64)
    flat = np.asarray(pixels, np.float64).reshape(-1, transform.ndim)
    total, weights = np.zeros(flat.shape), []
    for axis, (count, step, origin) in enumerate(transform.grid):
        place = np.clip((flat[:, axis] - origin) / step, 0, count - 1)
        first = np.minimum(np.floor(place).astype(np.int64), max(count - 2, 0))
        weights.append([(first, 1 - (place - first)), (np.minimum(first + 1, count - 1), place - first)])
    for corner in product(*weights):
        weight: Floats = functools.reduce(np.multiply, (w for _, w in corner))
        values = np.moveaxis(nodes[(slice(None), *(index for index, _ in corner))], 0, -1)
        # a node without weight may be anything
        total += np.where(weight[:, None] == 0, 0.0, values * weight[:, None])
    return total.reshape(np.shape(pixels))


@overload
def compose(outer: Translation | Affine, inner: Translation | Affine) -> Translation | Affine: ...
@overload
def compose(outer: Transform, inner: Transform) -> Transform: ...
def compose(outer: Transform, inner: Transform) -> Transform:
    """Return the transform that applies `inner` first: moving pixel = outer(inner(reference pixel)).

    Raises
    ------
    InputError
        If `outer` is a displacement field, which nodes elsewhere cannot say exactly; or the axes differ.
    """
    if outer.ndim != inner.ndim:
        message = f"transforms of {outer.ndim} and {inner.ndim} axes are composed: as many axes are accepted"
        raise InputError(message)
    if isinstance(outer, Displacement):
        message = "a displacement field is composed with what comes before it: Displacement.sample of both is accepted"
        raise InputError(message)
    if isinstance(inner, Displacement):
        nodes = np.asarray(inner.field[(slice(None),) * (inner.ndim + 1)], np.float64)
        pixels = np.stack(np.meshgrid(*(o + s * np.arange(n) for n, s, o in inner.grid), indexing="ij"), axis=-1)
        moved = points(outer, pixels + np.moveaxis(nodes, 0, -1)) - pixels
        return Displacement(np.moveaxis(moved, -1, 0), step=inner.step, origin=inner.origin)
    if isinstance(outer, Translation) and isinstance(inner, Translation):
        return Translation(tuple(a + b for a, b in zip(inner.offset, outer.offset, strict=True)))
    one = np.eye(inner.ndim)
    first, second = (t.matrix if isinstance(t, Affine) else one for t in (inner, outer))
    matrix, offset = np.asarray(second) @ np.asarray(first), points(outer, np.asarray(inner.offset))
    return Affine(tuple(map(tuple, matrix.tolist())), tuple(offset.tolist()))


def shift_in_words(offset: tuple[float, ...]) -> str:
    """Return a shift as ``y +1.25, x -3``, to a thousandth."""
    names = ("z", "y", "x")[-len(offset) :]
    # + 0.0 makes a zero of a negative zero
    numbers = (f"{round(value, 3) + 0.0:+.3f}".rstrip("0").removesuffix(".") for value in offset)
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))


def in_words(transform: Transform, shape: Shape) -> str:
    """Say what a transform does with an image of `shape`."""
    if isinstance(transform, Translation):
        return f"shifted by {shift_in_words(transform.offset)} pixels"
    return "warped"


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
        parts = [(span, *split(offset, order)) for span, offset in zip(roi, transform.offset, strict=True)]
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
    parts = [split(offset, order) for offset in transform.offset]
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
        filled = pull_shifted(transform.offset, block, validity, roi, source, shape, order)
    elif order == 0:
        filled = pull_nearest(_shifts(transform, roi), block, validity, roi, source, shape)
    else:
        filled = pull_displaced(_shifts(transform, roi), block, validity, roi, source, shape, order)
    if filled is None:
        message = f"the block covers {source} of the moving image and {roi} needs more: source_roi says how much"
        raise ValueError(message)
    return filled


def to_dict(transform: Transform) -> dict[str, Any]:
    """Return `transform` in numbers, lists and words that JSON has; a non-finite node becomes None."""
    if isinstance(transform, Translation):
        return {"kind": "translation", "offset": list(transform.offset)}
    if isinstance(transform, Affine):
        return {"kind": "affine", "matrix": [list(row) for row in transform.matrix], "offset": list(transform.offset)}
    nodes = np.asarray(transform.field[(slice(None),) * (transform.ndim + 1)], np.float64)
    field = nodes.astype(object)
    field[~np.isfinite(nodes)] = None
    _, step, origin = (list(numbers) for numbers in zip(*transform.grid, strict=True))
    return {"kind": "displacement", "step": step, "origin": origin, "field": field.tolist()}


def from_dict(d: dict[str, Any]) -> Transform:
    """Return the transform that `to_dict` described, or raise `InputError`."""
    kind = d.get("kind") if isinstance(d, dict) else None
    known = {
        "translation": ["kind", "offset"],
        "affine": ["kind", "matrix", "offset"],
        "displacement": ["field", "kind", "origin", "step"],
    }
    if not isinstance(kind, str) or kind not in known:
        message = f"transform kind is {kind!r}: one of {', '.join(known)} is accepted"
        raise InputError(message)
    if set(d) != set(known[kind]):
        message = f"the {kind} has the keys {sorted(map(str, d))}: exactly {known[kind]} are accepted"
        raise InputError(message)
    if kind == "translation":
        return Translation(d["offset"])
    if kind == "affine":
        return Affine(d["matrix"], d["offset"])
    try:
        nodes = np.array(d["field"], dtype=object)
        field = nodes.astype(np.float64) if all(v is None or _is_number(v) for v in nodes.flat) else None
    except (TypeError, ValueError, OverflowError):
        field = None
    if field is None:
        message = "the displacement's field is not a regular nested list: numbers, or null for no view, are accepted"
        raise InputError(message)
    return Displacement(field, step=d["step"], origin=d["origin"])


def _numbers(values: Any) -> tuple[float, ...]:
    """Return finite numbers as floats; none if one of the values is something else."""
    try:
        numbers = tuple(float(value) for value in values if _is_number(value))
        return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else ()
    except (TypeError, OverflowError):
        return ()


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
    if order not in TAPS:
        message = f"interpolation order is {order!r}: 0 (nearest), 1 (linear) or 3 (cubic) is accepted"
        raise InputError(message)


def _check(transform: Transform, roi: Roi, shape: Shape, order: int) -> None:
    _check_order(order)
    if not transform.ndim == len(roi) == len(shape):
        message = f"transform, region and image have {transform.ndim}, {len(roi)}, {len(shape)} axes: equal is accepted"
        raise InputError(message)


def _nodes_around(transform: Displacement, roi: Roi) -> tuple[Floats, list[Bracket]]:
    """Return the nodes on which `roi` depends, shape (ndim, ...), and the brackets of each axis among them."""
    brackets = [bracket(span, *axis) for span, axis in zip(roi, transform.grid, strict=True)]
    starts = [int(first[0]) for first, _, _ in brackets]
    cut = tuple(slice(start, int(second[-1]) + 1) for start, (_, second, _) in zip(starts, brackets, strict=True))
    nodes = np.ascontiguousarray(transform.field[(slice(None), *cut)], np.float64)
    return nodes, [(a - start, b - start, weight) for start, (a, b, weight) in zip(starts, brackets, strict=True)]


def _reach(transform: Any, roi: Roi, order: int) -> list[tuple[int, int]]:
    if isinstance(transform, Affine):
        corners = np.stack(np.meshgrid(*([s.start, s.stop - 1] for s in roi), indexing="ij"), -1).reshape(-1, len(roi))
        moved = points(transform, corners)
        return [(math.floor(a) - 2, math.ceil(b) + 3) for a, b in zip(moved.min(0), moved.max(0))]
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
        before, after = TAPS[order]
        if order == 0:
            reach.append((math.floor(lowest + 0.5), math.floor(highest + 0.5) + 1))
        else:
            reach.append((math.floor(lowest) - before, math.ceil(highest) + after))
    return reach


def _shifts(transform: Any, roi: Roi) -> Floats:
    """Return the displacement of each pixel, shape (ndim, *roi)."""
    if isinstance(transform, Affine):
        pixels = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in roi), indexing="ij"), -1)
        return np.ascontiguousarray(np.moveaxis(points(transform, pixels) - pixels, -1, 0))
    if 0 in roi_shape(roi):
        return np.empty((len(roi), *roi_shape(roi)))
    return between_nodes(*_nodes_around(transform, roi))
