"""By how much one image is shifted against another: a coarse search, then sites at full resolution that must agree.

The whole images are never in memory: the coarse search sees a level of a pyramid or streamed block means, the sites
are blocks of some hundred pixels. A site speaks only for itself; what makes an estimate true is that many of them,
each with a clear peak, say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigncc.errors import RegistrationError
from bigncc.pair import block_mean, both_at
from bigncc.tiles import Roi, Shape, roi_of, roi_shape, roi_shift
from bigncc.transform import Translation, from_dict, to_dict

if TYPE_CHECKING:
    import dask.array as da

Array = NDArray[Any]
Floats = NDArray[np.float64]
Offset = tuple[float, ...]

COARSE = {2: 1024, 3: 256}
"""Longest side of the images of the coarse search, in coarse pixels, for two and three axes."""

SITE = {2: 256, 3: 64}
"""Longest side of a site in pixels."""

LATTICE = {2: 6, 3: 4}
"""Most sites along an axis."""

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

SMALLEST = 32
"""Common pixels along y and x below which nothing is estimated."""


@dataclass(frozen=True, eq=False)
class Sites:
    """What each place of the reference says about the shift.

    Parameters
    ----------
    positions : ndarray, ``[site, axis]``
        Centre on the reference's grid, pixels.
    offsets : ndarray, ``[site, axis]``
        Measured shift in pixels: moving pixel = reference pixel + offset.
    residuals : ndarray, ``[site, axis]``
        `offsets` minus the offset of the transform, pixels.
    peaks : ndarray, ``[site]``
        Height of the correlation peak in standard deviations of what chance correlates.
    agree : ndarray of bool, ``[site]``
        Whether the offset lies within 2 pixels of the common shift.
    """

    positions: Floats
    offsets: Floats
    residuals: Floats
    peaks: Floats
    agree: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Registration:
    """An estimated transform and what it rests on; wherever a transform is accepted, so is this.

    Parameters
    ----------
    transform : Translation
        From reference pixel to moving pixel. A component that differs from a whole number by no more than its
        uncertainty is that number, so that nothing is interpolated.
    offset : tuple of float
        The shift as it was measured, ``([z,] y, x)`` pixels.
    uncertainty : tuple of float
        Per axis, pixels: three standard errors of the mean over the sites that agree, and 0.02.
    sites : Sites
        All places that were looked at and have texture.
    """

    transform: Translation
    offset: Offset
    uncertainty: Offset
    sites: Sites

    @property
    def quality(self) -> float:
        """Share of the evidence, the sum of squared peaks, that the sites that agree hold, in [0.5, 1]."""
        return _share(self.sites.peaks, self.sites.agree)

    @property
    def is_identity(self) -> bool:
        """Whether the measured shift does not differ from zero by more than its uncertainty."""
        return not any(self.transform.offset)

    def __str__(self) -> str:
        if self.is_identity:
            return f"not shifted: {self.measured} is within the uncertainty ({self.votes})"
        return f"shifted by {shift_in_words(self.transform.offset)} pixels ({self.measured}; {self.votes})"

    @property
    def measured(self) -> str:
        """The shift as it was measured, in words."""
        return f"measured {shift_in_words(self.offset)}, uncertain by {max(self.uncertainty):.2g} px"

    @property
    def votes(self) -> str:
        """How many sites agree, in words."""
        return f"{self.sites.agree.sum()} of {len(self.sites.agree)} sites agree"

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        names = ("z", "y", "x")[-len(self.offset) :]
        off = np.abs(self.sites.residuals[self.sites.agree]).max(axis=1)
        worst = self.sites.positions[self.sites.agree][int(off.argmax())]
        place = ", ".join(f"{name} {value:.0f}" for name, value in zip(names, worst, strict=True))
        return {
            "offset": f"{shift_in_words(self.transform.offset)} pixels",
            "measured": f"{shift_in_words(self.offset)}, uncertain by {shift_in_words(self.uncertainty)} pixels",
            "quality": f"{self.quality:.2f}: {self.votes}",
            "residuals": f"median {np.median(off):.3f}, largest {off.max():.3f} pixels at {place}",
            "peaks": f"median {np.median(self.sites.peaks):.1f}, lowest {self.sites.peaks.min():.1f} sd of chance",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        sites = {name: values.tolist() for name, values in vars(self.sites).items()}
        return {
            "transform": to_dict(self.transform),
            "offset": list(self.offset),
            "uncertainty": list(self.uncertainty),
            "quality": self.quality,
            "sites": sites,
        }


def registration_from_dict(values: dict[str, Any]) -> Registration:
    """Return the `Registration` that `Registration.to_dict` was called on."""
    transform = from_dict(values["transform"])
    assert isinstance(transform, Translation)  # no other is estimated
    sites = {name: np.array(found, bool if name == "agree" else np.float64) for name, found in values["sites"].items()}
    return Registration(transform, tuple(values["offset"]), tuple(values["uncertainty"]), Sites(**sites))


def shift_in_words(offset: Offset) -> str:
    """Return a shift as ``y +1.25, x -3``, to a thousandth."""
    names = ("z", "y", "x")[-len(offset) :]
    # + 0.0 makes a zero of a negative zero
    numbers = (f"{round(value, 3) + 0.0:+.3f}".rstrip("0").removesuffix(".") for value in offset)
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))


def translation(
    reference: da.Array,
    moving: da.Array,
    *,
    coarser: tuple[Sequence[da.Array], Sequence[da.Array]] = ((), ()),
    start: Offset | None = None,
    upsample_factor: int = 100,
) -> Registration:
    """Estimate the translation between two images.

    Parameters
    ----------
    reference, moving : dask.array.Array, ``[[z,] y, x]``
        Two or three axes; NaN where there is no sample. Extents may differ.
    coarser : pair of sequences of dask.array.Array
        Coarser levels of each image, if there is a pyramid.
    start : tuple of float, optional
        Where to begin, in pixels: only what overlaps by this offset is searched. By default everything is.
    upsample_factor : int
        The peak of a site is found to one part in this of a pixel.

    Returns
    -------
    Registration

    Raises
    ------
    RegistrationError
        If there is no overlap or no texture, or the sites do not agree.

    Notes
    -----
    Cross-correlation without phase normalisation, which is wrong by pixels on smooth images, of images filtered by a
    difference of Gaussians; sub-pixel peaks by the matrix Fourier transform of [1]_. Contrast may be inverted.

    References
    ----------
    .. [1] M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration algorithms",
       Optics Letters 33, 156-158 (2008). doi:10.1364/OL.33.000156
    """
    shift = tuple(map(round, start)) if start is not None else (0,) * reference.ndim
    if start is None:
        frames = tuple(tuple(slice(0, n) for n in image.shape) for image in (reference, moving))
    else:
        common = _overlap(reference.shape, moving.shape, shift)
        frames = (common, roi_shift(common, shift))
    factors = _factors(tuple(map(max, zip(*map(roi_shape, frames), strict=True))))
    first, corner = _small(reference, coarser[0], frames[0], factors)
    second, other = _small(moving, coarser[1], frames[1], factors)
    bands = _band(first), _band(second)
    if not all(band.any() for band in bands):
        which = " and ".join(name for name, band in zip(("reference", "moving"), bands, strict=True) if not band.any())
        message = f"{which} has no texture to be registered by, seen at 1/{max(factors)} of its size"
        raise RegistrationError(message)
    apart = _apart(*bands)
    shift = tuple(round(d * f + b - a) for d, f, a, b in zip(apart, factors, corner, other, strict=True))
    return _settled(reference, moving, shift, _Texture(bands[0] ** 2, corner, factors), upsample_factor)


def residual(
    reference: da.Array, moving: da.Array, *, coarser: Sequence[da.Array] = (), upsample_factor: int = 100
) -> Registration:
    """Measure how far two images are from lying on each other, at sites alone.

    What is shifted by more than half a site is not found. Arguments and errors as for `translation`, but that coarser
    levels are wanted of the reference only: they show where there is something to see.
    """
    texture, factors = None, _factors(reference.shape)
    if _level(reference, coarser, factors) is not reference:
        small, corner = _small(reference, coarser, tuple(slice(0, n) for n in reference.shape), factors)
        texture = _Texture(_band(small) ** 2, corner, factors)
    return _settled(reference, moving, (0,) * reference.ndim, texture, upsample_factor)


# -- the coarse search


@dataclass(frozen=True, eq=False)
class _Texture:
    """How much there is to see around each coarse pixel, where the first one begins, and how large it is."""

    energy: Array
    corner: Shape
    factors: Shape


def _overlap(reference: Shape, moving: Shape, shift: Shape) -> Roi:
    """Return the part of the reference that the moving image covers when it is off by `shift`."""
    starts = [max(0, -d) for d in shift]
    stops = [min(n, m - d) for n, m, d in zip(reference, moving, shift, strict=True)]
    extent = [max(0, b - a) for a, b in zip(starts, stops, strict=True)]
    if min(extent) == 0 or min(extent[-2:]) < SMALLEST:
        common = " x ".join(map(str, extent))
        message = (
            f"images of {list(reference)} and {list(moving)} pixels, the moving one off by "
            f"{shift_in_words(shift)}, have {common} pixels in common and {SMALLEST} x {SMALLEST} are needed to "
            f"estimate a translation"
        )
        raise RegistrationError(message)
    return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))


def _factors(extent: Shape) -> Shape:
    """Return the powers of two by which an image is reduced for the coarse search; one for y and x."""
    most = COARSE[len(extent)]
    powers = [max(0, math.ceil(math.log2(n / most))) for n in extent]
    plane = max(powers[-2:])
    return tuple(2**power for power in (*powers[:-2], plane, plane))


def _level(image: da.Array, levels: Sequence[da.Array], factors: Shape) -> da.Array:
    """Return the coarsest of the image and its levels from which whole blocks make the coarse image."""
    for level in reversed(levels):
        each = [max(1, round(n / m)) for n, m in zip(image.shape, level.shape, strict=True)]
        parts = zip(image.shape, level.shape, each, factors, strict=True)
        if all(m in (n // f, -(-n // f)) and factor % f == 0 for n, m, f, factor in parts):
            return level
    return image


def _small(image: da.Array, levels: Sequence[da.Array], frame: Roi, factors: Shape) -> tuple[Array, Shape]:
    """Return means of blocks of `factors` pixels of `frame`, and the pixel at which the first of them begins."""
    level = _level(image, levels, factors)
    each = tuple(max(1, round(n / m)) for n, m in zip(image.shape, level.shape, strict=True))
    part = tuple(slice(s.start // f, min(m, -(-s.stop // f))) for s, f, m in zip(frame, each, level.shape, strict=True))
    rest = tuple(factor // f for factor, f in zip(factors, each, strict=True))
    return block_mean(level[part], rest), tuple(s.start * f for s, f in zip(part, each, strict=True))


def _band(image: Array) -> Array:
    """Return the image less noise and shading, float32; 0 where there is no sample, and everywhere if it is flat."""
    from scipy.ndimage import gaussian_filter

    valid = np.isfinite(image)
    if not valid.any() or image[valid].min() == image[valid].max():
        return np.zeros(image.shape, np.float32)
    # the mean in float64, so that float32 keeps the digits that vary
    samples = np.where(valid, image - image.mean(where=valid, dtype=np.float64), 0.0).astype(np.float32)
    fine, broad = (gaussian_filter(samples, sigma) for sigma in BAND)
    if valid.all():
        return fine - broad  # type: ignore[no-any-return]
    weights = [gaussian_filter(valid.astype(np.float32), sigma) for sigma in BAND]
    with np.errstate(invalid="ignore", divide="ignore"):
        band = fine / weights[0] - broad / weights[1]
    return np.where(valid, band, np.float32(0))


def _apart(first: Array, second: Array) -> Offset:
    """Return by how much `second` is shifted against `first`, both of zero mean, whatever their extents."""
    from scipy import fft
    from skimage.registration import phase_cross_correlation

    # so large that no shift can be taken for another that wraps around
    shape = [fft.next_fast_len(2 * max(n, m)) for n, m in zip(first.shape, second.shape, strict=True)]
    spectra = (fft.fftn(image, shape) for image in (first, second))
    found, _, _ = phase_cross_correlation(*spectra, space="fourier", normalization=None, upsample_factor=4)
    return tuple(-float(value) for value in found)


# -- the sites


def _settled(
    reference: da.Array, moving: da.Array, shift: Shape, texture: _Texture | None, upsample_factor: int
) -> Registration:
    """Ask the sites until the whole pixels of what they agree on stand."""
    for _ in range(3):
        asked, places = shift, list(_places(reference.shape, moving.shape, shift, texture))
        locate = partial(_locate, upsample_factor=upsample_factor)
        found = both_at(reference, moving, [(roi, roi_shift(roi, shift)) for roi in places], locate)
        kept = [(roi, *site) for roi, site in zip(places, found, strict=True) if site is not None]
        positions = np.array([[(s.start + s.stop - 1) / 2 for s in roi] for roi, _, _ in kept])
        offsets = np.array([np.add(shift, off) for _, off, _ in kept])
        peaks = np.array([peak for _, _, peak in kept])
        agree = _vote(offsets, peaks)
        _check_votes(len(places), peaks, agree)
        offset, uncertainty = _mean(offsets[agree])
        if max(uncertainty) > UNSURE:
            said = f"{shift_in_words(offset)} with an uncertainty of {max(uncertainty):.2g} pixels"
            message = f"{agree.sum()} of {len(peaks)} sites say {said}, and at most {UNSURE} is accepted"
            raise RegistrationError(message)
        shift = tuple(map(round, offset))
        if shift == asked:
            break
    kept_whole = (
        float(round(value)) if abs(value - round(value)) <= limit else value
        for value, limit in zip(offset, uncertainty, strict=True)
    )
    transform = Translation(tuple(kept_whole))
    return Registration(
        transform, offset, uncertainty, Sites(positions, offsets, offsets - transform.offset, peaks, agree)
    )


def _places(reference: Shape, moving: Shape, shift: Shape, texture: _Texture | None) -> Iterator[Roi]:
    """Yield sites on a lattice over the overlap, each moved within its cell to where there is most to see."""
    common = _overlap(reference, moving, shift)
    ndim = len(common)
    size = tuple(_side(n, SITE[ndim], axis < ndim - 2) for axis, n in enumerate(roi_shape(common)))
    ranges = []
    for s, n in zip(common, size, strict=True):
        span = s.stop - s.start - n
        count = min(LATTICE[ndim], 1 + 2 * span // n)
        ranges.append([(s.start + k * span // count, s.start + (k + 1) * span // count) for k in range(count)])
    energy = None if texture is None else _Texture(_box_mean(texture, size), texture.corner, texture.factors)
    for cell in product(*ranges):
        yield roi_of(_best(cell, size, energy), size)


def _side(extent: int, longest: int, deep: bool) -> int:
    """Return the extent of a site along an axis: a power of two with room for two, or all of a shallow stack."""
    if deep and extent < 24:
        return extent
    return min(longest, 1 << (extent // 2).bit_length() - 1)


def _box_mean(texture: _Texture, size: Shape) -> Array:
    from scipy.ndimage import uniform_filter

    mean: Array = uniform_filter(texture.energy, [max(1, n // f) for n, f in zip(size, texture.factors, strict=True)])
    return mean


def _best(cell: Sequence[tuple[int, int]], size: Shape, texture: _Texture | None) -> Shape:
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

    if min(np.isfinite(block).mean() for block in (first, second)) < 0.5:
        return None
    bands = [_band(block) for block in (first, second)]
    if not all(band.any() for band in bands):
        return None
    taper = _taper(first.shape)
    spectra = [fft.fftn(band * taper) for band in bands]
    found, error, _ = phase_cross_correlation(
        *spectra, space="fourier", normalization=None, upsample_factor=upsample_factor
    )
    power = [np.abs(spectrum) ** 2 for spectrum in spectra]
    # variance of the correlation of two independent fields with these spectra (Bartlett), at lag 0 of tapered ones
    chance = (power[0] * power[1]).sum() / (power[0].sum() * power[1].sum())
    chance *= (taper**4).mean() / (taper**2).mean() ** 2
    peak = math.sqrt(max(0.0, 1.0 - float(error) ** 2) / float(chance))
    return tuple(-float(value) for value in found), peak


def _taper(shape: Shape) -> Array:
    from scipy.signal.windows import tukey

    # without the zeros at both ends, which an axis of a few pixels cannot spare
    return math.prod(np.ix_(*(tukey(n + 2, TAPER)[1:-1].astype(np.float32) for n in shape)))  # type: ignore[return-value]


def _vote(offsets: Floats, peaks: Floats) -> NDArray[np.bool_]:
    """Return which sites agree: those that hold most evidence together."""
    agree = np.zeros(len(peaks), bool)
    for seed in offsets:
        near = (np.abs(offsets - seed) <= TOLERANCE).all(axis=1)
        middle = np.median(offsets[near], axis=0)
        near = (np.abs(offsets - middle) <= TOLERANCE).all(axis=1)
        if _share(peaks, near) > _share(peaks, agree):
            agree = near
    return agree


def _share(peaks: Floats, agree: NDArray[np.bool_]) -> float:
    return float((peaks[agree] ** 2).sum() / (peaks**2).sum()) if len(peaks) else 0.0


def _check_votes(places: int, peaks: Floats, agree: NDArray[np.bool_]) -> None:
    """Refuse what sites say by chance."""
    if not len(peaks):
        message = f"none of {places} sites has texture and samples in both images to be registered by"
        raise RegistrationError(message)
    count, share = int(agree.sum()), _share(peaks, agree)
    peak = float(peaks[agree].sum()) / math.sqrt(max(1, count))
    if count < LEAST or share < SHARE or peak < PEAK:
        message = (
            f"the images agree on no translation (of {len(peaks)} sites {count} agree within {TOLERANCE:g} pixels, with "
            f"{100 * share:.0f} % of the evidence and a common peak of {peak:.1f}; "
            f"{LEAST} sites, {100 * SHARE:.0f} % and {PEAK:g} are needed)"
        )
        raise RegistrationError(message)


def _mean(offsets: Floats) -> tuple[Offset, Offset]:
    """Return the mean without stragglers, and its uncertainty."""
    off = np.abs(offsets - np.median(offsets, axis=0))
    # 1.4826 makes a standard deviation of a median deviation; stragglers lie beyond three of them
    kept = (off <= 3 * 1.4826 * np.median(off, axis=0) + FLOOR).all(axis=1)
    kept = kept if kept.sum() >= LEAST else np.ones_like(kept)
    errors = offsets[kept].std(axis=0, ddof=1) / math.sqrt(kept.sum())
    uncertainty = np.hypot(FLOOR, 3 * errors)
    return tuple(offsets[kept].mean(axis=0).tolist()), tuple(uncertainty.tolist())
