"""Which pixels of the moving image a block of the reference's grid takes, and pulling them onto that grid.

A transform says where a pixel lies, `bigncc.interpolation` and `bigncc.warping` what is there; nothing depends on the
block in which a pixel is pulled.
"""

import math
from collections.abc import Iterator

import numpy as np

from bigncc.errors import InputError
from bigncc.interpolation import TAPS, Codes, Floats, Image, pull_shifted, split
from bigncc.tiles import Roi, Shape, parts, roi_shape
from bigncc.transform import Affine, Displacement, Transform, Translation
from bigncc.warping import Bracket, Way, bracket, by_matrix, by_nodes, corners, pull_each

_FAR = 2.0**62  # beyond every image, and unlike inf it has a floor

Reach = list[tuple[int, int]]


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
    reach = _reach(transform, roi, order)
    starts = [min(max(start, 0), n) for (start, _), n in zip(reach, shape, strict=True)]
    return tuple(slice(a, min(max(stop, a), n)) for a, (_, stop), n in zip(starts, reach, shape, strict=True))


def whole_pixels(transform: Transform, order: int) -> tuple[int, ...] | None:
    """Return the shift in pixels if pulling is a plain slice, else None."""
    _check_order(order)
    plain = _plain(transform)
    if not isinstance(plain, Translation):
        return None
    parts = [split(offset, order) for offset in plain.offset]
    return None if any(fraction for _, fraction, _, _ in parts) else tuple(whole for whole, _, _, _ in parts)


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
    plain = _plain(transform)
    if isinstance(plain, Translation):
        filled = pull_shifted(plain.offset, block, validity, roi, source, shape, order)
    else:
        filled = pull_each(_way(plain, roi), block, validity, roi, source, shape, order)
    if filled is None:
        message = f"the block covers {source} of the moving image and {roi} needs more: source_roi says how much"
        raise ValueError(message)
    return filled


def check_view(transform: Transform, roi: Roi, shape: Shape, order: int) -> None:
    """Raise InputError if no pixel of `roi` lies in the moving image of `shape`.

    Of a displacement field no more is read than shows that one does.
    """
    order = min(order, 1)  # of the place, not of all that is weighed around it
    low, high = [math.inf] * len(shape), [-math.inf] * len(shape)
    for part in _from_the_middle(roi) if isinstance(transform, Displacement) else [roi]:
        if _is_seen(transform, part, shape, order):
            return
        for axis, (start, stop) in enumerate(_reach(transform, part, order)):
            if start < stop:
                low[axis], high[axis] = min(low[axis], start), max(high[axis], stop - 1)
    names = ("z", "y", "x")[-len(shape) :]
    lie = (f"{name} {a:.9g} to {b:.9g}" for name, a, b in zip(names, low, high, strict=True) if a <= b)
    pixels = ", ".join(f"{name} {s.start} to {s.stop - 1}" for name, s in zip(names, roi, strict=True))
    message = (
        f"the transform maps no reference pixel ({pixels}) into the moving image of {list(shape)} pixels (they lie at "
        f"{', '.join(lie) or 'no finite place'}): one from reference pixel to moving pixel, some of them inside, is "
        "accepted"
    )
    raise InputError(message)


def _from_the_middle(roi: Roi) -> list[Roi]:
    """Return blocks of a region, the middle one first."""
    side = 512 if len(roi) == 2 else 64
    middle = [(s.start + s.stop) / 2 for s in roi]

    def far(part: Roi) -> float:
        return math.dist([(s.start + s.stop) / 2 for s in part], middle)

    return sorted(parts(roi, (side,) * len(roi)), key=far)


def _is_seen(transform: Transform, roi: Roi, shape: Shape, order: int) -> bool:
    """Say whether a pixel of a region lies in the moving image; where its bounds do not tell, its halves do."""
    waiting = [roi]
    while waiting:
        part = waiting.pop()
        extent, here = roi_shape(part), transform
        if max(extent) == 1 and isinstance(transform, Displacement):
            here = _at(transform, part)
        sides = list(zip(_reach(here, part, order), shape, strict=True))
        if all(0 <= start < stop <= n for (start, stop), n in sides) and _is_finite(here, part):
            return True
        if max(extent) > 1 and all(start < n and stop > 0 for (start, stop), n in sides):
            axis = extent.index(max(extent))
            s = part[axis]
            middle = (s.start + s.stop) // 2
            halves = slice(s.start, middle), slice(middle, s.stop)
            waiting += [(*part[:axis], half, *part[axis + 1 :]) for half in halves]
    return False


def _at(transform: Displacement, pixel: Roi) -> Displacement:
    """Return the displacement of a pixel as that of all."""
    nodes, brackets = _nodes_around(transform, pixel)
    with np.errstate(invalid="ignore", over="ignore"):
        for axis, (first, second, weight) in reversed(list(enumerate(brackets, start=1))):
            a, b = nodes.take(first, axis), nodes.take(second, axis)
            nodes = a + weight[0] * (b - a)
    return Displacement(nodes)


def _is_finite(transform: Transform, roi: Roi) -> bool:
    return not isinstance(transform, Displacement) or bool(np.isfinite(_nodes_around(transform, roi)[0]).all())


def _check_order(order: int) -> None:
    if order not in TAPS:
        message = f"interpolation order is {order!r}: 0 (nearest), 1 (linear) or 3 (cubic) is accepted"
        raise InputError(message)


def _check(transform: Transform, roi: Roi, shape: Shape, order: int) -> None:
    _check_order(order)
    if not transform.ndim == len(roi) == len(shape):
        message = f"transform, region and image have {transform.ndim}, {len(roi)}, {len(shape)} axes: equal is accepted"
        raise InputError(message)


def _plain(transform: Transform) -> Transform:
    """Return an affine transform that does no more than shift as a translation."""
    return Translation(transform.offset) if isinstance(transform, Affine) and transform.only_shifts else transform


def _way(transform: Affine | Displacement, roi: Roi) -> Way:
    if isinstance(transform, Affine):
        return by_matrix(transform.matrix, transform.offset)
    if 0 in roi_shape(roi):  # no pixel, hence no node
        return by_matrix(((0.0,) * len(roi),) * len(roi), (0.0,) * len(roi))
    return by_nodes(*_nodes_around(transform, roi))


def _nodes_around(transform: Displacement, roi: Roi) -> tuple[Floats, list[Bracket]]:
    """Return the nodes on which `roi` depends, shape (ndim, ...), and the brackets of each axis among them."""
    brackets = [bracket(span, *axis) for span, axis in zip(roi, transform.grid, strict=True)]
    starts = [int(first[0]) for first, _, _ in brackets]
    cut = tuple(slice(start, int(second[-1]) + 1) for start, (_, second, _) in zip(starts, brackets, strict=True))
    nodes = np.ascontiguousarray(transform.field[(slice(None), *cut)], np.float64)
    return nodes, [(a - start, b - start, weight) for start, (a, b, weight) in zip(starts, brackets, strict=True)]


def _reach(transform: Transform, roi: Roi, order: int) -> Reach:
    """Return per axis the first tap of a region, which is not empty, and the first pixel after the last one."""
    plain = _plain(transform)
    if isinstance(plain, Translation):
        each = [(span, *split(offset, order)) for span, offset in zip(roi, plain.offset, strict=True)]
        return [(s.start + whole - before, s.stop + whole + after) for s, whole, _, before, after in each]
    if isinstance(plain, Displacement):
        return [_taps_between(low, high, order) for low, high in _displaced(plain, roi)]
    places = corners(by_matrix(plain.matrix, plain.offset), roi)
    # what overflows may be anywhere
    low, high = np.nan_to_num(places.min(axis=0), nan=-_FAR), np.nan_to_num(places.max(axis=0), nan=_FAR)
    return [_taps_between(a, b, order) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _taps_between(low: float, high: float, order: int) -> tuple[int, int]:
    """Return the first tap of a place between two numbers, and the first pixel after the last one."""
    low, high, (before, after) = min(max(low, -_FAR), _FAR), min(max(high, -_FAR), _FAR), TAPS[order]
    if order == 0:
        return math.floor(low + 0.5), math.floor(high + 0.5) + 1
    return math.floor(low) - before, math.ceil(high) + after


def _displaced(transform: Displacement, roi: Roi) -> Iterator[tuple[float, float]]:
    """Yield between which numbers the places of a region lie, along each axis."""
    nodes, brackets = _nodes_around(transform, roi)
    finite = np.isfinite(nodes)
    for axis, (span, (first, second, _)) in enumerate(zip(roi, brackets, strict=True)):
        others = tuple(other for other in range(len(roi)) if other != axis)
        low = np.where(finite[axis], nodes[axis], np.inf).min(axis=others)
        high = np.where(finite[axis], nodes[axis], -np.inf).max(axis=others)
        # no slack: interpolation in differences stays between its ends, and rounding keeps the order of numbers
        pixel = np.arange(span.start, span.stop)
        yield (
            float((pixel + np.minimum(low[first], low[second])).min()),
            float((pixel + np.maximum(high[first], high[second])).max()),
        )
