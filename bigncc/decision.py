"""What is decided about a run, once: plan.json as it is made, and what follows from the one that holds."""

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from bigncc import journal, kernel, transform
from bigncc import layout as layouts
from bigncc.budget import grown, measuring, threads_of, tiles_of
from bigncc.config import Config
from bigncc.documents import UNREADABLE
from bigncc.encoding import EXACT
from bigncc.engine import Job
from bigncc.errors import InputError, RefusedError
from bigncc.footprint import check_disk, layout_of
from bigncc.inputs import Inputs, open_inputs
from bigncc.lattice import Samples
from bigncc.lattice import pivots as pivots_of
from bigncc.layout import Layout
from bigncc.metadata import SPATIAL
from bigncc.output import Output, open_output
from bigncc.placement import headline, registered
from bigncc.registration import Registration, registration_from_dict
from bigncc.stack import match_from_dict
from bigncc.store import absolute
from bigncc.tiles import Plan, coarse
from bigncc.weights import DRAWN

Stored = TypeVar("Stored", Layout, Plan)


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
        "pivots": pivots_of(samples),
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
    said = standing["request"]
    there, asked = dict(_flat(said if isinstance(said, dict) else {"request": said})), dict(_flat(request))
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
    """Return what the output of a plan looks like on disk; InputError as `stored_grid`."""
    found = _stored(Layout, standing["layout"])
    ranks = {len(each) for each in (found.shape, found.chunks, found.axes, found.scale, found.translation, found.units)}
    ranks |= {len(found.shards)} if found.shards else set()
    nodes = {len(each) for each in (found.step, found.nodes, found.reach)}
    halved = 0 <= found.halved <= len(found.shape)
    axes = found.axes and set(found.axes) <= {"t", "c", *SPATIAL} and len(set(found.axes)) == len(found.axes)
    if len(ranks) > 1 or len(nodes) > 1 or not (halved and _levels(found.levels) and axes):
        raise _unreadable(what="layout")
    if min(*found.shape, *found.chunks, *(found.shards or (1,)), *found.step, *found.nodes) < 1:
        raise _unreadable(what="layout")
    return found


def opened(url: str, standing: dict[str, Any]) -> Output:
    """Open the output of a plan; InputError if its arrays are not those of the plan."""
    out, layout = open_output(url, proven=False), stored_layout(standing)
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
    """Return the tiles of a plan; InputError if they are none that this version can make."""
    found = _stored(Plan, standing["tiles"])
    positive = [found.shape, found.objects, found.tile, found.extent, *(each.tile for each in found.rounds)]
    positive += [found.chunks] if found.chunks else []
    least = [found.margin, found.origin]
    if found.nodes is not None:
        positive += [found.nodes.shape, found.nodes.step, found.nodes.objects, found.nodes.tile]
        least.append(found.nodes.margin)
    ends = [found.own, *(each.last for each in found.rounds)]
    chained = [each.source for each in found.rounds] == ends[:-1] and found.levels[-1:] == (ends[-1],)
    rank = len(found.shape)
    whole = all(len(each) == rank for each in (*positive, *least)) and 0 <= found.halved <= rank > 0
    if not (whole and chained and ends == sorted(set(ends)) and _levels(found.levels) and found.own in found.levels):
        raise _unreadable(what="tiles")
    if min(map(min, positive)) < 1 or min(map(min, least)) < 0 or max(map(math.prod, positive)) >= 2**62:
        raise _unreadable(what="tiles")
    if not _whole(found, stored_layout(standing)):
        raise _unreadable(what="tiles")
    return found


def _whole(grid: Plan, layout: Layout) -> bool:
    """Say whether tiles are whole objects of what is stored."""
    finest, halved = layout.levels[0], layout.halved
    if (grid.shape, grid.halved, grid.levels) != (layout.shape, halved, layout.levels):
        return False
    parts = [(grid.tile, grown(layout.at(finest).objects, finest, halved))]
    for step in grid.rounds:
        objects = grown(layout.coarser, step.last - step.source, halved)
        shape = coarse(layout.shape, step.source, halved)
        parts.append((step.tile, tuple(map(min, zip(objects, shape, strict=True)))))
    if layout.step:
        if grid.nodes is None or grid.nodes.shape != layout.node_grid.shape:
            return False
        parts += [(grid.nodes.tile, grid.nodes.objects), (grid.nodes.objects, layout.node_grid.chunks)]
    return grid.objects == parts[0][1] and not any(t % p for each in parts for t, p in zip(*each, strict=True))


def _levels(levels: tuple[int, ...]) -> bool:
    """Say whether these are levels of a pyramid."""
    return bool(levels) and 0 <= levels[0] <= levels[-1] < 64 and levels == tuple(range(levels[0], levels[-1] + 1))


def _stored(kind: type[Stored], values: Any) -> Stored:
    """Return the dataclass that `asdict` made values of; InputError unless these say that and nothing else."""
    try:
        found: Stored = _readers()[kind.__name__].validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise _unreadable(kind.__name__.lower()) from error
    said = json.loads(json.dumps(asdict(found)))
    if {**said, **values} != said:
        raise _unreadable(kind.__name__.lower())
    return found


@functools.cache
def _readers() -> dict[str, TypeAdapter[Any]]:
    """Return what reads each dataclass of a plan, made once: that takes a hundred times as long as reading one."""
    return {kind.__name__: TypeAdapter(kind) for kind in (Layout, Plan)}


def _unreadable(what: str) -> InputError:
    return InputError(f"the {what} in plan.json cannot be understood: a plan of this version of bigncc is accepted")


def job_of(url: str, standing: dict[str, Any], inputs: Inputs) -> Job:
    """Return what the engine needs to know of a plan; RefusedError if a footprint is another one by now."""
    config, grid = inputs.config, stored_grid(standing)
    margin = inputs.asked.margin(inputs.window.radius, len(grid.shape))
    here = inputs.shape, inputs.origin, inputs.reference.array.shape, margin
    if (grid.shape, grid.origin, grid.extent, grid.margin) != here:
        raise _unreadable(what="tiles")
    try:
        pivots = tuple((kernel.Pivot(*a), kernel.Pivot(*b)) for a, b in standing["pivots"])
    except UNREADABLE as error:
        raise _unreadable(what="pivots") from error
    if journal.plain(inputs.window.request) != standing["request"]["window"]:
        message = (
            f"window.footprint {config.window.footprint} is not what the plan of {url} was made with: that is accepted"
        )
        raise RefusedError(message)
    return Job(
        url,
        standing["plan_id"],
        grid,
        inputs.window,
        inputs.transform,
        config.registration.order,
        pivots,
        inputs.channel_axis,
        inputs.asked,
        inputs.search[1],
        stored_layout(standing).encodings,
    )


def attributes_of(standing: dict[str, Any], proof: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the output says of itself: while it is made, and once there is a `proof` that it is complete."""
    state = "in-progress" if proof is None else "complete"
    names = ("plan_id", "config", "headline", "registration", "pivots", "versions", "kernel")
    return journal.sealed({"state": state, **{name: standing[name] for name in names}, **(proof or {})})


def _applied(inputs: Inputs, request: dict[str, Any]) -> Any:
    """Return the transform that is applied, as JSON has it: a given one is in the request."""
    if not inputs.config.registration.estimated:
        return request["registration"]["transform"]
    if inputs.matches is not None:
        return [None if match.transform is None else transform.to_dict(match.transform) for match in inputs.matches]
    assert inputs.registration is not None  # or it would have raised
    return inputs.registration.to_dict()["transform"]


def reopened(said: Mapping[str, Any], engine: Mapping[str, Any] | None = None) -> Inputs:
    """Open the images of a run again, with what was estimated.

    Parameters
    ----------
    said : mapping
        Its plan, or the attributes of its output.
    engine : mapping, optional
        That section of the config, by default as on a machine of which nothing is said.

    Raises
    ------
    InputError
        If they cannot be opened any more.
    """
    return recalled(open_inputs(config_of(said, engine)), said["registration"])


def config_of(said: Mapping[str, Any], engine: Mapping[str, Any] | None = None) -> Config:
    """Return the config of a plan or an output, on this machine; InputError if this version cannot understand it."""
    try:
        return Config.model_validate({**said["config"], "engine": engine or {}})
    except ValidationError as error:
        raise _unreadable(what="config") from error


def recalled(inputs: Inputs, registration: dict[str, Any]) -> Inputs:
    """Return the inputs with what was estimated when the plan was made."""
    estimate = estimate_of(registration)
    try:
        sections = registration.get("sections")
        known = None if sections is None else tuple(map(match_from_dict, sections))
    except UNREADABLE as error:
        raise _unreadable(what="registration") from error
    return replace(inputs, registration=estimate, unknown=registration["unknown"], matches=known)


def estimate_of(registration: Mapping[str, Any]) -> Registration | None:
    """Return the registration that a plan or an output tells of, None if nothing was estimated."""
    try:
        return None if registration["estimate"] is None else registration_from_dict(registration["estimate"])
    except UNREADABLE as error:
        raise _unreadable(what="registration") from error
