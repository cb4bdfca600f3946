"""The threads of a process, and how the tiles that are in work at once take turns on them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import NamedTuple, TypeVar

from bigncc.errors import StoppedError

Result = TypeVar("Result")


class Crew(NamedTuple):
    """The threads that compute the blocks of all tiles in flight, and what the tile holds whose turn it is."""

    pool: Executor
    turn: Lock


@contextmanager
def crew_of(threads: int) -> Iterator[Crew]:
    """Make a crew that nobody waits for in the end."""
    # one pool for all tiles; dask would make one for each thread that asks
    pool = ThreadPoolExecutor(threads)
    try:
        yield Crew(pool, Lock())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def in_turn(turn: Lock, blocks: int, threads: int) -> Iterator[Callable[[], None]]:
    """Wait for a tile's turn; what is yielded is to be called after each block.

    The next tile begins when so few blocks are left that a thread has nothing to do: sooner, both would hold what they
    have read and computed.
    """
    given, counted = Lock(), count(1)

    def give() -> None:
        if given.acquire(blocking=False):
            turn.release()

    def one_more() -> None:
        if next(counted) > blocks - threads:
            give()

    turn.acquire()
    try:
        yield one_more
    finally:
        give()


def in_flight(function: Callable[[int], Result], items: Iterable[int], most: int) -> Iterator[Result]:
    """Yield ``function(item)`` in order, while those of the next items are being computed."""
    pool, waiting, patient = ThreadPoolExecutor(most), deque[Future[Result]](), True
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (StoppedError, KeyboardInterrupt):
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)
