"""What is decided about a run, once: plan.json as it is made, and what follows from the one that holds."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from bigncc import journal, kernel, transform
from bigncc import layout as layouts
from bigncc.budget import measuring, threads_of, tiles_of
from bigncc.encoding import EXACT
from bigncc.engine import Job
from bigncc.errors import InputError, RefusedError
from bigncc.footprint import check_disk, layout_of
from bigncc.inputs import Inputs
from bigncc.lattice import Samples, pivots
from bigncc.layout import Layout
from bigncc.nodes import Nodes
from bigncc.output import Output, open_output
from bigncc.placement import headline, registered
from bigncc.registration import registration_from_dict
from bigncc.stack import match_from_dict
from bigncc.store import absolute
from bigncc.tiles import Plan, Round
from bigncc.weights import DRAWN


def decide(inputs: Inputs, request: dict[str, Any], samples: Samples, replaces: str | None) -> dict[str, Any]:
    """Return the plan of a new run: what plan.json will say.

    Raises
    ------
    DoesNotFitError
        If memory or disk do not allow the run.
    RegistrationError
        If the moving image's shift is to be estimated and cannot be.
    """
    layout = layout_of(inputs)
    grid = tiles_of(inputs, layout, threads_of(inputs.config))
    threads, _ = measuring(inputs, threads_of(inputs.config))
    check_disk(layout, inputs.config.output.url)
    inputs = registered(inputs, threads)
    settings = inputs.config.model_dump(mode="json", exclude={"engine", "cluster", *_unasked(inputs)})
    # what is read again later, by `verify` or `report`, is found from wherever that is called
    settings["output"]["url"] = absolute(settings["output"]["url"])
    for name, image in (("reference", inputs.reference), ("moving", inputs.moving)):
        settings[name]["url"] = image.url or settings[name]["url"]
        _absolute(settings[name]["mask"] or {}, "url")
    if settings["window"]["footprint"] not in DRAWN:
        _absolute(settings["window"], "footprint")
    _absolute(settings["registration"], "transform")
    _absolute(settings["registration"]["displacement"] or {}, "url")
    applied = _applied(inputs, request)
    decided = {
        "request_id": hashlib.sha256(journal.canonical(request)).hexdigest(),
        "kernel": kernel.VERSION,
        "pivots": pivots(samples),
        "tiles": {name: value for name, value in asdict(grid).items() if value is not None},
    }
    return {
        "plan_id": hashlib.sha256(journal.canonical({**decided, "transform": applied})).hexdigest()[:32],
        **decided,
        "replaces": replaces,
        "request": request,
        "layout": layouts.to_dict(layout),
        "config": journal.plain(settings),
        "headline": headline(inputs),
        "registration": {
            "transform": applied,
            "order": request["registration"]["order"],
            "estimate": None if inputs.registration is None else inputs.registration.to_dict(),
            "unknown": inputs.unknown,
            **({} if inputs.matches is None else {"sections": [match.to_dict() for match in inputs.matches]}),
        },
        "versions": {name: version(name) for name in ("bigncc", "numpy", "numba", "zarr", "dask")},
    }


def _unasked(inputs: Inputs) -> set[str]:
    """Return the sections that say nothing: of maps if there is only the correlation, or no shift map; no prefilter."""
    maps = inputs.config.maps
    unasked = {"maps", "shift"} if maps == ("ncc",) else set() if "shift" in maps else {"shift"}
    unasked |= set() if inputs.asked.tested else {"significance"}
    return unasked if inputs.asked.prefilter else {*unasked, "prefilter"}


def _absolute(section: dict[str, Any], key: str) -> None:
    if section.get(key) is not None:
        section[key] = absolute(section[key])


def check_request(url: str, standing: dict[str, Any], request: dict[str, Any]) -> None:
    """Raise RefusedError, naming the keys that differ, unless a request is the one that the plan was made for."""
    there, asked = dict(_flat(standing["request"])), dict(_flat(request))
    differ = sorted(key for key in there.keys() | asked.keys() if there.get(key) != asked.get(key))
    if differ:
        said = "; ".join(f"{key} is {there.get(key)!r} there, {asked.get(key)!r} asked" for key in differ)
        message = f"{url} is the output of another request ({said}): the same request or another output is accepted"
        raise RefusedError(message)
    if standing["kernel"] != kernel.VERSION:
        message = (
            f"{url} was begun with kernel version {standing['kernel']}, this is version {kernel.VERSION}: "
            "another output, or the bigncc that began it, is accepted"
        )
        raise RefusedError(message)


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def stored_layout(standing: dict[str, Any]) -> Layout:
    """Return what the output of a plan looks like on disk."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in standing["layout"].items()}
    return Layout(**values)


def opened(url: str, standing: dict[str, Any]) -> Output:
    """Open the output of a plan; InputError if its arrays are not those of the plan."""
    out, layout = open_output(url), stored_layout(standing)
    group, array_file = ("zarr.json", "zarr.json") if layout.version == "0.5" else (".zattrs", ".zarray")
    wrong = [group] if out.maps.keys() != layout.arrays.keys() else []
    for name, (path, _) in layout.arrays.items() if not wrong else ():
        array, here = out.maps[name], layout.of(name)
        dtype = "uint8" if name.startswith("status") else layout.encodings.get(name.partition("/")[0], EXACT).dtype
        found = array.shape, array.chunks, array.shards, str(array.dtype)
        if found != (here.shape, here.chunks, here.shards, dtype):
            wrong.append(f"{path}/{array_file}")
    if wrong:
        message = f"{url}/{wrong[0]} is not what was written there: bigncc run --repair is accepted"
        raise InputError(message)
    return out


def stored_grid(standing: dict[str, Any]) -> Plan:
    """Return the tiles of a plan."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in standing["tiles"].items()
    }
    values["rounds"] = tuple(Round(each["source"], each["last"], tuple(each["tile"])) for each in values["rounds"])
    if (nodes := values.get("nodes")) is not None:
        values["nodes"] = Nodes(**{name: tuple(each) for name, each in nodes.items()})
    return Plan(**values)


def job_of(url: str, standing: dict[str, Any], inputs: Inputs) -> Job:
    """Return what the engine needs to know of a plan; RefusedError if a footprint is another one by now."""
    config = inputs.config
    if journal.plain(inputs.window.request) != standing["request"]["window"]:
        message = (
            f"window.footprint {config.window.footprint} is not what the plan of {url} was made with: that is accepted"
        )
        raise RefusedError(message)
    return Job(
        url,
        standing["plan_id"],
        stored_grid(standing),
        inputs.window,
        inputs.transform,
        config.registration.order,
        tuple((kernel.Pivot(*a), kernel.Pivot(*b)) for a, b in standing["pivots"]),
        inputs.channel_axis,
        inputs.asked,
        inputs.search[1],
        stored_layout(standing).encodings,
    )


def attributes_of(standing: dict[str, Any], proof: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the output says of itself: while it is made, and once there is a `proof` that it is complete."""
    state = "in-progress" if proof is None else "complete"
    names = ("plan_id", "config", "headline", "registration", "pivots", "versions", "kernel")
    return {"state": state, **{name: standing[name] for name in names}, **(proof or {})}


def _applied(inputs: Inputs, request: dict[str, Any]) -> Any:
    """Return the transform that is applied, as JSON has it: a given one is in the request."""
    if not inputs.config.registration.estimated:
        return request["registration"]["transform"]
    if inputs.matches is not None:
        return [None if match.transform is None else transform.to_dict(match.transform) for match in inputs.matches]
    assert inputs.registration is not None  # or it would have raised
    return inputs.registration.to_dict()["transform"]


def recalled(inputs: Inputs, registration: dict[str, Any]) -> Inputs:
    """Return the inputs with what was estimated when the plan was made."""
    found = registration["estimate"]
    estimate = None if found is None else registration_from_dict(found)
    sections = registration.get("sections")
    known = None if sections is None else tuple(map(match_from_dict, sections))
    return replace(inputs, registration=estimate, unknown=registration["unknown"], matches=known)
