"""The maps that can be asked for beside the coefficient and its status: what they are called, and what they say."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from bigncc.prefilter import UNFILTERED, Prefilter

Name = Literal["ncc", "gain", "confidence", "shift"]


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
    "confidence": Further("correlation averaged over the window, negative values as 0", (0.0, 1.0)),
}
"""Maps of pixels, in the order in which they are stored."""

BYTES = 4
"""Of a pixel of one of them."""

SHIFT = "shift"
"""The map of nodes, which has several components."""


@dataclass(frozen=True)
class Asked:
    """What is made of each block beside coefficients and status.

    Parameters
    ----------
    further : tuple of str
        Maps of pixels.
    prefilter : Prefilter
        What both images are filtered by first.
    """

    further: tuple[str, ...] = ()
    prefilter: Prefilter = UNFILTERED

    @property
    def gain(self) -> bool:
        """Whether it is correlated before registration, too."""
        return "gain" in self.further

    @property
    def confidence(self) -> bool:
        """Whether coefficients are averaged, for which those of neighbours are needed, too."""
        return "confidence" in self.further

    def around(self, radius: tuple[int, ...]) -> tuple[int, ...]:
        """Return what a block of filtered samples needs around it for windows of a radius, along their axes."""
        return tuple((1 + self.confidence) * r for r in radius)

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


def of_pixels(maps: Iterable[str]) -> tuple[str, ...]:
    """Return those of some maps that are further maps of pixels, in their order."""
    asked = set(maps)
    return tuple(name for name in PIXELS if name in asked)


def in_order(maps: Iterable[str]) -> tuple[Name, ...]:
    """Return some maps in the order in which they are stored."""
    asked = set(maps)
    return tuple(name for name in get_args(Name) if name in asked)
