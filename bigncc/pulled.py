"""A moving image on the reference's grid, as an array that is pulled where it is looked at, at any level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.pair import Pair, PerItem, register, seen
from bigncc.tiles import Roi, Shape, roi_shape
from bigncc.transform import Affine, Displacement, Transform, Translation, compose, points


@dataclass(frozen=True)
class Pulled:
    """What a moving image is on the reference's grid, NaN where it has no sample.

    Parameters
    ----------
    pair : Pair
        The reference and a level of the moving image.
    transform : Transform or PerItem
        Of the finest level.
    order : int
        Of the interpolation.
    factor : tuple of float
        Along the axes of the transform, pixels of the finest level that one of the moving image covers, and one of this
        array.
    """

    pair: Pair
    transform: Transform | PerItem
    order: int
    factor: tuple[float, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As they are shown."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> Shape:
        """That of the reference, in pixels of this level."""
        whole, n = self.pair.reference.shape, len(self.factor)
        return (*whole[:-n], *(int(-(-side // f)) for side, f in zip(whole[-n:], self.factor, strict=True)))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> Shape:
        """Those of the moving image, but that each batch item, which may have a transform of its own, is apart."""
        n = len(self.factor)
        return (*(1,) * (self.ndim - n), *self.pair.moving.chunks[-n:])

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        grid = tuple((n,) for n in roi_shape(key))
        pair = replace(self.pair, reference=self)  # whose extent is compared
        here = register(pair, self._here(key), self.order, tuple(s.start for s in key), grid)
        values: NDArray[Any] = seen(here.moving, here.moving_validity).compute(scheduler="sync")
        return values.astype(np.float32, copy=False)

    def _here(self, roi: Roi) -> Transform | PerItem:
        if isinstance(self.transform, PerItem):
            each = {place: scaled(t, roi, self.factor) for place, t in self.transform.transforms.items()}
            return replace(self.transform, transforms=each)
        return scaled(self.transform, roi, self.factor)


def scaled(transform: Transform, roi: Roi, factor: Sequence[float]) -> Transform:
    """Return a transform between levels whose pixels cover so many of the finest, as it is in a region of it."""
    if all(f == 1 for f in factor):
        return transform
    coarse = np.asarray(factor, float)
    if isinstance(transform, Displacement):
        return _sampled(transform, roi[-transform.ndim :], coarse)
    return compose(_stretched(1 / coarse), compose(transform, _stretched(coarse)))


def _stretched(factor: NDArray[Any]) -> Affine:
    """Return the map of a pixel of a level to the pixel of a finer one in its middle."""
    return Affine(tuple(map(tuple, np.diag(factor).tolist())), tuple(((factor - 1) / 2).tolist()))


def _sampled(transform: Displacement, roi: Roi, coarse: NDArray[Any]) -> Displacement:
    """Return a field with a node at each pixel of a region; of the given one no more is read than lies around it."""
    pixels = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in roi), indexing="ij"), axis=-1)
    finest = pixels * coarse + (coarse - 1) / 2
    nodes, origin, step = [], [], []
    for axis, (count, apart, first) in enumerate(transform.grid):
        ends = (finest[..., axis].min() - first) / apart, (finest[..., axis].max() - first) / apart
        start = min(max(int(ends[0] // 1), 0), count - 1)
        nodes.append(slice(start, min(max(int(ends[1] // 1) + 2, start + 1), count)))
        origin.append(first + start * apart)
        step.append(apart)
    near = Displacement(transform.field[(slice(None), *nodes)], step=tuple(step), origin=tuple(origin))
    moved = (points(near, finest) - (coarse - 1) / 2) / coarse
    return Displacement(np.moveaxis(moved - pixels, -1, 0), origin=tuple(s.start for s in roi))


def inverse(transform: Translation | Affine | None, ndim: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return matrix and offset from a moving pixel to the reference pixel; None is no transform."""
    if isinstance(transform, Affine):
        back = transform.inverse()
        return np.asarray(back.matrix), np.asarray(back.offset)
    return np.eye(ndim), np.zeros(ndim) if transform is None else -np.asarray(transform.offset)
