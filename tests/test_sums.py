"""The chain of additions reaches every window, and wide differences are exact."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigncc.kernel import chain
from bigncc.sums import all_finite, wide_difference


@pytest.mark.parametrize("size", range(1, 400))
def test_every_step_builds_on_the_one_before(size):
    reach = 1
    for k, m, plus in chain(size):
        assert m == reach
        assert 2 <= k <= 5
        assert plus in (0, 1)
        reach = k * m + plus
    assert reach == size


def test_the_chain_is_short():
    assert sum(k + plus for k, _, plus in chain(101)) <= 15
    assert sum(k + plus for k, _, plus in chain(15)) == 8


@given(st.integers(2, 2**31 - 1), st.data())
def test_wide_differences_are_rounded_once(n, data):
    def sums(limit):
        return st.integers(-limit, limit) | st.sampled_from((-limit, -1, 0, 1, limit))

    f, g = (data.draw(sums(2**15 * n)) for _ in range(2))
    fg = data.draw(sums(2**30 * n) | st.just(f * g // n) | st.just(-(-f * g // n)))
    if abs(fg) > 2**30 * n:
        fg = 2**30 * n
    exact = n * fg - f * g
    got = wide_difference(n, fg, f, g)
    assert abs(Fraction(got) - exact) <= Fraction(abs(exact), 2**52)
    assert (got == 0) == (exact == 0)


def test_not_a_number_is_found_wherever_it_is():
    image = np.zeros(1000, np.float32)
    assert all_finite(image)
    for value in (np.nan, np.inf, -np.inf):
        for place in (0, 500, 999):
            image[place] = value
            assert not all_finite(image)
            image[place] = 0
