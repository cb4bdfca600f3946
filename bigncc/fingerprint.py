"""What a mask or a field is known again by: a digest of its samples in order, each chunk read once if possible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bigncc.store import digest
from bigncc.tiles import Roi

DIGESTED = 2**26
"""Bytes that are read at once."""


def digest_of(array: Any) -> str:
    """Return a digest of an array's shape, dtype and values."""
    head = f"{array.shape} {np.dtype(array.dtype).str}".encode()
    parts = (np.ascontiguousarray(array[slab]).tobytes() for slab in slabs(array))
    return digest(part for group in ([head], parts) for part in group)


def slabs(array: Any) -> Iterator[Roi]:
    """Yield the regions of an array in the order of its samples, of whole chunks where `DIGESTED` bytes hold those."""
    shape, size = array.shape, np.dtype(array.dtype).itemsize
    axis = next(i for i in range(len(shape)) if i == len(shape) - 1 or math.prod(shape[i + 1 :]) * size <= DIGESTED)
    rows = max(1, DIGESTED // (math.prod(shape[axis + 1 :]) * size))
    chunk = getattr(array, "chunks", shape)[axis]
    rows = rows // chunk * chunk or rows
    for place in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], rows):
            one = (slice(i, i + 1) for i in place)
            yield (*one, slice(start, min(start + rows, shape[axis])), *(slice(0, n) for n in shape[axis + 1 :]))
