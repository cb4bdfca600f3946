"""How many samples of an image count, at a glance: what is looked at is bounded, whatever the image's size."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from bigncc import storage
from bigncc.inputs import Inputs
from bigncc.masks import counting, leaves_out, nodata_of, validity_of
from bigncc.pair import all_of, from_storage, on_threads, validity
from bigncc.tiles import roi_shape

if TYPE_CHECKING:
    from bigncc.science import ImageConfig
    from bigncc.storage import Image
    from bigncc.tiles import Roi

SAMPLES = 2**22
"""A level of a mask or an image that has no more is read as a whole."""

PLACES = {2: 6, 3: 3}
"""Along each windowed axis, where no such level says it: 36 or 27 in all."""

SIDE = {2: 64, 3: 16}
"""Samples of a place along each axis."""


def shares(inputs: Inputs, threads: int) -> tuple[str, ...]:
    """Return in words how many samples of each image count, of those in which not all do.

    A mask says it alone on its finest level of at most `SAMPLES`, levels of nodata on that of the image, and whatever
    comes together at a few places at full resolution, of the first time and channel and the middle plane.
    """
    found = []
    with on_threads(threads):
        for name, image in inputs.images.items():
            section = inputs.config.moving if name == "moving" else inputs.config.reference
            if leaves_out(section, image):
                flags, where = _seen(section, image, inputs.ndim)
                found.append(f"{100 * float(np.mean(flags)):.1f} % of {name} ({where})")
    return tuple(found)


def _seen(section: ImageConfig, image: Image, ndim: int) -> tuple[Any, str]:
    """Return some of an image's validity, and where it was looked at."""
    levels = nodata_of(section, image)
    if section.missing_chunks != "nodata" and not (section.mask is not None and any(v == v for v in levels)):
        small = _of_mask(section) if section.mask is not None else _of_image(image, levels, ndim)
        if small is not None:
            flags, what = small
            return np.asarray(flags.compute()), f"{what} {' x '.join(map(str, flags.shape))} samples"
    valid = validity_of(section, image, ndim, image.array)
    assert valid is not None  # something is left out
    regions = places(image, ndim)
    each = all_of(_there, [(valid[roi], from_storage(image.array)[roi]) for roi in regions])
    side = " x ".join(map(str, roi_shape(regions[0][-ndim:])))
    return np.concatenate(each), f"at {len(each)} place{'s' if len(each) > 1 else ''} of {side} samples"


def _of_mask(section: ImageConfig) -> tuple[da.Array, str] | None:
    """Return where the finest small level of a mask counts; None if there is none."""
    mask, options = section.mask, section.storage.model_dump()
    assert mask is not None  # or nobody would ask
    whole = storage.open_image(mask.url, level=mask.level, storage_options=options)
    for array in (whole.array, *whole.coarser):
        if np.prod(array.shape, dtype=np.int64) <= SAMPLES:
            return counting(mask, from_storage(array)), "its mask at"
    return None


def _of_image(image: Image, levels: tuple[float, ...], ndim: int) -> tuple[da.Array, str] | None:
    """Return where the finest small level of an image has samples; None if there is none."""
    for array in (image.array, *image.coarser):
        if np.prod(array.shape, dtype=np.int64) <= SAMPLES:
            flags = validity(from_storage(array), None, levels, ndim)
            assert flags is not None  # there are levels
            return flags, "seen at"
    return None


def places(image: Image, ndim: int) -> list[Roi]:
    """Return a few regions that are spread over an image, each within a stored chunk where that is large enough."""
    shape, chunks = image.array.shape, image.array.chunks
    batch = [(n // 2 if name == "z" else 0,) for name, n in zip(image.axes[:-ndim], shape, strict=False)]
    axes: list[list[slice]] = [[slice(start, start + 1) for start in starts] for starts in batch]
    for n, chunk in zip(shape[-ndim:], chunks[-ndim:], strict=True):
        side, count = min(SIDE[ndim], n), PLACES[ndim]
        starts = {(n - side) * i // (count - 1) for i in range(count)}
        inside = {start - max(0, start % chunk + side - chunk) if side <= chunk else start for start in starts}
        axes.append([slice(start, start + side) for start in sorted(inside)])
    return list(product(*axes))


def _there(both: tuple[da.Array, da.Array]) -> Any:
    """Return the validity of a region, in which what is not finite does not count."""
    flags, samples = (np.asarray(each.compute(scheduler="sync")) for each in both)
    return (flags == 1).ravel() & np.isfinite(samples).ravel()
