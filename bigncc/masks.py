"""Which samples of an image count: by its mask, by what its file or the config calls none, by what is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from bigncc import storage
from bigncc.choice import GREY, Pick
from bigncc.errors import InputError
from bigncc.pair import Flags, among, from_storage, validity
from bigncc.reading import Decoded
from bigncc.science import ImageConfig, MaskConfig
from bigncc.storage import Image, Readable, Stored, View
from bigncc.tiles import Roi, Shape, roi_shape

TIE = 1e-6
"""Parts of a sample within which two of a mask are equally near; then the one before is taken."""


def nodata_of(section: ImageConfig, image: Image) -> tuple[float, ...]:
    """Return the grey levels that mean no sample: those of the config, or else those of the file."""
    given = section.nodata
    return image.nodata if given is None else given if isinstance(given, tuple) else (given,)


def leaves_out(section: ImageConfig, image: Image) -> bool:
    """Say whether samples may not count for another reason than being NaN or infinite."""
    levels = nodata_of(section, image)
    return section.mask is not None or section.missing_chunks == "nodata" or not all(map(math.isnan, levels))


def validity_of(section: ImageConfig, image: Image, ndim: int, array: Readable) -> da.Array | None:
    """Return 1 where a sample of the image counts, else 0; None where all do. `array` is how the image is read."""
    there = from_storage(Stored(image.array)) if section.missing_chunks == "nodata" else None
    given = None if section.mask is None else _given(section, section.mask, image, ndim)
    both = given if there is None else there if given is None else there & given
    return validity(from_storage(array), both, nodata_of(section, image), ndim)


def flags_of(section: ImageConfig, image: Image, ndim: int, capacity: int) -> Flags | None:
    """Return the same for an image that is read block by block; so many bytes of its mask are kept decoded."""
    if not leaves_out(section, image):
        return None
    levels = tuple(level for level in nodata_of(section, image) if not math.isnan(level))
    there = Stored(image.array) if section.missing_chunks == "nodata" else None
    if section.mask is None:
        return Flags(levels, there)
    view, names = open_mask(section, image, ndim)
    kept = replace(view, view=Decoded(view.view, capacity)) if isinstance(view, Nearest) else Decoded(view, capacity)
    has = tuple(name in names for name in image.axes)
    return Flags(levels, Marked(kept, section.mask, has, image.array.shape, image.array.chunks, there))


@dataclass(frozen=True)
class Marked:
    """Where the mask of an image says that samples count, as an array of the image's shape.

    Parameters
    ----------
    values : array
        The mask on the grid of its image, of the axes that it has.
    mask : MaskConfig
        What its values mean.
    has : tuple of bool
        For each axis of the image whether it is one of the mask.
    shape, chunks : tuple of int
        Those of the image.
    there : Stored or None
        What must be stored, too.
    """

    values: Any
    mask: MaskConfig
    has: tuple[bool, ...]
    shape: Shape
    chunks: Shape
    there: Stored | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Booleans."""
        return np.dtype(bool)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        own = self.values[tuple(each for each, has in zip(key, self.has, strict=True) if has)]
        flags = counting(self.mask, own)[tuple(slice(None) if has else None for has in self.has)]
        whole: NDArray[Any] = np.ascontiguousarray(np.broadcast_to(flags, roi_shape(key)))
        return whole if self.there is None else whole & self.there[key]


def _given(section: ImageConfig, mask: MaskConfig, image: Image, ndim: int) -> da.Array:
    """Return True where the mask of an image says so, in the image's shape or that of its windowed axes."""
    view, names = open_mask(section, image, ndim)
    given: da.Array = counting(mask, from_storage(view))
    if names == image.axes[-ndim:]:
        return given
    every = tuple(slice(None) if name in names else None for name in image.axes)
    spread: da.Array = da.broadcast_to(given[every], image.array.shape)
    return spread


def counting(mask: MaskConfig, array: Any) -> Any:
    """Return True where the values of a mask mean that a sample counts."""
    if mask.invalid is not None:
        return ~among(array, mask.invalid)
    return array != 0 if mask.valid is None else among(array, mask.valid)


@dataclass(frozen=True)
class Nearest:
    """A mask of another resolution on the grid of its image.

    Parameters
    ----------
    view : View or Decoded
        The mask as it is stored.
    places : tuple of ndarray or None
        Along each axis the sample of the mask that is nearest to each of the image, ascending; None: of one grid.
    chunks : tuple of int
        Those of the image.
    """

    view: Any
    places: tuple[NDArray[np.int64] | None, ...]
    chunks: Shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the mask."""
        return self.view.dtype  # type: ignore[no-any-return]

    @property
    def shape(self) -> Shape:
        """That of the image, along the axes that the mask has."""
        return tuple(n if at is None else at.size for n, at in zip(self.view.shape, self.places, strict=True))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.places)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        # dask asks for a plane by its number
        whole = tuple(slice(each, each + 1) if isinstance(each, int) else each for each in key)
        wanted = [None if at is None else at[each] for at, each in zip(self.places, whole, strict=True)]
        spans = (
            each if at is None else slice(int(at[0]), int(at[-1]) + 1) for at, each in zip(wanted, whole, strict=True)
        )
        block: NDArray[Any] = self.view[tuple(spans)]
        for axis, at in enumerate(wanted):
            block = block if at is None else block.take(at - at[0], axis)
        return block.squeeze(tuple(axis for axis, each in enumerate(key) if isinstance(each, int)))


def open_mask(section: ImageConfig, image: Image, ndim: int) -> tuple[View | Nearest, tuple[str, ...]]:
    """Open the mask of an image; what is chosen of the image's times, channels and planes is chosen of it, too.

    Parameters
    ----------
    section : ImageConfig
        Its ``mask`` is an OME label image, or an array of the image's shape or of that of its windowed axes. Along a
        batch axis of length 1 it is the same for all. Along a windowed axis of another length that sample of it counts
        which is nearest by the scales and translations of both.
    image : Image
        What it belongs to.
    ndim : int
        Number of windowed axes.

    Returns
    -------
    View or Nearest, tuple of str
        What belongs to the image, and the names of its axes.

    Raises
    ------
    InputError
        If it does not fit.
    """
    mask, options = section.mask, section.storage.model_dump()
    assert mask is not None
    # a mask is reached as its image is
    whole = storage.open_image(mask.url, level=mask.level, storage_options=options)
    shape, window = whole.array.shape, image.axes[-ndim:]
    by_length = {ndim: window, len(image.axes): image.axes, len(image.stored): image.stored}
    names = whole.axes if whole.named else by_length.get(len(shape), whole.axes)
    lengths, chosen = (dict(zip(image.stored, of, strict=True)) for of in (image.array.array.shape, image.array.picks))
    here = dict(zip(image.axes, image.array.shape, strict=True))
    picks: list[Pick] = []
    other: list[str] = []
    for name, n in zip(names, shape, strict=True):
        pick = chosen.get(name, GREY)
        if n == 1 and name not in window:
            picks.append(0)
        elif n == lengths.get(name) and not isinstance(pick, str):
            picks.append(pick)
        elif n == here.get(name):
            picks.append(slice(0, n))
        elif name in window and whole.calibrated and image.calibrated:
            picks.append(slice(0, n))
            other.append(name)
    kept = tuple(name for name, pick in zip(names, picks, strict=False) if isinstance(pick, slice))
    if len(picks) < len(names) or kept[-ndim:] != window or kept != tuple(name for name in image.axes if name in kept):
        message = (
            f"{whole.array.place} is a mask of axes ({', '.join(names)}) and shape {list(shape)}, its image has axes "
            f"({', '.join(image.axes)}) and shape {list(image.array.shape)}: the same, or only ({', '.join(window)}), "
            "is accepted, and another resolution where both are OME-Zarr with scales"
        )
        raise InputError(message)
    view = whole.array.chosen(tuple(picks))
    if not other:
        return view, kept
    places = tuple(_nearest(whole, image, name) if name in other else None for name in kept)
    chunks = dict(zip(image.axes, image.array.chunks, strict=True))
    return Nearest(view, places, tuple(chunks[name] for name in kept)), kept


def _nearest(mask: Image, image: Image, name: str) -> NDArray[np.int64]:
    """Return which sample of a mask is nearest to each of its image along an axis.

    At the ends, where a coarser level may have been cut, the last one of the mask counts for one more of its samples.
    """
    one, two = image.axes.index(name), mask.axes.index(name)
    units = image.units[one], mask.units[two]
    count, length = mask.array.shape[two], image.array.shape[one]
    if None not in units and units[0] != units[1]:
        message = f"{mask.array.place} is in {units[1]} along {name} and its image in {units[0]}: one unit is accepted"
        raise InputError(message)
    start = (image.translation[one] - mask.translation[two]) / mask.scale[two]
    found = start + image.scale[one] / mask.scale[two] * np.arange(length)
    if found[0] < -1 - TIE or found[-1] > count + TIE:
        message = (
            f"{mask.array.place} has {count} samples along {name}, and by its scale and translation its image reaches "
            f"from {found[0]:.1f} to {found[-1]:.1f} of them: a mask of all of the image is accepted"
        )
        raise InputError(message)
    nearest: NDArray[np.int64] = np.clip(np.ceil(found - 0.5 - TIE), 0, count - 1).astype(np.int64)
    return nearest
