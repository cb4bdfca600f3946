"""How the C library and Python keep memory."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of glibc's malloc.h."""

_LARGEST_THRESHOLD = 2**25
"""The most that glibc accepts for _MMAP_THRESHOLD."""


def keep_freed_memory() -> None:
    """Let this process use again what it has freed, where the C library is glibc.

    By default each chunk gets fresh pages from the kernel and gives them back: two threads that decode then spend a
    third of their time in it, waiting for each other.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def what_is_there_stays() -> Iterator[None]:
    """Let Python look for garbage only in what is made within.

    All modules together have some half a million objects. Going through them takes a tenth of a second, every few
    seconds, in which no thread does anything else.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
