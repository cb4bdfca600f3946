"""Displacement fields in: NumPy files and Zarr, component i for array axis i."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bigncc.errors import InputError
from bigncc.metadata import in_one_line, open_node
from bigncc.storage import View, finest, readable
from bigncc.store import absolute, is_local
from bigncc.tiles import Roi, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bigncc.metadata import Source
    from bigncc.storage import Readable


LARGEST = 2**31
"""Bytes of an array in a .npz file, which is read whole."""

SMALL, PACKED = 2**26, 100
"""Bytes that any file may hold, and how many times its own size a larger one: what is smooth packs well, but not so."""


@dataclass(frozen=True)
class Reversed:
    """A field whose file has x first, with its components the other way round."""

    array: View

    @property
    def shape(self) -> Shape:
        """Components, then nodes per axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, that of the components included."""
        return self.array.ndim

    @property
    def chunks(self) -> Shape:
        """The unit of decoding."""
        return self.array.chunks

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        count = self.shape[0]
        start, stop, _ = key[0].indices(count)
        return np.ascontiguousarray(self.array[(slice(count - stop, count - start), *key[1:])][::-1])


@dataclass(frozen=True)
class _Npy:
    """A ``.npy`` file, mapped anew at each access: a map that lives longer would be pickled with its contents."""

    path: Path

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        block: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)[key]
        return block


def open_field(source: Source, *, components: Literal["forward", "reversed"] = "forward") -> Readable:
    """Open a displacement field, of which component i belongs to array axis i.

    Parameters
    ----------
    source : path or zarr object
        A ``.npy`` file (mapped, never read whole), a ``.npz`` file (read whole) with one array or
        one named ``field`` or ``displacement``, a Zarr array, or an OME-Zarr image (its finest level).
    components : {'forward', 'reversed'}
        'reversed' if the file has x first.

    Returns
    -------
    Readable
        Pixels, of shape ``(2, y, x)`` or ``(3, z, y, x)``.

    Raises
    ------
    InputError
        If it has another shape, or values that are not real numbers.
    """
    if components not in ("forward", "reversed"):
        message = f"components is {components!r}: forward or reversed is accepted"
        raise InputError(message)
    array = open_array(source, ("field", "displacement"))
    shape, dtype = tuple(array.shape), array.dtype
    if (len(shape), shape[:1]) not in ((3, (2,)), (4, (3,))) or 0 in shape or dtype.kind not in "iuf":
        message = f"{array.place} has shape {list(shape)} and dtype {dtype}: "
        message += "real numbers [2, y, x] or [3, z, y, x] are accepted"
        raise InputError(message)
    return Reversed(array) if components == "reversed" else array


def open_array(source: Source, names: tuple[str, ...]) -> View:
    """Open a ``.npy`` or ``.npz`` file, in which it has one of these names or none beside it, or a Zarr array.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    import zarr

    place = absolute(source) if isinstance(source, (str, os.PathLike)) else ""
    if place.endswith((".npy", ".npz")):
        if not is_local(place):
            message = f"{place} would have to be read whole: a Zarr array at an address, or a file on disk, is accepted"
            raise InputError(message)
        path = Path(place)
        array = _from_numpy(path, names)
        kept = _Npy(path) if isinstance(array, np.memmap) else array
        return View(kept, str(path), array.shape, array.dtype.newbyteorder("="), array.shape)
    node = open_node(source)
    if not isinstance(node, zarr.Array):
        node = finest(node)
    return readable(node)


def _from_numpy(path: Path, names: tuple[str, ...]) -> Any:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as file:
            found = [name for name in file.files if len(file.files) == 1 or name in names]
            if len(found) == 1:
                _check_packed(file.zip, found[0], path)
                return file[found[0]]
            there = ", ".join(file.files)
    except InputError:
        raise
    except Exception as error:  # zip and header faults have many classes
        message = f"{path} cannot be read: a .npy or .npz file of plain numbers is accepted ({in_one_line(error)})"
        raise InputError(message) from error
    message = f"{path} holds {there or 'nothing'}: one array, or one named {' or '.join(names)}, is accepted"
    raise InputError(message)


def _check_packed(archive: Any, name: str, path: Path) -> None:
    """Refuse an array that takes far more memory than its file suggests, or than it has bytes for."""
    from numpy.lib import format as npy

    entry = next(each for each in archive.infolist() if each.filename.removesuffix(".npy") == name)
    size, packed = entry.file_size, entry.compress_size
    if size > LARGEST or size > max(SMALL, PACKED * packed):
        message = f"{path} holds {name} of {size} bytes in {packed}: at most {LARGEST}, and beyond {SMALL} at most "
        message += f"{PACKED} times as many as in the file, are accepted, or a .npy file"
        raise InputError(message)
    with archive.open(entry) as file:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > size:
        message = f"{path} holds {name} of shape {list(shape)} and dtype {dtype} in {size} bytes: all of an array of "
        message += "plain numbers is accepted"
        raise InputError(message)
