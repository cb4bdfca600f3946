"""An image as a Zarr pyramid that is made while it is looked at: any array that can be sliced, chunk by chunk.

The browser asks for what is on the screen. Whatever an image is stored in, a zip file or a bucket, in an encoding or an
order of bytes that the browser does not know, it is sent as plain chunks of one size, and nothing but chunks of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.reading import Decoded
from bigncc.tiles import Roi, Shape, roi_of, roi_shape

SIDE, DEEP = 256, 128
"""Side of a chunk that is sent, of a plane and of a volume."""

THICK = 16
"""Sections of a chunk that is sent, if that many are stored in one."""

KEPT = 2**25
"""Bytes of each level that are kept decoded: stored chunks may be larger than those that are sent."""

MOST = 2**26
"""Pixels of a plane that may be read to show all of it. Of a larger one, an overview has to be stored."""

EMPTY = 8
"""How many times coarser an overview without pixels is than what is stored."""

ASKED = re.compile(r"(?:(?P<of>0|[1-9][0-9]{0,2})/)?(?:zarr\.json|c(?P<cell>(?:/(?:0|[1-9][0-9]{0,9}))+))")
"""What a browser asks for: metadata of the group or of a level, or a chunk of a level."""

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
"""Those that a browser shows as they are."""


@dataclass(frozen=True)
class Level:
    """A level of a pyramid.

    Parameters
    ----------
    array : Readable
        Its samples.
    factor : tuple of float
        Pixels of the finest level that a pixel of it covers, per axis.
    """

    array: Any
    factor: tuple[float, ...]


@dataclass(frozen=True)
class Nothing:
    """An array without a value, in which nothing is read."""

    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Roi) -> NDArray[Any]:
        return np.full(roi_shape(key), _blank(self.dtype), self.dtype)


@dataclass(frozen=True)
class Streamed:
    """A pyramid to be looked at.

    Parameters
    ----------
    axes : tuple of str
        Names of its axes.
    levels : tuple of Level
        Finest first.
    """

    axes: tuple[str, ...]
    levels: tuple[Level, ...]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples that are sent."""
        own = self.levels[0].array.dtype
        return np.dtype(own.name if own.name in TYPES else "float32").newbyteorder("<")

    @cached_property
    def chunks(self) -> Shape:
        """Of every level."""
        array = self.levels[0].array
        sizes = dict(zip(self.axes, array.chunks, strict=True))
        thick = min(THICK, sizes.get("z", 1))
        side = DEEP if thick > 1 else SIDE
        return tuple({"z": thick, "y": side, "x": side}.get(name, 1) for name in self.axes)

    @property
    def blank(self) -> bool:
        """Whether there is nothing to see from far away."""
        return isinstance(self.levels[-1].array, Nothing)

    def answer(self, path: str) -> bytes | None:
        """Return what a browser asks for by its path below the group; None for what there is not."""
        asked = ASKED.fullmatch(path)
        if asked is None:
            return None
        if asked["of"] is None:
            return None if asked["cell"] else _json(self._group())
        number = int(asked["of"])
        if number >= len(self.levels):
            return None
        array = self.levels[number].array
        if asked["cell"] is None:
            return _json(self._array(array))
        cell = tuple(map(int, asked["cell"][1:].split("/")))
        counts = [-(-n // c) for n, c in zip(array.shape, self.chunks, strict=True)]
        if len(cell) != len(counts) or any(i >= n for i, n in zip(cell, counts, strict=True)):
            return None
        return self._chunk(array, cell)

    def _chunk(self, array: Any, cell: Shape) -> bytes:
        start = tuple(i * c for i, c in zip(cell, self.chunks, strict=True))
        extent = tuple(min(c, n - a) for c, n, a in zip(self.chunks, array.shape, start, strict=True))
        samples = array[roi_of(start, extent)]
        if extent == self.chunks:
            return np.ascontiguousarray(samples, self.dtype).tobytes()
        whole = np.full(self.chunks, _blank(self.dtype), self.dtype)
        whole[tuple(slice(0, n) for n in extent)] = samples
        return whole.tobytes()

    def _group(self) -> dict[str, Any]:
        # a channel has none: it would make it something of each layer alone
        kinds = {"t": "time", "z": "space", "y": "space", "x": "space"}
        axes = [{"name": name} | ({"type": kinds[name]} if name in kinds else {}) for name in self.axes]
        datasets = [
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(level.factor)},
                    {"type": "translation", "translation": [(f - 1) / 2 for f in level.factor]},
                ],
            }
            for number, level in enumerate(self.levels)
        ]
        ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}

    def _array(self, array: Any) -> dict[str, Any]:
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": array.shape,
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if self.dtype.kind == "f" else 0,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": self.axes,
            "attributes": {},
        }


def streamed(axes: tuple[str, ...], arrays: Sequence[Any], *, kept: int = KEPT) -> Streamed:
    """Return the levels of an image, the finest first, as they are sent.

    Where the coarsest one is too large to be read for an overview, there is another one in which there is nothing.
    """
    finest, last = arrays[0].shape, arrays[-1]
    levels = [Level(Decoded(each, kept), factors(finest, each.shape)) for each in arrays]
    if math.prod(last.shape[-2:]) > MOST:
        steps = tuple(EMPTY if name in ("y", "x") else 1 for name in axes)
        shape = tuple(-(-n // step) for n, step in zip(last.shape, steps, strict=True))
        beyond = tuple(f * step for f, step in zip(levels[-1].factor, steps, strict=True))
        levels.append(Level(Nothing(shape, last.chunks, last.dtype), beyond))
    return Streamed(axes, tuple(levels))


def factors(finest: Shape, shape: Shape) -> tuple[float, ...]:
    """Return how many pixels of the finest level one of a level with that shape covers: powers of 2 if they fit."""
    return tuple(map(_factor, finest, shape))


def _factor(n: int, m: int) -> float:
    for whole in (2 ** round(math.log2(n / m)), round(n / m)):
        if n // whole <= m <= -(-n // whole):
            return float(whole)
    return n / m


def _blank(dtype: np.dtype[Any]) -> float:
    return math.nan if dtype.kind == "f" else 0


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
