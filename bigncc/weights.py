"""How much each sample of a window counts: the taps of a Gaussian, disks and balls, and tables that somebody made."""

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bigncc.errors import InputError

Weights = Literal["box", "gaussian", "footprint"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)

Drawn = Literal["disk", "ball", "octagon"]
DRAWN: tuple[Drawn, ...] = get_args(Drawn)

LEAST = 1e-12
"""Of the largest weight of a table: a smaller one would be lost in the sums, and 0 says the same."""

TRUNCATE = 10.0
"""Standard deviations at which a Gaussian is cut at the farthest: beyond, its weights are lost in the sums."""


@dataclass(frozen=True)
class Table:
    """A weight for each sample of a window, the largest between 1/2 and 1, or all of them 0 and 1.

    Parameters
    ----------
    shape : tuple of int
        Odd, along ``([z,] y, x)``.
    data : bytes
        float64 in C order: bytes can be hashed, compared and sent.
    """

    shape: tuple[int, ...]
    data: bytes

    def __repr__(self) -> str:
        return f"<table of {' x '.join(map(str, self.shape))} weights, {self.digest}>"

    @cached_property
    def array(self) -> NDArray[np.float64]:
        """The weights."""
        return np.frombuffer(self.data, np.float64).reshape(self.shape)

    @property
    def flat(self) -> bool:
        """Whether all samples that count have the same weight, so that sums of integers are integers."""
        return bool(np.isin(self.array, (0.0, 1.0)).all())

    @property
    def digest(self) -> str:
        """By which an equal table is known."""
        return hashlib.sha256(repr(self.shape).encode() + self.data).hexdigest()[:32]


def table_of(values: Any) -> Table:
    """Return an array of weights as a table; what they are multiplied by cannot be seen in a correlation.

    Raises
    ------
    InputError
        If it is no array of two or three odd extents with nonnegative numbers, two of them positive.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        message = f"window.footprint is {values!r}: {', '.join(DRAWN)}, or an array of numbers, is accepted"
        raise InputError(message) from None
    accepted = "weights of 0 or more along 2 or 3 axes of odd extent, at least two of them positive, are accepted"
    if array.ndim not in (2, 3) or not all(n % 2 for n in array.shape):
        message = f"window.footprint has shape {list(array.shape)}: {accepted}"
        raise InputError(message)
    wrong = array[~(array >= 0.0) | np.isinf(array)]
    if wrong.size or np.count_nonzero(array) < 2:
        what = f"a weight of {wrong[0]}" if wrong.size else f"{np.count_nonzero(array)} positive weights"
        message = f"window.footprint has {what}: {accepted}"
        raise InputError(message)
    positive = array[array > 0.0]
    if positive.min() < LEAST * positive.max():
        message = (
            f"window.footprint has weights from {positive.min():.3g} to {positive.max():.3g}: 0, and weights of at "
            f"least {LEAST:g} of the largest, are accepted"
        )
        raise InputError(message)
    if positive.min() == positive.max():
        array = np.ceil(array / positive.max())
    else:  # by a power of two, which rounds nothing
        array = np.ldexp(array, -math.frexp(positive.max())[1])
    # no zero has a sign
    return Table(array.shape, np.ascontiguousarray(array + 0.0).tobytes())


def drawn(name: Drawn, shape: tuple[int, ...]) -> Table:
    """Return a shape that fills a window of that size, as 0 and 1.

    Parameters
    ----------
    name : {'disk', 'ball', 'octagon'}
        Disk and ball: what lies within the radius of the middle, of whatever radius along each axis. Octagon: a regular
        one, with sides along the axes. Disk and octagon are planes: in three dimensions the size along z is 1.
    shape : tuple of int
        Odd.

    Raises
    ------
    InputError
        If a window of that size has no such shape.
    """
    flat = len(shape) == 2 or shape[0] == 1
    if flat == (name == "ball"):
        accepted = "(z, y, x) with more than 1 along z" if name == "ball" else "(y, x), or 1 along z,"
        message = f"window.footprint is {name} and window.size {list(shape)}: {accepted} is accepted with it"
        raise InputError(message)
    radii = [n // 2 for n in shape]
    whole = math.prod(r for r in radii if r)
    # in whole numbers: what is on the rim is within
    steps = np.meshgrid(*(np.arange(-r, r + 1) * (whole // max(1, r)) for r in radii), indexing="ij", sparse=True)
    if name == "octagon":
        return table_of(sum(map(np.abs, steps)) ** 2 <= 2 * whole**2)
    return table_of(sum(step**2 for step in steps) <= whole**2)


def gaussian_size(sigma: tuple[float, ...], truncate: float) -> tuple[int, ...]:
    """Return the size of a Gaussian window, as `scipy.ndimage.gaussian_filter` has it."""
    return tuple(2 * int(truncate * each + 0.5) + 1 for each in sigma)


def taps(sigma: float, radius: int) -> NDArray[np.float64]:
    """Return the weights of a Gaussian along one axis, from the middle outwards, with a sum of 1 on both sides.

    Exponentials of one machine's library may differ in the last bit from another's, and tiles be computed on both.
    """
    if radius == 0:
        return np.ones(1)
    with localcontext() as context:
        context.prec = 40
        twice = 2 * Decimal(sigma) ** 2
        outwards = [(-(k * k) / twice).exp() for k in range(radius + 1)]
        total = 2 * sum(outwards[1:]) + outwards[0]
        return np.array([float(each / total) for each in outwards])
