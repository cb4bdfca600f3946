"""The page of a result, and the index of several: HTML that needs nothing but itself and escapes every word."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bigncc import chart, raster
from bigncc.dossier import CROP, ROWS, Dossier
from bigncc.layout import COLOURS
from bigncc.summary import STATUS

if TYPE_CHECKING:
    from jinja2 import Environment

MARK = b'<meta name="generator" content="bigncc">'
"""What a page of ours has in its head."""

UNKNOWN = "\u2013"
"""Where there is no number."""

TIMES = " \u00d7 "

TITLE = 70
"""Letters of a title, at most, as HTML has them."""

UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m", "angstrom": "Å"}


@dataclass(frozen=True)
class Line:
    """A line of an index.

    Parameters
    ----------
    name : str
        Of the pair.
    href : str
        Its page, relative to the index; empty if there is none.
    state : str
        Complete, or not.
    facts : mapping or None
        Of a complete result.
    why : str
        Why there are no facts.
    """

    name: str
    href: str
    state: str
    facts: Mapping[str, Any] | None = None
    why: str = ""

    @property
    def shares(self) -> tuple[float, float, float]:
        """Which parts of the area agree, are below the threshold, and have no value."""
        assert self.facts is not None
        valid = self.facts["ncc"]["share_valid"]
        below = valid * (self.facts["share_below"] or 0.0)
        return valid - below, below, 1 - valid

    @property
    def agrees(self) -> float:
        """The part that agrees, by which bars are sorted."""
        return self.shares[0]

    @property
    def bar(self) -> str:
        """The parts side by side."""
        parts = [(part, kind, "") for part, kind in zip(self.shares, ("agrees", "below", "none"), strict=True)]
        said = zip(self.shares, ("agree", "are below the threshold", "have no value"), strict=True)
        return chart.shares(parts, ", ".join(f"{share(part)} {words}" for part, words in said))


class Column(NamedTuple):
    """A column of the table of sections."""

    key: str
    name: str
    show: Callable[[Mapping[str, Any]], str]


def render(told: Dossier) -> bytes:
    """Return the page of a result."""
    facts, names = told.facts, [_last(address) for address in told.facts["images"].values()]
    rows = sorted(facts["sections"], key=_mean)[:ROWS] if len(facts["sections"]) > ROWS else facts["sections"]
    shown = {picture.name: picture for picture in told.overview}["confidence: NCC"]
    title = f"{names[0]} in itself" if facts["stack"] else f"{names[0]} and {names[1]}"
    return _page(
        "report.html.j2",
        title,
        f=facts,
        reference=names[0],
        moving=names[1],
        extent=_extent(facts["grid"]),
        overview=told.overview,
        shown=told.shown,
        factor=round(facts["grid"]["shape"][-1] / shown.width),
        gone=len(told.overview) < 3 or told.overview[0].name.startswith("confidence"),
        crops=told.crops,
        crop=CROP,
        charts=told.charts,
        ramp=[raster.hexadecimal(rgb) for rgb in raster.ramp(11)],
        status=[_status(name, n, facts["ncc"]["pixels"]) for name, n in facts["status"].items()],
        rows=rows,
        columns=[column for column in _columns(facts["threshold"]) if any(column.show(row) for row in rows)],
        made=[*_made(facts)],
        config=told.config,
    )


def index(lines: Sequence[Line], threshold: float | None) -> bytes:
    """Return the index of several results; `threshold` if it is the same for all."""
    done = sum(line.facts is not None for line in lines)
    return _page(
        "index.html.j2",
        f"{len(lines)} results",
        rows=lines,
        done=done,
        threshold=threshold,
        version=version("bigncc"),
    )


def _page(template: str, title: str, **told: Any) -> bytes:
    css, js = (Path(__file__).with_name("pages").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    # what is not in these files does not run and is not asked for, whatever a name or an attribute holds
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(js)}; "
        "base-uri 'none'; form-action 'none'"
    )
    while len(escape(title)) > TITLE:
        title = f"{title[:-2]}…"
    return _environment().get_template(template).render(title=title, policy=policy, css=css, js=js, **told).encode()


@lru_cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).with_name("pages")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = (share, whole, number, numbers, plain, sentence, unit)
    found.filters |= {each.__name__: each for each in named} | {"zip": lambda a, b: list(zip(a, b, strict=True))}
    return found


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- numbers as people read them


def share(value: float | None) -> str:
    """Return a share in per cent; little is not nothing, and nearly all is not all."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.0005 or 0.9995 < value < 1:
        return f"{'<' if value < 0.5 else '>'}\u202f{0.1 if value < 0.5 else 99.9:g}\u00a0%"
    return f"{100 * value:.1f}\u00a0%"


def whole(value: int) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f").replace("-", "\u2212")


def number(value: float | None, digits: int) -> str:
    """Return a number with so many digits after the point."""
    # + 0.0 makes a zero of a negative zero
    return UNKNOWN if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def numbers(values: Iterable[float], digits: int) -> str:
    """Return several numbers."""
    return ", ".join(number(value, digits) for value in values)


def plain(value: float) -> str:
    """Return a number with as many digits as it has, up to six."""
    return f"{value:.6g}".replace("-", "\u2212")


def sentence(words: str) -> str:
    """Return words that begin as a sentence does."""
    return words[:1].upper() + words[1:]


def unit(name: str) -> str:
    """Return the sign of a unit."""
    return UNITS.get(name, name)


def duration(seconds: float) -> str:
    """Return a time in words."""
    for length, name, part, short in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= length:
            return f"{seconds // length:.0f} {name} {seconds % length // part:.0f} {short}"
    return f"{seconds:.3g} s"


def size(count: int) -> str:
    """Return a number of bytes in words."""
    for power, name in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {name}"
    return f"{count} bytes"


def _last(address: str) -> str:
    return address.rstrip("/").rpartition("/")[2] or address


def _mean(row: Mapping[str, Any]) -> float:
    return math.inf if row["mean"] is None else row["mean"]


def _extent(grid: Mapping[str, Any]) -> str:
    """Return the other axes, and how large a pixel is."""
    others = zip(grid["axes"][:-2], grid["shape"][:-2], strict=True)
    words = {"z": "sections", "c": "channels", "t": "times"}
    said = [f"{n} {words[axis]}" for axis, n in others if n > 1]
    if grid["units"][-1]:
        said.append(f"pixel {plain(grid['scale'][-2])}{TIMES}{plain(grid['scale'][-1])} {unit(grid['units'][-1])}")
    return "; ".join([f"pixels, x{TIMES}y", *said])


def _status(name: str, pixels: int, total: int) -> dict[str, Any]:
    *rgb, opacity = COLOURS[STATUS.index(name)]
    colour = raster.hexadecimal(rgb) if opacity else "none"
    return {"name": name, "pixels": pixels, "share": pixels / total, "colour": colour, "valid": name == "valid"}


def _columns(threshold: float) -> list[Column]:
    """Return the columns of the table of sections; those that say nothing of any row are left out."""

    def of(key: str, digits: int | None = None) -> Callable[[Mapping[str, Any]], str]:
        def show(row: Mapping[str, Any]) -> str:
            value = row[key]
            return "" if value is None else str(value) if digits is None else number(value, digits)

        return show

    return [
        Column("section", "section", of("section")),
        Column("lag", "and z +", of("lag")),
        Column("time", "time", of("time")),
        Column("channel", "channel", of("channel")),
        Column("share_valid", "with a value", lambda row: share(row["share_valid"])),
        Column("mean", "mean", of("mean", 3)),
        Column("q05", "5 %", of("q05", 2)),
        Column("q50", "median", of("q50", 2)),
        Column("share_below", f"below {plain(threshold)}", lambda row: share(row["share_below"])),
        Column("offset", "offset y, x", lambda row: numbers(row["offset"], 2)),
        Column("quality", "quality", of("quality", 2)),
        Column("notes", "note", _note),
    ]


def _note(row: Mapping[str, Any]) -> str:
    bad = [f"suspect: {', '.join(map(str, row['suspects']))}"] if row["suspects"] else []
    return "; ".join([*bad, *row["notes"]])


def _made(facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield what is told of how a result came about, and what is known of whether it is right."""
    proof, cost = facts["proof"], facts["cost"]
    yield "result", facts["url"]
    for name, address in facts["images"].items():
        if name == "reference" or not facts["stack"]:
            yield name, address
    yield "plan", facts["plan_id"]
    yield "maps", ", ".join(facts["maps"])
    tiles = f"{whole(proof['tiles'])} {'tile' if proof['tiles'] == 1 else 'tiles'}"
    proven = f"complete: each stored object of {tiles} was read back when it was written, and its digest recorded; "
    yield "verification", f"{proven}bigncc verify tells whether it still is so. Digest of all: {proof['digest']}"
    yield "cost", _cost(cost, proof["tiles"])
    yield "versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    yield "kernel", str(facts["kernel"])


def _cost(cost: Mapping[str, Any], tiles: int) -> str:
    """Return what is recorded of the cost."""
    if not cost:
        return "not known: the journal is not beside the result"
    stored = f"{size(cost['bytes'])} stored"
    if "seconds" not in cost:
        return f"{stored}; times are not recorded"
    known = "" if cost["tiles_timed"] == tiles else f" {whole(cost['tiles_timed'])} of"
    times = f"{duration(cost['seconds'])} for{known} {whole(tiles)} {'tile' if tiles == 1 else 'tiles'}"
    if tiles == 1:
        return f"{times}; {stored}"
    each = f"median {duration(cost['median_seconds'])}, longest {duration(cost['longest_seconds'])}"
    return f"{times}, added up though some ran at once ({each}); {stored}"
