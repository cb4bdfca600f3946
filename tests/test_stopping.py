"""A run ends when it is told to; the whole of it is in test_cli."""

import signal
import subprocess
import sys
import time

import pytest

from bigncc import stopping
from bigncc.errors import InputError, StoppedError
from tests.test_cli import STOPPED, sentence

DEAF = """
import time
from bigncc import cli
@cli.cli.command()
def deaf():
    while True:
        try:
            print("up", flush=True)
            time.sleep(60)
        except Exception:
            print("deaf", flush=True)
cli.main()
"""


def test_a_signal_is_obeyed_even_where_its_exception_is_lost(tmp_path):
    # what a finalizer does to any exception, and many an `except Exception` to this one
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, "deaf"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        start = time.monotonic()
        process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert stdout == "deaf\nup\n"  # the exception was lost
    done = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
    assert sentence(done, STOPPED) == "bigncc: stopped by SIGTERM; the same command continues"


LATE = """
import os, signal, sys
from bigncc import cli
class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), numbers=(signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)):
        for number in numbers:
            kill(me, number)
sys.late = Late()  # which Python forgets when it has given up handlers
cli.main()
"""


def test_a_signal_that_comes_when_all_is_done_changes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LATE, "config"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "window:" in done.stdout


def test_time_ends():
    kept = signal.getsignal(signal.SIGALRM)
    try:
        stopping.after("1s", print)
        with pytest.raises(StoppedError, match="stopped by --max-time; the same command continues"):
            time.sleep(10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)


def test_what_is_no_time_is_refused():
    with pytest.raises(InputError, match="--max-time is '1d': a time such as 3h50m"):
        stopping.after("1d", print)
