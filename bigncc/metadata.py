"""What a Zarr array or group says of itself: its place, axes, pixel sizes and levels; not a pixel is read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import count, islice, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bigncc import conventions, coordinates
from bigncc import store as files
from bigncc.archive import open_zip, within
from bigncc.documents import is_inside
from bigncc.errors import BignccError, InputError
from bigncc.gate import Gated
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
    nodata: tuple[float, ...] = ()


def in_one_line(error: BaseException) -> str:
    """Return what another library complains of, short and without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def place_of(node: AnyArray | Group) -> str:
    """Return where an array or a group is: its absolute path, its address, or what its store says of itself."""
    text = str(node.store_path)
    scheme, _, path = text.partition("://")
    return str(Path(path).absolute()) if scheme in ("file", "zip") else text


def can_be_found(node: AnyArray | Group) -> bool:
    """Say whether the place of an array or a group is a path or an address, which opens it again."""
    return str(node.store_path).partition("://")[0] in ("file", "zip", *SCHEMES)


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
        store, inner, place = source, "", str(source)
    elif not isinstance(source, (str, os.PathLike)):
        message = f"the image is a {type(source).__name__}: a path, an address or a zarr object is accepted"
        raise InputError(message)
    else:
        store, inner, place = _found(files.absolute(source), read_only=read_only, storage=storage)
    try:
        # consolidated metadata may be older than what it summarises
        return zarr.open(store=Gated(store), path=inner, mode="r" if read_only else "r+", use_consolidated=False)
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


def _found(place: str, *, read_only: bool, storage: Storage) -> tuple[Store, str, str]:
    """Return the store of what is at a place, and the path in it; InputError if there is none."""
    if not files.is_local(place):
        return open_store(place, read_only=read_only, storage=storage), "", place
    try:
        zipped = within(Path(place)) if read_only else None
        there = zipped is not None or Path(place).is_dir()
        what = "is a file" if not there and Path(place).exists() else "does not exist"
    except OSError as error:  # where looking is not allowed, or no name is so long
        what, there, zipped = f"cannot be opened ({os.strerror(error.errno or 0)})", False, None
    if zipped is not None:
        return (*open_zip(*zipped), place)
    if not there:
        message = f"{place} {what}: the directory of a Zarr array or OME-Zarr image is accepted"
        raise InputError(message)
    return open_store(place, read_only=read_only, storage=storage), "", place


def described(node: AnyArray | Group, level: int, channel: int | str | None) -> Found:
    """Return what an opened array or group says of `level`; InputError if it is no image or has no such level.

    `channel` is what was chosen: it tells the colours of an array without names from a stack.
    """
    import zarr

    return _from_group(node, level, channel) if isinstance(node, zarr.Group) else _from_array(node, level, channel)


def _from_group(group: Group, level: int, channel: int | str | None) -> Found:
    ome = _ome(group)
    try:
        document = dict(ome["multiscales"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        paths = list(islice(_collected(group, ome), 11))
        if len(paths) != 1:
            raise InputError(_what_is_there(group, ome, paths)) from error
        return described(child(group, paths[0]), level, channel)
    version = str(ome.get("version") or document.get("version") or ("0.5" if "ome" in group.attrs else "0.4"))
    if version in ("0.1", "0.2") and "axes" not in document:
        return _from_levels(group, document, level, channel)
    return _from_ome(group, ome, document, version, level)


def _from_levels(group: Group, document: dict[str, Any], level: int, channel: int | str | None) -> Found:
    """Return a pyramid of the first versions of the format, which say nothing of axes; tifffile makes them."""
    datasets = document.get("datasets")
    paths = (
        [str(dataset.get("path")) for dataset in datasets if isinstance(dataset, dict)]
        if isinstance(datasets, list)
        else []
    )
    place = place_of(group)
    if not paths:
        message = f"{place} names no levels: a multiscale image with datasets is accepted"
        raise InputError(message)
    _check_level(place, level, paths)
    ndim = getattr(child(group, paths[0]), "ndim", 0)
    arrays = tuple(member(group, path, ndim) for path in paths)
    _check_sizes(place, paths, arrays)
    finest = _from_array(arrays[0], 0, channel)
    # an axis of another length may have another name there, but the order is that of the finest
    return finest._replace(arrays=arrays)


def _check_level(place: str, level: int, paths: list[str]) -> None:
    if not 0 <= level < len(paths):
        there = ", ".join(f"{i} ({path})" for i, path in enumerate(paths))
        message = f"{place} has no level {level}: {there} is accepted"
        raise InputError(message)


def _check_sizes(place: str, paths: list[str], arrays: tuple[AnyArray, ...]) -> None:
    for i, (finer, coarser) in enumerate(pairwise(arrays), 1):
        if any(n > m for n, m in zip(coarser.shape, finer.shape, strict=True)):
            message = (
                f"{place} has level {i} ({paths[i]}) of shape {list(coarser.shape)} after one of shape "
                f"{list(finer.shape)}: levels from the largest to the smallest are accepted"
            )
            raise InputError(message)


def _ome(group: Group) -> dict[str, Any]:
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _from_ome(group: Group, ome: dict[str, Any], document: dict[str, Any], version: str, level: int) -> Found:
    place = place_of(group)
    if coordinates.has_coordinate_systems(version):
        document = coordinates.reduced(document, place)
    multiscale = validated("Multiscale", document, version, place)
    datasets, axes = multiscale.datasets, multiscale.axes
    names = tuple({"time": "t", "channel": "c"}.get(axis.type, axis.name) for axis in axes)
    if not set(names) <= {"t", "c", *SPATIAL}:
        message = f"{place} has axes ({', '.join(names)}): axes out of t, c, z, y, x are accepted"
        raise InputError(message)
    paths = [dataset.path for dataset in datasets]
    _check_level(place, level, paths)
    arrays = tuple(member(group, path, len(names)) for path in paths)
    _check_sizes(place, paths, arrays)
    # those of the level come first, then those that all levels share
    steps = (*datasets[level].coordinateTransformations, *(multiscale.coordinateTransformations or ()))
    scale, translation = coordinates.combined(((s.type, list(getattr(s, s.type))) for s in steps), len(names))
    if not all(0 < s < np.inf for s in scale) or not all(np.isfinite(translation)):
        message = f"{place} has scale {scale} and translation {translation}: positive and finite numbers are accepted"
        raise InputError(message)
    labels = _labels(ome.get("omero"))
    units = tuple(axis.unit for axis in axes)
    nodata: tuple[float, ...] = ()
    own = conventions.attributes_of(arrays[level])
    if any(name in own for name in conventions.PACKING):  # or a fill value is black
        nodata = conventions.left_out(own, arrays[level].dtype, place)
    return Found(arrays, names, True, tuple(scale), tuple(translation), units, labels, True, nodata)


def _labels(omero: Any) -> tuple[str, ...]:
    # display hints, which many files write without what the specification demands
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return tuple(str(c.get("label")) for c in channels if isinstance(c, dict)) if isinstance(channels, list) else ()


def validated(model: str, document: dict[str, Any], version: str, place: str) -> Any:
    """Return `document` as the OME-Zarr model of that name; InputError says what is wrong with it."""
    from yaozarrs import v04, v05

    if version not in ("0.4", "0.5") and not coordinates.has_coordinate_systems(version):
        message = f"{place} is OME-Zarr {version}: 0.4, 0.5 and 0.6 are accepted"
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
    array = child(group, path)
    shape = getattr(array, "shape", None)
    if shape is None or len(shape) != ndim:
        what = "a group" if shape is None else f"of shape {list(shape)}"
        message = f"{place_of(group)}/{path} is {what}: an array of {ndim} axes is accepted"
        raise InputError(message)
    return array  # type: ignore[return-value]


def child(group: Group, path: str) -> AnyArray | Group:
    """Return what is at `path` within `group`; InputError if nothing is, or if it leads out of the group."""
    place = place_of(group)
    if not is_inside(path) or ":" in path:
        message = f"{place} names a level {path!r}: a relative path inside of the image is accepted"
        raise InputError(message)
    try:
        return group[path]
    except BignccError:
        raise
    except Exception as error:  # as in open_node
        message = f"{place}/{path} cannot be opened: a readable Zarr array is accepted ({in_one_line(error)})"
        raise InputError(message) from error


def _collected(group: Group, ome: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of the images of a collection, as far as they can be found."""
    try:
        if "plate" in ome:
            for well in ome["plate"]["wells"]:
                fields = child(group, str(well["path"]))
                yield from (f"{well['path']}/{field}" for field in _collected(fields, _ome(fields)))  # type: ignore[arg-type]
        elif "well" in ome:
            yield from (str(image["path"]) for image in ome["well"]["images"])
        elif "labels" in ome:
            yield from map(str, ome["labels"])
        elif ome.get("bioformats2raw.layout") == 3:
            series = _ome(group["OME"]).get("series") if "OME" in group else None  # type: ignore[arg-type]
            numbers = takewhile(group.__contains__, map(str, count()))
            yield from numbers if series is None else map(str, series)
    except Exception:  # as in open_node; what is there is said then
        return


def _what_is_there(group: Group, ome: dict[str, Any], paths: list[str]) -> str:
    kinds = {"plate": "an HCS plate", "well": "a well of an HCS plate", "labels": "a list of label images"}
    kinds["bioformats2raw.layout"] = "a bioformats2raw collection"
    kind = next((kinds[key] for key in kinds if key in ome), "a Zarr group without OME-Zarr image")
    if paths:
        each = ", ".join(f"{place_of(group)}/{path}" for path in paths[:10])
        return f"{place_of(group)} is {kind} of several images: {each}{', ...' * (len(paths) > 10)} are accepted"
    try:
        names = list(islice(_members(group), 11))
    except Exception as error:  # as in open_node
        names = [f"something that cannot be opened ({in_one_line(error)})"]
    there = ", ".join(names[:10] or ["nothing"]) + ", ..." * (len(names) > 10)
    return f"{place_of(group)} is {kind} that holds {there}: the path of one image or array is accepted"


def _members(group: Group) -> Iterator[str]:
    """Yield the names of what a group holds, with a slash those of groups."""
    from zarr.core.sync import sync

    async def listed() -> list[str]:
        return [name async for name in group.store_path.store.list_dir(group.path)]

    async def holds(name: str, document: str) -> bool:
        return await (group.store_path / name / document).exists()

    for name in sorted(sync(listed())):
        if any(sync(holds(name, document)) for document in ("zarr.json", ".zarray", ".zgroup")):
            try:
                node = child(group, name)
            except InputError:  # as of arrays of strings
                yield name
            else:
                yield name if hasattr(node, "shape") else f"{name}/"


def _from_array(array: AnyArray, level: int, channel: int | str | None) -> Found:
    place, shape = place_of(array), array.shape
    if level != 0:
        message = f"{place} is an array and has no level {level}: 0 is accepted"
        raise InputError(message)
    given = (
        getattr(array.metadata, "dimension_names", None)
        or conventions.attributes_of(array).get("_ARRAY_DIMENSIONS")
        or ()
    )
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
    return Found((array,), axes, named, (1.0,) * n, (0.0,) * n, (None,) * n, (), False, _nodata(array))


def _nodata(array: AnyArray) -> tuple[float, ...]:
    """Return the grey levels that the attributes of an array call none; xarray keeps one in the fill value of v2."""
    attributes, fill = conventions.attributes_of(array), array.fill_value
    found = conventions.left_out(attributes, array.dtype, place_of(array))
    if array.metadata.zarr_format != 2 or fill is None or array.dtype.kind not in "iuf" or np.isnan(fill):
        return found
    # a fill value of 0 is what every writer gives, and black
    packed, from_xarray = any(name in attributes for name in conventions.PACKING), "_ARRAY_DIMENSIONS" in attributes
    meant = packed or (from_xarray and fill != 0)
    return tuple(dict.fromkeys((*found, float(fill)))) if meant else found
