"""The one way a kernel is compiled: without the interpreter lock, with IEEE arithmetic, kept on disk where possible."""

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


@functools.cache
def _say_uncached() -> None:
    logging.getLogger("bigncc").warning(
        "no compiled code can be kept beside %s, so each process compiles again: set NUMBA_CACHE_DIR to a writable one",
        __file__,
    )


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
    try:
        kept = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:
        # numba looks for a place as early as here and treats a read-only installation as an error
        _say_uncached()
        kept = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Function, kept)
