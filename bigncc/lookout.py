"""Looking on while a run goes on, from wherever its output can be seen."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from bigncc import journal, store
from bigncc.decision import stored_grid
from bigncc.errors import IncompleteError
from bigncc.progress import Account, pace
from bigncc.proof import incomplete, plan_of, status
from bigncc.tiles import Plan

SHARE = 0.05
"""Of its time, what looking takes."""


def looks(url: str, every: float) -> Iterator[Account]:
    """Yield how far a run is, every so many seconds, until it is complete; the first time at once.

    Parameters
    ----------
    url : path
        Its output.
    every : float
        Seconds. What has a long journal is looked at less often.

    Raises
    ------
    InputError
        If there is no plan.
    IncompleteError
        When all that is missing is quarantined.
    """
    url = store.absolute(url)
    if status(url)["state"] == "complete":  # which needs no plan
        return
    standing = plan_of(url)
    grid = stored_grid(standing)
    look = _look(url, standing, grid)
    while True:
        start = time.monotonic()
        complete = journal.read_complete(url)
        account, idle = look()  # after that, so that the last one sees all of it
        pause = max(every, (time.monotonic() - start) / SHARE)
        yield account
        if complete is not None and complete["plan_id"] == standing["plan_id"]:
            return
        if idle:
            raise IncompleteError(incomplete(url))
        time.sleep(pause)


def _look(url: str, standing: dict[str, Any], grid: Plan) -> Callable[[], tuple[Account, bool]]:
    """Return a function that says how far a run is, and whether all that it lacks is quarantined."""
    follow, begun, speed_at = journal.following(url, standing["plan_id"]), time.monotonic(), pace()
    finished, pixels, total = set[int](), 0, math.prod(grid.shape)
    before: int | None = None

    def look() -> tuple[Account, bool]:
        nonlocal finished, pixels, before
        new = follow() - finished
        finished |= new
        pixels += sum(grid.weight(index) for index in new if index < grid.base and not grid[index].nodes)
        # what was there when the look-out began says nothing of how fast it goes
        speed = None if before is None else speed_at(time.monotonic() - begun, pixels - before, 1)
        before = pixels if before is None else before
        lost = journal.quarantined(url).keys() - finished
        left = (total - pixels) / speed if speed else None
        account = Account(len(grid), total, len(finished), pixels, quarantined=len(lost), speed=speed, left=left)
        return account, bool(lost) and lost | finished >= set(range(grid.base))

    return look
