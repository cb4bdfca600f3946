"""Ending a run before its time: what signals and --max-time do."""

import os
import signal
import threading
from typing import NoReturn

from bigncc.errors import InputError, StoppedError

GRACE = 1.5
"""Seconds that a stopped run may take to leave tidily."""


def obey() -> None:
    """Stop, as from now on, when SIGINT, SIGTERM or SIGUSR1 comes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        # a job in the background of a script was told to ignore ^C
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def after(text: str) -> None:
    """Arrange to be stopped after a time such as 3h50m, 90m or 45s."""
    from bigncc.notation import seconds_of

    try:
        seconds = seconds_of(text)
    except ValueError:
        message = f"--max-time is {text!r}: a time such as 3h50m, 90m or 45s is accepted"
        raise InputError(message) from None
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def wait() -> None:
    """Wait until this process is stopped."""
    threading.Event().wait()


def _stop(number: int, _frame: object) -> NoReturn:
    """Unwind, or leave without when that takes too long: nothing on disk needs a tidy end.

    Whatever is running may ignore the exception, as a finalizer does, or wait for threads.
    """
    what = "--max-time" if number == signal.SIGALRM else signal.Signals(number).name
    error = StoppedError(f"stopped by {what}; the same command continues")
    signal.signal(signal.SIGALRM, lambda *_: leave(error))
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    raise error


def leave(error: StoppedError) -> NoReturn:
    """End the process with one sentence; do not wait for threads at work."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.write(2, f"bigncc: {error}\n".encode())
    os._exit(error.exit_code)
