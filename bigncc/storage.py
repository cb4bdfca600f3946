"""Images in: Zarr and OME-Zarr, checked before a pixel is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bigncc.errors import BignccError, InputError
from bigncc.metadata import SPATIAL, Found, described, in_one_line, open_node, place_of
from bigncc.remote import SCHEMES, storage_of
from bigncc.tiles import Roi, Shape, roi_cells
from bigncc.watch import Absent, Watched

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Group
    from zarr.types import AnyArray

    from bigncc.metadata import Source

GREY = "grey"
_RGB = slice(0, 3)


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
    array : View
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
        Absolute path or address, or "" for what has neither.
    level : int
        Which of `levels` this is.
    digest : str
        SHA-256 of what was selected: array metadata, axes, scale, translation, level and channel.
    calibrated : bool
        Whether the file gave scale and translation.
    """

    array: View
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
    """An array as the house wants it: native, C-ordered, one channel, faults with a place.

    `source` is there for the arrays of images: the store below, which remembers what was read.
    """

    array: Any
    place: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: Shape
    axis: int | None = None
    channel: int | str | None = None
    source: Watched | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        full = self._in_file(key)
        try:
            block = self._read(full)
        except (MemoryError, BignccError):
            raise
        except Exception as error:  # each codec and store has its own exceptions
            region = ", ".join(f"{s.start}:{s.stop}" for s in key)
            message = f"{self._culprit(full)} cannot be read at [{region}]: {in_one_line(error)}"
            raise InputError(message) from error
        if self.channel == GREY and self.axis is not None:
            block = grey(np.moveaxis(block, self.axis, 0))
        elif self.axis is not None:
            block = block.squeeze(self.axis)
        return np.ascontiguousarray(block, dtype=self.dtype)

    def _in_file(self, key: Roi) -> Roi:
        """Return the region of the stored array that a region of this view is made of."""
        full = list(key)
        if self.axis is not None:
            full.insert(self.axis, slice(self.channel, self.channel + 1) if isinstance(self.channel, int) else _RGB)
        return tuple(full)

    def _read(self, full: Roi) -> NDArray[Any]:
        try:
            return np.asarray(self.array[full])
        except (MemoryError, BignccError):
            raise
        except Exception:  # what a cache had wrong is right the second time
            return np.asarray(self.array[full])

    def _culprit(self, full: Roi) -> str:
        """Return place and size of the first stored object of a region that cannot be read alone."""
        from zarr.core.sync import sync

        for key, roi in self._objects(full) if self.source is not None else ():
            try:
                _ = self.array[roi]
            except Exception:
                target = self.array.store_path / key
                try:
                    return f"{self.place}/{key} ({sync(target.store.getsize(target.path))} bytes)"
                except Exception:
                    return f"{self.place}/{key}"
        return self.place

    def _objects(self, full: Roi) -> Iterator[tuple[str, Roi]]:
        """Yield key and region of each stored object that a region of the stored array meets."""
        extent = self.array.shards or self.array.chunks
        for index in roi_cells(full, extent):
            roi = tuple(
                slice(i * e, min(n, (i + 1) * e)) for i, e, n in zip(index, extent, self.array.shape, strict=True)
            )
            yield self.array.metadata.encode_chunk_key(index), roi

    @property
    def absent(self) -> int | None:
        """Number of chunks of the stored array, all channels, that are not stored; None if it cannot be listed."""
        try:
            return int(self.array.nchunks - self.array.nchunks_initialized)
        except InputError:
            return None

    def stored(self, key: Roi) -> NDArray[np.bool_]:
        """Say of each sample of a region whether the object that it belongs to is stored."""
        from zarr.core.sync import sync

        full = self._in_file(key)
        found = np.empty(tuple(s.stop - s.start for s in full), bool)
        for name, roi in self._objects(full):
            target = self.array.store_path / name
            inner = tuple(
                slice(max(a.start, b.start) - b.start, min(a.stop, b.stop) - b.start)
                for a, b in zip(roi, full, strict=True)
            )
            try:
                found[inner] = sync(target.store.exists(target.path))
            except OSError as error:
                message = f"{self.place}/{name} cannot be read: {in_one_line(error)}"
                raise InputError(message) from error
        return found if self.axis is None else np.logical_and.reduce(found, self.axis)


@dataclass(frozen=True)
class Stored:
    """Where the samples of a view come from stored objects, as an array of its shape."""

    view: View

    @property
    def dtype(self) -> np.dtype[Any]:
        """Booleans."""
        return np.dtype(bool)

    @property
    def shape(self) -> Shape:
        """That of the view."""
        return self.view.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.view.ndim

    @property
    def chunks(self) -> Shape:
        """Those of the view."""
        return self.view.chunks

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        return self.view.stored(key)


def open_image(
    source: Source,
    *,
    level: int = 0,
    channel: int | str | None = None,
    missing_chunks: Absent = "fill",
    storage_options: Mapping[str, Any] | None = None,
) -> Image:
    """Open a Zarr array (v2, v3), an OME-Zarr image (0.4, 0.5), or a pyramid that says no more than its levels.

    Parameters
    ----------
    source : path, address, zarr.Array, zarr.Group or zarr Store
        A local path, an address (s3://, gs://, az://, http(s)://), or a zarr object, such as what
        ``tifffile.imread(path, aszarr=True)`` returns.
    level : int
        Level of the pyramid, 0 being the finest.
    channel : int or str, optional
        Index or omero label on the axis c, or 'grey' for RGB and RGBA of uint8 or uint16:
        ``(77 R + 150 G + 29 B + 128) >> 8``. By default c stays as a batch.
    missing_chunks : {"fill", "error"}
        What a chunk that is not stored, or of a sharded array a shard, means: the array's fill value, which is Zarr's
        definition, or an `InputError` when it is read.
    storage_options : mapping, optional
        How an address is reached: ``anonymous`` (bool), ``endpoint`` and ``region`` (str). Credentials, and what is
        not said here, come from the environment.

    Returns
    -------
    Image
        Its array has shape ``[t, c, z] y, x``, in the order of the file.

    Raises
    ------
    InputError
        If it is no image, or none that can be correlated.
    """
    node = open_node(source, storage=storage_of(storage_options))
    return _selected(described(node, level, channel), place_of(node), level, channel, missing_chunks)


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


def finest(group: Group) -> AnyArray:
    """Return the array of the finest level of an OME-Zarr image; InputError if it is none."""
    return described(group, 0, None).arrays[0]


def readable(array: AnyArray) -> View:
    """Return an open array as a `Readable`: a chunk that cannot be read is named."""
    return View(array, place_of(array), array.shape, array.dtype.newbyteorder("="), array.chunks)


def _selected(found: Found, url: str, level: int, channel: int | str | None, absent: Absent) -> Image:
    import zarr
    from zarr.storage import StorePath

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
        source = Watched(of.store_path.store, absent)
        watched: AnyArray = zarr.Array(zarr.AsyncArray(of.metadata, StorePath(source, of.store_path.path), of.config))
        return View(watched, place_of(of), left(of.shape), dtype, left(of.chunks), axis, pick, source)

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
    where = url if str(array.store_path).partition("://")[0] in ("file", *SCHEMES) else ""
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


def _channel(found: Found, array: AnyArray, channel: int | str) -> int | str:
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
