"""A footprint as what has to be added: rows of samples to columns, and columns to a window.

Columns of a footprint that look alike share one sum over their rows, and where the rows of one are among those of the
next, its sum goes on from there: a disk of radius 15 takes 62 additions for its 709 samples.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigncc.weights import Table

Array = NDArray[Any]


class Terms(NamedTuple):
    """What is added, group by group: all of it arrays, as compiled loops take it.

    Parameters
    ----------
    rows : ndarray of int64, ``(n, 2)``
        Plane and row of each line that is added to a column's sum, from 0.
    weights : ndarray of float64, ``(n,)``
        What it is multiplied by.
    columns : ndarray of int64
        Where the sums of columns are added to a window, from 0.
    groups : ndarray of int64, ``(k, 3)``
        Where each group ends in `rows` and `columns`, and 1 if its sum begins anew.
    runs : ndarray of int64, ``(m, 4)``
        Neighbours with a positive weight: plane, row, first column, and the one after the last.
    """

    rows: Array
    weights: Array
    columns: Array
    groups: Array
    runs: Array


@lru_cache
def terms_of(table: Table) -> Terms:
    """Return what has to be added for a footprint; for two dimensions there is one plane."""
    array = table.array.reshape((1,) * (3 - len(table.shape)) + table.shape)
    rows: list[tuple[int, ...]] = []
    weights: list[float] = []
    columns: list[int] = []
    groups: list[tuple[int, int, int]] = []
    before = np.zeros(array.shape[:2])
    for pattern, places in _alike(array):
        goes_on = bool((before[before > 0] == pattern[before > 0]).all()) and bool(groups)
        new = np.where(before > 0, 0.0, pattern) if goes_on else pattern
        added = np.argwhere(new > 0)
        rows += [tuple(place) for place in added.tolist()]
        weights += [float(new[tuple(place)]) for place in added]
        columns += places
        groups.append((len(rows), len(columns), 0 if goes_on else 1))
        before = pattern
    return Terms(
        np.array(rows, np.int64).reshape(-1, 2),
        np.array(weights),
        np.array(columns, np.int64),
        np.array(groups, np.int64),
        np.array(list(_runs(array)), np.int64),
    )


def _alike(array: Array) -> list[tuple[Array, list[int]]]:
    """Return the different columns of a footprint, those of fewer samples first, each with its places."""
    found: dict[bytes, list[int]] = {}
    for x in range(array.shape[2]):
        if array[:, :, x].any():
            found.setdefault(array[:, :, x].tobytes(), []).append(x)
    places = sorted(found.values(), key=lambda those: (np.count_nonzero(array[:, :, those[0]]), those))
    return [(array[:, :, those[0]], those) for those in places]


def _runs(array: Array) -> Any:
    """Yield the neighbours along x that count."""
    for z, y in np.ndindex(array.shape[:2]):
        counted = np.concatenate(([False], array[z, y] > 0, [False]))
        edges = np.flatnonzero(counted[1:] != counted[:-1])
        for begin, end in list(pairwise(edges.tolist()))[::2]:
            yield z, y, begin, end
