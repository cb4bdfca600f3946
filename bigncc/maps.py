"""The maps that can be asked for beside the coefficient and its status: what they are called, and what they say."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal["ncc", "gain", "shift"]


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
    """

    further: tuple[str, ...] = ()

    @property
    def gain(self) -> bool:
        """Whether it is correlated before registration, too."""
        return "gain" in self.further


NOTHING = Asked()


def of_pixels(maps: Iterable[str]) -> tuple[str, ...]:
    """Return those of some maps that are further maps of pixels, in their order."""
    asked = set(maps)
    return tuple(name for name in PIXELS if name in asked)


def in_order(maps: Iterable[str]) -> tuple[Name, ...]:
    """Return some maps in the order in which they are stored."""
    asked = set(maps)
    return tuple(name for name in get_args(Name) if name in asked)
