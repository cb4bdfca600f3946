"""Terms add up to the footprint that they are made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.terms import terms_of
from bigncc.weights import drawn, table_of


def added_up(terms, shape):
    """How often the terms count each sample of a window."""
    found, column = np.zeros(shape), np.zeros(shape[:2])
    begin = first = 0
    for end, last, anew in terms.groups:
        column = np.zeros(shape[:2]) if anew else column
        for (z, y), weight in zip(terms.rows[begin:end], terms.weights[begin:end], strict=True):
            column[z, y] += weight
        for x in terms.columns[first:last]:
            found[:, :, x] += column
        begin, first = end, last
    return found


@given(st.data())
def test_each_sample_counts_as_much_as_it_weighs(data):
    shape = tuple(2 * data.draw(st.integers(0, 3)) + 1 for _ in range(3))
    levels = data.draw(st.sampled_from((2, 2, 4)))
    array = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).integers(0, levels, shape).astype(float)
    if np.count_nonzero(array) < 2:
        return
    table = table_of(array)
    terms = terms_of(table)
    np.testing.assert_array_equal(added_up(terms, shape), table.array)
    covered = np.zeros(shape)
    for z, y, a, b in terms.runs:
        covered[z, y, a:b] += 1
        # none goes on beyond its ends
        assert a == 0 or not array[z, y, a - 1]
        assert b == shape[2] or not array[z, y, b]
    np.testing.assert_array_equal(covered, array > 0)


@pytest.mark.parametrize(
    ("name", "size", "most"), [("disk", (31, 31), 62), ("octagon", (31, 31), 62), ("ball", (15, 15, 15), 164)]
)
def test_round_shapes_take_few_additions(name, size, most):
    terms = terms_of(drawn(name, size))
    assert len(terms.rows) + len(terms.columns) <= most
    assert terms.groups[:, 2].sum() == 1
