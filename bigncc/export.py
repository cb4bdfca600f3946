"""The worst regions as files: comma-separated values, and GeoJSON as QuPath reads it."""

import csv
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigncc import store
from bigncc.errors import RefusedError

COLUMNS = (
    "region", "time", "channel", "z_start", "z_stop", "y_start", "y_stop", "x_start", "x_stop",
    "pixels", "mean", "lowest", "threshold", "deficit",
    "z_from", "z_to", "z_unit", "y_from", "y_to", "y_unit", "x_from", "x_to", "x_unit", "link",
)  # fmt: skip
"""The first line of a table of regions, by which it is known to be ours."""

HEAD = ",".join(COLUMNS).encode()

MARK = b'{"type": "FeatureCollection", "name": "bigncc regions'
"""What a GeoJSON file of ours begins with."""

CLASS = {"name": "low agreement", "color": [213, 94, 0]}

_OURS = uuid.UUID("5f0f1a3e-2f0a-5f0e-9a55-6d7bb20b8d2c")
"""From which identifiers of regions are made, so that a second export has the same ones."""


def table(regions: Sequence[Mapping[str, Any]]) -> bytes:
    """Return regions, as the facts of a result say them, as comma-separated values."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for region in regions:
        cells = {"region": region["region"], **{name: region[name] for name in COLUMNS[9:14]}, "link": region["link"]}
        cells |= {name: region[name] for name in ("time", "channel")}
        for axis, span in region["box"].items():
            cells |= {f"{axis}_start": span[0], f"{axis}_stop": span[1]}
        for axis, span in region["physical"].items():
            cells |= {f"{axis}_from": span["from"], f"{axis}_to": span["to"], f"{axis}_unit": span["unit"]}
        writer.writerow("" if (cell := cells.get(name)) is None else _cell(cell) for name in COLUMNS)
    return file.getvalue().encode()


def _cell(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def geojson(regions: Sequence[Mapping[str, Any]], plan_id: str) -> bytes:
    """Return regions as annotations: pixels of the reference at full resolution from its top left corner.

    Parameters
    ----------
    regions : sequence of mapping
        As the facts of a result say them.
    plan_id : str
        Of the result.
    """
    features = [_feature(region, plan_id) for region in regions]
    return json.dumps({"type": "FeatureCollection", "name": f"bigncc regions {plan_id}", "features": features}).encode()


def _feature(region: Mapping[str, Any], plan_id: str) -> dict[str, Any]:
    (top, bottom), (left, right) = region["box"]["y"], region["box"]["x"]
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    z, time, channel = (region["box"].get("z", (0,))[0], region["time"] or 0, region["channel"])
    # a channel of -1 is all of them
    plane = {"c": -1 if channel is None else channel, "z": z, "t": time}
    numbers = {"Mean NCC": region["mean"], "Lowest NCC": region["lowest"], "Pixels below": region["pixels"]}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_OURS, f"{plan_id} {region['region']} {json.dumps(region['box'])} {json.dumps(plane)}")),
        "geometry": {"type": "Polygon", "coordinates": [ring], "plane": plane},
        "properties": {
            "objectType": "annotation",
            "name": f"{region['region']}: mean NCC {region['mean']:.2f}",
            "classification": CLASS,
            "measurements": numbers,
            **({"metadata": {"link": region["link"]}} if region["link"] else {}),
        },
    }


def write(path: Path, data: bytes, mark: bytes, what: str) -> None:
    """Write a file unless something else is there.

    Parameters
    ----------
    path : Path
        Where.
    data : bytes
        All of it.
    mark : bytes
        What is within the beginning of such a file of ours.
    what : str
        What it is called.

    Raises
    ------
    RefusedError
        If `path` is a file that no bigncc made.
    """
    check(path, mark, what)
    store.put(path, data)


def check(path: Path, mark: bytes, what: str) -> None:
    """Raise RefusedError if `path` is a file that no bigncc made; arguments as for `write`."""
    if path.exists() and not (path.is_file() and mark in path.read_bytes()[:2048]):
        message = f"{path} exists and is no {what} of bigncc: a path without it is accepted"
        raise RefusedError(message)
