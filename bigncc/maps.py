"""The maps that can be asked for beside the coefficient and its status: what they are called, and what they say."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from bigncc.errors import InputError
from bigncc.prefilter import UNFILTERED, Prefilter
from bigncc.window import Window, check_box

Name = Literal[
    "ncc",
    "gain",
    "confidence",
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
    largest : float or None
        The magnitude that its values reach at most, where they pass the ends.
    """

    words: str
    ends: tuple[float, float] | None = None
    largest: float | None = None

    @property
    def bound(self) -> float | None:
        """The magnitude that its values reach at most; None where nobody knows."""
        return self.largest if self.largest is not None or self.ends is None else max(map(abs, self.ends))


PIXELS = {
    "gain": Further("normalised cross-correlation after registration minus before", (-1.0, 1.0), 2.0),
    "confidence": Further("correlation averaged over the window, negative values as 0", (0.0, 1.0)),
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
    "best": Further("largest normalised cross-correlation of several windows", (-1.0, 1.0)),
    "scale": Further("number of the window that gave the largest one, from 1 on"),
}
"""Maps of pixels, in the order in which they are stored."""

OF_SEVERAL = ("best", "scale")
"""Those that several windows have in common."""

PER_WINDOW = tuple(name for name in PIXELS if name not in OF_SEVERAL)
"""Those that one window has."""

WINDOW_MAP = "ncc_[0-9]+(?:x[0-9]+){1,2}"
"""What the map of another window is called, as a pattern: ncc_15x15."""

BYTES = 4
"""Of a pixel of one of them."""

LEAST = 7
"""Samples along such a cell in two dimensions, at least, lest there are too few to know anything by."""

TESTS = frozenset(("pvalue", "lower"))
"""The maps of what chance does."""

FAR = 200
"""Squares of what is within 2^-200 and 2^200, and of its 2^-200th part, are held by a float64."""

LEVEL = 0.05
"""The share of false discoveries, and of lower bounds above what they bound."""


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
    def constants(self) -> tuple[float, float, bool, float]:
        """Both constants in squared units, whether variances are those of a sample, and units per grey level.

        Their number is a power of two: 1, but for ranges whose squares a float64 may not hold.
        """
        span = self.data_range or 0.0
        exponent = math.frexp(span)[1]
        unit = 2.0 ** min(-exponent, 1000) if abs(exponent) > FAR else 1.0
        first, second = self.k1 * (span * unit), self.k2 * (span * unit)
        return first * first, second * second, self.use_sample_covariance, unit


@dataclass(frozen=True)
class Asked:
    """What is made of each block beside coefficients and status.

    Parameters
    ----------
    further : tuple of str
        Maps of pixels.
    prefilter : Prefilter
        What both images are filtered by first.
    ssim : Ssim
        With a data range where `further` has ssim.
    level : float
        Of significance.
    windows : tuple of Window
        Other windows that are correlated in the same pass.
    """

    further: tuple[str, ...] = ()
    prefilter: Prefilter = UNFILTERED
    ssim: Ssim = Ssim()
    level: float = LEVEL
    windows: tuple[Window, ...] = ()

    @property
    def gain(self) -> bool:
        """Whether it is correlated before registration, too."""
        return "gain" in self.further

    @property
    def statistics(self) -> int:
        """How many statistics of the windows are made."""
        return len(self.further) - self.gain - self.confidence - len(TESTS.intersection(self.further))

    @property
    def tested(self) -> bool:
        """Whether chance is told from correlation."""
        return not TESTS.isdisjoint(self.further)

    @property
    def confidence(self) -> bool:
        """Whether coefficients are averaged, for which those of neighbours are needed, too."""
        return "confidence" in self.further

    def around(self, radius: tuple[int, ...]) -> tuple[int, ...]:
        """Return what a block of filtered samples needs around it for windows of a radius, along their axes."""
        own = tuple((1 + self.confidence) * r for r in radius)
        if self.tested:
            own = tuple(map(max, own, looked_at(radius)))
        return tuple(map(max, zip(own, *(window.radius for window in self.windows), strict=True)))

    def margin(self, radius: tuple[int, ...], axes: int, reach: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return what a block needs around it, all added up.

        Parameters
        ----------
        radius : tuple of int
            That of the window, along its axes.
        axes : int
            Of the image: those in front of the window's need nothing.
        reach : tuple of int, optional
            How far is searched around nodes, of which nothing is averaged.
        """
        after = tuple(map(sum, zip(radius, reach, strict=True))) if reach else self.around(radius)
        own = zip(self.prefilter.radius(len(radius)), after, strict=True)
        return (0,) * (axes - len(radius)) + tuple(map(sum, own))


NOTHING = Asked()


def cells_of(radius: tuple[int, ...]) -> tuple[int, ...]:
    """Return the samples along each axis of the cells in which it is looked at how smooth images are."""
    return tuple(max(2 * r + 1, LEAST) if r and len(radius) == 2 else 2 * r + 1 for r in radius)


def looked_at(radius: tuple[int, ...]) -> tuple[int, ...]:
    """Return how far around a pixel it is looked at how smooth images are, for windows of a radius.

    These are the cells of the two middles that a pixel is between, those pooled with them, and half a lag: from the
    pixel before a cell's middle it is half a cell without it to that cell's beginning, and two cells more.
    """
    return tuple(2 * c + c // 2 - 1 + r if r else 0 for c, r in zip(cells_of(radius), radius, strict=True))


def ranged(asked: Asked, *dtypes: np.dtype[Any]) -> Asked:
    """Return what is asked with the data range of a pair of images of some dtypes.

    Raises
    ------
    InputError
        If it is needed and neither floats nor what is filtered say it.
    """
    if "ssim" not in asked.further or asked.ssim.data_range is not None:
        return asked
    if asked.prefilter:
        message = f"ssim.data_range is null and prefilter.kind is {asked.prefilter.kind}: the difference between the "
        message += "highest possible value of a filtered image and its lowest is accepted"
        raise InputError(message)
    if floats := [dtype for dtype in dtypes if dtype.kind == "f"]:
        message = f"ssim.data_range is null and an image has dtype {floats[0]}: the difference between its highest "
        message += "possible grey level and its lowest is accepted"
        raise InputError(message)
    spans = (1.0 if t.kind == "b" else float(np.iinfo(t).max) - float(np.iinfo(t).min) for t in dtypes)
    return replace(asked, ssim=replace(asked.ssim, data_range=max(spans)))


def check_weights(windows: Iterable[Window], asked: Asked) -> None:
    """Raise InputError for a statistic that a window whose samples do not count alike does not have."""
    for window in windows:
        for name in ("spearman", *sorted(TESTS)):
            if name in asked.further:
                check_box(window, name)
        if not window.exact and "count" in asked.further:
            message = (
                f"maps has count and window.weights is {window.weights}, of which samples count by weight: box, or "
            )
            message += "a footprint of 0 and 1, is accepted with it"
            raise InputError(message)
        if not window.exact and "ssim" in asked.further and asked.ssim.use_sample_covariance:
            message = (
                f"ssim.use_sample_covariance is true and window.weights is {window.weights}, of which there is no "
            )
            message += "number of samples: false is accepted with it"
            raise InputError(message)


def of_pixels(maps: Iterable[str]) -> tuple[str, ...]:
    """Return those of some maps that are further maps of pixels, in their order."""
    asked = dict.fromkeys(maps)
    return (*(name for name in PIXELS if name in asked), *(name for name in asked if re.fullmatch(WINDOW_MAP, name)))


def described(name: str) -> Further:
    """Return what a map of pixels says."""
    size = name.removeprefix("ncc_")
    return PIXELS.get(name) or Further(f"normalised cross-correlation, window {size}", (-1.0, 1.0))


def window_map(size: tuple[int, ...]) -> str:
    """Return what the map of another window is called."""
    return f"ncc_{'x'.join(map(str, size))}"


def of_windows(sizes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Return the further maps that several windows have, the first of which gives ncc."""
    return (*map(window_map, sizes[1:]), *OF_SEVERAL) if len(sizes) > 1 else ()


def in_order(maps: Iterable[str]) -> tuple[Name, ...]:
    """Return some maps in the order in which they are stored."""
    asked = set(maps)
    return tuple(name for name in get_args(Name) if name in asked)
