"""What is stored of a tile is what its row says, whoever wrote it in whatever pieces."""

from pathlib import Path

import numpy as np
import pytest

from bigncc import evidence, journal, pipeline
from bigncc.layout import Layout, map_name
from bigncc.output import create_output, open_output
from bigncc.pyramid import Halving, Maps
from bigncc.summary import Summary
from bigncc.tiles import Plan, parts, roi_within
from tests import pairs

SHAPE = (50, 70)
GRID = ("y", "x"), (1.0, 1.0), (0.0, 0.0), (None, None), "a"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Make a run; return the job, the open output and its rows."""
    folder = tmp_path_factory.mktemp("finished")
    reference, moving, *_ = pairs.pair(folder)
    config = pairs.job(reference, moving, folder / "out")
    pipeline.run(config)
    here = pipeline.prepare(config).job
    return here, open_output(here.url), journal.rows(here.url, here.plan_id)


def owner(here, path, folder):
    """Return the tile that a stored object belongs to."""
    cell = [int(part) for part in path.relative_to(folder / "c").parts]
    place = tuple(i * o // t for i, o, t in zip(cell, here.plan.objects, here.plan.tile, strict=True))
    return int(np.ravel_multi_index(place, here.plan.grid))


@pytest.mark.parametrize("name", ["0", "labels/status/0"])
@pytest.mark.parametrize("fault", ["missing", "empty", "short", "longer", "flipped", "of another tile"])
def test_only_the_tile_of_a_changed_object_no_longer_matches(finished, name, fault):
    here, output, rows = finished
    everything = set(range(len(here.plan)))
    assert set(rows) == everything
    assert {i for i in everything if evidence.matches(output, here.plan[i], rows[i])} == everything
    folder = Path(here.url) / name
    objects = sorted(p for p in (folder / "c").rglob("*") if p.is_file())
    victim = objects[len(objects) // 2]
    before = victim.read_bytes()
    changed = {
        "empty": b"",
        "short": before[:-1],
        "longer": before + b"\0",
        "flipped": bytes([before[0] ^ 1]) + before[1:],
        "of another tile": next(p.read_bytes() for p in objects if p.read_bytes() != before),
    }
    hurt = {owner(here, victim, folder)}
    try:
        if fault == "missing":
            victim.unlink()
        else:
            assert changed[fault] != before
            victim.write_bytes(changed[fault])
        assert {i for i in everything if not evidence.matches(output, here.plan[i], rows[i])} == hurt
        assert evidence.matching(output, here.plan, rows, everything, 2) == everything - hurt
    finally:
        victim.write_bytes(before)
    assert evidence.matching(output, here.plan, rows, everything, 2) == everything
    first = dict(list(rows.items())[:2])
    assert evidence.matching(output, here.plan, first, everything, 2) == first.keys()


def test_a_row_of_another_tile_matches_nothing(finished):
    here, output, rows = finished
    assert not evidence.matches(output, here.plan[0], rows[1])
    assert not evidence.matches(output, here.plan[1], rows[0])


def sharded(folder):
    """Make an output of shards and coarser levels; return it, the plan of a single tile, and maps to store."""
    layout = Layout(SHAPE, (4, 6), *GRID, (16, 24), 2, (0, 1, 2))
    create_output(folder, layout, pairs.SAID)
    rng = np.random.default_rng(0)
    maps = Maps(rng.uniform(-1, 1, SHAPE).astype("f4"), rng.integers(0, 9, SHAPE).astype("u1"))
    plan = Plan(SHAPE, (16, 24), (64, 72), (0, 0), (0, 0), SHAPE, 2, (0, 1, 2), 2, (), (4, 6))
    return open_output(folder), plan[0], maps


def files(folder):
    """Return all stored objects by their place in an output."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name.isdigit())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("block", [(4, 6), (8, 12), (12, 70), (50, 6), SHAPE])
def test_the_blocks_that_an_object_was_encoded_in_cannot_be_seen(tmp_path, block):
    rows = {}
    for name, size in (("whole", SHAPE), ("blocks", block)):
        out, tile, maps = sharded(tmp_path / name)
        rois = list(parts(tile.write, size))[::-1]
        chunks = {map_name: {} for map_name in ("ncc", "status")}
        for roi in rois:
            values = Maps(*(each[roi_within(roi, tile.write)] for each in maps.named.values()))
            for map_, those in evidence.encoded(out, 0, roi, values).items():
                chunks[map_] |= those
        halving = Halving(2, 0.0)
        levels = halving.levels(tile, [halving.piece(tile.write, maps)])
        found = evidence.stored(out, tile, chunks, levels, 2, durable=False)
        assert chunks == {"ncc": {}, "status": {}}  # nothing waits any more
        rows[name] = evidence.row(tile, Summary(), found)
        np.testing.assert_array_equal(out.maps["ncc"][...], maps.ncc)
        np.testing.assert_array_equal(out.maps["status"][...], maps.status)
        assert evidence.matches(out, tile, rows[name])
        assert sum(rows[name].sizes.values()) == sum(map(len, files(tmp_path / name).values()))
        assert set(rows[name].digests) == {map_name(m, k) for m in ("ncc", "status") for k in (0, 1, 2)}
    assert rows["blocks"] == rows["whole"]
    assert files(tmp_path / "blocks") == files(tmp_path / "whole")


def test_a_level_that_is_not_stored_is_neither_encoded_nor_written(tmp_path):
    layout = Layout(SHAPE, (4, 6), *GRID, None, 2, (2,))
    create_output(tmp_path / "out", layout, pairs.SAID)
    out, maps = open_output(tmp_path / "out"), Maps(np.zeros(SHAPE, "f4"), np.ones(SHAPE, "u1"))
    tile = Plan(SHAPE, (16, 24), (64, 72), (0, 0), (0, 0), SHAPE, 2, (2,), 2)[0]
    assert evidence.encoded(out, 0, tile.write, maps) == {}
    halving = Halving(2, 0.0)
    found = evidence.stored(out, tile, {}, halving.levels(tile, [halving.piece(tile.write, maps)]), 2, durable=False)
    assert set(found) == {"ncc/2", "status/2"}
    assert set(files(tmp_path / "out")) == {place for place in files(tmp_path / "out") if "2/c/" in place} != set()


def test_pixels_that_are_stored_otherwise_are_counted_by_their_bits(tmp_path):
    out, tile, maps = sharded(tmp_path / "out")
    chunks = evidence.encoded(out, 0, tile.write, maps)
    evidence.written(out, tile.write, chunks, durable=True)
    assert evidence.unlike(out, 0, tile.write, maps) == {"ncc": 0, "status": 0}
    maps.ncc[3, 4:6] = -maps.ncc[3, 4:6]
    maps.status[0, 0] += 1
    assert evidence.unlike(out, 0, tile.write, maps) == {"ncc": 2, "status": 1}
