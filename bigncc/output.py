"""Maps out: an OME-Zarr image whose every object can be proven.

Nothing here deletes or replaces data that exists: metadata is put only where there is none, and a
block is written only to the objects that its caller owns.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigncc.errors import InputError, RefusedError
from bigncc.metadata import local_path, member, open_node, open_store, place_of, validated
from bigncc.storage import open_image
from bigncc.store import (
    PARTIAL,
    absolute,
    check_output,
    clear,
    exists,
    explained,
    get,
    is_local,
    names,
    parents,
    patiently,
    put,
)
from bigncc.summary import STATUS
from bigncc.tiles import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Group
    from zarr.types import AnyArray

# RGBA per status: a viewer shows only the pixels that have no value
COLOURS = (
    (0, 0, 0, 255),
    (0, 0, 0, 0),
    (128, 128, 128, 255),
    (86, 180, 233, 255),
    (230, 159, 0, 255),
    (0, 114, 178, 255),
    (204, 121, 167, 255),
    (64, 64, 64, 255),
    (213, 94, 0, 255),
)
ARRAYS = {"ncc": "0", "status": "labels/status/0"}
"""Where the maps are in an output."""

METADATA = ("zarr.json", *(f"{name}/zarr.json" for name in ("labels", "labels/status", *ARRAYS.values())))
"""Every file of an output that is not an object of its maps."""


@dataclass(frozen=True)
class Layout:
    """What the maps look like on disk.

    Parameters
    ----------
    shape, chunks : tuple of int
        Per axis, pixels.
    axes : tuple of str
        Names out of t, c, z, y, x.
    scale, translation : tuple of float
        Per axis, in `units`.
    units : tuple of str or None
        Per axis.
    name : str
        What a viewer shows.
    shards : tuple of int or None
        Pixels per axis of a stored object, if that holds several chunks.
    """

    shape: Shape
    chunks: Shape
    axes: tuple[str, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    name: str
    shards: Shape | None = None

    @property
    def objects(self) -> Shape:
        """Pixels per axis of a stored object."""
        return self.shards or self.chunks


@dataclass(frozen=True)
class Output:
    """An open output: `maps` holds "ncc" and "status", `attributes` what bigncc keeps in it."""

    url: str
    maps: dict[str, AnyArray]
    attributes: dict[str, Any]
    layout: Layout


def create_output(
    url: str | os.PathLike[str], layout: Layout, attributes: dict[str, Any], *, repair: bool = False
) -> None:
    """Put the metadata of an output where there is none.

    Whoever comes makes the same bytes from the same arguments, and what is there stays: a second
    call, or one after a kill, adds what is missing.

    Parameters
    ----------
    url : path or address
        Absent, empty, or an output of the same plan.
    layout : Layout
        Of every map.
    attributes : dict
        With ``plan_id`` and ``state``; becomes the group's attribute ``bigncc``.
    repair : bool
        Whether metadata that says something else is written anew.

    Raises
    ------
    RefusedError
        If something else is there; nothing was touched.
    InputError
        If the directory cannot be written or the layout cannot be said in OME-Zarr.
    DoesNotFitError
        If the disk is full.
    """
    from zarr.core.sync import sync

    path = absolute(url)
    documents = _documents(layout, attributes, path)
    with explained(path):
        if not (repair and _broken(path)):
            _refuse_foreign(path, str(attributes["plan_id"]))
        store = open_store(path, read_only=False)
        for key, document in documents.items():  # the group first: from then on the directory is ours
            if repair and not _says(f"{path}/{key}", document):
                put(f"{path}/{key}", _restored(f"{path}/{key}", document))
            if not sync(store.exists(key)):

                def create(key: str = key, document: Any = document) -> None:
                    sync(store.set_if_not_exists(key, document))

                patiently(create, f"{path}/{key} cannot be written")
            if not sync(store.exists(key)):  # zarr keeps quiet about a file where a directory should be
                message = f"{path}/{key} cannot be created: a directory that only bigncc writes to is accepted"
                raise RefusedError(message)


def check_vacant(url: str | os.PathLike[str]) -> None:
    """Raise RefusedError unless `url` is a place where nothing is, or an empty directory."""
    check_output(url)
    path = absolute(url)
    with explained(path):
        vacant = _vacant(path)
    if not vacant:
        message = f"{path} exists: a path that does not exist or an empty directory is accepted"
        raise RefusedError(message)
    for parent in parents(path):
        if _is_image(parent):
            message = f"{path} lies inside of the image {parent}: a path outside of images is accepted"
            raise InputError(message)


def _is_image(path: str) -> bool:
    """Say whether `path` is a Zarr array or an OME-Zarr image, in whose files nothing of ours may lie."""
    try:
        metadata = b"".join(get(f"{path}/{name}") or b"" for name in ("zarr.json", ".zarray", ".zattrs"))
    except InputError:  # who may write to a folder of a bucket need not be allowed to read all of it
        return False
    # what only an array of v3, an array of v2, or an image says
    return any(word in metadata for word in (b'"array"', b'"compressor"', b'"multiscales"'))


def _broken(path: str) -> bool:
    """Say whether the group's metadata is gone, or no JSON, which nobody else's image could be."""
    try:
        return not isinstance(json.loads(get(f"{path}/zarr.json") or b""), dict)
    except ValueError:
        return True


def _says(path: str, document: Any) -> bool:
    """Say whether a metadata file says at least what `document` does."""
    try:
        found = json.loads(get(path) or b"")
    except ValueError:
        return False
    wanted = json.loads(document.to_bytes())
    if not isinstance(found, dict) or not isinstance(found.get("attributes", {}), dict):
        return False
    # whoever adds an attribute of his own does no harm
    mine = {key: value for key, value in found.get("attributes", {}).items() if key in wanted.get("attributes", {})}
    return {**found, "attributes": mine} == {**wanted, "attributes": wanted.get("attributes", {})}


def _restored(path: str, document: Any) -> bytes:
    """Return a metadata file as it was written, with the attributes that somebody else has added since."""
    wanted = json.loads(document.to_bytes())
    try:
        theirs = dict(json.loads(get(path) or b"")["attributes"])
    except (ValueError, KeyError, TypeError):
        theirs = {}
    return json.dumps({**wanted, "attributes": {**theirs, **wanted.get("attributes", {})}}, indent=2).encode()


def altered(url: str | os.PathLike[str], layout: Layout, attributes: dict[str, Any]) -> list[str]:
    """Return the metadata files of an output that do not say what `create_output` would."""
    path = absolute(url)
    return [
        f"{path}/{key}"
        for key, document in _documents(layout, attributes, path).items()
        if not _says(f"{path}/{key}", document)
    ]


def surplus(url: str | os.PathLike[str], layout: Layout) -> list[str]:
    """Return the files of an output that are no object of it, no metadata and nothing unfinished."""
    path = absolute(url)
    counts = tuple(-(-n // e) for n, e in zip(layout.shape, layout.objects, strict=True))
    return [f"{path}/{name}" for name in names(path) if not _ours(name, counts)]


def _ours(name: str, counts: Shape | None = None) -> bool:
    """Say whether bigncc makes a file of this name, in an output of `counts` objects per axis if that is known."""
    array, _, key = name.partition("/c/")
    place = key.split("/")
    is_object = array in ARRAYS.values() and all(part.isdecimal() and part == str(int(part)) for part in place)
    if is_object and counts is not None:
        is_object = len(place) == len(counts) and all(int(part) < n for part, n in zip(place, counts, strict=True))
    return is_object or name in METADATA or PARTIAL.fullmatch(name) is not None


def check_removable(url: str | os.PathLike[str], plan_id: str) -> None:
    """Raise RefusedError unless there is nothing but the output of this plan."""
    path = absolute(url)
    with explained(path):
        if exists(path) and not _broken(path):
            _refuse_foreign(path, plan_id)
        for name in names(path):
            if not _ours(name):
                message = f"{path}/{name} was not made by bigncc: an output with nothing else in it is accepted"
                raise RefusedError(message)


def remove_output(url: str | os.PathLike[str]) -> None:
    """Remove an output; `check_removable` was called."""
    path = absolute(url)
    with explained(path):
        # the group last: as long as there is anything, it says whose it is
        clear(path, "zarr.json")


def sweep(url: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed had not finished writing; in an object store nothing is half there."""
    path = absolute(url)
    for entry in Path(path).rglob("*.partial") if is_local(path) else ():
        if PARTIAL.fullmatch(entry.name):
            entry.unlink(missing_ok=True)


def _vacant(path: str) -> bool:
    if not exists(path):
        return True
    # a kill within the very first write leaves nothing but zarr's temporary file
    folder = Path(path)
    return is_local(path) and folder.is_dir() and all(PARTIAL.fullmatch(entry.name) for entry in folder.iterdir())


def _refuse_foreign(path: str, plan_id: str) -> None:
    if _vacant(path):
        return
    accepted = "a path that does not exist, an empty directory or an output of the same plan is accepted"
    try:
        found = _own_group(path, read_only=True).attrs["bigncc"]["plan_id"]  # type: ignore[index, call-overload]
    except (InputError, KeyError) as error:
        message = f"{path} exists and is no output of bigncc: {accepted}"
        raise RefusedError(message) from error
    if found != plan_id:
        message = f"{path} belongs to plan {found} and not to plan {plan_id}: {accepted}"
        raise RefusedError(message)


def write_image(url: str | os.PathLike[str], samples: NDArray[Any], axes: tuple[str, ...], name: str) -> None:
    """Write an image that is in memory as OME-Zarr 0.5.

    Parameters
    ----------
    url : path
        A local directory, absent or empty.
    samples : ndarray
        Of shape ``[t, c, z] y, x``, as `axes` says.
    axes : tuple of str
        Names out of t, c, z, y, x.
    name : str
        What a viewer shows.

    Raises
    ------
    RefusedError
        If something is there; nothing was touched.
    """
    import zarr
    from zarr.storage import LocalStore

    path, n = local_path(url), samples.ndim
    chunks = tuple(
        min(length, 512) if axis in ("y", "x") else 1 for axis, length in zip(axes, samples.shape, strict=True)
    )
    layout = Layout(samples.shape, chunks, axes, (1.0,) * n, (0.0,) * n, (None,) * n, name)
    image, _ = _metadata(layout)
    validated("Image", image, "0.5", str(path))
    with explained(str(path)):
        check_vacant(path)
        group = zarr.create_group(LocalStore(path), attributes={"ome": image})
        group.create_array("0", data=samples, chunks=chunks, dimension_names=axes)


def _metadata(layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what OME-Zarr says of the map and of its status."""
    kinds = {"t": "time", "c": "channel"}
    axes: list[dict[str, str]] = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({"unit": unit} if unit else {})
        for axis, unit in zip(layout.axes, layout.units, strict=True)
    ]
    steps = [
        {"type": "scale", "scale": list(layout.scale)},
        {"type": "translation", "translation": list(layout.translation)},
    ]
    multiscale = {"name": layout.name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    label = {
        "colors": [{"label-value": code, "rgba": list(rgba)} for code, rgba in enumerate(COLOURS)],
        "properties": [{"label-value": code, "name": name} for code, name in enumerate(STATUS)],
        "source": {"image": "../../"},
    }
    image = {"version": "0.5", "multiscales": [multiscale]}
    return image, {"version": "0.5", "multiscales": [{**multiscale, "name": "status"}], "image-label": label}


def _documents(layout: Layout, attributes: dict[str, Any], place: str) -> dict[str, Any]:
    """Return every metadata file by its key, made in memory so that creating it is a plain put."""
    import zarr
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
    from zarr.storage import MemoryStore

    image, status = _metadata(layout)
    validated("LabelImage", status, "0.5", place)
    documents: dict[str, Any] = {}
    own = json.loads(json.dumps(attributes, sort_keys=True))
    root = zarr.create_group(MemoryStore(documents), attributes={"ome": image, "bigncc": own})
    root.create_group("labels", attributes={"ome": {"version": "0.5", "labels": ["status"]}})
    root.create_group("labels/status", attributes={"ome": status})
    for name, dtype, fill in (("ncc", "float32", np.nan), ("status", "uint8", 0)):
        root.create_array(
            ARRAYS[name],
            shape=layout.shape,
            chunks=layout.chunks,
            shards=layout.shards,
            dtype=dtype,
            fill_value=fill,
            dimension_names=layout.axes,
            serializer=BytesCodec(),
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        )
    return documents


def _own_group(url: str | os.PathLike[str], *, read_only: bool) -> Group:
    import zarr

    node = open_node(url, read_only=read_only)
    if not isinstance(node, zarr.Group) or not isinstance(node.attrs.get("bigncc"), dict):
        message = f"{place_of(node)} is no output of bigncc: a directory that bigncc made is accepted"
        raise InputError(message)
    return node


def open_output(url: str | os.PathLike[str]) -> Output:
    """Open an output for reading and writing; InputError if it is none or lacks an array."""
    group = _own_group(url, read_only=False)
    image = open_image(group)
    arrays = {name: member(group, key, len(image.axes)) for name, key in ARRAYS.items()}
    # a chunk that is all fill must exist too, or it could not be told from one that was never computed
    maps = {name: array.with_config({"write_empty_chunks": True}) for name, array in arrays.items()}
    attributes: dict[str, Any] = group.attrs.asdict()
    name = str(attributes["ome"]["multiscales"][0].get("name"))
    shape, chunks = image.array.shape, image.array.chunks
    shards = arrays["ncc"].shards
    layout = Layout(shape, chunks, image.axes, image.scale, image.translation, image.units, name, shards)
    return Output(place_of(group), maps, attributes["bigncc"], layout)


def update_attributes(url: str | os.PathLike[str], attributes: dict[str, Any]) -> None:
    """Replace what bigncc keeps in the output at `url`, in one rename; other attributes stay."""
    group = _own_group(url, read_only=False)
    own = json.loads(json.dumps(attributes, sort_keys=True))
    with explained(place_of(group)):
        place = f"{place_of(group)} cannot be written"
        patiently(lambda: group.attrs.__setitem__("bigncc", own), place, {errno.ENOENT})
