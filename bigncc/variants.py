"""Whether a transform that was given is the right way round: its components in order, and from reference to moving."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import sites
from bigncc.errors import InputError
from bigncc.interpolation import VALID
from bigncc.pair import both_at
from bigncc.resampling import pull, source_roi
from bigncc.sites import COMMON, Texture, band
from bigncc.tiles import Roi, Shape
from bigncc.transform import Affine, Displacement, Transform, Translation

BETTER = 0.1
"""By how much the mean correlation of a variant must be larger to be clearly better."""

SURE = 3.0
"""Standard errors by which it must be larger, besides."""


@dataclass(frozen=True)
class _Altered:
    """A field with its components the other way round, or negated, or both."""

    field: Any
    swapped: bool
    negated: bool

    @property
    def shape(self) -> Shape:
        return tuple(self.field.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(self.field[(slice(None), *key[1:])], np.float64)
        values = (values[::-1] if self.swapped else values)[key[0]]
        return -values if self.negated else values


def variants(transform: Transform) -> dict[str, Transform]:
    """Return what a transform may have been meant to be, by what one would have to do with it."""
    names = {(True, False): "swapped", (False, True): "negated", (True, True): "swapped and negated"}
    if isinstance(transform, Displacement):
        return {
            f"with its components {name}": Displacement(
                _Altered(transform.field, *how), step=transform.step, origin=transform.origin
            )
            for how, name in names.items()
        }
    if isinstance(transform, Translation):
        both = {True: tuple(reversed(transform.offset)), False: transform.offset}
        return {
            f"with its components {name}": Translation(tuple(-d if negated else d for d in both[swapped]))
            for (swapped, negated), name in names.items()
        }
    other = Affine(tuple(row[::-1] for row in transform.matrix[::-1]), transform.offset[::-1])
    return {
        "with its axes swapped": other,
        "inverted": transform.inverse(),
        "with its axes swapped and inverted": other.inverse(),
    }


def check(reference: Any, moving: Any, transform: Transform, texture: Texture | None) -> None:
    """Raise InputError, naming it, if a variant of a transform brings the images together clearly better.

    Parameters
    ----------
    reference, moving : dask.array.Array, ``[[z,] y, x]``
        NaN where there is no sample.
    transform : Transform
        As it was given.
    texture : Texture or None
        Where there is something to see, if that is known.
    """
    # of a transform that moves nothing, for one, they are all the same
    others = {name: other for name, other in variants(transform).items() if other != transform}
    if not others:
        return
    nothing = Translation((0.0,) * transform.ndim)
    where = sites.places(reference.shape, reference.shape, nothing, texture)
    given = _scores(reference, moving, transform, where)
    found = {name: _scores(reference, moving, other, where) for name, other in others.items()}
    better = {name: scores for name, scores in found.items() if _clearly(scores, given)}
    if better:
        name, scores = max(better.items(), key=lambda item: float(np.nanmean(item[1])))
        message = (
            f"the transform brings the images together clearly better {name}: mean correlation "
            f"{_mean(scores)} instead of {_mean(given)} at {np.isfinite(scores).sum()} sites; "
            "a transform from reference pixel to moving pixel whose component i belongs to array axis i, or "
            "--trust-field (registration.trust_field=true), is accepted"
        )
        raise InputError(message)


def _clearly(scores: NDArray[np.float64], given: NDArray[np.float64]) -> bool:
    seen = np.isfinite(scores)
    if seen.sum() < sites.LEAST:
        return False
    # what lies outside of the moving image agrees with nothing
    more = scores[seen] - np.nan_to_num(given[seen])
    return bool(more.mean() > max(BETTER, SURE * more.std(ddof=1) / math.sqrt(len(more))))


def _mean(scores: NDArray[np.float64]) -> str:
    return f"{np.nanmean(scores):.2f}" if np.isfinite(scores).any() else "none"


def _scores(reference: Any, moving: Any, transform: Transform, places: Sequence[Roi]) -> NDArray[np.float64]:
    """Return the correlation at each site, NaN where too little of it lies in the moving image or has texture."""
    shape = moving.shape
    pairs = [(roi, source_roi(transform, roi, shape, 1)) for roi in places]
    return np.array(both_at(reference, moving, pairs, functools.partial(_score, transform=transform, shape=shape)))


def _score(
    first: NDArray[Any], block: NDArray[Any], roi: Roi, source: Roi, transform: Transform, shape: Shape
) -> float:
    second, codes = pull(transform, block, None, roi, source, shape, 1)
    joint = np.isfinite(first) & (codes == VALID)
    if joint.mean() < COMMON:
        return math.nan
    bands = [band(np.where(joint, image, np.float32(np.nan))) for image in (first, second)]
    energy = [float((part.astype(np.float64) ** 2).sum()) for part in bands]
    return (
        float((bands[0].astype(np.float64) * bands[1]).sum() / math.sqrt(energy[0] * energy[1]))
        if all(energy)
        else math.nan
    )
