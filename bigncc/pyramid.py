"""Coarser levels as a pure block reduction: each cell of two pixels per halved axis becomes one.

The value is the mean of the cell's pixels of status 1 and the status is 1 where at least half of them have it, else
the commonest other code. Of a further map the finite pixels count as those of status 1, and NaN stands for any other
code.
A level is made from the one before it, so that it does not matter where that was cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigncc.encoding import EXACT, Encodings
from bigncc.halving import halve_planes
from bigncc.tiles import Roi, Tile, coarse, roi_coarse, roi_shape, roi_within


class Maps(NamedTuple):
    """A region of a level: coefficients, status, and further maps by name; of one shape, all as they are stored."""

    ncc: NDArray[Any]
    status: NDArray[np.uint8]
    further: Mapping[str, NDArray[Any]] = MappingProxyType({})

    @property
    def named(self) -> dict[str, NDArray[Any]]:
        """All maps by their names."""
        return {"ncc": self.ncc, "status": self.status, **self.further}


def of_named(named: Mapping[str, NDArray[Any]]) -> Maps:
    """Return maps that are there by their names."""
    rest = dict(named)
    return Maps(rest.pop("ncc"), rest.pop("status"), rest)


def encoded(values: Maps, encodings: Encodings) -> Maps:
    """Return maps of float32 values as they are stored."""
    kept = {name: encodings.get(name, EXACT).encoded(each) for name, each in values.further.items()}
    return Maps(encodings.get("ncc", EXACT).encoded(values.ncc), values.status, kept)


Piece = tuple[Roi, Maps]


@dataclass(frozen=True)
class Halving:
    """How a level becomes the next one.

    Parameters
    ----------
    axes : int
        How many trailing axes are halved: 2 or 3.
    flat : float
        Value of pixels whose status is 3, 4 or 5; of other ones without a value it is NaN.
    encodings : mapping
        How values are stored; what is halved are the values that are stored.
    """

    axes: int
    flat: float
    encodings: Encodings = field(default_factory=dict)

    def reduced(self, fine: Maps) -> Maps:
        """Return maps of ceil(n / 2) pixels along the halved axes.

        Parameters
        ----------
        fine : Maps
            Of any shape ``[..., [z,] y, x]``; where it is part of a level, it begins at an even pixel of each halved
            axis and ends at one, or at the level's end.

        Returns
        -------
        Maps
            The mean is a float64 sum in row-major order, divided and rounded to float32, and then as it is stored;
            there is no -0.0.
        """
        ncc, status = self._halved("ncc", fine.ncc, fine.status)
        return Maps(ncc, status, {name: self._halved(name, each)[0] for name, each in fine.further.items()})

    def _halved(self, name: str, stored: NDArray[Any], status: NDArray[np.uint8] | None = None) -> Any:
        """Halve one map, with what says where it has values: 1."""
        deep, flat, how = self.axes == 3, np.float32(self.flat), self.encodings.get(name, EXACT)
        values = how.decoded(stored)
        codes = np.isfinite(values).view(np.uint8) if status is None else status
        shape = coarse(values.shape, 1, self.axes)
        means, kinds = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        arrays = (_stacked(array, deep) for array in (values, codes, means, kinds))
        for value, code, mean, kind in zip(*arrays, strict=True):
            halve_planes(value, code, deep, flat, mean, kind)
        return how.encoded(means), kinds

    def piece(self, roi: Roi, fine: Maps) -> Piece:
        """Return what becomes of a region of a level, and where that lies in the next one."""
        return roi_coarse(roi, 1, self.axes), self.reduced(fine)

    def levels(self, tile: Tile, pieces: list[Piece]) -> Iterator[tuple[int, Roi, Maps]]:
        """Yield number, region and maps of each level after the one that a tile is cut from, whether stored or not.

        Parameters
        ----------
        tile : Tile
            ``write`` is its region of the level that it is cut from.
        pieces : list
            What `piece` returned of the whole tile, in any order; they are taken out of the list.
        """
        roi = roi_coarse(tile.write, 1, self.axes)
        maps = together(roi, pieces)
        for level in range(tile.source + 1, tile.levels[-1][0] + 1):
            if level > tile.source + 1:
                roi, maps = self.piece(roi, maps)
            yield level, roi, maps


def together(roi: Roi, pieces: list[Piece]) -> Maps:
    """Return the maps of a region that pieces, in any order, make up; they are taken out of the list."""
    alike = pieces[0][1].named
    maps = of_named({name: np.empty(roi_shape(roi), array.dtype) for name, array in alike.items()})
    while pieces:  # each is let go as soon as it is in its place
        part, values = pieces.pop()
        for name, array in maps.named.items():
            array[roi_within(part, roi)] = values.named[name]
    return maps


def _stacked(array: NDArray[Any], deep: bool) -> NDArray[Any]:
    """Return volumes: one of all planes, or where planes belong together one of each batch."""
    return array.reshape(-1, *array.shape[-3:]) if deep else array.reshape(1, -1, *array.shape[-2:])
