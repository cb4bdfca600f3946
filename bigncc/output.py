"""Maps out: an OME-Zarr image whose every object can be proven.

Nothing here deletes or replaces data that exists: metadata is put only where there is none, and a
block is written only to the objects that its caller owns.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigncc.errors import InputError, RefusedError
from bigncc.metadata import local_path, member, open_node, place_of, validated
from bigncc.storage import open_image
from bigncc.store import explained, get
from bigncc.summary import STATUS
from bigncc.tiles import Roi, Shape, roi_shape

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
_TORN = re.compile(r"zarr\.[0-9a-f]{32}\.partial")


class StorageFault(OSError):
    """A stored object is not what was written."""


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
    """

    shape: Shape
    chunks: Shape
    axes: tuple[str, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    name: str


@dataclass(frozen=True)
class Output:
    """An open output: `maps` holds "ncc" and "status", `attributes` what bigncc keeps in it."""

    url: str
    maps: dict[str, AnyArray]
    attributes: dict[str, Any]
    layout: Layout


def create_output(url: str | os.PathLike[str], layout: Layout, attributes: dict[str, Any]) -> None:
    """Put the metadata of an output where there is none.

    Whoever comes makes the same bytes from the same arguments, and what is there stays: a second
    call, or one after a kill, adds what is missing.

    Parameters
    ----------
    url : path
        A local directory: absent, empty, or an output of the same plan.
    layout : Layout
        Of every map.
    attributes : dict
        With ``plan_id`` and ``state``; becomes the group's attribute ``bigncc``.

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
    from zarr.storage import LocalStore

    path = local_path(url)
    documents = _documents(layout, attributes, str(path))
    with explained(str(path)):
        _refuse_foreign(path, str(attributes["plan_id"]))
        store = LocalStore(path)
        for key, document in documents.items():  # the group first: from then on the directory is ours
            if not sync(store.exists(key)):
                sync(store.set_if_not_exists(key, document))
            if not sync(store.exists(key)):  # zarr keeps quiet about a file where a directory should be
                message = f"{path}/{key} cannot be created: a directory that only bigncc writes to is accepted"
                raise RefusedError(message)


def check_vacant(url: str | os.PathLike[str]) -> None:
    """Raise RefusedError unless `url` is a path that does not exist or an empty directory."""
    path = local_path(url)
    with explained(path):
        vacant = _vacant(path)
    if not vacant:
        message = f"{path} exists: a path that does not exist or an empty directory is accepted"
        raise RefusedError(message)
    for parent in path.parents:
        if _is_image(parent):
            message = f"{path} lies inside of the image {parent}: a path outside of images is accepted"
            raise InputError(message)


def _is_image(path: Path) -> bool:
    """Say whether `path` is a Zarr array or an OME-Zarr image, in whose files nothing of ours may lie."""
    metadata = b"".join(get(path / name) or b"" for name in ("zarr.json", ".zarray", ".zattrs"))
    # what only an array of v3, an array of v2, or an image says
    return any(word in metadata for word in (b'"array"', b'"compressor"', b'"multiscales"'))


def _vacant(path: Path) -> bool:
    if not path.exists():
        return True
    # a kill within the very first write leaves nothing but zarr's temporary file
    return path.is_dir() and all(_TORN.fullmatch(entry.name) for entry in path.iterdir())


def _refuse_foreign(path: Path, plan_id: str) -> None:
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
    for name, dtype, fill in (("0", "float32", np.nan), ("labels/status/0", "uint8", 0)):
        root.create_array(
            name,
            shape=layout.shape,
            chunks=layout.chunks,
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
    arrays = {"ncc": member(group, "0", len(image.axes)), "status": member(group, "labels/status/0", len(image.axes))}
    # a chunk that is all fill must exist too, or it could not be told from one that was never computed
    maps = {name: array.with_config({"write_empty_chunks": True}) for name, array in arrays.items()}
    attributes: dict[str, Any] = group.attrs.asdict()
    name = str(attributes["ome"]["multiscales"][0].get("name"))
    shape, chunks = image.array.shape, image.array.chunks
    layout = Layout(shape, chunks, image.axes, image.scale, image.translation, image.units, name)
    return Output(place_of(group), maps, attributes["bigncc"], layout)


def update_attributes(url: str | os.PathLike[str], attributes: dict[str, Any]) -> None:
    """Replace what bigncc keeps in the output at `url`, in one rename; other attributes stay."""
    group = _own_group(url, read_only=False)
    with explained(place_of(group)):
        group.attrs["bigncc"] = json.loads(json.dumps(attributes, sort_keys=True))


def write(array: AnyArray, roi: Roi, block: NDArray[Any]) -> None:
    """Write `block` to `roi`, which must be whole objects of `array`.

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        Pixels; each start is a multiple of the object's extent, each stop too or the array's end.
    block : ndarray
        Of the shape of `roi` and the dtype of `array`.

    Raises
    ------
    ValueError
        If it is not so: two writers within one object lose each other's pixels.
    DoesNotFitError
        If the disk is full or has become read-only.
    """
    _object_indices(array, roi)
    if block.shape != roi_shape(roi) or block.dtype != array.dtype:
        message = f"a block {block.dtype} {block.shape} is not {array.dtype} {roi_shape(roi)}"
        raise ValueError(message)
    with explained(place_of(array), midway=True):
        array[roi] = block


def stored(array: AnyArray, roi: Roi) -> Iterator[bytes]:
    """Yield the stored objects of `roi` in row-major order, each proven by its checksum.

    Parameters
    ----------
    array : zarr.Array
        A map of an open output.
    roi : tuple of slice
        As for `write`.

    Yields
    ------
    bytes
        The whole object, the checksum (crc32c, 4 bytes, little-endian) included.

    Raises
    ------
    StorageFault
        If an object is absent, empty or differs from its checksum.
    """
    import google_crc32c
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    for index in _object_indices(array, roi):
        target = array.store_path / array.metadata.encode_chunk_key(index)
        found = sync(target.store.get(target.path, default_buffer_prototype()))
        data = b"" if found is None else found.to_bytes()
        if len(data) <= 4 or google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
            what = "is absent" if found is None else f"({len(data)} bytes) differs from its checksum"
            message = f"{str(target).removeprefix('file://')} {what}"
            raise StorageFault(message)
        yield data


def _object_indices(array: AnyArray, roi: Roi) -> Iterator[Shape]:
    extent = array.shards or array.chunks
    whole = [
        0 <= s.start < s.stop <= n and s.start % e == 0 and (s.stop % e == 0 or s.stop == n)
        for s, e, n in zip(roi, extent, array.shape, strict=True)
    ]
    if not all(whole):
        message = f"{roi} is not made of whole objects {extent} of an array {array.shape}"
        raise ValueError(message)
    return product(*(range(s.start // e, -(-s.stop // e)) for s, e in zip(roi, extent, strict=True)))
