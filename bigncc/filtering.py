"""Prefilters of blocks: which convolutions they are, and what a block becomes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import convolution
from bigncc.kernel import RESOLUTION, Pivot, Pivots, as_dtype, scaled
from bigncc.prefilter import Prefilter
from bigncc.tiles import Roi, Shape, roi_shape

Array = NDArray[Any]
Taps = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

KINDS = {
    "difference_of_gaussians": convolution.DIFFERENCE,
    "laplacian_of_gaussian": convolution.LAPLACIAN,
    "local_standardisation": convolution.STANDARD,
}

NOISE = 1e-12
"""Of what the grey level could give: below it is what rounding leaves of a constant (at most 1000 terms, of 1e-16)."""

FLAT, DEEP = (1, 64, 512), (16, 32, 128)
"""Extent of a cell, whose frames lie in a second-level cache, in two dimensions and in three."""

KEPT, PASSING = 8, 11
"""Bytes per pixel of a block: of each image what is filtered, and of one at a time its samples and what is valid."""

TERM, REST = {2: 0.14, 3: 0.5}, 6.0
"""Nanoseconds for each tap of each convolution of a pixel, by the axes, and for all the rest, for an estimate."""


def filtered(
    image: Array, codes: NDArray[np.uint8] | None, prefilter: Prefilter, roi: Roi, pivot: Pivot
) -> NDArray[np.float64]:
    """Filter a block of an image.

    Parameters
    ----------
    image : ndarray, ``[..., [z,] y, x]``
        Block with what the filter needs around `roi`, except where the image ends; axes in front are batches.
    codes : ndarray of uint8 or None
        1 where a sample is valid; NaN and Inf are not anyway.
    prefilter : Prefilter
        Not none.
    roi : tuple of slice
        Part of the filtered axes that is wanted.
    pivot : Pivot
        Subtracted before squares are taken and grey levels are compared with rounding errors.

    Returns
    -------
    ndarray of float64
        NaN where the sample in the middle is not valid.
    """
    ndim = len(roi)
    radius = prefilter.radius(ndim)
    batch, lifted = image.shape[:-ndim], 3 - ndim
    out = np.empty(batch + roi_shape(roi))
    if out.size == 0:
        return out
    taps, kind = _taps(prefilter, ndim), KINDS[prefilter.kind]
    gain = sum(np.abs(c[0]) + 2 * np.abs(c[1:]).sum() for _, _, c in taps)
    noise = RESOLUTION if kind == convolution.STANDARD else NOISE * max(1.0, float(gain))
    unit = 1.0 if kind == convolution.STANDARD else 1.0 / pivot.scale
    around = (0,) * lifted + radius
    start = (0,) * lifted + tuple(s.start for s in roi)
    size = _cell(around, (1,) * lifted + roi_shape(roi))
    for index in np.ndindex(batch):
        samples = scaled(as_dtype(image[index], np.dtype(np.float64)), pivot)
        valid = _valid(image[index], None if codes is None else codes[index])
        shape = (1,) * lifted + samples.shape
        masked = valid is not None
        flags = np.ones((1, 1, 1), np.uint8) if valid is None else valid.reshape(shape)
        work = _work(size, around, kind, masked=masked)
        rest = (noise, unit), work, out[index].reshape((1,) * lifted + roi_shape(roi))
        middle = pivot.value * pivot.scale
        convolution.walk(samples.reshape(shape), flags, masked, middle, start, size, around, taps, kind, *rest)
    return out


def prefiltered(
    images: dict[str, Any], core: Roi, radius: Shape, prefilter: Prefilter, pivots: Pivots
) -> tuple[dict[str, Any], Roi, Pivots]:
    """Filter the images of a block, and leave the margin that is left for what follows.

    Parameters
    ----------
    images : dict
        Blocks by the names of `bigncc.pair.Pair`; what is no image is a validity.
    core : tuple of slice
        Part of the filtered axes that wants values.
    radius : tuple of int
        Margin that is needed around it afterwards; there is less only where the image ends.
    prefilter, pivots
        As for `filtered`; the moving image has the second pivot.

    Returns
    -------
    images, core, pivots
        As they are correlated: what is filtered lies about 0.
    """
    ndim = len(core)
    extent = images["reference"].shape[-ndim:]
    ends = zip(core, radius, extent, strict=True)
    kept = tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in ends)
    flags = {"reference": "reference_validity", "moving": "moving_validity", "before": "before_validity"}
    centres = [p if isinstance(p, Pivot) else Pivot(float(p)) for p in pivots]
    found = {name: images[name][(..., *kept)] for name in flags.values() if images.get(name) is not None}
    for name, flag in flags.items():
        if images.get(name) is not None:
            pivot = centres[name != "reference"]
            found[name] = filtered(images[name], images.get(flag), prefilter, kept, pivot)
    same = prefilter.kind == "local_standardisation"
    after = tuple(Pivot(0.0, 1.0 if same else p.scale) for p in centres)
    inner = tuple(slice(s.start - k.start, s.stop - k.start) for s, k in zip(core, kept, strict=True))
    return found, inner, (after[0], after[1])


def bytes_per_pixel(prefilter: Prefilter, images: int) -> int:
    """Return what filtering takes, per pixel of a block."""
    return KEPT * images + PASSING if prefilter else 0


def nanoseconds(prefilter: Prefilter, ndim: int) -> float:
    """Return about how long one image takes, per pixel."""
    if not prefilter:
        return 0.0
    taps = _taps(prefilter, ndim)
    more = 2 if prefilter.kind == "laplacian_of_gaussian" else 1
    return REST + TERM[ndim] * sum(float(a.size + more * b.size) for a, b, _ in taps)


def _taps(prefilter: Prefilter, ndim: int) -> tuple[Taps, ...]:
    """Return the kernels along z, y and x, from their middle on."""
    still = np.ones(1), np.ones(1), np.zeros(1)
    if prefilter.size is not None:
        # not divided by their number, so that sums of whole numbers are exact
        boxes = (np.ones(n // 2 + 1) for n in prefilter.sizes(ndim))
        return (still,) * (3 - ndim) + tuple((box, box, np.zeros(1)) for box in boxes)
    axes = []
    for narrow, wide in zip(*prefilter.sigmas(ndim), strict=True):
        a, b, c = _gaussian(prefilter, narrow), _gaussian(prefilter, wide), np.zeros(1)
        if prefilter.kind == "laplacian_of_gaussian" and a.size > 1:
            c = (np.arange(a.size) ** 2 / narrow**4 - 1 / narrow**2) * a
        axes.append((a, b, c))
    return (still,) * (3 - ndim) + tuple(axes)


def _gaussian(prefilter: Prefilter, sigma: float) -> NDArray[np.float64]:
    reach = prefilter.reach(sigma)
    if not reach:
        return np.ones(1)
    half = np.exp(-0.5 * np.arange(reach + 1.0) ** 2 / sigma**2)
    whole: NDArray[np.float64] = half / (half[0] + 2 * half[1:].sum())
    return whole


def _valid(image: Array, codes: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """Return 1 where a sample counts, or None where all do."""
    valid = None if codes is None else codes == 1
    if image.dtype.kind == "f":
        finite = np.isfinite(image)
        valid = finite if valid is None else np.logical_and(finite, valid, out=finite)
    return None if valid is None or valid.all() else np.ascontiguousarray(valid).view(np.uint8)


def _cell(radius: Shape, shape: Shape) -> Shape:
    z, y, x = radius
    size = (
        tuple(map(max, zip(DEEP, (z, 2 * y, x), strict=True))) if z else tuple(map(max, zip(FLAT, radius, strict=True)))
    )
    return tuple(map(min, zip(shape, size, strict=True)))


def _work(size: Shape, radius: Shape, kind: int, *, masked: bool) -> tuple[tuple[Array, ...], ...]:
    """Return the arrays that the loops work in."""
    nz, ny, nx = (n + 2 * r for n, r in zip(size, radius, strict=True))
    whole, plane = nz * ny * nx, ny * nx if radius[0] else 1
    weights = whole if masked else nz * ny
    frames = np.empty(whole), np.empty(whole if kind == convolution.STANDARD else 1), np.empty(weights)
    planes = tuple(np.empty(plane) for _ in range(4))
    return frames, planes, tuple(np.empty(nx) for _ in range(4)), tuple(np.empty(size[2]) for _ in range(4))


def scratch(prefilter: Prefilter, ndim: int) -> int:
    """Return the bytes of the arrays that a thread works in, at most."""
    if not prefilter:
        return 0
    radius = (0,) * (3 - ndim) + prefilter.radius(ndim)
    size = _cell(radius, (2**31,) * 3)
    return 8 * math.prod(n + 2 * r for n, r in zip(size, radius, strict=True)) * 4
