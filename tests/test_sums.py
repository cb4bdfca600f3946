"""The chain of additions reaches every window, and what is not finite is found."""

import numpy as np
import pytest

from bigncc.kernel import chain
from bigncc.sums import all_finite


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


def test_not_a_number_is_found_wherever_it_is():
    for kind, bits, exponent in ((np.float32, np.uint32, 0xFF << 23), (np.float64, np.uint64, 0x7FF << 52)):
        image = np.full(1000, np.finfo(kind).max)
        assert all_finite(image.view(bits), bits(exponent))
        for value in (np.nan, np.inf, -np.inf):
            for place in (0, 500, 999):
                image[place] = value
                assert not all_finite(image.view(bits), bits(exponent))
                image[place] = 0
