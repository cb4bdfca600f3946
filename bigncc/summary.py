"""Mergeable statistics of a block: merging is exact, in any order and any grouping.

A coefficient r counts as the integer ``k = round(r * 2**24)``, half to even, so that sums never round.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

STATUS = (
    "not computed",
    "valid",
    "too few valid samples",
    "reference flat",
    "moving flat",
    "both flat",
    "outside the moving image's view",
    "window leaves the image",
    "below numerical resolution",
)
BINS = 64
UNIT = 2**24

_MOST = 2**96
"""What no sum over an image reaches."""


@dataclass(frozen=True)
class Summary:
    """Counts per status and statistics of the pixels whose status is 1.

    Parameters
    ----------
    counts : tuple of int
        Pixels per status 0 to 8.
    total, squares : int
        Sums of ``k = round(r * 2**24)`` and of ``round(k**2 / 2**24)``.
    low, high : float
        Extremes of r; +inf and -inf where there is none.
    histogram : tuple of int
        Values of k in 64 equal bins over [-1, 1], the last one closed.
    """

    counts: tuple[int, ...] = (0,) * len(STATUS)
    total: int = 0
    squares: int = 0
    low: float = math.inf
    high: float = -math.inf
    histogram: tuple[int, ...] = (0,) * BINS

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.total + other.total,
            self.squares + other.squares,
            min(self.low, other.low),
            max(self.high, other.high),
            tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True)),
        )

    @property
    def pixels(self) -> int:
        """Number of pixels of any status."""
        return sum(self.counts)

    @property
    def valid(self) -> int:
        """Number of pixels whose status is 1."""
        return self.counts[1]

    @property
    def mean(self) -> float:
        """Mean of r over valid pixels; NaN where there is none."""
        return self.total / UNIT / self.valid if self.valid else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation of r over valid pixels; NaN where there is none."""
        if not self.valid:
            return math.nan
        return math.sqrt(max(0.0, self.squares / UNIT / self.valid - self.mean**2))

    def quantile(self, q: float) -> float:
        """Value below which a share `q` of the valid pixels lies, linear within a bin of 1/32."""
        if not self.valid:
            return math.nan
        wanted, below = q * self.valid, 0
        for index, n in enumerate(self.histogram):
            if n and below + n >= wanted:
                inside = -1 + (index + (wanted - below) / n) * 2 / BINS
                return min(max(inside, self.low), self.high)
            below += n
        return self.high

    def below(self, threshold: float) -> float:
        """Share of the valid pixels below `threshold`, linear within a bin; NaN where there is none.

        At an edge of a bin, see `is_edge`, it is exact.
        """
        if not self.valid:
            return math.nan
        place = min(max((threshold + 1) * BINS / 2, 0.0), float(BINS))
        whole = math.floor(place)
        inside = (place - whole) * self.histogram[whole] if whole < BINS else 0.0
        return (sum(self.histogram[:whole]) + inside) / self.valid

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; infinite extremes become None."""
        values = asdict(self) | {"counts": list(self.counts), "histogram": list(self.histogram)}
        return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in values.items()}

    def packed(self) -> list[list[Any]]:
        """Return what JSON can hold in few letters: zeros at the ends are left out."""
        counts, first = list(self.counts), next((i for i, n in enumerate(self.histogram) if n), BINS)
        while counts and not counts[-1]:
            counts.pop()
        bins = list(self.histogram[first:])
        while bins and not bins[-1]:
            bins.pop()
        extremes = [self.low, self.high] if math.isfinite(self.low) else []
        return [counts, [self.total, self.squares], extremes, [first, *bins]]


def is_edge(threshold: float) -> bool:
    """Say whether two bins of the histogram meet at `threshold`, so that `Summary.below` is exact there."""
    # the last bin has its upper edge
    return threshold < 1 and ((threshold + 1) * BINS / 2).is_integer()


def unpacked(values: list[list[Any]]) -> Summary:
    """Return the `Summary` that `packed` was called on."""
    counts, sums, extremes, (first, *bins) = values
    return _checked(
        tuple(counts) + (0,) * (len(STATUS) - len(counts)),
        sums[0],
        sums[1],
        extremes[0] if extremes else math.inf,
        extremes[1] if extremes else -math.inf,
        (0,) * min(first, BINS) + tuple(bins) + (0,) * (BINS - first - len(bins)),
    )


def from_dict(values: dict[str, Any]) -> Summary:
    """Return the `Summary` that `to_dict` was called on."""
    return _checked(
        tuple(values["counts"]),
        values["total"],
        values["squares"],
        math.inf if values["low"] is None else values["low"],
        -math.inf if values["high"] is None else values["high"],
        tuple(values["histogram"]),
    )


def _checked(
    counts: tuple[Any, ...], total: Any, squares: Any, low: Any, high: Any, histogram: tuple[Any, ...]
) -> Summary:
    """Return a summary of what was read; ValueError if that is none."""
    numbers = (*counts, *histogram, total, squares)
    whole = {type(n) for n in numbers} == {int} and max(map(abs, numbers)) < _MOST
    whole = whole and all(type(r) in (int, float) and (-1 <= r <= 1 or math.isinf(r)) for r in (low, high))
    if not (whole and (len(counts), len(histogram)) == (len(STATUS), BINS) and min(counts + histogram) >= 0):
        raise ValueError(numbers)
    return Summary(counts, total, squares, low, high, histogram)


def merge(summaries: Iterable[Summary]) -> Summary:
    """Return the summary of all blocks together."""
    return reduce(Summary.__add__, summaries, Summary())


Items = dict[tuple[int, ...], Summary]
"""The summary of each batch item (a section, a channel, a time), by its place along the axes before the window's."""


def merge_items(parts: Iterable[Items]) -> Items:
    """Return the summary of each batch item of all blocks together."""
    found: Items = {}
    for items in parts:
        for place, summary in items.items():
            found[place] = found[place] + summary if place in found else summary
    return found


def packed_items(items: Items) -> list[list[Any]]:
    """Return what JSON can hold: places in their order, each with its summary."""
    return [[list(place), items[place].packed()] for place in sorted(items)]


def unpacked_items(values: list[list[Any]]) -> Items:
    """Return what `packed_items` was called on."""
    if not all(type(n) is int and n >= 0 for place, _ in values for n in place):
        raise ValueError(values)
    return {tuple(place): unpacked(summary) for place, summary in values}
