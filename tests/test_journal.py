"""The journal holds what was appended, whole lines only, of its own plan only."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import journal
from bigncc.errors import InputError
from bigncc.journal import Row
from tests.test_summary import of

PLAN_ONE = dict.fromkeys(journal.PLAN, 1)
PLAN_TWO = dict.fromkeys(journal.PLAN, 2)
PLAN = "0123456789abcdef0123456789abcdef"


def row(tile, values=(0.5, -1.0), others=(2,)):
    return Row(tile, of(list(values), others), {"ncc": 10, "status": 3}, {"ncc": "a" * 32, "status": "b" * 32})


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "out.ome.zarr")


def write(url, rows, plan=PLAN):
    with journal.writer(url, plan) as writer:
        for each in rows:
            writer.append(each)


def files(url):
    return sorted((journal.directory(url) / "journal").iterdir())


def test_rows_come_back_from_all_writers(url):
    write(url, [row(0), row(2)])
    write(url, [row(1, (0.25,)), row(2)])
    assert journal.rows(url, PLAN) == {0: row(0), 1: row(1, (0.25,)), 2: row(2)}
    assert journal.heads(url, PLAN) == {i: r.summary.counts for i, r in journal.rows(url, PLAN).items()}
    assert len(files(url)) == 2


def test_rows_of_another_plan_do_not_count(url):
    write(url, [row(0)], plan="f" * 32)
    assert journal.rows(url, PLAN) == journal.heads(url, PLAN) == {}


def test_a_writer_that_wrote_nothing_leaves_nothing(url):
    write(url, [])
    assert files(url) == []


@given(st.data())
@settings(max_examples=100)
def test_damage_costs_the_damaged_lines_only(tmp_path_factory, data):
    url = str(tmp_path_factory.mktemp("journal") / "out")
    write(url, [row(i) for i in range(5)])
    (path,) = files(url)
    text = path.read_bytes()
    lines = text.splitlines(keepends=True)
    place = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        damaged = text[:place]  # a torn tail
        kept = sum(len(b"".join(lines[: i + 1])) <= place for i in range(5))
        expected = set(range(kept))
    else:
        damaged = text[:place] + bytes([text[place] ^ data.draw(st.integers(1, 255))]) + text[place + 1 :]
        ends = [len(b"".join(lines[: i + 1])) for i in range(5)]
        hit = next(i for i, end in enumerate(ends) if place < end)
        # the line's end belongs to both of its neighbours
        expected = set(range(5)) - ({hit, hit + 1} if place == ends[hit] - 1 else {hit})
    path.write_bytes(damaged)
    found = journal.rows(url, PLAN)
    assert set(found) >= expected
    assert all(found[i] == row(i) for i in found)
    assert len(found) < 5 or damaged == text


def test_the_first_plan_holds(url):
    assert journal.read_plan(url) is None
    assert journal.settle_plan(url, PLAN_ONE) == PLAN_ONE
    assert journal.settle_plan(url, PLAN_TWO) == PLAN_ONE
    assert journal.read_plan(url) == PLAN_ONE


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"plan_id": "x"}'])
def test_a_damaged_plan_is_no_plan_and_no_absence_of_one(url, text):
    path = journal.directory(url) / "plan.json"
    path.parent.mkdir()
    path.write_bytes(text)
    with pytest.raises(InputError, match="plan.json is damaged"):
        journal.read_plan(url)


def test_complete_is_what_was_written_last(url):
    assert journal.read_complete(url) is None
    journal.write_complete(url, {"plan_id": "x", "tiles": 3})
    assert journal.read_complete(url) == {"plan_id": "x", "tiles": 3}


def test_digests_do_not_depend_on_how_the_bytes_are_cut():
    assert journal.digest([b"ab", b"c"]) == journal.digest([b"abc"]) != journal.digest([b"abd"])
    assert journal.canonical({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'
    assert journal.merged_counts([]) == (0,) * 9


def test_plain_documents_are_strict_json():
    document = {"a": (1, math.nan), 2: {"b": [-math.inf, 0.5, None, True]}}
    assert journal.plain(document) == {"a": [1, "nan"], "2": {"b": ["-inf", 0.5, None, True]}}
