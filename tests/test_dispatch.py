"""Who computes: threads or workers, told of in the same way; a tile that fails is counted once."""

from functools import partial

import pytest
from distributed import LocalCluster

from bigncc import attempts, dispatch, lazy, pipeline
from bigncc.budget import means_of
from bigncc.decision import opened
from bigncc.proof import plan_of
from tests import pairs


def failing(patch, times):
    """Let tiles fail so many times each, on threads of this process."""
    make, left = lazy.tile, dict(times)

    def fail(pair, window, pivot, tile, *rest):
        if left.get(tile.index, 0):
            left[tile.index] -= 1
            raise ArithmeticError
        return make(pair, window, pivot, tile, *rest)

    patch.setattr(lazy, "tile", fail)
    patch.setattr(attempts, "AGAIN", 0.0)


def steps(config):
    """Compute all tiles from the images; return the steps that were told, and the rows."""
    ready = pipeline.prepare(config)
    job, told = ready.job, []
    means = means_of(ready.inputs, job.plan)
    out = opened(job.url, plan_of(job.url))
    with dispatch.computing(job, ready.inputs, out, means, set, set()) as compute:
        rows = [row.tile for row in compute(range(job.plan.base), advance=told.append)]
    return told, rows, job.plan


@pytest.fixture(scope="module")
def workers():
    """A scheduler and two workers in this process."""
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="9GB", **options) as running:
        yield "cluster.kind=address", f"cluster.address={running.scheduler_address}", "engine.memory=4GB"


@pytest.mark.parametrize("kind", ["threads", "workers"])
def test_each_tile_is_told_of_once_with_its_pixels_and_what_became_of_it(tmp_path, monkeypatch, request, kind):
    reference, moving, *_ = pairs.pair(tmp_path, (128, 128))
    words = () if kind == "threads" else request.getfixturevalue("workers")
    failing(monkeypatch, {2: 1, 5: 2})
    told, rows, plan = steps(pairs.job(reference, moving, tmp_path / "out", *words))
    assert sorted(rows) == [index for index in range(plan.base) if index != 5]
    assert sum(step.pixels for step in told) == 128 * 128
    assert sorted((step.tries, step.quarantined) for step in told) == [(1, False)] * (plan.base - 2) + [
        (2, False),
        (2, True),
    ]
    assert {step.workers for step in told} == {None if kind == "threads" else 2}


def test_what_another_job_has_made_meanwhile_is_told_of_as_that(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path, (128, 128))
    ready = pipeline.prepare(pairs.job(reference, moving, tmp_path / "out"))
    job, told = ready.job, []
    means, out = means_of(ready.inputs, job.plan), opened(job.url, plan_of(job.url))
    computing = partial(dispatch.computing, job, ready.inputs, out, means)
    with computing(lambda: {1, 3}, {3}) as compute:  # what is known to be wrong is made anew
        rows = [row.tile for row in compute(range(5), advance=told.append)]
    assert rows == [0, 2, 3, 4]
    assert [step.tries for step in told] == [1, 0, 1, 1, 1]
