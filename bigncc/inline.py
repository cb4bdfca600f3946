"""Zarr's work on the thread that asks for it.

Zarr runs its coroutines on one event loop of the process and its codecs on a pool beside it. Where many threads ask at
once, each chunk then waits for its turn three times. Here a coroutine runs on the calling thread from beginning to end,
on a loop of that thread's own without an executor.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore

if TYPE_CHECKING:
    from zarr.abc.store import Store

Result = TypeVar("Result")
Given = TypeVarTuple("Given")


class _Busy(selectors.DefaultSelector):
    """A selector that looks for news only when there is nothing else to do.

    Each look is a system call: the thread lets go of the interpreter before, and has to wait for it afterwards.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return [] if timeout == 0 else super().select(timeout)


class _AtOnce(asyncio.SelectorEventLoop):
    """A loop that does at once what others would hand to an executor, and tells nobody of it."""

    def __init__(self) -> None:
        super().__init__(_Busy())

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002
        func: Callable[[Unpack[Given]], Result],
        *args: *Given,
    ) -> asyncio.Future[Result]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _Loop:
    """An event loop that is closed with its thread."""

    def __init__(self) -> None:
        self.loop = _AtOnce()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self.loop.run_until_complete(coroutine)
        except BaseException:
            # what was begun beside the one that failed must not go on within the next call
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            raise

    def __del__(self) -> None:
        self.loop.close()


_own = threading.local()


def run(coroutine: Coroutine[Any, Any, Result], store: Store) -> Result:
    """Return what a coroutine of zarr returns; `store` is what it reads or writes.

    Stores that wait for a network stay with zarr's own loop, which some of them are bound to.
    """
    while isinstance(store, WrapperStore):
        store = store._store
    # within a notebook the main thread runs a loop already
    if not isinstance(store, (LocalStore, MemoryStore)) or asyncio._get_running_loop() is not None:
        return sync(coroutine)
    if not hasattr(_own, "loop"):
        _own.loop = _Loop()
    return _own.loop.run(coroutine)  # type: ignore[no-any-return]
