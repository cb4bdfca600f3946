"""Which tiles a job takes from the shares of others when its own is done; nobody hands them out.

Whoever looks at the journal sees what is finished and not what is in work. So several jobs may compute one tile, which
is harmless, and this room is about how seldom: the others take different parts of what is left, leave alone what the
owner of a share is likely to be at, and wait for a while before they take what somebody else would take first.
"""

import time
from collections.abc import Callable, Iterator
from itertools import groupby, islice

from bigncc.tiles import share

Look = Callable[[], set[int]]

AHEAD = 2
"""Tiles at the front of what is left of a share that its owner has in work."""

GUESS = 0.5
"""Seconds that a tile takes, as long as this job has computed none."""

PATIENCE = 4
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
    while left := [tile for tile in range(total) if tile not in mine and tile not in look()]:
        cold = _untouched(left, total, parts)
        batch = [cold[k] for k in share(len(cold), which, parts)]
        if not batch:
            place = len(left) * which // parts
            # the first of those who would take the same tile waits shortest
            before = which - -(-place * parts // len(left))
            if _something_happens(look, left, each * PATIENCE * (1 + before), clock, pause):
                continue
            batch = [left[place]]
        start = clock()
        yield batch
        each = (clock() - start) / len(batch)
        mine.update(batch)  # what fails here is not tried here again


def _untouched(left: list[int], total: int, parts: int) -> list[int]:
    """Return the tiles that no owner of a share is at."""
    shares = groupby(left, lambda tile: ((tile + 1) * parts - 1) // total)
    return [tile for _, tiles in shares for tile in islice(tiles, AHEAD, None)]


def _something_happens(
    look: Look, left: list[int], seconds: float, clock: Callable[[], float], pause: Callable[[float], None]
) -> bool:
    """Wait until one of some tiles is finished, at most a time."""
    end = clock() + seconds
    while clock() < end:
        pause(seconds / 8)
        if not look().isdisjoint(left):
            return True
    return False
