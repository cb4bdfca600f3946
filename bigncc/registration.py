"""Where the moving image lies against the reference: a coarse search, then sites at full resolution that must agree.

The whole images are never in memory: the coarse search sees a level of a pyramid, or block means that are streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bigncc import deformation, fit, search, sites
from bigncc.errors import RegistrationError
from bigncc.search import Small
from bigncc.sites import Floats, Offset, Texture, band
from bigncc.tiles import Shape, roi_shape, roi_shift
from bigncc.transform import Affine, Transform, Translation, compose, from_dict, points, to_dict
from bigncc.wording import in_words

if TYPE_CHECKING:
    import dask.array as da

Model = Literal["translation", "rigid", "similarity", "affine", "displacement"]

MODELS: tuple[Model, ...] = get_args(Model)

ROUNDS = 4
"""Times that the sites are asked at most, each time as seen through what they said before."""

SETTLED = 0.02
"""Pixels at the corners by which the answer may change and is the last one."""


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
    transform : Transform
        From reference pixel to moving pixel. What differs from a shift by whole pixels by no more than its uncertainty
        is that shift, so that nothing is interpolated.
    measured : Transform
        The transform as it was measured.
    uncertainty : tuple of float
        Per axis, pixels, where the transform is least sure: three standard errors of the fit to the sites that agree,
        and 0.02.
    sites : Sites
        All places that were looked at and have texture.
    model : str
        What was fitted.
    shape : tuple of int
        Extent of the reference.
    """

    transform: Transform
    measured: Transform
    uncertainty: Offset
    sites: Sites
    model: Model
    shape: Shape

    @property
    def offset(self) -> Offset:
        """By how much the middle of the reference was measured to be shifted, ``([z,] y, x)`` pixels."""
        middle = np.array([(n - 1) / 2 for n in self.shape])
        return tuple((points(self.measured, middle) - middle).tolist())

    @property
    def quality(self) -> float:
        """Share of the evidence, the sum of squared peaks, that the sites that agree hold, in [0.5, 1]."""
        return sites.share(self.sites.peaks, self.sites.agree)

    @property
    def is_identity(self) -> bool:
        """Whether what was measured does not differ from no transform by more than its uncertainty."""
        return isinstance(self.transform, Translation) and not any(self.transform.offset)

    def __str__(self) -> str:
        if self.is_identity:
            measured = f"{self._seen} is no more than its uncertainty of {max(self.uncertainty):.2g} px"
            return f"not shifted: the measured {measured} ({self.votes})"
        return f"{in_words(self.transform, self.shape)} ({self.says}; {self.votes})"

    @property
    def _seen(self) -> str:
        return in_words(self.measured, self.shape).removeprefix("shifted by ").removesuffix(" pixels")

    @property
    def says(self) -> str:
        """What was measured, in words."""
        if isinstance(self.measured, Translation):
            return f"measured {self._seen}, uncertain by {max(self.uncertainty):.2g} px"
        return f"uncertain by {max(self.uncertainty):.2g} px"

    @property
    def votes(self) -> str:
        """How many sites agree, in words."""
        return f"{self.sites.agree.sum()} of {len(self.sites.agree)} sites agree"

    def facts(self) -> dict[str, str]:
        """Return the numbers as words."""
        names = ("z", "y", "x")[-len(self.shape) :]
        off = np.abs(self.sites.residuals[self.sites.agree]).max(axis=1)
        worst = self.sites.positions[self.sites.agree][int(off.argmax())]
        place = ", ".join(f"{name} {value:.0f}" for name, value in zip(names, worst, strict=True))
        return {
            "transform": in_words(self.transform, self.shape),
            "measured": self.says.removeprefix("measured "),
            "quality": f"{self.quality:.2f}: {self.votes}",
            "residuals": f"median {np.median(off):.3f}, largest {off.max():.3f} pixels at {place}",
            "peaks": f"median {np.median(self.sites.peaks):.1f}, lowest {self.sites.peaks.min():.1f} sd of chance",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        seen = {name: values.tolist() for name, values in vars(self.sites).items()}
        return {
            "model": self.model,
            "transform": to_dict(self.transform),
            "measured": to_dict(self.measured),
            "uncertainty": list(self.uncertainty),
            "quality": self.quality,
            "shape": list(self.shape),
            "sites": seen,
        }


def registration_from_dict(values: dict[str, Any]) -> Registration:
    """Return the `Registration` that `Registration.to_dict` was called on."""
    seen = {name: np.array(found, bool if name == "agree" else np.float64) for name, found in values["sites"].items()}
    transform, measured = (from_dict(values[name]) for name in ("transform", "measured"))
    sure, shape = tuple(values["uncertainty"]), tuple(values["shape"])
    return Registration(transform, measured, sure, Sites(**seen), values["model"], shape)


def estimate(
    reference: da.Array,
    moving: da.Array,
    model: Model = "translation",
    *,
    coarser: tuple[Sequence[da.Array], Sequence[da.Array]] = ((), ()),
    start: Offset | None = None,
    upsample_factor: int = 100,
) -> Registration:
    """Estimate where the moving image lies.

    Parameters
    ----------
    reference, moving : dask.array.Array, ``[[z,] y, x]``
        Two or three axes; NaN where there is no sample. Extents may differ.
    model : {'translation', 'rigid', 'similarity', 'affine', 'displacement'}
        What may be between them. Rotations in the plane by up to 15 degrees and scales from 0.9 to 1.1 are found.
    coarser : pair of sequences of dask.array.Array
        Coarser levels of each image, if there is a pyramid.
    start : tuple of float, optional
        Where to begin, in pixels: only what overlaps by this offset is searched. By default everything is.
    upsample_factor : int
        The peak of a site is looked for on a grid of one part in this of a pixel, in volumes of a quarter at most.

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
    difference of Gaussians; sub-pixel peaks by the matrix Fourier transform of [1]_. Contrast may be inverted. Where
    samples are missing or the images are turned, sites are asked again as they are seen through the answer: with the
    same samples of both images and nothing between them, no mask moves a peak.

    References
    ----------
    .. [1] M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration algorithms",
       Optics Letters 33, 156-158 (2008). doi:10.1364/OL.33.000156
    """
    first, second = _small_pair(reference, moving, coarser, start)
    bands = band(first.image), band(second.image)
    if flat := [name for name, part in zip(("reference", "moving"), bands, strict=True) if not part.any()]:
        message = f"no texture to be registered by in {' and '.join(flat)}"
        raise RegistrationError(message)
    texture = Texture(bands[0] ** 2, first.corner, first.factors)
    if model == "displacement":
        return _deformed(reference, moving, first, second, search.turned(*bands), texture, upsample_factor)
    if model == "translation":
        found: Transform = Translation(search.shifted(*bands)[0])
    else:
        found = _coarse(first, second, search.turned(*bands), model, upsample_factor)
    guess = compose(second.placed, compose(found, first.placed.inverse()))
    return _settled(
        reference, moving, model, _whole(guess) if model == "translation" else guess, texture, upsample_factor
    )


def _small_pair(
    reference: da.Array,
    moving: da.Array,
    coarser: tuple[Sequence[da.Array], Sequence[da.Array]],
    start: Offset | None,
) -> tuple[Small, Small]:
    """Return both images, or what of them overlaps by `start`, small."""
    frames = search.whole(reference), search.whole(moving)
    if start is not None:
        shift = tuple(map(round, start))
        common = sites.overlap(reference.shape, moving.shape, Translation(shift))
        frames = common, roi_shift(common, shift)
    factors = search.factors_of(tuple(map(max, zip(*map(roi_shape, frames), strict=True))))
    return search.small(reference, coarser[0], frames[0], factors), search.small(moving, coarser[1], frames[1], factors)


def _coarse(first: Small, second: Small, guess: Transform, model: fit.Model, upsample_factor: int) -> Transform:
    """Return what sites of the small images say, which is right to a part of their pixels."""
    texture = Texture(band(first.image) ** 2, (0,) * first.image.ndim, (1,) * first.image.ndim)
    for _ in range(2):
        where = sites.places(first.image.shape, second.image.shape, guess, texture)
        positions, targets, peaks = sites.ask(first.image, second.image, guess, where, upsample_factor)
        guess, _ = fit.fitted(model, positions, targets, peaks)
    return guess


def _deformed(
    reference: da.Array,
    moving: da.Array,
    first: Small,
    second: Small,
    guess: Transform,
    texture: Texture,
    upsample_factor: int,
) -> Registration:
    """Return a displacement that varies, of the small images and then of the whole ones."""
    found = deformation.coarse(first, second, guess, upsample_factor)
    if max(first.factors) > 1:
        lifted = deformation.lifted(found.field, first, second, reference.shape)
        found = deformation.refined(reference, moving, lifted, texture, upsample_factor)
    residuals = found.targets - points(found.field, found.positions)
    seen = Sites(found.positions, found.targets - found.positions, residuals, found.peaks, found.agree)
    sure = deformation.uncertainty(residuals[found.agree])
    return Registration(found.field, found.field, sure, seen, "displacement", reference.shape)


def residual(
    reference: da.Array, moving: da.Array, *, coarser: Sequence[da.Array] = (), upsample_factor: int = 100
) -> Registration:
    """Measure how far two images are from lying on each other, at sites alone.

    What is shifted by more than half a site is not found. Arguments and errors as for `estimate`, but that coarser
    levels are wanted of the reference only: they show where there is something to see.
    """
    nothing = Translation((0.0,) * reference.ndim)
    sites.overlap(reference.shape, moving.shape, nothing)
    texture = texture_of(reference, coarser)
    return _settled(reference, moving, "translation", nothing, texture, upsample_factor)


def texture_of(image: da.Array, coarser: Sequence[da.Array]) -> Texture | None:
    """Return where there is something to see, if a coarser level says so and not the whole image has to be read."""
    factors = search.factors_of(image.shape)
    if search.level_of(image, coarser, factors) is image:
        return None
    seen = search.small(image, coarser, search.whole(image), factors)
    return Texture(band(seen.image) ** 2, seen.corner, factors)


def _settled(
    reference: da.Array,
    moving: da.Array,
    model: fit.Model,
    guess: Transform,
    texture: Texture | None,
    upsample_factor: int,
) -> Registration:
    """Ask the sites until what they agree on stands."""
    ends, name = fit.corners(reference.shape), model if model == "translation" else f"{model} transform"
    for _ in range(ROUNDS):
        asked = guess
        where = sites.places(reference.shape, moving.shape, asked, texture)
        positions, targets, peaks = sites.ask(reference, moving, asked, where, upsample_factor)
        found, agree = fit.fitted(model, positions, targets, peaks)
        sites.check(name, peaks, agree, fit.least(model, reference.ndim))
        guess = found
        if float(np.abs(points(guess, ends) - points(asked, ends)).max()) <= SETTLED:
            break
    residuals = targets - points(found, positions)
    sure = fit.uncertainty(model, positions[agree], residuals[agree], reference.shape)
    fit.check(found, sure, int(agree.sum()))
    seen = Sites(positions, targets - positions, residuals, peaks, agree)
    return Registration(_plain(found, sure, reference.shape), found, sure, seen, model, reference.shape)


def _whole(guess: Transform) -> Translation:
    """Return a shift without its fractions."""
    assert isinstance(guess, (Translation, Affine))
    return Translation(tuple(map(float, map(round, guess.offset))))


def _plain(found: Transform, sure: Offset, shape: Shape) -> Transform:
    """Return the shift by whole pixels that a transform does not differ from by more than its uncertainty, or itself.

    Of a translation each component by itself.
    """
    if isinstance(found, Translation):
        axes = zip(found.offset, sure, strict=True)
        return Translation(tuple(float(round(d)) if abs(d - round(d)) <= limit else d for d, limit in axes))
    ends = fit.corners(shape)
    off = points(found, ends) - ends
    whole = np.round(off.mean(axis=0))
    return Translation(tuple((whole + 0.0).tolist())) if (np.abs(off - whole) <= sure).all() else found
