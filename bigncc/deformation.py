"""A smooth displacement from what sites say: large ones first, then smaller ones as seen through these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import sites
from bigncc.errors import RegistrationError
from bigncc.search import Small
from bigncc.sites import FLOOR, Floats, Offset, Texture, band
from bigncc.tiles import Roi, Shape
from bigncc.transform import Displacement, Transform, points

SIDES = {2: (128, 64, 32, 32), 3: (32, 16, 16)}
"""Sides of the sites of the small images, pass by pass."""

SITE = {2: 128, 3: 32}
"""Longest side of a site at full resolution, where little is left to be found."""

MOST = {2: 24, 3: 8}
"""Most sites along an axis at full resolution."""

NEAR = 8
"""Neighbours whose median a site is compared with."""

STRAY = 4.0
"""Pixels from that median within which a site agrees."""

LEAST = 8
"""Sites that must agree."""

AROUND = 48
"""Sites that the field at a node is made of."""

STIFF = 0.1
"""How much the field may miss a site by for being smoother, as scipy's RBFInterpolator takes it."""

NODE = 8
"""Pixels between nodes, at least."""


@dataclass(frozen=True, eq=False)
class Found:
    """A field, what the sites of the last pass say, ``[site, axis]`` pixels, and which agree with their neighbours."""

    field: Displacement
    positions: Floats
    targets: Floats
    peaks: Floats
    agree: NDArray[np.bool_]


def coarse(first: Small, second: Small, guess: Transform, upsample_factor: int) -> Found:
    """Return the displacement between two small images, pass by pass.

    Raises
    ------
    RegistrationError
        If neighbouring sites of the first pass, which sees furthest, do not agree.
    """
    ndim, shape = first.image.ndim, first.image.shape
    texture = Texture(band(first.image) ** 2, (0,) * ndim, (1,) * ndim)
    found, last = None, SIDES[ndim][-1]
    for side in SIDES[ndim]:
        # neighbours are compared: there must be some
        if 3 * side <= min(shape[-2:]) or (found is None and side == last):
            most = math.ceil(2 * max(shape) / side)
            here = sites.places(shape, second.image.shape, guess, texture, longest=side, most=most)
            found = _measured(first.image, second.image, guess, here, upsample_factor, _step(shape, side))
            guess = found.field
    assert found is not None  # the last side is taken in any case
    return found


def refined(reference: Any, moving: Any, guess: Displacement, texture: Texture, upsample_factor: int) -> Found:
    """Return a field with what sites at full resolution say of it added, on its own nodes."""
    ndim = len(reference.shape)
    here = sites.places(reference.shape, moving.shape, guess, texture, longest=SITE[ndim], most=MOST[ndim])
    _, step, _ = zip(*guess.grid, strict=True)
    return _measured(reference, moving, guess, here, upsample_factor, step)


def lifted(found: Displacement, first: Small, second: Small, shape: Shape) -> Displacement:
    """Return the displacement of whole images of which that of the small ones was found."""
    step = tuple(s * f for (_, s, _), f in zip(found.grid, first.factors, strict=True))
    nodes = _nodes(shape, step)
    there = points(second.placed, points(found, points(first.placed.inverse(), nodes)))
    return Displacement(np.moveaxis(there - nodes, -1, 0), step=step)


def _step(shape: Shape, side: int) -> Shape:
    return tuple(max(NODE, side // 2) for _ in shape)


def _nodes(shape: Shape, step: Shape) -> Floats:
    """Return the nodes every `step` pixels that cover an image, ``[..., axis]``."""
    axes = (s * np.arange(-(-(n - 1) // s) + 1 if n > 1 else 1) for n, s in zip(shape, step, strict=True))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)


def _measured(
    reference: Any, moving: Any, guess: Transform, places: Sequence[Roi], upsample_factor: int, step: Shape
) -> Found:
    """Ask sites as seen through `guess` and add what those say that agree with their neighbours.

    Raises
    ------
    RegistrationError
        If too few do.
    """
    positions, targets, peaks = sites.ask(reference, moving, guess, places, upsample_factor)
    more = targets - points(guess, positions)
    agree = consistent(positions, more)
    sites.check("displacement", peaks, agree, LEAST, STRAY)
    nodes = _nodes(reference.shape, step)
    values = points(guess, nodes) - nodes + _plate(positions[agree], more[agree], nodes, step)
    return Found(Displacement(np.moveaxis(values, -1, 0), step=step), positions, targets, peaks, agree)


def consistent(positions: Floats, vectors: Floats) -> NDArray[np.bool_]:
    """Return which sites say what the median of their neighbours says, within `STRAY` pixels.

    References
    ----------
    J. Westerweel, F. Scarano, "Universal outlier detection for PIV data", Experiments in Fluids 39, 1096-1100 (2005).
    doi:10.1007/s00348-005-0016-6
    """
    from scipy.spatial import cKDTree

    if len(positions) <= NEAR:
        return np.zeros(len(positions), bool)
    _, near = cKDTree(positions).query(positions, NEAR + 1)
    around = vectors[near[:, 1:]]
    middle = np.median(around, axis=1)
    spread = np.median(np.abs(around - middle[:, None]), axis=1)
    off = np.abs(vectors - middle)
    agree: NDArray[np.bool_] = ((off <= STRAY) & (off <= 3 * (spread + 0.5))).all(axis=1)
    return agree


def _plate(positions: Floats, vectors: Floats, nodes: Floats, step: Shape) -> Floats:
    """Return a thin plate [1]_ through what sites say, at nodes.

    References
    ----------
    .. [1] F. L. Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 11, 567-585 (1989). doi:10.1109/34.24792
    """
    from scipy.interpolate import RBFInterpolator

    try:
        plate = RBFInterpolator(positions / step, vectors, neighbors=min(AROUND, len(positions)), smoothing=STIFF)
        values: Floats = plate(nodes.reshape(-1, nodes.shape[-1]) / step)
    except np.linalg.LinAlgError:
        message = f"{len(positions)} sites lie in a line, by which no displacement can be told"
        raise RegistrationError(message) from None
    return values.reshape(nodes.shape)


def uncertainty(residuals: Floats) -> Offset:
    """Return three robust standard deviations of what sites say about the field, and `FLOOR`, per axis, pixels."""
    return tuple(math.hypot(FLOOR, 3 * 1.4826 * float(np.median(np.abs(axis)))) for axis in residuals.T)
