"""Mergeable counts of probabilities, and the threshold that bounds the share of false discoveries among pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

LEAST = 504
"""The upper 12 bits of 2^-64 as a float32: sign, exponent and three binary digits."""

BINS = 513
"""From 2^-64 to 1, eight for each power of two; the first has what is smaller, and the last has 1."""


@dataclass(frozen=True)
class PValues:
    """How many pixels have which probability; merging is exact, in any order and any grouping.

    Parameters
    ----------
    counts : tuple of int
        Bin k has the float32 numbers whose upper 12 bits are ``k + 504``, and the first one smaller ones, too. None at
        all stands for no pixel.
    """

    counts: tuple[int, ...] = ()

    def __add__(self, other: PValues) -> PValues:
        if not self.counts or not other.counts:
            return self if self.counts else other
        return PValues(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def pixels(self) -> int:
        """Number of pixels with a probability."""
        return sum(self.counts)

    def threshold(self, share: float) -> tuple[float, int]:
        """Return below which probability, and on how many pixels, at most a `share` of the discoveries is false.

        The step-up procedure of Benjamini and Hochberg, with the upper edge of a bin for all that is in it: it finds
        no pixel that theirs would not, and misses none whose probability is an eighth below their threshold.
        """
        pixels, below = self.pixels, 0
        found = 0.0, 0
        for index, n in enumerate(self.counts):
            below += n
            if below and edge(index + 1) * pixels <= share * below:
                found = edge(index + 1), below
        return found

    def packed(self) -> list[int]:
        """Return what JSON can hold in few letters: zeros at the ends are left out, the first number counts them."""
        filled = [index for index, n in enumerate(self.counts) if n]
        return [filled[0], *self.counts[filled[0] : filled[-1] + 1]] if filled else []


NO_PIXELS = PValues()


def edge(index: int) -> float:
    """Return the smallest number of a bin; 1 has a bin of its own."""
    bits = (index + LEAST) << 20
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def unpacked(values: list[int]) -> PValues:
    """Return the `PValues` that `packed` was called on."""
    if not values:
        return NO_PIXELS
    first, *counts = values
    if {type(n) for n in values} != {int} or min(values) < 0 or first + len(counts) > BINS:
        raise ValueError(values)
    return PValues((0,) * first + tuple(counts) + (0,) * (BINS - first - len(counts)))


def merged(parts: Iterable[PValues]) -> PValues:
    """Return those of all parts together."""
    return reduce(PValues.__add__, parts, NO_PIXELS)


@dataclass(frozen=True)
class Discoveries:
    """The p-values of a whole map, and which share of false ones among its discoveries is accepted."""

    pvalues: PValues
    share: float

    def facts(self) -> dict[str, str]:
        """Return the threshold as words."""
        limit, n = self.pvalues.threshold(self.share)
        tested = f"of {self.pvalues.pixels} tested ({100 * n / max(1, self.pvalues.pixels):.1f} %)"
        said = f"p < {limit:.3g} keeps the share of false discoveries below {100 * self.share:g} %: {n} pixels {tested}"
        if not n:
            said = f"no p < x keeps the share of false discoveries below {100 * self.share:g} %: 0 pixels {tested}"
        return {"discoveries": said, "tested": "r = 0, that both textures are independent; not alignment"}

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: the threshold, for whoever reads it, and what it was found from."""
        limit, n = self.pvalues.threshold(self.share)
        return {"share": self.share, "p_below": limit, "pixels": n, "histogram": self.pvalues.packed()}


def discoveries_of(values: dict[str, Any]) -> Discoveries:
    """Return the `Discoveries` that `to_dict` was called on."""
    return Discoveries(unpacked(values["histogram"]), values["share"])
