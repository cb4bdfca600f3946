"""Shares are finished by whoever has time: each tile at least once, seldom twice, and to the bit as by one job."""

import heapq
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import engine, pipeline, stealing
from bigncc.tiles import share
from tests import pairs
from tests.test_cli import computed


class World:
    """Jobs that work at once, in a time of their own: it goes on when all of them wait."""

    def __init__(self, jobs):
        self.now, self.running, self.waiting, self.changed = 0.0, jobs, [], threading.Condition()
        self.done = []

    def pause(self, seconds):
        with self.changed:
            wake = self.now + seconds
            heapq.heappush(self.waiting, wake)
            self.leave()
            self.changed.wait_for(lambda: self.now >= wake)

    def leave(self):
        with self.changed:
            self.running -= 1
            if self.running == 0 and self.waiting:
                self.now = self.waiting[0]
                while self.waiting and self.waiting[0] == self.now:
                    heapq.heappop(self.waiting)
                    self.running += 1
                self.changed.notify_all()

    def job(self, total, part, dies, slow=0.0100731):
        """Compute a share, then of those of others; be lost after some tiles."""
        done, tile = 0, 1 + slow * part[0]  # no two jobs are equally fast
        stolen = stealing.batches(lambda: set(self.done), total, part, lambda: self.now, self.pause)
        for batch in chain([share(total, *part)], stolen):
            for index in batch:
                if done == dies:
                    return self.leave()
                if index not in self.done:
                    self.pause(tile)
                    self.done.append(index)
                    done += 1
        return self.leave()


def together(total, lives, slow=0.0100731):
    """Let a job for each of `lives` work, which is how many tiles it computes at most; return what was computed."""
    world = World(len(lives))
    with ThreadPoolExecutor(len(lives)) as pool:
        for job in [pool.submit(world.job, total, (i, len(lives)), dies, slow) for i, dies in enumerate(lives)]:
            job.result(60)
    return world.done


@pytest.mark.parametrize(
    ("lives", "total", "twice"),
    [
        ([None] * 8, 64, 0),  # nobody is lost
        ([None, None, 0, None, None, None, None, None], 64, 4),  # one never comes
        ([None, None, 3, None, None, 3, None, None], 64, 4),  # two are lost on the way
        ([None, 0, 0, 0], 40, 0),  # one is left alone
        ([None] * 8, 5, 0),  # more jobs than tiles
        ([None] * 40 + [5] * 10, 500, 50),  # a fifth of many is lost,
    ],
)
def test_every_tile_is_computed_and_few_twice(lives, total, twice):
    done = together(total, lives)
    assert set(done) == set(range(total))
    assert len(done) - total <= twice


@pytest.mark.parametrize(("jobs", "slow", "twice"), [(2, 2.1173, 4), (3, 1.3, 12), (4, 0.5137, 15)])
def test_owner_and_thief_do_not_go_on_side_by_side(jobs, slow, twice):
    done = together(50 * jobs, [None] * jobs, slow)
    assert set(done) == set(range(50 * jobs))
    assert len(done) - 50 * jobs <= twice


@settings(max_examples=20)
@given(total=st.integers(0, 60), lives=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=12))
def test_as_long_as_one_job_lives_all_is_done_at_last(total, lives):
    done = together(total, [*lives, None])
    assert set(done) == set(range(total))
    assert len(done) - total <= 2 * len(lives) + total // 4


@given(total=st.integers(0, 40), parts=st.integers(1, 12), which=st.integers(0, 11), seed=st.integers(0, 99))
def test_one_job_alone_takes_everything_once_however_much_is_done(total, parts, which, seed):
    which %= parts
    draw, now, asked = random.Random(seed), [0.0], []
    done = {tile for tile in range(total) if draw.random() < 0.5} | set(share(total, which, parts))
    clock, pause = (lambda: now[0]), (lambda seconds: now.__setitem__(0, now[0] + seconds))
    there = set(done)
    for batch in stealing.batches(lambda: there, total, (which, parts), clock, pause):
        assert batch
        asked += batch
        now[0] += len(batch)
        there.update(batch)
    assert sorted(asked) == sorted(set(range(total)) - done)


def test_what_fails_is_not_asked_for_again():
    asked = [tile for batch in stealing.batches(set, 20, (0, 2), pause=lambda _: None) for tile in batch]
    assert sorted(asked) == list(range(10, 20))


def test_a_tile_of_somebody_at_work_is_left_alone_for_a_while():
    # the owner of the other share has one tile left, and finishes it while this job waits
    done, now = set(range(9)), [0.0]

    def pause(seconds):
        now[0] += seconds
        if now[0] > stealing.GUESS * stealing.PATIENCE / 2:
            done.add(9)

    assert not list(stealing.batches(lambda: set(done), 10, (0, 2), lambda: now[0], pause))
    assert now[0] > 0


def test_a_journal_is_looked_at_for_a_small_part_of_the_time():
    now, looks = [100.0], []

    def look():
        looks.append(now[0])
        now[0] += 0.1
        return set(looks)

    glance = stealing.seldom(look, lambda: now[0])
    for _ in range(1000):
        assert glance() == set(looks)
        now[0] += 0.01
    assert 4 <= len(looks) <= 7


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A prepared output of three parts, and the map of one process."""
    folder = tmp_path_factory.mktemp("stealing")
    reference, moving, *_ = pairs.pair(folder)
    pipeline.run(pairs.job(reference, moving, folder / "whole"))
    return folder, lambda out: pipeline.prepare(pairs.job(reference, moving, folder / out))


def test_one_job_does_the_parts_of_all(ready):
    folder, prepared = ready
    job = prepared("alone")
    result = pipeline.complete(job, part=(1, 3), steal=True)
    assert any("tiles of other parts were computed" in note for note in result.notes)
    assert pipeline.finish(job.job.url).complete
    pairs.same(pairs.maps(folder / "alone"), pairs.maps(folder / "whole"))
    tiles = computed(folder / "alone")
    assert len(tiles) == len(set(tiles))


def test_what_others_finished_is_not_computed_again(ready, monkeypatch):
    _, prepared = ready
    job, begun = prepared("shared"), []
    compute = engine.compute

    def slow(job, pair, out, tile, *rest):
        begun.append(tile.index)
        if len(begun) == 1:  # while the first tile is computed, another job does all there is
            pipeline.complete(prepared("shared"), part=(1, 2), steal=True)
        return compute(job, pair, out, tile, *rest)

    monkeypatch.setattr(engine, "compute", slow)
    monkeypatch.setattr(stealing, "SHARE", 1e9)
    pipeline.complete(job, part=(0, 2), steal=True)
    twice = len(begun) - len(set(begun))
    assert twice <= 2  # those that were in work
    assert set(begun) == set(range(job.job.plan.base))


def test_a_tile_that_was_damaged_is_computed_though_it_has_a_row(ready):
    folder, prepared = ready
    shutil.copytree(folder / "whole", folder / "damaged")
    shutil.copytree(folder / "whole.bigncc", folder / "damaged.bigncc")
    victim = folder / "damaged" / "0" / "c" / "0" / "0"
    victim.write_bytes(bytes(len(victim.read_bytes())))
    job = prepared("damaged")
    pipeline.complete(job, part=(0, 2), steal=True)
    assert pipeline.finish(job.job.url).complete
    assert not pipeline.verify(job.job.url).faults
    pairs.same(pairs.maps(folder / "damaged"), pairs.maps(folder / "whole"))
