"""Ending a run before its time: what signals and --max-time do."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from bigncc.errors import InputError, StoppedError

GRACE = 1.5
"""Seconds that a stopped run may take to leave tidily."""

_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1

Failed = Callable[[int, str], None]
"""Called with the exit code and a sentence before the process ends."""


def obey(failed: Failed) -> None:
    """Stop, as from now on, when SIGINT, SIGTERM or SIGUSR1 comes."""
    for number in _SIGNALS:
        # a job in the background of a script was told to ignore ^C
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(_stop, failed))


def after(text: str, failed: Failed) -> None:
    """Arrange to be stopped after a time such as 3h50m, 90m or 45s."""
    from bigncc.notation import seconds_of

    try:
        seconds = seconds_of(text)
    except ValueError:
        message = f"--max-time is {text!r}: a time such as 3h50m, 90m or 45s is accepted"
        raise InputError(message) from None
    signal.signal(signal.SIGALRM, partial(_stop, failed))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def over() -> None:
    """Stop for nothing any more: all is done, and Python, as it ends, would let a signal kill it."""
    for number in (*_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def wait() -> None:
    """Wait until this process is stopped."""
    threading.Event().wait()


def _stop(failed: Failed, number: int, _frame: object) -> NoReturn:
    """Unwind, or leave without when that takes too long: nothing on disk needs a tidy end.

    Whatever is running may ignore the exception, as a finalizer does, or wait for threads.
    """
    what = "--max-time" if number == signal.SIGALRM else signal.Signals(number).name
    error = StoppedError(f"stopped by {what}; the same command continues")
    signal.signal(signal.SIGALRM, lambda *_: leave(error, failed))
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    raise error


def leave(error: StoppedError, failed: Failed) -> NoReturn:
    """End the process with one sentence; do not wait for threads at work."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    failed(error.exit_code, str(error))
    os._exit(error.exit_code)
