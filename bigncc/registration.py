"""By how much one image is shifted against another: a coarse search, then sites at full resolution that must agree.

The whole images are never in memory: the coarse search sees a level of a pyramid, or block means that are streamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigncc import sites
from bigncc.errors import RegistrationError
from bigncc.pair import block_mean
from bigncc.sites import Floats, Offset, Texture, band, overlap
from bigncc.tiles import Roi, Shape, roi_shape, roi_shift
from bigncc.transform import Translation, from_dict, shift_in_words, to_dict

if TYPE_CHECKING:
    import dask.array as da

Array = NDArray[Any]

COARSE = {2: 1024, 3: 128}
"""Longest side of the images of the coarse search, in coarse pixels, for two and three axes."""


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
    """An estimated transform and what it rests on; `bigncc.ncc` and `bigncc.local_maps` take it as their transform.

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
        return sites.share(self.sites.peaks, self.sites.agree)

    @property
    def is_identity(self) -> bool:
        """Whether the measured shift does not differ from zero by more than its uncertainty."""
        return not any(self.transform.offset)

    def __str__(self) -> str:
        if self.is_identity:
            measured = (
                f"{shift_in_words(self.offset)} is no more than its uncertainty of {max(self.uncertainty):.2g} px"
            )
            return f"not shifted: the measured {measured} ({self.votes})"
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
            "measured": self.measured.removeprefix("measured "),
            "quality": f"{self.quality:.2f}: {self.votes}",
            "residuals": f"median {np.median(off):.3f}, largest {off.max():.3f} pixels at {place}",
            "peaks": f"median {np.median(self.sites.peaks):.1f}, lowest {self.sites.peaks.min():.1f} sd of chance",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        seen = {name: values.tolist() for name, values in vars(self.sites).items()}
        return {
            "transform": to_dict(self.transform),
            "offset": list(self.offset),
            "uncertainty": list(self.uncertainty),
            "quality": self.quality,
            "sites": seen,
        }


def registration_from_dict(values: dict[str, Any]) -> Registration:
    """Return the `Registration` that `Registration.to_dict` was called on."""
    transform = from_dict(values["transform"])
    assert isinstance(transform, Translation)  # no other is estimated
    seen = {name: np.array(found, bool if name == "agree" else np.float64) for name, found in values["sites"].items()}
    return Registration(transform, tuple(values["offset"]), tuple(values["uncertainty"]), Sites(**seen))


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
    common = overlap(reference.shape, moving.shape, shift)
    if start is None:
        frames = tuple(tuple(slice(0, n) for n in image.shape) for image in (reference, moving))
    else:
        frames = (common, roi_shift(common, shift))
    factors = _factors(tuple(map(max, zip(*map(roi_shape, frames), strict=True))))
    first, corner = _small(reference, coarser[0], frames[0], factors)
    second, other = _small(moving, coarser[1], frames[1], factors)
    bands = band(first), band(second)
    if flat := [name for name, part in zip(("reference", "moving"), bands, strict=True) if not part.any()]:
        message = f"no texture to be registered by in {' and '.join(flat)}"
        raise RegistrationError(message)
    apart = _apart(*bands)
    shift = tuple(round(d * f + b - a) for d, f, a, b in zip(apart, factors, corner, other, strict=True))
    return _settled(reference, moving, shift, Texture(bands[0] ** 2, corner, factors), upsample_factor)


def residual(
    reference: da.Array, moving: da.Array, *, coarser: Sequence[da.Array] = (), upsample_factor: int = 100
) -> Registration:
    """Measure how far two images are from lying on each other, at sites alone.

    What is shifted by more than half a site is not found. Arguments and errors as for `translation`, but that coarser
    levels are wanted of the reference only: they show where there is something to see.
    """
    overlap(reference.shape, moving.shape, (0,) * reference.ndim)
    texture, factors = None, _factors(reference.shape)
    if _level(reference, coarser, factors) is not reference:
        small, corner = _small(reference, coarser, tuple(slice(0, n) for n in reference.shape), factors)
        texture = Texture(band(small) ** 2, corner, factors)
    return _settled(reference, moving, (0,) * reference.ndim, texture, upsample_factor)


def _settled(
    reference: da.Array, moving: da.Array, shift: Shape, texture: Texture | None, upsample_factor: int
) -> Registration:
    """Ask the sites until the whole pixels of what they agree on stand."""
    for _ in range(3):
        asked = shift
        positions, offsets, peaks = sites.ask(reference, moving, shift, texture, upsample_factor)
        agree = sites.vote(offsets, peaks)
        sites.check(peaks, agree)
        offset, uncertainty = sites.mean(offsets[agree])
        shift = tuple(map(round, offset))
        if shift == asked:
            break
    whole = (
        float(round(value)) if abs(value - round(value)) <= limit else value
        for value, limit in zip(offset, uncertainty, strict=True)
    )
    transform = Translation(tuple(whole))
    found = Sites(positions, offsets, offsets - transform.offset, peaks, agree)
    return Registration(transform, offset, uncertainty, found)


# -- the coarse search


def searched(reference: Shape, moving: Shape) -> int:
    """Return how many samples each spectrum of the coarse search of two whole images has."""
    factors = _factors(tuple(map(max, zip(reference, moving, strict=True))))
    return math.prod(_padded([-(-max(n, m) // f) for n, m, f in zip(reference, moving, factors, strict=True)]))


def _factors(extent: Shape) -> Shape:
    """Return the powers of two by which an image is reduced for the coarse search; one for y and x."""
    most = COARSE[len(extent)]
    powers = [max(0, math.ceil(math.log2(n / most))) for n in extent]
    plane = max(powers[-2:])
    return tuple(2**power for power in (*powers[:-2], plane, plane))


def _reduction(image: da.Array, level: da.Array) -> Shape:
    """Return by how much a level is smaller than its image, in whole pixels per axis."""
    return tuple(max(1, round(n / m)) for n, m in zip(image.shape, level.shape, strict=True))


def _level(image: da.Array, levels: Sequence[da.Array], factors: Shape) -> da.Array:
    """Return the coarsest of the image and its levels from which whole blocks make the coarse image."""
    for level in reversed(levels):
        parts = zip(image.shape, level.shape, _reduction(image, level), factors, strict=True)
        if all(m in (n // f, -(-n // f)) and factor % f == 0 for n, m, f, factor in parts):
            return level
    return image


def _small(image: da.Array, levels: Sequence[da.Array], frame: Roi, factors: Shape) -> tuple[Array, Shape]:
    """Return means of blocks of `factors` pixels of `frame`, and the pixel at which the first of them begins."""
    level = _level(image, levels, factors)
    each = _reduction(image, level)
    part = tuple(slice(s.start // f, min(m, -(-s.stop // f))) for s, f, m in zip(frame, each, level.shape, strict=True))
    rest = tuple(factor // f for factor, f in zip(factors, each, strict=True))
    return block_mean(level[part], rest), tuple(s.start * f for s, f in zip(part, each, strict=True))


def _apart(first: Array, second: Array) -> Offset:
    """Return by how much `second` is shifted against `first`, both of zero mean, whatever their extents."""
    from scipy import fft
    from skimage.registration import phase_cross_correlation

    shape = _padded(list(map(max, zip(first.shape, second.shape, strict=True))))
    spectra = (fft.fftn(image, shape) for image in (first, second))
    found, _, _ = phase_cross_correlation(*spectra, space="fourier", normalization=None, upsample_factor=4)
    return tuple(-float(value) for value in found)


def _padded(extent: Sequence[int]) -> list[int]:
    """Return an extent so large that no shift can be taken for another that wraps around."""
    from scipy import fft

    return [int(fft.next_fast_len(2 * n)) for n in extent]
