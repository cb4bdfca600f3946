"""What a Zarr array or group says of itself: its place, axes, pixel sizes and levels; not a pixel is read."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bigncc import store as files
from bigncc.errors import BignccError, InputError
from bigncc.remote import SCHEMES, USUAL, Storage

if TYPE_CHECKING:
    from zarr import Group
    from zarr.abc.store import Store
    from zarr.types import AnyArray

    Source = str | os.PathLike[str] | AnyArray | Group | Store

SPATIAL = ("z", "y", "x")
# what an array without names is taken for, and what it is if its last axis is said to be colours
DEFAULT_AXES = {2: ("y", "x"), 3: SPATIAL, 4: ("c", *SPATIAL), 5: ("t", "c", *SPATIAL)}
TIFF = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
COLOUR_AXES = {3: ("y", "x", "c"), 4: (*SPATIAL, "c"), 5: ("t", *SPATIAL, "c")}


class Found(NamedTuple):
    """The arrays of a pyramid and what its metadata says of a level, before the choice of a channel."""

    arrays: tuple[AnyArray, ...]
    axes: tuple[str, ...]
    named: bool
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    labels: tuple[str, ...]
    calibrated: bool


def in_one_line(error: BaseException) -> str:
    """Return what another library complains of, short and without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def place_of(node: AnyArray | Group) -> str:
    """Return where an array or a group is: its absolute path, its address, or what its store says of itself."""
    text = str(node.store_path)
    return str(Path(text.removeprefix("file://")).absolute()) if text.startswith("file://") else text


def local_path(source: str | os.PathLike[str]) -> Path:
    """Return the absolute path; InputError if `source` is an address elsewhere."""
    place = files.absolute(source)
    if not files.is_local(place):
        message = f"{place} is an address: a local path is accepted"
        raise InputError(message)
    return Path(place)


def open_store(place: str, *, read_only: bool, storage: Storage = USUAL) -> Store:
    """Return the Zarr store of what is at a place."""
    from zarr.storage import LocalStore

    if files.is_local(place):
        return LocalStore(place, read_only=read_only)
    from bigncc.address import Addressed

    return Addressed(place, storage, read_only=read_only)


def open_node(source: Source, *, read_only: bool = True, storage: Storage = USUAL) -> AnyArray | Group:
    """Open what is at `source`, be it an array or a group; InputError if it is neither."""
    import zarr
    from zarr.abc.store import Store

    if isinstance(source, (zarr.Array, zarr.Group)):
        return source
    if isinstance(source, Store):
        store, place = source, str(source)
    elif not isinstance(source, (str, os.PathLike)):
        message = f"the image is a {type(source).__name__}: a path, an address or a zarr object is accepted"
        raise InputError(message)
    else:
        place = files.absolute(source)
        if files.is_local(place) and not Path(place).is_dir():
            what = "is a file" if Path(place).exists() else "does not exist"
            message = f"{place} {what}: the directory of a Zarr array or OME-Zarr image is accepted"
            raise InputError(message)
        store = open_store(place, read_only=read_only, storage=storage)
    try:
        # consolidated metadata may be older than what it summarises
        return zarr.open(store=store, mode="r" if read_only else "r+", use_consolidated=False)
    except BignccError:  # of an address that does not answer
        raise
    except Exception as error:  # mutated metadata raises anything from KeyError to RecursionError
        if isinstance(error, FileNotFoundError) and place.partition("://")[0] in SCHEMES:
            message = f"{place} does not exist: a Zarr array or OME-Zarr image is accepted"
            raise InputError(message) from error
        message = (
            f"{place} cannot be opened: a readable Zarr array or OME-Zarr image is accepted ({in_one_line(error)})"
        )
        raise InputError(message) from error


def described(node: AnyArray | Group, level: int, channel: int | str | None) -> Found:
    """Return what an opened array or group says of `level`; InputError if it is no image or has no such level.

    `channel` is what was chosen: it tells the colours of an array without names from a stack.
    """
    import zarr

    return _from_group(node, level, channel) if isinstance(node, zarr.Group) else _from_array(node, level, channel)


def _from_group(group: Group, level: int, channel: int | str | None) -> Found:
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    ome = ome if isinstance(ome, dict) else {}
    try:
        document = dict(ome["multiscales"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(_what_is_there(group, ome)) from error
    version = str(ome.get("version") or document.get("version") or ("0.5" if "ome" in attributes else "0.4"))
    if version in ("0.1", "0.2") and "axes" not in document:
        return _from_levels(group, document, level, channel)
    return _from_ome(group, ome, document, version, level)


def _from_levels(group: Group, document: dict[str, Any], level: int, channel: int | str | None) -> Found:
    """Return a pyramid of the first versions of the format, which say nothing of axes; tifffile makes them."""
    datasets = document.get("datasets")
    paths = [str(dataset.get("path")) for dataset in datasets if isinstance(dataset, dict)] if datasets else []
    place = place_of(group)
    if not paths:
        message = f"{place} names no levels: a multiscale image with datasets is accepted"
        raise InputError(message)
    _check_level(place, level, paths)
    ndim = getattr(group.get(paths[0]), "ndim", 0)
    arrays = tuple(member(group, path, ndim) for path in paths)
    finest = _from_array(arrays[0], 0, channel)
    # an axis of another length may have another name there, but the order is that of the finest
    return finest._replace(arrays=arrays)


def _check_level(place: str, level: int, paths: list[str]) -> None:
    if not 0 <= level < len(paths):
        there = ", ".join(f"{i} ({path})" for i, path in enumerate(paths))
        message = f"{place} has no level {level}: {there} is accepted"
        raise InputError(message)


def _from_ome(group: Group, ome: dict[str, Any], document: dict[str, Any], version: str, level: int) -> Found:
    place = place_of(group)
    multiscale = validated("Multiscale", document, version, place)
    datasets, axes = multiscale.datasets, multiscale.axes
    names = tuple({"time": "t", "channel": "c"}.get(axis.type, axis.name) for axis in axes)
    if not set(names) <= {"t", "c", *SPATIAL}:
        message = f"{place} has axes ({', '.join(names)}): axes out of t, c, z, y, x are accepted"
        raise InputError(message)
    _check_level(place, level, [dataset.path for dataset in datasets])
    arrays = tuple(member(group, dataset.path, len(names)) for dataset in datasets)
    scale, translation = [1.0] * len(names), [0.0] * len(names)
    # those of the level come first, then those that all levels share
    for step in (*datasets[level].coordinateTransformations, *(multiscale.coordinateTransformations or ())):
        if step.type == "scale":
            scale = [a * b for a, b in zip(scale, step.scale, strict=True)]
            translation = [a * b for a, b in zip(translation, step.scale, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, step.translation, strict=True)]
    if not all(0 < s < np.inf for s in scale) or not all(np.isfinite(translation)):
        message = f"{place} has scale {scale} and translation {translation}: positive and finite numbers are accepted"
        raise InputError(message)
    labels = _labels(ome.get("omero"))
    units = tuple(axis.unit for axis in axes)
    return Found(arrays, names, True, tuple(scale), tuple(translation), units, labels, True)


def _labels(omero: Any) -> tuple[str, ...]:
    # display hints, which many files write without what the specification demands
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return tuple(str(c.get("label")) for c in channels if isinstance(c, dict)) if isinstance(channels, list) else ()


def validated(model: str, document: dict[str, Any], version: str, place: str) -> Any:
    """Return `document` as the OME-Zarr model of that name; InputError says what is wrong with it."""
    from yaozarrs import v04, v05

    if version not in ("0.4", "0.5"):
        message = f"{place} is OME-Zarr {version}: 0.4 and 0.5 are accepted"
        raise InputError(message)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about units it does not know
            return getattr(v04 if version == "0.4" else v05, model).model_validate(document)
    except ValueError as error:
        _, _, text = str(error).partition("\n")
        message = f"{place} is not valid OME-Zarr {version}: {' '.join(text.partition(' [type=')[0].split())}"
        raise InputError(message) from error


def member(group: Group, path: str, ndim: int) -> AnyArray:
    """Return the array of `ndim` axes at `path` within `group`; InputError if there is none."""
    place = place_of(group)
    if not path or path.startswith("/") or ".." in path.split("/") or any(c in path for c in ("\\", ":", "\0")):
        message = f"{place} names a level {path!r}: a relative path inside of the image is accepted"
        raise InputError(message)
    try:
        array = group[path]
        shape = getattr(array, "shape", None)
    except BignccError:
        raise
    except Exception as error:  # as in open_node
        message = f"{place}/{path} cannot be opened: a readable Zarr array is accepted ({in_one_line(error)})"
        raise InputError(message) from error
    if shape is None or len(shape) != ndim:
        what = "a group" if shape is None else f"of shape {list(shape)}"
        message = f"{place}/{path} is {what}: an array of {ndim} axes is accepted"
        raise InputError(message)
    return array  # type: ignore[return-value]


def _what_is_there(group: Group, ome: Any) -> str:
    from zarr import Group

    kinds = {"plate": "an HCS plate", "well": "a well of an HCS plate", "labels": "a list of label images"}
    kinds["bioformats2raw.layout"] = "a bioformats2raw collection"
    kind = next((kinds[key] for key in kinds if key in ome), "a Zarr group without OME-Zarr image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are no Zarr
        try:
            names = sorted(name + "/" * isinstance(node, Group) for name, node in group.members())
        except Exception as error:  # as in open_node
            names = [f"something that cannot be opened ({in_one_line(error)})"]
    there = ", ".join(names[:10] or ["nothing"]) + ", ..." * (len(names) > 10)
    return f"{place_of(group)} is {kind} that holds {there}: the path of one image or array is accepted"


def _from_array(array: AnyArray, level: int, channel: int | str | None) -> Found:
    place, shape = place_of(array), array.shape
    if level != 0:
        message = f"{place} is an array and has no level {level}: 0 is accepted"
        raise InputError(message)
    given = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    # TIFF calls the colours of a pixel its samples
    axes = tuple(TIFF.get(str(name), str(name)) for name in given) if isinstance(given, (list, tuple)) else ()
    named = len(axes) == len(shape) == len(set(axes)) and set(axes) <= {"t", "c", *SPATIAL}
    colour = not named and len(shape) in COLOUR_AXES and shape[-1] in (3, 4)
    if colour and channel is None:
        message = (
            f"{place} has shape {list(shape)}, which looks like a colour image taken for a stack: "
            f"channel=grey or a channel number from 0 to {shape[-1] - 1} is accepted"
        )
        raise InputError(message)
    if not named:
        axes = (COLOUR_AXES if colour else DEFAULT_AXES).get(len(shape), ())
    if not axes:
        message = f"{place} has {len(shape)} axes: 2 to 5 are accepted"
        raise InputError(message)
    n = len(shape)
    return Found((array,), axes, named, (1.0,) * n, (0.0,) * n, (None,) * n, (), False)
