"""The maps that can be asked for beside the coefficient and its status: what they are called, and what they say."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from bigncc.errors import InputError

Name = Literal[
    "ncc",
    "gain",
    "pvalue",
    "lower",
    "count",
    "mean_reference",
    "mean_moving",
    "std_reference",
    "std_moving",
    "covariance",
    "slope",
    "intercept",
    "ncc_uncentered",
    "squared",
    "absolute",
    "ssim",
    "spearman",
    "shift",
]


@dataclass(frozen=True)
class Further:
    """What a map of pixels says.

    Parameters
    ----------
    words : str
        What its values are.
    ends : tuple of float or None
        Between which values a picture shows it; None: what there is.
    """

    words: str
    ends: tuple[float, float] | None = None


PIXELS = {
    "gain": Further("normalised cross-correlation after registration minus before", (-1.0, 1.0)),
    "pvalue": Further(
        "two-sided p-value of r = 0, that both textures are independent, given how smooth they are; not of alignment",
        (0.0, 1.0),
    ),
    "lower": Further(
        "lower confidence bound of the normalised cross-correlation, given how smooth both are", (-1.0, 1.0)
    ),
    "count": Further("valid samples of the window"),
    "mean_reference": Further("mean of the reference, grey levels"),
    "mean_moving": Further("mean of the registered moving image, grey levels"),
    "std_reference": Further("standard deviation of the reference, grey levels"),
    "std_moving": Further("standard deviation of the registered moving image, grey levels"),
    "covariance": Further("covariance of both images"),
    "slope": Further("slope of the regression: moving = slope x reference + intercept"),
    "intercept": Further("intercept of the regression: moving = slope x reference + intercept"),
    "ncc_uncentered": Further("correlation about zero instead of the means", (-1.0, 1.0)),
    "squared": Further("square of the normalised cross-correlation", (0.0, 1.0)),
    "absolute": Further("absolute normalised cross-correlation", (0.0, 1.0)),
    "ssim": Further("structural similarity", (-1.0, 1.0)),
    "spearman": Further("Spearman's rank correlation", (-1.0, 1.0)),
}
"""Maps of pixels, in the order in which they are stored."""

BYTES = 4
"""Of a pixel of one of them."""

TESTS = frozenset(("pvalue", "lower"))
"""The maps of what chance does."""

LEVEL = 0.05
"""The share of false discoveries, and of lower bounds above what they bound."""

SHIFT = "shift"
"""The map of nodes, which has several components."""


@dataclass(frozen=True)
class Ssim:
    """The constants of structural similarity, called as in :mod:`skimage.metrics`.

    Parameters
    ----------
    data_range : float or None
        Difference between the highest grey level and the lowest that there could be; None: that of the dtype.
    k1, k2 : float
        What makes the constants that keep denominators from zero.
    use_sample_covariance : bool
        Whether variances and covariance are those of a sample, with n - 1, or of the population.

    Raises
    ------
    InputError
        If a number is outside of what is accepted.
    """

    data_range: float | None = None
    k1: float = 0.01
    k2: float = 0.03
    use_sample_covariance: bool = True

    def __post_init__(self) -> None:
        if self.data_range is not None and not 0.0 < self.data_range < math.inf:
            message = f"ssim.data_range is {self.data_range}: a finite number above 0 is accepted"
            raise InputError(message)
        for name, value in (("k1", self.k1), ("k2", self.k2)):
            if not 0.0 <= value < math.inf:
                message = f"ssim.{name} is {value}: a finite number of at least 0 is accepted"
                raise InputError(message)

    @property
    def constants(self) -> tuple[float, float, bool]:
        """Both constants in squared grey levels, and whether variances are those of a sample."""
        span = self.data_range or 0.0
        return (self.k1 * span) ** 2, (self.k2 * span) ** 2, self.use_sample_covariance


@dataclass(frozen=True)
class Asked:
    """What is made of each block beside coefficients and status.

    Parameters
    ----------
    further : tuple of str
        Maps of pixels.
    ssim : Ssim
        With a data range where `further` has ssim.
    level : float
        Of significance.
    """

    further: tuple[str, ...] = ()
    ssim: Ssim = Ssim()
    level: float = LEVEL

    @property
    def gain(self) -> bool:
        """Whether it is correlated before registration, too."""
        return "gain" in self.further

    @property
    def tested(self) -> bool:
        """Whether chance is told from correlation."""
        return not TESTS.isdisjoint(self.further)


NOTHING = Asked()


def ranged(asked: Asked, *dtypes: np.dtype[Any]) -> Asked:
    """Return what is asked with the data range of a pair of images of some dtypes.

    Raises
    ------
    InputError
        If it is needed and floats do not say it.
    """
    if "ssim" not in asked.further or asked.ssim.data_range is not None:
        return asked
    if floats := [dtype for dtype in dtypes if dtype.kind == "f"]:
        message = f"ssim.data_range is null and an image has dtype {floats[0]}: the difference between its highest "
        message += "possible grey level and its lowest is accepted"
        raise InputError(message)
    spans = (1.0 if t.kind == "b" else float(np.iinfo(t).max) - float(np.iinfo(t).min) for t in dtypes)
    return replace(asked, ssim=replace(asked.ssim, data_range=max(spans)))


def of_pixels(maps: Iterable[str]) -> tuple[str, ...]:
    """Return those of some maps that are further maps of pixels, in their order."""
    asked = set(maps)
    return tuple(name for name in PIXELS if name in asked)


def in_order(maps: Iterable[str]) -> tuple[Name, ...]:
    """Return some maps in the order in which they are stored."""
    asked = set(maps)
    return tuple(name for name in get_args(Name) if name in asked)
