"""What a report leaves on disk: picture, page, tables and the index of several results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bigncc import display, export, page, proof, scene, store
from bigncc.dossier import CROP, dossier, facts_of, worst
from bigncc.errors import BignccError, IncompleteError, InputError
from bigncc.finished import Finished, beside, finished
from bigncc.page import Line
from bigncc.picture import drawn, panel_of, tabulated
from bigncc.regions import Region

INDEX = "index.html"

NAMED = 3
"""Results that are named where some are not complete."""


@dataclass(frozen=True)
class Wish:
    """What a report is to be.

    Parameters
    ----------
    threshold : float or None
        Below which pixels agree badly; None: as in the config of the run.
    regions : int or None
        How many of the worst regions, at most; None: as in the config.
    csv, geojson : bool
        Whether the regions are written as such a file, too.
    link : str or None
        Address of the hosted folder that the result lies in: then each region has a link to a viewer.
    """

    threshold: float | None = None
    regions: int | None = None
    csv: bool = False
    geojson: bool = False
    link: str | None = None

    def of(self, found: Finished) -> tuple[float, int]:
        """Return threshold and number of regions for a result."""
        asked = found.config.report
        threshold = asked.threshold if self.threshold is None else self.threshold
        return threshold, asked.regions if self.regions is None else self.regions

    def worst(self, found: Finished) -> list[Region]:
        """Return the worst regions of a result, with links if they are asked for."""
        regions = worst(found, *self.of(found))
        if self.link is None:
            return regions
        shown, _ = display.hosted(found.output.url)
        return [replace(region, link=scene.link(shown, self.link, *_view(found, region))) for region in regions]


def _view(found: Finished, region: Region) -> tuple[list[float], list[float]]:
    """Return the middle of a region and how much around it is seen, in pixels of the finest level that is stored."""
    batch, side = len(region.place), 2**found.finest
    middle = [((a + b) / 2) / side - 0.5 for a, b in region.box]
    extent = [max(1.5 * (b - a), CROP) / side for a, b in region.box]
    return [*region.place, *middle], [1.0] * batch + extent


@dataclass(frozen=True)
class Published:
    """The files of a report, in the order in which they were written, and its facts."""

    paths: tuple[Path, ...]
    facts: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page among them."""
        return next(path for path in self.paths if path.suffix == ".html")


def facts(url: str, wish: Wish | None = None) -> dict[str, Any]:
    """Return what is told of a complete result, as JSON has it; nothing is written.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    wish = wish or Wish()
    found = finished(url, wish.threshold)
    return facts_of(found, wish.of(found)[0], wish.worst(found))


def publish(url: str, wish: Wish | None = None) -> Published:
    """Write picture, page and tables of a complete result beside it.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    RefusedError
        If there is a file by one of the names that no bigncc made.
    """
    wish = wish or Wish()
    found = finished(url, wish.threshold)
    shown = panel_of(found)
    told = dossier(found, shown, wish.of(found)[0], wish.worst(found))
    listed, plan_id = told.facts["regions"], told.facts["plan_id"]
    files = {beside(url, ".html"): (page.render(told), page.MARK, "page")}
    if wish.csv:
        files[beside(url, ".regions.csv")] = export.table(listed), export.HEAD, "table of regions"
    if wish.geojson:
        files[beside(url, ".geojson")] = export.geojson(listed, plan_id), export.MARK, "GeoJSON"
    for path, (_, mark, what) in files.items():
        export.check(path, mark, what)  # before any of them is written
    paths = [drawn(found, shown), *(path for path in [tabulated(found)] if path is not None)]
    for path, (data, mark, what) in files.items():
        export.write(path, data, mark, what)
    return Published((*paths, *files), told.facts)


def attempted(url: str, wish: Wish) -> Published | BignccError:
    """Return what was published of a result, or why nothing was: one that is not complete keeps no other waiting."""
    try:
        return publish(url, wish)
    except (IncompleteError, InputError) as error:
        return error


def publish_all(urls: Sequence[str], wish: Wish, index: Path | None = None) -> Iterator[Path]:
    """Write reports of several results, and an index in which those that are not complete are listed, too.

    Parameters
    ----------
    urls : sequence of str
        The results.
    wish : Wish
        What each report is to be.
    index : path, optional
        By default ``index.html`` in the folder that the results share, or here.

    Yields
    ------
    Path
        Each file when it is written.

    Raises
    ------
    IncompleteError
        In the end, naming what is not complete.
    RefusedError
        If there is a file by one of the names that no bigncc made.
    """
    index, lines = index or place_of(urls), []
    export.check(index, page.MARK, "page")  # before the work, which may take long
    for url in urls:
        made = attempted(url, wish)
        lines.append(line(url, made, index))
        if isinstance(made, Published):
            yield from made.paths
    export.write(index, page.index(lines, wish.threshold), page.MARK, "page")
    yield index
    if lost := [each.name for each in lines if each.facts is None]:
        named = ", ".join(lost[:NAMED]) + (f" and {len(lost) - NAMED} more" if len(lost) > NAMED else "")
        message = f"{len(lost)} of {len(lines)} results are not complete ({named}): {index} says why"
        raise IncompleteError(message)


def line(url: str, made: Published | BignccError, index: Path) -> Line:
    """Return the line of a result in an index."""
    place = store.absolute(url)
    name = os.path.relpath(place, index.absolute().parent) if store.is_local(place) else place
    if isinstance(made, BignccError):
        return Line(name, "", _state(url), why=str(made))
    return Line(name, quote(os.path.relpath(made.page, index.absolute().parent)), "complete", made.facts)


def _state(url: str) -> str:
    """Return how far a result is that cannot be reported."""
    try:
        found = proof.status(url)
    except BignccError:
        return "missing"
    tiles = found["tiles"]
    return "not readable" if found["state"] == "complete" else f"{tiles['done']} of {tiles['total']} tiles"


def place_of(urls: Sequence[str]) -> Path:
    """Return where the index of some results goes."""
    places = [store.absolute(url) for url in urls]
    if not all(map(store.is_local, places)):
        return Path.cwd() / INDEX
    return Path(os.path.commonpath([str(Path(place).parent) for place in places])) / INDEX
