"""Which tiles a job takes from the shares of others when its own is done; nobody hands them out.

Whoever looks at the journal sees what is finished and not what is in work. So several jobs may compute one tile, which
is harmless, and this room is about how seldom: the others take different parts of what is left, leave alone what the
owner of a share is likely to be at, and wait for a while before they take what somebody else would take first.
"""

import time
from collections.abc import Callable, Iterator
from itertools import groupby

from bigncc.tiles import share

Look = Callable[[], set[int]]

AHEAD = 2
"""Tiles at the front of what is left of a share that its owner has in work."""

GUESS = 1.0
"""Seconds that a tile takes, as long as this job has computed none."""

PATIENCE = 2
"""How many times as long as a tile takes something must happen until a tile counts as nobody's."""

SHARE = 0.05
"""Of its time, what a job looks at the journal."""


def seldom(look: Look, clock: Callable[[], float] = time.monotonic) -> Look:
    """Return a function that does what `look` does, or, if that was not long ago, returns what it saw."""
    seen, next_time = set[int](), 0.0

    def glance() -> set[int]:
        nonlocal seen, next_time
        if (start := clock()) >= next_time:
            seen = look()
            end = clock()
            next_time = end + (end - start) / SHARE
        return seen

    return glance


def batches(
    look: Look,
    total: int,
    part: tuple[int, int],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[list[int]]:
    """Yield tiles of other shares to be computed before the next ones are asked for, until all are finished.

    Parameters
    ----------
    look : callable
        Says which tiles are finished.
    total : int
        Tiles of all shares.
    part : tuple of int
        Which share is done, ``(i, n)``.
    clock, pause : callable
        The time in seconds, and what lets it go by.
    """
    mine, (which, parts), each = set(share(total, *part)), part, GUESS
    fronts: dict[int, float] = {}
    while left := [tile for tile in range(total) if tile not in mine and tile not in look()]:
        now = clock()
        shares = [list(tiles) for _, tiles in groupby(left, lambda tile: ((tile + 1) * parts - 1) // total)]
        fronts = {first: fronts.get(first, now) for first, *_ in shares}
        free = [tile for tiles in shares for tile in tiles[AHEAD if now - fronts[tiles[0]] < PATIENCE * each else 0 :]]
        # from the end, as the owner comes from the front: they meet once and do not go on side by side
        batch = [free[k] for k in reversed(share(len(free), which, parts))]
        if not batch:
            place = len(left) * which // parts
            # the first of those who would take the same tile waits shortest
            before = which - -(-place * parts // len(left))
            if _finished(look, left[place], each * PATIENCE * (1 + before), clock, pause):
                continue
            batch = [left[place]]
        start = clock()
        yield batch
        each = (clock() - start) / len(batch)
        mine.update(batch)  # what fails here is not tried here again


def _finished(
    look: Look, tile: int, seconds: float, clock: Callable[[], float], pause: Callable[[float], None]
) -> bool:
    """Wait until a tile is finished, at most a time."""
    end = clock() + seconds
    while tile not in look():
        if clock() >= end:
            return False
        pause(seconds / 8)
    return True
