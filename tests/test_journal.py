"""The journal holds what was appended, whole lines only, of its own plan only."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigncc import journal, store
from bigncc.discoveries import PValues
from bigncc.errors import DoesNotFitError, InputError, RefusedError
from bigncc.journal import Writer
from bigncc.ledger import Row
from tests import pairs
from tests.test_summary import of

PLAN_ONE = {**dict.fromkeys(journal.PLAN, 1), **pairs.SAID, "plan_id": "1" * 32}
PLAN_TWO = {**dict.fromkeys(journal.PLAN, 2), **pairs.SAID, "plan_id": "2" * 32}
PLAN = "0123456789abcdef0123456789abcdef"


def row(tile, values=(0.5, -1.0), others=(2,)):
    items = {(tile, z): of([value]) for z, value in enumerate(values)} if tile % 2 else {}
    digests = {"ncc": "a" * 32, "status": "b" * 32}
    return Row(tile, of(list(values), others), {"ncc": 10, "status": 3}, digests, items=items)


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "out.ome.zarr")


def write(url, rows, plan=PLAN):
    with journal.writer(url, plan) as writer:
        for each in rows:
            writer.append(each)


def files(url):
    return sorted((Path(journal.directory(url)) / "journal").iterdir())


def test_rows_come_back_from_all_writers(url):
    write(url, [row(0), row(2)])
    write(url, [row(1, (0.25,)), row(2)])
    assert journal.rows(url, PLAN) == {0: row(0), 1: row(1, (0.25,)), 2: row(2)}
    every = [each.summary.counts for each in journal.rows(url, PLAN).values()]
    assert journal.progress(url, PLAN) == (3, tuple(map(sum, zip(*every, strict=True))))
    assert len(files(url)) == 2


def test_who_follows_sees_each_row_as_soon_as_it_is_whole(url):
    look = journal.following(url, PLAN)
    assert look() == set()
    with journal.writer(url, PLAN) as one, journal.writer(url, PLAN) as other:
        for tile, writer in enumerate((one, other, one, one, other)):
            writer.append(row(tile))
            assert look() == set(journal.rows(url, PLAN)) == set(range(tile + 1))
    write(url, [row(50)], plan="f" * 32)
    assert look() == set(range(5))
    # a line that arrives piece by piece, and one that is no line
    write(url, [row(7), row(8)])
    path = max((Path(journal.directory(url)) / "journal").glob("*.jsonl"))
    whole = path.read_bytes()
    for size in range(0, len(whole) + 1, 97):
        path.write_bytes(whole[:size])
        late = journal.following(url, PLAN)
        for more in (size, size + 50, len(whole)):
            path.write_bytes(whole[:more])
            assert late() == set(journal.rows(url, PLAN))
    assert look() == {0, 1, 2, 3, 4, 7, 8}


def test_who_follows_reads_only_what_is_new(url):
    write(url, [row(tile) for tile in (1, 3, 5)])
    (path,) = files(url)
    look = journal.following(url, PLAN)
    assert look() == {1, 3, 5}
    write(url, [row(7)])
    other = max(files(url))
    lines = path.read_bytes().splitlines(keepends=True)
    line = other.read_bytes()
    assert {len(each) for each in lines} == {len(line)}
    other.unlink()
    # a line that was read is another one now, and nobody looks at it again
    path.write_bytes(lines[0] + line + line)
    assert look() == {1, 3, 5}
    with path.open("ab") as file:
        file.write(lines[1])
    assert look() == {1, 3, 5}
    assert journal.following(url, PLAN)() == {1, 3, 7}


def test_a_file_that_goes_away_while_it_is_looked_for_is_nothing(url):
    write(url, [row(1)])
    (path,) = files(url)
    path.with_name("000000-gone.jsonl").symlink_to(path.with_name("nowhere"))
    assert journal.following(url, PLAN)() == {1}


def test_a_line_is_as_it_was_always_written(url):
    # who changes this cannot go on with what was begun
    write(url, [row(2, (0.5,), ())])
    (path,) = files(url)
    assert re.fullmatch(r"000001-[0-9a-f]{32}\.jsonl", path.name)
    check, plan, tile, state, counts, body = path.read_bytes().removesuffix(b"\n").split(b" ", 5)
    assert re.fullmatch(rb"[0-9a-f]{16}", check)
    assert (plan, tile, state, counts) == (PLAN[:16].encode(), b"2", b"done", b"0,1,0,0,0,0,0,0,0")
    document = json.loads(body)
    assert document.keys() == {"summary", "sizes", "digests", "saw"}
    assert body == json.dumps(document, separators=(",", ":")).encode()


FULL = replace(
    row(3),
    saw={"moving": {"a key": "a word"}},
    shift={"nodes": 2, "bins": [[1, 2]]},
    pvalues=PValues((0,) * 9 + (4,) + (0,) * 503),
    seconds=0.235,
)


@example(FULL)
@example(replace(row(3), sizes={}, digests={}, seconds=0.0))
@given(
    st.builds(
        lambda saw, values, shift, pvalues: replace(row(3, values), saw=saw, shift=shift, pvalues=pvalues),
        st.dictionaries(st.text(), st.dictionaries(st.text(), st.text(), max_size=2), max_size=2),
        st.lists(st.sampled_from((-1.0, 0.5, 1.0)), max_size=3),
        st.none()
        | st.builds(
            lambda n, bins: {"nodes": n, "bins": bins},
            st.integers(0),
            st.lists(st.lists(st.integers(0), min_size=2, max_size=2), max_size=2),
        ),
        st.builds(
            lambda first, n: PValues((0,) * first + (n,) + (0,) * (512 - first)), st.integers(0, 512), st.integers(1)
        )
        | st.just(PValues()),
    )
)
@settings(max_examples=40)
def test_a_row_comes_back_whatever_it_says(tmp_path_factory, wanted):
    url = str(tmp_path_factory.mktemp("journal") / "out")
    write(url, [wanted])
    assert journal.rows(url, PLAN) == {3: wanted}
    assert journal.rows(url, PLAN)[3].seconds == wanted.seconds
    assert journal.progress(url, PLAN) == (1, wanted.summary.counts)


def test_what_each_tile_has_cost_is_told(url):
    write(url, [replace(row(1), seconds=0.25), row(2)])
    assert journal.costs(url, PLAN) == {1: (13, 0.25), 2: (13, None)}


def test_of_a_full_disk_it_is_said_which_tile_it_cost(url):
    with (
        open("/dev/full", "wb", buffering=0) as file,  # noqa: PTH123
        pytest.raises(DoesNotFitError, match="^the journal of tile 3 cannot be written"),
    ):
        Writer(file, PLAN).append(row(3))


def test_names_of_others_in_the_journal_hinder_nobody(url):
    write(url, [row(1)])
    for name in ("notes.jsonl", "a-b.txt", "c.txt"):
        (files(url)[0].parent / name).write_text("some words\n")
    write(url, [row(2)])
    assert journal.rows(url, PLAN).keys() == {1, 2}
    assert [path.name[:7] for path in files(url)[:2]] == ["000001-", "000002-"]


def test_rows_of_another_plan_do_not_count(url):
    write(url, [row(0)], plan="f" * 32)
    assert journal.rows(url, PLAN) == {}
    assert journal.progress(url, PLAN) == (0, (0,) * 9)


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
    path = Path(journal.directory(url)) / "plan.json"
    path.parent.mkdir()
    path.write_bytes(text)
    with pytest.raises(InputError, match="plan.json is damaged"):
        journal.read_plan(url)


def test_complete_is_what_was_written_last(url):
    assert journal.read_complete(url) is None
    journal.write_complete(url, {"plan_id": "x", "tiles": 3})
    assert journal.read_complete(url) == {"plan_id": "x", "tiles": 3}


def test_digests_do_not_depend_on_how_the_bytes_are_cut():
    assert store.digest([b"ab", b"c"]) == store.digest([b"abc"]) != store.digest([b"abd"])
    assert journal.canonical({"b": 1, "a": [1.5, None, "é"]}) == b'{"a":[1.5,null,"\\u00e9"],"b":1}'


def test_plans_are_the_same_bytes_whoever_writes_them_for_people_to_read(tmp_path):
    urls = [str(tmp_path / name) for name in "ab"]
    for url in urls:
        journal.settle_plan(url, PLAN_ONE)
        journal.write_complete(url, {"plan_id": "x"})
    for name in ("plan.json", "COMPLETE.json"):
        one, other = (Path(journal.directory(url), name).read_text() for url in urls)
        assert one == other == json.dumps(json.loads(one), indent=1)


def test_plain_documents_are_strict_json():
    document = {"a": (1, math.nan), 2: {"b": [-math.inf, 0.5, None, True]}}
    assert journal.plain(document) == {"a": [1, "nan"], "2": {"b": ["-inf", 0.5, None, True]}}


# --- tiles that are done ----------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=5), st.sets(st.integers(0, 6)))
@settings(max_examples=30)
def test_of_two_rows_of_a_tile_that_of_the_file_begun_later_holds(tmp_path_factory, runs, asked):
    url = str(tmp_path_factory.mktemp("journal") / "out")
    wanted = {}
    for number, tiles in enumerate(runs):
        each = [row(tile, (number / 10,)) for tile in tiles]
        write(url, each)
        wanted |= {r.tile: r for r in each}
    assert journal.rows(url, PLAN) == wanted
    assert journal.rows(url, PLAN, asked) == {tile: wanted[tile] for tile in wanted if tile in asked}
    assert journal.rows(url, PLAN, range(3)) == {tile: wanted[tile] for tile in wanted if tile < 3}


def test_a_file_begun_later_wins_also_where_a_writer_before_it_wrote_nothing(url):
    # names have random parts, so once is no proof
    for trial in range(8):
        with journal.writer(url, PLAN), journal.writer(url, PLAN) as second:  # the first leaves nothing
            second.append(row(trial, (0.1,)))
        with journal.writer(url, PLAN) as third:
            third.append(row(trial, (0.2,)))
        assert len(files(url)) == 2 * trial + 2
    assert journal.rows(url, PLAN) == {trial: row(trial, (0.2,)) for trial in range(8)}


def test_a_file_begun_later_wins_although_the_other_is_written_longer(url):
    with journal.writer(url, PLAN) as first, journal.writer(url, PLAN) as second:
        second.append(row(0, (0.2,)))
        first.append(row(0, (0.1,)))
    assert journal.rows(url, PLAN) == {0: row(0, (0.2,))}


def test_a_record_of_completion_that_was_edited_is_named(url):
    journal.write_complete(url, {"plan_id": "x", "tiles": 3})
    path = Path(journal.directory(url)) / "COMPLETE.json"
    path.write_text(path.read_text().replace('"tiles": 3', '"tiles": 4'))
    with pytest.raises(InputError, match="COMPLETE.json is damaged"):
        journal.read_complete(url)


def test_a_line_of_another_form_is_no_row_though_nothing_is_torn(url):
    saw = {"moving": {"c/0": "12"}}
    write(url, [replace(row(0), saw=saw), replace(row(1), saw=saw), row(2)])
    (path,) = files(url)
    lines = path.read_bytes().splitlines()
    bodies = [(b'"sizes"', b'"seconds":' + value + b',"sizes"') for value in (b"-0.5", b"Infinity", b'"1"', b"true")]
    bodies += [(b'"saw"', b'"sor"'), (b'"12"', b"12"), (b'"ncc":10', b'"ncc":-10'), (b" 0,2,", b" 0,3,")]
    heads = [(b" 0,2,", b" 0,0,2,"), (b" 0,2,", b" x,2,"), (b" 0,2,", b" 0,2" + b"0" * 19 + b",")]
    for old, new in bodies + heads:
        fields = lines[1].split(b" ", 1)[1]
        assert old in fields
        fields = fields.replace(old, new)
        line = store.digest([fields])[:16].encode() + b" " + fields
        path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
        assert journal.rows(url, PLAN).keys() == {0, 2}
        assert list(journal.fingerprints(url, PLAN)) == [("moving", "c/0", "12")]
        # of which alone progress is told
        known = 2 if (old, new) in heads else 3
        assert journal.progress(url, PLAN)[0] == len(journal.following(url, PLAN)()) == known


def test_fingerprints_are_all_that_any_row_saw(url):
    one, two = {"moving": {"c/0/0": "12", "c/0/1": "absent"}}, {"moving": {"c/0/0": "34"}, "reference": {"0.0": "56"}}
    write(url, [replace(row(0), saw=one), row(1)])
    write(url, [replace(row(0), saw=two)])
    found = list(journal.fingerprints(url, PLAN))
    assert found == [
        ("moving", "c/0/0", "12"),
        ("moving", "c/0/1", "absent"),
        ("moving", "c/0/0", "34"),
        ("reference", "0.0", "56"),
    ]
    assert list(journal.fingerprints(url, "f" * 32)) == []
    assert journal.rows(url, PLAN)[0].saw == two


def test_of_nothing_there_are_no_rows(url):
    assert journal.rows(url, PLAN) == {}
    assert list(journal.fingerprints(url, PLAN)) == []
    assert journal.quarantined(url) == {}
    journal.withdraw_complete(url)
    journal.release(url, 3)
    journal.remove(url)
    assert not Path(journal.directory(url)).exists()


# --- tiles that are not -----------------------------------------------------------------------------------------------


def test_tiles_are_quarantined_with_their_reasons_until_they_are_released(url):
    for tile, reason in ((3, "first"), (10, "ValueError: é"), (3, "second")):
        journal.quarantine(url, tile, reason)
    assert journal.quarantined(url) == {3: "second", 10: "ValueError: é"}
    journal.release(url, 3)
    journal.release(url, 3)
    assert journal.quarantined(url) == {10: "ValueError: é"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tile": 3}', '{"tile": 4, "reason": "so"}', '{"tile": 3, "reason": 4}']
)
def test_a_reason_that_is_damaged_is_named(url, text):
    journal.quarantine(url, 3, "so")
    (path,) = (Path(journal.directory(url)) / "quarantine").iterdir()
    path.write_text(text)
    with pytest.raises(InputError, match="quarantine/3.json is damaged"):
        journal.quarantined(url)


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(journal.PLAN))
def test_an_edited_plan_is_noticed(url, key):
    journal.settle_plan(url, PLAN_ONE)
    path = Path(journal.directory(url)) / "plan.json"
    document = json.loads(path.read_text())
    document[key] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="plan.json is damaged"):
        journal.read_plan(url)
    # what is noticed is what it says, not how it is written, nor by whom
    path.write_text(json.dumps({**document, key: PLAN_ONE[key], "write": "somebody"}, indent=7))
    assert journal.read_plan(url) == PLAN_ONE
    document[key] = PLAN_ONE[key]
    del document["digest"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="plan.json is damaged"):
        journal.read_plan(url)


def test_complete_can_be_withdrawn(url):
    journal.write_complete(url, {"plan_id": "x"})
    journal.withdraw_complete(url)
    assert journal.read_complete(url) is None


# --- removal ----------------------------------------------------------------------------------------------------------


def furnished(url):
    """A plan, a record, rows, a tile in quarantine, and what was left half written."""
    journal.settle_plan(url, PLAN_ONE)
    write(url, [row(0)])
    write(url, [row(1)])
    journal.quarantine(url, 2, "so")
    journal.write_complete(url, {"plan_id": "x"})
    (Path(journal.directory(url)) / f"plan.json.{'0' * 32}.partial").write_bytes(b"{")


def everything(url):
    return {p: p.read_bytes() for p in sorted(Path(journal.directory(url)).rglob("*")) if p.is_file()}


def test_a_journal_is_removed_with_all_that_belongs_to_it(url, tmp_path):
    furnished(url)
    assert len(everything(url)) == 6
    journal.remove(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["notes.txt", "more/plan.json", ".hidden", "plan.json.bak", "x.partial"])
def test_a_journal_with_a_file_of_somebody_else_stays(url, name):
    furnished(url)
    path = Path(journal.directory(url)) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    before = everything(url)
    with pytest.raises(RefusedError, match=f"{name} was not made by bigncc"):
        journal.check_removable(url)
    assert everything(url) == before


@pytest.mark.parametrize("kills", range(6))
def test_a_removal_that_was_killed_leaves_the_plan_until_the_end(url, monkeypatch, kills):
    furnished(url)
    unlink, calls = type(Path(journal.directory(url))).unlink, []

    def die(self, *rest, **named):
        calls.append(self)
        if len(calls) > kills:
            raise KeyboardInterrupt
        unlink(self, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", die)
        with pytest.raises(KeyboardInterrupt):
            journal.remove(url)
    assert len(everything(url)) == 6 - kills
    assert journal.read_plan(url) == PLAN_ONE
    journal.remove(url)
    assert not Path(journal.directory(url)).exists()
