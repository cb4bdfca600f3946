"""Merging is exact in any order and any grouping, and a summary says what the pixels say."""

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bigncc.summary import (
    Summary,
    from_dict,
    is_edge,
    merge,
    merge_items,
    packed_items,
    unpacked,
    unpacked_items,
)


def of(values, others=()):
    """The summary of some coefficients and of pixels with other codes."""
    counts = [0] * 9
    counts[1] = len(values)
    for code in others:
        counts[code] += 1
    histogram, _ = np.histogram(values, bins=64, range=(-1, 1))
    return Summary(
        tuple(counts),
        sum(math.floor(v * 2**24 + 0.5) for v in values),
        sum(math.floor(v * v * 2**24 + 0.5) for v in values),
        min(values, default=math.inf),
        max(values, default=-math.inf),
        tuple(int(n) for n in histogram),
    )


coefficients = st.lists(st.floats(-1, 1, width=32), max_size=20)
summaries = st.builds(of, coefficients, st.lists(st.sampled_from((0, 2, 3, 4, 5, 6, 7, 8)), max_size=5))


@given(st.lists(coefficients, max_size=5), st.randoms())
def test_any_split_in_any_order_is_the_whole(parts, random):
    whole = of([v for part in parts for v in part])
    pieces = [of(part) for part in parts]
    random.shuffle(pieces)
    middle = len(pieces) // 2
    assert merge(pieces) == merge([merge(pieces[:middle]), merge(pieces[middle:])]) == whole


@given(summaries)
def test_json_keeps_everything(summary):
    assert from_dict(summary.to_dict()) == summary
    assert unpacked(json.loads(json.dumps(summary.packed()))) == summary
    assert summary + Summary() == summary


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_mean_std_and_quantiles(values):
    summary = of(values, (2, 2, 5))
    assert summary.pixels == len(values) + 3
    assert math.isclose(summary.mean, np.mean(values), abs_tol=1e-7)
    assert math.isclose(summary.std, np.std(values), abs_tol=1e-3)
    for q in (0.1, 0.5, 0.9):
        low, high = (np.quantile(values, q, method=m) for m in ("lower", "higher"))
        assert low - 2 / 64 <= summary.quantile(q) <= high + 2 / 64
    assert summary.low <= summary.quantile(0.0) <= summary.quantile(1.0) <= summary.high


items = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 3)), summaries, max_size=6)


@given(st.lists(items, max_size=4), st.randoms())
def test_the_items_of_all_parts_are_the_whole_item_by_item(parts, random):
    found = merge_items(parts)
    assert merge(found.values()) == merge(each for part in parts for each in part.values())
    assert all(found[place] == merge(part[place] for part in parts if place in part) for place in found)
    random.shuffle(parts)
    assert merge_items(parts) == unpacked_items(json.loads(json.dumps(packed_items(found)))) == found


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.integers(0, 63), st.floats(-1, 1))
def test_the_share_below_an_edge_is_exact_and_elsewhere_within_its_bin(values, edge, threshold):
    # as values count: in units of 2^-24
    values = [round(value * 2**24) / 2**24 for value in values]
    summary = of(values)
    assert is_edge(edge / 32 - 1)
    assert summary.below(edge / 32 - 1) == sum(v < edge / 32 - 1 for v in values) / len(values)
    below, above = (step((threshold + 1) * 32) / 32 - 1 for step in (math.floor, math.ceil))
    assert summary.below(below) <= summary.below(threshold) <= summary.below(above)


def test_nothing_has_no_statistics():
    empty = of([], (2,))
    assert math.isnan(empty.mean)
    assert math.isnan(empty.std)
    assert math.isnan(empty.quantile(0.5))
    assert empty.to_dict()["low"] is None
