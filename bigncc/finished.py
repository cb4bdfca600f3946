"""A complete result, opened together with the images that it was made of: parts of its maps, and of both images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import proof, store
from bigncc.config import Config
from bigncc.decision import config_of, reopened
from bigncc.encoding import values_of
from bigncc.errors import IncompleteError, InputError
from bigncc.inputs import Inputs, pair_of
from bigncc.output import Output, open_output
from bigncc.pair import Pair, as_stored, block_mean, from_storage, view, where_valid
from bigncc.sections import Table, table_of
from bigncc.storage import Image, readable
from bigncc.tiles import Roi, Shape, roi_of, roi_shift
from bigncc.transform import Affine, Translation, compose

Lazy = Any
"""A dask array."""


@dataclass(frozen=True)
class Finished:
    """A complete result.

    Parameters
    ----------
    output : Output
        Its maps.
    config : Config
        What was asked.
    inputs : Inputs or None
        Both images and how they are registered; None where they cannot be read any more.
    table : Table or None
        Of its sections and channels, if there are several.
    """

    output: Output
    config: Config
    inputs: Inputs | None
    table: Table | None

    @property
    def ndim(self) -> int:
        """Number of windowed axes."""
        return self.config.window.axes

    @property
    def finest(self) -> int:
        """The finest level that is stored."""
        return self.output.levels[0]

    @property
    def shape(self) -> Shape:
        """Extent at full resolution; where nobody can say any more how much the finest level was cut, all it covers."""
        if self.inputs is not None:
            return self.inputs.shape
        shape = self.output.level(self.finest)["ncc"].shape
        batch = len(shape) - self.ndim
        if (region := self.config.output.region) is not None:
            return (*shape[:batch], *(b - a for a, b in region))
        return (*shape[:batch], *(n << self.finest for n in shape[batch:]))

    @property
    def origin(self) -> Shape:
        """Where it begins on the reference's grid."""
        region = self.config.output.region or ((0, 0),) * self.ndim
        return (0,) * (len(self.output.layout.shape) - self.ndim) + tuple(a for a, _ in region)

    @property
    def grid(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and translation of pixels at full resolution."""
        layout, growth = self.output.layout, 2**self.finest
        batch = len(layout.shape) - self.ndim
        scale = tuple(s / growth if i >= batch else s for i, s in enumerate(layout.scale))
        axes = enumerate(zip(layout.translation, scale, strict=True))
        return scale, tuple(t - s * (growth - 1) / 2 if i >= batch else t for i, (t, s) in axes)

    def part(self, array: Any, region: Roi) -> Lazy:
        """Return a region of a stored map, lazily."""
        return from_storage(values_of(array, readable(array)))[region]

    def plane(self, shape: Shape, place: Shape | None) -> Roi:
        """Return the plane that is shown of an array with more than two axes: first time and channel, middle of z."""
        names = zip(self.output.layout.axes[:-2], shape, strict=False)
        start = place or tuple(n // 2 if name == "z" else 0 for name, n in names)
        return roi_of((*start, 0, 0), (1,) * len(start) + shape[-2:])

    def images(self, region: Roi) -> tuple[Lazy, Lazy] | None:
        """Return both images on a region of the result, lazily; NaN where there is no sample. None if they are gone."""
        if self.inputs is None:
            return None
        order = self.config.registration.order
        return view(pair_of(self.inputs), roi_shift(region, self.inputs.origin), self.inputs.transform, order)

    def small_images(self, plane: Roi, factor: int) -> tuple[NDArray[Any], ...] | None:
        """Return the means of both images in cells of a plane of the result, from levels of theirs where there are."""
        side = factor & -factor  # what halving makes
        while side > 1:
            if (levels := self._levels(plane, side)) is not None:
                return tuple(mean(level, factor // side) for level in levels)
            side //= 2
        images = self.images(plane)
        return None if images is None else tuple(mean(image, factor) for image in images)

    def _levels(self, plane: Roi, side: int) -> tuple[Lazy, Lazy] | None:
        """Return both images, reduced by `side`, on a plane of the result; None where levels do not say it."""
        inputs = self.inputs
        if inputs is None or inputs.stack is not None or inputs.leaves_out or self.ndim != 2:
            return None
        region, given = roi_shift(plane, inputs.origin), inputs.transform
        reference, moving = (_level(image, side) for image in (inputs.reference, inputs.moving))
        known = given is None or isinstance(given, (Translation, Affine))
        if reference is None or moving is None or not known or any(s.start % side for s in region[-2:]):
            return None
        pair, growth = Pair(from_storage(reference), from_storage(moving)), float(side)
        placed = Affine(((growth, 0.0), (0.0, growth)), ((growth - 1) / 2,) * 2)
        if given is not None:
            assert isinstance(given, (Translation, Affine))
            given = compose(placed.inverse(), compose(given, placed))
        ends = zip(region[-2:], reference.shape[-2:], strict=True)
        small = tuple(slice(s.start // side, min(-(-s.stop // side), n)) for s, n in ends)
        order = self.config.registration.order
        return view(pair, (*region[:-2], *small), given or as_stored(pair, 2), order)


def _level(image: Image, side: int) -> Any:
    """Return the level of an image that is reduced by `side` in y and x alone, or None."""
    for level in image.coarser:
        ends = zip(level.shape[-2:], image.array.shape[-2:], strict=True)
        if level.shape[:-2] == image.array.shape[:-2] and all(m in (n // side, -(-n // side)) for m, n in ends):
            return level
    return None


def finished(url: str, threshold: float | None = None) -> Finished:
    """Open a complete result; `threshold` is that of its table, by default its config's.

    Raises
    ------
    IncompleteError
        If tiles are missing.
    """
    output = open_output(url)
    if output.attributes["state"] != "complete":
        raise IncompleteError(proof.incomplete(output.url))
    config = config_of(output.attributes)
    try:
        inputs = reopened(output.attributes)
    except InputError:
        inputs = None
    return Finished(output, config, inputs, table_of(output.attributes, output.layout, threshold))


def beside(url: str, suffix: str) -> Path:
    """Return a path beside a result, or here if that is in an object store."""
    folder, _, name = store.absolute(url).rpartition("/")
    return Path(
        folder if store.is_local(url) else Path.cwd(), f"{name.removesuffix('.zarr').removesuffix('.ome')}{suffix}"
    )


def mean(array: Lazy, factor: int) -> NDArray[Any]:
    """Return the means of cells of `factor` pixels of a plane, whatever axes it has in front."""
    shape = tuple(-(-n // factor) for n in array.shape[-2:])
    return block_mean(array, (1,) * (array.ndim - 2) + (factor, factor)).reshape(shape)


def level_for(found: Finished, cell: int) -> tuple[int, int]:
    """Return the stored level whose pixels make cells of some pixels best, and how many of them along a side do."""
    fine = [k for k in found.output.levels if 2**k <= cell]
    level = fine[-1] if fine else found.finest
    return level, max(1, cell >> level)


def cells(found: Finished, place: Shape, cell: int) -> tuple[NDArray[Any], Shape]:
    """Return the means of the valid pixels in cells of a batch item, and the pixels of a cell along each axis."""
    level, factor = level_for(found, cell)
    maps = found.output.level(level)
    spatial = maps["ncc"].shape[-found.ndim :]
    whole = roi_of((*place, *(0,) * found.ndim), (*(1,) * len(place), *spatial))
    values = where_valid(found.part(maps["ncc"], whole), found.part(maps["status"], whole))
    means = block_mean(values, (1,) * len(place) + (factor,) * found.ndim)
    side = factor << level
    return means.reshape([math.ceil(n / factor) for n in spatial]).astype(np.float64), (side,) * found.ndim
