"""Images in: Zarr and OME-Zarr, checked before a pixel is read."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np

from bigncc.errors import InputError
from bigncc.tiles import Roi, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Group
    from zarr.abc.store import Store
    from zarr.types import AnyArray

    Source = str | os.PathLike[str] | AnyArray | Group | Store

SPATIAL = ("z", "y", "x")
GREY = "grey"
# what an array without names is taken for, and what it is if its last axis is said to be colours
DEFAULT_AXES = {2: ("y", "x"), 3: SPATIAL, 4: ("c", *SPATIAL), 5: ("t", "c", *SPATIAL)}
TIFF = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
COLOUR_AXES = {3: ("y", "x", "c"), 4: (*SPATIAL, "c"), 5: ("t", *SPATIAL, "c")}


class Readable(Protocol):
    """What an image or a field must be able to do; `chunks` is the unit of decoding."""

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def ndim(self) -> int: ...  # noqa: D102
    @property
    def chunks(self) -> Shape: ...  # noqa: D102
    def __getitem__(self, key: Roi, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Image:
    """An image of which not a pixel has been read yet.

    Parameters
    ----------
    array : Readable
        Samples in native byte order, after the choice of a channel.
    axes : tuple of str
        Names of the array's axes, out of t, c, z, y, x.
    named : bool
        Whether the file gave the names.
    scale, translation : tuple of float
        Per axis: extent of a pixel and centre of the first one, in `units`.
    units : tuple of str or None
        Per axis.
    levels : tuple of tuple of int
        Shapes of all levels of the pyramid.
    coarser : tuple of Readable
        What follows this level in the pyramid, with the same choice of a channel.
    url : str
        Absolute path, or "" for what is not on disk.
    level : int
        Which of `levels` this is.
    digest : str
        SHA-256 of what was selected: array metadata, axes, scale, translation, level and channel.
    calibrated : bool
        Whether the file gave scale and translation.
    """

    array: Readable
    axes: tuple[str, ...]
    named: bool
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    levels: tuple[Shape, ...]
    coarser: tuple[Readable, ...]
    url: str
    level: int
    digest: str
    calibrated: bool = True


@dataclass(frozen=True)
class View:
    """An array as the house wants it: native, C-ordered, one channel, faults with a place."""

    array: Any
    place: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: Shape
    axis: int | None = None
    channel: int | str | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        full: list[slice | int] = list(key)
        if self.axis is not None:
            full.insert(self.axis, self.channel if isinstance(self.channel, int) else slice(0, 3))
        try:
            block = np.asarray(self.array[tuple(full)])
        except MemoryError:
            raise
        except Exception as error:  # each codec and store has its own exceptions
            region = ", ".join(f"{s.start}:{s.stop}" for s in key)
            message = f"{self.place} cannot be read at [{region}]: {in_one_line(error)}"
            raise InputError(message) from error
        if self.channel == GREY and self.axis is not None:
            block = grey(np.moveaxis(block, self.axis, 0))
        return np.ascontiguousarray(block, dtype=self.dtype)


class _Found(NamedTuple):
    """The arrays of a pyramid and what its metadata says of a level, before the choice of a channel."""

    arrays: tuple[AnyArray, ...]
    axes: tuple[str, ...]
    named: bool
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    labels: tuple[str, ...]
    calibrated: bool


def open_image(source: Source, *, level: int = 0, channel: int | str | None = None) -> Image:
    """Open a Zarr array (v2, v3), an OME-Zarr image (0.4, 0.5), or a pyramid that says no more than its levels.

    Parameters
    ----------
    source : path, zarr.Array, zarr.Group or zarr Store
        A local path or a zarr object, such as what ``tifffile.imread(path, aszarr=True)`` returns.
    level : int
        Level of the pyramid, 0 being the finest.
    channel : int or str, optional
        Index or omero label on the axis c, or 'grey' for RGB and RGBA of uint8 or uint16:
        ``(77 R + 150 G + 29 B + 128) >> 8``. By default c stays as a batch.

    Returns
    -------
    Image
        Its array has shape ``[t, c, z] y, x``, in the order of the file.

    Raises
    ------
    InputError
        If it is no image, or none that can be correlated.
    """
    import zarr

    node = open_node(source)
    found = _from_group(node, level, channel) if isinstance(node, zarr.Group) else _from_array(node, level, channel)
    return _selected(found, place_of(node), level, channel)


def in_one_line(error: BaseException) -> str:
    """Return what another library complains of, short and without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def grey(rgb: NDArray[Any]) -> NDArray[Any]:
    """Return ``(77 R + 150 G + 29 B + 128) >> 8`` of three bands in the dtype of integers, and its like of floats."""
    mixed: NDArray[Any]
    if rgb.dtype.kind == "f":
        mixed = np.tensordot(np.array((77, 150, 29), rgb.dtype) / 256, rgb, 1)
    else:
        # 256 * 255 + 128 still fits 16 bits
        wide = np.uint16 if rgb.dtype.itemsize == 1 else np.uint32
        red, green, blue = (band.astype(wide) for band in rgb)
        mixed = ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(rgb.dtype)
    return mixed


def place_of(node: AnyArray | Group) -> str:
    """Return where an array or a group is, for a message: its absolute path if it is on disk."""
    text = str(node.store_path)
    return str(Path(text.removeprefix("file://")).absolute()) if text.startswith("file://") else text


def local_path(source: str | os.PathLike[str]) -> Path:
    """Return the absolute path; InputError if `source` is an address elsewhere."""
    text = os.fspath(source)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text:
        message = f"{text} is an address: a local path or a zarr object is accepted"
        raise InputError(message)
    return Path(text).absolute()


def open_node(source: Source, *, read_only: bool = True) -> AnyArray | Group:
    """Open what is at `source`, be it an array or a group; InputError if it is neither."""
    import zarr
    from zarr.abc.store import Store
    from zarr.storage import LocalStore

    if isinstance(source, (zarr.Array, zarr.Group)):
        return source
    if isinstance(source, Store):
        store, place = source, str(source)
    elif not isinstance(source, (str, os.PathLike)):
        message = f"the image is a {type(source).__name__}: a local path or a zarr object is accepted"
        raise InputError(message)
    else:
        path = local_path(source)
        place = str(path)
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            message = f"{place} {what}: the directory of a Zarr array or OME-Zarr image is accepted"
            raise InputError(message)
        store = LocalStore(path, read_only=read_only)
    try:
        # consolidated metadata may be older than what it summarises
        return zarr.open(store=store, mode="r" if read_only else "r+", use_consolidated=False)
    except Exception as error:  # mutated metadata raises anything from KeyError to RecursionError
        message = (
            f"{place} cannot be opened: a readable Zarr array or OME-Zarr image is accepted ({in_one_line(error)})"
        )
        raise InputError(message) from error


def _from_group(group: Group, level: int, channel: int | str | None) -> _Found:
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


def _from_levels(group: Group, document: dict[str, Any], level: int, channel: int | str | None) -> _Found:
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


def _from_ome(group: Group, ome: dict[str, Any], document: dict[str, Any], version: str, level: int) -> _Found:
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
    return _Found(arrays, names, True, tuple(scale), tuple(translation), units, labels, True)


def finest(group: Group) -> AnyArray:
    """Return the array of the finest level of an OME-Zarr image; InputError if it is none."""
    return _from_group(group, 0, None).arrays[0]


def readable(array: AnyArray) -> View:
    """Return an open array as a `Readable`: a chunk that cannot be read is named."""
    return View(array, place_of(array), array.shape, array.dtype.newbyteorder("="), array.chunks)


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


def _from_array(array: AnyArray, level: int, channel: int | str | None) -> _Found:
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
    return _Found((array,), axes, named, (1.0,) * n, (0.0,) * n, (None,) * n, (), False)


def _selected(found: _Found, url: str, level: int, channel: int | str | None) -> Image:
    array, axes = found.arrays[level], found.axes
    place = place_of(array)
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    if dtype.kind not in "iuf":
        message = f"{place} has dtype {array.dtype}: integers, floats and bool are accepted"
        raise InputError(message)
    axis, pick = None, None
    if channel is not None:
        axis, pick = axes.index("c") if "c" in axes else None, _channel(found, array, channel)

    def left(values: Any) -> Any:
        return tuple(value for i, value in enumerate(values) if i != axis)

    def view(of: AnyArray) -> View:
        return View(of, place_of(of), left(of.shape), dtype, left(of.chunks), axis, pick)

    kept = left(axes)
    if len(kept) < 2 or not set(kept[-2:]) <= set(SPATIAL):
        hint = ", or a choice of the channel (a number, or grey for RGB)" if "c" in kept else ""
        message = f"{place} has axes ({', '.join(kept)}): at least two, the last of them in space{hint}, are accepted"
        raise InputError(message)
    if 0 in array.shape:
        message = f"{place} has shape {list(array.shape)}: at least one sample per axis is accepted"
        raise InputError(message)
    scale, translation = left(found.scale), left(found.translation)
    levels, coarser = tuple(left(of.shape) for of in found.arrays), tuple(map(view, found.arrays[level + 1 :]))
    chosen = {"axes": kept, "scale": scale, "translation": translation, "level": level, "channel": pick}
    digest, units = _digest(array, chosen), left(found.units)
    where = url if str(array.store_path).startswith("file://") else ""
    return Image(
        view(array), kept, found.named, scale, translation, units, levels, coarser, where, level, digest,
        found.calibrated,
    )  # fmt: skip


def _digest(array: AnyArray, chosen: dict[str, Any]) -> str:
    from zarr.core.buffer import default_buffer_prototype

    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    document = json.loads(documents["zarr.json" if "zarr.json" in documents else ".zarray"].to_bytes())
    document.pop("attributes", None)  # nothing is computed from them
    return hashlib.sha256(json.dumps({**chosen, "array": document}, sort_keys=True).encode()).hexdigest()


def _channel(found: _Found, array: AnyArray, channel: int | str) -> int | str:
    place, labels = place_of(array), found.labels
    if "c" not in found.axes:
        there = f"{place} has axes ({', '.join(found.axes)}) and so no channel {channel!r}"
        message = f"{there}: an image with an axis c is accepted"
        raise InputError(message)
    count = array.shape[found.axes.index("c")]
    if channel == GREY:
        if count in (3, 4) and array.dtype.kind == "u" and array.dtype.itemsize <= 2:
            return GREY
        there = f"{place} has {count} channels of {array.dtype}"
        message = f"{there}: for channel=grey, 3 or 4 of uint8 or uint16 are accepted"
        raise InputError(message)
    index = labels.index(channel) if isinstance(channel, str) and labels.count(channel) == 1 else channel
    if isinstance(index, str) or not 0 <= index < count:
        named = f" or one of {', '.join(labels)}" if labels else ""
        message = f"{place} has no channel {channel!r}: a number from 0 to {count - 1}{named} is accepted"
        raise InputError(message)
    return index
