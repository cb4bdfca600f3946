"""Where a reference pixel lies in the moving image: shifts, affine maps and fields, in JSON and in words."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import KW_ONLY, dataclass
from itertools import product
from numbers import Real
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigncc.errors import InputError

Floats = NDArray[np.float64]

_BATCH = 2**15  # points that a sampled map is called with at once

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

    @property
    def only_shifts(self) -> bool:
        """Whether the matrix is that of the identity."""
        return all(value == float(i == j) for i, row in enumerate(self.matrix) for j, value in enumerate(row))

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
    error : float, optional
        Of a sampled map: how far it is at most from what is interpolated midway between the nodes, in pixels.

    Raises
    ------
    InputError
        If the field has another shape or type, or `step` and `origin` do not fit it.
    """

    field: _Nodes
    _: KW_ONLY
    step: int | tuple[int, ...] = 1
    origin: int | tuple[int, ...] = 0
    error: float | None = None

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.field, "shape", ()))
        if len(shape) not in (3, 4) or shape[0] != len(shape) - 1 or 0 in shape:
            message = f"displacement field has shape {list(shape)}: [2, y, x] or [3, z, y, x], not empty, is accepted"
            raise InputError(message)
        if np.dtype(self.field.dtype).kind not in "iuf":
            message = f"displacement field is of type {self.field.dtype}: integers or floats are accepted"
            raise InputError(message)
        object.__setattr__(self, "step", _whole_numbers("step", self.step, shape[0], 1))
        object.__setattr__(self, "origin", _whole_numbers("origin", self.origin, shape[0], -(2**31)))

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

    @classmethod
    def sample(
        cls, function: Callable[[Floats], ArrayLike], shape: tuple[int, ...], step: int | tuple[int, ...] = 16
    ) -> "Displacement":
        """Return the field of any map from reference pixels to moving pixels, sampled on nodes that cover an image.

        Parameters
        ----------
        function : callable
            Called with reference pixels, float64 of shape ``(n, ndim)``, in the order ``([z,] y, x)``; returns where
            they lie in the moving image, of the same shape and order. Not finite: outside of the moving image's view.
            Called for some ten thousand points at a time, none of which lies beyond the image.
        shape : tuple of int
            Extent of the reference, ``([z,] y, x)``.
        step : int or tuple of int
            Pixels between nodes per axis.

        Returns
        -------
        Displacement
            Its ``error`` says how far it is from the map midway between the nodes: halving the step quarters it where
            the map is smooth.

        Raises
        ------
        InputError
            If `shape` or `step` are no such numbers, or the map returns something else, or nowhere a finite pixel.
        """
        return _sampled(function, shape, step)


Transform = Translation | Affine | Displacement


def points(transform: Transform, pixels: Floats) -> Floats:
    """Return where reference pixels, shape (..., ndim), or what is between them, lie in the moving image.

    Of a displacement field all is read.
    """
    if isinstance(transform, Displacement):
        return pixels + _between(transform, pixels)
    turned = pixels if isinstance(transform, Translation) else pixels @ np.asarray(transform.matrix).T
    moved: Floats = turned + np.asarray(transform.offset)
    return moved


def _between(transform: Displacement, pixels: Floats) -> Floats:
    """Return the displacement at points, multilinear between nodes and nearest beyond them."""
    nodes = np.asarray(transform.field[(slice(None),) * (transform.ndim + 1)], np.float64)
    flat = np.asarray(pixels, np.float64).reshape(-1, transform.ndim)
    total, brackets = np.zeros(flat.shape), []
    for axis, (count, step, origin) in enumerate(transform.grid):
        place = np.clip((flat[:, axis] - origin) / step, 0, count - 1)
        first = np.floor(place).astype(np.int64)
        brackets.append([(first, 1 - (place - first)), (np.minimum(first + 1, count - 1), place - first)])
    for corner in product(*brackets):
        weight: Floats = functools.reduce(np.multiply, (w for _, w in corner))
        at: tuple[Any, ...] = tuple(index for index, _ in corner)
        values = nodes[(slice(None), *at)].T
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


def _sampled(
    function: Callable[[Floats], ArrayLike], shape: tuple[int, ...], step: int | tuple[int, ...]
) -> Displacement:
    extent = _whole_numbers("shape", shape, len(shape) if isinstance(shape, Sized) else 0, 1)
    if len(extent) not in (2, 3):
        message = f"displacement shape is {shape!r}: the extent of an image, ([z,] y, x), is accepted"
        raise InputError(message)
    apart = _whole_numbers("step", step, len(extent), 1)
    # the map is asked for no pixel beyond the image, where it may have no meaning
    places = [np.minimum(np.arange(0, n - 1 + s, s), n - 1.0) for n, s in zip(extent, apart, strict=True)]
    field = np.empty((len(extent), *map(len, places)))
    for node, pixels in _in_batches(places):
        field[(slice(None), *node)] = (_mapped(function, pixels) - pixels).T
    if not np.isfinite(field).all(axis=0).any():
        message = f"the map returns a finite pixel at none of {field[0].size} nodes: one that does is accepted"
        raise InputError(message)
    error, between = 0.0, [(at[:-1] + at[1:]) / 2 if len(at) > 1 else at for at in places]
    for cell, pixels in _in_batches(between):
        corners = product(*((i, np.minimum(i + 1, len(at) - 1)) for i, at in zip(cell, places, strict=True)))
        there = _mapped(function, pixels)
        with np.errstate(invalid="ignore"):  # where the map is not finite
            mean = np.mean([field[(slice(None), *corner)] for corner in corners], axis=0)
            off = np.linalg.norm(pixels + mean.T - there, axis=1)
        error = max(error, float(off[np.isfinite(off)].max(initial=0.0)))
    for axis, (at, s) in enumerate(zip(places, apart, strict=True), start=1):
        if len(at) > 1:  # the last node is where it makes the last pixel right
            last, before = field.take(-1, axis), field.take(-2, axis)
            with np.errstate(invalid="ignore"):
                field[(slice(None),) * axis + (-1,)] = before + (last - before) * (s / (at[-1] - at[-2]))
    return Displacement(field, step=apart, error=error)


def _in_batches(axes: list[Floats]) -> Iterator[tuple[tuple[Any, ...], Floats]]:
    """Yield the points of a grid, some at a time: their indices, one array per axis, and the points themselves."""
    counts = tuple(map(len, axes))
    for start in range(0, total := math.prod(counts), _BATCH):
        index = np.unravel_index(np.arange(start, min(start + _BATCH, total)), counts)
        yield index, np.stack([at[i] for at, i in zip(axes, index, strict=True)], axis=1)


def _mapped(function: Callable[[Floats], ArrayLike], pixels: Floats) -> Floats:
    found = np.asarray(function(pixels.copy()))
    if found.shape != pixels.shape or found.dtype.kind not in "iuf":
        message = f"the map returns {found.dtype} of shape {list(found.shape)} for pixels of shape "
        message += f"{list(pixels.shape)}: real numbers of the same shape are accepted"
        raise InputError(message)
    return found.astype(np.float64, copy=False)


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


def _whole_numbers(name: str, value: Any, ndim: int, lowest: int) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(n) for n in (value if isinstance(value, Iterable) else (value,) * ndim))
    except TypeError:
        numbers = ()
    if len(numbers) != ndim or not all(lowest <= n < 2**31 for n in numbers):
        message = f"displacement {name} is {value!r}: a whole number of at least {lowest}, or {ndim} such, is accepted"
        raise InputError(message)
    return numbers
