"""The threads of a process, and how the tiles that are in work at once take turns on them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from threadpoolctl import threadpool_limits

from bigncc.errors import StoppedError

Result = TypeVar("Result")


_within: list[Any] = []
_changing = Lock()


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


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Let each matrix product take the thread that asks for it and no more, within any number of such contexts.

    BLAS would wake a thread for each processor, which then wait for the next product as busily as they work: beside
    threads of one's own this takes twice the processors' time for small matrices.
    """
    with _changing:
        # the first of all knows what was before them, and it is the last to go
        _within.append(None if _within else threadpool_limits(1, "blas"))
    try:
        yield
    finally:
        with _changing:
            if (limits := _within.pop()) is not None:
                limits.restore_original_limits()
