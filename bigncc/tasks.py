"""Tiles with the workers of a cluster: never more of them than a few, whatever becomes of a worker."""

import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from bigncc.errors import BignccError, DoesNotFitError, InputError, StoppedError
from bigncc.metadata import in_one_line

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")

AHEAD = 3
"""Tiles that a process has been given: it computes one, stores the one before, and waits for no third."""

GLANCE = 1.0
"""Seconds for which the number of workers is believed."""


@dataclass(frozen=True)
class Place:
    """A process of a cluster: its name, its threads, and the bytes that it may take, if it is watched."""

    name: str
    threads: int
    memory: int | None


def here() -> Place:
    """Return which process of a cluster calls this, within a task."""
    from distributed import get_worker

    worker = get_worker()
    manager = worker.memory_manager
    limit, share = manager.memory_limit, manager.memory_pause_fraction or 1.0
    # beyond that share it would be paused, and for good
    return Place(worker.address, worker.state.nthreads, int(limit * share) if limit else None)


def check_memory(client: Any, needed: int) -> None:
    """Raise DoesNotFitError if a worker may take less than `needed` bytes: it would be paused, and for good."""
    for name, worker in client.scheduler_info()["workers"].items():
        if 0 < (limit := worker["memory_limit"]) < needed:
            message = (
                f"worker {name} may take {limit / 1e6:.0f} MB and the tiles of this run need {needed / 1e6:.0f} MB: "
                "workers with that much are accepted"
            )
            raise DoesNotFitError(message)


def counting(client: Any) -> Callable[[], int]:
    """Return a function that says how many workers there are."""
    found, until = 0, 0.0

    def count() -> int:
        nonlocal found, until
        if (now := time.monotonic()) >= until:
            try:
                found, until = len(client.nthreads()), now + GLANCE
            except Exception:
                _gone()
        return found

    return count


def results(
    client: Any,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    most: Callable[[], int],
    killed: Callable[[Item, str], None],
) -> Iterator[tuple[Item, Result, bool]]:
    """Yield items with ``function(item)`` as they are done by workers, and whether their worker was lost before.

    A task that is with a worker when that is lost is begun again by the scheduler, several times. Then it is put aside,
    and tried alone in the end: whoever was beside the one that ends workers is not to blame.

    Parameters
    ----------
    client : Client
        Of `connect`.
    function : callable
        What a worker does, for its effect: it may be called twice.
    items : iterable
        As many as one likes: an item is taken when its task is to be sent.
    most : callable
        Says how many tasks the scheduler may have at a time.
    killed : callable
        Called with an item whose worker is lost each time, and why.

    Raises
    ------
    BignccError
        As the function does.
    StoppedError
        If the scheduler is gone.
    """
    aside: list[Item] = []
    with _losses(client) as lost:
        yield from _results(client, function, items, most, lambda item, _: aside.append(item), lost)
        for item, result, _ in _results(client, function, aside, lambda: 1, killed, lost):
            yield item, result, True


@contextmanager
def _losses(client: Any) -> Iterator[set[Any]]:
    """Yield keys of tasks, of anybody, that were with a worker when that was lost, as the scheduler tells of them."""
    lost: set[Any] = set()

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        if event[1].get("action") == "remove-worker":
            lost.update(event[1]["processing-tasks"])

    client.subscribe_topic("all", hear)
    try:
        yield lost
    finally:
        client.unsubscribe_topic("all")


def _results(
    client: Any,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    most: Callable[[], int],
    killed: Callable[[Item, str], None],
    lost: set[Any],
) -> Iterator[tuple[Item, Result, bool]]:
    from distributed import CancelledError, KilledWorker, as_completed

    name, waiting = f"bigncc-{uuid.uuid4().hex}", iter(items)
    done = as_completed(with_results=True, raise_errors=False, loop=client.loop)
    sent: dict[Any, Item] = {}
    number, left = 0, True
    while True:
        while left and len(sent) < most():
            for item in waiting:
                # a key of two parts: the scheduler keeps statistics for each first one
                future = client.submit(function, item, key=(name, number), pure=False)
                sent[future.key] = item
                done.add(future)
                number += 1
                break
            else:
                left = False
        if not sent:
            return
        future, result = next(done)
        key, state = future.key, future.status
        item = sent.pop(key)
        del future
        if state == "error" and isinstance(result[1], KilledWorker):
            killed(item, "its worker was lost each time, also when it was the only one at work")
        elif state == "error":
            _fail(result[1])
        elif isinstance(result, CancelledError):
            _gone()
        else:  # whatever has become of the worker meanwhile
            yield item, result, key in lost


def _fail(error: BaseException) -> NoReturn:
    if isinstance(error, ImportError) and not isinstance(error, BignccError):
        message = f"the workers cannot run tiles ({in_one_line(error)}): workers with this bigncc are accepted"
        raise InputError(message) from None
    raise error


def _gone() -> NoReturn:
    message = "the scheduler is gone; the same command continues"
    raise StoppedError(message) from None
