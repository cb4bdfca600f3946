"""OME-Zarr 0.6 in the words of 0.5: of its coordinate systems the one that all levels lead to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from bigncc.errors import InputError

KINDS = {"identity": None, "scale": "scale", "translation": "translation"}
"""The transformations that move no axis into another, and where each has its numbers."""

Step = tuple[str, list[float]]


def has_coordinate_systems(version: str) -> bool:
    """Say whether a version of OME-Zarr has coordinate systems as the released 0.6 has them."""
    return re.fullmatch(r"0\.6(rc[0-9]+)?", version) is not None


def combined(steps: Iterable[Step], ndim: int) -> tuple[list[float], list[float]]:
    """Return scale and translation of steps that are taken one after the other."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    for kind, numbers in steps:
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, numbers, strict=True)]
            translation = [a * b for a, b in zip(translation, numbers, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, numbers, strict=True)]
    return scale, translation


def reduced(document: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a multiscale of OME-Zarr 0.6 as one of 0.5, each level with a scale and a translation.

    The specification calls the coordinate system that all levels lead to the one for processing; where others lie is
    not looked at.

    Raises
    ------
    InputError
        If there is a transformation that is more than scales and translations, by its name, or no such system.
    """
    try:
        return _reduced(document, place)
    except InputError:
        raise
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        message = f"{place} is not valid OME-Zarr 0.6: {type(error).__name__}: {error}"
        raise InputError(message) from error


def _reduced(document: dict[str, Any], place: str) -> dict[str, Any]:
    systems = {system["name"]: system["axes"] for system in document["coordinateSystems"]}
    for transformation in document.get("coordinateTransformations") or ():
        list(_steps(transformation, place))
    levels, targets = [], set()
    for dataset in document["datasets"]:
        (transformation,) = dataset["coordinateTransformations"]
        target = transformation["output"]
        targets.add(target if isinstance(target, str) else target["name"])
        levels.append((dataset["path"], list(_steps(transformation, place))))
    if len(targets) != 1 or not targets <= systems.keys():
        message = (
            f"{place} has levels in the coordinate systems {', '.join(sorted(targets)) or 'none'}: "
            f"one for all of them, out of {', '.join(systems)}, is accepted"
        )
        raise InputError(message)
    axes = [
        {key: axis[key] for key in ("name", "type", "unit") if axis.get(key) is not None}
        for axis in systems[targets.pop()]
    ]
    datasets = []
    for path, steps in levels:
        scale, translation = combined(steps, len(axes))
        both = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
        datasets.append({"path": path, "coordinateTransformations": both})
    return {"axes": axes, "datasets": datasets}


def _steps(transformation: dict[str, Any], place: str) -> Iterator[Step]:
    """Yield what a transformation does, one after the other."""
    kind = transformation["type"]
    if kind == "sequence":
        for step in transformation["transformations"]:
            yield from _steps(step, place)
    elif kind not in KINDS:
        message = (
            f"{place} has a coordinate transformation of type {kind}: identity, scale, translation and sequences of "
            "these are accepted"
        )
        raise InputError(message)
    elif key := KINDS[kind]:
        yield kind, [float(number) for number in transformation[key]]
