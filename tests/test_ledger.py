"""Rows are read when they are asked for: what a line says, in the order of the tiles, and little memory for many."""

import gc
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc import journal, ledger
from bigncc.discoveries import BINS, PValues
from bigncc.errors import InputError
from bigncc.ledger import Row
from tests.test_summary import of

PLAN = "0123456789abcdef0123456789abcdef"
VALUES = st.lists(st.integers(-64, 64).map(lambda n: n / 64), max_size=4)


def row(tile, values=(0.5,), **others):
    return Row(tile, of(list(values), (2,)), {"ncc": 10}, {"ncc": "a" * 32}, **others)


def written(url, rows):
    with journal.writer(url, PLAN) as writer:
        for each in rows:
            writer.append(each)


@given(st.integers(0, 10**9), VALUES, st.booleans(), st.none() | st.integers(0, 10**6).map(lambda n: n / 1000))
def test_a_line_says_what_its_row_does(tile, values, more, seconds):
    saw = {"reference": {"c/0/1": "0123abcd", "c/0/2 start=0 end=9": "absent"}} if more else {}
    items = {(0,): of(values), (1,): of([1.0])} if more else {}
    shift = {"nodes": 3, "found": 2, "open": 0, "squares": 7, "bins": [[1, 2]]} if more else None
    counts = PValues((1, 0, 2, *(0,) * (BINS - 3))) if more else PValues()
    said = row(tile, values, saw=saw, items=items, shift=shift, pvalues=counts, seconds=seconds)
    line = ledger.line_of(said, PLAN)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    fields = ledger.fields_of(line, PLAN)
    found = ledger.row_of(tile, fields)
    assert found == said
    assert found.seconds == seconds
    assert ledger.fields_of(line, "f" * 32) is None
    assert ledger.fields_of(line[:-1], PLAN) is None
    flipped = bytes([line[0] ^ 1]) + line[1:]
    assert ledger.fields_of(flipped, PLAN) is None


def test_rows_come_in_the_order_of_their_tiles_and_are_read_when_asked_for(tmp_path):
    url = str(tmp_path / "out")
    written(url, [row(tile, (tile / 8,)) for tile in (5, 1, 7)])
    written(url, [row(tile, (-tile / 8,)) for tile in (3, 1)])
    rows = journal.rows(url, PLAN)
    assert list(rows) == list(rows.keys()) == [1, 3, 5, 7]
    assert [each.summary.low for each in rows.values()] == [-0.125, -0.375, 0.625, 0.875]
    assert (len(rows), 3 in rows, 4 in rows, "3" in rows) == (4, True, False, False)
    assert rows == {tile: rows[tile] for tile in (1, 3, 5, 7)}
    assert rows.get(2) is None
    with pytest.raises(KeyError):
        _ = rows[2]
    assert list(rows.of({7, 1, 9})) == [1, 7]
    assert list(rows.of(range(2, 6))) == [3, 5]


def test_a_row_that_has_changed_since_it_was_found_is_not_believed(tmp_path):
    url = str(tmp_path / "out")
    written(url, [row(0), row(1)])
    rows = journal.rows(url, PLAN)
    (path,) = Path(journal.directory(url), "journal").iterdir()
    path.write_bytes(path.read_bytes().replace(b" 1 done ", b" 2 done "))
    assert rows[0] == row(0)
    with pytest.raises(InputError, match="the row of tile 1 has changed meanwhile"):
        _ = rows[1]


def test_many_rows_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    url = str(tmp_path / "out")
    written(url, [row(tile, [k / 64 for k in range(60)]) for tile in range(2000)])
    taken = []
    for count in (1000, 2000):
        gc.collect()
        tracemalloc.start()
        rows = journal.rows(url, PLAN, range(count))
        for each in rows.values():
            assert each.summary.valid == 60
        taken.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        assert len(rows) == count
    (less, _), (more, peak) = taken
    assert (more - less) / 1000 < 300
    assert peak < more + 10**5
    assert all(a < b for a, b in pairwise(rows))
