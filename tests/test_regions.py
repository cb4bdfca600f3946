"""Planted boxes are found and covered exactly, the worst first, and no batch item is missed."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bigncc.regions import CELLS, cell_of, found, possible, worst_of
from bigncc.summary import BINS, Summary

THRESHOLD = 0.5


@st.composite
def planted(draw):
    """Means of good cells with some bad boxes that do not touch, and what is there of NaN."""
    ndim = draw(st.sampled_from([2, 2, 3]))
    cell = tuple(draw(st.lists(st.integers(1, 7), min_size=ndim, max_size=ndim)))
    # a box in each of some parts, which have a good cell between them
    parts = tuple(draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)))
    means, boxes = np.full([6 * n for n in parts], 0.9), {}
    for part in np.ndindex(parts):
        if draw(st.booleans()):
            spans = [sorted(draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))) for _ in parts]
            box = tuple(slice(6 * i + a, 6 * i + b + 1) for i, (a, b) in zip(part, spans, strict=True))
            means[box] = boxes[tuple((s.start, s.stop) for s in box)] = draw(st.floats(-1, 0.46875, width=32))
    # the last cell may be cut
    cut = [draw(st.integers(0, c - 1)) for c in cell]
    extent = tuple(n * c - d for n, c, d in zip(means.shape, cell, cut, strict=True))
    return means, cell, extent, boxes


@settings(max_examples=50)
@given(planted())
def test_planted_boxes_are_found_and_covered_exactly(case):
    means, cell, extent, boxes = case
    regions = found(means, cell, extent, THRESHOLD, len(boxes) + 1, (3,))
    wanted = {}
    for box, mean in boxes.items():
        pixels = tuple((a * c, min(b * c, e)) for (a, b), c, e in zip(box, cell, extent, strict=True))
        wanted[pixels] = mean, math.prod(b - a for a, b in pixels)
    assert {region.box: region.pixels for region in regions} == {box: n for box, (_, n) in wanted.items()}
    for region in regions:
        mean, pixels = wanted[region.box]
        assert abs(region.mean - mean) < 1e-9
        assert region.lowest == mean
        assert abs(region.deficit - (THRESHOLD - mean) * pixels) < 1e-6 * pixels
        assert all(a <= f < b for f, (a, b) in zip(region.focus, region.box, strict=True))
        assert region.place == (3,)
    assert [r.deficit for r in regions] == sorted((r.deficit for r in regions), reverse=True)
    # fewer are the worst of them
    assert found(means, cell, extent, THRESHOLD, 1, (3,)) == regions[:1]


def test_what_has_no_value_is_no_region_and_parts_one():
    means = np.full((5, 9), 0.1)
    means[:, 4] = np.nan
    left, right = found(means, (2, 2), (10, 18), THRESHOLD, 9)
    assert (left.box, right.box) == (((0, 10), (0, 8)), ((0, 10), (10, 18)))
    assert found(np.full((5, 9), np.nan), (2, 2), (10, 18), THRESHOLD, 9) == []
    # a threshold is no part of what is below it
    assert found(np.full((5, 9), 0.5), (2, 2), (10, 18), THRESHOLD, 9) == []


def test_a_corner_does_not_connect_and_the_focus_is_where_all_around_is_bad():
    means = np.full((4, 4), 0.9)
    means[:2, :2] = means[2:, 2:] = 0.0
    assert len(found(means, (1, 1), (4, 4), THRESHOLD, 9)) == 2
    means = np.full((20, 30), 0.4)
    means[2, 3] = -0.2  # one odd cell
    means[11:16, 20:25] = -0.1
    (region,) = found(means, (4, 4), (80, 120), THRESHOLD, 9)
    assert 44 <= region.focus[0] < 64
    assert 80 <= region.focus[1] < 100


@given(st.integers(1, 400), st.integers(1, 30000), st.integers(1, 30000))
def test_a_cell_is_no_larger_than_a_window_unless_there_are_too_many(size, height, width):
    cell = cell_of((size, size), (height, width))
    assert cell & (cell - 1) == 0
    cells = -(-height // cell) * -(-width // cell)
    assert cells <= CELLS or cell == 1
    assert cell <= size or -(-height // (cell // 2)) * -(-width // (cell // 2)) > CELLS
    assert cell_of((1, size, size), (1, height, width)) == cell


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.5, 0.37, -0.2]))
def test_no_item_is_missed_and_few_are_looked_at(seed, count, threshold):
    rng = np.random.default_rng(seed)
    items, maps = {}, {}
    for place in range(12):
        values = np.clip(rng.normal(rng.uniform(0.2, 0.95), 0.2, (9, 11)), -1, 1)
        histogram = np.histogram(values, BINS, (-1, 1))[0].tolist()
        items[place,] = Summary((0, values.size, *(0,) * 7), histogram=tuple(histogram))
        maps[place,] = values
    looked = []

    def look(place):
        looked.append(place)
        return found(maps[place], (1, 1), (9, 11), threshold, count, place)

    regions = worst_of(items.items(), look, threshold, count)
    every = sorted((r for place in maps for r in look(place)), key=lambda r: r.order)
    assert regions == every[:count]
    for place, values in maps.items():
        assert possible(items[place], threshold) >= np.maximum(threshold - values, 0).sum() - 1e-9


def test_items_that_cannot_have_a_bad_region_are_not_looked_at():
    good = Summary((0, 100, *(0,) * 7), histogram=(*(0,) * (BINS - 1), 100))
    bad = Summary((0, 100, *(0,) * 7), histogram=(100, *(0,) * (BINS - 1)))
    looked = []

    def look(place):
        looked.append(place)
        return found(np.full((10, 10), -1.0), (1, 1), (10, 10), THRESHOLD, 1, place)

    (region,) = worst_of({(0,): good, (1,): bad, (2,): good}.items(), look, THRESHOLD, 1)
    assert looked == [(1,)]
    assert region.place == (1,)
    assert worst_of({(1,): bad}.items(), look, THRESHOLD, 0) == []
