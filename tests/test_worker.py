"""Tiles on Dask's distributed engine: the bits of one process, and nothing finished is computed again."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import dask
import psutil
import pytest
from distributed import LocalCluster

from bigncc import cluster, config, pipeline, tasks, worker
from bigncc.errors import DoesNotFitError, IncompleteError, InputError, RefusedError
from tests import pairs
from tests.slurm import until
from tests.test_cli import DOES_NOT_FIT, SCRIPT, STOPPED, computed, sentence
from tests.test_cli import started as forked_cli
from tests.test_cluster import certificates

WORDS = (
    "registration.transform=none.json",
    "window.size=31",
    "output.chunks=[64, 64]",
    "engine.memory=364MB",
    "engine.threads=1",
)
TWO = ("cluster.kind=processes", "cluster.workers=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair with many tiles, and the map of one process."""
    place = tmp_path_factory.mktemp("worker")
    pairs.pair(place, (900, 1000), chunks=(128, 128))
    (place / "none.json").write_text('{"kind": "translation", "offset": [0, 0]}')
    pipeline.run(asked(place, "whole"))
    return place


@pytest.fixture(scope="module")
def threads():
    """A scheduler on loopback, and two workers in this process, whose other tests have taken memory as well."""
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=2, threads_per_worker=2, memory_limit="9GB", **options) as running:
        yield running


def asked(folder, out, *words):
    """The config of a run whose paths are in full."""
    urls = {name: {"url": str(folder / path)} for name, path in (("reference", "a.zarr"), ("moving", "b.zarr"))}
    transform = f"registration.transform={folder / 'none.json'}"
    return config.load([urls, {"output": {"url": str(folder / out)}}, *WORDS, transform, *words])


def started(folder, out, *words):
    """A run in the background."""
    command = [SCRIPT, "run", "a.zarr", "b.zarr", out, *WORDS, *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers(process):
    """The processes that compute for a run, by their start."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found += [child.pid] if "spawn_main" in " ".join(child.cmdline()) else []
    return sorted(found)


def complete(folder, out):
    """Assert that a map is that of one process, whose tiles were each computed once."""
    pairs.same(pairs.maps(folder / out), pairs.maps(folder / "whole"))
    assert not pipeline.verify(str(folder / out)).faults
    found = computed(folder / out)
    assert len(found) == len(set(found)) == len(computed(folder / "whole"))


def test_one_of_two_processes_is_killed_half_way_and_nothing_finished_is_computed_again(folder):
    with started(folder, "killed", *TWO) as run:
        until(lambda: len(computed(folder / "killed")) >= 10, "no tiles")
        before, there = workers(run), computed(folder / "killed")
        assert len(before) == 2
        # whoever has nothing to do is sent the next tile: so it has one for certain when the other one has done one
        os.kill(before[0], signal.SIGSTOP)
        until(lambda: len(computed(folder / "killed")) > len(there), "the other one does nothing")
        time.sleep(0.5)
        there = computed(folder / "killed")
        os.kill(before[0], signal.SIGKILL)
        # it has ended, while the run goes on and another one takes its place
        until(lambda: before[0] not in (now := workers(run)) and len(now) == 2, "nobody else came", 30, 0.01)
        assert len(there) < len(computed(folder / "whole")) - 10
        stdout, stderr = run.communicate(timeout=100)
    assert run.returncode == 0, stderr
    assert "Traceback" not in stdout + stderr
    assert re.search(r"^bigncc: dashboard: http://127\.0\.0\.1:\d+/status$", stderr, re.MULTILINE)
    last = re.search(
        r" tile (\d+)/\1, 100 %, .* Mpixel/s, \d workers?, (\d+) tried again, 0 s left$", stderr, re.MULTILINE
    )
    assert 1 <= int(last[2]) <= tasks.AHEAD  # what the one that was killed had been given
    complete(folder, "killed")
    # both wrote, each a file of its own, and who came after the one that was killed another one
    assert len(list((folder / "killed.bigncc" / "journal").glob("*.jsonl"))) >= 2


@pytest.mark.soak
def test_the_client_is_killed_and_the_same_command_continues(folder):
    with started(folder, "left", *TWO) as run:
        until(lambda: len(computed(folder / "left")) >= 10, "no tiles")
        pids = workers(run)
        run.kill()
        run.communicate()
    until(lambda: not any(map(psutil.pid_exists, pids)), "workers without a client")
    there = computed(folder / "left")
    assert 10 <= len(there) < len(computed(folder / "whole"))
    pipeline.run(asked(folder, "left"))
    assert computed(folder / "left")[: len(there)] == there
    complete(folder, "left")


def test_a_stopped_run_ends_in_time_and_leaves_no_process(folder):
    with started(folder, "stopped", *TWO) as run:
        until(lambda: len(computed(folder / "stopped")) >= 2, "no tiles")
        pids = workers(run)
        run.terminate()
        start = time.monotonic()
        stdout, stderr = run.communicate(timeout=60)
        assert time.monotonic() - start < 10
    stderr = "".join(line for line in stderr.splitlines(keepends=True) if "dashboard" not in line)
    done = subprocess.CompletedProcess([], run.returncode, stdout, stderr)
    assert sentence(done, STOPPED) == "bigncc: stopped by SIGTERM; the same command continues"
    until(lambda: not any(map(psutil.pid_exists, pids)), "workers without a client")


@pytest.mark.soak
def test_a_scheduler_that_is_there_makes_the_same_map_by_its_file(folder, threads):
    file = folder / "scheduler.json"
    file.write_text(json.dumps(threads.scheduler.identity()))
    pipeline.run(asked(folder, "found", "cluster.kind=address", f"cluster.address={file}"))
    complete(folder, "found")


def test_a_scheduler_that_speaks_tls_makes_the_same_map(folder):
    files = certificates(folder / "tls")
    options = {"host": "127.0.0.1", "protocol": "tls://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(1, threads_per_worker=2, memory_limit=0, security=cluster._security(files), **options) as running:
        where = {"kind": "address", "address": running.scheduler_address, "security": files.model_dump()}
        pipeline.run(asked(folder, "closed", {"cluster": where}, "output.region=200:520,300:700"))
    whole = pairs.maps(folder / "whole")
    pairs.same(pairs.maps(folder / "closed"), {name: array[200:520, 300:700] for name, array in whole.items()})
    found = computed(folder / "closed")
    assert len(found) == len(set(found)) >= 16
    assert not pipeline.verify(str(folder / "closed")).faults


@pytest.mark.soak
def test_shares_of_a_run_are_computed_by_workers_too(folder, threads):
    where = asked(folder, "shared", "cluster.kind=address", f"cluster.address={threads.scheduler_address}")
    pipeline.prepare(where)
    assert not pipeline.run(where, part=(1, 2)).complete
    assert not pipeline.complete(pipeline.prepared(where), part=(0, 2), steal=True).complete
    assert pipeline.finish(str(folder / "shared")).complete
    complete(folder, "shared")


@pytest.mark.soak
def test_what_is_stored_wrongly_is_computed_again_by_workers(folder, threads):
    where = asked(folder, "repaired", "cluster.kind=address", f"cluster.address={threads.scheduler_address}")
    pipeline.run(where)
    before = computed(folder / "repaired")
    broken = sorted(path for path in (folder / "repaired" / "0" / "c").rglob("*") if path.is_file())[3]
    broken.write_bytes(b"")
    pipeline.run(where)
    assert len(computed(folder / "repaired")) == len(before) + 1
    pairs.same(pairs.maps(folder / "repaired"), pairs.maps(folder / "whole"))
    assert not pipeline.verify(str(folder / "repaired")).faults


def test_a_tile_that_another_process_has_finished_meanwhile_is_not_computed_again(folder, threads):
    where = asked(folder, "twice", "cluster.kind=address", f"cluster.address={threads.scheduler_address}")
    ready = pipeline.prepare(where)
    settings = {**where.engine.model_dump(), "threads": 1}
    order = worker.Order(ready.job.url, ready.job.plan_id, settings, "one")
    with threads.get_client() as client:
        first, second = (client.submit(worker.tile, order, (5, False), pure=False).result() for _ in range(2))
        assert first.row.digests == second.row.digests
        assert (first.tries, second.tries) == (1, 0)
        assert computed(folder / "twice") == [5]
        client.submit(worker.tile, order, (5, True), pure=False).result()
        assert computed(folder / "twice") == [5, 5]
        elsewhere = worker.Order(ready.job.url, "another", settings, "two")
        with pytest.raises(InputError, match=r"has plan \w+ here and another where the run was begun.*\(worker tcp://"):
            client.submit(worker.tile, elsewhere, (5, False), pure=False).result()


@pytest.mark.soak
def test_an_input_that_changes_meanwhile_is_refused_with_the_worker_s_name(folder, threads, tmp_path):
    pairs.pair(tmp_path, (900, 1000), chunks=(128, 128))
    (tmp_path / "none.json").write_text('{"kind": "translation", "offset": [0, 0]}')
    where = asked(tmp_path, "out", "cluster.kind=address", f"cluster.address={threads.scheduler_address}")
    pipeline.run(where)
    for path in (tmp_path / "out" / "0").rglob("c/*/*"):
        path.unlink()
    # none of those that an image is known again by
    one, other = (tmp_path / "a.zarr" / "c" / place for place in ("1/1", "5/4"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(RefusedError, match=r"a.zarr has changed since this output was begun .*\(worker tcp://"):
        pipeline.run(where)


DEADLY = """
import os, signal
from bigncc import engine
computing = engine.computing = getattr(engine, "computing", engine.compute)  # it may be loaded twice
def compute(job, pair, out, tile, *rest):
    if tile.index == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return computing(job, pair, out, tile, *rest)
engine.compute = compute
"""


@pytest.mark.soak
def test_a_tile_that_ends_its_worker_each_time_is_quarantined_and_the_others_are_finished(folder):
    (folder / "deadly.py").write_text(DEADLY)
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(1, threads_per_worker=2, memory_limit=0, preload=str(folder / "deadly.py"), **options) as running,
        pytest.raises(IncompleteError, match=r"tile 7 failed twice \(its worker was lost each time, also when"),
    ):
        pipeline.run(asked(folder, "poison", "cluster.kind=address", f"cluster.address={running.scheduler_address}"))
    # the last tile of the whole is one of a coarser level
    assert sorted(computed(folder / "poison")) == [i for i in range(len(computed(folder / "whole")) - 1) if i != 7]
    pipeline.run(asked(folder, "poison"))
    complete(folder, "poison")


def test_a_worker_with_less_memory_than_a_tile_needs_is_said(folder):
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=1, threads_per_worker=1, memory_limit="340MB", **options) as running:
        words = ("cluster.kind=address", f"cluster.address={running.scheduler_address}")
        done = forked_cli()(folder, "run", "a.zarr", "b.zarr", "small", *WORDS, *words)
    said = sentence(done, DOES_NOT_FIT)
    assert re.search(r"worker tcp://\S+ may take 340 MB and the tiles of this run need 36\d MB: workers with", said)
    with pytest.raises(DoesNotFitError, match="engine.memory is 300 MB"):
        pipeline.run(asked(folder, "small", *words, "engine.memory=300MB"))


def test_a_worker_that_would_be_paused_is_said_and_one_with_many_threads_uses_fewer(folder):
    where = asked(folder, "narrow", "cluster.kind=address", "cluster.address=tcp://127.0.0.1:1")
    ready = pipeline.prepare(where)
    order = worker.Order(ready.job.url, ready.job.plan_id, {**where.engine.model_dump(), "threads": None}, "one")
    with pytest.raises(DoesNotFitError, match="a worker may take 330 MB before it is paused, and so engine.memory is"):
        worker._desk(order, worker.Place("w", 4, 330 * 10**6))
    desk = worker._desk(order, worker.Place("w", 64, None))
    assert 1 <= desk.means.threads < 64
    desk.opened.close()


def test_an_image_in_memory_is_no_worker_s(folder):
    import zarr

    array = zarr.array(zarr.open_array(str(folder / "a.zarr"))[...], chunks=(128, 128))
    where = asked(folder, "memory", *TWO, {"reference": {"url": array}})
    with pytest.raises(InputError, match="reference is in the memory of this process: an image that workers can open"):
        pipeline.run(where)


def test_processes_share_the_machine(folder, monkeypatch):
    from bigncc import budget

    monkeypatch.setattr(budget, "machine_memory", lambda: 6 * 10**9)
    monkeypatch.setattr(budget, "processors", lambda: 8)
    few = asked(folder, "x", "cluster.kind=processes", "engine.memory=null", "engine.threads=null")
    assert (budget.workers_of(few), budget.threads_of(few), budget.memory_of(few)) == (6, 1, 10**9)
    three = asked(
        folder, "x", "cluster.kind=processes", "engine.memory=null", "engine.threads=null", "cluster.workers=3"
    )
    assert (budget.workers_of(three), budget.threads_of(three), budget.memory_of(three)) == (3, 2, 2 * 10**9)
    given = asked(folder, "x", "cluster.kind=processes", "engine.memory=1GB", "engine.threads=4")
    assert (budget.workers_of(given), budget.threads_of(given), budget.memory_of(given)) == (2, 4, 10**9)
    alone = asked(folder, "x", "engine.memory=null", "engine.threads=null")
    assert (budget.workers_of(alone), budget.threads_of(alone), budget.memory_of(alone)) == (1, 8, 6 * 10**9)
    assert pipeline.plan(given).facts()["memory"].endswith("4 threads, in each of 2 processes")
