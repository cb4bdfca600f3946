"""The transform that most sites agree on, and how sure it is."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigncc import sites
from bigncc.errors import RegistrationError
from bigncc.sites import FLOOR, LEAST, TOLERANCE, UNSURE, Floats, Offset
from bigncc.tiles import Shape
from bigncc.transform import Affine, Translation, points
from bigncc.wording import shift_in_words

Model = Literal["translation", "rigid", "similarity", "affine"]

TRIALS = 1000
"""Samples of a few sites of which each says a transform; the one that most others agree with is taken."""

Agree = NDArray[np.bool_]


def least(model: Model, ndim: int) -> int:
    """Return how many sites must agree: two more than one transform is made of."""
    return LEAST if model == "translation" else _minimal(model, ndim) + 2


def _minimal(model: Model, ndim: int) -> int:
    return ndim + 1 if model == "affine" else ndim


def fitted(model: Model, positions: Floats, targets: Floats, peaks: Floats) -> tuple[Affine | Translation, Agree]:
    """Return the transform that most evidence agrees on, and which sites do.

    Parameters
    ----------
    model : {'translation', 'rigid', 'similarity', 'affine'}
        What may be between the images.
    positions, targets : ndarray, ``[site, axis]``
        Pixels of the reference, and where they were found in the moving image.
    peaks : ndarray, ``[site]``
        How sure each site is.

    Raises
    ------
    RegistrationError
        If there are fewer sites than a transform is made of.

    Notes
    -----
    RANSAC [1]_ with a fixed seed, then least squares on the sites that agree, without stragglers.

    References
    ----------
    .. [1] M. A. Fischler, R. C. Bolles, "Random sample consensus", Communications of the ACM 24, 381-395 (1981).
       doi:10.1145/358669.358692
    """
    if model == "translation":
        offsets = targets - positions
        agree = sites.vote(offsets, peaks)
        kept = _near(offsets - np.median(offsets[agree], axis=0), agree)
        return Translation(tuple(offsets[kept].mean(axis=0).tolist())), agree
    ndim = positions.shape[1]
    if len(positions) < least(model, ndim):
        message = f"{len(positions)} sites have texture and {least(model, ndim)} are needed for a {model} transform"
        raise RegistrationError(message)
    agree = _consensus(model, positions, targets)
    found = _least_squares(model, positions[agree], targets[agree])
    # what strayed from a sample of few may agree with all
    agree = np.asarray((np.abs(points(found, positions) - targets) <= TOLERANCE).all(axis=1))
    kept = _near(targets - points(found, positions), agree)
    return _least_squares(model, positions[kept], targets[kept]), agree


def _near(residuals: Floats, agree: Agree) -> Agree:
    """Return which of the sites that agree are no stragglers among them; all, if too few would be left."""
    if not agree.any():
        return agree
    off = np.abs(residuals)
    # 1.4826 makes a standard deviation of a median deviation; stragglers lie beyond three of them
    kept: Agree = agree & (off <= 3 * 1.4826 * np.median(off[agree], axis=0) + FLOOR).all(axis=1)
    return kept if 2 * kept.sum() > agree.sum() else agree


def check(found: Affine | Translation, sure: Offset, count: int) -> None:
    """Raise RegistrationError if a transform is so unsure that it is of no use."""
    if max(sure) > UNSURE:
        what = f"{shift_in_words(found.offset)} pixels" if isinstance(found, Translation) else "a transform"
        message = f"{count} sites say {what} and are uncertain by {max(sure):.2g}, where at most {UNSURE} is of use"
        raise RegistrationError(message)


def _consensus(model: Model, positions: Floats, targets: Floats) -> Agree:
    from skimage.measure import ransac

    ndim = positions.shape[1]
    data = positions, targets
    with np.errstate(all="ignore"):
        _, agree = ransac(
            data, _kind(model), _minimal(model, ndim), TOLERANCE, max_trials=TRIALS, stop_probability=0.999999, rng=0
        )
    if agree is None or agree.sum() < _minimal(model, ndim):
        message = f"no {model} transform is found in which sites agree (of {len(positions)} sites)"
        raise RegistrationError(message)
    return np.asarray(agree)


def _least_squares(model: Model, positions: Floats, targets: Floats) -> Affine:
    found = _kind(model).from_estimate(positions, targets)
    # a rotation is told by sites in a line, and in space by sites in a plane
    wanted = positions.shape[1] - (0 if model == "affine" else 1)
    spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    if not found or (spread > 1.0).sum() < wanted:
        message = f"{len(positions)} sites lie in a line or a plane, by which no {model} transform can be told"
        raise RegistrationError(message)
    matrix = np.asarray(found.params)
    return Affine(tuple(map(tuple, matrix[:-1, :-1].tolist())), tuple(matrix[:-1, -1].tolist()))


def _kind(model: Model) -> Any:
    from skimage import transform

    return {
        "rigid": transform.EuclideanTransform,
        "similarity": transform.SimilarityTransform,
        "affine": transform.AffineTransform,
    }[model]


def corners(shape: Shape) -> Floats:
    """Return the corners of an image, ``[corner, axis]``, pixels."""
    return np.array(list(product(*((0.0, n - 1.0) for n in shape))))


def uncertainty(model: Model, positions: Floats, residuals: Floats, shape: Shape) -> Offset:
    """Return three standard errors of the transform where it is least sure, and `FLOOR`, per axis, pixels.

    Parameters
    ----------
    model : str
        Whose free numbers the residuals are shared by.
    positions, residuals : ndarray, ``[site, axis]``
        Of the sites that agree.
    shape : tuple of int
        Of the image at whose corners it is asked.
    """
    kept = _near(residuals, np.ones(len(residuals), bool))
    positions, residuals = positions[kept], residuals[kept]
    middle, spread = positions.mean(axis=0), max(1.0, float(np.abs(positions - positions.mean(axis=0)).max()))

    def design(pixels: Floats) -> Floats:
        """Return what each free number adds at each pixel, ``[pixel, axis, number]``."""
        n, ndim = pixels.shape
        local = (pixels - middle) / spread
        units = np.eye(ndim)
        columns = [np.broadcast_to(units[i], (n, ndim)) for i in range(ndim)]
        if model == "affine":
            columns += [local[:, [j]] * units[i] for i in range(ndim) for j in range(ndim)]
        if model in ("rigid", "similarity"):
            turns = [(i, j) for i in range(ndim) for j in range(i)]
            columns += [local[:, [j]] * units[i] - local[:, [i]] * units[j] for i, j in turns]
        if model == "similarity":
            columns.append(local)
        return np.stack(columns, axis=-1)

    rows = design(positions)
    free = max(1.0, len(residuals) - rows.shape[-1] / len(shape))
    variance = (residuals**2).sum(axis=0) / free
    inverse = np.linalg.pinv(np.einsum("nap,naq->pq", rows, rows))
    # axes may differ in how sure they are
    covariance = inverse @ np.einsum("nap,naq,a->pq", rows, rows, variance) @ inverse
    ends = design(corners(shape))
    errors = np.sqrt(np.einsum("nap,pq,naq->na", ends, covariance, ends).max(axis=0))
    return tuple(math.hypot(FLOOR, 3 * float(error)) for error in errors)
