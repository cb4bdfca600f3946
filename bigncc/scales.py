"""Several windows of one block: a map of each, the largest coefficient, and which window gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import kernel
from bigncc.kernel import Block
from bigncc.maps import NOTHING, Asked, window_map
from bigncc.window import Window


def local(reference: Any, moving: Any, window: Window, *, asked: Asked = NOTHING, **rules: Any) -> Block:
    """Do what `bigncc.kernel.local` does, and the same with further windows.

    Parameters
    ----------
    reference, moving, window, **rules
        As for `bigncc.kernel.local`; what is around the core is enough for the largest window.
    asked : Asked
        With `windows` that are correlated beside `window`.

    Returns
    -------
    Block
        Of `window`, whose `further` has the map of each other one by its name, ``best`` and ``scale``.
    """
    block = kernel.local(reference, moving, window, asked=asked, **rules)
    if not asked.windows:
        return block
    others = [kernel.local(reference, moving, other, **rules) for other in asked.windows]
    named = {window_map(other.shape): found.ncc for other, found in zip(asked.windows, others, strict=True)}
    best, scale = largest([(found.ncc, found.status) for found in (block, *others)])
    return replace(block, further={**block.further, **named, "best": best, "scale": scale})


def largest(
    maps: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the largest coefficient among those of status 1, and the number of its window, from 1 on.

    Of equal ones the first counts; NaN where there is none.
    """
    best = np.full(maps[0][0].shape, np.nan, np.float32)
    scale = best.copy()
    for number, (ncc, status) in enumerate(maps, 1):
        larger = (status == 1) & ~(ncc <= best)
        best[larger], scale[larger] = ncc[larger], number
    return best, scale
