"""The engine: what fits, what is a block, what is proven; nothing of it can be seen in the result."""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import Window, capacity, engine, journal, pipeline
from bigncc.engine import Job
from bigncc.objects import places
from bigncc.output import open_output
from bigncc.progress import Step
from bigncc.tiles import Plan
from tests import pairs

DTYPES = ("uint8", "uint16", "float32", "float64")


@given(
    memory=st.integers(0, 10**11),
    per_pixel=st.integers(4, 64),
    threads=st.integers(1, 64),
    block=st.integers(1, 2**22),
)
def test_the_samples_of_a_tile_fill_the_memory_and_no_more(memory, per_pixel, threads, block):
    samples = capacity.largest_samples(memory, per_pixel, threads, block)
    fixed = capacity.RESERVED + threads * block * capacity.SCRATCH
    assert fixed + samples * per_pixel <= memory
    assert fixed + (samples + 1) * per_pixel > memory
    assert capacity.largest_samples(memory, per_pixel, threads + 1, block) <= samples
    assert capacity.largest_samples(memory, per_pixel + 1, threads, block) <= max(samples, 0)


extents = st.integers(2, 3).flatmap(lambda n: st.lists(st.integers(1, 300), min_size=n, max_size=n).map(tuple))


@given(objects=extents, data=st.data())
def test_a_block_is_whole_objects_few_enough_pixels_and_enough_of_them(objects, data):
    counts = tuple(data.draw(st.integers(1, 40)) for _ in objects)
    tile, least = tuple(o * n for o, n in zip(objects, counts, strict=True)), data.draw(st.integers(1, 256))
    pixels = data.draw(st.integers(1, capacity.INNER))
    block = capacity.inner_block(tile, objects, least, pixels)
    assert all(b % o == 0 and o <= b <= t for b, o, t in zip(block, objects, tile, strict=True))
    assert math.prod(block) <= max(pixels, math.prod(objects))
    blocks = math.prod(-(-t // b) for t, b in zip(tile, block, strict=True))
    assert blocks >= min(least, math.prod(counts))


@pytest.mark.parametrize(
    ("tile", "objects", "least", "block"),
    [
        ((4096, 4096), (1024, 1024), 4, (2048, 2048)),
        ((4096, 4096), (1024, 1024), 8, (1024, 2048)),
        ((4096, 4096), (256, 256), 8, (1024, 2048)),
        ((4096, 4096), (256, 256), 9, (1024, 1024)),
        ((8192, 8192), (4096, 4096), 4, (4096, 4096)),
        ((100, 100), (100, 100), 32, (100, 100)),
        ((1, 4096, 4096), (1, 1024, 1024), 4, (1, 2048, 2048)),
        ((1000, 64), (10, 64), 4, (320, 64)),
        ((1000, 64), (10, 64), 8, (80, 64)),
    ],
)
def test_blocks_of_ordinary_tiles(tile, objects, least, block):
    assert capacity.inner_block(tile, objects, least, capacity.INNER) == block


def test_more_costs_more_memory():
    kinds = [np.dtype(name) for name in DTYPES]
    cost = {
        (f, g, p, m): capacity.bytes_per_pixel(kinds[f], kinds[g], pulled=bool(p), masked=bool(m))
        for f, g, p, m in np.ndindex(len(kinds), len(kinds), 2, 2)
    }
    for (f, g, p, m), bytes_ in cost.items():
        assert bytes_ >= kinds[f].itemsize + kinds[g].itemsize + 8 * p
        for more in ((f + 1, g, p, m), (f, g + 1, p, m), (f, g, p + 1, m), (f, g, p, m + 1)):
            assert more not in cost or cost[more] > bytes_
        assert cost[g, f, p, m] == bytes_


def job(shape, channel_axis, pivots):
    """Make a job of which only the tiles and the pivots matter."""
    tile = (1,) * (len(shape) - 2) + (5, 5)
    plan = Plan(shape, tile, tile, (0,) * len(shape), (0,) * len(shape), shape)
    return Job("out", "0" * 32, plan, Window(3), None, 1, pivots, channel_axis)


def test_a_tile_has_the_pivots_of_its_channel():
    pivots = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
    for shape, axis in (((3, 7, 9), 0), ((2, 3, 7, 9), 1), ((3, 2, 7, 9), 0)):
        here = job(shape, axis, pivots)
        seen = {index: here.pivots_of(here.plan[index])[0] for index in range(len(here.plan))}
        assert {here.plan[i].write[axis].start: pivot for i, pivot in seen.items()} == dict(enumerate(pivots))
        assert all(pivot == pivots[here.plan[i].write[axis].start] for i, pivot in seen.items())
    alone = job((3, 7, 9), None, pivots[:1])
    assert {alone.pivots_of(alone.plan[index])[0] for index in range(len(alone.plan))} == {pivots[0]}


@pytest.fixture
def finished(tmp_path):
    """Make a run; return the job, the open output and its rows."""
    reference, moving, *_ = pairs.pair(tmp_path)
    config = pairs.still(reference, moving, tmp_path / "out")
    pipeline.run(config)
    here = pipeline.prepare(config).job
    return here, open_output(here.url), journal.rows(here.url, here.plan_id)


def test_a_tile_without_a_row_is_not_done(finished, tmp_path):
    here, output, rows = finished
    path, *rest = sorted((tmp_path / "out.bigncc" / "journal").iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == here.plan.base
    assert len(lines) + sum(len(other.read_bytes().splitlines()) for other in rest) == len(rows)
    path.write_bytes(b"".join(lines[2:-1]) + lines[-1][:-20])
    lost = {int(lines[i].split(b" ")[2]) for i in (0, 1, -1)}
    assert len(lost) == 3
    assert engine.done(here, output, range(len(here.plan)), 2) == set(rows) - lost


def test_rows_know_nothing_of_blocks_and_threads(tmp_path, monkeypatch):
    reference, moving, *_ = pairs.pair(tmp_path, (256, 320), dtype="float32")
    # large tiles of many objects, so that there is something to divide
    words = {"output": {"chunks": [32, 32]}}
    found = {}
    for name, threads, block, halo in (
        ("one", 1, None, "overlap"),
        ("apart", 2, None, "read"),
        ("single", 2, (32, 32), "overlap"),
        ("single apart", 1, (32, 32), "read"),
        ("wide", 1, (32, 64), "overlap"),
        ("whole", 2, (256, 320), "overlap"),
    ):
        with monkeypatch.context() as patch:
            if block is not None:
                patch.setattr(engine, "inner_block", lambda *_, block=block: block)
            means = {"engine": {"threads": threads, "halo": halo}}
            pipeline.run(pairs.still(reference, moving, tmp_path / name, words, means))
        plan = journal.read_plan(str(tmp_path / name))
        rows = journal.rows(str(tmp_path / name), plan["plan_id"])
        # which of two tiles in work at once has read a chunk first is nobody's business
        seen = sorted(
            (image, key, value)
            for row in rows.values()
            for image, keys in row.saw.items()
            for key, value in keys.items()
        )
        found[name] = plan["plan_id"], {i: replace(row, saw={}) for i, row in rows.items()}, seen
    assert min(plan["tiles"]["tile"]) >= 64
    for name, each in found.items():
        assert each == found["one"], name
        pairs.same(pairs.maps(tmp_path / name), pairs.maps(tmp_path / "one"))
    bodies = {json.dumps(row.summary.to_dict()) for row in found["one"][1].values()}
    assert len(bodies) == len(found["one"][1])  # each tile its own


@pytest.mark.parametrize(
    "words",
    [
        ["registration.model=none", "window.size=[5, 9]"],
        ["registration.model=none", "window.border=reflect", "reference.nodata=7"],
        ["registration.transform={shift}", "window.size=7"],
        ["registration.transform={whole}", "window.border=valid"],
        ["registration.transform={turned}", "window.size=7"],
        ["registration.displacement.url={field}", "registration.order=3", "window.size=9"],
        ["registration.model=none", "window.size=[3, 5, 7]", "output.chunks=[2, 32, 32]"],
    ],
)
def test_blocks_that_read_their_margins_and_blocks_that_give_them_agree(tmp_path, words):
    shape = (6, 90, 120) if "output.chunks=[2, 32, 32]" in words else (130, 170)
    reference, moving, *_ = pairs.pair(tmp_path, shape, chunks=(2, 24, 40)[-len(shape) :])
    places = {"shift": tmp_path / "s.json", "whole": tmp_path / "w.json", "field": tmp_path / "f.npy"}
    places["shift"].write_text('{"kind": "translation", "offset": [1.25, -3.5]}')
    places["whole"].write_text('{"kind": "translation", "offset": [-4, 6]}')
    places["turned"] = tmp_path / "t.json"
    places["turned"].write_text('{"kind": "affine", "matrix": [[0.9, -0.4], [0.4, 1.1]], "offset": [20, -40]}')
    np.save(places["field"], np.random.default_rng(0).uniform(-3, 3, (2, *shape[-2:])))
    words = ["registration.model=null", *(word.format(**places) for word in words)]
    if "registration.model=none" not in words:
        words.append("registration.trust_field=true")
    for halo in ("overlap", "read"):
        pipeline.run(pairs.job(reference, moving, tmp_path / halo, *words, f"engine.halo={halo}"))
    pairs.same(pairs.maps(tmp_path / "overlap"), pairs.maps(tmp_path / "read"))
    assert len(np.unique(pairs.maps(tmp_path / "read")["ncc"])) > 1000


@pytest.mark.parametrize("halo", ["overlap", "read"])
@pytest.mark.parametrize(
    "how", [pytest.param("registration.model=none", marks=pytest.mark.soak), "registration.transform={}"]
)
def test_each_chunk_of_both_images_is_decoded_once(tmp_path, monkeypatch, halo, how):
    from bigncc import inputs, reading

    made = []

    class Noted(reading.Decoded):
        def __init__(self, source, capacity, at_once):
            super().__init__(source, capacity, 1)
            assert at_once > 1  # in memory as ample as here
            made.append(self)

    monkeypatch.setattr(inputs, "Decoded", Noted)
    reference, moving, *_ = pairs.pair(tmp_path, (256, 320), chunks=(16, 20))
    shift = tmp_path / "shift.json"
    shift.write_text('{"kind": "translation", "offset": [1.25, -3.5]}')
    words = ["registration.model=null", "registration.trust_field=true", how.format(shift), f"engine.halo={halo}"]
    pipeline.run(pairs.job(reference, moving, tmp_path / "out", *words))
    assert len(journal.rows(str(tmp_path / "out"), journal.read_plan(str(tmp_path / "out"))["plan_id"])) >= 16
    assert [image.decoded for image in made] == [256, 256]
    assert [image.size for image in made] == [0, 0]


def test_runs_side_by_side_leave_nothing_behind(tmp_path):
    import dask

    reference, moving, *_ = pairs.pair(tmp_path)
    before = dict(dask.config.config)
    jobs = [pairs.job(reference, moving, tmp_path / f"out{i}") for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(pipeline.run, jobs))
    for i in range(3):
        pairs.same(pairs.maps(tmp_path / f"out{i}"), pairs.maps(tmp_path / "out0"))
    assert {key: dask.config.config[key] for key in before} == before
    # what is computed afterwards finds no pool that has gone
    assert dask.delayed(len)([1, 2]).compute() == 2


def test_progress_counts_each_missing_tile_once(tmp_path):
    reference, moving, *_ = pairs.pair(tmp_path)
    config = pairs.still(reference, moving, tmp_path / "out")
    pipeline.run(config)
    here = pipeline.prepare(config).job
    victim = tmp_path / "out" / "0" / "c" / "0" / "0"
    victim.unlink()
    calls, steps = [], []

    class Shown:
        def __enter__(self):
            return steps.append

        def __exit__(self, *_):
            calls.append("closed")

    def progress(*numbers):
        calls.append(numbers)
        return Shown()

    pipeline.run(config, progress=progress)
    assert calls[0][1] == 130 * 170
    assert calls[-1] == "closed"
    assert steps == [Step(math.prod(s.stop - s.start for s in here.plan[0].write))]
    # what is announced is what is done
    assert calls[0] == (1, 130 * 170, 130 * 170 - steps[0].pixels)


@pytest.mark.parametrize("durable", ["journal", "all"])
def test_what_outlives_a_power_cut_is_synced_before_the_row_that_says_so(tmp_path, monkeypatch, durable):
    reference, moving, *_ = pairs.pair(tmp_path)
    config = pairs.still(reference, moving, tmp_path / "out", {"engine": {"durable": durable}})
    ready = pipeline.prepare(config)
    synced, sync = [], os.fsync

    def fsync(number):
        synced.append(Path(f"/proc/self/fd/{number}").readlink())
        sync(number)

    monkeypatch.setattr(os, "fsync", fsync)
    pipeline.complete(ready)
    seen = set()
    journals = sorted((tmp_path / "out.bigncc" / "journal").iterdir())
    rows = iter(row for path in journals for row in path.read_bytes().splitlines())
    for path in synced:
        if path.suffix == ".jsonl":
            tile = ready.job.plan[int(next(rows).split(b" ")[2])]
            out = open_output(ready.job.url)
            for array, roi in ((array, roi) for level, roi in tile.levels for array in out.level(level).values()):
                objects = [Path(place) for place in places(array, roi)]
                needed = {*objects, *(parent for place in objects for parent in list(place.parents)[:3])}
                assert (needed <= seen) == (durable == "all")
        seen.add(path)
    assert next(rows, None) is None  # and every row was synced
