"""Which samples of an image count: by its mask, by what its file or the config calls none, by what is stored."""

from __future__ import annotations

import math

import dask.array as da

from bigncc import storage
from bigncc.choice import GREY, Pick
from bigncc.errors import InputError
from bigncc.pair import among, from_storage, validity
from bigncc.science import ImageConfig, MaskConfig
from bigncc.storage import Image, Readable, Stored, View


def nodata_of(section: ImageConfig, image: Image) -> tuple[float, ...]:
    """Return the grey levels that mean no sample: those of the config, or else those of the file."""
    return image.nodata if section.nodata is None else (section.nodata,)


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


def _given(section: ImageConfig, mask: MaskConfig, image: Image, ndim: int) -> da.Array:
    """Return True where the mask of an image says so, in the image's shape or that of its windowed axes."""
    view, names = open_mask(section, image, ndim)
    array = from_storage(view)
    given: da.Array
    if mask.invalid is not None:
        given = ~among(array, mask.invalid)
    else:
        given = array != 0 if mask.valid is None else among(array, mask.valid)
    if names == image.axes[-ndim:]:
        return given
    every = tuple(slice(None) if name in names else None for name in image.axes)
    spread: da.Array = da.broadcast_to(given[every], image.array.shape)
    return spread


def open_mask(section: ImageConfig, image: Image, ndim: int) -> tuple[View, tuple[str, ...]]:
    """Open the mask of an image; what is chosen of the image's times, channels and planes is chosen of it, too.

    Parameters
    ----------
    section : ImageConfig
        Its ``mask`` is an OME label image, or an array of the image's shape or of that of its windowed axes. Along a
        batch axis of length 1 it is the same for all.
    image : Image
        What it belongs to.
    ndim : int
        Number of windowed axes.

    Returns
    -------
    View, tuple of str
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
    for name, n in zip(names, shape, strict=True):
        pick = chosen.get(name, GREY)
        if n == 1 and name not in window:
            picks.append(0)
        elif n == lengths.get(name) and not isinstance(pick, str):
            picks.append(pick)
        elif n == here.get(name):
            picks.append(slice(0, n))
    kept = tuple(name for name, pick in zip(names, picks, strict=False) if isinstance(pick, slice))
    if len(picks) < len(names) or kept[-ndim:] != window or kept != tuple(name for name in image.axes if name in kept):
        message = (
            f"{whole.array.place} is a mask of axes ({', '.join(names)}) and shape {list(shape)}, its image has axes "
            f"({', '.join(image.axes)}) and shape {list(image.array.shape)}: the same, or only ({', '.join(window)}), "
            "is accepted"
        )
        raise InputError(message)
    return whole.array.chosen(tuple(picks)), kept
