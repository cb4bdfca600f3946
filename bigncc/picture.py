"""A finished result at the size of a picture, with both images beside it."""

from pathlib import Path
from typing import Any

import numpy as np

from bigncc import proof, sections
from bigncc import report as drawing
from bigncc.discoveries import discoveries_of
from bigncc.errors import InputError
from bigncc.finished import Finished, beside, finished, mean
from bigncc.maps import of_pixels
from bigncc.nodes import first_node
from bigncc.output import Output
from bigncc.pair import where_valid
from bigncc.report import Panel, Vectors
from bigncc.shift import lengths_of
from bigncc.summary import from_dict

ARROWS = 30
"""Vectors along each side of a picture, at most."""

PICTURE = 1000
"""Longest side of a report's picture, in pixels, at least; twice as many are too many."""


def report(url: str, threshold: float | None = None) -> Path:
    """Draw the result at `url` and return the picture's path; `threshold` as for `tabulate`."""
    found = finished(url, threshold)
    return drawn(found, panel_of(found))


def drawn(found: Finished, shown: Panel) -> Path:
    """Draw a result as it is shown; return the picture's path."""
    picture = beside(found.output.url, ".png")
    drawing.draw([shown], picture)
    return picture


def tabulate(url: str, threshold: float | None = None) -> Path | None:
    """Write the table of the sections and channels of the result at `url` beside its picture; None if it has one only.

    `threshold` is that of its config by default.
    """
    return tabulated(finished(url, threshold))


def tabulated(found: Finished) -> Path | None:
    """Write the table of a result that has one."""
    if found.table is None:
        return None
    path = beside(found.output.url, ".csv")
    sections.write(found.table, path)
    return path


def panel(url: str, threshold: float | None = None) -> Panel:
    """Return a complete result at the size of a picture, by streamed block means.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    return panel_of(finished(url, threshold))


def panel_of(found: Finished) -> Panel:
    """Return a result at the size of a picture."""
    output, table = found.output, found.table
    # of one stack, the two sections that agree least
    place = table.worst.place if table is not None and table.stacked else None
    level = level_of(output)
    maps = output.level(level)
    factor = max(1, max(maps["ncc"].shape[-2:]) // PICTURE)
    seen = {name: found.part(array, found.plane(array.shape, place)) for name, array in maps.items()}
    further = {name: mean(seen.pop(name), factor) for name in of_pixels(maps)}
    try:
        reference, moving = found.small_images(found.plane(found.shape, place), factor << level) or (None, None)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    title = "; ".join((output.attributes["headline"], *proof.absent_notes(output.attributes)))
    return Panel(
        title, reference, moving, mean(where_valid(**seen), factor), summary, factor << level, table,
        further, _vectors(found, factor << level, place),
        discoveries_of(output.attributes["discoveries"]) if "discoveries" in output.attributes else None,
    )  # fmt: skip


def _vectors(found: Finished, factor: int, place: Any) -> Vectors | None:
    """Return the shift map of the plane that is shown, thinned, and where it is in the picture."""
    output, config = found.output, found.config
    if not output.components:
        return None
    *_, y, x, _, _, uncertainty = (
        found.part(array := output.maps[name], found.plane(array.shape, place)) for name in output.components
    )
    sure, every = np.isfinite(uncertainty), max(1, -(-max(y.shape[-2:]) // ARROWS))
    dy, dx = (mean(where_valid(each, sure), every) for each in (y, x))
    steps, _ = config.shift.search(config.window.window())
    places = []
    for count, first, step in zip(y.shape[-2:], first_node(steps)[-2:], steps[-2:], strict=True):
        ends = np.minimum(np.arange(every, count + every, every), count)
        middle = first + step * (np.arange(0, count, every) + ends - 1) / 2
        places.append((middle + 0.5) / factor - 0.5)
    at_y, at_x = places
    return Vectors(at_y, at_x, dy, dx, lengths_of(output.attributes["shift"]))


def level_of(output: Output) -> int:
    """Return the coarsest stored level that is at least as large as the picture, or else the finest one."""
    large = [k for k in output.levels if max(output.level(k)["ncc"].shape[-2:]) >= PICTURE]
    return large[-1] if large else output.levels[0]
