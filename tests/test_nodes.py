"""A grid of nodes covers an image evenly, and its tiles cover the grid."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.errors import InputError
from bigncc.nodes import Nodes, check_fits, components, first_node, node_counts, search_of
from bigncc.tiles import roi_shape
from tests.test_tiles import plans


@st.composite
def plans_with_nodes(draw):
    plan = draw(plans())
    step = tuple(draw(st.integers(1, n)) for n in plan.shape)
    counts = node_counts(plan.shape, step)
    objects = tuple(draw(st.integers(1, n)) for n in counts)
    tile = tuple(o * draw(st.integers(1, 3)) for o in objects)
    return replace(plan, nodes=Nodes(counts, step, objects, tile, tuple(draw(st.integers(0, 5)) for _ in step)))


@given(st.integers(1, 50), st.integers(1, 50))
def test_nodes_are_the_middles_of_cells(length, step):
    nodes = range(first_node((step,))[0], length, step)
    assert node_counts((length,), (step,)) == (len(nodes),)
    for cell, node in zip(range(0, length, step), nodes, strict=False):
        assert 0 <= (cell + step - 1 - node) - (node - cell) <= 1
    assert step > length or nodes


@given(plans_with_nodes())
def test_tiles_of_nodes_cover_each_node_once_and_read_what_is_around(plan):
    nodes, seen = plan.nodes, np.zeros(plan.nodes.shape, int)
    assert plan.base == math.prod(plan.grid) + math.prod(plan.node_grid)
    places = [
        [o + k * s + (s - 1) // 2 for k in range(n)]
        for o, n, s in zip(plan.origin, nodes.shape, nodes.step, strict=True)
    ]
    for index in range(math.prod(plan.grid), plan.base):
        tile = plan[index]
        assert tile.nodes
        assert not tile.levels
        assert not plan.sources(tile)
        grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in tile.write)
        assert plan.around(index) == [
            i
            for i in range(math.prod(plan.grid), plan.base)
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(plan[i].write, grown, strict=True))
        ]
        assert plan.weight(index) == math.prod(n * s for n, s in zip(roi_shape(tile.write), nodes.step, strict=True))
        parts = plan.parts(tile, ())
        assert all(n <= o for part in parts for n, o in zip(roi_shape(part.write), nodes.objects, strict=True))
        for part in (tile, *parts):
            seen[part.write] += part is not tile
            for w, r, line, m, n in zip(part.write, part.read, places, nodes.margin, plan.extent, strict=True):
                assert r.start == max(0, line[w.start] - m)
                assert r.stop == min(n, line[w.stop - 1] + m + 1)
        assert [part.index for part in parts] == [index] * len(parts)
    assert (seen == 1).all()
    assert [plan.weight(i) for i in range(math.prod(plan.grid))] == [
        math.prod(roi_shape(plan[i].write)) for i in range(math.prod(plan.grid))
    ]
    assert all(not plan[i].nodes for i in range(math.prod(plan.grid)))


@pytest.mark.parametrize(
    ("window", "step", "radius", "words"),
    [
        ((5, 5), (0, 1), 1, "shift.step is [0, 1]: 2 whole numbers of at least 1"),
        ((5, 5), 0, 1, "shift.step is [0, 0]"),
        ((5, 5), None, (1, 1, 1), "shift.search_radius is [1, 1, 1]: 2 whole numbers of at least 0"),
        ((5, 5), 3, 0, "at least 1 along an axis"),
        ((203, 203, 205), 1, 1, "fewer than 2^23 samples"),
    ],
)
def test_what_cannot_be_searched_is_refused(window, step, radius, words):
    with pytest.raises(InputError) as error:
        search_of(window, step, radius)
    assert words in str(error.value)


def test_one_number_is_for_all_axes():
    assert search_of((3, 5, 7), None, 2) == ((3, 5, 7), (2, 2, 2))
    assert search_of((3, 5, 7), 4, (0, 1, 2)) == ((4, 4, 4), (0, 1, 2))


def test_a_grid_without_a_node_is_refused():
    check_fits((10, 12), (10, 3))
    with pytest.raises(InputError, match=r"shift.step is \[10, 13\] and the output has \[10, 12\]"):
        check_fits((10, 12), (10, 13))


def test_components_have_names():
    assert components("zyx")[:4] == ("shift_z", "shift_y", "shift_x", "shift_peak")
