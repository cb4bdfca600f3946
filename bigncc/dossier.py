"""All that is told of a complete result: facts as JSON has them, and the pictures and charts of its page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import chart, journal, raster, regions
from bigncc.config import as_yaml, without_secrets
from bigncc.decision import estimate_of
from bigncc.discoveries import discoveries_of
from bigncc.errors import InputError
from bigncc.finished import Finished, cells
from bigncc.picture import level_of
from bigncc.regions import Region
from bigncc.report import Panel
from bigncc.sections import notes
from bigncc.shift import lengths_of
from bigncc.summary import STATUS, Summary, from_dict, is_edge, unpacked_items
from bigncc.tiles import Roi, Shape

MOST = 1024
"""Longest side of a picture of the page, in its pixels."""

CROP = 160
"""Side of the pictures of a region, in pixels of the image at full resolution."""

LIMITS = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Below which the share of the valid area is told, beside the threshold."""

ROWS = 500
"""Rows of a page's table of sections; the CSV has all."""


@dataclass(frozen=True)
class Box:
    """A region as a picture shows it, in its pixels."""

    number: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """A picture of a page: what it is, its address, which holds its bytes, its size and the regions on it."""

    name: str
    uri: str
    height: int
    width: int
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Dossier:
    """What a page tells.

    Parameters
    ----------
    facts : dict
        What JSON can hold.
    overview : tuple of Picture
        Both images, the confidence map and, where there is something without a value, the status.
    shown : str
        Which of several planes that is.
    crops : tuple of tuple of Picture
        Of each of the regions in the facts.
    charts : dict of str
        Drawings by their names.
    config : str
        As YAML.
    """

    facts: dict[str, Any]
    overview: tuple[Picture, ...]
    shown: str
    crops: tuple[tuple[Picture, ...], ...]
    charts: dict[str, str]
    config: str


def worst(found: Finished, threshold: float, count: int) -> list[Region]:
    """Return the worst regions of a result, in pixels of the result at full resolution."""
    axes = len(found.shape) - found.ndim
    items = unpacked_items(found.output.attributes.get("sections") or [])
    known = items or {(0,) * axes: from_dict(found.output.attributes["summary"])}
    if found.table is not None:  # beyond the last sections of a stack there are none
        known = {row.place: row.summary for row in found.table.rows}
    extent = found.shape[axes:]
    cell = regions.cell_of(found.config.window.window().shape, extent)

    def look(place: Shape) -> list[Region]:
        means, side = cells(found, place, cell)
        return regions.found(means, side, extent, threshold, count, place)

    return regions.worst_of(known.items(), look, threshold, count)


def facts_of(found: Finished, threshold: float, worst_regions: Sequence[Region]) -> dict[str, Any]:
    """Return what is told of a result, as JSON has it: NaN is null."""
    said, layout = found.output.attributes, found.output.layout
    summary, (scale, translation) = from_dict(said["summary"]), found.grid
    facts = {
        "url": found.output.url,
        "state": said["state"],
        "plan_id": said["plan_id"],
        "headline": said["headline"],
        "notes": [f"{n} chunks of {name} are not stored" for name, n in said["absent"].items() if n],
        "images": {name: without_secrets(said["config"][name]["url"]) for name in ("reference", "moving")},
        "stack": found.table is not None and found.table.stacked,
        "grid": {
            "axes": list(layout.axes), "shape": list(found.shape), "origin": list(found.origin),
            "scale": list(scale), "translation": list(translation), "units": list(layout.units),
        },
        "ncc": _statistics(summary),
        "threshold": threshold,
        "share_below": _number(summary.below(threshold)),
        "share_below_is_exact": is_edge(threshold),
        "below": [[limit, _number(summary.below(limit))] for limit in sorted({*LIMITS, threshold})],
        "status": {name: n for name, n in zip(STATUS, summary.counts, strict=True) if n},
        "maps": list(found.output.names) + list(found.output.components),
        "further": _further(found),
        "regions": [_region(found, each, i + 1, threshold) for i, each in enumerate(worst_regions)],
        "registration": _registration(said["registration"]),
        "sections": _sections(found, threshold),
        "suspect_sections": [] if found.table is None else list(found.table.suspects),
        "proof": {"tiles": said["tiles"], "digest": said["digest"]},
        "cost": _cost(found),
        "versions": said["versions"],
        "kernel": said["kernel"],
    }  # fmt: skip
    plain: dict[str, Any] = journal.plain(facts)
    return plain


def dossier(found: Finished, shown: Panel, threshold: float, listed: Sequence[Region]) -> Dossier:
    """Return what the page of a result tells.

    Parameters
    ----------
    found : Finished
        The result.
    shown : Panel
        It at the size of a picture.
    threshold : float
        Below which pixels agree badly.
    listed : sequence of Region
        The worst regions.
    """
    place = found.table.worst.place if found.table is not None and found.table.stacked else None
    plane = found.plane(found.shape, place)
    charts = {
        "histogram": chart.histogram(shown.summary, threshold),
        "cumulative": chart.cumulative(shown.summary, threshold),
    }
    if found.table is not None and len(found.table.sections) > 1:
        charts["sections"] = chart.sections(found.table)
    if (estimate := estimate_of(found.output.attributes["registration"])) is not None:
        charts["residuals"] = chart.residuals(estimate)
    return Dossier(
        facts_of(found, threshold, listed),
        tuple(_overview(found, shown, plane, listed)),
        _plane_in_words(found, plane),
        tuple(tuple(_crops(found, region)) for region in listed),
        charts,
        as_yaml(found.output.attributes["config"]),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _statistics(summary: Summary) -> dict[str, Any]:
    names = {"mean": summary.mean, "std": summary.std, "low": summary.low, "high": summary.high}
    quantiles = {f"q{round(100 * q):02d}": summary.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    numbers = {name: _number(value) for name, value in (names | quantiles).items()}
    share = summary.valid / max(1, summary.pixels)
    return {"pixels": summary.pixels, "valid": summary.valid, "share_valid": share, **numbers}


def _further(found: Finished) -> dict[str, str]:
    said = found.output.attributes
    words = lengths_of(said["shift"]).facts() if "shift" in said else {}
    words |= discoveries_of(said["discoveries"]).facts() if "discoveries" in said else {}
    return words | (found.table.facts() if found.table is not None else {})


def _region(found: Finished, region: Region, number: int, threshold: float) -> dict[str, Any]:
    """Return what is said of a region: pixels of the reference, whose sections keep their numbers in the file."""
    layout, (scale, translation) = found.output.layout, found.grid
    batch = len(layout.axes) - found.ndim
    spans = {axis: (i, i + 1) for axis, i in zip(layout.axes, region.place, strict=False) if axis == "z"}
    spans |= dict(zip(layout.axes[batch:], region.box, strict=True))
    chosen = found.config.reference.z
    first = {"z": chosen[0] if isinstance(chosen, tuple) else 0}
    places = {axis: layout.axes.index(axis) for axis in spans}
    starts = {axis: found.origin[i] + first.get(axis, 0) for axis, i in places.items()}
    row = next((row for row in found.table.rows if row.place == region.place), None) if found.table else None
    return {
        "region": number,
        "time": row.time if row else None,
        "channel": row.channel if row else None,
        "lag": row.lag or None if row else None,
        "box": {axis: [a + starts[axis], b + starts[axis]] for axis, (a, b) in spans.items()},
        "physical": {
            axis: {
                "from": translation[i] + scale[i] * spans[axis][0],
                "to": translation[i] + scale[i] * (spans[axis][1] - 1),
                "unit": layout.units[i],
            }
            for axis, i in places.items()
        },
        "pixels": region.pixels,
        "mean": region.mean,
        "lowest": region.lowest,
        "threshold": threshold,
        "deficit": region.deficit,
        "link": region.link,
    }


def _registration(said: dict[str, Any]) -> dict[str, Any]:
    """Return how the images were registered: in words, and each site."""
    words = {}
    sites: list[dict[str, Any]] = []
    if (estimate := estimate_of(said)) is not None:
        words = {"model": estimate.model, **estimate.facts()}
        every = zip(*(values.tolist() for values in vars(estimate.sites).values()), strict=True)
        sites = [dict(zip(vars(estimate.sites), each, strict=True)) for each in every]
    return {"words": words, "unknown": said["unknown"], "order": said["order"], "sites": sites}


def _sections(found: Finished, threshold: float) -> list[dict[str, Any]]:
    if found.table is None:
        return []
    return [
        {
            "section": row.section,
            "position": None if row.section is None else found.table.position(row.section),
            "lag": row.lag or None,
            "time": row.time,
            "channel": row.channel,
            **_statistics(row.summary),
            "share_below": _number(row.summary.below(threshold)),
            "offset": list(row.match.get("offset", ())),
            "quality": row.match.get("quality"),
            "suspects": list(row.suspects),
            "notes": list(notes(row)),
        }
        for row in found.table.rows
    ]


def _cost(found: Finished) -> dict[str, Any]:
    """Return what the journal knows of it: nothing if it is not there."""
    each = journal.costs(found.output.url, found.output.attributes["plan_id"])
    if not each:
        return {}
    seconds = [took for _, took in each.values() if took is not None]
    known = {"tiles_timed": len(seconds), "seconds": sum(seconds)} if seconds else {}
    longest = {"median_seconds": statistics.median(seconds), "longest_seconds": max(seconds)} if seconds else {}
    return {"bytes": sum(size for size, _ in each.values()), **known, **longest}


def _overview(found: Finished, shown: Panel, plane: Roi, listed: Sequence[Region]) -> Iterator[Picture]:
    """Yield the pictures of a plane."""
    factor = max(1, -(-max(shown.ncc.shape) // MOST))
    boxes = tuple(_boxes(plane, listed, shown.factor * factor))
    for name, image in zip(shown.names, (shown.reference, shown.moving), strict=True):
        if image is not None:
            yield _picture(name, _reduced(image, factor), raster.grey)
    yield _picture("confidence: NCC", _reduced(shown.ncc, factor), raster.diverging, boxes)
    if shown.summary.valid < shown.summary.pixels:
        level = level_of(found.output)
        array = found.output.level(level)["status"]
        step = (shown.factor * factor) >> level
        codes = found.part(array, found.plane(array.shape, tuple(s.start for s in plane[:-2])))
        there = np.asarray(codes[..., ::step, ::step].compute())
        yield _picture("no value, by reason", there.reshape(there.shape[-2:]), raster.statuses)


def _picture(
    name: str, image: NDArray[Any], painted: Callable[[NDArray[Any]], str], boxes: tuple[Box, ...] = ()
) -> Picture:
    height, width = image.shape
    return Picture(name, painted(image), height, width, boxes)


def _reduced(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the means of what is finite in cells of a small image."""
    if factor == 1:
        return image
    height, width = (-(-n // factor) for n in image.shape)
    whole = np.full((height * factor, width * factor), np.nan)
    whole[: image.shape[0], : image.shape[1]] = image
    there = np.isfinite(whole).reshape(height, factor, width, factor).sum(axis=(1, 3))
    total = np.nan_to_num(whole, posinf=0, neginf=0).reshape(height, factor, width, factor).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        mean: NDArray[Any] = total / there
    return mean


def _boxes(plane: Roi, listed: Sequence[Region], factor: int) -> Iterator[Box]:
    """Yield the regions that a plane shows, in pixels of `factor` pixels."""
    for number, region in enumerate(listed, 1):
        spans = (*((i, i + 1) for i in region.place), *region.box)
        if all(a <= s.start < b for s, (a, b) in zip(plane[:-2], spans, strict=False)):
            (top, bottom), (left, right) = spans[-2:]
            yield Box(number, left / factor, top / factor, (right - left) / factor, (bottom - top) / factor)


def _plane_in_words(found: Finished, plane: Roi) -> str:
    """Say which of several planes is shown."""
    axes = {"t": "time", "c": "channel", "z": "section z"}
    chosen = found.config.reference.z
    first = chosen[0] if isinstance(chosen, tuple) else 0
    several = zip(found.output.layout.axes[:-2], found.shape[:-2], plane[:-2], strict=True)
    words = [f"{axes[axis]} {s.start + (first if axis == 'z' else 0)}" for axis, n, s in several if n > 1]
    if found.table is not None and found.table.stacked:
        return "the two sections that agree least"
    return ", ".join(words)


def _crops(found: Finished, region: Region) -> Iterator[Picture]:
    """Yield both images and the map around a region, or around what is worst of it, at full resolution."""
    middle = [(a + b) // 2 if b - a <= CROP else f for (a, b), f in zip(region.box, region.focus, strict=True)][-2:]
    extent = found.shape[-2:]
    starts = [max(0, min(m - CROP // 2, n - CROP)) for m, n in zip(middle, extent, strict=True)]
    part = (
        *(slice(i, i + 1) for i in (*region.place, *region.focus[:-2])),
        *(slice(a, min(a + CROP, n)) for a, n in zip(starts, extent, strict=True)),
    )
    (top, bottom), (left, right) = region.box[-2:]
    box = Box(0, left - starts[1], top - starts[0], right - left, bottom - top)
    try:
        images = found.images(part)
        pixels = () if images is None else tuple(np.asarray(image.compute()) for image in images)
    except InputError:
        pixels = ()
    for name, image in zip(("reference", "moving, registered"), pixels, strict=False):
        yield replace(_picture(name, _flat(image), raster.grey), boxes=(box,))
    yield replace(_picture("NCC", _finest(found, part), raster.diverging), boxes=(box,))


def _finest(found: Finished, part: Roi) -> NDArray[Any]:
    """Return the coefficients of a part of the result, each as often as it covers pixels."""
    level, batch = found.finest, len(found.shape) - found.ndim
    side, maps = 2**level, found.output.level(level)
    outer = tuple(s if i < batch else slice(s.start // side, -(-s.stop // side)) for i, s in enumerate(part))
    ncc, status = (_flat(np.asarray(found.part(maps[name], outer).compute())) for name in ("ncc", "status"))
    there = np.where(status == 1, ncc, np.nan).repeat(side, axis=0).repeat(side, axis=1)
    (top, left), (height, width) = ((s.start % side for s in part[-2:]), (s.stop - s.start for s in part[-2:]))
    return there[top : top + height, left : left + width]


def _flat(image: NDArray[Any]) -> NDArray[Any]:
    """Return the plane of an array whose other axes have one place."""
    return image.reshape(image.shape[-2:]).astype(np.float64)
