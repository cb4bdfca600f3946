"""A tile that fails is tried once more, and then put into quarantine: what became of it is told."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from bigncc import journal
from bigncc.errors import BignccError
from bigncc.ledger import Row
from bigncc.metadata import in_one_line
from bigncc.progress import Step

AGAIN = 0.5
"""Seconds before a tile that failed is tried again."""


class Outcome(NamedTuple):
    """A tile's row, None if it is quarantined or another job has made it, and how often it was tried here."""

    row: Row | None
    tries: int

    def step(self, pixels: int, workers: int | None = None) -> Step:
        """Return what is told of a tile of so many pixels."""
        return Step(pixels, self.tries, self.tries > 0 and self.row is None, workers)


def twice(make: Callable[[], Row], url: str, index: int) -> Outcome:
    """Make a tile, and once more if that fails; then it is quarantined.

    Raises
    ------
    BignccError
        At once: it concerns more than one tile.
    """
    for tries, pause in ((1, AGAIN), (2, None)):
        start = time.perf_counter()
        try:
            return Outcome(replace(make(), seconds=time.perf_counter() - start), tries)
        except BignccError:
            raise
        except Exception as error:
            if pause is None:
                journal.quarantine(url, index, in_one_line(error))
            else:  # another run may be writing the same object
                time.sleep(pause)
    return Outcome(None, 2)
