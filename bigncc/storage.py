"""Images in: Zarr and OME-Zarr, checked before a pixel is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from bigncc import inline
from bigncc.bounds import bounded
from bigncc.choice import GREY, Axes, Choice, Pick, in_file, of_each_axis, pick
from bigncc.errors import BignccError, InputError
from bigncc.gate import Gated
from bigncc.metadata import SPATIAL, Found, can_be_found, described, in_one_line, open_node, place_of
from bigncc.remote import storage_of
from bigncc.tiles import Roi, Shape, roi_cells, roi_meet, roi_within
from bigncc.watch import Absent, Watched

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Group
    from zarr.abc.store import Store
    from zarr.types import AnyArray

    from bigncc.metadata import Source


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
        Samples in native byte order, after the choice of channel, time and z.
    axes : tuple of str
        Names of the array's axes, out of t, c, z, y, x.
    named : bool
        Whether the file gave the names.
    scale, translation : tuple of float
        Per axis: extent of a pixel and centre of the first one, in `units`.
    units : tuple of str or None
        Per axis.
    levels : tuple of tuple of int
        Shapes of all levels of the pyramid, along the axes that are left.
    coarser : tuple of Readable
        What follows this level in the pyramid, with the same choice of channel, time and z; levels on which that means
        something else are left out.
    url : str
        Absolute path or address, or "" for what has neither.
    level : int
        Which of `levels` this is.
    digest : str
        SHA-256 of what was selected: array metadata, axes, scale, translation, level, channel, time and z.
    calibrated : bool
        Whether the file gave scale and translation.
    nodata : tuple of float
        Grey levels that mean, as the file says: no sample.
    stored : tuple of str
        Names of the axes of the stored array.
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
    nodata: tuple[float, ...] = ()
    stored: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """An array as the house wants it: native, C-ordered, what was chosen of it, faults with a place.

    `picks` are those on the axes of the stored array, none for all of it. `source` is there for the arrays of images:
    the store below, which remembers what was read.

    Where a range begins within a stored chunk, the view's chunks, which begin with the range, lie across stored ones.
    They are no larger than these, so that memory is as planned, and a read is one request, in which each stored chunk
    is decoded once; only what two blocks of a volume share along t and z is decoded for each of them.
    """

    array: Any
    place: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: Shape
    picks: tuple[Pick, ...] = ()
    source: Watched | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        key = of_each_axis(key, self.ndim)
        full, dropped = self._in_file(key)
        try:
            block = self._read(full)
        except (MemoryError, BignccError):
            raise
        except Exception as error:  # each codec and store has its own exceptions
            region = ", ".join(f"{s.start}:{s.stop}" if isinstance(s, slice) else str(s) for s in key)
            message = f"{self._culprit(full)} cannot be read at [{region}]: {in_one_line(error)}"
            raise InputError(message) from error
        if GREY in self.picks:
            axis = self.picks.index(GREY)
            block = np.expand_dims(grey(np.moveaxis(block, axis, 0)), axis)
        return np.ascontiguousarray(block.squeeze(dropped), dtype=self.dtype)

    def chosen(self, picks: tuple[Pick, ...]) -> View:
        """Return what is picked on the axes of a view of a whole array."""
        kept = [(of, c) for of, c in zip(picks, self.chunks, strict=True) if isinstance(of, slice)]
        return replace(
            self, shape=tuple(p.stop - p.start for p, _ in kept), chunks=tuple(c for _, c in kept), picks=picks
        )

    def _in_file(self, key: Roi) -> tuple[Roi, tuple[int, ...]]:
        """Return the region of the stored array that a part of this view is made of, and the axes that it lacks."""
        return in_file(self.picks, key) if self.picks else (key, ())

    def _read(self, full: Roi) -> NDArray[Any]:
        try:
            return self._decode(full)
        except (MemoryError, BignccError):
            raise
        except Exception:  # what a cache had wrong is right the second time
            return self._decode(full)

    def _decode(self, full: Roi) -> NDArray[Any]:
        if self.source is None:
            return np.asarray(self.array[full])
        return np.asarray(inline.run(self.array.async_array.getitem(full), self.array.store))

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
        """Number of chunks, of a sharded array of shards, that are not stored; None if they cannot be listed."""
        extent = self.array.shards or self.array.chunks
        whole: int = math.prod(-(-n // e) for n, e in zip(self.array.shape, extent, strict=True))
        # zarr counts all chunks of a shard, also those beyond the array's edge
        each: int = math.prod(e // c for e, c in zip(extent, self.array.chunks, strict=True))
        try:
            stored: int = self.array.nchunks_initialized // each
        except InputError:
            return None
        return whole - stored

    def stored(self, key: Roi) -> NDArray[np.bool_]:
        """Say of each sample of a region whether the object that it belongs to is stored."""
        from zarr.core.sync import sync

        full, dropped = self._in_file(key)
        found = np.empty(tuple(s.stop - s.start for s in full), bool)
        for name, roi in self._objects(full):
            target = self.array.store_path / name
            try:
                found[roi_within(roi_meet(roi, full), full)] = sync(target.store.exists(target.path))
            except OSError as error:
                message = f"{self.place}/{name} cannot be read: {in_one_line(error)}"
                raise InputError(message) from error
        reduced: NDArray[np.bool_] = np.logical_and.reduce(found, dropped)
        return reduced


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
    time: Choice = None,
    z: Choice = None,
    missing_chunks: Absent = "fill",
    storage_options: Mapping[str, Any] | None = None,
) -> Image:
    """Open a Zarr array (v2, v3), an OME-Zarr image (0.4 to 0.6), or a pyramid that says no more than its levels.

    Parameters
    ----------
    source : path, address, zarr.Array, zarr.Group or zarr Store
        A local path, which may lead into a zip file, an address (s3://, gs://, az://, http(s)://), or a zarr object,
        such as what
        ``tifffile.imread(path, aszarr=True)`` returns.
    level : int
        Level of the pyramid, 0 being the finest.
    channel : int or str, optional
        Index or omero label on the axis c, or 'grey' for RGB and RGBA of uint8 or uint16:
        ``(77 R + 150 G + 29 B + 128) >> 8``. By default c stays as a batch.
    time, z : int or tuple of int, optional
        One index on the axis t or z, which drops the axis, or a range ``(start, stop)``, which keeps it.
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
    chosen = {name: choice for name, choice in (("c", channel), ("t", time), ("z", z)) if choice is not None}
    return _selected(described(node, level, channel), place_of(node), level, chosen, missing_chunks)


def grey(rgb: NDArray[Any]) -> NDArray[Any]:
    """Return ``(77 R + 150 G + 29 B + 128) >> 8`` of three bands in the dtype of integers, and its like of floats."""
    mixed: NDArray[Any]
    if rgb.dtype.kind == "f":
        mixed = np.tensordot(np.array((77, 150, 29), rgb.dtype) / 256, rgb, 1)
    elif rgb.dtype.itemsize <= 2:
        # 256 * 255 + 128 still fits 16 bits; of negative numbers what is kept is right as it wraps
        wide = np.uint16 if rgb.dtype.itemsize == 1 else np.uint32
        red, green, blue = (band.astype(wide) for band in rgb)
        mixed = ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(rgb.dtype)
    else:
        # the products of 64 bits would not fit, so that the lower eight are mixed by themselves
        (red, green, blue), (r, g, b) = rgb >> 8, rgb & 255
        mixed = 77 * red + 150 * green + 29 * blue + ((77 * r + 150 * g + 29 * b + 128) >> 8)
        mixed = mixed.astype(rgb.dtype, copy=False)  # in its byte order
    return mixed


def finest(group: Group) -> AnyArray:
    """Return the array of the finest level of an OME-Zarr image; InputError if it is none."""
    return described(group, 0, None).arrays[0]


def readable(array: AnyArray) -> View:
    """Return an open array of numbers as a `Readable`: a chunk that cannot be read is named."""
    if array.dtype.kind not in "biuf":
        message = f"{place_of(array)} has dtype {array.dtype}: integers, floats and bool are accepted"
        raise InputError(message)
    return _watched(array, array.dtype.newbyteorder("="), "fill")


def _selected(found: Found, url: str, level: int, wanted: dict[str, Any], absent: Absent) -> Image:
    array, axes = found.arrays[level], found.axes
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    if dtype.kind not in "iuf":
        message = f"{place_of(array)} has dtype {array.dtype}: integers, floats and bool are accepted"
        raise InputError(message)
    there = Axes(place_of(array), axes, array.shape, array.dtype, found.labels)
    chosen = {name: pick(there, name, choice) for name, choice in wanted.items()}

    def picks(of: AnyArray) -> tuple[Pick, ...]:
        return tuple(chosen.get(name, slice(0, n)) for name, n in zip(axes, of.shape, strict=True))

    def view(of: AnyArray) -> View:
        return _watched(of, dtype, absent).chosen(picks(of))

    def left(values: Any) -> Any:
        return tuple(value for value, of in zip(values, picks(array), strict=True) if isinstance(of, slice))

    kept = left(axes)
    _check_axes(array, kept)
    starts = [of.start if isinstance(of, slice) else 0 for of in picks(array)]
    scale = left(found.scale)
    translation = left(t + start * s for t, start, s in zip(found.translation, starts, found.scale, strict=True))
    alike = [
        of
        for of in found.arrays[level + 1 :]
        if all(n == m for name, n, m in zip(axes, of.shape, array.shape, strict=True) if name in chosen)
    ]
    levels = tuple(left(of.shape) for of in found.arrays)
    summary = {"axes": kept, "scale": scale, "translation": translation, "level": level, "channel": chosen.get("c")}
    summary |= {name: choice for name, choice in wanted.items() if name != "c"}
    return Image(
        view(array), kept, found.named, scale, translation, left(found.units), levels, tuple(map(view, alike)),
        url if can_be_found(array) else "", level, _digest(array, summary), found.calibrated, found.nodata, axes,
    )  # fmt: skip


def _check_axes(array: AnyArray, axes: tuple[str, ...]) -> None:
    place = place_of(array)
    if len(axes) < 2 or not set(axes[-2:]) <= set(SPATIAL):
        hint = ", or a choice of the channel (a number, or grey for RGB)" if "c" in axes else ""
        message = f"{place} has axes ({', '.join(axes)}): at least two, the last of them in space{hint}, are accepted"
        raise InputError(message)
    if 0 in array.shape:
        message = f"{place} has shape {list(array.shape)}: at least one sample per axis is accepted"
        raise InputError(message)


def within_bounds(array: AnyArray, watch: Callable[[Store], Store] | None = None) -> AnyArray:
    """Return an array of which no object is larger, and none decoded to more, than its metadata says.

    `watch` wraps its store.
    """
    import zarr
    from zarr.storage import StorePath

    metadata, most = bounded(array.metadata)
    store = array.store_path.store
    limited: Store = (store if isinstance(store, Gated) else Gated(store)).limited(most)
    path = StorePath(watch(limited) if watch else limited, array.store_path.path)
    return zarr.Array(zarr.AsyncArray(metadata, path, array.config))


def _watched(array: AnyArray, dtype: np.dtype[Any], absent: Absent) -> View:
    """Return the whole of an array through a store that remembers what was read."""
    watched = within_bounds(array, partial(Watched, absent=absent))
    source = cast("Watched", watched.store_path.store)
    return View(watched, place_of(array), array.shape, dtype, array.chunks, source=source)


def _digest(array: AnyArray, chosen: dict[str, Any]) -> str:
    from zarr.core.buffer import default_buffer_prototype

    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    document = json.loads(documents["zarr.json" if "zarr.json" in documents else ".zarray"].to_bytes())
    document.pop("attributes", None)  # nothing is computed from them
    return hashlib.sha256(json.dumps({**chosen, "array": document}, sort_keys=True).encode()).hexdigest()
