"""What a run made, as a Dataset with coordinates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bigncc.encoding import values_of
from bigncc.maps import described
from bigncc.output import open_output
from bigncc.pair import from_storage
from bigncc.sections import Table, table_of
from bigncc.storage import Image, open_image
from bigncc.summary import STATUS

if TYPE_CHECKING:
    import os


def open_result(url: str | os.PathLike[str], *, level: int = 0) -> xr.Dataset:
    """Open what a run made, lazily, with coordinates in physical units.

    Parameters
    ----------
    url : path
        The output of a run, finished or not; its attribute ``state`` says which.
    level : int
        Level of the pyramid, 0 being the finest that is stored.

    Returns
    -------
    xarray.Dataset
        ``ncc`` float32, however it is stored, and ``status`` uint8, ``[[t,] [c,] [z,] y, x]``, dask arrays in the
        stored chunks; status 0 is what has not been computed. Further maps where they were asked for; the components of
        a shift map, at any level, have dims ``node_y`` and ``node_x`` (and ``node_z``), whose coordinates are those of
        the nodes. Of a complete result with several sections or channels also ``mean``, ``std`` and
        ``share_with_value`` of each; of a stack the attribute ``suspect_sections``, and of several lags the coordinate
        ``lag``.

    Raises
    ------
    InputError
        If there is no output of bigncc at `url`.
    """
    output = open_output(url)
    attributes, place = output.attributes, output.url
    folders = {name: "labels/status" if name == "status" else f"maps/{name}" for name in output.names[1:]}
    images = {name: open_image(f"{place}/{folder}", level=level) for name, folder in folders.items()}
    images = {"ncc": open_image(place, level=level), **images}
    arrays = {name: (image.axes, _values(image), words(name)) for name, image in images.items()}
    coords = _coordinates(images["ncc"])
    for name in output.components:
        image = open_image(f"{place}/maps/{name}")
        own = {axis for axis in image.axes if f"shift_{axis}" in output.components}
        dims = {axis: f"node_{axis}" if axis in own else axis for axis in image.axes}
        arrays[name] = tuple(dims.values()), from_storage(image.array), _WORDS[name]
        coords |= {dims[axis]: (dims[axis], *rest) for axis, (_, *rest) in _coordinates(image).items() if axis in own}
    names = ("state", "plan_id", "headline")
    about = {"window": attributes["config"]["window"]["size"], "versions": versions(attributes["versions"])}
    if prefilter := attributes["config"].get("prefilter"):
        about["prefilter"] = said(prefilter)
    result = xr.Dataset(arrays, coords=coords, attrs={**{name: attributes[name] for name in names}, **about})
    table = table_of(attributes, output.layout)
    if "pvalue" in result and "discoveries" in attributes:
        found = attributes["discoveries"]
        result["pvalue"].attrs |= {f"discoveries_{name}": found[name] for name in ("share", "p_below", "pixels")}
    return result if table is None else _with_sections(result, table)


def _with_sections(result: xr.Dataset, table: Table) -> xr.Dataset:
    """Add what the table says of each section and channel; NaN where there is no other section."""
    dims = result["ncc"].dims[: len(table.rows[0].place)]
    mean, std, share = (np.full([result.sizes[dim] for dim in dims], np.nan) for _ in range(3))
    for row in table.rows:
        summary = row.summary
        mean[row.place], std[row.place] = summary.mean, summary.std
        share[row.place] = summary.valid / max(1, summary.pixels)
    found = {"mean": (dims, mean), "std": (dims, std), "share_with_value": (dims, share)}
    result = result.assign(found)
    if table.stacked:
        result.attrs["suspect_sections"] = list(table.suspects)
        if len(lags := list(dict.fromkeys(row.lag for row in table.rows))) > 1:
            result = result.assign_coords(lag=("c", lags))
    return result


def _values(image: Image) -> Any:
    return from_storage(values_of(image.array.array, image.array))


def _coordinates(image: Image) -> dict[str, Any]:
    """Return the coordinates of an image's axes."""
    axes = zip(image.axes, image.translation, image.scale, image.array.shape, image.units, strict=True)
    return {
        axis: (axis, translation + scale * np.arange(n), {"units": unit} if unit else {})
        for axis, translation, scale, n, unit in axes
    }


_WORDS: dict[str, dict[str, Any]] = {
    "ncc": {"long_name": "normalised cross-correlation", "valid_range": [-1.0, 1.0]},
    **{f"shift_{axis}": {"long_name": f"residual shift along {axis}", "units": "pixel"} for axis in ("z", "y", "x")},
    "shift_peak": {"long_name": "normalised cross-correlation at the residual shift", "valid_range": [-1.0, 1.0]},
    "shift_ratio": {"long_name": "second highest maximum over the highest", "valid_range": [0.0, 1.0]},
    "shift_uncertainty": {"long_name": "uncertainty of the residual shift", "units": "pixel"},
    "status": {
        "long_name": "why there is a correlation or none",
        "flag_values": list(range(len(STATUS))),
        "flag_meanings": " ".join(word.replace(" ", "_").replace("'", "") for word in STATUS),
    },
}


def words(name: str) -> dict[str, Any]:
    """Return what the attributes of a map say of its values."""
    return _WORDS.get(name) or {"long_name": described(name).words}


def versions(found: dict[str, str]) -> str:
    """Return versions by the names of programs, as an attribute holds them."""
    return ", ".join(f"{name} {number}" for name, number in found.items())


def said(prefilter: dict[str, Any]) -> str:
    """Return what is said of a prefilter, as an attribute holds it."""
    return json.dumps({name: value for name, value in prefilter.items() if value is not None})
