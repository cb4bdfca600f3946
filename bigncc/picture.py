"""A finished result at the size of a picture, with both images beside it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import proof, sections, store, tiles
from bigncc import report as drawing
from bigncc.config import Config, load
from bigncc.decision import recalled
from bigncc.discoveries import discoveries_of
from bigncc.encoding import values_of
from bigncc.errors import IncompleteError, InputError
from bigncc.inputs import open_inputs, pair_of
from bigncc.maps import of_pixels
from bigncc.nodes import first_node
from bigncc.output import Output, open_output
from bigncc.pair import block_mean, from_storage, view, where_valid
from bigncc.report import Panel, Vectors
from bigncc.sections import table_of
from bigncc.shift import lengths_of
from bigncc.storage import readable
from bigncc.summary import from_dict

ARROWS = 30
"""Vectors along each side of a picture, at most."""

PICTURE = 1000
"""Longest side of a report's picture, in pixels, at least; twice as many are too many."""


def report(url: str, threshold: float | None = None) -> Path:
    """Draw the result at `url` and return the picture's path; `threshold` as for `tabulate`."""
    picture = _beside(url, ".png")
    drawing.draw([panel(url, threshold)], picture)
    return picture


def tabulate(url: str, threshold: float | None = None) -> Path | None:
    """Write the table of the sections and channels of the result at `url` beside its picture; None if it has one only.

    `threshold` is that of its config by default.
    """
    output = open_output(url)
    _check_complete(output)
    table = table_of(output.attributes, output.layout, threshold)
    if table is None:
        return None
    path = _beside(url, ".csv")
    sections.write(table, path)
    return path


def _beside(url: str, suffix: str) -> Path:
    """Return a path beside a result, or here if that is in an object store."""
    folder, _, name = store.absolute(url).rpartition("/")
    return Path(
        folder if store.is_local(url) else Path.cwd(), f"{name.removesuffix('.zarr').removesuffix('.ome')}{suffix}"
    )


def _check_complete(output: Output) -> None:
    if output.attributes["state"] != "complete":
        raise IncompleteError(proof.incomplete(output.url))


def panel(url: str, threshold: float | None = None) -> Panel:
    """Return a complete result at the size of a picture, by streamed block means.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    output = open_output(url)
    _check_complete(output)
    table = table_of(output.attributes, output.layout, threshold)
    # of one stack, the two sections that agree least
    place = table.worst.place if table is not None and table.stacked else None
    config = load([{**output.attributes["config"], "engine": {}}])
    level = _level(output)
    maps = output.level(level)
    factor = max(1, max(maps["ncc"].shape[-2:]) // PICTURE)
    seen = {name: _seen(output, array, place) for name, array in maps.items()}
    further = {name: _mean(seen.pop(name), factor) for name in of_pixels(maps)}
    try:
        inputs = recalled(open_inputs(config), output.attributes["registration"])
        plane = tiles.roi_shift(_plane(output, inputs.shape, place), inputs.origin)
        images = view(pair_of(inputs), plane, inputs.transform, config.registration.order)
        reference, moving = (_mean(image, factor << level) for image in images)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    title = "; ".join((output.attributes["headline"], *proof.absent_notes(output.attributes)))
    return Panel(
        title, reference, moving, _mean(where_valid(**seen), factor), summary, factor << level, table,
        further, _vectors(output, config, factor << level, place),
        discoveries_of(output.attributes["discoveries"]) if "discoveries" in output.attributes else None,
    )  # fmt: skip


def _seen(output: Output, array: Any, place: Any) -> Any:
    return from_storage(values_of(array, readable(array)))[_plane(output, array.shape, place)]


def _vectors(output: Output, config: Config, factor: int, place: Any) -> Vectors | None:
    """Return the shift map of the plane that is shown, thinned, and where it is in the picture."""
    if not output.components:
        return None
    *_, y, x, _, _, uncertainty = (_seen(output, output.maps[name], place) for name in output.components)
    sure, every = np.isfinite(uncertainty), max(1, -(-max(y.shape[-2:]) // ARROWS))
    dy, dx = (_mean(where_valid(each, sure), every) for each in (y, x))
    steps, _ = config.shift.search(config.window.window())
    places = []
    for count, first, step in zip(y.shape[-2:], first_node(steps)[-2:], steps[-2:], strict=True):
        ends = np.minimum(np.arange(every, count + every, every), count)
        middle = first + step * (np.arange(0, count, every) + ends - 1) / 2
        places.append((middle + 0.5) / factor - 0.5)
    at_y, at_x = places
    return Vectors(at_y, at_x, dy, dx, lengths_of(output.attributes["shift"]))


def _level(output: Output) -> int:
    """Return the coarsest stored level that is at least as large as the picture, or else the finest one."""
    large = [k for k in output.levels if max(output.level(k)["ncc"].shape[-2:]) >= PICTURE]
    return large[-1] if large else output.levels[0]


def _plane(output: Output, shape: tuple[int, ...], place: tuple[int, ...] | None) -> tiles.Roi:
    """Return the plane that is shown of an array with more than two axes: first time and channel, middle of z."""
    names = zip(output.layout.axes[:-2], shape, strict=False)
    start = place or tuple(n // 2 if name == "z" else 0 for name, n in names)
    return tiles.roi_of((*start, 0, 0), (1,) * len(start) + shape[-2:])


def _mean(array: Any, factor: int) -> NDArray[Any]:
    shape = tuple(-(-n // factor) for n in array.shape[-2:])
    return block_mean(array, (1,) * (array.ndim - 2) + (factor, factor)).reshape(shape)
