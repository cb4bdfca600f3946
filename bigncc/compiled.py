"""The one way a kernel is compiled: without the interpreter lock, with IEEE arithmetic, kept on disk where possible."""

import fcntl
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event as events
from numba.core.compiler_lock import global_compiler_lock as _numba_lock

Function = TypeVar("Function", bound=Callable[..., Any])

ROOMS = (
    "arithmetic", "autocorrelation", "coefficients", "confidence", "convolution", "gaussian", "halving",
    "interpolation", "lines", "matching", "moments", "ranking", "shaped", "sums", "tails", "warping",
)  # fmt: skip
"""Rooms with compiled loops."""

_config: Any = numba.config
_log = logging.getLogger("bigncc")


@functools.cache
def _say_uncached() -> None:
    _log.warning(
        "no compiled code can be kept beside %s, so each process compiles again: set NUMBA_CACHE_DIR to a writable one",
        __file__,
    )


class _Announcer(events.Listener):
    """Says what is being compiled; what is found on disk is not."""

    def __init__(self) -> None:
        self.inside = threading.local()

    def on_start(self, event: Any) -> None:
        depth = getattr(self.inside, "depth", 0)
        self.inside.depth = depth + 1
        function = event.data["dispatcher"].py_func
        # a loop that another one needs is part of the same wait
        if depth == 0 and str(function.__module__).startswith("bigncc."):
            kind = _dtype(event.data["args"])
            _log.info("compiling %s for %s samples, once: some seconds", function.__qualname__, kind)

    def on_end(self, event: Any) -> None:  # noqa: ARG002
        self.inside.depth -= 1


def _dtype(kinds: Any) -> str:
    """Return the dtype of the first array among argument types, tuples opened."""
    for kind in kinds:
        if isinstance(kind, numba.types.Array):
            return str(kind.dtype)
        if isinstance(kind, numba.types.BaseTuple) and (found := _dtype(kind)):
            return found
    return ""


events.register("numba:compile", _Announcer())  # type: ignore[no-untyped-call]


def compiled(function: Function) -> Function:
    """Compile `function` on its first call, and keep the machine code where its folder can be written.

    There is no ``fastmath``, so nothing is reassociated or fused. Division by zero gives inf or NaN as in numpy.
    ``NUMBA_DISABLE_JIT=1`` leaves the function as it is.

    Parameters
    ----------
    function : callable
        A function within numba's subset of Python.

    Returns
    -------
    callable
        The same function, compiled.
    """
    return _compiled(function, {})


def compiled_loop(function: Function) -> Function:
    """Do the same for a function that makes and returns no array.

    Then numba need not count references to arrays, which takes a tenth of the time of loops over short lines.
    """
    return _compiled(function, {"_nrt": False})


def inlined_loop(function: Function) -> Function:
    """Do the same for one that is called for each line: handing over its arguments would take as long as some loops."""
    return _compiled(function, {"_nrt": False, "forceinline": True})


def _compiled(function: Function, extra: dict[str, Any]) -> Function:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **extra}
    standard = _config.CACHE_DIR
    _config.CACHE_DIR = _place()
    try:
        kept = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # numba looks for a place as early as here and treats a read-only installation as an error
        _say_uncached()
        kept = numba.njit(**options)(function)
    else:
        if kept is not function:  # as it is with NUMBA_DISABLE_JIT
            _take_turns(kept)
    finally:
        _config.CACHE_DIR = standard
    return cast(Function, kept)


class _Turn:
    """The turn to compile: of many processes that start at once one compiles and the others load what it kept.

    It is also the turn to write. Where two processes write at once, numba may keep the machine code of one under the
    name of the other's, which is for other types.
    """

    def __init__(self) -> None:
        self.depth, self.file = 0, -1

    def take(self, folder: str) -> None:
        """Wait until no other process has it; where files cannot be locked, nobody waits."""
        self.depth += 1
        if self.depth > 1:  # a loop that another one needs
            return
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.file = os.open(Path(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("compiling goes on in another process: some seconds")
                fcntl.flock(self.file, fcntl.LOCK_EX)
        except OSError:
            self._let_go()

    def back_to(self, depth: int) -> None:
        """Give back what was taken since the depth was this."""
        if self.depth > depth == 0:
            self._let_go()
        self.depth = depth

    def _let_go(self) -> None:
        if self.file >= 0:
            os.close(self.file)  # and with it the lock
        self.file = -1


_turn = _Turn()


class _Kept:
    """What numba keeps of a function on disk, looked at once more when it is this process's turn to compile."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        found = self._kept.load_overload(signature, context)
        if found is None:
            _turn.take(self._kept.cache_path)
            found = self._kept.load_overload(signature, context)
        return found


def _take_turns(dispatcher: Any) -> None:
    """Let processes compile a function one after the other; within a process numba itself does."""
    compile_ = dispatcher.compile

    def in_turn(signature: Any) -> Any:
        with _numba_lock:
            depth = _turn.depth
            try:
                return compile_(signature)
            finally:
                _turn.back_to(depth)

    dispatcher._cache, dispatcher.compile = _Kept(dispatcher._cache), in_turn


@functools.cache
def _place() -> str:
    """Return a folder for the machine code of this very source: numba looks only at the file of the outermost loop."""
    here = Path(__file__).parent
    source = b"".join((here / f"{room}.py").read_bytes() for room in ROOMS)
    return str(Path(_config.CACHE_DIR or here / "__pycache__") / f"bigncc-{hashlib.sha256(source).hexdigest()[:16]}")
