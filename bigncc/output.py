"""Maps out: an OME-Zarr image whose every object can be proven.

Nothing here deletes or replaces data that exists: metadata is put only where there is none, and a
block is written only to the objects that its caller owns.
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigncc import account
from bigncc.errors import InputError, RefusedError
from bigncc.gate import Gated
from bigncc.journal import sealed
from bigncc.layout import FURTHER, GROUPS, OBJECT, V2, Layout, documents_of, folders_of, map_name, metadata_of
from bigncc.metadata import local_path, member, open_node, open_store, place_of, validated
from bigncc.nodes import components
from bigncc.storage import open_image, within_bounds
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

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Group
    from zarr.types import AnyArray


@dataclass(frozen=True)
class Output:
    """An open output.

    Parameters
    ----------
    url : str
        Where it is.
    maps : dict
        The stored arrays, finest level first: "ncc" and "status", "ncc/1" and "status/1", and so on, and further maps.
    attributes : dict
        What bigncc keeps in it.
    layout : Layout
        Of the finest stored level by itself.
    components : tuple of str
        Those of `maps` whose pixels are nodes.
    """

    url: str
    maps: dict[str, AnyArray]
    attributes: dict[str, Any]
    layout: Layout
    components: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The maps that have levels."""
        own = {name.partition("/")[0]: None for name in self.maps}
        return tuple(name for name in own if name not in self.components)

    def level(self, number: int) -> dict[str, AnyArray]:
        """Return the maps of a stored level."""
        return {name: self.maps[map_name(name, number)] for name in self.names}

    @property
    def levels(self) -> tuple[int, ...]:
        """The stored levels, finest first."""
        return tuple(int(name.partition("/")[2] or 0) for name in self.maps if name.startswith("ncc"))


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
    documents = documents_of(layout, attributes, path)
    with explained(path):
        if not (repair and _broken(path)):
            _refuse_foreign(path, str(attributes["plan_id"]))
        store = Gated(open_store(path, read_only=False))
        for key, document in documents.items():  # the group first: from then on the directory is ours
            store.check(key)
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
    return all(_document(f"{path}/{name}") is None for name in ("zarr.json", ".zattrs"))


def _document(path: str) -> dict[str, Any] | None:
    """Return a metadata file, or None where there is none or it is no JSON object."""
    try:
        found = json.loads(get(path) or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parted(name: str, document: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return what a metadata file says without the attributes, and these; whoever adds one of his own does no harm."""
    if name.endswith("zarr.json"):
        return {key: value for key, value in document.items() if key != "attributes"}, document.get("attributes", {})
    return ({}, document) if name.endswith(".zattrs") else (document, {})


def _says(path: str, document: Any) -> bool:
    """Say whether a metadata file says at least what `document` does."""
    found = _document(path)
    if found is None:
        return False
    rest, attributes = _parted(path, found)
    wanted, mine = _parted(path, json.loads(document.to_bytes()))
    return isinstance(attributes, dict) and rest == wanted and {**attributes, **mine} == attributes


def _restored(path: str, document: Any) -> bytes:
    """Return a metadata file as it was written, with the attributes that somebody else has added since."""
    wanted, mine = _parted(path, json.loads(document.to_bytes()))
    _, theirs = _parted(path, _document(path) or {})
    attributes = {**(theirs if isinstance(theirs, dict) else {}), **mine}
    if path.endswith("/zarr.json"):
        wanted = {key: attributes if key == "attributes" else wanted[key] for key in json.loads(document.to_bytes())}
    return json.dumps(attributes if path.endswith("/.zattrs") else wanted, indent=2).encode()


def altered(url: str | os.PathLike[str], layout: Layout, attributes: dict[str, Any]) -> list[str]:
    """Return the metadata files of an output that do not say what `create_output` would."""
    path = absolute(url)
    return [
        f"{path}/{key}"
        for key, document in documents_of(layout, attributes, path).items()
        if not _says(f"{path}/{key}", document)
    ]


def surplus(url: str | os.PathLike[str], layout: Layout) -> list[str]:
    """Return the files of an output that are no object of it, no metadata and nothing unfinished."""
    path = absolute(url)
    return [f"{path}/{name}" for name in names(path) if not _ours(name, layout)]


def _ours(name: str, layout: Layout | None) -> bool:
    """Say whether bigncc makes a file of this name, in an output of this layout or in any."""
    if PARTIAL.fullmatch(name):
        return True
    if layout is not None:
        return name in layout.metadata or layout.holds(name)
    place, _, file = name.rpartition("/")
    is_array = OBJECT.fullmatch(f"{place}/0") is not None and place.count("/") in (0, 2)
    is_group = f"{place}/" in {"/", *GROUPS, "maps/"} or re.fullmatch(f"maps/(?:{FURTHER})", place) is not None
    if file in V2:
        return is_group or (is_array and file == ".zattrs")
    if file in ("zarr.json", ".zarray"):
        return is_array or (file == "zarr.json" and is_group)
    return OBJECT.fullmatch(name) is not None


def check_removable(url: str | os.PathLike[str], plan_id: str, layout: Layout | None) -> None:
    """Raise RefusedError unless there is nothing but the output of this plan, whose layout may be known."""
    path = absolute(url)
    with explained(path):
        if exists(path) and not _broken(path):
            _refuse_foreign(path, plan_id)
        for name in names(path):
            if not _ours(name, layout):
                message = f"{path}/{name} was not made by bigncc: an output with nothing else in it is accepted"
                raise RefusedError(message)


def remove_output(url: str | os.PathLike[str]) -> None:
    """Remove an output; `check_removable` was called."""
    path = absolute(url)
    with explained(path):
        # the group last: as long as there is anything, it says whose it is
        clear(path, ".zattrs" if exists(f"{path}/.zattrs") else "zarr.json")


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
    documents = [_document(f"{path}/{name}") for name in ("zarr.json", ".zattrs")]
    said = [(documents[0] or {}).get("attributes"), documents[1]]
    own = [each["bigncc"] for each in said if isinstance(each, dict) and isinstance(each.get("bigncc"), dict)]
    if not own or "plan_id" not in own[0]:
        message = f"{path} exists and is no output of bigncc: {accepted}"
        raise RefusedError(message)
    if (found := own[0]["plan_id"]) != plan_id:
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
    image, _ = metadata_of(layout)
    validated("Image", image["ome"], "0.5", str(path))
    with explained(str(path)):
        check_vacant(path)
        group = zarr.create_group(LocalStore(path), attributes=image)
        group.create_array("0", data=samples, chunks=chunks, dimension_names=axes)


def _own_group(url: str | os.PathLike[str], *, read_only: bool) -> Group:
    import zarr

    node = open_node(url, read_only=read_only)
    if not isinstance(node, zarr.Group) or not isinstance(node.attrs.get("bigncc"), dict):
        message = f"{place_of(node)} is no output of bigncc: a directory that bigncc made is accepted"
        raise InputError(message)
    return node


def open_output(url: str | os.PathLike[str], *, proven: bool = True) -> Output:
    """Open an output for reading and writing; InputError if it is none, lacks an array, or says something else.

    `proven` is whether what it says of itself must be what was written; who has its plan need not believe it.
    """
    group = _own_group(url, read_only=False)
    image = open_image(group)
    attributes: dict[str, Any] = group.attrs.asdict()
    own = attributes["bigncc"]
    unchanged = "checksum" not in own or sealed(own) == own
    if proven and not (unchanged and account.is_of_output(own)):
        message = (
            f"what {place_of(group)} says of itself is not what was written there: bigncc run --repair is accepted"
        )
        raise InputError(message)
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    levels = [str(dataset["path"]) for dataset in multiscale["datasets"]]
    if not all(level.isdecimal() for level in levels):
        message = f"{place_of(group)} names levels {', '.join(levels)}: those that bigncc made, numbers, are accepted"
        raise InputError(message)
    asked = _asked(own)
    nodes = components(image.axes[-asked[1] :]) if "shift" in asked[0] else ()
    folders = folders_of(asked[0], nodes)
    places = {map_name(m, int(level)): f"{folders[m]}{level}" for level in levels for m in folders if m not in nodes}
    places |= {name: f"{folders[name]}0" for name in nodes}
    arrays = {name: member(group, path, len(image.axes)) for name, path in places.items()}
    # a chunk that is all fill must exist too, or it could not be told from one that was never computed
    maps = {name: within_bounds(array).with_config({"write_empty_chunks": True}) for name, array in arrays.items()}
    shape, chunks = image.array.shape, image.array.chunks
    shards, name = next(iter(maps.values())).shards, str(multiscale.get("name"))
    version = "0.4" if "ome" not in attributes else "0.5"
    layout = Layout(
        shape, chunks, image.axes, image.scale, image.translation, image.units, name, shards, version=version
    )
    return Output(place_of(group), maps, own, layout, nodes)


def _asked(own: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return which maps an output has, by what it says of itself, and the number of windowed axes.

    What it says may have been changed; then it is found out that its arrays are not those of its plan.
    """
    config = own.get("config")
    if not isinstance(config, dict):
        return (), 2
    window, maps = config.get("window"), config.get("maps")
    size = window.get("size") if isinstance(window, dict) else None
    size = size[0] if isinstance(size, list) and size and isinstance(size[0], list) else size
    return tuple(maps) if isinstance(maps, list) else (), 3 if isinstance(size, list) and len(size) == 3 else 2


def update_attributes(url: str | os.PathLike[str], attributes: dict[str, Any]) -> None:
    """Replace what bigncc keeps in the output at `url`, in one rename; other attributes stay."""
    group = _own_group(url, read_only=False)
    own = json.loads(json.dumps(attributes, sort_keys=True))
    with explained(place_of(group)):
        place = f"{place_of(group)} cannot be written"
        patiently(lambda: group.attrs.__setitem__("bigncc", own), place, {errno.ENOENT})
