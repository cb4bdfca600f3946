"""What places of some hundred pixels, seen at full resolution, say about the shift of an image; and whether they agree.

A site speaks only for itself: it has a peak, by chance or not. What makes a shift true is that many of them say it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.errors import RegistrationError
from bigncc.interpolation import VALID
from bigncc.pair import both_at
from bigncc.resampling import pull, source_roi
from bigncc.tiles import Roi, Shape, roi_of, roi_shape
from bigncc.transform import Transform, Translation, points
from bigncc.wording import shift_in_words

Array = NDArray[Any]
Floats = NDArray[np.float64]
Offset = tuple[float, ...]

SITE = {2: 256, 3: 64}
"""Longest side of a site in pixels."""

LATTICE = {2: 6, 3: 4}
"""Most sites along an axis."""

GRID = {2: 1000, 3: 4}
"""Parts of a pixel of the grid on which a peak is looked for, at most: a finer one in three axes costs a second per
site. Between its points lies the top of a parabola."""

BESIDE = 0.25
"""Pixels beside a peak at which a parabola is laid through it."""

BAND = (1.0, 8.0)
"""Standard deviations in pixels of the two Gaussians whose difference is correlated: without noise and shading."""

TAPER = 0.5
"""Share of a site's length along which it fades out, half of it at each end."""

TOLERANCE = 2.0
"""Pixels within which sites agree."""

LEAST = 3
"""Sites that must agree, at least."""

SHARE = 0.5
"""Share of all evidence, the sum of the squared peaks, that the sites that agree must hold."""

PEAK = 12.0
"""Least height of their common peak: the sum of their peaks over the root of their number. Of 1000 unrelated pairs of
photographs and noise, from 64 x 64 pixels on, none reached 10; noisy pairs of 3000 x 3000 pixels reach 200."""

UNSURE = 0.5
"""Largest uncertainty in pixels of an estimate that is worth having."""

FLOOR = 0.02
"""Uncertainty in pixels that is left however many sites there are: peak grid, tapering, sampling."""

COMMON = 0.3
"""Share of a site's samples that must be there in both images."""

ORDER = 3
"""Interpolation of the moving image at sites: a linear one shifts fine detail by up to 0.02 pixels."""

VIEW = 65
"""Points per axis at which it is asked whether the moving image covers the reference."""

SMALLEST = 32
"""Common pixels along y and x below which nothing is estimated."""


@dataclass(frozen=True, eq=False)
class Texture:
    """How much there is to see around each coarse pixel, where the first one begins, and how large it is."""

    energy: Array
    corner: Shape
    factors: Shape


def overlap(reference: Shape, moving: Shape, guess: Transform) -> Roi:
    """Return the part of the reference, as a box, that the moving image covers where `guess` says that it lies."""
    box = _shared(reference, moving, guess) if isinstance(guess, Translation) else _covered(reference, moving, guess)
    extent = roi_shape(box)
    if min(extent) == 0 or min(extent[-2:]) < SMALLEST:
        common = " x ".join(map(str, extent))
        message = (
            f"images of {list(reference)} and {list(moving)} pixels, the moving one {_where(guess, reference)}, have "
            f"{common} pixels in common and {SMALLEST} x {SMALLEST} are needed to register them"
        )
        raise RegistrationError(message)
    return box


def _where(guess: Transform, shape: Shape) -> str:
    middle = np.array([(n - 1) / 2 for n in shape])
    return f"off by {shift_in_words(tuple((points(guess, middle) - middle).tolist()))} in the middle"


def _shared(reference: Shape, moving: Shape, shift: Translation) -> Roi:
    axes = zip(reference, moving, shift.offset, strict=True)
    spans = ((max(0, math.ceil(-d)), math.floor(min(n, m - d))) for n, m, d in axes)
    return tuple(slice(a, max(a, b)) for a, b in spans)


def _covered(reference: Shape, moving: Shape, guess: Transform) -> Roi:
    """Return the box around those points of a lattice over the reference that lie inside of the moving image."""
    axes = [np.unique(np.linspace(0, n - 1, min(n, VIEW), dtype=np.int64)) for n in reference]
    there = points(guess, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    seen: Array = np.all((there >= 0) & (there <= np.subtract(moving, 1)), axis=-1)
    box = []
    for axis, pixels in enumerate(axes):
        inside = np.flatnonzero(np.moveaxis(seen, axis, 0).reshape(len(pixels), -1).any(axis=1))
        box.append(slice(int(pixels[inside[0]]), int(pixels[inside[-1]]) + 1) if inside.size else slice(0, 0))
    return tuple(box)


def band(image: Array) -> Array:
    """Return the image less noise and shading, of magnitude 1; 0 where there is no sample, and everywhere if flat."""
    from scipy.ndimage import gaussian_filter

    valid = np.isfinite(image)
    if not valid.any() or image[valid].min() == image[valid].max():
        return np.zeros(image.shape, np.float32)
    # about one of the samples and of magnitude 1, so that float32 keeps the digits that vary, at any scale
    samples = np.where(valid, image, image[valid][0]).astype(np.float64) - np.float64(image[valid][0])
    samples /= np.abs(samples).max()
    samples = np.where(valid, samples - samples.mean(where=valid), 0.0).astype(np.float32)
    fine, broad = (gaussian_filter(samples, sigma) for sigma in BAND)
    if valid.all():
        return fine - broad  # type: ignore[no-any-return]
    weights = [gaussian_filter(valid.astype(np.float32), sigma) for sigma in BAND]
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = fine / weights[0] - broad / weights[1]
    return np.where(valid, difference, np.float32(0))


def ask(
    reference: Any, moving: Any, guess: Transform, places: Sequence[Roi], upsample_factor: int
) -> tuple[Floats, Floats, Floats]:
    """Measure at sites where the moving image lies, as seen through a transform that is nearly right.

    Parameters
    ----------
    reference, moving : ndarray or dask.array.Array, ``[[z,] y, x]``
        NaN where there is no sample.
    guess : Transform
        From reference pixel to moving pixel; what is off by more than half a site besides is not found.
    places : sequence of Roi
        The sites, on the reference's grid.
    upsample_factor : int
        A peak is looked for on a grid of one part in this of a pixel, in volumes of `GRID` at most.

    Returns
    -------
    positions, targets : ndarray, ``[site, axis]``
        Centres on the reference's grid and where they were found in the moving image, pixels.
    peaks : ndarray, ``[site]``
        Heights of the peaks in standard deviations of what chance correlates.

    Raises
    ------
    RegistrationError
        If no site has texture.
    """
    shape, found = moving.shape, []
    grid = min(upsample_factor, GRID[len(shape)])
    locate = functools.partial(_seen_at, guess=guess, shape=shape, upsample_factor=grid)
    pairs = [(roi, source_roi(guess, roi, shape, ORDER)) for roi in places]
    found = both_at(reference, moving, pairs, locate)
    kept = [(roi, *site) for roi, site in zip(places, found, strict=True) if site is not None]
    if not kept:
        message = f"none of {len(places)} sites has texture and samples in both images to be registered by"
        raise RegistrationError(message)
    positions = np.array([[(s.start + s.stop - 1) / 2 for s in roi] for roi, _, _ in kept])
    off = np.array([off for _, off, _ in kept])
    return positions, points(guess, positions + off), np.array([peak for _, _, peak in kept])


def _seen_at(
    first: Array, block: Array, roi: Roi, source: Roi, guess: Transform, shape: Shape, upsample_factor: int
) -> tuple[Offset, float] | None:
    """Return the shift of the moving image at a site, as seen through `guess`, and the height of the peak."""
    second, codes = pull(guess, block, None, roi, source, shape, ORDER)
    return _locate(first, np.where(codes == VALID, second, np.float32(np.nan)), upsample_factor)


def places(
    reference: Shape,
    moving: Shape,
    guess: Transform,
    texture: Texture | None,
    *,
    longest: int | None = None,
    most: int | None = None,
) -> list[Roi]:
    """Return sites on a lattice over the overlap, each moved within its cell to where there is most to see.

    `longest` is the longest side of a site, `SITE` by default, and `most` how many there are along an axis at most,
    `LATTICE` by default.
    """
    common = overlap(reference, moving, guess)
    ndim = len(common)
    size = tuple(_side(n, longest or SITE[ndim], axis < ndim - 2) for axis, n in enumerate(roi_shape(common)))
    ranges = []
    for s, n in zip(common, size, strict=True):
        span = s.stop - s.start - n
        count = min(most or LATTICE[ndim], 1 + 2 * span // n)
        ranges.append([(s.start + k * span // count, s.start + (k + 1) * span // count) for k in range(count)])
    energy = None if texture is None else Texture(_box_mean(texture, size), texture.corner, texture.factors)
    return [roi_of(_best(cell, size, energy), size) for cell in product(*ranges)]


def _side(extent: int, longest: int, deep: bool) -> int:
    """Return the extent of a site along an axis: a power of two with room for two, or all of a shallow stack."""
    if deep and extent < 24:
        return extent
    return min(longest, 1 << (extent // 2).bit_length() - 1)


def _box_mean(texture: Texture, size: Shape) -> Array:
    from scipy.ndimage import uniform_filter

    near: Array = uniform_filter(texture.energy, [max(1, n // f) for n, f in zip(size, texture.factors, strict=True)])
    return near


def _best(cell: Sequence[tuple[int, int]], size: Shape, texture: Texture | None) -> Shape:
    """Return where in a cell of starts the site has most texture; its middle where nothing is known."""
    if texture is None:
        return tuple((low + high) // 2 for low, high in cell)
    parts = []
    for (low, high), n, corner, factor, m in zip(
        cell, size, texture.corner, texture.factors, texture.energy.shape, strict=True
    ):
        first = min(max((low + n // 2 - corner) // factor, 0), m - 1)
        parts.append(slice(first, min(max((high + n // 2 - corner) // factor, first), m - 1) + 1))
    within = texture.energy[tuple(parts)]
    index = np.unravel_index(int(within.argmax()), within.shape)
    centres = [
        (s.start + int(i)) * f + f // 2 + c
        for s, i, f, c in zip(parts, index, texture.factors, texture.corner, strict=True)
    ]
    return tuple(min(max(c - n // 2, low), high) for c, n, (low, high) in zip(centres, size, cell, strict=True))


def _locate(first: Array, second: Array, upsample_factor: int) -> tuple[Offset, float] | None:
    """Return the shift of `second` against `first` and the height of the peak; None without texture or samples."""
    from scipy import fft
    from skimage.registration import phase_cross_correlation

    joint = np.isfinite(first) & np.isfinite(second)
    if joint.mean() < COMMON:
        return None
    # the same samples of both: then what the masks add to the correlation is largest where nothing is shifted
    bands = [band(block if joint.all() else np.where(joint, block, np.float32(np.nan))) for block in (first, second)]
    if not all(part.any() for part in bands):
        return None
    taper = _taper(first.shape)
    spectra = [fft.fftn(part * taper) for part in bands]
    found, error, _ = phase_cross_correlation(
        *spectra, space="fourier", normalization=None, upsample_factor=upsample_factor
    )
    power = [np.abs(spectrum) ** 2 for spectrum in spectra]
    # variance of the correlation of two independent fields with these spectra (Bartlett), at lag 0 of tapered ones
    chance = (power[0] * power[1]).sum() / (power[0].sum() * power[1].sum())
    chance *= (taper**4).mean() / (taper**2).mean() ** 2
    peak = math.sqrt(max(0.0, 1.0 - float(error) ** 2) / float(chance))
    return tuple(-value for value in _summit(spectra[0] * spectra[1].conj(), found)), peak


def _summit(product: Array, found: Sequence[float]) -> Offset:
    """Return the top of the parabola along each axis through a correlation near its peak, which a grid has `found`."""
    from scipy import fft

    frequencies = [fft.fftfreq(n) for n in product.shape]
    waves = [np.exp(2j * np.pi * f * at) for f, at in zip(frequencies, found, strict=True)]
    tops = []
    for axis, (f, at) in enumerate(zip(frequencies, found, strict=True)):
        line = np.moveaxis(product, axis, 0)
        for wave in reversed([wave for other, wave in enumerate(waves) if other != axis]):
            line = line @ wave
        before, here, after = (
            float((line * np.exp(2j * np.pi * f * (at + step))).sum().real) for step in (-BESIDE, 0.0, BESIDE)
        )
        bend = before - 2 * here + after
        off = BESIDE * (before - after) / (2 * bend) if bend else 0.0
        tops.append(float(at) + min(max(off, -BESIDE), BESIDE))
    return tuple(tops)


def _taper(shape: Shape) -> Array:
    """Return a Tukey window; scipy's costs most of a second, since scipy.signal imports scipy.stats."""
    edges = []
    for n in shape:
        # of the centres of the pixels, so that an axis of one pixel keeps it
        inward = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / n
        inward = np.minimum(np.minimum(inward, 1 - inward), TAPER / 2)
        edges.append(0.5 - 0.5 * np.cos(2 * np.pi * inward / TAPER))
    taper: Array = functools.reduce(np.multiply, np.ix_(*edges))
    return taper


def vote(offsets: Floats, peaks: Floats) -> NDArray[np.bool_]:
    """Return which sites agree: those that hold most evidence together."""
    agree = np.zeros(len(peaks), bool)
    for seed in offsets:
        near = (np.abs(offsets - seed) <= TOLERANCE).all(axis=1)
        middle = np.median(offsets[near], axis=0)
        near = (np.abs(offsets - middle) <= TOLERANCE).all(axis=1)
        if share(peaks, near) > share(peaks, agree):
            agree = near
    return agree


def share(peaks: Floats, agree: NDArray[np.bool_]) -> float:
    """Return the share of the evidence, the sum of squared peaks, that the sites of `agree` hold."""
    return float((peaks[agree] ** 2).sum() / (peaks**2).sum())


def check(
    model: str, peaks: Floats, agree: NDArray[np.bool_], least: int = LEAST, tolerance: float = TOLERANCE
) -> None:
    """Raise RegistrationError for what sites say by chance."""
    count, held = int(agree.sum()), share(peaks, agree)
    peak = float(peaks[agree].sum()) / math.sqrt(max(1, count))
    if count < least or held < SHARE or peak < PEAK:
        message = (
            f"the images agree on no {model} (of {len(peaks)} sites {count} agree within {tolerance:g} "
            f"pixels, with {100 * held:.0f} % of the evidence and a common peak of {peak:.1f}; "
            f"{least} sites, {100 * SHARE:.0f} % and {PEAK:g} are needed)"
        )
        raise RegistrationError(message)
