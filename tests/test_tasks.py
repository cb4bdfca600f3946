"""Dask's distributed engine with trivial tasks: a window that holds, and who is to blame."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask
import psutil
import pytest
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from bigncc import cluster, tasks
from bigncc.errors import DoesNotFitError, InputError, StoppedError
from bigncc.machine import ClusterConfig
from tests.slurm import free_ports, until

MEMORY = 400 * 10**6


def chosen(**keys):
    return ClusterConfig(**keys)


def never(item, reason):
    raise AssertionError(item, reason)


class Most(SchedulerPlugin):
    """How many tasks the scheduler has known at a time."""

    def __init__(self, scheduler):
        self.scheduler, self.most, self.known, self.all = scheduler, 0, 0, 0

    def transition(self, _key, start, finish, *_, **__):
        states = [task.state for task in self.scheduler.tasks.values()]
        self.known = max(self.known, len(states))
        self.most = max(self.most, sum(state not in ("memory", "released", "forgotten") for state in states))
        self.all += start == "released" and finish != "forgotten"


@pytest.fixture(scope="module")
def threads():
    """A scheduler on loopback, and two workers in this process."""
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, memory_limit=0, **options) as running:
        yield running


@pytest.fixture
def client(threads):
    with cluster.connect(chosen(kind="address", address=threads.scheduler_address), 1, MEMORY) as connected:
        yield connected


@pytest.mark.parametrize("window", [1, 3, 7])
def test_no_more_than_the_window_is_with_the_scheduler_and_nothing_stays(client, threads, window):
    count = Most(threads.scheduler)
    threads.scheduler.add_plugin(count, name="most")
    taken, given = [], []

    def items():
        for i in range(60):
            taken.append(i)
            yield i

    for item, result, again in tasks.results(client, abs, (-i for i in items()), lambda: window, never):
        assert not again
        given.append(result)
        assert item == -result
        assert len(taken) - len(given) < window
    assert sorted(given) == taken == list(range(60))
    assert count.most <= window
    assert count.known <= 2 * window + 2  # what is done is forgotten when its result is there
    assert count.all == 60  # one task each
    until(lambda: not threads.scheduler.tasks, "tasks that stay")
    threads.scheduler.remove_plugin(name="most")


def test_a_window_grows_while_work_goes_on(client):
    sizes = iter([1] * 5)
    assert sorted(r for _, r, _ in tasks.results(client, abs, range(50), lambda: next(sizes, 9), never)) == list(
        range(50)
    )


def _unfit(item):
    message = f"tile {item} does not fit"
    raise DoesNotFitError(message)


def _lacking(item):
    import nothing_of_that_name  # noqa: F401


def _buggy(item):
    return {}[item]


@pytest.mark.parametrize(
    ("task", "error", "sentence"),
    [
        (_unfit, DoesNotFitError, r"tile \d does not fit"),
        (_lacking, InputError, "the workers cannot run tiles .*nothing_of_that_name.*: workers with this bigncc"),
        (_buggy, KeyError, r"\d"),
    ],
)
def test_what_a_task_raises_is_raised(client, threads, task, error, sentence):
    with pytest.raises(error, match=sentence):
        list(tasks.results(client, task, range(9), lambda: 2, never))


def _deadly(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def _deadly_once(mark):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def _forgiving(dask_scheduler):
    dask_scheduler.allowed_failures = 3


def _process(_item):
    return os.getpid()


def test_who_ends_workers_is_put_aside_and_who_was_beside_is_not(tmp_path):
    blamed, tried, mark = {}, [], str(tmp_path / "mark")

    def task_of(item):
        tried.append(item)
        return item

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster.connect(chosen(kind="processes", workers=1), 1, MEMORY) as client,
    ):
        items = (task_of(i) for i in range(6))
        # one that is lost when its result is there is no matter
        lost = []
        for _, pid, _ in tasks.results(client, _process, range(8), lambda: 3, never):
            if not lost:
                os.kill(pid, signal.SIGKILL)
                lost.append(pid)
        done = list(tasks.results(client, _deadly, items, lambda: 3, blamed.__setitem__))
        found = {item: pid for item, pid, _ in done}
        # the scheduler begins it again itself
        client.run_on_scheduler(_forgiving)
        once = list(tasks.results(client, _deadly_once, [mark], lambda: 3, never))
        spans = client.cluster.scheduler.extensions["spans"].spans.values()
        assert not any(span.metadata for span in spans)  # or there would be a note of each tile for ever
        assert spans
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended meanwhile
                listening = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
                assert set(listening) <= {"127.0.0.1"}
    assert tried == [0, 1, 2, 3, 4, 5]
    assert set(blamed) == {3}
    assert "its worker was lost each time" in blamed[3]
    assert set(found) == {0, 1, 2, 4, 5}
    assert [(item, again) for item, _, again in once] == [(mark, True)]
    assert len(set(found.values())) > 1  # a worker came after the one that was killed


def test_a_scheduler_that_goes_is_said(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    port = free_ports(1)[0]
    command = "from distributed.cli.dask_scheduler import main; main()"
    words = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with subprocess.Popen([sys.executable, "-c", command, *words], stderr=subprocess.DEVNULL) as scheduler:
        address = f"tcp://127.0.0.1:{port}"
        try:
            until(lambda: _answers(port), "no scheduler")
            with cluster.connect(chosen(kind="address", address=address), 1, MEMORY) as client:
                found = tasks.results(client, abs, range(9), lambda: 2, never)
                assert tasks.counting(client)() == 0
                scheduler.kill()
                start = time.monotonic()
                with pytest.raises(StoppedError, match="the scheduler is gone; the same command continues"):
                    next(found)
                assert time.monotonic() - start < 20
                with pytest.raises(StoppedError, match="the scheduler is gone"):
                    tasks.counting(client)()
        finally:
            scheduler.kill()


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_workers_come_as_there_is_work():
    with cluster.connect(chosen(kind="processes", adapt=(0, 2)), 2, MEMORY) as client:
        count = tasks.counting(client)
        most = 0
        for _ in tasks.results(client, time.sleep, [0.3 + i / 10**6 for i in range(30)], lambda: 6, never):
            most = max(most, count())
        assert most == 2
