"""Differences of products are rounded once, whatever their size; and equal samples are found without looking twice."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from bigncc.coefficients import wide_difference


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
