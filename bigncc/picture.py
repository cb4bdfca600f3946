"""A finished result at the size of a picture, with both images beside it."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bigncc import proof, store, tiles
from bigncc import report as drawing
from bigncc.config import Config
from bigncc.decision import recalled
from bigncc.errors import IncompleteError, InputError
from bigncc.inputs import open_inputs, pair_of
from bigncc.output import open_output
from bigncc.pair import block_mean, from_storage, view, where_valid
from bigncc.report import Panel
from bigncc.storage import readable
from bigncc.summary import from_dict

PICTURE = 1000
"""Longest side of a report's picture, in pixels."""


def report(url: str) -> Path:
    """Draw the result at `url` and return the picture's path: beside it, or here if it is in an object store."""
    folder, _, name = store.absolute(url).rpartition("/")
    picture = Path(
        folder if store.is_local(url) else Path.cwd(), f"{name.removesuffix('.zarr').removesuffix('.ome')}.png"
    )
    drawing.draw([panel(url)], picture)
    return picture


def panel(url: str) -> Panel:
    """Return a complete result at the size of a picture, by streamed block means.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    output = open_output(url)
    if output.attributes["state"] != "complete":
        raise IncompleteError(proof.incomplete(url))
    config = Config.model_validate({**output.attributes["config"], "engine": {}})
    shape = output.maps["ncc"].shape
    # of an image with more than two axes: the first time and channel, the middle plane
    start = (
        *tuple(n // 2 if name == "z" else 0 for name, n in zip(output.layout.axes[:-2], shape, strict=False)),
        0,
        0,
    )
    extent = (1,) * (len(shape) - 2) + shape[-2:]
    plane = tiles.roi_of(start, extent)
    factor = -(-max(shape[-2:]) // PICTURE)
    factors = (1,) * (len(shape) - 2) + (factor, factor)

    def mean(array: Any) -> NDArray[Any]:
        return block_mean(array, factors).reshape(-(-shape[-2] // factor), -(-shape[-1] // factor))

    maps = {name: from_storage(readable(array))[plane] for name, array in output.maps.items()}
    try:
        inputs = recalled(open_inputs(config), output.attributes["registration"])
        seen = view(pair_of(inputs), tiles.roi_shift(plane, inputs.origin), inputs.transform, config.registration.order)
        reference, moving = (mean(image) for image in seen)
    except InputError:
        reference, moving = None, None
    summary = from_dict(output.attributes["summary"])
    title = "; ".join((output.attributes["headline"], *proof.absent_notes(output.attributes)))
    return Panel(title, reference, moving, mean(where_valid(**maps)), summary, factor)
