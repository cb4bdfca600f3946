"""What tiles are together does not depend on how many are read at a time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc import store, totals
from bigncc.discoveries import NO_PIXELS, PValues
from bigncc.journal import canonical
from bigncc.ledger import Row
from bigncc.shift import Lengths
from bigncc.summary import Summary, merge, merge_items
from tests.test_summary import of

VALUES = st.lists(st.integers(-64, 64).map(lambda n: n / 64), max_size=3)


def row(tile, values):
    shift = {"nodes": tile, "found": 1, "open": 0, "squares": tile, "bins": [[tile % 5, 1]]} if tile % 3 == 0 else None
    pvalues = PValues((tile, 1)) if tile % 2 else NO_PIXELS
    items = {(tile % 4,): of(values)}
    return Row(tile, of(values), {}, {"ncc": f"{tile:032x}"}, items=items, shift=shift, pvalues=pvalues)


@settings(max_examples=25)
@given(st.lists(VALUES, max_size=6), st.integers(0, 2500))
def test_tiles_are_added_up_as_they_are_read(drawn, more):
    rows = [row(tile, drawn[tile % len(drawn)] if drawn else []) for tile in range(len(drawn) + more)]
    sums = totals.sums_of(iter(rows))
    assert sums.tiles == len(rows)
    assert sums.summary == merge(each.summary for each in rows)
    assert sums.items == merge_items(each.items for each in rows)
    assert sums.pvalues == PValues((sum(t for t in range(len(rows)) if t % 2), len(rows) // 2)) or len(rows) < 2
    assert sums.digest == store.digest(canonical([each.tile, each.digests]) for each in rows)
    found = [each for each in rows if each.shift is not None]
    assert (sums.shift is None) == (not found)
    assert (sums.shift or Lengths()).nodes == sum(each.tile for each in found)


def test_no_tile_is_nothing():
    sums = totals.sums_of([])
    assert (sums.tiles, sums.summary, sums.items, sums.shift) == (0, Summary(), {}, None)
    assert sums.digest == store.digest([])
