"""Charts of a page as SVG: shapes and classes, whose colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from bigncc.raster import hexadecimal, ramp
from bigncc.summary import BINS, Summary

if TYPE_CHECKING:
    from bigncc.registration import Registration
    from bigncc.sections import Table

WIDE, HIGH = 560, 260
"""Of a chart, in its own units."""

LONG = 1100
"""Width of one that has all the page."""

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38

TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def _x(value: float, low: float = -1.0, high: float = 1.0, wide: int = WIDE) -> float:
    return LEFT + (value - low) / (high - low) * (wide - LEFT - RIGHT)


def _y(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return HIGH - BOTTOM - (value - low) / (high - low) * (HIGH - TOP - BOTTOM)


def _svg(words: str, parts: Iterable[str], size: tuple[float, float] = (WIDE, HIGH)) -> str:
    """Return a drawing that says in words what it shows."""
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" aria-label="{escape(words)}">{inside}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, said: str, anchor: str = "middle", kind: str = "tick") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(said)}</text>'


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{kind}"/>'


def _said(value: float) -> str:
    return f"{value:g}".replace("-", "\u2212")


def _frame(
    across: str, along: Iterable[tuple[float, str]], up: Iterable[tuple[float, str]], wide: int = WIDE
) -> list[str]:
    """Return axes: ticks at places of the drawing, and what is along."""
    parts = [_line(LEFT, HIGH - BOTTOM, wide - RIGHT, HIGH - BOTTOM, "axis")]
    parts += [_text(x, HIGH - BOTTOM + 16, said) for x, said in along]
    for y, said in up:
        parts += [_line(LEFT, y, wide - RIGHT, y, "rule"), _text(LEFT - 7, y + 4, said, "end")]
    return [*parts, _text((LEFT + wide - RIGHT) / 2, HIGH - 4, across, kind="label")]


def _rounded(most: float) -> float:
    """Return a round number that is not below some other."""
    power = 10 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= most * (1 - 1e-9))


def histogram(summary: Summary, threshold: float) -> str:
    """Return the shares of the valid pixels in bins, each in the colour that the map has there."""
    shares = [100 * n / max(1, summary.valid) for n in summary.histogram]
    top, colours = _rounded(max(*shares, 0.1)), ramp(BINS)
    up = [(_y(part * top, high=top), f"{part * top:g} %") for part in (0, 0.5, 1)]
    parts = _frame("normalised cross-correlation", [(_x(t), _said(t)) for t in TICKS], up[1:])
    wide = (WIDE - LEFT - RIGHT) / BINS
    for i, share in enumerate(shares):
        if share:
            y = _y(share, high=top)
            parts.append(
                f'<rect x="{LEFT + i * wide:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{HIGH - BOTTOM - y:.2f}" '
                f'fill="{hexadecimal(colours[i])}" class="bar"/>'
            )
    parts += [_line(_x(threshold), TOP, _x(threshold), HIGH - BOTTOM, "threshold")]
    peak = shares.index(max(shares))
    words = f"Histogram of {summary.valid} coefficients in {BINS} bins; most, {max(shares):.1f} %, are between "
    return _svg(f"{words}{-1 + peak * 2 / BINS:.2f} and {-1 + (peak + 1) * 2 / BINS:.2f}.", parts)


def cumulative(summary: Summary, threshold: float) -> str:
    """Return the share of the valid pixels below each value."""
    below, points = 0, [(_x(-1), _y(0))]
    for i, n in enumerate(summary.histogram):
        below += n
        points.append((_x(-1 + (i + 1) * 2 / BINS), _y(below / max(1, summary.valid))))
    up = [(_y(part), f"{100 * part:g} %") for part in (0.25, 0.5, 0.75, 1)]
    parts = _frame("share of the valid area below", [(_x(t), _said(t)) for t in TICKS], up)
    parts += [_line(_x(threshold), TOP, _x(threshold), HIGH - BOTTOM, "threshold"), _path(points, "curve")]
    share = summary.below(threshold)
    if math.isnan(share):
        return _svg("There is no coefficient.", parts)
    parts.append(f'<circle cx="{_x(threshold):.1f}" cy="{_y(share):.1f}" r="4" class="dot"/>')
    where = ("end", -9) if threshold > -0.4 else ("start", 9)
    parts.append(_text(_x(threshold) + where[1], _y(share) - 8, f"{100 * share:.1f} %", where[0], "mark"))
    return _svg(f"Cumulative share: {100 * share:.1f} % of the valid area is below {threshold:g}.", parts)


def sections(table: Table) -> str:
    """Return the mean of each section, a line for each series, the bad ones shaded."""
    numbers = table.sections
    first, last = numbers[0] - 0.5, numbers[-1] + 0.5
    means = [row.summary.mean for row in table.rows if row.summary.valid]
    low = min(0.0, math.floor(4 * min(means, default=0.0)) / 4)
    one = max((LONG - LEFT - RIGHT) / len(numbers), 2.0)
    step = max(1, int(_rounded(len(numbers) / 16)))
    along = [(_x(z, first, last, LONG), str(z)) for z in numbers if z % step == 0]
    ticks = [t for t in (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1) if t >= low]
    parts = [
        f'<rect x="{_x(z, first, last, LONG) - one / 2:.1f}" y="{TOP}" width="{one:.1f}" '
        f'height="{HIGH - TOP - BOTTOM}" class="suspect"/>'
        for z in table.suspects
    ]
    parts += _frame("section z", along, [(_y(t, low, 1), _said(t)) for t in ticks], LONG)
    series: dict[tuple[int, int, int], list[tuple[float, float]]] = {}
    for row in table.rows:
        if row.section is not None and row.summary.valid:
            at = _x(row.section, first, last, LONG), _y(row.summary.mean, low, 1)
            series.setdefault((row.time or 0, row.channel or 0, row.lag), []).append(at)
    for i, points in enumerate(series.values()):
        parts.append(_path(points, f"curve series{i % 4}"))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" class="dot series{i % 4}"/>' for x, y in points[:400]]
    bad = ", ".join(map(str, table.suspects)) or "none"
    return _svg(f"Mean correlation of each of {len(numbers)} sections; suspect sections: {bad}.", parts, (LONG, HIGH))


def residuals(found: Registration) -> str:
    """Return the sites on the reference, with residuals as arrows as long as can be seen."""
    height, width = found.shape[-2:]
    unit = 520 / max(height, width)
    tall, wide = height * unit, width * unit
    off = [math.hypot(*r[-2:]) for r in found.sites.residuals[found.sites.agree].tolist()]
    grow = 40 / max(*off, 1e-6) if off else 0.0
    parts = [f'<rect x="6" y="6" width="{wide:.1f}" height="{tall:.1f}" class="outline"/>']
    every = zip(
        *(each.tolist() for each in (found.sites.positions, found.sites.residuals, found.sites.agree)), strict=True
    )
    for position, residual, agrees in every:
        y, x = (6 + (value + 0.5) * unit for value in position[-2:])
        if not agrees:
            parts += [_line(x - 4, y - 4, x + 4, y + 4, "apart"), _line(x - 4, y + 4, x + 4, y - 4, "apart")]
            continue
        parts.append(_line(x, y, x + residual[-1] * grow, y + residual[-2] * grow, "arrow"))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot"/>')
    said = f"{found.votes}; the longest residual is {max(off, default=0.0):.3f} pixels, drawn as long as 40 units."
    return _svg(f"Sites on the reference: {said}", parts, (wide + 12, tall + 12))


def shares(parts: Sequence[tuple[float, str, str]], words: str) -> str:
    """Return a bar of shares that are one together: each with a class and a fill."""
    x, found = 0.0, []
    for share, kind, fill in parts:
        paint = f' fill="{fill}"' if fill else ""
        found.append(f'<rect x="{x:.3f}" y="0" width="{100 * share:.3f}" height="6" class="{kind}"{paint}/>')
        x += 100 * share
    head = f'<svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{escape(words)}">'
    return f"{head}{''.join(found)}</svg>"
