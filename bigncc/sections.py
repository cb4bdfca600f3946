"""A result section by section and channel by channel: the table, and which sections are bad."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigncc import store
from bigncc.documents import UNREADABLE
from bigncc.errors import InputError, RefusedError
from bigncc.layout import Layout
from bigncc.summary import Summary, is_edge, merge, unpacked_items
from bigncc.tiles import Shape

COLUMNS = (
    "section", "position", "unit", "lag", "time", "channel", "pixels", "percent_with_value", "mean", "std",
    "q05", "q25", "q50", "q75", "q95", "threshold", "percent_below", "counted", "offset_y", "offset_x", "quality",
    "suspect", "note",
)  # fmt: skip
"""The first line of a table, by which it is known to be ours."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

REACH = 10
"""Sections on each side that a section is compared with."""

LEAST = 7
"""Sections that are enough to tell what is ordinary."""

CLEAR, WEAK = 5.0, 3.0
"""Robust standard deviations from its neighbours from which on a pair stands out, and may do so because of another."""

SLIGHT = 0.02
"""What a mean, or a share with a value, has to differ by at least to stand out, however alike the neighbours are."""

MOST = 12
"""Sections beside each other of which the fewest that explain their pairs are looked for; of more all are named."""

NAMED = 20
"""Sections that are named in a line."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One batch item.

    Parameters
    ----------
    place : tuple of int
        Along the axes of the result in front of the window's.
    section : int or None
        Its number in the file, None without an axis z.
    lag : int
        How many sections further the other one is: 0 for two images.
    time, channel : int or None
        None without such an axis.
    summary : Summary
        Of its pixels.
    match : mapping
        How it was registered to the other one, as the plan says it; empty if it was not.
    suspects : tuple of int
        Those of its sections that are bad.
    doubtful : tuple of int
        Those that no pair clears, and that are not needed to explain any.
    stands_out : {"", "low", "high"}
        Whether it stands out and neither of its sections explains it.
    """

    place: Shape
    section: int | None
    lag: int
    time: int | None
    channel: int | None
    summary: Summary
    match: Mapping[str, Any] = field(default_factory=dict)
    suspects: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()
    stands_out: Literal["", "low", "high"] = ""

    @property
    def pair(self) -> Pair:
        """Both of its sections."""
        assert self.section is not None
        return self.section, self.section + self.lag


@dataclass(frozen=True)
class Table:
    """All batch items of a result.

    Parameters
    ----------
    rows : tuple of Row
        In the order of the result.
    layout : Layout
        Of the result.
    first : int
        Number of its first section in the file.
    stacked : bool
        Whether it is of one stack.
    threshold : float
        Below which pixels are counted.
    """

    rows: tuple[Row, ...]
    layout: Layout
    first: int
    stacked: bool
    threshold: float

    @property
    def sections(self) -> tuple[int, ...]:
        """Every section there is."""
        return tuple(sorted({z for row in self.rows if row.section is not None for z in row.pair}))

    @property
    def suspects(self) -> tuple[int, ...]:
        """The bad sections."""
        return tuple(sorted({z for row in self.rows for z in row.suspects}))

    @property
    def steps(self) -> tuple[Pair, ...]:
        """Sections between which something changes that is no fault of one of them."""
        return tuple(sorted({row.pair for row in self.rows if row.stands_out == "low"}))

    @property
    def twins(self) -> tuple[Pair, ...]:
        """Sections that are more alike than others, as when one was imaged twice."""
        return tuple(sorted({row.pair for row in self.rows if row.stands_out == "high"}))

    @property
    def worst(self) -> Row:
        """The row with the lowest mean, of a bad section if there is one."""
        rows = [row for row in self.rows if row.suspects] or self.rows
        return min(rows, key=lambda row: (row.summary.mean if row.summary.valid else math.inf, row.place))

    def position(self, section: int) -> float:
        """Return where a section is, in physical units."""
        axis = self.layout.axes.index("z")
        return self.layout.translation[axis] + self.layout.scale[axis] * (section - self.first)

    def facts(self) -> dict[str, str]:
        """Return what stands out as words."""
        found = {}
        channels = sorted({row.channel for row in self.rows if row.channel is not None})
        for number in channels[:NAMED] if len(channels) > 1 else ():
            summary = merge(row.summary for row in self.rows if row.channel == number)
            found[f"mean NCC of channel {number}"] = _number(summary.mean, 4)
        lags = sorted({row.lag for row in self.rows})
        for lag in lags if len(lags) > 1 else ():
            found[f"mean NCC of z + {lag}"] = _number(merge(r.summary for r in self.rows if r.lag == lag).mean, 4)
        if self.stacked or self.suspects:
            bad, count = self.suspects, len(self.sections)
            found["suspect sections"] = f"{_names(bad)} ({len(bad)} of {count})" if bad else f"none of {count}"
        if self.steps:
            found["steps"] = _names(f"between {a} and {b}" for a, b in self.steps)
        if self.twins:
            found["more alike than others"] = _names(f"{a} and {b}" for a, b in self.twins)
        if lost := sum(1 for row in self.rows if row.match.get("note")):
            found["not registered"] = f"{lost} of {len(self.rows)} pairs of sections, correlated as they are stored"
        return found

    def text(self) -> str:
        """Return the table as comma-separated values."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._cells(row) for row in self.rows)
        return file.getvalue()

    def _cells(self, row: Row) -> list[str]:
        summary, section = row.summary, row.section
        unit = self.layout.units[self.layout.axes.index("z")] if section is not None else None
        share = 100 * summary.valid / max(1, summary.pixels)
        measured = list(row.match.get("offset", ()))
        return [
            _whole(section),
            "" if section is None else f"{self.position(section):.9g}",
            unit or "",
            _whole(row.lag or None),
            _whole(row.time),
            _whole(row.channel),
            str(summary.pixels),
            f"{share:.3f}",
            _number(summary.mean),
            _number(summary.std),
            *(_number(summary.quantile(q)) for q in QUANTILES),
            f"{self.threshold:.9g}",
            _number(100 * summary.below(self.threshold), 3),
            "exact" if is_edge(self.threshold) else "interpolated",
            *(map(_number, measured) if measured else ("", "")),
            _number(row.match["quality"], 3) if measured else "",
            " ".join(map(str, row.suspects)),
            "; ".join(notes(row)),
        ]


def notes(row: Row) -> Iterator[str]:
    """Yield what is to be said of a row beside its numbers."""
    if row.stands_out:
        what = "a step between {} and {}" if row.stands_out == "low" else "{} and {} are more alike than others"
        yield what.format(*row.pair)
    if row.doubtful:
        yield f"no pair clears {_names(row.doubtful)}"
    if row.match.get("note"):
        yield f"not registered: {row.match['note']}"


def _whole(number: int | None) -> str:
    return "" if number is None else str(number)


def _number(value: float, digits: int = 6) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _names(names: Iterable[Any]) -> str:
    every = list(map(str, names))
    return ", ".join(every[:NAMED]) + (f" and {len(every) - NAMED} more" if len(every) > NAMED else "")


def table_of(said: Mapping[str, Any], layout: Layout, threshold: float | None = None) -> Table | None:
    """Return the table of a complete result, or None if that has a single batch item.

    Parameters
    ----------
    said : mapping
        What the output, or its plan with its proof, says: ``config``, ``registration`` and ``sections``.
    layout : Layout
        Of its finest level.
    threshold : float, optional
        By default that of its config.

    Raises
    ------
    InputError
        If what it says is not of that layout.
    """
    if not said.get("sections"):
        return None
    try:
        return _table(said, layout, threshold)
    except UNREADABLE as error:
        message = "what is said of each section cannot be understood: a result of this version of bigncc is accepted"
        raise InputError(message) from error


def _table(said: Mapping[str, Any], layout: Layout, threshold: float | None) -> Table:
    config = said["config"]
    lags = tuple((config.get("stack") or {}).get("lags") or ())
    chosen = config["reference"]["z"]
    first = chosen[0] if isinstance(chosen, (list, tuple)) else 0
    if threshold is None:
        threshold = (config.get("report") or {}).get("threshold", 0.5)
    rows = tuple(_rows(said, layout, lags, first))
    batch = layout.shape[: len(rows[0].place)]
    if not all(i < n for row in rows for i, n in zip(row.place, batch, strict=True)):
        raise IndexError(batch)
    return Table(_judged(rows), layout, first, bool(lags), threshold)


def _rows(said: Mapping[str, Any], layout: Layout, lags: tuple[int, ...], first: int) -> Iterator[Row]:
    axes = layout.axes
    matches = _matches(said["registration"].get("sections") or (), layout, lags)
    for place, summary in unpacked_items(said["sections"]).items():
        here = dict(zip(axes, place, strict=False))
        number = here.pop("c", None) if len(lags) > 1 else 0
        lag = lags[number or 0] if lags else 0
        z = here.get("z")
        if lags and z is not None and z + lag >= layout.shape[axes.index("z")] + min(lags):
            continue  # there is no such section
        match = matches.get((lag, z), {})
        section = None if z is None else first + z
        yield Row(place, section, lag, here.get("t"), here.get("c"), summary, match)


def _matches(found: Iterable[Mapping[str, Any]], layout: Layout, lags: tuple[int, ...]) -> dict[Any, Mapping[str, Any]]:
    """Return how sections were registered, by lag and section."""
    if not lags:
        return {}
    count = layout.shape[layout.axes.index("z")] + min(lags)
    pairs = ((lag, z) for lag in lags for z in range(count - lag))
    return dict(zip(pairs, found, strict=False))


def write(table: Table, path: Path) -> None:
    """Write a table.

    Raises
    ------
    RefusedError
        If `path` is a file that no bigncc made.
    """
    head = f"{','.join(COLUMNS)}\n".encode()
    if path.exists() and not (path.is_file() and path.read_bytes()[: len(head)] == head):
        message = f"{path} exists and is no table of bigncc: a path without it is accepted"
        raise RefusedError(message)
    store.put(path, table.text().encode())


# -- which sections are bad


def _judged(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return rows that say which of their sections are bad, channel by channel and time by time."""
    judged = {row.place: row for row in rows}
    series = itertools.groupby(sorted(rows, key=_series), _series)
    for _, each in ((key, list(group)) for key, group in series):
        if any(row.section is None for row in each):
            continue
        scores: dict[Pair, float] = {}
        for lag in {row.lag for row in each}:
            alike = [row for row in each if row.lag == lag]
            scores |= dict(zip((row.pair for row in alike), outlying([row.summary for row in alike]), strict=True))
        bad, doubtful = culprits(scores)
        for row in each:
            named, unclear = (tuple(z for z in sorted(set(row.pair)) if z in those) for those in (bad, doubtful))
            odd: Literal["", "low", "high"] = ""
            if scores[row.pair] > CLEAR and not named:
                means = [other.summary.mean for other in each if other.lag == row.lag]
                odd = "high" if row.summary.mean > np.nanmedian(means) else "low"
            judged[row.place] = replace(row, suspects=named, doubtful=unclear, stands_out=odd)
    return tuple(judged.values())


def _series(row: Row) -> tuple[int, int]:
    return row.time or 0, row.channel or 0


def outlying(summaries: list[Summary]) -> list[float]:
    """Return by how many robust standard deviations each of some neighbours is away from the others.

    Its mean counts either way, and its share of pixels with a value where that is smaller; one without any is
    infinitely far.
    """
    means = [abs(score) for score in _below([summary.mean for summary in summaries])]
    shares = _below([summary.valid / max(1, summary.pixels) for summary in summaries])
    return [max(both) for both in zip(means, shares, strict=True)]


def _below(values: list[float]) -> Iterator[float]:
    """Yield by how many robust standard deviations each value is below its neighbours."""
    every = np.array(values)
    for i, value in enumerate(values):
        start = max(0, min(i - REACH, len(values) - 2 * REACH - 1))
        near = every[start : start + 2 * REACH + 1]
        near = near[np.isfinite(near)]
        if near.size < LEAST:
            yield 0.0
            continue
        middle = float(np.median(near))
        # of a normal distribution, the standard deviation
        spread = 1.4826 * float(np.median(np.abs(near - middle)))
        yield math.inf if math.isnan(value) else (middle - value) / max(spread, SLIGHT / CLEAR)


def culprits(scores: Mapping[Pair, float]) -> tuple[set[int], set[int]]:
    """Return the sections that explain which pairs stand out, and those that nothing clears or needs.

    A bad section spoils each of its pairs, so one good pair clears it. Of those that are left the fewest that explain
    all pairs are bad; others may be good ones between them, which these pairs cannot tell.
    """
    pairs_of: dict[int, list[Pair]] = {}
    for pair in scores:
        for z in set(pair):
            pairs_of.setdefault(z, []).append(pair)
    spoilt = {z for z, pairs in pairs_of.items() if all(scores[pair] > WEAK for pair in pairs)}
    clear = [pair for pair, score in scores.items() if score > CLEAR and spoilt & set(pair)]
    found = {z for group in _connected(clear, spoilt) for z in _fewest(group, clear, scores)}
    return found, {z for pair in clear for z in pair if z in spoilt} - found


def _connected(pairs: Iterable[Pair], among: set[int]) -> Iterator[set[int]]:
    """Yield the sections of each group that pairs connect."""
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touched]
        groups.append((set(pair) & among).union(*touched))
    yield from groups


def _fewest(group: set[int], pairs: Iterable[Pair], scores: Mapping[Pair, float]) -> set[int]:
    """Return the fewest sections that have a part in each of the pairs, of several ways that with the lowest pairs."""
    if len(group) > MOST:
        return group
    within = [pair for pair in pairs if group & set(pair)]

    def evidence(chosen: Iterable[int]) -> float:
        return sum(min(scores[pair], 1e6) for z in chosen for pair in within if z in pair)

    for size in range(1, len(group)):
        ways = [way for way in itertools.combinations(sorted(group), size) if all(set(way) & set(p) for p in within)]
        if ways:
            return set(max(ways, key=evidence))
    return group
